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

#define HEAR_MORE 2 /* beside 0, 1 and errors */

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

/* As many descriptors as we may have: a directory takes one per level, a registry some per layer. */
static void raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

/* Tells the parent what the source is; it answers with the file to write into, or ends us. */
static int ask(const struct img_found *f, int sock, int *ret_fd, struct vl_err *err)
{
	enum vl_msg_type type;
	int fd = -1, r = vl_msg_send(sock, VL_MSG_FOUND, f, sizeof *f);

	if (r == 0)
		r = vl_msg_recv_fd(sock, &type, &fd, NULL, 0, NULL);
	if (r < 0 || fd < 0)
		return vl_fail(err, EPIPE, "the parent process is gone");
	*ret_fd = fd;
	return 0;
}

static int work(const struct img_job *job, struct img_source *src, int sock, const struct vl_progress *p,
		struct img_build_stats *stats, struct vl_err *err)
{
	struct img_found found;
	VL_CLOSE int fd = -1;
	int r;

	/* A directory is the host's own files, read with the rights of the caller. */
	if ((src->kind != IMG_SOURCE_DIR && (r = vl_drop_privileges(err)) < 0) ||
	    (r = img_source_resolve(src, job->o->arch, &found, err)) < 0 || (r = ask(&found, sock, &fd, err)) < 0)
		return r;
	if (found.as_it_is)
		r = img_source_copy(src, fd, p, err);
	else
		r = img_convert(job->o, src, fd, p, stats, err);
	if (r < 0)
		return r;
	struct rusage used;
	if (getrusage(RUSAGE_SELF, &used) == 0)
		stats->peak_memory = (uint64_t)used.ru_maxrss << 10;
	stats->downloaded = src->oci ? oci_source_downloaded(src->oci) : 0;
	memcpy(stats->digest, found.digest, sizeof stats->digest);
	return 0;
}

static void child(const struct img_job *job, struct img_source *src, int sock, bool steps)
{
	struct reporter rep = { .fd = sock };
	struct vl_progress p = { steps ? send_step : NULL, send_warning, &rep };
	struct img_build_stats stats = { 0 };
	struct vl_err err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	raise_file_limit();
	if (work(job, src, sock, &p, &stats, &err) < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, &stats, sizeof stats);
}

/* ---- the parent ---- */

struct parent {
	const struct img_job *job;
	const struct vl_progress *progress;
	int sock, sigfd;
	sigset_t before; /* the caller's signal mask */
};

/* The source is known. Waiting for another process may take long, so signals do meanwhile what they do outside. */
static int answer(struct parent *p, const struct img_found *f, struct vl_err *err)
{
	sigset_t blocked;
	int fd = -1;

	pthread_sigmask(SIG_SETMASK, &p->before, &blocked);
	int r = p->job->found(p->job->arg, f, &fd, err);
	pthread_sigmask(SIG_SETMASK, &blocked, NULL);
	if (r != 0)
		return r;
	r = vl_msg_send_fd(p->sock, fd, NULL, 0);
	return r < 0 ? vl_fail_sys(err, -r, "cannot speak to the converting process") : HEAR_MORE;
}

/* One message of the child. HEAR_MORE, 0: it succeeded, 1: it is not needed. */
static int hear(struct parent *p, struct img_build_stats *ret, struct vl_err *err)
{
	union {
		struct progress_msg progress;
		struct img_build_stats stats;
		struct img_found found;
		struct vl_err err;
		char text[1025];
	} m;
	enum vl_msg_type type;
	size_t n;
	int r = vl_msg_recv(p->sock, &type, &m, sizeof m, &n);

	if (r == -EPIPE)
		return vl_fail(err, EPIPE,
			       "the converting process died; the image may be built to break it, or memory ran out");
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot hear from the converting process");
	switch (type) {
	case VL_MSG_OK:
		*ret = m.stats;
		return 0;
	case VL_MSG_FOUND:
		return answer(p, &m.found, err);
	case VL_MSG_ERR:
		m.err.text[sizeof m.err.text - 1] = 0;
		*err = m.err;
		return err->code > 0 ? -err->code : -EIO;
	case VL_MSG_PROGRESS:
		m.progress.what[sizeof m.progress.what - 1] = 0;
		vl_progress_step(p->progress, m.progress.what, m.progress.done, m.progress.total);
		return HEAR_MORE;
	case VL_MSG_WARN:
		m.text[VL_MIN(n, sizeof m.text - 1)] = 0;
		vl_progress_warn(p->progress, "%s", m.text);
		return HEAR_MORE;
	default:
		return HEAR_MORE;
	}
}

static int follow(struct parent *p, struct img_build_stats *ret, struct vl_err *err)
{
	struct pollfd fds[] = { { p->sock, POLLIN, 0 }, { p->sigfd, POLLIN, 0 } };

	for (;;) {
		if (poll(fds, VL_COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return vl_fail_sys(err, errno, "cannot wait for the converting process");
		}
		if (fds[1].revents) {
			struct signalfd_siginfo si = { 0 };
			/* read, or it would be delivered as soon as it is unblocked */
			ret->signal = read(p->sigfd, &si, sizeof si) == sizeof si ? (int)si.ssi_signo : SIGTERM;
			return vl_fail(err, EINTR, "interrupted; nothing was written");
		}
		if (fds[0].revents) {
			int r = hear(p, ret, err);
			if (r != HEAR_MORE)
				return r;
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

static int run_child(const struct img_job *job, struct img_source *src, const struct vl_progress *progress,
		     struct img_build_stats *ret, struct vl_err *err)
{
	struct parent p = { .job = job, .progress = progress };
	sigset_t ours;
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	our_signals(&ours);
	pthread_sigmask(SIG_BLOCK, &ours, &p.before);
	p.sock = pair[0];
	p.sigfd = signalfd(-1, &ours, SFD_CLOEXEC);
	pid_t pid = p.sigfd < 0 ? -1 : fork();
	if (pid == 0) {
		close(pair[0]);
		/* stays blocked here: the parent decides, so that one Ctrl-C is one message */
		child(job, src, pair[1], progress && progress->step);
		_exit(0);
	}
	close(pair[1]);
	if (pid < 0) {
		r = vl_fail_sys(err, errno, "cannot start the converting process");
	} else {
		r = follow(&p, ret, err);
		if (r != 0)
			kill(pid, SIGKILL);
		vl_wait(pid);
	}
	close(pair[0]);
	vl_closep(&p.sigfd);
	pthread_sigmask(SIG_SETMASK, &p.before, NULL);
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

int img_job_run(const struct img_job *job, const struct vl_progress *progress, struct img_build_stats *ret,
		struct vl_err *err)
{
	VL_CLEANUP(img_source_free) struct img_source src = { .dirfd = -1 };
	struct img_build_opts o = *job->o;
	struct img_job j = *job;
	int r;

	j.o = &o;
	if ((r = check(&o, err)) < 0 || (r = img_source_open(&o, job->blobs, &src, err)) < 0)
		return r;
	return run_child(&j, &src, progress, ret, err);
}

/* Whatever it is, it goes into the caller's file. */
static int take_any(void *arg, const struct img_found *f, int *ret_fd, struct vl_err *err)
{
	(void)f, (void)err;
	*ret_fd = *(int *)arg;
	return 0;
}

int img_build(const struct img_build_opts *opts, int fd, const struct vl_progress *progress,
	      struct img_build_stats *ret, struct vl_err *err)
{
	struct img_job job = { .o = opts, .found = take_any, .arg = &fd };

	return img_job_run(&job, progress, ret, err);
}
