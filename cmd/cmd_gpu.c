/* gpu list: what was found on this machine, and why the rest was not. */
#include "run.h"

#include <vial/gpu.h>

#include <stdio.h>

const struct opt cmd_gpu_list_opts[] = {
	{ 0, "json", OPT_FLAG, offsetof(struct cmd_gpu_opts, json), NULL, "print JSON", NULL, 0 },
	{ 0, "files", OPT_FLAG, offsetof(struct cmd_gpu_opts, files), NULL, "the driver's files too", NULL, 0 },
	OPT_END,
};

static const char *const access_words[] = { [GPU_OPENS] = "ok",
					    [GPU_NO_NODE] = "no node in /dev",
					    [GPU_DENIED] = "refused by a device cgroup",
					    [GPU_SHUT] = "no permission" };

/* ---- JSON, from which the text is printed -------------------------------------------------------- */

static void put_str(vl_json *j, const char *key, const char *value)
{
	if (value && *value)
		vl_json_set(j, key, vl_json_new_str(value));
}

static vl_json *list(const struct vl_strv *l)
{
	vl_json *j = vl_json_new_arr();

	for (size_t i = 0; i < l->n; i++)
		vl_json_add(j, vl_json_new_str(l->v[i]));
	return j;
}

static vl_json *device(const struct gpu_device *d)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "index", vl_json_new_int(d->index));
	put_str(j, "name", d->name);
	put_str(j, "uuid", d->uuid);
	put_str(j, "pci", d->pci);
	vl_json_set(j, "nodes", list(&d->nodes));
	put_str(j, "access", access_words[d->access]);
	if (!d->n_slices)
		return j;
	vl_json *slices = vl_json_new_arr();
	for (size_t i = 0; i < d->n_slices; i++) {
		vl_json *s = vl_json_new_obj();
		vl_json_set(s, "gi", vl_json_new_int(d->slices[i].gi));
		vl_json_set(s, "ci", vl_json_new_int(d->slices[i].ci));
		vl_json_add(slices, s);
	}
	vl_json_set(j, "mig", slices);
	return j;
}

static vl_json *files(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor)
{
	GPU_FILES struct gpu_files l = { 0 };
	vl_json *all = vl_json_new_arr();

	gpu_find_files(h, f, vendor, GPU_CAP_ALL | GPU_CAP_COMPAT32, NULL, &l);
	for (size_t i = 0; i < l.n; i++) {
		vl_json *j = vl_json_new_obj();
		put_str(j, "name", l.v[i].name);
		put_str(j, "source", l.v[i].src);
		put_str(j, "destination", l.v[i].dst);
		put_str(j, "needs", l.v[i].needs);
		put_str(j, "why", l.v[i].why);
		vl_json_add(all, j);
	}
	return all;
}

static vl_json *vendor_json(const struct gpu_host *h, const struct gpu_found *f, enum gpu_vendor vendor)
{
	vl_json *j = vl_json_new_obj(), *devices = vl_json_new_arr();

	put_str(j, "vendor", gpu_vendor_names[vendor]);
	vl_json_set(j, "loaded", vl_json_new_bool(f->driver[vendor] != NULL));
	put_str(j, "driver", f->driver[vendor]);
	if (vendor == GPU_NVIDIA && f->driver[vendor])
		put_str(j, "cuda", gpu_cuda_of_driver(f->driver[vendor]));
	for (size_t i = 0; i < f->n; i++)
		if (f->devices[i].vendor == vendor)
			vl_json_add(devices, device(&f->devices[i]));
	vl_json_set(j, "devices", devices);
	vl_json_set(j, "nodes", list(&f->common[vendor]));
	vl_json_set(j, "files", f->driver[vendor] ? files(h, f, vendor) : vl_json_new_arr());
	return j;
}

/* ---- text --------------------------------------------------------------------------------------- */

static void print_word(const char *s)
{
	VL_FREE char *safe = s ? vl_printable(s, strlen(s)) : NULL;

	printf("  %s", safe && *safe ? safe : "-");
}

static void print_list(const char *title, const vl_json *l)
{
	if (!vl_json_len(l))
		return;
	printf("  %s:", title);
	for (size_t i = 0; i < vl_json_len(l); i++)
		print_word(vl_json_string(vl_json_at(l, i)));
	putchar('\n');
}

static void print_device(const vl_json *j)
{
	const vl_json *nodes = vl_json_arr(j, "nodes");
	int64_t index = 0;

	vl_json_int(j, "index", &index);
	printf("  %lld", (long long)index);
	print_word(vl_json_len(nodes) ? vl_json_string(vl_json_at(nodes, 0)) : NULL);
	print_word(vl_json_str(j, "name"));
	print_word(vl_json_str(j, "uuid"));
	print_word(vl_json_str(j, "pci"));
	print_word(vl_json_str(j, "access"));
	if (vl_json_arr(j, "mig"))
		printf("  MIG: %zu", vl_json_len(vl_json_arr(j, "mig")));
	putchar('\n');
}

static void print_files(const vl_json *l)
{
	for (size_t i = 0; i < vl_json_len(l); i++) {
		const vl_json *j = vl_json_at(l, i);
		const char *why = vl_json_str(j, "why"), *needs = vl_json_str(j, "needs");
		fputs("  ", stdout);
		print_word(vl_json_str(j, "name"));
		print_word(vl_json_str(j, "source"));
		if (needs)
			print_word(needs);
		if (why) {
			fputs("  left out:", stdout);
			print_word(why);
		}
		putchar('\n');
	}
}

static void print_vendor(const vl_json *j, bool with_files)
{
	const char *driver = vl_json_str(j, "driver"), *cuda = vl_json_str(j, "cuda");
	const vl_json *devices = vl_json_arr(j, "devices");

	printf("%s", vl_json_str(j, "vendor"));
	if (!vl_json_is_true(vl_json_get(j, "loaded"))) {
		puts(": no driver loaded");
		return;
	}
	fputs(": driver", stdout);
	print_word(driver ? driver : "of unknown version");
	if (cuda)
		printf("  up to CUDA %s", cuda);
	printf("  devices: %zu\n", vl_json_len(devices));
	for (size_t i = 0; i < vl_json_len(devices); i++)
		print_device(vl_json_at(devices, i));
	print_list("for all", vl_json_arr(j, "nodes"));
	if (with_files)
		print_files(vl_json_arr(j, "files"));
	else
		printf("  files: %zu (--files)\n", vl_json_len(vl_json_arr(j, "files")));
}

int cmd_gpu_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_gpu_opts *o = opts;
	GPU_FOUND struct gpu_found found = { 0 };
	GPU_HOST struct gpu_host host = GPU_HOST_INIT;
	VL_JSON vl_json *all = vl_json_new_obj();
	vl_json *vendors = vl_json_new_arr();
	struct vl_err err = { 0 };

	(void)self;
	(void)argc;
	(void)argv;
	vl_json_set(all, "vendors", vendors);
	if (cmd_gpu_host(&host, &err) < 0)
		return cmd_fail(c, &err);
	gpu_find(&host, ~0u, &found);
	for (int i = 0; i < GPU_VENDORS; i++)
		vl_json_add(vendors, vendor_json(&host, &found, (enum gpu_vendor)i));
	VL_FREE char *text = o->json ? vl_json_text(all, true) : NULL;
	if (text)
		puts(text);
	for (size_t i = 0; !text && i < vl_json_len(vendors); i++)
		print_vendor(vl_json_at(vendors, i), o->files);
	return 0;
}
