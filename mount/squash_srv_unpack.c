#include "squash.h"

#include <squashfuse/decompress.h>

int vmnt_unpack(unsigned compression, void *in, size_t n, void *out, size_t cap)
{
	sqfs_decompressor f = sqfs_decompressor_get((sqfs_compression_type)compression);
	size_t size = cap;

	if (!f || f(in, n, out, &size) != SQFS_OK || size > cap)
		return -EIO;
	return (int)size;
}

const char *vmnt_unpack_name(unsigned compression)
{
	if (compression > SQFS_COMP_MAX || !sqfs_decompressor_get((sqfs_compression_type)compression))
		return NULL;
	return sqfs_compression_name((sqfs_compression_type)compression);
}
