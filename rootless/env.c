/* The environment of the program (cli-compat section 4): host, then image, then what the user set. */
#include "rootless.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#define ENV_DIR "/.singularity.d/env"
#define OLD_ENV "/environment"
#define LIBS "/.singularity.d/libs"
#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define MAX_SCRIPTS 64
#define MAX_TEXT (1u << 20) /* a file of variables; real ones have some hundred bytes */

/* ---- the image's files ----------------------------------------------------------------------- */

struct script {
	char *path, *text;
};
struct scripts {
	struct script s[MAX_SCRIPTS];
	size_t n;
};

static void free_scripts(struct scripts *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->s[i].path);
		free(l->s[i].text);
	}
}

static char *read_text_at(int rootfd, const char *path)
{
	struct vl_err err;
	struct stat st;
	VL_CLOSE int fd = vl_open_in_root(rootfd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &err);

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > MAX_TEXT)
		return NULL;
	VL_FREE char *text = vl_alloc((size_t)st.st_size + 1);
	return vl_pread_full(fd, text, (size_t)st.st_size, 0, path, &err) < 0 ? NULL : vl_steal(&text);
}

char *ctr_read_text(const struct ctr_tree *tree, const char *path)
{
	return tree->peek ? vmnt_peek_text(tree->peek, path, MAX_TEXT) : read_text_at(tree->fd, path);
}

static int list_at(int rootfd, const char *path, struct vl_strv *ret)
{
	struct vl_err err;
	int fd = vl_open_in_root(rootfd, path, O_RDONLY | O_DIRECTORY, 0, &err);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return -ENOENT;
	}
	for (struct dirent *e; (e = readdir(d));)
		vl_strv_add(ret, e->d_name);
	closedir(d);
	return 0;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct script *)a)->path, ((const struct script *)b)->path);
}

static void add_script(const struct ctr_tree *tree, struct scripts *l, const char *path)
{
	char *text = l->n < MAX_SCRIPTS ? ctr_read_text(tree, path) : NULL;
	if (text)
		l->s[l->n++] = (struct script){ vl_strdup(path), text };
}

/* Files that the building tools put in for their own runtime: they do what is done here natively
 * (search paths, the prompt), or nothing as long as no --app is asked for. Leaving them out is
 * what lets most images start without a shell. */
static bool is_runtime_file(const char *name)
{
	static const char *const names[] = { "94-appsbase.sh", "95-apps.sh", "99-base.sh", "99-runtimevars.sh" };

	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(name, names[i]))
			return true;
	return false;
}

static void find_scripts(const struct ctr_tree *tree, struct scripts *l)
{
	VL_STRV struct vl_strv names = { 0 };

	if ((tree->peek ? vmnt_peek_list(tree->peek, ENV_DIR, &names) : list_at(tree->fd, ENV_DIR, &names)) < 0) {
		add_script(tree, l, OLD_ENV); /* images of before 2017 */
		return;
	}
	for (size_t i = 0; i < names.n; i++) {
		const char *name = names.v[i];
		size_t n = strlen(name);
		if (n < 4 || !vl_streq(name + n - 3, ".sh") || *name == '.' || is_runtime_file(name))
			continue;
		VL_FREE char *path = vl_asprintf(ENV_DIR "/%s", name);
		add_script(tree, l, path);
	}
	qsort(l->s, l->n, sizeof l->s[0], by_path);
}

/* The environment of an app: search paths of its own, then its files. */
static void add_app(const struct ctr_tree *tree, const char *app, struct scripts *l)
{
	static const char *const files[] = { "01-base.sh", "90-environment.sh" };
	VL_BUF struct vl_buf b = { 0 };
	VL_FREE char *root = vl_asprintf(CTR_APPS "/%s", app);
	VL_FREE char *bin = vl_asprintf("%s/bin", root), *lib = vl_asprintf("%s/lib", root);

	vl_buf_addf(&b, "export SCIF_APPS=" CTR_APPS "\nexport SCIF_APPROOT=%s\n", root);
	vl_buf_addf(&b, "export PATH=\"%s%s%s:" CTR_APPS "/singularity:$PATH\"\n", ctr_has(tree, bin) ? bin : "",
		    ctr_has(tree, bin) ? ":" : "", root);
	if (ctr_has(tree, lib))
		vl_buf_addf(&b, "export LD_LIBRARY_PATH=\"%s${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\"\n", lib);
	if (l->n < MAX_SCRIPTS)
		l->s[l->n++].text = vl_steal(&b.data);
	for (size_t i = 0; i < VL_COUNT(files); i++) {
		VL_FREE char *path = vl_asprintf("%s/scif/env/%s", root, files[i]);
		add_script(tree, l, path);
	}
}

static bool is_word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool mentioned(const struct scripts *l, const char *kv)
{
	size_t n = strcspn(kv, "=");
	VL_FREE char *key = vl_strndup(kv, n);

	for (size_t i = 0; n && i < l->n; i++) /* "=x" is a legal string of an environment */
		for (const char *p = l->s[i].text; (p = strstr(p, key)); p++)
			if ((p == l->s[i].text || !is_word_char(p[-1])) && !is_word_char(p[n]))
				return true;
	return false;
}

/* ---- without a shell -------------------------------------------------------------------------- */

static void add_default_dirs(struct vl_strv *env)
{
	const char *now = ctr_env_get(env, "PATH");
	VL_FREE char *path = vl_strdup(now ? now : "");
	VL_FREE char *dirs = vl_strdup(DEFAULT_PATH);

	for (char *save, *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		VL_FREE char *in = vl_asprintf(":%s:", path), *part = vl_asprintf(":%s:", d);
		if (!strstr(in, part))
			ctr_extend(&path, d, false);
	}
	ctr_env_put(env, "PATH", *path == ':' ? path + 1 : path);
}

/* What must wait for the image's files: the search path, and what names other variables. */
static bool is_late(const struct plan_env *e, const char *kv)
{
	return ctr_key_is(kv, "PATH") || ctr_has_reference(e, strchr(kv, '='));
}

static void put_set(const struct plan_env *e, const char *kv, struct vl_strv *env)
{
	VL_FREE char *expanded = ctr_expand(e, env, kv + strcspn(kv, "="));
	VL_FREE char *key = vl_strndup(kv, strcspn(kv, "="));

	ctr_env_put(env, key, *expanded ? expanded + 1 : "");
}

static void put_list(const struct plan_env *e, struct vl_strv *env, const char *key, const char *before,
		     const char *after)
{
	const char *now = ctr_env_get(env, key);
	VL_FREE char *first = ctr_expand(e, env, before), *last = ctr_expand(e, env, after);
	VL_FREE char *v = vl_asprintf("%s%s%s%s%s", first ? first : "", first && now && *now ? ":" : "", now ? now : "",
				      last && (first || (now && *now)) ? ":" : "", last ? last : "");
	if (first || last)
		ctr_env_put(env, key, v);
}

/* libs_last: libraries of the host in LIBS are found after the image's own, or an old driver library would take the place
 * of a newer libstdc++. Where nothing is said the C library's directories come first: those are named here, because what
 * is in LD_LIBRARY_PATH is before them. The price: they beat a program's own DT_RUNPATH too, so only who must do as others
 * do asks for it. "" when there is nothing to name. Returns new. */
static char *default_lib_dirs(const struct ctr_tree *tree, const struct plan *p)
{
	static const char *const loaders[] = { "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1",
					       "/lib64/ld64.so.2", "/lib/ld-linux-riscv64-lp64d.so.1" };
	static const char *const dirs[] = { "/lib/x86_64-linux-gnu",
					    "/usr/lib/x86_64-linux-gnu",
					    "/lib/aarch64-linux-gnu",
					    "/usr/lib/aarch64-linux-gnu",
					    "/lib/powerpc64le-linux-gnu",
					    "/usr/lib/powerpc64le-linux-gnu",
					    "/lib/riscv64-linux-gnu",
					    "/usr/lib/riscv64-linux-gnu",
					    "/lib64",
					    "/usr/lib64",
					    "/lib",
					    "/usr/lib" };
	VL_BUF struct vl_buf b = { 0 };
	bool bound = false, glibc = false;

	vl_buf_adds(&b, "");
	for (size_t i = 0; p->env.libs_last && i < p->n_mounts; i++)
		bound |= ctr_lies_in(p->mounts[i].dst, LIBS);
	for (size_t i = 0; bound && i < VL_COUNT(loaders); i++)
		glibc |= ctr_has(tree, loaders[i]);
	for (size_t i = 0; glibc && i < VL_COUNT(dirs); i++)
		if (ctr_has(tree, dirs[i]))
			vl_buf_addf(&b, "%s%s", b.len ? ":" : "", dirs[i]);
	return vl_steal(&b.data);
}

/* Who writes LD_LIBRARY_PATH='$LD_LIBRARY_PATH:/more' must not get an empty first element, which is the current
 * directory: what it would have been otherwise, or NULL. */
static const char *libs_to_extend(const struct plan *p, const char *lib_dirs)
{
	for (size_t i = 0; p->env.libs && i < p->env.set.n; i++)
		if (ctr_key_is(p->env.set.v[i], "LD_LIBRARY_PATH") && is_late(&p->env, p->env.set.v[i]))
			return *lib_dirs ? lib_dirs : LIBS;
	return NULL;
}

/* Step 3 of the rules, on a list. `hidden`: host variables that gave way to the image's. */
static void finish(const struct plan *p, const struct vl_strv *hidden, const char *lib_dirs, struct vl_strv *env)
{
	const char *ld = ctr_env_get(env, "LD_LIBRARY_PATH"), *own = libs_to_extend(p, lib_dirs);

	for (size_t i = 0; i < hidden->n; i++) {
		VL_FREE char *key = vl_strndup(hidden->v[i], strcspn(hidden->v[i], "="));
		if (!ctr_env_get(env, key))
			vl_strv_add(env, hidden->v[i]);
	}
	add_default_dirs(env);
	if (own && (!ld || !*ld))
		ctr_env_put(env, "LD_LIBRARY_PATH", own);
	for (size_t i = 0; i < p->env.set.n; i++)
		put_set(&p->env, p->env.set.v[i], env);
	put_list(&p->env, env, "PATH", p->env.path_first, p->env.path_last);
	ld = ctr_env_get(env, "LD_LIBRARY_PATH");
	if (p->env.libs && *lib_dirs && (!ld || !*ld))
		ctr_env_put(env, "LD_LIBRARY_PATH", lib_dirs);
	if (p->env.libs)
		put_list(&p->env, env, "LD_LIBRARY_PATH", NULL, LIBS);
	put_list(&p->env, env, "LD_LIBRARY_PATH", p->env.ld_first, p->env.ld_last);
	ctr_env_put(env, "HOME", p->user.home ? p->user.home : "/");
}

/* ---- with the image's shell -------------------------------------------------------------------- */

/* Start of an export of something that is no identifier: the shell would stop at it. */
static bool is_bad_export(const char *line)
{
	line += strspn(line, " \t");
	const char *name = vl_prefix(line, "export ");
	return name && !vl_is_identifier(name, strcspn(name, "= \t\n;")) && *name != '-';
}

static bool has_bad_export(const char *text)
{
	for (;; text++) {
		if (is_bad_export(text))
			return true;
		text = strchr(text, '\n');
		if (!text)
			return false;
	}
}

/* "export A+=B" in words that every shell knows. */
static void write_append(struct vl_buf *b, const char *line, size_t n)
{
	const char *name = line + strspn(line, " \t") + strlen("export "), *eq = memchr(line, '=', n);

	if (!eq || eq <= name || eq[-1] != '+' || !vl_is_identifier(name, (size_t)(eq - 1 - name)))
		return;
	int len = (int)(eq - 1 - name);
	vl_buf_addf(b, "export %.*s=\"${%.*s-}\"", len, name, len, name);
	vl_buf_add(b, eq + 1, (size_t)(line + n - eq - 1));
}

/* The file by name, or its text without the lines the shell would stop at. */
static void source(struct vl_buf *b, const struct script *s)
{
	if (s->path && !has_bad_export(s->text)) {
		vl_buf_adds(b, ". ");
		vl_buf_shell_word(b, s->path);
		vl_buf_adds(b, "\n");
		return;
	}
	for (const char *l = s->text; *l;) {
		size_t n = strcspn(l, "\n");
		if (!is_bad_export(l))
			vl_buf_add(b, l, n);
		else
			write_append(b, l, n);
		vl_buf_adds(b, "\n");
		l += n + (l[n] == '\n');
	}
}

/* Values travel in the environment, not in the text: a command line can be read by everybody. */
static void stash(struct vl_buf *b, struct vl_strv *env, const char *kv, unsigned number, bool only_if_unset)
{
	size_t n = strcspn(kv, "=");
	VL_FREE char *name = vl_asprintf("VIAL__%u", number);

	if (!vl_is_identifier(kv, n))
		return;
	ctr_env_put(env, name, kv + n + 1);
	if (only_if_unset)
		vl_buf_addf(b, "[ \"${%.*s+x}\" ] || ", (int)n, kv);
	vl_buf_addf(b, "export %.*s=\"$%s\"\nunset %s\n", (int)n, kv, name, name);
}

/* The same for what may name other variables. */
static void stash_set(struct vl_buf *b, const struct plan_env *e, struct vl_strv *env, const char *kv, unsigned *number)
{
	VL_BUF struct vl_buf word = { 0 }, names = { 0 };
	size_t n = strcspn(kv, "=");

	if (!vl_is_identifier(kv, n) || !kv[n])
		return;
	vl_buf_adds(&names, "");
	ctr_stash_word(e, kv + n + 1, env, number, &word, &names);
	vl_buf_addf(b, "export %.*s=%s\n%s%s%s", (int)n, kv, word.data, names.len ? "unset" : "", names.data,
		    names.len ? "\n" : "");
}

/* One more element of a list, in front or at the end. */
static void write_element(struct vl_buf *b, const struct plan_env *e, const char *key, const char *value, bool front,
			  struct vl_strv *env, unsigned *number)
{
	VL_BUF struct vl_buf word = { 0 }, names = { 0 };

	vl_buf_adds(&names, "");
	ctr_stash_word(e, value, env, number, &word, &names);
	if (front)
		vl_buf_addf(b, "export %s=%s\"${%s:+:$%s}\"\n", key, word.data, key, key);
	else
		vl_buf_addf(b, "export %s=\"${%s:+$%s:}\"%s\n", key, key, key, word.data);
	vl_buf_addf(b, "%s%s%s", names.len ? "unset" : "", names.data, names.len ? "\n" : "");
}

static void write_lists(struct vl_buf *b, const struct plan_env *e, struct vl_strv *env, unsigned *number)
{
	struct {
		const char *key, *first, *last;
	} lists[] = { { "PATH", e->path_first, e->path_last },
		      { "LD_LIBRARY_PATH", NULL, e->libs ? LIBS : NULL },
		      { "LD_LIBRARY_PATH", e->ld_first, e->ld_last } };

	for (size_t i = 0; i < VL_COUNT(lists); i++) {
		if (lists[i].first)
			write_element(b, e, lists[i].key, lists[i].first, true, env, number);
		if (lists[i].last)
			write_element(b, e, lists[i].key, lists[i].last, false, env, number);
	}
}

/* The last lines: find the program as the shell's own exec would, but say what is wrong in our
 * words and with our status; then exec, so that no shell is left behind. */
static void write_exec(struct vl_buf *b, const struct plan *p)
{
	vl_buf_adds(b, "VIAL__P=$1\n"
		       "if [ \"$1\" = \"${1#*/}\" ]; then\n"
		       "IFS=:; set -f\n"
		       "for VIAL__D in $PATH; do\n"
		       "if [ -f \"$VIAL__D/$1\" ] && [ -x \"$VIAL__D/$1\" ]; then VIAL__P=$VIAL__D/$1; break; fi\n"
		       "done\n"
		       "unset IFS VIAL__D; set +f\n"
		       "[ \"$VIAL__P\" = \"$1\" ] && VIAL__P=/\n"
		       "fi\n");
	vl_buf_addf(b,
		    "if [ \"$VIAL__P\" = / ] || [ ! -e \"$VIAL__P\" ]; then\n"
		    "printf 'FATAL:   %%s: not found in the container\\n' \"$1\" >&2; exit %d\n"
		    "elif [ -d \"$VIAL__P\" ] || [ ! -x \"$VIAL__P\" ]; then\n"
		    "printf 'FATAL:   %%s: not executable in the container\\n' \"$1\" >&2; exit %d\n"
		    "fi\n"
		    "unset VIAL__P\nexec \"$@\"\n",
		    p->status_missing, p->status_denied);
}

static char *write_text(const struct plan *p, const struct scripts *l, const struct vl_strv *hidden,
			const char *lib_dirs, struct vl_strv *env)
{
	VL_BUF struct vl_buf b = { 0 };
	VL_FREE char *home = vl_asprintf("HOME=%s", p->user.home ? p->user.home : "/");
	const char *own = libs_to_extend(p, lib_dirs);
	unsigned n = 0;

	for (size_t i = 0; i < l->n; i++)
		source(&b, &l->s[i]);
	for (size_t i = 0; i < hidden->n; i++)
		stash(&b, env, hidden->v[i], n++, true);
	vl_buf_adds(&b, "for VIAL__D in /usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin; do\n"
			"case \":$PATH:\" in *\":$VIAL__D:\"*) ;; *) PATH=\"${PATH:+$PATH:}$VIAL__D\" ;; esac\n"
			"done\nexport PATH\nunset VIAL__D\n");
	if (own)
		vl_buf_addf(&b, "[ \"$LD_LIBRARY_PATH\" ] || LD_LIBRARY_PATH=%s\n", own);
	for (size_t i = 0; i < p->env.set.n; i++)
		if (is_late(&p->env, p->env.set.v[i]) || mentioned(l, p->env.set.v[i]))
			stash_set(&b, &p->env, env, p->env.set.v[i], &n);
	stash(&b, env, home, n++, false);
	if (p->env.libs && *lib_dirs)
		vl_buf_addf(&b, "[ \"$LD_LIBRARY_PATH\" ] || LD_LIBRARY_PATH=%s\n", lib_dirs);
	write_lists(&b, &p->env, env, &n);
	write_exec(&b, p);
	return vl_steal(&b.data);
}

/* ---- both ------------------------------------------------------------------------------------- */

static void copy(struct vl_strv *to, const struct vl_strv *from)
{
	for (size_t i = 0; i < from->n; i++)
		vl_strv_add(to, from->v[i]);
}

/* One file of the image; if asked, which names are its own. */
static bool eval(const struct script *s, struct ctr_scope *scope, struct ctr_origin *origin)
{
	bool understood = ctr_eval_text(s->text, scope);

	for (size_t i = 0; origin && i < scope->assigned.n; i++) {
		VL_FREE char *key = vl_strndup(scope->assigned.v[i], strcspn(scope->assigned.v[i], "="));
		ctr_env_put(&origin->files, key, s->path ? s->path : CTR_APPS);
	}
	if (origin)
		vl_strv_free(&scope->assigned);
	if (origin && !understood)
		vl_strv_add(&origin->scripts, s->path ? s->path : CTR_APPS);
	return understood;
}

void ctr_environment(const struct ctr_tree *tree, const struct plan *p, const struct vl_strv *argv,
		     struct ctr_start *ret)
{
	VL_CLEANUP(free_scripts) struct scripts l = { 0 };
	VL_STRV struct vl_strv hidden = { 0 };
	CTR_SCOPE struct ctr_scope scope = { 0 };
	VL_FREE char *lib_dirs = default_lib_dirs(tree, p);
	bool understood = true;

	find_scripts(tree, &l);
	if (p->app)
		add_app(tree, p->app, &l);
	/* "${A:-1}" in the image must win over the host's A: such names are out of sight while the
	 * files are read, and come back if they are still unset afterwards. */
	for (size_t i = 0; i < p->env.host.n; i++)
		vl_strv_add(mentioned(&l, p->env.host.v[i]) ? &hidden : &ret->env, p->env.host.v[i]);
	for (size_t i = 0; i < p->env.fixed.n; i++)
		ctr_env_put_kv(&ret->env, p->env.fixed.v[i]);
	ctr_env_put(&ret->env, "PATH", DEFAULT_PATH);
	ctr_env_put(&ret->env, "HOME", p->user.home ? p->user.home : "/");
	for (size_t i = 0; i < p->env.set.n; i++)
		if (!is_late(&p->env, p->env.set.v[i]))
			ctr_env_put_kv(&ret->env, p->env.set.v[i]);

	copy(&scope.env, &ret->env);
	for (size_t i = 0; i < l.n; i++)
		understood &= eval(&l.s[i], &scope, ret->origin);
	/* who asks for the origins starts nothing, and no shell either */
	if (understood || ret->origin || !ctr_has(tree, "/bin/sh")) {
		finish(p, &hidden, lib_dirs, &scope.env);
		vl_strv_free(&ret->env);
		ret->env = scope.env;
		scope.env = (struct vl_strv){ 0 };
	} else {
		vl_strv_add(&ret->argv, "/bin/sh");
		vl_strv_add(&ret->argv, "-c");
		vl_strv_take(&ret->argv, write_text(p, &l, &hidden, lib_dirs, &ret->env));
		vl_strv_add(&ret->argv, "vial");
	}
	copy(&ret->argv, argv);
}
