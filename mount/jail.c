/* What is left of the kernel for a process that parses an image: a filter of system calls, in force from
 * before its first byte is read until the end. Whoever breaks the parser can read and write what is open
 * (the image, the FUSE device, the control socket) and nothing else. */
#include "squash.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#endif

/* A sanitizer maps, opens and writes what it likes; its builds are for tests and have no filter. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#undef ARCH
#endif
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#undef ARCH
#endif
#endif

#ifdef ARCH

/* Whatever the arguments. The busiest first; old names are missing on young architectures. */
static const unsigned allowed[] = {
	SYS_read,
	SYS_writev,
	SYS_futex,
	SYS_pread64,
	SYS_preadv,
	SYS_preadv2,
	SYS_write,
	SYS_ppoll,
#ifdef SYS_poll
	SYS_poll,
#endif
	/* the control socket, and the one that comes with each question */
	SYS_recvmsg,
	SYS_sendmsg,
	SYS_close,
	/* malloc and threads of the C library */
	SYS_brk,
	SYS_munmap,
	SYS_mremap,
	SYS_madvise,
	SYS_set_robust_list,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_rt_sigreturn,
	SYS_restart_syscall,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_getcpu,
	SYS_gettid,
	SYS_getpid,
	SYS_getrandom,
	SYS_exit,
	SYS_exit_group,
#ifdef SYS_rseq
	SYS_rseq,
#endif
	/* where the vDSO has no clock */
	SYS_clock_gettime,
	SYS_gettimeofday,
	SYS_getrusage,
#ifdef SYS_time
	SYS_time,
#endif
};

#ifdef __s390x__ /* clone: stack first */
#define CLONE_FLAGS 1
#else
#define CLONE_FLAGS 0
#endif
/* The low half of an argument; what is tested here has no bit in the upper one. */
#define ARG(n)                                                                                                         \
	((uint32_t)(offsetof(struct seccomp_data, args) + (n)*8 + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)))
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offset))
#define END(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define IF_EQUAL(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), (yes), (no))
#define IF_BITS(k, yes, no) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(k), (yes), (no))
/* Unless it is that call go on behind these; else the bits of the argument decide. */
#define CALL_WITH_BITS(call, arg, bits, with, without)                                                                 \
	IF_EQUAL(call, 0, 4), LOAD(ARG(arg)), IF_BITS(bits, 0, 1), END(with), END(without)
/* The same, and the argument must be that. */
#define CALL_OF(call, arg, value, with, without)                                                                       \
	IF_EQUAL(call, 0, 4), LOAD(ARG(arg)), IF_EQUAL(value, 0, 1), END(with), END(without)

static const struct sock_filter head[] = {
	LOAD(offsetof(struct seccomp_data, arch)),
	IF_EQUAL(ARCH, 1, 0),
	END(SECCOMP_RET_KILL_PROCESS),
	LOAD(offsetof(struct seccomp_data, nr)),
};
static const struct sock_filter tail[] = {
	/* memory that can be run never becomes writable, and none is made */
	CALL_WITH_BITS(SYS_mmap, 2, PROT_EXEC, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW),
	CALL_WITH_BITS(SYS_mprotect, 2, PROT_EXEC, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW),
	/* threads, no processes; clone3 has its flags where a filter cannot look: glibc then uses clone */
	CALL_WITH_BITS(SYS_clone, CLONE_FLAGS, CLONE_THREAD, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS),
	/* where this thread runs, not where others do */
	CALL_OF(SYS_sched_setaffinity, 0, 0, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS),
	IF_EQUAL(SYS_clone3, 0, 1),
	END(SECCOMP_RET_ERRNO | ENOSYS),
	END(SECCOMP_RET_KILL_PROCESS),
};

static size_t add(struct sock_filter *to, size_t n, const struct sock_filter *from, size_t count)
{
	memcpy(to + n, from, count * sizeof *from);
	return n + count;
}

int vmnt_jail(struct vl_err *err)
{
	struct sock_filter f[VL_COUNT(head) + 2 * VL_COUNT(allowed) + VL_COUNT(tail)];
	size_t n = add(f, 0, head, VL_COUNT(head));

	for (size_t i = 0; i < VL_COUNT(allowed); i++) {
		const struct sock_filter one[] = { IF_EQUAL(allowed[i], 0, 1), END(SECCOMP_RET_ALLOW) };
		n = add(f, n, one, VL_COUNT(one));
	}
	n = add(f, n, tail, VL_COUNT(tail));
	struct sock_fprog prog = { (unsigned short)n, f };
	/* EINVAL, ENOSYS: a kernel without filters. The image is served nevertheless; SECURITY.md says so */
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0 && errno != EINVAL &&
	    errno != ENOSYS)
		return vl_fail_sys(err, errno, "cannot restrict the image server");
	return 0;
}

bool vmnt_jail_works(void)
{
	return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0;
}

#else

int vmnt_jail(struct vl_err *err)
{
	(void)err;
	return 0;
}

bool vmnt_jail_works(void)
{
	return false;
}

#endif
