/* One row per command. Compiled twice: each program knows every name and summary, and the
 * options and functions of its own commands. */
#include "commands.h"

#ifdef VIAL_IMAGE
#define RUN(o, size, fn) .opts = NULL, .opts_size = 0, .run = NULL
#define IMAGE(o, size, fn) .image = true, .opts = o, .opts_size = size, .run = fn
#else
#define RUN(o, size, fn) .opts = o, .opts_size = size, .run = fn
#define IMAGE(o, size, fn) .image = true, .opts = NULL, .opts_size = 0, .run = NULL
#endif

/* a row is read as a row: */
/* clang-format off */
const struct cmd commands[] = {
	{ "completion", "bash|zsh|fish", "Print a completion script for a shell", NULL,
	  "  source <(vial completion bash)\n",
	  .min_args = 1, .max_args = 1, RUN(NULL, 0, cmd_completion_run) },
	{ "version", "", "Print the version number", NULL, NULL, .max_args = 0, RUN(NULL, 0, cmd_version_run) },
};
/* clang-format on */
const size_t n_commands = VL_COUNT(commands);

/* Two words first ("sif list"), then one. */
const struct cmd *cmd_find(const char *word1, const char *word2, int *ret_words)
{
	VL_FREE char *both = vl_asprintf("%s %s", word1, word2 ? word2 : "");

	for (int words = 2; words >= 1; words--)
		for (size_t i = 0; i < n_commands; i++)
			if (vl_streq(commands[i].name, words == 2 ? both : word1)) {
				*ret_words = words;
				return &commands[i];
			}
	return NULL;
}
