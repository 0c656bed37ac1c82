/* What a container's program finds in its environment (cli-compat section 4), as far as it is known outside. */
#include "run.h"

#include <fcntl.h>

extern char **environ;

#define ENV_FILE_MAX (1u << 20) /* a list of variables */

static char *const *outside(const struct making *m)
{
	return m->p->environment ? m->p->environment : environ;
}

static int add_prefixed(const struct making *m)
{
	static const char *const prefixes[] = { "SINGULARITYENV_", "APPTAINERENV_", "VIALENV_" }; /* the later beats */

	for (size_t i = 0; i < VL_COUNT(prefixes); i++)
		for (char **e = environ; *e; e++) {
			const char *kv = vl_prefix(*e, prefixes[i]);
			bool beaten = false; /* asked for here, because PREPEND_PATH and its kin would add up */
			for (size_t k = i + 1; kv && k < VL_COUNT(prefixes); k++) {
				VL_FREE char *other = vl_asprintf("%s%.*s", prefixes[k], (int)strcspn(kv, "="), kv);
				beaten |= getenv(other) != NULL;
			}
			if (kv && *kv && *kv != '=' && !beaten && ctr_plan_set_env(m->p, kv, m->say, m->err) < 0)
				return -m->err->code;
		}
	return 0;
}

/* To the end of file, whatever it is: <(a command) is a pipe. */
static int read_env_file(const char *path, struct vl_buf *out, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDONLY | O_NOCTTY, 0, err);
	char b[4096];
	ssize_t n;

	if (fd < 0)
		return fd;
	vl_buf_adds(out, "");
	while ((n = read(fd, b, sizeof b)) != 0) {
		if (n < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot read %s", path);
		if (n > 0)
			vl_buf_add(out, b, (size_t)n);
		if (out->len > ENV_FILE_MAX)
			return vl_fail(err, EFBIG, "%s: a file of variables has at most %u bytes", path, ENV_FILE_MAX);
	}
	return 0;
}

static int add_files(const struct making *m)
{
	for (size_t i = 0; i < m->o->env_file.n; i++) {
		VL_BUF struct vl_buf text = { 0 };
		int r = read_env_file(m->o->env_file.v[i], &text, m->err);
		if (r < 0 ||
		    (r = ctr_plan_env_text(m->p, text.data, m->o->env_file.v[i], outside(m), m->say, m->err)) < 0)
			return r;
	}
	return 0;
}

static void add_fact(const struct making *m, const char *key, const char *value)
{
	static const char *const prefixes[] = { "APPTAINER", "SINGULARITY" };

	for (size_t i = 0; i < VL_COUNT(prefixes); i++)
		vl_strv_take(&m->p->env.fixed, vl_asprintf("%s_%s=%s", prefixes[i], key, value));
}

/* Where binds are: what a container started in this one shall bind again. */
static char *bind_places(const struct plan *p)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct plan_mount *m = &p->mounts[i];
		if (m->flags & (PLAN_DEFAULT | PLAN_NONESTED) || (m->kind != PLAN_BIND && m->kind != PLAN_IMAGE) ||
		    (m->why && vl_streq(m->why, "--workdir")))
			continue;
		vl_buf_adds(&b, b.len ? "," : "");
		for (const char *s = m->dst; *s; s++)
			vl_buf_addf(&b, "%s%c", *s == ',' || *s == ':' ? "\\" : "", *s);
	}
	return vl_steal(&b.data);
}

static void add_facts(const struct making *m)
{
	VL_FREE char *binds = bind_places(m->p);
	const char *prompt = m->c->profile == PROFILE_APPTAINER ? "Apptainer> " : "vial> ";
	const char *path = getenv("PATH");
	struct vl_strv *fixed = &m->p->env.fixed;

	add_fact(m, "CONTAINER", m->p->image_path);
	add_fact(m, "NAME", vl_basename(m->p->image_path));
	add_fact(m, "BIND", binds);
	add_fact(m, "APPNAME", m->p->app ? m->p->app : "");
	add_fact(m, "ENVIRONMENT", "/.singularity.d/env/91-environment.sh");
	const char *space = strchr(m->c->cmd->name, ' '); /* of "instance start", the last */
	vl_strv_take(fixed, vl_asprintf("APPTAINER_COMMAND=%s", space ? space + 1 : m->c->cmd->name));
	vl_strv_take(fixed, vl_asprintf("USER_PATH=%s", path ? path : ""));
	vl_strv_take(fixed, vl_asprintf("PS1=%s", prompt));
	vl_strv_take(fixed, vl_asprintf("PROMPT_COMMAND=PS1=\"%s\"; unset PROMPT_COMMAND", prompt));
	if (m->o->no_eval)
		add_fact(m, "NO_EVAL", "1");
}

/* -e is all of it, but one who also asks for the scheduler's variables gets them. */
static int clean_level(const struct making *m, enum plan_clean *ret)
{
	static const char *const words[] = { "none", "host-dev", "all-but-scheduler", "all" };

	*ret = CTR_CLEAN_NONE;
	for (size_t i = 0; m->o->clean && i < VL_COUNT(words); i++)
		if (vl_streq(m->o->clean, words[i]))
			*ret = (enum plan_clean)i;
	if (m->o->clean && !vl_streq(m->o->clean, words[*ret]))
		return vl_fail(m->err, EINVAL, "--clean is none, host-dev, all-but-scheduler or all, not '%s'",
			       m->o->clean);
	if (m->o->cleanenv && *ret != CTR_CLEAN_BUT_SCHEDULER)
		*ret = CTR_CLEAN_ALL;
	return 0;
}

int cmd_plan_env(const struct making *m)
{
	enum plan_clean level;
	int r = clean_level(m, &level);

	if (r < 0)
		return r;
	ctr_plan_host_env(m->p, outside(m), level, &m->o->no_env);
	if ((r = add_prefixed(m)) < 0 || (r = add_files(m)) < 0)
		return r;
	for (size_t i = 0; i < m->o->env.n; i++)
		if ((r = ctr_plan_set_env(m->p, m->o->env.v[i], m->say, m->err)) < 0)
			return r;
	add_facts(m);
	return 0;
}
