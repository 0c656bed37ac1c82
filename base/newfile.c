/* A file that appears whole or not at all. O_TMPFILE first: killed at any moment nothing is
 * left. File systems without it (NFS, Lustre) get a hidden name that its writer holds locked,
 * so that the next writer of the same target can tell a dead one and remove it. */
#include <vial/base.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

static char *hidden_prefix(const struct vl_newfile *f)
{
	/* NAME_MAX: leave room for the random part */
	return vl_asprintf(".%.200s.vial-", f->name);
}

static char *hidden_name(const struct vl_newfile *f)
{
	VL_FREE char *prefix = hidden_prefix(f);
	uint64_t r = 0;

	while (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
		;
	return vl_asprintf("%s%016llx", prefix, (unsigned long long)r);
}

/* Removes what a killed writer of this very target left: its lock is free. */
static void sweep(const struct vl_newfile *f)
{
	VL_FREE char *prefix = hidden_prefix(f);
	int fd = openat(f->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		if (!vl_prefix(e->d_name, prefix))
			continue;
		VL_CLOSE int old = openat(f->dirfd, e->d_name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		if (old >= 0 && flock(old, LOCK_EX | LOCK_NB) == 0)
			unlinkat(f->dirfd, e->d_name, 0);
	}
	closedir(d);
}

static int create_hidden(struct vl_newfile *f, mode_t mode, struct vl_err *err)
{
	VL_FREE char *tmp = hidden_name(f);

	f->fd = openat(f->dirfd, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (f->fd < 0)
		return vl_fail_sys(err, errno, "cannot create a file in %s", f->dir);
	f->tmp = vl_steal(&tmp);
	return 0;
}

int vl_newfile_open(struct vl_newfile *f, const char *path, mode_t mode, bool overwrite, struct vl_err *err)
{
	struct stat st;
	const char *slash = strrchr(path, '/');
	int r;

	*f = (struct vl_newfile)VL_NEWFILE_INIT;
	f->dir = !slash ? vl_strdup(".") : slash == path ? vl_strdup("/") : vl_strndup(path, (size_t)(slash - path));
	f->name = vl_strdup(slash ? slash + 1 : path);
	if (!*f->name || vl_streq(f->name, ".") || vl_streq(f->name, "..")) {
		r = vl_fail(err, EINVAL, "%s does not name a file", path);
		goto fail;
	}
	f->dirfd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dirfd < 0) {
		r = vl_fail_sys(err, errno, "cannot open the directory %s", f->dir);
		goto fail;
	}
	if (fstatat(f->dirfd, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (!overwrite) {
			r = vl_fail(err, EEXIST, "%s exists already; use --force to replace it", path);
			goto fail;
		}
		if (S_ISDIR(st.st_mode)) {
			r = vl_fail(err, EISDIR, "%s is a directory", path);
			goto fail;
		}
	}
	sweep(f);
	f->fd = openat(f->dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);
	if (f->fd < 0 && (r = create_hidden(f, mode, err)) < 0)
		goto fail;
	/* Best effort: tells it from what a killed writer left. An unnamed one too: commit gives it a hidden name for a
	 * moment, and another writer's sweep may come by just then. */
	flock(f->fd, LOCK_EX | LOCK_NB);
	return 0;
fail:
	vl_newfile_abort(f);
	return r;
}

/* Gives an unnamed file a hidden name, so that rename can replace the target. */
static int name_it(struct vl_newfile *f, const char *as)
{
	char proc[64];

	snprintf(proc, sizeof proc, "/proc/self/fd/%d", f->fd);
	return linkat(AT_FDCWD, proc, f->dirfd, as, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

int vl_newfile_commit(struct vl_newfile *f, bool overwrite, struct vl_err *err)
{
	int r = 0;

	if (fsync(f->fd) < 0)
		return vl_fail_sys(err, errno, "cannot write %s/%s to disk", f->dir, f->name);
	if (!f->tmp && !overwrite) {
		r = name_it(f, f->name);
	} else {
		if (!f->tmp) {
			VL_FREE char *tmp = hidden_name(f);
			r = name_it(f, tmp);
			if (r == 0)
				f->tmp = vl_steal(&tmp);
		}
		if (r == 0 && renameat2(f->dirfd, f->tmp, f->dirfd, f->name, overwrite ? 0 : RENAME_NOREPLACE) < 0)
			r = -errno;
		if (r == -EINVAL && !overwrite) /* NFS has no RENAME_NOREPLACE; link has the same guarantee */
			r = linkat(f->dirfd, f->tmp, f->dirfd, f->name, 0) < 0 ? -errno : unlinkat(f->dirfd, f->tmp, 0);
		if (r == 0)
			vl_freep(&f->tmp);
	}
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot put %s/%s in place", f->dir, f->name);
	fsync(f->dirfd);
	vl_newfile_abort(f);
	return 0;
}

void vl_newfile_abort(struct vl_newfile *f)
{
	if (f->tmp)
		unlinkat(f->dirfd, f->tmp, 0);
	vl_closep(&f->fd);
	vl_closep(&f->dirfd);
	vl_freep(&f->dir);
	vl_freep(&f->name);
	vl_freep(&f->tmp);
}
