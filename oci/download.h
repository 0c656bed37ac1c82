/* Inside a registry source: its blobs on their way. */
#ifndef OCI_DOWNLOAD_H
#define OCI_DOWNLOAD_H

#include "client.h"

struct oci_downloads;
/* All borrowed as long as it lives. */
struct oci_downloads *oci_downloads_new(const struct oci_ref *ref, struct oci_client *c,
					const struct oci_blob_store *blobs) VL_NEW;
void oci_downloads_free(struct oci_downloads *l); /* stops and joins; NULL is fine */
/* Queues it; size UINT64_MAX = unknown, which is for documents only. */
void oci_downloads_add(struct oci_downloads *l, const struct oci_digest *d, uint64_t size);
/* A reader, at once when the size is known. */
int oci_downloads_open(struct oci_downloads *l, const struct oci_digest *d, struct oci_blob **ret, struct vl_err *err);
uint64_t oci_downloads_bytes(struct oci_downloads *l);

/* "bytes FIRST-LAST/TOTAL" or with a star for TOTAL; ret_total UINT64_MAX when it is a star. -EINVAL. */
int oci_content_range(const char *text, uint64_t *ret_first, uint64_t *ret_last, uint64_t *ret_total);

#endif
