/* A SIF as an artifact, a SIF as an OCI image, an OCI image as it is; and the signatures of a SIF beside it. */
#include "push.h"

#include <stdio.h>

#define MT_SIF_CONFIG "application/vnd.sylabs.sif.config.v1+json"
#define MT_SIF_LAYER "application/vnd.sylabs.sif.layer.v1.sif"
#define MT_EMPTY "application/vnd.oci.empty.v1+json"
#define MT_ENVELOPE "application/vnd.dsse.envelope.v1+json"
#define MT_DOCKER_MANIFEST "application/vnd.docker.distribution.manifest.v2+json"
#define TITLE "org.opencontainers.image.title"
#define PIECE (1u << 20)

struct send {
	const struct img_push_job *j;
	const struct vl_progress *progress;
	struct img_push_stats *stats;
};

static int send_text(struct send *s, const char *text, size_t n, struct vl_err *err)
{
	struct oci_upload u = { .data = text, .fd = -1, .size = n };

	img_text_digest(text, n, &u.digest);
	return oci_push_blob(s->j->client, &s->j->target, &u, NULL, err);
}

static int send_fd(struct send *s, int fd, uint64_t size, const struct oci_digest *d, struct vl_err *err)
{
	struct oci_upload u = { .fd = fd, .size = size, .digest = *d };
	return oci_push_blob(s->j->client, &s->j->target, &u, s->progress, err);
}

/* Under the target's tag. */
static int send_manifest(struct send *s, const char *media_type, const char *text, size_t n, struct oci_digest *ret,
			 struct vl_err *err)
{
	int r = oci_push_manifest(s->j->client, &s->j->target, media_type, text, n, ret, err);

	if (r < 0)
		return r;
	snprintf(s->stats->digest, sizeof s->stats->digest, "%s:%s", ret->algo, ret->hex);
	return 0;
}

/* ---- signatures ---- */

static bool is_envelope(const char *text, size_t n)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err ignored;

	return vl_json_parse(text, n, "signature", &j, &ignored) == 0 && vl_json_str(j, "payloadType") &&
	       vl_json_str(j, "payload") && vl_json_arr(j, "signatures");
}

static char *referrer_text(const char *envelope, size_t n, const struct oci_digest *subject, size_t subject_size)
{
	VL_JSON vl_json *m = vl_json_new_obj();
	vl_json *layers = vl_json_new_arr();
	struct oci_digest d;

	vl_json_set(m, "schemaVersion", vl_json_new_int(2));
	vl_json_set(m, "mediaType", vl_json_new_str(IMG_MT_MANIFEST));
	vl_json_set(m, "artifactType", vl_json_new_str(MT_ENVELOPE));
	img_text_digest("{}", 2, &d);
	vl_json_set(m, "config", img_descriptor(MT_EMPTY, &d, 2));
	img_text_digest(envelope, n, &d);
	vl_json_add(layers, img_descriptor(MT_ENVELOPE, &d, n));
	vl_json_set(m, "layers", layers);
	vl_json_set(m, "subject", img_descriptor(IMG_MT_MANIFEST, subject, subject_size));
	return vl_json_text(m, false);
}

static int send_referrer(struct send *s, const char *envelope, size_t n, const struct oci_digest *subject,
			 size_t subject_size, struct vl_err *err)
{
	VL_FREE char *text = referrer_text(envelope, n, subject, subject_size);
	struct oci_ref untagged = s->j->target;
	struct oci_digest ignored;
	int r;

	untagged.tag = NULL;
	if ((r = send_text(s, "{}", 2, err)) < 0 || (r = send_text(s, envelope, n, err)) < 0)
		return r;
	return oci_push_manifest(s->j->client, &untagged, IMG_MT_MANIFEST, text, strlen(text), &ignored, err);
}

/* Those that are DSSE envelopes. They sign the objects of the SIF, whatever form it was pushed in. */
static int send_signatures(struct send *s, const struct oci_digest *subject, size_t subject_size, struct vl_err *err)
{
	const struct sif_image *sif = &s->j->sif;

	for (size_t i = 0; i < sif->n && !s->j->o->no_referrers; i++) {
		VL_FREE char *text = NULL;
		size_t n;
		if (sif->d[i].type != SIF_SIGNATURE)
			continue;
		int r = sif_read_object(sif, &sif->d[i], SIF_MAX_SIGNATURE, &text, &n, err);
		if (r == 0 && !is_envelope(text, n))
			continue; /* PGP clear text: it travels in the SIF only */
		if (r == 0)
			r = send_referrer(s, text, n, subject, subject_size, err);
		if (r < 0)
			return vl_wrap(err, "the image is pushed, but not its signature in object %u", sif->d[i].id);
		s->stats->referrers++;
	}
	return 0;
}

/* ---- SIF -> oras:// ---- */

static int hash_file(struct send *s, int fd, uint64_t size, struct oci_digest *ret, struct vl_err *err)
{
	VL_FREE char *piece = vl_alloc(PIECE);
	uint8_t raw[VL_HASH_MAX];
	struct vl_hash *h;
	int r = vl_hash_new("sha256", &h, err);

	if (r < 0)
		return r;
	for (uint64_t done = 0; r == 0 && done < size;) {
		size_t n = (size_t)VL_MIN(size - done, (uint64_t)PIECE);
		if ((r = vl_pread_full(fd, piece, n, done, s->j->o->image, err)) < 0)
			break;
		vl_hash_update(h, piece, n);
		done += n;
		vl_progress_step(s->progress, "Hashing", done, size);
	}
	if (r == 0) {
		size_t n = vl_hash_final(h, raw);
		*ret = (struct oci_digest){ .algo = "sha256" };
		vl_hex(raw, n, ret->hex);
	}
	vl_hash_free(h);
	return r;
}

/* Exactly the members that Apptainer and SingularityCE write. */
static char *artifact_text(const char *title, const struct oci_digest *sif, uint64_t size)
{
	VL_JSON vl_json *m = vl_json_new_obj();
	vl_json *layers = vl_json_new_arr(), *layer = img_descriptor(MT_SIF_LAYER, sif, size),
		*notes = vl_json_new_obj();
	struct oci_digest config;

	img_text_digest("{}", 2, &config);
	vl_json_set(m, "schemaVersion", vl_json_new_int(2));
	vl_json_set(m, "mediaType", vl_json_new_str(IMG_MT_MANIFEST));
	vl_json_set(m, "config", img_descriptor(MT_SIF_CONFIG, &config, 2));
	vl_json_set(notes, TITLE, vl_json_new_str(title));
	vl_json_set(layer, "annotations", notes);
	vl_json_add(layers, layer);
	vl_json_set(m, "layers", layers);
	return vl_json_text(m, false);
}

static int send_artifact(struct send *s, struct vl_err *err)
{
	uint64_t size = s->j->sif.file_size;
	struct oci_digest sif, manifest;
	int r = hash_file(s, s->j->fd, size, &sif, err);

	if (r < 0)
		return r;
	VL_FREE char *text = artifact_text(s->j->title, &sif, size);
	s->stats->bytes = size;
	if ((r = send_fd(s, s->j->fd, size, &sif, err)) < 0 || (r = send_text(s, "{}", 2, err)) < 0 ||
	    (r = send_manifest(s, IMG_MT_MANIFEST, text, strlen(text), &manifest, err)) < 0)
		return r;
	return send_signatures(s, &manifest, strlen(text), err);
}

/* ---- SIF -> docker:// ---- */

/* After a failure that may be of the files that are made on the way. */
static int tell_place(struct vl_err *err)
{
	const char *dir = getenv("TMPDIR");
	char why[sizeof err->text];

	if (err->code != ENOSPC && err->code != EDQUOT)
		return -err->code;
	memcpy(why, err->text, sizeof why);
	return vl_fail(err, err->code, "%s; it is made in %s: set TMPDIR to a folder that has room for all of it", why,
		       dir && *dir == '/' ? dir : "/var/tmp");
}

static int send_exported(struct send *s, struct vl_err *err)
{
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	VL_CLOSE int fd = vl_tmpfile("what is to be sent", err);
	struct oci_digest manifest;
	int r = fd < 0 ? fd : img_export(&s->j->sif, s->j->o->threads, 0, fd, s->progress, &e, err);

	if (r < 0) {
		tell_place(err);
		return vl_wrap(err, "%s", s->j->o->image);
	}
	VL_FREE char *text = img_export_manifest(&e);
	s->stats->bytes = e.size;
	if ((r = send_fd(s, fd, e.size, &e.layer, err)) < 0 ||
	    (r = send_text(s, e.config, strlen(e.config), err)) < 0 ||
	    (r = send_manifest(s, IMG_MT_MANIFEST, text, strlen(text), &manifest, err)) < 0)
		return r;
	return send_signatures(s, &manifest, strlen(text), err);
}

/* ---- OCI source -> docker:// ---- */

/* Into a file of our own while it is hashed: what is uploaded later is what was checked. */
static int spool_layer(struct send *s, const struct oci_layer *l, int fd, uint64_t *ret_size, struct vl_err *err)
{
	VL_FREE char *piece = vl_alloc(PIECE);
	struct oci_blob *b;
	struct vl_hash *h;
	uint8_t raw[VL_HASH_MAX];
	char hex[VL_HASH_MAX * 2 + 1];
	uint64_t done = 0;
	ssize_t n;
	int r = oci_source_file(s->j->source, l->name, &b, err);

	if (r < 0)
		return r;
	if ((r = vl_hash_new(l->digest.algo, &h, err)) < 0) {
		oci_blob_close(b);
		return r;
	}
	while ((n = b->read(b, piece, PIECE, err)) > 0 && r == 0) {
		r = vl_pwrite_full(fd, piece, (size_t)n, done, "the copy of the layer", err);
		vl_hash_update(h, piece, (size_t)n);
		done += (uint64_t)n;
		vl_progress_step(s->progress, "Reading", done, b->size);
	}
	if (n < 0)
		r = (int)n;
	vl_hex(raw, vl_hash_final(h, raw), hex);
	vl_hash_free(h);
	if (r == 0 && (!vl_streq(hex, l->digest.hex) || (l->size != UINT64_MAX && done != l->size)))
		r = vl_fail(err, EBADMSG, "%s is not what the manifest says: it should be %s:%s of %llu bytes", b->what,
			    l->digest.algo, l->digest.hex, (unsigned long long)l->size);
	oci_blob_close(b);
	if (r == 0)
		*ret_size = done;
	return r;
}

static int send_layer(struct send *s, const struct oci_layer *l, struct vl_err *err)
{
	VL_CLOSE int fd = vl_tmpfile("what is to be sent", err);
	uint64_t size = 0;
	int r = fd < 0 ? fd : spool_layer(s, l, fd, &size, err);

	if (r < 0)
		return tell_place(err);
	return send_fd(s, fd, size, &l->digest, err);
}

static int send_config(struct send *s, const struct oci_image *i, const vl_json *manifest, struct vl_err *err)
{
	const char *text = vl_json_str(vl_json_obj(manifest, "config"), "digest");
	struct oci_upload u = { .data = i->config_text, .fd = -1, .size = i->config_len };
	int r = oci_digest_parse(text ? text : "", &u.digest, err);

	if (r < 0 || (r = oci_digest_check(&u.digest, i->config_text, i->config_len, "the config", err)) < 0)
		return r;
	return oci_push_blob(s->j->client, &s->j->target, &u, NULL, err);
}

/* What the registry has, or can take from another of its repositories, is not fetched at all. */
static int find_layer(struct send *s, const struct oci_layer *l, struct vl_err *err)
{
	const struct img_push_job *j = s->j;
	bool same = j->from_client && vl_streq(j->from.host, j->target.host) && !vl_streq(j->from.repo, j->target.repo);

	return oci_push_find(j->client, &j->target, &l->digest, l->size, same ? j->from.repo : NULL, err);
}

static int send_layers(struct send *s, const struct oci_image *i, struct vl_err *err)
{
	VL_FREE const struct oci_layer **missing = vl_alloc((i->n_layers + 1) * sizeof *missing);
	size_t n = 0;
	int r;

	for (size_t k = 0; k < i->n_layers; k++) {
		if ((r = find_layer(s, &i->layers[k], err)) < 0)
			return vl_wrap(err, "layer %zu of %zu", k + 1, i->n_layers);
		if (r == 0)
			missing[n++] = &i->layers[k];
		s->stats->bytes += i->layers[k].size;
	}
	oci_source_will_read(s->j->source, missing, n);
	for (size_t k = 0; k < n; k++)
		if (send_layer(s, missing[k], err) < 0)
			return vl_wrap(err, "layer %zu of %zu", (size_t)(missing[k] - i->layers) + 1, i->n_layers);
	return 0;
}

static int send_image(struct send *s, struct vl_err *err)
{
	VL_CLEANUP(oci_image_free) struct oci_image i = { 0 };
	VL_JSON vl_json *j = NULL;
	VL_FREE char *text = NULL, *name = NULL;
	struct oci_digest manifest;
	size_t len;
	int r = oci_image_resolve(s->j->source, &s->j->from, sif_host_arch(), &i, err);

	if (r < 0)
		return r;
	name = s->j->from_client ? vl_asprintf("manifests/%s:%s", i.manifest.algo, i.manifest.hex)
				 : vl_asprintf("blobs/%s/%s", i.manifest.algo, i.manifest.hex);
	if ((r = oci_source_document(s->j->source, name, &text, &len, err)) < 0 ||
	    (r = oci_digest_check(&i.manifest, text, len, "the manifest", err)) < 0 ||
	    (r = vl_json_parse(text, len, "the manifest", &j, err)) < 0)
		return r;
	if ((r = send_layers(s, &i, err)) < 0 || (r = send_config(s, &i, j, err)) < 0)
		return r;
	const char *type = vl_json_str(j, "mediaType");
	return send_manifest(s, type && vl_streq(type, MT_DOCKER_MANIFEST) ? MT_DOCKER_MANIFEST : IMG_MT_MANIFEST, text,
			     len, &manifest, err);
}

int img_push_send(struct img_push_job *j, const struct vl_progress *progress, struct img_push_stats *ret,
		  struct vl_err *err)
{
	struct img_push_stats stats = { 0 };
	struct send s = { j, progress, &stats };
	int r;

	if (j->fd < 0)
		r = send_image(&s, err);
	else
		r = j->target.kind == OCI_ORAS ? send_artifact(&s, err) : send_exported(&s, err);
	if (r == 0)
		*ret = stats;
	return r;
}
