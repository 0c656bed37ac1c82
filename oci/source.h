#ifndef OCI_SOURCE_H
#define OCI_SOURCE_H

#include "client.h"

struct oci_member {  /* of an archive */
	char *name;  /* without "./" and doubled slashes */
	char *link;  /* where a link leads inside the archive; NULL = no link, or one that leads out */
	int64_t pos; /* of its header */
	bool file;
};

struct oci_source {
	enum oci_kind kind;
	int fd; /* of the layout directory, or of the archive (of its inflated copy, when it was compressed) */
	char *path;
	struct oci_member *members; /* archives; NULL until the first file is asked for */
	size_t n_members;
	struct oci_registry *registry; /* OCI_REGISTRY and OCI_ORAS */
};

/* archive.c: a member of the tar; links between members are followed inside the tar only. */
int oci_archive_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err);
void oci_archive_forget(struct oci_source *s);
/* docker.c: docker-archive's own document instead of index and manifest. */
int oci_docker_resolve(struct oci_source *s, const struct oci_ref *ref, struct oci_image *ret, struct vl_err *err);
/* image.c, shared by both: config text -> fields and diff ids; layers must be set. */
int oci_config_load(struct oci_image *img, struct vl_err *err);

#endif
