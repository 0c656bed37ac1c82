/* Who the user is inside, and what the program may do: options to the plan. */
#include "run.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#define FILTER_MAX (4096 * sizeof(struct sock_filter)) /* kernel: BPF_MAXINSNS */

static int set_caps(const struct action_opts *o, struct plan *p, struct vl_err *err)
{
	if (ctr_parse_caps(&o->add_caps, &p->add_caps, err) < 0)
		return vl_wrap(err, "--add-caps");
	if (ctr_parse_caps(&o->drop_caps, &p->drop_caps, err) < 0)
		return vl_wrap(err, "--drop-caps");
	if (o->keep_privs && o->no_privs)
		return vl_fail(err, EINVAL, "--keep-privs and --no-privs contradict each other");
	if (o->keep_privs && p->user.uid != 0)
		return vl_fail(
			err, EPERM,
			"--keep-privs: user %u has no privileges to keep; with --fakeroot he has, or give single ones "
			"with --add-caps",
			p->user.uid);
	if (o->allow_setuid)
		return vl_fail(
			err, EPERM,
			"--allow-setuid: setuid programs of an image gain nothing in any container of vial, which is "
			"started without privileges; --fakeroot makes you root inside");
	p->caps = o->keep_privs ? PLAN_CAPS_ALL : o->no_privs ? PLAN_CAPS_NONE : PLAN_CAPS_USUAL;
	return 0;
}

/* ---- seccomp ------------------------------------------------------------------------------------ */

static void compiler(struct cmd_ctx *c, const struct plan *p, int sock)
{
	VL_FREE char *number = vl_asprintf("%d", sock), *caps = ctr_caps_text(ctr_plan_caps(p));
	char *argv[] = { (char *)c->self, (char *)"seccomp", (char *)"--fd",
			 number,          (char *)"--caps",  caps,
			 (char *)"--",    p->seccomp,        NULL };

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(sock, F_SETFD, 0); /* not close-on-exec: it answers there */
	_exit(cmd_become(c, "vial-image", argv));
}

/* The other program reads profiles: no library for them is loaded by a start, and none by a start without one. */
static int compile(struct cmd_ctx *c, struct plan *p, struct vl_err *err)
{
	VL_FREE uint8_t *b = vl_alloc(VL_MAX(FILTER_MAX, sizeof(struct vl_err)));
	enum vl_msg_type type = VL_MSG_ERR;
	size_t n = 0;
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0)
		compiler(c, p, pair[1]);
	close(pair[1]);
	r = pid < 0 ? -errno : vl_msg_recv(pair[0], &type, b, VL_MAX(FILTER_MAX, sizeof(struct vl_err)), &n);
	close(pair[0]);
	if (pid < 0)
		return vl_fail_sys(err, -r, "cannot start the process that reads seccomp profiles");
	vl_wait(pid);
	if (r == 0 && type == VL_MSG_ERR && n == sizeof *err) {
		memcpy(err, b, sizeof *err);
		err->text[sizeof err->text - 1] = 0;
		return -VL_MAX(err->code, 1);
	}
	if (r < 0 || type != VL_MSG_OK || n == 0 || n % sizeof(struct sock_filter))
		return vl_fail(err, EPROTO, "%s: the process that reads seccomp profiles has not answered", p->seccomp);
	p->filter = vl_steal(&b);
	p->filter_len = n;
	return 0;
}

static int set_security(struct cmd_ctx *c, const struct action_opts *o, struct plan *p, struct vl_err *err)
{
	static const struct {
		const char *prefix, *why;
	} refused[] = {
		{ "apparmor:", "only root of the host may choose an AppArmor profile for another program" },
		{ "selinux:", "a policy decides on the context of a program, and vial brings none" },
		{ "uid:", "only the caller's own id exists in the container; --fakeroot makes it 0" },
		{ "gid:", "only the caller's own groups exist in the container; --fakeroot makes the first one 0" },
	};

	for (size_t i = 0; i < o->security.n; i++) {
		const char *word = o->security.v[i], *file = vl_prefix(word, "seccomp:");
		for (size_t k = 0; k < VL_COUNT(refused); k++)
			if (vl_prefix(word, refused[k].prefix))
				return vl_fail(err, ENOTSUP, "--security %s: %s", word, refused[k].why);
		if (!file || !*file)
			return vl_fail(err, EINVAL, "--security takes seccomp:FILE, not '%s'", word);
		if (p->seccomp)
			return vl_fail(err, EINVAL, "--security: two seccomp profiles, %s and %s", p->seccomp, file);
		p->seccomp = vl_strdup(file);
	}
	return p->seccomp ? compile(c, p, err) : 0;
}

int cmd_plan_identity(struct cmd_ctx *c, const struct action_opts *o, struct plan *p, struct vl_err *err)
{
	if (o->fakeroot)
		ctr_plan_fakeroot(p);
	p->one_id = o->ignore_subuid;
	int r = set_caps(o, p, err);
	return r < 0 ? r : set_security(c, o, p, err);
}
