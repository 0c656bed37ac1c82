/* A start that shares the mount of others. */
#include "hold.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define ATTEMPTS 3  /* a holder may go, or be killed, between two of our steps */
#define PATIENCE 10 /* seconds; one that is stopped would be waited for without end */

struct making {
	const struct plan *p;
	const struct vmnt_image *image;
	const char *key;
	int dir, listener, first;
};

static void become_holder(void *arg)
{
	const struct making *m = arg;

	ctr_hold(m->p, m->image, m->key, m->dir, m->listener, m->first);
}

static int start_holder(struct making *m, const char *name, struct vl_err *err)
{
	int pair[2];
	pid_t wait = 0;

	int r = vl_msg_pair(pair, err);
	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	VL_CLOSE int listener = ctr_hold_listen(m->dir, name);
	if (mine < 0 || theirs < 0 || listener < 0)
		return vl_fail_sys(err, listener < 0 ? -listener : EMFILE, "cannot make a socket for the holder");
	m->first = theirs;
	m->listener = listener;
	r = vl_start_apart(become_holder, m, &wait);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot start a holder");
	vl_wait(wait);
	return vl_steal_fd(&mine);
}

/* The holder that is there, or a new one. The lock is on the directory itself and goes with us. */
static int find_or_make(const struct plan *p, const struct vmnt_image *image, const char *key, int dir,
			const char *name, struct vl_err *err)
{
	struct making m = { .p = p, .image = image, .key = key, .dir = dir };

	if (flock(dir, LOCK_EX) < 0)
		return vl_fail_sys(err, errno, "cannot lock the runtime directory");
	int sock = ctr_hold_dial(dir, name);
	if (sock == -ENOENT || sock == -ECONNREFUSED)
		sock = start_holder(&m, name, err);
	else if (sock < 0)
		vl_fail_sys(err, -sock, "cannot reach the holder");
	flock(dir, LOCK_UN); /* by hand: the new holder has this open file too */
	return sock;
}

static int receive(int sock, int fds[VL_MSG_FDS], size_t *ret_n, char *ret_what, struct vl_err *err)
{
	struct vl_err got = { 0 };
	enum vl_msg_type type = VL_MSG_ERR;
	size_t len = 0;

	int r = vl_msg_recv_fds(sock, &type, fds, ret_n, &got, sizeof got, &len);
	if (r == -EAGAIN)
		return vl_fail(err, ETIMEDOUT, "the holder does not answer");
	if (r < 0)
		return vl_fail(err, EAGAIN, "the holder is gone");
	if (type == VL_MSG_ERR && len == sizeof got) {
		got.text[sizeof got.text - 1] = 0;
		return vl_fail(err, got.code == EAGAIN ? EIO : got.code, "%s", got.text);
	}
	*ret_what = type == VL_MSG_FD && len == 1 ? *(const char *)&got : 0;
	return 0;
}

/* The image's mount is of use in its user namespace only, which is entered; a container's way in is kept for later. */
static int take(struct ctr_joined_to *to, char what, const int *fds, size_t n, struct vl_err *err)
{
	if (what == CTR_JOINED_CONTAINER && n == 3) {
		to->door.fd[CTR_USER] = fds[0];
		to->door.fd[CTR_MNT] = fds[1];
		to->door.fd[CTR_ROOT] = fds[2];
		to->door.pivoted = true; /* others are not offered */
		return 0;
	}
	int r = 0;
	if (what != CTR_JOINED_MOUNT || n != 2)
		r = vl_fail(err, EPROTO, "the holder sent no descriptors");
	else if (setns(fds[0], CLONE_NEWUSER) < 0)
		r = vl_fail_sys(err, errno == EAGAIN ? EIO : errno, "cannot enter the holder's user namespace");
	else
		to->mount = fds[1];
	for (size_t i = 0; i < n; i++)
		if (fds[i] != to->mount)
			close(fds[i]);
	return r;
}

/* Asks, and takes what is given. -EAGAIN: there is nobody any more at the other end. */
static int ask(int sock, const struct vl_buf *request, int report, struct ctr_joined_to *to, struct vl_err *err)
{
	const struct timeval patience = { .tv_sec = PATIENCE };
	int fds[VL_MSG_FDS];
	size_t n = 0;
	char what = 0;
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	int r = report ? vl_msg_send_fd(sock, report, request->data, request->len)
		       : vl_msg_send(sock, VL_MSG_OK, request->data, request->len);

	if (r < 0)
		return vl_fail(err, EAGAIN, "the holder is gone");
	r = receive(sock, fds, &n, &what, err);
	return r < 0 ? r : take(to, what, fds, n, err);
}

/* A server must not die of the time limit of one of those it serves. */
static bool has_time_limit(void)
{
	struct rlimit l;

	return getrlimit(RLIMIT_CPU, &l) == 0 && l.rlim_max != RLIM_INFINITY;
}

int ctr_join(const struct plan *p, const struct vmnt_image *image, struct ctr_joined_to *ret, struct vl_err *err)
{
	VL_FREE char *key = has_time_limit() ? NULL : ctr_hold_key(p), *alike = ctr_alike_key(p);
	VL_BUF struct vl_buf request = { 0 };
	char name[CTR_SOCKET_NAME];

	if (!key)
		return vl_fail(err, ENOTSUP, "there is no /proc, or a limit on processor time");
	if (!ctr_pack_join(&(struct ctr_join){ key, alike ? alike : "", image->places, image->n_places }, &request))
		return vl_fail(err, E2BIG, "there are too many mounts to tell a holder");
	VL_CLOSE int dir = ctr_rundir(err);
	if (dir < 0)
		return dir;
	dir = vl_move_fd_above_stdio(dir);
	ctr_hold_name(key, name);
	VL_CLOSE int table = alike ? open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC) : -1;
	for (int i = 0; i < ATTEMPTS; i++) {
		VL_CLOSE int sock = i ? -ENOENT : ctr_hold_dial(dir, name); /* most often it is there: no lock */
		if (sock < 0)
			sock = find_or_make(p, image, key, dir, name, err);
		if (sock < 0)
			return sock;
		int r = ask(sock, &request, p->report, ret, err);
		if (r == 0 && ret->mount >= 0 && table >= 0)
			ret->offer =
				(struct ctr_offer){ vl_steal(&alike), vl_steal_fd(&sock), vl_steal_fd(&table), -1 };
		if (r != -EAGAIN)
			return r;
	}
	return -err->code;
}

void ctr_joined_free(struct ctr_joined_to *j)
{
	vl_closep(&j->mount);
	ctr_door_free(&j->door);
	vl_freep(&j->offer.key);
	vl_closep(&j->offer.sock);
	vl_closep(&j->offer.table);
	vl_closep(&j->offer.mnt);
}
