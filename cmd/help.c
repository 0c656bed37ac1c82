#include "cmd.h"

#include <stdio.h>

static void option_line(const struct opt *o)
{
	char left[80];

	snprintf(left, sizeof left, "%s%c%s--%s%s%s", o->shrt ? "-" : " ", o->shrt ? o->shrt : ' ',
		 o->shrt ? ", " : "  ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
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
	       "Commands:\n",
	       c->self);
	for (size_t i = 0; i < n_commands; i++)
		printf("  %-20s %s\n", commands[i].name, commands[i].summary);
	printf("\nGlobal options, before COMMAND:\n");
	for (const struct opt *o = global_opts; o->name; o++)
		if (!(o->flags & OPT_HIDDEN))
			option_line(o);
	printf("  -h, --help                     this text; after COMMAND, that command's\n"
	       "\nExamples:\n"
	       "  %s build app.sif oci-archive:app.tar\n"
	       "  %s exec --bind /data app.sif python3 train.py\n"
	       "  %s verify --key signer.pub.pem app.sif\n",
	       c->self, c->self, c->self);
}

/* ---- for machines: completion asks for words, the build asks for manual pages ----------- */

/* One "word TAB text" per line: the commands, or what may be typed after one, with what its value is as a third. */
void help_words(const struct cmd *cmd)
{
	if (!cmd) {
		for (size_t i = 0; i < n_commands; i++)
			printf("%s\t%s\n", commands[i].name, commands[i].summary);
		return;
	}
	for (const struct opt *o = cmd->opts; o && o->name; o++)
		if (!(o->flags & OPT_HIDDEN))
			printf("--%s\t%s\t%s\n", o->name, o->help, o->arg ? o->arg : "");
}

/* Text as roff takes it: no line may look like a request, and a hyphen must stay a hyphen. */
static void roff(const char *s)
{
	bool line_start = true;

	for (; *s; s++) {
		if (line_start && (*s == '.' || *s == '\''))
			fputs("\\&", stdout);
		line_start = *s == '\n';
		if (*s == '\\')
			fputs("\\e", stdout);
		else if (*s == '-')
			fputs("\\-", stdout);
		else
			putchar(*s);
	}
}

static void roff_head(const char *title, const char *name, const char *summary)
{
	printf(".TH \"%s\" 1 \"\" \"vial %s\" \"vial manual\"\n.SH NAME\n", title, cmd_version());
	roff(name);
	printf(" \\- ");
	roff(summary);
	printf("\n.SH SYNOPSIS\n.nf\n");
}

static void roff_option(const struct opt *o)
{
	printf(".TP\n\\fB");
	if (o->shrt)
		printf("\\-%c\\fR, \\fB", o->shrt);
	roff("--");
	roff(o->name);
	printf("\\fR");
	if (o->arg) {
		printf(" \\fI");
		roff(o->arg);
		printf("\\fR");
	}
	putchar('\n');
	roff(o->help);
	if (o->env)
		printf(" [%s]", o->env);
	putchar('\n');
}

static void man_command(const struct cmd *cmd)
{
	VL_FREE char *name = vl_asprintf("vial-%s", cmd->name);

	for (char *p = strchr(name, ' '); p; p = strchr(p, ' '))
		*p = '-';
	roff_head(name, name, cmd->summary);
	printf("\\fBvial %s\\fR%s ", cmd->name, cmd->opts ? " [options]" : "");
	roff(cmd->args);
	printf("\n.fi\n.SH DESCRIPTION\n");
	roff(cmd->summary);
	printf(".\n");
	if (cmd->about) {
		printf(".PP\n");
		roff(cmd->about);
		putchar('\n');
	}
	if (cmd->opts) {
		printf(".SH OPTIONS\n");
		for (const struct opt *o = cmd->opts; o->name; o++)
			if (!(o->flags & OPT_HIDDEN))
				roff_option(o);
		printf(".PP\nA word in [brackets] is the option's environment twin: VIAL_WORD, or APPTAINER_WORD.\n");
	}
	if (cmd->examples) {
		printf(".SH EXAMPLES\n.nf\n");
		roff(cmd->examples);
		printf(".fi\n");
	}
}

void help_man(const struct cmd *cmd)
{
	if (cmd) {
		man_command(cmd);
		return;
	}
	roff_head("vial", "vial", "run OCI images as signed single-file SIF images");
	printf("\\fBvial\\fR [global options] \\fICOMMAND\\fR [options] ...\n.fi\n.SH COMMANDS\n");
	for (size_t i = 0; i < n_commands; i++) {
		printf(".TP\n\\fB%s\\fR\n", commands[i].name);
		roff(commands[i].summary);
		putchar('\n');
	}
	printf(".SH \"GLOBAL OPTIONS\"\nThey stand before the command.\n");
	for (const struct opt *o = global_opts; o->name; o++)
		if (!(o->flags & OPT_HIDDEN))
			roff_option(o);
}
