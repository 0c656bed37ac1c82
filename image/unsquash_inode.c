/* Inodes and extended attributes, decoded here: the library allocates whatever sizes an image names. */
#include "unsquash_impl.h"

/* Of one file. The kernel lists at most 64 KiB of names, and image/tar_pax.c takes no more from a layer. */
#define MAX_XATTRS 1000
#define MAX_XATTR_VALUE (64u << 10)

/* ---- inodes ---- */

static int seek_inode(struct img_unsquash *u, uint64_t ref)
{
	return sqfs_meta_reader_seek(u->inodes, u->super.inode_table_start + (ref >> 16), ref & 0xffff);
}

static int read_target(struct img_unsquash *u, uint32_t len, bool extended, struct inode *i)
{
	uint8_t word[4];
	int r;

	if (!len || len > IMG_MAX_PATH)
		return DAMAGED;
	if ((r = sqfs_meta_reader_read(u->inodes, i->target, len)) != 0)
		return r;
	i->target[len] = 0;
	if (strlen(i->target) != len)
		return DAMAGED;
	if (extended && (r = sqfs_meta_reader_read(u->inodes, word, 4)) == 0)
		i->xattr = vl_le32(word);
	return r;
}

static void decode_dev(struct inode *i, uint32_t dev) /* the kernel's new_decode_dev */
{
	i->attr.major = (dev & 0xfff00) >> 8;
	i->attr.minor = (dev & 0xff) | (dev >> 12 & 0xfff00);
}

/* What follows the fixed head; the reader then stands at the block list of a file. */
static int read_rest(struct img_unsquash *u, bool ext, struct inode *i)
{
	/* bytes by type; what a link and an index have beyond that comes later, or is not needed */
	static const uint8_t sizes[2][N_TYPES + 1] = { { 0, 16, 16, 8, 8, 8, 4, 4 }, { 0, 24, 40, 8, 12, 12, 8, 8 } };
	uint8_t b[40] = { 0 };
	int r = sqfs_meta_reader_read(u->inodes, b, sizes[ext][i->type]);

	if (r != 0)
		return r;
	i->xattr = NO_INDEX;
	i->nlink = vl_le32(b);
	switch (i->type) {
	case DIR_TYPE:
		i->nlink = vl_le32(ext ? b : b + 4);
		i->start = vl_le32(ext ? b + 8 : b);
		i->size = ext ? vl_le32(b + 4) : vl_le16(b + 8);
		i->offset = vl_le16(ext ? b + 18 : b + 10);
		i->xattr = ext ? vl_le32(b + 20) : NO_INDEX;
		return 0;
	case FILE_TYPE:
		i->start = ext ? vl_le64(b) : vl_le32(b);
		i->size = ext ? vl_le64(b + 8) : vl_le32(b + 12);
		i->sparse = ext ? vl_le64(b + 16) : 0;
		i->nlink = ext ? vl_le32(b + 24) : 1;
		i->frag = vl_le32(ext ? b + 28 : b + 4);
		i->frag_off = vl_le32(ext ? b + 32 : b + 8);
		i->xattr = ext ? vl_le32(b + 36) : NO_INDEX;
		return 0;
	case SLINK_TYPE:
		return read_target(u, vl_le32(b + 4), ext, i);
	case BDEV_TYPE:
	case CDEV_TYPE:
		decode_dev(i, vl_le32(b + 4));
		i->xattr = ext ? vl_le32(b + 8) : NO_INDEX;
		return 0;
	default:
		i->xattr = ext ? vl_le32(b + 4) : NO_INDEX;
		return 0;
	}
}

int img_unsq_inode(struct img_unsquash *u, uint64_t ref, struct inode *i)
{
	uint8_t b[16];
	int r;

	if ((r = seek_inode(u, ref)) != 0 || (r = sqfs_meta_reader_read(u->inodes, b, sizeof b)) != 0)
		return r;
	uint16_t type = vl_le16(b);
	bool ext = type > N_TYPES;
	*i = (struct inode){ .type = ext ? (uint16_t)(type - N_TYPES) : type, .ref = ref };
	if (!i->type || i->type > N_TYPES)
		return DAMAGED;
	i->attr.mode = vl_le16(b + 2) & 07777;
	i->attr.mtime = vl_le32(b + 8);
	if ((r = sqfs_id_table_index_to_id(u->ids, vl_le16(b + 4), &i->attr.uid)) != 0 ||
	    (r = sqfs_id_table_index_to_id(u->ids, vl_le16(b + 6), &i->attr.gid)) != 0)
		return r;
	return read_rest(u, ext, i);
}

/* ---- extended attributes ---- */

void img_unsq_xattrs_free(struct img_xattrs **x)
{
	for (size_t i = 0; *x && i < (*x)->n; i++) {
		free((*x)->a[i].key);
		free((*x)->a[i].value);
	}
	vl_freep(x);
}

static int read_value(struct img_unsquash *u, struct img_xattr *x)
{
	uint8_t word[4];
	int r = sqfs_meta_reader_read(u->xattrs, word, 4);

	if (r != 0)
		return r;
	if ((x->len = vl_le32(word)) > MAX_XATTR_VALUE)
		return DAMAGED;
	x->value = vl_alloc(x->len + 1);
	return sqfs_meta_reader_read(u->xattrs, x->value, x->len);
}

/* The value stands elsewhere, since other files have the same: here is only its place. */
static int read_far_value(struct img_unsquash *u, struct img_xattr *x)
{
	struct img_xattr place = { 0 };
	sqfs_u64 block;
	size_t offset;
	int r = read_value(u, &place);

	if (r == 0 && place.len != 8)
		r = DAMAGED;
	uint64_t ref = r == 0 ? vl_le64(place.value) : 0;
	free(place.value);
	if (r != 0)
		return r;
	sqfs_meta_reader_get_position(u->xattrs, &block, &offset);
	if ((r = sqfs_meta_reader_seek(u->xattrs, u->xattr_table + (ref >> 16), ref & 0xffff)) != 0 ||
	    (r = read_value(u, x)) != 0)
		return r;
	return sqfs_meta_reader_seek(u->xattrs, block, offset);
}

static int read_xattr(struct img_unsquash *u, struct img_xattr *x)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };
	uint8_t head[4];
	char name[IMG_MAX_NAME + 1];
	int r = sqfs_meta_reader_read(u->xattrs, head, sizeof head);

	if (r != 0)
		return r;
	uint16_t type = vl_le16(head), len = vl_le16(head + 2);
	if ((type & 0xff) >= VL_COUNT(prefixes) || !len || len > IMG_MAX_NAME)
		return DAMAGED;
	if ((r = sqfs_meta_reader_read(u->xattrs, name, len)) != 0)
		return r;
	name[len] = 0;
	if (strlen(name) != len)
		return DAMAGED;
	x->key = vl_asprintf("%s%s", prefixes[type & 0xff], name);
	return type & 0x100 ? read_far_value(u, x) : read_value(u, x);
}

int img_unsq_xattrs(struct img_unsquash *u, uint32_t index, struct img_xattrs **ret)
{
	uint8_t b[16];
	int r;

	if (index == NO_INDEX || !u->xattr_table)
		return 0;
	uint64_t at = u->super.xattr_id_table_start + 16 + index / 512 * 8ull; /* 512 descriptors a block */
	if (index >= u->n_xattrs)
		return DAMAGED;
	if ((r = img_unsq_read(u, at, b, 8)) != 0 ||
	    (r = sqfs_meta_reader_seek(u->xattrs, vl_le64(b), index % 512 * 16)) != 0 ||
	    (r = sqfs_meta_reader_read(u->xattrs, b, 16)) != 0)
		return r;
	uint64_t ref = vl_le64(b);
	uint32_t n = vl_le32(b + 8);
	if (n > MAX_XATTRS) {
		vl_fail(&u->file->err, EFBIG, "a file has %u extended attributes, more than the %d that one may have",
			n, MAX_XATTRS);
		return SQFS_ERROR_IO; /* as window_read: img_unsq_damaged() has the text */
	}
	if ((r = sqfs_meta_reader_seek(u->xattrs, u->xattr_table + (ref >> 16), ref & 0xffff)) != 0)
		return r;
	struct img_xattrs *x = *ret = vl_alloc(sizeof *x + n * sizeof *x->a);
	while (r == 0 && x->n < n)
		r = read_xattr(u, &x->a[x->n++]);
	return r;
}
