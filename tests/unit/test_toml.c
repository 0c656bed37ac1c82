/* The TOML reader: what it must take, what it must not. */
#include "check.h"

#include <vial/base.h>

static const struct {
	const char *toml, *json;
} good[] = {
	{ "", "{}" },
	{ "\xef\xbb\xbf# only a comment", "{}" },
	{ "a = 1\r\nb = 2", "{\"a\":1,\"b\":2}" },
	{ "a=1 # c\n\n\n  b\t=\ttrue", "{\"a\":1,\"b\":true}" },
	{ "\"a b\" = 'x'\n'c\"' = \"y\"\n1234 = 1", "{\"a b\":\"x\",\"c\\\"\":\"y\",\"1234\":1}" },
	{ "\"\" = 1", "{\"\":1}" },
	{ "a.b . \"c.d\" = 1\na.e = 2", "{\"a\":{\"b\":{\"c.d\":1},\"e\":2}}" },
	{ "a = +1\nb = -17\nc = 0\nd = -0\ne = 1_000", "{\"a\":1,\"b\":-17,\"c\":0,\"d\":0,\"e\":1000}" },
	{ "a = 0xDEAD_beef\nb = 0o755\nc = 0b1101", "{\"a\":3735928559,\"b\":493,\"c\":13}" },
	{ "a = -9223372036854775808\nb = 9223372036854775807",
	  "{\"a\":-9223372036854775808,\"b\":9223372036854775807}" },
	{ "a = 1.5\nb = -2e10\nc = 6.6e-3\nd = inf\ne = -nan",
	  "{\"a\":\"1.5\",\"b\":\"-2e10\",\"c\":\"6.6e-3\",\"d\":\"inf\",\"e\":\"-nan\"}" },
	{ "a = 1979-05-27T07:32:00Z\nb = 1979-05-27 07:32:00.5-07:00\nc = 1979-05-27\nd = 07:32:00",
	  "{\"a\":\"1979-05-27T07:32:00Z\",\"b\":\"1979-05-27 "
	  "07:32:00.5-07:00\",\"c\":\"1979-05-27\",\"d\":\"07:32:00\"}" },
	{ "a = \"\\t\\\"\\\\\\u00e9\\U0001F600\"", "{\"a\":\"\\t\\\"\\\\\xc3\xa9\xf0\x9f\x98\x80\"}" },
	{ "a = \"\\u20ac\\u007f\\u0080\"", "{\"a\":\"\xe2\x82\xac\x7f\xc2\x80\"}" },
	{ "a = \"\"\"\nx\ny\\\n   \n  z\"\"\"", "{\"a\":\"x\\nyz\"}" },
	{ "a = \"\"\"\"\"\"\nb = \"\"\"x\"\"\"\"\"", "{\"a\":\"\",\"b\":\"x\\\"\\\"\"}" },
	{ "a = '''\r\nx\\n\r\ny'''", "{\"a\":\"x\\\\n\\ny\"}" },
	{ "a = 'C:\\x'", "{\"a\":\"C:\\\\x\"}" },
	{ "a = [ 1, 'x', # c\n [ ],\n [2,3], ]", "{\"a\":[1,\"x\",[],[2,3]]}" },
	{ "a = { b = 1, c.d = 2, e = { } }", "{\"a\":{\"b\":1,\"c\":{\"d\":2},\"e\":{}}}" },
	{ "[a]\nb=1\n[c.d]\ne=2\n[c]\nf=3", "{\"a\":{\"b\":1},\"c\":{\"d\":{\"e\":2},\"f\":3}}" },
	{ "[ a . \"b.c\" ] # c\n", "{\"a\":{\"b.c\":{}}}" },
	{ "[[a]]\nb=1\n[a.c]\nd=1\n[[a]]\n[[a.e]]\n[[a.e]]\n", "{\"a\":[{\"b\":1,\"c\":{\"d\":1}},{\"e\":[{},{}]}]}" },
	{ "[fruit]\napple.color = 1\n[fruit.apple.texture]\nx = 1",
	  "{\"fruit\":{\"apple\":{\"color\":1,\"texture\":{\"x\":1}}}}" },
	{ "[[registry]]\nprefix = \"docker.io\"\nlocation = \"m.example.com\"\n[[registry.mirror]]\nlocation = \"a\"\n"
	  "[[registry.mirror]]\nlocation = \"b\"\n[[registry]]\nprefix = \"*.x\"",
	  "{\"registry\":[{\"prefix\":\"docker.io\",\"location\":\"m.example.com\",\"mirror\":[{\"location\":\"a\"},"
	  "{\"location\":\"b\"}]},{\"prefix\":\"*.x\"}]}" },
	{ "[host.\"https://m:5000\"]\ncapabilities = [\"pull\"]",
	  "{\"host\":{\"https://m:5000\":{\"capabilities\":[\"pull\"]}}}" },
};

TEST(good)
{
	for (size_t i = 0; i < VL_COUNT(good); i++) {
		VL_JSON vl_json *j = NULL;
		struct vl_err err = { 0 };
		if (vl_toml_parse(good[i].toml, strlen(good[i].toml), "x", &j, &err) < 0)
			CHECK_FAIL("%s: %s", good[i].toml, err.text);
		VL_FREE char *text = vl_json_text(j, false);
		CHECK_STR(text, good[i].json);
	}
}

static const struct {
	const char *toml, *why;
} wrong[] = {
	{ "a", "line 1: 'a' is followed by no '='" },
	{ "a =", "a value is missing" },
	{ "a = # c", "a value is missing" },
	{ "= 1", "a key is missing" },
	{ "a. = 1", "a key is missing" },
	{ "a b = 1", "no '='" },
	{ "\"\"\"a\"\"\" = 1", "no '='" },
	{ "\n\na = x", "line 3: 'x' is no value" },
	{ "a = 1 b = 2", "more on the line" },
	{ "a = 1\na = 2", "line 2: 'a' is there twice" },
	{ "a = 1\n\"a\" = 2", "is there twice" },
	{ "a = 1\na.b = 2", "is something else already" },
	{ "a.b = 1\na = 2", "is there twice" },
	{ "a = {}\na.b = 2", "is something else already" },
	{ "a = { b = 1, b = 2 }", "is there twice" },
	{ "a = { b = 1,\nc = 2 }", "a key is missing" },
	{ "a = { b = 1, }", "a key is missing" },
	{ "a = { b = 1", "ends with '}'" },
	{ "a = [1 2]", "ends with ']'" },
	{ "a = [1, 2", "ends with ']'" },
	{ "a = [,]", "a value is missing" },
	{ "[a]\n[a]", "is there twice" },
	{ "[a]\n[[a]]", "is no array of tables" },
	{ "[[a]]\n[a]", "is there twice" },
	{ "a = []\n[[a]]", "is no array of tables" },
	{ "a = [{}]\n[a.b]", "no table that can be added to" },
	{ "a = {}\n[a.b]", "no table that can be added to" },
	{ "a = {}\n[a]", "is there twice" },
	{ "a = 1\n[a]", "is there twice" },
	{ "a = 1\n[a.b]", "no table that can be added to" },
	{ "a.b.c = 1\n[a.b]", "is there twice" },
	{ "[a.b.c]\nz=9\n[a]\nb.c.t = 1", "is something else already" },
	{ "[a", "no closing bracket" },
	{ "[[a]", "no closing bracket" },
	{ "[]", "a key is missing" },
	{ "[a] x", "more on the line" },
	{ "a = \"x", "no end on its line" },
	{ "a = \"x\ny\"", "no end on its line" },
	{ "a = 'x", "no end on its line" },
	{ "a = \"\"\"x\n", "several lines has no end" },
	{ "a = '''x''", "several lines has no end" },
	{ "a = \"\\x\"", "escape" },
	{ "a = \"\\u12\"", "hex digits" },
	{ "a = \"\\ud800\"", "no character" },
	{ "a = \"\\U00110000\"", "no character" },
	{ "\"a\\u0000b\" = 1", "NUL" },
	{ "a = \"\x01\"", "control character" },
	{ "a = 1 # \x7f", "control character" },
	{ "a = 1\rb = 2", "carriage return" },
	{ "a = \"\xff\"", "not UTF-8" },
	{ "a = \"\xc0\xaf\"", "not UTF-8" },
	{ "a = \"\xed\xa0\x80\"", "not UTF-8" },
	{ "a = \"\xf4\x90\x80\x80\"", "not UTF-8" },
	{ "a = \"\xe2\x82", "not UTF-8" },
	{ "a = 01", "is no value" },
	{ "a = 1__0", "is no value" },
	{ "a = _1", "is no value" },
	{ "a = 1_", "is no value" },
	{ "a = 0x", "is no value" },
	{ "a = 0b2", "is no value" },
	{ "a = +0x1", "is no value" },
	{ "a = 9223372036854775808", "too large" },
	{ "a = 0x1_0000_0000_0000_0000", "too large" },
	{ "a = .5", "is no value" },
	{ "a = 5.", "is no value" },
	{ "a = 1e", "is no value" },
	{ "a = True", "is no value" },
	{ "a = 1979-5-27", "is no value" },
	{ "a = 07:32:00Z", "is no value" },
};

TEST(wrong)
{
	for (size_t i = 0; i < VL_COUNT(wrong); i++) {
		vl_json *j = NULL;
		struct vl_err err = { 0 };
		/* an exact copy: a sanitizer sees a read past the end */
		VL_FREE char *copy = vl_memdup(wrong[i].toml, strlen(wrong[i].toml) + 1);
		size_t n = strlen(copy);
		VL_FREE char *exact = malloc(n);
		memcpy(exact, copy, n);
		if (vl_toml_parse(exact, n, "x.conf", &j, &err) != -EINVAL)
			CHECK_FAIL("%s was taken", wrong[i].toml);
		CHECK_HAS(err.text, wrong[i].why);
		CHECK_HAS(err.text, "x.conf: line ");
		CHECK(!j);
	}
}

static void bomb(const char *head, const char *repeat, size_t times, int want)
{
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err = { 0 };
	VL_JSON vl_json *j = NULL;

	vl_buf_adds(&b, head);
	for (size_t i = 0; i < times; i++)
		vl_buf_adds(&b, repeat);
	CHECK_EQ(vl_toml_parse(b.data, b.len, "x", &j, &err), want);
}

TEST(nesting_is_bounded)
{
	bomb("a = ", "[", 1000000, -EINVAL);
	bomb("a = ", "{a=", 500000, -EINVAL);
	bomb("a = ", "{a.a.a.a.a.a.a.a.a=", 100, -EINVAL);
	bomb("a", ".a", 1000000, -EINVAL);
	bomb("[a", ".a", 1000000, -EINVAL);
	bomb("a = [", "[],", 1000, -EINVAL); /* no end, but no depth either */
	bomb("", "#", VL_JSON_MAX + 1, -EFBIG);
	bomb("", "[[a]]\n", 100000, 0);
}
