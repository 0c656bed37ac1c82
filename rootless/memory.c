/* How much memory a job may use: what is changed in memory must not end it. */
#include "rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>

#define CGROUPS_MAX 16384 /* a line per hierarchy, 13 at most, each a path */
#define MEMINFO_MAX 16384 /* it has some 60 lines of 30 */
#define LEAST (64ull << 20)

static uint64_t least(uint64_t a, uint64_t b)
{
	return !a || (b && b < a) ? b : a;
}

/* "max" and the largest number of version 1 mean none. */
static uint64_t read_limit(const char *path)
{
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[32];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (n <= 0)
		return 0;
	text[n] = 0;
	unsigned long long v = strtoull(text, NULL, 10);
	return v < 1ull << 62 ? v : 0;
}

/* Of a group and all above it, down to the mount's own: each counts. */
static uint64_t group_limit(const char *mount, const char *group, size_t len, const char *file)
{
	VL_FREE char *dir = vl_strndup(group, len);
	uint64_t limit = 0;

	for (char *slash; (slash = strrchr(dir, '/')); *slash = 0) {
		VL_FREE char *path = vl_asprintf("%s%s/%s", mount, dir, file);
		limit = least(limit, read_limit(path));
	}
	VL_FREE char *top = vl_asprintf("%s/%s", mount, file);
	return least(limit, read_limit(top));
}

/* Lines are ID:CONTROLLERS:PATH; version 2 names no controllers. */
uint64_t ctr_cgroup_memory(const char *self, const char *mount)
{
	VL_FREE char *v1 = vl_asprintf("%s/memory", mount);
	uint64_t limit = 0;

	for (const char *l = self; *l;) {
		size_t len = strcspn(l, "\n");
		const char *names = memchr(l, ':', len);
		const char *path = names ? memchr(names + 1, ':', len - (size_t)(names + 1 - l)) : NULL;
		if (path) {
			size_t n = len - (size_t)(path + 1 - l);
			VL_FREE char *list = vl_asprintf(",%.*s,", (int)(path - names - 1), names + 1);
			if (path == names + 1)
				limit = least(limit, group_limit(mount, path + 1, n, "memory.max"));
			else if (strstr(list, ",memory,"))
				limit = least(limit, group_limit(v1, path + 1, n, "memory.limit_in_bytes"));
		}
		l += len + (l[len] == '\n');
	}
	return limit;
}

static uint64_t groups_limit(void)
{
	VL_CLOSE int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	VL_FREE char *text = vl_alloc(CGROUPS_MAX + 1);

	if (fd >= 0 && read(fd, text, CGROUPS_MAX) < 0)
		*text = 0;
	return ctr_cgroup_memory(text, "/sys/fs/cgroup");
}

uint64_t ctr_memory_share(void)
{
	uint64_t limit = groups_limit();
	struct rlimit l;

	if (getrlimit(RLIMIT_AS, &l) == 0 && l.rlim_cur != RLIM_INFINITY)
		limit = least(limit, l.rlim_cur);
	return limit ? VL_MAX(limit / 2, LEAST) : 0;
}

/* Lines are NAME: NUMBER kB. */
static uint64_t meminfo_field(const char *text, const char *name)
{
	size_t n = strlen(name);

	for (const char *l = text; *l; l += strcspn(l, "\n"), l += *l == '\n')
		if (!strncmp(l, name, n) && l[n] == ':')
			return (uint64_t)strtoull(l + n + 1, NULL, 10) << 10;
	return 0;
}

uint64_t ctr_meminfo_free(const char *text)
{
	return meminfo_field(text, "MemAvailable") + meminfo_field(text, "SwapFree");
}

bool ctr_memory_fits(uint64_t bytes, struct vl_err *err)
{
	VL_CLOSE int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	VL_FREE char *text = vl_alloc(MEMINFO_MAX + 1);
	char want[16], have[16];

	if (fd >= 0 && read(fd, text, MEMINFO_MAX) < 0)
		*text = 0;
	uint64_t limit = groups_limit(), available = ctr_meminfo_free(text);
	bool by_limit = limit && (limit < available || !available);
	uint64_t most = by_limit ? limit : available;
	if (!most || bytes <= most)
		return true;
	vl_human_size(bytes, want);
	vl_human_size(most, have);
	vl_fail(err, ENOMEM, "%s of memory are needed, and %s %s", want,
		by_limit ? "the limit of the job or control group is" : "this machine has free no more than", have);
	return false;
}
