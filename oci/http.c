/* One request and its answer: the only user of libcurl.
 *
 * An easy handle serves one request at a time and keeps its connections; a small pool of them gives reuse without
 * shared connection caches, which libcurl 7.88 cannot lock well. Redirects are followed here and not by libcurl,
 * because what may go along to another server is a decision. */
#include "client.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <strings.h>

#define POOL 8                     /* idle handles kept; downloads are 4 at a time */
#define MAX_URL 16384              /* storage services sign long ones; servers stop at 8 KiB */
#define MAX_ERROR_BODY (64u << 10) /* of answers that only explain themselves; the rest is not read */
#define BUFFER_SIZE (256L << 10)   /* of one read: fewer wake-ups than with 16 KiB */
#define MAX_CA_BUNDLE (8u << 20)   /* of one; that of a distribution has 0.2 MiB */
#define LOW_SPEED_BYTES 1L         /* with OCI_HTTP_IDLE_SECONDS: nothing at all came */

struct oci_http {
	pthread_mutex_t lock;
	CURL *idle[POOL];
	size_t n_idle;
	char *agent;
};

int oci_http_new(const char *agent, struct oci_http **ret, struct vl_err *err)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return vl_fail(err, EIO, "libcurl does not start");
	struct oci_http *h = vl_alloc(sizeof *h);
	pthread_mutex_init(&h->lock, NULL);
	h->agent = vl_strdup(agent ? agent : "vial");
	*ret = h;
	return 0;
}

void oci_http_free(struct oci_http *h)
{
	if (!h)
		return;
	while (h->n_idle)
		curl_easy_cleanup(h->idle[--h->n_idle]);
	pthread_mutex_destroy(&h->lock);
	free(h->agent);
	free(h);
	curl_global_cleanup();
}

static CURL *take_handle(struct oci_http *h)
{
	CURL *c = NULL;

	pthread_mutex_lock(&h->lock);
	if (h->n_idle)
		c = h->idle[--h->n_idle];
	pthread_mutex_unlock(&h->lock);
	return c ? c : curl_easy_init();
}

static void give_handle(struct oci_http *h, CURL *c)
{
	curl_easy_reset(c); /* options go, connections stay */
	pthread_mutex_lock(&h->lock);
	if (h->n_idle < POOL) {
		h->idle[h->n_idle++] = c;
		c = NULL;
	}
	pthread_mutex_unlock(&h->lock);
	curl_easy_cleanup(c);
}

static void clear_answer(struct oci_http_resp *r)
{
	vl_strv_free(&r->heads);
	vl_buf_free(&r->body);
	r->heads = (struct vl_strv){ 0 };
	r->body = (struct vl_buf){ 0 };
	r->status = 0;
	r->retry_after = 0;
}

void oci_http_resp_free(struct oci_http_resp *r)
{
	clear_answer(r);
	vl_freep(&r->url);
	r->received = 0;
}

const char *oci_http_head(const struct oci_http_resp *r, const char *name, unsigned n)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < r->heads.n; i++) {
		const char *l = r->heads.v[i];
		if (strncasecmp(l, name, len) != 0 || l[len] != ':' || n--)
			continue;
		l += len + 1;
		return l + strspn(l, " \t");
	}
	return NULL;
}

int oci_http_date(const char *text, int64_t *ret)
{
	time_t t = curl_getdate(text, NULL);

	if (t == -1)
		return -EINVAL;
	*ret = t;
	return 0;
}

/* ---- URLs ---- */

/* What goes into a request line or a header: no control byte can start another one. */
static bool is_one_line(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 127)
			return false;
	return true;
}

/* Without the query: storage services put their signatures there. */
static char *url_shown(const char *url)
{
	return vl_printable(url, VL_MIN(strcspn(url, "?#"), (size_t)200));
}

static int parse_url(const char *url, const char *rel, CURLU **ret, struct vl_err *err)
{
	const char *bad = rel ? rel : url;
	VL_FREE char *shown = url_shown(bad);

	if (!*bad || strlen(bad) > MAX_URL || !is_one_line(bad) || strchr(bad, ' '))
		return vl_fail(err, EINVAL, "'%s' is not a usable URL", shown);
	CURLU *u = curl_url();
	if (!u)
		abort();
	CURLUcode rc = curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER);
	if (rc == CURLUE_OK && rel)
		rc = curl_url_set(u, CURLUPART_URL, rel, CURLU_DISALLOW_USER);
	if (rc != CURLUE_OK) {
		curl_url_cleanup(u);
		return vl_fail(err, EINVAL, "'%s' is not a usable URL: %s", shown, curl_url_strerror(rc));
	}
	*ret = u;
	return 0;
}

static char *url_part(CURLU *u, CURLUPart part, unsigned flags)
{
	char *s = NULL;
	char *mine;

	if (curl_url_get(u, part, &s, flags) != CURLUE_OK)
		return vl_strdup("");
	mine = vl_strdup(s);
	curl_free(s);
	return mine;
}

static void freep_url(CURLU **u)
{
	curl_url_cleanup(*u);
}

int oci_http_join(const char *base, const char *rel, char **ret, struct vl_err *err)
{
	VL_CLEANUP(freep_url) CURLU *u = NULL;
	int r = parse_url(base, rel, &u, err);

	if (r < 0)
		return r;
	*ret = url_part(u, CURLUPART_URL, 0);
	return 0;
}

/* "https://host:443" */
static char *origin(const char *url)
{
	VL_CLEANUP(freep_url) CURLU *u = NULL;
	struct vl_err ignored;

	if (parse_url(url, NULL, &u, &ignored) < 0)
		return vl_strdup("");
	VL_FREE char *scheme = url_part(u, CURLUPART_SCHEME, 0), *host = url_part(u, CURLUPART_HOST, 0),
		     *port = url_part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	return vl_asprintf("%s://%s:%s", scheme, host, port);
}

bool oci_http_same_origin(const char *a, const char *b)
{
	VL_FREE char *oa = origin(a), *ob = origin(b);
	return *oa && strcasecmp(oa, ob) == 0;
}

bool oci_http_same_host(const char *a, const char *b)
{
	VL_CLEANUP(freep_url) CURLU *ua = NULL, *ub = NULL;
	struct vl_err ignored;

	if (parse_url(a, NULL, &ua, &ignored) < 0 || parse_url(b, NULL, &ub, &ignored) < 0)
		return false;
	VL_FREE char *ha = url_part(ua, CURLUPART_HOST, 0), *hb = url_part(ub, CURLUPART_HOST, 0);
	return *ha && strcasecmp(ha, hb) == 0;
}

static int check_scheme(const char *url, bool plain_http, bool redirected, struct vl_err *err)
{
	VL_FREE char *shown = url_shown(url);

	if (strncasecmp(url, "https://", 8) == 0)
		return 0;
	if (strncasecmp(url, "http://", 7) != 0)
		return vl_fail(err, EINVAL, "'%s' is neither http nor https", shown);
	if (plain_http)
		return 0;
	return vl_fail(err, EPROTO,
		       redirected ? "the server leads from https to plain http (%s), which is refused"
				  : "%s is plain http, which was not allowed for this server",
		       shown);
}

/* ---- one exchange ---- */

struct exchange {
	const struct oci_http_req *q;
	struct oci_http_resp *r;
	const char *method;
	struct vl_err *err;
	int failed;       /* what a callback returned */
	size_t head_size; /* of all answers of this exchange, 1xx too */
	bool headed;      /* the final head was complete */
	bool to_sink;
	bool enough;   /* the rest of an error's text is not wanted */
	uint64_t sent; /* of the body */
	char text[CURL_ERROR_SIZE];
};

static bool is_redirect(const struct oci_http_req *q, const struct oci_http_resp *r)
{
	int s = r->status;
	return !q->no_redirect && (s == 301 || s == 302 || s == 303 || s == 307 || s == 308);
}

/* The head is whole: who takes the body? */
static int head_done(struct exchange *x)
{
	struct oci_http_resp *r = x->r;

	if (r->status < 200 || x->headed)
		return 0; /* 1xx, or trailers */
	x->headed = true;
	if (!x->q->sink || (r->status != 200 && r->status != 206))
		return 0;
	x->to_sink = true;
	return x->q->head ? x->q->head(x->q->arg, r, x->err) : 0;
}

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
	struct exchange *x = arg;
	size_t len = n;

	(void)one;
	x->head_size += n;
	if (x->head_size > OCI_HTTP_MAX_HEADERS) {
		x->failed = vl_fail(x->err, EPROTO, "the server's headers are larger than the limit of %u bytes",
				    OCI_HTTP_MAX_HEADERS);
		return 0;
	}
	while (len && (p[len - 1] == '\r' || p[len - 1] == '\n'))
		len--;
	if (x->headed)
		return n; /* trailers */
	if (!len) {
		x->failed = head_done(x);
		return x->failed ? 0 : n;
	}
	if (len > 5 && memcmp(p, "HTTP/", 5) == 0) {
		VL_FREE char *line = vl_strndup(p, len);
		const char *s = strchr(line, ' ');
		clear_answer(x->r);
		x->r->status = s ? atoi(s) : 0;
	} else if (!memchr(p, 0, len)) {
		vl_strv_take(&x->r->heads, vl_strndup(p, len));
	}
	return n;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
	struct exchange *x = arg;

	(void)one;
	if (x->to_sink) {
		x->failed = x->q->sink(x->q->arg, p, n, x->err);
		x->r->received += x->failed ? 0 : n;
		return x->failed ? 0 : n;
	}
	if (x->r->status >= 300) {
		vl_buf_add(&x->r->body, p, VL_MIN(n, MAX_ERROR_BODY - x->r->body.len));
		x->enough = x->r->body.len == MAX_ERROR_BODY;
		return x->enough ? 0 : n;
	}
	if (n > VL_JSON_MAX - x->r->body.len) {
		x->failed = vl_fail(x->err, EFBIG, "the answer is larger than the limit of %u bytes for a document",
				    VL_JSON_MAX);
		return 0;
	}
	vl_buf_add(&x->r->body, p, n);
	return n;
}

static size_t on_read(char *p, size_t one, size_t n, void *arg)
{
	struct exchange *x = arg;
	const struct oci_http_req *q = x->q;

	n = VL_MIN(n * one, q->body_len - x->sent);
	if (q->body) {
		memcpy(p, (const char *)q->body + x->sent, n);
	} else if (n) {
		x->failed = vl_pread_full(q->body_fd, p, n, q->body_off + x->sent, "the file to send", x->err);
		if (x->failed < 0)
			return CURL_READFUNC_ABORT;
	}
	x->sent += n;
	if (q->sent)
		q->sent(q->arg, x->sent);
	return n;
}

static int on_seek(void *arg, curl_off_t to, int whence)
{
	struct exchange *x = arg;

	if (whence != SEEK_SET || to < 0 || (uint64_t)to > x->q->body_len)
		return CURL_SEEKFUNC_FAIL;
	x->sent = (uint64_t)to;
	return CURL_SEEKFUNC_OK;
}

/* About once a second, also while nothing comes. */
static int on_tick(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct exchange *x = arg;

	(void)a, (void)b, (void)c, (void)d;
	if (!x->q->cancelled || !x->q->cancelled(x->q->arg))
		return 0;
	x->failed = vl_fail(x->err, ECANCELED, "stopped");
	return 1;
}

#define SET(option, value) curl_easy_setopt(c, option, value)

static void set_limits(CURL *c, const char *url, struct exchange *x)
{
	SET(CURLOPT_URL, url);
	SET(CURLOPT_PROTOCOLS_STR, "http,https");
	SET(CURLOPT_FOLLOWLOCATION, 0L);
	SET(CURLOPT_NOSIGNAL, 1L);
	SET(CURLOPT_CONNECTTIMEOUT, (long)OCI_HTTP_CONNECT_SECONDS);
	SET(CURLOPT_LOW_SPEED_LIMIT, LOW_SPEED_BYTES);
	SET(CURLOPT_LOW_SPEED_TIME, (long)OCI_HTTP_IDLE_SECONDS);
	SET(CURLOPT_BUFFERSIZE, BUFFER_SIZE);
	SET(CURLOPT_TCP_KEEPALIVE, 1L);
	SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	SET(CURLOPT_ERRORBUFFER, x->text);
	SET(CURLOPT_HEADERFUNCTION, on_header);
	SET(CURLOPT_HEADERDATA, x);
	SET(CURLOPT_WRITEFUNCTION, on_body);
	SET(CURLOPT_WRITEDATA, x);
	SET(CURLOPT_NOPROGRESS, 0L);
	SET(CURLOPT_XFERINFOFUNCTION, on_tick);
	SET(CURLOPT_XFERINFODATA, x);
}

/* All that is trusted, as one text. */
static int add_bundle(const char *file, struct vl_buf *b, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t n;
	int r = vl_read_file(AT_FDCWD, file, MAX_CA_BUNDLE, &text, &n, err);

	if (r < 0)
		return vl_wrap(err, "certificates of authorities");
	vl_buf_add(b, text, n);
	vl_buf_adds(b, "\n");
	return 0;
}

static int set_ca(CURL *c, const struct oci_tls *tls, bool same_origin, struct vl_err *err)
{
	VL_BUF struct vl_buf all = { 0 };
	const char *usual = curl_version_info(CURLVERSION_NOW)->cainfo;
	int r = 0;

	for (size_t i = 0; r == 0 && i < tls->ca_files->n; i++)
		r = add_bundle(tls->ca_files->v[i], &all, err);
	if (r < 0)
		return r;
	/* storage or a token server that a registry leads to may have a certificate of the usual authorities */
	if (same_origin && !tls->add_ca)
		SET(CURLOPT_CAPATH, NULL);
	else if (usual && access(usual, R_OK) == 0 && (r = add_bundle(usual, &all, err)) < 0)
		return r;
	struct curl_blob blob = { all.data, all.len, CURL_BLOB_COPY };
	if (SET(CURLOPT_CAINFO_BLOB, &blob) != CURLE_OK)
		return vl_fail(err, ENOTSUP, "this libcurl cannot use own certificates of authorities");
	return 0;
}

static int set_tls(CURL *c, const struct oci_tls *tls, bool same_origin, struct vl_err *err)
{
	SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
	if (!tls)
		return 0;
	int r = tls->ca_files && tls->ca_files->n ? set_ca(c, tls, same_origin, err) : 0;
	if (r < 0)
		return r;
	if (tls->skip_verify) {
		SET(CURLOPT_SSL_VERIFYPEER, 0L);
		SET(CURLOPT_SSL_VERIFYHOST, 0L);
	}
	if (same_origin && tls->cert) {
		SET(CURLOPT_SSLCERT, tls->cert);
		SET(CURLOPT_SSLKEY, tls->key ? tls->key : tls->cert);
	}
	return 0;
}

static void set_method(CURL *c, struct exchange *x)
{
	const char *m = x->method;

	if (vl_streq(m, "HEAD")) {
		SET(CURLOPT_NOBODY, 1L);
	} else if (vl_streq(m, "GET")) {
		SET(CURLOPT_HTTPGET, 1L);
	} else {
		SET(CURLOPT_UPLOAD, 1L);
		SET(CURLOPT_CUSTOMREQUEST, m);
		SET(CURLOPT_READFUNCTION, on_read);
		SET(CURLOPT_READDATA, x);
		SET(CURLOPT_SEEKFUNCTION, on_seek);
		SET(CURLOPT_SEEKDATA, x);
		SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)x->q->body_len);
		SET(CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_SIZE);
	}
}

static void add_line(struct curl_slist **l, const char *text)
{
	struct curl_slist *n = curl_slist_append(*l, text);
	if (!n)
		abort();
	*l = n;
}

static int set_heads(CURL *c, const struct oci_http *h, const struct oci_http_req *q, bool same_origin,
		     struct curl_slist **ret, struct vl_err *err)
{
	add_line(ret, "Expect:"); /* no waiting for 100-continue: many servers never send it */
	for (const char *const *l = q->heads; l && *l; l++) {
		if (!is_one_line(*l))
			return vl_fail(err, EINVAL, "a request header holds a control character");
		add_line(ret, *l);
	}
	if (q->authorization && same_origin) {
		if (!is_one_line(q->authorization))
			return vl_fail(err, EINVAL, "the credentials hold a control character");
		VL_FREE char *line = vl_asprintf("Authorization: %s", q->authorization);
		add_line(ret, line);
		explicit_bzero(line, strlen(line));
	}
	SET(CURLOPT_HTTPHEADER, *ret);
	SET(CURLOPT_USERAGENT, h->agent);
	return 0;
}

static void free_heads(struct curl_slist **l)
{
	for (struct curl_slist *i = *l; i; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(*l);
}

/* ---- why it failed, in words ---- */

static int tls_error(const char *host, CURLcode rc, const char *text, struct vl_err *err)
{
	const char *why = NULL;

	if (strstr(text, "wrong version number") || strstr(text, "http request") ||
	    strstr(text, "packet length too long") || strstr(text, "record layer failure"))
		why = "the server does not speak TLS; it seems to be a plain HTTP server";
	else if (strstr(text, "SSL_ERROR_SYSCALL") || strstr(text, "reset by peer"))
		return vl_fail(err, ECONNRESET, "%s broke the connection while TLS was set up", host);
	else if (strstr(text, "expired"))
		why = "its certificate has expired";
	else if (strstr(text, "not yet valid"))
		why = "its certificate is not yet valid; is this machine's clock right?";
	else if (strstr(text, "no alternative certificate subject name") || strstr(text, "does not match target host"))
		why = "its certificate is for another name";
	else if (strstr(text, "self-signed") || strstr(text, "self signed") || strstr(text, "unable to get") ||
		 strstr(text, "unable to verify"))
		why = "its certificate is not signed by an authority that is trusted here (unknown CA)";
	else if (rc == CURLE_SSL_CACERT_BADFILE)
		why = "the file of trusted certificates cannot be used";
	else if (rc == CURLE_SSL_CERTPROBLEM)
		why = "the client certificate or its key cannot be used";
	if (why)
		return vl_fail(err, EKEYREJECTED, "no secure connection to %s: %s (%s)", host, why, text);
	return vl_fail(err, EKEYREJECTED, "no secure connection to %s: %s", host, text);
}

/* 0: no proxy is to blame. */
static int proxy_error(CURLcode rc, const char *url, const char *host, const char *text, struct vl_err *err)
{
	bool no_name = rc == CURLE_COULDNT_RESOLVE_PROXY; /* its text may hold a password */
	bool no_way = strstr(text, "CONNECT tunnel failed") || strstr(text, "from proxy after CONNECT");
	VL_FREE char *proxy = NULL;

	if (!no_way && !no_name && rc != CURLE_COULDNT_CONNECT)
		return 0;
	proxy = oci_proxy_of(url, no_way || no_name ? NULL : text);
	if (no_name)
		return vl_fail(err, EHOSTUNREACH, "the host name of the proxy %s was not found, or is none",
			       proxy ? proxy : "of the environment");
	if (!proxy)
		return 0;
	if (no_way)
		return vl_fail(err, EHOSTUNREACH, "the proxy %s does not lead to %s: %s%s", proxy, host, text,
			       strstr(text, "407") ? "; it wants a user name and password" : "");
	return vl_fail(err, EHOSTUNREACH,
		       "the proxy %s cannot be reached on the way to %s; is it the right one, or does no_proxy have to "
		       "name %s?",
		       proxy, host, host);
}

static int connect_error(CURL *c, const char *host, const char *text, struct vl_err *err)
{
	long os = 0;

	curl_easy_getinfo(c, CURLINFO_OS_ERRNO, &os);
	if (os == ECONNREFUSED || strstr(text, "Connection refused"))
		return vl_fail(err, ECONNREFUSED, "%s refuses connections: no server listens there, or a firewall",
			       host);
	if (os == ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "%s does not answer", host);
	return vl_fail(err, EHOSTUNREACH, "%s cannot be reached: %s", host, text);
}

static int explain(CURL *c, CURLcode rc, const char *url, const char *curl_text, struct vl_err *err)
{
	VL_FREE char *o = origin(url), *text = NULL;
	const char *name = strstr(o, "//") ? strstr(o, "//") + 2 : o;
	VL_FREE char *host = vl_printable(name, strnlen(name, 200));

	if (!*curl_text)
		curl_text = curl_easy_strerror(rc);
	text = vl_printable(curl_text, strcspn(curl_text, "\n"));
	int r = proxy_error(rc, url, host, text, err);
	if (r < 0)
		return r;
	switch (rc) {
	case CURLE_COULDNT_RESOLVE_HOST:
		host[strcspn(host, ":")] = 0;
		return vl_fail(err, EHOSTUNREACH, "the host name %s was not found", host);
	case CURLE_COULDNT_CONNECT:
		return connect_error(c, host, text, err);
	case CURLE_OPERATION_TIMEDOUT:
		return vl_fail(err, ETIMEDOUT, "%s does not answer: %s", host, text);
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
	case CURLE_SSL_INVALIDCERTSTATUS:
	case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
		return tls_error(host, rc, text, err);
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_SEND_ERROR:
	case CURLE_RECV_ERROR:
	case CURLE_HTTP2:
	case CURLE_HTTP2_STREAM:
		if (strstr(text, "header"))
			break;
		return vl_fail(err, ECONNRESET, "%s broke the connection: %s", host, text);
	default:
		break;
	}
	return vl_fail(err, EPROTO, "%s does not answer as an HTTP server should: %s", host, text);
}

/* ---- the request ---- */

static int exchange(struct oci_http *h, CURL *c, struct exchange *x, const char *url, bool same_origin)
{
	VL_CLEANUP(free_heads) struct curl_slist *heads = NULL;
	curl_off_t wait = 0;
	int r;

	clear_answer(x->r);
	curl_easy_reset(c);
	set_limits(c, url, x);
	set_method(c, x);
	if (x->q->max_seconds)
		SET(CURLOPT_TIMEOUT, (long)x->q->max_seconds);
	if ((r = set_tls(c, x->q->tls, same_origin, x->err)) < 0 ||
	    (r = set_heads(c, h, x->q, same_origin, &heads, x->err)) < 0)
		return r;
	CURLcode rc = curl_easy_perform(c);
	if (curl_easy_getinfo(c, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0)
		x->r->retry_after = wait;
	if (x->failed < 0)
		r = x->failed;
	else if (rc != CURLE_OK && !x->enough)
		r = explain(c, rc, url, x->text, x->err);
	else if (!x->headed && x->r->status < 200)
		r = vl_fail(x->err, EPROTO, "the answer is not HTTP");
	SET(CURLOPT_HTTPHEADER, NULL);
	SET(CURLOPT_ERRORBUFFER, NULL);
	return r;
}

static int follow(struct oci_http *h, CURL *c, const struct oci_http_req *q, struct oci_http_resp *ret,
		  struct vl_err *err)
{
	const char *method = q->method;
	bool same = true;

	for (unsigned n = 0;; n++) {
		struct exchange x = { .q = q, .r = ret, .err = err, .method = method };
		VL_FREE char *next = NULL;
		int r = check_scheme(ret->url, q->plain_http, n > 0, err);
		if (r < 0 || (r = exchange(h, c, &x, ret->url, same)) < 0)
			return r;
		const char *to = is_redirect(q, ret) ? oci_http_head(ret, "location", 0) : NULL;
		if (!to)
			return 0;
		if (n == OCI_HTTP_MAX_REDIRECTS)
			return vl_fail(err, EPROTO, "the server leads from one address to another more than %d times",
				       OCI_HTTP_MAX_REDIRECTS);
		if (oci_http_join(ret->url, to, &next, err) < 0)
			return vl_wrap(err, "redirect");
		/* once away, nothing of ours comes back: a foreign server may lead anywhere */
		same = same && oci_http_same_origin(ret->url, next);
		if (ret->status == 303 && !vl_streq(method, "HEAD"))
			method = "GET";
		free(ret->url);
		ret->url = vl_steal(&next);
	}
}

int oci_http_do(struct oci_http *h, const struct oci_http_req *q, struct oci_http_resp *ret, struct vl_err *err)
{
	*ret = (struct oci_http_resp){ 0 };
	int r = oci_http_join(q->url, NULL, &ret->url, err);

	if (r < 0)
		return r;
	CURL *c = take_handle(h);
	if (!c)
		return vl_fail(err, EIO, "libcurl gives no handle");
	r = follow(h, c, q, ret, err);
	give_handle(h, c);
	return r;
}
