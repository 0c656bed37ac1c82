#include <vial/base.h>

#include <fcntl.h>
#include <signal.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int vl_open(const char *path, int flags, mode_t mode, struct vl_err *err)
{
	int fd = open(path, flags | O_CLOEXEC | O_NOCTTY, mode);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open %s", path);
	return fd;
}

int vl_pread_full(int fd, void *p, size_t n, uint64_t off, const char *what, struct vl_err *err)
{
	char *b = p;

	while (n) {
		ssize_t r = pread(fd, b, n, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return vl_fail_sys(err, errno, "cannot read %s", what);
		if (r == 0)
			return vl_fail(err, EIO, "%s ends early: %zu bytes are missing", what, n);
		b += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

int vl_pwrite_full(int fd, const void *p, size_t n, uint64_t off, const char *what, struct vl_err *err)
{
	const char *b = p;

	while (n) {
		ssize_t r = pwrite(fd, b, n, (off_t)off);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return vl_fail_sys(err, errno, "cannot write %s", what);
		b += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

int vl_write_full(int fd, const void *p, size_t n)
{
	const char *b = p;

	while (n) {
		ssize_t r = write(fd, b, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		b += r;
		n -= (size_t)r;
	}
	return 0;
}

int vl_write_limited(int fd, const void *p, size_t n)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, was;
	bool changed = sigaction(SIGXFSZ, &ignore, &was) == 0;
	int r = vl_write_full(fd, p, n);

	if (changed)
		sigaction(SIGXFSZ, &was, NULL);
	return r;
}

void vl_read_pipe(int fd, size_t limit, struct vl_buf *ret)
{
	char some[4096];
	ssize_t n;

	while ((n = read(fd, some, sizeof some)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0 && ret->len < limit)
			vl_buf_add(ret, some, (size_t)n);
}

int vl_read_fd(int fd, const char *path, size_t limit, char **ret_data, size_t *ret_len, struct vl_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat %s", path);
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "%s is not a regular file", path);
	if ((uint64_t)st.st_size > limit)
		return vl_fail(err, EFBIG, "%s is larger than the limit of %zu bytes", path, limit);
	VL_FREE char *data = vl_alloc((size_t)st.st_size + 1);
	int r = vl_pread_full(fd, data, (size_t)st.st_size, 0, path, err);
	if (r < 0)
		return r;
	*ret_data = vl_steal(&data);
	if (ret_len)
		*ret_len = (size_t)st.st_size;
	return 0;
}

int vl_read_file(int dirfd, const char *path, size_t limit, char **ret_data, size_t *ret_len, struct vl_err *err)
{
	/* O_NONBLOCK: a FIFO planted under the name must not hang us. */
	VL_CLOSE int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd < 0 ? vl_fail_sys(err, errno, "cannot open %s", path)
		      : vl_read_fd(fd, path, limit, ret_data, ret_len, err);
}

int vl_move_fd_above_stdio(int fd)
{
	if (fd > 2)
		return fd;
	int n = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int keep = errno;
	close(fd);
	return n < 0 ? -keep : n;
}

int vl_tmpfile(const char *what, struct vl_err *err)
{
	const char *dir = getenv("TMPDIR");
	const char *const dirs[] = { dir && *dir == '/' ? dir : "/var/tmp", "/var/tmp", "/tmp" };

	for (size_t i = 0; i < VL_COUNT(dirs); i++) {
		int fd = open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
		if (fd >= 0)
			return fd;
	}
	return vl_fail_sys(err, errno, "cannot make a file without a name in %s, for %s", dirs[0], what);
}

int vl_copy_file(int from, int to, const char *what, struct vl_err *err)
{
	struct stat st;

	if (fstat(from, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat %s", what);
	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	off_t in = 0;
	while (in < st.st_size) {
		off_t out = in;
		ssize_t n = copy_file_range(from, &in, to, &out, (size_t)VL_MIN(st.st_size - in, (off_t)1 << 30), 0);
		if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS)) {
			/* old kernels and some file systems: through the page cache */
			if (lseek(to, in, SEEK_SET) < 0)
				return vl_fail_sys(err, errno, "cannot copy %s", what);
			n = sendfile(to, from, &in, (size_t)VL_MIN(st.st_size - in, (off_t)1 << 30));
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vl_fail_sys(err, errno, "cannot copy %s", what);
		if (n == 0)
			return vl_fail(err, EIO, "%s became shorter while it was copied", what);
	}
	return 0;
}
