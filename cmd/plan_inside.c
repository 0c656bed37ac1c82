/* The plan of a program in an instance: what is so because the instance is, and what this one start says. */
#include "run.h"

/* Options whose effect is on processes, not on the container: who comes in must be under them too. */
static const struct {
	const char *word;
	size_t off;
} flags[] = {
	{ "fakeroot", offsetof(struct action_opts, fakeroot) },
	{ "ignore-subuid", offsetof(struct action_opts, ignore_subuid) },
	{ "keep-privs", offsetof(struct action_opts, keep_privs) },
	{ "no-privs", offsetof(struct action_opts, no_privs) },
}, lists[] = {
	{ "security=", offsetof(struct action_opts, security) },
	{ "add-caps=", offsetof(struct action_opts, add_caps) },
	{ "drop-caps=", offsetof(struct action_opts, drop_caps) },
};

void cmd_identity_words(const struct action_opts *o, struct vl_strv *ret)
{
	for (size_t i = 0; i < VL_COUNT(flags); i++)
		if (*(const bool *)((const char *)o + flags[i].off))
			vl_strv_add(ret, flags[i].word);
	for (size_t i = 0; i < VL_COUNT(lists); i++) {
		const struct vl_strv *l = (const struct vl_strv *)(const void *)((const char *)o + lists[i].off);
		for (size_t k = 0; k < l->n; k++) {
			const char *file = vl_prefix(l->v[k], "seccomp:");
			VL_FREE char *path = file ? vl_path_absolute(file) : NULL; /* others start elsewhere */
			vl_strv_take(ret, vl_asprintf("%s%s%s", lists[i].word, path ? "seccomp:" : "",
						      path ? path : l->v[k]));
		}
	}
}

static void take_words(const struct vl_strv *words, struct action_opts *o)
{
	for (size_t n = 0; n < words->n; n++) {
		for (size_t i = 0; i < VL_COUNT(flags); i++)
			if (vl_streq(words->v[n], flags[i].word))
				*(bool *)((char *)o + flags[i].off) = true;
		for (size_t i = 0; i < VL_COUNT(lists); i++) {
			const char *value = vl_prefix(words->v[n], lists[i].word);
			if (value)
				vl_strv_add((struct vl_strv *)(void *)((char *)o + lists[i].off), value);
		}
	}
}

void cmd_add_instance(struct plan *p, const char *name)
{
	vl_strv_take(&p->env.fixed, vl_asprintf("APPTAINER_INSTANCE=%s", name));
	vl_strv_take(&p->env.fixed, vl_asprintf("SINGULARITY_INSTANCE=%s", name));
}

static void choose_cwd(const struct action_opts *o, struct plan *p)
{
	VL_FREE char *cwd = getcwd(NULL, 0);
	const char *logical = cmd_logical_cwd();

	if (o->cwd) {
		vl_strv_take(&p->cwd, vl_asprintf("%s%s", *o->cwd == '/' ? "" : "/", o->cwd));
		p->cwd_must = true;
		return;
	}
	if (logical)
		vl_strv_add(&p->cwd, logical);
	if (cwd && *cwd == '/')
		vl_strv_add(&p->cwd, cwd);
}

int cmd_make_inside_plan(struct cmd_ctx *c, struct action_opts *o, const struct ctr_instance *i,
			 enum plan_action action, int argc, char **argv, const struct vl_progress *say, struct plan *p,
			 struct vl_err *err)
{
	struct making m = { c, o, NULL, say, p, err };
	int r;

	p->image_path = vl_strdup(i->image);
	p->action = action;
	for (int n = 0; n < argc; n++)
		vl_strv_add(&p->argv, argv[n]);
	take_words(&i->identity, o);
	cmd_plan_manners(&m);
	ctr_plan_ask_user(p);
	if (i->home && *i->home) {
		free(p->user.home);
		p->user.home = vl_strdup(i->home);
	}
	if ((r = cmd_plan_app(&m)) < 0 || (r = cmd_plan_identity(c, o, p, err)) < 0)
		return r;
	choose_cwd(o, p);
	if ((r = cmd_plan_env(&m)) < 0)
		return r;
	cmd_add_instance(p, i->name);
	return 0;
}
