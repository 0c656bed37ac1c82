/* Layers kept as the registry had them. All of it is best effort: without it they are downloaded again. */
#include "store_files.h"

#include <fcntl.h>
#include <stdio.h>

/* "sha256/HEX" below blobs/; what came from outside is looked at once more before it becomes a path */
static char *blob_name(const struct oci_digest *d)
{
	size_t n = strlen(d->hex);

	if (n != vl_hash_size(d->algo) * 2 || !n || strspn(d->hex, "0123456789abcdef") != n)
		return NULL;
	return vl_asprintf("%s/%s", d->algo, d->hex);
}

static int lookup(void *arg, const struct oci_digest *d, uint64_t size)
{
	struct img_store *s = arg;
	VL_FREE char *name = blob_name(d);
	struct stat st;

	if (!name)
		return -1;
	VL_CLOSE int fd = img_store_open_file(s->blobs, name, O_RDONLY, &st);
	if (fd >= 0 && (uint64_t)st.st_size == size) {
		img_store_touch(fd, &st);
		return vl_steal_fd(&fd);
	}
	VL_FREE char *in_site = vl_asprintf("blobs/%s", name);
	for (size_t i = 0; i < s->n_sites; i++) {
		vl_closep(&fd);
		fd = img_store_open_site(&s->sites[i], in_site, &st);
		if (fd >= 0 && (uint64_t)st.st_size == size)
			return vl_steal_fd(&fd);
	}
	return -1;
}

/* Where O_TMPFILE is missing the file keeps a hidden name until keep() gives it its own: NFS and Lustre cannot link
 * what has none. It is locked; if we die, the next one who comes here, or a clean-up, removes it. */
static int create(void *arg, struct vl_err *err)
{
	struct img_store *s = arg;
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	if (s->blobs < 0)
		return vl_tmpfile("a downloaded blob", err);
	VL_FREE char *path = vl_asprintf("%s/blobs/layer", s->dir);
	int r = vl_newfile_open(&f, path, 0644, true, err);

	if (r < 0)
		return r;
	if (s->keep_layers)
		vl_freep(&f.tmp);
	return vl_steal_fd(&f.fd);
}

/* The hidden name of fd, or NULL. */
static char *hidden_name(struct img_store *s, int fd)
{
	VL_FREE char *path = vl_fd_path(fd);
	struct stat a, b;

	if (!path)
		return NULL;
	const char *base = vl_basename(path);
	if (!vl_prefix(base, ".layer.vial-") || fstat(fd, &a) < 0 ||
	    fstatat(s->blobs, base, &b, AT_SYMLINK_NOFOLLOW) < 0 || a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return NULL;
	return vl_strdup(base);
}

static void keep(void *arg, const struct oci_digest *d, int fd)
{
	struct img_store *s = arg;
	VL_FREE char *name = blob_name(d), *hidden = s->keep_layers && name ? hidden_name(s, fd) : NULL;
	char proc[64];

	if (!s->keep_layers || !name || fsync(fd) < 0)
		return;
	if (mkdirat(s->blobs, d->algo, 0700) < 0 && errno != EEXIST)
		return;
	if (hidden) {
		if (renameat(s->blobs, hidden, s->blobs, name) < 0)
			unlinkat(s->blobs, hidden, 0);
		return;
	}
	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	/* EEXIST: another one kept the same bytes, or a file cut short by a crash is in the way (lookup refused it) */
	if (linkat(AT_FDCWD, proc, s->blobs, name, AT_SYMLINK_FOLLOW) < 0 && errno == EEXIST) {
		struct stat a, b;
		if (fstat(fd, &a) < 0 || fstatat(s->blobs, name, &b, AT_SYMLINK_NOFOLLOW) < 0 ||
		    (S_ISREG(b.st_mode) && a.st_size == b.st_size) || unlinkat(s->blobs, name, 0) < 0)
			return;
		if (linkat(AT_FDCWD, proc, s->blobs, name, AT_SYMLINK_FOLLOW) < 0)
			return;
	}
}

/* A site's stays: it is not ours to remove, and ours is found before it. */
static void drop(void *arg, const struct oci_digest *d)
{
	struct img_store *s = arg;
	VL_FREE char *name = blob_name(d);

	if (name && s->blobs >= 0)
		unlinkat(s->blobs, name, 0);
}

const struct oci_blob_store *img_store_blobs(struct img_store *s)
{
	s->blob_store =
		(struct oci_blob_store){ .lookup = lookup, .create = create, .keep = keep, .drop = drop, .arg = s };
	return &s->blob_store;
}
