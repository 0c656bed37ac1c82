/* optimize: a start is watched, and the image written anew so that what it reads lies together. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <vial/image.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_optimize_opts, f)
const struct opt cmd_optimize_options[] = {
	{ 'o', "output", OPT_STR, O(output), "OUT.sif", "write there; IMAGE stays as it is", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace OUT when it exists", "FORCE", 0 },
	{ 0, "hot-size", OPT_STR, O(hot_size), "SIZE", "what may be stored uncompressed (default 128M)", "HOT_SIZE",
	  0 },
	{ 'B', "bind", OPT_LIST, O(action.bind), "SRC[:DST[:OPT]]",
	  "show a host path in the container; OPT is ro or rw", "BIND BINDPATH", 0 },
	{ 0, "mount", OPT_LINES, O(action.mount), "type=bind,src=S,dst=D[,ro]",
	  "the same in long words, also type=tmpfs,dst=D", "MOUNT", 0 },
	{ 'H', "home", OPT_STR, O(action.home), "SRC[:DST]", "home directory", "HOME", 0 },
	{ 0, "no-home", OPT_FLAG, O(action.no_home), NULL, "do not mount the home directory", "NO_HOME", 0 },
	{ 0, "no-mount", OPT_LIST, O(action.no_mount), "LIST",
	  "leave out: proc sys dev home tmp cwd bind-paths, or a path", "NO_MOUNT", 0 },
	{ 'c', "contain", OPT_FLAG, O(action.contain), NULL, "empty home and /tmp, minimal /dev, nothing of the host's",
	  "CONTAIN", 0 },
	{ 0, "cwd", OPT_STR, O(action.cwd), "DIR", "initial directory", "CWD TARGET_CWD PWD TARGET_PWD", 0 },
	{ 0, "writable-tmpfs", OPT_FLAG, O(action.writable_tmpfs), NULL, "changes go to memory and are thrown away",
	  "WRITABLE_TMPFS", 0 },
	{ 'e', "cleanenv", OPT_FLAG, O(action.cleanenv), NULL, "do not take over the host's environment", "CLEANENV",
	  0 },
	{ 0, "env", OPT_ENV, O(action.env), "KEY=VALUE", "set a variable", NULL, 0 },
	{ 0, "env-file", OPT_LIST, O(action.env_file), "FILE", "set variables from a file of assignments", "ENV_FILE",
	  OPT_ENV_FIRST },
	{ 0, "no-env", OPT_LIST, O(action.no_env), "KEY", "do not take over this variable", "NOENV", 0 },
	OPT_END,
};
#undef O

/* ---- the image ---- */

struct optimizing {
	struct cmd_ctx *c;
	struct cmd_optimize_opts *o;
	struct action_image image;
	struct sif_image sif;
	const struct sif_descr *partition;
	struct stat st;
	int held;      /* the image once more, locked; -1 until the command has ended */
	char *out;     /* where it goes */
	bool in_place; /* which is the image itself */
	struct img_read *reads;
	size_t n_reads;
	uint64_t limit;
	int status; /* of the command or of a signal, when that ended it */
};

static void free_all(struct optimizing *w)
{
	sif_free(&w->sif);
	cmd_action_image_free(&w->image);
	vl_closep(&w->held);
	free(w->out);
	free(w->reads);
}

static bool is_file(const char *path, const struct stat *st)
{
	struct stat now;

	return stat(path, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

static int open_image(struct optimizing *w, const char *path, struct vl_err *err)
{
	static const struct net_opts none;

	if (stat(path, &w->st) < 0) /* no URI: what is in the cache belongs to all */
		return vl_fail_sys(err, errno, "cannot open image %s", path);
	int r = cmd_action_image(w->c, path, &none, false, &w->image, err);
	if (r < 0)
		return r;
	if (w->image.kind != PLAN_SQUASHFS || !w->image.off)
		return vl_fail(err, ENOTSUP, "%s is not a SIF; `%s build` makes one", path, w->c->self);
	if (sif_load(w->image.fd, &w->sif, err) < 0 || sif_primary(&w->sif, &w->partition, err) < 0)
		return vl_wrap(err, "%s", path);
	w->out = w->o->output ? vl_strdup(w->o->output) : realpath(path, NULL); /* a link stays one */
	w->in_place = !w->o->output || is_file(w->out, &w->st);
	return w->out ? 0 : vl_fail_sys(err, errno, "cannot find %s", path);
}

/* ---- the start ---- */

static void warn(void *arg, const char *text)
{
	const struct cmd_ctx *c = arg;
	vl_logf(&c->log, VL_WARNING, "%s", text);
}

/* In a process of its own, which becomes the command. */
static int become_command(struct optimizing *w, int sock, int argc, char **argv)
{
	PLAN struct plan plan = PLAN_INIT;
	struct vl_progress say = { .warn = warn, .arg = w->c };
	struct vl_err err = { 0 };
	int status = 0;

	w->o->action.private_mount = true;
	int r = cmd_make_plan(w->c, &w->o->action, &w->image, PLAN_EXEC, argc, argv, &say, &plan, &err);
	plan.record = sock;
	plan.n_front = 0; /* large reads have nothing to do with what is read */
	opt_forget_secrets();
	if (r == 0)
		ctr_run(&plan, &say, &status, &err);
	vl_logf(&w->c->log, VL_FATAL, "%s", err.text);
	return status ? status : EXIT_OWN;
}

static void take_reads(struct optimizing *w, const struct vmnt_read *l, size_t n)
{
	w->reads = vl_alloc((n + 1) * sizeof *w->reads);
	w->n_reads = n;
	for (size_t i = 0; i < n; i++)
		w->reads[i] = (struct img_read){ .inode = l[i].inode,
						 .block = l[i].block == VMNT_READ_INODE ? IMG_READ_INODE : l[i].block };
}

/* The mount is held until the server has been asked: it would end with the command. */
static int watch(struct optimizing *w, int sock, pid_t pid, struct vl_err *err)
{
	VL_FREE struct vmnt_read *reads = NULL;
	VL_CLOSE int control = -1, mount = -1;
	enum vl_msg_type type;
	size_t n = 0;

	int r = vl_msg_recv_fd(sock, &type, &control, NULL, 0, NULL);
	if (r == 0)
		r = vl_msg_recv_fd(sock, &type, &mount, NULL, 0, NULL);
	w->status = vl_wait(pid);
	if (r < 0 && w->status)
		return -ECHILD; /* it has said why */
	if (r < 0 || w->status)
		return vl_fail(err, ECHILD, "the command ended with status %d: nothing was written", w->status);
	if ((r = vmnt_server_profile(control, &reads, &n, err)) < 0)
		return r;
	take_reads(w, reads, n);
	return 0;
}

static int record(struct optimizing *w, int argc, char **argv, struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	fflush(NULL); /* or what waits there is written twice */
	pid_t pid = fork();
	if (pid == 0) {
		close(pair[0]);
		_exit(become_command(w, pair[1], argc, argv));
	}
	close(pair[1]);
	r = pid < 0 ? vl_fail_sys(err, errno, "cannot start the command") : watch(w, pair[0], pid, err);
	close(pair[0]);
	return r;
}

/* ---- nobody else changes it ---- */

static int is_stale(const struct optimizing *w, struct vl_err *err)
{
	return vl_fail(err, ESTALE,
		       "%s has been replaced or changed since the command was started, and stays as it is now; "
		       "optimize it again",
		       w->image.path);
}

/* The new image may take its place only as long as that is the image that was read. */
static int check_place(const struct optimizing *w, struct vl_err *err)
{
	const struct stat *old = &w->st;
	struct stat now;

	if (!w->in_place)
		return 0;
	if (stat(w->out, &now) < 0 || now.st_dev != old->st_dev || now.st_ino != old->st_ino ||
	    now.st_size != old->st_size || now.st_mtim.tv_sec != old->st_mtim.tv_sec ||
	    now.st_mtim.tv_nsec != old->st_mtim.tv_nsec || now.st_ctim.tv_sec != old->st_ctim.tv_sec ||
	    now.st_ctim.tv_nsec != old->st_ctim.tv_nsec)
		return is_stale(w, err);
	return 0;
}

/* Shared: who edits a SIF wants it alone, and a file opened for reading gets no other lock from NFS. */
static int lock_file(struct optimizing *w, struct vl_err *err)
{
	VL_FREE char *again = vl_asprintf("/proc/self/fd/%d", w->image.fd);
	int r;

	w->held = open(again, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (w->held < 0)
		return vl_fail_sys(err, errno, "cannot open %s", w->image.path);
	while ((r = flock(w->held, LOCK_SH)) < 0 && errno == EINTR)
		;
	/* a file system without locks: nobody edits images there */
	if (r < 0 && errno != ENOLCK && errno != EOPNOTSUPP && errno != ENOSYS)
		return vl_fail_sys(err, errno, "cannot lock %s", w->image.path);
	return fstat(w->held, &w->st) < 0 ? vl_fail_sys(err, errno, "cannot stat %s", w->image.path) : 0;
}

/* An overlay that is being written to would be copied half. */
static int lock_overlays(struct optimizing *w, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < w->sif.n && r == 0; i++) {
		const struct sif_descr *d = &w->sif.d[i];
		struct plan_overlay o = { .fd = w->held,
					  .kind = PLAN_LAYER_EXT3,
					  .path = w->image.path,
					  .lock = -1,
					  .off = d->off,
					  .size = d->size };
		if (d->type == SIF_PARTITION && sif_part_type(d) == SIF_PART_OVERLAY && d->size)
			r = ctr_overlay_lock(&o, "optimize", err);
	}
	return r;
}

/* Until the process ends. What was added to the image while the command ran is kept; what the command read must be
 * there still. */
static int hold_image(struct optimizing *w, struct vl_err *err)
{
	SIF_IMAGE struct sif_image before = w->sif;
	const struct sif_descr *old = w->partition;
	int r;

	w->sif = (struct sif_image){ .fd = -1 };
	if ((r = lock_file(w, err)) < 0 || (r = check_place(w, err)) < 0)
		return r;
	if (sif_load(w->held, &w->sif, err) < 0 || sif_primary(&w->sif, &w->partition, err) < 0)
		return vl_wrap(err, "%s", w->image.path);
	if (memcmp(before.h.uuid, w->sif.h.uuid, sizeof before.h.uuid) != 0 || old->id != w->partition->id ||
	    old->off != w->partition->off || old->size != w->partition->size)
		return is_stale(w, err);
	return lock_overlays(w, err);
}

/* ---- the new image ---- */

static void report(const struct optimizing *w, const struct img_optimize_stats *s)
{
	const struct vl_log *log = &w->c->log;
	char bytes[16], left_out[16];

	vl_human_size(s->bytes, bytes);
	vl_human_size(s->left_out, left_out);
	if (s->signatures)
		vl_logf(log, VL_WARNING, "%s: %u signature%s no longer held and %s left out; sign the image again",
			w->out, s->signatures, s->signatures == 1 ? "" : "s", s->signatures == 1 ? "was" : "were");
	if (s->left_out)
		vl_logf(log, VL_WARNING, "the command read %s more than fit; --hot-size allows more", left_out);
	vl_logf(log, VL_INFO, "%s: a start reads %s in %llu blocks of %llu files, which lie together now", w->out,
		bytes, (unsigned long long)s->blocks, (unsigned long long)s->files);
}

static int write_image(struct optimizing *w, char **command, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile file = VL_NEWFILE_INIT;
	bool replace = !w->o->output || w->o->force;
	struct img_optimize_opts o = { .sif = &w->sif,
				       .partition = w->partition,
				       .reads = w->reads,
				       .n_reads = w->n_reads,
				       .command = command,
				       .limit = w->limit };
	struct img_optimize_stats stats = { 0 };
	struct vl_progress progress;
	struct cmd_progress bar;

	int r = vl_newfile_open(&file, w->out, w->st.st_mode & 0777, replace, err);
	if (r < 0)
		return r;
	cmd_progress_start(&bar, w->c, &progress);
	r = img_optimize(&o, file.fd, &progress, &stats, err);
	cmd_progress_end(&bar);
	if (r == -EINTR)
		w->status = 128 + stats.signal;
	if (r < 0)
		return vl_wrap(err, "%s", w->image.path);
	/* of another's image root makes another's image */
	if (!w->o->output && geteuid() == 0 && fchown(file.fd, w->st.st_uid, w->st.st_gid) < 0)
		return vl_fail_sys(err, errno, "cannot give %s to its owner", w->out);
	if (fsync(file.fd) < 0) /* which may take its time, so before the last look */
		return vl_fail_sys(err, errno, "cannot write %s to disk", w->out);
	if ((r = check_place(w, err)) < 0 || (r = vl_newfile_commit(&file, replace, err)) < 0)
		return r;
	report(w, &stats);
	return 0;
}

int cmd_optimize_image(struct cmd_ctx *c, struct cmd_optimize_opts *o, const char *path, int argc, char **argv)
{
	VL_CLEANUP(free_all)
	struct optimizing w = { .c = c, .o = o, .image = ACTION_IMAGE_INIT, .sif = { .fd = -1 }, .held = -1 };
	struct vl_err err = { 0 };

	if (o->hot_size && (vl_parse_size(o->hot_size, UINT64_MAX / 2, &w.limit) < 0 || !w.limit))
		return cmd_usage(c, "--hot-size takes a size such as 64M, not '%s'", o->hot_size);
	int r = open_image(&w, path, &err);
	if (r == 0 && o->output && !o->force && access(o->output, F_OK) == 0) /* before the command runs, not after */
		r = vl_fail(&err, EEXIST, "%s exists; --force replaces it", o->output);
	if (r < 0 || record(&w, argc, argv, &err) < 0 || hold_image(&w, &err) < 0 || write_image(&w, argv, &err) < 0) {
		if (*err.text)
			cmd_fail(c, &err);
		return w.status ? w.status : EXIT_OWN_COMPAT;
	}
	return 0;
}

int cmd_optimize_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	int skip = 1 + (argc > 1 && vl_streq(argv[1], "--"));

	(void)self;
	if (argc == skip)
		return cmd_usage(c, "optimize needs a command to watch");
	return cmd_optimize_image(c, opts, argv[0], argc - skip, argv + skip);
}
