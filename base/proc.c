#include <vial/base.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

int vl_msg_pair(int ret_fd[2], struct vl_err *err)
{
	/* SEQPACKET keeps message borders, and a dead peer reads as end of file */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fd) < 0)
		return vl_fail_sys(err, errno, "cannot make a socket pair");
	return 0;
}

union fds_control {
	char buf[CMSG_SPACE(VL_MSG_FDS * sizeof(int))];
	struct cmsghdr align;
};

int vl_msg_send_fds(int sock, enum vl_msg_type type, const int *fds, size_t n_fds, const void *p, size_t n)
{
	uint8_t t = (uint8_t)type;
	struct iovec iov[2] = { { &t, 1 }, { (void *)p, n } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n ? 2 : 1 };
	union fds_control c = { { 0 } };
	size_t size = n_fds * sizeof *fds;
	ssize_t r;

	if (n_fds > VL_MSG_FDS)
		return -E2BIG;
	if (n_fds) {
		m.msg_control = c.buf;
		m.msg_controllen = CMSG_SPACE(size);
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(h), fds, size);
	}
	do
		r = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

int vl_msg_send(int fd, enum vl_msg_type type, const void *p, size_t n)
{
	return vl_msg_send_fds(fd, type, NULL, 0, p, n);
}

int vl_msg_send_fd(int sock, int fd, const void *p, size_t n)
{
	return vl_msg_send_fds(sock, VL_MSG_FD, &fd, fd >= 0, p, n);
}

int vl_msg_send_err(int fd, const struct vl_err *e)
{
	return vl_msg_send(fd, VL_MSG_ERR, e, sizeof *e);
}

int vl_msg_recv_fds(int sock, enum vl_msg_type *ret_type, int ret_fds[VL_MSG_FDS], size_t *ret_n, void *p, size_t cap,
		    size_t *ret_len)
{
	uint8_t t = 0;
	union fds_control c;
	struct iovec iov[2] = { { &t, 1 }, { p, cap } };
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = c.buf, .msg_controllen = sizeof c.buf };
	ssize_t r;

	do
		r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return r < 0 ? -errno : -EPIPE;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*ret_n = 0;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS) {
		*ret_n = (h->cmsg_len - CMSG_LEN(0)) / sizeof *ret_fds;
		memcpy(ret_fds, CMSG_DATA(h), *ret_n * sizeof *ret_fds);
	}
	*ret_type = (enum vl_msg_type)t;
	if (ret_len)
		*ret_len = (size_t)r - 1;
	return 0;
}

int vl_msg_recv_fd(int sock, enum vl_msg_type *ret_type, int *ret_fd, void *p, size_t cap, size_t *ret_len)
{
	int fds[VL_MSG_FDS];
	size_t n = 0;
	int r = vl_msg_recv_fds(sock, ret_type, fds, &n, p, cap, ret_len);

	if (r < 0)
		return r;
	for (size_t i = ret_fd ? 1 : 0; i < n; i++)
		close(fds[i]);
	if (ret_fd)
		*ret_fd = n ? fds[0] : -1;
	return 0;
}

int vl_msg_recv(int fd, enum vl_msg_type *ret_type, void *p, size_t cap, size_t *ret_len)
{
	return vl_msg_recv_fd(fd, ret_type, NULL, p, cap, ret_len);
}

int vl_msg_wait_ok(int fd, const char *who, struct vl_err *err)
{
	struct vl_err got = { 0 };
	enum vl_msg_type type = VL_MSG_ERR;
	size_t n = 0;
	int r = vl_msg_recv(fd, &type, &got, sizeof got, &n);

	if (r == -EPIPE)
		return vl_fail(err, EPIPE, "%s ended before it was ready", who);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot hear from %s", who);
	if (type == VL_MSG_OK)
		return 0;
	if (type == VL_MSG_ERR && n == sizeof got) {
		got.text[sizeof got.text - 1] = 0;
		return vl_fail(err, got.code, "%s", got.text);
	}
	return vl_fail(err, EPROTO, "%s sent an unexpected message (type %d)", who, type);
}

void vl_raise_file_limit(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int64_t vl_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t vl_now_ms(void)
{
	return vl_now_ns() / 1000000;
}

int vl_wait(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return 255;
	return WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
}

/* cgroup v2 cpu.max of our own group, rounded up; 0 = no limit. Parents' limits are seen
 * by the kernel anyway: this only avoids starting threads that could never run. */
static unsigned cgroup_cpus(void)
{
	char line[512], path[600], *p;
	unsigned long long quota, period;
	unsigned n = 0;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return 0;
	*path = 0;
	while (fgets(line, sizeof line, f))
		if (!strncmp(line, "0::", 3) && (p = strchr(line, '\n'))) {
			*p = 0;
			snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", line + 3);
		}
	fclose(f);
	f = *path ? fopen(path, "re") : NULL;
	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &quota, &period) == 2 && period)
		n = (unsigned)((quota + period - 1) / period);
	fclose(f);
	return n;
}

unsigned vl_cpu_count(void)
{
	cpu_set_t set;
	unsigned n = 1, quota = cgroup_cpus();

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		n = (unsigned)CPU_COUNT(&set);
	else if (sysconf(_SC_NPROCESSORS_ONLN) > 0)
		n = (unsigned)sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than cpu_set_t holds */
	if (quota && quota < n)
		n = quota;
	return n ? n : 1;
}

int vl_drop_privileges(struct vl_err *err)
{
	/* The bounding set too, where we may: no later exec can win anything back. no_new_privs
	 * does the same for the unprivileged, who may not touch the bounding set. */
	for (cap_value_t c = 0; cap_drop_bound(c) == 0; c++)
		;
	if (errno != EPERM && errno != EINVAL) /* may not; there are no more */
		return vl_fail_sys(err, errno, "cannot drop capabilities");
	cap_t none = cap_init();
	if (!none)
		return vl_fail_sys(err, errno, "cannot make an empty capability set");
	int r = cap_set_proc(none) < 0 ? -errno : 0;
	cap_free(none);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot drop capabilities");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return vl_fail_sys(err, errno, "cannot set no_new_privs");
	return 0;
}
