/* Any bytes as a squashfs that is written anew, with reads of some of its inodes. What comes out is read again. */
#include "fuzz.h"

#include <image/optimize.h>
#include <sys/mman.h>

#define MAX_FILES (4u << 20)

static int skip_entry(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	size_t *n = arg;

	(void)e, (void)err;
	++*n;
	return 0;
}

static int skip_layout(void *arg, const struct img_file *f, struct vl_err *err)
{
	(void)arg, (void)f, (void)err;
	return 0;
}

/* As image/optimize.c does; its child process would hide a crash. */
static int rewrite(struct optimizing *w, struct img_codec *raw, struct img_squash **s, struct img_tree **t,
		   uint64_t *ret_size, struct vl_err *err)
{
	struct img_inode *none[1] = { NULL };
	const struct img_place place = { .fd = w->out };
	uint64_t first;
	int r;

	if ((r = img_optimize_choose(w, err)) < 0 || (r = img_codec_new("none", w->h->block_size, raw, err)) < 0 ||
	    (r = img_squash_again(&place, raw, w->h, s, &first, err)) < 0 || (r = img_optimize_data(w, first, err)) < 0)
		return r;
	*t = img_tree_new(&w->budget);
	if ((r = img_tree_apply(*t, &w->log, err)) < 0)
		return r;
	img_squash_first(*s, none, 0);
	return img_squash_end(*s, *t, w->end, w->frags, w->n_frags, ret_size, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	VL_CLOSE int in = memfd_create("image", MFD_CLOEXEC), out = memfd_create("image", MFD_CLOEXEC);
	struct sif_descr d = { .size = size };
	struct img_optimize_opts o = { .partition = &d, .limit = 1u << 20 };
	struct optimizing w = { .o = &o, .in = in, .out = out };
	VL_FREE struct img_read *reads = NULL;
	struct vl_err err = { 0 };
	struct img_codec raw = { 0 };
	struct img_squash *s = NULL;
	struct img_tree *t = NULL;
	uint64_t new_size;

	if (in < 0 || out < 0 || vl_write_full(in, bytes, size) < 0)
		return 0;
	if (img_optimize_read(&w, &err) == 0) {
		reads = vl_alloc((2 * w.log.n + 1) * sizeof *reads);
		for (size_t i = 0; i < w.log.n; i++)
			for (uint32_t k = 0; k < 2; k++)
				reads[o.n_reads++] = (struct img_read){ w.refs[i], k };
		o.reads = reads;
		if (rewrite(&w, &raw, &s, &t, &new_size, &err) == 0) {
			struct img_unsquash_visitor v = { .entry = skip_entry, .layout = skip_layout };
			size_t n = 0;
			v.arg = &n;
			if (img_unsquash(out, 0, new_size, 16ull << 40, &v, &err) < 0 || n != w.log.n)
				abort();
		}
	}
	img_squash_free(s);
	if (t)
		img_tree_free(t);
	img_codec_free(&raw);
	img_optimize_free(&w);
	return 0;
}
