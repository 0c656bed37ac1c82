/* Any bytes as what cosign signed: by our key, so that what is behind the signature is read too. What passes names the image. */
#include "fuzz.h"

#include <image/cosign.h>
#include <sif/crypto.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char *sign(const struct sif_key *k, const void *p, size_t n)
{
	VL_FREE uint8_t *sig = NULL;
	struct vl_err err = { 0 };
	size_t len;

	if (sif_key_sign(k, p, n, &sig, &len, &err) < 0)
		abort();
	return vl_base64(sig, len, true);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char type[] = "application/vnd.in-toto+json";
	static const struct oci_digest digest = { "sha256", HEX };
	static struct sif_key *key;
	struct vl_err err = { 0 };
	const struct sif_key *who;
	enum img_cosign_kind kind;

	if (!key && sif_key_new("ed25519", 0, &key, &err) < 0)
		abort();
	const struct img_cosign_check check = { &key, 1, &digest, 1 };
	VL_FREE char *sig = sign(key, data, size), *text = vl_strndup((const char *)data, size);
	bool named = strstr(text, HEX) || strchr(text, '\\'); /* an escape may spell it */
	if (img_cosign_payload(&check, (const char *)data, size, sig, &who, &err) == 0 && !named)
		abort();
	VL_BUF struct vl_buf pae = { 0 };
	vl_buf_addf(&pae, "DSSEv1 %zu %s %zu ", sizeof type - 1, type, size);
	vl_buf_add(&pae, data, size);
	VL_FREE char *sealed = sign(key, pae.data, pae.len), *body = vl_base64(data, size, true);
	VL_FREE char *e = vl_asprintf("{\"payloadType\":\"%s\",\"payload\":\"%s\",\"signatures\":[{\"sig\":\"%s\"}]}",
				      type, body, sealed);
	if (img_cosign_envelope(&check, e, strlen(e), &kind, &who, &err) == 0 && !named)
		abort();
	/* unsigned, nothing may pass */
	if (img_cosign_envelope(&check, (const char *)data, size, &kind, &who, &err) == 0 ||
	    img_cosign_bundle(&check, (const char *)data, size, &kind, &who, &err) == 0)
		abort();
	return 0;
}
