/* Inside tree_src.c and content.c. */
#ifndef IMAGE_SRC_IMPL_H
#define IMAGE_SRC_IMPL_H

#include "tree_src.h"

struct img_src {
	struct img_root root;
	struct img_unsquash *u; /* NULL = a directory */
	dev_t dev;              /* of a directory */
	uint32_t chunk;         /* bytes of the buffers; of a squashfs, its block size */
	uint8_t *block, *tail, *raw;
	uint64_t tail_at; /* which fragment is in tail; UINT64_MAX = none */
	uint32_t tail_len;
	/* this fragment is, packed, the same as that one of the other source: start + 1; 0 = none */
	uint64_t same_tail;
	uint64_t same_other;
};

#endif
