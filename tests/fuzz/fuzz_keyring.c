/* Files of a keyring: OpenPGP keys, certificates, private keys under a passphrase. The first byte chooses which. */
#include "fuzz.h"

#include "sif/crypto.h"

static void pgp(const char *text, size_t n)
{
	VL_FREE char *id = NULL, *owner = NULL;
	struct vl_err err;

	if (sif_keyfile_pgp(text, n, "key", &id, &owner, &err) < 0)
		return;
	size_t len = strlen(id);
	if ((len != 40 && len != 64) || strspn(id, "0123456789ABCDEF") != len)
		abort();
	for (size_t i = 0, all = owner ? strlen(owner) : 0; i < all; i += len) /* it goes to a terminal */
		if ((len = vl_shown_bytes(owner + i, all - i)) == 0)
			abort();
}

static void certificate(const char *text, size_t n)
{
	SIF_KEY struct sif_key *k = NULL, *again = NULL;
	VL_BUF struct vl_buf pem = { 0 };
	struct vl_err err;

	if (sif_keyfile_certificate(text, n, "certificate", &k, &pem, &err) < 0)
		return;
	if (sif_keyfile_certificate(pem.data, pem.len, "certificate", &again, NULL, &err) < 0 ||
	    !vl_streq(sif_key_id(k), sif_key_id(again)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	SIF_KEY struct sif_key *k = NULL;
	struct vl_err err;

	if (n == 0)
		return 0;
	VL_FREE char *text = vl_strndup((const char *)data + 1, n - 1); /* NUL-terminated as vl_read_file gives it */
	size_t len = strlen(text);
	switch (data[0] % 3) {
	case 0:
		pgp(text, len);
		break;
	case 1:
		certificate(text, len);
		break;
	default: /* nobody answers: what is encrypted must not be opened */
		if (sif_key_unlock(text, len, "key", NULL, &k, NULL, &err) == 0 && sif_key_pem_is_encrypted(text, len))
			abort();
	}
	return 0;
}
