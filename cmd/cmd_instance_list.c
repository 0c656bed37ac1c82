/* instance list, stats, logs. */
#include "commands.h"

#include <vial/rootless.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/inotify.h>

#define O(f) offsetof(struct cmd_instance_opts, f)
const struct opt cmd_instance_list_opts[] = {
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print everything as JSON", NULL, 0 },
	{ 'l', "logs", OPT_FLAG, O(logs), NULL, "where their logs are, in place of the image", NULL, 0 },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "", NULL, OPT_HIDDEN },
	{ 'u', "user", OPT_STR, O(user), "NAME", "root: those of this user", NULL, 0 },
	OPT_END,
};
const struct opt cmd_instance_stats_opts[] = {
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print everything as JSON, once", NULL, 0 },
	{ 0, "no-stream", OPT_FLAG, O(no_stream), NULL, "once, not again and again", NULL, 0 },
	{ 'u', "user", OPT_STR, O(user), "NAME", "root: one of this user", NULL, 0 },
	OPT_END,
};
const struct opt cmd_instance_logs_opts[] = {
	{ 'f', "follow", OPT_FLAG, O(follow), NULL, "go on until the instance ends", NULL, 0 },
	{ 'u', "user", OPT_STR, O(user), "NAME", "root: one of this user", NULL, 0 },
	OPT_END,
};
#undef O

static void print_json(vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, true);

	puts(text);
}

/* ---- list --------------------------------------------------------------------------------------- */

static vl_json *to_json(const struct ctr_instance *i)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "instance", vl_json_new_str(i->name));
	vl_json_set(j, "pid", vl_json_new_int(i->pid));
	vl_json_set(j, "img", vl_json_new_str(i->image));
	vl_json_set(j, "ip", vl_json_new_str("")); /* it has the host's */
	vl_json_set(j, "logErrPath", vl_json_new_str(i->errors));
	vl_json_set(j, "logOutPath", vl_json_new_str(i->out));
	return j;
}

static void print_instances(const struct ctr_instance *l, size_t n)
{
	VL_JSON vl_json *all = vl_json_new_obj();
	vl_json *list = vl_json_new_arr();

	for (size_t i = 0; i < n; i++)
		vl_json_add(list, to_json(&l[i]));
	vl_json_set(all, "instances", list);
	print_json(all);
}

static void print_line(const struct ctr_instance *i, bool logs)
{
	VL_FREE char *image = vl_printable(i->image, strlen(i->image));
	VL_FREE char *out = vl_printable(i->out, strlen(i->out));
	VL_FREE char *errors = vl_printable(i->errors, strlen(i->errors));

	if (logs)
		printf("%-16s %-8d %s\n%-16s %-8s %s\n", i->name, i->pid, errors, "", "", out);
	else
		printf("%-16s %-8d %-5s %s\n", i->name, i->pid, "", image);
}

int cmd_instance_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_instance_opts *o = opts;
	struct ctr_instance *l = NULL;
	struct vl_err err = { 0 };
	size_t n = 0;

	(void)self;
	if (cmd_instance_as(o->user, &err) < 0)
		return cmd_fail(c, &err);
	ctr_instances(argc ? argv[0] : NULL, &l, &n);
	if (o->json)
		print_instances(l, n);
	else if (o->logs)
		printf("%-16s %-8s %s\n", "INSTANCE NAME", "PID", "LOGS");
	else
		printf("%-16s %-8s %-5s %s\n", "INSTANCE NAME", "PID", "IP", "IMAGE");
	for (size_t i = 0; i < n && !o->json; i++)
		print_line(&l[i], o->logs);
	ctr_instances_free(l, n);
	return 0;
}

/* ---- stats -------------------------------------------------------------------------------------- */

#define STREAM_MS 1000

struct use {
	uint64_t processes, ticks, memory, read, written; /* clock ticks of processor time; bytes */
};

static FILE *open_of(pid_t pid, const char *file)
{
	VL_FREE char *path = vl_asprintf("/proc/%d/%s", pid, file);

	return fopen(path, "re");
}

static void add_times(pid_t pid, struct use *u)
{
	FILE *f = open_of(pid, "stat");
	char text[1024] = "";
	unsigned long long user = 0, system = 0;
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;

	text[n] = 0;
	const char *p = strrchr(text, ')');
	if (p && sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) == 2)
		u->ticks += user + system;
	if (f)
		fclose(f);
}

static void add_memory(pid_t pid, struct use *u)
{
	FILE *f = open_of(pid, "statm");
	unsigned long long all, resident;

	if (f && fscanf(f, "%llu %llu", &all, &resident) == 2)
		u->memory += resident * (uint64_t)sysconf(_SC_PAGESIZE);
	if (f)
		fclose(f);
}

static void add_io(pid_t pid, struct use *u)
{
	FILE *f = open_of(pid, "io");
	char line[128];
	unsigned long long n;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "read_bytes: %llu", &n) == 1)
			u->read += n;
		else if (sscanf(line, "write_bytes: %llu", &n) == 1)
			u->written += n;
	if (f)
		fclose(f);
}

static struct use measure(const struct ctr_instance *i)
{
	struct use u = { 0 };
	VL_FREE pid_t *pids = NULL;

	ctr_instance_pids(i->mnt, &pids, &u.processes);
	for (size_t n = 0; n < u.processes; n++) {
		add_times(pids[n], &u);
		add_memory(pids[n], &u);
		add_io(pids[n], &u);
	}
	return u;
}

static void print_use_json(const struct ctr_instance *i, const struct use *u)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	vl_json_set(j, "instance", vl_json_new_str(i->name));
	vl_json_set(j, "pid", vl_json_new_int(i->pid));
	vl_json_set(j, "since", vl_json_new_int(i->since));
	vl_json_set(j, "processes", vl_json_new_int((int64_t)u->processes));
	vl_json_set(j, "cpuMilliseconds", vl_json_new_int((int64_t)(u->ticks * 1000 / (uint64_t)sysconf(_SC_CLK_TCK))));
	vl_json_set(j, "memory", vl_json_new_int((int64_t)u->memory));
	vl_json_set(j, "readBytes", vl_json_new_int((int64_t)u->read));
	vl_json_set(j, "writtenBytes", vl_json_new_int((int64_t)u->written));
	print_json(j);
}

static void print_use(const struct ctr_instance *i, const struct use *u, const struct use *before)
{
	double hz = (double)sysconf(_SC_CLK_TCK), seconds = (double)(u->ticks - VL_MIN(before->ticks, u->ticks)) / hz;
	char memory[16], in[16], out[16];

	vl_human_size(u->memory, memory);
	vl_human_size(u->read, in);
	vl_human_size(u->written, out);
	printf("%-16s %6.1f %%   %9.2f s  %-10s %-10s / %-10s %llu\n", i->name, seconds * 1000 * 100 / STREAM_MS,
	       (double)u->ticks / hz, memory, in, out, (unsigned long long)u->processes);
	fflush(stdout);
}

/* False: it is gone. */
static bool pause_while_there(int sock)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };

	return poll(&p, 1, STREAM_MS) == 0;
}

int cmd_instance_stats_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	const struct cmd_instance_opts *o = opts;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (cmd_instance_as(o->user, &err) < 0)
		return cmd_fail(c, &err);
	VL_CLOSE int sock = ctr_instance_reach(argv[0], &i, &err);
	if (sock < 0)
		return cmd_fail(c, &err);
	struct use u = measure(&i);
	if (o->json) {
		print_use_json(&i, &u);
		return 0;
	}
	printf("%-16s %-10s %-12s %-10s %-23s %s\n", "INSTANCE NAME", "CPU", "CPU TIME", "MEMORY", "READ / WRITTEN",
	       "PROCESSES");
	bool more;
	do {
		struct use before = u;
		more = pause_while_there(sock); /* a share takes two looks */
		u = measure(&i);
		print_use(&i, &u, &before);
	} while (more && !o->no_stream);
	return 0;
}

/* ---- logs --------------------------------------------------------------------------------------- */

static int copy_rest(int from, int to, struct vl_err *err)
{
	char b[16384];
	ssize_t n;

	while ((n = read(from, b, sizeof b)) > 0)
		if (vl_write_full(to, b, (size_t)n) < 0)
			return vl_fail_sys(err, errno, "cannot write what the instance wrote");
	return n < 0 ? vl_fail_sys(err, errno, "cannot read a log") : 0;
}

static int copy_both(const int logs[2], struct vl_err *err)
{
	int r = copy_rest(logs[0], STDOUT_FILENO, err);

	return r < 0 ? r : copy_rest(logs[1], STDERR_FILENO, err);
}

/* sock is closed by the other end when the instance ends. */
static int follow(const int logs[2], char *const paths[2], int sock, struct vl_err *err)
{
	VL_CLOSE int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	struct pollfd f[] = { { watch, POLLIN, 0 }, { sock, POLLIN, 0 } };
	char events[4096];
	int r;

	for (int i = 0; i < 2; i++)
		if (watch < 0 || inotify_add_watch(watch, paths[i], IN_MODIFY) < 0)
			return vl_fail_sys(err, errno, "cannot watch %s", paths[i]);
	for (;;) {
		if ((r = copy_both(logs, err)) < 0 || f[1].revents)
			return r;
		poll(f, VL_COUNT(f), -1);
		while (read(watch, events, sizeof events) > 0)
			;
	}
}

int cmd_instance_logs_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	VL_CLEANUP(ctr_instance_free) struct ctr_instance i = { 0 };
	const struct cmd_instance_opts *o = opts;
	VL_FREE char *out = NULL, *errors = NULL;
	struct vl_err err = { 0 }, none;

	(void)self, (void)argc;
	if (cmd_instance_as(o->user, &err) < 0 || ctr_instance_check_name(argv[0], &err) < 0)
		return cmd_fail(c, &err);
	VL_CLOSE int sock = ctr_instance_reach(argv[0], &i, &none);
	if (cmd_instance_logs(argv[0], false, &out, &errors, &err) < 0)
		return cmd_fail(c, &err);
	char *paths[2] = { sock >= 0 ? i.out : out, sock >= 0 ? i.errors : errors };
	VL_CLOSE int from = vl_open(paths[0], O_RDONLY, 0, &err);
	VL_CLOSE int from_errors = from < 0 ? -1 : vl_open(paths[1], O_RDONLY, 0, &err);
	if (from < 0 || from_errors < 0)
		return cmd_fail(c, &err);
	int logs[2] = { from, from_errors };
	int r = o->follow && sock >= 0 ? follow(logs, paths, sock, &err) : copy_both(logs, &err);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
