/* exec, run, shell, test: open the image, make the plan, become the program. */
#include "run.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

extern char **environ;

static void warn(void *arg, const char *text)
{
	const struct cmd_ctx *c = arg;
	vl_logf(&c->log, VL_WARNING, "%s", text);
}

static void note(void *arg, const char *text)
{
	const struct cmd_ctx *c = arg;
	vl_logf(&c->log, VL_VERBOSE, "%s", text);
}

struct vl_progress cmd_action_say(struct cmd_ctx *c)
{
	return (struct vl_progress){ .warn = warn, .note = note, .arg = c };
}

static void free_opts(struct action_opts *o)
{
	struct vl_strv *lists[] = {
		&o->bind,     &o->mount,    &o->no_mount,         &o->scratch,  &o->env,
		&o->env_file, &o->no_env,   &o->iso.network_args, &o->iso.dns,  &o->iso.blkio_weight_device,
		&o->security, &o->add_caps, &o->drop_caps,        &o->overlay,  &o->verify.keys,
		&o->device,   &o->cdi_dirs, &o->mpi.libs,         &o->mpi.bind, &o->mpi.env,
		&o->asked
	};
	for (size_t i = 0; i < VL_COUNT(lists); i++)
		vl_strv_free(lists[i]);
}

/* Words that another tool's option of the same letter would have taken, and that now stand for the image. */
static void suggest(const struct action_opts *o, const char *word, struct vl_err *err)
{
	VL_FREE char *said = vl_strdup(err->text);
	size_t name = strcspn(word, "=");

	if (o->cleanenv && word[name] && vl_is_identifier(word, name))
		vl_fail(err, ENOENT, "%s; -e is --cleanenv here, variables are set with --env %s", said, word);
	else if (o->writable && *word == '/')
		vl_fail(err, ENOENT, "%s; -w is --writable here, the initial directory is --cwd %s", said, word);
	else if (!word[strspn(word, "0123456789:")])
		vl_fail(err, ENOENT,
			"%s; -u is --userns and -p is --pid here, without a value: programs run as the caller, on the "
			"host's ports",
			said);
}

/* What is wrong with the words themselves, whatever the image. */
static int check_words(struct cmd_ctx *c, const struct action_opts *o)
{
	for (size_t i = 0; i < o->env.n; i++)
		if (!strchr(o->env.v[i], '='))
			return cmd_usage(c, "--env '%s' is not of the form KEY=VALUE", o->env.v[i]);
	if (o->json && !o->explain)
		return cmd_usage(c, "--json goes with --explain");
	return 0;
}

int cmd_action_check(struct cmd_ctx *c, const struct action_opts *o, enum plan_action action, bool instance)
{
	/* the environment is meant for other commands too */
	if (!instance && o->restart && !opt_getenv("RESTART"))
		return cmd_usage(c, "--restart goes with instance start and instance run");
	if (!instance && o->pid_file && !opt_getenv("PID_FILE"))
		return cmd_usage(c, "--pid-file goes with instance start and instance run");
	if (action != PLAN_KEEP && (o->check || o->wanted || o->fd || o->named || o->forget || o->save || o->record ||
				    o->stage || o->fanout || o->claims || o->entrypoint || o->asked.n))
		return cmd_usage(c, "--%s goes with hold",
				 o->check     ? "check"
				 : o->wanted  ? "wanted"
				 : o->fd      ? "fd"
				 : o->named   ? "named"
				 : o->forget  ? "forget"
				 : o->save    ? "save"
				 : o->record  ? "record"
				 : o->stage   ? "stage"
				 : o->fanout  ? "fanout"
				 : o->claims  ? "claims"
				 : o->asked.n ? "asked"
					      : "with-entrypoint");
	if (instance && (o->explain || o->json))
		return cmd_usage(c, "--%s does not go with instances; use it with exec or run",
				 o->explain ? "explain" : "json");
	if (instance && o->stats && !opt_getenv("STATS"))
		return cmd_usage(c, "--stats does not go with instances; use it with exec or run");
	return 0;
}

/* Who waits for the container says it then, in his own words. */
static bool tell(int sock, int r, const char *image, struct vl_err *err)
{
	if (r == -ECHILD)
		vl_fail(err, ECHILD, "%s cannot be fetched", image);
	return vl_msg_send_err(sock, err) == 0;
}

/* That of who comes in, which is not all this program's own. */
static char *const *job_environment(struct vl_strv *ret)
{
	for (char **e = environ; *e; e++) {
		const char *kv = vl_prefix(*e, CTR_JOB_ENV);
		vl_strv_add(ret, kv ? kv : *e);
	}
	return ret->n ? ret->v : environ;
}

static void explain_limit(struct vl_err *err)
{
	VL_FREE char *said = vl_strdup(err->text);
	struct rlimit files = { 0 };

	getrlimit(RLIMIT_NOFILE, &files);
	vl_fail(err, EMFILE, "%s; this start needs more than the limit of %llu (ulimit -n)", said,
		(unsigned long long)files.rlim_cur);
}

/* n: NULL = no container with a name */
static int start(struct cmd_ctx *c, struct action_opts *o, enum plan_action action, const struct named *n, int argc,
		 char **argv)
{
	VL_STRV struct vl_strv job = { 0 };
	ACTION_IMAGE struct action_image image = ACTION_IMAGE_INIT;
	PLAN struct plan plan = PLAN_INIT;
	const char *instance = vl_prefix(argv[0], "instance://");
	struct vl_progress say = cmd_action_say(c);
	struct vl_err err = { 0 };
	int status = 0;

	if (cmd_action_check(c, o, action, false)) {
		free_opts(o);
		return EXIT_USAGE;
	}
	if (instance && action != PLAN_KEEP)
		return cmd_start_inside(c, o, action, instance, argc - 1, argv + 1);

	plan.keep_fd = action == PLAN_KEEP ? (int)o->fd : -1;
	plan.keep_door = n ? n->door : -1;
	plan.environment = action == PLAN_KEEP ? job_environment(&job) : environ;
	if (check_words(c, o)) {
		free_opts(o);
		return EXIT_USAGE;
	}
	bool config =
		action == PLAN_RUN || o->entrypoint || c->profile == PROFILE_VIAL || o->oci_defaults || o->gpu.nvccli;
	c->image_pem = o->pem_path;
	c->image_passphrase = o->passphrase;
	c->image_claims = o->claims;
	c->stage = o->stage;
	c->stage_always = o->stage_always;
	c->fanout = o->fanout;
	c->fanout_wait = o->fanout_wait;
	int r = cmd_action_image(c, argv[0], &o->net, config, &image, &err);
	if (n)
		r = r < 0 ? cmd_named_no_image(n, r, &err) : cmd_named_same_image(n, &image, &err);
	else if (r == -ENOENT)
		suggest(o, argv[0], &err);
	if (r == 0)
		r = cmd_action_verify(&o->verify, &image, &err);
	if (r == 0 && !o->explain) /* which makes the file */
		r = cmd_stats_open(o->stats, &plan.report, &err);
	if (r == 0)
		r = cmd_make_plan(c, o, &image, action, argc - 1, argv + 1, &say, &plan, &err);
	if (r == 0 && plan.report && plan.image == PLAN_DIRECTORY)
		vl_progress_warn(&say, "--stats: %s is a directory, and no server has anything to tell of it",
				 plan.image_path);
	if (r == 0 && o->explain)
		r = cmd_action_verified(&image, &err);
	plan.before_use = cmd_action_verified;
	plan.before_use_arg = &image;
	opt_forget_secrets(); /* what is forked from here on may be seen in the container */
	if (r == 0 && o->explain)
		r = cmd_explain(&(struct making){ c, o, &image, &say, &plan, &err });
	else if (r == 0)
		r = ctr_run(&plan, &say, &status, &err);
	free_opts(o);
	if (r == -EMFILE)
		explain_limit(&err);
	if (r < 0 && plan.keep_fd >= 0 && tell(plan.keep_fd, r, argv[0], &err))
		return EXIT_OWN;
	return cmd_action_failed(c, action, r, status, &err);
}

int cmd_action_failed(const struct cmd_ctx *c, enum plan_action action, int r, int status, const struct vl_err *err)
{
	if (r == -ENODATA && action == PLAN_TEST) {
		vl_logf(&c->log, VL_INFO, "%s", err->text);
		return 0;
	}
	if (r == 0)
		return 0; /* a keeper whose time is over */
	if (r != -ECHILD)
		vl_logf(&c->log, VL_FATAL, "%s", err->text);
	if (r == -ENOPKG) /* the app: its status everywhere */
		return EXIT_USAGE;
	return status ? status : c->profile == PROFILE_APPTAINER ? EXIT_OWN_COMPAT : EXIT_OWN;
}

static void look_at_line(int sig, siginfo_t *info, void *context)
{
	struct pollfd p = { .fd = info->si_fd };

	(void)sig;
	(void)context;
	if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLERR))
		kill(0, SIGKILL); /* programs of the image too, and theirs */
}

/* When nobody wants the container any more, nothing is prepared any further: a conversion, an image's script that hangs. */
static void end_with(int sock)
{
	struct sigaction a = { .sa_sigaction = look_at_line, .sa_flags = SA_SIGINFO | SA_RESTART };
	siginfo_t now = { .si_fd = sock };

	sigemptyset(&a.sa_mask);
	if (sigaction(SIGIO, &a, NULL) == 0 && fcntl(sock, F_SETSIG, SIGIO) == 0 &&
	    fcntl(sock, F_SETOWN, getpid()) == 0 && fcntl(sock, F_SETFL, O_ASYNC) == 0)
		look_at_line(SIGIO, &now, NULL);
}

/* Only what would be known without running anything: is it an image, readable, for this machine? */
static int check(struct cmd_ctx *c, struct action_opts *o, const char *word)
{
	ACTION_IMAGE struct action_image image = ACTION_IMAGE_INIT;
	struct vl_err err = { 0 };
	int r = cmd_action_image(c, word, &o->net, false, &image, &err);

	if (r == 0 && (r = cmd_action_verify(&o->verify, &image, &err)) == 0)
		r = cmd_action_verified(&image, &err);
	free_opts(o);
	if (r < 0 && (!o->fd || !tell((int)o->fd, r, word, &err)) && r != -ECHILD)
		vl_logf(&c->log, VL_FATAL, "%s", err.text);
	if (r == 0 && o->fd)
		vl_msg_send((int)o->fd, VL_MSG_OK, NULL, 0);
	return r < 0 ? EXIT_OWN : 0;
}

static int hold_named(struct cmd_ctx *c, struct action_opts *o, const char *word)
{
	struct named n;
	struct vl_err err = { 0 };
	int r = cmd_named_enter(o, word, &n, &err), status = r < 0 ? EXIT_OWN : 0;

	if (r < 0 && !tell((int)o->fd, r, word, &err))
		vl_logf(&c->log, VL_FATAL, "%s", err.text);
	if (r == 0)
		status = start(c, o, PLAN_KEEP, &n, 1, (char *[]){ n.image, NULL });
	else
		free_opts(o);
	cmd_named_leave(&n, status != 0);
	return status;
}

/* For who puts processes into containers by himself: the Slurm plugin, instances. What goes wrong is said on the
 * descriptor too: who asks there tells the user. */
int cmd_hold_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct action_opts *o = opts;
	struct vl_err err = { 0 };

	(void)self;
	if (cmd_action_check(c, o, PLAN_KEEP, false))
		return EXIT_USAGE;
	if (o->check && !o->fd)
		return check(c, opts, argv[0]);
	if (o->forget)
		return cmd_named_forget(o, &err) < 0 ? cmd_fail(c, &err) : 0;
	if (o->record)
		return cmd_hold_record(c, o);
	if (!o->fd || o->fd > INT_MAX || fcntl((int)o->fd, F_SETFD, FD_CLOEXEC) < 0)
		return cmd_usage(c, "hold needs the number of an open socket: --fd N");
	if (o->check)
		return check(c, opts, argv[0]);
	if (o->save)
		return cmd_hold_save(c, o);
	if (o->wanted && (o->wanted > INT_MAX || fcntl((int)o->wanted, F_SETFD, FD_CLOEXEC) < 0))
		return cmd_usage(c, "--wanted takes the number of an open socket");
	if (o->wanted && (getpgrp() == getpid() || setpgid(0, 0) == 0))
		end_with((int)o->wanted);
	return o->named ? hold_named(c, opts, argv[0]) : start(c, opts, PLAN_KEEP, NULL, argc, argv);
}

int cmd_exec_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_EXEC, NULL, argc, argv);
}

int cmd_run_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_RUN, NULL, argc, argv);
}

/* The help text is a file of the image, which is read by a program of the image: nothing of it is parsed out here. */
int cmd_run_help_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	static const char text[] = "if [ -f \"$1\" ]; then exec cat \"$1\"; fi; echo 'No help sections were defined "
				   "for this image'";
	struct action_opts *o = opts;
	VL_FREE char *file = o->app ? vl_asprintf("/scif/apps/%s/scif/runscript.help", o->app)
				    : vl_strdup("/.singularity.d/runscript.help");
	char *words[] = { argv[0], (char *)"/bin/sh", (char *)"-c", (char *)text, (char *)"sh", file, NULL };

	(void)self, (void)argc;
	return start(c, o, PLAN_EXEC, NULL, (int)VL_COUNT(words) - 1, words);
}

int cmd_shell_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_SHELL, NULL, argc, argv);
}

int cmd_test_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_TEST, NULL, argc, argv);
}
