/* Options before the command. */
#include "cmd.h"

#ifndef VIAL_CONFIG
#define VIAL_CONFIG "/etc/vial/vial.conf"
#endif

#define O(f) offsetof(struct global_values, f)
const struct opt global_opts[] = {
	{ 'd', "debug", OPT_FLAG, O(debug), NULL, "everything that happens", "DEBUG", 0 },
	{ 'v', "verbose", OPT_FLAG, O(verbose), NULL, "more of what happens", "VERBOSE", 0 },
	{ 'q', "quiet", OPT_FLAG, O(quiet), NULL, "warnings and errors only", "QUIET", 0 },
	{ 's', "silent", OPT_FLAG, O(silent), NULL, "errors only", "SILENT", 0 },
	{ 0, "nocolor", OPT_FLAG, O(nocolor), NULL, "no colour, also on a terminal", "NOCOLOR", 0 },
	{ 0, "log-format", OPT_STR, O(log_format), "FORMAT", "text or json", "LOG_FORMAT", 0 },
	{ 'c', "config", OPT_STR, O(config), "FILE", "configuration of the site (default " VIAL_CONFIG ")", NULL, 0 },
	{ 0, "version", OPT_FLAG, O(version), NULL, "name and version", NULL, 0 },
	{ 0, "build-config", OPT_REFUSED, 0, NULL, "not supported yet; `vial config` shows the settings", NULL,
	  OPT_HIDDEN },
	OPT_END,
};
