#include "check.h"

#include <vial/base.h>

static int parse(const char *text, vl_json **ret, struct vl_err *err)
{
	return vl_json_parse(text, strlen(text), "test.json", ret, err);
}

TEST(typed_access)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };
	int64_t n = 7;

	CHECK_EQ(parse("{\"s\":\"x\",\"n\":-3,\"a\":[1,\"two\"],\"o\":{},\"z\":null}", &j, &err), 0);
	CHECK_STR(vl_json_str(j, "s"), "x");
	CHECK(vl_json_int(j, "n", &n));
	CHECK_EQ(n, -3);
	CHECK_EQ(vl_json_len(vl_json_arr(j, "a")), 2);
	CHECK_STR(vl_json_string(vl_json_at(vl_json_arr(j, "a"), 1)), "two");
	CHECK(vl_json_is_object(vl_json_obj(j, "o")));
	/* another type, absent, past the end: nothing, never a crash */
	CHECK(!vl_json_str(j, "n") && !vl_json_str(j, "none") && !vl_json_arr(j, "o") && !vl_json_obj(j, "a"));
	CHECK(!vl_json_int(j, "s", &n) && n == -3);
	CHECK(!vl_json_at(vl_json_arr(j, "a"), 2) && !vl_json_at(NULL, 0) && !vl_json_str(NULL, "s"));
	CHECK_EQ(vl_json_len(NULL), 0);
	CHECK(vl_json_is_null_or_absent(j, "z") && vl_json_is_null_or_absent(j, "none") &&
	      !vl_json_is_null_or_absent(j, "s"));
}

TEST(refusals_name_the_document)
{
	static const char *const bad[] = { "",        "{", "{}x", "[1,]", "{\"a\":01}", "'a'", "{\"a\":\"\\ud800\"}",
					   "\"\xff\"" };

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		vl_json *j = NULL;
		struct vl_err err = { 0 };
		if (parse(bad[i], &j, &err) != -EINVAL)
			CHECK_FAIL("accepted: %s", bad[i]);
		CHECK(j == NULL);
		CHECK_HAS(err.text, "test.json: bad JSON at byte");
	}
}

TEST(depth_is_limited_and_brackets_in_strings_do_not_count)
{
	VL_BUF struct vl_buf deep = { 0 };
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };

	for (int i = 0; i < VL_JSON_DEPTH; i++)
		vl_buf_adds(&deep, "[");
	VL_FREE char *open = vl_strdup(deep.data);
	for (int i = 0; i < VL_JSON_DEPTH; i++)
		vl_buf_adds(&deep, "]");
	CHECK_EQ(parse(deep.data, &j, &err), 0);
	VL_FREE char *deeper = vl_asprintf("[%s]", deep.data);
	vl_json *none = NULL;
	CHECK_EQ(parse(deeper, &none, &err), -EINVAL);
	CHECK_HAS(err.text, "deeper than 64 levels");
	VL_JSON vl_json *s = NULL;
	VL_FREE char *quoted = vl_asprintf("\"\\\"%s[[\"", open);
	CHECK_EQ(parse(quoted, &s, &err), 0);
}

TEST(size_is_limited)
{
	VL_FREE char *big = vl_alloc(VL_JSON_MAX + 2);
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };

	memset(big, ' ', VL_JSON_MAX + 1);
	big[0] = '1';
	CHECK_EQ(vl_json_parse(big, VL_JSON_MAX + 1, "x", &j, &err), -EFBIG);
	CHECK_EQ(vl_json_parse(big, VL_JSON_MAX, "x", &j, &err), 0);
}

TEST(a_nul_inside_a_string_is_not_a_short_string)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };

	CHECK_EQ(parse("{\"s\":\"a\\u0000b\"}", &j, &err), 0);
	CHECK(!vl_json_str(j, "s"));
}

TEST(what_is_built_reads_back)
{
	VL_JSON vl_json *o = vl_json_new_obj();
	vl_json *a = vl_json_new_arr();

	vl_json_add(a, vl_json_new_int(1));
	vl_json_add(a, vl_json_new_bool(true));
	vl_json_set(o, "a", a);
	vl_json_set(o, "none", NULL);
	vl_json_set(o, "s", vl_json_new_str("caf\xc3\xa9"));
	vl_json_set(o, "raw", vl_json_new_str("caf\xe9")); /* a file name in Latin-1 */
	VL_FREE char *text = vl_json_text(o, false);
	CHECK_STR(text, "{\"a\":[1,true],\"s\":\"caf\xc3\xa9\",\"raw\":\"caf\\\\xe9\"}");
	VL_FREE char *pretty = vl_json_text(o, true);
	VL_JSON vl_json *back = NULL;
	struct vl_err err = { 0 };
	CHECK_EQ(parse(pretty, &back, &err), 0);
	VL_FREE char *again = vl_json_text(back, false);
	CHECK_STR(again, text);
}

static void add_key(void *arg, const char *key, const vl_json *value)
{
	(void)value;
	vl_buf_addf(arg, "%s ", key);
}

TEST(members_come_in_the_documents_order)
{
	VL_JSON vl_json *j = NULL;
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err = { 0 };

	CHECK_EQ(parse("{\"z\":1,\"a\":2,\"m\":3}", &j, &err), 0);
	vl_json_each(j, add_key, &b);
	CHECK_STR(b.data, "z a m ");
}

TEST(a_key_twice_can_be_refused)
{
	static const char text[] = "{\"a\":{\"b\":1,\"b\":2}}";
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };

	CHECK_EQ(parse(text, &j, &err), 0);
	vl_json_freep(&j);
	CHECK_EQ(vl_json_parse_unique(text, strlen(text), "x", &j, &err), -EINVAL);
	CHECK_HAS(err.text, "x: bad JSON");
	CHECK_EQ(vl_json_parse_unique("{\"a\":1,\"b\":1}", 13, "x", &j, &err), 0);
}
