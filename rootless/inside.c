/* Programs in a container that is there already. */
#include "emulate.h"
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* ---- where only children are in the pid namespace ------------------------------------------------ */

static void __attribute__((noreturn)) end_as(int status)
{
	sigset_t one;

	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	int sig = WTERMSIG(status);
	prctl(PR_SET_DUMPABLE, 0); /* no core file of ours */
	signal(sig, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, sig);
	raise(sig);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	_exit(128 + sig);
}

/* The terminal's signals go to the whole job, so the program has them; the others were for it. */
static void pass_on(int signals, pid_t pid)
{
	struct signalfd_siginfo s;

	while (read(signals, &s, sizeof s) == (ssize_t)sizeof s)
		if (s.ssi_signo != SIGCHLD && s.ssi_signo != SIGTTIN && s.ssi_signo != SIGTTOU &&
		    (s.ssi_code != SI_KERNEL || s.ssi_signo == SIGHUP))
			kill(pid, (int)s.ssi_signo);
}

static void __attribute__((noreturn)) wait_for(pid_t pid, int signals)
{
	struct pollfd f = { .fd = signals, .events = POLLIN };
	struct vl_err none;
	int st;

	vl_drop_privileges(&none);
	vl_close_all_but(&signals, 1); /* who reads from the caller's pipes waits for the program's end */
	for (;;) {
		poll(&f, 1, -1);
		pass_on(signals, pid);
		while (waitpid(pid, &st, WNOHANG | WUNTRACED) > 0)
			if (WIFSTOPPED(st))
				kill(getpid(), SIGSTOP); /* who waits for us is to see it */
			else
				end_as(st);
	}
}

/* Returns in the child. */
static int go_on_as_child(struct vl_err *err)
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	bool ignored = signal(SIGCHLD, SIG_DFL) == SIG_IGN; /* else there would be no exit status */
	int signals = vl_move_fd_above_stdio(signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK));
	pid_t pid = signals < 0 ? -1 : fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start a process in the container");
	if (pid > 0)
		wait_for(pid, signals);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* when the caller is killed, so is the program */
	close(signals);
	if (ignored)
		signal(SIGCHLD, SIG_IGN);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return 0;
}

/* Of the namespace that was entered: root has nobody else to be. */
static bool has_one_id(void)
{
	FILE *f = fopen("/proc/self/uid_map", "re");
	unsigned long long inside, outside, n = 0, all = 0;

	while (f && fscanf(f, "%llu %llu %llu", &inside, &outside, &n) == 3)
		all += n;
	if (f)
		fclose(f);
	return all == 1;
}

/* ---- all of it ------------------------------------------------------------------------------------ */

static int make_start(const struct plan *p, const struct vl_strv *env, struct ctr_start *ret, struct vl_err *err)
{
	VL_STRV struct vl_strv argv = { 0 };
	VL_CLOSE int root = vl_open("/", O_PATH | O_DIRECTORY, 0, err);

	if (root < 0)
		return root;
	struct ctr_tree tree = { .fd = root };
	int r = ctr_choose_program(&tree, p, &argv, err);
	if (r < 0)
		return r;
	if (!env) {
		ctr_environment(&tree, p, &argv, ret);
		return 0;
	}
	for (size_t i = 0; i < argv.n; i++)
		vl_strv_add(&ret->argv, argv.v[i]);
	for (size_t i = 0; i < env->n; i++)
		vl_strv_add(&ret->env, env->v[i]);
	return 0;
}

int ctr_run_inside(struct plan *p, const struct ctr_door *d, const struct vl_strv *env, const struct vl_progress *say,
		   int *ret_status, struct vl_err *err)
{
	VL_CLEANUP(ctr_start_free) struct ctr_start start = CTR_START_INIT;
	bool pid;
	int r;

	*ret_status = 0;
	if ((r = ctr_enter(d, &pid, err)) < 0)
		return r;
	if (!p->fakeroot) /* root of a container may be another outside */
		p->user.uid = geteuid();
	if ((r = make_start(p, env, &start, err)) < 0 || (r = ctr_enter_cwd(p, &start, say, err)) < 0)
		return r;
	if (p->umask >= 0)
		umask((mode_t)p->umask);
	if (pid && (r = go_on_as_child(err)) < 0)
		return r;
	if (p->fakeroot && has_one_id() && (r = ctr_emulation_start(&start.emulation, err)) < 0)
		return r;
	if ((r = ctr_reduce_caps(p, d->pivoted, err)) < 0 || (r = ctr_enter_filters(p, &start, err)) < 0)
		return r;
	return ctr_exec(p, &start, ret_status, err);
}
