/* The other direction of encrypted.c: one file as gocryptfs would have encrypted it, written at any place of it. What is
 * plain is in memory only, in a few pages; what leaves them is encrypted anew, each time with new nonces. */
#include "encrypted.h"

#include "crypto.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>

enum {
	PAGES = 4,        /* at a time: who writes a squashfs compares what it wrote with itself */
	PAGE_BLOCKS = 32, /* blocks that are encrypted and written together */
	PAGE = PAGE_BLOCKS * SIF_GCF_PLAIN,
	SALT = 32,
	RSA_BITS = 2048, /* at least */
	FORMAT_PEM = 2,  /* as SIF numbers them */
	MESSAGE_RSA_OAEP = 0x200,
};
#define NO_PAGE UINT64_MAX

struct page {
	uint64_t number; /* NO_PAGE: nothing is in it */
	uint64_t used;   /* when, on the clock of sif_encrypt */
	bool dirty;
	uint8_t plain[PAGE];
};

struct sif_encrypt {
	EVP_CIPHER_CTX *cipher;
	char *conf;
	int fd; /* borrowed */
	uint64_t base;
	uint8_t file_id[SIF_GCF_FILE_ID];
	uint64_t size;   /* plain bytes so far */
	uint64_t stored; /* those of them that were written at least once */
	uint64_t clock;
	struct page pages[PAGES];
	uint8_t sealed[PAGE_BLOCKS * SIF_GCF_BLOCK];
};

/* ---- the secret ---- */

int sif_secret_random(char ret[SIF_SECRET_SIZE + 1], struct vl_err *err)
{
	uint8_t bytes[SIF_SECRET_SIZE / 2];

	if (RAND_priv_bytes(bytes, sizeof bytes) != 1)
		return vl_fail(err, EIO, "libcrypto has no random numbers");
	for (size_t i = 0; i < sizeof bytes; i++)
		snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
	OPENSSL_cleanse(bytes, sizeof bytes);
	return 0;
}

static int wrap(EVP_PKEY *pkey, const char *secret, size_t n, uint8_t *out, size_t *ret_len)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(pkey, NULL);
	bool ok = ctx && EVP_PKEY_encrypt_init(ctx) == 1 &&
		  EVP_PKEY_CTX_set_rsa_padding(ctx, RSA_PKCS1_OAEP_PADDING) == 1 &&
		  EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) == 1 &&
		  EVP_PKEY_encrypt(ctx, out, ret_len, (const uint8_t *)secret, n) == 1;

	EVP_PKEY_CTX_free(ctx);
	ERR_clear_error();
	return ok ? 0 : -EKEYREJECTED;
}

static int add_message(const uint8_t *p, size_t n, struct vl_buf *ret)
{
	ASN1_OCTET_STRING *s = ASN1_OCTET_STRING_new();
	BIO *bio = BIO_new(BIO_s_mem());
	uint8_t *der = NULL;
	char *text = NULL;
	int len = s && ASN1_OCTET_STRING_set(s, p, (int)n) == 1 ? i2d_ASN1_OCTET_STRING(s, &der) : -1;
	bool ok = len > 0 && bio && PEM_write_bio(bio, "MESSAGE", "", der, len) > 0;

	long n_text = ok ? BIO_get_mem_data(bio, &text) : 0;
	if (n_text > 0)
		vl_buf_add(ret, text, (size_t)n_text);
	OPENSSL_free(der);
	BIO_free(bio);
	ASN1_OCTET_STRING_free(s);
	ERR_clear_error();
	return n_text > 0 ? 0 : -ENOMEM;
}

int sif_wrap_secret(const struct sif_key *k, const char *secret, size_t n, struct vl_buf *ret, struct vl_err *err)
{
	EVP_PKEY *pkey = sif_key_pkey(k);
	size_t len = (size_t)EVP_PKEY_get_size(pkey);

	if (EVP_PKEY_get_base_id(pkey) != EVP_PKEY_RSA || EVP_PKEY_get_bits(pkey) < RSA_BITS)
		return vl_fail(err, EKEYREJECTED,
			       "images are encrypted for RSA keys of %d bits or more; this one is %s", RSA_BITS,
			       sif_key_type(k));
	VL_FREE uint8_t *out = vl_alloc(len);
	if (wrap(pkey, secret, n, out, &len) < 0 || add_message(out, len, ret) < 0)
		return vl_fail(err, EKEYREJECTED, "libcrypto cannot encrypt for the key %s", sif_key_id(k));
	return 0;
}

void sif_message_object(uint32_t partition, struct sif_object *ret)
{
	*ret = (struct sif_object){ .type = SIF_CRYPTO_MESSAGE, .group = SIF_DEFAULT_GROUP, .link = partition };
	vl_put_le32(ret->extra, FORMAT_PEM);
	vl_put_le32(ret->extra + 4, MESSAGE_RSA_OAEP);
}

/* ---- a new key ---- */

static char *conf_text(const uint8_t *wrapped, size_t n, const uint8_t salt[SALT], const int64_t nrp[3])
{
	static const char *const words[] = { "GCMIV128", "HKDF", "PlaintextNames" };
	VL_FREE char *key64 = vl_base64(wrapped, n, true), *salt64 = vl_base64(salt, SALT, true);
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *scrypt = vl_json_new_obj(), *flags = vl_json_new_arr();

	vl_json_set(scrypt, "Salt", vl_json_new_str(salt64));
	vl_json_set(scrypt, "N", vl_json_new_int(nrp[0]));
	vl_json_set(scrypt, "R", vl_json_new_int(nrp[1]));
	vl_json_set(scrypt, "P", vl_json_new_int(nrp[2]));
	vl_json_set(scrypt, "KeyLen", vl_json_new_int(SIF_GCF_KEY));
	for (size_t i = 0; i < VL_COUNT(words); i++)
		vl_json_add(flags, vl_json_new_str(words[i]));
	vl_json_set(j, "Creator", vl_json_new_str("vial"));
	vl_json_set(j, "EncryptedKey", vl_json_new_str(key64));
	vl_json_set(j, "ScryptObject", scrypt);
	vl_json_set(j, "Version", vl_json_new_int(2));
	vl_json_set(j, "FeatureFlags", flags);
	return vl_json_text(j, false);
}

/* A master key, and how the secret opens it. */
static bool make_keys(struct sif_encrypt *e, const char *secret, size_t n)
{
	static const int64_t nrp[3] = { 65536, 8, 1 }; /* gocryptfs' own: 64 MiB, a quarter of a second */
	static const uint8_t block_zero[8];
	uint8_t master[SIF_GCF_KEY], a[SIF_GCF_KEY], b[SIF_GCF_KEY], salt[SALT];
	uint8_t wrapped[SIF_GCF_IV + SIF_GCF_KEY + SIF_GCF_TAG];
	EVP_CIPHER_CTX *outer = NULL;
	bool ok = RAND_priv_bytes(master, sizeof master) == 1 && RAND_bytes(salt, sizeof salt) == 1 &&
		  RAND_bytes(e->file_id, sizeof e->file_id) == 1 &&
		  sif_gcf_secret_key(secret, n, salt, sizeof salt, nrp, a) && sif_gcf_content_key(a, b) &&
		  (outer = sif_gcf_cipher(b)) != NULL &&
		  sif_gcf_seal(outer, block_zero, sizeof block_zero, master, sizeof master, wrapped) &&
		  sif_gcf_content_key(master, b) && (e->cipher = sif_gcf_cipher(b)) != NULL;

	if (ok)
		e->conf = conf_text(wrapped, sizeof wrapped, salt, nrp);
	EVP_CIPHER_CTX_free(outer);
	OPENSSL_cleanse(master, sizeof master);
	OPENSSL_cleanse(a, sizeof a);
	OPENSSL_cleanse(b, sizeof b);
	return ok;
}

int sif_encrypt_new(const char *secret, size_t n, int fd, uint64_t base, struct sif_encrypt **ret, struct vl_err *err)
{
	struct sif_encrypt *e = vl_alloc(sizeof *e);

	e->fd = fd;
	e->base = base;
	for (size_t i = 0; i < PAGES; i++)
		e->pages[i].number = NO_PAGE;
	if (!make_keys(e, secret, n)) {
		sif_encrypt_free(e);
		return vl_fail(err, EINVAL, "libcrypto cannot encrypt with AES-256-GCM");
	}
	*ret = e;
	return 0;
}

const char *sif_encrypt_conf(const struct sif_encrypt *e)
{
	return e->conf;
}

/* ---- pages ---- */

static uint64_t place(const struct sif_encrypt *e, uint64_t block)
{
	return e->base + SIF_GCF_FILE_HEAD + block * SIF_GCF_BLOCK;
}

/* Bytes of a page that a file of `size` has. */
static size_t in_page(uint64_t number, uint64_t size)
{
	uint64_t from = number * PAGE;
	return from >= size ? 0 : (size_t)VL_MIN(size - from, (uint64_t)PAGE);
}

static int store(struct sif_encrypt *e, struct page *p, struct vl_err *err)
{
	size_t n = in_page(p->number, e->size), len = 0;
	uint64_t block = p->number * PAGE_BLOCKS;
	uint8_t about[SIF_GCF_ABOUT];

	for (size_t at = 0; at < n; at += SIF_GCF_PLAIN) {
		size_t k = VL_MIN(n - at, (size_t)SIF_GCF_PLAIN);
		sif_gcf_about(block + at / SIF_GCF_PLAIN, e->file_id, about);
		if (!sif_gcf_seal(e->cipher, about, sizeof about, p->plain + at, k, e->sealed + len))
			return vl_fail(err, EIO, "libcrypto cannot encrypt a block");
		len += SIF_GCF_IV + k + SIF_GCF_TAG;
	}
	int r = vl_pwrite_full(e->fd, e->sealed, len, place(e, block), "the image", err);
	if (r == 0) {
		e->stored = VL_MAX(e->stored, p->number * PAGE + n);
		p->dirty = false;
	}
	return r;
}

static int load(struct sif_encrypt *e, struct page *p, uint64_t number, struct vl_err *err)
{
	size_t n = in_page(number, e->stored), whole = n / SIF_GCF_PLAIN, rest = n % SIF_GCF_PLAIN;
	size_t len = whole * SIF_GCF_BLOCK + (rest ? SIF_GCF_IV + rest + SIF_GCF_TAG : 0);
	uint64_t block = number * PAGE_BLOCKS;
	uint8_t about[SIF_GCF_ABOUT];

	p->number = NO_PAGE;
	memset(p->plain, 0, sizeof p->plain);
	int r = vl_pread_full(e->fd, e->sealed, len, place(e, block), "the image", err);
	if (r < 0)
		return r;
	for (size_t at = 0, in = 0; at < n; at += SIF_GCF_PLAIN, in += SIF_GCF_BLOCK) {
		sif_gcf_about(block + at / SIF_GCF_PLAIN, e->file_id, about);
		if (!sif_gcf_open(e->cipher, about, sizeof about, e->sealed + in,
				  VL_MIN(len - in, (size_t)SIF_GCF_BLOCK), p->plain + at))
			return vl_fail(err, EBADMSG, "the image was changed while it was written");
	}
	p->number = number;
	return 0;
}

static int get_page(struct sif_encrypt *e, uint64_t number, struct page **ret, struct vl_err *err)
{
	struct page *p = &e->pages[0];
	int r = 0;

	for (size_t i = 0; i < PAGES; i++) {
		if (e->pages[i].number == number) {
			p = &e->pages[i];
			break;
		}
		if (e->pages[i].used < p->used)
			p = &e->pages[i];
	}
	if (p->number != number && ((p->dirty && (r = store(e, p, err)) < 0) || (r = load(e, p, number, err)) < 0))
		return r;
	p->used = ++e->clock;
	*ret = p;
	return 0;
}

/* ---- the plain content ---- */

int sif_encrypt_write(struct sif_encrypt *e, const void *data, size_t n, uint64_t at, struct vl_err *err)
{
	const uint8_t *from = data;

	if (at > e->size)
		return vl_fail(err, EINVAL, "an encrypted file has no holes");
	while (n) {
		size_t off = (size_t)(at % PAGE), k = VL_MIN(n, PAGE - off);
		struct page *p;
		int r = get_page(e, at / PAGE, &p, err);
		if (r < 0)
			return r;
		memcpy(p->plain + off, from, k);
		p->dirty = true;
		from += k;
		at += k;
		n -= k;
		e->size = VL_MAX(e->size, at);
	}
	return 0;
}

int sif_encrypt_read(struct sif_encrypt *e, void *ret, size_t n, uint64_t at, struct vl_err *err)
{
	uint8_t *to = ret;

	if (at > e->size || n > e->size - at)
		return vl_fail(err, EINVAL, "nothing was written to that place of the encrypted file");
	while (n) {
		size_t off = (size_t)(at % PAGE), k = VL_MIN(n, PAGE - off);
		struct page *p;
		int r = get_page(e, at / PAGE, &p, err);
		if (r < 0)
			return r;
		memcpy(to, p->plain + off, k);
		to += k;
		at += k;
		n -= k;
	}
	return 0;
}

int sif_encrypt_end(struct sif_encrypt *e, uint64_t size, uint64_t *ret_stored, struct vl_err *err)
{
	uint8_t head[SIF_GCF_FILE_HEAD] = { 0, 2 };
	uint64_t blocks = (size + SIF_GCF_PLAIN - 1) / SIF_GCF_PLAIN;
	struct page *p;
	int r = size && size % SIF_GCF_PLAIN == 0 && size <= e->size ? 0 : vl_fail(err, EINVAL, "no whole blocks");

	if (r < 0)
		return r;
	e->size = size;
	for (size_t i = 0; r == 0 && i < PAGES; i++) {
		p = &e->pages[i];
		if (p->number != NO_PAGE && p->dirty && in_page(p->number, size))
			r = store(e, p, err);
	}
	memcpy(head + 2, e->file_id, sizeof e->file_id);
	if (r == 0)
		r = vl_pwrite_full(e->fd, head, sizeof head, e->base, "the image", err);
	if (r == 0)
		*ret_stored = SIF_GCF_FILE_HEAD + blocks * (SIF_GCF_IV + SIF_GCF_TAG) + size;
	return r;
}

void sif_encrypt_free(struct sif_encrypt *e)
{
	if (!e)
		return;
	EVP_CIPHER_CTX_free(e->cipher);
	free(e->conf);
	OPENSSL_cleanse(e, sizeof *e);
	free(e);
}

void sif_encrypt_freep(struct sif_encrypt **e)
{
	sif_encrypt_free(*e);
	*e = NULL;
}
