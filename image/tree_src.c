/* Finding and walking. Names are looked up one part after the other, since a ".." behind a link means what the link
 * leads to. */
#include "tree_src.h"

#include "dir.h"
#include "src_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define MAX_LINKS 40              /* as Linux */
#define MAX_DEPTH 2000            /* one descriptor a level; IMG_MAX_PATH allows 2048 */
#define MAX_CONTENT (16ull << 40) /* bytes of all files; what could be built can be read */
#define STOP (-ECANCELED)         /* of a callback: nothing is wrong, and nothing more is wanted */

int img_src_open(const struct img_root *root, struct img_src **ret, struct vl_err *err)
{
	struct img_src *s = vl_alloc(sizeof *s);
	struct stat st;
	int r = 0;

	s->root = *root;
	s->tail_at = UINT64_MAX;
	s->chunk = IMG_DEFAULT_BLOCK_SIZE;
	if (fstat(root->fd, &st) < 0)
		r = vl_fail_sys(err, errno, "cannot stat %s", root->name);
	s->dev = st.st_dev;
	if (r == 0 && !root->dir) {
		uint64_t end = (uint64_t)st.st_size, size = root->size;
		if (!size)
			size = end > root->off ? end - root->off : 0;
		r = img_unsquash_open(root->fd, root->off, size, MAX_CONTENT, &s->u, err);
		if (r == 0)
			s->chunk = img_unsquash_head(s->u)->block_size;
	}
	if (r < 0) {
		img_src_free(s);
		return r;
	}
	s->block = vl_alloc(s->chunk);
	s->tail = vl_alloc(s->chunk);
	s->raw = vl_alloc(s->chunk);
	*ret = s;
	return 0;
}

void img_src_free(struct img_src *s)
{
	if (!s)
		return;
	img_unsquash_free(s->u);
	free(s->block);
	free(s->tail);
	free(s->raw);
	free(s);
}

/* ---- one entry of a directory ---- */

static void xattrs_free(struct img_xattrs **x)
{
	for (size_t i = 0; *x && i < (*x)->n; i++) {
		free((*x)->a[i].key);
		free((*x)->a[i].value);
	}
	vl_freep(x);
}

static int fail_at(const struct img_src *s, const char *path, int code, const char *what, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(path, strlen(path));
	return vl_fail_sys(err, code, "cannot %s %s/%s", what, s->root.name, shown);
}

/* Calls f with what fd (O_PATH) is. */
static int with_entry(struct img_src *s, int fd, const struct stat *st, const char *path,
		      int (*f)(void *, const struct img_unsquash_entry *, struct vl_err *), void *arg,
		      struct vl_err *err)
{
	VL_CLEANUP(xattrs_free) struct img_xattrs *x = NULL;
	char target[IMG_MAX_PATH + 1];
	struct img_unsquash_entry e = {
		.path = path,
		.type = img_dir_type(st->st_mode),
		.attr = { .mode = (uint16_t)(st->st_mode & 07777),
			  .uid = st->st_uid,
			  .gid = st->st_gid,
			  .mtime = st->st_mtime < 0 ? 0 : (uint32_t)VL_MIN(st->st_mtime, (time_t)UINT32_MAX),
			  .major = major(st->st_rdev),
			  .minor = minor(st->st_rdev) },
		.size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0,
		.ref = st->st_ino,
		.nlink = st->st_dev == s->dev ? (uint32_t)st->st_nlink : 1, /* a number tells within one device */
	};

	if (S_ISLNK(st->st_mode)) {
		ssize_t n = readlinkat(fd, "", target, sizeof target - 1);
		if (n <= 0)
			return fail_at(s, path, n < 0 ? errno : EINVAL, "read the link", err);
		target[n] = 0;
		e.target = target;
	} else {
		int r = img_dir_xattrs(fd, &x);
		if (r < 0)
			return fail_at(s, path, -r, "read the attributes of", err);
	}
	e.xattrs = x;
	return f(arg, &e, err);
}

static int open_entry(struct img_src *s, int dirfd, const char *name, const char *path, struct stat *st,
		      struct vl_err *err)
{
	int fd = openat(dirfd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || fstat(fd, st) < 0) {
		int r = fail_at(s, path, errno, "stat", err);
		vl_closep(&fd);
		return r;
	}
	return fd;
}

static int walk_dir(struct img_src *s, const struct img_src_walk *w, int fd, const struct stat *st, const char *path,
		    unsigned depth, struct vl_err *err)
{
	VL_STRV struct vl_strv names = { 0 };
	int r = with_entry(s, fd, st, path, w->entry, w->arg, err);

	if (r != 0)
		return r == IMG_UNSQUASH_SKIP ? 0 : r;
	if (S_ISREG(st->st_mode)) {
		struct img_file f = { .size = (uint64_t)st->st_size };
		return w->content ? w->content(w->arg, &f, err) : 0;
	}
	if (!S_ISDIR(st->st_mode) || depth >= w->depth)
		return 0;
	if (depth > MAX_DEPTH)
		return fail_at(s, path, ENAMETOOLONG, "descend into", err);
	if ((r = img_dir_names(fd, &names)) < 0)
		r = fail_at(s, path, -r, "list", err);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		VL_FREE char *sub = vl_asprintf("%s%s%s", path, *path ? "/" : "", names.v[i]);
		struct stat inner;
		VL_CLOSE int child = open_entry(s, fd, names.v[i], sub, &inner, err);
		r = child < 0 ? child : walk_dir(s, w, child, &inner, sub, depth + 1, err);
	}
	return r;
}

/* ---- a squashfs, walked from a name within ---- */

struct within {
	const struct img_src_walk *w;
	size_t top_len;
	bool found;
};

/* Folders above the name: 1 = go in, 0 = not on the way; the name and what is below it: 2. */
static int on_the_way(const char *path, const char *top, size_t top_len)
{
	size_t n = strlen(path);

	if (!n)
		return top_len ? 1 : 2;
	if (n < top_len)
		return !strncmp(path, top, n) && top[n] == '/';
	if (strncmp(path, top, top_len) != 0)
		return 0;
	return !top_len || n == top_len || path[top_len] == '/' ? 2 : 0;
}

static unsigned depth_below(const char *path, size_t top_len)
{
	unsigned n = 0;
	const char *p = path + top_len;

	if (!*p)
		return 0;
	if (!top_len)
		n = 1;
	for (; *p; p++)
		n += *p == '/';
	return n;
}

static int entry_within(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct within *in = arg;
	int where = on_the_way(e->path, in->w->top, in->top_len);

	if (where == 1)
		return e->type == IMG_DIR ? 0 : IMG_UNSQUASH_SKIP;
	if (where == 0)
		return in->found ? STOP : IMG_UNSQUASH_SKIP; /* ascending: nothing more can come */
	in->found = true;
	int r = in->w->entry(in->w->arg, e, err);
	if (r == 0 && (e->type == IMG_DIR ? depth_below(e->path, in->top_len) >= in->w->depth : !in->w->content))
		r = IMG_UNSQUASH_SKIP;
	return r;
}

static int layout_within(void *arg, const struct img_file *f, struct vl_err *err)
{
	const struct within *in = arg;
	return in->w->content(in->w->arg, f, err);
}

static int walk_squash(struct img_src *s, const struct img_src_walk *w, struct vl_err *err)
{
	struct within in = { .w = w, .top_len = strlen(w->top) };
	const struct img_unsquash_visitor v = { .entry = entry_within, .layout = layout_within, .arg = &in };
	int r = img_unsquash_walk(s->u, &v, err);

	return r == STOP && in.found ? 0 : r;
}

int img_src_walk(struct img_src *s, const struct img_src_walk *w, struct vl_err *err)
{
	struct stat st;

	if (s->u)
		return walk_squash(s, w, err);
	VL_CLOSE int fd = vl_open_in_root(s->root.fd, *w->top ? w->top : "/", O_PATH | O_NOFOLLOW, 0, err);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return fail_at(s, w->top, errno, "stat", err);
	return walk_dir(s, w, fd, &st, w->top, 0, err);
}

/* ---- finding ---- */

struct hit {
	bool there;
	uint8_t type;
	char *target; /* owned */
};

static int take_hit(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct hit *h = arg;

	(void)err;
	h->there = true;
	h->type = e->type;
	h->target = e->target ? vl_strdup(e->target) : NULL;
	return STOP;
}

static void hit_free(struct hit *h)
{
	vl_freep(&h->target);
}

static int look_up(struct img_src *s, const char *path, struct hit *h, struct vl_err *err)
{
	const struct img_src_walk w = { .top = path, .entry = take_hit, .arg = h };
	struct vl_err gone = { 0 };
	int r = img_src_walk(s, &w, &gone);

	if (r == STOP || (r == 0 && h->there))
		return 0;
	VL_FREE char *shown = vl_printable(path, strlen(path));
	if (r == 0 || r == -ENOENT || r == -ENOTDIR)
		return vl_fail(err, ENOENT, "%s has no /%s", s->root.name, shown);
	*err = gone;
	return r;
}

struct finding {
	struct vl_buf done; /* no link in it */
	char *rest;         /* owned */
	unsigned links;
};

static void finding_free(struct finding *f)
{
	vl_buf_free(&f->done);
	vl_freep(&f->rest);
}

static void go_up(struct finding *f)
{
	char *slash = strrchr(f->done.data, '/');

	f->done.len = slash ? (size_t)(slash - f->done.data) : 0;
	f->done.data[f->done.len] = 0;
}

/* f->done ends in a link to target, and rest follows it. */
static int follow_link(struct img_src *s, struct finding *f, const char *target, const char *rest, struct vl_err *err)
{
	char *all = vl_asprintf("%s%s", target, rest); /* rest is nothing, or begins with '/' */

	if (*target == '/')
		f->done.data[f->done.len = 0] = 0;
	else
		go_up(f);
	free(f->rest);
	f->rest = all;
	if (++f->links > MAX_LINKS || strlen(all) > 2 * IMG_MAX_PATH)
		return vl_fail_sys(err, ELOOP, "cannot follow the links of %s", s->root.name);
	return 0;
}

/* The part of f->rest that begins at `part` with n bytes; what follows it is at *ret_next. */
static int step(struct img_src *s, struct finding *f, bool follow, const char *part, size_t n, const char *next,
		struct vl_err *err)
{
	VL_CLEANUP(hit_free) struct hit h = { 0 };
	bool last = !next[strspn(next, "/")];
	int r;

	if (f->done.len)
		vl_buf_adds(&f->done, "/");
	vl_buf_add(&f->done, part, n);
	if (f->done.len > IMG_MAX_PATH)
		return vl_fail_sys(err, ENAMETOOLONG, "cannot find a path in %s", s->root.name);
	if ((r = look_up(s, f->done.data, &h, err)) < 0)
		return r;
	if (h.type == IMG_SYMLINK && (!last || follow || *next)) /* "link/" is what it leads to */
		return follow_link(s, f, h.target, next, err);
	if (*next && h.type != IMG_DIR) {
		VL_FREE char *shown = vl_printable(f->done.data, f->done.len);
		return vl_fail(err, ENOTDIR, "/%s of %s is not a directory", shown, s->root.name);
	}
	char *rest = vl_strdup(next);
	free(f->rest);
	f->rest = rest;
	return 0;
}

int img_src_find(struct img_src *s, const char *path, bool follow, char **ret, struct vl_err *err)
{
	VL_CLEANUP(finding_free) struct finding f = { .rest = vl_strdup(path) };

	vl_buf_adds(&f.done, "");
	for (;;) {
		const char *part = f.rest + strspn(f.rest, "/");
		size_t n = strcspn(part, "/");
		if (!n)
			break;
		if ((n == 1 && *part == '.') || (n == 2 && !strncmp(part, "..", 2))) {
			if (n == 2)
				go_up(&f);
			char *rest = vl_strdup(part + n);
			free(f.rest);
			f.rest = rest;
			continue;
		}
		int r = step(s, &f, follow, part, n, part + n, err);
		if (r < 0)
			return r;
	}
	*ret = vl_strdup(f.done.data);
	return 0;
}
