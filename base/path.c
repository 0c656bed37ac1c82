#include <vial/base.h>

#include <fcntl.h>
#include <stdio.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Kernel rule: at most 40 links in one look-up (fs/namei.c MAXSYMLINKS). */
#define MAX_LINKS 40

static int fail_open(const char *path, int code, struct vl_err *err)
{
	return vl_fail_sys(err, code, "cannot open %s in the image", path);
}

int vl_open_in_root(int rootfd, const char *path, int flags, mode_t mode, struct vl_err *err)
{
	/* openat2 refuses a mode nobody uses; O_TMPFILE has O_DIRECTORY's bit in it */
	bool creates = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = creates ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	/* EAGAIN: a rename ran beside us and the kernel cannot prove that we stayed inside. */
	do
		fd = syscall(SYS_openat2, rootfd, *path ? path : ".", &how, sizeof how);
	while (fd < 0 && (errno == EAGAIN || errno == EINTR));
	if (fd >= 0)
		return (int)fd;
	if (errno == ENOSYS || errno == EPERM) /* old kernel, or a seccomp filter that does not know it */
		return vl_open_in_root_walk(rootfd, path, flags, mode, err);
	return fail_open(path, errno, err);
}

/* What is left of the path: the links met on the way are spliced in front of it. */
static int splice_link(int dirfd, const char *name, char **rest, bool *ret_absolute)
{
	char target[4096];
	ssize_t n = readlinkat(dirfd, name, target, sizeof target - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	char *joined = vl_asprintf("%s/%s", target, *rest);
	free(*rest);
	*rest = joined;
	*ret_absolute = target[0] == '/';
	return 0;
}

static int open_component(int dirfd, const char *name, int flags, mode_t mode)
{
	int fd = openat(dirfd, name, flags | O_NOFOLLOW | O_CLOEXEC, mode);
	return fd < 0 ? -errno : fd;
}

int vl_open_in_root_walk(int rootfd, const char *path, int flags, mode_t mode, struct vl_err *err)
{
	/* Directories from the root down to where we are: ".." steps back along them and
	 * stops at the root, whatever the image does with its names meanwhile. */
	int stack[256];
	size_t depth = 0;
	unsigned links = 0;
	VL_FREE char *rest = vl_strdup(path);
	int r;

	for (;;) {
		int here = depth ? stack[depth - 1] : rootfd;
		char *p = rest + strspn(rest, "/");
		size_t n = strcspn(p, "/");
		VL_FREE char *name = vl_strndup(p, n);
		VL_FREE char *after = vl_strdup(p + n + strspn(p + n, "/"));
		bool last = !*after;

		if (n == 0 || vl_streq(name, ".")) {
			if (last) {
				r = open_component(here, ".", flags, mode);
				break;
			}
		} else if (vl_streq(name, "..")) {
			if (depth)
				close(stack[--depth]);
			if (last)
				after = (free(after), vl_strdup("."));
		} else {
			struct stat st;
			bool known = fstatat(here, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
			bool follow = known && S_ISLNK(st.st_mode) && !(last && flags & O_NOFOLLOW);
			if (follow) {
				bool absolute = false;
				r = ++links > MAX_LINKS ? -ELOOP : splice_link(here, name, &after, &absolute);
				if (r < 0)
					break;
				while (absolute && depth)
					close(stack[--depth]);
			} else if (last) {
				r = open_component(here, name, flags, mode);
				break;
			} else {
				int fd = open_component(here, name, O_PATH | O_DIRECTORY, 0);
				if (fd < 0 || depth == VL_COUNT(stack)) {
					r = fd < 0 ? fd : -ENAMETOOLONG;
					vl_closep(&fd);
					break;
				}
				stack[depth++] = fd;
			}
		}
		free(rest);
		rest = vl_steal(&after);
	}
	while (depth)
		close(stack[--depth]);
	return r < 0 ? fail_open(path, -r, err) : r;
}

char *vl_path_clean(const char *path)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	while (*path) {
		path += strspn(path, "/");
		size_t n = strcspn(path, "/");
		if (n == 2 && !strncmp(path, "..", 2)) {
			char *slash = strrchr(b.data, '/');
			b.len = slash ? (size_t)(slash - b.data) : 0;
			b.data[b.len] = 0;
		} else if (n && !(n == 1 && *path == '.')) {
			vl_buf_adds(&b, "/");
			vl_buf_add(&b, path, n);
		}
		path += n;
	}
	if (!b.len)
		vl_buf_adds(&b, "/");
	return vl_steal(&b.data);
}

char *vl_path_absolute(const char *path)
{
	if (*path == '/')
		return vl_path_clean(path);
	VL_FREE char *cwd = getcwd(NULL, 0);
	VL_FREE char *joined = vl_asprintf("%s/%s", cwd ? cwd : "", path);
	return vl_path_clean(joined);
}

static char *find_in(const char *dirs, const char *name)
{
	while (*dirs) {
		size_t n = strcspn(dirs, ":");
		VL_FREE char *file = vl_asprintf("%.*s/%s", (int)n, dirs, name);
		if (*dirs == '/' && access(file, X_OK) == 0)
			return vl_steal(&file);
		dirs += n + (dirs[n] == ':');
	}
	return NULL;
}

char *vl_find_program(const char *name, const char *more)
{
	const char *path = getenv("PATH");
	char *file = path ? find_in(path, name) : NULL;

	return file || !more ? file : find_in(more, name);
}

const char *vl_basename(const char *path)
{
	const char *s = strrchr(path, '/');
	return s ? s + 1 : path;
}

int vl_chmod_fd(int fd, mode_t mode)
{
	char link[64];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	return chmod(link, mode) < 0 ? -errno : 0;
}

char *vl_fd_path(int fd)
{
	char link[64], path[4096];

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof path);
	return n > 0 && n < (ssize_t)sizeof path ? vl_strndup(path, (size_t)n) : NULL;
}
