/* image: where oci meets sif. Layers become one tree, the tree a squashfs, the squashfs a SIF. */
#ifndef VIAL_IMAGE_H
#define VIAL_IMAGE_H

#include <vial/base.h>
#include <vial/oci.h>
#include <vial/sif.h>

#define IMG_DEFAULT_BLOCK_SIZE (128u << 10)
/* Inflated bytes one layer may have. Real layers stay below; 1 MiB of gzip can hold 1 GiB. */
#define IMG_DEFAULT_MAX_SIZE (256ull << 30)

#define IMG_DIGEST_SIZE 160 /* "sha512:" and its digits, or a word and those of a SHA-256 */

enum img_owner { IMG_OWNER_KEEP, IMG_OWNER_ROOT };

struct img_build_opts {
	const char *source;        /* what oci_ref_parse reads, or a directory */
	const char *made_of;       /* the image whose container the directory is; NULL = it is none */
	const struct oci_net *net; /* for remote sources; NULL = defaults */
	const char *builder;       /* version number recorded in the image */
	const char *arch;          /* OCI name; NULL = this machine's */
	const char *compress;      /* codec[:level]; NULL = zstd:3 */
	uint32_t block_size;       /* power of two, 4 KiB to 1 MiB; 0 = default */
	unsigned threads;          /* 0 = what affinity and cgroup allow */
	uint64_t max_size;         /* 0 = default */
	enum img_owner owner;
	int64_t time; /* seconds since 1970 of everything vial itself makes; -1 = of the source */
	/* Makes an encrypted image, which never is the same twice. Of a source that is a SIF already: -ENOTSUP. */
	const char *secret;  /* NULL = not encrypted */
	const char *message; /* of sif_wrap_secret; NULL = the secret is a passphrase */
};

struct img_build_stats {
	uint64_t bytes_in, bytes_out; /* file content, stored */
	uint64_t entries, layers, dup_files;
	int signal;                   /* with -EINTR: the one that ended it */
	char digest[IMG_DIGEST_SIZE]; /* manifest digest of the source, "" = none */
	uint64_t downloaded;          /* bytes over the network */
	uint64_t peak_memory;         /* resident bytes of the converting process at its largest */
};

/* What a source turned out to be. */
struct img_found {
	char id[IMG_DIGEST_SIZE];     /* the same id and options mean the same image; "" = nothing can tell */
	char digest[IMG_DIGEST_SIZE]; /* of the image manifest; "" = it has none */
	char named[IMG_DIGEST_SIZE];  /* of what the reference named: the same, or an index's; "" = nothing */
	bool as_it_is;                /* a SIF already: options of the conversion do not matter */
};

/* Writes the whole SIF into fd (empty, read-write, seekable). The work is done by a child process
 * that has no capabilities and no_new_privs; its error becomes ours. On failure the content of fd
 * is not a SIF. INT, TERM and HUP end it with -EINTR, unless the caller ignores them. */
int img_build(const struct img_build_opts *o, int fd, const struct vl_progress *progress, struct img_build_stats *ret,
	      struct vl_err *err);

/* ---- store.c: finished images, shared by all processes (image/store.h has the layout) ------ */

struct img_store_opts {
	const char *dir;              /* of this user; made when missing, 0700 */
	const char *const *site_dirs; /* NULL-terminated: read-only tiers, searched after it; NULL = none */
	uint64_t limit;               /* bytes of dir; 0 = none */
	bool keep_layers;             /* keep downloaded layers too */
};
struct img_store;
/* Where dir cannot be used, the sites' are still searched; what needs dir then fails as this would have. */
int img_store_open(const struct img_store_opts *o, struct img_store **ret, struct vl_err *err);
void img_store_free(struct img_store *s); /* NULL is fine */
const char *img_store_dir(const struct img_store *s);

enum img_store_kind { IMG_STORE_IMAGE = 1, IMG_STORE_LAYER = 2, IMG_STORE_OTHER = 4 }; /* other: names, left-overs */
struct img_store_item {                                                                /* borrowed by the callback */
	enum img_store_kind kind;
	const char *id;     /* key, or digest of the layer */
	const char *name;   /* an image: the names it was asked for by, comma separated; "" = none known */
	const char *digest; /* an image: of its manifest; "" = not known */
	const char *path;
	uint64_t size;      /* bytes it takes on disk */
	int64_t made, used; /* seconds since 1970 */
	bool site;          /* in a read-only tier */
};
/* Calls f for each, images first, last used first. f returns true to go on. */
typedef bool img_store_item_fn(void *arg, const struct img_store_item *i);
int img_store_list(struct img_store *s, img_store_item_fn *f, void *arg, struct vl_err *err);
/* What to remove: kinds (a set), unused for at least so many seconds (0 = all), only as far as the rest stays above
 * `limit` bytes (0 = no matter). dry: only tells. Images in the making and their files are left alone; what a killed
 * process left behind is always removed. f (may be NULL) is told of each. What cannot be removed is the error at the
 * end, after the others went. */
struct img_store_clean {
	unsigned kinds;
	int64_t unused_seconds;
	uint64_t limit;
	bool dry;
};
int img_store_clean(struct img_store *s, const struct img_store_clean *how, img_store_item_fn *f, void *arg,
		    uint64_t *ret_bytes, struct vl_err *err);

/* ---- fetch.c: a source to an image that is open -------------------------------------------- */

struct img_fetched {
	int fd;                       /* read-only, the caller's */
	char *path;                   /* where it is in the store; NULL = it has no name */
	bool found;                   /* it was there already */
	char digest[IMG_DIGEST_SIZE]; /* of the source's manifest; "" = it has none */
	struct img_build_stats stats; /* of a conversion */
};
void img_fetched_free(struct img_fetched *f);
/* Any source of img_build (a registry, an artifact, a URL, a layout) but a directory. store NULL: the image is made in
 * a nameless file of $TMPDIR. Any number of processes may ask at a time: one makes it. */
int img_fetch(const struct img_build_opts *o, struct img_store *store, const struct vl_progress *progress,
	      struct img_fetched *ret, struct vl_err *err);

/* ---- optimize.c: what a command reads at its start, together and uncompressed --------------- */

#define IMG_READ_INODE UINT32_MAX /* no content: its attributes, or the text of a link */
struct img_read {
	uint64_t inode; /* its reference in the squashfs */
	uint32_t block; /* number in the file; the tail comes after the blocks */
};
struct img_optimize_opts {
	const struct sif_image *sif;       /* open; every object of it is kept but signatures and an old profile */
	const struct sif_descr *partition; /* the squashfs */
	const struct img_read *reads;      /* in the order of first read */
	size_t n_reads;
	char *const *command; /* that was recorded, NULL-terminated */
	uint64_t limit;       /* bytes that may be stored uncompressed; 0 = IMG_DEFAULT_HOT */
};
#define IMG_DEFAULT_HOT (128ull << 20) /* numpy, scipy and matplotlib read 73 MiB */
struct img_optimize_stats {
	uint64_t files, blocks, bytes; /* hot: read at the start; bytes uncompressed */
	uint64_t region;               /* bytes they take on disk, with what lies between them */
	uint64_t left_out;             /* bytes that were over the limit */
	unsigned signatures;           /* dropped */
	int signal;                    /* with -EINTR */
};
/* Writes the same tree into a new SIF in fd (empty, read-write). In a child without privileges, as img_build. */
int img_optimize(const struct img_optimize_opts *o, int fd, const struct vl_progress *progress,
		 struct img_optimize_stats *ret, struct vl_err *err);

/* ---- view.c: what is in an image -------------------------------------------------------------- */

struct img_root {           /* borrowed */
	const char *name;   /* for messages */
	int fd;             /* of the file or the directory */
	bool dir;           /* a directory, read with the caller's rights; else a squashfs */
	uint64_t off, size; /* of the squashfs in the file; size 0 = to its end */
	const char *path;   /* from the root of the image; links in it are followed inside it. "" = the root */
};
struct img_item {           /* borrowed by the callback */
	const char *path;   /* from the root of the image, no leading '/'; "" = the root. No link leads there */
	const char *target; /* of a symlink, else NULL */
	const char *link;   /* a file that came before is the same one: its path; else NULL */
	uint32_t mode;      /* as st_mode */
	uint32_t uid, gid, nlink, major, minor;
	int64_t mtime; /* seconds since 1970 */
	uint64_t size;
	size_t n_xattrs;
	const struct img_item_xattr {
		const char *key;
		const void *value;
		size_t len;
	} * xattrs;
};
struct img_viewer {
	/* What was asked for comes first, folders before their content, names ascending. */
	int (*item)(void *arg, const struct img_item *i, struct vl_err *err);
	/* `size` bytes in all of the regular file that came last; NULL: content is not wanted */
	int (*data)(void *arg, const void *p, size_t n, struct vl_err *err);
	int (*hole)(void *arg, uint64_t n, struct vl_err *err);
	void *arg;
};
struct img_view_opts {
	struct img_root root;
	unsigned depth; /* 0: what the path names; 1: and what is in it; UINT_MAX: all below */
	bool follow;    /* a link at the end of the path too */
	bool hold;      /* signals wait until a callback is through */
};
/* A child without privileges reads the image; the callbacks run here, with the caller's handling of signals unless
 * `hold` says otherwise. What came before an error has been handed over. -EINTR: *ret_signal ended it. */
int img_view(const struct img_view_opts *o, const struct img_viewer *v, int *ret_signal, struct vl_err *err);

enum { /* what differs */
       IMG_DIFF_TYPE = 1,
       IMG_DIFF_MODE = 2,
       IMG_DIFF_OWNER = 4,
       IMG_DIFF_SIZE = 8,
       IMG_DIFF_CONTENT = 16,
       IMG_DIFF_TARGET = 32,
       IMG_DIFF_DEVICE = 64,
       IMG_DIFF_XATTRS = 128
};
/* before NULL: added; after NULL: removed. Paths count from where the comparison began. */
typedef int img_diff_fn(void *arg, unsigned what, const struct img_item *before, const struct img_item *after,
			struct vl_err *err);
int img_diff(const struct img_root roots[2], img_diff_fn *f, void *arg, int *ret_signal, struct vl_err *err);

/* ---- mpi.c: which MPI is in an image ---- */

enum { IMG_MPI_PMI2 = 1, IMG_MPI_PMIX = 2 }; /* which of Slurm's servers its ranks find each other by */
struct img_mpi {
	char *path;                  /* of the library, in the image */
	char *abi;                   /* the name that programs ask for: "libmpi.so.40" */
	const char *family, *series; /* "Open MPI", "4.1"; series "" = not known */
	unsigned pmi;                /* IMG_MPI_*; 0 = neither, as far as can be seen */
};
/* All of them, in the order of their paths; none is no error. Returns new. -EINTR: *ret_signal ended it. */
int img_mpi_find(const struct img_root *root, struct img_mpi **ret, size_t *ret_n, int *ret_signal, struct vl_err *err);
void img_mpi_free(struct img_mpi *v, size_t n);

/* ---- extract.c: out of an image ---- */

struct img_extract_opts {
	struct img_view_opts view;
	const char *dest; /* what it becomes: there already only as a folder */
	bool no_link;     /* not all of dest are the caller's words: it is no link then */
	bool force;       /* replace files */
	bool preserve;    /* modes, times, attributes, and owners as root */
	bool recursive;   /* else a folder is refused */
	bool own_folders; /* the caller can read and write every folder that is made */
};
/* Nothing is written outside dest, no link is followed there, and a file appears whole or not at all. */
int img_extract(const struct img_extract_opts *o, const struct vl_progress *progress, int *ret_signal,
		struct vl_err *err);

/* ---- cosign.c: what was signed at the source (docs/provenance.md) ---- */

struct img_cosign_opts {
	const char *source;          /* docker://... */
	const struct oci_net *net;   /* NULL = defaults */
	const char *arch;            /* OCI name; NULL = this machine's */
	struct sif_key *const *keys; /* public; none: nothing is verified */
	size_t n_keys;
	bool copy; /* keep what was found */
};
struct img_cosign_object { /* a document as the registry has it */
	bool manifest;
	char *name; /* "cosign:sha256:..." */
	void *data;
	size_t len;
};
struct img_cosign {
	char *pinned; /* the source by the digest that everything here is about: what to build from */
	char *digest; /* which is this one */
	size_t signatures, attestations; /* found; with keys: those that are valid */
	struct vl_strv signers;          /* ids of the keys that made them */
	struct vl_strv refused;          /* printable: why the others do not count */
	struct img_cosign_object *v;     /* with `copy`; with keys: what is valid, and the manifests that lead there */
	size_t n;
};
/* Asks the registry for cosign's signatures and attestations of an image: by tag (sha256-....sig, .att) and as
 * referrers. With keys, at least one signature by one of them must name the image's digest: -ENODATA there is none at
 * all, -EKEYREJECTED none is good. In a child without privileges. -EINTR: *ret_signal ended it. */
int img_cosign_fetch(const struct img_cosign_opts *o, const struct vl_progress *progress, struct img_cosign *ret,
		     int *ret_signal, struct vl_err *err);
/* Puts what was kept into the SIF in fd, in the group of its root file system. time: Unix seconds. */
int img_cosign_add(const struct img_cosign *c, int fd, int64_t time, struct vl_err *err);
void img_cosign_free(struct img_cosign *c);

/* ---- packages.c, sbom.c: what is installed in an image ---- */

enum img_package_kind { IMG_PACKAGE_DPKG, IMG_PACKAGE_RPM, IMG_PACKAGE_APK, IMG_PACKAGE_PYTHON };
struct img_package { /* texts as the image has them; NULL = it does not say */
	enum img_package_kind kind;
	char *name, *version; /* never NULL; rpm: VERSION-RELEASE */
	char *epoch;          /* rpm */
	char *arch;
	char *license; /* the packager's words, no expression that others could parse */
	char *source;  /* name of the source package */
	char *path;    /* Python: of its metadata, from the root of the image */
};
struct img_packages {
	struct img_package *v;              /* by kind, name, version and path */
	size_t n, bytes;                    /* packages; of their strings, to be bounded */
	char *os_id, *os_version, *os_name; /* of os-release: "debian", "12", "Debian GNU/Linux 12 (bookworm)"; NULL */
	struct vl_strv unread;              /* "var/lib/rpm/Packages: why": databases that could not be read in full */
};
/* Looks for databases of dpkg, rpm, apk and for Python's packages, in a child without privileges that runs nothing of the
 * image. A database that cannot be read is no failure. -EINTR: *ret_signal ended it. */
int img_packages_read(const struct img_root *root, struct img_packages *ret, int *ret_signal, struct vl_err *err);
void img_packages_free(struct img_packages *l);

enum img_sbom_format { IMG_SBOM_CYCLONEDX_JSON = 1, IMG_SBOM_SPDX_JSON = 4 }; /* as SIF numbers them */
struct img_sbom {
	const char *name;    /* of the image */
	const char *digest;  /* "sha256:..." of its source; NULL = not known */
	const char *builder; /* version number of vial */
	int64_t time;        /* seconds since 1970 */
	const struct img_packages *packages;
};
/* CycloneDX 1.5 or SPDX 2.3. The same input gives the same text; returns new. */
char *img_sbom_text(const struct img_sbom *s, enum img_sbom_format format) VL_NEW;

/* ---- push.c: an image to a registry --------------------------------------------------------- */

struct img_push_opts {
	const char *image;         /* path of a SIF; or, for docker://, an OCI source: oci:DIR:TAG, docker://... */
	const char *target;        /* docker://... or oras://... */
	const struct oci_net *net; /* of the target, and of a source in a registry; NULL = defaults */
	bool no_referrers;         /* do not push signatures as referrers */
	unsigned threads;          /* 0 = what affinity and cgroup allow */
};
struct img_push_stats {
	char digest[IMG_DIGEST_SIZE]; /* of the manifest that was pushed */
	uint64_t bytes;               /* of the layer */
	unsigned referrers;
	int signal; /* with -EINTR */
};
/* In a child without privileges, as img_build. Signatures of the SIF (DSSE) are pushed as referrers of the manifest. */
int img_push(const struct img_push_opts *o, const struct vl_progress *progress, struct img_push_stats *ret,
	     struct vl_err *err);

#endif
