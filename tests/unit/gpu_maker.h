/* Machines with GPUs, made of files below m, for their tests. */
#ifndef GPU_MAKER_H
#define GPU_MAKER_H

#include "check.h"

#include "elf_maker.h"
#include "gpu/host.h"

#include <fcntl.h>
#include <sys/stat.h>

#define V "560.35.03"

static inline void put(const char *path, const void *data, size_t n)
{
	VL_FREE char *p = vl_asprintf("m%s", path);

	for (char *s = strchr(p, '/'); s; s = strchr(s + 1, '/')) {
		*s = 0;
		mkdir(p, 0755);
		*s = '/';
	}
	int fd = open(p, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, data, n), (ssize_t)n);
	close(fd);
}

static inline void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

static inline void put_lib(const char *path, const char *soname, const char *glibc)
{
	const char *needs[] = { "GLIBC_2.2.5", glibc, NULL };
	struct elf_wish w = {
		.class = gpu_native_class, .machine = gpu_native_machine, .soname = soname, .needs = needs
	};
	VL_BUF struct vl_buf b = elf_make(&w);

	put(path, b.data, b.len);
}

static inline void put_link(const char *path, const char *target)
{
	put_text(path, "");
	VL_FREE char *p = vl_asprintf("m%s", path);
	CHECK(unlink(p) == 0 && symlink(target, p) == 0);
}

static inline void put_device(unsigned i, const char *pci, unsigned minor)
{
	VL_FREE char *path = vl_asprintf("/proc/driver/nvidia/gpus/%s/information", pci);
	VL_FREE char *text = vl_asprintf("Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 211\n"
					 "GPU UUID: \t GPU-%08x-aaaa-bbbb-cccc-dddddddddddd\nBus Location: \t %s\n"
					 "Device Minor: \t %u\nGPU Excluded:\t No\n",
					 i, pci, minor);
	put_text(path, text);
}

static inline void put_driver(const char *version)
{
	VL_FREE char *text = vl_asprintf("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  "
					 "(u@h)  Fri Aug 16\nGCC version:  gcc version 12.2.0\n",
					 version);
	put_text("/proc/driver/nvidia/version", text);
}

static inline void find(struct gpu_host *h, struct gpu_found *f)
{
	struct vl_err err = { 0 };

	CHECK(gpu_host_open("m", h, &err) == 0);
	gpu_find(h, ~0u, f);
}

static inline const struct gpu_file *file(const struct gpu_files *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (vl_streq(l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

static inline bool ends_with(const char *s, const char *end)
{
	return strlen(s) >= strlen(end) && vl_streq(s + strlen(s) - strlen(end), end);
}

static inline void put_driver_libs(const char *dir, const char *version)
{
	static const struct {
		const char *file, *soname; /* %s: the version */
	} libs[] = { { "libcuda.so.%s", "libcuda.so.1" },
		     { "libnvidia-ml.so.%s", "libnvidia-ml.so.1" },
		     { "libnvidia-ptxjitcompiler.so.%s", "libnvidia-ptxjitcompiler.so.1" },
		     { "libnvidia-glcore.so.%s", "libnvidia-glcore.so.%s" },
		     { "libEGL_nvidia.so.%s", "libEGL_nvidia.so.0" },
		     { "libnvidia-next-thing.so.%s", "libnvidia-next-thing.so.%s" } };

	for (size_t i = 0; i < VL_COUNT(libs); i++) {
		VL_FREE char *name = vl_asprintf(libs[i].file, version), *path = vl_asprintf("%s/%s", dir, name);
		VL_FREE char *soname = vl_asprintf(libs[i].soname, version);
		put_lib(path, soname, NULL);
		VL_FREE char *link = vl_asprintf("%s/%s", dir, soname);
		if (!vl_streq(link, path))
			put_link(link, name);
	}
}

/* libcuda.so.1, its bytes being those of that directory; and all the others. */

#endif
