/* Inside oci/: how a request reaches a registry. From the bottom up:
 *
 *   http.c        one request and its answer (the only libcurl user); proxy.c names the proxy that fails
 *   hosts.c       which servers stand for a registry: mirrors, plain HTTP, certificates
 *   credentials.c who we are there: credential files and helpers
 *   token.c       challenges and bearer tokens
 *   client.c      all of it: a request with authentication, retries and mirrors
 *   registry.c    manifests and blobs of a source; download.c: blobs in parallel, resumed
 *   push.c        uploads
 */
#ifndef OCI_CLIENT_H
#define OCI_CLIENT_H

#include <vial/oci.h>

/* ---- http.c --------------------------------------------------------------------------- */

#define OCI_HTTP_MAX_REDIRECTS 5
#define OCI_HTTP_CONNECT_SECONDS 20
#define OCI_HTTP_IDLE_SECONDS 60          /* no byte for so long: broken */
#define OCI_HTTP_DOCUMENT_SECONDS 300     /* manifests, tokens: a few KiB, also for one that sends a byte a minute */
#define OCI_HTTP_MAX_HEADERS (256u << 10) /* of one answer, all together */

struct oci_tls {                        /* borrowed by requests */
	const struct vl_strv *ca_files; /* PEM bundles; with one or more, the system's does not count. NULL = none */
	const char *cert, *key;         /* client certificate; NULL = none */
	bool skip_verify;
	bool add_ca; /* ca_files are added to the system's */
};

struct oci_http; /* what requests share: connections, DNS, TLS sessions. Thread-safe. */
int oci_http_new(const char *agent, struct oci_http **ret, struct vl_err *err);
void oci_http_free(struct oci_http *h);

struct oci_http_resp {
	int status;           /* 0: no answer came */
	char *url;            /* the last one, after redirects */
	struct vl_strv heads; /* "Name: value" of the last answer */
	struct vl_buf body;   /* of answers that no sink took; at most VL_JSON_MAX */
	uint64_t received;    /* bytes given to the sink */
	int64_t retry_after;  /* seconds that Retry-After asks to wait; 0 = it does not */
};
void oci_http_resp_free(struct oci_http_resp *r);
#define OCI_RESP __attribute__((cleanup(oci_http_resp_free)))
/* Value of the n-th header of that name (any case), or NULL. Borrowed. */
const char *oci_http_head(const struct oci_http_resp *r, const char *name, unsigned n);

struct oci_http_req {
	const char *method;        /* GET HEAD POST PUT PATCH */
	const char *url;           /* absolute */
	const char *const *heads;  /* NULL-terminated "Name: value" lines, or NULL */
	const char *authorization; /* value of that header; never sent on to another host, port or scheme */
	const struct oci_tls *tls; /* NULL = defaults */
	bool plain_http;           /* http:// is allowed, for redirects too */
	bool no_redirect;          /* a 3xx is the answer */
	unsigned max_seconds;      /* for all of it; 0 = as long as something comes */
	const void *body;          /* body_len bytes, or body_len bytes of body_fd at body_off */
	int body_fd;               /* used when body is NULL and body_len > 0 */
	uint64_t body_off, body_len;
	/* Takes the content of 200 and 206 answers as it comes; NULL = resp.body. head is called once before the
	 * first byte (also when there is none) and may refuse the answer. An error of either ends the request. */
	int (*head)(void *arg, const struct oci_http_resp *r, struct vl_err *err);
	int (*sink)(void *arg, const void *p, size_t n, struct vl_err *err);
	void *arg;
	/* Upload progress, bytes of the body sent; may be NULL. */
	void (*sent)(void *arg, uint64_t n);
	/* Asked about once a second, also while nothing comes; true ends the request with -ECANCELED. May be NULL. */
	bool (*cancelled)(void *arg);
};
/* One request, redirects followed. 0 with any status, or the failure to get a whole answer:
 *   -EHOSTUNREACH name not found or no route, -ECONNREFUSED, -ETIMEDOUT, -ECONNRESET (broken or cut short),
 *   -EPROTO not HTTP, -EKEYREJECTED TLS (the text says which: unknown CA, wrong name, expired, ...), -EINVAL URL;
 *   or what head or sink returned. ret is filled as far as it came and is the caller's to free either way. */
int oci_http_do(struct oci_http *h, const struct oci_http_req *q, struct oci_http_resp *ret, struct vl_err *err);
/* Seconds since 1970 of a Date, Last-Modified, ...; -EINVAL. */
int oci_http_date(const char *text, int64_t *ret);
/* Joins a Location or Link with the URL it came from; returns new. */
int oci_http_join(const char *base, const char *rel, char **ret, struct vl_err *err);
/* Same scheme, host and port: what one may know the other may. */
bool oci_http_same_origin(const char *a, const char *b);
bool oci_http_same_host(const char *a, const char *b); /* whatever the port */

/* proxy.c. "HOST:PORT (of $NAME)" of the proxy for that URL, without user and password; NULL = none. curl_text: what libcurl
 * says it could not connect to; another server than the proxy gives NULL. Returns new. */
char *oci_proxy_of(const char *url, const char *curl_text);

/* ---- hosts.c: registries.conf(.d), certs.d, hosts.toml ------------------------------------ */

struct oci_endpoint {
	char *url; /* "https://registry-1.docker.io/v2": what /REPO/manifests/... is appended to; no slash at its end */
	char *host; /* host[:port] as credential files name it ("docker.io" for Docker Hub) */
	char *repo; /* repository there: a mirror may rename it */
	char *ns;   /* value of ?ns= for containerd's mirrors; NULL = none */
	bool plain_http, skip_verify, mirror;
	bool digest_only; /* pull-from-mirror = "digest-only" */
	struct vl_strv ca_files;
	char *cert, *key; /* NULL = none */
};
struct oci_hosts;
int oci_hosts_load(const struct oci_net *net, const struct vl_progress *say, struct oci_hosts **ret,
		   struct vl_err *err);
void oci_hosts_free(struct oci_hosts *h);
/* The servers to ask for `ref`, in order; pushes get the registry itself only. A server that may be insecure, or
 * is of this machine, is there twice, https and then plain http: the second is for when the first fails as
 * -EKEYREJECTED, -EPROTO or -ECONNREFUSED. -EACCES: blocked by the configuration (err names the file). Returns new; free with oci_endpoints_free. */
int oci_hosts_find(const struct oci_hosts *h, const struct oci_ref *ref, bool push, struct oci_endpoint **ret,
		   size_t *ret_n, struct vl_err *err);
void oci_endpoints_free(struct oci_endpoint *e, size_t n);
/* How it is reached; borrows from e. */
struct oci_tls oci_endpoint_tls(const struct oci_endpoint *e);

/* ---- credentials.c ----------------------------------------------------------------------- */

struct oci_cred {
	char *username, *password; /* NULL = none */
	char *identity_token;      /* refresh token */
	char *registry_token;      /* used as a bearer token as it is */
	char *from;                /* file or helper, for messages */
};
void oci_cred_free(struct oci_cred *c);
struct oci_credentials; /* the files, read once */
int oci_credentials_load(const struct oci_net *net, const struct vl_progress *say, struct oci_credentials **ret,
			 struct vl_err *err);
void oci_credentials_free(struct oci_credentials *c);
/* For host[:port] and repository, longest match first; may run a credential helper. -ENOENT: none. Thread-safe. */
int oci_credentials_find(struct oci_credentials *c, const char *host, const char *repo, struct oci_cred *ret,
			 struct vl_err *err);
/* Why credentials that may be somewhere were not found; NULL = nothing is known of that. Returns new. */
char *oci_credentials_trouble(struct oci_credentials *c);

/* ---- token.c ------------------------------------------------------------------------------ */

enum oci_scheme { OCI_AUTH_NONE, OCI_AUTH_BASIC, OCI_AUTH_BEARER };
struct oci_challenge {
	enum oci_scheme scheme;
	char *realm, *service; /* NULL = not said */
	char *scope;           /* as the server wrote it; NULL = not said */
};
void oci_challenge_free(struct oci_challenge *c);
/* One WWW-Authenticate value, which may hold several challenges: the best one we can answer. -ENOTSUP: none. */
int oci_challenge_parse(const char *value, struct oci_challenge *ret, struct vl_err *err);
/* The best of all WWW-Authenticate headers. -EACCES: there is none. */
int oci_challenge_best(const struct oci_http_resp *r, struct oci_challenge *ret, struct vl_err *err);

/* Thread-safe cache of tokens by realm, service, scopes and user. */
struct oci_tokens;
struct oci_tokens *oci_tokens_new(void) VL_NEW;
void oci_tokens_free(struct oci_tokens *t);
struct oci_token_ask {
	const struct oci_challenge *ch;
	const char *scopes;        /* space separated, more than one for a mount; NULL = the challenge's own */
	const char *registry;      /* URL of the server that sent the challenge */
	const struct oci_tls *tls; /* its TLS; for a token server elsewhere only as far as it may be. NULL = defaults */
	bool plain_ok;             /* the registry itself is plain: so may the realm be */
	bool fresh;                /* not from the cache: the last one was refused */
	int64_t retry_after;       /* on -ETIMEDOUT: the seconds the token server wants to be left alone */
};
/* The value of an Authorization header that answers the challenge. cred NULL = anonymous; an identity token that the
 * server renews is kept in *cred. A realm must be https unless plain_ok. -ETIMEDOUT also for a token server that
 * answers 408, 429 or 5xx: worth another try. -EACCES: it wants a login, or another one. */
int oci_tokens_get(struct oci_tokens *t, struct oci_http *h, struct oci_token_ask *ask, struct oci_cred *cred,
		   char **ret, struct vl_err *err);

/* ---- client.c: a request to a registry ---------------------------------------------------- */

struct oci_call {
	const struct oci_ref *ref;
	bool push;              /* the registry itself, scope pull,push; else mirrors first, scope pull */
	bool digest_content;    /* what is asked for has a digest: digest-only mirrors may answer */
	const char *more_scope; /* added to the scope: "repository:R:pull" of a mount's source; NULL */
	const char *path;       /* after REPO: "/manifests/latest"; or an absolute URL (upload location, of the endpoint
			      * that answered before) */
	const char *what;       /* for messages: "manifest", "blob sha256:1234" */
	const struct oci_endpoint *from; /* who is asked right now; filled in here, for head, sink and again */
	struct oci_http_req req;         /* method, heads, body, head, sink, arg; the rest is filled in here */
	/* Judges a whole answer of 200 or 206; when it refuses the content, the next server is asked. arg is that of req. NULL =
	 * all is well. */
	int (*check)(void *arg, const struct oci_http_resp *r, struct vl_err *err);
	/* How much of it came that is of use, over all attempts: never goes back. NULL = nothing does. */
	const uint64_t *useful;
	/* Called before every attempt after the first one; may change heads (Range). NULL = the request restarts. */
	int (*again)(void *arg, struct oci_call *call, struct vl_err *err);
};
/* Finds the endpoint, authenticates (again once after a 401), retries 408, 429, 5xx and broken connections with
 * back-off (Retry-After is honoured up to a limit), goes on to the next endpoint when a mirror lacks it. 0 only with
 * a status below 400 or 416; other answers become errors that name registry, reference, cause and next step:
 *   -ENOENT 404, -EACCES 401/403, -EBUSY 429, -EIO 5xx, and those of oci_http_do. */
int oci_client_call(struct oci_client *c, struct oci_call *call, struct oci_http_resp *ret, struct vl_err *err);
/* Statuses that are the caller's to judge too: as above, but any status below 500 except 401 and 429 comes back as 0. */
int oci_client_try(struct oci_client *c, struct oci_call *call, struct oci_http_resp *ret, struct vl_err *err);

struct oci_known_auth; /* of servers: the Authorization value accepted for a scope, and who has no TLS */
struct oci_client {
	struct oci_net net; /* strings are copies */
	struct vl_progress say;
	struct oci_hosts *hosts;
	struct oci_credentials *credentials;
	struct oci_tokens *tokens;
	struct oci_http *http; /* made at the first request */
	struct oci_known_auth *known;
	unsigned first_wait_ms; /* of the back-off; doubles each time. Tests set 0 */
	void *lock;             /* pthread_mutex_t of the lazy parts */
};
/* The shared HTTP part, made when it is first asked for. */
int oci_client_http(struct oci_client *c, struct oci_http **ret, struct vl_err *err);
struct oci_tries {              /* of one thing at one server */
	const uint64_t *useful; /* see oci_call; NULL */
	uint64_t mark;          /* *useful when the count began anew */
	unsigned n, all;        /* attempts since then; of all */
};
/* After an attempt with that result: 1 = it is worth another one, and the time to wait is over; 0 = it is not, err is
 * as it was; or -errno. t begins with zeros. Of q only cancelled and arg are used. */
int oci_client_again(struct oci_client *c, const struct oci_http_req *q, const char *host, int result,
		     const struct oci_http_resp *resp, unsigned retries, struct oci_tries *t, struct vl_err *err);

/* ---- registry.c, download.c: behind oci_source ---------------------------------------------- */

struct oci_registry; /* per source: the reference, the client, downloads in flight */
int oci_registry_new(const struct oci_ref *ref, struct oci_client *c, const struct oci_blob_store *blobs,
		     struct oci_registry **ret, struct vl_err *err);
void oci_registry_free(struct oci_registry *r); /* cancels and joins downloads */
/* name: "manifests/TAG", "manifests/ALGO:HEX" or "blobs/ALGO/HEX". The first two give whole documents whose
 * digest was compared when the name is one. */
int oci_registry_file(struct oci_registry *r, const char *name, struct oci_blob **ret, struct vl_err *err);
void oci_registry_will_read(struct oci_registry *r, const struct oci_layer *const *layers, size_t n);
uint64_t oci_registry_downloaded(const struct oci_registry *r);

#endif
