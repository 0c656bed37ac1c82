/* image: where oci meets sif. Layers become one tree, the tree a squashfs, the squashfs a SIF. */
#ifndef VIAL_IMAGE_H
#define VIAL_IMAGE_H

#include <vial/base.h>

#define IMG_DEFAULT_BLOCK_SIZE (128u << 10)
/* Inflated bytes one layer may have. Real layers stay below; 1 MiB of gzip can hold 1 GiB. */
#define IMG_DEFAULT_MAX_SIZE (256ull << 30)

enum img_owner { IMG_OWNER_KEEP, IMG_OWNER_ROOT };

struct img_build_opts {
	const char *source;   /* oci:, oci-archive:, docker-archive: or a directory */
	const char *builder;  /* version number recorded in the image */
	const char *arch;     /* OCI name; NULL = this machine's */
	const char *compress; /* codec[:level]; NULL = zstd:3 */
	uint32_t block_size;  /* power of two, 4 KiB to 1 MiB; 0 = default */
	unsigned threads;     /* 0 = what affinity and cgroup allow */
	uint64_t max_size;    /* 0 = default */
	enum img_owner owner;
	int64_t time; /* seconds since 1970 of everything vial itself makes; -1 = of the source */
};

struct img_build_stats {
	uint64_t bytes_in, bytes_out; /* file content, stored */
	uint64_t entries, layers, dup_files;
	int signal;      /* with -EINTR: the one that ended it */
	char digest[80]; /* manifest digest of the source, "" = none */
};

/* Writes the whole SIF into fd (empty, read-write, seekable). The work is done by a child process
 * that has no capabilities and no_new_privs; its error becomes ours. On failure the content of fd
 * is not a SIF. INT, TERM and HUP end it with -EINTR, unless the caller ignores them. */
int img_build(const struct img_build_opts *o, int fd, const struct vl_progress *progress, struct img_build_stats *ret,
	      struct vl_err *err);

#endif
