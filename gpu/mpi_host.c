/* The host's libraries of MPI: those that are named, and what they need in turn, found as the host's loader finds it. */
#include "host.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

#define LIBS_MAX 256 /* an MPI with all fabrics needs some fifty */

void gpu_lib_free(struct gpu_lib *l)
{
	vl_freep(&l->path);
	vl_freep(&l->name);
	gpu_elf_free(&l->elf);
	gpu_names_free(&l->exports);
	gpu_names_free(&l->wants);
}

void gpu_libs_free(struct gpu_libs *l)
{
	for (size_t i = 0; i < l->n; i++)
		gpu_lib_free(&l->v[i]);
	vl_freep(&l->v);
	l->n = 0;
}

/* ---- by name ------------------------------------------------------------------------------------ */

const char *gpu_lib_number(const char *file)
{
	const char *so = strstr(file, ".so.");

	return so ? so + 4 : "";
}

enum gpu_lib_kind gpu_lib_kind_of(const char *file)
{
	static const char *const parts[] = {
		"libmpi_",      "libmpicxx.",   "libmpifort.", "libmpichcxx.",  "libmpichfort.",
		"libmpichf90.", "libopen-rte.", "libopen-pal", "libmca_common", "liboshmem.",
	};

	if (vl_mpi_number(file))
		return GPU_LIB_MPI;
	if (!*gpu_lib_number(file))
		return GPU_LIB_OTHER;
	if (vl_prefix(file, "libfabric."))
		return GPU_LIB_FABRIC;
	for (size_t i = 0; i < VL_COUNT(parts); i++)
		if (vl_prefix(file, parts[i]))
			return GPU_LIB_MPI_PART;
	return GPU_LIB_OTHER;
}

bool gpu_lib_is_libc(const char *name)
{
	static const char *const names[] = { "libc.so.6",       "libm.so.6",      "libmvec.so.1",
					     "libpthread.so.0", "libdl.so.2",     "librt.so.1",
					     "libutil.so.1",    "libresolv.so.2", "libanl.so.1" };

	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(name, names[i]))
			return true;
	return vl_prefix(name, "ld-linux") || vl_prefix(name, "ld64.so");
}

/* ---- one library -------------------------------------------------------------------------------- */

int gpu_lib_load(struct gpu_lib *l, gpu_read *read, void *arg)
{
	struct vl_mpi m = { 0 };
	ssize_t n = 0;

	if (gpu_elf_load(read, arg, &l->elf) < 0 || gpu_elf_names(read, arg, &l->elf, &l->exports, &l->wants) < 0)
		return -ENOEXEC;
	if (l->kind != GPU_LIB_MPI)
		return 0;
	VL_FREE char *some = vl_alloc(1 << 20);
	for (uint64_t at = 0; (n = read(arg, some, 1 << 20, at)) > 0; at += (uint64_t)n)
		vl_mpi_look(&m, some, (size_t)n);
	l->family = vl_mpi_family(&m);
	return n < 0 ? -ENOEXEC : 0;
}

static bool is_native(const struct gpu_lib *l)
{
	return l->elf.class == gpu_native_class && l->elf.machine == gpu_native_machine;
}

static void add(struct gpu_libs *l, struct gpu_lib *one)
{
	l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
	l->v[l->n++] = *one;
	*one = (struct gpu_lib){ 0 };
}

ssize_t gpu_libs_index(const struct gpu_libs *l, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (vl_streq(l->v[i].name, name))
			return (ssize_t)i;
	return -1;
}

/* name: NULL = what it calls itself. -ENOEXEC: it is no library. */
static int load(const char *path, const char *name, struct gpu_lib *ret)
{
	struct gpu_lib l = { .path = realpath(path, NULL) };
	VL_CLOSE int fd = l.path ? open(l.path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
	int r = fd < 0 ? -errno : 0;

	if (r == 0) {
		l.kind = gpu_lib_kind_of(name ? name : vl_basename(path));
		if (l.kind == GPU_LIB_OTHER) /* libmpi.so, for compilers, leads to the one with a number */
			l.kind = gpu_lib_kind_of(vl_basename(l.path));
		r = gpu_lib_load(&l, gpu_read_fd, &fd);
	}
	if (r < 0) {
		gpu_lib_free(&l);
		return r;
	}
	l.name = vl_strdup(name ? name : l.elf.soname ? l.elf.soname : vl_basename(path));
	*ret = l;
	return 0;
}

/* ---- those that are named ----------------------------------------------------------------------- */

static int add_file(struct gpu_libs *l, const char *path, bool of_dir, struct vl_err *err)
{
	struct gpu_lib one;
	int r = load(path, NULL, &one);

	if (r < 0 && !of_dir)
		return r == -ENOEXEC ? vl_fail(err, ENOEXEC, "%s is no shared library", path)
				     : vl_fail_sys(err, -r, "library %s of the host", path);
	if (r < 0)
		return 0;
	one.given = true;
	if (strchr(one.name, '/') || gpu_libs_index(l, one.name) >= 0 || (of_dir && !is_native(&one)))
		gpu_lib_free(&one);
	else
		add(l, &one);
	return 0;
}

static bool is_wanted(const char *path, bool fabric_only)
{
	return !fabric_only || vl_prefix(vl_basename(path), "libfabric.");
}

static int add_named(struct gpu_libs *l, const char *path, bool fabric_only, struct vl_err *err)
{
	VL_STRV struct vl_strv names = { 0 };
	struct stat st;
	int r = 0;

	if (*path != '/')
		return vl_fail(err, EINVAL, "library %s of the host is not an absolute path", path);
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return is_wanted(path, fabric_only) ? add_file(l, path, false, err) : 0;
	VL_CLOSE int dir = vl_open(path, O_PATH | O_DIRECTORY, 0, err);
	if (dir < 0)
		return dir;
	const struct gpu_host here = { .fd = dir };
	gpu_list(&here, "/", &names);
	for (size_t i = 0; i < names.n && r == 0; i++) {
		VL_FREE char *file = vl_asprintf("%s/%s", path, names.v[i]);
		if (gpu_lib_kind_of(names.v[i]) != GPU_LIB_OTHER && is_wanted(file, fabric_only))
			r = add_file(l, file, true, err);
	}
	return r;
}

/* ---- what those need ---------------------------------------------------------------------------- */

struct find {
	const char *name;
	struct gpu_lib *ret;
	bool found;
};

static void try(struct find *f, const char *path)
{
	struct gpu_lib one;

	if (f->found || load(path, f->name, &one) < 0)
		return;
	f->found = is_native(&one);
	if (f->found)
		*f->ret = one;
	else
		gpu_lib_free(&one);
}

static void try_cached(void *arg, const char *name, const char *path)
{
	struct find *f = arg;

	if (vl_streq(name, f->name))
		try(f, path);
}

/* DT_RUNPATH of who needs it: $ORIGIN is the directory that he lies in. */
static void try_search(struct find *f, const struct gpu_lib *needs)
{
	VL_FREE char *dirs = vl_strdup(needs->elf.search ? needs->elf.search : "");
	int origin = (int)(strrchr(needs->path, '/') - needs->path);

	for (char *save, *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		const char *rest = vl_prefix(d, "$ORIGIN");
		rest = rest ? rest : vl_prefix(d, "${ORIGIN}");
		VL_FREE char *path = rest ? vl_asprintf("%.*s%s/%s", origin, needs->path, rest, f->name)
					  : vl_asprintf("%s/%s", d, f->name);
		if (*path == '/')
			try(f, path);
	}
}

static void add_needed(struct gpu_libs *l, size_t by, const char *name, const char *cache, size_t cache_len)
{
	struct gpu_lib one = { 0 };
	struct find f = { .name = name, .ret = &one };

	if (strchr(name, '/') || gpu_lib_is_libc(name) || gpu_libs_index(l, name) >= 0 || l->n >= LIBS_MAX)
		return;
	try_search(&f, &l->v[by]);
	if (!f.found && cache)
		(void)gpu_ldcache(cache, cache_len, try_cached, &f);
	for (const char *const *dir = gpu_lib_dirs; !f.found && *dir; dir++) {
		VL_FREE char *path = vl_asprintf("%s/%s", *dir, name);
		try(&f, path);
	}
	if (!f.found) {
		one.kind = gpu_lib_kind_of(name);
		one.name = vl_strdup(name);
	}
	add(l, &one);
}

int gpu_libs_find(const struct vl_strv *files, bool fabric_only, struct gpu_libs *ret, struct vl_err *err)
{
	GPU_LIBS_LIST struct gpu_libs l = { 0 };
	VL_FREE char *cache = NULL;
	struct vl_err none;
	size_t len = 0;
	int r = 0;

	for (size_t i = 0; i < files->n && r == 0; i++)
		r = add_named(&l, files->v[i], fabric_only, err);
	if (r < 0)
		return r;
	(void)vl_read_file(AT_FDCWD, "/etc/ld.so.cache", GPU_LDCACHE_MAX, &cache, &len, &none);
	for (size_t i = 0; i < l.n; i++)
		for (size_t k = 0; l.v[i].path && k < l.v[i].elf.libs.n; k++)
			add_needed(&l, i, l.v[i].elf.libs.v[k], cache, len);
	*ret = vl_move(&l);
	return 0;
}
