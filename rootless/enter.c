/* Into a container that is there already. Linked into the Slurm plugin too: no more than needed for that. */
#include "rootless.h"

#include <poll.h>
#include <sched.h>
#include <sys/stat.h>

void ctr_door_free(struct ctr_door *d)
{
	for (size_t i = 0; i < CTR_WAYS; i++)
		vl_closep(&d->fd[i]);
}

static int wait_for(int sock, int timeout_ms)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	int n = poll(&p, 1, timeout_ms);

	if (n < 0)
		return errno == EINTR ? 0 : -errno; /* the read that follows waits on */
	return n ? 0 : -ETIMEDOUT;
}

static int take(struct ctr_door *d, const char *there, size_t len, const int *fds, size_t n)
{
	size_t at = 0;

	for (size_t i = 0; i < CTR_WAYS && i < len; i++)
		if (there[i] && at < n)
			d->fd[i] = fds[at++];
	for (; at < n; n--)
		close(fds[n - 1]);
	return d->fd[CTR_USER] >= 0 && d->fd[CTR_MNT] >= 0 && d->fd[CTR_ROOT] >= 0 ? 0 : -EPROTO;
}

static void take_words(const char *text, size_t len, struct vl_strv *ret)
{
	for (size_t at = 0; at < len; at += strnlen(text + at, len - at) + 1)
		vl_strv_take(ret, vl_strndup(text + at, strnlen(text + at, len - at)));
}

int ctr_door_ask(int sock, int timeout_ms, struct ctr_door *ret, struct vl_strv *ret_changes, struct vl_err *err)
{
	CTR_DOOR struct ctr_door d = CTR_DOOR_INIT;
	VL_FREE char *text = vl_alloc(CTR_WAYS + CTR_CHANGES_MAX);
	struct vl_err got;
	enum vl_msg_type type = VL_MSG_ERR;
	int fds[VL_MSG_FDS];
	size_t n = 0, len = 0;

	int r = vl_msg_send(sock, VL_MSG_OK, NULL, 0);
	if (r == 0 || r == -EPIPE || r == -ECONNRESET) /* who answers unasked may have hung up already */
		r = wait_for(sock, timeout_ms);
	for (int times = 0; r == 0 && times < 2; times++) {
		r = vl_msg_recv_fds(sock, &type, fds, &n, text, CTR_WAYS + CTR_CHANGES_MAX, &len);
		if (r != -ECONNRESET) /* what was asked has not been read; the answer comes after this */
			break;
		r = times ? r : 0;
	}
	if (r == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "the container does not answer");
	if (r < 0)
		return vl_fail_sys(err, -r, "the container is gone");
	int e = take(&d, text, type == VL_MSG_OK ? len : 0, fds, n);
	if (type == VL_MSG_ERR && len == sizeof got) {
		memcpy(&got, text, sizeof got);
		got.text[sizeof got.text - 1] = 0;
		return vl_fail(err, got.code, "%s", got.text);
	}
	if (e < 0)
		return vl_fail(err, -e, "the container gives no way in (answer %d)", type);
	if (len > CTR_WAYS)
		take_words(text + CTR_WAYS, len - CTR_WAYS, ret_changes);
	*ret = d;
	d = (struct ctr_door)CTR_DOOR_INIT;
	return 0;
}

/* Is this process in that namespace already? Entering one's own user namespace is an error. */
static bool is_in(int fd, const char *own)
{
	struct stat there, here;

	return fstat(fd, &there) == 0 && stat(own, &here) == 0 && there.st_ino == here.st_ino &&
	       there.st_dev == here.st_dev;
}

int ctr_enter(const struct ctr_door *d, bool *ret_pid, struct vl_err *err)
{
	/* the user namespace first: it is what allows the others; the mount namespace last, because the paths below
	 * are those of the old one */
	static const struct {
		enum ctr_way way;
		int type;
		const char *name, *own;
	} ways[] = {
		{ CTR_USER, CLONE_NEWUSER, "user", "/proc/self/ns/user" },
		{ CTR_IPC, CLONE_NEWIPC, "ipc", "/proc/self/ns/ipc" },
		{ CTR_UTS, CLONE_NEWUTS, "uts", "/proc/self/ns/uts" },
		{ CTR_NET, CLONE_NEWNET, "net", "/proc/self/ns/net" },
		{ CTR_PID, CLONE_NEWPID, "pid", "/proc/self/ns/pid_for_children" },
		{ CTR_MNT, CLONE_NEWNS, "mount", "/proc/self/ns/mnt" },
	};

	*ret_pid = false;
	for (size_t i = 0; i < VL_COUNT(ways); i++) {
		int fd = d->fd[ways[i].way];
		if (fd < 0 || is_in(fd, ways[i].own))
			continue;
		if (setns(fd, ways[i].type) < 0)
			return vl_fail_sys(err, errno, "cannot enter the container's %s namespace", ways[i].name);
		*ret_pid |= ways[i].way == CTR_PID;
	}
	/* where the root could not be moved, the namespace's own root is the host's: see vmnt_switch_root */
	if (fchdir(d->fd[CTR_ROOT]) < 0 || chroot(".") < 0)
		return vl_fail_sys(err, errno, "cannot enter the container's root directory");
	return 0;
}
