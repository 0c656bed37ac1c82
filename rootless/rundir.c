/* Where the sockets of the caller's holders are. Everything is checked on an open descriptor, and what
 * follows goes through it: a name that others may change is looked up once. */
#include "hold.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* Nobody else may have put something here, nor may now. */
static bool is_private(int fd, mode_t forbidden)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & forbidden);
}

static int open_below(int parent, const char *where, const char *name, bool make, struct vl_err *err)
{
	bool made = make && mkdirat(parent, name, 0700) == 0;
	VL_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return vl_fail_sys(err, errno, "%s/%s", where, name);
	if (made)
		(void)!fchmod(fd, 0700); /* whatever the umask */
	if (!is_private(fd, 077))
		return vl_fail(err, EPERM, "%s/%s belongs to another user or is open to others", where, name);
	return vl_steal_fd(&fd);
}

/* A directory that is the user's alone: of the session, as the XDG specification has it. */
static int open_own(const char *where, bool make, struct vl_err *err)
{
	VL_CLOSE int parent = open(where, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (parent < 0)
		return vl_fail_sys(err, errno, "%s", where);
	if (!is_private(parent, 022))
		return vl_fail(err, EPERM, "%s belongs to another user or is open to others", where);
	return open_below(parent, where, "vial", make, err);
}

/* One that all share, where names are first come, first served. */
static int open_shared(const char *where, bool make, struct vl_err *err)
{
	VL_CLOSE int parent = open(where, O_PATH | O_DIRECTORY | O_CLOEXEC);
	char name[32];

	if (parent < 0)
		return vl_fail_sys(err, errno, "%s", where);
	snprintf(name, sizeof name, "vial-%u", geteuid());
	return open_below(parent, where, name, make, err);
}

int ctr_rundir_open(unsigned which, bool make, struct vl_err *err)
{
	const char *xdg = getenv("XDG_RUNTIME_DIR");
	char run[32];

	switch (which) {
	case 0:
		if (!xdg || *xdg != '/')
			return vl_fail(err, ENOENT, "XDG_RUNTIME_DIR is not set");
		return open_own(xdg, make, err);
	case 1:
		snprintf(run, sizeof run, "/run/user/%u", geteuid());
		return open_own(run, make, err);
	case 2:
		return open_shared("/dev/shm", make, err);
	default:
		return open_shared("/tmp", make, err);
	}
}

int ctr_rundir(struct vl_err *err)
{
	VL_FREE char *hostile = NULL;

	for (unsigned i = 0; i < CTR_RUNDIRS; i++) {
		int fd = ctr_rundir_open(i, true, err);
		if (fd >= 0)
			return fd;
		if (fd == -EPERM && !hostile)
			hostile = vl_strdup(err->text);
	}
	return hostile ? vl_fail(err, EPERM, "%s", hostile) : vl_wrap(err, "no runtime directory");
}
