/* gpu cdi: the devices of a vendor and what a container needs for them, as a CDI specification. */
#include "run.h"

#include <vial/gpu.h>

#include <stdio.h>

#define O(f) offsetof(struct cmd_gpu_cdi_opts, f)
const struct opt cmd_gpu_cdi_opts[] = {
	{ 0, "format", OPT_STR, O(format), "yaml|json", "form of the file (default yaml)", NULL, 0 },
	{ 'o', "output", OPT_STR, O(output), "FILE", "write it there, instead of printing it", NULL, 0 },
	{ 0, "vendor", OPT_STR, O(vendor), "NAME", "nvidia, amd, intel or habana, where there are several", NULL, 0 },
	OPT_END,
};

static const char *const kinds[GPU_VENDORS] = { [GPU_NVIDIA] = "nvidia.com/gpu",
						[GPU_AMD] = "amd.com/gpu",
						[GPU_INTEL] = "intel.com/gpu",
						[GPU_HABANA] = "habana.ai/gaudi" };
static const char *const words[GPU_VENDORS] = {
	[GPU_NVIDIA] = "nvidia", [GPU_AMD] = "amd", [GPU_INTEL] = "intel", [GPU_HABANA] = "habana"
};

static size_t count(const struct gpu_found *f, int vendor)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += f->devices[i].vendor == (enum gpu_vendor)vendor;
	return n;
}

/* The one that was named, or the only one that there is. */
static int choose_vendor(const struct gpu_found *f, const char *word, enum gpu_vendor *ret, struct vl_err *err)
{
	int found = 0, vendor = GPU_VENDORS;

	for (int i = 0; i < GPU_VENDORS; i++) {
		if (word ? !vl_streq(word, words[i]) : !count(f, i))
			continue;
		vendor = i;
		found++;
	}
	if (word && !found)
		return vl_fail(err, EINVAL, "--vendor is nvidia, amd, intel or habana, not '%s'", word);
	if (!found || !count(f, vendor))
		return vl_fail(err, ENODEV, "no %s%sdevices are found on this machine; vial gpu list tells more",
			       word ? word : "", word ? " " : "");
	if (found > 1)
		return vl_fail(err, EINVAL,
			       "there are devices of several vendors, and a specification is of one: --vendor NAME");
	*ret = (enum gpu_vendor)vendor;
	return 0;
}

/* ---- the specification ---------------------------------------------------------------------------- */

struct making_cdi {
	const struct gpu_host *host;
	const struct gpu_found *found;
	enum gpu_vendor vendor;
	struct gpu_edits common;
	struct gpu_edits *edits;     /* one for each device, and the last for all */
	struct gpu_cdi_named *names; /* by number and UUID */
	size_t n_names;
};

static void free_making(struct making_cdi *m)
{
	for (size_t i = 0; m->edits && i <= m->found->n; i++)
		gpu_edits_free(&m->edits[i]);
	for (size_t i = 0; i < m->n_names; i++)
		free((char *)m->names[i].name);
	free(m->edits);
	free(m->names);
	gpu_edits_free(&m->common);
}

static void add_name(struct making_cdi *m, char *name, const struct gpu_edits *e)
{
	m->names = vl_realloc(m->names, m->n_names + 1, sizeof *m->names);
	m->names[m->n_names++] = (struct gpu_cdi_named){ name, e };
}

/* Nodes that are there; those of no single device are said once. */
static void add_nodes(struct making_cdi *m, const struct gpu_edits *from, struct gpu_edits *to, bool common)
{
	for (size_t i = 0; i < from->n_nodes; i++)
		if (vl_strv_has(&m->found->common[m->vendor], from->nodes[i].path) == common &&
		    access(from->nodes[i].host, F_OK) == 0)
			gpu_add_node(to, from->nodes[i].host, from->nodes[i].path);
}

/* Parts of one device that the driver shows as devices have its id all of them: it names none of them. */
static bool is_shared(const struct gpu_found *f, const struct gpu_device *d)
{
	size_t n = 0;

	for (size_t i = 0; i < f->n; i++)
		n += f->devices[i].vendor == d->vendor && f->devices[i].uuid &&
		     !strcasecmp(f->devices[i].uuid, d->uuid);
	return n > 1;
}

static int add_devices(struct making_cdi *m, struct vl_err *err)
{
	VL_FREE bool *chosen = vl_alloc((m->found->n + 1) * sizeof *chosen);
	const struct gpu_files none = { 0 };
	struct gpu_edits *all;

	m->edits = vl_alloc((m->found->n + 1) * sizeof *m->edits);
	all = &m->edits[m->found->n];
	for (size_t i = 0; i < m->found->n; i++) {
		const struct gpu_device *d = &m->found->devices[i];
		GPU_EDITS struct gpu_edits e = { 0 };
		if (d->vendor != m->vendor)
			continue;
		chosen[i] = true;
		gpu_make_edits(m->host, m->found, m->vendor, chosen, false, &none, &e);
		chosen[i] = false;
		add_nodes(m, &e, &m->edits[i], false);
		add_nodes(m, &e, all, false);
		if (!m->common.n_nodes)
			add_nodes(m, &e, &m->common, true);
		if (!m->edits[i].n_nodes)
			continue;
		add_name(m, vl_asprintf("%u", d->index), &m->edits[i]);
		if (d->uuid && !is_shared(m->found, d))
			add_name(m, vl_strdup(d->uuid), &m->edits[i]);
	}
	if (!all->n_nodes)
		return vl_fail(err, ENODEV,
			       "the %s devices of this machine have no nodes in /dev; vial gpu list tells more",
			       words[m->vendor]);
	add_name(m, vl_strdup("all"), all);
	return 0;
}

static int make(struct making_cdi *m, bool yaml, char **ret, struct vl_err *err)
{
	GPU_FILES struct gpu_files files = { 0 };
	VL_FREE bool *none = vl_alloc((m->found->n + 1) * sizeof *none);

	gpu_find_files(m->host, m->found, m->vendor, GPU_CAP_ALL, NULL, &files);
	gpu_make_edits(m->host, m->found, m->vendor, none, false, &files, &m->common);
	if (m->vendor == GPU_NVIDIA) /* so that NVIDIA's own runtime does not do it once more */
		gpu_add_env(&m->common, "NVIDIA_VISIBLE_DEVICES=void");
	int r = add_devices(m, err);
	return r < 0 ? r : gpu_cdi_write(kinds[m->vendor], m->names, m->n_names, &m->common, yaml, ret, err);
}

/* ---- the command ------------------------------------------------------------------------------------ */

static int put_out(const char *path, const char *text, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;

	if (!path) {
		fputs(text, stdout);
		return 0;
	}
	int r = vl_newfile_open(&f, path, 0644, true, err);
	if (r == 0 && (r = vl_write_full(f.fd, text, strlen(text))) < 0)
		return vl_fail_sys(err, -r, "cannot write %s", path);
	return r < 0 ? r : vl_newfile_commit(&f, true, err);
}

int cmd_gpu_cdi_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_gpu_cdi_opts *o = opts;
	GPU_FOUND struct gpu_found found = { 0 };
	GPU_HOST struct gpu_host host = GPU_HOST_INIT;
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	bool json = o->format && vl_streq(o->format, "json");

	(void)self, (void)argc, (void)argv;
	if (o->format && !json && !vl_streq(o->format, "yaml"))
		return cmd_usage(c, "--format is yaml or json, not '%s'", o->format);
	if (cmd_gpu_host(&host, &err) < 0)
		return cmd_fail(c, &err);
	gpu_find(&host, ~0u, &found);
	VL_CLEANUP(free_making) struct making_cdi m = { .host = &host, .found = &found };
	if (choose_vendor(&found, o->vendor, &m.vendor, &err) < 0 || make(&m, !json, &text, &err) < 0 ||
	    put_out(o->output, text, &err) < 0)
		return cmd_fail(c, &err);
	return 0;
}
