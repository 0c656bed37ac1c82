/* Configuration files: lines of `key = value`. The keys are those of the environment twins in small
 * letters, so every option that has a twin can be configured, and nothing else needs a name. */
#include "cmd.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define CONFIG_MAX (1u << 20) /* one file; a real one has a few dozen lines */
#define CONFIG_FILES_MAX 256  /* drop-ins */

static void drop(struct opt_config *c, const char *key)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->n; i++) {
		struct opt_setting s = c->v[i];
		if (vl_streq(s.key, key)) {
			free(s.key);
			free(s.value);
			free(s.file);
		} else {
			c->v[kept++] = s;
		}
	}
	c->n = kept;
}

/* Cuts blanks at both ends, in place. */
static char *trim(char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = 0;
	return s;
}

static int read_line(struct opt_config *c, char *line, const char *file, unsigned number, struct vl_err *err)
{
	char *key = trim(line), *eq = strchr(key, '=');

	if (!*key || *key == '#')
		return 0;
	if (!eq)
		return vl_fail(err, EINVAL, "%s:%u: a line has the form key = value", file, number);
	*eq = 0;
	key = trim(key);
	char *value = trim(eq + 1);
	for (const char *p = key; *p; p++)
		if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-')
			return vl_fail(err, EINVAL, "%s:%u: a key has small letters, digits and '-' only", file,
				       number);
	if (!*key)
		return vl_fail(err, EINVAL, "%s:%u: there is no key before '='", file, number);
	if (!*value) {
		drop(c, key); /* `bind =`: forget what earlier files said */
		return 0;
	}
	c->v = vl_realloc(c->v, c->n + 1, sizeof *c->v);
	c->v[c->n++] = (struct opt_setting){ vl_strdup(key), vl_strdup(value), vl_strdup(file), number };
	return 0;
}

/* A file that does not exist says nothing. */
static int read_file(struct opt_config *c, const char *file, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;
	unsigned number = 0;
	int r = vl_read_file(AT_FDCWD, file, CONFIG_MAX, &text, &len, err);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return vl_wrap(err, "configuration");
	if (strlen(text) != len)
		return vl_fail(err, EINVAL, "%s: a text file has no NUL bytes", file);
	for (char *line = text, *next; line && r == 0; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		r = read_line(c, line, file, ++number, err);
	}
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* FILE.d/NAME.conf in the order of their names. */
static int read_drop_ins(struct opt_config *c, const char *file, struct vl_err *err)
{
	VL_FREE char *dir = vl_asprintf("%s.d", file);
	VL_STRV struct vl_strv names = { 0 };
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return errno == ENOENT || errno == ENOTDIR ? 0 : vl_fail_sys(err, errno, "cannot read %s", dir);
	for (struct dirent *e; (e = readdir(d)) && names.n <= CONFIG_FILES_MAX;) {
		size_t n = strlen(e->d_name);
		if (e->d_name[0] != '.' && n > 5 && vl_streq(e->d_name + n - 5, ".conf"))
			vl_strv_add(&names, e->d_name);
	}
	closedir(d);
	if (names.n > CONFIG_FILES_MAX)
		return vl_fail(err, E2BIG, "%s has more than %d files", dir, CONFIG_FILES_MAX);
	if (names.n)
		qsort(names.v, names.n, sizeof *names.v, by_name);
	for (size_t i = 0; i < names.n && r == 0; i++) {
		VL_FREE char *path = vl_asprintf("%s/%s", dir, names.v[i]);
		r = read_file(c, path, err);
	}
	return r;
}

int opt_config_load(const char *site, const char *user, struct opt_config *ret, struct vl_err *err)
{
	VL_CLEANUP(opt_config_free) struct opt_config c = { 0 };
	int r = 0;

	if (site && ((r = read_file(&c, site, err)) < 0 || (r = read_drop_ins(&c, site, err)) < 0))
		return r;
	if (user && (r = read_file(&c, user, err)) < 0)
		return r;
	*ret = vl_move(&c);
	return 0;
}

void opt_config_free(struct opt_config *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].key);
		free(c->v[i].value);
		free(c->v[i].file);
	}
	vl_freep(&c->v);
	c->n = 0;
}

char *opt_config_key(const char *env)
{
	char *key = vl_strndup(env, strcspn(env, " "));

	for (char *p = key; *p; p++)
		*p = *p == '_' ? '-' : (char)tolower((unsigned char)*p);
	return key;
}

bool opt_config_has(const struct opt_setting *s, const struct opt *o)
{
	/* a hidden option is another spelling, or a word that means nothing here */
	VL_FREE char *key = o->env && !(o->flags & (OPT_SECRET | OPT_HIDDEN)) ? opt_config_key(o->env) : NULL;
	return key && vl_streq(s->key, key);
}
