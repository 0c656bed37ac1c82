/* One mount of an image for all starts of one user: the holder and those who join it. */
#ifndef ROOTLESS_HOLD_H
#define ROOTLESS_HOLD_H

#include "rootless.h"

#include <time.h>

/* ---- rundir.c ---- */

#define CTR_RUNDIRS 4
/* The caller's runtime directory in one of the places where it may be; make: if it is not there yet.
 * Descriptor, or -errno; -EPERM when it is there and not to be trusted. */
int ctr_rundir_open(unsigned which, bool make, struct vl_err *err);
/* The first one that can be used. */
int ctr_rundir(struct vl_err *err);

/* ---- hold_key.c ---- */

#define CTR_SOCKET_NAME 17
/* All that two starts must have in common to share one holder, as text; returns new. NULL: it cannot be told here. */
char *ctr_hold_key(const struct plan *p);
/* The name of its socket. Names may collide, so the holder compares the whole text. */
void ctr_hold_name(const char *key, char ret[CTR_SOCKET_NAME]);

/* For the tests: how much of a line of /proc/self/cgroup counts. */
size_t ctr_cgroup_unit(const char *line, size_t len);

/* ---- hold_msg.c: what is said on the socket ---- */

/* A request is one message, at most this long; a start with more mounts than fit mounts for itself. */
#define CTR_REQUEST_MAX 65536
enum ctr_request { CTR_JOIN = 'J', CTR_TELL = 'T', CTR_STATS = 'S' };
/* JOIN may come as VL_MSG_FD, with a descriptor for a line of statistics at the asker's end.
 * Answers. JOIN: the user namespace and the image's mount, as two VL_MSG_FD. TELL: VL_MSG_OK with lines
 * for people. STATS: VL_MSG_OK with JSON. Or VL_MSG_ERR. */

/* Body of CTR_JOIN; returns false when it is too long. */
bool ctr_pack_join(const char *key, const struct vmnt_place *places, size_t n, struct vl_buf *ret);
/* Borrows from text, which ends with a NUL byte at text[len]; *ret_places is new. -EINVAL. */
int ctr_unpack_join(const char *text, size_t len, const char **ret_key, struct vmnt_place **ret_places, size_t *ret_n);

int ctr_hold_dial(int dir, const char *name);   /* socket or -errno */
int ctr_hold_listen(int dir, const char *name); /* the same; a stale socket is replaced */
/* Every socket of the directory. */
void ctr_hold_each(int dir, void (*f)(void *arg, const char *name), void *arg);
/* Removes what holders left that were killed: of a pid namespace all processes are, when its first ends. Not the one
 * named. Under the lock only. */
void ctr_hold_sweep(int dir, const char *but);

/* ---- hold.c: the holder ---- */

/* Becomes the holder of the image, until its last user is gone. `first` is the connection of the start that
 * made it. Returns when all is over. */
void ctr_hold(const struct plan *p, const struct vmnt_image *image, const char *key, int dir, int listener, int first);

/* ---- hold_users.c: who is there ---- */

struct ctr_user {
	pid_t pid;
	int fd;     /* pidfd */
	int report; /* -1, or takes a line at its end; the holder's */
	time_t since;
};
struct ctr_users {
	struct ctr_user *v;
	size_t n;
};
/* A pidfd of the process at the other end, or -errno. */
int ctr_peer_pidfd(int sock, pid_t *ret_pid);

/* ---- join.c ---- */

/* Enters the user namespace of the holder of the plan's image, which is made if there is none, and gets a copy of
 * its mount, detached. Failure means that there can be none here, and that nothing was entered. */
int ctr_join(const struct plan *p, const struct vmnt_image *image, int *ret_mount, struct vl_err *err);

#endif
