/* Out of an image into a directory. Names come from outside: each is one component, made in a folder that is held open
 * and was made or found here without following a link. Links of the image are made, and never used. */
#include <vial/image.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define NAMED 3 /* of what is left out, in the message */

struct attrs { /* of what is being made */
	uint32_t mode, uid, gid;
	int64_t mtime;
	struct img_item_xattr *xattrs; /* each with a copy of its own */
	size_t n_xattrs;
};

struct folder {
	int fd;
	size_t path_len; /* of its path in the image */
	struct attrs a;
	bool made; /* else it was there, and stays as it is */
};

struct extracting {
	const struct img_extract_opts *o;
	const struct vl_progress *progress;
	mode_t umask;
	bool root;
	char *top; /* path of what was asked for; NULL until it is known */
	struct folder *stack;
	size_t depth, cap;
	struct vl_buf path; /* of the innermost folder */
	struct file {
		int fd, dirfd; /* dirfd: owned only when it is the parent of dest */
		char *name;    /* final */
		char *hidden;  /* NULL: the file has no name yet */
		uint64_t at, size;
		struct attrs a;
	} file;
	int above; /* the parent of dest */
	uint64_t bytes, left_out, lost_xattrs;
	struct vl_buf names; /* of the first that were left out */
};

/* ---- messages ---- */

static char *shown(const struct extracting *x, const char *name)
{
	VL_FREE char *raw =
		x->depth ? vl_asprintf("%s/%s%s%s", x->o->dest,
				       x->path.len > strlen(x->top) ? x->path.data + strlen(x->top) + (*x->top != 0)
								    : "",
				       x->path.len > strlen(x->top) ? "/" : "", name)
			 : vl_strdup(x->o->dest);
	return vl_printable(raw, strlen(raw));
}

static int fail_at(const struct extracting *x, const char *name, int code, const char *what, struct vl_err *err)
{
	VL_FREE char *where = shown(x, name);
	return vl_fail_sys(err, code, "cannot %s %s", what, where);
}

static int is_there(const struct extracting *x, const char *name, struct vl_err *err)
{
	VL_FREE char *where = shown(x, name);
	return vl_fail(err, EEXIST, "%s exists already; -f replaces files", where);
}

static int nonsense(struct vl_err *err)
{
	return vl_fail(err, EPROTO, "the image has a name that leads out of it");
}

/* ---- attributes ---- */

static struct attrs attrs_of(const struct img_item *i)
{
	return (struct attrs){ i->mode, i->uid, i->gid, i->mtime, NULL, 0 };
}

static void attrs_free(struct attrs *a)
{
	for (size_t i = 0; i < a->n_xattrs; i++) {
		free((char *)a->xattrs[i].key);
		free((void *)a->xattrs[i].value);
	}
	vl_freep(&a->xattrs);
	a->n_xattrs = 0;
}

/* Those of the system are for root to set. */
static void keep_xattrs(const struct extracting *x, const struct img_item *i, struct attrs *a)
{
	if (!x->o->preserve)
		return;
	a->xattrs = vl_alloc((i->n_xattrs + 1) * sizeof *a->xattrs);
	for (size_t k = 0; k < i->n_xattrs; k++) {
		const struct img_item_xattr *from = &i->xattrs[k];
		if (!x->root && !vl_prefix(from->key, "user."))
			continue;
		a->xattrs[a->n_xattrs++] =
			(struct img_item_xattr){ vl_strdup(from->key), vl_memdup(from->value, from->len), from->len };
	}
}

/* What others could run as the owner is kept only where the owner is the image's. */
static mode_t mode_for(const struct extracting *x, const struct attrs *a, bool owner_kept)
{
	mode_t m = a->mode & 07777;

	if (!x->o->preserve)
		m &= 0777 & ~x->umask;
	else if (!owner_kept)
		m &= S_ISDIR(a->mode) ? 01777 : 0777;
	if (S_ISDIR(a->mode) && x->o->own_folders)
		m |= 0700;
	return m;
}

/* In this order, and when all is written: a change of the owner or the content takes set-id bits and capabilities away,
 * and a mode may forbid the rest. */
static int set_attrs(struct extracting *x, int fd, const struct attrs *a, const char *name, struct vl_err *err)
{
	const struct timespec times[2] = { { .tv_sec = a->mtime }, { .tv_sec = a->mtime } };
	bool owner_kept = false;

	if (x->o->preserve)
		owner_kept = x->root ? fchown(fd, a->uid, a->gid) == 0 : geteuid() == a->uid && getegid() == a->gid;
	if (x->root && x->o->preserve && !owner_kept)
		return fail_at(x, name, errno, "set the owner of", err);
	for (size_t i = 0; i < a->n_xattrs; i++)
		if (fsetxattr(fd, a->xattrs[i].key, a->xattrs[i].value, a->xattrs[i].len, 0) < 0)
			x->lost_xattrs++;
	if (fchmod(fd, mode_for(x, a, owner_kept)) < 0)
		return fail_at(x, name, errno, "set the mode of", err);
	if (x->o->preserve && futimens(fd, times) < 0)
		return fail_at(x, name, errno, "set the time of", err);
	return 0;
}

/* ---- folders ---- */

static int leave(struct extracting *x, struct vl_err *err)
{
	struct folder *f = &x->stack[x->depth - 1];
	int r = f->made ? set_attrs(x, f->fd, &f->a, "", err) : 0;

	vl_closep(&f->fd);
	attrs_free(&f->a);
	x->depth--;
	x->path.len = x->depth ? x->stack[x->depth - 1].path_len : 0;
	if (x->path.data)
		x->path.data[x->path.len] = 0;
	return r;
}

static void enter(struct extracting *x, int fd, const char *path, const struct img_item *i, bool made)
{
	if (x->depth == x->cap) {
		x->cap = x->cap ? x->cap * 2 : 16;
		x->stack = vl_realloc(x->stack, x->cap, sizeof *x->stack);
	}
	x->stack[x->depth++] = (struct folder){ .fd = fd, .path_len = strlen(path), .a = attrs_of(i), .made = made };
	x->path.len = 0;
	vl_buf_adds(&x->path, path);
}

static int take_folder(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	bool made = mkdirat(dirfd, name, 0700) == 0;

	if (!made && errno != EEXIST)
		return fail_at(x, name, errno, "make the directory", err);
	/* the place itself is the caller's word, and may be a link; what is inside may not */
	int fd = openat(dirfd, name,
			O_RDONLY | O_DIRECTORY | O_CLOEXEC | (x->depth || made || x->o->no_link ? O_NOFOLLOW : 0));
	if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
		VL_FREE char *where = shown(x, name);
		return vl_fail(err, ENOTDIR, "%s exists already and is no directory", where);
	}
	if (fd < 0)
		return fail_at(x, name, errno, "open the directory", err);
	enter(x, fd, i->path, i, made);
	if (made)
		keep_xattrs(x, i, &x->stack[x->depth - 1].a);
	return 0;
}

/* ---- files ---- */

static char *hidden_name(void)
{
	uint64_t n = 0;

	while (getrandom(&n, sizeof n, 0) != (ssize_t)sizeof n)
		;
	return vl_asprintf(".vial-%016llx", (unsigned long long)n);
}

static void drop_file(struct extracting *x)
{
	if (x->file.hidden)
		unlinkat(x->file.dirfd, x->file.hidden, 0);
	vl_freep(&x->file.hidden);
	vl_freep(&x->file.name);
	attrs_free(&x->file.a);
	vl_closep(&x->file.fd);
}

/* Whether something of that name is in the way. With force a file is not; a folder always is. */
static int check_place(struct extracting *x, int dirfd, const char *name, bool *ret_there, struct vl_err *err)
{
	struct stat st;

	*ret_there = fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!*ret_there)
		return 0;
	if (S_ISDIR(st.st_mode))
		return fail_at(x, name, EISDIR, "replace", err);
	return x->o->force ? 0 : is_there(x, name, err);
}

static int begin_file(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	struct file *f = &x->file;

	f->dirfd = dirfd;
	f->fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (f->fd < 0) { /* file systems without nameless files */
		VL_FREE char *hidden = hidden_name();
		f->fd = openat(dirfd, hidden, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (f->fd < 0)
			return fail_at(x, name, errno, "create", err);
		f->hidden = vl_steal(&hidden);
	}
	f->name = vl_strdup(name);
	f->at = 0;
	f->size = i->size;
	f->a = attrs_of(i);
	keep_xattrs(x, i, &f->a);
	return 0;
}

static int link_as(const struct file *f, const char *name)
{
	char proc[40];

	snprintf(proc, sizeof proc, "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, proc, f->dirfd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int name_file(struct extracting *x)
{
	struct file *f = &x->file;
	int r = 0;

	if (!f->hidden && !x->o->force)
		return link_as(f, f->name);
	if (!f->hidden) {
		VL_FREE char *hidden = hidden_name();
		if ((r = link_as(f, hidden)) < 0)
			return r;
		f->hidden = vl_steal(&hidden);
	}
	if (renameat2(f->dirfd, f->hidden, f->dirfd, f->name, x->o->force ? 0 : RENAME_NOREPLACE) < 0)
		r = -errno;
	/* NFS has no RENAME_NOREPLACE, and vfat no links */
	if (r == -EINVAL && !x->o->force &&
	    (r = linkat(f->dirfd, f->hidden, f->dirfd, f->name, 0) < 0 ? -errno : 0) == 0)
		unlinkat(f->dirfd, f->hidden, 0);
	if (r == 0)
		vl_freep(&f->hidden);
	return r;
}

static int end_file(struct extracting *x, struct vl_err *err)
{
	struct file *f = &x->file;
	int r;

	if (ftruncate(f->fd, (off_t)f->size) < 0) /* the last hole */
		return fail_at(x, f->name, errno, "write", err);
	if ((r = set_attrs(x, f->fd, &f->a, f->name, err)) < 0)
		return r;
	r = name_file(x);
	if (r == -EEXIST)
		return is_there(x, f->name, err);
	if (r < 0)
		return fail_at(x, f->name, -r, "put in place", err);
	drop_file(x);
	return 0;
}

static int take_data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct extracting *x = arg;
	struct file *f = &x->file;

	if (f->fd < 0) /* passed over */
		return 0;
	for (size_t done = 0; done < n;) {
		ssize_t k = pwrite(f->fd, (const char *)p + done, n - done, (off_t)(f->at + done));
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return fail_at(x, f->name, errno, "write", err);
		done += (size_t)k;
	}
	f->at += n;
	x->bytes += n;
	vl_progress_step(x->progress, "Copying", x->bytes, 0);
	return f->at == f->size ? end_file(x, err) : 0;
}

static int take_hole(void *arg, uint64_t n, struct vl_err *err)
{
	struct extracting *x = arg;

	if (x->file.fd < 0)
		return 0;
	x->file.at += n;
	return x->file.at == x->file.size ? end_file(x, err) : 0;
}

/* ---- everything else ---- */

/* Another name of a file that is there by now. */
static int take_link(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	size_t skip = strlen(x->top) + (*x->top != 0);

	if (!x->depth || strncmp(i->link, x->top, strlen(x->top)) != 0 || strlen(i->link) <= skip)
		return nonsense(err);
	const char *from = i->link + skip, *slash = strrchr(from, '/'), *base = slash ? slash + 1 : from;
	VL_FREE char *dir = slash ? vl_strndup(from, (size_t)(slash - from)) : vl_strdup("/");
	VL_CLOSE int fd = vl_open_in_root(x->stack[0].fd, dir, O_PATH | O_DIRECTORY, 0, err);
	if (fd < 0)
		return fd;
	if (linkat(fd, base, dirfd, name, 0) < 0)
		return fail_at(x, name, errno, "link", err);
	return 0;
}

static int take_symlink(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	const struct timespec times[2] = { { .tv_sec = i->mtime }, { .tv_sec = i->mtime } };

	if (symlinkat(i->target, dirfd, name) < 0)
		return fail_at(x, name, errno, "make the link", err);
	if (x->o->preserve && x->root && fchownat(dirfd, name, i->uid, i->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return fail_at(x, name, errno, "set the owner of", err);
	if (x->o->preserve)
		utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW);
	return 0;
}

static int take_fifo(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	const struct attrs a = attrs_of(i);

	if (mkfifoat(dirfd, name, 0600) < 0)
		return fail_at(x, name, errno, "make", err);
	VL_CLOSE int fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? fail_at(x, name, errno, "open", err) : set_attrs(x, fd, &a, name, err);
}

static void leave_out(struct extracting *x, const struct img_item *i)
{
	if (x->left_out++ >= NAMED)
		return;
	VL_FREE char *path = vl_printable(i->path, strlen(i->path));
	vl_buf_addf(&x->names, "%s/%s", x->names.len ? ", " : "", path);
}

static int take_other(struct extracting *x, int dirfd, const char *name, const struct img_item *i, struct vl_err *err)
{
	bool there;
	int r;

	if (S_ISCHR(i->mode) || S_ISBLK(i->mode) || S_ISSOCK(i->mode)) {
		leave_out(x, i);
		return 0;
	}
	if ((r = check_place(x, dirfd, name, &there, err)) < 0)
		return r;
	if (S_ISREG(i->mode) && !i->link) {
		if ((r = begin_file(x, dirfd, name, i, err)) < 0)
			return r;
		return i->size ? 0 : end_file(x, err);
	}
	if (there && unlinkat(dirfd, name, 0) < 0)
		return fail_at(x, name, errno, "replace", err);
	if (i->link)
		return take_link(x, dirfd, name, i, err);
	return S_ISLNK(i->mode) ? take_symlink(x, dirfd, name, i, err) : take_fifo(x, dirfd, name, i, err);
}

/* ---- names ---- */

/* What was asked for becomes dest itself. */
static int take_top(struct extracting *x, const struct img_item *i, struct vl_err *err)
{
	VL_FREE char *dest = vl_strdup(x->o->dest);
	size_t n = strlen(dest);

	while (n > 1 && dest[n - 1] == '/')
		dest[--n] = 0;
	char *slash = strrchr(dest, '/');
	VL_FREE char *dir = !slash          ? vl_strdup(".")
			    : slash == dest ? vl_strdup("/")
					    : vl_strndup(dest, (size_t)(slash - dest));
	const char *name = slash ? slash + 1 : dest;

	x->top = vl_strdup(i->path);
	if (S_ISDIR(i->mode) && !x->o->recursive)
		return vl_fail(err, EISDIR, "/%s is a directory; -r copies it with what is in it",
			       *i->path ? i->path : "");
	x->above = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->above < 0)
		return vl_fail_sys(err, errno, "cannot open the directory %s", dir);
	if (S_ISDIR(i->mode))
		return take_folder(x, x->above, *name ? name : ".", i, err);
	if (!*name || vl_streq(name, ".") || vl_streq(name, ".."))
		return vl_fail(err, EISDIR, "%s is a directory", x->o->dest);
	return take_other(x, x->above, name, i, err);
}

static bool is_inside(const char *dir, size_t n, const char *path)
{
	return !strncmp(dir, path, n) && (!n || path[n] == '/');
}

static int take_item(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct extracting *x = arg;
	int r;

	if (!x->top)
		return take_top(x, i, err);
	while (x->depth && !is_inside(x->path.data, x->path.len, i->path))
		if ((r = leave(x, err)) < 0)
			return r;
	if (!x->depth)
		return nonsense(err);
	const char *name = i->path + x->path.len + (x->path.len != 0);
	if (!*name || strlen(name) > NAME_MAX || strchr(name, '/') || vl_streq(name, ".") || vl_streq(name, ".."))
		return nonsense(err);
	int dirfd = x->stack[x->depth - 1].fd;
	return S_ISDIR(i->mode) ? take_folder(x, dirfd, name, i, err) : take_other(x, dirfd, name, i, err);
}

/* ---- the whole ---- */

static void extracting_free(struct extracting *x)
{
	drop_file(x);
	while (x->depth) {
		struct folder *f = &x->stack[--x->depth];
		vl_closep(&f->fd);
		attrs_free(&f->a);
	}
	vl_closep(&x->above);
	vl_freep(&x->stack);
	vl_freep(&x->top);
	vl_buf_free(&x->path);
	vl_buf_free(&x->names);
}

static void tell(const struct extracting *x)
{
	if (x->left_out)
		vl_progress_warn(x->progress, "left out %llu device%s or socket%s: %s%s",
				 (unsigned long long)x->left_out, x->left_out == 1 ? "" : "s",
				 x->left_out == 1 ? "" : "s", x->names.data, x->left_out > NAMED ? ", ..." : "");
	if (x->lost_xattrs)
		vl_progress_warn(x->progress, "%llu extended attributes could not be set in %s",
				 (unsigned long long)x->lost_xattrs, x->o->dest);
}

int img_extract(const struct img_extract_opts *o, const struct vl_progress *progress, int *ret_signal,
		struct vl_err *err)
{
	VL_CLEANUP(extracting_free)
	struct extracting x = {
		.o = o, .progress = progress, .root = geteuid() == 0, .file = { .fd = -1, .dirfd = -1 }, .above = -1
	};
	const struct img_viewer v = { .item = take_item, .data = take_data, .hole = take_hole, .arg = &x };
	struct img_view_opts view = o->view;

	view.hold = true; /* a signal comes between two pieces, and what has no name yet is removed */
	view.depth = o->recursive ? UINT_MAX : 0;
	view.follow = !o->recursive;
	x.umask = umask(0);
	umask(x.umask);
	vl_raise_file_limit();
	int r = img_view(&view, &v, ret_signal, err);
	while (r == 0 && x.depth)
		r = leave(&x, err);
	if (r == 0)
		tell(&x);
	return r;
}
