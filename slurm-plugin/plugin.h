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
	VSP_MOUNT_HOME,
	VSP_NO_MOUNT_HOME,
	VSP_REMAP_ROOT,
	VSP_NO_REMAP_ROOT,
	VSP_WRITABLE,
	VSP_READONLY,
	VSP_ENV,
	VSP_ENTRYPOINT,
	VSP_NO_ENTRYPOINT,
	VSP_UNSHARE,
	VSP_WORDS
};
struct vsp_row {
	const char *name, *arg, *help; /* name without the prefix; arg NULL for a flag */
};
extern const struct vsp_row vsp_rows[VSP_WORDS];

struct vsp_options {
	char *value[VSP_WORDS]; /* owned; "" for a flag that was given, NULL = not said */
};
/* The later value wins: up to Slurm 23.11 every option arrives twice on the node. */
void vsp_options_set(struct vsp_options *o, enum vsp_word word, const char *value);
/* Words that were not given, from the environment: VIAL_CONTAINER_MOUNTS for "mounts", else PYXIS_CONTAINER_MOUNTS. get is
 * asked for each. */
void vsp_options_add_environment(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg);
void vsp_options_free(struct vsp_options *o);
/* The image as `vial` takes it: a path stays one, [USER@][REGISTRY#]NAME[:TAG] becomes docker://REGISTRY/NAME[:TAG].
 * Returns new. */
char *vsp_image_name(const char *word);
/* The options as `vial hold` takes them, checked. -EINVAL. */
struct vsp_site;
int vsp_options_words(const struct vsp_site *site, const struct vsp_options *o, struct vl_strv *ret,
		      struct vl_err *err);

/* ---- site.c: what plugstack.conf says after the plugin's name ---- */

struct vsp_site {
	const char *prefix; /* of the options; "container" */
	const char *vial;   /* the program; absolute */
	const char *mounts; /* in every container, in the user's form; NULL = none */
	long timeout;       /* seconds that a container may take to be there, its conversion included */
	bool check;         /* look at images before a job is queued */
};
/* On failure, which is told of the first word, the others are there nevertheless. */
int vsp_site_read(int argc, char **argv, struct vsp_site *ret, struct vl_err *err);

/* ---- submit.c: on the submit host, as the user ---- */

/* Can this be? A registry's image is fetched into the store now, and once, not by every node. */
int vsp_submit(const struct vsp_site *site, const struct vsp_options *o, struct vl_err *err);

/* ---- step.c: on the node ---- */

/* In slurmstepd, before any task: what the tasks will share. Cannot fail because of the user: that would drain the node. */
struct vsp_step;
struct vsp_step *vsp_step_new(void); /* NULL: no memory, no descriptors */
/* In a task, as the user, right before Slurm executes the program: the first one makes the container, all enter it.
 * environment: the task's. script: of a batch job, else NULL. *ret_changes: what is different inside, KEY=VALUE or KEY. */
int vsp_step_enter(struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
		   char *const *environment, const char *script, struct vl_strv *ret_changes, struct vl_err *err);
/* In slurmstepd, when all tasks are forked. */
void vsp_step_forked(struct vsp_step *s);
/* Is the caller the first task that has something to complain about? One line is enough for all of them. */
bool vsp_step_tells(struct vsp_step *s);
/* In slurmstepd, after the last task: the container goes, and is waited for a little. */
void vsp_step_end(struct vsp_step *s);

#endif
