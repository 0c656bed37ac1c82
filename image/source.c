/* Every kind of source behind one interface: open, resolve, then convert or copy. */
#include "convert.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <vial/sif.h>

static const struct {
	enum img_source_kind kind;
	const char *word;
} kinds[] = {
	[OCI_LAYOUT] = { IMG_SOURCE_OCI, "oci" },
	[OCI_ARCHIVE] = { IMG_SOURCE_OCI, "oci-archive" },
	[OCI_DOCKER_ARCHIVE] = { IMG_SOURCE_OCI, "docker-archive" },
	[OCI_REGISTRY] = { IMG_SOURCE_OCI, "docker" },
	[OCI_ORAS] = { IMG_SOURCE_ARTIFACT, "oras" },
	[OCI_HTTP] = { IMG_SOURCE_URL, "http" },
};

/* A registry's without the tag, so that one digest always gives the same bytes. */
const char *img_source_words(const char *source, const struct oci_ref *ref, const struct oci_digest *digest,
			     char **ret_from)
{
	struct oci_ref r = *ref;

	r.tag = NULL;
	if (digest)
		r.digest = *digest;
	if (ref->kind == OCI_HTTP)
		*ret_from = vl_strdup(ref->path);
	else if (ref->kind == OCI_REGISTRY)
		*ret_from = oci_ref_short(&r);
	else
		*ret_from = vl_strdup(source ? strchr(source, ':') + 1 : ""); /* a reference has a scheme */
	return kinds[ref->kind].word;
}

/* An artifact is the image already: it is downloaded straight into the file it will be. */
static int into_target(void *arg, struct vl_err *err)
{
	const struct img_source *s = arg;
	int fd = fcntl(s->into, F_DUPFD_CLOEXEC, 0);

	return fd < 0 ? vl_fail_sys(err, errno, "cannot download into the image") : fd;
}

static int open_directory(const char *path, const char *made_of, struct img_source *s, struct vl_err *err)
{
	s->kind = IMG_SOURCE_DIR;
	s->bootstrap = "localimage";
	s->from = vl_strdup(made_of ? made_of : path);
	s->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0 && errno == ENOENT && strstr(path, ":"))
		return vl_fail(err, ENOTSUP,
			       "%s: this kind of source is not known; there are docker://, oras://, http(s)://, "
			       "oci:DIR:TAG, oci-archive:FILE, docker-archive:FILE and a directory",
			       path);
	return s->dirfd < 0 ? vl_fail_sys(err, errno, "cannot open the directory %s", path) : 0;
}

int img_source_open(const struct img_build_opts *o, const struct oci_blob_store *blobs, const struct vl_progress *say,
		    struct img_source *ret, struct vl_err *err)
{
	static const struct oci_net defaults;
	int r = oci_ref_parse(o->source, &ret->ref, err);

	*ret = (struct img_source){ .ref = ret->ref, .dirfd = -1, .into = -1 };
	if (r == -ENOTSUP)
		return open_directory(o->source, o->made_of, ret, err);
	if (r < 0)
		return r;
	ret->kind = kinds[ret->ref.kind].kind;
	ret->bootstrap = img_source_words(o->source, &ret->ref, NULL, &ret->from);
	if (oci_ref_is_remote(&ret->ref) &&
	    (r = oci_client_new(o->net ? o->net : &defaults, say, &ret->client, err)) < 0)
		return r;
	if (ret->kind == IMG_SOURCE_URL)
		return 0;
	if (ret->kind == IMG_SOURCE_ARTIFACT)
		ret->blobs = (struct oci_blob_store){ .create = into_target, .arg = ret };
	else if (blobs)
		ret->blobs = *blobs;
	return oci_source_open(&ret->ref, ret->client, ret->blobs.create ? &ret->blobs : NULL, &ret->oci, err);
}

static void digest_text(const struct oci_digest *d, char ret[IMG_DIGEST_SIZE])
{
	snprintf(ret, IMG_DIGEST_SIZE, "%s:%s", d->algo, d->hex);
}

static int resolve_image(struct img_source *s, const char *arch, struct img_found *ret, struct vl_err *err)
{
	uint8_t sha[32];
	char hex[65];
	int r = oci_image_find(s->oci, &s->ref, arch, &s->image, err);

	if (r < 0)
		return r;
	if (*s->image.manifest.algo) {
		digest_text(&s->image.manifest, ret->digest);
		snprintf(ret->id, sizeof ret->id, "%s", ret->digest);
	} else { /* docker-archive: Docker's own image id, the digest of the config, names all layers */
		vl_sha256(s->image.config_text, s->image.config_len, sha);
		vl_hex(sha, sizeof sha, hex);
		snprintf(ret->id, sizeof ret->id, "config:%s", hex);
	}
	if (*s->image.named.algo)
		digest_text(&s->image.named, ret->named);
	if (s->ref.kind == OCI_REGISTRY) {
		vl_freep(&s->from);
		s->bootstrap = img_source_words(NULL, &s->ref, &s->image.manifest, &s->from);
	}
	return 0;
}

static int resolve_artifact(struct img_source *s, const char *arch, struct img_found *ret, struct vl_err *err)
{
	int r = oci_artifact_resolve(s->oci, &s->ref, arch, &s->artifact, err);

	if (r < 0)
		return r;
	digest_text(&s->artifact.manifest, ret->digest);
	snprintf(ret->named, sizeof ret->named, "%s", ret->digest);
	/* the file decides, whatever manifest led to it */
	digest_text(&s->artifact.layer.digest, ret->id);
	ret->as_it_is = true;
	return 0;
}

static int resolve_url(struct img_source *s, struct img_found *ret, struct vl_err *err)
{
	uint8_t sha[32];
	char hex[65];
	int r = oci_http_stat(s->client, s->ref.path, &s->url, err);

	if (r < 0)
		return r;
	ret->as_it_is = true;
	if (!s->url.validator) /* nothing to tell whether it is still the same: always fetched */
		return 0;
	VL_FREE char *text =
		vl_asprintf("%s\n%s\n%llu", s->ref.path, s->url.validator, (unsigned long long)s->url.size);
	vl_sha256(text, strlen(text), sha);
	vl_hex(sha, sizeof sha, hex);
	snprintf(ret->id, sizeof ret->id, "url:%s", hex);
	return 0;
}

int img_source_resolve(struct img_source *s, const char *arch, struct img_found *ret, struct vl_err *err)
{
	struct img_found f = { 0 };
	int r = s->kind == IMG_SOURCE_OCI        ? resolve_image(s, arch, &f, err)
		: s->kind == IMG_SOURCE_ARTIFACT ? resolve_artifact(s, arch, &f, err)
		: s->kind == IMG_SOURCE_URL      ? resolve_url(s, &f, err)
						 : 0;
	if (r == 0)
		*ret = f;
	return r;
}

void img_source_will_read(struct img_source *s)
{
	size_t n = s->image.n_layers;
	VL_FREE const struct oci_layer **order = vl_alloc((n + 1) * sizeof *order);

	for (size_t i = 0; i < n; i++)
		order[i] = &s->image.layers[n - 1 - i];
	if (s->oci)
		oci_source_will_read(s->oci, order, n);
}

/* Whole blob, read for its digest and for the progress: the bytes are where they belong already. */
static int copy_artifact(struct img_source *s, const struct vl_progress *progress, struct vl_err *err)
{
	const struct oci_layer *l = &s->artifact.layer;
	VL_FREE uint8_t *buf = vl_alloc(1 << 20);
	struct oci_blob *b;
	uint64_t done = 0;
	ssize_t n;
	int r;

	oci_source_will_read(s->oci, &l, 1);
	if ((r = oci_source_file(s->oci, l->name, &b, err)) < 0)
		return r;
	while ((n = b->read(b, buf, 1 << 20, err)) > 0)
		vl_progress_step(progress, "Downloading", done += (uint64_t)n, l->size);
	bool checked = b->checked;
	oci_blob_close(b);
	if (n < 0)
		return (int)n;
	return checked ? 0 : vl_fail(err, EBADMSG, "%s: the download was not checked", s->from);
}

static int check_sif(int fd, const char *name, struct vl_err *err)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	int r = sif_load(fd, &sif, err);

	if (r == -ENOEXEC)
		return vl_fail(err, ENOEXEC, "%s: what was downloaded is not a SIF image", name);
	return r < 0 ? vl_wrap(err, "%s", name) : 0;
}

int img_source_copy(struct img_source *s, int fd, const struct vl_progress *progress, struct vl_err *err)
{
	uint64_t size;
	int r;

	s->into = fd;
	r = s->kind == IMG_SOURCE_ARTIFACT ? copy_artifact(s, progress, err)
					   : oci_http_fetch(s->client, s->ref.path, &s->url, fd, progress, &size, err);
	return r < 0 ? r : check_sif(fd, s->from, err);
}

void img_source_free(struct img_source *s)
{
	oci_image_free(&s->image);
	oci_artifact_free(&s->artifact);
	vl_freep(&s->url.validator);
	free(s->from);
	oci_source_free(s->oci);
	oci_client_free(s->client);
	oci_ref_free(&s->ref);
	vl_closep(&s->dirfd);
}
