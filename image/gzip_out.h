/* A gzip file written by several threads. The bytes do not depend on how many there are. */
#ifndef IMAGE_GZIP_OUT_H
#define IMAGE_GZIP_OUT_H

#include <vial/base.h>

struct img_gzip;
/* fd: written from its start. Returns new. */
int img_gzip_new(int fd, unsigned threads, struct img_gzip **ret, struct vl_err *err);
int img_gzip_write(struct img_gzip *g, const void *p, size_t n, struct vl_err *err);

struct img_gzip_sums {
	uint8_t plain[32], packed[32]; /* sha256 of what went in and of what came out */
	uint64_t plain_size, packed_size;
};
int img_gzip_end(struct img_gzip *g, struct img_gzip_sums *ret, struct vl_err *err);
void img_gzip_free(struct img_gzip *g); /* NULL is fine */

#endif
