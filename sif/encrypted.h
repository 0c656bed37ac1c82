/* The format of gocryptfs, for who reads it (encrypted.c) and who writes it (encrypt.c). */
#ifndef SIF_ENCRYPTED_H
#define SIF_ENCRYPTED_H

#include "format.h"

#include <openssl/evp.h>

enum {
	SIF_GCF_KEY = 32,
	SIF_GCF_IV = 16,
	SIF_GCF_TAG = 16,
	SIF_GCF_PLAIN = 4096,
	SIF_GCF_BLOCK = SIF_GCF_IV + SIF_GCF_PLAIN + SIF_GCF_TAG,
	SIF_GCF_FILE_ID = 16,
	SIF_GCF_FILE_HEAD = 2 + SIF_GCF_FILE_ID,
	SIF_GCF_ABOUT = 8 + SIF_GCF_FILE_ID, /* associated data of a block */
};

/* ---- gcf.c: keys out of keys, and AES-256-GCM with the nonce before and the tag behind ---- */

bool sif_gcf_secret_key(const char *secret, size_t len, uint8_t *salt, size_t n_salt, const int64_t nrp[3],
			uint8_t ret[SIF_GCF_KEY]);
bool sif_gcf_content_key(uint8_t from[SIF_GCF_KEY], uint8_t ret[SIF_GCF_KEY]);
/* For both directions; NULL: libcrypto has it not. */
EVP_CIPHER_CTX *sif_gcf_cipher(const uint8_t key[SIF_GCF_KEY]);
void sif_gcf_about(uint64_t number, const uint8_t file_id[SIF_GCF_FILE_ID], uint8_t ret[SIF_GCF_ABOUT]);
/* in: n bytes, at least nonce and tag. out may hold garbage when this is false. */
bool sif_gcf_open(EVP_CIPHER_CTX *c, const uint8_t *about, size_t n_about, const uint8_t *in, size_t n, uint8_t *out);
/* out: n bytes more than nonce and tag. The nonce is a new one each time. */
bool sif_gcf_seal(EVP_CIPHER_CTX *c, const uint8_t *about, size_t n_about, const uint8_t *in, size_t n, uint8_t *out);

#endif
