/* A squashfs written anew so that what a command reads at its start lies together: parts of image/optimize*.c. */
#ifndef IMAGE_OPTIMIZE_H
#define IMAGE_OPTIMIZE_H

#include <vial/image.h>

#include "squash.h"

struct opt_run {                  /* blocks of a file, one behind the other */
	const struct img_file *f; /* the first that has them */
	bool *hot;                /* per block: read at the start */
	uint64_t start;           /* where they went */
	uint32_t *sizes;
};
struct opt_tail { /* the end of a file, in a fragment */
	uint32_t frag, off, len;
	uint32_t new_frag, new_off;
};
struct opt_step { /* what is written next: a run or a tail */
	struct opt_run *run;
	struct opt_tail *tail;
};
struct opt_piece { /* of the old data that stays as it is */
	uint64_t from, len, to;
};

struct optimizing {
	const struct img_optimize_opts *o;
	const struct vl_progress *progress;
	int in, out;
	uint64_t in_base, out_base; /* of the squashfs in both files */
	struct img_unsquash *u;
	const struct img_unsquash_head *h;
	struct img_budget budget;
	/* the tree: entry i of the log is the inode refs[i] */
	struct img_log log;
	uint64_t *refs;
	size_t refs_cap;
	struct img_table by_ref; /* refs[i] -> i + 1 */
	/* what is hot, in the order of first read */
	struct img_table runs, tails;
	struct opt_step *steps;
	size_t n_steps, steps_cap;
	size_t *first; /* inodes that were used, as entries of the log */
	size_t n_first;
	/* what was written */
	uint64_t end; /* behind the last byte of data */
	struct img_fragment *frags;
	uint32_t n_frags;
	struct img_optimize_stats stats;
};

/* optimize_plan.c: the tree, and what of it is hot */
int img_optimize_read(struct optimizing *w, struct vl_err *err);
int img_optimize_choose(struct optimizing *w, struct vl_err *err);
struct opt_run *img_optimize_run(const struct optimizing *w, const struct img_file *f);   /* NULL: it is not hot */
struct opt_tail *img_optimize_tail(const struct optimizing *w, const struct img_file *f); /* the same */
uint32_t img_optimize_tail_size(const struct optimizing *w, const struct img_file *f);    /* 0: it has none */
/* optimize_data.c: from `first` on, hot blocks and then all others; files and fragments are told their new places */
int img_optimize_data(struct optimizing *w, uint64_t first, struct vl_err *err);
void img_optimize_free(struct optimizing *w);

static inline uint32_t opt_bytes(uint32_t word) /* on disk */
{
	return word & 0xffffff;
}
#define OPT_PLAIN (1u << 24) /* in the size word of a block: it is not compressed */

#endif
