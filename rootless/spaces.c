/* Namespaces besides user, mount and pid, and what a new one needs to be of use. */
#include "rootless.h"

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>

static const struct space {
	unsigned plan;
	int flag;
	const char *name;
} spaces[] = {
	{ PLAN_NS_IPC, CLONE_NEWIPC, "ipc" },
	{ PLAN_NS_UTS, CLONE_NEWUTS, "uts" },
	{ PLAN_NS_NET, CLONE_NEWNET, "net" },
};

static int enter(const struct space *s, struct vl_err *err)
{
	if (unshare(s->flag) == 0)
		return 0;
	if (errno == ENOSPC)
		return vl_fail(err, ENOSPC,
			       "cannot make a namespace: the limit user.max_%s_namespaces is reached; as root: "
			       "sysctl -w user.max_%s_namespaces=65536",
			       s->name, s->name);
	if (errno == EINVAL)
		return vl_fail(err, EINVAL, "this kernel has no %s namespaces", s->name);
	return vl_fail_sys(err, errno, "cannot make a namespace (%s)", s->name);
}

/* A new network namespace has a loopback interface, which is down. */
static int bring_up_lo(struct vl_err *err)
{
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP };
	VL_CLOSE int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock < 0 || ioctl(sock, SIOCSIFFLAGS, &lo) < 0)
		return vl_fail_sys(err, errno, "cannot bring up the loopback interface");
	return 0;
}

int ctr_enter_spaces(const struct plan *p, struct vl_err *err)
{
	int r;

	for (size_t i = 0; i < VL_COUNT(spaces); i++)
		if (p->namespaces & spaces[i].plan && (r = enter(&spaces[i], err)) < 0)
			return r;
	if (p->hostname && sethostname(p->hostname, strlen(p->hostname)) < 0)
		return vl_fail_sys(err, errno, "cannot set the host name %s", p->hostname);
	return p->namespaces & PLAN_NS_NET ? bring_up_lo(err) : 0;
}

int ctr_new_proc(const struct vl_progress *say, struct vl_err *err)
{
	int fd = vmnt_new("proc", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);

	if (fd >= 0 || (err->code != EPERM && err->code != EACCES))
		return fd;
	/* The kernel gives a user namespace no proc that shows more than the ones it can see already. */
	fd = vmnt_clone(AT_FDCWD, "/proc", true, true, err);
	if (fd >= 0)
		vl_progress_warn(
			say, "/proc shows the processes outside of the container too: parts of this system's /proc are "
			     "masked, as inside of other containers, so the kernel refuses a new one");
	return fd;
}
