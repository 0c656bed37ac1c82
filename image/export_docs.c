/* Manifest and config of an exported image. */
#include "export.h"

#include <stdio.h>
#include <time.h>

vl_json *img_descriptor(const char *media_type, const struct oci_digest *d, uint64_t size)
{
	vl_json *j = vl_json_new_obj();
	VL_FREE char *digest = vl_asprintf("%s:%s", d->algo, d->hex);

	vl_json_set(j, "mediaType", vl_json_new_str(media_type));
	vl_json_set(j, "digest", vl_json_new_str(digest));
	vl_json_set(j, "size", vl_json_new_int((int64_t)size));
	return j;
}

void img_text_digest(const char *text, size_t n, struct oci_digest *ret)
{
	uint8_t sha[32];

	vl_sha256(text, n, sha);
	*ret = (struct oci_digest){ .algo = "sha256" };
	vl_hex(sha, sizeof sha, ret->hex);
}

char *img_export_manifest(const struct img_exported *e)
{
	VL_JSON vl_json *m = vl_json_new_obj();
	vl_json *layers = vl_json_new_arr();
	struct oci_digest config;

	img_text_digest(e->config, strlen(e->config), &config);
	vl_json_set(m, "schemaVersion", vl_json_new_int(2));
	vl_json_set(m, "mediaType", vl_json_new_str(IMG_MT_MANIFEST));
	vl_json_set(m, "config", img_descriptor(IMG_MT_CONFIG, &config, strlen(e->config)));
	vl_json_add(layers, img_descriptor(IMG_MT_LAYER, &e->layer, e->size));
	vl_json_set(m, "layers", layers);
	return vl_json_text(m, false);
}

static void copy_member(void *arg, const char *key, const vl_json *value)
{
	vl_json_set(arg, key, vl_json_ref(value));
}

static void set_default(vl_json *obj, const char *key, const char *value)
{
	if (!vl_json_str(obj, key))
		vl_json_set(obj, key, vl_json_new_str(value));
}

static void set_time(vl_json *obj, const char *key, int64_t seconds)
{
	time_t t = (time_t)seconds;
	struct tm tm;
	char text[32];

	/* year 1 is the mark of a deterministic image; there is no good date then */
	if (seconds > 0 && gmtime_r(&t, &tm) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm))
		set_default(obj, key, text);
}

static bool is_whole(const vl_json *stored)
{
	return vl_json_obj(stored, "rootfs") || vl_json_str(stored, "architecture");
}

const vl_json *img_export_config_of(const vl_json *stored)
{
	return is_whole(stored) ? vl_json_obj(stored, "config") : stored;
}

/* config: NULL = none; entrypoint: takes the place of what config starts; NULL = config is right. Returns new. */
static vl_json *make_start(const vl_json *config, const char *entrypoint)
{
	vl_json *j = vl_json_new_obj();

	vl_json_each(config, copy_member, j);
	if (entrypoint) {
		vl_json *words = vl_json_new_arr();
		vl_json_add(words, vl_json_new_str(entrypoint));
		vl_json_set(j, "Entrypoint", words);
		vl_json_remove(j, "Cmd");
	}
	return j;
}

char *img_export_config(const struct sif_image *sif, const vl_json *stored, const char *entrypoint,
			const struct oci_digest *diff_id)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *rootfs = vl_json_new_obj(), *ids = vl_json_new_arr(), *history = vl_json_new_arr(),
		*step = vl_json_new_obj();
	VL_FREE char *id = vl_asprintf("%s:%s", diff_id->algo, diff_id->hex);
	const struct sif_descr *part;
	struct vl_err ignored;
	char arch[4] = "00";

	if (is_whole(stored))
		vl_json_each(stored, copy_member, j);
	vl_json_set(j, "config", make_start(img_export_config_of(stored), entrypoint));
	if (sif_primary(sif, &part, &ignored) == 0)
		sif_part_arch(part, arch);
	const char *name = vl_streq(arch, "00") ? sif_host_arch() : sif_arch_name(arch);
	set_time(j, "created", sif->h.created);
	set_default(j, "architecture", name);
	set_default(j, "os", "linux");
	vl_json_add(ids, vl_json_new_str(id));
	vl_json_set(rootfs, "type", vl_json_new_str("layers"));
	vl_json_set(rootfs, "diff_ids", ids);
	vl_json_set(j, "rootfs", rootfs);
	set_time(step, "created", sif->h.created);
	vl_json_set(step, "created_by", vl_json_new_str("vial push"));
	vl_json_set(step, "comment", vl_json_new_str("root file system of a SIF image"));
	vl_json_add(history, step);
	vl_json_set(j, "history", history);
	return vl_json_text(j, false);
}
