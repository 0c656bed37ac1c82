/* A container that stays while others come in: of a job step, of an instance. */
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

int ctr_door_open(int rootfd, struct ctr_door *ret, struct vl_err *err)
{
	static const char *const names[] = { "user", "ipc", "uts", "net", "pid_for_children", "mnt" };
	struct ctr_door d = CTR_DOOR_INIT;
	char path[64];
	int r = 0;

	for (size_t i = 0; i < VL_COUNT(names) && r == 0; i++) {
		snprintf(path, sizeof path, "/proc/self/ns/%s", names[i]);
		d.fd[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (d.fd[i] < 0 && errno != ENOENT) /* a kernel without that kind has but one of it */
			r = vl_fail_sys(err, errno, "cannot open %s", path);
	}
	d.fd[CTR_ROOT] = fcntl(rootfd, F_DUPFD_CLOEXEC, 3);
	if (r == 0 && (d.fd[CTR_ROOT] < 0 || d.fd[CTR_MNT] < 0 || d.fd[CTR_USER] < 0))
		r = vl_fail(err, EMFILE, "cannot open the container's namespaces");
	if (r == 0)
		*ret = d;
	else
		ctr_door_free(&d);
	return r;
}

/* ---- the environment of who comes in ---------------------------------------------------------- */

static const char *find(char *const *env, const char *kv, size_t n)
{
	for (; *env; env++)
		if (!strncmp(*env, kv, n) && ((*env)[n] == '=' || !(*env)[n]))
			return *env;
	return NULL;
}

static void add_text(struct vl_buf *b, const char *text, size_t n)
{
	vl_buf_add(b, text, n);
	vl_buf_add(b, "", 1);
}

static int add_changes(char *const *before, char *const *after, struct vl_buf *ret, struct vl_err *err)
{
	for (char *const *e = after; *e; e++) {
		const char *was = find(before, *e, strcspn(*e, "="));
		if (!was || !vl_streq(was, *e))
			add_text(ret, *e, strlen(*e));
	}
	for (char *const *e = before; *e; e++) {
		size_t n = strcspn(*e, "=");
		if (!find(after, *e, n))
			add_text(ret, *e, n);
	}
	if (ret->len > CTR_CHANGES_MAX)
		return vl_fail(err, E2BIG, "the image's environment is larger than %u bytes", CTR_CHANGES_MAX);
	return 0;
}

/* All that the descriptor gives, as words that end in NUL. */
static int read_words(int fd, struct vl_strv *ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	char piece[4096];
	ssize_t n;

	while ((n = read(fd, piece, sizeof piece)) != 0) {
		if (n < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot read the image's environment");
		if (n > 0)
			vl_buf_add(&b, piece, (size_t)n);
		if (b.len > 16 * CTR_CHANGES_MAX)
			return vl_fail(err, E2BIG, "the image's environment is larger than %u bytes",
				       16 * CTR_CHANGES_MAX);
	}
	for (size_t at = 0; at < b.len; at += strlen(b.data + at) + 1)
		vl_strv_add(ret, b.data + at);
	return 0;
}

/* The start is `env -0`, through the image's shell: what it prints is the environment. */
static int run_for_environment(const struct plan *p, const struct ctr_start *s, struct vl_strv *ret, struct vl_err *err)
{
	int pipes[2], status = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	VL_CLOSE int from = pipes[0];
	VL_CLOSE int to = pipes[1];
	pid_t pid = fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start a process");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else would end a script that hangs */
		dup2(to, STDOUT_FILENO);          /* not close-on-exec: it is what the program writes to */
		_exit(ctr_exec(p, s, &status, err) < 0);
	}
	vl_closep(&to);
	int r = read_words(from, ret, err);
	vl_closep(&from);
	status = vl_wait(pid);
	if (r == 0 && status)
		return vl_fail(err, EIO, "%s: the image's environment files fail (status %d)", p->image_path, status);
	return r;
}

int ctr_keep_changes(const struct plan *p, const struct ctr_start *s, struct vl_buf *ret, struct vl_err *err)
{
	VL_STRV struct vl_strv printed = { 0 };
	const struct vl_strv *after = &s->env;

	if (!p->environment)
		return 0;
	if (!vl_streq(s->argv.v[0], CTR_PRINT_ENV)) {
		int r = run_for_environment(p, s, &printed, err);
		if (r < 0)
			return r;
		after = &printed;
	}
	return after->n ? add_changes(p->environment, after->v, ret, err) : 0;
}

/* ---- the door ----------------------------------------------------------------------------------- */

/* A byte for each kind of way that says whether there is one, and their descriptors in order. */
int ctr_door_show(const struct ctr_door *door, const struct vl_buf *changes, int sock)
{
	VL_BUF struct vl_buf text = { 0 };
	int fds[CTR_WAYS];
	size_t n = 0;

	for (size_t i = 0; i < CTR_WAYS; i++) {
		char there = door->fd[i] >= 0;
		vl_buf_add(&text, &there, 1);
		if (there)
			fds[n++] = door->fd[i];
	}
	if (changes->len)
		vl_buf_add(&text, changes->data, changes->len);
	return vl_msg_send_fds(sock, VL_MSG_OK, fds, n, text.data, text.len);
}

static bool is_user(int sock, uid_t user)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == user;
}

int ctr_door_accept(int listener, uid_t user)
{
	VL_CLOSE int sock = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	return sock < 0 ? -errno : is_user(sock, user) ? vl_steal_fd(&sock) : -EACCES;
}

/* Who connects wants in: nothing is waited for, so nobody can keep the others waiting. */
static void answer_door(const struct ctr_door *door, const struct vl_buf *changes, int listener, uid_t user)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	poll(&p, 1, -1); /* the listener may be one that does not wait */
	VL_CLOSE int sock = ctr_door_accept(listener, user);

	if (sock >= 0)
		ctr_door_show(door, changes, sock);
}

static void let_go(const struct ctr_door *door, int sock)
{
	int keep[CTR_WAYS + 1] = { sock };
	size_t n = 1;

	for (size_t i = 0; i < CTR_WAYS; i++)
		if (door->fd[i] >= 0)
			keep[n++] = door->fd[i];
	vl_close_all_but(keep, n);
}

int ctr_keep(const struct ctr_door *door, const struct vl_buf *changes, int sock, uid_t user, struct vl_err *err)
{
	int listening = 0;
	socklen_t len = sizeof listening;
	enum vl_msg_type type;
	char none;
	int r;

	if (getsockopt(sock, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return vl_fail_sys(err, errno, "the keeper's descriptor %d", sock);
	let_go(door, sock);
	while (listening)
		answer_door(door, changes, sock, user);
	while ((r = vl_msg_recv(sock, &type, &none, 1, NULL)) == 0)
		if (type == VL_MSG_OK)
			ctr_door_show(door, changes, sock);
	return r == -EPIPE ? 0 : vl_fail_sys(err, -r, "the keeper cannot hear");
}
