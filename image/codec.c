#include "codec.h"

#include <sqfs/error.h>

static const struct {
	const char *name;
	SQFS_COMPRESSOR id;
	unsigned min, max, def; /* levels; max 0 = the codec has none */
} codecs[] = {
	{ "zstd", SQFS_COMP_ZSTD, 1, 22, 3 },
	{ "gzip", SQFS_COMP_GZIP, 1, 9, 9 },
	{ "xz", SQFS_COMP_XZ, 0, 9, 6 },
	{ "lz4", SQFS_COMP_LZ4, 0, 0, 0 },
	{ "lzo", SQFS_COMP_LZO, 1, 9, 8 },
	{ "none", SQFS_COMP_ZSTD, 0, 0, 0 },
};

/* "Incompressible", said of everything: libsquashfs then stores metadata blocks raw. */
static sqfs_s32 store_raw(sqfs_compressor_t *c, const sqfs_u8 *in, sqfs_u32 size, sqfs_u8 *out, sqfs_u32 out_size)
{
	(void)c, (void)in, (void)size, (void)out, (void)out_size;
	return 0;
}

static int set_level(sqfs_compressor_config_t *cfg, const char *spec, const char *level, size_t i, struct vl_err *err)
{
	uint64_t v = codecs[i].def;

	if (level && (!codecs[i].max || vl_parse_u64(level, codecs[i].min, codecs[i].max, &v) < 0))
		return vl_fail(err, EINVAL, "compression '%s': %s takes %s", spec, codecs[i].name,
			       codecs[i].max ? "a level within its range" : "no level");
	if (codecs[i].max)
		cfg->level = (sqfs_u32)v;
	return 0;
}

int img_codec_new(const char *spec, uint32_t block_size, struct img_codec *ret, struct vl_err *err)
{
	const char *s = spec ? spec : "zstd", *colon = strchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : strlen(s), i = 0;
	sqfs_compressor_config_t cfg;
	struct img_codec c = { 0 };

	while (i < VL_COUNT(codecs) && (strlen(codecs[i].name) != n || strncmp(codecs[i].name, s, n)))
		i++;
	if (i == VL_COUNT(codecs))
		return vl_fail(err, EINVAL, "compression '%s' is not known: zstd, gzip, xz, lz4, lzo or none, then :LEVEL", s);
	c.id = codecs[i].id;
	c.none = vl_streq(codecs[i].name, "none");
	int r = sqfs_compressor_config_init(&cfg, c.id, block_size, 0);
	if (r == 0) {
		r = set_level(&cfg, s, colon ? colon + 1 : NULL, i, err);
		if (r < 0)
			return r;
		r = sqfs_compressor_create(&cfg, &c.c);
	}
	if (r != 0)
		return vl_fail(err, ENOTSUP, "compression '%s': %s", s, img_sqfs_error(r));
	if (c.none)
		c.c->do_block = store_raw;
	*ret = c;
	return 0;
}

void img_codec_free(struct img_codec *c)
{
	if (c->c)
		sqfs_destroy(c->c);
	c->c = NULL;
}

const char *img_sqfs_error(int code)
{
	switch (code) {
	case SQFS_ERROR_ALLOC:
		return "out of memory";
	case SQFS_ERROR_IO:
		return "input or output error";
	case SQFS_ERROR_COMPRESSOR:
		return "the compressor failed";
	case SQFS_ERROR_OVERFLOW:
		return "a number is too large for the format";
	case SQFS_ERROR_UNSUPPORTED:
		return "not supported by this libsquashfs";
	case SQFS_ERROR_ARG_INVALID:
		return "an argument is not valid";
	default:
		return "libsquashfs failed";
	}
}
