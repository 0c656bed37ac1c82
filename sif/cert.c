/* A certificate in place of a key. Any certificate in the roots is trusted as it is, a CA or not;
 * validity dates are checked; the extended key usage, where present, must allow code signing. */
#include "crypto.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static STACK_OF(X509) * parse_pem(const char *pem, size_t len)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)len);
	STACK_OF(X509) *v = sk_X509_new_null();
	X509 *x;

	while ((x = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		sk_X509_push(v, x);
	ERR_clear_error(); /* the end of the file is reported as an error */
	BIO_free(bio);
	return v;
}

static int load(const char *path, const char *text, STACK_OF(X509) * *ret, struct vl_err *err)
{
	VL_FREE char *pem = NULL;
	size_t len = text ? strlen(text) : 0;
	int r = text ? 0 : vl_read_file(AT_FDCWD, path, SIF_MAX_BUNDLE, &pem, &len, err);

	if (r < 0)
		return r;
	*ret = parse_pem(text ? text : pem, len);
	if (sk_X509_num(*ret) > 0)
		return 0;
	return vl_fail(err, EINVAL, "%s: no PEM certificate found", path);
}

/* RFC 2253, as other tools print it */
void sif_key_set_subject(struct sif_key *k, void *x509)
{
	X509 *x = x509;
	BIO *bio = BIO_new(BIO_s_mem());
	char *p = NULL;
	long n = 0;

	if (bio && X509_NAME_print_ex(bio, X509_get_subject_name(x), 0, XN_FLAG_RFC2253) >= 0)
		n = BIO_get_mem_data(bio, &p);
	VL_FREE char *name = vl_strndup(n > 0 ? p : "", (size_t)VL_MAX(n, 0L));
	sif_key_set_signer(k, SIF_SIGNER_CERTIFICATE, *name ? name : NULL);
	BIO_free(bio);
}

static bool may_sign_code(X509 *x)
{
	int present = -1;
	EXTENDED_KEY_USAGE *eku = X509_get_ext_d2i(x, NID_ext_key_usage, &present, NULL);
	bool ok = !eku && present == -1; /* -1: absent; others: malformed or there twice */

	for (int i = 0; eku && i < sk_ASN1_OBJECT_num(eku); i++) {
		int nid = OBJ_obj2nid(sk_ASN1_OBJECT_value(eku, i));
		ok |= nid == NID_code_sign || nid == NID_anyExtendedKeyUsage;
	}
	EXTENDED_KEY_USAGE_free(eku);
	return ok;
}

/* What the certificates themselves allow. A CA's extended usage limits what it may vouch for, hence the whole chain. */
static int check_usage(const char *path, STACK_OF(X509) * chain, struct vl_err *err)
{
	if (!(X509_get_key_usage(sk_X509_value(chain, 0)) & X509v3_KU_DIGITAL_SIGNATURE)) /* all bits when absent */
		return vl_fail(err, EKEYREJECTED, "the certificate %s is not meant for signatures: its key usage",
			       path);
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (!may_sign_code(sk_X509_value(chain, i)))
			return vl_fail(err, EKEYREJECTED, "the certificate %s is not meant for code signing", path);
	return 0;
}

static int check_chain(const struct sif_cert_opts *o, X509 *leaf, STACK_OF(X509) * between, X509_STORE *store,
		       struct vl_err *err)
{
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	int r = 0;

	if (!ctx || X509_STORE_CTX_init(ctx, store, leaf, between) != 1)
		r = vl_fail(err, EINVAL, "cannot check the certificate %s", o->cert);
	if (r == 0) {
		X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_PARTIAL_CHAIN);
		if (o->time)
			X509_STORE_CTX_set_time(ctx, 0, (time_t)o->time);
		if (X509_verify_cert(ctx) != 1)
			r = vl_fail(err, EKEYREJECTED, "the certificate %s is not trusted: %s", o->cert,
				    X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
	}
	STACK_OF(X509) *chain = r == 0 ? X509_STORE_CTX_get0_chain(ctx) : NULL;
	if (r == 0)
		r = check_usage(o->cert, chain, err);
	if (r == 0 && o->ocsp) /* last: the addresses are vouched for by then */
		r = sif_ocsp_check(o->cert, chain, store, err);
	X509_STORE_CTX_free(ctx);
	return r;
}

static int check(const struct sif_cert_opts *o, X509 *leaf, STACK_OF(X509) * between, STACK_OF(X509) * roots,
		 struct vl_err *err)
{
	X509_STORE *store = X509_STORE_new();
	int r = 0;

	if (!store || (!roots && X509_STORE_set_default_paths(store) != 1))
		r = vl_fail(err, EINVAL, "cannot read the system's certificates; use --certificate-roots");
	for (int i = 0; roots && i < sk_X509_num(roots) && r == 0; i++)
		if (X509_STORE_add_cert(store, sk_X509_value(roots, i)) != 1)
			r = vl_fail(err, EINVAL, "cannot use a certificate of the roots");
	if (r == 0)
		r = check_chain(o, leaf, between, store, err);
	X509_STORE_free(store);
	ERR_clear_error();
	return r;
}

int sif_key_from_certificate(const struct sif_cert_opts *o, struct sif_key **ret, struct vl_err *err)
{
	STACK_OF(X509) *leaf = NULL, *between = NULL, *anchors = NULL;
	EVP_PKEY *pkey = NULL;

	int r = load(o->cert, o->cert_text, &leaf, err);
	if (r == 0 && o->intermediates)
		r = load(o->intermediates, o->intermediates_text, &between, err);
	if (r == 0 && o->roots)
		r = load(o->roots, o->roots_text, &anchors, err);
	if (r == 0)
		r = check(o, sk_X509_value(leaf, 0), between, anchors, err);
	if (r == 0) {
		pkey = X509_get_pubkey(sk_X509_value(leaf, 0));
		r = pkey ? sif_key_take(pkey, o->cert, ret, err)
			 : vl_fail(err, EINVAL, "%s: cannot read its key", o->cert);
	}
	if (r == 0)
		sif_key_set_subject(*ret, sk_X509_value(leaf, 0));
	sk_X509_pop_free(leaf, X509_free);
	sk_X509_pop_free(between, X509_free);
	sk_X509_pop_free(anchors, X509_free);
	ERR_clear_error();
	return r;
}
