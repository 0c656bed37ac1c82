#include "rootless.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int ctr_enter_seccomp(const struct plan *p, struct vl_err *err)
{
	struct sock_fprog prog = { (unsigned short)(p->filter_len / sizeof(struct sock_filter)), p->filter };

	if (!p->filter_len)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || /* else a filter takes CAP_SYS_ADMIN */
	    syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) < 0)
		return vl_fail_sys(err, errno, "the kernel does not take the filter of %s", p->seccomp);
	return 0;
}
