/* What is in a container, as a new image. The tasks have ended by then, the container has not. Its root is copied as it
 * was before anything was mounted into it: the host's files stay where they are. */
#include "run.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

#define ASK_MS 60000

/* In the container: the mount of its root alone, sent to who waits outside. */
static void send_root(const struct ctr_door *door, int sock)
{
	struct vl_err err = { 0 };
	bool pid;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int r = ctr_enter(door, &pid, &err);
	VL_CLOSE int root = r < 0 ? r : vmnt_clone(door->fd[CTR_ROOT], "", false, false, &err);
	if (root >= 0)
		vl_msg_send_fd(sock, root, NULL, 0);
	else
		vl_msg_send_err(sock, &err);
}

static int take_root(const struct ctr_door *door, int *ret, struct vl_err *err)
{
	enum vl_msg_type type;
	struct vl_err got = { 0 };
	int pair[2], fd = -1, r = vl_msg_pair(pair, err);
	size_t n = 0;

	if (r < 0)
		return r;
	VL_CLOSE int ours = pair[0];
	VL_CLOSE int theirs = pair[1];
	pid_t pid = fork();
	if (pid == 0) {
		send_root(door, theirs);
		_exit(0);
	}
	vl_closep(&theirs);
	r = pid < 0 ? -errno : vl_msg_recv_fd(ours, &type, &fd, &got, sizeof got, &n);
	if (pid > 0)
		vl_wait(pid);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot reach the container's files");
	got.text[sizeof got.text - 1] = 0;
	if (fd < 0)
		return vl_fail(err, got.code ? got.code : EPROTO, "%s", got.text);
	*ret = fd;
	return 0;
}

int cmd_hold_save(struct cmd_ctx *c, const struct action_opts *o)
{
	CTR_DOOR struct ctr_door door = CTR_DOOR_INIT;
	VL_STRV struct vl_strv changes = { 0 };
	struct vl_err err = { 0 };
	int root = -1;

	int r = ctr_door_ask((int)o->fd, ASK_MS, &door, &changes, &err);
	/* owners of files are known in its user namespace only; the paths stay the host's. Where the caller is in it
	 * already there is none of its own. */
	if (r == 0 && setns(door.fd[CTR_USER], CLONE_NEWUSER) < 0 && errno != EINVAL)
		r = vl_fail_sys(&err, errno, "cannot enter the container's user namespace");
	if (r == 0)
		r = take_root(&door, &root, &err);
	if (r < 0) {
		vl_logf(&c->log, VL_FATAL, "%s is not written: %s", o->save, err.text);
		return EXIT_OWN;
	}
	fcntl(root, F_SETFD, 0); /* not close-on-exec: what the image is made of */
	VL_FREE char *source = vl_asprintf("/proc/self/fd/%d", root);
	const char *image = changes.n ? vl_env_value(changes.v, "APPTAINER_CONTAINER") : NULL;
	VL_FREE char *made_of = vl_asprintf("--made-of=%s", image ? image : source);
	char *words[] = { (char *)c->self,
			  (char *)"--quiet",
			  (char *)"build",
			  (char *)"--force",
			  made_of,
			  (char *)"--",
			  (char *)o->save,
			  source,
			  NULL };
	return cmd_become(c, "vial-image", words);
}
