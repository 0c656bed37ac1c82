/* --overlay, --writable and the overlay partitions of an image: words and objects to layers of the plan. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define EXT_MAGIC_AT 1080 /* in the superblock, which begins at 1024 */

/* PATH[:ro|:rw]; returns the path, new. */
static char *split(const char *word, bool *ret_ro)
{
	const char *colon = strrchr(word, ':');
	bool ro = colon && vl_streq(colon, ":ro"), rw = colon && vl_streq(colon, ":rw");

	*ret_ro = ro;
	return vl_strndup(word, ro || rw ? (size_t)(colon - word) : strlen(word));
}

static int kind_of_file(int fd, const char *path, enum plan_layer *ret, struct vl_err *err)
{
	uint8_t head[4] = { 0 }, ext[2] = { 0 };

	if (pread(fd, head, sizeof head, 0) < 0 || pread(fd, ext, sizeof ext, EXT_MAGIC_AT) < 0)
		return vl_fail_sys(err, errno, "cannot read the overlay %s", path);
	if (!memcmp(head, "hsqs", 4))
		*ret = PLAN_LAYER_SQUASHFS;
	else if (vl_le16(ext) == 0xef53)
		*ret = PLAN_LAYER_EXT3;
	else
		return vl_fail(err, EINVAL, "the overlay %s is neither a directory nor a squashfs or ext3 image", path);
	return 0;
}

static int kind_of(int fd, const char *path, enum plan_layer *ret, struct vl_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat the overlay %s", path);
	if (S_ISREG(st.st_mode))
		return kind_of_file(fd, path, ret, err);
	*ret = PLAN_LAYER_DIR;
	return S_ISDIR(st.st_mode) ? 0 : vl_fail(err, EINVAL, "the overlay %s is neither a file nor a directory", path);
}

/* The same file once more, for reading or for both: an open file of its own has a lock of its own. */
static int open_again(int fd, const char *path, bool writable, struct vl_err *err)
{
	VL_FREE char *again = vl_asprintf("/proc/self/fd/%d", fd);
	int r = open(again, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY), e = errno;

	if (r < 0 && writable)
		return vl_fail(err, e, "%s cannot be changed: %s; --overlay %s:ro uses it as it is", path, strerror(e),
			       path);
	return r < 0 ? vl_fail_sys(err, e, "cannot open %s", path) : vl_move_fd_above_stdio(r);
}

static void add(struct plan *p, struct plan_overlay *o)
{
	p->overlays = vl_realloc(p->overlays, p->n_overlays + 1, sizeof *p->overlays);
	p->overlays[p->n_overlays++] = *o;
}

static int add_word(struct plan *p, const char *word, struct vl_err *err)
{
	bool ro;
	VL_FREE char *path = split(word, &ro);
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), again = -1;
	struct plan_overlay o = { .fd = -1, .lock = -1 };

	if (fd < 0 && errno == ENOENT)
		return vl_fail(
			err, ENOENT,
			"the overlay %s does not exist; mkdir makes a directory to use, 'vial overlay create' an "
			"image",
			path);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open the overlay %s", path);
	int r = kind_of(fd, path, &o.kind, err);
	if (r < 0)
		return r;
	o.writable = !ro && o.kind != PLAN_LAYER_SQUASHFS; /* which nothing can change, as everybody knows */
	if (o.kind == PLAN_LAYER_DIR)
		again = vl_move_fd_above_stdio(vl_steal_fd(&fd));
	else
		again = open_again(fd, path, o.writable, err);
	if (again < 0)
		return err->code ? -err->code : vl_fail_sys(err, EMFILE, "cannot open the overlay %s", path);
	o.fd = vl_steal_fd(&again);
	o.path = vl_path_absolute(path);
	add(p, &o);
	return 0;
}

/* Those of a SIF are the lowest, in the order of its table. With --writable the last ext3 takes the changes. */
static int add_embedded(struct plan *p, const struct action_image *image, bool writable, struct vl_err *err)
{
	ssize_t top = -1;

	for (size_t i = 0; i < image->n_overlays; i++)
		if (image->overlays[i].ext)
			top = (ssize_t)i;
	if (writable && top < 0)
		return vl_fail(
			err, EROFS,
			"%s cannot be changed in place: it has no writable overlay; 'vial overlay create %s' adds "
			"one, and --writable-tmpfs keeps changes in memory",
			image->path, image->path);
	for (size_t i = 0; i < image->n_overlays; i++) {
		struct plan_overlay o = { .kind = image->overlays[i].ext ? PLAN_LAYER_EXT3 : PLAN_LAYER_SQUASHFS,
					  .writable = writable && (ssize_t)i == top,
					  .lock = -1,
					  .off = image->overlays[i].off,
					  .size = image->overlays[i].size };
		o.fd = open_again(image->fd, image->path, o.writable, err);
		if (o.fd < 0)
			return -err->code;
		o.path = vl_strdup(image->path);
		add(p, &o);
	}
	return 0;
}

/* The one that is written to goes on top, whatever its place on the command line. */
static int raise_writable(struct plan *p, struct vl_err *err)
{
	ssize_t at = -1;

	for (size_t i = 0; i < p->n_overlays; i++) {
		if (!p->overlays[i].writable)
			continue;
		if (at >= 0)
			return vl_fail(
				err, EINVAL,
				"only one overlay can take the changes, and %s and %s both would; add :ro to one",
				p->overlays[at].path, p->overlays[i].path);
		at = (ssize_t)i;
	}
	if (at < 0)
		return 0;
	struct plan_overlay o = p->overlays[at];
	memmove(&p->overlays[at], &p->overlays[at + 1], (p->n_overlays - (size_t)at - 1) * sizeof o);
	p->overlays[p->n_overlays - 1] = o;
	return 0;
}

static bool same_file(const struct plan_overlay *a, const struct plan_overlay *b)
{
	struct stat x, y;

	return fstat(a->fd, &x) == 0 && fstat(b->fd, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino &&
	       a->off == b->off;
}

static int check_twice(const struct plan *p, struct vl_err *err)
{
	for (size_t i = 0; i < p->n_overlays; i++)
		for (size_t k = 0; k < i; k++)
			if (same_file(&p->overlays[i], &p->overlays[k]))
				return vl_fail(err, EINVAL, "the overlay %s is given twice", p->overlays[i].path);
	return 0;
}

int cmd_plan_overlays(const struct action_opts *o, const struct action_image *image, const struct vl_progress *say,
		      struct plan *p, struct vl_err *err)
{
	const char *program = p->argv.n ? p->argv.v[0] : vl_basename(image->path);
	int r;

	if (o->tmpfs_size && (vl_parse_size(o->tmpfs_size, UINT64_MAX >> 1, &p->tmpfs_size) < 0 || !p->tmpfs_size))
		return vl_fail(err, EINVAL, "--tmpfs-size takes a size such as 512M, not '%s'", o->tmpfs_size);
	if ((r = add_embedded(p, image, o->writable && image->kind != PLAN_DIRECTORY, err)) < 0)
		return r;
	for (size_t i = 0; i < o->overlay.n; i++)
		if ((r = add_word(p, o->overlay.v[i], err)) < 0)
			return r;
	if ((r = check_twice(p, err)) < 0 || (r = raise_writable(p, err)) < 0)
		return r;
	bool keeps = p->n_overlays && p->overlays[p->n_overlays - 1].writable;
	if (p->writable && p->n_overlays)
		return vl_fail(err, EINVAL, "--writable changes %s itself and goes together with no --overlay",
			       image->path);
	if (keeps && p->writable_tmpfs)
		vl_progress_warn(say,
				 "changes are kept in %s; --writable-tmpfs has no effect beside a writable overlay",
				 p->overlays[p->n_overlays - 1].path);
	if (o->tmpfs_size && !opt_getenv("TMPFS_SIZE") && !p->writable_tmpfs)
		vl_progress_warn(say, "--tmpfs-size does nothing without --writable-tmpfs");
	for (size_t i = 0; i < p->n_overlays && !o->explain; i++) {
		p->overlays[i].patience = o->overlay_patience;
		if ((r = ctr_overlay_lock(&p->overlays[i], program, err)) < 0)
			return r;
	}
	return 0;
}
