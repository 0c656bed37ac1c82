/* gpu: devices of the host for a container, and the files of their drivers.
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
	gid_t *gids;             /* supplementary groups besides the caller's */
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
void gpu_add_gid(struct gpu_edits *e, gid_t gid);           /* once, however often */

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

/* ---- into a plan (edits.c) --------------------------------------------------------------------- */

/* Appends the edits to the plan: nodes and mounts as binds, environment ahead of what the user sets. Call before the user's
 * variables are added. why: what asked for it, a literal, for --explain. What a container without root cannot have and can do without (a
 * group that the caller lacks, an owner) is a warning; else -errno: a node or source that is missing and not optional, a
 * hook (-ENOTSUP: whoever can run it has taken it off the list before). The plan borrows nothing. */
int gpu_edits_apply(const struct gpu_edits *e, struct plan *p, const char *why, const struct vl_progress *say,
		    struct vl_err *err);

#endif
