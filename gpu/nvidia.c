/* NVIDIA's devices, as the driver tells them in /proc/driver/nvidia: its libraries are not asked, since they would wake the
 * devices, and since a login node has none. */
#include "host.h"

#include <ctype.h>
#include <stdio.h>

#define PROC "/proc/driver/nvidia"
#define TEXT_MAX 65536

/* The first word with digits and dots, as 560.35.03; the text before it differs from driver to driver. Returns new. */
static char *version_of(const char *text)
{
	for (const char *w = text; w && *w && *w != '\n'; w += strspn(w, " \t")) {
		size_t n = strcspn(w, " \t\n"), digits = strspn(w, "0123456789.");
		const char *dot = memchr(w, '.', n);
		if (n && digits == n && isdigit((unsigned char)*w) && dot && dot > w + 1)
			return vl_strndup(w, n);
		w += n;
	}
	return NULL;
}

static char *driver_version(const struct gpu_host *h)
{
	VL_FREE char *text = gpu_text(h, PROC "/version", TEXT_MAX);
	VL_FREE char *module = text ? NULL : gpu_text(h, "/sys/module/nvidia/version", TEXT_MAX);
	char *v = version_of(text ? text : module);

	if (v || !(text || module))
		return v;
	return vl_strdup("");
}

/* ---- MIG ---------------------------------------------------------------------------------------- */

static int capability_minor(const struct gpu_host *h, const char *dir)
{
	VL_FREE char *path = vl_asprintf("%s/access", dir);
	VL_FREE char *text = gpu_text(h, path, TEXT_MAX);
	VL_FREE char *value = text ? gpu_value(text, "DeviceFileMinor") : NULL;
	uint64_t n;

	return value && vl_parse_u64(value, 0, 1u << 20, &n) == 0 ? (int)n : -1;
}

static bool number_after(const char *name, const char *prefix, unsigned *ret)
{
	const char *rest = vl_prefix(name, prefix);
	uint64_t n;

	if (!rest || vl_parse_u64(rest, 0, 1u << 20, &n) < 0)
		return false;
	*ret = (unsigned)n;
	return true;
}

static void add_instances(const struct gpu_host *h, struct gpu_device *d, const char *dir, unsigned gi)
{
	VL_STRV struct vl_strv names = { 0 };
	struct gpu_slice s = { .gi = gi, .gi_minor = capability_minor(h, dir) };

	gpu_list(h, dir, &names);
	for (size_t i = 0; i < names.n; i++) {
		VL_FREE char *sub = vl_asprintf("%s/%s", dir, names.v[i]);
		if (!number_after(names.v[i], "ci", &s.ci))
			continue;
		s.ci_minor = capability_minor(h, sub);
		d->slices = vl_realloc(d->slices, d->n_slices + 1, sizeof *d->slices);
		d->slices[d->n_slices++] = s;
	}
}

static void add_slices(const struct gpu_host *h, struct gpu_device *d)
{
	VL_FREE char *dir = vl_asprintf(PROC "/capabilities/gpu%d/mig", d->minor);
	VL_STRV struct vl_strv names = { 0 };
	unsigned gi;

	gpu_list(h, dir, &names);
	for (size_t i = 0; i < names.n; i++) {
		VL_FREE char *sub = vl_asprintf("%s/%s", dir, names.v[i]);
		if (number_after(names.v[i], "gi", &gi))
			add_instances(h, d, sub, gi);
	}
}

/* ---- devices ------------------------------------------------------------------------------------ */

static void add_device(const struct gpu_host *h, struct gpu_found *f, const char *pci)
{
	VL_FREE char *path = vl_asprintf(PROC "/gpus/%s/information", pci);
	VL_FREE char *text = gpu_text(h, path, TEXT_MAX);
	VL_FREE char *minor = text ? gpu_value(text, "Device Minor") : NULL;
	VL_FREE char *excluded = text ? gpu_value(text, "GPU Excluded") : NULL;
	uint64_t n;

	if (!text || (excluded && vl_streq(excluded, "Yes")))
		return;
	struct gpu_device *d = gpu_new_device(f, GPU_NVIDIA);
	d->name = gpu_value(text, "Model");
	d->uuid = gpu_value(text, "GPU UUID");
	if (d->uuid && strchr(d->uuid, '?')) /* not known before the device was used once */
		vl_freep(&d->uuid);
	d->pci = vl_strdup(pci);
	for (char *c = d->pci; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	if (!minor || vl_parse_u64(minor, 0, 1u << 20, &n) < 0)
		return;
	d->minor = (int)n;
	VL_FREE char *node = vl_asprintf("/dev/nvidia%d", d->minor);
	gpu_device_node(h, d, node);
	gpu_device_dri(h, d, true);
	add_slices(h, d);
}

/* A kernel module with no list of devices: what is in /dev is all that is known. */
static void add_by_nodes(const struct gpu_host *h, struct gpu_found *f)
{
	static const char *const pattern[] = { "/dev/nvidia*", NULL };
	VL_STRV struct vl_strv nodes = { 0 };

	gpu_common_nodes(h, &nodes, pattern);
	for (size_t i = 0; i < nodes.n; i++) {
		struct gpu_device *d = gpu_new_device(f, GPU_NVIDIA);
		d->minor = atoi(nodes.v[i] + strlen("/dev/nvidia"));
		gpu_device_node(h, d, nodes.v[i]);
	}
}

void gpu_find_nvidia(const struct gpu_host *h, struct gpu_found *f)
{
	static const char *const common[] = { "/dev/nvidiactl",
					      "/dev/nvidia-uvm",
					      "/dev/nvidia-uvm-tools",
					      "/dev/nvidia-modeset",
					      "/dev/nvidia-nvswitchctl",
					      "/dev/nvidia-nvswitch*",
					      "/dev/nvidia-nvlink",
					      "/dev/nvidia-caps-imex-channels/channel*",
					      "/dev/gdrdrv",
					      "/dev/nvidia-fs*",
					      NULL };
	VL_STRV struct vl_strv names = { 0 };

	f->wsl = gpu_exists(h, "/dev/dxg");
	f->tegra = gpu_exists(h, "/etc/nv_tegra_release") || gpu_exists(h, "/dev/nvhost-ctrl");
	f->driver[GPU_NVIDIA] = driver_version(h);
	if (f->wsl) { /* all devices are one, and the driver is Windows' */
		struct gpu_device *d = gpu_new_device(f, GPU_NVIDIA);
		d->name = vl_strdup("through Windows");
		gpu_device_node(h, d, "/dev/dxg");
		if (!f->driver[GPU_NVIDIA])
			f->driver[GPU_NVIDIA] = vl_strdup("");
		return;
	}
	if (!f->driver[GPU_NVIDIA])
		return;
	gpu_list(h, PROC "/gpus", &names);
	for (size_t i = 0; i < names.n; i++)
		add_device(h, f, names.v[i]);
	if (!names.n)
		add_by_nodes(h, f);
	gpu_common_nodes(h, &f->common[GPU_NVIDIA], common);
}
