/* `inspect`: what an image says about itself. Everything shown comes out of the file and is not
 * trusted: nothing of it is run, and text is made safe before it reaches a terminal. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_inspect_opts, f)
const struct opt cmd_inspect_opts[] = {
	{ 'l', "labels", OPT_FLAG, O(labels), NULL, "the labels (the default)", NULL, 0 },
	{ 'd', "deffile", OPT_FLAG, O(deffile), NULL, "the definition file", NULL, 0 },
	{ 'r', "runscript", OPT_FLAG, O(runscript), NULL, "the run script", NULL, 0 },
	{ 's', "startscript", OPT_FLAG, O(startscript), NULL, "the start script of instances", NULL, 0 },
	{ 't', "test", OPT_FLAG, O(test), NULL, "the test script", NULL, 0 },
	{ 'e', "environment", OPT_FLAG, O(environment), NULL, "the environment files", NULL, 0 },
	{ 'H', "helpfile", OPT_FLAG, O(helpfile), NULL, "the help text", NULL, 0 },
	{ 0, "list-apps", OPT_FLAG, O(list_apps), NULL, "the names of the apps inside", NULL, 0 },
	{ 0, "app", OPT_STR, O(app), "NAME", "the parts of this app instead of the image's", NULL, 0 },
	{ 0, "all", OPT_FLAG, O(all), NULL, "everything, as JSON", NULL, 0 },
	{ 0, "digests", OPT_FLAG, O(digests), NULL, "digests: of the sources that labels name, and of each object",
	  NULL, 0 },
	{ 0, "origin", OPT_FLAG, O(origin), NULL, "who signed it, what it was made of and when, as it says itself",
	  NULL, 0 },
	{ 0, "provenance", OPT_FLAG, O(provenance), NULL,
	  "the statement of what it was made of (in-toto, SLSA), as it is", NULL, 0 },
	{ 0, "sbom", OPT_FLAG, O(sbom), NULL, "the bill of materials, as it is", NULL, 0 },
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print JSON", NULL, 0 },
	OPT_END,
};
#undef O

static const struct {
	const char *name;
	size_t off;
} texts[] = {
	{ "deffile", offsetof(struct cmd_inspect_opts, deffile) },
	{ "runscript", offsetof(struct cmd_inspect_opts, runscript) },
	{ "startscript", offsetof(struct cmd_inspect_opts, startscript) },
	{ "test", offsetof(struct cmd_inspect_opts, test) },
	{ "helpfile", offsetof(struct cmd_inspect_opts, helpfile) },
};

static bool chosen(const struct cmd_inspect_opts *o, size_t off)
{
	return o->all || *(const bool *)((const char *)o + off);
}

/* ---- finding what the image says ---- */

/* A broken object is worth a warning, not a failure: the rest of the image still speaks. */
static vl_json *read_json(struct cmd_ctx *c, const struct sif_image *img, const struct sif_descr *d)
{
	VL_FREE char *text = NULL, *what = NULL;
	vl_json *j = NULL;
	struct vl_err err = { 0 };
	size_t len;

	if (!d)
		return NULL;
	what = vl_asprintf("object %u", d->id);
	if (sif_read_object(img, d, VL_JSON_MAX, &text, &len, &err) < 0 || vl_json_parse(text, len, what, &j, &err) < 0)
		vl_logf(&c->log, VL_WARNING, "%s; it is passed over", err.text);
	return j;
}

static vl_json *read_text(struct cmd_ctx *c, const struct sif_image *img, const struct sif_descr *d)
{
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	size_t len;

	if (!d || d->size == 0)
		return NULL;
	if (sif_read_object(img, d, SIF_MAX_METADATA, &text, &len, &err) < 0) {
		vl_logf(&c->log, VL_WARNING, "%s; it is passed over", err.text);
		return NULL;
	}
	return vl_json_new_strn(text, len);
}

/* Images without the metadata object, or of other makers: labels are in the OCI configuration or
 * in an old labels object, the definition file is an object of its own. */
static vl_json *gather(struct cmd_ctx *c, const struct sif_image *img, bool *ret_known)
{
	VL_JSON vl_json *meta = read_json(c, img, sif_by_name(img, SIF_JSON, "inspect-metadata.json"));
	vl_json *found = vl_json_obj(vl_json_obj(meta, "data"), "attributes");
	vl_json *attributes = found ? vl_json_ref(found) : vl_json_new_obj();

	*ret_known = found != NULL;
	if (!vl_json_obj(attributes, "labels")) {
		VL_JSON vl_json *oci = read_json(c, img, sif_by_name(img, SIF_JSON, "oci-config.json"));
		VL_JSON vl_json *old = read_json(c, img, sif_by_name(img, SIF_LABELS, ""));
		vl_json *labels = vl_json_obj(oci, "Labels");
		labels = labels ? labels : vl_json_is_object(old) ? old : NULL;
		if (labels)
			vl_json_set(attributes, "labels", vl_json_ref(labels));
		*ret_known |= labels != NULL;
	}
	if (!vl_json_str(attributes, "deffile"))
		vl_json_set(attributes, "deffile", read_text(c, img, sif_by_name(img, SIF_DEFFILE, "")));
	return attributes;
}

/* ---- what the descriptors tell of any image ---- */

static const char *kind(const struct sif_image *img, const struct sif_descr *root)
{
	if (!root)
		return sif_by_name(img, SIF_OCI_INDEX, "") ? "OCI-SIF" : "SIF without a primary system partition";
	switch (sif_part_fs(root)) {
	case SIF_FS_LUKS_SQUASHFS:
		return "encrypted SIF (LUKS)";
	case SIF_FS_GOCRYPTFS:
		return "encrypted SIF (gocryptfs)";
	default:
		return "SIF";
	}
}

static vl_json *facts(const struct sif_image *img)
{
	vl_json *j = vl_json_new_obj();
	const struct sif_descr *root = NULL;
	struct vl_err none;
	char arch[4], uuid[37];
	int64_t signatures = 0;

	if (sif_primary(img, &root, &none) < 0)
		root = NULL;
	sif_uuid_text(img->h.uuid, uuid);
	vl_json_set(j, "sif.kind", vl_json_new_str(kind(img, root)));
	vl_json_set(j, "sif.id", vl_json_new_str(uuid));
	if (root) {
		sif_part_arch(root, arch);
		vl_json_set(j, "sif.architecture", vl_json_new_str(sif_arch_name(arch)));
		vl_json_set(j, "sif.filesystem", vl_json_new_str(sif_fs_name(sif_part_fs(root))));
	}
	for (size_t i = 0; i < img->n; i++)
		signatures += img->d[i].type == SIF_SIGNATURE;
	vl_json_set(j, "sif.objects", vl_json_new_int((int64_t)img->n));
	vl_json_set(j, "sif.signatures", vl_json_new_int(signatures));
	return j;
}

/* Digests that labels name (the base image, for one), and those of the content here. */
struct digests {
	vl_json *sources;
};

static void add_source(void *arg, const char *key, const vl_json *value)
{
	const char *s = vl_json_string(value);

	if (s && strstr(s, "sha256:"))
		vl_json_set(((struct digests *)arg)->sources, key, vl_json_new_str(s));
}

static int digests(const struct sif_image *img, const vl_json *attributes, vl_json **ret, struct vl_err *err)
{
	struct digests d = { vl_json_new_obj() };
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *objects = vl_json_new_obj();

	vl_json_each(vl_json_obj(attributes, "labels"), add_source, &d);
	vl_json_set(j, "source", d.sources);
	vl_json_set(j, "objects", objects);
	for (size_t i = 0; i < img->n; i++) {
		VL_FREE char *text = NULL, *id = vl_asprintf("%u", img->d[i].id);
		int r = sif_object_digest(img, &img->d[i], &text, err);
		if (r < 0)
			return r;
		vl_json_set(objects, id, vl_json_new_str(text));
	}
	*ret = vl_steal(&j);
	return 0;
}

/* ---- printing ---- */

static void print_text(const char *s)
{
	size_t n = strlen(s);

	/* a terminal obeys control bytes; a pipe gets the text as it is */
	if (isatty(STDOUT_FILENO) == 1) {
		for (const char *line = s; *line;) {
			size_t len = strcspn(line, "\n");
			VL_FREE char *shown = vl_printable(line, len);
			puts(shown);
			line += len + (line[len] == '\n');
		}
		return;
	}
	fwrite(s, 1, n, stdout);
	if (n && s[n - 1] != '\n')
		putchar('\n');
}

static void add_pair(void *arg, const char *key, const vl_json *value)
{
	struct vl_strv *lines = arg;
	const char *s = vl_json_string(value);
	VL_FREE char *text = s ? vl_strdup(s) : vl_json_text(value, false);
	VL_FREE char *k = vl_printable(key, strlen(key)), *v = vl_printable(text, strlen(text));

	vl_strv_take(lines, vl_asprintf("%s: %s", k, v));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void print_pairs(const vl_json *obj, bool sorted)
{
	VL_STRV struct vl_strv lines = { 0 };

	vl_json_each(obj, add_pair, &lines);
	if (sorted && lines.n)
		qsort(lines.v, lines.n, sizeof *lines.v, by_text);
	for (size_t i = 0; i < lines.n; i++)
		puts(lines.v[i]);
}

static void print_member(void *arg, const char *key, const vl_json *value)
{
	VL_FREE char *k = vl_printable(key, strlen(key));
	const char *s = vl_json_string(value);

	(void)arg;
	printf("=== %s ===\n", k);
	if (s)
		print_text(s);
	putchar('\n');
}

static void print_name(void *arg, const char *key, const vl_json *value)
{
	VL_FREE char *k = vl_printable(key, strlen(key));

	(void)arg, (void)value;
	puts(k);
}

static vl_json *part_of(const vl_json *attributes, const struct cmd_inspect_opts *o)
{
	return o->app ? vl_json_obj(vl_json_obj(attributes, "apps"), o->app) : (vl_json *)attributes;
}

static void print_parts(const struct cmd_inspect_opts *o, const vl_json *attributes, bool labels)
{
	const vl_json *part = part_of(attributes, o);

	for (size_t i = 0; i < VL_COUNT(texts); i++) {
		const char *s = vl_json_str(part, texts[i].name);
		if (chosen(o, texts[i].off) && s)
			print_text(s);
	}
	if (o->environment) {
		const char *s = vl_json_str(part, "environment"); /* of an app it is one text */
		if (s)
			print_text(s);
		else
			vl_json_each(vl_json_obj(part, "environment"), print_member, NULL);
	}
	if (o->list_apps)
		vl_json_each(vl_json_obj(attributes, "apps"), print_name, NULL);
	if (labels)
		print_pairs(vl_json_obj(part, "labels"), true);
}

static void copy_member(vl_json *to, const vl_json *from, const char *name)
{
	const vl_json *v = vl_json_get(from, name);

	if (v)
		vl_json_set(to, name, vl_json_ref(v));
}

static void print_json(struct cmd_ctx *c, const struct cmd_inspect_opts *o, const vl_json *attributes, bool labels,
		       vl_json *sums, const struct sif_image *img)
{
	VL_JSON vl_json *top = vl_json_new_obj();
	vl_json *data = vl_json_new_obj(), *out = vl_json_new_obj(), *apps, *one;
	const vl_json *part = part_of(attributes, o);

	vl_json *to = out;
	if (o->app) {
		one = vl_json_new_obj();
		apps = vl_json_new_obj();
		vl_json_set(apps, o->app, one);
		vl_json_set(out, "apps", apps);
		to = one;
	} else if (o->all || o->list_apps) {
		copy_member(out, attributes, "apps");
	}
	for (size_t i = 0; i < VL_COUNT(texts); i++)
		if (chosen(o, texts[i].off))
			copy_member(to, part, texts[i].name);
	if (o->all || o->environment)
		copy_member(to, part, "environment");
	if (labels)
		copy_member(to, part, "labels");
	vl_json_set(data, "attributes", out);
	vl_json_set(top, "data", data);
	vl_json_set(top, "type", vl_json_new_str("container"));
	if (o->all)
		vl_json_set(top, "sif", facts(img));
	if (o->all || o->origin)
		vl_json_set(top, "origin", cmd_inspect_origin(c, img));
	if (sums)
		vl_json_set(top, "digests", vl_json_ref(sums));
	VL_FREE char *text = vl_json_text(top, true);
	puts(text);
}

static bool any_part(const struct cmd_inspect_opts *o)
{
	for (size_t i = 0; i < VL_COUNT(texts); i++)
		if (chosen(o, texts[i].off))
			return true;
	return o->environment || o->list_apps || o->digests || o->origin;
}

static int inspect(struct cmd_ctx *c, const struct cmd_inspect_opts *o, const struct sif_image *img, struct vl_err *err)
{
	bool known, labels = o->labels || o->all || !any_part(o);
	VL_JSON vl_json *attributes = gather(c, img, &known), *sums = NULL;

	if (o->app && !part_of(attributes, o))
		return vl_fail(err, ENOENT, "the image has no app '%s'; --list-apps shows them", o->app);
	if (o->digests) {
		int r = digests(img, attributes, &sums, err);
		if (r < 0)
			return r;
	}
	if (o->json || o->all) {
		print_json(c, o, attributes, labels, sums, img);
		return 0;
	}
	print_parts(o, attributes, labels);
	if (labels && !known) { /* nobody wrote labels: tell what the format itself does */
		VL_JSON vl_json *f = facts(img);
		print_pairs(f, false);
	}
	if (o->origin) {
		VL_JSON vl_json *origin = cmd_inspect_origin(c, img);
		cmd_inspect_print_origin(origin);
	}
	if (sums) {
		print_pairs(vl_json_obj(sums, "source"), true);
		for (size_t i = 0; i < img->n; i++) {
			VL_FREE char *words = sif_descr_words(&img->d[i]), *id = vl_asprintf("%u", img->d[i].id);
			printf("object %s: %s %s\n", id, vl_json_str(vl_json_obj(sums, "objects"), id), words);
		}
	}
	return 0;
}

/* A document of the image, to be read by other programs. */
static int print_object(const struct sif_image *img, uint32_t type, const char *name, const char *what,
			struct vl_err *err)
{
	const struct sif_descr *d = sif_by_name(img, type, name);

	return d ? cmd_sif_print(img->fd, d, err) : vl_fail(err, ENOENT, "the image has no %s", what);
}

static int show(struct cmd_ctx *c, const struct cmd_inspect_opts *o, const struct sif_image *img, struct vl_err *err)
{
	if (o->provenance)
		return print_object(img, SIF_JSON, SIF_PROVENANCE_NAME, "provenance", err);
	if (o->sbom)
		return print_object(img, SIF_SBOM, "", "bill of materials", err);
	return inspect(c, o, img, err);
}

static void tell_encrypted(struct cmd_ctx *c, const char *path, const struct sif_image *img)
{
	const struct sif_descr *root;
	struct vl_err none;

	if (sif_primary(img, &root, &none) == 0 && strstr(kind(img, root), "encrypted"))
		vl_logf(&c->log, VL_INFO, "%s: %s; it can be inspected and verified, not run", path, kind(img, root));
}

int cmd_inspect_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	VL_CLOSE int fd = -1;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	int r = cmd_image_open(argv[0], O_RDONLY, &fd, &img, &err);
	if (r == 0)
		tell_encrypted(c, argv[0], &img);
	if (r == 0 && (r = show(c, opts, &img, &err)) < 0)
		vl_wrap(&err, "%s", argv[0]);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
