/* The SPANK plugin: which callback runs where, and what it may do there. One rule above all: what a user did wrong comes out
 * of task_init, which fails the step; from an earlier callback it would drain the node or be lost. */
#include "plugin.h"

#include <stdio.h>

#include <slurm/spank.h>

SPANK_PLUGIN(vial, 1) /* cppcheck-suppress unknownMacro */

#define BATCH_STEP 0xfffffffbu
#define EXTERN_STEP 0xfffffffcu /* holds a job's processes together; has no tasks */
#define NAME_MAX_LEN 64

/* SPANK hands its callbacks no pointer of ours. */
static struct {
	struct vsp_site site;
	struct vsp_options options;
	struct vsp_step *step; /* in slurmstepd, when a container was asked for */
	struct vl_err bad;     /* the site's words were not understood */
	bool ready;            /* there is something to do here */
} vial;

static int say(const struct vl_err *err)
{
	slurm_error("vial: %s", err->text);
	return -1; /* before Slurm 25.05 only a negative number counts */
}

/* ---- options: wherever they are parsed ---------------------------------------------------------- */

static int take_option(int word, const char *value, int remote)
{
	(void)remote;
	vsp_options_set(&vial.options, (enum vsp_word)word, value);
	return 0;
}

static int register_options(spank_t sp)
{
	for (int i = 0; i < VSP_WORDS; i++) {
		static char names[VSP_WORDS][NAME_MAX_LEN]; /* Slurm keeps pointers to some of it */
		const struct vsp_row *row = &vsp_rows[i];
		const char *rest = vl_prefix(row->name, "no-"); /* --no-container-mount-home, as in Pyxis */
		snprintf(names[i], sizeof names[i], "%s%s-%s", rest ? "no-" : "", vial.site.prefix,
			 rest ? rest : row->name);
		struct spank_option o = {
			.name = names[i],
			.arginfo = (char *)row->arg,
			.usage = (char *)row->help,
			.has_arg = row->arg != NULL,
			.val = i,
			.cb = take_option,
		};
		if (spank_option_register(sp, &o) != ESPANK_SUCCESS)
			return -1;
	}
	return 0;
}

int slurm_spank_init(spank_t sp, int argc, char **argv)
{
	enum spank_context where = spank_context();

	if (where != S_CTX_LOCAL && where != S_CTX_ALLOCATOR && where != S_CTX_REMOTE)
		return 0;
	/* a site's mistake must not drain its nodes: there, a container that is asked for fails in its task */
	if (vsp_site_read(argc, argv, &vial.site, &vial.bad) < 0 && where != S_CTX_REMOTE)
		return say(&vial.bad);
	vial.ready = true;
	return register_options(sp);
}

/* ---- submit host -------------------------------------------------------------------------------- */

static const char *from_caller(void *arg, const char *name)
{
	(void)arg;
	return getenv(name);
}

static int check_request(void)
{
	struct vl_err err = { 0 };
	const char *given = vsp_options_first(&vial.options); /* what the environment says in general needs no image */

	vsp_options_add_environment(&vial.options, from_caller, NULL);
	if (!vsp_options_wanted(&vial.options) && !given)
		return 0;
	if (!vsp_options_wanted(&vial.options)) {
		vl_fail(&err, EINVAL, "%s-%s without %s-image: there would be no container; name an image",
			vial.site.prefix, given, vial.site.prefix);
		return say(&err);
	}
	return vsp_submit(&vial.site, &vial.options, &err) < 0 ? say(&err) : 0;
}

/* ---- node --------------------------------------------------------------------------------------- */

struct job_env {
	spank_t sp;
	char value[65536]; /* a list of mounts can be long */
};

static const char *from_job(void *arg, const char *name)
{
	struct job_env *j = arg;

	return spank_getenv(j->sp, name, j->value, sizeof j->value) == ESPANK_SUCCESS ? j->value : NULL;
}

static void prepare_step(spank_t sp)
{
	struct job_env j = { .sp = sp };
	uint32_t id = 0;

	if (spank_get_item(sp, S_JOB_STEPID, &id) != ESPANK_SUCCESS || id == EXTERN_STEP)
		return;
	vsp_options_add_environment(&vial.options, from_job, &j);
	if (vsp_options_wanted(&vial.options))
		vial.step = vsp_step_new();
}

int slurm_spank_init_post_opt(spank_t sp, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	enum spank_context where = spank_context();

	if (!vial.ready)
		return 0;
	if (where == S_CTX_LOCAL || where == S_CTX_ALLOCATOR)
		return check_request();
	if (where == S_CTX_REMOTE)
		prepare_step(sp);
	return 0;
}

static void apply_changes(spank_t sp, const struct vl_strv *changes)
{
	for (size_t i = 0; i < changes->n; i++) {
		const char *kv = changes->v[i], *eq = strchr(kv, '=');
		VL_FREE char *key = vl_strndup(kv, eq ? (size_t)(eq - kv) : strlen(kv));
		if (eq)
			spank_setenv(sp, key, eq + 1, 1);
		else
			spank_unsetenv(sp, key);
	}
}

static const char *batch_script(spank_t sp)
{
	uint32_t id = 0;
	char **argv = NULL;
	int argc = 0;

	if (spank_get_item(sp, S_JOB_STEPID, &id) != ESPANK_SUCCESS || id != BATCH_STEP ||
	    spank_get_item(sp, S_JOB_ARGV, &argc, &argv) != ESPANK_SUCCESS || argc < 1 || argv[0][0] != '/')
		return NULL;
	return argv[0];
}

/* Called for the tasks one after the other, when all are forked. */
int slurm_spank_task_post_fork(spank_t sp, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	pid_t task = 0;

	if (vial.step)
		vsp_step_forked(vial.step);
	if (vial.step && vial.options.value[VSP_SAVE] && spank_get_item(sp, S_TASK_PID, &task) == ESPANK_SUCCESS)
		vsp_step_watch(vial.step, task);
	return 0;
}

int slurm_spank_task_init(spank_t sp, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	VL_STRV struct vl_strv changes = { 0 };
	struct vl_err err = { 0 };
	char **environment = NULL;
	uint32_t nodes = 0, node = 0;
	struct vsp_task t = { .site = &vial.site, .options = &vial.options };

	if (!vsp_options_wanted(&vial.options))
		return 0;
	if (spank_get_item(sp, S_JOB_ID, &t.job) == ESPANK_SUCCESS &&
	    spank_get_item(sp, S_JOB_NNODES, &nodes) == ESPANK_SUCCESS)
		t.nodes = nodes;
	t.first = spank_get_item(sp, S_JOB_NODEID, &node) == ESPANK_SUCCESS && node == 0;
	if (vial.bad.code)
		err = vial.bad;
	else if (!vial.step)
		vl_fail(&err, ENOMEM, "this node cannot prepare a container for the step");
	else if (spank_get_item(sp, S_JOB_ENV, &environment) != ESPANK_SUCCESS || !environment)
		vl_fail(&err, EINVAL, "the job has no environment");
	t.environment = environment;
	t.script = batch_script(sp);
	if (!err.code && vsp_task_enter(vial.step, &t, &changes, &err) == 0)
		apply_changes(sp, &changes);
	if (!err.code)
		return 0;
	if (vsp_task_tells(vial.step))
		say(&err);
	_exit(1); /* of the task. As slurmstepd would for a required plugin, after two lines more; an optional one it would
		   * pass over, and run the program on the host */
}

static bool whose(spank_t sp, struct vsp_user *ret)
{
	return spank_get_item(sp, S_JOB_UID, &ret->uid) == ESPANK_SUCCESS &&
	       spank_get_item(sp, S_JOB_GID, &ret->gid) == ESPANK_SUCCESS;
}

int slurm_spank_task_exit(spank_t sp, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	struct vl_err err = { 0 };
	struct vsp_user u = { 0 };
	uint32_t tasks = 0;
	gid_t *groups = NULL;
	int status = 0, n = 0;

	if (!vial.step || spank_get_item(sp, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS ||
	    spank_get_item(sp, S_JOB_LOCAL_TASK_COUNT, &tasks) != ESPANK_SUCCESS || !whose(sp, &u))
		return 0;
	if (spank_get_item(sp, S_JOB_SUPPLEMENTARY_GIDS, &groups, &n) == ESPANK_SUCCESS && n > 0) {
		u.groups = groups;
		u.n_groups = (size_t)n;
	}
	if (vsp_step_task_ended(vial.step, &vial.site, &vial.options, status, tasks, &u, &err) < 0)
		say(&err);
	return 0;
}

/* By slurmd, when nothing of the job is left on the node, also after scancel and time limits: what named containers have
 * kept between its steps goes. */
int slurm_spank_job_epilog(spank_t sp, int argc, char **argv)
{
	struct vl_err err = { 0 };
	struct vsp_site site;
	struct vsp_user u = { 0 };
	uint32_t job = 0;

	(void)vsp_site_read(argc, argv, &site, &err); /* nonsense beside it does not hide the directory */
	if (spank_get_item(sp, S_JOB_ID, &job) != ESPANK_SUCCESS || !whose(sp, &u))
		return 0;
	if (vsp_job_end(&site, job, getenv("SLURMD_NODENAME"), &u, &err) < 0)
		say(&err);
	return 0; /* another result would drain the node */
}

static const char *copy_of(spank_t sp, const char *name, char *buf, int size)
{
	return spank_getenv(sp, name, buf, size) == ESPANK_SUCCESS && *buf ? buf : NULL;
}

static void note_step(spank_t sp)
{
	static char node[256], nodes[65536], gpus[1024];
	struct vsp_facts f = { 0 };
	struct vsp_user u = { 0 };
	struct vl_err err = { 0 };
	char **argv = NULL;

	if (!whose(sp, &u) || spank_get_item(sp, S_JOB_ID, &f.job) != ESPANK_SUCCESS ||
	    spank_get_item(sp, S_JOB_STEPID, &f.step) != ESPANK_SUCCESS)
		return;
	spank_get_item(sp, S_JOB_NODEID, &f.node_id);
	if (spank_get_item(sp, S_JOB_ARGV, &f.argc, &argv) == ESPANK_SUCCESS)
		f.argv = argv;
	f.node = copy_of(sp, "SLURMD_NODENAME", node, sizeof node);
	f.nodes = copy_of(sp, "SLURM_STEP_NODELIST", nodes, sizeof nodes);
	if (!f.nodes)
		f.nodes = copy_of(sp, "SLURM_JOB_NODELIST", nodes, sizeof nodes);
	f.gpus = copy_of(sp, "SLURM_STEP_GPUS", gpus, sizeof gpus);
	if (!f.gpus)
		f.gpus = copy_of(sp, "SLURM_JOB_GPUS", gpus, sizeof gpus);
	vsp_record(vial.step, &vial.site, &vial.options, &u, &f, &err);
	if (err.code)
		say(&err);
}

int slurm_spank_exit(spank_t sp, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	if (vial.step) {
		note_step(sp);
		vsp_step_end(vial.step);
	}
	vial.step = NULL;
	vsp_options_free(&vial.options);
	return 0;
}
