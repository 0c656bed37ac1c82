#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_verify_opts, f)
const struct opt cmd_verify_opts[] = {
	{ 0, "key", OPT_LINES, O(keys), "KEY.pub.pem", "the public key; may be repeated [VERIFY_KEY]", NULL, 0 },
	{ 0, "certificate", OPT_STR, O(certificate), "CERT.pem",
	  "take the key from this certificate [VERIFY_CERTIFICATE]", NULL, 0 },
	{ 0, "certificate-roots", OPT_STR, O(roots), "FILE", "trusted certificates (default: the system's)",
	  "VERIFY_ROOTS", 0 },
	{ 0, "certificate-intermediates", OPT_STR, O(intermediates), "FILE", "certificates between the two",
	  "VERIFY_INTERMEDIATES", 0 },
	{ 'g', "group-id", OPT_U64, O(group), "N", "verify this group only", NULL, 0 },
	{ 0, "groupid", OPT_U64, O(group), "N", "", NULL, OPT_HIDDEN },
	{ 'i', "sif-id", OPT_U64, O(object), "ID", "verify this object only", NULL, 0 },
	{ 0, "id", OPT_U64, O(object), "ID", "", NULL, OPT_HIDDEN },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "verify every object (the default)", NULL, 0 },
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print the result as JSON, also when it is bad", NULL, 0 },
	{ 'l', "local", OPT_FLAG, O(local), NULL, "", NULL, OPT_HIDDEN },
	{ 'u', "url", OPT_STR, O(url), "URL", "", NULL, OPT_HIDDEN },
	{ 0, "legacy-insecure", OPT_FLAG, O(legacy), NULL, "", NULL, OPT_HIDDEN },
	{ 0, "ocsp-verify", OPT_FLAG, O(ocsp), NULL, "", "VERIFY_OCSP", OPT_HIDDEN },
	OPT_END,
};
#undef O

struct keyring {
	struct sif_key **v;
	size_t n;
};

static void keyring_free(struct keyring *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
	free(k->v);
}

/* The environment's key counts only when the command line has none: it must not widen it. */
static void keys_from_environment(struct cmd_verify_opts *o)
{
	const char *key = opt_getenv("VERIFY_KEY"), *certificate = opt_getenv("VERIFY_CERTIFICATE");

	if (o->keys.n || o->certificate)
		return;
	if (key && *key)
		vl_strv_add(&o->keys, key);
	else if (certificate && *certificate)
		o->certificate = certificate;
}

static int load_keys(const struct cmd_verify_opts *o, struct keyring *ret, struct vl_err *err)
{
	int r = 0;

	ret->v = vl_alloc((o->keys.n + 1) * sizeof(void *));
	for (size_t i = 0; i < o->keys.n && r == 0; i++) {
		r = sif_key_load(o->keys.v[i], SIF_KEY_PUBLIC, &ret->v[ret->n], err);
		ret->n += r == 0;
	}
	if (r == 0 && o->certificate) {
		struct sif_cert_opts co = { .cert = o->certificate,
					    .intermediates = o->intermediates,
					    .roots = o->roots };
		r = sif_key_from_certificate(&co, &ret->v[ret->n], err);
		ret->n += r == 0;
	}
	return r;
}

/* The first signer's key; NULL when that is not proved */
static const struct sif_key *key_of(const struct sif_report *rep, uint32_t signature, const struct keyring *keys)
{
	const struct sif_signature *s = sif_report_find(rep, signature);

	for (size_t i = 0; s && s->n_signers && i < keys->n; i++)
		if (vl_streq(sif_key_id(keys->v[i]), s->signers[0].id))
			return keys->v[i];
	return NULL;
}

static void print_objects(const struct sif_image *img, const struct sif_report *rep, const struct keyring *keys)
{
	uint32_t signature = 0;

	for (size_t i = 0; i < rep->n; i++) {
		const struct sif_descr *d = sif_by_id(img, rep->v[i].id);
		VL_FREE char *words = sif_descr_words(d);
		if (rep->v[i].signature != signature) {
			signature = rep->v[i].signature;
			const struct sif_key *k = key_of(rep, signature, keys);
			printf("%sSignature %u by key %s (%s)\nObjects verified:\n", i ? "\n" : "", signature,
			       sif_key_id(k), sif_key_type(k));
			printf("%-4s|%-8s|%-8s|%s\n", "ID", "GROUP", "LINK", "TYPE");
			printf("------------------------------------------------\n");
		}
		printf("%-4u|", d->id);
		cmd_print_group(d->group);
		putchar('|');
		cmd_print_link(d->link);
		printf("|%s\n", words);
	}
}

static void print_json(const struct sif_image *img, const struct sif_report *rep, const struct keyring *keys)
{
	VL_JSON vl_json *top = vl_json_new_obj();
	vl_json *list = vl_json_new_arr();

	vl_json_set(top, "Signatures", vl_json_new_int((int64_t)rep->n_sig));
	for (size_t i = 0; i < rep->n; i++) {
		const struct sif_covered *v = &rep->v[i];
		const struct sif_descr *d = sif_by_id(img, v->id);
		const struct sif_key *k = key_of(rep, v->signature, keys);
		vl_json *signer = vl_json_new_obj(), *entry = vl_json_new_obj();
		vl_json_set(signer, "Partition", vl_json_new_str(sif_type_name(d->type)));
		vl_json_set(signer, "Name", vl_json_new_str(sif_key_type(k)));
		vl_json_set(signer, "Fingerprint", vl_json_new_str(sif_key_id(k)));
		vl_json_set(signer, "KeyLocal", vl_json_new_bool(true));
		vl_json_set(signer, "KeyCheck", vl_json_new_bool(true)); /* or the object would not be here */
		vl_json_set(signer, "DataCheck", vl_json_new_bool(v->ok));
		vl_json_set(signer, "Object", vl_json_new_int(v->id));
		vl_json_set(signer, "Signature", vl_json_new_int(v->signature));
		vl_json_set(entry, "Signer", signer);
		vl_json_add(list, entry);
	}
	vl_json_set(top, "SignerKeys", list);
	VL_FREE char *text = vl_json_text(top, true);
	puts(text);
}

static int verify(struct cmd_ctx *c, const struct cmd_verify_opts *o, const char *path, const struct keyring *keys,
		  struct vl_err *err)
{
	VL_CLOSE int fd = -1;
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	SIF_REPORT struct sif_report rep = { 0 };
	struct cmd_progress bar;
	struct vl_progress progress;
	struct sif_verify_opts vo = {
		.keys = keys->v,
		.n_keys = keys->n,
		.group = (uint32_t)o->group,
		.object = (uint32_t)o->object,
		.progress = &progress,
	};

	int r = cmd_image_open(path, O_RDONLY, &fd, &img, err);
	if (r < 0)
		return r;
	cmd_progress_start(&bar, c, &progress);
	r = sif_verify(&img, &vo, &rep, err);
	cmd_progress_end(&bar);
	if (o->json)
		print_json(&img, &rep, keys);
	if (r == -ENODATA) {
		VL_FREE char *why = vl_strdup(err->text);
		return vl_fail(err, ENODATA, "%s is not verified: %s; to sign it: %s sign --key KEY.pem %s", path, why,
			       c->self, path);
	}
	if (r < 0)
		return vl_wrap(err, "%s FAILS verification", path);
	if (!o->json)
		print_objects(&img, &rep, keys);
	vl_logf(&c->log, VL_INFO, "%s: verified, %zu signature%s", path, rep.n_sig, rep.n_sig == 1 ? "" : "s");
	return 0;
}

int cmd_verify_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_verify_opts *o = opts;
	VL_CLEANUP(keyring_free) struct keyring keys = { 0 };
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (o->url)
		return cmd_usage(c, "key servers are not supported; give the signer's PEM key with --key");
	if (o->legacy)
		return cmd_usage(
			c,
			"signatures from before Singularity 3.6 are not supported: they leave most of an image open");
	if (o->ocsp)
		return cmd_usage(c, "--ocsp-verify is not supported; leave it out to verify without asking a server");
	if (o->group > ~SIF_GROUP_MASK || o->object > UINT32_MAX)
		return cmd_usage(c, "no group or object has such a large number");
	keys_from_environment(o);
	int r = load_keys(o, &keys, &err);
	if (r == 0 && keys.n == 0)
		r = vl_fail(&err, ENOKEY,
			    "verify needs the signer's public key: --key KEY.pub.pem, or --certificate CERT.pem");
	if (r == 0)
		r = verify(c, o, argv[0], &keys, &err);
	vl_strv_free(&o->keys);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
