/* Which MPI an image has, and how its ranks ask who the others are. Told by the names and the content of its libraries:
 * nothing of the image is run. */
#include <vial/image.h>

#include <limits.h>
#include <sys/stat.h>

#define MPI_MAX 16 /* builds in one image: an Intel MPI has four */

/* Open MPI numbers its library by libtool's rule; these are the series of its releases. */
static const struct {
	const char *number, *series;
} open_mpi[] = { { "40.0", "3.0" },  { "40.10", "3.1" }, { "40.20", "4.0" }, { "40.30", "4.1" },
		 { "40.40", "5.0" }, { "20", "2" },      { "12", "1" } };

struct finding {
	struct img_mpi *v;
	size_t n;
	unsigned pmi;      /* by the plugins of Open MPI */
	bool plugins;      /* there are some */
	struct vl_mpi one; /* the library that is read */
};

void img_mpi_free(struct img_mpi *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].path);
		free(v[i].abi);
	}
	free(v);
}

/* ---- by name -------------------------------------------------------------------------------------- */

/* Open MPI 2 to 4 load one of these: ext3x and pmix3x speak PMIx, s1 and s2 are Slurm's older two. */
static void look_at_plugin(struct finding *f, const char *name)
{
	static const char begin[] = "mca_pmix_";

	if (!vl_prefix(name, begin))
		return;
	name += strlen(begin);
	f->plugins = true;
	if (vl_prefix(name, "ext") || vl_prefix(name, "pmix"))
		f->pmi |= IMG_MPI_PMIX;
	else if (vl_prefix(name, "s1.") || vl_prefix(name, "s2."))
		f->pmi |= IMG_MPI_PMI2;
}

static int look_at_name(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct finding *f = arg;
	const char *slash = strrchr(i->path, '/'), *name = slash ? slash + 1 : i->path, *number = vl_mpi_number(name);

	(void)err;
	if (!S_ISREG(i->mode))
		return 0;
	look_at_plugin(f, name);
	if (!number || f->n == MPI_MAX)
		return 0;
	f->v = vl_realloc(f->v, f->n + 1, sizeof *f->v);
	f->v[f->n++] = (struct img_mpi){ .path = vl_asprintf("/%s", i->path),
					 .abi = vl_strndup(name, (size_t)(number - name) + strcspn(number, ".")) };
	return 0;
}

/* ---- by content ----------------------------------------------------------------------------------- */

static int begin_content(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct finding *f = arg;

	(void)i, (void)err;
	f->one = (struct vl_mpi){ 0 };
	return 0;
}

static int look_at_content(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct finding *f = arg;

	(void)err;
	vl_mpi_look(&f->one, p, n);
	return 0;
}

static int look_at_hole(void *arg, uint64_t n, struct vl_err *err)
{
	struct finding *f = arg;

	(void)n, (void)err;
	f->one.kept = 0;
	return 0;
}

static const char *series_of(const struct img_mpi *m)
{
	const char *number = vl_mpi_number(strrchr(m->path, '/') + 1);

	for (size_t i = 0; number && i < VL_COUNT(open_mpi); i++) {
		size_t n = strlen(open_mpi[i].number);
		if (!strncmp(number, open_mpi[i].number, n) && (number[n] == '.' || !number[n]))
			return open_mpi[i].series;
	}
	return "";
}

static void conclude(const struct finding *f, struct img_mpi *m)
{
	const char *family = vl_mpi_family(&f->one);
	unsigned means = f->one.means;

	m->family = family ? family : "MPI", m->series = "";
	if (!vl_streq(m->family, VL_MPI_OPEN)) {
		m->pmi = (means & (VL_MPI_WIRE | VL_MPI_LIB_PMI) ? IMG_MPI_PMI2 : 0) |
			 (means & VL_MPI_LIB_PMIX ? IMG_MPI_PMIX : 0);
		return;
	}
	m->series = series_of(m);
	/* one without plugins has PMIx built in, as all have since 5 */
	m->pmi = f->plugins && !vl_streq(m->series, "5.0") ? f->pmi : IMG_MPI_PMIX;
}

int img_mpi_find(const struct img_root *root, struct img_mpi **ret, size_t *ret_n, int *ret_signal, struct vl_err *err)
{
	struct finding f = { 0 };
	const struct img_viewer names = { .item = look_at_name, .arg = &f };
	struct img_view_opts o = { .root = *root, .depth = UINT_MAX };

	o.root.path = "";
	int r = img_view(&o, &names, ret_signal, err);
	for (size_t i = 0; i < f.n && r >= 0; i++) {
		const struct img_viewer content = {
			.item = begin_content, .data = look_at_content, .hole = look_at_hole, .arg = &f
		};
		o.depth = 0;
		o.root.path = f.v[i].path;
		r = img_view(&o, &content, ret_signal, err);
		conclude(&f, &f.v[i]);
	}
	if (r < 0) {
		img_mpi_free(f.v, f.n);
		return r;
	}
	*ret = f.v;
	*ret_n = f.n;
	return 0;
}
