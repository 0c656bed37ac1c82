/* Bytes of an image that a hash tree vouches for. What is hashed is what is used: a block is read into memory that
 * nobody else can write to, hashed there, and copied out of it. So it does not matter who changes the file when, or how
 * often a block is read again; what is remembered are blocks that were right, never that a place of the file was. */
#include "squash.h"

#include <stdio.h>
#include <vial/sif.h>

#define CACHE (4ull << 20) /* bytes at most; a block of hashes in it vouches for 512 blocks of 16 KiB */
#define SHARE 16           /* of the server's memory */
#define TOLD 8             /* lines of the log: who reads on over a broken disk fills none */

struct sq_tree {
	uint64_t size, off; /* of the data; of the levels in the file */
	uint32_t block;
	uint8_t root[SIF_TREE_HASH];
	struct sif_tree_shape shape;
	struct sq_cache cache; /* blocks that are right, of data and of hashes */
	uint64_t memory;
	_Atomic uint64_t hashed, bad;
	int log;
	const char *mark;
	char *name;
	pthread_mutex_t lock; /* for what follows */
	struct told {
		unsigned level;
		uint64_t i;
	} told[TOLD];
	size_t n_told;
};

struct span { /* bytes of the image, as yet unchecked, that are in memory already */
	const uint8_t *data;
	uint64_t pos;
	size_t len;
};

struct sq_tree *vmnt_tree_new(const struct vmnt_image *image, unsigned threads)
{
	struct sq_tree *t = vl_alloc(sizeof *t);

	t->size = image->size;
	t->off = image->tree.off;
	t->block = image->tree.block;
	memcpy(t->root, image->tree.root, sizeof t->root);
	sif_tree_shape(t->block, t->size, &t->shape);
	t->log = image->log;
	t->mark = image->log_mark ? image->log_mark : "";
	t->name = vl_printable(image->name, strlen(image->name));
	pthread_mutex_init(&t->lock, NULL);
	/* a thread holds one block of each level while it waits for another */
	uint64_t cache = VL_MIN(CACHE, (image->memory ? image->memory : VMNT_MEMORY) / SHARE);
	uint64_t slots = VL_MAX(cache / t->block, (uint64_t)threads * (t->shape.n + 1));
	t->memory = slots * t->block;
	vmnt_cache_init(&t->cache, (size_t)slots, t->block);
	return t;
}

void vmnt_tree_free(struct sq_tree *t)
{
	if (!t)
		return;
	vmnt_cache_free(&t->cache);
	pthread_mutex_destroy(&t->lock);
	free(t->name);
	free(t);
}

void vmnt_tree_count(const struct sq_tree *t, uint64_t *ret_hashed, uint64_t *ret_bad)
{
	*ret_hashed = t->hashed;
	*ret_bad = t->bad;
}

uint64_t vmnt_tree_memory(const struct sq_tree *t)
{
	return t->memory;
}

/* ---- what is wrong ------------------------------------------------------------------------------ */

static bool is_news(struct sq_tree *t, unsigned level, uint64_t i)
{
	bool news = true;

	pthread_mutex_lock(&t->lock);
	for (size_t k = 0; k < t->n_told; k++)
		news &= t->told[k].level != level || t->told[k].i != i;
	news &= t->n_told < TOLD;
	if (news)
		t->told[t->n_told++] = (struct told){ level, i };
	pthread_mutex_unlock(&t->lock);
	return news;
}

/* One line for each block, in one piece. Nobody waits for the log. */
static void tell(struct sq_tree *t, unsigned level, uint64_t i, const char *what)
{
	char place[96];

	t->bad++;
	if (!t->log || !is_news(t, level, i))
		return;
	if (level)
		snprintf(place, sizeof place, "block %llu of level %u of its hash tree", (unsigned long long)i, level);
	else
		snprintf(place, sizeof place, "block %llu (%u bytes at %llu of the squashfs)", (unsigned long long)i,
			 t->block, (unsigned long long)(i * t->block));
	VL_FREE char *line =
		vl_asprintf("%svial: %s: %s %s; reading it gives an error\n", t->mark, t->name, place, what);
	(void)!write(t->log, line, strlen(line));
}

/* ---- blocks ------------------------------------------------------------------------------------- */

/* Level 0 is the data, above it are those of the tree. */
static int fetch(struct squash *s, const struct span *have, unsigned level, uint64_t i, uint8_t *to)
{
	const struct sq_tree *t = s->tree;
	uint64_t pos = i * t->block;
	struct vl_err ignored;

	if (level)
		return vl_pread_full(s->fd, to, t->block, t->off + t->shape.off[level - 1] + pos, "image", &ignored);
	size_t n = (size_t)VL_MIN((uint64_t)t->block, t->size - pos);
	memset(to + n, 0, t->block - n);
	if (pos < have->pos || pos + n > have->pos + have->len)
		return vmnt_sq_pread_raw(s, to, n, pos);
	memcpy(to, have->data + (pos - have->pos), n);
	return 0;
}

static struct sq_block *checked(struct squash *s, const struct span *have, unsigned level, uint64_t i);

/* The hash that the block must have. */
static int expected(struct squash *s, unsigned level, uint64_t i, uint8_t ret[SIF_TREE_HASH])
{
	struct sq_tree *t = s->tree;
	uint32_t in_block = t->block / SIF_TREE_HASH;
	static const struct span none;

	if (level == t->shape.n) {
		memcpy(ret, t->root, SIF_TREE_HASH);
		return 0;
	}
	struct sq_block *above = checked(s, &none, level + 1, i / in_block);
	if (!above)
		return -EIO;
	memcpy(ret, above->data + i % in_block * SIF_TREE_HASH, SIF_TREE_HASH);
	vmnt_cache_put(&t->cache, above);
	return 0;
}

/* Is what is at `data` that block? */
static bool is_right(struct squash *s, unsigned level, uint64_t i, const uint8_t *data)
{
	struct sq_tree *t = s->tree;
	uint8_t want[SIF_TREE_HASH], is[SIF_TREE_HASH];

	if (expected(s, level, i, want) < 0)
		return false; /* which has been told of */
	vl_sha256_block(data, t->block, is);
	t->hashed++;
	if (!memcmp(is, want, sizeof is))
		return true;
	tell(t, level, i, "is not what was signed");
	return false;
}

static bool fill(struct squash *s, const struct span *have, unsigned level, uint64_t i, uint8_t *to)
{
	if (fetch(s, have, level, i, to) == 0)
		return is_right(s, level, i, to);
	tell(s->tree, level, i, "cannot be read");
	return false;
}

/* Held; NULL: it cannot be had, or is not right. */
static struct sq_block *checked(struct squash *s, const struct span *have, unsigned level, uint64_t i)
{
	struct sq_cache *c = &s->tree->cache;
	uint64_t key = (uint64_t)level << 56 | (i + 1);
	bool mine;
	struct sq_block *b = vmnt_cache_get(c, key, &mine);

	return mine ? vmnt_cache_filled(c, b, fill(s, have, level, i, b->data)) : b;
}

/* ---- reading ------------------------------------------------------------------------------------ */

static size_t span_max(const struct squash *s)
{
	return VL_MAX(s->super.block_size, SQ_META_SIZE);
}

/* Several blocks that are wanted at once are read at once: the disk or the network may be far away. */
static void read_span(struct squash *s, uint64_t first, uint64_t last, struct span *ret)
{
	const struct sq_tree *t = s->tree;

	while (first < last && vmnt_cache_has(&s->tree->cache, first + 1))
		first++;
	while (first < last && vmnt_cache_has(&s->tree->cache, last + 1))
		last--;
	if (first == last)
		return;
	if (!s->span)
		s->span = vl_alloc(span_max(s) + 2 * (size_t)t->block);
	uint64_t pos = first * t->block;
	size_t len = (size_t)(VL_MIN((last + 1) * t->block, t->size) - pos);
	if (vmnt_sq_pread_raw(s, s->span, len, pos) == 0)
		*ret = (struct span){ s->span, pos, len };
}

/* A block that is wanted whole, where it was read to: nobody will ask for it again soon. */
static const uint8_t *in_span(const struct squash *s, const struct span *have, uint64_t i)
{
	uint64_t pos = i * s->tree->block;

	return pos >= have->pos && pos + s->tree->block <= have->pos + have->len ? have->data + (pos - have->pos)
										 : NULL;
}

static int read_one(struct squash *s, const struct span *have, uint8_t *p, size_t n, uint64_t pos)
{
	struct sq_tree *t = s->tree;
	uint64_t i = pos / t->block;
	const uint8_t *whole = n == t->block ? in_span(s, have, i) : NULL;

	if (whole && !is_right(s, 0, i, whole))
		return -EIO;
	if (whole) {
		memcpy(p, whole, n);
		return 0;
	}
	struct sq_block *b = checked(s, have, 0, i);
	if (!b)
		return -EIO;
	memcpy(p, b->data + pos % t->block, n);
	vmnt_cache_put(&t->cache, b);
	return 0;
}

static int read_some(struct squash *s, uint8_t *p, size_t n, uint64_t pos)
{
	uint32_t block = s->tree->block;
	struct span have = { 0 };
	int r = 0;

	if (pos / block != (pos + n - 1) / block)
		read_span(s, pos / block, (pos + n - 1) / block, &have);
	for (size_t some; n && r == 0; n -= some) {
		some = VL_MIN(n, block - (size_t)(pos % block));
		r = read_one(s, &have, p, some, pos);
		p += some;
		pos += some;
	}
	return r;
}

int vmnt_tree_read(struct squash *s, void *p, size_t n, uint64_t pos)
{
	uint8_t *to = p;
	int r = 0;

	if (pos > s->tree->size || n > s->tree->size - pos)
		return -EIO;
	for (size_t some; n && r == 0; n -= some) {
		some = VL_MIN(n, span_max(s));
		r = read_some(s, to, some, pos);
		to += some;
		pos += some;
	}
	return r;
}
