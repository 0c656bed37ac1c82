#include "check.h"

#include "rootless/rootless.h"

static struct plan_group groups[] = { { 1000, (char *)"me" }, { 50, (char *)"staff" } };
static const struct plan_user user = {
	.uid = 1000,
	.gid = 1000,
	.name = (char *)"me",
	.gecos = (char *)"A: B\nC",
	.shell = (char *)"/bin/zsh",
	.home = (char *)"/home/me",
	.groups = groups,
	.n_groups = 2,
};

TEST(an_entry_is_added_at_the_end)
{
	VL_FREE char *got = ctr_passwd_text("root:x:0:0:root:/root:/bin/sh", &user);
	CHECK_STR(got, "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:A  B C:/home/me:/bin/zsh\n");
}

TEST(an_entry_of_the_same_uid_keeps_its_group_and_shell)
{
	VL_FREE char *got = ctr_passwd_text("app:x:1000:7:App:/app:/bin/ash\nx:x:1:1::/:\n", &user);
	CHECK_STR(got, "me:x:1000:7:A  B C:/home/me:/bin/ash\nx:x:1:1::/:\n");
}

TEST(broken_lines_stay_as_they_are)
{
	VL_FREE char *got = ctr_passwd_text("\n:::\nx\n1000:1000\n", &user);
	CHECK_STR(got, "\n:::\nx\n1000:1000\nme:x:1000:1000:A  B C:/home/me:/bin/zsh\n");
}

TEST(groups_are_added_once)
{
	VL_FREE char *got = ctr_group_text("root:x:0:\nstaff:x:50:", &user);
	CHECK_STR(got, "root:x:0:\nstaff:x:50:\nme:x:1000:me\n");
	VL_FREE char *again = ctr_group_text(got, &user);
	CHECK_STR(again, got);
}

TEST(the_files_are_the_answer_only_where_they_are_asked_first)
{
	static const struct {
		const char *text;
		bool first;
	} cases[] = {
		{ "passwd: files systemd\n", true },
		{ "# passwd: sss\n\n  passwd :\tfiles", true },
		{ "group: sss\npasswd:files\n", true },
		{ "passwd: files [SUCCESS=merge] sss\n", true },
		{ "passwd: files [SUCCESS=continue] sss\n", false },
		{ "passwd: files[NOTFOUND=return]\n", false },
		{ "passwd: sss files\n", false },
		{ "passwd: files\npasswd: sss\n", false },
		{ "passwd: compat\n", false },
		{ "passwd: filesystem\n", false },
		{ "passwd_compat: files\npasswd: nis\n", false },
		{ "passwd:\nfiles\n", false },
		{ "passwd:", false },
		{ "group: files\n", false },
		{ "", false },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++)
		CHECK_EQ(ctr_files_first(cases[i].text, "passwd"), cases[i].first);
}
