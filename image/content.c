/* What is in a file, block by block. */
#include "src_impl.h"

#include <fcntl.h>

#define WORD_BYTES ((1u << 24) - 1) /* of a size word: how many; the bit above: stored as they are */

int img_content_open(struct img_src *s, const char *path, const struct img_file *f, struct img_content *ret,
		     struct vl_err *err)
{
	*ret = (struct img_content){ .s = s, .f = f, .left = f->size, .at = f->start, .fd = -1 };
	if (s->u)
		return 0;
	ret->fd = vl_open_in_root(s->root.fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0, err);
	return ret->fd < 0 ? vl_wrap(err, "%s", s->root.name) : 0;
}

void img_content_close(struct img_content *c)
{
	vl_closep(&c->fd);
}

static int damaged(const struct img_src *s, struct vl_err *err)
{
	return vl_fail(err, EINVAL, "the squashfs of %s is damaged: a data block is wrong", s->root.name);
}

static int next_of_dir(struct img_content *c, const uint8_t **ret_p, size_t *ret_n, struct vl_err *err)
{
	ssize_t n;

	do
		n = read(c->fd, c->s->block, VL_MIN((uint64_t)c->s->chunk, c->left));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return vl_fail_sys(err, errno, "cannot read a file of %s", c->s->root.name);
	if (n == 0)
		return vl_fail(err, EIO, "a file of %s became shorter while it was read", c->s->root.name);
	c->left -= (size_t)n;
	*ret_p = c->s->block;
	*ret_n = (size_t)n;
	return 0;
}

static const struct img_fragment *fragment_of(const struct img_content *c)
{
	const struct img_unsquash_head *h = img_unsquash_head(c->s->u);
	return c->f->frag < h->n_fragments ? &h->fragments[c->f->frag] : NULL;
}

static int next_tail(struct img_content *c, const uint8_t **ret_p, size_t *ret_n, struct vl_err *err)
{
	const struct img_fragment *f = fragment_of(c);
	struct img_src *s = c->s;

	if (!f)
		return damaged(s, err);
	if (s->tail_at != f->start) {
		s->tail_at = UINT64_MAX;
		int r = img_unsquash_block(s->u, f->start, f->size, s->tail, &s->tail_len, err);
		if (r < 0)
			return r;
		s->tail_at = f->start;
	}
	if (c->f->frag_off > s->tail_len || c->left > s->tail_len - c->f->frag_off)
		return damaged(s, err);
	*ret_p = s->tail + c->f->frag_off;
	*ret_n = (size_t)c->left;
	c->left = 0;
	return 0;
}

static uint32_t block_bytes(const struct img_content *c)
{
	return (uint32_t)VL_MIN(c->left, (uint64_t)c->s->chunk);
}

static void step_over(struct img_content *c)
{
	c->left -= block_bytes(c);
	c->at += c->f->sizes[c->i++] & WORD_BYTES;
}

int img_content_next(struct img_content *c, const uint8_t **ret_p, size_t *ret_n, struct vl_err *err)
{
	uint32_t want = block_bytes(c), got;

	*ret_n = 0;
	if (!c->left)
		return 0;
	if (!c->s->u)
		return next_of_dir(c, ret_p, ret_n, err);
	if (c->i == c->f->n_sizes)
		return next_tail(c, ret_p, ret_n, err);
	uint32_t word = c->f->sizes[c->i];
	if (word) {
		int r = img_unsquash_block(c->s->u, c->at, word, c->s->block, &got, err);
		if (r < 0)
			return r;
		if (got != want)
			return damaged(c->s, err);
	}
	*ret_p = word ? c->s->block : NULL;
	*ret_n = want;
	step_over(c);
	return 0;
}

/* ---- packed blocks of two ---- */

/* Equal bytes of one codec unpack to equal bytes. */
static int same_raw(struct img_src *a, uint64_t at_a, struct img_src *b, uint64_t at_b, uint32_t word, bool *ret,
		    struct vl_err *err)
{
	uint32_t n = word & WORD_BYTES;
	int r;

	*ret = false;
	if (n > a->chunk) /* whoever unpacks it will say so */
		return 0;
	if ((r = img_unsquash_raw(a->u, at_a, a->raw, n, err)) < 0 ||
	    (r = img_unsquash_raw(b->u, at_b, b->raw, n, err)) < 0)
		return r;
	*ret = !memcmp(a->raw, b->raw, n);
	return 0;
}

/* Many files end in one fragment: what was found about a pair is kept. */
static int same_tail(struct img_content *a, struct img_content *b, bool *ret, struct vl_err *err)
{
	const struct img_fragment *fa = fragment_of(a), *fb = fragment_of(b);

	*ret = false;
	if (!fa || !fb || fa->size != fb->size || a->f->frag_off != b->f->frag_off)
		return 0;
	*ret = a->s->same_tail == fa->start + 1 && a->s->same_other == fb->start;
	if (*ret)
		return 0;
	int r = same_raw(a->s, fa->start, b->s, fb->start, fa->size, ret, err);
	if (r == 0 && *ret) {
		a->s->same_tail = fa->start + 1; /* 0 = none */
		a->s->same_other = fb->start;
	}
	return r;
}

static bool comparable(const struct img_src *a, const struct img_src *b)
{
	if (!a->u || !b->u)
		return false;
	const struct img_unsquash_head *x = img_unsquash_head(a->u), *y = img_unsquash_head(b->u);
	return x->block_size == y->block_size && x->compression == y->compression;
}

int img_content_skip_same(struct img_content *a, struct img_content *b, struct vl_err *err)
{
	bool same = comparable(a->s, b->s);
	int r;

	while (same && a->left && a->i < a->f->n_sizes && b->i < b->f->n_sizes) {
		uint32_t word = a->f->sizes[a->i];
		same = word == b->f->sizes[b->i];
		if (same && word && (r = same_raw(a->s, a->at, b->s, b->at, word, &same, err)) < 0)
			return r;
		if (same) {
			step_over(a);
			step_over(b);
		}
	}
	if (!same || !a->left || a->i < a->f->n_sizes || b->i < b->f->n_sizes)
		return 0;
	if ((r = same_tail(a, b, &same, err)) < 0)
		return r;
	if (same)
		a->left = b->left = 0;
	return 0;
}
