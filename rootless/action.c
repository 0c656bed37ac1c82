#include "rootless.h"

#include <fcntl.h>
#include <sys/stat.h>

void ctr_start_free(struct ctr_start *s)
{
	ctr_door_free(&s->door);
	ctr_emulation_free(&s->emulation);
	vl_strv_free(&s->argv);
	vl_strv_free(&s->env);
}

bool ctr_has(const struct ctr_tree *tree, const char *path)
{
	struct vl_err err;

	if (tree->peek)
		return vmnt_peek_has(tree->peek, path);
	VL_CLOSE int fd = vl_open_in_root(tree->fd, path, O_PATH, 0, &err);
	return fd >= 0;
}

static void add_all(struct vl_strv *to, const struct vl_strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		vl_strv_add(to, from->v[i]);
}

static void choose_run(const struct ctr_tree *tree, const struct plan *p, struct vl_strv *ret)
{
	static const char *const scripts[] = { "/.singularity.d/runscript", "/singularity" };
	bool has_shell = ctr_has(tree, "/bin/sh");

	/* a runscript is a shell script: without a shell only the image's own configuration helps */
	for (size_t i = 0; i < VL_COUNT(scripts) && (has_shell || !p->run_default.n); i++)
		if (ctr_has(tree, scripts[i])) {
			vl_strv_add(ret, scripts[i]);
			add_all(ret, &p->argv);
			return;
		}
	if (!has_shell && p->run_default.n) {
		add_all(ret, &p->run_default);
		return;
	}
	vl_strv_add(ret, "/bin/sh");
	add_all(ret, &p->argv);
}

static void choose_shell(const struct ctr_tree *tree, const struct plan *p, struct vl_strv *ret)
{
	if (p->shell) {
		vl_strv_add(ret, p->shell);
	} else if (ctr_has(tree, "/bin/bash")) {
		vl_strv_add(ret, "/bin/bash");
		vl_strv_add(ret, "--norc");
	} else {
		vl_strv_add(ret, "/bin/sh");
	}
	add_all(ret, &p->argv);
}

/* run and test of an app are scripts of its own; exec and shell only want it to be there. */
static int choose_of_app(const struct ctr_tree *tree, const struct plan *p, struct vl_strv *ret, struct vl_err *err)
{
	VL_FREE char *root = vl_asprintf(CTR_APPS "/%s", p->app);
	VL_FREE char *script = vl_asprintf("%s/scif/%s", root, p->action == PLAN_RUN ? "runscript" : "test");

	if (!ctr_has(tree, root))
		return vl_fail(err, ENOPKG, "%s has no app '%s'", p->image_path, p->app);
	if (p->action != PLAN_RUN && p->action != PLAN_TEST)
		return 0;
	if (!ctr_has(tree, script))
		return vl_fail(err, ENOPKG, "the app '%s' of %s has no %s", p->app, p->image_path,
			       p->action == PLAN_RUN ? "runscript" : "test");
	vl_strv_add(ret, script);
	add_all(ret, &p->argv);
	return 0;
}

int ctr_choose_program(const struct ctr_tree *tree, const struct plan *p, struct vl_strv *ret, struct vl_err *err)
{
	int r = p->app ? choose_of_app(tree, p, ret, err) : 0;

	if (r < 0 || ret->n)
		return r;
	switch (p->action) {
	case PLAN_KEEP:
		if (p->entrypoint) {
			add_all(ret, &p->run_default);
			vl_strv_add(ret, "/bin/sh");
			vl_strv_add(ret, "-c");
			vl_strv_take(ret, vl_asprintf("exec " CTR_PRINT_ENV " -0 >&%d", CTR_ENTRY_FD));
			break;
		}
		vl_strv_add(ret, CTR_PRINT_ENV);
		vl_strv_add(ret, "-0");
		break;
	case PLAN_EXEC:
		add_all(ret, &p->argv);
		break;
	case PLAN_RUN:
		choose_run(tree, p, ret);
		break;
	case PLAN_SHELL:
		choose_shell(tree, p, ret);
		break;
	case PLAN_START: /* an image may have nothing to start: the instance is there all the same */
		if (ctr_has(tree, "/.singularity.d/startscript")) {
			vl_strv_add(ret, "/.singularity.d/startscript");
			add_all(ret, &p->argv);
		}
		break;
	case PLAN_TEST:
		if (!ctr_has(tree, "/.singularity.d/test"))
			return vl_fail(err, ENODATA, "%s has no test script", p->image_path);
		vl_strv_add(ret, "/.singularity.d/test");
		add_all(ret, &p->argv);
		break;
	}
	return 0;
}

/* execve, and what shells do with a text file that has no #! line. Returns errno. */
static int try_exec(const char *path, const struct ctr_start *s)
{
	execve(path, s->argv.v, s->env.v);
	if (errno != ENOEXEC)
		return errno;
	char **v = vl_alloc((s->argv.n + 2) * sizeof *v);
	v[0] = (char *)"/bin/sh";
	v[1] = (char *)path;
	for (size_t i = 1; i < s->argv.n; i++)
		v[i + 1] = s->argv.v[i];
	execve(v[0], v, s->env.v);
	free(v);
	return ENOEXEC;
}

static int search_path(const struct ctr_start *s, char **ret_path)
{
	const char *program = s->argv.v[0], *path = ctr_env_get(&s->env, "PATH");
	int worst = ENOENT;

	for (const char *p = path ? path : ""; *p;) {
		size_t n = strcspn(p, ":");
		VL_FREE char *full = vl_asprintf("%.*s%s%s", (int)n, p, n ? "/" : "./", program);
		int e = try_exec(full, s);
		if (e != ENOENT && e != ENOTDIR && e != EACCES)
			worst = e;
		if (e == EACCES && worst == ENOENT)
			worst = EACCES; /* maybe a later directory has one that may be run */
		if (access(full, F_OK) == 0 && !*ret_path)
			*ret_path = vl_strdup(full);
		if (worst != ENOENT && worst != EACCES)
			return worst;
		p += n + (p[n] == ':');
	}
	return worst;
}

int ctr_exec(const struct plan *p, const struct ctr_start *s, int *ret_status, struct vl_err *err)
{
	const char *program = s->argv.v[0];
	VL_FREE char *found = NULL;
	int e;

	if (strchr(program, '/')) {
		e = try_exec(program, s);
		found = access(program, F_OK) == 0 ? vl_strdup(program) : NULL;
	} else {
		e = search_path(s, &found);
	}
	*ret_status = e == ENOENT || e == ENOTDIR ? p->status_missing : p->status_denied;
	if (e == ENOENT && found)
		return vl_fail(err, e, "%s: its interpreter or loader is missing in the container", found);
	if (e == ENOENT || e == ENOTDIR)
		return vl_fail(err, e, "%s: not found in the container", program);
	if (e == EACCES)
		return vl_fail(err, e, "%s: not executable in the container", found ? found : program);
	return vl_fail_sys(err, e, "cannot start %s", found ? found : program);
}
