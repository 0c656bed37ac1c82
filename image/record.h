/* How a child that reads an image tells what it finds: records in a pipe. Whoever takes them trusts none. */
#ifndef IMAGE_RECORD_H
#define IMAGE_RECORD_H

#include <vial/image.h>

#include "unsquash.h"

/* ---- the child ---- */

struct img_record_out {
	int fd; /* borrowed */
	struct vl_buf buf;
};
/* link: path of the file that it is another name of, or NULL */
int img_record_item(struct img_record_out *o, const struct img_unsquash_entry *e, const char *link, struct vl_err *err);
int img_record_data(struct img_record_out *o, const void *p, size_t n, struct vl_err *err);
int img_record_hole(struct img_record_out *o, uint64_t n, struct vl_err *err);
int img_record_diff(struct img_record_out *o, unsigned what, const struct img_unsquash_entry *before,
		    const struct img_unsquash_entry *after, struct vl_err *err);
int img_record_flush(struct img_record_out *o, struct vl_err *err);

/* ---- the parent ---- */

struct img_record_in {
	struct img_viewer v; /* its callbacks, and */
	img_diff_fn *diff;   /* NULL: such records make no sense */
	void *diff_arg;
	uint64_t owed; /* content of the last file that is still to come */
	uint8_t *buf;
	size_t len, cap;
	uint8_t *chunk; /* of the pipe, at a time */
};
/* n more bytes, wherever they are cut. */
int img_record_take(struct img_record_in *in, const void *p, size_t n, struct vl_err *err);
/* The next of them from the pipe of the child of that name; *ret_end: there was no more. */
int img_record_read(struct img_record_in *in, int fd, const char *name, bool *ret_end, struct vl_err *err);
/* There are no more. */
int img_record_end(const struct img_record_in *in, struct vl_err *err);
void img_record_free(struct img_record_in *in);

#endif
