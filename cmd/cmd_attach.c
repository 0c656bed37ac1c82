/* vial attach: into the container of a process, of a Slurm job's processes on this node, or of an instance. */
#include "run.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define ENVIRON_MAX (4u << 20) /* what the kernel allows strings of an execve is about that */

struct target {
	pid_t pid;
	int proc, pidfd; /* its directory in /proc, which is never another process's; owned */
	struct ctr_door door;
	struct vl_strv env;
	char *cwd; /* in the container */
};
#define TARGET_INIT                                                                                                    \
	{                                                                                                              \
		.proc = -1, .pidfd = -1, .door = CTR_DOOR_INIT                                                         \
	}

static void target_free(struct target *t)
{
	vl_closep(&t->proc);
	vl_closep(&t->pidfd);
	ctr_door_free(&t->door);
	vl_strv_free(&t->env);
	vl_freep(&t->cwd);
}

/* ---- a process ---------------------------------------------------------------------------------- */

static int open_proc(pid_t pid, int *ret_proc, int *ret_pidfd, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("/proc/%d", pid);
	VL_CLOSE int proc = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	VL_CLOSE int pidfd = pidfd_open(pid, 0);
	struct stat st;

	if (proc < 0 || pidfd < 0 || fstat(proc, &st) < 0)
		return vl_fail(err, ESRCH, "there is no process %d", pid);
	if (st.st_uid != geteuid() && geteuid() != 0)
		return vl_fail(err, EPERM, "process %d is not yours", pid);
	*ret_proc = vl_steal_fd(&proc);
	*ret_pidfd = vl_steal_fd(&pidfd);
	return 0;
}

/* Words that end in NUL. A file of /proc has no size. */
static int read_words(int proc, const char *file, struct vl_strv *ret, struct vl_err *err)
{
	VL_CLOSE int fd = openat(proc, file, O_RDONLY | O_CLOEXEC);
	VL_BUF struct vl_buf b = { 0 };
	char piece[16384];
	ssize_t n = 0;

	while (fd >= 0 && b.len < ENVIRON_MAX && (n = read(fd, piece, sizeof piece)) > 0)
		vl_buf_add(&b, piece, (size_t)n);
	if (fd < 0 || n < 0)
		return vl_fail_sys(err, errno, "cannot read the environment of the process");
	for (size_t at = 0; at < b.len; at += strlen(b.data + at) + 1)
		vl_strv_add(ret, b.data + at);
	return 0;
}

static int open_door(struct target *t, struct vl_err *err)
{
	static const struct {
		enum ctr_way way;
		const char *name;
	} ways[] = {
		{ CTR_USER, "ns/user" }, { CTR_IPC, "ns/ipc" }, { CTR_UTS, "ns/uts" },
		{ CTR_NET, "ns/net" },   { CTR_PID, "ns/pid" }, { CTR_MNT, "ns/mnt" },
	};
	struct stat there, here;

	for (size_t i = 0; i < VL_COUNT(ways); i++) {
		t->door.fd[ways[i].way] = openat(t->proc, ways[i].name, O_RDONLY | O_CLOEXEC);
		if (t->door.fd[ways[i].way] < 0 && errno != ENOENT)
			return vl_fail_sys(err, errno, "cannot open %s of process %d", ways[i].name, t->pid);
	}
	t->door.fd[CTR_ROOT] = openat(t->proc, "root", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (t->door.fd[CTR_ROOT] < 0 || t->door.fd[CTR_MNT] < 0)
		return vl_fail_sys(err, errno, "cannot open the root directory of process %d", t->pid);
	if (fstat(t->door.fd[CTR_MNT], &there) == 0 && stat("/proc/self/ns/mnt", &here) == 0 &&
	    there.st_ino == here.st_ino)
		return vl_fail(err, EINVAL, "process %d is in no container, or in this one", t->pid);
	return 0;
}

/* The descriptors are of the process that had this pid when its directory was opened; is that the one that was meant? It
 * still lives, so the pid was nobody else's in between. */
static int still_there(const struct target *t, struct vl_err *err)
{
	struct pollfd p = { .fd = t->pidfd, .events = POLLIN };

	return poll(&p, 1, 0) == 0 ? 0 : vl_fail(err, ESRCH, "process %d has ended", t->pid);
}

static int take_process(pid_t pid, struct target *t, struct vl_err *err)
{
	char cwd[4096];
	int r;

	t->pid = pid;
	if ((r = open_proc(pid, &t->proc, &t->pidfd, err)) < 0 || (r = open_door(t, err)) < 0 ||
	    (r = read_words(t->proc, "environ", &t->env, err)) < 0)
		return r;
	ssize_t n = readlinkat(t->proc, "cwd", cwd, sizeof cwd - 1);
	if (n > 0 && *cwd == '/')
		t->cwd = vl_strndup(cwd, (size_t)n);
	return still_there(t, err);
}

/* Where it may be written to; without it, everything works but the limits. */
static void join_cgroup(const struct cmd_ctx *c, const struct target *t)
{
	VL_STRV struct vl_strv words = { 0 };
	struct vl_err none;

	if (read_words(t->proc, "cgroup", &words, &none) < 0 || !words.n)
		return;
	const char *line = vl_prefix(words.v[0], "0::");
	if (!line && (line = strstr(words.v[0], "\n0::")))
		line += strlen("\n0::");
	if (!line)
		return;
	VL_FREE char *path = vl_asprintf("/sys/fs/cgroup%.*s/cgroup.procs", (int)strcspn(line, "\n"), line);
	VL_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "0", 1) != 1)
		vl_logf(&c->log, VL_VERBOSE, "not in the cgroup of process %d: %s: %s", t->pid, path, strerror(errno));
}

/* Of its container: who owns the user namespace, and in one of root's, who the process is. Not who owns the directory in
 * /proc: that is root's for a process that may not be dumped. */
static int owner_of(const struct target *t, uid_t *ret_uid, gid_t *ret_gid, struct vl_err *err)
{
	VL_STRV struct vl_strv words = { 0 };
	int r = read_words(t->proc, "status", &words, err);
	const char *uid = r == 0 && words.n ? strstr(words.v[0], "\nUid:") : NULL,
		   *gid = uid ? strstr(uid, "\nGid:") : NULL;
	uid_t owner = 0;

	/* real and effective; a kernel without user namespaces has no owners of them */
	if (!gid || sscanf(uid, "\nUid: %*u %u", ret_uid) != 1 || sscanf(gid, "\nGid: %*u %u", ret_gid) != 1)
		return vl_fail(err, ESRCH, "process %d has ended", t->pid);
	if (t->door.fd[CTR_USER] >= 0 && ioctl(t->door.fd[CTR_USER], NS_GET_OWNER_UID, &owner) < 0)
		return vl_fail_sys(err, errno, "cannot tell whose container process %d is in", t->pid);
	if (owner)
		*ret_uid = owner;
	return 0;
}

/* The shell in there, and what its environment has loaded, are another user's: with root's uid they would act as root on
 * all that the namespaces share with the host. So root becomes that user, for good. */
static int become_owner(const struct target *t, struct vl_err *err)
{
	uid_t uid;
	gid_t gid;
	int r;

	if (geteuid() != 0)
		return 0;
	if ((r = owner_of(t, &uid, &gid, err)) < 0 || uid == 0)
		return r;
	const struct passwd *pw = getpwuid(uid);
	if ((pw ? initgroups(pw->pw_name, pw->pw_gid) : setgroups(0, NULL)) < 0 || setgid(pw ? pw->pw_gid : gid) < 0 ||
	    setuid(uid) < 0)
		return vl_fail_sys(err, errno, "cannot become user %u, whose container process %d is in", uid, t->pid);
	return 0;
}

/* ---- a Slurm job -------------------------------------------------------------------------------- */

static const char *value_of(const struct vl_strv *env, const char *key)
{
	for (size_t i = 0; i < env->n; i++) {
		const char *v = vl_prefix(env->v[i], key);
		if (v)
			return v;
	}
	return NULL;
}

static bool is_of_job(const struct target *t, const char *job, const char *step)
{
	const char *j = value_of(&t->env, "SLURM_JOB_ID="), *s = value_of(&t->env, "SLURM_STEP_ID=");

	return j && vl_streq(j, job) && (!step || (s && vl_streq(s, step)));
}

/* The first of the caller's processes of that job that is in a container. */
static int find_job(const char *word, struct target *ret, struct vl_err *err)
{
	const char *dot = strchr(word, '.'), *step = dot ? dot + 1 : NULL;
	VL_FREE char *job = vl_strndup(word, dot ? (size_t)(dot - word) : strlen(word));
	DIR *d = opendir("/proc");
	struct vl_err none;
	bool seen = false, found = false;
	uint64_t pid;

	for (const struct dirent *e; !found && d && (e = readdir(d));) {
		struct target t = TARGET_INIT;
		if (vl_parse_u64(e->d_name, 1, INT32_MAX, &pid) < 0)
			continue;
		int r = take_process((pid_t)pid, &t, &none);
		if (r == -EINVAL && read_words(t.proc, "environ", &t.env, &none) == 0)
			seen |= is_of_job(&t, job, step);
		found = r == 0 && is_of_job(&t, job, step);
		if (found)
			*ret = t;
		else
			target_free(&t);
	}
	if (d)
		closedir(d);
	if (found)
		return 0;
	return seen ? vl_fail(err, ESRCH, "no process of job %s on this node is in a container", word)
		    : vl_fail(err, ESRCH, "you have no process of job %s on this node", word);
}

/* ---- all ---------------------------------------------------------------------------------------- */

static int enter(struct cmd_ctx *c, struct plan *p, const struct target *t, const struct vl_strv *env, int argc,
		 char **argv)
{
	struct vl_progress say = cmd_action_say(c);
	struct vl_err err = { 0 };
	int status = 0;

	p->action = argc ? PLAN_EXEC : PLAN_SHELL;
	for (int i = 0; i < argc; i++)
		vl_strv_add(&p->argv, argv[i]);
	if (t->cwd)
		vl_strv_add(&p->cwd, t->cwd);
	if (c->profile == PROFILE_APPTAINER)
		p->status_missing = p->status_denied = EXIT_OWN_COMPAT;
	int r = ctr_run_inside(p, &t->door, env, &say, &status, &err);
	return cmd_action_failed(c, p->action, r, status, &err);
}

static int attach_instance(struct cmd_ctx *c, int argc, char **argv)
{
	struct action_opts o = { 0 };

	if (!argc)
		return cmd_usage(c, "attach instance needs a NAME");
	return cmd_start_inside(c, &o, argc > 1 ? PLAN_EXEC : PLAN_SHELL, argv[0], argc - 1, argv + 1);
}

int cmd_attach_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	VL_CLEANUP(target_free) struct target t = TARGET_INIT;
	PLAN struct plan p = PLAN_INIT;
	const char *word = argv[0], *job = vl_prefix(word, "job:");
	struct vl_err err = { 0 };
	uint64_t pid;
	int r;

	(void)self, (void)opts;
	if (vl_streq(word, "instance"))
		return attach_instance(c, argc - 1, argv + 1);
	if (!job && vl_parse_u64(word, 1, INT32_MAX, &pid) == 0)
		r = take_process((pid_t)pid, &t, &err);
	else
		r = -ESRCH;
	if (!job && r == -ESRCH && strspn(word, "0123456789") > 0)
		job = word; /* there is no such process, so it is a job */
	if (job) {
		target_free(&t);
		err = (struct vl_err){ 0 };
		r = find_job(job, &t, &err);
	} else if (r == -ESRCH) {
		return cmd_usage(c, "attach takes a pid, a job's number, or instance NAME; not '%s'", word);
	}
	if (r < 0)
		return cmd_action_failed(c, PLAN_EXEC, r, 0, &err);
	join_cgroup(c, &t);
	if ((r = become_owner(&t, &err)) < 0)
		return cmd_action_failed(c, PLAN_EXEC, r, 0, &err);
	p.image_path = vl_asprintf("the container of process %d", t.pid);
	return enter(c, &p, &t, &t.env, argc - 1, argv + 1);
}
