#include "provenance.h"

#include "codec.h"

#define BUILD_TYPE "urn:vial:conversion:1"
#define BUILDER "urn:vial:builder"

static vl_json *digest_set(const struct oci_digest *d)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, d->algo, vl_json_new_str(d->hex));
	return j;
}

static void set_str(vl_json *j, const char *key, const char *s)
{
	if (s)
		vl_json_set(j, key, vl_json_new_str(s));
}

/* A resource of the statement. */
static vl_json *resource(const char *name, const char *uri, const struct oci_digest *d)
{
	vl_json *j = vl_json_new_obj();

	set_str(j, "name", name);
	set_str(j, "uri", uri);
	vl_json_set(j, "digest", digest_set(d));
	return j;
}

static struct oci_digest config_digest(const struct oci_image *image)
{
	struct oci_digest d = { .algo = "sha256" };
	uint8_t sha[32];

	vl_sha256(image->config_text, image->config_len, sha);
	vl_hex(sha, sizeof sha, d.hex);
	return d;
}

/* A registry's by its whole name and the digest of the manifest, never a tag: tags move, and two of one digest must give
 * the same bytes. */
static char *source_uri(const struct img_source *src)
{
	struct oci_ref r = src->ref;

	if (src->kind != IMG_SOURCE_OCI || !oci_ref_is_remote(&src->ref))
		return vl_asprintf("%s:%s", src->bootstrap, src->from);
	r.tag = NULL;
	r.digest = src->image.manifest;
	VL_FREE char *name = oci_ref_name(&r);
	return vl_asprintf("%s://%s", src->bootstrap, name);
}

/* Layers with both digests: of the blob in the source, where it has one, and of the tar inside. */
static void add_layers(vl_json *list, const struct oci_image *image)
{
	for (size_t i = 0; i < image->n_layers; i++) {
		const struct oci_layer *l = &image->layers[i];
		VL_FREE char *name = vl_asprintf("layer %zu", i + 1);
		VL_FREE char *diff = vl_asprintf("%s:%s", l->diff_id.algo, l->diff_id.hex);
		vl_json *j = resource(name, NULL, *l->digest.algo ? &l->digest : &l->diff_id);
		vl_json *notes = vl_json_new_obj();
		set_str(j, "mediaType", l->media_type);
		set_str(notes, "diffId", diff);
		vl_json_set(j, "annotations", notes);
		vl_json_add(list, j);
	}
}

static vl_json *dependencies(const struct img_source *src, const char *uri)
{
	const struct oci_digest config = config_digest(&src->image);
	vl_json *list = vl_json_new_arr();

	if (*src->image.manifest.algo)
		vl_json_add(list, resource("manifest", uri, &src->image.manifest));
	vl_json_add(list, resource("config", *src->image.manifest.algo ? NULL : uri, &config));
	add_layers(list, &src->image);
	return list;
}

/* What changes the bytes of the image; the number of threads, for one, does not. */
static vl_json *parameters(const struct img_build_opts *o, const char *uri)
{
	VL_FREE char *compress = img_codec_words(o->compress);
	vl_json *j = vl_json_new_obj();

	set_str(j, "source", uri);
	set_str(j, "architecture", o->arch);
	set_str(j, "compress", compress);
	vl_json_set(j, "blockSize", vl_json_new_int(o->block_size));
	set_str(j, "owner", o->owner == IMG_OWNER_ROOT ? "root" : "keep");
	return j;
}

static vl_json *definition(const struct img_build_opts *o, const struct img_source *src, const char *uri, int64_t time)
{
	vl_json *j = vl_json_new_obj(), *internal = vl_json_new_obj();

	vl_json_set(internal, "sourceDateEpoch", vl_json_new_int(time));
	set_str(j, "buildType", BUILD_TYPE);
	vl_json_set(j, "externalParameters", parameters(o, uri));
	vl_json_set(j, "internalParameters", internal);
	vl_json_set(j, "resolvedDependencies", dependencies(src, uri));
	return j;
}

static vl_json *run_details(const struct img_build_opts *o, const uint8_t uuid[16])
{
	vl_json *j = vl_json_new_obj(), *builder = vl_json_new_obj(), *version = vl_json_new_obj(),
		*metadata = vl_json_new_obj();
	char id[37];

	sif_uuid_text(uuid, id);
	VL_FREE char *urn = vl_asprintf("urn:uuid:%s", id);
	set_str(version, "vial", o->builder);
	set_str(builder, "id", BUILDER);
	vl_json_set(builder, "version", version);
	set_str(metadata, "invocationId", urn);
	vl_json_set(j, "builder", builder);
	vl_json_set(j, "metadata", metadata);
	return j;
}

/* The subject is the source's image and not the squashfs: that begins with numbers which are known last, so its digest
 * would take a second reading; and the image may be laid out anew (optimize.c) and stay the same image. What binds the
 * statement to the bytes is the signature, which covers both objects. */
char *img_provenance(const struct img_build_opts *o, const struct img_source *src, const uint8_t uuid[16], int64_t time)
{
	if (!src->oci || src->kind != IMG_SOURCE_OCI)
		return NULL;
	VL_JSON vl_json *top = vl_json_new_obj();
	VL_FREE char *uri = source_uri(src);
	vl_json *subject = vl_json_new_arr(), *predicate = vl_json_new_obj();
	const struct oci_digest config = config_digest(&src->image);

	vl_json_add(subject, resource(uri, NULL, *src->image.manifest.algo ? &src->image.manifest : &config));
	vl_json_set(predicate, "buildDefinition", definition(o, src, uri, time));
	vl_json_set(predicate, "runDetails", run_details(o, uuid));
	set_str(top, "_type", "https://in-toto.io/Statement/v1");
	vl_json_set(top, "subject", subject);
	set_str(top, "predicateType", "https://slsa.dev/provenance/v1");
	vl_json_set(top, "predicate", predicate);
	return vl_json_text(top, false);
}
