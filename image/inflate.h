/* gzip, zstd and plain bytes behind one push interface. */
#ifndef IMAGE_INFLATE_H
#define IMAGE_INFLATE_H

#include <vial/base.h>

struct img_inflate;
/* Called with every piece of output; not 0 stops and is returned. */
typedef int img_sink(void *arg, const void *p, size_t n, struct vl_err *err);

/* media_type may be NULL. The blob's magic decides between gzip, zstd and plain, whatever the
 * type says of those three; a type that is none of them is refused. */
int img_inflate_new(const char *media_type, struct img_inflate **ret, struct vl_err *err);
int img_inflate_push(struct img_inflate *z, const void *p, size_t n, img_sink *sink, void *arg, struct vl_err *err);
/* The input has ended: a stream cut inside a member or frame is an error. */
int img_inflate_end(struct img_inflate *z, img_sink *sink, void *arg, struct vl_err *err);
void img_inflate_free(struct img_inflate *z);

#endif
