/* Removing what others could have put links into. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <vial/base.h>

static void put(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	close(fd);
}

TEST(a_tree_goes_and_what_its_links_lead_to_stays)
{
	struct stat st;

	CHECK_EQ(mkdir("kept", 0755), 0);
	CHECK_EQ(chmod("kept", 0555), 0);
	CHECK_EQ(mkdir("tree", 0755), 0);
	CHECK_EQ(mkdir("tree/closed", 0700), 0);
	CHECK_EQ(mkdir("tree/closed/in", 0700), 0);
	put("tree/closed/in/file");
	put("tree/.hidden");
	CHECK_EQ(chmod("tree/closed/in", 0), 0);
	CHECK_EQ(chmod("tree/closed", 0), 0);
	CHECK_EQ(symlink("../kept", "tree/link"), 0);
	CHECK_EQ(symlink("/none", "tree/dangling"), 0);
	CHECK_EQ(vl_remove_tree(AT_FDCWD, "tree"), 0);
	CHECK_EQ(lstat("tree", &st), -1);
	CHECK_EQ(stat("kept", &st), 0);
	CHECK_EQ(st.st_mode & 0777, 0555);
}

TEST(a_link_is_removed_and_not_followed)
{
	struct stat st;

	CHECK_EQ(mkdir("kept", 0755), 0);
	put("kept/file");
	CHECK_EQ(symlink("kept", "link"), 0);
	CHECK_EQ(vl_remove_tree(AT_FDCWD, "link"), 0);
	CHECK_EQ(lstat("link", &st), -1);
	CHECK_EQ(stat("kept/file", &st), 0);
	CHECK_EQ(vl_remove_tree(AT_FDCWD, "kept/file"), 0);
	CHECK_EQ(vl_remove_tree(AT_FDCWD, "not-there"), 0);
	CHECK_EQ(stat("kept", &st), 0);
}

TEST(many_names_and_much_depth)
{
	char path[64];
	int top = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	CHECK_EQ(mkdir("tree", 0755), 0);
	for (int i = 0; i < 3000; i++) {
		snprintf(path, sizeof path, "tree/%d", i);
		put(path);
	}
	int at = openat(top, "tree", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 100; i++) {
		CHECK_EQ(mkdirat(at, "deeper", 0755), 0);
		int next = openat(at, "deeper", O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	close(at);
	CHECK_EQ(vl_remove_tree(top, "tree"), 0);
	CHECK(faccessat(top, "tree", F_OK, 0) < 0);
	close(top);
}
