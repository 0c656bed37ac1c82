/* What is in a file of a squashfs, or where in the image it lies. */
#include "unsquash_impl.h"

#define UNCOMPRESSED (1u << 24) /* in the size word of a data block */

int img_unsq_unpack(struct img_unsquash *u, uint64_t at, uint32_t size_word, uint8_t *out, uint32_t *ret_n)
{
	uint32_t n = size_word & (UNCOMPRESSED - 1);
	int r;

	if (!n || n > u->super.block_size || size_word > (UNCOMPRESSED | (UNCOMPRESSED - 1)))
		return DAMAGED;
	bool plain = size_word & UNCOMPRESSED;
	if ((r = img_unsq_read(u, at, plain ? out : u->packed, n)) != 0)
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
		return img_unsq_damaged(u, r, "fragment", err);
	if (u->frag_at != f.start_offset) {
		if ((r = spend_work(u, err)) < 0)
			return r;
		u->frag_at = UINT64_MAX;
		if ((r = img_unsq_unpack(u, f.start_offset, f.size, u->frag, &u->frag_len)) != 0)
			return img_unsq_damaged(u, r, "fragment", err);
		u->frag_at = f.start_offset;
	}
	if (i->frag_off > u->frag_len || n > u->frag_len - i->frag_off)
		return img_unsq_damaged(u, DAMAGED, "fragment", err);
	return u->v->data(u->v->arg, u->frag + i->frag_off, n, err);
}

/* The inode reader stands at the block list and is not moved by what happens here. */
int img_unsq_send_content(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	uint64_t left = i->size, at = i->start;
	uint32_t block = u->super.block_size, got;
	uint8_t word[4];
	int r;

	while (left >= block || (left && i->frag == NO_INDEX)) {
		uint32_t want = (uint32_t)VL_MIN(left, (uint64_t)block);
		if ((r = sqfs_meta_reader_read(u->inodes, word, 4)) != 0)
			return img_unsq_damaged(u, r, "block list", err);
		uint32_t size = vl_le32(word);
		if (!size) { /* a hole */
			memset(u->block, 0, want);
			got = want;
		} else if ((r = spend_work(u, err)) < 0) {
			return r;
		} else if ((r = img_unsq_unpack(u, at, size, u->block, &got)) != 0 || got != want) {
			return img_unsq_damaged(u, r ? r : DAMAGED, "data block", err);
		}
		at += size & (UNCOMPRESSED - 1);
		if ((r = u->v->data(u->v->arg, u->block, want, err)) < 0)
			return r;
		left -= want;
	}
	return left ? send_tail(u, i, (uint32_t)left, err) : 0;
}

/* Where the content lies, in place of the content. The list is read as it comes: its length is a claim. */
int img_unsq_send_layout(struct img_unsquash *u, const struct inode *i, struct vl_err *err)
{
	uint32_t block = u->super.block_size;
	uint64_t n = i->size / block + (i->frag == NO_INDEX && i->size % block);
	struct img_file f = { .size = i->size, .start = i->start, .frag = i->frag, .frag_off = i->frag_off };

	if (n > u->words)
		return vl_fail(err, EFBIG, "the squashfs has block lists of more than %u entries", IMG_UNSQ_MAX_WORDS);
	u->words -= n;
	for (; f.n_sizes < n; f.n_sizes++) {
		uint8_t word[4];
		int r = sqfs_meta_reader_read(u->inodes, word, 4);
		if (r != 0)
			return img_unsq_damaged(u, r, "block list", err);
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
