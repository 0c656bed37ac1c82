#include "commands.h"

#include <stdio.h>

int cmd_version_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)self, (void)opts, (void)argc, (void)argv;
	puts(c->profile == PROFILE_APPTAINER ? "1.4.5-vial" : cmd_version());
	return 0;
}
