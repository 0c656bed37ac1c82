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
	bool labels, deffile, runscript, startscript, test, environment, helpfile, list_apps, all, digests, json;
	const char *app;
};
extern const struct opt cmd_inspect_opts[];
cmd_fn cmd_inspect_run;

/* cmd_key.c */
struct cmd_newpair_opts {
	const char *type;
	uint64_t bits;
	bool force;
};
extern const struct opt cmd_newpair_opts[];
cmd_fn cmd_key_newpair_run, cmd_key_show_run;

/* cmd_sign.c */
struct cmd_sign_opts {
	const char *key, *keyidx;
	uint64_t group, object;
	bool all;
};
extern const struct opt cmd_sign_opts[];
cmd_fn cmd_sign_run;

/* cmd_verify.c */
struct cmd_verify_opts {
	struct vl_strv keys;
	const char *certificate, *intermediates, *roots, *url;
	uint64_t group, object;
	bool all, json, local, legacy, ocsp;
};
extern const struct opt cmd_verify_opts[];
cmd_fn cmd_verify_run;

/* cmd_build.c */
struct build_opts {
	bool force, reproducible, json, ignored;
	const char *arch, *compress, *block_size, *max_size, *owner;
	uint64_t threads;
	struct vl_strv mksquashfs;
};
extern const struct opt cmd_build_options[];
cmd_fn cmd_build_run;

/* store_opts.c */
struct img_store;
/* The user's store with the site's tiers, as the settings say. */
int cmd_store_open(struct cmd_ctx *c, struct img_store **ret, struct vl_err *err);
int cmd_store_limit(uint64_t *ret, struct vl_err *err); /* configured bytes; 0 = none */

/* cmd_cache.c */
struct cmd_cache_opts {
	bool verbose, json, force, dry;
	uint64_t days;
	const char *limit;
	struct vl_strv types;
};
extern const struct opt cmd_cache_list_opts[], cmd_cache_clean_opts[], cmd_cache_prune_opts[];
cmd_fn cmd_cache_list_run, cmd_cache_clean_run, cmd_cache_prune_run;

extern const struct opt cmd_action_opts[];                     /* opts_action.c */
cmd_fn cmd_exec_run, cmd_run_run, cmd_shell_run, cmd_test_run; /* cmd_run.c */

#endif
