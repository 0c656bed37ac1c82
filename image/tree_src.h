/* A tree that is there already, in a squashfs or in a directory: found, walked, read. For a child process: everything
 * of a squashfs comes from outside. */
#ifndef IMAGE_TREE_SRC_H
#define IMAGE_TREE_SRC_H

#include <vial/image.h>

#include "unsquash.h"

struct img_src;
int img_src_open(const struct img_root *root, struct img_src **ret, struct vl_err *err);
void img_src_free(struct img_src *s); /* NULL is fine */

/* The path without a link in it, which stay inside the image; follow: nor at its end. *ret is new. */
int img_src_find(struct img_src *s, const char *path, bool follow, char **ret, struct vl_err *err);

struct img_src_walk {
	const char *top; /* what img_src_find returned */
	unsigned depth;  /* below it */
	/* As img_unsquash_visitor's: IMG_UNSQUASH_SKIP passes over what is inside. */
	int (*entry)(void *arg, const struct img_unsquash_entry *e, struct vl_err *err);
	/* Of a regular file that was not passed over: its content. f and its list are borrowed. */
	int (*content)(void *arg, const struct img_file *f, struct vl_err *err);
	void *arg;
};
int img_src_walk(struct img_src *s, const struct img_src_walk *w, struct vl_err *err);

/* ---- content, from the first byte to the last; one file of a source at a time ---- */

struct img_content {
	struct img_src *s;
	const struct img_file *f;
	uint64_t left, at; /* bytes of the file; of a squashfs, where the next block is */
	uint32_t i;        /* which block */
	int fd;            /* of a directory */
};
#define IMG_CONTENT_NONE                                                                                               \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}
int img_content_open(struct img_src *s, const char *path, const struct img_file *f, struct img_content *ret,
		     struct vl_err *err);
void img_content_close(struct img_content *c);
/* The next bytes, borrowed until the next call; *ret_p NULL: they are a hole. *ret_n 0 at the end. */
int img_content_next(struct img_content *c, const uint8_t **ret_p, size_t *ret_n, struct vl_err *err);
/* Two files of equal size: are they the same, as far as packed blocks tell? Steps over those that are; the rest is for
 * img_content_next. */
int img_content_skip_same(struct img_content *a, struct img_content *b, struct vl_err *err);

#endif
