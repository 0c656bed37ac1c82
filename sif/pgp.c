/* OpenPGP: whose clear-signed text is it? librnp answers, and it is the only place that knows the format. It brings
 * a C++ run time and a second crypto library, so it is loaded when the first such signature is met; other
 * signatures and other commands never pay for it. pgp_child.c runs what is here apart from the program. */
#include "crypto.h"

#include <dlfcn.h>
#include <rnp/rnp.h>
#include <rnp/rnp_err.h>

#define LIBRARY "librnp.so.0"
#define MAX_PACKETS (64u << 10) /* bytes of armor behind the text: each signature in it costs a key operation */
#define MIN_BITS 2048           /* RSA and DSA, as for PEM keys */
#define BEGIN_SIGNATURE "\n-----BEGIN PGP SIGNATURE-----"
#define END_SIGNATURE "\n-----END PGP SIGNATURE-----"

#define FUNCTIONS(X)                                                                                                   \
	X(rnp_buffer_destroy)                                                                                          \
	X(rnp_ffi_create)                                                                                              \
	X(rnp_ffi_destroy)                                                                                             \
	X(rnp_identifier_iterator_create)                                                                              \
	X(rnp_identifier_iterator_destroy)                                                                             \
	X(rnp_identifier_iterator_next)                                                                                \
	X(rnp_import_keys)                                                                                             \
	X(rnp_input_destroy)                                                                                           \
	X(rnp_input_from_memory)                                                                                       \
	X(rnp_key_get_alg)                                                                                             \
	X(rnp_key_get_bits)                                                                                            \
	X(rnp_key_get_fprint)                                                                                          \
	X(rnp_key_get_primary_fprint)                                                                                  \
	X(rnp_key_get_primary_uid)                                                                                     \
	X(rnp_key_get_uid_at)                                                                                          \
	X(rnp_key_handle_destroy)                                                                                      \
	X(rnp_key_is_expired)                                                                                          \
	X(rnp_key_is_primary)                                                                                          \
	X(rnp_key_is_revoked)                                                                                          \
	X(rnp_key_is_valid)                                                                                            \
	X(rnp_locate_key)                                                                                              \
	X(rnp_op_verify_create)                                                                                        \
	X(rnp_op_verify_destroy)                                                                                       \
	X(rnp_op_verify_execute)                                                                                       \
	X(rnp_op_verify_get_signature_at)                                                                              \
	X(rnp_op_verify_get_signature_count)                                                                           \
	X(rnp_op_verify_signature_get_handle)                                                                          \
	X(rnp_op_verify_signature_get_hash)                                                                            \
	X(rnp_op_verify_signature_get_key)                                                                             \
	X(rnp_op_verify_signature_get_status)                                                                          \
	X(rnp_output_destroy)                                                                                          \
	X(rnp_output_memory_get_buf)                                                                                   \
	X(rnp_output_to_memory)                                                                                        \
	X(rnp_result_to_string)                                                                                        \
	X(rnp_signature_get_key_fprint)                                                                                \
	X(rnp_signature_get_keyid)                                                                                     \
	X(rnp_signature_get_type)                                                                                      \
	X(rnp_signature_handle_destroy)

struct sif_pgp {
	void *so;
	rnp_ffi_t ffi;
	struct vl_strv foreign; /* fingerprints of the primary keys of foreign files */
	char *skipped;
#define MEMBER(f) __typeof__(f) *f;
	FUNCTIONS(MEMBER)
#undef MEMBER
};

/* ---- the library ---- */

void sif_pgp_free(struct sif_pgp *p)
{
	if (!p)
		return;
	if (p->ffi)
		p->rnp_ffi_destroy(p->ffi);
	vl_strv_free(&p->foreign);
	free(p->skipped);
	free(p); /* the library stays: its C++ run time does not like to go before the end */
}

void sif_pgp_freep(struct sif_pgp **p)
{
	int keep = errno;
	sif_pgp_free(*p);
	*p = NULL;
	errno = keep;
}

static int load_library(struct sif_pgp *p, struct vl_err *err)
{
	p->so = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (!p->so)
		return vl_fail(err, ENOTSUP,
			       "OpenPGP is read by the library librnp, which cannot be loaded: %s; its package is "
			       "called librnp0 or librnp",
			       dlerror());
#define LOOK_UP(f)                                                                                                     \
	*(void **)&p->f = dlsym(p->so, #f);                                                                            \
	if (!p->f)                                                                                                     \
		return vl_fail(err, ENOTSUP, "the library " LIBRARY " is too old: it has no " #f);
	FUNCTIONS(LOOK_UP)
#undef LOOK_UP
	return 0;
}

static int fail_rnp(const struct sif_pgp *p, rnp_result_t r, const char *what, struct vl_err *err)
{
	return vl_fail(err, EINVAL, "%s: %s", what, p->rnp_result_to_string(r));
}

/* Moves a text of the library's into our memory; NULL stays NULL. */
static char *take(const struct sif_pgp *p, char *s)
{
	char *copy = s ? vl_printable(s, VL_MIN(strlen(s), (size_t)200)) : NULL;

	p->rnp_buffer_destroy(s);
	return copy;
}

static int import(struct sif_pgp *p, const char *text, size_t len, const char *what, struct vl_err *err)
{
	rnp_input_t in = NULL;
	rnp_result_t r = p->rnp_input_from_memory(&in, (const uint8_t *)text, len, false);

	/* permissive: one key of a kind we do not know must not hide the others of a keyring */
	if (r == RNP_SUCCESS)
		r = p->rnp_import_keys(p->ffi, in, RNP_LOAD_SAVE_PUBLIC_KEYS | RNP_LOAD_SAVE_PERMISSIVE, NULL);
	p->rnp_input_destroy(in);
	return r == RNP_SUCCESS ? 0
				: vl_fail(err, EINVAL, "%s: no OpenPGP public key can be read from it: %s", what,
					  p->rnp_result_to_string(r));
}

static int create(struct sif_pgp **ret, struct vl_err *err)
{
	SIF_PGP struct sif_pgp *p = vl_alloc(sizeof *p);
	int r = load_library(p, err);

	if (r < 0)
		return r;
	if (p->rnp_ffi_create(&p->ffi, "GPG", "GPG") != RNP_SUCCESS)
		return vl_fail(err, EINVAL, "the library " LIBRARY " does not start");
	*ret = vl_steal(&p);
	return 0;
}

/* Files of that kind. One that cannot be used is no reason to know none of the others. */
static size_t import_all(struct sif_pgp *p, const struct sif_pgp_keys *keys, bool foreign, struct vl_err *err)
{
	size_t n = 0;

	for (size_t i = 0; i < keys->n; i++) {
		const struct sif_pgp_file *f = &keys->v[i];
		if (f->foreign != foreign || f->len == 0) /* the keyring of who never imported a key */
			continue;
		if (import(p, f->text, f->len, f->what, err) == 0)
			n++;
		else if (!p->skipped)
			p->skipped = vl_strdup(err->text);
	}
	return n;
}

/* What is in the library by now came out of foreign files. */
static void note_foreign(struct sif_pgp *p)
{
	rnp_identifier_iterator_t it = NULL;
	const char *id = NULL;

	if (p->rnp_identifier_iterator_create(p->ffi, &it, "fingerprint") != RNP_SUCCESS)
		return;
	while (p->rnp_identifier_iterator_next(it, &id) == RNP_SUCCESS && id) {
		rnp_key_handle_t key = NULL;
		bool primary = false;
		if (p->rnp_locate_key(p->ffi, "fingerprint", id, &key) != RNP_SUCCESS || !key)
			continue;
		if (p->rnp_key_is_primary(key, &primary) == RNP_SUCCESS && primary)
			vl_strv_add(&p->foreign, id);
		p->rnp_key_handle_destroy(key);
	}
	p->rnp_identifier_iterator_destroy(it);
}

static bool is_foreign(const struct sif_pgp *p, const char *fingerprint)
{
	for (size_t i = 0; i < p->foreign.n; i++)
		if (vl_streq(p->foreign.v[i], fingerprint))
			return true;
	return false;
}

int sif_pgp_new(const struct sif_pgp_keys *keys, struct sif_pgp **ret, struct vl_err *err)
{
	SIF_PGP struct sif_pgp *p = NULL;
	int r = create(&p, err);

	if (r < 0)
		return r;
	size_t n = import_all(p, keys, true, err);
	if (n)
		note_foreign(p);
	n += import_all(p, keys, false, err);
	if (!n && p->skipped)
		return vl_fail(err, EINVAL, "%s", p->skipped);
	*ret = vl_steal(&p);
	return 0;
}

const char *sif_pgp_skipped(const struct sif_pgp *p)
{
	return p->skipped;
}

/* ---- keys ---- */

static char *user_id(const struct sif_pgp *p, rnp_key_handle_t key)
{
	char *uid = NULL;

	if (p->rnp_key_get_primary_uid(key, &uid) != RNP_SUCCESS && p->rnp_key_get_uid_at(key, 0, &uid) != RNP_SUCCESS)
		return NULL;
	return take(p, uid);
}

/* "" when a subkey came alone */
static char *primary_fingerprint(const struct sif_pgp *p, rnp_key_handle_t key)
{
	char *s = NULL;
	bool primary = false;
	rnp_result_t r = p->rnp_key_is_primary(key, &primary);

	if (r == RNP_SUCCESS)
		r = primary ? p->rnp_key_get_fprint(key, &s) : p->rnp_key_get_primary_fprint(key, &s);
	char *fingerprint = r == RNP_SUCCESS ? take(p, s) : NULL;
	return fingerprint ? fingerprint : vl_strdup("");
}

/* Why a key must not be used, in words that follow its name; NULL: it may. */
static const char *objection(const struct sif_pgp *p, rnp_key_handle_t key)
{
	VL_FREE char *alg = NULL;
	bool revoked = true, expired = true, valid = false;
	char *s = NULL;
	uint32_t bits = 0;

	if (p->rnp_key_is_revoked(key, &revoked) != RNP_SUCCESS || revoked)
		return "was revoked";
	if (p->rnp_key_is_expired(key, &expired) != RNP_SUCCESS || expired)
		return "has expired";
	if (p->rnp_key_get_alg(key, &s) != RNP_SUCCESS || !(alg = take(p, s)) ||
	    p->rnp_key_get_bits(key, &bits) != RNP_SUCCESS)
		return "is of no known kind";
	if ((vl_streq(alg, "RSA") || vl_streq(alg, "DSA")) && bits < MIN_BITS)
		return "is too short: RSA and DSA need 2048 bits";
	if (p->rnp_key_is_valid(key, &valid) != RNP_SUCCESS || !valid)
		return "is not valid: what should bind it to its owner does not hold";
	return NULL;
}

/* ---- signatures ---- */

static bool hash_is_good(const char *name)
{
	static const char *const good[] = { "SHA224", "SHA256", "SHA384", "SHA512" };

	for (size_t i = 0; i < VL_COUNT(good); i++)
		if (vl_streq(name, good[i]))
			return true;
	return false;
}

/* Who the signature says has made it. A certification of a key, say, must not pass for a signed document. */
static int read_claim(const struct sif_pgp *p, rnp_op_verify_signature_t sig, struct sif_signature *s,
		      struct vl_err *err)
{
	rnp_signature_handle_t h = NULL;
	char *type = NULL, *by = NULL, *hash = NULL;

	if (p->rnp_op_verify_signature_get_handle(sig, &h) != RNP_SUCCESS)
		return vl_fail(err, EINVAL, "its OpenPGP signature cannot be read");
	if (p->rnp_signature_get_key_fprint(h, &by) != RNP_SUCCESS || !by)
		p->rnp_signature_get_keyid(h, &by);
	p->rnp_signature_get_type(h, &type);
	p->rnp_signature_handle_destroy(h);
	VL_FREE char *kind = take(p, type);
	if (!s->claims)
		s->claims = take(p, by);
	else
		p->rnp_buffer_destroy(by);
	p->rnp_op_verify_signature_get_hash(sig, &hash);
	VL_FREE char *digest = take(p, hash);
	if (!kind || (!vl_streq(kind, "text") && !vl_streq(kind, "binary")))
		return vl_fail(err, EBADMSG, "its OpenPGP signature is not one over a document");
	if (!digest || !hash_is_good(digest))
		return vl_fail(err, EBADMSG,
			       "its OpenPGP signature uses a hash that is not accepted, %s; SHA-224 to SHA-512 are",
			       digest ? digest : "an unknown one");
	return 0;
}

/* The key and, for a subkey, its primary key must be fit for use today. */
static int check_key(const struct sif_pgp *p, rnp_key_handle_t key, const char *fingerprint, struct sif_signature *s,
		     struct vl_err *err)
{
	rnp_key_handle_t primary = NULL;

	if (p->rnp_locate_key(p->ffi, "fingerprint", fingerprint, &primary) != RNP_SUCCESS || !primary)
		return vl_fail(err, EKEYREJECTED, "its OpenPGP subkey has no primary key");
	const char *why = objection(p, primary);
	p->rnp_key_handle_destroy(primary);
	if (!why)
		why = objection(p, key);
	if (!why)
		return 0;
	s->verdict = SIF_UNKNOWN; /* as good as a key that we do not have */
	return vl_fail(err, EKEYREJECTED, "its OpenPGP key %s %s", fingerprint, why);
}

static int check_one(const struct sif_pgp *p, rnp_op_verify_signature_t sig, const char *expected,
		     struct sif_signature *s, struct vl_err *err)
{
	rnp_result_t status = p->rnp_op_verify_signature_get_status(sig);
	rnp_key_handle_t key = NULL;
	int r = read_claim(p, sig, s, err);

	if (r < 0)
		return r;
	if (status == RNP_ERROR_KEY_NOT_FOUND || p->rnp_op_verify_signature_get_key(sig, &key) != RNP_SUCCESS || !key) {
		s->verdict = SIF_UNKNOWN;
		return vl_fail(err, EKEYREJECTED, "it is by the OpenPGP key %s, which is none of those known here",
			       s->claims ? s->claims : "that it does not name");
	}
	VL_FREE char *fingerprint = primary_fingerprint(p, key), *name = user_id(p, key);
	r = check_key(p, key, fingerprint, s, err);
	p->rnp_key_handle_destroy(key);
	if (r < 0)
		return r;
	if (status == RNP_ERROR_SIGNATURE_EXPIRED)
		return vl_fail(err, EKEYREJECTED, "its OpenPGP signature by %s has expired", fingerprint);
	if (status != RNP_SUCCESS)
		return vl_fail(err, EKEYREJECTED, "the OpenPGP key %s did not make it, or it was changed", fingerprint);
	if (!vl_streq(fingerprint, expected))
		return vl_fail(err, EBADMSG, "it is by the OpenPGP key %s, but its descriptor names %s", fingerprint,
			       expected);
	sif_signature_add_signer(s, &(struct sif_signer){ .kind = SIF_SIGNER_PGP,
							  .id = fingerprint,
							  .name = name,
							  .foreign = is_foreign(p, fingerprint) });
	return 0;
}

/* One good signature of a text is enough; otherwise the first one's fault is the error. */
static int check_signatures(const struct sif_pgp *p, rnp_op_verify_t op, const char *expected, struct sif_signature *s,
			    struct vl_err *err)
{
	struct vl_err one;
	size_t n = 0;
	int result = 0;

	if (p->rnp_op_verify_get_signature_count(op, &n) != RNP_SUCCESS || n == 0)
		return vl_fail(err, EINVAL, "its OpenPGP signature cannot be read");
	for (size_t i = 0; i < n; i++) {
		rnp_op_verify_signature_t sig;
		int r = p->rnp_op_verify_get_signature_at(op, i, &sig) == RNP_SUCCESS
				? check_one(p, sig, expected, s, &one)
				: vl_fail(&one, EINVAL, "its OpenPGP signature cannot be read");
		if (r < 0 && result == 0) {
			*err = one;
			result = r;
		}
	}
	if (s->n_signers)
		s->verdict = SIF_UNCHECKED;
	return s->n_signers ? 0 : result;
}

static int check_frame(const char *text, size_t len, struct vl_err *err)
{
	const char *begin = strstr(text, BEGIN_SIGNATURE), *end = begin ? strstr(begin, END_SIGNATURE) : NULL;

	if (strlen(text) != len || !end)
		return vl_fail(err, EINVAL, "its clear-signed text is cut off or not text");
	if (len - (size_t)(begin - text) > MAX_PACKETS)
		return vl_fail(err, E2BIG, "its OpenPGP signature is larger than %u KiB", MAX_PACKETS >> 10);
	end += strlen(END_SIGNATURE);
	if (end[strspn(end, " \t\r\n")])
		return vl_fail(err, EINVAL, "something follows its clear-signed text");
	return 0;
}

static int verify(const struct sif_pgp *p, rnp_input_t in, rnp_output_t out, const char *expected,
		  struct sif_signature *s, struct vl_err *err)
{
	rnp_op_verify_t op = NULL;
	rnp_result_t done = p->rnp_op_verify_create(&op, p->ffi, in, out);

	if (done != RNP_SUCCESS)
		return fail_rnp(p, done, "its clear-signed text cannot be read", err);
	done = p->rnp_op_verify_execute(op);
	int r = check_signatures(p, op, expected, s, err);
	if (r == 0 && done != RNP_SUCCESS)
		r = fail_rnp(p, done, "its clear-signed text is not good", err);
	p->rnp_op_verify_destroy(op);
	return r;
}

int sif_pgp_check(const struct sif_pgp *p, const char *text, size_t len, const uint8_t expected[20],
		  struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err)
{
	rnp_input_t in = NULL;
	rnp_output_t out = NULL;
	uint8_t *signed_text = NULL;
	char fingerprint[41];
	size_t n = 0;
	int r = check_frame(text, len, err);

	if (r < 0)
		return r;
	sif_pgp_fingerprint(expected, fingerprint);
	if (p->rnp_input_from_memory(&in, (const uint8_t *)text, len, false) != RNP_SUCCESS ||
	    p->rnp_output_to_memory(&out, SIF_MAX_SIGNATURE) != RNP_SUCCESS)
		r = vl_fail(err, ENOMEM, "the library " LIBRARY " takes no text");
	else
		r = verify(p, in, out, fingerprint, s, err);
	/* not our text but what the library hashed */
	if (r == 0 && (p->rnp_output_memory_get_buf(out, &signed_text, &n, false) != RNP_SUCCESS || !signed_text))
		r = vl_fail(err, EINVAL, "its clear-signed text is empty");
	if (r == 0) {
		*ret = vl_strndup((char *)signed_text, n);
		*ret_len = n;
	}
	p->rnp_output_destroy(out);
	p->rnp_input_destroy(in);
	return r;
}
