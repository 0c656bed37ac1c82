#include "meta.h"

#include <stdio.h>
#include <time.h>

#define D ".singularity.d"

/* ---- shell text ---- */

/* A word in double quotes: the shell built into Apptainer reads '\'' and what stands inside
 * ${K-...} otherwise than sh does. */
static void add_double_quoted(struct vl_buf *b, const char *s)
{
	vl_buf_adds(b, "\"");
	for (; *s; s++) {
		if (strchr("$`\"\\", *s))
			vl_buf_adds(b, "\\");
		vl_buf_add(b, s, 1);
	}
	vl_buf_adds(b, "\"");
}

/* ENV of the image. A name that is no identifier cannot be exported by a shell and is left out,
 * as in every runtime that goes through one; it stays in the stored config. */
char *img_meta_environment(const vl_json *config)
{
	const vl_json *env = vl_json_arr(config, "Env");
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "#!/bin/sh\n# ENV of the OCI image\n");
	for (size_t i = 0; i < vl_json_len(env); i++) {
		const char *e = vl_json_string(vl_json_at(env, i)), *eq = e ? strchr(e, '=') : NULL;
		size_t n = eq ? (size_t)(eq - e) : 0;
		if (!eq || !vl_is_identifier(e, n))
			continue;
		VL_FREE char *key = vl_strndup(e, n);
		if (vl_streq(key, "PATH")) {
			vl_buf_adds(&b, "export PATH=");
			add_double_quoted(&b, eq + 1);
			vl_buf_adds(&b, "\n");
		} else {
			vl_buf_addf(&b, "[ -n \"${%s+x}\" ] || %s=", key, key);
			add_double_quoted(&b, eq + 1);
			vl_buf_addf(&b, "\nexport %s\n", key);
		}
	}
	return vl_steal(&b.data);
}

static void add_words(struct vl_buf *b, const vl_json *list)
{
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const char *w = vl_json_string(vl_json_at(list, i));
		if (!w)
			continue;
		vl_buf_adds(b, " ");
		vl_buf_shell_word(b, w);
	}
}

/* ENTRYPOINT and CMD. Arguments of the user replace CMD; unless --no-eval was asked for, those
 * that hold an expansion are evaluated once, in double quotes. The image's words stay literal. */
static const char run_args[] = "if [ -z \"${APPTAINER_NO_EVAL:-${SINGULARITY_NO_EVAL:-}}\" ]; then\n"
			       "\tfor word do\n"
			       "\t\tshift\n"
			       "\t\tcase $word in\n"
			       "\t\t*'$'* | *'`'*)\n"
			       "\t\t\trest=$word escaped=\n"
			       "\t\t\twhile :; do\n"
			       "\t\t\t\tcase $rest in\n"
			       "\t\t\t\t*'\"'*) escaped=$escaped${rest%%'\"'*}'\\\"' rest=${rest#*'\"'} ;;\n"
			       "\t\t\t\t*) break ;;\n"
			       "\t\t\t\tesac\n"
			       "\t\t\tdone\n"
			       "\t\t\teval \"word=\\\"$escaped$rest\\\"\"\n"
			       "\t\t\t;;\n"
			       "\t\tesac\n"
			       "\t\tset -- \"$@\" \"$word\"\n"
			       "\tdone\n"
			       "fi\n";

char *img_meta_runscript(const vl_json *config)
{
	VL_BUF struct vl_buf b = { 0 };
	const vl_json *entry = vl_json_arr(config, "Entrypoint"), *cmd = vl_json_arr(config, "Cmd");

	vl_buf_adds(&b, "#!/bin/sh\n# ENTRYPOINT and CMD of the OCI image\n");
	vl_buf_adds(&b, run_args);
	if (vl_json_len(cmd)) {
		vl_buf_adds(&b, "[ $# -gt 0 ] || set --");
		add_words(&b, cmd);
		vl_buf_adds(&b, "\n");
	}
	if (vl_json_len(entry)) {
		vl_buf_adds(&b, "set --");
		add_words(&b, entry);
		vl_buf_adds(&b, " \"$@\"\n");
	}
	vl_buf_adds(&b, "[ $# -gt 0 ] || set -- /bin/sh\nexec \"$@\"\n");
	return vl_steal(&b.data);
}

/* ---- fixed files: name below .singularity.d, text ---- */

#define SOURCE_ENV                                                                                                     \
	"#!/bin/sh\n"                                                                                                  \
	"for file in /.singularity.d/env/*.sh; do\n"                                                                   \
	"\t[ ! -f \"$file\" ] || . \"$file\"\n"                                                                        \
	"done\n"

static const char *const fixed[][2] = {
	{ "env/01-base.sh", "#!/bin/sh\n# nothing is set before the image's own environment\n" },
	{ "env/90-environment.sh", IMG_META_NO_ENVIRONMENT },
	{ "env/95-apps.sh", "#!/bin/sh\n# --app NAME: the folders of a SCIF app\n"
			    "app=${APPTAINER_APPNAME:-${SINGULARITY_APPNAME:-}}\n"
			    "if [ -n \"$app\" ] && [ -d \"/scif/apps/$app\" ]; then\n"
			    "\tPATH=/scif/apps/$app/bin:$PATH\n"
			    "\tLD_LIBRARY_PATH=/scif/apps/$app/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n"
			    "\texport PATH LD_LIBRARY_PATH\n"
			    "\t[ ! -f \"/scif/apps/$app/scif/env/90-environment.sh\" ] || . "
			    "\"/scif/apps/$app/scif/env/90-environment.sh\"\n"
			    "fi\n"
			    "unset app\n" },
	{ "env/99-base.sh", "#!/bin/sh\n# host driver libraries are bound there by runtimes; behind the image's own\n"
			    "export LD_LIBRARY_PATH=\"${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/.singularity.d/libs\"\n" },
	{ "env/99-runtimevars.sh", "#!/bin/sh\n# variables of the runtime are set by the runtime\n" },
	{ "actions/exec", SOURCE_ENV "exec \"$@\"\n" },
	{ "actions/run", SOURCE_ENV "exec /.singularity.d/runscript \"$@\"\n" },
	{ "actions/shell", SOURCE_ENV "exec /bin/sh \"$@\"\n" },
	{ "actions/start", SOURCE_ENV "exec /.singularity.d/startscript \"$@\"\n" },
	{ "actions/test", SOURCE_ENV "if [ -x /.singularity.d/test ]; then\n\texec /.singularity.d/test \"$@\"\nfi\n"
				     "echo 'No test script found in the image'\n" },
	{ "startscript", "#!/bin/sh\n" },
};

static const char *const links[][2] = {
	{ "singularity", D "/runscript" }, { "environment", D "/env/90-environment.sh" },
	{ ".run", D "/actions/run" },      { ".exec", D "/actions/exec" },
	{ ".shell", D "/actions/shell" },  { ".test", D "/actions/test" },
};

static const struct {
	const char *path;
	uint16_t mode;
} mount_points[] = {
	{ "dev", 0755 },  { "proc", 0755 }, { "sys", 0755 }, { "etc", 0755 },      { "home", 0755 },
	{ "root", 0700 }, { "tmp", 01777 }, { "var", 0755 }, { "var/tmp", 01777 },
};
static const char *const empty_files[] = { "etc/hosts", "etc/resolv.conf" };

/* ---- documents ---- */

static void copy_label(void *arg, const char *key, const vl_json *value)
{
	const char *s = vl_json_string(value);
	if (s)
		vl_json_set(arg, key, vl_json_new_str(s));
}

static vl_json *make_labels(const struct img_source_info *src)
{
	vl_json *l = vl_json_new_obj();
	char date[32] = "";
	struct tm tm;
	time_t t = (time_t)src->time;

	if (gmtime_r(&t, &tm))
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	vl_json_set(l, "org.label-schema.schema-version", vl_json_new_str("1.0"));
	vl_json_set(l, "org.label-schema.build-arch", vl_json_new_str(src->arch));
	vl_json_set(l, "org.label-schema.build-date", vl_json_new_str(date));
	vl_json_set(l, "org.label-schema.usage.vial.version", vl_json_new_str(src->version));
	vl_json_set(l, "org.label-schema.usage.singularity.deffile.bootstrap", vl_json_new_str(src->bootstrap));
	vl_json_set(l, "org.label-schema.usage.singularity.deffile.from", vl_json_new_str(src->from));
	if (src->oci) {
		/* the image's own labels win */
		if (*src->oci->manifest.algo) {
			VL_FREE char *d = vl_asprintf("%s:%s", src->oci->manifest.algo, src->oci->manifest.hex);
			vl_json_set(l, "org.opencontainers.image.base.digest", vl_json_new_str(d));
		}
		vl_json_each(vl_json_obj(vl_json_obj(src->oci->config, "config"), "Labels"), copy_label, l);
	}
	return l;
}

/* Where the image comes from, digest by digest. */
static char *build_record(const struct img_source_info *src)
{
	VL_JSON vl_json *top = vl_json_new_obj();
	vl_json *source = vl_json_new_obj();
	VL_FREE char *uri = vl_asprintf("%s:%s", src->bootstrap, src->from);
	VL_FREE char *builder = vl_asprintf("vial %s", src->version);

	vl_json_set(top, "builder", vl_json_new_str(builder));
	vl_json_set(source, "uri", vl_json_new_str(uri));
	if (src->oci) {
		vl_json *layers = vl_json_new_arr();
		if (*src->oci->manifest.algo) {
			VL_FREE char *d = vl_asprintf("%s:%s", src->oci->manifest.algo, src->oci->manifest.hex);
			vl_json_set(source, "manifestDigest", vl_json_new_str(d));
		}
		for (size_t i = 0; i < src->oci->n_layers; i++) {
			const struct oci_layer *l = &src->oci->layers[i];
			vl_json *o = vl_json_new_obj();
			VL_FREE char *diff = vl_asprintf("%s:%s", l->diff_id.algo, l->diff_id.hex);
			if (*l->digest.algo) {
				VL_FREE char *d = vl_asprintf("%s:%s", l->digest.algo, l->digest.hex);
				vl_json_set(o, "digest", vl_json_new_str(d));
			}
			vl_json_set(o, "diffId", vl_json_new_str(diff));
			vl_json_add(layers, o);
		}
		vl_json_set(source, "layers", layers);
	}
	vl_json_set(top, "source", source);
	return vl_json_text(top, false);
}

static void add_file(struct img_meta *m, const char *name, const char *text)
{
	vl_strv_take(&m->files, vl_asprintf(D "/%s", name));
	vl_strv_add(&m->files, text);
}

void img_meta_make(const struct img_source_info *src, struct img_meta *ret)
{
	const vl_json *config = src->oci ? vl_json_obj(src->oci->config, "config") : NULL;
	VL_FREE char *run = img_meta_runscript(config), *env = img_meta_environment(config);
	VL_JSON vl_json *labels = make_labels(src), *top = vl_json_new_obj();
	VL_FREE char *labels_text = vl_json_text(labels, true);
	vl_json *data = vl_json_new_obj(), *attr = vl_json_new_obj(), *envs = vl_json_new_obj();

	*ret = (struct img_meta){ .deffile = vl_asprintf("bootstrap: %s\nfrom: %s\n", src->bootstrap, src->from) };
	for (size_t i = 0; i < VL_COUNT(fixed); i++)
		add_file(ret, fixed[i][0], fixed[i][1]);
	add_file(ret, "env/10-docker2singularity.sh", env);
	add_file(ret, "runscript", run);
	add_file(ret, "labels.json", labels_text);
	add_file(ret, "Singularity", ret->deffile);

	vl_json_set(envs, "/" D "/env/10-docker2singularity.sh", vl_json_new_str(env));
	vl_json_set(attr, "environment", envs);
	vl_json_set(attr, "labels", vl_json_ref(labels));
	vl_json_set(attr, "runscript", vl_json_new_str(run));
	vl_json_set(attr, "deffile", vl_json_new_str(ret->deffile));
	vl_json_set(attr, "startscript", vl_json_new_str("#!/bin/sh\n"));
	vl_json_set(data, "attributes", attr);
	vl_json_set(top, "data", data);
	vl_json_set(top, "type", vl_json_new_str("container"));
	ret->inspect = vl_json_text(top, false);
	ret->build = build_record(src);
	if (src->oci)
		ret->oci_config = config ? vl_json_text(config, false) : vl_strdup("{}");
}

void img_meta_free(struct img_meta *m)
{
	vl_freep(&m->deffile);
	vl_freep(&m->inspect);
	vl_freep(&m->oci_config);
	vl_freep(&m->build);
	vl_strv_free(&m->files);
}

/* ---- into the tree ---- */

static struct img_entry *new_entry(struct img_log *log, uint8_t type, const char *path, uint16_t mode, int64_t time)
{
	struct img_entry *e = img_log_add(log);

	e->type = type;
	e->path = vl_strdup(path);
	e->attr.mode = mode;
	e->attr.mtime = time < 0 ? 0 : (uint32_t)VL_MIN(time, (int64_t)UINT32_MAX);
	return e;
}

static int new_file(struct img_log *log, struct img_blocks *b, const char *path, const char *text, uint16_t mode,
		    int64_t time, struct vl_err *err)
{
	struct img_entry *e = new_entry(log, IMG_FILE, path, mode, time);

	e->file = vl_alloc(sizeof *e->file);
	img_blocks_begin(b, e->file);
	int r = img_blocks_write(b, text, strlen(text), err);
	return r < 0 ? r : img_blocks_end(b, err);
}

bool img_meta_is_own(const vl_json *config, struct img_tree *t)
{
	const char *program = vl_json_string(vl_json_at(vl_json_arr(config, "Entrypoint"), 0));

	return program && vl_prefix(program, "/" D "/") && img_tree_find(t, D "/runscript");
}

int img_meta_apply(const struct img_meta *m, bool keep, int64_t time, struct img_tree *t, struct img_blocks *b,
		   struct img_log *log, struct vl_err *err)
{
	static const char *const dirs[] = { D, D "/env", D "/actions", D "/libs" };
	int r = 0;

	/* An explicit folder entry replaces a link that the image may have planted under the name. */
	for (size_t i = 0; i < VL_COUNT(dirs); i++) {
		const struct img_node *n = img_tree_find(t, dirs[i]);
		if (!n || n->inode->type != IMG_DIR)
			new_entry(log, IMG_DIR, dirs[i], 0755, time);
	}
	for (size_t i = 0; r == 0 && i + 1 < m->files.n; i += 2)
		if (!keep || !img_tree_find(t, m->files.v[i]))
			r = new_file(log, b, m->files.v[i], m->files.v[i + 1], 0755, time, err);
	for (size_t i = 0; i < VL_COUNT(links); i++)
		if (!img_tree_find(t, links[i][0]))
			new_entry(log, IMG_SYMLINK, links[i][0], 0777, time)->target = vl_strdup(links[i][1]);
	for (size_t i = 0; i < VL_COUNT(mount_points); i++) {
		/* "var/tmp" only where var is a folder of the image or made here */
		const struct img_node *var = img_tree_find(t, "var");
		bool under_other = strchr(mount_points[i].path, '/') && var && var->inode->type != IMG_DIR;
		if (!under_other && !img_tree_find(t, mount_points[i].path))
			new_entry(log, IMG_DIR, mount_points[i].path, mount_points[i].mode, time);
	}
	const struct img_node *etc = img_tree_find(t, "etc");
	for (size_t i = 0; r == 0 && i < VL_COUNT(empty_files); i++)
		if ((!etc || etc->inode->type == IMG_DIR) && !img_tree_find(t, empty_files[i]))
			r = new_file(log, b, empty_files[i], "", 0644, time, err);
	return r < 0 ? r : img_tree_apply(t, log, err);
}
