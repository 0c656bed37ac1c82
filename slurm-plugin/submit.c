/* What can be known before a job is queued, the user is told on his terminal. */
#include "plugin.h"

#include <fcntl.h>

/* `vial` looks at the image, or fetches it, and answers as a keeper would. */
static int ask_vial(const char *vial, const char *image, struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int ours = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	VL_FREE char *number = vl_asprintf("%d", theirs);
	pid_t pid = fork();
	if (pid == 0) {
		dup2(STDERR_FILENO, STDOUT_FILENO); /* not close-on-exec: the program's stdout; ours is the job's */
		fcntl(theirs, F_SETFD, 0);          /* not close-on-exec: where it answers */
		execl(vial, vial, "hold", "--check", "--fd", number, "--", image, (char *)NULL);
		vl_fail_sys(err, errno, "cannot run %s; the site's plugstack.conf names it", vial);
		vl_msg_send_err(theirs, err);
		_exit(127);
	}
	vl_closep(&theirs);
	r = pid < 0 ? vl_fail_sys(err, errno, "cannot start a process") : vl_msg_wait_ok(ours, vial, err);
	if (pid > 0)
		vl_wait(pid);
	return r;
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

int vsp_submit(const struct vsp_site *site, const struct vsp_options *o, bool at_once, struct vl_err *err)
{
	VL_STRV struct vl_strv words = { 0 };
	int r = vsp_options_words(site, o, &words, err);

	if (r < 0 || !site->check || !o->value[VSP_IMAGE])
		return r;
	VL_FREE char *image = vsp_image_name(o->value[VSP_IMAGE]);
	if (!strstr(image, "://"))
		r = look_at(image, err);
	return r < 0 || at_once ? r : ask_vial(site->vial, image, err);
}
