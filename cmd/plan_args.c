/* From the words of a command line to a plan: the image, the program and the manner; files and environment are in
 * plan_files.c and plan_env.c. */
#include "policy.h"
#include "run.h"

/* --compat and its kin are words for several others. */
static void spread(struct action_opts *o)
{
	o->compat |= o->oci_defaults;
	if (o->compat) {
		o->containall = o->no_umask = o->no_eval = true;
		o->writable_tmpfs |= !o->writable;
	}
	if (o->containall)
		o->contain = o->cleanenv = true;
}

/* ---- program -------------------------------------------------------------------------------------- */

/* ENTRYPOINT and CMD of the image, for an image that has no shell to run its runscript with. */
static void set_default_program(const struct making *m, const vl_json *config, int argc, char **argv)
{
	const vl_json *lists[] = { vl_json_arr(config, "Entrypoint"), !argc ? vl_json_arr(config, "Cmd") : NULL };

	for (size_t i = 0; i < VL_COUNT(lists); i++)
		for (size_t k = 0; lists[i] && k < vl_json_len(lists[i]); k++)
			if (vl_json_string(vl_json_at(lists[i], k)))
				vl_strv_add(&m->p->run_default, vl_json_string(vl_json_at(lists[i], k)));
	for (int i = 0; i < argc; i++)
		vl_strv_add(&m->p->run_default, argv[i]);
}

/* For who comes in by himself: what its ENTRYPOINT does to the environment. An image without one needs nothing. */
static void set_entrypoint(const struct making *m, const vl_json *config)
{
	const vl_json *words = vl_json_arr(config, "Entrypoint");

	for (size_t k = 0; words && k < vl_json_len(words); k++)
		if (vl_json_string(vl_json_at(words, k)))
			vl_strv_add(&m->p->run_default, vl_json_string(vl_json_at(words, k)));
	m->p->entrypoint = m->p->run_default.n > 0;
	m->p->entrypoint_log = m->o->entrypoint_log;
}

/* What the image's OCI configuration says; *ret_workdir is new or NULL. */
static int use_config(const struct making *m, int argc, char **argv, char **ret_workdir)
{
	VL_JSON vl_json *j = NULL;

	if (!m->image->config)
		return 0;
	int r = vl_json_parse(m->image->config, strlen(m->image->config), "the image's configuration", &j, m->err);
	if (r < 0)
		return r;
	const vl_json *config = vl_json_obj(j, "config"); /* a whole image configuration, or this part alone */
	if (!config)
		config = j;
	if (m->p->action == PLAN_RUN)
		set_default_program(m, config, argc, argv);
	if (m->p->action == PLAN_KEEP && m->o->entrypoint)
		set_entrypoint(m, config);
	const char *workdir = vl_json_str(config, "WorkingDir");
	if (workdir && *workdir == '/' && !vl_streq(workdir, "/"))
		*ret_workdir = vl_strdup(workdir);
	return 0;
}

void cmd_plan_manners(const struct making *m)
{
	struct plan *p = m->p;

	p->writable = m->o->writable && p->image == PLAN_DIRECTORY;
	p->writable_tmpfs = m->o->writable_tmpfs;
	p->private_mount =
		m->o->private_mount || (m->image && m->image->decrypted); /* inside of a container there is no image */
	p->shell = m->o->shell ? vl_strdup(m->o->shell) : NULL;
	p->umask = m->o->no_umask ? 022 : -1;
	p->env.libs = p->env.libs_last = m->c->profile == PROFILE_APPTAINER;
	p->env.eval = m->c->profile == PROFILE_APPTAINER && !m->o->no_eval;
	if (m->c->profile == PROFILE_APPTAINER)
		p->status_missing = p->status_denied = EXIT_OWN_COMPAT;
	if (m->o->containall)
		p->namespaces |= PLAN_NS_PID | PLAN_NS_IPC;
	p->no_init |= m->o->compat;
	if (m->o->underlay)
		vl_progress_note(m->say, "--underlay is not needed: missing places are made without it");
	if (m->o->unsquash)
		vl_progress_note(m->say, "--unsquash is not needed: the image is mounted without setuid programs");
}

/* An app's name is a part of paths, and of a text that a shell reads. */
int cmd_plan_app(const struct making *m)
{
	const char *app = m->o->app;

	if (!app || !*app)
		return 0;
	for (const char *s = app; *s; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') && !(*s >= '0' && *s <= '9') &&
		    !strchr("._+-", *s))
			return vl_fail(m->err, EINVAL, "--app: a name has letters, digits, '.', '_', '+' and '-' only");
	if (*app == '.')
		return vl_fail(m->err, EINVAL, "--app: a name does not begin with a dot");
	m->p->app = vl_strdup(app);
	return 0;
}

/* Overlays of the command line; those inside a SIF are parts of it. */
static int ask_policy_of_overlays(struct cmd_ctx *c, const struct plan *p, struct vl_err *err)
{
	static const enum pol_kind kinds[] = {
		[PLAN_LAYER_DIR] = POL_DIRECTORY, [PLAN_LAYER_SQUASHFS] = POL_SQUASHFS, [PLAN_LAYER_EXT3] = POL_EXT3
	};
	int r = 0;

	for (size_t i = 0; i < p->n_overlays && r == 0; i++) {
		const struct plan_overlay *o = &p->overlays[i];
		const struct policy_image q = {
			.fd = o->fd, .kind = kinds[o->kind], .use = POL_OVERLAY, .name = o->path
		};
		if (!o->off)
			r = cmd_policy_ask(c, &q, NULL, err);
	}
	return r;
}

int cmd_make_plan(struct cmd_ctx *c, struct action_opts *o, const struct action_image *image, enum plan_action action,
		  int argc, char **argv, const struct vl_progress *say, struct plan *p, struct vl_err *err)
{
	struct making m = { c, o, image, say, p, err };
	VL_FREE char *workdir = NULL;
	int r;

	spread(o);
	p->image = image->kind;
	p->image_fd = image->fd;
	p->image_off = image->off;
	p->image_size = image->size;
	p->image_path = vl_strdup(image->path);
	p->front = image->front;
	p->n_front = image->n_front;
	p->tree = &image->tree;
	p->log = image->log;
	p->log_mark = image->log_mark;
	p->action = action;
	for (int i = 0; i < argc; i++)
		vl_strv_add(&p->argv, argv[i]);
	cmd_plan_manners(&m);
	if ((r = cmd_server_opts_read(&o->server, &p->server_memory, &p->server_threads, err)) < 0 ||
	    (r = cmd_plan_overlays(o, image, say, p, err)) < 0 || (r = ask_policy_of_overlays(c, p, err)) < 0)
		return r;
	ctr_plan_ask_user(p);
	if ((r = cmd_plan_app(&m)) < 0 || (r = use_config(&m, argc, argv, &workdir)) < 0 ||
	    (r = cmd_plan_identity(c, o, p, err)) < 0)
		return r;
	bool wanted = c->profile == PROFILE_VIAL || o->oci_defaults;
	if ((r = cmd_plan_files(&m, wanted ? workdir : NULL)) < 0)
		return r;
	if (workdir && p->keep_fd >= 0)
		vl_strv_take(&p->env.set, vl_asprintf(CTR_WORKDIR "=%s", workdir));
	if (image->claims)
		vl_strv_take(&p->env.set, vl_asprintf(CTR_CLAIMS "=%s", image->claims));
	if (o->asked.n) {
		VL_FREE char *asked = cmd_named_asked(o);
		vl_strv_take(&p->env.set, vl_asprintf(CTR_ASKED "=%s", asked));
	}
	if ((r = cmd_plan_gpu(&m)) < 0 || (r = cmd_plan_mpi(&m)) < 0 ||
	    (r = cmd_plan_isolation(&o->iso, say, p, err)) < 0)
		return r;
	return (r = cmd_plan_cdi(&m)) < 0 ? r : cmd_plan_env(&m);
}
