/* The SPANK plugin: which callback runs where, and what it may do there. One rule above all: what a user did wrong comes out
 * of task_init, which fails the step; from an earlier callback it would drain the node or be lost. */
#include "plugin.h"

#include <stdio.h>

#include <slurm/spank.h>

SPANK_PLUGIN(vial, 1) /* cppcheck-suppress unknownMacro */

#define BATCH_STEP 0xfffffffbu
/* Of the batch script: it was left little of the environment that sbatch had, so that what twins said there is kept for it. A
 * twin that it has, it may take back. */
#define TWINS_KEPT "SLURM_SPANK_VIAL_TWINS"
#define INTERACTIVE_STEP 0xfffffffau /* salloc's shell, on the job's first node */
#define EXTERN_STEP 0xfffffffcu      /* holds a job's processes together; has no tasks */

/* SPANK hands its callbacks no pointer of ours. */
static struct {
	struct vsp_site site;
	struct vsp_options options;
	/* where options are given: as Slurm tells them to the node; handed down to us; and is the next one the first of its kind
	 * on the command line, or of a component of a heterogeneous step's? */
	struct vsp_options passed, handed;
	struct vsp_options twins; /* what variables said to the command that started this one */
	bool again[VSP_WORDS];
	struct vsp_options first; /* what was given for the first component, once that is read */
	bool have_first;
	char *names[VSP_WORDS]; /* of the options; Slurm keeps pointers to some of it */
	struct vsp_step *step;  /* in slurmstepd, when a container was asked for */
	struct vl_err bad;      /* the site's words were not understood, or the job's environment */
	bool ready;             /* there is something to do here */
} vial;

static int say(const struct vl_err *err)
{
	slurm_error("vial: %s", err->text);
	return -1; /* before Slurm 25.05 only a negative number counts */
}

/* ---- options: wherever they are parsed ---------------------------------------------------------- */

/* srun's command line. That of sbatch follows the script's lines, which it beats: there the later of two values wins. */
static int take_given(enum vsp_word word, const char *value)
{
	struct vl_err err = { 0 };

	if (!vial.again[word] || (spank_context() == S_CTX_ALLOCATOR && !vsp_option_adds_up(word)))
		vsp_options_set(&vial.options, word, value);
	else if (vsp_options_add(&vial.options, word, value, &err) < 0)
		return say(&err);
	vsp_options_set(&vial.passed, word, value);
	vial.again[word] = true;
	return 0;
}

static int take_option(int word, const char *value, int remote)
{
	if (!remote)
		return take_given((enum vsp_word)word, value ? value : "");
	vsp_options_set(&vial.options, (enum vsp_word)word, value);
	return 0;
}

static int register_options(spank_t sp)
{
	for (int i = 0; i < VSP_WORDS; i++) {
		const struct vsp_row *row = &vsp_rows[i];
		vial.names[i] = vsp_option_name(&vial.site, (enum vsp_word)i);
		struct spank_option o = {
			.name = vial.names[i],
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

static const char *from_caller(void *arg, const char *name)
{
	(void)arg;
	return getenv(name);
}

/* Before Slurm looks: what is left in the environment it would take for options of this very command. */
static void take_handed(void)
{
	vsp_options_add_handed(&vial.handed, &vial.site, from_caller, NULL);
	if (spank_context() == S_CTX_LOCAL && getenv(TWINS_KEPT))
		vsp_options_add_twins(&vial.twins, from_caller, NULL);
	for (int i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *handed = vsp_handed_name(&vial.site, (enum vsp_word)i);
		VL_FREE char *passed = vsp_passed_name(&vial.site, (enum vsp_word)i);
		VL_FREE char *twin = vsp_twin_name((enum vsp_word)i);
		VL_FREE char *meant = vsp_meant_name((enum vsp_word)i);
		unsetenv(handed);
		unsetenv(passed);
		unsetenv(twin);
		if (meant)
			unsetenv(meant);
	}
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
	if (where != S_CTX_REMOTE)
		take_handed();
	return register_options(sp);
}

/* ---- submit host -------------------------------------------------------------------------------- */

/* What salloc or sbatch said and nobody said otherwise is for the node too, and for commands within the step. */
static void hand_on(const struct vsp_options *all)
{
	for (int i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *name = vsp_handed_name(&vial.site, (enum vsp_word)i);
		if (vial.handed.value[i] && all->value[i] && !vial.options.value[i])
			setenv(name, vial.handed.value[i], 1);
		else
			unsetenv(name);
	}
}

/* Slurm tells the node what was said last. */
static void tell_meant(spank_t sp, enum vsp_word word, const char *said, const char *meant)
{
	VL_FREE char *name = vsp_meant_name(word), *passed = vsp_passed_name(&vial.site, word);
	const char *last = vial.passed.value[word];

	unsetenv(name);
	if (last && meant && spank_context() == S_CTX_ALLOCATOR) { /* in variables alone; they can say it in full */
		setenv(passed, meant, 1);
		spank_job_control_setenv(sp, passed, meant, 1);
	} else if (said && meant && !vl_streq(last ? last : said, meant)) {
		VL_FREE char *text = vsp_meant_value(last ? last : said, meant);
		setenv(name, text, 1);
	}
}

/* Variables of --export's choice do not reach the node; these, Slurm takes for its own. */
static void tell_twins(const struct vsp_options *all, const bool *said)
{
	for (int i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *name = vsp_twin_name((enum vsp_word)i);
		if (all->value[i] && !said[i])
			setenv(name, all->value[i], 1);
		else
			unsetenv(name);
	}
}

/* Options and what is weaker: what was handed down, what the environment says. A relative path is one from here. */
static int read_request(spank_t sp, struct vsp_options *ret, struct vl_err *err)
{
	bool said[VSP_WORDS];

	vsp_options_add_weaker(ret, &vial.options);
	vsp_options_add_weaker(ret, &vial.handed);
	hand_on(ret);
	for (int i = 0; i < VSP_WORDS; i++)
		said[i] = ret->value[i] != NULL;
	int r = vsp_options_add_environment(ret, &vial.site, from_caller, NULL, err);
	vsp_options_add_weaker(ret, &vial.twins);
	for (int i = 0; i < VSP_WORDS; i++) {
		const char *value = ret->value[i];
		VL_FREE char *meant = i == VSP_IMAGE && value && *value ? vsp_image_name(value) : NULL;
		if (vsp_rows[i].arg)
			tell_meant(sp, (enum vsp_word)i, value, meant ? meant : value);
		if (meant)
			vsp_options_set(ret, VSP_IMAGE, meant);
	}
	tell_twins(ret, said);
	return r;
}

/* The components of a heterogeneous step are read one after the other, and Slurm keeps what was last said of a plugin's
 * option for all of them. */
static int check_component(struct vl_err *err)
{
	int r = 0;

	for (int i = 0; i < VSP_WORDS; i++) {
		const char *given = vial.again[i] ? vial.options.value[i] : NULL, *first = vial.first.value[i];
		if (given && !first && vial.have_first && vial.handed.value[i] && vl_streq(given, vial.handed.value[i]))
			given = NULL; /* Slurm has read what hand_on() wrote for the component before */
		if (!vial.have_first && given)
			vsp_options_set(&vial.first, (enum vsp_word)i, given);
		else if (vial.have_first && r == 0 && (!given != !first || (given && !vl_streq(given, first))))
			r = vl_fail(err, EINVAL,
				    "%s: the components of a step cannot have different containers; give "
				    "all of them the same options, or start a step for each",
				    vial.names[i]);
	}
	vial.have_first = true;
	memset(vial.again, 0, sizeof vial.again);
	return r;
}

static int check_request(spank_t sp, bool at_once)
{
	VL_CLEANUP(vsp_options_free) struct vsp_options all = { 0 };
	struct vl_err err = { 0 };
	const char *given = vsp_options_first(&vial.options); /* what the environment says in general needs no image */
	int r = read_request(sp, &all, &err), same = check_component(&err);

	if (same < 0)
		return say(&err);
	if (!vsp_options_wanted(&all) && !given)
		return 0;
	if (!vsp_options_wanted(&all))
		r = vl_fail(&err, EINVAL, "%s-%s without %s-image: there would be no container; name an image",
			    vial.site.prefix, given, vial.site.prefix);
	if (r == 0)
		r = vsp_submit(&vial.site, &all, at_once, &err);
	return r < 0 ? say(&err) : 0;
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
	struct vl_err err = { 0 };
	uint32_t id = 0;

	if (spank_get_item(sp, S_JOB_STEPID, &id) != ESPANK_SUCCESS || id == EXTERN_STEP)
		return;
	vsp_options_add_handed(&vial.options, &vial.site, from_job, &j);
	if (vsp_options_add_environment(&vial.options, &vial.site, from_job, &j, &err) < 0 && !vial.bad.code)
		vial.bad = err;
	if (vsp_options_add_twins(&vial.options, from_job, &j) && id == BATCH_STEP)
		spank_setenv(sp, TWINS_KEPT, "1", 1);
	vsp_options_complete(&vial.options, from_job, &j);
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
	if (where == S_CTX_LOCAL ||
	    where == S_CTX_ALLOCATOR) /* salloc and sbatch make a job, also within another one */
		return check_request(sp, where == S_CTX_LOCAL && getenv("SLURM_JOB_ID"));
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
	uint32_t tasks = 0;
	uid_t user = 0;
	pid_t task = 0;

	if (vial.step)
		vsp_step_forked(vial.step);
	if (!vial.step || spank_get_item(sp, S_TASK_PID, &task) != ESPANK_SUCCESS)
		return 0;
	if (vial.options.value[VSP_SAVE])
		vsp_step_watch(vial.step, task);
	if (spank_get_item(sp, S_JOB_LOCAL_TASK_COUNT, &tasks) == ESPANK_SUCCESS &&
	    spank_get_item(sp, S_JOB_UID, &user) == ESPANK_SUCCESS)
		vsp_step_guard(vial.step, task, tasks, user);
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
	gid_t *groups = NULL;
	int n = 0;

	if (spank_get_item(sp, S_JOB_SUPPLEMENTARY_GIDS, &groups, &n) == ESPANK_SUCCESS && n > 0) {
		ret->groups = groups;
		ret->n_groups = (size_t)n;
	}
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
	int status = 0;

	if (!vial.step || spank_get_item(sp, S_TASK_EXIT_STATUS, &status) != ESPANK_SUCCESS ||
	    spank_get_item(sp, S_JOB_LOCAL_TASK_COUNT, &tasks) != ESPANK_SUCCESS || !whose(sp, &u))
		return 0;
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
	f.node = getenv("SLURMD_NODENAME"); /* slurmstepd's own; the job's could be anything */
	if (!f.node)
		f.node = copy_of(sp, "SLURMD_NODENAME", node, sizeof node);
	if (f.node && strchr(f.node, '/'))
		f.node = NULL;
	/* those that Slurm sets for this kind of step; others are inherited from elsewhere, or the user's own */
	bool batch = f.step == BATCH_STEP || f.step == INTERACTIVE_STEP;
	f.nodes = copy_of(sp, batch ? "SLURM_JOB_NODELIST" : "SLURM_STEP_NODELIST", nodes, sizeof nodes);
	f.gpus = copy_of(sp, batch ? "SLURM_JOB_GPUS" : "SLURM_STEP_GPUS", gpus, sizeof gpus);
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
	vsp_options_free(&vial.passed);
	vsp_options_free(&vial.handed);
	vsp_options_free(&vial.twins);
	vsp_options_free(&vial.first);
	return 0;
}
