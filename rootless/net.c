/* A network without privilege: pasta, a program of its own, carries connections between the container's network
 * namespace and the host's sockets. A process of ours waits beside it, in the host's namespaces, and ends it when
 * the container ends; when that process is killed, the kernel ends pasta. */
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define SAID_MAX 4096

struct guard {
	const struct plan *p;
	int sock;
	pid_t pid;       /* of the caller, who waits in the container's namespaces for the network */
	int caller;      /* the same, as pidfd */
	int ready, said; /* of pasta: its pid file, its standard errors */
};

/* ---- pasta ---------------------------------------------------------------------------------- */

static void add_ports(const struct plan *p, const char *option, const char *proto, struct vl_strv *argv)
{
	bool any = false;

	for (size_t i = 0; i < p->ports.n; i++) {
		const char *ports = vl_prefix(p->ports.v[i], proto);
		if (!ports)
			continue;
		vl_strv_add(argv, option);
		vl_strv_add(argv, ports);
		any = true;
	}
	if (!any) {
		vl_strv_add(argv, option);
		vl_strv_add(argv, "none");
	}
}

/* Ports are opened where they were asked for and nowhere else, and the host's loopback stays the host's. The pid file
 * is its standard output: it is written when all is ready. */
static void pasta_argv(const struct guard *g, struct vl_strv *argv)
{
	static const char *const fixed[] = {
		"pasta",       "--foreground", "--quiet",         "--stderr",      "-T",       "none", "-U", "none",
		"--no-map-gw", "--config-net", "--no-netns-quit", "--dns-forward", CTR_NET_DNS
	};

	for (size_t i = 0; i < VL_COUNT(fixed); i++)
		vl_strv_add(argv, fixed[i]);
	add_ports(g->p, "-t", "tcp:", argv);
	add_ports(g->p, "-u", "udp:", argv);
	if (geteuid() == 0) { /* it would become nobody, who may not enter our namespaces */
		vl_strv_add(argv, "--runas");
		vl_strv_add(argv, "0");
	}
	vl_strv_add(argv, "--pid");
	vl_strv_add(argv, "/proc/self/fd/1");
	vl_strv_add(argv, "--userns");
	vl_strv_take(argv, vl_asprintf("/proc/%d/ns/user", g->pid));
	vl_strv_add(argv, "--netns");
	vl_strv_take(argv, vl_asprintf("/proc/%d/ns/net", g->pid));
}

static void __attribute__((noreturn)) become_pasta(const struct vl_strv *argv, int ready, int said, pid_t guard)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != guard)
		_exit(1);
	fcntl(0, F_SETFD, 0); /* /dev/null */
	dup2(ready, 1);       /* not close-on-exec: standard output, and the next standard errors */
	dup2(said, 2);        /* not close-on-exec: the same */
	execvp("pasta", argv->v);
	_exit(errno == ENOENT ? 127 : 126);
}

/* What it said last that is no complaint about a log that is not there. */
static void last_words(int said, char ret[SAID_MAX])
{
	char text[SAID_MAX];
	size_t n = 0;
	ssize_t r;

	while (n < sizeof text - 1 && (r = read(said, text + n, sizeof text - 1 - n)) > 0)
		n += (size_t)r;
	text[n] = 0;
	snprintf(ret, SAID_MAX, "it says nothing");
	for (char *line = text, *end; *line; line = end) {
		end = line + strcspn(line, "\n");
		if (*end)
			*end++ = 0;
		if (*line && !vl_prefix(line, "Failed to send "))
			snprintf(ret, SAID_MAX, "%s", line);
	}
}

static int explain(struct guard *g, pid_t pid, struct vl_err *err)
{
	char words[SAID_MAX];

	last_words(g->said, words);
	int status = vl_wait(pid);
	if (status == 127)
		return vl_fail(
			err, ENOENT,
			"cannot bring up a network: the program pasta is missing; install the package passt, or use "
			"--network none");
	VL_FREE char *safe = vl_printable(words, strlen(words));
	VL_CLOSE int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	return vl_fail(err, EIO, "cannot bring up a network: pasta ended with status %d: %s%s", status, safe,
		       tun < 0 ? " (/dev/net/tun cannot be opened; as root: modprobe tun; chmod 666 /dev/net/tun)"
			       : "");
}

/* Returns its pid once the interface is up. */
static pid_t start_pasta(struct guard *g, struct vl_err *err)
{
	VL_STRV struct vl_strv argv = { 0 };
	int ready[2], said[2];
	pid_t me = getpid();

	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	pasta_argv(g, &argv);
	pid_t pid = fork();
	if (pid == 0)
		become_pasta(&argv, ready[1], said[1], me);
	close(ready[1]);
	close(said[1]);
	g->ready = ready[0];
	g->said = said[0];
	int end = pid < 0 ? -1 : pidfd_open(pid, 0);
	if (end < 0)
		return vl_fail_sys(err, errno, "cannot start pasta");
	struct pollfd f[] = { { g->ready, POLLIN, 0 }, { end, POLLIN, 0 } };
	while (poll(f, VL_COUNT(f), -1) < 0 && errno == EINTR)
		;
	close(end);
	close(g->ready);
	return f[0].revents & POLLIN ? pid : explain(g, pid, err);
}

/* ---- the process beside it ------------------------------------------------------------------ */

static void wait_for_end(struct guard *g, pid_t pasta)
{
	struct pollfd f[] = { { g->caller, POLLIN, 0 }, { g->said, POLLIN, 0 } };
	char b[512];

	for (;;) {
		if (poll(f, VL_COUNT(f), -1) < 0 && errno != EINTR)
			break;
		if (f[0].revents)
			break;
		while (f[1].revents && read(g->said, b, sizeof b) > 0)
			;
		if (f[1].revents & POLLHUP)
			break; /* pasta is gone, and with it the network; nothing can be put in its stead */
	}
	kill(pasta, SIGKILL);
	vl_wait(pasta);
}

static void guard(void *arg)
{
	struct guard *g = arg;
	int keep[] = { g->sock, g->caller };
	struct vl_err err = { 0 };
	enum vl_msg_type go;
	char none;

	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
	prctl(PR_SET_NAME, "vial-net");
	if (vl_msg_recv(g->sock, &go, &none, 1, NULL) < 0)
		return; /* the caller gave up */
	pid_t pasta = start_pasta(g, &err);
	if (pasta < 0) {
		vl_msg_send_err(g->sock, &err);
		return;
	}
	vl_msg_send(g->sock, VL_MSG_OK, NULL, 0);
	close(g->sock);
	wait_for_end(g, pasta);
}

/* ---- in the caller -------------------------------------------------------------------------- */

int ctr_net_start(const struct plan *p, struct ctr_net *n, struct vl_err *err)
{
	struct guard g = { .p = p, .pid = getpid() };
	pid_t wait = 0;
	int pair[2], r;

	if (!(p->namespaces & PLAN_NS_NET) || !p->network || !vl_streq(p->network, "pasta"))
		return 0;
	if ((r = vl_msg_pair(pair, err)) < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	VL_CLOSE int caller = vl_move_fd_above_stdio(pidfd_open(getpid(), 0));
	if (mine < 0 || theirs < 0 || caller < 0)
		return vl_fail_sys(err, errno, "cannot prepare a network");
	g.sock = theirs;
	g.caller = caller;
	if ((r = vl_start_apart(guard, &g, &wait)) < 0)
		return vl_fail_sys(err, -r, "cannot prepare a network");
	if (wait)
		vl_wait(wait);
	n->sock = vl_steal_fd(&mine);
	return 0;
}

int ctr_net_up(struct ctr_net *n, struct vl_err *err)
{
	VL_CLOSE int sock = vl_steal_fd(&n->sock);

	if (sock < 0)
		return 0;
	vl_msg_send(sock, VL_MSG_OK, NULL, 0);
	return vl_msg_wait_ok(sock, "the process that brings up the network", err);
}
