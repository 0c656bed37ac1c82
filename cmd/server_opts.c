/* --mount-memory and --mount-threads. */
#include "commands.h"

#include <vial/mount.h>

static uint64_t machine(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

int cmd_server_opts_read(const struct server_opts *o, uint64_t *ret_memory, unsigned *ret_threads, struct vl_err *err)
{
	unsigned threads = (unsigned)VL_MIN(o->threads, VMNT_THREADS_MAX + 1ull);
	uint64_t least = vmnt_server_least(VL_MAX(threads, 1u)), memory = 0;

	if (threads > VMNT_THREADS_MAX)
		return vl_fail(err, EINVAL, "--mount-threads: %u at most", VMNT_THREADS_MAX);
	if (o->memory && *o->memory && vl_parse_size(o->memory, INT64_MAX, &memory) < 0)
		return vl_fail(err, EINVAL, "--mount-memory takes a size, as in 128M, not '%s'", o->memory);
	if (o->memory && *o->memory && memory < least)
		return vl_fail(err, EINVAL, "--mount-memory %s is too little for %u thread%s: at least %lluM",
			       o->memory, VL_MAX(threads, 1u), threads > 1 ? "s" : "",
			       (unsigned long long)(least >> 20));
	if (memory > machine())
		return vl_fail(err, EINVAL, "--mount-memory %s is more than this machine has", o->memory);
	if (!memory && least > VMNT_MEMORY)
		return vl_fail(err, EINVAL, "--mount-threads %u takes more memory than usual: --mount-memory %lluM",
			       threads, (unsigned long long)(least >> 20));
	*ret_memory = memory;
	*ret_threads = threads;
	return 0;
}
