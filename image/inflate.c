#include "inflate.h"

#include "gzip_head.h"

#ifdef HAVE_ISAL
#include <isa-l.h>
#else
#include <zlib.h>
#endif
#include <zstd.h>

#define OUT_SIZE (256u << 10)
/* zstd: frames that need more memory to decode than this are refused (image-spec: bound it) */
#define ZSTD_WINDOW_LOG 27

enum kind { UNKNOWN, PLAIN, GZIP, ZSTD };

struct img_inflate {
	enum kind kind;
	uint8_t head[4]; /* first bytes, until the magic is known */
	size_t n_head;
	bool inside; /* in the middle of a member or frame */
#ifdef HAVE_ISAL
	struct inflate_state *gz;
	struct gzip_head head_state;
#else
	z_stream *gz;
#endif
	ZSTD_DStream *zs;
	uint8_t *out;
};

int img_inflate_new(const char *media_type, struct img_inflate **ret, struct vl_err *err)
{
	static const char *const known[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	};
	bool ok = !media_type;

	for (size_t i = 0; !ok && i < VL_COUNT(known); i++)
		ok = vl_streq(media_type, known[i]);
	if (!ok) {
		VL_FREE char *t = vl_printable(media_type, strnlen(media_type, 100));
		return vl_fail(err, ENOTSUP, "the layer type %s is not known", t);
	}
	struct img_inflate *z = vl_alloc(sizeof *z);
	z->out = vl_alloc(OUT_SIZE);
	*ret = z;
	return 0;
}

#ifdef HAVE_ISAL
static void gzip_begin(struct img_inflate *z)
{
	if (!z->gz)
		z->gz = vl_alloc(sizeof *z->gz);
	isal_inflate_init(z->gz);
	z->gz->crc_flag = ISAL_GZIP_NO_HDR_VER; /* checksum and length are checked; the header is ours */
	z->head_state = (struct gzip_head){ 0 };
}

static int gzip_step(struct img_inflate *z, const uint8_t **p, size_t *n, size_t *ret_out, bool *ret_end,
		     struct vl_err *err)
{
	int r = img_gzip_head_push(&z->head_state, p, n, err);

	if (r < 0)
		return r;
	if (z->head_state.state != GZH_DONE) {
		*ret_out = 0;
		*ret_end = false;
		return 0;
	}
	z->gz->next_in = (uint8_t *)*p;
	z->gz->avail_in = (uint32_t)*n;
	z->gz->next_out = z->out;
	z->gz->avail_out = OUT_SIZE;
	r = isal_inflate(z->gz);
	if (r != ISAL_DECOMP_OK && r != ISAL_END_INPUT)
		return vl_fail(err, EBADMSG,
			       r == ISAL_INCORRECT_CHECKSUM ? "wrong gzip checksum" : "damaged gzip data");
	*p += *n - z->gz->avail_in;
	*n = z->gz->avail_in;
	*ret_out = OUT_SIZE - z->gz->avail_out;
	*ret_end = z->gz->block_state == ISAL_BLOCK_FINISH;
	return 0;
}

static void gzip_free(struct img_inflate *z)
{
	free(z->gz);
}
#else
static void gzip_begin(struct img_inflate *z)
{
	if (z->gz) {
		inflateReset(z->gz);
		return;
	}
	z->gz = vl_alloc(sizeof *z->gz);
	if (inflateInit2(z->gz, 15 + 16) != Z_OK) /* 16: a gzip header is required, its trailer checked */
		abort();
}

static int gzip_step(struct img_inflate *z, const uint8_t **p, size_t *n, size_t *ret_out, bool *ret_end,
		     struct vl_err *err)
{
	z->gz->next_in = (uint8_t *)*p;
	z->gz->avail_in = (uInt)*n;
	z->gz->next_out = z->out;
	z->gz->avail_out = OUT_SIZE;
	int r = inflate(z->gz, Z_NO_FLUSH);
	if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
		return vl_fail(err, EBADMSG, "damaged gzip data: %s", z->gz->msg ? z->gz->msg : "unknown");
	*p += *n - z->gz->avail_in;
	*n = z->gz->avail_in;
	*ret_out = OUT_SIZE - z->gz->avail_out;
	*ret_end = r == Z_STREAM_END;
	return 0;
}

static void gzip_free(struct img_inflate *z)
{
	if (z->gz)
		inflateEnd(z->gz);
	free(z->gz);
}
#endif

static int push_gzip(struct img_inflate *z, const uint8_t *p, size_t n, img_sink *sink, void *arg, struct vl_err *err)
{
	for (;;) {
		size_t out = 0, before = n;
		bool end = false;
		int r;
		if (!z->inside) {
			if (!n)
				return 0;
			if (*p != 0x1f) /* the next member's first byte; its others are the library's to check */
				return vl_fail(err, EBADMSG, "bytes that are no gzip member follow the gzip data");
			gzip_begin(z);
			z->inside = true;
		}
		if ((r = gzip_step(z, &p, &n, &out, &end, err)) < 0 || (out && (r = sink(arg, z->out, out, err)) < 0))
			return r;
		if (end) {
			z->inside = false;
		} else if (out < OUT_SIZE && (n == 0 || n == before)) {
			return n ? vl_fail(err, EBADMSG, "damaged gzip data") : 0;
		}
	}
}

static int push_zstd(struct img_inflate *z, const uint8_t *p, size_t n, img_sink *sink, void *arg, struct vl_err *err)
{
	ZSTD_inBuffer in = { p, n, 0 };

	if (!z->zs) {
		z->zs = ZSTD_createDStream();
		if (!z->zs)
			abort();
		ZSTD_DCtx_setParameter(z->zs, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG);
	}
	for (;;) {
		ZSTD_outBuffer out = { z->out, OUT_SIZE, 0 };
		size_t before = in.pos, r = ZSTD_decompressStream(z->zs, &out, &in);
		if (ZSTD_isError(r))
			return vl_fail(err, EBADMSG, "damaged zstd data: %s", ZSTD_getErrorName(r));
		if (in.pos == before && !out.pos)
			return 0; /* asked between two frames: r then speaks of the next one */
		int s = out.pos ? sink(arg, z->out, out.pos, err) : 0;
		if (s < 0)
			return s;
		z->inside = r != 0;
	}
}

static int push_known(struct img_inflate *z, const uint8_t *p, size_t n, img_sink *sink, void *arg, struct vl_err *err)
{
	if (n == 0)
		return 0;
	if (z->kind == GZIP)
		return push_gzip(z, p, n, sink, arg, err);
	if (z->kind == ZSTD)
		return push_zstd(z, p, n, sink, arg, err);
	return sink(arg, p, n, err);
}

static enum kind recognise(const uint8_t *h, size_t n)
{
	if (n >= 2 && h[0] == 0x1f && h[1] == 0x8b)
		return GZIP;
	/* a frame, or one of the sixteen skippable frames */
	if (n >= 4 && (vl_le32(h) == 0xFD2FB528u || (vl_le32(h) & 0xFFFFFFF0u) == 0x184D2A50u))
		return ZSTD;
	return PLAIN;
}

int img_inflate_push(struct img_inflate *z, const void *p, size_t n, img_sink *sink, void *arg, struct vl_err *err)
{
	const uint8_t *b = p;

	if (z->kind == UNKNOWN) {
		while (n && z->n_head < sizeof z->head) {
			z->head[z->n_head++] = *b++;
			n--;
		}
		if (z->n_head < sizeof z->head)
			return 0;
		z->kind = recognise(z->head, z->n_head);
		int r = push_known(z, z->head, z->n_head, sink, arg, err);
		if (r < 0)
			return r;
	}
	return push_known(z, b, n, sink, arg, err);
}

int img_inflate_end(struct img_inflate *z, img_sink *sink, void *arg, struct vl_err *err)
{
	if (z->kind == UNKNOWN && z->n_head) { /* shorter than any magic */
		z->kind = recognise(z->head, z->n_head);
		int r = push_known(z, z->head, z->n_head, sink, arg, err);
		if (r < 0)
			return r;
	}
	if (z->inside)
		return vl_fail(err, EBADMSG, "the %s data ends in the middle", z->kind == GZIP ? "gzip" : "zstd");
	return 0;
}

void img_inflate_free(struct img_inflate *z)
{
	if (!z)
		return;
	gzip_free(z);
	ZSTD_freeDStream(z->zs);
	free(z->out);
	free(z);
}
