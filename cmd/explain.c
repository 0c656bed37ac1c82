/* --explain: a plan in words. One model, as JSON; for people it is printed line by line. Nothing here starts or makes
 * anything. */
#include "run.h"

#include <stdio.h>
#include <sys/stat.h>

extern char **environ;

/* ---- JSON by the line ----------------------------------------------------------------------- */

static void put_str(vl_json *j, const char *key, const char *value)
{
	if (value)
		vl_json_set(j, key, vl_json_new_str(value));
}

static vl_json *new_list(const struct vl_strv *l)
{
	vl_json *j = vl_json_new_arr();

	for (size_t i = 0; i < l->n; i++)
		vl_json_add(j, vl_json_new_str(l->v[i]));
	return j;
}

/* ---- image and what lies on it ---------------------------------------------------------------- */

static vl_json *image(const struct plan *p, const struct ctr_preview *v)
{
	vl_json *j = vl_json_new_obj();
	bool squash = p->image == PLAN_SQUASHFS;

	put_str(j, "path", p->image_path);
	put_str(j, "kind", squash ? "squashfs" : "directory");
	if (squash)
		vl_json_set(j, "offset", vl_json_new_int((int64_t)p->image_off));
	if (p->image_size)
		vl_json_set(j, "size", vl_json_new_int((int64_t)p->image_size));
	put_str(j, "mount", !squash ? "bind" : v->shared ? "shared" : "private");
	return j;
}

static const char *changes(const struct plan *p)
{
	if (p->sealed)
		return "refused, once hooks of devices have made theirs in memory";
	if (p->writable)
		return "kept in the image";
	if (p->n_overlays && p->overlays[p->n_overlays - 1].writable)
		return "kept in an overlay";
	return p->writable_tmpfs ? "in memory, thrown away" : "refused";
}

static vl_json *overlays(const struct plan *p)
{
	static const char *const kinds[] = {
		[PLAN_LAYER_DIR] = "directory", [PLAN_LAYER_SQUASHFS] = "squashfs", [PLAN_LAYER_EXT3] = "ext3"
	};
	vl_json *all = vl_json_new_arr();

	for (size_t i = 0; i < p->n_overlays; i++) {
		vl_json *j = vl_json_new_obj();
		put_str(j, "path", p->overlays[i].path);
		put_str(j, "kind", kinds[p->overlays[i].kind]);
		vl_json_set(j, "writable", vl_json_new_bool(p->overlays[i].writable));
		put_str(j, "origin", vl_streq(p->overlays[i].path, p->image_path) ? "image" : "--overlay");
		vl_json_add(all, j);
	}
	return all;
}

/* ---- mounts --------------------------------------------------------------------------------- */

static vl_json *mount_flags(const struct plan_mount *m)
{
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = { { PLAN_RO, "ro" },
		      { PLAN_DEVICES, "dev" },
		      { PLAN_OPTIONAL, "optional" },
		      { PLAN_NOFOLLOW, "nofollow" },
		      { PLAN_LINK, "link" },
		      { PLAN_STICKY, "sticky" },
		      { PLAN_DEFAULT, "default" },
		      { PLAN_NOEXEC, "noexec" },
		      { PLAN_NONESTED, "nonested" } };
	vl_json *j = vl_json_new_arr();

	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (m->flags & names[i].flag)
			vl_json_add(j, vl_json_new_str(names[i].name));
	return j;
}

static const char *mount_note(const struct plan_mount *m)
{
	struct stat st;

	if (m->kind != PLAN_BIND || lstat(m->src, &st) == 0 || errno == EACCES)
		return NULL;
	return m->flags & PLAN_OPTIONAL ? "left out: the source does not exist" : "the source does not exist";
}

static vl_json *mount(const struct plan_mount *m)
{
	static const char *const kinds[] = {
		[PLAN_BIND] = "bind", [PLAN_TMPFS] = "tmpfs", [PLAN_DEV] = "dev",      [PLAN_IMAGE] = "image",
		[PLAN_TEXT] = "text", [PLAN_PROC] = "proc",   [PLAN_MQUEUE] = "mqueue"
	};
	vl_json *j = vl_json_new_obj();

	put_str(j, "destination", m->dst);
	put_str(j, "source", m->src);
	put_str(j, "kind", kinds[m->kind]);
	if (m->kind == PLAN_IMAGE)
		put_str(j, "image", m->image_path);
	if (m->size)
		vl_json_set(j, "size", vl_json_new_int((int64_t)m->size));
	vl_json_set(j, "flags", mount_flags(m));
	put_str(j, "origin", m->why);
	put_str(j, "note", mount_note(m));
	return j;
}

static void add_id_file(vl_json *all, const struct plan *p, const char *path)
{
	if (ctr_plan_mount_over(p, path))
		return;
	vl_json *j = vl_json_new_obj();
	put_str(j, "destination", path);
	put_str(j, "kind", "text");
	vl_json_set(j, "flags", vl_json_new_arr());
	put_str(j, "origin", "user");
	put_str(j, "note", "if the image has the file and it lacks this user");
	vl_json_add(all, j);
}

static vl_json *mounts(const struct plan *p)
{
	vl_json *all = vl_json_new_arr();

	for (size_t i = 0; i < p->n_mounts; i++)
		vl_json_add(all, mount(&p->mounts[i]));
	if (p->fakeroot || p->user.name)
		add_id_file(all, p, "/etc/passwd");
	if (!p->fakeroot)
		add_id_file(all, p, "/etc/group");
	return all;
}

/* ---- hooks ---------------------------------------------------------------------------------- */

static vl_json *hooks(const struct plan *p)
{
	vl_json *all = vl_json_new_arr();

	for (size_t i = 0; i < p->n_hooks; i++) {
		vl_json *j = vl_json_new_obj();
		put_str(j, "name", p->hooks[i].path);
		put_str(j, "kind", p->hooks[i].inside ? "startContainer" : "createContainer");
		vl_json_set(j, "argv", new_list(&p->hooks[i].argv));
		put_str(j, "origin", p->hooks[i].why);
		vl_json_add(all, j);
	}
	return all;
}

/* ---- who, and what he may ------------------------------------------------------------------- */

static vl_json *ids(const struct plan *p, const struct ctr_preview *v)
{
	vl_json *j = vl_json_new_obj(), *groups = vl_json_new_arr();

	vl_json_set(j, "uid", vl_json_new_int(p->user.uid));
	vl_json_set(j, "gid", vl_json_new_int(p->user.gid));
	put_str(j, "user", p->user.name);
	put_str(j, "home", p->user.home);
	for (size_t i = 0; i < p->user.n_groups; i++)
		vl_json_add(groups, vl_json_new_str(p->user.groups[i].name));
	vl_json_set(j, "groups", groups);
	vl_json_set(j, "fakeroot", vl_json_new_bool(p->fakeroot));
	vl_json_set(j, "all_ids", vl_json_new_bool(v->all_ids));
	vl_json_set(j, "uid_map", new_list(&v->uid_map));
	vl_json_set(j, "gid_map", new_list(&v->gid_map));
	return j;
}

static vl_json *namespaces(const struct plan *p)
{
	static const struct {
		unsigned ns;
		const char *name;
	} names[] = { { PLAN_NS_PID, "pid" }, { PLAN_NS_IPC, "ipc" }, { PLAN_NS_UTS, "uts" }, { PLAN_NS_NET, "net" } };
	vl_json *j = vl_json_new_arr();

	vl_json_add(j, vl_json_new_str("user"));
	vl_json_add(j, vl_json_new_str("mount"));
	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (p->namespaces & names[i].ns)
			vl_json_add(j, vl_json_new_str(names[i].name));
	return j;
}

static vl_json *security(const struct plan *p)
{
	VL_FREE char *caps = ctr_caps_text(ctr_plan_caps(p));
	vl_json *j = vl_json_new_obj();

	put_str(j, "capabilities", caps);
	put_str(j, "seccomp", p->seccomp);
	vl_json_set(j, "no_new_privs", vl_json_new_bool(true));
	return j;
}

static vl_json *network(const struct plan *p)
{
	vl_json *j = vl_json_new_obj();

	put_str(j, "kind", p->network ? p->network : "host");
	vl_json_set(j, "ports", new_list(&p->ports));
	vl_json_set(j, "dns", new_list(&p->dns));
	return j;
}

static vl_json *limits(const struct plan *p)
{
	VL_STRV struct vl_strv l = { 0 };

	ctr_cgroup_files(&p->limits, &l);
	return new_list(&l);
}

/* ---- program -------------------------------------------------------------------------------- */

static vl_json *program(const struct plan *p, const struct ctr_preview *v)
{
	vl_json *j = vl_json_new_obj(), *cwd = vl_json_new_arr();

	vl_json_set(j, "argv", new_list(&v->argv));
	vl_json_set(j, "through_shell_files", new_list(&v->scripts));
	for (size_t i = 0; i < p->cwd.n; i++)
		vl_json_add(cwd, vl_json_new_str(p->cwd.v[i]));
	if (!p->cwd_must) {
		vl_json_add(cwd, vl_json_new_str(p->user.home ? p->user.home : "/"));
		vl_json_add(cwd, vl_json_new_str("/"));
	}
	vl_json_set(j, "directories", cwd);
	if (p->umask >= 0)
		vl_json_set(j, "umask", vl_json_new_int(p->umask));
	return j;
}

/* ---- environment ---------------------------------------------------------------------------- */

static const char *get(const struct vl_strv *l, const char *key, size_t n)
{
	for (size_t i = l->n; i-- > 0;)
		if (!strncmp(l->v[i], key, n) && l->v[i][n] == '=')
			return l->v[i] + n + 1;
	return NULL;
}

/* In the order in which they win. */
static char *set_by(const struct making *m, const char *kv, size_t n)
{
	const struct action_opts *o = m->o;
	const char *device = get(&m->p->env_why, kv, n);

	static const char *const prefixes[] = { "VIALENV_", "APPTAINERENV_", "SINGULARITYENV_" };

	if (get(&o->env, kv, n))
		return vl_strdup("--env");
	for (size_t i = 0; i < VL_COUNT(prefixes); i++) {
		VL_FREE char *name = vl_asprintf("%s%.*s", prefixes[i], (int)n, kv);
		const char *v = getenv(name);
		if (v && vl_streq(v, kv + n + 1))
			return vl_steal(&name);
	}
	return vl_strdup(device ? device : "--env-file");
}

static const char *search_path_of(const struct plan_env *e, const char *kv, size_t n)
{
	bool ld = n == strlen("LD_LIBRARY_PATH") && !strncmp(kv, "LD_LIBRARY_PATH", n);
	bool path = n == strlen("PATH") && !strncmp(kv, "PATH", n);

	if ((path && (e->path_first || e->path_last)) || (ld && (e->ld_first || e->ld_last)))
		return "PREPEND_ or APPEND_ of the user's";
	return path || ld ? "usual directories" : NULL;
}

static char *origin(const struct making *m, const struct ctr_preview *v, const char *kv)
{
	const struct plan_env *e = &m->p->env;
	size_t n = strcspn(kv, "=");
	const char *file = get(&v->files, kv, n), *list = search_path_of(e, kv, n), *host = get(&e->host, kv, n);

	if (get(&e->set, kv, n))
		return set_by(m, kv, n);
	if (n == 4 && !strncmp(kv, "HOME", 4))
		return vl_strdup(m->o->home ? "--home" : m->p->fakeroot ? "--fakeroot" : "user database");
	if (file)
		return vl_asprintf("image %s%s%s", file, list ? ", " : "", list ? list : "");
	if (list)
		return vl_strdup(list);
	if (get(&e->fixed, kv, n))
		return vl_strdup("fact");
	VL_FREE char *key = vl_strndup(kv, n);
	const char *outside = getenv(key);
	return vl_strdup(host && outside && vl_streq(host, outside) ? "host" : "--clean");
}

static void add_variable(vl_json *all, const char *kv, const char *from)
{
	vl_json *j = vl_json_new_obj();
	size_t n = strcspn(kv, "=");

	vl_json_set(j, "name", vl_json_new_strn(kv, n));
	put_str(j, "value", kv[n] ? kv + n + 1 : NULL);
	put_str(j, "origin", from);
	vl_json_add(all, j);
}

static vl_json *environment(const struct making *m, const struct ctr_preview *v)
{
	vl_json *all = vl_json_new_arr();

	for (size_t i = 0; i < v->env.n; i++) {
		VL_FREE char *from = origin(m, v, v->env.v[i]);
		add_variable(all, v->env.v[i], from);
	}
	add_variable(all, "PWD", "working directory"); /* its value is known when that is entered */
	return all;
}

static vl_json *left_out(const struct making *m)
{
	vl_json *all = vl_json_new_arr();

	for (char **e = environ; *e; e++) {
		const char *why = ctr_host_env_why_not(*e, m->p->env.clean, &m->o->no_env);
		if (!why)
			continue;
		vl_json *j = vl_json_new_obj();
		vl_json_set(j, "name", vl_json_new_strn(*e, strcspn(*e, "=")));
		put_str(j, "why", why);
		vl_json_add(all, j);
	}
	return all;
}

/* ---- for people ------------------------------------------------------------------------------- */

static void say(const char *s)
{
	VL_FREE char *safe = vl_printable(s, strlen(s));

	fputs(safe, stdout);
}

static void say_words(const vl_json *list, const char *between)
{
	for (size_t i = 0; i < vl_json_len(list); i++) {
		fputs(i ? between : "", stdout);
		say(vl_json_string(vl_json_at(list, i)));
	}
}

static void say_list(const char *title, const vl_json *list, const char *between)
{
	if (!vl_json_len(list))
		return;
	printf("%-14s", title);
	say_words(list, between);
	putchar('\n');
}

static void say_one(const char *title, const char *value)
{
	if (!value)
		return;
	printf("%-14s", title);
	say(value);
	putchar('\n');
}

/* "  A = B  (C)"; what there is not is left out */
static void say_row(const char *a, const char *sign, const char *b, const char *c)
{
	fputs("  ", stdout);
	say(a);
	if (b) {
		fputs(sign, stdout);
		say(b);
	}
	if (c) {
		fputs("  (", stdout);
		say(c);
		putchar(')');
	}
}

static void say_mounts(const vl_json *list)
{
	puts("mounts");
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *m = vl_json_at(list, i);
		const char *kind = vl_json_str(m, "kind"), *src = vl_json_str(m, "source");
		say_row(vl_json_str(m, "destination"), " <- ", src ? src : kind, vl_json_str(m, "origin"));
		if (vl_json_str(m, "image"))
			say_row("of", " ", vl_json_str(m, "image"), NULL);
		fputs("  ", stdout);
		say_words(vl_json_arr(m, "flags"), ",");
		if (vl_json_str(m, "note"))
			say_row("note", ": ", vl_json_str(m, "note"), NULL);
		putchar('\n');
	}
}

static void say_overlays(const vl_json *list)
{
	if (vl_json_len(list))
		puts("overlays, the later on top");
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *o = vl_json_at(list, i);
		say_row(vl_json_str(o, "path"), ": ", vl_json_str(o, "kind"), vl_json_str(o, "origin"));
		puts(vl_json_is_true(vl_json_get(o, "writable")) ? "  takes the changes" : "  read only");
	}
}

static void say_rows(const char *title, const vl_json *list, const char *sign, const char *b, const char *c)
{
	if (vl_json_len(list))
		puts(title);
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *row = vl_json_at(list, i);
		say_row(vl_json_str(row, "name"), sign, b ? vl_json_str(row, b) : NULL, vl_json_str(row, c));
		putchar('\n');
	}
}

static void say_ids(const vl_json *j)
{
	int64_t uid = 0, gid = 0;

	vl_json_int(j, "uid", &uid);
	vl_json_int(j, "gid", &gid);
	printf("%-14suid %lld, gid %lld", "user", (long long)uid, (long long)gid);
	if (vl_json_str(j, "user"))
		say_row(vl_json_str(j, "user"), " ", NULL, NULL);
	puts(vl_json_is_true(vl_json_get(j, "fakeroot")) ? "  (--fakeroot)" : "");
	say_list("groups", vl_json_arr(j, "groups"), ", ");
	if (vl_json_is_true(vl_json_get(j, "all_ids")))
		say_one("ids", "all, each as itself");
	say_list("uid map", vl_json_arr(j, "uid_map"), ", ");
	say_list("gid map", vl_json_arr(j, "gid_map"), ", ");
}

static void print_text(const vl_json *j)
{
	const vl_json *i = vl_json_obj(j, "image"), *run = vl_json_obj(j, "program"), *sec = vl_json_obj(j, "security");

	say_one("image", vl_json_str(i, "path"));
	printf("%-14s%s, mount: %s\n", "", vl_json_str(i, "kind"), vl_json_str(i, "mount"));
	say_list("program", vl_json_arr(run, "argv"), " ");
	say_list("starts in", vl_json_arr(run, "directories"), ", else ");
	say_one("changes are", vl_json_str(j, "changes"));
	say_ids(vl_json_obj(j, "ids"));
	say_list("namespaces", vl_json_arr(j, "namespaces"), " ");
	say_one("host name", vl_json_str(j, "hostname"));
	say_one("network", vl_json_str(vl_json_obj(j, "network"), "kind"));
	say_list("ports", vl_json_arr(vl_json_obj(j, "network"), "ports"), ", ");
	say_list("name servers", vl_json_arr(vl_json_obj(j, "network"), "dns"), ", ");
	say_one("capabilities", *vl_json_str(sec, "capabilities") ? vl_json_str(sec, "capabilities") : "none");
	say_one("seccomp", vl_json_str(sec, "seccomp"));
	say_list("limits", vl_json_arr(j, "limits"), ", ");
	say_overlays(vl_json_arr(j, "overlays"));
	say_mounts(vl_json_arr(j, "mounts"));
	say_rows("hooks", vl_json_arr(j, "hooks"), ": ", "kind", "origin");
	say_rows("environment", vl_json_arr(j, "environment"), "=", "value", "origin");
	say_list("and whatever the image's /bin/sh makes of ", vl_json_arr(run, "through_shell_files"), ", ");
	say_rows("variables of the host that stay outside", vl_json_arr(j, "left_out"), "", NULL, "why");
}

int cmd_explain(const struct making *m)
{
	CTR_PREVIEW struct ctr_preview v = { 0 };
	const struct plan *p = m->p;
	VL_JSON vl_json *j = vl_json_new_obj();

	ctr_plan_sort(m->p, m->say);
	int r = ctr_preview(p, &v, m->err);
	if (r < 0)
		return r;
	vl_json_set(j, "image", image(p, &v));
	vl_json_set(j, "program", program(p, &v));
	put_str(j, "changes", changes(p));
	vl_json_set(j, "ids", ids(p, &v));
	vl_json_set(j, "namespaces", namespaces(p));
	put_str(j, "hostname", p->hostname);
	vl_json_set(j, "network", network(p));
	vl_json_set(j, "security", security(p));
	vl_json_set(j, "limits", limits(p));
	vl_json_set(j, "overlays", overlays(p));
	vl_json_set(j, "mounts", mounts(p));
	vl_json_set(j, "hooks", hooks(p));
	vl_json_set(j, "environment", environment(m, &v));
	vl_json_set(j, "left_out", left_out(m));
	if (m->o->json) {
		VL_FREE char *text = vl_json_text(j, true);
		puts(text);
	} else {
		print_text(j);
	}
	return 0;
}
