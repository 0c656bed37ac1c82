/* Layers as lists of entries, and the one tree they make.
 *
 * A list (img_log) holds what a layer says, in its order. The tree is made by applying the lists
 * lowest first, exactly as the image-spec tells: whiteouts act on what lies below only, whatever
 * their place; folder over folder updates attributes; anything else replaces. Every name stays
 * inside: links are followed within the tree, ".." stops at its root.
 */
#ifndef IMAGE_TREE_H
#define IMAGE_TREE_H

#include <vial/base.h>

#include "blocks.h"
#include "budget.h"
#include "table.h"

#define IMG_MAX_NAME 255  /* squashfs and Linux: one component */
#define IMG_MAX_PATH 4095 /* Linux PATH_MAX less the NUL */

enum img_type {
	IMG_DIR,
	IMG_FILE,
	IMG_SYMLINK,
	IMG_BLOCK_DEV,
	IMG_CHAR_DEV,
	IMG_FIFO,
	IMG_SOCKET,
	IMG_HARDLINK,
	IMG_WHITEOUT,
	IMG_OPAQUE, /* only in logs */
};

struct img_xattr {
	char *key; /* user., trusted. or security. */
	void *value;
	size_t len;
};
struct img_xattrs {
	size_t n;
	struct img_xattr a[];
};

struct img_attr {
	uint16_t mode; /* permission bits only */
	uint32_t uid, gid;
	uint32_t mtime; /* squashfs: 32 bits since 1970 */
	uint32_t major, minor;
};

struct img_entry {
	char *path;                /* components joined by '/', no leading one; "" = the root; owned */
	char *target;              /* symlink text, or path of a hard link's target; owned */
	struct img_xattrs *xattrs; /* owned; NULL = none */
	struct img_file *file;     /* owned; regular files */
	struct img_attr attr;
	uint8_t type; /* enum img_type */
	uint32_t seq; /* which header of its layer, from 1 */
};

struct img_log {
	struct img_entry *e;
	size_t n, cap;
};
struct img_entry *img_log_add(struct img_log *l); /* zeroed; moves earlier ones */
void img_log_drop_last(struct img_log *l);
void img_log_free(struct img_log *l);

/* The normal form of a name from outside: no "./", "//"; refuses "..", long components and long
 * paths. *ret is new. */
int img_path_normal(const char *name, char **ret, struct vl_err *err);

/* ---- which names newer layers hide: only a filter to skip reading; the tree decides ---- */

struct img_shadow {
	struct img_table names; /* of struct shadow_name, in shadow.c */
};
void img_shadow_add_log(struct img_shadow *s, const struct img_log *newer);
bool img_shadow_hides(struct img_shadow *s, const char *path);
void img_shadow_free(struct img_shadow *s);

/* ---- the tree ---- */

struct img_inode {
	const struct img_entry *e; /* attributes and content; NULL = folder nobody described */
	uint8_t type;
	uint32_t nlink;  /* names; folders: 2 + sub-folders, set by numbering */
	uint32_t number; /* 1.., set by the writer */
	uint64_t ref;    /* place in the inode table, set by the writer; 0 with written = false */
	bool written;
};

struct img_node {
	struct img_node *parent, *child, *next, *prev; /* child: first; siblings in no order */
	struct img_inode *inode;
	uint64_t hash;
	char name[];
};

struct img_tree {
	struct img_node *root;
	struct img_table names; /* (parent, name) -> node */
	size_t n_nodes;
	struct img_budget *budget;
};
struct img_tree *img_tree_new(struct img_budget *budget); /* borrows */
void img_tree_free(struct img_tree *t);
/* Applies one layer; log stays with the caller and must outlive the tree. */
int img_tree_apply(struct img_tree *t, const struct img_log *log, struct vl_err *err);
struct img_node *img_tree_child(struct img_tree *t, const struct img_node *dir, const char *name, size_t len);
/* The node of a path, links not followed; NULL. */
struct img_node *img_tree_find(struct img_tree *t, const char *path);

#endif
