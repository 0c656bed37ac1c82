#include "rootless.h"

#include <sys/capability.h>
#include <sys/prctl.h>

/* What uid 0 of the namespace keeps: power over files and ids that are mapped, not over the
 * kernel. Mounting, tracing, networks and devices are left behind. */
static const cap_value_t kept[] = {
	CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,  CAP_FOWNER,  CAP_FSETID,    CAP_KILL, CAP_SETGID,
	CAP_SETUID, CAP_SETPCAP,      CAP_NET_BIND_SERVICE, CAP_SETFCAP, CAP_SYS_CHROOT /* the last: see below */
};

static bool is_kept(cap_value_t c, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (kept[i] == c)
			return true;
	return false;
}

int ctr_reduce_caps(bool may_chroot, struct vl_err *err)
{
	int n = (int)VL_COUNT(kept) - !may_chroot;

	if (geteuid() != 0)
		return vl_drop_privileges(err);
	for (cap_value_t c = 0;; c++) {
		if (is_kept(c, (size_t)n) || cap_drop_bound(c) == 0)
			continue;
		if (errno == EINVAL) /* there are no more; asking first would be a call for each */
			break;
		return vl_fail_sys(err, errno, "cannot drop capability %d", c);
	}
	cap_t caps = cap_init();
	int r = !caps || cap_set_flag(caps, CAP_PERMITTED, n, kept, CAP_SET) < 0 ||
		cap_set_flag(caps, CAP_EFFECTIVE, n, kept, CAP_SET) < 0 || cap_set_proc(caps) < 0 ||
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0;
	int e = errno;
	cap_free(caps);
	return r ? vl_fail_sys(err, e, "cannot reduce capabilities") : 0;
}
