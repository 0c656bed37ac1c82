/* The squashfs compressor chosen for an image: words of the command line -> libsquashfs. */
#ifndef IMAGE_CODEC_H
#define IMAGE_CODEC_H

#include <vial/base.h>

#include <sqfs/compressor.h>

struct img_codec {
	sqfs_compressor_t *c; /* a prototype: every worker takes a copy of its own */
	SQFS_COMPRESSOR id;   /* for the super block */
};
/* spec: gzip|zstd|lz4|xz|none[:LEVEL], lzo where the library has it; NULL = zstd:3 */
int img_codec_new(const char *spec, uint32_t block_size, struct img_codec *ret, struct vl_err *err);
/* "zstd:3" of NULL and of "zstd": one text for what is the same. What is not known stays as it is. */
char *img_codec_words(const char *spec) VL_NEW;
void img_codec_free(struct img_codec *c);
/* Text of a libsquashfs error code. */
const char *img_sqfs_error(int code);

#endif
