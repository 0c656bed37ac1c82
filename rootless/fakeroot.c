/* A user namespace in which the caller is root: with his subordinate ids as everybody else, or alone. */
#include "rootless.h"

#include <stdio.h>

struct answer { /* of the process that stayed outside */
	unsigned done;
	char why[256];
};

/* newuidmap looks at who calls it and at the owner of PID: so it is called from outside, as the same user. */
static void map_from_outside(int sock, pid_t pid, uid_t uid, gid_t gid, const struct ctr_subids *ids)
{
	enum vl_msg_type type;
	struct answer a = { 0 };
	VL_FREE char *why = NULL;
	char none;

	if (vl_msg_recv(sock, &type, &none, 1, NULL) < 0 || type != VL_MSG_OK)
		return; /* it did not get that far */
	a.done = ctr_map_subids(pid, uid, gid, ids, &why);
	if (why)
		snprintf(a.why, sizeof a.why, "%s", why);
	vl_msg_send(sock, VL_MSG_OK, &a, sizeof a);
}

static pid_t start_mapper(uid_t uid, gid_t gid, const struct ctr_subids *ids, int *ret_sock, struct vl_err *err)
{
	int pair[2];
	pid_t me = getpid();

	if (vl_msg_pair(pair, err) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		map_from_outside(pair[1], me, uid, gid, ids);
		_exit(0);
	}
	close(pair[1]);
	*ret_sock = pair[0];
	return pid;
}

static struct answer let_map(int sock)
{
	struct answer a = { 0 };
	enum vl_msg_type type;
	size_t n = 0;

	if (vl_msg_send(sock, VL_MSG_OK, NULL, 0) < 0 || vl_msg_recv(sock, &type, &a, sizeof a, &n) < 0 ||
	    n != sizeof a)
		return (struct answer){ .why = "the process that calls newuidmap is gone" };
	a.why[sizeof a.why - 1] = 0;
	return a;
}

int ctr_enter_fakeroot(const struct plan *p, bool *ret_all, pid_t *ret_wait, const struct vl_progress *say,
		       struct vl_err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	struct ctr_subids ids = { 0 };
	struct answer got = { 0 };
	VL_CLOSE int sock = -1;

	if (ctr_may_map_all()) /* root already */
		return ctr_enter_userns(p, ret_all, ret_wait, err);
	bool found = !p->one_id && ctr_find_subids(&p->user, uid, &ids);
	pid_t mapper = found ? start_mapper(uid, gid, &ids, &sock, err) : -1;
	int r = ctr_unshare_user(err);
	if (mapper > 0) {
		if (r == 0)
			got = let_map(sock);
		vl_closep(&sock);
		vl_wait(mapper);
	}
	if (r < 0)
		return r;
	*ret_all = got.done == (CTR_UIDS | CTR_GIDS);
	if (*ret_all)
		return 0;
	if (*got.why)
		vl_progress_warn(say, "the subordinate ids cannot be used: %s", got.why);
	else if (!p->one_id)
		vl_progress_note(say,
				 "no subordinate ids for %s in /etc/subuid and /etc/subgid: all files belong to root "
				 "inside",
				 p->user.name ? p->user.name : "this user");
	return ctr_map_one(0, uid, 0, gid, got.done, err);
}
