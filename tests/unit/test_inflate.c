#include "check.h"

#include <image/inflate.h>

#include <zlib.h>
#include <zstd.h>

static int gather(void *arg, const void *p, size_t n, struct vl_err *err)
{
	(void)err;
	vl_buf_add(arg, p, n);
	return 0;
}

static int inflate_all(const struct vl_buf *in, size_t step, struct vl_buf *out, struct vl_err *err)
{
	struct img_inflate *z;
	int r = img_inflate_new(NULL, &z, err);

	out->len = 0;
	for (size_t i = 0; r == 0 && i < in->len; i += step)
		r = img_inflate_push(z, in->data + i, VL_MIN(step, in->len - i), gather, out, err);
	if (r == 0)
		r = img_inflate_end(z, gather, out, err);
	img_inflate_free(z);
	return r;
}

static void gz(struct vl_buf *b, const void *p, size_t n)
{
	z_stream z = { 0 };
	size_t cap = n + 1000;
	VL_FREE uint8_t *out = vl_alloc(cap);

	CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = (Bytef *)p;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	vl_buf_add(b, out, cap - z.avail_out);
	deflateEnd(&z);
}

static void zs(struct vl_buf *b, const void *p, size_t n)
{
	size_t cap = ZSTD_compressBound(n);
	VL_FREE uint8_t *out = vl_alloc(cap);
	vl_buf_add(b, out, ZSTD_compress(out, cap, p, n, 3));
}

static void expect_same(const struct vl_buf *in, const struct vl_buf *want)
{
	static const size_t steps[] = { 1 << 20, 4096, 3, 1 };
	VL_BUF struct vl_buf out = { 0 };
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(steps); i++) {
		if (inflate_all(in, steps[i], &out, &err) < 0)
			CHECK_FAIL("step %zu: %s", steps[i], err.text);
		CHECK_EQ(out.len, want->len);
		CHECK(!want->len || !memcmp(out.data, want->data, want->len));
	}
}

static void expect_refused(const struct vl_buf *in)
{
	VL_BUF struct vl_buf out = { 0 };
	struct vl_err err = { 0 };

	CHECK(inflate_all(in, 4096, &out, &err) < 0);
	CHECK(*err.text);
	CHECK(inflate_all(in, 1, &out, &err) < 0);
}

static void some_text(struct vl_buf *b)
{
	for (int i = 0; i < 20000; i++)
		vl_buf_addf(b, "%d ", i * 7919 % 1000);
}

TEST(every_form_in_pieces_of_every_size)
{
	VL_BUF struct vl_buf text = { 0 }, in = { 0 }, two = { 0 }, none = { 0 }, tiny = { 0 };

	some_text(&text);
	expect_same(&text, &text); /* plain */
	gz(&in, text.data, text.len);
	expect_same(&in, &text);
	in.len = 0;
	zs(&in, text.data, text.len);
	expect_same(&in, &text);
	vl_buf_add(&two, text.data, text.len);
	vl_buf_add(&two, text.data, text.len);
	in.len = 0;
	gz(&in, text.data, text.len);
	gz(&in, text.data, text.len);
	gz(&in, "", 0); /* an empty member at the end */
	expect_same(&in, &two);
	in.len = 0;
	vl_buf_add(&in, "\x50\x2a\x4d\x18\3\0\0\0abc", 11); /* a skippable frame first */
	zs(&in, text.data, text.len);
	zs(&in, text.data, text.len);
	expect_same(&in, &two);
	expect_same(&none, &none);
	vl_buf_adds(&tiny, "ab");
	expect_same(&tiny, &tiny);
}

/* RFC 1952 header with every optional field and its own checksum */
static void gz_full_header(struct vl_buf *b, const void *p, size_t n)
{
	z_stream z = { 0 };
	gz_header h = { .extra = (Bytef *)"AB\2\0hi",
			.extra_len = 6,
			.name = (Bytef *)"layer.tar",
			.comment = (Bytef *)"a comment",
			.hcrc = 1 };
	size_t cap = n + 1000;
	VL_FREE uint8_t *out = vl_alloc(cap);

	CHECK_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
	CHECK_EQ(deflateSetHeader(&z, &h), Z_OK);
	z.next_in = (Bytef *)p;
	z.avail_in = (uInt)n;
	z.next_out = out;
	z.avail_out = (uInt)cap;
	CHECK_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
	vl_buf_add(b, out, cap - z.avail_out);
	deflateEnd(&z);
}

TEST(gzip_header_fields)
{
	VL_BUF struct vl_buf text = { 0 }, in = { 0 };

	some_text(&text);
	gz_full_header(&in, text.data, text.len);
	expect_same(&in, &text);
	in.data[10 + 2 + 6 + 10 + 10] ^= 1; /* the header's checksum */
	expect_refused(&in);
	in.len = 0;
	gz(&in, text.data, text.len);
	in.data[3] = (char)0x80; /* a flag that means nothing yet */
	expect_refused(&in);
}

TEST(gzip_hostile)
{
	VL_BUF struct vl_buf text = { 0 }, in = { 0 };

	some_text(&text);
	for (int cut = 1; cut <= 8; cut++) { /* into the trailer */
		in.len = 0;
		gz(&in, text.data, text.len);
		in.len -= (size_t)cut;
		expect_refused(&in);
	}
	in.len /= 2;
	expect_refused(&in);
	for (size_t back = 1; back <= 8; back++) { /* checksum and length */
		in.len = 0;
		gz(&in, text.data, text.len);
		in.data[in.len - back] ^= 1;
		expect_refused(&in);
	}
	in.len = 0;
	gz(&in, text.data, text.len);
	vl_buf_adds(&in, "junk behind");
	expect_refused(&in);
	in.len = 0;
	gz(&in, text.data, text.len);
	vl_buf_add(&in, "\x1f\x8b", 2); /* a member that only begins */
	expect_refused(&in);
}

TEST(zstd_hostile)
{
	VL_BUF struct vl_buf text = { 0 }, in = { 0 };
	uint8_t huge_window[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00 };

	some_text(&text);
	zs(&in, text.data, text.len);
	in.len -= 5;
	expect_refused(&in);
	in.len = 0;
	zs(&in, text.data, text.len);
	vl_buf_adds(&in, "junk");
	expect_refused(&in);
	in.len = 0;
	zs(&in, text.data, text.len);
	vl_buf_adds(&in, "(\xb5"); /* a frame that only begins */
	expect_refused(&in);
	in.len = 0;
	vl_buf_add(&in, huge_window, sizeof huge_window);
	expect_refused(&in);
}

/* Output that ends exactly where a buffer of the decoder does: the end must still be seen. */
TEST(output_of_round_sizes)
{
	for (size_t size = 64 << 10; size <= 2 << 20; size *= 2) {
		VL_BUF struct vl_buf text = { 0 }, in = { 0 };
		VL_FREE char *zeros = vl_alloc(size);
		vl_buf_add(&text, zeros, size);
		zs(&in, text.data, text.len);
		expect_same(&in, &text);
		in.len = 0;
		gz(&in, text.data, text.len);
		expect_same(&in, &text);
	}
}

TEST(types)
{
	struct img_inflate *z;
	struct vl_err err = { 0 };

	CHECK_EQ(img_inflate_new("application/vnd.oci.image.layer.v1.tar+gzip", &z, &err), 0);
	img_inflate_free(z);
	CHECK(img_inflate_new("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", &z, &err) < 0);
	CHECK_HAS(err.text, "not known");
}
