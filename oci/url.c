/* A plain file behind http(s)://: is it the same as before, and its bytes. */
#include "download.h"

#include <inttypes.h>
#include <stdio.h>

#define MAX_FILE (64ull << 30) /* a SIF; those of whole software stacks stay below */
#define MAX_RESTARTS 5         /* because the file was another one: several servers behind one name differ for long */
#define CLOCK_GRAIN 2          /* seconds: a file of now may change again without a new Last-Modified */

/* What a URL says of itself is what the user typed: http:// is meant, but https never becomes http. */
static bool is_plain(const struct oci_client *c, const char *url)
{
	return c->net.no_https || vl_prefix(url, "http://");
}

/* Without the query, where signatures are. */
static char *shown(const char *url)
{
	return vl_printable(url, VL_MIN(strcspn(url, "?#"), (size_t)300));
}

static int status_error(const char *url, const struct oci_http_resp *r, struct vl_err *err)
{
	VL_FREE char *u = shown(url);

	if (r->status == 404 || r->status == 410)
		return vl_fail(err, ENOENT, "%s: there is no such file (%d)", u, r->status);
	if (r->status == 401 || r->status == 403)
		return vl_fail(err, EACCES, "%s: no permission (%d)", u, r->status);
	if (r->status == 429)
		return vl_fail(err, EBUSY, "%s: the server allows no more requests now (429); try again later", u);
	if (r->status >= 500)
		return vl_fail(err, EIO, "%s: the server has trouble: status %d; try again later", u, r->status);
	return vl_fail(err, EPROTO, "%s: the server answers with status %d", u, r->status);
}

/* ---- stat ---- */

struct stat_get {
	struct oci_file_info info;
	bool known;
};

/* What tells one file of this URL from another: RFC 9110 section 8.8. NULL = nothing. */
static const char *validator_of(const struct oci_http_resp *r)
{
	const char *etag = oci_http_head(r, "ETag", 0), *changed = oci_http_head(r, "Last-Modified", 0),
		   *date = oci_http_head(r, "Date", 0);
	int64_t then, now;

	if (etag)
		return etag;
	if (!changed || !date || oci_http_date(changed, &then) < 0 || oci_http_date(date, &now) < 0)
		return NULL;
	return now - then >= CLOCK_GRAIN ? changed : NULL;
}

static void read_info(const struct oci_http_resp *r, struct oci_file_info *ret)
{
	const char *validator = validator_of(r), *range = oci_http_head(r, "Content-Range", 0),
		   *length = oci_http_head(r, "Content-Length", 0);
	uint64_t first, last, n;

	*ret = (struct oci_file_info){ .size = UINT64_MAX };
	ret->validator = validator ? vl_strdup(validator) : NULL;
	if (r->status == 206) {
		if (range && oci_content_range(range, &first, &last, &n) == 0)
			ret->size = n;
	} else if (length && vl_parse_u64(length, 0, INT64_MAX, &n) == 0) {
		ret->size = n;
	}
}

/* The head of a GET is all that is wanted. */
static int stat_head(void *arg, const struct oci_http_resp *r, struct vl_err *err)
{
	struct stat_get *g = arg;

	read_info(r, &g->info);
	g->known = true;
	return vl_fail(err, ECANCELED, "only the head was wanted");
}

static int stat_sink(void *arg, const void *p, size_t n, struct vl_err *err)
{
	(void)arg, (void)p, (void)n;
	return vl_fail(err, ECANCELED, "only the head was wanted");
}

/* With the retries of all requests. */
static int request(struct oci_client *c, const struct oci_http_req *q, struct oci_http_resp *ret, struct vl_err *err)
{
	struct oci_http *h;
	VL_FREE char *u = shown(q->url);
	struct oci_tries tries = { 0 };
	int r = oci_client_http(c, &h, err);

	while (r >= 0) {
		r = oci_http_do(h, q, ret, err);
		/* with a receiver, only the caller knows where to go on */
		int again = q->sink ? 0 : oci_client_again(c, q, u, r, ret, c->net.retries, &tries, err);
		if (again <= 0)
			return again < 0 ? again : r;
		oci_http_resp_free(ret);
		r = 0;
	}
	return r;
}

int oci_http_stat(struct oci_client *c, const char *url, struct oci_file_info *ret, struct vl_err *err)
{
	static const char *const first_byte[] = { "Range: bytes=0-0", NULL };
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct oci_http_req q = { .method = "HEAD", .url = url, .plain_http = is_plain(c, url) };
	struct stat_get g = { 0 };
	q.max_seconds = OCI_HTTP_DOCUMENT_SECONDS;
	VL_FREE char *u = shown(url);
	int r = request(c, &q, &resp, err);

	if (r < 0)
		return vl_wrap(err, "%s", u);
	if (resp.status == 200) {
		read_info(&resp, ret);
		return 0;
	}
	/* some servers, and URLs that are signed for GET, refuse HEAD */
	if (resp.status != 405 && resp.status != 501 && resp.status != 403 && resp.status != 400)
		return status_error(url, &resp, err);
	oci_http_resp_free(&resp);
	q.method = "GET";
	q.heads = first_byte;
	q.head = stat_head;
	q.sink = stat_sink;
	q.arg = &g;
	r = request(c, &q, &resp, err);
	if (g.known) {
		*ret = g.info;
		return 0;
	}
	return r < 0 ? vl_wrap(err, "%s", u) : status_error(url, &resp, err);
}

/* ---- fetch ---- */

struct fetch {
	int fd;
	const struct oci_file_info *want; /* the file that is meant; its validator NULL = whichever there is */
	uint64_t pos, total;              /* total: UINT64_MAX = not said */
	uint64_t most;                    /* the largest pos so far */
	char *etag;                       /* a strong one: parts of the same text are parts of the same bytes */
	bool other;                       /* the answer was refused because it is of another file */
	const struct vl_progress *progress;
	const char *heads[3];
	char range[64];
	char *if_range;
};

/* The parts so far are of no use with what comes now. */
static int other_file(struct fetch *f, struct vl_err *err)
{
	f->pos = 0;
	f->total = UINT64_MAX;
	vl_freep(&f->etag);
	f->other = true;
	return vl_fail(err, ESTALE, "the server now has another file there than a moment ago; try again");
}

static int part_head(struct fetch *f, const struct oci_http_resp *r, struct vl_err *err)
{
	const char *etag = oci_http_head(r, "ETag", 0), *range = oci_http_head(r, "Content-Range", 0);
	uint64_t first, last, total;

	if (!f->heads[0] || !range || oci_content_range(range, &first, &last, &total) < 0 || first != f->pos)
		return vl_fail(err, EBADMSG, "another part came than the one asked for");
	/* not every server and proxy heeds If-Range */
	if ((etag && !vl_streq(etag, f->etag)) || (total != UINT64_MAX && f->total != UINT64_MAX && total != f->total))
		return other_file(f, err);
	if (f->total == UINT64_MAX)
		f->total = total;
	return f->total != UINT64_MAX && f->total > MAX_FILE
		       ? vl_fail(err, EFBIG, "the file is larger than the limit of %llu bytes", MAX_FILE)
		       : 0;
}

/* It is kept under the name that an earlier answer gave it: it must be the same. */
static bool is_wanted(const struct fetch *f, const struct oci_http_resp *r)
{
	const char *now = validator_of(r);

	if (!f->want->validator)
		return true;
	if (now && !vl_streq(now, f->want->validator))
		return false;
	return f->want->size == UINT64_MAX || f->total == f->want->size || (now && f->total == UINT64_MAX);
}

static int fetch_head(void *arg, const struct oci_http_resp *r, struct vl_err *err)
{
	struct fetch *f = arg;
	const char *etag = oci_http_head(r, "ETag", 0), *length = oci_http_head(r, "Content-Length", 0);
	uint64_t n;

	if (r->status == 206)
		return part_head(f, r, err);
	/* the whole, from its start */
	f->pos = 0;
	f->total = length && vl_parse_u64(length, 0, INT64_MAX, &n) == 0 ? n : UINT64_MAX;
	vl_freep(&f->etag);
	if (!is_wanted(f, r))
		return other_file(f, err);
	if (etag && *etag == '"')
		f->etag = vl_strdup(etag);
	if (f->total != UINT64_MAX && f->total > MAX_FILE)
		return vl_fail(err, EFBIG, "the file is larger than the limit of %llu bytes", MAX_FILE);
	return 0;
}

static int fetch_sink(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct fetch *f = arg;

	if (n > MAX_FILE - f->pos)
		return vl_fail(err, EFBIG, "the file is larger than the limit of %llu bytes", MAX_FILE);
	int r = vl_pwrite_full(f->fd, p, n, f->pos, "the downloaded file", err);
	if (r < 0)
		return r;
	f->pos += n;
	f->most = VL_MAX(f->most, f->pos);
	vl_progress_step(f->progress, "download", f->pos, f->total == UINT64_MAX ? 0 : f->total);
	return 0;
}

static void set_range(struct fetch *f)
{
	f->heads[0] = NULL;
	vl_freep(&f->if_range);
	if (!f->pos || !f->etag)
		return; /* from the start again: nothing else says that it is the same file */
	snprintf(f->range, sizeof f->range, "Range: bytes=%" PRIu64 "-", f->pos);
	f->if_range = vl_asprintf("If-Range: %s", f->etag);
	f->heads[0] = f->range;
	f->heads[1] = f->if_range;
}

static int fetch_all(struct oci_client *c, const char *url, struct fetch *f, struct vl_err *err)
{
	struct oci_http_req q = { .method = "GET", .url = url, .plain_http = is_plain(c, url), .heads = f->heads };
	VL_FREE char *u = shown(url);
	struct oci_tries tries = { .useful = &f->most };
	unsigned restarts = 0;

	q.head = fetch_head;
	q.sink = fetch_sink;
	q.arg = f;
	for (;;) {
		OCI_RESP struct oci_http_resp resp = { 0 };
		set_range(f);
		f->other = false;
		int r = request(c, &q, &resp, err);
		if (f->other && restarts++ < MAX_RESTARTS)
			continue;
		if (r == 0 && (resp.status == 200 || resp.status == 206) &&
		    (f->total == UINT64_MAX || f->pos == f->total))
			return 0;
		if (r == 0 && (resp.status == 200 || resp.status == 206))
			r = vl_fail(err, ECONNRESET, "the file ended after %" PRIu64 " of %" PRIu64 " bytes", f->pos,
				    f->total);
		int again = oci_client_again(c, &q, u, r, &resp, c->net.retries, &tries, err);
		if (again < 0 || (again == 0 && r < 0))
			return vl_wrap(err, "%s", u);
		if (again == 0)
			return status_error(url, &resp, err);
	}
}

int oci_http_fetch(struct oci_client *c, const char *url, const struct oci_file_info *want, int fd,
		   const struct vl_progress *progress, uint64_t *ret_size, struct vl_err *err)
{
	struct fetch f = { .fd = fd, .want = want, .total = UINT64_MAX, .progress = progress };
	int r = fetch_all(c, url, &f, err);

	free(f.etag);
	free(f.if_range);
	if (r < 0)
		return r;
	/* what an earlier, longer attempt may have left */
	if (ftruncate(fd, (off_t)f.pos) < 0)
		return vl_fail_sys(err, errno, "cannot write the downloaded file");
	*ret_size = f.pos;
	return 0;
}
