#include <vial/base.h>

#include <openssl/evp.h>

struct vl_hash {
	EVP_MD_CTX *ctx;
	EVP_MD *md;
};

/* Names as in OCI and SIF digests. SHA-1, MD5 and BLAKE2 are refused on purpose. */
static const struct {
	const char *name, *evp;
	size_t size;
} algos[] = {
	/* clang-format off */
	{ "sha256", "SHA256", 32 },
	{ "sha512", "SHA512", 64 },
	{ "sha384", "SHA384", 48 },
	{ "sha224", "SHA224", 28 },
	{ "sha512_224", "SHA512-224", 28 },
	{ "sha512_256", "SHA512-256", 32 },
	/* clang-format on */
};

static int find(const char *algo)
{
	for (size_t i = 0; i < VL_COUNT(algos); i++)
		if (vl_streq(algos[i].name, algo))
			return (int)i;
	return -1;
}

size_t vl_hash_size(const char *algo)
{
	int i = find(algo);
	return i < 0 ? 0 : algos[i].size;
}

static void start(struct vl_hash *h)
{
	if (EVP_DigestInit_ex2(h->ctx, h->md, NULL) != 1)
		abort(); /* only out of memory can do that to a fetched digest */
}

int vl_hash_new(const char *algo, struct vl_hash **ret, struct vl_err *err)
{
	int i = find(algo);

	if (i < 0)
		return vl_fail(err, ENOTSUP, "the digest algorithm '%.40s' is not accepted", algo);
	struct vl_hash *h = vl_alloc(sizeof *h);
	h->md = EVP_MD_fetch(NULL, algos[i].evp, NULL);
	h->ctx = EVP_MD_CTX_new();
	if (!h->md || !h->ctx) {
		vl_hash_free(h);
		return vl_fail(err, ENOTSUP, "libcrypto has no %s", algos[i].evp);
	}
	start(h);
	*ret = h;
	return 0;
}

void vl_hash_update(struct vl_hash *h, const void *p, size_t n)
{
	if (EVP_DigestUpdate(h->ctx, p, n) != 1)
		abort();
}

size_t vl_hash_final(struct vl_hash *h, uint8_t ret[VL_HASH_MAX])
{
	unsigned n = 0;

	if (EVP_DigestFinal_ex(h->ctx, ret, &n) != 1)
		abort();
	start(h);
	return n;
}

void vl_hash_free(struct vl_hash *h)
{
	if (!h)
		return;
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	free(h);
}

void vl_sha256(const void *p, size_t n, uint8_t ret[32])
{
	unsigned len;
	if (EVP_Digest(p, n, ret, &len, EVP_sha256(), NULL) != 1)
		abort();
}
