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
enum ctr_request { CTR_JOIN = 'J', CTR_OFFER = 'O', CTR_TELL = 'T', CTR_STATS = 'S' };
/* JOIN may come as VL_MSG_FD, with a descriptor for a line of statistics at the asker's end. On the same connection a
 * container may be offered later: OFFER, as VL_MSG_FD with its mount namespace, its root and the host's table of mounts.
 * Answers. JOIN: VL_MSG_FD with two or three descriptors and a letter. OFFER: none. TELL: VL_MSG_OK with lines for people.
 * STATS: VL_MSG_OK with JSON. Or VL_MSG_ERR. */
enum ctr_joined {
	CTR_JOINED_MOUNT = 'M',    /* the user namespace, the image's mount */
	CTR_JOINED_CONTAINER = 'C' /* the user namespace; mount namespace and root of a container that is there */
};
#define CTR_JOINED_FDS 3

struct ctr_join {
	const char *key;   /* of the holder */
	const char *alike; /* of the container, "" = one of its own */
	const struct vmnt_place *places;
	size_t n_places;
};
/* Body of CTR_JOIN; returns false when it is too long. */
bool ctr_pack_join(const struct ctr_join *j, struct vl_buf *ret);
/* Borrows from text, which ends with a NUL byte at text[len], and from *ret_places, which is new. -EINVAL. */
int ctr_unpack_join(const char *text, size_t len, struct ctr_join *ret, struct vmnt_place **ret_places);

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

struct ctr_alike;
struct ctr_user {
	pid_t pid;
	int fd;     /* pidfd */
	int report; /* -1, or takes a line at its end; the holder's */
	time_t since;
	struct ctr_alike *in; /* NULL, or the container that others may enter too */
};
struct ctr_users {
	struct ctr_user *v;
	size_t n;
};
/* A pidfd of the process at the other end, or -errno. */
int ctr_peer_pidfd(int sock, pid_t *ret_pid);
/* The user at the other end, or NULL. */
struct ctr_user *ctr_user_at(const struct ctr_users *l, int sock);

/* ---- alike.c ---- */

/* All that two starts with one holder must have in common to be in one container, as text; returns new. NULL: this one
 * is its own. In the host's namespaces. */
char *ctr_alike_key(const struct plan *p);

enum { CTR_OFFER_MNT, CTR_OFFER_ROOT, CTR_OFFER_TABLE, CTR_OFFER_FDS };
struct ctr_offer { /* of a container in the making */
	char *key;
	int sock;  /* to the holder; -1 = none is made */
	int table; /* the host's table of mounts */
	int mnt;   /* namespace */
};
#define CTR_OFFER_INIT                                                                                                 \
	{                                                                                                              \
		.sock = -1, .table = -1, .mnt = -1                                                                     \
	}
/* While the host's /proc is there. */
void ctr_offer_prepare(struct ctr_offer *o);
/* When the container is as it is to be. */
void ctr_offer_make(const struct ctr_offer *o, int rootfd);

/* ---- hold_alike.c ---- */

struct ctr_alike {
	char *key;
	int fd[CTR_OFFER_FDS]; /* -1: the next that is made will be taken */
	size_t users;
};
struct ctr_alikes {
	struct ctr_alike **v;
	size_t n;
};
/* One user more, or NULL: there is none as a start would make it now. */
struct ctr_alike *ctr_alike_enter(const struct ctr_alikes *l, const char *key);
/* One user more, its maker. Descriptors that are taken become -1. */
struct ctr_alike *ctr_alike_offer(struct ctr_alikes *l, const char *key, int fds[CTR_OFFER_FDS]);
/* One user less; a may be NULL. */
void ctr_alike_leave(struct ctr_alikes *l, struct ctr_alike *a);

/* ---- join.c ---- */

struct ctr_joined_to {
	int mount;            /* the image's, detached; the holder's user namespace was entered */
	struct ctr_door door; /* or a container that is there; nothing was entered */
	struct ctr_offer offer;
};
#define CTR_JOINED_INIT                                                                                                \
	{                                                                                                              \
		.mount = -1, .door = CTR_DOOR_INIT, .offer = CTR_OFFER_INIT                                            \
	}
/* Asks the holder of the plan's image, which is made if there is none. Failure means that there can be none here, and
 * that nothing was entered. */
int ctr_join(const struct plan *p, const struct vmnt_image *image, struct ctr_joined_to *ret, struct vl_err *err);
void ctr_joined_free(struct ctr_joined_to *j);

#endif
