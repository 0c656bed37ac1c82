/* Whose is a library of that name? */
#include "host.h"

/* clang-format off */
static const struct gpu_family families[] = {
#include "families.def"
};
/* clang-format on */

/* Where drivers and distributions put them, besides what the linker's cache knows: an alternative's target, NixOS (which has
 * no such cache), Windows' subsystem, ROCm. */
const char *const gpu_lib_dirs[] = {
#if defined(__x86_64__)
	"/usr/lib/x86_64-linux-gnu",
	"/usr/lib/x86_64-linux-gnu/nvidia/current",
#elif defined(__aarch64__)
	"/usr/lib/aarch64-linux-gnu",
	"/usr/lib/aarch64-linux-gnu/nvidia/current",
#elif defined(__powerpc64__)
	"/usr/lib/powerpc64le-linux-gnu",
#endif
	"/usr/lib64",
	"/usr/lib64/nvidia",
	"/usr/lib",
	"/usr/lib/nvidia",
	"/usr/lib/i386-linux-gnu",
	"/usr/lib/i386-linux-gnu/nvidia/current",
	"/usr/lib32",
	"/run/opengl-driver/lib",
	"/run/opengl-driver-32/lib",
	"/usr/lib/wsl/lib",
	"/opt/rocm/lib",
	"/opt/rocm/lib64",
	NULL,
};

const struct gpu_family *gpu_family_of(const char *file)
{
	const char *so = strstr(file, ".so");
	const struct gpu_family *any = NULL;

	if (!so || (so[3] && so[3] != '.'))
		return NULL;
	size_t n = (size_t)(so - file);
	for (size_t i = 0; i < VL_COUNT(families); i++) {
		size_t len = strlen(families[i].name);
		if (len == n && !strncmp(file, families[i].name, n))
			return &families[i];
		if (families[i].name[len - 1] == '*' && !strncmp(file, families[i].name, len - 1))
			any = &families[i];
	}
	return any;
}
