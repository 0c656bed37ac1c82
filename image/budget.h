/* What one image may cost, whatever its layers say: a few kilobytes of gzip can ask for millions of
 * folders, exabytes of holes or hours of walking through links. One budget serves all layers. */
#ifndef IMAGE_BUDGET_H
#define IMAGE_BUDGET_H

#include <vial/base.h>

/* The largest images in use have about two million files; each takes some 400 bytes here. */
#define IMG_MAX_ENTRIES (4u << 20)
/* Names, link targets and extended attributes together; 100 bytes a file is usual. */
#define IMG_MAX_META_BYTES (512ull << 20)
/* Names looked up inside link targets: two or three per file where /lib is a link. */
#define IMG_MAX_LINK_STEPS (64u << 20)

struct img_budget { /* what is left */
	uint64_t entries, meta_bytes, link_steps;
	uint64_t file_bytes; /* of all files, holes included: a hole costs a list entry per block */
};

static inline struct img_budget img_budget_new(uint64_t file_bytes)
{
	return (struct img_budget){ IMG_MAX_ENTRIES, IMG_MAX_META_BYTES, IMG_MAX_LINK_STEPS, file_bytes };
}

static inline int img_spend(uint64_t *left, uint64_t n, const char *what, struct vl_err *err)
{
	if (n > *left)
		return vl_fail(err, EFBIG, "the image has more %s than the limit allows", what);
	*left -= n;
	return 0;
}

#endif
