#include "sif_check.h"

#include <fcntl.h>
#include <image/record.h>
#include <sys/stat.h>

struct seen {
	unsigned items, diffs;
	uint64_t data, holes;
	char last[64];
};

static int item(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct seen *s = arg;

	(void)err;
	s->items++;
	snprintf(s->last, sizeof s->last, "%s %o %s %s %zu", i->path, i->mode, i->target ? i->target : "-",
		 i->link ? i->link : "-", i->n_xattrs ? i->xattrs[0].len : 0);
	return 0;
}

static int data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	(void)p, (void)err;
	((struct seen *)arg)->data += n;
	return 0;
}

static int hole(void *arg, uint64_t n, struct vl_err *err)
{
	(void)err;
	((struct seen *)arg)->holes += n;
	return 0;
}

static int diff(void *arg, unsigned what, const struct img_item *a, const struct img_item *b, struct vl_err *err)
{
	(void)err;
	((struct seen *)arg)->diffs += what == IMG_DIFF_MODE && a && b && vl_streq(a->path, b->path);
	return 0;
}

/* What a child would have written. */
static void write_some(struct img_record_out *o)
{
	struct vl_err err = { 0 };
	VL_FREE struct img_xattrs *x = vl_alloc(sizeof *x + sizeof x->a[0]);
	struct img_unsquash_entry e = { .path = "dir/file", .type = IMG_FILE, .attr.mode = 0640, .size = 1000003 };

	*x = (struct img_xattrs){ .n = 1 };
	x->a[0] = (struct img_xattr){ (char *)"user.name", (char *)"value", 5 };
	CHECK_OK(img_record_item(o, &e, NULL, &err), err);
	CHECK_OK(img_record_data(o, "abc", 3, &err), err);
	CHECK_OK(img_record_hole(o, 1000000, &err), err);
	CHECK_OK(img_record_diff(o, IMG_DIFF_MODE, &e, &e, &err), err);
	e.path = "dir/link";
	e.type = IMG_SYMLINK;
	e.target = "../x";
	e.xattrs = x;
	CHECK_OK(img_record_item(o, &e, "dir/first", &err), err);
}

static struct img_record_in reader(struct seen *s)
{
	return (struct img_record_in){ .v = { item, data, hole, s }, .diff = diff, .diff_arg = s };
}

TEST(what_is_sent_comes_wherever_it_is_cut)
{
	struct img_record_out o = { .fd = -1 };
	struct vl_err err = { 0 };

	write_some(&o);
	for (size_t cut = 0; cut <= o.buf.len; cut++) {
		struct seen s = { 0 };
		struct img_record_in in = reader(&s);
		CHECK_OK(img_record_take(&in, o.buf.data, cut, &err), err);
		CHECK_EQ(img_record_end(&in, &err) == 0, cut == 0 || cut == o.buf.len || (s.holes && !in.len));
		CHECK_OK(img_record_take(&in, o.buf.data + cut, o.buf.len - cut, &err), err);
		CHECK_OK(img_record_end(&in, &err), err);
		CHECK_EQ(s.items, 2);
		CHECK_EQ(s.diffs, 1);
		CHECK_EQ(s.data, 3);
		CHECK_EQ(s.holes, 1000000);
		CHECK_STR(s.last, "dir/link 120640 ../x dir/first 5");
		img_record_free(&in);
	}
	vl_buf_free(&o.buf);
}

TEST(nonsense_is_refused_and_never_more_content_than_announced)
{
	struct img_record_out o = { .fd = -1 };

	write_some(&o);
	for (size_t at = 0; at < o.buf.len; at++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			struct seen s = { 0 };
			struct img_record_in in = reader(&s);
			struct vl_err err = { 0 };
			VL_FREE char *bad = vl_memdup(o.buf.data, o.buf.len);
			bad[at] = (char)(bad[at] ^ 1 << bit);
			if (img_record_take(&in, bad, o.buf.len, &err) < 0)
				CHECK(*err.text != 0);
			CHECK(s.items <= 2);
			img_record_free(&in);
		}
	}
	struct seen s = { 0 };
	struct img_record_in in = reader(&s);
	struct vl_err err = { 0 };
	struct img_record_out more = { .fd = -1 };
	CHECK_OK(img_record_data(&more, "abc", 3, &err), err);
	CHECK(img_record_take(&in, more.buf.data, more.buf.len, &err) == -EPROTO);
	CHECK_EQ(s.data, 0);
	img_record_free(&in);
	vl_buf_free(&more.buf);
	vl_buf_free(&o.buf);
}
