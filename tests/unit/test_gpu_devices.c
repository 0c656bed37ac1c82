/* Devices of machines with GPUs, which of them a task has, and what becomes of it all in a plan. */
#include "gpu_maker.h"

#include <sched.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

/* ---- devices ------------------------------------------------------------------------------------- */

static void put_slice(unsigned minor, unsigned gi, unsigned ci, unsigned first)
{
	VL_FREE char *g = vl_asprintf("/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/access", minor, gi);
	VL_FREE char *c = vl_asprintf("/proc/driver/nvidia/capabilities/gpu%u/mig/gi%u/ci%u/access", minor, gi, ci);
	VL_FREE char *gt = vl_asprintf("DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: 1\n", first);
	VL_FREE char *ct = vl_asprintf("DeviceFileMinor: %u\nDeviceFileMode: 292\nDeviceFileModify: 1\n", first + 1);

	put_text(g, gt);
	put_text(c, ct);
}

static void put_four(void)
{
	static const char *const pci[] = { "0000:07:00.0", "0000:0F:00.0", "0000:87:00.0", "0001:01:00.0" };

	put_driver(V);
	for (unsigned i = 0; i < VL_COUNT(pci); i++)
		put_device(i, pci[i], 3 - i); /* minors in another order than addresses */
	put_slice(0, 1, 0, 12);
	put_slice(0, 2, 0, 21);
}

TEST(devices_are_counted_as_the_vendor_does)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	find(&h, &f);
	CHECK_EQ(f.n, 4);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(f.devices[i].index, i);
		CHECK_EQ(f.devices[i].minor, 3 - i);
		CHECK_EQ(f.devices[i].access, GPU_NO_NODE);
		CHECK_STR(f.devices[i].name, "NVIDIA A100-SXM4-80GB");
	}
	CHECK_STR(f.devices[1].pci, "0000:0f:00.0");
	CHECK_STR(f.devices[0].nodes.v[0], "/dev/nvidia3");
	CHECK_EQ(f.devices[3].n_slices, 2);
	CHECK_EQ(f.devices[3].slices[1].gi_minor, 21);
	CHECK_EQ(f.devices[3].slices[1].ci_minor, 22);
}

TEST(devices_are_chosen_by_number_uuid_address_and_slice)
{
	static const struct {
		const char *list;
		int want; /* bits; -1: refused */
	} rows[] = { { "all", 15 },
		     { "none", 0 },
		     { "void", 0 },
		     { "", 0 },
		     { "0", 1 },
		     { "1,3", 10 },
		     { "3,1,1", 10 },
		     { "GPU-00000002-aaaa-bbbb-cccc-dddddddddddd", 4 },
		     { "gpu-00000002-AAAA", 4 },
		     { "GPU-", -1 },
		     { "0000:0f:00.0", 2 },
		     { "3:1", 8 },
		     { "3:2", -1 },
		     { "0:0", -1 },
		     { "00000000:0F:00.0", 2 },
		     { "00000001:01:00.0", 8 },
		     { "00000002:01:00.0", -1 },
		     { "0000:0f:00.0x", -1 },
		     { "none,0", -1 },
		     { "0,void", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/0", 8 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/9/0", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/7", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/1/0/0", -1 },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd", -1 },
		     { "MIG-12345678-1234-1234-1234-123456789abc", -1 },
		     { "4", -1 },
		     { "-1", -1 },
		     { "0,7", -1 },
		     { "\033[2J", -1 } };
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	find(&h, &f);
	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		struct vl_err err = { 0 };
		bool chosen[4] = { 0 };
		int bits = 0, r = gpu_choose(&f, GPU_NVIDIA, rows[i].list, "LIST", chosen, &err);
		for (int k = 0; k < 4; k++)
			bits |= chosen[k] << k;
		if (rows[i].want < 0 ? r != -ENODEV : r != 0 || bits != rows[i].want)
			CHECK_FAIL("'%s': %d, bits %d, not %d", rows[i].list, r, bits, rows[i].want);
		CHECK(!strchr(err.text, '\033'));
	}
}

TEST(slices_come_with_their_own_nodes)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };
	GPU_EDITS struct gpu_edits e = { 0 };
	struct gpu_files none = { 0 };
	const bool chosen[] = { false, false, false, true };
	unsigned caps = 0;

	put_four();
	find(&h, &f);
	gpu_make_edits(&h, &f, GPU_NVIDIA, chosen, true, &none, &e);
	for (size_t i = 0; i < e.n_nodes; i++)
		caps += vl_streq(e.nodes[i].path, "/dev/nvidia-caps/nvidia-cap21");
	CHECK_EQ(caps, 1);
	CHECK_EQ(e.n_nodes, 1 + 4);
	CHECK_EQ(e.shut.n, 3);
}

static bool has_node(const struct gpu_edits *e, const char *path)
{
	for (size_t i = 0; i < e->n_nodes; i++)
		if (vl_streq(e->nodes[i].path, path))
			return true;
	return false;
}

static bool is_shut(const struct gpu_edits *e, const char *path)
{
	for (size_t i = 0; i < e->shut.n; i++)
		if (vl_streq(e->shut.v[i], path))
			return true;
	return false;
}

/* Slices 1/0 and 1/1 share their GPU instance's node; 2/0 has its own. */
TEST(a_chosen_slice_comes_without_the_others)
{
	static const struct {
		const char *list;
		bool gi1, ci10, ci11, gi2;
	} rows[] = { { "3:0", true, true, false, false },
		     { "3:0,3:1", true, true, true, false },
		     { "MIG-GPU-00000003-aaaa-bbbb-cccc-dddddddddddd/2/0", false, false, false, true },
		     { "3:2,3", true, true, true, true } };
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_four();
	put_slice(0, 1, 1, 30); /* the node of gi1 is 30 now */
	put_text("/proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access", "DeviceFileMinor: 13\n");
	find(&h, &f);
	CHECK_EQ(f.devices[3].n_slices, 3);
	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		const struct {
			const char *node;
			bool want;
		} nodes[] = { { "/dev/nvidia-caps/nvidia-cap30", rows[i].gi1 },
			      { "/dev/nvidia-caps/nvidia-cap13", rows[i].ci10 },
			      { "/dev/nvidia-caps/nvidia-cap31", rows[i].ci11 },
			      { "/dev/nvidia-caps/nvidia-cap21", rows[i].gi2 },
			      { "/dev/nvidia-caps/nvidia-cap22", rows[i].gi2 } };
		GPU_EDITS struct gpu_edits e = { 0 };
		struct gpu_files none = { 0 };
		struct vl_err err = { 0 };
		bool chosen[4] = { 0 };
		CHECK_EQ(gpu_choose(&f, GPU_NVIDIA, rows[i].list, "LIST", chosen, &err), 0);
		gpu_make_edits(&h, &f, GPU_NVIDIA, chosen, true, &none, &e);
		for (size_t k = 0; k < VL_COUNT(nodes); k++)
			if (has_node(&e, nodes[k].node) != nodes[k].want || is_shut(&e, nodes[k].node) == nodes[k].want)
				CHECK_FAIL("'%s': %s", rows[i].list, nodes[k].node);
	}
}

TEST(amd_devices_are_those_of_the_topology)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_text("/dev/kfd", "");
	put_text("/dev/dri/renderD128", "");
	put_text("/dev/dri/renderD129", "");
	put_text("/sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 64\nsimd_count 0\n");
	for (int i = 1; i <= 2; i++) {
		VL_FREE char *path = vl_asprintf("/sys/class/kfd/kfd/topology/nodes/%d/properties", i);
		VL_FREE char *text = vl_asprintf("cpu_cores_count 0\nsimd_count 304\nlocation_id %d\ndomain 0\n"
						 "drm_render_minor %d\nunique_id 81985529216486895\n"
						 "gfx_target_version 90402\n",
						 i << 8, 127 + i);
		put_text(path, text);
	}
	find(&h, &f);
	CHECK_EQ(f.n, 2);
	CHECK_EQ(f.devices[1].index, 1);
	CHECK_STR(f.devices[1].nodes.v[0], "/dev/dri/renderD129");
	CHECK_STR(f.devices[1].pci, "0000:02:00.0");
	CHECK_STR(f.devices[1].uuid, "GPU-0123456789abcdef");
	CHECK_STR(f.devices[1].name, "gfx942");
	CHECK_EQ(f.common[GPU_AMD].n, 1);
}

TEST(intel_and_gaudi)
{
	GPU_HOST struct gpu_host h = GPU_HOST_INIT;
	GPU_FOUND struct gpu_found f = { 0 };

	put_text("/dev/dri/renderD128", "");
	put_text("/sys/class/drm/renderD128/device/vendor", "0x8086\n");
	put_text("/sys/class/drm/renderD129/device/vendor", "0x10de\n");
	put_text("/sys/module/habanalabs/version", "1.17.0 \n");
	put_text("/dev/accel/accel0", "");
	put_text("/dev/accel/accel_controlD0", "");
	put_text("/sys/class/infiniband/hbl_0/device/infiniband_verbs/uverbs3/ibdev", "");
	put_text("/sys/class/infiniband/mlx5_0/device/infiniband_verbs/uverbs0/ibdev", "");
	find(&h, &f);
	CHECK_EQ(f.n, 2);
	CHECK_EQ(f.devices[0].vendor, GPU_INTEL);
	CHECK_EQ(f.devices[0].minor, 128);
	CHECK_EQ(f.devices[1].vendor, GPU_HABANA);
	CHECK_EQ(f.devices[1].nodes.n, 2);
	CHECK_STR(f.driver[GPU_HABANA], "1.17.0");
	CHECK_EQ(f.common[GPU_HABANA].n, 1);
	CHECK_STR(f.common[GPU_HABANA].v[0], "/dev/infiniband/uverbs3");
}

/* ---- devices of tasks ---------------------------------------------------------------------------- */

TEST(numbers_count_what_is_left)
{
	static const struct {
		const char *list, *want;
	} rows[] = { { "1", "0" },
		     { "5,1", "2,0" },
		     { "0", "-1" },
		     { "0,3,2", "1" },
		     { "3.1,5.0", "1.1,2.0" },
		     { "3,3", "1,1" },
		     { "GPU-1", "GPU-1" },
		     { "0,GPU-1", "GPU-1" },
		     { "10", "-1" },
		     { "", "" },
		     { "-1", "-1" },
		     { "1x", "1x" },
		     { "99999999999", "99999999999" } };
	static const unsigned left[] = { 1, 3, 5 };

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		VL_FREE char *now = ctr_renumber(rows[i].list, left, VL_COUNT(left));
		CHECK_STR(now, rows[i].want);
	}
}

static bool node_opens(const char *path)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_NOCTTY | O_CLOEXEC);

	return fd >= 0;
}

/* In namespaces of its own: what is shut stays shut. *now: the first of the variables that has changed. */
static int narrow(char *variable, char *other, char **now, bool *ret_zero, bool *ret_full)
{
	static const char devices[] = CTR_DEVICES
		"=ROCR_VISIBLE_DEVICES,HIP_VISIBLE_DEVICES:3,GPU-00aa=/dev/zero+/dev/none:5,GPU-00bb,MIG=/dev/full";
	char *const env[] = { variable, other, NULL };
	VL_STRV struct vl_strv changes = { 0 };
	struct vl_err err = { 0 };

	bool own = false;
	vl_strv_add(&changes, "A=1");
	vl_strv_add(&changes, devices);
	int r = ctr_narrow_devices(env, &changes, &own, &err);
	VL_BUF struct vl_buf b = { 0 };
	vl_buf_adds(&b, "");
	for (size_t i = 1; i < changes.n; i++)
		vl_buf_addf(&b, "%s%s", i > 1 ? " " : "", changes.v[i]);
	*now = vl_steal(&b.data);
	*ret_zero = node_opens("/dev/zero");
	*ret_full = node_opens("/dev/full");
	return r;
}

TEST(a_task_has_the_devices_of_its_numbers_and_no_other)
{
	static const struct {
		const char *variable, *other;
		int r; /* -ENODEV: it does not start */
		bool zero, full;
		const char *now;
	} rows[] = {
		{ "X=", "Y=", 0, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=3", "Y=", 0, true, false, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "Y=", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5,3", "Y=", 0, true, true, "ROCR_VISIBLE_DEVICES=1,0" },
		{ "ROCR_VISIBLE_DEVICES=5,7", "Y=", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "HIP_VISIBLE_DEVICES=5", 0, false, true,
		  "ROCR_VISIBLE_DEVICES=0 HIP_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=5", "HIP_VISIBLE_DEVICES=0", 0, false, true, "ROCR_VISIBLE_DEVICES=0" },
		{ "Y=", "HIP_VISIBLE_DEVICES=5", 0, false, true, "HIP_VISIBLE_DEVICES=0" },
		{ "ROCR_VISIBLE_DEVICES=GPU-00BB", "Y=", 0, false, true, "" },
		{ "ROCR_VISIBLE_DEVICES=MIG-GPU-00aa/1/0", "Y=", 0, true, false, "" },
		{ "ROCR_VISIBLE_DEVICES=MIG-1234", "Y=", 0, false, true, "" },
		{ "ROCR_VISIBLE_DEVICES=", "Y=", 0, false, false, "" },
		{ "ROCR_VISIBLE_DEVICES=NoDevFiles", "Y=", 0, false, false, "" },
		{ "ROCR_VISIBLE_DEVICES=0", "Y=", -ENODEV, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=GPU-", "Y=", -ENODEV, true, true, "" },
		{ "ROCR_VISIBLE_DEVICES=x", "Y=", -ENODEV, true, true, "" },
	};

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		pid_t pid = fork();
		if (pid == 0) {
			bool zero, full;
			char *now;
			if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) /* no mount gets out of these */
				_exit(77);                            /* a system that forbids it */
			int r = narrow((char *)rows[i].variable, (char *)rows[i].other, &now, &zero, &full);
			_exit(r == rows[i].r && zero == rows[i].zero && full == rows[i].full &&
					      vl_streq(now, rows[i].now)
				      ? 0
				      : 1);
		}
		int status;
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
			return;
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			CHECK_FAIL("%s %s", rows[i].variable, rows[i].other);
	}
}

TEST(a_damaged_list_of_devices_lets_no_task_start)
{
	static const char *const lists[] = { "CUDA_VISIBLE_DEVICES:/dev/zero", "CUDA_VISIBLE_DEVICES:x=/dev/zero",
					     ":" };

	for (size_t i = 0; i < VL_COUNT(lists); i++) {
		char *const env[] = { (char *)"CUDA_VISIBLE_DEVICES=0", NULL };
		VL_STRV struct vl_strv changes = { 0 };
		struct vl_err err = { 0 };
		bool own = false;
		vl_strv_take(&changes, vl_asprintf(CTR_DEVICES "=%s", lists[i]));
		CHECK_EQ(ctr_narrow_devices(env, &changes, &own, &err) < 0, true);
	}
}

/* ---- plans --------------------------------------------------------------------------------------- */

static const struct plan_mount *mount_on(const struct plan *p, const char *dst)
{
	for (size_t i = 0; i < p->n_mounts; i++)
		if (vl_streq(p->mounts[i].dst, dst))
			return &p->mounts[i];
	return NULL;
}

static unsigned warned;
static void warn(void *arg, const char *text)
{
	(void)arg;
	(void)text;
	warned++;
}

TEST(edits_become_mounts_and_variables)
{
	const struct vl_progress say = { .warn = warn };
	GPU_EDITS struct gpu_edits e = { 0 };
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	gpu_add_node(&e, "/dev/null", "/dev/gpu0");
	struct gpu_node *ro = gpu_add_node(&e, "/dev/zero", "/dev/gpu1");
	strncpy(ro->access, "r", sizeof ro->access - 1);
	vl_strv_add(&gpu_add_mount(&e, "/etc", "/opt/etc")->options, "ro");
	gpu_add_mount(&e, "/no/such/place", "/opt/none")->optional = true;
	gpu_add_env(&e, "A=1");
	gpu_add_env(&e, "A=2");
	gpu_add_lib_dir(&e, GPU_LIBS);
	gpu_add_lib_dir(&e, "/opt/lib");
	gpu_add_lib_dir(&e, "/opt/lib");
	gpu_add_gid(&e, 54321);
	CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), 0);
	CHECK(mount_on(&p, "/dev/gpu0")->flags & PLAN_DEVICES);
	CHECK(mount_on(&p, "/dev/gpu1")->flags & PLAN_RO);
	CHECK(mount_on(&p, "/opt/etc")->flags & PLAN_RO);
	CHECK(!mount_on(&p, "/opt/none"));
	CHECK_EQ(p.env.set.n, 1);
	CHECK_STR(p.env.set.v[0], "A=2");
	CHECK(p.env.libs);
	CHECK_STR(p.env.ld_last, "/opt/lib");
	CHECK_EQ(warned, 1);
}

TEST(edits_that_cannot_be_are_refused)
{
	static const struct {
		const char *host, *hook;
		int want;
	} rows[] = { { "/dev/none", NULL, -ENOENT },
		     { "/etc/passwd", NULL, -ENODEV },
		     { NULL, "/bin/true", -ENOTSUP } };

	for (size_t i = 0; i < VL_COUNT(rows); i++) {
		const struct vl_progress say = { 0 };
		GPU_EDITS struct gpu_edits e = { 0 };
		PLAN struct plan p = PLAN_INIT;
		struct vl_err err = { 0 };
		if (rows[i].host)
			gpu_add_node(&e, rows[i].host, "/dev/x");
		if (rows[i].hook)
			gpu_add_hook(&e, "createContainer", rows[i].hook);
		CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), rows[i].want);
	}
}

TEST(of_a_whole_dev_nothing_is_bound_again_and_others_are_shut)
{
	const struct vl_progress say = { 0 };
	GPU_EDITS struct gpu_edits e = { 0 };
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	ctr_plan_add(&p, PLAN_BIND, "/dev", "/dev", PLAN_DEVICES);
	gpu_add_node(&e, "/dev/null", "/dev/null");
	gpu_add_shut(&e, "/dev/zero");
	gpu_add_shut(&e, "/dev/no-such-gpu");
	CHECK_EQ(gpu_edits_apply(&e, &p, "--test", &say, &err), 0);
	CHECK_EQ(p.n_mounts, 2);
	CHECK(!(mount_on(&p, "/dev/zero")->flags & PLAN_DEVICES));
}
