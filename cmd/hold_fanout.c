/* A copy of the image for each node of a step, with one reader of the file system that it lies on: the step's first node copies
 * it as ever and hands its copy to the others by Slurm's sbcast, which has the connections between nodes, their tree and the
 * credentials. There is no other channel: what nodes tell each other are small files that come the same way.
 *
 *   first node: has no copy -> "soon", copies, sends          others: wait as long as there are signs of life
 *               has one     -> sends when it is asked                 none for a moment -> "want"
 *               cannot      -> "no", and why                          "no", silence     -> read the image themselves
 *
 * They arrive in DIR itself, since the user's folder in it need not be there yet on a node that is late, and a destination that
 * does not exist fails the whole broadcast. DIR belongs to everybody: names are exclusive (sbcast without --force), and what is
 * taken must be the user's own. NAME is of one step and one state of the image; what nobody waits for is removed. */
#include "run.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define PAUSE_MS 20
#define ASK_MS 1000     /* nothing comes: the first node has a copy already, or begins later than we */
#define ASK_MORE_MS 10  /* for each node before this one: thousands need not ask what one has asked */
#define SILENT_MS 10000 /* then the first node is gone */
#define NOTE_S 10       /* for a note to be sent; a node that swaps */
#define STALE_S 600     /* what has not changed for so long is of a step that was killed */
#define REASON_MAX 200  /* bytes of a note */
#define OTHER_STEPS 64  /* stale names removed at a time */

static const char soon[] = ".soon", want[] = ".want", no[] = ".no", file[] = "";

/* ---- files in DIR ------------------------------------------------------------------------------- */

static char *name_of(const struct cmd_fanout *f, const char *what)
{
	return vl_asprintf("%s%s", f->name, what);
}

/* The user's own file of that name, or -errno. */
static int open_own(const struct cmd_fanout *f, const char *what, struct stat *ret)
{
	VL_FREE char *name = name_of(f, what);
	VL_CLOSE int fd = openat(f->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd < 0 || fstat(fd, ret) < 0)
		return -errno;
	return S_ISREG(ret->st_mode) && ret->st_uid == geteuid() && ret->st_nlink == 1 ? vl_steal_fd(&fd) : -ENOENT;
}

static bool is_there(const struct cmd_fanout *f, const char *what)
{
	struct stat st;
	VL_CLOSE int fd = open_own(f, what, &st);

	return fd >= 0;
}

static bool take_away(const struct cmd_fanout *f, const char *what)
{
	VL_FREE char *name = name_of(f, what);

	return unlinkat(f->dir, name, 0) == 0;
}

static void clean(const struct cmd_fanout *f)
{
	static const char *const all[] = { soon, want, no, file };

	for (size_t i = 0; i < VL_COUNT(all); i++)
		take_away(f, all[i]);
}

/* Of steps that were killed, or whose nodes went down. */
static void clean_stale(int dir)
{
	VL_FREE char *ours = vl_asprintf(".vial-%u.", geteuid());
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct stat st;
	int n = 0;

	for (struct dirent *e; d && n < OTHER_STEPS && (e = readdir(d));)
		if (vl_prefix(e->d_name, ours) && fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    st.st_uid == geteuid() && st.st_mtim.tv_sec < time(NULL) - STALE_S)
			n += unlinkat(dir, e->d_name, 0) == 0;
	if (d)
		closedir(d);
}

/* ---- sbcast --------------------------------------------------------------------------------------- */

static void become_sbcast(const struct cmd_fanout *f, int from, const char *to, int errors)
{
	VL_FREE char *source = vl_asprintf("/proc/self/fd/%d", from), *step = vl_asprintf("--jobid=%s", f->step);
	char *argv[] = { (char *)f->program, step, source, (char *)to, NULL };
	/* of the user's, what would have it overwrite, or take somebody else's file for the destination */
	static const char *const not_here[] = { "SBCAST_FORCE", "SBCAST_PRESERVE" };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	vl_reset_signals();
	for (size_t i = 0; i < VL_COUNT(not_here); i++)
		unsetenv(not_here[i]);
	setenv("SBCAST_SEND_LIBS", "no", 1);
	fcntl(from, F_SETFD, 0);              /* not close-on-exec: what is sent */
	if (dup2(errors, STDERR_FILENO) >= 0) /* not close-on-exec: what it says */
		execv(f->program, argv);
	dprintf(errors, "cannot run %s: %s", f->program, strerror(errno));
	_exit(127);
}

/* What it says until it ends; it is killed when that takes too long, or when `stop` can be read. */
static size_t listen_to(pid_t pid, int errors, int stop, int64_t ms, char *ret, size_t cap)
{
	struct pollfd p[] = { { .fd = errors, .events = POLLIN }, { .fd = stop, .events = POLLIN } };
	int64_t until = vl_now_ms() + ms, left;
	size_t len = 0;

	while ((left = until - vl_now_ms()) > 0) {
		char more[256];
		int r = poll(p, VL_COUNT(p), (int)left);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0 || p[1].revents)
			break;
		ssize_t n = read(errors, more, sizeof more);
		if (n <= 0)
			return len;
		size_t fits = (size_t)n < cap - len ? (size_t)n : cap - len;
		memcpy(ret + len, more, fits);
		len += fits;
	}
	kill(pid, SIGKILL);
	return len;
}

/* To all nodes of the step, this one too. */
static int broadcast(const struct cmd_fanout *f, int from, const char *what, int64_t ms, struct vl_err *err)
{
	VL_FREE char *to = vl_asprintf("%s/%s%s", f->path, f->name, what);
	char said[REASON_MAX];
	int pair[2];

	if (pipe2(pair, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	VL_CLOSE int ours = pair[0];
	VL_CLOSE int theirs = pair[1];
	pid_t pid = fork();
	if (pid == 0)
		become_sbcast(f, from, to, theirs);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start %s", f->program);
	vl_closep(&theirs);
	size_t n = listen_to(pid, ours, f->stop, ms, said, sizeof said);
	if (vl_wait(pid) == 0)
		return 0;
	const char *line = memchr(said, '\n', n);
	VL_FREE char *text = vl_printable(said, line ? (size_t)(line - said) : n);
	return vl_fail(err, EIO, "%s", *text ? text : "sbcast was killed");
}

static int note(const struct cmd_fanout *f, const char *what, const char *text, struct vl_err *err)
{
	VL_CLOSE int fd = memfd_create("note", MFD_CLOEXEC);

	/* not by file name, and nobody else's to read: its mode is that of the copy */
	if (fd < 0 || fchmod(fd, 0400) < 0 || write(fd, text, strlen(text)) < 0)
		return vl_fail_sys(err, errno, "cannot write a note");
	return broadcast(f, fd, what, NOTE_S * 1000, err);
}

/* ---- the first node --------------------------------------------------------------------------------- */

void cmd_fanout_refuse(const struct cmd_fanout *f, const char *why)
{
	struct vl_err err = { 0 };

	note(f, no, why, &err); /* who does not hear of it notices the silence */
}

int cmd_fanout_announce(const struct cmd_fanout *f, struct vl_err *err)
{
	int r = note(f, soon, "soon", err);

	if (r < 0) /* some may have it all the same */
		cmd_fanout_refuse(f, err->text);
	return r;
}

int cmd_fanout_send(const struct cmd_fanout *f, int copy, struct vl_err *err)
{
	take_away(f, want); /* here it comes */
	int r = broadcast(f, copy, file, (int64_t)f->seconds * 1000, err);
	if (r < 0)
		cmd_fanout_refuse(f, err->text);
	return r;
}

/* ---- the others ------------------------------------------------------------------------------------- */

/* A file of the right size may still be written to: slurmd sets its mode at the end. The kernel grants a lease for reading
 * when nobody has it open for writing. -EAGAIN: somebody has. */
static int nobody_writes(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return -errno;
	fcntl(fd, F_SETLEASE, F_UNLCK);
	return 0;
}

static int open_whole(const struct cmd_fanout *f, off_t size, off_t *ret_seen, struct vl_err *err)
{
	struct stat st = { 0 };
	VL_CLOSE int fd = open_own(f, file, &st);

	*ret_seen = fd < 0 ? -1 : st.st_size;
	if (fd < 0 || st.st_size != size)
		return -EAGAIN;
	int r = nobody_writes(fd);
	if (r < 0)
		return r == -EAGAIN ? r : vl_fail_sys(err, -r, "cannot tell whether it is whole");
	return vl_steal_fd(&fd);
}

static int say_refused(int its_note, struct vl_err *err)
{
	char text[REASON_MAX];
	ssize_t n = pread(its_note, text, sizeof text, 0);
	VL_FREE char *why = vl_printable(text, n > 0 ? (size_t)n : 0);

	return vl_fail(err, EIO, "the step's first node cannot send it: %s", why);
}

/* One asks for all; a note of that name cannot be sent where another one lies. */
static int ask(struct cmd_fanout *f, struct vl_err *err)
{
	struct vl_err why = { 0 };

	f->asked = true;
	if (is_there(f, want) || note(f, want, "want", &why) == 0 || is_there(f, want) || is_there(f, soon))
		return 0;
	*err = why;
	return -why.code;
}

int cmd_fanout_arrived(struct cmd_fanout *f, off_t size, struct vl_err *err)
{
	struct stat st;
	off_t seen = -1;
	int64_t now = vl_now_ms();
	int fd = open_whole(f, size, &seen, err);

	if (fd != -EAGAIN)
		return fd;
	VL_CLOSE int refused = open_own(f, no, &st);
	if (refused >= 0 && nobody_writes(refused) != -EAGAIN)
		return say_refused(refused, err);
	bool announced = seen < 0 && is_there(f, soon);
	if (seen != f->seen || announced)
		f->alive = now;
	f->seen = seen;
	if (now - f->alive > SILENT_MS || now - f->begun > (int64_t)f->seconds * 1000)
		return vl_fail(err, ETIMEDOUT, "nothing comes from the step's first node");
	if (!f->asked && !announced && seen < 0 && now - f->begun > ASK_MS + (int64_t)f->node * ASK_MORE_MS &&
	    ask(f, err) < 0)
		return -err->code;
	poll(NULL, 0, PAUSE_MS);
	return -EAGAIN;
}

/* ---- until the step ends ------------------------------------------------------------------------------ */

struct attendant {
	struct cmd_fanout *f;
	int copy; /* -1: this node sends nothing */
};

/* What comes and is not waited for is removed; the first node sends what is asked for. */
static void attend(void *arg)
{
	struct attendant *a = arg;
	struct cmd_fanout *f = a->f;
	int keep[] = { f->dir, f->stop, a->copy };
	char events[4096];

	prctl(PR_SET_NAME, "vial-fanout");
	vl_close_all_but(keep, a->copy >= 0 ? 3 : 2);
	VL_FREE char *path = vl_asprintf("/proc/self/fd/%d", f->dir);
	int in = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	bool watched = in >= 0 && inotify_add_watch(in, path, IN_CREATE) >= 0;
	struct pollfd p[] = { { .fd = f->stop, .events = POLLIN }, { .fd = in, .events = POLLIN } };
	while (!(p[0].revents & POLLIN)) {
		struct vl_err err = { 0 };
		if (take_away(f, want) && a->copy >= 0)
			cmd_fanout_send(f, a->copy, &err);
		clean(f);
		poll(p, 2, watched ? -1 : 1000);
		while (in >= 0 && read(in, events, sizeof events) > 0)
			;
	}
	clean(f);
	_exit(0);
}

void cmd_fanout_attend(struct cmd_fanout *f, int copy)
{
	struct attendant a = { .f = f, .copy = copy };
	pid_t wait = 0;

	f->stop = (int)syscall(SYS_pidfd_open, getpid(), 0);
	if (f->stop < 0)
		return;
	if (vl_start_apart(attend, &a, &wait) == 0 && wait > 0)
		vl_wait(wait);
	vl_closep(&f->stop);
}

/* ---- which step it is ----------------------------------------------------------------------------------- */

static const char *number(const char *variable)
{
	const char *v = getenv(variable);

	return v && *v && strlen(v) <= 10 && !v[strspn(v, "0123456789")] ? v : NULL;
}

/* Nodes may have different numbers for a file system, and for its files: what is known of the image everywhere. */
static char *make_name(const char *step, const char *path, const struct stat *st)
{
	const char *restart = number("SLURM_RESTART_COUNT");
	VL_FREE char *text = vl_asprintf("%s %lld %lld.%09ld %s", restart ? restart : "", (long long)st->st_size,
					 (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, path);
	char hex[65];
	uint8_t hash[32];

	vl_sha256_block(text, strlen(text), hash);
	vl_hex(hash, sizeof hash, hex);
	return vl_asprintf(".vial-%u.%s-%.16s", geteuid(), step, hex);
}

int cmd_fanout_open(struct cmd_fanout *f, const char *image, const struct stat *st, struct vl_err *err)
{
	const char *job = number("SLURM_JOB_ID"), *step = number("SLURM_STEP_ID"), *node = number("SLURM_NODEID"),
		   *nodes = number("SLURM_STEP_NUM_NODES");

	if (!job || !step || !node || !nodes || strtoul(nodes, NULL, 10) < 2)
		return 0;
	f->step = vl_asprintf("%s.%s", job, step);
	f->name = make_name(f->step, image, st);
	f->node = (unsigned)strtoul(node, NULL, 10);
	f->seen = -1;
	f->begun = f->alive = vl_now_ms();
	clean_stale(f->dir);
	return access(f->program, X_OK) < 0 ? vl_fail_sys(err, errno, "cannot run %s", f->program) : 1;
}

void cmd_fanout_free(struct cmd_fanout *f)
{
	vl_freep(&f->step);
	vl_freep(&f->name);
}
