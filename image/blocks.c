#include "blocks.h"

#include "table.h"

#include <fcntl.h>
#include <pthread.h>

#define RAW_BIT (1u << 24)
#define FLUSH_BYTES (16u << 20)
#define MAX_POOL_BYTES (192u << 20) /* buffers of blocks in flight, whatever the number of CPUs */

enum job_kind { JOB_DATA, JOB_FRAGMENT, JOB_RUN_END };
enum job_state { FREE, QUEUED, WORKING, DONE };

struct job {
	enum job_kind kind;
	enum job_state state;
	struct img_file *file;
	uint32_t index; /* of the block in its file, or of the fragment */
	uint8_t *in, *out;
	uint32_t in_len, out_len; /* out_len 0 = stored raw */
	uint64_t hash;            /* of what goes to disk */
	int error;
};

struct tail { /* one stored tail */
	uint8_t sha[32];
	uint32_t len, frag, off;
};

struct img_blocks {
	struct img_place place;
	uint64_t pos;     /* next free byte */
	uint64_t flushed; /* what the disk was told to write already */
	uint32_t block_size;
	unsigned n_workers;
	pthread_t *threads;
	sqfs_compressor_t **codecs;

	pthread_mutex_t lock;
	pthread_cond_t work, done;
	bool stop;
	struct job *ring;
	size_t n_ring, head, next, tail; /* head: next to fill; next: next to work on; tail: next to write */

	struct img_file *file; /* being written */
	struct job *cur;       /* its block being filled */
	struct job frag_buf;   /* the fragment being filled */
	uint8_t *tail_buf;     /* the end of a file on its way into it */
	struct img_fragment *frags;
	uint32_t n_frags, cap_frags;
	struct vl_hash *sha;
	struct img_table tails, runs;
	struct tail **all_tails;
	size_t n_tails, cap_tails;
	struct img_blocks_stats stats;
};

/* ---- workers ---- */

static void compress(struct img_blocks *b, sqfs_compressor_t *codec, struct job *j)
{
	sqfs_s32 n = codec->do_block(codec, j->in, j->in_len, j->out, b->block_size);

	j->error = n < 0 ? n : 0;
	j->out_len = n > 0 ? (uint32_t)n : 0;
	j->hash = img_hash_bytes(j->out_len ? j->out : j->in, j->out_len ? j->out_len : j->in_len, 0);
}

struct worker_arg {
	struct img_blocks *b;
	unsigned i;
};

static void *work(void *p)
{
	struct worker_arg *w = p;
	struct img_blocks *b = w->b;
	sqfs_compressor_t *codec = b->codecs[w->i];

	free(w);
	pthread_mutex_lock(&b->lock);
	for (;;) {
		while (b->next == b->head && !b->stop)
			pthread_cond_wait(&b->work, &b->lock);
		if (b->next == b->head)
			break;
		struct job *j = &b->ring[b->next++ % b->n_ring];
		if (j->state != QUEUED)
			continue;
		j->state = WORKING;
		pthread_mutex_unlock(&b->lock);
		compress(b, codec, j);
		pthread_mutex_lock(&b->lock);
		j->state = DONE;
		if (j == &b->ring[b->tail % b->n_ring])
			pthread_cond_signal(&b->done);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* ---- what is done reaches the disk, in order ---- */

static int same_bytes(struct img_blocks *b, uint64_t x, uint64_t y, uint64_t n, bool *ret, struct vl_err *err)
{
	uint8_t bufs[2][16384];

	for (*ret = true; n && *ret;) {
		size_t k = VL_MIN(n, sizeof bufs[0]);
		int r = img_place_read(&b->place, bufs[0], k, x, err);
		if (r < 0 || (r = img_place_read(&b->place, bufs[1], k, y, err)) < 0)
			return r;
		*ret = memcmp(bufs[0], bufs[1], k) == 0;
		x += k;
		y += k;
		n -= k;
	}
	return 0;
}

static uint64_t run_length(const struct img_file *f)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < f->n_sizes; i++)
		n += f->sizes[i] & (RAW_BIT - 1);
	return n;
}

/* The blocks of a file are all written: were the same written before? Then those are taken and
 * the file position goes back. */
static int end_run(struct img_blocks *b, struct img_file *f, struct vl_err *err)
{
	uint64_t len = run_length(f), key = img_hash_bytes(f->sizes, f->n_sizes * sizeof *f->sizes, f->run_key);
	size_t at = SIZE_MAX;

	if (!len)
		return 0;
	for (struct img_file *g; (g = img_table_next(&b->runs, key, &at));) {
		bool same;
		if (g->n_sizes != f->n_sizes || memcmp(g->sizes, f->sizes, f->n_sizes * sizeof *f->sizes))
			continue;
		int r = same_bytes(b, g->start, f->start, len, &same, err);
		if (r < 0)
			return r;
		if (same) {
			b->pos = f->start;
			b->flushed = VL_MIN(b->flushed, b->pos);
			f->start = g->start;
			b->stats.dup_runs++;
			return 0;
		}
	}
	img_table_add(&b->runs, key, f);
	return 0;
}

static int store(struct img_blocks *b, struct job *j, struct vl_err *err)
{
	uint32_t len = j->out_len ? j->out_len : j->in_len;
	uint32_t word = j->out_len ? len : len | RAW_BIT;

	if (j->error)
		return vl_fail(err, EIO, "cannot compress a block: %s", img_sqfs_error(j->error));
	if (j->kind == JOB_FRAGMENT) {
		b->frags[j->index] = (struct img_fragment){ b->pos, word };
	} else {
		if (!j->file->start)
			j->file->start = b->pos;
		j->file->sizes[j->index] = word;
		j->file->run_key = img_mix(j->file->run_key ^ j->hash);
	}
	int r = img_place_write(&b->place, j->out_len ? j->out : j->in, len, b->pos, err);
	b->pos += len;
	b->stats.out += len;
	if (b->pos - b->flushed >= FLUSH_BYTES) {
		img_place_flush(&b->place, b->flushed, b->pos);
		b->flushed = b->pos;
	}
	return r;
}

/* Waits for the oldest job and writes it. */
static int retire(struct img_blocks *b, struct vl_err *err)
{
	struct job *j = &b->ring[b->tail % b->n_ring];
	int r;

	if (j->kind == JOB_RUN_END) {
		r = end_run(b, j->file, err);
	} else {
		pthread_mutex_lock(&b->lock);
		while (j->state != DONE)
			pthread_cond_wait(&b->done, &b->lock);
		pthread_mutex_unlock(&b->lock);
		r = store(b, j, err);
	}
	pthread_mutex_lock(&b->lock);
	j->state = FREE;
	b->tail++;
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* A job slot to fill; writes out old ones while there is none, and those that are done anyway. */
static int get_job(struct img_blocks *b, struct job **ret, struct vl_err *err)
{
	while (b->head - b->tail == b->n_ring) {
		int r = retire(b, err);
		if (r < 0)
			return r;
	}
	*ret = &b->ring[b->head % b->n_ring];
	return 0;
}

static void submit(struct img_blocks *b, struct job *j)
{
	pthread_mutex_lock(&b->lock);
	j->state = j->kind == JOB_RUN_END ? DONE : QUEUED;
	b->head++;
	pthread_cond_signal(&b->work);
	pthread_mutex_unlock(&b->lock);
}

/* ---- the front end ---- */

void img_blocks_begin(struct img_blocks *b, struct img_file *f)
{
	*f = (struct img_file){ .frag = IMG_NO_FRAGMENT, .stored = true };
	b->file = f;
}

static uint32_t *add_size(struct img_file *f)
{
	if (f->n_sizes == f->cap_sizes) {
		f->cap_sizes = f->cap_sizes ? f->cap_sizes * 2 : 4;
		f->sizes = vl_realloc(f->sizes, f->cap_sizes, sizeof *f->sizes);
	}
	return &f->sizes[f->n_sizes++];
}

static bool all_zero(const uint8_t *p, size_t n)
{
	return n && !*p && !memcmp(p, p + 1, n - 1);
}

static void add_hole(struct img_blocks *b)
{
	*add_size(b->file) = 0;
	b->file->sparse += b->block_size;
	b->stats.holes++;
}

static void submit_block(struct img_blocks *b)
{
	struct job *j = b->cur;

	b->cur = NULL;
	if (all_zero(j->in, j->in_len)) {
		add_hole(b);
		return; /* the slot was never submitted: it is the next one again */
	}
	j->kind = JOB_DATA;
	j->file = b->file;
	j->index = b->file->n_sizes;
	/* a file's list may grow and move while its blocks are in flight: only this thread touches it */
	*add_size(b->file) = 1;
	submit(b, j);
}

int img_blocks_write(struct img_blocks *b, const void *p, size_t n, struct vl_err *err)
{
	const uint8_t *s = p;

	b->file->size += n;
	b->stats.in += n;
	while (n) {
		if (!b->cur) {
			int r = get_job(b, &b->cur, err);
			if (r < 0)
				return r;
			b->cur->in_len = 0;
		}
		size_t k = VL_MIN(n, b->block_size - b->cur->in_len);
		memcpy(b->cur->in + b->cur->in_len, s, k);
		b->cur->in_len += (uint32_t)k;
		s += k;
		n -= k;
		if (b->cur->in_len == b->block_size)
			submit_block(b);
	}
	return 0;
}

int img_blocks_zeros(struct img_blocks *b, uint64_t n, struct vl_err *err)
{
	static const uint8_t zeros[4096];

	while (n) {
		if (!b->cur && n >= b->block_size) { /* whole holes are free */
			add_hole(b);
			b->file->size += b->block_size;
			n -= b->block_size;
			continue;
		}
		size_t k = VL_MIN(n, sizeof zeros);
		int r = img_blocks_write(b, zeros, k, err);
		if (r < 0)
			return r;
		n -= k;
	}
	return 0;
}

static int flush_fragment(struct img_blocks *b, struct vl_err *err)
{
	struct job *j;

	if (!b->frag_buf.in_len)
		return 0;
	int r = get_job(b, &j, err);
	if (r < 0)
		return r;
	/* swap buffers with the slot instead of copying */
	uint8_t *in = j->in;
	j->in = b->frag_buf.in;
	j->in_len = b->frag_buf.in_len;
	b->frag_buf.in = in;
	b->frag_buf.in_len = 0;
	j->kind = JOB_FRAGMENT;
	j->file = NULL;
	j->index = b->n_frags - 1;
	submit(b, j);
	return 0;
}

static void remember_tail(struct img_blocks *b, const struct tail *t, uint64_t key)
{
	if (b->n_tails == b->cap_tails) {
		b->cap_tails = b->cap_tails ? b->cap_tails * 2 : 1024;
		b->all_tails = vl_realloc(b->all_tails, b->cap_tails, sizeof *b->all_tails);
	}
	b->all_tails[b->n_tails] = vl_memdup(t, sizeof *t);
	img_table_add(&b->tails, key, b->all_tails[b->n_tails++]);
}

/* The rest of a file, less than a block: into the current fragment, unless it is stored already. */
static int store_tail(struct img_blocks *b, const uint8_t *p, uint32_t len, struct vl_err *err)
{
	struct tail t = { .len = len };
	uint8_t digest[VL_HASH_MAX];
	uint64_t key;
	size_t at = SIZE_MAX;

	vl_hash_update(b->sha, p, len);
	vl_hash_final(b->sha, digest);
	memcpy(t.sha, digest, sizeof t.sha);
	memcpy(&key, digest, sizeof key);
	for (const struct tail *old; (old = img_table_next(&b->tails, key, &at));)
		if (old->len == len && !memcmp(old->sha, t.sha, sizeof t.sha)) {
			b->file->frag = old->frag;
			b->file->frag_off = old->off;
			b->stats.dup_tails++;
			return 0;
		}
	if (b->frag_buf.in_len + len > b->block_size) {
		int r = flush_fragment(b, err);
		if (r < 0)
			return r;
	}
	if (!b->frag_buf.in_len) {
		if (b->n_frags == b->cap_frags) {
			b->cap_frags = b->cap_frags ? b->cap_frags * 2 : 256;
			b->frags = vl_realloc(b->frags, b->cap_frags, sizeof *b->frags);
		}
		b->n_frags++;
	}
	t.frag = b->n_frags - 1;
	t.off = b->frag_buf.in_len;
	memcpy(b->frag_buf.in + t.off, p, len);
	b->frag_buf.in_len += len;
	b->file->frag = t.frag;
	b->file->frag_off = t.off;
	remember_tail(b, &t, key);
	return 0;
}

int img_blocks_end(struct img_blocks *b, struct vl_err *err)
{
	struct img_file *f = b->file;
	uint32_t len = b->cur ? b->cur->in_len : 0;
	int r = 0;

	if (len) { /* keep the tail aside: the slot it was gathered in is taken next */
		uint8_t *in = b->cur->in;
		b->cur->in = b->tail_buf;
		b->tail_buf = in;
	}
	b->cur = NULL;
	if (f->n_sizes) {
		/* before the tail: nothing may come between the blocks of a run and its end, which
		 * may take the run back */
		struct job *j;
		if ((r = get_job(b, &j, err)) < 0)
			return r;
		j->kind = JOB_RUN_END;
		j->file = f;
		submit(b, j);
	}
	if (len)
		r = store_tail(b, b->tail_buf, len, err);
	b->file = NULL;
	return r;
}

int img_blocks_finish(struct img_blocks *b, uint64_t *ret_end, const struct img_fragment **ret_frags, uint32_t *ret_n,
		      struct vl_err *err)
{
	int r = flush_fragment(b, err);

	while (r == 0 && b->tail != b->head)
		r = retire(b, err);
	if (r < 0)
		return r;
	*ret_end = b->pos;
	*ret_frags = b->frags;
	*ret_n = b->n_frags;
	return 0;
}

const struct img_blocks_stats *img_blocks_stats(const struct img_blocks *b)
{
	return &b->stats;
}

/* ---- life ---- */

static int start_workers(struct img_blocks *b, const struct img_codec *codec, unsigned workers, struct vl_err *err)
{
	b->threads = vl_alloc(workers * sizeof *b->threads);
	b->codecs = vl_alloc(workers * sizeof(sqfs_compressor_t *));
	for (unsigned i = 0; i < workers; i++) {
		b->codecs[i] = sqfs_copy(codec->c);
		if (!b->codecs[i])
			return vl_fail(err, ENOMEM, "cannot set up compressor %u of %u", i + 1, workers);
		struct worker_arg *w = vl_alloc(sizeof *w);
		*w = (struct worker_arg){ b, i };
		int r = pthread_create(&b->threads[i], NULL, work, w);
		if (r) {
			free(w);
			return vl_fail_sys(err, r, "cannot start thread %u of %u", i + 1, workers);
		}
		b->n_workers = i + 1;
	}
	return 0;
}

int img_blocks_new(const struct img_place *place, uint64_t first, const struct img_codec *codec, uint32_t block_size,
		   unsigned workers, struct img_blocks **ret, struct vl_err *err)
{
	struct img_blocks *b = vl_alloc(sizeof *b);
	size_t fit = MAX_POOL_BYTES / (2 * (size_t)block_size);

	b->place = *place;
	b->pos = first;
	b->block_size = block_size;
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->done, NULL);
	workers = VL_MAX(1u, VL_MIN(workers, (unsigned)fit / 2));
	b->n_ring = VL_MAX(VL_MIN((size_t)workers * 8 + 8, fit), 4u);
	b->ring = vl_alloc(b->n_ring * sizeof *b->ring);
	for (size_t i = 0; i < b->n_ring; i++) {
		b->ring[i].in = vl_alloc(block_size);
		b->ring[i].out = vl_alloc(block_size);
	}
	b->frag_buf.in = vl_alloc(block_size);
	b->tail_buf = vl_alloc(block_size);
	int r = vl_hash_new("sha256", &b->sha, err);
	if (r == 0)
		r = start_workers(b, codec, workers, err);
	if (r < 0) {
		img_blocks_free(b);
		return r;
	}
	*ret = b;
	return 0;
}

void img_blocks_free(struct img_blocks *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	b->stop = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < b->n_workers; i++)
		pthread_join(b->threads[i], NULL);
	for (unsigned i = 0; b->codecs && i < b->n_workers; i++)
		sqfs_destroy(b->codecs[i]);
	for (size_t i = 0; i < b->n_ring; i++) {
		free(b->ring[i].in);
		free(b->ring[i].out);
	}
	for (size_t i = 0; i < b->n_tails; i++)
		free(b->all_tails[i]);
	free(b->all_tails);
	free(b->ring);
	free(b->frag_buf.in);
	free(b->tail_buf);
	free(b->frags);
	free(b->threads);
	free(b->codecs);
	img_table_free(&b->tails);
	img_table_free(&b->runs);
	vl_hash_free(b->sha);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->work);
	pthread_cond_destroy(&b->done);
	free(b);
}
