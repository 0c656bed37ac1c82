/* Stores of images for their tests: opened, filled, counted. In the directory at hand, a/store. */
#ifndef STORE_MAKER_H
#define STORE_MAKER_H

#include "check.h"

#include "image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#define KEY_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define KEY_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define KEY_C "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
#define DIGEST "sha256:" KEY_C

static inline struct img_store *open_with(const struct img_store_opts *o)
{
	struct img_store *s = NULL;
	struct vl_err err = { 0 };

	if (img_store_open(o, &s, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return s;
}

static inline struct img_store *open_store(void)
{
	return open_with(&(struct img_store_opts){ .dir = "a/store", .keep_layers = true });
}

/* 1: ours to make. 0: it was there, its bytes in text. */
static inline int take(struct img_store *s, const char *key, const struct vl_progress *p, struct img_making *m,
		       char text[64])
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

static inline void commit(struct img_making *m, const char *text)
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

static inline void make_image(struct img_store *s, const char *key, const char *text)
{
	struct img_making m = IMG_MAKING_INIT;
	char back[64];

	CHECK_EQ(take(s, key, NULL, &m, back), 1);
	commit(&m, text);
}

static inline int find(struct img_store *s, const char *key)
{
	struct vl_err err = { 0 };
	VL_CLOSE int fd = -1;
	VL_FREE char *path = NULL;

	return img_store_find(s, key, &fd, &path, &err);
}

static inline int count_names(const char *dir)
{
	int n = 0;
	DIR *d = opendir(dir);

	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		n += !vl_streq(e->d_name, ".") && !vl_streq(e->d_name, "..");
	closedir(d);
	return n;
}

static inline uint64_t clean(struct img_store *s, const struct img_store_clean *how)
{
	struct vl_err err = { 0 };
	uint64_t bytes = 0;

	if (img_store_clean(s, how, NULL, NULL, &bytes, &err) < 0)
		CHECK_FAIL("%s", err.text);
	return bytes;
}

static inline void put(const char *path, const char *text)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	CHECK(fd >= 0);
	CHECK_EQ(vl_write_full(fd, text, strlen(text)), 0);
}

static inline void set_used(const char *path, time_t t)
{
	const struct timespec ts[2] = { { .tv_sec = t }, { .tv_sec = t } };

	CHECK_EQ(utimensat(AT_FDCWD, path, ts, 0), 0);
}

static inline bool count_item(void *arg, const struct img_store_item *i)
{
	(void)i;
	++*(int *)arg;
	return true;
}

static inline int new_blob(const struct oci_blob_store *b)
{
	struct vl_err err = { 0 };
	return b->create(b->arg, &err);
}

/* A child that has taken the key and waits; *ret_go: closing it lets it go on to give up. */
static inline pid_t start_maker(const char *key, const char *what, int *ret_go)
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

static inline int new_layer(const struct oci_blob_store *b, const char *text)
{
	struct vl_err err = { 0 };
	int fd = b->create(b->arg, &err);

	if (fd < 0)
		CHECK_FAIL("%s", err.text);
	CHECK_EQ(vl_write_full(fd, text, strlen(text)), 0);
	return fd;
}

static inline bool has_layer(const struct oci_blob_store *b, const struct oci_digest *d, uint64_t size,
			     const char *want)
{
	VL_CLOSE int fd = b->lookup(b->arg, d, size);
	char text[64] = "";

	if (fd < 0)
		return false;
	CHECK(pread(fd, text, sizeof text - 1, 0) >= 0);
	CHECK_STR(text, want);
	return true;
}

#endif
