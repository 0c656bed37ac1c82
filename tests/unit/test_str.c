#include "check.h"

#include <vial/base.h>

TEST(numbers_are_whole_and_in_range)
{
	uint64_t v = 7;

	CHECK_EQ(vl_parse_u64("0", 0, 10, &v), 0);
	CHECK_EQ(v, 0);
	CHECK_EQ(vl_parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	CHECK(v == UINT64_MAX);
	v = 7;
	CHECK_EQ(vl_parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
	CHECK_EQ(vl_parse_u64("99999999999999999999999", 0, UINT64_MAX, &v), -ERANGE);
	CHECK_EQ(vl_parse_u64("11", 0, 10, &v), -ERANGE);
	CHECK_EQ(vl_parse_u64("1", 2, 10, &v), -ERANGE);
	static const char *const bad[] = { "", " 1", "1 ", "+1", "-1", "0x1", "1.", "1e3" };
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK_EQ(vl_parse_u64(bad[i], 0, 10, &v), -EINVAL);
	CHECK_EQ(v, 7); /* untouched on failure */
}

TEST(sizes_take_units)
{
	uint64_t v = 7;

	CHECK_EQ(vl_parse_size("512", UINT64_MAX, &v), 0);
	CHECK_EQ(v, 512);
	CHECK_EQ(vl_parse_size("64M", UINT64_MAX, &v), 0);
	CHECK_EQ(v, 64 << 20);
	CHECK_EQ(vl_parse_size("2k", UINT64_MAX, &v), 0);
	CHECK_EQ(v, 2048);
	CHECK_EQ(vl_parse_size("1GB", UINT64_MAX, &v), 0);
	CHECK_EQ(v, 1 << 30);
	v = 7;
	CHECK_EQ(vl_parse_size("17179869184G", UINT64_MAX, &v), -ERANGE); /* 2^64 */
	CHECK_EQ(vl_parse_size("2M", 1 << 20, &v), -ERANGE);
	static const char *const bad[] = { "", "M", "B", "1X", "1MM", "-1M", "1 M", "MB" };
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK_EQ(vl_parse_size(bad[i], UINT64_MAX, &v), -EINVAL);
	CHECK_EQ(v, 7);
}

TEST(hex_goes_both_ways_and_knows_one_spelling)
{
	const uint8_t bytes[] = { 0x00, 0x7f, 0x80, 0xff };
	uint8_t back[4];
	char hex[9];

	vl_hex(bytes, sizeof bytes, hex);
	CHECK_STR(hex, "007f80ff");
	CHECK_EQ(vl_unhex(hex, 4, back), 0);
	CHECK_MEM(back, bytes, 4);
	CHECK_EQ(vl_unhex("007F80FF", 4, back), -EINVAL);
	CHECK_EQ(vl_unhex("007f80f", 4, back), -EINVAL);   /* short */
	CHECK_EQ(vl_unhex("007f80ff0", 4, back), -EINVAL); /* long */
	CHECK_EQ(vl_unhex("007f80fg", 4, back), -EINVAL);
	CHECK_EQ(vl_unhex("", 4, back), -EINVAL);
}

TEST(outside_text_cannot_steer_a_terminal)
{
	VL_FREE char *s = vl_printable("a\033[31m\n\x7f"
				       "b\0c",
				       11);
	CHECK_STR(s, "a\\x1b[31m\\x0a\\x7fb\\x00c");
	/* C1 controls, bare and in UTF-8; overlong; marks that turn the text; the end of the text inside a character */
	VL_FREE char *c1 = vl_printable("\x9b"
					"2J\xc2\x9b"
					"2J",
					7);
	CHECK_STR(c1, "\\x9b2J\\xc2\\x9b2J");
	static const char *const bad[] = { "\xe0\x82\x9b",    "\xed\xa0\x80", "\xf0\x80\x82\x9b", "\xf4\x90\x80\x80",
					   "\xd8\x9c",        "\xe2\x80\xae", "\xe2\x80\x8f",     "\xe2\x80\xa8",
					   "\xe2\x81\xa6",    "\xe2\x81\xa9", "\xc2\x80",         "\xc0\x9b",
					   "\xf8\x80\x80\x80" };
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		VL_FREE char *shown = vl_printable(bad[i], strlen(bad[i]));
		CHECK_EQ(strlen(shown), 4 * strlen(bad[i]));
	}
	VL_FREE char *cut = vl_printable("\xc3\xa4", 1);
	CHECK_STR(cut, "\\xc3");
	VL_FREE char *words = vl_printable("\xc3\xa4 \xe2\x80\x93 \xe4\xb8\xad \xf0\x9f\x98\x80", 15);
	CHECK_STR(words, "\xc3\xa4 \xe2\x80\x93 \xe4\xb8\xad \xf0\x9f\x98\x80");
	VL_FREE char *none = vl_printable("", 0);
	CHECK_STR(none, "");
}

TEST(sizes_for_people)
{
	char s[16];

	vl_human_size(0, s);
	CHECK_STR(s, "0 B");
	vl_human_size(1023, s);
	CHECK_STR(s, "1023 B");
	vl_human_size(1536, s);
	CHECK_STR(s, "1.5 KiB");
	vl_human_size(UINT64_MAX, s); /* must fit */
	CHECK_STR(s, "16384.0 PiB");
}

TEST(buffers_grow_and_stay_terminated)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_add(&b, NULL, 0);
	CHECK_STR(b.data, "");
	for (int i = 0; i < 1000; i++)
		vl_buf_addf(&b, "%d,", i % 10);
	CHECK_EQ(b.len, 2000);
	CHECK_EQ(b.data[2000], 0);
	CHECK(!strncmp(b.data, "0,1,2,3,", 8));
}

TEST(lists_are_null_terminated)
{
	VL_STRV struct vl_strv l = { 0 };

	vl_strv_add(&l, "a");
	vl_strv_take(&l, vl_strdup("b"));
	CHECK_EQ(l.n, 2);
	CHECK_STR(l.v[0], "a");
	CHECK_STR(l.v[1], "b");
	CHECK(l.v[2] == NULL);
}

TEST(prefix_returns_the_rest)
{
	CHECK_STR(vl_prefix("docker://a", "docker://"), "a");
	CHECK_STR(vl_prefix("a", "a"), "");
	CHECK(!vl_prefix("a", "ab"));
}

TEST(little_endian)
{
	uint8_t b[8];

	vl_put_le64(b, 0x0102030405060708);
	CHECK_EQ(b[0], 8);
	CHECK_EQ(b[7], 1);
	CHECK_EQ(vl_le64(b), 0x0102030405060708);
	CHECK_EQ(vl_le32(b), 0x05060708);
	CHECK_EQ(vl_le16(b), 0x0708);
	memset(b, 0xff, sizeof b); /* no sign may leak upward */
	CHECK(vl_le64(b) == UINT64_MAX);
	CHECK(vl_le32(b) == UINT32_MAX);
}

TEST(steal_and_cleanup_reset)
{
	char *p = vl_strdup("x"), *q = vl_steal(&p);
	CHECK(p == NULL);
	errno = 42;
	vl_freep(&q);
	CHECK(q == NULL);
	int fd = dup(1);
	errno = 42;
	vl_closep(&fd);
	CHECK_EQ(fd, -1);
	vl_closep(&fd); /* twice is harmless */
	CHECK_EQ(errno, 42);
}

TEST(environments)
{
	char *env[] = { (char *)"PATHS=x",     (char *)"PATH=/bin", (char *)"EMPTY=",
			(char *)"PATH=/later", (char *)"NONE",      NULL };

	CHECK_STR(vl_env_value(env, "PATH"), "/bin");
	CHECK_STR(vl_env_value(env, "EMPTY"), "");
	CHECK(!vl_env_value(env, "PAT"));
	CHECK(!vl_env_value(env, "NONE"));
	CHECK(!vl_env_value(env + 5, "PATH"));
}

TEST(words_for_a_shell)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_shell_word(&b, "it's $HOME `x` \\");
	CHECK_STR(b.data, "'it'\\''s $HOME `x` \\'");
	b.len = 0;
	vl_buf_shell_word(&b, "");
	CHECK_STR(b.data, "''");
}

TEST(identifiers)
{
	CHECK(vl_is_identifier("_a9", 3));
	CHECK(vl_is_identifier("A=b", 1));
	CHECK(!vl_is_identifier("A=b", 3));
	CHECK(!vl_is_identifier("9a", 2));
	CHECK(!vl_is_identifier("", 0));
	CHECK(!vl_is_identifier("a.b", 3));
}
