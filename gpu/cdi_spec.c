/* One CDI specification: from a tree to plain data, under all the rules of the format. What is not known is refused, as
 * the reference does: a field that is not understood may be the one that keeps a device apart. */
#include "cdi.h"

#include <limits.h>

#define ANNOTATIONS_MAX (256u << 10) /* bytes of keys and values, as Kubernetes has it */

static const char *const versions[] = { "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0" };
enum version { V030, V040, V050, V060, V070, V080, V100, V110 };

struct reading {
	const char *path;
	enum version needs; /* the least version that has all that was found */
	const char *needs_why;
	struct vl_err *err;
};
struct place { /* what is being read, for messages */
	const char *what, *name;
};

static int bad(const struct reading *r, struct place at, const char *fmt, ...) VL_PRINTF(3, 4);
static int bad(const struct reading *r, struct place at, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	VL_FREE char *why = vl_vasprintf(fmt, ap);
	va_end(ap);
	VL_FREE char *name = at.name ? vl_printable(at.name, strnlen(at.name, 2 * GPU_CDI_NAME_MAX)) : NULL;
	return name ? vl_fail(r->err, EINVAL, "%s: %s %s: %s", r->path, at.what, name, why)
		    : vl_fail(r->err, EINVAL, "%s: %s: %s", r->path, at.what, why);
}

static void needs(struct reading *r, enum version v, const char *why)
{
	if (v <= r->needs)
		return;
	r->needs = v;
	r->needs_why = why;
}

/* ---- fields ----------------------------------------------------------------------------------- */

struct known {
	const char *const *fields;
	char *other; /* the first that is none of them */
};

static void look_at_field(void *arg, const char *key, const vl_json *value)
{
	struct known *k = arg;
	bool found = k->other != NULL;

	(void)value;
	for (const char *const *f = k->fields; *f && !found; f++)
		found = vl_streq(*f, key);
	if (!found)
		k->other = vl_printable(key, strnlen(key, 100));
}

/* An object with no other fields than these. */
static int check_object(const struct reading *r, struct place at, const vl_json *j, const char *const *fields)
{
	struct known k = { .fields = fields };

	if (!vl_json_is_object(j))
		return bad(r, at, "this is no object");
	vl_json_each(j, look_at_field, &k);
	VL_FREE char *other = k.other;
	return other ? bad(r, at, "the format has no field '%s' here", other) : 0;
}

/* The value of a field; NULL when it is not there or null. */
static const vl_json *field(const vl_json *j, const char *key)
{
	return vl_json_is_null_or_absent(j, key) ? NULL : vl_json_get(j, key);
}

/* YAML's 007 is the text "7" to every reader of CDI; its "no" is a truth value to some and a text to others. */
static int text_of(const struct reading *r, struct place at, const vl_json *v, const char *key, char **ret)
{
	const char *s = vl_json_string(v);
	int64_t n;

	if (vl_json_is_bool(v))
		return bad(r, at, "%s is a truth value where text belongs; put it in quotes", key);
	if (!s && !vl_json_integer(v, &n))
		return bad(r, at, "%s is no text", key);
	*ret = s ? vl_strdup(s) : vl_asprintf("%lld", (long long)n);
	return 0;
}

/* *ret: new; NULL when the field is not there. */
static int get_text(const struct reading *r, struct place at, const vl_json *j, const char *key, char **ret)
{
	const vl_json *v = field(j, key);

	return v ? text_of(r, at, v, key, ret) : 0;
}

static int get_must(const struct reading *r, struct place at, const vl_json *j, const char *key, char **ret)
{
	int e = get_text(r, at, j, key, ret);

	if (e == 0 && (!*ret || !**ret))
		return bad(r, at, "%s is missing", key);
	return e;
}

/* *ret is untouched when it is not there. */
static int get_number(const struct reading *r, struct place at, const vl_json *j, const char *key, int64_t min,
		      int64_t max, int64_t *ret)
{
	const vl_json *v = field(j, key);
	int64_t n;

	if (!v)
		return 0;
	if (!vl_json_integer(v, &n) || n < min || n > max)
		return bad(r, at, "%s is no whole number from %lld to %lld", key, (long long)min, (long long)max);
	*ret = n;
	return 0;
}

static int get_bool(const struct reading *r, struct place at, const vl_json *j, const char *key)
{
	const vl_json *v = field(j, key);

	return !v || vl_json_is_bool(v) ? 0 : bad(r, at, "%s is neither true nor false", key);
}

/* *ret: NULL when it is not there. */
static int get_list(const struct reading *r, struct place at, const vl_json *j, const char *key, const vl_json **ret)
{
	*ret = field(j, key);
	if (*ret && !vl_json_arr(j, key))
		return bad(r, at, "%s is no list", key);
	if (vl_json_len(*ret) > GPU_CDI_LIST_MAX)
		return bad(r, at, "%s: more than %u entries", key, GPU_CDI_LIST_MAX);
	return 0;
}

static int get_texts(const struct reading *r, struct place at, const vl_json *j, const char *key, struct vl_strv *ret)
{
	const vl_json *list;
	int e = get_list(r, at, j, key, &list);

	for (size_t i = 0; i < vl_json_len(list) && e == 0; i++) {
		char *s = NULL;
		if ((e = text_of(r, at, vl_json_at(list, i), key, &s)) == 0)
			vl_strv_take(ret, s);
	}
	return e;
}

/* A place that means the same whoever reads it: from the root, and without ways back. */
static int check_path(const struct reading *r, struct place at, const char *key, const char *path)
{
	if (*path != '/')
		return bad(r, at, "%s is no absolute path", key);
	if (strlen(path) >= PATH_MAX)
		return bad(r, at, "%s is longer than a path can be", key);
	for (const char *p = path; (p = strstr(p, "/..")); p += 3)
		if (!p[3] || p[3] == '/')
			return bad(r, at, "%s has a '..'", key);
	return 0;
}

/* One in the container. */
static int check_place(const struct reading *r, struct place at, const char *key, const char *path)
{
	int x = check_path(r, at, key, path);

	if (x < 0)
		return x;
	VL_FREE char *clean = vl_path_clean(path);
	return vl_streq(clean, "/") ? bad(r, at, "nothing can be mounted on the root of a container") : 0;
}

static int check_variables(const struct reading *r, struct place at, const struct vl_strv *env)
{
	for (size_t i = 0; i < env->n; i++)
		if (*env->v[i] == '=' || !strchr(env->v[i], '=')) {
			VL_FREE char *shown = vl_printable(env->v[i], strnlen(env->v[i], 100));
			return bad(r, at, "the variable '%s' is not of the form NAME=VALUE", shown);
		}
	return 0;
}

/* ---- edits -------------------------------------------------------------------------------------- */

static int node_numbers(const struct reading *r, struct place at, const vl_json *j, struct gpu_node *n)
{
	int64_t mode = -1;
	int e;

	/* 12 and 20 bits are what the kernel has; 0 is "not said" to writers of the format */
	if ((e = get_number(r, at, j, "major", 0, (1 << 12) - 1, &n->major)) < 0 ||
	    (e = get_number(r, at, j, "minor", 0, (1 << 20) - 1, &n->minor)) < 0 ||
	    (e = get_number(r, at, j, "fileMode", 0, UINT32_MAX, &mode)) < 0 ||
	    (e = get_number(r, at, j, "uid", 0, UINT32_MAX - 1, &n->uid)) < 0 ||
	    (e = get_number(r, at, j, "gid", 0, UINT32_MAX - 1, &n->gid)) < 0)
		return e;
	n->mode = mode < 0 ? -1 : (int32_t)(mode & 07777);
	if (n->major >= 0 && n->minor < 0)
		n->minor = 0;
	return 0;
}

static int node_words(const struct reading *r, struct place at, const vl_json *j, struct gpu_node *n)
{
	VL_FREE char *type = NULL, *access = NULL;
	int e;

	if ((e = get_text(r, at, j, "type", &type)) < 0 || (e = get_text(r, at, j, "permissions", &access)) < 0)
		return e;
	if (type && *type && (type[1] || !strchr("bcup", *type)))
		return bad(r, at, "type is one of c, b, u and p");
	n->type = !type ? 0 : *type == 'u' ? 'c' : *type;
	if (!access || !*access)
		return 0;
	bool none = vl_streq(access, "none");
	if (!none && access[strspn(access, "rwm")])
		return bad(r, at, "permissions are of r, w and m, or none");
	for (const char *w = none ? "-" : "rwm", *to = w; *to; to++)
		if (none || strchr(access, *to))
			n->access[strlen(n->access)] = *to;
	return 0;
}

static int read_node(struct reading *r, const vl_json *j, struct gpu_edits *e)
{
	static const char *const fields[] = { "path",     "hostPath", "type",        "major", "minor",
					      "fileMode", "uid",      "permissions", "gid",   NULL };
	struct place at = { "device node", NULL };
	VL_FREE char *path = NULL, *host = NULL;
	int x;

	if ((x = check_object(r, at, j, fields)) < 0 || (x = get_must(r, at, j, "path", &path)) < 0)
		return x;
	at.name = path;
	if ((x = check_place(r, at, "path", path)) < 0 || (x = get_text(r, at, j, "hostPath", &host)) < 0)
		return x;
	if (host && *host) {
		needs(r, V050, "hostPath");
		if ((x = check_path(r, at, "hostPath", host)) < 0)
			return x;
	}
	VL_FREE char *clean = vl_path_clean(path);
	struct gpu_node *n = gpu_add_node(e, host && *host ? host : path, clean);
	x = node_numbers(r, at, j, n);
	return x < 0 ? x : node_words(r, at, j, n);
}

static int read_mount(struct reading *r, const vl_json *j, struct gpu_cdi_changes *c)
{
	static const char *const fields[] = { "hostPath", "containerPath", "options", "type", NULL };
	static const char *const binds[] = { "", "bind", "rbind", "none" };
	struct place at = { "mount", NULL };
	VL_FREE char *src = NULL, *dst = NULL, *type = NULL;
	bool bind = false;
	int x;

	if ((x = check_object(r, at, j, fields)) < 0 || (x = get_must(r, at, j, "containerPath", &dst)) < 0)
		return x;
	at.name = dst;
	if ((x = check_place(r, at, "containerPath", dst)) < 0 || (x = get_must(r, at, j, "hostPath", &src)) < 0 ||
	    (x = get_text(r, at, j, "type", &type)) < 0)
		return x;
	if (type && *type)
		needs(r, V040, "the type of a mount");
	for (size_t i = 0; i < VL_COUNT(binds); i++)
		bind |= vl_streq(type ? type : "", binds[i]);
	if (!bind)
		c->cannot = "a mount that is no bind (containerEdits.mounts.type): vial shows files of the host and "
			    "mounts no other file systems for a device";
	else if ((x = check_path(r, at, "hostPath", src)) < 0)
		return x;
	VL_FREE char *clean = vl_path_clean(dst);
	struct gpu_mount *m = gpu_add_mount(&c->edits, src, clean);
	return get_texts(r, at, j, "options", &m->options);
}

static int read_hook(const struct reading *r, const vl_json *j, struct gpu_edits *e)
{
	static const char *const fields[] = { "hookName", "path", "args", "env", "timeout", NULL };
	static const char *const names[] = { "prestart",       "createRuntime", "createContainer",
					     "startContainer", "poststart",     "poststop" };
	struct place at = { "hook", NULL };
	VL_FREE char *name = NULL, *path = NULL;
	bool known = false;
	int x;

	if (check_object(r, at, j, fields) < 0 || get_must(r, at, j, "hookName", &name) < 0 || !name)
		return -EINVAL;
	at.name = name;
	for (size_t i = 0; i < VL_COUNT(names); i++)
		known |= vl_streq(name, names[i]);
	if (!known)
		return bad(r, at, "there is no hook of that name");
	if ((x = get_must(r, at, j, "path", &path)) < 0 || (x = check_path(r, at, "path", path)) < 0)
		return x;
	struct gpu_hook *h = gpu_add_hook(e, name, path);
	if ((x = get_texts(r, at, j, "args", &h->args)) < 0 || (x = get_texts(r, at, j, "env", &h->env)) < 0 ||
	    (x = check_variables(r, at, &h->env)) < 0)
		return x;
	return get_number(r, at, j, "timeout", 1, INT_MAX / 1000, &h->timeout);
}

static int read_gids(struct reading *r, const vl_json *j, struct gpu_edits *e)
{
	struct place at = { "containerEdits", NULL };
	const vl_json *list;
	int x = get_list(r, at, j, "additionalGids", &list);

	if (vl_json_len(list))
		needs(r, V070, "additionalGids");
	for (size_t i = 0; i < vl_json_len(list) && x == 0; i++) {
		int64_t gid;
		if (!vl_json_integer(vl_json_at(list, i), &gid) || gid < 0 || gid >= UINT32_MAX)
			x = bad(r, at, "additionalGids are numbers of groups");
		else if (gid) /* the format ignores it */
			gpu_add_gid(e, (gid_t)gid);
	}
	return x;
}

static int read_rdt(struct reading *r, const vl_json *j, struct gpu_cdi_changes *c)
{
	static const char *const fields[] = { "closID",    "l3CacheSchema", "memBwSchema",      "enableCMT",
					      "enableMBM", "schemata",      "enableMonitoring", NULL };
	struct place at = { "intelRdt", NULL };
	VL_STRV struct vl_strv schemata = { 0 };
	const vl_json *rdt = field(j, "intelRdt");
	int x;

	if (!rdt)
		return 0;
	if ((x = check_object(r, at, rdt, fields)) < 0)
		return x;
	for (size_t i = 0; i < 3; i++) {
		VL_FREE char *s = NULL;
		if ((x = get_text(r, at, rdt, fields[i], &s)) < 0)
			return x;
		if (i == 0 && s &&
		    (strlen(s) >= PATH_MAX || vl_streq(s, ".") || vl_streq(s, "..") ||
		     (strpbrk(s, "/\n") && !vl_streq(s, "/"))))
			return bad(r, at, "closID is no name of a directory");
	}
	if ((x = get_bool(r, at, rdt, "enableCMT")) < 0 || (x = get_bool(r, at, rdt, "enableMBM")) < 0 ||
	    (x = get_bool(r, at, rdt, "enableMonitoring")) < 0 ||
	    (x = get_texts(r, at, rdt, "schemata", &schemata)) < 0)
		return x;
	needs(r, V070, "intelRdt");
	if (field(rdt, "schemata") || field(rdt, "enableMonitoring"))
		needs(r, V110, "schemata and enableMonitoring of intelRdt");
	c->cannot = "classes of cache and memory bandwidth (containerEdits.intelRdt): only root may make them";
	return 0;
}

static int read_net(struct reading *r, const vl_json *j, struct gpu_cdi_changes *c)
{
	static const char *const fields[] = { "hostInterfaceName", "name", NULL };
	struct place at = { "network device", NULL };
	const vl_json *list;
	int x = get_list(r, at, j, "netDevices", &list);

	for (size_t i = 0; i < vl_json_len(list) && x == 0; i++) {
		VL_FREE char *outside = NULL, *inside = NULL;
		if ((x = check_object(r, at, vl_json_at(list, i), fields)) == 0 &&
		    (x = get_must(r, at, vl_json_at(list, i), "hostInterfaceName", &outside)) == 0)
			x = get_must(r, at, vl_json_at(list, i), "name", &inside);
	}
	if (vl_json_len(list)) {
		needs(r, V110, "netDevices");
		c->cannot = "network interfaces of the host (containerEdits.netDevices): only root may move them";
	}
	return x;
}

/* One list whose entries are objects. */
#define EACH(list, key, call)                                                                                          \
	do {                                                                                                           \
		if ((x = get_list(r, at, j, key, &(list))) < 0)                                                        \
			return x;                                                                                      \
		for (size_t i = 0; i < vl_json_len(list); i++)                                                         \
			if ((x = (call)) < 0)                                                                          \
				return x;                                                                              \
	} while (0)

static int read_edits(struct reading *r, struct place at, const vl_json *j, struct gpu_cdi_changes *c)
{
	static const char *const fields[] = { "env",    "deviceNodes", "netDevices",     "hooks",
					      "mounts", "intelRdt",    "additionalGids", NULL };
	VL_STRV struct vl_strv env = { 0 };
	const vl_json *list;
	int x;

	if ((x = check_object(r, at, j, fields)) < 0 || (x = get_texts(r, at, j, "env", &env)) < 0 ||
	    (x = check_variables(r, at, &env)) < 0)
		return x;
	for (size_t i = 0; i < env.n; i++)
		gpu_add_env(&c->edits, env.v[i]);
	EACH(list, "deviceNodes", read_node(r, vl_json_at(list, i), &c->edits));
	EACH(list, "mounts", read_mount(r, vl_json_at(list, i), c));
	EACH(list, "hooks", read_hook(r, vl_json_at(list, i), &c->edits));
	if ((x = read_gids(r, j, &c->edits)) < 0 || (x = read_rdt(r, j, c)) < 0)
		return x;
	return read_net(r, j, c);
}

/* A device that changes nothing is one that somebody forgot to describe. */
static bool is_empty(const vl_json *edits)
{
	static const char *const lists[] = { "env", "deviceNodes", "netDevices", "hooks", "mounts", "additionalGids" };

	for (size_t i = 0; i < VL_COUNT(lists); i++)
		if (vl_json_len(vl_json_arr(edits, lists[i])))
			return false;
	return !field(edits, "intelRdt");
}

/* ---- the whole ------------------------------------------------------------------------------------ */

struct annotations {
	size_t size, n;
	char *wrong;
};

static void look_at_annotation(void *arg, const char *key, const vl_json *value)
{
	struct annotations *a = arg;
	const char *s = vl_json_string(value);

	a->n++;
	a->size += strlen(key) + (s ? strlen(s) : 0);
	if (!a->wrong && (!s || !gpu_cdi_is_annotation(key)))
		a->wrong = vl_printable(key, strnlen(key, 100));
}

static int check_annotations(struct reading *r, struct place at, const vl_json *j)
{
	const vl_json *list = field(j, "annotations");
	struct annotations a = { 0 };

	if (!list)
		return 0;
	if (!vl_json_is_object(list))
		return bad(r, at, "annotations are no object");
	vl_json_each(list, look_at_annotation, &a);
	VL_FREE char *wrong = a.wrong;
	if (wrong)
		return bad(r, at, "annotation '%s' is not a text under a name such as vendor.com/name", wrong);
	if (a.size > ANNOTATIONS_MAX)
		return bad(r, at, "annotations of more than %u bytes", ANNOTATIONS_MAX);
	if (a.n)
		needs(r, V060, "annotations");
	return 0;
}

static int read_device(struct reading *r, const vl_json *j, vl_json *seen, struct gpu_cdi_device *d)
{
	static const char *const fields[] = { "name", "annotations", "containerEdits", NULL };
	struct place at = { "device", NULL };
	int x;

	if (check_object(r, at, j, fields) < 0 || get_must(r, at, j, "name", &d->name) < 0 || !d->name)
		return -EINVAL;
	at.name = d->name;
	if (!gpu_cdi_is_device(d->name))
		return bad(r, at,
			   "a name has letters, digits, '-', '_', '.' and ':', and begins and ends with a letter or "
			   "digit");
	if (vl_json_get(seen, d->name))
		return bad(r, at, "the file has two of that name");
	vl_json_set(seen, d->name, vl_json_new_bool(true));
	if (*d->name >= '0' && *d->name <= '9')
		needs(r, V050, "a device whose name begins with a digit");
	const vl_json *edits = field(j, "containerEdits");
	if (!edits || (vl_json_is_object(edits) && is_empty(edits)))
		return bad(r, at, "containerEdits are missing");
	x = check_annotations(r, at, j);
	return x < 0 ? x : read_edits(r, at, edits, &d->changes);
}

/* Looked at first: a file of a version to come is told so, and not that its fields are wrong. */
static int read_version(const struct reading *r, const vl_json *j, enum version *ret)
{
	struct place at = { "cdiVersion", NULL };
	VL_FREE char *said = NULL;

	if (get_must(r, at, j, "cdiVersion", &said) < 0 || !said)
		return -EINVAL;
	for (size_t i = 0; i < VL_COUNT(versions); i++)
		if (vl_streq(said, versions[i])) {
			*ret = (enum version)i;
			return 0;
		}
	VL_FREE char *shown = vl_printable(said, strnlen(said, 32));
	return bad(r, at, "'%s' is not known; known are %s to %s", shown, versions[0], versions[V110]);
}

static int read_spec(struct reading *r, const vl_json *j, struct gpu_cdi_spec *s)
{
	static const char *const fields[] = { "cdiVersion", "kind", "annotations", "devices", "containerEdits", NULL };
	struct place at = { "the specification", NULL };
	VL_JSON vl_json *seen = vl_json_new_obj();
	const vl_json *list, *edits;
	enum version said = V030;
	int x;

	if (!vl_json_is_object(j))
		return bad(r, at, "this is no object");
	if (read_version(r, j, &said) < 0 || check_object(r, at, j, fields) < 0 ||
	    get_must(r, at, j, "kind", &s->kind) < 0 || !s->kind)
		return -EINVAL;
	if (!gpu_cdi_is_kind(s->kind))
		return bad(r, (struct place){ "kind", s->kind },
			   "VENDOR/CLASS of letters, digits, '-', '_' and '.', each beginning with a letter");
	if (strchr(strchr(s->kind, '/'), '.'))
		needs(r, V060, "a class with a dot");
	if ((x = check_annotations(r, at, j)) < 0 || (x = get_list(r, at, j, "devices", &list)) < 0)
		return x;
	if (!vl_json_len(list))
		return bad(r, at, "it has no devices");
	if ((edits = field(j, "containerEdits")) &&
	    (x = read_edits(r, (struct place){ "containerEdits", NULL }, edits, &s->changes)) < 0)
		return x;
	s->devices = vl_alloc(vl_json_len(list) * sizeof *s->devices);
	for (; s->n_devices < vl_json_len(list); s->n_devices++) {
		s->devices[s->n_devices] = (struct gpu_cdi_device){ 0 };
		if ((x = read_device(r, vl_json_at(list, s->n_devices), seen, &s->devices[s->n_devices])) < 0) {
			s->n_devices++; /* as far as it came, for the cleanup */
			return x;
		}
	}
	s->least = versions[r->needs];
	return said >= r->needs ? 0
				: bad(r, (struct place){ "cdiVersion", NULL },
				      "%s is of version %s, and the file says it is of %s", r->needs_why,
				      versions[r->needs], versions[said]);
}

void gpu_cdi_spec_free(struct gpu_cdi_spec *s)
{
	for (size_t i = 0; i < s->n_devices; i++) {
		free(s->devices[i].name);
		gpu_edits_free(&s->devices[i].changes.edits);
	}
	gpu_edits_free(&s->changes.edits);
	vl_freep(&s->devices);
	vl_freep(&s->kind);
	vl_freep(&s->path);
	s->n_devices = 0;
}

int gpu_cdi_parse(const char *text, size_t len, bool yaml, const char *path, struct gpu_cdi_spec *ret,
		  struct vl_err *err)
{
	VL_CLEANUP(gpu_cdi_spec_free) struct gpu_cdi_spec s = { .path = vl_strdup(path) };
	struct reading r = { .path = path, .err = err };
	VL_JSON vl_json *j = NULL;

	if (len > GPU_CDI_FILE_MAX)
		return vl_fail(err, EFBIG, "%s: %zu bytes are over the limit of %u", path, len, GPU_CDI_FILE_MAX);
	int x = yaml ? gpu_yaml_parse(text, len, path, &j, err) : vl_json_parse_unique(text, len, path, &j, err);
	if (x < 0 || (x = read_spec(&r, j, &s)) < 0)
		return x;
	*ret = vl_move(&s);
	return 0;
}
