/* oci: images from outside, before they are one tree: references, layouts, archives, manifests.
 *
 * Source of the rules: image-spec 1.1. Every byte comes from outside: documents are bounded
 * (VL_JSON_MAX), names never touch a path unless they are digests in their one spelling, and
 * size and digest of a document are checked before it is parsed. Layers are checked while they
 * are read (image/stream.c).
 */
#ifndef VIAL_OCI_H
#define VIAL_OCI_H

#include <vial/base.h>

#define OCI_MAX_LAYERS 1000    /* Docker stops at 127; thousands are an attack */
#define OCI_MAX_DOCUMENTS 2000 /* manifests looked at to find one; an index lists a few dozen */
#define OCI_MAX_INDEX_DEPTH 4  /* real indexes are one level deep, nested ones two */

struct oci_digest {
	char algo[8]; /* sha256 or sha512 */
	char hex[VL_HASH_MAX * 2 + 1];
};
/* "sha256:" + 64 lower-case hex digits (sha512: 128); anything else is refused. */
int oci_digest_parse(const char *text, struct oci_digest *ret, struct vl_err *err);
/* -EBADMSG when the bytes are not what the digest says. */
int oci_digest_check(const struct oci_digest *d, const void *p, size_t n, const char *what, struct vl_err *err);

/* ---- ref.c: what the user wrote ------------------------------------------------------- */

enum oci_kind { OCI_LAYOUT, OCI_ARCHIVE, OCI_DOCKER_ARCHIVE };
struct oci_ref {
	enum oci_kind kind;
	char *path;
	char *tag;                /* NULL = none asked for */
	struct oci_digest digest; /* algo "" = none */
};
/* oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG|@DIGEST], docker-archive:FILE[:REF].
 * -ENOTSUP when `uri` has no scheme of ours (it may be a plain path). */
int oci_ref_parse(const char *uri, struct oci_ref *ret, struct vl_err *err);
void oci_ref_free(struct oci_ref *r);

/* ---- source.c: one open image store, whatever its kind -------------------------------- */

/* A blob being read, front to back. read: bytes, 0 at the end, -errno with err filled. */
struct oci_blob {
	ssize_t (*read)(struct oci_blob *b, void *p, size_t n, struct vl_err *err);
	void (*close)(struct oci_blob *b);
	uint64_t size; /* bytes that will come */
	char *what;    /* for messages */
};
void oci_blob_close(struct oci_blob *b); /* NULL is fine */

struct oci_source;
/* Opens layout or archive; reads nothing of it yet. */
int oci_source_open(const struct oci_ref *ref, struct oci_source **ret, struct vl_err *err);
void oci_source_free(struct oci_source *s);
/* By file name inside the source ("index.json", "blobs/sha256/..."): regular files only. */
int oci_source_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err);
/* Whole small document, at most VL_JSON_MAX bytes. Returns new. */
int oci_source_document(struct oci_source *s, const char *name, char **ret, size_t *ret_len, struct vl_err *err);

/* ---- image.c: the one image a reference means ------------------------------------------ */

struct oci_layer {
	char *name;                /* file name in the source, for oci_source_file */
	char *media_type;          /* NULL when the source does not say */
	struct oci_digest digest;  /* of the blob as stored; algo "" = unknown (docker-archive) */
	struct oci_digest diff_id; /* of the tar */
	uint64_t size;             /* bytes as stored; UINT64_MAX = unknown */
};
struct oci_image {
	struct oci_digest manifest; /* algo "" = the source has no manifest (docker-archive) */
	char *config_text;          /* as stored: recorded in the SIF */
	size_t config_len;
	vl_json *config;          /* the same, parsed */
	char arch[32];            /* OCI name */
	struct oci_layer *layers; /* lowest first */
	size_t n_layers;
};
/* arch: OCI name wanted ("amd64"). Manifest, index and config are checked against their
 * descriptors; the number of layers must equal the number of diff ids. */
int oci_image_resolve(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *ret,
		      struct vl_err *err);
void oci_image_free(struct oci_image *img);

/* docker-archive's own document instead of index and manifest (docker.c). */
int oci_docker_resolve(struct oci_source *s, const struct oci_ref *ref, struct oci_image *ret, struct vl_err *err);
/* Shared by both: config text -> fields and diff ids; layers must be set. */
int oci_config_load(struct oci_image *img, struct vl_err *err);

#endif
