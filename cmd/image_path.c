/* IMAGE[:PATH]. Both parts may have a ':', so the rule is: PATH begins with '/', and IMAGE is the shortest that is
 * there, or a URI. */
#include "run.h"

#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

static bool exists(const char *word, size_t n)
{
	VL_FREE char *name = vl_strndup(word, n);
	struct stat st;

	return n && stat(name, &st) == 0;
}

bool cmd_image_path_split(const char *word, char **ret_image, char **ret_path)
{
	/* of a URI, where its scheme ends: "oci:/layout" has no PATH yet */
	const char *from = cmd_image_is_uri(word) ? strchr(word, ':') + 1 : word, *cut = NULL;

	if (from != word && vl_prefix(from, "//"))
		from += 2;
	for (const char *p = word; (p = strstr(p, ":/")) && !exists(word, strlen(word)); p++) {
		if (exists(word, (size_t)(p - word))) {
			cut = p;
			break;
		}
		if (!cut && p >= from)
			cut = p;
	}
	*ret_image = cut ? vl_strndup(word, (size_t)(cut - word)) : vl_strdup(word);
	*ret_path = vl_strdup(cut ? cut + 1 : "");
	return cut != NULL;
}

static void warn_of_overlays(struct cmd_ctx *c, const struct image_path *p)
{
	if (p->image.n_overlays)
		vl_logf(&c->log, VL_WARNING, "%s: its overlay is not looked into, only the image below", p->word);
}

int cmd_image_path_open(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct image_path *ret,
			struct img_root *ret_root, struct vl_err *err)
{
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	VL_FREE char *image = NULL;

	bool whole = !cmd_image_path_split(word, &image, &p.path);
	p.word = vl_printable(image, strlen(image));
	int r = cmd_read_image(c, image, net, &p.image, err);
	const char *colon = strrchr(word, ':');
	if (r == -ENOENT && whole && colon && exists(word, (size_t)(colon - word)))
		return vl_fail(err, EINVAL, "the path in an image begins with '/': %.*s:/%s", (int)(colon - word),
			       p.word, p.word + (colon - word) + 1);
	if (r < 0)
		return r;
	warn_of_overlays(c, &p);
	*ret = vl_move(&p);
	p.image = (struct action_image)ACTION_IMAGE_INIT;
	*ret_root = (struct img_root){ .name = ret->word,
				       .fd = ret->image.fd,
				       .dir = ret->image.kind == PLAN_DIRECTORY,
				       .off = ret->image.off,
				       .size = ret->image.size,
				       .path = ret->path };
	return 0;
}

void cmd_image_path_free(struct image_path *p)
{
	cmd_action_image_free(&p->image);
	vl_freep(&p->path);
	vl_freep(&p->word);
}

int cmd_view_failed(struct cmd_ctx *c, int r, int signal, const struct vl_err *err)
{
	if (r == -ECHILD) /* who fetched has said it */
		return EXIT_OWN_COMPAT;
	if (r != -EINTR || !signal)
		return cmd_fail(c, err);
	vl_logf(&c->log, VL_ERROR, "%s", err->text);
	return 128 + signal;
}

/* ---- names on a terminal ---- */

static void add_escaped(struct vl_buf *b, unsigned char c)
{
	static const char letters[] = "\a\b\t\n\v\f\r", names[] = "abtnvfr";
	const char *at = c ? strchr(letters, c) : NULL;

	if (at)
		vl_buf_addf(b, "\\%c", names[at - letters]);
	else
		vl_buf_addf(b, "\\%03o", c);
}

static char *escape(const char *s, const char *also)
{
	VL_BUF struct vl_buf b = { 0 };
	size_t n, left = strlen(s);

	for (; left; s += n, left -= n) {
		n = vl_shown_bytes(s, left);
		if (n && strchr(also, *s))
			vl_buf_adds(&b, "\\");
		if (n)
			vl_buf_add(&b, s, n);
		else
			add_escaped(&b, (unsigned char)*s);
		n = n ? n : 1;
	}
	vl_buf_adds(&b, "");
	return vl_steal(&b.data);
}

char *cmd_image_name(const char *s, enum name_style style)
{
	bool odd = false;
	size_t n;

	if (style == NAME_RAW)
		return vl_strdup(s);
	if (style == NAME_ESCAPED)
		return escape(s, "\\ ");
	for (size_t at = 0, len = strlen(s); at < len && !odd; at += n) {
		n = vl_shown_bytes(s + at, len - at);
		odd = !n;
	}
	if (odd) {
		VL_FREE char *in = escape(s, "\\'");
		return vl_asprintf("$'%s'", in);
	}
	if (*s && !strpbrk(s, " !\"#$&'()*;<=>?[\\]^`{|}~"))
		return vl_strdup(s);
	VL_BUF struct vl_buf b = { 0 };
	vl_buf_adds(&b, "'");
	for (; *s; s++)
		vl_buf_adds(&b, *s == '\'' ? "'\\''" : (char[]){ *s, 0 });
	vl_buf_adds(&b, "'");
	return vl_steal(&b.data);
}
