/* Signing inside this folder: what keys.c, dsse.c, integrity.c give to sign.c and verify.c. */
#ifndef SIF_CRYPTO_H
#define SIF_CRYPTO_H

#include "format.h"

/* ---- keys.c ---- */
/* Takes the key (an EVP_PKEY, not named here so that its header stays in two files). */
int sif_key_take(void *evp_pkey, const char *what, struct sif_key **ret, struct vl_err *err);
int sif_key_sign(const struct sif_key *k, const void *p, size_t n, uint8_t **ret_sig, size_t *ret_len,
		 struct vl_err *err);
/* The same for a private key that stays where it is, in a token: only its public half is looked at. */
int sif_key_take_opaque(void *evp_pkey, const char *what, struct sif_key **ret, struct vl_err *err);
void *sif_key_pkey(const struct sif_key *k); /* the EVP_PKEY, borrowed */
bool sif_key_check(const struct sif_key *k, const void *p, size_t n, const uint8_t *sig, size_t sig_len);

/* ---- unlock.c, token.c: private keys ---- */
bool sif_key_pem_is_encrypted(const char *pem, size_t len);
int sif_key_from_token(const char *uri, const struct sif_ask *ask, struct sif_key **ret, struct vl_err *err);

/* ---- cert.c ---- */
/* The key's signer becomes the subject of that certificate (an X509). */
void sif_key_set_subject(struct sif_key *k, void *x509);

/* ---- keyfile.c ---- */
/* The key of the first certificate, whoever vouches for it; its signer is the subject. ret_pem: the certificate alone is
 * added to it; NULL = not wanted. */
int sif_keyfile_certificate(const char *pem, size_t len, const char *what, struct sif_key **ret, struct vl_buf *ret_pem,
			    struct vl_err *err);
/* Fingerprint and first user id (NULL = none) of an armored OpenPGP public key; both new. text is NUL-terminated. */
int sif_keyfile_pgp(const char *text, size_t len, const char *what, char **ret_id, char **ret_owner,
		    struct vl_err *err);

/* ---- keyring.c, for keyring_edit.c ---- */
struct stat;
const char *sif_keyring_ending(enum sif_keyring_kind kind); /* ".key" */
int sif_keyring_check_owner(const struct stat *st, const char *path, mode_t forbidden, struct vl_err *err);
int sif_keyring_open_dir(const char *path, int *ret_fd, struct vl_err *err);
int sif_keyring_read_trusted(int dirfd, const char *dir, struct vl_strv *ret, struct vl_err *err);

/* ---- dsse.c ---- */
/* The envelope's text; returns new. */
int sif_dsse_seal(const struct sif_key *k, const char *payload, size_t n, char **ret, size_t *ret_len,
		  struct vl_err *err);
/* Payload of an envelope that known keys signed; returns new. Adds the signers to s, and what it claims.
 * s->verdict becomes SIF_UNKNOWN where it fails for want of the key. */
struct sif_known;
int sif_dsse_open(const char *text, size_t len, struct sif_known *known, struct sif_signature *s, char **ret,
		  size_t *ret_len, struct vl_err *err);

/* ---- ocsp.c, for cert.c ---- */
/* Asks about each certificate of a chain (STACK_OF(X509), leaf first) but the anchor; store: X509_STORE. */
int sif_ocsp_check(const char *what, void *chain, void *store, struct vl_err *err);

/* ---- pgp_child.c ---- */
struct sif_pgp_run {
	uint64_t cpu;  /* microseconds that all texts have taken so far, of SIF_PGP_CPU */
	char *skipped; /* as in struct sif_report */
};
#define SIF_PGP_CPU (60ull * 1000000) /* a signature takes milliseconds, a keyring of thousands of keys seconds */
/* The text inside a clear-signed one that a key signed whose primary key has this fingerprint; returns new. Adds
 * the signer to s, and what it claims. s->verdict becomes SIF_UNKNOWN for want of a key that may be used. -E2BIG: the
 * texts of this run take too long. */
int sif_pgp_verify(const struct sif_pgp_keys *keys, const char *text, size_t len, const uint8_t expected[20],
		   struct sif_pgp_run *run, struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err);
void sif_pgp_fingerprint(const uint8_t bytes[20], char ret[41]); /* upper-case hex */

/* ---- pgp.c, for pgp_child.c: the same in this process ---- */
struct sif_pgp; /* the library, with the keys */
/* -ENOTSUP: it is not installed. A file that cannot be used is left out, unless there is no other. */
int sif_pgp_new(const struct sif_pgp_keys *keys, struct sif_pgp **ret, struct vl_err *err);
void sif_pgp_free(struct sif_pgp *p);
void sif_pgp_freep(struct sif_pgp **p);
#define SIF_PGP __attribute__((cleanup(sif_pgp_freep)))
const char *sif_pgp_skipped(const struct sif_pgp *p); /* as in struct sif_report; borrowed */
int sif_pgp_check(const struct sif_pgp *p, const char *text, size_t len, const uint8_t expected[20],
		  struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err);

/* ---- integrity.c ---- */
struct sif_digest {
	const char *algo; /* static */
	uint8_t bytes[VL_HASH_MAX];
};
struct sif_entry {
	uint64_t relative_id;
	struct sif_digest descr, object;
};
struct sif_payload {
	struct sif_digest header;
	struct sif_entry *v; /* ascending, no id twice */
	size_t n;
};
int sif_payload_parse(const char *text, size_t len, struct sif_payload *ret, struct vl_err *err);
void sif_payload_free(struct sif_payload *p);
/* The canonical text of a payload; returns new. */
char *sif_payload_text(const struct sif_payload *p);

int sif_measure_header(const struct sif_image *img, const char *algo, struct sif_digest *ret, struct vl_err *err);
int sif_measure_descr(const struct sif_descr *d, uint32_t relative_id, const char *algo, struct sif_digest *ret,
		      struct vl_err *err);
struct sif_work { /* for progress: bytes hashed so far over all objects, and to hash in all */
	const struct vl_progress *progress;
	uint64_t done, total;
};
int sif_measure_object(const struct sif_image *img, const struct sif_descr *d, const char *algo, struct sif_work *w,
		       struct sif_digest *ret, struct vl_err *err);
/* One digest over the data of all, one behind the other. */
int sif_measure_objects(const struct sif_image *img, const struct sif_descr *const *v, size_t n, const char *algo,
			struct sif_work *w, struct sif_digest *ret, struct vl_err *err);
bool sif_digest_same(const struct sif_digest *a, const struct sif_digest *b);

/* ---- signature.c ---- */
#define SIF_MAX_SIGNATURES 256 /* of an image that are looked at: each is a megabyte at most */
/* One signature object: its form and who made it go into s, what it lists into ret. Negative: it proves nothing; then
 * s says why, and s->verdict is SIF_UNKNOWN, SIF_INVALID, or SIF_IGNORED (with 0). */
struct sif_known { /* who can be told */
	const struct sif_verify_opts *o;
	struct sif_pgp_run pgp_run;
	uint64_t tries; /* of keys on envelopes so far, of SIF_MAX_TRIES */
};
#define SIF_MAX_TRIES 16384 /* of an image; one more for each 64 KiB that are hashed */
int sif_signature_open(const struct sif_image *img, const struct sif_descr *d, struct sif_known *known,
		       struct sif_signature *s, struct sif_payload *ret, struct vl_err *err);
/* The same of a signature from before 3.6; *ret: its text, new. */
int sif_signature_open_legacy(const struct sif_image *img, const struct sif_descr *d, struct sif_known *known,
			      struct sif_signature *s, char **ret, struct vl_err *err);
void sif_signature_add_signer(struct sif_signature *s, const struct sif_signer *who); /* a copy, none twice */
void sif_signature_fail(struct sif_signature *s, enum sif_verdict verdict, const struct vl_err *err);
void sif_signature_free(struct sif_signature *s);

/* ---- legacy.c ---- */
int sif_legacy_verify(const struct sif_image *img, const struct sif_verify_opts *o, struct sif_report *ret,
		      struct vl_err *err);
int sif_legacy_parse(const char *text, uint32_t hash, struct sif_digest *ret, struct vl_err *err);

/* ---- verify.c, for sign.c ---- */
/* Objects of a group, ascending by id. Returns new; 0 objects are possible. */
const struct sif_descr **sif_group_objects(const struct sif_image *img, uint32_t group, size_t *ret_n);
/* Group numbers in use, ascending. Returns new. */
uint32_t *sif_groups(const struct sif_image *img, size_t *ret_n);

#endif
