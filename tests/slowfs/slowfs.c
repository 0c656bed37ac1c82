/* slowfs LATENCY_US COUNTS DIR MOUNTPOINT: shows DIR read-only, as a file system far away: each read takes
 * LATENCY_US longer, many at once take no longer than one, and nothing is kept by the kernel. When it is
 * unmounted, the number of reads and their bytes go to the file COUNTS. What is measured over it depends
 * on how often and how much is read, not on this machine's disk. */
#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static int root, counts;
static long latency;
static atomic_ullong reads, bytes;

static const char *below(const char *path)
{
	return path[1] ? path + 1 : ".";
}

static int op_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	(void)fi;
	return fstatat(root, below(path), st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int op_readdir(const char *path, void *buf, fuse_fill_dir_t put, off_t off, struct fuse_file_info *fi,
		      enum fuse_readdir_flags flags)
{
	int fd = openat(root, below(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	(void)off, (void)fi, (void)flags;
	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));)
		put(buf, e->d_name, NULL, 0, 0);
	closedir(d);
	return 0;
}

static int op_open(const char *path, struct fuse_file_info *fi)
{
	int fd = openat(root, below(path), O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	fi->fh = (uint64_t)fd;
	fi->direct_io = 1; /* one read of the caller is one here: no readahead in between, nothing kept */
	return 0;
}

static int op_release(const char *path, struct fuse_file_info *fi)
{
	(void)path;
	close((int)fi->fh);
	return 0;
}

static int op_read(const char *path, char *buf, size_t n, off_t off, struct fuse_file_info *fi)
{
	struct timespec t = { latency / 1000000, latency % 1000000 * 1000 };
	ssize_t r;

	(void)path;
	nanosleep(&t, NULL);
	r = pread((int)fi->fh, buf, n, off);
	if (r < 0)
		return -errno;
	atomic_fetch_add(&reads, 1);
	atomic_fetch_add(&bytes, (unsigned long long)r);
	return (int)r;
}

static void op_destroy(void *data)
{
	(void)data;
	if (dprintf(counts, "%llu %llu\n", (unsigned long long)reads, (unsigned long long)bytes) < 0)
		perror("slowfs");
}

static const struct fuse_operations ops = {
	.getattr = op_getattr,
	.readdir = op_readdir,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.destroy = op_destroy,
};

/* In the foreground: who started it knows its process, and waits for that after unmounting. */
int main(int argc, char **argv)
{
	char *fuse_argv[] = { argv[0], (char *)"-f",
			      (char *)"-odefault_permissions,ro,max_threads=64,max_idle_threads=64", NULL, NULL };

	if (argc != 5) {
		fprintf(stderr, "usage: slowfs LATENCY_US COUNTS DIR MOUNTPOINT\n");
		return 2;
	}
	latency = strtol(argv[1], NULL, 10);
	counts = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	root = open(argv[3], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (counts < 0 || root < 0) {
		perror(argv[counts < 0 ? 2 : 3]);
		return 2;
	}
	fuse_argv[3] = argv[4];
	if (geteuid() == 0) /* who may, as a shared file system: to everybody */
		fuse_argv[2] = (char *)"-oallow_other,default_permissions,ro,max_threads=64,max_idle_threads=64";
	return fuse_main(4, fuse_argv, &ops, NULL);
}
