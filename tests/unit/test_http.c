/* oci/http.c and the plain files of oci/url.c, against servers that misbehave. */
#include "http_server.h"

#include "oci/client.h"

#include <fcntl.h>
#include <poll.h>

struct got {
	struct oci_http_resp resp;
	struct vl_err err;
	char body[256];
	size_t len;
	unsigned heads;
	int refuse;
};

static struct oci_http *http(void)
{
	struct oci_http *h;
	struct vl_err err = { 0 };
	CHECK_EQ(oci_http_new("vial-test", &h, &err), 0);
	return h;
}

static char *url(const struct srv *s, const char *path)
{
	return vl_asprintf("http://127.0.0.1:%d%s", s->port, path);
}

static int take(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct got *g = arg;
	(void)err;
	CHECK(g->len + n < sizeof g->body);
	memcpy(g->body + g->len, p, n);
	g->len += n;
	return 0;
}

static int take_head(void *arg, const struct oci_http_resp *r, struct vl_err *err)
{
	struct got *g = arg;
	CHECK(r->status == 200 || r->status == 206);
	g->heads++;
	return g->refuse ? vl_fail(err, g->refuse, "refused by head") : 0;
}

static int get(struct srv *s, const char *path, bool plain, bool sink, struct got *g)
{
	struct oci_http *h = http();
	VL_FREE char *u = url(s, path);
	struct oci_http_req q = { .method = "GET", .url = u, .plain_http = plain, .authorization = "Basic c2VjcmV0" };

	if (sink) {
		q.head = take_head;
		q.sink = take;
		q.arg = g;
	}
	int r = oci_http_do(h, &q, &g->resp, &g->err);
	oci_http_free(h);
	return r;
}

static void hello(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)s, (void)request, (void)n;
	srv_reply(fd, "200 OK", "X-One: a\r\nx-one: b\r\n", "hello", 5);
}

TEST(get)
{
	struct srv s;
	struct got g = { 0 }, k = { .refuse = EDOM };

	srv_start(&s, hello, NULL);
	CHECK_EQ(get(&s, "/x", true, false, &g), 0);
	CHECK_EQ(g.resp.status, 200);
	CHECK_STR(g.resp.body.data, "hello");
	CHECK_STR(oci_http_head(&g.resp, "X-ONE", 0), "a");
	CHECK_STR(oci_http_head(&g.resp, "X-One", 1), "b");
	CHECK_STR(oci_http_head(&g.resp, "X-One", 2), NULL);
	CHECK_STR(oci_http_head(&g.resp, "X-On", 0), NULL);
	CHECK_HAS(s.log[0], "Authorization: Basic c2VjcmV0\r\n");
	CHECK_HAS(s.log[0], "User-Agent: vial-test\r\n");
	oci_http_resp_free(&g.resp);
	CHECK_EQ(get(&s, "/x", true, true, &g), 0);
	CHECK_EQ(g.resp.received, 5);
	CHECK_EQ(g.heads, 1);
	CHECK_MEM(g.body, "hello", 5);
	oci_http_resp_free(&g.resp);
	CHECK_EQ(get(&s, "/x", true, true, &k), -EDOM);
	CHECK_EQ(k.len, 0);
	oci_http_resp_free(&k.resp);
	srv_stop(&s);
}

TEST(plain_http_only_where_allowed)
{
	struct srv s;
	struct got g = { 0 };

	srv_start(&s, hello, NULL);
	CHECK_EQ(get(&s, "/x", false, false, &g), -EPROTO);
	CHECK_EQ(srv_count(&s), 0);
	oci_http_resp_free(&g.resp);
	srv_stop(&s);
}

TEST(urls)
{
	static const char *const bad[] = { "",
					   "ftp://127.0.0.1/",
					   "file:///etc/passwd",
					   "http://u:p@127.0.0.1/",
					   "http://127.0.0.1/a\r\nb",
					   "http://127.0.0.1/a b",
					   "http://127.0.0.1:99999/" };
	struct oci_http *h = http();
	char *joined;
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		struct oci_http_req q = { .method = "GET", .url = bad[i], .plain_http = true };
		OCI_RESP struct oci_http_resp resp = { 0 };
		CHECK_EQ(oci_http_do(h, &q, &resp, &err), -EINVAL);
	}
	oci_http_free(h);
	CHECK_EQ(oci_http_join("https://h:1/v2/a/blobs/x?y=1", "/up?z=2", &joined, &err), 0);
	CHECK_STR(joined, "https://h:1/up?z=2");
	free(joined);
	CHECK_EQ(oci_http_join("https://h:1/v2/a/b", "c", &joined, &err), 0);
	CHECK_STR(joined, "https://h:1/v2/a/c");
	free(joined);
	CHECK_EQ(oci_http_join("https://h/", "https://x:y@other/", &joined, &err), -EINVAL);
	CHECK(oci_http_same_origin("https://h/a", "https://H:443/b"));
	CHECK(!oci_http_same_origin("https://h/a", "http://h/a"));
	CHECK(!oci_http_same_origin("https://h/a", "https://h:444/a"));
	CHECK(!oci_http_same_origin("", ""));
}

TEST(headers_cannot_be_injected)
{
	struct srv s;
	struct oci_http *h = http();
	static const char *const heads[] = { "X: a\r\nY: b", NULL };
	struct vl_err err = { 0 };

	srv_start(&s, hello, NULL);
	VL_FREE char *u = url(&s, "/");
	struct oci_http_req q = { .method = "GET", .url = u, .plain_http = true, .heads = heads };
	OCI_RESP struct oci_http_resp a = { 0 }, b = { 0 };
	CHECK_EQ(oci_http_do(h, &q, &a, &err), -EINVAL);
	q.heads = NULL;
	q.authorization = "Bearer a\nHost: b";
	CHECK_EQ(oci_http_do(h, &q, &b, &err), -EINVAL);
	CHECK_EQ(srv_count(&s), 0);
	oci_http_free(h);
	srv_stop(&s);
}

/* ---- redirects ---- */

static void redirects(struct srv *s, int fd, const char *request, unsigned n)
{
	char to[128];
	struct srv *other = s->arg;

	(void)n;
	if (strstr(request, "/end "))
		return srv_reply(fd, "200 OK", "", "end", 3);
	if (strstr(request, "/loop"))
		snprintf(to, sizeof to, "Location: /loop%u\r\n", n);
	else if (strstr(request, "/away"))
		snprintf(to, sizeof to, "Location: http://127.0.0.1:%d/end\r\n", other->port);
	else if (strstr(request, "/back"))
		snprintf(to, sizeof to, "Location: http://127.0.0.1:%d/away\r\n", other->port);
	else if (strstr(request, "/file"))
		snprintf(to, sizeof to, "Location: file:///etc/passwd\r\n");
	else
		snprintf(to, sizeof to, "Location: end\r\n");
	srv_reply(fd, "307 Temporary Redirect", to, "moved", 5);
}

TEST(redirect_inside_keeps_authorization)
{
	struct srv s;
	struct got g = { 0 };

	srv_start(&s, redirects, NULL);
	CHECK_EQ(get(&s, "/start", true, true, &g), 0);
	CHECK_EQ(g.len, 3); /* nothing of the redirect's own text */
	CHECK_HAS(g.resp.url, "/end");
	CHECK_HAS(s.log[1], "Authorization:");
	oci_http_resp_free(&g.resp);
	srv_stop(&s);
}

TEST(redirect_away_drops_authorization)
{
	struct srv s, other;
	struct got g = { 0 }, k = { 0 };

	srv_start(&other, redirects, &s);
	srv_start(&s, redirects, &other);
	CHECK_EQ(get(&s, "/away", true, true, &g), 0);
	CHECK_EQ(srv_count(&other), 1);
	CHECK(!strstr(other.log[0], "Authorization"));
	CHECK(!strstr(other.log[0], "c2VjcmV0"));
	oci_http_resp_free(&g.resp);
	/* there and back again: it stays dropped */
	CHECK_EQ(get(&s, "/back", true, true, &k), 0);
	CHECK_EQ(srv_count(&s), 3);
	CHECK(!strstr(s.log[2], "Authorization"));
	oci_http_resp_free(&k.resp);
	srv_stop(&s);
	srv_stop(&other);
}

TEST(redirects_end)
{
	struct srv s;
	struct got g = { 0 }, k = { 0 };

	srv_start(&s, redirects, NULL);
	CHECK_EQ(get(&s, "/loop", true, true, &g), -EPROTO);
	CHECK_EQ(srv_count(&s), OCI_HTTP_MAX_REDIRECTS + 1);
	oci_http_resp_free(&g.resp);
	CHECK_EQ(get(&s, "/file", true, true, &k), -EINVAL);
	CHECK_EQ(k.len, 0);
	oci_http_resp_free(&k.resp);
	srv_stop(&s);
}

TEST(no_redirect_when_not_wanted)
{
	struct srv s;
	struct oci_http *h = http();
	struct vl_err err = { 0 };

	srv_start(&s, redirects, NULL);
	VL_FREE char *u = url(&s, "/start");
	struct oci_http_req q = { .method = "GET", .url = u, .plain_http = true, .no_redirect = true };
	OCI_RESP struct oci_http_resp resp = { 0 };
	CHECK_EQ(oci_http_do(h, &q, &resp, &err), 0);
	CHECK_EQ(resp.status, 307);
	oci_http_free(h);
	srv_stop(&s);
}

/* ---- broken answers ---- */

static void broken(struct srv *s, int fd, const char *request, unsigned n)
{
	static char line[1100];
	(void)s, (void)n;

	if (strstr(request, "/short"))
		srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
	else if (strstr(request, "/chunk"))
		srv_say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
	else if (strstr(request, "/none"))
		return;
	else if (strstr(request, "/nothttp"))
		srv_say(fd, "220 mail ready\r\n");
	else if (strstr(request, "/heads")) {
		memset(line, 'a', sizeof line - 1);
		srv_say(fd, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 1000; i++)
			srv_say(fd, "X-%d: %s\r\n", i, line);
		srv_say(fd, "\r\n");
	} else if (strstr(request, "/hundred")) {
		for (int i = 0; i < 100000; i++)
			srv_say(fd, "HTTP/1.1 100 Continue\r\n\r\n");
	} else if (strstr(request, "/big") || strstr(request, "/error")) {
		memset(line, ' ', sizeof line - 1);
		srv_say(fd, "HTTP/1.1 %s\r\nConnection: close\r\n\r\n", strstr(request, "/big") ? "200 OK" : "404 Not");
		for (int i = 0; i < 6000; i++)
			srv_write(fd, line, 1024);
	}
}

TEST(broken_answers)
{
	static const struct {
		const char *path;
		int want;
	} cases[] = { { "/short", -ECONNRESET }, { "/chunk", -ECONNRESET },
		      { "/none", -ECONNRESET },  { "/nothttp", -EPROTO },
		      { "/heads", -EPROTO },     { "/hundred", -EPROTO },
		      { "/big", -EFBIG },        { "/error", 0 } };
	struct srv s;

	srv_start(&s, broken, NULL);
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct got g = { 0 };
		int r = get(&s, cases[i].path, true, false, &g);
		if (r != cases[i].want)
			CHECK_FAIL("%s: %d (%s)", cases[i].path, r, g.err.text);
		CHECK(r == 0 || *g.err.text);
		CHECK(g.resp.body.len <= VL_JSON_MAX);
		oci_http_resp_free(&g.resp);
	}
	srv_stop(&s);
}

TEST(nobody_there)
{
	struct srv s;
	struct got g = { 0 }, k = { 0 };
	struct oci_http *h = http();

	srv_start(&s, hello, NULL);
	srv_stop(&s);
	CHECK_EQ(get(&s, "/", true, false, &g), -ECONNREFUSED);
	CHECK_HAS(g.err.text, "127.0.0.1");
	oci_http_resp_free(&g.resp);
	struct oci_http_req q = { .method = "GET", .url = "https://no-such-host.invalid/" };
	CHECK_EQ(oci_http_do(h, &q, &k.resp, &k.err), -EHOSTUNREACH);
	CHECK_HAS(k.err.text, "no-such-host.invalid");
	oci_http_resp_free(&k.resp);
	oci_http_free(h);
}

static void no_tunnel(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)s, (void)request, (void)n;
	srv_reply(fd, "403 Forbidden", "", "", 0);
}

/* It is the proxy that refuses, not the registry; and its password is nobody's business. */
TEST(proxies_that_refuse)
{
	static const char *const urls[] = { "http://reg.example/v2/", "https://reg.example/v2/" };
	struct srv s;
	struct oci_http *h = http();

	srv_start(&s, no_tunnel, NULL);
	unsetenv("no_proxy");
	VL_FREE char *proxy = vl_asprintf("http://me:hun%%40ter2@127.0.0.1:%d/", s.port);
	VL_FREE char *shown = vl_asprintf("the proxy 127.0.0.1:%d (of $", s.port);
	setenv("http_proxy", proxy, 1);
	setenv("HTTPS_PROXY", proxy, 1);
	for (int i = 1; i >= -2; i--) { /* a tunnel that is refused; then nobody is there */
		struct vl_err err = { 0 };
		OCI_RESP struct oci_http_resp resp = { 0 };
		struct oci_http_req q = { .method = "GET", .url = urls[i & 1], .plain_http = true };
		if (i == 0)
			srv_stop(&s);
		CHECK_EQ(oci_http_do(h, &q, &resp, &err), -EHOSTUNREACH);
		CHECK_HAS(err.text, shown);
		CHECK_HAS(err.text, i & 1 ? "$HTTPS_PROXY" : "$http_proxy");
		CHECK_HAS(err.text, "reg.example");
		CHECK(!strstr(err.text, "ter2") && !strstr(err.text, "me:"));
	}
	setenv("http_proxy", "http://me:hun@ter2@127.0.0.1:1/", 1); /* libcurl wants %40 there, and quotes it */
	struct vl_err err = { 0 };
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct oci_http_req q = { .method = "GET", .url = urls[0], .plain_http = true };
	CHECK_EQ(oci_http_do(h, &q, &resp, &err), -EHOSTUNREACH);
	CHECK_HAS(err.text, "proxy 127.0.0.1:1 (of $http_proxy)");
	CHECK(!strstr(err.text, "ter2"));
	unsetenv("http_proxy");
	unsetenv("HTTPS_PROXY");
	oci_http_free(h);
}

/* One byte now and then is not an answer that comes. */
static void drip(struct srv *s, int fd, const char *request, unsigned n)
{
	struct pollfd p = { fd, 0, 0 };

	(void)s, (void)request, (void)n;
	srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
	while (poll(&p, 1, 100) == 0)
		srv_write(fd, "x", 1);
}

TEST(documents_have_a_limit_in_time)
{
	struct srv s;
	struct oci_http *h = http();
	struct vl_err err = { 0 };
	OCI_RESP struct oci_http_resp resp = { 0 };

	srv_start(&s, drip, NULL);
	VL_FREE char *u = url(&s, "/");
	struct oci_http_req q = { .method = "GET", .url = u, .plain_http = true, .max_seconds = 1 };
	CHECK_EQ(oci_http_do(h, &q, &resp, &err), -ETIMEDOUT);
	oci_http_free(h);
	srv_stop(&s);
}

TEST(tls_to_a_plain_server)
{
	struct srv s;
	struct oci_http *h = http();
	struct vl_err err = { 0 };
	OCI_RESP struct oci_http_resp resp = { 0 };

	srv_start(&s, hello, NULL);
	VL_FREE char *u = vl_asprintf("https://127.0.0.1:%d/", s.port);
	struct oci_http_req q = { .method = "GET", .url = u };
	CHECK_EQ(oci_http_do(h, &q, &resp, &err), -EKEYREJECTED);
	CHECK_HAS(err.text, "does not speak TLS");
	oci_http_free(h);
	srv_stop(&s);
}

/* ---- uploads ---- */

static void upload(struct srv *s, int fd, const char *request, unsigned n)
{
	char body[16];
	const char *len = strstr(request, "Content-Length: ");
	size_t want = len ? strtoul(len + 16, NULL, 10) : 0, have = 0;

	(void)s;
	CHECK(want < sizeof body);
	CHECK(!strstr(request, "Expect"));
	while (have < want) {
		ssize_t r = recv(fd, body + have, want - have, 0);
		CHECK(r > 0);
		have += (size_t)r;
	}
	if (n == 0)
		return srv_reply(fd, "307 Again", "Location: /again\r\n", "", 0);
	srv_reply(fd, "201 Created", "", body, want);
}

TEST(uploads)
{
	struct srv s;
	struct oci_http *h = http();
	struct vl_err err = { 0 };
	OCI_RESP struct oci_http_resp a = { 0 }, b = { 0 };

	srv_start(&s, upload, NULL);
	VL_FREE char *u = url(&s, "/up");
	VL_CLOSE int fd = vl_open("file", O_RDWR | O_CREAT, 0600, &err);
	CHECK_EQ(vl_pwrite_full(fd, "0123456789", 10, 0, "file", &err), 0);
	struct oci_http_req q = {
		.method = "PUT", .url = u, .plain_http = true, .body_fd = fd, .body_off = 2, .body_len = 5
	};
	CHECK_EQ(oci_http_do(h, &q, &a, &err), 0); /* the body goes again with the redirect */
	CHECK_EQ(a.status, 201);
	CHECK_STR(a.body.data, "23456");
	q.method = "POST";
	q.body_len = 0;
	CHECK_EQ(oci_http_do(h, &q, &b, &err), 0);
	CHECK_EQ(b.status, 201);
	CHECK_HAS(s.log[2], "POST /up ");
	CHECK_HAS(s.log[2], "Content-Length: 0\r\n");
	oci_http_free(h);
	srv_stop(&s);
}

static bool yes(void *arg)
{
	(void)arg;
	return true;
}

TEST(cancel)
{
	struct srv s;
	struct oci_http *h = http();
	struct vl_err err = { 0 };
	OCI_RESP struct oci_http_resp resp = { 0 };

	srv_start(&s, hello, NULL);
	VL_FREE char *u = url(&s, "/");
	struct oci_http_req q = { .method = "GET", .url = u, .plain_http = true, .cancelled = yes };
	CHECK_EQ(oci_http_do(h, &q, &resp, &err), -ECANCELED);
	oci_http_free(h);
	srv_stop(&s);
}

/* ---- files of URLs ---- */

static struct oci_client *client(void)
{
	struct oci_net net = { .config_dir = "." };
	struct oci_client *c;
	struct vl_err err = { 0 };

	setenv("HOME", ".", 1);
	CHECK_EQ(oci_client_new(&net, NULL, &c, &err), 0);
	c->first_wait_ms = 0;
	return c;
}

static void file_server(struct srv *s, int fd, const char *request, unsigned n)
{
	const char *how = s->arg;

	if (strstr(request, "HEAD") && strchr(how, 'n'))
		return srv_reply(fd, "405 No", "", "", 0);
	if (strstr(request, "HEAD"))
		return srv_say(fd,
			       "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\nConnection: close\r\n\r\n");
	if (strstr(request, "bytes=0-0"))
		return srv_reply(fd, "206 P", "ETag: \"v1\"\r\nContent-Range: bytes 0-0/10\r\n", "0", 1);
	if (n == 0)
		return srv_say(fd, "HTTP/1.1 200 OK\r\n%sContent-Length: 10\r\n\r\n0123",
			       strchr(how, 'w') ? "ETag: W/\"v1\"\r\n" : "ETag: \"v1\"\r\n");
	if (strstr(request, "Range: bytes=4-") && strstr(request, "If-Range: \"v1\"") && !strchr(how, 'c'))
		return srv_reply(fd, "206 P", "Content-Range: bytes 4-9/10\r\n", "456789", 6);
	if (strchr(how, 'w'))
		CHECK(!strstr(request, "Range"));
	srv_reply(fd, "200 OK", "ETag: \"v2\"\r\n", "abc", 3);
}

static const struct oci_file_info any_file = { .size = UINT64_MAX };

static void fetch(const char *how, const char *want, unsigned requests)
{
	struct srv s;
	struct oci_client *c = client();
	struct vl_err err = { 0 };
	uint64_t size = 0;
	char text[16] = "";

	srv_start(&s, file_server, (void *)how);
	VL_FREE char *u = url(&s, "/x.sif?sig=secret");
	VL_CLOSE int fd = vl_open("out", O_RDWR | O_CREAT | O_TRUNC, 0600, &err);
	CHECK_EQ(oci_http_fetch(c, u, &any_file, fd, NULL, &size, &err), 0);
	CHECK_EQ(size, strlen(want));
	CHECK_EQ(pread(fd, text, sizeof text - 1, 0), (ssize_t)size);
	CHECK_STR(text, want);
	CHECK_EQ(srv_count(&s), requests);
	oci_client_free(c);
	srv_stop(&s);
}

TEST(file_resumed)
{
	fetch("", "0123456789", 2);
}

TEST(file_changed_meanwhile)
{
	fetch("c", "abc", 2);
}

TEST(file_without_strong_etag_starts_again)
{
	fetch("w", "abc", 2);
}

TEST(file_stat)
{
	for (int i = 0; i < 2; i++) {
		struct srv s;
		struct oci_client *c = client();
		struct oci_file_info info;
		struct vl_err err = { 0 };

		srv_start(&s, file_server, (void *)(i ? "n" : ""));
		VL_FREE char *u = url(&s, "/x.sif");
		CHECK_EQ(oci_http_stat(c, u, &info, &err), 0);
		CHECK_EQ(info.size, 10);
		CHECK_STR(info.validator, "\"v1\"");
		free(info.validator);
		oci_client_free(c);
		srv_stop(&s);
	}
}

static void absent(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)s, (void)request, (void)n;
	srv_reply(fd, "404 Not Found", "", "", 0);
}

TEST(file_absent)
{
	struct srv s;
	struct oci_client *c = client();
	struct oci_file_info info;
	struct vl_err err = { 0 };
	uint64_t size;

	srv_start(&s, absent, NULL);
	VL_FREE char *u = url(&s, "/x.sif?sig=secret");
	CHECK_EQ(oci_http_stat(c, u, &info, &err), -ENOENT);
	CHECK(!strstr(err.text, "secret"));
	CHECK_EQ(oci_http_fetch(c, u, &any_file, -1, NULL, &size, &err), -ENOENT);
	CHECK(!strstr(err.text, "secret"));
	oci_client_free(c);
	srv_stop(&s);
}

/* The second answer is a part of another file: the server does not heed If-Range. 'e': its ETag tells; 't': its length
 * does. */
static void mixing_server(struct srv *s, int fd, const char *request, unsigned n)
{
	const char *how = s->arg;

	if (n == 0)
		return srv_say(fd, "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123");
	if (strstr(request, "Range: bytes=4-"))
		return *how == 'e'
			       ? srv_reply(fd, "206 P", "ETag: \"v2\"\r\nContent-Range: bytes 4-9/10\r\n", "efghij", 6)
			       : srv_reply(fd, "206 P", "Content-Range: bytes 4-9/11\r\n", "efghij", 6);
	srv_reply(fd, "200 OK", "ETag: \"v2\"\r\n", "abcdefghij", 10);
}

TEST(parts_of_two_files_are_not_joined)
{
	static const char *const hows[] = { "e", "t" };

	for (size_t i = 0; i < VL_COUNT(hows); i++) {
		struct srv s;
		struct oci_client *c = client();
		struct vl_err err = { 0 };
		uint64_t size = 0;
		char text[16] = "";

		srv_start(&s, mixing_server, (void *)hows[i]);
		VL_FREE char *u = url(&s, "/x.sif");
		VL_CLOSE int fd = vl_open("out", O_RDWR | O_CREAT | O_TRUNC, 0600, &err);
		CHECK_EQ(oci_http_fetch(c, u, &any_file, fd, NULL, &size, &err), 0);
		CHECK_EQ(pread(fd, text, sizeof text - 1, 0), 10);
		CHECK_STR(text, "abcdefghij");
		CHECK_EQ(srv_count(&s), 3);
		oci_client_free(c);
		srv_stop(&s);
	}
}

static void changing_server(struct srv *s, int fd, const char *request, unsigned n)
{
	VL_FREE char *etag = vl_asprintf("ETag: \"v%u\"\r\n", n < *(unsigned *)s->arg ? 2u : 1u);

	(void)request;
	srv_reply(fd, "200 OK", etag, "abc", 3);
}

/* The bytes are of the file whose validator named them; one server of several may be late, but not all of them. */
TEST(file_is_the_one_that_was_looked_at)
{
	static const struct {
		unsigned late;
		int want;
		unsigned requests;
	} cases[] = { { 0, 0, 1 }, { 2, 0, 3 }, { 99, -ESTALE, 6 } };

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct srv s;
		struct oci_client *c = client();
		struct oci_file_info want = { .size = 3, .validator = (char *)"\"v1\"" };
		struct vl_err err = { 0 };
		uint64_t size = 0;

		srv_start(&s, changing_server, (void *)&cases[i].late);
		VL_FREE char *u = url(&s, "/x.sif");
		VL_CLOSE int fd = vl_open("out", O_RDWR | O_CREAT | O_TRUNC, 0600, &err);
		CHECK_EQ(oci_http_fetch(c, u, &want, fd, NULL, &size, &err), cases[i].want);
		CHECK_EQ(srv_count(&s), cases[i].requests);
		oci_client_free(c);
		srv_stop(&s);
	}
}

static void dated_server(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)request, (void)n;
	srv_reply(fd, "200 OK", s->arg, "", 0);
}

TEST(a_file_of_this_moment_has_no_validator)
{
#define CHANGED "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
	static const struct {
		const char *heads, *validator;
	} cases[] = {
		{ CHANGED "Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n", NULL },
		{ CHANGED "Date: Sun, 06 Nov 1994 08:49:39 GMT\r\n", "Sun, 06 Nov 1994 08:49:37 GMT" },
		{ CHANGED "Date: Sun, 06 Nov 1994 08:49:30 GMT\r\n", NULL },
		{ CHANGED, NULL },
		{ "Last-Modified: soon\r\nDate: Sun, 06 Nov 1994 08:49:39 GMT\r\n", NULL },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct srv s;
		struct oci_client *c = client();
		struct oci_file_info info;
		struct vl_err err = { 0 };

		srv_start(&s, dated_server, (void *)cases[i].heads);
		VL_FREE char *u = url(&s, "/x.sif");
		CHECK_EQ(oci_http_stat(c, u, &info, &err), 0);
		CHECK_STR(info.validator, cases[i].validator);
		free(info.validator);
		oci_client_free(c);
		srv_stop(&s);
	}
}

/* No validator: every break is a start from 0, and what comes again is not progress. */
static void breaking_server(struct srv *s, int fd, const char *request, unsigned n)
{
	static char big[2 << 20];

	(void)s, (void)request;
	CHECK(n < 100);
	srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n");
	srv_write(fd, big, sizeof big);
}

TEST(file_that_always_breaks_at_one_place_ends)
{
	struct srv s;
	struct oci_client *c = client();
	struct vl_err err = { 0 };
	uint64_t size = 0;

	srv_start(&s, breaking_server, NULL);
	VL_FREE char *u = url(&s, "/x.sif");
	VL_CLOSE int fd = vl_open("out", O_RDWR | O_CREAT | O_TRUNC, 0600, &err);
	CHECK_EQ(oci_http_fetch(c, u, &any_file, fd, NULL, &size, &err), -ECONNRESET);
	CHECK(srv_count(&s) <= 7);
	oci_client_free(c);
	srv_stop(&s);
}

TEST(attempts_end)
{
	struct oci_client *c = client();
	struct oci_http_req q = { .method = "GET" };
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct vl_err err = { 0 };
	uint64_t useful = 0;
	struct oci_tries t = { .useful = &useful }, none = { 0 };
	int n = 0;

	for (; oci_client_again(c, &q, "h", -ECONNRESET, &resp, 5, &t, &err) == 1; n++)
		useful += 1 << 20;
	CHECK(n > 5 && n <= 1000);
	for (n = 0; oci_client_again(c, &q, "h", -ECONNRESET, &resp, 5, &none, &err) == 1;)
		n++;
	CHECK_EQ(n, 5);
	oci_client_free(c);
	struct oci_net net = { .config_dir = ".", .retries = OCI_NO_RETRIES };
	CHECK_EQ(oci_client_new(&net, NULL, &c, &err), 0);
	CHECK_EQ(c->net.retries, 0);
	oci_client_free(c);
}
