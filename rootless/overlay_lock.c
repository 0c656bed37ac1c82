/* Who may use an overlay at the same time as who. An image is locked by its own open file, a directory by a
 * file in it. The kernel lets go of such a lock (of an open file description) when the last descriptor is
 * closed, also after kill -9, and NFS passes it on to the server. Who has it is told by a note in words.
 *
 * The lock must live as long as what is mounted, and the program must know nothing of it. For images the server
 * of the image has the descriptor. For directories a small process, the follower, has it: the kernel tells it by
 * inotify when the overlay is unmounted, whoever was the last to use it. */
#include "instance.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <time.h>

#define LOCK_FILE ".vial.lock" /* in a directory */
#define NOTE_MAX 4096
#define PATIENCE_MS 10000 /* for one whose program has ended, and who tidies up; at least */
#define STEP_MS 20

/* ---- the note ----------------------------------------------------------------------------------- */

char *ctr_lock_note_path(const struct plan_overlay *o)
{
	const char *name = vl_basename(o->path);

	return o->kind == PLAN_LAYER_DIR ? vl_asprintf("%s/" LOCK_FILE, o->path)
					 : vl_asprintf("%.*s.%s.lock", (int)(name - o->path), o->path, name);
}

/* A file of ours and nobody else's: the directory may be a shared one. */
static int open_note(const char *path, int flags)
{
	VL_CLOSE int fd = open(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink != 1)
		return -EINVAL;
	if ((flags & O_ACCMODE) != O_RDONLY && st.st_uid != geteuid())
		return -EPERM;
	return vl_move_fd_above_stdio(vl_steal_fd(&fd));
}

static void write_note(int fd, const char *program)
{
	struct utsname u = { .nodename = "?" };
	const char *job = getenv("SLURM_JOB_ID"), *user = getenv("USER");
	VL_FREE char *shown = vl_printable(program, strlen(program));
	VL_BUF struct vl_buf b = { 0 };

	uname(&u);
	vl_buf_addf(&b, "host %s\npid %d\nsince %llu\nuid %u\n", u.nodename, getpid(),
		    (unsigned long long)ctr_pid_start(getpid()), getuid());
	if (user)
		vl_buf_addf(&b, "user %s\n", user);
	if (job)
		vl_buf_addf(&b, "job %s\n", job);
	vl_buf_addf(&b, "program %s\n", shown);
	if (ftruncate(fd, 0) == 0 && lseek(fd, 0, SEEK_SET) == 0) /* a help: without one the lock holds all the same */
		vl_write_limited(fd, b.data, VL_MIN(b.len, (size_t)NOTE_MAX));
}

struct note {
	char text[NOTE_MAX + 1];
};

/* Value of a line, printable, or NULL. Returns new. */
static char *value(const struct note *n, const char *key)
{
	size_t len = strlen(key);

	for (const char *l = n->text; *l; l += strcspn(l, "\n"), l += *l == '\n')
		if (!strncmp(l, key, len) && l[len] == ' ')
			return vl_printable(l + len + 1, strcspn(l + len + 1, "\n"));
	return NULL;
}

static void read_note(const struct plan_overlay *o, struct note *ret)
{
	VL_FREE char *path = ctr_lock_note_path(o);
	VL_CLOSE int fd = open_note(path, O_RDONLY);
	ssize_t n = fd < 0 ? 0 : pread(fd, ret->text, NOTE_MAX, 0);

	ret->text[VL_MAX(n, 0)] = 0;
}

enum state { RUNS, GONE, UNKNOWN };

/* Of the writer's program. */
static enum state state(const struct note *n)
{
	VL_FREE char *host = value(n, "host"), *pid = value(n, "pid"), *start = value(n, "since");
	struct utsname u;
	uint64_t p, s;

	if (!host || !pid || !start || uname(&u) < 0 || !vl_streq(host, u.nodename) ||
	    vl_parse_u64(pid, 1, INT32_MAX, &p) < 0 || vl_parse_u64(start, 1, UINT64_MAX, &s) < 0)
		return UNKNOWN;
	return ctr_pid_start((pid_t)p) == s ? RUNS : GONE;
}

static int fail_taken(const struct plan_overlay *o, bool written, const struct note *n, struct vl_err *err)
{
	VL_FREE char *user = value(n, "user"), *uid = value(n, "uid"), *host = value(n, "host"), *pid = value(n, "pid"),
		     *job = value(n, "job"), *program = value(n, "program");

	if (!written)
		return vl_fail(
			err, EBUSY,
			"%s is in use: other containers read it, so it cannot be changed now; wait for them or use "
			"another overlay",
			o->path);
	return vl_fail(
		err, EBUSY,
		"%s is in use: it is being changed by user %s on %s, process %s (%s%s)%s%s; wait for it to end or "
		"use another overlay",
		o->path,
		user  ? user
		: uid ? uid
		      : "unknown",
		host ? host : "an unknown host", pid ? pid : "unknown", program ? program : "unknown",
		state(n) == GONE ? ", or what it left behind" : "", job ? ", Slurm job " : "", job ? job : "");
}

/* ---- the lock ----------------------------------------------------------------------------------- */

static struct flock range(const struct plan_overlay *o)
{
	/* the same bytes that Apptainer locks: those of the file system; of a lock file all */
	bool dir = o->kind == PLAN_LAYER_DIR;

	return (struct flock){ .l_type = o->writable ? F_WRLCK : F_RDLCK,
			       .l_whence = SEEK_SET,
			       .l_start = dir ? 0 : (off_t)o->off,
			       .l_len = dir ? 0 : (off_t)o->size };
}

/* 1: taken by another; *ret_written: who changes it. */
static int try_lock(const struct plan_overlay *o, int fd, bool *ret_written, struct vl_err *err)
{
	struct flock l = range(o);

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES) {
		/* a file system without locks: who only reads may go on */
		if (!o->writable && (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS))
			return 0;
		return vl_fail_sys(err, errno, "cannot lock %s", o->path);
	}
	l = range(o);
	l.l_pid = 0;
	*ret_written = fcntl(fd, F_OFD_GETLK, &l) < 0 || l.l_type != F_RDLCK;
	return 1;
}

static int lock(const struct plan_overlay *o, int fd, struct vl_err *err)
{
	struct note n;
	bool written = true;
	unsigned patience = VL_MAX(o->patience, (unsigned)PATIENCE_MS);

	for (unsigned waited = 0;; waited += STEP_MS) {
		int r = try_lock(o, fd, &written, err);
		if (r <= 0)
			return r;
		read_note(o, &n);
		if ((written && !o->patience && state(&n) == RUNS) || waited >= patience)
			return fail_taken(o, written, &n, err);
		poll(NULL, 0, STEP_MS);
	}
}

static bool is_own(const struct plan_overlay *o)
{
	struct stat st;

	return stat(o->path, &st) == 0 && st.st_uid == geteuid();
}

static int fail_note(const struct plan_overlay *o, const char *path, int code, struct vl_err *err)
{
	struct stat st;

	if (code == EINVAL)
		return vl_fail(err, code, "%s is not a file of an overlay; remove it", path);
	if ((code == EPERM || code == EACCES) && lstat(path, &st) == 0 && st.st_uid != geteuid())
		return vl_fail(err, code,
			       "cannot change %s: its lock %s belongs to uid %u; remove that file when nobody "
			       "uses the overlay",
			       o->path, path, st.st_uid);
	return vl_fail_sys(err, code, "cannot change %s", o->path);
}

static int lock_directory(struct plan_overlay *o, const char *program, struct vl_err *err)
{
	VL_FREE char *path = ctr_lock_note_path(o);
	/* who reads the directory of another makes no file there: its owner could not write to it */
	int make = o->writable || is_own(o) ? O_CREAT : 0;
	VL_CLOSE int fd = open_note(path, (o->writable ? O_RDWR : O_RDONLY) | make);

	if (fd < 0 && !o->writable && make)
		fd = open_note(path, O_RDONLY);
	if (fd < 0 && !o->writable)
		return 0; /* never written to: nobody to meet yet */
	if (fd < 0)
		return fail_note(o, path, -fd, err);
	int r = lock(o, fd, err);
	if (r < 0)
		return r;
	if (o->writable)
		write_note(fd, program);
	o->lock = vl_steal_fd(&fd);
	return 0;
}

int ctr_overlay_lock(struct plan_overlay *o, const char *program, struct vl_err *err)
{
	if (o->kind == PLAN_LAYER_DIR)
		return lock_directory(o, program, err);
	int r = lock(o, o->fd, err);
	if (r < 0 || !o->writable)
		return r;
	VL_FREE char *path = ctr_lock_note_path(o);
	VL_CLOSE int fd = open_note(path, O_RDWR | O_CREAT);
	if (fd >= 0)
		write_note(fd, program);
	return 0;
}

/* ---- the follower ------------------------------------------------------------------------------- */

struct following {
	int sock;
	int *locks;
	size_t n;
};

static void follow(void *arg)
{
	const struct following *f = arg;
	VL_FREE int *keep = vl_alloc((f->n + 1) * sizeof *keep);
	struct inotify_event e[16];
	struct vl_err err;
	enum vl_msg_type type;
	int watch = -1;

	memcpy(keep, f->locks, f->n * sizeof *keep);
	keep[f->n] = f->sock;
	vl_close_all_but(keep, f->n + 1);
	vl_reset_signals();
	prctl(PR_SET_NAME, "vial-lock");
	if (chdir("/") < 0 || vl_drop_privileges(&err) < 0 ||
	    vl_msg_recv_fd(f->sock, &type, &watch, NULL, 0, NULL) < 0 || watch < 0)
		return; /* there will be no container */
	close(f->sock);
	while (read(watch, e, sizeof e) > 0)
		if (e[0].mask & (IN_UNMOUNT | IN_IGNORED))
			return;
}

int ctr_locks_follow(const struct plan *p, int *ret_sock, struct vl_err *err)
{
	VL_FREE int *locks = vl_alloc((p->n_overlays + 1) * sizeof *locks);
	struct following f = { .locks = locks };
	int pair[2];
	pid_t wait = 0;

	for (size_t i = 0; i < p->n_overlays; i++)
		if (p->overlays[i].lock >= 0)
			locks[f.n++] = p->overlays[i].lock;
	if (!f.n)
		return 0;
	int r = vl_msg_pair(pair, err);
	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = f.sock = vl_move_fd_above_stdio(pair[1]);
	if (mine < 0 || theirs < 0)
		return vl_fail_sys(err, EMFILE, "cannot keep the lock of an overlay");
	r = vl_start_apart(follow, &f, &wait);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot keep the lock of an overlay");
	vl_wait(wait);
	*ret_sock = vl_steal_fd(&mine);
	return 0;
}

/* A writer without its lock could meet another; who reads could only meet a writer. */
static int fail_watch(const struct plan *p, bool *ret_unlocked, struct vl_err *err)
{
	bool full = errno == EMFILE || errno == ENOSPC;
	const struct plan_overlay *top = &p->overlays[p->n_overlays - 1];

	if (!full)
		return vl_fail_sys(err, errno, "cannot follow the overlay's mount");
	if (top->writable)
		return vl_fail(
			err, errno,
			"cannot keep the lock of %s: this user has as many inotify instances as allowed, one for "
			"each container with a directory as overlay; end some, or as root: sysctl -w "
			"fs.inotify.max_user_instances=1024",
			top->path);
	*ret_unlocked = true;
	return 0;
}

int ctr_locks_until_unmounted(int sock, int rootfd, const struct plan *p, bool *ret_unlocked, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("/proc/self/fd/%d", rootfd);

	if (sock < 0)
		return 0;
	VL_CLOSE int watch = inotify_init1(IN_CLOEXEC);
	/* any event will do: that of the end comes unasked */
	if (watch < 0 || inotify_add_watch(watch, path, IN_DELETE_SELF) < 0)
		return fail_watch(p, ret_unlocked, err);
	int r = vl_msg_send_fd(sock, watch, "", 1);
	return r < 0 ? vl_fail_sys(err, -r, "cannot follow the overlay's mount") : 0;
}
