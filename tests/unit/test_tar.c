#include "check.h"
#include "tar_maker.h"

#include <image/tar.h>

struct source {
	const char *p;
	size_t n, step; /* step: bytes per piece, to cross every border */
};

static int feed(void *arg, const void **ret, size_t *ret_len, struct vl_err *err)
{
	struct source *s = arg;

	(void)err;
	*ret = s->p;
	*ret_len = VL_MIN(s->step, s->n);
	s->p += *ret_len;
	s->n -= *ret_len;
	return 0;
}

/* Everything that a tar says, as text: one line an entry. */
static int list(const struct vl_buf *b, size_t step, struct vl_buf *out, struct vl_err *err)
{
	struct source s = { b->data, b->len, step };
	struct img_tar *t = img_tar_new(feed, &s);
	const struct img_tar_entry *e;
	int r;

	out->len = 0;
	vl_buf_adds(out, "");
	while ((r = img_tar_next(t, &e, err)) > 0) {
		const void *p;
		size_t n;
		uint64_t off, bytes = 0;
		VL_FREE char *name = vl_printable(e->path, strlen(e->path));
		vl_buf_addf(out, "%c %s%s%s %llu %lld", e->type, name, *e->link ? " -> " : "", e->link,
			    (unsigned long long)e->size, (long long)e->mtime);
		while ((r = img_tar_data(t, &p, &n, &off, err)) > 0) {
			if (bytes == 0 || n == step)
				vl_buf_addf(out, " @%llu", (unsigned long long)off);
			bytes += n;
		}
		vl_buf_addf(out, " %llu\n", (unsigned long long)bytes);
		if (r < 0)
			break;
	}
	img_tar_free(t);
	return r;
}

static void expect_list(struct maker *m, const char *want)
{
	static const size_t steps[] = { 1 << 20, 512, 511, 7, 1 };
	VL_BUF struct vl_buf out = { 0 };
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(steps); i++) {
		int r = list(&m->b, steps[i], &out, &err);
		if (r < 0)
			CHECK_FAIL("refused: %s", err.text);
		if (i == 0)
			CHECK_STR(out.data, want);
	}
	vl_buf_free(&m->b);
}

static void expect_refusal(struct maker *m, const char *part)
{
	VL_BUF struct vl_buf out = { 0 };
	struct vl_err err = { 0 };

	if (list(&m->b, 4096, &out, &err) >= 0)
		CHECK_FAIL("accepted what should be refused for '%s': %s", part, out.data);
	CHECK_HAS(err.text, part);
	vl_buf_free(&m->b);
}

TEST(plain_entries)
{
	struct maker m = { 0 };

	mk_file(&m, "./a", "hello");
	mk_header(&m, "d/", '5', 0, NULL);
	mk_header(&m, "l", '2', 0, "../a");
	mk_header(&m, "h", '1', 0, "a");
	mk_header(&m, "old-folder/", 0, 0, NULL);
	mk_header(&m, "p", '6', 0, NULL);
	mk_end(&m);
	expect_list(
		&m,
		"0 ./a 5 1700000000 @0 5\n5 d/ 0 1700000000 0\n2 l -> ../a 0 1700000000 0\n1 h -> a 0 1700000000 0\n"
		"5 old-folder/ 0 1700000000 0\n6 p 0 1700000000 0\n");
}

TEST(archive_ends)
{
	struct maker m = { 0 };

	expect_list(&m, ""); /* no byte at all */
	mk_file(&m, "a", "x");
	expect_list(&m, "0 a 1 1700000000 @0 1\n"); /* no end blocks */
	mk_end(&m);
	vl_buf_adds(&m.b, "behind the end");
	expect_list(&m, "");
	mk_data(&m, "", 0);
	vl_buf_add(&m.b, (char[512]){ 0 }, 512);
	mk_file(&m, "a", "x");
	expect_refusal(&m, "lone block of zeros");
	mk_header(&m, "a", '0', 600, NULL);
	vl_buf_add(&m.b, (char[512]){ 0 }, 512);
	expect_refusal(&m, "ends in the middle");
	mk_file(&m, "a", "x");
	m.b.len -= 100; /* the padding of the last file may be missing */
	expect_list(&m, "0 a 1 1700000000 @0 1\n");
	mk_header(&m, "folder/", '0', 5, NULL); /* the slash decides, the content is passed over */
	mk_data(&m, "hello", 5);
	mk_file(&m, "a", "x");
	expect_list(&m, "5 folder/ 0 1700000000 0\n0 a 1 1700000000 @0 1\n");
	vl_buf_adds(&m.b, "ustar");
	expect_refusal(&m, "ends in the middle");
}

TEST(names_are_bytes)
{
	struct maker m = { 0 };
	VL_BUF struct vl_buf r = { 0 };

	/* é in its two Unicode forms: two names, not one */
	mk_record(&r, "path", "\xc3\xa9", 2);
	mk_pax(&m, r.data, r.len);
	mk_file(&m, "x", "1");
	r.len = 0;
	mk_record(&r, "path", "e\xcc\x81", 3);
	mk_pax(&m, r.data, r.len);
	mk_file(&m, "x", "22");
	r.len = 0;
	mk_record(&r, "path", "\xff\xfe", 2);
	mk_pax(&m, r.data, r.len);
	mk_file(&m, "x", "333");
	expect_list(&m,
		    "0 \xc3\xa9 1 1700000000 @0 1\n0 e\xcc\x81 2 1700000000 @0 2\n0 \\xff\\xfe 3 1700000000 @0 3\n");
}

TEST(pax_values)
{
	struct maker m = { 0 };
	VL_BUF struct vl_buf r = { 0 };

	mk_record(&r, "size", "5", 1);
	mk_record(&r, "mtime", "-1.5", 4);
	mk_record(&r, "linkpath", "to", 2);
	mk_pax(&m, r.data, r.len);
	mk_header(&m, "s", '0', 0, NULL);
	mk_data(&m, "hello", 5);
	/* a global header is checked, and means nothing */
	r.len = 0;
	mk_record(&r, "path", "other", 5);
	mk_header(&m, "g", 'g', r.len, NULL);
	mk_data(&m, r.data, r.len);
	mk_file(&m, "own", "y");
	expect_list(&m, "0 s -> to 5 -2 @0 5\n0 own 1 1700000000 @0 1\n");
}

TEST(pax_hostile)
{
	static const struct {
		const char *text;
		size_t n;
		const char *says;
	} bad[] = {
		{ "999999999 path=abc\n.", 20, "length" },
		{ "5 a=b", 5, "length" },
		{ "0 a=b\n", 6, "length" },
		{ "x a=b\n", 6, "length" },
		{ "-6 a=b\n", 7, "length" },
		{ "99999999999999999999 a=b\n", 25, "length" },
		{ "6 abc\n", 6, "without a key" },
		{ "5 =b\n", 5, "without a key" },
		{ "13 path=a\0bc\n", 13, "NUL" },
		{ "17 linkpath=a\0bc\n", 17, "NUL" },
		{ "11 size=-1\n", 11, "size" },
		{ "11 uid=abc\n", 11, "uid" },
		{ "28 size=9999999999999999999\n", 28, "size" },
		{ "13 mtime=1.x\n", 13, "mtime" },
		{ "23 GNU.sparse.major=7\n\n", 23, "unusable" },
	};
	struct maker m = { 0 };

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		mk_pax(&m, bad[i].text, bad[i].n);
		mk_file(&m, "x", "");
		expect_refusal(&m, bad[i].says);
	}
	mk_header(&m, "big", 'x', 2 << 20, NULL);
	expect_refusal(&m, "limit");
	mk_header(&m, "big", 'L', 2 << 20, NULL);
	expect_refusal(&m, "limit");
	mk_header(&m, "long", 'L', 6, NULL);
	mk_data(&m, "ab\0cd", 6);
	mk_file(&m, "x", "");
	expect_refusal(&m, "NUL");
	mk_pax(&m, "6 a=b\n", 6); /* and no entry behind it */
	expect_refusal(&m, "ends in the middle");
}

TEST(header_hostile)
{
	struct maker m = { 0 };

	m.next.bad_sum = true;
	mk_file(&m, "x", "");
	expect_refusal(&m, "checksum");
	m.next.size = "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"; /* 2^87 */
	mk_header(&m, "x", '0', 0, NULL);
	expect_refusal(&m, "63 bits");
	m.next.size = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe\x00"; /* -512 */
	mk_header(&m, "x", '0', 0, NULL);
	expect_refusal(&m, "negative");
	m.next.size = "77777777777\0";
	mk_header(&m, "x", '0', 0, NULL);
	expect_refusal(&m, "ends in the middle");
	m.next.size = "12x4567\0\0\0\0\0";
	mk_header(&m, "x", '0', 0, NULL);
	expect_refusal(&m, "not a number");
	mk_header(&m, "x", 'Z', 0, NULL);
	expect_refusal(&m, "unknown type");
	mk_header(&m, "x", 'M', 0, NULL);
	expect_refusal(&m, "unknown type");
	while (m.b.len < 2000)
		vl_buf_adds(&m.b, "this is no tar at all ");
	expect_refusal(&m, "checksum");
}

TEST(negative_and_large_times)
{
	struct maker m = { 0 };

	m.next.mtime = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"; /* -1 */
	mk_file(&m, "before", "");
	m.next.mtime = "\x80\0\0\0\0\0\0\x01\0\0\0\0"; /* 2^32 */
	mk_file(&m, "after", "");
	expect_list(&m, "0 before 0 -1 0\n0 after 0 4294967296 0\n");
}

TEST(gnu_long_names)
{
	struct maker m = { 0 };
	char name[300], want[700];

	memset(name, 'n', sizeof name - 1);
	name[sizeof name - 1] = 0;
	mk_header(&m, "././@LongLink", 'L', sizeof name, NULL);
	mk_data(&m, name, sizeof name);
	mk_header(&m, "././@LongLink", 'K', sizeof name, NULL);
	mk_data(&m, name, sizeof name);
	mk_header(&m, "nnn", '2', 0, "nnn");
	snprintf(want, sizeof want, "2 %s -> %s 0 1700000000 0\n", name, name);
	expect_list(&m, want);
}

TEST(pax_sparse_maps)
{
	struct maker m = { 0 };
	VL_BUF struct vl_buf r = { 0 };

	/* 0.1: the map in a record */
	mk_record(&r, "GNU.sparse.size", "10000", 5);
	mk_record(&r, "GNU.sparse.numblocks", "2", 1);
	mk_record(&r, "GNU.sparse.map", "512,3,9000,2", 12);
	mk_record(&r, "GNU.sparse.name", "real", 4);
	mk_pax(&m, r.data, r.len);
	mk_file(&m, "GNUSparseFile.0/real", "abcde");
	expect_list(&m, "0 real 10000 1700000000 @512 5\n");
	/* 0.0: a record per number */
	r.len = 0;
	mk_record(&r, "GNU.sparse.size", "100", 3);
	mk_record(&r, "GNU.sparse.offset", "10", 2);
	mk_record(&r, "GNU.sparse.numbytes", "5", 1);
	mk_pax(&m, r.data, r.len);
	mk_file(&m, "f", "abcde");
	expect_list(&m, "0 f 100 1700000000 @10 5\n");
	/* 1.0: the map in front of the content */
	r.len = 0;
	mk_record(&r, "GNU.sparse.major", "1", 1);
	mk_record(&r, "GNU.sparse.minor", "0", 1);
	mk_record(&r, "GNU.sparse.realsize", "4000", 4);
	mk_record(&r, "GNU.sparse.name", "one", 3);
	mk_pax(&m, r.data, r.len);
	mk_header(&m, "f", '0', 517, NULL);
	mk_data(&m, "1\n3000\n5\n", 9);
	mk_data(&m, "abcde", 5);
	expect_list(&m, "0 one 4000 1700000000 @3000 5\n");
}

/* Maps of many blocks: reading must stop at the map's last block, the content begins behind it. */
TEST(large_sparse_maps)
{
	for (unsigned parts = 1; parts <= 5000; parts = parts * 3 + 1) {
		struct maker m = { 0 };
		VL_BUF struct vl_buf r = { 0 }, map = { 0 }, data = { 0 }, out = { 0 };
		struct vl_err err = { 0 };

		vl_buf_addf(&map, "%u\n", parts);
		for (unsigned i = 0; i < parts; i++) {
			vl_buf_addf(&map, "%u\n3\n", i * 1000);
			vl_buf_adds(&data, "abc");
		}
		mk_record(&r, "GNU.sparse.major", "1", 1);
		mk_record(&r, "GNU.sparse.minor", "0", 1);
		mk_record(&r, "GNU.sparse.realsize", "9000000", 7);
		mk_pax(&m, r.data, r.len);
		mk_header(&m, "f", '0', map.len + -map.len % 512 + data.len, NULL);
		mk_data(&m, map.data, map.len);
		mk_data(&m, data.data, data.len);
		mk_file(&m, "behind", "x");
		if (list(&m.b, 1 << 20, &out, &err) < 0)
			CHECK_FAIL("%u parts: %s", parts, err.text);
		CHECK_HAS(out.data, "0 behind 1 ");
		vl_buf_free(&m.b);
	}
}

TEST(sparse_hostile)
{
	static const struct {
		const char *size, *map, *says;
	} bad[] = {
		{ "100", "50,5,10,0", "overlap" },
		{ "100", "10,5,12,0", "overlap" },
		{ "100", "99,5", "overlap" },
		{ "100", "0,4", "not the bytes" },
		{ "100", "9223372036854775807,5", "overlap" },
		{ "100", "1", "unusable" },
		{ "100", "1,x", "unusable" },
		{ "100", "-1,5", "unusable" },
	};
	struct maker m = { 0 };
	VL_BUF struct vl_buf r = { 0 };

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		r.len = 0;
		mk_record(&r, "GNU.sparse.size", bad[i].size, strlen(bad[i].size));
		mk_record(&r, "GNU.sparse.map", bad[i].map, strlen(bad[i].map));
		mk_pax(&m, r.data, r.len);
		mk_file(&m, "f", "abcde");
		expect_refusal(&m, bad[i].says);
	}
	static const char *const maps[] = { "9\n", "2\n0\n", "x\n", "99999999999\n", "1\n0\n-1\n" };
	for (size_t i = 0; i < VL_COUNT(maps); i++) {
		r.len = 0;
		mk_record(&r, "GNU.sparse.major", "1", 1);
		mk_record(&r, "GNU.sparse.realsize", "100", 3);
		mk_pax(&m, r.data, r.len);
		mk_header(&m, "f", '0', 512, NULL);
		mk_data(&m, maps[i], strlen(maps[i]));
		expect_refusal(&m, "sparse");
	}
}

TEST(content_that_is_not_read_is_passed_over)
{
	struct maker m = { 0 };
	struct vl_err err = { 0 };
	const struct img_tar_entry *e;

	mk_file(&m, "a", "some content of the first");
	mk_file(&m, "b", "");
	struct source s = { m.b.data, m.b.len, 100 };
	struct img_tar *t = img_tar_new(feed, &s);
	CHECK_EQ(img_tar_next(t, &e, &err), 1);
	CHECK_EQ(img_tar_next(t, &e, &err), 1);
	CHECK_STR(e->path, "b");
	CHECK_EQ(img_tar_next(t, &e, &err), 0);
	img_tar_free(t);
	vl_buf_free(&m.b);
}
