#include <vial/mount.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Fails with errno's text, and what most likely is behind it: inside of a namespace of our own all these calls are
 * allowed, unless somebody around us filters them. */
static int refused(struct vl_err *err, int code, const char *fmt, ...) VL_PRINTF(3, 4);
static int refused(struct vl_err *err, int code, const char *fmt, ...)
{
	bool filtered = (code == EPERM || code == ENOSYS) && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2;
	va_list ap;

	va_start(ap, fmt);
	VL_FREE char *what = vl_vasprintf(fmt, ap);
	va_end(ap);
	return filtered ? vl_fail(err, code,
				  "%s: %s; a seccomp filter of the surrounding container or service may refuse this",
				  what, strerror(code))
			: vl_fail_sys(err, code, "%s", what);
}

/* The kernel's explanation waits in the context as "e message" lines. */
static int fail_context(int fs, int code, const char *fstype, const char *what, struct vl_err *err)
{
	char line[512];
	ssize_t n;

	while ((n = read(fs, line, sizeof line - 1)) > 0) {
		line[n] = 0;
		if (line[0] == 'e')
			return vl_fail(err, code, "cannot mount %s (%s): %s", fstype, what, line + 2);
	}
	return refused(err, code, "cannot mount %s (%s)", fstype, what);
}

static int set_option(int fs, const char *opt)
{
	const char *eq = strchr(opt, '=');

	if (!eq)
		return fsconfig(fs, FSCONFIG_SET_FLAG, opt, NULL, 0);
	VL_FREE char *key = vl_strndup(opt, (size_t)(eq - opt));
	return fsconfig(fs, FSCONFIG_SET_STRING, key, eq + 1, 0);
}

bool vmnt_may_mount(void)
{
	VL_CLOSE int fs = fsopen("fuse", FSOPEN_CLOEXEC);

	return fs >= 0 || errno != EPERM;
}

int vmnt_new(const char *fstype, const char *const *opts, unsigned attrs, struct vl_err *err)
{
	VL_CLOSE int fs = fsopen(fstype, FSOPEN_CLOEXEC);

	if (fs < 0 && errno == ENOSYS)
		return vl_fail(err, ENOSYS, "%s",
			       prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2
				       ? "the mount interface of Linux 5.12 (fsopen) is missing: by a seccomp filter "
					 "of the surrounding container or service, or an old kernel"
				       : "this kernel lacks the mount interface of Linux 5.12");
	if (fs < 0 && errno == ENODEV)
		return vl_fail(err, ENODEV, "this kernel knows no %s file system; as root: modprobe %s", fstype,
			       fstype);
	if (fs < 0)
		return refused(err, errno, "cannot mount %s", fstype);
	for (; opts && *opts; opts++)
		if (set_option(fs, *opts) < 0)
			return fail_context(fs, errno, fstype, *opts, err);
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return fail_context(fs, errno, fstype, "create", err);
	int fd = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	if (fd < 0)
		return fail_context(fs, errno, fstype, "mount", err);
	return fd;
}

int vmnt_clone(int dirfd, const char *path, bool recursive, bool follow, struct vl_err *err)
{
	int fd =
		open_tree(dirfd, path,
			  OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (unsigned)(recursive ? AT_RECURSIVE : 0) |
				  (unsigned)(*path ? 0 : AT_EMPTY_PATH) | (unsigned)(follow ? 0 : AT_SYMLINK_NOFOLLOW));
	if (fd < 0)
		return refused(err, errno, "cannot bind %s", *path ? path : "a directory");
	return fd;
}

int vmnt_restrict(int mountfd, unsigned attrs, bool recursive, const char *what, struct vl_err *err)
{
	struct mount_attr a = { .attr_set = attrs };

	if (mount_setattr(mountfd, "", AT_EMPTY_PATH | (unsigned)(recursive ? AT_RECURSIVE : 0), &a, sizeof a) < 0)
		return refused(err, errno, "cannot restrict the mount of %s", what);
	return 0;
}

int vmnt_attach(int mountfd, int targetfd, const char *what, struct vl_err *err)
{
	if (move_mount(mountfd, "", targetfd, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) == 0)
		return 0;
	if (errno == ENOTDIR || errno == EINVAL)
		return vl_fail(err, errno, "cannot mount on %s: one is a directory and the other is not", what);
	return refused(err, errno, "cannot mount on %s", what);
}

int vmnt_make_slave(struct vl_err *err)
{
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		return refused(err, errno, "cannot separate the mounts from those of the host");
	return 0;
}

int vmnt_switch_root(int rootfd, unsigned covers, struct vl_err *err)
{
	int chrooted = 0;

	if (fchdir(rootfd) < 0)
		return refused(err, errno, "cannot enter the image");
	/* Both names the same: the old root ends up on top of the new one, and what covered it on
	 * top of that. For umount "." means the topmost, so they go one by one. */
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		for (unsigned i = 0; i <= covers; i++)
			if (umount2(".", MNT_DETACH) < 0)
				return refused(err, errno, "cannot let go of the host's root");
	} else if (errno != EINVAL) {
		return refused(err, errno, "cannot make the image the root");
	} else if (chroot(".") < 0) {
		/* EINVAL: "/" is the first root file system of the kernel (a node booted from an
		 * initramfs), which cannot be moved; it stays beneath, and a plain chroot does. */
		return refused(err, errno, "cannot change the root");
	} else {
		chrooted = 1;
	}
	if (chdir("/") < 0)
		return refused(err, errno, "cannot enter the image");
	return chrooted;
}

#define OPTION_MAX 256 /* of fsconfig, the NUL included */

/* All in one word, or one by one: that takes Linux 6.5, so only what is too long for one word. */
static void add_lower(struct vl_strv *opts, const int *lower, size_t n)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "lowerdir=");
	for (size_t i = n; i-- > 0;)
		vl_buf_addf(&b, "/proc/self/fd/%d%s", lower[i], i ? ":" : "");
	if (b.len - strlen("lowerdir=") < OPTION_MAX) {
		vl_strv_add(opts, b.data);
		return;
	}
	for (size_t i = n; i-- > 0;)
		vl_strv_take(opts, vl_asprintf("lowerdir+=/proc/self/fd/%d", lower[i]));
}

int vmnt_overlay(const int *lower, size_t n, int upper, int work, struct vl_err *err)
{
	VL_STRV struct vl_strv opts = { 0 };

	vl_strv_add(&opts, "source=vial");
	add_lower(&opts, lower, n);
	if (upper >= 0) {
		vl_strv_take(&opts, vl_asprintf("upperdir=/proc/self/fd/%d", upper));
		vl_strv_take(&opts, vl_asprintf("workdir=/proc/self/fd/%d", work));
	}
	vl_strv_add(&opts, "userxattr");
	return vmnt_new("overlay", (const char *const *)opts.v, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}
