/* A few files of an image, read without mounting it: for who only wants to know. */
#include "squash.h"

#include <sys/stat.h>

#define DEPTH_MAX 256
#define NAMES_MAX 4000000u /* images with a million are the largest known */
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

bool vmnt_peek_has(struct vmnt_peek *p, const char *path)
{
	struct sq_inode i;

	return vmnt_sq_find(&p->s, path, &i) == 0;
}

char *vmnt_peek_text(struct vmnt_peek *p, const char *path, size_t max)
{
	struct sq_inode i;

	if (vmnt_sq_find(&p->s, path, &i) < 0 || !S_ISREG(i.mode) || i.size > max)
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
	int r = vmnt_sq_find(&p->s, path, &i);

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
	int r = vmnt_sq_find(&p->s, path, &i);

	if (r == 0)
		r = S_ISDIR(i.mode) ? vmnt_sq_dir(&p->s, &i, 0, &d) : -ENOTDIR;
	if (r < 0)
		return r;
	while ((r = vmnt_sq_next(&p->s, &d, &e)) > 0)
		vl_strv_add(ret, e.name);
	return r;
}

struct walk {
	struct squash *s;
	unsigned left; /* names: an image may lead in circles */
	vmnt_peek_file *f;
	void *arg;
};

static void walk(struct walk *w, uint64_t ref, const char *path, unsigned depth)
{
	struct sq_inode i;
	struct sq_entry e;
	struct sq_dir d;

	if (vmnt_sq_inode(w->s, ref, &i) < 0 || !S_ISDIR(i.mode) || vmnt_sq_dir(w->s, &i, 0, &d) < 0)
		return;
	while (w->left && vmnt_sq_next(w->s, &d, &e) > 0) {
		w->left--;
		w->s->work = 0;
		VL_FREE char *child = vl_asprintf("%s/%s", path, e.name);
		if (e.type == SQ_REG)
			w->f(w->arg, child);
		else if (e.type == SQ_DIR && depth < DEPTH_MAX)
			walk(w, e.ref, child, depth + 1);
	}
}

void vmnt_peek_walk(struct vmnt_peek *p, vmnt_peek_file *f, void *arg)
{
	struct walk w = { &p->s, NAMES_MAX, f, arg };

	p->s.work = 0;
	walk(&w, p->s.super.root, "", 0);
}

uint64_t vmnt_peek_bad(const struct vmnt_peek *p)
{
	uint64_t hashed, bad = 0;

	if (p->s.tree)
		vmnt_tree_count(p->s.tree, &hashed, &bad);
	return bad;
}
