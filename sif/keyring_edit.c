/* Changing a directory of keys. Each file appears whole, and changes of several processes come one after the other:
 * a lock on the directory, which the kernel lets go of when its owner is killed. */
#include "crypto.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

/* The directory, locked; made where it is missing, with those above it. */
static int open_locked(const char *dir, int *ret_fd, struct vl_err *err)
{
	VL_FREE char *path = vl_strdup(dir);
	VL_CLOSE int fd = -1;

	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		mkdir(path, 0700); /* the last one tells what is wrong */
		*slash = '/';
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return vl_fail_sys(err, errno, "cannot make the directory %s", dir);
	int r = sif_keyring_open_dir(dir, &fd, err);
	if (r < 0)
		return r;
	while (flock(fd, LOCK_EX) < 0)
		if (errno != EINTR)
			return vl_fail_sys(err, errno, "cannot lock %s", dir);
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

static int check_name(const char *name, struct vl_err *err)
{
	if (sif_keyring_name_ok(name))
		return 0;
	VL_FREE char *shown = vl_printable(name, VL_MIN(strlen(name), (size_t)80));
	return vl_fail(err, EINVAL,
		       "'%s' cannot be the name of a key: up to 64 letters, digits and ._@+- do, none of .- first",
		       shown);
}

static int prepare(const char *dir, const char *name, enum sif_keyring_kind kind, const struct vl_buf *text, bool force,
		   struct vl_newfile *f, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/%s%s", dir, name, sif_keyring_ending(kind));
	int r = vl_newfile_open(f, path, kind == SIF_KEYRING_PRIVATE ? 0600 : 0644, force, err);

	if (r < 0)
		return r;
	r = vl_write_full(f->fd, text->data, text->len);
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", path) : 0;
}

static int put(const char *dir, const char *name, enum sif_keyring_kind kind, const struct vl_buf *text, bool force,
	       struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	int r = prepare(dir, name, kind, text, force, &f, err);

	return r < 0 ? r : vl_newfile_commit(&f, force, err);
}

/* Both are on the disk before either has its name; the public half comes first, since alone it does no harm. */
static int put_pair(const char *dir, const char *name, const struct vl_buf *private, const struct vl_buf *public,
		    bool force, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile priv = VL_NEWFILE_INIT, pub = VL_NEWFILE_INIT;
	VL_CLOSE int fd = -1;
	int r = open_locked(dir, &fd, err);

	if (r == 0)
		r = prepare(dir, name, SIF_KEYRING_PUBLIC, public, force, &pub, err);
	if (r == 0)
		r = prepare(dir, name, SIF_KEYRING_PRIVATE, private, force, &priv, err);
	if (r == 0)
		r = vl_newfile_commit(&pub, force, err);
	return r < 0 ? r : vl_newfile_commit(&priv, force, err);
}

int sif_keyring_add(const char *dir, const char *name, const struct sif_key *k, const char *passphrase, bool force,
		    struct vl_err *err)
{
	VL_BUF struct vl_buf private = { 0 }, public = { 0 };
	int r = check_name(name, err);

	if (r == 0)
		r = sif_key_pem(k, SIF_KEY_PUBLIC, &public, err);
	if (r == 0)
		r = passphrase ? sif_key_pem_encrypted(k, passphrase, &private, err)
			       : sif_key_pem(k, SIF_KEY_PRIVATE, &private, err);
	if (r == 0)
		r = put_pair(dir, name, &private, &public, force, err);
	if (private.data)
		explicit_bzero(private.data, private.len);
	return r;
}

/* ---- import ---- */

/* By the first block that is not just the parameters of a curve. */
static enum sif_keyring_kind kind_of(const char *text)
{
	const char *at = text, *end;

	while ((at = strstr(at, "-----BEGIN "))) {
		at += 11;
		if (!(end = strstr(at, "-----")))
			break;
		VL_FREE char *label = vl_strndup(at, (size_t)(end - at));
		if (vl_streq(label, "EC PARAMETERS"))
			continue;
		if (vl_prefix(label, "PGP "))
			return SIF_KEYRING_PGP;
		if (strstr(label, "CERTIFICATE"))
			return SIF_KEYRING_CERTIFICATE;
		return strstr(label, "PRIVATE") ? SIF_KEYRING_PRIVATE : SIF_KEYRING_PUBLIC;
	}
	return SIF_KEYRING_PUBLIC; /* whose parser says what is wrong */
}

static int import_private(const char *dir, const char *name, const char *text, size_t len, const char *what,
			  const struct sif_ask *ask, bool force, char **ret_id, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = NULL;
	char *passphrase = NULL;
	int r = sif_key_unlock(text, len, what, ask, &k, &passphrase, err);

	if (r == 0)
		r = sif_keyring_add(dir, name, k, passphrase, force, err);
	if (r == 0)
		*ret_id = vl_strdup(sif_key_id(k));
	if (passphrase)
		explicit_bzero(passphrase, strlen(passphrase));
	free(passphrase);
	return r;
}

/* What is kept of it: the key or the certificate alone, a PGP key as it came. */
static int import_public(enum sif_keyring_kind kind, const char *text, size_t len, const char *what, struct vl_buf *ret,
			 char **ret_id, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = NULL;
	VL_FREE char *owner = NULL;
	int r;

	if (kind == SIF_KEYRING_PGP) {
		r = sif_keyfile_pgp(text, len, what, ret_id, &owner, err);
		if (r == 0)
			vl_buf_add(ret, text, len);
		return r;
	}
	if (kind == SIF_KEYRING_CERTIFICATE)
		r = sif_keyfile_certificate(text, len, what, &k, ret, err);
	else if ((r = sif_key_parse(text, len, what, SIF_KEY_PUBLIC, &k, err)) == 0)
		r = sif_key_pem(k, SIF_KEY_PUBLIC, ret, err);
	if (r == 0)
		*ret_id = vl_strdup(sif_key_id(k));
	return r;
}

/* A private key and a public one of the same name are taken for halves of one: an encrypted one's id is its neighbour's. */
static int check_neighbour(const char *dir, const char *name, const char *id, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring ring = { 0 };
	int r = sif_keyring_open(dir, NULL, &ring, err);

	for (size_t i = 0; i < ring.n && r == 0; i++) {
		const struct sif_keyring_entry *e = &ring.v[i];
		if (e->kind != SIF_KEYRING_PRIVATE || !vl_streq(e->name, name) || (e->id && vl_streq(e->id, id)))
			continue;
		r = vl_fail(
			err, EEXIST,
			"%s is a private key, and %s is not known to be its public half; give this one another name",
			e->path, id);
	}
	return r;
}

int sif_keyring_import(const char *dir, const char *name, const char *text, size_t len, const char *what,
		       const struct sif_ask *ask, bool force, enum sif_keyring_kind *ret_kind, char **ret_id,
		       struct vl_err *err)
{
	enum sif_keyring_kind kind = kind_of(text);
	VL_BUF struct vl_buf kept = { 0 };
	VL_FREE char *id = NULL;
	VL_CLOSE int fd = -1;
	int r = check_name(name, err);

	if (r < 0)
		return r;
	if (kind == SIF_KEYRING_PRIVATE) {
		r = import_private(dir, name, text, len, what, ask, force, &id, err);
	} else {
		r = import_public(kind, text, len, what, &kept, &id, err);
		if (r == 0)
			r = open_locked(dir, &fd, err);
		if (r == 0 && kind == SIF_KEYRING_PUBLIC)
			r = check_neighbour(dir, name, id, err);
		if (r == 0)
			r = put(dir, name, kind, &kept, force, err);
	}
	if (r < 0)
		return r;
	*ret_kind = kind;
	*ret_id = vl_steal(&id);
	return 0;
}

/* ---- trust, and taking away ---- */

static int set_trust(int fd, const char *dir, const char *id, bool trust, bool *ret_changed, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/trusted", dir);
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_STRV struct vl_strv ids = { 0 };
	VL_BUF struct vl_buf text = { 0 };
	bool was = false;
	int r = sif_keyring_read_trusted(fd, dir, &ids, err);

	for (size_t i = 0; i < ids.n; i++) {
		was |= vl_streq(ids.v[i], id);
		if (!vl_streq(ids.v[i], id))
			vl_buf_addf(&text, "%s\n", ids.v[i]);
	}
	*ret_changed = was != trust;
	if (r < 0 || was == trust)
		return r;
	if (trust)
		vl_buf_addf(&text, "%s\n", id);
	if ((r = vl_newfile_open(&f, path, 0644, true, err)) < 0)
		return r;
	r = text.len ? vl_write_full(f.fd, text.data, text.len) : 0;
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", path) : vl_newfile_commit(&f, true, err);
}

int sif_keyring_trust(const char *dir, const char *id, bool trust, bool *ret_changed, struct vl_err *err)
{
	VL_CLOSE int fd = -1;
	int r = open_locked(dir, &fd, err);

	return r < 0 ? r : set_trust(fd, dir, id, trust, ret_changed, err);
}

/* Ids of keys that are gone: trust in them would come back with the next key of that id, unasked. */
static int forget(int fd, const char *dir, const struct sif_keyring *before, const char *name, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring now = { 0 };
	bool changed;
	int r = sif_keyring_open(dir, NULL, &now, err);

	for (size_t i = 0; i < before->n && r == 0; i++) {
		const struct sif_keyring_entry *e = &before->v[i];
		if (vl_streq(e->name, name) && e->id && !sif_keyring_by_id(&now, SIF_KEYRING_ANY, e->id))
			r = set_trust(fd, dir, e->id, false, &changed, err);
	}
	return r;
}

int sif_keyring_remove(const char *dir, const char *name, unsigned kinds, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring before = { 0 };
	VL_CLOSE int fd = -1;
	size_t n = 0;
	int r = open_locked(dir, &fd, err);

	if (r == 0)
		r = sif_keyring_open(dir, NULL, &before, err);
	for (size_t i = 0; i < before.n && r == 0; i++) {
		const struct sif_keyring_entry *e = &before.v[i];
		if (!(e->kind & kinds) || !vl_streq(e->name, name))
			continue;
		if (unlinkat(fd, vl_basename(e->path), 0) < 0)
			r = vl_fail_sys(err, errno, "cannot remove %s", e->path);
		n++;
	}
	if (r < 0)
		return r;
	if (n == 0)
		return vl_fail(err, ENOENT, "there is no such key '%s' in %s", name, dir);
	fsync(fd);
	return forget(fd, dir, &before, name, err);
}
