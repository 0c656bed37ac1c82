/* An image among the host's files, for one command: not a container, only a mount that nobody else sees. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>

bool ctr_has_all_ids(void)
{
	unsigned long in, out, n = 0;
	FILE *f = fopen("/proc/self/uid_map", "re");
	bool all = f && fscanf(f, "%lu %lu %lu", &in, &out, &n) == 3 && in == 0 && n == 0xfffffffful;

	if (f)
		fclose(f);
	return all && geteuid() == 0;
}

static int attach(int mount, const char *dir, struct vl_err *err)
{
	VL_CLOSE int at = vl_open(dir, O_PATH | O_DIRECTORY, 0, err); /* only now: of this mount namespace */

	return at < 0 ? at : vmnt_attach(mount, at, dir, err);
}

static int start(char *const *argv, int *ret_status, struct vl_err *err)
{
	execvp(argv[0], argv);
	*ret_status = errno == ENOENT ? 127 : 126;
	return vl_fail_sys(err, errno, "cannot start %s", argv[0]);
}

int ctr_look(const struct vmnt_image *given, const char *dir, char *const *argv, int *ret_status, struct vl_err *err)
{
	const struct plan who = { .user = { .uid = geteuid(), .gid = getegid() } };
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	VL_FREE char *cwd = getcwd(NULL, 0);
	struct vmnt_image image = *given;
	pid_t mapper = 0;
	int r;

	*ret_status = 0;
	image.all_ids = ctr_has_all_ids();
	if (!vmnt_may_mount() && (r = ctr_enter_userns(&who, &image.all_ids, &mapper, err)) < 0)
		return r;
	/* before the mount namespace: then the mount ends with those who see it */
	if ((r = vmnt_server_start(&image, &server, err)) < 0 || (r = ctr_enter_mountns(err)) < 0)
		return r;
	VL_CLOSE int mount = vmnt_server_mount(&server, &image, NULL, err);
	if (mount < 0 || (r = attach(mount, dir, err)) < 0)
		return mount < 0 ? mount : r;
	vl_closep(&mount);
	if (mapper)
		vl_wait(mapper);
	if (cwd && *cwd == '/')
		(void)!chdir(cwd); /* it may be dir, which is the image now */
	return start(argv, ret_status, err);
}
