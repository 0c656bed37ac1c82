/* In a task, as the user: it waits for the container and enters it. Everything that can fail because of the user happens
 * here, where failing is this step's affair and not the node's. */
#include "step.h"

#include "../rootless/emulate.h"

#include <vial/rootless.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#define ENTER_MS 60000 /* a container that is there answers at once; a node that swaps, later */
#define N_DIRS 4       /* where a task may start */
#define LOCK_MORE 30   /* seconds: who waits for the one that waits gives up after it */

/* What the keeper answers a task. */
struct way {
	bool known;
	struct ctr_door door;
	struct vl_strv *changes; /* not owned; to the environment */
};

static void free_way(struct way *w)
{
	ctr_door_free(&w->door);
}

/* ---- what can be known before ------------------------------------------------------------------- */

/* At the end of the step nobody hears any more what a record lacks. */
static int check_record(const char *path, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd < 0 || fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot write the record %s", path);
	return S_ISREG(st.st_mode) ? 0 : vl_fail(err, EINVAL, "the record %s is not a file", path);
}

/* Nor is it heard by the tasks that what they have made cannot be saved. */
static int check_save(const char *path, struct vl_err *err)
{
	const char *slash = strrchr(path, '/');
	VL_FREE char *dir = slash ? vl_strndup(path, slash == path ? 1 : (size_t)(slash - path)) : vl_strdup(".");
	struct stat st;

	if (lstat(path, &st) < 0 && errno != ENOENT)
		return vl_fail_sys(err, errno, "save: cannot write %s", path);
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "save: %s is there, and is not a file", path);
	if (access(dir, W_OK | X_OK) < 0)
		return vl_fail_sys(err, errno, "save: cannot write to the directory of %s", path);
	if (lstat(path, &st) == 0 && st.st_uid != geteuid() && stat(dir, &st) == 0 && st.st_mode & S_ISVTX &&
	    st.st_uid != geteuid())
		return vl_fail(err, EPERM, "save: %s is another user's, and nobody else may replace it there", path);
	return 0;
}

static int check_request(const struct vsp_task *t, struct vl_err *err)
{
	const char *record = t->options->value[VSP_RECORD], *save = t->options->value[VSP_SAVE];
	int r = 0;

	if (save && t->nodes > 1)
		return vl_fail(err, EINVAL,
			       "save: the step has %u nodes, each with a container of its own; save one of a "
			       "step on one node (-N 1)",
			       t->nodes);
	if (save)
		r = check_save(save, err);
	return r == 0 && t->first && record ? check_record(record, err) : r;
}

/* A kill -9 of slurmstepd is the end of its tasks, which nobody would end any more. */
static void end_with_step(const struct vsp_step *s)
{
	if (!s->stepd || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return;
	pid_t parent = getppid();         /* 0: it is outside of this pid namespace */
	if (parent && parent != s->stepd) /* it was killed before that */
		raise(SIGKILL);
}

/* ---- waiting for the container ------------------------------------------------------------------ */

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

static int lock(struct vsp_shared *s, long seconds)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	int r = pthread_mutex_timedlock(&s->lock, &until);
	if (r == EOWNERDEAD) /* killed meanwhile; what it began counts for nothing */
		r = pthread_mutex_consistent(&s->lock);
	return -r;
}

static int not_ready(long seconds, struct vl_err *err)
{
	return vl_fail(err, ETIMEDOUT, "the container was not ready within %ld seconds", seconds);
}

/* With the lock: one task asks the keeper, as long as it takes, and notes for the others that there is an answer. With its
 * own it goes on, and does not stand in line with them again: Slurm counts from the first task that ends. */
static void ask(const struct vsp_step *s, long seconds, struct way *ret)
{
	struct vsp_shared *shared = s->shared;
	struct vl_err err = { 0 };
	int r = ctr_door_ask(s->tasks, (int)seconds * 1000, &ret->door, ret->changes, &err);

	ret->known = r == 0;
	if (r == -ETIMEDOUT)
		r = not_ready(seconds, &err);
	if (r < 0 && shared->keeper > 0)
		kill(-shared->keeper, SIGKILL); /* a program of the image's that hangs has our stderr */
	shared->why = err;
	shared->state = r < 0 ? VSP_FAILED : VSP_THERE;
}

/* The first one starts the keeper; one at a time waits for it. */
static int make_sure(struct vsp_step *s, const struct vsp_task *t, struct way *ret, struct vl_err *err)
{
	struct vsp_shared *shared = s->shared;
	long seconds = t->site->timeout;

	if (!__atomic_exchange_n(&shared->begun, true, __ATOMIC_ACQ_REL))
		vsp_keeper_start(s, t);
	vl_closep(&s->keepers);
	vl_closep(&s->wanted);
	if (lock(shared, seconds + LOCK_MORE) < 0)
		return not_ready(seconds, err);
	if (shared->state == VSP_NOT_YET)
		ask(s, seconds, ret);
	int r = shared->state == VSP_FAILED ? -shared->why.code : 0;
	if (r < 0)
		*err = shared->why;
	pthread_mutex_unlock(&shared->lock);
	return r;
}

static int wait_for_container(struct vsp_step *s, const struct vsp_task *t, struct way *ret, struct vl_err *err)
{
	struct as_usual before;

	let_be_ended(&before);
	int r = make_sure(s, t, ret, err);
	if (r == 0 && !ret->known)
		r = ctr_door_ask(s->tasks, ENTER_MS, &ret->door, ret->changes, err);
	be_as_usual(&before);
	return r;
}

/* ---- what the record is told -------------------------------------------------------------------- */

/* Out of what is for the tasks' environment: the value of what is for us alone. Returns new, or NULL. */
static char *take_change(struct vl_strv *changes, const char *key)
{
	size_t kept = 0, n = strlen(key);
	char *value = NULL;

	for (size_t i = 0; i < changes->n; i++) {
		if (strncmp(changes->v[i], key, n) != 0 || changes->v[i][n] != '=') {
			changes->v[kept++] = changes->v[i];
			continue;
		}
		if (!value)
			value = vl_strdup(changes->v[i] + n + 1);
		free(changes->v[i]);
	}
	changes->n = kept;
	if (changes->v)
		changes->v[kept] = NULL;
	return value;
}

static void note_claims(struct vsp_shared *s, struct vl_strv *changes)
{
	VL_FREE char *claims = take_change(changes, CTR_CLAIMS);

	if (claims && !*s->claims)
		snprintf(s->claims, sizeof s->claims, "%s", claims);
}

/* Which file it is, looked at from outside. The first task that comes by. */
static void note_image(struct vsp_shared *s, const struct vl_strv *changes)
{
	const char *path = changes->v ? vl_env_value(changes->v, "APPTAINER_CONTAINER") : NULL;
	struct stat st;

	if (!path || *s->image)
		return;
	if (stat(path, &st) == 0) {
		s->image_size = st.st_size;
		s->image_mtime = st.st_mtime;
	}
	snprintf(s->image, sizeof s->image, "%s", path);
}

/* ---- inside ------------------------------------------------------------------------------------- */

/* To the directory that was asked for, else to the first that is there. */
static int enter_cwd(const char *workdir, const char *const dirs[], struct vl_strv *changes, struct vl_err *err)
{
	if (workdir && chdir(workdir) < 0)
		return vl_fail_sys(err, errno, "cannot enter the working directory %s", workdir);
	for (size_t i = 0; i < N_DIRS && !workdir; i++)
		if (dirs[i] && chdir(dirs[i]) == 0)
			break;
	VL_FREE char *now = getcwd(NULL, 0);
	vl_strv_take(changes, vl_asprintf("PWD=%s", now ? now : "/"));
	return 0;
}

/* Is root the only id that there is? */
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

/* The keeper ends what is in the container if slurmstepd does not; this task's programs will be in another namespace. */
static void tell_own(int keeper)
{
	VL_CLOSE int mnt = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

	if (mnt >= 0)
		vl_msg_send_fd(keeper, mnt, NULL, 0);
}

static void warn_without(struct vsp_shared *s, const char *dir)
{
	if (!dir || access(dir, F_OK) == 0 || __atomic_exchange_n(&s->warned, true, __ATOMIC_ACQ_REL))
		return;
	dprintf(STDERR_FILENO,
		"WARNING: the files of this step's PMIx server, %s, are not shown in the container that it enters: an "
		"MPI will not find its server; start the first step of that container with --mpi=pmix too, or take "
		"another name\n",
		dir);
}

static int enter(struct vsp_step *s, const struct vsp_task *t, const char *cwd, const struct way *w, struct vl_err *err)
{
	struct vl_strv *changes = w->changes;
	/* asked outside; a container that an earlier step has made need not show it */
	const char *server = t->options->value[VSP_NAME] ? vsp_server_files(t) : NULL;
	bool pid = false, own = false;

	note_image(s->shared, changes);
	note_claims(s->shared, changes);
	VL_FREE char *workdir = take_change(changes, CTR_WORKDIR);
	free(take_change(changes, CTR_ASKED)); /* for other keepers */
	int r = ctr_enter(&w->door, &pid, err);
	if (r == 0)
		warn_without(s->shared, server);
	if (r == 0)
		r = ctr_narrow_devices(t->environment, changes, &own, err);
	if (r == 0 && own)
		tell_own(s->tasks);
	const char *dirs[N_DIRS] = { cwd, workdir, vl_env_value(t->environment, "HOME"), "/" };
	if (r == 0)
		r = enter_cwd(t->options->value[VSP_WORKDIR], dirs, changes, err);
	if (r == 0)
		r = become_usual(t->options->value[VSP_REMAP_ROOT], err);
	end_with_step(s); /* again: entering has undone it */
	return r;
}

int vsp_task_enter(struct vsp_step *s, const struct vsp_task *t, struct vl_strv *ret_changes, struct vl_err *err)
{
	VL_CLEANUP(free_way) struct way w = { .door = CTR_DOOR_INIT, .changes = ret_changes };
	VL_FREE char *cwd = getcwd(NULL, 0);

	end_with_step(s);
	snprintf(s->shared->cwd, sizeof s->shared->cwd, "%s", cwd ? cwd : "/");
	int r = check_request(t, err);
	if (r == 0)
		r = wait_for_container(s, t, &w, err);
	return r < 0 ? r : enter(s, t, cwd, &w, err);
}

bool vsp_task_tells(struct vsp_step *s)
{
	return !s || !__atomic_exchange_n(&s->shared->told, true, __ATOMIC_ACQ_REL);
}
