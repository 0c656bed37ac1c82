/* The image store of the settings. A file of its own: who only asks where it is needs no store. */
#include "commands.h"

#include <vial/image.h>

int cmd_store_open(struct cmd_ctx *c, struct img_store **ret, struct vl_err *err)
{
	struct store_settings s;
	int r = cmd_store_settings_get(c, &s, err);

	if (r < 0)
		return r;
	struct img_store_opts o = { .dir = s.dir,
				    .site_dirs = (const char *const *)s.site.v,
				    .limit = s.limit_bytes,
				    .keep_layers = s.layers };
	r = img_store_open(&o, ret, err);
	cmd_store_settings_free(&s);
	return r;
}
