/* Overlays in ext3 files. Two programs of the host do it: fuse2fs serves a file, fuse-overlayfs the stack, for
 * the kernel's overlayfs takes no FUSE file system for changes, and what fuse-overlayfs has written only it reads
 * rightly. They mount by path, so a helper gives them a mount namespace of their own:
 *
 *   container's namespace          helper, fuse2fs, fuse-overlayfs
 *     /     <-- the stack, cloned --  /sys/all   then let go of here: the container's is the last one
 *                                     /sys/0...  let go of as well: fuse-overlayfs has them open
 *
 * So the end of the container ends fuse-overlayfs, that ends fuse2fs, which writes back, and then the helper. */
#include <vial/mount.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* where the helper mounts, in its namespace only. Nobody keeps overlays there, whose paths fuse-overlayfs looks up */
#define PLACE "/sys"
#define STDERR_MAX 4096
#define NOTE_MAX 4096

/* What the two need of the namespace's powers. Of a user who is not 0 a program keeps them by this set alone. */
static const cap_value_t needed[] = { CAP_SYS_ADMIN, CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH,
				      CAP_FOWNER,    CAP_FSETID, CAP_SETUID,       CAP_SETGID };

#define LAYERS_MAX 256
#define NAME_SHOWN 1024

struct helper {
	int sock, done;
	char *fuse2fs, *fuse_overlayfs;
	/* by messages: */
	struct vmnt_layer *layers;
	size_t n;
	struct vmnt_ext_how how;
};
struct layer_msg { /* with the descriptor of one layer */
	bool ext;
	uint64_t off;
	char name[NAME_SHOWN];
};

/* ---- finding the programs --------------------------------------------------------------------- */

static int find_program(const char *image, const char *name, char **ret, struct vl_err *err)
{
	*ret = vl_find_program(name, "/usr/bin:/bin:/usr/sbin:/sbin");
	return *ret ? 0
		    : vl_fail(err, ENOSYS,
			      "%s: an ext3 overlay needs the program %s, which is not installed here; as root: install "
			      "the package %s, or use a directory as overlay",
			      image, name, name);
}

/* ---- in the helper: running them ---------------------------------------------------------------- */

static int keep_capabilities(void)
{
	int n = (int)VL_COUNT(needed);
	cap_t caps = cap_init();
	int r = !caps || cap_set_flag(caps, CAP_PERMITTED, n, needed, CAP_SET) < 0 ||
		cap_set_flag(caps, CAP_EFFECTIVE, n, needed, CAP_SET) < 0 ||
		cap_set_flag(caps, CAP_INHERITABLE, n, needed, CAP_SET) < 0;

	for (cap_value_t c = 0; r == 0 && cap_get_bound(c) >= 0; c++) {
		bool keep = false;
		for (size_t i = 0; i < VL_COUNT(needed); i++)
			keep |= needed[i] == c;
		if (!keep)
			r = cap_drop_bound(c);
	}
	r = r || cap_set_proc(caps) < 0;
	for (size_t i = 0; r == 0 && i < VL_COUNT(needed); i++)
		r = cap_set_ambient(needed[i], CAP_SET);
	cap_free(caps);
	return r || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -1 : 0;
}

/* Every descriptor that they find open is one of ours that they are to have. */
static void inherit_fds(const struct helper *h, int out)
{
	fcntl(0, F_SETFD, 0); /* not close-on-exec: /dev/null */
	dup2(out, 1);         /* not close-on-exec: standard output and errors */
	dup2(out, 2);         /* not close-on-exec: the same */
	for (size_t i = 0; i < h->n; i++)
		fcntl(h->layers[i].fd, F_SETFD, 0); /* not close-on-exec: opened by its number; holds the lock */
}

static pid_t run(const struct helper *h, const char *const *argv, int out)
{
	static const char *const env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	inherit_fds(h, out);
	if (keep_capabilities() == 0)
		execve(argv[0], (char *const *)argv, (char *const *)env);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Says in its own words why it ended: the last line it wrote. */
static int fail_program(const char *program, const char *name, int out, struct vl_err *err)
{
	char text[STDERR_MAX + 1];
	ssize_t n = pread(out, text, STDERR_MAX, 0);

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '.'))
		n--;
	text[VL_MAX(n, 0)] = 0;
	const char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	VL_FREE char *shown = vl_printable(line, strlen(line));
	return vl_fail(err, EIO, "%s: %s could not mount it: %s", name, vl_basename(program),
		       *shown ? shown : "it ended without a word");
}

/* Until something is mounted on the directory, or the program that should do it has ended. */
static int wait_mounted(const char *place, pid_t pid, struct vl_err *err)
{
	VL_CLOSE int mounts = vl_open("/proc/self/mountinfo", O_RDONLY, 0, err);
	VL_CLOSE int end = (int)syscall(SYS_pidfd_open, pid, 0);
	struct stat before, now;

	if (mounts < 0)
		return mounts;
	if (end < 0 || stat(PLACE, &before) < 0)
		return vl_fail_sys(err, errno, "cannot follow a program");
	for (;;) {
		struct pollfd p[] = { { mounts, POLLPRI, 0 }, { end, POLLIN, 0 } };
		if (stat(place, &now) < 0) /* we made it ourselves: so it is mounted, and gives errors */
			return vl_fail_sys(err, errno, "its root directory cannot be read");
		if (now.st_dev != before.st_dev)
			return 0; /* and has answered */
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot follow a program");
		if (p[1].revents)
			return vl_fail(err, ECHILD, "it ended");
	}
}

static int start(const struct helper *h, const char *const *argv, const char *place, const char *name,
		 struct vl_err *err)
{
	VL_CLOSE int out = memfd_create("messages", MFD_CLOEXEC);
	struct vl_err none = { 0 };

	if (mkdir(place, 0755) < 0 || out < 0)
		return vl_fail_sys(err, errno, "cannot prepare %s", vl_basename(argv[0]));
	pid_t pid = run(h, argv, out);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start %s", vl_basename(argv[0]));
	int r = wait_mounted(place, pid, &none);
	if (r == -ECHILD)
		return fail_program(argv[0], name, out, err);
	return r < 0 ? vl_fail(err, EIO, "%s: %s", name, none.text) : 0;
}

/* ---- in the helper: the layers ------------------------------------------------------------------ */

/* A directory of the file system, whose links lead nowhere. */
static int open_dir(int root, const char *name)
{
	return openat(root, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static int start_ext(const struct helper *h, size_t i, bool writable, int *ret_root, struct vl_err *err)
{
	const struct vmnt_layer *l = &h->layers[i];
	char file[32], place[32], opts[96];
	const char *argv[] = { h->fuse2fs, file, place, "-f", "-o", opts, NULL };

	snprintf(file, sizeof file, "/proc/self/fd/%d", l->fd);
	snprintf(place, sizeof place, PLACE "/%zu", i);
	/* whoever uses the namespace is its root; who may do what is decided one layer above */
	snprintf(opts, sizeof opts, "allow_other,fakeroot%s,offset=%llu", writable ? "" : ",ro",
		 (unsigned long long)l->off);
	int r = start(h, argv, place, l->name, err);
	if (r < 0)
		return r;
	*ret_root = open_dir(AT_FDCWD, place);
	return *ret_root < 0 ? vl_fail_sys(err, errno, "%s", l->name) : 0;
}

/* "upper" of a layer, or all of it where it has none; never what a link in it leads to. */
static int lower_of(int root, const char *name, struct vl_err *err)
{
	int fd = open_dir(root, "upper");

	if (fd < 0 && errno == ENOENT)
		fd = open_dir(root, ".");
	return fd < 0 ? vl_fail_sys(err, errno, "%s: cannot use its directory upper", name) : fd;
}

static int upper_of(int root, const char *dir, mode_t mode, const char *name, struct vl_err *err)
{
	bool made = mkdirat(root, dir, 0755) == 0;

	if (!made && errno != EEXIST)
		return vl_fail_sys(err, errno, "%s: cannot make the directory %s in it, whose root is another user's",
				   name, dir);
	if (made && fchmodat(root, dir, mode, 0) < 0)
		return vl_fail_sys(err, errno, "%s: cannot set the mode of %s in it", name, dir);
	int fd = open_dir(root, dir);
	return fd < 0 ? vl_fail_sys(err, errno, "%s: cannot use its directory %s", name, dir) : fd;
}

/* fuse2fs opens some file systems for reading only, and says so to nobody. */
static int check_writable(int work, const char *name, struct vl_err *err)
{
	if ((mkdirat(work, ".vial", 0700) < 0 && errno != EEXIST) || unlinkat(work, ".vial", AT_REMOVEDIR) < 0)
		return vl_fail_sys(err, errno, "%s: cannot write to its directory work, which must be this user's",
				   name);
	return 0;
}

static int add_layers(const struct helper *h, struct vl_buf *opts, struct vl_err *err)
{
	VL_BUF struct vl_buf lower = { 0 }, upper = { 0 };
	int r;

	for (size_t i = h->n; i-- > 0;) { /* the topmost comes first in their list */
		const struct vmnt_layer *l = &h->layers[i];
		bool writable = h->how.writable && i + 1 == h->n;
		int root = -1, fd = l->fd, work;
		if (l->ext && (r = start_ext(h, i, writable, &root, err)) < 0)
			return r;
		if (writable) {
			fd = upper_of(root, "upper", h->how.mode, l->name, err);
			work = fd < 0 ? fd : upper_of(root, "work", 0755, l->name, err);
			if (work < 0 || (r = check_writable(work, l->name, err)) < 0)
				return work < 0 ? work : r;
			fcntl(fd, F_SETFD, 0);   /* not close-on-exec: fuse-overlayfs gets it by number */
			fcntl(work, F_SETFD, 0); /* not close-on-exec: the same */
			vl_buf_addf(&upper, ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", fd, work);
		} else {
			if (l->ext && (fd = lower_of(root, l->name, err)) < 0)
				return fd;
			fcntl(fd, F_SETFD, 0); /* not close-on-exec: the same */
			vl_buf_addf(&lower, "%s/proc/self/fd/%d", lower.len ? ":" : "", fd);
		}
		vl_closep(&root);
	}
	/* noacl: what the layers below answer about access lists makes the kernel refuse files of others */
	vl_buf_addf(opts, "lowerdir=%s%s,noacl%s", lower.data, upper.len ? upper.data : "",
		    geteuid() == 0 ? "" : ",allow_other");
	return 0;
}

static int bring_up(struct helper *h, int *ret_mount, struct vl_err *err)
{
	static const char *const tmpfs[] = { "source=vial", "mode=0755", NULL };
	static const char all[] = PLACE "/all";
	VL_BUF struct vl_buf opts = { 0 };
	const char *top = h->layers[h->n - 1].name;
	int r;

	if ((r = find_program(top, "fuse2fs", &h->fuse2fs, err)) < 0 ||
	    (r = find_program(top, "fuse-overlayfs", &h->fuse_overlayfs, err)) < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL) < 0)
		return vl_fail_sys(err, errno, "cannot make a mount namespace for ext3 overlays");
	VL_CLOSE int dir = vmnt_new("tmpfs", tmpfs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	VL_CLOSE int place = dir < 0 ? dir : vl_open(PLACE, O_PATH | O_DIRECTORY, 0, err);
	if (place < 0 || vmnt_attach(dir, place, PLACE, err) < 0)
		return -err->code;
	if ((r = add_layers(h, &opts, err)) < 0)
		return r;
	const char *argv[] = { h->fuse_overlayfs, "-f", "-o", opts.data, all, NULL };
	if ((r = start(h, argv, all, top, err)) < 0)
		return r;
	VL_CLOSE int fd = vmnt_clone(AT_FDCWD, all, false, false, err);
	if (fd < 0 || vmnt_restrict(fd, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false, "the overlays", err) < 0)
		return -err->code;
	*ret_mount = vl_steal_fd(&fd);
	return 0;
}

/* Every mount of ours: what is in use stays until it is not. */
static void let_go(const struct helper *h)
{
	char place[32];

	umount2(PLACE "/all", MNT_DETACH);
	for (size_t i = 0; i < h->n; i++) {
		snprintf(place, sizeof place, PLACE "/%zu", i);
		if (h->layers[i].ext)
			umount2(place, MNT_DETACH);
	}
	umount2(PLACE, MNT_DETACH);
}

/* Until all is told. False: there will be no container. */
static bool hear(struct helper *h)
{
	struct layer_msg m;
	enum vl_msg_type type;
	size_t n;
	int fd;

	for (;;) {
		memset(&m, 0, sizeof m);
		int r = vl_msg_recv_fd(h->sock, &type, &fd, &m, sizeof m, &n);
		if (r < 0 || (type == VL_MSG_FD && (fd < 0 || n != sizeof m)))
			return false;
		if (type != VL_MSG_FD)
			return h->n && vl_msg_recv(h->sock, &type, &h->how, sizeof h->how, &n) == 0 &&
			       n == sizeof h->how;
		h->layers = vl_realloc(h->layers, h->n + 1, sizeof *h->layers);
		h->layers[h->n++] = (struct vmnt_layer){ vl_move_fd_above_stdio(fd), m.ext, m.off,
							 vl_strndup(m.name, NAME_SHOWN - 1) };
	}
}

struct note {
	int dir; /* where it lies; -1 = there is none */
	const char *name;
	char text[NOTE_MAX + 1]; /* as this start wrote it */
};

static bool read_note(const struct note *n, char ret[NOTE_MAX + 1])
{
	VL_CLOSE int fd = openat(n->dir, n->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : pread(fd, ret, NOTE_MAX, 0);

	ret[VL_MAX(len, 0)] = 0;
	return len >= 0;
}

/* Now, while the lock is this start's. */
static void find_note(struct note *n, const char *path)
{
	VL_FREE char *dir = vl_strndup(path, (size_t)(strrchr(path, '/') - path) + 1);

	n->name = strrchr(path, '/') + 1;
	n->dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (n->dir >= 0 && !read_note(n, n->text))
		vl_closep(&n->dir);
}

/* The lock went with the last that served the file: the next one may have written its own. */
static void remove_note(struct note *n)
{
	char text[NOTE_MAX + 1];

	if (n->dir >= 0 && read_note(n, text) && vl_streq(text, n->text))
		(void)!unlinkat(n->dir, n->name, 0);
	vl_closep(&n->dir);
}

static void help(void *arg)
{
	struct helper *h = arg;
	const int keep[] = { h->sock, h->done };
	struct note note = { .dir = -1 };
	struct vl_err err = { 0 };
	int mount = -1;

	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
	prctl(PR_SET_NAME, "vial-overlay");
	if (chdir("/") < 0 || !hear(h))
		return;
	if (*h->how.tidy)
		find_note(&note, h->how.tidy);
	if (bring_up(h, &mount, &err) == 0)
		vl_msg_send_fd(h->sock, mount, "", 1);
	else
		vl_msg_send_err(h->sock, &err);
	vl_closep(&mount);
	/* what fuse-overlayfs has open lives on; nothing else does, and without a user all of it ends */
	let_go(h);
	const int rest[] = { h->done, note.dir };
	vl_close_all_but(rest, VL_COUNT(rest));
	while (wait(NULL) > 0 || errno == EINTR)
		;
	remove_note(&note);
}

/* ---- in the caller ------------------------------------------------------------------------------ */

int vmnt_ext_start(int done, struct vmnt_ext *ret, struct vl_err *err)
{
	struct helper h = { .done = done };
	int pair[2];

	int r = vl_msg_pair(pair, err);
	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = h.sock = vl_move_fd_above_stdio(pair[1]);
	if (mine < 0 || theirs < 0)
		return vl_fail_sys(err, EMFILE, "cannot start the helper of ext3 overlays");
	r = vl_start_apart(help, &h, &ret->starter);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot start the helper of ext3 overlays");
	ret->sock = vl_steal_fd(&mine);
	return 0;
}

void vmnt_ext_abort(struct vmnt_ext *e)
{
	vl_closep(&e->sock);
	if (e->starter)
		vl_wait(e->starter);
	e->starter = 0;
}

static int send_layer(int sock, const struct vmnt_layer *l)
{
	struct layer_msg m = { .ext = l->ext, .off = l->off };

	snprintf(m.name, sizeof m.name, "%s", l->name);
	return vl_msg_send_fd(sock, l->fd, &m, sizeof m);
}

static int receive_mount(int sock, struct vl_err *err)
{
	struct vl_err got = { 0 };
	enum vl_msg_type type = VL_MSG_ERR;
	size_t n = 0;
	int fd = -1;

	int r = vl_msg_recv_fd(sock, &type, &fd, &got, sizeof got, &n);
	if (r == 0 && type == VL_MSG_FD && fd >= 0)
		return fd;
	vl_closep(&fd);
	if (r < 0 || type != VL_MSG_ERR || n != sizeof got)
		return vl_fail(err, EPIPE, "the helper of ext3 overlays ended before it was ready");
	got.text[sizeof got.text - 1] = 0;
	return vl_fail(err, got.code, "%s", got.text);
}

int vmnt_ext_stack(struct vmnt_ext *e, const struct vmnt_layer *layers, size_t n, const struct vmnt_ext_how *how,
		   struct vl_err *err)
{
	int r = n > LAYERS_MAX ? vl_fail(err, E2BIG, "more than %d layers cannot be stacked", LAYERS_MAX) : 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = send_layer(e->sock, &layers[i]);
	if (r == 0)
		r = vl_msg_send(e->sock, VL_MSG_OK, NULL, 0);
	if (r == 0)
		r = vl_msg_send(e->sock, VL_MSG_OK, how, sizeof *how);
	r = r == 0 || r == -EPIPE ? receive_mount(e->sock, err) : r;
	vmnt_ext_abort(e);
	return r < 0 && !err->code ? vl_fail_sys(err, -r, "cannot speak to the helper of ext3 overlays") : r;
}
