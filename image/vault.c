/* docs/sif.md, "Encrypted images": a squashfs, nothing in it compressed, with gocryptfs.conf and the one encrypted file.
 * That one's content is written first, in its place; the tables follow when it is known how long it became. */
#include "place.h"
#include "squash.h"

#include <fcntl.h>

#define RAW_BIT (1u << 24)
#define BLOCK_SIZE (1u << 20) /* a word of the block list for each */
#define FILE_NAME "squashfs-1"
#define CONF_NAME "gocryptfs.conf"

struct img_vault {
	struct img_place outer;
	struct img_codec raw;
	struct img_squash *squash;
	struct sif_encrypt *crypt;
	struct img_budget budget;
	struct img_log log;
	struct img_tree *tree;
	uint64_t first; /* where the encrypted file begins, from outer.base */
	uint32_t mtime;
};

void img_place_flush(const struct img_place *p, uint64_t from, uint64_t to)
{
	if (!p->crypt) /* what is encrypted lies elsewhere, and some of it not yet */
		sync_file_range(p->fd, (off_t)(p->base + from), (off_t)(to - from), SYNC_FILE_RANGE_WRITE);
}

int img_vault_begin(int fd, uint64_t base, const char *secret, size_t n, uint32_t mtime, struct img_vault **ret,
		    struct img_place *ret_place, struct vl_err *err)
{
	struct img_vault *v = vl_alloc(sizeof *v);
	int r;

	v->outer = (struct img_place){ .fd = fd, .base = base };
	v->mtime = mtime;
	v->budget = img_budget_new(UINT64_MAX);
	if ((r = img_codec_new("none", BLOCK_SIZE, &v->raw, err)) < 0 ||
	    (r = img_squash_begin(&v->outer, &v->raw, BLOCK_SIZE, mtime, &v->squash, &v->first, err)) < 0 ||
	    (r = sif_encrypt_new(secret, n, fd, base + v->first, &v->crypt, err)) < 0) {
		img_vault_free(v);
		return r;
	}
	*ret_place = (struct img_place){ .fd = -1, .crypt = v->crypt };
	*ret = v;
	return 0;
}

static struct img_entry *add_entry(struct img_vault *v, uint8_t type, const char *path, uint16_t mode)
{
	struct img_entry *e = img_log_add(&v->log);

	e->type = type;
	e->path = vl_strdup(path);
	e->attr = (struct img_attr){ .mode = mode, .mtime = v->mtime };
	e->seq = (uint32_t)v->log.n;
	return e;
}

/* `size` bytes that lie at `start` already, one behind the other. */
static void add_file(struct img_vault *v, const char *path, uint64_t start, uint64_t size)
{
	struct img_file *f = vl_alloc(sizeof *f);

	f->size = size;
	f->start = start;
	f->n_sizes = (uint32_t)((size + BLOCK_SIZE - 1) / BLOCK_SIZE);
	f->sizes = vl_alloc(VL_MAX(f->n_sizes, 1u) * sizeof *f->sizes);
	f->frag = IMG_NO_FRAGMENT;
	f->stored = true;
	for (uint32_t i = 0; i < f->n_sizes; i++)
		f->sizes[i] = (uint32_t)VL_MIN(size - (uint64_t)i * BLOCK_SIZE, (uint64_t)BLOCK_SIZE) | RAW_BIT;
	add_entry(v, IMG_FILE, path, 0444)->file = f; /* what protects it is the key */
}

int img_vault_end(struct img_vault *v, uint64_t size, uint64_t *ret_size, struct vl_err *err)
{
	const char *conf = sif_encrypt_conf(v->crypt);
	uint64_t stored;
	int r = sif_encrypt_end(v->crypt, size, &stored, err);

	if (r == 0)
		r = img_place_write(&v->outer, conf, strlen(conf), v->first + stored, err);
	if (r < 0)
		return r;
	add_entry(v, IMG_DIR, "", 0755);
	add_file(v, CONF_NAME, v->first + stored, strlen(conf));
	add_file(v, FILE_NAME, v->first, stored);
	v->tree = img_tree_new(&v->budget);
	if ((r = img_tree_apply(v->tree, &v->log, err)) < 0)
		return r;
	return img_squash_end(v->squash, v->tree, v->first + stored + strlen(conf), NULL, 0, ret_size, err);
}

void img_vault_free(struct img_vault *v)
{
	if (!v)
		return;
	if (v->tree)
		img_tree_free(v->tree);
	img_log_free(&v->log);
	img_squash_free(v->squash);
	sif_encrypt_free(v->crypt);
	img_codec_free(&v->raw);
	free(v);
}
