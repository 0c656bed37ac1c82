/* Which image store the settings mean. */
#include "commands.h"

#include <stdio.h>
#include <vial/image.h>

/* Other programs' variable names the parent of several caches; ours is the store itself. NULL: no home. */
static char *store_dir(void)
{
	const char *own = getenv("VIAL_CACHEDIR"), *theirs = opt_getenv("CACHEDIR"), *xdg = getenv("XDG_CACHE_HOME"),
		   *home = getenv("HOME");

	if (own && *own)
		return vl_strdup(own);
	if (own) /* set to nothing: as if it was not there, but it hides the others from opt_getenv */
		theirs = getenv("APPTAINER_CACHEDIR") ? getenv("APPTAINER_CACHEDIR") : getenv("SINGULARITY_CACHEDIR");
	if (theirs && *theirs)
		return vl_asprintf("%s/vial", theirs);
	if (xdg && *xdg == '/') /* a relative one is to be ignored, says the XDG specification */
		return vl_asprintf("%s/vial", xdg);
	return home && *home == '/' ? vl_asprintf("%s/.cache/vial", home) : NULL;
}

int cmd_store_limit(uint64_t *ret, struct vl_err *err)
{
	const char *limit = opt_getenv("CACHE_LIMIT");

	*ret = 0;
	if (limit && *limit && vl_parse_size(limit, UINT64_MAX, ret) < 0)
		return vl_fail(err, EINVAL, "VIAL_CACHE_LIMIT takes a size such as 50G, not '%s'", limit);
	return 0;
}

static int keep_layers(bool *ret, struct vl_err *err)
{
	static const char *const no[] = { "no", "0", "false", "off" }, *const yes[] = { "yes", "1", "true", "on" };
	const char *v = opt_getenv("CACHE_LAYERS");

	*ret = true;
	if (!v || !*v)
		return 0;
	for (size_t i = 0; i < VL_COUNT(no); i++) {
		if (!strcasecmp(v, yes[i]))
			return 0;
		if (!strcasecmp(v, no[i]))
			return *ret = false, 0;
	}
	return vl_fail(err, EINVAL, "VIAL_CACHE_LAYERS takes yes or no, not '%s'", v);
}

int cmd_store_open(struct cmd_ctx *c, struct img_store **ret, struct vl_err *err)
{
	VL_FREE char *dir = store_dir(), *sites = NULL;
	VL_STRV struct vl_strv site_dirs = { 0 };
	struct img_store_opts o = { 0 };
	const char *tiers = opt_getenv("SITE_CACHE");
	char *save = NULL;
	int r;

	(void)c;
	if (!dir)
		return vl_fail(err, ENOENT,
			       "HOME is not set, so there is no place for the image store; set VIAL_CACHEDIR, or use "
			       "--disable-cache");
	sites = vl_strdup(tiers ? tiers : "");
	for (char *w = strtok_r(sites, ":", &save); w; w = strtok_r(NULL, ":", &save))
		vl_strv_add(&site_dirs, w);
	o.dir = dir;
	o.site_dirs = (const char *const *)site_dirs.v;
	if ((r = cmd_store_limit(&o.limit, err)) < 0 || (r = keep_layers(&o.keep_layers, err)) < 0)
		return r;
	return img_store_open(&o, ret, err);
}
