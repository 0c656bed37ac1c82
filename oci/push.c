/* Uploads: blobs in one piece or in chunks, manifests, and the tag that stands in for a referrers list. */
#include "client.h"

#include <stdio.h>

#define MT_INDEX "application/vnd.oci.image.index.v1+json"
#define WHOLE (64ull << 20) /* up to here one request; beyond, a break costs a chunk and not all */
#define CHUNK (32ull << 20)
#define MAX_STANDSTILL 3 /* times that a chunk may fail without one byte more being there */
#define MAX_REFERRERS_TRIES 4

struct upload {
	struct oci_client *c;
	const struct oci_ref *ref;
	const struct oci_upload *u;
	const struct vl_progress *progress;
	char *what;     /* "blob sha256:0123" for messages */
	char *location; /* of the session; NULL = none open */
	uint64_t chunk;
	uint64_t sent;     /* of the blob, before the current request */
	struct vl_err why; /* of the last chunk that failed */
};

static void upload_free(struct upload *p)
{
	free(p->what);
	free(p->location);
}

static void show_sent(void *arg, uint64_t n)
{
	const struct upload *p = arg;
	vl_progress_step(p->progress, "Uploading", VL_MIN(p->sent + n, p->u->size), p->u->size);
}

static struct oci_call new_call(const struct oci_ref *ref, const char *method, const char *path, const char *what)
{
	return (struct oci_call){
		.ref = ref, .push = true, .path = path, .what = what, .req = { .method = method, .body_fd = -1 }
	};
}

static int unexpected(const struct oci_ref *ref, const char *what, const char *doing, int status, struct vl_err *err)
{
	return vl_fail(err, EPROTO, "%s: the registry answered %s of the %s with status %d; it may be out of order",
		       ref->host, doing, what, status);
}

/* What the registry says it has stored; many say nothing. */
static int check_answer(const struct oci_ref *ref, const struct oci_http_resp *resp, const struct oci_digest *d,
			const char *what, struct vl_err *err)
{
	const char *said = oci_http_head(resp, "Docker-Content-Digest", 0);
	VL_FREE char *want = vl_asprintf("%s:%s", d->algo, d->hex);

	if (!said || vl_streq(said, want) || !vl_prefix(said, d->algo)) /* of another algorithm: says nothing here */
		return 0;
	VL_FREE char *shown = vl_printable(said, strnlen(said, 140));
	return vl_fail(err, EBADMSG, "%s: the registry stored the %s as %s; it was changed on the way, do not use it",
		       ref->host, what, shown);
}

/* ---- where a session is ---- */

static int take_location(struct upload *p, const struct oci_http_resp *resp, struct vl_err *err)
{
	const char *said = oci_http_head(resp, "Location", 0);
	VL_FREE char *url = NULL;

	if (!said && p->location)
		return 0; /* it stays where it was */
	if (!said)
		return vl_fail(err, EPROTO, "%s: the registry did not say where to upload the %s to", p->ref->host,
			       p->what);
	int r = oci_http_join(resp->url, said, &url, err);
	if (r < 0)
		return vl_wrap(err, "%s: place for the upload of the %s", p->ref->host, p->what);
	url[strcspn(url, "#")] = 0; /* what is appended later belongs to the query */
	bool plain = vl_prefix(url, "http://");
	if (!plain && !vl_prefix(url, "https://"))
		return vl_fail(err, EPROTO, "%s: the registry sends the upload of the %s to something that is not HTTP",
			       p->ref->host, p->what);
	if (plain && !vl_prefix(resp->url, "http://") && !p->c->net.no_https)
		return vl_fail(err, EPROTO,
			       "%s: the registry sends the upload of the %s from https to plain http, which anybody on "
			       "the way can read; --no-https allows it",
			       p->ref->host, p->what);
	free(p->location);
	p->location = vl_steal(&url);
	return 0;
}

/* "0-1023": so many bytes are there. Docker's registry says 0-0 for none. */
static bool parse_range(const char *s, uint64_t *ret)
{
	const char *rest = s ? vl_prefix(s, "bytes=") : NULL;
	uint64_t last;

	if (!s || !(rest = vl_prefix(rest ? rest : s, "0-")) || vl_parse_u64(rest, 0, UINT64_MAX - 1, &last) < 0)
		return false;
	*ret = last ? last + 1 : 0;
	return true;
}

static char *closing_url(const struct upload *p)
{
	return vl_asprintf("%s%cdigest=%s:%s", p->location, strchr(p->location, '?') ? '&' : '?', p->u->digest.algo,
			   p->u->digest.hex);
}

/* ---- before the upload ---- */

/* 1: there already. */
static int is_there(struct upload *p, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("/blobs/%s:%s", p->u->digest.algo, p->u->digest.hex);
	struct oci_call call = new_call(p->ref, "HEAD", path, p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };
	int r = oci_client_try(p->c, &call, &resp, err);
	uint64_t size;

	if (r < 0)
		return r;
	const char *length = oci_http_head(&resp, "Content-Length", 0);
	return resp.status == 200 && length && vl_parse_u64(length, 0, UINT64_MAX, &size) == 0 && size == p->u->size;
}

static int open_session(struct upload *p, const struct oci_http_resp *resp, struct vl_err *err)
{
	const char *said = oci_http_head(resp, "OCI-Chunk-Min-Length", 0);
	uint64_t min;

	vl_freep(&p->location);
	p->chunk = said && vl_parse_u64(said, 1, UINT64_MAX, &min) == 0 ? VL_MAX(min, CHUNK) : CHUNK;
	p->sent = 0;
	return take_location(p, resp, err);
}

static int begin(struct upload *p, struct vl_err *err)
{
	static const char *const heads[] = { "Content-Type: application/octet-stream", NULL };
	struct oci_call call = new_call(p->ref, "POST", "/blobs/uploads/", p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };

	call.req.heads = heads;
	int r = oci_client_call(p->c, &call, &resp, err);
	if (r < 0)
		return r;
	return resp.status == 202 ? open_session(p, &resp, err)
				  : unexpected(p->ref, p->what, "the beginning", resp.status, err);
}

/* 1: the registry had the blob in the other repository; 0: no such source, not allowed, or not known there. */
static int mount(struct upload *p, const char *from, struct vl_err *err)
{
	const struct oci_digest *d = &p->u->digest;
	VL_FREE char *path = vl_asprintf("/blobs/uploads/?mount=%s:%s&from=%s", d->algo, d->hex, from);
	VL_FREE char *scope = vl_asprintf("repository:%s:pull", from);
	struct oci_call call = new_call(p->ref, "POST", path, p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };

	call.more_scope = scope;
	int r = oci_client_try(p->c, &call, &resp, err);
	if (r < 0)
		return r == -EACCES ? 0 : r;
	if (resp.status == 202) /* a session instead, which nobody may want */
		return open_session(p, &resp, err);
	return resp.status == 201;
}

/* Nobody needs the rest of a broken upload; registries also clean up by themselves. */
static int never_again(void *arg, struct oci_call *call, struct vl_err *err)
{
	(void)arg, (void)call;
	return vl_fail(err, ECANCELED, "not tried again");
}

static void cancel(struct upload *p, int why)
{
	struct vl_err ignored;
	OCI_RESP struct oci_http_resp resp = { 0 };

	if (!p->location || why == -ECONNREFUSED || why == -ECONNRESET || why == -ETIMEDOUT || why == -EHOSTUNREACH)
		return;
	struct oci_call call = new_call(p->ref, "DELETE", p->location, p->what);
	call.again = never_again;
	(void)!oci_client_try(p->c, &call, &resp, &ignored);
}

/* ---- the upload; -EAGAIN: the session is gone, begin another ---- */

static void set_body(const struct upload *p, struct oci_call *call, uint64_t off, uint64_t n)
{
	static const char *const heads[] = { "Content-Type: application/octet-stream", NULL };

	call->req.heads = heads;
	call->req.body_len = n;
	call->req.body = p->u->data && n ? (const char *)p->u->data + off : NULL;
	call->req.body_fd = p->u->data ? -1 : p->u->fd;
	call->req.body_off = off;
	call->req.sent = show_sent;
	call->req.arg = (void *)p;
}

/* Closes the session; off: what is still to be sent goes along. */
static int finish(struct upload *p, uint64_t off, struct vl_err *err)
{
	VL_FREE char *url = closing_url(p);
	struct oci_call call = new_call(p->ref, "PUT", url, p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };

	set_body(p, &call, off, p->u->size - off);
	int r = oci_client_call(p->c, &call, &resp, err);
	if (r == -ENOENT)
		return err->code = EAGAIN, -EAGAIN;
	if (r < 0)
		return r;
	if (resp.status == 416)
		return vl_fail(err, EAGAIN, "%s: the registry lost a part of the %s", p->ref->host, p->what);
	if (resp.status != 201 && resp.status != 200 && resp.status != 204)
		return unexpected(p->ref, p->what, "the end", resp.status, err);
	vl_freep(&p->location); /* closed: nothing is left to cancel */
	return check_answer(p->ref, &resp, &p->u->digest, p->what, err);
}

/* How far the registry is, after something went wrong. */
static int ask_offset(struct upload *p, struct vl_err *err)
{
	struct oci_call call = new_call(p->ref, "GET", p->location, p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct vl_err why;
	uint64_t have = 0;
	int r = oci_client_call(p->c, &call, &resp, &why);

	if (r == -ENOENT || (r == 0 && (resp.status == 416 || !parse_range(oci_http_head(&resp, "Range", 0), &have))))
		return vl_fail(err, EAGAIN, "%s: the registry lost the upload of the %s", p->ref->host, p->what);
	if (r < 0)
		return *err = why, r;
	if (have > p->u->size)
		return vl_fail(err, EPROTO, "%s: the registry says it has more of the %s than there is", p->ref->host,
			       p->what);
	p->sent = have;
	return take_location(p, &resp, err);
}

static int send_chunk(struct upload *p, struct vl_err *err)
{
	uint64_t n = VL_MIN(p->chunk, p->u->size - p->sent), have;
	VL_FREE char *range = vl_asprintf("Content-Range: %llu-%llu", (unsigned long long)p->sent,
					  (unsigned long long)(p->sent + n - 1));
	const char *const heads[] = { "Content-Type: application/octet-stream", range, NULL };
	struct oci_call call = new_call(p->ref, "PATCH", p->location, p->what);
	OCI_RESP struct oci_http_resp resp = { 0 };

	set_body(p, &call, p->sent, n);
	call.req.heads = heads;
	int r = oci_client_call(p->c, &call, &resp, err);
	bool broken = r == -EIO || r == -ECONNRESET || r == -ETIMEDOUT || r == -EBUSY || r == -ENOENT;
	if (r < 0 && !broken)
		return r;
	if (r < 0 || resp.status == 416) {
		p->why = r < 0 ? *err : (struct vl_err){ 0 };
		return ask_offset(p, err);
	}
	if (resp.status != 202 && resp.status != 204 && resp.status != 201)
		return unexpected(p->ref, p->what, "a chunk", resp.status, err);
	if (!parse_range(oci_http_head(&resp, "Range", 0), &have) || have > p->sent + n)
		have = p->sent + n;
	p->sent = have;
	return take_location(p, &resp, err);
}

static int send_chunks(struct upload *p, struct vl_err *err)
{
	uint64_t furthest = 0;

	for (unsigned still = 0; p->sent < p->u->size;) {
		int r = send_chunk(p, err);
		if (r < 0)
			return r;
		if (p->sent > furthest)
			still = 0;
		else if (++still == MAX_STANDSTILL)
			return p->why.code
				       ? (*err = p->why, -err->code)
				       : vl_fail(err, EIO,
						 "%s: the registry does not take byte %llu of the %s; try again later",
						 p->ref->host, (unsigned long long)p->sent, p->what);
		furthest = VL_MAX(furthest, p->sent);
	}
	return finish(p, p->sent, err);
}

int oci_push_find(struct oci_client *c, const struct oci_ref *ref, const struct oci_digest *d, uint64_t size,
		  const char *mount_from, struct vl_err *err)
{
	struct oci_upload u = { .fd = -1, .size = size, .digest = *d };
	VL_CLEANUP(upload_free) struct upload p = { .c = c, .ref = ref, .u = &u };

	p.what = vl_asprintf("blob %s:%.12s", d->algo, d->hex);
	int r = is_there(&p, err);
	if (r != 0 || !mount_from)
		return r;
	r = mount(&p, mount_from, err);
	cancel(&p, r);
	return r;
}

int oci_push_blob(struct oci_client *c, const struct oci_ref *ref, const struct oci_upload *u,
		  const struct vl_progress *progress, struct vl_err *err)
{
	VL_CLEANUP(upload_free) struct upload p = { .c = c, .ref = ref, .u = u, .progress = progress };
	int r;

	p.what = vl_asprintf("blob %s:%.12s", u->digest.algo, u->digest.hex);
	if ((r = is_there(&p, err)) != 0)
		return r < 0 ? r : 0;
	/* A registry that restarts loses its sessions: one begun anew is a try like any other. */
	for (unsigned i = 0; i <= c->net.retries; i++) {
		if ((r = begin(&p, err)) < 0)
			return r;
		r = u->size > WHOLE ? send_chunks(&p, err) : finish(&p, 0, err);
		if (r != -EAGAIN)
			break;
	}
	if (r < 0)
		cancel(&p, r);
	return r == -EAGAIN ? (err->code = EIO, -EIO) : r;
}

/* ---- manifests ---- */

static int put_manifest(struct oci_client *c, const struct oci_ref *ref, const char *name, const char *media_type,
			const char *if_match, const char *text, size_t len, struct oci_http_resp *ret,
			struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("/manifests/%s", name), *what = vl_asprintf("manifest %.72s", name);
	VL_FREE char *type = vl_asprintf("Content-Type: %s", media_type);
	VL_FREE char *match = if_match ? vl_asprintf("If-Match: %s", if_match) : NULL;
	const char *const heads[] = { type, match, NULL };
	struct oci_call call = new_call(ref, "PUT", path, what);
	struct oci_digest d = { .algo = "sha256" };
	uint8_t sha[32];

	call.req.heads = heads;
	call.req.body = text;
	call.req.body_len = len;
	int r = if_match ? oci_client_try(c, &call, ret, err) : oci_client_call(c, &call, ret, err);
	if (r < 0 || (if_match && ret->status == 412))
		return r;
	if (ret->status < 200 || ret->status > 204)
		return unexpected(ref, what, "the upload", ret->status, err);
	vl_sha256(text, len, sha);
	vl_hex(sha, sizeof sha, d.hex);
	return check_answer(ref, ret, &d, what, err);
}

/* ---- the referrers tag: distribution-spec 1.1, "Referrers Tag Schema" ---- */

struct referrer {
	const char *media_type;
	const vl_json *manifest;
	const char *digest; /* "sha256:..." */
	size_t size;
};

static vl_json *referrer_entry(const struct referrer *f)
{
	vl_json *e = vl_json_new_obj(), *notes = vl_json_obj(f->manifest, "annotations");
	const char *type = vl_json_str(f->manifest, "artifactType");

	if (!type)
		type = vl_json_str(vl_json_obj(f->manifest, "config"), "mediaType");
	vl_json_set(e, "mediaType", vl_json_new_str(f->media_type));
	vl_json_set(e, "digest", vl_json_new_str(f->digest));
	vl_json_set(e, "size", vl_json_new_int((int64_t)f->size));
	if (type)
		vl_json_set(e, "artifactType", vl_json_new_str(type));
	if (notes)
		vl_json_set(e, "annotations", vl_json_ref(notes));
	return e;
}

static void copy_member(void *arg, const char *key, const vl_json *value)
{
	if (!vl_streq(key, "manifests"))
		vl_json_set(arg, key, vl_json_ref(value)); /* the old index into the new one */
}

/* The old index (NULL = none) with our entry; returns new. */
static char *referrers_text(const vl_json *old, const struct referrer *f)
{
	VL_JSON vl_json *index = vl_json_new_obj();
	vl_json *list = vl_json_new_arr();
	const vl_json *before = vl_json_arr(old, "manifests");

	vl_json_set(index, "schemaVersion", vl_json_new_int(2));
	vl_json_set(index, "mediaType", vl_json_new_str(MT_INDEX));
	if (old)
		vl_json_each(old, copy_member, index);
	for (size_t i = 0; i < vl_json_len(before); i++) {
		const vl_json *e = vl_json_at(before, i);
		const char *digest = vl_json_str(e, "digest");
		if (!digest || !vl_streq(digest, f->digest))
			vl_json_add(list, vl_json_ref(e));
	}
	vl_json_add(list, referrer_entry(f));
	vl_json_set(index, "manifests", list);
	return vl_json_text(index, false);
}

/* The index under the tag, and its ETag; both NULL when there is none. */
static int get_referrers(struct oci_client *c, const struct oci_ref *ref, const char *tag, vl_json **ret,
			 char **ret_etag, struct vl_err *err)
{
	static const char *const heads[] = { "Accept: " MT_INDEX, NULL };
	VL_FREE char *path = vl_asprintf("/manifests/%s", tag);
	struct oci_call call = new_call(ref, "GET", path, "list of referrers");
	OCI_RESP struct oci_http_resp resp = { 0 };
	VL_JSON vl_json *j = NULL;

	call.req.heads = heads;
	int r = oci_client_call(c, &call, &resp, err);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (resp.status != 200)
		return unexpected(ref, call.what, "the request", resp.status, err);
	if ((r = vl_json_parse(resp.body.data ? resp.body.data : "", resp.body.len, "the list of referrers", &j, err)) <
	    0)
		return r;
	if (!vl_json_arr(j, "manifests"))
		return vl_fail(err, EINVAL, "%s: the tag %s is no list of referrers; nothing was added to it",
			       ref->host, tag);
	const char *etag = oci_http_head(&resp, "ETag", 0);
	*ret_etag = etag ? vl_strdup(etag) : NULL;
	*ret = vl_steal(&j);
	return 0;
}

static int add_referrer(struct oci_client *c, const struct oci_ref *ref, const struct referrer *f, struct vl_err *err)
{
	const char *subject = vl_json_str(vl_json_obj(f->manifest, "subject"), "digest");
	struct oci_digest d;
	int r = subject ? oci_digest_parse(subject, &d, err) : vl_fail(err, EINVAL, "a subject needs a digest");

	if (r < 0)
		return r;
	VL_FREE char *tag = vl_asprintf("%s-%.64s", d.algo, d.hex); /* a tag ends at 128 */
	for (unsigned i = 0; i < MAX_REFERRERS_TRIES; i++) {
		VL_JSON vl_json *old = NULL;
		VL_FREE char *etag = NULL;
		OCI_RESP struct oci_http_resp resp = { 0 };
		if ((r = get_referrers(c, ref, tag, &old, &etag, err)) < 0)
			return r;
		VL_FREE char *text = referrers_text(old, f);
		size_t len = strlen(text);
		if (len > VL_JSON_MAX)
			return vl_fail(err, EFBIG, "%s: the list of referrers under %s is full", ref->host, tag);
		r = put_manifest(c, ref, tag, MT_INDEX, etag, text, len, &resp, err);
		if (r < 0 || resp.status != 412)
			return r;
	}
	return vl_fail(err, EBUSY, "%s: others change the list of referrers under %s all the time; try again later",
		       ref->host, tag);
}

int oci_push_manifest(struct oci_client *c, const struct oci_ref *ref, const char *media_type, const char *text,
		      size_t len, struct oci_digest *ret_digest, struct vl_err *err)
{
	OCI_RESP struct oci_http_resp resp = { 0 };
	VL_JSON vl_json *j = NULL;
	struct oci_digest d = { .algo = "sha256" };
	uint8_t sha[32];
	int r = vl_json_parse(text, len, "the manifest", &j, err);

	if (r < 0)
		return r;
	vl_sha256(text, len, sha);
	vl_hex(sha, sizeof sha, d.hex);
	VL_FREE char *digest = vl_asprintf("%s:%s", d.algo, d.hex);
	if ((r = put_manifest(c, ref, ref->tag ? ref->tag : digest, media_type, NULL, text, len, &resp, err)) < 0)
		return r;
	struct referrer f = { media_type, j, digest, len };
	if (vl_json_obj(j, "subject") && !oci_http_head(&resp, "OCI-Subject", 0) &&
	    (r = add_referrer(c, ref, &f, err)) < 0)
		return r;
	*ret_digest = d;
	return 0;
}
