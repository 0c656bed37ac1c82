/* The holder: the process that owns the mount of one image on behalf of all starts of one user. It waits
 * for events only: a start that wants to join, a user's end, the server's end. It goes with its last user. */
#include "hold.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#define SPARE_FDS 32    /* of the limit: what is not users */
#define PLACES_MAX 1024 /* remembered; above that, the server is asked each time */
#define EVENTS 64
#define TALK_FDS 3 /* of a start that has asked: its connection, its pidfd, its report */

enum source { NEWCOMERS, SERVER, TALK, USER };

struct hold {
	const char *key, *image_path;
	char name[CTR_SOCKET_NAME];
	int lock; /* the runtime directory, opened anew: a lock is the open file's, and that was the starter's too */
	ino_t socket; /* inode number of ours */
	int listener, control, userns, image, epoll;
	struct ctr_users users;
	struct ctr_alikes alikes;
	size_t reports;            /* of the users */
	size_t talking;            /* connections that have not asked yet */
	size_t max;                /* of all three together */
	struct vmnt_place *places; /* that the server knows of */
	size_t n_places;
	time_t since;
	char request[CTR_REQUEST_MAX + 1]; /* the one at hand */
};

/* ---- becoming it ---------------------------------------------------------------------------- */

/* The starter's own confinement is not for those who join later: a task's core, a shell's soft limits. */
static void widen_limits(void)
{
	static const __rlimit_resource_t which[] = { RLIMIT_NOFILE, RLIMIT_CPU, RLIMIT_AS, RLIMIT_DATA, RLIMIT_NPROC };
	struct rlimit l;
	cpu_set_t all;

	for (size_t i = 0; i < VL_COUNT(which); i++)
		if (getrlimit(which[i], &l) == 0) {
			l.rlim_cur = l.rlim_max;
			setrlimit(which[i], &l);
		}
	memset(&all, 0xff, sizeof all);
	sched_setaffinity(0, sizeof all, &all); /* the kernel cuts it to what the cgroup allows */
}

/* Only what cloning a mount takes and letting the host's go, and no way to more. */
static int keep_mount_power(struct vl_err *err)
{
	static const cap_value_t need[] = { CAP_SYS_ADMIN, CAP_SYS_CHROOT };
	const int n = VL_COUNT(need);
	cap_t caps = cap_init();
	int r = !caps || cap_set_flag(caps, CAP_PERMITTED, n, need, CAP_SET) < 0 ||
		cap_set_flag(caps, CAP_EFFECTIVE, n, need, CAP_SET) < 0 || cap_set_proc(caps) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0;
	int e = errno;

	cap_free(caps);
	return r ? vl_fail_sys(err, e, "cannot reduce capabilities") : 0;
}

/* As for a container without any binds: what setup.c says of the order holds here too. */
static int bring_up(struct hold *h, const struct plan *p, struct vmnt_image *image, struct vl_err *err)
{
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	pid_t mapper = 0;
	int r = ctr_enter_userns(p, &image->all_ids, &mapper, err);

	if (r < 0)
		return r;
	h->userns = vl_open("/proc/self/ns/user", O_RDONLY, 0, err);
	if (h->userns < 0)
		return h->userns;
	if ((r = vmnt_server_start(image, &server, err)) < 0)
		return r;
	/* while it opens the image */
	if (mapper)
		vl_wait(mapper);
	flock(h->lock, LOCK_EX); /* between a bind() and its listen() a socket looks stale */
	ctr_hold_sweep(h->lock, h->name);
	flock(h->lock, LOCK_UN);
	if ((r = ctr_enter_mountns(err)) < 0)
		return r;
	h->image = vmnt_server_mount(&server, image, &h->control, err);
	if (h->image < 0)
		return h->image;
	/* Before Linux 6.15 only what is attached can be cloned. */
	VL_CLOSE int host = vl_open("/", O_PATH | O_DIRECTORY, 0, err);
	if (host < 0)
		return host;
	if ((r = vmnt_attach(h->image, host, "/", err)) < 0)
		return r;
	return keep_mount_power(err);
}

/* What the start that waits for the mount need not wait for. As the root of this namespace the image needs no directory
 * anywhere, and the holder keeps nothing of the host's busy. */
static int settle(const struct hold *h, const struct vmnt_image *image, struct vl_err *err)
{
	ctr_look_at_top(h->image);
	ctr_read_ahead(h->image, image);
	return VL_MIN(vmnt_switch_root(h->image, 0, err), 0);
}

/* ---- events --------------------------------------------------------------------------------- */

static int watch(struct hold *h, enum source what, int fd, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.u64 = (uint64_t)what << 32 | (uint32_t)fd };

	return epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void add_talk(struct hold *h, int sock)
{
	if (watch(h, TALK, sock, EPOLLIN) < 0)
		close(sock);
	else
		h->talking++;
}

static bool accept_one(struct hold *h)
{
	int sock = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return errno == ECONNABORTED || errno == EINTR;
	if (h->users.n + h->reports + TALK_FDS * h->talking + CTR_OFFER_FDS * h->alikes.n < h->max)
		add_talk(h, sock);
	else
		close(sock); /* it mounts for itself */
	return true;
}

/* What the mount has done so far, for all: it is not known who asked what. */
static void report(struct hold *h, struct ctr_user *u, bool ask)
{
	const struct vmnt_report r = {
		.image = h->image_path, .pid = u->pid, .since = u->since, .until = time(NULL), .holder = getpid()
	};
	VL_FREE char *stats = NULL;
	struct vl_err none;

	if (u->report < 0)
		return;
	if (ask && vmnt_server_stats(h->control, &stats, &none) < 0)
		stats = NULL;
	vmnt_report_write(u->report, &r, stats);
	vl_closep(&u->report);
	h->reports--;
}

static void drop_user(struct hold *h, int fd)
{
	for (size_t i = 0; i < h->users.n; i++)
		if (h->users.v[i].fd == fd) {
			report(h, &h->users.v[i], true);
			ctr_alike_leave(&h->alikes, h->users.v[i].in);
			h->users.v[i] = h->users.v[--h->users.n];
			close(fd);
			return;
		}
}

/* ---- requests ------------------------------------------------------------------------------- */

static bool knows(const struct hold *h, const struct vmnt_place *p)
{
	for (size_t i = 0; i < h->n_places; i++)
		if (h->places[i].dir == p->dir && h->places[i].nofollow == p->nofollow &&
		    vl_streq(h->places[i].path, p->path))
			return true;
	return false;
}

static void remember(struct hold *h, const struct vmnt_place *p)
{
	if (h->n_places == PLACES_MAX)
		return;
	h->places = vl_realloc(h->places, h->n_places + 1, sizeof *h->places);
	h->places[h->n_places] = *p;
	h->places[h->n_places++].path = vl_strdup(p->path);
}

/* Most starts ask for the places that others asked for before: the server hears of new ones only. */
static int add_places(struct hold *h, const struct vmnt_place *places, size_t n, struct vl_err *err)
{
	VL_FREE struct vmnt_place *fresh = vl_alloc((n + 1) * sizeof *fresh);
	size_t n_fresh = 0;

	for (size_t i = 0; i < n; i++)
		if (!knows(h, &places[i]))
			fresh[n_fresh++] = places[i];
	int r = n_fresh ? vmnt_server_add_places(h->control, fresh, n_fresh, err) : 0;
	for (size_t i = 0; r == 0 && i < n_fresh; i++)
		remember(h, &fresh[i]);
	return r;
}

/* The way in, to the container that is like the one wanted, else to the image. */
static int let_in(const struct hold *h, int sock, const struct ctr_alike *a, struct vl_err *err)
{
	VL_CLOSE int mount = a ? -1 : vmnt_clone(h->image, "", false, true, err);
	const int fds[CTR_JOINED_FDS] = { h->userns, a ? a->fd[CTR_OFFER_MNT] : mount, a ? a->fd[CTR_OFFER_ROOT] : -1 };
	const char what = a ? CTR_JOINED_CONTAINER : CTR_JOINED_MOUNT;

	if (!a && mount < 0)
		return mount;
	vl_msg_send_fds(sock, VL_MSG_FD, fds, a ? CTR_JOINED_FDS : CTR_JOINED_FDS - 1, &what, 1);
	return 0;
}

static int join(struct hold *h, int sock, const char *text, size_t len, int *report, struct vl_err *err)
{
	VL_FREE struct vmnt_place *places = NULL;
	VL_CLOSE int pidfd = -1;
	struct ctr_join wish;
	pid_t pid;

	if (ctr_unpack_join(text, len, &wish, &places) < 0)
		return vl_fail(err, EPROTO, "the holder does not understand");
	if (!vl_streq(wish.key, h->key))
		return vl_fail(err, EXDEV, "the holder is another image's");
	pidfd = ctr_peer_pidfd(sock, &pid);
	if (pidfd < 0)
		return vl_fail_sys(err, -pidfd, "the holder cannot follow this process");
	struct ctr_alike *in = *wish.alike ? ctr_alike_enter(&h->alikes, wish.alike) : NULL;
	int r = in ? 0 : add_places(h, wish.places, wish.n_places, err);
	if (r == 0 && (r = watch(h, USER, pidfd, EPOLLIN)) < 0)
		r = vl_fail_sys(err, -r, "the holder cannot follow this process");
	if (r < 0) {
		ctr_alike_leave(&h->alikes, in);
		return r;
	}
	h->users.v = vl_realloc(h->users.v, h->users.n + 1, sizeof *h->users.v);
	h->reports += *report >= 0;
	h->users.v[h->users.n++] = (struct ctr_user){ pid, vl_steal_fd(&pidfd), vl_steal_fd(report), time(NULL), in };
	return let_in(h, sock, in, err);
}

/* What a user has made, for those who come later. */
static void take_offer(struct hold *h, int sock, const char *key, int fds[CTR_OFFER_FDS])
{
	struct ctr_user *maker = ctr_user_at(&h->users, sock);

	if (maker && !maker->in)
		maker->in = ctr_alike_offer(&h->alikes, key, fds);
	for (size_t i = 0; i < CTR_OFFER_FDS; i++)
		vl_closep(&fds[i]);
}

static void tell(const struct hold *h, int sock)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_addf(&b, "holder %d\nsince %lld\n", getpid(), (long long)h->since);
	for (size_t i = 0; i < h->users.n && b.len < CTR_REQUEST_MAX / 2; i++)
		vl_buf_addf(&b, "user %d\n", h->users.v[i].pid);
	vl_buf_addf(&b, "image %s\n", h->image_path); /* the last: it may have any byte in it */
	vl_msg_send(sock, VL_MSG_OK, b.data, VL_MIN(b.len, CTR_REQUEST_MAX));
}

static int stats(const struct hold *h, int sock, struct vl_err *err)
{
	VL_FREE char *json = NULL;
	int r = vmnt_server_stats(h->control, &json, err);

	if (r == 0)
		vl_msg_send(sock, VL_MSG_OK, json, strlen(json));
	return r;
}

/* One message. The other end may be anything, but it is the user's own. Returns whether there may be another one. */
static bool answer_one(struct hold *h, int sock)
{
	struct vl_err err = { 0 };
	int fds[VL_MSG_FDS];
	enum vl_msg_type type;
	size_t len = 0, n = 0;
	char *text = h->request;

	int r = vl_msg_recv_fds(sock, &type, fds, &n, text, CTR_REQUEST_MAX, &len);
	if (r < 0)
		return false;
	text[len] = 0;
	if (*text == CTR_OFFER && n == CTR_OFFER_FDS) {
		take_offer(h, sock, text + 1, fds);
		return false;
	}
	for (; n > 1; n--)
		close(fds[n - 1]);
	VL_CLOSE int report = n ? fds[0] : -1;
	if (*text == CTR_JOIN)
		r = join(h, sock, text + 1, len - 1, &report, &err);
	else if (*text == CTR_TELL)
		tell(h, sock);
	else if (*text == CTR_STATS)
		r = stats(h, sock, &err);
	if (r < 0)
		vl_msg_send_err(sock, &err);
	return *text == CTR_JOIN && r == 0;
}

static void answer(struct hold *h, int sock)
{
	if (answer_one(h, sock))
		return;
	h->talking--;
	close(sock);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void remove_socket(const struct hold *h)
{
	struct stat st;

	/* who tidied up our directory may have let in a successor */
	if (fstatat(h->lock, h->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_ino == h->socket)
		(void)!unlinkat(h->lock, h->name, 0);
}

/* Nobody is here. Under the lock nobody makes a holder, so who connects finds this one or none. */
static bool may_go(struct hold *h)
{
	flock(h->lock, LOCK_EX);
	while (!h->talking && accept_one(h))
		;
	if (!h->talking)
		remove_socket(h);
	flock(h->lock, LOCK_UN);
	return !h->talking;
}

/* It cannot be: say so to all who wait already. */
static void refuse(struct hold *h, int first, const struct vl_err *err)
{
	int sock;

	flock(h->lock, LOCK_EX);
	remove_socket(h);
	flock(h->lock, LOCK_UN);
	vl_msg_send_err(first, err);
	while ((sock = accept4(h->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		vl_msg_send_err(sock, err);
		close(sock);
	}
}

/* The server has ended, and nothing can be put in its stead. */
static void give_up(struct hold *h)
{
	flock(h->lock, LOCK_EX);
	remove_socket(h);
	for (size_t k = 0; k < h->users.n; k++)
		report(h, &h->users.v[k], false);
}

/* False: it is over. Who waits finds the connection closed then, and makes another holder. */
static bool serve_some(struct hold *h, int timeout)
{
	struct epoll_event e[EVENTS];
	int n = epoll_wait(h->epoll, e, EVENTS, timeout);

	if (n < 0 && errno != EINTR)
		return false;
	for (int i = 0; i < n; i++) {
		int fd = (int)(uint32_t)e[i].data.u64;
		switch ((enum source)(e[i].data.u64 >> 32)) {
		case NEWCOMERS:
			accept_one(h);
			break;
		case TALK:
			answer(h, fd);
			break;
		case USER:
			drop_user(h, fd);
			break;
		case SERVER:
			give_up(h);
			return false;
		}
	}
	return true;
}

/* Until the last user is gone. */
static void serve(struct hold *h)
{
	while (h->users.n || h->talking || !may_go(h))
		if (!serve_some(h, -1))
			return;
}

static int prepare(struct hold *h, int dir, int first, struct vl_err *err)
{
	struct rlimit l = { .rlim_cur = 1024 };
	struct stat st;

	h->lock = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (h->lock < 0 || h->epoll < 0 || fstatat(dir, h->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return vl_fail_sys(err, errno, "cannot set up a holder");
	h->socket = st.st_ino;
	getrlimit(RLIMIT_NOFILE, &l);
	h->max = VL_MAX((size_t)l.rlim_cur, (size_t)2 * SPARE_FDS) - SPARE_FDS;
	add_talk(h, first);
	int r = watch(h, NEWCOMERS, h->listener, EPOLLIN);
	return r < 0 ? vl_fail_sys(err, -r, "cannot set up a holder") : 0;
}

void ctr_hold(const struct plan *p, const struct vmnt_image *image, const char *key, int dir, int listener, int first)
{
	int keep[] = { p->image_fd, dir, listener, first, image->log };
	struct vmnt_image mine = *image;
	struct vl_err err = { 0 };
	struct hold *h = vl_alloc(sizeof *h);

	h->key = key;
	h->image_path = p->image_path;
	h->lock = h->control = h->userns = h->image = h->epoll = -1;
	h->listener = listener;
	h->since = time(NULL);
	ctr_hold_name(key, h->name);
	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
	signal(SIGPIPE, SIG_IGN); /* of a report whose reader has gone */
	mine.report = 0;          /* a user's own, not the mount's */
	prctl(PR_SET_NAME, "vial-holder");
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* or the server could become a child of the program, and met by its wait() */
	widen_limits();
	for (size_t i = 0; i < image->n_places; i++)
		remember(h, &image->places[i]);
	int r = prepare(h, dir, first, &err);
	close(dir); /* one open file with the starter's: its lock would stay ours when that is killed, and be waited for */
	if (r < 0 || bring_up(h, p, &mine, &err) < 0 || watch(h, SERVER, h->control, 0) < 0) {
		refuse(h, first, &err);
		return;
	}
	close(p->image_fd);
	if (mine.log)
		close(mine.log);
	if (serve_some(h, 0) && settle(h, &mine, &err) == 0)
		serve(h);
}
