/* Records of instances. */
#include "fuzz.h"

#include "rootless/instance.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 }, again = { 0 };
	struct vl_err err = { 0 };

	if (ctr_instance_parse((const char *)data, size, &i, &err) < 0)
		return 0;
	/* what was understood is understood again */
	VL_FREE char *text = ctr_instance_text(&i);
	if (ctr_instance_parse(text, strlen(text), &again, &err) < 0 || strchr(i.name, '/'))
		abort();
	return 0;
}
