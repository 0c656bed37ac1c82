#include "dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#define MAX_DEPTH 2000 /* one descriptor a level; PATH_MAX allows no more than 2048 */

struct walk {
	const char *top;
	struct img_blocks *b;
	const struct vl_progress *progress;
	bool without_places;
	struct img_log *log;
	struct img_table inodes; /* hash of dev, ino -> first name */
	uint64_t bytes;
};

struct seen {
	dev_t dev;
	ino_t ino;
	char path[];
};

static int fail_at(struct walk *w, const char *path, int code, const char *what, struct vl_err *err)
{
	return vl_fail_sys(err, code, "cannot %s %s/%s", what, w->top, path);
}

static bool first_name(struct walk *w, const struct stat *st, const char *path, char **ret_target)
{
	uint64_t hash = img_mix(img_mix(st->st_dev) ^ st->st_ino);
	size_t at = SIZE_MAX;

	for (const struct seen *s; (s = img_table_next(&w->inodes, hash, &at));)
		if (s->dev == st->st_dev && s->ino == st->st_ino) {
			*ret_target = vl_strdup(s->path);
			return false;
		}
	struct seen *s = vl_alloc(sizeof *s + strlen(path) + 1);
	s->dev = st->st_dev;
	s->ino = st->st_ino;
	memcpy(s->path, path, strlen(path) + 1);
	img_table_add(&w->inodes, hash, s);
	return true;
}

static bool wanted_xattr(const char *key)
{
	if (vl_prefix(key, "trusted.overlay.") || vl_prefix(key, "user.overlay.") || vl_streq(key, "security.selinux"))
		return false; /* labels belong to the host's policy */
	return vl_prefix(key, "user.") || vl_prefix(key, "trusted.") || vl_prefix(key, "security.");
}

/* Through /proc/self/fd: works for every type of file without opening it. */
int img_dir_xattrs(int fd, struct img_xattrs **ret)
{
	char proc[40], list[65536], value[65536];
	size_t n = 0;

	snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
	ssize_t len = listxattr(proc, list, sizeof list);
	if (len < 0)
		return errno == ENOTSUP ? 0 : -errno;
	for (char *k = list; k < list + len; k += strlen(k) + 1)
		n += wanted_xattr(k);
	if (!n)
		return 0;
	struct img_xattrs *x = *ret = vl_alloc(sizeof *x + n * sizeof x->a[0]);
	for (char *k = list; k < list + len; k += strlen(k) + 1) {
		if (!wanted_xattr(k) || x->n == n)
			continue;
		ssize_t v = getxattr(proc, k, value, sizeof value);
		if (v < 0)
			return -errno;
		x->a[x->n++] = (struct img_xattr){ vl_strdup(k), vl_memdup(value, (size_t)v), (size_t)v };
	}
	return 0;
}

static int read_content(struct walk *w, int pathfd, const char *path, struct img_entry *e, struct vl_err *err)
{
	char proc[40];
	uint8_t buf[65536];

	snprintf(proc, sizeof proc, "/proc/self/fd/%d", pathfd);
	VL_CLOSE int fd = open(proc, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return fail_at(w, path, errno, "read", err);
	e->file = vl_alloc(sizeof *e->file);
	img_blocks_begin(w->b, e->file);
	for (;;) {
		ssize_t n = read(fd, buf, sizeof buf);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fail_at(w, path, errno, "read", err);
		if (n == 0)
			return img_blocks_end(w->b, err);
		int r = img_blocks_write(w->b, buf, (size_t)n, err);
		if (r < 0)
			return r;
		w->bytes += (size_t)n;
		vl_progress_step(w->progress, "Converting", w->bytes, 0);
	}
}

static int read_symlink(struct walk *w, int fd, const char *path, struct img_entry *e, struct vl_err *err)
{
	char target[IMG_MAX_PATH + 1];
	ssize_t n = readlinkat(fd, "", target, sizeof target - 1);

	if (n <= 0)
		return fail_at(w, path, n < 0 ? errno : EINVAL, "read the link", err);
	e->target = vl_strndup(target, (size_t)n);
	return 0;
}

uint8_t img_dir_type(mode_t m)
{
	return S_ISDIR(m)    ? IMG_DIR
	       : S_ISREG(m)  ? IMG_FILE
	       : S_ISLNK(m)  ? IMG_SYMLINK
	       : S_ISBLK(m)  ? IMG_BLOCK_DEV
	       : S_ISCHR(m)  ? IMG_CHAR_DEV
	       : S_ISFIFO(m) ? IMG_FIFO
			     : IMG_SOCKET;
}

static int read_one(struct walk *w, int fd, const struct stat *st, const char *path, struct vl_err *err)
{
	struct img_entry *e = img_log_add(w->log);
	int r;

	e->path = vl_strdup(path);
	e->type = img_dir_type(st->st_mode);
	e->attr = (struct img_attr){
		.mode = (uint16_t)(st->st_mode & 07777),
		.uid = st->st_uid,
		.gid = st->st_gid,
		.mtime = st->st_mtime < 0 ? 0 : (uint32_t)VL_MIN(st->st_mtime, (time_t)UINT32_MAX),
	};
	if (e->type == IMG_BLOCK_DEV || e->type == IMG_CHAR_DEV) {
		e->attr.major = major(st->st_rdev);
		e->attr.minor = minor(st->st_rdev);
	}
	if (e->type != IMG_DIR && st->st_nlink > 1 && !first_name(w, st, path, &e->target)) {
		e->type = IMG_HARDLINK;
		return 0;
	}
	if (e->type == IMG_SYMLINK)
		return read_symlink(w, fd, path, e, err);
	if ((r = img_dir_xattrs(fd, &e->xattrs)) < 0)
		return fail_at(w, path, -r, "read the attributes of", err);
	return e->type == IMG_FILE ? read_content(w, fd, path, e, err) : 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int img_dir_names(int dirfd, struct vl_strv *ret)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		int code = errno;
		vl_closep(&fd);
		return -code;
	}
	errno = 0;
	for (struct dirent *e; (e = readdir(d)); errno = 0)
		if (!vl_streq(e->d_name, ".") && !vl_streq(e->d_name, ".."))
			vl_strv_add(ret, e->d_name);
	int code = errno;
	closedir(d);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof *ret->v, by_name);
	return -code;
}

static int read_dir(struct walk *w, int dirfd, const char *path, unsigned depth, struct vl_err *err)
{
	VL_STRV struct vl_strv names = { 0 };
	int r = img_dir_names(dirfd, &names);
	if (r < 0)
		return fail_at(w, path, -r, "list", err);

	if (depth > MAX_DEPTH)
		return fail_at(w, path, ENAMETOOLONG, "descend into", err);
	for (size_t i = 0; r == 0 && i < names.n; i++) {
		VL_FREE char *sub = vl_asprintf("%s%s%s", path, *path ? "/" : "", names.v[i]);
		VL_CLOSE int fd = openat(dirfd, names.v[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0)
			return fail_at(w, sub, errno, "stat", err);
		/* a change to it, and a new name in it, would have given it another time */
		if (w->without_places && st.st_mtim.tv_nsec == VL_PLACE_NSEC)
			continue;
		r = read_one(w, fd, &st, sub, err);
		if (r == 0 && S_ISDIR(st.st_mode))
			r = read_dir(w, fd, sub, depth + 1, err);
	}
	return r;
}

int img_dir_read(int rootfd, const char *path, struct img_blocks *b, const struct vl_progress *progress,
		 bool without_places, struct img_log *log, struct vl_err *err)
{
	struct walk w = { .top = path, .b = b, .progress = progress, .without_places = without_places, .log = log };
	struct stat st;
	int r;

	if (fstat(rootfd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat %s", path);
	r = read_one(&w, rootfd, &st, "", err);
	if (r == 0)
		r = read_dir(&w, rootfd, "", 0, err);
	for (size_t i = 0; i < w.inodes.cap; i++)
		free(w.inodes.slots[i].p);
	img_table_free(&w.inodes);
	return r;
}
