/* Any bytes as what the process that reads an image sends. */
#include "fuzz.h"

#include <image/record.h>
#include <sys/stat.h>

struct seen {
	uint64_t left;
};

static void look_at(const struct img_item *i)
{
	if (strlen(i->path) > IMG_MAX_PATH || S_ISLNK(i->mode) != (i->target != NULL))
		abort();
	for (size_t k = 0; k < i->n_xattrs; k++) {
		volatile uint8_t sum = (uint8_t)strlen(i->xattrs[k].key);
		for (size_t n = 0; n < i->xattrs[k].len; n++)
			sum = (uint8_t)(sum + ((const uint8_t *)i->xattrs[k].value)[n]);
	}
}

static int item(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct seen *s = arg;

	(void)err;
	if (s->left)
		abort();
	look_at(i);
	s->left = S_ISREG(i->mode) && !i->link ? i->size : 0;
	return 0;
}

static int hole(void *arg, uint64_t n, struct vl_err *err)
{
	struct seen *s = arg;

	(void)err;
	if (n > s->left)
		abort();
	s->left -= n;
	return 0;
}

static int data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	(void)p;
	return hole(arg, n, err);
}

static int diff(void *arg, unsigned what, const struct img_item *a, const struct img_item *b, struct vl_err *err)
{
	(void)arg, (void)what, (void)err;
	if (!a && !b)
		abort();
	if (a)
		look_at(a);
	if (b)
		look_at(b);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct seen s = { 0 };
	struct img_record_in in = { .v = { item, data, hole, &s }, .diff = diff };
	struct vl_err err = { 0 };
	size_t cut = size / 3;

	if (img_record_take(&in, bytes, cut, &err) == 0 && img_record_take(&in, bytes + cut, size - cut, &err) == 0)
		img_record_end(&in, &err);
	img_record_free(&in);
	return 0;
}
