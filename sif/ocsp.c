/* Was a certificate revoked? Asked of the responder that the certificate names, over HTTP (RFC 6960); the answer is
 * signed, so the way there need not be trusted. Whatever is not a fresh "good" is a refusal. */
#include "crypto.h"

#include <openssl/err.h>
#include <openssl/http.h>
#include <openssl/ocsp.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define SECONDS 15              /* for a whole exchange */
#define MAX_ANSWER (256u << 10) /* real ones have 2 KB */
#define CLOCK_SKEW 300          /* seconds that a responder's clock may be ahead */

/* The first http address in the certificate; new, freed with OPENSSL_free; NULL */
static char *responder(X509 *cert)
{
	STACK_OF(OPENSSL_STRING) *urls = X509_get1_ocsp(cert);
	char *found = NULL;

	for (int i = 0; i < sk_OPENSSL_STRING_num(urls) && !found; i++)
		if (vl_prefix(sk_OPENSSL_STRING_value(urls, i), "http://"))
			found = OPENSSL_strdup(sk_OPENSSL_STRING_value(urls, i));
	X509_email_free(urls);
	return found;
}

static int fail(const char *what, const char *url, struct vl_err *err)
{
	const char *why = ERR_reason_error_string(ERR_peek_error());
	VL_FREE char *shown = vl_printable(url, VL_MIN(strlen(url), (size_t)200));

	vl_fail(err, EKEYREJECTED, "whether the certificate %s was revoked cannot be learned from %s: %s", what, shown,
		why ? why : "its answer is not a proper one");
	ERR_clear_error();
	return -EKEYREJECTED;
}

/* libcrypto writes to its socket without a thought of SIGPIPE. */
static BIO *exchange(const char *host, const char *port, const char *path, BIO *request)
{
	struct timespec none = { 0, 0 };
	sigset_t pipe_signal, before, pending;

	sigemptyset(&pipe_signal);
	sigaddset(&pipe_signal, SIGPIPE);
	sigpending(&pending);
	pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
	BIO *answer = OSSL_HTTP_transfer(NULL, host, port, path, 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, NULL,
					 "application/ocsp-request", request, "application/ocsp-response", 1,
					 MAX_ANSWER, SECONDS, 0);
	if (!sigismember(&pending, SIGPIPE))
		while (sigtimedwait(&pipe_signal, NULL, &none) < 0 && errno == EINTR)
			;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return answer;
}

static OCSP_RESPONSE *ask(const char *url, OCSP_REQUEST *request)
{
	char *host = NULL, *port = NULL, *path = NULL;
	OCSP_RESPONSE *response = NULL;
	BIO *body = ASN1_item_i2d_mem_bio(ASN1_ITEM_rptr(OCSP_REQUEST), (const ASN1_VALUE *)request), *answer = NULL;

	if (body && OSSL_HTTP_parse_url(url, NULL, NULL, &host, &port, NULL, &path, NULL, NULL) == 1)
		answer = exchange(host, port, path, body);
	if (answer)
		response = d2i_OCSP_RESPONSE_bio(answer, NULL);
	BIO_free(answer);
	BIO_free(body);
	OPENSSL_free(host);
	OPENSSL_free(port);
	OPENSSL_free(path);
	return response;
}

/* Repeated by somebody who recorded it when the certificate was good? A nonce of ours excludes that, an end of its
 * validity limits it; one of the two must be there. */
static bool is_fresh(OCSP_REQUEST *request, OCSP_BASICRESP *basic, ASN1_GENERALIZEDTIME *from,
		     ASN1_GENERALIZEDTIME *until)
{
	int nonce = OCSP_check_nonce(request, basic); /* 1: ours, -1: none came */

	return (nonce == 1 || (nonce == -1 && until)) && OCSP_check_validity(from, until, CLOCK_SKEW, -1) == 1;
}

static int judge(const char *what, const char *url, OCSP_REQUEST *request, OCSP_BASICRESP *basic, OCSP_CERTID *id,
		 struct vl_err *err)
{
	ASN1_GENERALIZEDTIME *when = NULL, *from = NULL, *until = NULL;
	int status = V_OCSP_CERTSTATUS_UNKNOWN, reason = 0;

	if (OCSP_resp_find_status(basic, id, &status, &reason, &when, &from, &until) != 1)
		return fail(what, url, err);
	if (status == V_OCSP_CERTSTATUS_REVOKED)
		return vl_fail(err, EKEYREJECTED, "the certificate %s was revoked%s%s", what, reason >= 0 ? ": " : "",
			       reason >= 0 ? OCSP_crl_reason_str(reason) : "");
	if (status != V_OCSP_CERTSTATUS_GOOD)
		return vl_fail(err, EKEYREJECTED, "the certificate %s is not known to the responder of its issuer",
			       what);
	if (!is_fresh(request, basic, from, until))
		return vl_fail(err, EKEYREJECTED, "the answer about the certificate %s is out of date", what);
	return 0;
}

static int check_answer(const char *what, const char *url, OCSP_REQUEST *request, OCSP_RESPONSE *response,
			OCSP_CERTID *id, STACK_OF(X509) * chain, X509_STORE *store, struct vl_err *err)
{
	int status = OCSP_response_status(response);

	if (status != OCSP_RESPONSE_STATUS_SUCCESSFUL)
		return vl_fail(err, EKEYREJECTED,
			       "whether the certificate %s was revoked cannot be learned: the responder says %s", what,
			       OCSP_response_status_str(status));
	OCSP_BASICRESP *basic = OCSP_response_get1_basic(response);
	int r = basic && OCSP_basic_verify(basic, chain, store, 0) == 1 ? judge(what, url, request, basic, id, err)
									: fail(what, url, err);
	OCSP_BASICRESP_free(basic);
	return r;
}

static int check_one(const char *what, X509 *cert, X509 *issuer, STACK_OF(X509) * chain, X509_STORE *store,
		     struct vl_err *err)
{
	char *url = responder(cert);
	OCSP_REQUEST *request = OCSP_REQUEST_new();
	OCSP_CERTID *id = OCSP_cert_to_id(NULL, cert, issuer), *sent = id ? OCSP_CERTID_dup(id) : NULL;
	int r = 0;

	if (!url)
		r = vl_fail(err, EKEYREJECTED,
			    "whether the certificate %s was revoked cannot be learned: it names no responder (http)",
			    what);
	else if (!request || !sent || !OCSP_request_add0_id(request, sent) ||
		 OCSP_request_add1_nonce(request, NULL, -1) != 1)
		r = fail(what, url, err);
	if (r == 0) {
		OCSP_RESPONSE *response = ask(url, request);
		r = response ? check_answer(what, url, request, response, id, chain, store, err) : fail(what, url, err);
		OCSP_RESPONSE_free(response);
	}
	OCSP_CERTID_free(id);
	OCSP_REQUEST_free(request);
	OPENSSL_free(url);
	ERR_clear_error();
	return r;
}

int sif_ocsp_check(const char *what, void *chain, void *store, struct vl_err *err)
{
	int n = sk_X509_num(chain), r = 0;

	if (n < 2)
		return vl_fail(err, EKEYREJECTED,
			       "whether the certificate %s was revoked cannot be learned: its issuer is not known",
			       what);
	X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
	for (int i = 0; i + 1 < n && r == 0; i++) {
		char *subject = X509_NAME_oneline(X509_get_subject_name(sk_X509_value(chain, i)), NULL, 0);
		VL_FREE char *shown = vl_printable(subject ? subject : "", subject ? strlen(subject) : 0);
		VL_FREE char *name = i == 0 ? vl_strdup(what) : vl_asprintf("%s (above %s)", shown, what);
		r = check_one(name, sk_X509_value(chain, i), sk_X509_value(chain, i + 1), chain, store, err);
		OPENSSL_free(subject);
	}
	return r;
}
