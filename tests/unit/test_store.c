#include "check.h"

#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define KEY_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define DIGEST "sha256:" KEY_C

static struct img_store *open_with(const struct img_store_opts *o)
{
	struct img_store *s = NULL;
	struct vl_err err = { 0 };

	if (img_store_open(o, &s, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return s;
}

static struct img_store *open_store(void)
{
	return open_with(&(struct img_store_opts){ .dir = "a/store", .keep_layers = true });
}

/* 1: ours to make. 0: it was there, its bytes in text. */
static int take(struct img_store *s, const char *key, const struct vl_progress *p, struct img_making *m, char text[64])
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = -1;
	VL_FREE char *path = NULL;
	int r = img_store_take(s, key, p, m, &fd, &path, &err);

	if (r < 0)
		CHECK_FAIL("%s", err.text);
	if (r == 0) {
		ssize_t n = pread(fd, text, 63, 0);
		CHECK(n > 0);
		text[n] = 0;
		CHECK(access(path, R_OK) == 0);
	}
	return r;
}

static void commit(struct img_making *m, const char *text)
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = -1;
	VL_FREE char *path = NULL;
	char back[64] = "";

	CHECK_EQ(vl_write_full(m->file.fd, text, strlen(text)), 0);
	if (img_store_commit(m, &fd, &path, &err) < 0)
		CHECK_FAIL("%s", err.text);
	CHECK_EQ(pread(fd, back, sizeof back - 1, 0), (ssize_t)strlen(text));
	CHECK_STR(back, text);
	CHECK_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
	CHECK(access(path, R_OK) == 0);
}

static void make_image(struct img_store *s, const char *key, const char *text)
{
	struct img_making m = IMG_MAKING_INIT;
	char back[64];

	CHECK_EQ(take(s, key, NULL, &m, back), 1);
	commit(&m, text);
}

static int find(struct img_store *s, const char *key)
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = -1;
	VL_FREE char *path = NULL;

	return img_store_find(s, key, &fd, &path, &err);
}

static int count_names(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);

	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		n += !vl_streq(e->d_name, ".") && !vl_streq(e->d_name, "..");
	closedir(d);
	return n;
}

static uint64_t clean(struct img_store *s, const struct img_store_clean *how)
{
	struct vl_err err = { 0 };
	uint64_t bytes = 0;

	if (img_store_clean(s, how, NULL, NULL, &bytes, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return bytes;
}

static void put(const char *path, const char *text)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(vl_write_full(fd, text, strlen(text)), 0);
}

static void set_used(const char *path, time_t t)
{
	const struct timespec ts[2] = { { .tv_sec = t }, { .tv_sec = t } };

	CHECK_EQ(utimensat(AT_FDCWD, path, ts, 0), 0);
}

/* ---- opening ---- */

TEST(open_makes_everything_private)
{
	struct img_store *s = open_store();
	struct stat st;
	static const char *const dirs[] = {
		"a", "a/store", "a/store/images", "a/store/blobs", "a/store/names", "a/store/locks"
	};

	for (size_t i = 0; i < VL_COUNT(dirs); i++) {
		CHECK_EQ(stat(dirs[i], &st), 0);
		CHECK_EQ(st.st_mode & 07777, 0700);
	}
	char tag[44] = "";
	int fd = open("a/store/CACHEDIR.TAG", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(read(fd, tag, 43), 43);
	CHECK_STR(tag, "Signature: 8a477f597d28d172789f06886806bc55");
	close(fd);
	CHECK_EQ(*img_store_dir(s), '/');
	img_store_free(s);
	s = open_store();
	img_store_free(s);
	img_store_free(NULL);
}

/* ---- making ---- */

TEST(find_after_commit)
{
	struct img_store *s = open_store();

	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "image a");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(find(s, KEY_B), -ENOENT);
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(twenty_processes_make_it_once)
{
	enum { N = 20 };
	int start[2], report[2];
	pid_t pid[N];

	img_store_free(open_store());
	CHECK(pipe2(start, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0);
	for (int i = 0; i < N; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			struct img_store *s = open_store();
			struct img_making m = IMG_MAKING_INIT;
			char text[64] = "", c;
			close(start[1]);
			CHECK_EQ(read(start[0], &c, 1), 0); /* end of file: all at once */
			int r = take(s, KEY_A, NULL, &m, text);
			if (r == 1) {
				snprintf(text, sizeof text, "made by %d", (int)getpid());
				commit(&m, text);
			}
			snprintf(text + strlen(text), 8, " %d\n", r);
			CHECK_EQ(write(report[1], text, 64), 64);
			img_store_free(s);
			exit(0);
		}
	}
	close(start[1]);
	close(report[1]);
	int makers = 0, maker = 0, by[N];
	char text[64];
	for (int i = 0; i < N; i++) {
		int made;
		CHECK_EQ(read(report[0], text, 64), 64);
		CHECK_EQ(sscanf(text, "made by %d %d", &by[i], &made), 2);
		makers += made;
		if (made)
			maker = by[i];
	}
	CHECK_EQ(makers, 1);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(by[i], maker);
		CHECK_EQ(vl_wait(pid[i]), 0);
	}
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
}

/* A child that has taken the key and waits; *ret_go: closing it lets it go on to give up. */
static pid_t start_maker(const char *key, const char *what, int *ret_go)
{
	int ready[2], go[2];
	char c;

	CHECK(pipe2(ready, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct img_store *s = open_store();
		struct img_making m = IMG_MAKING_INIT;
		char text[64];
		close(go[1]);
		CHECK_EQ(take(s, key, NULL, &m, text), 1);
		CHECK_EQ(vl_write_full(m.file.fd, "half", 4), 0);
		img_store_tell(&m, what, 30, 100);
		CHECK_EQ(write(ready[1], "x", 1), 1);
		CHECK_EQ(read(go[0], &c, 1), 0);
		img_store_give_up(&m);
		img_store_give_up(&m);
		img_store_free(s);
		exit(0);
	}
	close(ready[1]);
	close(go[0]);
	CHECK_EQ(read(ready[0], &c, 1), 1);
	close(ready[0]);
	*ret_go = go[1];
	return pid;
}

struct seen {
	char what[200];
	uint64_t done, total;
	pid_t kill;
	int go;
};

/* The news arrive only while we wait: the moment to end the maker. */
static void step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	snprintf(s->what, sizeof s->what, "%s", what);
	s->done = done;
	s->total = total;
	if (s->kill)
		kill(s->kill, SIGKILL);
	vl_closep(&s->go);
}

TEST(killed_maker_is_followed)
{
	struct img_store *s = open_store();
	struct seen seen = { .go = -1 };
	struct vl_progress p = { .step = step, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	char text[64], want[100];
	int go;
	pid_t pid = start_maker(KEY_A, "Converting", &go);

	seen.kill = pid;
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	snprintf(want, sizeof want, "Waiting for %d on ", (int)pid);
	CHECK_HAS(seen.what, want);
	CHECK_HAS(seen.what, ": Converting");
	CHECK_EQ(seen.done, 30);
	CHECK_EQ(seen.total, 100);
	commit(&m, "whole");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(count_names("a/store/locks"), 0);
	img_store_free(s);
}

TEST(give_up_wakes_the_next)
{
	struct img_store *s = open_store();
	struct seen seen = { 0 };
	struct vl_progress p = { .step = step, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	char text[64];
	pid_t pid = start_maker(KEY_A, "Converting", &seen.go);

	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_HAS(seen.what, "Converting");
	CHECK_EQ(vl_wait(pid), 0);
	commit(&m, "whole");
	CHECK_EQ(find(s, KEY_A), 0);
	img_store_free(s);
}

static void replace_lock(void *arg, const char *what, uint64_t done, uint64_t total)
{
	if (access("a/store/locks/" KEY_A, F_OK) == 0 && !*((struct seen *)arg)->what) {
		CHECK_EQ(unlink("a/store/locks/" KEY_A), 0);
		put("a/store/locks/" KEY_A, "");
	}
	step(arg, what, done, total);
}

TEST(lock_replaced_under_a_waiter)
{
	struct img_store *s = open_store();
	struct seen seen = { 0 };
	struct vl_progress p = { .step = replace_lock, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	struct stat mine, there;
	char text[64];
	pid_t pid = start_maker(KEY_A, "Converting", &seen.go);

	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(vl_wait(pid), 0);
	/* the lock we hold is the one the next will look at */
	CHECK_EQ(fstat(m.lock, &mine), 0);
	CHECK_EQ(stat("a/store/locks/" KEY_A, &there), 0);
	CHECK_EQ(mine.st_ino, there.st_ino);
	commit(&m, "whole");
	img_store_free(s);
}

TEST(clean_leaves_images_in_the_making)
{
	struct img_store *s = open_store();
	struct img_making m = IMG_MAKING_INIT;
	char text[64];

	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
	/* as on a file system without O_TMPFILE */
	put("a/store/images/." KEY_A ".sif.vial-1", "half");
	put("a/store/images/." KEY_B ".sif.vial-1", "left over");
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(access("a/store/images/." KEY_A ".sif.vial-1", F_OK), 0);
	CHECK_EQ(count_names("a/store/locks"), 1);
	commit(&m, "whole");
	CHECK_EQ(find(s, KEY_A), 0);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(access("a/store/images/" KEY_A ".sif", F_OK), 0);
	img_store_free(s);
}

/* ---- the limit ---- */

TEST(limit_removes_what_was_unused_longest)
{
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "a/store", .keep_layers = true });
	struct vl_err err = { 0 };

	make_image(s, KEY_A, "a"); /* 4 KiB each, on every file system of blocks */
	make_image(s, KEY_B, "b");
	struct stat st;
	CHECK_EQ(stat("a/store/images/" KEY_A ".sif", &st), 0);
	uint64_t each = (uint64_t)st.st_blocks * 512;
	CHECK(each > 0);
	img_store_free(s);
	s = open_with(&(struct img_store_opts){ .dir = "a/store", .limit = 2 * each, .keep_layers = true });
	CHECK_EQ(img_store_name_set(s, "docker.io/library/b:1", "amd64", DIGEST, KEY_B, &err), 0);
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	CHECK_EQ(find(s, KEY_A), 0); /* used now */
	make_image(s, KEY_C, "c");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(find(s, KEY_B), -ENOENT);
	CHECK_EQ(find(s, KEY_C), 0);
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
	/* what was just made stays, whatever the limit is */
	s = open_with(&(struct img_store_opts){ .dir = "a/store", .limit = 1, .keep_layers = true });
	make_image(s, KEY_B, "b");
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}
