/* Blocks of an image, out of the caches that all readers share. */
#include "squash.h"

#include <time.h>

int vmnt_sq_pread_raw(struct squash *s, void *p, size_t n, uint64_t pos)
{
	struct vl_err err;

	if (s->sh && s->sh->front.n && vmnt_front_read(s, p, n, pos))
		return 0;
	return vl_pread_full(s->fd, p, n, s->off + pos, "image", &err) < 0 ? -EIO : 0;
}

int vmnt_sq_pread(struct squash *s, void *p, size_t n, uint64_t pos)
{
	if (pos < SQ_SUPER_SIZE || pos > s->super.used || n > s->super.used - pos)
		return -EIO;
	return s->tree ? vmnt_tree_read(s, p, n, pos) : vmnt_sq_pread_raw(s, p, n, pos);
}

/* `size` packed bytes at pos, unpacked to out. Returns bytes of data, or -EIO. */
static int unpack(struct squash *s, uint64_t pos, uint32_t size, bool packed, void *out, size_t cap)
{
	if (!size || size > VL_MAX(s->super.block_size, SQ_META_SIZE) || (!packed && size > cap))
		return -EIO;
	if (vmnt_sq_pread(s, packed ? s->packed : out, size, pos) < 0)
		return -EIO;
	if (!packed)
		return (int)size;
	int64_t begin = vl_now_ns();
	int n = vmnt_unpack(s->super.compression, &s->unpacker, s->packed, size, out, cap);
	atomic_fetch_add_explicit(&s->sh->unpacked, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&s->sh->unpack_ns, (uint64_t)(vl_now_ns() - begin), memory_order_relaxed);
	return n;
}

/* ---- metadata ------------------------------------------------------------------------------- */

#define WORK_STEP 16      /* one read out of metadata */
#define WORK_UNPACK 16384 /* one block of it */

static int fill_meta(struct squash *s, struct sq_block *b, uint64_t pos)
{
	uint8_t h[2];

	if (vmnt_sq_pread(s, h, sizeof h, pos) < 0)
		return -EIO;
	uint32_t size = vl_le16(h) & 0x7fff;
	if (size > SQ_META_SIZE)
		return -EIO;
	int n = unpack(s, pos + 2, size, !(vl_le16(h) & 0x8000), b->data, SQ_META_SIZE);
	b->disk = size + 2;
	b->size = n > 0 ? (uint32_t)n : 0;
	return n > 0 ? 0 : -EIO;
}

/* Held by this reader until others have pushed it out: the next read is nearly always in the same block, and
 * costs no lock then. */
static struct sq_block *meta_block(struct squash *s, uint64_t pos)
{
	struct sq_cache *c = &s->sh->meta;
	bool fill;

	for (size_t i = 0; i < SQ_HELD; i++)
		if (s->held[i] && s->held[i]->pos == pos)
			return s->held[i];
	if (pos < SQ_SUPER_SIZE)
		return NULL;
	struct sq_block **slot = &s->held[s->next_held++ % SQ_HELD];
	if (*slot)
		vmnt_cache_put(c, *slot);
	*slot = vmnt_cache_get(c, pos, &fill);
	if (fill) {
		s->work += WORK_UNPACK;
		*slot = vmnt_cache_filled(c, *slot, fill_meta(s, *slot, pos) == 0);
	}
	return *slot;
}

void vmnt_sq_let_go(struct squash *s)
{
	for (size_t i = 0; i < SQ_HELD; i++)
		if (s->held[i])
			vmnt_cache_put(&s->sh->meta, vl_steal(&s->held[i]));
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

/* ---- data ----------------------------------------------------------------------------------- */

static bool sane(const struct sq_place *at)
{
	return at->pos >= SQ_SUPER_SIZE && !(at->word >> 25);
}

static int unpack_data(struct squash *s, const struct sq_place *at, void *out, size_t cap)
{
	if (s->slow)
		s->slow(s->slow_arg);
	return unpack(s, at->pos, at->word & 0xffffff, !(at->word & 1u << 24), out, cap);
}

struct sq_block *vmnt_sq_data(struct squash *s, const struct sq_place *at)
{
	struct sq_cache *c = &s->sh->data;
	bool fill;

	if (!sane(at))
		return NULL;
	struct sq_block *b = vmnt_cache_get(c, at->pos, &fill);
	if (!fill)
		return b;
	int n = unpack_data(s, at, b->data, s->super.block_size);
	b->size = n > 0 ? (uint32_t)n : 0;
	return vmnt_cache_filled(c, b, n > 0);
}

int vmnt_sq_data_to(struct squash *s, const struct sq_place *at, void *out, size_t n)
{
	return sane(at) && unpack_data(s, at, out, n) == (int)n ? 0 : -EIO;
}
