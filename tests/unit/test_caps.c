#include "check.h"

#include "rootless/rootless.h"

#include <sys/capability.h>

TEST(a_second_chroot_is_out_of_reach_where_the_first_was_one)
{
	struct vl_err err = { 0 };
	PLAN struct plan p = PLAN_INIT;

	if (geteuid() != 0) /* a plain user keeps nothing at all */
		return;
	CHECK_EQ(ctr_reduce_caps(&p, true, &err), 0);
	CHECK_EQ(cap_get_bound(CAP_SYS_CHROOT), 1);
	CHECK_EQ(cap_get_bound(CAP_SYS_ADMIN), 0);
	CHECK_EQ(ctr_reduce_caps(&p, false, &err), 0);
	CHECK_EQ(cap_get_bound(CAP_SYS_CHROOT), 0);
	CHECK_EQ(chroot("."), -1);
}
