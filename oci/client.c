/* A request to a registry: which server, as whom, and what when it fails. */
#include "client.h"

#include <pthread.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#define RETRIES 5
#define FIRST_WAIT_MS 250        /* then 0.5, 1, 2, 4 s: a registry's restart is bridged */
#define MAX_RETRY_AFTER 60       /* seconds; who asks for more wants us to come another day */
#define GOOD_PROGRESS (1u << 20) /* attempts that brought so much that is of use were worth it: count from one again */
#define MAX_TRIES 1000u          /* of all: a server that breaks every MiB is not bridged for ever */
#define MAX_SERVER_TEXT 300u     /* of the registry's own error */

struct oci_known_auth {
	struct oci_known_auth *next;
	char *key; /* endpoint and scope */
	char *value;
};

static char *dup_or_null(const char *s)
{
	return s ? vl_strdup(s) : NULL;
}

static void free_secret(char *s)
{
	if (s)
		explicit_bzero(s, strlen(s));
	free(s);
}

static void freep_secret(char **s)
{
	free_secret(*s);
	*s = NULL;
}

int oci_client_new(const struct oci_net *net, const struct vl_progress *say, struct oci_client **ret,
		   struct vl_err *err)
{
	struct oci_client *c = vl_alloc(sizeof *c);
	int r;

	c->net = *net;
	c->net.authfile = dup_or_null(net->authfile);
	c->net.username = dup_or_null(net->username);
	c->net.password = dup_or_null(net->password);
	c->net.config_dir = dup_or_null(net->config_dir);
	c->net.agent = vl_strdup(net->agent ? net->agent : "vial");
	c->net.downloads = net->downloads ? net->downloads : 4;
	c->net.retries = net->retries == OCI_NO_RETRIES ? 0 : net->retries ? net->retries : RETRIES;
	c->first_wait_ms = FIRST_WAIT_MS;
	if (say)
		c->say = *say;
	c->lock = vl_alloc(sizeof(pthread_mutex_t));
	pthread_mutex_init(c->lock, NULL);
	c->tokens = oci_tokens_new();
	if ((r = oci_hosts_load(&c->net, &c->say, &c->hosts, err)) < 0 ||
	    (r = oci_credentials_load(&c->net, &c->say, &c->credentials, err)) < 0) {
		oci_client_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

void oci_client_say(struct oci_client *c, const struct vl_progress *say)
{
	c->say = *say;
}

void oci_client_free(struct oci_client *c)
{
	if (!c)
		return;
	while (c->known) {
		struct oci_known_auth *k = c->known;
		c->known = k->next;
		free(k->key);
		free_secret(k->value);
		free(k);
	}
	oci_http_free(c->http);
	oci_tokens_free(c->tokens);
	if (c->credentials)
		oci_credentials_free(c->credentials);
	if (c->hosts)
		oci_hosts_free(c->hosts);
	free((char *)c->net.authfile);
	free((char *)c->net.username);
	free_secret((char *)c->net.password);
	free((char *)c->net.config_dir);
	free((char *)c->net.agent);
	pthread_mutex_destroy(c->lock);
	free(c->lock);
	free(c);
}

int oci_client_http(struct oci_client *c, struct oci_http **ret, struct vl_err *err)
{
	int r = 0;

	pthread_mutex_lock(c->lock);
	if (!c->http)
		r = oci_http_new(c->net.agent, &c->http, err);
	*ret = c->http;
	pthread_mutex_unlock(c->lock);
	return r;
}

/* ---- one endpoint being asked ---- */

struct ask {
	struct oci_client *c;
	struct oci_call *call;
	const struct oci_endpoint *ep;
	struct oci_http *http;
	struct oci_tls tls;
	char *url, *scope, *key, *auth;
	char *cred_from; /* whose credentials were refused; NULL = none were known */
	bool asked;      /* not the first attempt any more */
	bool local;      /* the receiver of the content failed, not the network */
	bool twin;       /* the same host without TLS comes next */
};

static char *scope_of(const struct oci_call *call, const struct oci_endpoint *ep)
{
	if (!ep->repo || !*ep->repo)
		return NULL;
	return vl_asprintf("repository:%s:%s%s%s", ep->repo, call->push ? "pull,push" : "pull",
			   call->more_scope ? " " : "", call->more_scope ? call->more_scope : "");
}

static char *url_of(const struct oci_call *call, const struct oci_endpoint *ep)
{
	if (*call->path != '/')
		return vl_strdup(call->path);
	return vl_asprintf("%s/%s%s%s%s", ep->url, ep->repo, call->path,
			   !ep->ns                   ? ""
			   : strchr(call->path, '?') ? "&ns="
						     : "?ns=",
			   ep->ns ? ep->ns : "");
}

static void ask_free(struct ask *a)
{
	free(a->url);
	free(a->scope);
	free(a->key);
	free(a->cred_from);
	free_secret(a->auth);
}

static struct oci_known_auth *find_known(struct oci_client *c, const char *key)
{
	struct oci_known_auth *k = c->known;

	while (k && !vl_streq(k->key, key))
		k = k->next;
	return k;
}

static char *known(struct oci_client *c, const char *key)
{
	pthread_mutex_lock(c->lock);
	struct oci_known_auth *k = find_known(c, key);
	char *value = k ? vl_strdup(k->value) : NULL;
	pthread_mutex_unlock(c->lock);
	return value;
}

static void remember(struct oci_client *c, const char *key, const char *value)
{
	pthread_mutex_lock(c->lock);
	struct oci_known_auth *k = find_known(c, key);
	if (!k) {
		k = vl_alloc(sizeof *k);
		k->key = vl_strdup(key);
		k->next = c->known;
		c->known = k;
	}
	if (!k->value || !vl_streq(k->value, value)) {
		free_secret(k->value);
		k->value = vl_strdup(value);
	}
	pthread_mutex_unlock(c->lock);
}

/* ---- authentication ---- */

/* Answers a 401: a->auth is new afterwards. 0; 1: there is nothing new to say. */
static int authenticate(struct ask *a, struct oci_http_resp *resp, bool fresh, struct vl_err *err)
{
	VL_CLEANUP(oci_challenge_free) struct oci_challenge ch = { 0 };
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	VL_CLEANUP(freep_secret) char *auth = NULL;
	struct oci_token_ask ask = { .ch = &ch,
				     .scopes = a->scope,
				     .registry = a->ep->url,
				     .tls = &a->tls,
				     .plain_ok = a->ep->plain_http,
				     .fresh = fresh };
	int r = oci_challenge_best(resp, &ch, err);

	if (r < 0)
		return r;
	/* a password from the command line is for the registry that was named, not for its mirrors */
	r = a->ep->mirror && a->c->net.username
		    ? -ENOENT
		    : oci_credentials_find(a->c->credentials, a->ep->host, a->ep->repo, &cred, err);
	if (r < 0 && r != -ENOENT)
		return r;
	bool have = r == 0;
	free(a->cred_from);
	a->cred_from = have ? vl_strdup(cred.from ? cred.from : "the command line") : NULL;
	if (!have && ch.scheme == OCI_AUTH_BASIC)
		return 1;
	r = oci_tokens_get(a->c->tokens, a->http, &ask, have ? &cred : NULL, &auth, err);
	resp->retry_after = ask.retry_after; /* of whom we wait for */
	if (r < 0)
		return r;
	if (a->auth && vl_streq(a->auth, auth))
		return 1;
	free_secret(a->auth);
	a->auth = vl_steal(&auth);
	return 0;
}

/* ---- one attempt: with a 401 answered ---- */

static int ask_head(void *arg, const struct oci_http_resp *r, struct vl_err *err)
{
	struct ask *a = arg;
	int e = a->call->req.head ? a->call->req.head(a->call->req.arg, r, err) : 0;
	a->local |= e < 0;
	return e;
}

static int ask_sink(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct ask *a = arg;
	int e = a->call->req.sink(a->call->req.arg, p, n, err);
	a->local |= e < 0;
	return e;
}

static void ask_sent(void *arg, uint64_t n)
{
	struct ask *a = arg;
	if (a->call->req.sent)
		a->call->req.sent(a->call->req.arg, n);
}

static bool ask_cancelled(void *arg)
{
	struct ask *a = arg;
	return a->call->req.cancelled && a->call->req.cancelled(a->call->req.arg);
}

static int request(struct ask *a, struct oci_http_resp *ret, struct vl_err *err)
{
	if (a->asked && a->call->again) {
		int r = a->call->again(a->call->req.arg, a->call, err);
		if (r < 0) {
			a->local = true;
			return r;
		}
	}
	a->asked = true;
	struct oci_http_req q = a->call->req;
	q.url = a->url;
	/* an upload location on another server is not told who we are */
	q.authorization = oci_http_same_origin(a->url, a->ep->url) ? a->auth : NULL;
	q.tls = &a->tls;
	q.plain_http = a->ep->plain_http;
	q.arg = a;
	q.head = ask_head;
	q.sink = q.sink ? ask_sink : NULL;
	q.sent = ask_sent;
	q.cancelled = ask_cancelled;
	return oci_http_do(a->http, &q, ret, err);
}

static int attempt(struct ask *a, struct oci_http_resp *ret, struct vl_err *err)
{
	bool had = a->auth != NULL;
	int r = request(a, ret, err);

	for (int round = had; r == 0 && ret->status == 401 && round < 2; round++) {
		if ((r = authenticate(a, ret, round > 0, err)) != 0)
			return r < 0 ? r : 0;
		oci_http_resp_free(ret);
		r = request(a, ret, err);
	}
	if (r == 0 && ret->status < 400 && a->auth)
		remember(a->c, a->key, a->auth);
	return r;
}

/* ---- errors in words ---- */

/* {"errors":[{"code","message"}]}: what the registry says about it, or NULL. */
static char *server_text(const struct oci_http_resp *r)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err ignored;

	if (!r->body.data || vl_json_parse(r->body.data, r->body.len, "error", &j, &ignored) < 0)
		return NULL;
	const vl_json *e = vl_json_at(vl_json_arr(j, "errors"), 0);
	const char *code = vl_json_str(e, "code"), *text = vl_json_str(e, "message");
	if (!code && !text)
		return NULL;
	VL_FREE char *both = vl_asprintf("%s%s%s", code ? code : "", code && text ? ": " : "", text ? text : "");
	return vl_printable(both, strnlen(both, MAX_SERVER_TEXT));
}

static int status_error(struct ask *a, const struct oci_http_resp *resp, struct vl_err *err)
{
	const char *host = a->ep->host, *repo = a->ep->repo ? a->ep->repo : "";
	VL_FREE char *said = server_text(resp);
	VL_FREE char *tail = said ? vl_asprintf(" (the registry says: %s)", said) : vl_strdup("");
	int s = resp->status;

	if (s == 401 && a->cred_from)
		return vl_fail(err, EACCES,
			       "the registry refuses the credentials from %s%s; 'vial registry login %s' renews them",
			       a->cred_from, tail, host);
	if (s == 401)
		return vl_fail(err, EACCES,
			       "it needs a login, or does not exist%s; 'vial registry login %s' stores credentials",
			       tail, host);
	if (s == 403)
		return vl_fail(err, EACCES, "no permission for %s, or it does not exist%s%s%s", repo, tail,
			       a->auth ? "" : "; perhaps it needs 'vial registry login ", a->auth ? "" : host);
	if (s == 404)
		return vl_fail(err, ENOENT, "there is none by that name%s; is the name right?", tail);
	if (s == 429)
		return vl_fail(err, EBUSY, "the registry allows no more requests now (429)%s; try again later%s", tail,
			       a->cred_from ? "" : ", or log in: many registries allow more then");
	if (s >= 500)
		return vl_fail(err, EIO, "the registry has trouble: status %d%s; try again later", s, tail);
	return vl_fail(err, EPROTO, "the registry answers with status %d%s", s, tail);
}

/* It may be refused only because the credentials could not be looked up. */
static void add_trouble(struct ask *a, struct vl_err *err)
{
	VL_FREE char *trouble = oci_credentials_trouble(a->c->credentials), *text = vl_strdup(err->text);

	if (trouble && !a->cred_from)
		vl_fail(err, err->code, "%s (no credentials were looked up: %s)", text, trouble);
}

/* What the user can do about a connection that does not come about. */
static void add_hint(struct ask *a, int r, struct vl_err *err)
{
	VL_FREE char *hint = NULL;

	if (a->local)
		return;
	if (r == -EKEYREJECTED && strstr(err->text, "does not speak TLS"))
		hint = vl_asprintf("use --no-https, or insecure = true for it in registries.conf");
	else if (r == -EKEYREJECTED && strstr(err->text, "unknown CA"))
		hint = vl_asprintf("put the CA's certificate in /etc/containers/certs.d/%s/ca.crt", a->ep->host);
	else if (r == -EHOSTUNREACH && !strstr(err->text, "the proxy "))
		hint = vl_strdup("is the name right, and does this machine reach the network (proxy, https_proxy)?");
	else if (r == -ETIMEDOUT)
		hint = vl_strdup("is a proxy needed here (https_proxy)?");
	if (hint) {
		VL_FREE char *text = vl_strdup(err->text);
		vl_fail(err, -r, "%s; %s", text, hint);
	}
}

/* ---- waiting and trying again ---- */

static bool is_transient(int r, const struct oci_http_resp *resp)
{
	if (r < 0)
		return r == -ECONNRESET || r == -ETIMEDOUT;
	return resp->status == 408 || resp->status == 429 || (resp->status >= 500 && resp->status != 501);
}

static int wait_ms(const struct oci_http_req *q, uint64_t ms, struct vl_err *err)
{
	while (ms) {
		uint64_t now = VL_MIN(ms, (uint64_t)100);
		struct timespec t = { .tv_nsec = (long)now * 1000000 };
		if (q->cancelled && q->cancelled(q->arg))
			return vl_fail(err, ECANCELED, "stopped");
		nanosleep(&t, NULL);
		ms -= now;
	}
	return 0;
}

/* Many nodes that failed together must not come back together. */
static uint64_t with_jitter(uint64_t ms)
{
	uint32_t x = 0;

	if (getrandom(&x, sizeof x, GRND_NONBLOCK) < 0)
		x = 0;
	return ms - ms / 4 + x % (ms / 2 + 1);
}

static int wait_before(struct oci_client *c, const struct oci_http_req *q, const char *host, unsigned n, int64_t asked,
		       struct vl_err *err)
{
	uint64_t ms = with_jitter((uint64_t)c->first_wait_ms << VL_MIN(n, 4u));

	if (asked > MAX_RETRY_AFTER)
		return vl_fail(err, EBUSY, "the server is busy and asks to wait %lld seconds; try again then",
			       (long long)asked);
	if (asked > 0) {
		ms = (uint64_t)asked * 1000;
		pthread_mutex_lock(c->lock); /* one line at a time */
		vl_progress_warn(&c->say, "%s asks to wait %lld s", host, (long long)asked);
		pthread_mutex_unlock(c->lock);
	}
	return wait_ms(q, ms, err);
}

int oci_client_again(struct oci_client *c, const struct oci_http_req *q, const char *host, int result,
		     const struct oci_http_resp *resp, unsigned retries, struct oci_tries *t, struct vl_err *err)
{
	if (!is_transient(result, resp))
		return 0;
	if (t->useful && *t->useful - t->mark >= GOOD_PROGRESS) {
		t->mark = *t->useful;
		t->n = 0;
	}
	if (t->n >= retries || t->all >= MAX_TRIES)
		return 0;
	t->all++;
	int r = wait_before(c, q, host, t->n++, resp->retry_after, err);
	return r < 0 ? r : 1;
}

static int ask_endpoint(struct ask *a, struct oci_http_resp *ret, struct vl_err *err)
{
	/* behind a mirror there is somebody else to ask */
	unsigned retries = a->ep->mirror ? VL_MIN(1u, a->c->net.retries) : a->c->net.retries;
	const uint64_t *useful = a->call->useful;
	struct oci_tries tries = { .useful = useful, .mark = useful ? *useful : 0 };
	struct oci_http_req q = { .cancelled = ask_cancelled, .arg = a };

	for (;;) {
		int r = attempt(a, ret, err);
		if (a->local || (r == -ETIMEDOUT && a->ep->mirror) || (r < 0 && a->twin && !ret->received))
			return r;
		int w = oci_client_again(a->c, &q, a->ep->host, r, ret, retries, &tries, err);
		if (w <= 0) {
			a->local |= w == -ECANCELED;
			return w < 0 ? w : r;
		}
		oci_http_resp_free(ret);
	}
}

/* ---- the list of endpoints ---- */

static bool is_answer(const struct oci_http_resp *r, bool judge)
{
	if (r->status < 400 || r->status == 416)
		return true;
	return judge && r->status < 500 && r->status != 401 && r->status != 429;
}

/* What goes on from one endpoint to the next. */
struct round {
	struct oci_client *c;
	struct oci_call *call;
	bool judge, asked, stop;
	bool answered; /* by the last endpoint, whatever it said */
};

static int ask_one(struct round *o, const struct oci_endpoint *ep, bool twin, struct oci_http_resp *ret,
		   struct vl_err *err)
{
	VL_CLEANUP(ask_free) struct ask a = { .c = o->c, .call = o->call, .ep = ep, .asked = o->asked, .twin = twin };
	int r = oci_client_http(o->c, &a.http, err);

	if (r < 0)
		return r;
	a.tls = oci_endpoint_tls(ep);
	a.url = url_of(o->call, ep);
	a.scope = scope_of(o->call, ep);
	a.key = vl_asprintf("%s %s", ep->url, a.scope ? a.scope : "");
	a.auth = known(o->c, a.key);
	o->call->from = ep;
	r = ask_endpoint(&a, ret, err);
	if (r == 0 && o->call->check && (ret->status == 200 || ret->status == 206))
		r = o->call->check(o->call->req.arg, ret, err);
	o->call->from = NULL;
	o->answered = ret->status != 0;
	if (r < 0)
		add_hint(&a, r, err);
	else if (!is_answer(ret, o->judge))
		r = status_error(&a, ret, err);
	else if (ep->mirror && ret->status >= 400 && ret->status != 416)
		r = status_error(&a, ret, err); /* the registry itself decides what is not there */
	if (r == -EACCES)
		add_trouble(&a, err);
	o->asked = a.asked;
	/* a mirror's content may be wrong; a full disk or a signal is nobody's fault there */
	o->stop = a.local && r != -EBADMSG;
	return r;
}

/* Insecure hosts are tried with TLS first, and then, as the next endpoint, without. */
static bool has_twin(const struct oci_endpoint *e, const struct oci_endpoint *end)
{
	return e + 1 < end && !e->plain_http && e[1].plain_http && e->mirror == e[1].mirror &&
	       vl_streq(e->host, e[1].host) && vl_streq(e->repo, e[1].repo);
}

static int explain_all(struct oci_call *call, const struct oci_endpoint *ep, const char *mirrors, struct vl_err *err)
{
	VL_FREE char *name = oci_ref_name(call->ref);
	const char *verb = call->push ? "cannot push" : "cannot get";
	bool elsewhere = ep && (ep->mirror || !vl_streq(ep->host, call->ref->host));

	if (!err->code)
		vl_fail(err, EIO, "no server to ask");
	vl_wrap(err, "%s %s of %s%s%s", verb, call->what ? call->what : "it", name,
		!elsewhere   ? ""
		: call->push ? " to "
			     : " from ",
		!elsewhere   ? ""
		: ep->mirror ? ep->url
			     : ep->host);
	if (*mirrors) {
		VL_FREE char *text = vl_strdup(err->text);
		vl_fail(err, err->code, "%s (before: %s)", text, mirrors);
	}
	return -err->code;
}

static int ask_all(struct round *o, const struct oci_endpoint *eps, size_t n, struct oci_http_resp *ret,
		   struct vl_err *err)
{
	VL_BUF struct vl_buf mirrors = { 0 };
	const struct oci_endpoint *last = NULL;
	int r = -EIO;

	vl_buf_adds(&mirrors, "");
	for (const struct oci_endpoint *e = eps; e < eps + n && !o->stop; e++) {
		bool twin = has_twin(e, eps + n);
		VL_FREE char *no_tls = vl_asprintf("no TLS: %s", e->host);
		VL_FREE char *is_plain = twin ? known(o->c, no_tls) : NULL;
		if (is_plain || (e->digest_only && !o->call->digest_content))
			continue;
		if (last && last->mirror && mirrors.len < 600)
			vl_buf_addf(&mirrors, "%smirror %s: %.250s", mirrors.len ? "; " : "", last->url, err->text);
		last = e;
		*err = (struct vl_err){ 0 };
		oci_http_resp_free(ret);
		r = ask_one(o, e, twin, ret, err);
		if (twin && !o->answered && r < 0 && !o->stop) {
			last = NULL; /* its twin is who counts */
			continue;
		}
		if (r == 0 && e > eps && has_twin(e - 1, eps + n))
			remember(o->c, no_tls, "");
		if (r == 0)
			return 0;
		e += twin; /* who has TLS is not asked without */
	}
	return r == -ECANCELED ? r : explain_all(o->call, last, mirrors.data, err);
}

static int call_any(struct oci_client *c, struct oci_call *call, bool judge, struct oci_http_resp *ret,
		    struct vl_err *err)
{
	struct round o = { .c = c, .call = call, .judge = judge };
	struct oci_endpoint *eps = NULL;
	size_t n = 0;
	int r = oci_hosts_find(c->hosts, call->ref, call->push, &eps, &n, err);

	*ret = (struct oci_http_resp){ 0 };
	if (r < 0)
		return r;
	r = ask_all(&o, eps, n, ret, err);
	oci_endpoints_free(eps, n);
	return r;
}

int oci_client_call(struct oci_client *c, struct oci_call *call, struct oci_http_resp *ret, struct vl_err *err)
{
	return call_any(c, call, false, ret, err);
}

int oci_client_try(struct oci_client *c, struct oci_call *call, struct oci_http_resp *ret, struct vl_err *err)
{
	return call_any(c, call, true, ret, err);
}
