#include "check.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <vial/base.h>

TEST(messages_keep_their_borders)
{
	int fd[2];
	char text[16];
	size_t n;
	enum vl_msg_type type;
	struct vl_err err = { 0 };

	CHECK_EQ(vl_msg_pair(fd, &err), 0);
	CHECK(fcntl(fd[0], F_GETFD) & FD_CLOEXEC && fcntl(fd[1], F_GETFD) & FD_CLOEXEC);
	CHECK_EQ(vl_msg_send(fd[0], VL_MSG_WARN, "abc", 3), 0);
	CHECK_EQ(vl_msg_send(fd[0], VL_MSG_OK, NULL, 0), 0);
	CHECK_EQ(vl_msg_recv(fd[1], &type, text, sizeof text, &n), 0);
	CHECK_EQ(type, VL_MSG_WARN);
	CHECK_EQ(n, 3);
	CHECK_MEM(text, "abc", 3);
	CHECK_EQ(vl_msg_recv(fd[1], &type, text, sizeof text, &n), 0);
	CHECK_EQ(type, VL_MSG_OK);
	CHECK_EQ(n, 0);
	close(fd[0]);
	CHECK_EQ(vl_msg_recv(fd[1], &type, text, sizeof text, &n), -EPIPE);
	CHECK_EQ(vl_msg_send(fd[1], VL_MSG_OK, NULL, 0), -EPIPE); /* and no SIGPIPE */
	close(fd[1]);
}

TEST(a_childs_error_becomes_ours)
{
	int fd[2];
	struct vl_err err = { 0 };

	CHECK_EQ(vl_msg_pair(fd, &err), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct vl_err e = { 0 };
		vl_fail_sys(&e, EACCES, "cannot mount %s", "x.sif");
		_exit(vl_msg_send_err(fd[1], &e) < 0);
	}
	close(fd[1]);
	CHECK_EQ(vl_msg_wait_ok(fd[0], "the helper", &err), -EACCES);
	CHECK_STR(err.text, "cannot mount x.sif: Permission denied");
	CHECK_EQ(vl_wait(pid), 0);
	CHECK_EQ(vl_msg_wait_ok(fd[0], "the helper", &err), -EPIPE);
	CHECK_STR(err.text, "the helper ended before it was ready");
	close(fd[0]);
}

TEST(a_garbled_message_is_an_error)
{
	int fd[2];
	struct vl_err err = { 0 };

	CHECK_EQ(vl_msg_pair(fd, &err), 0);
	CHECK_EQ(vl_msg_send(fd[0], VL_MSG_ERR, "short", 5), 0);
	CHECK_EQ(vl_msg_wait_ok(fd[1], "the helper", &err), -EPROTO);
	CHECK_EQ(vl_msg_send(fd[0], VL_MSG_PROGRESS, NULL, 0), 0);
	CHECK_EQ(vl_msg_wait_ok(fd[1], "the helper", &err), -EPROTO);
	CHECK_EQ(vl_msg_send(fd[0], VL_MSG_OK, NULL, 0), 0);
	CHECK_EQ(vl_msg_wait_ok(fd[1], "the helper", &err), 0);
	close(fd[0]);
	close(fd[1]);
}

TEST(wait_tells_status_and_signal)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(7);
	CHECK_EQ(vl_wait(pid), 7);
	pid = fork();
	if (pid == 0) {
		kill(getpid(), SIGTERM);
		_exit(0);
	}
	CHECK_EQ(vl_wait(pid), 128 + SIGTERM);
}

TEST(cpu_count_obeys_affinity)
{
	cpu_set_t set;

	CHECK_EQ(sched_getaffinity(0, sizeof set, &set), 0);
	CHECK(vl_cpu_count() >= 1 && vl_cpu_count() <= (unsigned)CPU_COUNT(&set));
	int one = 0;
	while (!CPU_ISSET(one, &set))
		one++;
	CPU_ZERO(&set);
	CPU_SET(one, &set);
	CHECK_EQ(sched_setaffinity(0, sizeof set, &set), 0);
	CHECK_EQ(vl_cpu_count(), 1);
}

TEST(dropped_privileges_are_gone)
{
	struct vl_err err = { 0 };

	CHECK_EQ(vl_drop_privileges(&err), 0);
	/* /proc files have size 0: read by hand */
	int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	char text[8192] = "";
	CHECK(read(fd, text, sizeof text - 1) > 0);
	close(fd);
	CHECK_HAS(text, "CapPrm:\t0000000000000000");
	CHECK_HAS(text, "CapEff:\t0000000000000000");
	CHECK_HAS(text, "CapInh:\t0000000000000000");
	CHECK_HAS(text, "CapAmb:\t0000000000000000");
	CHECK_EQ(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0), 1);
	if (geteuid() == 0) /* the unprivileged cannot empty the bounding set, and need not */
		CHECK_HAS(text, "CapBnd:\t0000000000000000");
}

static char *logged(const struct vl_log *like, enum vl_level level, const char *text)
{
	int fd[2];
	char out[256] = "";
	struct vl_log l = *like;

	CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
	l.fd = fd[1];
	vl_logf(&l, level, "%s", text);
	close(fd[1]);
	CHECK(read(fd[0], out, sizeof out - 1) >= 0);
	close(fd[0]);
	return vl_strdup(out);
}

/* Where a user has mounted something over /dev: else who waits for the end of our output waits for ours. */
TEST(standard_descriptors_are_given_up_without_dev_null)
{
	struct stat was, is;
	char c;

	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		if (unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS : CLONE_NEWNS) < 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("none", "/dev", "tmpfs", 0, NULL) < 0)
			_exit(77);
		int said = fstat(2, &was), keep = fcntl(2, F_DUPFD_CLOEXEC, 10);
		vl_close_all_but(&keep, 1);
		bool gone = said == 0 && fstat(2, &is) == 0 && (is.st_ino != was.st_ino || is.st_dev != was.st_dev);
		_exit(!(gone && write(2, "x", 1) < 0 && read(0, &c, 1) < 0));
	}
	int status = vl_wait(pid);
	if (status != 77) /* no namespaces here */
		CHECK_EQ(status, 0);
}

struct program {
	int out;
	const char *path;
	int called; /* the caller's memory is theirs until they are programs */
};

static void become(void *arg)
{
	struct program *p = arg;
	char *argv[] = { (char *)"sh", (char *)"-c",
			 (char *)"read -r _ _ _ _ _ session _ </proc/self/stat; echo $PPID $session", NULL };

	p->called++;
	dup2(p->out, STDOUT_FILENO);
	execv(p->path, argv);
	(void)!write(p->out, "not run", 7);
}

static char *said_apart(struct program *p)
{
	struct vl_buf out = { 0 };
	int fd[2];

	CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
	p->out = fd[1];
	CHECK_EQ(vl_exec_apart(become, p), 0);
	close(fd[1]);
	vl_read_pipe(fd[0], 256, &out);
	close(fd[0]);
	return out.data;
}

TEST(a_program_is_started_apart)
{
	struct program sh = { .path = "/bin/sh" }, none = { .path = "/nowhere/sh" };
	VL_FREE char *said = said_apart(&sh), *not_run = said_apart(&none);
	int parent = 0, session = 0;

	CHECK_EQ(sscanf(said, "%d %d", &parent, &session), 2);
	CHECK(parent != getpid());
	CHECK(session != getsid(0));
	CHECK_STR(not_run, "not run");
	CHECK_EQ(sh.called + none.called, 2);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1); /* no child was left to us */
	CHECK_EQ(errno, ECHILD);
}

TEST(log_lines)
{
	struct vl_log plain = { .level = VL_INFO }, json = { .level = VL_INFO, .json = true },
		      quiet = { .level = VL_ERROR };
	VL_FREE char *a = logged(&plain, VL_WARNING, "x"), *b = logged(&json, VL_FATAL, "a \"b\"\n\\"),
		     *c = logged(&quiet, VL_WARNING, "x"), *d = logged(&plain, VL_DEBUG, "x");
	CHECK_STR(a, "WARNING: x\n");
	CHECK_STR(b, "{\"level\":\"fatal\",\"msg\":\"a \\\"b\\\"\\u000a\\\\\"}\n");
	CHECK_STR(c, "");
	CHECK_STR(d, "");
}

TEST(hashes_are_the_standards)
{
	static const struct {
		const char *algo, *hex;
	} abc[] = {
		/* FIPS 180 examples for "abc" */
		{ "sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "sha224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7" },
		{ "sha512_256", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23" },
	};
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(abc); i++) {
		struct vl_hash *h = NULL;
		uint8_t sum[VL_HASH_MAX];
		char hex[2 * VL_HASH_MAX + 1];
		CHECK_EQ(vl_hash_new(abc[i].algo, &h, &err), 0);
		for (int twice = 0; twice < 2; twice++) { /* final starts afresh */
			vl_hash_update(h, "a", 1);
			vl_hash_update(h, "bc", 2);
			size_t n = vl_hash_final(h, sum);
			CHECK_EQ(n, vl_hash_size(abc[i].algo));
			vl_hex(sum, n, hex);
			CHECK_STR(hex, abc[i].hex);
		}
		vl_hash_free(h);
	}
	struct vl_hash *none = NULL;
	CHECK_EQ(vl_hash_new("md5", &none, &err), -ENOTSUP);
	CHECK_EQ(vl_hash_new("", &none, &err), -ENOTSUP);
	CHECK_EQ(vl_hash_size("sha1"), 0);
	CHECK(none == NULL);
}

TEST(a_descriptor_crosses_with_its_bytes)
{
	struct vl_err err;
	enum vl_msg_type type;
	char text[8];
	size_t n;
	int pair[2], fd = -1;
	VL_CLOSE int file = vl_tmpfile("a test", &err);

	CHECK(file >= 0 && write(file, "inside", 6) == 6);
	CHECK_EQ(vl_msg_pair(pair, &err), 0);
	CHECK_EQ(vl_msg_send_fd(pair[0], file, "name", 5), 0);
	CHECK_EQ(vl_msg_send_fd(pair[0], -1, NULL, 0), 0);
	CHECK_EQ(vl_msg_send_fd(pair[0], file, NULL, 0), 0);
	CHECK_EQ(vl_msg_recv_fd(pair[1], &type, &fd, text, sizeof text, &n), 0);
	CHECK_EQ(type, VL_MSG_FD);
	CHECK_STR(text, "name");
	CHECK(fd >= 0 && fd != file && fcntl(fd, F_GETFD) == FD_CLOEXEC);
	CHECK_EQ(pread(fd, text, 6, 0), 6);
	CHECK(!memcmp(text, "inside", 6));
	close(fd);
	CHECK_EQ(vl_msg_recv_fd(pair[1], &type, &fd, NULL, 0, &n), 0);
	CHECK_EQ(fd, -1);
	/* nobody asked for it: it must not stay open, so the next free number stays the same */
	int next = dup(0);
	close(next);
	CHECK_EQ(vl_msg_recv(pair[1], &type, NULL, 0, &n), 0);
	fd = dup(0);
	CHECK_EQ(fd, next);
	close(fd);
	close(pair[0]);
	close(pair[1]);
}

TEST(copies_are_whole_and_sparse_or_not_the_same)
{
	struct vl_err err;
	VL_CLOSE int from = vl_tmpfile("a test", &err), to = vl_tmpfile("a test", &err);
	char a[5] = "head", b[5] = "tail", got[5];
	struct stat st;

	CHECK(from >= 0 && to >= 0);
	CHECK_EQ(pwrite(from, a, 5, 0), 5);
	CHECK_EQ(pwrite(from, b, 5, 3 << 20), 5);
	CHECK_EQ(vl_copy_file(from, to, "it", &err), 0);
	CHECK(fstat(to, &st) == 0 && st.st_size == (3 << 20) + 5);
	CHECK(pread(to, got, 5, 0) == 5 && !memcmp(got, a, 5));
	CHECK(pread(to, got, 5, 3 << 20) == 5 && !memcmp(got, b, 5));
}
