/* Any bytes as a seccomp profile. */
#include "fuzz.h"

#include <vial/rootless.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vl_err err = { 0 };

	for (int text = 0; text < 2; text++) {
		VL_FREE void *out = NULL;
		size_t n = 0;
		if (ctr_seccomp_compile((const char *)data, size, "input", 0x5555, text, &out, &n, &err) == 0 &&
		    !text && (n == 0 || n % 8))
			abort(); /* the kernel takes whole instructions */
	}
	return 0;
}
