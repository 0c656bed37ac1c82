#include <vial/base.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* The folder itself, never what a link that came in its place leads to; one of the caller's is made so that he may look
 * into it. device: what another one is mounted on is not entered. */
static int open_folder(int parent, const char *name, const dev_t *device, struct stat *ret)
{
	VL_CLOSE int at = openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (at < 0 || fstat(at, ret) < 0)
		return -errno;
	if (device && ret->st_dev != *device)
		return -EXDEV;
	if (ret->st_uid == geteuid() && (ret->st_mode & 0700) != 0700)
		vl_chmod_fd(at, 0700);
	int fd = openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int remove_in(int parent, const char *name, const dev_t *device);

/* How many could be removed; *r: the first that could not. */
static size_t remove_content(DIR *d, dev_t device, int *r)
{
	size_t n = 0;

	*r = 0;
	rewinddir(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (vl_streq(e->d_name, ".") || vl_streq(e->d_name, ".."))
			continue;
		int one = remove_in(dirfd(d), e->d_name, &device);
		n += one == 0;
		if (one < 0 && *r == 0)
			*r = one;
	}
	return n;
}

static int remove_in(int parent, const char *name, const dev_t *device)
{
	struct stat st = { 0 };
	int r = 0;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR)
		return -errno;
	VL_CLOSE int fd = open_folder(parent, name, device, &st);
	if (fd == -EXDEV)
		return fd;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (d) {
		vl_steal_fd(&fd);
		while (remove_content(d, st.st_dev, &r)) /* names may move up while others go */
			;
		closedir(d);
	}
	if (unlinkat(parent, name, AT_REMOVEDIR) == 0)
		return 0;
	return r < 0 ? r : -errno;
}

int vl_remove_tree(int dir, const char *name)
{
	return remove_in(dir, name, NULL);
}
