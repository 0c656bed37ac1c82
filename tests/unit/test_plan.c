#include "check.h"

#include "rootless/rootless.h"

static char warned[4096];

static void warn(void *arg, const char *text)
{
	(void)arg;
	snprintf(warned + strlen(warned), sizeof warned - strlen(warned), "%s\n", text);
}
static const struct vl_progress say = { .warn = warn };

static void check_order(struct plan *p, const char *const *dst, size_t n)
{
	ctr_plan_sort(p, &say);
	CHECK_EQ(p->n_mounts, n);
	for (size_t i = 0; i < n; i++)
		CHECK_STR(p->mounts[i].dst, dst[i]);
}

TEST(parents_come_before_what_is_in_them)
{
	PLAN struct plan p = PLAN_INIT;
	static const char *const want[] = { "/a", "/a/b", "/a/b/c", "/a-b", "/a.b", "/ab" };

	for (size_t i = VL_COUNT(want); i-- > 0;)
		ctr_plan_add(&p, PLAN_BIND, "/src", want[i], 0);
	check_order(&p, want, VL_COUNT(want));
	CHECK_STR(warned, "");
}

TEST(the_first_of_two_is_used)
{
	PLAN struct plan p = PLAN_INIT;
	static const char *const want[] = { "/x" };

	ctr_plan_add(&p, PLAN_BIND, "/one", "/x", 0);
	ctr_plan_add(&p, PLAN_BIND, "/two", "//x/.", 0);
	check_order(&p, want, 1);
	CHECK_STR(p.mounts[0].src, "/one");
	CHECK(strstr(warned, "/two"));
}

TEST(a_default_gives_way_without_a_word)
{
	PLAN struct plan p = PLAN_INIT;
	static const char *const want[] = { "/tmp" };

	ctr_plan_add(&p, PLAN_BIND, "/tmp", "/tmp", PLAN_DEFAULT);
	ctr_plan_add(&p, PLAN_BIND, "/mine", "/tmp", 0);
	check_order(&p, want, 1);
	CHECK_STR(p.mounts[0].src, "/mine");
	CHECK_STR(warned, "");
}

TEST(what_is_shown_under_its_own_name)
{
	PLAN struct plan p = PLAN_INIT;

	ctr_plan_add(&p, PLAN_BIND, "/home/me", "/home/me", 0);
	ctr_plan_add(&p, PLAN_BIND, "/other", "/home/me/sub", 0);
	ctr_plan_add(&p, PLAN_TMPFS, NULL, "/tmp", 0);
	CHECK(ctr_plan_shows(&p, "/home/me"));
	CHECK(ctr_plan_shows(&p, "/home/me/x"));
	CHECK(!ctr_plan_shows(&p, "/home/mean"));
	CHECK(!ctr_plan_shows(&p, "/home/me/sub/x"));
	CHECK(!ctr_plan_shows(&p, "/tmp/x"));
	CHECK(!ctr_plan_shows(&p, "/"));
}
