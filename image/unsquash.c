/* Reads a squashfs through libsquashfs's meta data reader and decompressors: the walk through its folders, in order. */
#include "unsquash_impl.h"

/* squashfs type -> ours; the extended ones are N_TYPES further */
static const uint8_t types[] = {
	[DIR_TYPE] = IMG_DIR,       [FILE_TYPE] = IMG_FILE, [SLINK_TYPE] = IMG_SYMLINK, [BDEV_TYPE] = IMG_BLOCK_DEV,
	[CDEV_TYPE] = IMG_CHAR_DEV, [FIFO_TYPE] = IMG_FIFO, [SOCKET_TYPE] = IMG_SOCKET
};

/* ---- folders ---- */

/* No folder may be found twice: that ends every loop, and no builder makes hard links of them. */
static int enter(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	size_t pos = SIZE_MAX;
	uint64_t hash = img_mix(i->ref + 1);

	/* ref + 1 is the whole key: the pointer only says that the place is taken */
	if (img_table_next(&u->seen, hash, &pos))
		return img_unsq_damaged(u, DAMAGED, "folder, which is in two places,", err);
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
	VL_CLEANUP(img_unsq_xattrs_free) struct img_xattrs *x = NULL;
	struct inode i;
	int r = img_unsq_inode(u, ref, &i);

	if (r != 0 || i.type != type)
		return img_unsq_damaged(u, r ? r : DAMAGED, "inode", err);
	if ((r = img_unsq_xattrs(u, i.xattr, &x)) != 0)
		return img_unsq_damaged(u, r, "attribute list", err);
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
	return u->v->layout ? img_unsq_send_layout(u, &i, err) : img_unsq_send_content(u, &i, err);
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
				return img_unsq_damaged(u, DAMAGED, "folder", err);
			u->depth--;
			continue;
		}
		if ((r = next_name(u, f, name, &ref, &type)) != 0)
			return img_unsq_damaged(u, r, "folder", err);
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

/* ---- from outside ---- */

static void freep(struct img_unsquash **u)
{
	img_unsquash_free(*u);
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
	int r = img_unsq_unpack(u, at, word, out, ret_n);

	return r == 0 ? 0 : img_unsq_damaged(u, r, "data block", err);
}

int img_unsquash_raw(struct img_unsquash *u, uint64_t at, void *out, size_t n, struct vl_err *err)
{
	int r = img_unsq_read(u, at, out, n);

	return r == 0 ? 0 : img_unsq_damaged(u, r, "data block", err);
}

int img_unsquash(int fd, uint64_t off, uint64_t size, uint64_t max_size, const struct img_unsquash_visitor *v,
		 struct vl_err *err)
{
	VL_CLEANUP(freep) struct img_unsquash *u = NULL;
	int r = img_unsquash_open(fd, off, size, max_size, &u, err);

	return r < 0 ? r : img_unsquash_walk(u, v, err);
}
