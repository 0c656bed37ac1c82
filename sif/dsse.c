/* The DSSE envelope around a payload: docs/sif-signing.md, "Envelope". What is signed is never
 * the JSON that came, but the payload type and the decoded payload with their lengths. */
#include "crypto.h"

#define PAYLOAD_TYPE "application/vnd.sylabs.sif-metadata+json"

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
static const struct sif_key *who_signed(const char *keyid, const struct vl_buf *pae, const uint8_t *sig, size_t sig_len,
					struct sif_key *const *keys, size_t n_keys)
{
	for (size_t i = 0; i < n_keys; i++) {
		if (keyid && *keyid && !vl_streq(keyid, sif_key_id(keys[i])))
			continue;
		if (sif_key_check(keys[i], pae->data, pae->len, sig, sig_len))
			return keys[i];
	}
	return NULL;
}

/* The usual case is an image by somebody else: say who, as far as the envelope does. */
static int fail_signer(const char *keyid, struct sif_key *const *keys, size_t n_keys, struct vl_err *err)
{
	VL_FREE char *named = vl_printable(keyid ? keyid : "", keyid ? VL_MIN(strlen(keyid), (size_t)80) : 0);

	for (size_t i = 0; i < n_keys; i++)
		if (!*named || vl_streq(named, sif_key_id(keys[i])))
			return vl_fail(err, EKEYREJECTED, "the key %s did not make it, or it was changed",
				       sif_key_id(keys[i]));
	if (n_keys == 1)
		return vl_fail(err, EKEYREJECTED, "it is by another key, %s; the key given is %s", named,
			       sif_key_id(keys[0]));
	return vl_fail(err, EKEYREJECTED, "it is by a key, %s, that is none of the %zu given", named, n_keys);
}

static int find_signer(const vl_json *signatures, const struct vl_buf *pae, struct sif_key *const *keys, size_t n_keys,
		       const struct sif_key **ret, struct vl_err *err)
{
	const struct sif_key *found = NULL;
	size_t n = vl_json_len(signatures);

	if (n == 0)
		return vl_fail(err, EINVAL, "the envelope holds no signature");
	for (size_t i = 0; i < n; i++) {
		const vl_json *s = vl_json_at(signatures, i);
		VL_FREE uint8_t *sig = NULL;
		size_t sig_len;
		int r = decode_member(s, "sig", &sig, &sig_len, err);
		if (r < 0)
			return r;
		if (!found)
			found = who_signed(vl_json_str(s, "keyid"), pae, sig, sig_len, keys, n_keys);
	}
	if (!found)
		return fail_signer(vl_json_str(vl_json_at(signatures, 0), "keyid"), keys, n_keys, err);
	*ret = found;
	return 0;
}

int sif_dsse_open(const char *text, size_t len, struct sif_key *const *keys, size_t n_keys, char **ret, size_t *ret_len,
		  const struct sif_key **ret_key, struct vl_err *err)
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
	r = find_signer(vl_json_arr(j, "signatures"), &pae, keys, n_keys, ret_key, err);
	if (r < 0)
		return r;
	*ret = (char *)vl_steal(&payload);
	*ret_len = n;
	return 0;
}
