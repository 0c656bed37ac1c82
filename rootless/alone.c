/* A step whose MPI ranks would not find each other: no error comes of it, only N runs of one rank each. */
#include "rootless.h"

#include <fcntl.h>

#define CACHE "/etc/ld.so.cache"
#define CACHE_MAX (8u << 20) /* bytes; a desktop's is 200 KB */

/* Several tasks, and nobody who would tell them of each other. Said on one node of them. */
static bool has_no_server(char *const *env)
{
	static const char *const servers[] = { "PMI_FD", "PMI_RANK", "PMIX_NAMESPACE", "PMI_SPAWNED" };
	const char *tasks = vl_env_value(env, "SLURM_STEP_NUM_TASKS"), *node = vl_env_value(env, "SLURM_NODEID");
	uint64_t n = 0;

	if (!tasks || vl_parse_u64(tasks, 1, UINT32_MAX, &n) < 0 || n < 2 || !node || !vl_streq(node, "0"))
		return false;
	for (size_t i = 0; i < VL_COUNT(servers); i++)
		if (vl_env_value(env, servers[i]))
			return false;
	return true;
}

/* What the image's linker knows is what its programs are linked to. */
static const char *library(const char *cache, size_t len)
{
	static const char *const names[] = { "libmpi.so.", "libmpich.so.", "libmpi_cray.so." };

	for (size_t i = 0; i < VL_COUNT(names); i++) {
		const char *p = memmem(cache, len, names[i], strlen(names[i]));
		if (p)
			return p;
	}
	return NULL;
}

void ctr_warn_of_lone_ranks(const struct plan *p, const struct vl_progress *say)
{
	VL_FREE char *cache = NULL;
	struct vl_err none = { 0 };
	size_t len = 0;

	if (!p->environment || !has_no_server(p->environment) ||
	    vl_read_file(AT_FDCWD, CACHE, CACHE_MAX, &cache, &len, &none) < 0)
		return;
	const char *name = library(cache, len);
	if (!name)
		return;
	VL_FREE char *shown = vl_printable(name, strnlen(name, (size_t)(cache + len - name)));
	vl_progress_warn(
		say,
		"%s has MPI (%s), but srun was not told of it: each of the %s tasks would be a world of its own. "
		"`vial mpi check %s` names the right --mpi=TYPE",
		p->image_path, shown, vl_env_value(p->environment, "SLURM_STEP_NUM_TASKS"), p->image_path);
}
