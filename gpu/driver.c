/* The files of a driver that programs in a container need. Which libraries there are is asked of the linker's cache and of the
 * directories where drivers are put; which of them belong to the running driver is told by its version. */
#include "host.h"

#include <fcntl.h>
#include <stdio.h>

#define LIBS32 GPU_LIBS "/i386"

struct search {
	const struct gpu_host *h;
	const struct gpu_found *f;
	const struct gpu_image *image;
	enum gpu_vendor vendor;
	unsigned caps;
	const char *version; /* "" = not known */
	struct vl_strv seen; /* files that were looked at */
	struct gpu_files *ret;
};

unsigned gpu_caps_parse(const char *text, char **ret_unknown)
{
	static const struct {
		const char *word;
		unsigned caps;
	} words[] = { { "all", GPU_CAP_ALL },     { "utility", GPU_CAP_UTILITY },   { "compute", GPU_CAP_COMPUTE },
		      { "video", GPU_CAP_VIDEO }, { "graphics", GPU_CAP_GRAPHICS }, { "display", GPU_CAP_DISPLAY },
		      { "ngx", GPU_CAP_NGX },     { "compat32", GPU_CAP_COMPAT32 } };
	VL_FREE char *copy = vl_strdup(text);
	unsigned caps = 0;

	for (char *save, *w = strtok_r(copy, ", ", &save); w; w = strtok_r(NULL, ", ", &save)) {
		size_t i = 0;
		while (i < VL_COUNT(words) && !vl_streq(w, words[i].word))
			i++;
		if (i < VL_COUNT(words))
			caps |= words[i].caps;
		else if (ret_unknown && !*ret_unknown)
			*ret_unknown = vl_printable(w, strlen(w));
	}
	return caps;
}

void gpu_files_free(struct gpu_files *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].src);
		free(f->v[i].dst);
		free(f->v[i].name);
		free(f->v[i].needs);
		free(f->v[i].why);
	}
	vl_freep(&f->v);
	f->n = 0;
}

static struct gpu_file *add_file(const struct search *s, const char *src, const char *dst, const char *name)
{
	struct gpu_files *l = s->ret;

	l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
	l->v[l->n] = (struct gpu_file){
		.src = vl_strdup(src), .dst = vl_strdup(dst), .name = vl_strdup(name), .vendor = s->vendor
	};
	return &l->v[l->n++];
}

static void leave_out(struct gpu_file *f, char *why)
{
	vl_freep(&f->dst);
	f->why = why;
}

/* ---- does it fit to the image? ------------------------------------------------------------------ */

static char *newest_glibc(const struct vl_strv *needs)
{
	const char *best = NULL;

	for (size_t i = 0; i < needs->n; i++) {
		const char *v = vl_prefix(needs->v[i], "GLIBC_");
		if (v && *v >= '0' && *v <= '9' && (!best || gpu_version_cmp(v, best) > 0))
			best = v;
	}
	return best ? vl_asprintf("GLIBC_%s", best) : NULL;
}

static void check_libc(const struct search *s, const struct gpu_elf *e, struct gpu_file *f)
{
	f->needs = newest_glibc(&e->needs);
	if (!s->image || f->why)
		return;
	if (s->image->libc != GPU_LIBC_GLIBC) {
		f->newer = true;
		leave_out(f, vl_asprintf("the image has %s", s->image->libc == GPU_LIBC_MUSL
								     ? "musl, not glibc"
								     : "no C library that loads it"));
		return;
	}
	const char *lacks = gpu_image_lacks(s->image, &e->needs);
	if (!lacks)
		return;
	f->newer = true;
	leave_out(f, vl_asprintf("the image's C library lacks %s", lacks));
}

/* Libraries of a group call each other: they all come from one place. */
static bool image_has_group(const struct search *s, const char *group)
{
	for (size_t i = 0; s->image && i < s->image->libraries.n; i++) {
		const struct gpu_family *f = gpu_family_of(s->image->libraries.v[i]);
		if (f && f->group && vl_streq(f->group, group))
			return true;
	}
	return false;
}

/* ---- libraries ---------------------------------------------------------------------------------- */

static bool is_new(const struct search *s, const char *dst)
{
	for (size_t i = 0; i < s->ret->n; i++) {
		const struct gpu_file *f = &s->ret->v[i];
		VL_FREE char *other = f->dst ? NULL : vl_asprintf(GPU_LIBS "/%s", f->name);
		if (vl_streq(dst, f->dst ? f->dst : other))
			return false;
	}
	return true;
}

static bool ends_with_version(const char *file, const char *version)
{
	size_t n = strlen(file), v = strlen(version);

	return n > v && vl_streq(file + n - v, version) && file[n - v - 1] == '.';
}

static void add_library(struct search *s, const struct gpu_family *fam, const struct gpu_elf *e, const char *real)
{
	bool wide = e->class == gpu_native_class && e->machine == gpu_native_machine;
	bool narrow = s->caps & GPU_CAP_COMPAT32 && e->class == ELFCLASS32 && e->machine == EM_386;

	if (!wide && !narrow)
		return;
	const char *name = e->soname ? e->soname : vl_basename(real);
	VL_FREE char *bare = fam->bare ? vl_asprintf("%s.so", fam->name) : NULL;
	const char *const names[] = { name, bare && !vl_streq(bare, name) ? bare : NULL };
	for (size_t i = 0; i < VL_COUNT(names) && names[i]; i++) {
		VL_FREE char *dst = vl_asprintf("%s/%s", wide ? GPU_LIBS : LIBS32, names[i]);
		if (strchr(names[i], '/') || !is_new(s, dst))
			continue;
		struct gpu_file *f = add_file(s, real, dst, names[i]);
		f->library = true;
		if (fam->group && image_has_group(s, fam->group))
			leave_out(f, vl_asprintf("the image has its own %s", fam->group));
		check_libc(s, e, f);
	}
}

static bool was_seen(struct search *s, const char *real)
{
	for (size_t i = 0; i < s->seen.n; i++)
		if (vl_streq(s->seen.v[i], real))
			return true;
	vl_strv_add(&s->seen, real);
	return false;
}

static void try_library(struct search *s, const char *file, const char *path)
{
	const struct gpu_family *fam = gpu_family_of(file);
	GPU_ELF struct gpu_elf e = { 0 };

	if (!fam || fam->vendor != s->vendor || !(fam->caps & s->caps))
		return;
	VL_FREE char *real = gpu_real(s->h, path);
	if (!real || was_seen(s, real))
		return;
	bool star = strchr(fam->name, '*') != NULL;
	if (fam->kind == GPU_DRIVER && (*s->version ? !ends_with_version(real, s->version) : star))
		return; /* of another driver, left over or not yet loaded: the kernel's would refuse it */
	VL_CLOSE int fd = open(real, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0 && gpu_elf_load(gpu_read_fd, &fd, &e) == 0)
		add_library(s, fam, &e, real);
}

static void try_cached(void *arg, const char *name, const char *path)
{
	try_library(arg, name, path);
}

static void find_libraries(struct search *s)
{
	VL_CLOSE int none = -1;
	struct vl_err err;
	VL_FREE char *cache = NULL;
	size_t len = 0;
	VL_FREE char *path = gpu_real(s->h, "/etc/ld.so.cache");

	if (path && vl_read_file(AT_FDCWD, path, GPU_LDCACHE_MAX, &cache, &len, &err) == 0)
		(void)gpu_ldcache(cache, len, try_cached, s);
	for (const char *const *dir = gpu_lib_dirs; *dir; dir++) {
		VL_STRV struct vl_strv names = { 0 };
		gpu_list(s->h, *dir, &names);
		for (size_t i = 0; i < names.n; i++) {
			VL_FREE char *file = vl_asprintf("%s/%s", *dir, names.v[i]);
			try_library(s, names.v[i], file);
		}
	}
}

/* ---- programs and other files ------------------------------------------------------------------- */

static void find_program(struct search *s, const char *name)
{
	static const char *const dirs[] = {
		"/usr/bin", "/usr/sbin", "/usr/lib/nvidia/current", "/usr/lib/wsl/lib", "/run/current-system/sw/bin",
		"/opt/bin", NULL
	};
	GPU_ELF struct gpu_elf e = { 0 };

	for (const char *const *d = dirs; *d; d++) {
		VL_FREE char *path = vl_asprintf("%s/%s", *d, name);
		VL_FREE char *real = gpu_real(s->h, path);
		VL_FREE char *dst = vl_asprintf("/usr/bin/%s", name);
		if (!real)
			continue;
		VL_CLOSE int fd = open(real, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		struct gpu_file *f = add_file(s, real, dst, name);
		if (fd < 0 || gpu_elf_load(gpu_read_fd, &fd, &e) < 0 || e.machine != gpu_native_machine)
			leave_out(f, vl_asprintf("%s cannot be read, or is no program that is linked here", real));
		check_libc(s, &e, f);
		return;
	}
}

static void find_file(struct search *s, const char *pattern)
{
	const char *v = strstr(pattern, "%V");
	VL_FREE char *path =
		v ? vl_asprintf("%.*s%s%s", (int)(v - pattern), pattern, s->version, v + 2) : vl_strdup(pattern);
	VL_FREE char *real = v && !*s->version ? NULL : gpu_real(s->h, path);

	if (real)
		add_file(s, real, path, vl_basename(path));
}

static const struct {
	enum gpu_vendor vendor;
	unsigned caps;
	const char *what; /* a program, or an absolute path where %V is the driver's version */
} others[] = {
	{ GPU_NVIDIA, GPU_CAP_UTILITY, "nvidia-smi" },
	{ GPU_NVIDIA, GPU_CAP_UTILITY, "nvidia-debugdump" },
	{ GPU_NVIDIA, GPU_CAP_UTILITY, "nvidia-persistenced" },
	{ GPU_NVIDIA, GPU_CAP_COMPUTE, "nvidia-cuda-mps-control" },
	{ GPU_NVIDIA, GPU_CAP_COMPUTE, "nvidia-cuda-mps-server" },
	{ GPU_NVIDIA, GPU_CAP_UTILITY, "/lib/firmware/nvidia/%V" },
	{ GPU_NVIDIA, GPU_CAP_UTILITY, "/run/nvidia-persistenced/socket" },
	{ GPU_NVIDIA, GPU_CAP_COMPUTE, "/run/nvidia-fabricmanager/socket" },
	{ GPU_NVIDIA, GPU_CAP_COMPUTE, "/etc/OpenCL/vendors/nvidia.icd" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/etc/vulkan/icd.d/nvidia_icd.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/etc/vulkan/implicit_layer.d/nvidia_layers.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/vulkan/icd.d/nvidia_icd.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/vulkan/icd.d/nvidia_icd.x86_64.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/vulkan/implicit_layer.d/nvidia_layers.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/etc/glvnd/egl_vendor.d/10_nvidia.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/glvnd/egl_vendor.d/10_nvidia.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/egl/egl_external_platform.d/09_nvidia_wayland2.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/egl/egl_external_platform.d/10_nvidia_wayland.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/egl/egl_external_platform.d/15_nvidia_gbm.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/egl/egl_external_platform.d/20_nvidia_xcb.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/egl/egl_external_platform.d/20_nvidia_xlib.json" },
	{ GPU_NVIDIA, GPU_CAP_GRAPHICS, "/usr/share/nvidia/nvoptix.bin" },
	{ GPU_AMD, GPU_CAP_COMPUTE, "/usr/share/libdrm/amdgpu.ids" },
	{ GPU_HABANA, GPU_CAP_UTILITY, "hl-smi" },
};

void gpu_find_files(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor, unsigned caps,
		    const struct gpu_image *image, struct gpu_files *ret)
{
	struct search s = { .h = h,
			    .f = f,
			    .image = image,
			    .vendor = vendor,
			    .caps = caps,
			    .version = f->driver[vendor] ? f->driver[vendor] : "",
			    .ret = ret };

	find_libraries(&s);
	for (size_t i = 0; i < VL_COUNT(others); i++) {
		if (others[i].vendor != vendor || !(others[i].caps & caps))
			continue;
		if (*others[i].what == '/')
			find_file(&s, others[i].what);
		else
			find_program(&s, others[i].what);
	}
	if (vendor == GPU_NVIDIA && f->wsl)
		find_file(&s, "/usr/lib/wsl/drivers");
	for (size_t i = 0; i < f->common[vendor].n; i++)
		if (vl_prefix(f->common[vendor].v[i], "/dev/nvidia-fs0")) { /* whose library asks udev for disks */
			find_file(&s, "/run/udev");
			find_file(&s, "/etc/cufile.json");
		}
	vl_strv_free(&s.seen);
}

/* ---- to edits ----------------------------------------------------------------------------------- */

static void add_node(const struct gpu_host *h, struct gpu_edits *e, const char *path)
{
	VL_FREE char *host = gpu_under(h, path);

	gpu_add_node(e, host, path)->optional = true;
}

/* Does one of these slices need that node? A GPU instance may have several compute instances. */
static bool is_needed(const struct gpu_device *d, int minor)
{
	for (size_t i = 0; i < d->n_slices; i++)
		if (!d->slices[i].left && (d->slices[i].gi_minor == minor || d->slices[i].ci_minor == minor))
			return true;
	return false;
}

static void add_slice_nodes(const struct gpu_host *h, struct gpu_edits *e, const struct gpu_device *d, bool shut)
{
	for (size_t i = 0; i < d->n_slices; i++) {
		const int minors[] = { d->slices[i].gi_minor, d->slices[i].ci_minor };
		for (size_t k = 0; k < VL_COUNT(minors); k++) {
			VL_FREE char *path = vl_asprintf("/dev/nvidia-caps/nvidia-cap%d", minors[k]);
			if (minors[k] < 0)
				continue;
			if (is_needed(d, minors[k]))
				add_node(h, e, path);
			else if (shut)
				gpu_add_shut(e, path);
		}
	}
}

void gpu_make_edits(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor, const bool *chosen,
		    bool shut, const struct gpu_files *files, struct gpu_edits *ret)
{
	bool any = false;

	for (size_t i = 0; i < f->n; i++) {
		const struct gpu_device *d = &f->devices[i];
		if (d->vendor != vendor)
			continue;
		any |= chosen[i];
		for (size_t k = 0; k < d->nodes.n; k++)
			if (chosen[i])
				add_node(h, ret, d->nodes.v[k]);
			else if (shut)
				gpu_add_shut(ret, d->nodes.v[k]);
		if (chosen[i])
			add_slice_nodes(h, ret, d, shut);
	}
	for (size_t i = 0; any && i < f->common[vendor].n; i++)
		add_node(h, ret, f->common[vendor].v[i]);
	for (size_t i = 0; i < files->n; i++) {
		const struct gpu_file *file = &files->v[i];
		if (!file->dst)
			continue;
		struct gpu_mount *m = gpu_add_mount(ret, file->src, file->dst);
		vl_strv_add(&m->options, "ro");
		m->optional = true;
		if (!file->library)
			continue;
		gpu_add_lib_dir(ret, vl_prefix(file->dst, LIBS32 "/") ? LIBS32 : GPU_LIBS);
	}
}
