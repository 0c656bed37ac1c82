#include "encrypted.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#define MAX_SCRYPT_MEMORY ((512ull << 20) + (1 << 20)) /* encrypted.c lets no more through */

static bool derive(const char *algorithm, OSSL_PARAM *params, uint8_t ret[SIF_GCF_KEY])
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, algorithm, NULL);
	EVP_KDF_CTX *ctx = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	bool ok = ctx && EVP_KDF_derive(ctx, ret, SIF_GCF_KEY, params) == 1;

	EVP_KDF_CTX_free(ctx);
	EVP_KDF_free(kdf);
	ERR_clear_error();
	return ok;
}

bool sif_gcf_content_key(uint8_t from[SIF_GCF_KEY], uint8_t ret[SIF_GCF_KEY])
{
	static char info[] = "AES-GCM file content encryption", digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, from, SIF_GCF_KEY),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, sizeof info - 1),
		OSSL_PARAM_construct_end(),
	};
	return derive("HKDF", params, ret);
}

bool sif_gcf_secret_key(const char *secret, size_t len, uint8_t *salt, size_t n_salt, const int64_t nrp[3],
			uint8_t ret[SIF_GCF_KEY])
{
	uint64_t n = (uint64_t)nrp[0], max = MAX_SCRYPT_MEMORY;
	uint32_t r = (uint32_t)nrp[1], p = (uint32_t)nrp[2];
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PASSWORD, (void *)secret, len),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, salt, n_salt),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
		OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
		OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &max),
		OSSL_PARAM_construct_end(),
	};
	return derive("SCRYPT", params, ret);
}

EVP_CIPHER_CTX *sif_gcf_cipher(const uint8_t key[SIF_GCF_KEY])
{
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();

	if (ctx && EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, NULL, NULL, 0) == 1 &&
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_IVLEN, SIF_GCF_IV, NULL) == 1 &&
	    EVP_CipherInit_ex(ctx, NULL, NULL, key, NULL, 0) == 1)
		return ctx;
	EVP_CIPHER_CTX_free(ctx);
	return NULL;
}

void sif_gcf_about(uint64_t number, const uint8_t file_id[SIF_GCF_FILE_ID], uint8_t ret[SIF_GCF_ABOUT])
{
	for (int i = 0; i < 8; i++)
		ret[i] = (uint8_t)(number >> 8 * (7 - i));
	memcpy(ret + 8, file_id, SIF_GCF_FILE_ID);
}

bool sif_gcf_open(EVP_CIPHER_CTX *c, const uint8_t *about, size_t n_about, const uint8_t *in, size_t n, uint8_t *out)
{
	int len, plain = (int)(n - SIF_GCF_IV - SIF_GCF_TAG);
	bool ok = EVP_CipherInit_ex(c, NULL, NULL, NULL, in, 0) == 1 &&
		  EVP_CipherUpdate(c, NULL, &len, about, (int)n_about) == 1 &&
		  EVP_CipherUpdate(c, out, &len, in + SIF_GCF_IV, plain) == 1 &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, SIF_GCF_TAG, (void *)(in + n - SIF_GCF_TAG)) == 1 &&
		  EVP_CipherFinal_ex(c, out + len, &len) == 1;

	ERR_clear_error();
	return ok;
}

bool sif_gcf_seal(EVP_CIPHER_CTX *c, const uint8_t *about, size_t n_about, const uint8_t *in, size_t n, uint8_t *out)
{
	uint8_t *text = out + SIF_GCF_IV;
	int len;
	bool ok = RAND_bytes(out, SIF_GCF_IV) == 1 && EVP_CipherInit_ex(c, NULL, NULL, NULL, out, 1) == 1 &&
		  EVP_CipherUpdate(c, NULL, &len, about, (int)n_about) == 1 &&
		  EVP_CipherUpdate(c, text, &len, in, (int)n) == 1 && EVP_CipherFinal_ex(c, text + len, &len) == 1 &&
		  EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, SIF_GCF_TAG, text + n) == 1;

	ERR_clear_error();
	return ok;
}
