/* --mpi: the host's MPI or libfabric instead of the image's, with what the site adds to it. */
#include "run.h"

#include <vial/gpu.h>

/* Some of it may be there already, with a driver. */
static void drop_shown(const struct plan *p, struct gpu_edits *e)
{
	size_t kept = 0;

	for (size_t i = 0; i < e->n_mounts; i++) {
		struct gpu_mount *m = &e->mounts[i];
		bool shown = false;
		for (size_t k = 0; k < p->n_mounts; k++)
			shown |= vl_streq(p->mounts[k].dst, m->dst);
		if (!shown) {
			e->mounts[kept++] = *m;
			continue;
		}
		free(m->src);
		free(m->dst);
		vl_strv_free(&m->options);
	}
	e->n_mounts = kept;
}

static int add_binds(const struct making *m, const char *why)
{
	struct plan *p = m->p;
	size_t n = p->n_mounts;
	int r = ctr_plan_parse_binds(p, &m->o->mpi.bind, m->err);

	for (; n < p->n_mounts && r == 0; n++) {
		p->mounts[n].why = why;
		if (p->mounts[n].kind != PLAN_BIND)
			r = vl_fail(m->err, EINVAL, "--mpi-bind %s: not out of an image", p->mounts[n].dst);
	}
	return r;
}

static int add_env(const struct making *m, struct gpu_edits *e)
{
	const struct vl_strv *l = &m->o->mpi.env;

	for (size_t i = 0; i < l->n; i++) {
		size_t n = strcspn(l->v[i], "=");
		if (!l->v[i][n] || !vl_is_identifier(l->v[i], n))
			return vl_fail(m->err, EINVAL, "--mpi-env '%s' is not of the form KEY=VALUE", l->v[i]);
		gpu_add_env(e, l->v[i]);
		vl_strv_take(&m->p->env_why, vl_asprintf("%.*s=--mpi-env", (int)n, l->v[i]));
	}
	return 0;
}

int cmd_plan_mpi(const struct making *m)
{
	GPU_EDITS struct gpu_edits e = { 0 };
	const struct mpi_opts *o = &m->o->mpi;
	struct plan *p = m->p;

	if (!o->what || !*o->what || vl_streq(o->what, "none"))
		return 0;
	struct gpu_mpi w = { .files = &o->libs,
			     .fabric_only = vl_streq(o->what, "libfabric"),
			     .why = "--mpi=libfabric" };
	if (vl_streq(o->what, "host"))
		w.why = "--mpi=host";
	else if (!w.fabric_only)
		return vl_fail(m->err, EINVAL,
			       "--mpi takes host, libfabric or none, not '%s'; which server ranks are started by is "
			       "srun's to know",
			       o->what);
	if (!o->libs.n)
		return vl_fail(
			m->err, EINVAL,
			"%s: which are the host's libraries? --mpi-libs names them, or 'mpi-libs =' in vial.conf",
			w.why);
	const struct vmnt_image image = {
		.fd = p->image_fd, .off = p->image_off, .size = p->image_size, .name = p->image_path, .tree = *p->tree
	};
	int r = gpu_mpi_edits(&w, p->image, &image, m->say, &e, m->err);
	if (r < 0 || !e.n_mounts) /* nothing of the image gives way */
		return r;
	drop_shown(p, &e);
	if (e.lib_dirs.n)
		cmd_plan_libs_dir(p);
	if ((r = add_binds(m, w.why)) < 0 || (r = add_env(m, &e)) < 0)
		return r;
	return gpu_edits_apply(&e, p, w.why, m->say, m->err);
}
