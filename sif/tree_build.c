/* Makes a hash tree: one pass over the data, with one unfinished block for each level. */
#include "format.h"

#include <fcntl.h>

#define CHUNK (1u << 20) /* a multiple of every size of block */
#define NEEDED 3         /* descriptors */

struct building {
	uint32_t block;
	int out;
	struct sif_tree_shape shape;
	struct level {
		uint8_t *buf;
		size_t n;     /* bytes in it */
		uint64_t off; /* where it will be written */
	} level[SIF_TREE_LEVELS];
	uint8_t root[SIF_TREE_HASH];
};

static int push(struct building *b, unsigned level, const uint8_t hash[SIF_TREE_HASH], struct vl_err *err);

static int flush(struct building *b, unsigned level, struct vl_err *err)
{
	struct level *l = &b->level[level];
	uint8_t hash[SIF_TREE_HASH];

	memset(l->buf + l->n, 0, b->block - l->n);
	int r = vl_pwrite_full(b->out, l->buf, b->block, l->off, "the hash tree", err);
	if (r < 0)
		return r;
	vl_sha256_block(l->buf, b->block, hash);
	l->off += b->block;
	l->n = 0;
	return push(b, level + 1, hash, err);
}

static int push(struct building *b, unsigned level, const uint8_t hash[SIF_TREE_HASH], struct vl_err *err)
{
	struct level *l = &b->level[level];

	if (level == b->shape.n) {
		memcpy(b->root, hash, sizeof b->root);
		return 0;
	}
	memcpy(l->buf + l->n, hash, SIF_TREE_HASH);
	l->n += SIF_TREE_HASH;
	return l->n == b->block ? flush(b, level, err) : 0;
}

static int push_data(struct building *b, uint8_t *data, size_t n, struct vl_err *err)
{
	uint8_t hash[SIF_TREE_HASH];
	int r = 0;

	for (size_t at = 0; at < n && r == 0; at += b->block) {
		if (n - at < b->block) /* the last one; the buffer is larger */
			memset(data + n, 0, b->block - (n - at));
		vl_sha256_block(data + at, b->block, hash);
		r = push(b, 0, hash, err);
	}
	return r;
}

int sif_tree_build(int fd, uint64_t off, uint64_t size, uint32_t block, int out, const struct vl_progress *progress,
		   struct sif_tree *ret, struct vl_err *err)
{
	struct building b = { .block = block, .out = out };
	VL_FREE uint8_t *data = vl_alloc(CHUNK);
	VL_FREE uint8_t *levels = NULL;
	int r = 0;

	sif_tree_shape(block, size, &b.shape);
	levels = vl_alloc((size_t)block * (b.shape.n + 1));
	for (unsigned i = 0; i < b.shape.n; i++)
		b.level[i] = (struct level){ .buf = levels + (size_t)i * block, .off = b.shape.off[i] };
	posix_fadvise(fd, (off_t)off, (off_t)size, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = 0; at < size && r == 0;) {
		size_t n = (size_t)VL_MIN(size - at, (uint64_t)CHUNK);
		if ((r = vl_pread_full(fd, data, n, off + at, "the image", err)) == 0)
			r = push_data(&b, data, n, err);
		at += n;
		if (progress)
			vl_progress_step(progress, "hash tree", at, size);
	}
	for (unsigned i = 0; i < b.shape.n && r == 0; i++)
		r = b.level[i].n ? flush(&b, i, err) : 0;
	if (r < 0)
		return r;
	*ret = (struct sif_tree){ .block = block, .size = size };
	memcpy(ret->root, b.root, sizeof ret->root);
	return 0;
}

/* ---- in an image ---- */

static bool is_signed(const struct sif_image *img, uint32_t group)
{
	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].type == SIF_SIGNATURE && img->d[i].link == (SIF_GROUP_MASK | group))
			return true;
	return false;
}

/* *ret stays true when the object's bytes are the file's. */
static int same_bytes(const struct sif_image *img, const struct sif_descr *d, int file, bool *ret, struct vl_err *err)
{
	VL_FREE uint8_t *a = vl_alloc(2 * (size_t)SIF_TREE_MAX_BLOCK);
	uint8_t *b = a + SIF_TREE_MAX_BLOCK;

	for (uint64_t at = 0; at < d->size && *ret;) {
		size_t n = (size_t)VL_MIN(d->size - at, (uint64_t)SIF_TREE_MAX_BLOCK);
		int r = vl_pread_full(img->fd, a, n, d->off + at, "the image", err);
		if (r < 0 || (r = vl_pread_full(file, b, n, at, "the hash tree", err)) < 0)
			return r;
		*ret = !memcmp(a, b, n);
		at += n;
	}
	return 0;
}

/* The tree that is there: its size of blocks, when one can be told. */
static uint32_t old_block(const struct sif_image *img, const struct sif_tree_objects *o)
{
	uint8_t b[SIF_TREE_DESCRIPTOR];
	struct sif_tree t;
	struct vl_err ignored;

	if (!o->tree || vl_pread_full(img->fd, b, sizeof b, o->tree->off, "the image", &ignored) < 0 ||
	    sif_tree_parse(b, sizeof b, &t, &ignored) < 0)
		return 0;
	return t.block;
}

static int is_right(const struct sif_image *img, const struct sif_tree_objects *o, const struct sif_tree *t, int levels,
		    bool *ret, struct vl_err *err)
{
	uint8_t here[SIF_TREE_DESCRIPTOR], want[SIF_TREE_DESCRIPTOR];
	struct vl_err ignored;
	uint64_t off;

	*ret = false;
	if (!o->tree || sif_tree_levels(o, t, &off, &ignored) < 0)
		return 0;
	sif_tree_encode(t, want);
	int r = vl_pread_full(img->fd, here, sizeof here, o->tree->off, "the image", err);
	if (r < 0 || memcmp(here, want, sizeof want) != 0)
		return r;
	*ret = true;
	return o->blocks ? same_bytes(img, o->blocks, levels, ret, err) : 0;
}

/* Whatever has the names of a tree, whole or not. */
static bool is_part_of_tree(const struct sif_descr *d, uint32_t group)
{
	return d->type == SIF_GENERIC && d->group == group &&
	       (!strncmp((const char *)d->name, SIF_TREE_NAME, sizeof d->name) ||
		!strncmp((const char *)d->name, SIF_TREE_BLOCKS_NAME, sizeof d->name));
}

static int check_room(const struct sif_edit *e, uint32_t group, struct vl_err *err)
{
	const struct sif_image *img = sif_edit_image(e);
	uint32_t room = sif_edit_slots(e);

	for (size_t i = 0; i < img->n; i++)
		room += is_part_of_tree(&img->d[i], group);
	if (room < NEEDED)
		return vl_fail(
			err, ENOSPC,
			"the image has %u free descriptors, %d are needed for a hash tree and a signature; delete "
			"an object, or sign without a tree",
			room, NEEDED);
	return 0;
}

static int remove_old(struct sif_edit *e, uint32_t group, struct vl_err *err)
{
	const struct sif_image *img = sif_edit_image(e);

	for (size_t i = 0; i < img->n;) {
		bool old = is_part_of_tree(&img->d[i], group);
		int r = old ? sif_edit_del(e, img->d[i].id, err) : 0;
		if (r < 0)
			return r;
		i += !old;
	}
	return 0;
}

static int add_objects(struct sif_edit *e, uint32_t partition, uint32_t group, const struct sif_tree *t, int levels,
		       struct vl_err *err)
{
	struct sif_object o = { .type = SIF_GENERIC, .group = group, .link = partition, .name = SIF_TREE_NAME };
	uint8_t text[SIF_TREE_DESCRIPTOR];
	struct sif_tree_shape shape;

	sif_tree_shape(t->block, t->size, &shape);
	sif_tree_encode(t, text);
	int r = sif_edit_add(e, &o, text, sizeof text, &o.link, err);
	o.name = SIF_TREE_BLOCKS_NAME;
	o.align = SIF_DATA_ALIGN;
	if (r == 0 && shape.n)
		r = sif_edit_add_fd(e, &o, levels, NULL, err);
	return r < 0 ? r : sif_edit_commit(e, err);
}

static bool can_have_one(const struct sif_descr *d, uint32_t group)
{
	return d->size && sif_part_fs(d) == SIF_FS_SQUASHFS && d->group != SIF_NO_GROUP &&
	       (!group || group == d->group);
}

int sif_tree_add(int fd, const struct sif_tree_opts *o, enum sif_tree_result *ret, struct vl_err *err)
{
	SIF_EDIT struct sif_edit *e = NULL;
	struct sif_tree_objects there = { 0 };
	struct sif_tree tree;
	bool right;
	int r = sif_edit_begin(fd, o->time, &e, err);

	if (r < 0)
		return r;
	const struct sif_image *img = sif_edit_image(e);
	int found = sif_tree_find(img, &there, err);
	*ret = SIF_TREE_NO_IMAGE;
	if (!there.partition || !can_have_one(there.partition, o->group))
		return 0;
	bool covered = is_signed(img, there.partition->group);
	*ret = SIF_TREE_IS_SIGNED;
	if (covered && found == -ENOENT)
		return 0;
	uint32_t block = o->block ? o->block : old_block(img, &there), id = there.partition->id;
	uint32_t group = there.partition->group;
	VL_CLOSE int levels = vl_tmpfile("the hash tree", err);
	if (levels < 0)
		return levels;
	if ((r = sif_tree_build(fd, there.partition->off, there.partition->size, block ? block : SIF_TREE_BLOCK, levels,
				o->progress, &tree, err)) < 0 ||
	    (r = is_right(img, &there, &tree, levels, &right, err)) < 0)
		return r;
	*ret = right ? SIF_TREE_KEPT : SIF_TREE_ADDED;
	if (right)
		return 0;
	if (covered)
		return vl_fail(err, EBADMSG,
			       "the hash tree is not that of the system partition, and signatures cover it; delete "
			       "both, or sign without one");
	if ((r = check_room(e, group, err)) < 0 || (r = remove_old(e, group, err)) < 0)
		return r;
	return add_objects(e, id, group, &tree, levels, err);
}
