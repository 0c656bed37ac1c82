#include "rootless.h"

#include <stdio.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#define BIT(c) (UINT64_C(1) << (c))

/* What uid 0 of the namespace keeps: power over files and ids that are mapped, not over the
 * kernel. Mounting, tracing, networks and devices are left behind. */
static const uint64_t usual = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) |
			      BIT(CAP_FSETID) | BIT(CAP_KILL) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) |
			      BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_SETFCAP) | BIT(CAP_SYS_CHROOT);

static uint64_t all_caps(void)
{
	uint64_t all = 0;

	for (cap_value_t c = 0; c < 64 && cap_get_bound(c) >= 0; c++)
		all |= BIT(c);
	return all;
}

static int parse_one(const char *name, uint64_t *ret, struct vl_err *err)
{
	VL_FREE char *with = vl_asprintf("%s%s", strncasecmp(name, "cap_", 4) == 0 ? "" : "cap_", name);
	cap_value_t c;

	if (strcasecmp(name, "all") == 0) {
		*ret |= all_caps();
		return 0;
	}
	if (cap_from_name(with, &c) < 0 || c >= 64 || !(all_caps() & BIT(c))) {
		VL_FREE char *shown = vl_printable(name, strlen(name));
		return vl_fail(err, EINVAL, "'%s' is no capability that this kernel knows; see capabilities(7)", shown);
	}
	*ret |= BIT(c);
	return 0;
}

int ctr_parse_caps(const struct vl_strv *names, uint64_t *ret, struct vl_err *err)
{
	uint64_t got = 0;

	for (size_t i = 0; i < names->n; i++)
		if (parse_one(names->v[i], &got, err) < 0)
			return -EINVAL;
	*ret = got;
	return 0;
}

char *ctr_caps_text(uint64_t caps)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (cap_value_t c = 0; c < 64; c++) {
		char *name = caps & BIT(c) ? cap_to_name(c) : NULL;
		if (name &&
		    strncmp(name, "cap_", 4) == 0) /* a number: newer than the library, unknown to profiles too */
			vl_buf_addf(&b, "%s%s", b.len ? "," : "", name);
		cap_free(name);
	}
	return vl_steal(&b.data);
}

uint64_t ctr_plan_caps(const struct plan *p)
{
	uint64_t start = p->caps == PLAN_CAPS_ALL                        ? all_caps()
			 : p->caps == PLAN_CAPS_NONE || p->user.uid != 0 ? 0
									 : usual;

	return (start | p->add_caps) & ~p->drop_caps;
}

/* Who is not root keeps through an execve only what is ambient. */
static int set_caps(uint64_t want, bool ambient)
{
	cap_t caps = cap_init();
	int r = caps ? 0 : -1;

	for (cap_value_t c = 0; c < 64 && r == 0; c++) {
		if (!(want & BIT(c)))
			continue;
		if (cap_set_flag(caps, CAP_PERMITTED, 1, &c, CAP_SET) < 0 ||
		    cap_set_flag(caps, CAP_EFFECTIVE, 1, &c, CAP_SET) < 0 ||
		    (ambient && cap_set_flag(caps, CAP_INHERITABLE, 1, &c, CAP_SET) < 0))
			r = -1;
	}
	if (r == 0)
		r = cap_set_proc(caps);
	for (cap_value_t c = 0; c < 64 && r == 0 && ambient; c++)
		if (want & BIT(c))
			r = cap_set_ambient(c, CAP_SET);
	int e = errno;
	cap_free(caps);
	errno = e;
	return r;
}

int ctr_keep_caps(void)
{
	return set_caps(all_caps(), true);
}

int ctr_reduce_caps(const struct plan *p, bool may_chroot, struct vl_err *err)
{
	uint64_t want = ctr_plan_caps(p);

	if (!may_chroot && p->add_caps & BIT(CAP_SYS_CHROOT))
		return vl_fail(
			err, EPERM,
			"CAP_SYS_CHROOT cannot be had here: \"/\" of this host cannot be pivoted, so that a second "
			"chroot would lead out of the container");
	if (!may_chroot)
		want &= ~BIT(CAP_SYS_CHROOT);
	if (!want)
		return vl_drop_privileges(err);
	for (cap_value_t c = 0; c < 64; c++) {
		if (want & BIT(c) || cap_drop_bound(c) == 0)
			continue;
		if (errno == EINVAL) /* there are no more; asking first would be a call for each */
			break;
		return vl_fail_sys(err, errno, "cannot drop capability %d", c);
	}
	if (set_caps(want, geteuid() != 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return vl_fail_sys(err, errno, "cannot reduce capabilities");
	return 0;
}
