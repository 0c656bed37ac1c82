/* What is done for a user while no task of his is there to do it: in a child that is him, by `vial`. */
#include "plugin.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/pidfd.h>

#define KILL_MS 2000 /* for what was killed to be gone */
#define FORGET_S 120 /* at most: what containers with names have kept may be many files */

static void become(const struct vsp_user *u, const struct vsp_run *run, char *const *argv)
{
	int first = STDERR_FILENO + 1;

	vl_reset_signals();
	if (run->in >= 0)
		dup2(run->in, STDIN_FILENO); /* not close-on-exec: the program's */
	if (run->sock >= 0) {
		if (run->sock != VSP_SOCK)
			dup2(run->sock, VSP_SOCK); /* not close-on-exec: the program's */
		fcntl(VSP_SOCK, F_SETFD, 0);       /* not close-on-exec: the same, if it was there already */
		first = VSP_SOCK + 1;
	}
	vl_close_from(first); /* slurmstepd's own are not all close-on-exec */
	/* numbers only: names are asked for at a server, and the caller has threads that may have its lock */
	if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		_exit(127);
	if (chdir(run->cwd) == 0 || chdir("/") == 0)
		execv(argv[0], argv);
	_exit(127);
}

/* 0 = the child has ended. What the user has stopped, or what waits for a file system, is not waited for. */
static int wait_for(int child, const struct vsp_run *run)
{
	struct pollfd p[] = { { .fd = child, .events = POLLIN },
			      { .fd = run->until[0], .events = POLLIN },
			      { .fd = run->until[1], .events = POLLIN } };
	int64_t end = vl_now_ms() + (int64_t)run->seconds * 1000;

	for (;;) {
		int64_t left = end - vl_now_ms();
		int n = poll(p, VL_COUNT(p), left > 0 ? (int)left : 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		return p[0].revents ? 0 : n ? -ECANCELED : -ETIMEDOUT;
	}
}

int vsp_run_as(const struct vsp_user *u, const struct vsp_run *run, char *const *argv)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0)
		become(u, run, argv);
	VL_CLOSE int child = pidfd_open(pid, 0);
	int r = child < 0 ? -errno : wait_for(child, run);
	if (r == 0)
		return vl_wait(pid);
	kill(pid, SIGKILL);
	struct pollfd p = { .fd = child, .events = POLLIN };
	if (child < 0 || poll(&p, 1, KILL_MS) > 0) /* else the kernel holds it, and nobody can do anything */
		vl_wait(pid);
	return r;
}

char *vsp_job_word(uint32_t job, const char *node)
{
	return vl_asprintf("%u%s%s", job, node && *node ? "." : "", node ? node : "");
}

int vsp_job_end(const struct vsp_site *site, uint32_t job, const char *node, const struct vsp_user *u,
		struct vl_err *err)
{
	VL_FREE char *word = vsp_job_word(job, node);
	VL_FREE char *dir = vl_asprintf("%s/vial-%u/slurm-%s", site->names, u->uid, word);
	struct stat st;

	if (lstat(dir, &st) < 0) /* no job but those with such containers costs more than this */
		return 0;
	VL_FREE char *base = vl_asprintf("--job-dir=%s", site->names), *which = vl_asprintf("--job=%s", word);
	char *argv[] = { (char *)site->vial,
			 (char *)"--quiet",
			 (char *)"hold",
			 (char *)"--forget",
			 base,
			 which,
			 (char *)"-",
			 NULL };
	int seconds = (int)VL_MIN(site->timeout, FORGET_S);
	struct vsp_run run = { .cwd = "/", .in = -1, .sock = -1, .seconds = seconds, .until = { -1, -1 } };
	int status = vsp_run_as(u, &run, argv);
	if (status == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "%s is not removed: that takes longer than %d seconds", dir, seconds);
	if (status < 0)
		return vl_fail_sys(err, -status, "%s is not removed", dir);
	return status ? vl_fail(err, EIO, "%s is not removed (status %d)", dir, status) : 0;
}
