/* Between the files of rootless/. */
#ifndef ROOTLESS_ROOTLESS_H
#define ROOTLESS_ROOTLESS_H

#include "emulate.h"

#include <vial/mount.h>
#include <vial/rootless.h>

#include <signal.h>

/* ---- plan.c ---- */

/* Lexically: dir itself lies in dir. */
bool ctr_lies_in(const char *path, const char *dir);

/* ---- preview.c ---- */

/* May the image's mount be one that other starts have too? */
bool ctr_shares_mount(const struct plan *p);

/* ---- userns.c ---- */

/* Enters a new user namespace. *ret_all: every id of the caller's namespace is mapped, else only
 * the caller's own two. *ret_wait: a child that is about to end, 0 for none; vl_wait() for it before an exec.
 * err names the gate when the system forbids it. */
int ctr_enter_userns(const struct plan *p, bool *ret_all, pid_t *ret_wait, struct vl_err *err);
int ctr_enter_mountns(struct vl_err *err);
/* The first step alone, and the last: one id of each kind, except those that `done` says are mapped. */
int ctr_unshare_user(struct vl_err *err);
enum { CTR_UIDS = 1, CTR_GIDS = 2 };
int ctr_map_one(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid, unsigned done, struct vl_err *err);
/* Does a namespace of the caller's map every id? */
bool ctr_may_map_all(void);

/* ---- fakeroot.c, subids.c ---- */

/* As ctr_enter_userns, with the caller as root. *ret_all: there are other ids too. */
int ctr_enter_fakeroot(const struct plan *p, bool *ret_all, pid_t *ret_wait, const struct vl_progress *say,
		       struct vl_err *err);

struct ctr_range {
	uint32_t first, count;
};
struct ctr_ranges { /* the kernel before 4.15 takes 5 lines of a map; the first is the user himself */
	struct ctr_range v[4];
	size_t n;
};
struct ctr_subids {
	struct ctr_ranges uids, gids;
};
/* Adds what the text of an /etc/subuid gives the user, by name (NULL = none) or number. */
void ctr_subid_ranges(const char *text, const char *name, uid_t uid, struct ctr_ranges *ret);
bool ctr_find_subids(const struct plan_user *u, uid_t uid, struct ctr_subids *ret);
/* Writes the maps of process pid, of the same user. Which of CTR_UIDS and CTR_GIDS were written; *ret_why is new
 * unless all were. */
unsigned ctr_map_subids(pid_t pid, uid_t uid, gid_t gid, const struct ctr_subids *ids, char **ret_why);

/* ---- root.c ---- */

struct ctr_root {
	int fd;                /* the future "/", attached over the host's root of this namespace */
	int host;              /* the host's root directory, O_PATH */
	int scratch;           /* ctr_scratch(); -1 until asked for */
	uint64_t scratch_size; /* bytes; 0 = the kernel's default */
	unsigned covers;       /* mounts over the host's root that are not fd */
	unsigned made;         /* directories made in it so far */
	bool writable;         /* targets may be made in the image itself: --writable */
	bool alone;   /* a mount is not as it was asked for, or the next start might find another place for it */
	int *src;     /* per plan mount: detached mount, -1 = skipped or already in place */
	uint64_t *id; /* per plan mount: mount id once it is in place, 0 = not */
	struct ctr_served *served;
	size_t n_served;
};
#define CTR_ROOT_INIT                                                                                                  \
	{                                                                                                              \
		.fd = -1, .host = -1, .scratch = -1                                                                    \
	}
void ctr_root_free(struct ctr_root *r, size_t n_mounts);

/* One tmpfs for everything that is made up; what is in it can be cloned. The descriptor is r's. */
int ctr_scratch(struct ctr_root *r, struct vl_err *err);
/* The places that the plan mounts on, for the image server. Returns new. */
struct vmnt_place *ctr_places(const struct plan *p);
struct ctr_layers;
/* Puts the image over the host's root, with the layers over it that are asked for or needed. */
int ctr_attach_root(struct ctr_root *r, const struct plan *p, const struct vmnt_place *places, struct ctr_layers *l,
		    int mountfd, struct vl_err *err);
/* Makes the place in a layer that will lie over the image, unless the image has it. *ret_made counts. */
int ctr_make_place(const struct ctr_root *r, int layer, const struct vmnt_place *place, unsigned *ret_made,
		   struct vl_err *err);

/* One listing brings the names and attributes of all that lies in "/", which every path that is
 * looked at from then on begins with: one question to the server instead of a dozen. */
void ctr_look_at_top(int rootfd);
/* The kernel is to have the image's early files before a program asks for them. Waits for names, not for content. */
void ctr_read_ahead(int rootfd, const struct vmnt_image *image);

/* Where the path leads in the image; what does not exist is taken as it is written. Returns new. */
char *ctr_real_path(const struct ctr_root *r, const char *path, bool nofollow);

/* ---- overlay.c ---- */

struct ctr_layer { /* an overlay of the plan on its way */
	struct vmnt_image image;
	struct vmnt_server server; /* of a squashfs, until it is mounted */
	int fd;                    /* what goes below the next one; -1: goes another way */
};
struct ctr_layers {
	struct ctr_layer *v;
	size_t n;
	struct vmnt_ext ext; /* of ext3 files; .sock -1 = there are none */
	int follower;        /* to the process that keeps the locks of directories; -1 = none */
	bool unlocked;       /* it cannot, and what it would keep is only read */
};
#define CTR_LAYERS_INIT                                                                                                \
	{                                                                                                              \
		.ext = VMNT_EXT_INIT, .follower = -1                                                                   \
	}
void ctr_layers_free(struct ctr_layers *l);
#define CTR_LAYERS __attribute__((cleanup(ctr_layers_free)))
/* What must run before the mount namespace is entered, and before a pid namespace, whose end would kill it: the servers
 * of squashfs overlays, the helper of ext3 files, who keeps locks. done: see vmnt_ext_start. */
int ctr_layers_start(const struct plan *p, bool all_ids, int done, struct ctr_layers *ret, struct vl_err *err);
/* Puts the layers over r->fd, which becomes the whole. */
int ctr_stack(struct ctr_root *r, const struct plan *p, const struct vmnt_place *places, struct ctr_layers *l,
	      struct vl_err *err);

/* ---- overlay_lock.c ---- */

/* The file that says who has a writable overlay; returns new. */
char *ctr_lock_note_path(const struct plan_overlay *o);
/* A process that keeps the locks of directories, as many as there are; it goes when *ret_sock is closed without a word. */
int ctr_locks_follow(const struct plan *p, int *ret_sock, struct vl_err *err);
/* It is to keep them until the file system of rootfd is unmounted everywhere. sock -1: nothing to do. *ret_unlocked:
 * there is no inotify instance left for that, and nothing writable, so that the start may go on. */
int ctr_locks_until_unmounted(int sock, int rootfd, const struct plan *p, bool *ret_unlocked, struct vl_err *err);

/* ---- stay.c ---- */

struct ctr_stay {    /* in the child */
	int started; /* closed by execve: the program runs */
	int done;    /* of who writes back */
	pid_t parent;
};
#define CTR_STAY_INIT                                                                                                  \
	{                                                                                                              \
		.started = -1, .done = -1                                                                              \
	}
/* Where something must be written back after the program's end: returns in a child, which goes on. The caller stays
 * as if it were the program, never returns, and ends when all is written. Otherwise does nothing. */
int ctr_stay(const struct plan *p, struct ctr_stay *ret, struct vl_err *err);
/* Right before execve: from now on the end of who stayed ends the program. */
int ctr_stay_bound(const struct ctr_stay *s, struct vl_err *err);

/* ---- memory.c ---- */

/* What a tmpfs for changes may hold: half of the memory that the job may use, at least 64 MiB; 0: no limit known. */
uint64_t ctr_memory_share(void);
/* The least limit of the control groups that the lines of `self` (of /proc/self/cgroup) name, below `mount`; 0 = none. */
uint64_t ctr_cgroup_memory(const char *self, const char *mount);
/* What the text of /proc/meminfo leaves for new pages, bytes, swap included; 0 = it does not say. */
uint64_t ctr_meminfo_free(const char *text);

/* ---- mounts.c ---- */

#define CTR_STATX_MNT_ID 0x1000 /* STATX_MNT_ID, Linux 5.8: newer than the C library's headers may be */

int ctr_open_sources(struct ctr_root *r, const struct plan *p, const struct vl_progress *say, struct vl_err *err);
int ctr_place_mounts(struct ctr_root *r, const struct plan *p, const struct vl_progress *say, struct vl_err *err);
/* A read-only file with that text over an existing file of the container. */
int ctr_cover_file(struct ctr_root *r, const char *path, const char *text, struct vl_err *err);

/* ---- image_binds.c: what is bound out of image files, each served once however often it is bound ---- */

struct ctr_served; /* one image file */
/* Which of them are files: asked of the images themselves, by a child. Call before any namespace is entered. */
int ctr_find_image_sources(struct plan *p, struct vl_err *err);
/* Starts the servers: inside the user namespace, outside the mount namespace. */
int ctr_serve_images(struct ctr_root *r, const struct plan *p, struct vl_err *err);
/* Opens the sources, after the root is in place: r->src of these mounts. */
int ctr_mount_images(struct ctr_root *r, const struct plan *p, struct vl_err *err);
void ctr_served_free(struct ctr_root *r);

/* ---- hooks.c ---- */

/* Where hooks will find their bundle; new, NULL when there are none. In the host's namespaces. */
int ctr_hooks_place(const struct plan *p, char **ret_dir, struct vl_err *err);
/* Runs those that are programs of the host, in the mount namespace of the container, when all of it is mounted. */
int ctr_hooks_outside(const struct ctr_root *r, const struct plan *p, const char *dir, struct vl_err *err);
/* Runs those of the container, after its root is the root, and makes it read-only if that was only for hooks. */
int ctr_hooks_inside(const struct ctr_root *r, const struct plan *p, const char *dir, struct vl_err *err);

/* ---- caps.c ---- */

/* The capabilities of this process stay its through execve, whoever it is. -1, errno. */
int ctr_keep_caps(void);

/* ---- dev.c ---- */

/* Devices of the host into the directory, which is the root of a tmpfs already in place. */
int ctr_fill_dev(const struct plan *p, int dirfd, struct vl_err *err);

/* ---- spaces.c ---- */

/* The ipc, uts and net namespaces of the plan, the latter with lo up. */
int ctr_enter_spaces(const struct plan *p, struct vl_err *err);
/* A /proc of the pid namespace that the caller is in, detached; where that is refused, the one around it and a
 * warning. Call before the host's root is let go. */
int ctr_new_proc(const struct vl_progress *say, struct vl_err *err);

/* ---- init.c ---- */

struct ctr_first { /* what the first process of a pid namespace knows of outside */
	int sock;
	sigset_t mask; /* of signals, as the program is to have it */
	bool ignores_children;
};
#define CTR_FIRST_INIT                                                                                                 \
	{                                                                                                              \
		.sock = -1                                                                                             \
	}
/* With a pid namespace of the plan's: returns in its first process, with all signals blocked. The caller stays
 * outside, never returns, and ends as the program ends. Without: does nothing. */
int ctr_enter_pidns(const struct plan *p, struct ctr_first *f, struct vl_err *err);
/* Right before execve: returns in the process that is to be the program, with its signals as the caller had them.
 * Where the plan wants an init, the first process is that from now on. */
int ctr_leave_init(const struct plan *p, struct ctr_first *f, struct vl_err *err);

/* ---- net.c ---- */

struct ctr_net { /* a process outside that will bring up the network, and end it with the caller */
	int sock;
};
#define CTR_NET_INIT                                                                                                   \
	{                                                                                                              \
		.sock = -1                                                                                             \
	}
/* In the host's namespaces. Does nothing unless the plan's network is "pasta". */
int ctr_net_start(const struct plan *p, struct ctr_net *n, struct vl_err *err);
/* In those of the container. Returns when its interface is up. */
int ctr_net_up(struct ctr_net *n, struct vl_err *err);

/* ---- cgroup.c ---- */

struct ctr_cgroup {
	int procs; /* its cgroup.procs; -1 = there is none */
};
#define CTR_CGROUP_INIT                                                                                                \
	{                                                                                                              \
		.procs = -1                                                                                            \
	}
/* Makes a cgroup with the plan's limits and somebody who removes it after the caller's end. In the host's
 * namespaces. What cannot be is said in one warning and is no failure. */
void ctr_cgroup_make(const struct plan *p, struct ctr_cgroup *c, const struct vl_progress *say);
/* Moves the caller there. */
void ctr_cgroup_join(struct ctr_cgroup *c, const struct vl_progress *say);

/* ---- ids.c ---- */

int ctr_write_ids(struct ctr_root *r, const struct plan *p, struct vl_err *err);
/* By an nsswitch.conf's text: is a database's file asked first, and is what it knows the answer? */
bool ctr_files_first(const char *nsswitch, const char *database);
/* The text of a passwd or group file with the user's entries in it; returns new. */
char *ctr_passwd_text(const char *text, const struct plan_user *u);
char *ctr_group_text(const char *text, const struct plan_user *u);

/* ---- shenv.c ---- */

const char *ctr_env_get(const struct vl_strv *env, const char *key);
void ctr_env_put(struct vl_strv *env, const char *key, const char *value);
void ctr_env_put_kv(struct vl_strv *env, const char *kv);
void ctr_env_del(struct vl_strv *env, const char *key);
bool ctr_key_is(const char *kv, const char *key); /* kv begins with KEY= */
/* One more element of a search path, in front or at the end; *list may be NULL. */
void ctr_extend(char **list, const char *value, bool front);
struct ctr_scope {                  /* what one shell would know; it reads one text after the other */
	struct vl_strv env, locals; /* exported, and not: KEY=VALUE */
	struct vl_strv assigned;    /* KEY= of each name that a text gave a value */
	bool export_all;            /* as after "set -a" */
	bool ansi_c;                /* $'...' is known, as some shells print values */
};
void ctr_scope_free(struct ctr_scope *s);
#define CTR_SCOPE __attribute__((cleanup(ctr_scope_free)))
/* Applies the assignments of a shell text. True when every line was understood, so that no shell
 * is needed; lines that were not are skipped. */
bool ctr_eval_text(const char *text, struct ctr_scope *scope);

/* ---- env_eval.c: $NAME in what the user sets ---- */

bool ctr_has_reference(const struct plan_env *e, const char *value);
/* With the variables of env; a missing one is empty. Returns new; NULL for NULL. */
char *ctr_expand(const struct plan_env *e, const struct vl_strv *env, const char *value);
/* For a shell to expand: adds the value to word, in quotes, and to unset the names of variables that are put into env for it,
 * numbered from *number. */
void ctr_stash_word(const struct plan_env *e, const char *value, struct vl_strv *env, unsigned *number,
		    struct vl_buf *word, struct vl_buf *unset);

/* ---- envfile.c ---- */

/* Has the host's /bin/sh read a text of variables; it can start no program. *ret: lines of "export NAME=VALUE" for all
 * that it assigned; new. */
int ctr_eval_by_shell(const char *text, const char *name, char *const *environment, char **ret, struct vl_err *err);

/* ---- env.c, action.c ---- */

struct ctr_tree { /* the files of a container's root: through a descriptor, or of a squashfs that is not mounted */
	int fd;
	struct vmnt_peek *peek; /* NULL: through fd */
};
struct ctr_origin {             /* for who wants to know */
	struct vl_strv files;   /* KEY=PATH: the file of the image that gave it its value */
	struct vl_strv scripts; /* files that only the image's shell understands in full */
};
struct ctr_start {                 /* what execve is given; or the way in for others */
	struct ctr_origin *origin; /* NULL: not asked for; else the environment is as far as it is known unstarted */
	struct vl_strv argv, env;
	struct ctr_door door;
	struct ctr_emulation emulation; /* of calls that root expects to work */
};
#define CTR_START_INIT                                                                                                 \
	{                                                                                                              \
		.door = CTR_DOOR_INIT, .emulation = CTR_EMULATION_INIT                                                 \
	}
void ctr_start_free(struct ctr_start *s);
/* Reads the image's environment files and says how to start the program in them: at once, or
 * through the image's shell with a text that applies them. argv is the program's own. */
void ctr_environment(const struct ctr_tree *tree, const struct plan *p, const struct vl_strv *argv,
		     struct ctr_start *ret);
#define CTR_APPS "/scif/apps"
/* The program of exec, run, shell and test, by what the image has. -ENODATA: no test; -ENOPKG: no such app,
 * or none that can be run. */
int ctr_choose_program(const struct ctr_tree *tree, const struct plan *p, struct vl_strv *ret, struct vl_err *err);
bool ctr_has(const struct ctr_tree *tree, const char *path);
/* Small text file of the image, or NULL. Returns new. */
char *ctr_read_text(const struct ctr_tree *tree, const char *path);
int ctr_exec(const struct plan *p, const struct ctr_start *s, int *ret_status, struct vl_err *err);

/* ---- setup.c ---- */

struct ctr_start;

/* The first of the plan's working directories that there is, and PWD. In the container. */
int ctr_enter_cwd(const struct plan *p, struct ctr_start *s, const struct vl_progress *say, struct vl_err *err);
/* What the plan forbids the program, and what is done in its stead. */
int ctr_enter_filters(const struct plan *p, struct ctr_start *start, struct vl_err *err);

/* ---- keep.c ---- */

#define CTR_PRINT_ENV "env" /* the program a keeper has its environment made for */
#define CTR_ENTRY_FD 9      /* where it prints to below an entrypoint: a digit, as shells want it */

/* The namespaces this process is in, and the directory that is to be its root. */
int ctr_door_open(int rootfd, struct ctr_door *ret, struct vl_err *err);
/* What the door's answers are made of: text is the changes of the environment. */
#define CTR_CHANGES_MAX 65536 /* of a message; a socket takes about three times that */
/* alone.c: a line about a step whose image has MPI and whose tasks nobody tells of each other. Call inside. */
void ctr_warn_of_lone_ranks(const struct plan *p, const struct vl_progress *say);
/* How s->env differs from p->environment, in ret, each with a NUL at its end. Runs the image's shell when it takes one,
 * and the entrypoint that the plan asks for. *ret_guard: when it is closed, what that left running ends. -E2BIG. */
int ctr_keep_changes(const struct plan *p, const struct ctr_start *s, struct vl_buf *ret, int *ret_guard,
		     struct vl_err *err);
/* Who has connected, if he is that user: the caller, asked before a filter could answer in the kernel's place. */
int ctr_door_accept(int listener, uid_t user); /* socket or -errno */
/* Gives him the way in. */
int ctr_door_show(const struct ctr_door *door, const struct vl_buf *changes, int sock);
struct ctr_lines {
	int sock;  /* as plan.keep_fd */
	int door;  /* a listening socket beside it; -1 = none */
	int guard; /* stays open; -1 = none */
};
/* Answers until it is over. Nothing else of the caller's stays open: no terminal, no pipe. */
int ctr_keep(const struct ctr_door *door, const struct vl_buf *changes, const struct ctr_lines *l, uid_t user,
	     struct vl_err *err);

/* ---- seccomp.c ---- */

/* The filter of the plan, where there is one. */
int ctr_enter_seccomp(const struct plan *p, struct vl_err *err);

#endif
