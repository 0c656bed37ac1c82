/* A parent for programs whose changes are written back after their end (ext3 overlays): a scheduler kills what is
 * left of a job when its last command has ended, and a script copies the image. So the caller stays until it is
 * done, and is the program to whoever started it: signals, stops and the status pass through. */
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

struct staying {
	pid_t child;
	int signals, started, done;
	sigset_t mask; /* of the caller */
};

static bool needed(const struct plan *p)
{
	const struct plan_overlay *top = p->n_overlays ? &p->overlays[p->n_overlays - 1] : NULL;

	return top && top->writable && top->kind == PLAN_LAYER_EXT3;
}

/* The terminal's signals reach the whole process group: the program had that one already. */
static void pass_on(const struct staying *s)
{
	struct signalfd_siginfo i;

	while (read(s->signals, &i, sizeof i) == sizeof i)
		if (i.ssi_signo != SIGCHLD && (i.ssi_code <= 0 || i.ssi_signo == SIGCONT))
			kill(s->child, (int)i.ssi_signo);
}

/* True when the program has ended. Others are what it left behind, and came to us. */
static bool ended(const struct staying *s, int *ret_status)
{
	int st;
	pid_t pid;

	while ((pid = waitpid(-1, &st, WNOHANG | WUNTRACED)) > 0) {
		if (pid != s->child)
			continue;
		if (!WIFSTOPPED(st)) {
			*ret_status = st;
			return true;
		}
		raise(SIGSTOP); /* the shell is to see it stopped, and will wake us both */
		kill(s->child, SIGCONT);
	}
	return false;
}

static int wait_for_program(struct staying *s)
{
	int status = 0;

	while (!ended(s, &status)) {
		struct pollfd f[] = { { s->signals, POLLIN, 0 }, { s->started, POLLIN, 0 } };
		if (poll(f, VL_COUNT(f), -1) < 0)
			continue;
		if (f[1].revents) {
			/* It runs. Whatever it leaves behind is ours from now on; helpers of earlier are not. */
			prctl(PR_SET_CHILD_SUBREAPER, 1);
			vl_closep(&s->started);
		}
		pass_on(s);
	}
	return status;
}

static bool any_left(void)
{
	pid_t pid;

	do
		pid = waitpid(-1, NULL, WNOHANG); /* those that have ended already are in the way of the answer */
	while (pid > 0 || (pid < 0 && errno == EINTR));
	return pid == 0;
}

/* The first of those that end a program by default and that people and schedulers send; 0 = none has come. */
static int asked_to_end(const struct staying *s)
{
	struct signalfd_siginfo i;
	int sig = 0;

	while (read(s->signals, &i, sizeof i) == sizeof i)
		if (!sig && (i.ssi_signo == SIGTERM || i.ssi_signo == SIGINT || i.ssi_signo == SIGHUP))
			sig = (int)i.ssi_signo;
	return sig;
}

/* Processes left behind use the overlay still: nobody waits for those. Nor does who is asked to end, whose signal is
 * returned, else 0: others may have a file of the overlay open for as long as they like. */
static int wait_until_written(const struct staying *s)
{
	struct pollfd f[] = { { s->done, POLLIN, 0 }, { s->signals, POLLIN, 0 } };
	int sig = 0;

	if (any_left())
		return 0;
	asked_to_end(s); /* up to here they were the program's */
	while (!sig && !f[0].revents) {
		if (poll(f, VL_COUNT(f), -1) < 0)
			f[0].revents = 0;
		sig = asked_to_end(s);
	}
	return f[0].revents ? 0 : sig;
}

static void __attribute__((noreturn)) stay(struct staying *s)
{
	int status = wait_for_program(s);

	int sig = wait_until_written(s);
	if (sig)
		status = W_EXITCODE(0, sig);
	if (!WIFSIGNALED(status))
		_exit(WEXITSTATUS(status));
	/* as it ended, so that a shell says what it would say; a core was its own to write */
	prctl(PR_SET_DUMPABLE, 0);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&s->mask);
	sigprocmask(SIG_SETMASK, &s->mask, NULL);
	raise(WTERMSIG(status));
	_exit(128 + WTERMSIG(status));
}

static void let_go(const struct staying *s)
{
	int keep[] = { s->signals, s->started, s->done };

	vl_close_all_but(keep, VL_COUNT(keep));
}

int ctr_stay(const struct plan *p, struct ctr_stay *ret, struct vl_err *err)
{
	int started[2] = { -1, -1 }, done[2] = { -1, -1 };
	struct staying s = { 0 };
	sigset_t all;

	if (!needed(p))
		return 0;
	if (pipe2(started, O_CLOEXEC) < 0 || pipe2(done, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	ret->parent = getpid();
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &s.mask); /* none is lost between fork and the first look */
	s.signals = vl_move_fd_above_stdio(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
	s.child = s.signals < 0 ? -1 : fork();
	if (s.child < 0) {
		sigprocmask(SIG_SETMASK, &s.mask, NULL);
		return vl_fail_sys(err, errno, "cannot start a process");
	}
	if (s.child == 0) {
		sigprocmask(SIG_SETMASK, &s.mask, NULL);
		close(s.signals);
		close(started[0]);
		close(done[0]);
		ret->started = vl_move_fd_above_stdio(started[1]);
		ret->done = vl_move_fd_above_stdio(done[1]);
		return 0;
	}
	close(started[1]);
	close(done[1]);
	s.started = vl_move_fd_above_stdio(started[0]);
	s.done = vl_move_fd_above_stdio(done[0]);
	if (p->instance) /* whoever started it waits for the end of its output, not for the instance's */
		let_go(&s);
	stay(&s);
}

int ctr_stay_bound(const struct ctr_stay *s, struct vl_err *err)
{
	if (s->started < 0)
		return 0;
	/* not earlier: with each change of ids or capabilities the kernel forgets it */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return vl_fail_sys(err, errno, "cannot bind the program to its parent");
	pid_t parent = getppid(); /* 0: in a pid namespace, which it is not in */
	return parent == s->parent || !parent ? 0 : vl_fail(err, ESRCH, "the parent process was killed");
}
