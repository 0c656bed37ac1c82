/* The push in a process of its own: it parses an image and what a registry answers, so it holds no capabilities and
 * can gain none. */
#include "push.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <time.h>

/* Steps are told by number: the words must outlive the message. */
static const char *const steps[] = { "Uploading", "Hashing", "Exporting", "Reading" };

struct progress_msg {
	uint32_t step;
	uint64_t done, total;
};

struct reporter { /* in the child */
	int fd;
	int64_t last_ms;
	uint32_t last_step;
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

	while (m.step < VL_COUNT(steps) - 1 && !vl_streq(steps[m.step], what))
		m.step++;
	if (now - r->last_ms < 50 && m.step == r->last_step)
		return;
	r->last_ms = now;
	r->last_step = m.step;
	vl_msg_send(r->fd, VL_MSG_PROGRESS, &m, sizeof m);
}

static void send_warning(void *arg, const char *text)
{
	struct reporter *r = arg;
	vl_msg_send(r->fd, VL_MSG_WARN, text, VL_MIN(strlen(text) + 1, (size_t)1024));
}

static void child(struct img_push_job *j, int sock, bool want_steps)
{
	struct reporter rep = { .fd = sock };
	struct vl_progress p = { want_steps ? send_step : NULL, send_warning, &rep };
	struct img_push_stats stats = { 0 };
	struct vl_err err = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int r = vl_drop_privileges(&err);
	if (r == 0)
		r = img_push_send(j, &p, &stats, &err);
	if (r < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, &stats, sizeof stats);
}

/* One message of the child. 1: go on; 0: it succeeded. */
static int hear(int sock, const struct vl_progress *progress, struct img_push_stats *ret, struct vl_err *err)
{
	union {
		struct progress_msg progress;
		struct img_push_stats stats;
		struct vl_err err;
		char text[1025];
	} m;
	enum vl_msg_type type;
	size_t n;
	int r = vl_msg_recv(sock, &type, &m, sizeof m, &n);

	if (r == -EPIPE)
		return vl_fail(err, EPIPE,
			       "the pushing process died; the image may be built to break it, or memory ran out");
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot hear from the pushing process");
	switch (type) {
	case VL_MSG_OK:
		*ret = m.stats;
		return 0;
	case VL_MSG_ERR:
		m.err.text[sizeof m.err.text - 1] = 0;
		*err = m.err;
		return err->code > 0 ? -err->code : -EIO;
	case VL_MSG_PROGRESS:
		vl_progress_step(progress, steps[VL_MIN(m.progress.step, (uint32_t)VL_COUNT(steps) - 1)],
				 m.progress.done, m.progress.total);
		return 1;
	case VL_MSG_WARN:
		m.text[VL_MIN(n, sizeof m.text - 1)] = 0;
		vl_progress_warn(progress, "%s", m.text);
		return 1;
	default:
		return 1;
	}
}

static int follow(int sock, int sigfd, const struct vl_progress *progress, struct img_push_stats *ret,
		  struct vl_err *err)
{
	struct pollfd fds[] = { { sock, POLLIN, 0 }, { sigfd, POLLIN, 0 } };

	for (;;) {
		if (poll(fds, VL_COUNT(fds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return vl_fail_sys(err, errno, "cannot wait for the pushing process");
		}
		if (fds[1].revents) {
			struct signalfd_siginfo si = { 0 };
			/* read, or it would be delivered as soon as it is unblocked */
			ret->signal = read(sigfd, &si, sizeof si) == sizeof si ? (int)si.ssi_signo : SIGTERM;
			return vl_fail(err, EINTR, "interrupted; the registry has the image whole or not at all");
		}
		if (fds[0].revents) {
			int r = hear(sock, progress, ret, err);
			if (r <= 0)
				return r;
		}
	}
}

static int run_child(struct img_push_job *j, const struct vl_progress *progress, struct img_push_stats *ret,
		     struct vl_err *err)
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
		child(j, pair[1], progress && progress->step);
		_exit(0);
	}
	close(pair[1]);
	if (pid < 0) {
		r = vl_fail_sys(err, errno, "cannot start the pushing process");
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

/* ---- what is pushed, and where to ---- */

static void job_free(struct img_push_job *j)
{
	sif_free(&j->sif);
	oci_source_free(j->source);
	oci_client_free(j->from_client);
	oci_client_free(j->client);
	oci_ref_free(&j->from);
	oci_ref_free(&j->target);
	vl_closep(&j->fd);
}

static int read_target(struct img_push_job *j, struct vl_err *err)
{
	const char *t = j->o->target;

	if (!vl_prefix(t, "docker://") && !vl_prefix(t, "oras://"))
		return vl_fail(err, ENOTSUP,
			       "%s: an image can be pushed to docker://HOST/REPO:TAG or oras://HOST/REPO:TAG", t);
	int r = oci_ref_parse(t, &j->target, err);
	if (r < 0)
		return r;
	if (*j->target.digest.algo)
		return vl_fail(err, EINVAL,
			       "%s: the digest of a push is that of the image; name a tag instead, or nothing", t);
	return 0;
}

static int open_source(struct img_push_job *j, const struct vl_progress *progress, struct vl_err *err)
{
	const char *image = j->o->image;
	int r;

	if (j->target.kind == OCI_ORAS)
		return vl_fail(err, ENOTSUP, "%s is no SIF, and only a SIF can be pushed to oras://; build one first",
			       image);
	if (j->from.kind == OCI_DOCKER_ARCHIVE)
		return vl_fail(err, ENOTSUP,
			       "%s: a docker-archive has no manifest that could be pushed; build a SIF of it, or "
			       "`skopeo copy` it to an oci-archive first",
			       image);
	if (j->from.kind != OCI_LAYOUT && j->from.kind != OCI_ARCHIVE && j->from.kind != OCI_REGISTRY)
		return vl_fail(err, ENOTSUP, "%s: what can be pushed is a SIF file, oci:DIR:TAG or oci-archive:FILE",
			       image);
	if (j->from.kind == OCI_REGISTRY &&
	    (r = oci_client_new(j->o->source_net ? j->o->source_net : j->o->net, progress, &j->from_client, err)) < 0)
		return r;
	return oci_source_open(&j->from, j->from_client, NULL, &j->source, err);
}

static int open_image(struct img_push_job *j, const struct vl_progress *progress, struct vl_err *err)
{
	const char *image = j->o->image;
	int r = oci_ref_parse(image, &j->from, err);

	if (r == 0)
		return open_source(j, progress, err);
	if (r != -ENOTSUP)
		return r;
	if ((j->fd = vl_open(image, O_RDONLY | O_NONBLOCK, 0, err)) < 0)
		return j->fd;
	r = sif_load(j->fd, &j->sif, err);
	if (r == -ENOEXEC)
		return vl_fail(err, ENOEXEC, "%s is no SIF image; `vial build` makes one of other images", image);
	if (r < 0)
		return vl_wrap(err, "%s", image);
	j->title = j->o->title ? j->o->title : vl_basename(image);
	return 0;
}

int img_push(const struct img_push_opts *o, const struct vl_progress *progress, struct img_push_stats *ret,
	     struct vl_err *err)
{
	static const struct oci_net defaults = { 0 };
	VL_CLEANUP(job_free) struct img_push_job j = { .fd = -1, .o = o };
	struct img_push_opts mine = *o;
	int r;

	if (!mine.threads)
		mine.threads = vl_cpu_count();
	if (!mine.net)
		mine.net = &defaults;
	j.o = &mine;
	if ((r = read_target(&j, err)) < 0 || (r = open_image(&j, progress, err)) < 0 ||
	    (r = oci_client_new(mine.net, progress, &j.client, err)) < 0)
		return r;
	return run_child(&j, progress, ret, err);
}
