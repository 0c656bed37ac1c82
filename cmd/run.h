/* Shared by the commands that start containers. */
#ifndef CMD_RUN_H
#define CMD_RUN_H

#include "commands.h"

#include <vial/policy.h>
#include <vial/rootless.h>

/* ---- image_arg.c: the word IMAGE ---- */

struct action_image {
	int fd;     /* owned; the one that is checked and the one that is mounted */
	int origin; /* owned: the file that was named, when fd is a copy of it; else 0 */
	enum plan_image kind;
	uint64_t off, size;          /* squashfs: bytes in the file */
	struct vmnt_extent front[8]; /* of it: what a start reads, if the image says so */
	size_t n_front;
	struct vmnt_tree tree;       /* of --verify, or a policy's; block 0: none */
	int verifier;                /* owned: where the result of the check comes, until it is heard; 0 = nowhere */
	pid_t verifier_pid, starter; /* its process, and whose child that is */
	int log;                     /* owned, 0 = none; with log_mark as in struct vmnt_image */
	const char *log_mark;
	struct image_overlay {
		bool ext; /* ext3, else squashfs */
		uint64_t off, size;
	} * overlays; /* partitions of the SIF, the lowest first */
	size_t n_overlays;
	bool any_arch;  /* it is read, not run */
	bool any_key;   /* it may be encrypted, whether we have the key or not */
	bool encrypted; /* and to be decrypted, when it was asked whether it may be used */
	bool decrypted; /* the descriptor is of memory, and no other start has it */
	char *path;     /* absolute */
	char *claims;   /* of hold --claims, see note_claims; NULL = not asked for, none */
	char *config;   /* text of the OCI image configuration, NULL = none or not asked for */
};
#define ACTION_IMAGE_INIT                                                                                              \
	{                                                                                                              \
		.fd = -1                                                                                               \
	}
/* A path to a SIF, a squashfs file or a directory; or a URI, which is fetched; and the policy's leave to start it.
 * with_config: read the OCI configuration too. -ECHILD: another process has told the user what went wrong. */
int cmd_action_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, bool with_config,
		     struct action_image *ret, struct vl_err *err);
/* The same for who only reads it, of whatever architecture, for which no policy is asked. */
int cmd_read_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		   struct vl_err *err);
/* Nor is one for who tells whether it would work here: of this architecture, with its configuration. */
int cmd_judge_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		    struct vl_err *err);
/* As cmd_read_image, and what is encrypted stays so. */
int cmd_look_at_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		      struct vl_err *err);
bool cmd_image_is_uri(const char *word);
void cmd_action_image_free(struct action_image *i);
#define ACTION_IMAGE __attribute__((cleanup(cmd_action_image_free)))

/* ---- fetch_child.c ---- */

int cmd_fetch_by_child(struct cmd_ctx *c, const char *uri, const struct net_opts *o, int *ret_fd, char **ret_path,
		       struct vl_err *err);

/* ---- verify_start.c ---- */

struct cmd_verified {           /* what a signature vouches for, of a SIF */
	uint64_t off, size;     /* the system partition: a squashfs */
	struct vmnt_tree tree;  /* of it */
	char *config;           /* text of the OCI image configuration; NULL = it has none */
	struct vl_strv signers; /* ids of those of the keys that signed it: "SHA256:...", one at least */
};
void cmd_verified_free(struct cmd_verified *v);
/* Starts vial-verify, which has no privileges, over the open image; what: its words (verify.h). Returns where it will
 * answer. It reads some kilobytes, whatever the image's size. */
int cmd_verifier_begin(int fd, const struct vl_strv *what, pid_t *ret_pid, struct vl_err *err);
/* Hears it. What is used must be what is in *ret: the file may change at any time. -ENODATA: not signed, or no tree;
 * -EKEYREJECTED: by others. */
int cmd_verifier_end(int sock, struct cmd_verified *ret, struct vl_err *err);
/* With --verify: begins to check the image, while the start goes on with what the image claims. */
int cmd_action_verify(const struct verify_opts *o, struct action_image *i, struct vl_err *err);
/* Waits for the result: 0, and what the start has gone by is what was verified. Before anything of the image is used.
 * image: a struct action_image; one that is not being verified is fine. */
int cmd_action_verified(void *image, struct vl_err *err);
/* The mount shall be of what was verified. */
int cmd_action_use_verified(struct action_image *i, const struct cmd_verified *v, struct vl_err *err);

/* ---- decrypt_child.c ---- */

bool cmd_can_decrypt(const struct cmd_ctx *c); /* somebody gave a key or a passphrase */
/* *ret_fd: sealed memory with a squashfs, the caller's. -ECHILD: the child has said why. */
int cmd_decrypt_by_child(struct cmd_ctx *c, int image, const char *path, int *ret_fd, uint64_t *ret_size,
			 struct vl_err *err);

/* ---- opts_action.c ---- */

struct isolation_opts {
	bool pid, no_pid, no_init, ipc, uts, net, oom_kill_disable;
	const char *hostname, *network;
	struct vl_strv network_args, dns, blkio_weight_device;
	const char *memory, *memory_reservation, *memory_swap, *cpus, *cpu_shares, *cpuset_cpus, *cpuset_mems;
	const char *pids_limit, *blkio_weight, *apply_cgroups;
};

struct gpu_opts {
	bool nv, no_nv, nvccli, rocm, no_rocm, intel, intel_hpu, compat32;
};

struct mpi_opts {
	const char *what; /* host, libfabric, none; NULL as none */
	struct vl_strv libs, bind, env;
};

struct action_opts {
	struct vl_strv bind, mount, no_mount, scratch, env, env_file, no_env;
	const char *home, *cwd, *shell, *workdir, *clean, *app, *stats;
	bool no_home, contain, containall, compat, oci_defaults, cleanenv, writable, writable_tmpfs, private_mount,
		no_eval, no_umask;
	bool underlay, unsquash; /* noted, and nothing else */
	const char *pem_path;    /* of an encrypted image */
	bool passphrase;
	struct vl_strv security, add_caps, drop_caps;
	bool fakeroot, ignore_subuid, keep_privs, no_privs, allow_setuid;
	struct vl_strv overlay, device, cdi_dirs;
	const char *tmpfs_size;
	bool check;                      /* hold: of the image only */
	bool forget;                     /* hold: only remove what the job's containers with names have left */
	bool entrypoint, entrypoint_log; /* hold */
	const char *named, *job_dir, *job, *save, *record; /* hold: see hold_named.c, hold_save.c, hold_record.c */
	const char *stage;                                 /* hold: see hold_stage.c */
	struct vl_strv asked;                              /* hold: see hold_agree.c */
	unsigned overlay_patience;                         /* hold: ms, see struct plan_overlay */
	bool stage_always, claims;
	const char *fanout; /* hold: see hold_fanout.c */
	bool explain, json; /* tell it and start nothing */
	bool ignored;
	const char *restart, *pid_file; /* instance start, instance run */
	uint64_t fd;                    /* hold: the socket; 0 = none, which standard input never is */
	struct isolation_opts iso;
	uint64_t fanout_wait; /* hold: seconds */
	uint64_t wanted;      /* hold: a socket open as long as somebody waits for the container; 0 = none */
	struct server_opts server;
	struct gpu_opts gpu;
	struct mpi_opts mpi;
	struct net_opts net; /* for IMAGE being a URI */
	struct verify_opts verify;
};

/* cmd_optimize.c */
struct cmd_optimize_opts {
	const char *output, *hot_size;
	bool force;
	struct action_opts action;
};
/* Watches the command and writes the image anew; the exit status. */
int cmd_optimize_image(struct cmd_ctx *c, struct cmd_optimize_opts *o, const char *path, int argc, char **argv);

/* ---- image_path.c: IMAGE[:PATH], for ls, cat, cp and diff ---- */

struct image_path {
	struct action_image image;
	char *path; /* owned; "" = the root */
	char *word; /* owned: IMAGE as it was typed, printable */
};
/* The words of it, before anything is opened: PATH begins with '/'. false: there is no PATH. *ret_image and *ret_path
 * are new. */
bool cmd_image_path_split(const char *word, char **ret_image, char **ret_path);
struct img_root;
/* Opens the image. *ret_root borrows from *ret. */
int cmd_image_path_open(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct image_path *ret,
			struct img_root *ret_root, struct vl_err *err);
void cmd_image_path_free(struct image_path *p);
#define IMAGE_PATH __attribute__((cleanup(cmd_image_path_free)))
/* The end of a command that read an image: says what went wrong. Returns the exit status. */
int cmd_view_failed(struct cmd_ctx *c, int r, int signal, const struct vl_err *err);
/* Names and texts out of an image on standard output: a terminal gets them quoted, anything else as they are. */
enum name_style { NAME_RAW, NAME_SHELL, NAME_ESCAPED };
char *cmd_image_name(const char *s, enum name_style style) VL_NEW;

/* A part of an image file, for a bind: of a SIF the object `id`, or with 0 its data or system partition. The fd is
 * *ret's. */
int cmd_image_part(const char *path, uint32_t id, struct action_image *ret, struct vl_err *err);
/* What the file is by its first bytes: a directory, a squashfs, an ext3 or anything else, which may be a SIF. */
int cmd_image_kind(int fd, const char *path, enum pol_kind *ret, struct vl_err *err);

/* ---- plan_identity.c: after ctr_plan_ask_user ---- */

int cmd_plan_identity(struct cmd_ctx *c, const struct action_opts *o, struct plan *p, struct vl_err *err);

/* ---- plan_args.c: values to a plan ---- */

struct making {
	struct cmd_ctx *c;
	struct action_opts *o;
	const struct action_image *image;
	const struct vl_progress *say;
	struct plan *p;
	struct vl_err *err;
};
/* what the options say of the program's manners, and whose app it is */
void cmd_plan_manners(const struct making *m);
int cmd_plan_app(const struct making *m);
/* plan_files.c: what is mounted, and where the program starts. workdir: the image's own, NULL = none or not wanted */
int cmd_plan_files(const struct making *m, const char *workdir);
const char *cmd_logical_cwd(void); /* PWD, when it is true; NULL */
/* plan_env.c: after the files, which are among the facts a container is told */
int cmd_plan_env(const struct making *m);

int cmd_make_plan(struct cmd_ctx *c, struct action_opts *o, const struct action_image *image, enum plan_action action,
		  int argc, char **argv, const struct vl_progress *say, struct plan *p, struct vl_err *err);
/* Of a plan, what is to be done in a container that is there; its record says how it was started. */
int cmd_make_inside_plan(struct cmd_ctx *c, struct action_opts *o, const struct ctr_instance *i,
			 enum plan_action action, int argc, char **argv, const struct vl_progress *say, struct plan *p,
			 struct vl_err *err);
/* What of the options holds for all programs of an instance, as words for its record. */
void cmd_identity_words(const struct action_opts *o, struct vl_strv *ret);
/* The variables that tell a program its instance. */
void cmd_add_instance(struct plan *p, const char *name);

/* ---- cmd_run.c ---- */

struct vl_progress cmd_action_say(struct cmd_ctx *c);
/* Options of the table that this command has no use for: a usage error, and != 0. instance: instance start or run. */
int cmd_action_check(struct cmd_ctx *c, const struct action_opts *o, enum plan_action action, bool instance);
/* Says what ctr_run failed with; the exit status. */
int cmd_action_failed(const struct cmd_ctx *c, enum plan_action action, int r, int status, const struct vl_err *err);

/* ---- hold_named.c: a container that later steps of a job find again ---- */

struct named {
	char *name, *image;   /* what it is made of, as cmd_action_image takes it */
	int dir, door, other; /* door: where others of the same name ask */
	bool made;            /* by this process */
};
bool cmd_named_is_word(const char *word);
/* A folder in the folder `parent`, which `where` names: made if it is not there, and nobody else's. */
int cmd_own_folder(int parent, const char *name, const char *where, struct vl_err *err); /* fd or -errno */
/* 0: the container is to be made, with o as it is now, of n->image; 1: it was there, was passed on, and is over. word: the
 * image, "-" = that of the container. On failure too, cmd_named_leave is for the caller. */
int cmd_named_enter(struct action_opts *o, const char *word, struct named *n, struct vl_err *err);
void cmd_named_leave(struct named *n, bool failed);
/* All containers of the job on this node: its steps are over. */
int cmd_named_forget(const struct action_opts *o, struct vl_err *err);
/* Notes something in the container's directory. */
int cmd_named_note(int dir, const char *name, const char *text, struct vl_err *err);

/* ---- hold_agree.c ---- */

/* Is the open image the one that the container was made of before? Notes it, if it was made of none yet. -ESTALE */
int cmd_named_same_image(const struct named *n, const struct action_image *i, struct vl_err *err);
/* The image could not be opened: r, or what that means here. */
int cmd_named_no_image(const struct named *n, int r, struct vl_err *err);
/* For who enters a container that runs, by the file's name alone. -ESTALE, -ENOENT */
int cmd_named_same_file(const struct named *n, struct vl_err *err);
/* The words of --asked, for those who will enter; returns new. */
char *cmd_named_asked(const struct action_opts *o);
/* Is what this one asks for what the container has, whose changes these are? -EBUSY */
int cmd_named_same_options(const struct named *n, const struct action_opts *o, const struct vl_strv *changes,
			   struct vl_err *err);

/* ---- hold_stage.c ---- */

/* *image, the open file of that path, gives way to a copy of it on this node, where c->stage says, which is made if there is
 * none yet. Returns 1; 0 or an error: it stays what it is. */
int cmd_stage_image(const struct cmd_ctx *c, const char *path, int *image, struct vl_err *err);

/* ---- hold_fanout.c ---- */

struct cmd_fanout {
	const char *program, *path; /* borrowed: sbcast; the directory where files come in */
	int dir;                    /* that; borrowed */
	uint64_t seconds;           /* that it may take */
	unsigned node;              /* of the step; 0 is the one that sends */
	char *step, *name;          /* owned: JOB.STEP; of the file that comes */
	int stop;                   /* sending stops when it can be read; -1 = none */
	int64_t begun, alive;       /* ms */
	off_t seen;                 /* of the file; -1 = none */
	bool asked;
};
struct stat;
/* For the step that this process is of: program, path, dir, seconds and stop are set. Free it in any case. 1; 0: it has no other
 * nodes. */
int cmd_fanout_open(struct cmd_fanout *f, const char *image, const struct stat *st, struct vl_err *err);
void cmd_fanout_free(struct cmd_fanout *f);
/* The first node: that it will send the copy or refuse, then that. What fails is refused, too. */
int cmd_fanout_announce(const struct cmd_fanout *f, struct vl_err *err);
int cmd_fanout_send(const struct cmd_fanout *f, int copy, struct vl_err *err);
void cmd_fanout_refuse(const struct cmd_fanout *f, const char *why);
/* The others, again and again: the file that has come, open and whole, to be renamed; -EAGAIN: not yet; else it will not. */
int cmd_fanout_arrived(struct cmd_fanout *f, off_t size, struct vl_err *err);
/* Starts a process that sends the copy to who asks for it, unless that is -1, and removes what comes unasked for, until the
 * caller ends. */
void cmd_fanout_attend(struct cmd_fanout *f, int copy);

/* ---- hold_save.c ---- */

/* Asks the keeper at the socket and writes what its container has as an image. The exit status. */
int cmd_hold_save(struct cmd_ctx *c, const struct action_opts *o);

/* ---- hold_record.c ---- */

/* Appends what standard input says to the file. The exit status. */
int cmd_hold_record(struct cmd_ctx *c, const struct action_opts *o);

/* ---- inside.c ---- */

/* Becomes the program in the instance of that name. */
int cmd_start_inside(struct cmd_ctx *c, struct action_opts *o, enum plan_action action, const char *name, int argc,
		     char **argv);

/* ---- explain.c ---- */

/* Prints what the plan would come to. Errors are those of the start. */
int cmd_explain(const struct making *m);

/* ---- plan_isolation.c: namespaces, network, limits ---- */

/* After the default mounts are in the plan: some of them give way to the container's own. */
int cmd_plan_isolation(const struct isolation_opts *o, const struct vl_progress *say, struct plan *p,
		       struct vl_err *err);

/* ---- plan_gpu.c ---- */

/* After the files: what of /dev is there already counts. Before the user's variables, which beat those of devices. Nothing
 * found is a warning. */
int cmd_plan_gpu(const struct making *m);
/* A variable of the image's OCI configuration; returns new or NULL. */
char *cmd_image_variable(const struct action_image *image, const char *name);
/* Libraries of the host are put into a directory of the container: in a sandbox, one in memory. */
void cmd_plan_libs_dir(struct plan *p);
struct gpu_host;
/* The machine: "/", or what a test says it is. */
int cmd_gpu_host(struct gpu_host *ret, struct vl_err *err);

/* ---- plan_mpi.c ---- */

/* --mpi. As cmd_plan_gpu, and after it. Libraries that do not fit are an error; an image without an MPI is a warning. */
int cmd_plan_mpi(const struct making *m);

/* ---- plan_limits.c ---- */

int cmd_plan_limits(const struct isolation_opts *o, const struct vl_progress *say, struct plan_limits *l,
		    struct vl_err *err);
/* The text of an --apply-cgroups file; name is for messages. For the tests too. */
int cmd_limits_from_toml(const char *text, size_t len, const char *name, struct plan_limits *l, struct vl_err *err);

/* ---- plan_cdi.c ---- */

/* --device. After what the user binds, before the variables. */
int cmd_plan_cdi(const struct making *m);

/* ---- plan_overlay.c ---- */

/* --overlay, --writable of a file, --tmpfs-size and the overlays in the image; takes their locks. After argv. */
int cmd_plan_overlays(const struct action_opts *o, const struct action_image *image, const struct vl_progress *say,
		      struct plan *p, struct vl_err *err);

#endif
