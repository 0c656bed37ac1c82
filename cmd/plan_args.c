/* From the words of a command line to a plan: which host paths and variables a container gets. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

extern char **environ;

#define ENV_FILE_MAX (1u << 20) /* a list of variables */

struct making {
	struct cmd_ctx *c;
	struct action_opts *o;
	const struct vl_progress *say;
	struct plan *p;
	struct vl_err *err;
};

static bool skipped(const struct making *m, const char *word)
{
	for (size_t i = 0; i < m->o->no_mount.n; i++)
		if (vl_streq(m->o->no_mount.v[i], word))
			return true;
	return false;
}

static void check_skip_words(const struct making *m)
{
	static const char *const known[] = { "proc", "sys",    "dev", "devpts",    "home",
					     "tmp",  "hostfs", "cwd", "bind-paths" };

	for (size_t i = 0; i < m->o->no_mount.n; i++) {
		const char *w = m->o->no_mount.v[i];
		bool ok = *w == '/';
		for (size_t k = 0; k < VL_COUNT(known) && !ok; k++)
			ok = vl_streq(w, known[k]);
		if (!ok)
			vl_progress_warn(m->say, "--no-mount does not know '%s'", w);
	}
}

static void add_default(const struct making *m, const char *path, unsigned flags)
{
	ctr_plan_add(m->p, PLAN_BIND, path, path, flags | PLAN_DEFAULT);
}

/* ---- files the network needs ------------------------------------------------------------------ */

/* Services replace the file behind the link by renaming a new one over it: a bound file would
 * stay the old one for ever. So its directory is bound and the link itself put into the image. */
static void add_resolv_conf(const struct making *m)
{
	static const char path[] = "/etc/resolv.conf";
	struct stat st;

	if (skipped(m, path))
		return;
	VL_FREE char *real = realpath(path, NULL);
	if (!real)
		return;
	if (lstat(path, &st) < 0 || !S_ISLNK(st.st_mode) || !vl_prefix(real, "/run/")) {
		ctr_plan_add(m->p, PLAN_BIND, real, path, PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_NOFOLLOW);
		return;
	}
	VL_FREE char *dir = vl_strndup(real, (size_t)(strrchr(real, '/') - real));
	if (!ctr_plan_shows(m->p, dir))
		add_default(m, dir, PLAN_OPTIONAL | PLAN_RO);
	ctr_plan_add(m->p, PLAN_BIND, path, path, PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_NOFOLLOW | PLAN_LINK);
}

static void add_host_files(const struct making *m)
{
	static const char *const files[] = { "/etc/hosts", "/etc/localtime" };

	for (size_t i = 0; i < VL_COUNT(files); i++)
		if (!skipped(m, files[i]) && !skipped(m, "bind-paths"))
			add_default(m, files[i], PLAN_OPTIONAL | PLAN_NOFOLLOW);
	add_resolv_conf(m);
}

/* ---- directories -------------------------------------------------------------------------------- */

static int add_home(const struct making *m)
{
	struct plan *p = m->p;
	const char *home = m->o->home;

	if (home) {
		const char *colon = strchr(home, ':');
		VL_FREE char *src = vl_strndup(home, colon ? (size_t)(colon - home) : strlen(home));
		VL_FREE char *from = vl_path_absolute(src);
		const char *dst = colon ? colon + 1 : from;
		struct stat st;
		if (*dst != '/')
			return vl_fail(m->err, EINVAL, "--home %s: the place in the container must be an absolute path",
				       home);
		if (stat(src, &st) < 0)
			return vl_fail_sys(m->err, errno, "--home %s", from);
		if (!S_ISDIR(st.st_mode))
			return vl_fail(m->err, ENOTDIR, "--home %s is not a directory", from);
		free(p->user.home);
		p->user.home = vl_path_clean(dst);
		VL_FREE char *real = realpath(src, NULL);
		if (!m->o->no_home && !skipped(m, "home"))
			ctr_plan_add(p, PLAN_BIND, real ? real : from, p->user.home, PLAN_DEFAULT);
		return 0;
	}
	if (!p->user.home) { /* no passwd entry on this node */
		const char *env = getenv("HOME");
		p->user.home = vl_strdup(env && *env == '/' ? env : "/");
	}
	if (m->o->no_home || skipped(m, "home") || vl_streq(p->user.home, "/"))
		return 0;
	if (m->o->contain)
		ctr_plan_add(p, PLAN_TMPFS, NULL, p->user.home, PLAN_DEFAULT);
	else
		add_default(m, p->user.home, PLAN_OPTIONAL);
	return 0;
}

static void add_system(const struct making *m)
{
	static const char *const tmp[] = { "/tmp", "/var/tmp" };

	if (m->o->contain && !skipped(m, "dev"))
		ctr_plan_add(m->p, PLAN_DEV, NULL, "/dev", PLAN_DEFAULT | PLAN_DEVICES);
	else if (!skipped(m, "dev"))
		add_default(m, "/dev", PLAN_DEVICES);
	if (!skipped(m, "proc"))
		add_default(m, "/proc", 0);
	if (!skipped(m, "sys"))
		add_default(m, "/sys", 0);
	for (size_t i = 0; i < VL_COUNT(tmp) && !skipped(m, "tmp"); i++)
		if (m->o->contain)
			ctr_plan_add(m->p, PLAN_TMPFS, NULL, tmp[i], PLAN_DEFAULT | PLAN_OPTIONAL | PLAN_STICKY);
		else
			add_default(m, tmp[i], PLAN_OPTIONAL);
}

static bool is_system_dir(const char *path)
{
	static const char *const whole[] = { "/",      "/etc", "/bin", "/sbin", "/lib",
					     "/lib64", "/usr", "/var", "/opt",  "/mnt" };
	static const char *const below[] = { "/proc", "/sys", "/dev" };

	for (size_t i = 0; i < VL_COUNT(whole); i++)
		if (vl_streq(path, whole[i]))
			return true;
	for (size_t i = 0; i < VL_COUNT(below); i++) {
		const char *rest = vl_prefix(path, below[i]);
		if (rest && (!*rest || *rest == '/'))
			return true;
	}
	return false;
}

/* Where the shell says we are, when that is true: /scratch/me is what the user typed, even if it
 * leads to /lustre/fs1/me. */
static const char *logical_cwd(void)
{
	const char *pwd = getenv("PWD");
	struct stat a, b;

	if (!pwd || *pwd != '/' || stat(pwd, &a) < 0 || stat(".", &b) < 0)
		return NULL;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? pwd : NULL;
}

static void add_cwd(const struct making *m)
{
	struct plan *p = m->p;
	VL_FREE char *cwd = getcwd(NULL, 0);
	const char *logical = logical_cwd();

	if (m->o->cwd) {
		vl_strv_add(&p->cwd, m->o->cwd);
		p->cwd_must = true;
	}
	if (!cwd || *cwd != '/' || m->o->contain)
		return;
	if (!is_system_dir(cwd) && !skipped(m, "cwd") && !ctr_plan_shows(p, cwd))
		add_default(m, cwd, PLAN_OPTIONAL);
	if (m->o->cwd)
		return;
	if (logical && !vl_streq(logical, cwd))
		vl_strv_add(&p->cwd, logical);
	vl_strv_add(&p->cwd, cwd);
}

/* ---- environment ---------------------------------------------------------------------------------- */

static int add_prefixed(const struct making *m)
{
	static const char *const prefixes[] = { "SINGULARITYENV_", "APPTAINERENV_", "VIALENV_" }; /* the later beats */

	for (size_t i = 0; i < VL_COUNT(prefixes); i++)
		for (char **e = environ; *e; e++) {
			const char *kv = vl_prefix(*e, prefixes[i]);
			bool beaten = false; /* asked for here, because PREPEND_PATH and its kin would add up */
			for (size_t k = i + 1; kv && k < VL_COUNT(prefixes); k++) {
				VL_FREE char *other = vl_asprintf("%s%.*s", prefixes[k], (int)strcspn(kv, "="), kv);
				beaten |= getenv(other) != NULL;
			}
			if (kv && *kv && *kv != '=' && !beaten && ctr_plan_set_env(m->p, kv, m->say, m->err) < 0)
				return -m->err->code;
		}
	return 0;
}

/* To the end of file, whatever it is: <(a command) is a pipe. */
static int read_env_file(const char *path, struct vl_buf *out, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDONLY | O_NOCTTY, 0, err);
	char b[4096];
	ssize_t n;

	if (fd < 0)
		return fd;
	vl_buf_adds(out, "");
	while ((n = read(fd, b, sizeof b)) != 0) {
		if (n < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot read %s", path);
		if (n > 0)
			vl_buf_add(out, b, (size_t)n);
		if (out->len > ENV_FILE_MAX)
			return vl_fail(err, EFBIG, "%s: a file of variables has at most %u bytes", path, ENV_FILE_MAX);
	}
	return 0;
}

static int add_files(const struct making *m)
{
	for (size_t i = 0; i < m->o->env_file.n; i++) {
		VL_BUF struct vl_buf text = { 0 };
		int r = read_env_file(m->o->env_file.v[i], &text, m->err);
		if (r < 0 || (r = ctr_plan_env_text(m->p, text.data, m->o->env_file.v[i], environ, m->say, m->err)) < 0)
			return r;
	}
	return 0;
}

static void add_fact(const struct making *m, const char *key, const char *value)
{
	static const char *const prefixes[] = { "APPTAINER", "SINGULARITY" };

	for (size_t i = 0; i < VL_COUNT(prefixes); i++)
		vl_strv_take(&m->p->env.fixed, vl_asprintf("%s_%s=%s", prefixes[i], key, value));
}

static void add_facts(const struct making *m)
{
	VL_BUF struct vl_buf binds = { 0 };
	const char *prompt = m->c->profile == PROFILE_APPTAINER ? "Apptainer> " : "vial> ";
	const char *path = getenv("PATH");
	struct vl_strv *fixed = &m->p->env.fixed;

	vl_buf_adds(&binds, "");
	for (size_t i = 0; i < m->o->bind.n; i++)
		vl_buf_addf(&binds, "%s%s", i ? "," : "", m->o->bind.v[i]);
	add_fact(m, "CONTAINER", m->p->image_path);
	add_fact(m, "NAME", vl_basename(m->p->image_path));
	add_fact(m, "BIND", binds.data);
	add_fact(m, "ENVIRONMENT", "/.singularity.d/env/91-environment.sh");
	vl_strv_take(fixed, vl_asprintf("APPTAINER_COMMAND=%s", m->c->cmd->name));
	vl_strv_take(fixed, vl_asprintf("USER_PATH=%s", path ? path : ""));
	vl_strv_take(fixed, vl_asprintf("PS1=%s", prompt));
	vl_strv_take(fixed, vl_asprintf("PROMPT_COMMAND=PS1=\"%s\"; unset PROMPT_COMMAND", prompt));
	if (m->o->no_eval)
		add_fact(m, "NO_EVAL", "1");
}

/* ---- program -------------------------------------------------------------------------------------- */

/* ENTRYPOINT and CMD of the image, for an image that has no shell to run its runscript with. */
static int read_config(const struct making *m, const char *text, int argc, char **argv)
{
	VL_JSON vl_json *j = NULL;

	int r = vl_json_parse(text, strlen(text), "the image's configuration", &j, m->err);
	if (r < 0)
		return r;
	const vl_json *config = vl_json_obj(j, "config"); /* a whole image configuration, or this part alone */
	if (!config)
		config = j;
	const vl_json *lists[] = { vl_json_arr(config, "Entrypoint"), !argc ? vl_json_arr(config, "Cmd") : NULL };
	for (size_t i = 0; i < VL_COUNT(lists); i++)
		for (size_t k = 0; lists[i] && k < vl_json_len(lists[i]); k++)
			if (vl_json_string(vl_json_at(lists[i], k)))
				vl_strv_add(&m->p->run_default, vl_json_string(vl_json_at(lists[i], k)));
	for (int i = 0; i < argc; i++)
		vl_strv_add(&m->p->run_default, argv[i]);
	return 0;
}

static void set_manners(const struct making *m)
{
	struct plan *p = m->p;

	p->writable = m->o->writable;
	p->writable_tmpfs = m->o->writable_tmpfs;
	p->private_mount = m->o->private_mount;
	p->shell = m->o->shell ? vl_strdup(m->o->shell) : NULL;
	p->umask = m->o->no_umask ? 022 : -1;
	p->env.libs = m->c->profile == PROFILE_APPTAINER;
	if (m->c->profile == PROFILE_APPTAINER)
		p->status_missing = p->status_denied = EXIT_OWN_COMPAT;
}

int cmd_make_plan(struct cmd_ctx *c, struct action_opts *o, const struct action_image *image, enum plan_action action,
		  int argc, char **argv, const struct vl_progress *say, struct plan *p, struct vl_err *err)
{
	struct making m = { c, o, say, p, err };
	int r;

	if (o->writable && image->kind != PLAN_DIRECTORY)
		return vl_fail(err, EROFS,
			       "%s cannot be changed in place; use --writable-tmpfs, or build a directory image",
			       image->path);
	p->image = image->kind;
	p->image_fd = image->fd;
	p->image_off = image->off;
	p->image_size = image->size;
	p->image_path = vl_strdup(image->path);
	p->front = image->front;
	p->n_front = image->n_front;
	p->action = action;
	for (int i = 0; i < argc; i++)
		vl_strv_add(&p->argv, argv[i]);
	set_manners(&m);
	check_skip_words(&m);
	ctr_plan_ask_user(p);

	/* what the user asks for comes first: the first of two on one place is used */
	if ((r = ctr_plan_parse_binds(p, &o->bind, err)) < 0)
		return r;
	for (size_t i = 0; i < o->mount.n; i++)
		if ((r = ctr_plan_parse_mount(p, o->mount.v[i], err)) < 0)
			return r;
	if ((r = add_home(&m)) < 0)
		return r;
	add_system(&m);
	add_host_files(&m);
	add_cwd(&m);
	if ((r = cmd_plan_isolation(&o->iso, say, p, err)) < 0)
		return r;

	ctr_plan_host_env(p, environ, o->cleanenv, &o->no_env);
	if ((r = add_prefixed(&m)) < 0 || (r = add_files(&m)) < 0)
		return r;
	for (size_t i = 0; i < o->env.n; i++)
		if ((r = ctr_plan_set_env(p, o->env.v[i], say, err)) < 0)
			return r;
	add_facts(&m);
	return image->config ? read_config(&m, image->config, argc, argv) : 0;
}
