/* --verify: nothing of the image is used that no signature vouches for. What is small is checked here, before the start;
 * the rest by the image's server, when it is read. */
#include "run.h"
#include "verify.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <vial/sif.h>

#define SYSLOG "/dev/log"
#define SYSLOG_MARK "<27>" /* daemon, error */

static void child(struct cmd_ctx *c, int sock, int fd, const struct vl_strv *keys)
{
	VL_STRV struct vl_strv words = { 0 };

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(sock, F_SETFD, 0);
	fcntl(fd, F_SETFD, 0);
	vl_strv_add(&words, "vial-verify");
	vl_strv_take(&words, vl_asprintf("%d", sock));
	vl_strv_take(&words, vl_asprintf("%d", fd));
	for (size_t i = 0; i < keys->n; i++)
		vl_strv_add(&words, keys->v[i]);
	_exit(cmd_become(c, "vial-verify", words.v));
}

/* One message; what it could not do is err. */
static int hear(int sock, struct verify_answer *ret, int *ret_snapshot, struct vl_err *err)
{
	union {
		struct verify_answer answer;
		struct vl_err err;
	} m;
	enum vl_msg_type type;
	size_t n = 0;
	VL_CLOSE int fd = -1;

	int r = vl_msg_recv_fd(sock, &type, &fd, &m, sizeof m, &n);
	if (r == 0 && type == VL_MSG_ERR && n == sizeof m.err) {
		m.err.text[sizeof m.err.text - 1] = 0;
		*err = m.err;
		return err->code > 0 ? -err->code : -EIO;
	}
	if (r < 0 || type != VL_MSG_FD || fd < 0 || n != sizeof m.answer || m.answer.n_signers > VERIFY_SIGNERS)
		return vl_fail(err, EPROTO, "the program that checks signatures ended without a result");
	*ret = m.answer;
	*ret_snapshot = vl_steal_fd(&fd);
	return 0;
}

static int ask(struct cmd_ctx *c, int fd, const struct vl_strv *keys, struct verify_answer *ret, int *ret_snapshot,
	       struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0)
		child(c, pair[1], fd, keys);
	close(pair[1]);
	r = pid < 0 ? vl_fail_sys(err, errno, "cannot check signatures") : hear(pair[0], ret, ret_snapshot, err);
	close(pair[0]);
	if (pid > 0)
		vl_wait(pid);
	return r;
}

static int read_config(int snapshot, const struct verify_answer *a, char **ret, struct vl_err *err)
{
	if (!a->config_size)
		return 0;
	if (a->config_size > VL_JSON_MAX)
		return vl_fail(err, EFBIG, "its configuration is too large");
	VL_FREE char *text = vl_alloc((size_t)a->config_size + 1);
	int r = vl_pread_full(snapshot, text, (size_t)a->config_size, a->config_off, "the configuration", err);
	if (r == 0)
		*ret = vl_steal(&text);
	return r;
}

int cmd_verify_image(struct cmd_ctx *c, int fd, const struct vl_strv *keys, struct cmd_verified *ret,
		     struct vl_err *err)
{
	VL_CLOSE int snapshot = -1;
	struct verify_answer a;
	struct cmd_verified v = { 0 };
	int r = ask(c, fd, keys, &a, &snapshot, err);

	if (r == 0)
		r = read_config(snapshot, &a, &v.config, err);
	if (r < 0)
		return r;
	v.off = a.off;
	v.size = a.size;
	v.tree = (struct vmnt_tree){ .block = a.tree_block, .off = a.tree_off };
	memcpy(v.tree.root, a.root, sizeof v.tree.root);
	for (uint32_t i = 0; i < a.n_signers; i++) {
		a.signer[i][VERIFY_SIGNER_MAX - 1] = 0;
		vl_strv_add(&v.signers, a.signer[i]);
	}
	*ret = v;
	return 0;
}

void cmd_verified_free(struct cmd_verified *v)
{
	vl_freep(&v->config);
	vl_strv_free(&v->signers);
}

/* ---- the log ------------------------------------------------------------------------------------ */

static int open_syslog(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = SYSLOG };
	VL_CLOSE int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? vl_steal_fd(&fd) : -1;
}

/* A server has no standard error: who waits for the end of that would wait for the server's. No system log is no error. */
static int open_log(const char *path, struct action_image *i, struct vl_err *err)
{
	int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0600)
		      : open_syslog();

	if (fd < 0 && path)
		return vl_fail_sys(err, errno, "cannot open the log %s", path);
	if (fd >= 0)
		fd = vl_move_fd_above_stdio(fd);
	i->log = VL_MAX(fd, 0);
	i->log_mark = path ? NULL : SYSLOG_MARK;
	return 0;
}

int cmd_action_verify(struct cmd_ctx *c, const struct action_opts *o, bool with_config, struct action_image *i,
		      struct vl_err *err)
{
	VL_CLEANUP(cmd_verified_free) struct cmd_verified v = { 0 };

	if (!o->verify)
		return 0;
	if (i->kind != PLAN_SQUASHFS || !i->off)
		return vl_fail(err, ENOTSUP, "%s: --verify is for SIF images; this one cannot be signed", i->path);
	if (!o->verify_key.n)
		return vl_fail(err, ENOKEY, "--verify needs the signer's public key: --verify-key KEY.pub.pem");
	if (i->n_overlays)
		return vl_fail(err, ENOTSUP, "%s cannot be verified: it has an overlay, which no hash tree covers",
			       i->path);
	int r = cmd_verify_image(c, i->fd, &o->verify_key, &v, err);
	if (r < 0)
		return vl_wrap(err, "%s is not verified", i->path);
	/* what was read before the check is not used any more */
	i->off = v.off;
	i->size = v.size;
	i->tree = v.tree;
	vl_freep(&i->config);
	if (with_config)
		i->config = vl_steal(&v.config);
	for (size_t k = 0; k < v.signers.n; k++)
		vl_logf(&c->log, VL_VERBOSE, "%s: signed by %s", i->path, v.signers.v[k]);
	return open_log(o->verify_log, i, err);
}
