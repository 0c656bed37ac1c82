/* What a holder is asked on its socket. */
#include "fuzz.h"

#include "../../rootless/hold.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_FREE char *text = vl_alloc(size + 1);
	VL_FREE struct vmnt_place *places = NULL;
	struct ctr_join j;

	if (size > CTR_REQUEST_MAX)
		return 0;
	memcpy(text, data, size);
	if (ctr_unpack_join(text, size, &j, &places) < 0)
		return 0;
	/* what was understood says the same again */
	VL_BUF struct vl_buf b = { 0 };
	if (!ctr_pack_join(&j, &b))
		return 0;
	if (b.len != size + 1 || memcmp(b.data + 1, text, size) != 0)
		abort();
	return 0;
}
