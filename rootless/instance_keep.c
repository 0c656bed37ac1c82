/* The processes of an instance. The guard stays outside: it sees to it that nothing is left when the instance is over,
 * however that came. Its child, the keeper, is in the container: it starts the program, is the parent of what that
 * leaves behind, and shows others the way in. */
#include "instance.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define TALKERS 64 /* at a time; who comes when there are as many is asked to come again by being hung up on */
#define BACKLOG 64
#define AGAIN_MS 1000      /* before a program is started again that ended at once; twice as long each time, up to */
#define AGAIN_MAX_MS 60000 /* this, so that one that cannot work does no harm */
#define LIVED_MS 10000     /* who ran that long did not end at once */

/* ---- the keeper --------------------------------------------------------------------------------- */

struct keeper {
	const struct plan *p;
	struct ctr_start *s;
	uid_t user; /* whose the instance is: who may talk to it */
	int signals;
	int talk[TALKERS];
	size_t n_talk;
	pid_t program; /* 0 = none runs */
	bool first;    /* of the pid namespace: all that is in it is the instance's */
	bool stopping;
	int64_t started, again; /* ms; again: when it is to be started once more, 0 = not */
	int64_t delay;
};

static void become_program(const struct keeper *k, int told)
{
	struct vl_err err = { 0 };
	int status = 0;

	vl_reset_signals();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	fcntl(STDIN_FILENO, F_SETFD, 0);             /* not close-on-exec: /dev/null, its standard input */
	dup2(k->p->instance->out, STDOUT_FILENO);    /* not close-on-exec: its output */
	dup2(k->p->instance->errors, STDERR_FILENO); /* not close-on-exec: its errors */
	if (ctr_enter_seccomp(k->p, &err) == 0)
		ctr_exec(k->p, k->s, &status, &err);
	vl_msg_send_err(told, &err);
	_exit(status ? status : 255);
}

/* Returns when it runs, or does not: exec closes the socket. */
static int start_program(struct keeper *k, struct vl_err *err)
{
	enum vl_msg_type type;
	struct vl_err got;
	int pair[2];
	size_t n = 0;
	int r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int mine = pair[0];
	VL_CLOSE int theirs = pair[1];
	k->again = 0;
	k->started = vl_now_ms();
	pid_t pid = fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start a process");
	if (pid == 0)
		become_program(k, theirs);
	vl_closep(&theirs);
	if (vl_msg_recv(mine, &type, &got, sizeof got, &n) == 0 && type == VL_MSG_ERR && n == sizeof got) {
		got.text[sizeof got.text - 1] = 0;
		vl_wait(pid);
		return vl_fail(err, got.code, "%s", got.text);
	}
	k->program = pid;
	return 0;
}

static void plan_restart(struct keeper *k, bool failed)
{
	enum ctr_restart how = k->p->instance->restart;

	if (k->stopping || how == CTR_RESTART_NO || (how == CTR_RESTART_ON_FAILURE && !failed))
		return;
	int64_t now = vl_now_ms();
	k->delay = now - k->started > LIVED_MS || !k->delay ? AGAIN_MS : VL_MIN(2 * k->delay, (int64_t)AGAIN_MAX_MS);
	k->again = now + k->delay;
}

static void restart(struct keeper *k)
{
	struct vl_err err = { 0 };

	if (start_program(k, &err) == 0)
		return;
	VL_FREE char *line = vl_asprintf("cannot start again: %s\n", err.text);
	(void)!write(k->p->instance->errors, line, strlen(line));
	plan_restart(k, true);
}

static void stop(struct keeper *k, int sig)
{
	k->stopping = true;
	k->again = 0;
	if (sig == SIGKILL)
		_exit(0); /* the guard, or the kernel, does the rest */
	if (k->first)
		kill(-1, sig);
	else if (k->program)
		kill(-k->program, sig); /* a script passes on nothing */
	if (k->first)
		kill(-1, SIGCONT);
	else if (k->program)
		kill(-k->program, SIGCONT); /* what is stopped hears nothing */
}

/* False: there is nothing more to wait for. */
static bool reap(struct keeper *k)
{
	pid_t pid;
	int st;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		if (pid != k->program)
			continue;
		k->program = 0;
		plan_restart(k, st != 0);
	}
	return !k->stopping || k->program || (k->first && pid == 0);
}

static void take_signals(struct keeper *k)
{
	struct signalfd_siginfo s;

	while (read(k->signals, &s, sizeof s) == (ssize_t)sizeof s)
		switch (s.ssi_signo) {
		case SIGTERM:
		case SIGINT:
		case SIGQUIT:
		case SIGHUP:
			stop(k, (int)s.ssi_signo);
			break;
		case SIGUSR1:
		case SIGUSR2:
			if (k->program)
				kill(k->program, (int)s.ssi_signo);
			break;
		default:
			break;
		}
}

static void hang_up(struct keeper *k, size_t i)
{
	close(k->talk[i]);
	k->talk[i] = k->talk[--k->n_talk];
}

static void newcomer(struct keeper *k)
{
	int sock = ctr_door_accept(k->p->keep_fd, k->user);

	if (sock >= 0 && k->n_talk == TALKERS)
		hang_up(k, 0);
	if (sock >= 0)
		k->talk[k->n_talk++] = sock;
}

static void listen_to(struct keeper *k, size_t i)
{
	static const struct vl_buf nothing;
	char word[CTR_INSTANCE_WORD + 1] = { 0 };
	enum vl_msg_type type;
	uint64_t sig;
	size_t n = 0;
	int r = vl_msg_recv(k->talk[i], &type, word, CTR_INSTANCE_WORD, &n);
	const char *number = r == 0 ? vl_prefix(word, CTR_INSTANCE_STOP) : NULL;

	if (r == 0 && !n)
		r = ctr_door_show(&k->s->door, &nothing, k->talk[i]);
	if (r < 0)
		hang_up(k, i);
	if (number && vl_parse_u64(number, 1, NSIG - 1, &sig) == 0)
		stop(k, (int)sig);
}

static void __attribute__((noreturn)) end(const struct keeper *k)
{
	if (!k->first) /* else the kernel does it */
		ctr_kill_all(NULL, 0);
	_exit(0);
}

static void wait_for_events(struct keeper *k)
{
	struct pollfd f[TALKERS + 3] = { { k->signals, POLLIN, 0 },
					 { k->p->keep_fd, POLLIN, 0 },
					 { k->p->instance->guard, POLLIN, 0 } };
	int64_t left = k->again ? VL_MAX(k->again - vl_now_ms(), (int64_t)0) : -1;
	size_t n = k->n_talk;

	for (size_t i = 0; i < n; i++)
		f[i + 3] = (struct pollfd){ k->talk[i], POLLIN, 0 };
	if (poll(f, n + 3, (int)left) < 0)
		return;
	if (f[2].revents)
		end(k); /* the guard was killed: nobody would see to the rest */
	take_signals(k);
	for (size_t i = n; i-- > 0;) /* from behind: who hangs up is replaced by the last */
		if (f[i + 3].revents)
			listen_to(k, i);
	if (f[1].revents)
		newcomer(k);
	if (k->again && vl_now_ms() >= k->again)
		restart(k);
}

/* Nothing of the starter's stays open. */
static void let_go(const struct plan *p, const struct ctr_start *s)
{
	int keep[CTR_WAYS + 5] = { p->keep_fd, p->instance->out, p->instance->errors, p->instance->ready,
				   p->instance->guard };
	size_t n = 5;

	for (size_t i = 0; i < CTR_WAYS; i++)
		if (s->door.fd[i] >= 0)
			keep[n++] = s->door.fd[i];
	vl_close_all_but(keep, n);
}

int ctr_instance_keep(const struct plan *p, struct ctr_start *s, struct vl_err *err)
{
	struct keeper k = { .p = p, .s = s, .user = geteuid(), .first = getpid() == 1 };
	struct stat mnt;
	sigset_t all;
	int r;

	/* it is asked once, for all; a profile is for the programs alone */
	if (s->emulation.sock >= 0 && (r = ctr_emulation_enter(&s->emulation, err)) < 0)
		return r;
	let_go(p, s);
	vl_reset_signals();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "vial-keeper");
	if (p->filter_len) /* it has no filter: by its memory the program would be rid of its own */
		prctl(PR_SET_DUMPABLE, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (k.first) /* its parent is who waits outside of the pid namespace */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	k.signals = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	/* once more: who connects learns who listened last, and that is to be this process */
	if (k.signals < 0 || fstat(s->door.fd[CTR_MNT], &mnt) < 0 || listen(p->keep_fd, BACKLOG) < 0)
		return vl_fail_sys(err, errno, "cannot keep the instance");
	if (s->argv.n && (r = start_program(&k, err)) < 0)
		return r;
	uint64_t ino = mnt.st_ino;
	if (vl_msg_send(p->instance->ready, VL_MSG_OK, &ino, sizeof ino) < 0)
		_exit(0); /* nobody waits for it any more */
	close(p->instance->ready);
	while (reap(&k))
		wait_for_events(&k);
	end(&k);
}

/* ---- the guard ---------------------------------------------------------------------------------- */

struct starting {
	struct plan *p;
	struct ctr_instance *i;
	const struct vl_progress *say;
	int dir;        /* where its socket and record are */
	ino_t socket;   /* inode number of its socket */
	int told, tell; /* the two ends between starter and guard */
};

static void __attribute__((noreturn)) be_keeper(struct starting *s, int ready)
{
	struct vl_err err = { 0 };
	int status;

	s->p->instance->ready = ready;
	ctr_run(s->p, s->say, &status, &err);
	vl_msg_send_err(ready, &err);
	_exit(1);
}

static int write_record(const struct starting *s, struct vl_err *err)
{
	VL_FREE char *text = ctr_instance_text(s->i);
	char file[CTR_INSTANCE_FILE], made[CTR_INSTANCE_FILE + 8];

	if (strlen(text) > CTR_INSTANCE_RECORD_MAX) /* nobody would read it */
		return vl_fail(err, E2BIG,
			       "the record of instance %s would be larger than %u bytes: unset some of the variables "
			       "VIALENV_*, APPTAINERENV_* and SINGULARITYENV_*",
			       s->i->name, CTR_INSTANCE_RECORD_MAX);
	ctr_instance_record(s->i->name, file);
	snprintf(made, sizeof made, "%s.new", file);
	(void)!unlinkat(s->dir, made, 0);
	VL_CLOSE int fd = openat(s->dir, made, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || vl_write_full(fd, text, strlen(text)) < 0 || renameat(s->dir, made, s->dir, file) < 0) {
		int e = errno;
		(void)!unlinkat(s->dir, made, 0);
		return vl_fail_sys(err, e, "cannot write the record of instance %s", s->i->name);
	}
	return 0;
}

static bool is_socket(int dir, const char *name, ino_t ino)
{
	char file[CTR_INSTANCE_FILE];
	struct stat st;

	ctr_instance_socket(name, file);
	return fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == ino;
}

/* A start that found this one dead may be here already. */
static void remove_own(const struct starting *s)
{
	VL_CLOSE int lock = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock >= 0 && flock(lock, LOCK_EX) == 0 && is_socket(s->dir, s->i->name, s->socket))
		ctr_instance_remove(s->dir, s->i->name);
}

static int wait_ready(int ready, uint64_t *ret_mnt, struct vl_err *err)
{
	struct vl_err got = { 0 };
	enum vl_msg_type type;
	size_t n = 0;

	if (vl_msg_recv(ready, &type, &got, sizeof got, &n) < 0)
		return vl_fail(err, EPIPE, "it ended before it was complete");
	if (type == VL_MSG_OK && n == sizeof *ret_mnt) {
		memcpy(ret_mnt, &got, sizeof *ret_mnt);
		return 0;
	}
	got.text[sizeof got.text - 1] = 0;
	return vl_fail(err, got.code ? got.code : EIO, "%s", got.text);
}

/* -1: the keeper is gone, and with it its namespace or what could tell which that was. */
static int hold_mnt(pid_t keeper, uint64_t mnt)
{
	char path[40];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/ns/mnt", keeper);
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == mnt ? vl_steal_fd(&fd) : -1;
}

static void watch(struct starting *s, pid_t keeper, int ready)
{
	struct vl_err err = { 0 };

	/* only now: a holder that the keeper started must not become a child of this process, which kills those */
	int r = wait_ready(ready, &s->i->mnt, &err);
	/* Held to the end: the number of a namespace that is gone is the next one's, and that may be another container. */
	VL_CLOSE int held = r < 0 ? -1 : hold_mnt(keeper, s->i->mnt);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	s->i->guard = getpid();
	s->i->guard_start = ctr_pid_start(getpid());
	if (r == 0)
		r = write_record(s, &err);
	if (r < 0)
		vl_msg_send_err(s->tell, &err);
	if (r < 0 || vl_msg_send(s->tell, VL_MSG_OK, NULL, 0) < 0)
		kill(keeper, SIGKILL); /* or whoever started it is gone: he was told of no instance, so there is none */
	vl_closep(&s->tell);
	vl_wait(keeper);
	ctr_kill_all(&s->i->mnt, held < 0 ? 0 : 1);
	remove_own(s);
}

static void guard(void *arg)
{
	struct starting *s = arg;
	struct vl_err err = { 0 };
	int pair[2];
	sigset_t all;

	close(s->told);
	if (vl_msg_pair(pair, &err) < 0) {
		vl_msg_send_err(s->tell, &err);
		return;
	}
	int mine = vl_move_fd_above_stdio(pair[0]), theirs = vl_move_fd_above_stdio(pair[1]);
	s->p->instance->guard = vl_move_fd_above_stdio(pidfd_open(getpid(), 0));
	pid_t keeper = s->p->instance->guard < 0 ? -1 : fork();
	if (keeper == 0) {
		close(mine);
		close(s->tell);
		be_keeper(s, theirs);
	}
	int keep[] = { mine, s->dir, s->tell };
	vl_close_all_but(keep, VL_COUNT(keep));
	sigfillset(&all); /* it ends when the instance does; who wants that tells the keeper */
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_NAME, "vial-instance");
	if (keeper < 0) {
		vl_fail_sys(&err, errno, "cannot start a process");
		vl_msg_send_err(s->tell, &err);
		remove_own(s);
		return;
	}
	watch(s, keeper, mine);
}

/* ---- the starter -------------------------------------------------------------------------------- */

static int say_taken(const struct ctr_instance *i, struct vl_err *err)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance there = { 0 };
	struct vl_err none;
	VL_CLOSE int sock = ctr_instance_reach(i->name, &there, &none);

	if (sock < 0)
		return vl_fail(err, EEXIST, "instance %s is being started by somebody else", i->name);
	return vl_fail(err, EEXIST, "instance %s already exists: pid %d, image %s; `vial instance stop %s` ends it",
		       i->name, there.pid, there.image, i->name);
}

/* Elsewhere than where it would be made: with another XDG_RUNTIME_DIR. */
static bool runs_elsewhere(const char *name)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance there = { 0 };
	struct vl_err none;
	VL_CLOSE int sock = ctr_instance_reach(name, &there, &none);

	return sock >= 0;
}

/* The name is who listens on its socket. */
static int claim(struct starting *s, struct vl_err *err)
{
	char file[CTR_INSTANCE_FILE];
	struct stat st;
	VL_CLOSE int lock = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return vl_fail_sys(err, errno, "cannot lock the directory of instances");
	ctr_instance_socket(s->i->name, file);
	VL_CLOSE int there = ctr_hold_dial(s->dir, file);
	if (there >= 0)
		return -EEXIST;
	if (there != -ENOENT && there != -ECONNREFUSED)
		return vl_fail_sys(err, -there, "cannot reach instance %s", s->i->name);
	ctr_instance_remove(s->dir, s->i->name);
	int sock = ctr_hold_listen(s->dir, file);
	if (sock < 0 || fstatat(s->dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vl_fail_sys(err, sock < 0 ? -sock : errno, "cannot make a socket for instance %s", s->i->name);
	s->socket = st.st_ino;
	s->p->keep_fd = vl_move_fd_above_stdio(sock);
	return 0;
}

/* New ones: who still writes to the old ones, or reads them, is not disturbed. */
static int open_log(const char *path, struct vl_err *err)
{
	(void)!unlink(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	return fd < 0 ? vl_fail_sys(err, errno, "cannot make the log %s", path) : vl_move_fd_above_stdio(fd);
}

static int start_guard(struct starting *s, struct vl_err *err)
{
	VL_CLOSE int out = open_log(s->i->out, err);
	VL_CLOSE int errors = out < 0 ? -1 : open_log(s->i->errors, err);
	int pair[2], r;
	pid_t wait = 0;

	if (out < 0 || errors < 0 || vl_msg_pair(pair, err) < 0)
		return -err->code;
	VL_CLOSE int told = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int tell = vl_move_fd_above_stdio(pair[1]);
	struct plan_instance inst = {
		.out = out, .errors = errors, .ready = -1, .guard = -1, .restart = s->i->restart
	};
	s->p->instance = &inst;
	s->told = told;
	s->tell = tell;
	if ((r = vl_start_apart(guard, s, &wait)) < 0)
		return vl_fail_sys(err, -r, "cannot start a process");
	if (wait)
		vl_wait(wait);
	vl_closep(&tell);
	vl_closep(&s->p->keep_fd);
	return vl_msg_wait_ok(told, "the instance", err);
}

int ctr_instance_start(struct plan *p, struct ctr_instance *i, const struct vl_progress *say, struct vl_err *err)
{
	struct starting s = { .p = p, .i = i, .say = say };
	int r = ctr_instance_check_name(i->name, err);

	if (r < 0)
		return r;
	VL_CLOSE int dir = ctr_instance_dir_first(err);
	if (dir < 0)
		return dir;
	s.dir = dir;
	i->since = time(NULL);
	r = runs_elsewhere(i->name) ? -EEXIST : claim(&s, err);
	if (r == -EEXIST)
		return say_taken(i, err);
	if (r < 0)
		return r;
	r = start_guard(&s, err);
	p->instance = NULL;
	if (r < 0) {
		vl_closep(&p->keep_fd);
		remove_own(&s);
	}
	return r;
}
