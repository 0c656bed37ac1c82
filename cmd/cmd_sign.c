#include "commands.h"

#include <fcntl.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_sign_opts, f)
const struct opt cmd_sign_opts[] = {
	{ 0, "key", OPT_STR, O(key), "KEY.pem", "the private key", "SIGN_KEY", 0 },
	{ 'g', "group-id", OPT_U64, O(group), "N", "sign this group only", NULL, 0 },
	{ 0, "groupid", OPT_U64, O(group), "N", "", NULL, OPT_HIDDEN },
	{ 'i', "sif-id", OPT_U64, O(object), "ID", "sign this object only", NULL, 0 },
	{ 0, "id", OPT_U64, O(object), "ID", "", NULL, OPT_HIDDEN },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "sign every group (the default)", NULL, 0 },
	{ 'k', "keyidx", OPT_STR, O(keyidx), "N", "", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

static int sign_image(const char *path, const struct sif_key *k, const struct sif_sign_opts *so, size_t *ret_n,
		      struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDWR | O_NONBLOCK, 0, err);

	if (fd < 0)
		return fd;
	int r = sif_sign(fd, k, so, ret_n, err);
	return r < 0 ? vl_wrap(err, "cannot sign %s", path) : 0;
}

int cmd_sign_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_sign_opts *o = opts;
	SIF_KEY struct sif_key *k = NULL;
	struct cmd_progress bar;
	struct vl_progress progress;
	struct vl_err err = { 0 };
	size_t n = 0;

	(void)self, (void)argc;
	if (o->keyidx)
		return cmd_usage(c, "keys of a PGP keyring are not supported; give a PEM key with --key");
	if (!o->key)
		return cmd_usage(c, "sign needs --key KEY.pem; `%s key newpair PREFIX` makes one", c->self);
	if (o->group > ~SIF_GROUP_MASK || o->object > UINT32_MAX)
		return cmd_usage(c, "no group or object has such a large number");
	struct sif_sign_opts so = { (uint32_t)o->group, (uint32_t)o->object, cmd_now(), &progress };
	if (sif_key_load(o->key, SIF_KEY_PRIVATE, &k, &err) < 0)
		return cmd_fail(c, &err);
	cmd_progress_start(&bar, c, &progress);
	int r = sign_image(argv[0], k, &so, &n, &err);
	cmd_progress_end(&bar);
	if (r < 0)
		return cmd_fail(c, &err);
	vl_logf(&c->log, VL_INFO, "%s: %zu signature%s added, key %s (%s)", argv[0], n, n == 1 ? "" : "s",
		sif_key_id(k), sif_key_type(k));
	return 0;
}
