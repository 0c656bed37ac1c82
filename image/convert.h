#ifndef IMAGE_CONVERT_H
#define IMAGE_CONVERT_H

#include <vial/image.h>
#include <vial/oci.h>

/* ---- source.c: what is converted, or fetched as it is ---- */

enum img_source_kind {
	IMG_SOURCE_DIR,      /* a directory of the host */
	IMG_SOURCE_OCI,      /* layers: layouts, archives, registries */
	IMG_SOURCE_ARTIFACT, /* oras://: a SIF in a registry */
	IMG_SOURCE_URL,      /* http(s)://: a SIF on a web server */
};
struct img_source {
	enum img_source_kind kind;
	const char *bootstrap; /* "docker", "oci", "oci-archive", "docker-archive", "localimage" */
	char *from;            /* the rest of the definition's "from:" */
	struct oci_ref ref;
	struct oci_client *client; /* remote kinds */
	struct oci_source *oci;    /* NULL: a directory or a URL */
	int dirfd;
	struct oci_blob_store blobs; /* an artifact is downloaded into the image itself */
	int into;

	/* known after img_source_resolve */
	struct oci_image image;
	struct oci_artifact artifact;
	struct oci_file_info url;
};
/* The words of the definition that an image of this source carries: "docker", and *ret_from (new). digest: of its
 * manifest, which a registry's source is named by. */
const char *img_source_words(const char *source, const struct oci_ref *ref, const struct oci_digest *digest,
			     char **ret_from);
/* Opens what is local and reads configuration and credentials: made before privileges go, and before the fork. blobs:
 * where layers are downloaded to; NULL = nameless files. */
int img_source_open(const struct img_build_opts *o, const struct oci_blob_store *blobs, const struct vl_progress *say,
		    struct img_source *ret, struct vl_err *err);
/* Manifests, config, or the file's own facts: what the image will be made of. */
int img_source_resolve(struct img_source *s, const char *arch, struct img_found *ret, struct vl_err *err);
/* Tells a registry which layers come, in that order. */
void img_source_will_read(struct img_source *s);
/* A SIF as it is, into fd; checked to be one. */
int img_source_copy(struct img_source *s, int fd, const struct vl_progress *progress, struct vl_err *err);
void img_source_free(struct img_source *s);

/* ---- convert.c: the conversion itself, in this process; the source is resolved ---- */

int img_convert(const struct img_build_opts *o, struct img_source *src, int fd, const struct vl_progress *progress,
		struct img_build_stats *ret, struct vl_err *err);

/* ---- build.c: the process around it ---- */

struct img_job {
	const struct img_build_opts *o;
	const struct oci_blob_store *blobs; /* NULL = nameless files */
	/* Asked in the caller's process when the source is known, while signals have the caller's own handling. 0: go on, *ret_fd (borrowed) is
	 * where to; 1: not needed after all. */
	int (*found)(void *arg, const struct img_found *f, int *ret_fd, struct vl_err *err);
	void *arg;
};
/* 0, 1 when found said so, or an error (-EINTR: ret->signal). */
int img_job_run(const struct img_job *job, const struct vl_progress *progress, struct img_build_stats *ret,
		struct vl_err *err);

#endif
