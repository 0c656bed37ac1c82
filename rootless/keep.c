/* A container that stays while others come in: of a job step, of an instance. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

int ctr_door_open(int rootfd, struct ctr_door *ret, struct vl_err *err)
{
	static const char *const names[] = { "user", "ipc", "uts", "net", "pid_for_children", "mnt" };
	CTR_DOOR struct ctr_door d = CTR_DOOR_INIT;
	char path[64];

	for (size_t i = 0; i < VL_COUNT(names); i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		d.fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (d.fd[i] < 0 && errno != ENOENT) /* a kernel without that kind has but one of it */
			return vl_fail_sys(err, errno, "cannot open %s", path);
	}
	d.fd[CTR_ROOT] = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);
	if (d.fd[CTR_ROOT] < 0 || d.fd[CTR_MNT] < 0 || d.fd[CTR_USER] < 0)
		return vl_fail(err, EMFILE, "cannot open the container's namespaces");
	*ret = d;
	d = (struct ctr_door)CTR_DOOR_INIT;
	return 0;
}

/* Those that are there, in order, and a byte for each kind that says whether it is. */
static int show_in(const struct ctr_door *door, int sock)
{
	char there[CTR_WAYS];
	int fds[CTR_WAYS];
	size_t n = 0;

	for (size_t i = 0; i < CTR_WAYS; i++) {
		there[i] = door->fd[i] >= 0;
		if (there[i])
			fds[n++] = door->fd[i];
	}
	return vl_msg_send_fds(sock, VL_MSG_OK, fds, n, there, sizeof there);
}

static bool is_caller(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == geteuid();
}

/* Who connects wants in: nothing is waited for, so nobody can keep the others waiting. */
static int answer_door(const struct ctr_door *door, int listener)
{
	VL_CLOSE int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	if (sock >= 0 && is_caller(sock))
		show_in(door, sock);
	return 0;
}

int ctr_keep(const struct ctr_door *door, int sock, struct vl_err *err)
{
	int listening = 0;
	socklen_t len = sizeof listening;
	enum vl_msg_type type;
	char none;
	int r;

	if (getsockopt(sock, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return vl_fail_sys(err, errno, "the keeper's descriptor %d", sock);
	if (listening)
		for (;;)
			answer_door(door, sock);
	while ((r = vl_msg_recv(sock, &type, &none, 1, NULL)) == 0)
		if (type == VL_MSG_OK)
			show_in(door, sock);
	return r == -EPIPE ? 0 : vl_fail_sys(err, -r, "the keeper cannot hear");
}
