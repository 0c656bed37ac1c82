/* seccomp: a profile of system calls, checked and shown. exec and its kin ask for it in the kernel's form: what
 * starts containers reads no profiles. */
#include "commands.h"

#include <vial/rootless.h>

#include <fcntl.h>
#include <stdio.h>

#define O(f) offsetof(struct cmd_seccomp_opts, f)
const struct opt cmd_seccomp_opts[] = {
	{ 0, "caps", OPT_LIST, O(caps), "LIST", "capabilities of the container, for rules that depend on them", NULL,
	  0 },
	{ 0, "fd", OPT_STR, O(fd), "N", "a socket to answer on", NULL, OPT_HIDDEN },
	OPT_END,
};

static int compile(const char *path, const struct cmd_seccomp_opts *o, bool text, void **ret, size_t *ret_len,
		   struct vl_err *err)
{
	VL_FREE char *profile = NULL;
	uint64_t caps = 0;
	size_t len;

	int r = ctr_parse_caps(&o->caps, &caps, err);
	if (r < 0 || (r = vl_read_file(AT_FDCWD, path, CTR_PROFILE_MAX, &profile, &len, err)) < 0)
		return r;
	return ctr_seccomp_compile(profile, len, path, caps, text, ret, ret_len, err);
}

/* To the starting process: the filter, or what is wrong. */
static int answer(const char *number, const char *path, const struct cmd_seccomp_opts *o)
{
	VL_FREE void *filter = NULL;
	struct vl_err err = { 0 };
	uint64_t fd;
	size_t len = 0;

	if (vl_parse_u64(number, 3, INT32_MAX, &fd) < 0)
		return EXIT_USAGE;
	if (compile(path, o, false, &filter, &len, &err) < 0)
		return vl_msg_send_err((int)fd, &err) < 0 ? EXIT_USAGE : 0;
	return vl_msg_send((int)fd, VL_MSG_OK, filter, len) < 0 ? EXIT_USAGE : 0;
}

int cmd_seccomp_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_seccomp_opts *o = opts;
	VL_FREE void *text = NULL;
	struct vl_err err = { 0 };
	size_t len = 0;

	(void)self, (void)argc;
	if (o->fd)
		return answer(o->fd, argv[0], o);
	if (compile(argv[0], o, true, &text, &len, &err) < 0)
		return cmd_fail(c, &err);
	return fwrite(text, 1, len, stdout) == len && fflush(stdout) == 0 ? 0 : EXIT_OWN_COMPAT;
}
