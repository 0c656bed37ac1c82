/* The words of the options, and what `vial hold` is told for them. Names and forms are those of Pyxis, so that job scripts
 * carry over. */
#include "plugin.h"

const struct vsp_row vsp_rows[VSP_WORDS] = {
	[VSP_IMAGE] = { "image", "IMAGE",
			"run inside this image: a SIF, a squashfs file or a directory (with a / in it), or the name of "
			"an image in a registry, [USER@][REGISTRY#]NAME[:TAG] or docker://..." },
	[VSP_MOUNTS] = { "mounts", "SRC:DST[:ro],...", "show these paths of the node in the container" },
	[VSP_WORKDIR] = { "workdir", "DIR", "working directory in the container (default: that of the job)" },
	[VSP_NAME] = { "name", "NAME[:auto|create|exec|no_exec]",
		       "keep the container, and what is changed in it, for later steps of the job that give this "
		       "name" },
	[VSP_SAVE] = { "save", "PATH", "write what the container has as an image when the step has ended" },
	[VSP_RECORD] = { "record", "FILE", "add a line of JSON about the step to this file" },
	[VSP_MOUNT_HOME] = { "mount-home", NULL, "show the home directory in the container (the default)" },
	[VSP_NO_MOUNT_HOME] = { "no-mount-home", NULL, "do not show the home directory in the container" },
	[VSP_REMAP_ROOT] = { "remap-root", NULL, "be root in the container" },
	[VSP_NO_REMAP_ROOT] = { "no-remap-root", NULL, "be oneself in the container (the default)" },
	[VSP_WRITABLE] = { "writable", NULL,
			   "changes are allowed, and thrown away at the end of the step unless the container has a "
			   "name" },
	[VSP_READONLY] = { "readonly", NULL, "nothing can be changed in the container (the default)" },
	[VSP_ENV] = { "env", "NAME,...", "variables of the job that are stronger than those of the image" },
	[VSP_ENTRYPOINT] = { "entrypoint", NULL,
			     "run the image's entrypoint once, and the tasks in the environment that it makes" },
	[VSP_NO_ENTRYPOINT] = { "no-entrypoint", NULL, "do not run the image's entrypoint (the default)" },
	[VSP_ENTRYPOINT_LOG] = { "entrypoint-log", NULL, "show what the entrypoint writes, on standard error" },
	[VSP_STAGE] = { "stage", NULL, "copy the image to the node, once, and use it from there" },
	[VSP_NO_STAGE] = { "no-stage", NULL, "use the image from where it is" },
	[VSP_MPI] = { "mpi", "host|libfabric",
		      "use the host's MPI, or its libfabric alone, in place of the image's, if both fit" },
	[VSP_NO_MPI] = { "no-mpi", NULL, "use the image's own MPI (the default)" },
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

const char *vsp_options_first(const struct vsp_options *o)
{
	for (size_t i = 0; i < VSP_WORDS; i++)
		if (o->value[i])
			return vsp_rows[i].name;
	return NULL;
}

bool vsp_options_wanted(const struct vsp_options *o)
{
	return o->value[VSP_IMAGE] || o->value[VSP_NAME];
}

/* NAME[:MODE]; the rest is checked by who makes the directory of that name. */
static int check_name(const char *value, struct vl_err *err)
{
	static const char *const modes[] = { "auto", "create", "exec", "no_exec" };
	const char *colon = strchr(value, ':');
	bool known = !colon;

	for (size_t i = 0; i < VL_COUNT(modes) && !known; i++)
		known = vl_streq(colon + 1, modes[i]);
	if (!known)
		return vl_fail(err, EINVAL, "name %s: '%s' is not known; auto, create, exec and no_exec are", value,
			       colon + 1);
	size_t n = strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
	if (!n || n > 64 || *value == '.' || (value[n] && value + n != colon))
		return vl_fail(err, EINVAL, "name '%s': up to 64 letters, digits, '.', '_' and '-', no dot in front",
			       value);
	return 0;
}

static int check_values(const struct vsp_options *o, struct vl_err *err)
{
	int r = o->value[VSP_NAME] ? check_name(o->value[VSP_NAME], err) : 0;

	if (r == 0 && o->value[VSP_SAVE] && !*o->value[VSP_SAVE])
		return vl_fail(err, EINVAL, "save: to which file?");
	const char *mpi = o->value[VSP_MPI];
	if (r == 0 && mpi && !vl_streq(mpi, "host") && !vl_streq(mpi, "libfabric") && !vl_streq(mpi, "none"))
		return vl_fail(err, EINVAL, "mpi '%s' is not known; host, libfabric and none are", mpi);
	if (r == 0 && o->value[VSP_WORKDIR] && o->value[VSP_WORKDIR][0] != '/')
		return vl_fail(err, EINVAL, "the working directory %s must be an absolute path", o->value[VSP_WORKDIR]);
	return r;
}

static int add_stage(const struct vsp_site *site, const struct vsp_options *o, struct vl_strv *ret, struct vl_err *err)
{
	if (o->value[VSP_STAGE] && !site->stage)
		return vl_fail(err, EINVAL, "stage: this site has no place for it (plugstack.conf: stage=DIR)");
	if (!site->stage || o->value[VSP_NO_STAGE])
		return 0;
	vl_strv_take(ret, vl_asprintf("--stage=%s", site->stage));
	if (o->value[VSP_STAGE])
		vl_strv_add(ret, "--stage-always");
	return 0;
}

int vsp_options_words(const struct vsp_site *site, const struct vsp_options *o, struct vl_strv *ret, struct vl_err *err)
{
	int r = each_word(o->value[VSP_MOUNTS], ret, add_mount, err);

	if (r == 0)
		r = each_word(site->mounts, ret, add_mount, err);

	if (r == 0)
		r = each_word(o->value[VSP_UNSHARE], ret, add_unshare, err);

	static const enum vsp_word pairs[][2] = {
		{ VSP_MOUNT_HOME, VSP_NO_MOUNT_HOME }, { VSP_REMAP_ROOT, VSP_NO_REMAP_ROOT },
		{ VSP_WRITABLE, VSP_READONLY },        { VSP_ENTRYPOINT, VSP_NO_ENTRYPOINT },
		{ VSP_STAGE, VSP_NO_STAGE },           { VSP_MPI, VSP_NO_MPI }
	};
	static const struct {
		enum vsp_word word;
		const char *option;
	} flags[] = { { VSP_NO_MOUNT_HOME, "--no-home" },      { VSP_REMAP_ROOT, "--fakeroot" },
		      { VSP_WRITABLE, "--writable-tmpfs" },    { VSP_NO_MPI, "--mpi=none" },
		      { VSP_ENTRYPOINT, "--with-entrypoint" }, { VSP_ENTRYPOINT_LOG, "--entrypoint-log" } };

	for (size_t i = 0; i < VL_COUNT(pairs) && r == 0; i++)
		r = contradiction(o, pairs[i][0], pairs[i][1], err);
	if (r == 0)
		r = check_values(o, err);
	if (r == 0)
		r = add_stage(site, o, ret, err);
	if (r == 0 && o->value[VSP_MPI])
		vl_strv_take(ret, vl_asprintf("--mpi=%s", o->value[VSP_MPI]));
	for (size_t i = 0; i < VL_COUNT(flags) && r == 0; i++)
		if (o->value[flags[i].word])
			vl_strv_add(ret, flags[i].option);
	return r;
}
