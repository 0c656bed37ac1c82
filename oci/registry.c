/* A registry as a source: manifests are documents, blobs come through download.c. */
#include "download.h"

#include <strings.h>

#define MT_OCI "application/vnd.oci.image."
#define MT_DOCKER "application/vnd.docker.distribution.manifest."

struct oci_registry {
	struct oci_ref ref; /* a copy */
	struct oci_client *client;
	struct oci_downloads *downloads;
	uint64_t documents; /* bytes of manifests */
};

int oci_registry_new(const struct oci_ref *ref, struct oci_client *c, const struct oci_blob_store *blobs,
		     struct oci_registry **ret, struct vl_err *err)
{
	if (!c)
		return vl_fail(err, EINVAL, "a registry cannot be reached without a client");
	struct oci_registry *r = vl_alloc(sizeof *r);
	r->ref = *ref;
	r->ref.path = NULL;
	r->ref.host = vl_strdup(ref->host);
	r->ref.repo = vl_strdup(ref->repo);
	r->ref.tag = ref->tag ? vl_strdup(ref->tag) : NULL;
	r->client = c;
	r->downloads = oci_downloads_new(&r->ref, c, blobs);
	*ret = r;
	return 0;
}

void oci_registry_free(struct oci_registry *r)
{
	if (!r)
		return;
	oci_downloads_free(r->downloads);
	oci_ref_free(&r->ref);
	free(r);
}

uint64_t oci_registry_downloaded(const struct oci_registry *r)
{
	return r->documents + oci_downloads_bytes(r->downloads);
}

void oci_registry_will_read(struct oci_registry *r, const struct oci_layer *const *layers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (*layers[i]->digest.algo)
			oci_downloads_add(r->downloads, &layers[i]->digest, layers[i]->size);
}

/* ---- a document in memory as a blob ---- */

struct text_blob {
	struct oci_blob base;
	char *text;
	size_t pos;
};

static ssize_t text_read(struct oci_blob *b, void *p, size_t n, struct vl_err *err)
{
	struct text_blob *t = (struct text_blob *)b;

	(void)err;
	n = VL_MIN(n, b->size - t->pos);
	memcpy(p, t->text + t->pos, n);
	t->pos += n;
	return (ssize_t)n;
}

static void text_close(struct oci_blob *b)
{
	struct text_blob *t = (struct text_blob *)b;
	free(t->text);
	free(b->what);
	free(t);
}

/* ---- manifests ---- */

/* Type and content must agree: what one reader takes for an image another must not take for an index. */
static int check_type(const struct oci_http_resp *resp, const char *what, struct vl_err *err)
{
	const char *head = oci_http_head(resp, "Content-Type", 0);
	VL_FREE char *type = vl_strndup(head ? head : "", head ? strcspn(head, "; \t") : 0);
	VL_FREE char *shown = vl_printable(type, strnlen(type, 100));
	VL_JSON vl_json *doc = NULL;

	if (vl_prefix(type, MT_DOCKER "v1+"))
		return vl_fail(err, ENOTSUP,
			       "%s has the old format schema 1, which no digest protects; push it again with a "
			       "current tool",
			       what);
	if (strcasecmp(type, "text/html") == 0)
		return vl_fail(err, EPROTO, "%s: the server answers with a web page; is it a registry?", what);
	int r = vl_json_parse(resp->body.data ? resp->body.data : "", resp->body.len, what, &doc, err);
	if (r < 0)
		return r;
	const char *own = vl_json_str(doc, "mediaType");
	if (own && (vl_prefix(type, MT_OCI) || vl_prefix(type, MT_DOCKER)) && !vl_streq(own, type)) {
		VL_FREE char *o = vl_printable(own, strnlen(own, 100));
		return vl_fail(err, EBADMSG, "%s: the registry says it is %s, it says itself that it is %s", what,
			       shown, o);
	}
	return 0;
}

/* By digest: the bytes are compared. By tag: with what the registry says they are, if it does. */
static int check_digest(const struct oci_http_resp *resp, const struct oci_digest *asked, const char *what,
			struct vl_err *err)
{
	const char *said = oci_http_head(resp, "Docker-Content-Digest", 0);
	const char *data = resp->body.data ? resp->body.data : "";
	struct oci_digest d;
	struct vl_err ignored;

	if (asked)
		return oci_digest_check(asked, data, resp->body.len, what, err);
	if (!said || !vl_prefix(said, "sha256:") || oci_digest_parse(said, &d, &ignored) < 0)
		return 0;
	int r = oci_digest_check(&d, data, resp->body.len, what, err);
	return r < 0 ? vl_wrap(err, "the registry's own digest is wrong") : 0;
}

struct wanted {
	const char *what;
	const struct oci_digest *digest; /* NULL = by tag */
};

static int check_manifest(void *arg, const struct oci_http_resp *resp, struct vl_err *err)
{
	const struct wanted *w = arg;
	int r = resp->status == 200 ? check_type(resp, w->what, err) : 0;

	return r < 0 ? r : check_digest(resp, w->digest, w->what, err);
}

static int get_manifest(struct oci_registry *g, const char *id, struct oci_blob **ret, struct vl_err *err)
{
	static const char *const accept[] = {
		"Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
		"application/vnd.docker.distribution.manifest.list.v2+json, "
		"application/vnd.docker.distribution.manifest.v2+json",
		NULL,
	};
	OCI_RESP struct oci_http_resp resp = { 0 };
	struct oci_digest d;
	struct vl_err ignored;
	bool by_digest = strchr(id, ':') != NULL;
	VL_FREE char *path = vl_asprintf("/manifests/%s", id), *what = vl_asprintf("manifest %.19s", id);
	struct oci_call call = { .ref = &g->ref, .path = path, .what = what, .digest_content = by_digest };

	struct wanted wanted = { what, by_digest ? &d : NULL };

	call.req.method = "GET";
	call.req.heads = accept;
	call.req.max_seconds = OCI_HTTP_DOCUMENT_SECONDS;
	call.req.arg = &wanted;
	call.check = check_manifest;
	if (by_digest && oci_digest_parse(id, &d, &ignored) < 0)
		return vl_fail(err, EINVAL, "'%.100s' is not a digest", id);
	int r = oci_client_call(g->client, &call, &resp, err);
	if (r < 0)
		return r;
	if (resp.status != 200)
		return vl_fail(err, EPROTO, "%s: the registry answers with status %d", what, resp.status);
	g->documents += resp.body.len;
	struct text_blob *t = vl_alloc(sizeof *t);
	t->base = (struct oci_blob){ text_read, text_close, resp.body.len, vl_steal(&what), true };
	t->text = vl_steal(&resp.body.data);
	resp.body = (struct vl_buf){ 0 };
	*ret = &t->base;
	return 0;
}

int oci_registry_file(struct oci_registry *g, const char *name, struct oci_blob **ret, struct vl_err *err)
{
	struct oci_digest d;
	const char *rest = vl_prefix(name, "manifests/");

	if (rest)
		return get_manifest(g, rest, ret, err);
	rest = vl_prefix(name, "blobs/");
	VL_FREE char *text = vl_strdup(rest ? rest : "");
	char *slash = strchr(text, '/');
	if (!slash)
		return vl_fail(err, ENOENT, "a registry has no file %.100s", name);
	*slash = ':';
	int r = oci_digest_parse(text, &d, err);
	return r < 0 ? r : oci_downloads_open(g->downloads, &d, ret, err);
}
