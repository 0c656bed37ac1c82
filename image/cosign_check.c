#include "cosign.h"

#define IN_TOTO "application/vnd.in-toto+json"
#define SIMPLE_SIGNING "cosign container image signature"
#define SIGNED_STATEMENT "https://sigstore.dev/cosign/sign/v1"

static const struct sif_key *who_signed(const struct img_cosign_check *c, const void *p, size_t n, const uint8_t *sig,
					size_t sig_len)
{
	for (size_t i = 0; i < c->n_keys; i++)
		if (sif_key_check(c->keys[i], p, n, sig, sig_len))
			return c->keys[i];
	return NULL;
}

static int no_key(struct vl_err *err)
{
	return vl_fail(err, EKEYREJECTED, "it was made by another key, or changed");
}

/* "sha256:..." is one of the image's digests. */
static bool names_image(const struct img_cosign_check *c, const char *algo, const char *hex)
{
	for (size_t i = 0; hex && i < c->n_digests; i++)
		if (vl_streq(c->digests[i].algo, algo) && vl_streq(c->digests[i].hex, hex))
			return true;
	return false;
}

static int another_image(struct vl_err *err)
{
	return vl_fail(err, EKEYREJECTED, "it is about another image");
}

/* ---- simple signing ---- */

static int check_simple(const struct img_cosign_check *c, const char *payload, size_t n, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse(payload, n, "what was signed", &j, err);

	if (r < 0)
		return r;
	const vl_json *critical = vl_json_obj(j, "critical");
	const char *type = vl_json_str(critical, "type");
	const char *digest = vl_json_str(vl_json_obj(critical, "image"), "docker-manifest-digest");
	const char *colon = digest ? strchr(digest, ':') : NULL;
	if (!type || !vl_streq(type, SIMPLE_SIGNING))
		return vl_fail(err, EKEYREJECTED, "what was signed is no signature of an image");
	VL_FREE char *algo = vl_strndup(digest ? digest : "", colon ? (size_t)(colon - digest) : 0);
	return names_image(c, algo, colon ? colon + 1 : NULL) ? 0 : another_image(err);
}

int img_cosign_payload(const struct img_cosign_check *c, const char *payload, size_t n, const char *signature,
		       const struct sif_key **ret_key, struct vl_err *err)
{
	VL_FREE uint8_t *sig = NULL;
	size_t sig_len;

	if (vl_unbase64(signature, strlen(signature), &sig, &sig_len) < 0)
		return vl_fail(err, EINVAL, "the signature is no base64");
	const struct sif_key *key = who_signed(c, payload, n, sig, sig_len);
	if (!key)
		return no_key(err);
	int r = check_simple(c, payload, n, err);
	if (r == 0)
		*ret_key = key;
	return r;
}

/* ---- DSSE: what is signed is the type and the payload with their lengths ---- */

static const struct sif_key *who_sealed(const struct img_cosign_check *c, const vl_json *signatures, const char *type,
					const uint8_t *payload, size_t n)
{
	VL_BUF struct vl_buf pae = { 0 };
	const struct sif_key *key = NULL;

	vl_buf_addf(&pae, "DSSEv1 %zu %s %zu ", strlen(type), type, n);
	vl_buf_add(&pae, payload, n);
	for (size_t i = 0; !key && i < vl_json_len(signatures); i++) {
		const char *text = vl_json_str(vl_json_at(signatures, i), "sig");
		VL_FREE uint8_t *sig = NULL;
		size_t sig_len;
		if (text && vl_unbase64(text, strlen(text), &sig, &sig_len) == 0)
			key = who_signed(c, pae.data, pae.len, sig, sig_len);
	}
	return key;
}

static bool statement_names(const struct img_cosign_check *c, const vl_json *statement)
{
	static const char *const algos[] = { "sha256", "sha512" };
	const vl_json *subjects = vl_json_arr(statement, "subject");

	for (size_t i = 0; i < vl_json_len(subjects); i++)
		for (size_t k = 0; k < VL_COUNT(algos); k++)
			if (names_image(c, algos[k],
					vl_json_str(vl_json_obj(vl_json_at(subjects, i), "digest"), algos[k])))
				return true;
	return false;
}

static int check_statement(const struct img_cosign_check *c, const uint8_t *payload, size_t n,
			   enum img_cosign_kind *ret_kind, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse((const char *)payload, n, "what was signed", &j, err);

	if (r < 0)
		return r;
	const char *type = vl_json_str(j, "_type"), *predicate = vl_json_str(j, "predicateType");
	if (!type || !vl_prefix(type, "https://in-toto.io/Statement/") || !predicate)
		return vl_fail(err, EKEYREJECTED, "what was signed is no in-toto statement");
	if (!statement_names(c, j))
		return another_image(err);
	*ret_kind = vl_streq(predicate, SIGNED_STATEMENT) ? IMG_COSIGN_SIGNATURE : IMG_COSIGN_ATTESTATION;
	return 0;
}

static int open_envelope(const struct img_cosign_check *c, const vl_json *envelope, enum img_cosign_kind *ret_kind,
			 const struct sif_key **ret_key, struct vl_err *err)
{
	const char *type = vl_json_str(envelope, "payloadType"), *text = vl_json_str(envelope, "payload");
	VL_FREE uint8_t *payload = NULL;
	size_t n;

	if (!type || !vl_streq(type, IN_TOTO) || !text || vl_unbase64(text, strlen(text), &payload, &n) < 0)
		return vl_fail(err, EINVAL, "it is no envelope around an in-toto statement");
	const struct sif_key *key = who_sealed(c, vl_json_arr(envelope, "signatures"), type, payload, n);
	if (!key)
		return no_key(err);
	int r = check_statement(c, payload, n, ret_kind, err);
	if (r == 0)
		*ret_key = key;
	return r;
}

int img_cosign_envelope(const struct img_cosign_check *c, const char *text, size_t n, enum img_cosign_kind *ret_kind,
			const struct sif_key **ret_key, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse(text, n, "the envelope", &j, err);

	return r < 0 ? r : open_envelope(c, j, ret_kind, ret_key, err);
}

int img_cosign_bundle(const struct img_cosign_check *c, const char *text, size_t n, enum img_cosign_kind *ret_kind,
		      const struct sif_key **ret_key, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse(text, n, "the bundle", &j, err);

	if (r < 0)
		return r;
	const vl_json *envelope = vl_json_obj(j, "dsseEnvelope");
	if (!envelope)
		return vl_fail(err, ENOTSUP, "bundles without a DSSE envelope are not verified here");
	return open_envelope(c, envelope, ret_kind, ret_key, err);
}
