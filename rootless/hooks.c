/* Hooks of the plan, as the OCI runtime-spec has them: programs that prepare a container and are told where it is by a bundle
 * and the state on their standard input. There is no bundle here, so one is made for as long as they run: a tmpfs over
 * the user's runtime directory, in this mount namespace alone, with a config.json and the container's root in it. */
#include "rootless.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define OCI_VERSION "1.2.0"

static bool has_hooks(const struct plan *p, bool inside)
{
	for (size_t i = 0; i < p->n_hooks; i++)
		if (p->hooks[i].inside == inside)
			return true;
	return false;
}

int ctr_hooks_place(const struct plan *p, char **ret_dir, struct vl_err *err)
{
	if (!has_hooks(p, false))
		return 0;
	int r = ctr_probe_rundir(ret_dir, err);
	return r < 0 ? vl_wrap(err, "hooks need a directory to be run in") : 0;
}

/* ---- one hook ------------------------------------------------------------------------------------ */

static void __attribute__((noreturn))
become_hook(const struct plan_hook *h, const char *dir, int state, bool capable, pid_t parent)
{
	static char *none[] = { NULL };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	vl_reset_signals();
	dup2(state, 0); /* not close-on-exec: standard input */
	dup2(2, 1);     /* not close-on-exec: standard output, which is the program's */
	if (chdir(dir) < 0 || (capable && ctr_keep_caps() < 0))
		_exit(126);
	/* nothing of the image's or the caller's environment: a variable of the image must not choose what a program of the
	 * host loads */
	execve(h->path, h->argv.v, h->env.n ? h->env.v : none);
	_exit(errno == ENOENT ? 127 : 126);
}

static bool ends_in_time(pid_t pid, int64_t seconds)
{
	if (!seconds)
		return true;
	VL_CLOSE int fd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = fd < 0 ? 1 : poll(&p, 1, (int)seconds * 1000);
	while (r < 0 && errno == EINTR);
	return r != 0;
}

static int run_hook(const struct plan_hook *h, const char *dir, const char *state, bool capable, struct vl_err *err)
{
	VL_CLOSE int in = -1, out = -1;
	int pipe_fd[2];
	pid_t self = getpid();

	if (access(h->path, X_OK) < 0)
		return vl_fail_sys(err, errno, "hook %s (%s)", h->path, h->why);
	if (pipe2(pipe_fd, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot start the hook %s", h->path);
	in = pipe_fd[0];
	out = pipe_fd[1];
	int r = vl_write_full(out, state, strlen(state)); /* fits into the pipe */
	vl_closep(&out);
	pid_t pid = r < 0 ? -1 : fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the hook %s", h->path);
	if (pid == 0)
		become_hook(h, dir, in, capable, self);
	bool in_time = ends_in_time(pid, h->timeout);
	if (!in_time)
		kill(pid, SIGKILL);
	int status = vl_wait(pid);
	if (!in_time)
		return vl_fail(err, ETIMEDOUT, "hook %s (%s) has not ended within %lld s", h->path, h->why,
			       (long long)h->timeout);
	return status ? vl_fail(err, EIO, "hook %s (%s) has ended with status %d", h->path, h->why, status) : 0;
}

static int run_hooks(const struct plan *p, bool inside, const char *dir, const char *state, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < p->n_hooks && r == 0; i++)
		if (p->hooks[i].inside == inside)
			r = run_hook(&p->hooks[i], dir, state, !inside, err);
	return r;
}

/* ---- the bundle ------------------------------------------------------------------------------------ */

static void put(vl_json *j, const char *key, const char *value)
{
	vl_json_set(j, key, vl_json_new_str(value));
}

static char *state_text(const char *status, const char *bundle)
{
	VL_FREE char *id = vl_asprintf("vial-%d", getpid());
	VL_JSON vl_json *j = vl_json_new_obj();

	put(j, "ociVersion", OCI_VERSION);
	put(j, "id", id);
	put(j, "status", status);
	vl_json_set(j, "pid", vl_json_new_int(getpid()));
	put(j, "bundle", bundle);
	return vl_json_text(j, false);
}

static char *config_text(const struct plan *p, const char *root)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *r = vl_json_new_obj();
	bool writable = p->writable || p->writable_tmpfs || (p->n_overlays && p->overlays[p->n_overlays - 1].writable);

	put(j, "ociVersion", OCI_VERSION);
	put(r, "path", root);
	vl_json_set(r, "readonly", vl_json_new_bool(!writable));
	vl_json_set(j, "root", r);
	return vl_json_text(j, false);
}

static int write_config(int dirfd, const char *text)
{
	VL_CLOSE int fd = openat(dirfd, "config.json", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : vl_write_full(fd, text, strlen(text));
}

/* *ret_bundle: its root directory, attached at dir. *ret_root: where the container's root goes. */
static int make_bundle(const struct plan *p, const char *dir, int *ret_bundle, int *ret_root, struct vl_err *err)
{
	static const char *const opts[] = { "source=vial", "mode=0700", NULL };
	VL_CLOSE int place = vl_open(dir, O_PATH | O_DIRECTORY, 0, err);
	VL_CLOSE int fd = place < 0 ? -1 : vmnt_new("tmpfs", opts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);

	if (fd < 0)
		return -err->code;
	int r = vmnt_attach(fd, place, dir, err);
	if (r < 0)
		return r;
	VL_FREE char *root = vl_asprintf("%s/rootfs", dir), *config = config_text(p, root);
	r = mkdirat(fd, "rootfs", 0755) < 0 ? -errno : write_config(fd, config);
	VL_CLOSE int rootfs = r < 0 ? -1 : openat(fd, "rootfs", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (rootfs < 0)
		return vl_fail_sys(err, r < 0 ? -r : errno, "cannot make a bundle for hooks in %s", dir);
	*ret_bundle = vl_steal_fd(&fd);
	*ret_root = vl_steal_fd(&rootfs);
	return 0;
}

/* The scratch tmpfs covers a directory of the host, which a hook may want to see; what was cloned out of it stays. */
static void uncover_host(const struct ctr_root *r)
{
	VL_FREE char *path = r->scratch < 0 ? NULL : vl_fd_path(r->scratch);

	if (path && path[1]) /* not "/" */
		umount2(path, MNT_DETACH);
}

int ctr_hooks_outside(const struct ctr_root *r, const struct plan *p, const char *dir, struct vl_err *err)
{
	VL_CLOSE int bundle = -1, rootfs = -1;

	if (!has_hooks(p, false))
		return 0;
	uncover_host(r);
	int e = make_bundle(p, dir, &bundle, &rootfs, err);
	/* moved, not cloned: what a hook mounts in it is in the container */
	if (e < 0 || (e = vmnt_attach(r->fd, rootfs, "rootfs", err)) < 0)
		return e;
	VL_FREE char *state = state_text("creating", dir);
	if ((e = run_hooks(p, false, dir, state, err)) < 0)
		return e;
	return vmnt_attach(r->fd, r->host, "/", err);
}

int ctr_hooks_inside(const struct ctr_root *r, const struct plan *p, const char *dir, struct vl_err *err)
{
	int e = 0;

	if (has_hooks(p, true)) {
		VL_FREE char *state = state_text("created", dir ? dir : "/");
		e = run_hooks(p, true, "/", state, err);
	}
	return e < 0 || !p->sealed ? e : vmnt_restrict(r->fd, MOUNT_ATTR_RDONLY, false, "the container's root", err);
}
