#include "squash.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#define SUPER_SIZE 96
#define MAGIC 0x73717368u
#define META_SLOTS 256         /* 2 MiB of metadata */
#define DATA_BYTES (16u << 20) /* file data that was decompressed and only partly asked for */

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
	return table >= SUPER_SIZE && table <= s->used && pointers * 8 <= s->used - table;
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
	if (s->inode_table < SUPER_SIZE || s->dir_table < s->inode_table || s->dir_table > s->used || !s->ids ||
	    !table_fits(s, s->id_table, pointers_of(s->ids, 4)) ||
	    (s->fragments && !table_fits(s, s->frag_table, pointers_of(s->fragments, 16))))
		return vl_fail(err, EINVAL, "%s: a table of the squashfs lies outside of it; the image is damaged",
			       name);
	return 0;
}

int vmnt_sq_super(const struct vmnt_image *image, struct sq_super *ret, struct vl_err *err)
{
	uint8_t b[SUPER_SIZE];
	uint64_t have = room(image);
	const char *name = image->name;

	if (have < sizeof b)
		return vl_fail(err, EINVAL, "%s: too short for a squashfs: %llu bytes", name, (unsigned long long)have);
	int r = vl_pread_full(image->fd, b, sizeof b, image->off, name, err);
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
	if (s.used < SUPER_SIZE || s.used > have)
		return vl_fail(err, EINVAL,
			       "%s: the squashfs claims %llu bytes and has %llu; the image is cut short or damaged",
			       name, (unsigned long long)s.used, (unsigned long long)have);
	r = check_super(&s, vl_le16(b + 22), name, err);
	if (r < 0)
		return r;
	*ret = s;
	return 0;
}

/* ---- blocks --------------------------------------------------------------------------------- */

static int read_at(struct squash *s, void *p, size_t n, uint64_t pos)
{
	struct vl_err err;

	if (pos < SUPER_SIZE || pos > s->super.used || n > s->super.used - pos)
		return -EIO;
	return vl_pread_full(s->fd, p, n, s->off + pos, "image", &err) < 0 ? -EIO : 0;
}

/* `size` packed bytes at pos, unpacked into b. Returns bytes of data. */
static int fill(struct squash *s, struct sq_block *b, uint64_t pos, uint32_t size, bool packed, size_t cap)
{
	if (!size || size > cap)
		return -EIO;
	if (read_at(s, packed ? s->packed : b->data, size, pos) < 0)
		return -EIO;
	return packed ? vmnt_unpack(s->super.compression, s->packed, size, b->data, cap) : (int)size;
}

#define WORK_STEP 16      /* one read out of metadata */
#define WORK_UNPACK 16384 /* one block of it */

static struct sq_block *meta_block(struct squash *s, uint64_t pos)
{
	struct sq_block *b = vmnt_cache_find(&s->meta, pos);
	uint8_t h[2];

	if (b && pos)
		return b;
	s->work += WORK_UNPACK;
	if (read_at(s, h, sizeof h, pos) < 0)
		return NULL;
	uint32_t size = vl_le16(h) & 0x7fff;
	b = vmnt_cache_victim(&s->meta);
	int n = fill(s, b, pos + 2, size, !(vl_le16(h) & 0x8000), SQ_META_SIZE);
	if (n <= 0)
		return NULL;
	b->pos = pos;
	b->disk = size + 2;
	b->size = (uint32_t)n;
	return b;
}

int vmnt_sq_meta(struct squash *s, struct sq_cursor *c, void *buf, size_t n)
{
	uint8_t *p = buf;

	while (n) {
		s->work += WORK_STEP;
		if (c->block >= c->end || s->work > SQ_WORK_MAX)
			return -EIO;
		struct sq_block *b = meta_block(s, c->block);
		if (!b || c->off > b->size)
			return -EIO;
		size_t take = VL_MIN(n, (size_t)(b->size - c->off));
		memcpy(p, b->data + c->off, take);
		p += take;
		n -= take;
		c->off += (uint32_t)take;
		if (c->off == b->size) { /* every step goes forward in the image, so this ends */
			c->block += b->disk;
			c->off = 0;
		}
	}
	return 0;
}

/* A data or fragment block with its size word from the metadata. */
static struct sq_block *data_block(struct squash *s, uint64_t pos, uint32_t word)
{
	struct sq_block *b = pos ? vmnt_cache_find(&s->data, pos) : NULL;

	if (b)
		return b;
	if (word >> 25)
		return NULL;
	b = vmnt_cache_victim(&s->data);
	int n = fill(s, b, pos, word & 0xffffff, !(word & 1u << 24), s->super.block_size);
	if (n <= 0)
		return NULL;
	b->pos = pos;
	b->disk = word & 0xffffff;
	b->size = (uint32_t)n;
	return b;
}

/* ---- opening -------------------------------------------------------------------------------- */

static int load_ids(struct squash *s)
{
	uint64_t n = s->super.ids, blocks = pointers_of(n, 4);

	s->ids = vl_alloc(n * 4);
	for (uint64_t i = 0; i < blocks; i++) {
		uint8_t p[8], raw[SQ_META_SIZE];
		size_t some = VL_MIN((size_t)(n * 4 - i * SQ_META_SIZE), sizeof raw);
		if (read_at(s, p, 8, s->super.id_table + i * 8) < 0)
			return -EIO;
		struct sq_cursor c = { .block = vl_le64(p), .end = s->super.used };
		if (vmnt_sq_meta(s, &c, raw, some) < 0)
			return -EIO;
		for (size_t k = 0; k < some / 4; k++)
			s->ids[i * (SQ_META_SIZE / 4) + k] = vl_le32(raw + 4 * k);
	}
	return 0;
}

static int load_fragments(struct squash *s)
{
	size_t n = (size_t)pointers_of(s->super.fragments, 16); /* at most bytes_used / 8: checked */

	if (!n)
		return 0;
	s->frag_blocks = vl_alloc(n * 8);
	return read_at(s, s->frag_blocks, n * 8, s->super.frag_table);
}

int vmnt_sq_open(struct squash *s, const struct vmnt_image *image, struct vl_err *err)
{
	struct sq_inode root;

	*s = (struct squash){ .fd = image->fd, .off = image->off };
	int r = vmnt_sq_super(image, &s->super, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < SQ_WALKS; i++)
		s->walk[i].ref = SQ_NONE64;
	vmnt_cache_init(&s->meta, META_SLOTS, SQ_META_SIZE);
	vmnt_cache_init(&s->data, VL_MAX(DATA_BYTES / s->super.block_size, 8u), s->super.block_size);
	s->packed = vl_alloc(VL_MAX(s->super.block_size, SQ_META_SIZE));
	if (load_ids(s) < 0 || load_fragments(s) < 0)
		r = vl_fail(err, EIO, "%s: cannot read the tables of the squashfs; the image is damaged", image->name);
	else if (vmnt_sq_inode(s, s->super.root, &root) < 0 || !S_ISDIR(root.mode))
		r = vl_fail(err, EIO, "%s: the squashfs has no readable root directory; the image is damaged",
			    image->name);
	if (r < 0)
		vmnt_sq_close(s);
	return r;
}

void vmnt_sq_close(struct squash *s)
{
	for (size_t i = 0; i < SQ_WALKS; i++)
		free(s->walk[i].mark);
	vmnt_cache_free(&s->meta);
	vmnt_cache_free(&s->data);
	free(s->ids);
	free(s->frag_blocks);
	free(s->packed);
	*s = (struct squash){ .fd = -1 };
}

/* ---- inodes --------------------------------------------------------------------------------- */

static const struct {
	uint8_t size; /* of the fixed part, common 16 bytes included */
	mode_t fmt;
} shapes[] = {
	[SQ_DIR] = { 32, S_IFDIR },   [SQ_REG] = { 32, S_IFREG },    [SQ_LINK] = { 24, S_IFLNK },
	[SQ_BLK] = { 24, S_IFBLK },   [SQ_CHR] = { 24, S_IFCHR },    [SQ_FIFO] = { 20, S_IFIFO },
	[SQ_SOCK] = { 20, S_IFSOCK }, [SQ_LDIR] = { 40, S_IFDIR },   [SQ_LREG] = { 56, S_IFREG },
	[SQ_LLINK] = { 24, S_IFLNK }, [SQ_LBLK] = { 28, S_IFBLK },   [SQ_LCHR] = { 28, S_IFCHR },
	[SQ_LFIFO] = { 24, S_IFIFO }, [SQ_LSOCK] = { 24, S_IFSOCK },
};

static void parse_inode(struct sq_inode *i, const uint8_t *b)
{
	uint32_t dev;

	i->xattr = SQ_NONE32;
	i->nlink = vl_le32(b + 16);
	switch (i->type) {
	case SQ_DIR:
		i->dir_block = vl_le32(b + 16), i->nlink = vl_le32(b + 20);
		i->size = vl_le16(b + 24), i->dir_off = vl_le16(b + 26), i->parent = vl_le32(b + 28);
		break;
	case SQ_LDIR:
		i->size = vl_le32(b + 20), i->dir_block = vl_le32(b + 24), i->parent = vl_le32(b + 28);
		i->index = vl_le16(b + 32), i->dir_off = vl_le16(b + 34), i->xattr = vl_le32(b + 36);
		break;
	case SQ_REG:
		i->nlink = 1, i->start = vl_le32(b + 16), i->frag = vl_le32(b + 20);
		i->frag_off = vl_le32(b + 24), i->size = vl_le32(b + 28);
		break;
	case SQ_LREG:
		i->start = vl_le64(b + 16), i->size = vl_le64(b + 24), i->nlink = vl_le32(b + 40);
		i->frag = vl_le32(b + 44), i->frag_off = vl_le32(b + 48), i->xattr = vl_le32(b + 52);
		break;
	case SQ_LINK:
	case SQ_LLINK:
		i->size = vl_le32(b + 20);
		break;
	case SQ_BLK:
	case SQ_CHR:
	case SQ_LBLK:
	case SQ_LCHR:
		dev = vl_le32(b + 20);
		i->rdev = (uint32_t)makedev(dev >> 8 & 0xfff, (dev & 0xff) | (dev >> 12 & 0xfff00));
		i->xattr = i->type > SQ_SOCK ? vl_le32(b + 24) : SQ_NONE32;
		break;
	default: /* FIFO and socket */
		i->xattr = i->type > SQ_SOCK ? vl_le32(b + 20) : SQ_NONE32;
	}
}

int vmnt_sq_inode(struct squash *s, uint64_t ref, struct sq_inode *ret)
{
	struct sq_cursor c = { .block = s->super.inode_table + (ref >> 16),
			       .end = s->super.dir_table,
			       .off = ref & 0xffff };
	uint8_t b[56];
	struct sq_inode i = { .ref = ref };

	if (ref >> 48 || vmnt_sq_meta(s, &c, b, 16) < 0)
		return -EIO;
	i.type = vl_le16(b);
	if (i.type < SQ_DIR || i.type > SQ_LSOCK || vmnt_sq_meta(s, &c, b + 16, shapes[i.type].size - 16u) < 0)
		return -EIO;
	uint16_t uid = vl_le16(b + 4), gid = vl_le16(b + 6);
	if (uid >= s->super.ids || gid >= s->super.ids)
		return -EIO;
	i.mode = (uint16_t)((vl_le16(b + 2) & 07777) | shapes[i.type].fmt);
	i.uid = s->ids[uid];
	i.gid = s->ids[gid];
	i.mtime = vl_le32(b + 8);
	i.number = vl_le32(b + 12);
	i.rest = c;
	parse_inode(&i, b);
	if (i.size > INT64_MAX || (S_ISLNK(i.mode) && (i.size > SQ_LINK_MAX || !i.size)))
		return -EIO;
	if (i.type == SQ_LLINK) { /* its attribute number comes after the target */
		uint8_t target[SQ_LINK_MAX + 4];
		if (vmnt_sq_meta(s, &c, target, i.size + 4) < 0)
			return -EIO;
		i.xattr = vl_le32(target + i.size);
	}
	*ret = i;
	return 0;
}

int vmnt_sq_link(struct squash *s, const struct sq_inode *i, char ret[SQ_LINK_MAX + 1])
{
	struct sq_cursor c = i->rest;

	if (!S_ISLNK(i->mode))
		return -EINVAL;
	if (vmnt_sq_meta(s, &c, ret, i->size) < 0 || memchr(ret, 0, i->size))
		return -EIO;
	ret[i->size] = 0;
	return 0;
}

/* ---- file data ------------------------------------------------------------------------------ */

static struct sq_walk *walk_of(struct squash *s, const struct sq_inode *i)
{
	struct sq_walk *w = s->walk;

	for (size_t k = 0; k < SQ_WALKS; k++) {
		if (s->walk[k].ref == i->ref) {
			w = &s->walk[k];
			break;
		}
		if (s->walk[k].used < w->used)
			w = &s->walk[k];
	}
	w->used = ++s->clock;
	if (w->ref != i->ref) {
		free(w->mark);
		*w = (struct sq_walk){
			.ref = i->ref, .cur = i->rest, .data = i->start, .every = SQ_MARK_EVERY, .used = w->used
		};
	}
	return w;
}

static void mark_place(struct sq_walk *w)
{
	if (w->next % w->every || w->next / w->every != w->n_marks)
		return;
	if (w->n_marks == SQ_MARKS) { /* every second one will do */
		for (size_t i = 0; i < SQ_MARKS / 2; i++)
			w->mark[i] = w->mark[2 * i];
		w->n_marks = SQ_MARKS / 2;
		w->every *= 2;
	}
	if ((w->n_marks & (w->n_marks - 1)) == 0)
		w->mark = vl_realloc(w->mark, VL_MAX(w->n_marks * 2, 1u), sizeof *w->mark);
	w->mark[w->n_marks++] = (struct sq_mark){ w->cur, w->data };
}

/* On to the nearest place at or before block n that is known. */
static void jump(struct sq_walk *w, uint64_t n)
{
	if (!w->n_marks)
		return;
	uint64_t m = VL_MIN(n / w->every, (uint64_t)w->n_marks - 1);
	if (n >= w->next && m * w->every <= w->next)
		return;
	w->next = m * w->every;
	w->cur = w->mark[m].cur;
	w->data = w->mark[m].data;
}

/* The list holds sizes only: a position is the sum of all sizes before it. Places on the way are
 * remembered, so that reading a big file at random walks a few entries only. */
static int block_at(struct squash *s, const struct sq_inode *i, uint64_t n, uint64_t *ret_pos, uint32_t *ret_word)
{
	struct sq_walk *w = walk_of(s, i);

	jump(w, n);
	for (;;) {
		uint8_t b[SQ_META_SIZE];
		mark_place(w);
		/* up to the next place to remember, and not past n: what is read counts */
		uint64_t some = VL_MIN(w->every - w->next % w->every, n + 1 - w->next);
		size_t bytes = 4 * (size_t)VL_MIN(some, (uint64_t)sizeof b / 4);
		struct sq_cursor c = w->cur;
		if (vmnt_sq_meta(s, &c, b, bytes) < 0)
			return -EIO;
		uint64_t last = w->data;
		uint32_t word = 0;
		for (size_t at = 0; at < bytes; at += 4) {
			last = w->data;
			word = vl_le32(b + at);
			w->data += word & 0xffffff;
		}
		w->cur = c;
		w->next += bytes / 4;
		if (w->next == n + 1) {
			*ret_pos = last;
			*ret_word = word;
			return 0;
		}
	}
}

/* Can the inode table hold the sizes of that many blocks? A block of it takes 3 bytes at least. */
static bool list_fits(const struct squash *s, uint64_t blocks)
{
	return blocks / (SQ_META_SIZE / 4) <= (s->super.dir_table - s->super.inode_table) / 3;
}

static struct sq_block *fragment(struct squash *s, uint32_t n)
{
	if (n >= s->super.fragments)
		return NULL;
	struct sq_cursor c = { .block = vl_le64(&s->frag_blocks[n / 512]), .end = s->super.used, .off = n % 512 * 16 };
	uint8_t e[16];
	if (vmnt_sq_meta(s, &c, e, sizeof e) < 0)
		return NULL;
	return data_block(s, vl_le64(e), vl_le32(e + 8));
}

/* The bytes of block n of the file, or NULL with *ret_hole set for a hole. */
static const uint8_t *bytes_of(struct squash *s, const struct sq_inode *i, uint64_t n, uint64_t need, bool *ret_hole)
{
	uint64_t pos, skip = 0, blocks = i->size / s->super.block_size;
	uint32_t word;
	struct sq_block *b;

	*ret_hole = false;
	if (i->frag == SQ_NONE32 && i->size % s->super.block_size)
		blocks++;
	if (n < blocks) {
		if (!list_fits(s, blocks) || block_at(s, i, n, &pos, &word) < 0)
			return NULL;
		*ret_hole = word == 0;
		b = word ? data_block(s, pos, word) : NULL;
	} else {
		b = fragment(s, i->frag);
		skip = i->frag_off;
	}
	return b && skip + need <= b->size ? b->data + skip : NULL;
}

ssize_t vmnt_sq_read(struct squash *s, const struct sq_inode *i, uint64_t off, void *buf, size_t n)
{
	uint64_t bs = s->super.block_size;
	uint8_t *p = buf;

	if (!S_ISREG(i->mode))
		return -EIO;
	if (off >= i->size)
		return 0;
	n = (size_t)VL_MIN((uint64_t)n, i->size - off);
	while (n) {
		uint64_t at = off % bs, in_block = VL_MIN(bs, i->size - off / bs * bs);
		size_t take = (size_t)VL_MIN((uint64_t)n, in_block - at);
		bool hole;
		const uint8_t *data = bytes_of(s, i, off / bs, in_block, &hole);
		if (!data && !hole)
			return -EIO;
		if (hole)
			memset(p, 0, take);
		else
			memcpy(p, data + at, take);
		p += take;
		off += take;
		n -= take;
	}
	return p - (uint8_t *)buf;
}
