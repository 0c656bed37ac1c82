/* Any bytes as a CDI specification, in JSON and in YAML: what is taken can be written again, and reads as the same. */
#include "fuzz.h"

#include "gpu/cdi.h"

static char *written(const struct gpu_cdi_spec *s, bool yaml)
{
	struct gpu_cdi_named *devices = vl_alloc((s->n_devices + 1) * sizeof *devices);
	struct vl_err err = { 0 };
	char *text = NULL;

	for (size_t i = 0; i < s->n_devices; i++)
		devices[i] = (struct gpu_cdi_named){ s->devices[i].name, &s->devices[i].changes.edits };
	if (gpu_cdi_write(s->kind, devices, s->n_devices, &s->changes.edits, yaml, &text, &err) < 0) {
		fprintf(stderr, "%s\n", err.text);
		abort();
	}
	free(devices);
	return text;
}

/* What is known and not kept has nothing to be written. */
static bool is_whole(const struct gpu_cdi_spec *s)
{
	bool whole = !s->changes.cannot;

	for (size_t i = 0; i < s->n_devices; i++) {
		const struct gpu_edits *e = &s->devices[i].changes.edits;
		whole &= !s->devices[i].changes.cannot &&
			 e->n_nodes + e->n_mounts + e->n_hooks + e->env.n + e->n_gids > 0;
	}
	return whole;
}

static void look(const char *text, size_t size, bool yaml)
{
	VL_CLEANUP(gpu_cdi_spec_free) struct gpu_cdi_spec s = { 0 }, again = { 0 };
	struct vl_err err = { 0 };

	if (gpu_cdi_parse(text, size, yaml, "input", &s, &err) < 0) {
		if (!strstr(err.text, "input: "))
			abort();
		return;
	}
	if (!is_whole(&s))
		return;
	VL_FREE char *first = written(&s, !yaml);
	if (gpu_cdi_parse(first, strlen(first), !yaml, "output", &again, &err) < 0)
		abort();
	VL_FREE char *second = written(&again, !yaml);
	if (!vl_streq(first, second))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	look((const char *)data, size, true);
	look((const char *)data, size, false);
	return 0;
}
