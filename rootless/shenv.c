/* The part of the shell's language that environment files are written in: comments, assignments,
 * export, quotes, $NAME, ${NAME:-word} and its kin, [ -n WORD ] || in front. An image whose files say no more than that
 * starts without a shell in between, and one without a shell still gets its variables. */
#include "rootless.h"

#include <ctype.h>

/* ---- lists of KEY=VALUE --------------------------------------------------------------------- */

static char **find(const struct vl_strv *env, const char *key, size_t n)
{
	for (size_t i = 0; i < env->n; i++)
		if (!strncmp(env->v[i], key, n) && env->v[i][n] == '=')
			return &env->v[i];
	return NULL;
}

const char *ctr_env_get(const struct vl_strv *env, const char *key)
{
	char **at = find(env, key, strlen(key));
	return at ? *at + strlen(key) + 1 : NULL;
}

void ctr_env_put_kv(struct vl_strv *env, const char *kv)
{
	char **at = find(env, kv, strcspn(kv, "="));

	if (!at) {
		vl_strv_add(env, kv);
		return;
	}
	char *copy = vl_strdup(kv);
	free(*at);
	*at = copy;
}

void ctr_env_put(struct vl_strv *env, const char *key, const char *value)
{
	VL_FREE char *kv = vl_asprintf("%s=%s", key, value);
	ctr_env_put_kv(env, kv);
}

void ctr_env_del(struct vl_strv *env, const char *key)
{
	char **at = find(env, key, strlen(key));

	if (!at)
		return;
	free(*at);
	*at = env->v[--env->n];
	env->v[env->n] = NULL;
}

bool ctr_key_is(const char *kv, const char *key)
{
	const char *rest = vl_prefix(kv, key);
	return rest && *rest == '=';
}

void ctr_extend(char **list, const char *value, bool front)
{
	char *old = *list;
	*list = !old ? vl_strdup(value) : front ? vl_asprintf("%s:%s", value, old) : vl_asprintf("%s:%s", old, value);
	free(old);
}

/* ---- words ---------------------------------------------------------------------------------- */

struct reader {
	const char *p;
	struct ctr_scope *scope;
	unsigned depth;
	bool skip; /* read, but do nothing */
};
#define MAX_DEPTH 32 /* ${A:-${B:-...}} */

static size_t name_length(const char *s)
{
	size_t n = 0;
	while (isalnum((unsigned char)s[n]) || s[n] == '_')
		n++;
	return isdigit((unsigned char)*s) ? 0 : n;
}

static const char *value_of(const struct reader *r, const char *name)
{
	const char *v = ctr_env_get(&r->scope->env, name);
	return v ? v : ctr_env_get(&r->scope->locals, name);
}

/* A name is in one of the two lists only, or one of its two values would be an old one. */
static void set(struct reader *r, const char *name, const char *value, bool export)
{
	struct ctr_scope *sc = r->scope;

	if (r->skip)
		return;
	if (export || sc->export_all || ctr_env_get(&sc->env, name)) {
		ctr_env_del(&sc->locals, name);
		ctr_env_put(&sc->env, name, value);
	} else {
		ctr_env_put(&sc->locals, name, value);
	}
	ctr_env_put(&sc->assigned, name, "");
}

static bool expand(struct reader *r, bool in_braces, bool quoted, struct vl_buf *out);

/* At the name after "${". `out` gets the result. */
static bool expand_braces(struct reader *r, bool quoted, struct vl_buf *out)
{
	VL_BUF struct vl_buf word = { 0 };
	size_t n = name_length(r->p);
	VL_FREE char *name = vl_strndup(r->p, n);
	bool colon, plus = false, has_word = false;

	if (!n || r->depth == MAX_DEPTH)
		return false;
	r->p += n;
	colon = *r->p == ':' && r->p[1] != '}';
	r->p += colon;
	if (*r->p == '-' || *r->p == '+') {
		plus = *r->p++ == '+';
		has_word = true;
		r->depth++;
		if (!expand(r, true, quoted, &word))
			return false;
		r->depth--;
	}
	if ((colon && !has_word) || *r->p != '}')
		return false;
	r->p++;
	const char *v = value_of(r, name);
	bool set = v && (*v || !colon);
	const char *use = has_word && set == plus ? (word.data ? word.data : "") : plus ? "" : v ? v : "";
	vl_buf_adds(out, use);
	return true;
}

static bool expand_dollar(struct reader *r, bool quoted, struct vl_buf *out)
{
	if (r->p[1] == '{') {
		r->p += 2;
		return expand_braces(r, quoted, out);
	}
	size_t n = name_length(r->p + 1);
	if (!n) { /* $(command), $1, $?; a lone dollar is itself */
		if (r->p[1] && !strchr(" \t\n\"", r->p[1]))
			return false;
		vl_buf_add(out, r->p++, 1);
		return true;
	}
	VL_FREE char *name = vl_strndup(r->p + 1, n);
	const char *v = value_of(r, name);
	r->p += n + 1;
	vl_buf_adds(out, v ? v : "");
	return true;
}

static unsigned digits(const char **p, unsigned base, unsigned max)
{
	unsigned v = 0;

	for (; max && isxdigit((unsigned char)**p); (*p)++, max--) {
		unsigned d = isdigit((unsigned char)**p) ? (unsigned)(**p - '0')
							 : (unsigned)(tolower((unsigned char)**p) - 'a' + 10);
		if (d >= base)
			break;
		v = v * base + d;
	}
	return v;
}

/* $'...', from the quote on. */
static bool expand_ansi_c(struct reader *r, struct vl_buf *out)
{
	static const char letters[] = "abeEfnrtv\\'\"?", values[] = "\a\b\033\033\f\n\r\t\v\\'\"?";
	const char *p = r->p + 2;

	while (*p && *p != '\'') {
		const char *at = *p == '\\' && p[1] ? strchr(letters, p[1]) : NULL;
		char c = *p;
		if (at) {
			c = values[at - letters];
			p += 2;
		} else if (c == '\\' && p[1] >= '0' && p[1] <= '7') {
			p++;
			c = (char)digits(&p, 8, 3);
		} else if (c == '\\' && p[1] == 'x') {
			p += 2;
			c = (char)digits(&p, 16, 2);
		} else {
			p++;
		}
		if (!c)
			return false; /* no variable holds it */
		vl_buf_add(out, &c, 1);
	}
	if (!*p)
		return false;
	r->p = p + 1;
	return true;
}

static bool expand_backslash(struct reader *r, bool quoted, struct vl_buf *out)
{
	if (!r->p[1])
		return false;
	if (quoted && !strchr("$`\"\\\n", r->p[1]))
		vl_buf_add(out, r->p, 1);
	if (r->p[1] != '\n')
		vl_buf_add(out, r->p + 1, 1);
	r->p += 2;
	return true;
}

/* One word up to its end, or up to '}' in braces. `quoted`: inside double quotes all the while. */
static bool expand(struct reader *r, bool in_braces, bool quoted, struct vl_buf *out)
{
	bool dq = false; /* double quotes opened here */

	vl_buf_adds(out, "");
	for (;;) {
		char c = *r->p;
		if (!c)
			return !dq && !in_braces;
		if (c == '"') {
			dq = !dq;
			r->p++;
		} else if (c == '\'' && !dq && !quoted) {
			size_t n = strcspn(r->p + 1, "'");
			if (!r->p[n + 1])
				return false;
			vl_buf_add(out, r->p + 1, n);
			r->p += n + 2;
		} else if (c == '\\') {
			if (!expand_backslash(r, dq || quoted, out))
				return false;
		} else if (c == '$' && r->p[1] == '\'' && !dq && !quoted && r->scope->ansi_c) {
			if (!expand_ansi_c(r, out))
				return false;
		} else if (c == '$') {
			if (!expand_dollar(r, dq || quoted, out))
				return false;
		} else if (c == '`') {
			return false;
		} else if (in_braces && c == '}' && !dq) {
			return true;
		} else if (!in_braces && !dq && strchr(" \t\n;", c)) {
			return true;
		} else if (!dq && !quoted && strchr("&|<>()~", c)) {
			return false;
		} else {
			vl_buf_add(out, r->p++, 1);
		}
	}
}

/* ---- statements ----------------------------------------------------------------------------- */

static void skip_blanks(struct reader *r)
{
	while (*r->p == ' ' || *r->p == '\t' || (*r->p == '\\' && r->p[1] == '\n'))
		r->p += *r->p == '\\' ? 2 : 1;
}

static bool at_end(const struct reader *r)
{
	return !*r->p || *r->p == '\n' || *r->p == ';' || *r->p == '#';
}

/* NAME after export. One that has no value yet would be exported by a later assignment: rare, and
 * left to the shell. */
static bool export_name(struct reader *r, const char *name)
{
	const char *v = ctr_env_get(&r->scope->locals, name);

	if (!strchr(" \t\n;", *r->p) || (!v && !ctr_env_get(&r->scope->env, name)))
		return false;
	VL_FREE char *value = v ? vl_strdup(v) : NULL;
	if (value)
		set(r, name, value, true);
	return true;
}

/* NAME=WORD, NAME+=WORD, or NAME after export. A name that is no identifier (A.B) is skipped: it
 * cannot be a shell variable, and must not cost the image its other ones. */
static bool assign(struct reader *r, bool export)
{
	VL_BUF struct vl_buf value = { 0 };
	size_t n = strcspn(r->p, "= \t\n;\"'$`\\&|<>()#");
	bool append = n > 1 && r->p[n] == '=' && r->p[n - 1] == '+';
	VL_FREE char *name = vl_strndup(r->p, n - append);
	bool ok = vl_is_identifier(name, n - append);

	if (!n || *name == '-')
		return false;
	r->p += n;
	if (*r->p != '=')
		return export && export_name(r, name);
	r->p++;
	if (append && value_of(r, name))
		vl_buf_adds(&value, value_of(r, name));
	if (!expand(r, false, false, &value) || (!ok && !export))
		return false;
	if (ok)
		set(r, name, value.data, export);
	return true;
}

/* [ -n WORD ] || or [ -z WORD ] &&: sets what of the next statement is to be done. */
static bool condition(struct reader *r)
{
	VL_BUF struct vl_buf word = { 0 };
	bool wants_empty = r->p[3] == 'z';

	r->p += 4;
	skip_blanks(r);
	if (!expand(r, false, false, &word))
		return false;
	const char *rest = vl_prefix(r->p, " ] ");
	if (!rest || (strncmp(rest, "|| ", 3) && strncmp(rest, "&& ", 3)))
		return false;
	bool holds = (word.len == 0) == wants_empty;
	r->skip = *rest == '|' ? holds : !holds;
	r->p = rest + 3;
	skip_blanks(r);
	return true;
}

static bool statement(struct reader *r)
{
	r->skip = false;
	if ((vl_prefix(r->p, "[ -n ") || vl_prefix(r->p, "[ -z ")) && !condition(r))
		return false;
	const char *rest = vl_prefix(r->p, "export");
	bool export = rest && (*rest == ' ' || *rest == '\t');

	if (export)
		r->p = rest;
	do {
		skip_blanks(r);
		if (at_end(r))
			break;
		if (!assign(r, export))
			return false;
		skip_blanks(r);
	} while (!at_end(r));
	return true;
}

bool ctr_eval_text(const char *text, struct ctr_scope *scope)
{
	struct reader r = { .p = text, .scope = scope };
	bool all = true;

	while (*r.p) {
		r.p += strspn(r.p, " \t\n;");
		if (*r.p == '#') {
			r.p += strcspn(r.p, "\n");
		} else if (*r.p && !statement(&r)) {
			all = false;
			r.depth = 0;
			r.p += strcspn(r.p, "\n");
		}
	}
	return all;
}

void ctr_scope_free(struct ctr_scope *s)
{
	vl_strv_free(&s->env);
	vl_strv_free(&s->locals);
	vl_strv_free(&s->assigned);
}
