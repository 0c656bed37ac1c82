/* Questions to a server that runs already. Each brings a socket for its answer along, so that any number of
 * processes may ask over copies of one control socket. Who holds one may ask: there is no name to find it by. */
#include "squash.h"

#include <limits.h>
#include <sys/socket.h>

#define QUESTION_MAX 65536u     /* some ten places: bytes */
#define ANSWER_MAX (128u << 10) /* below what a socket takes at once (net.core.wmem_default, 208 KiB) */
#define RECORD_STEP 4096u       /* reads in an answer */
#define GONE "the image server is gone"

enum question { ASK_PLACES = 'p', ASK_STATS = 's', ASK_RECORD = 'r' };
enum place_flags { PLACE_DIR = 1, PLACE_NOFOLLOW = 2 };

/* ---- in the caller -------------------------------------------------------------------------- */

/* Sends a question; the answer comes from *ret. */
static int ask(int control, const struct vl_buf *question, int *ret, struct vl_err *err)
{
	int pair[2];
	int r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	r = vl_msg_send_fd(control, pair[1], question->data, question->len);
	close(pair[1]); /* with the server's copy, its end is heard */
	if (r < 0) {
		close(pair[0]);
		return r == -EPIPE ? vl_fail(err, EPIPE, GONE) : vl_fail_sys(err, -r, "cannot ask the image server");
	}
	*ret = pair[0];
	return 0;
}

static int send_places(int control, const struct vl_buf *question, struct vl_err *err)
{
	VL_CLOSE int answer = -1;
	int r = ask(control, question, &answer, err);

	return r < 0 ? r : vl_msg_wait_ok(answer, "the image server", err);
}

int vmnt_server_add_places(int control, const struct vmnt_place *places, size_t n, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		size_t len = strlen(places[i].path);
		uint8_t flags = (uint8_t)((places[i].dir ? PLACE_DIR : 0) | (places[i].nofollow ? PLACE_NOFOLLOW : 0));
		if (len >= PATH_MAX)
			return vl_fail_sys(err, ENAMETOOLONG, "%.60s...", places[i].path);
		if (b.len && b.len + len + 2 > QUESTION_MAX) {
			r = send_places(control, &b, err);
			b.len = 0;
		}
		if (!b.len)
			vl_buf_add(&b, &(char){ ASK_PLACES }, 1);
		vl_buf_add(&b, &flags, 1);
		vl_buf_add(&b, places[i].path, len + 1);
	}
	return r < 0 || !b.len ? r : send_places(control, &b, err);
}

int vmnt_server_stats(int control, char **ret_json, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	VL_CLOSE int answer = -1;
	VL_FREE char *text = vl_alloc(ANSWER_MAX + 1); /* ends in a zero */
	enum vl_msg_type type = VL_MSG_ERR;

	vl_buf_add(&b, &(char){ ASK_STATS }, 1);
	int r = ask(control, &b, &answer, err);
	if (r < 0)
		return r;
	r = vl_msg_recv(answer, &type, text, ANSWER_MAX, NULL);
	if (r < 0)
		return r == -EPIPE ? vl_fail(err, EPIPE, GONE)
				   : vl_fail_sys(err, -r, "cannot hear from the image server");
	if (type != VL_MSG_OK)
		return vl_fail(err, EPROTO, "the image server sent an unexpected message (type %d)", type);
	*ret_json = vl_steal(&text);
	return 0;
}

/* Some of them at a time: an answer is one message. */
static int ask_record(int control, uint64_t from, struct vmnt_read *to, size_t max, size_t *ret_n, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	VL_CLOSE int answer = -1;
	enum vl_msg_type type = VL_MSG_ERR;
	size_t bytes = 0;

	vl_buf_add(&b, &(char){ ASK_RECORD }, 1);
	vl_buf_add(&b, &from, sizeof from);
	int r = ask(control, &b, &answer, err);
	if (r < 0)
		return r;
	r = vl_msg_recv(answer, &type, to, max * sizeof *to, &bytes);
	if (r < 0)
		return r == -EPIPE ? vl_fail(err, EPIPE, GONE)
				   : vl_fail_sys(err, -r, "cannot hear from the image server");
	if (type != VL_MSG_OK || bytes > max * sizeof *to)
		return vl_fail(err, EPROTO, "the image server sent an unexpected message (type %d)", type);
	*ret_n = bytes / sizeof *to;
	return 0;
}

int vmnt_server_profile(int control, struct vmnt_read **ret, size_t *ret_n, struct vl_err *err)
{
	VL_FREE struct vmnt_read *l = NULL;
	size_t n = 0, some;

	do {
		l = vl_realloc(l, n + RECORD_STEP, sizeof *l);
		int r = ask_record(control, n, l + n, RECORD_STEP, &some, err);
		if (r < 0)
			return r;
		n += some;
	} while (some == RECORD_STEP);
	*ret = vl_steal(&l);
	*ret_n = n;
	return 0;
}

/* ---- in the server -------------------------------------------------------------------------- */

static int take_places(struct vmnt_session *s, const char *p, size_t n, struct vl_err *err)
{
	VL_FREE struct vmnt_place *l = NULL;
	size_t count = 0;

	while (n) {
		size_t len = n > 1 ? strnlen(p + 1, n - 1) : n;
		if (len + 2 > n || len >= PATH_MAX || p[1] != '/')
			return vl_fail(err, EPROTO, "a place for a bind is not an absolute path");
		if ((count & (count - 1)) == 0)
			l = vl_realloc(l, VL_MAX(count * 2, 1u), sizeof *l);
		l[count++] =
			(struct vmnt_place){ .path = p + 1, .dir = *p & PLACE_DIR, .nofollow = *p & PLACE_NOFOLLOW };
		p += len + 2;
		n -= len + 2;
	}
	return vmnt_session_add_places(s, l, count, err);
}

static void answer(struct vmnt_session *s, int sock, const char *p, size_t n)
{
	struct vl_err err = { 0 };
	int r = -EPROTO;

	if (n && *p == ASK_STATS) {
		VL_FREE char *text = vmnt_session_stats(s);
		vl_msg_send(sock, VL_MSG_OK, text, VL_MIN(strlen(text), (size_t)ANSWER_MAX));
		return;
	}
	if (n == 1 + sizeof(uint64_t) && *p == ASK_RECORD) {
		VL_FREE struct vmnt_read *l = vl_alloc(RECORD_STEP * sizeof *l);
		uint64_t from;
		memcpy(&from, p + 1, sizeof from);
		vl_msg_send(sock, VL_MSG_OK, l, vmnt_session_record(s, from, l, RECORD_STEP) * sizeof *l);
		return;
	}
	if (n && *p == ASK_PLACES)
		r = take_places(s, p + 1, n - 1, &err);
	else
		vl_fail(&err, EPROTO, "the image server does not know the question");
	if (r < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, NULL, 0);
}

void vmnt_control_serve(int sock, struct vmnt_session *s)
{
	VL_FREE char *question = vl_alloc(QUESTION_MAX);
	enum vl_msg_type type;
	size_t n;

	for (;;) {
		VL_CLOSE int to = -1;
		if (vl_msg_recv_fd(sock, &type, &to, question, QUESTION_MAX, &n) < 0)
			return;
		if (to >= 0)
			answer(s, to, question, VL_MIN(n, (size_t)QUESTION_MAX));
	}
}
