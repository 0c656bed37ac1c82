/* A few files of an image, read without mounting it: for who only wants to know. */
#include "squash.h"

#include <sys/stat.h>

#define LINKS_MAX 40 /* as the kernel */
#define DEPTH_MAX 256
#define MEMORY (8u << 20)

struct vmnt_peek {
	struct squash s;
};

int vmnt_peek_open(const struct vmnt_image *image, struct vmnt_peek **ret, struct vl_err *err)
{
	struct vmnt_peek *p = vl_alloc(sizeof *p);
	struct vmnt_image one = *image;
	struct stat st;

	one.threads = 1;
	one.memory = MEMORY;
	if (!one.size && fstat(image->fd, &st) == 0 && (uint64_t)st.st_size > one.off)
		one.size = (uint64_t)st.st_size - one.off; /* a question that the filter forbids */
	int r = vl_drop_privileges(err);
	if (r == 0)
		r = vmnt_jail(err);
	if (r == 0)
		r = vmnt_sq_open(&p->s, &one, err);
	if (r < 0) {
		free(p);
		return r;
	}
	*ret = p;
	return 0;
}

void vmnt_peek_free(struct vmnt_peek *p)
{
	if (p)
		vmnt_sq_close(&p->s);
	free(p);
}

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

/* Links lead to places of the image, as in a container of it. */
static int resolve(struct squash *s, const char *path, struct sq_inode *ret)
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

bool vmnt_peek_has(struct vmnt_peek *p, const char *path)
{
	struct sq_inode i;

	return resolve(&p->s, path, &i) == 0;
}

char *vmnt_peek_text(struct vmnt_peek *p, const char *path, size_t max)
{
	struct sq_inode i;

	if (resolve(&p->s, path, &i) < 0 || !S_ISREG(i.mode) || i.size > max)
		return NULL;
	VL_FREE char *text = vl_alloc((size_t)i.size + 1);
	ssize_t n = 1;
	for (size_t at = 0; at < i.size && n > 0; at += (size_t)n)
		if ((n = vmnt_sq_read(&p->s, &i, at, text + at, (size_t)i.size - at)) <= 0)
			return NULL;
	return vl_steal(&text);
}

ssize_t vmnt_peek_read(struct vmnt_peek *p, const char *path, uint64_t off, void *buf, size_t n)
{
	struct sq_inode i;
	int r = resolve(&p->s, path, &i);

	if (r < 0)
		return r;
	if (!S_ISREG(i.mode))
		return -EINVAL;
	return off >= i.size ? 0 : vmnt_sq_read(&p->s, &i, off, buf, (size_t)VL_MIN((uint64_t)n, i.size - off));
}

int vmnt_peek_list(struct vmnt_peek *p, const char *path, struct vl_strv *ret)
{
	struct sq_inode i;
	struct sq_entry e;
	struct sq_dir d;
	int r = resolve(&p->s, path, &i);

	if (r == 0)
		r = S_ISDIR(i.mode) ? vmnt_sq_dir(&p->s, &i, 0, &d) : -ENOTDIR;
	if (r < 0)
		return r;
	while ((r = vmnt_sq_next(&p->s, &d, &e)) > 0)
		vl_strv_add(ret, e.name);
	return r;
}

uint64_t vmnt_peek_bad(const struct vmnt_peek *p)
{
	uint64_t hashed, bad = 0;

	if (p->s.tree)
		vmnt_tree_count(p->s.tree, &hashed, &bad);
	return bad;
}
