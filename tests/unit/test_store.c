#include "check.h"

#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <vial/sif.h>

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

static bool count_item(void *arg, const struct img_store_item *i)
{
	(void)i;
	++*(int *)arg;
	return true;
}

static int new_blob(const struct oci_blob_store *b)
{
	struct vl_err err = { 0 };
	return b->create(b->arg, &err);
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

TEST(clean_by_kind_age_and_limit)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };
	struct stat st;

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = b->create(b->arg, &err);
	CHECK_EQ(vl_write_full(fd, "layer", 5), 0);
	b->keep(b->arg, &d, fd);
	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/blobs/sha256/" KEY_C, 2000);
	CHECK_EQ(stat("a/store/images/" KEY_A ".sif", &st), 0);
	uint64_t each = (uint64_t)st.st_blocks * 512;

	/* a dry run tells and does nothing */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7, .dry = true }), 3 * each);
	CHECK_EQ(count_names("a/store/images"), 2);
	/* the layer is old enough too, but no layers were asked for */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = IMG_STORE_IMAGE, .unused_seconds = 86400 }), each);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(access("a/store/blobs/sha256/" KEY_C, F_OK), 0);
	/* two are below the limit; one is, when the oldest went */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 2 * each }), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 2 * each - 1 }), each);
	CHECK(access("a/store/blobs/sha256/" KEY_C, F_OK) < 0);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7 }), each);
	CHECK_EQ(count_names("a/store/images"), 0);
	img_store_free(s);
}

/* By a clock that was wrong: new, but not for ever. */
TEST(what_was_used_in_the_future_can_go)
{
	struct img_store *s = open_store();

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	set_used("a/store/images/" KEY_A ".sif", time(NULL) + 400 * 86400);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7, .unused_seconds = 1000 }), 0);
	CHECK_EQ(count_names("a/store/images"), 2);
	clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 1 });
	CHECK_EQ(count_names("a/store/images"), 0);
	make_image(s, KEY_A, "a");
	set_used("a/store/images/" KEY_A ".sif", time(NULL) + 400 * 86400);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 0);
	img_store_free(s);
}

/* ---- site tiers ---- */

TEST(site_tier_is_searched_and_never_changed)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "of the site");
	img_store_free(site);
	set_used("site/images/" KEY_A ".sif", 1000);

	static const char *const sites[] = { "nowhere", "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	struct img_making m = IMG_MAKING_INIT;
	char text[64];
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "of the site");
	CHECK_EQ(count_names("own/images"), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7 }), 0);
	struct stat st;
	CHECK_EQ(stat("site/images/" KEY_A ".sif", &st), 0);
	CHECK_EQ(st.st_mtim.tv_sec, 1000);
	/* the own one comes first */
	put("own/images/" KEY_A ".sif", "own");
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "own");
	img_store_free(s);
}

TEST(site_tier_without_an_own_store)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "of the site");
	img_store_free(site);
	put("file", "");

	static const char *const sites[] = { "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "file/store", .site_dirs = sites });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct img_making m = IMG_MAKING_INIT;
	struct vl_err err = { 0 };
	char text[64], *path = NULL;
	uint64_t bytes;
	int fd = -1, listed = 0;
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "of the site");
	CHECK_EQ(img_store_take(s, KEY_B, NULL, &m, &fd, &path, &err), -ENOTDIR);
	CHECK_HAS(err.text, "file/store");
	CHECK_HAS(err.text, "--disable-cache");
	CHECK_EQ(img_store_name_set(s, "x", "amd64", DIGEST, KEY_A, &err), -ENOTDIR);
	CHECK_EQ(img_store_clean(s, &(struct img_store_clean){ .kinds = 7 }, NULL, NULL, &bytes, &err), -ENOTDIR);
	CHECK_EQ(img_store_list(s, count_item, &listed, &err), 0);
	CHECK_EQ(listed, 1);
	VL_CLOSE int blob = new_blob(b);
	CHECK(blob >= 0);
	img_store_free(s);
}

/* What a crash or a full disk may leave is made again. */
TEST(broken_images_are_not_there)
{
	struct img_store *s = open_store();
	const char *path = "a/store/images/" KEY_A ".sif";
	struct sif_new how = { 0 };
	struct sif_object o = { .type = SIF_DEFFILE, .group = SIF_DEFAULT_GROUP, .name = "" };
	struct sif_writer *w = NULL;
	struct vl_err err = { 0 };
	struct stat st;

	VL_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	CHECK_EQ(sif_writer_new(fd, &how, &w, &err), 0);
	CHECK_EQ(sif_writer_add(w, &o, "some text", 9, &err), 0);
	CHECK_EQ(sif_writer_end(w, &err), 0);
	sif_writer_free(w);
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(ftruncate(fd, st.st_size - 1), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(ftruncate(fd, st.st_size), 0); /* zeros */
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "made again");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(site_files_of_somebody_else_are_refused)
{
	if (geteuid() != 0)
		return; /* only root can give files away */
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "planted");
	struct vl_err err = { 0 };
	char digest[160], path[256], hex[65];
	uint8_t raw[32];
	CHECK_EQ(img_store_name_set(site, "x", "amd64", DIGEST, KEY_A, &err), 0);
	img_store_free(site);
	vl_sha256("x\namd64\n", 8, raw);
	vl_hex(raw, 32, hex);
	snprintf(path, sizeof path, "site/names/%s.json", hex);
	CHECK_EQ(chown(path, 12345, 12345), 0);
	CHECK_EQ(chown("site/images/" KEY_A ".sif", 12345, 12345), 0);

	static const char *const sites[] = { "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(chown("site", 12345, 12345), 0); /* now the one who made it owns the site's store */
	img_store_free(s);
	s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), 0);
	img_store_free(s);
}

/* ---- stores that are not ours alone ---- */

static int open_fails(const char *dir, struct vl_err *err)
{
	struct img_store *s = NULL;

	return img_store_open(&(struct img_store_opts){ .dir = dir }, &s, err);
}

TEST(stores_that_others_can_write_are_refused)
{
	struct vl_err err = { 0 };

	umask(0);
	CHECK_EQ(mkdir("shared", 0777), 0);
	CHECK_EQ(open_fails("shared", &err), -EPERM);
	CHECK_HAS(err.text, "chmod go-w");
	CHECK_EQ(chmod("shared", 0755), 0);
	CHECK_EQ(mkdir("shared/images", 0770), 0);
	CHECK_EQ(open_fails("shared", &err), -EPERM);
	CHECK_EQ(rmdir("shared/images"), 0);
	CHECK_EQ(mkdir("elsewhere", 0700), 0);
	CHECK_EQ(symlink("../elsewhere", "shared/images"), 0);
	CHECK(open_fails("shared", &err) < 0);
	CHECK_EQ(count_names("elsewhere"), 0);
	put("file", "x");
	CHECK(open_fails("file/store", &err) < 0);
	CHECK_HAS(err.text, "VIAL_CACHEDIR");
	CHECK_HAS(err.text, "--disable-cache");
	CHECK_HAS(err.text, "file/store");
	if (geteuid() == 0) {
		CHECK_EQ(mkdir("theirs", 0755), 0);
		CHECK_EQ(chown("theirs", 12345, 12345), 0);
		CHECK_EQ(open_fails("theirs", &err), -EPERM);
		CHECK_HAS(err.text, "12345");
	}
}

/* ---- names ---- */

TEST(names_round_trip)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	char digest[160] = "untouched";

	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), -ENOENT);
	CHECK_STR(digest, "untouched");
	CHECK_EQ(img_store_name_set(s, "docker.io/library/a:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), 0);
	CHECK_STR(digest, DIGEST);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "arm64", digest), -ENOENT);
	CHECK_EQ(img_store_name_set(s, "docker.io/library/a:1", "amd64", "sha256:" KEY_B, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), 0);
	CHECK_STR(digest, "sha256:" KEY_B);
	CHECK_EQ(count_names("a/store/names"), 1);
	CHECK_EQ(img_store_name_set(s, "x", "amd64", "sha256:short", KEY_B, &err), -EINVAL);
	CHECK_EQ(img_store_name_set(s, "x", "amd64", DIGEST, "../../x", &err), -EINVAL);
	/* a name whose image is not there yet stays; one that is asked to go goes */
	clean(s, &(struct img_store_clean){ .kinds = 3 });
	CHECK_EQ(count_names("a/store/names"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
}

/* The same source with other options: one name, and it stays as long as one of its images. */
TEST(a_name_has_all_images_of_its_digest)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	char digest[160];

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_A));
	CHECK(!img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_B));
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_A));
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_B));
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	uint64_t each = clean(s, &(struct img_store_clean){ .kinds = 1, .dry = true }) / 2;
	clean(s, &(struct img_store_clean){ .kinds = 3, .limit = each });
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(img_store_name_find(s, "x:1", "amd64", digest), 0);
	clean(s, &(struct img_store_clean){ .kinds = 1 });
	CHECK_EQ(img_store_name_find(s, "x:1", "amd64", digest), -ENOENT);
	CHECK_EQ(count_names("a/store/names"), 0);
	/* another digest: the images of the first are not its own */
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", "sha256:" KEY_B, KEY_B, &err), 0);
	CHECK(!img_store_name_has(s, "x:1", "amd64", "sha256:" KEY_B, KEY_A));
	img_store_free(s);
}

/* names/HASH.json of x, amd64 */
static void name_path(char *ret, size_t n)
{
	uint8_t raw[32];
	char hex[65];

	vl_sha256("x\namd64\n", 8, raw);
	vl_hex(raw, 32, hex);
	snprintf(ret, n, "a/store/names/%s.json", hex);
}

TEST(hostile_names_are_ignored_and_removed)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"null",
		"{\"name\":\"x\",\"arch\":\"amd64\"}",
		"{\"name\":\"y\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"../etc\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"../x\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":\"1\"}",
		"{\"name\":[],\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}x",
	};
	struct img_store *s = open_store();
	char path[128], digest[160];

	name_path(path, sizeof path);
	for (size_t i = 0; i < VL_COUNT(texts); i++) {
		put(path, texts[i]);
		CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
		clean(s, &(struct img_store_clean){ .kinds = 0 });
		CHECK_EQ(count_names("a/store/names"), 0);
	}
	put(path, "");
	CHECK_EQ(truncate(path, 1 << 20), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	put("good", "{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}");
	CHECK_EQ(symlink("../../../good", path), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(rename("good", path), 0); /* the same bytes, as a file */
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), 0);
	/* long unused, and there is no such image */
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
}

/* ---- planted files ---- */

TEST(planted_images_are_not_there)
{
	struct img_store *s = open_store();
	const char *path = "a/store/images/" KEY_A ".sif";

	put("target", "secret");
	CHECK_EQ(symlink("../../../target", path), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "a"); /* takes the link's place */
	CHECK_EQ(find(s, KEY_A), 0);
	struct stat st;
	CHECK_EQ(stat("target", &st), 0);
	CHECK_EQ(st.st_size, 6);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT); /* and does not hang */
	CHECK_EQ(unlink(path), 0);
	put(path, "");
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, "../../../target"), -EINVAL);
	CHECK_EQ(find(s, ""), -EINVAL);
	img_store_free(s);
}

TEST(planted_locks)
{
	struct img_store *s = open_store();
	const char *path = "a/store/locks/" KEY_A;
	struct img_making m = IMG_MAKING_INIT;
	struct vl_err err = { 0 };
	VL_FREE char *where = NULL;
	int fd = -1;

	put("target", "secret");
	CHECK_EQ(symlink("../../../target", path), 0);
	make_image(s, KEY_A, "a");
	struct stat st;
	CHECK_EQ(stat("target", &st), 0);
	CHECK_EQ(st.st_size, 6);
	CHECK_EQ(unlink("a/store/images/" KEY_A ".sif"), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	make_image(s, KEY_A, "a");
	CHECK_EQ(unlink("a/store/images/" KEY_A ".sif"), 0);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK(img_store_take(s, KEY_A, NULL, &m, &fd, &where, &err) < 0);
	CHECK_HAS(err.text, KEY_A);
	CHECK_EQ(rmdir(path), 0);
	/* what a killed process left is no hindrance, and goes */
	put(path, "left over");
	put("a/store/locks/" KEY_B, "left over");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/locks"), 0);
	img_store_free(s);
}

static const char *const lock_texts[] = {
	"",
	"\n",
	"1",
	"1 2 3",
	"x y z host what\n",
	"-1 2 3 host what",
	"99999999999999999999999 2 3 host what",
	"1 2 0 host what",
	"1 2 99999999999 host what",
	"1 2 3 ho\033[2Jst Con\033[31mverting\n",
};

struct hostile {
	size_t next;
	unsigned shown;
};

static void no_escapes(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	struct hostile *h = arg;

	h->shown++;
	CHECK(!strchr(what, '\033'));
	CHECK(!strchr(what, '\n'));
}

/* Somebody is blocked on the file's lock: a line "1: -> OFDLCK ... MAJOR:MINOR:INODE ..." */
static bool is_waited_for(const char *path)
{
	char line[256], inode[32];
	struct stat st;
	bool found = false;
	FILE *f = fopen("/proc/locks", "re");

	CHECK(f && stat(path, &st) == 0);
	snprintf(inode, sizeof inode, ":%llu ", (unsigned long long)st.st_ino);
	while (!found && fgets(line, sizeof line, f))
		found = strstr(line, "->") && strstr(line, inode);
	fclose(f);
	return found;
}

TEST(hostile_lock_texts)
{
	struct img_store *s = open_store();

	for (size_t i = 0; i <= VL_COUNT(lock_texts); i++) {
		struct hostile h = { 0 };
		struct vl_progress p = { .step = no_escapes, .arg = &h };
		struct img_making m = IMG_MAKING_INIT;
		char text[64], long_text[5000], c;
		int ready[2];

		CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
		pid_t pid = fork();
		if (pid == 0) { /* holds the lock with that text until the other one waits for it */
			CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
			memset(long_text, '7', sizeof long_text - 1);
			long_text[sizeof long_text - 1] = 0;
			put("a/store/locks/" KEY_A, i < VL_COUNT(lock_texts) ? lock_texts[i] : long_text);
			CHECK_EQ(write(ready[1], "x", 1), 1);
			while (!is_waited_for("a/store/locks/" KEY_A))
				sched_yield();
			_exit(0); /* the lock goes with us; its file stays */
		}
		CHECK_EQ(read(ready[0], &c, 1), 1);
		CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
		CHECK_EQ(h.shown > 0, i + 1 == VL_COUNT(lock_texts)); /* the last of them is well-formed */
		img_store_give_up(&m);
		CHECK_EQ(vl_wait(pid), 0);
		close(ready[0]);
		close(ready[1]);
	}
	img_store_free(s);
}

/* ---- layers ---- */

static int new_layer(const struct oci_blob_store *b, const char *text)
{
	struct vl_err err = { 0 };
	int fd = b->create(b->arg, &err);

	if (fd < 0)
		CHECK_FAIL("%s", err.text);
	CHECK_EQ(vl_write_full(fd, text, strlen(text)), 0);
	return fd;
}

static bool has_layer(const struct oci_blob_store *b, const struct oci_digest *d, uint64_t size, const char *want)
{
	VL_CLOSE int fd = b->lookup(b->arg, d, size);
	char text[64] = "";

	if (fd < 0)
		return false;
	CHECK(pread(fd, text, sizeof text - 1, 0) >= 0);
	CHECK_STR(text, want);
	return true;
}

TEST(layers_are_kept_once)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	const char *path = "a/store/blobs/sha256/" KEY_C;
	struct oci_digest d, evil = { .algo = "sha256", .hex = "../../names/x" };
	struct vl_err err = { 0 };
	struct stat first, second;

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int fd = new_layer(b, "layer");
	CHECK(!has_layer(b, &d, 5, "")); /* not before it is whole */
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK(!has_layer(b, &d, 6, ""));
	CHECK_EQ(stat(path, &first), 0);

	VL_CLOSE int again = new_layer(b, "layer");
	b->keep(b->arg, &d, again);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK_EQ(stat(path, &second), 0);
	CHECK_EQ(first.st_ino, second.st_ino);
	CHECK_EQ(count_names("a/store/blobs"), 1);
	CHECK_EQ(count_names("a/store/blobs/sha256"), 1);

	/* a crash cut it short: the next one takes its place */
	CHECK_EQ(truncate(path, 2), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int third = new_layer(b, "layer");
	b->keep(b->arg, &d, third);
	CHECK(has_layer(b, &d, 5, "layer"));

	/* damaged: as large as before, so only dropping it lets a good one in */
	b->drop(b->arg, &d);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int fourth = new_layer(b, "layer");
	b->keep(b->arg, &d, fourth);
	CHECK(has_layer(b, &d, 5, "layer"));

	b->keep(b->arg, &evil, third);
	b->drop(b->arg, &evil);
	CHECK_EQ(count_names("a/store/names"), 0);
	CHECK(!has_layer(b, &evil, 5, ""));
	img_store_free(s);
}

TEST(planted_layers_are_not_there)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	const char *path = "a/store/blobs/sha256/" KEY_C;
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	CHECK_EQ(mkdir("a/store/blobs/sha256", 0700), 0);
	put("target", "layer");
	CHECK_EQ(symlink("../../../../target", path), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK(!has_layer(b, &d, 0, ""));
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	img_store_free(s);
}

/* As create() leaves it where O_TMPFILE is missing: the file has a hidden name, and its writer's lock. */
TEST(layers_with_a_hidden_name)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	put("a/store/blobs/.layer.vial-0123456789abcdef", "layer");
	put("a/store/blobs/.layer.vial-0123456789abcdee", "of the dead");
	VL_CLOSE int fd = open("a/store/blobs/.layer.vial-0123456789abcdef", O_RDWR | O_CLOEXEC);
	CHECK_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/blobs"), 1);
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK_EQ(count_names("a/store/blobs"), 1); /* sha256 */
	img_store_free(s);
}

TEST(layers_are_not_kept_when_told)
{
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "a/store" });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	CHECK(!has_layer(b, &d, 5, ""));
	CHECK_EQ(count_names("a/store/blobs"), 0);
	img_store_free(s);
}

/* ---- listing ---- */

static bool write_item(void *arg, const struct img_store_item *i)
{
	struct vl_buf *b = arg;

	CHECK(access(i->path, R_OK) == 0);
	CHECK(i->size > 0 && i->made <= i->used);
	vl_buf_addf(b, "%s %.10s [%s] %.10s%s\n", i->kind == IMG_STORE_IMAGE ? "image" : "layer", i->id, i->name,
		    i->digest, i->site ? " site" : "");
	return true;
}

static bool stop_at_once(void *arg, const struct img_store_item *i)
{
	(void)i;
	return ++*(int *)arg < 1;
}

TEST(list_has_images_first_and_their_names)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site" });
	struct vl_err err = { 0 };
	make_image(site, KEY_C, "c");
	CHECK_EQ(img_store_name_set(site, "site/c", "amd64", DIGEST, KEY_C, &err), 0);
	img_store_free(site);
	set_used("site/images/" KEY_C ".sif", 3000);

	static const char *const sites[] = { "site", NULL };
	struct img_store *s =
		open_with(&(struct img_store_opts){ .dir = "a/store", .site_dirs = sites, .keep_layers = true });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	CHECK_EQ(img_store_name_set(s, "b:2", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_set(s, "b:1", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_set(s, "b:1", "arm64", DIGEST, KEY_B, &err), 0);
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	put("a/store/images/README", "not ours");
	put("a/store/blobs/sha256/README", "not ours");

	VL_BUF struct vl_buf text = { 0 };
	CHECK_EQ(img_store_list(s, write_item, &text, &err), 0);
	CHECK_STR(text.data, "image cccccccccc [site/c] sha256:ccc site\n"
			     "image bbbbbbbbbb [b:1,b:2] sha256:ccc\n"
			     "image aaaaaaaaaa [] \n"
			     "layer sha256:ccc [] \n");
	int calls = 0;
	CHECK_EQ(img_store_list(s, stop_at_once, &calls, &err), 0);
	CHECK_EQ(calls, 1);
	/* what is not ours stays, whatever is cleaned */
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(access("a/store/images/README", F_OK), 0);
	CHECK_EQ(count_names("a/store/names"), 0);
	CHECK_EQ(count_names("site/images"), 1);
	img_store_free(s);
}

/* ---- poorer file systems ---- */

/* From now on a system call whose argument has all of these bits fails. */
static void refuse(unsigned nr, unsigned arg, unsigned mask, int code)
{
	const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * arg),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = VL_COUNT(filter), .filter = (struct sock_filter *)filter };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void count_warning(void *arg, const char *text)
{
	CHECK_HAS(text, "no file locks");
	++*(int *)arg;
}

TEST(without_locks_everybody_makes_his_own)
{
	struct img_store *s = open_store();
	struct img_making m = IMG_MAKING_INIT, other = IMG_MAKING_INIT;
	int warnings = 0;
	struct vl_progress p = { .warn = count_warning, .arg = &warnings };
	char text[64];

	refuse(SYS_fcntl, 1, F_OFD_SETLK, ENOLCK);
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(take(s, KEY_A, &p, &other, text), 1);
	CHECK_EQ(warnings, 2);
	img_store_tell(&m, "Converting", 1, 2);
	commit(&m, "first");
	commit(&other, "second");
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 0);
	CHECK_STR(text, "second");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(what_cannot_be_removed_is_an_error)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	uint64_t bytes = 7;
	int told = 0;

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	refuse(SYS_unlinkat, 0, 0, EROFS);
	CHECK_EQ(img_store_clean(s, &(struct img_store_clean){ .kinds = 7 }, count_item, &told, &bytes, &err), -EROFS);
	CHECK_HAS(err.text, "a/store/images/");
	CHECK_HAS(err.text, "Read-only file system");
	CHECK_EQ(told, 0);
	CHECK_EQ(bytes, 7);
	CHECK_EQ(count_names("a/store/images"), 2);
	img_store_free(s);
}

TEST(without_nameless_files)
{
	refuse(SYS_openat, 2, O_TMPFILE & ~O_DIRECTORY, EOPNOTSUPP);
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct img_making m = IMG_MAKING_INIT;
	struct oci_digest d;
	struct vl_err err = { 0 };
	char text[64];
	int go;
	pid_t pid = start_maker(KEY_A, "Converting", &go);

	/* a file at work stays, that of a killed one goes */
	CHECK_EQ(count_names("a/store/images"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	CHECK_EQ(count_names("a/store/images"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 0);
	CHECK_EQ(count_names("a/store/locks"), 0);
	close(go);
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
	commit(&m, "whole");
	CHECK_EQ(count_names("a/store/images"), 1);

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	int fd = new_layer(b, "layer"), dropped = new_layer(b, "not to be kept");
	CHECK_EQ(count_names("a/store/blobs"), 2);
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	close(fd);
	close(dropped);
	close(new_layer(b, "next")); /* removes the dropped one */
	CHECK_EQ(count_names("a/store/blobs"), 2);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/blobs"), 1);
	img_store_free(s);

	s = open_with(&(struct img_store_opts){ .dir = "a/store" });
	b = img_store_blobs(s);
	fd = new_layer(b, "layer"); /* not to be kept: without a name at once */
	CHECK_EQ(count_names("a/store/blobs"), 1);
	close(fd);
	img_store_free(s);
}
