/* `cp`: out of an image. */
#include "run.h"

#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

#define O(f) offsetof(struct cmd_cp_opts, f)
const struct opt cmd_cp_options[] = {
	{ 'r', "recursive", OPT_FLAG, O(recursive), NULL, "a directory with all that is in it", NULL, 0 },
	{ 'R', "tree", OPT_FLAG, O(recursive), NULL, "", NULL, OPT_HIDDEN },
	{ 'p', "preserve", OPT_FLAG, O(preserve), NULL, "keep modes, times and extended attributes, and as root owners",
	  NULL, 0 },
	{ 'f', "force", OPT_FLAG, O(force), NULL, "replace files that exist", NULL, 0 },
	CMD_NET_OPTS(struct cmd_cp_opts, net),
	OPT_END,
};
#undef O

/* Into a directory under its own name; the root of an image has none. Returns new. */
static char *final_name(const char *path, const char *dest)
{
	struct stat st;
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	VL_FREE char *bare = vl_strndup(path, n);
	const char *name = n ? vl_basename(bare) : "";
	if (!n || vl_streq(name, ".") || vl_streq(name, "..") || stat(dest, &st) < 0 || !S_ISDIR(st.st_mode))
		return vl_strdup(dest);
	return vl_asprintf("%s/%s", dest, name);
}

int cmd_cp_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_cp_opts *o = opts;
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	VL_FREE char *dest = NULL;
	struct img_extract_opts x = { .force = o->force, .preserve = o->preserve, .recursive = o->recursive };
	struct vl_progress progress;
	struct cmd_progress bar;
	struct vl_err err = { 0 };
	int signal = 0;

	(void)self, (void)argc;
	int r = cmd_image_path_open(c, argv[0], &o->net, &p, &x.view.root, &err);
	if (r == 0) {
		x.dest = dest = final_name(p.path, argv[1]);
		x.no_link = !vl_streq(dest, argv[1]);
		cmd_progress_start(&bar, c, &progress);
		r = img_extract(&x, &progress, &signal, &err);
		cmd_progress_end(&bar);
	}
	return r < 0 ? cmd_view_failed(c, r, signal, &err) : 0;
}
