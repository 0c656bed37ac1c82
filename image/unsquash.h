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
	void *arg;
};

/* The squashfs in bytes off .. off + size of fd. max_size: bytes of all files together. */
int img_unsquash(int fd, uint64_t off, uint64_t size, uint64_t max_size, const struct img_unsquash_visitor *v,
		 struct vl_err *err);

#endif
