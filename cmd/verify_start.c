/* --verify: nothing of the image is used that no signature vouches for. What is small is checked here, before the start;
 * the rest by the image's server, when it is read. */
#include "run.h"
#include "verify.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <vial/sif.h>

extern char **environ;

#define SYSLOG "/dev/log"
#define SYSLOG_MARK "<27>" /* daemon, error */

/* Beside this program, or where it is installed. Spawned: forking would copy the page tables of a process that waits. */
static int spawn(char *const *argv, int sock, int fd, pid_t *ret)
{
	VL_FREE char *beside = cmd_beside("vial-verify");
	posix_spawn_file_actions_t a;

	int r = posix_spawn_file_actions_init(&a);
	if (r != 0)
		return -r;
	/* a descriptor that is duplicated to itself stays open in the new program */
	posix_spawn_file_actions_adddup2(&a, sock, sock);
	posix_spawn_file_actions_adddup2(&a, fd, fd);
	r = posix_spawn(ret, beside, &a, NULL, argv, environ);
	if (r == ENOENT)
		r = posix_spawn(ret, cmd_libexec("vial-verify"), &a, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&a);
	return -r;
}

int cmd_verifier_begin(int fd, const struct vl_strv *what, pid_t *ret_pid, struct vl_err *err)
{
	VL_STRV struct vl_strv words = { 0 };
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]), theirs = vl_move_fd_above_stdio(pair[1]);
	vl_strv_add(&words, "vial-verify");
	vl_strv_take(&words, vl_asprintf("%d", theirs));
	vl_strv_take(&words, vl_asprintf("%d", fd));
	for (size_t i = 0; i < what->n; i++)
		vl_strv_add(&words, what->v[i]);
	r = mine < 0 || theirs < 0 ? -EMFILE : spawn(words.v, theirs, fd, ret_pid);
	return r < 0 ? vl_fail_sys(err, -r, "cannot start vial-verify, which checks signatures") : vl_steal_fd(&mine);
}

/* One message; what it could not do is err. */
static int hear(int sock, struct verify_answer *ret, int *ret_snapshot, struct vl_err *err)
{
	union {
		struct verify_answer answer;
		struct vl_err err;
	} m;
	enum vl_msg_type type = VL_MSG_ERR;
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

int cmd_verifier_end(int sock, struct cmd_verified *ret, struct vl_err *err)
{
	VL_CLOSE int snapshot = -1;
	struct verify_answer a = { 0 };
	struct cmd_verified v = { 0 };
	int r = hear(sock, &a, &snapshot, err);

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
	if (i->log)
		vl_closep(&i->log);
	i->log = VL_MAX(fd, 0);
	i->log_mark = path ? NULL : SYSLOG_MARK;
	return 0;
}

/* What the image says its tree to be. Whether that is signed is heard later. */
static int claimed_tree(struct action_image *i, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o = { 0 };
	uint8_t b[SIF_TREE_DESCRIPTOR];
	struct sif_tree t;
	int r = sif_load(i->fd, &img, err);

	if (r == 0)
		r = sif_tree_find(&img, &o, err);
	if (r == -ENOENT)
		return vl_fail(err, ENODATA,
			       "it has no hash tree, which `vial sign` adds; `vial verify` reads all of it");
	if (r < 0 || !o.tree || (r = vl_pread_full(i->fd, b, sizeof b, o.tree->off, "the hash tree", err)) < 0 ||
	    (r = sif_tree_parse(b, sizeof b, &t, err)) < 0 || (r = sif_tree_levels(&o, &t, &i->tree.off, err)) < 0)
		return r;
	i->tree.block = t.block;
	memcpy(i->tree.root, t.root, sizeof i->tree.root);
	return 0;
}

static int check_kind(const struct action_image *i, struct vl_err *err)
{
	if (i->decrypted)
		return vl_fail(err, ENOTSUP,
			       "%s cannot be verified while it runs: it is encrypted, and has no hash tree; "
			       "`vial verify` checks all of it",
			       i->path);
	if (i->kind != PLAN_SQUASHFS || !i->off)
		return vl_fail(err, ENOTSUP, "%s: --verify is for SIF images; this one cannot be signed", i->path);
	if (i->n_overlays)
		return vl_fail(err, ENOTSUP, "%s cannot be verified: it has an overlay, which no hash tree covers",
			       i->path);
	return 0;
}

int cmd_action_verify(const struct verify_opts *o, struct action_image *i, struct vl_err *err)
{
	VL_STRV struct vl_strv words = { 0 };
	int r = 0;

	if (!o->on) /* of a policy's own accord it may be verified too */
		return i->tree.block && o->log ? open_log(o->log, i, err) : 0;
	if ((r = check_kind(i, err)) < 0)
		return r;
	vl_strv_add(&words, "keys");
	for (size_t k = 0; k < o->keys.n; k++)
		vl_strv_add(&words, o->keys.v[k]);
	r = cmd_verifier_begin(i->fd, &words, &i->verifier_pid, err);
	i->verifier = VL_MAX(r, 0);
	i->starter = getpid();
	if (r < 0 || (!i->tree.block && claimed_tree(i, err) < 0))
		return vl_wrap(err, "%s is not verified", i->path);
	return open_log(o->log, i, err);
}

static bool same_config(const char *used, const char *verified)
{
	return !used || (verified && vl_streq(used, verified));
}

static int check_places(const struct action_image *i, const struct cmd_verified *v, struct vl_err *err)
{
	if (i->off == v->off && i->size == v->size && same_config(i->config, v->config))
		return 0;
	return vl_fail(err, EBADMSG, "it was changed while it was looked at");
}

/* Everything that was taken from the image without waiting must be what was verified. */
int cmd_action_verified(void *image, struct vl_err *err)
{
	struct action_image *i = image;
	VL_CLEANUP(cmd_verified_free) struct cmd_verified v = { 0 };

	if (i->verifier <= 0)
		return 0;
	int r = cmd_verifier_end(i->verifier, &v, err);
	vl_closep(&i->verifier);
	if (r == 0)
		r = check_places(i, &v, err);
	if (r == 0 && (i->tree.off != v.tree.off || i->tree.block != v.tree.block ||
		       memcmp(i->tree.root, v.tree.root, sizeof v.tree.root) != 0))
		r = vl_fail(err, EBADMSG, "it was changed while it was looked at");
	return r < 0 ? vl_wrap(err, "%s is not verified", i->path) : 0;
}

int cmd_action_use_verified(struct action_image *i, const struct cmd_verified *v, struct vl_err *err)
{
	int r = check_places(i, v, err);

	if (r < 0)
		return vl_wrap(err, "%s", i->path);
	i->tree = v->tree;
	return open_log(NULL, i, err);
}
