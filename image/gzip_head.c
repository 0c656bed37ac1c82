#include "gzip_head.h"

#include <zlib.h>

enum { FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16, RESERVED = 0xe0 };

/* The next field that the flags announce; each is taken off when it begins. */
static void next_field(struct gzip_head *h)
{
	h->seen = 0;
	h->state = h->flags & FEXTRA     ? GZH_EXTRA_LEN
		   : h->flags & FNAME    ? GZH_NAME
		   : h->flags & FCOMMENT ? GZH_COMMENT
		   : h->flags & FHCRC    ? GZH_HCRC
					 : GZH_DONE;
	h->flags &= (uint8_t) ~(h->flags & FEXTRA     ? FEXTRA
				: h->flags & FNAME    ? FNAME
				: h->flags & FCOMMENT ? FCOMMENT
						      : FHCRC);
}

static int fixed_byte(struct gzip_head *h, uint8_t c, struct vl_err *err)
{
	static const uint8_t magic[] = { 0x1f, 0x8b, 8 };

	if (h->seen < sizeof magic && c != magic[h->seen])
		return vl_fail(err, EBADMSG, "bytes that are no gzip member follow the gzip data");
	if (h->seen == 3) {
		if (c & RESERVED) /* RFC 1952: "must give an error indication" */
			return vl_fail(err, EBADMSG, "a gzip header with unknown flags");
		h->flags = c;
	}
	if (++h->seen == 10)
		next_field(h);
	return 0;
}

static int take_byte(struct gzip_head *h, uint8_t c, struct vl_err *err)
{
	switch (h->state) {
	case GZH_FIXED:
		return fixed_byte(h, c, err);
	case GZH_EXTRA_LEN:
		h->left = h->seen ? h->left | (uint32_t)c << 8 : c;
		if (++h->seen == 2)
			h->state = GZH_EXTRA;
		if (h->state == GZH_EXTRA && !h->left)
			next_field(h);
		return 0;
	case GZH_EXTRA:
		if (--h->left == 0)
			next_field(h);
		return 0;
	case GZH_NAME:
	case GZH_COMMENT:
		if (!c)
			next_field(h);
		return 0;
	default: /* GZH_HCRC */
		h->want |= (uint32_t)c << 8 * h->seen;
		if (++h->seen < 2)
			return 0;
		h->state = GZH_DONE;
		return h->want == (h->crc & 0xffff) ? 0 : vl_fail(err, EBADMSG, "wrong checksum of a gzip header");
	}
}

int img_gzip_head_push(struct gzip_head *h, const uint8_t **p, size_t *n, struct vl_err *err)
{
	while (*n && h->state != GZH_DONE) {
		if (h->state != GZH_HCRC)
			h->crc = (uint32_t)crc32(h->crc, *p, 1);
		int r = take_byte(h, **p, err);
		if (r < 0)
			return r;
		(*p)++;
		(*n)--;
	}
	return 0;
}
