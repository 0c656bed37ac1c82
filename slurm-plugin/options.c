/* The words of the options, and what `vial hold` is told for them. Names and forms are those of Pyxis, so that job scripts
 * carry over. */
#include "plugin.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

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

/* Words of which one or the other is so. */
static const enum vsp_word pairs[][2] = { { VSP_MOUNT_HOME, VSP_NO_MOUNT_HOME }, { VSP_REMAP_ROOT, VSP_NO_REMAP_ROOT },
					  { VSP_WRITABLE, VSP_READONLY },        { VSP_ENTRYPOINT, VSP_NO_ENTRYPOINT },
					  { VSP_STAGE, VSP_NO_STAGE },           { VSP_MPI, VSP_NO_MPI } };

/* The other of its pair, or the word itself. */
static enum vsp_word opposite(enum vsp_word word)
{
	for (size_t i = 0; i < VL_COUNT(pairs); i++)
		for (size_t k = 0; k < 2; k++)
			if (pairs[i][k] == word)
				return pairs[i][1 - k];
	return word;
}

bool vsp_option_adds_up(enum vsp_word word)
{
	return word == VSP_MOUNTS || word == VSP_ENV || word == VSP_UNSHARE;
}

void vsp_options_set(struct vsp_options *o, enum vsp_word word, const char *value)
{
	free(o->value[word]);
	o->value[word] = vl_strdup(value ? value : "");
}

int vsp_options_add(struct vsp_options *o, enum vsp_word word, const char *value, struct vl_err *err)
{
	const char *there = o->value[word];
	bool list = there && vsp_option_adds_up(word);
	/* of two mounts on one place the first is used: that is the one that was said last */
	VL_FREE char *both = list ? vl_asprintf("%s,%s", value, there) : NULL;

	if (there && !list && vsp_rows[word].arg && !vl_streq(there, value))
		return vl_fail(err, EINVAL, "%s is given twice, as '%s' and as '%s'", vsp_rows[word].name, there,
			       value);
	vsp_options_set(o, word, both ? both : value);
	return 0;
}

void vsp_options_free(struct vsp_options *o)
{
	for (size_t i = 0; i < VSP_WORDS; i++)
		vl_freep(&o->value[i]);
}

static bool is_said(const struct vsp_options *o, enum vsp_word word)
{
	return o->value[word] || o->value[opposite(word)];
}

void vsp_options_add_weaker(struct vsp_options *o, const struct vsp_options *weaker)
{
	bool said[VSP_WORDS];

	for (size_t i = 0; i < VSP_WORDS; i++)
		said[i] = is_said(o, (enum vsp_word)i);
	for (size_t i = 0; i < VSP_WORDS; i++)
		if (weaker->value[i] && !said[i])
			vsp_options_set(o, (enum vsp_word)i, weaker->value[i]);
}

/* ---- the environment ---------------------------------------------------------------------------- */

/* VIAL_CONTAINER_MOUNT_HOME for mount-home. Returns new. */
static char *variable(const char *prefix, enum vsp_word word)
{
	char *name = vl_asprintf("%s_%s", prefix, vsp_rows[word].name);

	for (char *c = name; *c; c++)
		*c = *c == '-' ? '_' : *c >= 'a' && *c <= 'z' ? (char)(*c - 'a' + 'A') : *c;
	return name;
}

/* 1, 0; -EINVAL: neither. */
static int truth(const char *text)
{
	static const char *const words[][2] = {
		{ "0", "1" }, { "no", "yes" }, { "false", "true" }, { "off", "on" }, { "n", "y" }
	};

	for (size_t i = 0; i < VL_COUNT(words); i++)
		for (int k = 0; k < 2; k++)
			if (strcasecmp(text, words[i][k]) == 0)
				return k;
	return -EINVAL;
}

static int take_twin(struct vsp_options *twins, enum vsp_word word, const char *name, const char *value,
		     struct vl_err *err)
{
	if (!*value)
		return 0;
	if (vsp_rows[word].arg) {
		vsp_options_set(twins, word, value);
		return 0;
	}
	int yes = truth(value);
	if (yes < 0)
		return vl_fail(err, EINVAL, "%s=%s: 1 or 0 is what it can be, or yes, no, true, false, on, off", name,
			       value);
	if (yes || (opposite(word) != word && !vsp_rows[opposite(word)].arg))
		vsp_options_set(twins, yes ? word : opposite(word), NULL);
	return 0;
}

int vsp_options_add_environment(struct vsp_options *o, const struct vsp_site *site,
				const char *(*get)(void *arg, const char *name), void *arg, struct vl_err *err)
{
	static const char *const programs[] = { "VIAL_CONTAINER", "PYXIS_CONTAINER" }; /* the first that speaks wins */
	size_t n = vl_streq(site->prefix, "container") ? 2 : 1; /* else there may be a Pyxis, whose they are */
	int r = 0;

	for (size_t p = 0; p < n; p++) {
		struct vsp_options twins = { 0 };
		for (size_t i = 0; i < VSP_WORDS; i++) {
			VL_FREE char *name = variable(programs[p], (enum vsp_word)i);
			const char *value = is_said(o, (enum vsp_word)i) ? NULL : get(arg, name);
			if (value && r == 0)
				r = take_twin(&twins, (enum vsp_word)i, name, value, err);
		}
		vsp_options_add_weaker(o, &twins);
		vsp_options_free(&twins);
	}
	return r;
}

char *vsp_option_name(const struct vsp_site *site, enum vsp_word word)
{
	const char *name = vsp_rows[word].name, *rest = vl_prefix(name, "no-"); /* --no-container-mount-home */

	return vl_asprintf("%s%s-%s", rest ? "no-" : "", site->prefix, rest ? rest : name);
}

/* As Slurm makes it of the option's name. Returns new. */
static char *handed_name(const char *prefix, const struct vsp_site *site, enum vsp_word word)
{
	VL_FREE char *option = vsp_option_name(site, word);
	char *name = vl_asprintf("%s_SLURM_SPANK_OPTION_vial_%s", prefix, option);

	for (char *c = name; *c; c++)
		if (!(*c >= '0' && *c <= '9') && !(*c >= 'A' && *c <= 'Z') && !(*c >= 'a' && *c <= 'z'))
			*c = '_';
	return name;
}

char *vsp_handed_name(const struct vsp_site *site, enum vsp_word word)
{
	return handed_name("SLURM_SPANK_", site, word);
}

char *vsp_passed_name(const struct vsp_site *site, enum vsp_word word)
{
	return handed_name("", site, word);
}

char *vsp_meant_name(enum vsp_word word)
{
	return vsp_rows[word].arg ? variable("SLURM_SPANK_VIAL", word) : NULL;
}

char *vsp_twin_name(enum vsp_word word)
{
	return variable("SLURM_SPANK_VIAL_TWIN", word);
}

/* Of a flag Slurm says "(null)". */
static void take_found(struct vsp_options *o, enum vsp_word word, const char *value)
{
	if (value)
		vsp_options_set(o, word, vsp_rows[word].arg ? value : NULL);
}

void vsp_options_add_handed(struct vsp_options *o, const struct vsp_site *site,
			    const char *(*get)(void *arg, const char *name), void *arg)
{
	struct vsp_options handed = { 0 };

	for (size_t i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *name = vsp_handed_name(site, (enum vsp_word)i);
		take_found(&handed, (enum vsp_word)i, get(arg, name));
	}
	vsp_options_add_weaker(o, &handed);
	vsp_options_free(&handed);
}

bool vsp_options_add_twins(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg)
{
	struct vsp_options twins = { 0 };
	bool any = false;

	for (size_t i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *name = vsp_twin_name((enum vsp_word)i);
		take_found(&twins, (enum vsp_word)i, get(arg, name));
		any |= twins.value[i] && !is_said(o, (enum vsp_word)i);
	}
	vsp_options_add_weaker(o, &twins);
	vsp_options_free(&twins);
	return any;
}

char *vsp_meant_value(const char *said, const char *meant)
{
	return vl_asprintf("%zu:%s=%s", strlen(said), said, meant);
}

/* What the variable's value says of what was said, or NULL: it is of something else. */
static const char *meant_by(const char *value, const char *said)
{
	char *end;
	size_t n = strtoul(value, &end, 10);
	const char *rest = n == strlen(said) && *end == ':' ? vl_prefix(end + 1, said) : NULL;

	return rest && *rest == '=' ? rest + 1 : NULL;
}

void vsp_options_complete(struct vsp_options *o, const char *(*get)(void *arg, const char *name), void *arg)
{
	for (size_t i = 0; i < VSP_WORDS; i++) {
		VL_FREE char *name = o->value[i] ? vsp_meant_name((enum vsp_word)i) : NULL;
		const char *value = name ? get(arg, name) : NULL;
		const char *meant = value ? meant_by(value, o->value[i]) : NULL;
		if (meant)
			vsp_options_set(o, (enum vsp_word)i, meant);
	}
}

/* ---- the image's name --------------------------------------------------------------------------- */

/* By its first bytes: a SIF, a squashfs. One that cannot be read may be; whoever opens it says why not. */
static bool is_image_file(const char *path)
{
	VL_CLOSE int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	char head[42] = "";
	struct stat st;

	if (fd < 0)
		return errno == EACCES;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || pread(fd, head, sizeof head, 0) != sizeof head)
		return false;
	return !memcmp(head, "hsqs", 4) || !memcmp(head + 32, "SIF_MAGIC", 9);
}

static bool has_image_suffix(const char *name)
{
	static const char *const suffixes[] = { ".sif", ".sqsh", ".sqfs", ".squashfs" };
	size_t n = strlen(name);

	for (size_t i = 0; i < VL_COUNT(suffixes); i++) {
		size_t m = strlen(suffixes[i]);
		if (n > m && !strcasecmp(name + n - m, suffixes[i]))
			return true;
	}
	return false;
}

/* A name that may be one of a registry is a path if there is such a thing; without a slash in it, if that is an image. */
static bool is_path(const char *word)
{
	if (*word == '/' || *word == '.')
		return true;
	if (strchr(word, '#'))
		return false;
	return has_image_suffix(word) || (strchr(word, '/') ? access(word, F_OK) == 0 : is_image_file(word));
}

static char *absolute(const char *path)
{
	VL_FREE char *cwd = *path == '/' ? NULL : getcwd(NULL, 0);

	while (cwd && !strncmp(path, "./", 2))
		path += 2;
	return cwd ? vl_asprintf("%s/%s", vl_streq(cwd, "/") ? "" : cwd, path) : vl_strdup(path);
}

char *vsp_image_name(const char *word)
{
	const char *docker = vl_prefix(word, "docker://");

	if (docker && strchr(docker, '#'))
		word = docker;
	else if (strstr(word, "://"))
		return vl_strdup(word);
	if (is_path(word))
		return absolute(word);
	const char *hash = strchr(word, '#'), *name = hash ? hash + 1 : word;
	const char *registry = word, *at = hash ? memchr(word, '@', (size_t)(hash - word)) : NULL;
	if (!hash)
		return vl_asprintf("docker://%s", word);
	if (at) /* who is asked for credentials is the file of credentials; the user's name is in there */
		registry = at + 1;
	return vl_asprintf("docker://%.*s/%s", (int)(hash - registry), registry, name);
}

/* ---- values ------------------------------------------------------------------------------------- */

/* A word of mount flags that is so in any case. Mounts that the host makes later come in; nothing of the container's goes out. */
static bool is_given(const char *flag)
{
	static const char *const known[] = { "rw",          "bind",         "rbind",         "slave",
					     "rslave",      "private",      "rprivate",      "unbindable",
					     "runbindable", "x-create=dir", "x-create=file", "x-create=auto",
					     "nosuid",      "nodev" };

	for (size_t i = 0; i < VL_COUNT(known); i++)
		if (vl_streq(known[i], flag))
			return true;
	return !*flag;
}

/* FLAG[+FLAG]..., as options behind a bind, or a tmpfs, which has a size too. Returns new, NULL. */
static char *mount_options(const char *spec, const char *flags, bool tmpfs, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	uint64_t bytes;

	vl_buf_adds(&b, "");
	for (const char *f = flags; f && *f;) {
		size_t n = strcspn(f, "+");
		VL_FREE char *flag = vl_strndup(f, n);
		const char *size = tmpfs ? vl_prefix(flag, "size=") : NULL;
		if (size && (vl_parse_size(size, INT64_MAX, &bytes) < 0 || !bytes)) {
			vl_fail(err, EINVAL, "mount %s: '%s' is not a size, as 512M is", spec, size);
			return NULL;
		}
		if (vl_streq(flag, "ro") || (!tmpfs && vl_streq(flag, "noexec")) || size) {
			vl_buf_addf(&b, ",%s", flag);
		} else if (!is_given(flag) || (f == flags && !n)) {
			vl_fail(err, EINVAL, "mount %s: '%s' is not known; ro and rw are%s", spec, flag,
				tmpfs ? ", and size=N" : ", and noexec");
			return NULL;
		}
		f += n + (f[n] == '+');
	}
	return vl_steal(&b.data);
}

/* The path of the node that is shown, and a place in the image that is not all of it. */
static int check_mount(const char *spec, const char *dst, bool named, struct vl_err *err)
{
	if (!named && (!*spec || dst == spec))
		return vl_fail(err, EINVAL, "mount %s: which path of the node?", spec);
	if (!dst || (!named && dst[1] == ':'))
		return 0;
	if (dst[1] != '/')
		return vl_fail(err, EINVAL, "mount %s: the place in the container must be an absolute path", spec);
	dst++;
	while (*dst == '/' || (*dst == '.' && strchr("/:", dst[1]))) /* or its end */
		dst++;
	if (!*dst || *dst == ':')
		return vl_fail(err, EINVAL, "mount %s: nothing can lie over all of the image", spec);
	return 0;
}

/* SRC:DST[:FLAG[+FLAG]...], tmpfs:DST[:FLAG...], umount:DST */
static int add_mount(const char *spec, struct vl_strv *ret, struct vl_err *err)
{
	const char *dst = strchr(spec, ':'), *flags = dst ? strchr(dst + 1, ':') : NULL;
	const char *tmpfs = vl_prefix(spec, "tmpfs:"), *umount = vl_prefix(spec, "umount:");
	size_t len = flags ? (size_t)(flags - spec) : strlen(spec);

	VL_FREE char *options = mount_options(spec, flags ? flags + 1 : NULL, tmpfs != NULL, err);
	if (!options)
		return -err->code;
	int r = check_mount(spec, dst, tmpfs || umount, err);
	if (r < 0)
		return r;
	if (umount) {
		vl_strv_take(ret, vl_asprintf("--no-mount=%.*s", (int)(len - strlen("umount:")), umount));
	} else if (tmpfs) {
		vl_strv_add(ret, "--mount");
		vl_strv_take(ret, vl_asprintf("type=tmpfs,dst=%.*s%s", (int)(len - strlen("tmpfs:")), tmpfs, options));
	} else {
		vl_strv_add(ret, "--bind");
		vl_strv_take(ret, vl_asprintf("%.*s%s%s", (int)len, spec,
					      !*options ? ""
					      : dst     ? ":"
							: "::",
					      *options ? options + 1 : ""));
	}
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

	if (r == 0 && o->value[VSP_IMAGE] && !*o->value[VSP_IMAGE])
		return vl_fail(err, EINVAL, "image: which one? A path, or NAME:TAG of one in a registry");
	if (r == 0 && o->value[VSP_SAVE] && !*o->value[VSP_SAVE])
		return vl_fail(err, EINVAL, "save: to which file?");
	if (r == 0 && o->value[VSP_RECORD] && !*o->value[VSP_RECORD])
		return vl_fail(err, EINVAL, "record: to which file?");
	const char *mpi = o->value[VSP_MPI], *env = o->value[VSP_ENV];
	if (r == 0 && env && strchr(env, '='))
		return vl_fail(
			err, EINVAL,
			"env '%s': names of the job's variables; values are set for the job, with srun's --export",
			env);
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
