/* A layer's tar, written entry by entry. The same entries always give the same bytes. */
#ifndef IMAGE_TARBALL_H
#define IMAGE_TARBALL_H

#include "unsquash.h"

struct img_tarball;
typedef int img_tarball_sink(void *arg, const void *p, size_t n, struct vl_err *err);
int img_tarball_new(img_tarball_sink *sink, void *arg, struct img_tarball **ret, struct vl_err *err);
/* hardlink: path of the name that this one is a link to; NULL = none. A regular file's content follows by
 * img_tarball_data. Sockets have no place in a tar: -ENOTSUP. */
int img_tarball_add(struct img_tarball *t, const struct img_unsquash_entry *e, const char *hardlink,
		    struct vl_err *err);
int img_tarball_data(struct img_tarball *t, const void *p, size_t n, struct vl_err *err);
int img_tarball_end(struct img_tarball *t, struct vl_err *err);
void img_tarball_free(struct img_tarball *t); /* NULL is fine */

#endif
