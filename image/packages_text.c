/* Databases of lines: dpkg's, apk's, Python's metadata, and os-release. */
#include "packages.h"

struct lines {
	const char *p, *end;
};

static bool next_line(struct lines *t, const char **ret, size_t *ret_n)
{
	if (t->p == t->end)
		return false;
	const char *nl = memchr(t->p, '\n', (size_t)(t->end - t->p));
	size_t n = (size_t)((nl ? nl : t->end) - t->p);

	*ret = t->p;
	t->p = nl ? nl + 1 : t->end;
	*ret_n = n && (*ret)[n - 1] == '\r' ? n - 1 : n;
	return true;
}

struct field {
	const char *key; /* as it stands before the ':' */
	char *value;     /* the first one of a record; NULL = there was none */
};

static void free_fields(struct field *f, size_t n)
{
	for (size_t i = 0; i < n; i++)
		vl_freep(&f[i].value);
}

static char *trimmed(const char *s, size_t n)
{
	while (n && (*s == ' ' || *s == '\t'))
		s++, n--;
	while (n && (s[n - 1] == ' ' || s[n - 1] == '\t'))
		n--;
	return vl_strndup(s, VL_MIN(n, (size_t)IMG_MAX_PACKAGE_FIELD));
}

static void take_field(const char *line, size_t n, struct field *f, size_t n_fields)
{
	for (size_t i = 0; i < n_fields; i++) {
		size_t k = strlen(f[i].key);
		if (!f[i].value && n > k && line[k] == ':' && !memcmp(line, f[i].key, k)) {
			f[i].value = trimmed(line + k + 1, n - k - 1);
			return;
		}
	}
}

/* One record: up to a line that is empty. False: there is none any more. */
static bool next_record(struct lines *t, struct field *f, size_t n_fields)
{
	const char *line;
	size_t n;
	bool any = false;

	free_fields(f, n_fields);
	while (next_line(t, &line, &n)) {
		if (!n && any)
			return true;
		any |= n != 0;
		take_field(line, n, f, n_fields);
	}
	return any;
}

/* ---- dpkg: one database, or a file for each package in images without dpkg ---- */

static bool is_installed(const char *status)
{
	const char *last = status ? strrchr(status, ' ') : NULL;

	return !status || (last && vl_streq(last + 1, "installed"));
}

int img_packages_dpkg(const char *text, size_t n, struct img_packages *l, struct vl_err *err)
{
	enum { PACKAGE, VERSION, ARCH, STATUS, SOURCE, N };
	struct field f[N] = { { "Package", NULL },
			      { "Version", NULL },
			      { "Architecture", NULL },
			      { "Status", NULL },
			      { "Source", NULL } };
	struct lines t = { text, text + n };
	int r = 0;

	while (r == 0 && next_record(&t, f, N)) {
		if (!f[PACKAGE].value || !*f[PACKAGE].value || !f[VERSION].value || !is_installed(f[STATUS].value))
			continue;
		if (f[SOURCE].value)
			f[SOURCE].value[strcspn(f[SOURCE].value, " (")] = 0; /* "glibc (2.36-9)" */
		struct img_package p = { .kind = IMG_PACKAGE_DPKG,
					 .name = vl_steal(&f[PACKAGE].value),
					 .version = vl_steal(&f[VERSION].value),
					 .arch = vl_steal(&f[ARCH].value),
					 .source = vl_steal(&f[SOURCE].value) };
		r = img_packages_add(l, &p, err);
	}
	free_fields(f, N);
	return r;
}

int img_packages_apk(const char *text, size_t n, struct img_packages *l, struct vl_err *err)
{
	enum { PACKAGE, VERSION, ARCH, LICENSE, ORIGIN, N };
	struct field f[N] = { { "P", NULL }, { "V", NULL }, { "A", NULL }, { "L", NULL }, { "o", NULL } };
	struct lines t = { text, text + n };
	int r = 0;

	while (r == 0 && next_record(&t, f, N)) {
		if (!f[PACKAGE].value || !*f[PACKAGE].value || !f[VERSION].value)
			continue;
		struct img_package p = { .kind = IMG_PACKAGE_APK,
					 .name = vl_steal(&f[PACKAGE].value),
					 .version = vl_steal(&f[VERSION].value),
					 .arch = vl_steal(&f[ARCH].value),
					 .license = vl_steal(&f[LICENSE].value),
					 .source = vl_steal(&f[ORIGIN].value) };
		r = img_packages_add(l, &p, err);
	}
	free_fields(f, N);
	return r;
}

int img_packages_python(const char *text, size_t n, const char *path, struct img_packages *l, struct vl_err *err)
{
	enum { NAME, VERSION, EXPRESSION, LICENSE, N };
	struct field f[N] = {
		{ "Name", NULL }, { "Version", NULL }, { "License-Expression", NULL }, { "License", NULL }
	};
	struct lines t = { text, text + n };
	int r = 0;

	if (next_record(&t, f, N) && f[NAME].value && *f[NAME].value && f[VERSION].value) {
		char **license = &f[f[EXPRESSION].value ? EXPRESSION : LICENSE].value;
		struct img_package p = { .kind = IMG_PACKAGE_PYTHON,
					 .name = vl_steal(&f[NAME].value),
					 .version = vl_steal(&f[VERSION].value),
					 .license = vl_steal(license),
					 .path = vl_strdup(path) };
		r = img_packages_add(l, &p, err);
	}
	free_fields(f, N);
	return r;
}

/* ---- os-release: NAME=value, value perhaps in quotes. Never run: no shell reads it. ---- */

static void take_variable(const char *line, size_t n, const char *key, char **ret)
{
	size_t k = strlen(key);

	if (*ret || n <= k || line[k] != '=' || memcmp(line, key, k) != 0)
		return;
	line += k + 1;
	n -= k + 1;
	if (n >= 2 && (*line == '"' || *line == '\'') && line[n - 1] == *line)
		line++, n -= 2;
	*ret = trimmed(line, n);
}

void img_packages_os_release(const char *text, size_t n, struct img_packages *l)
{
	struct lines t = { text, text + n };
	const char *line;
	size_t len;

	while (next_line(&t, &line, &len)) {
		take_variable(line, len, "ID", &l->os_id);
		take_variable(line, len, "VERSION_ID", &l->os_version);
		take_variable(line, len, "PRETTY_NAME", &l->os_name);
	}
}
