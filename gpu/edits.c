/* What devices change in a container, as plain data, and how that becomes a part of a plan. */
#include <vial/gpu.h>

#include <sys/stat.h>

void gpu_edits_free(struct gpu_edits *e)
{
	for (size_t i = 0; i < e->n_nodes; i++) {
		free(e->nodes[i].host);
		free(e->nodes[i].path);
	}
	for (size_t i = 0; i < e->n_mounts; i++) {
		free(e->mounts[i].src);
		free(e->mounts[i].dst);
		vl_strv_free(&e->mounts[i].options);
	}
	for (size_t i = 0; i < e->n_hooks; i++) {
		free(e->hooks[i].name);
		free(e->hooks[i].path);
		vl_strv_free(&e->hooks[i].args);
		vl_strv_free(&e->hooks[i].env);
	}
	free(e->nodes);
	free(e->mounts);
	free(e->hooks);
	free(e->gids);
	vl_strv_free(&e->env);
	vl_strv_free(&e->lib_dirs);
	vl_strv_free(&e->shut);
	*e = (struct gpu_edits){ 0 };
}

/* ---- adding ------------------------------------------------------------------------------------ */

struct gpu_node *gpu_add_node(struct gpu_edits *e, const char *host, const char *path)
{
	e->nodes = vl_realloc(e->nodes, e->n_nodes + 1, sizeof *e->nodes);
	e->nodes[e->n_nodes] = (struct gpu_node){ .host = vl_strdup(host),
						  .path = vl_strdup(path),
						  .major = -1,
						  .minor = -1,
						  .mode = -1,
						  .uid = -1,
						  .gid = -1 };
	return &e->nodes[e->n_nodes++];
}

struct gpu_mount *gpu_add_mount(struct gpu_edits *e, const char *src, const char *dst)
{
	e->mounts = vl_realloc(e->mounts, e->n_mounts + 1, sizeof *e->mounts);
	e->mounts[e->n_mounts] = (struct gpu_mount){ .src = vl_strdup(src), .dst = vl_strdup(dst) };
	return &e->mounts[e->n_mounts++];
}

struct gpu_hook *gpu_add_hook(struct gpu_edits *e, const char *name, const char *path)
{
	e->hooks = vl_realloc(e->hooks, e->n_hooks + 1, sizeof *e->hooks);
	e->hooks[e->n_hooks] = (struct gpu_hook){ .name = vl_strdup(name), .path = vl_strdup(path) };
	return &e->hooks[e->n_hooks++];
}

void gpu_add_env(struct gpu_edits *e, const char *key_value)
{
	size_t n = strcspn(key_value, "=");

	for (size_t i = 0; i < e->env.n; i++)
		if (!strncmp(e->env.v[i], key_value, n) && (e->env.v[i][n] == '=' || !e->env.v[i][n])) {
			free(e->env.v[i]);
			e->env.v[i] = vl_strdup(key_value);
			return;
		}
	vl_strv_add(&e->env, key_value);
}

void gpu_add_lib_dir(struct gpu_edits *e, const char *dir)
{
	for (size_t i = 0; i < e->lib_dirs.n; i++)
		if (vl_streq(e->lib_dirs.v[i], dir))
			return;
	vl_strv_add(&e->lib_dirs, dir);
}

void gpu_add_shut(struct gpu_edits *e, const char *path)
{
	vl_strv_add(&e->shut, path);
}

void gpu_add_gid(struct gpu_edits *e, gid_t gid)
{
	for (size_t i = 0; i < e->n_gids; i++)
		if (e->gids[i] == gid)
			return;
	e->gids = vl_realloc(e->gids, e->n_gids + 1, sizeof *e->gids);
	e->gids[e->n_gids++] = gid;
}

/* ---- into a plan ------------------------------------------------------------------------------- */

static void bind(struct plan *p, const char *src, const char *dst, unsigned flags, const char *why)
{
	ctr_plan_add(p, PLAN_BIND, src, dst, flags);
	p->mounts[p->n_mounts - 1].why = why;
}

/* The host's path that the plan shows there, with its links resolved; new, or NULL. */
static char *shown_there(const struct plan *p, const char *path)
{
	const struct plan_mount *m = ctr_plan_mount_over(p, path);

	if (!m || m->kind != PLAN_BIND || !(m->flags & PLAN_DEVICES))
		return NULL;
	VL_FREE char *host = vl_asprintf("%s%s", m->src, path + strlen(m->dst));
	return realpath(host, NULL);
}

static int apply_nodes(const struct gpu_edits *e, struct plan *p, const char *why, struct vl_err *err)
{
	struct stat st;

	for (size_t i = 0; i < e->n_nodes; i++) {
		const struct gpu_node *n = &e->nodes[i];
		if (stat(n->host, &st) < 0) {
			if (n->optional)
				continue;
			return vl_fail_sys(err, errno, "%s: device %s", why, n->host);
		}
		if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode) && !S_ISFIFO(st.st_mode))
			return vl_fail(err, ENODEV, "%s: %s is no device", why, n->host);
		VL_FREE char *shown = shown_there(p, n->path), *real = realpath(n->host, NULL);
		/* the whole of the host's /dev is there already, in most containers */
		if (shown && real && vl_streq(shown, real))
			continue;
		bool ro = *n->access && !strchr(n->access, 'w');
		bind(p, n->host, n->path,
		     PLAN_DEVICES | PLAN_NONESTED | (ro ? PLAN_RO : 0u) | (n->optional ? PLAN_OPTIONAL : 0u), why);
	}
	return 0;
}

/* The node over itself, by a mount on which no device works: the way a device cgroup would refuse it, for root too. */
static void apply_shut(const struct gpu_edits *e, struct plan *p, const char *why)
{
	for (size_t i = 0; i < e->shut.n; i++) {
		VL_FREE char *host = shown_there(p, e->shut.v[i]);
		if (host)
			bind(p, host, e->shut.v[i], PLAN_NONESTED, why);
	}
}

static int apply_mounts(const struct gpu_edits *e, struct plan *p, const char *why, struct vl_err *err)
{
	for (size_t i = 0; i < e->n_mounts; i++) {
		const struct gpu_mount *m = &e->mounts[i];
		if (access(m->src, F_OK) < 0) {
			if (m->optional)
				continue;
			return vl_fail_sys(err, errno, "%s: %s", why, m->src);
		}
		unsigned flags = (vl_strv_has(&m->options, "ro") ? PLAN_RO : 0u) |
				 (vl_strv_has(&m->options, "noexec") ? PLAN_NOEXEC : 0u);
		bind(p, m->src, m->dst, flags | PLAN_NONESTED | (m->optional ? PLAN_OPTIONAL : 0u), why);
	}
	return 0;
}

/* Nobody without root can take on a group: those that the caller has stay his. */
static void check_gids(const struct gpu_edits *e, const struct plan *p, const char *why, const struct vl_progress *say)
{
	for (size_t i = 0; i < e->n_gids; i++) {
		bool there = e->gids[i] == p->user.gid || e->gids[i] == getegid() || e->gids[i] == 0;
		for (size_t k = 0; k < p->user.n_groups && !there; k++)
			there = p->user.groups[k].gid == e->gids[i];
		if (!there)
			vl_progress_warn(say,
					 "%s: group %u is not among yours; devices that only it may open stay shut",
					 why, (unsigned)e->gids[i]);
	}
}

int gpu_edits_apply(const struct gpu_edits *e, struct plan *p, const char *why, const struct vl_progress *say,
		    struct vl_err *err)
{
	if (e->n_hooks)
		return vl_fail(err, ENOTSUP, "%s: the %s hook %s cannot be run", why, e->hooks[0].name,
			       e->hooks[0].path);
	int r = apply_nodes(e, p, why, err);
	if (r < 0 || (r = apply_mounts(e, p, why, err)) < 0)
		return r;
	apply_shut(e, p, why);
	check_gids(e, p, why, say);
	for (size_t i = 0; i < e->env.n; i++)
		vl_strv_add(&p->env.set, e->env.v[i]);
	for (size_t i = 0; i < e->lib_dirs.n; i++) {
		if (vl_streq(e->lib_dirs.v[i], GPU_LIBS)) { /* which has a place of its own in the rules */
			p->env.libs = true;
			continue;
		}
		VL_FREE char *before = vl_steal(&p->env.ld_last);
		p->env.ld_last = vl_asprintf("%s%s%s", before ? before : "", before ? ":" : "", e->lib_dirs.v[i]);
	}
	return 0;
}
