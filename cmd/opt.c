#include "cmd.h"

#include <ctype.h>
#include <stdio.h>

extern char **environ;

static void *at(const struct opt *o, void *values)
{
	return (char *)values + o->off;
}

/* A comma in --env separates only when an identifier and '=' follow: V=a,b keeps its comma. */
static bool starts_assignment(const char *s)
{
	if (!isalpha((unsigned char)*s) && *s != '_')
		return false;
	while (isalnum((unsigned char)*s) || *s == '_')
		s++;
	return *s == '=';
}

/* Without the blanks around it, which a file may have for its reader's sake. */
static void add_trimmed(struct vl_strv *l, const char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	size_t n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	if (n)
		vl_strv_take(l, vl_strndup(s, n));
}

static void add_split(struct vl_strv *l, const char *v, bool env)
{
	VL_BUF struct vl_buf b = { 0 };

	for (;; v++) {
		if (*v == '\\' && v[1] == ',' && !env) {
			/* the bind grammar unescapes; here it only must not split */
			vl_buf_add(&b, v, 2);
			v++;
		} else if (!*v || (*v == ',' && (!env || starts_assignment(v + 1)))) {
			if (b.len)
				vl_strv_add(l, b.data);
			b.len = 0;
			if (!*v)
				return;
		} else {
			vl_buf_add(&b, v, 1);
		}
	}
}

static void add_lines(struct vl_strv *l, const char *v)
{
	while (*v) {
		size_t n = strcspn(v, "\n");
		if (n)
			vl_strv_take(l, vl_strndup(v, n));
		v += n + (v[n] == '\n');
	}
}

static int parse_bool(const char *v, bool *ret)
{
	static const char *const yes[] = { "true", "1", "yes", "on", "t" };
	static const char *const no[] = { "false", "0", "no", "off", "f", "" };

	for (size_t i = 0; i < VL_COUNT(yes); i++)
		if (!strcasecmp(v, yes[i]))
			return *ret = true, 0;
	for (size_t i = 0; i < VL_COUNT(no); i++)
		if (!strcasecmp(v, no[i]))
			return *ret = false, 0;
	return -EINVAL;
}

static int set(const struct opt *o, void *values, const char *v, const char *spelled, struct vl_err *err)
{
	bool b = true;

	switch (o->type) {
	case OPT_FLAG:
	case OPT_NOFLAG:
		if (v && parse_bool(v, &b) < 0)
			return vl_fail(err, EINVAL, "%s takes true or false, not '%s'", spelled, v);
		*(bool *)at(o, values) = o->type == OPT_FLAG ? b : !b;
		break;
	case OPT_STR:
		*(const char **)at(o, values) = v;
		break;
	case OPT_LIST:
		if (o->flags & OPT_SOME && !v[strspn(v, ",")])
			return vl_fail(err, EINVAL, "%s takes %s, not '%s'", spelled, o->arg, v);
		add_split(at(o, values), v, false);
		break;
	case OPT_ENV:
		add_split(at(o, values), v, true);
		break;
	case OPT_LINES:
		vl_strv_add(at(o, values), v);
		break;
	case OPT_REFUSED:
		if (v && parse_bool(v, &b) == 0 && !b)
			return 0;
		return vl_fail(err, EINVAL, "%s: %s", spelled, o->help);
	case OPT_U64:
		if (vl_parse_u64(v, 0, UINT64_MAX, at(o, values)) < 0)
			return vl_fail(err, EINVAL, "%s takes a number, not '%s'", spelled, v);
		break;
	}
	return 0;
}

static bool takes_value(const struct opt *o)
{
	return o->type != OPT_FLAG && o->type != OPT_NOFLAG && o->type != OPT_REFUSED;
}

static size_t distance(const char *a, const char *b)
{
	size_t row[64], n = strlen(b);

	if (n >= VL_COUNT(row))
		return 99;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t diag = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			size_t best = diag + (a[i - 1] != b[j - 1]);
			diag = row[j];
			best = VL_MIN(best, row[j] + 1);
			row[j] = VL_MIN(best, row[j - 1] + 1);
		}
	}
	return row[n];
}

const char *opt_nearest(const char *word, const char *const *words, size_t n)
{
	const char *best = NULL;
	size_t best_d = 4;

	for (size_t i = 0; i < n; i++) {
		size_t d = distance(word, words[i]);
		if (strlen(word) >= 3 && vl_prefix(words[i], word))
			d = VL_MIN(d, 1u);
		if (d < best_d) {
			best_d = d;
			best = words[i];
		}
	}
	return best && best_d < VL_MAX(strlen(word), 2u) ? best : NULL;
}

/* -v after the command: right word, wrong place. */
static bool is_global(const char *word)
{
	for (const struct opt *o = global_opts; o->name; o++)
		if (word[1] == '-' ? vl_streq(word + 2, o->name) : word[1] == o->shrt)
			return true;
	return false;
}

static int unknown(const struct opt *opts, const char *word, struct vl_err *err)
{
	const char *names[256];
	size_t n = 0;

	for (const struct opt *o = opts; o->name && n < VL_COUNT(names); o++)
		if (!(o->flags & OPT_HIDDEN))
			names[n++] = o->name;
	const char *near = word[0] == '-' && word[1] == '-' ? opt_nearest(word + 2, names, n) : NULL;
	if (near)
		return vl_fail(err, EINVAL, "unknown option %s; did you mean --%s?", word, near);
	if (opts != global_opts && is_global(word))
		return vl_fail(err, EINVAL, "unknown option %s here; it comes before the command", word);
	return vl_fail(err, EINVAL, "unknown option %s", word);
}

static int parse_long(const struct opt *opts, void *values, char **argv, int argc, int *i, bool *seen,
		      struct vl_err *err)
{
	const char *word = argv[*i] + 2, *eq = strchr(word, '=');
	size_t n = eq ? (size_t)(eq - word) : strlen(word);
	VL_FREE char *spelled = vl_asprintf("--%.*s", (int)n, word);

	if (vl_streq(spelled, "--help"))
		return -ECANCELED;
	for (const struct opt *o = opts; o->name; o++) {
		if (strlen(o->name) != n || memcmp(o->name, word, n) != 0)
			continue;
		const char *v = eq ? eq + 1 : NULL;
		if (takes_value(o) && !v) {
			if (*i + 1 >= argc)
				return vl_fail(err, EINVAL, "%s needs a value: %s %s", spelled, spelled, o->arg);
			v = argv[++*i];
		}
		seen[o - opts] = true;
		return set(o, values, v, spelled, err);
	}
	return unknown(opts, spelled, err);
}

static int parse_short(const struct opt *opts, void *values, char **argv, int argc, int *i, bool *seen,
		       struct vl_err *err)
{
	for (const char *p = argv[*i] + 1; *p; p++) {
		const struct opt *o = opts;
		char spelled[3] = { '-', *p, 0 };
		while (o->name && o->shrt != *p)
			o++;
		if (!o->name && *p == 'h')
			return -ECANCELED;
		if (!o->name)
			return unknown(opts, spelled, err);
		seen[o - opts] = true;
		if (!takes_value(o)) {
			const char *v = p[1] == '=' ? p + 2 : NULL;
			int r = set(o, values, v, spelled, err);
			if (r < 0 || v)
				return r;
			continue;
		}
		const char *v = p[1] == '=' ? p + 2 : p + 1;
		if (!*v) {
			if (*i + 1 >= argc)
				return vl_fail(err, EINVAL, "%s needs a value: %s %s", spelled, spelled, o->arg);
			v = argv[++*i];
		}
		return set(o, values, v, spelled, err);
	}
	return 0;
}

static bool is_list(const struct opt *o)
{
	return o->type == OPT_LIST || o->type == OPT_LINES || o->type == OPT_ENV;
}

/* --cwd and --pwd fill one place: either of them on the line beats both twins. */
static bool by_line(const struct opt *opts, const struct opt *o, const bool *seen)
{
	for (const struct opt *p = opts; p->name; p++)
		if (p->off == o->off && seen[p - opts])
			return true;
	return false;
}

/* The twins of one option. Lists take every key that is set; of the others the first one counts.
 * true: something was there. */
static int from_environment(const struct opt *o, void *values, unsigned how, bool *ret_any, struct vl_err *err)
{
	struct vl_strv *list = is_list(o) ? at(o, values) : NULL;
	bool asked = o->env && (!(how & OPT_GIVEN) || o->flags & OPT_ANYHOW);
	VL_FREE char *keys = vl_strdup(asked ? o->env : "");
	int r = 0;

	for (char *save, *k = strtok_r(keys, " ", &save); k && r == 0; k = strtok_r(NULL, " ", &save)) {
		const char *v = opt_getenv(k);
		if (!v || !*v)
			continue;
		*ret_any = true;
		if (o->type == OPT_LINES)
			add_lines(list, v);
		else if ((r = set(o, values, v, k, err)) < 0)
			vl_wrap(err, "in the environment");
		if (!list)
			break;
	}
	return r;
}

static int from_config(const struct opt *o, void *values, const struct opt_config *config, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < config->n && r == 0; i++) {
		const struct opt_setting *s = &config->v[i];
		if (!opt_config_has(s, o))
			continue;
		if (o->type == OPT_LIST) {
			VL_STRV struct vl_strv words = { 0 };
			add_split(&words, s->value, false);
			for (size_t k = 0; k < words.n; k++)
				add_trimmed(at(o, values), words.v[k]);
		} else if ((r = set(o, values, s->value, s->key, err)) < 0) {
			vl_wrap(err, "%s:%u", s->file, s->line);
		}
	}
	return r;
}

/* What the line did not say. line: it spoke of this option, or the environment did of one with the same place;
 * *ret_said: the environment spoke of it. */
static int from_elsewhere(const struct opt *o, void *values, unsigned how, bool line, const struct opt_config *config,
			  bool *ret_said, struct vl_err *err)
{
	static const struct opt_config none;
	struct vl_strv given = { 0 }, *list = is_list(o) ? at(o, values) : NULL;
	bool any = false;
	int r = 0;

	if (!config)
		config = &none;
	if (line && (!list || o->flags & OPT_ONE_PLACE))
		return 0;
	if (list && o->flags & OPT_ENV_FIRST) { /* later items win: files, environment, line */
		given = vl_move(list);
		if ((r = from_config(o, values, config, err)) == 0)
			r = from_environment(o, values, how, &any, err);
	} else if ((r = from_environment(o, values, how, &any, err)) == 0 &&
		   (!any || (list && !(o->flags & OPT_ONE_PLACE)))) {
		r = from_config(o, values, config, err);
	}
	for (size_t i = 0; i < given.n; i++)
		vl_strv_add(list, given.v[i]);
	vl_strv_free(&given);
	*ret_said |= any && !list;
	return r;
}

int opt_parse(const struct opt *opts, void *values, int argc, char **argv, unsigned how,
	      const struct opt_config *config, int *ret_first, struct vl_err *err)
{
	size_t n_opts = 0;
	while (opts[n_opts].name)
		n_opts++;
	VL_FREE bool *seen = vl_alloc((n_opts + 1) * sizeof *seen);
	char **rest = vl_alloc((size_t)(argc + 1) * sizeof *rest);
	int n_rest = 0, i, r = 0;

	for (i = 1; i < argc; i++) {
		if (vl_streq(argv[i], "--")) {
			i++;
			break;
		}
		if (argv[i][0] != '-' || !argv[i][1]) {
			if (!(how & OPT_INTERSPERSED))
				break;
			rest[n_rest++] = argv[i];
			continue;
		}
		if (argv[i][1] == '-')
			r = parse_long(opts, values, argv, argc, &i, seen, err);
		else
			r = parse_short(opts, values, argv, argc, &i, seen, err);
		if (r < 0)
			goto out;
	}
	for (; i < argc; i++)
		rest[n_rest++] = argv[i];
	memcpy(argv + argc - n_rest, rest, (size_t)n_rest * sizeof *rest);
	*ret_first = argc - n_rest;
	for (const struct opt *o = opts; o->name && r == 0; o++)
		r = from_elsewhere(o, values, how, by_line(opts, o, seen), config, &seen[o - opts], err);
out:
	free(rest);
	return r;
}

void opt_free(const struct opt *opts, void *values)
{
	for (const struct opt *o = opts; o->name; o++)
		if (o->type == OPT_LIST || o->type == OPT_LINES || o->type == OPT_ENV)
			vl_strv_free(at(o, values)); /* empty already for a second option of the same list */
}

static const char *const prefixes[] = { "VIAL_", "APPTAINER_", "SINGULARITY_" };

const char *opt_getenv(const char *key)
{
	for (size_t i = 0; i < VL_COUNT(prefixes); i++) {
		VL_FREE char *name = vl_asprintf("%s%s", prefixes[i], key);
		const char *v = getenv(name);
		if (v)
			return v;
	}
	return NULL;
}

bool opt_is_secret(const char *kv)
{
	static const char *const ends[] = { "_PASSPHRASE", "_PASSWORD" };
	size_t n = strcspn(kv, "=");
	bool ours = false, secret = false;

	for (size_t i = 0; i < VL_COUNT(prefixes); i++)
		ours |= vl_prefix(kv, prefixes[i]) != NULL;
	for (size_t i = 0; i < VL_COUNT(ends); i++)
		secret |= n > strlen(ends[i]) && !strncmp(kv + n - strlen(ends[i]), ends[i], strlen(ends[i]));
	return ours && secret;
}

void opt_forget_secrets(void)
{
	for (char **e = environ; *e; e++)
		if (opt_is_secret(*e) && strchr(*e, '=')) {
			char *value = strchr(*e, '=') + 1;
			explicit_bzero(value, strlen(value));
		}
}
