/* Where the user's and the site's own files are. The site's place is not for the environment to choose. */
#include "commands.h"

#ifndef VIAL_SITE
#define VIAL_SITE "/etc/vial"
#endif

char *cmd_site_dir(const char *sub)
{
	return vl_asprintf("%s/%s", VIAL_SITE, sub);
}

char *cmd_user_dir(const char *sub)
{
	const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

	return base && *base == '/'   ? vl_asprintf("%s/vial/%s", base, sub)
	       : home && *home == '/' ? vl_asprintf("%s/.config/vial/%s", home, sub)
				      : NULL;
}
