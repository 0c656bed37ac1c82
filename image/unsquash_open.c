/* The image as libsquashfs sees it: a window of a file, and the tables in it. */
#include "unsquash_impl.h"

/* Meta data blocks loaded in all. Two a file is usual; an image can make every name cost a walk through
 * millions of empty ones. */
#define MAX_META_LOADS (32u << 20)
#define NO_CODEC SQFS_ERROR_COMPRESSOR /* opening has no other use for it */

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

int img_unsq_read(struct img_unsquash *u, uint64_t at, void *p, size_t n)
{
	return window_read(&u->file->base, at, p, n);
}

/* ---- errors ---- */

int img_unsq_damaged(struct img_unsquash *u, int code, const char *what, struct vl_err *err)
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
	int r = img_unsq_read(u, at, head, sizeof head);
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
		return img_unsq_damaged(u, DAMAGED, "super block", err);
	if (u->super.flags & SQFS_FLAG_COMPRESSOR_OPTIONS) {
		int r = img_unsq_read(u, META_START, size, 2);
		h->n_options = 2 + (vl_le16(size) & 0x7fffu);
		if (r == 0)
			r = h->n_options > sizeof h->options ? DAMAGED : 0;
		if (r == 0)
			r = img_unsq_read(u, META_START, h->options, h->n_options);
		if (r != 0)
			return img_unsq_damaged(u, r, "compression", err);
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
	u->words = IMG_UNSQ_MAX_WORDS;
	u->frag_at = UINT64_MAX;
	int r = open_tables(u, &what);
	if (r == NO_CODEC && !u->c)
		return no_codec(u, err);
	if (r != 0)
		return img_unsq_damaged(u, r, what, err);
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
