/* instance start, run, stop, unit. */
#include "run.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

extern char **environ;

#define STOP_TIMEOUT 10         /* seconds; what people know */
#define STOP_TIMEOUT_MAX 86400u /* a day */
#define CMDLINE_MAX 65536       /* what a record takes */

#define O(f) offsetof(struct cmd_instance_opts, f)
const struct opt cmd_instance_stop_opts[] = {
	{ 'a', "all", OPT_FLAG, O(all), NULL, "all of them", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "kill it", NULL, 0 },
	{ 's', "signal", OPT_STR, O(signal), "SIGNAL", "name or number of the signal (default: SIGINT)", NULL, 0 },
	{ 't', "timeout", OPT_U64, O(timeout), "SECONDS", "then what is left is killed (default: 10)", NULL, 0 },
	{ 'u', "user", OPT_STR, O(user), "NAME", "root: those of this user", NULL, 0 },
	OPT_END,
};
#undef O

/* ---- shared ------------------------------------------------------------------------------------- */

int cmd_instance_as(const char *user, struct vl_err *err)
{
	if (!user)
		return 0;
	const struct passwd *pw = getpwnam(user);
	if (!pw)
		return vl_fail(err, ENOENT, "there is no user %s", user);
	if (pw->pw_uid == geteuid())
		return 0;
	if (geteuid() != 0)
		return vl_fail(err, EPERM, "only root may look at the instances of others");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_STATE_HOME");
	setenv("HOME", pw->pw_dir, 1);
	if (initgroups(pw->pw_name, pw->pw_gid) < 0 || setgid(pw->pw_gid) < 0 || setuid(pw->pw_uid) < 0)
		return vl_fail_sys(err, errno, "cannot become %s", user);
	return 0;
}

static int make_dirs(char *path, struct vl_err *err)
{
	for (char *s = path + 1;; s++) {
		char c = *s;
		if (c && c != '/')
			continue;
		*s = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return vl_fail_sys(err, errno, "cannot make the directory %s", path);
		*s = c;
		if (!c)
			return 0;
	}
}

int cmd_instance_logs(const char *name, bool make, char **ret_out, char **ret_errors, struct vl_err *err)
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	char host[256] = "";

	if (!home || *home != '/') {
		const struct passwd *pw = getpwuid(geteuid());
		home = pw ? pw->pw_dir : "/";
	}
	gethostname(host, sizeof host - 1); /* homes are shared by machines */
	VL_FREE char *dir = state && *state == '/' ? vl_asprintf("%s/vial/instances/%s", state, host)
						   : vl_asprintf("%s/.local/state/vial/instances/%s", home, host);
	if (make && make_dirs(dir, err) < 0)
		return -err->code;
	*ret_out = vl_asprintf("%s/%s.out", dir, name);
	*ret_errors = vl_asprintf("%s/%s.err", dir, name);
	return 0;
}

/* ---- start -------------------------------------------------------------------------------------- */

/* The words of this command line: what comes after the program's name, as they were typed. */
static int take_words(struct vl_strv *ret, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open("/proc/self/cmdline", O_RDONLY, 0, err);
	VL_FREE char *text = vl_alloc(CMDLINE_MAX + 1);
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	while (len < CMDLINE_MAX && (n = read(fd, text + len, CMDLINE_MAX - len)) > 0)
		len += (size_t)n;
	if (len == CMDLINE_MAX)
		return vl_fail(err, E2BIG, "the command line of an instance has at most %d bytes", CMDLINE_MAX);
	for (size_t at = strlen(text) + 1; at < len; at += strlen(text + at) + 1)
		vl_strv_add(ret, text + at);
	return 0;
}

/* Variables that steer us, and where things are found. Secrets are in no record. */
static void take_variables(struct vl_strv *ret)
{
	static const char *const ours[] = {
		"VIAL_",           "APPTAINER_",       "SINGULARITY_",    "VIALENV_",         "APPTAINERENV_",
		"SINGULARITYENV_", "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME="
	};

	for (char **e = environ; *e; e++)
		for (size_t i = 0; i < VL_COUNT(ours); i++)
			if (vl_prefix(*e, ours[i]) && !opt_is_secret(*e)) {
				vl_strv_add(ret, *e);
				break;
			}
}

static int read_restart(const char *word, enum ctr_restart *ret)
{
	static const char *const words[] = { "no", "on-failure", "always" };

	for (size_t i = 0; word && i < VL_COUNT(words); i++)
		if (vl_streq(word, words[i])) {
			*ret = (enum ctr_restart)i;
			return 0;
		}
	return word ? -EINVAL : 0;
}

static int describe(struct ctr_instance *i, const char *name, const struct plan *p, const struct action_opts *o,
		    struct vl_err *err)
{
	int r = ctr_instance_check_name(name, err);

	if (r < 0 || (r = cmd_instance_logs(name, true, &i->out, &i->errors, err)) < 0 ||
	    (r = take_words(&i->argv, err)) < 0)
		return r;
	i->name = vl_strdup(name);
	i->image = vl_strdup(p->image_path);
	i->home = vl_strdup(p->user.home ? p->user.home : "");
	cmd_identity_words(o, &i->identity);
	for (size_t n = 0; o->verify.on && n < o->verify.keys.n; n++)
		vl_strv_take(&i->verified, vl_path_absolute(o->verify.keys.v[n]));
	if (o->verify.on && !o->verify.keys.n)
		vl_strv_add(&i->verified, "the keyring");
	i->cwd = getcwd(NULL, 0);
	if (!i->cwd)
		i->cwd = vl_strdup("/");
	i->program = realpath("/proc/self/exe", NULL);
	if (!i->program)
		i->program = vl_strdup("vial");
	take_variables(&i->env);
	return 0;
}

static int write_pid(const char *path, const char *name, struct vl_err *err)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };

	if (!path)
		return 0;
	VL_CLOSE int sock = ctr_instance_reach(name, &i, err);
	if (sock < 0)
		return sock;
	VL_FREE char *line = vl_asprintf("%d\n", i.pid);
	VL_CLOSE int fd = vl_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644, err);
	if (fd < 0)
		return fd;
	int r = vl_write_full(fd, line, strlen(line));
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", path) : 0;
}

static int start(struct cmd_ctx *c, struct action_opts *o, enum plan_action action, int argc, char **argv)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	ACTION_IMAGE struct action_image image = ACTION_IMAGE_INIT;
	PLAN struct plan plan = PLAN_INIT;
	struct vl_progress say = cmd_action_say(c);
	struct vl_err err = { 0 };

	if (cmd_action_check(c, o, action, true))
		return EXIT_USAGE;
	if (read_restart(o->restart, &i.restart) < 0)
		return cmd_usage(c, "--restart takes no, on-failure or always, not '%s'", o->restart);
	c->image_pem = o->pem_path;
	c->image_passphrase = o->passphrase;
	plan.no_init = true; /* what keeps the instance is that */
	o->iso.pid = true;   /* so that nothing can be left of it */
	int r = ctr_instance_check_name(argv[1], &err);
	if (r == 0)
		r = cmd_action_image(c, argv[0], &o->net, action == PLAN_RUN, &image, &err);
	if (r == 0)
		r = cmd_action_verify(&o->verify, &image, &err);
	if (r == 0)
		r = cmd_action_verified(&image, &err);
	if (r == 0)
		r = cmd_make_plan(c, o, &image, action, argc - 2, argv + 2, &say, &plan, &err);
	opt_forget_secrets(); /* the keeper stays, and is the container's first process */
	if (r == 0)
		r = describe(&i, argv[1], &plan, o, &err);
	if (r == 0) {
		cmd_add_instance(&plan, i.name);
		r = ctr_instance_start(&plan, &i, &say, &err);
	}
	if (r == 0)
		r = write_pid(o->pid_file, i.name, &err);
	if (r == -ECHILD)
		return EXIT_OWN_COMPAT;
	if (r < 0)
		return cmd_fail(c, &err);
	vl_logf(&c->log, VL_INFO, "instance started successfully");
	return 0;
}

int cmd_instance_start_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_START, argc, argv);
}

int cmd_instance_run_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_RUN, argc, argv);
}

/* ---- stop --------------------------------------------------------------------------------------- */

/* "TERM", "SIGTERM" or "15"; 0 = none of that. */
static int read_signal(const char *word)
{
	const char *name = vl_prefix(word, "SIG");
	uint64_t n;

	if (vl_parse_u64(word, 1, NSIG - 1, &n) == 0)
		return (int)n;
	for (int sig = 1; sig < NSIG; sig++)
		if (sigabbrev_np(sig) && vl_streq(sigabbrev_np(sig), name ? name : word))
			return sig;
	return 0;
}

static int stop_all(struct cmd_ctx *c, const char *glob, int sig, int timeout_ms)
{
	struct ctr_instance *l = NULL;
	int status = 0;
	size_t n = 0;

	ctr_instances(glob, &l, &n);
	for (size_t i = 0; i < n; i++) {
		struct vl_err err = { 0 };
		VL_FREE char *image = vl_printable(l[i].image, strlen(l[i].image));
		vl_logf(&c->log, VL_INFO, "Stopping %s instance of %s (PID=%d)", l[i].name, image, l[i].pid);
		int r = ctr_instance_stop(l[i].name, sig, timeout_ms, &err);
		if (r < 0 && r != -ENOENT)
			status = cmd_fail(c, &err);
	}
	if (!n) {
		vl_logf(&c->log, VL_FATAL, "no instance found");
		status = EXIT_USAGE;
	}
	ctr_instances_free(l, n);
	return status;
}

int cmd_instance_stop_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_instance_opts *o = opts;
	int sig = o->force ? SIGKILL : o->signal ? read_signal(o->signal) : SIGINT;
	uint64_t timeout = o->timeout ? o->timeout : STOP_TIMEOUT;
	struct vl_err err = { 0 };

	(void)self;
	if (!argc == !o->all)
		return cmd_usage(c, "instance stop needs a NAME or --all");
	if (!sig)
		return cmd_usage(c, "--signal takes the name or the number of a signal, not '%s'", o->signal);
	if (timeout > STOP_TIMEOUT_MAX)
		return cmd_usage(c, "--timeout is at most %u seconds", STOP_TIMEOUT_MAX);
	if (cmd_instance_as(o->user, &err) < 0)
		return cmd_fail(c, &err);
	return stop_all(c, argc ? argv[0] : NULL, sig, (int)timeout * 1000);
}

/* ---- unit --------------------------------------------------------------------------------------- */

/* A word of a unit file: systemd.syntax(7), systemd.exec(5). */
static void print_word(const char *s)
{
	putchar('"');
	for (; *s; s++)
		switch (*s) {
		case '"':
		case '\\':
			printf("\\%c", *s);
			break;
		case '%':
			printf("%%%%");
			break;
		case '$':
			printf("$$");
			break;
		case '\n':
			printf("\\n");
			break;
		default:
			if ((unsigned char)*s < ' ' || *s == 127)
				printf("\\x%02x", (unsigned char)*s);
			else
				putchar(*s);
		}
	putchar('"');
}

/* In an assignment a dollar is a dollar. */
static void print_variable(const char *kv)
{
	printf("Environment=\"");
	for (; *kv; kv++)
		if (*kv == '"' || *kv == '\\')
			printf("\\%c", *kv);
		else if (*kv == '%')
			printf("%%%%");
		else if ((unsigned char)*kv < ' ' || *kv == 127)
			printf("\\x%02x", (unsigned char)*kv);
		else
			putchar(*kv);
	printf("\"\n");
}

/* A path is not quoted; a percent sign is still a specifier. */
static void print_directory(const char *path)
{
	printf("WorkingDirectory=");
	for (; *path; path++)
		printf(*path == '%' ? "%%%%" : "%c", *path);
	putchar('\n');
}

int cmd_instance_unit_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	struct vl_err err = { 0 };
	VL_CLOSE int sock = ctr_instance_reach(argv[0], &i, &err);

	(void)self, (void)opts, (void)argc;
	if (sock < 0)
		return cmd_fail(c, &err);
	printf("[Unit]\nDescription=vial instance %s\nAfter=network-online.target\n\n[Service]\nType=forking\n",
	       i.name);
	print_directory(i.cwd);
	for (size_t n = 0; n < i.env.n; n++)
		print_variable(i.env.v[n]);
	printf("ExecStart=");
	print_word(i.program);
	for (size_t n = 0; n < i.argv.n; n++) {
		putchar(' ');
		print_word(i.argv.v[n]);
	}
	printf("\nExecStop=");
	print_word(i.program);
	printf(" instance stop %s\n\n[Install]\nWantedBy=default.target\n", i.name);
	return 0;
}
