/* A container that stays while others come in: of a job step, of an instance. */
#include "instance.h"
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

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

#define ENV_MAX (16 * CTR_CHANGES_MAX)

/* Reads what there is. 1: there may be more later; 0: there will not. */
static int read_some(int fd, struct vl_buf *b, struct vl_err *err)
{
	char piece[4096];
	ssize_t n;

	while ((n = read(fd, piece, sizeof piece)) != 0) {
		if (n < 0 && errno == EAGAIN)
			return 1;
		if (n < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot read the image's environment");
		if (n > 0)
			vl_buf_add(b, piece, (size_t)n);
		if (b->len > ENV_MAX)
			return vl_fail(err, E2BIG, "the image's environment is larger than %u bytes", ENV_MAX);
	}
	return 0;
}

/* All that a process writes, as words that end in NUL. It may leave others behind that have the descriptor too: when it
 * has ended, `ended` can be read, -1 = no such. */
static int read_words(int fd, int ended, struct vl_strv *ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = ended, .events = POLLIN } };
	int r = 1;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	for (bool over = false; r == 1 && !over;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot wait for the image's environment");
		over = p[1].revents;
		r = read_some(fd, &b, err);
	}
	for (size_t at = 0; at < b.len; at += strlen(b.data + at) + 1)
		vl_strv_add(ret, b.data + at);
	return VL_MIN(r, 0);
}

/* ---- the image's entrypoint ------------------------------------------------------------------- */

/* What an entrypoint writes is not the environment, and the step's output is not for it. */
static void become_entrypoint(const struct plan *p, const struct ctr_start *s, int to)
{
	int null = vl_open_null(), status = 0;
	struct vl_err err = { 0 };

	dup2(null, STDIN_FILENO);                                      /* not close-on-exec: its input */
	dup2(p->entrypoint_log ? STDERR_FILENO : null, STDOUT_FILENO); /* not close-on-exec: its output */
	if (!p->entrypoint_log)
		dup2(null, STDERR_FILENO); /* not close-on-exec: its errors */
	dup2(to, CTR_ENTRY_FD);            /* not close-on-exec: where its command prints to */
	ctr_exec(p, s, &status, &err);
	_exit(status ? status : 1);
}

/* Has a process group with the entrypoint and what that starts, says how it ended, and stays until the keeper is gone,
 * by whatever: then it ends them all. */
static void guard(const struct plan *p, const struct ctr_start *s, int to, int sock)
{
	setpgid(0, 0);
	pid_t pid = fork();
	if (pid == 0)
		become_entrypoint(p, s, to);
	vl_close_all_but(&sock, 1);
	if (pid < 0)
		_exit(1);
	struct pollfd l[] = { { .fd = sock, .events = POLLIN },
			      { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN } };
	while (!l[0].revents) {
		poll(l, 2, -1);
		if (l[1].revents) {
			int status = vl_wait(pid);
			vl_msg_send(sock, VL_MSG_OK, &status, sizeof status);
			vl_closep(&l[1].fd);
		}
	}
	kill(0, SIGKILL);
}

static int run_entrypoint(const struct plan *p, const struct ctr_start *s, struct vl_strv *ret, int *ret_guard,
			  struct vl_err *err)
{
	int pipes[2], pair[2], status = 0;
	enum vl_msg_type type;
	size_t n = 0;

	if (pipe2(pipes, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	VL_CLOSE int from = pipes[0];
	VL_CLOSE int to = pipes[1];
	if (vl_msg_pair(pair, err) < 0)
		return -err->code;
	VL_CLOSE int ours = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	pid_t pid = fork();
	if (pid == 0)
		guard(p, s, to, theirs);
	vl_closep(&to);
	vl_closep(&theirs);
	int r = pid < 0 ? vl_fail_sys(err, errno, "cannot start a process") : read_words(from, ours, ret, err);
	if (r == 0 && (vl_msg_recv(ours, &type, &status, sizeof status, &n) < 0 || n != sizeof status))
		return vl_fail(err, EIO, "%s: the process that runs the image's entrypoint is gone", p->image_path);
	if (r == 0 && (status || !ret->n))
		return vl_fail(err, EIO,
			       "%s: the image's entrypoint ends with status %d and %s its command; see "
			       "--container-entrypoint-log",
			       p->image_path, status, ret->n ? "has started" : "has not started");
	*ret_guard = vl_steal_fd(&ours);
	return r;
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
	int r = read_words(from, -1, ret, err);
	vl_closep(&from);
	status = vl_wait(pid);
	if (r == 0 && status)
		return vl_fail(err, EIO, "%s: the image's environment files fail (status %d)", p->image_path, status);
	return r;
}

int ctr_keep_changes(const struct plan *p, const struct ctr_start *s, struct vl_buf *ret, int *ret_guard,
		     struct vl_err *err)
{
	VL_STRV struct vl_strv printed = { 0 };
	const struct vl_strv *after = &s->env;

	if (!p->environment)
		return 0;
	if (p->entrypoint || !vl_streq(s->argv.v[0], CTR_PRINT_ENV)) {
		int r = p->entrypoint ? run_entrypoint(p, s, &printed, ret_guard, err)
				      : run_for_environment(p, s, &printed, err);
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

static void let_go(const struct ctr_door *door, const struct ctr_lines *l)
{
	int keep[CTR_WAYS + 3] = { l->sock };
	size_t n = 1;

	if (l->door >= 0)
		keep[n++] = l->door;
	if (l->guard >= 0)
		keep[n++] = l->guard;
	for (size_t i = 0; i < CTR_WAYS; i++)
		if (door->fd[i] >= 0)
			keep[n++] = door->fd[i];
	vl_close_all_but(keep, n);
}

/* ---- the line ------------------------------------------------------------------------------------ */

struct line {
	int sock;
	bool ends; /* it was said that it will, and that all is well */
	int *own; /* mount namespaces that tasks have made for themselves. Open: the number of one could be another's soon */
	size_t n_own;
};

static void free_line(struct line *l)
{
	for (size_t i = 0; i < l->n_own; i++)
		close(l->own[i]);
	vl_freep(&l->own);
}

/* On the one end of a pair. 0: what was said is done. */
static int hear_line(struct line *l, const struct ctr_door *door, const struct vl_buf *changes)
{
	enum vl_msg_type type;
	char none;
	int fd = -1, r = vl_msg_recv_fd(l->sock, &type, &fd, &none, 1, NULL);

	if (r == -ECONNRESET) /* it was closed with an answer unread; what it said before comes next */
		return 0;
	if (r == 0 && type == VL_MSG_OK)
		ctr_door_show(door, changes, l->sock);
	if (r == 0 && type == VL_MSG_END)
		l->ends = true;
	if (fd >= 0) {
		l->own = vl_realloc(l->own, l->n_own + 1, sizeof *l->own);
		l->own[l->n_own++] = fd;
	}
	return r;
}

/* Who had the container was killed, and ends nobody any more. */
static void end_all(const struct line *l, const struct ctr_door *door)
{
	VL_FREE uint64_t *mnt = vl_alloc((l->n_own + 1) * sizeof *mnt);
	size_t n = 0;
	struct stat st;

	for (size_t i = 0; i <= l->n_own; i++)
		if (fstat(i < l->n_own ? l->own[i] : door->fd[CTR_MNT], &st) == 0)
			mnt[n++] = st.st_ino;
	ctr_kill_all(mnt, n);
}

int ctr_keep(const struct ctr_door *door, const struct vl_buf *changes, const struct ctr_lines *l, uid_t user,
	     struct vl_err *err)
{
	int listening = 0;
	socklen_t len = sizeof listening;
	struct pollfd p[] = { { .fd = l->sock, .events = POLLIN }, { .fd = l->door, .events = POLLIN } };
	VL_CLEANUP(free_line) struct line line = { .sock = l->sock };
	int r = 0;

	if (getsockopt(l->sock, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0)
		return vl_fail_sys(err, errno, "the keeper's descriptor %d", l->sock);
	let_go(door, l);
	while (listening)
		answer_door(door, changes, l->sock, user);
	while (r == 0) {
		poll(p, 2, -1);
		if (p[1].revents)
			answer_door(door, changes, l->door, user);
		if (p[0].revents)
			r = hear_line(&line, door, changes);
	}
	if (r != -EPIPE)
		return vl_fail_sys(err, -r, "the keeper cannot hear");
	if (!line.ends)
		end_all(&line, door);
	return 0;
}

/* The same container, in a mount namespace that is another one. */
static int enter_beside(const struct ctr_door *way, struct ctr_door *ret, struct vl_err *err)
{
	struct plan self = { .user = { .uid = geteuid() } };
	VL_CLOSE int spaces = vl_open("/proc/self/ns", O_RDONLY | O_DIRECTORY, 0, err);
	bool pid = false;
	int r = spaces < 0 ? spaces : ctr_enter(way, &pid, err);

	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0)
		return vl_fail_sys(err, errno, "cannot make a mount namespace beside the container's");
	for (size_t i = 0; i < CTR_WAYS; i++)
		if (way->fd[i] >= 0 && i != CTR_MNT && i != CTR_ROOT)
			ret->fd[i] = fcntl(way->fd[i], F_DUPFD_CLOEXEC, 3);
	ret->fd[CTR_MNT] = vl_move_fd_above_stdio(openat(spaces, "mnt", O_RDONLY | O_CLOEXEC));
	ret->fd[CTR_ROOT] = vl_move_fd_above_stdio(open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
	for (size_t i = 0; i < CTR_WAYS; i++)
		if (way->fd[i] >= 0 && ret->fd[i] < 0)
			return vl_fail(err, EMFILE, "cannot open the container's namespaces");
	return ctr_reduce_caps(&self, true, err);
}

int ctr_relay(const struct ctr_door *way, const struct vl_strv *words, int sock, int door, struct vl_err *err)
{
	CTR_DOOR struct ctr_door beside = CTR_DOOR_INIT;
	VL_BUF struct vl_buf changes = { 0 };
	int r = enter_beside(way, &beside, err);

	if (r < 0)
		return r;
	uid_t user = geteuid(); /* as it is in there, which is how who comes is seen */
	for (size_t i = 0; i < words->n; i++)
		add_text(&changes, words->v[i], strlen(words->v[i]));
	return ctr_keep(&beside, &changes, &(struct ctr_lines){ sock, door, -1 }, user, err);
}
