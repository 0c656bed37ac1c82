/* Squashfs images that lie: a small sound one is made here, field by field, then one field or many are
 * changed. Whatever comes of it is an error or data that stays the same, after a bounded amount of work. */
#include "check.h"

#include "mount/squash.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <zlib.h>

#define BLOCK 4096u
#define BIG (2 * BLOCK + 100) /* two blocks and a tail in the fragment */
#define MAX_NODES 100
#define NO_TABLE 0xffffffffffffffffull

struct image {
	uint8_t b[1 << 20];
	size_t n;
	/* where things lie */
	size_t inodes, root, sub, big, small, link, fifo, dirs, root_list, sub_list, frags, ids, xattrs;
};

static void put(struct image *m, uint64_t v, unsigned bytes)
{
	CHECK(m->n + bytes <= sizeof m->b);
	for (unsigned i = 0; i < bytes; i++)
		m->b[m->n++] = (uint8_t)(v >> 8 * i);
}

static void set(struct image *m, size_t at, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		m->b[at + i] = (uint8_t)(v >> 8 * i);
}

static void put_text(struct image *m, const char *s)
{
	for (; *s; s++)
		put(m, (uint8_t)*s, 1);
}

/* Metadata is not compressed, so that every field has a place. Its header is filled in by end_meta. */
static size_t begin_meta(struct image *m)
{
	put(m, 0, 2);
	return m->n;
}

static void end_meta(struct image *m, size_t begin)
{
	set(m, begin - 2, (m->n - begin) | 0x8000, 2);
}

static size_t put_inode(struct image *m, unsigned type, unsigned mode, unsigned number)
{
	size_t at = m->n;

	put(m, type, 2), put(m, mode, 2), put(m, 0, 4), put(m, 1000, 4), put(m, number, 4);
	return at;
}

/* The words of the last file go on, all zeros, through as many blocks of metadata as there is room for:
 * each takes some twenty bytes. */
static void put_long_list(struct image *m)
{
	static const uint8_t zeros[SQ_META_SIZE];
	uint8_t packed[100];
	uLongf size = sizeof packed;

	while (m->n < m->inodes + SQ_META_SIZE)
		put(m, 0, 1);
	end_meta(m, m->inodes);
	CHECK_EQ(compress2(packed, &size, zeros, sizeof zeros, 9), Z_OK);
	while (m->n + size + 2 < sizeof m->b - 1000) {
		put(m, size, 2);
		memcpy(m->b + m->n, packed, size);
		m->n += size;
	}
}

static void put_inodes(struct image *m, size_t data, bool long_list)
{
	m->inodes = begin_meta(m);
	m->root = put_inode(m, SQ_DIR, 0755, 1);
	put(m, 0, 4), put(m, 3, 4), put(m, 0, 2), put(m, 0, 2), put(m, 6, 4); /* sizes: put_dirs */
	m->sub = put_inode(m, SQ_LDIR, 0755, 2);
	put(m, 2, 4), put(m, 0, 4), put(m, 0, 4), put(m, 1, 4), put(m, 0, 2), put(m, 0, 2), put(m, SQ_NONE32, 4);
	m->small = put_inode(m, SQ_REG, 0644, 4);
	put(m, data, 4), put(m, 0, 4), put(m, 0, 4), put(m, 50, 4);
	m->link = put_inode(m, SQ_LINK, 0777, 5);
	put(m, 1, 4), put(m, 6, 4), put_text(m, "target");
	m->fifo = put_inode(m, SQ_FIFO, 0644, 6);
	put(m, 1, 4);
	m->big = put_inode(m, SQ_LREG, 0644, 3);
	put(m, data, 8), put(m, BIG, 8), put(m, 0, 8), put(m, 1, 4), put(m, 0, 4), put(m, 50, 4), put(m, SQ_NONE32, 4);
	put(m, BLOCK | 1u << 24, 4), put(m, BLOCK | 1u << 24, 4);
	if (long_list)
		put_long_list(m);
	else
		end_meta(m, m->inodes);
}

static void put_entry(struct image *m, size_t inode, unsigned number, unsigned type, const char *name)
{
	put(m, inode - m->inodes, 2), put(m, number - 1, 2), put(m, type, 2), put(m, strlen(name) - 1, 2);
	put_text(m, name);
}

static void put_dirs(struct image *m)
{
	m->dirs = m->root_list = begin_meta(m);
	put(m, 3, 4), put(m, 0, 4), put(m, 1, 4); /* count - 1, block, number */
	put_entry(m, m->big, 3, SQ_REG, "big");
	put_entry(m, m->fifo, 6, SQ_FIFO, "fifo");
	put_entry(m, m->link, 5, SQ_LINK, "link");
	put_entry(m, m->sub, 2, SQ_DIR, "sub");
	set(m, m->root + 24, m->n - m->root_list + 3, 2);
	m->sub_list = m->n;
	put(m, 0, 4), put(m, 0, 4), put(m, 1, 4);
	put_entry(m, m->small, 4, SQ_REG, "small");
	set(m, m->sub + 20, m->n - m->sub_list + 3, 4);
	set(m, m->sub + 34, m->sub_list - m->dirs, 2);
	end_meta(m, m->dirs);
}

/* A table is blocks of metadata, then pointers to them, where the superblock points. */
static size_t put_pointer(struct image *m, size_t block)
{
	put(m, block - 2, 8);
	return m->n - 8;
}

static void make(struct image *m, bool long_list)
{
	memset(m->b, 0, 96);
	m->n = 96;
	size_t data = m->n, tables[4];
	for (size_t i = 0; i < 2 * BLOCK; i++)
		put(m, i * 7 + i / 256, 1);
	size_t frag = m->n;
	for (unsigned i = 0; i < 150; i++)
		put(m, i, 1);
	put_inodes(m, data, long_list);
	put_dirs(m);
	m->frags = begin_meta(m);
	put(m, frag, 8), put(m, 150 | 1u << 24, 4), put(m, 0, 4);
	end_meta(m, m->frags);
	tables[0] = put_pointer(m, m->frags);
	m->ids = begin_meta(m);
	put(m, 1000, 4);
	end_meta(m, m->ids);
	tables[1] = put_pointer(m, m->ids);
	static const struct {
		uint8_t at, bytes;
		uint64_t v;
	} head[] = { { 0, 4, 0x73717368 }, { 4, 4, 6 },         { 12, 4, BLOCK },   { 16, 4, 1 },
		     { 20, 2, 1 },         { 22, 2, 12 },       { 26, 2, 1 },       { 28, 2, 4 },
		     { 30, 2, 0 },         { 56, 8, NO_TABLE }, { 88, 8, NO_TABLE } };
	for (size_t i = 0; i < VL_COUNT(head); i++)
		set(m, head[i].at, head[i].v, head[i].bytes);
	set(m, 32, m->root - m->inodes, 8), set(m, 40, m->n, 8);
	set(m, 48, tables[1], 8), set(m, 64, m->inodes - 2, 8), set(m, 72, m->dirs - 2, 8), set(m, 80, tables[0], 8);
}

/* ---- looking at everything ------------------------------------------------------------------ */

struct look {
	struct squash s;
	unsigned nodes, errors;
	int fd;
};

static int open_image(struct look *l, const struct image *m)
{
	struct vl_err err = { 0 };

	memset(l, 0, sizeof *l);
	l->fd = memfd_create("image", MFD_CLOEXEC);
	CHECK(l->fd >= 0 && vl_write_full(l->fd, m->b, m->n) == 0);
	struct vmnt_image image = { .fd = l->fd, .name = "image" };
	int r = vmnt_sq_open(&l->s, &image, &err);
	CHECK(r == 0 || r == -EIO || r == -EINVAL);
	CHECK(r == 0 || *err.text);
	if (r < 0)
		close(l->fd);
	return r;
}

static void close_image(struct look *l)
{
	vmnt_sq_close(&l->s);
	close(l->fd);
}

/* After each question: its work was bounded, and its answer is a value or -EIO. */
static int64_t answer(struct look *l, int64_t r)
{
	CHECK(l->s.work <= SQ_WORK_MAX + (1u << 20));
	CHECK(r >= 0 || r == -EIO);
	l->errors += r < 0;
	l->s.work = 0;
	return r;
}

/* A place at or after off, or the end. */
static void look_for_holes(struct look *l, const struct sq_inode *i, uint64_t off)
{
	for (int hole = 0; hole < 2; hole++) {
		uint64_t to = 0;
		int r = vmnt_sq_seek(&l->s, i, off, hole, &to);
		answer(l, r == -ENXIO ? 0 : r);
		CHECK(r != -ENXIO || !hole || off >= i->size);
		CHECK(r < 0 || (off < i->size && to >= off && to <= i->size && (hole || to < i->size)));
	}
}

static void look_at_file(struct look *l, const struct sq_inode *i)
{
	static uint8_t one[3 * BLOCK], two[3 * BLOCK];
	uint64_t at[] = { 0, BLOCK - 10, BLOCK, 2 * BLOCK + 1, i->size / 2, i->size - 1, i->size };

	for (size_t k = 0; k < VL_COUNT(at); k++) {
		int64_t a = answer(l, vmnt_sq_read(&l->s, i, at[k], one, sizeof one));
		int64_t b = answer(l, vmnt_sq_read(&l->s, i, at[k], two, sizeof two));
		/* which of two sizes given for one block a cache believes may change; what is read may not */
		CHECK(a == b || a < 0 || b < 0);
		CHECK(a <= (int64_t)sizeof one && (a < 0 || at[k] >= i->size || (uint64_t)a <= i->size - at[k]));
		CHECK(a <= 0 || b <= 0 || memcmp(one, two, (size_t)a) == 0);
		look_for_holes(l, i, at[k]);
	}
}

static void look_at(struct look *l, uint64_t ref, unsigned depth)
{
	char target[SQ_LINK_MAX + 1];
	struct sq_inode i;
	struct sq_entry e, found;
	struct sq_dir d, again;

	if (l->nodes++ > MAX_NODES || depth > 8 || answer(l, vmnt_sq_inode(&l->s, ref, &i)) < 0)
		return;
	if (S_ISLNK(i.mode) && answer(l, vmnt_sq_link(&l->s, &i, target)) == 0)
		CHECK_EQ(strlen(target), i.size);
	if (S_ISREG(i.mode))
		look_at_file(l, &i);
	if (!S_ISDIR(i.mode) || answer(l, vmnt_sq_dir(&l->s, &i, 0, &d)) < 0)
		return;
	while (l->nodes < MAX_NODES && answer(l, vmnt_sq_next(&l->s, &d, &e)) > 0) {
		CHECK(*e.name && strlen(e.name) <= SQ_NAME_MAX && !strchr(e.name, '/') && strcmp(e.name, "..") != 0);
		int r = vmnt_sq_lookup(&l->s, &i, e.name, &found);
		answer(l, r == -ENOENT ? 0 : r); /* names out of order are not found: fine */
		CHECK(r < 0 || strcmp(found.name, e.name) == 0);
		CHECK_EQ(answer(l, vmnt_sq_dir(&l->s, &i, e.end, &again)), 0);
		CHECK_EQ(again.pos, d.pos);
		look_at(l, e.ref, depth + 1);
	}
}

/* Number of errors met, or the error of opening. */
static int look(const struct image *m)
{
	static struct look l;
	int r = open_image(&l, m);

	if (r < 0)
		return r;
	look_at(&l, l.s.super.root, 0);
	close_image(&l);
	return (int)l.errors;
}

#define REFUSED(m) CHECK(look(m) < 0)    /* not opened at all */
#define ERRORS(m) CHECK(look(m) > 0)     /* opened, and something in it cannot be read */
#define ANYTHING(m) CHECK(look(m) < 999) /* what look() checks on its way is enough */

static struct image *fresh(void)
{
	static struct image m;

	make(&m, false);
	return &m;
}

static struct image *with(size_t at, uint64_t v, unsigned bytes)
{
	struct image *m = fresh();

	set(m, at, v, bytes);
	return m;
}

/* ---- the tests ------------------------------------------------------------------------------ */

TEST(the_sound_image_is_read)
{
	static struct look l;
	struct sq_inode i;
	struct sq_entry e;
	uint8_t buf[BIG + 1];

	CHECK_EQ(look(fresh()), 0);
	CHECK_EQ(open_image(&l, fresh()), 0);
	look_at(&l, l.s.super.root, 0);
	CHECK_EQ(l.nodes, 6);
	CHECK_EQ(vmnt_sq_inode(&l.s, l.s.super.root, &i), 0);
	CHECK_EQ(vmnt_sq_lookup(&l.s, &i, "big", &e), 0);
	CHECK_EQ(vmnt_sq_inode(&l.s, e.ref, &i), 0);
	CHECK_EQ(vmnt_sq_read(&l.s, &i, 0, buf, sizeof buf), BIG);
	for (size_t k = 0; k < BIG; k++)
		CHECK_EQ(buf[k], k < 2 * BLOCK ? (uint8_t)(k * 7 + k / 256) : (uint8_t)(50 + k - 2 * BLOCK));
	close_image(&l);
}

TEST(superblocks_that_lie_are_refused)
{
	static const struct {
		size_t at;
		unsigned bytes;
		uint64_t v;
	} lies[] = { { 0, 4, 0 },         { 12, 4, 0 },           { 12, 4, 4097 },
		     { 12, 4, 1u << 31 }, { 12, 4, 2048 },        { 16, 4, 0xffffffff },
		     { 16, 4, 100000 },   { 20, 2, 0 },           { 20, 2, 99 },
		     { 22, 2, 13 },       { 22, 2, 0xffff },      { 26, 2, 0 },
		     { 26, 2, 0xffff },   { 28, 2, 3 },           { 32, 8, 1ull << 48 },
		     { 32, 8, 0xffff },   { 40, 8, 95 },          { 40, 8, NO_TABLE },
		     { 48, 8, 0 },        { 48, 8, NO_TABLE },    { 48, 8, 1ull << 40 },
		     { 64, 8, 0 },        { 64, 8, NO_TABLE },    { 72, 8, 0 },
		     { 72, 8, NO_TABLE }, { 80, 8, 0 },           { 80, 8, 1ull << 63 },
		     { 80, 8, NO_TABLE }, { 80, 8, NO_TABLE - 7 } };
	for (size_t k = 0; k < VL_COUNT(lies); k++)
		REFUSED(with(lies[k].at, lies[k].v, lies[k].bytes));
	for (size_t n = 0; n < fresh()->n; n += 1 + n / 97) {
		struct image *m = fresh();
		m->n = n;
		REFUSED(m);
	}
	ANYTHING(with(4, 0, 4)); /* numbers of inodes are only shown */
	ANYTHING(with(4, 0xffffffff, 4));
}

TEST(directories_that_loop_end)
{
	struct image *m = fresh();

	set(m, m->sub_list + 12, m->root - m->inodes, 2); /* sub/small is the root */
	CHECK_EQ(look(m), 0);
	m = fresh();
	set(m, m->sub_list + 12, m->sub - m->inodes, 2); /* or sub itself */
	CHECK_EQ(look(m), 0);
	m = fresh();
	set(m, m->sub + 34, 0, 2); /* sub lists what the root lists */
	set(m, m->sub + 20, vl_le16(m->b + m->root + 24), 4);
	CHECK_EQ(look(m), 0);
}

static void count_file(void *arg, const char *path)
{
	unsigned *n = arg;

	CHECK(*path == '/');
	if (*n < 250)
		++*n;
}

/* By who looks for names, in a process of its own, which has no privileges afterwards. */
static int walked(const struct image *m)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct vmnt_image image = { .fd = memfd_create("image", MFD_CLOEXEC), .name = "image" };
		struct vmnt_peek *p;
		struct vl_err err = { 0 };
		unsigned n = 0;
		CHECK(image.fd >= 0 && vl_write_full(image.fd, m->b, m->n) == 0);
		if (vmnt_peek_open(&image, &p, &err) < 0)
			_exit(255);
		vmnt_peek_walk(p, count_file, &n);
		_exit((int)n);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

TEST(a_walk_sees_each_file_and_ends_in_a_loop)
{
	struct image *m = fresh();

	CHECK_EQ(walked(m), 2);    /* big and sub/small */
	set(m, m->sub + 34, 0, 2); /* sub lists what the root lists: as deep as a walk goes */
	set(m, m->sub + 20, vl_le16(m->b + m->root + 24), 4);
	CHECK_EQ(walked(m), 250);
}

TEST(directories_that_lie)
{
	struct image *m = fresh();
	size_t list = m->root_list, root = m->root, sub = m->sub, first = list + 12;

	ERRORS(with(sub + 20, 0xffffffff, 4)); /* bytes */
	ERRORS(with(root + 24, 0xffff, 2));
	ERRORS(with(root + 24, 20, 2));
	ERRORS(with(root + 16, 0x7fffffff, 4)); /* block */
	ERRORS(with(root + 26, 8191, 2));       /* place in it */
	ERRORS(with(sub + 24, 0xffffffff, 4));
	ERRORS(with(list, 256, 4)); /* entries */
	ERRORS(with(list, 0xffffffff, 4));
	ERRORS(with(list, 4, 4));
	ERRORS(with(list + 4, 0xffffffff, 4)); /* their inodes */
	ERRORS(with(first, 0xffff, 2));
	ERRORS(with(first + 6, 255, 2)); /* a name of 256 bytes, of 65536 */
	ERRORS(with(first + 6, 0xffff, 2));
	ERRORS(with(first + 8, '/', 1));
	ERRORS(with(first + 8, 0, 1));
	ANYTHING(with(sub + 32, 0xffff, 2)); /* an index that is not there */
	m = fresh();
	set(m, m->sub_list + 12 + 6, 1, 2);
	set(m, m->sub_list + 12 + 8, '.' | '.' << 8, 2);
	ERRORS(m);
}

TEST(inodes_that_lie)
{
	struct image *m = fresh();
	size_t link = m->link, big = m->big;

	ERRORS(with(big, 0, 2));
	ERRORS(with(big, 15, 2));
	ERRORS(with(big, 0xffff, 2));
	ERRORS(with(big + 4, 1, 2)); /* there is one owner */
	ERRORS(with(big + 6, 0xffff, 2));
	ERRORS(with(link + 20, 0, 4)); /* length of its target */
	ERRORS(with(link + 20, 4096, 4));
	ERRORS(with(link + 20, 0xffffffff, 4));
	ERRORS(with(link + 24 + 3, 0, 1));
	ERRORS(with(m->inodes - 2, 40 | 0x8000, 2)); /* the table ends early */
	REFUSED(with(m->inodes - 2, 8 | 0x8000, 2));
	REFUSED(with(m->inodes - 2, 0x8000, 2));
	REFUSED(with(m->root, SQ_REG, 2));
}

TEST(files_that_lie)
{
	struct image *m = fresh();
	size_t big = m->big, small = m->small, words = big + 56;

	ERRORS(with(big + 16, m->n - 1, 8)); /* place of the data */
	ERRORS(with(big + 16, NO_TABLE, 8));
	ERRORS(with(big + 16, NO_TABLE - BLOCK, 8));
	ERRORS(with(big + 16, 0, 8));
	ERRORS(with(big + 24, NO_TABLE, 8)); /* size */
	ERRORS(with(big + 24, 1ull << 62, 8));
	ERRORS(with(big + 24, 1ull << 40, 8));
	ERRORS(with(big + 24, 0x7fffffffffffffffull, 8));
	ERRORS(with(big + 24, 1000 * BLOCK, 8));  /* more blocks than words */
	ERRORS(with(big + 24, 3 * BLOCK - 1, 8)); /* more tail than there is */
	ERRORS(with(big + 44, 1, 4));             /* fragment */
	ERRORS(with(big + 44, 0xfffffffe, 4));
	ERRORS(with(big + 48, 51, 4)); /* place in it */
	ERRORS(with(big + 48, 0xffffffff, 4));
	ERRORS(with(words, (BLOCK + 1) | 1u << 24, 4)); /* words of the list */
	ERRORS(with(words, BLOCK | 1u << 25, 4));
	ERRORS(with(words, 0xffffff, 4));
	ERRORS(with(words, 0xffffffff, 4));
	ERRORS(with(words, 100 | 1u << 24, 4));
	ERRORS(with(words + 4, 1, 4));
	ERRORS(with(words, BLOCK, 4));                  /* "compressed" */
	CHECK_EQ(look(with(words + 4, 0, 4)), 0);       /* a hole */
	CHECK_EQ(look(with(big + 32, NO_TABLE, 8)), 0); /* holes */
	CHECK_EQ(look(with(big + 32, 1ull << 63, 8)), 0);
	ERRORS(with(small + 24, 101, 4));
	ERRORS(with(small + 28, 0xffffffff, 4));
}

/* Two blocks and a tail: any of the blocks may be a hole. */
TEST(holes_are_found)
{
	static const struct {
		uint32_t hole[2];
		uint64_t off, data, next; /* the next data from off, the next hole */
	} cases[] = {
		{ { 0, 0 }, 0, 0, BIG },
		{ { 0, 0 }, BIG - 1, BIG - 1, BIG },
		{ { 0, 1 }, 0, 0, BLOCK },
		{ { 0, 1 }, BLOCK - 1, BLOCK - 1, BLOCK },
		{ { 0, 1 }, BLOCK, 2 * BLOCK, BLOCK },
		{ { 0, 1 }, BLOCK + 7, 2 * BLOCK, BLOCK + 7 },
		{ { 1, 0 }, 0, BLOCK, 0 },
		{ { 1, 0 }, BLOCK, BLOCK, BIG },
		{ { 1, 1 }, 3, 2 * BLOCK, 3 },
	};
	static struct look l;

	for (size_t k = 0; k < VL_COUNT(cases); k++) {
		struct image *m = fresh();
		struct sq_inode i;
		struct sq_entry e;
		uint64_t to = 0;
		for (size_t b = 0; b < 2; b++)
			if (cases[k].hole[b])
				set(m, m->big + 56 + 4 * b, 0, 4);
		set(m, m->big + 32, k == 0 ? NO_TABLE : BLOCK, 8);
		CHECK_EQ(open_image(&l, m), 0);
		CHECK_EQ(vmnt_sq_inode(&l.s, l.s.super.root, &i), 0);
		CHECK_EQ(vmnt_sq_lookup(&l.s, &i, "big", &e), 0);
		CHECK_EQ(vmnt_sq_inode(&l.s, e.ref, &i), 0);
		CHECK_EQ(i.sparse, k == 0 ? BIG : BLOCK); /* never more than there is */
		CHECK_EQ(vmnt_sq_seek(&l.s, &i, cases[k].off, false, &to), 0);
		CHECK_EQ(to, cases[k].data);
		CHECK_EQ(vmnt_sq_seek(&l.s, &i, cases[k].off, true, &to), 0);
		CHECK_EQ(to, cases[k].next);
		CHECK_EQ(vmnt_sq_seek(&l.s, &i, BIG, true, &to), -ENXIO);
		CHECK_EQ(vmnt_sq_seek(&l.s, &i, BIG, false, &to), -ENXIO);
		close_image(&l);
	}
}

TEST(fragment_and_owner_tables_that_lie)
{
	struct image *m = fresh();
	size_t frags = m->frags, ids = m->ids, after = m->n;

	ERRORS(with(frags, 0, 8));
	ERRORS(with(frags, NO_TABLE, 8));
	ERRORS(with(frags, after - 100, 8));
	ERRORS(with(frags + 8, 0, 4));
	ERRORS(with(frags + 8, 0xffffffff, 4));
	ERRORS(with(frags + 8, 149 | 1u << 24, 4));
	ERRORS(with(frags - 2, 15 | 0x8000, 2));
	ERRORS(with(frags + 16, NO_TABLE, 8)); /* the pointer to it */
	ERRORS(with(frags + 16, frags + 16, 8));
	ANYTHING(with(frags + 16, 0, 8));
	REFUSED(with(ids - 2, 0x8000, 2));
	REFUSED(with(ids - 2, 3 | 0x8000, 2));
	REFUSED(with(ids + 4, NO_TABLE, 8));
	REFUSED(with(ids + 4, 0, 8));
	REFUSED(with(26, 3, 2)); /* owners */
}

/* Nothing of the attributes may spoil the rest, nor be believed. */
TEST(attribute_tables_that_lie)
{
	static const uint64_t starts[] = { 0, 1, 0x7fffffffffffffffull, 0xfffffffffffffff0ull, 0xffffffffull };

	for (size_t at = 0; at < VL_COUNT(starts); at++)
		for (uint64_t count = 0; count < 3; count++) {
			struct image *m = fresh();
			size_t table = m->n;
			put(m, starts[at], 8), put(m, count == 2 ? 0xffffffff : count, 4), put(m, 0, 4);
			put(m, starts[at], 8);
			set(m, 56, table, 8);
			set(m, 40, m->n, 8);
			set(m, m->big + 52, (uint32_t)count * 77, 4); /* a number of an attribute */
			set(m, m->sub + 36, 0xfffffffe, 4);
			ANYTHING(m);
			m->n = table + 9; /* cut in its middle */
			set(m, 40, m->n, 8);
			ANYTHING(m);
		}
	ANYTHING(with(56, 0, 8));
	ANYTHING(with(56, 96, 8));
	ANYTHING(with(56, NO_TABLE - 8, 8));
}

/* `n` zeros, compressed, at the end of the image; returns the compressed size. */
static size_t put_zeros(struct image *m, size_t n)
{
	VL_FREE uint8_t *zeros = vl_alloc(n);
	uLongf size = 60000;

	CHECK_EQ(compress2(m->b + m->n, &size, zeros, n, 9), Z_OK);
	m->n += size;
	return size;
}

TEST(bombs_do_not_go_off)
{
	for (size_t n = BLOCK - 1; n <= 4u << 20; n = n < BLOCK + 1 ? n + 1 : n * 2) {
		struct image *m = fresh();
		size_t at = m->n, size = put_zeros(m, n);
		set(m, m->big + 16, at, 8); /* a block of data */
		set(m, m->big + 56, size, 4);
		set(m, m->big + 24, BLOCK, 8);
		set(m, m->big + 44, SQ_NONE32, 4);
		set(m, 40, m->n, 8);
		if (n == BLOCK)
			CHECK_EQ(look(m), 0);
		else
			ERRORS(m);
	}
	for (size_t n = SQ_META_SIZE + 1; n <= 4u << 20; n *= 2) {
		struct image *m = fresh();
		size_t at = m->n;
		put(m, 0, 2);
		set(m, at, put_zeros(m, n), 2); /* a block of metadata */
		set(m, 40, m->n, 8);
		set(m, m->root + 16, at - (m->dirs - 2), 4);
		set(m, m->root + 24, 8000, 2);
		ERRORS(m);
	}
}

/* Megabytes of list in a few bytes each: who asks for the end of such a file gets an error, and not late. */
TEST(long_lists_are_given_up)
{
	static struct image m;
	static struct look l;
	struct sq_inode i;
	struct sq_entry e;
	char buf[10] = "123456789";

	make(&m, true);
	set(&m, m.big + 44, SQ_NONE32, 4);
	uint64_t blocks = (m.dirs - m.inodes) / 40 * (SQ_META_SIZE / 4);
	set(&m, m.big + 24, blocks * BLOCK, 8);
	CHECK_EQ(open_image(&l, &m), 0);
	CHECK_EQ(vmnt_sq_inode(&l.s, l.s.super.root, &i), 0);
	CHECK_EQ(vmnt_sq_lookup(&l.s, &i, "big", &e), 0);
	CHECK_EQ(vmnt_sq_inode(&l.s, e.ref, &i), 0);
	l.s.work = 0;
	CHECK_EQ(answer(&l, vmnt_sq_read(&l.s, &i, 5000 * BLOCK, buf, sizeof buf)), sizeof buf); /* a hole */
	CHECK_MEM(buf, "\0\0\0\0\0\0\0\0\0", sizeof buf);
	CHECK_EQ(answer(&l, vmnt_sq_read(&l.s, &i, (blocks - 1) * BLOCK, buf, sizeof buf)), -EIO);
	uint64_t to;
	CHECK_EQ(answer(&l, vmnt_sq_seek(&l.s, &i, 5000 * BLOCK, true, &to)), 0);
	CHECK_EQ(to, 5000 * BLOCK);
	CHECK_EQ(answer(&l, vmnt_sq_seek(&l.s, &i, 5000 * BLOCK, false, &to)), -EIO);
	close_image(&l);
	set(&m, m.big + 24, 1ull << 62, 8);
	ERRORS(&m);
	struct image *f = with(fresh()->sub + 20, 0xffffffff, 4);
	set(f, f->sub + 24, 0, 4);
	ERRORS(f);
}

TEST(every_byte_may_be_wrong)
{
	static const uint8_t with_what[] = { 0x00, 0xff, 0x80 };
	size_t whole = fresh()->n, data = 96 + 2 * BLOCK + 150;

	for (size_t at = 0; at < whole; at = at == 95 ? data : at + 1)
		for (size_t k = 0; k < VL_COUNT(with_what); k++) {
			struct image *m = fresh();
			m->b[at] = k == 2 ? m->b[at] ^ with_what[k] : with_what[k];
			ANYTHING(m);
		}
}

TEST(many_bytes_may_be_wrong)
{
	uint64_t seed = 4;

	for (unsigned round = 0; round < 1500; round++) {
		struct image *m = fresh();
		size_t first = m->inodes - 2;
		for (unsigned k = 0; k <= round % 5; k++) {
			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			size_t at = first + (seed >> 33) % (m->n - first);
			m->b[at] = (uint8_t)(seed >> 20);
		}
		ANYTHING(m);
	}
}
