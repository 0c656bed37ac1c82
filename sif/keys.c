/* PEM keys and the three signature algorithms. Success of a libcrypto call is exactly 1: a
 * malformed signature may give -1, which is true as a C condition. */
#include "crypto.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#define RSA_MIN_BITS 2048
#define RSA_MAX_BITS 16384 /* a larger key only slows verifying down */

struct sif_key {
	EVP_PKEY *pkey;
	bool is_rsa, is_ed25519;
	char *type;
	struct sif_signer signer; /* its id is the key's */
};

static const struct {
	const char *group, *ssh, *word;
	size_t bytes; /* of one coordinate */
} curves[] = {
	{ "prime256v1", "nistp256", "ECDSA P-256", 32 },
	{ "secp384r1", "nistp384", "ECDSA P-384", 48 },
	{ "secp521r1", "nistp521", "ECDSA P-521", 66 },
};

/* The newest reason libcrypto gave; its queue is emptied, it is per thread and not ours to leave. */
static int fail_crypto(struct vl_err *err, const char *what, const char *doing)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	int r = vl_fail(err, EINVAL, "%s: %s: %s", what, doing, why ? why : "libcrypto gives no reason");

	ERR_clear_error();
	return r;
}

/* ---- the id: SHA-256 over the SSH wire form, RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4 ---- */

static void add_u32be(struct vl_buf *b, size_t n)
{
	uint8_t be[4] = { (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };
	vl_buf_add(b, be, 4);
}

static void add_string(struct vl_buf *b, const void *p, size_t n)
{
	add_u32be(b, n);
	vl_buf_add(b, p, n);
}

static bool add_number(struct vl_buf *b, const EVP_PKEY *pkey, const char *param, size_t width, bool mpint)
{
	BIGNUM *n = NULL;
	uint8_t bytes[RSA_MAX_BITS / 8];

	if (EVP_PKEY_get_bn_param(pkey, param, &n) != 1)
		return false;
	int len = width ? (int)width : BN_num_bytes(n);
	bool ok = (size_t)len <= sizeof bytes && BN_bn2binpad(n, bytes, len) == len;
	BN_free(n);
	if (!ok)
		return false;
	if (mpint) { /* a number with the top bit set would read as negative */
		bool top = len && bytes[0] & 0x80;
		add_u32be(b, (size_t)len + top);
		if (top)
			vl_buf_add(b, "", 1);
	}
	vl_buf_add(b, bytes, (size_t)len);
	return true;
}

static bool wire_ec(struct vl_buf *b, const EVP_PKEY *pkey, size_t curve)
{
	VL_FREE char *name = vl_asprintf("ecdsa-sha2-%s", curves[curve].ssh);
	size_t bytes = curves[curve].bytes;

	add_string(b, name, strlen(name));
	add_string(b, curves[curve].ssh, strlen(curves[curve].ssh));
	add_u32be(b, 1 + 2 * bytes);
	vl_buf_add(b, "\4", 1); /* uncompressed, however the PEM file holds the point */
	return add_number(b, pkey, OSSL_PKEY_PARAM_EC_PUB_X, bytes, false) &&
	       add_number(b, pkey, OSSL_PKEY_PARAM_EC_PUB_Y, bytes, false);
}

static bool wire_ed25519(struct vl_buf *b, const EVP_PKEY *pkey)
{
	uint8_t raw[32];
	size_t n = sizeof raw;

	if (EVP_PKEY_get_raw_public_key(pkey, raw, &n) != 1 || n != sizeof raw)
		return false;
	add_string(b, "ssh-ed25519", 11);
	add_string(b, raw, n);
	return true;
}

static bool wire_rsa(struct vl_buf *b, const EVP_PKEY *pkey)
{
	add_string(b, "ssh-rsa", 7);
	return add_number(b, pkey, OSSL_PKEY_PARAM_RSA_E, 0, true) &&
	       add_number(b, pkey, OSSL_PKEY_PARAM_RSA_N, 0, true);
}

static int describe_rsa(struct sif_key *k, const char *what, struct vl_buf *wire, struct vl_err *err)
{
	int bits = EVP_PKEY_get_bits(k->pkey);

	if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS)
		return vl_fail(err, ENOTSUP, "%s: an RSA key of %d bits is not accepted, %d to %d are", what, bits,
			       RSA_MIN_BITS, RSA_MAX_BITS);
	k->is_rsa = true;
	k->type = vl_asprintf("RSA %d", bits);
	return wire_rsa(wire, k->pkey) ? 0 : fail_crypto(err, what, "cannot read the RSA key");
}

static int describe_ec(struct sif_key *k, const char *what, struct vl_buf *wire, struct vl_err *err)
{
	char group[64] = "";

	/* curves with spelled-out parameters have no name and are refused with the other curves */
	if (EVP_PKEY_get_group_name(k->pkey, group, sizeof group, NULL) != 1)
		*group = 0;
	for (size_t i = 0; i < VL_COUNT(curves); i++)
		if (vl_streq(curves[i].group, group)) {
			k->type = vl_strdup(curves[i].word);
			return wire_ec(wire, k->pkey, i) ? 0 : fail_crypto(err, what, "cannot read the ECDSA key");
		}
	return vl_fail(err, ENOTSUP, "%s: the curve %s is not accepted; P-256, P-384 and P-521 are", what,
		       *group ? group : "of this key");
}

static int describe(struct sif_key *k, const char *what, struct vl_err *err)
{
	VL_BUF struct vl_buf wire = { 0 };
	uint8_t sha[32];
	int r;

	switch (EVP_PKEY_get_base_id(k->pkey)) {
	case EVP_PKEY_RSA:
		r = describe_rsa(k, what, &wire, err);
		break;
	case EVP_PKEY_EC:
		r = describe_ec(k, what, &wire, err);
		break;
	case EVP_PKEY_ED25519:
		k->is_ed25519 = true;
		k->type = vl_strdup("Ed25519");
		r = wire_ed25519(&wire, k->pkey) ? 0 : fail_crypto(err, what, "cannot read the Ed25519 key");
		break;
	default:
		r = vl_fail(err, ENOTSUP, "%s: keys of this type are not accepted; Ed25519, ECDSA and RSA are", what);
	}
	if (r < 0)
		return r;
	vl_sha256(wire.data, wire.len, sha);
	VL_FREE char *b64 = vl_base64(sha, sizeof sha, false);
	k->signer = (struct sif_signer){ .kind = SIF_SIGNER_KEY, .id = vl_asprintf("SHA256:%s", b64) };
	return 0;
}

int sif_key_take(void *evp_pkey, const char *what, struct sif_key **ret, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = vl_alloc(sizeof *k);

	k->pkey = evp_pkey;
	int r = describe(k, what, err);
	if (r < 0)
		return r;
	*ret = vl_steal(&k);
	return 0;
}

int sif_key_take_opaque(void *evp_pkey, const char *what, struct sif_key **ret, struct vl_err *err)
{
	uint8_t *der = NULL;
	int n = i2d_PUBKEY(evp_pkey, &der);
	const uint8_t *p = der;
	EVP_PKEY *public = n > 0 ? d2i_PUBKEY(NULL, &p, n) : NULL;
	int r = public ? sif_key_take(public, what, ret, err) : fail_crypto(err, what, "cannot read its public half");

	OPENSSL_free(der);
	if (r < 0) {
		EVP_PKEY_free(evp_pkey);
		return r;
	}
	EVP_PKEY_free((*ret)->pkey);
	(*ret)->pkey = evp_pkey;
	return 0;
}

void *sif_key_pkey(const struct sif_key *k)
{
	return k->pkey;
}

/* ---- PEM ---- */

static EVP_PKEY *decode(const char *label, const uint8_t *der, long n, enum sif_key_use use)
{
	if (use == SIF_KEY_PUBLIC) {
		if (vl_streq(label, PEM_STRING_PUBLIC))
			return d2i_PUBKEY(NULL, &der, n);
		return d2i_PublicKey(EVP_PKEY_RSA, NULL, &der, n);
	}
	if (vl_streq(label, PEM_STRING_PKCS8INF)) {
		PKCS8_PRIV_KEY_INFO *p8 = d2i_PKCS8_PRIV_KEY_INFO(NULL, &der, n);
		EVP_PKEY *pkey = p8 ? EVP_PKCS82PKEY(p8) : NULL;
		PKCS8_PRIV_KEY_INFO_free(p8);
		return pkey;
	}
	return d2i_PrivateKey(vl_streq(label, PEM_STRING_RSA) ? EVP_PKEY_RSA : EVP_PKEY_EC, NULL, &der, n);
}

/* Says which block may be decoded: an allow-list, so that no other parser of libcrypto runs. */
static int check_label(const char *label, const char *header, const char *what, enum sif_key_use use,
		       struct vl_err *err)
{
	bool public = vl_streq(label, PEM_STRING_PUBLIC) || vl_streq(label, PEM_STRING_RSA_PUBLIC);
	bool private = vl_streq(label, PEM_STRING_PKCS8INF) || vl_streq(label, PEM_STRING_RSA) ||
		       vl_streq(label, PEM_STRING_ECPRIVATEKEY);

	if (vl_streq(label, PEM_STRING_PKCS8) || strstr(header, "ENCRYPTED"))
		return use == SIF_KEY_PUBLIC
			       ? vl_fail(err, EINVAL, "%s holds a private key; verifying takes the public one", what)
			       : vl_fail(err, EACCES, "%s: the key is encrypted", what);
	if (vl_streq(label, PEM_STRING_X509))
		return vl_fail(err, EINVAL, "%s holds a certificate, not a key; use --certificate", what);
	if (use == SIF_KEY_PUBLIC && private)
		return vl_fail(err, EINVAL, "%s holds a private key; verifying takes the public one", what);
	if (use == SIF_KEY_PRIVATE && public)
		return vl_fail(err, EINVAL, "%s holds a public key; signing takes the private one", what);
	if (!public && !private) {
		VL_FREE char *shown = vl_printable(label, VL_MIN(strlen(label), (size_t)40));
		return vl_fail(err, EINVAL, "%s: a PEM block '%s' is not a key this program reads", what, shown);
	}
	return 0;
}

int sif_key_parse(const char *pem, size_t len, const char *what, enum sif_key_use use, struct sif_key **ret,
		  struct vl_err *err)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)VL_MIN(len, (size_t)SIF_MAX_PEM));
	char *label = NULL, *header = NULL;
	uint8_t *der = NULL;
	EVP_PKEY *pkey = NULL;
	long n = 0;
	int r, found;

	do { /* "EC PARAMETERS" comes before the key in files of `openssl ecparam` */
		OPENSSL_free(label);
		OPENSSL_free(header);
		OPENSSL_clear_free(der, (size_t)n);
		label = header = NULL;
		der = NULL;
		n = 0;
		found = PEM_read_bio(bio, &label, &header, &der, &n);
	} while (found == 1 && vl_streq(label, PEM_STRING_ECPARAMETERS));
	if (found != 1) {
		ERR_clear_error();
		r = vl_fail(err, EINVAL, "%s: no PEM key found", what);
	} else if ((r = check_label(label, header, what, use, err)) == 0) {
		pkey = decode(label, der, n, use);
		r = pkey ? sif_key_take(pkey, what, ret, err) : fail_crypto(err, what, "cannot read the key");
	}
	if (found == 1) {
		OPENSSL_free(label);
		OPENSSL_free(header);
		OPENSSL_clear_free(der, (size_t)n);
	}
	BIO_free(bio);
	return r;
}

int sif_key_load(const char *path, enum sif_key_use use, struct sif_key **ret, struct vl_err *err)
{
	char *pem;
	size_t n;
	int r = vl_read_file(AT_FDCWD, path, SIF_MAX_PEM, &pem, &n, err);

	if (r < 0)
		return r;
	r = sif_key_parse(pem, n, path, use, ret, err);
	explicit_bzero(pem, n);
	free(pem);
	return r;
}

int sif_key_pem(const struct sif_key *k, enum sif_key_use use, struct vl_buf *ret, struct vl_err *err)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	char *p;
	int ok = use == SIF_KEY_PUBLIC ? PEM_write_bio_PUBKEY(bio, k->pkey)
				       : PEM_write_bio_PKCS8PrivateKey(bio, k->pkey, NULL, NULL, 0, NULL, NULL);
	long n = ok == 1 ? BIO_get_mem_data(bio, &p) : 0;
	int r = 0;

	if (n > 0)
		vl_buf_add(ret, p, (size_t)n);
	else
		r = fail_crypto(err, k->type, "cannot write the key");
	BIO_free(bio);
	return r;
}

int sif_key_new(const char *type, unsigned bits, struct sif_key **ret, struct vl_err *err)
{
	EVP_PKEY *pkey = NULL;

	if (vl_streq(type, "ed25519") && bits == 0) {
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	} else if (vl_streq(type, "ecdsa") && (bits == 0 || bits == 256 || bits == 384 || bits == 521)) {
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", bits == 384 ? "P-384" : bits == 521 ? "P-521" : "P-256");
	} else if (vl_streq(type, "rsa") && (bits == 0 || (bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS))) {
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)(bits ? bits : 3072));
	} else {
		return vl_fail(
			err, EINVAL,
			"no keys of type '%.20s' with %u bits: ed25519, ecdsa (256, 384, 521) and rsa (%d to %d) exist",
			type, bits, RSA_MIN_BITS, RSA_MAX_BITS);
	}
	return pkey ? sif_key_take(pkey, "the new key", ret, err) : fail_crypto(err, type, "cannot make a key");
}

/* ---- signing ---- */

static bool start(EVP_MD_CTX *ctx, const struct sif_key *k, bool sign)
{
	EVP_PKEY_CTX *pctx = NULL; /* owned by ctx */
	const char *md = k->is_ed25519 ? NULL : "SHA256";
	int r = sign ? EVP_DigestSignInit_ex(ctx, &pctx, md, NULL, NULL, k->pkey, NULL)
		     : EVP_DigestVerifyInit_ex(ctx, &pctx, md, NULL, NULL, k->pkey, NULL);

	return r == 1 && (!k->is_rsa || EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PADDING) == 1);
}

int sif_key_sign(const struct sif_key *k, const void *p, size_t n, uint8_t **ret_sig, size_t *ret_len,
		 struct vl_err *err)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	VL_FREE uint8_t *sig = NULL;
	size_t len = 0;
	bool ok = ctx && start(ctx, k, true) && EVP_DigestSign(ctx, NULL, &len, p, n) == 1;

	if (ok) {
		sig = vl_alloc(len);
		ok = EVP_DigestSign(ctx, sig, &len, p, n) == 1;
	}
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return fail_crypto(err, k->type, "cannot sign");
	*ret_sig = vl_steal(&sig);
	*ret_len = len;
	return 0;
}

bool sif_key_check(const struct sif_key *k, const void *p, size_t n, const uint8_t *sig, size_t sig_len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && start(ctx, k, false) && EVP_DigestVerify(ctx, sig, sig_len, p, n) == 1;

	EVP_MD_CTX_free(ctx);
	ERR_clear_error(); /* a wrong signature leaves its reason there */
	return ok;
}

const char *sif_key_id(const struct sif_key *k)
{
	return k->signer.id;
}

const struct sif_signer *sif_key_signer(const struct sif_key *k)
{
	return &k->signer;
}

void sif_key_set_signer(struct sif_key *k, enum sif_signer_kind kind, const char *name)
{
	free(k->signer.name);
	k->signer.kind = kind;
	k->signer.name = name ? vl_printable(name, strlen(name)) : NULL;
}

const char *sif_key_type(const struct sif_key *k)
{
	return k->type;
}

void sif_key_free(struct sif_key *k)
{
	if (!k)
		return;
	EVP_PKEY_free(k->pkey);
	free(k->signer.id);
	free(k->signer.name);
	free(k->type);
	free(k);
}

void sif_key_freep(struct sif_key **k)
{
	int keep = errno;
	sif_key_free(*k);
	*k = NULL;
	errno = keep;
}
