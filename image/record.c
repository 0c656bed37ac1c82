#include "record.h"

#include <sys/stat.h>

#define FLUSH_AT (256u << 10)
#define CHUNK (256u << 10)
/* The attributes of one file may be 1000 of 64 KiB (image/unsquash_inode.c); anything else is far smaller. */
#define MAX_RECORD (80u << 20)
#define MAX_ATTRIBUTES 4096

enum { ITEM = 1, DATA, HOLE, DIFF };

struct head {
	uint32_t type, len;
};
struct item { /* then path, target and link, each with a NUL, and the attributes */
	uint64_t size;
	int64_t mtime;
	uint32_t mode, uid, gid, nlink, major, minor;
	uint32_t path, target, link; /* bytes with the NUL; 0 = none */
	uint32_t n_xattrs;
};
struct xattr { /* then key with its NUL, and value */
	uint32_t key, value;
};
struct diff { /* then the items; 0 bytes = none */
	uint32_t what, before, after;
};

/* ---- the child ---- */

int img_record_flush(struct img_record_out *o, struct vl_err *err)
{
	int r = o->buf.len ? vl_write_full(o->fd, o->buf.data, o->buf.len) : 0;

	o->buf.len = 0;
	return r < 0 ? vl_fail_sys(err, -r, "cannot hand over what was read") : 0;
}

static int flush_if_full(struct img_record_out *o, struct vl_err *err)
{
	return o->buf.len < FLUSH_AT ? 0 : img_record_flush(o, err);
}

static mode_t format_of(uint8_t type)
{
	static const mode_t formats[] = {
		[IMG_DIR] = S_IFDIR,      [IMG_FILE] = S_IFREG, [IMG_SYMLINK] = S_IFLNK, [IMG_BLOCK_DEV] = S_IFBLK,
		[IMG_CHAR_DEV] = S_IFCHR, [IMG_FIFO] = S_IFIFO, [IMG_SOCKET] = S_IFSOCK
	};
	return formats[type];
}

static void put_item(struct vl_buf *b, const struct img_unsquash_entry *e, const char *link)
{
	struct item i = { .size = e->size,
			  .mtime = e->attr.mtime,
			  .mode = e->attr.mode | format_of(e->type),
			  .uid = e->attr.uid,
			  .gid = e->attr.gid,
			  .nlink = e->nlink,
			  .major = e->attr.major,
			  .minor = e->attr.minor,
			  .path = (uint32_t)strlen(e->path) + 1,
			  .target = e->target ? (uint32_t)strlen(e->target) + 1 : 0,
			  .link = link ? (uint32_t)strlen(link) + 1 : 0,
			  .n_xattrs = e->xattrs ? (uint32_t)e->xattrs->n : 0 };

	vl_buf_add(b, &i, sizeof i);
	vl_buf_add(b, e->path, i.path);
	if (i.target)
		vl_buf_add(b, e->target, i.target);
	if (i.link)
		vl_buf_add(b, link, i.link);
	for (size_t n = 0; n < i.n_xattrs; n++) {
		const struct img_xattr *a = &e->xattrs->a[n];
		struct xattr x = { (uint32_t)strlen(a->key) + 1, (uint32_t)a->len };
		vl_buf_add(b, &x, sizeof x);
		vl_buf_add(b, a->key, x.key);
		vl_buf_add(b, a->value, x.value);
	}
}

/* The length is known afterwards. */
static size_t begin(struct vl_buf *b, uint32_t type)
{
	struct head h = { type, 0 };
	vl_buf_add(b, &h, sizeof h);
	return b->len;
}

static void end(struct vl_buf *b, size_t start)
{
	uint32_t len = (uint32_t)(b->len - start);
	memcpy(b->data + start - sizeof len, &len, sizeof len);
}

int img_record_item(struct img_record_out *o, const struct img_unsquash_entry *e, const char *link, struct vl_err *err)
{
	size_t start = begin(&o->buf, ITEM);

	put_item(&o->buf, e, link);
	end(&o->buf, start);
	return flush_if_full(o, err);
}

int img_record_data(struct img_record_out *o, const void *p, size_t n, struct vl_err *err)
{
	size_t start = begin(&o->buf, DATA);

	vl_buf_add(&o->buf, p, n);
	end(&o->buf, start);
	return flush_if_full(o, err);
}

int img_record_hole(struct img_record_out *o, uint64_t n, struct vl_err *err)
{
	size_t start = begin(&o->buf, HOLE);

	vl_buf_add(&o->buf, &n, sizeof n);
	end(&o->buf, start);
	return flush_if_full(o, err);
}

int img_record_diff(struct img_record_out *o, unsigned what, const struct img_unsquash_entry *before,
		    const struct img_unsquash_entry *after, struct vl_err *err)
{
	size_t start = begin(&o->buf, DIFF), at = o->buf.len;
	struct diff d = { .what = what };

	vl_buf_add(&o->buf, &d, sizeof d);
	if (before)
		put_item(&o->buf, before, NULL);
	d.before = (uint32_t)(o->buf.len - at - sizeof d);
	if (after)
		put_item(&o->buf, after, NULL);
	d.after = (uint32_t)(o->buf.len - at - sizeof d) - d.before;
	memcpy(o->buf.data + at, &d, sizeof d);
	end(&o->buf, start);
	return flush_if_full(o, err);
}

/* ---- the parent ---- */

struct cursor {
	const uint8_t *p;
	size_t left;
};

static int nonsense(struct vl_err *err)
{
	return vl_fail(err, EPROTO, "the reading process sent what makes no sense; the image may be built to break it");
}

static const void *next(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (n > c->left)
		return NULL;
	c->p += n;
	c->left -= n;
	return p;
}

/* A string of n bytes with its NUL, and no other; NULL in *ret when n is 0. */
static bool next_text(struct cursor *c, size_t n, const char **ret)
{
	const char *s = n ? next(c, n) : NULL;

	*ret = s;
	return !n || (s && !s[n - 1] && strlen(s) == n - 1);
}

static bool next_xattr(struct cursor *c, struct img_item_xattr *ret)
{
	struct xattr x;
	const void *head = next(c, sizeof x);

	if (!head)
		return false;
	memcpy(&x, head, sizeof x);
	ret->len = x.value;
	return x.key && next_text(c, x.key, &ret->key) && (ret->value = next(c, x.value)) != NULL;
}

/* The whole of p is one item. *ret_x: its attributes, new. */
static bool parse_item(const void *p, size_t n, struct img_item *ret, struct img_item_xattr **ret_x)
{
	struct cursor c = { p, n };
	struct item i;
	const void *head = next(&c, sizeof i);

	if (!head)
		return false;
	memcpy(&i, head, sizeof i);
	*ret = (struct img_item){ .mode = i.mode,
				  .uid = i.uid,
				  .gid = i.gid,
				  .nlink = i.nlink,
				  .major = i.major,
				  .minor = i.minor,
				  .mtime = i.mtime,
				  .size = i.size,
				  .n_xattrs = i.n_xattrs };
	if (!i.path || i.path > IMG_MAX_PATH + 1 || i.n_xattrs > MAX_ATTRIBUTES || !next_text(&c, i.path, &ret->path) ||
	    !next_text(&c, i.target, &ret->target) || !next_text(&c, i.link, &ret->link) ||
	    S_ISLNK(i.mode) != (i.target > 1))
		return false;
	ret->xattrs = *ret_x = vl_alloc((i.n_xattrs + 1) * sizeof **ret_x);
	for (uint32_t k = 0; k < i.n_xattrs; k++)
		if (!next_xattr(&c, &(*ret_x)[k]))
			return false;
	return !c.left;
}

static int take_item(struct img_record_in *in, const void *p, size_t n, struct vl_err *err)
{
	VL_FREE struct img_item_xattr *x = NULL;
	struct img_item i;

	if (in->owed || !in->v.item || !parse_item(p, n, &i, &x))
		return nonsense(err);
	if (in->v.data && S_ISREG(i.mode) && !i.link)
		in->owed = i.size;
	return in->v.item(in->v.arg, &i, err);
}

static int take_diff(struct img_record_in *in, const uint8_t *p, size_t n, struct vl_err *err)
{
	VL_FREE struct img_item_xattr *xa = NULL, *xb = NULL;
	struct img_item a, b;
	struct diff d;

	if (!in->diff || n < sizeof d)
		return nonsense(err);
	memcpy(&d, p, sizeof d);
	n -= sizeof d;
	p += sizeof d;
	if (d.before > n || d.after != n - d.before || (d.before && !parse_item(p, d.before, &a, &xa)) ||
	    (d.after && !parse_item(p + d.before, d.after, &b, &xb)) || (!d.before && !d.after))
		return nonsense(err);
	return in->diff(in->diff_arg, d.what, d.before ? &a : NULL, d.after ? &b : NULL, err);
}

static int take_content(struct img_record_in *in, uint32_t type, const uint8_t *p, size_t n, struct vl_err *err)
{
	uint64_t bytes = n;

	if (type == HOLE && n == sizeof bytes)
		memcpy(&bytes, p, n);
	else if (type == HOLE)
		return nonsense(err);
	if (!in->v.data || bytes > in->owed)
		return nonsense(err);
	in->owed -= bytes;
	return type == HOLE ? in->v.hole(in->v.arg, bytes, err) : in->v.data(in->v.arg, p, n, err);
}

static int take_record(struct img_record_in *in, uint32_t type, const uint8_t *p, size_t n, struct vl_err *err)
{
	switch (type) {
	case ITEM:
		return take_item(in, p, n, err);
	case DIFF:
		return take_diff(in, p, n, err);
	case DATA:
	case HOLE:
		return take_content(in, type, p, n, err);
	default:
		return nonsense(err);
	}
}

int img_record_take(struct img_record_in *in, const void *p, size_t n, struct vl_err *err)
{
	size_t at = 0;
	struct head h;

	if (!n)
		return 0;
	if (in->cap - in->len < n) {
		in->cap = VL_MAX(in->cap * 2, in->len + n);
		in->buf = vl_realloc(in->buf, in->cap, 1);
	}
	memcpy(in->buf + in->len, p, n);
	in->len += n;
	while (in->len - at >= sizeof h) {
		memcpy(&h, in->buf + at, sizeof h);
		if (h.len > MAX_RECORD)
			return nonsense(err);
		if (in->len - at - sizeof h < h.len)
			break;
		int r = take_record(in, h.type, in->buf + at + sizeof h, h.len, err);
		if (r < 0)
			return r;
		at += sizeof h + h.len;
	}
	memmove(in->buf, in->buf + at, in->len - at);
	in->len -= at;
	return 0;
}

int img_record_end(const struct img_record_in *in, struct vl_err *err)
{
	return in->len || in->owed ? nonsense(err) : 0;
}

int img_record_read(struct img_record_in *in, int fd, const char *name, bool *ret_end, struct vl_err *err)
{
	ssize_t n;

	if (!in->chunk)
		in->chunk = vl_alloc(CHUNK);
	do
		n = read(fd, in->chunk, CHUNK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return vl_fail_sys(err, errno, "cannot hear from the %s process", name);
	*ret_end = n == 0;
	return n ? img_record_take(in, in->chunk, (size_t)n, err) : 0;
}

void img_record_free(struct img_record_in *in)
{
	free(in->buf);
	free(in->chunk);
	in->buf = in->chunk = NULL;
}
