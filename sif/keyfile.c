/* What files that are not bare keys say of themselves: certificates and OpenPGP keys. Who vouches for them is not asked
 * here, and no signature in them is looked at. */
#include "crypto.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

/* ---- certificates ---- */

static X509 *first_certificate(const char *pem, size_t len)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)VL_MIN(len, (size_t)SIF_MAX_PEM));
	X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return x;
}

int sif_keyfile_certificate(const char *pem, size_t len, const char *what, struct sif_key **ret, struct vl_buf *ret_pem,
			    struct vl_err *err)
{
	X509 *x = first_certificate(pem, len);
	EVP_PKEY *pkey = x ? X509_get_pubkey(x) : NULL;
	BIO *bio = BIO_new(BIO_s_mem());
	char *p = NULL;
	long n = 0;
	int r = pkey ? sif_key_take(pkey, what, ret, err)
		     : vl_fail(err, EINVAL, "%s: no certificate with a key could be read", what);

	if (r == 0)
		sif_key_set_subject(*ret, x);
	if (r == 0 && ret_pem) {
		if (bio && PEM_write_bio_X509(bio, x) == 1)
			n = BIO_get_mem_data(bio, &p);
		vl_buf_add(ret_pem, n > 0 ? p : "", (size_t)VL_MAX(n, 0L));
	}
	BIO_free(bio);
	X509_free(x);
	ERR_clear_error();
	return r;
}

/* ---- OpenPGP: RFC 9580 (and 4880), armor and the head of the packets ---- */

struct bytes {
	const uint8_t *p;
	size_t n;
};

enum {
	TAG_SIGNATURE = 2,
	TAG_PUBLIC_KEY = 6,
	TAG_TRUST = 12,
	TAG_USER_ID = 13,
	TAG_PUBLIC_SUBKEY = 14,
	TAG_USER_ATTRIBUTE = 17,
	TAG_PADDING = 21
};

#define BEGIN "-----BEGIN PGP PUBLIC KEY BLOCK-----"
#define END "\n-----END PGP PUBLIC KEY BLOCK-----"

static int fail_beside(const char *what, struct vl_err *err)
{
	return vl_fail(err, EINVAL,
		       "%s holds something beside one armored OpenPGP public key; import keys one by one, each as gpg "
		       "--armor --export writes it",
		       what);
}

/* The lines of an armor from the end of its first line to stop; its headers and checksum left out. */
static bool read_lines(const char *at, const char *stop, struct vl_buf *ret)
{
	bool body = false, end = false;

	for (; at < stop; at += strcspn(at, "\n")) {
		size_t n = strcspn(++at, "\r\n");
		if (end && n)
			return false;
		end |= body && *at == '=';
		if (body && !end)
			vl_buf_add(ret, at, n);
		body |= strspn(at, " \t") == n; /* headers end at an empty line */
	}
	return true;
}

/* What the armor holds; new. Nothing but white space may be around it: who reads the whole file would find other keys
 * there. */
static int read_armor(const char *text, const char *what, uint8_t **ret, size_t *ret_len, struct vl_err *err)
{
	const char *at = vl_prefix(text + strspn(text, " \t\r\n"), BEGIN), *stop = at ? strstr(at, END) : NULL;
	VL_BUF struct vl_buf b64 = { 0 };

	if (strstr(text, "-----BEGIN PGP PRIVATE KEY"))
		return vl_fail(err, ENOTSUP,
			       "%s holds a private OpenPGP key; the keyring takes public ones, as gpg --armor --export "
			       "writes them",
			       what);
	if (!at && strstr(text, BEGIN))
		return fail_beside(what, err);
	if (!stop)
		return vl_fail(err, EINVAL, "%s: no armored OpenPGP public key found", what);
	const char *rest = stop + strlen(END);
	if (rest[strspn(rest, " \t\r\n")] || at[strspn(at, " \t\r")] != '\n')
		return fail_beside(what, err);
	if (!read_lines(strchr(at, '\n'), stop, &b64))
		return fail_beside(what, err);
	if (!b64.len || vl_unbase64(b64.data, b64.len, ret, ret_len) < 0)
		return vl_fail(err, EINVAL, "%s: the armor of the OpenPGP key is damaged", what);
	return 0;
}

/* One packet of known length off the front. Lengths of several parts are for data, not for keys. */
static bool next_packet(struct bytes *in, unsigned *ret_tag, struct bytes *ret_body)
{
	const uint8_t *p = in->p;
	size_t head, len = 0;

	if (in->n < 2 || !(p[0] & 0x80))
		return false;
	if (p[0] & 0x40) {
		*ret_tag = p[0] & 0x3f;
		head = p[1] < 192 ? 2 : p[1] < 224 ? 3 : p[1] == 255 ? 6 : 0;
		if (!head || in->n < head)
			return false;
		len = head == 2   ? p[1]
		      : head == 3 ? ((size_t)(p[1] - 192) << 8) + p[2] + 192
				  : (size_t)p[2] << 24 | (size_t)p[3] << 16 | (size_t)p[4] << 8 | p[5];
	} else {
		*ret_tag = p[0] >> 2 & 0xf;
		head = (size_t[]){ 2, 3, 5, 0 }[p[0] & 3];
		if (!head || in->n < head)
			return false;
		for (size_t i = 1; i < head; i++)
			len = len << 8 | p[i];
	}
	if (len > in->n - head)
		return false;
	*ret_body = (struct bytes){ p + head, len };
	*in = (struct bytes){ p + head + len, in->n - head - len };
	return true;
}

static char *fingerprint(struct bytes key)
{
	bool v6 = key.n && key.p[0] == 6;
	uint8_t head[5] = { v6 ? 0x9b : 0x99 }, digest[EVP_MAX_MD_SIZE];
	size_t n_head = v6 ? 5 : 3;
	unsigned n = 0;

	if (key.n < 6 || (key.p[0] != 4 && !v6) || (!v6 && key.n > 0xffff))
		return NULL;
	for (size_t i = 1; i < n_head; i++)
		head[i] = (uint8_t)(key.n >> 8 * (n_head - 1 - i));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, v6 ? EVP_sha256() : EVP_sha1(), NULL) == 1 &&
		  EVP_DigestUpdate(ctx, head, n_head) == 1 && EVP_DigestUpdate(ctx, key.p, key.n) == 1 &&
		  EVP_DigestFinal_ex(ctx, digest, &n) == 1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return NULL;
	VL_BUF struct vl_buf hex = { 0 };
	for (unsigned i = 0; i < n; i++)
		vl_buf_addf(&hex, "%02X", digest[i]);
	return vl_steal(&hex.data);
}

static bool may_follow(unsigned tag)
{
	return tag == TAG_SIGNATURE || tag == TAG_TRUST || tag == TAG_USER_ID || tag == TAG_PUBLIC_SUBKEY ||
	       tag == TAG_USER_ATTRIBUTE || tag == TAG_PADDING;
}

/* All packets are looked at, to the last byte: another reader would take up what we left out. */
static int read_packets(struct bytes in, const char *what, char **ret_id, char **ret_owner, struct vl_err *err)
{
	VL_FREE char *id = NULL, *owner = NULL;
	struct bytes body;
	unsigned tag;

	if (!next_packet(&in, &tag, &body) || tag != TAG_PUBLIC_KEY || !(id = fingerprint(body)))
		return vl_fail(err, EINVAL, "%s: not an OpenPGP public key of version 4 or 6", what);
	while (in.n) {
		if (!next_packet(&in, &tag, &body))
			return vl_fail(err, EINVAL, "%s: the OpenPGP key is damaged", what);
		if (tag == TAG_PUBLIC_KEY)
			return vl_fail(err, EINVAL, "%s holds more than one OpenPGP key; import them one by one", what);
		if (!may_follow(tag))
			return fail_beside(what, err);
		if (tag == TAG_USER_ID && !owner)
			owner = vl_printable((const char *)body.p, VL_MIN(body.n, (size_t)256));
	}
	*ret_id = vl_steal(&id);
	*ret_owner = vl_steal(&owner);
	return 0;
}

int sif_keyfile_pgp(const char *text, size_t len, const char *what, char **ret_id, char **ret_owner, struct vl_err *err)
{
	VL_FREE uint8_t *raw = NULL;
	size_t n = 0;

	if (strlen(text) != len)
		return vl_fail(err, EINVAL, "%s: an armored key is text", what);
	int r = read_armor(text, what, &raw, &n, err);
	return r < 0 ? r : read_packets((struct bytes){ raw, n }, what, ret_id, ret_owner, err);
}
