#include "codec.h"

#include <sqfs/error.h>

static const struct {
	const char *name;
	SQFS_COMPRESSOR id;
	unsigned min, max, def; /* levels; max 0 = the codec has none */
} codecs[] = {
	{ "zstd", SQFS_COMP_ZSTD, 1, 22, 3 }, { "gzip", SQFS_COMP_GZIP, 1, 9, 9 }, { "xz", SQFS_COMP_XZ, 0, 9, 6 },
	{ "lz4", SQFS_COMP_LZ4, 0, 0, 0 },    { "lzo", SQFS_COMP_LZO, 1, 9, 8 },   { "none", SQFS_COMP_ZSTD, 0, 0, 0 },
};

/* A compressor that never grows a block: libsquashfs 1.2 hands out LZ4 blocks that are larger than
 * their input, which unsquashfs refuses. raw: nothing is compressed at all. */
struct shim {
	sqfs_compressor_t base;
	sqfs_compressor_t *inner;
	bool raw;
};

static sqfs_s32 shim_block(sqfs_compressor_t *c, const sqfs_u8 *in, sqfs_u32 size, sqfs_u8 *out, sqfs_u32 out_size)
{
	struct shim *s = (struct shim *)c;
	sqfs_s32 n = s->raw ? 0 : s->inner->do_block(s->inner, in, size, out, out_size);

	return n > 0 && (sqfs_u32)n >= size ? 0 : n; /* 0: stored as it is */
}

static void shim_config(const sqfs_compressor_t *c, sqfs_compressor_config_t *cfg)
{
	const struct shim *s = (const struct shim *)c;
	s->inner->get_configuration(s->inner, cfg);
}

static int shim_write_options(sqfs_compressor_t *c, sqfs_file_t *file)
{
	struct shim *s = (struct shim *)c;
	return s->inner->write_options(s->inner, file);
}

static int shim_read_options(sqfs_compressor_t *c, sqfs_file_t *file)
{
	struct shim *s = (struct shim *)c;
	return s->inner->read_options(s->inner, file);
}

static void shim_destroy(sqfs_object_t *o)
{
	sqfs_destroy(((struct shim *)o)->inner);
	free(o);
}

static sqfs_object_t *shim_copy(const sqfs_object_t *o);

static sqfs_compressor_t *shim_new(sqfs_compressor_t *inner, bool raw)
{
	struct shim *s = vl_alloc(sizeof *s);

	*s = (struct shim){
		{ { shim_destroy, shim_copy }, shim_config, shim_write_options, shim_read_options, shim_block },
		inner,
		raw
	};
	return &s->base;
}

static sqfs_object_t *shim_copy(const sqfs_object_t *o)
{
	const struct shim *s = (const struct shim *)o;
	sqfs_compressor_t *inner = sqfs_copy(s->inner);

	return inner ? (sqfs_object_t *)shim_new(inner, s->raw) : NULL;
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

/* "zstd, gzip, xz, lz4 or none": what this libsquashfs was built with; returns new. */
static char *known_codecs(uint32_t block_size)
{
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < VL_COUNT(codecs); i++) {
		sqfs_compressor_config_t cfg;
		sqfs_compressor_t *c;
		if (sqfs_compressor_config_init(&cfg, codecs[i].id, block_size, 0) != 0 ||
		    sqfs_compressor_create(&cfg, &c) != 0)
			continue;
		sqfs_destroy(c);
		vl_buf_addf(&b, "%s%s", !b.len ? "" : i + 1 == VL_COUNT(codecs) ? " or " : ", ", codecs[i].name);
	}
	return vl_steal(&b.data);
}

static int unknown(const char *spec, uint32_t block_size, const char *why, int code, struct vl_err *err)
{
	VL_FREE char *known = known_codecs(block_size);
	return vl_fail(err, code, "compression '%s' is not %s: %s, then :LEVEL", spec, why, known ? known : "none");
}

char *img_codec_words(const char *spec)
{
	const char *s = spec ? spec : "zstd", *colon = strchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : strlen(s);
	uint64_t level;

	for (size_t i = 0; i < VL_COUNT(codecs); i++) {
		if (strlen(codecs[i].name) != n || strncmp(codecs[i].name, s, n) != 0 || !codecs[i].max)
			continue;
		level = codecs[i].def;
		if (!colon || vl_parse_u64(colon + 1, codecs[i].min, codecs[i].max, &level) == 0)
			return vl_asprintf("%s:%u", codecs[i].name, (unsigned)level);
	}
	return vl_strdup(s);
}

int img_codec_new(const char *spec, uint32_t block_size, struct img_codec *ret, struct vl_err *err)
{
	const char *s = spec ? spec : "zstd", *colon = strchr(s, ':');
	size_t n = colon ? (size_t)(colon - s) : strlen(s), i = 0;
	sqfs_compressor_config_t cfg;
	struct img_codec c = { 0 };
	sqfs_compressor_t *inner = NULL;

	while (i < VL_COUNT(codecs) && (strlen(codecs[i].name) != n || strncmp(codecs[i].name, s, n)))
		i++;
	if (i == VL_COUNT(codecs))
		return unknown(s, block_size, "known", EINVAL, err);
	c.id = codecs[i].id;
	bool raw = vl_streq(codecs[i].name, "none");
	int r = sqfs_compressor_config_init(&cfg, c.id, block_size, 0);
	if (r == 0) {
		r = set_level(&cfg, s, colon ? colon + 1 : NULL, i, err);
		if (r < 0)
			return r;
		r = sqfs_compressor_create(&cfg, &inner);
	}
	if (r == SQFS_ERROR_UNSUPPORTED)
		return unknown(s, block_size, "in this libsquashfs", ENOTSUP, err);
	if (r != 0)
		return vl_fail(err, ENOTSUP, "compression '%s': %s", s, img_sqfs_error(r));
	c.c = shim_new(inner, raw);
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
