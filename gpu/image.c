/* What an image says of itself that decides which of the host's libraries fit. It is read without a mount, by a child of its
 * own behind the filter of the image's server: it parses what anybody may have made. */
#include "host.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define ANSWER_MAX (1u << 20) /* some hundred short lines */
#define TEXT_MAX 65536
#define NAMES_MAX 4096

void gpu_image_free(struct gpu_image *i)
{
	vl_strv_free(&i->versions);
	vl_strv_free(&i->libraries);
	vl_strv_free(&i->cudart);
	vl_freep(&i->cuda_compat);
	vl_freep(&i->rocm);
}

bool gpu_image_has(const struct gpu_image *i, const char *soname)
{
	return vl_strv_has(&i->libraries, soname);
}

/* glibc's numbered versions come one after the other; the others, as GLIBC_ABI_DT_RELR, are there or not. */
const char *gpu_image_lacks(const struct gpu_image *i, const struct vl_strv *needs)
{
	for (size_t k = 0; k < needs->n; k++) {
		const char *v = vl_prefix(needs->v[k], "GLIBC_");
		bool there = !v || vl_strv_has(&i->versions, needs->v[k]);
		for (size_t n = 0; !there && *v >= '0' && *v <= '9' && n < i->versions.n; n++) {
			const char *own = vl_prefix(i->versions.v[n], "GLIBC_");
			there = own && *own >= '0' && *own <= '9' && gpu_version_cmp(own, v) >= 0;
		}
		if (!there)
			return needs->v[k];
	}
	return NULL;
}

/* ---- the child ---------------------------------------------------------------------------------- */

struct tree {
	struct vmnt_peek *peek; /* NULL: through fd */
	int fd;
	const char *path; /* of the file being read */
	struct vl_buf out;
};

static void tell(struct tree *t, char what, const char *text)
{
	if (t->out.len > ANSWER_MAX / 2 || strlen(text) > 255)
		return;
	vl_buf_add(&t->out, &what, 1);
	vl_buf_add(&t->out, text, strlen(text) + 1);
}

static ssize_t read_tree(void *arg, void *p, size_t n, uint64_t off)
{
	struct tree *t = arg;
	struct vl_err err;
	struct stat st;

	if (t->peek)
		return vmnt_peek_read(t->peek, t->path, off, p, n);
	VL_CLOSE int fd = vl_open_in_root(t->fd, t->path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &err);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -ENOENT;
	return gpu_read_fd(&fd, p, n, off);
}

static void list_tree(struct tree *t, const char *path, struct vl_strv *ret)
{
	const struct gpu_host h = { .fd = t->fd };

	if (t->peek)
		(void)vmnt_peek_list(t->peek, path, ret);
	else
		gpu_list(&h, path, ret);
}

/* Returns new, NUL-terminated, or NULL. */
static char *text_of(struct tree *t, const char *path, size_t max, size_t *ret_len)
{
	VL_BUF struct vl_buf b = { 0 };
	char some[16384];
	ssize_t n;

	t->path = path;
	vl_buf_adds(&b, "");
	while ((n = read_tree(t, some, sizeof some, b.len)) > 0) {
		vl_buf_add(&b, some, (size_t)n);
		if (b.len > max)
			return NULL;
	}
	*ret_len = b.len;
	return n < 0 ? NULL : vl_steal(&b.data);
}

static const char *const lib_dirs[] = { "/lib/x86_64-linux-gnu",
					"/usr/lib/x86_64-linux-gnu",
					"/lib/aarch64-linux-gnu",
					"/usr/lib/aarch64-linux-gnu",
					"/lib/powerpc64le-linux-gnu",
					"/lib64",
					"/usr/lib64",
					"/lib",
					"/usr/lib" };

static void look_for_libc(struct tree *t)
{
	for (size_t i = 0; i < VL_COUNT(lib_dirs); i++) {
		VL_FREE char *path = vl_asprintf("%s/libc.so.6", lib_dirs[i]);
		GPU_ELF struct gpu_elf e = { 0 };
		t->path = path;
		if (gpu_elf_load(read_tree, t, &e) < 0 || e.class != gpu_native_class ||
		    e.machine != gpu_native_machine)
			continue;
		tell(t, 'g', "");
		for (size_t k = 0; k < e.defines.n; k++)
			if (vl_prefix(e.defines.v[k], "GLIBC_"))
				tell(t, 'v', e.defines.v[k]);
		return;
	}
	VL_STRV struct vl_strv names = { 0 };
	list_tree(t, "/lib", &names);
	for (size_t i = 0; i < names.n; i++)
		if (vl_prefix(names.v[i], "ld-musl-")) {
			tell(t, 'm', "");
			return;
		}
}

static void take_name(struct tree *t, const char *name)
{
	const char *v = vl_prefix(name, "libcudart.so.");

	if (v && *v)
		tell(t, 'c', v);
	else if (gpu_family_of(name))
		tell(t, 'l', name);
}

static void take_cached(void *arg, const char *name, const char *path)
{
	(void)path;
	take_name(arg, name);
}

static void take_dir(struct tree *t, const char *dir)
{
	VL_STRV struct vl_strv names = { 0 };

	list_tree(t, dir, &names);
	for (size_t i = 0; i < VL_MIN(names.n, (size_t)NAMES_MAX); i++)
		take_name(t, names.v[i]);
}

static void look_for_libraries(struct tree *t)
{
	size_t len = 0;
	VL_FREE char *cache = text_of(t, "/etc/ld.so.cache", GPU_LDCACHE_MAX, &len);

	if (cache)
		(void)gpu_ldcache(cache, len, take_cached, t);
	for (size_t i = 0; i < VL_COUNT(lib_dirs); i++)
		take_dir(t, lib_dirs[i]);
	take_dir(t, "/opt/rocm/lib");
}

/* CUDA's runtime comes with the toolkit, with conda and as a package of Python's. */
static void look_for_cudart(struct tree *t)
{
	static const char *const dirs[] = { "/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib",
					    "/usr/local/cuda/targets/sbsa-linux/lib", "/opt/conda/lib" };
	static const char *const pythons[] = { "/usr/lib", "/usr/local/lib", "/opt/conda/lib", "/opt/venv/lib",
					       "/venv/lib" };

	for (size_t i = 0; i < VL_COUNT(dirs); i++)
		take_dir(t, dirs[i]);
	for (size_t i = 0; i < VL_COUNT(pythons); i++) {
		VL_STRV struct vl_strv names = { 0 };
		list_tree(t, pythons[i], &names);
		for (size_t k = 0; k < VL_MIN(names.n, (size_t)NAMES_MAX); k++) {
			if (!vl_prefix(names.v[k], "python3"))
				continue;
			VL_FREE char *site =
				vl_asprintf("%s/%s/site-packages/nvidia/cuda_runtime/lib", pythons[i], names.v[k]);
			VL_FREE char *dist =
				vl_asprintf("%s/%s/dist-packages/nvidia/cuda_runtime/lib", pythons[i], names.v[k]);
			take_dir(t, site);
			take_dir(t, dist);
		}
	}
}

static void look_for_more(struct tree *t)
{
	VL_STRV struct vl_strv names = { 0 };
	size_t len = 0;
	VL_FREE char *rocm = text_of(t, "/opt/rocm/.info/version", TEXT_MAX, &len);

	list_tree(t, "/usr/local/cuda/compat", &names);
	for (size_t i = 0; i < names.n; i++) {
		const char *v = vl_prefix(names.v[i], "libcuda.so.");
		if (v && strchr(v, '.'))
			tell(t, 'f', v);
	}
	if (rocm) {
		rocm[strcspn(rocm, "\r\n")] = 0;
		tell(t, 'r', rocm);
	}
	look_for_cudart(t);
}

static void be_alone(int image, int out, pid_t parent)
{
	const int keep[] = { image, out };

	vl_close_all_but(keep, VL_COUNT(keep));
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
}

static void look(enum plan_image kind, const struct vmnt_image *image, int out)
{
	struct tree t = { .fd = image->fd };
	struct vl_err err = { 0 };
	int r = kind == PLAN_SQUASHFS ? vmnt_peek_open(image, &t.peek, &err) : 0;

	if (r == 0) {
		look_for_libc(&t);
		look_for_libraries(&t);
		look_for_more(&t);
	}
	if (r == 0 && t.peek && vmnt_peek_bad(t.peek)) /* what cannot be read looks as what is not there */
		r = vl_fail(&err, EBADMSG, "it is not what its hash tree says; the image was changed");
	if (r == 0) {
		tell(&t, '.', "");
	} else {
		tell(&t, 'x', err.text);
	}
	for (size_t at = 0; at < t.out.len;) {
		ssize_t n = write(out, t.out.data + at, t.out.len - at);
		if (n <= 0)
			break;
		at += (size_t)n;
	}
	_exit(0);
}

/* ---- the caller --------------------------------------------------------------------------------- */

static bool is_plain(const char *s)
{
	for (; *s; s++)
		if (*s < 0x21 || *s > 0x7e)
			return false;
	return true;
}

static void take_once(struct vl_strv *l, const char *s)
{
	if (!vl_strv_has(l, s))
		vl_strv_add(l, s);
}

/* What the child says is the image's word: plain text it is, or nothing. */
static int take(const char *s, struct gpu_image *ret, bool *ret_end, const char *name, struct vl_err *err)
{
	char what = *s++;

	if (what == 'x') {
		VL_FREE char *shown = vl_printable(s, strlen(s));
		return vl_fail(err, EIO, "%s", shown);
	}
	if (!is_plain(s))
		return 0;
	if (what == 'g')
		ret->libc = GPU_LIBC_GLIBC;
	else if (what == 'm')
		ret->libc = GPU_LIBC_MUSL;
	else if (what == 'v')
		take_once(&ret->versions, s);
	else if (what == 'l')
		take_once(&ret->libraries, s);
	else if (what == 'c')
		take_once(&ret->cudart, s);
	else if (what == 'f' && !ret->cuda_compat)
		ret->cuda_compat = vl_strdup(s);
	else if (what == 'r' && !ret->rocm)
		ret->rocm = vl_strdup(s);
	else if (what == '.')
		*ret_end = true;
	else if (!strchr("fr", what))
		return vl_fail(err, EPROTO, "%s: the process that reads the image makes no sense", name);
	return 0;
}

static int take_all(const struct vl_buf *b, const char *name, struct gpu_image *ret, struct vl_err *err)
{
	GPU_IMAGE struct gpu_image i = { 0 };
	bool end = false;
	int r = 0;

	for (size_t at = 0; at < b->len && r == 0; at += strlen(b->data + at) + 1)
		r = take(b->data + at, &i, &end, name, err);
	if (r == 0 && !end)
		r = vl_fail(err, EPROTO, "%s: the process that reads it ended early", name);
	if (r == 0)
		*ret = vl_move(&i);
	return r;
}

static void read_all(int fd, struct vl_buf *b)
{
	char some[4096];
	ssize_t n;

	while ((n = read(fd, some, sizeof some)) > 0 || (n < 0 && errno == EINTR))
		if (n > 0 && b->len < ANSWER_MAX)
			vl_buf_add(b, some, (size_t)n);
}

int gpu_image_look(enum plan_image kind, const struct vmnt_image *image, struct gpu_image *ret, struct vl_err *err)
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
		look(kind, image, out);
	}
	vl_closep(&out);
	if (pid > 0)
		read_all(in, &b);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the process that reads the image");
	vl_wait(pid);
	return take_all(&b, image->name, ret, err);
}
