/* An image's files, for a child that only looks at them. It is read without a mount, by a process of its own behind the filter
 * of the image's server: it parses what anybody may have made. */
#include "host.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define ANSWER_MAX (1u << 20) /* some hundred short lines */
#define TELL_MAX 8192         /* two paths and a sentence */
#define WALK_MAX 4000000u     /* names; images with a million are the largest known */
#define DEPTH_MAX 128

/* ---- the child ---------------------------------------------------------------------------------- */

void gpu_tree_tell(struct gpu_tree *t, char what, const char *text)
{
	if (t->out.len > ANSWER_MAX / 2 || strlen(text) > TELL_MAX)
		return;
	vl_buf_add(&t->out, &what, 1);
	vl_buf_add(&t->out, text, strlen(text) + 1);
}

ssize_t gpu_tree_read(void *arg, void *p, size_t n, uint64_t off)
{
	struct gpu_tree *t = arg;
	struct vl_err err;
	struct stat st;

	if (t->peek)
		return vmnt_peek_read(t->peek, t->path, off, p, n);
	VL_CLOSE int fd = vl_open_in_root(t->fd, t->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &err);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	return gpu_read_fd(&fd, p, n, off);
}

void gpu_tree_list(struct gpu_tree *t, const char *path, struct vl_strv *ret)
{
	const struct gpu_host h = { .fd = t->fd };

	if (t->peek)
		(void)vmnt_peek_list(t->peek, path, ret);
	else
		gpu_list(&h, path, ret);
}

char *gpu_tree_text(struct gpu_tree *t, const char *path, size_t max, size_t *ret_len)
{
	VL_BUF struct vl_buf b = { 0 };
	char some[16384];
	ssize_t n;

	t->path = path;
	vl_buf_adds(&b, "");
	while ((n = gpu_tree_read(t, some, sizeof some, b.len)) > 0) {
		vl_buf_add(&b, some, (size_t)n);
		if (b.len > max)
			return NULL;
	}
	*ret_len = b.len;
	return n < 0 ? NULL : vl_steal(&b.data);
}

/* No link is followed: what it leads to is found where it is. */
static void walk(int parent, const char *name, const char *path, unsigned depth, unsigned *left, vmnt_peek_file *f,
		 void *arg)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct stat st;

	if (!d && fd >= 0)
		close(fd);
	for (struct dirent *e; d && *left && (e = readdir(d));) {
		if (vl_streq(e->d_name, ".") || vl_streq(e->d_name, ".."))
			continue;
		--*left;
		VL_FREE char *child = vl_asprintf("%s/%s", path, e->d_name);
		unsigned char type = e->d_type;
		if (type == DT_UNKNOWN && fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			type = IFTODT(st.st_mode);
		if (type == DT_REG)
			f(arg, child);
		else if (type == DT_DIR && depth < DEPTH_MAX)
			walk(fd, e->d_name, child, depth + 1, left, f, arg);
	}
	if (d)
		closedir(d);
}

void gpu_tree_walk(struct gpu_tree *t, vmnt_peek_file *f, void *arg)
{
	unsigned left = WALK_MAX;

	if (t->peek)
		vmnt_peek_walk(t->peek, f, arg);
	else
		walk(t->fd, ".", "", 0, &left, f, arg);
}

const char *const gpu_tree_lib_dirs[] = { "/lib/x86_64-linux-gnu",
					  "/usr/lib/x86_64-linux-gnu",
					  "/lib/aarch64-linux-gnu",
					  "/usr/lib/aarch64-linux-gnu",
					  "/lib/powerpc64le-linux-gnu",
					  "/lib64",
					  "/usr/lib64",
					  "/lib",
					  "/usr/lib",
					  NULL };

int gpu_tree_elf(struct gpu_tree *t, const char *path, struct gpu_elf *ret)
{
	GPU_ELF struct gpu_elf e = { 0 };

	t->path = path;
	if (gpu_elf_load(gpu_tree_read, t, &e) < 0 || e.class != gpu_native_class || e.machine != gpu_native_machine)
		return -ENOEXEC;
	*ret = vl_move(&e);
	return 0;
}

/* The directories in the order of the list. */
bool gpu_tree_glibc(struct gpu_tree *t, struct vl_strv *ret_versions)
{
	for (const char *const *dir = gpu_tree_lib_dirs; *dir; dir++) {
		VL_FREE char *path = vl_asprintf("%s/libc.so.6", *dir);
		GPU_ELF struct gpu_elf e = { 0 };
		if (gpu_tree_elf(t, path, &e) < 0)
			continue;
		for (size_t k = 0; k < e.defines.n; k++)
			if (vl_prefix(e.defines.v[k], "GLIBC_"))
				vl_strv_add(ret_versions, e.defines.v[k]);
		return true;
	}
	return false;
}

static void be_alone(int image, int out, pid_t parent)
{
	const int keep[] = { image, out };

	vl_close_all_but(keep, VL_COUNT(keep));
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
}

static void look_and_tell(enum plan_image kind, const struct vmnt_image *image, int out, gpu_tree_look *look, void *arg)
{
	struct gpu_tree t = { .fd = image->fd };
	struct vl_err err = { 0 };
	int r = kind == PLAN_SQUASHFS ? vmnt_peek_open(image, &t.peek, &err) : 0;

	if (r == 0)
		look(&t, arg);
	if (r == 0 && t.peek && vmnt_peek_bad(t.peek)) /* what cannot be read looks as what is not there */
		r = vl_fail(&err, EBADMSG, "it is not what its hash tree says; the image was changed");
	if (r == 0) {
		gpu_tree_tell(&t, '.', "");
	} else {
		gpu_tree_tell(&t, 'x', err.text);
	}
	vl_write_full(out, t.out.data, t.out.len);
	_exit(0);
}

/* ---- the caller --------------------------------------------------------------------------------- */

static int take_all(const struct vl_buf *b, const char *name, struct vl_strv *ret, struct vl_err *err)
{
	VL_STRV struct vl_strv lines = { 0 };
	bool end = false;

	for (size_t at = 0; at < b->len; at += strlen(b->data + at) + 1) {
		const char *line = b->data + at;
		if (*line == 'x') {
			VL_FREE char *shown = vl_printable(line + 1, strlen(line + 1));
			return vl_fail(err, EIO, "%s", shown);
		}
		if (*line == '.')
			end = true;
		else
			vl_strv_add(&lines, line);
	}
	if (!end)
		return vl_fail(err, EPROTO, "%s: the process that reads it ended early", name);
	*ret = vl_move(&lines);
	return 0;
}

int gpu_tree_ask(enum plan_image kind, const struct vmnt_image *image, gpu_tree_look *look, void *arg,
		 struct vl_strv *ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	VL_CLOSE int in = fds[0];
	pid_t parent = getpid(), pid = -1;
	int out = vl_move_fd_above_stdio(fds[1]); /* below, it would be closed with the caller's */
	if (out >= 0)
		pid = fork();
	if (pid == 0) {
		be_alone(image->fd, out, parent);
		look_and_tell(kind, image, out, look, arg);
	}
	vl_closep(&out);
	if (pid > 0)
		vl_read_pipe(in, ANSWER_MAX, &b);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the process that reads the image");
	vl_wait(pid);
	return take_all(&b, image->name, ret, err);
}
