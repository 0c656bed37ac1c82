/* Any bytes as a layer blob: plain, gzip or zstd by their magic, in uneven pieces. */
#include "fuzz.h"

#include <image/inflate.h>

#define MAX_OUT (8u << 20)

static int count(void *arg, const void *p, size_t n, struct vl_err *err)
{
	size_t *total = arg;

	(void)p;
	*total += n;
	return *total > MAX_OUT ? vl_fail(err, EFBIG, "enough") : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct img_inflate *z;
	struct vl_err err = { 0 };
	size_t total = 0, step = size % 97 + 1;
	int r = img_inflate_new(NULL, &z, &err);

	for (size_t i = 0; r == 0 && i < size; i += step)
		r = img_inflate_push(z, data + i, VL_MIN(step, size - i), count, &total, &err);
	if (r == 0)
		img_inflate_end(z, count, &total, &err);
	img_inflate_free(z);
	return 0;
}
