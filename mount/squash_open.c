#include "squash.h"

#include <sys/stat.h>

#define MAGIC 0x73717368u
#define META_SHARE 16         /* of the memory, for metadata; by default 4 MiB */
#define REPLY (1ull << 20)    /* a thread's longest answer */
#define THREAD (256ull << 10) /* its stack, tables of the decompressor, the question */
/* With the largest blocks, 1 MiB, each thread has two or three of them at hand, and two more threads have; of blocks that
 * wait there are as many as threads and four. So the memory that is usual is just right for the usual threads. */
#define LEAST (16ull << 20)
#define LEAST_THREAD (6ull << 20)

/* ---- superblock ----------------------------------------------------------------------------- */

static uint64_t room(const struct vmnt_image *image)
{
	struct stat st;

	if (image->size)
		return image->size;
	if (fstat(image->fd, &st) < 0 || (uint64_t)st.st_size < image->off)
		return 0;
	return (uint64_t)st.st_size - image->off;
}

static bool table_fits(const struct sq_super *s, uint64_t table, uint64_t pointers)
{
	return table >= SQ_SUPER_SIZE && table <= s->used && pointers * 8 <= s->used - table;
}

static uint64_t pointers_of(uint64_t items, uint64_t each)
{
	return (items * each + SQ_META_SIZE - 1) / SQ_META_SIZE;
}

static int check_super(const struct sq_super *s, unsigned log, const char *name, struct vl_err *err)
{
	if (!vmnt_unpack_name(s->compression))
		return vl_fail(err, EINVAL, "%s: the squashfs uses compression number %u, which is not supported", name,
			       s->compression);
	if (s->block_size < 4096 || s->block_size > 1u << 20 || log > 20 || s->block_size != 1u << log)
		return vl_fail(err, EINVAL, "%s: the squashfs claims a block size of %u bytes", name, s->block_size);
	if (s->inode_table < SQ_SUPER_SIZE || s->dir_table < s->inode_table || s->dir_table > s->used || !s->ids ||
	    !table_fits(s, s->id_table, pointers_of(s->ids, 4)) ||
	    (s->fragments && !table_fits(s, s->frag_table, pointers_of(s->fragments, 16))))
		return vl_fail(err, EINVAL, "%s: a table of the squashfs lies outside of it; the image is damaged",
			       name);
	return 0;
}

static int read_super(struct squash *s, const char *name, uint8_t b[SQ_SUPER_SIZE], struct vl_err *err)
{
	if (!s->tree)
		return vl_pread_full(s->fd, b, SQ_SUPER_SIZE, s->off, name, err);
	if (vmnt_tree_read(s, b, SQ_SUPER_SIZE, 0) < 0)
		return vl_fail(err, EBADMSG, "%s: the squashfs is not what its hash tree says; the image was changed",
			       name);
	return 0;
}

static int load_super(struct squash *fs, const struct vmnt_image *image, struct sq_super *ret, struct vl_err *err)
{
	uint8_t b[SQ_SUPER_SIZE];
	uint64_t have = room(image);
	const char *name = image->name;

	if (have < sizeof b)
		return vl_fail(err, EINVAL, "%s: too short for a squashfs: %llu bytes", name, (unsigned long long)have);
	int r = read_super(fs, name, b, err);
	if (r < 0)
		return r;
	if (vl_le32(b) != MAGIC)
		return vl_fail(err, EINVAL, "%s: no squashfs at byte %llu", name, (unsigned long long)image->off);
	if (vl_le16(b + 28) != 4 || vl_le16(b + 30) != 0)
		return vl_fail(err, EINVAL, "%s: squashfs version %u.%u; only 4.0 is supported", name, vl_le16(b + 28),
			       vl_le16(b + 30));
	struct sq_super s = {
		.inodes = vl_le32(b + 4),
		.block_size = vl_le32(b + 12),
		.fragments = vl_le32(b + 16),
		.compression = vl_le16(b + 20),
		.ids = vl_le16(b + 26),
		.root = vl_le64(b + 32),
		.used = vl_le64(b + 40),
		.id_table = vl_le64(b + 48),
		.xattr_table = vl_le64(b + 56),
		.inode_table = vl_le64(b + 64),
		.dir_table = vl_le64(b + 72),
		.frag_table = vl_le64(b + 80),
	};
	if (s.used < SQ_SUPER_SIZE || s.used > have)
		return vl_fail(err, EINVAL,
			       "%s: the squashfs claims %llu bytes and has %llu; the image is cut short or damaged",
			       name, (unsigned long long)s.used, (unsigned long long)have);
	r = check_super(&s, vl_le16(b + 22), name, err);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int load_ids(struct squash *s)
{
	uint64_t n = s->super.ids, blocks = pointers_of(n, 4);

	s->sh->ids = vl_alloc(n * 4);
	for (uint64_t i = 0; i < blocks; i++) {
		uint8_t p[8], raw[SQ_META_SIZE];
		size_t some = VL_MIN((size_t)(n * 4 - i * SQ_META_SIZE), sizeof raw);
		if (vmnt_sq_pread(s, p, 8, s->super.id_table + i * 8) < 0)
			return -EIO;
		struct sq_cursor c = { .block = vl_le64(p), .end = s->super.used };
		if (vmnt_sq_meta(s, &c, raw, some) < 0)
			return -EIO;
		for (size_t k = 0; k < some / 4; k++)
			s->sh->ids[i * (SQ_META_SIZE / 4) + k] = vl_le32(raw + 4 * k);
	}
	return 0;
}

static int load_fragments(struct squash *s)
{
	size_t n = (size_t)pointers_of(s->super.fragments, 16); /* at most bytes_used / 8: checked */

	if (!n)
		return 0;
	s->sh->frag_blocks = vl_alloc(n * 8);
	return vmnt_sq_pread(s, s->sh->frag_blocks, n * 8, s->super.frag_table);
}

/* How many blocks of data: what is left of the memory after each thread's reply and buffers, but enough for
 * all of them to work at once. */
static size_t data_slots(const struct squash *s, uint64_t memory, unsigned threads)
{
	uint64_t block = s->super.block_size, used = memory / META_SHARE + threads * (REPLY + THREAD + block);

	if (s->tree)
		used += vmnt_tree_memory(s->tree) + threads * block;
	if (s->sh->front.n)
		used += s->sh->front.slots * SQ_FRONT_CHUNK;

	return (size_t)VL_MAX(memory > used ? (memory - used) / block : 0, threads + 4ull);
}

uint64_t vmnt_server_least(unsigned threads)
{
	return LEAST + threads * LEAST_THREAD;
}

static unsigned readers(const struct vmnt_image *image)
{
	return VL_MAX(image->threads, 1u) + 2; /* one works ahead, one controls */
}

static int share(struct squash *s, const struct vmnt_image *image)
{
	uint64_t memory = image->memory ? image->memory : VMNT_MEMORY;
	unsigned threads = readers(image);

	s->sh = vl_alloc(sizeof *s->sh);
	pthread_mutex_init(&s->sh->lock, NULL);
	vmnt_ahead_init(&s->sh->ahead);
	vmnt_front_init(&s->sh->front, image, s->super.used);
	vmnt_cache_init(&s->sh->meta, (size_t)VL_MAX(memory / META_SHARE / SQ_META_SIZE, threads * (SQ_HELD + 1ull)),
			SQ_META_SIZE);
	vmnt_cache_init(&s->sh->data, data_slots(s, memory, threads), s->super.block_size);
	return load_ids(s) < 0 || load_fragments(s) < 0 || vmnt_sq_xattr_open(s) < 0 ? -EIO : 0;
}

static void begin(struct squash *s)
{
	for (size_t i = 0; i < SQ_WALKS; i++)
		s->walk[i].ref = SQ_NONE64;
	s->packed = vl_alloc(VL_MAX(s->super.block_size, SQ_META_SIZE));
}

int vmnt_sq_open(struct squash *s, const struct vmnt_image *image, struct vl_err *err)
{
	struct sq_inode root;

	*s = (struct squash){ .fd = image->fd, .off = image->off };
	s->owner = true;
	if (image->tree.block)
		s->tree = vmnt_tree_new(image, readers(image));
	int r = load_super(s, image, &s->super, err);
	if (r < 0) {
		vmnt_sq_close(s);
		return r;
	}
	begin(s);
	if (share(s, image) < 0)
		r = vl_fail(err, EIO, "%s: cannot read the tables of the squashfs; the image is damaged", image->name);
	else if (vmnt_sq_inode(s, s->super.root, &root) < 0 || !S_ISDIR(root.mode))
		r = vl_fail(err, EIO, "%s: the squashfs has no readable root directory; the image is damaged",
			    image->name);
	if (r < 0)
		vmnt_sq_close(s);
	return r;
}

void vmnt_sq_reader(const struct squash *s, struct squash *ret)
{
	*ret = (struct squash){ .fd = s->fd,
				.off = s->off,
				.super = s->super,
				.xattr_first = s->xattr_first,
				.xattr_sets = s->xattr_sets,
				.sh = s->sh,
				.tree = s->tree };
	begin(ret);
}

static void unshare_all(struct sq_shared *sh)
{
	vmnt_cache_free(&sh->meta);
	vmnt_cache_free(&sh->data);
	vmnt_ahead_free(&sh->ahead);
	vmnt_front_free(&sh->front);
	pthread_mutex_destroy(&sh->lock);
	free(sh->ids);
	free(sh->frag_blocks);
	free(sh);
}

void vmnt_sq_close(struct squash *s)
{
	for (size_t i = 0; i < SQ_WALKS; i++)
		free(s->walk[i].mark);
	free(s->packed);
	free(s->span);
	vmnt_unpack_free(s->unpacker);
	if (s->sh) {
		vmnt_sq_let_go(s);
		if (s->owner)
			unshare_all(s->sh);
	}
	if (s->owner)
		vmnt_tree_free(s->tree);
	*s = (struct squash){ .fd = -1 };
}
