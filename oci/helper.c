/* Credential helpers: programs docker-credential-NAME that keep passwords in a keyring. They get a clean set of
 * descriptors, a limit in time and in output, and what they print never reaches a message. */
#include "auth.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* The name comes from a file: it must not lead out of $PATH. */
static bool good_name(const char *name)
{
	size_t n = strlen(name);

	return n && n <= 64 && *name != '.' && *name != '-' &&
	       n == strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
}

static void child(char *file, const char *verb, int in, int out, pid_t parent)
{
	char *argv[] = { file, (char *)verb, NULL };
	sigset_t none;
	int null = vl_move_fd_above_stdio(open("/dev/null", O_WRONLY | O_CLOEXEC));

	/* it holds passwords: it does not outlive who asked. The group is for what it starts itself. */
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(126);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (null < 0 || dup2(in, 0) < 0 /* not close-on-exec: the helper's own three */ ||
	    dup2(out, 1) < 0 /* not close-on-exec: as above */ || dup2(null, 2) < 0 /* not close-on-exec: as above */)
		_exit(126);
	close_range(3, ~0u, 0);
	execv(file, argv);
	_exit(127);
}

/* Up to the end of the output. buf has OCI_HELPER_MAX bytes. */
static int read_output(int fd, char *buf, const char *program, struct vl_err *err)
{
	int64_t end = vl_now_ms() + OCI_HELPER_SECONDS * 1000;
	size_t n = 0;

	while (true) {
		struct pollfd p = { fd, POLLIN, 0 };
		int64_t left = end - vl_now_ms();
		int ready = left > 0 ? poll(&p, 1, (int)left) : 0;
		if (ready == 0)
			return vl_fail(err, ETIMEDOUT, "%s gave no answer in %d seconds", program, OCI_HELPER_SECONDS);
		ssize_t r = ready < 0 ? -1 : read(fd, buf + n, OCI_HELPER_MAX - n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return vl_fail_sys(err, errno, "cannot read what %s prints", program);
		if (r == 0)
			return 0;
		n += (size_t)r;
		if (n == OCI_HELPER_MAX)
			return vl_fail(err, EFBIG, "%s prints over %u bytes", program, OCI_HELPER_MAX);
	}
}

/* The input is in the pipe before the helper runs: one that does not read it cannot make us wait. */
static int fill_pipe(const char *input, int *ret_read, struct vl_err *err)
{
	int p[2];
	size_t n = strlen(input);

	if (pipe2(p, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	fcntl(p[1], F_SETFL, O_NONBLOCK);
	ssize_t r = write(p[1], input, n);
	close(p[1]);
	if (r < 0 || (size_t)r != n) {
		close(p[0]);
		return vl_fail(err, E2BIG, "a credential is too long for its helper");
	}
	*ret_read = p[0];
	return 0;
}

static int run(char *file, const char *program, const char *verb, const char *input, char *buf, int *ret_status,
	       struct vl_err *err)
{
	VL_CLOSE int in = -1, out = -1, out_w = -1;
	int p[2], r = fill_pipe(input, &in, err);

	if (r < 0)
		return r;
	if (pipe2(p, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	/* above the three that the child puts in place */
	in = vl_move_fd_above_stdio(vl_steal_fd(&in));
	out = vl_move_fd_above_stdio(p[0]);
	out_w = vl_move_fd_above_stdio(p[1]);
	if (in < 0 || out < 0 || out_w < 0)
		return vl_fail(err, EMFILE, "cannot start %s: no descriptor is free", program);
	pid_t parent = getpid(), pid = fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start %s", program);
	if (pid == 0)
		child(file, verb, in, out_w, parent);
	setpgid(pid, pid); /* whoever comes first: kill needs the group */
	vl_closep(&out_w);
	r = read_output(out, buf, program, err);
	if (r < 0)
		kill(-pid, SIGKILL);
	*ret_status = vl_wait(pid);
	return r;
}

int oci_helper_run(const char *name, const char *verb, const char *input, char **ret_out, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(name, strnlen(name, 64));
	VL_FREE char *program = vl_asprintf("docker-credential-%s", shown);

	if (!good_name(name))
		return vl_fail(err, EINVAL, "'%s' is no name of a credential helper", shown);
	VL_FREE char *file = vl_find_program(program, NULL);
	if (!file)
		return vl_fail(err, EUNATCH,
			       "the credential helper %s is not in $PATH: install it, or take its name "
			       "out of the credential file",
			       program);
	OCI_SECRET char *buf = vl_alloc(OCI_HELPER_MAX + 1);
	int status = 0, r = run(file, program, verb, input, buf, &status, err);
	if (r < 0)
		return r;
	if (status && strstr(buf, "credentials not found"))
		return vl_fail(err, ENOENT, "%s has no such credentials", program);
	if (status)
		return vl_fail(err, EIO, "%s %s failed with status %d: run it by hand to see why", program, verb,
			       status);
	*ret_out = vl_steal(&buf);
	return 0;
}

const char *oci_helper_server(const char *host)
{
	return vl_streq(host, "docker.io") ? "https://index.docker.io/v1/" : host;
}
