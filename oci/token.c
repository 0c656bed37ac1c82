/* Answers to a registry's challenge: Basic, or a bearer token from the server it names. Tokens are kept as long as
 * they hold; neither they nor passwords reach a message. */
#include "auth.h"

#include <pthread.h>
#include <time.h>

#define MAX_TOKEN (64u << 10) /* JSON web tokens have 1 to 4 KiB; a header of more is refused anywhere */
#define MAX_REALM 4096
#define MAX_KEPT 256       /* one per registry and repository of a run */
#define DEFAULT_SECONDS 60 /* distribution: when the server does not say */
#define MAX_SECONDS 86400  /* no longer than a day, whatever the server says */
#define CLIENT_ID "vial"

struct kept {
	char *key, *token;
	int64_t until; /* seconds of the clock below */
};

struct oci_tokens {
	pthread_mutex_t lock;
	struct kept kept[MAX_KEPT];
	size_t n, next;
};

struct oci_tokens *oci_tokens_new(void)
{
	struct oci_tokens *t = vl_alloc(sizeof *t);

	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void oci_tokens_free(struct oci_tokens *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++) {
		free(t->kept[i].key);
		oci_secret_freep(&t->kept[i].token);
	}
	pthread_mutex_destroy(&t->lock);
	free(t);
}

/* BOOTTIME: a token ages while a laptop sleeps. */
static int64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return ts.tv_sec;
}

static char *get_kept(struct oci_tokens *t, const char *key)
{
	char *token = NULL;

	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < t->n; i++)
		if (vl_streq(t->kept[i].key, key) && now() < t->kept[i].until)
			token = vl_strdup(t->kept[i].token);
	pthread_mutex_unlock(&t->lock);
	return token;
}

/* In the place of the same key's last one, of a new one, or of the oldest. */
static void keep(struct oci_tokens *t, const char *key, const char *token, int64_t seconds)
{
	size_t i = 0;

	pthread_mutex_lock(&t->lock);
	while (i < t->n && !vl_streq(t->kept[i].key, key))
		i++;
	if (i == MAX_KEPT) {
		i = t->next;
		t->next = (t->next + 1) % MAX_KEPT;
	} else if (i == t->n) {
		t->n++;
	}
	free(t->kept[i].key);
	oci_secret_freep(&t->kept[i].token);
	t->kept[i] = (struct kept){ vl_strdup(key), vl_strdup(token), now() + seconds };
	pthread_mutex_unlock(&t->lock);
}

/* What tells tokens apart. Secrets go in as a hash. */
static char *make_key(const struct oci_challenge *ch, const char *scopes, const struct oci_cred *cred)
{
	uint8_t sha[32];
	char hex[65] = "";

	if (cred) {
		const char *parts[] = { cred->username, cred->password, cred->identity_token };
		VL_BUF struct vl_buf b = { 0 };
		for (size_t i = 0; i < VL_COUNT(parts); i++)
			vl_buf_addf(&b, "%zu:%s", parts[i] ? strlen(parts[i]) : 0, parts[i] ? parts[i] : "");
		vl_sha256(b.data, b.len, sha);
		vl_hex(sha, sizeof sha, hex);
		explicit_bzero(b.data, b.len);
	}
	return vl_asprintf("%s\n%s\n%s\n%s", ch->realm, ch->service ? ch->service : "", scopes ? scopes : "", hex);
}

/* ---- the request ------------------------------------------------------------------------------- */

static void add_escaped(struct vl_buf *b, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') || (s[i] >= '0' && s[i] <= '9') ||
		    strchr("-._~", s[i]))
			vl_buf_add(b, s + i, 1);
		else
			vl_buf_addf(b, "%%%02X", (unsigned char)s[i]);
}

static void add_field(struct vl_buf *b, const char *name, const char *value, size_t n)
{
	if (b->len && !strchr("?&", b->data[b->len - 1]))
		vl_buf_adds(b, "&");
	vl_buf_addf(b, "%s=", name);
	add_escaped(b, value, n);
}

/* The realm's own text is what the registry says: it goes where the password goes. */
static int check_realm(const char *realm, bool plain_ok, struct vl_err *err)
{
	const char *rest = vl_prefix(realm, "https://");
	VL_FREE char *shown = vl_printable(realm, strnlen(realm, 200));
	size_t n = strlen(realm);

	if (!rest && plain_ok)
		rest = vl_prefix(realm, "http://");
	if (!rest && vl_prefix(realm, "http://"))
		return vl_fail(err, EACCES,
			       "the registry's token server %s is reached without TLS: nothing is sent there", shown);
	if (!rest || !*rest || strchr("/?#:", *rest) || n > MAX_REALM)
		return vl_fail(err, EPROTO, "the registry names a token server that is no https URL: %s", shown);
	if (memchr(rest, '@', strcspn(rest, "/?#")))
		return vl_fail(err, EPROTO, "the URL of the registry's token server holds a user name: it is not used");
	for (const char *s = realm; *s; s++)
		if ((unsigned char)*s <= ' ' || (unsigned char)*s >= 0x7f)
			return vl_fail(err, EPROTO, "the registry names a token server that is no URL: %s", shown);
	return 0;
}

/* service and every scope, after what is in b. */
static void add_query(struct vl_buf *b, const struct oci_challenge *ch, const char *scopes, bool one_scope)
{
	if (ch->service)
		add_field(b, "service", ch->service, strlen(ch->service));
	if (one_scope && scopes && *scopes)
		add_field(b, "scope", scopes, strlen(scopes));
	for (const char *s = scopes; !one_scope && s && *s;) {
		size_t n = strcspn(s, " ");
		if (n)
			add_field(b, "scope", s, n);
		s += n + (s[n] == ' ');
	}
}

static char *basic(const struct oci_cred *cred)
{
	OCI_SECRET char *both = vl_asprintf("%s:%s", cred->username, cred->password ? cred->password : "");
	OCI_SECRET char *text = vl_base64(both, strlen(both), true);

	return vl_asprintf("Basic %s", text);
}

/* The registry's own certificates, and the word that its need not be right, are for the registry. Whom it names as its
 * token server gets the password: that one has to show who it is. */
static struct oci_tls tls_of(const struct oci_token_ask *ask)
{
	const char *realm = ask->ch->realm;
	struct oci_tls tls = ask->tls ? *ask->tls : (struct oci_tls){ 0 };

	if (!ask->registry || oci_http_same_origin(realm, ask->registry))
		return tls;
	tls.cert = tls.key = NULL;
	tls.add_ca = true;
	tls.skip_verify = tls.skip_verify && oci_http_same_host(realm, ask->registry);
	return tls;
}

/* oauth2: a form that swaps the identity token for another one. RFC 6749 has one scope field. */
static int ask_by_form(struct oci_http *h, const struct oci_token_ask *ask, const struct oci_cred *cred,
		       struct oci_http_resp *ret, struct vl_err *err)
{
	static const char *const heads[] = { "Content-Type: application/x-www-form-urlencoded",
					     "Accept: application/json", NULL };
	VL_BUF struct vl_buf form = { 0 };

	vl_buf_adds(&form, "grant_type=refresh_token&client_id=" CLIENT_ID);
	add_field(&form, "refresh_token", cred->identity_token, strlen(cred->identity_token));
	add_query(&form, ask->ch, ask->scopes, true);
	struct oci_tls tls = tls_of(ask);
	struct oci_http_req q = {
		.method = "POST",
		.url = ask->ch->realm,
		.heads = heads,
		.tls = &tls,
		.plain_http = ask->plain_ok,
		.max_seconds = OCI_HTTP_DOCUMENT_SECONDS,
		.no_redirect = true, /* the form would go along to wherever it leads */
		.body = form.data,
		.body_fd = -1,
		.body_len = form.len,
	};
	int r = oci_http_do(h, &q, ret, err);
	explicit_bzero(form.data, form.len);
	return r;
}

static int ask_by_query(struct oci_http *h, const struct oci_token_ask *ask, const struct oci_cred *cred,
			struct oci_http_resp *ret, struct vl_err *err)
{
	static const char *const heads[] = { "Accept: application/json", NULL };
	const char *realm = ask->ch->realm;
	VL_BUF struct vl_buf url = { 0 };
	struct oci_tls tls = tls_of(ask);
	OCI_SECRET char *authorization = cred && cred->username ? basic(cred) : NULL;

	vl_buf_add(&url, realm, strcspn(realm, "#"));
	if (!strchr(url.data, '?'))
		vl_buf_adds(&url, "?");
	add_query(&url, ask->ch, ask->scopes, false);
	if (url.data[url.len - 1] == '?')
		url.data[--url.len] = 0;
	struct oci_http_req q = {
		.method = "GET",
		.url = url.data,
		.heads = heads,
		.authorization = authorization,
		.tls = &tls,
		.plain_http = ask->plain_ok,
		.max_seconds = OCI_HTTP_DOCUMENT_SECONDS,
		.body_fd = -1,
	};
	return oci_http_do(h, &q, ret, err);
}

/* ---- the answer ---------------------------------------------------------------------------------- */

static int refused(const char *realm, int status, const struct oci_cred *cred, struct vl_err *err)
{
	VL_FREE char *server = vl_printable(realm, strcspn(realm, "?#"));

	/* ETIMEDOUT is what the client tries again after */
	if (status == 429)
		return vl_fail(err, ETIMEDOUT, "the token server %s has too many requests (429): try again later",
			       server);
	if (status == 408 || (status >= 500 && status != 501))
		return vl_fail(err, ETIMEDOUT, "the token server %s is out of order (%d): try again later", server,
			       status);
	if (status != 401 && status != 403 && !(status == 400 && cred && cred->identity_token))
		return vl_fail(err, EIO, "the token server %s gives no token: HTTP status %d", server, status);
	if (!cred)
		return vl_fail(err, EACCES,
			       "the token server %s gives no token without a login (%d): log in with 'registry login', "
			       "or the name is wrong",
			       server, status);
	return vl_fail(err, EACCES,
		       "the token server %s does not take the user name and password of %s (%d): log in again with "
		       "'registry login'",
		       server, cred->from ? cred->from : "the login", status);
}

static bool is_sendable(const char *s)
{
	size_t n = strnlen(s, MAX_TOKEN + 1);

	for (size_t i = 0; i < n; i++)
		if (s[i] <= ' ' || s[i] >= 0x7f)
			return false;
	return n && n <= MAX_TOKEN;
}

static int read_answer(const struct oci_http_resp *resp, const char *realm, char **ret_token, int64_t *ret_seconds,
		       char **ret_identity, struct vl_err *err)
{
	VL_FREE char *server = vl_printable(realm, strcspn(realm, "?#"));
	VL_JSON vl_json *j = NULL;
	struct vl_err secret = { 0 }; /* may quote the answer */
	int64_t seconds = DEFAULT_SECONDS;

	if (vl_json_parse(resp->body.data ? resp->body.data : "", resp->body.len, "answer", &j, &secret) < 0)
		return vl_fail(err, EPROTO, "the token server %s does not answer with JSON", server);
	const char *token = vl_json_str(j, "token"), *identity = vl_json_str(j, "refresh_token");
	if (!token || !*token)
		token = vl_json_str(j, "access_token");
	if (!token || !is_sendable(token))
		return vl_fail(err, EPROTO, "the token server %s answers without a token that can be sent", server);
	if (!vl_json_int(j, "expires_in", &seconds) || seconds <= 0)
		seconds = DEFAULT_SECONDS;
	seconds = VL_MIN(seconds, MAX_SECONDS);
	*ret_seconds = seconds - (seconds + 9) / 10; /* not used up to its last moment */
	*ret_token = vl_strdup(token);
	if (identity && is_sendable(identity))
		*ret_identity = vl_strdup(identity);
	return 0;
}

static int fetch(struct oci_http *h, struct oci_token_ask *ask, struct oci_cred *cred, char **ret_token,
		 int64_t *ret_seconds, struct vl_err *err)
{
	const char *realm = ask->ch->realm;
	struct oci_http_resp resp = { 0 };
	OCI_SECRET char *identity = NULL;
	bool by_form = cred && cred->identity_token;
	int r = check_realm(realm, ask->plain_ok, err);

	if (r < 0)
		return r;
	if (by_form)
		r = ask_by_form(h, ask, cred, &resp, err);
	else
		r = ask_by_query(h, ask, cred, &resp, err);
	if (r < 0)
		vl_wrap(err, "cannot get a token");
	else if (resp.status != 200)
		r = refused(realm, resp.status, cred, err);
	else
		r = read_answer(&resp, realm, ret_token, ret_seconds, &identity, err);
	ask->retry_after = resp.retry_after;
	if (resp.body.data)
		explicit_bzero(resp.body.data, resp.body.len);
	oci_http_resp_free(&resp);
	if (r == 0 && by_form && identity) {
		oci_secret_freep(&cred->identity_token);
		cred->identity_token = vl_steal(&identity);
	}
	return r;
}

int oci_tokens_get(struct oci_tokens *t, struct oci_http *h, struct oci_token_ask *ask, struct oci_cred *cred,
		   char **ret, struct vl_err *err)
{
	const struct oci_challenge *ch = ask->ch;
	OCI_SECRET char *token = NULL;
	int64_t seconds = 0;

	/* that a Basic password goes over plain HTTP was decided where the endpoint was made plain */
	if (ch->scheme == OCI_AUTH_BASIC) {
		if (!cred || !cred->username)
			return vl_fail(err, EACCES, "the registry wants a user name and password: 'registry login'");
		*ret = basic(cred);
		return 0;
	}
	if (ch->scheme != OCI_AUTH_BEARER || !ch->realm)
		return vl_fail(err, ENOTSUP, "the registry wants a way of login that is not known here");
	if (cred && cred->registry_token) {
		if (!is_sendable(cred->registry_token))
			return vl_fail(err, EINVAL, "%s: the registry token is no token", cred->from ? cred->from : "");
		*ret = vl_asprintf("Bearer %s", cred->registry_token);
		return 0;
	}
	if (!ask->scopes)
		ask->scopes = ch->scope;
	VL_FREE char *key = make_key(ch, ask->scopes, cred);
	if (!ask->fresh)
		token = get_kept(t, key);
	if (!token) {
		int r = fetch(h, ask, cred, &token, &seconds, err);
		if (r < 0)
			return r;
		keep(t, key, token, seconds);
		VL_FREE char *renewed = make_key(ch, ask->scopes, cred);
		if (!vl_streq(renewed, key)) /* the identity token is another one now */
			keep(t, renewed, token, seconds);
	}
	*ret = vl_asprintf("Bearer %s", token);
	return 0;
}
