/* Any bytes as a squashfs that is made into the tar of a layer. */
#include "fuzz.h"

#include <image/tarball.h>
#include <image/unsquash.h>
#include <sys/mman.h>

#define MAX_FILES (4u << 20) /* bytes of files: a hole costs time */

struct walk {
	struct img_tarball *tar;
	uint64_t left; /* content that is still owed for the last file */
};

static int drop(void *arg, const void *p, size_t n, struct vl_err *err)
{
	(void)arg, (void)p, (void)n, (void)err;
	return 0;
}

static int entry(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct walk *w = arg;

	if (w->left || strlen(e->path) > IMG_MAX_PATH || (e->type == IMG_SYMLINK) != (e->target != NULL))
		abort();
	if (e->type == IMG_SOCKET)
		return IMG_UNSQUASH_SKIP;
	w->left = e->type == IMG_FILE && e->size <= MAX_FILES ? e->size : 0;
	return img_tarball_add(w->tar, e, NULL, err);
}

static int data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct walk *w = arg;

	if (n > w->left)
		abort();
	w->left -= n;
	return img_tarball_data(w->tar, p, n, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	VL_CLOSE int fd = memfd_create("image", MFD_CLOEXEC);
	struct walk w = { 0 };
	struct img_unsquash_visitor v = { .entry = entry, .data = data, .arg = &w };
	struct vl_err err = { 0 };

	if (fd < 0 || vl_write_full(fd, bytes, size) < 0 || img_tarball_new(drop, NULL, &w.tar, &err) < 0)
		return 0;
	if (img_unsquash(fd, 0, size, MAX_FILES, &v, &err) == 0) {
		if (w.left || img_tarball_end(w.tar, &err) < 0)
			abort();
	} else if (!*err.text) {
		abort();
	}
	img_tarball_free(w.tar);
	return 0;
}
