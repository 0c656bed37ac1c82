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

/* Numbers of a PCI address, whose domain has four digits in some tools and eight in others. */
static bool read_pci(const char *s, unsigned ret[4])
{
	int n = 0;

	return sscanf(s, "%8x:%2x:%2x.%1x%n", &ret[0], &ret[1], &ret[2], &ret[3], &n) == 4 && !s[n];
}

static bool is_pci(const struct gpu_device *d, const char *word)
{
	unsigned own[4], asked[4];

	return d->pci && read_pci(d->pci, own) && read_pci(word, asked) && !memcmp(own, asked, sizeof own);
}

/* Of the whole device: all of its slices. */
static bool is_meant(const struct gpu_device *d, const char *word)
{
	uint64_t n;

	if (vl_parse_u64(word, 0, UINT32_MAX, &n) == 0)
		return n == d->index;
	if (is_pci(d, word))
		return true;
	/* as the driver takes them: a beginning is enough */
	return d->uuid && strlen(word) > strlen("GPU-") && !strncasecmp(d->uuid, word, strlen(word));
}

/* "0:1": the first number is a device, the second one of its slices; MIG-GPU-UUID/GI/CI. */
static bool is_slice(const struct gpu_device *d, size_t i, const char *word)
{
	const char *mig = vl_prefix(word, "MIG-");
	size_t uuid = d->uuid ? strlen(d->uuid) : 0;
	unsigned a, b;
	int n = 0;

	if (!mig)
		return sscanf(word, "%u:%u%n", &a, &b, &n) == 2 && !word[n] && a == d->index && b == i;
	return uuid && !strncasecmp(mig, d->uuid, uuid) && sscanf(mig + uuid, "/%u/%u%n", &a, &b, &n) == 2 &&
	       !mig[uuid + (size_t)n] && a == d->slices[i].gi && b == d->slices[i].ci;
}

static void leave_slices(const struct gpu_device *d, bool left)
{
	for (size_t i = 0; i < d->n_slices; i++)
		d->slices[i].left = left;
}

static bool choose_slice(const struct gpu_device *d, const char *word)
{
	bool any = false;

	for (size_t i = 0; i < d->n_slices; i++)
		if (is_slice(d, i, word)) {
			any = true;
			d->slices[i].left = false;
		}
	return any;
}

static int choose_one(const struct gpu_found *f, enum gpu_vendor vendor, const char *word, const char *what, bool *ret,
		      struct vl_err *err)
{
	const char *mig = vl_prefix(word, "MIG-");
	unsigned known = 0;
	bool any = false;

	for (size_t i = 0; i < f->n; i++) {
		const struct gpu_device *d = &f->devices[i];
		if (d->vendor != vendor)
			continue;
		known++;
		bool whole = vl_streq(word, "all") || is_meant(d, word);
		if (whole)
			leave_slices(d, false);
		if (whole || choose_slice(d, word))
			ret[i] = any = true;
	}
	if (any || vl_streq(word, "all"))
		return 0;
	VL_FREE char *shown = vl_printable(word, strlen(word));
	if (vl_streq(word, "none") || vl_streq(word, "void"))
		return vl_fail(err, ENODEV, "%s: '%s' stands alone, or not at all", what, shown);
	if (mig && !vl_prefix(mig, "GPU-"))
		return vl_fail(err, ENODEV,
			       "%s: which slice is '%s', only the driver can tell; name it GPU:SLICE or "
			       "MIG-GPU-UUID/GI/CI (`vial gpu list --json` has these numbers)",
			       what, shown);
	return vl_fail(err, ENODEV, "%s: there is no %s device '%s'; this machine has %u, see `vial gpu list`", what,
		       gpu_vendor_names[vendor], shown, known);
}

int gpu_choose(const struct gpu_found *f, enum gpu_vendor vendor, const char *list, const char *what, bool *ret,
	       struct vl_err *err)
{
	VL_FREE char *words = vl_strdup(list);
	int r = 0;

	memset(ret, 0, f->n * sizeof *ret);
	for (size_t i = 0; i < f->n; i++)
		if (f->devices[i].vendor == vendor)
			leave_slices(&f->devices[i], true);
	if (vl_streq(list, "none") || vl_streq(list, "void"))
		return 0;
	for (char *save, *w = strtok_r(words, ", ", &save); w && r == 0; w = strtok_r(NULL, ", ", &save))
		r = choose_one(f, vendor, w, what, ret, err);
	return r;
}
