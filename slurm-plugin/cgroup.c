/* proctrack/cgroup: Slurm ends a step by the cgroups that its tasks are in. The keeper is there too, and the holder and server
 * of its image's mount. When the last task has ended they go by themselves, if they are given the time: where Slurm finds
 * a process it sleeps for a second. A step that has entered the container of another needs its server for longer than that
 * step lasts: it becomes one of its own. */
#include "step.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#define LEFT_MS 1000 /* as long as Slurm would sleep */
#define TEXT_MAX 16384

struct vsp_cgroup {
	int list;     /* of the processes in the one that Slurm tracks the step by */
	ino_t userns; /* the container's; of proctrack/cgroup each step has one of its own */
};

static size_t read_text(const char *file, char *ret, size_t size)
{
	VL_CLOSE int fd = open(file, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);

	ret[n > 0 ? n : 0] = 0;
	return n > 0 ? (size_t)n : 0;
}

/* A line of /proc/PID/cgroup, N:CONTROLLERS:PATH, gives the file that lists and takes processes, where systems have it;
 * returns new. NULL: it is none of a step's, but of all of the machine's processes, for example. */
static char *list_of(char *line, bool *ret_tracks)
{
	char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;

	if (!path || !strstr(path, "/step_"))
		return NULL;
	*path++ = 0;
	const char *named = vl_prefix(++controllers, "name=");
	char *list = vl_asprintf("/sys/fs/cgroup%s%s%s/cgroup.procs", *controllers ? "/" : "",
				 named ? named : controllers, path);
	*ret_tracks = !*controllers || vl_streq(controllers, "freezer");
	if (!*controllers && access(list, F_OK) < 0) { /* beside the hierarchies of version 1 */
		free(list);
		list = vl_asprintf("/sys/fs/cgroup/unified%s/cgroup.procs", path);
	}
	return list;
}

/* All lists of a step's that have the process; the first is the one that Slurm tracks by, if *ret_tracked. */
static void lists_of(int pid, struct vl_strv *ret, bool *ret_tracked)
{
	VL_FREE char *name = vl_asprintf("/proc/%d/cgroup", pid);
	char text[TEXT_MAX], *rest = text;

	read_text(name, text, sizeof text);
	for (char *line; (line = strsep(&rest, "\n"));) {
		bool tracks = false;
		char *list = list_of(line, &tracks);
		if (!list)
			continue;
		vl_strv_take(ret, list);
		if (tracks && !*ret_tracked) {
			*ret_tracked = true;
			ret->v[ret->n - 1] = ret->v[0];
			ret->v[0] = list;
		}
	}
}

static ino_t userns_of(int pid)
{
	VL_FREE char *name = vl_asprintf("/proc/%d/ns/user", pid);
	struct stat st;

	return stat(name, &st) == 0 ? st.st_ino : 0;
}

struct vsp_cgroup *vsp_cgroup_of(pid_t pid)
{
	VL_STRV struct vl_strv lists = { 0 };
	bool tracked = false;

	lists_of(pid, &lists, &tracked);
	VL_CLOSE int list = tracked ? open(lists.v[0], O_RDONLY | O_CLOEXEC) : -1;
	if (list < 0)
		return NULL;
	struct vsp_cgroup *c = vl_alloc(sizeof *c);
	*c = (struct vsp_cgroup){ .list = vl_steal_fd(&list), .userns = userns_of(pid) };
	return c;
}

void vsp_cgroup_free(struct vsp_cgroup *c)
{
	if (c)
		vl_closep(&c->list);
	free(c);
}

/* ---- who is left -------------------------------------------------------------------------------- */

/* What the user's programs have left is Slurm's affair. */
static bool is_ours(int pid)
{
	VL_FREE char *name = vl_asprintf("/proc/%d/comm", pid);
	char comm[32];

	read_text(name, comm, sizeof comm);
	return vl_prefix(comm, "vial");
}

/* Returns the first of ours; ret NULL or up to max of them. */
static size_t ours_in(const struct vsp_cgroup *c, int *ret, size_t max)
{
	char text[TEXT_MAX];
	ssize_t n = pread(c->list, text, sizeof text - 1, 0);
	size_t found = 0;

	if (n == (ssize_t)sizeof text - 1)
		while (n > 0 && text[n - 1] != '\n') /* half a number is another process */
			n--;
	text[n > 0 ? n : 0] = 0;
	for (const char *p = text; *p && found < max; p += strcspn(p, "\n"), p += *p == '\n')
		if (is_ours(atoi(p)))
			ret[found++] = atoi(p);
	return found;
}

void vsp_cgroup_wait(const struct vsp_cgroup *c)
{
	const struct timespec moment = { .tv_nsec = 1000000 };
	int one;

	for (int64_t until = vl_now_ms() + LEFT_MS; vl_now_ms() < until && ours_in(c, &one, 1);)
		nanosleep(&moment, NULL);
}

/* ---- who needs it ------------------------------------------------------------------------------- */

/* A process in the container that is another step's; 0 = none. */
static int find_user(const struct vsp_cgroup *c)
{
	DIR *d = opendir("/proc");
	int found = 0;

	for (struct dirent *e; d && !found && (e = readdir(d));) {
		VL_STRV struct vl_strv lists = { 0 };
		bool tracked = false;
		struct stat there, here;
		int pid = atoi(e->d_name);
		if (pid <= 0 || userns_of(pid) != c->userns || is_ours(pid))
			continue;
		lists_of(pid, &lists, &tracked);
		if (tracked && stat(lists.v[0], &there) == 0 && fstat(c->list, &here) == 0 &&
		    there.st_ino != here.st_ino)
			found = pid;
	}
	if (d)
		closedir(d);
	return found;
}

static void move(const char *list, int pid)
{
	VL_CLOSE int fd = open(list, O_WRONLY | O_CLOEXEC);
	VL_FREE char *number = vl_asprintf("%d", pid);

	if (fd >= 0)
		(void)!write(fd, number, strlen(number));
}

void vsp_cgroup_pass_on(const struct vsp_cgroup *c)
{
	VL_STRV struct vl_strv lists = { 0 };
	bool tracked = false;
	int ours[64], user = c->userns ? find_user(c) : 0;
	size_t n = user ? ours_in(c, ours, VL_COUNT(ours)) : 0;

	if (n)
		lists_of(user, &lists, &tracked);
	for (size_t i = 0; i < lists.n * n; i++)
		move(lists.v[i / n], ours[i % n]);
}
