#ifndef IMAGE_CONVERT_H
#define IMAGE_CONVERT_H

#include <vial/image.h>
#include <vial/oci.h>

/* A source whose files are open; made before privileges go. */
struct img_source {
	const char *bootstrap; /* "oci", "oci-archive", "docker-archive", "localimage" */
	char *from;
	struct oci_ref ref;
	struct oci_source *oci; /* NULL: a directory */
	int dirfd;
};
int img_source_open(const char *text, struct img_source *ret, struct vl_err *err);
void img_source_free(struct img_source *s);

/* The conversion itself, in this process: image/convert.c. */
int img_convert(const struct img_build_opts *o, struct img_source *src, int fd, const struct vl_progress *progress,
		struct img_build_stats *ret, struct vl_err *err);

#endif
