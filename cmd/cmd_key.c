#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_newpair_opts, f)
const struct opt cmd_newpair_opts[] = {
	{ 't', "type", OPT_STR, O(type), "TYPE", "ed25519 (default), ecdsa or rsa", NULL, 0 },
	{ 'b', "bits", OPT_U64, O(bits), "N", "ecdsa: 256, 384, 521; rsa: 2048 to 16384", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace existing files", NULL, 0 },
	OPT_END,
};
#undef O

static int write_half(const struct sif_key *k, enum sif_key_use use, struct vl_newfile *f, struct vl_err *err)
{
	VL_BUF struct vl_buf pem = { 0 };
	int r = sif_key_pem(k, use, &pem, err);

	if (r < 0)
		return r;
	r = vl_write_full(f->fd, pem.data, pem.len);
	explicit_bzero(pem.data, pem.len);
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", f->name) : 0;
}

/* Both files are written before either appears, so that a half pair is never seen. */
static int write_pair(const struct sif_key *k, const char *private, const char *public, bool force, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile priv = VL_NEWFILE_INIT, pub = VL_NEWFILE_INIT;
	int r = vl_newfile_open(&priv, private, 0600, force, err);

	if (r == 0)
		r = vl_newfile_open(&pub, public, 0644, force, err);
	if (r == 0)
		r = write_half(k, SIF_KEY_PRIVATE, &priv, err);
	if (r == 0)
		r = write_half(k, SIF_KEY_PUBLIC, &pub, err);
	if (r == 0)
		r = vl_newfile_commit(&priv, force, err);
	return r == 0 ? vl_newfile_commit(&pub, force, err) : r;
}

int cmd_key_newpair_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_newpair_opts *o = opts;
	VL_FREE char *private = vl_asprintf("%s.pem", argv[0]), *public = vl_asprintf("%s.pub.pem", argv[0]);
	SIF_KEY struct sif_key *k = NULL;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (sif_key_new(o->type ? o->type : "ed25519", (unsigned)VL_MIN(o->bits, (uint64_t)UINT32_MAX), &k, &err) < 0 ||
	    write_pair(k, private, public, o->force, &err) < 0)
		return cmd_fail(c, &err);
	printf("%s %s\n", sif_key_id(k), sif_key_type(k));
	vl_logf(&c->log, VL_INFO, "private key: %s  (keep it to yourself)", private);
	vl_logf(&c->log, VL_INFO, "public key:  %s  (give it to who verifies)", public);
	return 0;
}

int cmd_key_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	SIF_KEY struct sif_key *k = NULL;
	struct vl_err err = { 0 };

	(void)self, (void)opts, (void)argc;
	/* either half will do; the second message is the one about public keys */
	if (sif_key_load(argv[0], SIF_KEY_PRIVATE, &k, &err) < 0 && sif_key_load(argv[0], SIF_KEY_PUBLIC, &k, &err) < 0)
		return cmd_fail(c, &err);
	printf("%s %s\n", sif_key_id(k), sif_key_type(k));
	return 0;
}
