/* A layer as a stream of tar bytes: a thread reads, hashes and inflates while the consumer parses. */
#ifndef IMAGE_STREAM_H
#define IMAGE_STREAM_H

#include <vial/oci.h>

struct img_stream;

/* Takes blob. max_bytes bounds the inflated size (decompression bombs). */
int img_stream_open(struct oci_blob *blob, const struct oci_layer *layer, uint64_t max_bytes, struct img_stream **ret,
		    struct vl_err *err);
/* Next piece of the tar, valid until the next call. *ret_len 0 = the end, and everything checked:
 * size and digest of the blob, checksums of its compression, diff id. */
int img_stream_next(struct img_stream *s, const void **ret, size_t *ret_len, struct vl_err *err);
/* Reads on to the end; the error that says why a layer is bad is often found only there. */
int img_stream_drain(struct img_stream *s, struct vl_err *err);
uint64_t img_stream_consumed(const struct img_stream *s); /* bytes of the blob read so far */
void img_stream_close(struct img_stream *s);              /* stops the thread; NULL is fine */

#endif
