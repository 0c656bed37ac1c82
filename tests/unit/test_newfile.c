#include "check.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <vial/base.h>

static char *slurp(const char *path)
{
	char *text = NULL;
	struct vl_err err = { 0 };
	return vl_read_file(AT_FDCWD, path, 100, &text, NULL, &err) < 0 ? NULL : text;
}

/* Every name in the cwd, hidden ones too. */
static int count_names(void)
{
	int n = 0;
	DIR *d = opendir(".");

	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		n += !vl_streq(e->d_name, ".") && !vl_streq(e->d_name, "..");
	closedir(d);
	return n;
}

static void write_new(const char *path, const char *text, bool overwrite)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };

	if (vl_newfile_open(&f, path, 0644, overwrite, &err) < 0 || vl_write_full(f.fd, text, strlen(text)) < 0 ||
	    vl_newfile_commit(&f, overwrite, &err) < 0)
		CHECK_FAIL("%s", err.text);
}

TEST(appears_only_at_commit)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };

	umask(022);
	CHECK_EQ(vl_newfile_open(&f, "out", 0640, false, &err), 0);
	CHECK_EQ(vl_write_full(f.fd, "x", 1), 0);
	CHECK(access("out", F_OK) < 0);
	CHECK_EQ(vl_newfile_commit(&f, false, &err), 0);
	VL_FREE char *text = slurp("out");
	CHECK_STR(text, "x");
	struct stat st;
	CHECK_EQ(stat("out", &st), 0);
	CHECK_EQ(st.st_mode & 07777, 0640);
	CHECK_EQ(count_names(), 1);
}

TEST(abort_leaves_nothing)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };

	CHECK_EQ(vl_newfile_open(&f, "out", 0644, false, &err), 0);
	vl_newfile_abort(&f);
	vl_newfile_abort(&f);
	CHECK_EQ(count_names(), 0);
}

TEST(an_existing_file_is_kept_unless_told)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };

	write_new("out", "old", false);
	CHECK_EQ(vl_newfile_open(&f, "out", 0644, false, &err), -EEXIST);
	CHECK_HAS(err.text, "out exists already");
	VL_FREE char *old = slurp("out");
	CHECK_STR(old, "old");
	write_new("out", "new", true);
	VL_FREE char *now = slurp("out");
	CHECK_STR(now, "new");
	CHECK_EQ(count_names(), 1);
}

TEST(one_that_came_meanwhile_is_kept_too)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };

	CHECK_EQ(vl_newfile_open(&f, "out", 0644, false, &err), 0);
	write_new("out", "other", false);
	CHECK_EQ(vl_newfile_commit(&f, false, &err), -EEXIST);
	VL_FREE char *text = slurp("out");
	CHECK_STR(text, "other");
	vl_newfile_abort(&f);
	CHECK_EQ(count_names(), 1);
}

TEST(a_killed_writer_leaves_nothing)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct vl_newfile f = VL_NEWFILE_INIT;
		struct vl_err err = { 0 };
		if (vl_newfile_open(&f, "out", 0644, false, &err) == 0)
			kill(getpid(), SIGKILL);
		_exit(1);
	}
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	/* a hidden file may remain where O_TMPFILE is missing: the next writer removes it */
	write_new("out", "x", false);
	CHECK_EQ(count_names(), 1);
}

TEST(hidden_files_of_the_dead_go_and_of_the_living_stay)
{
	write_new(".out.vial-00dead", "", false);
	write_new(".out.vial-0alive", "", false);
	write_new(".other.vial-0", "", false);
	VL_CLOSE int held = open(".out.vial-0alive", O_RDWR | O_CLOEXEC);
	CHECK_EQ(flock(held, LOCK_EX | LOCK_NB), 0);
	write_new("out", "x", false);
	CHECK(access(".out.vial-00dead", F_OK) < 0);
	CHECK_EQ(access(".out.vial-0alive", F_OK), 0);
	CHECK_EQ(access(".other.vial-0", F_OK), 0);
}

TEST(names_that_are_no_file)
{
	static const char *const bad[] = { "", ".", "..", "dir/", "/" };

	CHECK_EQ(mkdir("dir", 0755), 0);
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
		struct vl_err err = { 0 };
		CHECK_EQ(vl_newfile_open(&f, bad[i], 0644, true, &err), -EINVAL);
	}
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	struct vl_err err = { 0 };
	CHECK_EQ(vl_newfile_open(&f, "dir", 0644, true, &err), -EISDIR);
	CHECK_EQ(vl_newfile_open(&f, "none/out", 0644, true, &err), -ENOENT);
	CHECK_HAS(err.text, "none");
}

TEST(a_name_of_full_length)
{
	char name[256];

	memset(name, 'n', 255);
	name[255] = 0;
	write_new(name, "x", false);
	write_new(name, "y", true);
	VL_FREE char *text = slurp(name);
	CHECK_STR(text, "y");
}

TEST(reading_refuses_what_is_no_file_or_too_big)
{
	char *text = NULL;
	struct vl_err err = { 0 };

	write_new("ten", "0123456789", false);
	CHECK_EQ(mkfifo("fifo", 0644), 0);
	CHECK_EQ(vl_read_file(AT_FDCWD, "ten", 9, &text, NULL, &err), -EFBIG);
	CHECK_EQ(vl_read_file(AT_FDCWD, "fifo", 9, &text, NULL, &err), -EINVAL);
	CHECK_EQ(vl_read_file(AT_FDCWD, ".", 9, &text, NULL, &err), -EINVAL);
	CHECK_EQ(vl_read_file(AT_FDCWD, "none", 9, &text, NULL, &err), -ENOENT);
	CHECK(text == NULL);
}

TEST(short_reads_are_errors)
{
	char b[20];
	struct vl_err err = { 0 };

	write_new("ten", "0123456789", false);
	VL_CLOSE int fd = vl_open("ten", O_RDONLY, 0, &err);
	CHECK_EQ(vl_pread_full(fd, b, 5, 5, "ten", &err), 0);
	CHECK_MEM(b, "56789", 5);
	CHECK_EQ(vl_pread_full(fd, b, 6, 5, "ten", &err), -EIO);
	CHECK_STR(err.text, "ten ends early: 1 bytes are missing");
	CHECK_EQ(vl_pwrite_full(fd, b, 1, 0, "ten", &err), -EBADF);
}

TEST(descriptors_move_above_stdio)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(vl_move_fd_above_stdio(fd), fd);
	close(0);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(fd, 0);
	fd = vl_move_fd_above_stdio(fd);
	CHECK(fd > 2 && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	CHECK(fcntl(0, F_GETFD) < 0);
	close(fd);
}
