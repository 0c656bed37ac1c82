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

enum oci_kind { OCI_LAYOUT, OCI_ARCHIVE, OCI_DOCKER_ARCHIVE, OCI_REGISTRY, OCI_ORAS, OCI_HTTP };
struct oci_ref {
	enum oci_kind kind;
	char *path;               /* local kinds: of the file; OCI_HTTP: the whole URL */
	char *host, *repo;        /* registry and oras: "docker.io", "library/python"; host may have a :port */
	char *tag;                /* NULL = none asked for; a registry's default, "latest", is filled in */
	struct oci_digest digest; /* algo "" = none; with a tag too, the digest decides */
};
/* oci:DIR[:TAG|@DIGEST], oci-archive:FILE[:TAG|@DIGEST], docker-archive:FILE[:REF],
 * docker://[HOST[:PORT]/]REPO[:TAG][@DIGEST], oras://HOST[:PORT]/REPO[:TAG][@DIGEST], http(s)://...
 * Grammar of names: distribution-spec 1.1; host and repository defaults are Docker's.
 * -ENOTSUP when `uri` has no scheme of ours (it may be a plain path). */
int oci_ref_parse(const char *uri, struct oci_ref *ret, struct vl_err *err);
/* "docker.io/library/python:3.12@sha256:..." for messages and records; returns new. Local kinds: the path;
 * OCI_HTTP: the URL without its query, which may be a secret. */
char *oci_ref_name(const struct oci_ref *r) VL_NEW;
/* Same name with a shorter spelling for people: "python:3.12". Returns new. */
char *oci_ref_short(const struct oci_ref *r) VL_NEW;
bool oci_ref_is_remote(const struct oci_ref *r);
void oci_ref_free(struct oci_ref *r);

/* ---- client.c: how registries are reached ---------------------------------------------- */

#define OCI_NO_RETRIES (~0u)
struct oci_net {
	const char *authfile;            /* NULL = the usual places, oci-reference 3.2 */
	const char *username, *password; /* beat all files; NULL = none */
	const char *config_dir;          /* "/etc/containers", "$HOME/.config/containers" when NULL; for tests */
	const char *agent;               /* "vial/0.1.0" */
	bool no_https;                   /* plain HTTP to every host */
	unsigned downloads;              /* blobs at a time; 0 = 4 */
	unsigned retries;                /* after a transient failure; 0 = 5; OCI_NO_RETRIES = none */
};
/* Reads configuration and credential files; opens no connection. Safe to use by several threads.
 * A fork may inherit it as long as nothing was requested yet. */
struct oci_client;
int oci_client_new(const struct oci_net *net, const struct vl_progress *say, struct oci_client **ret,
		   struct vl_err *err);
void oci_client_free(struct oci_client *c); /* NULL is fine */
/* Warnings go there from now on; before the first request. */
void oci_client_say(struct oci_client *c, const struct vl_progress *say);

/* What downloaded blobs are written into, and where earlier ones are. NULL functions: files of $TMPDIR
 * that have no name. All run in the process that converts; lookup, keep and drop may be called by threads. */
struct oci_blob_store {
	int (*lookup)(void *arg, const struct oci_digest *d, uint64_t size); /* fd of a kept blob, caller's; -1 */
	int (*create)(void *arg, struct vl_err *err);                        /* fd of an empty nameless file */
	void (*keep)(void *arg, const struct oci_digest *d, int fd);         /* whole and checked; borrows fd */
	void (*drop)(void *arg, const struct oci_digest *d);                 /* what lookup gave is damaged */
	void *arg;
};

/* ---- source.c: one open image store, whatever its kind -------------------------------- */

/* A blob being read, front to back. read: bytes, 0 at the end, -errno with err filled. */
struct oci_blob {
	ssize_t (*read)(struct oci_blob *b, void *p, size_t n, struct vl_err *err);
	void (*close)(struct oci_blob *b);
	uint64_t size; /* bytes that will come */
	char *what;    /* for messages */
	bool checked;  /* read only comes to its end when size and digest were right: no need to hash again */
};
void oci_blob_close(struct oci_blob *b); /* NULL is fine */

struct oci_source;
/* Opens layout, archive or registry; reads nothing of it yet. client: for remote kinds, else NULL; borrowed
 * as long as the source lives, as is blobs (NULL = none). */
int oci_source_open(const struct oci_ref *ref, struct oci_client *client, const struct oci_blob_store *blobs,
		    struct oci_source **ret, struct vl_err *err);
void oci_source_free(struct oci_source *s);
/* By file name inside the source ("index.json", "blobs/sha256/..."): regular files only. */
int oci_source_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err);
/* The blobs that will be asked for, in that order: a registry starts to download them. Others do nothing. */
struct oci_layer;
void oci_source_will_read(struct oci_source *s, const struct oci_layer *const *layers, size_t n);
/* Bytes that came over the network so far. */
uint64_t oci_source_downloaded(const struct oci_source *s);
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
	struct oci_digest named;    /* what the reference led to first: an index, or the manifest; "" as above */
	char *config_text;          /* as stored: recorded in the SIF */
	size_t config_len;
	vl_json *config;          /* the same, parsed */
	char arch[32];            /* OCI name */
	struct oci_layer *layers; /* lowest first */
	size_t n_layers;
	vl_json *document; /* the manifest; NULL = there is none */
};
/* arch: OCI name wanted ("amd64"). Manifest, index and config are checked against their
 * descriptors; the number of layers must equal the number of diff ids. */
int oci_image_resolve(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *ret,
		      struct vl_err *err);
/* The same in two steps, for who may have the image of that digest already: find gives digests and layers, load adds
 * the config, and so finds an image that is for another architecture and does not say so before. */
int oci_image_find(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *ret,
		   struct vl_err *err);
int oci_image_load(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_image *img,
		   struct vl_err *err);
void oci_image_free(struct oci_image *img);

/* oras://: the manifest of a SIF artifact -> its one layer (name, digest, size) and title. */
struct oci_artifact {
	struct oci_digest manifest;
	struct oci_layer layer;
	char *title; /* file name it was pushed with; NULL = none */
};
int oci_artifact_resolve(struct oci_source *s, const struct oci_ref *ref, const char *arch, struct oci_artifact *ret,
			 struct vl_err *err);
void oci_artifact_free(struct oci_artifact *a);

/* http(s)://: a plain file. size UINT64_MAX and validator NULL when the server does not say. */
struct oci_file_info {
	uint64_t size;
	char *validator; /* ETag, or Last-Modified if not of now: the same text means the same bytes; returns new */
};
int oci_http_stat(struct oci_client *c, const char *url, struct oci_file_info *ret, struct vl_err *err);
/* Into fd, from its start, resuming after breaks; *ret_size bytes. want: what oci_http_stat said of it; when the server
 * has another file there meanwhile, -ESTALE. */
int oci_http_fetch(struct oci_client *c, const char *url, const struct oci_file_info *want, int fd,
		   const struct vl_progress *progress, uint64_t *ret_size, struct vl_err *err);

/* ---- push.c: to a registry --------------------------------------------------------------- */

struct oci_upload {       /* a blob: from memory, or from a file */
	const void *data; /* NULL: fd */
	int fd;
	uint64_t size;
	struct oci_digest digest;
};
/* 1: the registry has the blob, or took it over from mount_from, another repository of it (NULL = none); 0: it is to
 * be uploaded. */
int oci_push_find(struct oci_client *c, const struct oci_ref *ref, const struct oci_digest *d, uint64_t size,
		  const char *mount_from, struct vl_err *err);
/* Blob: skipped when it is there; else uploaded, in chunks when it is large. */
int oci_push_blob(struct oci_client *c, const struct oci_ref *ref, const struct oci_upload *u,
		  const struct vl_progress *progress, struct vl_err *err);
/* Manifest under ref's tag (or, without a tag, its own digest). A manifest with a "subject" is entered in the
 * referrers tag of registries that do not keep referrers themselves. */
int oci_push_manifest(struct oci_client *c, const struct oci_ref *ref, const char *media_type, const char *text,
		      size_t len, struct oci_digest *ret_digest, struct vl_err *err);

/* ---- referrers.c ---- */

/* Descriptors of the manifests that name this one as their subject, by the registry's list, or by the tag that stands in
 * for it. None is an empty list. *ret is new; nothing in it was checked. */
int oci_referrers(struct oci_client *c, const struct oci_ref *ref, const struct oci_digest *subject, vl_json **ret,
		  struct vl_err *err);

/* ---- login.c: the credential files -------------------------------------------------------- */

/* Asks the registry itself whether the client's credentials are right. Not at the same time as other requests
 * of the client. -EACCES: they are not. */
int oci_login_check(struct oci_client *c, const char *host, struct vl_err *err);
/* Adds, or with NULL user removes, the entry of a host in a file: authfile, else $REGISTRY_AUTH_FILE,
 * $DOCKER_CONFIG/config.json or $HOME/.config/containers/auth.json ($XDG_RUNTIME_DIR, which is searched before it,
 * does not outlive the session). A helper that the file names for the host keeps the password instead. Everything
 * else in the file stays. *ret_file: where; returns new. -ENOENT: nothing to remove. */
int oci_login_save(const char *authfile, const char *host, const char *user, const char *password, char **ret_file,
		   struct vl_err *err);
/* Calls f for each entry of each file that is searched. user "" when only a helper knows. */
typedef void oci_login_entry(void *arg, const char *file, const char *host, const char *user);
int oci_login_list(const char *authfile, oci_login_entry *f, void *arg, struct vl_err *err);

#endif
