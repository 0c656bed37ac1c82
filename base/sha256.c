/* SHA-256 for the program that starts containers: of libcrypto, the compression function and no more. EVP, as in
 * hash.c, would bring all of its providers along. */
#define OPENSSL_SUPPRESS_DEPRECATED
#include <vial/base.h>

#include <openssl/sha.h>

void vl_sha256_block(const void *p, size_t n, uint8_t ret[32])
{
	SHA256_CTX c;

	if (SHA256_Init(&c) != 1 || SHA256_Update(&c, p, n) != 1 || SHA256_Final(ret, &c) != 1)
		abort(); /* they have no way to fail */
}
