/* Clear-signed texts and what is inside old ones. The first byte chooses which. Whatever verifies must be one of the
 * texts that the owner of the key has signed: those of the seeds. */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>

#include "sif/crypto.h"

static const char key_asc[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
			      "mQENBGsCCB8BCADdtX2Ek5zcLfmtogPa6PDlueMoI6R3twtOzwxVMSram15Nz+o6\n"
			      "W4S+bFi6ZoUyNXFFEzkbSSYrDlNbOiUIRmEJfIBg9/DfhMC2TDkHx+9eN3RAzq1r\n"
			      "aY/TEzql8Xa442JhaP1yZ9ZQGthAZRlDpszb3aQ/yWs1/32qdxprY+d9k+DqzNDM\n"
			      "W2uuZAVYQSoz4JYNnvTjFFDQeTiCpx4WkLXpBrbtFwxVdnMMck/nvDemnw1ujRjC\n"
			      "Xg9yCCaCtgREldWcpeHAO88Fkhtdp0uiM1AQCzzjku3nIw4cmj4ns9Vihc4gj3j2\n"
			      "QCDacDTWyj9nIpM2uB2c0SpOvyicwr1djqmXABEBAAG0I0NvcnB1cyBEZXYgPGNv\n"
			      "cnB1c0BleGFtcGxlLmludmFsaWQ+iQFOBBMBCgA4FiEEA0a5+P4LcTtVULE/UKgD\n"
			      "WuZrmTsFAmsCCB8CGwMFCwkIBwIGFQoJCAsCBBYCAwECHgECF4AACgkQUKgDWuZr\n"
			      "mTtESAgA0YZ7CC075aOO1fDG657kyONt9e2ohv4NnIqcP10Q2K13kh7dl92Pup2S\n"
			      "mFGpj8IlE9AIaDxN6skYcL4/k78b2uEUFbCrI8cND0BKLACwxZATRSGHCjNDVnVf\n"
			      "p+sig9PL3HS1ywL0MUx4nzrlmFHW+iOgQQi+AZRJaRO7mDg8rJckeeUNd8/VCzQh\n"
			      "oDHt6DIIIkV1NA6x/jRRw212PsJRwokkHnOcagnnd8TohMg+fLhB+ulAVpyb/AMJ\n"
			      "XoZZ5N0MqnOpmSnWcV4XaUDEHUrMHRQ5G0x+j0EYHyoH7togqKEuYx0uhG2Uh1vj\n"
			      "SECX4jQjdn+YXg65E0ujwDHSY4lSLA==\n"
			      "=yTP/\n"
			      "-----END PGP PUBLIC KEY BLOCK-----\n";
static const uint8_t fingerprint[20] = { 0x03, 0x46, 0xB9, 0xF8, 0xFE, 0x0B, 0x71, 0x3B, 0x55, 0x50,
					 0xB1, 0x3F, 0x50, 0xA8, 0x03, 0x5A, 0xE6, 0x6B, 0x99, 0x3B };

static struct sif_pgp *library(void)
{
	static struct sif_pgp *p;
	static char text[sizeof key_asc];
	static struct sif_pgp_file file = { .text = text, .len = sizeof key_asc - 1, .what = "key" };
	struct sif_pgp_keys keys = { &file, 1 };
	struct vl_err err;

	if (p)
		return p;
	memcpy(text, key_asc, sizeof text);
	stderr = fopen("/dev/null", "we"); /* for the library alone: the engine and sanitizers hold the descriptor */
	if (!stderr || sif_pgp_new(&keys, &p, &err) < 0)
		abort();
	return p;
}

static bool was_signed(const char *payload)
{
	static const char *const begins[] = {
		"{\"version\":1,\"header\":{\"digest\":\"sha256:"
		"a6c82102f53323b5e24788782724f4d8338fe969a9f5965260ea75ae96b0186b\"}",
		"SIFHASH:"
		"\n8aa8366a8160d9164f6060070554ffcef84b7279e5f9342b639a425109dd6673af51ad03e375e3b540a79a4a77f98d69",
		"SIFHASH:"
		"\ne0865768845e814e79c3ed2d9bcc2b66717de7c12b8aeb533979b25fc2cbe9ee8d142d91036f2a163f2fc998cb091f44",
	};

	/* line ends are not signed */
	VL_BUF struct vl_buf b = { 0 };
	for (const char *c = payload; *c; c++)
		if (*c != '\r')
			vl_buf_add(&b, c, 1);
	for (size_t i = 0; i < VL_COUNT(begins); i++)
		if (b.data && vl_prefix(b.data, begins[i]))
			return true;
	return false;
}

static void clear_signed(const char *text, size_t n)
{
	struct sif_signature s = { 0 };
	VL_FREE char *payload = NULL;
	struct vl_err err;
	size_t len;

	if (sif_pgp_check(library(), text, n, fingerprint, &s, &payload, &len, &err) == 0 && !was_signed(payload))
		abort();
	sif_signature_free(&s);
}

static void old_style(const char *text)
{
	struct sif_digest d;
	struct vl_err err;

	for (uint32_t hash = 0; hash < 7; hash++)
		if (sif_legacy_parse(text, hash, &d, &err) == 0 && !strstr(text, "SIFHASH:"))
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	VL_FREE char *text = vl_strndup((const char *)data + 1, n - 1); /* NUL-terminated as sif_read_object gives it */
	if (data[0] % 2)
		clear_signed(text, n - 1);
	else
		old_style(text);
	return 0;
}
