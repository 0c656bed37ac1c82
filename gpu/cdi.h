/* What the files of CDI share. The format: github.com/cncf-tags/container-device-interface, SPEC.md. */
#ifndef GPU_CDI_H
#define GPU_CDI_H

#include <vial/gpu.h>

#define GPU_CDI_FILE_MAX (1u << 20) /* sixteen GPUs, each cut into seven, with all files of a driver are 150 KB */
#define GPU_CDI_LIST_MAX 4096u      /* entries of any list: a driver has some 200 files, those GPUs 300 names */
#define GPU_CDI_LIBS "LD_LIBRARY_PATH"
#define GPU_CDI_NAME_MAX 253u /* of a vendor, which is a DNS name */

/* ---- yaml.c, yaml_out.c ---- */

/* One YAML document as the tree of a JSON one. A plain scalar that YAML 1.1 or 1.2 takes for a truth value is a boolean, an
 * integer an integer, and a floating number the text it is. Returns new. */
int gpu_yaml_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err);
/* A tree of objects, lists, strings and integers as YAML; returns new. */
char *gpu_yaml_text(const vl_json *j) VL_NEW;

/* ---- cdi_name.c ---- */

bool gpu_cdi_is_vendor(const char *s);
bool gpu_cdi_is_class(const char *s);
bool gpu_cdi_is_device(const char *s);
/* VENDOR/CLASS=NAME. *ret_kind (VENDOR/CLASS) and *ret_name are new. -EINVAL tells what is wrong. */
int gpu_cdi_split(const char *word, char **ret_kind, char **ret_name, struct vl_err *err);
/* VENDOR/CLASS */
bool gpu_cdi_is_kind(const char *s);
bool gpu_cdi_is_annotation(const char *key);

/* ---- cdi_spec.c ---- */

struct gpu_cdi_changes {
	struct gpu_edits edits;
	const char *cannot; /* what of it a container without root cannot have; NULL = nothing. A literal */
};
struct gpu_cdi_device {
	char *name;
	struct gpu_cdi_changes changes;
};
struct gpu_cdi_spec {
	char *path; /* of its file; for messages */
	char *kind;
	const char *least;              /* version that has all that is in it; a literal */
	struct gpu_cdi_changes changes; /* of each of its devices */
	struct gpu_cdi_device *devices;
	size_t n_devices;
};
/* yaml: the text is YAML, else JSON. Checks all the rules of the specification; *ret is untouched on failure. */
int gpu_cdi_parse(const char *text, size_t len, bool yaml, const char *path, struct gpu_cdi_spec *ret,
		  struct vl_err *err);
void gpu_cdi_spec_free(struct gpu_cdi_spec *s);

#endif
