/* Reads a squashfs through libsquashfs's meta data reader and decompressors; inodes, folders and attributes are
 * decoded here, since the library allocates whatever sizes an image names. */
#include "unsquash.h"

#include "codec.h"

#include <sqfs/block.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/io.h>
#include <sqfs/meta_reader.h>
#include <sqfs/super.h>

/* Of one file. The kernel lists at most 64 KiB of names, and image/tar_pax.c takes no more from a layer. */
#define MAX_XATTRS 1000
#define MAX_XATTR_VALUE (64u << 10)
/* Meta data blocks loaded in all. Two a file is usual; an image can make every name cost a walk through
 * millions of empty ones. */
#define MAX_META_LOADS (32u << 20)
/* Words of block lists in all, when they are asked for: 8 TiB in blocks of 128 KiB, 256 MiB of memory. */
#define MAX_WORDS (64u << 20)
#define META_START sizeof(sqfs_super_t)
#define NO_INDEX 0xFFFFFFFFu
#define UNCOMPRESSED (1u << 24) /* in the size word of a data block */

enum { DIR_TYPE = 1, FILE_TYPE, SLINK_TYPE, BDEV_TYPE, CDEV_TYPE, FIFO_TYPE, SOCKET_TYPE, N_TYPES = SOCKET_TYPE };
/* squashfs type -> ours; the extended ones are N_TYPES further */
static const uint8_t types[] = {
	[DIR_TYPE] = IMG_DIR,       [FILE_TYPE] = IMG_FILE, [SLINK_TYPE] = IMG_SYMLINK, [BDEV_TYPE] = IMG_BLOCK_DEV,
	[CDEV_TYPE] = IMG_CHAR_DEV, [FIFO_TYPE] = IMG_FIFO, [SOCKET_TYPE] = IMG_SOCKET
};

struct window { /* the partition as the only file that libsquashfs sees */
	sqfs_file_t base;
	int fd;
	uint64_t off, size;
	uint64_t loads;    /* left */
	struct vl_err err; /* what really went wrong, for the message */
};

struct inode {
	uint16_t type; /* basic one */
	struct img_attr attr;
	uint32_t nlink, xattr;
	uint64_t start, size; /* file: data and bytes; folder: listing, relative to its table, and bytes */
	uint64_t sparse;      /* file: bytes in holes */
	uint32_t offset;      /* folder: in the first block of the listing */
	uint32_t frag, frag_off;
	uint64_t ref;
	char target[IMG_MAX_PATH + 1];
};

struct frame {          /* a folder that is being walked */
	uint64_t block; /* where its listing goes on */
	size_t offset;
	uint64_t left;    /* bytes of the listing */
	uint32_t entries; /* left under the current header */
	uint32_t inode_block;
	size_t path_len;
	char last[IMG_MAX_NAME + 1]; /* name before: the order is checked */
};

struct img_unsquash {
	const struct img_unsquash_visitor *v;
	struct window *file;
	sqfs_super_t super;
	sqfs_compressor_t *c;
	sqfs_id_table_t *ids;
	sqfs_frag_table_t *frags;
	sqfs_meta_reader_t *inodes, *dirs, *xattrs;
	uint64_t xattr_table; /* of keys and values; 0 = none */
	uint32_t n_xattrs;
	struct img_budget budget;
	uint64_t max_size;
	uint64_t work;  /* bytes that may still be decompressed: blocks can be shared */
	uint64_t words; /* of block lists that may still be read, for who asks where files lie */
	struct img_unsquash_head head;
	uint32_t *list; /* of the file at hand */
	size_t list_cap;
	uint8_t *packed, *block, *frag;
	uint64_t frag_at; /* which fragment block is in frag; UINT64_MAX = none */
	uint32_t frag_len;
	struct img_table seen; /* folders, by ref */
	struct vl_buf path;
	struct frame *frames;
	size_t depth, cap;
};

/* ---- the file ---- */

static int window_read(sqfs_file_t *f, sqfs_u64 off, void *p, size_t n)
{
	struct window *w = (struct window *)f;

	if (off > w->size || n > w->size - off)
		return SQFS_ERROR_OUT_OF_BOUNDS;
	if (n == 2 && !w->loads--) { /* the head of a meta data block */
		w->loads = 0;
		vl_fail(&w->err, EFBIG, "its tables are made to be read for ever");
		return SQFS_ERROR_IO;
	}
	return vl_pread_full(w->fd, p, n, w->off + off, "the image", &w->err) < 0 ? SQFS_ERROR_IO : 0;
}

static int window_write(sqfs_file_t *f, sqfs_u64 off, const void *p, size_t n)
{
	(void)f, (void)off, (void)p, (void)n;
	return SQFS_ERROR_UNSUPPORTED;
}

static sqfs_u64 window_size(const sqfs_file_t *f)
{
	return ((const struct window *)f)->size;
}

static int window_truncate(sqfs_file_t *f, sqfs_u64 size)
{
	(void)f, (void)size;
	return SQFS_ERROR_UNSUPPORTED;
}

static void window_destroy(sqfs_object_t *o)
{
	free(o);
}

/* ---- errors ---- */

static int damaged(struct img_unsquash *u, int code, const char *what, struct vl_err *err)
{
	VL_FREE char *path = vl_printable(u->path.data ? u->path.data : "", u->path.len);

	if (code == SQFS_ERROR_IO && u->file->err.code) {
		*err = u->file->err;
		return vl_wrap(err, "cannot read the squashfs at /%s", path);
	}
	if (code == SQFS_ERROR_ALLOC)
		return vl_fail(err, ENOMEM, "out of memory for the %s of the squashfs", what);
	if (code == SQFS_ERROR_UNSUPPORTED)
		return vl_fail(err, ENOTSUP, "the %s of the squashfs is of a kind that is not supported", what);
	return vl_fail(err, EINVAL, "the squashfs is damaged: the %s is wrong, at /%s", what, path);
}

#define DAMAGED SQFS_ERROR_CORRUPTED
#define NO_CODEC SQFS_ERROR_COMPRESSOR /* opening has no other use for it */

static int no_codec(const struct img_unsquash *u, struct vl_err *err)
{
	const char *name = sqfs_compressor_name_from_id((SQFS_COMPRESSOR)u->super.compression_id);
	return vl_fail(err, ENOTSUP,
		       "the squashfs is compressed with %s, which this libsquashfs cannot read; push it to oras://",
		       name ? name : "a codec that is not known");
}

/* ---- opening ---- */

static int read_xattr_head(struct img_unsquash *u)
{
	uint8_t head[16];
	uint64_t at = u->super.xattr_id_table_start;

	if (at == UINT64_MAX || u->super.flags & SQFS_FLAG_NO_XATTRS)
		return 0;
	int r = window_read(&u->file->base, at, head, sizeof head);
	if (r != 0)
		return r;
	u->xattr_table = vl_le64(head);
	u->n_xattrs = vl_le32(head + 8);
	return u->xattr_table < META_START ? DAMAGED : 0;
}

static int open_tables(struct img_unsquash *u, const char **ret_what)
{
	sqfs_compressor_config_t cfg;
	sqfs_file_t *f = &u->file->base;
	int r;

	*ret_what = "super block";
	if ((r = sqfs_super_read(&u->super, f)) != 0)
		return r;
	if (u->super.bytes_used > u->file->size || u->super.bytes_used < META_START ||
	    u->super.fragment_entry_count > IMG_MAX_ENTRIES)
		return DAMAGED;
	*ret_what = "compression";
	if ((r = sqfs_compressor_config_init(&cfg, u->super.compression_id, u->super.block_size,
					     SQFS_COMP_FLAG_UNCOMPRESS)) != 0 ||
	    (r = sqfs_compressor_create(&cfg, &u->c)) != 0)
		return r == SQFS_ERROR_ALLOC ? r : NO_CODEC;
	u->ids = sqfs_id_table_create(0);
	u->frags = sqfs_frag_table_create(0);
	u->inodes = sqfs_meta_reader_create(f, u->c, META_START, u->super.bytes_used);
	u->dirs = sqfs_meta_reader_create(f, u->c, META_START, u->super.bytes_used);
	u->xattrs = sqfs_meta_reader_create(f, u->c, META_START, u->super.bytes_used);
	if (!u->ids || !u->frags || !u->inodes || !u->dirs || !u->xattrs)
		return SQFS_ERROR_ALLOC;
	*ret_what = "id table";
	if ((r = sqfs_id_table_read(u->ids, f, &u->super, u->c)) != 0)
		return r;
	*ret_what = "fragment table";
	if ((r = sqfs_frag_table_read(u->frags, f, &u->super, u->c)) != 0)
		return r;
	*ret_what = "attribute table";
	return read_xattr_head(u);
}

static struct window *window_new(int fd, uint64_t off, uint64_t size)
{
	struct window *w = vl_alloc(sizeof *w);

	*w = (struct window){
		.base = { { window_destroy, NULL }, window_read, window_write, window_size, window_truncate },
		.fd = fd,
		.off = off,
		.size = size,
		.loads = MAX_META_LOADS
	};
	return w;
}

void img_unsquash_free(struct img_unsquash *u)
{
	if (!u)
		return;
	void *objects[] = { u->inodes, u->dirs, u->xattrs, u->ids, u->frags, u->c, u->file };

	for (size_t i = 0; i < VL_COUNT(objects); i++)
		if (objects[i])
			sqfs_destroy(objects[i]);
	img_table_free(&u->seen); /* holds no memory of its own */
	vl_buf_free(&u->path);
	free(u->packed);
	free(u->block);
	free(u->frag);
	free(u->frames);
	free(u->list);
	free(u->head.fragments);
	free(u);
}

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

static int read_inode(struct img_unsquash *u, uint64_t ref, struct inode *i)
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

static void xattrs_free(struct img_xattrs **x)
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

static int read_xattrs(struct img_unsquash *u, uint32_t index, struct img_xattrs **ret)
{
	uint8_t b[16];
	int r;

	if (index == NO_INDEX || !u->xattr_table)
		return 0;
	uint64_t at = u->super.xattr_id_table_start + 16 + index / 512 * 8ull; /* 512 descriptors a block */
	if (index >= u->n_xattrs)
		return DAMAGED;
	if ((r = window_read(&u->file->base, at, b, 8)) != 0 ||
	    (r = sqfs_meta_reader_seek(u->xattrs, vl_le64(b), index % 512 * 16)) != 0 ||
	    (r = sqfs_meta_reader_read(u->xattrs, b, 16)) != 0)
		return r;
	uint64_t ref = vl_le64(b);
	uint32_t n = vl_le32(b + 8);
	if (n > MAX_XATTRS) {
		vl_fail(&u->file->err, EFBIG, "a file has %u extended attributes, more than the %d that one may have",
			n, MAX_XATTRS);
		return SQFS_ERROR_IO; /* as window_read: damaged() has the text */
	}
	if ((r = sqfs_meta_reader_seek(u->xattrs, u->xattr_table + (ref >> 16), ref & 0xffff)) != 0)
		return r;
	struct img_xattrs *x = *ret = vl_alloc(sizeof *x + n * sizeof *x->a);
	while (r == 0 && x->n < n)
		r = read_xattr(u, &x->a[x->n++]);
	return r;
}

/* ---- file content ---- */

/* size_word: as in the inode or fragment table. *ret_n bytes of out. */
static int unpack_block(struct img_unsquash *u, uint64_t at, uint32_t size_word, uint8_t *out, uint32_t *ret_n)
{
	uint32_t n = size_word & (UNCOMPRESSED - 1);
	int r;

	if (!n || n > u->super.block_size || size_word > (UNCOMPRESSED | (UNCOMPRESSED - 1)))
		return DAMAGED;
	bool plain = size_word & UNCOMPRESSED;
	if ((r = window_read(&u->file->base, at, plain ? out : u->packed, n)) != 0)
		return r;
	if (!plain) {
		r = u->c->do_block(u->c, u->packed, n, out, u->super.block_size);
		if (r <= 0)
			return r ? r : DAMAGED;
		n = (uint32_t)r;
	}
	*ret_n = n;
	return 0;
}

static int spend_work(struct img_unsquash *u, struct vl_err *err)
{
	return img_spend(&u->work, u->super.block_size, "compressed bytes that expand", err);
}

static int send_tail(struct img_unsquash *u, const struct inode *i, uint32_t n, struct vl_err *err)
{
	sqfs_fragment_t f;
	int r = sqfs_frag_table_lookup(u->frags, i->frag, &f);

	if (r != 0)
		return damaged(u, r, "fragment", err);
	if (u->frag_at != f.start_offset) {
		if ((r = spend_work(u, err)) < 0)
			return r;
		u->frag_at = UINT64_MAX;
		if ((r = unpack_block(u, f.start_offset, f.size, u->frag, &u->frag_len)) != 0)
			return damaged(u, r, "fragment", err);
		u->frag_at = f.start_offset;
	}
	if (i->frag_off > u->frag_len || n > u->frag_len - i->frag_off)
		return damaged(u, DAMAGED, "fragment", err);
	return u->v->data(u->v->arg, u->frag + i->frag_off, n, err);
}

/* The inode reader stands at the block list and is not moved by what happens here. */
static int send_content(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	uint64_t left = i->size, at = i->start;
	uint32_t block = u->super.block_size, got;
	uint8_t word[4];
	int r;

	while (left >= block || (left && i->frag == NO_INDEX)) {
		uint32_t want = (uint32_t)VL_MIN(left, (uint64_t)block);
		if ((r = sqfs_meta_reader_read(u->inodes, word, 4)) != 0)
			return damaged(u, r, "block list", err);
		uint32_t size = vl_le32(word);
		if (!size) { /* a hole */
			memset(u->block, 0, want);
			got = want;
		} else if ((r = spend_work(u, err)) < 0) {
			return r;
		} else if ((r = unpack_block(u, at, size, u->block, &got)) != 0 || got != want) {
			return damaged(u, r ? r : DAMAGED, "data block", err);
		}
		at += size & (UNCOMPRESSED - 1);
		if ((r = u->v->data(u->v->arg, u->block, want, err)) < 0)
			return r;
		left -= want;
	}
	return left ? send_tail(u, i, (uint32_t)left, err) : 0;
}

/* Where the content lies, in place of the content. The list is read as it comes: its length is a claim. */
static int send_layout(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	uint32_t block = u->super.block_size;
	uint64_t n = i->size / block + (i->frag == NO_INDEX && i->size % block);
	struct img_file f = { .size = i->size, .start = i->start, .frag = i->frag, .frag_off = i->frag_off };

	if (n > u->words)
		return vl_fail(err, EFBIG, "the squashfs has block lists of more than %u entries", MAX_WORDS);
	u->words -= n;
	for (; f.n_sizes < n; f.n_sizes++) {
		uint8_t word[4];
		int r = sqfs_meta_reader_read(u->inodes, word, 4);
		if (r != 0)
			return damaged(u, r, "block list", err);
		if (f.n_sizes == u->list_cap) {
			u->list_cap = VL_MAX(u->list_cap * 2, (size_t)64);
			u->list = vl_realloc(u->list, u->list_cap, sizeof *u->list);
		}
		u->list[f.n_sizes] = vl_le32(word);
	}
	f.sizes = u->list;
	f.sparse = i->sparse;
	if (!(i->size % block))
		f.frag = IMG_NO_FRAGMENT;
	return u->v->layout(u->v->arg, &f, err);
}

/* ---- folders ---- */

/* No folder may be found twice: that ends every loop, and no builder makes hard links of them. */
static int enter(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	size_t pos = SIZE_MAX;
	uint64_t hash = img_mix(i->ref + 1);

	/* ref + 1 is the whole key: the pointer only says that the place is taken */
	if (img_table_next(&u->seen, hash, &pos))
		return damaged(u, DAMAGED, "folder, which is in two places,", err);
	img_table_add(&u->seen, hash, u);
	if (u->depth == u->cap) {
		u->cap = u->cap ? u->cap * 2 : 16;
		u->frames = vl_realloc(u->frames, u->cap, sizeof *u->frames);
	}
	u->frames[u->depth++] = (struct frame){ .block = u->super.directory_table_start + i->start,
						.offset = i->offset,
						.left = i->size > 3 ? i->size - 3 : 0, /* "." and ".." count */
						.path_len = u->path.len };
	return 0;
}

static int leave_or_take(struct img_unsquash *u, struct frame *f, void *p, size_t n)
{
	if (n > f->left)
		return DAMAGED;
	f->left -= n;
	return sqfs_meta_reader_read(u->dirs, p, n);
}

/* The next name of the folder: its inode, its type. */
static int next_name(struct img_unsquash *u, struct frame *f, char name[IMG_MAX_NAME + 1], uint64_t *ret_ref,
		     uint16_t *ret_type)
{
	uint8_t b[12];
	int r = sqfs_meta_reader_seek(u->dirs, f->block, f->offset);

	if (r == 0 && !f->entries) {
		if ((r = leave_or_take(u, f, b, 12)) != 0)
			return r;
		if (vl_le32(b) >= 256)
			return DAMAGED;
		f->entries = vl_le32(b) + 1;
		f->inode_block = vl_le32(b + 4);
	}
	if (r != 0 || (r = leave_or_take(u, f, b, 8)) != 0)
		return r;
	size_t len = vl_le16(b + 6) + 1u;
	if (len > IMG_MAX_NAME)
		return DAMAGED;
	if ((r = leave_or_take(u, f, name, len)) != 0)
		return r;
	name[len] = 0;
	sqfs_u64 block;
	sqfs_meta_reader_get_position(u->dirs, &block, &f->offset);
	f->block = block;
	f->entries--;
	*ret_ref = (uint64_t)f->inode_block << 16 | vl_le16(b);
	*ret_type = vl_le16(b + 4);
	/* in order, which also means: none twice */
	if (strlen(name) != len || strchr(name, '/') || vl_streq(name, ".") || vl_streq(name, "..") ||
	    strcmp(name, f->last) <= 0)
		return DAMAGED;
	memcpy(f->last, name, len + 1);
	return 0;
}

/* As a layer's are counted: files can share a list, which a tar repeats for each. */
static int spend_xattrs(struct img_unsquash *u, const struct img_xattrs *x, struct vl_err *err)
{
	uint64_t bytes = 0;

	for (size_t i = 0; x && i < x->n; i++)
		bytes += strlen(x->a[i].key) + x->a[i].len;
	return img_spend(&u->budget.meta_bytes, bytes, "bytes of extended attributes", err);
}

static int visit(struct img_unsquash *u, uint64_t ref, uint16_t type, struct vl_err *err)
{
	VL_CLEANUP(xattrs_free) struct img_xattrs *x = NULL;
	struct inode i;
	int r = read_inode(u, ref, &i);

	if (r != 0 || i.type != type)
		return damaged(u, r ? r : DAMAGED, "inode", err);
	if ((r = read_xattrs(u, i.xattr, &x)) != 0)
		return damaged(u, r, "attribute list", err);
	if ((r = spend_xattrs(u, x, err)) < 0)
		return r;
	struct img_unsquash_entry e = { .path = u->path.data,
					.target = i.type == SLINK_TYPE ? i.target : NULL,
					.xattrs = x,
					.attr = i.attr,
					.size = i.type == FILE_TYPE ? i.size : 0,
					.ref = ref,
					.nlink = i.nlink,
					.type = types[i.type] };
	if ((r = img_spend(&u->budget.entries, 1, "files", err)) < 0)
		return r;
	if ((r = u->v->entry(u->v->arg, &e, err)) != 0)
		return r == IMG_UNSQUASH_SKIP ? 0 : r;
	if (i.type == DIR_TYPE)
		return enter(u, &i, err);
	if (i.type != FILE_TYPE)
		return 0;
	if ((r = img_spend(&u->budget.file_bytes, i.size, "bytes", err)) < 0)
		return r;
	return u->v->layout ? send_layout(u, &i, err) : send_content(u, &i, err);
}

static int walk(struct img_unsquash *u, struct vl_err *err)
{
	char name[IMG_MAX_NAME + 1];
	uint64_t ref;
	uint16_t type;
	int r;

	vl_buf_adds(&u->path, "");
	if ((r = visit(u, u->super.root_inode_ref, DIR_TYPE, err)) < 0)
		return r;
	while (u->depth) {
		struct frame *f = &u->frames[u->depth - 1];
		u->path.len = f->path_len;
		u->path.data[u->path.len] = 0;
		if (!f->left) {
			if (f->entries)
				return damaged(u, DAMAGED, "folder", err);
			u->depth--;
			continue;
		}
		if ((r = next_name(u, f, name, &ref, &type)) != 0)
			return damaged(u, r, "folder", err);
		if (u->path.len)
			vl_buf_adds(&u->path, "/");
		vl_buf_adds(&u->path, name);
		if (u->path.len > IMG_MAX_PATH)
			return vl_fail(err, ENAMETOOLONG, "the squashfs has a path of more than %d bytes",
				       IMG_MAX_PATH);
		if ((r = visit(u, ref, type, err)) < 0)
			return r;
	}
	return 0;
}

/* What a rewriter needs beside the tree. */
static int read_head(struct img_unsquash *u, struct vl_err *err)
{
	struct img_unsquash_head *h = &u->head;
	uint8_t size[2] = { 0 };

	h->block_size = u->super.block_size;
	h->compression = u->super.compression_id;
	h->mtime = u->super.modification_time;
	h->exportable = u->super.flags & SQFS_FLAG_EXPORTABLE;
	h->data_end = u->super.inode_table_start;
	if (h->data_end < META_START || h->data_end > u->super.bytes_used)
		return damaged(u, DAMAGED, "super block", err);
	if (u->super.flags & SQFS_FLAG_COMPRESSOR_OPTIONS) {
		int r = window_read(&u->file->base, META_START, size, 2);
		h->n_options = 2 + (vl_le16(size) & 0x7fffu);
		if (r == 0)
			r = h->n_options > sizeof h->options ? DAMAGED : 0;
		if (r == 0)
			r = window_read(&u->file->base, META_START, h->options, h->n_options);
		if (r != 0)
			return damaged(u, r, "compression", err);
	}
	h->n_fragments = (uint32_t)sqfs_frag_table_get_size(u->frags);
	h->fragments = vl_alloc((h->n_fragments + 1ull) * sizeof *h->fragments);
	for (uint32_t i = 0; i < h->n_fragments; i++) {
		sqfs_fragment_t f = { 0 };
		sqfs_frag_table_lookup(u->frags, i, &f);
		h->fragments[i] = (struct img_fragment){ f.start_offset, f.size };
	}
	return 0;
}

static void freep(struct img_unsquash **u)
{
	img_unsquash_free(*u);
}

int img_unsquash_open(int fd, uint64_t off, uint64_t size, uint64_t max_size, struct img_unsquash **ret,
		      struct vl_err *err)
{
	VL_CLEANUP(freep) struct img_unsquash *u = vl_alloc(sizeof *u);
	const char *what;

	u->file = window_new(fd, off, size);
	u->max_size = max_size;
	u->words = MAX_WORDS;
	u->frag_at = UINT64_MAX;
	int r = open_tables(u, &what);
	if (r == NO_CODEC && !u->c)
		return no_codec(u, err);
	if (r != 0)
		return damaged(u, r, what, err);
	/* every block once, and as much again for those that files share */
	u->work = max_size < UINT64_MAX / 2 ? 2 * max_size + u->super.block_size : UINT64_MAX;
	u->packed = vl_alloc(u->super.block_size);
	u->block = vl_alloc(u->super.block_size);
	u->frag = vl_alloc(u->super.block_size);
	if ((r = read_head(u, err)) < 0)
		return r;
	*ret = vl_steal(&u);
	return 0;
}

const struct img_unsquash_head *img_unsquash_head(const struct img_unsquash *u)
{
	return &u->head;
}

int img_unsquash_walk(struct img_unsquash *u, const struct img_unsquash_visitor *v, struct vl_err *err)
{
	u->v = v;
	u->budget = img_budget_new(u->max_size);
	img_table_free(&u->seen);
	u->depth = u->path.len = 0;
	return walk(u, err);
}

int img_unsquash_block(struct img_unsquash *u, uint64_t at, uint32_t word, void *out, uint32_t *ret_n,
		       struct vl_err *err)
{
	int r = unpack_block(u, at, word, out, ret_n);

	return r == 0 ? 0 : damaged(u, r, "data block", err);
}

int img_unsquash_raw(struct img_unsquash *u, uint64_t at, void *out, size_t n, struct vl_err *err)
{
	int r = window_read(&u->file->base, at, out, n);

	return r == 0 ? 0 : damaged(u, r, "data block", err);
}

int img_unsquash(int fd, uint64_t off, uint64_t size, uint64_t max_size, const struct img_unsquash_visitor *v,
		 struct vl_err *err)
{
	VL_CLEANUP(freep) struct img_unsquash *u = NULL;
	int r = img_unsquash_open(fd, off, size, max_size, &u, err);

	return r < 0 ? r : img_unsquash_walk(u, v, err);
}
