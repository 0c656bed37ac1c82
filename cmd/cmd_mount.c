/* vial mount: an image's files among the host's. */
#include "mounts.h"
#include "run.h"

#include <vial/mount.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#define O(f) offsetof(struct cmd_mount_opts, f)
const struct opt cmd_mount_options[] = {
	{ 'o', "options", OPT_LIST, O(words), "LIST", "allow_other: for all users; noexec: no program starts from it",
	  NULL, 0 },
	{ 'f', "foreground", OPT_FLAG, O(foreground), NULL, "wait until it is unmounted; a signal unmounts it", NULL,
	  0 },
	CMD_STATS_OPT(struct cmd_mount_opts, stats),
	CMD_SERVER_OPTS(struct cmd_mount_opts, server),
	{ 0, "json", OPT_FLAG, O(json), NULL, "print what was mounted, or the list, as JSON", NULL, 0 },
	CMD_VERIFY_OPTS(struct cmd_mount_opts, verify),
	CMD_NET_OPTS(struct cmd_mount_opts, net),
	OPT_END,
};
#undef O

/* ---- the list ------------------------------------------------------------------------------- */

static vl_json *to_json(const struct cmd_mounted *m)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "image", vl_json_new_str(m->source));
	vl_json_set(j, "directory", vl_json_new_str(m->dir));
	VL_FREE char *options = vl_asprintf("%s,%s", m->options, m->super);
	vl_json_set(j, "options", vl_json_new_str(options));
	return j;
}

static void print_json(vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, true);

	puts(text);
}

static int list(struct cmd_ctx *c, bool json)
{
	VL_CLEANUP(cmd_mounted_free) struct cmd_mounted_list l = { 0 };
	VL_JSON vl_json *all = vl_json_new_arr();
	struct vl_err err = { 0 };

	if (cmd_mounted_read(&l, &err) < 0)
		return cmd_fail(c, &err);
	for (size_t i = 0; i < l.n; i++) {
		const struct cmd_mounted *m = &l.v[i];
		if (!m->ours || m->uid != geteuid())
			continue;
		if (json) {
			vl_json_add(all, to_json(m));
			continue;
		}
		VL_FREE char *dir = vl_printable(m->dir, strlen(m->dir));
		VL_FREE char *image = vl_printable(m->source, strlen(m->source));
		printf("%s on %s\n", image, dir);
	}
	if (json)
		print_json(all);
	return 0;
}

/* ---- where, and how ------------------------------------------------------------------------- */

static int read_words(const struct vl_strv *words, struct vmnt_image *image, struct vl_err *err)
{
	static const char *const always[] = { "ro", "nosuid", "nodev", "default_permissions" };

	image->own = true;
	for (size_t i = 0; i < words->n; i++) {
		const char *w = words->v[i];
		bool known = vl_streq(w, "exec") || vl_streq(w, "noexec") || vl_streq(w, "allow_other");
		for (size_t k = 0; k < VL_COUNT(always); k++)
			known |= vl_streq(w, always[k]);
		if (vl_streq(w, "rw"))
			return vl_fail(err, EINVAL,
				       "-o rw: an image cannot be changed; `vial exec --writable-tmpfs` has "
				       "changes that are thrown away");
		if (!known)
			return vl_fail(err, EINVAL,
				       "-o %s is not known; there is allow_other, exec, noexec, and ro, nosuid, "
				       "nodev, which always hold",
				       w);
		if (vl_streq(w, "allow_other"))
			image->own = false;
		else if (vl_streq(w, "exec") || vl_streq(w, "noexec"))
			image->noexec = *w == 'n';
	}
	return 0;
}

/* The directory to mount on, absolute and without links; new. alone: for nobody else to see. */
static int find_place(const char *word, bool alone, char **ret, struct vl_err *err)
{
	VL_CLEANUP(cmd_mounted_free) struct cmd_mounted_list l = { 0 };
	VL_FREE char *dir = cmd_mount_point(word);
	struct stat st;

	if (!dir && errno == ENOENT)
		return vl_fail(err, ENOENT, "%s does not exist; first: mkdir %s", word, word);
	if (!dir)
		return vl_fail_sys(err, errno, "%s", word);
	int r = cmd_mounted_read(&l, err);
	if (r < 0)
		return r;
	const struct cmd_mounted *m = cmd_mounted_on(&l, dir);
	if (m && m->ours)
		return vl_fail(err, EBUSY, "%s has %s mounted already; first: vial umount %s", dir, m->source, word);
	if (stat(dir, &st) < 0)
		return vl_fail_sys(err, errno, "%s", dir);
	if (!S_ISDIR(st.st_mode))
		return vl_fail(err, ENOTDIR, "%s is not a directory", dir);
	if (!alone && geteuid() != 0 && st.st_uid != geteuid())
		return vl_fail(err, EPERM, "%s is not a directory of yours; make one to mount on: mkdir", dir);
	*ret = vl_steal(&dir);
	return 0;
}

/* ---- mounting ------------------------------------------------------------------------------- */

/* Root, also of a user namespace: without anybody's help. */
static int mount_here(struct vmnt_image *image, const char *dir, int *ret_control, struct vl_err *err)
{
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	VL_CLOSE int control = -1;
	VL_CLOSE int at = vl_open(dir, O_PATH | O_DIRECTORY, 0, err);

	if (at < 0)
		return at;
	int r = vmnt_server_start(image, &server, err);
	if (r < 0)
		return r;
	VL_CLOSE int fd = vmnt_server_mount(&server, image, ret_control ? &control : NULL, err);
	if (fd < 0)
		return fd;
	if ((r = vmnt_attach(fd, at, dir, err)) == 0 && ret_control)
		*ret_control = vl_steal_fd(&control);
	return r;
}

#define ALONE "`vial mount %s %s -- COMMAND` needs none of this and shows the image to one command"

static int mount_it(struct cmd_ctx *c, struct vmnt_image *image, const char *word, const char *dir, int *ret_control,
		    struct vl_err *err)
{
	if (vmnt_may_mount()) {
		image->all_ids = ctr_has_all_ids();
		return mount_here(image, dir, ret_control, err);
	}
	vl_logf(&c->log, VL_VERBOSE, "this process may not mount by itself: fusermount3 does it");
	int r = vmnt_fusermount(image, dir, ret_control, err);
	if (r == -ENOENT || r == -EPERM) {
		struct vl_err why = *err;
		return vl_fail(err, -r, "cannot mount on %s: only root may here without fusermount3, and %s; " ALONE,
			       dir, why.text, word, dir);
	}
	return r;
}

/* ---- in the foreground ---------------------------------------------------------------------- */

static int catch_signals(struct vl_err *err)
{
	static const int which[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < VL_COUNT(which); i++)
		sigaddset(&set, which[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC);
	return fd < 0 ? vl_fail_sys(err, errno, "cannot wait for signals") : fd;
}

/* Until the server is gone, or a signal comes. */
static int stay(struct cmd_ctx *c, int control, int signals, const char *dir, struct vl_err *err)
{
	VL_CLEANUP(cmd_mounted_free) struct cmd_mounted_list l = { 0 };
	struct pollfd fds[] = { { .fd = control, .events = 0 }, { .fd = signals, .events = POLLIN } };

	while (poll(fds, VL_COUNT(fds), -1) < 0)
		if (errno != EINTR)
			return vl_fail_sys(err, errno, "cannot wait for the end of the mount");
	/* a server that was killed leaves a mount behind that nobody can use */
	int r = cmd_mounted_read(&l, err);
	const struct cmd_mounted *m = r == 0 ? cmd_mounted_on(&l, dir) : NULL;
	if (!m || !m->ours)
		return r;
	r = cmd_unmount(m, false, err);
	if (r == -EBUSY) {
		vl_logf(&c->log, VL_WARNING, "%s", err->text);
		r = cmd_unmount(m, true, err);
	}
	return r;
}

/* ---- the command ---------------------------------------------------------------------------- */

static void say(const struct vmnt_image *image, const char *dir)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	vl_json_set(j, "image", vl_json_new_str(image->name));
	vl_json_set(j, "directory", vl_json_new_str(dir));
	vl_json_set(j, "allow_other", vl_json_new_bool(!image->own));
	print_json(j);
	fflush(stdout);
}

static int for_all(struct cmd_ctx *c, const struct cmd_mount_opts *o, struct vmnt_image *image, const char *word,
		   const char *dir, struct vl_err *err)
{
	VL_CLOSE int control = -1;
	VL_CLOSE int signals = -1;

	image->host = true;
	opt_forget_secrets(); /* the server stays */
	if (o->foreground && (signals = catch_signals(err)) < 0)
		return signals;
	int r = mount_it(c, image, word, dir, o->foreground ? &control : NULL, err);
	if (r < 0)
		return r;
	if (o->json)
		say(image, dir);
	return o->foreground ? stay(c, control, signals, dir, err) : 0;
}

static int mount_image(struct cmd_ctx *c, struct cmd_mount_opts *o, char **argv, char **command, int *ret_status,
		       struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = ACTION_IMAGE_INIT;
	VL_FREE char *dir = NULL;
	struct vmnt_image image = { .uid = geteuid(), .gid = getegid() };
	int r = read_words(&o->words, &image, err);

	if (r < 0 || (r = find_place(argv[1], command != NULL, &dir, err)) < 0 ||
	    (r = cmd_action_image(c, argv[0], &o->net, false, &i, err)) < 0)
		return r;
	if (i.kind == PLAN_DIRECTORY)
		return vl_fail(err, EISDIR, "%s is a directory already", i.path);
	if ((r = cmd_action_verify(&o->verify, &i, err)) < 0 || (r = cmd_action_verified(&i, err)) < 0)
		return r;
	if ((r = cmd_stats_open(o->stats, &image.report, err)) < 0 ||
	    (r = cmd_server_opts_read(&o->server, &image.memory, &image.threads, err)) < 0)
		return r;
	image.fd = i.fd;
	image.off = i.off;
	image.size = i.size;
	image.name = i.path;
	image.tree = i.tree;
	image.log = i.log;
	image.log_mark = i.log_mark;
	if (!command)
		return for_all(c, o, &image, argv[0], dir, err);
	image.own = false; /* nobody else sees it */
	return ctr_look(&image, dir, command, ret_status, err);
}

int cmd_mount_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_mount_opts *o = opts;
	struct vl_err err = { 0 };
	int status = 0;

	(void)self;
	if (argc == 0)
		return list(c, o->json);
	if (argc == 1)
		return cmd_usage(c, "mount needs a directory to mount %s on", argv[0]);
	if (argc > 2 && (!vl_streq(argv[2], "--") || argc == 3))
		return cmd_usage(c,
				 argc == 3 && vl_streq(argv[2], "--")
					 ? "mount: a command belongs behind the --"
					 : "mount: options go first, and a command behind --: not '%s'",
				 argv[2]);
	if (argc > 2 && (o->foreground || o->json))
		return cmd_usage(c, "mount: --foreground and --json are for a mount without a command");
	int r = mount_image(c, o, argv, argc > 3 ? argv + 3 : NULL, &status, &err);
	if (r == 0)
		return 0;
	if (r != -ECHILD)
		vl_logf(&c->log, VL_FATAL, "%s", err.text);
	return status ? status : EXIT_OWN_COMPAT;
}
