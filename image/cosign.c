/* Signatures at the source: found, verified and kept. The child speaks to the registry and parses; what it found crosses
 * a pipe as records. */
#include "cosign.h"

#include "child.h"
#include "convert.h"

#include <signal.h>

#define MAX_MANIFESTS 32u    /* a few are usual; each costs a request */
#define MAX_BLOBS 128u       /* who signs again adds one to the others */
#define MAX_KEPT 36u         /* the table of a SIF has 48 places */
#define MAX_BLOB VL_JSON_MAX /* an attestation that holds a bill of materials has some MB */
#define MAX_ALL (64u << 20)

#define ANY_COSIGN "application/vnd.dev.cosign."
#define ANY_SIGSTORE "application/vnd.dev.sigstore."
#define MT_SIMPLE "application/vnd.dev.cosign.simplesigning.v1+json"
#define MT_DSSE "application/vnd.dsse.envelope.v1+json"
#define MT_BUNDLE "application/vnd.dev.sigstore.bundle"

void img_cosign_free(struct img_cosign *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].name);
		free(c->v[i].data);
	}
	vl_freep(&c->v);
	vl_freep(&c->pinned);
	vl_freep(&c->digest);
	vl_strv_free(&c->signers);
	vl_strv_free(&c->refused);
	c->n = 0;
}

static void add_object(struct img_cosign *c, bool manifest, const char *digest, const void *p, size_t n)
{
	VL_FREE char *name = vl_asprintf("cosign:%s", digest);

	for (size_t i = 0; i < c->n; i++)
		if (vl_streq(c->v[i].name, name))
			return;
	c->v = vl_realloc(c->v, c->n + 1, sizeof *c->v);
	c->v[c->n++] = (struct img_cosign_object){ manifest, vl_steal(&name), vl_memdup(p, n), n };
}

/* ---- the child ---- */

struct fetching {
	const struct img_cosign_opts *o;
	struct img_source src;
	struct img_child *child;
	struct img_cosign_check check;
	struct oci_digest digests[2]; /* what the reference led to, and the manifest behind it */
	struct vl_strv seen;          /* digests of manifests */
	size_t blobs, bytes;
	struct img_cosign out;
	struct vl_buf in; /* the parent's */
};

static int get(struct fetching *w, const char *name, size_t limit, char **ret, size_t *ret_n, struct vl_err *err)
{
	int r = oci_source_document(w->src.oci, name, ret, ret_n, err);

	if (r == 0 && (*ret_n > limit || *ret_n > MAX_ALL - w->bytes)) {
		vl_freep(ret);
		return vl_fail(err, EFBIG, "%s is larger than the limit for signatures", name);
	}
	if (r == 0)
		w->bytes += *ret_n;
	return r;
}

/* The content of a layer, whose size and digest are checked on the way. */
static int get_blob(struct fetching *w, const char *digest, uint64_t size, char **ret, size_t *ret_n,
		    struct vl_err *err)
{
	struct oci_layer layer = { .size = size };
	const struct oci_layer *one = &layer;
	int r = oci_digest_parse(digest, &layer.digest, err);

	if (r < 0)
		return r;
	if (size > MAX_BLOB)
		return vl_fail(err, EFBIG, "it is larger than the limit of %u bytes", MAX_BLOB);
	VL_FREE char *name = vl_asprintf("blobs/%s/%s", layer.digest.algo, layer.digest.hex);
	oci_source_will_read(w->src.oci, &one, 1);
	return get(w, name, MAX_BLOB, ret, ret_n, err);
}

static void refuse(struct fetching *w, const char *digest, const char *why)
{
	VL_FREE char *d = vl_printable(digest, strnlen(digest, 80)), *text = vl_printable(why, strlen(why));

	if (w->out.refused.n < MAX_BLOBS)
		vl_strv_take(&w->out.refused, vl_asprintf("%.19s: %s", d, text));
}

static enum img_cosign_kind kind_of(const char *type)
{
	return vl_streq(type, MT_SIMPLE) || vl_prefix(type, MT_BUNDLE) ? IMG_COSIGN_SIGNATURE
	       : vl_streq(type, MT_DSSE)                               ? IMG_COSIGN_ATTESTATION
								       : 0;
}

static int verify(struct fetching *w, const vl_json *layer, const char *type, const char *text, size_t n,
		  enum img_cosign_kind *kind, struct vl_err *err)
{
	const vl_json *notes = vl_json_obj(layer, "annotations");
	const char *signature = vl_json_str(notes, "dev.cosignproject.cosign/signature");
	const struct sif_key *key;
	int r;

	if (vl_streq(type, MT_SIMPLE))
		r = signature ? img_cosign_payload(&w->check, text, n, signature, &key, err)
			      : vl_fail(err, EINVAL, "its signature is missing");
	else if (vl_streq(type, MT_DSSE))
		r = img_cosign_envelope(&w->check, text, n, kind, &key, err);
	else
		r = img_cosign_bundle(&w->check, text, n, kind, &key, err);
	if (r == -EKEYREJECTED && vl_json_str(notes, "dev.sigstore.cosign/certificate"))
		vl_wrap(err, "signed with a certificate (keyless), which is not verified here");
	if (r == 0 && !vl_strv_has(&w->out.signers, sif_key_id(key)))
		vl_strv_add(&w->out.signers, sif_key_id(key));
	return r;
}

/* 1: it was kept. */
static int take_layer(struct fetching *w, const vl_json *layer, struct vl_err *err)
{
	const char *type = vl_json_str(layer, "mediaType"), *digest = vl_json_str(layer, "digest");
	enum img_cosign_kind kind = type ? kind_of(type) : 0;
	VL_FREE char *text = NULL;
	struct vl_err why;
	int64_t size;
	size_t n;

	if (!kind || !digest || !vl_json_int(layer, "size", &size) || size < 0)
		return 0;
	if (++w->blobs > MAX_BLOBS) {
		refuse(w, digest, "there are more than are looked at");
		return 0;
	}
	int r = get_blob(w, digest, (uint64_t)size, &text, &n, err);
	if (r == -EFBIG || r == -ENOENT || r == -EBADMSG || r == -EINVAL) {
		refuse(w, digest, err->text);
		return 0;
	}
	if (r < 0)
		return r;
	if (w->o->n_keys && verify(w, layer, type, text, n, &kind, &why) < 0) {
		refuse(w, digest, why.text);
		return 0;
	}
	*(kind == IMG_COSIGN_SIGNATURE ? &w->out.signatures : &w->out.attestations) += 1;
	if (!w->o->copy)
		return 0;
	if (w->out.n + 2 > MAX_KEPT) { /* with its manifest */
		refuse(w, digest, "there is no room for it in the image");
		return 0;
	}
	add_object(&w->out, false, digest, text, n);
	return 1;
}

static int take_manifest(struct fetching *w, const char *text, size_t n, const char *digest, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = vl_json_parse(text, n, "the manifest of a signature", &j, err);
	bool any = false;

	if (r < 0)
		return r;
	const vl_json *layers = vl_json_arr(j, "layers");
	for (size_t i = 0; i < vl_json_len(layers); i++) {
		if ((r = take_layer(w, vl_json_at(layers, i), err)) < 0)
			return r;
		any |= r == 1;
	}
	if (any)
		add_object(&w->out, true, digest, text, n);
	return 0;
}

/* name: "manifests/...". One that is not there, or damaged, is no signature. */
static int look_at(struct fetching *w, const char *name, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	uint8_t sha[32];
	char hex[65];
	size_t n;
	int r;

	if (w->seen.n == MAX_MANIFESTS)
		return 0;
	r = get(w, name, VL_JSON_MAX, &text, &n, err);
	if (r == 0) {
		vl_sha256(text, n, sha);
		vl_hex(sha, sizeof sha, hex);
		VL_FREE char *digest = vl_asprintf("sha256:%s", hex);
		if (vl_strv_has(&w->seen, digest))
			return 0;
		vl_strv_add(&w->seen, digest);
		r = take_manifest(w, text, n, digest, err);
	}
	if (r != -EBADMSG && r != -EINVAL && r != -EFBIG)
		return r == -ENOENT ? 0 : r;
	refuse(w, name + strlen("manifests/"), err->text);
	return 0;
}

static int look_at_referrers(struct fetching *w, const struct oci_digest *subject, struct vl_err *err)
{
	VL_JSON vl_json *list = NULL;
	struct oci_digest d;
	struct vl_err ignored;
	int r = oci_referrers(w->src.client, &w->src.ref, subject, &list, err);

	for (size_t i = 0; r == 0 && i < vl_json_len(list); i++) {
		const vl_json *e = vl_json_at(list, i);
		const char *type = vl_json_str(e, "artifactType"), *digest = vl_json_str(e, "digest");
		if (!type || !digest || oci_digest_parse(digest, &d, &ignored) < 0 ||
		    (!vl_prefix(type, ANY_COSIGN) && !vl_prefix(type, ANY_SIGSTORE)))
			continue;
		VL_FREE char *name = vl_asprintf("manifests/%s", digest);
		r = look_at(w, name, err);
	}
	return r;
}

static int look_for(struct fetching *w, const struct oci_digest *subject, struct vl_err *err)
{
	static const char *const ends[] = { "sig", "att" };
	int r = look_at_referrers(w, subject, err);

	for (size_t i = 0; r == 0 && i < VL_COUNT(ends); i++) {
		VL_FREE char *name = vl_asprintf("manifests/%s-%.64s.%s", subject->algo, subject->hex, ends[i]);
		r = look_at(w, name, err);
	}
	return r;
}

/* ---- across the pipe ---- */

enum { PINNED = 1, DIGEST, SIGNER, REFUSED, MANIFEST, BLOB };
struct head {
	uint32_t type, name, data; /* bytes of what follows */
};

static void put(struct vl_buf *b, uint32_t type, const char *name, const void *p, size_t n)
{
	struct head h = { type, (uint32_t)strlen(name), (uint32_t)n };

	vl_buf_add(b, &h, sizeof h);
	vl_buf_add(b, name, h.name);
	if (n)
		vl_buf_add(b, p, n);
}

static void put_all(struct vl_buf *b, const struct img_cosign *c)
{
	put(b, PINNED, c->pinned, NULL, 0);
	put(b, DIGEST, c->digest, NULL, 0);
	for (size_t i = 0; i < c->signers.n; i++)
		put(b, SIGNER, c->signers.v[i], NULL, 0);
	for (size_t i = 0; i < c->refused.n; i++)
		put(b, REFUSED, c->refused.v[i], NULL, 0);
	for (size_t i = 0; i < c->n; i++)
		put(b, c->v[i].manifest ? MANIFEST : BLOB, c->v[i].name, c->v[i].data, c->v[i].len);
}

static void set_once(char **to, const char *p, size_t n)
{
	if (!*to)
		*to = vl_strndup(p, n);
}

static bool take_record(const struct head *h, const char *p, struct img_cosign *c)
{
	const char *data = p + h->name;

	switch (h->type) {
	case PINNED:
		set_once(&c->pinned, p, h->name);
		return true;
	case DIGEST:
		set_once(&c->digest, p, h->name);
		return true;
	case SIGNER:
	case REFUSED:
		vl_strv_take(h->type == SIGNER ? &c->signers : &c->refused, vl_printable(p, h->name));
		return true;
	case MANIFEST:
	case BLOB: {
		VL_FREE char *name = vl_strndup(p, h->name);
		const char *digest = vl_prefix(name, "cosign:");
		if (digest)
			add_object(c, h->type == MANIFEST, digest, data, h->data);
		return digest != NULL && c->n <= MAX_KEPT;
	}
	default:
		return false;
	}
}

static bool take_all(const char *p, size_t left, struct img_cosign *c)
{
	struct head h;

	while (left) {
		if (left < sizeof h)
			return false;
		memcpy(&h, p, sizeof h);
		p += sizeof h;
		left -= sizeof h;
		if (h.name > 1024 || h.name > left || h.data > left - h.name || !take_record(&h, p, c))
			return false;
		p += h.name + h.data;
		left -= h.name + h.data;
	}
	return c->pinned && c->digest;
}

struct counts {
	size_t signatures, attestations;
};

/* By the digest that all of this is about: what is built then is what was verified. */
static void pin(struct fetching *w)
{
	struct oci_ref r = w->src.ref;

	r.digest = w->digests[0];
	VL_FREE char *name = oci_ref_name(&r);
	w->out.pinned = vl_asprintf("docker://%s", name);
	w->out.digest = vl_asprintf("%s:%s", w->digests[0].algo, w->digests[0].hex);
}

static int judge(const struct fetching *w, struct vl_err *err)
{
	const struct img_cosign *c = &w->out;

	if (!w->o->n_keys || c->signatures)
		return 0;
	if (!c->refused.n && !c->attestations)
		return vl_fail(err, ENODATA, "%s: the registry has no cosign signature of %s", w->src.from, c->digest);
	if (!c->refused.n)
		return vl_fail(err, ENODATA, "%s: there are attestations of %s, but no signature", w->src.from,
			       c->digest);
	return vl_fail(err, EKEYREJECTED, "%s: no cosign signature of %s is by %s; %zu refused, the first: %s",
		       w->src.from, c->digest, w->o->n_keys > 1 ? "one of the keys" : sif_key_id(w->o->keys[0]),
		       c->refused.n, c->refused.v[0]);
}

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	struct fetching *w = arg;
	struct counts *counts = result;
	struct img_found found;
	VL_BUF struct vl_buf out = { 0 };
	int r;

	(void)sock;
	signal(SIGPIPE, SIG_IGN);
	vl_raise_file_limit();
	oci_client_say(w->src.client, p);
	if ((r = vl_drop_privileges(err)) < 0 || (r = img_source_resolve(&w->src, w->o->arch, &found, err)) < 0)
		return r;
	w->digests[0] = *w->src.image.named.algo ? w->src.image.named : w->src.image.manifest;
	w->digests[1] = w->src.image.manifest;
	bool two = !vl_streq(w->digests[0].hex, w->digests[1].hex);
	w->check = (struct img_cosign_check){ w->o->keys, w->o->n_keys, w->digests, two ? 2 : 1 };
	pin(w);
	if ((r = look_for(w, &w->digests[0], err)) < 0 || (two && (r = look_for(w, &w->digests[1], err)) < 0) ||
	    (r = judge(w, err)) < 0)
		return r;
	*counts = (struct counts){ w->out.signatures, w->out.attestations };
	put_all(&out, &w->out);
	r = vl_write_full(w->child->pipe, out.data, out.len);
	close(w->child->pipe);
	return r < 0 ? vl_fail_sys(err, -r, "cannot hand over what was read") : 0;
}

/* ---- the parent ---- */

static int take_written(void *arg, int fd, bool *ret_end, struct vl_err *err)
{
	struct fetching *w = arg;

	return img_child_gather(w->child, fd, &w->in, MAX_ALL + (1u << 20), "the signatures", ret_end, err);
}

static int open_source(const struct img_cosign_opts *o, const struct vl_progress *say, struct img_source *ret,
		       struct vl_err *err)
{
	struct img_build_opts b = { .source = o->source, .net = o->net, .arch = o->arch };
	int r = img_source_open(&b, NULL, say, ret, err);

	if (r == 0 && (ret->kind != IMG_SOURCE_OCI || ret->ref.kind != OCI_REGISTRY))
		return vl_fail(err, ENOTSUP, "%s: cosign's signatures are at registries: docker://... is one",
			       o->source);
	return r;
}

int img_cosign_fetch(const struct img_cosign_opts *opts, const struct vl_progress *progress, struct img_cosign *ret,
		     int *ret_signal, struct vl_err *err)
{
	struct img_cosign_opts o = *opts;
	struct fetching w = { .o = &o, .src = { .dirfd = -1, .into = -1 } };
	struct counts counts = { 0 };
	struct img_child child = { .name = "verifying",
				   .interrupted = "nothing was written",
				   .work = work,
				   .written = take_written,
				   .result_size = sizeof counts,
				   .arg = &w };
	struct img_cosign c = { 0 };

	w.child = &child;
	o.arch = o.arch ? o.arch : sif_host_arch();
	int r = open_source(&o, progress, &w.src, err);
	if (r == 0)
		r = img_child_run(&child, progress, &counts, ret_signal, err);
	if (r == 0 && !take_all(w.in.data ? w.in.data : "", w.in.len, &c))
		r = vl_fail(err, EPROTO, "the verifying process sent what makes no sense");
	vl_buf_free(&w.in);
	img_source_free(&w.src);
	if (r < 0) {
		img_cosign_free(&c);
		return r;
	}
	c.signatures = counts.signatures;
	c.attestations = counts.attestations;
	*ret = c;
	return 0;
}

int img_cosign_add(const struct img_cosign *c, int fd, int64_t time, struct vl_err *err)
{
	SIF_EDIT struct sif_edit *e = NULL;
	const struct sif_descr *root;
	int r = c->n ? sif_edit_begin(fd, time, &e, err) : 0;

	if (!c->n || r < 0)
		return r;
	if ((r = sif_primary(sif_edit_image(e), &root, err)) < 0)
		return r;
	uint32_t group = root->group;
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct sif_object o = { .type = c->v[i].manifest ? SIF_JSON : SIF_GENERIC,
					      .group = group,
					      .name = c->v[i].name };
		r = sif_edit_add(e, &o, c->v[i].data, c->v[i].len, NULL, err);
	}
	return r < 0 ? vl_wrap(err, "cannot keep the source's signatures") : sif_edit_commit(e, err);
}
