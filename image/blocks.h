/* Data blocks of a squashfs: files in, compressed blocks and fragments out, on all allowed CPUs.
 *
 * The caller writes files one after another. Full blocks go to a pool of workers; their results
 * reach the file strictly in the order of submission, so the same input gives the same bytes
 * whatever the number of workers. Tails are packed into shared fragment blocks. Equal content is
 * stored once: tails by their SHA-256, runs of blocks by a hash of what was written and then a
 * comparison byte by byte. Both searches are hash tables: nothing here is quadratic.
 */
#ifndef IMAGE_BLOCKS_H
#define IMAGE_BLOCKS_H

#include <vial/base.h>

#include "codec.h"
#include "place.h"

#define IMG_NO_FRAGMENT 0xFFFFFFFFu

/* Where the content of one regular file lies. */
struct img_file {
	uint64_t size;
	uint64_t start;  /* first block, from the begin of the squashfs; 0 = no block stored */
	uint32_t *sizes; /* on-disk word per block: length, bit 24 = stored raw, 0 = a hole */
	uint32_t n_sizes, cap_sizes;
	uint32_t frag, frag_off; /* IMG_NO_FRAGMENT = no tail */
	uint64_t sparse;         /* bytes in holes */
	bool stored;             /* the content is there; false = skipped on reading */
	bool needed;             /* skipped, but the merged tree has it after all */
	uint64_t run_key;        /* hash over the stored blocks */
};

struct img_fragment {
	uint64_t start;
	uint32_t size; /* on-disk word */
};

struct img_blocks;
/* The first block goes to `first`, from the begin of the squashfs. */
int img_blocks_new(const struct img_place *place, uint64_t first, const struct img_codec *codec, uint32_t block_size,
		   unsigned workers, struct img_blocks **ret, struct vl_err *err);
/* One file at a time; f must stay where it is until img_blocks_finish. */
void img_blocks_begin(struct img_blocks *b, struct img_file *f);
int img_blocks_write(struct img_blocks *b, const void *p, size_t n, struct vl_err *err);
int img_blocks_zeros(struct img_blocks *b, uint64_t n, struct vl_err *err);
int img_blocks_end(struct img_blocks *b, struct vl_err *err);
/* Everything on disk. The fragments are borrowed until free. */
int img_blocks_finish(struct img_blocks *b, uint64_t *ret_end, const struct img_fragment **ret_frags, uint32_t *ret_n,
		      struct vl_err *err);
void img_blocks_free(struct img_blocks *b);

struct img_blocks_stats {
	uint64_t in, out, dup_tails, dup_runs, holes;
};
const struct img_blocks_stats *img_blocks_stats(const struct img_blocks *b);

#endif
