/* What a converted image carries besides its files: .singularity.d, so that Apptainer and
 * SingularityCE run it as their own, and the texts that become SIF objects. */
#ifndef IMAGE_META_H
#define IMAGE_META_H

#include <vial/oci.h>

#include "tree.h"

struct img_source_info {
	const char *bootstrap, *from; /* words of the definition: "oci", "/path:tag" */
	const struct oci_image *oci;  /* NULL = a directory */
	const char *arch, *version;
	int64_t time;
};
struct img_meta {
	char *deffile, *inspect, *oci_config /* NULL = none */, *build;
	struct vl_strv files; /* path, content, path, content ... */
};
void img_meta_make(const struct img_source_info *src, struct img_meta *ret);
void img_meta_free(struct img_meta *m);
/* The runscript, and the script of the environment, that a conversion makes of an OCI config (its member "config"; NULL
 * = none); return new. */
char *img_meta_runscript(const vl_json *config) VL_NEW;
char *img_meta_environment(const vl_json *config) VL_NEW;
#define IMG_META_NO_ENVIRONMENT "#!/bin/sh\n# %environment of a definition file\n" /* env/90-environment.sh */
/* The config starts a program of the image's own .singularity.d: an export kept that folder (image/export.c), and
 * scripts made of the config in its place would call themselves for ever. */
bool img_meta_is_own(const vl_json *config, struct img_tree *t);
/* Puts .singularity.d and the standard mount points into the tree; what the image has already of
 * the mount points stays. log must outlive the tree. keep: leave an existing .singularity.d. */
int img_meta_apply(const struct img_meta *m, bool keep, int64_t time, struct img_tree *t, struct img_blocks *b,
		   struct img_log *log, struct vl_err *err);

#endif
