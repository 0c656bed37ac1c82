/* --source-key and --with-cosign: what was signed at the source. */
#include "commands.h"

#include <stdio.h>
#include <vial/image.h>

#define MAX_KEYS 64

struct keys {
	struct sif_key *v[MAX_KEYS];
	size_t n;
};

static void keys_free(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
}

static int load(const struct vl_strv *files, struct keys *ret, struct vl_err *err)
{
	if (files->n > MAX_KEYS)
		return vl_fail(err, E2BIG, "--source-key: at most %d keys", MAX_KEYS);
	for (size_t i = 0; i < files->n; i++) {
		int r = sif_key_load(files->v[i], SIF_KEY_PUBLIC, &ret->v[ret->n], err);
		if (r < 0)
			return r;
		ret->n++;
	}
	return 0;
}

static void tell(struct cmd_ctx *c, const struct img_cosign *f, bool verified)
{
	for (size_t i = 0; i < f->refused.n; i++)
		vl_logf(&c->log, VL_WARNING, "left at the registry: %s", f->refused.v[i]);
	if (verified)
		for (size_t i = 0; i < f->signers.n; i++)
			vl_logf(&c->log, VL_INFO, "%s is signed by %s", f->digest, f->signers.v[i]);
	else if (!f->signatures && !f->attestations)
		vl_logf(&c->log, VL_WARNING, "the registry has nothing of cosign for %s", f->digest);
	else
		vl_logf(&c->log, VL_INFO,
			"cosign: %zu signatures and %zu attestations of %s, not verified (--source-key)", f->signatures,
			f->attestations, f->digest);
}

int cmd_cosign_fetch(struct cmd_ctx *c, const struct cosign_opts *o, const struct oci_net *net,
		     struct img_build_opts *b, struct img_cosign *ret, int *ret_signal, struct vl_err *err)
{
	VL_CLEANUP(keys_free) struct keys keys = { 0 };
	struct img_cosign_opts f = { .source = b->source, .net = net, .arch = b->arch, .copy = o->copy };
	struct vl_progress progress;
	struct cmd_progress bar;
	int r = load(&o->keys, &keys, err);

	if (r < 0)
		return r;
	f.keys = keys.v;
	f.n_keys = keys.n;
	cmd_progress_start(&bar, c, &progress);
	r = img_cosign_fetch(&f, &progress, ret, ret_signal, err);
	cmd_progress_end(&bar);
	if (r < 0)
		return r;
	tell(c, ret, keys.n > 0);
	b->source = ret->pinned;
	return 0;
}
