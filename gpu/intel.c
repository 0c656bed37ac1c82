/* Intel's devices: graphics by their render nodes, Gaudi by its accelerator nodes. */
#include "host.h"

#include <stdio.h>

static bool is_vendor(const struct gpu_host *h, const char *node, const char *id)
{
	VL_FREE char *path = vl_asprintf("/sys/class/drm/%s/device/vendor", node);
	VL_FREE char *text = gpu_text(h, path, 64);

	return text && vl_prefix(text, id);
}

/* The last part of what a device's link in /sys leads to is its PCI address. Returns new or NULL. */
static char *pci_of(const struct gpu_host *h, const char *path)
{
	VL_FREE char *real = gpu_real(h, path);
	const char *base = real ? vl_basename(real) : "";

	return strlen(base) == strlen("0000:00:00.0") && base[4] == ':' ? vl_strdup(base) : NULL;
}

void gpu_find_intel(const struct gpu_host *h, struct gpu_found *f)
{
	VL_STRV struct vl_strv names = { 0 };

	gpu_list(h, "/sys/class/drm", &names);
	for (size_t i = 0; i < names.n; i++) {
		VL_FREE char *node = vl_asprintf("/dev/dri/%s", names.v[i]);
		VL_FREE char *device = vl_asprintf("/sys/class/drm/%s/device", names.v[i]);
		if (!vl_prefix(names.v[i], "renderD") || !is_vendor(h, names.v[i], "0x8086"))
			continue;
		struct gpu_device *d = gpu_new_device(f, GPU_INTEL);
		d->minor = atoi(names.v[i] + strlen("renderD"));
		d->pci = pci_of(h, device);
		gpu_device_node(h, d, node);
		if (!f->driver[GPU_INTEL])
			f->driver[GPU_INTEL] = vl_strdup(gpu_exists(h, "/sys/module/xe") ? "xe" : "i915");
	}
}

/* /dev/accel/accelN and accel_controlDN; before Linux 6.4 /dev/hlN. Its ports are InfiniBand devices of the driver's. */
static void add_ports(const struct gpu_host *h, struct vl_strv *ret)
{
	VL_STRV struct vl_strv names = { 0 };

	gpu_list(h, "/sys/class/infiniband", &names);
	for (size_t i = 0; i < names.n; i++) {
		VL_FREE char *dir = vl_asprintf("/sys/class/infiniband/%s/device/infiniband_verbs", names.v[i]);
		VL_STRV struct vl_strv verbs = { 0 };
		if (!vl_prefix(names.v[i], "hbl_"))
			continue;
		gpu_list(h, dir, &verbs);
		for (size_t k = 0; k < verbs.n; k++)
			vl_strv_take(ret, vl_asprintf("/dev/infiniband/%s", verbs.v[k]));
	}
}

void gpu_find_habana(const struct gpu_host *h, struct gpu_found *f)
{
	static const char *const accel[] = { "/dev/accel/accel*", NULL }, *const hl[] = { "/dev/hl*", NULL };
	VL_STRV struct vl_strv nodes = { 0 };
	VL_FREE char *version = gpu_text(h, "/sys/module/habanalabs/version", 4096);

	if (!version && !gpu_exists(h, "/sys/module/habanalabs"))
		return;
	if (version)
		version[strcspn(version, " \n")] = 0;
	f->driver[GPU_HABANA] = version ? vl_steal(&version) : vl_strdup("");
	gpu_common_nodes(h, &nodes, accel);
	bool old = !nodes.n;
	if (old)
		gpu_common_nodes(h, &nodes, hl);
	for (size_t i = 0; i < nodes.n; i++) {
		struct gpu_device *d = gpu_new_device(f, GPU_HABANA);
		d->minor = atoi(nodes.v[i] + strlen(old ? "/dev/hl" : "/dev/accel/accel"));
		gpu_device_node(h, d, nodes.v[i]);
		VL_FREE char *control =
			vl_asprintf(old ? "/dev/hl_controlD%d" : "/dev/accel/accel_controlD%d", d->minor);
		if (gpu_exists(h, control))
			gpu_device_node(h, d, control);
	}
	add_ports(h, &f->common[GPU_HABANA]);
}
