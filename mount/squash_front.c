/* What a command reads at its start lies together in an image with a profile. Far away each read takes long, whatever
 * its size: so in these places much is read at a time, and kept for the questions that come next. What the kernel has
 * in memory already is taken from there in small pieces. */
#include "squash.h"

#include <sys/uio.h>

void vmnt_front_init(struct sq_front *f, const struct vmnt_image *image, uint64_t used)
{
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	uint64_t memory = image->memory ? image->memory : VMNT_MEMORY;
	f->slots = (size_t)VL_MAX(VL_MIN(memory / SQ_FRONT_SHARE / SQ_FRONT_CHUNK, (uint64_t)SQ_FRONT_SLOTS), 1u);
	for (size_t i = 0; i < image->n_front && f->n < SQ_FRONTS; i++) {
		struct vmnt_extent e = image->front[i];
		if (e.off >= used || !e.len)
			continue;
		e.len = VL_MIN(e.len, used - e.off);
		f->extent[f->n++] = e;
	}
}

void vmnt_front_free(struct sq_front *f)
{
	for (size_t i = 0; i < SQ_FRONT_SLOTS; i++)
		free(f->slot[i].data);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
}

static const struct vmnt_extent *extent_of(const struct sq_front *f, uint64_t pos, size_t n)
{
	for (size_t i = 0; i < f->n; i++)
		if (pos >= f->extent[i].off && pos + n <= f->extent[i].off + f->extent[i].len)
			return &f->extent[i];
	return NULL;
}

static bool in_memory(const struct squash *s, void *p, size_t n, uint64_t pos)
{
	struct iovec v = { p, n };

	return preadv2(s->fd, &v, 1, (off_t)(s->off + pos), RWF_NOWAIT) == (ssize_t)n;
}

/* The slot that has the chunk or is being filled with it; else the one used longest ago, to be filled. Under the lock;
 * NULL: all are being filled. */
static struct sq_front_slot *slot_for(struct sq_front *f, uint64_t pos)
{
	struct sq_front_slot *oldest = NULL;

	for (size_t i = 0; i < f->slots; i++) {
		struct sq_front_slot *t = &f->slot[i];
		if (t->pos == pos && (t->len || t->filling))
			return t;
		if (!t->filling && (!oldest || t->used < oldest->used))
			oldest = t;
	}
	return oldest;
}

/* Under the lock, which is let go of while reading. */
static void fill(const struct squash *s, struct sq_front *f, struct sq_front_slot *t, uint64_t pos, size_t len)
{
	struct vl_err ignored;

	t->pos = pos;
	t->len = 0;
	t->filling = true;
	/* on a page, or a network file system asks twice for what spans one more than its messages hold */
	if (!t->data && posix_memalign((void **)&t->data, 4096, SQ_FRONT_CHUNK) != 0)
		t->data = NULL;
	pthread_mutex_unlock(&f->lock);
	int r = !t->data ? -ENOMEM : vl_pread_full(s->fd, t->data, len, s->off + pos, "image", &ignored);
	pthread_mutex_lock(&f->lock);
	t->filling = false;
	t->len = r < 0 ? 0 : len;
	t->given = 0;
	pthread_cond_broadcast(&f->changed);
}

/* Chunks begin at multiples of their size in the file, which is how file systems lay it out. */
static uint64_t chunk_begin(const struct squash *s, const struct vmnt_extent *e, uint64_t pos)
{
	uint64_t in_file = (s->off + pos) / SQ_FRONT_CHUNK * SQ_FRONT_CHUNK;

	return in_file > s->off + e->off ? in_file - s->off : e->off;
}

static uint64_t chunk_end(const struct squash *s, const struct vmnt_extent *e, uint64_t pos)
{
	uint64_t in_file = ((s->off + pos) / SQ_FRONT_CHUNK + 1) * SQ_FRONT_CHUNK;

	return VL_MIN(in_file - s->off, e->off + e->len);
}

/* One piece that lies in one chunk. */
static bool piece(const struct squash *s, struct sq_front *f, const struct vmnt_extent *e, uint8_t *p, size_t n,
		  uint64_t pos)
{
	uint64_t chunk = chunk_begin(s, e, pos);
	size_t len = (size_t)(chunk_end(s, e, pos) - chunk);
	struct sq_front_slot *t;
	bool filled = false;

	pthread_mutex_lock(&f->lock);
	while ((t = slot_for(f, chunk)) && t->pos == chunk && t->filling)
		pthread_cond_wait(&f->changed, &f->lock);
	if (t && (t->pos != chunk || !t->len))
		fill(s, f, t, chunk, len);
	if (t && t->data && t->pos == chunk && t->len == len) {
		memcpy(p, t->data + (pos - chunk), n);
		t->used = ++f->clock;
		filled = true;
		t->given += n;
		if (t->given >= t->len) { /* what is read once is kept by others now */
			vl_freep(&t->data);
			t->len = 0;
			t->used = 0;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return filled;
}

bool vmnt_front_read(const struct squash *s, void *p, size_t n, uint64_t pos)
{
	struct sq_front *f = &s->sh->front;
	const struct vmnt_extent *e = extent_of(f, pos, n);
	uint8_t *to = p;

	if (!e || in_memory(s, p, n, pos))
		return e != NULL;
	while (n) {
		size_t some = (size_t)VL_MIN(chunk_end(s, e, pos) - pos, (uint64_t)n);
		if (!piece(s, f, e, to, some, pos))
			return false;
		to += some;
		pos += some;
		n -= some;
	}
	return true;
}
