/* exec, run, shell and test in an instance: IMAGE is instance://NAME. */
#include "run.h"

/* Options that say how a container is made say nothing to one that is there. What asks for them in the environment is
 * meant for others; what is on the command line is not passed over in silence. */
static const size_t applied[] = {
#define A(f) offsetof(struct action_opts, f)
	A(env),       A(env_file),    A(no_env),   A(cwd),       A(shell),         A(cleanenv),
	A(no_eval),   A(no_umask),    A(ignored),  A(restart),   A(pid_file),      A(clean),
	A(app),       A(underlay),    A(unsquash), A(fakeroot),  A(ignore_subuid), A(keep_privs),
	A(no_privs),  A(security),    A(add_caps), A(drop_caps), A(allow_setuid),  A(fd),
	A(verify.on), A(verify.keys),
#undef A
};

static bool is_applied(size_t off)
{
	for (size_t i = 0; i < VL_COUNT(applied); i++)
		if (applied[i] == off)
			return true;
	return off >= offsetof(struct action_opts, net) &&
	       off < offsetof(struct action_opts, net) + sizeof(struct net_opts);
}

static bool is_set(const struct opt *t, const void *values)
{
	const char *v = (const char *)values + t->off;

	switch (t->type) {
	case OPT_FLAG:
	case OPT_NOFLAG:
		return *(const bool *)v;
	case OPT_STR:
		return *(const char *const *)v;
	case OPT_U64:
		return *(const uint64_t *)v;
	case OPT_LIST:
	case OPT_LINES:
	case OPT_ENV:
		return ((const struct vl_strv *)(const void *)v)->n > 0;
	default: /* refused before */
		return false;
	}
}

static bool has_twin(const struct opt *t)
{
	VL_FREE char *keys = vl_strdup(t->env ? t->env : "");

	for (char *save, *k = strtok_r(keys, " ", &save); k; k = strtok_r(NULL, " ", &save))
		if (opt_getenv(k))
			return true;
	return false;
}

static void warn_unused(const struct action_opts *o, const struct vl_progress *say)
{
	for (const struct opt *t = cmd_action_opts; t->name; t++)
		if (!is_applied(t->off) && is_set(t, o) && !has_twin(t))
			vl_progress_warn(say, "--%s has no effect: the instance is there already, as it was started",
					 t->name);
}

static bool is_among(const char *key, const struct vl_strv *given)
{
	bool found = false;

	for (size_t i = 0; i < given->n; i++) {
		VL_FREE char *path = vl_path_absolute(given->v[i]);
		found |= path && vl_streq(path, key);
	}
	return found;
}

/* It was verified when it was started, or never: by keys that are all among those who may sign, where any are named. */
static int check_verified(const struct cmd_ctx *c, const struct action_opts *o, const struct ctr_instance *i,
			  struct vl_err *err)
{
	if (!o->verify.on)
		return 0;
	if (!i->verified.n)
		return vl_fail(err, EKEYREJECTED,
			       "--verify: instance %s was started without it, and its image is not checked; first: "
			       "%s instance stop %s, then %s instance start --verify --verify-key KEY.pub.pem IMAGE %s",
			       i->name, c->self, i->name, c->self, i->name);
	for (size_t k = 0; o->verify.keys.n && k < i->verified.n; k++)
		if (!is_among(i->verified.v[k], &o->verify.keys))
			return vl_fail(
				err, EKEYREJECTED,
				"--verify: instance %s was started with the keys of %s, which are none of those of "
				"--verify-key",
				i->name, i->verified.v[k]);
	return 0;
}

int cmd_start_inside(struct cmd_ctx *c, struct action_opts *o, enum plan_action action, const char *name, int argc,
		     char **argv)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	CTR_DOOR struct ctr_door door = CTR_DOOR_INIT;
	PLAN struct plan plan = PLAN_INIT;
	struct vl_progress say = cmd_action_say(c);
	struct vl_err err = { 0 };
	int status = 0;

	warn_unused(o, &say); /* before words like --compat become others */
	int r = ctr_instance_door(name, &i, &door, &err);
	if (r == 0)
		r = check_verified(c, o, &i, &err);
	if (r == 0)
		r = cmd_make_inside_plan(c, o, &i, action, argc, argv, &say, &plan, &err);
	opt_forget_secrets();
	if (r == 0)
		r = ctr_run_inside(&plan, &door, NULL, &say, &status, &err);
	return cmd_action_failed(c, action, r, status, &err);
}
