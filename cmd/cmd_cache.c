#include "commands.h"

#include <stdio.h>
#include <time.h>
#include <vial/image.h>

#define DAY 86400
#define DAYS_MAX 36500 /* a hundred years: keeps the seconds in range */
#define KINDS_ALL (IMG_STORE_IMAGE | IMG_STORE_LAYER | IMG_STORE_OTHER)
#define TYPES_HELP "image, layer or all (default); Apptainer's words are understood"

#define O(f) offsetof(struct cmd_cache_opts, f)
const struct opt cmd_cache_list_opts[] = {
	{ 'v', "verbose", OPT_FLAG, O(verbose), NULL, "layers too, and whole names, digests and paths", NULL, 0 },
	{ 'T', "type", OPT_LIST, O(types), "TYPES", TYPES_HELP, NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print everything as JSON", NULL, 0 },
	{ 'a', "all", OPT_FLAG, O(verbose), NULL, "", NULL, OPT_HIDDEN },
	OPT_END,
};
const struct opt cmd_cache_clean_opts[] = {
	{ 'f', "force", OPT_FLAG, O(force), NULL, "do not ask", NULL, 0 },
	{ 'n', "dry-run", OPT_FLAG, O(dry), NULL, "tell what would go, remove nothing", NULL, 0 },
	{ 'D', "days", OPT_U64, O(days), "N", "only what was not used for N days", NULL, 0 },
	{ 'T', "type", OPT_LIST, O(types), "TYPES", TYPES_HELP, NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print what went as JSON", NULL, 0 },
	{ 'a', "all", OPT_FLAG, O(verbose), NULL, "", NULL, OPT_HIDDEN },
	OPT_END,
};
const struct opt cmd_cache_prune_opts[] = {
	{ 0, "limit", OPT_STR, O(limit), "SIZE", "bytes that may stay, as 50G (default: the configured limit)",
	  "CACHE_LIMIT", 0 },
	{ 'D', "days", OPT_U64, O(days), "N", "only what was not used for N days", NULL, 0 },
	{ 'n', "dry-run", OPT_FLAG, O(dry), NULL, "tell what would go, remove nothing", NULL, 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print what went as JSON", NULL, 0 },
	OPT_END,
};
#undef O

/* ---- shared by the three ---- */

static int read_types(const struct vl_strv *types, unsigned *ret, struct vl_err *err)
{
	static const struct {
		const char *word;
		unsigned kinds;
	} words[] = {
		{ "all", KINDS_ALL },           { "image", IMG_STORE_IMAGE },   { "layer", IMG_STORE_LAYER },
		{ "library", IMG_STORE_IMAGE }, { "oci-tmp", IMG_STORE_IMAGE }, { "oras", IMG_STORE_IMAGE },
		{ "net", IMG_STORE_IMAGE },     { "shub", IMG_STORE_IMAGE },    { "ipfs", IMG_STORE_IMAGE },
		{ "blob", IMG_STORE_LAYER },    { "oci", IMG_STORE_LAYER },
	};
	unsigned kinds = 0;

	for (size_t i = 0; i < types->n; i++) {
		size_t w = 0;
		while (w < VL_COUNT(words) && !vl_streq(words[w].word, types->v[i]))
			w++;
		if (w == VL_COUNT(words))
			return vl_fail(err, EINVAL, "--type takes image, layer or all, not '%s'", types->v[i]);
		kinds |= words[w].kinds;
	}
	*ret = kinds ? kinds : KINDS_ALL;
	return 0;
}

static const char *type_word(enum img_store_kind kind)
{
	return kind == IMG_STORE_IMAGE ? "image" : kind == IMG_STORE_LAYER ? "layer" : "other";
}

static void date(int64_t t, char ret[32])
{
	time_t when = (time_t)t;
	struct tm tm;

	if (!localtime_r(&when, &tm) || !strftime(ret, 32, "%Y-%m-%d %H:%M:%S", &tm))
		memcpy(ret, "?", 2);
}

/* What people call it: the first name without what is the same for all, else twelve digits. Returns new. */
static char *short_name(const struct img_store_item *i)
{
	const char *name = i->name, *rest, *colon;

	if (!*name) {
		const char *id = *i->digest ? i->digest : i->id;
		colon = strchr(id, ':');
		name = colon ? colon + 1 : id;
		return vl_printable(name, i->kind == IMG_STORE_OTHER ? strlen(name) : VL_MIN(strlen(name), 12u));
	}
	if ((rest = vl_prefix(name, "docker.io/library/")) || (rest = vl_prefix(name, "docker.io/")))
		name = rest;
	size_t n = strcspn(name, ",");
	const char *at = memchr(name, '@', n);
	if (at && (rest = vl_prefix(at, "@sha256:")) && rest + 12 < name + n)
		n = (size_t)(rest + 12 - name);
	return vl_printable(name, n);
}

static vl_json *item_json(const struct img_store_item *i)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "type", vl_json_new_str(type_word(i->kind)));
	vl_json_set(j, "id", vl_json_new_str(i->id));
	if (i->kind == IMG_STORE_IMAGE) {
		vl_json *names = vl_json_new_arr();
		VL_FREE char *copy = vl_strdup(i->name);
		char *save = NULL;
		for (char *n = strtok_r(copy, ",", &save); n; n = strtok_r(NULL, ",", &save))
			vl_json_add(names, vl_json_new_str(n));
		vl_json_set(j, "names", names);
		if (*i->digest)
			vl_json_set(j, "digest", vl_json_new_str(i->digest));
	}
	vl_json_set(j, "path", vl_json_new_str(i->path));
	vl_json_set(j, "size", vl_json_new_int((int64_t)i->size));
	vl_json_set(j, "created", vl_json_new_int(i->made));
	vl_json_set(j, "lastUsed", vl_json_new_int(i->used));
	vl_json_set(j, "site", vl_json_new_bool(i->site));
	return j;
}

static void print_json(const vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, true);

	puts(text);
}

static const char *plural(uint64_t n)
{
	return n == 1 ? "" : "s";
}

/* ---- cache list ---- */

struct listing {
	const struct cmd_cache_opts *o;
	unsigned kinds, shown;
	uint64_t images, image_bytes, layers, layer_bytes;
	vl_json *json;
};

static void print_row(struct listing *l, const struct img_store_item *i)
{
	VL_FREE char *name = l->o->verbose && *i->name ? vl_printable(i->name, strlen(i->name)) : short_name(i);
	VL_FREE char *path = vl_printable(i->path, strlen(i->path));
	char used[32], size[16];

	if (!l->shown++)
		printf("%-32s %-19s %-12s %-12s%s\n", "NAME", "LAST USED", "SIZE", "TYPE",
		       l->o->verbose ? " PATH" : "");
	date(i->used, used);
	vl_human_size(i->size, size);
	printf("%-32s %-19s %-12s %s%s", name, used, size, type_word(i->kind), i->site ? " (site)" : "");
	if (l->o->verbose)
		printf("%s %s", i->site ? "" : "       ", path);
	putchar('\n');
}

static bool list_item(void *arg, const struct img_store_item *i)
{
	struct listing *l = arg;

	if (!(l->kinds & i->kind))
		return true;
	if (i->kind == IMG_STORE_IMAGE) {
		l->images++;
		l->image_bytes += i->size;
	} else {
		l->layers++;
		l->layer_bytes += i->size;
	}
	if (l->json)
		vl_json_add(l->json, item_json(i));
	else if (i->kind == IMG_STORE_IMAGE || l->o->verbose || l->o->types.n)
		print_row(l, i);
	return true;
}

int cmd_cache_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_cache_opts *o = opts;
	VL_JSON vl_json *json = o->json ? vl_json_new_arr() : NULL;
	struct listing l = { .o = o, .json = json };
	struct img_store *s = NULL;
	struct vl_err err = { 0 };
	char images[16], layers[16], all[16];

	(void)self, (void)argc, (void)argv;
	if (read_types(&o->types, &l.kinds, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	if (cmd_store_open(c, &s, &err) < 0)
		return cmd_fail(c, &err);
	int r = img_store_list(s, list_item, &l, &err);
	if (r == 0 && json) {
		print_json(json);
	} else if (r == 0) {
		vl_human_size(l.image_bytes, images);
		vl_human_size(l.layer_bytes, layers);
		vl_human_size(l.image_bytes + l.layer_bytes, all);
		printf("%sThere are %llu image file%s using %s and %llu layer%s using %s of space, %s in %s\n",
		       l.shown ? "\n" : "", (unsigned long long)l.images, plural(l.images), images,
		       (unsigned long long)l.layers, plural(l.layers), layers, all, img_store_dir(s));
	}
	img_store_free(s);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- cache clean, cache prune ---- */

struct removal {
	bool quiet; /* only counts */
	bool dry;
	uint64_t n, bytes;
	vl_json *json;
};

static bool removed(void *arg, const struct img_store_item *i)
{
	struct removal *m = arg;
	char size[16];

	m->n++;
	m->bytes += i->size;
	if (m->quiet)
		return true;
	if (m->json) {
		vl_json_add(m->json, item_json(i));
		return true;
	}
	VL_FREE char *name = short_name(i);
	vl_human_size(i->size, size);
	printf("%s %s %s (%s)\n", m->dry ? "would remove" : "removed", type_word(i->kind), name, size);
	return true;
}

static int run_clean(struct img_store *s, const struct img_store_clean *how, bool json, struct vl_err *err)
{
	VL_JSON vl_json *list = json ? vl_json_new_arr() : NULL;
	struct removal m = { .dry = how->dry, .json = list };
	uint64_t bytes = 0;
	char size[16];
	int r = img_store_clean(s, how, removed, &m, &bytes, err);

	if (r < 0)
		return r;
	if (json) {
		VL_JSON vl_json *j = vl_json_new_obj();
		vl_json_set(j, "removed", vl_json_ref(list));
		vl_json_set(j, "bytes", vl_json_new_int((int64_t)bytes));
		vl_json_set(j, "dryRun", vl_json_new_bool(how->dry));
		print_json(j);
		return 0;
	}
	vl_human_size(bytes, size);
	printf("%llu object%s, %s %s\n", (unsigned long long)m.n, plural(m.n), size,
	       how->dry ? "would be freed" : "freed");
	return 0;
}

/* 1: yes. 0: no. What is asked about is what a dry run finds. */
static int ask(struct img_store *s, const struct img_store_clean *how, struct vl_err *err)
{
	struct img_store_clean dry = *how;
	struct removal m = { .quiet = true };
	uint64_t bytes = 0;
	char size[16], answer[16];
	int r;

	if (!isatty(0))
		return vl_fail(err, EINVAL,
			       "there is no terminal to ask on; use --force to remove, or --dry-run to look");
	dry.dry = true;
	if ((r = img_store_clean(s, &dry, removed, &m, &bytes, err)) < 0)
		return r;
	vl_human_size(bytes, size);
	fprintf(stderr, "remove %llu object%s, %s, from %s? [y/N] ", (unsigned long long)m.n, plural(m.n), size,
		img_store_dir(s));
	fflush(stderr);
	return fgets(answer, sizeof answer, stdin) && (*answer == 'y' || *answer == 'Y');
}

int cmd_cache_clean_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_cache_opts *o = opts;
	struct img_store_clean how = { .unused_seconds = (int64_t)VL_MIN(o->days, (uint64_t)DAYS_MAX) * DAY,
				       .dry = o->dry };
	struct img_store *s = NULL;
	struct vl_err err = { 0 };
	int r = 1;

	(void)self, (void)argc, (void)argv;
	if (read_types(&o->types, &how.kinds, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	if (cmd_store_open(c, &s, &err) < 0)
		return cmd_fail(c, &err);
	if (!o->force && !o->dry)
		r = ask(s, &how, &err);
	if (r == 1)
		r = run_clean(s, &how, o->json, &err);
	else if (r == 0)
		vl_logf(&c->log, VL_INFO, "nothing was removed");
	img_store_free(s);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

int cmd_cache_prune_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_cache_opts *o = opts;
	struct img_store_clean how = { .kinds = IMG_STORE_IMAGE | IMG_STORE_LAYER,
				       .unused_seconds = (int64_t)VL_MIN(o->days, (uint64_t)DAYS_MAX) * DAY,
				       .dry = o->dry };
	struct img_store *s = NULL;
	struct vl_err err = { 0 };

	(void)self, (void)argc, (void)argv;
	/* 0 is none, as in the configuration */
	if (o->limit && vl_parse_size(o->limit, UINT64_MAX, &how.limit) < 0)
		return cmd_usage(c, "--limit takes a size such as 50G, not '%s'", o->limit);
	if (!how.limit && !o->days)
		return cmd_usage(c, "no limit is configured; use --limit SIZE or --days N, or set VIAL_CACHE_LIMIT");
	if (cmd_store_open(c, &s, &err) < 0)
		return cmd_fail(c, &err);
	int r = run_clean(s, &how, o->json, &err);
	img_store_free(s);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
