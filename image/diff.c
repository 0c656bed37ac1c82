/* Two trees side by side. Both are listed first, which takes memory for each name and none for content; the lists are
 * in one order, so that they are compared in one pass. */
#include "child.h"
#include "record.h"
#include "tree_src.h"

#include <signal.h>

struct side {
	struct img_src *src;
	struct img_log log; /* paths from the root of the image */
	char *top;
	struct vl_err *err;
};

struct diffing {
	const struct img_root *roots;
	struct img_child *child;
	struct img_record_in in;
	struct img_record_out out;
	struct side side[2];
};

/* ---- listing ---- */

static struct img_xattrs *copy_xattrs(const struct img_xattrs *x)
{
	if (!x || !x->n)
		return NULL;
	struct img_xattrs *c = vl_alloc(sizeof *c + x->n * sizeof c->a[0]);
	for (; c->n < x->n; c->n++)
		c->a[c->n] = (struct img_xattr){ vl_strdup(x->a[c->n].key), vl_memdup(x->a[c->n].value, x->a[c->n].len),
						 x->a[c->n].len };
	return c;
}

static int list_entry(void *arg, const struct img_unsquash_entry *in, struct vl_err *err)
{
	struct side *s = arg;
	struct img_entry *e = img_log_add(&s->log);

	(void)err;
	e->path = vl_strdup(in->path);
	e->target = in->target ? vl_strdup(in->target) : NULL;
	e->xattrs = copy_xattrs(in->xattrs);
	e->attr = in->attr;
	e->type = in->type;
	if (in->type == IMG_FILE) {
		e->file = vl_alloc(sizeof *e->file);
		e->file->size = in->size;
	}
	return 0;
}

static int list_layout(void *arg, const struct img_file *f, struct vl_err *err)
{
	struct side *s = arg;
	struct img_file *to = s->log.e[s->log.n - 1].file;

	(void)err;
	*to = *f;
	to->sizes = f->n_sizes ? vl_memdup(f->sizes, f->n_sizes * sizeof *f->sizes) : NULL;
	return 0;
}

static int list_side(struct diffing *w, unsigned i, struct vl_err *err)
{
	struct side *s = &w->side[i];
	struct img_src_walk walk = { .depth = UINT32_MAX, .entry = list_entry, .content = list_layout, .arg = s };
	int r;

	if ((r = img_src_open(&w->roots[i], &s->src, err)) < 0 ||
	    (r = img_src_find(s->src, w->roots[i].path, true, &s->top, err)) < 0)
		return r;
	walk.top = s->top;
	return img_src_walk(s->src, &walk, err);
}

/* ---- comparing ---- */

/* From where the comparison began. */
static const char *below(const struct side *s, const struct img_entry *e)
{
	const char *p = e->path + strlen(s->top);
	return p + (*p == '/');
}

/* The order of a walk: '/' comes before every other byte, or "a/b" would come after "a-". */
static int order(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	int x = *a == '/' ? 1 : (unsigned char)*a + (*a != 0), y = *b == '/' ? 1 : (unsigned char)*b + (*b != 0);
	return x - y;
}

static int compare_rest(struct img_content *a, struct img_content *b, bool *ret_same, struct vl_err *err)
{
	static const uint8_t zeros[4096];
	const uint8_t *p = NULL, *q = NULL;
	size_t n = 0, m = 0;
	int r;

	for (;;) {
		if (!n && (r = img_content_next(a, &p, &n, err)) < 0)
			return r;
		if (!m && (r = img_content_next(b, &q, &m, err)) < 0)
			return r;
		if (!n || !m)
			break;
		size_t k = VL_MIN(n, m);
		if (!p || !q)
			k = VL_MIN(k, sizeof zeros);
		if ((p || q) && memcmp(p ? p : zeros, q ? q : zeros, k) != 0)
			return 0;
		p = p ? p + k : NULL;
		q = q ? q + k : NULL;
		n -= k;
		m -= k;
	}
	*ret_same = n == m;
	return 0;
}

static int same_content(struct diffing *w, const struct img_entry *x, const struct img_entry *y, bool *ret,
			struct vl_err *err)
{
	struct img_content a = IMG_CONTENT_NONE, b = IMG_CONTENT_NONE;
	int r;

	*ret = false;
	if ((r = img_content_open(w->side[0].src, x->path, x->file, &a, err)) == 0 &&
	    (r = img_content_open(w->side[1].src, y->path, y->file, &b, err)) == 0 &&
	    (r = img_content_skip_same(&a, &b, err)) == 0)
		r = compare_rest(&a, &b, ret, err);
	img_content_close(&a);
	img_content_close(&b);
	if (r == 0)
		return 0;
	VL_FREE char *shown = vl_printable(x->path, strlen(x->path));
	return vl_wrap(err, "/%s", shown);
}

/* Names are told apart by their text: the order says nothing. */
static bool has_xattr(const struct img_xattrs *x, const struct img_xattr *a)
{
	for (size_t i = 0; i < x->n; i++)
		if (vl_streq(x->a[i].key, a->key))
			return x->a[i].len == a->len && !memcmp(x->a[i].value, a->value, a->len);
	return false;
}

static bool same_xattrs(const struct img_xattrs *x, const struct img_xattrs *y)
{
	size_t n = x ? x->n : 0, m = y ? y->n : 0;

	for (size_t i = 0; n == m && i < n; i++)
		if (!has_xattr(y, &x->a[i]))
			return false;
	return n == m;
}

static int compare(struct diffing *w, const struct img_entry *x, const struct img_entry *y, unsigned *ret,
		   struct vl_err *err)
{
	bool device = x->type == IMG_CHAR_DEV || x->type == IMG_BLOCK_DEV, same = true;
	unsigned what = 0;

	if (x->type != y->type) {
		*ret = IMG_DIFF_TYPE;
		return 0;
	}
	if (x->attr.mode != y->attr.mode && x->type != IMG_SYMLINK) /* Linux knows no mode of a link */
		what |= IMG_DIFF_MODE;
	if (x->attr.uid != y->attr.uid || x->attr.gid != y->attr.gid)
		what |= IMG_DIFF_OWNER;
	if (device && (x->attr.major != y->attr.major || x->attr.minor != y->attr.minor))
		what |= IMG_DIFF_DEVICE;
	if (x->target && !vl_streq(x->target, y->target))
		what |= IMG_DIFF_TARGET;
	if (!same_xattrs(x->xattrs, y->xattrs))
		what |= IMG_DIFF_XATTRS;
	if (x->file && x->file->size != y->file->size) {
		what |= IMG_DIFF_SIZE;
	} else if (x->file) {
		int r = same_content(w, x, y, &same, err);
		if (r < 0)
			return r;
		what |= same ? 0 : IMG_DIFF_CONTENT;
	}
	*ret = what;
	return 0;
}

static struct img_unsquash_entry as_entry(const struct side *s, const struct img_entry *e)
{
	return (struct img_unsquash_entry){ .path = below(s, e),
					    .target = e->target,
					    .xattrs = e->xattrs,
					    .attr = e->attr,
					    .size = e->file ? e->file->size : 0,
					    .nlink = 1,
					    .type = e->type };
}

static int tell(struct diffing *w, unsigned what, const struct img_entry *x, const struct img_entry *y,
		struct vl_err *err)
{
	struct img_unsquash_entry a = { 0 }, b = { 0 };

	if (x)
		a = as_entry(&w->side[0], x);
	if (y)
		b = as_entry(&w->side[1], y);
	return img_record_diff(&w->out, what, x ? &a : NULL, y ? &b : NULL, err);
}

static int merge(struct diffing *w, struct vl_err *err)
{
	const struct img_log *a = &w->side[0].log, *b = &w->side[1].log;
	size_t i = 0, j = 0;
	int r = 0;

	while (r == 0 && (i < a->n || j < b->n)) {
		const struct img_entry *x = i < a->n ? &a->e[i] : NULL, *y = j < b->n ? &b->e[j] : NULL;
		int o = !x ? 1 : !y ? -1 : order(below(&w->side[0], x), below(&w->side[1], y));
		unsigned what = 0;
		if (o == 0 && (r = compare(w, x, y, &what, err)) == 0 && what)
			r = tell(w, what, x, y, err);
		else if (o != 0)
			r = tell(w, 0, o < 0 ? x : NULL, o < 0 ? NULL : y, err);
		i += o <= 0;
		j += o >= 0;
	}
	return r;
}

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	struct diffing *w = arg;
	struct vl_err late = { 0 };
	int r = 0;

	(void)sock, (void)p, (void)result;
	signal(SIGPIPE, SIG_IGN);
	vl_raise_file_limit();
	w->out.fd = w->child->pipe;
	/* two directories are the host's own; beside an image nothing is held, and root then reads what modes allow */
	if (!w->roots[0].dir || !w->roots[1].dir)
		r = vl_drop_privileges(err);
	if (r < 0 || (r = list_side(w, 0, err)) < 0 || (r = list_side(w, 1, err)) < 0)
		return r;
	r = merge(w, err);
	int flushed = img_record_flush(&w->out, &late);
	if (r == 0 && flushed < 0)
		*err = late;
	close(w->out.fd);
	return r < 0 ? r : flushed;
}

static int take_written(void *arg, int fd, bool *ret_end, struct vl_err *err)
{
	struct diffing *w = arg;

	return img_record_read(&w->in, fd, w->child->name, ret_end, err);
}

int img_diff(const struct img_root roots[2], img_diff_fn *f, void *arg, int *ret_signal, struct vl_err *err)
{
	struct diffing w = { .roots = roots, .in = { .diff = f, .diff_arg = arg } };
	struct img_child child = {
		.name = "comparing", .interrupted = "stopped", .work = work, .written = take_written, .arg = &w
	};

	w.child = &child;
	int r = img_child_run(&child, NULL, NULL, ret_signal, err);
	if (r == 0)
		r = img_record_end(&w.in, err);
	img_record_free(&w.in);
	return r;
}
