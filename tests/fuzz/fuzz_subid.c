/* Any bytes as /etc/subuid. */
#include "fuzz.h"

#include "../../rootless/rootless.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_FREE char *text = vl_alloc(size + 1);
	struct ctr_ranges r = { 0 };

	memcpy(text, data, size);
	ctr_subid_ranges(text, "me", 1000, &r);
	for (size_t i = 0; i < r.n; i++)
		if (!r.v[i].count || r.v[i].first > UINT32_MAX - r.v[i].count)
			abort();
	return 0;
}
