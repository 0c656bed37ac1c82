#include "tree.h"

#define MAX_LINKS 40 /* as the kernel: more is taken for a loop */

struct img_tree *img_tree_new(struct img_budget *budget)
{
	struct img_tree *t = vl_alloc(sizeof *t);

	t->budget = budget;
	t->root = vl_alloc(sizeof *t->root + 1);
	t->root->inode = vl_alloc(sizeof *t->root->inode);
	t->root->inode->nlink = 1;
	t->root->parent = t->root; /* ".." stops here */
	return t;
}

static void unref(struct img_inode *i)
{
	if (--i->nlink == 0)
		free(i);
}

static uint64_t name_hash(struct img_tree *t, const struct img_node *dir, const char *name, size_t len)
{
	return img_table_name(&t->names, name, len, (uint64_t)(uintptr_t)dir);
}

struct img_node *img_tree_child(struct img_tree *t, const struct img_node *dir, const char *name, size_t len)
{
	uint64_t hash = name_hash(t, dir, name, len);
	size_t at = SIZE_MAX;

	for (struct img_node *n; (n = img_table_next(&t->names, hash, &at));)
		if (n->parent == dir && strlen(n->name) == len && !memcmp(n->name, name, len))
			return n;
	return NULL;
}

static struct img_node *add_child(struct img_tree *t, struct img_node *dir, const char *name, size_t len,
				  struct img_inode *inode)
{
	struct img_node *n = vl_alloc(sizeof *n + len + 1);

	n->parent = dir;
	n->next = dir->child;
	n->inode = inode;
	n->hash = name_hash(t, dir, name, len);
	memcpy(n->name, name, len);
	if (dir->child)
		dir->child->prev = n;
	dir->child = n;
	inode->nlink++;
	img_table_add(&t->names, n->hash, n);
	t->n_nodes++;
	return n;
}

static void remove_one(struct img_tree *t, struct img_node *n)
{
	if (n->prev)
		n->prev->next = n->next;
	else
		n->parent->child = n->next;
	if (n->next)
		n->next->prev = n->prev;
	img_table_remove(&t->names, n->hash, n);
	unref(n->inode);
	free(n);
	t->n_nodes--;
}

/* Not recursive: an image may be as deep as a path is long. */
static void remove_children(struct img_tree *t, struct img_node *top)
{
	struct img_node *n = top;

	while (top->child) {
		while (n->child)
			n = n->child;
		struct img_node *up = n->parent;
		remove_one(t, n);
		n = up;
	}
}

static void remove_node(struct img_tree *t, struct img_node *n)
{
	remove_children(t, n);
	remove_one(t, n);
}

void img_tree_free(struct img_tree *t)
{
	if (!t)
		return;
	remove_children(t, t->root);
	unref(t->root->inode);
	free(t->root);
	img_table_free(&t->names);
	free(t);
}

static struct img_inode *folder_inode(void)
{
	return vl_alloc(sizeof(struct img_inode)); /* IMG_DIR, described by nobody: 0755 0:0 */
}

/* Walks to the folder `path` (len bytes) from `from`: links are followed inside the tree, folders
 * that are missing are made, anything else on the way is an error. `links` counts down. */
static int walk_dir(struct img_tree *t, struct img_node *from, const char *path, size_t len, unsigned *links,
		    struct img_node **ret, struct vl_err *err)
{
	struct img_node *cur = from;
	const char *end = path + len;

	while (path < end) {
		const char *slash = memchr(path, '/', (size_t)(end - path));
		size_t n = slash ? (size_t)(slash - path) : (size_t)(end - path);
		const char *name = path;
		int r = *links < MAX_LINKS ? img_spend(&t->budget->link_steps, 1, "links through links", err) : 0;
		if (r < 0)
			return r;
		path += n + (slash != NULL);
		if (n == 0 || (n == 1 && *name == '.'))
			continue;
		if (n == 2 && !memcmp(name, "..", 2)) {
			cur = cur->parent;
			continue;
		}
		if (n > IMG_MAX_NAME)
			return vl_fail(err, ENAMETOOLONG, "a name on the way through a link has %zu bytes", n);
		struct img_node *next = img_tree_child(t, cur, name, n);
		if (!next) {
			if ((r = img_spend(&t->budget->entries, 1, "folders", err)) < 0)
				return r;
			next = add_child(t, cur, name, n, folder_inode());
		} else if (next->inode->type == IMG_SYMLINK) {
			const char *to = next->inode->e->target;
			if ((*links)-- == 0)
				return vl_fail(err, ELOOP, "the link %s is in a loop", next->name);
			r = walk_dir(t, *to == '/' ? t->root : cur, to, strlen(to), links, &next, err);
			if (r < 0)
				return r;
		} else if (next->inode->type != IMG_DIR) {
			return vl_fail(err, ENOTDIR, "%s is used as a folder but is none", next->name);
		}
		cur = next;
	}
	*ret = cur;
	return 0;
}

static int parent_of(struct img_tree *t, const char *path, struct img_node **ret, const char **ret_name,
		     struct vl_err *err)
{
	const char *slash = strrchr(path, '/');
	unsigned links = MAX_LINKS;

	*ret_name = slash ? slash + 1 : path;
	return walk_dir(t, t->root, path, slash ? (size_t)(slash - path) : 0, &links, ret, err);
}

struct img_node *img_tree_find(struct img_tree *t, const char *path)
{
	struct img_node *n = t->root;

	while (n && *path) {
		size_t len = strcspn(path, "/");
		n = img_tree_child(t, n, path, len);
		path += len + (path[len] == '/');
	}
	return n;
}

static void apply_whiteout(struct img_tree *t, const struct img_entry *e)
{
	struct img_node *n = img_tree_find(t, e->path);

	if (!n)
		return;
	if (e->type == IMG_OPAQUE)
		remove_children(t, n);
	else if (n != t->root)
		remove_node(t, n);
}

/* The inode a hard link names. It must be there already: links lead back, not forward. */
static int link_inode(struct img_tree *t, const struct img_entry *e, struct img_inode **ret, struct vl_err *err)
{
	struct img_node *dir;
	const char *name;
	int r = parent_of(t, e->target, &dir, &name, err);

	if (r < 0)
		return r;
	struct img_node *n = *name ? img_tree_child(t, dir, name, strlen(name)) : t->root;
	if (!n)
		return vl_fail(err, ENOENT, "its target %s is not in the image", e->target);
	if (n->inode->type == IMG_DIR)
		return vl_fail(err, EISDIR, "its target %s is a folder", e->target);
	*ret = n->inode;
	return 0;
}

static int apply_entry(struct img_tree *t, const struct img_entry *e, struct vl_err *err)
{
	struct img_node *dir, *old;
	struct img_inode *inode = NULL;
	const char *name;
	int r;

	if (!*e->path) { /* the root itself; only a folder makes sense */
		if (e->type != IMG_DIR)
			return vl_fail(err, EINVAL, "the root is not a folder");
		t->root->inode->e = e;
		return 0;
	}
	if ((r = parent_of(t, e->path, &dir, &name, err)) < 0)
		return r;
	if (e->type == IMG_HARDLINK && (r = link_inode(t, e, &inode, err)) < 0)
		return r;
	old = img_tree_child(t, dir, name, strlen(name));
	if (old && old->inode->type == IMG_DIR && e->type == IMG_DIR) {
		old->inode->e = e;
		return 0;
	}
	if (old && old->inode == inode)
		return 0; /* a link onto itself */
	if (!inode) {
		inode = vl_alloc(sizeof *inode);
		inode->type = e->type;
		inode->e = e;
	}
	inode->nlink++; /* a link may replace the very folder its target is in */
	if (old)
		remove_node(t, old);
	add_child(t, dir, name, strlen(name), inode);
	inode->nlink--;
	return 0;
}

int img_tree_apply(struct img_tree *t, const struct img_log *log, struct vl_err *err)
{
	for (size_t i = 0; i < log->n; i++)
		if (log->e[i].type == IMG_WHITEOUT || log->e[i].type == IMG_OPAQUE)
			apply_whiteout(t, &log->e[i]);
	for (size_t i = 0; i < log->n; i++) {
		const struct img_entry *e = &log->e[i];
		if (e->type == IMG_WHITEOUT || e->type == IMG_OPAQUE)
			continue;
		int r = apply_entry(t, e, err);
		if (r < 0) {
			VL_FREE char *shown = vl_printable(e->path, strlen(e->path));
			return vl_wrap(err, "%s", *shown ? shown : "/");
		}
	}
	return 0;
}
