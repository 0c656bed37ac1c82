/* Copies of images on the node, for steps whose images lie far away: made once by whoever comes first, the others wait for
 * it, the longest unused make room. Whole copies only: a killed copier leaves nothing but its lock.
 *
 * DIR/vial-UID: KEY, a copy, which who uses it has locked shared; KEY.lock, held while that is copied. The lock's time is when
 * the copy was last wanted: changing the copy's own would make another image of it. The folder's lock is for who makes room. */
#include "run.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define PIECE (4u << 20) /* between two of them a step that is cancelled is noticed */
#define LOCK ".lock"

struct stage {
	int dir;          /* owned */
	int image;        /* borrowed */
	struct stat st;   /* of it */
	uint64_t limit;   /* bytes; 0 = none */
	char *key, *lock; /* owned: the names */
	int come;         /* owned: what another node has sent, -1 = nothing */
	struct cmd_fanout nodes;
};

static void free_stage(struct stage *s)
{
	vl_closep(&s->dir);
	vl_freep(&s->key);
	vl_freep(&s->lock);
	vl_closep(&s->come);
	cmd_fanout_free(&s->nodes);
}

/* DIR[:SIZE]. *ret_dir is new. */
static int read_word(const char *word, char **ret_dir, uint64_t *ret_limit, struct vl_err *err)
{
	const char *colon = strrchr(word, ':');

	*ret_limit = 0;
	if (*word != '/' || (colon && vl_parse_size(colon + 1, INT64_MAX, ret_limit) < 0))
		return vl_fail(err, EINVAL, "stage %s: an absolute path and a size, as in /local/stage:200G", word);
	*ret_dir = colon ? vl_strndup(word, (size_t)(colon - word)) : vl_strdup(word);
	return 0;
}

/* What tells one state of a file from another, as far as that can be known without reading it. */
static char *make_key(const char *path, const struct stat *st)
{
	VL_FREE char *text = vl_asprintf("%llx %llx %lld %lld.%09ld %s", (unsigned long long)st->st_dev,
					 (unsigned long long)st->st_ino, (long long)st->st_size,
					 (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, path);
	char hex[65];
	uint8_t hash[32];

	vl_sha256_block(text, strlen(text), hash);
	vl_hex(hash, sizeof hash, hex);
	return vl_strdup(hex);
}

/* ---- making room --------------------------------------------------------------------------------- */

struct copy {
	char name[80];
	uint64_t size;
	struct timespec used;
};
struct copies {
	struct copy *v; /* owned */
	size_t n;
	uint64_t sum; /* of those in the making, too */
};

static bool is_lock(const char *name)
{
	size_t n = strlen(name), m = strlen(LOCK);

	return n > m && vl_streq(name + n - m, LOCK);
}

/* Is nobody at it? Then it goes. */
static bool remove_unused(int dir, const char *name)
{
	VL_CLOSE int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && unlinkat(dir, name, 0) == 0;
}

/* A lock is as large as what is being copied; that of a copier who was killed is nobody's. */
static void look_at_lock(int dir, const char *name, const struct stat *st, struct copies *ret)
{
	VL_FREE char *copy = vl_strndup(name, strlen(name) - strlen(LOCK));
	struct stat of_copy;

	if (fstatat(dir, copy, &of_copy, AT_SYMLINK_NOFOLLOW) < 0 && !remove_unused(dir, name))
		ret->sum += (uint64_t)st->st_size;
}

static void look_at_copy(int dir, const char *name, const struct stat *st, struct copies *ret)
{
	struct copy c = { .size = (uint64_t)st->st_size, .used = st->st_mtim };
	VL_FREE char *lock = vl_asprintf("%s" LOCK, name);
	struct stat of_lock;

	if (strlen(name) >= sizeof c.name)
		return;
	memcpy(c.name, name, strlen(name) + 1);
	if (fstatat(dir, lock, &of_lock, AT_SYMLINK_NOFOLLOW) == 0)
		c.used = of_lock.st_mtim;
	ret->v = vl_realloc(ret->v, ret->n + 1, sizeof *ret->v);
	ret->v[ret->n++] = c;
	ret->sum += c.size;
}

static int by_use(const void *a, const void *b)
{
	const struct timespec *x = &((const struct copy *)a)->used, *y = &((const struct copy *)b)->used;

	return x->tv_sec != y->tv_sec ? (x->tv_sec > y->tv_sec) - (x->tv_sec < y->tv_sec)
				      : (x->tv_nsec > y->tv_nsec) - (x->tv_nsec < y->tv_nsec);
}

static int list(const struct stage *s, struct copies *ret, struct vl_err *err)
{
	DIR *d = fdopendir(openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct stat st;

	if (!d)
		return vl_fail_sys(err, errno, "cannot read the stage");
	for (struct dirent *e; (e = readdir(d));) {
		if (vl_streq(e->d_name, s->lock) || fstatat(s->dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (*e->d_name == '.') /* of a writer, on file systems without files that have no name */
			remove_unused(s->dir, e->d_name);
		else if (is_lock(e->d_name))
			look_at_lock(s->dir, e->d_name, &st, ret);
		else
			look_at_copy(s->dir, e->d_name, &st, ret);
	}
	closedir(d);
	if (ret->n)
		qsort(ret->v, ret->n, sizeof *ret->v, by_use);
	return 0;
}

/* One at a time. The lock then says how much is to come. */
static int make_room(const struct stage *s, int lock, struct vl_err *err)
{
	VL_CLOSE int turn = openat(s->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct copies l = { 0 };
	uint64_t need = (uint64_t)s->st.st_size;

	if (turn < 0 || flock(turn, LOCK_EX) < 0)
		return vl_fail_sys(err, errno, "cannot lock the stage");
	int r = s->limit && need > s->limit ? vl_fail(err, ENOSPC, "it is larger than the stage may be")
					    : list(s, &l, err);
	for (size_t i = 0; i < l.n && s->limit && l.sum + need > s->limit; i++) {
		VL_FREE char *of_it = vl_asprintf("%s" LOCK, l.v[i].name);
		if (!remove_unused(s->dir, l.v[i].name))
			continue;
		remove_unused(s->dir, of_it);
		l.sum -= l.v[i].size;
	}
	free(l.v);
	if (r == 0 && s->limit && l.sum + need > s->limit)
		r = vl_fail(err, ENOSPC, "the stage is full of images that are in use");
	if (r == 0 && ftruncate(lock, s->st.st_size) < 0)
		r = vl_fail_sys(err, errno, "cannot write to the stage");
	return r;
}

/* ---- the copy ------------------------------------------------------------------------------------- */

/* The one that is there, locked for as long as somebody has the descriptor; -1: none, or it is about to go. */
static int open_copy(const struct stage *s)
{
	VL_CLOSE int fd = openat(s->dir, s->key, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_size != s->st.st_size || flock(fd, LOCK_SH | LOCK_NB) < 0)
		return -1;
	utimensat(s->dir, s->lock, NULL, AT_SYMLINK_NOFOLLOW);
	return vl_steal_fd(&fd);
}

static bool is_changed(const struct stage *s)
{
	struct stat st;

	return fstat(s->image, &st) < 0 || st.st_size != s->st.st_size || st.st_mtim.tv_sec != s->st.st_mtim.tv_sec ||
	       st.st_mtim.tv_nsec != s->st.st_mtim.tv_nsec;
}

static int fill(const struct stage *s, int to, struct vl_err *err)
{
	int r = s->st.st_size ? -posix_fallocate(to, 0, s->st.st_size) : 0;

	for (off_t at = 0; at < s->st.st_size && r == 0;) {
		ssize_t n = sendfile(to, s->image, &at, PIECE);
		r = n < 0 && errno != EINTR ? -errno : n == 0 ? -ESTALE : 0;
	}
	if (r == 0 && is_changed(s))
		r = -ESTALE;
	return r == -ESTALE ? vl_fail(err, ESTALE, "it changed while it was copied")
	       : r < 0      ? vl_fail_sys(err, -r, "cannot copy it")
			    : 0;
}

static int copy(const struct stage *s, int lock, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_FREE char *path = vl_asprintf("/proc/self/fd/%d/%s", s->dir, s->key);
	int r = make_room(s, lock, err);

	if (r == 0)
		r = vl_newfile_open(&f, path, 0400, true, err);
	if (r == 0)
		r = fill(s, f.fd, err);
	if (r == 0)
		r = vl_newfile_commit(&f, true, err);
	(void)!ftruncate(lock, 0);
	return r;
}

/* What has come lies in the directory above. */
static int adopt(const struct stage *s, int lock, struct vl_err *err)
{
	int r = make_room(s, lock, err);

	if (r == 0 && is_changed(s))
		r = vl_fail(err, ESTALE, "it changed while it was sent");
	if (r == 0 && (fchmod(s->come, 0400) < 0 || fsync(s->come) < 0 ||
		       renameat(s->nodes.dir, s->nodes.name, s->dir, s->key) < 0))
		r = vl_fail_sys(err, errno, "cannot take the copy that was sent");
	(void)!ftruncate(lock, 0);
	return r;
}

/* Does the folder still know the lock that was waited for? Who makes room removes some. */
static bool is_current(const struct stage *s, int lock)
{
	struct stat a, b;

	return fstat(lock, &a) == 0 && fstatat(s->dir, s->lock, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino;
}

static int find_or_copy(const struct stage *s, struct vl_err *err)
{
	for (int tries = 0; tries < 100; tries++) {
		int fd = open_copy(s);
		if (fd >= 0)
			return fd;
		VL_CLOSE int lock =
			openat(s->dir, s->lock, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		if (lock < 0)
			return vl_fail_sys(err, errno, "cannot write to the stage");
		if (flock(lock, LOCK_EX) < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot lock the stage");
		if (!is_current(s, lock))
			continue;
		fd = open_copy(s); /* while we waited */
		if (fd >= 0)
			return fd;
		int r = s->come >= 0 ? adopt(s, lock, err) : copy(s, lock, err);
		if (r < 0)
			return r;
	}
	return vl_fail(err, EAGAIN, "others remove it as fast as it is copied");
}

/* Is it worth while? Not for what lies on the same file system. */
static bool is_far(const struct stage *s)
{
	struct stat st;

	return fstat(s->dir, &st) == 0 && st.st_dev != s->st.st_dev;
}

/* ---- with other nodes ----------------------------------------------------------------------------- */

static int copy_and_send(struct stage *s, const char *path, const struct vl_log *log, struct vl_err *err)
{
	struct vl_err why = { 0 };
	bool told = cmd_fanout_announce(&s->nodes, &why) == 0;
	int fd = find_or_copy(s, err);

	if (told && fd >= 0)
		told = cmd_fanout_send(&s->nodes, fd, &why) == 0;
	else if (told)
		cmd_fanout_refuse(&s->nodes, err->text);
	if (!told)
		vl_logf(log, VL_WARNING, "%s is not sent to the other nodes: %s", path, why.text);
	return fd;
}

/* Or another step of this node is sent it, or copies it. */
static int await(struct stage *s, struct vl_err *err)
{
	for (;;) {
		int fd = open_copy(s);
		if (fd >= 0)
			return fd;
		s->come = cmd_fanout_arrived(&s->nodes, s->st.st_size, err);
		if (s->come != -EAGAIN)
			return s->come < 0 ? s->come : find_or_copy(s, err);
	}
}

static int get(struct stage *s, const char *path, const struct vl_log *log, struct vl_err *err)
{
	struct vl_err why = { 0 };
	int r = cmd_fanout_open(&s->nodes, path, &s->st, &why), fd = open_copy(s);

	if (r > 0 && fd < 0 && s->nodes.node == 0)
		return copy_and_send(s, path, log, err);
	if (r > 0 && fd < 0)
		r = fd = await(s, &why);
	if (r < 0)
		vl_logf(log, VL_WARNING, "%s is read by this node itself: %s", path, why.text);
	vl_closep(&s->come);
	return fd >= 0 ? fd : find_or_copy(s, err);
}

static int get_with_others(struct stage *s, const char *path, const struct vl_log *log, struct vl_err *err)
{
	int fd = get(s, path, log, err);

	if (s->nodes.name)
		cmd_fanout_attend(&s->nodes, s->nodes.node == 0 ? fd : -1);
	return fd;
}

int cmd_stage_image(const struct cmd_ctx *c, const char *path, int *image, struct vl_err *err)
{
	VL_CLEANUP(free_stage) struct stage s = { .dir = -1, .image = *image, .come = -1 };
	VL_FREE char *dir = NULL;
	char mine[32];

	int r = read_word(c->stage, &dir, &s.limit, err);
	if (r < 0)
		return r;
	if (fstat(*image, &s.st) < 0 || !S_ISREG(s.st.st_mode))
		return 0;
	snprintf(mine, sizeof mine, "vial-%u", geteuid());
	VL_CLOSE int base = vl_open(dir, O_PATH | O_DIRECTORY, 0, err);
	s.dir = base < 0 ? base : cmd_own_folder(base, mine, dir, err);
	if (s.dir < 0)
		return s.dir;
	if (!c->stage_always && !is_far(&s))
		return 0;
	s.key = make_key(path, &s.st);
	s.lock = vl_asprintf("%s" LOCK, s.key);
	s.nodes = (struct cmd_fanout){
		.program = c->fanout, .path = dir, .dir = base, .seconds = c->fanout_wait, .stop = -1
	};
	int fd = c->fanout ? get_with_others(&s, path, &c->log, err) : find_or_copy(&s, err);
	if (fd < 0)
		return fd;
	fd = vl_move_fd_above_stdio(fd);
	if (fd < 0)
		return vl_fail_sys(err, -fd, "cannot use the copy");
	vl_closep(image);
	*image = fd;
	return 1;
}
