/* vial umount: what vial mount put there goes. */
#include "commands.h"
#include "mounts.h"

#include <vial/mount.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mount.h>

#define NAMED 3 /* of those that keep a mount busy */

const struct opt cmd_umount_opts[] = {
	{ 'l', "lazy", OPT_FLAG, offsetof(struct cmd_umount_opts, lazy), NULL,
	  "now out of sight, gone when its last user is", NULL, 0 },
	{ 'a', "all", OPT_FLAG, offsetof(struct cmd_umount_opts, all), NULL, "all mounts of yours", NULL, 0 },
	OPT_END,
};

/* ---- who keeps it busy ---------------------------------------------------------------------- */

/* By the names of what a process has, so that the image's server is asked nothing. */
static bool leads_into(int dirfd, const char *link, const char *dir)
{
	char path[PATH_MAX];
	ssize_t n = readlinkat(dirfd, link, path, sizeof path - 1);
	const char *rest;

	if (n <= 0)
		return false;
	path[n] = 0;
	rest = vl_prefix(path, dir);
	return rest && (!*rest || *rest == '/');
}

static bool has_open(int proc, const char *dir)
{
	int fd = openat(proc, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	bool yes = false;

	while (d && !yes && (e = readdir(d)))
		yes = *e->d_name != '.' && leads_into(dirfd(d), e->d_name, dir);
	if (d)
		closedir(d);
	return yes;
}

/* The program itself and its libraries. */
static bool has_mapped(int proc, const struct cmd_mounted *m)
{
	int fd = openat(proc, "maps", O_RDONLY | O_CLOEXEC);
	FILE *f = fd >= 0 ? fdopen(fd, "re") : NULL;
	char line[PATH_MAX + 128];
	unsigned major, minor;
	bool yes = false;

	while (f && !yes && fgets(line, sizeof line, f))
		yes = sscanf(line, "%*s %*s %*s %x:%x", &major, &minor) == 2 && major == m->major && minor == m->minor;
	if (f)
		fclose(f);
	return yes;
}

static bool uses(int proc, const struct cmd_mounted *m)
{
	return leads_into(proc, "cwd", m->dir) || leads_into(proc, "root", m->dir) || has_mapped(proc, m) ||
	       has_open(proc, m->dir);
}

static void add_name(struct vl_buf *b, int proc, const char *pid)
{
	VL_CLOSE int fd = openat(proc, "comm", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof text) : -1;
	VL_FREE char *name = n > 1 ? vl_printable(text, (size_t)n - 1) : vl_strdup("?"); /* a newline ends it */

	vl_buf_addf(b, "%s%s (%s)", b->len ? ", " : "", pid, name);
}

/* "12 (bash), 13 (vim) and 4 more"; empty when they cannot be seen. */
static void users_of(const struct cmd_mounted *m, struct vl_buf *b)
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	size_t n = 0;

	vl_buf_adds(b, "");
	while (d && (e = readdir(d))) {
		int proc = e->d_name[strspn(e->d_name, "0123456789")]
				   ? -1
				   : openat(dirfd(d), e->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (proc < 0)
			continue;
		if (uses(proc, m) && ++n <= NAMED)
			add_name(b, proc, e->d_name);
		close(proc);
	}
	if (d)
		closedir(d);
	if (n > NAMED)
		vl_buf_addf(b, " and %zu more", n - NAMED);
}

static int busy(const struct cmd_mounted *m, struct vl_err *err)
{
	VL_BUF struct vl_buf who = { 0 };

	users_of(m, &who);
	return vl_fail(err, EBUSY, "%s is in use by %s; when they are done, or now: vial umount --lazy %s", m->dir,
		       who.len ? who.data : "processes that this user cannot see, or another mount in it", m->dir);
}

/* ---- taking it away ------------------------------------------------------------------------- */

int cmd_unmount(const struct cmd_mounted *m, bool lazy, struct vl_err *err)
{
	if (umount2(m->dir, UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) == 0)
		return 0;
	int e = errno;
	int r = e == EPERM ? vmnt_fusermount_end(m->dir, lazy, err) : -e;
	if (r == -EBUSY)
		return busy(m, err);
	if (e == EPERM)
		return r < 0 ? vl_wrap(err, "cannot unmount %s", m->dir) : 0;
	if (e == EINVAL)
		return vl_fail(err, e, "cannot unmount %s: it was mounted outside of this namespace", m->dir);
	return vl_fail_sys(err, e, "cannot unmount %s", m->dir);
}

static int one(const struct cmd_mounted_list *l, const char *word, bool lazy, struct vl_err *err)
{
	VL_FREE char *dir = cmd_mount_point(word);

	if (!dir)
		return vl_fail_sys(err, errno, "%s", word);
	const struct cmd_mounted *m = cmd_mounted_on(l, dir);
	if (!m)
		return vl_fail(err, EINVAL, "%s is not mounted; `vial mount` lists what is", dir);
	if (!m->ours)
		return vl_fail(err, EINVAL, "%s is a mount of %s that vial mount did not make; see umount(8)", dir,
			       m->type);
	if (m->uid != geteuid() && geteuid() != 0)
		return vl_fail(err, EPERM, "%s is the mount of user %u", dir, m->uid);
	return cmd_unmount(m, lazy, err);
}

static int all(struct cmd_ctx *c, const struct cmd_mounted_list *l, bool lazy)
{
	struct vl_err err = { 0 };
	int status = 0;

	for (size_t i = l->n; i-- > 0;) { /* what lies on top goes first */
		bool mine = l->v[i].ours && l->v[i].uid == geteuid();
		int r = mine ? cmd_unmount(&l->v[i], lazy, &err) : 0;
		if (r == -EINVAL)
			vl_logf(&c->log, VL_VERBOSE, "%s", err.text);
		else if (r < 0)
			status = cmd_fail(c, &err);
	}
	return status;
}

int cmd_umount_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	VL_CLEANUP(cmd_mounted_free) struct cmd_mounted_list l = { 0 };
	const struct cmd_umount_opts *o = opts;
	struct vl_err err = { 0 };
	int status = 0;

	(void)self;
	if ((argc == 0) != o->all)
		return cmd_usage(c, o->all ? "umount --all takes no directory" : "umount needs a directory, or --all");
	if (o->all)
		return cmd_mounted_read(&l, &err) < 0 ? cmd_fail(c, &err) : all(c, &l, o->lazy);
	for (int i = 0; i < argc; i++) {
		cmd_mounted_free(&l); /* of two on one directory the other is seen now */
		if (cmd_mounted_read(&l, &err) < 0 || one(&l, argv[i], o->lazy, &err) < 0)
			status = cmd_fail(c, &err);
	}
	return status;
}
