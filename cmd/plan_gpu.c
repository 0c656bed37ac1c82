/* --nv, --rocm and their kin: which devices, and what of their driver comes along. A script that always says --nv must run on
 * a node without a GPU; one that needs the GPU must not believe that it has one. */
#include "run.h"

#include <vial/gpu.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
extern char **environ;

struct wish {
	enum gpu_vendor vendor;
	const char *why;  /* what asked for it: a literal */
	const char *list; /* of devices; NULL = all */
	const char *what; /* named that list */
	bool number;      /* the program's own variable, which counts what it sees */
	unsigned caps;
};
struct gpus {
	const struct making *m;
	struct gpu_host host;
	struct gpu_found found;
	struct gpu_image image;
	bool looked, known; /* at the image; it could be read */
};

int cmd_gpu_host(struct gpu_host *ret, struct vl_err *err)
{
	return gpu_host_open(getenv("VIAL_GPU_ROOT"), ret, err);
}

char *cmd_image_variable(const struct action_image *image, const char *name)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err err;

	if (!image->config || vl_json_parse(image->config, strlen(image->config), "config", &j, &err) < 0)
		return NULL;
	const vl_json *config = vl_json_obj(j, "config");
	const vl_json *env = vl_json_arr(config ? config : j, "Env");
	for (size_t i = 0; env && i < vl_json_len(env); i++) {
		const char *kv = vl_json_string(vl_json_at(env, i)), *rest = kv ? vl_prefix(kv, name) : NULL;
		if (rest && *rest == '=')
			return vl_strdup(rest + 1);
	}
	return NULL;
}

static const char *variable(const char *name)
{
	const char *v = getenv(name);

	return v && *v ? v : NULL;
}

/* ---- which devices ------------------------------------------------------------------------------ */

static bool is_slurm(void)
{
	return variable("SLURM_JOB_ID") != NULL;
}

/* What the scheduler gave, as the numbers of the host's devices; "" = none of the job's. */
static const char *slurm_list(void)
{
	const char *step = variable("SLURM_STEP_GPUS");

	if (step)
		return step;
	return ctr_given_no_devices(environ) ? "" : variable("SLURM_JOB_GPUS");
}

static bool is_numbers(const char *s)
{
	return *s && !s[strspn(s, "0123456789,")];
}

/* A device cgroup has the last word; where there is none, the scheduler's variables. Parts of devices have numbers that only
 * the driver knows. *ret_cgroup: who is in there counts only what is left to him. */
static void narrow_by_slurm(const struct gpus *g, const struct wish *w, bool *chosen, bool *ret_cgroup)
{
	const struct gpu_found *f = &g->found;
	VL_FREE bool *given = vl_alloc(f->n + 1);
	const char *list = slurm_list();
	struct vl_err none;
	bool slices = false;

	for (size_t i = 0; i < f->n; i++) {
		if (f->devices[i].vendor != w->vendor)
			continue;
		slices |= f->devices[i].n_slices > 0;
		if (f->devices[i].access != GPU_DENIED)
			continue;
		*ret_cgroup = true;
		chosen[i] = false;
	}
	if (*ret_cgroup || w->list || slices || !list)
		return;
	if (*list && (!is_numbers(list) || gpu_choose(f, w->vendor, list, "Slurm", given, &none) < 0))
		return;
	for (size_t i = 0; i < f->n; i++)
		chosen[i] &= given[i];
}

/* Variables that programs choose devices by. The first counts the machine's, the others what that leaves. */
static const char *const number_keys[GPU_VENDORS][4] = {
	[GPU_NVIDIA] = { "CUDA_VISIBLE_DEVICES" },
	[GPU_AMD] = { "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL" },
	[GPU_INTEL] = { "ZE_AFFINITY_MASK" },
	[GPU_HABANA] = { "HABANA_VISIBLE_DEVICES" },
};

/* Their numbers, as they are where only a part of the devices is. Slurm gives all of them the same list. */
static void renumber(const struct gpus *g, const struct wish *w, const bool *chosen, struct gpu_edits *e)
{
	VL_FREE unsigned *left = vl_alloc((g->found.n + 1) * sizeof *left);
	const char *const *keys = number_keys[w->vendor], *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < g->found.n; i++)
		if (chosen[i])
			left[n++] = g->found.devices[i].index;
	for (size_t i = 0; i < VL_COUNT(number_keys[0]) && keys[i]; i++) {
		const char *v = variable(keys[i]);
		if (!v || (first && !vl_streq(v, first)) || (w->what && !w->number && vl_streq(keys[i], w->what)))
			continue;
		first = v;
		VL_FREE char *now = ctr_renumber(v, left, n), *kv = vl_asprintf("%s=%s", keys[i], now);
		if (vl_streq(now, "-1") && !vl_streq(v, "-1"))
			vl_progress_warn(g->m->say, "%s: %s=%s names no device that is in the container", w->why,
					 keys[i], v);
		gpu_add_env(e, kv);
	}
}

static bool leaves_slices(const struct gpu_found *f, const bool *chosen)
{
	for (size_t i = 0; i < f->n; i++)
		for (size_t k = 0; chosen[i] && k < f->devices[i].n_slices; k++)
			if (f->devices[i].slices[k].left)
				return true;
	return false;
}

/* Tasks of a step come into one container, each with devices of its own: all of them are in it. */
static int choose(const struct gpus *g, const struct wish *w, bool *chosen, bool *ret_part, struct gpu_edits *e)
{
	const struct making *m = g->m;
	bool keep = m->p->action == PLAN_KEEP, cgroup = false;
	unsigned all = 0, some = 0;

	int r = gpu_choose(&g->found, w->vendor, w->list && !(keep && w->number) ? w->list : "all", w->what, chosen,
			   m->err);
	if (r < 0)
		return vl_wrap(m->err, "%s", w->why);
	if (is_slurm() && !keep)
		narrow_by_slurm(g, w, chosen, &cgroup);
	for (size_t i = 0; i < g->found.n; i++) {
		all += g->found.devices[i].vendor == w->vendor;
		some += chosen[i];
	}
	*ret_part = some < all || leaves_slices(&g->found, chosen);
	if (!keep && *ret_part && !cgroup)
		renumber(g, w, chosen, e);
	return 0;
}

/* ---- what is wrong with them -------------------------------------------------------------------- */

/* One line for each reason, however many devices. */
static void warn_of_nodes(const struct gpus *g, const struct wish *w, const bool *chosen)
{
	static const char *const words[] = { [GPU_NO_NODE] = "missing in /dev",
					     [GPU_DENIED] = "refused by a device cgroup",
					     [GPU_SHUT] = "not for this user, by its permissions (ls -l)" };
	static const char *const needed[] = { [GPU_NVIDIA] = "/dev/nvidia-uvm", [GPU_AMD] = "/dev/kfd" };
	bool nvidia = w->vendor == GPU_NVIDIA && !g->found.wsl, any = false;

	for (int why = GPU_NO_NODE; why <= GPU_SHUT; why++) {
		VL_BUF struct vl_buf b = { 0 };
		for (size_t i = 0; i < g->found.n; i++) {
			const struct gpu_device *d = &g->found.devices[i];
			any |= chosen[i];
			if (chosen[i] && (int)d->access == why)
				vl_buf_addf(&b, "%s%s", b.len ? ", " : "", d->nodes.n ? d->nodes.v[0] : "a node");
		}
		bool common = any && why == GPU_NO_NODE && !g->found.wsl && w->vendor <= GPU_AMD &&
			      w->caps & GPU_CAP_COMPUTE && !vl_strv_has(&g->found.common[w->vendor], needed[w->vendor]);
		if (common)
			vl_buf_addf(&b, "%s%s", b.len ? ", " : "", needed[w->vendor]);
		if (b.len)
			vl_progress_warn(g->m->say, "%s: %s: %s%s", w->why, words[why], b.data,
					 why == GPU_NO_NODE && nvidia ? "; as root: nvidia-modprobe -c 0 -u" : "");
	}
}

/* One line, however many there are. */
static void warn_of_files(const struct gpus *g, const struct wish *w, const struct gpu_files *files)
{
	VL_BUF struct vl_buf b = { 0 };
	const char *reason = NULL;
	size_t libraries = 0;

	for (size_t i = 0; i < files->n; i++) {
		const struct gpu_file *f = &files->v[i];
		libraries += f->library;
		if (!f->newer) {
			if (f->why)
				vl_progress_note(g->m->say, "%s: %s stays outside: %s", w->why, f->name, f->why);
			continue;
		}
		reason = reason ? reason : f->why;
		vl_buf_addf(&b, "%s%s", b.len ? ", " : "", f->name);
	}
	if (b.len)
		vl_progress_warn(g->m->say, "%s: %s; left out: %s", w->why, reason, b.data);
	if (w->vendor == GPU_NVIDIA && !libraries)
		vl_progress_warn(g->m->say,
				 "%s: no libraries of driver %s were found, neither in the linker's cache (ldconfig) "
				 "nor where distributions put them",
				 w->why, g->found.driver[GPU_NVIDIA]);
}

void cmd_plan_libs_dir(struct plan *p)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (vl_streq(p->mounts[i].dst, GPU_LIBS))
			return;
	if (p->writable)
		ctr_plan_add(p, PLAN_TMPFS, NULL, GPU_LIBS, PLAN_DEFAULT);
}

/* Places for files that a sandbox lacks would be made in it, and stay when the container is gone. Libraries get a directory in
 * memory; what lies elsewhere stays outside, unless the sandbox has a file there. */
static void spare_sandbox(const struct gpus *g, const struct wish *w, struct gpu_files *files)
{
	struct plan *p = g->m->p;
	VL_BUF struct vl_buf b = { 0 };
	bool libs = false;

	for (size_t i = 0; p->writable && i < files->n; i++) {
		struct gpu_file *f = &files->v[i];
		struct vl_err none;
		if (!f->dst || (f->library && (libs = true)) || ctr_plan_mount_over(p, f->dst))
			continue;
		VL_CLOSE int there = vl_open_in_root(p->image_fd, f->dst, O_PATH, 0, &none);
		if (there >= 0)
			continue;
		vl_buf_addf(&b, "%s%s", b.len ? ", " : "", f->dst);
		vl_freep(&f->dst);
		f->why = vl_strdup("the sandbox has no place for it");
	}
	if (libs)
		cmd_plan_libs_dir(p);
	if (b.len)
		vl_progress_warn(g->m->say,
				 "%s: --writable would leave empty files in the sandbox: %s; they stay outside", w->why,
				 b.data);
}

/* ---- a vendor ----------------------------------------------------------------------------------- */

static const struct gpu_image *look_at_image(struct gpus *g)
{
	const struct plan *p = g->m->p;
	const struct vmnt_image image = {
		.fd = p->image_fd, .off = p->image_off, .size = p->image_size, .name = p->image_path, .tree = *p->tree
	};
	struct vl_err err = { 0 };

	if (!g->looked) {
		g->looked = true;
		g->known = gpu_image_look(p->image, &image, &g->image, &err) == 0;
		if (!g->known)
			vl_progress_warn(g->m->say, "which libraries fit to %s is not known: %s", p->image_path,
					 err.text);
	}
	return g->known ? &g->image : NULL;
}

/* Where the control daemon of MPS listens, if it does. */
static void add_mps(const struct gpus *g, const struct wish *w, struct gpu_edits *e)
{
	const char *dir = variable("CUDA_MPS_PIPE_DIRECTORY");
	VL_FREE char *host = vl_asprintf("%s%s", g->host.root, dir ? dir : "/tmp/nvidia-mps");
	struct stat st;

	if (w->vendor == GPU_NVIDIA && w->caps & GPU_CAP_COMPUTE && (!dir || *dir == '/') && stat(host, &st) == 0 &&
	    S_ISDIR(st.st_mode) && !ctr_plan_shows(g->m->p, host))
		gpu_add_mount(e, host, dir ? dir : "/tmp/nvidia-mps")->optional = true;
}

/* For tasks that come in, each of which has some of them: see ctr_narrow_devices. */
static void tell_tasks(const struct gpus *g, const struct wish *w, const bool *chosen)
{
	struct plan *p = g->m->p;
	VL_BUF struct vl_buf b = { 0 };

	if (p->action != PLAN_KEEP)
		return;
	vl_buf_addf(&b, CTR_DEVICES "=%s", number_keys[w->vendor][0]);
	for (size_t i = 1; i < VL_COUNT(number_keys[0]) && number_keys[w->vendor][i]; i++)
		vl_buf_addf(&b, ",%s", number_keys[w->vendor][i]);
	for (size_t i = 0; i < g->found.n; i++) {
		const struct gpu_device *d = &g->found.devices[i];
		if (!chosen[i] || !d->nodes.n)
			continue;
		vl_buf_addf(&b, ":%u,%s%s", d->index, d->uuid ? d->uuid : "", d->n_slices ? ",MIG" : "");
		for (size_t k = 0; k < d->nodes.n; k++)
			vl_buf_addf(&b, "%c%s", k ? '+' : '=', d->nodes.v[k]);
	}
	for (size_t i = 0; i < p->env.set.n; i++) { /* of another vendor */
		const char *before = vl_prefix(p->env.set.v[i], CTR_DEVICES "=");
		if (!before)
			continue;
		vl_buf_addf(&b, ";%s", before);
		free(p->env.set.v[i]);
		p->env.set.v[i] = vl_steal(&b.data);
		return;
	}
	vl_strv_take(&p->env.set, vl_steal(&b.data));
}

static const char *missing_driver(enum gpu_vendor vendor)
{
	static const char *const signs[GPU_VENDORS] = { "/proc/driver/nvidia/version", "/dev/kfd", "a render node",
							"the module habanalabs" };

	return signs[vendor];
}

static int add_vendor(struct gpus *g, const struct wish *w)
{
	GPU_EDITS struct gpu_edits e = { 0 };
	GPU_FILES struct gpu_files files = { 0 };
	const struct making *m = g->m;
	VL_FREE bool *chosen = vl_alloc(g->found.n + 1);
	bool part = false;

	if (w->list && vl_streq(w->list, "void"))
		return 0;
	if (!g->found.driver[w->vendor]) {
		vl_progress_warn(m->say, "%s: this machine has no %s driver loaded (%s is missing); going on without",
				 w->why, gpu_vendor_names[w->vendor], missing_driver(w->vendor));
		return 0;
	}
	if (w->vendor == GPU_NVIDIA && g->found.tegra && !g->found.wsl)
		vl_progress_warn(m->say,
				 "%s: on a Tegra the driver is many files of its own; --device with a CDI "
				 "specification has them all",
				 w->why);
	int r = choose(g, w, chosen, &part, &e);
	if (r < 0)
		return r;
	warn_of_nodes(g, w, chosen);
	if (w->vendor != GPU_HABANA)
		gpu_find_files(&g->host, &g->found, w->vendor, w->caps, look_at_image(g), &files);
	if (w->vendor != GPU_HABANA)
		warn_of_files(g, w, &files);
	spare_sandbox(g, w, &files);
	gpu_make_edits(&g->host, &g->found, w->vendor, chosen, part, &files, &e);
	add_mps(g, w, &e);
	tell_tasks(g, w, chosen);
	return gpu_edits_apply(&e, m->p, w->why, m->say, m->err);
}

/* ---- the words ---------------------------------------------------------------------------------- */

static unsigned nvidia_caps(const struct making *m, const char *text)
{
	VL_FREE char *unknown = NULL;
	unsigned caps = gpu_caps_parse(text, &unknown);

	if (unknown)
		vl_progress_warn(m->say,
				 "NVIDIA_DRIVER_CAPABILITIES: '%s' is none of compute, compat32, display, "
				 "graphics, ngx, utility, video, all",
				 unknown);
	return caps ? caps : GPU_CAP_UTILITY;
}

/* A job has devices and the image says that it uses such: nobody need say --nv. */
static bool is_automatic(const struct making *m, const char *image_list)
{
	bool given = slurm_list() || variable("SLURM_GPUS_ON_NODE");

	return m->c->profile == PROFILE_VIAL && is_slurm() && given && image_list && *image_list &&
	       !vl_streq(image_list, "void");
}

/* --nv is all of the driver unless the user's own variables say less; --nvccli, and what nobody asked for, go by what
 * the image's say too. */
static int add_nvidia(struct gpus *g)
{
	const struct making *m = g->m;
	const struct gpu_opts *o = &m->o->gpu;
	VL_FREE char *image_list = cmd_image_variable(m->image, "NVIDIA_VISIBLE_DEVICES");
	VL_FREE char *image_caps = cmd_image_variable(m->image, "NVIDIA_DRIVER_CAPABILITIES");
	const char *list = variable("NVIDIA_VISIBLE_DEVICES"), *caps = variable("NVIDIA_DRIVER_CAPABILITIES");
	struct wish w = { .vendor = GPU_NVIDIA, .what = "NVIDIA_VISIBLE_DEVICES", .list = list };

	if (o->no_nv || (!o->nv && !o->nvccli && !is_automatic(m, image_list)))
		return 0;
	w.why = o->nv ? "--nv" : o->nvccli ? "--nvccli" : "Slurm's GPUs";
	if (!list && !o->nv && image_list && *image_list && !vl_streq(image_list, "all"))
		w.list = image_list;
	if (!caps && !o->nv)
		caps = image_caps && *image_caps ? image_caps : "compute,utility";
	w.caps = nvidia_caps(m, caps ? caps : "all") | (o->compat32 ? GPU_CAP_COMPAT32 : 0);
	gpu_find(&g->host, 1u << GPU_NVIDIA, &g->found);
	int r = add_vendor(g, &w);
	gpu_found_free(&g->found);
	return r;
}

static int add_other(struct gpus *g, enum gpu_vendor vendor, const char *why, const char *key, bool number)
{
	struct wish w = { .vendor = vendor,
			  .why = why,
			  .what = key,
			  .list = key ? variable(key) : NULL,
			  .number = number,
			  .caps = GPU_CAP_ALL };

	/* where the whole of /dev is there, the program's variable does it alone */
	if (number && !g->m->o->contain && !is_slurm())
		w.list = NULL;
	gpu_find(&g->host, 1u << vendor, &g->found);
	int r = add_vendor(g, &w);
	gpu_found_free(&g->found);
	return r;
}

int cmd_plan_gpu(const struct making *m)
{
	const struct gpu_opts *o = &m->o->gpu;
	struct gpus g = { .m = m, .host = GPU_HOST_INIT };
	bool maybe = is_slurm() && m->image->config; /* else nothing of this is looked at */

	if (!o->nv && !o->nvccli && !o->rocm && !o->intel && !o->intel_hpu && !maybe)
		return 0;
	int r = cmd_gpu_host(&g.host, m->err);
	if (r == 0)
		r = add_nvidia(&g);
	if (r == 0 && o->rocm && !o->no_rocm)
		r = add_other(&g, GPU_AMD, "--rocm", "ROCR_VISIBLE_DEVICES", true);
	if (r == 0 && o->intel)
		r = add_other(&g, GPU_INTEL, "--intel", NULL, false);
	if (r == 0 && o->intel_hpu)
		r = add_other(&g, GPU_HABANA, "--intel-hpu", "HABANA_VISIBLE_DEVICES", false);
	gpu_image_free(&g.image);
	gpu_host_close(&g.host);
	return r;
}
