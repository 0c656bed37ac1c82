/* Between the files of a step: what slurmstepd and its tasks, which are forks of it, have together. */
#ifndef SLURM_PLUGIN_STEP_H
#define SLURM_PLUGIN_STEP_H

#include "plugin.h"

#include <pthread.h>

enum vsp_state { VSP_NOT_YET, VSP_THERE, VSP_FAILED };
/* Memory of all of them. The tasks run as the user, who could write there: strings are read with their bounds. */
struct vsp_shared {
	pthread_mutex_t lock; /* robust: a task may be killed with it */
	enum vsp_state state;
	bool begun, told, warned; /* by whoever came first; atomic */
	pid_t keeper;
	char cwd[4096]; /* of the tasks: what they name is relative to it */
	char image[4096];
	char claims[1024];                 /* of the image, see CTR_CLAIMS */
	long long image_size, image_mtime; /* as a task found them */
	struct vl_err why;
};
/* Ends of two pairs. On the first one is asked: when all copies of the tasks' end are closed, the keeper goes, and one of
 * them is slurmstepd's; when all of the keeper's end are, who asks knows that there is none. The second has no other use
 * than to be open in tasks that wait: slurmstepd would not notice before the end of all output that they are dead, and a
 * keeper that still prepares has the step's stderr. So each process closes early what it has no use for. */
struct vsp_step {
	struct vsp_shared *shared;
	int tasks, keepers;
	int waiting, wanted;
	pid_t stepd; /* 0 = it is not known to fork tasks from a thread that lives as long as it does */
	pid_t watch; /* see vsp_step_watch */
	struct vsp_guard *guard;
	uint32_t ended; /* tasks; the signal that ended one, and the highest status */
	int signal, status;
	time_t since;
};

/* ---- keeper.c ---- */

/* Starts `vial hold`, which makes the container and keeps it. What goes wrong is said where it is asked for, as by the
 * keeper itself. */
void vsp_keeper_start(struct vsp_step *s, const struct vsp_task *t);
/* Where the step's PMIx server has its files, on the node; NULL = it has none. */
const char *vsp_server_files(const struct vsp_task *t);

/* ---- guard.c ---- */

/* In slurmstepd: a thread that ends servers of the user's images which keep the step's killed tasks from ending. It begins
 * when all tasks are added, ends with slurmstepd, and what is returned is its own. */
struct vsp_guard;
struct vsp_guard *vsp_guard_new(size_t tasks, uid_t user);
void vsp_guard_add(struct vsp_guard *g, pid_t task);

/* ---- cgroup.c ---- */

/* That of a process, where Slurm tracks steps by cgroups; new, or NULL. */
struct vsp_cgroup;
struct vsp_cgroup *vsp_cgroup_of(pid_t pid);
void vsp_cgroup_free(struct vsp_cgroup *c);
/* When the keeper is gone. The container's processes go to a step that has entered it, if there is one. */
void vsp_cgroup_pass_on(const struct vsp_cgroup *c);
/* Waits until none of the container's own is in it: a little, which they need to go by themselves. */
void vsp_cgroup_wait(const struct vsp_cgroup *c);

#endif
