/* The header of a gzip member (RFC 1952), byte by byte. ISA-L inflates several times as fast as
 * zlib, but refuses valid headers that carry their own checksum (version 2.30). */
#ifndef IMAGE_GZIP_HEAD_H
#define IMAGE_GZIP_HEAD_H

#include <vial/base.h>

struct gzip_head {
	enum { GZH_FIXED, GZH_EXTRA_LEN, GZH_EXTRA, GZH_NAME, GZH_COMMENT, GZH_HCRC, GZH_DONE } state;
	uint8_t flags;
	uint32_t seen, left; /* bytes of the current field */
	uint32_t crc, want;
};
/* Consumes from *p, *n; state is GZH_DONE when the compressed data begins. */
int img_gzip_head_push(struct gzip_head *h, const uint8_t **p, size_t *n, struct vl_err *err);

#endif
