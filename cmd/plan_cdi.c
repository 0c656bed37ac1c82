/* --device: devices as their vendors describe them (CDI). */
#include "run.h"

#include <vial/gpu.h>

static bool is_writable(const struct plan *p)
{
	return p->writable || p->writable_tmpfs || (p->n_overlays && p->overlays[p->n_overlays - 1].writable);
}

/* Hooks of the host change files of the container: links, the loader's cache. For that there must be a layer; the program
 * sees the container as read-only as ever. */
static void make_room_for_hooks(const struct making *m)
{
	struct plan *p = m->p;
	bool any = false;

	for (size_t i = 0; i < p->n_hooks; i++)
		any |= !p->hooks[i].inside;
	if (any && !is_writable(p))
		p->writable_tmpfs = p->sealed = true;
}

/* The whole /dev of the host has its own names, and no room for others. */
static int check_names(const struct making *m, const struct gpu_edits *e, const char *origin)
{
	for (size_t i = 0; i < e->n_nodes; i++) {
		const struct gpu_node *n = &e->nodes[i];
		const struct plan_mount *over = ctr_plan_mount_over(m->p, n->path);
		if (over && over->kind == PLAN_BIND && vl_streq(over->dst, "/dev") && access(n->path, F_OK) < 0)
			return vl_fail(m->err, ENOENT,
				       "%s: %s is to be seen as %s, which the host's /dev has not; with --contain the "
				       "container has a /dev of its own, with the devices that are asked for",
				       origin, n->host, n->path);
	}
	return 0;
}

/* Under the name apptainer a '$' in a user's value begins a variable; in a file of a vendor it is itself. */
static void keep_dollars(struct vl_strv *env)
{
	for (size_t i = 0; i < env->n; i++) {
		VL_BUF struct vl_buf b = { 0 };
		for (const char *s = env->v[i]; *s; s++)
			vl_buf_addf(&b, "%s%c", *s == '$' ? "\\" : "", *s);
		free(env->v[i]);
		env->v[i] = vl_steal(&b.data);
	}
}

static int apply(const struct making *m, struct gpu_cdi_part *part)
{
	VL_FREE char *text = vl_asprintf("--device %s", part->origin);
	const char *why = ctr_plan_origin(m->p, text);
	int r = check_names(m, &part->edits, why);

	if (r < 0 || (r = gpu_hooks_apply(&part->edits, m->p, why, m->err)) < 0)
		return r;
	for (size_t i = 0; i < part->edits.env.n; i++) {
		const char *kv = part->edits.env.v[i];
		vl_strv_take(&m->p->env_why, vl_asprintf("%.*s=%s", (int)strcspn(kv, "="), kv, why));
	}
	if (m->p->env.eval)
		keep_dollars(&part->edits.env);
	return gpu_edits_apply(&part->edits, m->p, why, m->say, m->err);
}

int cmd_plan_cdi(const struct making *m)
{
	GPU_CDI struct gpu_cdi found = { 0 };
	int r = m->o->device.n ? gpu_cdi_find(&m->o->device, &m->o->cdi_dirs, m->say, &found, m->err) : 0;

	for (size_t i = 0; i < found.n_parts && r == 0; i++)
		r = apply(m, &found.parts[i]);
	if (r == 0)
		make_room_for_hooks(m);
	return r;
}
