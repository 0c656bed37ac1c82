/* sif: the SIF format, version 01, and its signatures. Knows nothing of OCI, mounts or users.
 *
 * Source of every rule: docs/sif.md. All numbers are little-endian on disk. Reading trusts no
 * length or offset; sif/read.c checks them once and everything after works on checked values.
 * Reading needs no libcrypto: it is on the path of every container start.
 */
#ifndef VIAL_SIF_H
#define VIAL_SIF_H

#include <vial/base.h>

#define SIF_MAX_DESCRIPTORS (1u << 20)  /* real images have 48; a table of a million is 600 MB */
#define SIF_MAX_SIGNATURE (1u << 20)    /* an envelope for 3 objects is 1.5 KB, 466 bytes more per object */
#define SIF_MAX_METADATA (16u << 20)    /* JSON and text objects that are read whole */

enum sif_type {
	SIF_DEFFILE = 0x4001, SIF_ENVVAR, SIF_LABELS, SIF_PARTITION, SIF_SIGNATURE, SIF_JSON, SIF_GENERIC,
	SIF_CRYPTO_MESSAGE, SIF_SBOM, SIF_OCI_INDEX, SIF_OCI_BLOB,
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
	int64_t created, modified; /* Unix seconds */
	int64_t free, total, table_off, table_size, data_off, data_size; /* as in the file: display only */
};

struct sif_descr { /* one used slot */
	uint32_t slot; /* place in the table, from 0 */
	uint32_t type; /* enum sif_type, or a number we do not know */
	uint32_t id;
	uint32_t group; /* number without the mask; SIF_NO_GROUP */
	uint32_t link;  /* raw: 0, an object id, or SIF_GROUP_MASK | group */
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
uint32_t sif_part_fs(const struct sif_descr *d);   /* enum sif_fs of a partition */
uint32_t sif_part_type(const struct sif_descr *d); /* enum sif_part of a partition */
void sif_part_arch(const struct sif_descr *d, char ret[4]); /* two digits */

/* names.c: numbers to the words of the reference tools and back; never NULL */
const char *sif_type_name(uint32_t type);
const char *sif_fs_name(uint32_t fs);
const char *sif_part_name(uint32_t part);
const char *sif_arch_name(const char code[3]);          /* "amd64" of "02" */
const char *sif_arch_code(const char *name);            /* "02" of "amd64"; NULL */
const char *sif_host_arch(void);                        /* OCI name of this machine: "amd64" */
/* What the last column of `sif list` says: "Signature (SHA-256)"; returns new */
char *sif_descr_words(const struct sif_descr *d);
const char *sif_hash_name(uint32_t hash);
const char *sif_sbom_name(uint32_t format);
uint32_t sif_sbom_number(const char *word);             /* 1 of "cyclonedx-json"; 0 */
void sif_uuid_text(const uint8_t uuid[16], char ret[37]);
/* Text fields are NUL-filled and need not end; these make terminal-safe C strings. Return new. */
char *sif_name(const struct sif_descr *d);
char *sif_launch(const struct sif_header *h);

/* ---- write.c: a new image, one pass, the partition streamed --------------------------------
 * Order of calls: begin, then add / stream objects, then end. The fd must be empty, writable and
 * seekable; nothing valid is in it before end() returns 0. */
struct sif_new {
	const char *launch;   /* NULL = SIF_LAUNCH */
	uint8_t uuid[16];
	int64_t time;         /* created and modified of header and objects */
	uint32_t slots;       /* 0 = SIF_DEFAULT_SLOTS */
};
struct sif_object {
	uint32_t type, group, link;
	const char *name;     /* "" or NULL = none; at most 127 bytes */
	uint32_t fs, part;    /* partitions */
	const char *arch;     /* partitions: "amd64" */
	uint8_t extra[384];   /* other types; ignored for partitions */
	uint64_t align;       /* 0 = the format's default for the type */
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
int sif_writer_end(struct sif_writer *w, struct vl_err *err);
void sif_writer_free(struct sif_writer *w);

#endif
