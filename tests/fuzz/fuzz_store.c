/* What the store reads of other processes: a name's record, and a lock's text. */
#include "fuzz.h"

#include "image/store_files.h"

static void step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)arg, (void)done, (void)total;
	for (const char *p = what; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			abort(); /* it goes to a terminal */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct vl_progress progress = { .step = step };
	struct img_store_name n = { 0 };
	VL_FREE char *text = vl_strndup((const char *)data, size);

	if (img_store_name_parse((const char *)data, size, NULL, &n) == 0) {
		if (!img_store_is_key(n.key, strlen(n.key)))
			abort(); /* it becomes a file name */
		img_store_name_free(&n);
	}
	img_store_show_text(text, &progress);
	return 0;
}
