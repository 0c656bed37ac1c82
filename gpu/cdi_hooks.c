/* Hooks of a specification into those of a plan. */
#include "cdi.h"

static void take(struct gpu_hook *h, struct plan *p, bool inside, const char *why)
{
	struct plan_hook *to = ctr_plan_add_hook(p, inside, h->path);

	to->argv = vl_move(&h->args);
	if (!to->argv.n)
		vl_strv_add(&to->argv, h->path);
	to->env = vl_move(&h->env);
	to->timeout = h->timeout;
	to->why = why;
}

int gpu_hooks_apply(struct gpu_edits *e, struct plan *p, const char *why, struct vl_err *err)
{
	for (size_t i = 0; i < e->n_hooks; i++)
		if (!vl_streq(e->hooks[i].name, "createContainer") && !vl_streq(e->hooks[i].name, "startContainer"))
			return vl_fail(
				err, ENOTSUP,
				"%s: the hook %s of kind %s cannot be run: it is meant for outside of the container, "
				"where vial, which becomes the program, leaves no process; createContainer and "
				"startContainer can",
				why, e->hooks[i].path, e->hooks[i].name);
	for (size_t i = 0; i < e->n_hooks; i++) {
		take(&e->hooks[i], p, vl_streq(e->hooks[i].name, "startContainer"), why);
		free(e->hooks[i].name);
		free(e->hooks[i].path);
	}
	vl_freep(&e->hooks);
	e->n_hooks = 0;
	return 0;
}
