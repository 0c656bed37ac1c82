/* Encrypted partitions: the secret out of its message object, and the content of the one file that gocryptfs has
 * encrypted. docs/sif.md, "Encrypted images". Every block is authenticated before a byte of it is handed on. */
#include "encrypted.h"

#include "crypto.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

enum { BATCH = 64 }; /* blocks that are written at a time */
#define MAX_MESSAGE (64u << 10)
#define MAX_SCRYPT_MEMORY (512ull << 20) /* gocryptfs takes 64 MiB */

struct sif_decrypt {
	EVP_CIPHER_CTX *cipher;
	uint8_t head[SIF_GCF_FILE_HEAD], block[SIF_GCF_BLOCK], plain[BATCH * SIF_GCF_PLAIN];
	size_t n_head, n_block, n_plain;
	uint64_t number; /* of the next block */
};

/* ---- the secret ---- */

/* One OCTET STRING of blocks as long as the key's modulus. */
static int unwrap(EVP_PKEY *pkey, const uint8_t *der, long n, struct vl_buf *ret)
{
	ASN1_OCTET_STRING *s = d2i_ASN1_OCTET_STRING(NULL, &der, n);
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	size_t width = (size_t)EVP_PKEY_get_size(pkey), len = s ? (size_t)ASN1_STRING_length(s) : 0;
	const uint8_t *p = s ? ASN1_STRING_get0_data(s) : NULL;
	VL_FREE uint8_t *out = vl_alloc(width);
	bool ok = s && ctx && len && len % width == 0 && EVP_PKEY_decrypt_init(ctx) == 1 &&
		  EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
		  EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) == 1;

	for (size_t at = 0; ok && at < len; at += width) {
		size_t got = width;
		ok = EVP_PKEY_decrypt(ctx, out, &got, p + at, width) == 1;
		if (ok)
			vl_buf_add(ret, out, got);
	}
	explicit_bzero(out, width);
	EVP_PKEY_CTX_free(ctx);
	ASN1_OCTET_STRING_free(s);
	ERR_clear_error();
	return ok && ret->len ? 0 : -EKEYREJECTED;
}

int sif_unwrap_secret(const struct sif_image *img, const struct sif_descr *partition, const struct sif_key *k,
		      struct vl_buf *ret, struct vl_err *err)
{
	const struct sif_descr *d = NULL;
	VL_FREE char *text = NULL;
	char *label = NULL, *header = NULL;
	uint8_t *der = NULL;
	size_t len;
	long n;

	for (size_t i = 0; i < img->n && !d; i++)
		if (img->d[i].type == SIF_CRYPTO_MESSAGE && img->d[i].link == partition->id)
			d = &img->d[i];
	if (!d)
		return vl_fail(err, ENOENT, "it was encrypted with a passphrase, not for a key");
	if (EVP_PKEY_get_base_id(sif_key_pkey(k)) != EVP_PKEY_RSA)
		return vl_fail(err, EKEYREJECTED, "images are encrypted for RSA keys; this one is %s", sif_key_type(k));
	int r = sif_read_object(img, d, MAX_MESSAGE, &text, &len, err);
	if (r < 0)
		return r;
	BIO *bio = BIO_new_mem_buf(text, (int)len);
	if (PEM_read_bio(bio, &label, &header, &der, &n) != 1 || !vl_streq(label, "MESSAGE"))
		r = vl_fail(err, EINVAL, "object %u is no wrapped key", d->id);
	else if ((r = unwrap(sif_key_pkey(k), der, n, ret)) < 0)
		r = vl_fail(err, EKEYREJECTED, "it was not encrypted for this key, %s", sif_key_id(k));
	OPENSSL_free(label);
	OPENSSL_free(header);
	OPENSSL_free(der);
	BIO_free(bio);
	ERR_clear_error();
	return r;
}

/* ---- gocryptfs.conf ---- */

static bool has_flag(const vl_json *flags, const char *word)
{
	for (size_t i = 0; i < vl_json_len(flags); i++) {
		const char *s = vl_json_string(vl_json_at(flags, i));
		if (s && vl_streq(s, word))
			return true;
	}
	return false;
}

static bool get_bytes(const vl_json *j, const char *member, uint8_t **ret, size_t *ret_len)
{
	const char *s = j ? vl_json_str(j, member) : NULL;
	return s && vl_unbase64(s, strlen(s), ret, ret_len) == 0;
}

static int parse_conf(const char *text, size_t len, uint8_t **salt, size_t *n_salt, uint8_t **key, size_t *n_key,
		      int64_t nrp[3], struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int64_t version = 0;
	int r = vl_json_parse(text, len, "gocryptfs.conf", &j, err);

	if (r < 0)
		return r;
	const vl_json *scrypt = vl_json_obj(j, "ScryptObject"), *flags = vl_json_arr(j, "FeatureFlags");
	if (!vl_json_int(j, "Version", &version) || version != 2 || !has_flag(flags, "HKDF") ||
	    !has_flag(flags, "GCMIV128") || has_flag(flags, "AESSIV") || has_flag(flags, "XChaCha20Poly1305") ||
	    has_flag(flags, "FIDO2"))
		return vl_fail(err, ENOTSUP, "gocryptfs.conf names a format other than version 2 with AES-GCM");
	if (!get_bytes(scrypt, "Salt", salt, n_salt) || !vl_json_int(scrypt, "N", &nrp[0]) ||
	    !vl_json_int(scrypt, "R", &nrp[1]) || !vl_json_int(scrypt, "P", &nrp[2]) ||
	    !get_bytes(j, "EncryptedKey", key, n_key) || *n_key != SIF_GCF_IV + SIF_GCF_KEY + SIF_GCF_TAG)
		return vl_fail(err, EINVAL, "gocryptfs.conf lacks the key, or how it is derived");
	if (nrp[0] < 1024 || nrp[0] > 1 << 22 || nrp[0] & (nrp[0] - 1) || nrp[1] < 1 || nrp[1] > 64 || nrp[2] < 1 ||
	    nrp[2] > 16 || (uint64_t)nrp[0] * (uint64_t)nrp[1] * 128 > MAX_SCRYPT_MEMORY)
		return vl_fail(err, EINVAL,
			       "gocryptfs.conf asks for more work or memory than is given to a passphrase");
	return 0;
}

int sif_decrypt_new(const char *conf, size_t len, const char *secret, size_t n_secret, struct sif_decrypt **ret,
		    struct vl_err *err)
{
	static const uint8_t block_zero[8];
	VL_FREE uint8_t *salt = NULL, *wrapped = NULL;
	size_t n_salt, n_wrapped;
	uint8_t a[SIF_GCF_KEY], b[SIF_GCF_KEY];
	EVP_CIPHER_CTX *outer = NULL, *content = NULL;
	int64_t nrp[3];
	bool known = false;
	int r = parse_conf(conf, len, &salt, &n_salt, &wrapped, &n_wrapped, nrp, err);

	if (r < 0)
		return r;
	if (sif_gcf_secret_key(secret, n_secret, salt, n_salt, nrp, a) && sif_gcf_content_key(a, b) &&
	    (outer = sif_gcf_cipher(b)))
		known = sif_gcf_open(outer, block_zero, sizeof block_zero, wrapped, n_wrapped, a);
	if (known && sif_gcf_content_key(a, b))
		content = sif_gcf_cipher(b);
	explicit_bzero(a, sizeof a);
	explicit_bzero(b, sizeof b);
	EVP_CIPHER_CTX_free(outer);
	if (!content)
		return known ? vl_fail(err, EINVAL, "libcrypto cannot decrypt with AES-256-GCM")
			     : vl_fail(err, EACCES, "the key or passphrase is not the image's");
	*ret = vl_alloc(sizeof **ret);
	(*ret)->cipher = content;
	return 0;
}

/* ---- the file ---- */

static int flush(struct sif_decrypt *d, int fd, struct vl_err *err)
{
	int r = vl_write_full(fd, d->plain, d->n_plain);

	d->n_plain = 0;
	return r < 0 ? vl_fail_sys(err, -r, "cannot write the decrypted image") : 0;
}

static int finish_block(struct sif_decrypt *d, int fd, struct vl_err *err)
{
	static const uint8_t zeros[SIF_GCF_BLOCK];
	uint8_t about[SIF_GCF_ABOUT], *to = d->plain + d->n_plain;
	size_t n = d->n_block;

	sif_gcf_about(d->number, d->head + 2, about);
	if (n == SIF_GCF_BLOCK && !memcmp(d->block, zeros, SIF_GCF_BLOCK)) /* a hole, which gocryptfs leaves alone */
		memset(to, 0, SIF_GCF_PLAIN);
	else if (n <= SIF_GCF_IV + SIF_GCF_TAG || !sif_gcf_open(d->cipher, about, sizeof about, d->block, n, to))
		return vl_fail(err, EBADMSG, "block %llu of the encrypted file was changed or cut",
			       (unsigned long long)d->number);
	d->number++;
	d->n_block = 0;
	d->n_plain += n - SIF_GCF_IV - SIF_GCF_TAG;
	return d->n_plain + SIF_GCF_PLAIN > sizeof d->plain ? flush(d, fd, err) : 0;
}

int sif_decrypt_data(struct sif_decrypt *d, const void *data, size_t n, int fd, struct vl_err *err)
{
	const uint8_t *p = data;
	int r = 0;

	while (n && r == 0) {
		bool head = d->n_head < SIF_GCF_FILE_HEAD;
		size_t room = head ? SIF_GCF_FILE_HEAD - d->n_head : SIF_GCF_BLOCK - d->n_block, take = VL_MIN(room, n);
		memcpy(head ? d->head + d->n_head : d->block + d->n_block, p, take);
		*(head ? &d->n_head : &d->n_block) += take;
		p += take;
		n -= take;
		if (head && d->n_head == SIF_GCF_FILE_HEAD && (d->head[0] != 0 || d->head[1] != 2))
			r = vl_fail(err, ENOTSUP, "the encrypted file is not of gocryptfs' version 2");
		else if (!head && d->n_block == SIF_GCF_BLOCK)
			r = finish_block(d, fd, err);
	}
	return r;
}

int sif_decrypt_end(struct sif_decrypt *d, int fd, struct vl_err *err)
{
	int r = d->n_block ? finish_block(d, fd, err) : 0;

	if (r == 0 && d->number == 0)
		r = vl_fail(err, EINVAL, "the encrypted file is empty");
	return r < 0 ? r : flush(d, fd, err);
}

void sif_decrypt_free(struct sif_decrypt *d)
{
	if (!d)
		return;
	EVP_CIPHER_CTX_free(d->cipher);
	explicit_bzero(d, sizeof *d);
	free(d);
}

void sif_decrypt_freep(struct sif_decrypt **d)
{
	sif_decrypt_free(*d);
	*d = NULL;
}
