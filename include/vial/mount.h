/* mount: the squashfs server, /dev/fuse and the kernel's mount API. Knows nothing of URIs, keys,
 * plans or users' options; every path it is given is a path inside an image or a plain source.
 *
 * All mounts are made with the descriptor-based API (fsopen, open_tree, move_mount; Linux 5.12):
 * a mount is a descriptor first and gets its place later, so nobody can swap the place meanwhile.
 */
#ifndef VIAL_MOUNT_H
#define VIAL_MOUNT_H

#include <vial/base.h>

/* ---- api.c: mounts as descriptors ----------------------------------------------------------- */

/* A new file system, detached. opts are "key=value" or "key" words, NULL-terminated; attrs are
 * MOUNT_ATTR_*. The kernel's own message is part of err. Returns a descriptor or -errno. */
int vmnt_new(const char *fstype, const char *const *opts, unsigned attrs, struct vl_err *err);
/* A detached copy of the mounts at and below path (relative to dirfd; "" = dirfd itself).
 * follow: a symlink at the end is followed. Descriptor or -errno. */
int vmnt_clone(int dirfd, const char *path, bool recursive, bool follow, struct vl_err *err);
/* Sets MOUNT_ATTR_* flags on a mount, and on all below it when recursive. Flags are only added:
 * those that came from the host are locked in a user namespace. `what` names it in err. */
int vmnt_restrict(int mountfd, unsigned attrs, bool recursive, const char *what, struct vl_err *err);
/* Puts a detached mount on a target (an O_PATH descriptor, any kind, links not followed). */
int vmnt_attach(int mountfd, int targetfd, const char *what, struct vl_err *err);
/* Events still come in from the host, none go out. For the whole tree of this namespace. */
int vmnt_make_slave(struct vl_err *err);
/* The mount at rootfd becomes "/" of this process; the old tree is let go. rootfd and `covers` other
 * mounts lie over the old root directory. 1: the old tree is still beneath, and CAP_SYS_CHROOT would
 * lead back to it. */
int vmnt_switch_root(int rootfd, unsigned covers, struct vl_err *err);
/* The directories over each other, the first at the bottom: read-only, or what is changed goes into upper,
 * with work (of the same mount, empty) for the kernel's own use; -1: none. Detached mount or -errno. All must
 * be attached somewhere in this namespace: a kernel rule. */
int vmnt_overlay(const int *lower, size_t n, int upper, int work, struct vl_err *err);

/* ---- squashfs images ------------------------------------------------------------------------ */

/* A place that must exist for a bind: made up by the server when the image lacks it. Never hides
 * a name of the image. */
struct vmnt_place {
	const char *path; /* absolute, in the image */
	bool dir;         /* a directory, else an empty file */
	bool nofollow;    /* a symlink of the image at the end is the place itself */
};

struct vmnt_extent { /* bytes of the squashfs */
	uint64_t off, len;
};
/* One thing that was read for the first time. */
#define VMNT_READ_INODE UINT32_MAX
struct vmnt_read {
	uint64_t inode; /* its reference in the squashfs */
	uint32_t block; /* of its content, the tail after the others; or VMNT_READ_INODE */
};

/* What the squashfs must be: a hash tree as fs-verity builds it, whose root somebody vouches for (docs/sif.md). */
struct vmnt_tree {
	uint32_t block;   /* bytes under one hash; 0: there is no tree and nothing is checked */
	uint64_t off;     /* where in the file the levels begin, the top one first */
	uint8_t root[32]; /* SHA-256 */
};

#define VMNT_MEMORY (64ull << 20)
#define VMNT_EARLY (2u << 20) /* bytes of a file that is wanted soon: a C library */
#define VMNT_THREADS_MAX 64u
struct vmnt_image {
	int fd;             /* borrowed; read with pread only */
	uint64_t off, size; /* bytes: where the squashfs lies; size 0 = to the end of the file */
	const char *name;   /* for messages */
	uid_t uid;          /* owner shown for files of ids that all_ids does not cover */
	gid_t gid;
	bool all_ids; /* the user namespace maps every id: show the image's own */
	const struct vmnt_place *places;
	size_t n_places;
	unsigned threads; /* of the server, VMNT_THREADS_MAX at most; 0: the CPUs it may use, at most 8 */
	uint64_t memory;  /* bytes that its caches and buffers may fill; 0: VMNT_MEMORY. See vmnt_server_least */
	bool own;         /* no other user may look in */
	bool noexec;      /* no program may be started from it */
	bool host;        /* mounted among the caller's mounts and not in a namespace of its own */
	int report;       /* borrowed, write-only, above 2: takes a line of statistics when the mount ends; 0: none */
	/* where much is wanted soon: reads of the file are large there. Only a hint, whatever it says */
	const struct vmnt_extent *front;
	size_t n_front;
	/* paths of files that are wanted soon, the first of them first: unpacked by a processor that has nothing else to do */
	const char *const *early;
	size_t n_early;
	/* every byte that is read is checked against it before it is used; needs `size`. What is not right is EIO */
	struct vmnt_tree tree;
	int log; /* borrowed, write-only, above 2: takes a line for each block that is not right; 0: none */
	const char *log_mark; /* what each line begins with, as syslog wants it; NULL: nothing */
	bool record;          /* remember what is read, for vmnt_server_profile */
};

/* Bytes of memory that a server of so many threads stays within, whatever the image is like. With less it goes on, and
 * takes more than it was given. */
uint64_t vmnt_server_least(unsigned threads);
/* The FUSE server of one image: an orphan in its own session that holds no descriptor of ours
 * but the image, has no capabilities and sees no file system. It ends when the mount does. */
struct vmnt_server {
	int sock, fuse;
	pid_t starter; /* the child that forks the server and ends */
};
/* Call inside the user namespace and *before* the mount namespace of the container exists: the
 * server must not be a member of that one, or the mount would never lose its last user. */
int vmnt_server_start(const struct vmnt_image *image, struct vmnt_server *ret, struct vl_err *err);
/* Call inside the mount namespace. Waits for the server, mounts, and returns once the mount has
 * answered a first question: detached mount descriptor or -errno. Ends s either way.
 * ret_control: NULL, or gets a socket to the running server, the caller's. The server does not end when
 * it is closed: it ends when the last mount of the image is gone. */
int vmnt_server_mount(struct vmnt_server *s, const struct vmnt_image *image, int *ret_control, struct vl_err *err);
void vmnt_server_abort(struct vmnt_server *s);
/* May this process mount in its mount namespace? */
bool vmnt_may_mount(void);
/* A server without a device: another program mounts, and sends the device over *ret_giver, the caller's, which is
 * to be closed before vmnt_server_wait. control: the server keeps its end of ret->sock, for questions and so that
 * its end is heard. Killed or not, the caller is not needed once the server has the device. */
int vmnt_server_start_given(const struct vmnt_image *image, bool control, int *ret_giver, struct vmnt_server *ret,
			    struct vl_err *err);
/* Waits until it serves; ends s. ret_control: as for vmnt_server_mount. */
int vmnt_server_wait(struct vmnt_server *s, int *ret_control, struct vl_err *err);
#define VMNT_SERVER __attribute__((cleanup(vmnt_server_abort)))
#define VMNT_SERVER_INIT                                                                                               \
	{                                                                                                              \
		.sock = -1, .fuse = -1                                                                                 \
	}

/* ---- fusermount.c: the system's own helper, where the kernel lets only root mount ------------- */

/* Mounts on dir, absolute and without links, through fusermount3. -ENOENT: there is no such program.
 * ret_control: as for vmnt_server_mount. */
int vmnt_fusermount(const struct vmnt_image *image, const char *dir, int *ret_control, struct vl_err *err);
/* -EBUSY; else err has the helper's own words. */
int vmnt_fusermount_end(const char *dir, bool lazy, struct vl_err *err);

/* ---- report.c: one line of JSON about a mount, or about one of its users ---------------------- */

struct vmnt_report {
	const char *image;
	pid_t pid;
	int64_t since, until; /* seconds since 1970 */
	pid_t holder;         /* 0: the mount was nobody else's */
};
/* Appends it in one piece, without waiting for a reader: a line that a full pipe does not take is lost. stats: what
 * vmnt_server_stats returned, NULL = it could not be had. SIGPIPE is the caller's to ignore. */
void vmnt_report_write(int fd, const struct vmnt_report *r, const char *stats);
/* ---- ext.c: overlays in ext3 files ---------------------------------------------------------- */

/* The kernel mounts no ext file system for who is not root of the machine, and takes no FUSE file system for
 * changes. So the files are served by fuse2fs and the whole stack by fuse-overlayfs, programs of the host. */
struct vmnt_layer {
	int fd;           /* a directory, attached in this namespace; or a file with an ext file system */
	bool ext;         /* the latter: its directory "upper" counts, or all of it when it has none */
	uint64_t off;     /* where that begins, in bytes */
	const char *name; /* for messages */
};
struct vmnt_ext { /* the process that will run them */
	int sock;
	pid_t starter;
};
#define VMNT_EXT_INIT                                                                                                  \
	{                                                                                                              \
		.sock = -1                                                                                             \
	}
/* Call inside the user namespace, before the mount namespace of the container (it must not hold the mounts whose
 * end it waits for) and before any pid namespace (or it would be killed with that, and changes be lost).
 * done: a descriptor it has open until all is written back; -1 = none. */
int vmnt_ext_start(int done, struct vmnt_ext *ret, struct vl_err *err);
struct vmnt_ext_how {
	bool writable;   /* the last layer, an ext file, takes the changes */
	mode_t mode;     /* of a new "upper" in that */
	char tidy[4096]; /* a file it removes in the end, if that is as it was; "" = none */
};
/* The layers over each other, the first at the bottom. Call inside the mount namespace. Returns a detached mount or
 * -errno, and ends e either way. What serves it ends with its last user, and has the open files of the layers,
 * with their locks, until then. */
int vmnt_ext_stack(struct vmnt_ext *e, const struct vmnt_layer *layers, size_t n, const struct vmnt_ext_how *how,
		   struct vl_err *err);
void vmnt_ext_abort(struct vmnt_ext *e);

/* Opens /dev/fuse above standard error, or says why it cannot be. */
int vmnt_device_open(struct vl_err *err);

/* ---- sample.c: an image for those who only want to see one mounted ---------------------------- */

int vmnt_sample_image(struct vl_err *err); /* a descriptor, the caller's, or -errno */
/* Is it that, mounted, which rootfd is the root of? */
int vmnt_sample_check(int rootfd, struct vl_err *err);

/* ---- peek.c: files of an image without a mount ----------------------------------------------- */

struct vmnt_peek;
/* Only in a child that does nothing else: from here on this process has no privileges, and a filter of system calls
 * leaves it what is open, and memory. Of image, where its squashfs lies counts, and its tree. */
int vmnt_peek_open(const struct vmnt_image *image, struct vmnt_peek **ret, struct vl_err *err);
void vmnt_peek_free(struct vmnt_peek *p); /* NULL is fine */
/* Paths lead through links as in a container of the image. */
bool vmnt_peek_has(struct vmnt_peek *p, const char *path);
char *vmnt_peek_text(struct vmnt_peek *p, const char *path, size_t max); /* returns new; NULL: no file, or longer */
/* Bytes of a file, at least one before its end; -errno. */
ssize_t vmnt_peek_read(struct vmnt_peek *p, const char *path, uint64_t off, void *buf, size_t n);
int vmnt_peek_list(struct vmnt_peek *p, const char *path, struct vl_strv *ret);
/* All regular files, those of a directory in the order of its list. What cannot be read is not there. */
typedef void vmnt_peek_file(void *arg, const char *path);
void vmnt_peek_walk(struct vmnt_peek *p, vmnt_peek_file *f, void *arg);
uint64_t vmnt_peek_bad(const struct vmnt_peek *p); /* blocks so far that were not what the image's hash tree says */

/* ---- control.c: a server that runs already. Several processes may ask at a time ------------- */

/* Places that must exist for another start's binds: added to the running server, known "not there" answers
 * taken back, before this returns. Never hides a name of the image. Equal places are added once. */
int vmnt_server_add_places(int control, const struct vmnt_place *places, size_t n, struct vl_err *err);
/* What was read since the mount, in the order of the first time; the first 65536. Of a server that records, else
 * nothing. Returns new. */
int vmnt_server_profile(int control, struct vmnt_read **ret, size_t *ret_n, struct vl_err *err);
/* One JSON object of numbers: {"requests":{"lookup":..,"getattr":..,"readlink":..,"read":..,"readdir":..,"statfs":..,
 * "xattr":..,"lseek":..},"bytes":..,"places":..,"metadata":{"hits":..,"misses":..},"data":{the same},"unpacked":{"blocks":..,
 * "nanoseconds":..,"ahead":..},"threads":..,"memory":..,"resident":..,"files":[{"reads":..,"bytes":..,"path":".."}]}: bytes of
 * file data given, blocks unpacked and the time that took, files most read first. Returns new. */
int vmnt_server_stats(int control, char **ret_json, struct vl_err *err);

#endif
