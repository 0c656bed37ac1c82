#include "run.h"

#include <sys/stat.h>
#include <vial/image.h>

#define O(f) offsetof(struct build_opts, f)
const struct opt cmd_build_options[] = {
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace OUT when it exists", "FORCE", 0 },
	{ 's', "sandbox", OPT_FLAG, O(sandbox), NULL, "make a directory, which exec --writable can change", "SANDBOX",
	  0 },
	{ 0, "profile", OPT_STR, O(profile), "CMD",
	  "then watch /bin/sh -c CMD and lay out the image for such a start, as optimize does", "PROFILE", 0 },
	{ 'e', "encrypt", OPT_FLAG, O(encrypt), NULL, "make an encrypted image; either of the next two is its key",
	  "ENCRYPT", 0 },
	{ 0, "pem-path", OPT_STR, O(pem), "KEY.pub.pem",
	  "the public RSA key that it is encrypted for [ENCRYPTION_PEM_PATH has it]", NULL, 0 },
	{ 0, "passphrase", OPT_FLAG, O(passphrase), NULL,
	  "ask for a passphrase that it is encrypted under [ENCRYPTION_PASSPHRASE has it]", NULL, 0 },
	CMD_CONVERT_OPTS(struct build_opts, convert),
	CMD_COSIGN_OPTS(struct build_opts, cosign),
	CMD_NET_OPTS(struct build_opts, net),
	{ 0, "json", OPT_FLAG, O(json), NULL, "print the result as JSON", NULL, 0 },
	{ 'f', "fakeroot", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	{ 'T', "notest", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	{ 0, "made-of", OPT_STR, O(made_of), "IMAGE", "the directory is what a container of IMAGE has", NULL,
	  OPT_HIDDEN },
	OPT_END,
};
#undef O

/* The image is there by now, and stays when this fails. */
static int add_profile(struct cmd_ctx *c, const char *path, const char *command)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)command, NULL };
	struct cmd_optimize_opts o = { 0 };
	int status = cmd_optimize_image(c, &o, path, 3, argv);

	if (status)
		vl_logf(&c->log, VL_ERROR, "%s was built, without a profile", path);
	return status;
}

static const char *contradiction(const struct build_opts *o)
{
	if (o->sandbox && (o->cosign.keys.n || o->cosign.copy))
		return "--source-key and --with-cosign make an image file, not a --sandbox";
	if (o->sandbox && cmd_build_encrypts(o))
		return "--encrypt makes an image file, not a --sandbox";
	if (o->profile && cmd_build_encrypts(o))
		return "--profile is no use with --encrypt: what is encrypted is read whole";
	return NULL;
}

int cmd_build_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct build_opts *o = opts;
	const char *why = contradiction(o);
	VL_BUF struct vl_buf codec = { 0 };
	VL_CLEANUP(cmd_secret_free) struct cmd_secret secret = { 0 };
	struct img_build_opts b;
	struct stat st;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (why)
		return cmd_usage(c, "%s", why);
	if (o->sandbox)
		return cmd_build_sandbox(c, o, argv[0], argv[1]);
	if (stat(argv[1], &st) == 0 && S_ISREG(st.st_mode)) {
		vl_fail(&err, ENOTSUP,
			"%s is a file: build takes a directory or an image by its kind (docker://, oci:, oci-archive:, "
			"docker-archive:, ...); definition files are not supported",
			argv[1]);
		return cmd_fail(c, &err);
	}
	if (cmd_convert_opts_read(&o->convert, argv[1], &b, &codec, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	if (cmd_build_encrypts(o) && cmd_build_secret(o, &secret, &err) < 0)
		return cmd_fail(c, &err);
	b.made_of = o->made_of;
	b.secret = secret.secret.data;
	b.message = secret.message.data;
	const struct cmd_making m = {
		.opts = &b, .net = &o->net, .out = argv[0], .force = o->force, .remote_only = true, .cosign = &o->cosign
	};
	int status = cmd_make_image(c, &m, o->json);
	return status || !o->profile ? status : add_profile(c, argv[0], o->profile);
}
