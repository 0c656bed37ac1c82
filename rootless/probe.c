/* The steps of a start, one after the other, each in a child that goes no further: what they say is what a start
 * says. Nothing outlives the child. */
#include "hold.h"

#include <fcntl.h>
#include <stdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct probe {
	enum ctr_probe what;
	const struct vmnt_image *image; /* NULL: the sample */
	const char *dir;                /* of an overlay; NULL: in memory */
	struct vl_err *err;
};

/* ---- an overlay ----------------------------------------------------------------------------- */

static int open_part(int dir, const char *name, struct vl_err *err)
{
	if (mkdirat(dir, name, 0700) < 0 && errno != EEXIST)
		return vl_fail_sys(err, errno, "cannot make the directory %s", name);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? vl_fail_sys(err, errno, "cannot open the directory %s", name) : fd;
}

static int stack(int dir, struct vl_err *err)
{
	VL_CLOSE int lower = open_part(dir, "lower", err), upper = -1, work = -1, whole = -1, file = -1;

	if (lower < 0 || (upper = open_part(dir, "upper", err)) < 0 || (work = open_part(dir, "work", err)) < 0)
		return -err->code;
	if ((whole = vmnt_overlay(&lower, 1, upper, work, err)) < 0)
		return whole;
	file = openat(whole, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	return file < 0 ? vl_fail_sys(err, errno, "nothing can be written through an overlay") : 0;
}

static int attach_tmpfs(struct vl_err *err)
{
	static const char *const opts[] = { "source=vial", "mode=0700", NULL };
	VL_CLOSE int root = vl_open("/", O_PATH | O_DIRECTORY, 0, err);
	VL_CLOSE int fd = root < 0 ? root : vmnt_new("tmpfs", opts, 0, err);
	int r = fd < 0 ? fd : vmnt_attach(fd, root, "/", err);

	return r < 0 ? r : vl_steal_fd(&fd);
}

static int probe_overlay(const struct probe *p)
{
	VL_CLOSE int dir = p->dir ? vl_open(p->dir, O_RDONLY | O_DIRECTORY, 0, p->err) : attach_tmpfs(p->err);

	return dir < 0 ? dir : stack(dir, p->err);
}

/* ---- an image ------------------------------------------------------------------------------- */

static int start_server(const struct probe *p, struct vmnt_image *image, int *sample, struct vmnt_server *ret)
{
	if (p->image) {
		*image = *p->image;
	} else if ((*sample = vmnt_sample_image(p->err)) < 0) {
		return *sample;
	} else {
		*image = (struct vmnt_image){ .fd = *sample, .name = "a sample image" };
	}
	image->uid = geteuid();
	image->gid = getegid();
	return vmnt_server_start(image, ret, p->err);
}

static int probe_image(const struct probe *p, const struct vmnt_image *image, struct vmnt_server *server)
{
	VL_CLOSE int mount = vmnt_server_mount(server, image, NULL, p->err);

	if (mount < 0)
		return mount;
	if (!p->image)
		return vmnt_sample_check(mount, p->err);
	VL_CLOSE int top = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return top < 0 ? vl_fail_sys(p->err, errno, "%s cannot be read", image->name) : 0;
}

/* ---- the steps ------------------------------------------------------------------------------ */

static int walk(const struct probe *p)
{
	const struct plan who = { .user = { .uid = geteuid(), .gid = getegid() } };
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	struct vmnt_image image = { .fd = -1 };
	VL_CLOSE int sample = -1;
	pid_t mapper = 0;
	int r = ctr_enter_userns(&who, &image.all_ids, &mapper, p->err);

	if (r == 0 && mapper)
		vl_wait(mapper);
	if (r < 0 || p->what == CTR_PROBE_USERNS)
		return r;
	if (p->what == CTR_PROBE_IMAGE && (r = start_server(p, &image, &sample, &server)) < 0)
		return r;
	if ((r = ctr_enter_mountns(p->err)) < 0)
		return r;
	switch (p->what) {
	case CTR_PROBE_MOUNTNS: {
		VL_CLOSE int fd = attach_tmpfs(p->err);
		return fd < 0 ? fd : 0;
	}
	case CTR_PROBE_OVERLAY:
		return probe_overlay(p);
	default:
		return probe_image(p, &image, &server);
	}
}

static void take(void *arg, const char *text)
{
	struct vl_err *err = arg;

	if (!err->code)
		vl_fail(err, EPERM, "%s", text);
}

/* Its failure is a warning, and so is that of the start. */
static int walk_fakeroot(const struct probe *p)
{
	struct plan who = { .fakeroot = true };
	struct vl_progress say = { .warn = take, .note = take, .arg = p->err };
	pid_t mapper = 0;
	bool all;

	ctr_plan_ask_user(&who);
	int r = ctr_enter_fakeroot(&who, &all, &mapper, &say, p->err);
	if (r == 0 && mapper)
		vl_wait(mapper);

	return r < 0 ? r : -p->err->code;
}

int ctr_probe(enum ctr_probe what, const struct vmnt_image *image, const char *dir, struct vl_err *err)
{
	struct probe p = { what, image, dir, err };
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		r = what == CTR_PROBE_FAKEROOT ? walk_fakeroot(&p) : walk(&p);
		if (r < 0)
			vl_msg_send_err(pair[1], err);
		else
			vl_msg_send(pair[1], VL_MSG_OK, NULL, 0);
		_exit(0);
	}
	close(pair[1]);
	r = pid < 0 ? vl_fail_sys(err, errno, "cannot start a process") : vl_msg_wait_ok(pair[0], "the probe", err);
	close(pair[0]);
	if (pid > 0)
		vl_wait(pid);
	return r;
}

int ctr_probe_rundir(char **ret_path, struct vl_err *err)
{
	VL_CLOSE int fd = ctr_rundir(err);

	if (fd < 0)
		return fd;
	*ret_path = vl_fd_path(fd);
	if (!*ret_path)
		*ret_path = vl_strdup("?");
	return 0;
}
