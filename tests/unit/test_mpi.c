/* The host's MPI in place of an image's: whose a library is, what it has and needs, and whether one may stand in for another. */
#include "check.h"

#include "elf_maker.h"
#include "gpu/host.h"

#include <fcntl.h>
#include <sys/stat.h>

TEST(libraries_are_told_by_name)
{
	static const struct {
		const char *name, *number;
		enum gpu_lib_kind kind;
	} cases[] = {
		{ "libmpi.so.40.30.4", "40.30.4", GPU_LIB_MPI },
		{ "libmpich.so.12", "12", GPU_LIB_MPI },
		{ "libmpi_gnu_91.so.12.0", "12.0", GPU_LIB_MPI },
		{ "libmpi_cray.so.12", "12", GPU_LIB_MPI },
		{ "libmpi.so", "", GPU_LIB_OTHER },
		{ "libmpi.so.x", "x", GPU_LIB_OTHER },
		{ "libmpi_cxx.so.40", "40", GPU_LIB_MPI_PART },
		{ "libmpifort.so.12", "12", GPU_LIB_MPI_PART },
		{ "libopen-pal.so.80.0", "80.0", GPU_LIB_MPI_PART },
		{ "libmpir.so.23", "23", GPU_LIB_OTHER },
		{ "libfabric.so.1.20.0", "1.20.0", GPU_LIB_FABRIC },
		{ "libfabric.so", "", GPU_LIB_OTHER },
		{ "libfabrics.so.1", "1", GPU_LIB_OTHER },
		{ "libc.so.6", "6", GPU_LIB_OTHER },
		{ "mpi.so.1", "1", GPU_LIB_OTHER },
		{ "", "", GPU_LIB_OTHER },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		CHECK_EQ(gpu_lib_kind_of(cases[i].name), cases[i].kind);
		CHECK_STR(gpu_lib_number(cases[i].name), cases[i].number);
	}
	CHECK(gpu_lib_is_libc("ld-linux-x86-64.so.2") && gpu_lib_is_libc("libm.so.6") &&
	      !gpu_lib_is_libc("libmpi.so.12"));
}

TEST(makers_are_told_by_words_wherever_pieces_end)
{
	static const char text[] = "....MPICH Version....Intel(R) MPI.....";

	for (size_t cut = 0; cut < sizeof text; cut++) {
		struct vl_mpi m = { 0 };
		vl_mpi_look(&m, text, cut);
		vl_mpi_look(&m, text + cut, sizeof text - cut);
		CHECK_STR(vl_mpi_family(&m), "Intel MPI");
	}
	struct vl_mpi none = { 0 };
	vl_mpi_look(&none, "PMI_FD", 6);
	CHECK(!vl_mpi_family(&none) && none.means == VL_MPI_WIRE);
}

/* ---- symbols ------------------------------------------------------------------------------------- */

static const char *const two[] = { "MPI_Send", "MPI_Recv", NULL };
static const char *const one[] = { "fi_getinfo", NULL };
static const char *const version[] = { "FABRIC_1.0", NULL };
static const char *const libs[] = { "libfabric.so.1", "libc.so.6", NULL };

static void check_names(const struct elf_wish *w)
{
	VL_BUF struct vl_buf b = elf_make(w);
	GPU_ELF struct gpu_elf e = { 0 };
	struct gpu_names exports = { 0 }, wants = { 0 };

	CHECK_EQ(gpu_elf_load(read_buf, &b, &e), 0);
	CHECK_EQ(e.libs.n, 2);
	CHECK_STR(e.libs.v[0], "libfabric.so.1");
	CHECK_STR(e.search, "$ORIGIN/own:/opt");
	CHECK_EQ(gpu_elf_names(read_buf, &b, &e, &exports, &wants), 0);
	CHECK_EQ(exports.n, 2);
	CHECK_STR(exports.v[0], "MPI_Recv");
	CHECK(gpu_names_has(&exports, "MPI_Send") && !gpu_names_has(&exports, "fi_getinfo"));
	CHECK_EQ(wants.n, 2);
	CHECK(gpu_names_has(&wants, "fi_getinfo") && gpu_names_has(&wants, "FABRIC_1.0"));
	gpu_names_free(&exports);
	gpu_names_free(&wants);
}

TEST(symbols_are_read_by_either_table_in_both_classes)
{
	for (unsigned i = 0; i < 4; i++) {
		struct elf_wish w = { .class = i & 1 ? ELFCLASS64 : ELFCLASS32,
				      .machine = EM_X86_64,
				      .exports = two,
				      .wants = one,
				      .needs = version,
				      .libs = libs,
				      .search = "$ORIGIN/own:/opt",
				      .gnu = i & 2 };
		check_names(&w);
	}
}

static void look(struct vl_buf *b)
{
	GPU_ELF struct gpu_elf e = { 0 };
	struct gpu_names exports = { 0 }, wants = { 0 };
	int r = gpu_elf_load(read_buf, b, &e);

	CHECK(r == 0 || r == -ENOEXEC);
	if (r == 0)
		r = gpu_elf_names(read_buf, b, &e, &exports, &wants);
	CHECK(r == 0 || (r == -ENOEXEC && !exports.v && !wants.v));
	gpu_names_free(&exports);
	gpu_names_free(&wants);
}

/* Each bit in turn, and each length. */
TEST(damaged_symbols_are_refused_or_read)
{
	for (unsigned gnu = 0; gnu < 2; gnu++) {
		struct elf_wish w = { .class = ELFCLASS64,
				      .machine = EM_X86_64,
				      .exports = two,
				      .wants = one,
				      .libs = libs,
				      .gnu = gnu };
		VL_BUF struct vl_buf b = elf_make(&w);
		size_t len = b.len;
		for (size_t i = 0; i < len; i++)
			for (unsigned bit = 0; bit < 9; bit++) {
				char was = b.data[i];
				b.data[i] = bit == 8 ? (char)0xff : (char)(was ^ 1 << bit);
				look(&b);
				b.data[i] = was;
			}
		for (b.len = 0; b.len < len; b.len++)
			look(&b);
	}
}

TEST(the_c_library_of_this_machine_has_what_it_has)
{
	struct gpu_lib l = { .kind = GPU_LIB_OTHER };
	VL_CLOSE int fd = open("/lib/x86_64-linux-gnu/libc.so.6", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	CHECK_EQ(gpu_lib_load(&l, gpu_read_fd, &fd), 0);
	CHECK(gpu_names_has(&l.exports, "printf") && gpu_names_has(&l.exports, "GLIBC_2.17"));
	CHECK(!gpu_names_has(&l.exports, "MPI_Send"));
	gpu_lib_free(&l);
}

/* ---- may it stand in? ---------------------------------------------------------------------------- */

#define MAKE_LIB(l, file, maker, ...)                                                                                  \
	static const char *l##_names[] = { __VA_ARGS__ };                                                              \
	struct gpu_lib l = { .kind = gpu_lib_kind_of(vl_basename(file)),                                               \
			     .path = (char *)(file),                                                                   \
			     .family = (maker),                                                                        \
			     .elf = { .class = ELFCLASS64, .machine = EM_X86_64 },                                     \
			     .exports = { .v = l##_names, .n = VL_COUNT(l##_names) } }

#define ABC "MPI_A", "MPI_B", "MPI_C"

static void check(const struct gpu_lib *host, const struct gpu_lib *image, const char *why)
{
	VL_FREE char *got = gpu_lib_why_not(host, image);

	CHECK((got == NULL) == (why == NULL));
	if (got && why && !strstr(got, why))
		CHECK_STR(got, why);
}

TEST(one_library_stands_in_for_another_if_programs_cannot_tell)
{
	MAKE_LIB(image, "/i/libmpi.so.12.1.8", "MPICH", ABC);
	MAKE_LIB(same, "/h/libmpi.so.12.1.8", "MPICH", ABC);
	MAKE_LIB(newer, "/h/libmpich.so.12.2.0", "MPICH", ABC, "MPI_D");
	MAKE_LIB(patched, "/h/libmpi.so.12.1.0", "MPICH", ABC);
	MAKE_LIB(older, "/h/libmpi.so.12.0.9", "MPICH", ABC);
	MAKE_LIB(poorer, "/h/libmpi.so.12.2.0", "MPICH", "MPI_A");
	MAKE_LIB(vendor, "/h/libmpi_gnu_91.so.12.0.0", "Cray MPICH", ABC);
	MAKE_LIB(vendors_poorer, "/h/libmpi.so.12.0.0", "Intel MPI", "MPI_A", "MPI_C");
	MAKE_LIB(bare, "/h/libmpi.so.12", "MPICH", ABC);
	MAKE_LIB(other, "/h/libmpi.so.13.0.0", "MPICH", ABC);
	MAKE_LIB(open_mpi, "/h/libmpi.so.12.1.8", "Open MPI", ABC);
	MAKE_LIB(unknown, "/h/libmpi.so.12.1.8", NULL, ABC);
	MAKE_LIB(machine, "/h/libmpi.so.12.1.8", "MPICH", ABC);
	machine.elf.machine = EM_AARCH64;

	check(&same, &image, NULL);
	check(&newer, &image, NULL);
	check(&patched, &image, NULL);
	check(&bare, &image, NULL);   /* of which the number is not known: its functions are all there */
	check(&vendor, &image, NULL); /* whose numbers count for themselves */
	check(&older, &image, "it is older, 12.0, and the image's is 12.1");
	check(&poorer, &image, "it lacks MPI_B and 1 more");
	check(&vendors_poorer, &image, "it lacks MPI_B that");
	check(&other, &image, "its interface is number 13, the image's is 12");
	check(&open_mpi, &image, "it is Open MPI, and the image's is MPICH");
	check(&unknown, &image, "it is of an unknown maker");
	check(&image, &unknown, "the image's is of an unknown maker");
	check(&machine, &image, "another kind of machine");
}

TEST(libfabric_must_have_every_version)
{
	MAKE_LIB(image, "/i/libfabric.so.1.9.0", NULL, "FABRIC_1.0", "FABRIC_1.1", "fi_getinfo");
	MAKE_LIB(newer, "/h/libfabric.so.1.20.0", NULL, "FABRIC_1.0", "FABRIC_1.1", "FABRIC_1.2", "fi_getinfo");
	MAKE_LIB(older, "/h/libfabric.so.1", NULL, "FABRIC_1.0", "fi_getinfo");

	check(&newer, &image, NULL);
	check(&older, &image, "it lacks FABRIC_1.1 that");
	check(&image, &newer, "it lacks FABRIC_1.2 that");
}

TEST(parts_need_only_what_programs_call)
{
	MAKE_LIB(image, "/i/libmpifort.so.12.1.0", NULL, "inner_of_this_version", "mpi_send_");
	MAKE_LIB(host, "/h/libmpifort.so.12.0.0", NULL, "mpi_send_");

	check(&host, &image, NULL);
	check(&image, &host, NULL);
}

/* ---- the host ------------------------------------------------------------------------------------ */

static void put(const char *path, const struct elf_wish *w)
{
	VL_BUF struct vl_buf b = elf_make(w);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	CHECK(fd >= 0 && write(fd, b.data, b.len) == (ssize_t)b.len);
	close(fd);
}

TEST(what_is_named_comes_with_what_it_needs)
{
	static const char *const needs_a[] = { "liba.so.1", "libc.so.6", "libnowhere.so.9", NULL };
	static const char *const needs_b[] = { "libb.so.1", "libmpi.so.12", NULL };
	struct elf_wish w = { .class = gpu_native_class, .machine = gpu_native_machine, .exports = two };
	VL_STRV struct vl_strv files = { 0 };
	GPU_LIBS_LIST struct gpu_libs found = { 0 }, none = { 0 };
	struct vl_err err = { 0 };
	VL_FREE char *here = realpath(".", NULL);

	CHECK(mkdir("d", 0755) == 0 && mkdir("d/own", 0755) == 0 && mkdir("d/other", 0755) == 0);
	w.soname = "libmpi.so.12", w.libs = needs_a, w.search = "$ORIGIN/other:$ORIGIN/own";
	put("d/libmpi.so.12.2.0", &w);
	CHECK(symlink("libmpi.so.12.2.0", "d/libmpi.so.12") == 0 && symlink("libmpi.so.12", "d/libmpi.so") == 0);
	w.soname = "liba.so.1", w.libs = needs_b, w.search = "${ORIGIN}";
	put("d/own/liba.so.1", &w);
	put("d/libunasked.so.1", &w);
	w.soname = "libb.so.1", w.libs = NULL, w.search = NULL;
	put("d/own/libb.so.1", &w);
	w.machine = gpu_native_machine == EM_386 ? EM_X86_64 : EM_386;
	put("d/other/liba.so.1", &w); /* passed over */
	vl_strv_take(&files, vl_asprintf("%s/d", here));
	CHECK_EQ(gpu_libs_find(&files, false, &found, &err), 0);
	CHECK_EQ(found.n, 4); /* libmpi once, though it has two names */
	CHECK(found.v[0].given && found.v[0].kind == GPU_LIB_MPI &&
	      vl_streq(vl_basename(found.v[0].path), "libmpi.so.12.2.0"));
	ssize_t a = gpu_libs_index(&found, "liba.so.1"), b = gpu_libs_index(&found, "libb.so.1");
	CHECK(a > 0 && b > 0 && !found.v[a].given && strstr(found.v[a].path, "/d/own/liba.so.1") && found.v[b].path);
	ssize_t nowhere = gpu_libs_index(&found, "libnowhere.so.9");
	CHECK(nowhere > 0 && !found.v[nowhere].path);
	CHECK_EQ(gpu_libs_index(&found, "libc.so.6"), -1);

	/* by the name that compilers use; libfabric alone; what cannot be */
	vl_strv_free(&files);
	vl_strv_take(&files, vl_asprintf("%s/d/libmpi.so", here));
	CHECK_EQ(gpu_libs_find(&files, true, &none, &err), 0);
	CHECK_EQ(none.n, 0);
	gpu_libs_free(&found);
	CHECK_EQ(gpu_libs_find(&files, false, &found, &err), 0);
	CHECK(found.n == 4 && found.v[0].kind == GPU_LIB_MPI);
	static const char *const wrong[] = { "relative.so", "/dev/null", "/nowhere/libmpi.so.12" };
	for (size_t i = 0; i < VL_COUNT(wrong); i++) {
		vl_strv_free(&files);
		vl_strv_add(&files, wrong[i]);
		CHECK(gpu_libs_find(&files, false, &none, &err) < 0 && strstr(err.text, wrong[i]));
	}
}
