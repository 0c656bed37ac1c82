/* Begin and end of the FUSE session, and what is done to it while it runs. */
#include "squash_srv.h"

#include <pthread.h>
#include <stdio.h>

static void say_nothing(enum fuse_log_level level, const char *fmt, va_list ap)
{
	(void)level, (void)fmt, (void)ap;
}

int vmnt_session_new(const struct vmnt_image *image, int fusefd, struct vmnt_session **ret, struct vl_err *err)
{
	char *argv[] = { (char *)"vial", NULL };
	struct fuse_args args = FUSE_ARGS_INIT(1, argv);
	struct vmnt_session *s = vl_alloc(sizeof *s);
	char dev[32];

	s->image = *image;
	s->uid = image->uid;
	s->gid = image->gid;
	s->all_ids = image->all_ids;
	s->started = time(NULL);
	fuse_set_log_func(say_nothing);
	s->fuse = fuse_session_new(&args, &vmnt_srv_ops, sizeof vmnt_srv_ops, s);
	snprintf(dev, sizeof dev, "/dev/fd/%d", fusefd); /* libfuse: "the mount is made, here is its descriptor" */
	int r = 0;
	if (!s->fuse || fuse_session_mount(s->fuse, dev) != 0)
		r = vl_fail(err, ENOMEM, "libfuse cannot start a session");
	/* All is open and no byte of the image has been read. */
	if (r < 0 || (r = vmnt_jail(err)) < 0 || (r = vmnt_sq_open(&s->sq, image, err)) < 0) {
		vmnt_session_free(s);
		return r;
	}
	vmnt_virtual_plan(&s->sq, image->places, image->n_places,
			  &s->virt); /* a bind that lacks its place will say so */
	*ret = s;
	return 0;
}

struct control_arg {
	int sock;
	struct vmnt_session *s;
};

static void *control_thread(void *p)
{
	VL_FREE struct control_arg *a = p;

	vmnt_control_serve(a->sock, a->s);
	close(a->sock);
	return NULL;
}

/* The thread is never joined: who ends the mount ends the process. */
static void start_control(struct vmnt_session *s, int sock)
{
	struct control_arg *a = vl_alloc(sizeof *a);
	pthread_t t;

	*a = (struct control_arg){ sock, s };
	if (pthread_create(&t, NULL, control_thread, a) == 0) {
		pthread_detach(t);
		return;
	}
	close(sock); /* whoever asks is told that the server is gone */
	free(a);
}

void vmnt_session_loop(struct vmnt_session *s, int control)
{
	if (control >= 0)
		start_control(s, control);
	fuse_session_loop(s->fuse);
}

void vmnt_session_free(struct vmnt_session *s)
{
	if (s->fuse)
		fuse_session_destroy(s->fuse);
	vmnt_virtual_free(&s->virt);
	if (s->control_open)
		vmnt_sq_close(&s->control);
	vmnt_sq_close(&s->sq);
	free(s->buf);
	free(s);
}

/* ---- while it runs: the control thread -------------------------------------------------------- */

int vmnt_session_add_places(struct vmnt_session *s, const struct vmnt_place *places, size_t n, struct vl_err *err)
{
	size_t before = s->virt.n;
	int r = s->control_open ? 0 : vmnt_sq_open(&s->control, &s->image, err);

	if (r < 0)
		return r;
	s->control_open = true;
	r = vmnt_virtual_plan(&s->control, places, n, &s->virt);
	/* "Not there" and whole listings may be remembered for ever. The entry first: taking it back waits for
	 * lookups and listings under way in that directory, which began before there was anything to see. A
	 * directory the kernel has not seen is -ENOENT, and fine. */
	for (size_t i = before; i < s->virt.n; i++) {
		const struct sq_virtual *v = &s->virt.v[i];
		fuse_lowlevel_notify_inval_entry(s->fuse, v->parent, v->name, strlen(v->name));
		fuse_lowlevel_notify_inval_inode(s->fuse, v->parent, 0, 0);
	}
	if (r < 0)
		return vl_fail(err, -r, "too many places were made up for binds: %d at most", SQ_VIRTUALS_MAX);
	return 0;
}

/* By hand: a JSON library wants random bytes from a file first, and there are no files here. */
char *vmnt_session_stats(struct vmnt_session *s)
{
	static const char *const name[] = { "lookup", "getattr", "readlink", "read", "readdir", "statfs" };
	struct vl_buf b = { 0 };

	vl_buf_adds(&b, "{\"requests\":{");
	for (size_t i = 0; i < VL_COUNT(name); i++)
		vl_buf_addf(&b, "%s\"%s\":%llu", i ? "," : "", name[i], (unsigned long long)s->count[i]);
	vl_buf_addf(&b, "},\"bytes\":%llu,\"places\":%zu}", (unsigned long long)s->count[SRV_BYTES], (size_t)s->virt.n);
	return b.data;
}
