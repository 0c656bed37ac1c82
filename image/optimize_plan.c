/* Which blocks are written first, and uncompressed. Every number of the image is a claim until it was compared. */
#include "optimize.h"

#define NO_LIMIT (16ull << 40) /* bytes of all files: holes only cost words of block lists, which are counted */

/* ---- the tree ---- */

static struct img_xattrs *copy_xattrs(const struct img_xattrs *x)
{
	if (!x)
		return NULL;
	struct img_xattrs *c = vl_alloc(sizeof *c + x->n * sizeof *c->a);
	c->n = x->n;
	for (size_t i = 0; i < x->n; i++)
		c->a[i] = (struct img_xattr){ .key = vl_strdup(x->a[i].key),
					      .value = vl_memdup(x->a[i].value, x->a[i].len),
					      .len = x->a[i].len };
	return c;
}

static size_t find_ref(const struct optimizing *w, uint64_t ref)
{
	size_t at = SIZE_MAX;

	for (void *p; (p = img_table_next(&w->by_ref, img_mix(ref + 1), &at));)
		if (w->refs[(uintptr_t)p - 1] == ref)
			return (uintptr_t)p - 1;
	return SIZE_MAX;
}

static int take_entry(void *arg, const struct img_unsquash_entry *u, struct vl_err *err)
{
	struct optimizing *w = arg;
	size_t old = find_ref(w, u->ref);
	int r = img_spend(&w->budget.meta_bytes, strlen(u->path) + (u->target ? strlen(u->target) : 0),
			  "bytes of names", err);

	if (r < 0)
		return r;
	struct img_entry *e = img_log_add(&w->log);
	size_t i = w->log.n - 1;
	if (i == w->refs_cap) {
		w->refs_cap = VL_MAX(2 * i, (size_t)256);
		w->refs = vl_realloc(w->refs, w->refs_cap, sizeof *w->refs);
	}
	w->refs[i] = u->ref;
	e->path = vl_strdup(u->path);
	e->seq = (uint32_t)w->log.n;
	if (old != SIZE_MAX) {
		e->type = IMG_HARDLINK;
		e->target = vl_strdup(w->log.e[old].path);
		return IMG_UNSQUASH_SKIP;
	}
	img_table_add(&w->by_ref, img_mix(u->ref + 1), (void *)(uintptr_t)(i + 1));
	e->type = u->type;
	e->attr = u->attr;
	e->target = u->target ? vl_strdup(u->target) : NULL;
	e->xattrs = copy_xattrs(u->xattrs);
	return 0;
}

static int wrong(const struct img_entry *e, const char *what, struct vl_err *err)
{
	VL_FREE char *path = vl_printable(e->path, strlen(e->path));

	return vl_fail(err, EINVAL, "the squashfs is damaged: %s, at /%s", what, path);
}

static int take_layout(void *arg, const struct img_file *f, struct vl_err *err)
{
	struct optimizing *w = arg;
	struct img_entry *e = &w->log.e[w->log.n - 1];
	uint64_t bytes = 0;

	for (size_t i = 0; i < f->n_sizes; i++) {
		if (opt_bytes(f->sizes[i]) > w->h->block_size || f->sizes[i] >> 25)
			return wrong(e, "a block is larger than blocks are", err);
		bytes += opt_bytes(f->sizes[i]);
	}
	if (bytes && (f->start < 96 || f->start > w->h->data_end || bytes > w->h->data_end - f->start))
		return wrong(e, "its blocks lie outside of the data", err);
	if (f->frag != IMG_NO_FRAGMENT && f->frag >= w->h->n_fragments)
		return wrong(e, "it ends in a fragment that does not exist", err);
	e->file = vl_alloc(sizeof *e->file);
	*e->file = *f;
	e->file->start = bytes ? f->start : 0;
	e->file->sizes = f->n_sizes ? vl_memdup(f->sizes, f->n_sizes * sizeof *f->sizes) : NULL;
	e->file->cap_sizes = f->n_sizes;
	e->file->run_key = img_hash_bytes(f->sizes, f->n_sizes * sizeof *f->sizes, f->start);
	e->file->stored = true;
	return 0;
}

int img_optimize_read(struct optimizing *w, struct vl_err *err)
{
	struct img_unsquash_visitor v = { .entry = take_entry, .layout = take_layout, .arg = w };
	const struct sif_descr *d = w->o->partition;
	int r;

	w->budget = img_budget_new(NO_LIMIT);
	if ((r = img_unsquash_open(w->in, d->off, d->size, NO_LIMIT, &w->u, err)) < 0)
		return r;
	w->h = img_unsquash_head(w->u);
	return img_unsquash_walk(w->u, &v, err);
}

/* ---- what is hot ---- */

/* Files of equal content share their blocks: they stay shared. */
struct opt_run *img_optimize_run(const struct optimizing *w, const struct img_file *f)
{
	size_t at = SIZE_MAX;

	for (struct opt_run *r; f->start && (r = img_table_next(&w->runs, f->run_key, &at));)
		if (r->f == f || (r->f->start == f->start && r->f->n_sizes == f->n_sizes &&
				  !memcmp(r->f->sizes, f->sizes, f->n_sizes * sizeof *f->sizes)))
			return r;
	return NULL;
}

uint32_t img_optimize_tail_size(const struct optimizing *w, const struct img_file *f)
{
	return f->frag == IMG_NO_FRAGMENT ? 0 : (uint32_t)(f->size % w->h->block_size);
}

static uint64_t tail_key(const struct img_file *f, uint32_t len)
{
	return img_mix(((uint64_t)f->frag << 32 | f->frag_off) + 1) ^ img_mix(len);
}

struct opt_tail *img_optimize_tail(const struct optimizing *w, const struct img_file *f)
{
	size_t at = SIZE_MAX;
	uint32_t len = img_optimize_tail_size(w, f);

	for (struct opt_tail *t; len && (t = img_table_next(&w->tails, tail_key(f, len), &at));)
		if (t->frag == f->frag && t->off == f->frag_off && t->len == len)
			return t;
	return NULL;
}

static void add_step(struct optimizing *w, struct opt_step s)
{
	if (w->n_steps == w->steps_cap) {
		w->steps_cap = VL_MAX(2 * w->n_steps, (size_t)64);
		w->steps = vl_realloc(w->steps, w->steps_cap, sizeof *w->steps);
	}
	w->steps[w->n_steps++] = s;
}

static bool afford(struct optimizing *w, uint64_t bytes)
{
	if (w->stats.bytes + bytes > w->o->limit) {
		w->stats.left_out += bytes;
		return false;
	}
	w->stats.bytes += bytes;
	w->stats.blocks++;
	return true;
}

static uint64_t run_bytes(const struct img_file *f)
{
	uint64_t n = 0;

	for (size_t i = 0; i < f->n_sizes; i++)
		n += opt_bytes(f->sizes[i]);
	return n;
}

/* *moved: what all hot runs have on disk. They are copied each, and a damaged image may have them overlap: no more than
 * the image has bytes. */
static void choose_block(struct optimizing *w, const struct img_file *f, uint32_t block, uint64_t *moved)
{
	struct opt_run *r = img_optimize_run(w, f);

	if (!opt_bytes(f->sizes[block]) || (r && r->hot[block]))
		return;
	if (!r && run_bytes(f) > w->h->data_end - *moved)
		return;
	if (!afford(w, VL_MIN((uint64_t)w->h->block_size, f->size - (uint64_t)block * w->h->block_size)))
		return;
	if (!r) {
		r = vl_alloc(sizeof *r);
		*r = (struct opt_run){ .f = f, .hot = vl_alloc(f->n_sizes) };
		img_table_add(&w->runs, f->run_key, r);
		add_step(w, (struct opt_step){ .run = r });
		*moved += run_bytes(f);
	}
	r->hot[block] = true;
}

static void choose_tail(struct optimizing *w, const struct img_file *f)
{
	uint32_t len = img_optimize_tail_size(w, f);

	if (!len || img_optimize_tail(w, f) || !afford(w, len))
		return;
	struct opt_tail *t = vl_alloc(sizeof *t);
	*t = (struct opt_tail){ .frag = f->frag, .off = f->frag_off, .len = len };
	img_table_add(&w->tails, tail_key(f, len), t);
	add_step(w, (struct opt_step){ .tail = t });
}

int img_optimize_choose(struct optimizing *w, struct vl_err *err)
{
	VL_FREE bool *seen = vl_alloc(w->log.n);
	uint64_t moved = 0;

	w->first = vl_alloc((w->log.n + 1) * sizeof *w->first);
	for (size_t k = 0; k < w->o->n_reads; k++) {
		const struct img_read *read = &w->o->reads[k];
		size_t i = find_ref(w, read->inode);
		if (i == SIZE_MAX)
			return vl_fail(err, EINVAL, "the profile is of another image: it has no inode %llx",
				       (unsigned long long)read->inode);
		if (!seen[i]) {
			seen[i] = true;
			w->first[w->n_first++] = i;
		}
		const struct img_file *f = w->log.e[i].file;
		if (f && read->block < f->n_sizes)
			choose_block(w, f, read->block, &moved);
		else if (f && read->block == f->n_sizes)
			choose_tail(w, f);
	}
	return 0;
}
