/* The devices of a host, and which of them are meant. */
#include "host.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

const char *const gpu_vendor_names[GPU_VENDORS] = { "NVIDIA", "AMD", "Intel", "Habana" };

/* ---- all of them -------------------------------------------------------------------------------- */

void gpu_find(const struct gpu_host *h, unsigned vendors, struct gpu_found *ret)
{
	static void (*const find[])(const struct gpu_host *, struct gpu_found *) = {
		[GPU_NVIDIA] = gpu_find_nvidia,
		[GPU_AMD] = gpu_find_amd,
		[GPU_INTEL] = gpu_find_intel,
		[GPU_HABANA] = gpu_find_habana,
	};

	*ret = (struct gpu_found){ 0 };
	for (size_t i = 0; i < VL_COUNT(find); i++)
		if (vendors & 1u << i)
			find[i](h, ret);
}

void gpu_found_free(struct gpu_found *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->devices[i].name);
		free(f->devices[i].uuid);
		free(f->devices[i].pci);
		free(f->devices[i].slices);
		vl_strv_free(&f->devices[i].nodes);
	}
	vl_freep(&f->devices);
	for (size_t i = 0; i < GPU_VENDORS; i++) {
		vl_freep(&f->driver[i]);
		vl_strv_free(&f->common[i]);
	}
	f->n = 0;
}

struct gpu_device *gpu_new_device(struct gpu_found *f, enum gpu_vendor vendor)
{
	unsigned index = 0;

	for (size_t i = 0; i < f->n; i++)
		index += f->devices[i].vendor == vendor;
	f->devices = vl_realloc(f->devices, f->n + 1, sizeof *f->devices);
	f->devices[f->n] = (struct gpu_device){ .vendor = vendor, .index = index, .minor = -1, .access = GPU_NO_NODE };
	return &f->devices[f->n++];
}

/* ---- nodes -------------------------------------------------------------------------------------- */

/* The kernel asks a device cgroup here too, and the driver is not woken as by an open. */
static enum gpu_access access_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno == EACCES ? GPU_SHUT : GPU_NO_NODE;
	if (!S_ISCHR(st.st_mode))
		return GPU_NO_NODE;
	if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0)
		return GPU_OPENS;
	return errno == EPERM ? GPU_DENIED : GPU_SHUT;
}

void gpu_device_node(const struct gpu_host *h, struct gpu_device *d, const char *path)
{
	VL_FREE char *real = gpu_under(h, path);

	if (!d->nodes.n)
		d->access = access_of(real);
	vl_strv_add(&d->nodes, path);
}

void gpu_device_dri(const struct gpu_host *h, struct gpu_device *d, bool cards)
{
	VL_FREE char *dir = vl_asprintf("/sys/bus/pci/devices/%s/drm", d->pci ? d->pci : "none");
	VL_STRV struct vl_strv names = { 0 };

	gpu_list(h, dir, &names);
	for (size_t i = 0; i < names.n; i++)
		if (vl_prefix(names.v[i], "renderD") || (cards && vl_prefix(names.v[i], "card"))) {
			VL_FREE char *node = vl_asprintf("/dev/dri/%s", names.v[i]);
			if (gpu_exists(h, node))
				gpu_device_node(h, d, node);
		}
}

void gpu_common_nodes(const struct gpu_host *h, struct vl_strv *ret, const char *const *patterns)
{
	for (; *patterns; patterns++) {
		const char *star = strchr(*patterns, '*');
		VL_STRV struct vl_strv names = { 0 };
		if (!star) {
			if (gpu_exists(h, *patterns))
				vl_strv_add(ret, *patterns);
			continue;
		}
		const char *base = vl_basename(*patterns);
		VL_FREE char *dir = vl_strndup(*patterns, (size_t)(base - *patterns - 1));
		gpu_list(h, dir, &names);
		for (size_t i = 0; i < names.n; i++) {
			size_t n = (size_t)(star - base);
			const char *rest = names.v[i] + VL_MIN(n, strlen(names.v[i]));
			if (!strncmp(names.v[i], base, n) && *rest && !rest[strspn(rest, "0123456789")])
				vl_strv_take(ret, vl_asprintf("%s/%s", dir, names.v[i]));
		}
	}
}

/* ---- which of them ------------------------------------------------------------------------------ */

/* "0:1": the first number is a device, the second one of its slices. */
static bool is_slice_of(const struct gpu_device *d, const char *word)
{
	unsigned device, slice;
	int n = 0;

	return sscanf(word, "%u:%u%n", &device, &slice, &n) == 2 && !word[n] && device == d->index &&
	       slice < d->n_slices;
}

static bool is_meant(const struct gpu_device *d, const char *word)
{
	uint64_t n;
	const char *mig = vl_prefix(word, "MIG-");

	if (vl_parse_u64(word, 0, UINT32_MAX, &n) == 0)
		return n == d->index;
	if (is_slice_of(d, word) || (d->pci && !strcasecmp(word, d->pci)))
		return true;
	if (mig && !vl_prefix(mig, "GPU-")) /* the UUID of a slice: whose, only the driver knows */
		return d->n_slices;
	if (mig)
		return d->uuid && !strncasecmp(mig, d->uuid, strlen(d->uuid)) && mig[strlen(d->uuid)] == '/';
	/* as the driver takes them: a beginning is enough */
	return d->uuid && strlen(word) > strlen("GPU-") && !strncasecmp(d->uuid, word, strlen(word));
}

static int choose_one(const struct gpu_found *f, enum gpu_vendor vendor, const char *word, const char *what, bool *ret,
		      struct vl_err *err)
{
	unsigned known = 0;
	bool any = false;

	for (size_t i = 0; i < f->n; i++) {
		if (f->devices[i].vendor != vendor)
			continue;
		known++;
		if (!vl_streq(word, "all") && !is_meant(&f->devices[i], word))
			continue;
		ret[i] = any = true;
	}
	if (any || vl_streq(word, "all"))
		return 0;
	VL_FREE char *shown = vl_printable(word, strlen(word));
	return vl_fail(err, ENODEV, "%s: there is no %s device '%s'; this machine has %u, see `vial gpu list`", what,
		       gpu_vendor_names[vendor], shown, known);
}

int gpu_choose(const struct gpu_found *f, enum gpu_vendor vendor, const char *list, const char *what, bool *ret,
	       struct vl_err *err)
{
	VL_FREE char *words = vl_strdup(list);
	int r = 0;

	memset(ret, 0, f->n * sizeof *ret);
	if (vl_streq(list, "none") || vl_streq(list, "void"))
		return 0;
	for (char *save, *w = strtok_r(words, ", ", &save); w && r == 0; w = strtok_r(NULL, ", ", &save))
		r = choose_one(f, vendor, w, what, ret, err);
	return r;
}
