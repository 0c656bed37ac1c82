#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* A user namespace may not make device nodes; the host's are bound over empty files. */
static int bind_device(int dirfd, const char *host, const char *name, bool must, struct vl_err *err)
{
	VL_CLOSE int src = vmnt_clone(AT_FDCWD, host, false, true, err);
	if (src < 0)
		return must ? src : 0;
	VL_CLOSE VL_UNUSED int file = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	VL_CLOSE int target = openat(dirfd, name, O_PATH | O_CLOEXEC);
	if (target < 0)
		return vl_fail_sys(err, errno, "cannot make /dev/%s", name);
	int e = vmnt_restrict(src, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, false, name, err);
	return e < 0 ? e : vmnt_attach(src, target, name, err);
}

static int mount_dir(int dirfd, const char *name, mode_t mode, int fd, struct vl_err *err)
{
	if (mkdirat(dirfd, name, 0755) < 0 || fchmodat(dirfd, name, mode, 0) < 0)
		return vl_fail_sys(err, errno, "cannot make /dev/%s", name);
	VL_CLOSE int mount = fd;
	if (mount < 0)
		return 0;
	VL_CLOSE int target = openat(dirfd, name, O_PATH | O_CLOEXEC);
	return vmnt_attach(mount, target, name, err);
}

int ctr_fill_dev(const struct plan *p, int dirfd, struct vl_err *err)
{
	static const char *const nodes[] = { "null", "zero", "full", "random", "urandom", "tty" };
	static const char *const links[][2] = { { "/proc/self/fd", "fd" },
						{ "/proc/self/fd/0", "stdin" },
						{ "/proc/self/fd/1", "stdout" },
						{ "/proc/self/fd/2", "stderr" },
						{ "pts/ptmx", "ptmx" } };
	static const char *const pts[] = { "newinstance", "ptmxmode=0666", "mode=0620", NULL };
	char path[32], tty[64];
	struct vl_err ignored;
	int e;

	for (size_t i = 0; i < VL_COUNT(nodes); i++) {
		snprintf(path, sizeof path, "/dev/%s", nodes[i]);
		if ((e = bind_device(dirfd, path, nodes[i], i < 5, err)) < 0)
			return e;
	}
	if (ttyname_r(0, tty, sizeof tty) == 0 && (e = bind_device(dirfd, tty, "console", false, err)) < 0)
		return e;
	for (size_t i = 0; i < VL_COUNT(links); i++)
		if (symlinkat(links[i][0], dirfd, links[i][1]) < 0)
			return vl_fail_sys(err, errno, "cannot make /dev/%s", links[i][1]);
	int fd = vmnt_new("devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
	if (fd < 0)
		return fd;
	if ((e = mount_dir(dirfd, "pts", 0755, fd, err)) < 0 || (e = mount_dir(dirfd, "shm", 01777, -1, err)) < 0)
		return e;
	/* the message queue of its IPC namespace: an own one is among the plan's mounts */
	int mqueue = p->namespaces & PLAN_NS_IPC ? -1 : vmnt_clone(AT_FDCWD, "/dev/mqueue", false, true, &ignored);
	return mount_dir(dirfd, "mqueue", 01777, mqueue, err);
}
