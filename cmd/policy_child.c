/* Signatures are checked by the other program: what starts containers loads no libcrypto. It gets the open file, and
 * its answer is outside data: it has read the image. */
#include "policy.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>

static void child(struct cmd_ctx *c, const struct policy_image *i, const struct vl_strv *roots, int sock, pid_t parent)
{
	VL_STRV struct vl_strv words = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	fcntl(sock, F_SETFD, 0); /* not close-on-exec: the other program's way to answer */
	vl_strv_add(&words, c->self);
	vl_strv_add(&words, "policy");
	vl_strv_add(&words, "facts");
	vl_strv_add(&words, "--fd");
	vl_strv_take(&words, vl_asprintf("%d", sock));
	for (size_t k = 0; k < roots->n; k++) {
		vl_strv_add(&words, "--roots");
		vl_strv_add(&words, roots->v[k]);
	}
	vl_strv_add(&words, "--");
	vl_strv_add(&words, i->name);
	_exit(cmd_become(c, "vial-image", words.v));
}

static int hear(int sock, const struct policy_image *i, struct pol_facts *f, struct vl_err *err)
{
	const struct policy_question q = { .use = i->use, .off = i->off, .size = i->size };
	VL_FREE char *text = vl_alloc(POL_FACTS_MAX + 1);
	enum vl_msg_type type = VL_MSG_ERR;
	size_t n = 0;
	int r = vl_msg_send_fd(sock, i->fd, &q, sizeof q);

	if (r == 0)
		r = vl_msg_recv(sock, &type, text, POL_FACTS_MAX, &n);
	if (r < 0)
		return vl_fail(err, EPIPE,
			       "%s: the process that checks its signatures died; the image may be built to break it",
			       i->name);
	if (type == VL_MSG_OK)
		return pol_facts_parse(text, n, f, err);
	if (type != VL_MSG_ERR || n != sizeof *err)
		return vl_fail(err, EPROTO, "%s: the process that checks its signatures makes no sense", i->name);
	memcpy(err, text, sizeof *err);
	err->text[sizeof err->text - 1] = 0;
	return err->code > 0 ? -err->code : -EIO;
}

int cmd_policy_look_by_child(struct cmd_ctx *c, const struct policy_image *i, const struct vl_strv *roots,
			     struct pol_facts *f, struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	fflush(NULL); /* or what waits there is written twice */
	pid_t self = getpid(), pid = fork();
	if (pid == 0) {
		close(pair[0]);
		child(c, i, roots, pair[1], self);
	}
	close(pair[1]);
	r = pid < 0 ? vl_fail_sys(err, errno, "cannot start the process that checks signatures")
		    : hear(pair[0], i, f, err);
	close(pair[0]);
	if (pid > 0)
		vl_wait(pid);
	return r;
}
