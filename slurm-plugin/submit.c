/* What can be known before a job is queued, the user is told on his terminal. */
#include "plugin.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* Its messages are for the user, its result is not. */
static int run_fetch(const char *vial, const char *uri)
{
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
		dup2(null, STDOUT_FILENO); /* not close-on-exec: the program's stdout */
		execl(vial, vial, "fetch", uri, (char *)NULL);
		_exit(127);
	}
	return pid < 0 ? 127 : vl_wait(pid);
}

static int look_at(const char *path, struct vl_err *err)
{
	if (access(path, R_OK) == 0)
		return 0;
	if (errno == ENOENT)
		return vl_fail(err, ENOENT,
			       "image %s: there is no such file here; an image in a registry is written NAME:TAG or "
			       "docker://NAME:TAG",
			       path);
	return vl_fail_sys(err, errno, "image %s", path);
}

int vsp_submit(const struct vsp_site *site, const struct vsp_options *o, struct vl_err *err)
{
	VL_STRV struct vl_strv words = { 0 };
	int r = vsp_options_words(o, &words, err);

	if (r < 0 || !site->check)
		return r;
	VL_FREE char *image = vsp_image_name(o->value[VSP_IMAGE]);
	if (!strstr(image, "://"))
		return look_at(image, err);
	int status = run_fetch(site->vial, image);
	if (status == 127)
		return vl_fail(err, ENOENT, "cannot run %s; the site's plugstack.conf names it", site->vial);
	return status ? vl_fail(err, EIO, "%s cannot be fetched", image) : 0;
}
