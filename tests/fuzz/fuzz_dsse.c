/* Texts that come with an image or a key file: envelope, signed list, base64, PEM. The first byte
 * chooses which. */
#include "fuzz.h"

#include "sif/crypto.h"

static const char key_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
			      "-----END PUBLIC KEY-----\n";

static void envelope(const char *text, size_t n)
{
	static struct sif_key *key;
	struct vl_err err;
	char *payload;
	size_t len;

	if (!key && sif_key_parse(key_pem, sizeof key_pem - 1, "key", SIF_KEY_PUBLIC, &key, &err) < 0)
		abort();
	struct sif_verify_opts o = { .keys = &key, .n_keys = 1 };
	struct sif_known known = { .o = &o };
	struct sif_signature s = { 0 };
	if (sif_dsse_open(text, n, &known, &s, &payload, &len, &err) == 0)
		abort(); /* no input holds a signature by it */
	sif_signature_free(&s);
}

/* What was understood and is written again must be understood as the same. */
static void list(const char *text, size_t n)
{
	struct sif_payload a, b;
	struct vl_err err;

	if (sif_payload_parse(text, n, &a, &err) < 0)
		return;
	VL_FREE char *again = sif_payload_text(&a);
	if (sif_payload_parse(again, strlen(again), &b, &err) < 0 || a.n != b.n ||
	    !sif_digest_same(&a.header, &b.header))
		abort();
	for (size_t i = 0; i < a.n; i++)
		if (a.v[i].relative_id != b.v[i].relative_id || !sif_digest_same(&a.v[i].object, &b.v[i].object))
			abort();
	sif_payload_free(&a);
	sif_payload_free(&b);
}

static void base64(const char *text, size_t n)
{
	VL_FREE uint8_t *raw = NULL;
	size_t len;

	if (vl_unbase64(text, n, &raw, &len) < 0)
		return;
	VL_FREE char *again = vl_base64(raw, len, true);
	if (strlen(again) != n)
		abort(); /* one value, one spelling */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct vl_err err;

	if (n == 0)
		return 0;
	VL_FREE char *text = vl_strndup((const char *)data + 1, n - 1); /* NUL-terminated as sif_read_object gives it */
	size_t len = strlen(text);
	SIF_KEY struct sif_key *k = NULL;
	switch (data[0] % 5) {
	case 0:
		envelope(text, len);
		break;
	case 1:
		list(text, len);
		break;
	case 2:
		base64(text, len);
		break;
	default:
		sif_key_parse(text, len, "key", data[0] % 5 == 3 ? SIF_KEY_PUBLIC : SIF_KEY_PRIVATE, &k, &err);
	}
	return 0;
}
