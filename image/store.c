/* The store's directories, the images in it, and their appearing. */
#include "store_files.h"

#include <fcntl.h>
#include <time.h>
#include <vial/sif.h>

/* What backup programs look for: https://bford.info/cachedir/ */
static const char tag_text[] =
	"Signature: 8a477f597d28d172789f06886806bc55\n"
	"# Container images that vial made; they can be made again. `vial cache clean` empties it.\n";

/* ---- opening ---- */

static int make_parents(const char *dir, struct vl_err *err)
{
	VL_FREE char *path = vl_strdup(dir);

	for (char *p = path + 1;; p++) {
		char end = *p;
		if (end && end != '/')
			continue;
		*p = 0;
		/* a file system may refuse to make what is there (EROFS, EACCES of an automounter): look first */
		if (access(path, F_OK) < 0 && mkdir(path, 0700) < 0 && errno != EEXIST)
			return vl_fail_sys(err, errno, "cannot make the image store %s (at %s); " IMG_STORE_HINT, dir,
					   path);
		if (!end)
			return 0;
		*p = end;
	}
}

static int check_owner(int fd, const char *path, struct vl_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat the image store %s", path);
	if (st.st_uid != geteuid())
		return vl_fail(err, EPERM,
			       "the image store %s belongs to user %u, not to you; set VIAL_CACHEDIR to a directory of "
			       "yours, or use --disable-cache",
			       path, (unsigned)st.st_uid);
	if (st.st_mode & (S_IWGRP | S_IWOTH) && !(st.st_mode & S_ISVTX))
		return vl_fail(err, EPERM,
			       "others may write into the image store %s; take that away with chmod go-w, or set "
			       "VIAL_CACHEDIR to another directory",
			       path);
	return 0;
}

static int open_subdir(struct img_store *s, const char *name, int *ret_fd, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/%s", s->dir, name);
	VL_CLOSE int fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(s->dirfd, name, 0700) < 0 && errno != EEXIST)
			return vl_fail_sys(err, errno, "cannot make %s; " IMG_STORE_HINT, path);
		fd = openat(s->dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open the directory %s of the image store", path);
	if ((r = check_owner(fd, path, err)) < 0)
		return r;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

/* Best effort: without it only a backup grows. */
static void write_tag(const struct img_store *s)
{
	VL_CLOSE int fd = openat(s->dirfd, "CACHEDIR.TAG", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd >= 0)
		vl_write_full(fd, tag_text, sizeof tag_text - 1);
}

static void open_sites(struct img_store *s, const char *const *dirs)
{
	struct stat own, st;

	for (; dirs && *dirs; dirs++) {
		VL_CLOSE int fd = open(*dirs, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			continue;
		if (fstat(s->dirfd, &own) == 0 && st.st_dev == own.st_dev &&
		    st.st_ino == own.st_ino) /* who fills the site's store has it as own */
			continue;
		s->sites = vl_realloc(s->sites, s->n_sites + 1, sizeof *s->sites);
		s->sites[s->n_sites++] = (struct img_store_site){
			.path = vl_strdup(*dirs),
			.uid = st.st_uid,
			.fd = vl_steal_fd(&fd),
		};
	}
}

static void close_own(struct img_store *s)
{
	vl_closep(&s->dirfd);
	vl_closep(&s->images);
	vl_closep(&s->blobs);
	vl_closep(&s->names);
	vl_closep(&s->locks);
}

static int open_own(struct img_store *s, struct vl_err *err)
{
	int r = make_parents(s->dir, err);

	if (r < 0)
		return r;
	s->dirfd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		return vl_fail_sys(err, errno, "cannot open the image store %s; " IMG_STORE_HINT, s->dir);
	if ((r = check_owner(s->dirfd, s->dir, err)) < 0 || (r = open_subdir(s, "images", &s->images, err)) < 0 ||
	    (r = open_subdir(s, "blobs", &s->blobs, err)) < 0 || (r = open_subdir(s, "names", &s->names, err)) < 0 ||
	    (r = open_subdir(s, "locks", &s->locks, err)) < 0)
		return r;
	write_tag(s);
	return 0;
}

int img_store_open(const struct img_store_opts *o, struct img_store **ret, struct vl_err *err)
{
	struct img_store *s = vl_alloc(sizeof *s);
	int r;

	s->dir = vl_path_absolute(o->dir);
	s->dirfd = s->images = s->blobs = s->names = s->locks = -1;
	s->limit = o->limit;
	s->keep_layers = o->keep_layers;
	r = open_own(s, &s->why);
	if (r < 0)
		close_own(s);
	open_sites(s, o->site_dirs);
	if (r < 0 && !s->n_sites) {
		*err = s->why;
		img_store_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int img_store_need_own(struct img_store *s, struct vl_err *err)
{
	if (s->dirfd >= 0)
		return 0;
	*err = s->why;
	return -s->why.code;
}

void img_store_free(struct img_store *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_sites; i++) {
		vl_closep(&s->sites[i].fd);
		free(s->sites[i].path);
	}
	free(s->sites);
	close_own(s);
	free(s->dir);
	free(s);
}

const char *img_store_dir(const struct img_store *s)
{
	return s->dir;
}

/* ---- files ---- */

bool img_store_is_key(const char *s, size_t n)
{
	return n == IMG_KEY_SIZE - 1 && strspn(s, "0123456789abcdef") >= n;
}

int img_store_open_file(int dirfd, const char *name, int flags, struct stat *ret_st)
{
	VL_CLOSE int fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_st = st;
	return vl_steal_fd(&fd);
}

int img_store_open_site(const struct img_store_site *site, const char *name, struct stat *ret_st)
{
	VL_CLOSE int fd = img_store_open_file(site->fd, name, O_RDONLY, ret_st);

	if (fd >= 0 && ret_st->st_uid != 0 && ret_st->st_uid != site->uid)
		return -EPERM;
	return vl_steal_fd(&fd);
}

/* Once a second is often enough: a job that starts a thousand ranks is one use. */
void img_store_touch(int fd, const struct stat *st)
{
	const struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_NOW } };

	if (st->st_mtim.tv_sec != time(NULL) && futimens(fd, t) < 0)
		return; /* only the order of removal suffers */
}

/* Header, table, and every object within the file: a crash or a full disk may have left less. An artifact that is no
 * SIF has nothing to look at, but for being all zeros. */
static bool is_whole(int fd, const struct stat *st)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	struct vl_err ignored;
	uint8_t head[128] = { 0 };
	bool zero = true;

	if (st->st_size == 0)
		return false;
	int r = sif_load(fd, &sif, &ignored);
	if (r != -ENOEXEC)
		return r == 0;
	if (pread(fd, head, sizeof head, 0) <= 0)
		return false;
	for (size_t i = 0; i < sizeof head && zero; i++)
		zero = !head[i];
	return !zero;
}

int img_store_find(struct img_store *s, const char *key, int *ret_fd, char **ret_path, struct vl_err *err)
{
	VL_FREE char *name = vl_asprintf("%s.sif", key), *in_site = vl_asprintf("images/%s.sif", key);
	struct stat st = { 0 };

	if (!img_store_is_key(key, strlen(key)))
		return vl_fail(err, EINVAL, "not a key of the image store");
	VL_CLOSE int fd = img_store_open_file(s->images, name, O_RDONLY, &st);
	/* a broken one is made again: the new one takes its place */
	if (fd >= 0 && is_whole(fd, &st)) {
		img_store_touch(fd, &st);
		*ret_path = vl_asprintf("%s/images/%s", s->dir, name);
		*ret_fd = vl_steal_fd(&fd);
		return 0;
	}
	for (size_t i = 0; i < s->n_sites; i++) {
		vl_closep(&fd);
		fd = img_store_open_site(&s->sites[i], in_site, &st);
		if (fd < 0 || !is_whole(fd, &st))
			continue;
		*ret_path = vl_asprintf("%s/%s", s->sites[i].path, in_site);
		*ret_fd = vl_steal_fd(&fd);
		return 0;
	}
	return vl_fail(err, ENOENT, "the image %.12s is not in the store %s", key, s->dir);
}

/* ---- an image appears ---- */

int img_store_commit(struct img_making *m, int *ret_fd, char **ret_path, struct vl_err *err)
{
	struct img_store *s = m->store;
	VL_FREE char *path = vl_asprintf("%s/images/%s.sif", s->dir, m->key), *self = NULL;
	struct vl_err ignored;
	uint64_t bytes;
	int r;

	/* opened before it has a name: from then on another process may remove it to keep a limit */
	self = vl_asprintf("/proc/self/fd/%d", m->file.fd);
	VL_CLOSE int fd = open(self, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open the new image %s for reading", path);
	if ((r = vl_newfile_commit(&m->file, true, err)) < 0)
		return r;
	img_store_give_up(m);
	if (s->limit) /* the image is there: a store that is too large is no reason to fail */
		img_store_clean_but(
			s, &(struct img_store_clean){ .kinds = IMG_STORE_IMAGE | IMG_STORE_LAYER, .limit = s->limit },
			path, NULL, NULL, &bytes, &ignored);
	*ret_fd = vl_steal_fd(&fd);
	*ret_path = vl_steal(&path);
	return 0;
}

void img_store_give_up(struct img_making *m)
{
	if (!m->store)
		return;
	vl_newfile_abort(&m->file);
	img_store_unlock(m->store, m->key, &m->lock);
	m->store = NULL;
}
