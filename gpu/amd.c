/* AMD's devices, as the kernel's driver tells them in the topology of /sys. */
#include "host.h"

#include <stdio.h>

#define KFD "/sys/class/kfd/kfd/topology/nodes"
#define TEXT_MAX 65536

static uint64_t property(const char *text, const char *key)
{
	VL_FREE char *value = gpu_value(text, key);
	uint64_t n;

	return value && vl_parse_u64(value, 0, UINT64_MAX, &n) == 0 ? n : 0;
}

/* Of /sys, the marketing name is nowhere; the code name is. Returns new or NULL. */
static char *name_of(const struct gpu_host *h, const char *node, const char *properties)
{
	VL_FREE char *path = vl_asprintf(KFD "/%s/name", node);
	VL_FREE char *text = gpu_text(h, path, 4096);
	uint64_t gfx = property(properties, "gfx_target_version");

	if (text)
		text[strcspn(text, "\n")] = 0;
	if (gfx) /* 90402 is gfx942: the last two are hexadecimal digits */
		return vl_asprintf("%s%sgfx%llu%llx%llx", text && *text ? text : "", text && *text ? " " : "",
				   (unsigned long long)gfx / 10000, (unsigned long long)gfx / 100 % 100,
				   (unsigned long long)gfx % 100);
	return text && *text ? vl_steal(&text) : NULL;
}

static void add_device(const struct gpu_host *h, struct gpu_found *f, const char *node)
{
	VL_FREE char *path = vl_asprintf(KFD "/%s/properties", node);
	VL_FREE char *text = gpu_text(h, path, TEXT_MAX);

	if (!text || !property(text, "simd_count")) /* a node of processors */
		return;
	uint64_t location = property(text, "location_id"), id = property(text, "unique_id"),
		 render = property(text, "drm_render_minor");
	struct gpu_device *d = gpu_new_device(f, GPU_AMD);
	d->name = name_of(h, node, text);
	d->uuid = id ? vl_asprintf("GPU-%016llx", (unsigned long long)id) : NULL;
	d->pci =
		vl_asprintf("%04x:%02x:%02x.%x", (unsigned)property(text, "domain") & 0xffff,
			    (unsigned)(location >> 8) & 0xff, (unsigned)(location >> 3) & 0x1f, (unsigned)location & 7);
	d->minor = (int)render;
	VL_FREE char *dri = vl_asprintf("/dev/dri/renderD%d", d->minor);
	gpu_device_node(h, d, dri);
}

void gpu_find_amd(const struct gpu_host *h, struct gpu_found *f)
{
	static const char *const common[] = { "/dev/kfd", NULL };
	VL_STRV struct vl_strv nodes = { 0 };

	gpu_common_nodes(h, &f->common[GPU_AMD], common);
	if (!f->common[GPU_AMD].n && !gpu_exists(h, "/sys/module/amdgpu"))
		return;
	VL_FREE char *version = gpu_text(h, "/sys/module/amdgpu/version", 4096);
	if (version)
		version[strcspn(version, "\n")] = 0;
	f->driver[GPU_AMD] = version ? vl_steal(&version) : vl_strdup("");
	gpu_list(h, KFD, &nodes);
	for (size_t i = 0; i < nodes.n; i++)
		add_device(h, f, nodes.v[i]);
}
