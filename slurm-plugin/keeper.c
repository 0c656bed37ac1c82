/* The first task of a node makes the keeper, `vial hold`, which makes the container: its words, its environment, its start. */
#include "step.h"

#include <vial/rootless.h>

#include <fcntl.h>

struct keeper {
	const struct vsp_task *t;
	const struct vsp_step *step;
	struct vl_strv argv, env;
};

/* ---- its words ---------------------------------------------------------------------------------- */

/* The directory that a directory is in; returns new. NULL: it is "/", or one below that, which has more than we want. */
static char *parent_of(const char *dir)
{
	size_t n = strlen(dir);

	while (n && dir[n - 1] == '/')
		n--;
	while (n && dir[n - 1] != '/')
		n--;
	while (n && dir[n - 1] == '/')
		n--;
	VL_FREE char *parent = vl_strndup(dir, n);
	return strchr(parent + strspn(parent, "/"), '/') ? vl_steal(&parent) : NULL;
}

const char *vsp_server_files(const struct vsp_task *t)
{
	const char *dir = vl_env_value(t->environment, "PMIX_SERVER_TMPDIR");

	return dir && *dir == '/' && access(dir, F_OK) == 0 ? dir : NULL;
}

/* Where the MPI of the image looks for its server's files. Each step has a directory of its own for them in slurmd's spool
 * directory. A container with a name is for later steps too and shows that; what is others' in there is closed by its mode. */
static void add_server_files(const struct vsp_task *t, struct vl_strv *v)
{
	const char *dir = vsp_server_files(t);

	if (!dir)
		return;
	char *parent = t->options->value[VSP_NAME] ? parent_of(dir) : NULL;
	vl_strv_add(v, "--bind");
	vl_strv_take(v, parent ? parent : vl_strdup(dir));
}

/* slurmd's copy of it, in its spool directory. */
static void add_script(const struct vsp_task *t, struct vl_strv *v)
{
	if (!t->script)
		return;
	vl_strv_add(v, "--bind");
	vl_strv_take(v, vl_asprintf("%s::ro", t->script));
}

/* What of the container was asked for: a step that enters one that is there cannot have it otherwise. */
static void add_asked(const struct vsp_options *o, struct vl_strv *v)
{
	static const enum vsp_word words[] = { VSP_MOUNTS,        VSP_MOUNT_HOME,    VSP_NO_MOUNT_HOME, VSP_REMAP_ROOT,
					       VSP_NO_REMAP_ROOT, VSP_WRITABLE,      VSP_READONLY,      VSP_ENV,
					       VSP_ENTRYPOINT,    VSP_NO_ENTRYPOINT, VSP_UNSHARE,       VSP_MPI,
					       VSP_NO_MPI };

	for (size_t i = 0; i < VL_COUNT(words); i++) {
		const char *value = o->value[words[i]];
		if (value)
			vl_strv_take(v,
				     vl_asprintf("--asked=%s%s%s", vsp_rows[words[i]].name, *value ? "=" : "", value));
	}
}

/* Which directory it is on this node, of those that the user's jobs have. */
static void add_name(const struct vsp_task *t, struct vl_strv *v)
{
	const char *name = t->options->value[VSP_NAME];

	if (!name)
		return;
	VL_FREE char *job = vsp_job_word(t->job, vl_env_value(t->environment, "SLURMD_NODENAME"));
	vl_strv_take(v, vl_asprintf("--named=%s", name));
	vl_strv_take(v, vl_asprintf("--job-dir=%s", t->site->names));
	vl_strv_take(v, vl_asprintf("--job=%s", job));
	add_asked(t->options, v);
}

/* One node reads the image, the others are sent its copy. They have half of the time for that: then they read it, too. (What
 * Slurm says of the step's nodes to us is of a heterogeneous job's one component.) */
static void add_fanout(const struct vsp_task *t, struct vl_strv *v)
{
	if (!t->site->stage || !t->site->fanout || t->script)
		return;
	vl_strv_take(v, vl_asprintf("--fanout=%s", t->site->fanout));
	vl_strv_take(v, vl_asprintf("--fanout-wait=%ld", t->site->timeout / 2));
}

static int make_argv(struct keeper *k, struct vl_err *err)
{
	const struct vsp_task *t = k->t;
	const char *image = t->options->value[VSP_IMAGE];
	struct vl_strv *v = &k->argv;

	vl_strv_add(v, t->site->vial);
	vl_strv_add(v, "--quiet");
	vl_strv_add(v, "hold");
	vl_strv_add(v, "--fd");
	vl_strv_take(v, vl_asprintf("%d", k->step->keepers));
	vl_strv_add(v, "--wanted");
	vl_strv_take(v, vl_asprintf("%d", k->step->wanted));
	int r = vsp_options_words(t->site, t->options, v, err);
	add_name(t, v);
	add_fanout(t, v);
	if (t->site->records || t->options->value[VSP_RECORD])
		vl_strv_add(v, "--claims");
	add_server_files(t, v);
	add_script(t, v);
	vl_strv_add(v, "--");
	vl_strv_take(v, image ? vsp_image_name(image) : vl_strdup("-")); /* that of the name */
	return r;
}

/* ---- its environment ---------------------------------------------------------------------------- */

/* What has the dynamic linker load code is for the job's programs. What keeps the site's policy gets it by another name, as a
 * word of the container's environment. */
static bool loads_code(const char *kv)
{
	return vl_prefix(kv, "LD_") || vl_prefix(kv, "GCONV_PATH=") || vl_prefix(kv, "GLIBC_TUNABLES=");
}

/* The job's, and once more those that are stronger than the image. */
static void make_environment(struct keeper *k)
{
	const char *list = k->t->options->value[VSP_ENV] ? k->t->options->value[VSP_ENV] : "";

	for (char *const *e = k->t->environment; *e; e++)
		vl_strv_take(&k->env, vl_asprintf("%s%s", loads_code(*e) ? CTR_JOB_ENV : "", *e));
	while (*list) {
		size_t n = strcspn(list, ",");
		VL_FREE char *name = vl_strndup(list, n);
		/* HOME is the job's in any case */
		const char *value = n && !vl_streq(name, "HOME") ? vl_env_value(k->t->environment, name) : NULL;
		if (value)
			vl_strv_take(&k->env, vl_asprintf("VIALENV_%s=%s", name, value));
		list += n + (list[n] == ',');
	}
}

/* ---- its start ---------------------------------------------------------------------------------- */

/* slurmstepd's own, -1000, is not for us. */
static void be_killable(void)
{
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (score < 0)
		return;
	(void)!write(score, "0", 1);
	close(score);
}

/* Not a child of slurmstepd, which would wait for it, nor in a session of the task's. */
static void become_keeper(void *arg)
{
	const struct keeper *k = arg;
	struct vl_err err = { 0 };

	vl_reset_signals(); /* slurmstepd blocks most of them */
	be_killable();
	fcntl(k->step->keepers, F_SETFD, 0); /* not close-on-exec: the program's ends */
	fcntl(k->step->wanted, F_SETFD, 0);  /* not close-on-exec: see above */
	k->step->shared->keeper = getpid();
	execve(k->t->site->vial, k->argv.v, k->env.v);
	vl_fail_sys(&err, errno, "cannot run %s; the site's plugstack.conf names it", k->t->site->vial);
	vl_msg_send_err(k->step->keepers, &err);
}

void vsp_keeper_start(struct vsp_step *s, const struct vsp_task *t)
{
	struct keeper k = { .t = t, .step = s };
	struct vl_err err = { 0 };
	int r = make_argv(&k, &err);

	if (r == 0) {
		make_environment(&k);
		r = vl_exec_apart(become_keeper, &k);
		if (r < 0)
			vl_fail_sys(&err, -r, "cannot start a process");
	}
	if (r < 0)
		vl_msg_send_err(s->keepers, &err);
	vl_strv_free(&k.argv);
	vl_strv_free(&k.env);
}
