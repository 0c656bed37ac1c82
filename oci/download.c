/* Blobs on their way: some threads fetch, each blob into a file without a name, and readers follow the growing files.
 * Where no thread can be made, the reader fetches.
 *
 * What a reader gets is promised: once a connection broke and the rest came by a second request, nothing of that rest
 * is handed out before the digest of the whole was right; so the blob can be fetched once more from its start, and
 * whoever read the first part need not know. Of a mirror nothing is handed out before that: behind it there is
 * another one to ask. */
#include "download.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#define MAX_OPEN 200 /* fetched files nobody has read yet: descriptors, and room on the disk */
#define HASH_PIECE (1u << 20)
#define MAX_SHORT_ANSWERS 5 /* an answer that ended early without saying so */

enum state { QUEUED, RUNNING, CLOSED, DONE }; /* CLOSED: read, and nobody else asked for it yet */

struct download {
	struct download *next; /* in the order they were asked for */
	struct oci_downloads *list;
	struct oci_digest digest;
	char *what;
	uint64_t size; /* UINT64_MAX = not known yet; under the lock */
	bool document; /* it was not known at first: small, and kept for the next reader */
	unsigned uses; /* how often it will be read */
	unsigned readers;
	bool wanted; /* somebody waits */

	/* under the list's lock */
	enum state state;
	int result;
	struct vl_err err;
	int fd;
	uint64_t released; /* readers may have this much */
	pthread_cond_t changed;

	/* of the thread that fetches */
	struct vl_hash *hash;
	uint64_t want; /* size, as long as it runs */
	uint64_t pos;  /* bytes written and hashed */
	uint64_t most; /* the largest pos so far */
	uint64_t skip; /* of an answer that starts at 0 again */
	bool resumed;
	bool whole; /* all bytes are there, and the digest is right */
	bool bad;   /* all bytes were there, and it was wrong: from the start again */
	bool parts; /* what was wrong came in parts */
	char *from; /* URL of the mirror that bytes are from; NULL = of none */
	struct oci_call call;
	char range[64];
	const char *heads[2];
};

struct oci_downloads {
	const struct oci_ref *ref;
	struct oci_client *client;
	const struct oci_blob_store *blobs;
	pthread_mutex_t lock;
	pthread_cond_t more; /* work for a thread */
	struct download *first, **last;
	pthread_t *threads;
	unsigned n_threads, n_idle, n_open;
	bool stop;
	uint64_t bytes;
};

/* ---- small parts ---- */

int oci_content_range(const char *text, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_total)
{
	VL_FREE char *copy = vl_strdup(text);
	uint64_t first, last, total = UINT64_MAX;

	if (strncmp(copy, "bytes ", 6) != 0)
		return -EINVAL;
	char *dash = strchr(copy + 6, '-'), *slash = dash ? strchr(dash, '/') : NULL;
	if (!slash)
		return -EINVAL;
	*dash = *slash = 0;
	if (vl_parse_u64(copy + 6, 0, INT64_MAX, &first) < 0 || vl_parse_u64(dash + 1, first, INT64_MAX, &last) < 0)
		return -EINVAL;
	if (!vl_streq(slash + 1, "*") && vl_parse_u64(slash + 1, last + 1, INT64_MAX, &total) < 0)
		return -EINVAL;
	*ret_first = first;
	*ret_last = last;
	*ret_total = total;
	return 0;
}

static int new_file(struct oci_downloads *l, struct vl_err *err)
{
	if (l->blobs && l->blobs->create)
		return l->blobs->create(l->blobs->arg, err);
	return vl_tmpfile("a downloaded blob", err);
}

/* ---- receiving ---- */

static bool is_stopped(void *arg)
{
	struct download *d = arg;

	pthread_mutex_lock(&d->list->lock);
	bool stop = d->list->stop;
	pthread_mutex_unlock(&d->list->lock);
	return stop;
}

static int wrong_length(struct download *d, uint64_t got, struct vl_err *err)
{
	return vl_fail(err, EBADMSG, "it has %" PRIu64 " bytes there, the manifest says %" PRIu64, got, d->want);
}

static int check_partial(struct download *d, const char *range, struct vl_err *err)
{
	uint64_t first, last, total;

	if (!d->heads[0] || !range || oci_content_range(range, &first, &last, &total) < 0 || first != d->pos)
		return vl_fail(err, EBADMSG, "another part came than the one asked for (from byte %" PRIu64 ")",
			       d->pos);
	if (d->want != UINT64_MAX && (total != UINT64_MAX ? total != d->want : last >= d->want))
		return wrong_length(d, total != UINT64_MAX ? total : last + 1, err);
	return 0;
}

static int on_head(void *arg, const struct oci_http_resp *resp, struct vl_err *err)
{
	struct download *d = arg;
	const char *length = oci_http_head(resp, "Content-Length", 0);
	uint64_t n;

	d->skip = 0;
	vl_freep(&d->from);
	d->from = d->call.from->mirror ? vl_strdup(d->call.from->url) : NULL;
	if (resp->status == 206)
		return check_partial(d, oci_http_head(resp, "Content-Range", 0), err);
	d->skip = d->pos;
	if (!length || vl_parse_u64(length, 0, INT64_MAX, &n) < 0)
		return 0;
	if (d->want != UINT64_MAX && n != d->want)
		return wrong_length(d, n, err);
	return 0;
}

/* Fetched again from its start: what readers have must come again. */
static int same_as_before(struct download *d, const uint8_t *p, size_t n, struct vl_err *err)
{
	VL_FREE uint8_t *old = vl_alloc(n);
	int r = vl_pread_full(d->fd, old, n, d->pos, d->what, err);

	if (r == 0 && memcmp(old, p, n) != 0)
		r = vl_fail(err, EBADMSG, "the registry sends other bytes than before");
	return r;
}

static int check_hash(struct download *d, struct vl_err *err)
{
	uint8_t raw[VL_HASH_MAX];
	char hex[VL_HASH_MAX * 2 + 1];

	vl_hex(raw, vl_hash_final(d->hash, raw), hex);
	d->whole = vl_streq(hex, d->digest.hex);
	d->bad = !d->whole;
	d->parts |= d->bad && d->resumed;
	if (d->whole)
		return 0;
	return vl_fail(err, EBADMSG,
		       "its bytes are not what the digest says, theirs is %s:%s; try again, and tell who runs %s if it "
		       "stays so",
		       d->digest.algo, hex, d->call.from ? d->call.from->host : "the registry");
}

/* Readers may have what is there. */
static void release(struct download *d)
{
	pthread_mutex_lock(&d->list->lock);
	d->released = VL_MAX(d->released, d->pos);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->list->lock);
}

static int on_bytes(void *arg, const void *data, size_t n, struct vl_err *err)
{
	struct download *d = arg;
	struct oci_downloads *l = d->list;
	const uint8_t *p = data;
	uint64_t limit = d->want != UINT64_MAX ? d->want : VL_JSON_MAX;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	l->bytes += n;
	bool stop = l->stop;
	uint64_t released = d->released;
	pthread_mutex_unlock(&l->lock);
	if (stop)
		return vl_fail(err, ECANCELED, "stopped");
	size_t skip = VL_MIN(n, d->skip);
	d->skip -= skip;
	p += skip;
	n -= skip;
	if (n > limit - d->pos)
		return d->want != UINT64_MAX
			       ? wrong_length(d, d->pos + n, err)
			       : vl_fail(err, EFBIG, "it is larger than the limit of %u bytes for a document",
					 VL_JSON_MAX);
	if (!n)
		return 0;
	size_t again = d->pos < released ? VL_MIN(n, released - d->pos) : 0;
	if ((again && (r = same_as_before(d, p, again, err)) < 0) ||
	    (r = vl_pwrite_full(d->fd, p, n, d->pos, "a downloaded blob", err)) < 0)
		return r;
	vl_hash_update(d->hash, p, n);
	d->pos += n;
	d->most = VL_MAX(d->most, d->pos);
	/* here, where another server can still be asked */
	if (d->pos == d->want && (r = check_hash(d, err)) < 0)
		return r;
	if (d->whole || (!d->resumed && !d->from))
		release(d);
	return 0;
}

static void start_again(struct download *d)
{
	uint8_t ignored[VL_HASH_MAX];

	vl_hash_final(d->hash, ignored);
	d->pos = 0;
	d->want = d->document ? UINT64_MAX : d->want;
	d->resumed = d->whole = d->bad = false;
	vl_freep(&d->from);
}

/* Before another attempt: from where we are. */
static int set_range(void *arg, struct oci_call *call, struct vl_err *err)
{
	struct download *d = arg;

	d->heads[0] = NULL;
	/* nobody checked the bytes of a mirror that broke: with those of another server they may not fit */
	if (d->bad || (d->from && call->from && !vl_streq(d->from, call->from->url)))
		start_again(d);
	if (d->pos && d->pos == d->want)
		return vl_fail(err, EALREADY, "nothing is missing");
	if (d->pos) {
		snprintf(d->range, sizeof d->range, "Range: bytes=%" PRIu64 "-", d->pos);
		d->heads[0] = d->range;
		d->resumed = true;
	}
	call->req.heads = d->heads;
	return 0;
}

/* The end of an answer is the end of a blob of unknown length. */
static int on_end(void *arg, const struct oci_http_resp *resp, struct vl_err *err)
{
	struct download *d = arg;

	(void)resp;
	if (d->want == UINT64_MAX)
		d->want = d->pos;
	return d->pos == d->want && !d->whole ? check_hash(d, err) : 0;
}

/* What the client did not say: that it is about this blob. */
static int explain(struct download *d, struct vl_err *err)
{
	VL_FREE char *name = oci_ref_name(d->list->ref);

	return vl_wrap(err, "cannot get %s of %s", d->what, name);
}

/* All bytes, by as many requests as it takes. */
static int fetch_bytes(struct download *d, struct vl_err *err)
{
	struct oci_downloads *l = d->list;
	VL_FREE char *path = vl_asprintf("/blobs/%s:%s", d->digest.algo, d->digest.hex);

	for (int n = 0;; n++) {
		OCI_RESP struct oci_http_resp resp = { 0 };
		struct oci_call *call = &d->call;
		*call = (struct oci_call){ .ref = l->ref, .path = path, .what = d->what, .digest_content = true };
		call->again = set_range;
		call->check = on_end;
		call->useful = &d->most;
		call->req = (struct oci_http_req){
			.method = "GET", .head = on_head, .sink = on_bytes, .arg = d, .cancelled = is_stopped
		};
		call->req.max_seconds = d->document ? OCI_HTTP_DOCUMENT_SECONDS : 0;
		uint64_t before = d->pos;
		int r = set_range(d, call, err);
		if (r == 0)
			r = oci_client_call(l->client, call, &resp, err);
		if (r < 0) /* broken after the last byte is whole */
			return d->whole && (r == -ECONNRESET || r == -ETIMEDOUT || r == -EALREADY) ? 0 : r;
		if (d->whole)
			return 0;
		if (resp.status == 416)
			wrong_length(d, d->pos, err);
		else if (resp.status != 200 && resp.status != 206)
			vl_fail(err, EPROTO, "the registry answers with status %d", resp.status);
		else if (n == MAX_SHORT_ANSWERS || d->pos == before)
			vl_fail(err, EBADMSG, "it ends after %" PRIu64 " bytes, the manifest says %" PRIu64, d->pos,
				d->want);
		else
			continue;
		return explain(d, err);
	}
}

static int fetch(struct download *d, struct vl_err *err)
{
	struct oci_downloads *l = d->list;
	int fd = new_file(l, err), r;

	if (fd < 0)
		return fd;
	pthread_mutex_lock(&l->lock);
	d->fd = fd;
	d->want = d->size;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&l->lock);
	if ((r = vl_hash_new(d->digest.algo, &d->hash, err)) < 0)
		return r;
	d->whole = d->bad = d->parts = false;
	r = fetch_bytes(d, err);
	if (r == -EBADMSG && d->bad && d->parts) {
		/* parts that do not belong together: once more, in one piece */
		vl_progress_warn(&l->client->say, "%s came in parts that do not fit; fetching it again", d->what);
		start_again(d);
		*err = (struct vl_err){ 0 };
		r = fetch_bytes(d, err);
	}
	d->call = (struct oci_call){ 0 };
	vl_freep(&d->from);
	if (r == 0 && l->blobs && l->blobs->keep && !d->document)
		l->blobs->keep(l->blobs->arg, &d->digest, d->fd);
	return r;
}

/* ---- threads ---- */

/* A disk may have changed it, or a crash: it is hashed before anybody reads it. -EBADMSG: not its digest's bytes. */
static int hash_kept(struct download *d, int fd, struct vl_err *err)
{
	VL_FREE uint8_t *buf = vl_alloc(HASH_PIECE);
	uint8_t raw[VL_HASH_MAX];
	char hex[VL_HASH_MAX * 2 + 1];
	int r = vl_hash_new(d->digest.algo, &d->hash, err);

	for (uint64_t pos = 0, n; r == 0 && pos < d->size; pos += n) {
		n = VL_MIN(d->size - pos, (uint64_t)HASH_PIECE);
		if (is_stopped(d))
			return vl_fail(err, ECANCELED, "stopped");
		if ((r = vl_pread_full(fd, buf, n, pos, d->what, err)) == 0)
			vl_hash_update(d->hash, buf, n);
	}
	if (r < 0)
		return r;
	vl_hex(raw, vl_hash_final(d->hash, raw), hex);
	return vl_streq(hex, d->digest.hex) ? 0 : vl_fail(err, EBADMSG, "it has %s:%s", d->digest.algo, hex);
}

/* Twice: behind a damaged one of our own may be a good one of the site's. */
static bool take_kept(struct download *d)
{
	struct oci_downloads *l = d->list;
	const struct oci_blob_store *b = l->blobs;
	struct vl_err why;

	for (int n = 0; n < 2 && b && b->lookup && !d->document; n++) {
		VL_CLOSE int fd = b->lookup(b->arg, &d->digest, d->size);
		if (fd < 0)
			return false;
		int r = hash_kept(d, fd, &why);
		vl_hash_free(vl_steal(&d->hash));
		if (r == 0) {
			pthread_mutex_lock(&l->lock);
			d->fd = vl_steal_fd(&fd);
			d->pos = d->size;
			pthread_mutex_unlock(&l->lock);
			return true;
		}
		if (r == -ECANCELED)
			return false;
		if (n == 0)
			vl_progress_warn(&l->client->say, "the kept %s is damaged and not used: %s", d->what, why.text);
		if (b->drop)
			b->drop(b->arg, &d->digest);
	}
	return false;
}

static struct download *next_work(struct oci_downloads *l)
{
	struct download *d, *any = NULL;

	for (d = l->first; d; d = d->next) {
		if (d->state != QUEUED)
			continue;
		if (d->wanted)
			return d;
		if (!any)
			any = d;
	}
	return l->n_open < MAX_OPEN ? any : NULL;
}

static void finish(struct download *d, int r, const struct vl_err *err)
{
	d->state = DONE;
	d->result = r;
	if (r < 0)
		d->err = *err;
	else
		d->released = d->size = d->pos;
	pthread_cond_broadcast(&d->changed);
}

/* Locked, but not while it fetches. */
static void run(struct oci_downloads *l, struct download *d)
{
	struct vl_err err = { 0 };

	d->state = RUNNING;
	l->n_open++;
	pthread_mutex_unlock(&l->lock);
	int r = take_kept(d) ? 0 : fetch(d, &err);
	vl_hash_free(vl_steal(&d->hash));
	pthread_mutex_lock(&l->lock);
	finish(d, r, &err);
}

static void *work(void *arg)
{
	struct oci_downloads *l = arg;

	pthread_mutex_lock(&l->lock);
	while (!l->stop) {
		struct download *d = next_work(l);
		if (!d) {
			l->n_idle++;
			pthread_cond_wait(&l->more, &l->lock);
			l->n_idle--;
			continue;
		}
		run(l, d);
	}
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

/* Locked. A thread for the work, unless there are enough. */
static void wake(struct oci_downloads *l)
{
	if (!l->n_idle && l->n_threads < l->client->net.downloads &&
	    pthread_create(&l->threads[l->n_threads], NULL, work, l) == 0)
		l->n_threads++;
	pthread_cond_signal(&l->more);
}

struct oci_downloads *oci_downloads_new(const struct oci_ref *ref, struct oci_client *c,
					const struct oci_blob_store *blobs)
{
	struct oci_downloads *l = vl_alloc(sizeof *l);

	l->ref = ref;
	l->client = c;
	l->blobs = blobs;
	l->last = &l->first;
	l->threads = vl_alloc(c->net.downloads * sizeof *l->threads);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->more, NULL);
	return l;
}

void oci_downloads_free(struct oci_downloads *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->more);
	pthread_mutex_unlock(&l->lock);
	for (unsigned i = 0; i < l->n_threads; i++)
		pthread_join(l->threads[i], NULL);
	while (l->first) {
		struct download *d = l->first;
		l->first = d->next;
		pthread_cond_destroy(&d->changed);
		vl_closep(&d->fd);
		free(d->what);
		free(d);
	}
	pthread_cond_destroy(&l->more);
	pthread_mutex_destroy(&l->lock);
	free(l->threads);
	free(l);
}

uint64_t oci_downloads_bytes(struct oci_downloads *l)
{
	pthread_mutex_lock(&l->lock);
	uint64_t n = l->bytes;
	pthread_mutex_unlock(&l->lock);
	return n;
}

/* ---- queue ---- */

static struct download *find(struct oci_downloads *l, const struct oci_digest *digest)
{
	struct download *d = l->first;

	while (d && !(vl_streq(d->digest.hex, digest->hex) && vl_streq(d->digest.algo, digest->algo)))
		d = d->next;
	return d;
}

static struct download *find_or_add(struct oci_downloads *l, const struct oci_digest *digest, uint64_t size)
{
	struct download *d = find(l, digest);

	if (d)
		return d;
	d = vl_alloc(sizeof *d);
	d->list = l;
	d->digest = *digest;
	d->size = size;
	d->document = size == UINT64_MAX;
	d->fd = -1;
	d->what = vl_asprintf("blob %s:%.12s", digest->algo, digest->hex);
	pthread_cond_init(&d->changed, NULL);
	*l->last = d;
	l->last = &d->next;
	return d;
}

void oci_downloads_add(struct oci_downloads *l, const struct oci_digest *digest, uint64_t size)
{
	pthread_mutex_lock(&l->lock);
	find_or_add(l, digest, size)->uses++;
	wake(l);
	pthread_mutex_unlock(&l->lock);
}

/* ---- readers ---- */

struct reader {
	struct oci_blob base;
	struct download *d;
	uint64_t pos;
};

static ssize_t follow_read(struct oci_blob *b, void *p, size_t n, struct vl_err *err)
{
	struct reader *f = (struct reader *)b;
	struct download *d = f->d;
	struct oci_downloads *l = d->list;

	pthread_mutex_lock(&l->lock);
	while (d->state != DONE && d->released <= f->pos)
		pthread_cond_wait(&d->changed, &l->lock);
	uint64_t released = d->released;
	int r = d->result;
	if (r < 0 && released <= f->pos)
		*err = d->err;
	pthread_mutex_unlock(&l->lock);
	if (released <= f->pos)
		return r; /* 0: the end, and all was right */
	n = VL_MIN(n, released - f->pos);
	r = vl_pread_full(d->fd, p, n, f->pos, b->what, err);
	if (r < 0)
		return r;
	f->pos += n;
	return (ssize_t)n;
}

static void reader_close(struct oci_blob *b)
{
	struct reader *f = (struct reader *)b;
	struct download *d = f->d;
	struct oci_downloads *l = d->list;

	pthread_mutex_lock(&l->lock);
	d->readers--;
	d->uses -= d->uses > 0;
	if (d->state == DONE && !d->readers && !d->uses && !d->document && d->result == 0) {
		/* nobody wants it any more; asked again, it is looked up or fetched again */
		vl_closep(&d->fd);
		l->n_open--;
		d->state = CLOSED;
		d->released = d->pos = d->most = 0;
		d->resumed = d->wanted = false;
		pthread_cond_signal(&l->more);
	}
	pthread_mutex_unlock(&l->lock);
	free(b->what);
	free(f);
}

static struct oci_blob *new_reader(struct download *d)
{
	struct reader *f = vl_alloc(sizeof *f);

	f->base = (struct oci_blob){ follow_read, reader_close, d->size, vl_strdup(d->what), true };
	f->d = d;
	d->readers++;
	return &f->base;
}

static int open_locked(struct oci_downloads *l, struct download *d, struct oci_blob **ret, struct vl_err *err)
{
	d->wanted = true;
	if (d->state == CLOSED)
		d->state = QUEUED;
	if (d->state == QUEUED)
		wake(l);
	if (d->state == QUEUED && !l->n_threads) /* a limit on threads: slower, but it goes on */
		run(l, d);
	while (d->state == QUEUED || (d->state == RUNNING && (d->size == UINT64_MAX || d->fd < 0)))
		pthread_cond_wait(&d->changed, &l->lock);
	if (d->state == DONE && d->result < 0) {
		*err = d->err;
		return d->result;
	}
	*ret = new_reader(d);
	return 0;
}

int oci_downloads_open(struct oci_downloads *l, const struct oci_digest *digest, struct oci_blob **ret,
		       struct vl_err *err)
{
	pthread_mutex_lock(&l->lock);
	struct download *d = find_or_add(l, digest, UINT64_MAX);
	int r = open_locked(l, d, ret, err);
	pthread_mutex_unlock(&l->lock);
	return r;
}
