/* `diff`: how two images differ. */
#include "run.h"

#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

#define TROUBLE 2 /* exit status; 1 = they differ */

#define O(f) offsetof(struct cmd_diff_opts, f)
const struct opt cmd_diff_options[] = {
	{ 0, "stat", OPT_FLAG, O(stat), NULL, "only how many were added, removed and changed", NULL, 0 },
	{ 0, "no-owner", OPT_FLAG, O(no_owner), NULL, "do not compare owners: for a directory of one's own", NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "one JSON object", NULL, 0 },
	CMD_NET_OPTS(struct cmd_diff_opts, net),
	OPT_END,
};
#undef O

struct diff {
	const struct cmd_diff_opts *o;
	enum name_style style;
	uint64_t added, removed, changed;
	int64_t bytes; /* content: after less before */
};

static const struct {
	unsigned what;
	const char *name;
} aspects[] = { { IMG_DIFF_TYPE, "type" },     { IMG_DIFF_MODE, "mode" },       { IMG_DIFF_OWNER, "owner" },
		{ IMG_DIFF_SIZE, "size" },     { IMG_DIFF_CONTENT, "content" }, { IMG_DIFF_TARGET, "target" },
		{ IMG_DIFF_DEVICE, "device" }, { IMG_DIFF_XATTRS, "xattrs" } };

static const char *type_name(uint32_t mode)
{
	return S_ISDIR(mode)    ? "directory"
	       : S_ISREG(mode)  ? "file"
	       : S_ISLNK(mode)  ? "link"
	       : S_ISCHR(mode)  ? "character device"
	       : S_ISBLK(mode)  ? "block device"
	       : S_ISFIFO(mode) ? "fifo"
				: "socket";
}

static char *value_of(unsigned what, const struct img_item *i, enum name_style style)
{
	switch (what) {
	case IMG_DIFF_TYPE:
		return vl_strdup(type_name(i->mode));
	case IMG_DIFF_MODE:
		return vl_asprintf("%04o", i->mode & 07777);
	case IMG_DIFF_OWNER:
		return vl_asprintf("%u:%u", i->uid, i->gid);
	case IMG_DIFF_SIZE:
		return vl_asprintf("%llu", (unsigned long long)i->size);
	case IMG_DIFF_TARGET:
		return cmd_image_name(i->target, style);
	case IMG_DIFF_DEVICE:
		return vl_asprintf("%u:%u", i->major, i->minor);
	default:
		return NULL; /* that they differ is all there is to say */
	}
}

static vl_json *json_of(const struct img_item *i)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "type", vl_json_new_str(type_name(i->mode)));
	VL_FREE char *mode = vl_asprintf("%04o", i->mode & 07777);
	vl_json_set(j, "mode", vl_json_new_str(mode));
	vl_json_set(j, "uid", vl_json_new_int(i->uid));
	vl_json_set(j, "gid", vl_json_new_int(i->gid));
	if (S_ISREG(i->mode))
		vl_json_set(j, "size", vl_json_new_int((int64_t)i->size));
	if (i->target)
		vl_json_set(j, "target", vl_json_new_str(i->target));
	return j;
}

static void print_json(const struct diff *d, const char *path, unsigned what, const struct img_item *a,
		       const struct img_item *b)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	vl_json_set(j, "path", vl_json_new_str(path));
	vl_json_set(j, "change", vl_json_new_str(!a ? "added" : !b ? "removed" : "changed"));
	if (a && b) {
		vl_json *list = vl_json_new_arr();
		for (size_t i = 0; i < VL_COUNT(aspects); i++)
			if (what & aspects[i].what)
				vl_json_add(list, vl_json_new_str(aspects[i].name));
		vl_json_set(j, "differs", list);
	}
	if (a)
		vl_json_set(j, "before", json_of(a));
	if (b)
		vl_json_set(j, "after", json_of(b));
	VL_FREE char *text = vl_json_text(j, false);
	printf("%s\n  %s", d->added + d->removed + d->changed > 1 ? "," : "", text);
}

static void print_line(const struct diff *d, const char *path, unsigned what, const struct img_item *a,
		       const struct img_item *b)
{
	VL_FREE char *name = cmd_image_name(path, d->style);
	const char *comma = "  (";

	printf("%c %s", !a ? 'A' : !b ? 'D' : 'C', name);
	for (size_t i = 0; a && b && i < VL_COUNT(aspects); i++) {
		if (!(what & aspects[i].what))
			continue;
		VL_FREE char *x = value_of(aspects[i].what, a, d->style), *y = value_of(aspects[i].what, b, d->style);
		printf("%s%s", comma, aspects[i].name);
		if (x && y)
			printf(" %s -> %s", x, y);
		comma = ", ";
	}
	puts(a && b ? ")" : "");
}

static int take(void *arg, unsigned what, const struct img_item *a, const struct img_item *b, struct vl_err *err)
{
	struct diff *d = arg;

	(void)err;
	if (d->o->no_owner && a && b && !(what &= ~(unsigned)IMG_DIFF_OWNER))
		return 0;
	d->added += !a;
	d->removed += !b;
	d->changed += a && b;
	d->bytes += (int64_t)(b && S_ISREG(b->mode) ? b->size : 0) - (int64_t)(a && S_ISREG(a->mode) ? a->size : 0);
	const struct img_item *one = a ? a : b;
	if (d->o->stat || !one)
		return 0;
	VL_FREE char *path = vl_asprintf("/%s", one->path);
	if (d->o->json)
		print_json(d, path, what, a, b);
	else
		print_line(d, path, what, a, b);
	return 0;
}

/* The numbers; of an object they are the rest of it. */
static void print_end(const struct diff *d)
{
	if (d->o->json)
		printf("%s\"added\": %llu, \"removed\": %llu, \"changed\": %llu, \"bytes\": %lld}\n",
		       d->o->stat                           ? ""
		       : d->added + d->removed + d->changed ? "\n], "
							    : "], ",
		       (unsigned long long)d->added, (unsigned long long)d->removed, (unsigned long long)d->changed,
		       (long long)d->bytes);
	else if (d->o->stat)
		printf("%llu added, %llu removed, %llu changed, %+lld bytes\n", (unsigned long long)d->added,
		       (unsigned long long)d->removed, (unsigned long long)d->changed, (long long)d->bytes);
}

int cmd_diff_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	IMAGE_PATH struct image_path a = { .image = ACTION_IMAGE_INIT }, b = { .image = ACTION_IMAGE_INIT };
	struct diff d = { .o = opts, .style = isatty(STDOUT_FILENO) == 1 ? NAME_SHELL : NAME_RAW };
	struct img_root roots[2];
	struct vl_err err = { 0 };
	int r, signal = 0;

	(void)self, (void)argc;
	if ((r = cmd_image_path_open(c, argv[0], &d.o->net, &a, &roots[0], &err)) == 0 &&
	    (r = cmd_image_path_open(c, argv[1], &d.o->net, &b, &roots[1], &err)) == 0) {
		if (d.o->json)
			fputs(d.o->stat ? "{" : "{\"differences\": [", stdout);
		r = img_diff(roots, take, &d, &signal, &err);
	}
	if (r < 0) {
		int status = cmd_view_failed(c, r, signal, &err);
		return signal ? status : TROUBLE;
	}
	print_end(&d);
	if (fflush(stdout) != 0) {
		vl_fail_sys(&err, errno, "cannot write to standard output");
		cmd_fail(c, &err);
		return TROUBLE;
	}
	return d.added || d.removed || d.changed;
}
