/* Edits as a CDI specification, for vial and for every other runtime that reads them. */
#include "cdi.h"

static void put_text(vl_json *j, const char *key, const char *value)
{
	vl_json_set(j, key, vl_json_new_str(value));
}

static void put_number(vl_json *j, const char *key, int64_t value)
{
	if (value >= 0)
		vl_json_set(j, key, vl_json_new_int(value));
}

static vl_json *texts(const struct vl_strv *l)
{
	vl_json *j = vl_json_new_arr();

	for (size_t i = 0; i < l->n; i++)
		vl_json_add(j, vl_json_new_str(l->v[i]));
	return j;
}

/* An empty list says nothing. */
static void put_list(vl_json *j, const char *key, vl_json *list)
{
	if (vl_json_len(list))
		vl_json_set(j, key, list);
	else
		vl_json_free(list);
}

static vl_json *node(const struct gpu_node *n)
{
	const char type[] = { n->type, 0 };
	vl_json *j = vl_json_new_obj();

	put_text(j, "path", n->path);
	if (!vl_streq(n->host, n->path))
		put_text(j, "hostPath", n->host);
	if (*type)
		put_text(j, "type", type);
	put_number(j, "major", n->major);
	put_number(j, "minor", n->minor);
	put_number(j, "fileMode", n->mode);
	put_number(j, "uid", n->uid);
	put_number(j, "gid", n->gid);
	if (*n->access)
		put_text(j, "permissions", vl_streq(n->access, "-") ? "none" : n->access);
	return j;
}

/* Other runtimes mount nothing that does not say how, and allow devices and setuid programs where it is not forbidden. */
static vl_json *mount(const struct gpu_mount *m)
{
	static const char *const always[] = { "nosuid", "nodev", "rprivate" };
	vl_json *j = vl_json_new_obj(), *options = texts(&m->options);

	put_text(j, "hostPath", m->src);
	put_text(j, "containerPath", m->dst);
	for (size_t i = 0; i < VL_COUNT(always); i++)
		if (!vl_strv_has(&m->options, always[i]))
			vl_json_add(options, vl_json_new_str(always[i]));
	if (!vl_strv_has(&m->options, "bind") && !vl_strv_has(&m->options, "rbind"))
		vl_json_add(options, vl_json_new_str("rbind"));
	vl_json_set(j, "options", options);
	return j;
}

static vl_json *hook(const struct gpu_hook *h)
{
	vl_json *j = vl_json_new_obj();

	put_text(j, "hookName", h->name);
	put_text(j, "path", h->path);
	put_list(j, "args", texts(&h->args));
	put_list(j, "env", texts(&h->env));
	put_number(j, "timeout", h->timeout > 0 ? h->timeout : -1);
	return j;
}

/* The format knows no directories of libraries; this is what all runtimes understand. */
static vl_json *variables(const struct gpu_edits *e)
{
	vl_json *j = texts(&e->env);
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < e->lib_dirs.n; i++)
		vl_buf_addf(&b, "%s%s", i ? ":" : GPU_CDI_LIBS "=", e->lib_dirs.v[i]);
	if (b.len)
		vl_json_add(j, vl_json_new_str(b.data));
	return j;
}

/* What is optional was looked for when the file is written: a runtime that reads it takes every line for a must. */
static bool is_left_out(const char *path, bool optional)
{
	return optional && access(path, F_OK) < 0;
}

static vl_json *changes(const struct gpu_edits *e)
{
	vl_json *j = vl_json_new_obj(), *nodes = vl_json_new_arr(), *mounts = vl_json_new_arr();
	vl_json *hooks = vl_json_new_arr(), *gids = vl_json_new_arr();

	for (size_t i = 0; i < e->n_nodes; i++)
		if (!is_left_out(e->nodes[i].host, e->nodes[i].optional))
			vl_json_add(nodes, node(&e->nodes[i]));
	for (size_t i = 0; i < e->n_mounts; i++)
		if (!is_left_out(e->mounts[i].src, e->mounts[i].optional))
			vl_json_add(mounts, mount(&e->mounts[i]));
	for (size_t i = 0; i < e->n_hooks; i++)
		vl_json_add(hooks, hook(&e->hooks[i]));
	for (size_t i = 0; i < e->n_gids; i++)
		vl_json_add(gids, vl_json_new_int(e->gids[i]));
	put_list(j, "env", variables(e));
	put_list(j, "deviceNodes", nodes);
	put_list(j, "mounts", mounts);
	put_list(j, "hooks", hooks);
	put_list(j, "additionalGids", gids);
	return j;
}

static char *text_of(const vl_json *j, bool yaml)
{
	VL_FREE char *s = yaml ? gpu_yaml_text(j) : vl_json_text(j, true);

	return yaml ? vl_steal(&s) : vl_asprintf("%s\n", s);
}

int gpu_cdi_write(const char *kind, const struct gpu_cdi_named *devices, size_t n, const struct gpu_edits *common,
		  bool yaml, char **ret, struct vl_err *err)
{
	VL_CLEANUP(gpu_cdi_spec_free) struct gpu_cdi_spec back = { 0 };
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *list = vl_json_new_arr(), *all;

	put_text(j, "cdiVersion", "1.0.0"); /* keeps its place in the order */
	put_text(j, "kind", kind);
	for (size_t i = 0; i < n; i++) {
		vl_json *d = vl_json_new_obj();
		put_text(d, "name", devices[i].name);
		vl_json_set(d, "containerEdits", changes(devices[i].edits));
		vl_json_add(list, d);
	}
	vl_json_set(j, "devices", list);
	if (common && (all = changes(common)))
		vl_json_set(j, "containerEdits", all);

	/* what is read back is what others read */
	VL_FREE char *first = text_of(j, yaml);
	int r = gpu_cdi_parse(first, strlen(first), yaml, kind, &back, err);
	if (r < 0)
		return r;
	put_text(j, "cdiVersion", back.least);
	*ret = text_of(j, yaml);
	return 0;
}
