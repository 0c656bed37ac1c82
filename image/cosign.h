/* Checking what cosign signed with a plain key: formats of the sigstore specifications. Documents come from outside, and
 * nothing in them is believed before a signature over their very bytes is good. */
#ifndef IMAGE_COSIGN_H
#define IMAGE_COSIGN_H

#include <vial/image.h>

struct img_cosign_check {
	struct sif_key *const *keys;
	size_t n_keys;
	const struct oci_digest *digests; /* of the image: one of them must be named */
	size_t n_digests;
};
enum img_cosign_kind { IMG_COSIGN_SIGNATURE = 1, IMG_COSIGN_ATTESTATION };

/* "Simple signing": a payload, and beside it the signature in base64. *ret_key: who made it, borrowed from check. */
int img_cosign_payload(const struct img_cosign_check *c, const char *payload, size_t n, const char *signature,
		       const struct sif_key **ret_key, struct vl_err *err);
/* A DSSE envelope around an in-toto statement. */
int img_cosign_envelope(const struct img_cosign_check *c, const char *text, size_t n, enum img_cosign_kind *ret_kind,
			const struct sif_key **ret_key, struct vl_err *err);
/* A sigstore bundle with such an envelope. */
int img_cosign_bundle(const struct img_cosign_check *c, const char *text, size_t n, enum img_cosign_kind *ret_kind,
		      const struct sif_key **ret_key, struct vl_err *err);

#endif
