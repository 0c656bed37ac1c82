/* Policy files to rules. Nothing here is forgiving: a policy that is half understood protects nobody, so every word that
 * is not known, every file that others could have written, ends with file and line. */
#include <vial/policy.h>

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define FILE_MAX (1u << 20) /* one file; a long policy has some hundred lines */
#define FILES_MAX 256       /* of a directory */
#define RULES_MAX 4096      /* of a list: each is looked at once in a start */
#define PATTERN_MAX 4096    /* bytes; a longer path cannot be opened either */

static const char *const actions[] = { "allow", "warn", "deny", NULL };
static const char *const kinds[] = { "sif", "squashfs", "ext3", "directory", NULL };
static const char *const uses[] = { "image", "bind", "overlay", NULL };
static const char *const objects[] = { "sbom", "provenance", "tree", NULL };

const char *pol_action_word(enum pol_action a)
{
	return actions[a];
}

static const char *const condition_keys[POL_CONDITIONS] = {
	[POL_ON_PATH] = "path",     [POL_ON_KIND] = "kind",       [POL_ON_USE] = "use",   [POL_ON_SIGNER] = "signer",
	[POL_ON_SOURCE] = "source", [POL_ON_OBJECTS] = "objects", [POL_ON_TREE] = "tree",
};

const char *pol_condition_word(enum pol_condition c)
{
	return condition_keys[c];
}

static const char *bit_word(const char *const *words, unsigned bit)
{
	for (; *words && !(bit & 1); words++)
		bit >>= 1;
	return *words ? *words : "";
}

const char *pol_kind_word(unsigned kind)
{
	return bit_word(kinds, kind);
}

const char *pol_use_word(unsigned use)
{
	return bit_word(uses, use);
}

const char *pol_object_word(unsigned object)
{
	return bit_word(objects, object);
}

/* ---- the place of a mistake ---- */

struct reading {
	const char *file;
	const vl_json *lines;
	const vl_json *table; /* the rule, or the whole */
	struct vl_err *err;
	int r;
};

static int wrong(struct reading *rd, const char *key, const char *why)
{
	unsigned line = vl_toml_line(rd->lines, rd->table, key);

	return vl_fail(rd->err, EINVAL, "%s:%u: %s%s%s", rd->file, line, key ? key : "", key ? " " : "", why);
}

/* ---- values ---- */

/* The strings of a key, one or a list. */
static int read_strings(struct reading *rd, const char *key, struct vl_strv *ret)
{
	const vl_json *v = vl_json_get(rd->table, key);
	const vl_json *list = vl_json_arr(rd->table, key);

	if (!v)
		return 0;
	for (size_t i = 0; i < (list ? vl_json_len(list) : 1); i++) {
		const char *s = vl_json_string(list ? vl_json_at(list, i) : v);
		if (!s || !*s)
			return wrong(rd, key, "is a string, or a list of strings, none of them empty");
		if (strlen(s) > PATTERN_MAX)
			return wrong(rd, key, "is longer than any path");
		vl_strv_add(ret, s);
	}
	return ret->n ? 0 : wrong(rd, key, "is an empty list, which nothing can match; leave it out");
}

static int read_bits(struct reading *rd, const char *key, const char *const *words, unsigned n_words, unsigned *ret)
{
	VL_STRV struct vl_strv l = { 0 };
	int r = read_strings(rd, key, &l);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		unsigned w = 0;
		while (w < n_words && !vl_streq(l.v[i], words[w]))
			w++;
		if (w < n_words) {
			*ret |= 1u << w;
			continue;
		}
		VL_BUF struct vl_buf known = { 0 };
		for (w = 0; w < n_words; w++)
			vl_buf_addf(&known, "%s%s", w ? ", " : "", words[w]);
		VL_FREE char *shown = vl_printable(l.v[i], strlen(l.v[i]));
		VL_FREE char *why = vl_asprintf("has no '%s'; there is %s", shown, known.data);
		r = wrong(rd, key, why);
	}
	return r;
}

static int read_action(struct reading *rd, const char *key, enum pol_action *ret)
{
	const char *s = vl_json_str(rd->table, key);

	for (size_t i = 0; s && actions[i]; i++)
		if (vl_streq(s, actions[i])) {
			*ret = (enum pol_action)i;
			return 0;
		}
	return wrong(rd, key, "is \"allow\", \"warn\" or \"deny\"");
}

static int read_text(struct reading *rd, const char *key, char **ret)
{
	const char *s = vl_json_str(rd->table, key);

	if (!vl_json_get(rd->table, key))
		return 0;
	if (!s)
		return wrong(rd, key, "is a string");
	*ret = vl_printable(s, strlen(s));
	return 0;
}

static int check_paths(struct reading *rd, const struct vl_strv *l)
{
	for (size_t i = 0; i < l->n; i++) {
		VL_FREE char *clean = vl_path_clean(l->v[i]);
		if (*l->v[i] != '/')
			return wrong(rd, "path", "begins with '/': a path as it is when all links are resolved");
		if (!vl_streq(clean, l->v[i]))
			return wrong(rd, "path",
				     "has no \"//\", \".\", \"..\" and no '/' at its end; DIR/** is all below DIR");
	}
	return 0;
}

/* ---- signers ---- */

/* "SHA256:" and 43 letters of base64, or the fingerprint of an OpenPGP key, with or without blanks; new, or NULL. */
static char *read_id(const char *s)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *rest = vl_prefix(s, "SHA256:");

	if (rest)
		return strspn(rest, base64) == 43 && !rest[43] ? vl_strdup(s) : NULL;
	char hex[65];
	size_t n = 0;
	for (; *s; s++) {
		if (*s == ' ')
			continue;
		if (!isxdigit((unsigned char)*s) || n == sizeof hex - 1)
			return NULL;
		hex[n++] = (char)toupper((unsigned char)*s);
	}
	return n == 40 || n == 64 ? vl_strndup(hex, n) : NULL;
}

static int add_certificate(struct reading *rd, const vl_json *o, struct pol_rule *r)
{
	const char *subject = vl_json_str(o, "subject"), *roots = vl_json_str(o, "roots");

	if (!subject || !*subject || !roots || *roots != '/')
		return wrong(rd, "signer",
			     "by certificate needs { subject = \"...\", roots = \"/FILE\" }: anybody can make a "
			     "certificate of any subject");
	r->certs = vl_realloc(r->certs, r->n_certs + 1, sizeof *r->certs);
	r->certs[r->n_certs++] = (struct pol_certificate){ vl_strdup(subject), vl_strdup(roots) };
	return 0;
}

static void check_member(void *arg, const char *key, const vl_json *value)
{
	struct reading *rd = arg;

	(void)value;
	if (rd->r == 0 && !vl_streq(key, "subject") && !vl_streq(key, "roots"))
		rd->r = wrong(rd, "signer", "by certificate has subject and roots, and nothing else");
}

static int read_signers(struct reading *rd, struct pol_rule *r)
{
	const vl_json *v = vl_json_get(rd->table, "signer"), *list = vl_json_arr(rd->table, "signer");

	for (size_t i = 0; v && i < (list ? vl_json_len(list) : 1); i++) {
		const vl_json *one = list ? vl_json_at(list, i) : v;
		const char *s = vl_json_string(one);
		if (vl_json_is_object(one)) {
			vl_json_each(one, check_member, rd);
			if (rd->r < 0 || add_certificate(rd, one, r) < 0)
				return -rd->err->code;
			continue;
		}
		char *id = s ? read_id(s) : NULL;
		if (!id)
			return wrong(
				rd, "signer",
				"is the whole id of a key (SHA256:...), the whole fingerprint of an OpenPGP key, or a "
				"certificate { subject, roots }");
		vl_strv_take(&r->signer, id);
	}
	return v && !r->signer.n && !r->n_certs ? wrong(rd, "signer", "is an empty list, which nothing can match") : 0;
}

/* ---- rules ---- */

static void free_rule(struct pol_rule *r)
{
	free(r->file);
	free(r->name);
	free(r->message);
	vl_strv_free(&r->path);
	vl_strv_free(&r->source);
	vl_strv_free(&r->signer);
	for (size_t i = 0; i < r->n_certs; i++) {
		free(r->certs[i].subject);
		free(r->certs[i].roots);
	}
	free(r->certs);
	*r = (struct pol_rule){ 0 };
}

/* What an image says of itself is no reason to let it in, unless somebody who is named has signed it. */
static int check_sense(struct reading *rd, const struct pol_rule *r)
{
	const char *claim = r->source.n ? "source" : r->objects ? "objects" : r->tree ? "tree" : NULL;

	if (r->action != POL_DENY && claim && !r->signer.n && !r->n_certs)
		return wrong(rd, claim,
			     "allows nothing without a signer beside it: anybody can write it into an image");
	return 0;
}

static void check_rule_key(void *arg, const char *key, const vl_json *value)
{
	struct reading *rd = arg;
	bool known = vl_streq(key, "action") || vl_streq(key, "name") || vl_streq(key, "message");

	(void)value;
	for (size_t i = 0; i < POL_CONDITIONS; i++)
		known |= vl_streq(key, condition_keys[i]);
	if (!known && rd->r == 0) {
		VL_FREE char *shown = vl_printable(key, strlen(key));
		rd->r = wrong(rd, shown,
			      "is no word of a rule; there are action, name, message, path, kind, use, signer, "
			      "source, objects and tree");
	}
}

static int read_rule(struct reading *rd, struct pol_rule *r)
{
	const vl_json *tree = vl_json_get(rd->table, "tree");
	VL_FREE char *message = NULL;

	if (!vl_json_is_object(rd->table))
		return wrong(rd, NULL, "a rule begins with [[rule]]");
	r->file = vl_strdup(rd->file);
	r->line = vl_toml_line(rd->lines, rd->table, NULL);
	vl_json_each(rd->table, check_rule_key, rd);
	if (rd->r < 0)
		return rd->r;
	if (!vl_json_get(rd->table, "action"))
		return wrong(rd, NULL, "a rule needs an action: allow, warn or deny");
	int e = read_action(rd, "action", &r->action);
	if (e < 0 || (e = read_text(rd, "name", &r->name)) < 0 || (e = read_text(rd, "message", &r->message)) < 0 ||
	    (e = read_bits(rd, "kind", kinds, 4, &r->kinds)) < 0 || (e = read_bits(rd, "use", uses, 3, &r->uses)) < 0 ||
	    (e = read_bits(rd, "objects", objects, 2, &r->objects)) < 0 ||
	    (e = read_strings(rd, "path", &r->path)) < 0 || (e = check_paths(rd, &r->path)) < 0 ||
	    (e = read_strings(rd, "source", &r->source)) < 0 || (e = read_signers(rd, r)) < 0)
		return e;
	if (tree && !vl_json_is_true(tree))
		return wrong(rd, "tree", "is true, or left out");
	r->tree = tree != NULL;
	for (size_t i = 0; i < POL_CONDITIONS; i++)
		if (vl_json_get(rd->table, condition_keys[i]))
			r->lines[i] = vl_toml_line(rd->lines, rd->table, condition_keys[i]);
	return check_sense(rd, r);
}

static int add_rule(struct reading *rd, struct pol_list *l)
{
	struct pol_rule r = { 0 };

	if (l->n == RULES_MAX)
		return vl_fail(rd->err, E2BIG, "%s: there are more than %d rules", rd->file, RULES_MAX);
	int e = read_rule(rd, &r);
	if (e < 0) {
		free_rule(&r);
		return e;
	}
	l->v = vl_realloc(l->v, l->n + 1, sizeof r);
	l->v[l->n++] = r;
	return 0;
}

/* Of several the strictest counts: a file that is added takes nothing away. */
static int read_default(struct reading *rd, struct pol_list *l)
{
	enum pol_action a = POL_DENY;

	if (!vl_json_get(rd->table, "default"))
		return 0;
	int r = read_action(rd, "default", &a);
	if (r < 0 || (l->fallback && l->fallback->action >= a))
		return r;
	if (l->fallback)
		free_rule(l->fallback);
	else
		l->fallback = vl_alloc(sizeof *l->fallback);
	*l->fallback = (struct pol_rule){ .file = vl_strdup(rd->file),
					  .line = vl_toml_line(rd->lines, rd->table, "default"),
					  .action = a };
	return 0;
}

static void check_top_key(void *arg, const char *key, const vl_json *value)
{
	struct reading *rd = arg;

	(void)value;
	if (rd->r == 0 && !vl_streq(key, "default") && !vl_streq(key, "rule")) {
		VL_FREE char *shown = vl_printable(key, strlen(key));
		rd->r = wrong(rd, shown, "is no word of a policy; there are default and [[rule]]");
	}
}

int pol_read_text(const char *text, size_t len, const char *file, struct pol_list *l, struct vl_err *err)
{
	VL_JSON vl_json *top = NULL, *lines = NULL;
	int r = vl_toml_parse_lines(text, len, file, &top, &lines, err);

	if (r < 0)
		return r;
	struct reading rd = { .file = file, .lines = lines, .table = top, .err = err };
	vl_json_each(top, check_top_key, &rd);
	if (rd.r < 0 || (rd.r = read_default(&rd, l)) < 0)
		return rd.r;
	const vl_json *rules = vl_json_arr(top, "rule");
	if (vl_json_get(top, "rule") && !rules)
		return wrong(&rd, "rule", "is written [[rule]], with two brackets: there may be several");
	for (size_t i = 0; rules && i < vl_json_len(rules) && rd.r == 0; i++) {
		rd.table = vl_json_at(rules, i);
		rd.r = add_rule(&rd, l);
	}
	if (rd.r == 0)
		vl_strv_add(&l->files, file);
	return rd.r;
}

/* ---- files ---- */

/* In a user namespace that not every id is mapped to, what belongs to others (and so to root) is shown as this one's. */
static bool is_unmapped(uid_t uid)
{
	FILE *map = fopen("/proc/self/uid_map", "re"), *overflow = fopen("/proc/sys/kernel/overflowuid", "re");
	unsigned long long inside, outside, n, all = 0, shown = 0;
	bool read = map && overflow && fscanf(overflow, "%llu", &shown) == 1;

	while (read && fscanf(map, "%llu %llu %llu", &inside, &outside, &n) == 3)
		all += n;
	if (map)
		fclose(map);
	if (overflow)
		fclose(overflow);
	return read && all < UINT32_MAX && uid == shown;
}

/* Nobody but root, or the user where it is his own, may have written it. */
static int check_owner(int fd, const char *path, enum pol_whose whose, struct stat *st, struct vl_err *err)
{
	if (fstat(fd, st) < 0)
		return vl_fail_sys(err, errno, "policy: cannot stat %s", path);
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return vl_fail(err, EPERM, "policy: %s can be written to by others; first: chmod go-w %s", path, path);
	if (whose == POL_SITE && st->st_uid != 0 && (st->st_uid == geteuid() || !is_unmapped(st->st_uid)))
		return vl_fail(
			err, EPERM,
			"policy: %s belongs to user %u, and a policy of the site is root's; as root: chown root %s",
			path, (unsigned)st->st_uid, path);
	if (whose == POL_USER && st->st_uid != geteuid() && st->st_uid != 0)
		return vl_fail(err, EPERM, "policy: %s belongs to another user", path);
	return 0;
}

static int read_file(int dirfd, const char *path, const char *name, enum pol_whose whose, struct pol_list *l,
		     struct vl_err *err)
{
	VL_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return vl_fail_sys(err, errno, "policy: cannot read %s", path);
	int r = check_owner(fd, path, whose, &st, err);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "policy: %s is not a file", path);
	if (st.st_size > FILE_MAX)
		return vl_fail(err, EFBIG, "policy: %s is larger than %u bytes", path, FILE_MAX);
	VL_FREE char *text = vl_alloc((size_t)st.st_size + 1);
	r = vl_pread_full(fd, text, (size_t)st.st_size, 0, path, err);
	if (r == 0)
		r = pol_read_text(text, (size_t)st.st_size, path, l, err);
	return r < 0 ? vl_wrap(err, "policy") : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int fd, const char *dir, struct vl_strv *ret, struct vl_err *err)
{
	int again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	struct dirent *e;

	if (!d) {
		vl_closep(&again);
		return vl_fail_sys(err, errno, "policy: cannot read %s", dir);
	}
	for (errno = 0; (e = readdir(d)) && ret->n <= FILES_MAX; errno = 0) {
		size_t n = strlen(e->d_name);
		if (e->d_name[0] != '.' && n > 5 && vl_streq(e->d_name + n - 5, ".toml"))
			vl_strv_add(ret, e->d_name);
	}
	int why = e ? 0 : errno;
	closedir(d);
	if (why)
		return vl_fail_sys(err, why, "policy: cannot read %s", dir);
	if (ret->n > FILES_MAX)
		return vl_fail(err, E2BIG, "policy: %s has more than %d files", dir, FILES_MAX);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof *ret->v, by_name);
	return 0;
}

/* Nothing of that name, which a dangling link and a file are not. A user's home that cannot be looked into (another's,
 * kept by sudo) is as good as none; what is there must be readable. */
static bool is_none(const char *dir, enum pol_whose whose)
{
	struct stat st;

	if (lstat(dir, &st) == 0)
		return false;
	return errno == ENOENT || errno == ENOTDIR || (whose == POL_USER && (errno == EACCES || errno == ESTALE));
}

int pol_read_dir(const char *dir, enum pol_whose whose, struct pol_list *l, struct vl_err *err)
{
	VL_CLOSE int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	VL_STRV struct vl_strv names = { 0 };
	struct stat st;

	int why = errno;
	if (fd < 0)
		return is_none(dir, whose) ? 0 : vl_fail_sys(err, why, "policy: cannot read %s", dir);
	int r = check_owner(fd, dir, whose, &st, err);
	if (r < 0 || (r = read_names(fd, dir, &names, err)) < 0)
		return r;
	for (size_t i = 0; i < names.n && r == 0; i++) {
		VL_FREE char *path = vl_asprintf("%s/%s", dir, names.v[i]);
		r = read_file(fd, path, names.v[i], whose, l, err);
	}
	return r;
}

static void free_list(struct pol_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free_rule(&l->v[i]);
	vl_freep(&l->v);
	l->n = 0;
	if (l->fallback)
		free_rule(l->fallback);
	vl_freep(&l->fallback);
	vl_strv_free(&l->files);
}

void pol_free(struct pol *p)
{
	free_list(&p->site);
	free_list(&p->user);
}
