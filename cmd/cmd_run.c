/* exec, run, shell, test: open the image, make the plan, become the program. */
#include "run.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

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

static void free_opts(struct action_opts *o)
{
	struct vl_strv *lists[] = { &o->bind,
				    &o->mount,
				    &o->no_mount,
				    &o->env,
				    &o->env_file,
				    &o->no_env,
				    &o->iso.network_args,
				    &o->iso.dns,
				    &o->iso.blkio_weight_device };
	for (size_t i = 0; i < VL_COUNT(lists); i++)
		vl_strv_free(lists[i]);
}

static int start(struct cmd_ctx *c, struct action_opts *o, enum plan_action action, int argc, char **argv)
{
	ACTION_IMAGE struct action_image image = ACTION_IMAGE_INIT;
	PLAN struct plan plan = PLAN_INIT;
	struct vl_progress say = { .warn = warn, .note = note, .arg = c };
	struct vl_err err = { 0 };
	int status = 0;

	plan.keep_fd = action == PLAN_KEEP ? (int)o->fd : -1;
	plan.environment = environ;
	int r = cmd_action_image(c, argv[0], &o->net, action == PLAN_RUN, &image, &err);
	if (r == 0)
		r = cmd_stats_open(o->stats, &plan.report, &err);
	if (r == 0)
		r = cmd_make_plan(c, o, &image, action, argc - 1, argv + 1, &say, &plan, &err);
	if (r == 0 && plan.report && plan.image == PLAN_DIRECTORY)
		vl_progress_warn(&say, "--stats: %s is a directory, and no server has anything to tell of it",
				 plan.image_path);
	if (r == 0)
		r = ctr_run(&plan, &say, &status, &err);
	free_opts(o);
	if (r == -ENODATA && action == PLAN_TEST) {
		vl_logf(&c->log, VL_INFO, "%s", err.text);
		return 0;
	}
	if (r == 0)
		return 0; /* a keeper whose time is over */
	if (plan.keep_fd >= 0)
		vl_msg_send_err(plan.keep_fd, &err);
	if (r != -ECHILD)
		vl_logf(&c->log, VL_FATAL, "%s", err.text);
	return status ? status : c->profile == PROFILE_APPTAINER ? EXIT_OWN_COMPAT : EXIT_OWN;
}

/* For who puts processes into containers by himself: the Slurm plugin, instances. What goes wrong is said on the
 * descriptor too: who asks there tells the user. */
int cmd_hold_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct action_opts *o = opts;

	(void)self;
	if (!o->fd || o->fd > INT_MAX || fcntl((int)o->fd, F_SETFD, FD_CLOEXEC) < 0)
		return cmd_usage(c, "hold needs the number of an open socket: --fd N");
	return start(c, opts, PLAN_KEEP, argc, argv);
}

int cmd_exec_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_EXEC, argc, argv);
}

int cmd_run_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_RUN, argc, argv);
}

int cmd_shell_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_SHELL, argc, argv);
}

int cmd_test_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self;
	return start(c, opts, PLAN_TEST, argc, argv);
}
