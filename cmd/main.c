/* The front door of both programs: global options, profile, the command's row, its options.
 * `vial` runs containers and loads little; for a row marked `image` it becomes vial-image. */
#include "cmd.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#ifndef VIAL_VERSION
#define VIAL_VERSION "0.1.0"
#endif
#ifndef VIAL_LIBEXEC
#define VIAL_LIBEXEC "/usr/local/libexec/vial"
#endif

#ifndef VIAL_CONFIG
#define VIAL_CONFIG "/etc/vial/vial.conf"
#endif

extern char **environ;

const char *cmd_version(void)
{
	return VIAL_VERSION;
}

int cmd_fail(const struct cmd_ctx *c, const struct vl_err *err)
{
	vl_logf(&c->log, VL_FATAL, "%s", err->text);
	return EXIT_OWN_COMPAT;
}

int cmd_usage(const struct cmd_ctx *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	VL_FREE char *text = vl_vasprintf(fmt, ap);
	va_end(ap);
	vl_logf(&c->log, VL_FATAL, "%s", text);
	if (c->cmd)
		vl_logf(&c->log, VL_FATAL, "usage: %s %s%s %s  (%s help %s)", c->self, c->cmd->name,
			c->cmd->opts ? " [options]" : "", c->cmd->args, c->self, c->cmd->name);
	else
		vl_logf(&c->log, VL_FATAL, "usage: %s COMMAND ...  (%s help)", c->self, c->self);
	return c->cmd && c->cmd->usage_status ? c->cmd->usage_status : EXIT_USAGE;
}

/* Descriptors 0 to 2 must exist, or the first file opened becomes somebody's stdout. */
static void ensure_stdio(void)
{
	struct stat st;
	for (int fd = 0; fd < 3; fd++)
		if (fstat(fd, &st) < 0 && errno == EBADF)
			if (open("/dev/null", O_RDWR) < 0) /* not close-on-exec: it is stdio */
				_exit(EXIT_OWN_COMPAT);
}

static void set_up_log(struct cmd_ctx *c, const struct global_values *g)
{
	const char *level = opt_getenv("MESSAGELEVEL");
	char *end;

	c->log = (struct vl_log){ .fd = 2, .level = VL_INFO };
	if (level && *level) {
		long n = strtol(level, &end, 10);
		if (!*end && n >= VL_FATAL && n <= VL_DEBUG)
			c->log.level = (enum vl_level)n;
	}
	if (g->silent)
		c->log.level = VL_ERROR;
	else if (g->quiet)
		c->log.level = VL_WARNING;
	else if (g->debug)
		c->log.level = VL_DEBUG;
	else if (g->verbose)
		c->log.level = VL_VERBOSE;
	c->tty = isatty(2) == 1;
	c->log.color = c->tty && !g->nocolor && !getenv("NO_COLOR");
	c->log.json = g->log_format && vl_streq(g->log_format, "json");
}

/* The user's file, when it can be read: a home that is not ours to look at (sudo that keeps HOME, a stale mount) stops
 * nobody. Returns new or NULL. */
static char *user_config(const struct cmd_ctx *c)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	VL_FREE char *file = base && *base == '/'   ? vl_asprintf("%s/vial/vial.conf", base)
			     : home && *home == '/' ? vl_asprintf("%s/.config/vial/vial.conf", home)
						    : NULL;

	if (!file || access(file, R_OK) == 0)
		return vl_steal(&file);
	if (errno != ENOENT && errno != ENOTDIR)
		vl_logf(&c->log, VL_VERBOSE, "cannot read %s: %s", file, strerror(errno));
	return NULL;
}

/* The site's file, its drop-ins, the user's file. One that was asked for must be there; /dev/null is none at all. */
static int load_config(struct cmd_ctx *c, struct opt_config *ret, struct vl_err *err)
{
	const char *site = c->config_file && *c->config_file ? c->config_file : NULL;
	VL_FREE char *user = user_config(c);

	if (site && access(site, R_OK) < 0)
		return vl_fail_sys(err, errno, "cannot read the configuration %s", site);
	if (site && vl_streq(site, "/dev/null"))
		return 0;
	return opt_config_load(site ? site : VIAL_CONFIG, user, ret, err);
}

static void export_globals(const struct cmd_ctx *c)
{
	char level[8];
	snprintf(level, sizeof level, "%d", (int)c->log.level);
	setenv("VIAL_MESSAGELEVEL", level, 1);
	if (c->log.json)
		setenv("VIAL_LOG_FORMAT", "json", 1);
	if (!c->log.color)
		setenv("VIAL_NOCOLOR", "1", 1);
	if (c->config_file)
		setenv("VIAL_CONFIG_FILE", c->config_file, 1);
}

/* The other programs: beside us in the build tree and in libexec when installed. */
char *cmd_beside(const char *program)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n <= 0)
		return vl_strdup("");
	self[n] = 0;
	return vl_asprintf("%.*s/%s", (int)(strrchr(self, '/') - self), self, program);
}

const char *cmd_libexec(const char *program)
{
	return vl_streq(program, "vial-verify") ? VIAL_LIBEXEC "/vial-verify" : VIAL_LIBEXEC "/vial-image";
}

int cmd_become(struct cmd_ctx *c, const char *program, char **argv)
{
	VL_FREE char *beside = cmd_beside(program);
	struct vl_err err = { 0 };

	export_globals(c);
	execv(beside, argv);
	execv(cmd_libexec(program), argv);
	vl_fail_sys(&err, errno, "cannot start %s; looked for %s and in %s", program, beside, VIAL_LIBEXEC);
	return cmd_fail(c, &err);
}

static int unknown_command(struct cmd_ctx *c, const char *word)
{
	const char *names[128];
	size_t n = 0;

	for (size_t i = 0; i < n_commands && n < VL_COUNT(names); i++)
		names[n++] = commands[i].name;
	const char *near = opt_nearest(word, names, n);
	return cmd_usage(c, near ? "unknown command '%s'; did you mean '%s'?" : "unknown command '%s'", word, near);
}

/* A variable under both old prefixes with two values: the newer name is used, and one line says so. Another program of
 * ours that started this one has said it already. */
static void warn_of_two_prefixes(const struct cmd_ctx *c)
{
	VL_BUF struct vl_buf names = { 0 };

	for (char **e = environ; *e && !getenv("VIAL_MESSAGELEVEL"); e++) {
		const char *rest = vl_prefix(*e, "SINGULARITY"), *eq = rest ? strchr(rest, '=') : NULL;
		if (!eq || (*rest != '_' && !vl_prefix(rest, "ENV_")))
			continue;
		VL_FREE char *newer = vl_asprintf("APPTAINER%.*s", (int)(eq - rest), rest);
		VL_FREE char *own = vl_asprintf("VIAL%.*s", (int)(eq - rest), rest);
		const char *v = getenv(newer);
		if (v && !vl_streq(v, eq + 1) && !getenv(own))
			vl_buf_addf(&names, "%s%s", names.len ? ", " : "", newer);
	}
	if (names.len)
		vl_logf(&c->log, VL_WARNING,
			"%s: a SINGULARITY variable of that name says something else; it is not used", names.data);
}

static int run_row(struct cmd_ctx *c, const struct cmd *cmd, int argc, char **argv)
{
	static const struct opt none[] = { OPT_END };
	const struct opt *opts = cmd->opts ? cmd->opts : none;
	VL_CLEANUP(opt_config_free) struct opt_config config = { 0 };
	VL_FREE void *values = vl_alloc(cmd->opts_size);
	struct vl_err err = { 0 };
	int first = 0;

	c->cmd = cmd;
	if (load_config(c, &config, &err) < 0)
		return cmd_fail(c, &err);
	c->config = &config;
	warn_of_two_prefixes(c);
	unsigned how = (cmd->interspersed ? OPT_INTERSPERSED : 0) | (cmd->given ? OPT_GIVEN : 0);
	int r = opt_parse(opts, values, argc, argv, how, &config, &first, &err);
	int n = argc - first;
	if (r == -ECANCELED) {
		help_command(c, cmd);
		r = 0;
	} else if (r < 0) {
		r = cmd_usage(c, "%s", err.text);
	} else if (n < cmd->min_args) {
		r = cmd_usage(c, "%s needs %s", cmd->name, cmd->args);
	} else if (cmd->max_args >= 0 && n > cmd->max_args) {
		r = cmd_usage(c, "%s: unexpected argument '%s'", cmd->name, argv[first + cmd->max_args]);
	} else {
		r = cmd->run(c, cmd, values, n, argv + first);
	}
	opt_free(opts, values);
	c->config = NULL;
	return r;
}

static bool is_group(const char *word)
{
	for (size_t i = 0; i < n_commands; i++) {
		const char *rest = vl_prefix(commands[i].name, word);
		if (rest && *rest == ' ')
			return true;
	}
	return false;
}

/* `help --words [COMMAND]` and `help --man [COMMAND]` are for completion and the build. */
static int help_about(struct cmd_ctx *c, int argc, char **argv)
{
	const char *how = argc > 1 && vl_prefix(argv[1], "--") ? argv[1] : NULL;
	int at = how ? 2 : 1, words;
	const char *a = argc > at ? argv[at] : NULL;
	const struct cmd *cmd = a ? cmd_find(a, argc > at + 1 ? argv[at + 1] : NULL, &words) : NULL;

	if (a && !cmd && !is_group(a))
		return unknown_command(c, a);
	if (cmd && !cmd->run) { /* its options are known to the other program only */
		VL_FREE char **v = vl_alloc((size_t)(argc + 2) * sizeof *v);
		v[0] = (char *)c->self;
		memcpy(v + 1, argv, (size_t)argc * sizeof *v);
		return cmd_become(c, cmd->image ? "vial-image" : "vial", v);
	}
	if (how && vl_streq(how, "--words"))
		help_words(cmd);
	else if (how && vl_streq(how, "--man"))
		help_man(cmd);
	else if (cmd)
		help_command(c, cmd);
	else if (a)
		help_group(c, a);
	else
		help_all(c);
	return 0;
}

static int dispatch(struct cmd_ctx *c, int argc, char **argv, char **whole)
{
	int words;

	if (vl_streq(argv[0], "help"))
		return help_about(c, argc, argv);
	const struct cmd *cmd = cmd_find(argv[0], argc > 1 ? argv[1] : NULL, &words);
	if (!cmd && is_group(argv[0])) {
		if (argc > 1 && !vl_streq(argv[1], "--help") && !vl_streq(argv[1], "-h"))
			return cmd_usage(c, "unknown command '%s %s'", argv[0], argv[1]);
		help_group(c, argv[0]);
		return argc > 1 ? 0 : EXIT_USAGE;
	}
	if (!cmd)
		return unknown_command(c, argv[0]);
	if (!cmd->run)
		return cmd_become(c, cmd->image ? "vial-image" : "vial", whole);
	return run_row(c, cmd, argc - words + 1, argv + words - 1);
}

int main(int argc, char **argv)
{
	struct global_values g = { 0 };
	struct cmd_ctx c = { .self = "vial" };
	struct vl_err err = { 0 };
	const char *name = vl_basename(argv[0] ? argv[0] : "vial");
	int first = 1;

	ensure_stdio();
	c.log = (struct vl_log){ .fd = 2, .level = VL_INFO };
	if (vl_streq(name, "apptainer") || vl_streq(name, "singularity") || vl_streq(name, "run-singularity")) {
		c.profile = PROFILE_APPTAINER;
		c.self = vl_streq(name, "singularity") ? "singularity" : "apptainer";
	}
	if (vl_streq(name, "run-singularity")) { /* the SIF's own #! line: all words belong to `run` */
		char **v = vl_alloc((size_t)(argc + 2) * sizeof *v);
		v[0] = (char *)"run";
		memcpy(v + 1, argv + 1, (size_t)argc * sizeof *v);
		set_up_log(&c, &g);
		c.config_file = getenv("VIAL_CONFIG_FILE");
		return dispatch(&c, argc, v, argv);
	}
	int r = opt_parse(global_opts, &g, argc, argv, 0, NULL, &first, &err);
	set_up_log(&c, &g);
	c.config_file = g.config ? g.config : getenv("VIAL_CONFIG_FILE");
	if (r == -ECANCELED) {
		help_all(&c);
		return 0;
	}
	if (r < 0)
		return cmd_usage(&c, "%s", err.text);
	if (g.log_format && !vl_streq(g.log_format, "json") && !vl_streq(g.log_format, "text"))
		return cmd_usage(&c, "--log-format is text or json, not '%s'", g.log_format);
	if (g.version) {
		/* also as singularity: tools take "singularity version 1.x" for a program of 2015 */
		bool compat = c.profile == PROFILE_APPTAINER;
		printf("%s version %s\n", compat ? "apptainer" : "vial", compat ? "1.4.5-vial" : VIAL_VERSION);
		return 0;
	}
	if (first >= argc) {
		help_all(&c);
		return EXIT_USAGE;
	}
	r = dispatch(&c, argc - first, argv + first, argv);
	if (fflush(stdout) != 0 && r == 0) {
		vl_fail_sys(&err, errno, "cannot write to standard output");
		return cmd_fail(&c, &err);
	}
	return r;
}
