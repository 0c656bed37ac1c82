/* Hot blocks first, in the order of their first read and uncompressed; then everything else, as it was. */
#include "optimize.h"

#define CHUNK (1u << 20)

/* ---- hot ---- */

static int put(struct optimizing *w, const void *p, size_t n, struct vl_err *err)
{
	int r = vl_pwrite_full(w->out, p, n, w->out_base + w->end, "the image", err);

	if (r == 0)
		w->end += n;
	return r;
}

static int write_block(struct optimizing *w, uint64_t from, uint32_t *word, bool hot, void *buf, struct vl_err *err)
{
	uint32_t n = opt_bytes(*word);
	int r;

	if (hot && !(*word & OPT_PLAIN)) {
		if ((r = img_unsquash_block(w->u, from, *word, buf, &n, err)) < 0)
			return r;
		*word = n | OPT_PLAIN;
	} else if ((r = vl_pread_full(w->in, buf, n, w->in_base + from, "the image", err)) < 0) {
		return r;
	}
	return put(w, buf, n, err);
}

/* Blocks of a file follow each other in squashfs: those nobody read go along, compressed as they are. */
static int write_run(struct optimizing *w, struct opt_run *r, void *buf, struct vl_err *err)
{
	uint64_t from = r->f->start;

	r->start = w->end;
	r->sizes = vl_memdup(r->f->sizes, r->f->n_sizes * sizeof *r->sizes);
	for (size_t i = 0; i < r->f->n_sizes; i++) {
		uint32_t on_disk = opt_bytes(r->f->sizes[i]);
		int e = on_disk ? write_block(w, from, &r->sizes[i], r->hot[i], buf, err) : 0;
		if (e < 0)
			return e;
		from += on_disk;
	}
	return 0;
}

struct packing { /* tails into fragments of their own */
	uint8_t *buf, *old;
	uint32_t used;
	uint32_t old_frag, old_len; /* which fragment is in old */
};

static void add_fragment(struct optimizing *w, uint64_t start, uint32_t word)
{
	w->frags[w->n_frags++] = (struct img_fragment){ start, word };
}

static int flush_tails(struct optimizing *w, struct packing *p, struct vl_err *err)
{
	if (!p->used)
		return 0;
	add_fragment(w, w->end, p->used | OPT_PLAIN);
	int r = put(w, p->buf, p->used, err);
	p->used = 0;
	return r;
}

static int write_tail(struct optimizing *w, struct opt_tail *t, struct packing *p, struct vl_err *err)
{
	const struct img_fragment *f = &w->h->fragments[t->frag];
	int r;

	if (p->old_frag != t->frag) {
		p->old_frag = IMG_NO_FRAGMENT;
		if ((r = img_unsquash_block(w->u, f->start, f->size, p->old, &p->old_len, err)) < 0)
			return r;
		p->old_frag = t->frag;
	}
	if (t->off > p->old_len || t->len > p->old_len - t->off)
		return vl_fail(err, EINVAL, "the squashfs is damaged: a file lies outside of its fragment");
	if (p->used + t->len > w->h->block_size && (r = flush_tails(w, p, err)) < 0)
		return r;
	memcpy(p->buf + p->used, p->old + t->off, t->len);
	t->new_frag = w->n_frags;
	t->new_off = p->used;
	p->used += t->len;
	return 0;
}

static int write_hot(struct optimizing *w, struct vl_err *err)
{
	uint32_t block = w->h->block_size;
	VL_FREE uint8_t *buf = vl_alloc(block), *tails = vl_alloc(block), *old = vl_alloc(block);
	struct packing p = { tails, old, 0, IMG_NO_FRAGMENT, 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < w->n_steps; i++) {
		const struct opt_step *s = &w->steps[i];
		r = s->run ? write_run(w, s->run, buf, err) : write_tail(w, s->tail, &p, err);
		vl_progress_step(w->progress, "optimizing", i, w->n_steps);
	}
	return r < 0 ? r : flush_tails(w, &p, err);
}

/* ---- the rest ---- */

struct pieces {
	struct opt_piece *v;
	size_t n, cap;
};

static void add_piece(struct pieces *l, uint64_t from, uint64_t len)
{
	if (!len)
		return;
	if (l->n == l->cap) {
		l->cap = VL_MAX(2 * l->n, (size_t)256);
		l->v = vl_realloc(l->v, l->cap, sizeof *l->v);
	}
	l->v[l->n++] = (struct opt_piece){ from, len, 0 };
}

static int by_place(const void *a, const void *b)
{
	const struct opt_piece *x = a, *y = b;

	return x->from < y->from ? -1 : x->from > y->from;
}

/* In order, and no byte twice: blocks may be shared in part, too. */
static void merge_pieces(struct pieces *l)
{
	size_t n = 0;

	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_place);
	for (size_t i = 0; i < l->n; i++) {
		struct opt_piece *last = n ? &l->v[n - 1] : NULL, *p = &l->v[i];
		if (last && p->from <= last->from + last->len)
			last->len = VL_MAX(last->len, p->from + p->len - last->from);
		else
			l->v[n++] = *p;
	}
	l->n = n;
}

static int copy_piece(struct optimizing *w, struct opt_piece *p, void *buf, struct vl_err *err)
{
	p->to = w->end;
	for (uint64_t at = 0; at < p->len;) {
		off_t from = (off_t)(w->in_base + p->from + at), to = (off_t)(w->out_base + w->end);
		size_t want = (size_t)VL_MIN(p->len - at, (uint64_t)CHUNK * 64);
		ssize_t n = copy_file_range(w->in, &from, w->out, &to, want, 0);
		if (n > 0) {
			w->end += (uint64_t)n;
		} else { /* not between these file systems */
			n = (ssize_t)VL_MIN(want, (size_t)CHUNK);
			int r = vl_pread_full(w->in, buf, (size_t)n, (uint64_t)from, "the image", err);
			if (r < 0 || (r = put(w, buf, (size_t)n, err)) < 0)
				return r;
		}
		at += (uint64_t)n;
	}
	return 0;
}

static void free_pieces(struct pieces *l)
{
	free(l->v);
}

static uint64_t moved_to(const struct pieces *l, uint64_t from)
{
	size_t low = 0, high = l->n;

	if (!high) /* nothing was moved */
		return from;
	while (high - low > 1) {
		size_t mid = low + (high - low) / 2;
		if (l->v[mid].from <= from)
			low = mid;
		else
			high = mid;
	}
	return l->v[low].to + (from - l->v[low].from);
}

static uint64_t bytes_of(const struct img_file *f)
{
	uint64_t n = 0;

	for (size_t i = 0; i < f->n_sizes; i++)
		n += opt_bytes(f->sizes[i]);
	return n;
}

/* What no hot copy replaces; *used: fragments that some file still has its end in. */
static int find_rest(struct optimizing *w, struct pieces *l, bool *used, struct vl_err *err)
{
	for (size_t i = 0; i < w->log.n; i++) {
		const struct img_file *f = w->log.e[i].file;
		if (!f)
			continue;
		if (!img_optimize_run(w, f))
			add_piece(l, f->start, bytes_of(f));
		if (img_optimize_tail_size(w, f) && !img_optimize_tail(w, f))
			used[f->frag] = true;
	}
	for (uint32_t i = 0; i < w->h->n_fragments; i++) {
		const struct img_fragment *f = &w->h->fragments[i];
		if (!used[i])
			continue;
		if (opt_bytes(f->size) > w->h->block_size || f->start < 96 || f->start > w->h->data_end ||
		    opt_bytes(f->size) > w->h->data_end - f->start || f->size >> 25)
			return vl_fail(err, EINVAL, "the squashfs is damaged: a fragment lies outside of the data");
		add_piece(l, f->start, opt_bytes(f->size));
	}
	merge_pieces(l);
	return 0;
}

static void tell_file(struct optimizing *w, struct img_file *f, const struct opt_run *run, const struct opt_tail *tail,
		      const struct pieces *rest, const uint32_t *new_frag)
{
	if (run) {
		f->start = run->start;
		memcpy(f->sizes, run->sizes, f->n_sizes * sizeof *f->sizes);
	} else if (f->start) {
		f->start = moved_to(rest, f->start);
	}
	if (tail) {
		f->frag = tail->new_frag;
		f->frag_off = tail->new_off;
	} else if (img_optimize_tail_size(w, f)) {
		f->frag = new_frag[f->frag];
	}
}

/* All are looked up first: the tables are keyed by the old places. */
static void tell_files(struct optimizing *w, const struct pieces *rest, const uint32_t *new_frag)
{
	VL_FREE struct opt_step *hot = vl_alloc((w->log.n + 1) * sizeof *hot);

	for (size_t i = 0; i < w->log.n; i++) {
		const struct img_file *f = w->log.e[i].file;
		if (f)
			hot[i] = (struct opt_step){ img_optimize_run(w, f), img_optimize_tail(w, f) };
	}
	for (size_t i = 0; i < w->log.n; i++)
		if (w->log.e[i].file)
			tell_file(w, w->log.e[i].file, hot[i].run, hot[i].tail, rest, new_frag);
}

static int write_rest(struct optimizing *w, struct vl_err *err)
{
	uint32_t n = w->h->n_fragments;
	VL_FREE bool *used = vl_alloc(n + 1ull);
	VL_FREE uint32_t *new_frag = vl_alloc((n + 1ull) * sizeof *new_frag);
	VL_FREE uint8_t *buf = vl_alloc(CHUNK);
	VL_CLEANUP(free_pieces) struct pieces l = { 0 };
	int r = find_rest(w, &l, used, err);

	for (size_t i = 0; r == 0 && i < l.n; i++) {
		r = copy_piece(w, &l.v[i], buf, err);
		vl_progress_step(w->progress, "copying", l.v[i].from, w->h->data_end);
	}
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		if (used[i]) {
			new_frag[i] = w->n_frags;
			add_fragment(w, moved_to(&l, w->h->fragments[i].start), w->h->fragments[i].size);
		}
	tell_files(w, &l, new_frag);
	return 0;
}

int img_optimize_data(struct optimizing *w, uint64_t first, struct vl_err *err)
{
	/* a tail is never split, so each new fragment has one at least */
	w->frags = vl_alloc((w->h->n_fragments + w->n_steps + 1) * sizeof *w->frags);
	w->end = first;
	int r = write_hot(w, err);
	if (r < 0)
		return r;
	w->stats.region = w->end - first;
	return write_rest(w, err);
}

void img_optimize_free(struct optimizing *w)
{
	for (size_t i = 0; i < w->n_steps; i++) {
		if (w->steps[i].run) {
			free(w->steps[i].run->hot);
			free(w->steps[i].run->sizes);
		}
		free(w->steps[i].run);
		free(w->steps[i].tail);
	}
	img_table_free(&w->runs);
	img_table_free(&w->tails);
	img_table_free(&w->by_ref);
	free(w->steps);
	free(w->first);
	free(w->refs);
	free(w->frags);
	img_log_free(&w->log);
	img_unsquash_free(w->u);
}
