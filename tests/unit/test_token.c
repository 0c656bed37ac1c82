/* Challenges and the tokens that answer them. The token server is the function oci_http_do below: it keeps what
 * was asked and answers what a test wrote down. */
#include "check.h"

#include "oci/client.h"

static struct {
	unsigned asked;
	char *method, *url, *authorization, *form;
	bool plain_http, no_redirect;
	struct oci_tls tls;
	unsigned max_seconds;
	int64_t retry_after;
	int status, fails; /* the answer */
	const char *body;
} server = { .status = 200 };

static char *copy(const char *s)
{
	return s ? vl_strdup(s) : NULL;
}

static void forget(void)
{
	vl_freep(&server.method);
	vl_freep(&server.url);
	vl_freep(&server.authorization);
	vl_freep(&server.form);
}

int oci_http_do(struct oci_http *h, const struct oci_http_req *q, struct oci_http_resp *ret, struct vl_err *err)
{
	(void)h;
	forget();
	server.asked++;
	server.method = copy(q->method);
	server.url = copy(q->url);
	server.authorization = copy(q->authorization);
	server.form = q->body ? vl_strndup(q->body, q->body_len) : NULL;
	server.plain_http = q->plain_http;
	server.no_redirect = q->no_redirect;
	server.tls = *q->tls;
	server.max_seconds = q->max_seconds;
	if (server.fails)
		return vl_fail(err, server.fails, "no way there");
	ret->status = server.status;
	ret->retry_after = server.retry_after;
	vl_buf_adds(&ret->body, server.body);
	return 0;
}

const char *oci_http_head(const struct oci_http_resp *r, const char *name, unsigned n)
{
	(void)r, (void)name, (void)n;
	return NULL;
}

static size_t host_len(const char *url, const char *end)
{
	size_t scheme = strcspn(url, "/") + 2;
	return scheme + strcspn(url + scheme, end);
}

bool oci_http_same_origin(const char *a, const char *b)
{
	return host_len(a, "/") == host_len(b, "/") && strncmp(a, b, host_len(a, "/")) == 0;
}

bool oci_http_same_host(const char *a, const char *b)
{
	return host_len(a, "/:") == host_len(b, "/:") && strncmp(a, b, host_len(a, "/:")) == 0;
}

void oci_http_resp_free(struct oci_http_resp *r)
{
	vl_buf_free(&r->body);
}

/* ---- challenges ---------------------------------------------------------------------------- */

static const struct {
	const char *value;
	enum oci_scheme scheme; /* NONE: refused */
	const char *realm, *service, *scope;
} challenges[] = {
	{ "Bearer "
	  "realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",scope=\"repository:a/b:pull,push\"",
	  OCI_AUTH_BEARER, "https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull,push" },
	{ "bEARER  ReAlM = \"r\" , SERVICE=s", OCI_AUTH_BEARER, "r", "s", NULL },
	{ "Basic realm=\"a \\\"b\\\", c\"", OCI_AUTH_BASIC, "a \"b\", c", NULL, NULL },
	{ "Basic", OCI_AUTH_BASIC, NULL, NULL, NULL },
	{ "Basic realm=x, Bearer realm=y", OCI_AUTH_BEARER, "y", NULL, NULL },
	{ "Bearer realm=y, Basic realm=x", OCI_AUTH_BEARER, "y", NULL, NULL },
	{ "Negotiate, Basic realm=x", OCI_AUTH_BASIC, "x", NULL, NULL },
	{ "Negotiate YIIabc==, Basic realm=x", OCI_AUTH_BASIC, "x", NULL, NULL },
	{ "Digest realm=\"d\", qop=\"auth, auth-int\", nonce=\"Bearer realm=evil\", Basic realm=x", OCI_AUTH_BASIC, "x",
	  NULL, NULL },
	{ ", ,Basic realm=x,,", OCI_AUTH_BASIC, "x", NULL, NULL },
	{ "Bearer realm=a,realm=b", OCI_AUTH_BEARER, "a", NULL, NULL },
	{ "Bearer realm=a,error=\"invalid_token\",extra=1", OCI_AUTH_BEARER, "a", NULL, NULL },
	{ "Bearer realm=\"a\" junk", OCI_AUTH_BEARER, "a", NULL, NULL },
	{ "Bearer realm=\"\"", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer service=\"s\"", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"a\r\nX: y\"", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"open", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer realm=\"open\\", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer realm=", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearer realm", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Bearerrealm=x", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "Negotiate", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ ",,,", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "\x1b[2J", OCI_AUTH_NONE, NULL, NULL, NULL },
	{ "\"Basic realm=x\"", OCI_AUTH_NONE, NULL, NULL, NULL },
};

TEST(challenges)
{
	for (size_t i = 0; i < VL_COUNT(challenges); i++) {
		VL_CLEANUP(oci_challenge_free) struct oci_challenge c = { 0 };
		struct vl_err err = { 0 };
		int r = oci_challenge_parse(challenges[i].value, &c, &err);
		if (r != (challenges[i].scheme ? 0 : -ENOTSUP))
			CHECK_FAIL("'%s' gives %d: %s", challenges[i].value, r, err.text);
		CHECK_EQ(c.scheme, challenges[i].scheme);
		CHECK_STR(c.realm, challenges[i].realm);
		CHECK_STR(c.service, challenges[i].service);
		CHECK_STR(c.scope, challenges[i].scope);
		CHECK(!strchr(err.text, '\x1b'));
	}
}

TEST(long_challenge)
{
	struct oci_challenge c;
	struct vl_err err = { 0 };
	VL_FREE char *s = vl_alloc((1 << 20) + 1);

	memset(s, 'a', 1 << 20);
	CHECK_EQ(oci_challenge_parse(s, &c, &err), -ENOTSUP);
}

/* ---- tokens --------------------------------------------------------------------------------- */

static struct oci_challenge bearer = { OCI_AUTH_BEARER, (char *)"https://auth.io/token", (char *)"reg.io",
				       (char *)"repository:a/b:pull" };
static struct vl_err err;

static char *get(struct oci_tokens *t, const char *scopes, struct oci_cred *cred, bool fresh)
{
	char *s = NULL;

	struct oci_token_ask ask = { .ch = &bearer, .scopes = scopes, .fresh = fresh };

	err = (struct vl_err){ 0 };
	if (oci_tokens_get(t, NULL, &ask, cred, &s, &err) < 0)
		return NULL;
	return s;
}

#define GET(scopes, cred, fresh, want)                                                                                 \
	do {                                                                                                           \
		VL_FREE char *_s = get(t, scopes, cred, fresh);                                                        \
		if (!_s)                                                                                               \
			CHECK_FAIL("%s", err.text);                                                                    \
		CHECK_STR(_s, want);                                                                                   \
	} while (0)
#define REFUSED(cred, want, part)                                                                                      \
	do {                                                                                                           \
		VL_FREE char *_s = get(t, NULL, cred, true);                                                           \
		CHECK(!_s);                                                                                            \
		CHECK_EQ(err.code, want);                                                                              \
		CHECK_HAS(err.text, part);                                                                             \
	} while (0)

TEST(anonymous_tokens)
{
	struct oci_tokens *t = oci_tokens_new();

	server.body = "{\"token\":\"abc\",\"access_token\":\"other\",\"expires_in\":300}";
	GET(NULL, NULL, false, "Bearer abc");
	CHECK_STR(server.method, "GET");
	CHECK_STR(server.url, "https://auth.io/token?service=reg.io&scope=repository%3Aa%2Fb%3Apull");
	CHECK(!server.authorization && !server.form && !server.plain_http);
	server.body = "{\"access_token\":\"def\"}";
	GET(NULL, NULL, false, "Bearer abc"); /* kept */
	CHECK_EQ(server.asked, 1);
	GET(NULL, NULL, true, "Bearer def");
	CHECK_EQ(server.asked, 2);
	GET("a:b:pull c:d:pull,push", NULL, false, "Bearer def");
	CHECK_STR(server.url, "https://auth.io/token?service=reg.io&scope=a%3Ab%3Apull&scope=c%3Ad%3Apull%2Cpush");
	oci_tokens_free(t);
	forget();
}

TEST(realm_with_a_query)
{
	struct oci_tokens *t = oci_tokens_new();

	server.body = "{\"token\":\"abc\"}";
	bearer.realm = (char *)"https://auth.io/token?account=x";
	GET(NULL, NULL, false, "Bearer abc");
	CHECK_STR(server.url, "https://auth.io/token?account=x&service=reg.io&scope=repository%3Aa%2Fb%3Apull");
	bearer.service = bearer.scope = NULL;
	GET(NULL, NULL, false, "Bearer abc");
	CHECK_STR(server.url, "https://auth.io/token?account=x");
	bearer.realm = (char *)"https://auth.io/token";
	GET(NULL, NULL, false, "Bearer abc");
	CHECK_STR(server.url, "https://auth.io/token");
	oci_tokens_free(t);
	forget();
}

TEST(tokens_of_a_user)
{
	struct oci_cred me = { .username = (char *)"me", .password = (char *)"pass:word" };
	struct oci_cred you = { .username = (char *)"you", .password = (char *)"x" };
	struct oci_tokens *t = oci_tokens_new();

	server.body = "{\"token\":\"mine\"}";
	GET(NULL, &me, false, "Bearer mine");
	CHECK_STR(server.authorization, "Basic bWU6cGFzczp3b3Jk");
	server.body = "{\"token\":\"yours\"}";
	GET(NULL, &you, false, "Bearer yours");
	server.body = "{\"token\":\"nobodys\"}";
	GET(NULL, NULL, false, "Bearer nobodys");
	CHECK(!server.authorization);
	GET(NULL, &me, false, "Bearer mine");
	me.password = (char *)"other";
	GET(NULL, &me, false, "Bearer nobodys");
	CHECK_EQ(server.asked, 4);
	oci_tokens_free(t);
	forget();
}

TEST(identity_tokens)
{
	struct oci_cred me = { .username = (char *)"me", .identity_token = vl_strdup("re fresh") };
	struct oci_tokens *t = oci_tokens_new();

	server.body = "{\"access_token\":\"new\",\"refresh_token\":\"next\"}";
	GET("a:b:pull c:d:pull", &me, false, "Bearer new");
	CHECK_STR(server.method, "POST");
	CHECK_STR(server.url, "https://auth.io/token");
	CHECK_STR(server.form, "grant_type=refresh_token&client_id=vial&refresh_token=re%20fresh&service=reg.io"
			       "&scope=a%3Ab%3Apull%20c%3Ad%3Apull");
	CHECK(server.no_redirect);
	CHECK_STR(me.identity_token, "next");
	GET("a:b:pull c:d:pull", &me, false, "Bearer new");
	CHECK_EQ(server.asked, 1);
	server.status = 400;
	REFUSED(&me, EACCES, "registry login");
	CHECK_STR(me.identity_token, "next");
	free(me.identity_token);
	oci_tokens_free(t);
	forget();
}

TEST(registry_tokens_go_as_they_are)
{
	struct oci_cred me = { .registry_token = (char *)"given", .from = (char *)"auth.json" };
	struct oci_tokens *t = oci_tokens_new();

	GET(NULL, &me, false, "Bearer given");
	CHECK_EQ(server.asked, 0);
	me.registry_token = (char *)"gi\r\nven";
	REFUSED(&me, EINVAL, "auth.json");
	CHECK(!strstr(err.text, "ven"));
	oci_tokens_free(t);
}

TEST(basic)
{
	struct oci_challenge ch = { .scheme = OCI_AUTH_BASIC };
	struct oci_cred me = { .username = (char *)"me", .password = (char *)"pw" };
	char *s = NULL;

	struct oci_token_ask ask = { .ch = &ch };

	CHECK_EQ(oci_tokens_get(NULL, NULL, &ask, NULL, &s, &err), -EACCES);
	CHECK_HAS(err.text, "registry login");
	CHECK_EQ(oci_tokens_get(NULL, NULL, &ask, &me, &s, &err), 0);
	CHECK_STR(s, "Basic bWU6cHc=");
	CHECK_EQ(server.asked, 0);
	free(s);
}

TEST(answers_that_are_refused)
{
	struct oci_cred me = { .username = (char *)"me", .password = (char *)"hunter2", .from = (char *)"auth.json" };
	struct oci_tokens *t = oci_tokens_new();
	static const char *const bodies[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"token\":\"\"}",
		"{\"token\":1}",
		"{\"token\":\"a b\"}",
		"{\"token\":\"a\\r\\nX: y\"}",
		"{\"token\":\"a\\u0000b\"}",
		"{\"token\":\"\xc3\xa9\"}",
		"hunter2",
	};
	VL_FREE char *large = vl_alloc(70000), *body = NULL;

	for (size_t i = 0; i < VL_COUNT(bodies); i++) {
		server.body = bodies[i];
		REFUSED(&me, EPROTO, "token server https://auth.io/token");
		CHECK(!strstr(err.text, "hunter2"));
	}
	memset(large, 'a', 69999);
	server.body = body = vl_asprintf("{\"token\":\"%s\"}", large);
	REFUSED(&me, EPROTO, "without a token");
	server.body = "{\"token\":\"a\"}";
	server.status = 401;
	REFUSED(&me, EACCES, "of auth.json (401): log in again");
	REFUSED(NULL, EACCES, "without a login");
	server.status = 403;
	REFUSED(&me, EACCES, "registry login");
	server.status = 429;
	REFUSED(&me, ETIMEDOUT, "later");
	server.status = 302;
	REFUSED(&me, EIO, "302");
	server.status = 503;
	REFUSED(&me, ETIMEDOUT, "503");
	server.fails = ECONNREFUSED;
	REFUSED(&me, ECONNREFUSED, "cannot get a token: no way there");
	oci_tokens_free(t);
	forget();
}

TEST(token_servers_that_are_refused)
{
	struct oci_cred me = { .username = (char *)"me", .password = (char *)"hunter2" };
	struct oci_tokens *t = oci_tokens_new();
	static const char *const realms[] = {
		"ftp://auth.io/",
		"file:///etc/passwd",
		"auth.io/token",
		"https://",
		"https:///x",
		"https://u:p@auth.io/",
		"https://auth.io/\x01",
		"https://auth.io/a b",
		"https://auth.io/\xc3\xa9",
		"https://:80/",
	};

	server.body = "{\"token\":\"a\"}";
	for (size_t i = 0; i < VL_COUNT(realms); i++) {
		bearer.realm = (char *)realms[i];
		REFUSED(&me, EPROTO, "token server");
	}
	bearer.realm = (char *)"http://auth.io/token";
	REFUSED(&me, EACCES, "without TLS");
	CHECK_EQ(server.asked, 0);
	char *s = NULL;
	struct oci_token_ask ask = { .ch = &bearer, .plain_ok = true };
	CHECK_EQ(oci_tokens_get(t, NULL, &ask, &me, &s, &err), 0);
	CHECK(server.plain_http);
	free(s);
	oci_tokens_free(t);
	forget();
}

/* What a registry's certs.d and insecure = true say is about the registry. */
TEST(tls_of_the_registry_is_not_that_of_its_token_server)
{
	static const struct {
		const char *realm;
		bool skip, cert, add_ca;
	} cases[] = {
		{ "https://reg.io:5000/token", true, true, false },
		{ "https://reg.io:5001/token", true, false, true },
		{ "https://reg.io.evil.io:5000/token", false, false, true },
		{ "https://auth.io/token", false, false, true },
	};
	char *files[] = { (char *)"ca.crt", NULL };
	const struct vl_strv ca = { .v = files, .n = 1 };
	const struct oci_tls tls = { .ca_files = &ca, .cert = "c.pem", .key = "k.pem", .skip_verify = true };
	struct oci_cred id = { .identity_token = (char *)"id" };

	server.body = "{\"token\":\"a\"}";
	for (size_t i = 0; i < 2 * VL_COUNT(cases); i++) {
		const size_t k = i / 2;
		struct oci_tokens *t = oci_tokens_new();
		const struct oci_challenge ch = { OCI_AUTH_BEARER, (char *)cases[k].realm, NULL, NULL };
		struct oci_token_ask ask = { .ch = &ch, .registry = "https://reg.io:5000/v2", .tls = &tls };
		char *s = NULL;

		CHECK_EQ(oci_tokens_get(t, NULL, &ask, i % 2 ? &id : NULL, &s, &err), 0);
		CHECK_EQ(server.tls.skip_verify, cases[k].skip);
		CHECK_EQ(server.tls.cert != NULL, cases[k].cert);
		CHECK_EQ(server.tls.key != NULL, cases[k].cert);
		CHECK_EQ(server.tls.add_ca, cases[k].add_ca);
		CHECK(server.tls.ca_files == &ca);
		CHECK(server.max_seconds > 0);
		free(s);
		oci_tokens_free(t);
	}
	forget();
}

TEST(token_server_that_wants_to_be_left_alone)
{
	struct oci_tokens *t = oci_tokens_new();
	const struct oci_challenge ch = { OCI_AUTH_BEARER, (char *)"https://auth.io/token", NULL, NULL };
	struct oci_token_ask ask = { .ch = &ch };
	char *s = NULL;

	server.body = "";
	server.status = 429;
	server.retry_after = 7;
	CHECK_EQ(oci_tokens_get(t, NULL, &ask, NULL, &s, &err), -ETIMEDOUT);
	CHECK_EQ(ask.retry_after, 7);
	oci_tokens_free(t);
	forget();
}

TEST(many_tokens)
{
	struct oci_tokens *t = oci_tokens_new();
	char scope[32];

	server.body = "{\"token\":\"a\",\"expires_in\":9223372036854775807}";
	for (int i = 0; i < 1000; i++) {
		snprintf(scope, sizeof scope, "s%d", i);
		GET(scope, NULL, false, "Bearer a");
	}
	CHECK_EQ(server.asked, 1000);
	GET("s999", NULL, false, "Bearer a");
	CHECK_EQ(server.asked, 1000);
	GET("s0", NULL, false, "Bearer a"); /* made room for another one */
	CHECK_EQ(server.asked, 1001);
	oci_tokens_free(t);
	forget();
}
