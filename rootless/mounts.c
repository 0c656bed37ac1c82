/* Sources are opened before anything covers them, targets when their parents are in place, and
 * both by descriptor: no name is looked up twice. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

static void warn_and_note(struct ctr_root *r, const struct vl_progress *say, const char *fmt, ...) VL_PRINTF(3, 4);
static void warn_and_note(struct ctr_root *r, const struct vl_progress *say, const char *fmt, ...)
{
	VL_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = vl_vasprintf(fmt, ap);
	va_end(ap);
	vl_progress_warn(say, "%s", text);
	r->alone = true;
}

int ctr_open_sources(struct ctr_root *r, const struct plan *p, const struct vl_progress *say, struct vl_err *err)
{
	r->src = vl_alloc((p->n_mounts + 1) * sizeof *r->src);
	r->id = vl_alloc((p->n_mounts + 1) * sizeof *r->id);
	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct plan_mount *m = &p->mounts[i];
		r->src[i] = -1;
		if (m->kind != PLAN_BIND)
			continue;
		r->src[i] = vmnt_clone(AT_FDCWD, m->src, true, !(m->flags & PLAN_LINK), err);
		if (r->src[i] >= 0 || (m->flags & PLAN_OPTIONAL && err->code == ENOENT))
			continue;
		if (!(m->flags & PLAN_OPTIONAL))
			return -err->code;
		warn_and_note(r, say, "%s is left out: %s", m->dst, err->text);
	}
	err->code = 0;
	return 0;
}

/* A directory in memory with a limit of its own. */
static int new_sized(const struct plan_mount *m, mode_t mode, struct vl_err *err)
{
	char size[32], modes[32];
	const char *opts[] = { "source=vial", size, modes, NULL };

	snprintf(size, sizeof size, "size=%llu", (unsigned long long)m->size);
	snprintf(modes, sizeof modes, "mode=%o", (unsigned)mode);
	return vmnt_new("tmpfs", opts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
}

/* A new directory in the scratch tmpfs, cloned as a mount of its own. */
static int new_tmpfs(struct ctr_root *r, const struct plan_mount *m, struct vl_err *err)
{
	mode_t mode = m->flags & PLAN_STICKY ? 01777 : m->kind == PLAN_DEV ? 0755 : 0700;
	char name[16];

	if (m->size)
		return new_sized(m, mode, err);
	int e = ctr_scratch(r, err);
	if (e < 0)
		return e;
	snprintf(name, sizeof name, "d%u", r->made++);
	if (mkdirat(r->scratch, name, 0700) < 0 || fchmodat(r->scratch, name, mode, 0) < 0)
		return vl_fail_sys(err, errno, "cannot make a directory in memory");
	return vmnt_clone(r->scratch, name, false, true, err);
}

/* A new file in the scratch tmpfs, cloned as a mount of its own. */
static int new_text(struct ctr_root *r, const char *path, const char *text, struct vl_err *err)
{
	char name[16];
	int e = ctr_scratch(r, err);

	if (e < 0)
		return e;
	snprintf(name, sizeof name, "f%u", r->made++);
	VL_CLOSE int file = openat(r->scratch, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	e = file < 0 ? -errno : vl_write_limited(file, text, strlen(text));
	if (e == 0 && fchmod(file, 0644) < 0) /* whatever the umask */
		e = -errno;
	if (e < 0)
		return vl_fail_sys(err, -e, "cannot write a new %s%s", path,
				   e == -EFBIG ? " under this limit on the size of files (ulimit -f)" : "");
	return vmnt_clone(r->scratch, name, false, true, err);
}

/* What is no bind: a new file or directory in memory, or a file system of a namespace of ours. */
static int new_mount(struct ctr_root *r, const struct plan_mount *m, const struct vl_progress *say, struct vl_err *err)
{
	if (m->kind == PLAN_TEXT)
		return new_text(r, m->dst, m->text, err);
	if (m->kind == PLAN_PROC)
		return ctr_new_proc(say, err);
	if (m->kind == PLAN_MQUEUE)
		return vmnt_new("mqueue", NULL, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	return new_tmpfs(r, m, err);
}

static uint64_t mount_id(int fd, uint64_t *ret_ino)
{
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | CTR_STATX_MNT_ID, &sx) < 0 || !(sx.stx_mask & CTR_STATX_MNT_ID))
		return 0;
	*ret_ino = sx.stx_ino;
	return sx.stx_mnt_id + 1;
}

/* The image may give one directory two names (/var/tmp -> /tmp): the second mount would hide the
 * first. Index of the mount whose root the target is, or -1. */
static ssize_t already_there(const struct ctr_root *r, const struct plan *p, int target)
{
	uint64_t ino = 0, root_ino, id = mount_id(target, &ino);

	for (size_t i = 0; id && i < p->n_mounts; i++)
		if (r->id[i] == id && r->src[i] >= 0 && mount_id(r->src[i], &root_ino) == id && root_ino == ino)
			return (ssize_t)i;
	return -1;
}

/* May something be made in this directory? In one of ours, and with --writable in the image itself;
 * never in one that is the user's. By mount and not by name: the image's links lead anywhere. */
static bool may_make_in(const struct ctr_root *r, const struct plan *p, int dir)
{
	uint64_t ino, id = mount_id(dir, &ino);

	if (r->writable && id && id == mount_id(r->fd, &ino))
		return true;
	for (size_t i = 0; id && i < p->n_mounts; i++)
		if (r->id[i] == id)
			return p->mounts[i].kind == PLAN_TMPFS || p->mounts[i].kind == PLAN_DEV ||
			       p->mounts[i].flags & PLAN_OWN;
	return false;
}

static int make_one(const struct ctr_root *r, const struct plan *p, const char *path, bool dir, struct vl_err *err)
{
	const char *slash = strrchr(path, '/');
	VL_FREE char *above = vl_strndup(path, VL_MAX((size_t)(slash - path), 1u));
	VL_CLOSE int parent = vl_open_in_root(r->fd, above, O_PATH | O_DIRECTORY, 0, err);

	if (parent < 0)
		return parent;
	if (!may_make_in(r, p, parent))
		return -ENOENT; /* the caller has the words */
	if (dir)
		return mkdirat(parent, slash + 1, 0755) == 0 || errno == EEXIST
			       ? 0
			       : vl_fail_sys(err, errno, "cannot make %s", path);
	VL_CLOSE int file = openat(parent, slash + 1, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	return file < 0 ? vl_fail_sys(err, errno, "cannot make %s", path) : 0;
}

static int make_target(const struct ctr_root *r, const struct plan *p, const char *path, bool dir, struct vl_err *err)
{
	VL_FREE char *part = vl_strdup(path);

	for (char *c = part + 1;; *c++ = '/') {
		c += strcspn(c, "/");
		bool last = !*c;
		*c = 0;
		VL_CLOSE int fd = vl_open_in_root(r->fd, part, O_PATH, 0, err);
		int e = fd < 0 ? make_one(r, p, part, !last || dir, err) : 0;
		if (e < 0 || last)
			return e;
	}
}

static int open_target(const struct ctr_root *r, const struct plan *p, size_t i, bool dir, struct vl_err *err)
{
	const struct plan_mount *m = &p->mounts[i];
	int flags = O_PATH | (m->flags & PLAN_NOFOLLOW ? O_NOFOLLOW : 0);
	int fd = vl_open_in_root(r->fd, m->dst, flags, 0, err);

	if (fd != -ENOENT)
		return fd;
	int e = make_target(r, p, m->dst, dir, err);
	if (e == 0)
		return vl_open_in_root(r->fd, m->dst, flags, 0, err);
	if (e != -ENOENT)
		return e;
	return vl_fail(
		err, ENOENT,
		"cannot mount %s on %s: it does not exist in the directory mounted above it; create it there first",
		m->src ? m->src : "tmpfs", m->dst);
}

/* A place in the image is the same for every start. One in what was bound there is where its directories and links lead now,
 * unless it is the very thing that is bound: a home below /home. */
static bool may_lead_elsewhere(const struct ctr_root *r, int source, int target)
{
	struct stat at, src;
	uint64_t ino;

	if (mount_id(target, &ino) == mount_id(r->fd, &ino))
		return false;
	return fstat(target, &at) < 0 || fstat(source, &src) < 0 || at.st_dev != src.st_dev || at.st_ino != src.st_ino;
}

static int place(struct ctr_root *r, const struct plan *p, size_t i, const struct vl_progress *say, struct vl_err *err)
{
	const struct plan_mount *m = &p->mounts[i];
	struct stat st;
	uint64_t ino;

	bool opened = m->kind == PLAN_BIND || m->kind == PLAN_IMAGE;
	if (opened && r->src[i] < 0)
		return 0;
	if (!opened && (r->src[i] = new_mount(r, m, say, err)) < 0)
		return r->src[i];
	bool dir = !(m->flags & PLAN_LINK) && fstat(r->src[i], &st) == 0 && S_ISDIR(st.st_mode);
	VL_CLOSE int target = open_target(r, p, i, dir, err);
	if (target < 0)
		return target;
	r->alone |= may_lead_elsewhere(r, r->src[i], target);
	ssize_t twin = already_there(r, p, target);
	if (twin >= 0) {
		if (!(m->flags & PLAN_DEFAULT))
			warn_and_note(r, say,
				      "%s is %s in this image, where something is mounted already; %s is not used",
				      m->dst, p->mounts[twin].dst, m->src ? m->src : "tmpfs");
		return 0;
	}
	unsigned attrs = MOUNT_ATTR_NOSUID | (m->flags & PLAN_DEVICES ? 0 : MOUNT_ATTR_NODEV) |
			 (m->flags & PLAN_RO ? MOUNT_ATTR_RDONLY : 0) |
			 (m->flags & PLAN_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
	int e = vmnt_restrict(r->src[i], attrs, true, m->dst, err);
	if (e < 0 || (e = vmnt_attach(r->src[i], target, m->dst, err)) < 0)
		return e;
	r->id[i] = mount_id(r->src[i], &ino);
	return m->kind == PLAN_DEV ? ctr_fill_dev(p, r->src[i], err) : 0;
}

/* ---- the order ------------------------------------------------------------------------------- */

struct order {
	char **real; /* per mount: where its place is in the image; NULL once it is mounted */
	size_t n;
};

static void free_order(struct order *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->real[i]);
	free(o->real);
}

/* Must a be mounted before b? The plan is sorted by the names that were asked for; but where the
 * image has /scratch -> /tmp, a mount on /tmp made later would hide one in /scratch. Of two on one
 * place the first is used, which shall not be a default. */
static bool goes_first(const struct plan *p, const struct order *o, size_t a, size_t b)
{
	const struct plan_mount *x = &p->mounts[a], *y = &p->mounts[b];

	if (ctr_lies_in(y->dst, x->dst) || ctr_lies_in(x->dst, y->dst))
		return ctr_lies_in(y->dst, x->dst);
	if (vl_streq(o->real[a], o->real[b]))
		return y->flags & PLAN_DEFAULT && !(x->flags & PLAN_DEFAULT);
	return ctr_lies_in(o->real[b], o->real[a]);
}

/* The next to be mounted: the first that waits for no other one. */
static size_t next_of(const struct plan *p, const struct order *o)
{
	size_t first = SIZE_MAX;

	for (size_t i = 0; i < o->n; i++) {
		bool waits = false;
		if (!o->real[i])
			continue;
		for (size_t k = 0; k < o->n && !waits; k++)
			waits = k != i && o->real[k] && goes_first(p, o, k, i);
		if (!waits)
			return i;
		first = VL_MIN(first, i);
	}
	return first; /* links in a ring: as written */
}

/* Links inside what was bound are not known before it is there. */
static void warn_of_hidden(struct ctr_root *r, const struct plan *p, const struct vl_progress *say)
{
	struct vl_err none;
	uint64_t ino;

	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct plan_mount *m = &p->mounts[i];
		if (!r->id[i] || m->flags & PLAN_DEFAULT)
			continue;
		VL_CLOSE int fd = vl_open_in_root(r->fd, m->dst, O_PATH, 0, &none);
		if (fd < 0 || mount_id(fd, &ino) != r->id[i])
			warn_and_note(r, say, "%s is hidden by another mount", m->dst);
	}
}

int ctr_place_mounts(struct ctr_root *r, const struct plan *p, const struct vl_progress *say, struct vl_err *err)
{
	VL_CLEANUP(free_order) struct order o = { vl_alloc((p->n_mounts + 1) * sizeof *o.real), p->n_mounts };

	for (size_t i = 0; i < o.n; i++)
		o.real[i] = ctr_real_path(r, p->mounts[i].dst, p->mounts[i].flags & PLAN_NOFOLLOW);
	for (size_t n = 0; n < o.n; n++) {
		size_t i = next_of(p, &o);
		int e = place(r, p, i, say, err);
		vl_freep(&o.real[i]);
		if (e < 0 && !(p->mounts[i].flags & PLAN_OPTIONAL))
			return e;
		if (e < 0 && e != -ENOENT)
			warn_and_note(r, say, "%s is left out: %s", p->mounts[i].dst, err->text);
		r->alone |= e < 0; /* the next start may find a place for it */
	}
	warn_of_hidden(r, p, say);
	err->code = 0;
	return 0;
}

int ctr_cover_file(struct ctr_root *r, const char *path, const char *text, struct vl_err *err)
{
	VL_CLOSE int target = vl_open_in_root(r->fd, path, O_PATH | O_NOFOLLOW, 0, err);
	if (target < 0)
		return target;
	VL_CLOSE int mount = new_text(r, path, text, err);
	if (mount < 0)
		return mount;
	int e = vmnt_restrict(mount, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false, path, err);
	return e < 0 ? e : vmnt_attach(mount, target, path, err);
}
