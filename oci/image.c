/* From a reference to the one image it means: layout version, index, platform, manifest, config. */
#include "source.h"

#include <stdio.h>

#define MT_OCI_CONFIG "application/vnd.oci.image.config.v1+json"
#define MT_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"
#define MT_SIF_CONFIG "application/vnd.sylabs.sif.config.v1+json"
#define MT_SIF_LAYER "application/vnd.sylabs.sif.layer.v1.sif"
#define MT_SIF_LAYER_OLD "appliciation/vnd.sylabs.sif.layer.tar" /* as old versions spelt it */

struct descriptor {
	const char *media_type; /* borrowed from the document */
	struct oci_digest digest;
	uint64_t size;
};

static int read_descriptor(const vl_json *j, const char *what, struct descriptor *ret, struct vl_err *err)
{
	struct descriptor d = { .media_type = vl_json_str(j, "mediaType") };
	const char *digest = vl_json_str(j, "digest");
	int64_t size;

	if (!digest || !vl_json_int(j, "size", &size) || size < 0)
		return vl_fail(err, EINVAL, "%s: a descriptor needs a digest and a size that is not negative", what);
	int r = oci_digest_parse(digest, &d.digest, err);
	if (r < 0)
		return vl_wrap(err, "%s", what);
	d.size = (uint64_t)size;
	*ret = d;
	return 0;
}

static char *blob_name(const struct oci_digest *d)
{
	return vl_asprintf("blobs/%s/%s", d->algo, d->hex);
}

static bool is_registry(enum oci_kind kind)
{
	return kind == OCI_REGISTRY || kind == OCI_ORAS;
}

static int load_file(struct oci_source *s, const char *name, const struct descriptor *d, const char *what, char **ret,
		     size_t *ret_len, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;
	int r = oci_source_document(s, name, &text, &len, err);

	if (r < 0)
		return vl_wrap(err, "%s", what);
	if (len != d->size)
		return vl_fail(err, EBADMSG, "%s %s:%.12s has %zu bytes, its descriptor says %llu", what,
			       d->digest.algo, d->digest.hex, len, (unsigned long long)d->size);
	r = oci_digest_check(&d->digest, text, len, what, err);
	if (r < 0)
		return r;
	*ret = vl_steal(&text);
	*ret_len = len;
	return 0;
}

/* A document by descriptor: size and digest are checked before anybody looks inside. */
static int load_blob(struct oci_source *s, const struct descriptor *d, const char *what, char **ret, size_t *ret_len,
		     struct vl_err *err)
{
	VL_FREE char *name = blob_name(&d->digest);
	struct oci_layer known = { .digest = d->digest, .size = d->size };
	const struct oci_layer *one = &known;

	/* with its size known, a kept one is found without asking, and a new one is kept */
	if (d->size <= VL_JSON_MAX)
		oci_source_will_read(s, &one, 1);
	return load_file(s, name, d, what, ret, ret_len, err);
}

/* Registries keep manifests apart from blobs. */
static int load_manifest(struct oci_source *s, const struct descriptor *d, char **ret, size_t *ret_len,
			 struct vl_err *err)
{
	if (!s->registry)
		return load_blob(s, d, "manifest", ret, ret_len, err);
	VL_FREE char *name = vl_asprintf("manifests/%s:%s", d->digest.algo, d->digest.hex);
	return load_file(s, name, d, "manifest", ret, ret_len, err);
}

static int load_json(struct oci_source *s, const char *name, vl_json **ret, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;
	int r = oci_source_document(s, name, &text, &len, err);
	return r < 0 ? r : vl_json_parse(text, len, name, ret, err);
}

static int check_layout_version(struct oci_source *s, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	int r = load_json(s, "oci-layout", &j, err);

	if (r < 0)
		return vl_wrap(err, "not an OCI image layout");
	const char *v = vl_json_str(j, "imageLayoutVersion");
	if (!v || !vl_prefix(v, "1."))
		return vl_fail(err, ENOTSUP, "oci-layout: this layout version is not known; 1.0.0 is");
	return 0;
}

/* How well an index entry fits: 0 not at all, 1 unknown (its config tells), more is better. */
static int platform_rank(const vl_json *entry, const char *arch)
{
	const vl_json *p = vl_json_obj(entry, "platform");
	const char *a = vl_json_str(p, "architecture"), *os = vl_json_str(p, "os"),
		   *variant = vl_json_str(p, "variant");

	if (!p || (!a && !os))
		return 1;
	if (!a || !os || !vl_streq(os, "linux") || !vl_streq(a, arch))
		return 0;
	if (!variant || !*variant)
		return 4;
	/* the base of its architecture runs everywhere; higher ones (amd64/v3) only if there is nothing else */
	if (vl_streq(arch, "arm64") || vl_streq(arch, "amd64"))
		return vl_streq(variant, vl_streq(arch, "arm64") ? "v8" : "v1") ? 5 : 3;
	if (vl_streq(arch, "arm") && variant[0] == 'v' && variant[1] >= '5' && variant[1] <= '7')
		return variant[1] - '0';
	return 3;
}

/* The search through indexes for the one manifest. */
struct search {
	struct oci_source *s;
	const char *arch;
	unsigned documents; /* read so far: nested indexes multiply */
	bool artifact;      /* something was there, but no image */
	bool sif;           /* a SIF is wanted, not an image */
	struct descriptor found;
	vl_json *manifest; /* of found; NULL = nothing yet */
};

static bool is_image_config(const char *type)
{
	return !type || vl_streq(type, MT_OCI_CONFIG) || vl_streq(type, MT_DOCKER_CONFIG);
}

/* Whether the config of a manifest whose index entry names no platform is for us. */
static bool config_fits(struct search *f, const vl_json *manifest)
{
	struct descriptor d;
	struct vl_err ignored;
	VL_FREE char *text = NULL;
	VL_JSON vl_json *j = NULL;
	size_t len;

	if (read_descriptor(vl_json_obj(manifest, "config"), "config", &d, &ignored) < 0)
		return true; /* the real loading says what is wrong */
	if (f->sif)
		return d.media_type && vl_streq(d.media_type, MT_SIF_CONFIG);
	if (!is_image_config(d.media_type)) {
		f->artifact = true;
		return false;
	}
	if (load_blob(f->s, &d, "config", &text, &len, &ignored) < 0 ||
	    vl_json_parse(text, len, "config", &j, &ignored) < 0)
		return true;
	const char *a = vl_json_str(j, "architecture"), *os = vl_json_str(j, "os");
	return (!a || vl_streq(a, f->arch)) && (!os || vl_streq(os, "linux"));
}

static int search_list(struct search *f, const vl_json *list, int depth, struct vl_err *err);

static int search_document(struct search *f, const struct descriptor *d, vl_json **doc_p, bool platform_known,
			   int depth, struct vl_err *err)
{
	vl_json *doc = *doc_p;
	bool index = vl_json_get(doc, "manifests") != NULL;
	if (index && vl_json_get(doc, "layers"))
		return vl_fail(err, EINVAL, "manifest: both an index and an image");
	int64_t version;
	if (!index && (vl_json_get(doc, "fsLayers") || (vl_json_int(doc, "schemaVersion", &version) && version == 1)))
		return vl_fail(err, ENOTSUP,
			       "manifest: the old format schema 1, which no digest protects; push the "
			       "image again with a current tool");
	if (index)
		return search_list(f, vl_json_arr(doc, "manifests"), depth + 1, err);
	if (platform_known || config_fits(f, doc)) {
		f->found = *d;
		f->manifest = vl_steal(doc_p);
	}
	return 0;
}

/* One entry of an index: a manifest, or another index. */
static int search_entry(struct search *f, const vl_json *entry, bool platform_known, int depth, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	VL_JSON vl_json *doc = NULL;
	struct descriptor d;
	size_t len;
	int r;

	if (++f->documents > OCI_MAX_DOCUMENTS)
		return vl_fail(err, E2BIG, "more than %d manifests to look through", OCI_MAX_DOCUMENTS);
	if ((r = read_descriptor(entry, "index", &d, err)) < 0 || (r = load_manifest(f->s, &d, &text, &len, err)) < 0 ||
	    (r = vl_json_parse(text, len, "manifest", &doc, err)) < 0)
		return r;
	return search_document(f, &d, &doc, platform_known, depth, err);
}

/* Depth first, best platform first, until something fits. */
static int search_list(struct search *f, const vl_json *list, int depth, struct vl_err *err)
{
	if (depth > OCI_MAX_INDEX_DEPTH)
		return vl_fail(err, ELOOP, "indexes are nested deeper than %d", OCI_MAX_INDEX_DEPTH);
	for (int rank = 7; rank >= 1; rank--)
		for (size_t i = 0; i < vl_json_len(list) && !f->manifest; i++) {
			if (platform_rank(vl_json_at(list, i), f->arch) != rank)
				continue;
			int r = search_entry(f, vl_json_at(list, i), rank > 1, depth, err);
			if (r < 0)
				return r;
		}
	return 0;
}

/* Entries of index.json that the reference means: by digest, by tag, or all of them. */
static int select_entries(const vl_json *all, const struct oci_ref *ref, vl_json **ret, struct vl_err *err)
{
	VL_JSON vl_json *some = vl_json_new_arr();
	VL_BUF struct vl_buf tags = { 0 };
	VL_FREE char *wanted = vl_asprintf("%s:%s", ref->digest.algo, ref->digest.hex);

	vl_buf_adds(&tags, "");
	for (size_t i = 0; i < vl_json_len(all); i++) {
		const vl_json *e = vl_json_at(all, i);
		const char *digest = vl_json_str(e, "digest");
		const char *tag = vl_json_str(vl_json_obj(e, "annotations"), "org.opencontainers.image.ref.name");
		if (tag && tags.len < 500) {
			VL_FREE char *shown = vl_printable(tag, strnlen(tag, 100));
			vl_buf_addf(&tags, "%s%s", tags.len ? ", " : "", shown);
		}
		if (*ref->digest.algo ? digest && vl_streq(digest, wanted)
				      : !ref->tag || (tag && vl_streq(tag, ref->tag)))
			vl_json_add(some, vl_json_ref(e));
	}
	if (!vl_json_len(some))
		return vl_fail(err, ENOENT, "%s has no image named %s; it has: %s", ref->path,
			       *ref->digest.algo ? wanted
			       : ref->tag        ? ref->tag
						 : "anything",
			       tags.len ? tags.data : "no tags");
	if (!ref->tag && !*ref->digest.algo && vl_json_len(some) > 1 && tags.len)
		return vl_fail(err, EINVAL, "%s holds several images; name one, as in oci:%s:TAG: %s", ref->path,
			       ref->path, tags.data);
	*ret = vl_steal(&some);
	return 0;
}

static int check_config_type(const char *type, struct vl_err *err)
{
	if (is_image_config(type))
		return 0;
	if (vl_streq(type, MT_SIF_CONFIG))
		return vl_fail(err, ENOTSUP, "this is a SIF in a registry, not a container image; use oras:// for it");
	VL_FREE char *t = vl_printable(type, strnlen(type, 100));
	return vl_fail(err, ENOTSUP, "this is an artifact, not a container image: its config has the type %s", t);
}

static int read_layers(struct oci_image *img, const vl_json *m, struct vl_err *err)
{
	const vl_json *layers = vl_json_arr(m, "layers");
	size_t n = vl_json_len(layers);

	if (!layers)
		return vl_fail(err, EINVAL, "manifest: 'layers' is not a list");
	if (n > OCI_MAX_LAYERS)
		return vl_fail(err, E2BIG, "manifest: %zu layers are over the limit of %d", n, OCI_MAX_LAYERS);
	img->layers = vl_alloc((n + 1) * sizeof *img->layers);
	for (; img->n_layers < n; img->n_layers++) {
		struct descriptor d;
		int r = read_descriptor(vl_json_at(layers, img->n_layers), "manifest: layer", &d, err);
		if (r < 0)
			return r;
		img->layers[img->n_layers] = (struct oci_layer){
			.name = blob_name(&d.digest),
			.media_type = d.media_type ? vl_strdup(d.media_type) : NULL,
			.digest = d.digest,
			.size = d.size,
		};
	}
	return 0;
}

int oci_config_load(struct oci_image *img, struct vl_err *err)
{
	int r = vl_json_parse(img->config_text, img->config_len, "image config", &img->config, err);

	if (r < 0)
		return r;
	if (!vl_json_is_object(img->config))
		return vl_fail(err, EINVAL, "image config: not an object");
	const char *arch = vl_json_str(img->config, "architecture"), *os = vl_json_str(img->config, "os");
	snprintf(img->arch, sizeof img->arch, "%s", arch ? arch : "");
	if (os && *os && !vl_streq(os, "linux"))
		return vl_fail(err, ENOTSUP, "the image is for the system '%.30s', not for linux", os);
	const vl_json *ids = vl_json_arr(vl_json_obj(img->config, "rootfs"), "diff_ids");
	if (vl_json_len(ids) != img->n_layers)
		return vl_fail(err, EBADMSG, "the image has %zu layers but its config lists %zu diff ids",
			       img->n_layers, vl_json_len(ids));
	for (size_t i = 0; i < img->n_layers; i++) {
		const char *id = vl_json_string(vl_json_at(ids, i));
		r = oci_digest_parse(id ? id : "", &img->layers[i].diff_id, err);
		if (r < 0)
			return vl_wrap(err, "image config: diff id %zu", i);
	}
	return 0;
}

static int not_found(const struct search *f, const struct oci_ref *ref, struct vl_err *err)
{
	VL_FREE char *name = oci_ref_name(ref);
	return vl_fail(err, ENOENT,
		       f->sif        ? "%s has no SIF for linux/%s"
		       : f->artifact ? "%s holds artifacts, but no image for linux/%s"
				     : "%s has no image for linux/%s",
		       name, f->arch);
}

/* A layout: from its index to the manifest for this platform. */
static int search_layout(struct search *f, const struct oci_ref *ref, struct oci_digest *ret_named, struct vl_err *err)
{
	VL_JSON vl_json *index = NULL, *entries = NULL;
	struct descriptor top;
	int r;

	if ((r = check_layout_version(f->s, err)) < 0 || (r = load_json(f->s, "index.json", &index, err)) < 0)
		return r;
	if (!vl_json_arr(index, "manifests"))
		return vl_fail(err, EINVAL, "index.json: 'manifests' is not a list");
	if ((r = select_entries(vl_json_arr(index, "manifests"), ref, &entries, err)) < 0 ||
	    (r = search_list(f, entries, 0, err)) < 0)
		return r;
	/* several entries are no one thing that was named */
	if (vl_json_len(entries) == 1 && read_descriptor(vl_json_at(entries, 0), "index", &top, err) == 0)
		*ret_named = top.digest;
	else
		*ret_named = f->found.digest;
	return 0;
}

/* A registry: from the document of that name. */
static int search_registry(struct search *f, const struct oci_ref *ref, struct oci_digest *ret_named,
			   struct vl_err *err)
{
	VL_FREE char *name = *ref->digest.algo ? vl_asprintf("manifests/%s:%s", ref->digest.algo, ref->digest.hex)
					       : vl_asprintf("manifests/%s", ref->tag ? ref->tag : "latest");
	VL_FREE char *text = NULL;
	VL_JSON vl_json *doc = NULL;
	struct descriptor top = { .digest = ref->digest };
	uint8_t raw[32];
	size_t len;
	int r = oci_source_document(f->s, name, &text, &len, err);

	if (r < 0 || (r = vl_json_parse(text, len, "manifest", &doc, err)) < 0)
		return r;
	top.size = len;
	if (!*top.digest.algo) {
		vl_sha256(text, len, raw);
		strcpy(top.digest.algo, "sha256");
		vl_hex(raw, sizeof raw, top.digest.hex);
	}
	*ret_named = top.digest;
	/* known: an image of another platform is told from its config, in better words */
	return search_document(f, &top, &doc, true, 0, err);
}

/* The one manifest that the reference means here. */
static int find_manifest(struct search *f, const struct oci_ref *ref, struct oci_digest *ret_named, struct vl_err *err)
{
	int r = is_registry(ref->kind) ? search_registry(f, ref, ret_named, err)
				       : search_layout(f, ref, ret_named, err);
	if (r < 0)
		return r;
	return f->manifest ? 0 : not_found(f, ref, err);
}

/* Of many images that a job asks for, which one. */
static int with_name(const struct oci_ref *ref, int r, struct vl_err *err)
{
	VL_FREE char *name = oci_ref_name(ref);

	if (!is_registry(ref->kind) || r == -ECANCELED || strstr(err->text, name))
		return r;
	return vl_wrap(err, "%s", name);
}

int oci_image_find(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *ret,
		   struct vl_err *err)
{
	VL_CLEANUP(oci_image_free) struct oci_image img = { 0 };
	struct search f = { .s = s, .arch = arch };
	struct descriptor cd;
	int r;

	if (ref->kind == OCI_DOCKER_ARCHIVE) {
		r = oci_docker_resolve(s, ref, &img, err);
	} else if ((r = find_manifest(&f, ref, &img.named, err)) == 0) {
		img.manifest = f.found.digest;
		img.document = vl_steal(&f.manifest);
		if ((r = read_descriptor(vl_json_obj(img.document, "config"), "manifest: config", &cd, err)) == 0 &&
		    (r = check_config_type(cd.media_type, err)) == 0)
			r = read_layers(&img, img.document, err);
	}
	if (r < 0)
		return with_name(ref, r, err);
	*ret = vl_move(&img);
	return 0;
}

static int load_config(struct oci_source *s, struct oci_image *img, struct vl_err *err)
{
	struct descriptor cd;
	int r;

	if ((r = read_descriptor(vl_json_obj(img->document, "config"), "manifest: config", &cd, err)) < 0 ||
	    (r = load_blob(s, &cd, "image config", &img->config_text, &img->config_len, err)) < 0)
		return r;
	return oci_config_load(img, err);
}

int oci_image_load(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *img,
		   struct vl_err *err)
{
	int r = img->config ? 0 : load_config(s, img, err);

	if (r < 0)
		return with_name(ref, r, err);
	if (*img->arch && !vl_streq(img->arch, arch)) {
		r = vl_fail(err, ENOENT, "the image is for linux/%s, not linux/%s; --arch %s takes it as it is",
			    img->arch, arch, img->arch);
		return with_name(ref, r, err);
	}
	if (!*img->arch)
		snprintf(img->arch, sizeof img->arch, "%s", arch);
	return 0;
}

int oci_image_resolve(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *ret,
		      struct vl_err *err)
{
	VL_CLEANUP(oci_image_free) struct oci_image img = { 0 };
	int r;

	if ((r = oci_image_find(s, ref, arch, &img, err)) < 0 || (r = oci_image_load(s, ref, arch, &img, err)) < 0)
		return r;
	*ret = vl_move(&img);
	return 0;
}

void oci_image_free(struct oci_image *img)
{
	for (size_t i = 0; i < img->n_layers; i++) {
		free(img->layers[i].name);
		free(img->layers[i].media_type);
	}
	free(img->layers);
	free(img->config_text);
	vl_json_freep(&img->config);
	vl_json_freep(&img->document);
	*img = (struct oci_image){ 0 };
}

/* ---- a SIF in a registry ---- */

/* A plain file name, or none. */
static char *title_of(const vl_json *layer)
{
	const char *t = vl_json_str(vl_json_obj(layer, "annotations"), "org.opencontainers.image.title");

	if (!t || !*t || strlen(t) > 255 || strchr(t, '/') || *t == '.')
		return NULL;
	VL_FREE char *shown = vl_printable(t, strlen(t));
	return vl_streq(shown, t) ? vl_steal(&shown) : NULL;
}

static int read_artifact(const vl_json *manifest, struct oci_artifact *ret, struct vl_err *err)
{
	const vl_json *layers = vl_json_arr(manifest, "layers"), *layer = vl_json_at(layers, 0);
	const char *config = vl_json_str(vl_json_obj(manifest, "config"), "mediaType");
	struct descriptor d;
	int r;

	if (config && is_image_config(config) && vl_json_len(layers) != 1)
		return vl_fail(err, ENOTSUP, "this is a container image, not a SIF; use docker:// for it");
	if (vl_json_len(layers) != 1)
		return vl_fail(err, ENOTSUP, "not a SIF: it has %zu layers instead of one", vl_json_len(layers));
	if ((r = read_descriptor(layer, "manifest: layer", &d, err)) < 0)
		return r;
	if (!d.media_type || (!vl_streq(d.media_type, MT_SIF_LAYER) && !vl_streq(d.media_type, MT_SIF_LAYER_OLD))) {
		VL_FREE char *t =
			vl_printable(d.media_type ? d.media_type : "", strnlen(d.media_type ? d.media_type : "", 100));
		return vl_fail(err, ENOTSUP, "not a SIF: its layer has the type '%s'%s", t,
			       config && is_image_config(config) ? "; a container image needs docker://" : "");
	}
	ret->title = title_of(layer);
	ret->layer = (struct oci_layer){
		.name = blob_name(&d.digest),
		.media_type = vl_strdup(d.media_type),
		.digest = d.digest,
		.size = d.size,
	};
	return 0;
}

int oci_artifact_resolve(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_artifact *ret,
			 struct vl_err *err)
{
	VL_CLEANUP(oci_artifact_free) struct oci_artifact a = { 0 };
	struct search f = { .s = s, .arch = arch, .sif = true };
	struct oci_digest named;
	int r = find_manifest(&f, ref, &named, err);

	if (r == 0) {
		a.manifest = f.found.digest;
		r = read_artifact(f.manifest, &a, err);
	}
	vl_json_freep(&f.manifest);
	if (r < 0)
		return with_name(ref, r, err);
	*ret = vl_move(&a);
	return 0;
}

void oci_artifact_free(struct oci_artifact *a)
{
	free(a->layer.name);
	free(a->layer.media_type);
	free(a->title);
	*a = (struct oci_artifact){ 0 };
}
