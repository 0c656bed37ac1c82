/* Small files and directories of the host, below one root. */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int gpu_host_open(const char *root, struct gpu_host *ret, struct vl_err *err)
{
	VL_FREE char *real = realpath(root && *root ? root : "/", NULL);

	if (!real)
		return vl_fail_sys(err, errno, "the tree of a host at %s", root);
	int fd = vl_open(real, O_PATH | O_DIRECTORY, 0, err);
	if (fd < 0)
		return fd;
	ret->fd = fd;
	ret->root = vl_streq(real, "/") ? vl_strdup("") : vl_steal(&real);
	return 0;
}

void gpu_host_close(struct gpu_host *h)
{
	vl_closep(&h->fd);
	vl_freep(&h->root);
}

static int open_path(const struct gpu_host *h, const char *path, int flags)
{
	struct vl_err none;

	return vl_open_in_root(h->fd, path, flags, 0, &none);
}

char *gpu_real(const struct gpu_host *h, const char *path)
{
	VL_CLOSE int fd = open_path(h, path, O_PATH);
	VL_FREE char *real = fd < 0 ? NULL : vl_fd_path(fd);

	return real && *real == '/' ? vl_steal(&real) : NULL;
}

char *gpu_under(const struct gpu_host *h, const char *path)
{
	return vl_asprintf("%s%s", h->root, path);
}

bool gpu_exists(const struct gpu_host *h, const char *path)
{
	VL_CLOSE int fd = open_path(h, path, O_PATH);

	return fd >= 0;
}

char *gpu_text(const struct gpu_host *h, const char *path, size_t max)
{
	VL_CLOSE int fd = open_path(h, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	VL_BUF struct vl_buf b = { 0 };
	struct stat st;
	char some[4096];
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	vl_buf_adds(&b, "");
	while ((n = read(fd, some, sizeof some)) > 0 || (n < 0 && errno == EINTR)) {
		if (n > 0)
			vl_buf_add(&b, some, (size_t)n);
		if (b.len > max)
			return NULL;
	}
	return n < 0 ? NULL : vl_steal(&b.data);
}

static int by_number(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

void gpu_list(const struct gpu_host *h, const char *path, struct vl_strv *ret)
{
	int fd = open_path(h, path, O_RDONLY | O_DIRECTORY);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d && fd >= 0)
		close(fd);
	for (struct dirent *e; d && (e = readdir(d));)
		if (*e->d_name != '.')
			vl_strv_add(ret, e->d_name);
	if (d)
		closedir(d);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof *ret->v, by_number);
}

static const char *next_line(const char *l)
{
	const char *end = strchr(l, '\n');

	return end ? end + 1 : NULL;
}

char *gpu_value(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *l = text; l && *l; l = next_line(l)) {
		if (strncmp(l, key, n) || !strchr(": \t", l[n]) || !l[n])
			continue;
		const char *v = l + n + strspn(l + n, ": \t");
		size_t len = strcspn(v, "\n");
		while (len && strchr(" \t\r", v[len - 1]))
			len--;
		return vl_strndup(v, len);
	}
	return NULL;
}

ssize_t gpu_read_fd(void *fd, void *p, size_t n, uint64_t off)
{
	ssize_t r = pread(*(int *)fd, p, n, (off_t)off);

	return r < 0 ? -errno : r;
}
