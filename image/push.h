/* What a push sends, inside the process that has no privileges. */
#ifndef IMAGE_PUSH_H
#define IMAGE_PUSH_H

#include "export.h"

struct img_push_job { /* all that is opened before privileges go */
	const struct img_push_opts *o;
	struct oci_ref target;
	struct oci_client *client;
	int fd; /* of a SIF; -1: an OCI source */
	struct sif_image sif;
	struct oci_ref from;
	struct oci_client *from_client; /* NULL: a local source */
	struct oci_source *source;
	const char *title; /* annotation of an artifact: the name of the file */
};
/* upload.c: does the job. */
int img_push_send(struct img_push_job *j, const struct vl_progress *progress, struct img_push_stats *ret,
		  struct vl_err *err);

#endif
