#include "child.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>

#define GO_ON 2 /* beside 0, 1 and errors */
#define STEP_MS 50
#define WARNING_MAX 1024

struct step_msg {
	char what[32];
	uint64_t done, total;
};

/* ---- in the child ---- */

struct reporter {
	int sock;
	int64_t last_ms;
	char last[32];
};

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void send_step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct reporter *r = arg;
	struct step_msg m = { .done = done, .total = total };
	int64_t now = now_ms();

	if (now - r->last_ms < STEP_MS && !strncmp(r->last, what, sizeof r->last - 1))
		return;
	r->last_ms = now;
	snprintf(r->last, sizeof r->last, "%s", what);
	memcpy(m.what, r->last, sizeof m.what);
	vl_msg_send(r->sock, VL_MSG_PROGRESS, &m, sizeof m);
}

static void send_warning(void *arg, const char *text)
{
	struct reporter *r = arg;
	vl_msg_send(r->sock, VL_MSG_WARN, text, VL_MIN(strlen(text) + 1, (size_t)WARNING_MAX));
}

static void run_work(const struct img_child *c, int sock, bool steps, pid_t parent)
{
	struct reporter rep = { .sock = sock };
	struct vl_progress p = { .step = steps ? send_step : NULL, .warn = send_warning, .arg = &rep };
	uint8_t result[IMG_RESULT_MAX] = { 0 };
	struct vl_err err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent) /* it died before that */
		_exit(1);
	if (c->work(c->arg, sock, &p, result, &err) < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, result, c->result_size);
}

int img_child_ask(int sock, const void *question, size_t n, int *ret_fd, struct vl_err *err)
{
	enum vl_msg_type type;
	int fd = -1, r = vl_msg_send(sock, VL_MSG_FOUND, question, n);

	if (r == 0)
		r = vl_msg_recv_fd(sock, &type, &fd, NULL, 0, NULL);
	if (r < 0 || fd < 0)
		return vl_fail(err, EPIPE, "the parent process is gone");
	*ret_fd = fd;
	return 0;
}

/* ---- in the parent ---- */

struct parent {
	const struct img_child *c;
	const struct vl_progress *progress;
	int sock, sigfd, pipe;
	sigset_t before; /* the caller's signal mask */
	void *result;
	int *signal;
};

/* An answer may take long, while another process does the work: signals do meanwhile what they do outside. */
static int answer(struct parent *p, const void *question, struct vl_err *err)
{
	sigset_t blocked;
	int fd = -1;

	pthread_sigmask(SIG_SETMASK, &p->before, &blocked);
	int r = p->c->asked(p->c->arg, question, &fd, err);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	if (r != 0)
		return r;
	r = vl_msg_send_fd(p->sock, fd, NULL, 0);
	return r < 0 ? vl_fail_sys(err, -r, "cannot speak to the %s process", p->c->name) : GO_ON;
}

/* One message of the child: GO_ON, or how it ended. */
static int hear(struct parent *p, struct vl_err *err)
{
	union {
		struct step_msg step;
		struct vl_err err;
		uint8_t bytes[IMG_RESULT_MAX];
		char text[WARNING_MAX + 1];
	} m;
	enum vl_msg_type type;
	size_t n;
	int r = vl_msg_recv(p->sock, &type, &m, sizeof m, &n);

	if (r == -EPIPE)
		return vl_fail(err, EPIPE, "the %s process died; the image may be built to break it, or memory ran out",
			       p->c->name);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot hear from the %s process", p->c->name);
	if (type == VL_MSG_OK && n == p->c->result_size) {
		if (n)
			memcpy(p->result, m.bytes, n);
		return 0;
	}
	if (type == VL_MSG_FOUND && p->c->asked && n == p->c->question_size)
		return answer(p, m.bytes, err);
	if (type == VL_MSG_ERR && n == sizeof m.err) {
		m.err.text[sizeof m.err.text - 1] = 0;
		*err = m.err;
		return err->code > 0 ? -err->code : -EIO;
	}
	if (type == VL_MSG_PROGRESS && n == sizeof m.step) {
		m.step.what[sizeof m.step.what - 1] = 0;
		vl_progress_step(p->progress, m.step.what, m.step.done, m.step.total);
		return GO_ON;
	}
	if (type == VL_MSG_WARN) {
		m.text[VL_MIN(n, sizeof m.text - 1)] = 0;
		vl_progress_warn(p->progress, "%s", m.text);
		return GO_ON;
	}
	return vl_fail(err, EPROTO, "the %s process sent a message that makes no sense", p->c->name);
}

/* Some of what the child has written; at its end p->pipe is closed. */
static int take_written(struct parent *p, struct vl_err *err)
{
	sigset_t blocked;
	bool end = false;

	if (!p->c->hold) /* where it goes to may keep us waiting */
		pthread_sigmask(SIG_SETMASK, &p->before, &blocked);
	int r = p->c->written(p->c->arg, p->pipe, &end, err);
	if (!p->c->hold)
		pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	if (end)
		vl_closep(&p->pipe);
	return r < 0 ? r : GO_ON;
}

/* The child has ended, well or not: what it wrote before counts. */
static int drain(struct parent *p, int how, struct vl_err *err)
{
	struct vl_err late = { 0 };

	while (p->pipe >= 0) {
		int r = take_written(p, &late);
		if (r != GO_ON && how == 0) {
			*err = late;
			return r;
		}
		if (r != GO_ON)
			break;
	}
	return how;
}

static int follow(struct parent *p, struct vl_err *err)
{
	for (;;) {
		/* poll passes over a descriptor of -1 */
		struct pollfd fds[] = { { p->sock, POLLIN, 0 }, { p->sigfd, POLLIN, 0 }, { p->pipe, POLLIN, 0 } };
		if (poll(fds, VL_COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return vl_fail_sys(err, errno, "cannot wait for the %s process", p->c->name);
		}
		if (fds[1].revents) {
			struct signalfd_siginfo si = { 0 };
			/* read, or it would be delivered as soon as it is unblocked */
			*p->signal = read(p->sigfd, &si, sizeof si) == sizeof si ? (int)si.ssi_signo : SIGTERM;
			return vl_fail(err, EINTR, "interrupted; %s", p->c->interrupted);
		}
		if (fds[2].revents) {
			int r = take_written(p, err);
			if (r != GO_ON)
				return r;
		}
		if (fds[0].revents) {
			int r = hear(p, err);
			if (r != GO_ON)
				return drain(p, r, err);
		}
	}
}

/* INT, TERM and HUP, but those that the caller ignores: nohup stays nohup. */
static void our_signals(sigset_t *ret)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	sigemptyset(ret);
	for (size_t i = 0; i < VL_COUNT(signals); i++) {
		struct sigaction sa;
		if (sigaction(signals[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN)
			sigaddset(ret, signals[i]);
	}
}

int img_child_run(struct img_child *c, const struct vl_progress *progress, void *ret_result, int *ret_signal,
		  struct vl_err *err)
{
	struct parent p = { .c = c, .progress = progress, .result = ret_result, .signal = ret_signal };
	sigset_t ours;
	int ends[2] = { -1, -1 }, pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	if (c->written && pipe2(ends, O_CLOEXEC) < 0) {
		r = vl_fail_sys(err, errno, "cannot make a pipe");
		close(pair[0]);
		close(pair[1]);
		return r;
	}
	p.pipe = ends[0];
	c->pipe = ends[1];
	our_signals(&ours);
	pthread_sigmask(SIG_BLOCK, &ours, &p.before);
	p.sock = pair[0];
	p.sigfd = signalfd(-1, &ours, SFD_CLOEXEC);
	pid_t self = getpid(), pid = p.sigfd < 0 ? -1 : fork();
	if (pid == 0) {
		close(pair[0]);
		vl_closep(&p.pipe);
		/* stays blocked here: the parent decides, so that one Ctrl-C is one message */
		run_work(c, pair[1], progress && progress->step, self);
		_exit(0);
	}
	close(pair[1]);
	vl_closep(&c->pipe);
	if (pid < 0) {
		r = vl_fail_sys(err, errno, "cannot start the %s process", c->name);
	} else {
		r = follow(&p, err);
		if (r != 0)
			kill(pid, SIGKILL);
		vl_wait(pid);
	}
	close(pair[0]);
	vl_closep(&p.pipe);
	vl_closep(&p.sigfd);
	pthread_sigmask(SIG_SETMASK, &p.before, NULL);
	return r;
}

int img_child_gather(const struct img_child *c, int fd, struct vl_buf *to, size_t limit, const char *what,
		     bool *ret_end, struct vl_err *err)
{
	char chunk[16384];
	ssize_t n;

	do
		n = read(fd, chunk, sizeof chunk);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return vl_fail_sys(err, errno, "cannot hear from the %s process", c->name);
	if ((size_t)n > limit - VL_MIN(to->len, limit))
		return vl_fail(err, EFBIG, "%s are larger than the limit of %zu bytes", what, limit);
	vl_buf_add(to, chunk, (size_t)n);
	*ret_end = n == 0;
	return 0;
}
