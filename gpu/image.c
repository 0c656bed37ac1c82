/* What an image says of itself that decides which of the host's libraries fit. */
#include "host.h"

#define TEXT_MAX 65536
#define NAMES_MAX 4096

void gpu_image_free(struct gpu_image *i)
{
	vl_strv_free(&i->versions);
	vl_strv_free(&i->libraries);
	vl_strv_free(&i->cudart);
	vl_freep(&i->cuda_compat);
	vl_freep(&i->rocm);
}

bool gpu_image_has(const struct gpu_image *i, const char *soname)
{
	return vl_strv_has(&i->libraries, soname);
}

/* glibc's numbered versions come one after the other; the others, as GLIBC_ABI_DT_RELR, are there or not. */
const char *gpu_image_lacks(const struct gpu_image *i, const struct vl_strv *needs)
{
	for (size_t k = 0; k < needs->n; k++) {
		const char *v = vl_prefix(needs->v[k], "GLIBC_");
		bool there = !v || vl_strv_has(&i->versions, needs->v[k]);
		for (size_t n = 0; !there && *v >= '0' && *v <= '9' && n < i->versions.n; n++) {
			const char *own = vl_prefix(i->versions.v[n], "GLIBC_");
			there = own && *own >= '0' && *own <= '9' && gpu_version_cmp(own, v) >= 0;
		}
		if (!there)
			return needs->v[k];
	}
	return NULL;
}

/* ---- the child ---------------------------------------------------------------------------------- */

static void look_for_libc(struct gpu_tree *t)
{
	VL_STRV struct vl_strv versions = { 0 };

	if (gpu_tree_glibc(t, &versions)) {
		gpu_tree_tell(t, 'g', "");
		for (size_t k = 0; k < versions.n; k++)
			gpu_tree_tell(t, 'v', versions.v[k]);
		return;
	}
	VL_STRV struct vl_strv names = { 0 };
	gpu_tree_list(t, "/lib", &names);
	for (size_t i = 0; i < names.n; i++)
		if (vl_prefix(names.v[i], "ld-musl-")) {
			gpu_tree_tell(t, 'm', "");
			return;
		}
}

static void take_name(struct gpu_tree *t, const char *name)
{
	const char *v = vl_prefix(name, "libcudart.so.");

	if (v && *v)
		gpu_tree_tell(t, 'c', v);
	else if (gpu_family_of(name))
		gpu_tree_tell(t, 'l', name);
}

static void take_cached(void *arg, const char *name, const char *path)
{
	(void)path;
	take_name(arg, name);
}

static void take_dir(struct gpu_tree *t, const char *dir)
{
	VL_STRV struct vl_strv names = { 0 };

	gpu_tree_list(t, dir, &names);
	for (size_t i = 0; i < VL_MIN(names.n, (size_t)NAMES_MAX); i++)
		take_name(t, names.v[i]);
}

static void look_for_libraries(struct gpu_tree *t)
{
	size_t len = 0;
	VL_FREE char *cache = gpu_tree_text(t, "/etc/ld.so.cache", GPU_LDCACHE_MAX, &len);

	if (cache)
		(void)gpu_ldcache(cache, len, take_cached, t);
	for (const char *const *dir = gpu_tree_lib_dirs; *dir; dir++)
		take_dir(t, *dir);
	take_dir(t, "/opt/rocm/lib");
}

/* CUDA's runtime comes with the toolkit, with conda and as a package of Python's. */
static void look_for_cudart(struct gpu_tree *t)
{
	static const char *const dirs[] = { "/usr/local/cuda/lib64", "/usr/local/cuda/targets/x86_64-linux/lib",
					    "/usr/local/cuda/targets/sbsa-linux/lib", "/opt/conda/lib" };
	static const char *const pythons[] = { "/usr/lib", "/usr/local/lib", "/opt/conda/lib", "/opt/venv/lib",
					       "/venv/lib" };

	for (size_t i = 0; i < VL_COUNT(dirs); i++)
		take_dir(t, dirs[i]);
	for (size_t i = 0; i < VL_COUNT(pythons); i++) {
		VL_STRV struct vl_strv names = { 0 };
		gpu_tree_list(t, pythons[i], &names);
		for (size_t k = 0; k < VL_MIN(names.n, (size_t)NAMES_MAX); k++) {
			if (!vl_prefix(names.v[k], "python3"))
				continue;
			VL_FREE char *site =
				vl_asprintf("%s/%s/site-packages/nvidia/cuda_runtime/lib", pythons[i], names.v[k]);
			VL_FREE char *dist =
				vl_asprintf("%s/%s/dist-packages/nvidia/cuda_runtime/lib", pythons[i], names.v[k]);
			take_dir(t, site);
			take_dir(t, dist);
		}
	}
}

static void look_for_more(struct gpu_tree *t)
{
	VL_STRV struct vl_strv names = { 0 };
	size_t len = 0;
	VL_FREE char *rocm = gpu_tree_text(t, "/opt/rocm/.info/version", TEXT_MAX, &len);

	gpu_tree_list(t, "/usr/local/cuda/compat", &names);
	for (size_t i = 0; i < names.n; i++) {
		const char *v = vl_prefix(names.v[i], "libcuda.so.");
		if (v && strchr(v, '.'))
			gpu_tree_tell(t, 'f', v);
	}
	if (rocm) {
		rocm[strcspn(rocm, "\r\n")] = 0;
		gpu_tree_tell(t, 'r', rocm);
	}
	look_for_cudart(t);
}

static void look(struct gpu_tree *t, void *arg)
{
	(void)arg;
	look_for_libc(t);
	look_for_libraries(t);
	look_for_more(t);
}

/* ---- the caller --------------------------------------------------------------------------------- */

static bool is_plain(const char *s)
{
	for (; *s; s++)
		if (*s < 0x21 || *s > 0x7e)
			return false;
	return true;
}

static void take_once(struct vl_strv *l, const char *s)
{
	if (!vl_strv_has(l, s))
		vl_strv_add(l, s);
}

/* What the child says is the image's word: plain text it is, or nothing. */
static int take(const char *s, struct gpu_image *ret, const char *name, struct vl_err *err)
{
	char what = *s++;

	if (!is_plain(s))
		return 0;
	if (what == 'g')
		ret->libc = GPU_LIBC_GLIBC;
	else if (what == 'm')
		ret->libc = GPU_LIBC_MUSL;
	else if (what == 'v')
		take_once(&ret->versions, s);
	else if (what == 'l')
		take_once(&ret->libraries, s);
	else if (what == 'c')
		take_once(&ret->cudart, s);
	else if (what == 'f' && !ret->cuda_compat)
		ret->cuda_compat = vl_strdup(s);
	else if (what == 'r' && !ret->rocm)
		ret->rocm = vl_strdup(s);
	else if (!strchr("fr", what))
		return vl_fail(err, EPROTO, "%s: the process that reads the image makes no sense", name);
	return 0;
}

int gpu_image_look(enum plan_image kind, const struct vmnt_image *image, struct gpu_image *ret, struct vl_err *err)
{
	VL_STRV struct vl_strv lines = { 0 };
	GPU_IMAGE struct gpu_image i = { 0 };
	int r = gpu_tree_ask(kind, image, look, NULL, &lines, err);

	for (size_t k = 0; k < lines.n && r == 0; k++)
		r = take(lines.v[k], &i, image->name, err);
	if (r == 0)
		*ret = vl_move(&i);
	return r;
}
