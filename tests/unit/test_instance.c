/* Names and records of instances. */
#include "check.h"

#include "rootless/instance.h"

TEST(names)
{
	static const char *const good[] = { "a", "A-1_b.c", "_x", "0" };
	static const char *const bad[] = { "", ".", "..", ".a", "-a", "a/b", "a b", "a\nb", "a\x01", "\xc3\xbc", "a*" };
	char name[CTR_INSTANCE_NAME_MAX + 2] = "";
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(good); i++)
		CHECK(ctr_instance_check_name(good[i], &err) == 0);
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK(ctr_instance_check_name(bad[i], &err) == -EINVAL);
	memset(name, 'x', CTR_INSTANCE_NAME_MAX);
	CHECK(ctr_instance_check_name(name, &err) == 0);
	name[CTR_INSTANCE_NAME_MAX] = 'x';
	CHECK(ctr_instance_check_name(name, &err) == -EINVAL);
}

static struct ctr_instance some(void)
{
	struct ctr_instance i = { .restart = CTR_RESTART_ALWAYS, .since = 7, .guard = 8, .guard_start = 9, .mnt = 10 };

	i.name = vl_strdup("one");
	i.image = vl_strdup("/a\n\"b\xff.sif");
	i.out = vl_strdup("/o");
	i.errors = vl_strdup("/e");
	i.cwd = vl_strdup("/");
	i.program = vl_strdup("/bin/vial");
	i.home = vl_strdup("");
	vl_strv_add(&i.argv, "instance");
	vl_strv_add(&i.argv, "");
	vl_strv_add(&i.env, "A=b");
	vl_strv_add(&i.identity, "fakeroot");
	vl_strv_add(&i.verified, "/keys/me.pub.pem");
	return i;
}

TEST(a_record_there_and_back)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = some(), got = { 0 };
	VL_FREE char *text = ctr_instance_text(&i);
	struct vl_err err = { 0 };

	CHECK(ctr_instance_parse(text, strlen(text), &got, &err) == 0);
	VL_FREE char *again = ctr_instance_text(&got);
	CHECK(vl_streq(got.name, "one") && vl_streq(got.out, "/o") && vl_streq(got.errors, "/e"));
	CHECK(got.argv.n == 2 && vl_streq(got.argv.v[1], "") && vl_streq(got.env.v[0], "A=b"));
	CHECK(got.verified.n == 1 && vl_streq(got.verified.v[0], "/keys/me.pub.pem"));
	CHECK(vl_streq(got.identity.v[0], "fakeroot") && got.restart == CTR_RESTART_ALWAYS);
	CHECK(got.since == 7 && got.guard == 8 && got.guard_start == 9 && got.mnt == 10);
	CHECK(strlen(again) >= strlen("{}"));
}

TEST(what_is_no_record)
{
	static const char *const changes[][2] = {
		{ "\"name\":\"one\"", "\"name\":\"../one\"" },
		{ "\"name\":\"one\"", "\"name\":1" },
		{ "\"guard\":8", "\"guard\":-8" },
		{ "\"guard\":8", "\"guard\":99999999999" },
		{ "\"restart\":2", "\"restart\":3" },
		{ "\"argv\":[", "\"argv\":[1," },
		{ "\"mnt\":10", "\"mmt\":10" },
		{ "\"env\":[\"A=b\"]", "\"env\":{}" },
	};
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = some();
	VL_FREE char *text = ctr_instance_text(&i);
	struct vl_err err = { 0 };

	for (size_t n = 0; n < VL_COUNT(changes); n++) {
		struct ctr_instance got = { 0 };
		const char *at = strstr(text, changes[n][0]);
		CHECK(at);
		VL_FREE char *bad =
			vl_asprintf("%.*s%s%s", (int)(at - text), text, changes[n][1], at + strlen(changes[n][0]));
		CHECK(ctr_instance_parse(bad, strlen(bad), &got, &err) == -EINVAL);
		if (vl_prefix(changes[n][1], "\"mmt"))
			CHECK_HAS(err.text, "an instance's record lacks something, or is of another version");
		CHECK(!got.name);
	}
	for (size_t n = 0; n < strlen(text); n++) {
		struct ctr_instance got = { 0 };
		CHECK(ctr_instance_parse(text, n, &got, &err) < 0);
	}
}

TEST(the_start_of_a_process)
{
	uint64_t start = ctr_pid_start(getpid());

	CHECK(start > 0);
	CHECK(ctr_pid_start(getpid()) == start);
	CHECK(ctr_pid_start(0x7fffffff) == 0);
}
