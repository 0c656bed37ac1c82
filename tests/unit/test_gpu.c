/* Machines with GPUs, made of files: what is found on them, what of it fits to an image, and what becomes of it in a plan. */
#include "check.h"

#include "elf_maker.h"
#include "gpu/host.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#define V "560.35.03"

/* ---- making a machine ---------------------------------------------------------------------------- */

static void put(const char *path, const void *data, size_t n)
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

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

static void put_lib(const char *path, const char *soname, const char *glibc)
{
	const char *needs[] = { "GLIBC_2.2.5", glibc, NULL };
	struct elf_wish w = {
		.class = gpu_native_class, .machine = gpu_native_machine, .soname = soname, .needs = needs
	};
	VL_BUF struct vl_buf b = elf_make(&w);

	put(path, b.data, b.len);
}

static void put_link(const char *path, const char *target)
{
	put_text(path, "");
	VL_FREE char *p = vl_asprintf("m%s", path);
	CHECK(unlink(p) == 0 && symlink(target, p) == 0);
}

static void put_device(unsigned i, const char *pci, unsigned minor)
{
	VL_FREE char *path = vl_asprintf("/proc/driver/nvidia/gpus/%s/information", pci);
	VL_FREE char *text = vl_asprintf("Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 211\n"
					 "GPU UUID: \t GPU-%08x-aaaa-bbbb-cccc-dddddddddddd\nBus Location: \t %s\n"
					 "Device Minor: \t %u\nGPU Excluded:\t No\n",
					 i, pci, minor);
	put_text(path, text);
}

static void put_driver(const char *version)
{
	VL_FREE char *text = vl_asprintf("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  %s  Release Build  "
					 "(u@h)  Fri Aug 16\nGCC version:  gcc version 12.2.0\n",
					 version);
	put_text("/proc/driver/nvidia/version", text);
}

static void find(struct gpu_host *h, struct gpu_found *f)
{
	struct vl_err err = { 0 };

	CHECK(gpu_host_open("m", h, &err) == 0);
	gpu_find(h, ~0u, f);
}

static const struct gpu_file *file(const struct gpu_files *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (vl_streq(l->v[i].name, name))
			return &l->v[i];
	return NULL;
}

static bool ends_with(const char *s, const char *end)
{
	return strlen(s) >= strlen(end) && vl_streq(s + strlen(s) - strlen(end), end);
}

/* ---- drivers and where distributions put them ---------------------------------------------------- */

static void put_driver_libs(const char *dir, const char *version)
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
static void expect_driver(const char *dir, const char *version)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_FILES struct gpu_files l = { 0 };
	VL_FREE char *src = vl_asprintf("m%s/libcuda.so.%s", dir, version);
	VL_FREE char *core = vl_asprintf("libnvidia-glcore.so.%s", version);
	VL_FREE char *next = vl_asprintf("libnvidia-next-thing.so.%s", version);
	const char *const names[] = { "libcuda.so.1",
				      "libcuda.so",
				      "libnvidia-ml.so.1",
				      "libEGL_nvidia.so.0",
				      core,
				      next,
				      "libnvidia-ptxjitcompiler.so.1" };

	find(&h, &f);
	CHECK_STR(f.driver[GPU_NVIDIA], version);
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, NULL, &l);
	for (size_t i = 0; i < VL_COUNT(names); i++) {
		const struct gpu_file *x = file(&l, names[i]);
		if (!x)
			CHECK_FAIL("%s %s: no %s", dir, version, names[i]);
		VL_FREE char *dst = vl_asprintf(GPU_LIBS "/%s", names[i]);
		CHECK_STR(x->dst, dst);
	}
	if (!ends_with(file(&l, "libcuda.so.1")->src, src))
		CHECK_FAIL("%s is not %s", file(&l, "libcuda.so.1")->src, src);
}

TEST(drivers_are_found_in_every_layout)
{
	static const char *const versions[] = { "390.157", "470.256.02", "535.183.01", "560.35.03", "580.65.06" };
	static const char *const dirs[] = {
		"/usr/lib64",                               /* RHEL, SUSE */
		"/usr/lib/x86_64-linux-gnu/nvidia/current", /* Debian, behind alternatives */
		"/usr/lib/x86_64-linux-gnu",                /* Ubuntu */
		"/usr/lib",                                 /* Arch */
		"/usr/lib64/nvidia",
		"/run/opengl-driver/lib", /* NixOS */
	};

	for (size_t i = 0; i < VL_COUNT(versions); i++)
		for (size_t k = 0; k < VL_COUNT(dirs); k++) {
#ifndef __x86_64__
			if (strstr(dirs[k], "x86_64"))
				continue;
#endif
			CHECK_EQ(system("rm -rf m"), 0);
			put_driver(versions[i]);
			put_driver_libs(dirs[k], versions[i]);
			/* of a driver that was removed, or is not yet loaded */
			put_lib("/usr/lib64/libcuda.so.999.1", "libcuda.so.1", NULL);
			put_lib("/usr/lib64/libnvidia-old-thing.so.999.1", "libnvidia-old-thing.so.999.1", NULL);
			expect_driver(dirs[k], versions[i]);
		}
}

TEST(a_debian_alternative_leads_to_the_driver)
{
	put_driver(V);
	put_driver_libs("/opt/odd/place", V);
	put_link("/usr/lib64/libcuda.so.1", "/etc/alternatives/glx--libcuda.so.1");
	put_link("/etc/alternatives/glx--libcuda.so.1", "/opt/odd/place/libcuda.so.1");

	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_FILES struct gpu_files l = { 0 };
	find(&h, &f);
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, NULL, &l);
	CHECK(file(&l, "libcuda.so.1") != NULL);
	CHECK(ends_with(file(&l, "libcuda.so.1")->src, "/m/opt/odd/place/libcuda.so." V));
	CHECK(file(&l, "libnvidia-ml.so.1") == NULL); /* that directory itself is nobody's */
}

TEST(windows_has_a_driver_without_a_version)
{
	put_text("/dev/dxg", "");
	put_lib("/usr/lib/wsl/lib/libcuda.so.1.1", "libcuda.so.1", NULL);
	put_lib("/usr/lib/wsl/lib/libdxcore.so", "libdxcore.so", NULL);
	put_lib("/usr/lib/wsl/lib/libnvidia-ml.so.1", "libnvidia-ml.so.1", NULL);
	put_text("/usr/lib/wsl/drivers/nv/nvidia.bin", "x");

	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_FILES struct gpu_files l = { 0 };
	find(&h, &f);
	CHECK(f.wsl && f.driver[GPU_NVIDIA]);
	CHECK_EQ(f.n, 1);
	CHECK_STR(f.devices[0].nodes.v[0], "/dev/dxg");
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, NULL, &l);
	CHECK(file(&l, "libcuda.so.1") && file(&l, "libdxcore.so") && file(&l, "libnvidia-ml.so.1"));
	CHECK_STR(file(&l, "drivers")->dst, "/usr/lib/wsl/drivers");
}

/* ---- the linker's cache -------------------------------------------------------------------------- */

struct entry {
	const char *name, *path;
};

static struct vl_buf make_cache(const struct entry *e, size_t n, bool old)
{
	struct vl_buf b = { 0 }, strings = { 0 };
	size_t start = 0;

	if (old) {
		vl_buf_add(&b, "ld.so-1.7.0\0", 12);
		elf_put(&b, 1, 4);
		elf_put(&b, 0, 12 + 4); /* one entry, and up to the next eight */
		start = b.len = 32;
	}
	vl_buf_add(&b, "glibc-ld.so.cache1.1", 20);
	elf_put(&b, n, 4);
	elf_put(&b, 0, 24);
	for (size_t i = 0; i < n; i++) {
		size_t at = 48 + n * 24 + strings.len;
		elf_put(&b, 0x303, 4);
		elf_put(&b, at, 4);
		elf_put(&b, at + strlen(e[i].name) + 1, 4);
		elf_put(&b, 0, 12);
		vl_buf_add(&strings, e[i].name, strlen(e[i].name) + 1);
		vl_buf_add(&strings, e[i].path, strlen(e[i].path) + 1);
	}
	vl_buf_add(&b, strings.data, strings.len);
	vl_buf_free(&strings);
	CHECK(start <= b.len);
	return b;
}

TEST(the_linkers_cache_knows_where)
{
	static const struct entry e[] = { { "libcuda.so.1", "/opt/site/driver/libcuda.so.1" },
					  { "libz.so.1", "/usr/lib/libz.so.1" } };

	put_driver(V);
	put_driver_libs("/opt/site/driver", V);
	for (int old = 0; old < 2; old++) {
		VL_BUF struct vl_buf b = make_cache(e, VL_COUNT(e), old);
		put("/etc/ld.so.cache", b.data, b.len);
		GPU_HOST struct gpu_host h = GPU_HOST_INIT;
		GPU_FOUND struct gpu_found f = { 0 };
		GPU_FILES struct gpu_files l = { 0 };
		find(&h, &f);
		gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, NULL, &l);
		CHECK(file(&l, "libcuda.so.1") != NULL);
		CHECK(file(&l, "libz.so.1") == NULL);
	}
}

static void count(void *arg, const char *name, const char *path)
{
	CHECK(*name && *path == '/');
	++*(unsigned *)arg;
}

TEST(a_damaged_cache_is_none)
{
	static const struct entry e[] = { { "libcuda.so.1", "/x/libcuda.so.1" } };
	VL_BUF struct vl_buf b = make_cache(e, 1, false);
	unsigned n = 0;

	CHECK_EQ(gpu_ldcache(b.data, b.len, count, &n), 0);
	CHECK_EQ(n, 1);
	for (size_t len = 0; len < b.len; len++)
		CHECK_EQ(gpu_ldcache(b.data, len, count, &n), -EBADMSG);
	vl_put_le32(b.data + 20, UINT32_MAX);
	CHECK_EQ(gpu_ldcache(b.data, b.len, count, &n), -EBADMSG);
	vl_put_le32(b.data + 20, 1);
	vl_put_le32(b.data + 48 + 4, UINT32_MAX);
	CHECK_EQ(gpu_ldcache(b.data, b.len, count, &n), -EBADMSG);
}

/* As this machine's own writes it. */
TEST(the_cache_of_this_machine_is_read)
{
	VL_FREE char *data = NULL;
	struct vl_err err;
	size_t len;
	unsigned n = 0;

	if (vl_read_file(AT_FDCWD, "/etc/ld.so.cache", GPU_LDCACHE_MAX, &data, &len, &err) < 0)
		return;
	CHECK_EQ(gpu_ldcache(data, len, count, &n), 0);
	CHECK(n > 0);
}

/* ---- libraries ----------------------------------------------------------------------------------- */

TEST(versions_of_both_classes_are_read)
{
	static const char *const needs[] = { "GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_ABI_DT_RELR", NULL };
	static const char *const defines[] = { "libx.so.1", "X_1.0", NULL };
	static const unsigned kinds[][2] = { { ELFCLASS64, EM_X86_64 }, { ELFCLASS32, EM_386 } };

	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		struct elf_wish w = { .class = kinds[i][0],
				      .machine = kinds[i][1],
				      .soname = "libx.so.1",
				      .needs = needs,
				      .defines = defines };
		VL_BUF struct vl_buf b = elf_make(&w);
		GPU_ELF struct gpu_elf e = { 0 };
		CHECK_EQ(gpu_elf_load(read_buf, &b, &e), 0);
		CHECK_EQ(e.class, kinds[i][0]);
		CHECK_EQ(e.machine, kinds[i][1]);
		CHECK_STR(e.soname, "libx.so.1");
		CHECK_EQ(e.needs.n, 3);
		CHECK_STR(e.needs.v[1], "GLIBC_2.34");
		CHECK_EQ(e.defines.n, 2);
		CHECK_STR(e.defines.v[1], "X_1.0");
	}
}

/* Each byte in turn, and each length: whatever is said, it is said within the limits. */
TEST(damaged_libraries_are_refused_or_read)
{
	static const char *const needs[] = { "GLIBC_2.2.5", "GLIBC_2.34", NULL };
	struct elf_wish w = {
		.class = ELFCLASS64, .machine = EM_X86_64, .soname = "libx.so.1", .needs = needs, .defines = needs
	};
	VL_BUF struct vl_buf b = elf_make(&w);
	size_t len = b.len;

	for (size_t i = 0; i < len; i++)
		for (unsigned bit = 0; bit < 9; bit++) {
			GPU_ELF struct gpu_elf e = { 0 };
			char was = b.data[i];
			b.data[i] = bit == 8 ? (char)0xff : (char)(was ^ 1 << bit);
			int r = gpu_elf_load(read_buf, &b, &e);
			CHECK(r == 0 || r == -ENOEXEC);
			b.data[i] = was;
		}
	for (b.len = 0; b.len < len; b.len++) {
		GPU_ELF struct gpu_elf e = { 0 };
		CHECK_EQ(gpu_elf_load(read_buf, &b, &e), -ENOEXEC);
	}
}

TEST(the_c_library_of_this_machine_is_read)
{
	static const char *const paths[] = { "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6",
					     "/lib/aarch64-linux-gnu/libc.so.6" };
	bool glibc = false;

	for (size_t i = 0; i < VL_COUNT(paths); i++) {
		VL_CLOSE int fd = open(paths[i], O_RDONLY | O_CLOEXEC);
		GPU_ELF struct gpu_elf e = { 0 };
		if (fd < 0)
			continue;
		CHECK_EQ(gpu_elf_load(gpu_read_fd, &fd, &e), 0);
		CHECK_STR(e.soname, "libc.so.6");
		for (size_t k = 0; k < e.defines.n; k++)
			glibc |= vl_streq(e.defines.v[k], "GLIBC_2.17");
		CHECK(glibc);
	}
}

static void add_all(struct vl_strv *l, const char *const *words)
{
	for (; *words; words++)
		vl_strv_add(l, *words);
}

TEST(what_the_images_libc_lacks_stays_outside)
{
	static const char *const old[] = { "GLIBC_2.2.5", "GLIBC_2.14", "GLIBC_2.17", NULL };
	struct gpu_image image = { .libc = GPU_LIBC_GLIBC };
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_FILES struct gpu_files l = { 0 };

	add_all(&image.versions, old);
	put_driver(V);
	put_lib("/usr/lib64/libcuda.so." V, "libcuda.so.1", "GLIBC_2.16"); /* no name of its libc, but older than one */
	put_lib("/usr/lib64/libnvidia-ml.so." V, "libnvidia-ml.so.1", "GLIBC_2.34");
	put_lib("/usr/lib64/libnvidia-nvvm.so." V, "libnvidia-nvvm.so.4", "GLIBC_ABI_DT_RELR");
	find(&h, &f);
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, &image, &l);
	CHECK(file(&l, "libcuda.so.1")->dst != NULL);
	CHECK(file(&l, "libnvidia-ml.so.1")->dst == NULL && file(&l, "libnvidia-ml.so.1")->newer);
	CHECK_STR(file(&l, "libnvidia-ml.so.1")->why, "the image's C library lacks GLIBC_2.34");
	CHECK_STR(file(&l, "libnvidia-ml.so.1")->needs, "GLIBC_2.34");
	CHECK(file(&l, "libnvidia-nvvm.so.4")->dst == NULL);
	gpu_files_free(&l);
	image.libc = GPU_LIBC_MUSL;
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, &image, &l);
	for (size_t i = 0; i < l.n; i++)
		CHECK(l.v[i].dst == NULL && strstr(l.v[i].why, "musl"));
	gpu_image_free(&image);
}

TEST(the_images_own_dispatchers_win)
{
	static const char *const versions[] = { "GLIBC_2.36", NULL }, *const has[] = { "libGLdispatch.so.0", NULL };
	struct gpu_image image = { .libc = GPU_LIBC_GLIBC };

	add_all(&image.versions, versions);
	put_driver(V);
	put_lib("/usr/lib64/libGL.so.1.7.0", "libGL.so.1", NULL);
	put_lib("/usr/lib64/libGLX_nvidia.so." V, "libGLX_nvidia.so.0", NULL);
	put_lib("/usr/lib64/libOpenCL.so.1.0.0", "libOpenCL.so.1", NULL);
	for (int with = 0; with < 2; with++) {
		GPU_HOST struct gpu_host h = GPU_HOST_INIT;
		GPU_FOUND struct gpu_found f = { 0 };
		GPU_FILES struct gpu_files l = { 0 };
		if (with)
			add_all(&image.libraries, has);
		find(&h, &f);
		gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, &image, &l);
		CHECK_EQ(file(&l, "libGL.so.1")->dst == NULL, with);
		CHECK(file(&l, "libGLX_nvidia.so.0")->dst && file(&l, "libOpenCL.so.1")->dst);
	}
	gpu_image_free(&image);
}

TEST(capabilities_choose_the_files)
{
	static const struct {
		const char *caps;
		bool cuda, ml, glx;
	} rows[] = { { "compute", true, false, false },
		     { "utility", false, true, false },
		     { "compute,utility", true, true, false },
		     { "graphics", false, false, true },
		     { "all", true, true, true } };

	put_driver(V);
	put_lib("/usr/lib64/libcuda.so." V, "libcuda.so.1", NULL);
	put_lib("/usr/lib64/libnvidia-ml.so." V, "libnvidia-ml.so.1", NULL);
	put_lib("/usr/lib64/libGLX_nvidia.so." V, "libGLX_nvidia.so.0", NULL);
	put_text("/usr/share/glvnd/egl_vendor.d/10_nvidia.json", "{}");
	put_text("/lib/firmware/nvidia/" V "/gsp_ga10x.bin", "x");
	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		GPU_HOST struct gpu_host h = GPU_HOST_INIT;
		GPU_FOUND struct gpu_found f = { 0 };
		GPU_FILES struct gpu_files l = { 0 };
		VL_FREE char *unknown = NULL;
		find(&h, &f);
		gpu_find_files(&h, &f, GPU_NVIDIA, gpu_caps_parse(rows[i].caps, &unknown), NULL, &l);
		CHECK(!unknown);
		CHECK_EQ(file(&l, "libcuda.so.1") != NULL, rows[i].cuda);
		CHECK_EQ(file(&l, "libnvidia-ml.so.1") != NULL, rows[i].ml);
		CHECK_EQ(file(&l, V) != NULL, rows[i].ml); /* the firmware */
		CHECK_EQ(file(&l, "libGLX_nvidia.so.0") != NULL, rows[i].glx);
		CHECK_EQ(file(&l, "10_nvidia.json") != NULL, rows[i].glx);
	}
	VL_FREE char *unknown = NULL;
	CHECK_EQ(gpu_caps_parse("utility,teleport", &unknown), GPU_CAP_UTILITY);
	CHECK_STR(unknown, "teleport");
}

TEST(libraries_of_32_bits_only_when_asked_for)
{
	struct elf_wish w = { .class = ELFCLASS32, .machine = EM_386, .soname = "libcuda.so.1" };
	VL_BUF struct vl_buf b = elf_make(&w);
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_FILES struct gpu_files l = { 0 };

	put_driver(V);
	put("/usr/lib/libcuda.so." V, b.data, b.len);
	find(&h, &f);
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL, NULL, &l);
	CHECK_EQ(l.n, 0);
	gpu_find_files(&h, &f, GPU_NVIDIA, GPU_CAP_ALL | GPU_CAP_COMPAT32, NULL, &l);
	CHECK_STR(file(&l, "libcuda.so.1")->dst, GPU_LIBS "/i386/libcuda.so.1");
}

/* ---- devices ------------------------------------------------------------------------------------- */

static void put_slice(unsigned minor, unsigned gi, unsigned ci, unsigned first)
{
	VL_FREE char *g = vl_asprintf("/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/access", minor, gi);
	VL_FREE char *c = vl_asprintf("/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u/access", minor, gi, ci);
	VL_FREE char *gt = vl_asprintf("DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: 1\n", first);
	VL_FREE char *ct = vl_asprintf("DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: 1\n", first + 1);

	put_text(g, gt);
	put_text(c, ct);
}

static void put_four(void)
{
	static const char *const pci[] = { "0000:07:00.0", "0000:0F:00.0", "0000:87:00.0", "0001:01:00.0" };

	put_driver(V);
	for (unsigned i = 0; i < VL_COUNT(pci); i++)
		put_device(i, pci[i], 3 - i); /* minors in another order than addresses */
	put_slice(0, 1, 0, 12);
	put_slice(0, 2, 0, 21);
}

TEST(devices_are_counted_as_the_vendor_does)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	find(&h, &f);
	CHECK_EQ(f.n, 4);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(f.devices[i].index, i);
		CHECK_EQ(f.devices[i].minor, 3 - i);
		CHECK_EQ(f.devices[i].access, GPU_NO_NODE);
		CHECK_STR(f.devices[i].name, "NVIDIA A100-SXM4-80GB");
	}
	CHECK_STR(f.devices[1].pci, "0000:0f:00.0");
	CHECK_STR(f.devices[0].nodes.v[0], "/dev/nvidia3");
	CHECK_EQ(f.devices[3].n_slices, 2);
	CHECK_EQ(f.devices[3].slices[1].gi_minor, 21);
	CHECK_EQ(f.devices[3].slices[1].ci_minor, 22);
}

TEST(devices_are_chosen_by_number_uuid_address_and_slice)
{
	static const struct {
		const char *list;
		int want; /* bits; -1: refused */
	} rows[] = { { "all", 15 },
		     { "none", 0 },
		     { "void", 0 },
		     { "", 0 },
		     { "0", 1 },
		     { "1,3", 10 },
		     { "3,1,1", 10 },
		     { "GPU-00000002-aaaa-bbbb-cccc-dddddddddddd", 4 },
		     { "gpu-00000002-AAAA", 4 },
		     { "GPU-", -1 },
		     { "0000:0f:00.0", 2 },
		     { "3:1", 8 },
		     { "3:2", -1 },
		     { "0:0", -1 },
		     { "00000000:0F:00.0", 2 },
		     { "00000001:01:00.0", 8 },
		     { "00000002:01:00.0", -1 },
		     { "0000:0f:00.0x", -1 },
		     { "none,0", -1 },
		     { "0,void", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/0", 8 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/9/0", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/7", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/0/0", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd", -1 },
		     { "MIG-12345678-1234-1234-1234-123456789abc", -1 },
		     { "4", -1 },
		     { "-1", -1 },
		     { "0,7", -1 },
		     { "\033[2J", -1 } };
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	find(&h, &f);
	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		struct vl_err err = { 0 };
		bool chosen[4] = { 0 };
		int bits = 0, r = gpu_choose(&f, GPU_NVIDIA, rows[i].list, "LIST", chosen, &err);
		for (int k = 0; k < 4; k++)
			bits |= chosen[k] << k;
		if (rows[i].want < 0 ? r != -ENODEV : r != 0 || bits != rows[i].want)
			CHECK_FAIL("'%s': %d, bits %d, not %d", rows[i].list, r, bits, rows[i].want);
		CHECK(!strchr(err.text, '\033'));
	}
}

TEST(slices_come_with_their_own_nodes)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_EDITS struct gpu_edits e = { 0 };
	struct gpu_files none = { 0 };
	const bool chosen[] = { false, false, false, true };
	unsigned caps = 0;

	put_four();
	find(&h, &f);
	gpu_make_edits(&h, &f, GPU_NVIDIA, chosen, true, &none, &e);
	for (size_t i = 0; i < e.n_nodes; i++)
		caps += vl_streq(e.nodes[i].path, "/dev/nvidia-caps/nvidia-cap21");
	CHECK_EQ(caps, 1);
	CHECK_EQ(e.n_nodes, 1 + 4);
	CHECK_EQ(e.shut.n, 3);
}

static bool has_node(const struct gpu_edits *e, const char *path)
{
	for (size_t i = 0; i < e->n_nodes; i++)
		if (vl_streq(e->nodes[i].path, path))
			return true;
	return false;
}

static bool is_shut(const struct gpu_edits *e, const char *path)
{
	for (size_t i = 0; i < e->shut.n; i++)
		if (vl_streq(e->shut.v[i], path))
			return true;
	return false;
}

/* Slices 1/0 and 1/1 share their GPU instance's node; 2/0 has its own. */
TEST(a_chosen_slice_comes_without_the_others)
{
	static const struct {
		const char *list;
		bool gi1, ci10, ci11, gi2;
	} rows[] = { { "3:0", true, true, false, false },
		     { "3:0,3:1", true, true, true, false },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/2/0", false, false, false, true },
		     { "3:2,3", true, true, true, true } };
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	put_slice(0, 1, 1, 30); /* the node of gi1 is 30 now */
	put_text("/proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access", "DeviceFileMinor: 13\n");
	find(&h, &f);
	CHECK_EQ(f.devices[3].n_slices, 3);
	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		const struct {
			const char *node;
			bool want;
		} nodes[] = { { "/dev/nvidia-caps/nvidia-cap30", rows[i].gi1 },
			      { "/dev/nvidia-caps/nvidia-cap13", rows[i].ci10 },
			      { "/dev/nvidia-caps/nvidia-cap31", rows[i].ci11 },
			      { "/dev/nvidia-caps/nvidia-cap21", rows[i].gi2 },
			      { "/dev/nvidia-caps/nvidia-cap22", rows[i].gi2 } };
		GPU_EDITS struct gpu_edits e = { 0 };
		struct gpu_files none = { 0 };
		struct vl_err err = { 0 };
		bool chosen[4] = { 0 };
		CHECK_EQ(gpu_choose(&f, GPU_NVIDIA, rows[i].list, "LIST", chosen, &err), 0);
		gpu_make_edits(&h, &f, GPU_NVIDIA, chosen, true, &none, &e);
		for (size_t k = 0; k < VL_COUNT(nodes); k++)
			if (has_node(&e, nodes[k].node) != nodes[k].want || is_shut(&e, nodes[k].node) == nodes[k].want)
				CHECK_FAIL("'%s': %s", rows[i].list, nodes[k].node);
	}
}

TEST(amd_devices_are_those_of_the_topology)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_text("/dev/kfd", "");
	put_text("/dev/dri/renderD128", "");
	put_text("/dev/dri/renderD129", "");
	put_text("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 64\nsimd_count 0\n");
	for (int i = 1; i <= 2; i++) {
		VL_FREE char *path = vl_asprintf("/sys/class/kfd/kfd/topology/nodes/%d/properties", i);
		VL_FREE char *text = vl_asprintf("cpu_cores_count 0\nsimd_count 304\nlocation_id %d\ndomain 0\n"
						 "drm_render_minor %d\nunique_id 81985529216486895\n"
						 "gfx_target_version 90402\n",
						 i << 8, 127 + i);
		put_text(path, text);
	}
	find(&h, &f);
	CHECK_EQ(f.n, 2);
	CHECK_EQ(f.devices[1].index, 1);
	CHECK_STR(f.devices[1].nodes.v[0], "/dev/dri/renderD129");
	CHECK_STR(f.devices[1].pci, "0000:02:00.0");
	CHECK_STR(f.devices[1].uuid, "GPU-0123456789abcdef");
	CHECK_STR(f.devices[1].name, "gfx942");
	CHECK_EQ(f.common[GPU_AMD].n, 1);
}

TEST(intel_and_gaudi)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_text("/dev/dri/renderD128", "");
	put_text("/sys/class/drm/renderD128/device/vendor", "0x8086\n");
	put_text("/sys/class/drm/renderD129/device/vendor", "0x10de\n");
	put_text("/sys/module/habanalabs/version", "1.17.0 \n");
	put_text("/dev/accel/accel0", "");
	put_text("/dev/accel/accel_controlD0", "");
	put_text("/sys/class/infiniband/hbl_0/device/infiniband_verbs/uverbs3/ibdev", "");
	put_text("/sys/class/infiniband/mlx5_0/device/infiniband_verbs/uverbs0/ibdev", "");
	find(&h, &f);
	CHECK_EQ(f.n, 2);
	CHECK_EQ(f.devices[0].vendor, GPU_INTEL);
	CHECK_EQ(f.devices[0].minor, 128);
	CHECK_EQ(f.devices[1].vendor, GPU_HABANA);
	CHECK_EQ(f.devices[1].nodes.n, 2);
	CHECK_STR(f.driver[GPU_HABANA], "1.17.0");
	CHECK_EQ(f.common[GPU_HABANA].n, 1);
	CHECK_STR(f.common[GPU_HABANA].v[0], "/dev/infiniband/uverbs3");
}

/* ---- devices of tasks ---------------------------------------------------------------------------- */

TEST(numbers_count_what_is_left)
{
	static const struct {
		const char *list, *want;
	} rows[] = { { "1", "0" },
		     { "5,1", "2,0" },
		     { "0", "-1" },
		     { "0,3,2", "1" },
		     { "3.1,5.0", "1.1,2.0" },
		     { "3,3", "1,1" },
		     { "GPU-1", "GPU-1" },
		     { "0,GPU-1", "GPU-1" },
		     { "10", "-1" },
		     { "", "" },
		     { "-1", "-1" },
		     { "1x", "1x" },
		     { "99999999999", "99999999999" } };
	static const unsigned left[] = { 1, 3, 5 };

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		VL_FREE char *now = ctr_renumber(rows[i].list, left, VL_COUNT(left));
		CHECK_STR(now, rows[i].want);
	}
}

static bool node_opens(const char *path)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);

	return fd >= 0;
}

/* In namespaces of its own: what is shut stays shut. *now: the first of the variables that has changed. */
static int narrow(char *variable, char *other, char **now, bool *ret_zero, bool *ret_full)
{
	static const char devices[] = CTR_DEVICES
		"=ROCR_VISIBLE_DEVICES,HIP_VISIBLE_DEVICES:3,GPU-00aa=/dev/zero+/dev/none:5,GPU-00bb,MIG=/dev/full";
	char *const env[] = { variable, other, NULL };
	VL_STRV struct vl_strv changes = { 0 };
	struct vl_err err = { 0 };

	bool own = false;
	vl_strv_add(&changes, "A=1");
	vl_strv_add(&changes, devices);
	int r = ctr_narrow_devices(env, &changes, &own, &err);
	VL_BUF struct vl_buf b = { 0 };
	vl_buf_adds(&b, "");
	for (size_t i = 1; i < changes.n; i++)
		vl_buf_addf(&b, "%s%s", i > 1 ? " " : "", changes.v[i]);
	*now = vl_steal(&b.data);
	*ret_zero = node_opens("/dev/zero");
	*ret_full = node_opens("/dev/full");
	return r;
}

TEST(a_task_has_the_devices_of_its_numbers_and_no_other)
{
	static const struct {
		const char *variable, *other;
		int r; /* -ENODEV: it does not start */
		bool zero, full;
		const char *now;
	} rows[] = {
		{ "X=", "Y=", 0, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=3", "Y=", 0, true, false, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "Y=", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5,3", "Y=", 0, true, true, "ROCR_VISIBLE_DEVICES=1,0" },
		{ "ROCR_VISIBLE_DEVICES=5,7", "Y=", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "HIP_VISIBLE_DEVICES=5", 0, false, true,
		  "ROCR_VISIBLE_DEVICES=0 HIP_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "HIP_VISIBLE_DEVICES=0", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "Y=", "HIP_VISIBLE_DEVICES=5", 0, false, true, "HIP_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=GPU-00BB", "Y=", 0, false, true, "" },
		{ "ROCR_VISIBLE_DEVICES=MIG-GPU-00aa/1/0", "Y=", 0, true, false, "" },
		{ "ROCR_VISIBLE_DEVICES=MIG-1234", "Y=", 0, false, true, "" },
		{ "ROCR_VISIBLE_DEVICES=", "Y=", 0, false, false, "" },
		{ "ROCR_VISIBLE_DEVICES=NoDevFiles", "Y=", 0, false, false, "" },
		{ "ROCR_VISIBLE_DEVICES=0", "Y=", -ENODEV, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=GPU-", "Y=", -ENODEV, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=x", "Y=", -ENODEV, true, true, "" },
	};

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			bool zero, full;
			char *now;
			if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) /* no mount gets out of these */
				_exit(77);                            /* a system that forbids it */
			int r = narrow((char *)rows[i].variable, (char *)rows[i].other, &now, &zero, &full);
			_exit(r == rows[i].r && zero == rows[i].zero && full == rows[i].full &&
					      vl_streq(now, rows[i].now)
				      ? 0
				      : 1);
		}
		int status;
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			return;
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			CHECK_FAIL("%s %s", rows[i].variable, rows[i].other);
	}
}

TEST(a_damaged_list_of_devices_lets_no_task_start)
{
	static const char *const lists[] = { "CUDA_VISIBLE_DEVICES:/dev/zero", "CUDA_VISIBLE_DEVICES:x=/dev/zero",
					     ":" };

	for (size_t i = 0; i < VL_COUNT(lists); i++) {
		char *const env[] = { (char *)"CUDA_VISIBLE_DEVICES=0", NULL };
		VL_STRV struct vl_strv changes = { 0 };
		struct vl_err err = { 0 };
		bool own = false;
		vl_strv_take(&changes, vl_asprintf(CTR_DEVICES "=%s", lists[i]));
		CHECK_EQ(ctr_narrow_devices(env, &changes, &own, &err) < 0, true);
	}
}

/* ---- versions and conditions --------------------------------------------------------------------- */

TEST(versions_of_cuda_and_drivers)
{
	CHECK(gpu_version_cmp("2.9", "2.10") < 0);
	CHECK(gpu_version_cmp("12.4.1", "12.4") > 0);
	CHECK(gpu_version_cmp("12.4", "12.4.0") == 0);
	CHECK(gpu_version_cmp("560.35.03", "560.35.3") == 0);
	CHECK_STR(gpu_cuda_of_driver("560.35.03"), "12.6");
	CHECK_STR(gpu_cuda_of_driver("470.256.02"), "11.4");
	CHECK(gpu_cuda_of_driver("340.108") == NULL);
	CHECK_STR(gpu_driver_for_cuda("12.4.1"), "525.60.13");
	CHECK_STR(gpu_driver_for_cuda("11.8"), "450.36.06");
	CHECK_STR(gpu_driver_for_cuda("10.1"), "418.39");
	CHECK(gpu_driver_for_cuda("99.0") == NULL);
}

TEST(conditions_of_images)
{
	static const char real[] =
		"cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=nvidiartx,driver>=470,driver<471";
	static const struct {
		const char *text;
		int want;
	} rows[] = { { "cuda>=12.0", 1 },
		     { "cuda>=13.0", 0 },
		     { real, 1 },
		     { "cuda>=12.9 driver<400", 0 },
		     { "cuda>=12.9 brand=tesla,driver>=500", -1 },
		     { "cuda>=12.9 brand=tesla,driver<500", 0 },
		     { "cuda!=12.6", 0 },
		     { "cuda=12.6,driver>=560", 1 },
		     { "arch>=7.0", -1 },
		     { "", 1 },
		     { "nonsense", -1 } };

	for (size_t i = 0; i < VL_COUNT(rows); i++)
		if (gpu_requirement(rows[i].text, "12.6", "560.35.03", NULL, NULL) != rows[i].want)
			CHECK_FAIL("'%s' is not %d", rows[i].text, rows[i].want);
}

/* ---- images -------------------------------------------------------------------------------------- */

TEST(an_image_tells_its_c_library_and_versions_of_cuda)
{
	static const char *const versions[] = { "GLIBC_2.2.5", "GLIBC_2.28", "GLIBC_PRIVATE", NULL };
	struct elf_wish w = {
		.class = gpu_native_class, .machine = gpu_native_machine, .soname = "libc.so.6", .defines = versions
	};
	VL_BUF struct vl_buf b = elf_make(&w);
	GPU_IMAGE struct gpu_image i = { 0 };
	struct vl_err err = { 0 };

	put("/usr/lib64/libc.so.6", b.data, b.len);
	put_text("/usr/lib64/libGL.so.1", "");
	put_text("/usr/local/cuda/lib64/libcudart.so.12.4.127", "");
	put_text("/usr/local/lib/python3.11/site-packages/nvidia/cuda_runtime/lib/libcudart.so.11.0", "");
	put_text("/usr/local/cuda/compat/libcuda.so.550.54.14", "");
	put_text("/opt/rocm/.info/version", "6.1.0-82\n");
	VL_CLOSE int fd = open("m", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(gpu_image_look(PLAN_DIRECTORY, &(struct vmnt_image){ .fd = fd, .name = "m" }, &i, &err), 0);
	CHECK_EQ(i.libc, GPU_LIBC_GLIBC);
	CHECK_EQ(i.versions.n, 3);
	CHECK(gpu_image_has(&i, "libGL.so.1"));
	CHECK_EQ(i.cudart.n, 2);
	CHECK_STR(i.cuda_compat, "550.54.14");
	CHECK_STR(i.rocm, "6.1.0-82");
}

TEST(an_image_of_musl_says_so)
{
	GPU_IMAGE struct gpu_image i = { 0 };
	struct vl_err err = { 0 };

	put_text("/lib/ld-musl-x86_64.so.1", "");
	put_text("/lib/libc.so.6", "no library");
	VL_CLOSE int fd = open("m", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK_EQ(gpu_image_look(PLAN_DIRECTORY, &(struct vmnt_image){ .fd = fd, .name = "m" }, &i, &err), 0);
	CHECK_EQ(i.libc, GPU_LIBC_MUSL);
}

/* ---- plans --------------------------------------------------------------------------------------- */

static const struct plan_mount *mount_on(const struct plan *p, const char *dst)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (vl_streq(p->mounts[i].dst, dst))
			return &p->mounts[i];
	return NULL;
}

static unsigned warned;
static void warn(void *arg, const char *text)
{
	(void)arg;
	(void)text;
	warned++;
}

TEST(edits_become_mounts_and_variables)
{
	const struct vl_progress say = { .warn = warn };
	GPU_EDITS struct gpu_edits e = { 0 };
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	gpu_add_node(&e, "/dev/null", "/dev/gpu0");
	struct gpu_node *ro = gpu_add_node(&e, "/dev/zero", "/dev/gpu1");
	strncpy(ro->access, "r", sizeof ro->access - 1);
	vl_strv_add(&gpu_add_mount(&e, "/etc", "/opt/etc")->options, "ro");
	gpu_add_mount(&e, "/no/such/place", "/opt/none")->optional = true;
	gpu_add_env(&e, "A=1");
	gpu_add_env(&e, "A=2");
	gpu_add_lib_dir(&e, GPU_LIBS);
	gpu_add_lib_dir(&e, "/opt/lib");
	gpu_add_lib_dir(&e, "/opt/lib");
	gpu_add_gid(&e, 54321);
	CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), 0);
	CHECK(mount_on(&p, "/dev/gpu0")->flags & PLAN_DEVICES);
	CHECK(mount_on(&p, "/dev/gpu1")->flags & PLAN_RO);
	CHECK(mount_on(&p, "/opt/etc")->flags & PLAN_RO);
	CHECK(!mount_on(&p, "/opt/none"));
	CHECK_EQ(p.env.set.n, 1);
	CHECK_STR(p.env.set.v[0], "A=2");
	CHECK(p.env.libs);
	CHECK_STR(p.env.ld_last, "/opt/lib");
	CHECK_EQ(warned, 1);
}

TEST(edits_that_cannot_be_are_refused)
{
	static const struct {
		const char *host, *hook;
		int want;
	} rows[] = { { "/dev/none", NULL, -ENOENT },
		     { "/etc/passwd", NULL, -ENODEV },
		     { NULL, "/bin/true", -ENOTSUP } };

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		const struct vl_progress say = { 0 };
		GPU_EDITS struct gpu_edits e = { 0 };
		PLAN struct plan p = PLAN_INIT;
		struct vl_err err = { 0 };
		if (rows[i].host)
			gpu_add_node(&e, rows[i].host, "/dev/x");
		if (rows[i].hook)
			gpu_add_hook(&e, "createContainer", rows[i].hook);
		CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), rows[i].want);
	}
}

TEST(of_a_whole_dev_nothing_is_bound_again_and_others_are_shut)
{
	const struct vl_progress say = { 0 };
	GPU_EDITS struct gpu_edits e = { 0 };
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	ctr_plan_add(&p, PLAN_BIND, "/dev", "/dev", PLAN_DEVICES);
	gpu_add_node(&e, "/dev/null", "/dev/null");
	gpu_add_shut(&e, "/dev/zero");
	gpu_add_shut(&e, "/dev/no-such-gpu");
	CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), 0);
	CHECK_EQ(p.n_mounts, 2);
	CHECK(!(mount_on(&p, "/dev/zero")->flags & PLAN_DEVICES));
}
