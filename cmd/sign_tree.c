/* sign: the hash tree that goes with a signature. */
#include "commands.h"

#include <vial/sif.h>

static int read_block(const char *text, uint32_t *ret, struct vl_err *err)
{
	uint64_t n = 0;

	if (text && (vl_parse_size(text, SIF_TREE_MAX_BLOCK, &n) < 0 || n < SIF_TREE_MIN_BLOCK || n & (n - 1)))
		return vl_fail(err, EINVAL, "--tree-block is a power of two from 4K to 128K, not '%s'", text);
	*ret = (uint32_t)n;
	return 0;
}

int cmd_sign_tree(struct cmd_ctx *c, const struct cmd_sign_opts *o, int fd, const char *path,
		  const struct vl_progress *progress, struct vl_err *err)
{
	struct sif_tree_opts how = { .group = (uint32_t)o->group, .time = cmd_now(), .progress = progress };
	enum sif_tree_result result;

	if (o->no_tree || o->object) /* one object's signature covers no other */
		return 0;
	int r = read_block(o->tree_block, &how.block, err);
	if (r < 0 || (r = sif_tree_add(fd, &how, &result, err)) < 0)
		return r;
	if (result == SIF_TREE_IS_SIGNED)
		vl_logf(&c->log, VL_INFO,
			"%s: gets no hash tree, since signatures that it has would cover the image no more", path);
	return 0;
}
