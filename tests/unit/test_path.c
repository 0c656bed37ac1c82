/* Names inside an untrusted root: both ways of opening, the kernel's and the walk. */
#include "check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <vial/base.h>

typedef int open_fn(int rootfd, const char *path, int flags, mode_t mode, struct vl_err *err);
static open_fn *const ways[] = { vl_open_in_root, vl_open_in_root_walk };

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	CHECK(fd >= 0);
	CHECK_EQ(vl_write_full(fd, text, strlen(text)), 0);
	close(fd);
}

/* A root beside a secret that no link of the root may reach. */
static int make_root(void)
{
	put("secret", "outside");
	CHECK_EQ(mkdir("root", 0755), 0);
	CHECK_EQ(mkdir("root/dir", 0755), 0);
	put("root/secret", "inside");
	put("root/dir/file", "file");
	CHECK_EQ(symlink("/secret", "root/absolute"), 0);
	CHECK_EQ(symlink("../../../../secret", "root/dir/climbing"), 0);
	CHECK_EQ(symlink("dir", "root/dirlink"), 0);
	CHECK_EQ(symlink("loop2", "root/loop1"), 0);
	CHECK_EQ(symlink("loop1", "root/loop2"), 0);
	CHECK_EQ(symlink("/", "root/top"), 0);
	CHECK_EQ(symlink("nowhere", "root/dangling"), 0);
	int fd = open("root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(fd >= 0);
	return fd;
}

TEST(links_and_dots_stay_inside)
{
	static const struct {
		const char *path, *want;
	} cases[] = {
		{ "secret", "inside" },     { "/secret", "inside" },
		{ "../secret", "inside" },  { "/../../secret", "inside" },
		{ "absolute", "inside" },   { "dir/climbing", "inside" },
		{ "dirlink/file", "file" }, { "dirlink/../secret", "inside" },
		{ "dir//./file", "file" },  { "top/top/../dir/file", "file" },
	};
	int root = make_root();

	for (size_t w = 0; w < VL_COUNT(ways); w++)
		for (size_t i = 0; i < VL_COUNT(cases); i++) {
			struct vl_err err = { 0 };
			char text[16] = "";
			int fd = ways[w](root, cases[i].path, O_RDONLY, 0, &err);
			if (fd < 0)
				CHECK_FAIL("way %zu, %s: %s", w, cases[i].path, err.text);
			CHECK(read(fd, text, sizeof text - 1) >= 0);
			CHECK_STR(text, cases[i].want);
			CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
			close(fd);
		}
	close(root);
}

TEST(refusals_are_the_kernels)
{
	static const struct {
		const char *path;
		int flags, want;
	} cases[] = {
		{ "none", O_RDONLY, -ENOENT },
		{ "none/file", O_RDONLY, -ENOENT },
		{ "dangling", O_RDONLY, -ENOENT },
		{ "secret/file", O_RDONLY, -ENOTDIR },
		{ "secret", O_RDONLY | O_DIRECTORY, -ENOTDIR },
		{ "loop1", O_RDONLY, -ELOOP },
		{ "loop1/x", O_RDONLY, -ELOOP },
		{ "absolute", O_RDONLY | O_NOFOLLOW, -ELOOP },
		{ "secret", O_WRONLY | O_CREAT | O_EXCL, -EEXIST },
	};
	int root = make_root();

	for (size_t w = 0; w < VL_COUNT(ways); w++)
		for (size_t i = 0; i < VL_COUNT(cases); i++) {
			struct vl_err err = { 0 };
			int r = ways[w](root, cases[i].path, cases[i].flags, 0644, &err);
			if (r != cases[i].want)
				CHECK_FAIL("way %zu, %s: %d, not %d", w, cases[i].path, r, cases[i].want);
			CHECK_HAS(err.text, cases[i].path);
		}
	close(root);
}

TEST(the_root_itself_opens)
{
	static const char *const names[] = { "", ".", "/", "..", "top", "dir/.." };
	struct stat want, st;
	int root = make_root();

	CHECK_EQ(fstat(root, &want), 0);
	for (size_t w = 0; w < VL_COUNT(ways); w++)
		for (size_t i = 0; i < VL_COUNT(names); i++) {
			struct vl_err err = { 0 };
			int fd = ways[w](root, names[i], O_RDONLY | O_DIRECTORY, 0, &err);
			if (fd < 0)
				CHECK_FAIL("way %zu, '%s': %s", w, names[i], err.text);
			CHECK_EQ(fstat(fd, &st), 0);
			CHECK(st.st_ino == want.st_ino && st.st_dev == want.st_dev);
			close(fd);
		}
	close(root);
}

TEST(a_new_file_is_made_inside)
{
	int root = make_root();

	for (size_t w = 0; w < VL_COUNT(ways); w++) {
		VL_FREE char *name = vl_asprintf("dirlink/new%zu", w), *real = vl_asprintf("root/dir/new%zu", w);
		struct vl_err err = { 0 };
		struct stat st;
		int fd = ways[w](root, name, O_WRONLY | O_CREAT | O_EXCL, 0600, &err);
		CHECK(fd >= 0);
		close(fd);
		CHECK_EQ(stat(real, &st), 0);
		CHECK_EQ(st.st_mode & 07777, 0600);
	}
	close(root);
}

TEST(lexical_clean_up)
{
	static const char *const cases[][2] = {
		{ "/", "/" },        { "", "/" },          { "//a///b/", "/a/b" }, { "/a/./b", "/a/b" },
		{ "/a/../b", "/b" }, { "/../../x", "/x" }, { "/a/b/../..", "/" },  { "/a/..b/...", "/a/..b/..." },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *got = vl_path_clean(cases[i][0]);
		CHECK_STR(got, cases[i][1]);
	}
}

TEST(absolute_is_against_the_cwd)
{
	VL_FREE char *cwd = getcwd(NULL, 0), *want = vl_asprintf("%s/x", cwd);
	VL_FREE char *got = vl_path_absolute("a/../x"), *same = vl_path_absolute("/a//b");

	CHECK_STR(got, want);
	CHECK_STR(same, "/a/b");
}

TEST(base_name)
{
	CHECK_STR(vl_basename("/a/b"), "b");
	CHECK_STR(vl_basename("b"), "b");
	CHECK_STR(vl_basename("a/"), "");
}
