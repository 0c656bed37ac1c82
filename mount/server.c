/* The life of the server process: forked, cut off from everything, told to begin, gone. */
#include "squash.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define FUSE_DEVICE "/dev/fuse"
#define MAX_SOURCE 200
#define MAX_THREADS 8u /* more wait for each other, and the memory of each counts */

int vmnt_device_open(struct vl_err *err)
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

/* Among the mounts of the caller the server would be one more member of their namespace: a job's would never end,
 * and with it no mount in it. So it leaves for one that has nothing in it at all. */
static bool leave_mounts(void)
{
	static const char *const opts[] = { "source=vial", "mode=0500", NULL };
	struct vl_err none;

	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return false;
	if (mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return false;
	VL_CLOSE int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	VL_CLOSE int empty = vmnt_new("tmpfs", opts, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, &none);
	return root >= 0 && empty >= 0 && vmnt_attach(empty, root, "/", &none) == 0 &&
	       vmnt_switch_root(empty, 0, &none) == 0;
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
		while (image->memory && image->threads > 1 && vmnt_server_least(image->threads) > image->memory)
			image->threads--;
	}
}

struct beginning { /* what the server is started with */
	const struct vmnt_image *image;
	int sock, fuse;
	int giver; /* of the device, when fuse is -1 */
	char how;  /* VMNT_GO_CONTROL or 0, then */
	pid_t user;
};

/* -1: whoever should mount did not, and says why itself. */
static int take_device(int giver)
{
	enum vl_msg_type any;
	char none;
	int fd = -1;

	if (vl_msg_recv_fd(giver, &any, &fd, &none, 1, NULL) < 0)
		fd = -1;
	close(giver);
	return fd;
}

static void serve(void *arg)
{
	const struct beginning *b = arg;
	struct vmnt_image image = *b->image;
	int sock = b->sock, fuse = b->fuse;
	const int keep[] = { image.fd, sock, fuse, b->giver, image.report, image.log };
	struct vmnt_session *s;
	struct vl_err err = { 0 };
	enum vl_msg_type go;
	char how = b->how;

	/* Somebody waits for the end of file of the caller's stdout, a scheduler for its pipes: the
	 * server, which may live longer than the program by a moment, must hold none of them. */
	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
	settle(&image);
	int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	if (!image.host || !leave_mounts())
		leave_file_systems();
	prctl(PR_SET_NAME, "vial-fuse");
	if (b->giver >= 0 && (fuse = take_device(b->giver)) < 0)
		return;
	if (vl_drop_privileges(&err) < 0 || vmnt_session_new(&image, fuse, statm, &s, &err) < 0) {
		vl_msg_send_err(sock, &err);
		return;
	}
	int r = vl_msg_send(sock, VL_MSG_OK, NULL, 0);
	/* a mount that is in its place already is served, whoever started this and is gone by now */
	if (b->giver < 0 && (r < 0 || vl_msg_recv(sock, &go, &how, 1, NULL) < 0 || go != VL_MSG_OK))
		return; /* the other side is gone or gave up */
	if (how != VMNT_GO_CONTROL)
		vl_closep(&sock);
	vmnt_session_loop(s, sock);
	if (image.report)
		vmnt_session_report(s, image.host ? getpid() : b->user);
}

/* ---- in the caller -------------------------------------------------------------------------- */

static int pair_above_stdio(int ret[2], struct vl_err *err)
{
	int pair[2];
	int r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	if (mine < 0 || theirs < 0)
		return vl_fail_sys(err, EMFILE, "cannot start the image server");
	ret[0] = vl_steal_fd(&mine);
	ret[1] = vl_steal_fd(&theirs);
	return 0;
}

static int start(struct beginning *b, struct vmnt_server *ret, struct vl_err *err)
{
	int pair[2];
	int r = pair_above_stdio(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int mine = pair[0];
	VL_CLOSE int theirs = pair[1];
	b->sock = theirs;
	b->user = getpid();
	/* who is to be waited for is waited for later: there is work to do meanwhile */
	if ((r = vl_start_apart(serve, b, &ret->starter)) < 0)
		return vl_fail_sys(err, -r, "cannot start the image server");
	ret->sock = vl_steal_fd(&mine);
	return 0;
}

int vmnt_server_start(const struct vmnt_image *image, struct vmnt_server *ret, struct vl_err *err)
{
	VL_CLOSE int fuse = vmnt_device_open(err); /* the kernel wants it opened in the namespace that mounts */
	struct beginning b = { .image = image, .fuse = fuse, .giver = -1 };

	if (fuse < 0)
		return -err->code;
	int r = start(&b, ret, err);
	if (r == 0)
		ret->fuse = vl_steal_fd(&fuse);
	return r;
}

int vmnt_server_start_given(const struct vmnt_image *image, bool control, int *ret_giver, struct vmnt_server *ret,
			    struct vl_err *err)
{
	int pair[2];
	int r = pair_above_stdio(pair, err);

	if (r < 0)
		return r;
	VL_CLOSE int mine = pair[0];
	VL_CLOSE int theirs = pair[1];
	struct beginning b = { .image = image, .fuse = -1, .giver = theirs, .how = control ? VMNT_GO_CONTROL : 0 };
	if ((r = start(&b, ret, err)) == 0)
		*ret_giver = vl_steal_fd(&mine);
	return r;
}

int vmnt_server_wait(struct vmnt_server *s, int *ret_control, struct vl_err *err)
{
	int r = vl_msg_wait_ok(s->sock, "the image server", err);

	if (r == 0 && ret_control)
		*ret_control = vl_steal_fd(&s->sock);
	vmnt_server_abort(s);
	return r;
}

static int mount_it(const struct vmnt_server *s, const struct vmnt_image *image, struct vl_err *err)
{
	char fd[32], user[32], group[32];
	size_t len = strlen(image->name);
	/* fsconfig takes 256 bytes: of a long path, its end says most in /proc/mounts */
	VL_FREE char *source = vl_asprintf("source=%s", image->name + (len > MAX_SOURCE ? len - MAX_SOURCE : 0));
	const char *opts[] = { source,
			       "subtype=vial",
			       fd,
			       "rootmode=40000",
			       user,
			       group,
			       "default_permissions",
			       "ro",
			       image->own ? NULL : "allow_other",
			       NULL };

	snprintf(fd, sizeof fd, "fd=%d", s->fuse);
	snprintf(user, sizeof user, "user_id=%u", geteuid());
	snprintf(group, sizeof group, "group_id=%u", getegid());
	return vmnt_new("fuse", opts,
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				(image->noexec ? MOUNT_ATTR_NOEXEC : 0),
			err);
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
