/* The filter of system calls that a fakeroot without subordinate ids lives under. chown and its kin and the
 * making of devices are answered 0 by the kernel; calls that set or read the ids of a process go to a process that
 * remembers them, since programs which give up root look afterwards whether they have. */
#include "emulate.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define NATIVE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define NATIVE AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE AUDIT_ARCH_PPC64LE
#elif defined(__riscv) && __riscv_xlen == 64
#define NATIVE AUDIT_ARCH_RISCV64
#elif defined(__s390x__)
#define NATIVE AUDIT_ARCH_S390X
#endif

#define DONE (SECCOMP_RET_ERRNO | 0) /* "failed" with error 0, which is success */
#define MAX_FILTER 128
#define LOW (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0) /* where the lower half of an argument lies */

struct filter {
	struct sock_filter v[MAX_FILTER];
	unsigned short n;
};

static void add(struct filter *f, unsigned short code, uint32_t k, unsigned char yes, unsigned char no)
{
	if (f->n < MAX_FILTER)
		f->v[f->n++] = (struct sock_filter)BPF_JUMP(code, k, yes, no);
}

static void load(struct filter *f, size_t offset)
{
	add(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct filter *f, long call, uint32_t action)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
	add(f, BPF_RET | BPF_K, action, 0, 0);
}

/* Devices are not made; pipes, sockets and files are. */
static void answer_mknod(struct filter *f, long call, unsigned mode)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 6);
	load(f, offsetof(struct seccomp_data, args) + mode * sizeof(uint64_t) + LOW);
	add(f, BPF_ALU | BPF_AND | BPF_K, S_IFMT, 0, 0);
	add(f, BPF_JMP | BPF_JEQ | BPF_K, S_IFCHR, 1, 0);
	add(f, BPF_JMP | BPF_JEQ | BPF_K, S_IFBLK, 0, 1);
	add(f, BPF_RET | BPF_K, DONE, 0, 0);
	add(f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

/* After it, who gives up uid 0 may still change ids. */
static void ask_keepcaps(struct filter *f)
{
	add(f, BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 4);
	load(f, offsetof(struct seccomp_data, args) + LOW);
	add(f, BPF_JMP | BPF_JEQ | BPF_K, PR_SET_KEEPCAPS, 0, 1);
	add(f, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF, 0, 0);
	add(f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static const long owners[] = {
#ifdef SYS_chown
	SYS_chown,
	SYS_lchown,
#endif
	SYS_fchown,
	SYS_fchownat,
};
static const long setters[] = {
	SYS_setuid,    SYS_setgid,    SYS_setreuid, SYS_setregid, SYS_setresuid,
	SYS_setresgid, SYS_setgroups, SYS_setfsuid, SYS_setfsgid,
};
static const long getters[] = { SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid };

static void make_filter(struct filter *f, bool listener)
{
#ifdef NATIVE
	load(f, offsetof(struct seccomp_data, arch));
	add(f, BPF_JMP | BPF_JEQ | BPF_K, NATIVE, 1, 0);
	add(f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0); /* other numbers mean other calls */
	load(f, offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < VL_COUNT(owners); i++)
		answer(f, owners[i], DONE);
	for (size_t i = 0; i < VL_COUNT(setters); i++)
		answer(f, setters[i], listener ? SECCOMP_RET_USER_NOTIF : DONE);
	for (size_t i = 0; listener && i < VL_COUNT(getters); i++)
		answer(f, getters[i], SECCOMP_RET_USER_NOTIF);
	if (listener)
		ask_keepcaps(f);
#ifdef SYS_mknod
	answer_mknod(f, SYS_mknod, 1);
#endif
	answer_mknod(f, SYS_mknodat, 2);
#else
	(void)owners, (void)setters, (void)getters, (void)listener, (void)answer, (void)answer_mknod,
		(void)ask_keepcaps;
#endif
	add(f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
}

static int install(bool listener)
{
	struct filter f = { .n = 0 };

	make_filter(&f, listener);
	struct sock_fprog prog = { .len = f.n, .filter = f.v };
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener ? SECCOMP_FILTER_FLAG_NEW_LISTENER : 0,
			    &prog);
}

int ctr_emulation_enter(struct ctr_emulation *e, struct vl_err *err)
{
	VL_CLOSE int sock = vl_steal_fd(&e->sock);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) /* else a filter takes CAP_SYS_ADMIN */
		return vl_fail_sys(err, errno, "cannot set no_new_privs");
	VL_CLOSE int listener = install(true); /* the kernel makes it close-on-exec */
	if (listener >= 0)
		return vl_msg_send_fd(sock, listener, NULL, 0) < 0
			       ? vl_fail(err, EPIPE, "the process that remembers ids is gone")
			       : 0;
	/* before Linux 5.0, or under a filter that listens already: ids are then answered without memory */
	if (install(false) < 0)
		return vl_fail_sys(err, errno, "cannot load the filter of system calls that --fakeroot needs here");
	return 0;
}
