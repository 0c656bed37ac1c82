/* The host's MPI in place of the image's, which knows nothing of the host's network. Only when both are the same to programs: the
 * same interface, nothing missing, and nothing that the image's C library lacks. Whether that is so is found out by the child
 * that reads the image; it has the host's libraries as they were read before. */
#include "host.h"

#include <stdio.h>

#define PATHS_MAX 256 /* libraries of MPI in one image: an Intel MPI has some twenty */

/* ---- one library in place of another ------------------------------------------------------------ */

/* Of libtool's MAJOR.MINOR.PATCH: a greater minor has all that a lesser one has, and more. */
static bool read_number(const struct gpu_lib *l, unsigned *ret_major, int *ret_minor)
{
	const char *file = gpu_lib_number(vl_basename(l->path));

	*ret_minor = -1;
	return sscanf(*file || !l->elf.soname ? file : gpu_lib_number(l->elf.soname), "%9u.%9d", ret_major,
		      ret_minor) >= 1;
}

static bool is_open_mpi(const struct gpu_lib *l)
{
	return l->family && vl_streq(l->family, VL_MPI_OPEN);
}

/* All that are made of MPICH have had one interface since 2014. */
static bool same_interface(const struct gpu_lib *a, const struct gpu_lib *b)
{
	return a->family && b->family && is_open_mpi(a) == is_open_mpi(b);
}

/* Functions that programs may call: of MPI those of the standard, in C and Fortran. */
static bool is_interface(const struct gpu_lib *l, const char *name)
{
	return l->kind == GPU_LIB_FABRIC || !strncasecmp(name, "mpi_", 4);
}

static char *why_not_by_name(const struct gpu_lib *host, const struct gpu_lib *image)
{
	const struct gpu_lib *const libs[] = { host, image };
	unsigned major[2] = { 0, 0 };
	int minor[2];

	for (size_t i = 0; i < VL_COUNT(libs); i++)
		if (!read_number(libs[i], &major[i], &minor[i]))
			return vl_asprintf("%s has no number in its name that tells its interface", libs[i]->path);
	if (major[0] != major[1])
		return vl_asprintf("its interface is number %u, the image's is %u; the image needs a host's library of "
				   "that number",
				   major[0], major[1]);
	/* of two makers each counts for itself: then the names of functions decide */
	bool counts = host->kind == GPU_LIB_MPI && vl_streq(host->family, image->family);
	if (counts && minor[0] >= 0 && minor[0] < minor[1])
		return vl_asprintf("it is older, %u.%d, and the image's is %u.%d; build the image with an MPI that is "
				   "not newer than the host's",
				   major[0], minor[0], major[1], minor[1]);
	return NULL;
}

char *gpu_lib_why_not(const struct gpu_lib *host, const struct gpu_lib *image)
{
	const char *first = NULL;
	size_t n = 0;

	if (host->elf.class != image->elf.class || host->elf.machine != image->elf.machine)
		return vl_strdup("it is for another kind of machine");
	if (host->kind == GPU_LIB_MPI && !same_interface(host, image))
		return vl_asprintf("it is %s, and the image's is %s; the image needs a host's library of that kind",
				   host->family ? host->family : "of an unknown maker",
				   image->family ? image->family : "of an unknown maker");
	char *why = why_not_by_name(host, image);
	if (why)
		return why;
	for (size_t i = 0; i < image->exports.n; i++)
		if (is_interface(image, image->exports.v[i]) && !gpu_names_has(&host->exports, image->exports.v[i]) &&
		    !n++)
			first = image->exports.v[i];
	if (!n)
		return NULL;
	VL_FREE char *more = n > 1 ? vl_asprintf(" and %zu more", n - 1) : vl_strdup("");
	return vl_asprintf("it lacks %s%s that the image's has; build the image with one that is not newer than the "
			   "host's",
			   first, more);
}

/* ---- the child ---------------------------------------------------------------------------------- */

enum state { UNUSED, USED, LEFT /* to the image's own */ };
struct looking {
	const struct gpu_mpi *w;
	const struct gpu_libs *libs;
	enum state *state; /* of each of them */
	struct gpu_tree *t;
	struct vl_strv paths;   /* of the image, that may have to give way */
	struct gpu_image image; /* its C library */
	bool ended;             /* why not was told */
};

static void VL_PRINTF(2, 3) refuse(struct looking *l, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	if (l->ended)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	gpu_tree_tell(l->t, 'n', text);
	l->ended = true;
}

static void take_path(void *arg, const char *path)
{
	struct looking *l = arg;

	if (gpu_lib_kind_of(vl_basename(path)) == GPU_LIB_OTHER)
		return;
	if (l->paths.n < PATHS_MAX)
		vl_strv_add(&l->paths, path);
	else
		refuse(l, "the image has more than %d libraries of MPI; which of them count is not known", PATHS_MAX);
}

static bool load(struct looking *l, const char *path, struct gpu_lib *ret)
{
	struct gpu_lib one = { .kind = gpu_lib_kind_of(vl_basename(path)), .path = vl_strdup(path) };

	l->t->path = path;
	int r = gpu_lib_load(&one, gpu_tree_read, l->t);
	if (r == 0 && one.elf.class == gpu_native_class && one.elf.machine == gpu_native_machine) {
		*ret = one;
		return true;
	}
	gpu_lib_free(&one); /* of another machine, or a script of the linker: no program finds it */
	return false;
}

/* The host's library is for the container. */
static void use(struct looking *l, size_t i)
{
	const struct gpu_lib *h = &l->libs->v[i];

	l->state[i] = USED;
	const char *lacks = gpu_image_lacks(&l->image, &h->elf.needs);
	if (l->image.libc != GPU_LIBC_GLIBC)
		refuse(l, "the image has no C library that could load the host's %s", h->path);
	else if (lacks)
		refuse(l,
		       "the host's %s needs %s, which the image's C library has not; an image with a newer one is "
		       "needed, or a host's library that was built for older systems",
		       h->path, lacks);
}

/* Will the image's library of that path give way too, if the host's MPI is used? */
static bool has_twin(const struct looking *l, const char *path)
{
	for (size_t i = 0; i < l->libs->n; i++) {
		const struct gpu_lib *h = &l->libs->v[i];
		const char *rest =
			h->kind == GPU_LIB_MPI_PART && h->path ? vl_prefix(vl_basename(path), h->name) : NULL;
		if (rest && (!*rest || *rest == '.'))
			return true;
	}
	return false;
}

/* Parts that stay, for other languages, lean on what is no part of the standard. */
static void check_parts(struct looking *l, const struct gpu_lib *host, const struct gpu_lib *image)
{
	size_t dir = (size_t)(strrchr(image->path, '/') - image->path) + 1;

	for (size_t k = 0; k < l->paths.n; k++) {
		const char *path = l->paths.v[k];
		struct gpu_lib part;
		if (gpu_lib_kind_of(vl_basename(path)) != GPU_LIB_MPI_PART || strncmp(path, image->path, dir) ||
		    has_twin(l, path) || !load(l, path, &part))
			continue;
		for (size_t i = 0; i < part.wants.n; i++)
			if (gpu_names_has(&image->exports, part.wants.v[i]) &&
			    !gpu_names_has(&host->exports, part.wants.v[i]))
				refuse(l,
				       "the image's %s needs %s, which the host's %s has not; name the host's library "
				       "of that kind too (--mpi-libs)",
				       path, part.wants.v[i], host->path);
		gpu_lib_free(&part);
	}
}

static void replace(struct looking *l, size_t i, const struct gpu_lib *image)
{
	const struct gpu_lib *h = &l->libs->v[i];
	VL_FREE char *why = gpu_lib_why_not(h, image), *at = vl_asprintf("%zu:%s", i, image->path);

	if (why)
		refuse(l, "the host's %s cannot take the place of %s: %s", h->path, image->path, why);
	gpu_tree_tell(l->t, 'o', at);
	use(l, i);
	if (h->kind == GPU_LIB_MPI)
		check_parts(l, h, image);
}

/* The image's libraries of the name that loaders ask for: libfabric.so.1 is also libfabric.so.1.20.0. */
static bool replace_all(struct looking *l, size_t i)
{
	const char *name = l->libs->v[i].name;
	bool any = false;

	for (size_t k = 0; k < l->paths.n; k++) {
		const char *rest = vl_prefix(vl_basename(l->paths.v[k]), name);
		struct gpu_lib image;
		if (!rest || (*rest && *rest != '.') || !load(l, l->paths.v[k], &image))
			continue;
		any = true;
		replace(l, i, &image);
		gpu_lib_free(&image);
	}
	return any;
}

/* One that can stand in, or else one of the same interface; *ret_other is any other. */
static ssize_t host_for(const struct looking *l, const struct gpu_lib *image, ssize_t *ret_other)
{
	ssize_t same = -1;

	for (size_t i = 0; i < l->libs->n; i++) {
		const struct gpu_lib *h = &l->libs->v[i];
		if (h->kind != GPU_LIB_MPI || !h->path)
			continue;
		VL_FREE char *why = gpu_lib_why_not(h, image);
		if (!why)
			return (ssize_t)i;
		*(same_interface(h, image) ? &same : ret_other) = (ssize_t)i;
	}
	return same;
}

/* Each library of an MPI of which the host has one; an image may have several. */
static bool replace_mpi(struct looking *l)
{
	VL_FREE char *misfit = NULL;
	ssize_t other = -1;
	bool any = false, fits = false;

	for (size_t k = 0; k < l->paths.n; k++) {
		struct gpu_lib image;
		if (!vl_mpi_number(vl_basename(l->paths.v[k])) || !load(l, l->paths.v[k], &image))
			continue;
		any = true;
		ssize_t i = host_for(l, &image, &other);
		fits |= i >= 0;
		if (i >= 0)
			replace(l, (size_t)i, &image);
		else if (other >= 0 && !misfit)
			misfit = gpu_lib_why_not(&l->libs->v[other], &image);
		gpu_lib_free(&image);
	}
	if (!any)
		gpu_tree_tell(l->t, 'w', "the image has no MPI library; nothing of the host's is used");
	else if (!fits && other < 0)
		refuse(l, "of the host's libraries that were named none is an MPI's");
	else if (!fits)
		refuse(l, "the host's %s cannot be used: %s", l->libs->v[other].path, misfit);
	return fits;
}

/* ---- what the host's libraries need ------------------------------------------------------------- */

struct finding {
	const char *name;
	char *path;
};

static void take_cached(void *arg, const char *name, const char *path)
{
	struct finding *f = arg;

	if (!f->path && vl_streq(name, f->name))
		f->path = vl_strdup(path);
}

/* As its loader does. */
static bool image_finds(struct looking *l, const char *name, struct gpu_lib *ret)
{
	struct finding f = { .name = name };
	size_t len = 0;
	VL_FREE char *cache = gpu_tree_text(l->t, "/etc/ld.so.cache", GPU_LDCACHE_MAX, &len);

	if (cache)
		(void)gpu_ldcache(cache, len, take_cached, &f);
	bool found = f.path && load(l, f.path, ret);
	free(f.path);
	for (const char *const *dir = gpu_tree_lib_dirs; !found && *dir; dir++) {
		VL_FREE char *path = vl_asprintf("%s/%s", *dir, name);
		found = load(l, path, ret);
	}
	return found;
}

/* The image's own library stays: it must have all that `by` would have of the host's. */
static void check_own(struct looking *l, const struct gpu_lib *by, const struct gpu_lib *host,
		      const struct gpu_lib *image)
{
	for (size_t i = 0; host->path && i < by->wants.n; i++)
		if (gpu_names_has(&host->exports, by->wants.v[i]) && !gpu_names_has(&image->exports, by->wants.v[i])) {
			refuse(l,
			       "the host's %s needs %s of %s, which the image's own %s has not; an image with a newer "
			       "one is needed, or with none",
			       by->path, by->wants.v[i], host->name, image->path);
			return;
		}
}

static void add_needed(struct looking *l, const struct gpu_lib *by, size_t i)
{
	const struct gpu_lib *h = &l->libs->v[i];
	VL_FREE char *number = vl_asprintf("%zu", i);
	struct gpu_lib image = { 0 };

	if (l->state[i] == USED)
		return;
	if (h->path && (h->kind == GPU_LIB_MPI_PART || (h->kind == GPU_LIB_FABRIC && h->given)) && replace_all(l, i))
		return;
	if (image_finds(l, h->name, &image)) {
		check_own(l, by, h, &image);
		l->state[i] = LEFT;
	} else if (!h->path) {
		refuse(l, "the host's %s needs %s, which is neither on the host nor in the image", by->path, h->name);
	} else {
		gpu_tree_tell(l->t, 'd', number);
		use(l, i);
	}
	gpu_lib_free(&image);
}

static bool leans_on_used(const struct looking *l, const struct gpu_lib *part)
{
	for (size_t k = 0; k < part->elf.libs.n; k++) {
		ssize_t i = gpu_libs_index(l->libs, part->elf.libs.v[k]);
		if (i >= 0 && l->state[i] == USED && l->libs->v[i].kind <= GPU_LIB_MPI_PART)
			return true;
	}
	return false;
}

/* Named, and needed by none of those that are used: plugins need such, and programs in other languages. */
static void add_given(struct looking *l, size_t i)
{
	const struct gpu_lib *h = &l->libs->v[i];

	if (l->state[i] != UNUSED || !h->given)
		return;
	if (h->kind == GPU_LIB_OTHER) {
		add_needed(l, h, i);
	} else if (h->kind == GPU_LIB_MPI_PART && leans_on_used(l, h)) {
		l->state[i] = LEFT;
		(void)replace_all(l, i);
	}
}

/* All that the used ones bring with them, and what that brings. */
static void add_rest(struct looking *l)
{
	VL_FREE bool *done = vl_alloc(l->libs->n + 1);
	bool more = true;

	while (more && !l->ended) {
		more = false;
		for (size_t i = 0; i < l->libs->n; i++) {
			const struct gpu_lib *h = &l->libs->v[i];
			if (l->state[i] != USED || done[i])
				continue;
			done[i] = more = true;
			for (size_t k = 0; k < h->elf.libs.n; k++) {
				ssize_t needed = gpu_libs_index(l->libs, h->elf.libs.v[k]);
				if (needed >= 0)
					add_needed(l, h, (size_t)needed);
			}
		}
		for (size_t i = 0; more && !l->w->fabric_only && i < l->libs->n; i++)
			add_given(l, i);
	}
}

static void look(struct gpu_tree *t, void *arg)
{
	struct looking *l = arg;
	bool fabric = false;

	l->t = t;
	gpu_tree_walk(t, take_path, l);
	l->image.libc = gpu_tree_glibc(t, &l->image.versions) ? GPU_LIBC_GLIBC : GPU_LIBC_NONE;
	if (!l->w->fabric_only && !replace_mpi(l))
		return;
	for (size_t i = 0; i < l->libs->n && !l->ended; i++)
		if (l->libs->v[i].kind == GPU_LIB_FABRIC && l->libs->v[i].given)
			fabric |= replace_all(l, i);
	if (l->w->fabric_only && !fabric)
		gpu_tree_tell(t, 'w', "the image has no libfabric; nothing of the host's is used");
	add_rest(l);
}

/* ---- the caller --------------------------------------------------------------------------------- */

static void add_mount(struct gpu_edits *e, const char *src, const char *dst)
{
	struct gpu_mount *m = gpu_add_mount(e, src, dst);

	vl_strv_add(&m->options, "ro");
}

/* What the child says is the image's word: only a library of that kind may be hidden. */
static bool may_hide(const struct gpu_lib *h, const char *path)
{
	return *path == '/' && !strstr(path, "/../") && !strstr(path, "/./") && h->kind != GPU_LIB_OTHER &&
	       gpu_lib_kind_of(vl_basename(path)) == h->kind;
}

static int take(const struct gpu_mpi *w, const struct gpu_libs *libs, const char *line, const struct vl_progress *say,
		struct gpu_edits *ret, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(line + 1, strlen(line + 1));
	char *end;
	unsigned long i = strtoul(line + 1, &end, 10);

	if (*line == 'n')
		return vl_fail(err, ENOEXEC, "%s: %s; --mpi=none runs with the image's own", w->why, shown);
	if (*line == 'w') {
		vl_progress_warn(say, "%s: %s", w->why, shown);
		return 0;
	}
	const struct gpu_lib *h = end > line + 1 && i < libs->n ? &libs->v[i] : NULL;
	if (*line == 'd' && h && h->path && !*end && !strchr(h->name, '/')) {
		VL_FREE char *dst = vl_asprintf(GPU_LIBS "/%s", h->name);
		add_mount(ret, h->path, dst);
		gpu_add_lib_dir(ret, GPU_LIBS);
		return 0;
	}
	if (*line == 'o' && h && h->path && *end == ':' && vl_streq(shown, line + 1) && may_hide(h, end + 1)) {
		add_mount(ret, h->path, end + 1);
		return 0;
	}
	return vl_fail(err, EPROTO, "%s: the process that reads the image makes no sense", w->why);
}

int gpu_mpi_edits(const struct gpu_mpi *w, enum plan_image kind, const struct vmnt_image *image,
		  const struct vl_progress *say, struct gpu_edits *ret, struct vl_err *err)
{
	GPU_LIBS_LIST struct gpu_libs libs = { 0 };
	VL_STRV struct vl_strv lines = { 0 };
	struct looking l = { .w = w, .libs = &libs };

	int r = gpu_libs_find(w->files, w->fabric_only, &libs, err);
	if (r < 0)
		return vl_wrap(err, "%s", w->why);
	VL_FREE enum state *state = vl_alloc((libs.n + 1) * sizeof *state);
	l.state = state;
	r = gpu_tree_ask(kind, image, look, &l, &lines, err);
	if (r < 0)
		return vl_wrap(err, "%s", w->why);
	for (size_t i = 0; i < lines.n && r == 0; i++)
		r = take(w, &libs, lines.v[i], say, ret, err);
	return r;
}
