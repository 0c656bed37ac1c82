/* What a start would come to, told without starting: no namespace is entered, nothing is mounted and no program run.
 * A squashfs is read by a child of its own, behind the same filter of system calls as its server. */
#include "rootless.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

#define ANSWER_MAX (64u << 20) /* arguments and environment: the kernel takes 6 MiB of them */

bool ctr_shares_mount(const struct plan *p)
{
	/* a user namespace of its own: ids are others, or the program may do more or less than its neighbours, to
	 * whom it would belong, and whom it could make do what its filter forbids */
	bool alone = p->fakeroot || p->add_caps || p->caps == PLAN_CAPS_ALL || p->filter_len;

	return p->image == PLAN_SQUASHFS && !p->private_mount && !alone;
}

void ctr_preview_free(struct ctr_preview *v)
{
	struct vl_strv *all[] = { &v->argv, &v->env, &v->files, &v->scripts, &v->uid_map, &v->gid_map };

	for (size_t i = 0; i < VL_COUNT(all); i++)
		vl_strv_free(all[i]);
}

/* ---- the child ------------------------------------------------------------------------------ */

/* Strings, each after a letter that says what it is. */
static void put_all(struct vl_buf *b, char what, const struct vl_strv *l)
{
	for (size_t i = 0; i < l->n; i++) {
		vl_buf_add(b, &what, 1);
		vl_buf_add(b, l->v[i], strlen(l->v[i]) + 1);
	}
}

static int find_root(const struct plan *p, struct ctr_tree *ret, struct vl_err *err)
{
	struct vmnt_image image = {
		.fd = p->image_fd, .off = p->image_off, .size = p->image_size, .name = p->image_path
	};

	if (p->tree)
		image.tree = *p->tree;
	ret->fd = p->image_fd;
	return p->image == PLAN_SQUASHFS ? vmnt_peek_open(&image, &ret->peek, err) : 0;
}

/* It parses what anybody may have made: it has nothing of the caller's, and ends with him. */
static void be_alone(const struct plan *p, int out, pid_t parent)
{
	const int keep[] = { p->image_fd, out };

	vl_close_all_but(keep, VL_COUNT(keep));
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
}

static void look(const struct plan *p, int out)
{
	struct ctr_origin origin = { 0 };
	struct ctr_start start = CTR_START_INIT;
	struct ctr_tree tree = { .fd = -1 };
	struct vl_strv argv = { 0 };
	struct vl_err err = { 0 };
	VL_BUF struct vl_buf b = { 0 };

	start.origin = &origin;
	int r = find_root(p, &tree, &err);
	if (r == 0)
		r = ctr_choose_program(&tree, p, &argv, &err);
	if (r == 0) {
		ctr_environment(&tree, p, &argv, &start);
		put_all(&b, 'a', &start.argv);
		put_all(&b, 'e', &start.env);
		put_all(&b, 'f', &origin.files);
		put_all(&b, 's', &origin.scripts);
		vl_buf_add(&b, ".", 2);
	} else {
		vl_buf_addf(&b, "x%d %s", -r, err.text);
		vl_buf_add(&b, "", 1);
	}
	vl_write_full(out, b.data, b.len);
	_exit(0);
}

/* ---- the caller ----------------------------------------------------------------------------- */

static int take(const char *s, struct ctr_preview *ret, bool *ret_end, struct vl_err *err)
{
	char *text;

	switch (*s++) {
	case 'a':
		vl_strv_add(&ret->argv, s);
		break;
	case 'e':
		vl_strv_add(&ret->env, s);
		break;
	case 'f':
		vl_strv_add(&ret->files, s);
		break;
	case 's':
		vl_strv_add(&ret->scripts, s);
		break;
	case '.':
		*ret_end = true;
		break;
	case 'x': {
		long code = strtol(s, &text, 10);
		VL_FREE char *shown = vl_printable(text + (*text == ' '), strlen(text + (*text == ' ')));
		return vl_fail(err, code > 0 && code < 4096 ? (int)code : EIO, "%s", shown);
	}
	default:
		return vl_fail(err, EPROTO, "the process that reads the image has not answered");
	}
	return 0;
}

static int take_all(const struct vl_buf *b, struct ctr_preview *ret, const struct plan *p, struct vl_err *err)
{
	bool end = false;
	int r = 0;

	for (size_t at = 0; at < b->len && r == 0; at += strlen(b->data + at) + 1)
		r = take(b->data + at, ret, &end, err);
	return r < 0 || end ? r : vl_fail(err, EPROTO, "%s: the process that reads it ended early", p->image_path);
}

static int ask_image(const struct plan *p, struct ctr_preview *ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot make a pipe");
	pid_t parent = getpid(), pid = -1;
	int out = vl_move_fd_above_stdio(fds[1]); /* below, it would be closed with the caller's */
	if (out >= 0)
		pid = fork();
	if (pid == 0) {
		be_alone(p, out, parent);
		look(p, out);
	}
	vl_closep(&out);
	if (pid > 0)
		vl_read_pipe(fds[0], ANSWER_MAX, &b);
	close(fds[0]);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start the process that reads the image");
	vl_wait(pid);
	return take_all(&b, ret, p, err);
}

static void put_map(struct vl_strv *l, uint32_t inside, uint32_t outside, uint32_t n)
{
	vl_strv_take(l, vl_asprintf("%u %u %u", inside, outside, n));
}

static void put_ranges(struct vl_strv *l, const struct ctr_ranges *r)
{
	uint32_t inside = 1;

	for (size_t i = 0; i < r->n; inside += r->v[i++].count)
		put_map(l, inside, r->v[i].first, r->v[i].count);
}

/* As ctr_enter_userns and ctr_enter_fakeroot write them. Fields: inside, outside, how many. */
static void set_maps(const struct plan *p, struct ctr_preview *ret)
{
	struct ctr_subids ids = { 0 };

	ret->all_ids = ctr_may_map_all();
	if (ret->all_ids)
		return;
	put_map(&ret->uid_map, p->user.uid, geteuid(), 1);
	put_map(&ret->gid_map, p->user.gid, getegid(), 1);
	if (!p->fakeroot || p->one_id || !ctr_find_subids(&p->user, geteuid(), &ids))
		return;
	put_ranges(&ret->uid_map, &ids.uids);
	put_ranges(&ret->gid_map, &ids.gids);
}

int ctr_preview(const struct plan *p, struct ctr_preview *ret, struct vl_err *err)
{
	struct ctr_preview v = { .shared = ctr_shares_mount(p) };

	set_maps(p, &v);
	int r = ask_image(p, &v, err);
	if (r < 0) {
		ctr_preview_free(&v);
		return r;
	}
	*ret = v;
	return 0;
}
