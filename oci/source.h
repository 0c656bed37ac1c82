#ifndef OCI_SOURCE_H
#define OCI_SOURCE_H

#include <vial/oci.h>

struct oci_source {
	enum oci_kind kind;
	int fd; /* of the layout directory, or of the archive */
	char *path;
};

/* archive.c: a member of the tar; links between members are followed inside the tar only. */
int oci_archive_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err);

#endif
