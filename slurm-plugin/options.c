/* The words of the options, and what `vial hold` is told for them. Names and forms are those of Pyxis, so that job scripts
 * carry over. */
#include "plugin.h"

const struct vsp_row vsp_rows[VSP_WORDS] = {
	[VSP_IMAGE] = { "image", "IMAGE",
			"run inside this image: a SIF, a squashfs file or a directory (with a / in it), or the name of "
			"an image in a registry, [USER@][REGISTRY#]NAME[:TAG] or docker://..." },
	[VSP_MOUNTS] = { "mounts", "SRC:DST[:ro],...", "show these paths of the node in the container" },
	[VSP_WORKDIR] = { "workdir", "DIR", "working directory in the container (default: that of the job)" },
	[VSP_MOUNT_HOME] = { "mount-home", NULL, "show the home directory in the container (the default)" },
	[VSP_NO_MOUNT_HOME] = { "no-mount-home", NULL, "do not show the home directory in the container" },
	[VSP_REMAP_ROOT] = { "remap-root", NULL, "be root in the container" },
	[VSP_NO_REMAP_ROOT] = { "no-remap-root", NULL, "be oneself in the container (the default)" },
	[VSP_WRITABLE] = { "writable", NULL, "changes are kept in memory and thrown away at the end of the step" },
	[VSP_READONLY] = { "readonly", NULL, "nothing can be changed in the container (the default)" },
	[VSP_ENV] = { "env", "NAME,...", "variables of the job that are stronger than those of the image" },
	[VSP_ENTRYPOINT] = { "entrypoint", NULL, "run the image's entrypoint before the command (refused)" },
	[VSP_NO_ENTRYPOINT] = { "no-entrypoint", NULL, "do not run the image's entrypoint (always so)" },
	[VSP_UNSHARE] = { "unshare", "net,ipc,uts", "namespaces that the container has of its own" },
};

void vsp_options_set(struct vsp_options *o, enum vsp_word word, const char *value)
{
	free(o->value[word]);
	o->value[word] = vl_strdup(value ? value : "");
}

void vsp_options_free(struct vsp_options *o)
{
	for (size_t i = 0; i < VSP_WORDS; i++)
		vl_freep(&o->value[i]);
}

static bool is_false(const char *text)
{
	return vl_streq(text, "0") || vl_streq(text, "no") || vl_streq(text, "false");
}

/* VIAL_CONTAINER_MOUNT_HOME for mount-home. Returns new. */
static char *twin(const char *program, const char *word)
{
	char *name = vl_asprintf("%s_CONTAINER_%s", program, word);

	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
	return name;
}

void vsp_options_add_environment(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg)
{
	static const char *const programs[] = { "VIAL", "PYXIS" }; /* the first that speaks wins */

	for (size_t i = 0; i < VSP_WORDS * VL_COUNT(programs); i++) {
		enum vsp_word word = (enum vsp_word)(i / VL_COUNT(programs));
		VL_FREE char *name = twin(programs[i % VL_COUNT(programs)], vsp_rows[word].name);
		const char *value = o->value[word] ? NULL : get(arg, name);
		if (value && (vsp_rows[word].arg ? *value != 0 : !is_false(value)))
			vsp_options_set(o, word, value);
	}
}

char *vsp_image_name(const char *word)
{
	const char *hash = strchr(word, '#'), *name = hash ? hash + 1 : word;
	const char *registry = word, *at = hash ? memchr(word, '@', (size_t)(hash - word)) : NULL;

	/* a path: with a slash at its beginning, or there is such a file; a scheme: as it is */
	if (*word == '/' || *word == '.' || strstr(word, "://") || access(word, F_OK) == 0)
		return vl_strdup(word);
	if (!hash)
		return vl_asprintf("docker://%s", word);
	if (at) /* who is asked for credentials is the file of credentials; the user's name is in there */
		registry = at + 1;
	return vl_asprintf("docker://%.*s/%s", (int)(hash - registry), registry, name);
}

/* ---- values ------------------------------------------------------------------------------------- */

/* Words of mount flags that are so in any case. */
static bool is_given(const char *flag, size_t n)
{
	static const char *const known[] = { "rw",    "bind",   "rbind",  "x-create=auto",
					     "slave", "rslave", "nosuid", "nodev" };

	for (size_t i = 0; i < VL_COUNT(known); i++)
		if (strlen(known[i]) == n && !strncmp(known[i], flag, n))
			return true;
	return false;
}

/* SRC:DST[:FLAG[+FLAG]...] */
static int add_mount(const char *spec, struct vl_strv *ret, struct vl_err *err)
{
	const char *dst = strchr(spec, ':'), *flags = dst ? strchr(dst + 1, ':') : NULL;
	size_t len = flags ? (size_t)(flags - spec) : strlen(spec);
	bool ro = false;

	for (const char *f = flags ? flags + 1 : ""; *f;) {
		size_t n = strcspn(f, "+");
		if (n == 2 && !strncmp(f, "ro", 2))
			ro = true;
		else if (!is_given(f, n))
			return vl_fail(err, EINVAL, "mount %s: '%.*s' is not known; ro and rw are", spec, (int)n, f);
		f += n + (f[n] == '+');
	}
	vl_strv_add(ret, "--bind");
	vl_strv_take(ret, vl_asprintf("%.*s%s", (int)len, spec, ro ? (dst ? ":ro" : "::ro") : ""));
	return 0;
}

static int add_unshare(const char *word, struct vl_strv *ret, struct vl_err *err)
{
	if (vl_streq(word, "net")) {
		vl_strv_add(ret, "--net");
		vl_strv_add(ret, "--network=none");
	} else if (vl_streq(word, "ipc") || vl_streq(word, "uts")) {
		vl_strv_take(ret, vl_asprintf("--%s", word));
	} else {
		return vl_fail(err, EINVAL, "cannot unshare '%s'; net, ipc and uts can be", word);
	}
	return 0;
}

static int each_word(const char *list, struct vl_strv *ret, int (*add)(const char *, struct vl_strv *, struct vl_err *),
		     struct vl_err *err)
{
	int r = 0;

	while (list && *list && r == 0) {
		size_t n = strcspn(list, ",");
		VL_FREE char *word = vl_strndup(list, n);
		r = *word ? add(word, ret, err) : 0;
		list += n + (list[n] == ',');
	}
	return r;
}

static int contradiction(const struct vsp_options *o, enum vsp_word a, enum vsp_word b, struct vl_err *err)
{
	return o->value[a] && o->value[b]
		       ? vl_fail(err, EINVAL, "%s and %s exclude each other", vsp_rows[a].name, vsp_rows[b].name)
		       : 0;
}

int vsp_options_words(const struct vsp_site *site, const struct vsp_options *o, struct vl_strv *ret, struct vl_err *err)
{
	int r = each_word(o->value[VSP_MOUNTS], ret, add_mount, err);

	if (r == 0)
		r = each_word(site->mounts, ret, add_mount, err);

	if (r == 0)
		r = each_word(o->value[VSP_UNSHARE], ret, add_unshare, err);
	if (r == 0)
		r = contradiction(o, VSP_MOUNT_HOME, VSP_NO_MOUNT_HOME, err);
	if (r == 0)
		r = contradiction(o, VSP_REMAP_ROOT, VSP_NO_REMAP_ROOT, err);
	if (r == 0)
		r = contradiction(o, VSP_WRITABLE, VSP_READONLY, err);
	if (r < 0)
		return r;
	if (o->value[VSP_ENTRYPOINT]) /* job scripts that name it rely on it */
		return vl_fail(err, ENOTSUP,
			       "the image's entrypoint is not run; write what it does before the command, as "
			       "`vial inspect` shows it");
	if (o->value[VSP_NO_MOUNT_HOME])
		vl_strv_add(ret, "--no-home");
	if (o->value[VSP_REMAP_ROOT])
		vl_strv_add(ret, "--fakeroot");
	if (o->value[VSP_WRITABLE])
		vl_strv_add(ret, "--writable-tmpfs");
	if (o->value[VSP_WORKDIR] && o->value[VSP_WORKDIR][0] != '/')
		return vl_fail(err, EINVAL, "the working directory %s must be an absolute path", o->value[VSP_WORKDIR]);
	return 0;
}
