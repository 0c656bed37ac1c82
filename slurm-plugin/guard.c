/* No failure of a user's making drains the node. An image's server is one of the user's processes: while it is stopped
 * (SIGSTOP) it answers nobody, and who has asked it is not ended by SIGKILL before it does. Slurm would wait for that, give
 * up and drain the node. So a thread of slurmstepd's, which no user can stop, ends such a server when the step has been
 * killed and does not end. Until then it looks at one of the tasks, every few seconds. */
#include "step.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>

#define LOOK_MS 5000 /* between two looks; who hangs in both is not about to end */
#define SPACES 64    /* user namespaces in which something hangs, of one user */
#define STACK_SIZE (256L << 10)

struct spaces {
	ino_t v[SPACES];
	size_t n;
};
struct vsp_guard {
	pthread_t thread;
	int end; /* an eventfd */
	uid_t user;
	ino_t own; /* slurmstepd's user namespace */
	struct spaces before, now;
	size_t n;
	pid_t tasks[];
};

static bool has(const struct spaces *s, ino_t ino)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->v[i] == ino)
			return true;
	return false;
}

static ino_t ino_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

/* ---- one process -------------------------------------------------------------------------------- */

struct status {
	char state;
	int parent;
	bool killed; /* and has not begun to end */
};

/* Of a process or thread. Returns false when it is gone. */
static bool read_status(int dir, const char *path, struct status *ret)
{
	VL_CLOSE int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	char text[4096]; /* what is wanted is in its beginning */
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	unsigned long long pending = 0;

	text[n > 0 ? n : 0] = 0;
	const char *state = strstr(text, "\nState:"), *parent = strstr(text, "\nPPid:");
	const char *signals = strstr(text, "\nSigPnd:");
	if (!state || !parent || !signals || sscanf(state, " State: %c", &ret->state) != 1 ||
	    sscanf(parent, " PPid: %d", &ret->parent) != 1 || sscanf(signals, " SigPnd: %llx", &pending) != 1)
		return false;
	ret->killed = pending & 1ull << (SIGKILL - 1);
	return true;
}

/* The user namespace of the user's that a process is in, the outermost: a program in a container may have made another one
 * there, and the server is in the container's. 0 = none. Who owns one may do anything in it, so all there are his. */
static ino_t space_of(const struct vsp_guard *g, int proc)
{
	VL_CLOSE int ns = openat(proc, "ns/user", O_RDONLY | O_CLOEXEC);
	uid_t owner;

	if (ns < 0 || ino_of(ns) == g->own)
		return 0;
	for (int parent; (parent = ioctl(ns, NS_GET_PARENT)) >= 0;) {
		bool outside = ino_of(parent) == g->own;
		close(outside ? parent : ns);
		if (outside)
			break;
		ns = parent;
	}
	return ioctl(ns, NS_GET_OWNER_UID, &owner) == 0 && owner == g->user ? ino_of(ns) : 0;
}

/* ---- a look at the node ------------------------------------------------------------------------- */

static void each_process(struct vsp_guard *g, void (*f)(struct vsp_guard *g, int proc, ino_t space))
{
	DIR *d = opendir("/proc");

	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		if (*e->d_name < '1' || *e->d_name > '9')
			continue;
		VL_CLOSE int proc = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ino_t space = proc < 0 ? 0 : space_of(g, proc);
		if (space)
			f(g, proc, space);
	}
	closedir(d);
}

/* A thread that was killed, and sleeps where it cannot be woken. */
static bool is_hung(int threads, const char *tid)
{
	VL_FREE char *path = vl_asprintf("%s/status", tid);
	struct status s;

	return read_status(threads, path, &s) && s.killed && s.state == 'D';
}

static void note_hung(struct vsp_guard *g, int proc, ino_t space)
{
	VL_CLOSE int threads = has(&g->now, space) || g->now.n == SPACES
				       ? -1
				       : openat(proc, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = threads < 0 ? NULL : fdopendir(threads);

	if (!d)
		return;
	threads = -1; /* its own now */
	for (struct dirent *e; !has(&g->now, space) && (e = readdir(d));)
		if (*e->d_name != '.' && is_hung(dirfd(d), e->d_name))
			g->now.v[g->now.n++] = space;
	closedir(d);
}

/* Without its server the mount is one that answers with errors, and who hangs goes on to its end. */
static void end_server(struct vsp_guard *g, int proc, ino_t space)
{
	VL_CLOSE int comm = openat(proc, "comm", O_RDONLY | O_CLOEXEC);
	static const char server[] = "vial-fuse\n";
	char name[sizeof server] = "";
	struct status s;

	if (has(&g->now, space) && has(&g->before, space) && comm >= 0 && read(comm, name, sizeof name - 1) > 0 &&
	    vl_streq(name, server) && read_status(proc, "status", &s) && (s.state == 'T' || s.state == 't'))
		pidfd_send_signal(proc, SIGKILL, NULL, 0); /* that process, whose number may be another's by now */
}

static void look(struct vsp_guard *g)
{
	g->before = g->now;
	g->now.n = 0;
	each_process(g, note_hung);
	if (g->now.n)
		each_process(g, end_server);
}

/* ---- its life ----------------------------------------------------------------------------------- */

/* Every task has ended, or was killed. */
static bool is_over(const struct vsp_guard *g)
{
	for (size_t i = 0; i < g->n; i++) {
		VL_FREE char *path = vl_asprintf("/proc/%d/status", (int)g->tasks[i]);
		struct status s;
		if (read_status(AT_FDCWD, path, &s) && s.parent == getpid() && s.state != 'Z' && !s.killed)
			return false;
	}
	return true;
}

static void *keep_guard(void *arg)
{
	struct vsp_guard *g = arg;
	struct pollfd end = { .fd = g->end, .events = POLLIN };

	while (poll(&end, 1, LOOK_MS) == 0)
		if (is_over(g))
			look(g);
	return NULL;
}

static int start_thread(struct vsp_guard *g)
{
	pthread_attr_t a;
	sigset_t all, before;

	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK_SIZE);
	sigfillset(&all); /* slurmstepd's signals are for its own threads */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&g->thread, &a, keep_guard, g);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&a);
	return -r;
}

struct vsp_guard *vsp_guard_start(const pid_t *tasks, size_t n, uid_t user)
{
	struct vsp_guard *g = vl_alloc(sizeof *g + n * sizeof *tasks);
	struct stat st;

	*g = (struct vsp_guard){ .end = eventfd(0, EFD_CLOEXEC), .user = user, .n = n };
	g->own = stat("/proc/self/ns/user", &st) == 0 ? st.st_ino : 0;
	memcpy(g->tasks, tasks, n * sizeof *tasks);
	if (g->end >= 0 && start_thread(g) == 0)
		return g;
	vl_closep(&g->end);
	free(g);
	return NULL;
}

void vsp_guard_end(struct vsp_guard *g)
{
	if (!g)
		return;
	eventfd_write(g->end, 1);
	pthread_join(g->thread, NULL); /* Slurm is about to take our code away */
	vl_closep(&g->end);
	free(g);
}
