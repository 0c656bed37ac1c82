/* The root of a container, stacked: the image, what binds need and it lacks, the overlays, and on top what may
 * be changed. By the kernel's overlayfs, or by two FUSE programs where an ext3 file is among them. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

/* ---- where changes cannot be kept ------------------------------------------------------------- */

/* statfs(2) and the kernel's magic.h; file systems of clusters have theirs in their own sources. */
static const struct {
	unsigned type;
	const char *name;
} fs_names[] = {
	{ 0x6969, "nfs" },          { 0x0bd00bd0, "lustre" }, { 0x47504653, "gpfs" },  { 0x19830326, "beegfs" },
	{ 0x00c36400, "ceph" },     { 0xaad7aaea, "panfs" },  { 0xff534d42, "cifs" },  { 0xfe534d42, "smb2" },
	{ 0x65735546, "fuse" },     { 0x01021997, "9p" },     { 0x5346414f, "afs" },   { 0x01161970, "gfs2" },
	{ 0x7461636f, "ocfs2" },    { 0x01021994, "tmpfs" },  { 0x858458f6, "ramfs" }, { 0x794c7630, "overlay" },
	{ 0x4d44, "vfat" },         { 0x2011bab0, "exfat" },  { 0x5346544e, "ntfs" },  { 0x7366746e, "ntfs3" },
	{ 0x73717368, "squashfs" }, { 0xf15f, "ecryptfs" },   { 0x9660, "iso9660" },   { 0xef53, "ext4" },
	{ 0x58465342, "xfs" },      { 0x9123683e, "btrfs" },  { 0x2fc12fc1, "zfs" },   { 0xf2f52010, "f2fs" },
};

char *ctr_fs_name(int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s) < 0)
		return vl_strdup("unknown");
	for (size_t i = 0; i < VL_COUNT(fs_names); i++)
		if (fs_names[i].type == (unsigned)s.f_type)
			return vl_strdup(fs_names[i].name);
	return vl_asprintf("of type 0x%x", (unsigned)s.f_type);
}

/* why: what the kernel said; "" = nothing */
static int fail_upper(const struct plan_overlay *o, int fd, const char *why, struct vl_err *err)
{
	VL_FREE char *fs = ctr_fs_name(fd);

	return vl_fail(err, EOPNOTSUPP,
		       "%s: changes cannot be kept here: its file system is %s%s%s; a directory as overlay must lie on "
		       "a local one such as ext4, xfs or tmpfs; use one there, an image of 'vial overlay create', or "
		       "--writable-tmpfs",
		       o->path, fs, *why ? ": " : "", why);
}

/* ---- opening the layers ------------------------------------------------------------------------- */

void ctr_layers_free(struct ctr_layers *l)
{
	for (size_t i = 0; i < l->n; i++) {
		vmnt_server_abort(&l->v[i].server);
		vl_closep(&l->v[i].fd);
	}
	vl_freep(&l->v);
	vmnt_ext_abort(&l->ext);
	vl_closep(&l->follower);
	l->n = 0;
}

static bool has_ext(const struct plan *p)
{
	for (size_t i = 0; i < p->n_overlays; i++)
		if (p->overlays[i].kind == PLAN_LAYER_EXT3)
			return true;
	return false;
}

int ctr_layers_start(const struct plan *p, bool all_ids, int done, struct ctr_layers *ret, struct vl_err *err)
{
	ret->v = vl_alloc((p->n_overlays + 1) * sizeof *ret->v);
	ret->n = p->n_overlays;
	for (size_t i = 0; i < ret->n; i++) {
		const struct plan_overlay *o = &p->overlays[i];
		ret->v[i].server = (struct vmnt_server)VMNT_SERVER_INIT;
		ret->v[i].fd = -1;
		ret->v[i].image = (struct vmnt_image){
			.fd = o->fd,
			.off = o->off,
			.size = o->size,
			.name = o->path,
			.uid = p->user.uid,
			.gid = p->user.gid,
			.all_ids = all_ids,
			.memory = p->server_memory,
			.threads = p->server_threads,
		};
	}
	for (size_t i = 0; i < ret->n; i++) {
		int r = p->overlays[i].kind == PLAN_LAYER_SQUASHFS
				? vmnt_server_start(&ret->v[i].image, &ret->v[i].server, err)
				: 0;
		if (r < 0)
			return r;
	}
	int r = has_ext(p) ? vmnt_ext_start(done, &ret->ext, err) : 0;
	return r < 0 ? r : ctr_locks_follow(p, &ret->follower, err);
}

/* The directory that the plan's descriptor is, in this mount namespace: overlayfs takes nothing of another. */
static int reopen(const struct plan_overlay *o, struct vl_err *err)
{
	struct stat a, b;
	VL_CLOSE int fd = vl_open(o->path, O_PATH | O_DIRECTORY, 0, err);

	if (fd < 0)
		return fd;
	if (fstat(fd, &a) < 0 || fstat(o->fd, &b) < 0)
		return vl_fail_sys(err, errno, "%s", o->path);
	if (a.st_dev != b.st_dev || a.st_ino != b.st_ino)
		return vl_fail(err, ESTALE, "%s was replaced while the container started; try again", o->path);
	return vl_steal_fd(&fd);
}

/* A link in it may lead anywhere, and its maker need not be its user: neither is followed. */
static int open_part(const struct plan_overlay *o, int dir, const char *name, struct vl_err *err)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), e = errno;

	if (fd < 0 && (e == ENOTDIR || e == ELOOP))
		return vl_fail(err, ENOTDIR, "%s/%s is not a directory; it is where an overlay keeps its files",
			       o->path, name);
	return fd < 0 ? vl_fail_sys(err, e, "cannot open %s/%s", o->path, name) : fd;
}

/* "upper", or all of it when it was never written to. */
static int open_lower(const struct plan_overlay *o, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int dir = reopen(o, err);

	if (dir < 0)
		return dir;
	if (fstatat(dir, "upper", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
		return vl_steal_fd(&dir);
	return open_part(o, dir, "upper", err);
}

static int make_part(const struct plan_overlay *o, int dir, const char *name, mode_t mode, struct vl_err *err)
{
	if (mkdirat(dir, name, 0755) == 0)
		/* that of "/", which is the image's to say and not the umask's */
		return fchmodat(dir, name, mode, 0) < 0 ? vl_fail_sys(err, errno, "cannot make %s/%s", o->path, name)
							: 0;
	return errno == EEXIST ? 0 : vl_fail_sys(err, errno, "cannot make %s/%s", o->path, name);
}

static int open_upper(const struct plan_overlay *o, mode_t mode, int *ret_upper, int *ret_work, struct vl_err *err)
{
	VL_CLOSE int dir = reopen(o, err);
	int r;

	if (dir < 0)
		return dir;
	if ((r = make_part(o, dir, "upper", mode, err)) < 0 || (r = make_part(o, dir, "work", 0700, err)) < 0)
		return r;
	VL_CLOSE int upper = open_part(o, dir, "upper", err);
	VL_CLOSE int work = upper < 0 ? upper : open_part(o, dir, "work", err);
	if (work < 0)
		return work;
	/* without these overlayfs still works, and forgets which directories hide what is below them */
	if (fsetxattr(work, "user.overlay.vial", "y", 1, 0) < 0 && errno == EOPNOTSUPP)
		return fail_upper(o, work, "it keeps no extended attributes", err);
	*ret_upper = vl_steal_fd(&upper);
	*ret_work = vl_steal_fd(&work);
	return 0;
}

/* ---- stacking ----------------------------------------------------------------------------------- */

struct stack {
	int *lower; /* borrowed */
	size_t n;
	int upper, work; /* owned; -1 = nothing may be changed */
};

static void stack_free(struct stack *s)
{
	vl_freep(&s->lower);
	vl_closep(&s->upper);
	vl_closep(&s->work);
}

static int attach_over(struct ctr_root *r, int fd, struct vl_err *err)
{
	int e = vmnt_attach(fd, r->host, "/", err);

	if (e == 0)
		r->covers++;
	return e;
}

/* What binds need and a directory image lacks (a squashfs server makes it up by itself). */
static int made_up(struct ctr_root *r, const struct plan *p, const struct vmnt_place *places, int *ret,
		   struct vl_err *err)
{
	unsigned made = 0;
	struct stat st;
	int e;

	if (p->image != PLAN_DIRECTORY || p->writable)
		return 0;
	if ((e = ctr_scratch(r, err)) < 0)
		return e;
	if (fstat(r->fd, &st) < 0 || mkdirat(r->scratch, "made", 0755) < 0 ||
	    fchmodat(r->scratch, "made", st.st_mode & 07777, 0) < 0)
		return vl_fail_sys(err, errno, "cannot prepare the places of binds");
	VL_CLOSE int dir = openat(r->scratch, "made", O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < p->n_mounts; i++)
		if ((e = ctr_make_place(r, dir, &places[i], &made, err)) < 0)
			return e;
	*ret = made ? vl_steal_fd(&dir) : -1;
	return 0;
}

static int open_layers(struct ctr_root *r, const struct plan *p, struct ctr_layers *l, struct vl_err *err)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct plan_overlay *o = &p->overlays[i];
		struct ctr_layer *y = &l->v[i];
		int e = 0;
		if (o->kind == PLAN_LAYER_DIR && !o->writable)
			e = y->fd = open_lower(o, err);
		else if (o->kind == PLAN_LAYER_SQUASHFS)
			e = y->fd = vmnt_server_mount(&y->server, &y->image, NULL, err);
		if (e >= 0 && o->kind == PLAN_LAYER_SQUASHFS)
			e = attach_over(r, y->fd, err);
		if (e < 0)
			return e;
	}
	return 0;
}

/* The writable layer in memory. */
static int open_memory(struct ctr_root *r, mode_t mode, struct stack *s, struct vl_err *err)
{
	int e = ctr_scratch(r, err);

	if (e < 0)
		return e;
	if (mkdirat(r->scratch, "upper", 0755) < 0 || fchmodat(r->scratch, "upper", mode, 0) < 0 ||
	    mkdirat(r->scratch, "work", 0755) < 0)
		return vl_fail_sys(err, errno, "cannot prepare a writable layer");
	s->upper = openat(r->scratch, "upper", O_PATH | O_DIRECTORY | O_CLOEXEC);
	s->work = openat(r->scratch, "work", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return s->upper < 0 || s->work < 0 ? vl_fail_sys(err, errno, "cannot prepare a writable layer") : 0;
}

static int mount_kernel(const struct plan_overlay *top, const struct stack *s, struct vl_err *err)
{
	struct statvfs v;
	VL_CLOSE int fd = vmnt_overlay(s->lower, s->n, s->upper, s->work, err);

	if (fd < 0 && top) {
		struct vl_err why = *err;
		return fail_upper(top, s->upper, why.text, err);
	}
	if (fd < 0)
		return vl_wrap(err, "cannot put a layer over the image");
	/* where it cannot set up its work directory, overlayfs goes on without changes */
	if (s->upper >= 0 && fstatvfs(fd, &v) == 0 && v.f_flag & ST_RDONLY)
		return top ? fail_upper(top, s->upper, "the kernel mounts it read-only", err)
			   : vl_fail(err, EROFS, "the kernel makes no writable layer in memory");
	if (s->upper < 0) {
		int e = vmnt_restrict(fd, MOUNT_ATTR_RDONLY, false, "the image", err);
		if (e < 0)
			return e;
	}
	return vl_steal_fd(&fd);
}

/* With an ext3 file among them: the image with all layers, by the other way. below: how many of s are the image's.
 * Changes go into the file, when it is the one that takes them. */
static int mount_ext(const struct plan *p, struct ctr_layers *l, const struct stack *s, size_t below, mode_t mode,
		     struct vl_err *err)
{
	VL_FREE struct vmnt_layer *v = vl_alloc((below + l->n + 1) * sizeof *v);
	const struct plan_overlay *top = &p->overlays[l->n - 1];
	bool writable = top->writable && top->kind == PLAN_LAYER_EXT3;
	struct vmnt_ext_how how = { .writable = writable, .mode = mode };
	VL_FREE char *note = ctr_lock_note_path(top);
	size_t n = 0;

	if (writable && strlen(note) < sizeof how.tidy)
		memcpy(how.tidy, note, strlen(note));

	for (size_t i = 0; i < below; i++)
		v[n++] = (struct vmnt_layer){ .fd = s->lower[i], .name = p->image_path };
	for (size_t i = 0; i < l->n; i++) {
		const struct plan_overlay *o = &p->overlays[i];
		bool ext = o->kind == PLAN_LAYER_EXT3;
		if (ext || l->v[i].fd >= 0)
			v[n++] = (struct vmnt_layer){ ext ? o->fd : l->v[i].fd, ext, o->off, o->path };
	}
	int fd = vmnt_ext_stack(&l->ext, v, n, &how, err);
	int e = fd < 0 || writable ? fd : vmnt_restrict(fd, MOUNT_ATTR_RDONLY, false, "the image", err);
	if (fd >= 0 && e < 0)
		close(fd);
	return e < 0 ? e : fd;
}

/* What was the root is below the new one from now on, and counts as a cover. */
static int use(struct ctr_root *r, int fd, struct vl_err *err)
{
	int e = fd < 0 ? fd : attach_over(r, fd, err);

	if (e < 0) {
		vl_closep(&fd);
		return e;
	}
	close(r->fd);
	r->fd = fd;
	return 0;
}

int ctr_stack(struct ctr_root *r, const struct plan *p, const struct vmnt_place *places, struct ctr_layers *l,
	      struct vl_err *err)
{
	VL_CLEANUP(stack_free) struct stack s = { .upper = -1, .work = -1 };
	const struct plan_overlay *top = l->n && p->overlays[l->n - 1].writable ? &p->overlays[l->n - 1] : NULL;
	VL_CLOSE int made = -1;
	struct stat st;
	int e = made_up(r, p, places, &made, err);

	if (e < 0 || (e = open_layers(r, p, l, err)) < 0)
		return e;
	if (fstat(r->fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot look at the image's root");
	s.lower = vl_alloc((l->n + 2) * sizeof *s.lower);
	s.lower[s.n++] = r->fd;
	if (made >= 0)
		s.lower[s.n++] = made;
	size_t below = s.n;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].fd >= 0)
			s.lower[s.n++] = l->v[i].fd;
	if (top && top->kind == PLAN_LAYER_DIR)
		e = open_upper(top, st.st_mode & 07777, &s.upper, &s.work, err);
	else if (!top && p->writable_tmpfs)
		e = open_memory(r, st.st_mode & 07777, &s, err);
	if (e < 0)
		return e;
	if (has_ext(p)) {
		if ((e = use(r, mount_ext(p, l, &s, below, st.st_mode & 07777, err), err)) < 0)
			return e;
		s.lower[0] = r->fd;
		s.n = 1;
	}
	if (s.n > 1 || s.upper >= 0) /* else the image as it is */
		e = use(r, mount_kernel(top, &s, err), err);
	if (e < 0)
		return e;
	r->writable |= top != NULL;
	return ctr_locks_until_unmounted(l->follower, r->fd, p, &l->unlocked, err);
}
