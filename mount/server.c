/* The life of the server process: forked, cut off from everything, told to begin, gone. */
#include "squash.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

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

/* A directory of /proc that only ever shows this process's own descriptors is the emptiest place
 * there is; with no capability left afterwards there is no way back out. */
static void leave_file_systems(void)
{
	if (chroot("/proc/self/fdinfo") < 0 || chdir("/") < 0)
		(void)!chdir("/"); /* no /proc: at least hold no directory busy */
}

/* What can only be learned while there is a file system and no filter. */
static void settle(struct vmnt_image *image)
{
	struct stat st;

	if (!image->size && fstat(image->fd, &st) == 0 && (uint64_t)st.st_size > image->off)
		image->size = (uint64_t)st.st_size - image->off;
	if (!image->threads) {
		unsigned cpus = vl_cpu_count();
		image->threads = VL_MIN(cpus, MAX_THREADS);
	}
}

struct beginning { /* what the server is started with */
	const struct vmnt_image *image;
	int sock, fuse;
};

static void serve(void *arg)
{
	const struct beginning *b = arg;
	struct vmnt_image image = *b->image;
	int sock = b->sock, fuse = b->fuse;
	const int keep[] = { image.fd, sock, fuse };
	struct vmnt_session *s;
	struct vl_err err = { 0 };
	enum vl_msg_type go;
	char how = 0;

	/* Somebody waits for the end of file of the caller's stdout, a scheduler for its pipes: the
	 * server, which may live longer than the program by a moment, must hold none of them. */
	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
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
	struct beginning b = { image, theirs, fuse };
	/* who is to be waited for is waited for later: there is work to do meanwhile */
	if ((r = vl_start_apart(serve, &b, &ret->starter)) < 0)
		return vl_fail_sys(err, -r, "cannot start the image server");
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
