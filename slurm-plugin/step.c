/* One container per node and step. The first task makes the keeper, all tasks enter what it keeps; one user namespace, so
 * that ranks reach each other's memory. Everything that can fail because of the user happens in a task, as the user, where
 * failing is this step's affair and not the node's. */
#include "plugin.h"

#include "../rootless/emulate.h"

#include <vial/rootless.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define ENTER_MS 60000 /* a container that is there answers at once; a node that swaps, later */
#define LOCK_MORE 30   /* seconds: who waits for the one that waits gives up after it */
#define END_MS 5000    /* for the keeper to go */
#define RECORD_S 10    /* for a line to be added to a file */

enum state { NOT_YET, THERE, FAILED };
struct shared {               /* by the tasks, which are forks of one process */
	pthread_mutex_t lock; /* robust: a task may be killed with it */
	enum state state;
	bool begun, told; /* by whoever came first; atomic */
	pid_t keeper;
	char cwd[4096]; /* of the tasks: what they name is relative to it */
	char image[4096];
	char claims[1024];                 /* of the image, see CTR_CLAIMS */
	long long image_size, image_mtime; /* as a task found them */
	struct vl_err why;
};
/* Ends of two pairs. On the first one is asked: when all copies of the tasks' end are closed, the keeper goes, and one of
 * them is slurmstepd's; when all of the keeper's end are, who asks knows that there is none. The second has no other use
 * than to be open in tasks that wait: slurmstepd would not notice before the end of all output that they are dead, and a
 * keeper that still prepares has the step's stderr. So each process closes early what it has no use for. */
struct vsp_step {
	struct shared *shared;
	int tasks, keepers;
	int waiting, wanted;
	pid_t watch;    /* see vsp_step_watch */
	uint32_t ended; /* tasks; the signal that ended one, and the highest status */
	int signal, status;
	time_t since;
};

struct vsp_step *vsp_step_new(void)
{
	struct vl_err err = { 0 };
	pthread_mutexattr_t a;
	int pair[2], wait[2];

	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return NULL;
	if (vl_msg_pair(pair, &err) < 0 || vl_msg_pair(wait, &err) < 0) {
		munmap(shared, sizeof *shared);
		return NULL;
	}
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&shared->lock, &a);
	pthread_mutexattr_destroy(&a);
	struct vsp_step *s = vl_alloc(sizeof *s);
	*s = (struct vsp_step){ .shared = shared,
				.tasks = vl_move_fd_above_stdio(pair[0]),
				.keepers = vl_move_fd_above_stdio(pair[1]),
				.waiting = vl_move_fd_above_stdio(wait[0]),
				.wanted = vl_move_fd_above_stdio(wait[1]),
				.since = time(NULL) };
	return s;
}

void vsp_step_forked(struct vsp_step *s)
{
	vl_closep(&s->keepers);
	vl_closep(&s->wanted);
	vl_closep(&s->waiting);
}

/* A process of the tasks' process group, which is what proctrack/pgid ends a step by. (The cgroup has the keeper, and what
 * is slurmstepd's child proctrack/linuxproc finds.) Nothing short of SIGKILL ends it: other signals are the tasks' affair. */
void vsp_step_watch(struct vsp_step *s, pid_t task)
{
	pid_t pid = s->watch ? -1 : fork();

	if (pid == 0) {
		sigset_t all;
		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NAME, "vial-watch"); /* what has slurmstepd's name is passed over */
		vl_close_all_but(NULL, 0);
		setpgid(0, getpgid(task));
		for (;;)
			pause();
	}
	if (pid > 0)
		s->watch = pid;
}

static void end_watch(struct vsp_step *s)
{
	if (s->watch > 0) {
		kill(s->watch, SIGKILL);
		vl_wait(s->watch);
	}
	s->watch = 0;
}

bool vsp_step_tells(struct vsp_step *s)
{
	return !s || !__atomic_exchange_n(&s->shared->told, true, __ATOMIC_ACQ_REL);
}

/* ---- the keeper --------------------------------------------------------------------------------- */

struct keeper {
	const struct vsp_task *t;
	const struct vsp_step *step;
	struct vl_strv argv, env;
};

static const char *find(char *const *env, const char *name, size_t n)
{
	for (; *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env;
	return NULL;
}

/* Where the MPI of the image looks for its server's files. They lie in slurmd's spool directory. */
static void add_server_files(const struct keeper *k, struct vl_strv *v)
{
	static const char *const names[] = { "PMIX_SERVER_TMPDIR" };

	for (size_t i = 0; i < VL_COUNT(names); i++) {
		const char *kv = find(k->t->environment, names[i], strlen(names[i]));
		const char *dir = kv ? strchr(kv, '=') + 1 : "";
		if (*dir != '/' || access(dir, F_OK) < 0)
			continue;
		vl_strv_add(v, "--bind");
		vl_strv_add(v, dir);
	}
}

/* Which directory it is on this node, of those that the user's jobs have. */
static void add_name(const struct vsp_task *t, struct vl_strv *v)
{
	const char *node = find(t->environment, "SLURMD_NODENAME", 15);

	if (!t->options->value[VSP_NAME])
		return;
	VL_FREE char *job = vsp_job_word(t->job, node ? node + 16 : NULL);
	vl_strv_take(v, vl_asprintf("--named=%s", t->options->value[VSP_NAME]));
	vl_strv_take(v, vl_asprintf("--job-dir=%s", t->site->names));
	vl_strv_take(v, vl_asprintf("--job=%s", job));
}

static int make_argv(struct keeper *k, struct vl_err *err)
{
	struct vl_strv *v = &k->argv;

	vl_strv_add(v, k->t->site->vial);
	vl_strv_add(v, "--quiet");
	vl_strv_add(v, "hold");
	vl_strv_add(v, "--fd");
	vl_strv_take(v, vl_asprintf("%d", k->step->keepers));
	vl_strv_add(v, "--wanted");
	vl_strv_take(v, vl_asprintf("%d", k->step->wanted));
	int r = vsp_options_words(k->t->site, k->t->options, v, err);
	add_name(k->t, v);
	if (k->t->site->records || k->t->options->value[VSP_RECORD])
		vl_strv_add(v, "--claims");
	add_server_files(k, v);
	if (k->t->script) { /* slurmd's copy, in its spool directory */
		vl_strv_add(v, "--bind");
		vl_strv_take(v, vl_asprintf("%s::ro", k->t->script));
	}
	vl_strv_add(v, "--");
	vl_strv_take(v, k->t->options->value[VSP_IMAGE] ? vsp_image_name(k->t->options->value[VSP_IMAGE])
							: vl_strdup("-")); /* that of the name */
	return r;
}

/* What has the dynamic linker load code is for the job's programs. What keeps the site's policy gets it by another name, as a
 * word of the container's environment. */
static bool loads_code(const char *kv)
{
	return vl_prefix(kv, "LD_") || vl_prefix(kv, "GCONV_PATH=") || vl_prefix(kv, "GLIBC_TUNABLES=");
}

/* The job's, and once more those that are stronger than the image. */
static void make_environment(struct keeper *k)
{
	const char *list = k->t->options->value[VSP_ENV] ? k->t->options->value[VSP_ENV] : "";

	for (char *const *e = k->t->environment; *e; e++)
		vl_strv_take(&k->env, vl_asprintf("%s%s", loads_code(*e) ? CTR_JOB_ENV : "", *e));
	while (*list) {
		size_t n = strcspn(list, ",");
		const char *kv = n ? find(k->t->environment, list, n) : NULL;
		if (kv)
			vl_strv_take(&k->env, vl_asprintf("VIALENV_%s", kv));
		list += n + (list[n] == ',');
	}
}

/* Not a child of slurmstepd, which would wait for it, nor in a session of the task's. */
static void become_keeper(void *arg)
{
	const struct keeper *k = arg;

	vl_reset_signals(); /* slurmstepd blocks most of them */
	int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		(void)!write(score, "0", 1); /* slurmstepd's own -1000 is not for us */
		close(score);
	}
	fcntl(k->step->keepers, F_SETFD, 0); /* not close-on-exec: the program's ends */
	fcntl(k->step->wanted, F_SETFD, 0);  /* not close-on-exec: see above */
	k->step->shared->keeper = getpid();
	execve(k->t->site->vial, k->argv.v, k->env.v);
	struct vl_err err = { 0 };
	vl_fail_sys(&err, errno, "cannot run %s; the site's plugstack.conf names it", k->t->site->vial);
	vl_msg_send_err(k->step->keepers, &err);
}

/* What goes wrong here is said where it is asked for, as by the keeper itself. */
static void start_keeper(struct vsp_step *s, const struct vsp_task *t)
{
	struct keeper k = { .t = t, .step = s };
	struct vl_err err = { 0 };
	pid_t wait = 0;

	int r = make_argv(&k, &err);
	if (r == 0) {
		make_environment(&k);
		r = vl_start_apart(become_keeper, &k, &wait);
		if (r < 0)
			vl_fail_sys(&err, -r, "cannot start a process");
		else if (wait > 0)
			vl_wait(wait);
	}
	if (r < 0)
		vl_msg_send_err(s->keepers, &err);
	vl_strv_free(&k.argv);
	vl_strv_free(&k.env);
}

/* ---- in a task ---------------------------------------------------------------------------------- */

static int lock(struct shared *s, long seconds)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	int r = pthread_mutex_timedlock(&s->lock, &until);
	if (r == EOWNERDEAD) /* killed meanwhile; what it began counts for nothing */
		r = pthread_mutex_consistent(&s->lock);
	return -r;
}

/* At the end of the step nobody hears any more what a record lacks. */
static int check_record(const char *path, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot write the record %s", path);
	return S_ISREG(st.st_mode) ? 0 : vl_fail(err, EINVAL, "the record %s is not a file", path);
}

/* The first one starts the keeper; one at a time waits for it, as long as it takes. */
static int make_sure(struct vsp_step *s, const struct vsp_task *t, struct vl_err *err)
{
	const struct vsp_site *site = t->site;
	CTR_DOOR struct ctr_door door = CTR_DOOR_INIT;
	VL_STRV struct vl_strv changes = { 0 };

	if (!__atomic_exchange_n(&s->shared->begun, true, __ATOMIC_ACQ_REL))
		start_keeper(s, t);
	vl_closep(&s->keepers);
	vl_closep(&s->wanted);
	int r = lock(s->shared, site->timeout + LOCK_MORE);
	if (r < 0)
		return vl_fail(err, ETIMEDOUT, "the container was not ready within %ld seconds", site->timeout);
	if (s->shared->state == NOT_YET) {
		r = ctr_door_ask(s->tasks, (int)site->timeout * 1000, &door, &changes, err);
		if (r == -ETIMEDOUT)
			r = vl_fail(err, ETIMEDOUT, "the container was not ready within %ld seconds", site->timeout);
		if (r < 0 && s->shared->keeper > 0)
			kill(-s->shared->keeper, SIGKILL); /* a program of the image's that hangs has our stderr */
		s->shared->why = *err;
		s->shared->state = r < 0 ? FAILED : THERE;
	} else if (s->shared->state == FAILED) {
		*err = s->shared->why;
		r = -err->code;
	}
	pthread_mutex_unlock(&s->shared->lock);
	return r;
}

/* For the record, and for no task's environment. */
static void take_claims(struct shared *s, struct vl_strv *changes)
{
	size_t kept = 0;

	for (size_t i = 0; i < changes->n; i++) {
		const char *claims = vl_prefix(changes->v[i], CTR_CLAIMS "=");
		if (!claims) {
			changes->v[kept++] = changes->v[i];
			continue;
		}
		if (!*s->claims)
			snprintf(s->claims, sizeof s->claims, "%s", claims);
		free(changes->v[i]);
	}
	changes->n = kept;
	if (changes->v)
		changes->v[kept] = NULL;
}

/* For the record: which file it is, looked at from outside. The first task that comes by. */
static void note_image(struct shared *s, const struct vl_strv *changes)
{
	const char *path = NULL;
	struct stat st;

	for (size_t i = 0; i < changes->n && !path; i++)
		path = vl_prefix(changes->v[i], "APPTAINER_CONTAINER=");
	if (!path || *s->image)
		return;
	if (stat(path, &st) == 0) {
		s->image_size = st.st_size;
		s->image_mtime = st.st_mtime;
	}
	snprintf(s->image, sizeof s->image, "%s", path);
}

static int enter_cwd(const char *workdir, const char *cwd, const char *home, struct vl_strv *changes,
		     struct vl_err *err)
{
	const char *dirs[] = { cwd, home ? home : "/", "/" };

	if (workdir && chdir(workdir) < 0)
		return vl_fail_sys(err, errno, "cannot enter the working directory %s", workdir);
	for (size_t i = 0; i < VL_COUNT(dirs) && !workdir; i++)
		if (dirs[i] && chdir(dirs[i]) == 0)
			break;
	VL_FREE char *now = getcwd(NULL, 0);
	vl_strv_take(changes, vl_asprintf("PWD=%s", now ? now : "/"));
	return 0;
}

/* While a task waits, who cancels the step must be able to end it. Slurm blocks signals until the program runs, and some of
 * its process trackers pass over what has slurmstepd's name. */
struct as_usual {
	sigset_t mask;
	char name[16];
};

static void let_be_ended(struct as_usual *ret)
{
	sigset_t end;

	prctl(PR_GET_NAME, ret->name);
	prctl(PR_SET_NAME, "vial-waits");
	sigemptyset(&end);
	sigaddset(&end, SIGTERM);
	sigaddset(&end, SIGINT);
	sigprocmask(SIG_UNBLOCK, &end, &ret->mask);
}

static void be_as_usual(const struct as_usual *was)
{
	sigprocmask(SIG_SETMASK, &was->mask, NULL);
	prctl(PR_SET_NAME, was->name);
}

/* Is root the only id that there is? In the container. */
static bool is_alone(void)
{
	char map[64];
	VL_CLOSE int fd = open("/proc/self/uid_map", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, map, sizeof map - 1);
	unsigned inside = 1, outside, count = 0;

	if (n <= 0)
		return false;
	map[n] = 0;
	return sscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && count == 1 &&
	       strchr(map, '\n') == map + n - 1;
}

/* The last of it: no more rights than `vial exec` leaves a program, and what root expects to work where it cannot. */
static int become_usual(bool root, struct vl_err *err)
{
	VL_CLEANUP(ctr_emulation_free) struct ctr_emulation ids = CTR_EMULATION_INIT;
	struct plan self = { .user = { .uid = geteuid() } };
	bool alone = root && is_alone();
	int r = alone ? ctr_emulation_start(&ids, err) : 0;

	/* false: this root may be one by chroot alone, out of which a second one leads */
	if (r == 0)
		r = ctr_reduce_caps(&self, false, err);
	return r == 0 && alone ? ctr_emulation_enter(&ids, err) : r;
}

int vsp_step_enter(struct vsp_step *s, const struct vsp_task *t, struct vl_strv *ret_changes, struct vl_err *err)
{
	CTR_DOOR struct ctr_door door = CTR_DOOR_INIT;
	VL_FREE char *cwd = getcwd(NULL, 0);
	const char *home = find(t->environment, "HOME", 4);
	bool pid = false;

	struct as_usual before;

	if (t->options->value[VSP_SAVE] && t->nodes > 1)
		return vl_fail(err, EINVAL,
			       "save: the step has %u nodes, each with a container of its own; save one of a "
			       "step on one node (-N 1)",
			       t->nodes);
	snprintf(s->shared->cwd, sizeof s->shared->cwd, "%s", cwd ? cwd : "/");
	if (t->first && t->options->value[VSP_RECORD] && check_record(t->options->value[VSP_RECORD], err) < 0)
		return -err->code;
	let_be_ended(&before);
	int r = make_sure(s, t, err);
	be_as_usual(&before);
	if (r == 0)
		r = ctr_door_ask(s->tasks, ENTER_MS, &door, ret_changes, err);
	if (r == 0) {
		note_image(s->shared, ret_changes);
		take_claims(s->shared, ret_changes);
	}
	if (r == 0)
		r = ctr_enter(&door, &pid, err);
	if (r == 0)
		r = ctr_narrow_devices(t->environment, ret_changes, err);
	if (r == 0)
		r = enter_cwd(t->options->value[VSP_WORKDIR], cwd, home ? home + 5 : NULL, ret_changes, err);
	return r < 0 ? r : become_usual(t->options->value[VSP_REMAP_ROOT], err);
}

/* ---- the end of a task ----------------------------------------------------------------------------- */

static int save(struct vsp_step *s, const struct vsp_site *site, const char *path, const struct vsp_user *u,
		struct vl_err *err)
{
	VL_FREE char *out = vl_asprintf("--save=%s", path), *fd = vl_asprintf("--fd=%d", VSP_SOCK);
	VL_FREE char *cwd = vl_strndup(s->shared->cwd, sizeof s->shared->cwd);
	char *argv[] = { (char *)site->vial, (char *)"--quiet", (char *)"hold", fd, out, (char *)"-", NULL };
	VL_CLOSE int keeper = s->shared->keeper > 0 ? (int)syscall(SYS_pidfd_open, s->shared->keeper, 0) : -1;
	VL_CLOSE int watch = s->watch > 0 ? (int)syscall(SYS_pidfd_open, s->watch, 0) : -1;
	struct vsp_run run = {
		.cwd = cwd, .in = -1, .sock = s->tasks, .seconds = (int)site->timeout, .until = { keeper, watch }
	};
	int status = vsp_run_as(u, &run, argv);

	if (status == -ECANCELED)
		return vl_fail(err, ECANCELED, "the container is not saved to %s: the step was ended meanwhile", path);
	if (status == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "the container is not saved to %s: that took longer than %ld seconds",
			       path, site->timeout);
	return status ? vl_fail(err, EIO, "the container is not saved to %s (status %d)", path, status) : 0;
}

int vsp_step_task_ended(struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o, int status,
			uint32_t n, const struct vsp_user *u, struct vl_err *err)
{
	const char *path = o->value[VSP_SAVE];

	if (WIFSIGNALED(status))
		s->signal = WTERMSIG(status);
	else if (WEXITSTATUS(status) > s->status)
		s->status = WEXITSTATUS(status);
	if (++s->ended < n || !path)
		return 0;
	if (s->shared->state != THERE) {
		end_watch(s);
		return 0;
	}
	int r = s->signal ? vl_fail(err, EINTR, "the container is not saved to %s: a task was ended by signal %d", path,
				    s->signal) /* who is killed has not finished what it did */
			  : save(s, site, path, u, err);
	end_watch(s);
	return r;
}

/* ---- the record ----------------------------------------------------------------------------------- */

static void add_fact(int fd, const char *key, const char *value)
{
	VL_FREE char *kv = vl_asprintf("%s=%s", key, value ? value : "");

	if (value)
		(void)!write(fd, kv, strlen(kv) + 1);
}

static void add_count(int fd, const char *key, long long value)
{
	VL_FREE char *text = vl_asprintf("%lld", value);

	add_fact(fd, key, text);
}

static void add_list(int fd, const char *key, const char *list)
{
	while (list && *list) {
		size_t n = strcspn(list, ",");
		VL_FREE char *word = vl_strndup(list, n);
		add_fact(fd, key, word);
		list += n + (list[n] == ',');
	}
}

static void add_claims(int fd, const struct shared *s)
{
	VL_FREE char *claims = vl_strndup(s->claims, sizeof s->claims); /* tasks could write there */
	char *signers = strchr(claims, ',');

	if (signers)
		*signers++ = 0;
	add_fact(fd, "digest", *claims ? claims : NULL);
	add_list(fd, "claimed_signers", signers);
}

static void add_step(int fd, uint32_t step)
{
	VL_FREE char *number = vl_asprintf("%u", step);

	add_fact(fd, "step", step == 0xfffffffb ? "batch" : step == 0xfffffffa ? "interactive" : number);
}

static void write_facts(int fd, const struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
			const struct vsp_user *u, const struct vsp_facts *f)
{
	VL_FREE char *image = vl_strndup(s->shared->image, sizeof s->shared->image); /* tasks could write there */

	add_count(fd, "job", f->job);
	add_step(fd, f->step);
	add_fact(fd, "node", f->node);
	add_fact(fd, "nodes", f->nodes);
	add_count(fd, "uid", u->uid);
	add_count(fd, "gid", u->gid);
	add_fact(fd, "image", *image ? image : o->value[VSP_IMAGE]);
	if (*image) {
		add_count(fd, "image_size", s->shared->image_size);
		add_count(fd, "image_mtime", s->shared->image_mtime);
	}
	add_claims(fd, s->shared);
	add_fact(fd, "name", o->value[VSP_NAME]);
	add_fact(fd, "gpus", f->gpus);
	add_count(fd, "tasks", s->ended);
	add_count(fd, "exit", s->shared->state == THERE ? s->status : 1);
	add_count(fd, "signal", s->signal);
	add_count(fd, "start", s->since);
	add_count(fd, "end", time(NULL));
	/* these can be longer than a record may be: the last words are those that it lacks */
	add_list(fd, "mounts", site->mounts);
	add_list(fd, "mounts", o->value[VSP_MOUNTS]);
	for (int i = 0; i < f->argc; i++)
		add_fact(fd, "command", f->argv[i]);
}

static int record(int facts, const struct vsp_user *u, const char *vial, const char *cwd, const char *file,
		  struct vl_err *err)
{
	VL_FREE char *word = vl_asprintf("--record=%s", file);
	char *argv[] = { (char *)vial, (char *)"--quiet", (char *)"hold", word, (char *)"-", NULL };

	lseek(facts, 0, SEEK_SET);
	int status = vsp_run_as(
		u, &(struct vsp_run){ .cwd = cwd, .in = facts, .sock = -1, .seconds = RECORD_S, .until = { -1, -1 } },
		argv);
	if (status == -ETIMEDOUT)
		return vl_fail(err, ETIMEDOUT, "no record is added to %s: it takes longer than %d seconds", file,
			       RECORD_S);
	return status ? vl_fail(err, EIO, "no record is added to %s (status %d)", file, status) : 0;
}

void vsp_step_record(const struct vsp_step *s, const struct vsp_site *site, const struct vsp_options *o,
		     const struct vsp_user *u, const struct vsp_facts *f, struct vl_err *err)
{
	const char *wish = f->node_id == 0 ? o->value[VSP_RECORD] : NULL; /* of one node: they share the file */
	VL_CLOSE int facts = site->records || wish ? memfd_create("facts", MFD_CLOEXEC) : -1;

	if (facts < 0)
		return;
	write_facts(facts, s, site, o, u, f);
	if (site->records) { /* a file for each node: appending is safe on one machine only */
		VL_FREE char *file = vl_asprintf("%s/%s.jsonl", site->records, f->node ? f->node : "node");
		record(facts, &(struct vsp_user){ 0 }, site->vial, "/", file, err);
	}
	VL_FREE char *cwd = vl_strndup(s->shared->cwd, sizeof s->shared->cwd);
	if (wish)
		record(facts, u, site->vial, cwd, wish, err);
}

/* ---- the end ------------------------------------------------------------------------------------ */

void vsp_step_end(struct vsp_step *s)
{
	int fd = s->shared->keeper > 0 ? (int)syscall(SYS_pidfd_open, s->shared->keeper, 0) : -1;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	end_watch(s);
	vsp_step_forked(s);
	vl_closep(&s->tasks);
	if (fd >= 0) /* in its cgroup nothing may be left when slurmstepd ends */
		poll(&p, 1, END_MS);
	vl_closep(&fd);
	munmap(s->shared, sizeof *s->shared);
	free(s);
}
