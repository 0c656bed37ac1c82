/* --nv, --rocm: for now the words, and what they find. A script that always says --nv must run on a node without a GPU;
 * one that needs the GPU must not believe that it has one. */
#include "run.h"

/* device: the driver's own, which is there whenever the driver is loaded. */
static void look_for(const struct vl_progress *say, const char *option, const char *device, const char *driver)
{
	if (access(device, F_OK) < 0)
		vl_progress_warn(say, "%s: this machine has no %s driver loaded (%s is missing); going on without",
				 option, driver, device);
	else
		vl_progress_warn(say, "%s: %s is there, but the driver's libraries are not mounted yet; --bind them",
				 option, device);
}

void cmd_plan_gpu(const struct gpu_opts *o, const struct vl_progress *say)
{
	if ((o->nv || o->nvccli) && !o->no_nv)
		look_for(say, o->nv ? "--nv" : "--nvccli", "/dev/nvidiactl", "NVIDIA");
	if (o->rocm && !o->no_rocm)
		look_for(say, "--rocm", "/dev/kfd", "AMD");
}
