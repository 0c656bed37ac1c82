/* IMAGE is encrypted: the other program, which has the cryptography, decrypts it into memory and hands that back. */
#include "run.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

bool cmd_can_decrypt(const struct cmd_ctx *c)
{
	const char *pem = opt_getenv("ENCRYPTION_PEM_PATH"), *passphrase = opt_getenv("ENCRYPTION_PASSPHRASE");

	return c->image_pem || c->image_passphrase || (pem && *pem) || (passphrase && *passphrase);
}

static void child(struct cmd_ctx *c, int image, const char *path, int sock)
{
	VL_STRV struct vl_strv words = { 0 };
	VL_FREE char *to = vl_asprintf("--fd=%d", sock), *from = vl_asprintf("--image-fd=%d", image);

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(sock, F_SETFD, 0);
	fcntl(image, F_SETFD, 0);
	vl_strv_add(&words, c->self);
	vl_strv_add(&words, "decrypt");
	vl_strv_add(&words, to);
	vl_strv_add(&words, from);
	if (c->image_pem) {
		vl_strv_add(&words, "--pem-path");
		vl_strv_add(&words, c->image_pem);
	}
	if (c->image_passphrase)
		vl_strv_add(&words, "--passphrase");
	vl_strv_add(&words, "--");
	vl_strv_add(&words, path);
	_exit(cmd_become(c, "vial-image", words.v));
}

int cmd_decrypt_by_child(struct cmd_ctx *c, int image, const char *path, int *ret_fd, uint64_t *ret_size,
			 struct vl_err *err)
{
	enum vl_msg_type type;
	struct stat st;
	char none[1];
	size_t n = 0;
	int pair[2], status = 0, r = vl_msg_pair(pair, err);
	VL_CLOSE int fd = -1;

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0)
		child(c, image, path, pair[1]);
	close(pair[1]);
	if (pid > 0)
		r = vl_msg_recv_fd(pair[0], &type, &fd, none, sizeof none, &n);
	else
		r = vl_fail_sys(err, errno, "cannot start the decrypting process");
	close(pair[0]);
	if (pid < 0)
		return r;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0 || fd < 0 || status != 0) {
		if (WIFSIGNALED(status))
			return vl_fail(err, EINTR, "%s: decrypting it was ended by signal %d", path, WTERMSIG(status));
		*err = (struct vl_err){ .code = ECHILD }; /* it has said why */
		return -ECHILD;
	}
	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot read the decrypted image");
	*ret_fd = vl_steal_fd(&fd);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}
