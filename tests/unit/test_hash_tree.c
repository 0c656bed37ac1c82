/* Hash trees: how they are built, and that nothing gets past one. */
#include "sif_check.h"
#include "squash_maker.h"

#include "mount/squash.h"
#include "rootless/hold.h"

#define BLOCK 4096u
#define BIG (3584u << 10) /* two of these do not fit into the cache of verified blocks */

/* ---- the construction --------------------------------------------------------------------------- */

static uint8_t *bytes(size_t n, uint32_t seed)
{
	uint8_t *p = vl_alloc(n + 1);

	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525 + 1013904223;
		p[i] = (uint8_t)(seed >> 24);
	}
	return p;
}

/* As the definition says it: hashes of blocks, of which hashes are made, until there is one. */
static void plain_root(const uint8_t *p, size_t n, uint32_t block, uint8_t ret[32])
{
	size_t blocks = (n + block - 1) / block;
	VL_FREE uint8_t *hashes = vl_alloc(blocks * 32), *one = vl_alloc(block);

	for (size_t i = 0; i < blocks; i++) {
		size_t some = VL_MIN((size_t)block, n - i * block);
		memset(one, 0, block);
		memcpy(one, p + i * block, some);
		vl_sha256(one, block, hashes + i * 32);
	}
	if (blocks == 1)
		memcpy(ret, hashes, 32);
	else
		plain_root(hashes, blocks * 32, block, ret);
}

static int build(const void *p, size_t n, uint32_t block, struct sif_tree *ret)
{
	int fd = memfd_with(p, n), out = memfd_with(NULL, 0);
	struct sif_tree_shape shape;
	struct vl_err err;

	CHECK_OK(sif_tree_build(fd, 0, n, block, out, NULL, ret, &err), err);
	sif_tree_shape(block, n, &shape);
	CHECK_EQ(lseek(out, 0, SEEK_END), shape.size);
	CHECK_EQ(ret->size, n);
	CHECK_EQ(ret->block, block);
	close(fd);
	return out;
}

TEST(a_root_is_what_its_definition_says)
{
	static const uint32_t blocks[] = { 4096, 16384, 131072 };
	VL_FREE uint8_t *p = bytes(5u << 20, 1);

	for (size_t b = 0; b < VL_COUNT(blocks); b++) {
		uint32_t block = blocks[b], full = block / 32 * block;
		const size_t sizes[] = {
			1,        31,   block - 1, block,        block + 1,     2 * block, 5u << 20,
			full - 1, full, full + 1,  full + block, 3 * block - 7, 1u << 20,  (1u << 20) + 1
		};
		for (size_t i = 0; i < VL_COUNT(sizes); i++) {
			struct sif_tree t;
			uint8_t want[32];
			if (sizes[i] > 5u << 20)
				continue;
			close(build(p, sizes[i], block, &t));
			plain_root(p, sizes[i], block, want);
			CHECK_MEM(t.root, want, 32);
		}
	}
}

/* `fsverity digest --block-size=N` of the same bytes: the digest is that of the descriptor. */
TEST(fsverity_says_the_same)
{
	static const struct {
		uint32_t block;
		const char *digest;
	} known[] = { { 4096, "f582acdb8f0ae0d159b650c0b967c2770f2bc994a416f80db8780a70b256714b" },
		      { 16384, "c47c083b90d431ca5d78d4bbbea880364c82e5e35f8ae5f11a4800cc26ce9b20" },
		      { 131072, "eb1ef997b7f6abc4492ac6905f62dbee949f66d3c8ea024f05e7000a7dfcc26c" } };
	uint8_t p[100000], d[SIF_TREE_DESCRIPTOR], hash[32];
	struct sif_tree t, again;
	struct vl_err err;
	char hex[65];

	for (size_t i = 0; i < sizeof p; i++)
		p[i] = (uint8_t)(i % 251);
	for (size_t i = 0; i < VL_COUNT(known); i++) {
		close(build(p, sizeof p, known[i].block, &t));
		sif_tree_encode(&t, d);
		vl_sha256(d, sizeof d, hash);
		vl_hex(hash, 32, hex);
		CHECK_STR(hex, known[i].digest);
		CHECK_OK(sif_tree_parse(d, sizeof d, &again, &err), err);
		CHECK(again.block == t.block && again.size == t.size && !memcmp(again.root, t.root, 32));
	}
}

TEST(a_descriptor_of_anything_else_is_refused)
{
	struct sif_tree t = { .block = 16384, .size = 1 };
	uint8_t d[SIF_TREE_DESCRIPTOR], one;
	struct vl_err err;

	sif_tree_encode(&t, d);
	CHECK_OK(sif_tree_parse(d, sizeof d, &t, &err), err);
	CHECK_EQ(sif_tree_parse(d, sizeof d - 1, &t, &err), -EINVAL);
	/* each byte but those of size and root has a value that is not known */
	for (size_t at = 0; at < sizeof d; at++) {
		if (at >= 8 && at < 48)
			continue;
		one = d[at];
		d[at] = 0xee;
		CHECK_EQ(sif_tree_parse(d, sizeof d, &t, &err), -EINVAL);
		d[at] = one;
	}
	for (unsigned log = 0; log < 256; log++) {
		d[2] = (uint8_t)log;
		CHECK_EQ(sif_tree_parse(d, sizeof d, &t, &err), log >= 12 && log <= 17 ? 0 : -EINVAL);
	}
	d[2] = 12;
	d[8] = 0;
	CHECK_EQ(sif_tree_parse(d, sizeof d, &t, &err), -EINVAL);
	d[15] = 0x80;
	CHECK_EQ(sif_tree_parse(d, sizeof d, &t, &err), -EINVAL);
}

TEST(the_largest_data_has_a_shape)
{
	struct sif_tree_shape s;

	sif_tree_shape(SIF_TREE_MIN_BLOCK, INT64_MAX, &s);
	CHECK(s.n <= SIF_TREE_LEVELS);
	CHECK_EQ(s.off[s.n - 1], 0);
	CHECK_EQ(s.off[0] + 4096 * ((1ull << 51) / 128), s.size);
	sif_tree_shape(SIF_TREE_MAX_BLOCK, 1, &s);
	CHECK(s.n == 0 && s.size == 0);
}

/* ---- in an image -------------------------------------------------------------------------------- */

static int new_image(const void *p, size_t n, uint32_t slots, uint32_t group)
{
	struct sif_object part = {
		.type = SIF_PARTITION, .group = group, .fs = SIF_FS_SQUASHFS, .part = SIF_PART_PRIMARY, .arch = "amd64"
	};
	struct sif_object text = { .type = SIF_DEFFILE, .group = 1 };
	struct sif_new how = { .time = 1000, .slots = slots };
	int fd = memfd_with(NULL, 0);
	struct sif_writer *w;
	struct vl_err err;

	CHECK_OK(sif_writer_new(fd, &how, &w, &err), err);
	CHECK_OK(sif_writer_add(w, &text, "text", 4, &err), err);
	CHECK_OK(sif_writer_add(w, &part, p, n, &err), err);
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);
	return fd;
}

static enum sif_tree_result add(int fd)
{
	struct sif_tree_opts o = { .time = 2000 };
	enum sif_tree_result r;
	struct vl_err err;

	CHECK_OK(sif_tree_add(fd, &o, &r, &err), err);
	return r;
}

static void sign(int fd, struct sif_key *k)
{
	struct sif_sign_opts o = { .time = 2000 };
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, k, &o, &n, &err), err);
}

static struct sif_key *new_key(void)
{
	struct sif_key *k;
	struct vl_err err;

	CHECK_OK(sif_key_new("ed25519", 0, &k, &err), err);
	return k;
}

static off_t where(int fd, bool levels)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o;
	struct vl_err err;

	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_OK(sif_tree_find(&img, &o, &err), err);
	return (off_t)(levels ? o.blocks->off : o.tree->off);
}

static void flip(int fd, off_t at)
{
	uint8_t b;

	CHECK_EQ(pread(fd, &b, 1, at), 1);
	b ^= 0x10;
	CHECK_EQ(pwrite(fd, &b, 1, at), 1);
}

TEST(signing_adds_one_and_keeps_it)
{
	VL_FREE uint8_t *p = bytes(100000, 3);
	SIF_KEY struct sif_key *k = new_key();
	int fd = new_image(p, 100000, 10, 1);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o;
	struct vl_err err;

	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 4);
	CHECK_OK(sif_tree_find(&img, &o, &err), err);
	CHECK(o.tree->link == o.partition->id && o.blocks->link == o.tree->id && o.tree->group == 1);
	CHECK_EQ(add(fd), SIF_TREE_KEPT);
	sign(fd, k);
	CHECK_EQ(add(fd), SIF_TREE_KEPT); /* so that a second signer covers the same */
	flip(fd, where(fd, true));
	struct sif_tree_opts opts = { .time = 3000 };
	enum sif_tree_result r;
	CHECK_EQ(sif_tree_add(fd, &opts, &r, &err), -EBADMSG);
}

/* An object without bytes would be one that other tools stumble over. */
TEST(one_block_needs_no_levels)
{
	VL_FREE uint8_t *p = bytes(5000, 3);
	int fd = new_image(p, 5000, 10, 1);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o;
	struct vl_err err;

	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 3);
	CHECK_OK(sif_tree_find(&img, &o, &err), err);
	CHECK(o.tree && !o.blocks);
	CHECK_EQ(add(fd), SIF_TREE_KEPT);
	flip(fd, where(fd, false) + 20);
	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	CHECK_EQ(add(fd), SIF_TREE_KEPT);
}

TEST(a_wrong_one_is_made_anew)
{
	VL_FREE uint8_t *p = bytes(100000, 3);
	int fd = new_image(p, 100000, 10, 1);

	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	flip(fd, where(fd, true) + 40);
	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	CHECK_EQ(add(fd), SIF_TREE_KEPT);
	flip(fd, where(fd, false));
	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	flip(fd, where(fd, false) + 20);
	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	CHECK_EQ(add(fd), SIF_TREE_KEPT);
}

TEST(no_signature_loses_its_hold_by_one)
{
	VL_FREE uint8_t *p = bytes(100000, 3);
	SIF_KEY struct sif_key *k = new_key();
	int fd = new_image(p, 100000, 10, 1);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	SIF_REPORT struct sif_report rep = { 0 };
	struct sif_verify_opts o = { .keys = &k, .n_keys = 1 };
	struct vl_err err;

	sign(fd, k);
	CHECK_EQ(add(fd), SIF_TREE_IS_SIGNED);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 3);
	CHECK_OK(sif_verify(&img, &o, &rep, &err), err);
}

TEST(no_tree_without_room_or_image)
{
	VL_FREE uint8_t *p = bytes(100000, 3), *before = NULL, *after = NULL;
	struct sif_tree_opts o = { .group = 7 };
	enum sif_tree_result r;
	struct vl_err err;
	int fd = new_image(p, 100000, 4, 1); /* two are free, the signature needs a third */
	off_t n = lseek(fd, 0, SEEK_END);

	before = vl_alloc((size_t)n);
	after = vl_alloc((size_t)n);
	CHECK_EQ(pread(fd, before, (size_t)n, 0), n);
	CHECK_OK(sif_tree_add(fd, &o, &r, &err), err);
	CHECK_EQ(r, SIF_TREE_NO_IMAGE);
	o.group = 0;
	CHECK_EQ(sif_tree_add(fd, &o, &r, &err), -ENOSPC);
	CHECK_EQ(lseek(fd, 0, SEEK_END), n);
	CHECK_EQ(pread(fd, after, (size_t)n, 0), n);
	CHECK_MEM(after, before, (size_t)n);
	CHECK_EQ(add(new_image(p, 100000, 10, SIF_NO_GROUP)), SIF_TREE_NO_IMAGE);
}

TEST(what_is_not_hashed_is_compared_by_descriptor)
{
	VL_FREE uint8_t *p = bytes(100000, 3);
	SIF_KEY struct sif_key *k = new_key();
	int fd = new_image(p, 100000, 10, 1);
	uint32_t part = 2;
	struct sif_verify_opts o = { .keys = &k, .n_keys = 1, .unhashed = &part, .n_unhashed = 1 };
	struct vl_err err;

	CHECK_EQ(add(fd), SIF_TREE_ADDED);
	sign(fd, k);
	for (int step = 0; step < 3; step++) {
		SIF_IMAGE struct sif_image img = { .fd = -1 };
		SIF_REPORT struct sif_report rep = { 0 };
		CHECK_OK(sif_load(fd, &img, &err), err);
		CHECK_EQ(sif_verify(&img, &o, &rep, &err), step < 2 ? 0 : -EBADMSG);
		if (step == 0)
			flip(fd, (off_t)sif_by_id(&img, 2)->off + 5000); /* the tree will find that */
		else
			flip(fd, img.h.table_off + 585 * (int64_t)sif_by_id(&img, 2)->slot + 73); /* its name */
	}
}

/* ---- reading ------------------------------------------------------------------------------------ */

struct sample {
	struct maker m;
	struct vl_buf squash;
	uint8_t *a, *b;
	int fd; /* the squashfs, then the levels */
	struct vmnt_image image;
};

static void make_sample(struct sample *s, size_t size)
{
	struct sif_tree t;

	s->a = bytes(size, 5);
	s->b = bytes(size, 6);
	memset(s->b, 7, size / 2);
	s->m = (struct maker){
		.file = { { "packed", s->b, size, true, -1u, 0 }, { "plain", s->a, size, false, -1u, 0 } }, .n = 2
	};
	s->squash = (struct vl_buf){ 0 };
	maker_make(&s->m, &s->squash);
	int levels = build(s->squash.data, s->squash.len, BLOCK, &t);
	size_t n = (size_t)lseek(levels, 0, SEEK_END);
	VL_FREE uint8_t *text = vl_alloc(n + 1);
	CHECK_EQ(pread(levels, text, n, 0), n);
	close(levels);
	s->fd = memfd_with(s->squash.data, s->squash.len);
	CHECK_EQ(pwrite(s->fd, text, n, (off_t)s->squash.len), n);
	s->image = (struct vmnt_image){ .fd = s->fd,
					.size = s->squash.len,
					.name = "image",
					.threads = 1,
					.memory = 1,
					.tree = { .block = BLOCK, .off = s->squash.len } };
	memcpy(s->image.tree.root, t.root, 32);
}

static void free_sample(struct sample *s)
{
	close(s->fd);
	vl_buf_free(&s->squash);
	free(s->a);
	free(s->b);
}

static int find(struct squash *s, const char *name, struct sq_inode *ret)
{
	struct sq_inode root;
	struct sq_entry e;
	int r = vmnt_sq_inode(s, s->super.root, &root);

	if (r == 0)
		r = vmnt_sq_lookup(s, &root, name, &e);
	return r < 0 ? r : vmnt_sq_inode(s, e.ref, ret);
}

/* Reads both files; what is read is right, or there was an error. Returns how many errors. */
static unsigned read_all(struct squash *s, const struct maker *m)
{
	unsigned bad = 0;
	uint8_t buf[BLOCK];
	struct sq_inode i;

	for (size_t k = 0; k < m->n; k++) {
		s->work = 0;
		int r = find(s, m->file[k].name, &i);
		bad += r < 0;
		for (size_t at = 0; r == 0 && at < m->file[k].size; at += BLOCK) {
			size_t n = VL_MIN(m->file[k].size - at, sizeof buf);
			s->work = 0;
			ssize_t got = vmnt_sq_read(s, &i, at, buf, n);
			if (got == -EIO) {
				bad++;
				continue;
			}
			CHECK_EQ(got, n);
			CHECK_MEM(buf, m->file[k].data + at, n);
		}
	}
	return bad;
}

static unsigned read_image(const struct sample *s)
{
	struct squash sq;
	struct vl_err err = { 0 };

	if (vmnt_sq_open(&sq, &s->image, &err) < 0) {
		CHECK(*err.text);
		return 1;
	}
	unsigned bad = read_all(&sq, &s->m);
	vmnt_sq_close(&sq);
	return bad;
}

/* Headers, data, tables and the levels of the tree alike. */
TEST(no_changed_byte_gets_through)
{
	struct sample s;

	make_sample(&s, 13 * BLOCK + 77);
	CHECK_EQ(read_image(&s), 0);
	off_t end = lseek(s.fd, 0, SEEK_END);
	for (off_t at = 0; at < end; at += 61) {
		flip(s.fd, at);
		/* the end of a block of hashes is padding, which is under a hash too */
		CHECK(read_image(&s) > 0);
		flip(s.fd, at);
	}
	CHECK_EQ(read_image(&s), 0);
	free_sample(&s);
}

TEST(a_file_that_is_too_short_is_an_error)
{
	struct sample s;

	make_sample(&s, 13 * BLOCK + 77);
	CHECK_EQ(ftruncate(s.fd, (off_t)s.squash.len), 0); /* no levels */
	CHECK(read_image(&s) > 0);
	CHECK_EQ(ftruncate(s.fd, 5 * BLOCK), 0);
	CHECK(read_image(&s) > 0);
	free_sample(&s);
}

TEST(another_root_vouches_for_nothing)
{
	struct sample s;
	struct squash sq;
	struct vl_err err;

	make_sample(&s, 3 * BLOCK);
	s.image.tree.root[31] ^= 1;
	CHECK_EQ(vmnt_sq_open(&sq, &s.image, &err), -EBADMSG);
	free_sample(&s);
}

/* Also when a block was right the first time: it is read again, and hashed again. */
TEST(a_change_while_it_is_read_is_found)
{
	struct sample s;
	struct squash sq;
	struct vl_err err;

	make_sample(&s, BIG);
	CHECK_OK(vmnt_sq_open(&sq, &s.image, &err), err);
	CHECK_EQ(read_all(&sq, &s.m), 0);
	for (off_t at = 4096; at < (off_t)s.squash.len - 65536; at += 16 * BLOCK)
		flip(s.fd, at);
	unsigned bad = read_all(&sq, &s.m);
	CHECK(bad > 50);
	for (off_t at = 4096; at < (off_t)s.squash.len - 65536; at += 16 * BLOCK)
		flip(s.fd, at);
	CHECK_EQ(read_all(&sq, &s.m), 0); /* an error is not for ever */
	vmnt_sq_close(&sq);
	free_sample(&s);
}

TEST(every_place_and_length_reads_the_same_bytes)
{
	struct sample s;
	struct squash sq;
	struct vl_err err;
	VL_FREE uint8_t *buf = vl_alloc(64 * BLOCK);
	uint32_t seed = 9;

	make_sample(&s, 40 * BLOCK + 5);
	CHECK_OK(vmnt_sq_open(&sq, &s.image, &err), err);
	for (unsigned i = 0; i < 20000; i++) {
		seed = seed * 1664525 + 1013904223;
		uint64_t pos = (seed >> 8) % s.squash.len, n = (seed >> 4) % (40 * BLOCK);
		if (i % 2) /* whole blocks */
			pos -= pos % BLOCK;
		bool fits = n <= s.squash.len - pos;
		memset(buf, 0xee, (size_t)n);
		CHECK_EQ(vmnt_tree_read(&sq, buf, (size_t)n, pos), fits ? 0 : -EIO);
		if (fits)
			CHECK_MEM(buf, s.squash.data + pos, (size_t)n);
	}
	CHECK_EQ(vmnt_tree_read(&sq, buf, 1, s.squash.len), -EIO);
	CHECK_EQ(vmnt_tree_read(&sq, buf, 1, UINT64_MAX), -EIO);
	CHECK_EQ(vmnt_tree_read(&sq, buf, SIZE_MAX, 1), -EIO);
	vmnt_sq_close(&sq);
	free_sample(&s);
}

static size_t lines_of(int fd, char *text, size_t cap)
{
	size_t lines = 0;
	ssize_t n = read(fd, text, cap - 1);

	CHECK(n >= 0);
	text[n] = 0;
	for (const char *p = text; (p = strchr(p, '\n')); p++)
		lines++;
	return lines;
}

TEST(one_line_for_each_bad_block_and_not_many)
{
	struct sample s;
	struct squash sq;
	struct vl_err err;
	uint64_t hashed, bad;
	char text[8192];
	uint8_t b[100];
	int p[2];

	CHECK_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	make_sample(&s, 40 * BLOCK);
	s.image.log = p[1];
	s.image.log_mark = "<27>";
	s.image.name = "im\033age";
	CHECK_OK(vmnt_sq_open(&sq, &s.image, &err), err);
	flip(s.fd, 20 * BLOCK + 9);
	for (unsigned i = 0; i < 5; i++)
		CHECK_EQ(vmnt_tree_read(&sq, b, sizeof b, 20 * BLOCK), -EIO);
	CHECK_EQ(lines_of(p[0], text, sizeof text), 1);
	CHECK(strstr(text, "<27>vial: im\\") == text && strstr(text, "block 20 (4096 bytes at 81920 "));
	CHECK(!strchr(text, '\033'));
	for (unsigned i = 1; i < 30; i++) {
		if (i != 20)
			flip(s.fd, i * BLOCK);
		CHECK_EQ(vmnt_tree_read(&sq, b, sizeof b, i * BLOCK), -EIO);
	}
	CHECK_EQ(lines_of(p[0], text, sizeof text), 7);
	vmnt_tree_count(sq.tree, &hashed, &bad);
	CHECK_EQ(bad, 34);
	CHECK(hashed > bad);
	vmnt_sq_close(&sq);
	free_sample(&s);
}

/* ---- the holder --------------------------------------------------------------------------------- */

TEST(a_verified_mount_is_no_other_ones)
{
	struct vmnt_tree none = { 0 }, one = { .block = 4096 }, other = { .block = 4096, .root = { 1 } };
	struct vmnt_tree larger = { .block = 8192 };
	const struct vmnt_tree *trees[] = { NULL, &one, &other, &larger };
	struct plan p = { .image_fd = memfd_with("x", 1) };
	char *key[VL_COUNT(trees)];

	for (size_t i = 0; i < VL_COUNT(trees); i++) {
		p.tree = trees[i];
		key[i] = ctr_hold_key(&p);
		CHECK(key[i]);
		for (size_t k = 0; k < i; k++)
			CHECK(!vl_streq(key[i], key[k]));
	}
	p.tree = &none;
	VL_FREE char *plain = ctr_hold_key(&p);
	CHECK_STR(plain, key[0]);
	for (size_t i = 0; i < VL_COUNT(trees); i++)
		free(key[i]);
}
