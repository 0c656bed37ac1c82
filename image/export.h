/* The root file system of a SIF as one OCI layer, with the config that belongs to it. */
#ifndef IMAGE_EXPORT_H
#define IMAGE_EXPORT_H

#include <vial/image.h>
#include <vial/sif.h>

#define IMG_MT_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define IMG_MT_CONFIG "application/vnd.oci.image.config.v1+json"
#define IMG_MT_LAYER "application/vnd.oci.image.layer.v1.tar+gzip"

struct img_exported {
	struct oci_digest diff_id, layer; /* of the tar, of the file */
	uint64_t size;                    /* of the file */
	uint64_t entries, bytes;          /* in the tar; of file content */
	char *config;                     /* text of the image config */
};
void img_exported_free(struct img_exported *e);
/* Writes the layer into fd (empty) in one pass. threads: that compress; 0 = one. max_size: of all files together,
 * 0 = as much as there is. What a conversion into a SIF added is left out; scripts of the image's
 * own stay, and are what the config starts. */
int img_export(const struct sif_image *sif, unsigned threads, uint64_t max_size, int fd,
	       const struct vl_progress *progress, struct img_exported *ret, struct vl_err *err);

/* ---- export_docs.c ---- */

/* The object oci-config.json is either a whole image config or, as vial and others write it, only the member "config"
 * of one. stored: NULL = there is none. Borrowed. */
const vl_json *img_export_config_of(const vl_json *stored);
/* Text of the image config. entrypoint: takes the place of what the stored one starts; NULL = that is right. */
char *img_export_config(const struct sif_image *sif, const vl_json *stored, const char *entrypoint,
			const struct oci_digest *diff_id) VL_NEW;
/* {mediaType, digest, size}; returns new. */
vl_json *img_descriptor(const char *media_type, const struct oci_digest *d, uint64_t size) VL_NEW;
/* sha256 of small text. */
void img_text_digest(const char *text, size_t n, struct oci_digest *ret);
/* Text of the image manifest; returns new. */
char *img_export_manifest(const struct img_exported *e) VL_NEW;

#endif
