#include "squash.h"

#include <sqfs/dir_writer.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/inode.h>
#include <sqfs/io.h>
#include <sqfs/meta_writer.h>
#include <sqfs/super.h>
#include <sqfs/xattr_writer.h>
#include <sys/stat.h>

#define PAD 4096 /* loop devices and the reference tools want whole pages */

struct window { /* a sqfs_file_t over part of our file */
	sqfs_file_t base;
	struct img_place place;
	uint64_t size;
	struct vl_err err; /* what really went wrong, for the message */
};

struct id_slot {
	uint32_t id;
	uint16_t index;
};

struct img_squash {
	struct window *file;
	const struct img_codec *codec;
	sqfs_super_t super;
	sqfs_id_table_t *ids;
	sqfs_xattr_writer_t *xattrs;
	sqfs_meta_writer_t *inodes, *dirs;
	sqfs_dir_writer_t *dir;
	struct img_table id_cache; /* the library searches its list from the start each time */
	bool fix_owner;
	uint32_t uid, gid;
	bool exportable;                /* with a table from inode numbers to inodes */
	struct img_inode *const *first; /* inodes that come first */
	size_t n_first;
};

/* ---- the file ---- */

static int window_read(sqfs_file_t *f, sqfs_u64 off, void *p, size_t n)
{
	struct window *w = (struct window *)f;
	return img_place_read(&w->place, p, n, off, &w->err) < 0 ? SQFS_ERROR_IO : 0;
}

static int window_write(sqfs_file_t *f, sqfs_u64 off, const void *p, size_t n)
{
	struct window *w = (struct window *)f;
	if (img_place_write(&w->place, p, n, off, &w->err) < 0)
		return SQFS_ERROR_IO;
	w->size = VL_MAX(w->size, off + n);
	return 0;
}

static sqfs_u64 window_size(const sqfs_file_t *f)
{
	return ((const struct window *)f)->size;
}

static int window_truncate(sqfs_file_t *f, sqfs_u64 size)
{
	((struct window *)f)->size = size;
	return 0;
}

static void window_destroy(sqfs_object_t *o)
{
	free(o);
}

static int failed(struct img_squash *s, int code, const char *what, struct vl_err *err)
{
	if (code == SQFS_ERROR_IO && s->file->err.code) {
		*err = s->file->err;
		return -err->code;
	}
	return vl_fail(err, code == SQFS_ERROR_OVERFLOW ? EFBIG : EIO, "cannot write the %s of the squashfs: %s", what,
		       img_sqfs_error(code));
}

static struct img_squash *squash_new(const struct img_place *place, const struct img_codec *codec)
{
	struct img_squash *s = vl_alloc(sizeof *s);

	s->codec = codec;
	s->file = vl_alloc(sizeof *s->file);
	*s->file = (struct window){
		{ { window_destroy, NULL }, window_read, window_write, window_size, window_truncate }, *place, 0, { 0 }
	};
	return s;
}

int img_squash_begin(const struct img_place *place, const struct img_codec *codec, uint32_t block_size, uint32_t mtime,
		     struct img_squash **ret, uint64_t *ret_first, struct vl_err *err)
{
	struct img_squash *s = squash_new(place, codec);
	int r = sqfs_super_init(&s->super, block_size, mtime, codec->id);
	if (r == 0)
		r = sqfs_super_write(&s->super, &s->file->base);
	if (r == 0 && (r = codec->c->write_options(codec->c, &s->file->base)) > 0) {
		s->super.flags |= SQFS_FLAG_COMPRESSOR_OPTIONS;
		r = 0;
	}
	if (r != 0) {
		r = failed(s, r, "super block", err);
		img_squash_free(s);
		return r;
	}
	s->super.flags &= (sqfs_u16)~SQFS_FLAG_NO_FRAGMENTS;
	*ret_first = s->file->size;
	*ret = s;
	return 0;
}

int img_squash_again(const struct img_place *place, const struct img_codec *raw, const struct img_unsquash_head *h,
		     struct img_squash **ret, uint64_t *ret_first, struct vl_err *err)
{
	struct img_squash *s = squash_new(place, raw);
	int r = sqfs_super_init(&s->super, h->block_size, h->mtime, (SQFS_COMPRESSOR)h->compression);

	if (r == 0)
		r = sqfs_super_write(&s->super, &s->file->base);
	if (r == 0 && h->n_options) {
		s->super.flags |= SQFS_FLAG_COMPRESSOR_OPTIONS;
		r = window_write(&s->file->base, sizeof s->super, h->options, h->n_options);
	}
	if (r != 0) {
		r = failed(s, r, "super block", err);
		img_squash_free(s);
		return r;
	}
	s->super.flags &= (sqfs_u16)~SQFS_FLAG_NO_FRAGMENTS;
	s->super.flags |= SQFS_FLAG_UNCOMPRESSED_INODES | SQFS_FLAG_UNCOMPRESSED_IDS;
	s->exportable = h->exportable;
	*ret_first = s->file->size;
	*ret = s;
	return 0;
}

void img_squash_first(struct img_squash *s, struct img_inode *const *list, size_t n)
{
	s->first = list;
	s->n_first = n;
}

void img_squash_owner(struct img_squash *s, uint32_t uid, uint32_t gid)
{
	s->fix_owner = true;
	s->uid = uid;
	s->gid = gid;
}

/* ---- one inode ---- */

/* by enum img_type */
static const uint16_t formats[] = { S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK };

static int id_index(struct img_squash *s, uint32_t id, sqfs_u16 *ret)
{
	size_t at = SIZE_MAX;
	uint64_t hash = img_mix(id + 1ull);

	for (const struct id_slot *i; (i = img_table_next(&s->id_cache, hash, &at));)
		if (i->id == id)
			return *ret = i->index, 0;
	int r = sqfs_id_table_id_to_index(s->ids, id, ret);
	if (r == 0) {
		struct id_slot *i = vl_alloc(sizeof *i);
		*i = (struct id_slot){ id, *ret };
		img_table_add(&s->id_cache, hash, i);
	}
	return r;
}

static int xattr_index(struct img_squash *s, const struct img_entry *e, sqfs_u32 *ret)
{
	int r;

	*ret = 0xFFFFFFFF;
	if (!e || !e->xattrs || !e->xattrs->n)
		return 0;
	if ((r = sqfs_xattr_writer_begin(s->xattrs, 0)) != 0)
		return r;
	for (size_t i = 0; i < e->xattrs->n; i++) {
		const struct img_xattr *x = &e->xattrs->a[i];
		if ((r = sqfs_xattr_writer_add(s->xattrs, x->key, x->value, x->len)) != 0)
			return r;
	}
	return sqfs_xattr_writer_end(s->xattrs, ret);
}

static const struct img_attr *attributes(const struct img_inode *i)
{
	static const struct img_attr implied = { .mode = 0755 };
	return i->e ? &i->e->attr : &implied;
}

static int fill_base(struct img_squash *s, sqfs_inode_generic_t *g, const struct img_inode *i)
{
	const struct img_attr *a = attributes(i);
	int r;

	/* links have no mode of their own: all bits, as the kernel shows them */
	g->base.mode = (sqfs_u16)(formats[i->type] | (i->type == IMG_SYMLINK ? 0777 : a->mode));
	g->base.mod_time = a->mtime;
	g->base.inode_number = i->number;
	if ((r = id_index(s, s->fix_owner ? s->uid : a->uid, &g->base.uid_idx)) != 0)
		return r;
	return id_index(s, s->fix_owner ? s->gid : a->gid, &g->base.gid_idx);
}

static sqfs_inode_generic_t *link_inode(const struct img_inode *i, sqfs_u32 xattr)
{
	size_t n = strlen(i->e->target);
	sqfs_inode_generic_t *g = vl_alloc(sizeof *g + n + 1);

	g->base.type = xattr == 0xFFFFFFFF ? SQFS_INODE_SLINK : SQFS_INODE_EXT_SLINK;
	g->data.slink_ext = (sqfs_inode_slink_ext_t){ i->nlink, (sqfs_u32)n, xattr };
	g->payload_bytes_available = g->payload_bytes_used = (sqfs_u32)n;
	memcpy(g->extra, i->e->target, n);
	return g;
}

static sqfs_inode_generic_t *special_inode(const struct img_inode *i, sqfs_u32 xattr)
{
	static const sqfs_u16 types[] = { [IMG_BLOCK_DEV] = SQFS_INODE_EXT_BDEV,
					  [IMG_CHAR_DEV] = SQFS_INODE_EXT_CDEV,
					  [IMG_FIFO] = SQFS_INODE_EXT_FIFO,
					  [IMG_SOCKET] = SQFS_INODE_EXT_SOCKET };
	sqfs_inode_generic_t *g = vl_alloc(sizeof *g);
	uint32_t major = i->e->attr.major, minor = i->e->attr.minor;

	g->base.type = types[i->type];
	if (i->type == IMG_BLOCK_DEV || i->type == IMG_CHAR_DEV) /* the kernel's new_encode_dev */
		g->data.dev_ext =
			(sqfs_inode_dev_ext_t){ i->nlink, (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12, xattr };
	else
		g->data.ipc_ext = (sqfs_inode_ipc_ext_t){ i->nlink, xattr };
	return g;
}

static void set_place(struct img_squash *s, struct img_inode *i)
{
	sqfs_u64 block;
	sqfs_u32 off;

	sqfs_meta_writer_get_position(s->inodes, &block, &off);
	i->ref = block << 16 | off;
	i->written = true;
}

static int write_inode(struct img_squash *s, struct img_inode *i, sqfs_inode_generic_t *g)
{
	int r = fill_base(s, g, i);

	if (r != 0)
		return r;
	set_place(s, i);
	return sqfs_meta_writer_write_inode(s->inodes, g);
}

static void put_le16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)v;
	p[1] = (uint8_t)(v >> 8);
}

/* A regular file, byte by byte: libsquashfs would copy the whole block list onto the stack, which a
 * file of many blocks overruns. The extended form always: it holds links, holes and large sizes. */
static int write_file(struct img_squash *s, struct img_inode *i, sqfs_u32 xattr)
{
	const struct img_file *f = i->e->file;
	sqfs_inode_generic_t g = { .base.type = SQFS_INODE_EXT_FILE };
	uint8_t fixed[56], words[4096];
	int r = fill_base(s, &g, i);

	put_le16(fixed, g.base.type);
	put_le16(fixed + 2, g.base.mode & 07777); /* the type says the rest */
	put_le16(fixed + 4, g.base.uid_idx);
	put_le16(fixed + 6, g.base.gid_idx);
	vl_put_le32(fixed + 8, g.base.mod_time);
	vl_put_le32(fixed + 12, g.base.inode_number);
	vl_put_le64(fixed + 16, f->start);
	vl_put_le64(fixed + 24, f->size);
	vl_put_le64(fixed + 32, f->sparse);
	vl_put_le32(fixed + 40, i->nlink);
	vl_put_le32(fixed + 44, f->frag);
	vl_put_le32(fixed + 48, f->frag_off);
	vl_put_le32(fixed + 52, xattr);
	if (r != 0)
		return r;
	set_place(s, i);
	r = sqfs_meta_writer_append(s->inodes, fixed, sizeof fixed);
	for (size_t done = 0; r == 0 && done < f->n_sizes;) {
		size_t n = VL_MIN(f->n_sizes - done, sizeof words / 4);
		for (size_t k = 0; k < n; k++)
			vl_put_le32(words + 4 * k, f->sizes[done + k]);
		r = sqfs_meta_writer_append(s->inodes, words, 4 * n);
		done += n;
	}
	return r;
}

static int write_leaf(struct img_squash *s, struct img_inode *i)
{
	VL_FREE sqfs_inode_generic_t *g = NULL;
	sqfs_u32 xattr;
	int r = i->written ? 0 : xattr_index(s, i->e, &xattr);

	if (r != 0 || i->written)
		return r;
	if (i->type == IMG_FILE)
		return write_file(s, i, xattr);
	g = i->type == IMG_SYMLINK ? link_inode(i, xattr) : special_inode(i, xattr);
	return write_inode(s, i, g);
}

/* ---- folders ---- */

static int write_dir(struct img_squash *s, struct img_node *d, uint32_t parent_number)
{
	size_t links = 2;
	sqfs_u32 xattr;
	int r = sqfs_dir_writer_begin(s->dir, 0);

	for (struct img_node *c = d->child; r == 0 && c; c = c->next) {
		links += c->inode->type == IMG_DIR;
		r = sqfs_dir_writer_add_entry(s->dir, c->name, c->inode->number, c->inode->ref,
					      formats[c->inode->type]);
	}
	if (r != 0 || (r = sqfs_dir_writer_end(s->dir)) != 0 || (r = xattr_index(s, d->inode->e, &xattr)) != 0)
		return r;
	sqfs_inode_generic_t *g = sqfs_dir_writer_create_inode(s->dir, links, xattr, parent_number);
	if (!g)
		return SQFS_ERROR_ALLOC;
	r = write_inode(s, d->inode, g);
	sqfs_free(g);
	return r;
}

/* The next node of a walk that meets every folder after all that is in it. */
static struct img_node *deepest(struct img_node *n)
{
	while (n->child)
		n = n->child;
	return n;
}

static struct img_node *next_node(struct img_node *n)
{
	return n->next ? deepest(n->next) : n->parent;
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct img_node *const *)a)->name, (*(struct img_node *const *)b)->name);
}

/* Siblings are linked in no order; readers search a folder by strcmp order, so make it that. */
static void sort_children(struct img_node *d)
{
	size_t n = 0, i = 0;

	for (struct img_node *c = d->child; c; c = c->next)
		n++;
	if (n < 2)
		return;
	VL_FREE struct img_node **list = vl_alloc(n * sizeof(struct img_node *));
	for (struct img_node *c = d->child; c; c = c->next)
		list[i++] = c;
	qsort(list, n, sizeof *list, by_name);
	for (i = 0; i < n; i++) {
		list[i]->prev = i ? list[i - 1] : NULL;
		list[i]->next = i + 1 < n ? list[i + 1] : NULL;
	}
	d->child = list[0];
}

static void sort_tree(struct img_node *root)
{
	/* top down, not recursive */
	for (struct img_node *n = root;;) {
		sort_children(n);
		if (n->child) {
			n = n->child;
			continue;
		}
		while (n != root && !n->next)
			n = n->parent;
		if (n == root)
			return;
		n = n->next;
	}
}

static uint32_t number_inodes(struct img_tree *t)
{
	uint32_t n = 0;

	for (struct img_node *x = deepest(t->root);; x = next_node(x)) {
		if (!x->inode->number)
			x->inode->number = ++n;
		if (x == t->root)
			return n;
	}
}

/* What is wanted first, then the rest: so that all folders, which every path needs some of, lie together behind. */
static int write_leaves(struct img_squash *s, struct img_tree *t)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->n_first; i++)
		r = s->first[i]->type == IMG_DIR ? 0 : write_leaf(s, s->first[i]);
	for (struct img_node *x = deepest(t->root); r == 0 && x != t->root; x = next_node(x))
		r = x->inode->type == IMG_DIR ? 0 : write_leaf(s, x->inode);
	return r;
}

static int write_nodes(struct img_squash *s, struct img_tree *t, uint32_t count)
{
	int r = s->n_first ? write_leaves(s, t) : 0;

	if (r != 0)
		return r;
	for (struct img_node *x = deepest(t->root);; x = next_node(x)) {
		if (x->inode->type == IMG_DIR)
			r = write_dir(s, x, x == t->root ? count + 1 : x->parent->inode->number);
		else
			r = write_leaf(s, x->inode);
		if (r != 0 || x == t->root)
			return r;
	}
}

/* ---- tables ---- */

static int write_fragments(struct img_squash *s, const struct img_fragment *frags, uint32_t n)
{
	sqfs_frag_table_t *tbl = sqfs_frag_table_create(0);
	int r = tbl ? 0 : SQFS_ERROR_ALLOC;

	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = sqfs_frag_table_append(tbl, frags[i].start, frags[i].size, NULL);
	if (r == 0)
		r = sqfs_frag_table_write(tbl, &s->file->base, &s->super, s->codec->c);
	if (tbl)
		sqfs_destroy(tbl);
	return r;
}

static int write_tables(struct img_squash *s, struct img_tree *t, const struct img_fragment *frags, uint32_t n_frags,
			const char **ret_what)
{
	uint32_t count = number_inodes(t);
	int r;

	s->super.inode_count = count;
	s->super.inode_table_start = s->file->size;
	*ret_what = "inode table";
	if ((r = write_nodes(s, t, count)) != 0 || (r = sqfs_meta_writer_flush(s->inodes)) != 0 ||
	    (r = sqfs_meta_writer_flush(s->dirs)) != 0)
		return r;
	s->super.root_inode_ref = t->root->inode->ref;
	s->super.directory_table_start = s->file->size;
	*ret_what = "directory table";
	if ((r = sqfs_meta_write_write_to_file(s->dirs)) != 0)
		return r;
	*ret_what = "fragment table";
	if ((r = write_fragments(s, frags, n_frags)) != 0)
		return r;
	*ret_what = "export table";
	if (s->exportable && (r = sqfs_dir_writer_write_export_table(s->dir, &s->file->base, s->codec->c, count,
								     s->super.root_inode_ref, &s->super)) != 0)
		return r;
	*ret_what = "id table";
	if ((r = sqfs_id_table_write(s->ids, &s->file->base, &s->super, s->codec->c)) != 0)
		return r;
	*ret_what = "attribute table";
	if ((r = sqfs_xattr_writer_flush(s->xattrs, &s->file->base, &s->super, s->codec->c)) != 0)
		return r;
	*ret_what = "super block";
	s->super.bytes_used = s->file->size;
	return sqfs_super_write(&s->super, &s->file->base);
}

int img_squash_end(struct img_squash *s, struct img_tree *t, uint64_t data_end, const struct img_fragment *frags,
		   uint32_t n_frags, uint64_t *ret_size, struct vl_err *err)
{
	static const uint8_t zeros[PAD];
	const char *what = "tables";

	s->file->size = data_end;
	s->ids = sqfs_id_table_create(0);
	s->xattrs = sqfs_xattr_writer_create(0);
	s->inodes = sqfs_meta_writer_create(&s->file->base, s->codec->c, 0);
	s->dirs = sqfs_meta_writer_create(&s->file->base, s->codec->c, SQFS_META_WRITER_KEEP_IN_MEMORY);
	s->dir = s->dirs ? sqfs_dir_writer_create(s->dirs, s->exportable ? SQFS_DIR_WRITER_CREATE_EXPORT_TABLE : 0)
			 : NULL;
	if (!s->ids || !s->xattrs || !s->inodes || !s->dir)
		return vl_fail(err, ENOMEM, "out of memory for the tables of the squashfs");
	sort_tree(t->root);
	int r = write_tables(s, t, frags, n_frags, &what);
	if (r != 0)
		return failed(s, r, what, err);
	uint64_t size = (s->file->size + PAD - 1) / PAD * PAD;
	r = img_place_write(&s->file->place, zeros, size - s->file->size, s->file->size, err);
	if (r == 0)
		*ret_size = size;
	return r;
}

void img_squash_free(struct img_squash *s)
{
	if (!s)
		return;
	void *objects[] = { s->dir, s->dirs, s->inodes, s->xattrs, s->ids, s->file };
	for (size_t i = 0; i < VL_COUNT(objects); i++)
		if (objects[i])
			sqfs_destroy(objects[i]);
	for (size_t i = 0; i < s->id_cache.cap; i++)
		free(s->id_cache.slots[i].p);
	img_table_free(&s->id_cache);
	free(s);
}
