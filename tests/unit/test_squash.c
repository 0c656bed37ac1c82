/* Readers of one image in many threads, over caches far too small for it. */
#include "check.h"
#include "squash_maker.h"

#include "mount/squash.h"

#include <sys/mman.h>

#define SIZE (100 * MAKER_BLOCK + 123)
#define THREADS 6

static uint8_t *noise(size_t n, uint32_t seed)
{
	uint8_t *p = vl_alloc(n);

	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = seed >> 28 | (uint8_t)(i / 64); /* packs, and no two blocks are the same */
	}
	return p;
}

static void open_image(const struct maker *m, struct squash *ret)
{
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err = { 0 };
	int fd = memfd_create("image", MFD_CLOEXEC);

	maker_make(m, &b);
	CHECK(fd >= 0 && vl_write_full(fd, b.data, b.len) == 0);
	struct vmnt_image image = { .fd = fd, .name = "image", .threads = THREADS, .memory = 1 };
	if (vmnt_sq_open(ret, &image, &err) < 0)
		CHECK_FAIL("%s", err.text);
}

static void find(struct squash *s, const char *name, struct sq_inode *ret)
{
	struct sq_inode root;
	struct sq_entry e;

	CHECK_EQ(vmnt_sq_inode(s, s->super.root, &root), 0);
	CHECK_EQ(vmnt_sq_lookup(s, &root, name, &e), 0);
	CHECK_EQ(vmnt_sq_inode(s, e.ref, ret), 0);
}

struct reader {
	pthread_t thread;
	const struct squash *from;
	const struct maker *m;
	uint32_t seed;
};

static uint32_t draw(struct reader *r)
{
	r->seed = r->seed * 1664525 + 1013904223;
	return r->seed >> 8;
}

static void *read_at_random(void *p)
{
	struct reader *r = p;
	struct squash s;
	struct sq_inode i;
	uint8_t buf[5 * MAKER_BLOCK];

	vmnt_sq_reader(r->from, &s);
	for (unsigned k = 0; k < 2000; k++) {
		const struct maker_file *f = &r->m->file[draw(r) % 2];
		uint32_t off = draw(r) % (SIZE + 10), n = draw(r) % sizeof buf;
		s.work = 0;
		find(&s, f->name, &i);
		off -= draw(r) % 2 ? off % MAKER_BLOCK : 0;
		ssize_t want = off >= SIZE ? 0 : (ssize_t)VL_MIN(n, SIZE - off);
		CHECK_EQ(vmnt_sq_read(&s, &i, off, buf, n), want);
		CHECK_MEM(buf, f->data + off, (size_t)want);
		vmnt_sq_read_ahead(&s, &i, off + (uint32_t)want);
		if (k % 7 == 0) { /* it never lets anything in, and hurts nobody */
			find(&s, "rotten", &i);
			CHECK_EQ(vmnt_sq_read(&s, &i, SIZE - 300, buf, 300), -EIO);
			CHECK_EQ(vmnt_sq_read(&s, &i, 0, buf, sizeof buf), (ssize_t)sizeof buf);
		}
	}
	vmnt_sq_close(&s);
	return NULL;
}

static void *work_ahead(void *p)
{
	struct squash *s = vl_alloc(sizeof *s);

	vmnt_sq_reader(p, s);
	vmnt_ahead_loop(s);
}

TEST(many_readers_see_the_same_bytes)
{
	VL_FREE uint8_t *a = noise(SIZE, 1), *b = noise(SIZE, 2);
	struct maker m = { .file = { { "packed", a, SIZE, true, -1u, 0 },
				     { "plain", b, SIZE, false, -1u, 0 },
				     { "rotten", a, SIZE, true, -1u, 100 } },
			   .n = 3 };
	struct squash s;
	struct reader r[THREADS];
	pthread_t t;

	open_image(&m, &s);
	vmnt_sq_let_go(&s);
	vmnt_ahead_start(&s.sh->ahead);
	CHECK_EQ(pthread_create(&t, NULL, work_ahead, &s), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		r[i] = (struct reader){ .from = &s, .m = &m, .seed = i };
		CHECK_EQ(pthread_create(&r[i].thread, NULL, read_at_random, &r[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(r[i].thread, NULL);
	CHECK(s.sh->data.n <= 2 * THREADS);
	_exit(0); /* the thread that works ahead never ends */
}

struct waiter {
	pthread_t thread;
	struct sq_cache *c;
	struct sq_block *got;
	bool fill;
};

static void *get_seven(void *p)
{
	struct waiter *w = p;

	w->got = vmnt_cache_get(w->c, 7, &w->fill);
	return NULL;
}

static void wait_for_waiters(struct sq_cache *c, unsigned n)
{
	for (unsigned now = 0; now < n;) {
		pthread_mutex_lock(&c->lock);
		now = c->waiting;
		pthread_mutex_unlock(&c->lock);
		sched_yield();
	}
}

/* One fills, the others wait for it; when it fails, they all hear so, and the next one may try. */
TEST(a_block_is_filled_once)
{
	struct sq_cache c;
	struct waiter w[4] = { 0 };
	bool fill;

	vmnt_cache_init(&c, 4, 64);
	for (int good = 0; good < 2; good++) {
		struct sq_block *b = vmnt_cache_get(&c, 7, &fill);
		CHECK(b && fill);
		for (size_t i = 0; i < VL_COUNT(w); i++) {
			w[i].c = &c;
			CHECK_EQ(pthread_create(&w[i].thread, NULL, get_seven, &w[i]), 0);
		}
		wait_for_waiters(&c, VL_COUNT(w));
		CHECK(vmnt_cache_filled(&c, b, good) == (good ? b : NULL));
		for (size_t i = 0; i < VL_COUNT(w); i++) {
			pthread_join(w[i].thread, NULL);
			CHECK(!w[i].fill && w[i].got == (good ? b : NULL));
			if (good)
				vmnt_cache_put(&c, b);
		}
		if (good)
			vmnt_cache_put(&c, b);
	}
	CHECK(vmnt_cache_has(&c, 7));
	vmnt_cache_free(&c);
}

TEST(the_least_used_block_goes_first_and_none_that_is_held)
{
	struct sq_cache c;
	struct sq_block *b[4];
	bool fill;

	vmnt_cache_init(&c, 3, 64);
	for (uint64_t pos = 1; pos <= 3; pos++) {
		b[pos] = vmnt_cache_filled(&c, vmnt_cache_get(&c, pos, &fill), true);
		if (pos != 2)
			vmnt_cache_put(&c, b[pos]);
	}
	CHECK(vmnt_cache_get(&c, 1, &fill) == b[1] && !fill); /* used again: 3 is the oldest now */
	vmnt_cache_put(&c, b[1]);
	CHECK(vmnt_cache_get(&c, 4, &fill) == b[3] && fill);
	vmnt_cache_filled(&c, b[3], true);
	CHECK(vmnt_cache_has(&c, 1) && vmnt_cache_has(&c, 2) && !vmnt_cache_has(&c, 3));
	CHECK(vmnt_cache_get(&c, 5, &fill) == b[1] && fill); /* 2 and 4 are held */
	vmnt_cache_filled(&c, b[1], true);
	struct waiter w = { .c = &c };
	CHECK_EQ(pthread_create(&w.thread, NULL, get_seven, &w), 0);
	wait_for_waiters(&c, 1); /* all are held */
	vmnt_cache_put(&c, b[2]);
	pthread_join(w.thread, NULL);
	CHECK(w.got == b[2] && w.fill);
	vmnt_cache_filled(&c, w.got, false);
	vmnt_cache_put(&c, b[3]);
	vmnt_cache_put(&c, b[1]);
	vmnt_cache_free(&c);
}

TEST(whole_blocks_do_not_pass_the_cache)
{
	VL_FREE uint8_t *a = noise(SIZE, 1), *buf = vl_alloc(SIZE);
	struct maker m = { .file = { { "packed", a, SIZE, true, -1u, 0 } }, .n = 1 };
	struct squash s;
	struct sq_inode i;

	open_image(&m, &s);
	find(&s, "packed", &i);
	CHECK_EQ(vmnt_sq_read(&s, &i, 0, buf, SIZE), SIZE);
	CHECK_MEM(buf, a, SIZE);
	CHECK_EQ(s.sh->data.misses, 0);
	CHECK_EQ(vmnt_sq_read(&s, &i, 10, buf, 20), 20);
	CHECK_EQ(vmnt_sq_read(&s, &i, 30, buf, 20), 20);
	CHECK_EQ(s.sh->data.misses, 1);
	close(s.fd);
	vmnt_sq_close(&s);
}

TEST(what_is_unpacked_early_is_not_unpacked_again)
{
	VL_FREE uint8_t *a = noise(SIZE, 1), *buf = vl_alloc(SIZE);
	struct maker m = { .file = { { "packed", a, SIZE, true, -1u, 0 } }, .n = 1 };
	struct squash s;
	struct sq_inode i;

	open_image(&m, &s);
	find(&s, "packed", &i);
	vmnt_sq_warm(&s, &i, 2);
	CHECK_EQ(s.sh->data.misses, 2);
	CHECK_EQ(vmnt_sq_read(&s, &i, 1, buf, 2 * MAKER_BLOCK - 1), 2 * MAKER_BLOCK - 1);
	CHECK_MEM(buf, a + 1, 2 * MAKER_BLOCK - 1);
	CHECK_EQ(s.sh->data.misses, 2);
	vmnt_sq_warm(&s, &i, UINT64_MAX); /* to its end and no further */
	CHECK_EQ(s.sh->data.misses, (SIZE + MAKER_BLOCK - 1) / MAKER_BLOCK);
	close(s.fd);
	vmnt_sq_close(&s);
}

/* ---- extended attributes -------------------------------------------------------------------- */

static void pair(struct vl_buf *b, unsigned type, const char *name, const void *value, size_t n)
{
	maker_put(b, type, 2);
	maker_put(b, strlen(name), 2);
	vl_buf_adds(b, name);
	maker_put(b, n, 4);
	vl_buf_add(b, value, n);
}

static const uint8_t capability[20] = { 1, 0, 0, 2, 0, 0x20, 0, 0 };

struct attributes {
	struct maker m;
	struct vl_buf pairs;
	struct squash s;
	struct sq_inode i;
	char buf[SQ_XATTR_MAX];
};

static void open_attributes(struct attributes *a)
{
	static const uint8_t text[] = "text";

	a->m.file[0] = (struct maker_file){ .name = "file", .data = text, .size = 4 };
	a->m.n = 1;
	a->m.xattrs = (uint8_t *)a->pairs.data;
	a->m.xattrs_len = a->pairs.len;
	a->m.n_sets = 1;
	open_image(&a->m, &a->s);
	find(&a->s, "file", &a->i);
}

static void close_attributes(struct attributes *a)
{
	close(a->s.fd);
	vmnt_sq_close(&a->s);
	vl_buf_free(&a->pairs);
	free(a);
}

TEST(attributes_read_back)
{
	struct attributes *a = vl_alloc(sizeof *a);
	uint8_t ref[8] = { 0 };

	pair(&a->pairs, 0, "first", "one", 3); /* value at byte 9: after 2 + 2 + 5 */
	pair(&a->pairs, 1, "secret", "x", 1);
	pair(&a->pairs, 2, "capability", capability, sizeof capability);
	pair(&a->pairs, 9, "odd", "x", 1);
	vl_put_le64(ref, 9);
	pair(&a->pairs, 0x100, "shared", ref, 8);
	a->m.set[0].count = 5;
	open_attributes(a);
	const char want[] = "user.first\0security.capability\0user.shared";
	CHECK_EQ(vmnt_sq_xattr_list(&a->s, &a->i, a->buf), (ssize_t)sizeof want);
	CHECK_MEM(a->buf, want, sizeof want);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "security.capability", a->buf), (ssize_t)sizeof capability);
	CHECK_MEM(a->buf, capability, sizeof capability);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "user.shared", a->buf), 3);
	CHECK_MEM(a->buf, "one", 3);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "trusted.secret", a->buf), -ENODATA);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "secret", a->buf), -ENODATA);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "user.none", a->buf), -ENODATA);
	a->i.xattr = SQ_NONE32;
	CHECK_EQ(vmnt_sq_xattr_list(&a->s, &a->i, a->buf), 0);
	CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, "user.first", a->buf), -ENODATA);
	a->i.xattr = 1;
	CHECK_EQ(vmnt_sq_xattr_list(&a->s, &a->i, a->buf), -EIO);
	close_attributes(a);
}

/* Each is one lie of an image: -EIO, and soon. */
TEST(attributes_that_lie)
{
	static const struct {
		unsigned type;
		const char *name;
		uint64_t value, bytes;
		uint32_t count, offset;
	} lie[] = {
		{ 0, "more", 0, 8, 0xffffffff, 0 },                /* pairs than there are */
		{ 0, "far", 0, 8, 1, 0x7fff0000 },                 /* set beyond the end */
		{ 0, "inside", 0, 8, 1, 8000 },                    /* set behind its block */
		{ 0x100, "away", 0xffffffffffffffffull, 8, 1, 0 }, /* value nowhere */
		{ 0x100, "short", 0, 4, 1, 0 },                    /* no reference */
		{ 0x100, "long", 4, 8, 1, 0 },                     /* "long" and more is its length */
	};

	for (size_t k = 0; k < VL_COUNT(lie); k++) {
		struct attributes *a = vl_alloc(sizeof *a);
		char name[64];
		pair(&a->pairs, lie[k].type, lie[k].name, &lie[k].value, lie[k].bytes);
		a->m.set[0].count = lie[k].count;
		a->m.set[0].offset = lie[k].offset;
		open_attributes(a);
		snprintf(name, sizeof name, "user.%s", lie[k].count == 1 ? lie[k].name : "none");
		CHECK_EQ(vmnt_sq_xattr_get(&a->s, &a->i, name, a->buf), -EIO);
		close_attributes(a);
	}
}

TEST(attributes_without_end_are_an_error)
{
	struct attributes *a = vl_alloc(sizeof *a);

	while (a->pairs.len < SQ_META_SIZE - 16)
		pair(&a->pairs, 0, "a", "", 0);
	a->m.set[0].count = 0xffffffff;
	open_attributes(a);
	CHECK_EQ(vmnt_sq_xattr_list(&a->s, &a->i, a->buf), -EIO);
	close_attributes(a);
}

TEST(the_next_file_is_the_next_inode)
{
	VL_FREE uint8_t *data = noise(SIZE, 1);
	const struct maker m = {
		.file = { { .name = "file1", .data = data, .size = SIZE, .packed = true, .xattr = -1u },
			  { .name = "file2", .xattr = -1u },
			  { .name = "file3", .data = data, .size = 10, .xattr = -1u } },
		.n = 3
	};
	struct squash s;
	struct sq_inode i, next, want;

	open_image(&m, &s);
	find(&s, "file1", &i);
	find(&s, "file2", &want);
	CHECK_EQ(vmnt_sq_next_file(&s, &i, &next), 0);
	CHECK_EQ(next.ref, want.ref);
	find(&s, "file3", &want);
	CHECK_EQ(vmnt_sq_next_file(&s, &next, &next), 0);
	CHECK_EQ(next.ref, want.ref);
	CHECK_EQ(vmnt_sq_next_file(&s, &want, &next), -ENOENT); /* the root directory, and the end */
	vmnt_sq_close(&s);
}
