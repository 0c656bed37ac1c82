/* The socket of a holder, and what is said on it. */
#include "hold.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define BACKLOG 4096 /* starts at one moment; the kernel cuts it to net.core.somaxconn, and connect() waits */
#define PLACE_DIR 1
#define PLACE_NOFOLLOW 2

bool ctr_pack_join(const struct ctr_join *j, struct vl_buf *ret)
{
	char kind = CTR_JOIN;

	vl_buf_add(ret, &kind, 1);
	vl_buf_add(ret, j->key, strlen(j->key) + 1);
	vl_buf_add(ret, j->alike, strlen(j->alike) + 1);
	for (size_t i = 0; i < j->n_places; i++) {
		const struct vmnt_place *p = &j->places[i];
		char flags = (char)('0' + (p->dir ? PLACE_DIR : 0) + (p->nofollow ? PLACE_NOFOLLOW : 0));
		vl_buf_add(ret, &flags, 1);
		vl_buf_add(ret, p->path, strlen(p->path) + 1);
	}
	return ret->len <= CTR_REQUEST_MAX;
}

int ctr_unpack_join(const char *text, size_t len, struct ctr_join *ret, struct vmnt_place **ret_places)
{
	const char *end = text + len, *p;
	size_t n = 0;

	if (!len || end[-1])
		return -EINVAL;
	const char *alike = text + strlen(text) + 1;
	if (alike == end)
		return -EINVAL;
	const char *first = alike + strlen(alike) + 1;
	for (p = first; p < end; p += strlen(p) + 1, n++)
		if (*p < '0' || *p > '3' || p[1] != '/')
			return -EINVAL;
	struct vmnt_place *l = vl_alloc((n + 1) * sizeof *l);
	n = 0;
	for (p = first; p < end; p += strlen(p) + 1, n++)
		l[n] = (struct vmnt_place){ .path = p + 1,
					    .dir = (*p - '0') & PLACE_DIR,
					    .nofollow = (*p - '0') & PLACE_NOFOLLOW };
	*ret_places = l;
	*ret = (struct ctr_join){ .key = text, .alike = alike, .places = l, .n_places = n };
	return 0;
}

/* By the directory's descriptor: the directory is the one that was checked, and its path may be longer than
 * an address of a socket. */
static void address(int dir, const char *name, struct sockaddr_un *ret)
{
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", dir, name);
}

static int dial(int dir, const char *name, int flags)
{
	VL_CLOSE int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | flags, 0);
	struct sockaddr_un a;
	int r;

	address(dir, name, &a);
	if (sock < 0)
		return -errno;
	do
		r = connect(sock, (struct sockaddr *)&a, sizeof a);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : vl_steal_fd(&sock);
}

int ctr_hold_dial(int dir, const char *name)
{
	return dial(dir, name, 0);
}

void ctr_hold_each(int dir, void (*f)(void *arg, const char *name), void *arg)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;

	while (d && (e = readdir(d)))
		if (strlen(e->d_name) == CTR_SOCKET_NAME - 1 && e->d_type == DT_SOCK)
			f(arg, e->d_name);
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

struct sweep {
	int dir;
	const char *but;
};

static void sweep_one(void *arg, const char *name)
{
	const struct sweep *s = arg;
	VL_CLOSE int sock = vl_streq(name, s->but) ? -EISCONN : dial(s->dir, name, SOCK_NONBLOCK);

	if (sock == -ECONNREFUSED)
		(void)!unlinkat(s->dir, name, 0);
}

void ctr_hold_sweep(int dir, const char *but)
{
	struct sweep s = { dir, but };

	ctr_hold_each(dir, sweep_one, &s);
}

int ctr_hold_listen(int dir, const char *name)
{
	VL_CLOSE int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a;

	address(dir, name, &a);
	(void)!unlinkat(dir, name, 0);
	if (sock < 0 || bind(sock, (struct sockaddr *)&a, sizeof a) < 0 || listen(sock, BACKLOG) < 0)
		return -errno;
	return vl_steal_fd(&sock);
}
