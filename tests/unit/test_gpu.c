/* What is found on machines with GPUs, and what of it fits to an image. */
#include "gpu_maker.h"

/* ---- drivers and where distributions put them ---------------------------------------------------- */

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
