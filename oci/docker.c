/* docker-archive: manifest.json is a list of {Config, RepoTags, Layers}; names are members of the
 * tar. It has no descriptors: the config is checked when its name is its digest, the layers
 * through the config's diff ids. */
#include "source.h"

static bool has_tag(const vl_json *entry, const char *tag)
{
	const vl_json *tags = vl_json_arr(entry, "RepoTags");

	for (size_t i = 0; i < vl_json_len(tags); i++) {
		const char *t = vl_json_string(vl_json_at(tags, i));
		/* "busybox" means busybox:latest */
		const char *rest = t ? vl_prefix(t, tag) : NULL;
		if (rest && (!*rest || (vl_streq(rest, ":latest") && !strchr(tag, ':'))))
			return true;
	}
	return false;
}

static int choose(const vl_json *list, const struct oci_ref *ref, const vl_json **ret, struct vl_err *err)
{
	const vl_json *found = NULL;

	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *e = vl_json_at(list, i);
		if (ref->tag && !has_tag(e, ref->tag))
			continue;
		if (found)
			return vl_fail(err, EINVAL,
				       "%s holds several images; name one, as in docker-archive:FILE:NAME:TAG",
				       ref->path);
		found = e;
	}
	if (!found)
		return vl_fail(err, ENOENT, "%s has no image named %s", ref->path, ref->tag ? ref->tag : "anything");
	*ret = found;
	return 0;
}

/* "<hex>.json" of classic archives and "blobs/sha256/<hex>" of newer ones. */
static int check_config_name(const char *name, const char *text, size_t len, struct vl_err *err)
{
	struct vl_err ignored;
	struct oci_digest d;
	const char *base = vl_basename(name);
	VL_FREE char *hex = vl_strndup(base, strcspn(base, "."));
	VL_FREE char *digest = vl_asprintf("sha256:%s", hex);

	if (oci_digest_parse(digest, &d, &ignored) < 0)
		return 0;
	return oci_digest_check(&d, text, len, "image config", err);
}

static int read_layers(struct oci_image *img, const vl_json *layers, struct vl_err *err)
{
	size_t n = vl_json_len(layers);

	if (n > OCI_MAX_LAYERS)
		return vl_fail(err, E2BIG, "manifest.json: %zu layers are over the limit of %d", n, OCI_MAX_LAYERS);
	img->layers = vl_alloc((n + 1) * sizeof *img->layers);
	for (; img->n_layers < n; img->n_layers++) {
		const char *name = vl_json_string(vl_json_at(layers, img->n_layers));
		if (!name)
			return vl_fail(err, EINVAL, "manifest.json: a layer is not a name");
		img->layers[img->n_layers] = (struct oci_layer){ .name = vl_strdup(name), .size = UINT64_MAX };
	}
	return 0;
}

int oci_docker_resolve(struct oci_source *s, const struct oci_ref *ref, struct oci_image *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_image_free) struct oci_image img = { 0 };
	VL_FREE char *text = NULL;
	VL_JSON vl_json *list = NULL;
	const vl_json *entry = NULL;
	size_t len;
	int r;

	if (*ref->digest.algo)
		return vl_fail(err, EINVAL, "a docker-archive has no digests to ask for; use its name and tag");
	if ((r = oci_source_document(s, "manifest.json", &text, &len, err)) < 0 ||
	    (r = vl_json_parse(text, len, "manifest.json", &list, err)) < 0 || (r = choose(list, ref, &entry, err)) < 0)
		return r;
	const char *config = vl_json_str(entry, "Config");
	const vl_json *layers = vl_json_arr(entry, "Layers");
	if (!config || !layers)
		return vl_fail(err, EINVAL, "manifest.json: Config or Layers is missing");
	if ((r = read_layers(&img, layers, err)) < 0 ||
	    (r = oci_source_document(s, config, &img.config_text, &img.config_len, err)) < 0 ||
	    (r = check_config_name(config, img.config_text, img.config_len, err)) < 0 ||
	    (r = oci_config_load(&img, err)) < 0)
		return r;
	*ret = vl_move(&img);
	return 0;
}
