/* sif: the SIF format, version 01, and its signatures. Knows nothing of OCI, mounts or users.
 *
 * Source of every rule: docs/sif.md. All numbers are little-endian on disk. Reading trusts no
 * length or offset; sif/read.c checks them once and everything after works on checked values.
 * Reading needs no libcrypto: it is on the path of every container start.
 */
#ifndef VIAL_SIF_H
#define VIAL_SIF_H

#include <vial/base.h>

#define SIF_MAX_DESCRIPTORS (1u << 20) /* real images have 48; a table of a million is 600 MB */
#define SIF_MAX_SIGNATURE (1u << 20)   /* an envelope for 3 objects is 1.5 KB, 466 bytes more per object */
#define SIF_MAX_METADATA (16u << 20)   /* JSON and text objects that are read whole */

enum sif_type {
	SIF_DEFFILE = 0x4001,
	SIF_ENVVAR,
	SIF_LABELS,
	SIF_PARTITION,
	SIF_SIGNATURE,
	SIF_JSON,
	SIF_GENERIC,
	SIF_CRYPTO_MESSAGE,
	SIF_SBOM,
	SIF_OCI_INDEX,
	SIF_OCI_BLOB,
};
enum sif_fs { SIF_FS_SQUASHFS = 1, SIF_FS_EXT3, SIF_FS_ARCHIVE, SIF_FS_RAW, SIF_FS_LUKS_SQUASHFS, SIF_FS_GOCRYPTFS };
enum sif_part { SIF_PART_SYSTEM = 1, SIF_PART_PRIMARY, SIF_PART_DATA, SIF_PART_OVERLAY };
enum sif_hash { SIF_HASH_SHA256 = 1, SIF_HASH_SHA384, SIF_HASH_SHA512, SIF_HASH_BLAKE2S, SIF_HASH_BLAKE2B };

#define SIF_GROUP_MASK 0xF0000000u
#define SIF_NO_GROUP 0u
#define SIF_DEFAULT_GROUP 1u
#define SIF_YEAR_ONE (-62135596800LL) /* times of deterministic images of the reference tools */
#define SIF_LAUNCH "#!/usr/bin/env run-singularity\n"
#define SIF_DEFAULT_SLOTS 48
#define SIF_DATA_ALIGN 4096 /* partitions; other objects follow each other unaligned */

struct sif_header {
	uint8_t launch[32];
	uint8_t magic[10], version[3], arch[3];
	uint8_t uuid[16];
	int64_t created, modified;                                       /* Unix seconds */
	int64_t free, total, table_off, table_size, data_off, data_size; /* as in the file: display only */
};

struct sif_descr {     /* one used slot */
	uint32_t slot; /* place in the table, from 0 */
	uint32_t type; /* enum sif_type, or a number we do not know */
	uint32_t id;
	uint32_t group;     /* number without the mask; SIF_NO_GROUP */
	uint32_t link;      /* raw: 0, an object id, or SIF_GROUP_MASK | group */
	uint64_t off, size; /* bytes, inside the file */
	int64_t size_padded, created, modified, uid, gid;
	uint8_t used;
	uint8_t name[128], extra[384];
};

/* An open image. fd is borrowed: measure, verify and mount the same one. */
struct sif_image {
	int fd;
	uint64_t file_size;
	struct sif_header h;
	struct sif_descr *d; /* used slots in table order */
	size_t n;
};

/* Loads header and table (rules of docs/sif.md, "Loading"). -EINVAL with one line saying what is
 * wrong; -ENOEXEC when the file has no SIF magic at all (so that a caller may try other kinds). */
int sif_load(int fd, struct sif_image *ret, struct vl_err *err);
void sif_free(struct sif_image *img);
#define SIF_IMAGE __attribute__((cleanup(sif_free)))

const struct sif_descr *sif_by_id(const struct sif_image *img, uint32_t id);
/* First used object of that type with that name ("" = any), or NULL. */
const struct sif_descr *sif_by_name(const struct sif_image *img, uint32_t type, const char *name);
/* The one primary system partition; none or two are -EINVAL. */
int sif_primary(const struct sif_image *img, const struct sif_descr **ret, struct vl_err *err);
/* Whole object as new NUL-terminated memory, at most `limit` bytes. */
int sif_read_object(const struct sif_image *img, const struct sif_descr *d, size_t limit, char **ret, size_t *ret_len,
		    struct vl_err *err);
uint32_t sif_part_fs(const struct sif_descr *d);            /* enum sif_fs of a partition */
uint32_t sif_part_type(const struct sif_descr *d);          /* enum sif_part of a partition */
void sif_part_arch(const struct sif_descr *d, char ret[4]); /* two digits */

/* names.c: numbers to the words of the reference tools and back; never NULL */
const char *sif_type_name(uint32_t type);
const char *sif_fs_name(uint32_t fs);
const char *sif_part_name(uint32_t part);
const char *sif_arch_name(const char code[3]); /* "amd64" of "02" */
const char *sif_arch_code(const char *name);   /* "02" of "amd64"; NULL */
const char *sif_host_arch(void);               /* OCI name of this machine: "amd64" */
/* What the last column of `sif list` says: "Signature (SHA-256)"; returns new */
char *sif_descr_words(const struct sif_descr *d);
const char *sif_hash_name(uint32_t hash);
const char *sif_sbom_name(uint32_t format);
uint32_t sif_sbom_number(const char *word); /* 1 of "cyclonedx-json"; 0 */
void sif_uuid_text(const uint8_t uuid[16], char ret[37]);
/* Text fields are NUL-filled and need not end; these make terminal-safe C strings. Return new. */
char *sif_name(const struct sif_descr *d);
char *sif_launch(const struct sif_header *h);

/* ---- profile.c: where in an image lies what a command reads at its start ---------------------- */

#define SIF_PROFILE_NAME "vial-profile.json"
#define SIF_PROFILE_MAX (64u << 10) /* bytes of the object: it is read at every start */
#define SIF_PROFILE_EXTENTS 8
struct sif_extent {
	uint64_t off, len; /* bytes, from the begin of the system partition */
};
struct sif_profile {
	struct sif_extent extent[SIF_PROFILE_EXTENTS];
	size_t n;
};
/* The extents of a profile's text, cut to the partition's size. False: there is nothing in it that makes sense. */
bool sif_profile_parse(const char *text, size_t len, uint64_t partition_size, struct sif_profile *ret);
/* The same of an image's object; one that is missing or damaged is no profile. */
bool sif_profile_read(const struct sif_image *img, const struct sif_descr *partition, struct sif_profile *ret);

/* ---- provenance.c: what an image says it was made of (docs/provenance.md) ---- */

#define SIF_PROVENANCE_NAME "provenance.json"
#define SIF_PROVENANCE_MAX (1u << 20) /* bytes of the object: it has some 200 a layer */
/* All of it is a claim of the file: true for you only as far as a signature that you accept covers the object `id`. Texts
 * are as in the file, not safe for a terminal; what is missing is NULL. */
struct sif_provenance {
	uint32_t id, group; /* of the object */
	char *source;       /* "docker://docker.io/library/python@sha256:...", "oci:/layout:tag" */
	char *digest;       /* of the source's manifest: "sha256:..." */
	char *config;       /* of its configuration */
	char *builder;      /* "vial 0.1.0" */
	size_t layers;      /* that it was made of */
};
/* -ENOENT: the image has none (also one made of a directory, which no digest names). -EINVAL: it is no such statement.
 * Whether there is an SBOM too: sif_by_name(img, SIF_SBOM, ""). */
int sif_provenance_read(const struct sif_image *img, struct sif_provenance *ret, struct vl_err *err);
void sif_provenance_free(struct sif_provenance *p);
#define SIF_PROVENANCE __attribute__((cleanup(sif_provenance_free)))
/* ---- claims.c ---- */

/* The ids of the keys that a signature object names, as they stand there: unproved, and not safe for a terminal. Returns its
 * form, "DSSE", "PGP" or "unknown". */
const char *sif_signature_claims(const struct sif_image *img, const struct sif_descr *d, struct vl_strv *ret);

/* ---- tree.c: a hash tree of the system partition, docs/sif.md --------------------------------- */

#define SIF_TREE_NAME "vial-tree" /* a generic object: fs-verity's descriptor, linked to the partition */
/* Another: the hashes, the top level first; linked to the first one. Not there when all data is one block. */
#define SIF_TREE_BLOCKS_NAME "vial-tree-blocks"
#define SIF_TREE_DESCRIPTOR 256 /* bytes */
#define SIF_TREE_HASH 32
#define SIF_TREE_MIN_BLOCK 4096u
#define SIF_TREE_BLOCK (16u << 10) /* what one hash is of: 2 MiB of hashes for 1 GiB */
#define SIF_TREE_MAX_BLOCK (128u << 10)
#define SIF_TREE_LEVELS 9 /* of 2^63 bytes in the smallest blocks */
struct sif_tree {
	uint32_t block; /* bytes; a power of two between MIN and MAX */
	uint64_t size;  /* bytes of the partition, not 0 */
	uint8_t root[SIF_TREE_HASH];
};
struct sif_tree_shape {
	uint64_t size;                 /* bytes of all levels */
	unsigned n;                    /* levels; 0: the root is the hash of the only block */
	uint64_t off[SIF_TREE_LEVELS]; /* where each begins; 0 has the hashes of the data */
};
/* -EINVAL: no descriptor, or one of another kind of tree. */
int sif_tree_parse(const void *p, size_t n, struct sif_tree *ret, struct vl_err *err);
void sif_tree_encode(const struct sif_tree *t, uint8_t ret[SIF_TREE_DESCRIPTOR]);
void sif_tree_shape(uint32_t block, uint64_t size, struct sif_tree_shape *ret);
struct sif_tree_objects {
	const struct sif_descr *partition; /* the primary one */
	const struct sif_descr *tree;
	const struct sif_descr *blocks; /* NULL: there are no levels, or they are missing: see sif_tree_levels */
};
/* What the image says to be the tree of its primary partition, in that one's group, nothing of it read. -ENOENT: there
 * is none, the partition alone is filled in; -EINVAL: it is not one. */
int sif_tree_find(const struct sif_image *img, struct sif_tree_objects *ret, struct vl_err *err);
/* Where the levels begin in the file; -EINVAL: they are not as long as the tree says. */
int sif_tree_levels(const struct sif_tree_objects *o, const struct sif_tree *t, uint64_t *ret_off, struct vl_err *err);

/* ---- tree_build.c ---- */

/* Reads `size` bytes at off, and writes the levels to the empty file `out`. */
int sif_tree_build(int fd, uint64_t off, uint64_t size, uint32_t block, int out, const struct vl_progress *progress,
		   struct sif_tree *ret, struct vl_err *err);
struct sif_tree_opts {
	uint32_t block; /* 0 = SIF_TREE_BLOCK, or that of the tree which is there */
	uint32_t group; /* 0, or the only one to be signed: the partition must be in it */
	int64_t time;   /* Unix seconds */
	const struct vl_progress *progress;
};
enum sif_tree_result {
	SIF_TREE_ADDED,
	SIF_TREE_KEPT,      /* the one that is there is right */
	SIF_TREE_NO_IMAGE,  /* there is no squashfs to make one of */
	SIF_TREE_IS_SIGNED, /* it would end the validity of signatures that are there */
};
/* Sees to it that the image in fd (open for writing) has a right tree, all of it or nothing. One that is wrong is
 * replaced, unless signatures cover it (-EBADMSG). */
int sif_tree_add(int fd, const struct sif_tree_opts *o, enum sif_tree_result *ret, struct vl_err *err);

/* ---- write.c: a new image, one pass, the partition streamed --------------------------------
 * Order of calls: begin, then add / stream objects, then end. The fd must be empty, writable and
 * seekable; nothing valid is in it before end() returns 0. */
struct sif_new {
	const char *launch; /* NULL = SIF_LAUNCH */
	uint8_t uuid[16];
	int64_t time;   /* created and modified of header and objects */
	uint32_t slots; /* 0 = SIF_DEFAULT_SLOTS */
};
struct sif_object {
	uint32_t type, group, link;
	const char *name;   /* "" or NULL = none; at most 127 bytes */
	uint32_t fs, part;  /* partitions */
	const char *arch;   /* partitions: "amd64" */
	uint8_t extra[384]; /* other types; ignored for partitions */
	uint64_t align;     /* 0 = the format's default for the type */
};
/* Version 4, random. All zero is right too: the mark of a deterministic image. */
void sif_uuid_random(uint8_t ret[16]);
struct sif_writer;
int sif_writer_new(int fd, const struct sif_new *how, struct sif_writer **ret, struct vl_err *err);
int sif_writer_add(struct sif_writer *w, const struct sif_object *o, const void *data, size_t len, struct vl_err *err);
/* Where the data of a streamed object goes; the caller pwrites it there and then says how long
 * it became. Only one stream at a time. */
int sif_writer_stream(struct sif_writer *w, const struct sif_object *o, uint64_t *ret_off, struct vl_err *err);
int sif_writer_stream_end(struct sif_writer *w, uint64_t size, struct vl_err *err);
uint32_t sif_writer_id(const struct sif_writer *w); /* of the object that was last begun; 0 = none */
int sif_writer_end(struct sif_writer *w, struct vl_err *err);
void sif_writer_free(struct sif_writer *w);

/* ---- edit.c: changing an image in place ------------------------------------------------------
 * The image is locked against other editors (flock) from begin to end. Added data goes behind the
 * furthest object and to disk first; then one byte per slot makes it part of the image. A crash
 * leaves the old image or the new one. Before commit an error leaves the image as it was. */
struct sif_edit;
/* fd: open for reading and writing, borrowed. now: Unix seconds for the modified times; an image
 * with the marks of a deterministic one keeps its own. -EBUSY when another process edits it. */
int sif_edit_begin(int fd, int64_t now, struct sif_edit **ret, struct vl_err *err);
const struct sif_image *sif_edit_image(const struct sif_edit *e); /* as on disk; borrowed */
uint32_t sif_edit_slots(const struct sif_edit *e);                /* free ones */
int sif_edit_add(struct sif_edit *e, const struct sif_object *o, const void *data, size_t len, uint32_t *ret_id,
		 struct vl_err *err);
int sif_edit_add_fd(struct sif_edit *e, const struct sif_object *o, int src, uint32_t *ret_id, struct vl_err *err);
int sif_edit_commit(struct sif_edit *e, struct vl_err *err); /* what was added so far */
int sif_edit_del(struct sif_edit *e, uint32_t id, struct vl_err *err);
int sif_edit_setprim(struct sif_edit *e, uint32_t id, struct vl_err *err);
void sif_edit_end(struct sif_edit *e); /* forgets what was added and not committed; unlocks */
void sif_edit_endp(struct sif_edit **e);
#define SIF_EDIT __attribute__((cleanup(sif_edit_endp)))

/* ---- keys.c: PEM keys. Everything below needs libcrypto. ------------------------------------- */

#define SIF_MAX_PEM (256u << 10) /* the largest RSA key we take is 13 KB; bundles of certificates are larger */
enum sif_key_use { SIF_KEY_PUBLIC, SIF_KEY_PRIVATE };
/* libcrypto reads no configuration file; before anything else of it is used. */
void sif_crypto_alone(void);
enum sif_signer_kind { SIF_SIGNER_KEY = 1, SIF_SIGNER_CERTIFICATE, SIF_SIGNER_PGP };
struct sif_signer { /* who made a signature; the texts are printable */
	enum sif_signer_kind kind;
	char *id; /* "SHA256:..." of the key, a certificate's too; PGP: the primary key's fingerprint in upper-case hex */
	char *name;   /* subject of a certificate, PGP user id, name in a keyring; NULL = none */
	bool foreign; /* PGP: the key is in a file that was given as such, see struct sif_pgp_keys */
};
struct sif_key;
/* Ed25519, ECDSA on P-256/384/521, RSA of 2048 to 16384 bits; others are -ENOTSUP. */
int sif_key_load(const char *path, enum sif_key_use use, struct sif_key **ret, struct vl_err *err);
int sif_key_parse(const char *pem, size_t len, const char *what, enum sif_key_use use, struct sif_key **ret,
		  struct vl_err *err);
/* type: "ed25519", "ecdsa" (bits 256, 384, 521; 0 = 256), "rsa" (bits 2048..16384; 0 = 3072) */
int sif_key_new(const char *type, unsigned bits, struct sif_key **ret, struct vl_err *err);
int sif_key_pem(const struct sif_key *k, enum sif_key_use use, struct vl_buf *ret, struct vl_err *err);
const char *sif_key_id(const struct sif_key *k);   /* "SHA256:...", as ssh-keygen -l prints it; borrowed */
const char *sif_key_type(const struct sif_key *k); /* "Ed25519", "ECDSA P-256", "RSA 3072"; borrowed */
/* A signature over bytes, of the kinds that docs/sif-signing.md names. */
bool sif_key_check(const struct sif_key *k, const void *p, size_t n, const uint8_t *sig, size_t sig_len);
/* Whom a signature by this key names in a report. A key begins as SIF_SIGNER_KEY without a name. */
const struct sif_signer *sif_key_signer(const struct sif_key *k); /* borrowed */
void sif_key_set_signer(struct sif_key *k, enum sif_signer_kind kind, const char *name);
void sif_key_free(struct sif_key *k);
void sif_key_freep(struct sif_key **k);
#define SIF_KEY __attribute__((cleanup(sif_key_freep)))

/* cert.c: the key of a certificate whose chain ends at one of the roots. Key usage (digital signatures), extended
 * key usage (code signing) and dates are checked; the key's signer is the certificate's subject. */
#define SIF_MAX_BUNDLE (16u << 20) /* bytes of a file of certificates; the system's has 200 KB */
struct sif_cert_opts {
	const char *cert, *intermediates, *roots; /* files of PEM certificates; intermediates NULL = none, roots NULL =
						   * the system's */
	/* What these files hold, where they were read already; NULL = they are read. */
	const char *cert_text, *intermediates_text, *roots_text;
	int64_t time; /* Unix seconds at which all must be valid; 0 = now */
	bool ocsp;    /* ask the responders that the certificates name; no good answer is a refusal */
};
int sif_key_from_certificate(const struct sif_cert_opts *o, struct sif_key **ret, struct vl_err *err);

/* ---- unlock.c, token.c: private keys that want a passphrase or a PIN ---------------------------- */

/* Asks for the passphrase (or a token's PIN) of the key `what`. *ret: new, wiped and freed by who called. */
struct sif_ask {
	int (*ask)(void *arg, const char *what, char **ret, struct vl_err *err);
	void *arg;
};
/* A private key to sign with. where: a PEM file, encrypted or not, or a URI ("pkcs11:...", "file:...") that a provider
 * or engine of libcrypto opens. ask: NULL = what is encrypted is -EACCES. */
int sif_key_open(const char *where, const struct sif_ask *ask, struct sif_key **ret, struct vl_err *err);
bool sif_key_is_uri(const char *where);
/* As sif_key_parse of a private key; *ret_passphrase: the one that opened it, new, NULL = it is not encrypted. */
int sif_key_unlock(const char *pem, size_t len, const char *what, const struct sif_ask *ask, struct sif_key **ret,
		   char **ret_passphrase, struct vl_err *err);
/* The private key under a passphrase: PKCS #8, PBKDF2, AES-256. */
int sif_key_pem_encrypted(const struct sif_key *k, const char *passphrase, struct vl_buf *ret, struct vl_err *err);

/* ---- encrypted.c: partitions of the kind SIF_FS_GOCRYPTFS; docs/sif.md, "Encrypted images" ---------- */

/* The secret that encrypts a partition, out of the message object that links to it. Added to ret, to be wiped. */
int sif_unwrap_secret(const struct sif_image *img, const struct sif_descr *partition, const struct sif_key *k,
		      struct vl_buf *ret, struct vl_err *err);
struct sif_decrypt;
/* conf: text of the partition's gocryptfs.conf. -EACCES: the secret (or passphrase) is not the one. */
int sif_decrypt_new(const char *conf, size_t len, const char *secret, size_t n_secret, struct sif_decrypt **ret,
		    struct vl_err *err);
/* The next bytes of its other file; plain text goes to fd, none that was not authenticated. */
int sif_decrypt_data(struct sif_decrypt *d, const void *data, size_t n, int fd, struct vl_err *err);
int sif_decrypt_end(struct sif_decrypt *d, int fd, struct vl_err *err);
void sif_decrypt_free(struct sif_decrypt *d);
void sif_decrypt_freep(struct sif_decrypt **d);
#define SIF_DECRYPT __attribute__((cleanup(sif_decrypt_freep)))

/* ---- encrypt.c: the same, made. docs/sif.md, "Encrypted images" ---- */

#define SIF_SECRET_SIZE 64 /* characters, without the NUL */
/* 256 bits as a text, for who encrypts for a key and not under a passphrase. The caller wipes it. */
int sif_secret_random(char ret[SIF_SECRET_SIZE + 1], struct vl_err *err);
/* Text of the message object that the key's private half opens. k may be the public half; -EKEYREJECTED: no RSA key of
 * 2048 bits or more. */
int sif_wrap_secret(const struct sif_key *k, const char *secret, size_t n, struct vl_buf *ret, struct vl_err *err);
void sif_message_object(uint32_t partition, struct sif_object *ret); /* id of the partition; what to add that text as */
/* The partition's other file, encrypted under a new key that the secret opens: it begins at `base` of fd (borrowed), which
 * only sees what is encrypted already. Takes half a megabyte, and once 64 MiB. One thread at a time. */
struct sif_encrypt;
int sif_encrypt_new(const char *secret, size_t n, int fd, uint64_t base, struct sif_encrypt **ret, struct vl_err *err);
const char *sif_encrypt_conf(const struct sif_encrypt *e); /* text of gocryptfs.conf; borrowed */
/* Plain bytes to any place up to the end, and back from what was written. */
int sif_encrypt_write(struct sif_encrypt *e, const void *data, size_t n, uint64_t at, struct vl_err *err);
int sif_encrypt_read(struct sif_encrypt *e, void *ret, size_t n, uint64_t at, struct vl_err *err);
/* It ends at `size`, a multiple of 4096; what was written behind does not count. *ret_stored: bytes from base on. */
int sif_encrypt_end(struct sif_encrypt *e, uint64_t size, uint64_t *ret_stored, struct vl_err *err);
void sif_encrypt_free(struct sif_encrypt *e);
void sif_encrypt_freep(struct sif_encrypt **e);
#define SIF_ENCRYPT __attribute__((cleanup(sif_encrypt_freep)))

/* ---- keyring.c: keys in a directory, the user's own and the site's ----------------------------
 * NAME.key PEM private (0600), NAME.pub PEM public, NAME.crt PEM certificate, NAME.asc armored OpenPGP public key; the
 * file `trusted` has one signer's id per line. A directory and its files belong to the caller or to root, and nobody
 * else may write there: anything else is refused. A missing directory is an empty one. Which directories these are
 * is the caller's business; a policy of the site passes the site's only. */

#define SIF_KEYRING_MAX 4096 /* files of one directory; each is read and parsed */
enum sif_keyring_kind {
	SIF_KEYRING_PRIVATE = 1,
	SIF_KEYRING_PUBLIC = 2,
	SIF_KEYRING_CERTIFICATE = 4,
	SIF_KEYRING_PGP = 8,
	SIF_KEYRING_SIGNERS = SIF_KEYRING_PUBLIC | SIF_KEYRING_CERTIFICATE | SIF_KEYRING_PGP, /* to verify with */
	SIF_KEYRING_ANY = SIF_KEYRING_SIGNERS | SIF_KEYRING_PRIVATE,
};
struct sif_keyring_entry { /* one file */
	char *name, *path;
	enum sif_keyring_kind kind;
	char *id; /* in full: "SHA256:..." as sif_key_id, or an OpenPGP fingerprint in upper-case hex; NULL = unknown */
	char *type;     /* "Ed25519", "RSA 3072", "OpenPGP"; NULL as id */
	char *owner;    /* a certificate's subject, a PGP key's first user id; terminal-safe; NULL = none */
	char *why;      /* NULL, or why this file must not be used: one line */
	char *text;     /* what was read and checked; NULL for a private key and with `why` */
	bool site;      /* of the site's directory */
	bool trusted;   /* its id is in a list `trusted`, the user's or the site's; never with `why` */
	bool encrypted; /* a private key whose id is only what the file beside it says */
};
struct sif_keyring {
	struct sif_keyring_entry *v; /* the user's, then the site's, each by name and kind */
	size_t n;
	struct vl_strv trusted; /* all ids that are listed, also of keys that are not here */
};
/* Either may be NULL. A file that cannot be used is an entry with `why`; a directory that cannot is an error. */
int sif_keyring_open(const char *user_dir, const char *site_dir, struct sif_keyring *ret, struct vl_err *err);
void sif_keyring_free(struct sif_keyring *r);
#define SIF_KEYRING __attribute__((cleanup(sif_keyring_free)))
bool sif_keyring_trusts(const struct sif_keyring *r, const char *id);
/* First entry of these kinds with that whole id, or NULL. */
const struct sif_keyring_entry *sif_keyring_by_id(const struct sif_keyring *r, unsigned kinds, const char *id);
/* word: a name, or the beginning of one id ("SHA256:" may be left out; 6 characters at least). -ENOENT; -ENOTUNIQ with
 * the names; -EINVAL for an entry with `why`. */
int sif_keyring_find(const struct sif_keyring *r, unsigned kinds, const char *word,
		     const struct sif_keyring_entry **ret, struct vl_err *err);
/* The file's text as it is, new; to be wiped when it is a private key's. */
int sif_keyring_read(const struct sif_keyring_entry *e, char **ret, size_t *ret_len, struct vl_err *err);

/* Changes: one at a time per directory (flock), which is made when it is missing (0700); every file appears whole. */
bool sif_keyring_name_ok(const char *name); /* letters, digits and "._@+-", at most 64, no '.' first */
/* Both halves, or neither. passphrase: NULL = stored without. -EEXIST unless force. */
int sif_keyring_add(const char *dir, const char *name, const struct sif_key *k, const char *passphrase, bool force,
		    struct vl_err *err);
/* text: a PEM private key (both halves are stored; encrypted as it was), public key or certificate, or an armored PGP
 * public key. what: where it came from, for messages. *ret_kind, *ret_id (new): what it was. */
int sif_keyring_import(const char *dir, const char *name, const char *text, size_t len, const char *what,
		       const struct sif_ask *ask, bool force, enum sif_keyring_kind *ret_kind, char **ret_id,
		       struct vl_err *err);
/* Files of these kinds of that name. An id that none of the directory's files has any more is trusted no longer.
 * -ENOENT when there is none. */
int sif_keyring_remove(const char *dir, const char *name, unsigned kinds, struct vl_err *err);
/* *ret_changed: false = it was so already. */
int sif_keyring_trust(const char *dir, const char *id, bool trust, bool *ret_changed, struct vl_err *err);

/* ---- sign.c, verify.c: docs/sif-signing.md --------------------------------------------------- */

struct sif_sign_opts {
	uint32_t group;                     /* 0 = a signature for every group */
	uint32_t object;                    /* 0 = all of the group; else only this one */
	int64_t time;                       /* Unix seconds */
	const struct vl_progress *progress; /* NULL = none */
};
/* Adds the signatures to the image in fd (open for writing), all of them or none. */
int sif_sign(int fd, const struct sif_key *k, const struct sif_sign_opts *o, size_t *ret_n, struct vl_err *err);

/* Public keys serve to tell whether a signature is valid. Whether its signer may sign is not decided here: the report
 * names the signers, and the caller compares them with what it trusts. */
enum sif_need {
	SIF_NEED_ALL, /* every signature of a group is by one of the keys: what other tools ask for with one key */
	SIF_NEED_ONE, /* one at least; those by unknown keys are reported and left out, broken ones still refuse */
};
/* Signatures from before Singularity 3.6 protect data alone; no policy may count on them. With these nothing else is
 * looked at. */
enum sif_legacy {
	SIF_LEGACY_NO,
	SIF_LEGACY_PRIMARY, /* the primary partition's, unless a group or an object is asked for */
	SIF_LEGACY_ALL,     /* a signature for every object */
};
struct sif_pgp_keys { /* OpenPGP public keys, armored or not, of several files */
	struct sif_pgp_file {
		char *text; /* the list's, where sif_pgp_keys_free ends it */
		size_t len;
		const char *what; /* for messages; borrowed */
		bool foreign;     /* a keyring of another tool: signers tell which keys are in such a file */
	} * v;
	size_t n;
};
void sif_pgp_keys_free(struct sif_pgp_keys *k);
struct sif_verify_opts {
	struct sif_key *const *keys; /* known public keys */
	size_t n_keys;
	const struct sif_pgp_keys *pgp; /* NULL = none */
	uint32_t group, object;         /* 0 = the whole image */
	enum sif_need need;
	enum sif_legacy legacy;
	/* Ids of objects whose data is not read: the caller checks it by other means, or has no use for it. Their
	 * descriptors are compared like others. */
	const uint32_t *unhashed;
	size_t n_unhashed;
	const struct vl_progress *progress;
};
enum sif_form { SIF_FORM_NONE, SIF_FORM_DSSE, SIF_FORM_PGP, SIF_FORM_LEGACY }; /* NONE: nothing that we know */
enum sif_verdict {
	SIF_UNCHECKED, /* an earlier failure ended the work before this one was compared with the image */
	SIF_VALID,     /* by the signers, over what the report lists as covered */
	SIF_UNKNOWN,   /* by a key that was not given, or that may not be used: expired, revoked */
	SIF_INVALID,   /* anything else; why says it */
	SIF_IGNORED,   /* of the legacy kind while others are asked for, or the other way round */
};
struct sif_signature {      /* one signature object of a group that was asked for */
	uint32_t id, group; /* group 0: a legacy signature of the one object `object` */
	uint32_t object;
	enum sif_form form;
	enum sif_verdict verdict;
	char *why;                  /* unless SIF_VALID: one printable line; may be NULL */
	char *claims;               /* the key's id or fingerprint as the signature says it, unproved; NULL */
	struct sif_signer *signers; /* whose keys proved it, one entry for each; none unless it was proved */
	size_t n_signers;
};
struct sif_covered {            /* one object under one signature */
	uint32_t id, signature; /* ids of both objects */
	bool ok;                /* false: this one failed, err says why */
	bool hashed;            /* its data was read and compared too */
};
struct sif_report {
	struct sif_signature *sig;
	size_t n_sig;
	struct sif_covered *v;
	size_t n;
	char *skipped; /* why a file of OpenPGP keys was left out, which hides no other: one printable line; NULL = none was */
};
/* 0: every object asked for is covered by as many signatures as needed, and unchanged. -ENODATA: not signed;
 * -EKEYREJECTED: not by a key given; others: changed, broken, unreadable. Reads only img->fd. *ret is filled on
 * failure too, with what was found until then; free it in any case. */
int sif_verify(const struct sif_image *img, const struct sif_verify_opts *o, struct sif_report *ret,
	       struct vl_err *err);
/* The entry of a signature object; NULL */
const struct sif_signature *sif_report_find(const struct sif_report *r, uint32_t id);
void sif_report_free(struct sif_report *r);
#define SIF_REPORT __attribute__((cleanup(sif_report_free)))
/* sha256 of the object's data as "sha256:<hex>"; returns new. */
int sif_object_digest(const struct sif_image *img, const struct sif_descr *d, char **ret, struct vl_err *err);

#endif
