/* The future root directory and the one tmpfs behind everything that is made up. */
#include "rootless.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define AT_ONCE (128 << 10) /* bytes; of more, readahead() takes no notice */

struct vmnt_place *ctr_places(const struct plan *p)
{
	struct vmnt_place *l = vl_alloc((p->n_mounts + 1) * sizeof *l);
	struct stat st;

	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct plan_mount *m = &p->mounts[i];
		bool dir = m->kind != PLAN_BIND
				   ? m->kind != PLAN_TEXT && !(m->flags & PLAN_FILE)
				   : !(m->flags & PLAN_LINK) && stat(m->src, &st) == 0 && S_ISDIR(st.st_mode);
		l[i] = (struct vmnt_place){ .path = m->dst, .dir = dir, .nofollow = m->flags & PLAN_NOFOLLOW };
	}
	return l;
}

void ctr_root_free(struct ctr_root *r, size_t n_mounts)
{
	for (size_t i = 0; r->src && i < n_mounts; i++)
		vl_closep(&r->src[i]);
	vl_freep(&r->src);
	vl_freep(&r->id);
	ctr_served_free(r);
	vl_closep(&r->scratch);
	vl_closep(&r->host);
	vl_closep(&r->fd);
}

/* Before Linux 6.15 only what is attached can be cloned. Over a directory of the host's that nothing is taken from any
 * more it is in nobody's way, and goes with the host's root: a mount on that root would have to be let go of by itself,
 * and each such step waits for all processors. Without such a directory it stays as it is. */
static int attach_scratch(const struct ctr_root *r, int fd, struct vl_err *err)
{
	static const char *const spots[] = { "sys", "usr", "etc", "var", "tmp" };

	for (size_t i = 0; i < VL_COUNT(spots); i++) {
		VL_CLOSE int spot = openat(r->host, spots[i], O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (spot >= 0)
			return vmnt_attach(fd, spot, spots[i], err);
	}
	return 0;
}

int ctr_scratch(struct ctr_root *r, struct vl_err *err)
{
	char size[32];
	const char *opts[] = { "source=vial", "mode=0755", NULL, NULL };

	if (r->scratch >= 0)
		return r->scratch;
	snprintf(size, sizeof size, "size=%llu", (unsigned long long)r->scratch_size);
	if (r->scratch_size)
		opts[2] = size;
	VL_CLOSE int fd = vmnt_new("tmpfs", opts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, err);
	int e = fd < 0 ? fd : attach_scratch(r, fd, err);
	if (e < 0)
		return e;
	r->scratch = vl_steal_fd(&fd);
	return r->scratch;
}

/* mkdir -p of path below dirfd, then the file or directory itself. */
static int make_path(int dirfd, const char *path, bool dir, struct vl_err *err)
{
	VL_FREE char *part = vl_strdup(path + strspn(path, "/"));

	for (char *p = part;; *p++ = '/') {
		p += strcspn(p, "/");
		bool last = !*p;
		*p = 0;
		if (last && !dir) {
			VL_CLOSE int fd = openat(dirfd, part, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
			return fd < 0 ? vl_fail_sys(err, errno, "cannot make %s", part) : 0;
		}
		if (*part && mkdirat(dirfd, part, 0755) < 0 && errno != EEXIST)
			return vl_fail_sys(err, errno, "cannot make %s", part);
		if (last)
			return 0;
	}
}

/* Does it exist, with no symbolic link on the way? Then its name is where it is. */
static bool is_plain(int rootfd, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS };
	VL_CLOSE int fd = (int)syscall(SYS_openat2, rootfd, path, &how, sizeof how);

	return fd >= 0;
}

char *ctr_real_path(const struct ctr_root *r, const char *path, bool nofollow)
{
	VL_FREE char *above = vl_strdup(path);
	struct vl_err none;

	for (;; *strrchr(above, '/') = 0, nofollow = false) { /* the deepest one that exists */
		if (nofollow)
			continue;
		if (is_plain(r->fd, *above ? above : "/"))
			return vl_strdup(path);
		VL_CLOSE int fd = vl_open_in_root(r->fd, *above ? above : "/", O_PATH, 0, &none);
		/* the image lies over "/": the kernel's name is that in the image, links resolved */
		VL_FREE char *real = fd >= 0 ? vl_fd_path(fd) : NULL;
		if (real || !*above)
			return vl_asprintf("%s%s", real && !vl_streq(real, "/") ? real : "", path + strlen(above));
	}
}

/* What the image lacks is made in a layer before that is mounted: there everything is ours, while
 * in the merged tree a directory of another owner would refuse. */
int ctr_make_place(const struct ctr_root *r, int layer, const struct vmnt_place *place, unsigned *ret_made,
		   struct vl_err *err)
{
	int nofollow = place->nofollow ? O_NOFOLLOW : 0;
	VL_CLOSE int there = vl_open_in_root(r->fd, place->path, O_PATH | nofollow, 0, err);

	if (there >= 0)
		return 0;
	VL_FREE char *path = ctr_real_path(r, place->path, place->nofollow);
	++*ret_made;
	return make_path(layer, path, place->dir, err);
}

void ctr_look_at_top(int rootfd)
{
	VL_CLOSE int fd = openat(rootfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char b[8192];

	if (fd >= 0)
		(void)!getdents64(fd, b, sizeof b);
}

/* What has to be unpacked first holds up what the start asks for meanwhile: of that, little. What a profile has put in front is
 * copied, and then the start asks for it no more. */
void ctr_read_ahead(int rootfd, const struct vmnt_image *image)
{
	const off_t most = image->n_front ? VMNT_EARLY : VMNT_EARLY / 8;
	struct vl_err ignored;
	struct stat st;

	for (size_t i = 0; i < image->n_early; i++) {
		VL_CLOSE int fd = vl_open_in_root(rootfd, image->early[i], O_RDONLY | O_NONBLOCK, 0, &ignored);
		if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
			continue;
		for (off_t off = 0; off < VL_MIN(st.st_size, most); off += AT_ONCE)
			readahead(fd, off, AT_ONCE);
	}
}

int ctr_attach_root(struct ctr_root *r, const struct plan *p, const struct vmnt_place *places, struct ctr_layers *l,
		    int mountfd, struct vl_err *err)
{
	r->fd = mountfd;
	r->host = vl_open("/", O_PATH | O_DIRECTORY, 0, err);
	if (r->host < 0)
		return r->host;
	int e = vmnt_attach(r->fd, r->host, "/", err);
	if (e < 0)
		return e;
	if (p->writable_tmpfs)
		r->scratch_size = p->tmpfs_size ? p->tmpfs_size : ctr_memory_share();
	r->writable = p->writable;
	return ctr_stack(r, p, places, l, err);
}
