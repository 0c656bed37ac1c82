#include <vial/oci.h>

int oci_digest_parse(const char *text, struct oci_digest *ret, struct vl_err *err)
{
	struct oci_digest d = { 0 };
	uint8_t raw[VL_HASH_MAX];
	const char *hex = NULL;

	if ((hex = vl_prefix(text, "sha256:")))
		strcpy(d.algo, "sha256");
	else if ((hex = vl_prefix(text, "sha512:")))
		strcpy(d.algo, "sha512");
	size_t bytes = vl_hash_size(d.algo);
	if (hex && strlen(hex) == 2 * bytes && vl_unhex(hex, bytes, raw) == 0) {
		memcpy(d.hex, hex, 2 * bytes);
		*ret = d;
		return 0;
	}
	VL_FREE char *shown = vl_printable(text, strnlen(text, 100));
	return vl_fail(err, EINVAL, "'%s' is not a digest: sha256 or sha512, a colon and lower-case hex digits", shown);
}

int oci_digest_check(const struct oci_digest *d, const void *p, size_t n, const char *what, struct vl_err *err)
{
	struct vl_hash *h;
	uint8_t raw[VL_HASH_MAX];
	char hex[VL_HASH_MAX * 2 + 1];
	int r = vl_hash_new(d->algo, &h, err);

	if (r < 0)
		return r;
	vl_hash_update(h, p, n);
	vl_hex(raw, vl_hash_final(h, raw), hex);
	vl_hash_free(h);
	if (!vl_streq(hex, d->hex))
		return vl_fail(err, EBADMSG, "%s is not what its digest says: it should have %s:%s, but has %s:%s",
			       what, d->algo, d->hex, d->algo, hex);
	return 0;
}
