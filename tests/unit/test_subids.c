#include "check.h"

#include "rootless/rootless.h"

static struct ctr_ranges ranges(const char *text)
{
	struct ctr_ranges r = { 0 };

	ctr_subid_ranges(text, "me", 1000, &r);
	return r;
}

TEST(a_user_is_found_by_name_and_by_number)
{
	struct ctr_ranges r = ranges("you:1:2\nme:100000:65536\n1000:300000:7\n10000:5:5\nmeme:9:9\n");

	CHECK_EQ(r.n, 2);
	CHECK_EQ(r.v[0].first, 100000);
	CHECK_EQ(r.v[0].count, 65536);
	CHECK_EQ(r.v[1].first, 300000);
	CHECK_EQ(r.v[1].count, 7);
}

TEST(a_user_without_a_name_is_found_by_number)
{
	struct ctr_ranges r = { 0 };

	ctr_subid_ranges("me:100000:65536\n:5:5\n1000:300000:7", NULL, 1000, &r);
	CHECK_EQ(r.n, 1);
	CHECK_EQ(r.v[0].first, 300000);
}

TEST(lines_of_another_form_give_nothing)
{
	static const char *const bad[] = {
		"",
		"me",
		"me:",
		"me:1",
		"me:1:",
		"me:1:0",
		"me:1:2:3",
		"me:x:2",
		"me:1:x",
		"me:-1:2",
		"me:1:-2",
		"me:4294967296:1",
		"me:1:4294967296",
		"me:4294967295:1",
		"me::2",
		" me:1:2",
		"#me:1:2",
		"me :1:2",
		"me: 1:2",
		"me:1 :2",
		"me:1: 2",
		"\n\n:::\n",
		"me:1\n:2\n",
		"me\n:1:2",
		"me:0x1:2",
		"me:1:2 ",
		"m:1:2",
		"1000:",
	};

	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK_EQ(ranges(bad[i]).n, 0);
}

TEST(more_ranges_than_a_map_takes_are_left_out)
{
	VL_BUF struct vl_buf b = { 0 };

	for (int i = 0; i < 1000; i++)
		vl_buf_addf(&b, "me:%d:10\n", 100000 + i * 10);
	struct ctr_ranges r = ranges(b.data);
	CHECK_EQ(r.n, VL_COUNT(r.v));
	CHECK_EQ(r.v[0].first, 100000);
}
