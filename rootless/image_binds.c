/* Binds out of image files: each file has a server of its own, as the container's image has, and however often it is
 * bound it is served once. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

struct ctr_served {
	dev_t dev; /* which bytes of which file */
	ino_t ino;
	uint64_t off;
	struct vmnt_image image;
	struct vmnt_server server;
	int fd; /* its root, -1 until it is mounted */
};

static bool is_of(const struct plan_mount *m, const struct ctr_served *s, const struct stat *st)
{
	return s->dev == st->st_dev && s->ino == st->st_ino && s->off == m->image_off;
}

static struct ctr_served *find(const struct ctr_root *r, const struct plan_mount *m)
{
	struct stat st;

	if (fstat(m->image_fd, &st) < 0)
		return NULL;
	for (size_t i = 0; i < r->n_served; i++)
		if (is_of(m, &r->served[i], &st))
			return &r->served[i];
	return NULL;
}

static void add(struct ctr_root *r, const struct plan *p, const struct plan_mount *m)
{
	struct stat st = { 0 };
	struct ctr_served s = { .off = m->image_off, .server = VMNT_SERVER_INIT, .fd = -1 };

	fstat(m->image_fd, &st);
	s.dev = st.st_dev;
	s.ino = st.st_ino;
	s.image = (struct vmnt_image){
		.fd = m->image_fd,
		.off = m->image_off,
		.size = m->image_size,
		.name = m->image_path,
		.uid = p->user.uid,
		.gid = p->user.gid,
		.all_ids = !p->fakeroot && ctr_may_map_all(),
		.memory = p->server_memory,
		.threads = p->server_threads,
	};
	r->served = vl_realloc(r->served, r->n_served + 1, sizeof *r->served);
	r->served[r->n_served++] = s;
}

int ctr_serve_images(struct ctr_root *r, const struct plan *p, struct vl_err *err)
{
	int e = 0;

	for (size_t i = 0; i < p->n_mounts && e == 0; i++) {
		const struct plan_mount *m = &p->mounts[i];
		if (m->kind != PLAN_IMAGE || find(r, m))
			continue;
		add(r, p, m);
		struct ctr_served *s = &r->served[r->n_served - 1];
		e = vmnt_server_start(&s->image, &s->server, err);
	}
	return e;
}

static int mount_all(struct ctr_root *r, struct vl_err *err)
{
	for (size_t i = 0; i < r->n_served; i++) {
		struct ctr_served *s = &r->served[i];
		s->fd = vmnt_server_mount(&s->server, &s->image, NULL, err);
		if (s->fd < 0)
			return s->fd;
	}
	return 0;
}

/* Links of that image stay inside of it. */
static int open_source(const struct ctr_root *r, const struct plan_mount *m, struct vl_err *err)
{
	const struct ctr_served *s = find(r, m);
	int fd = s ? vl_open_in_root(s->fd, m->src, O_PATH, 0, err) : vl_fail(err, EIO, "it is not served");

	return fd < 0 ? vl_wrap(err, "bind source %s in %s", m->src, m->image_path) : fd;
}

/* Before Linux 6.15 only what is attached can be cloned, so each gets a place in the scratch directory. */
static int attach_all(struct ctr_root *r, struct vl_err *err)
{
	char name[16];
	int e = r->n_served ? ctr_scratch(r, err) : 0;

	for (size_t i = 0; i < r->n_served && e >= 0; i++) {
		snprintf(name, sizeof name, "i%u", r->made++);
		if (mkdirat(r->scratch, name, 0700) < 0)
			return vl_fail_sys(err, errno, "cannot make a directory in memory");
		VL_CLOSE int at = openat(r->scratch, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		e = vmnt_attach(r->served[i].fd, at, r->served[i].image.name, err);
	}
	return VL_MIN(e, 0);
}

int ctr_mount_images(struct ctr_root *r, const struct plan *p, struct vl_err *err)
{
	int e = mount_all(r, err);

	if (e < 0 || (e = attach_all(r, err)) < 0)
		return e;
	for (size_t i = 0; i < p->n_mounts; i++) {
		if (p->mounts[i].kind != PLAN_IMAGE)
			continue;
		VL_CLOSE int fd = open_source(r, &p->mounts[i], err);
		if (fd < 0)
			return fd;
		r->src[i] = vmnt_clone(fd, "", false, true, err);
		if (r->src[i] < 0)
			return r->src[i];
	}
	return 0;
}

void ctr_served_free(struct ctr_root *r)
{
	for (size_t i = 0; i < r->n_served; i++) {
		vmnt_server_abort(&r->served[i].server);
		vl_closep(&r->served[i].fd);
	}
	vl_freep(&r->served);
	r->n_served = 0;
}

/* ---- what is a file and what a directory ------------------------------------------------------ */

static int look(const struct plan *p, struct ctr_root *r, uint8_t *ret_file, struct vl_err *err)
{
	bool all;
	pid_t mapper; /* waited for with the servers */
	int e = ctr_enter_userns(p, &all, &mapper, err);

	if (e < 0 || (e = ctr_serve_images(r, p, err)) < 0 || (e = ctr_enter_mountns(err)) < 0 ||
	    (e = mount_all(r, err)) < 0)
		return e;
	for (size_t i = 0; i < p->n_mounts; i++) {
		struct stat st;
		if (p->mounts[i].kind != PLAN_IMAGE)
			continue;
		VL_CLOSE int fd = open_source(r, &p->mounts[i], err);
		if (fd < 0)
			return fd;
		ret_file[i] = fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode);
	}
	return 0;
}

static void tell(const struct plan *p, int sock)
{
	VL_FREE uint8_t *file = vl_alloc(p->n_mounts);
	struct ctr_root r = CTR_ROOT_INIT;
	struct vl_err err = { 0 };

	prctl(PR_SET_CHILD_SUBREAPER, 1); /* the servers are this process's, and end before it */
	int e = look(p, &r, file, &err);
	ctr_served_free(&r);
	if (e == 0)
		vl_msg_send(sock, VL_MSG_OK, file, p->n_mounts);
	else
		vl_msg_send_err(sock, &err);
	while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR) {
	}
}

static int receive(struct plan *p, int sock, struct vl_err *err)
{
	size_t cap = VL_MAX(p->n_mounts, sizeof *err), n = 0;
	VL_FREE uint8_t *b = vl_alloc(cap);
	enum vl_msg_type type;

	if (vl_msg_recv(sock, &type, b, cap, &n) < 0)
		return vl_fail(err, EIO, "the process that looks into images is gone");
	if (type == VL_MSG_ERR && n == sizeof *err) {
		memcpy(err, b, n);
		err->text[sizeof err->text - 1] = 0;
		return -err->code;
	}
	for (size_t i = 0; i < p->n_mounts && i < n; i++)
		p->mounts[i].flags |= b[i] ? PLAN_FILE : 0u;
	return 0;
}

int ctr_find_image_sources(struct plan *p, struct vl_err *err)
{
	bool any = false;
	int pair[2];

	for (size_t i = 0; i < p->n_mounts; i++) /* "/" is a directory */
		any |= p->mounts[i].kind == PLAN_IMAGE && !vl_streq(p->mounts[i].src, "/");
	if (!any)
		return 0;
	int r = vl_msg_pair(pair, err);
	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]), theirs = vl_move_fd_above_stdio(pair[1]);
	pid_t pid = mine < 0 || theirs < 0 ? -1 : fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot look into an image");
	if (pid == 0) {
		tell(p, theirs);
		_exit(0);
	}
	vl_closep(&theirs);
	r = receive(p, mine, err);
	vl_wait(pid);
	return r;
}
