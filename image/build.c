/* The conversion in a process of its own: it parses outside data, so it holds no capabilities and
 * can gain none; its death is an error message here, and a signal to us ends it. */
#include "convert.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <vial/sif.h>

struct progress_msg {
	char what[32];
	uint64_t done, total;
};

struct reporter { /* in the child */
	int fd;
	int64_t last_ms;
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
	struct progress_msg m = { .done = done, .total = total };
	int64_t now = now_ms();

	if (now - r->last_ms < 50)
		return;
	r->last_ms = now;
	snprintf(m.what, sizeof m.what, "%s", what);
	vl_msg_send(r->fd, VL_MSG_PROGRESS, &m, sizeof m);
}

static void send_warning(void *arg, const char *text)
{
	struct reporter *r = arg;
	vl_msg_send(r->fd, VL_MSG_WARN, text, VL_MIN(strlen(text) + 1, (size_t)1024));
}

static void child(const struct img_build_opts *o, struct img_source *src, int fd, int sock, bool steps)
{
	struct reporter rep = { .fd = sock };
	struct vl_progress p = { steps ? send_step : NULL, send_warning, &rep };
	struct img_build_stats stats = { 0 };
	struct vl_err err = { 0 };
	int r = 0;

	struct rlimit files;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) { /* a directory takes a descriptor per level */
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	/* A directory is the host's own files, read with the rights of the caller. */
	if (src->oci)
		r = vl_drop_privileges(&err);
	if (r == 0)
		r = img_convert(o, src, fd, &p, &stats, &err);
	if (r < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, &stats, sizeof stats);
}

/* One message of the child. 1: go on; 0: it succeeded. */
static int hear(int sock, const struct vl_progress *progress, struct img_build_stats *ret, struct vl_err *err)
{
	union {
		struct progress_msg progress;
		struct img_build_stats stats;
		struct vl_err err;
		char text[1025];
	} m;
	enum vl_msg_type type;
	size_t n;
	int r = vl_msg_recv(sock, &type, &m, sizeof m, &n);

	if (r == -EPIPE)
		return vl_fail(err, EPIPE,
			       "the converting process died; the image may be built to break it, or memory ran out");
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot hear from the converting process");
	switch (type) {
	case VL_MSG_OK:
		*ret = m.stats;
		return 0;
	case VL_MSG_ERR:
		m.err.text[sizeof m.err.text - 1] = 0;
		*err = m.err;
		return err->code > 0 ? -err->code : -EIO;
	case VL_MSG_PROGRESS:
		vl_progress_step(progress, "Converting", m.progress.done, m.progress.total);
		return 1;
	case VL_MSG_WARN:
		m.text[VL_MIN(n, sizeof m.text - 1)] = 0;
		vl_progress_warn(progress, "%s", m.text);
		return 1;
	default:
		return 1;
	}
}

static int follow(int sock, int sigfd, const struct vl_progress *progress, struct img_build_stats *ret,
		  struct vl_err *err)
{
	struct pollfd fds[] = { { sock, POLLIN, 0 }, { sigfd, POLLIN, 0 } };

	for (;;) {
		if (poll(fds, VL_COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return vl_fail_sys(err, errno, "cannot wait for the converting process");
		}
		if (fds[1].revents) {
			struct signalfd_siginfo si = { 0 };
			/* read, or it would be delivered as soon as it is unblocked */
			ret->signal = read(sigfd, &si, sizeof si) == sizeof si ? (int)si.ssi_signo : SIGTERM;
			return vl_fail(err, EINTR, "interrupted; nothing was written");
		}
		if (fds[0].revents) {
			int r = hear(sock, progress, ret, err);
			if (r <= 0)
				return r;
		}
	}
}

static int run_child(const struct img_build_opts *o, struct img_source *src, int fd, const struct vl_progress *progress,
		     struct img_build_stats *ret, struct vl_err *err)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	sigset_t ours, before;
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	sigemptyset(&ours);
	for (size_t i = 0; i < VL_COUNT(signals); i++) {
		struct sigaction sa;
		if (sigaction(signals[i], NULL, &sa) == 0 && sa.sa_handler != SIG_IGN) /* nohup stays nohup */
			sigaddset(&ours, signals[i]);
	}
	pthread_sigmask(SIG_BLOCK, &ours, &before);
	VL_CLOSE int sigfd = signalfd(-1, &ours, SFD_CLOEXEC);
	pid_t pid = sigfd < 0 ? -1 : fork();
	if (pid == 0) {
		close(pair[0]);
		/* stays blocked here: the parent decides, so that one Ctrl-C is one message */
		child(o, src, fd, pair[1], progress && progress->step);
		_exit(0);
	}
	close(pair[1]);
	if (pid < 0) {
		r = vl_fail_sys(err, errno, "cannot start the converting process");
	} else {
		r = follow(pair[0], sigfd, progress, ret, err);
		if (r < 0)
			kill(pid, SIGKILL);
		vl_wait(pid);
	}
	close(pair[0]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

static int check(struct img_build_opts *o, struct vl_err *err)
{
	if (!o->arch)
		o->arch = sif_host_arch();
	if (!sif_arch_code(o->arch))
		return vl_fail(err, EINVAL,
			       "the architecture '%s' is not known; SIF has amd64, arm64, ppc64le, riscv64 and others",
			       o->arch);
	if (!o->block_size)
		o->block_size = IMG_DEFAULT_BLOCK_SIZE;
	if (o->block_size < 4096 || o->block_size > 1 << 20 || o->block_size & (o->block_size - 1))
		return vl_fail(err, EINVAL, "the block size must be a power of two from 4096 to 1048576, not %u",
			       o->block_size);
	if (!o->threads)
		o->threads = vl_cpu_count();
	if (!o->max_size)
		o->max_size = IMG_DEFAULT_MAX_SIZE;
	return 0;
}

int img_build(const struct img_build_opts *opts, int fd, const struct vl_progress *progress,
	      struct img_build_stats *ret, struct vl_err *err)
{
	VL_CLEANUP(img_source_free) struct img_source src = { .dirfd = -1 };
	struct img_build_opts o = *opts;
	int r;

	if ((r = check(&o, err)) < 0 || (r = img_source_open(o.source, &src, err)) < 0)
		return r;
	return run_child(&o, &src, fd, progress, ret, err);
}
