/* A path in an image that nobody has mounted. */
#include "squash.h"

#include <sys/stat.h>

#define LINKS_MAX 40 /* as the kernel */
#define DEPTH_MAX 256

struct way { /* from the root to where we are: ".." goes back */
	uint64_t ref[DEPTH_MAX];
	size_t depth;
};

/* One name further. *ret_target: the text of a link; else i and w are there. */
static int step(struct squash *s, struct way *w, const char *name, struct sq_inode *i, char ret_target[SQ_LINK_MAX + 1])
{
	struct sq_entry e;
	int r;

	*ret_target = 0;
	if (!S_ISDIR(i->mode))
		return -ENOTDIR;
	if (vl_streq(name, ".") || vl_streq(name, "..")) {
		w->depth -= name[1] && w->depth > 1;
		return vmnt_sq_inode(s, w->ref[w->depth - 1], i);
	}
	struct sq_inode next;
	if (w->depth == DEPTH_MAX || (r = vmnt_sq_lookup(s, i, name, &e)) < 0)
		return w->depth == DEPTH_MAX ? -ENAMETOOLONG : r;
	if ((r = vmnt_sq_inode(s, e.ref, &next)) < 0)
		return r;
	if (S_ISLNK(next.mode))
		return vmnt_sq_link(s, &next, ret_target);
	w->ref[w->depth++] = e.ref;
	*i = next;
	return 0;
}

int vmnt_sq_find(struct squash *s, const char *path, struct sq_inode *ret)
{
	struct way w = { .ref = { s->super.root }, .depth = 1 };
	VL_FREE char *rest = vl_strdup(path);
	char target[SQ_LINK_MAX + 1], name[SQ_NAME_MAX + 1];
	unsigned links = 0;
	size_t n;

	s->work = 0;
	int r = vmnt_sq_inode(s, s->super.root, ret);
	for (char *p = rest; r == 0; p += n) {
		p += strspn(p, "/");
		n = strcspn(p, "/");
		if (n == 0)
			return 0;
		if (n > SQ_NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, p, n);
		name[n] = 0;
		if ((r = step(s, &w, name, ret, target)) < 0 || !*target)
			continue;
		if (++links > LINKS_MAX)
			return -ELOOP;
		char *longer = vl_asprintf("%s%s", target, p + n);
		free(rest);
		p = rest = longer;
		n = 0;
		w.depth = *target == '/' ? 1 : w.depth;
		r = vmnt_sq_inode(s, w.ref[w.depth - 1], ret);
	}
	return r;
}
