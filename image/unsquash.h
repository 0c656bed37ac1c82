/* A squashfs read from its first name to its last, for image/export.c. Every byte of it comes from outside. */
#ifndef IMAGE_UNSQUASH_H
#define IMAGE_UNSQUASH_H

#include "tree.h"

struct img_unsquash_entry {              /* borrowed by the callback */
	const char *path;                /* components joined by '/', no leading one; "" = the root */
	const char *target;              /* text of a symlink, else NULL */
	const struct img_xattrs *xattrs; /* NULL = none */
	struct img_attr attr;
	uint64_t size; /* of a regular file */
	uint64_t ref;  /* which inode: names with the same one are hard links */
	uint32_t nlink;
	uint8_t type; /* enum img_type, no hard links */
};

#define IMG_UNSQUASH_SKIP 1 /* what entry returns when the content, or what is inside a folder, is not wanted */
struct img_unsquash_visitor {
	/* Folders before their content, names in the order of the squashfs: ascending bytes. */
	int (*entry)(void *arg, const struct img_unsquash_entry *e, struct vl_err *err);
	/* The content of the regular file that came last, all of its bytes, holes as zeros. */
	int (*data)(void *arg, const void *p, size_t n, struct vl_err *err);
	/* NULL, or called in place of data: where the content lies. f and its list are borrowed. */
	int (*layout)(void *arg, const struct img_file *f, struct vl_err *err);
	void *arg;
};

/* The squashfs in bytes off .. off + size of fd. max_size: bytes of all files together. */
int img_unsquash(int fd, uint64_t off, uint64_t size, uint64_t max_size, const struct img_unsquash_visitor *v,
		 struct vl_err *err);

/* ---- the same in steps, for who writes it anew ---- */

struct img_unsquash;
struct img_unsquash_head {
	uint32_t block_size, mtime, n_fragments;
	uint16_t compression; /* number of the codec */
	bool exportable;      /* it has a table from inode numbers to inodes */
	uint64_t data_end;    /* where the tables begin */
	struct img_fragment *fragments;
	uint8_t options[2 + 512]; /* of the codec, as they stand behind the super block */
	size_t n_options;         /* bytes; 0 = none */
};
int img_unsquash_open(int fd, uint64_t off, uint64_t size, uint64_t max_size, struct img_unsquash **ret,
		      struct vl_err *err);
const struct img_unsquash_head *img_unsquash_head(const struct img_unsquash *u);
/* From the root, as often as wanted; an error of a callback ends it. */
int img_unsquash_walk(struct img_unsquash *u, const struct img_unsquash_visitor *v, struct vl_err *err);
/* Unpacks the block at byte `at`, whose size word that is, to out (block_size bytes). */
int img_unsquash_block(struct img_unsquash *u, uint64_t at, uint32_t word, void *out, uint32_t *ret_n,
		       struct vl_err *err);
/* The bytes of the squashfs as they are. */
int img_unsquash_raw(struct img_unsquash *u, uint64_t at, void *out, size_t n, struct vl_err *err);
void img_unsquash_free(struct img_unsquash *u); /* NULL is fine */

#endif
