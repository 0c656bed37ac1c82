/* Limits, by a cgroup of the unified hierarchy. A plain user may make one where a part of the tree was delegated to
 * him: below the cgroup he is in, or below one further up. Neither is sure, so nothing here is a failure: a batch
 * system that keeps its tree for itself sets limits of its own.
 *
 * Only the program goes into the cgroup. Image server and holder serve other starts too, and the kernel's way to
 * keep a limit on memory is to kill. */
#include "rootless.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define PREFIX "vial-"
#define PERIOD_US 100000 /* cpu.max: the kernel's own default */
#define LINE_MAX_LEN 4096

/* ---- what is to be written ------------------------------------------------------------------ */

static void put(struct vl_strv *l, const char *file, uint64_t value)
{
	if (value)
		vl_strv_take(l, vl_asprintf("%s=%llu", file, (unsigned long long)value));
}

/* Of one scale to another: lo..hi to 1..10000. */
static uint64_t weight(uint64_t v, uint64_t lo, uint64_t hi)
{
	v = VL_MIN(VL_MAX(v, lo), hi);
	return 1 + (v - lo) * 9999 / (hi - lo);
}

static void put_swap(const struct plan_limits *l, struct vl_strv *ret)
{
	if (l->memory_swap == UINT64_MAX)
		vl_strv_add(ret, "memory.swap.max=max");
	else if (l->memory_swap >= l->memory && l->memory_swap) /* what is said is the sum of both */
		vl_strv_take(ret,
			     vl_asprintf("memory.swap.max=%llu", (unsigned long long)(l->memory_swap - l->memory)));
}

static void put_weights(const struct plan_limits *l, struct vl_strv *ret)
{
	struct stat st;
	uint64_t v;

	for (size_t i = 0; i < l->weights.n; i++) {
		const char *colon = strrchr(l->weights.v[i], ':');
		VL_FREE char *dev = colon ? vl_strndup(l->weights.v[i], (size_t)(colon - l->weights.v[i])) : NULL;
		if (dev && vl_parse_u64(colon + 1, 10, 1000, &v) == 0 && stat(dev, &st) == 0)
			vl_strv_take(ret, vl_asprintf("io.weight=%u:%u %llu", major(st.st_rdev), minor(st.st_rdev),
						      (unsigned long long)weight(v, 10, 1000)));
	}
}

void ctr_cgroup_files(const struct plan_limits *l, struct vl_strv *ret)
{
	for (size_t i = 0; i < l->raw.n; i++) /* first: what has a word of its own was said later */
		vl_strv_add(ret, l->raw.v[i]);
	put(ret, "memory.max", l->memory);
	put(ret, "memory.low", l->memory_reservation);
	put_swap(l, ret);
	put(ret, "pids.max", l->pids);
	if (l->cpus)
		vl_strv_take(ret, vl_asprintf("cpu.max=%.0f %d", strtod(l->cpus, NULL) * PERIOD_US, PERIOD_US));
	if (l->cpu_shares)
		put(ret, "cpu.weight", weight(l->cpu_shares, 2, 262144));
	if (l->cpuset_cpus)
		vl_strv_take(ret, vl_asprintf("cpuset.cpus=%s", l->cpuset_cpus));
	if (l->cpuset_mems)
		vl_strv_take(ret, vl_asprintf("cpuset.mems=%s", l->cpuset_mems));
	if (l->blkio_weight)
		put(ret, "io.weight", weight(l->blkio_weight, 10, 1000));
	put_weights(l, ret);
}

/* ---- one cgroup ----------------------------------------------------------------------------- */

static int write_at(int dir, const char *file, const char *text)
{
	VL_CLOSE int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static bool read_at(int dir, const char *file, char ret[LINE_MAX_LEN])
{
	VL_CLOSE int fd = openat(dir, file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, LINE_MAX_LEN - 1);

	ret[VL_MAX(n, 0)] = 0;
	return n >= 0;
}

static bool has_word(const char *words, const char *w)
{
	size_t n = strlen(w);

	for (; *words; words += strcspn(words, " \n"), words += strspn(words, " \n"))
		if (!strncmp(words, w, n) && strchr(" \n", words[n]))
			return true;
	return false;
}

/* The controller of "memory.max=1", NULL for what every cgroup has. Returns new. */
static char *controller_of(const char *setting)
{
	return vl_prefix(setting, "cgroup.") ? NULL : vl_strndup(setting, strcspn(setting, ".="));
}

/* ---- where ---------------------------------------------------------------------------------- */

struct place {
	char *mount;  /* of the unified hierarchy */
	char *path;   /* of our cgroup in it: "" or "/.." */
	int dir;      /* the cgroup that ours will be made in */
	bool emptied; /* we had to leave our own */
};

static void free_place(struct place *p)
{
	free(p->mount);
	free(p->path);
	vl_closep(&p->dir);
}

/* Fields of a line of mountinfo: .. root(3) place(4) .. - type .. */
static void find_mount(struct place *p, char **ret_root)
{
	char line[LINE_MAX_LEN], root[LINE_MAX_LEN], at[LINE_MAX_LEN];
	FILE *f = fopen("/proc/self/mountinfo", "re");

	while (f && !p->mount && fgets(line, sizeof line, f))
		if (strstr(line, " - cgroup2 ") && sscanf(line, "%*s %*s %*s %4095s %4095s", root, at) == 2) {
			p->mount = vl_strdup(at);
			*ret_root = vl_strdup(vl_streq(root, "/") ? "" : root);
		}
	if (f)
		fclose(f);
}

static bool find_self(struct place *p)
{
	VL_FREE char *root = NULL;
	char line[LINE_MAX_LEN];
	FILE *f = fopen("/proc/self/cgroup", "re");

	find_mount(p, &root);
	while (f && p->mount && fgets(line, sizeof line, f)) {
		const char *path = vl_prefix(line, "0::");
		path = path ? vl_prefix(path, root) : NULL;
		if (path)
			p->path = vl_strndup(vl_streq(path, "/\n") ? "" : path,
					     vl_streq(path, "/\n") ? 0 : strcspn(path, "\n"));
	}
	if (f)
		fclose(f);
	return p->path;
}

static bool only_us(int dir)
{
	char text[LINE_MAX_LEN];
	VL_FREE char *me = vl_asprintf("%d\n", getpid());

	return read_at(dir, "cgroup.procs", text) && vl_streq(text, me);
}

/* A cgroup that hands controllers down has no processes itself: if we are the only one, we can make room. */
static bool make_room(struct place *p, int dir)
{
	if (p->emptied || !only_us(dir) || (mkdirat(dir, PREFIX "caller", 0755) < 0 && errno != EEXIST))
		return false;
	p->emptied = write_at(dir, PREFIX "caller/cgroup.procs", "0") == 0;
	return p->emptied;
}

static bool hands_down(struct place *p, int dir, bool own, const char *controller)
{
	char text[LINE_MAX_LEN];
	VL_FREE char *add = vl_asprintf("+%s", controller);

	if (read_at(dir, "cgroup.subtree_control", text) && has_word(text, controller))
		return true;
	if (!read_at(dir, "cgroup.controllers", text) || !has_word(text, controller))
		return false;
	int r = write_at(dir, "cgroup.subtree_control", add);
	return r == 0 || (r == -EBUSY && own && make_room(p, dir) && write_at(dir, "cgroup.subtree_control", add) == 0);
}

/* The controllers that the settings need and the cgroup hands down: their number. *ret_lacks: the first other one. */
static size_t usable(struct place *p, int dir, bool own, const struct vl_strv *settings, char **ret_lacks)
{
	size_t n = 0;

	for (size_t i = 0; i < settings->n; i++) {
		VL_FREE char *c = controller_of(settings->v[i]);
		if (!c || hands_down(p, dir, own, c))
			n++;
		else if (!*ret_lacks)
			*ret_lacks = vl_steal(&c);
	}
	return n;
}

/* From our own cgroup upwards, the first one that may have children of ours with all controllers. A process may only
 * be moved by who may write to the cgroup that both places lie in, so all in between is ours too. */
static int find_place(struct place *p, const struct vl_strv *settings, struct vl_err *err)
{
	VL_FREE char *lacks = NULL, *path = NULL;

	if (!find_self(p))
		return vl_fail(err, ENOENT, "this system has no unified hierarchy of cgroups (version 2)");
	for (path = vl_strdup(p->path);; *strrchr(path, '/') = 0) {
		VL_FREE char *full = vl_asprintf("%s%s", p->mount, path);
		VL_CLOSE int dir = open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dir < 0 || faccessat(dir, "cgroup.procs", W_OK, AT_EACCESS) < 0 ||
		    faccessat(dir, ".", W_OK, AT_EACCESS) < 0)
			break;
		vl_freep(&lacks);
		if (usable(p, dir, vl_streq(path, p->path), settings, &lacks) == settings->n) {
			p->dir = vl_steal_fd(&dir);
			return 0;
		}
		if (!*path)
			break;
	}
	if (lacks)
		return vl_fail(
			err, ENOTSUP,
			"the cgroup %s%s does not hand down the controller %s: it belongs to cgroups of version 1 "
			"here, or other processes are in the way (as in: systemd-run --user --scope -p Delegate=yes "
			"vial ...)",
			p->mount, *p->path ? p->path : "/", lacks);
	return vl_fail(
		err, EACCES,
		"the cgroup %s%s is not delegated to this user; a way to one that is: systemd-run --user --scope "
		"-p Delegate=yes vial ...",
		p->mount, *p->path ? p->path : "/");
}

/* ---- making and removing it ----------------------------------------------------------------- */

/* Of starts whose watcher was killed. One that is in use has processes in it, or is locked by its starter. */
static void sweep(int above)
{
	int fd = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; d && (e = readdir(d));) {
		if (!vl_prefix(e->d_name, PREFIX))
			continue;
		VL_CLOSE int dir = openat(above, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (dir >= 0 && flock(dir, LOCK_EX | LOCK_NB) == 0)
			(void)!unlinkat(above, e->d_name, AT_REMOVEDIR);
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

struct watch {
	int above, dir, caller; /* caller: pidfd */
	const char *name;
};

static void wait_until_empty(int dir)
{
	VL_CLOSE int fd = openat(dir, "cgroup.events", O_RDONLY | O_CLOEXEC);
	char text[LINE_MAX_LEN];

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLPRI };
		ssize_t n = pread(fd, text, sizeof text - 1, 0);
		text[VL_MAX(n, 0)] = 0;
		if (n <= 0 || strstr(text, "populated 0"))
			return;
		poll(&p, 1, -1);
	}
}

static void watch(void *arg)
{
	struct watch *w = arg;
	int keep[] = { w->above, w->dir, w->caller };
	struct pollfd p = { .fd = w->caller, .events = POLLIN };

	vl_close_all_but(keep, VL_COUNT(keep));
	vl_reset_signals();
	prctl(PR_SET_NAME, "vial-limits");
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	wait_until_empty(w->dir); /* what the program left running */
	(void)!unlinkat(w->above, w->name, AT_REMOVEDIR);
}

static int start_watch(int above, int dir, const char *name)
{
	VL_CLOSE int caller = vl_move_fd_above_stdio(pidfd_open(getpid(), 0));
	struct watch w = { above, dir, caller, name };
	pid_t wait = 0;

	int r = caller < 0 ? -errno : vl_start_apart(watch, &w, &wait);
	if (r == 0 && wait)
		vl_wait(wait);
	return r;
}

/* Something of it that the kernel refuses does not keep the rest from being done. */
static void write_settings(int dir, const struct vl_strv *settings, const struct vl_progress *say)
{
	VL_BUF struct vl_buf failed = { 0 };

	for (size_t i = 0; i < settings->n; i++) {
		VL_FREE char *file = vl_strndup(settings->v[i], strcspn(settings->v[i], "="));
		int r = write_at(dir, file, settings->v[i] + strlen(file) + 1);
		if (r < 0)
			vl_buf_addf(&failed, "%s%s: %s", failed.len ? ", " : "", settings->v[i], strerror(-r));
	}
	if (failed.len)
		vl_progress_warn(say, "some limits are not in force: %s", failed.data);
}

static int make(const struct place *p, const struct vl_strv *settings, const struct vl_progress *say,
		struct ctr_cgroup *ret, struct vl_err *err)
{
	VL_FREE char *name = vl_asprintf(PREFIX "%d", getpid());

	if (flock(p->dir, LOCK_EX) < 0) /* nobody sweeps away what nobody has locked yet */
		return vl_fail_sys(err, errno, "cannot lock a cgroup");
	sweep(p->dir);
	if (mkdirat(p->dir, name, 0755) < 0)
		return vl_fail_sys(err, errno, "cannot make the cgroup %s in %s%s", name, p->mount, p->path);
	VL_CLOSE int dir = openat(p->dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_SH) < 0)
		return vl_fail_sys(err, errno, "cannot open the cgroup %s", name);
	flock(p->dir, LOCK_UN); /* by hand: who watches has this open file too */
	int r = start_watch(p->dir, dir, name);
	if (r < 0) {
		unlinkat(p->dir, name, AT_REMOVEDIR);
		return vl_fail_sys(err, -r, "cannot watch over a cgroup");
	}
	write_settings(dir, settings, say);
	ret->procs = openat(dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	return ret->procs < 0 ? vl_fail_sys(err, errno, "cannot enter the cgroup %s", name) : 0;
}

void ctr_cgroup_make(const struct plan *p, struct ctr_cgroup *c, const struct vl_progress *say)
{
	VL_CLEANUP(free_place) struct place at = { .dir = -1 };
	VL_STRV struct vl_strv settings = { 0 };
	struct vl_err err = { 0 };

	ctr_cgroup_files(&p->limits, &settings);
	if (settings.n && (find_place(&at, &settings, &err) < 0 || make(&at, &settings, say, c, &err) < 0))
		vl_progress_warn(say, "the limits are not in force: %s", err.text);
}

int ctr_probe_cgroup(struct vl_err *err)
{
	VL_CLEANUP(free_place) struct place at = { .dir = -1 };
	const struct vl_strv none = { 0 }; /* and so nothing is written */

	return find_place(&at, &none, err);
}

void ctr_cgroup_join(struct ctr_cgroup *c, const struct vl_progress *say)
{
	VL_CLOSE int fd = vl_steal_fd(&c->procs);

	if (fd >= 0 && write(fd, "0", 1) < 0)
		vl_progress_warn(say, "the limits are not in force: cannot enter the cgroup: %s", strerror(errno));
}
