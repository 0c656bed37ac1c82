/* One container per node and step. The first task makes the keeper, all tasks enter what it keeps; one user namespace, so
 * that ranks reach each other's memory. Here is what slurmstepd does, as root: it can drain the node, so that nothing of the
 * user's may make it fail or last. */
#include "step.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define END_MS 5000 /* for the keeper to go */

/* ---- the tasks begin ---------------------------------------------------------------------------- */

static struct vsp_shared *new_shared(void)
{
	struct vsp_shared *shared =
		mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t a;

	if (shared == MAP_FAILED)
		return NULL;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->lock, &a);
	pthread_mutexattr_destroy(&a);
	return shared;
}

static int new_pair(int *ret_a, int *ret_b)
{
	struct vl_err err = { 0 };
	int pair[2], r = vl_msg_pair(pair, &err);

	if (r < 0)
		return r;
	*ret_a = vl_move_fd_above_stdio(pair[0]);
	*ret_b = vl_move_fd_above_stdio(pair[1]);
	return 0;
}

struct vsp_step *vsp_step_new(void)
{
	struct vsp_shared *shared = new_shared();

	if (!shared)
		return NULL;
	struct vsp_step *s = vl_alloc(sizeof *s);
	*s = (struct vsp_step){
		.shared = shared, .tasks = -1, .keepers = -1, .waiting = -1, .wanted = -1, .since = time(NULL)
	};
	if (gettid() == getpid())
		s->stepd = getpid();
	if (new_pair(&s->tasks, &s->keepers) == 0 && new_pair(&s->waiting, &s->wanted) == 0)
		return s;
	vsp_step_end(s);
	return NULL;
}

void vsp_step_forked(struct vsp_step *s)
{
	vl_closep(&s->keepers);
	vl_closep(&s->wanted);
	vl_closep(&s->waiting);
}

void vsp_step_guard(struct vsp_step *s, pid_t task, uint32_t n, uid_t user)
{
	if (s->stepd != getpid()) /* a thread of another's ends with that one */
		return;
	if (!s->guard)
		s->guard = vsp_guard_new(n, user);
	vsp_guard_add(s->guard, task);
}

/* Nothing short of SIGKILL ends it: other signals are the tasks' affair. */
static _Noreturn void be_the_watch(pid_t task)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NAME, "vial-watch"); /* what has slurmstepd's name is passed over */
	vl_close_all_but(NULL, 0);
	setpgid(0, getpgid(task));
	for (;;)
		pause();
}

/* A process of the tasks' process group, which is what proctrack/pgid ends a step by. (The cgroup has the keeper, and what
 * is slurmstepd's child proctrack/linuxproc finds.) */
void vsp_step_watch(struct vsp_step *s, pid_t task)
{
	pid_t pid = s->watch ? -1 : fork();

	if (pid == 0)
		be_the_watch(task);
	if (pid > 0)
		s->watch = pid;
}

static void end_watch(struct vsp_step *s)
{
	if (s->watch > 0) {
		kill(s->watch, SIGKILL);
		vl_wait(s->watch);
	}
	s->watch = 0;
}

/* ---- the tasks end ------------------------------------------------------------------------------ */

static int save(struct vsp_step *s, const struct vsp_site *site, const char *path, const struct vsp_user *u,
		struct vl_err *err)
{
	VL_FREE char *out = vl_asprintf("--save=%s", path), *fd = vl_asprintf("--fd=%d", VSP_SOCK);
	VL_FREE char *cwd = vl_strndup(s->shared->cwd, sizeof s->shared->cwd);
	char *argv[] = { (char *)site->vial, (char *)"--quiet", (char *)"hold", fd, out, (char *)"-", NULL };
	VL_CLOSE int keeper = pidfd_open(s->shared->keeper, 0), watch = pidfd_open(s->watch, 0); /* -1: none */
	struct vsp_run run = {
		.cwd = cwd, .in = -1, .sock = s->tasks, .seconds = (int)site->timeout, .until = { keeper, watch }
	};
	int status = vsp_run_as(u, &run, argv);

	if (status == -ECANCELED)
		return vl_fail(err, ECANCELED, "the container is not saved to %s: the step was ended meanwhile", path);
	if (status == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "the container is not saved to %s: that took longer than %ld seconds",
			       path, site->timeout);
	return status ? vl_fail(err, EIO, "the container is not saved to %s (status %d)", path, status) : 0;
}

static void count_task(struct vsp_step *s, int status)
{
	s->ended++;
	if (WIFSIGNALED(status))
		s->signal = WTERMSIG(status);
	else if (WEXITSTATUS(status) > s->status)
		s->status = WEXITSTATUS(status);
}

/* Without this the keeper takes slurmstepd for killed, and ends the tasks. Who does not read is not waited for. */
static void say_end(const struct vsp_step *s)
{
	uint8_t end = VL_MSG_END;

	(void)!send(s->tasks, &end, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* The container goes, with all that it was made of. */
static void end_container(struct vsp_step *s, bool named)
{
	VL_CLOSE int keeper = pidfd_open(s->shared->keeper, 0);
	struct vsp_cgroup *cgroup = keeper < 0 ? NULL : vsp_cgroup_of(s->shared->keeper);
	struct pollfd p = { .fd = keeper, .events = POLLIN };

	say_end(s);
	vsp_step_forked(s);
	vl_closep(&s->tasks); /* the last of the tasks' ends */
	if (keeper >= 0)
		poll(&p, 1, END_MS);
	if (cgroup && named)
		vsp_cgroup_pass_on(cgroup);
	if (cgroup)
		vsp_cgroup_wait(cgroup);
	vsp_cgroup_free(cgroup);
}

int vsp_step_task_ended(struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o, int status,
			uint32_t n, const struct vsp_user *u, struct vl_err *err)
{
	const char *path = o->value[VSP_SAVE];
	int r = 0;

	count_task(s, status);
	if (s->ended < n)
		return 0;
	if (path && s->signal && s->shared->state == VSP_THERE) /* who is killed has not finished what it did */
		r = vl_fail(err, EINTR, "the container is not saved to %s: a task was ended by signal %d", path,
			    s->signal);
	else if (path && s->shared->state == VSP_THERE)
		r = save(s, site, path, u, err);
	end_watch(s);
	end_container(s, o->value[VSP_NAME]);
	return r;
}

void vsp_step_end(struct vsp_step *s)
{
	end_watch(s);
	end_container(s, false);
	munmap(s->shared, sizeof *s->shared);
	free(s);
}
