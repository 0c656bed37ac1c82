/* rootless: the plan of a container and the one function that carries it out.
 *
 * A front end (command line, Slurm, OCI bundle) turns what the user said into a struct plan;
 * ctr_run makes it so. Nothing below the plan parses user text. No step needs root, setuid
 * programs or subordinate ids. The calling process itself becomes the program: same pid, so
 * signals, exit status, terminal and job control are what they would be without a container. With a pid
 * namespace it cannot: there it stays outside, passes signals on and ends as the program ends.
 */
#ifndef VIAL_ROOTLESS_H
#define VIAL_ROOTLESS_H

#include <vial/base.h>
#include <vial/mount.h>

/* ---- the plan (plan.c) ---------------------------------------------------------------------- */

enum plan_kind {
	PLAN_BIND,  /* host path src at dst */
	PLAN_TMPFS, /* an empty directory in memory, gone with the container */
	PLAN_DEV,   /* a /dev of the few devices every program may use */
	PLAN_IMAGE, /* path src in the image file image_fd, at dst; always read-only */
	PLAN_TEXT,  /* a read-only file with that text */
	/* file systems of the container's own pid and ipc namespace */
	PLAN_PROC,
	PLAN_MQUEUE,
};
enum plan_flag {
	PLAN_RO = 1,
	PLAN_OPTIONAL = 2,   /* no source or no target: go on without it */
	PLAN_NOFOLLOW = 4,   /* a symlink of the image at dst is covered, not followed */
	PLAN_DEVICES = 8,    /* device nodes below it work */
	PLAN_DEFAULT = 16,   /* ours: gives way to any other mount on the same place */
	PLAN_LINK = 32,      /* src is a symlink that is bound as such */
	PLAN_STICKY = 64,    /* a tmpfs with the mode of /tmp */
	PLAN_FILE = 128,     /* src of a PLAN_IMAGE is no directory; found out on the way */
	PLAN_NONESTED = 256, /* not for a container started inside of this one */
	PLAN_OWN = 512,      /* src is the container's own: places may be made in it */
	PLAN_NOEXEC = 1024,  /* nothing in it can be started */
};
struct plan_mount {
	enum plan_kind kind;
	unsigned flags;
	char *src, *dst; /* absolute, lexically clean; src NULL unless a bind */
	uint64_t size;   /* tmpfs: bytes it may hold; 0 = the kernel's default, half of the memory */
	char *text;      /* PLAN_TEXT */
	/* PLAN_IMAGE: where its squashfs lies; the fd is the plan's own. image_object: of a SIF, 0 = not said */
	int image_fd;
	uint32_t image_object;
	uint64_t image_off, image_size;
	char *image_path;
	const char *why; /* what asked for it, for --explain: "--bind", "default", "--nv"; a literal or NULL */
};

/* A layer over the image, the later on top. At most one is writable, and it is the topmost. */
enum plan_layer { PLAN_LAYER_DIR, PLAN_LAYER_SQUASHFS, PLAN_LAYER_EXT3 };
struct plan_overlay {
	enum plan_layer kind;
	bool writable;
	int fd;             /* the plan's own: the directory that holds upper and work, or the file */
	int lock;           /* the plan's own: what holds the lock of a directory; -1 = fd does, or nothing */
	uint64_t off, size; /* of a file system in a file; size 0 = to its end */
	unsigned patience;  /* ms for who changes it, and is known to end; 0 = it is not known */
	char *path;         /* absolute; for messages */
};

/* Namespaces of the container's own, besides user and mount. */
enum plan_ns { PLAN_NS_PID = 1, PLAN_NS_IPC = 2, PLAN_NS_UTS = 4, PLAN_NS_NET = 8 };

/* Where the name server of the network "pasta" answers, to be written into /etc/resolv.conf by who makes the plan. */
#define CTR_NET_DNS "169.254.1.1"

/* Limits on a cgroup of its own; 0 or NULL = none. Strings are of the forms systemd and docker know. */
struct plan_limits {
	uint64_t memory, memory_reservation, memory_swap; /* bytes */
	uint64_t pids, cpu_shares, blkio_weight;
	char *cpus, *cpuset_cpus, *cpuset_mems; /* cpus: a decimal number */
	struct vl_strv weights;                 /* "DEVICE:WEIGHT" */
	struct vl_strv raw;                     /* "FILE=VALUE" of the unified hierarchy, from --apply-cgroups */
	bool any;
};

enum plan_image { PLAN_SQUASHFS, PLAN_DIRECTORY };
enum plan_action { PLAN_EXEC, PLAN_RUN, PLAN_SHELL, PLAN_TEST, PLAN_START, PLAN_KEEP /* nothing: others come in */ };

/* What is done when the program of an instance has ended. */
enum ctr_restart { CTR_RESTART_NO, CTR_RESTART_ON_FAILURE, CTR_RESTART_ALWAYS };
struct plan_instance {
	int out, errors; /* its program's output goes there; borrowed */
	int ready;       /* where it is said that it runs, or why not; borrowed */
	int guard;       /* pidfd of the process without which it ends; borrowed */
	enum ctr_restart restart;
};

struct plan_group {
	gid_t gid;
	char *name;
};
struct plan_user { /* from NSS, asked before any namespace is entered */
	uid_t uid;
	gid_t gid;
	char *name, *gecos, *shell;
	char *home; /* HOME and the passwd entry; inside the container */
	struct plan_group *groups;
	size_t n_groups;
};

/* Before the names of variables that are for the container alone, and not for the program that keeps it: PLAN_KEEP. */
#define CTR_JOB_ENV "VIAL_OF_JOB_"
/* How much of the host's environment stays outside. */
enum plan_clean { CTR_CLEAN_NONE, CTR_CLEAN_HOST_DEV, CTR_CLEAN_BUT_SCHEDULER, CTR_CLEAN_ALL };

/* A program that prepares the container, as the OCI runtime-spec has it; its standard input is the container's state. */
struct plan_hook {
	bool inside; /* startContainer: a program of the container, when all is in place; else createContainer: of the
		      * host, before the root is switched */
	char *path;  /* absolute */
	struct vl_strv argv, env;
	int64_t timeout; /* seconds; 0 = none */
	const char *why; /* as of a mount */
};

struct plan_env {                                          /* cli-compat section 4; lists of KEY=VALUE */
	struct vl_strv host;                               /* what comes from outside; an image's value beats it */
	struct vl_strv fixed;                              /* facts about this container */
	struct vl_strv set;                                /* beats the image; the later of two wins */
	char *path_first, *path_last, *ld_first, *ld_last; /* NULL = none */
	bool libs;                                         /* /.singularity.d/libs is on LD_LIBRARY_PATH */
	bool libs_last;        /* and where that is all there is, after the C library's own directories */
	enum plan_clean clean; /* what `host` was made with */
	bool eval;             /* $NAME in `set` and in the paths is a variable */
};

struct plan {
	/* image */
	enum plan_image image;
	int image_fd; /* borrowed: checked and mounted through the same descriptor */
	uint64_t image_off, image_size;
	char *image_path;                /* absolute; for messages and variables */
	bool writable;                   /* directory: its own files may be changed */
	bool private_mount;              /* not shared with other starts */
	const struct vmnt_extent *front; /* of the squashfs: see vmnt_image; borrowed */
	size_t n_front;
	/* of each image's server: see vmnt_image; 0 = as usual */
	uint64_t server_memory;
	unsigned server_threads;
	const struct vmnt_tree
		*tree; /* NULL, or what the squashfs must be; with log and log_mark: see vmnt_image; borrowed */
	int log;
	const char *log_mark;
	/* NULL, or called when the image is mounted and nothing of it has been used: not 0 ends the start */
	int (*before_use)(void *arg, struct vl_err *err);
	void *before_use_arg;
	int record; /* a socket that gets two descriptors: a control of the recording server, and the mount, which keeps
		     * the server alive; needs private_mount. -1: nothing is recorded */
	bool writable_tmpfs; /* changes are kept in memory and thrown away */
	uint64_t tmpfs_size; /* bytes of those; 0 = half of what the job may use */
	struct plan_overlay *overlays;
	size_t n_overlays;
	/* isolation */
	unsigned namespaces;  /* PLAN_NS_* */
	bool no_init;         /* the program itself is pid 1 of its namespace */
	char *hostname;       /* of PLAN_NS_UTS; NULL = as outside */
	char *network;        /* of PLAN_NS_NET: "none" or "pasta" */
	struct vl_strv ports; /* of "pasta": "tcp:HOST:CONTAINER" or "udp:..", numbers */
	struct vl_strv dns;   /* servers, for messages and --explain; /etc/resolv.conf is among the mounts */
	bool fakeroot;        /* uid 0 inside, by subordinate ids where there are any */
	bool one_id;          /* fakeroot: not by those */
	char *seccomp;        /* path of a profile; NULL = none */
	void *filter;         /* what it compiles to: an array of struct sock_filter of filter_len bytes */
	size_t filter_len;
	enum plan_caps { PLAN_CAPS_USUAL, PLAN_CAPS_ALL, PLAN_CAPS_NONE } caps; /* what to start from */
	uint64_t add_caps, drop_caps;                                           /* bits by number */
	struct plan_limits limits;
	int report; /* borrowed, write-only, above 2: takes a line of statistics at the end; 0 = none */
	/* file system */
	struct plan_mount *mounts;
	size_t n_mounts;
	struct plan_hook *hooks;
	size_t n_hooks;
	bool sealed; /* writable_tmpfs is for the hooks: read-only when they are through */
	/* process */
	struct plan_user user;
	struct plan_env env;
	enum plan_action action;
	int keep_fd;                    /* PLAN_KEEP, instance: where it is asked for the way in; the plan's own */
	int keep_door;                  /* PLAN_KEEP: a listening socket beside it, for others; borrowed; -1 = none */
	bool entrypoint;                /* PLAN_KEEP: run_default is started around the environment of who comes in */
	bool entrypoint_log;            /* what it writes is shown on standard error */
	struct plan_instance *instance; /* stays when its program has ended; borrowed; NULL = it is none */
	char *const *environment;       /* PLAN_KEEP: who comes in is told what is different from it; borrowed */
	struct vl_strv argv;            /* exec: program and arguments; else arguments */
	struct vl_strv run_default;     /* what `run` starts when the image can run no script */
	char *shell;                    /* of --shell; NULL = choose */
	char *app;                      /* NULL, or whose program and environment are wanted: /scif/apps/NAME */
	struct vl_strv cwd;             /* tried in turn; the last resorts are home and "/" */
	bool cwd_must;                  /* the first of cwd or nothing */
	int umask;                      /* -1 = as it is */
	/* manners */
	int status_missing, status_denied; /* exit status for a program not found, not executable */
	struct vl_strv origins;            /* what `why` of the above points into, where it is no literal */
	struct vl_strv env_why;            /* KEY=what set it, of variables in env.set that are not the user's */
};

#define PLAN_INIT                                                                                                      \
	{                                                                                                              \
		.image_fd = -1, .record = -1, .keep_fd = -1, .keep_door = -1, .umask = -1, .status_missing = 127,      \
		.status_denied = 126                                                                                   \
	}
void ctr_plan_free(struct plan *p);
#define PLAN __attribute__((cleanup(ctr_plan_free)))

void ctr_plan_add(struct plan *p, enum plan_kind kind, const char *src, const char *dst, unsigned flags);
/* A file that is made up: PLAN_TEXT. A link of the image at dst is covered. */
void ctr_plan_add_text(struct plan *p, const char *text, const char *dst, const char *why);
void ctr_plan_remove(struct plan *p, size_t i);
/* Appends one, to be filled by the caller. Good until the next one is added. */
struct plan_hook *ctr_plan_add_hook(struct plan *p, bool inside, const char *path);
/* A copy that lives as long as the plan, for a `why`. */
const char *ctr_plan_origin(struct plan *p, const char *text);
/* Order of mounting: parents first, and of two on one place the first; the loser is warned about
 * unless it was a default. */
void ctr_plan_sort(struct plan *p, const struct vl_progress *say);
/* Is host path `path` shown under its own name by a bind of the plan? */
bool ctr_plan_shows(const struct plan *p, const char *path);
/* Host path or container path of the mount that `path` lies in, or NULL. */
const struct plan_mount *ctr_plan_mount_over(const struct plan *p, const char *path);

/* ---- user text to plan entries (binds.c, env.c, ids.c) ---------------------------------------- */

/* Words of --bind, already split at commas: SRC[:DST[:OPT]]; an option word after a bind that has
 * options belongs to it. Relative sources are taken from the cwd. Missing sources are -ENOENT. With
 * image-src or id it is a PLAN_IMAGE, whose file is for the caller to open. */
int ctr_plan_parse_binds(struct plan *p, const struct vl_strv *words, struct vl_err *err);
/* One --mount: type=bind,src=S,dst=D[,ro][,image-src=P][,id=N][,nonested] or type=tmpfs,dst=D[,size=N],
 * with CSV quoting. */
int ctr_plan_parse_mount(struct plan *p, const char *spec, struct vl_err *err);

/* Fills p->env.host from an environment. Names in `block` stay out. */
/* Why a host's variable stays outside, for people; NULL: it comes in. */
const char *ctr_host_env_why_not(const char *kv, enum plan_clean clean, const struct vl_strv *block);
void ctr_plan_host_env(struct plan *p, char *const *environment, enum plan_clean clean, const struct vl_strv *block);
/* Adds KEY=VALUE that beats the image; PATH extensions and HOME are special. Without a name: a warning.
 * -EINVAL without a value. */
int ctr_plan_set_env(struct plan *p, const char *key_value, const struct vl_progress *say, struct vl_err *err);

/* Assignments of an --env-file, expanded with the variables of `environment` and those before it. What is more than
 * assignments is read by the host's /bin/sh, which can start no program. `name` is for messages. */
int ctr_plan_env_text(struct plan *p, const char *text, const char *name, char *const *environment,
		      const struct vl_progress *say, struct vl_err *err);

/* Names of the caller and his groups. */
void ctr_plan_ask_user(struct plan *p);
/* Makes the caller root inside. */
void ctr_plan_fakeroot(struct plan *p);

/* Names of capabilities, with or without CAP_, any case, or "all". -EINVAL names the wrong one. */
int ctr_parse_caps(const struct vl_strv *names, uint64_t *ret, struct vl_err *err);
/* Their names with commas between, as ctr_parse_caps takes them; returns new. */
char *ctr_caps_text(uint64_t caps);
/* What the program of the plan will have, all of it over its own user namespace only. */
uint64_t ctr_plan_caps(const struct plan *p);

/* ---- profiles of system calls (seccomp_profile.c, for the program that builds) ----------------- */

#define CTR_PROFILE_MAX (1u << 20) /* those that exist have 15 KB */
/* An OCI or docker seccomp profile, for a container with these capabilities, as the kernel takes it. Returns new.
 * text: the filter in words instead, for people. */
int ctr_seccomp_compile(const char *profile, size_t len, const char *what, uint64_t caps, bool text, void **ret,
			size_t *ret_len, struct vl_err *err);

/* ---- one's files as root's (userns.c) ---------------------------------------------------------- */

/* The calling process, of one thread, moves to a user namespace where the caller is root and nobody else is anyone. */
int ctr_become_root(struct vl_err *err);

/* ---- overlays (overlay_lock.c) --------------------------------------------------------------- */

/* Takes the lock of an overlay whose path, kind, fd, off, size, patience and writable are set: alone for who writes,
 * together with others for who reads. It lives as long as what is mounted. Waits a moment for one that is
 * about to end. -EBUSY: err says who has it. program: told to those who come later. */
int ctr_overlay_lock(struct plan_overlay *o, const char *program, struct vl_err *err);

/* ---- doing it (setup.c) ---------------------------------------------------------------------- */

/* Becomes the program of the plan. Returns only on failure, -errno; *ret_status is then the exit
 * status when it was the program itself that could not be started, else 0. Warnings go to say. */
int ctr_run(struct plan *p, const struct vl_progress *say, int *ret_status, struct vl_err *err);

/* The files of a cgroup with these limits and what is to be written there, "FILE=VALUE". */
void ctr_cgroup_files(const struct plan_limits *l, struct vl_strv *ret);

/* ---- telling it (preview.c) ------------------------------------------------------------------ */

struct ctr_preview {
	struct vl_strv argv, env; /* of the program; the environment as far as no shell is needed to know it */
	struct vl_strv files;     /* KEY=PATH: the image's file that gave the variable its value */
	struct vl_strv scripts;   /* files of the image that its shell reads at the start: what they set is not known */
	struct vl_strv uid_map, gid_map; /* "INSIDE OUTSIDE COUNT", as far as the system permits */
	bool all_ids;                    /* every id is mapped to itself, instead */
	bool shared;                     /* the image's mount may be another start's too */
};
/* What ctr_run would come to. The image is read without being mounted: nothing is made and no program started. Errors
 * are those of the start; what an overlay or a bind covers in the image is seen nevertheless. */
int ctr_preview(const struct plan *p, struct ctr_preview *ret, struct vl_err *err);
void ctr_preview_free(struct ctr_preview *v);
#define CTR_PREVIEW __attribute__((cleanup(ctr_preview_free)))

/* ---- a container that stays, and the way in (keep.c, enter.c) --------------------------------- */

/* With PLAN_KEEP, ctr_run starts nothing: it answers on keep_fd, one end of a vl_msg_pair or a listening socket of that
 * kind, until the other end is closed everywhere; of a listening socket, until a signal comes. When the other end of a pair
 * is closed without a VL_MSG_END before, who had the container was killed: what runs in it is killed too. */

/* The namespaces of a container and its root directory. Not all need differ from the caller's. */
enum ctr_way { CTR_USER, CTR_IPC, CTR_UTS, CTR_NET, CTR_PID, CTR_MNT, CTR_ROOT, CTR_WAYS };
struct ctr_door {
	int fd[CTR_WAYS]; /* owned; -1 = none */
	bool pivoted;     /* the root is that of the mount namespace: no second chroot leads out of it */
};
#define CTR_DOOR_INIT                                                                                                  \
	{                                                                                                              \
		.fd = { -1, -1, -1, -1, -1, -1, -1 }                                                                   \
	}
void ctr_door_free(struct ctr_door *d);
#define CTR_DOOR __attribute__((cleanup(ctr_door_free)))
/* Asks the keeper at the other end of sock, which is one of a pair, or just connected. Waits at most timeout_ms, -1 =
 * for ever. Several processes may ask on one end at a time: all answers are alike. What the keeper could not do becomes
 * err; -ETIMEDOUT, -EPIPE when it is gone. ret_changes: how the container's environment differs from that of its plan,
 * KEY=VALUE or KEY alone for what is not in it. */
int ctr_door_ask(int sock, int timeout_ms, struct ctr_door *ret, struct vl_strv *ret_changes, struct vl_err *err);
/* For who waits at a door for others: shows them the way in that another keeper has shown, with its changes, as ctr_run does
 * with PLAN_KEEP. The mounts are those of the other's container, in a mount namespace of its own: what it is to end can be
 * told from what the other is. Enters the container. door: a listening socket beside sock, or -1. Returns when the other end
 * of sock is closed everywhere. */
int ctr_relay(const struct ctr_door *way, const struct vl_strv *changes, int sock, int door, struct vl_err *err);
/* Enters with one thread. *ret_pid: the pid namespace was another one, and only children will be in it. The cwd is the
 * container's root, the capabilities are those of its user namespace: ctr_reduce_caps comes next. */
int ctr_enter(const struct ctr_door *d, bool *ret_pid, struct vl_err *err);
/* Leaves the program what the plan says it may have, and no way to more. may_chroot: false where a second chroot would
 * lead out of the first. */
int ctr_reduce_caps(const struct plan *p, bool may_chroot, struct vl_err *err);
/* Becomes the program of the plan in a container that is there: of the plan, what it says of a container's making is
 * left aside. env: its environment as it is to be, NULL = made of the plan and the image, as ctr_run does. Returns as
 * ctr_run does. Where only children can be in the container's pid namespace, the caller waits for one and ends as it
 * does. */
int ctr_run_inside(struct plan *p, const struct ctr_door *d, const struct vl_strv *env, const struct vl_progress *say,
		   int *ret_status, struct vl_err *err);

/* Devices of several tasks in one container: a variable of its plan that only ctr_narrow_devices reads, a list with ';' of
 * KEY[,KEY...]:DEVICE:DEVICE... of one kind, where DEVICE is INDEX,[UUID][,MIG]=/dev/A[+/dev/B...] (MIG: it has slices) and KEY a variable in which a task
 * has the indices. */
#define CTR_DEVICES "VIAL_TASK_DEVICES"
/* Among the changes, for the record of the step: the image's digest and signers, as it claims them, "sha256:...,ID,ID". */
#define CTR_CLAIMS "VIAL_IMAGE_CLAIMS"
/* Among the changes of a container with a name: what the step has asked for that made it, lines of WORD[=VALUE]. */
#define CTR_ASKED "VIAL_ASKED_FOR"
/* The same, for who enters: the image's WORKDIR, if it has one. */
#define CTR_WORKDIR "VIAL_IMAGE_WORKDIR"
/* In a container just entered, with all capabilities: devices that are not this task's, by its device cgroup or else its
 * environment, do not open any more; its mount namespace is its own then, and *ret_own set. Takes the variable out of changes, and
 * adds what is another number now. Without any of the variables all are its; -ENODEV: it has one that means nothing that is here. */
int ctr_narrow_devices(char *const *environment, struct vl_strv *changes, bool *ret_own, struct vl_err *err);
/* Was the Slurm step with this environment given none of its job's devices? It has variables nevertheless: those of the script
 * that started it. */
bool ctr_given_no_devices(char *const *environment);

/* A list of devices' numbers (0,2 or 0.1,2.0) as it is where only those with these indices are left, counted from 0 in this
 * order: the others are dropped, and "-1" is left of a list of nothing else. Words that are no numbers stay. Returns new. */
char *ctr_renumber(const char *list, const unsigned *left, size_t n);

/* ---- instances: containers with a name (instance.c, instance_keep.c) --------------------------- */

#define CTR_INSTANCE_NAME_MAX 64
struct ctr_instance {
	char *name, *image;
	char *out, *errors; /* paths of its logs */
	/* how it was started */
	char *cwd, *program;      /* absolute */
	char *home;               /* of its programs */
	struct vl_strv argv, env; /* words of the command line; variables of the environment that it goes by */
	struct vl_strv identity;  /* what all its programs are under; words of who starts it */
	struct vl_strv verified; /* files of the keys whose signature it was started under; none: it was not verified */
	enum ctr_restart restart;
	/* while it runs */
	pid_t pid;            /* what stays */
	int64_t since;        /* seconds since 1970 */
	pid_t guard;          /* ends when nothing is left of it */
	uint64_t guard_start; /* clock ticks since boot */
	uint64_t mnt;         /* its mount namespace, by inode number */
};
void ctr_instance_free(struct ctr_instance *i);
void ctr_instances_free(struct ctr_instance *l, size_t n);
/* -EINVAL */
int ctr_instance_check_name(const char *name, struct vl_err *err);
/* Those of the caller on this machine that run, by name; what others left is removed. glob: NULL = all; *ret is new. */
void ctr_instances(const char *glob, struct ctr_instance **ret, size_t *ret_n);
/* A connection to it, -ENOENT when there is none. */
int ctr_instance_reach(const char *name, struct ctr_instance *ret, struct vl_err *err);
int ctr_instance_door(const char *name, struct ctr_instance *ret_what, struct ctr_door *ret, struct vl_err *err);
/* Starts the plan, whose action is PLAN_START or PLAN_RUN, under the name in i, and returns when its program runs. Of i,
 * the caller gives all but what is so only while it runs. Needs one thread. -EEXIST: the name is taken. */
int ctr_instance_start(struct plan *p, struct ctr_instance *i, const struct vl_progress *say, struct vl_err *err);
/* Sends the signal to its processes; after the timeout, -1 = never, ends it. Returns when nothing is left of it. */
int ctr_instance_stop(const char *name, int sig, int timeout_ms, struct vl_err *err);
/* The processes in that mount namespace which the caller may look at; *ret is new. */
void ctr_instance_pids(uint64_t mnt, pid_t **ret, size_t *ret_n);
/* The record as text, new; and back. */
char *ctr_instance_text(const struct ctr_instance *i);
int ctr_instance_parse(const char *text, size_t len, struct ctr_instance *ret, struct vl_err *err);

/* ---- looking in from outside (look.c) --------------------------------------------------------- */

struct vmnt_image;
/* Becomes argv on the host's file system, with the image mounted on dir (absolute) for it and its children alone.
 * Returns only on failure; *ret_status as for ctr_run, with 127 and 126. */
int ctr_look(const struct vmnt_image *image, const char *dir, char *const *argv, int *ret_status, struct vl_err *err);
/* Does this user namespace have every id? Then an image can show its own. */
bool ctr_has_all_ids(void);

/* ---- does it work here? (probe.c) -------------------------------------------------------------- */

enum ctr_probe {
	CTR_PROBE_USERNS,  /* a user namespace and its maps */
	CTR_PROBE_MOUNTNS, /* in it a mount namespace, and a mount */
	CTR_PROBE_IMAGE,   /* in these an image, served and asked */
	CTR_PROBE_OVERLAY, /* or an overlay that is written to */
	CTR_PROBE_FAKEROOT /* a user namespace with subordinate ids */
};
/* Does the steps of a start up to that one, in a child; err is what the start would say. image: NULL is a sample.
 * dir: where the overlay makes lower, upper and work, which stay; NULL: in memory. */
int ctr_probe(enum ctr_probe what, const struct vmnt_image *image, const char *dir, struct vl_err *err);
/* Where the sockets of holders are; *ret_path is new. Made if it is not there, as a start does. */
int ctr_probe_rundir(char **ret_path, struct vl_err *err);
/* May the caller make a cgroup? Makes none. */
int ctr_probe_cgroup(struct vl_err *err);
/* False, with the reason: so much memory is over the limit of the control groups, or more than the machine has free
 * (memory that the kernel can make free and swap are counted in). True where nothing can be told. */
bool ctr_memory_fits(uint64_t bytes, struct vl_err *err);
char *ctr_fs_name(int fd); /* the file system's type, in words; returns new */

/* ---- one mount for all starts (holders.c) ---------------------------------------------------- */

struct ctr_holder { /* a process that owns the mount of one image */
	pid_t pid;
	int64_t since;   /* seconds since 1970 */
	uint64_t memory; /* resident bytes, the image's server included; 0 = it cannot be told */
	char *image;     /* as the first start named it */
	pid_t *users;
	size_t n_users;
	char *stats; /* JSON; NULL when not asked for or not answered */
};
/* Those of the caller, oldest first; *ret is new. */
void ctr_holders(bool stats, struct ctr_holder **ret, size_t *ret_n);
void ctr_holders_free(struct ctr_holder *l, size_t n);

#endif
