/* A pid namespace needs two processes beside the program. The caller stays outside, because nobody changes his own
 * pid namespace: to whoever started it, it looks like the program. The first process inside, which the kernel
 * makes the parent of orphans and whose end is the end of all others, is an init that does no more than that.
 *
 * Both stay in the caller's process group, so that the terminal treats all three as one job: Ctrl-C, Ctrl-Z and
 * fg reach the program from the kernel. What is sent to the caller alone is passed on. */
#include "rootless.h"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum what {
	UP,      /* in: the program is about to start */
	STOPPED, /* in: it was stopped */
	ENDED,   /* in: wait status */
	SIGNAL,  /* out: for the program */
};
struct word {
	enum what what;
	int value;
	int64_t at_ns; /* SIGNAL: when it was looked for */
};

static void say(int sock, const struct word *w)
{
	(void)!send(sock, w, sizeof *w, MSG_NOSIGNAL);
}

static void tell(int sock, enum what what, int value)
{
	struct word w = { .what = what, .value = value };

	say(sock, &w);
}

/* False: nothing there. *ret_gone: nor will there be. */
static bool hear(int sock, struct word *ret, bool *ret_gone)
{
	ssize_t n = recv(sock, ret, sizeof *ret, MSG_DONTWAIT);

	*ret_gone = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	return n == (ssize_t)sizeof *ret;
}

static int watch_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	return signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- outside -------------------------------------------------------------------------------- */

struct outside {
	int sock, signals;
	pid_t first;
	bool init;         /* the first process is one of ours */
	bool stops;        /* with the program; who started an instance is gone, and would not wake us again */
	bool up;           /* the program runs, or is about to */
	bool ended, known; /* the first process is gone; the program's own end was told */
	int status;        /* wait status of the program, or else of the first process */
};

/* In the way the program ended: by the same signal, which a shell tells from a status, and without a core file
 * that would be ours. */
static void __attribute__((noreturn)) end_as(int status)
{
	sigset_t one;

	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	int sig = WTERMSIG(status);
	prctl(PR_SET_DUMPABLE, 0);
	signal(sig, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, sig);
	raise(sig);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	_exit(128 + sig); /* the first process of a pid namespace itself */
}

/* Where nothing runs that could have its own mind about it. */
static bool ends_setup(int sig)
{
	struct sigaction a;

	if (sig != SIGHUP && sig != SIGINT && sig != SIGQUIT && sig != SIGTERM)
		return false;
	return sigaction(sig, NULL, &a) == 0 && a.sa_handler != SIG_IGN;
}

static void pass_on(struct outside *o, const struct signalfd_siginfo *s, int64_t at_ns)
{
	int sig = (int)s->ssi_signo;

	if (!o->up && ends_setup(sig)) {
		kill(o->first, SIGKILL);
		o->known = true;
		o->status = sig; /* as a wait status: ended by it */
		return;
	}
	/* The terminal's own signals go to the whole job, so the program has them. But the end of a terminal is
	 * told to the session's leader, who may be in no job. */
	if (s->ssi_code == SI_KERNEL && sig != SIGHUP)
		return;
	struct word w = { SIGNAL, sig, at_ns };
	if (o->init)
		say(o->sock, &w);
	else
		kill(o->first, sig);
}

static void look_for_end(struct outside *o)
{
	int st;

	while (waitpid(o->first, &st, WNOHANG | WUNTRACED) > 0) {
		if (WIFSTOPPED(st)) {
			if (!o->init && o->stops)
				kill(getpid(), SIGSTOP);
			continue;
		}
		o->ended = true;
		if (!o->known)
			o->status = st;
	}
}

static void take_word(struct outside *o, const struct word *w)
{
	if (w->what == UP) {
		o->up = true;
	} else if (w->what == STOPPED && o->stops) {
		kill(getpid(), SIGSTOP); /* who waits for us is to see it */
	} else if (w->what == ENDED && !o->known) {
		o->known = true;
		o->status = w->value;
	}
}

static void take_signals(struct outside *o)
{
	struct signalfd_siginfo s;
	int64_t at_ns = vl_now_ns();

	while (read(o->signals, &s, sizeof s) == (ssize_t)sizeof s) {
		/* ends are asked for in any case, and we never touch the terminal */
		if (s.ssi_signo != SIGCHLD && s.ssi_signo != SIGTTIN && s.ssi_signo != SIGTTOU)
			pass_on(o, &s, at_ns);
		at_ns = vl_now_ns();
	}
}

/* Nothing but waiting: the caller's pipes are for the program alone, who reads from them waits for its end. Locks
 * of layers stay. */
static void __attribute__((noreturn)) stay_outside(const struct plan *p, int sock, pid_t first)
{
	struct outside o = { .sock = sock, .first = first, .init = !p->no_init, .stops = !p->instance };
	VL_FREE int *keep = vl_alloc((p->n_overlays + 1) * sizeof *keep);
	struct vl_err none = { 0 };
	struct word w;
	bool gone = false;
	size_t n = 0;

	for (size_t i = 0; i < p->n_overlays; i++)
		if (p->overlays[i].fd > 2)
			keep[n++] = p->overlays[i].fd;
	keep[n++] = sock;
	vl_close_all_but(keep, n);
	vl_drop_privileges(&none);
	o.signals = watch_signals();
	while (!o.ended) {
		struct pollfd f[] = { { o.signals, POLLIN, 0 }, { gone ? -1 : sock, POLLIN, 0 } };
		poll(f, VL_COUNT(f), -1);
		while (!gone && hear(sock, &w, &gone))
			take_word(&o, &w);
		take_signals(&o);
		look_for_end(&o);
	}
	while (hear(sock, &w, &gone))
		take_word(&o, &w);
	end_as(o.status);
}

int ctr_enter_pidns(const struct plan *p, struct ctr_first *f, struct vl_err *err)
{
	sigset_t all;
	int pair[2], r;

	if (!(p->namespaces & PLAN_NS_PID))
		return 0;
	if ((r = vl_msg_pair(pair, err)) < 0)
		return r;
	VL_CLOSE int outer = vl_move_fd_above_stdio(pair[0]);
	f->sock = vl_move_fd_above_stdio(pair[1]);
	if (unshare(CLONE_NEWPID) < 0)
		return errno == ENOSPC
			       ? vl_fail(err, ENOSPC,
					 "cannot make a pid namespace: the limit user.max_pid_namespaces, or the "
					 "nesting depth of 32, is reached")
			       : vl_fail_sys(err, errno, "cannot make a pid namespace");
	/* not one is lost between here and the program */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &f->mask);
	f->ignores_children = signal(SIGCHLD, SIG_DFL) == SIG_IGN; /* else there would be no exit status */
	pid_t pid = fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the first process of a pid namespace");
	if (pid > 0)
		stay_outside(p, outer, pid);
	vl_closep(&outer);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* when the caller is killed, all is over */
	struct pollfd there = { .fd = f->sock };
	if (poll(&there, 1, 0) > 0) /* it was before that */
		_exit(128 + SIGKILL);
	return 0;
}

/* ---- inside --------------------------------------------------------------------------------- */

/* A signal to a process group comes to the program by itself, to us, and, in the words of the caller, once more.
 * The kernel has given it to us before the caller speaks of it, so who looks at his own signals before he hears a
 * word has seen it. But the kernel makes one of two that nobody has looked at yet, with us, the caller, or both. */
#define SAME_NS 5000000000LL /* one to us alone, which the program does not have, is forgotten then */

struct of_group {
	unsigned int n; /* those the caller has not spoken of */
	int64_t at_ns;  /* when we saw the last one */
};
struct init {
	int sock, signals;
	pid_t program;
	struct of_group groups[NSIG]; /* by signal: those from outside */
};

static void take_signals_inside(struct init *i)
{
	struct signalfd_siginfo s;

	while (read(i->signals, &s, sizeof s) == (ssize_t)sizeof s) {
		if (s.ssi_signo >= NSIG || s.ssi_signo == SIGCHLD || s.ssi_code == SI_KERNEL)
			continue;
		if (s.ssi_pid) {
			kill(i->program, (int)s.ssi_signo);
			continue;
		}
		/* its sender has no pid here */
		i->groups[s.ssi_signo].n++;
		i->groups[s.ssi_signo].at_ns = vl_now_ns();
	}
}

/* True when the program has it already. Two that were sent while we had not looked are one, as any are that are pending,
 * also one to the group and one to the caller alone. */
static bool was_for_group(struct of_group *g, const struct word *w)
{
	bool open = g->n > 0;

	g->n -= open;
	if (w->value >= SIGRTMIN) /* they queue, everywhere */
		return open;
	if (w->at_ns < g->at_ns) /* the caller saw it before we looked */
		return true;
	g->n = 0; /* the caller has seen all that we have */
	return open && w->at_ns - g->at_ns <= SAME_NS;
}

static void take_message(struct init *i, const struct word *w)
{
	if (w->what != SIGNAL || w->value <= 0 || w->value >= NSIG)
		return;
	take_signals_inside(i);
	if (!was_for_group(&i->groups[w->value], w) || getpgid(i->program) != getpgrp())
		kill(i->program, w->value);
}

static void reap(struct init *i)
{
	pid_t pid;
	int st;

	while ((pid = waitpid(-1, &st, WNOHANG | WUNTRACED)) > 0) {
		if (pid != i->program)
			continue;
		tell(i->sock, WIFSTOPPED(st) ? STOPPED : ENDED, WIFSTOPPED(st) ? WSTOPSIG(st) : st);
		if (!WIFSTOPPED(st)) /* the kernel ends all others */
			_exit(WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st));
	}
}

static void __attribute__((noreturn)) be_init(const struct plan *p, int sock, pid_t program)
{
	struct init i = { .sock = sock, .program = program };
	struct word w;
	bool gone = false;

	vl_close_all_but(&sock, 1);
	prctl(PR_SET_NAME, "vial-init");
	if (p->filter_len) /* it has no filter: by its memory the program would be rid of its own */
		prctl(PR_SET_DUMPABLE, 0);
	i.signals = watch_signals();
	while (!gone) {
		struct pollfd f[] = { { i.signals, POLLIN, 0 }, { sock, POLLIN, 0 } };
		poll(f, VL_COUNT(f), -1);
		take_signals_inside(&i);
		while (hear(sock, &w, &gone))
			take_message(&i, &w);
		reap(&i);
	}
	_exit(128 + SIGKILL); /* the caller was killed */
}

int ctr_leave_init(const struct plan *p, struct ctr_first *f, struct vl_err *err)
{
	if (f->sock < 0)
		return 0;
	pid_t pid = p->no_init ? 0 : fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the program");
	if (pid > 0)
		be_init(p, f->sock, pid);
	tell(f->sock, UP, 0);
	vl_closep(&f->sock);
	if (f->ignores_children)
		signal(SIGCHLD, SIG_IGN);
	sigprocmask(SIG_SETMASK, &f->mask, NULL);
	return 0;
}
