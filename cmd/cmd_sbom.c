/* `sbom`: bills of materials, made, put into an image, and shown. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/image.h>
#include <vial/sif.h>

#define MAX_SBOM (64u << 20) /* with every file listed, the largest in use have some 30 MB */
#define FORMAT "spdx-json"   /* of create, unless told otherwise */

#define O(f) offsetof(struct cmd_sbom_opts, f)
const struct opt cmd_sbom_attach_opts[] = {
	{ 0, "format", OPT_STR, O(format), "WORD",
	  "cyclonedx-json, cyclonedx-xml, github-json, spdx-json, spdx-rdf, spdx-tag-value, spdx-yaml or syft-json "
	  "(default: what FILE says)",
	  NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace the one of this format that the image has", NULL, 0 },
	OPT_END,
};
const struct opt cmd_sbom_create_opts[] = {
	{ 0, "format", OPT_STR, O(format), "WORD",
	  "spdx-json (SPDX 2.3, the default) or cyclonedx-json (CycloneDX 1.5)", NULL, 0 },
	{ 0, "attach", OPT_FLAG, O(attach), NULL, "put it into the image too; nothing is printed", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "with --attach: replace the one of this format that the image has",
	  NULL, 0 },
	CMD_NET_OPTS(struct cmd_sbom_opts, net),
	OPT_END,
};
const struct opt cmd_sbom_show_opts[] = {
	{ 0, "format", OPT_STR, O(format), "WORD", "the one of this format (default: the first)", NULL, 0 },
	OPT_END,
};
#undef O

/* NULL words = any format, 0. */
static int read_format(const char *word, uint32_t *ret, struct vl_err *err)
{
	uint32_t n = word ? sif_sbom_number(word) : 0;

	if (word && !n)
		return vl_fail(err, EINVAL,
			       "--format is cyclonedx-json, cyclonedx-xml, github-json, spdx-json, spdx-rdf, "
			       "spdx-tag-value, spdx-yaml or syft-json, not '%s'",
			       word);
	*ret = n;
	return 0;
}

static const struct sif_descr *find(const struct sif_image *img, uint32_t format)
{
	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].type == SIF_SBOM && (!format || vl_le32(img->d[i].extra) == format))
			return &img->d[i];
	return NULL;
}

/* ---- attach ---- */

struct sbom {
	const char *text;
	size_t len;
	uint32_t format;
};

static int detect(const char *file, struct sbom *s, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err why;

	if (vl_json_parse(s->text, s->len, file, &j, &why) < 0)
		return vl_fail(err, EINVAL, "%s; --format names the format", why.text);
	const char *cyclonedx = vl_json_str(j, "bomFormat");
	if (cyclonedx && vl_streq(cyclonedx, "CycloneDX"))
		s->format = sif_sbom_number("cyclonedx-json");
	else if (vl_json_str(j, "spdxVersion"))
		s->format = sif_sbom_number("spdx-json");
	else if (vl_json_arr(j, "artifacts") && vl_json_obj(j, "schema"))
		s->format = sif_sbom_number("syft-json");
	else
		return vl_fail(err, EINVAL, "%s is neither CycloneDX nor SPDX; --format names the format", file);
	return 0;
}

/* Into the group of the root file system, so that a signature of it covers both. */
static uint32_t group_of(const struct sif_image *img)
{
	const struct sif_descr *root;
	struct vl_err none;

	return sif_primary(img, &root, &none) == 0 ? root->group : SIF_DEFAULT_GROUP;
}

static int put(struct sif_edit *e, const struct sbom *s, bool force, struct vl_err *err)
{
	const struct sif_image *img = sif_edit_image(e);
	const struct sif_descr *old = find(img, s->format);
	uint32_t old_id = old ? old->id : 0;
	VL_FREE char *name = vl_asprintf("sbom.%s", sif_sbom_name(s->format));
	struct sif_object o = { .type = SIF_SBOM, .group = group_of(img), .name = name };
	int r;

	if (old && !force)
		return vl_fail(err, EEXIST,
			       "object %u is a bill of materials of the format %s already; --force replaces it", old_id,
			       sif_sbom_name(s->format));
	vl_put_le32(o.extra, s->format);
	if ((r = sif_edit_add(e, &o, s->text, s->len, NULL, err)) < 0 || (r = sif_edit_commit(e, err)) < 0)
		return r;
	return old_id ? sif_edit_del(e, old_id, err) : 0;
}

static int attach(struct cmd_ctx *c, const char *path, const struct sbom *s, bool force, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDWR | O_NONBLOCK, 0, err);
	SIF_EDIT struct sif_edit *e = NULL;
	int r = fd < 0 ? fd : sif_edit_begin(fd, cmd_now(), &e, err);

	if (r < 0)
		return fd < 0 ? r : vl_wrap(err, "%s", path);
	bool signed_before = sif_by_name(sif_edit_image(e), SIF_SIGNATURE, "") != NULL;
	if (put(e, s, force, err) < 0)
		return vl_wrap(err, "%s", path);
	if (signed_before)
		vl_logf(&c->log, VL_WARNING,
			"%s is signed, and its signatures do not cover what was added; sign it again", path);
	vl_logf(&c->log, VL_INFO, "%s: bill of materials added (%s)", path, sif_sbom_name(s->format));
	return 0;
}

static int read_stdin(char **ret, size_t *ret_len, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	char chunk[65536];
	ssize_t n;

	while ((n = read(STDIN_FILENO, chunk, sizeof chunk)) > 0 && b.len + (size_t)n <= MAX_SBOM)
		vl_buf_add(&b, chunk, (size_t)n);
	if (n < 0)
		return vl_fail_sys(err, errno, "cannot read standard input");
	if (n > 0)
		return vl_fail(err, EFBIG, "standard input: more than the limit of %u bytes", MAX_SBOM);
	vl_buf_adds(&b, "");
	*ret_len = b.len;
	*ret = vl_steal(&b.data);
	return 0;
}

int cmd_sbom_attach_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_sbom_opts *o = opts;
	bool from_stdin = vl_streq(argv[1], "-");
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	struct sbom s = { 0 };
	int r;

	(void)self, (void)argc;
	if (read_format(o->format, &s.format, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	r = from_stdin ? read_stdin(&text, &s.len, &err)
		       : vl_read_file(AT_FDCWD, argv[1], MAX_SBOM, &text, &s.len, &err);
	s.text = text;
	if (r == 0 && !s.format)
		r = detect(from_stdin ? "standard input" : argv[1], &s, &err);
	if (r == 0)
		r = attach(c, argv[0], &s, o->force, &err);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- create ---- */

static void warn_of_unread(struct cmd_ctx *c, const char *name, const struct img_packages *l)
{
	for (size_t i = 0; i < l->unread.n; i++)
		vl_logf(&c->log, VL_WARNING, "%s: %s; the list says that it is incomplete", name, l->unread.v[i]);
	if (!l->n)
		vl_logf(&c->log, VL_WARNING, "%s: no package of dpkg, rpm, apk or Python was found", name);
}

/* What the image calls itself: name and digest of its source; else the file's name. */
static void identify(int fd, const char *word, struct sif_provenance *ret)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct vl_err ignored;

	if (sif_load(fd, &img, &ignored) == 0)
		sif_provenance_read(&img, ret, &ignored);
	if (!ret->source)
		ret->source = vl_strdup(vl_basename(word));
}

static int create(struct cmd_ctx *c, const struct cmd_sbom_opts *o, const char *word, char **ret, int *ret_signal,
		  struct vl_err *err)
{
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	VL_CLEANUP(img_packages_free) struct img_packages l = { 0 };
	SIF_PROVENANCE struct sif_provenance from = { 0 };
	struct img_root root;
	int r = cmd_image_path_open(c, word, &o->net, &p, &root, err);

	if (r < 0)
		return r;
	if (*p.path)
		return vl_fail(err, EINVAL, "a bill of materials is of a whole image; leave out :%s", p.path);
	if ((r = img_packages_read(&root, &l, ret_signal, err)) < 0)
		return r;
	warn_of_unread(c, p.word, &l);
	identify(p.image.fd, p.word, &from);
	const struct img_sbom s = { .name = from.source,
				    .digest = from.digest ? from.digest : from.config,
				    .builder = cmd_version(),
				    .time = cmd_now(),
				    .packages = &l };
	*ret = img_sbom_text(&s, vl_streq(o->format, FORMAT) ? IMG_SBOM_SPDX_JSON : IMG_SBOM_CYCLONEDX_JSON);
	return 0;
}

int cmd_sbom_create_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_sbom_opts *o = opts;
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	int signal = 0, r;

	(void)self, (void)argc;
	o->format = o->format ? o->format : FORMAT;
	if (!vl_streq(o->format, FORMAT) && !vl_streq(o->format, "cyclonedx-json"))
		return cmd_usage(c, "create makes spdx-json or cyclonedx-json, not '%s'", o->format);
	if (o->force && !o->attach)
		return cmd_usage(c, "--force goes with --attach");
	if ((r = create(c, o, argv[0], &text, &signal, &err)) < 0)
		return cmd_view_failed(c, r, signal, &err);
	if (!o->attach) {
		puts(text);
		return 0;
	}
	const struct sbom s = { text, strlen(text), sif_sbom_number(o->format) };
	return attach(c, argv[0], &s, o->force, &err) < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- show ---- */

int cmd_sbom_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_sbom_opts *o = opts;
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	VL_CLOSE int fd = -1;
	struct vl_err err = { 0 };
	uint32_t format;

	(void)self, (void)argc;
	if (read_format(o->format, &format, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	int r = cmd_image_open(argv[0], O_RDONLY, &fd, &img, &err);
	const struct sif_descr *d = r == 0 ? find(&img, format) : NULL;
	if (r == 0 && !d)
		r = vl_fail(&err, ENOENT, "%s has no bill of materials%s%s; %s sbom create lists its packages", argv[0],
			    format ? " of the format " : "", format ? o->format : "", c->self);
	if (r == 0)
		r = cmd_sif_print(fd, d, &err);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
