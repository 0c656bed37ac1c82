/* The command table and what every command file shares.
 *
 * To add a command: write cmd/cmd_NAME.c with its option table and function, declare both
 * below, add one row to cmd/table.c. Help, usage errors, completion and the man synopsis
 * follow from the row; tests/checks.sh `help` walks it. A command that builds, signs or
 * speaks JSON belongs to PROGRAM_IMAGE: `vial` becomes vial-image for it and stays small.
 */
#ifndef CMD_H
#define CMD_H

#include <vial/base.h>

/* Exit statuses (cli-compat 8 and 15). Usage errors are 1 in both profiles. */
enum { EXIT_USAGE = 1, EXIT_OWN_COMPAT = 255, EXIT_OWN = 125, EXIT_NOEXEC = 126, EXIT_NOTFOUND = 127 };

enum profile { PROFILE_VIAL, PROFILE_APPTAINER }; /* from argv[0] */

struct cmd_ctx {
	struct vl_log log;
	enum profile profile;
	const char *self; /* name for messages: vial, apptainer or singularity */
	bool tty;         /* stderr is a terminal */
	bool json_log;
	const struct cmd *cmd;           /* the row that runs, NULL before it is known */
	const char *image_pem;           /* of an encrypted image, as the line gave it; NULL = not */
	bool image_passphrase;           /* ask for it */
	bool image_claims;               /* what images say of their origin is wanted */
	const char *stage;               /* images are used from copies there, DIR[:SIZE]; NULL = no */
	bool stage_always;               /* those on the same file system too */
	const char *fanout;              /* sbcast, which brings them from the step's first node; NULL = no */
	uint64_t fanout_wait;            /* seconds that this may take */
	const char *config_file;         /* the one that was asked for instead of the site's, NULL = none */
	const struct opt_config *config; /* while the row runs */
};

/* ---- opt.c: option tables ------------------------------------------------------------ */

enum opt_type {
	OPT_FLAG,    /* bool */
	OPT_NOFLAG,  /* bool set to false */
	OPT_STR,     /* const char *, borrowed from argv or environ */
	OPT_LIST,    /* struct vl_strv, also split at commas */
	OPT_LINES,   /* struct vl_strv, one per use; the environment twin has one per line */
	OPT_ENV,     /* struct vl_strv, KEY=VALUE: a comma splits only before another KEY= */
	OPT_U64,     /* uint64_t */
	OPT_REFUSED, /* a word of other tools: an error whose text is the help; with =false it is none */
};
#define OPT_HIDDEN 1     /* accepted, not in the help */
#define OPT_ENV_FIRST 2  /* a list whose later items win: those of the environment come first */
#define OPT_SECRET 4     /* its value is shown to nobody and no file of the configuration has it */
#define OPT_SOME 8       /* a list: an empty one is wrong */
#define OPT_ONE_PLACE 16 /* a list that says who may: all of the line, else of the environment, else of the files */
#define OPT_ANYHOW 32    /* the environment speaks of it to commands that other programs give, too */

struct opt {
	char shrt; /* 0 = none */
	const char *name;
	enum opt_type type;
	size_t off;      /* in the command's option struct */
	const char *arg; /* placeholder in the help, NULL for flags */
	const char *help;
	const char *env; /* key of the environment twins, space separated; NULL = none */
	int flags;
};
#define OPT_END                                                                                                        \
	{                                                                                                              \
		0, NULL, OPT_FLAG, 0, NULL, NULL, NULL, 0                                                              \
	}

/* ---- config.c: the configuration files ---- */

struct opt_setting { /* one line of one file */
	char *key, *value, *file;
	unsigned line;
};
struct opt_config { /* in the order they were read: the last one of a key wins, lists take all */
	struct opt_setting *v;
	size_t n;
};
/* site, the files of site.d in the order of their names, user. A file that is missing says nothing; a line that
 * cannot be read is an error that names it. `key =` takes back what earlier files said. NULL = leave out. */
int opt_config_load(const char *site, const char *user, struct opt_config *ret, struct vl_err *err);
void opt_config_free(struct opt_config *c);
/* "BLOCK_SIZE ..." -> "block-size"; returns new. */
char *opt_config_key(const char *env) VL_NEW;
bool opt_config_has(const struct opt_setting *s, const struct opt *o); /* the line is for this option */

/* How a command is read. */
#define OPT_INTERSPERSED 1 /* options may also follow positionals (argv is reordered) */
#define OPT_GIVEN 2        /* by another program: the environment was meant for commands of people, see OPT_ANYHOW */
/* Parses argv[1..] into *values; *ret_first is the index of the first positional. Options that the
 * line leaves alone get their environment twins' values (VIAL_KEY, then APPTAINER_KEY, then
 * SINGULARITY_KEY), then those of the configuration (NULL = none; borrowed by values); lists are
 * appended to. -EINVAL with one line in err, naming the nearest valid word. -ECANCELED: help was
 * asked for. */
int opt_parse(const struct opt *opts, void *values, int argc, char **argv, unsigned how,
	      const struct opt_config *config, int *ret_first, struct vl_err *err);
/* Frees the lists among *values; the struct stays the caller's. */
void opt_free(const struct opt *opts, void *values);
/* First of VIAL_KEY, APPTAINER_KEY, SINGULARITY_KEY that is set; NULL. */
const char *opt_getenv(const char *key);
/* Overwrites what the variables of ours have that end in _PASSPHRASE or _PASSWORD: each process that is forked has the block
 * of its caller's environment, and a container may look at some. Whatever opt_getenv said of them is empty from then on. */
void opt_forget_secrets(void);
bool opt_is_secret(const char *kv); /* KEY=VALUE */
/* The valid word nearest to `word`, or NULL when none is near. */
const char *opt_nearest(const char *word, const char *const *words, size_t n);

/* ---- table.c ------------------------------------------------------------------------- */

struct cmd {
	const char *name;     /* "sif list": two words for a sub-command */
	const char *args;     /* synopsis of the positionals */
	const char *summary;  /* one line */
	const char *about;    /* paragraph of the long help */
	const char *examples; /* lines */
	const struct opt *opts;
	size_t opts_size;       /* of the option struct; zeroed before parsing */
	int min_args, max_args; /* max -1 = any */
	int usage_status;       /* exit status of wrong usage; 0 = EXIT_USAGE */
	bool interspersed;
	bool given; /* by another program, see OPT_GIVEN */
	bool image; /* lives in vial-image */
	int (*run)(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv);
};
extern const struct cmd commands[];
extern const size_t n_commands;
const struct cmd *cmd_find(const char *word1, const char *word2, int *ret_words);

/* ---- help.c -------------------------------------------------------------------------- */

void help_all(const struct cmd_ctx *c);
void help_command(const struct cmd_ctx *c, const struct cmd *cmd);
void help_group(const struct cmd_ctx *c, const char *word);
/* For completion and for the build; cmd NULL = the program as a whole. */
void help_words(const struct cmd *cmd);
void help_man(const struct cmd *cmd);

struct global_values {
	bool debug, verbose, quiet, silent, nocolor, version;
	const char *log_format, *config;
};
extern const struct opt global_opts[]; /* opts_global.c */

/* ---- shared by command files --------------------------------------------------------- */

/* Prints err as FATAL and returns EXIT_OWN_COMPAT; exec, run and shell choose their own. */
int cmd_fail(const struct cmd_ctx *c, const struct vl_err *err);
/* "FATAL: ..." and a pointer to the help; returns EXIT_USAGE. */
int cmd_usage(const struct cmd_ctx *c, const char *fmt, ...) VL_PRINTF(2, 3);
/* A bar on a terminal, a line now and then in a log, nothing with -q. */
struct cmd_progress {
	struct cmd_ctx *c;
	char what[64];
	int64_t last_ms;
	unsigned last_percent;
	bool drawn;
};
void cmd_progress_start(struct cmd_progress *p, struct cmd_ctx *c, struct vl_progress *ret);
void cmd_progress_end(struct cmd_progress *p);
const char *cmd_version(void);
/* Becomes the other program (vial-image), found beside this one or in libexec; returns only on failure. */
char *cmd_beside(const char *program) VL_NEW; /* its path beside this one; new */
const char *cmd_libexec(const char *program); /* and where it is installed */
int cmd_become(struct cmd_ctx *c, const char *program, char **argv);

/* A question on the terminal, whatever stdin is; secret: without echo. *ret is freed first, and new. -ENOTTY without
 * a terminal; -EINTR when a signal came, which arrives as soon as this returns. */
int cmd_ask(const char *question, bool secret, char **ret, struct vl_err *err);

typedef int cmd_fn(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv);

#endif
