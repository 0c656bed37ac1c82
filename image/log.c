#include "tree.h"

struct img_entry *img_log_add(struct img_log *l)
{
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 256;
		l->e = vl_realloc(l->e, l->cap, sizeof *l->e);
	}
	struct img_entry *e = &l->e[l->n++];
	*e = (struct img_entry){ 0 };
	return e;
}

static void free_xattrs(struct img_xattrs *x)
{
	for (size_t i = 0; x && i < x->n; i++) {
		free(x->a[i].key);
		free(x->a[i].value);
	}
	free(x);
}

static void free_entry(struct img_entry *e)
{
	free(e->path);
	free(e->target);
	free_xattrs(e->xattrs);
	if (e->file)
		free(e->file->sizes);
	free(e->file);
}

void img_log_drop_last(struct img_log *l)
{
	free_entry(&l->e[--l->n]);
}

void img_log_free(struct img_log *l)
{
	for (size_t i = 0; i < l->n; i++)
		free_entry(&l->e[i]);
	free(l->e);
	*l = (struct img_log){ 0 };
}

int img_path_normal(const char *name, char **ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (;;) {
		name += strspn(name, "/");
		size_t n = strcspn(name, "/");
		if (!n)
			break;
		if (n == 2 && !strncmp(name, "..", 2))
			return vl_fail(err, EINVAL, "a name with '..' leads out of the image");
		/* a whiteout names a file of full length behind its mark */
		if (n > IMG_MAX_NAME + (vl_prefix(name, ".wh.") ? 4u : 0u))
			return vl_fail(err, ENAMETOOLONG, "a name of %zu bytes; the limit is %d", n, IMG_MAX_NAME);
		if (!(n == 1 && *name == '.')) {
			if (b.len)
				vl_buf_adds(&b, "/");
			vl_buf_add(&b, name, n);
		}
		if (b.len > IMG_MAX_PATH)
			return vl_fail(err, ENAMETOOLONG, "a path of more than %d bytes", IMG_MAX_PATH);
		name += n;
	}
	*ret = vl_steal(&b.data);
	return 0;
}
