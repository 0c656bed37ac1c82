/* What is done for a user while no task of his is there to do it: in a child that is him, by `vial`. */
#include "plugin.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>

int vsp_run_as(const struct vsp_user *u, const char *cwd, int in, char *const *argv)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid > 0)
		return vl_wait(pid);
	vl_reset_signals();
	if (in >= 0)
		dup2(in, STDIN_FILENO); /* not close-on-exec: the program's */
	/* numbers only: names are asked for at a server, and the caller has threads that may have its lock */
	if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		_exit(127);
	if (chdir(cwd) == 0 || chdir("/") == 0)
		execv(argv[0], argv);
	_exit(127);
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
	int status = vsp_run_as(u, "/", -1, argv);
	return status ? vl_fail(err, EIO, "%s is not removed (status %d)", dir, status) : 0;
}
