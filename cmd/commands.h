/* The functions and option tables behind the rows of table.c, by file. */
#ifndef CMD_COMMANDS_H
#define CMD_COMMANDS_H

#include "cmd.h"

cmd_fn cmd_completion_run; /* cmd_completion.c */
cmd_fn cmd_version_run;    /* cmd_version.c */

#endif
