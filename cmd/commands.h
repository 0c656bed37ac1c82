/* The functions and option tables behind the rows of table.c, by file. */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

#include "cmd.h"

cmd_fn cmd_completion_run; /* cmd_completion.c */
cmd_fn cmd_version_run;    /* cmd_version.c */

/* cmd_sif.c */
struct sif_image;
/* Opens and loads an image file; *ret_fd is the caller's. Errors name the path. */
int cmd_image_open(const char *path, int flags, int *ret_fd, struct sif_image *ret, struct vl_err *err);
/* "%-8s"-like columns of an object, as `sif list` and `verify` show them */
void cmd_print_group(uint32_t group);
void cmd_print_link(uint32_t link);
/* The data of an object, to standard output as it is. */
struct sif_descr;
int cmd_sif_print(int fd, const struct sif_descr *d, struct vl_err *err);
int64_t cmd_now(void); /* SOURCE_DATE_EPOCH, or the clock */
struct cmd_sif_show_opts {
	bool json;
};
struct cmd_sif_new_opts {
	uint64_t slots;
	bool force;
};
struct cmd_sif_add_opts {
	uint64_t datatype, parttype, partfs, partarch, signhash, groupid, link, alignment;
	const char *signentity, *sbomformat, *filename;
};
extern const struct opt cmd_sif_show_opts[], cmd_sif_new_opts[], cmd_sif_add_opts[];
cmd_fn cmd_sif_header_run, cmd_sif_list_run, cmd_sif_info_run, cmd_sif_dump_run, cmd_sif_new_run, cmd_sif_add_run,
	cmd_sif_del_run, cmd_sif_setprim_run;

/* cmd_inspect.c */
struct cmd_inspect_opts {
	bool labels, deffile, runscript, startscript, test, environment, helpfile, list_apps, all, digests, origin,
		provenance, sbom, json;
	const char *app;
};
extern const struct opt cmd_inspect_opts[];
cmd_fn cmd_inspect_run;
/* inspect_origin.c: who, from what, when; signatures are checked with the keyring's keys. Returns new. */
vl_json *cmd_inspect_origin(struct cmd_ctx *c, const struct sif_image *img) VL_NEW;
void cmd_inspect_print_origin(const vl_json *origin);

/* dirs.c: $XDG_CONFIG_HOME/vial/SUB or ~/.config/vial/SUB, NULL without either; and the site's. Return new. */
char *cmd_user_dir(const char *sub);
char *cmd_site_dir(const char *sub) VL_NEW;

/* keyring.c */
struct sif_keyring;
char *cmd_keyring_dir(void);                                       /* the user's; new or NULL */
int cmd_keyring_open(struct sif_keyring *ret, struct vl_err *err); /* the user's and the site's */
/* What --passphrase-file (NULL = not given) or the environment says. *ret: new, or NULL when neither does. */
int cmd_passphrase_given(const char *file, char **ret, struct vl_err *err);
/* The same or, failing that, what the terminal says: for a struct sif_ask. */
int cmd_passphrase(void *file, const char *what, char **ret, struct vl_err *err);

/* cmd_key.c, cmd_key_edit.c */
struct cmd_newpair_opts {
	const char *type, *name, *passphrase_file, *ignored;
	uint64_t bits;
	bool force, no_passphrase;
};
struct cmd_key_opts {
	const char *name, *passphrase_file;
	bool secret, public, both, json, force, trust, ignored;
};
extern const struct opt cmd_newpair_opts[], cmd_key_list_opts[], cmd_key_show_opts[], cmd_key_import_opts[],
	cmd_key_export_opts[], cmd_key_remove_opts[];
cmd_fn cmd_key_newpair_run, cmd_key_show_run, cmd_key_list_run, cmd_key_import_run, cmd_key_export_run,
	cmd_key_remove_run, cmd_key_trust_run, cmd_key_server_run;
int cmd_keyring_writable(char **ret, struct vl_err *err); /* the user's directory, new; it need not exist yet */

/* cmd_decrypt.c */
struct cmd_decrypt_opts {
	const char *pem;
	bool passphrase, force;
	uint64_t fd, image_fd; /* for decrypt_child.c: where the memory goes, and the image; 0 = not */
};
extern const struct opt cmd_decrypt_options[];
cmd_fn cmd_decrypt_run;

/* cmd_seccomp.c */
struct cmd_seccomp_opts {
	struct vl_strv caps;
	const char *fd;
};
extern const struct opt cmd_seccomp_opts[];
cmd_fn cmd_seccomp_run;

/* cmd_sign.c */
struct cmd_sign_opts {
	const char *key, *keyidx, *passphrase_file;
	uint64_t group, object;
	bool all, no_tree;
	const char *tree_block;
};
extern const struct opt cmd_sign_opts[];
cmd_fn cmd_sign_run;
/* sign_tree.c: before the image in fd is signed */
int cmd_sign_tree(struct cmd_ctx *c, const struct cmd_sign_opts *o, int fd, const char *path,
		  const struct vl_progress *progress, struct vl_err *err);

/* cmd_verify.c */
struct cmd_verify_opts {
	struct vl_strv keys;
	const char *certificate, *intermediates, *roots, *url;
	uint64_t group, object;
	bool all, json, report, local, legacy, ocsp;
};
extern const struct opt cmd_verify_opts[];
cmd_fn cmd_verify_run;

/* verify_keys.c: whose signatures can be told */
struct sif_keyring;
struct sif_report;
struct sif_signature;
struct sif_signer;
struct cmd_known {
	struct sif_key **v;
	size_t n;
	struct sif_pgp_keys *pgp;
	struct vl_strv foreign;   /* paths of other tools' keyrings among these */
	struct sif_keyring *ring; /* NULL: the keys were named on the command line */
	struct vl_strv named;     /* paths of named PEM keys, and what each holds */
	struct vl_strv texts;
	char *certificate, *intermediates, *roots; /* what those files hold, or NULL */
};
/* Opens and reads all files, as the caller; afterwards none is needed any more. o must stay. */
int cmd_known_read(struct cmd_ctx *c, const struct cmd_verify_opts *o, struct cmd_known *ret, struct vl_err *err);
/* Makes keys of what was read. This may ask the network about certificates: better done without privileges. */
int cmd_known_parse(struct cmd_ctx *c, const struct cmd_verify_opts *o, struct cmd_known *k, struct vl_err *err);
void cmd_known_free(struct cmd_known *k);
/* verify_trust.c */
/* Why its signatures are trusted, "which is trusted"; NULL: they are not */
const char *cmd_known_trust(const struct cmd_known *k, const struct sif_signer *who);
/* The first valid signature over something that nobody trusted has signed; NULL: there is none. */
const struct sif_signature *cmd_known_untrusted(const struct cmd_known *k, const struct sif_report *rep);

/* verify_print.c */
/* Each signature with its signer and what it covers */
void cmd_verify_print(const struct sif_image *img, const struct sif_report *rep, const struct cmd_known *known);
/* The same for programs: as other tools print it, and all of it. err NULL: it is verified. */
void cmd_verify_print_json(const struct sif_image *img, const struct sif_report *rep);
/* "verdict", "why" and "signers" of a signature */
struct sif_signature;
void cmd_verify_describe(const struct sif_signature *s, const struct cmd_known *known, vl_json *to);
void cmd_verify_print_report(const struct sif_report *rep, const struct cmd_known *known, const struct vl_err *err);

/* tables are read as tables: */
/* clang-format off */
/* opts_convert.c: how an image is made */
struct img_build_opts;
struct convert_opts {
	const char *arch, *compress, *block_size, *max_size, *owner;
	uint64_t threads;
	struct vl_strv mksquashfs;
	bool ignored;
	char of_platform[32]; /* behind arch when it was given as linux/ARCH */
};
#define CMD_CONVERT_OPTS(type, m) \
	{ 0, "arch", OPT_STR, offsetof(type, m.arch), "ARCH", \
	  "take the image for this architecture (amd64, arm64, ...)", "ARCH PULL_ARCH", 0 }, \
	{ 0, "platform", OPT_STR, offsetof(type, m.arch), "OS/ARCH", "the same, as linux/ARCH", "PLATFORM", 0 }, \
	{ 0, "compress", OPT_STR, offsetof(type, m.compress), "CODEC[:LEVEL]", \
	  "zstd (default, level 3), gzip, xz, lz4, none, and lzo where the library has it", "COMPRESS", 0 }, \
	{ 0, "block-size", OPT_STR, offsetof(type, m.block_size), "SIZE", "squashfs block, 4K to 1M (default 128K)", \
	  "BLOCK_SIZE", 0 }, \
	{ 0, "threads", OPT_U64, offsetof(type, m.threads), "N", \
	  "compressing threads (default: the CPUs this process may use)", "THREADS", 0 }, \
	{ 0, "max-size", OPT_STR, offsetof(type, m.max_size), "SIZE", \
	  "what one layer may unpack to (default 256G)", "MAX_SIZE", 0 }, \
	{ 0, "owner", OPT_STR, offsetof(type, m.owner), "keep|root", \
	  "owners as in the source, or all root (default: keep; root for a directory read without privileges)", \
	  "OWNER", 0 }, \
	{ 0, "mksquashfs-args", OPT_LINES, offsetof(type, m.mksquashfs), "ARGS", \
	  "words of mksquashfs: -comp, -Xcompression-level, -b, -processors, -all-root", "MKSQUASHFS_ARGS", \
	  OPT_ENV_FIRST }, \
	{ 0, "reproducible", OPT_FLAG, offsetof(type, m.ignored), NULL, \
	  "accepted: the same source always gives the same bytes, but for --encrypt", "REPRODUCIBLE", 0 }, \
	/* words of other runtimes that change nothing here */ \
	{ 0, "no-cleanup", OPT_FLAG, offsetof(type, m.ignored), NULL, "", NULL, OPT_HIDDEN }, \
	{ 0, "fix-perms", OPT_FLAG, offsetof(type, m.ignored), NULL, "", NULL, OPT_HIDDEN }, \
	{ 'u', "userns", OPT_FLAG, offsetof(type, m.ignored), NULL, "", NULL, OPT_HIDDEN }, \
	{ 0, "ignore-subuid", OPT_FLAG, offsetof(type, m.ignored), NULL, "", NULL, OPT_HIDDEN }

/* net_opts.c: how registries are reached */
struct net_opts {
	const char *authfile, *username, *password, *tmpdir;
	bool no_https, docker_login, disable_cache;
};
#define CMD_REGISTRY_OPTS(type, m) \
	{ 0, "authfile", OPT_STR, offsetof(type, m.authfile), "FILE", \
	  "credentials of registries (default: the files of podman and docker)", "AUTH_FILE", OPT_ANYHOW }, \
	{ 0, "docker-login", OPT_FLAG, offsetof(type, m.docker_login), NULL, \
	  "ask for user name and password", "DOCKER_LOGIN", 0 }, \
	{ 0, "no-https", OPT_FLAG, offsetof(type, m.no_https), NULL, \
	  "plain HTTP to the registry", "NO_HTTPS NOHTTPS", OPT_ANYHOW }, \
	{ 0, "nohttps", OPT_FLAG, offsetof(type, m.no_https), NULL, "", NULL, OPT_HIDDEN }, \
	{ 0, "tmpdir", OPT_STR, offsetof(type, m.tmpdir), "DIR", \
	  "where files without a name are kept (default $TMPDIR, else /var/tmp)", "TMPDIR", OPT_ANYHOW }, \
	{ 0, "docker-username", OPT_STR, offsetof(type, m.username), "NAME", "", "DOCKER_USERNAME", \
	  OPT_HIDDEN | OPT_ANYHOW }, \
	{ 0, "docker-password", OPT_STR, offsetof(type, m.password), "WORD", "", "DOCKER_PASSWORD", \
	  OPT_HIDDEN | OPT_SECRET | OPT_ANYHOW }
/* the same for who takes images, which the cache may have */
#define CMD_NET_OPTS(type, m) \
	CMD_REGISTRY_OPTS(type, m), \
	{ 0, "disable-cache", OPT_FLAG, offsetof(type, m.disable_cache), NULL, \
	  "neither look into the image cache nor keep anything there", "DISABLE_CACHE", OPT_ANYHOW }

/* verify_start.c: what may be used of an image */
struct verify_opts {
	bool on;
	struct vl_strv keys; /* files; none: the signers that the keyrings trust */
	const char *log;
};
#define CMD_VERIFY_OPTS(type, m) \
	{ 0, "verify", OPT_FLAG, offsetof(type, m.on), NULL, \
	  "use nothing of the image that no trusted signer has signed", "VERIFY", OPT_ANYHOW }, \
	{ 0, "verify-key", OPT_LINES, offsetof(type, m.keys), "KEY.pub", \
	  "with --verify: the public key of who may sign, instead of the keyring's; may be repeated", "VERIFY_KEY", \
	  OPT_ONE_PLACE | OPT_ANYHOW }, \
	{ 0, "verify-log", OPT_STR, offsetof(type, m.log), "FILE", \
	  "with --verify: where blocks are told of that were changed (default: the system log)", "VERIFY_LOG", OPT_ANYHOW }

/* source_key.c: what was signed at the source */
struct cosign_opts {
	bool copy;
	struct vl_strv keys;
};
#define CMD_COSIGN_OPTS(type, m) \
	{ 0, "source-key", OPT_LINES, offsetof(type, m.keys), "KEY.pub", \
	  "refuse an image of a registry that has no cosign signature by this public key; may be repeated", NULL, 0 }, \
	{ 0, "with-cosign", OPT_FLAG, offsetof(type, m.copy), NULL, \
	  "keep the source's cosign signatures and attestations in the image", NULL, 0 }
/* clang-format on */
struct img_cosign;
struct oci_net;
/* Nothing, unless the options ask for it: then what the registry has, and b->source is by the digest it is about. Says
 * what was found. *ret_signal: with -EINTR. */
int cmd_cosign_fetch(struct cmd_ctx *c, const struct cosign_opts *o, const struct oci_net *net,
		     struct img_build_opts *b, struct img_cosign *ret, int *ret_signal, struct vl_err *err);

/* Checks and translates; b->source is `source`. codec must live as long as *b. Errors are wrong usage. */
int cmd_convert_opts_read(struct convert_opts *o, const char *source, struct img_build_opts *b, struct vl_buf *codec,
			  struct vl_err *err);

struct oci_net;
struct cmd_net; /* settings of the network, and the strings behind them */
/* Options, settings, and with --docker-login the user's answers. Returns new. */
int cmd_net_new(struct cmd_ctx *c, const struct net_opts *o, struct cmd_net **ret, struct vl_err *err);
const struct oci_net *cmd_net_get(const struct cmd_net *n);
void cmd_net_free(struct cmd_net *n); /* NULL is fine */

/* store_opts.c: settings that no command line has; store_open.c */
struct store_settings {
	const char *given_dir, *limit;
	struct vl_strv site;
	bool layers;
	uint64_t downloads, retries;
	char *dir; /* owned: what is used */
	uint64_t limit_bytes;
};
extern const struct opt cmd_store_settings[];
int cmd_store_settings_get(struct cmd_ctx *c, struct store_settings *ret, struct vl_err *err);
void cmd_store_settings_free(struct store_settings *s);
struct img_store;
int cmd_store_open(struct cmd_ctx *c, struct img_store **ret, struct vl_err *err);

/* make_image.c */
struct img_fetched;
struct cmd_making {
	struct img_build_opts *opts; /* source included */
	const struct net_opts *net;
	const char *out;  /* a new file */
	bool force;       /* replace it */
	bool remote_only; /* only images from the network go through the store */
	const struct cosign_opts *cosign;
};
/* To a file; prints the result. Returns the exit status. */
int cmd_make_image(struct cmd_ctx *c, const struct cmd_making *m, bool json);
/* To an open image, through the store. */
int cmd_fetch_image(struct cmd_ctx *c, const struct cmd_making *m, struct img_fetched *ret, struct vl_err *err);
/* Says what went wrong; the exit status for it. */
int cmd_make_failed(struct cmd_ctx *c, int r, const struct img_fetched *f, const struct vl_err *err);

/* cmd_ls.c, cmd_cat.c, cmd_cp.c, cmd_diff.c */
struct cmd_ls_opts {
	bool all, directory, escape, json, lines, recursive, zero;
	struct net_opts net;
};
struct cmd_cat_opts {
	struct net_opts net;
};
struct cmd_mpi_opts {
	const char *mpi;
	bool json;
	struct net_opts net;
};
struct cmd_cp_opts {
	bool force, preserve, recursive;
	struct net_opts net;
};
struct cmd_diff_opts {
	bool json, stat, no_owner;
	struct net_opts net;
};
extern const struct opt cmd_ls_options[], cmd_cat_options[], cmd_cp_options[], cmd_diff_options[], cmd_mpi_options[];
cmd_fn cmd_ls_run, cmd_cat_run, cmd_cp_run, cmd_diff_run, cmd_mpi_check_run;

/* cmd_build.c */
struct build_opts {
	bool force, json, ignored, sandbox, encrypt, passphrase;
	const char *profile; /* command of a start */
	const char *pem;     /* public key of an encrypted image */
	const char *made_of; /* see struct img_build_opts */
	struct convert_opts convert;
	struct cosign_opts cosign;
	struct net_opts net;
};
extern const struct opt cmd_build_options[];
cmd_fn cmd_build_run;
int cmd_build_sandbox(struct cmd_ctx *c, const struct build_opts *o, const char *out, const char *source);
/* build_encrypt.c */
struct cmd_secret {
	struct vl_buf secret, message; /* message: the secret wrapped for a key; no data = it is a passphrase */
};
bool cmd_build_encrypts(const struct build_opts *o);
int cmd_build_secret(const struct build_opts *o, struct cmd_secret *ret, struct vl_err *err);
void cmd_secret_free(struct cmd_secret *s);
void cmd_guard_secrets(void); /* no core dump of this process, and no other of this user looks into it */

/* cmd_sbom.c */
struct cmd_sbom_opts {
	const char *format;
	bool force, attach;
	struct net_opts net;
};
extern const struct opt cmd_sbom_attach_opts[], cmd_sbom_create_opts[], cmd_sbom_show_opts[];
cmd_fn cmd_sbom_attach_run, cmd_sbom_create_run, cmd_sbom_show_run;

/* cmd_cache.c */
struct cmd_cache_opts {
	bool verbose, json, force, dry;
	uint64_t days;
	const char *limit;
	struct vl_strv types;
};
extern const struct opt cmd_cache_list_opts[], cmd_cache_clean_opts[], cmd_cache_prune_opts[];
cmd_fn cmd_cache_list_run, cmd_cache_clean_run, cmd_cache_prune_run;

/* cmd_pull.c */
struct pull_opts {
	bool force, json, ignored;
	const char *dir, *name, *library /* ignored */;
	struct convert_opts convert;
	struct cosign_opts cosign;
	struct net_opts net;
};
struct fetch_opts {
	const char *fd;
	struct convert_opts convert;
	struct net_opts net;
};
extern const struct opt cmd_pull_opts[], cmd_fetch_opts[];
cmd_fn cmd_pull_run, cmd_fetch_run;

/* cmd_config.c */
struct cmd_config_opts {
	bool show, keys, json;
};
extern const struct opt cmd_config_opts[];
cmd_fn cmd_config_run;

/* cmd_push.c */
struct cmd_push_opts {
	bool allow_unsigned, no_referrers, json;
	uint64_t threads;
	struct net_opts net;
};
extern const struct opt cmd_push_options[];
cmd_fn cmd_push_run;
/* cmd_registry.c */
struct cmd_registry_opts {
	const char *username, *password, *authfile;
	bool password_stdin, no_https, json;
};
extern const struct opt cmd_login_opts[], cmd_logout_opts[], cmd_registry_list_opts[];
cmd_fn cmd_login_run, cmd_logout_run, cmd_registry_list_run;

/* stats_file.c: where --stats FILE goes, "-" = standard error. *ret: a descriptor above 2, or 0 without a word */
#define CMD_STATS_OPT(type, m)                                                                                         \
	{                                                                                                              \
		0, "stats", OPT_STR, offsetof(type, m), "FILE",                                                        \
			"when it is over, add a line of JSON about the image's server to FILE; -: standard error",     \
			"STATS", 0                                                                                     \
	}
int cmd_stats_open(const char *word, int *ret, struct vl_err *err);

/* server_opts.c: what an image's server may take */
struct server_opts {
	const char *memory;
	uint64_t threads;
};
/* clang-format off */
#define CMD_SERVER_OPTS(type, m) \
	{ 0, "mount-memory", OPT_STR, offsetof(type, m.memory), "SIZE", \
	  "what caches and buffers of the image's server may fill (default 64M)", "MOUNT_MEMORY", OPT_ANYHOW }, \
	{ 0, "mount-threads", OPT_U64, offsetof(type, m.threads), "N", \
	  "threads of the image's server (default: the CPUs it may use, at most 8)", "MOUNT_THREADS", OPT_ANYHOW }
/* clang-format on */
/* *ret_*: 0 without a word. -EINVAL: too little, or more than there is. */
int cmd_server_opts_read(const struct server_opts *o, uint64_t *ret_memory, unsigned *ret_threads, struct vl_err *err);

/* cmd_mount.c, cmd_umount.c */
struct cmd_mount_opts {
	struct vl_strv words;
	bool foreground, json;
	const char *stats;
	struct server_opts server;
	struct verify_opts verify;
	struct net_opts net;
};
struct cmd_umount_opts {
	bool lazy, all;
};
extern const struct opt cmd_mount_options[], cmd_umount_opts[];
cmd_fn cmd_mount_run, cmd_umount_run;
/* cmd_overlay.c */
struct cmd_overlay_opts {
	uint64_t size; /* MiB; 0 = not given */
	bool sparse, fakeroot;
	struct vl_strv dirs;
};
extern const struct opt cmd_overlay_create_opts[];
cmd_fn cmd_overlay_create_run;

/* cmd_gpu_cdi.c */
struct cmd_gpu_cdi_opts {
	const char *format, *output, *vendor;
};
extern const struct opt cmd_gpu_cdi_opts[];
cmd_fn cmd_gpu_cdi_run;

/* cmd_gpu.c, cmd_gpu_check.c */
struct cmd_gpu_opts {
	bool json, files;
};
extern const struct opt cmd_gpu_list_opts[], cmd_gpu_check_opts[];
cmd_fn cmd_gpu_list_run, cmd_gpu_check_run;

/* cmd_doctor.c */
struct cmd_doctor_opts {
	bool json;
	const char *registry;
};
extern const struct opt cmd_doctor_opts[];
cmd_fn cmd_doctor_run;

/* cmd_policy.c */
struct cmd_policy_opts {
	bool json;
	const char *use;
	struct net_opts net;
};
struct cmd_policy_facts_opts {
	struct vl_strv roots;
};
extern const struct opt cmd_policy_check_opts[], cmd_policy_show_opts[], cmd_policy_facts_opts[];
cmd_fn cmd_policy_check_run, cmd_policy_show_run, cmd_policy_facts_run;

/* cmd_holders.c */
struct cmd_holders_opts {
	bool json, stats;
};
extern const struct opt cmd_holders_opts[];
cmd_fn cmd_holders_run;

/* cmd_record.c */
struct cmd_record_opts {
	const char *dir, *site_dir;
	bool json;
};
extern const struct opt cmd_record_opts[];
cmd_fn cmd_record_show_run;

extern const struct opt cmd_optimize_options[];
cmd_fn cmd_optimize_run; /* cmd_optimize.c; its options are in run.h */

/* cmd_instance.c, cmd_instance_list.c */
struct cmd_instance_opts {
	bool json, logs, all, force, follow, no_stream;
	const char *user, *signal;
	uint64_t timeout;
};
extern const struct opt cmd_instance_list_opts[], cmd_instance_stop_opts[], cmd_instance_stats_opts[],
	cmd_instance_logs_opts[];
cmd_fn cmd_instance_start_run, cmd_instance_run_run, cmd_instance_list_run, cmd_instance_stop_run,
	cmd_instance_stats_run, cmd_instance_logs_run, cmd_instance_unit_run;
/* Goes on as that user, which root may; NULL: as he is. */
int cmd_instance_as(const char *user, struct vl_err *err);
/* Where its logs are. *ret_out, *ret_errors: new. make: the directory too. */
int cmd_instance_logs(const char *name, bool make, char **ret_out, char **ret_errors, struct vl_err *err);

/* cmd_attach.c */
cmd_fn cmd_attach_run;

extern const struct opt cmd_action_opts[];                                                     /* opts_action.c */
cmd_fn cmd_exec_run, cmd_hold_run, cmd_run_run, cmd_run_help_run, cmd_shell_run, cmd_test_run; /* cmd_run.c */

#endif
