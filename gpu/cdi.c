/* CDI: from names of devices to edits. All files are read, since any may have the device; the later directory counts. */
#include "cdi.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define FILES_MAX 4096u /* of one directory: one for each vendor, and some systems write one for each container */
#define SHOWN_MAX 16u   /* names in a message */

struct file {
	struct gpu_cdi_spec spec;
	size_t priority; /* number of its directory */
	bool used;
};
struct library {
	struct file *v;
	size_t n;
	char *broken; /* what is wrong with the first file that cannot be used */
	size_t n_broken;
};

static void free_library(struct library *l)
{
	for (size_t i = 0; i < l->n; i++)
		gpu_cdi_spec_free(&l->v[i].spec);
	free(l->v);
	free(l->broken);
}

/* ---- reading ------------------------------------------------------------------------------------- */

static void note_broken(struct library *l, const struct vl_err *why)
{
	if (l->n_broken++ == 0)
		l->broken = vl_strdup(why->text);
}

static bool has_end(const char *name, const char *end)
{
	size_t n = strlen(name), m = strlen(end);

	return n > m && *name != '.' && vl_streq(name + n - m, end);
}

static void read_file(struct library *l, int dirfd, const char *dir, const char *name, size_t priority)
{
	VL_FREE char *shown = vl_printable(name, strlen(name));
	VL_FREE char *path = vl_asprintf("%s/%s", dir, shown), *text = NULL;
	struct gpu_cdi_spec spec = { 0 };
	struct vl_err why = { 0 };
	size_t len;
	int r = vl_read_file(dirfd, name, GPU_CDI_FILE_MAX, &text, &len, &why);

	if (r < 0)
		vl_wrap(&why, "%s", dir);
	else
		r = gpu_cdi_parse(text, len, has_end(name, ".yaml"), path, &spec, &why);
	if (r < 0) {
		note_broken(l, &why);
		return;
	}
	l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
	l->v[l->n++] = (struct file){ .spec = spec, .priority = priority };
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_dir(struct library *l, const char *dir, size_t priority, bool must)
{
	VL_STRV struct vl_strv names = { 0 };
	struct vl_err why = { 0 };
	DIR *d = opendir(dir);

	if (!d) {
		if (errno != ENOENT || must) {
			vl_fail_sys(&why, errno, "%s", dir);
			note_broken(l, &why);
		}
		return;
	}
	for (const struct dirent *e; (e = readdir(d));)
		if ((has_end(e->d_name, ".json") || has_end(e->d_name, ".yaml")) && names.n < FILES_MAX + 1)
			vl_strv_add(&names, e->d_name);
	if (names.n > FILES_MAX) {
		vl_fail(&why, E2BIG, "%s: more than %u specifications", dir, FILES_MAX);
		note_broken(l, &why);
	} else {
		if (names.n)
			qsort(names.v, names.n, sizeof *names.v, by_name);
		for (size_t i = 0; i < names.n; i++)
			read_file(l, dirfd(d), dir, names.v[i], priority);
	}
	closedir(d);
}

/* ---- finding --------------------------------------------------------------------------------------- */

static struct gpu_cdi_device *device_of(const struct gpu_cdi_spec *s, const char *name)
{
	for (size_t i = 0; i < s->n_devices; i++)
		if (vl_streq(s->devices[i].name, name))
			return &s->devices[i];
	return NULL;
}

/* The file that has the device, in the directory that counts most. */
static int find(const struct library *l, const char *kind, const char *name, struct file **ret, struct vl_err *err)
{
	struct file *best = NULL, *twin = NULL;

	for (size_t i = 0; i < l->n; i++) {
		struct file *f = &l->v[i];
		if (!vl_streq(f->spec.kind, kind) || !device_of(&f->spec, name))
			continue;
		if (!best || f->priority > best->priority) {
			best = f;
			twin = NULL;
		} else if (f->priority == best->priority) {
			twin = f;
		}
	}
	if (twin)
		return vl_fail(err, ENOTUNIQ,
			       "%s=%s is described by %s and by %s; one of them must go, or go to a later directory",
			       kind, name, best->spec.path, twin->spec.path);
	if (!best)
		return -ENOENT;
	*ret = best;
	return 0;
}

static char *dirs_text(const struct vl_strv *dirs)
{
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < dirs->n; i++)
		vl_buf_addf(&b, "%s%s", i ? ", " : "", dirs->v[i]);
	return vl_steal(&b.data);
}

static void add_once(struct vl_strv *l, const char *s)
{
	if (!vl_strv_has(l, s) && l->n <= SHOWN_MAX)
		vl_strv_add(l, s);
}

static char *list_text(const struct vl_strv *l)
{
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < l->n; i++)
		vl_buf_addf(&b, "%s%s", i ? ", " : "", i == SHOWN_MAX ? "..." : l->v[i]);
	return vl_steal(&b.data);
}

/* Says what there is instead. */
static int not_found(const struct library *l, const char *kind, const char *name, const struct vl_strv *dirs,
		     struct vl_err *err)
{
	VL_STRV struct vl_strv kinds = { 0 }, names = { 0 };
	VL_FREE char *where = dirs_text(dirs);
	VL_FREE char *broken = l->broken
				       ? vl_asprintf("; %zu of their files cannot be used: %s", l->n_broken, l->broken)
				       : vl_strdup("");

	for (size_t i = 0; i < l->n; i++) {
		const struct gpu_cdi_spec *s = &l->v[i].spec;
		add_once(&kinds, s->kind);
		for (size_t k = 0; k < s->n_devices && vl_streq(s->kind, kind); k++)
			add_once(&names, s->devices[k].name);
	}
	VL_FREE char *there = names.n ? list_text(&names) : kinds.n ? list_text(&kinds) : NULL;
	if (names.n)
		return vl_fail(err, ENOENT, "there is no CDI device %s=%s; of %s there are %s (%s)%s", kind, name, kind,
			       there, where, broken);
	if (kinds.n)
		return vl_fail(err, ENOENT, "there is no CDI device %s=%s; no file in %s is of %s, but there are %s%s",
			       kind, name, where, kind, there, broken);
	return vl_fail(
		err, ENOENT,
		"there is no CDI device %s=%s: no device is described in %s; the vendor's tool writes such a file, "
		"or vial gpu cdi%s",
		kind, name, where, broken);
}

/* ---- what is found ------------------------------------------------------------------------------------ */

static void drop_node(struct gpu_edits *e, size_t i)
{
	free(e->nodes[i].host);
	free(e->nodes[i].path);
	memmove(&e->nodes[i], &e->nodes[i + 1], (--e->n_nodes - i) * sizeof *e->nodes);
}

static void drop_mount(struct gpu_edits *e, size_t i)
{
	free(e->mounts[i].src);
	free(e->mounts[i].dst);
	vl_strv_free(&e->mounts[i].options);
	memmove(&e->mounts[i], &e->mounts[i + 1], (--e->n_mounts - i) * sizeof *e->mounts);
}

static bool has_node(const struct gpu_edits *e, size_t from, const char *path)
{
	while (from < e->n_nodes && !vl_streq(e->nodes[from].path, path))
		from++;
	return from < e->n_nodes;
}

static bool has_mount(const struct gpu_edits *e, size_t from, const char *dst)
{
	while (from < e->n_mounts && !vl_streq(e->mounts[from].dst, dst))
		from++;
	return from < e->n_mounts;
}

/* Of two edits for one place the later is the one that counts, in the format's reference too. */
static void merge(struct gpu_cdi *c)
{
	const struct gpu_edits *last = &c->parts[c->n_parts - 1].edits;

	for (size_t k = 0; k < c->n_parts; k++) {
		struct gpu_edits *e = &c->parts[k].edits;
		for (size_t i = 0; i < e->n_nodes;)
			if (has_node(last, e == last ? i + 1 : 0, e->nodes[i].path))
				drop_node(e, i);
			else
				i++;
		for (size_t i = 0; i < e->n_mounts;)
			if (has_mount(last, e == last ? i + 1 : 0, e->mounts[i].dst))
				drop_mount(e, i);
			else
				i++;
	}
}

/* A file that was written before the devices were renumbered would give the container another one. */
static int check_node(const struct gpu_node *n, const char *origin, struct vl_err *err)
{
	struct stat st;

	if (stat(n->host, &st) < 0)
		return vl_fail_sys(err, errno, "%s: the device node %s", origin, n->host);
	char type = S_ISCHR(st.st_mode) ? 'c' : S_ISBLK(st.st_mode) ? 'b' : S_ISFIFO(st.st_mode) ? 'p' : 0;
	if (!type)
		return vl_fail(err, ENODEV, "%s: %s is no device node", origin, n->host);
	if (n->type && n->type != type)
		return vl_fail(err, ESTALE, "%s: %s is of type %c and not %c; the file must be written anew", origin,
			       n->host, type, n->type);
	if (type != 'p' && n->major > 0 && (n->major != major(st.st_rdev) || n->minor != minor(st.st_rdev)))
		return vl_fail(err, ESTALE, "%s: %s is device %u:%u and not %lld:%lld; the file must be written anew",
			       origin, n->host, major(st.st_rdev), minor(st.st_rdev), (long long)n->major,
			       (long long)n->minor);
	return 0;
}

/* A node without permissions is one that can be seen and not opened: what a bind without PLAN_DEVICES is. */
static int use_nodes(struct gpu_edits *e, const char *origin, const struct vl_progress *say, struct vl_err *err)
{
	for (size_t i = 0; i < e->n_nodes;) {
		const struct gpu_node *n = &e->nodes[i];
		int r = check_node(n, origin, err);
		if (r < 0)
			return r;
		if (n->uid >= 0 || n->gid >= 0 || n->mode >= 0)
			vl_progress_note(say, "%s: %s keeps the owner and mode that it has on the host", origin,
					 n->path);
		if (!vl_streq(n->access, "-")) {
			i++;
			continue;
		}
		gpu_add_mount(e, n->host, n->path);
		drop_node(e, i);
	}
	return 0;
}

/* What every mount of a container without root is, or what makes no difference to it. */
static bool is_kept(const char *option)
{
	static const char *const kept[] = { "ro",       "rw",          "bind",    "rbind",      "nosuid",   "nodev",
					    "private",  "rprivate",    "slave",   "rslave",     "noexec",   "exec",
					    "relatime", "strictatime", "noatime", "nodiratime", "defaults", "async" };

	for (size_t i = 0; i < VL_COUNT(kept); i++)
		if (vl_streq(option, kept[i]))
			return true;
	return false;
}

static void look_at_options(const struct gpu_edits *e, const char *origin, const struct vl_progress *say)
{
	for (size_t i = 0; i < e->n_mounts; i++)
		for (size_t k = 0; k < e->mounts[i].options.n; k++) {
			const char *o = e->mounts[i].options.v[k];
			VL_FREE char *shown = vl_printable(o, strnlen(o, 64));
			if (!is_kept(o))
				vl_progress_warn(say, "%s: mount %s: the option '%s' is not kept", origin,
						 e->mounts[i].dst, shown);
		}
}

/* Libraries of the host come after the image's own, here as everywhere. */
static void use_libs(struct gpu_edits *e)
{
	for (size_t i = 0; i < e->env.n; i++) {
		const char *dirs = vl_prefix(e->env.v[i], GPU_CDI_LIBS "=");
		if (!dirs)
			continue;
		VL_FREE char *copy = vl_strdup(dirs);
		for (char *save, *d = strtok_r(copy, ":", &save); d; d = strtok_r(NULL, ":", &save))
			gpu_add_lib_dir(e, d);
		free(e->env.v[i]);
		memmove(&e->env.v[i], &e->env.v[i + 1], (e->env.n-- - i) * sizeof *e->env.v); /* with the NULL */
		return;                                                                       /* it stands there once */
	}
}

static int add_part(struct gpu_cdi *c, struct gpu_cdi_changes *from, const char *origin, const struct vl_progress *say,
		    struct vl_err *err)
{
	if (from->cannot)
		return vl_fail(err, ENOTSUP, "%s asks for %s", origin, from->cannot);
	int r = use_nodes(&from->edits, origin, say, err);
	if (r < 0)
		return r;
	look_at_options(&from->edits, origin, say);
	use_libs(&from->edits);
	c->parts = vl_realloc(c->parts, c->n_parts + 1, sizeof *c->parts);
	c->parts[c->n_parts].origin = vl_strdup(origin);
	c->parts[c->n_parts++].edits = vl_move(&from->edits);
	merge(c);
	return 0;
}

/* Edits of the file once, then those of the device. */
static int use(struct gpu_cdi *c, struct file *f, const char *name, const struct vl_progress *say, struct vl_err *err)
{
	struct gpu_cdi_device *d = device_of(&f->spec, name);
	VL_FREE char *origin = vl_asprintf("%s=%s of %s", f->spec.kind, name, f->spec.path);
	int r = f->used ? 0 : add_part(c, &f->spec.changes, f->spec.path, say, err);

	f->used = true;
	if (r < 0 || !d)
		return r;
	return add_part(c, &d->changes, origin, say, err);
}

static int find_all(const struct library *l, const char *kind, struct vl_strv *ret)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct gpu_cdi_spec *s = &l->v[i].spec;
		for (size_t k = 0; k < s->n_devices && vl_streq(s->kind, kind); k++)
			vl_strv_add(ret, s->devices[k].name);
	}
	return ret->n ? 0 : -ENOENT;
}

/* One name on the command line: one device, or for =all, where the vendor has none of that name, all of the kind. */
static int find_named(struct library *l, const char *word, const struct vl_strv *dirs, vl_json *seen,
		      const struct vl_progress *say, struct gpu_cdi *c, struct vl_err *err)
{
	VL_FREE char *kind = NULL, *name = NULL;
	VL_STRV struct vl_strv names = { 0 };
	struct file *f;
	int r = gpu_cdi_split(word, &kind, &name, err);

	if (r < 0)
		return r;
	r = find(l, kind, name, &f, err);
	if (r == -ENOENT && vl_streq(name, "all"))
		r = find_all(l, kind, &names);
	else
		vl_strv_add(&names, name);
	if (r == -ENOENT)
		return not_found(l, kind, name, dirs, err);
	for (size_t i = 0; i < names.n && r == 0; i++) {
		VL_FREE char *whole = vl_asprintf("%s=%s", kind, names.v[i]);
		if (vl_json_get(seen, whole)) /* named twice, or in two directories */
			continue;
		vl_json_set(seen, whole, vl_json_new_bool(true));
		if ((r = find(l, kind, names.v[i], &f, err)) == 0)
			r = use(c, f, names.v[i], say, err);
	}
	return r;
}

/* ---- what was not asked for ------------------------------------------------------------------------------ */

static bool is_there(const struct gpu_cdi *c, const char *real)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		const struct gpu_edits *e = &c->parts[i].edits;
		for (size_t k = 0; k < e->n_nodes; k++) {
			VL_FREE char *node = realpath(e->nodes[k].host, NULL);
			if (node && vl_streq(node, real))
				return true;
		}
		if (has_mount(e, 0, real))
			return true;
	}
	return false;
}

static void shut_nodes(struct gpu_cdi *c, const struct gpu_edits *from)
{
	struct stat st;

	for (size_t i = 0; i < from->n_nodes; i++) {
		VL_FREE char *real = realpath(from->nodes[i].host, NULL);
		if (!real || stat(real, &st) < 0 || !(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) || is_there(c, real))
			continue;
		struct gpu_edits *last = &c->parts[c->n_parts - 1].edits;
		if (!vl_strv_has(&last->shut, real))
			gpu_add_shut(last, real);
	}
}

/* Where all of the host's /dev is shown, who asks for one device of a kind shall not have the others by that. What was used is
 * empty here: it has gone to c. */
static void shut_others(const struct library *l, struct gpu_cdi *c)
{
	VL_STRV struct vl_strv kinds = { 0 };

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].used && !vl_strv_has(&kinds, l->v[i].spec.kind))
			vl_strv_add(&kinds, l->v[i].spec.kind);
	for (size_t i = 0; i < l->n && c->n_parts; i++)
		for (size_t k = 0; k < l->v[i].spec.n_devices && vl_strv_has(&kinds, l->v[i].spec.kind); k++)
			shut_nodes(c, &l->v[i].spec.devices[k].changes.edits);
}

void gpu_cdi_free(struct gpu_cdi *c)
{
	for (size_t i = 0; i < c->n_parts; i++) {
		free(c->parts[i].origin);
		gpu_edits_free(&c->parts[i].edits);
	}
	vl_freep(&c->parts);
	c->n_parts = 0;
}

int gpu_cdi_find(const struct vl_strv *names, const struct vl_strv *dirs, const struct vl_progress *say,
		 struct gpu_cdi *ret, struct vl_err *err)
{
	static char *usual[] = { (char *)"/etc/cdi", (char *)"/var/run/cdi", NULL };
	const struct vl_strv standard = { usual, VL_COUNT(usual) - 1 }, *in = dirs->n ? dirs : &standard;
	VL_CLEANUP(free_library) struct library l = { 0 };
	VL_JSON vl_json *seen = vl_json_new_obj();
	GPU_CDI struct gpu_cdi c = { 0 };
	int r = 0;

	for (size_t i = 0; i < in->n; i++) {
		VL_FREE char *dir = vl_path_absolute(in->v[i]);
		read_dir(&l, dir, i, dirs->n > 0);
	}
	for (size_t i = 0; i < names->n && r == 0; i++)
		r = find_named(&l, names->v[i], in, seen, say, &c, err);
	if (r < 0)
		return r;
	shut_others(&l, &c);
	if (l.n_broken)
		vl_progress_warn(say, "CDI: %s%s", l.broken,
				 l.n_broken > 1 ? "; other files cannot be used either" : "; it was not needed");
	*ret = vl_move(&c);
	return 0;
}
