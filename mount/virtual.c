/* Bind targets that the image lacks, found by walking the image as the kernel would: links followed
 * inside the root, ".." stopping at it. One thread adds, others read meanwhile: a place never moves
 * or goes, and counts only when it is complete. */
#include "squash.h"

#include <sys/stat.h>

#define MAX_LINKS 40 /* as the kernel */
#define MAX_DEPTH 128

uint64_t vmnt_node_of(const struct squash *s, uint64_t ref)
{
	return ref == s->super.root ? 1 : ref + 2;
}

uint64_t vmnt_ref_of(const struct squash *s, uint64_t node)
{
	return node == 1 ? s->super.root : node - 2;
}

ssize_t vmnt_virtual_find(const struct sq_virtuals *l, size_t from, uint64_t parent, const char *name)
{
	size_t n = l->n;

	for (size_t i = from; i < n; i++)
		if (l->v[i].parent == parent && (!name || vl_streq(l->v[i].name, name)))
			return (ssize_t)i;
	return -1;
}

static uint64_t add(struct sq_virtuals *l, uint64_t parent, const char *name, bool dir)
{
	size_t n = l->n;

	l->v[n] = (struct sq_virtual){ parent, vl_strdup(name), dir };
	l->n = n + 1;
	return SQ_VIRTUAL | n;
}

enum found { IS_DIR, IS_LINK, IS_MISSING, IS_OTHER };

static enum found look(struct squash *s, const struct sq_virtuals *l, uint64_t parent, const char *name,
		       uint64_t *ret_node, struct sq_inode *ret_inode)
{
	struct sq_inode dir;
	struct sq_entry e;
	ssize_t v = vmnt_virtual_find(l, 0, parent, name);

	if (v >= 0) {
		*ret_node = SQ_VIRTUAL | (uint64_t)v;
		return l->v[v].dir ? IS_DIR : IS_OTHER;
	}
	if (parent & SQ_VIRTUAL)
		return IS_MISSING;
	if (vmnt_sq_inode(s, vmnt_ref_of(s, parent), &dir) < 0)
		return IS_OTHER;
	int r = vmnt_sq_lookup(s, &dir, name, &e);
	if (r < 0)
		return r == -ENOENT ? IS_MISSING : IS_OTHER;
	if (vmnt_sq_inode(s, e.ref, ret_inode) < 0)
		return IS_OTHER;
	*ret_node = vmnt_node_of(s, e.ref);
	return S_ISDIR(ret_inode->mode) ? IS_DIR : S_ISLNK(ret_inode->mode) ? IS_LINK : IS_OTHER;
}

static int make(struct squash *s, const struct vmnt_place *place, struct sq_virtuals *l)
{
	uint64_t stack[MAX_DEPTH] = { 1 };
	size_t depth = 0;
	unsigned links = 0;
	VL_FREE char *rest = vl_strdup(place->path);

	for (;;) {
		char *p = rest + strspn(rest, "/"), target[SQ_LINK_MAX + 1];
		size_t n = strcspn(p, "/");
		VL_FREE char *name = vl_strndup(p, n);
		VL_FREE char *after = vl_strdup(p + n + strspn(p + n, "/"));
		uint64_t node = 0;
		struct sq_inode inode;

		if (!n)
			return 0;
		enum found f = IS_DIR;
		if (vl_streq(name, "..")) {
			depth -= depth > 0;
		} else if (!vl_streq(name, ".")) {
			f = n > SQ_NAME_MAX ? IS_OTHER : look(s, l, stack[depth], name, &node, &inode);
			if (f == IS_MISSING) {
				bool dir = *after || place->dir;
				if (l->n == SQ_VIRTUALS_MAX)
					return -ENOSPC;
				node = add(l, stack[depth], name, dir);
				f = dir ? IS_DIR : IS_OTHER;
			}
			if (f == IS_OTHER || (f == IS_LINK && !*after && place->nofollow))
				return 0; /* there, or not to be had: the bind itself will tell */
			if (f == IS_DIR) {
				if (depth + 1 == MAX_DEPTH)
					return 0;
				stack[++depth] = node;
			} else {
				if (++links > MAX_LINKS || vmnt_sq_link(s, &inode, target) < 0)
					return 0;
				char *joined = vl_asprintf("%s/%s", target, after);
				free(after);
				after = joined;
				depth = *target == '/' ? 0 : depth;
			}
		}
		free(rest);
		rest = vl_steal(&after);
	}
}

int vmnt_virtual_plan(struct squash *s, const struct vmnt_place *places, size_t n, struct sq_virtuals *l,
		      struct vl_err *err)
{
	int r = 0;

	if (!l->v)
		l->v = vl_alloc(SQ_VIRTUALS_MAX * sizeof *l->v);
	for (size_t i = 0; r == 0 && i < n; i++) {
		s->work = 0;
		r = make(s, &places[i], l);
	}
	return r < 0 ? vl_fail(err, -r,
			       "the binds want more than %d places that the image lacks; bind directories that have "
			       "them",
			       SQ_VIRTUALS_MAX)
		     : 0;
}

void vmnt_virtual_free(struct sq_virtuals *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i].name);
	free(l->v);
	l->v = NULL;
	l->n = 0;
}
