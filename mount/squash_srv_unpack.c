#include "squash.h"

#include <squashfuse/decompress.h>
#include <zstd.h>

#define ZSTD 6 /* its number in the superblock */

/* zstd, the usual one, keeps its tables from block to block: making them anew costs as much as a small block. */
static int unpack_zstd(void **state, const void *in, size_t n, void *out, size_t cap)
{
	if (!*state)
		*state = ZSTD_createDCtx();
	if (!*state)
		return -EIO;
	size_t size = ZSTD_decompressDCtx(*state, out, cap, in, n);
	return ZSTD_isError(size) || size > cap ? -EIO : (int)size;
}

int vmnt_unpack(unsigned compression, void **state, void *in, size_t n, void *out, size_t cap)
{
	if (compression == ZSTD)
		return unpack_zstd(state, in, n, out, cap);
	sqfs_decompressor f = sqfs_decompressor_get((sqfs_compression_type)compression);
	size_t size = cap;

	if (!f || f(in, n, out, &size) != SQFS_OK || size > cap)
		return -EIO;
	return (int)size;
}

void vmnt_unpack_free(void *state)
{
	ZSTD_freeDCtx(state);
}

const char *vmnt_unpack_name(unsigned compression)
{
	if (compression > SQFS_COMP_MAX || !sqfs_decompressor_get((sqfs_compression_type)compression))
		return NULL;
	return sqfs_compression_name((sqfs_compression_type)compression);
}
