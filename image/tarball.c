#include "tarball.h"

#include <archive.h>
#include <archive_entry.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define BLOCK (64 << 10) /* of one write */

struct img_tarball {
	struct archive *a;
	struct archive_entry *entry; /* reused */
	img_tarball_sink *sink;
	void *arg;
	struct vl_err err; /* of the sink */
	bool dead;         /* given up: nothing more goes out */
};

static la_ssize_t write_out(struct archive *a, void *arg, const void *p, size_t n)
{
	struct img_tarball *t = arg;

	if (t->dead)
		return -1;
	if (t->sink(t->arg, p, n, &t->err) < 0) {
		archive_set_error(a, t->err.code, "%s", t->err.text);
		return -1;
	}
	return (la_ssize_t)n;
}

static int failed(struct img_tarball *t, const char *what, struct vl_err *err)
{
	if (t->err.code) {
		*err = t->err;
		return -err->code;
	}
	VL_FREE char *shown = vl_printable(what, strlen(what));
	const char *why = archive_error_string(t->a);
	return vl_fail(err, EIO, "cannot write /%s into the layer: %s", shown, why ? why : "no reason given");
}

int img_tarball_new(img_tarball_sink *sink, void *arg, struct img_tarball **ret, struct vl_err *err)
{
	struct img_tarball *t = vl_alloc(sizeof *t);

	t->sink = sink;
	t->arg = arg;
	t->a = archive_write_new();
	t->entry = archive_entry_new();
	if (!t->a || !t->entry)
		abort();
	/* One form of attributes: the one that all readers of layers know. */
	if (archive_write_set_format_pax_restricted(t->a) != ARCHIVE_OK ||
	    archive_write_set_options(t->a, "pax:xattrheader=SCHILY") != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(t->a, BLOCK) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(t->a, 1) != ARCHIVE_OK ||
	    archive_write_open(t->a, t, NULL, write_out, NULL) != ARCHIVE_OK) {
		int r = failed(t, "", err);
		img_tarball_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

static void set_kind(struct archive_entry *a, const struct img_unsquash_entry *e)
{
	/* by enum img_type */
	static const __LA_MODE_T kinds[] = { AE_IFDIR, AE_IFREG, AE_IFLNK, AE_IFBLK, AE_IFCHR, AE_IFIFO, AE_IFSOCK };

	archive_entry_set_filetype(a, kinds[e->type]);
	archive_entry_set_perm(a, e->attr.mode);
	if (e->type == IMG_SYMLINK)
		archive_entry_set_symlink(a, e->target);
	if (e->type == IMG_BLOCK_DEV || e->type == IMG_CHAR_DEV) {
		archive_entry_set_rdevmajor(a, e->attr.major);
		archive_entry_set_rdevminor(a, e->attr.minor);
	}
}

int img_tarball_add(struct img_tarball *t, const struct img_unsquash_entry *e, const char *hardlink, struct vl_err *err)
{
	struct archive_entry *a = archive_entry_clear(t->entry);
	VL_FREE char *path = vl_asprintf("%s%s", *e->path ? e->path : ".", e->type == IMG_DIR ? "/" : "");

	if (e->type == IMG_SOCKET)
		return vl_fail(err, ENOTSUP, "/%s is a socket, and a layer holds none", e->path);
	archive_entry_copy_pathname(a, path);
	set_kind(a, e);
	archive_entry_set_uid(a, e->attr.uid);
	archive_entry_set_gid(a, e->attr.gid);
	archive_entry_set_mtime(a, e->attr.mtime, 0);
	archive_entry_set_size(a, e->type == IMG_FILE && !hardlink ? (int64_t)e->size : 0);
	if (hardlink)
		archive_entry_copy_hardlink(a, hardlink);
	for (size_t i = 0; !hardlink && e->xattrs && i < e->xattrs->n; i++) {
		const struct img_xattr *x = &e->xattrs->a[i];
		archive_entry_xattr_add_entry(a, x->key, x->value, x->len);
	}
	/* A warning: the name is not of the locale's characters (the program keeps the C locale, so: not ASCII). It is
	 * written byte for byte then, and marked so. With the option that asks for this, every header would be. */
	int r = archive_write_header(t->a, a);
	return r == ARCHIVE_OK || (r == ARCHIVE_WARN && !t->err.code) ? 0 : failed(t, e->path, err);
}

int img_tarball_data(struct img_tarball *t, const void *p, size_t n, struct vl_err *err)
{
	return archive_write_data(t->a, p, n) == (la_ssize_t)n ? 0 : failed(t, archive_entry_pathname(t->entry), err);
}

int img_tarball_end(struct img_tarball *t, struct vl_err *err)
{
	return archive_write_close(t->a) == ARCHIVE_OK ? 0 : failed(t, "", err);
}

void img_tarball_free(struct img_tarball *t)
{
	if (!t)
		return;
	/* Freeing closes, and would fill up an unfinished file; archive_write_fail instead would lose its buffers. */
	t->dead = true;
	archive_write_free(t->a);
	archive_entry_free(t->entry);
	free(t);
}
