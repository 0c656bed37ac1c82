/* An image's server is one of the user's processes: while it is stopped (SIGSTOP) it answers nobody, and who has asked it
 * is not ended by SIGKILL before it does. Slurm would wait for that, give up and drain the node. So a thread of
 * slurmstepd's, which no user can stop, ends such a server when the step has been killed and does not end. Until then it
 * looks at one of the tasks, every few seconds. */
#include "step.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>

#define LOOK_SEC 5 /* between two looks; who hangs in both is not about to end */
#define SPACES 64  /* user namespaces in which something hangs, of one user */
#define EXITING 4  /* the kernel's PF_EXITING */
#define STACK_SIZE (256L << 10)

struct spaces {
	ino_t v[SPACES];
	size_t n;
};
struct vsp_guard {
	uid_t user;
	ino_t own; /* slurmstepd's user namespace */
	struct spaces before, now;
	size_t n, max;
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
	long threads;
	bool killed; /* or ending by itself */
};

/* Of a process, as proc(5) has it. Its threads are not asked: who lists them can be made to wait for the process. */
static int read_status(int dir, const char *path, struct status *ret)
{
	VL_CLOSE int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	unsigned flags;
	unsigned long pending;

	*ret = (struct status){ 0 };
	if (n < 0)
		return -errno;
	text[n] = 0;
	const char *name_end = strrchr(text, ')'); /* the name can have one, too */
	if (!name_end ||
	    sscanf(name_end,
		   ") %c %d %*d %*d %*d %*d %u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %ld %*d %*u %*u %*d "
		   "%*u %*u %*u %*u %*u %*u %lu",
		   &ret->state, &ret->parent, &flags, &ret->threads, &pending) != 5)
		return -EINVAL;
	ret->killed = flags & EXITING || pending & 1ul << (SIGKILL - 1);
	return 0;
}

/* It was killed, and sleeps where it cannot be woken, or its first thread has ended and others do that. */
static bool is_hung(int proc)
{
	struct status s;

	return read_status(proc, "stat", &s) == 0 &&
	       ((s.state == 'D' && s.killed) || (s.state == 'Z' && s.threads > 1));
}

static bool is_stopped_server(int proc)
{
	static const char server[] = "vial-fuse\n";
	VL_CLOSE int comm = openat(proc, "comm", O_RDONLY | O_CLOEXEC);
	char name[sizeof server] = "";
	struct status s;

	return comm >= 0 && read(comm, name, sizeof name - 1) > 0 && vl_streq(name, server) &&
	       read_status(proc, "stat", &s) == 0 && (s.state == 'T' || s.state == 't');
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

static void note_hung(struct vsp_guard *g, int proc, ino_t space)
{
	if (!has(&g->now, space) && g->now.n < SPACES && is_hung(proc))
		g->now.v[g->now.n++] = space;
}

/* Without its server the mount is one that answers with errors, and who hangs goes on to its end. */
static void end_server(struct vsp_guard *g, int proc, ino_t space)
{
	if (has(&g->now, space) && has(&g->before, space) && is_stopped_server(proc))
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
		VL_FREE char *path = vl_asprintf("/proc/%d/stat", (int)g->tasks[i]);
		struct status s;
		int r = read_status(AT_FDCWD, path, &s);
		bool gone = r == -ENOENT || r == -ESRCH || (r == 0 && s.parent != getpid());
		if (!gone && (r < 0 || (s.state != 'Z' && !s.killed)))
			return false;
	}
	return true;
}

static void *keep_guard(void *arg)
{
	const struct timespec pause = { .tv_sec = LOOK_SEC };
	struct vsp_guard *g = arg;
	struct stat st;

	g->own = stat("/proc/self/ns/user", &st) == 0 ? st.st_ino : 0;
	for (;;) {
		nanosleep(&pause, NULL); /* or less: glibc tells threads of a seteuid() by a signal */
		if (is_over(g))
			look(g);
	}
	return NULL;
}

/* Nobody waits for it: it ends with slurmstepd, and a user who could hold it up would hold up the step. */
static void start_thread(struct vsp_guard *g)
{
	pthread_attr_t a;
	pthread_t thread;
	sigset_t all, before;

	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, STACK_SIZE);
	pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED);
	sigfillset(&all); /* slurmstepd's signals are for its own threads */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	(void)!pthread_create(&thread, &a, keep_guard, g);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&a);
}

struct vsp_guard *vsp_guard_new(size_t tasks, uid_t user)
{
	struct vsp_guard *g = vl_alloc(sizeof *g + tasks * sizeof *g->tasks);

	*g = (struct vsp_guard){ .user = user, .max = tasks };
	return g;
}

void vsp_guard_add(struct vsp_guard *g, pid_t task)
{
	if (g->n == g->max)
		return;
	g->tasks[g->n++] = task;
	if (g->n == g->max)
		start_thread(g);
}
