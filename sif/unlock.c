/* Private keys under a passphrase, both ways. Read: PKCS #8, and the older form that the header lines of a PEM block
 * announce. Written: PKCS #8 only. */
#include "crypto.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rand.h>

#define PBKDF2_ROUNDS 600000 /* a quarter of a second for who knows the passphrase */
#define SALT_BYTES 16

struct block { /* of a PEM file */
	char *label, *header;
	uint8_t *der;
	long n;
};

static void block_free(struct block *b)
{
	OPENSSL_free(b->label);
	OPENSSL_free(b->header);
	OPENSSL_clear_free(b->der, (size_t)b->n);
	*b = (struct block){ 0 };
}

static bool is_encrypted(const struct block *b)
{
	return vl_streq(b->label, PEM_STRING_PKCS8) || strstr(b->header, "ENCRYPTED");
}

/* The first block that is a key; what it is is not asked. */
static bool read_block(const char *pem, size_t len, struct block *ret)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)VL_MIN(len, (size_t)SIF_MAX_PEM));
	bool found;

	do {
		block_free(ret);
		found = PEM_read_bio(bio, &ret->label, &ret->header, &ret->der, &ret->n) == 1;
	} while (found && vl_streq(ret->label, PEM_STRING_ECPARAMETERS));
	BIO_free(bio);
	ERR_clear_error();
	return found;
}

static int give(char *buf, int size, int rwflag, void *passphrase)
{
	size_t n = strlen(passphrase);

	(void)rwflag;
	if (n > (size_t)size)
		return -1;
	memcpy(buf, passphrase, n);
	return (int)n;
}

static EVP_PKEY *decrypt_old(struct block *b, char *passphrase)
{
	EVP_CIPHER_INFO cipher;
	const uint8_t *p = b->der;

	if (PEM_get_EVP_CIPHER_INFO(b->header, &cipher) != 1 ||
	    PEM_do_header(&cipher, b->der, &b->n, give, passphrase) != 1)
		return NULL;
	if (vl_streq(b->label, PEM_STRING_RSA))
		return d2i_PrivateKey(EVP_PKEY_RSA, NULL, &p, b->n);
	return vl_streq(b->label, PEM_STRING_ECPRIVATEKEY) ? d2i_PrivateKey(EVP_PKEY_EC, NULL, &p, b->n) : NULL;
}

static EVP_PKEY *decrypt(struct block *b, char *passphrase)
{
	const uint8_t *p = b->der;

	if (!vl_streq(b->label, PEM_STRING_PKCS8))
		return decrypt_old(b, passphrase);
	X509_SIG *box = d2i_X509_SIG(NULL, &p, b->n);
	PKCS8_PRIV_KEY_INFO *info = box ? PKCS8_decrypt(box, passphrase, (int)strlen(passphrase)) : NULL;
	EVP_PKEY *pkey = info ? EVP_PKCS82PKEY(info) : NULL;
	PKCS8_PRIV_KEY_INFO_free(info);
	X509_SIG_free(box);
	return pkey;
}

static int unlock(struct block *b, const char *what, const struct sif_ask *ask, struct sif_key **ret,
		  char **ret_passphrase, struct vl_err *err)
{
	char *passphrase = NULL;
	int r;

	if (!ask)
		return vl_fail(err, EACCES, "%s: the key is encrypted, and there is no passphrase for it", what);
	r = ask->ask(ask->arg, what, &passphrase, err);
	if (r < 0)
		return r;
	EVP_PKEY *pkey = decrypt(b, passphrase);
	ERR_clear_error();
	r = pkey ? sif_key_take(pkey, what, ret, err)
		 : vl_fail(err, EACCES, "%s: cannot decrypt the key; is the passphrase right?", what);
	if (r == 0 && ret_passphrase) {
		*ret_passphrase = passphrase;
		return 0;
	}
	explicit_bzero(passphrase, strlen(passphrase));
	free(passphrase);
	return r;
}

int sif_key_unlock(const char *pem, size_t len, const char *what, const struct sif_ask *ask, struct sif_key **ret,
		   char **ret_passphrase, struct vl_err *err)
{
	VL_CLEANUP(block_free) struct block b = { 0 };

	if (read_block(pem, len, &b) && is_encrypted(&b))
		return unlock(&b, what, ask, ret, ret_passphrase, err);
	int r = sif_key_parse(pem, len, what, SIF_KEY_PRIVATE, ret, err);
	if (r == 0 && ret_passphrase)
		*ret_passphrase = NULL;
	return r;
}

bool sif_key_pem_is_encrypted(const char *pem, size_t len)
{
	VL_CLEANUP(block_free) struct block b = { 0 };
	return read_block(pem, len, &b) && is_encrypted(&b);
}

/* libcrypto's own writer stays at 2048 rounds, which was enough long ago. */
static X509_SIG *encrypt(const EVP_PKEY *pkey, const char *passphrase)
{
	uint8_t salt[SALT_BYTES];
	PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(pkey);
	X509_ALGOR *how = NULL;
	X509_SIG *box = NULL;

	if (info && RAND_bytes(salt, sizeof salt) == 1)
		how = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), PBKDF2_ROUNDS, salt, sizeof salt, NULL, NID_hmacWithSHA256);
	if (how)
		box = PKCS8_set0_pbe(passphrase, (int)strlen(passphrase), info, how);
	if (!box)
		X509_ALGOR_free(how);
	PKCS8_PRIV_KEY_INFO_free(info);
	return box;
}

int sif_key_pem_encrypted(const struct sif_key *k, const char *passphrase, struct vl_buf *ret, struct vl_err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	X509_SIG *box = encrypt(sif_key_pkey(k), passphrase);
	char *p;
	long n = bio && box && PEM_write_bio_PKCS8(bio, box) == 1 ? BIO_get_mem_data(bio, &p) : 0;

	if (n > 0)
		vl_buf_add(ret, p, (size_t)n);
	X509_SIG_free(box);
	BIO_free(bio);
	ERR_clear_error();
	return n > 0 ? 0 : vl_fail(err, EINVAL, "libcrypto cannot encrypt the key %s", sif_key_id(k));
}

int sif_key_open(const char *where, const struct sif_ask *ask, struct sif_key **ret, struct vl_err *err)
{
	VL_FREE char *pem = NULL;
	size_t n;

	if (sif_key_is_uri(where) && access(where, F_OK) < 0)
		return sif_key_from_token(where, ask, ret, err);
	int r = vl_read_file(AT_FDCWD, where, SIF_MAX_PEM, &pem, &n, err);
	if (r < 0)
		return r;
	r = sif_key_unlock(pem, n, where, ask, ret, NULL, err);
	explicit_bzero(pem, n);
	return r;
}
