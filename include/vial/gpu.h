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
	char *src, *dst;        /* absolute: on the host, in the container */
	struct vl_strv options; /* as mount(8) has them; only ro, rw, and what is so in every container, can be kept */
	bool optional;          /* no such source: go on without it */
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

/* Appends the edits to the plan: nodes and mounts as binds, environment ahead of what the user sets. Call before the user's
 * variables are added. why: what asked for it, a literal, for --explain. What a container without root cannot have and can do without (a
 * group that the caller lacks, an owner) is a warning; else -errno: a node or source that is missing and not optional, a
 * hook (-ENOTSUP: whoever can run it has taken it off the list before). The plan borrows nothing. */
int gpu_edits_apply(const struct gpu_edits *e, struct plan *p, const char *why, const struct vl_progress *say,
		    struct vl_err *err);

#endif
