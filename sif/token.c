/* Private keys that a URI names: in a token (pkcs11:), or wherever a provider of libcrypto looks. Which providers there
 * are, the system's openssl.cnf says. Systems of before OpenSSL 3 providers reach tokens by libcrypto's engine
 * "pkcs11"; that is asked where no provider knows the scheme. */
#define OPENSSL_SUPPRESS_DEPRECATED /* engines */
#include "crypto.h"

#include <ctype.h>
#include <openssl/err.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#ifndef OPENSSL_NO_ENGINE
#include <openssl/engine.h>
#endif

struct pin {
	const struct sif_ask *ask;
	const char *what;
	struct vl_err *err; /* filled when there was no answer */
	bool failed, asked;
};

/* As OpenSSL asks: the PIN into buf. */
static int give_pin(char *buf, int size, int rwflag, void *arg)
{
	struct pin *pin = arg;
	char *answer = NULL;
	int n = -1;

	(void)rwflag;
	pin->asked = true;
	if (!pin->ask) {
		vl_fail(pin->err, EACCES, "%s asks for a PIN, and there is none", pin->what);
		pin->failed = true;
		return -1;
	}
	if (pin->ask->ask(pin->ask->arg, pin->what, &answer, pin->err) < 0) {
		pin->failed = true;
		return -1;
	}
	size_t len = strlen(answer);
	if (len <= (size_t)size) {
		memcpy(buf, answer, len);
		n = (int)len;
	}
	explicit_bzero(answer, len);
	free(answer);
	return n;
}

static EVP_PKEY *from_store(const char *uri, const UI_METHOD *ui, struct pin *pin)
{
	OSSL_STORE_CTX *store = OSSL_STORE_open(uri, ui, pin, NULL, NULL);
	EVP_PKEY *pkey = NULL;

	if (!store)
		return NULL;
	OSSL_STORE_expect(store, OSSL_STORE_INFO_PKEY);
	while (!pkey && !pin->failed && !OSSL_STORE_eof(store)) {
		OSSL_STORE_INFO *info = OSSL_STORE_load(store);
		if (info && OSSL_STORE_INFO_get_type(info) == OSSL_STORE_INFO_PKEY)
			pkey = OSSL_STORE_INFO_get1_PKEY(info);
		OSSL_STORE_INFO_free(info);
		if (!info && OSSL_STORE_error(store))
			break;
	}
	OSSL_STORE_close(store);
	return pkey;
}

static EVP_PKEY *from_engine(const char *uri, const UI_METHOD *ui, struct pin *pin)
{
#ifndef OPENSSL_NO_ENGINE
	ENGINE *e = vl_prefix(uri, "pkcs11:") ? ENGINE_by_id("pkcs11") : NULL;
	EVP_PKEY *pkey = NULL;

	if (e && ENGINE_init(e) == 1) {
		pkey = ENGINE_load_private_key(e, uri, (UI_METHOD *)ui, pin);
		ENGINE_finish(e);
	}
	ENGINE_free(e);
	return pkey;
#else
	(void)uri, (void)ui, (void)pin;
	return NULL;
#endif
}

bool sif_key_is_uri(const char *where)
{
	size_t n = strcspn(where, ":");

	if (n < 2 || where[n] != ':' || !isalpha((unsigned char)*where))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)where[i]) && !strchr("+.-", where[i]))
			return false;
	return true;
}

int sif_key_from_token(const char *uri, const struct sif_ask *ask, struct sif_key **ret, struct vl_err *err)
{
	struct pin pin = { .ask = ask, .what = uri, .err = err };

	if (strstr(uri, "pin-value="))
		return vl_fail(err, EINVAL,
			       "a PIN in a URI is seen by everybody on this host; leave pin-value out, or name a file "
			       "with pin-source=");
	UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(give_pin, 0);
	EVP_PKEY *pkey = from_store(uri, ui, &pin);
	if (!pkey && !pin.asked)
		pkey = from_engine(uri, ui, &pin);
	/* the oldest reason: later ones are of the search for another way */
	const char *why = ERR_reason_error_string(ERR_peek_error());
	int r;
	if (pkey)
		r = sif_key_take_opaque(pkey, uri, ret, err);
	else if (pin.failed)
		r = -err->code;
	else if (pin.asked)
		r = vl_fail(err, EACCES, "cannot open the key %s: the PIN is wrong, or there is no such key", uri);
	else
		r = vl_fail(err, ENOKEY,
			    "cannot open the key %s: %s; a provider or engine of libcrypto must serve it, which the "
			    "system's openssl.cnf names",
			    uri, why ? why : "it is not there");
	ERR_clear_error();
	UI_destroy_method(ui);
	return r;
}
