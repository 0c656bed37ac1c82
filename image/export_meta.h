/* Whether .singularity.d of an image is what a conversion into a SIF made of its OCI config, and nothing else. */
#ifndef IMAGE_EXPORT_META_H
#define IMAGE_EXPORT_META_H

#include <vial/base.h>
#include <vial/sif.h>

struct img_export_meta {
	bool converted;         /* the OCI config says all that the folder says */
	const char *entrypoint; /* program of the folder that starts the image; NULL = it has none */
};
/* root: the squashfs. config: the member "config" of the stored image config; NULL = none is stored. max_size: as of
 * img_unsquash. */
int img_export_meta_read(const struct sif_image *sif, const struct sif_descr *root, const vl_json *config,
			 uint64_t max_size, struct img_export_meta *ret, struct vl_err *err);

#endif
