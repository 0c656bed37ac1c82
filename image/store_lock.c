/* Who makes an image: one lock file per key, and how the others wait for it. */
#include "store_files.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>

#define TEXT_MAX 256 /* of a lock file: four numbers and words */
#define LOOK_MS 500  /* how often one who waits looks how far the other is */
#define TELL_MS 1000
#define TRIES 1000 /* lock files that vanish under us: each means somebody else got on, so far more than ever happen */

/* ---- the lock file ---- */

static bool no_locks(int code)
{
	return code == ENOLCK || code == EOPNOTSUPP || code == ENOSYS || code == EINVAL;
}

static int set_lock(int fd, int cmd, short type)
{
	struct flock l = { .l_type = type, .l_whence = SEEK_SET };

	for (;;) {
		if (fcntl(fd, cmd, &l) == 0)
			return 0;
		if (errno != EINTR)
			return errno == EACCES ? -EAGAIN : -errno;
	}
}

static int open_lock(struct img_store *s, const char *key, struct vl_err *err)
{
	for (int i = 0; i < 2; i++) {
		VL_CLOSE int fd =
			openat(s->locks, key, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
		struct stat st;
		if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
			return vl_steal_fd(&fd);
		if (fd < 0 && errno != ELOOP && errno != ENXIO)
			return vl_fail_sys(err, errno, "cannot make the lock %s/locks/%s; " IMG_STORE_HINT, s->dir,
					   key);
		unlinkat(s->locks, key, 0); /* a link or a FIFO is nothing of ours */
	}
	return vl_fail(err, EINVAL, "%s/locks/%s is not a regular file; remove it", s->dir, key);
}

/* Its holder, or a clean-up, may have removed the file between our opening and our locking it. */
static bool still_there(struct img_store *s, const char *key, int fd)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && fstatat(s->locks, key, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

int img_store_lock_try(struct img_store *s, const char *key, struct vl_err *err)
{
	for (int i = 0; i < TRIES; i++) {
		VL_CLOSE int fd = open_lock(s, key, err);
		if (fd < 0)
			return fd;
		int r = set_lock(fd, F_OFD_SETLK, F_WRLCK);
		if (r < 0 && !no_locks(-r))
			return vl_fail_sys(err, -r, "cannot lock %s/locks/%s", s->dir, key);
		if (r < 0) {
			unlinkat(s->locks, key, 0);
			return vl_fail_sys(err, ENOLCK, "%s", s->dir);
		}
		if (still_there(s, key, fd))
			return vl_steal_fd(&fd);
	}
	return vl_fail(err, ELOOP, "the lock %s/locks/%s does not stay; is something removing it?", s->dir, key);
}

void img_store_unlock(struct img_store *s, const char *key, int *fd)
{
	if (*fd < 0)
		return;
	if (still_there(s, key, *fd))
		unlinkat(s->locks, key, 0);
	set_lock(*fd, F_OFD_SETLK, F_UNLCK); /* a child may have the description too: closing alone would not do */
	vl_closep(fd);
}

/* ---- what the one who makes it says: "DONE TOTAL PID HOST WHAT" ---- */

static void write_text(struct img_making *m, const char *what, uint64_t done, uint64_t total)
{
	char host[65] = "", text[TEXT_MAX];

	if (gethostname(host, sizeof host - 1) < 0 || !*host)
		memcpy(host, "?", 2);
	snprintf(text, sizeof text, "%llu %llu %d %s %.80s\n", (unsigned long long)done, (unsigned long long)total,
		 (int)getpid(), host, what);
	size_t n = strlen(text);
	if (pwrite(m->lock, text, n, 0) != (ssize_t)n || ftruncate(m->lock, (off_t)n) < 0)
		return; /* only those who wait see less */
}

void img_store_tell(struct img_making *m, const char *what, uint64_t done, uint64_t total)
{
	int64_t now = vl_now_ms();

	if (!m->store || m->lock < 0 || (m->told_ms && now - m->told_ms < TELL_MS))
		return;
	m->told_ms = now;
	write_text(m, what, done, total);
}

/* The text may be half written, and in a shared directory by anybody. */
void img_store_show_text(char *text, const struct vl_progress *progress)
{
	char *word[4], *p = text;
	uint64_t done, total, pid;

	p[strcspn(p, "\n")] = 0;
	for (int i = 0; i < 4; i++) {
		word[i] = p;
		p += strcspn(p, " ");
		if (!*p)
			return;
		*p++ = 0;
	}
	if (vl_parse_u64(word[0], 0, UINT64_MAX, &done) < 0 || vl_parse_u64(word[1], 0, UINT64_MAX, &total) < 0 ||
	    vl_parse_u64(word[2], 1, INT32_MAX, &pid) < 0)
		return;
	VL_FREE char *host = vl_printable(word[3], strlen(word[3])), *what = vl_printable(p, strlen(p));
	VL_FREE char *line =
		vl_asprintf("Waiting for %llu on %s%s%s", (unsigned long long)pid, host, *what ? ": " : "", what);
	vl_progress_step(progress, line, done, total);
}

static void show_text(int fd, const struct vl_progress *progress)
{
	char text[TEXT_MAX + 1];
	ssize_t n = pread(fd, text, TEXT_MAX, 0);

	if (n <= 0)
		return;
	text[n] = 0;
	img_store_show_text(text, progress);
}

/* ---- waiting ---- */

struct waiter {
	int fd, event, result;
};

static void *wait_in_thread(void *arg)
{
	struct waiter *w = arg;
	uint64_t one = 1;

	w->result = set_lock(w->fd, F_OFD_SETLKW, F_WRLCK);
	while (write(w->event, &one, sizeof one) < 0 && errno == EINTR)
		;
	return NULL;
}

/* Signals are for the thread that called us. */
static int start_thread(pthread_t *t, struct waiter *w)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = pthread_create(t, NULL, wait_in_thread, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

/* Until the lock of fd is ours; 0 or -errno. The lock itself tells whether its holder lives. */
static int wait_lock(int fd, const struct vl_progress *progress)
{
	VL_CLOSE int event = eventfd(0, EFD_CLOEXEC);
	struct waiter w = { .fd = fd, .event = event };
	struct pollfd p = { .fd = event, .events = POLLIN };
	pthread_t thread;

	show_text(fd, progress);
	if (event < 0 || start_thread(&thread, &w) != 0)
		return set_lock(fd, F_OFD_SETLKW, F_WRLCK); /* no thread to be had: wait without news */
	while (poll(&p, 1, LOOK_MS) != 1)
		show_text(fd, progress);
	pthread_join(thread, NULL);
	return w.result;
}

/* *ret_fd: the lock; -1 where the file system has none. -EAGAIN: begin again. */
static int get_lock(struct img_store *s, const char *key, const struct vl_progress *progress, int *ret_fd,
		    struct vl_err *err)
{
	VL_CLOSE int fd = open_lock(s, key, err);

	if (fd < 0)
		return fd;
	int r = set_lock(fd, F_OFD_SETLK, F_WRLCK);
	if (r == -EAGAIN)
		r = wait_lock(fd, progress);
	if (r < 0 && !no_locks(-r))
		return vl_fail_sys(err, -r, "cannot lock %s/locks/%s", s->dir, key);
	if (r < 0) {
		unlinkat(s->locks, key, 0);
		vl_progress_warn(progress, "%s has no file locks: images may be converted more than once", s->dir);
		*ret_fd = -1;
		return 0;
	}
	if (!still_there(s, key, fd))
		return -EAGAIN;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

int img_store_take(struct img_store *s, const char *key, const struct vl_progress *progress, struct img_making *ret_new,
		   int *ret_fd, char **ret_path, struct vl_err *err)
{
	struct img_making m = IMG_MAKING_INIT;
	int r = img_store_find(s, key, ret_fd, ret_path, err);

	if (r != -ENOENT)
		return r;
	if ((r = img_store_need_own(s, err)) < 0)
		return r;
	for (int i = 0;; i++) {
		r = get_lock(s, key, progress, &m.lock, err);
		if (r == 0)
			break;
		if (r != -EAGAIN)
			return r;
		/* the one we waited for has come to an end, and perhaps to an image */
		if ((r = img_store_find(s, key, ret_fd, ret_path, err)) != -ENOENT)
			return r;
		if (i == TRIES)
			return vl_fail(err, ELOOP, "the lock %s/locks/%s does not stay; is something removing it?",
				       s->dir, key);
	}
	m.store = s;
	memcpy(m.key, key, sizeof m.key);
	r = img_store_find(s, key, ret_fd, ret_path, err);
	if (r == -ENOENT) {
		VL_FREE char *path = vl_asprintf("%s/images/%s.sif", s->dir, key);
		r = vl_newfile_open(&m.file, path, 0755, true, err);
		if (r == 0) {
			if (m.lock >= 0)
				write_text(&m, "", 0, 0);
			*ret_new = m;
			return 1;
		}
	}
	img_store_give_up(&m);
	return r;
}
