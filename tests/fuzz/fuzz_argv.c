/* Any words as a command line, read with the tables of the real commands. */
#include "fuzz.h"

#include "cmd/run.h"

#define MAX_WORDS 64

static void parse(const struct opt *opts, size_t size, char **words, int n)
{
	VL_FREE void *values = vl_alloc(size);
	char *argv[MAX_WORDS + 2];
	struct vl_err err = { 0 };
	int first = 0;

	memcpy(argv, words, ((size_t)n + 1) * sizeof *argv);
	int r = opt_parse(opts, values, n, argv, 0, NULL, &first, &err);
	if (r == 0 && (first < 1 || first > n))
		abort();
	if (r == -EINVAL && !*err.text)
		abort();
	if (r != 0 && r != -EINVAL && r != -ECANCELED)
		abort();
	opt_free(opts, values);
}

/* One word a line. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_FREE char *text = vl_strndup((const char *)data, size);
	char *words[MAX_WORDS + 2] = { (char *)"prog" };
	int n = 1;

	for (char *save, *w = strtok_r(text, "\n", &save); w && n <= MAX_WORDS; w = strtok_r(NULL, "\n", &save))
		words[n++] = w;
	parse(cmd_action_opts, sizeof(struct action_opts), words, n);
	parse(global_opts, sizeof(struct global_values), words, n);
	return 0;
}
