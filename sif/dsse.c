/* The DSSE envelope around a payload: docs/sif-signing.md, "Envelope". What is signed is never
 * the JSON that came, but the payload type and the decoded payload with their lengths. */
#include "crypto.h"

#define PAYLOAD_TYPE "application/vnd.sylabs.sif-metadata+json"
#define MAX_ENTRIES 64 /* each is tried with each key that it may be by */

static void encode_signed_bytes(struct vl_buf *b, const char *payload, size_t n)
{
	vl_buf_addf(b, "DSSEv1 %zu %s %zu ", strlen(PAYLOAD_TYPE), PAYLOAD_TYPE, n);
	vl_buf_add(b, payload, n);
}

int sif_dsse_seal(const struct sif_key *k, const char *payload, size_t n, char **ret, size_t *ret_len,
		  struct vl_err *err)
{
	VL_BUF struct vl_buf pae = { 0 }, out = { 0 };
	VL_FREE uint8_t *sig = NULL;
	size_t sig_len;

	encode_signed_bytes(&pae, payload, n);
	int r = sif_key_sign(k, pae.data, pae.len, &sig, &sig_len, err);
	if (r < 0)
		return r;
	VL_FREE char *payload64 = vl_base64(payload, n, true), *sig64 = vl_base64(sig, sig_len, true);
	/* member order and spacing as other tools write them; no string here needs escapes */
	vl_buf_addf(&out,
		    "{\"payloadType\":\"%s\",\"payload\":\"%s\",\"signatures\":[{\"keyid\":\"%s\",\"sig\":\"%s\"}]}",
		    PAYLOAD_TYPE, payload64, sif_key_id(k), sig64);
	*ret_len = out.len;
	*ret = vl_steal(&out.data);
	return 0;
}

static int decode_member(const vl_json *obj, const char *member, uint8_t **ret, size_t *ret_len, struct vl_err *err)
{
	const char *s = vl_json_str(obj, member);

	if (!s)
		return vl_fail(err, EINVAL, "the envelope's member '%s' is missing or no text", member);
	if (vl_unbase64(s, strlen(s), ret, ret_len) < 0)
		return vl_fail(err, EINVAL, "the envelope's member '%s' is not base64", member);
	return 0;
}

/* A key id is a hint only: a wrong one skips the key, a right one proves nothing. */
static bool may_be_by(const char *keyid, const struct sif_key *k)
{
	return !keyid || !*keyid || vl_streq(keyid, sif_key_id(k));
}

/* The usual case is an image by somebody else: say who, as far as the envelope does. */
static int fail_signer(const struct sif_verify_opts *o, struct sif_signature *s, struct vl_err *err)
{
	const char *named = s->claims ? s->claims : "one that it does not name";

	for (size_t i = 0; i < o->n_keys && s->claims; i++)
		if (vl_streq(named, sif_key_id(o->keys[i])))
			return vl_fail(err, EKEYREJECTED, "the key %s did not make it, or it was changed", named);
	s->verdict = SIF_UNKNOWN;
	if (o->n_keys == 0)
		return vl_fail(err, EKEYREJECTED, "it is by a key, %s, that is not known here", named);
	if (o->n_keys == 1)
		return vl_fail(err, EKEYREJECTED, "it is by another key, %s; the key given is %s", named,
			       sif_key_id(o->keys[0]));
	return vl_fail(err, EKEYREJECTED, "it is by a key, %s, that is none of the %zu given", named, o->n_keys);
}

/* Each of an image's many entries may be by each of many keys; the whole has a bound. */
static int count_try(struct sif_known *known, const struct vl_buf *pae, struct vl_err *err)
{
	known->tries += 1 + (pae->len >> 16);
	return known->tries <= SIF_MAX_TRIES
		       ? 0
		       : vl_fail(err, E2BIG,
				 "its signatures name no key, and trying all keys takes too long; name the signer's: "
				 "--key FILE");
}

static int check_entry(const vl_json *entry, const struct vl_buf *pae, struct sif_known *known, struct sif_signature *s,
		       struct vl_err *err)
{
	const struct sif_verify_opts *o = known->o;
	const char *keyid = vl_json_str(entry, "keyid");
	VL_FREE uint8_t *sig = NULL;
	size_t len;
	int r = decode_member(entry, "sig", &sig, &len, err);

	if (r < 0)
		return r;
	if (!s->claims && keyid && *keyid)
		s->claims = vl_printable(keyid, VL_MIN(strlen(keyid), (size_t)80));
	for (size_t i = 0; i < o->n_keys && r == 0; i++) {
		if (!may_be_by(keyid, o->keys[i]) || (r = count_try(known, pae, err)) < 0)
			continue;
		if (sif_key_check(o->keys[i], pae->data, pae->len, sig, len))
			sif_signature_add_signer(s, sif_key_signer(o->keys[i]));
	}
	return r;
}

static int find_signers(const vl_json *list, const struct vl_buf *pae, struct sif_known *known, struct sif_signature *s,
			struct vl_err *err)
{
	size_t n = vl_json_len(list);
	int r = 0;

	if (n == 0)
		return vl_fail(err, EINVAL, "the envelope holds no signature");
	if (n > MAX_ENTRIES)
		return vl_fail(err, E2BIG, "the envelope holds %zu signatures, at most %d are looked at", n,
			       MAX_ENTRIES);
	for (size_t i = 0; i < n && r == 0; i++)
		r = check_entry(vl_json_at(list, i), pae, known, s, err);
	return r < 0 || s->n_signers ? r : fail_signer(known->o, s, err);
}

int sif_dsse_open(const char *text, size_t len, struct sif_known *known, struct sif_signature *s, char **ret,
		  size_t *ret_len, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	VL_BUF struct vl_buf pae = { 0 };
	VL_FREE uint8_t *payload = NULL;
	size_t n;

	int r = vl_json_parse(text, len, "the signature", &j, err);
	if (r < 0)
		return r;
	const char *type = vl_json_str(j, "payloadType");
	if (!type || !vl_streq(type, PAYLOAD_TYPE))
		return vl_fail(err, EINVAL, "its payload is not of the type %s", PAYLOAD_TYPE);
	r = decode_member(j, "payload", &payload, &n, err);
	if (r < 0)
		return r;
	encode_signed_bytes(&pae, (const char *)payload, n);
	r = find_signers(vl_json_arr(j, "signatures"), &pae, known, s, err);
	if (r < 0)
		return r;
	*ret = (char *)vl_steal(&payload);
	*ret_len = n;
	return 0;
}
