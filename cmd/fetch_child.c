/* IMAGE is a URI: the other program fetches it and hands back the open file. What speaks to networks
 * stays out of the program that starts containers. */
#include "run.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void add_option(struct vl_strv *l, const char *word, const char *value)
{
	vl_strv_add(l, word);
	if (value)
		vl_strv_add(l, value);
}

static void child(struct cmd_ctx *c, const char *uri, const struct net_opts *o, int sock)
{
	VL_STRV struct vl_strv words = { 0 };
	VL_FREE char *number = vl_asprintf("%d", sock);

	/* who waits for us may be killed: then nobody wants the image */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	fcntl(sock, F_SETFD, 0);
	vl_strv_add(&words, c->self);
	add_option(&words, "fetch", NULL);
	add_option(&words, "--fd", number);
	if (o->authfile)
		add_option(&words, "--authfile", o->authfile);
	if (o->no_https)
		add_option(&words, "--no-https", NULL);
	if (o->docker_login)
		add_option(&words, "--docker-login", NULL);
	if (o->disable_cache)
		add_option(&words, "--disable-cache", NULL);
	if (o->tmpdir)
		add_option(&words, "--tmpdir", o->tmpdir);
	if (o->username)
		setenv("VIAL_DOCKER_USERNAME", o->username, 1);
	if (o->password) /* other users can read a command line */
		setenv("VIAL_DOCKER_PASSWORD", o->password, 1);
	add_option(&words, "--", NULL);
	add_option(&words, uri, NULL);
	_exit(cmd_become(c, "vial-image", words.v));
}

int cmd_fetch_by_child(struct cmd_ctx *c, const char *uri, const struct net_opts *o, int *ret_fd, char **ret_path,
		       struct vl_err *err)
{
	enum vl_msg_type type;
	char path[4096];
	size_t n = 0;
	int pair[2], fd = -1, r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0)
		child(c, uri, o, pair[1]);
	close(pair[1]);
	if (pid > 0)
		r = vl_msg_recv_fd(pair[0], &type, &fd, path, sizeof path - 1, &n);
	else
		r = vl_fail_sys(err, errno, "cannot start the fetching process");
	close(pair[0]);
	if (pid < 0)
		return r;
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r < 0 || fd < 0 || status != 0) {
		vl_closep(&fd);
		if (WIFSIGNALED(status))
			return vl_fail(err, EINTR, "%s: fetching it was ended by signal %d", uri, WTERMSIG(status));
		*err = (struct vl_err){ .code = ECHILD }; /* it has said why */
		return -ECHILD;
	}
	path[n] = 0;
	*ret_fd = fd;
	*ret_path = vl_strdup(path);
	return 0;
}
