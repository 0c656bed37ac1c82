/* pull and fetch: a source to an image in a file, or in the store. */
#include "commands.h"

#include <stdio.h>
#include <vial/image.h>

#define O(f) offsetof(struct pull_opts, f)
const struct opt cmd_pull_opts[] = {
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace OUT when it exists", "FORCE", 0 },
	{ 0, "dir", OPT_STR, O(dir), "DIR", "where OUT goes", "PULLDIR PULLFOLDER", 0 },
	{ 0, "name", OPT_STR, O(name), "OUT", "", NULL, OPT_HIDDEN },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print the result as JSON", NULL, 0 },
	CMD_CONVERT_OPTS(struct pull_opts, convert),
	CMD_COSIGN_OPTS(struct pull_opts, cosign),
	CMD_NET_OPTS(struct pull_opts, net),
	{ 0, "library", OPT_STR, O(library), "URL", "", NULL, OPT_HIDDEN },
	{ 0, "arch-variant", OPT_STR, O(library), "VARIANT", "", NULL, OPT_HIDDEN },
	{ 'U', "allow-unauthenticated", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	{ 0, "allow-unsigned", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

#define O(f) offsetof(struct fetch_opts, f)
const struct opt cmd_fetch_opts[] = {
	CMD_CONVERT_OPTS(struct fetch_opts, convert),
	CMD_NET_OPTS(struct fetch_opts, net),
	{ 0, "fd", OPT_STR, O(fd), "N", "socket that gets the open image", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

/* NAME_TAG.sif as Apptainer calls it; a digest instead of the tag keeps its first digits. */
static char *default_name(const struct oci_ref *ref)
{
	const char *name = vl_basename(ref->repo ? ref->repo : ref->path);
	VL_FREE char *tag = NULL;
	size_t n = strcspn(name, "?#");

	if (ref->kind == OCI_HTTP)
		return n ? vl_strndup(name, n) : vl_strdup("image.sif");
	if (ref->tag && !strchr(ref->tag, '/'))
		tag = vl_strdup(ref->tag);
	else if (*ref->digest.algo)
		tag = vl_asprintf("%s.%.12s", ref->digest.algo, ref->digest.hex);
	if (ref->repo)
		return vl_asprintf("%s_%s.sif", name, tag ? tag : "latest");
	for (size_t i = 0; i < 2; i++) { /* app.tar, app.tgz */
		static const char *const ends[] = { ".tar", ".tgz" };
		size_t len = strlen(name);
		if (len > 4 && vl_streq(name + len - 4, ends[i]))
			n = len - 4;
	}
	return vl_asprintf("%.*s%s%s.sif", (int)n, name, tag ? "_" : "", tag ? tag : "");
}

static int output_path(const struct pull_opts *o, int argc, char **argv, char **ret, struct vl_err *err)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	const char *out = argc > 1 ? argv[0] : o->name && *o->name ? o->name : NULL;
	int r = oci_ref_parse(argv[argc - 1], &ref, err);

	if (r == -ENOTSUP)
		return vl_fail(err, ENOTSUP,
			       "%s: pull takes docker://, oras://, http(s)://, oci:, oci-archive: or docker-archive:; "
			       "perhaps docker://%s?",
			       argv[argc - 1], argv[argc - 1]);
	if (r < 0)
		return r;
	VL_FREE char *name = out ? vl_strdup(out) : default_name(&ref);
	*ret = o->dir && *o->dir && *name != '/' ? vl_asprintf("%s/%s", o->dir, name) : vl_steal(&name);
	return 0;
}

int cmd_pull_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct pull_opts *o = opts;
	VL_BUF struct vl_buf codec = { 0 };
	VL_FREE char *out = NULL;
	struct img_build_opts b;
	struct vl_err err = { 0 };

	(void)self;
	if (cmd_convert_opts_read(&o->convert, argv[argc - 1], &b, &codec, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	if (output_path(o, argc, argv, &out, &err) < 0)
		return cmd_fail(c, &err);
	const struct cmd_making m = { .opts = &b, .net = &o->net, .out = out, .force = o->force, .cosign = &o->cosign };
	return cmd_make_image(c, &m, o->json);
}

/* Hands the open image to `vial exec` and the like, which wait at the other end of the socket. */
static int hand_over(struct cmd_ctx *c, int sock, int fd, const char *path)
{
	struct vl_err err = { 0 };
	int r = vl_msg_send_fd(sock, fd, path, strlen(path) + 1);

	if (r == 0)
		return 0;
	vl_fail_sys(&err, -r, "cannot hand over %s", path);
	return cmd_fail(c, &err);
}

int cmd_fetch_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct fetch_opts *o = opts;
	VL_CLEANUP(img_fetched_free) struct img_fetched f = { .fd = -1 };
	VL_BUF struct vl_buf codec = { 0 };
	struct img_build_opts b;
	struct vl_err err = { 0 };
	uint64_t sock = 0;

	(void)self, (void)argc;
	if (o->fd && vl_parse_u64(o->fd, 3, 1 << 20, &sock) < 0)
		return cmd_usage(c, "--fd takes the number of a descriptor, not '%s'", o->fd);
	if (!o->fd && o->net.disable_cache)
		return cmd_usage(c, "fetch puts an image into the cache: --disable-cache makes no sense");
	if (cmd_convert_opts_read(&o->convert, argv[0], &b, &codec, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	const struct cmd_making m = { .opts = &b, .net = &o->net };
	int r = cmd_fetch_image(c, &m, &f, &err);
	if (r < 0)
		return cmd_make_failed(c, r, &f, &err);
	if (o->fd)
		return hand_over(c, (int)sock, f.fd, f.path ? f.path : argv[0]);
	puts(f.path ? f.path : argv[0]);
	return 0;
}
