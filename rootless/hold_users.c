/* Who uses the mount, followed by pidfd: a pid alone may be somebody else's tomorrow. */
#include "hold.h"

#include <poll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5 */
#endif

int ctr_peer_pidfd(int sock, pid_t *ret_pid)
{
	struct ucred who;
	socklen_t len = sizeof who;
	int fd = -1;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return -errno;
	if (who.uid != geteuid())
		return -EPERM;
	len = sizeof fd;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) < 0) {
		struct pollfd p = { .fd = sock, .events = POLLIN };
		fd = who.pid > 0 ? pidfd_open(who.pid, 0) : -ESRCH;
		if (fd < 0)
			return fd == -1 ? -errno : fd;
		/* Was it that process? It waits for our answer with its end open, so if that is still so. */
		if (poll(&p, 1, 0) > 0 && p.revents & POLLHUP) {
			close(fd);
			return -ESRCH;
		}
	}
	*ret_pid = who.pid;
	return fd;
}

struct ctr_user *ctr_user_at(const struct ctr_users *l, int sock)
{
	struct ucred who;
	socklen_t len = sizeof who;

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0)
		for (size_t i = 0; i < l->n; i++)
			if (l->v[i].pid == who.pid)
				return &l->v[i];
	return NULL;
}
