/* Any bytes as a layer tar: every entry, all of its content. */
#include "fuzz.h"

#include <image/tar.h>

struct input {
	const uint8_t *p;
	size_t n;
};

static int feed(void *arg, const void **ret, size_t *ret_len, struct vl_err *err)
{
	struct input *in = arg;

	(void)err;
	*ret = in->p;
	*ret_len = VL_MIN(in->n, (size_t)1000); /* no multiple of a block: headers cross pieces */
	in->p += *ret_len;
	in->n -= *ret_len;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	struct img_tar *t = img_tar_new(feed, &in);
	const struct img_tar_entry *e;
	struct vl_err err = { 0 };

	while (img_tar_next(t, &e, &err) > 0) {
		const void *p;
		uint64_t off, end = 0;
		size_t n;
		if (!e->path || !e->link || e->type < '0' || e->type > '6')
			abort();
		while (img_tar_data(t, &p, &n, &off, &err) > 0) {
			/* pieces come in order and inside the file: the block writer counts on it */
			if (off < end || off + n > e->size)
				abort();
			end = off + n;
		}
	}
	img_tar_free(t);
	return 0;
}
