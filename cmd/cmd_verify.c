#include "commands.h"

#include <fcntl.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_verify_opts, f)
const struct opt cmd_verify_opts[] = {
	{ 0, "key", OPT_LINES, O(keys), "FILE",
	  "a public key, PEM or armored OpenPGP, instead of the keyring's; may be repeated [VERIFY_KEY]", NULL, 0 },
	{ 0, "certificate", OPT_STR, O(certificate), "CERT.pem",
	  "take the key from this certificate [VERIFY_CERTIFICATE]", NULL, 0 },
	{ 0, "certificate-roots", OPT_STR, O(roots), "FILE", "trusted certificates (default: the system's)",
	  "VERIFY_ROOTS", 0 },
	{ 0, "certificate-intermediates", OPT_STR, O(intermediates), "FILE", "certificates between the two",
	  "VERIFY_INTERMEDIATES", 0 },
	{ 0, "ocsp-verify", OPT_FLAG, O(ocsp), NULL, "ask whether certificates were revoked; no answer is a refusal",
	  "VERIFY_OCSP", 0 },
	{ 'g', "group-id", OPT_U64, O(group), "N", "verify this group only", NULL, 0 },
	{ 0, "groupid", OPT_U64, O(group), "N", "", NULL, OPT_HIDDEN },
	{ 'i', "sif-id", OPT_U64, O(object), "ID", "verify this object only", NULL, 0 },
	{ 0, "id", OPT_U64, O(object), "ID", "", NULL, OPT_HIDDEN },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "verify every object (the default)", NULL, 0 },
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print the result as JSON, in the form of other tools", NULL, 0 },
	{ 0, "report", OPT_FLAG, O(report), NULL, "print every signature, its signer and its faults as JSON", NULL, 0 },
	{ 0, "legacy-insecure", OPT_FLAG, O(legacy), NULL,
	  "look at signatures from before Singularity 3.6 instead, which protect data alone", NULL, 0 },
	{ 'l', "local", OPT_FLAG, O(local), NULL, "ask no key server: always so", NULL, 0 },
	{ 'u', "url", OPT_STR, O(url), "URL", "a key server, which is not asked", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

/* Nobody's fault but an unknown signer's? Then the next step is the key, and not to distrust the image. */
static bool only_unknown(const struct sif_report *rep)
{
	bool unknown = false;

	for (size_t i = 0; i < rep->n_sig; i++) {
		if (rep->sig[i].verdict == SIF_INVALID)
			return false;
		unknown |= rep->sig[i].verdict == SIF_UNKNOWN;
	}
	return unknown;
}

/* A valid signature says who; whether that is somebody to rely on is the keyring's answer. */
static int check_trust(const struct cmd_ctx *c, const char *path, const struct sif_report *rep,
		       const struct cmd_known *known, struct vl_err *err)
{
	const struct sif_signature *s = cmd_known_untrusted(known, rep);

	if (!s)
		return 0;
	return vl_fail(err, EKEYREJECTED,
		       "%s: signature %u is valid, but its signer is not trusted: %s%s%s%s; compare this with "
		       "its owner's, then: %s key trust %s",
		       path, s->id, s->signers[0].id, s->signers[0].name ? " (" : "",
		       s->signers[0].name ? s->signers[0].name : "", s->signers[0].name ? ")" : "", c->self,
		       s->signers[0].id);
}

static int explain(const struct cmd_ctx *c, const char *path, const struct cmd_known *known, bool legacy,
		   const struct sif_report *rep, int r, struct vl_err *err)
{
	VL_FREE char *why = vl_strdup(err->text);

	if (r == -ENODATA && !legacy)
		return vl_fail(err, ENODATA, "%s is not verified: %s; to sign it: %s sign --key KEY.pem %s", path, why,
			       c->self, path);
	if (r == -EKEYREJECTED && known->ring && only_unknown(rep))
		return vl_fail(err, EKEYREJECTED,
			       "%s is not verified, since the signer is unknown: %s; give the public key with --key, "
			       "or keep it: %s key import FILE",
			       path, why, c->self);
	return vl_wrap(err, "%s FAILS verification", path);
}

static int verify(struct cmd_ctx *c, const struct cmd_verify_opts *o, const struct sif_image *img, const char *path,
		  const struct cmd_known *known, const struct sif_verify_opts *vo, struct vl_err *err)
{
	SIF_REPORT struct sif_report rep = { 0 };
	struct cmd_progress bar;
	struct vl_progress progress;
	struct sif_verify_opts with_bar = *vo;

	with_bar.progress = &progress;
	cmd_progress_start(&bar, c, &progress);
	int r = sif_verify(img, &with_bar, &rep, err);
	cmd_progress_end(&bar);
	if (rep.skipped)
		vl_logf(&c->log, VL_WARNING, "%s", rep.skipped);
	if (r < 0)
		r = explain(c, path, known, o->legacy, &rep, r, err);
	else
		r = check_trust(c, path, &rep, known, err);
	if (o->json)
		cmd_verify_print_json(img, &rep);
	if (o->report)
		cmd_verify_print_report(&rep, known, r < 0 ? err : NULL);
	if (r < 0)
		return r;
	if (!o->json && !o->report)
		cmd_verify_print(img, &rep, known);
	size_t n = 0;
	for (size_t i = 0; i < rep.n_sig; i++)
		n += rep.sig[i].verdict == SIF_VALID;
	vl_logf(&c->log, VL_INFO, "%s: verified, %zu signature%s", path, n, n == 1 ? "" : "s");
	return 0;
}

/* A group and an object are two questions, as other tools have it. */
static int verify_image(struct cmd_ctx *c, const struct cmd_verify_opts *o, int fd, const char *path,
			const struct cmd_known *known, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_verify_opts vo = {
		.keys = known->v,
		.n_keys = known->n,
		.pgp = known->pgp,
		.need = known->ring ? SIF_NEED_ONE : SIF_NEED_ALL,
		.legacy = !o->legacy ? SIF_LEGACY_NO
			  : o->all   ? SIF_LEGACY_ALL
				     : SIF_LEGACY_PRIMARY,
		.group = (uint32_t)o->group,
	};
	int r = sif_load(fd, &img, err);

	if (r < 0)
		return vl_wrap(err, "%s", path);
	if (o->group || !o->object)
		r = verify(c, o, &img, path, known, &vo, err);
	vo.group = 0;
	vo.object = (uint32_t)o->object;
	return r == 0 && o->object ? verify(c, o, &img, path, known, &vo, err) : r;
}

/* The environment's key counts only when the command line has none: it must not widen it. */
static void read_environment(struct cmd_verify_opts *o)
{
	const char *key = opt_getenv("VERIFY_KEY"), *certificate = opt_getenv("VERIFY_CERTIFICATE");

	if (o->keys.n || o->certificate)
		return;
	if (key && *key)
		vl_strv_add(&o->keys, key);
	else if (certificate && *certificate)
		o->certificate = certificate;
}

/* Files are opened as the caller, and what strangers wrote (the image, certificates, answers of responders) is read without
 * privileges. */
static int verify_file(struct cmd_ctx *c, const struct cmd_verify_opts *o, const char *path, struct cmd_known *known,
		       struct vl_err *err)
{
	int r = cmd_known_read(c, o, known, err);
	VL_CLOSE int fd =
		r < 0 ? -1 : vl_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err); /* a FIFO must not hang us */

	if (r < 0 || fd < 0)
		return r < 0 ? r : fd;
	r = vl_drop_privileges(err);
	if (r == 0)
		r = cmd_known_parse(c, o, known, err);
	return r < 0 ? r : verify_image(c, o, fd, path, known, err);
}

int cmd_verify_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_verify_opts *o = opts;
	VL_CLEANUP(cmd_known_free) struct cmd_known known = { 0 };
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (o->group > ~SIF_GROUP_MASK || o->object > UINT32_MAX)
		return cmd_usage(c, "no group or object has such a large number");
	if (o->json && o->report)
		return cmd_usage(c, "--json and --report are two forms of one output");
	read_environment(o);
	if (o->ocsp && o->keys.n && !o->certificate)
		return cmd_usage(c, "--ocsp-verify asks about a certificate, and --key has none");
	if (o->url)
		vl_logf(&c->log, VL_WARNING, "no key server is asked, %s neither: keys come from the keyring and --key",
			o->url);
	int r = verify_file(c, o, argv[0], &known, &err);
	vl_strv_free(&o->keys);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
