/* `overlay create`: an ext3 file system for changes, as a file or in a SIF. mke2fs makes it. */
#include "commands.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <vial/rootless.h>
#include <vial/sif.h>

#define LEAST_MIB 64 /* what other runtimes demand too; a journal alone takes some */
#define MOST_MIB (16u << 20)
#define SAID_MAX 4096

#define O(f) offsetof(struct cmd_overlay_opts, f)
const struct opt cmd_overlay_create_opts[] = {
	{ 's', "size", OPT_U64, O(size), "MIB", "size in MiB, at least 64 (default 64)", NULL, 0 },
	{ 'S', "sparse", OPT_FLAG, O(sparse), NULL, "take disk space only when it is used; not in a SIF", NULL, 0 },
	{ 0, "create-dir", OPT_LIST, O(dirs), "DIR", "make this directory in the overlay", NULL, 0 },
	{ 'f', "fakeroot", OPT_FLAG, O(fakeroot), NULL, "owned by root, for use with --fakeroot", NULL, 0 },
	OPT_END,
};
#undef O

/* ---- what the new file system begins with -------------------------------------------------------- */

static void remove_tree(char **path)
{
	if (*path)
		vl_remove_tree(AT_FDCWD, *path);
	vl_freep(path);
}

static int make_dirs(const char *root, const char *path, struct vl_err *err)
{
	VL_FREE char *all = vl_asprintf("%s%s", root, path);

	for (char *p = all + strlen(root) + 1;; *p++ = '/') {
		p += strcspn(p, "/");
		bool last = !*p;
		*p = 0;
		if ((mkdir(all, 0755) < 0 && errno != EEXIST) || chmod(all, 0755) < 0) /* whatever the umask */
			return vl_fail_sys(err, errno, "cannot make %s", all);
		if (last)
			return 0;
	}
}

static int make_template(const struct cmd_overlay_opts *o, char **ret, struct vl_err *err)
{
	const char *tmp = getenv("TMPDIR");
	VL_CLEANUP(remove_tree) char *dir = NULL;
	VL_FREE char *name = vl_asprintf("%s/vial-overlay.XXXXXX", tmp && *tmp ? tmp : "/tmp");

	if (!mkdtemp(name))
		return vl_fail_sys(err, errno, "cannot make a temporary directory %s", name);
	dir = vl_steal(&name);
	int r = make_dirs(dir, "/upper", err);
	if (r == 0)
		r = make_dirs(dir, "/work", err);
	for (size_t i = 0; r == 0 && i < o->dirs.n; i++) {
		VL_FREE char *in = vl_asprintf("/%s", o->dirs.v[i]);
		VL_FREE char *clean = vl_path_clean(in);
		VL_FREE char *at = vl_asprintf("/upper%s", vl_streq(clean, "/") ? "" : clean);
		r = make_dirs(dir, at, err);
	}
	if (r == 0)
		*ret = vl_steal(&dir);
	return r;
}

/* ---- mke2fs --------------------------------------------------------------------------------------- */

static int find_mke2fs(char **ret, struct vl_err *err)
{
	*ret = vl_find_program("mke2fs", "/usr/sbin:/sbin");
	if (*ret)
		return 0;
	return vl_fail(err, ENOSYS,
		       "mke2fs, which makes ext3 file systems, is not installed here; as root: install the package "
		       "e2fsprogs");
}

#define NOT_STARTED 126 /* status of a child that could not become mke2fs: what it wrote says why */

static int fail_mke2fs(int out, int status, struct vl_err *err)
{
	char text[SAID_MAX];
	ssize_t n = pread(out, text, sizeof text, 0);

	while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '.'))
		n--;
	const char *nl = n > 0 ? memrchr(text, '\n', (size_t)n) : NULL;
	const char *line = nl ? nl + 1 : text;
	VL_FREE char *shown = vl_printable(line, n > 0 ? (size_t)(text + n - line) : 0);
	if (status == NOT_STARTED)
		return vl_fail(err, EPERM, "cannot start mke2fs: %s", shown);
	return vl_fail(err, EIO, "mke2fs failed%s%s", *shown ? ": " : "", shown);
}

/* The child. mke2fs copies the owners of the template too, so for root it sees them from a namespace where the caller is
 * root: files of his id would belong to nobody where a container has no id but root's. */
static void __attribute__((noreturn)) become_mke2fs(const char *const *argv, int fd, int out, bool root)
{
	struct vl_err err = { 0 };

	dup2(out, 1);          /* not close-on-exec: standard output and errors */
	dup2(out, 2);          /* not close-on-exec: the same */
	fcntl(fd, F_SETFD, 0); /* not close-on-exec: mke2fs opens it by its number */
	if (root && geteuid() != 0 && ctr_become_root(&err) < 0) {
		dprintf(2, "%s\n", err.text);
		_exit(NOT_STARTED);
	}
	execv(argv[0], (char *const *)argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(NOT_STARTED);
}

/* In the open file, as large as it is. */
static int run_mke2fs(int fd, const char *template, bool root, struct vl_err *err)
{
	char file[32], opts[96];
	VL_FREE char *program = NULL;

	int r = find_mke2fs(&program, err);
	VL_CLOSE int out = r < 0 ? r : vl_tmpfile("messages of mke2fs", err);
	if (out < 0)
		return out;
	snprintf(file, sizeof file, "/proc/self/fd/%d", fd);
	/* nobody is served by blocks kept back for root; discarding would give back what was just allocated */
	snprintf(opts, sizeof opts, "root_owner=%u:%u,lazy_itable_init=1,nodiscard", root ? 0 : getuid(),
		 root ? 0 : getgid());
	const char *argv[] = { program, "-q", "-F", "-t", "ext3",   "-b", "4096", "-m",
			       "0",     "-E", opts, "-d", template, file, NULL };
	pid_t pid = fork();
	if (pid == 0)
		become_mke2fs(argv, fd, out, root);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start %s", program);
	int status = vl_wait(pid);
	return status == 0 ? 0 : fail_mke2fs(out, status, err);
}

static int fill(const struct cmd_overlay_opts *o, int fd, bool sparse, struct vl_err *err)
{
	VL_CLEANUP(remove_tree) char *template = NULL;
	off_t size = (off_t)(o->size ? o->size : LEAST_MIB) << 20;

	int r = make_template(o, &template, err);
	if (r < 0)
		return r;
	if (ftruncate(fd, size) < 0)
		return vl_fail_sys(err, errno, "cannot make a file of %lld MiB", (long long)size >> 20);
	if (!sparse && (r = posix_fallocate(fd, 0, size)) != 0 && r != EOPNOTSUPP && r != EINVAL)
		return vl_fail_sys(err, r, "no room for an overlay of %lld MiB", (long long)size >> 20);
	return run_mke2fs(fd, template, o->fakeroot, err);
}

/* ---- where it goes ---------------------------------------------------------------------------------- */

static int new_file(const struct cmd_overlay_opts *o, const char *path, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	int r = vl_newfile_open(&f, path, 0600, false, err);

	if (r < 0 || (r = fill(o, f.fd, o->sparse, err)) < 0)
		return r;
	return vl_newfile_commit(&f, false, err);
}

static int may_get_one(const struct sif_image *sif, const struct sif_descr *primary, struct vl_err *err)
{
	if (sif_by_name(sif, SIF_SIGNATURE, ""))
		return vl_fail(
			err, EPERM,
			"the image is signed, and an overlay would make the signature worthless; delete the signature "
			"first (sif del), or create an overlay of its own and use it with --overlay");
	for (size_t i = 0; i < sif->n; i++)
		if (sif->d[i].type == SIF_PARTITION && sif_part_type(&sif->d[i]) == SIF_PART_OVERLAY &&
		    sif->d[i].group == primary->group)
			return vl_fail(err, EEXIST, "the image has an overlay, object %u", sif->d[i].id);
	return 0;
}

static int into_sif(const struct cmd_overlay_opts *o, int fd, struct vl_err *err)
{
	SIF_EDIT struct sif_edit *e = NULL;
	const struct sif_descr *primary;
	char arch[4];

	int r = sif_edit_begin(fd, cmd_now(), &e, err);
	if (r < 0 || (r = sif_primary(sif_edit_image(e), &primary, err)) < 0 ||
	    (r = may_get_one(sif_edit_image(e), primary, err)) < 0)
		return r;
	VL_CLOSE int file = vl_tmpfile("a new overlay", err);
	if (file < 0 || (r = fill(o, file, true, err)) < 0)
		return file < 0 ? file : r;
	sif_part_arch(primary, arch);
	const struct sif_object object = {
		.type = SIF_PARTITION,
		.group = primary->group,
		.name = "overlay.img",
		.fs = SIF_FS_EXT3,
		.part = SIF_PART_OVERLAY,
		.arch = sif_arch_name(arch),
	};
	r = sif_edit_add_fd(e, &object, file, NULL, err);
	return r == 0 ? sif_edit_commit(e, err) : r;
}

static int create(const struct cmd_overlay_opts *o, const char *path, struct vl_err *err)
{
	VL_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	uint8_t magic[10] = { 0 };

	if (fd < 0 && errno == ENOENT)
		return new_file(o, path, err);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open %s", path);
	if (pread(fd, magic, sizeof magic, 32) != sizeof magic || memcmp(magic, "SIF_MAGIC", sizeof magic) != 0)
		return vl_fail(err, EEXIST, "%s is there already, and is no SIF that could get an overlay", path);
	if (o->sparse)
		return vl_fail(err, EINVAL, "%s: an overlay in a SIF cannot be sparse; leave out --sparse", path);
	int r = into_sif(o, fd, err);
	return r < 0 ? vl_wrap(err, "%s", path) : 0;
}

int cmd_overlay_create_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_overlay_opts *o = opts;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (o->size && (o->size < LEAST_MIB || o->size > MOST_MIB))
		return cmd_usage(c, "--size takes MiB, at least %d", LEAST_MIB);
	int r = create(o, argv[0], &err);
	vl_strv_free(&o->dirs);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
