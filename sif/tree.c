/* What a hash tree is and where it lies. The construction is that of the kernel's fs-verity, so that its tools can make
 * and check one (Documentation/filesystems/fsverity.rst). Needs no libcrypto: it is on the path of a start. */
#include "format.h"

#define VERSION 1
#define SHA256 1 /* FS_VERITY_HASH_ALG_SHA256 */

/* struct fsverity_descriptor */
enum { D_VERSION = 0, D_HASH = 1, D_LOG_BLOCK = 2, D_SALT_SIZE = 3, D_SIG_SIZE = 4, D_DATA_SIZE = 8, D_ROOT = 16 };

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

int sif_tree_parse(const void *p, size_t n, struct sif_tree *ret, struct vl_err *err)
{
	const uint8_t *b = p;
	struct sif_tree t;

	if (n != SIF_TREE_DESCRIPTOR || b[D_VERSION] != VERSION)
		return vl_fail(err, EINVAL, "the hash tree's descriptor is not of version %d", VERSION);
	if (b[D_HASH] != SHA256 || b[D_SALT_SIZE] || vl_le32(b + D_SIG_SIZE))
		return vl_fail(err, EINVAL, "the hash tree is not of plain SHA-256");
	if (b[D_LOG_BLOCK] < 12 || b[D_LOG_BLOCK] > 17)
		return vl_fail(err, EINVAL, "the hash tree's blocks are of 2^%u bytes; 4 KiB to 128 KiB are known",
			       b[D_LOG_BLOCK]);
	if (!all_zero(b + D_ROOT + SIF_TREE_HASH, SIF_TREE_DESCRIPTOR - D_ROOT - SIF_TREE_HASH))
		return vl_fail(err, EINVAL, "the hash tree's descriptor has more in it than is known");
	t.block = 1u << b[D_LOG_BLOCK];
	t.size = vl_le64(b + D_DATA_SIZE);
	if (!t.size || t.size > INT64_MAX)
		return vl_fail(err, EINVAL, "the hash tree is of no data");
	memcpy(t.root, b + D_ROOT, sizeof t.root);
	*ret = t;
	return 0;
}

void sif_tree_encode(const struct sif_tree *t, uint8_t ret[SIF_TREE_DESCRIPTOR])
{
	memset(ret, 0, SIF_TREE_DESCRIPTOR);
	ret[D_VERSION] = VERSION;
	ret[D_HASH] = SHA256;
	ret[D_LOG_BLOCK] = (uint8_t)__builtin_ctz(t->block);
	vl_put_le64(ret + D_DATA_SIZE, t->size);
	memcpy(ret + D_ROOT, t->root, sizeof t->root);
}

void sif_tree_shape(uint32_t block, uint64_t size, struct sif_tree_shape *ret)
{
	uint64_t blocks[SIF_TREE_LEVELS] = { 0 }, n = size / block + (size % block != 0), at = 0;

	*ret = (struct sif_tree_shape){ 0 };
	while (n > 1) {
		n = (n + block / SIF_TREE_HASH - 1) / (block / SIF_TREE_HASH);
		blocks[ret->n++] = n;
	}
	for (unsigned level = ret->n; level-- > 0;) {
		ret->off[level] = at;
		at += blocks[level] * block;
	}
	ret->size = at;
}

/* There is one of that name in the group, or none. */
static int find_one(const struct sif_image *img, const char *name, uint32_t group, const struct sif_descr **ret,
		    struct vl_err *err)
{
	*ret = NULL;
	for (size_t i = 0; i < img->n; i++) {
		const struct sif_descr *d = &img->d[i];
		if (d->type != SIF_GENERIC || d->group != group ||
		    strncmp((const char *)d->name, name, sizeof d->name) != 0)
			continue;
		if (*ret)
			return vl_fail(err, EINVAL, "the image has two objects '%s', %u and %u", name, (*ret)->id,
				       d->id);
		*ret = d;
	}
	return 0;
}

int sif_tree_find(const struct sif_image *img, struct sif_tree_objects *ret, struct vl_err *err)
{
	struct sif_tree_objects o = { 0 };
	int r = sif_primary(img, &o.partition, err);

	if (r < 0)
		return r;
	uint32_t group = o.partition->group;
	*ret = o;
	if ((r = find_one(img, SIF_TREE_NAME, group, &o.tree, err)) < 0 ||
	    (r = find_one(img, SIF_TREE_BLOCKS_NAME, group, &o.blocks, err)) < 0)
		return r;
	if (!o.tree && !o.blocks)
		return vl_fail(err, ENOENT, "the image has no hash tree");
	if (!o.tree || o.tree->link != o.partition->id ||
	    (o.blocks && (o.blocks->link != o.tree->id || !o.blocks->size)) || o.tree->size != SIF_TREE_DESCRIPTOR)
		return vl_fail(err, EINVAL, "the image's hash tree is not that of its system partition");
	*ret = o;
	return 0;
}

int sif_tree_levels(const struct sif_tree_objects *o, const struct sif_tree *t, uint64_t *ret_off, struct vl_err *err)
{
	struct sif_tree_shape shape;

	sif_tree_shape(t->block, t->size, &shape);
	if (t->size != o->partition->size || shape.size != (o->blocks ? o->blocks->size : 0))
		return vl_fail(err, EINVAL, "the hash tree is not of the size that the system partition asks for");
	*ret_off = o->blocks ? o->blocks->off : 0;
	return 0;
}
