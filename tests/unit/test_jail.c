/* The filter of the image server: each forbidden call ends the process, and what it needs goes on. */
#include "check.h"

#include "mount/squash.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* What became of a child that called f in the jail: its wait status. */
static int jailed(void (*f)(void))
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		struct vl_err err = { 0 };
		const struct rlimit none = { 0, 0 };
		setrlimit(RLIMIT_CORE, &none);
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || vmnt_jail(&err) < 0)
			_exit(2);
		f();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return status;
}

#define FORBIDDEN(name, call)                                                                                          \
	static void do_##name(void)                                                                                    \
	{                                                                                                              \
		(void)!(call);                                                                                         \
	}                                                                                                              \
	TEST(forbidden_##name)                                                                                         \
	{                                                                                                              \
		int status = vmnt_jail_works() ? jailed(do_##name) : SIGSYS;                                           \
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);                                              \
	}

FORBIDDEN(open, open("/dev/null", O_RDONLY | O_CLOEXEC))
FORBIDDEN(openat2, syscall(SYS_openat2, AT_FDCWD, ".", NULL, 0))
FORBIDDEN(stat, syscall(SYS_statx, AT_FDCWD, ".", 0, 0, NULL))
FORBIDDEN(socket, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
FORBIDDEN(socketpair, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, NULL))
FORBIDDEN(connect, connect(0, NULL, 0))
FORBIDDEN(execve, execl("/bin/true", "true", (char *)NULL))
FORBIDDEN(execveat, syscall(SYS_execveat, 0, "", NULL, NULL, AT_EMPTY_PATH))
FORBIDDEN(fork, fork())
FORBIDDEN(clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
FORBIDDEN(ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
FORBIDDEN(mount, syscall(SYS_mount, "none", "/", "tmpfs", 0, NULL))
FORBIDDEN(fsopen, syscall(SYS_fsopen, "tmpfs", 0))
FORBIDDEN(unshare, unshare(CLONE_NEWUSER))
FORBIDDEN(setns, setns(0, 0))
FORBIDDEN(kill, kill(getpid(), 0))
FORBIDDEN(setaffinity, syscall(SYS_sched_setaffinity, getppid(), 0, NULL)) /* of another than the caller */
FORBIDDEN(tgkill, syscall(SYS_tgkill, getpid(), getpid(), 0))
FORBIDDEN(ioctl, syscall(SYS_ioctl, 0, 0, 0))
FORBIDDEN(prctl, prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
FORBIDDEN(bpf, syscall(SYS_bpf, 0, NULL, 0))
FORBIDDEN(io_uring, syscall(425, 1, NULL))
FORBIDDEN(process_vm_writev, syscall(SYS_process_vm_writev, getppid(), NULL, 0, NULL, 0, 0))
FORBIDDEN(memfd, memfd_create("x", MFD_CLOEXEC))
FORBIDDEN(map_code, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
FORBIDDEN(make_code, mprotect((void *)((uintptr_t)&do_open & ~4095ul), 4096, PROT_READ | PROT_WRITE | PROT_EXEC))
#ifdef __x86_64__
FORBIDDEN(x32, syscall(0x40000000 + SYS_read, 0, NULL, 0))
#endif

static void *nothing(void *p)
{
	free(malloc(300000));
	return p;
}

static void work(void)
{
	pthread_t t;
	void *got = NULL;
	char b[16];
	struct timespec now;

	if (pthread_create(&t, NULL, nothing, b) != 0 || pthread_join(t, &got) != 0 || got != b)
		_exit(3);
	free(malloc(10u << 20));
	clock_gettime(CLOCK_MONOTONIC, &now);
	sched_setaffinity(0, 0, NULL);
	if (read(-1, b, 1) == 0 || pread(-1, b, 1, 0) == 0 || write(-1, b, 1) == 0 || close(-1) == 0)
		_exit(4);
}

TEST(what_the_server_needs_goes_on)
{
	int status = jailed(work);

	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}
