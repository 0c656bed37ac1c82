/* `ls`: names in an image, as the program of that name shows them. */
#include "run.h"

#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <vial/image.h>

#define HALF_YEAR (31556952 / 2) /* seconds; older than that, the year is shown in place of the hour */

#define O(f) offsetof(struct cmd_ls_opts, f)
const struct opt cmd_ls_options[] = {
	{ 'l', "long", OPT_FLAG, O(lines), NULL, "mode, links, owner, group, size and time too", NULL, 0 },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "names that begin with a dot too", NULL, 0 },
	{ 'A', "almost-all", OPT_FLAG, O(all), NULL, "", NULL, OPT_HIDDEN },
	{ 'R', "recursive", OPT_FLAG, O(recursive), NULL, "what is in directories, all the way down", NULL, 0 },
	{ 'd', "directory", OPT_FLAG, O(directory), NULL, "directories themselves, not what is in them", NULL, 0 },
	{ 'b', "escape", OPT_FLAG, O(escape), NULL, "odd bytes of names as \\n or \\033", NULL, 0 },
	{ 0, "zero", OPT_FLAG, O(zero), NULL, "a NUL byte after each name in place of a line end; names as they are",
	  NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "a JSON array with all that is known of each", NULL, 0 },
	CMD_NET_OPTS(struct cmd_ls_opts, net),
	OPT_END,
};
#undef O

struct entry {
	size_t path, target; /* in the text; target 0 = none */
	uint64_t size;
	int64_t mtime;
	uint32_t mode, uid, gid, nlink, major, minor;
	size_t end; /* of what is below it: index */
};

struct listing {
	const struct cmd_ls_opts *o;
	enum name_style style;
	bool headings;
	uint64_t printed; /* JSON: objects */
	bool blank;       /* something was printed before */
	time_t now;
	struct vl_buf text; /* from 1 on */
	struct entry *e;
	size_t n, cap;
};

/* ---- JSON, as it comes ---- */

static const char *type_name(uint32_t mode)
{
	return S_ISDIR(mode)    ? "directory"
	       : S_ISREG(mode)  ? "file"
	       : S_ISLNK(mode)  ? "link"
	       : S_ISCHR(mode)  ? "char"
	       : S_ISBLK(mode)  ? "block"
	       : S_ISFIFO(mode) ? "fifo"
				: "socket";
}

static void print_json(struct listing *l, const struct img_item *i)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	VL_FREE char *path = vl_asprintf("/%s", i->path), *mode = vl_asprintf("%04o", i->mode & 07777);

	vl_json_set(j, "path", vl_json_new_str(path));
	vl_json_set(j, "type", vl_json_new_str(type_name(i->mode)));
	vl_json_set(j, "mode", vl_json_new_str(mode));
	vl_json_set(j, "uid", vl_json_new_int(i->uid));
	vl_json_set(j, "gid", vl_json_new_int(i->gid));
	vl_json_set(j, "nlink", vl_json_new_int(i->nlink));
	vl_json_set(j, "mtime", vl_json_new_int(i->mtime));
	if (S_ISREG(i->mode))
		vl_json_set(j, "size", vl_json_new_int((int64_t)i->size));
	if (i->target)
		vl_json_set(j, "target", vl_json_new_str(i->target));
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode)) {
		vl_json_set(j, "major", vl_json_new_int(i->major));
		vl_json_set(j, "minor", vl_json_new_int(i->minor));
	}
	if (i->n_xattrs) {
		vl_json *x = vl_json_new_obj();
		for (size_t k = 0; k < i->n_xattrs; k++) {
			VL_FREE char *value = vl_base64(i->xattrs[k].value, i->xattrs[k].len, true);
			vl_json_set(x, i->xattrs[k].key, vl_json_new_str(value));
		}
		vl_json_set(j, "xattrs", x);
	}
	VL_FREE char *text = vl_json_text(j, false);
	printf("%s\n  %s", l->printed++ ? "," : "", text);
}

/* ---- taking ---- */

static bool is_hidden(const struct listing *l, const char *path)
{
	return !l->o->all && *vl_basename(path) == '.';
}

static size_t keep(struct listing *l, const char *s)
{
	size_t at = l->text.len;

	vl_buf_add(&l->text, s, strlen(s) + 1);
	return at;
}

static int take(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct listing *l = arg;

	(void)err;
	if (l->o->json) {
		print_json(l, i);
		return 0;
	}
	if (l->n == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 256;
		l->e = vl_realloc(l->e, l->cap, sizeof *l->e);
	}
	l->e[l->n++] = (struct entry){ .path = keep(l, i->path),
				       .target = i->target ? keep(l, i->target) : 0,
				       .size = i->size,
				       .mtime = i->mtime,
				       .mode = i->mode,
				       .uid = i->uid,
				       .gid = i->gid,
				       .nlink = i->nlink,
				       .major = i->major,
				       .minor = i->minor };
	return 0;
}

/* Where what is below each folder ends: the list has folders before their content. */
static void find_ends(struct listing *l)
{
	VL_FREE size_t *open = vl_alloc((l->n + 1) * sizeof *open);
	size_t depth = 0;

	for (size_t i = 0; i < l->n; i++) {
		const char *path = l->text.data + l->e[i].path;
		for (; depth; depth--) {
			const char *dir = l->text.data + l->e[open[depth - 1]].path;
			size_t n = strlen(dir);
			if (!n || (!strncmp(path, dir, n) && path[n] == '/'))
				break;
			l->e[open[depth - 1]].end = i;
		}
		l->e[i].end = i + 1;
		if (S_ISDIR(l->e[i].mode))
			open[depth++] = i;
	}
	while (depth)
		l->e[open[--depth]].end = l->n;
}

/* ---- printing ---- */

struct widths {
	int nlink, uid, gid, size;
};

static int digits(uint64_t n)
{
	int d = 1;

	while (n >= 10) {
		n /= 10;
		d++;
	}
	return d;
}

static bool is_device(uint32_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

static void widen(struct widths *w, const struct entry *e)
{
	int size = is_device(e->mode) ? digits(e->major) + 2 + digits(e->minor) : digits(e->size);

	w->nlink = VL_MAX(w->nlink, digits(e->nlink));
	w->uid = VL_MAX(w->uid, digits(e->uid));
	w->gid = VL_MAX(w->gid, digits(e->gid));
	w->size = VL_MAX(w->size, size);
}

static void mode_text(uint32_t m, char ret[11])
{
	static const char bits[] = "rwxrwxrwx";

	ret[0] = S_ISDIR(m)    ? 'd'
		 : S_ISLNK(m)  ? 'l'
		 : S_ISCHR(m)  ? 'c'
		 : S_ISBLK(m)  ? 'b'
		 : S_ISFIFO(m) ? 'p'
		 : S_ISSOCK(m) ? 's'
			       : '-';
	for (int i = 0; i < 9; i++)
		ret[i + 1] = m >> (8 - i) & 1 ? bits[i] : '-';
	if (m & S_ISUID)
		ret[3] = m & S_IXUSR ? 's' : 'S';
	if (m & S_ISGID)
		ret[6] = m & S_IXGRP ? 's' : 'S';
	if (m & S_ISVTX)
		ret[9] = m & S_IXOTH ? 't' : 'T';
	ret[10] = 0;
}

static void print_long(const struct listing *l, const struct entry *e, const struct widths *w)
{
	time_t t = (time_t)e->mtime;
	struct tm tm = { 0 };
	char mode[11], when[32] = "", device[32];

	mode_text(e->mode, mode);
	localtime_r(&t, &tm);
	strftime(when, sizeof when, t > l->now || l->now - t > HALF_YEAR ? "%b %e  %Y" : "%b %e %H:%M", &tm);
	printf("%s %*u %-*u %-*u ", mode, w->nlink, e->nlink, w->uid, e->uid, w->gid, e->gid);
	if (is_device(e->mode)) {
		snprintf(device, sizeof device, "%u, %u", e->major, e->minor);
		printf("%*s ", w->size, device);
	} else {
		printf("%*llu ", w->size, (unsigned long long)e->size);
	}
	printf("%s ", when);
}

static void print_name(const struct listing *l, const char *name)
{
	VL_FREE char *shown = cmd_image_name(name, l->style);
	fputs(shown, stdout);
}

static void print_entry(const struct listing *l, const struct entry *e, const char *name, const struct widths *w)
{
	if (l->o->lines)
		print_long(l, e, w);
	print_name(l, name);
	if (l->o->lines && e->target) {
		fputs(" -> ", stdout);
		print_name(l, l->text.data + e->target);
	}
	putchar(l->o->zero ? 0 : '\n');
}

static void heading(struct listing *l, const char *path)
{
	VL_FREE char *name = vl_asprintf("/%s", path);

	if (l->blank)
		putchar('\n');
	print_name(l, name);
	puts(":");
}

static void print_folder(struct listing *l, size_t dir)
{
	const char *top = l->text.data + l->e[dir].path;
	struct widths w = { 0 };

	if (l->headings)
		heading(l, top);
	l->blank = true;
	for (size_t i = dir + 1; i < l->e[dir].end; i = l->e[i].end)
		if (!is_hidden(l, l->text.data + l->e[i].path))
			widen(&w, &l->e[i]);
	for (size_t i = dir + 1; i < l->e[dir].end; i = l->e[i].end) {
		const char *path = l->text.data + l->e[i].path;
		if (!is_hidden(l, path))
			print_entry(l, &l->e[i], vl_basename(path), &w);
	}
	for (size_t i = dir + 1; l->o->recursive && i < l->e[dir].end; i = l->e[i].end)
		if (S_ISDIR(l->e[i].mode) && !is_hidden(l, l->text.data + l->e[i].path))
			print_folder(l, i);
}

/* asked: the path as it was typed */
static void print(struct listing *l, const char *asked)
{
	struct widths w = { 0 };

	if (!l->n)
		return;
	find_ends(l);
	if (S_ISDIR(l->e[0].mode) && !l->o->directory) {
		print_folder(l, 0);
		return;
	}
	widen(&w, &l->e[0]);
	print_entry(l, &l->e[0], *asked ? asked : "/", &w);
	l->blank = true;
}

static int list(struct cmd_ctx *c, struct listing *l, const char *word, int *ret_signal, struct vl_err *err)
{
	IMAGE_PATH struct image_path p = { .image = ACTION_IMAGE_INIT };
	struct img_view_opts o = { .depth = l->o->directory   ? 0
					    : l->o->recursive ? UINT32_MAX
							      : 1,
				   .follow = !l->o->lines && !l->o->directory };
	const struct img_viewer v = { .item = take, .arg = l };
	int r = cmd_image_path_open(c, word, &l->o->net, &p, &o.root, err);

	if (r < 0)
		return r;
	l->n = l->text.len = 0;
	vl_buf_add(&l->text, "", 1);
	r = img_view(&o, &v, ret_signal, err);
	if (!*ret_signal)
		print(l, p.path);
	return r;
}

int cmd_ls_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_ls_opts *o = opts;
	struct listing l = { .o = o, .headings = argc > 1 || o->recursive, .now = time(NULL) };
	int status = 0, signal = 0;

	(void)self;
	l.style = o->zero ? NAME_RAW : o->escape ? NAME_ESCAPED : isatty(STDOUT_FILENO) == 1 ? NAME_SHELL : NAME_RAW;
	if (o->zero)
		l.headings = false;
	if (o->json)
		putchar('[');
	for (int i = 0; i < argc && !signal; i++) {
		struct vl_err err = { 0 };
		int r = list(c, &l, argv[i], &signal, &err);
		if (r < 0)
			status = cmd_view_failed(c, r, signal, &err);
	}
	if (o->json)
		puts(l.printed ? "\n]" : "]");
	vl_buf_free(&l.text);
	free(l.e);
	return status;
}
