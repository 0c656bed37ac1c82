/* What makes two starts share one mount. Each line is there because without it somebody would be given
 * another image, another view of it, or a holder that dies of somebody else's end. */
#include "hold.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define CGROUP_MAX 16384 /* a line per hierarchy, 13 at most, each a path */

static bool add_file(struct vl_buf *b, const char *what, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return false;
	vl_buf_addf(b, "%s %llx %llx\n", what, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	return true;
}

static bool add_image(struct vl_buf *b, const struct plan *p)
{
	struct stat st;

	if (fstat(p->image_fd, &st) < 0)
		return false;
	vl_buf_addf(b, "image %llx %llx %lld %lld.%ld %lld.%ld\n", (unsigned long long)st.st_dev,
		    (unsigned long long)st.st_ino, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
		    st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	vl_buf_addf(b, "part %llu %llu\n", (unsigned long long)p->image_off, (unsigned long long)p->image_size);
	/* a start that wants the image checked is never given a mount whose server does not, or by another root */
	if (p->tree && p->tree->block) {
		char root[2 * sizeof p->tree->root + 1];
		vl_hex(p->tree->root, sizeof p->tree->root, root);
		vl_buf_addf(b, "tree %u %s\n", p->tree->block, root);
	}
	return true;
}

/* The length of a cgroup's path up to what a scheduler kills as one: a step, else a job. */
size_t ctr_cgroup_unit(const char *path, size_t len)
{
	size_t job = 0;

	for (size_t i = 0; i < len;) {
		size_t n = strcspn(path + i, "/\n");
		if (vl_prefix(path + i, "step_"))
			return i + n;
		if (vl_prefix(path + i, "job_"))
			job = i + n;
		i += n + 1;
	}
	return job ? job : len;
}

/* A job's end kills what is in its cgroups: nobody else may depend on that. */
static bool add_cgroup(struct vl_buf *b)
{
	VL_CLOSE int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	char text[CGROUP_MAX + 1];
	size_t len = 0;
	ssize_t n;

	if (fd < 0)
		return errno == ENOENT; /* a kernel without cgroups */
	while ((n = read(fd, text + len, CGROUP_MAX - len)) > 0)
		len += (size_t)n;
	if (n < 0 || len == CGROUP_MAX)
		return false;
	text[len] = 0;
	for (const char *line = text; *line;) {
		size_t all = strcspn(line, "\n");
		vl_buf_adds(b, "cgroup ");
		vl_buf_add(b, line, ctr_cgroup_unit(line, all));
		vl_buf_adds(b, "\n");
		line += all + (line[all] == '\n');
	}
	return true;
}

char *ctr_hold_key(const struct plan *p)
{
	VL_BUF struct vl_buf b = { 0 };

	/* another build of vial may speak another language */
	if (!add_file(&b, "vial", "/proc/self/exe") || !add_image(&b, p))
		return NULL;
	vl_buf_addf(&b, "user %u %u%s\n", p->user.uid, p->user.gid, ctr_may_map_all() ? " all" : "");
	/* a server has as much memory, and as many threads, as its first user asked for */
	vl_buf_addf(&b, "server %llu %u\n", (unsigned long long)p->server_memory, p->server_threads);
	/* user: whose ids the holder's maps are of. mnt: the server stays in that of the first start, and keeps
	 * what is mounted there busy. pid: with the first process of one, all others in it are killed. */
	if (!add_file(&b, "user-ns", "/proc/self/ns/user") || !add_file(&b, "mnt-ns", "/proc/self/ns/mnt") ||
	    !add_file(&b, "pid-ns", "/proc/self/ns/pid") || !add_file(&b, "root", "/") || !add_cgroup(&b))
		return NULL;
	return vl_steal(&b.data);
}

void ctr_hold_name(const char *key, char ret[CTR_SOCKET_NAME])
{
	uint64_t h = 0xcbf29ce484222325u; /* FNV-1a: a name, not a proof */

	for (; *key; key++)
		h = (h ^ (uint8_t)*key) * 0x100000001b3u;
	snprintf(ret, CTR_SOCKET_NAME, "%016llx", (unsigned long long)h);
}
