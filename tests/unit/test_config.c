/* Configuration files: what they say, in which order, and what is refused. */
#include "check.h"

#include "cmd/cmd.h"

#include <sys/stat.h>

static struct vl_err err;

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

/* All settings as "key=value@file:line|..." */
static char *loaded(const char *site, const char *user)
{
	VL_CLEANUP(opt_config_free) struct opt_config c = { 0 };
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	if (opt_config_load(site, user, &c, &err) < 0)
		return vl_strdup("error");
	for (size_t i = 0; i < c.n; i++)
		vl_buf_addf(&b, "%s%s=%s@%s:%u", i ? "|" : "", c.v[i].key, c.v[i].value, c.v[i].file, c.v[i].line);
	return vl_steal(&b.data);
}

TEST(missing_files_say_nothing)
{
	VL_FREE char *s = loaded("none.conf", "none.user");
	CHECK_STR(s, "");
}

TEST(site_then_drop_ins_by_name_then_user)
{
	put("site", "# a comment\n\n  compress =  gzip:9  \nbind = /a:/b # not a comment\n");
	CHECK_EQ(mkdir("site.d", 0755), 0);
	put("site.d/20.conf", "bind = /two");
	put("site.d/10.conf", "bind = /one\n");
	put("site.d/.hidden.conf", "bind = /no\n");
	put("site.d/readme.txt", "this is not read\n");
	put("user", "compress = zstd\n");
	VL_FREE char *s = loaded("site", "user");
	CHECK_STR(s, "compress=gzip:9@site:3|bind=/a:/b # not a comment@site:4|bind=/one@site.d/10.conf:1|"
		     "bind=/two@site.d/20.conf:1|compress=zstd@user:1");
}

TEST(an_empty_value_takes_back)
{
	put("site", "bind = /a\nbind = /b\ncompress = xz\n");
	put("user", "bind =\nbind = /c\n");
	VL_FREE char *s = loaded("site", "user");
	CHECK_STR(s, "compress=xz@site:3|bind=/c@user:2");
}

TEST(what_cannot_be_read_is_named_with_its_line)
{
	static const char *const bad[][2] = {
		{ "compress gzip\n", "site:1: " },   { "\n\n = x\n", "site:3: " },
		{ "Compress = x\n", "site:1: " },    { "a b = x\n", "site:1: " },
		{ "\x01\x02 = \xff\n", "site:1: " }, { "[section]\n", "site:1: " },
	};

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		put("site", bad[i][0]);
		VL_FREE char *s = loaded("site", NULL);
		CHECK_STR(s, "error");
		CHECK(strstr(err.text, bad[i][1]) != NULL);
	}
	CHECK_EQ(mkdir("dir", 0755), 0);
	VL_FREE char *s = loaded("dir", NULL);
	CHECK_STR(s, "error");
}

struct values {
	const char *codec;
	struct vl_strv bind, file;
	bool quick;
	const char *secret;
};
#define O(f) offsetof(struct values, f)
static const struct opt table[] = {
	{ 0, "compress", OPT_STR, O(codec), "C", "", "COMPRESS_WITH", 0 },
	{ 'B', "bind", OPT_LIST, O(bind), "B", "", "BIND BINDPATH", 0 },
	{ 0, "file", OPT_LIST, O(file), "F", "", "FILE", OPT_ENV_FIRST },
	{ 0, "quick", OPT_FLAG, O(quick), NULL, "", "QUICK", 0 },
	{ 0, "secret", OPT_STR, O(secret), "S", "", "SECRET", OPT_SECRET },
	OPT_END,
};
#undef O

static int parse(struct values *v, const struct opt_config *c, int argc, const char *const *words)
{
	char *argv[8] = { (char *)"prog" };
	int first;

	for (int i = 0; i < argc; i++)
		argv[i + 1] = (char *)words[i];
	*v = (struct values){ 0 };
	return opt_parse(table, v, argc + 1, argv, 0, c, &first, &err);
}

TEST(line_beats_environment_beats_files)
{
	VL_CLEANUP(opt_config_free) struct opt_config c = { 0 };
	struct values v;

	put("site", "compress-with = site\nquick = yes\nbind = /site\nfile = site\nsecret = leaked\n");
	put("user", "compress-with = user\nfile = user\n");
	CHECK_EQ(opt_config_load("site", "user", &c, &err), 0);
	CHECK_EQ(parse(&v, &c, 0, NULL), 0);
	CHECK_STR(v.codec, "user");
	CHECK(v.quick && !v.secret);
	opt_free(table, &v);

	setenv("VIAL_COMPRESS_WITH", "env", 1);
	setenv("APPTAINER_BINDPATH", "/env", 1);
	setenv("VIAL_FILE", "env", 1);
	CHECK_EQ(parse(&v, &c, 0, NULL), 0);
	CHECK_STR(v.codec, "env");
	opt_free(table, &v);

	const char *const words[] = { "--compress=line", "--file", "line", "-B/line", "--quick=no" };
	CHECK_EQ(parse(&v, &c, 5, words), 0);
	CHECK_STR(v.codec, "line");
	CHECK(!v.quick);
	CHECK_EQ(v.bind.n, 3u); /* lists take all: where the first wins the line stands first */
	CHECK_STR(v.bind.v[0], "/line");
	CHECK_STR(v.bind.v[1], "/env");
	CHECK_STR(v.bind.v[2], "/site");
	CHECK_EQ(v.file.n, 4u); /* and last where the last wins */
	CHECK_STR(v.file.v[0], "site");
	CHECK_STR(v.file.v[1], "user");
	CHECK_STR(v.file.v[2], "env");
	CHECK_STR(v.file.v[3], "line");
	opt_free(table, &v);
	unsetenv("VIAL_COMPRESS_WITH");
	unsetenv("APPTAINER_BINDPATH");
	unsetenv("VIAL_FILE");
}

TEST(a_bad_value_is_told_with_its_place)
{
	VL_CLEANUP(opt_config_free) struct opt_config c = { 0 };
	struct values v;

	put("site", "\nquick = perhaps\n");
	CHECK_EQ(opt_config_load("site", NULL, &c, &err), 0);
	CHECK_EQ(parse(&v, &c, 0, NULL), -EINVAL);
	CHECK(strstr(err.text, "site:2") && strstr(err.text, "perhaps"));
}
