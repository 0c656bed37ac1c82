#include "commands.h"

#include <stdio.h>
#include <vial/image.h>

#define O(f) offsetof(struct cmd_push_opts, f)
const struct opt cmd_push_options[] = {
	CMD_REGISTRY_OPTS(struct cmd_push_opts, net),
	{ 0, "no-referrers", OPT_FLAG, O(no_referrers), NULL, "leave out the signatures as referrers", NULL, 0 },
	{ 0, "threads", OPT_U64, O(threads), "N", "compressing threads (default: the CPUs this process may use)", NULL,
	  0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print the result as JSON", NULL, 0 },
	{ 'U', "allow-unsigned", OPT_FLAG, O(allow_unsigned), NULL, "", "ALLOW_UNSIGNED", OPT_HIDDEN },
	OPT_END,
};
#undef O

/* "registry.example.org/me/app:1.0@sha256:..."; returns new. */
static char *full_name(const char *target, const char *digest)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	struct vl_err ignored;

	if (oci_ref_parse(target, &ref, &ignored) < 0 || oci_digest_parse(digest, &ref.digest, &ignored) < 0)
		return vl_asprintf("%s@%s", target, digest);
	return oci_ref_name(&ref);
}

static void report(struct cmd_ctx *c, const char *target, const struct img_push_stats *s, bool json)
{
	VL_FREE char *name = full_name(target, s->digest);
	int scheme = (int)(strstr(target, "://") - target);
	char bytes[16];

	if (json) {
		VL_JSON vl_json *j = vl_json_new_obj();
		vl_json_set(j, "digest", vl_json_new_str(s->digest));
		vl_json_set(j, "reference", vl_json_new_str(name));
		vl_json_set(j, "bytes", vl_json_new_int((int64_t)s->bytes));
		vl_json_set(j, "referrers", vl_json_new_int(s->referrers));
		VL_FREE char *text = vl_json_text(j, false);
		puts(text);
		return;
	}
	vl_human_size(s->bytes, bytes);
	if (s->referrers)
		vl_logf(&c->log, VL_INFO, "%u signature%s pushed with it", s->referrers, s->referrers == 1 ? "" : "s");
	vl_logf(&c->log, VL_INFO, "%s pushed as %s; `%s pull %.*s://%s` gets it", bytes, name, c->self, scheme, target,
		name);
}

static void free_net(struct cmd_net **n)
{
	cmd_net_free(*n);
}

int cmd_push_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_push_opts *o = opts;
	VL_CLEANUP(free_net) struct cmd_net *net = NULL;
	struct img_push_opts p = { .image = argv[0],
				   .target = argv[1],
				   .no_referrers = o->no_referrers,
				   .threads = (unsigned)VL_MIN(o->threads, 4096u) };
	struct img_push_stats stats = { 0 };
	struct vl_progress progress;
	struct cmd_progress bar;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (!vl_prefix(p.target, "docker://") && !vl_prefix(p.target, "oras://"))
		return cmd_usage(c,
				 "push goes to docker://HOST/REPO:TAG or oras://HOST/REPO:TAG, not to '%s'; the image "
				 "comes first",
				 p.target);
	if (cmd_net_new(c, &o->net, &net, &err) < 0)
		return cmd_fail(c, &err);
	p.net = cmd_net_get(net);
	cmd_progress_start(&bar, c, &progress);
	int r = img_push(&p, &progress, &stats, &err);
	cmd_progress_end(&bar);
	if (r == -EINTR) {
		vl_logf(&c->log, VL_ERROR, "%s", err.text);
		return 128 + stats.signal;
	}
	if (r < 0)
		return cmd_fail(c, &err);
	report(c, p.target, &stats, o->json);
	return 0;
}
