/* Between the files of the plugin. It is loaded into srun, sbatch, slurmd and slurmstepd: it links nothing heavy, parses no
 * image, and where it has nothing to do it does nothing. The work is done by `vial hold`, as the user. */
#ifndef SLURM_PLUGIN_H
#define SLURM_PLUGIN_H

#include <vial/base.h>

/* ---- options.c: what the user asked for ---- */

enum vsp_word {
	VSP_IMAGE,
	VSP_MOUNTS,
	VSP_WORKDIR,
	VSP_NAME,
	VSP_SAVE,
	VSP_RECORD,
	VSP_MOUNT_HOME,
	VSP_NO_MOUNT_HOME,
	VSP_REMAP_ROOT,
	VSP_NO_REMAP_ROOT,
	VSP_WRITABLE,
	VSP_READONLY,
	VSP_ENV,
	VSP_ENTRYPOINT,
	VSP_NO_ENTRYPOINT,
	VSP_ENTRYPOINT_LOG,
	VSP_STAGE,
	VSP_NO_STAGE,
	VSP_MPI,
	VSP_NO_MPI,
	VSP_UNSHARE,
	VSP_WORDS
};
struct vsp_row {
	const char *name, *arg, *help; /* name without the prefix; arg NULL for a flag */
};
extern const struct vsp_row vsp_rows[VSP_WORDS];

struct vsp_site;
struct vsp_options {
	char *value[VSP_WORDS]; /* owned; "" for a flag that was given, NULL = not said */
};
/* The later value wins: up to Slurm 23.11 every option arrives twice on the node. */
void vsp_options_set(struct vsp_options *o, enum vsp_word word, const char *value);
bool vsp_option_adds_up(enum vsp_word word);
/* Of one command line: lists add up; another option with two values is -EINVAL. */
int vsp_options_add(struct vsp_options *o, enum vsp_word word, const char *value, struct vl_err *err);
/* Those of which neither the word nor its opposite was said before. */
void vsp_options_add_weaker(struct vsp_options *o, const struct vsp_options *weaker);

/* Between processes words go through the environment; get is asked for each variable. All names and values are new.
 * 1. What salloc and sbatch hand down to each srun, in Slurm's own variables. Slurm would not tell them from what that srun is
 *    told, nor drop one for its opposite, so the plugin takes them out before Slurm looks. */
char *vsp_option_name(const struct vsp_site *site, enum vsp_word word); /* container-image; no-container-mount-home */
char *vsp_handed_name(const struct vsp_site *site, enum vsp_word word);
char *vsp_passed_name(const struct vsp_site *site,
		      enum vsp_word word); /* the same, to the batch script, or to a step */
void vsp_options_add_handed(struct vsp_options *o, const struct vsp_site *site,
			    const char *(*get)(void *arg, const char *name), void *arg);
/* 2. The user's, weaker: VIAL_CONTAINER_MOUNTS for "mounts", else PYXIS_CONTAINER_MOUNTS, which with another prefix is somebody
 *    else's. -EINVAL: a flag's is neither true nor false; the others are there nevertheless. */
int vsp_options_add_environment(struct vsp_options *o, const struct vsp_site *site,
				const char *(*get)(void *arg, const char *name), void *arg, struct vl_err *err);
/* The same, weakest of all: what a twin said to srun, sbatch or salloc, of which --export may leave the job nothing. True: it said
 * something that nothing else said. */
char *vsp_twin_name(enum vsp_word word);
bool vsp_options_add_twins(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg);
/* 3. What srun made of a value, "LENGTH:SAID=MEANT", where Slurm tells the node what was said last: of a path that is relative to
 *    srun's directory, of an option that was given twice. NULL: a flag has none. */
char *vsp_meant_name(enum vsp_word word);
char *vsp_meant_value(const char *said, const char *meant);
void vsp_options_complete(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg);

void vsp_options_free(struct vsp_options *o);
/* The image as `vial` takes it: an absolute path, or a URI. [USER@][REGISTRY#]NAME[:TAG] becomes docker://REGISTRY/NAME[:TAG].
 * Returns new. */
char *vsp_image_name(const char *word);
/* The first word that was given, NULL = none. */
const char *vsp_options_first(const struct vsp_options *o);
/* Is a container asked for? One with a name may be there already, without an image named. */
bool vsp_options_wanted(const struct vsp_options *o);
/* The options as `vial hold` takes them, checked. -EINVAL. */
int vsp_options_words(const struct vsp_site *site, const struct vsp_options *o, struct vl_strv *ret,
		      struct vl_err *err);

/* ---- site.c: what plugstack.conf says after the plugin's name ---- */

struct vsp_site {
	const char *prefix;  /* of the options; "container" */
	const char *vial;    /* the program; absolute */
	const char *mounts;  /* in every container, in the user's form; NULL = none */
	const char *names;   /* directory on the node for containers with names */
	const char *records; /* directory for one record of each step; NULL = none */
	const char *stage;   /* on the node, for copies of images: DIR[:SIZE]; NULL = none */
	const char *fanout;  /* sbcast, which brings them to a step's nodes; NULL = each reads the image */
	long timeout;        /* seconds that a container may take to be there, its conversion included */
	long record_timeout; /* that a record may take; the step ends without it */
	bool check;          /* look at images before a job is queued */
};
/* On failure, which is told of the first word, the others are there nevertheless. */
int vsp_site_read(int argc, char **argv, struct vsp_site *ret, struct vl_err *err);

/* ---- submit.c: on the submit host, as the user ---- */

/* Can this be? A registry's image is fetched into the store now, and once, not by every node. at_once: the step is about to start,
 * on nodes that will tell. */
int vsp_submit(const struct vsp_site *site, const struct vsp_options *o, bool at_once, struct vl_err *err);

/* ---- step.c: on the node, in slurmstepd ---- */

/* In slurmstepd, before any task: what the tasks will share. Cannot fail because of the user: that would drain the node. */
struct vsp_step;
struct vsp_step *vsp_step_new(void); /* NULL: no memory, no descriptors */
struct vsp_user {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* the others */
	size_t n_groups;
};
/* In slurmstepd, as root, when a task has ended with that status of wait(). After the last of n the container's content
 * is saved, if that was asked for, as the user. */
int vsp_step_task_ended(struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o, int status,
			uint32_t n, const struct vsp_user *u, struct vl_err *err);
/* In slurmstepd, when all tasks are forked. */
void vsp_step_forked(struct vsp_step *s);
/* The same, for each of the n that this node has: no image's server that the user has stopped keeps them from ending. */
void vsp_step_guard(struct vsp_step *s, pid_t task, uint32_t n, uid_t user);
/* The same, before any task executes its program: it is noticed from here on when Slurm ends the step. task: its first. */
void vsp_step_watch(struct vsp_step *s, pid_t task);
/* In slurmstepd, after the last task: the container goes, and is waited for a little. */
void vsp_step_end(struct vsp_step *s);

/* ---- task.c: on the node, in a task ---- */

struct vsp_task {
	const struct vsp_site *site;
	const struct vsp_options *options;
	char *const *environment;
	const char *script; /* of a batch job, else NULL */
	uint32_t job;
	unsigned nodes; /* of the step */
	bool first;     /* of those, this one */
};
/* In a task, as the user, right before Slurm executes the program: the first one makes the container, all enter it.
 * *ret_changes: what is different inside, KEY=VALUE or KEY. */
int vsp_task_enter(struct vsp_step *s, const struct vsp_task *t, struct vl_strv *ret_changes, struct vl_err *err);
/* Is the caller the first task that has something to complain about? One of them is enough. */
bool vsp_task_tells(struct vsp_step *s);

/* ---- record.c: on the node, in slurmstepd ---- */

/* In slurmstepd, as root, after the last task: what is known of the step is noted where the site and the user want it. */
struct vsp_facts {
	uint32_t job, step, node_id;
	const char *node, *nodes, *gpus; /* NULL = not known, none */
	char *const *argv;
	int argc;
};
void vsp_record(const struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
		const struct vsp_user *u, const struct vsp_facts *f, struct vl_err *err);

/* ---- job.c: on the node, when a job has ended, as root ---- */

struct vsp_run {
	const char *cwd;
	int in, sock; /* its standard input and its VSP_SOCK; -1 = none. It has no others but stdout and stderr */
	int seconds;  /* then it is killed: a user, or a file system, could make it last, and slurmstepd with it */
	int until[2]; /* so it is when one of these can be read, as a pidfd can at the end of its process; -1 = none */
};
#define VSP_SOCK 3
/* Becomes the user in a child that becomes argv. Returns its exit status, 128 + signal; -ETIMEDOUT and -ECANCELED if it was
 * killed as above, or another -errno. */
int vsp_run_as(const struct vsp_user *u, const struct vsp_run *run, char *const *argv);
/* Where the job's containers with names are kept on this node; new. node: its name, NULL = it has none. */
char *vsp_job_word(uint32_t job, const char *node);
/* They go. */
int vsp_job_end(const struct vsp_site *site, uint32_t job, const char *node, const struct vsp_user *u,
		struct vl_err *err);

#endif
