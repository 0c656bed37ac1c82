/* Any bytes as the profile of an image: what is taken of it lies in the partition. */
#include "fuzz.h"

#include <vial/sif.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint64_t sizes[] = { 0, 1, 96, 1u << 20, UINT64_MAX };
	struct sif_profile p = { 0 };

	for (size_t k = 0; k < VL_COUNT(sizes); k++) {
		if (!sif_profile_parse((const char *)data, n, sizes[k], &p))
			continue;
		if (!p.n || p.n > SIF_PROFILE_EXTENTS)
			abort();
		for (size_t i = 0; i < p.n; i++)
			if (!p.extent[i].len || p.extent[i].off >= sizes[k] ||
			    p.extent[i].len > sizes[k] - p.extent[i].off)
				abort();
	}
	return 0;
}
