/* gpu check: will this image find its GPU here? What it needs, by its own words and files, against driver and devices. */
#include "doctor.h"

#include <vial/gpu.h>

#include <stdio.h>

const struct opt cmd_gpu_check_opts[] = {
	{ 0, "json", OPT_FLAG, offsetof(struct cmd_gpu_opts, json), NULL, "print JSON", NULL, 0 },
	OPT_END,
};

struct check {
	struct doctor d;
	struct gpu_host host;
	struct gpu_found found;
	struct gpu_image image;
	char *cuda;       /* what the image was made with; NULL = not known */
	const char *by;   /* how that is known */
	bool nvidia, amd; /* wanted */
};

static void say(struct check *k, enum doctor_state state, const char *what, const char *mend, char *why)
{
	cmd_doctor_say(&k->d, state, what, why, mend);
	free(why);
}

/* ---- what the image wants ------------------------------------------------------------------------ */

static void find_cuda(struct check *k)
{
	k->cuda = cmd_image_variable(&k->d.image, "CUDA_VERSION");
	k->by = "CUDA_VERSION";
	for (size_t i = 0; !k->cuda && i < k->image.cudart.n; i++) {
		const char *v = k->image.cudart.v[i];
		for (size_t n = i + 1; n < k->image.cudart.n; n++)
			if (gpu_version_cmp(k->image.cudart.v[n], v) > 0 || strlen(k->image.cudart.v[n]) > strlen(v))
				v = k->image.cudart.v[n];
		k->cuda = vl_strdup(v);
		k->by = "libcudart";
	}
}

static void find_wishes(struct check *k)
{
	VL_FREE char *require = cmd_image_variable(&k->d.image, "NVIDIA_REQUIRE_CUDA");
	VL_FREE char *visible = cmd_image_variable(&k->d.image, "NVIDIA_VISIBLE_DEVICES");

	find_cuda(k);
	k->nvidia = k->cuda || require || (visible && *visible && !vl_streq(visible, "void"));
	k->amd = k->image.rocm || gpu_image_has(&k->image, "libamdhip64.so.6") ||
		 gpu_image_has(&k->image, "libamdhip64.so.5") || gpu_image_has(&k->image, "libhsa-runtime64.so.1");
	if (k->nvidia || k->amd)
		return;
	say(k, DOCTOR_NOTE, "image", NULL,
	    vl_strdup("nothing in it says that it uses a GPU: no CUDA, no ROCm, no NVIDIA_ variables"));
	k->nvidia = k->found.driver[GPU_NVIDIA] != NULL;
	k->amd = k->found.driver[GPU_AMD] != NULL;
}

/* ---- driver and devices -------------------------------------------------------------------------- */

static void check_devices(struct check *k, enum gpu_vendor vendor)
{
	static const char *const words[] = { "opens", "its node is missing", "a device cgroup refuses it",
					     "its permissions refuse it" };
	size_t opens = 0, all = 0;

	for (size_t i = 0; i < k->found.n; i++) {
		const struct gpu_device *d = &k->found.devices[i];
		if (d->vendor != vendor)
			continue;
		all++;
		opens += d->access == GPU_OPENS;
		say(k, d->access == GPU_OPENS ? DOCTOR_OK : DOCTOR_NOTE, d->nodes.n ? d->nodes.v[0] : "device",
		    d->access == GPU_SHUT      ? "as root: add this user to the device's group (ls -l shows it)"
		    : d->access == GPU_DENIED  ? "inside a job that asked for it, it opens"
		    : d->access == GPU_NO_NODE ? "as root: nvidia-modprobe -c 0 -u"
					       : NULL,
		    vl_asprintf("%s%s%s", d->name ? d->name : "", d->name ? ": " : "", words[d->access]));
	}
	if (!opens)
		say(k, DOCTOR_PROBLEM, "devices", NULL,
		    vl_asprintf("%s", all ? "none of them opens" : "the driver knows none"));
}

static void check_nodes(struct check *k, enum gpu_vendor vendor, const char *path, const char *mend)
{
	for (size_t i = 0; i < k->found.common[vendor].n; i++)
		if (vl_streq(k->found.common[vendor].v[i], path)) {
			VL_FREE char *real = vl_asprintf("%s%s", k->host.root, path);
			bool ok = access(real, R_OK | W_OK) == 0;
			say(k, ok ? DOCTOR_OK : DOCTOR_PROBLEM, path, NULL,
			    vl_strdup(ok ? "opens" : "this user may not open it"));
			return;
		}
	say(k, DOCTOR_PROBLEM, path, mend, vl_strdup("is missing: no program finds a device without it"));
}

/* ---- libraries ----------------------------------------------------------------------------------- */

/* The host's are in /.singularity.d/libs, which the loader searches after what the image has in LD_LIBRARY_PATH and before
 * its system's directories. */
static void check_own_driver(struct check *k)
{
	VL_FREE char *dirs = cmd_image_variable(&k->d.image, "LD_LIBRARY_PATH");

	if (!gpu_image_has(&k->image, "libcuda.so.1"))
		return;
	say(k, DOCTOR_NOTE, "libcuda.so.1 of the image",
	    "remove it from the image: a driver's libraries belong to its kernel module",
	    dirs && *dirs
		    ? vl_asprintf("works with its own driver only, and is found before the host's if it is in one of "
				  "the image's LD_LIBRARY_PATH: %s",
				  dirs)
		    : vl_strdup("works with its own driver only; the host's is found before it"));
}

static void check_libraries(struct check *k)
{
	GPU_FILES struct gpu_files files = { 0 };
	VL_BUF struct vl_buf b = { 0 };
	const char *why = NULL;
	bool cuda = false;
	size_t fit = 0;

	gpu_find_files(&k->host, &k->found, GPU_NVIDIA, GPU_CAP_ALL, &k->image, &files);
	for (size_t i = 0; i < files.n; i++) {
		const struct gpu_file *f = &files.v[i];
		fit += f->library && f->dst;
		cuda |= f->dst && vl_streq(f->name, "libcuda.so.1");
		if (!f->newer)
			continue;
		why = f->why;
		vl_buf_addf(&b, "%s%s", b.len ? ", " : "", f->name);
	}
	if (b.len)
		say(k, cuda ? DOCTOR_NOTE : DOCTOR_PROBLEM, "libraries left out",
		    "an image with a newer C library has them", vl_asprintf("%s: %s", why, b.data));
	say(k, cuda ? DOCTOR_OK : DOCTOR_PROBLEM, "driver libraries", NULL,
	    cuda    ? vl_asprintf("%zu fit to the image", fit)
	    : b.len ? vl_strdup("libcuda.so.1 cannot be loaded in this image")
		    : vl_strdup("libcuda.so.1 of the running driver is nowhere on this machine"));
	check_own_driver(k);
}

/* ---- versions ------------------------------------------------------------------------------------ */

/* Libraries of a newer driver in the image, that talk to an older kernel module. */
static bool has_newer_compat(const struct check *k, const char *driver)
{
	return k->image.cuda_compat && gpu_version_cmp(k->image.cuda_compat, driver) > 0;
}

static void check_cuda(struct check *k)
{
	const char *driver = k->found.driver[GPU_NVIDIA], *has = gpu_cuda_of_driver(driver);
	const char *least = k->cuda ? gpu_driver_for_cuda(k->cuda) : NULL;
	VL_FREE char *what = vl_asprintf("CUDA %s", k->cuda ? k->cuda : "");

	if (!k->cuda || !*driver || !has || !least) {
		say(k, DOCTOR_NOTE, "CUDA", NULL,
		    vl_strdup(!k->cuda ? "the image does not say which version it needs"
				       : "which version the driver supports is not known"));
		return;
	}
	size_t major = strcspn(k->cuda, "."), minor = major + (k->cuda[major] == '.');
	VL_FREE char *release = vl_strndup(k->cuda, minor + strcspn(k->cuda + minor, "."));
	if (gpu_version_cmp(release, has) <= 0)
		say(k, DOCTOR_OK, what, NULL, vl_asprintf("%s; driver %s supports up to %s", k->by, driver, has));
	else if (gpu_version_cmp(driver, least) >= 0)
		say(k, DOCTOR_OK, what, NULL,
		    vl_asprintf("%s; newer than %s of driver %s, which runs it as one of the same major version, but "
				"compiles no PTX of it",
				k->by, has, driver));
	else if (has_newer_compat(k, driver))
		say(k, DOCTOR_NOTE, what, "--env PREPEND_LD_LIBRARY_PATH=/usr/local/cuda/compat",
		    vl_asprintf("%s; driver %s supports up to %s. The image has libraries of driver %s for that, which "
				"work with data-centre GPUs",
				k->by, driver, has, k->image.cuda_compat));
	else
		say(k, DOCTOR_PROBLEM, what, "an image made with an older CUDA, or a newer driver",
		    vl_asprintf("%s; driver %s supports up to %s, and this needs %s or newer", k->by, driver, has,
				least));
}

static void check_requirement(struct check *k)
{
	static const char name[] = "NVIDIA_REQUIRE_CUDA";
	VL_FREE char *text = cmd_image_variable(&k->d.image, name);
	VL_FREE char *off = cmd_image_variable(&k->d.image, "NVIDIA_DISABLE_REQUIRE");
	const char *driver = k->found.driver[GPU_NVIDIA];

	if (!text || (off && *off && !vl_streq(off, "0") && !vl_streq(off, "false")) ||
	    getenv("NVIDIA_DISABLE_REQUIRE"))
		return;
	int r = gpu_requirement(text, gpu_cuda_of_driver(driver), *driver ? driver : NULL, NULL, NULL);
	say(k,
	    r == 0 && !has_newer_compat(k, driver) ? DOCTOR_PROBLEM
	    : r == 1                               ? DOCTOR_OK
						   : DOCTOR_NOTE,
	    name, NULL,
	    vl_asprintf("%s: %s", text,
			r == 1   ? "holds"
			: r == 0 ? "does not hold"
				 : "cannot be told from here"));
}

static void check_nvidia(struct check *k)
{
	if (!k->found.driver[GPU_NVIDIA]) {
		say(k, DOCTOR_PROBLEM, "NVIDIA", "run it on a machine with such a GPU, for example in a job",
		    vl_strdup("the image wants CUDA, and no NVIDIA driver is loaded here"));
		return;
	}
	say(k, DOCTOR_OK, "NVIDIA driver", NULL,
	    vl_strdup(*k->found.driver[GPU_NVIDIA] ? k->found.driver[GPU_NVIDIA] : "of unknown version"));
	check_devices(k, GPU_NVIDIA);
	if (!k->found.wsl) {
		check_nodes(k, GPU_NVIDIA, "/dev/nvidiactl", "as root: nvidia-modprobe -c 0 -u");
		check_nodes(k, GPU_NVIDIA, "/dev/nvidia-uvm", "as root: nvidia-modprobe -c 0 -u");
	}
	check_libraries(k);
	check_cuda(k);
	check_requirement(k);
}

static void check_amd(struct check *k)
{
	if (!k->found.driver[GPU_AMD]) {
		say(k, DOCTOR_PROBLEM, "AMD", "run it on a machine with such a GPU, for example in a job",
		    vl_strdup("the image has ROCm, and no AMD driver is loaded here"));
		return;
	}
	say(k, DOCTOR_OK, "AMD driver", NULL,
	    vl_strdup(*k->found.driver[GPU_AMD] ? k->found.driver[GPU_AMD] : "amdgpu of the kernel"));
	check_devices(k, GPU_AMD);
	check_nodes(k, GPU_AMD, "/dev/kfd", "as root: modprobe amdgpu");
	if (k->image.rocm)
		say(k, DOCTOR_NOTE, "ROCm", NULL,
		    vl_asprintf("%s in the image; drivers work with user space of one or two years around their own",
				k->image.rocm));
}

/* ---- the command --------------------------------------------------------------------------------- */

static int look(struct check *k, const char *word, struct vl_err *err)
{
	static const struct net_opts none;
	struct action_image *i = &k->d.image;
	int r = cmd_judge_image(k->d.c, word, &none, i, err);

	if (r == 0) {
		const struct vmnt_image image = {
			.fd = i->fd, .off = i->off, .size = i->size, .name = i->path, .tree = i->tree
		};
		r = gpu_image_look(i->kind, &image, &k->image, err);
	}
	if (r == 0)
		r = cmd_gpu_host(&k->host, err);
	return r;
}

static void print_end(struct check *k)
{
	if (!k->d.lines) {
		puts(k->d.problem ? "this image cannot use a GPU here" : "this image can use a GPU here");
		return;
	}
	VL_JSON vl_json *all = vl_json_new_obj();
	vl_json_set(all, "works", vl_json_new_bool(!k->d.problem));
	vl_json_set(all, "checks", k->d.lines);
	VL_FREE char *text = vl_json_text(all, true);
	puts(text);
}

int cmd_gpu_check_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_gpu_opts *o = opts;
	struct check k = { .d = { .c = c, .image = ACTION_IMAGE_INIT }, .host = GPU_HOST_INIT };
	struct vl_err err = { 0 };

	(void)self;
	(void)argc;
	int r = look(&k, argv[0], &err);
	if (r == 0) {
		k.d.lines = o->json ? vl_json_new_arr() : NULL;
		gpu_find(&k.host, ~0u, &k.found);
		find_wishes(&k);
		if (k.nvidia)
			check_nvidia(&k);
		if (k.amd)
			check_amd(&k);
		if (!k.nvidia && !k.amd)
			say(&k, DOCTOR_PROBLEM, "GPUs", NULL, vl_strdup("no driver is loaded on this machine"));
		print_end(&k);
	}
	gpu_found_free(&k.found);
	gpu_image_free(&k.image);
	gpu_host_close(&k.host);
	cmd_action_image_free(&k.d.image);
	free(k.cuda);
	return r == 0 ? k.d.problem : r == -ECHILD ? EXIT_OWN : cmd_fail(c, &err);
}
