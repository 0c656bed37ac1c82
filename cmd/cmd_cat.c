/* `cat`: files of an image to standard output, however large. */
#include "run.h"

#include <sys/stat.h>
#include <vial/image.h>

#define O(f) offsetof(struct cmd_cat_opts, f)
const struct opt cmd_cat_options[] = {
	CMD_NET_OPTS(struct cmd_cat_opts, net),
	OPT_END,
};
#undef O

static int check_item(void *arg, const struct img_item *i, struct vl_err *err)
{
	const char *word = arg;

	if (S_ISDIR(i->mode))
		return vl_fail(err, EISDIR, "%s is a directory", word);
	return S_ISREG(i->mode) ? 0 : vl_fail(err, EINVAL, "%s is no regular file", word);
}

static int put(void *arg, const void *p, size_t n, struct vl_err *err)
{
	int r = vl_write_full(STDOUT_FILENO, p, n);

	(void)arg;
	return r < 0 ? vl_fail_sys(err, -r, "cannot write to standard output") : 0;
}

static int put_zeros(void *arg, uint64_t n, struct vl_err *err)
{
	static const char zeros[65536];
	int r = 0;

	for (; r == 0 && n; n -= VL_MIN(n, (uint64_t)sizeof zeros))
		r = put(arg, zeros, (size_t)VL_MIN(n, (uint64_t)sizeof zeros), err);
	return r;
}

static int cat(struct cmd_ctx *c, const char *word, const struct net_opts *net, int *ret_signal, struct vl_err *err)
{
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	VL_FREE char *shown = vl_printable(word, strlen(word));
	struct img_view_opts o = { .follow = true };
	const struct img_viewer v = { .item = check_item, .data = put, .hole = put_zeros, .arg = shown };
	int r = cmd_image_path_open(c, word, net, &p, &o.root, err);

	return r < 0 ? r : img_view(&o, &v, ret_signal, err);
}

int cmd_cat_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_cat_opts *o = opts;
	int status = 0;

	(void)self;
	for (int i = 0; i < argc; i++) {
		struct vl_err err = { 0 };
		int signal = 0, r = cat(c, argv[i], &o->net, &signal, &err);
		if (r < 0)
			status = cmd_view_failed(c, r, signal, &err);
		if (signal)
			break;
	}
	return status;
}
