/* The bytes of files. */
#include "squash.h"

#include <sched.h>
#include <sys/stat.h>

static struct sq_walk *walk_of(struct squash *s, const struct sq_inode *i)
{
	struct sq_walk *w = s->walk;

	for (size_t k = 0; k < SQ_WALKS; k++) {
		if (s->walk[k].ref == i->ref) {
			w = &s->walk[k];
			break;
		}
		if (s->walk[k].used < w->used)
			w = &s->walk[k];
	}
	w->used = ++s->clock;
	if (w->ref != i->ref) {
		free(w->mark);
		*w = (struct sq_walk){
			.ref = i->ref, .cur = i->rest, .data = i->start, .every = SQ_MARK_EVERY, .used = w->used
		};
	}
	return w;
}

static void mark_place(struct sq_walk *w)
{
	if (w->next % w->every || w->next / w->every != w->n_marks)
		return;
	if (w->n_marks == SQ_MARKS) { /* every second one will do */
		for (size_t i = 0; i < SQ_MARKS / 2; i++)
			w->mark[i] = w->mark[2 * i];
		w->n_marks = SQ_MARKS / 2;
		w->every *= 2;
	}
	if ((w->n_marks & (w->n_marks - 1)) == 0)
		w->mark = vl_realloc(w->mark, VL_MAX(w->n_marks * 2, 1u), sizeof *w->mark);
	w->mark[w->n_marks++] = (struct sq_mark){ w->cur, w->data };
}

/* On to the nearest place at or before block n that is known. */
static void jump(struct sq_walk *w, uint64_t n)
{
	if (!w->n_marks)
		return;
	uint64_t m = VL_MIN(n / w->every, (uint64_t)w->n_marks - 1);
	if (n >= w->next && m * w->every <= w->next)
		return;
	w->next = m * w->every;
	w->cur = w->mark[m].cur;
	w->data = w->mark[m].data;
}

static uint32_t stored(uint32_t word) /* bytes of a block in the image */
{
	return word & 0xffffff;
}

/* Reads on in the list: up to the next place to remember, and not to block `end`, for what is read counts. Returns how many
 * words are in b, or -EIO. */
static ssize_t step(struct squash *s, struct sq_walk *w, uint64_t end, uint8_t b[SQ_META_SIZE])
{
	mark_place(w);
	struct sq_cursor c = w->cur;
	size_t n = (size_t)VL_MIN(VL_MIN(w->every - w->next % w->every, end - w->next), (uint64_t)SQ_META_SIZE / 4);

	if (vmnt_sq_meta(s, &c, b, 4 * n) < 0)
		return -EIO;
	for (size_t k = 0; k < n; k++)
		w->data += stored(vl_le32(b + 4 * k));
	w->cur = c;
	w->next += n;
	return (ssize_t)n;
}

/* The list holds sizes only: a position is the sum of all sizes before it. Places on the way are
 * remembered, so that reading a big file at random walks a few entries only. */
static int block_at(struct squash *s, const struct sq_inode *i, uint64_t n, uint64_t *ret_pos, uint32_t *ret_word)
{
	struct sq_walk *w = walk_of(s, i);

	jump(w, n);
	for (;;) {
		uint8_t b[SQ_META_SIZE];
		ssize_t some = step(s, w, n + 1, b);
		if (some < 0)
			return -EIO;
		if (w->next == n + 1) {
			*ret_word = vl_le32(b + 4 * (some - 1));
			*ret_pos = w->data - stored(*ret_word);
			return 0;
		}
	}
}

/* Can the inode table hold the sizes of that many blocks? A block of it takes 3 bytes at least. */
static bool list_fits(const struct squash *s, uint64_t blocks)
{
	return blocks / (SQ_META_SIZE / 4) <= (s->super.dir_table - s->super.inode_table) / 3;
}

static int fragment(struct squash *s, uint32_t n, struct sq_place *ret)
{
	if (n >= s->super.fragments)
		return -EIO;
	struct sq_cursor c = { .block = vl_le64(&s->sh->frag_blocks[n / 512]),
			       .end = s->super.used,
			       .off = n % 512 * 16 };
	uint8_t e[16];
	if (vmnt_sq_meta(s, &c, e, sizeof e) < 0)
		return -EIO;
	ret->pos = vl_le64(e);
	ret->word = vl_le32(e + 8);
	return 0;
}

static uint64_t stored_blocks(const struct squash *s, const struct sq_inode *i)
{
	return i->size / s->super.block_size + (i->frag == SQ_NONE32 && i->size % s->super.block_size);
}

/* Where block n of the file lies. */
static int place_of(struct squash *s, const struct sq_inode *i, uint64_t n, struct sq_place *ret)
{
	uint64_t blocks = stored_blocks(s, i);

	*ret = (struct sq_place){ 0 };
	if (n >= blocks) {
		ret->tail = true;
		ret->skip = i->frag_off;
		return fragment(s, i->frag, ret);
	}
	return list_fits(s, blocks) ? block_at(s, i, n, &ret->pos, &ret->word) : -EIO;
}

static bool is_hole(const struct sq_place *at)
{
	return !at->word && !at->tail;
}

/* Bytes `from` on of a block of which the file has `size`. */
static int copy_out(struct squash *s, const struct sq_place *at, uint64_t size, uint64_t from, void *p, size_t n)
{
	if (is_hole(at)) {
		memset(p, 0, n);
		return 0;
	}
	vmnt_ahead_cancel(&s->sh->ahead, at->pos);
	/* The kernel keeps what it is given: a whole block needs no copy here, unless somebody is at it already. */
	if (n == size && !at->tail && !vmnt_cache_has(&s->sh->data, at->pos))
		return vmnt_sq_data_to(s, at, p, n);
	struct sq_block *b = vmnt_sq_data(s, at);
	bool good = b && at->skip + size <= b->size;
	if (good)
		memcpy(p, b->data + at->skip + from, n);
	if (b && n == size && !at->tail) /* the kernel has all of it */
		vmnt_cache_put_spent(&s->sh->data, b);
	else if (b)
		vmnt_cache_put(&s->sh->data, b);
	return good ? 0 : -EIO;
}

/* Asks an idle thread to unpack a block. False: there is none, or nothing to do. */
static bool ahead(struct squash *s, const struct sq_inode *i, uint64_t n)
{
	struct sq_place at;

	if (!vmnt_ahead_idle(&s->sh->ahead) || place_of(s, i, n, &at) < 0 || is_hole(&at) ||
	    vmnt_cache_has(&s->sh->data, at.pos))
		return false;
	return vmnt_ahead_push(&s->sh->ahead, &at);
}

ssize_t vmnt_sq_read(struct squash *s, const struct sq_inode *i, uint64_t off, void *buf, size_t n)
{
	uint64_t bs = s->super.block_size;
	uint8_t *p = buf;

	if (!S_ISREG(i->mode))
		return -EIO;
	if (off >= i->size)
		return 0;
	n = (size_t)VL_MIN((uint64_t)n, i->size - off);
	for (uint64_t next = off / bs + 1; next * bs < off + n && ahead(s, i, next); next++)
		;
	while (n) {
		uint64_t at = off % bs, in_block = VL_MIN(bs, i->size - off / bs * bs);
		size_t take = (size_t)VL_MIN((uint64_t)n, in_block - at);
		struct sq_place place;
		if (place_of(s, i, off / bs, &place) < 0 || copy_out(s, &place, in_block, at, p, take) < 0)
			return -EIO;
		p += take;
		off += take;
		n -= take;
	}
	return p - (uint8_t *)buf;
}

void vmnt_sq_warm(struct squash *s, const struct sq_inode *i, uint64_t blocks)
{
	uint64_t all = (i->size + s->super.block_size - 1) / s->super.block_size;
	struct sq_place at;

	for (uint64_t n = 0; n < VL_MIN(all, blocks); n++) {
		struct sq_block *b = NULL;
		if (place_of(s, i, n, &at) == 0 && !is_hole(&at) && !vmnt_cache_has(&s->sh->data, at.pos))
			b = vmnt_sq_data(s, &at);
		if (b)
			vmnt_cache_put(&s->sh->data, b);
		sched_yield(); /* whoever was woken here meanwhile would wait for the end of our time slice */
	}
}

/* ---- holes: blocks that are not stored ---------------------------------------------------------- */

/* The first block at or after n that is a hole, or is none; `blocks`: there is no such. */
static int find_block(struct squash *s, const struct sq_inode *i, uint64_t n, uint64_t blocks, bool hole, uint64_t *ret)
{
	struct sq_walk *w = walk_of(s, i);

	jump(w, n);
	while (w->next < blocks) {
		uint8_t b[SQ_META_SIZE];
		uint64_t first = w->next;
		ssize_t some = step(s, w, blocks, b);
		if (some < 0)
			return -EIO;
		for (uint64_t k = n > first ? n - first : 0; k < (uint64_t)some; k++)
			if (!vl_le32(b + 4 * k) == hole) {
				*ret = first + k;
				return 0;
			}
	}
	*ret = blocks;
	return 0;
}

int vmnt_sq_seek(struct squash *s, const struct sq_inode *i, uint64_t off, bool hole, uint64_t *ret)
{
	uint64_t bs = s->super.block_size, blocks = stored_blocks(s, i), n = off / bs;

	if (!S_ISREG(i->mode))
		return -EIO;
	if (off >= i->size)
		return -ENXIO;
	if (n < blocks && (!list_fits(s, blocks) || find_block(s, i, n, blocks, hole, &n) < 0))
		return -EIO;
	/* what the list does not have is in a fragment: data, up to the end of the file */
	if (n * bs >= i->size || (n == blocks && hole)) {
		*ret = i->size;
		return hole ? 0 : -ENXIO;
	}
	*ret = VL_MAX(off, n * bs);
	return 0;
}

/* ---- what will be asked for --------------------------------------------------------------------- */

void vmnt_sq_read_ahead(struct squash *s, const struct sq_inode *i, uint64_t off)
{
	uint64_t bs = s->super.block_size;

	if (S_ISREG(i->mode) && off < i->size)
		ahead(s, i, (off + bs - 1) / bs);
}

/* ---- the file after this one ------------------------------------------------------------------ */

#define BETWEEN 3 /* directories and links that may stand before it */

static int skip(struct squash *s, struct sq_cursor *c, uint64_t n)
{
	uint8_t b[SQ_META_SIZE];

	for (uint64_t some; n; n -= some) {
		some = VL_MIN(n, (uint64_t)sizeof b);
		if (vmnt_sq_meta(s, c, b, (size_t)some) < 0)
			return -EIO;
	}
	return 0;
}

/* The inode table says nowhere how long an inode is. */
static int after(struct squash *s, const struct sq_inode *i, struct sq_cursor *ret)
{
	uint64_t blocks = stored_blocks(s, i), pos;
	uint32_t word;

	*ret = i->rest;
	if (S_ISLNK(i->mode))
		return skip(s, ret, i->size + (i->type == SQ_LLINK ? 4 : 0));
	if (!S_ISREG(i->mode))
		return i->index ? -ENOENT : 0;
	if (!blocks)
		return 0;
	if (!list_fits(s, blocks) || block_at(s, i, blocks - 1, &pos, &word) < 0)
		return -EIO;
	*ret = walk_of(s, i)->cur;
	return 0;
}

int vmnt_sq_next_file(struct squash *s, const struct sq_inode *i, struct sq_inode *ret)
{
	struct sq_cursor c;

	*ret = *i;
	for (unsigned k = 0; k <= BETWEEN; k++) {
		if (after(s, ret, &c) < 0 || c.block >= s->super.dir_table ||
		    vmnt_sq_inode(s, (c.block - s->super.inode_table) << 16 | c.off, ret) < 0)
			return -ENOENT;
		if (S_ISREG(ret->mode))
			return 0;
	}
	return -ENOENT;
}

void vmnt_sq_next_ahead(struct squash *s, const struct sq_inode *i, const struct sq_inode *next)
{
	struct sq_place at = { .tail = true };

	if (next->size)
		ahead(s, next, 0);
	/* many small files end in one fragment: the next one before its first file is asked for */
	if (i->frag != SQ_NONE32 && vmnt_ahead_idle(&s->sh->ahead) && fragment(s, i->frag + 1, &at) == 0 &&
	    !vmnt_cache_has(&s->sh->data, at.pos))
		vmnt_ahead_push(&s->sh->ahead, &at);
}
