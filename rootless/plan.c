#include "rootless.h"

static void free_mount(struct plan_mount *m)
{
	free(m->src);
	free(m->dst);
	free(m->text);
	free(m->image_path);
	vl_closep(&m->image_fd);
}

void ctr_plan_free(struct plan *p)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		free_mount(&p->mounts[i]);
	for (size_t i = 0; i < p->n_overlays; i++) {
		free(p->overlays[i].path);
		vl_closep(&p->overlays[i].fd);
		vl_closep(&p->overlays[i].lock);
	}
	for (size_t i = 0; i < p->n_hooks; i++) {
		free(p->hooks[i].path);
		vl_strv_free(&p->hooks[i].argv);
		vl_strv_free(&p->hooks[i].env);
	}
	for (size_t i = 0; i < p->user.n_groups; i++)
		free(p->user.groups[i].name);
	char **strings[] = { &p->image_path,   &p->shell,       &p->user.name,          &p->user.gecos,
			     &p->user.shell,   &p->user.home,   &p->env.path_first,     &p->env.path_last,
			     &p->env.ld_first, &p->env.ld_last, &p->hostname,           &p->network,
			     &p->seccomp,      &p->limits.cpus, &p->limits.cpuset_cpus, &p->limits.cpuset_mems,
			     &p->app };
	for (size_t i = 0; i < VL_COUNT(strings); i++)
		vl_freep(strings[i]);
	vl_closep(&p->keep_fd);
	vl_freep(&p->user.groups);
	vl_freep(&p->mounts);
	vl_freep(&p->overlays);
	vl_freep(&p->filter);
	vl_freep(&p->hooks);
	struct vl_strv *lists[] = { &p->env.host, &p->env.fixed, &p->env.set, &p->argv,       &p->run_default,
				    &p->cwd,      &p->ports,     &p->dns,     &p->limits.raw, &p->limits.weights,
				    &p->origins,  &p->env_why };
	for (size_t i = 0; i < VL_COUNT(lists); i++)
		vl_strv_free(lists[i]);
	p->n_mounts = p->n_overlays = p->user.n_groups = p->n_hooks = 0;
}

void ctr_plan_add(struct plan *p, enum plan_kind kind, const char *src, const char *dst, unsigned flags)
{
	p->mounts = vl_realloc(p->mounts, p->n_mounts + 1, sizeof *p->mounts);
	p->mounts[p->n_mounts++] = (struct plan_mount){
		.kind = kind,
		.flags = flags,
		.src = src ? vl_path_clean(src) : NULL,
		.dst = vl_path_clean(dst),
		.image_fd = -1,
	};
}

void ctr_plan_add_text(struct plan *p, const char *text, const char *dst, const char *why)
{
	ctr_plan_add(p, PLAN_TEXT, NULL, dst, PLAN_RO | PLAN_NOFOLLOW);
	p->mounts[p->n_mounts - 1].text = vl_strdup(text);
	p->mounts[p->n_mounts - 1].why = why;
}

void ctr_plan_remove(struct plan *p, size_t i)
{
	free_mount(&p->mounts[i]);
	memmove(&p->mounts[i], &p->mounts[i + 1], (--p->n_mounts - i) * sizeof *p->mounts);
}

struct plan_hook *ctr_plan_add_hook(struct plan *p, bool inside, const char *path)
{
	p->hooks = vl_realloc(p->hooks, p->n_hooks + 1, sizeof *p->hooks);
	p->hooks[p->n_hooks] = (struct plan_hook){ .inside = inside, .path = vl_strdup(path) };
	return &p->hooks[p->n_hooks++];
}

const char *ctr_plan_origin(struct plan *p, const char *text)
{
	vl_strv_add(&p->origins, text);
	return p->origins.v[p->origins.n - 1];
}

/* '/' sorts before every other byte, so that a directory comes right before what is in it. */
static int compare_paths(const char *a, const char *b)
{
	for (; *a && *a == *b; a++)
		b++;
	int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 1 : 0, y = *b == '/' ? 1 : *b ? (unsigned char)*b + 1 : 0;
	return x - y;
}

static bool goes_before(const struct plan_mount *a, const struct plan_mount *b)
{
	int c = compare_paths(a->dst, b->dst);
	if (c)
		return c < 0;
	return !(a->flags & PLAN_DEFAULT) && b->flags & PLAN_DEFAULT;
}

void ctr_plan_sort(struct plan *p, const struct vl_progress *say)
{
	size_t kept = 0;

	for (size_t i = 1; i < p->n_mounts; i++) { /* insertion: stable, and lists are short */
		struct plan_mount m = p->mounts[i];
		size_t k = i;
		for (; k > 0 && goes_before(&m, &p->mounts[k - 1]); k--)
			p->mounts[k] = p->mounts[k - 1];
		p->mounts[k] = m;
	}
	for (size_t i = 0; i < p->n_mounts; i++) {
		struct plan_mount *m = &p->mounts[i], *first = kept ? &p->mounts[kept - 1] : NULL;
		if (!first || !vl_streq(first->dst, m->dst)) {
			p->mounts[kept++] = *m;
			continue;
		}
		bool same = first->kind == m->kind && first->src && m->src && vl_streq(first->src, m->src);
		if (!(m->flags & PLAN_DEFAULT) && !same) /* a start within a container is given its binds again */
			vl_progress_warn(say, "two mounts on %s: %s is used, %s is not", m->dst,
					 first->src ? first->src : "tmpfs", m->src ? m->src : "tmpfs");
		free_mount(m);
	}
	p->n_mounts = kept;
}

bool ctr_lies_in(const char *path, const char *dir)
{
	const char *rest = vl_prefix(path, dir);
	return rest && (!*rest || *rest == '/');
}

const struct plan_mount *ctr_plan_mount_over(const struct plan *p, const char *path)
{
	const struct plan_mount *best = NULL;

	for (size_t i = 0; i < p->n_mounts; i++)
		if (ctr_lies_in(path, p->mounts[i].dst) && (!best || strlen(p->mounts[i].dst) > strlen(best->dst)))
			best = &p->mounts[i];
	return best;
}

bool ctr_plan_shows(const struct plan *p, const char *path)
{
	const struct plan_mount *m = ctr_plan_mount_over(p, path);
	return m && m->kind == PLAN_BIND && vl_streq(m->src, m->dst);
}
