#include "cmd.h"

#include <stdio.h>

static void option_line(const struct opt *o)
{
	char left[80];

	snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->shrt ? "-" : " ", o->shrt ? o->shrt : ' ', o->shrt ? ", " : "  ",
		 o->name, o->arg ? " " : "", o->arg ? o->arg : "");
	printf("  %-30s %s%s", left, strlen(left) > 30 ? "\n                                 " : "", o->help);
	if (o->env)
		printf(" [%s]", o->env);
	putchar('\n');
}

void help_command(const struct cmd_ctx *c, const struct cmd *cmd)
{
	printf("Usage: %s %s%s%s%s\n\n%s.\n", c->self, cmd->name, cmd->opts ? " [options]" : "", *cmd->args ? " " : "",
	       cmd->args, cmd->summary);
	if (cmd->about)
		printf("\n%s\n", cmd->about);
	if (cmd->opts) {
		printf("\nOptions:\n");
		for (const struct opt *o = cmd->opts; o->name; o++)
			if (!(o->flags & OPT_HIDDEN))
				option_line(o);
		printf("\nA word in [brackets] is the option's environment twin: VIAL_WORD, or APPTAINER_WORD.\n");
	}
	if (cmd->examples)
		printf("\nExamples:\n%s", cmd->examples);
}

static bool in_group(const struct cmd *cmd, const char *word)
{
	const char *rest = vl_prefix(cmd->name, word);
	return rest && *rest == ' ';
}

void help_group(const struct cmd_ctx *c, const char *word)
{
	printf("Usage: %s %s COMMAND ...\n\n", c->self, word);
	for (size_t i = 0; i < n_commands; i++)
		if (in_group(&commands[i], word))
			printf("  %-20s %s\n", commands[i].name, commands[i].summary);
	printf("\n%s help %s COMMAND tells more.\n", c->self, word);
}

void help_all(const struct cmd_ctx *c)
{
	printf("Usage: %s [global options] COMMAND [options] ...\n\n"
	       "Runs OCI images as signed single-file SIF images, without root and without a daemon.\n\n"
	       "Commands:\n", c->self);
	for (size_t i = 0; i < n_commands; i++)
		printf("  %-20s %s\n", commands[i].name, commands[i].summary);
	printf("\nGlobal options, before COMMAND:\n"
	       "  -d, --debug        everything that happens\n"
	       "  -v, --verbose      more of what happens\n"
	       "  -q, --quiet        warnings and errors only\n"
	       "  -s, --silent       errors only\n"
	       "      --nocolor      no colour, also on a terminal\n"
	       "      --log-format F text or json\n"
	       "  -h, --help         this text; after COMMAND, that command's\n"
	       "      --version      name and version\n"
	       "\nExamples:\n"
	       "  %s build app.sif oci-archive:app.tar\n"
	       "  %s exec --bind /data app.sif python3 train.py\n"
	       "  %s verify --key signer.pub.pem app.sif\n", c->self, c->self, c->self);
}
