/* Whose a signature says it is. */
#include <vial/sif.h>

static void add_key_ids(const vl_json *envelope, struct vl_strv *ret)
{
	const vl_json *list = vl_json_arr(envelope, "signatures");

	for (size_t i = 0; i < vl_json_len(list); i++) {
		const char *id = vl_json_str(vl_json_at(list, i), "keyid");
		if (id)
			vl_strv_add(ret, id);
	}
}

/* In the descriptor of an OpenPGP signature: its key's fingerprint. */
static void add_fingerprint(const struct sif_descr *d, struct vl_strv *ret)
{
	static const uint8_t none[20];
	char hex[41];

	if (!memcmp(d->extra + 4, none, sizeof none))
		return;
	vl_hex(d->extra + 4, 20, hex);
	for (char *s = hex; *s; s++)
		*s = *s >= 'a' ? (char)(*s - 'a' + 'A') : *s;
	vl_strv_add(ret, hex);
}

const char *sif_signature_claims(const struct sif_image *img, const struct sif_descr *d, struct vl_strv *ret)
{
	VL_JSON vl_json *envelope = NULL;
	VL_FREE char *text = NULL;
	struct vl_err ignored;
	size_t n;

	bool there = sif_read_object(img, d, SIF_MAX_SIGNATURE, &text, &n, &ignored) == 0;
	if (there && !vl_prefix(text, "-----BEGIN PGP") &&
	    vl_json_parse(text, n, "the signature", &envelope, &ignored) == 0) {
		add_key_ids(envelope, ret);
		return "DSSE";
	}
	add_fingerprint(d, ret);
	return there && vl_prefix(text, "-----BEGIN PGP") ? "PGP" : "unknown";
}
