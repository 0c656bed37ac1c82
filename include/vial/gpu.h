/* gpu: devices of the host for a container, the files of their drivers, and the host's MPI.
 *
 * Whoever knows what a device needs (the discovery of a vendor's driver, a CDI specification) fills a struct gpu_edits:
 * plain data, made in the host's namespaces. gpu_edits_apply appends it to a plan. Nothing here mounts or starts anything.
 */
#ifndef VIAL_GPU_H
#define VIAL_GPU_H

#include <vial/base.h>
#include <vial/rootless.h>

/* ---- what a device changes in a container (edits.c) -------------------------------------------- */

struct gpu_node {      /* a device node */
	char *host;    /* absolute path on the host */
	char *path;    /* in the container */
	char type;     /* 'c', 'b', 'p'; 0 = as it is on the host */
	int64_t major; /* with minor, as somebody says they are; -1 = not said */
	int64_t minor;
	char access[4];   /* of "rwm"; "" = not said, which is all three */
	int32_t mode;     /* permission bits; -1 = not said */
	int64_t uid, gid; /* -1 = not said. A container without root binds the host's node, whatever these say */
	bool optional;    /* no such node: go on without it */
};
struct gpu_mount {
	char *src, *dst; /* absolute: on the host, in the container */
	struct vl_strv
		options; /* as mount(8) has them; only ro, rw, noexec, and what is so in every container, can be kept */
	bool optional;   /* no such source: go on without it */
};
struct gpu_hook {
	char *name; /* prestart, createRuntime, createContainer, startContainer, poststart, poststop */
	char *path; /* absolute, on the host */
	struct vl_strv args, env;
	int64_t timeout; /* seconds; 0 = none */
};
struct gpu_edits {
	struct gpu_node *nodes;
	size_t n_nodes;
	struct gpu_mount *mounts;
	size_t n_mounts;
	struct gpu_hook *hooks;
	size_t n_hooks;
	struct vl_strv env;      /* KEY=VALUE; beats the image, not the user */
	struct vl_strv lib_dirs; /* of the container: searched by its loader after the image's own */
	struct vl_strv shut; /* paths in the container: nodes that shall not open where the host's /dev shows them */
	gid_t *gids;         /* supplementary groups besides the caller's */
	size_t n_gids;
};
void gpu_edits_free(struct gpu_edits *e);
#define GPU_EDITS __attribute__((cleanup(gpu_edits_free)))

/* Each appends one and copies what it is given. The returned pointer is good until the next of its kind is added; what is
 * not said is as "not said" above. */
struct gpu_node *gpu_add_node(struct gpu_edits *e, const char *host, const char *path);
struct gpu_mount *gpu_add_mount(struct gpu_edits *e, const char *src, const char *dst);
struct gpu_hook *gpu_add_hook(struct gpu_edits *e, const char *name, const char *path);
/* KEY=VALUE; replaces what was there for KEY. */
void gpu_add_env(struct gpu_edits *e, const char *key_value);
void gpu_add_lib_dir(struct gpu_edits *e, const char *dir); /* once, however often */
void gpu_add_shut(struct gpu_edits *e, const char *path);
void gpu_add_gid(struct gpu_edits *e, gid_t gid); /* once, however often */

/* Hands the hooks to the plan and takes them off the list: createContainer and startContainer. The others are -ENOTSUP:
 * they run outside of a container, where vial leaves no process behind. why as above. */
int gpu_hooks_apply(struct gpu_edits *e, struct plan *p, const char *why, struct vl_err *err);

/* ---- CDI: devices as their vendors describe them (cdi*.c, yaml*.c) ------------------------------ */

struct gpu_cdi_part {
	char *origin; /* for --explain: a device and its file, or a file */
	struct gpu_edits edits;
};
struct gpu_cdi { /* to be applied in this order; no two are at one place */
	struct gpu_cdi_part *parts;
	size_t n_parts;
};
void gpu_cdi_free(struct gpu_cdi *c);
#define GPU_CDI __attribute__((cleanup(gpu_cdi_free)))
/* The devices of these names (VENDOR/CLASS=NAME; =all is all of the kind, unless there is a device of that name), from the
 * specifications in these directories, of which the later counts more (n 0: /etc/cdi and /var/run/cdi). Files that cannot
 * be used are an error when a device is not found, else one warning. -EINVAL: a name; -ENOENT; -ENOTUNIQ: two files of a
 * directory have it; -ENOTSUP: it needs what a container without root cannot have; -ESTALE: the device of the host is not
 * what the file says. */
int gpu_cdi_find(const struct vl_strv *names, const struct vl_strv *dirs, const struct vl_progress *say,
		 struct gpu_cdi *ret, struct vl_err *err);

struct gpu_cdi_named { /* a device to be described */
	const char *name;
	const struct gpu_edits *edits;
};
/* A specification of that kind, in the least version that has what is in it. common: edits of each device, NULL = none.
 * Returns new. -EINVAL: the rules of the format do not allow it. */
int gpu_cdi_write(const char *kind, const struct gpu_cdi_named *devices, size_t n, const struct gpu_edits *common,
		  bool yaml, char **ret, struct vl_err *err);

/* ---- the host's MPI (mpi.c, mpi_host.c) --------------------------------------------------------- */

struct gpu_mpi {
	const struct vl_strv *files; /* the host's libraries, or directories with such; absolute */
	bool fabric_only;            /* of them, libfabric alone */
	const char *why;             /* as of gpu_edits_apply */
};
/* The host's libraries of MPI and libfabric in place of those of the image, and what they need beside them where the image has
 * nothing of that name. -ENOEXEC: they do not fit to the image; nothing to replace is a warning. */
int gpu_mpi_edits(const struct gpu_mpi *w, enum plan_image kind, const struct vmnt_image *image,
		  const struct vl_progress *say, struct gpu_edits *ret, struct vl_err *err);

/* ---- into a plan (edits.c) --------------------------------------------------------------------- */

/* Appends the edits to the plan: nodes and mounts as binds, environment ahead of what the user sets. Call before the user's
 * variables are added. why: what asked for it, a literal, for --explain. What a container without root cannot have and can do without (a
 * group that the caller lacks, an owner) is a warning; else -errno: a node or source that is missing and not optional, a
 * hook (-ENOTSUP: whoever can run it has taken it off the list before). The plan borrows nothing. */
int gpu_edits_apply(const struct gpu_edits *e, struct plan *p, const char *why, const struct vl_progress *say,
		    struct vl_err *err);

/* ---- the host (host.c, found.c) ----------------------------------------------------------------- */

/* All that is read of the host is read below one directory: "/", or a tree that a test has made. */
struct gpu_host {
	int fd;     /* owned */
	char *root; /* owned; "" or an absolute path without links */
};
#define GPU_HOST_INIT                                                                                                  \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}
int gpu_host_open(const char *root, struct gpu_host *ret, struct vl_err *err); /* root: NULL = "/" */
void gpu_host_close(struct gpu_host *h);
#define GPU_HOST __attribute__((cleanup(gpu_host_close)))

enum gpu_vendor { GPU_NVIDIA, GPU_AMD, GPU_INTEL, GPU_HABANA, GPU_VENDORS };
extern const char *const gpu_vendor_names[GPU_VENDORS];

/* May the caller use it? */
enum gpu_access {
	GPU_OPENS,
	GPU_NO_NODE, /* the driver knows it, /dev does not */
	GPU_DENIED,  /* EPERM: a scheduler's device cgroup */
	GPU_SHUT,    /* EACCES: permissions of the node */
};
struct gpu_slice { /* a part of a device, with MIG */
	unsigned gi, ci;
	int gi_minor, ci_minor; /* of its /dev/nvidia-caps/nvidia-cap*; -1 = not known */
	bool left;              /* gpu_choose: others of its device were chosen, this was not */
};
struct gpu_device {
	enum gpu_vendor vendor;
	unsigned index;       /* among those of its vendor, as the vendor's tools count */
	int minor;            /* of its node; -1 = it has none of its own */
	char *name;           /* of the model; NULL = not known */
	char *uuid, *pci;     /* NULL = not known; pci in lower case, as in 0000:3b:00.0 */
	struct vl_strv nodes; /* of this device alone, the first decides; in the container */
	enum gpu_access access;
	struct gpu_slice *slices;
	size_t n_slices;
};
struct gpu_found {
	struct gpu_device *devices; /* by vendor and index */
	size_t n;
	char *driver[GPU_VENDORS];          /* its version, "" = there, of unknown version; NULL = not loaded */
	struct vl_strv common[GPU_VENDORS]; /* nodes of no single device that are there */
	bool wsl, tegra;
};
/* Looks for devices of all vendors, or of those in the set of 1 << vendor. Runs nothing and loads nothing. */
void gpu_find(const struct gpu_host *h, unsigned vendors, struct gpu_found *ret);
void gpu_found_free(struct gpu_found *f);
#define GPU_FOUND __attribute__((cleanup(gpu_found_free)))

/* Of the devices of a vendor, which are meant by a list as in NVIDIA_VISIBLE_DEVICES: numbers, UUIDs or beginnings of
 * them, PCI addresses, "all", "none", "" or "void"; with MIG GPU:SLICE and MIG-GPU-UUID/GI/CI. ret is one for each device of f;
 * a slice chooses its device, and the device's other slices are left. -ENODEV names what is not there, or which slice cannot be
 * told. what: for the message. */
int gpu_choose(const struct gpu_found *f, enum gpu_vendor vendor, const char *list, const char *what, bool *ret,
	       struct vl_err *err);

/* ---- the driver's files (driver.c) -------------------------------------------------------------- */

enum gpu_caps { /* NVIDIA_DRIVER_CAPABILITIES */
		GPU_CAP_UTILITY = 1,
		GPU_CAP_COMPUTE = 2,
		GPU_CAP_VIDEO = 4,
		GPU_CAP_GRAPHICS = 8,
		GPU_CAP_DISPLAY = 16,
		GPU_CAP_NGX = 32,
		GPU_CAP_COMPAT32 = 64,
		GPU_CAP_ALL = 63, /* what "all" means: not compat32 */
};
/* "all", or words with commas. *ret_unknown: NULL, or gets the first word that is none; new or NULL. */
unsigned gpu_caps_parse(const char *text, char **ret_unknown);

/* ---- the image (image.c) ------------------------------------------------------------------------ */

struct gpu_image {
	enum { GPU_LIBC_NONE, GPU_LIBC_GLIBC, GPU_LIBC_MUSL } libc;
	struct vl_strv versions;  /* of symbols of its libc: GLIBC_2.31 */
	struct vl_strv libraries; /* file names of families known here that its loader finds */
	struct vl_strv cudart;    /* versions of CUDA's runtime that lie in it, as in 12.4.127 or 12 */
	char *cuda_compat;        /* version of the driver's libraries in /usr/local/cuda/compat */
	char *rocm;               /* version in /opt/rocm */
};
/* Reads it in a child without privileges; it is not mounted for that. Of image, descriptor, place, name and hash tree count:
 * with one, nothing is taken from what is not as the tree says (-EIO). */
int gpu_image_look(enum plan_image kind, const struct vmnt_image *image, struct gpu_image *ret, struct vl_err *err);
void gpu_image_free(struct gpu_image *i);
#define GPU_IMAGE __attribute__((cleanup(gpu_image_free)))
bool gpu_image_has(const struct gpu_image *i, const char *soname);
/* The first of these versions that the libc of the image lacks, or NULL. */
const char *gpu_image_lacks(const struct gpu_image *i, const struct vl_strv *needs);

struct gpu_file {
	char *src;   /* path on the host, without links */
	char *dst;   /* in the container; NULL = it stays outside */
	char *name;  /* SONAME, or the name of the file */
	char *needs; /* the newest GLIBC_x that it needs; NULL = none */
	char *why;   /* it stays outside because; NULL = it does not */
	enum gpu_vendor vendor;
	bool library, newer; /* newer: it stays outside for the image's libc */
	bool dir;
};
struct gpu_files {
	struct gpu_file *v;
	size_t n;
};
#define GPU_LIBS "/.singularity.d/libs"
/* The files of a vendor's driver for these capabilities. image: NULL = whatever the image. */
void gpu_find_files(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor, unsigned caps,
		    const struct gpu_image *image, struct gpu_files *ret);
/* What a container needs for the chosen devices, one bool for each of f, without the slices that are left, and for these
 * files. The others are shut if shut. */
void gpu_make_edits(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor, const bool *chosen,
		    bool shut, const struct gpu_files *files, struct gpu_edits *ret);
void gpu_files_free(struct gpu_files *f);
#define GPU_FILES __attribute__((cleanup(gpu_files_free)))

/* ---- versions (cuda.c) -------------------------------------------------------------------------- */

/* -1, 0, 1: by their numbers, part by part. */
int gpu_version_cmp(const char *a, const char *b);
/* The newest CUDA that a driver's version supports by itself, "12.4"; NULL = not known, older than all. */
const char *gpu_cuda_of_driver(const char *driver);
/* The oldest driver for this version of CUDA, of the same major version at least; NULL = not known. */
const char *gpu_driver_for_cuda(const char *cuda);
/* NVIDIA_REQUIRE_CUDA and its kin: 1 it holds, 0 it does not, -1 it cannot be told. brand, arch: NULL = not known. */
int gpu_requirement(const char *text, const char *cuda, const char *driver, const char *arch, const char *brand);

#endif
