/* What is in an image, for ls, cat and cp. The child reads, the parent acts: what parses the image holds nothing, and
 * what may write gets names and bytes only. */
#include "child.h"
#include "record.h"
#include "tree_src.h"

#include <signal.h>

#define LINK_COST 64 /* bytes beside the name, for each file of several names */

struct first { /* a name of a file that has several */
	uint64_t ref;
	char path[];
};

struct viewing {
	const struct img_view_opts *o;
	bool content;
	struct img_record_in in; /* the parent's */
	struct img_child *child;
	struct img_src *src; /* the child's, as all below */
	struct img_record_out out;
	struct img_table firsts;
	uint64_t names_left;
	char *last; /* path of the file whose content comes */
};

/* ---- the child ---- */

static const char *find_first(const struct viewing *w, uint64_t ref)
{
	size_t pos = SIZE_MAX;

	for (const struct first *f; (f = img_table_next(&w->firsts, img_mix(ref + 1), &pos));)
		if (f->ref == ref)
			return f->path;
	return NULL;
}

static int remember(struct viewing *w, const struct img_unsquash_entry *e, struct vl_err *err)
{
	size_t n = strlen(e->path) + 1;
	int r = img_spend(&w->names_left, n + LINK_COST, "names of linked files", err);

	if (r < 0)
		return r;
	struct first *f = vl_alloc(sizeof *f + n);
	f->ref = e->ref;
	memcpy(f->path, e->path, n);
	img_table_add(&w->firsts, img_mix(e->ref + 1), f);
	return 0;
}

static int send_entry(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct viewing *w = arg;
	const char *link = NULL;
	int r;

	if (w->content && e->type != IMG_DIR && e->nlink > 1) {
		link = find_first(w, e->ref);
		if (!link && (r = remember(w, e, err)) < 0)
			return r;
	}
	if ((r = img_record_item(&w->out, e, link, err)) < 0)
		return r;
	if (e->type == IMG_FILE && (!w->content || link))
		return IMG_UNSQUASH_SKIP;
	if (e->type == IMG_FILE) {
		free(w->last);
		w->last = vl_strdup(e->path);
	}
	return 0;
}

static int send_content(void *arg, const struct img_file *f, struct vl_err *err)
{
	struct viewing *w = arg;
	struct img_content c = IMG_CONTENT_NONE;
	const uint8_t *p;
	size_t n;
	int r = img_content_open(w->src, w->last, f, &c, err);

	while (r == 0 && (r = img_content_next(&c, &p, &n, err)) == 0 && n)
		r = p ? img_record_data(&w->out, p, n, err) : img_record_hole(&w->out, n, err);
	img_content_close(&c);
	if (r == 0)
		return 0;
	VL_FREE char *shown = vl_printable(w->last, strlen(w->last));
	return vl_wrap(err, "/%s", shown);
}

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	struct viewing *w = arg;
	struct img_src_walk walk = { .depth = w->o->depth, .entry = send_entry, .arg = w };
	VL_FREE char *top = NULL;
	struct vl_err late = { 0 };
	int r;

	(void)sock, (void)p, (void)result;
	signal(SIGPIPE, SIG_IGN); /* the parent says what happened to it */
	vl_raise_file_limit();
	w->out.fd = w->child->pipe;
	w->names_left = IMG_MAX_META_BYTES;
	/* a directory is the host's own files, read with the rights of the caller */
	if ((!w->o->root.dir && (r = vl_drop_privileges(err)) < 0) ||
	    (r = img_src_open(&w->o->root, &w->src, err)) < 0 ||
	    (r = img_src_find(w->src, w->o->root.path, w->o->follow, &top, err)) < 0)
		return r;
	walk.top = top;
	if (w->content)
		walk.content = send_content;
	r = img_src_walk(w->src, &walk, err);
	int flushed = img_record_flush(&w->out, &late); /* what came before an error counts */
	if (r == 0 && flushed < 0)
		*err = late;
	close(w->out.fd);
	return r < 0 ? r : flushed;
}

/* ---- the parent ---- */

static int take_written(void *arg, int fd, bool *ret_end, struct vl_err *err)
{
	struct viewing *w = arg;

	return img_record_read(&w->in, fd, w->child->name, ret_end, err);
}

int img_view(const struct img_view_opts *o, const struct img_viewer *v, int *ret_signal, struct vl_err *err)
{
	struct viewing w = { .o = o, .content = v->data != NULL, .in = { .v = *v } };
	struct img_child child = { .name = "reading",
				   .interrupted = "stopped",
				   .work = work,
				   .written = take_written,
				   .hold = o->hold,
				   .arg = &w };

	w.child = &child;
	int r = img_child_run(&child, NULL, NULL, ret_signal, err);
	if (r == 0)
		r = img_record_end(&w.in, err);
	img_record_free(&w.in);
	return r;
}
