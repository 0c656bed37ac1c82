/* `vial config`: every value that is set, and by whom. Its output is a configuration file again. */
#include "commands.h"
#include "run.h"

#include <stdio.h>

#define O(f) offsetof(struct cmd_config_opts, f)
const struct opt cmd_config_opts[] = {
	{ 0, "show", OPT_FLAG, O(show), NULL, "print the settings and where each comes from (what it does anyway)",
	  NULL, 0 },
	{ 0, "keys", OPT_FLAG, O(keys), NULL, "print every key there is, and what it does", NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print the settings as JSON", NULL, 0 },
	OPT_END,
};
#undef O

struct listing {
	bool keys;     /* the keys that exist, not those that are set */
	vl_json *json; /* NULL: as text */
	struct vl_strv known;
};

static void put(struct listing *l, const char *key, const char *value, const char *origin)
{
	if (!l->json) {
		printf("# %s\n%s = %s\n", origin, key, value);
		return;
	}
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json_set(j, "key", vl_json_new_str(key));
	vl_json_set(j, "value", vl_json_new_str(value));
	vl_json_set(j, "origin", vl_json_new_str(origin));
	vl_json_add(l->json, vl_json_ref(j));
}

static bool is_list(const struct opt *o)
{
	return o->type == OPT_LIST || o->type == OPT_LINES || o->type == OPT_ENV;
}

/* One line each, where a variable holds several. */
static void put_lines(struct listing *l, const struct opt *o, const char *key, const char *value, const char *origin)
{
	while (*value) {
		size_t n = o->type == OPT_LINES ? strcspn(value, "\n") : strlen(value);
		VL_FREE char *one = vl_strndup(value, n);
		if (n)
			put(l, key, one, origin);
		value += n + (value[n] == '\n');
	}
}

/* The twins of an option that are set; of other things than lists only the first counts. */
static bool put_environment(struct listing *l, const struct opt *o, const char *key)
{
	static const char *const prefixes[] = { "VIAL_", "APPTAINER_", "SINGULARITY_" };
	VL_FREE char *twins = vl_strdup(o->env);
	bool any = false;

	for (char *save, *t = strtok_r(twins, " ", &save); t && (!any || is_list(o)); t = strtok_r(NULL, " ", &save))
		for (size_t i = 0; i < VL_COUNT(prefixes); i++) {
			VL_FREE char *name = vl_asprintf("%s%s", prefixes[i], t);
			const char *v = getenv(name);
			if (!v)
				continue;
			put_lines(l, o, key, v, name);
			any |= *v != 0;
			break; /* a later prefix is not looked at */
		}
	return any;
}

static void put_files(struct listing *l, const struct opt *o, const struct opt_config *config, const char *key)
{
	const struct opt_setting *last = NULL;

	for (size_t i = 0; i < config->n; i++) {
		const struct opt_setting *s = &config->v[i];
		if (!opt_config_has(s, o))
			continue;
		if (last && is_list(o)) {
			VL_FREE char *where = vl_asprintf("%s:%u", last->file, last->line);
			put(l, key, last->value, where);
		}
		last = s;
	}
	if (last) {
		VL_FREE char *where = vl_asprintf("%s:%u", last->file, last->line);
		put(l, key, last->value, where);
	}
}

static bool is_known(const struct listing *l, const char *key)
{
	for (size_t i = 0; i < l->known.n; i++)
		if (vl_streq(l->known.v[i], key))
			return true;
	return false;
}

static void put_table(struct listing *l, const struct opt *opts, const struct opt_config *config)
{
	for (const struct opt *o = opts; o && o->name; o++) {
		if (!o->env || o->flags & (OPT_SECRET | OPT_HIDDEN))
			continue;
		VL_FREE char *key = opt_config_key(o->env);
		if (is_known(l, key))
			continue;
		if (l->keys)
			printf("%s = %s\t%s\n", key, o->arg ? o->arg : "yes|no", o->help);
		else if (!put_environment(l, o, key) || is_list(o))
			put_files(l, o, config, key);
		vl_strv_take(&l->known, vl_steal(&key));
	}
}

static void put_defaults(struct cmd_ctx *c, struct listing *l)
{
	struct vl_err err = { 0 };
	struct store_settings s;

	if (cmd_store_settings_get(c, &s, &err) == 0) {
		if (!s.given_dir)
			put(l, "cachedir", s.dir, "default");
		cmd_store_settings_free(&s);
	}
}

/* A key that no option has does nothing: most likely a typing mistake. */
static void warn_unknown(struct cmd_ctx *c, const struct listing *l)
{
	for (size_t i = 0; i < c->config->n; i++) {
		const struct opt_setting *s = &c->config->v[i];
		if (is_known(l, s->key))
			continue;
		const char *near = opt_nearest(s->key, (const char *const *)l->known.v, l->known.n);
		vl_logf(&c->log, VL_WARNING,
			near ? "%s:%u: unknown key '%s'; did you mean '%s'?" : "%s:%u: unknown key '%s'", s->file,
			s->line, s->key, near);
	}
}

int cmd_config_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_config_opts *o = opts;
	struct listing l = { .keys = o->keys, .json = o->json && !o->keys ? vl_json_new_arr() : NULL };

	(void)self, (void)argc, (void)argv;
	put_table(&l, cmd_store_settings, c->config);
	put_table(&l, cmd_action_opts, c->config);
	for (size_t i = 0; i < n_commands; i++)
		put_table(&l, commands[i].opts, c->config);
	if (!o->keys)
		put_defaults(c, &l);
	if (l.json) {
		VL_FREE char *text = vl_json_text(l.json, true);
		puts(text);
	}
	warn_unknown(c, &l);
	vl_strv_free(&l.known);
	vl_json_freep(&l.json);
	return 0;
}
