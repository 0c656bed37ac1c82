/* A directory of keys: reading it. What is in it decides who is trusted, so a file that somebody else could have
 * written counts for nothing. */
#include "crypto.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define TRUSTED_MAX (1u << 20) /* bytes of the list; an id is 50 */

static const struct {
	enum sif_keyring_kind kind;
	const char *ending;
} endings[] = {
	{ SIF_KEYRING_PRIVATE, ".key" },
	{ SIF_KEYRING_PUBLIC, ".pub" },
	{ SIF_KEYRING_CERTIFICATE, ".crt" },
	{ SIF_KEYRING_PGP, ".asc" },
};

const char *sif_keyring_ending(enum sif_keyring_kind kind)
{
	size_t i = 0;

	while (i + 1 < VL_COUNT(endings) && endings[i].kind != kind)
		i++;
	return endings[i].ending;
}

bool sif_keyring_name_ok(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if (!isalnum((unsigned char)name[n]) && !strchr("._@+-", name[n]))
			return false;
	return n > 0 && n <= 64 && *name != '.' && *name != '-';
}

/* forbidden: bits of the mode that others must not have */
int sif_keyring_check_owner(const struct stat *st, const char *path, mode_t forbidden, struct vl_err *err)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return vl_fail(err, EPERM, "%s belongs to another user (%u)", path, (unsigned)st->st_uid);
	if (st->st_mode & forbidden)
		return vl_fail(err, EPERM, "others may %s %s; to mend it: chmod go-%s %s",
			       forbidden & S_IROTH ? "read" : "change", path, forbidden & S_IROTH ? "rwx" : "w", path);
	return 0;
}

int sif_keyring_open_dir(const char *path, int *ret_fd, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot read the keys in %s", path);
	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot read the keys in %s", path);
	int r = sif_keyring_check_owner(&st, path, S_IWGRP | S_IWOTH, err);
	if (r < 0)
		return r;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

/* ---- one file ---- */

/* The file that is looked at is the one that is read: a name may lead elsewhere a moment later. */
static int read_checked(int dirfd, const char *file, const char *path, mode_t forbidden, size_t limit, char **ret,
			size_t *ret_len, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = openat(dirfd, file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot read %s", path);
	int r = sif_keyring_check_owner(&st, path, forbidden, err);
	return r < 0 ? r : vl_read_fd(fd, path, limit, ret, ret_len, err);
}

static mode_t forbidden_of(enum sif_keyring_kind kind)
{
	return kind == SIF_KEYRING_PRIVATE ? S_IRWXG | S_IRWXO : S_IWGRP | S_IWOTH;
}

static void take_key(struct sif_keyring_entry *e, const struct sif_key *k)
{
	const struct sif_signer *s = sif_key_signer(k);

	e->id = vl_strdup(sif_key_id(k));
	e->type = vl_strdup(sif_key_type(k));
	e->owner = s->name ? vl_strdup(s->name) : NULL;
}

/* An encrypted key does not tell its id: the public half beside it does, which proves nothing. */
static int describe_encrypted(int dirfd, struct sif_keyring_entry *e, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = NULL;
	VL_FREE char *file = vl_asprintf("%s.pub", e->name), *text = NULL;
	size_t len;

	e->encrypted = true;
	int r = read_checked(dirfd, file, e->path, forbidden_of(SIF_KEYRING_PUBLIC), SIF_MAX_PEM, &text, &len, err);
	if (r == -ENOENT)
		return vl_fail(err, ENOENT, "the public half of %s is missing; import the key again", e->path);
	if (r == 0)
		r = sif_key_parse(text, len, e->path, SIF_KEY_PUBLIC, &k, err);
	if (r == 0)
		take_key(e, k);
	return r;
}

static int describe(int dirfd, struct sif_keyring_entry *e, const char *text, size_t len, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = NULL;
	int r;

	switch (e->kind) {
	case SIF_KEYRING_PRIVATE:
		if (sif_key_pem_is_encrypted(text, len))
			return describe_encrypted(dirfd, e, err);
		r = sif_key_parse(text, len, e->path, SIF_KEY_PRIVATE, &k, err);
		break;
	case SIF_KEYRING_CERTIFICATE:
		r = sif_keyfile_certificate(text, len, e->path, &k, NULL, err);
		break;
	case SIF_KEYRING_PGP:
		e->type = vl_strdup("OpenPGP");
		return sif_keyfile_pgp(text, len, e->path, &e->id, &e->owner, err);
	default:
		r = sif_key_parse(text, len, e->path, SIF_KEY_PUBLIC, &k, err);
	}
	if (r == 0)
		take_key(e, k);
	return r;
}

static void read_entry(int dirfd, const char *file, struct sif_keyring_entry *e)
{
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	size_t len = 0;
	int r = read_checked(dirfd, file, e->path, forbidden_of(e->kind), SIF_MAX_PEM, &text, &len, &err);

	if (r == 0)
		r = describe(dirfd, e, text, len, &err);
	if (r < 0)
		e->why = vl_strdup(err.text);
	else if (e->kind != SIF_KEYRING_PRIVATE)
		e->text = vl_steal(&text);
	if (text)
		explicit_bzero(text, len);
}

/* ---- a directory ---- */

static int by_name(const void *a, const void *b)
{
	const struct sif_keyring_entry *x = a, *y = b;
	int r = strcmp(x->name, y->name);

	return r ? r : (x->kind > y->kind) - (x->kind < y->kind);
}

static bool is_key_file(const char *file, struct sif_keyring_entry *ret)
{
	size_t n = strlen(file);

	for (size_t i = 0; i < VL_COUNT(endings); i++) {
		size_t k = strlen(endings[i].ending);
		if (n <= k || !vl_streq(file + n - k, endings[i].ending))
			continue;
		VL_FREE char *name = vl_strndup(file, n - k);
		if (!sif_keyring_name_ok(name))
			return false;
		*ret = (struct sif_keyring_entry){ .name = vl_steal(&name), .kind = endings[i].kind };
		return true;
	}
	return false;
}

static int read_entries(struct sif_keyring *r, int dirfd, const char *path, bool site, struct vl_err *err)
{
	size_t before = r->n;
	DIR *d = fdopendir(dirfd);

	if (!d) {
		close(dirfd);
		return vl_fail_sys(err, errno, "cannot read the keys in %s", path);
	}
	for (struct dirent *f; (f = readdir(d)) && r->n - before <= SIF_KEYRING_MAX;) {
		struct sif_keyring_entry e;
		if (!is_key_file(f->d_name, &e))
			continue;
		e.site = site;
		e.path = vl_asprintf("%s/%s", path, f->d_name);
		read_entry(dirfd, f->d_name, &e);
		r->v = vl_realloc(r->v, r->n + 1, sizeof *r->v);
		r->v[r->n++] = e;
	}
	closedir(d);
	if (r->n - before > SIF_KEYRING_MAX)
		return vl_fail(err, E2BIG, "%s has more than %d keys", path, SIF_KEYRING_MAX);
	if (r->n > before)
		qsort(r->v + before, r->n - before, sizeof *r->v, by_name);
	return 0;
}

int sif_keyring_read_trusted(int dirfd, const char *dir, struct vl_strv *ret, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/trusted", dir), *text = NULL;
	size_t len;

	int r = read_checked(dirfd, "trusted", path, S_IWGRP | S_IWOTH, TRUSTED_MAX, &text, &len, err);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	for (char *save, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		line += strspn(line, " \t");
		line[strcspn(line, " \t\r")] = 0;
		if (*line && *line != '#')
			vl_strv_add(ret, line);
	}
	return 0;
}

static int read_dir(struct sif_keyring *r, const char *path, bool site, struct vl_err *err)
{
	VL_CLOSE int fd = -1;

	if (!path)
		return 0;
	int e = sif_keyring_open_dir(path, &fd, err);
	if (e == -ENOENT || e == -ENOTDIR)
		return 0;
	if (e == 0)
		e = sif_keyring_read_trusted(fd, path, &r->trusted, err);
	return e < 0 ? e : read_entries(r, vl_steal_fd(&fd), path, site, err);
}

int sif_keyring_open(const char *user_dir, const char *site_dir, struct sif_keyring *ret, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring k = { 0 };
	int r = read_dir(&k, user_dir, false, err);

	if (r == 0)
		r = read_dir(&k, site_dir, true, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < k.n; i++)
		k.v[i].trusted = !k.v[i].why && k.v[i].id && sif_keyring_trusts(&k, k.v[i].id);
	*ret = vl_move(&k);
	return 0;
}

void sif_keyring_free(struct sif_keyring *r)
{
	for (size_t i = 0; i < r->n; i++) {
		struct sif_keyring_entry *e = &r->v[i];
		free(e->name);
		free(e->path);
		free(e->id);
		free(e->type);
		free(e->owner);
		free(e->why);
		free(e->text);
	}
	free(r->v);
	vl_strv_free(&r->trusted);
	*r = (struct sif_keyring){ 0 };
}

int sif_keyring_read(const struct sif_keyring_entry *e, char **ret, size_t *ret_len, struct vl_err *err)
{
	if (!e->text)
		return read_checked(AT_FDCWD, e->path, e->path, forbidden_of(e->kind), SIF_MAX_PEM, ret, ret_len, err);
	*ret = vl_strdup(e->text);
	*ret_len = strlen(e->text);
	return 0;
}

/* ---- looking up ---- */

bool sif_keyring_trusts(const struct sif_keyring *r, const char *id)
{
	for (size_t i = 0; i < r->trusted.n; i++)
		if (vl_streq(r->trusted.v[i], id))
			return true;
	return false;
}

const struct sif_keyring_entry *sif_keyring_by_id(const struct sif_keyring *r, unsigned kinds, const char *id)
{
	for (size_t i = 0; i < r->n; i++)
		if (r->v[i].kind & kinds && !r->v[i].why && r->v[i].id && vl_streq(r->v[i].id, id))
			return &r->v[i];
	return NULL;
}

/* A PGP key is also known by the end of its fingerprint. */
static bool matches(const struct sif_keyring_entry *e, const char *word)
{
	size_t n = strlen(word), whole = e->id ? strlen(e->id) : 0;
	const char *bare = e->id ? vl_prefix(e->id, "SHA256:") : NULL;

	if (n < 6 || n > whole)
		return false;
	if (bare)
		return vl_prefix(e->id, word) || vl_prefix(bare, word);
	return !strncasecmp(e->id, word, n) || (n >= 8 && !strcasecmp(e->id + whole - n, word));
}

static int find_by_id(const struct sif_keyring *r, unsigned kinds, const char *word,
		      const struct sif_keyring_entry **ret, struct vl_err *err)
{
	const struct sif_keyring_entry *found = NULL;

	for (size_t i = 0; i < r->n; i++) {
		const struct sif_keyring_entry *e = &r->v[i];
		if (!(e->kind & kinds) || !matches(e, word))
			continue;
		if (found && !vl_streq(found->id, e->id))
			return vl_fail(err, ENOTUNIQ, "'%s' is the beginning of two ids: %s (%s) and %s (%s)", word,
				       found->id, found->name, e->id, e->name);
		found = found ? found : e;
	}
	*ret = found;
	return 0;
}

int sif_keyring_find(const struct sif_keyring *r, unsigned kinds, const char *word,
		     const struct sif_keyring_entry **ret, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(word, VL_MIN(strlen(word), (size_t)100));
	const struct sif_keyring_entry *found = NULL;

	for (size_t i = 0; i < r->n && !found; i++)
		if (r->v[i].kind & kinds && vl_streq(r->v[i].name, word))
			found = &r->v[i];
	if (!found) {
		int e = find_by_id(r, kinds, vl_prefix(word, "0x") ? word + 2 : word, &found, err);
		if (e < 0)
			return e;
	}
	if (!found)
		return vl_fail(err, ENOENT, "there is no %skey '%s' in the keyring",
			       kinds == SIF_KEYRING_PRIVATE  ? "private "
			       : kinds & SIF_KEYRING_PRIVATE ? ""
							     : "public ",
			       shown);
	if (found->why)
		return vl_fail(err, EINVAL, "the key '%s' cannot be used: %s", shown, found->why);
	*ret = found;
	return 0;
}
