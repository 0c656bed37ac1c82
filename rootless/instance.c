/* Containers with a name. Each has a socket, whose listener is its keeper, and a record of what it is. The kernel
 * closes the socket when the keeper dies, however it dies: who is refused there knows that the rest is remains. */
#include "instance.h"

#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define KILL_ROUND_MS 50
#define KILL_ROUNDS 200 /* a process may hang in the kernel; nobody waits for it for ever */
#define KILLED_MS 10000
#define ENTER_MS 60000 /* a container that is there answers at once; a node that swaps, later */

/* ---- names ------------------------------------------------------------------------------------ */

int ctr_instance_check_name(const char *name, struct vl_err *err)
{
	size_t n = strlen(name);
	bool ok = n > 0 && n <= CTR_INSTANCE_NAME_MAX && *name != '.' && *name != '-';

	for (const char *c = name; *c; c++)
		ok = ok && ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
			    strchr("._-", *c));
	if (ok)
		return 0;
	VL_FREE char *shown = vl_printable(name, VL_MIN(n, (size_t)2 * CTR_INSTANCE_NAME_MAX));
	return vl_fail(err, EINVAL,
		       "'%s' cannot be the name of an instance: it has 1 to %d letters, digits, '.', '_' and '-', and "
		       "begins with a letter, a digit or '_'",
		       shown, CTR_INSTANCE_NAME_MAX);
}

void ctr_instance_socket(const char *name, char ret[CTR_INSTANCE_FILE])
{
	snprintf(ret, CTR_INSTANCE_FILE, "%s.sock", name);
}

void ctr_instance_record(const char *name, char ret[CTR_INSTANCE_FILE])
{
	snprintf(ret, CTR_INSTANCE_FILE, "%s.json", name);
}

static int open_in(int run, bool make, struct vl_err *err)
{
	if (make)
		(void)!mkdirat(run, "instances", 0700);
	int fd = openat(run, "instances", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open the directory of instances");
	return vl_move_fd_above_stdio(fd);
}

int ctr_instance_dir(unsigned which, bool make, struct vl_err *err)
{
	VL_CLOSE int run = ctr_rundir_open(which, make, err);

	return run < 0 ? run : open_in(run, make, err);
}

int ctr_instance_dir_first(struct vl_err *err)
{
	VL_CLOSE int run = ctr_rundir(err);

	return run < 0 ? run : open_in(run, true, err);
}

void ctr_instance_remove(int dir, const char *name)
{
	char file[CTR_INSTANCE_FILE];

	ctr_instance_socket(name, file);
	(void)!unlinkat(dir, file, 0);
	ctr_instance_record(name, file);
	(void)!unlinkat(dir, file, 0);
}

/* ---- the record --------------------------------------------------------------------------------- */

void ctr_instance_free(struct ctr_instance *i)
{
	char **strings[] = { &i->name, &i->image, &i->out, &i->errors, &i->cwd, &i->program, &i->home };

	for (size_t n = 0; n < VL_COUNT(strings); n++)
		vl_freep(strings[n]);
	vl_strv_free(&i->argv);
	vl_strv_free(&i->env);
	vl_strv_free(&i->identity);
	vl_strv_free(&i->verified);
}

static vl_json *list_json(const struct vl_strv *l)
{
	vl_json *a = vl_json_new_arr();

	for (size_t i = 0; i < l->n; i++)
		vl_json_add(a, vl_json_new_str(l->v[i]));
	return a;
}

char *ctr_instance_text(const struct ctr_instance *i)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	vl_json_set(j, "name", vl_json_new_str(i->name));
	vl_json_set(j, "image", vl_json_new_str(i->image));
	vl_json_set(j, "out", vl_json_new_str(i->out));
	vl_json_set(j, "errors", vl_json_new_str(i->errors));
	vl_json_set(j, "cwd", vl_json_new_str(i->cwd));
	vl_json_set(j, "program", vl_json_new_str(i->program));
	vl_json_set(j, "home", vl_json_new_str(i->home));
	vl_json_set(j, "argv", list_json(&i->argv));
	vl_json_set(j, "env", list_json(&i->env));
	vl_json_set(j, "identity", list_json(&i->identity));
	vl_json_set(j, "verified", list_json(&i->verified));
	vl_json_set(j, "restart", vl_json_new_int(i->restart));
	vl_json_set(j, "since", vl_json_new_int(i->since));
	vl_json_set(j, "guard", vl_json_new_int(i->guard));
	vl_json_set(j, "guardStart", vl_json_new_int((int64_t)i->guard_start));
	vl_json_set(j, "mnt", vl_json_new_int((int64_t)i->mnt));
	return vl_json_text(j, false);
}

static bool take_string(const vl_json *j, const char *key, char **ret)
{
	const char *s = vl_json_str(j, key);

	*ret = s ? vl_strdup(s) : NULL;
	return s;
}

static bool take_list(const vl_json *j, const char *key, struct vl_strv *ret)
{
	const vl_json *a = vl_json_arr(j, key);

	for (size_t i = 0; a && i < vl_json_len(a); i++) {
		const char *s = vl_json_string(vl_json_at(a, i));
		if (!s)
			return false;
		vl_strv_add(ret, s);
	}
	return a;
}

static bool take_number(const vl_json *j, const char *key, int64_t max, int64_t *ret)
{
	return vl_json_int(j, key, ret) && *ret >= 0 && *ret <= max;
}

int ctr_instance_parse(const char *text, size_t len, struct ctr_instance *ret, struct vl_err *err)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	VL_JSON vl_json *j = NULL;
	int64_t restart, guard, start, mnt;
	int r = vl_json_parse(text, len, "an instance's record", &j, err);

	if (r < 0)
		return r;
	if (!take_string(j, "name", &i.name) || !take_string(j, "image", &i.image) || !take_string(j, "out", &i.out) ||
	    !take_string(j, "errors", &i.errors) || !take_string(j, "cwd", &i.cwd) ||
	    !take_string(j, "program", &i.program) || !take_string(j, "home", &i.home) ||
	    !take_list(j, "identity", &i.identity) || !take_list(j, "verified", &i.verified) ||
	    !take_list(j, "argv", &i.argv) || !take_list(j, "env", &i.env) ||
	    !take_number(j, "restart", CTR_RESTART_ALWAYS, &restart) || !take_number(j, "since", INT64_MAX, &i.since) ||
	    !take_number(j, "guard", INT32_MAX, &guard) || !take_number(j, "guardStart", INT64_MAX, &start) ||
	    !take_number(j, "mnt", INT64_MAX, &mnt))
		return vl_fail(err, EINVAL, "an instance's record lacks something, or is of another version");
	if (ctr_instance_check_name(i.name, err) < 0)
		return -err->code;
	i.restart = (enum ctr_restart)restart;
	i.guard = (pid_t)guard;
	i.guard_start = (uint64_t)start;
	i.mnt = (uint64_t)mnt;
	*ret = vl_move(&i);
	return 0;
}

/* ---- who is there --------------------------------------------------------------------------------- */

/* Nobody answers to that name any more: what is left of it goes. */
static void sweep(int dir, const char *name, const char *file)
{
	VL_CLOSE int lock = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return;
	VL_CLOSE int sock = ctr_hold_dial(dir, file); /* under the lock: a socket that is being made looks the same */
	if (sock == -ECONNREFUSED || sock == -ENOENT)
		ctr_instance_remove(dir, name);
}

/* A connection to the instance, and what is known of it. -ENOENT: there is none, or none yet. */
static int reach(int dir, const char *name, struct ctr_instance *ret, struct vl_err *err)
{
	char file[CTR_INSTANCE_FILE];
	VL_FREE char *text = NULL;
	struct ucred who;
	socklen_t size = sizeof who;
	size_t len;

	ctr_instance_socket(name, file);
	VL_CLOSE int sock = ctr_hold_dial(dir, file);
	if (sock == -ECONNREFUSED || sock == -ENOENT)
		sweep(dir, name, file);
	if (sock < 0)
		return vl_fail_sys(err, -sock, "instance %s", name);
	ctr_instance_record(name, file);
	int r = vl_read_file(dir, file, CTR_INSTANCE_RECORD_MAX, &text, &len, err);
	if (r < 0 || (r = ctr_instance_parse(text, len, ret, err)) < 0)
		return r;
	ret->pid = getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 ? who.pid : 0;
	return vl_steal_fd(&sock);
}

struct listing {
	const char *glob;
	struct ctr_instance *v;
	size_t n;
};

static void add_one(struct listing *l, int dir, const char *name)
{
	struct ctr_instance i = { 0 };
	struct vl_err none;

	if (ctr_instance_check_name(name, &none) < 0 || (l->glob && fnmatch(l->glob, name, 0) != 0))
		return;
	VL_CLOSE int sock = reach(dir, name, &i, &none);
	if (sock < 0)
		return;
	l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
	l->v[l->n++] = i;
}

static void list_dir(struct listing *l, int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	for (const struct dirent *e; d && (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		if (n <= 5 || !vl_streq(e->d_name + n - 5, ".sock"))
			continue;
		VL_FREE char *name = vl_strndup(e->d_name, n - 5);
		add_one(l, dir, name);
	}
	if (d)
		closedir(d);
	else if (fd >= 0)
		close(fd);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct ctr_instance *)a)->name, ((const struct ctr_instance *)b)->name);
}

/* Is it one that was looked into already? XDG_RUNTIME_DIR most often is /run/user/UID. */
static bool is_same(int dir, struct stat *last)
{
	struct stat st;
	bool same = fstat(dir, &st) == 0 && st.st_ino == last->st_ino && st.st_dev == last->st_dev;

	*last = st;
	return same;
}

void ctr_instances(const char *glob, struct ctr_instance **ret, size_t *ret_n)
{
	struct listing l = { .glob = glob };
	struct stat last = { 0 };
	struct vl_err none;

	for (unsigned i = 0; i < CTR_RUNDIRS; i++) {
		VL_CLOSE int dir = ctr_instance_dir(i, false, &none);
		if (dir >= 0 && !is_same(dir, &last))
			list_dir(&l, dir);
	}
	if (l.n)
		qsort(l.v, l.n, sizeof *l.v, by_name);
	*ret = l.v;
	*ret_n = l.n;
}

void ctr_instances_free(struct ctr_instance *l, size_t n)
{
	for (size_t i = 0; i < n; i++)
		ctr_instance_free(&l[i]);
	free(l);
}

int ctr_instance_reach(const char *name, struct ctr_instance *ret, struct vl_err *err)
{
	struct vl_err why;
	int r = ctr_instance_check_name(name, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < CTR_RUNDIRS; i++) {
		VL_CLOSE int dir = ctr_instance_dir(i, false, &why);
		int sock = dir < 0 ? dir : reach(dir, name, ret, &why);
		if (sock >= 0)
			return sock;
	}
	return vl_fail(err, ENOENT, "no instance is called %s; `vial instance list` shows those there are", name);
}

int ctr_instance_door(const char *name, struct ctr_instance *ret_what, struct ctr_door *ret, struct vl_err *err)
{
	VL_STRV struct vl_strv none = { 0 };
	VL_CLOSE int sock = ctr_instance_reach(name, ret_what, err);

	if (sock < 0)
		return sock;
	int r = ctr_door_ask(sock, ENTER_MS, ret, &none, err);
	return r < 0 ? vl_wrap(err, "instance %s", name) : 0;
}

/* ---- processes ------------------------------------------------------------------------------------ */

uint64_t ctr_pid_start(pid_t pid)
{
	char path[32], text[1024];
	unsigned long long start = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = 0;
	const char *p = strrchr(text, ')'); /* the name before it may have any byte in it; then fields 3 to 22 */
	for (int field = 2; p && field < 22; field++) {
		p = strchr(p, ' ');
		p += p != NULL;
	}
	return p && sscanf(p, "%llu", &start) == 1 ? start : 0;
}

static bool is_in_mnt(pid_t pid, uint64_t mnt)
{
	char path[40], is[64], want[64];

	snprintf(path, sizeof path, "/proc/%d/ns/mnt", pid);
	snprintf(want, sizeof want, "mnt:[%llu]", (unsigned long long)mnt);
	ssize_t n = readlink(path, is, sizeof is - 1);
	if (n <= 0)
		return false;
	is[n] = 0;
	return vl_streq(is, want);
}

void ctr_instance_pids(uint64_t mnt, pid_t **ret, size_t *ret_n)
{
	DIR *d = opendir("/proc");
	pid_t *v = NULL;
	size_t n = 0;
	uint64_t pid;

	for (const struct dirent *e; d && (e = readdir(d));) {
		if (vl_parse_u64(e->d_name, 1, INT32_MAX, &pid) < 0 || !is_in_mnt((pid_t)pid, mnt))
			continue;
		v = vl_realloc(v, n + 1, sizeof *v);
		v[n++] = (pid_t)pid;
	}
	if (d)
		closedir(d);
	*ret = v;
	*ret_n = n;
}

/* Looked at again with the process held: its pid may be another's by now. */
static bool kill_in(pid_t pid, uint64_t mnt)
{
	VL_CLOSE int fd = pidfd_open(pid, 0);

	return fd >= 0 && is_in_mnt(pid, mnt) && pidfd_send_signal(fd, SIGKILL, NULL, 0) == 0;
}

static size_t kill_children(void)
{
	VL_FREE char *path = vl_asprintf("/proc/self/task/%d/children", getpid());
	FILE *f = fopen(path, "re");
	size_t n = 0;
	int pid;

	while (f && fscanf(f, "%d", &pid) == 1)
		n += kill(pid, SIGKILL) == 0;
	if (f)
		fclose(f);
	return n;
}

static size_t kill_all_in(uint64_t mnt)
{
	VL_FREE pid_t *v = NULL;
	size_t n = 0, killed = 0;

	ctr_instance_pids(mnt, &v, &n);
	for (size_t i = 0; i < n; i++)
		killed += v[i] != getpid() && kill_in(v[i], mnt);
	return killed;
}

void ctr_kill_all(const uint64_t *mnt, size_t n)
{
	for (int round = 0; round < KILL_ROUNDS; round++) {
		size_t killed = kill_children();
		for (size_t i = 0; i < n; i++)
			killed += kill_all_in(mnt[i]);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (!killed)
			return;
		poll(NULL, 0, KILL_ROUND_MS); /* nothing tells when others' children are gone */
	}
}

/* ---- its end ---------------------------------------------------------------------------------------- */

/* Of the guard, which goes last. -ESRCH: it is gone already. */
static int open_guard(const struct ctr_instance *i)
{
	VL_CLOSE int fd = pidfd_open(i->guard, 0);

	return fd >= 0 && ctr_pid_start(i->guard) == i->guard_start ? vl_steal_fd(&fd) : -ESRCH;
}

static bool ended(int pidfd, int timeout_ms)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n != 0;
}

static void tell_stop(int sock, int sig)
{
	char word[CTR_INSTANCE_WORD];
	int n = snprintf(word, sizeof word, CTR_INSTANCE_STOP "%d", sig);

	vl_msg_send(sock, VL_MSG_OK, word, (size_t)n);
}

int ctr_instance_stop(const char *name, int sig, int timeout_ms, struct vl_err *err)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	VL_CLOSE int sock = ctr_instance_reach(name, &i, err);
	VL_CLOSE int guard = sock < 0 ? -1 : open_guard(&i);
	VL_CLOSE int keeper = sock < 0 ? -1 : ctr_peer_pidfd(sock, &i.pid);

	if (sock < 0)
		return sock;
	if (guard < 0)
		return 0; /* it ended just now */
	tell_stop(sock, sig);
	if (sig != SIGKILL && ended(guard, timeout_ms))
		return 0;
	tell_stop(sock, SIGKILL);
	if (ended(guard, KILLED_MS))
		return 0;
	if (keeper >= 0) /* it does not listen: it was stopped, say */
		pidfd_send_signal(keeper, SIGKILL, NULL, 0);
	if (ended(guard, KILLED_MS))
		return 0;
	return vl_fail(err, EBUSY, "instance %s (pid %d) does not end; a process of it may hang in the kernel", name,
		       i.pid);
}
