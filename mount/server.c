/* The life of the server process: forked, cut off from everything, told to begin, gone. */
#include "squash.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define FUSE_DEVICE "/dev/fuse"
#define MAX_SOURCE 200
#define MAX_THREADS 8u /* more wait for each other, and the memory of each counts */

static int open_device(struct vl_err *err)
{
	int fd = open(FUSE_DEVICE, O_RDWR | O_CLOEXEC), e = errno;

	if (fd >= 0)
		return vl_move_fd_above_stdio(fd);
	if (e == ENOENT || e == ENODEV || e == ENXIO)
		return vl_fail(err, e, "cannot mount images: %s is missing; as root: modprobe fuse", FUSE_DEVICE);
	if (e == EACCES || e == EPERM)
		return vl_fail(err, e, "cannot mount images: %s may not be opened by this user; as root: chmod 0666 %s",
			       FUSE_DEVICE, FUSE_DEVICE);
	return vl_fail_sys(err, e, "cannot open %s", FUSE_DEVICE);
}

/* ---- in the server -------------------------------------------------------------------------- */

static void close_range_of(unsigned from, unsigned to)
{
	if (from > to || syscall(SYS_close_range, from, to, 0) == 0)
		return;
	long max = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
	for (unsigned fd = from; fd <= to && (long)fd < max; fd++)
		close((int)fd);
}

static void sort3(int a[3])
{
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < 2 - i; k++)
			if (a[k] > a[k + 1]) {
				int t = a[k];
				a[k] = a[k + 1];
				a[k + 1] = t;
			}
}

/* Somebody waits for the end of file of the caller's stdout, a scheduler for its pipes: the
 * server, which may live longer than the program by a moment, must hold none of them. */
static void let_go_of_descriptors(int a, int b, int c)
{
	int keep[3] = { a, b, c };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	sort3(keep);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup3(null, fd, O_CLOEXEC); /* it never execs */
	close_range_of(3, (unsigned)keep[0] - 1);
	close_range_of((unsigned)keep[0] + 1, (unsigned)keep[1] - 1);
	close_range_of((unsigned)keep[1] + 1, (unsigned)keep[2] - 1);
	close_range_of((unsigned)keep[2] + 1, ~0u);
}

/* A directory of /proc that only ever shows this process's own descriptors is the emptiest place
 * there is; with no capability left afterwards there is no way back out. */
static void leave_file_systems(void)
{
	if (chroot("/proc/self/fdinfo") < 0 || chdir("/") < 0)
		(void)!chdir("/"); /* no /proc: at least hold no directory busy */
}

static void reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* What can only be learned while there is a file system and no filter. */
static void settle(struct vmnt_image *image)
{
	struct stat st;

	if (!image->size && fstat(image->fd, &st) == 0 && (uint64_t)st.st_size > image->off)
		image->size = (uint64_t)st.st_size - image->off;
	if (!image->threads)
		image->threads = VL_MIN(vl_cpu_count(), MAX_THREADS);
}

static void serve(const struct vmnt_image *given, int sock, int fuse)
{
	struct vmnt_image image = *given;
	struct vmnt_session *s;
	struct vl_err err = { 0 };
	enum vl_msg_type go;
	char how = 0;

	let_go_of_descriptors(image.fd, sock, fuse);
	reset_signals();
	settle(&image);
	int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	leave_file_systems();
	prctl(PR_SET_NAME, "vial-fuse");
	if (vl_drop_privileges(&err) < 0 || vmnt_session_new(&image, fuse, statm, &s, &err) < 0) {
		vl_msg_send_err(sock, &err);
		return;
	}
	if (vl_msg_send(sock, VL_MSG_OK, NULL, 0) < 0 || vl_msg_recv(sock, &go, &how, 1, NULL) < 0 || go != VL_MSG_OK)
		return; /* the other side is gone or gave up */
	if (how != VMNT_GO_CONTROL)
		vl_closep(&sock);
	vmnt_session_loop(s, sock);
}

/* ---- in the caller -------------------------------------------------------------------------- */

/* Would an orphan of ours come back to us, and so to the program? */
static bool adopts_orphans(void)
{
	int reaper = 0;

	return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper);
}

/* A child that sends no SIGCHLD is out of sight for wait(), which would else never come to an end
 * in a program that waits for all its children. Not for orphans: adoption makes them ordinary. */
static pid_t start_hidden(const struct vmnt_image *image, int sock, int fuse)
{
	pid_t pid = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0); /* fork() with no signal at the end */

	if (pid == 0) {
		setsid();
		serve(image, sock, fuse);
		_exit(0);
	}
	return pid < 0 ? -1 : 0;
}

/* Forked twice, so that the program finds no child that it never started. */
static pid_t start_orphan(const struct vmnt_image *image, int sock, int fuse)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid(); /* away from the terminal: its Ctrl-C is for the program */
		pid = fork();
		if (pid == 0)
			serve(image, sock, fuse);
		_exit(pid < 0);
	}
	return pid;
}

int vmnt_server_start(const struct vmnt_image *image, struct vmnt_server *ret, struct vl_err *err)
{
	VL_CLOSE int fuse = open_device(err); /* the kernel wants it opened in the namespace that mounts */
	VL_CLOSE int mine = -1;
	int pair[2];

	if (fuse < 0)
		return -err->code;
	int r = vl_msg_pair(pair, err);
	if (r < 0)
		return r;
	mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	if (mine < 0 || theirs < 0)
		return vl_fail_sys(err, EMFILE, "cannot start the image server");
	pid_t pid = adopts_orphans() ? start_hidden(image, theirs, fuse) : start_orphan(image, theirs, fuse);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the image server");
	ret->starter = pid; /* it is waited for later: there is work to do meanwhile. 0: there is none */
	ret->fuse = vl_steal_fd(&fuse);
	ret->sock = vl_steal_fd(&mine);
	return 0;
}

static int mount_it(const struct vmnt_server *s, const struct vmnt_image *image, struct vl_err *err)
{
	char fd[32], user[32], group[32];
	size_t len = strlen(image->name);
	/* fsconfig takes 256 bytes: of a long path, its end says most in /proc/mounts */
	VL_FREE char *source = vl_asprintf("source=%s", image->name + (len > MAX_SOURCE ? len - MAX_SOURCE : 0));
	const char *opts[] = {
		source, "subtype=vial", fd, "rootmode=40000", user, group, "allow_other", "default_permissions", "ro",
		NULL
	};

	snprintf(fd, sizeof fd, "fd=%d", s->fuse);
	snprintf(user, sizeof user, "user_id=%u", geteuid());
	snprintf(group, sizeof group, "group_id=%u", getegid());
	return vmnt_new("fuse", opts, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}

int vmnt_server_mount(struct vmnt_server *s, const struct vmnt_image *image, int *ret_control, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = -1;

	int r = vl_msg_wait_ok(s->sock, "the image server", err);
	vl_wait(s->starter);
	s->starter = 0;
	if (r == 0)
		r = fd = mount_it(s, image, err);
	if (r >= 0)
		r = vl_msg_send(s->sock, VL_MSG_OK, &(char){ VMNT_GO_CONTROL }, ret_control != NULL);
	VL_CLOSE int control = ret_control && r >= 0 ? vl_steal_fd(&s->sock) : -1;
	vmnt_server_abort(s); /* our copy of the device: with it, the server's death would go unseen */
	if (r < 0)
		return err->code ? r : vl_fail_sys(err, -r, "%s: the image server is gone", image->name);
	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "%s: the image server does not answer", image->name);
	if (ret_control)
		*ret_control = vl_steal_fd(&control);
	return vl_steal_fd(&fd);
}

void vmnt_server_abort(struct vmnt_server *s)
{
	vl_closep(&s->fuse);
	vl_closep(&s->sock);
	if (s->starter)
		vl_wait(s->starter);
	s->starter = 0;
}
