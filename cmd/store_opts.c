/* Where the image store is and how registries are reached: settings that several commands share. */
#include "commands.h"

#include <stdio.h>

#define O(f) offsetof(struct store_settings, f)
/* never on a command line: environment and configuration only */
const struct opt cmd_store_settings[] = {
	{ 0, "cachedir", OPT_STR, O(given_dir), "DIR", "where images are kept (default $XDG_CACHE_HOME/vial)",
	  "CACHEDIR", 0 },
	{ 0, "site-cache", OPT_LIST, O(site), "DIR", "read-only stores that are searched too", "SITE_CACHE", 0 },
	{ 0, "cache-limit", OPT_STR, O(limit), "SIZE", "what the store may take; the longest unused goes first",
	  "CACHE_LIMIT", 0 },
	{ 0, "cache-layers", OPT_FLAG, O(layers), NULL, "keep downloaded layers (default yes)", "CACHE_LAYERS", 0 },
	{ 0, "download-concurrency", OPT_U64, O(downloads), "N", "layers at a time (default 4)", "DOWNLOAD_CONCURRENCY",
	  0 },
	{ 0, "retries", OPT_U64, O(retries), "N", "after a broken connection or a busy server (default 5; 0: none)",
	  "RETRIES", 0 },
	OPT_END,
};
#undef O

/* APPTAINER_CACHEDIR may hold Apptainer's own cache: ours is a folder of it. */
static char *store_dir(const struct store_settings *s)
{
	const char *own = getenv("VIAL_CACHEDIR"), *theirs = getenv("APPTAINER_CACHEDIR");
	const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");

	if (!theirs || !*theirs)
		theirs = getenv("SINGULARITY_CACHEDIR");
	if (s->given_dir && *s->given_dir)
		return (!own || !*own) && theirs && s->given_dir == theirs ? vl_asprintf("%s/vial", theirs)
									   : vl_strdup(s->given_dir);
	if (cache && *cache == '/')
		return vl_asprintf("%s/vial", cache);
	return home && *home == '/' ? vl_asprintf("%s/.cache/vial", home) : NULL;
}

int cmd_store_settings_get(struct cmd_ctx *c, struct store_settings *ret, struct vl_err *err)
{
	struct store_settings s = { .layers = true, .downloads = 4, .retries = 5 };
	char *argv[] = { (char *)"", NULL };
	int first, r = opt_parse(cmd_store_settings, &s, 1, argv, 0, c->config, &first, err);

	if (r == 0 && s.limit && vl_parse_size(s.limit, UINT64_MAX, &s.limit_bytes) < 0)
		r = vl_fail(err, EINVAL, "the cache limit takes a size such as 50G, not '%s'", s.limit);
	if (r == 0 && !(s.dir = store_dir(&s)))
		r = vl_fail(err, ENOENT, "there is no home directory to keep images in; set VIAL_CACHEDIR");
	if (r < 0) {
		cmd_store_settings_free(&s);
		return r;
	}
	*ret = s;
	return 0;
}

void cmd_store_settings_free(struct store_settings *s)
{
	opt_free(cmd_store_settings, s);
	vl_freep(&s->dir);
}
