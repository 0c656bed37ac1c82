/* Limits: what is written into a cgroup for them, and the file of --apply-cgroups. */
#include "check.h"

#include "cmd/run.h"
#include "rootless/rootless.h"

static char *files(const struct plan_limits *l)
{
	VL_STRV struct vl_strv v = { 0 };
	VL_BUF struct vl_buf b = { 0 };

	ctr_cgroup_files(l, &v);
	vl_buf_adds(&b, "");
	for (size_t i = 0; i < v.n; i++)
		vl_buf_addf(&b, "%s%s", i ? "|" : "", v.v[i]);
	return vl_steal(&b.data);
}

static void free_limits(struct plan_limits *l)
{
	free(l->cpus);
	free(l->cpuset_cpus);
	free(l->cpuset_mems);
	vl_strv_free(&l->raw);
	vl_strv_free(&l->weights);
}

static void check_files(struct plan_limits l, const char *want)
{
	VL_FREE char *got = files(&l);

	if (strcmp(got, want))
		printf("# got  %s\n# want %s\n", got, want);
	CHECK(vl_streq(got, want));
}

TEST(each_limit_has_its_file)
{
	check_files((struct plan_limits){ 0 }, "");
	check_files((struct plan_limits){ .memory = 1 << 20 }, "memory.max=1048576");
	check_files((struct plan_limits){ .memory = 100, .memory_reservation = 50, .memory_swap = 130 },
		    "memory.max=100|memory.low=50|memory.swap.max=30");
	check_files((struct plan_limits){ .memory = 100, .memory_swap = 100 }, "memory.max=100|memory.swap.max=0");
	check_files((struct plan_limits){ .memory_swap = UINT64_MAX }, "memory.swap.max=max");
	check_files((struct plan_limits){ .pids = 7 }, "pids.max=7");
	check_files((struct plan_limits){ .cpus = (char *)"1.5" }, "cpu.max=150000 100000");
	check_files((struct plan_limits){ .cpu_shares = 2 }, "cpu.weight=1");
	check_files((struct plan_limits){ .cpu_shares = 262144 }, "cpu.weight=10000");
	check_files((struct plan_limits){ .cpuset_cpus = (char *)"0-3", .cpuset_mems = (char *)"0" },
		    "cpuset.cpus=0-3|cpuset.mems=0");
	check_files((struct plan_limits){ .blkio_weight = 10 }, "io.weight=1");
	check_files((struct plan_limits){ .blkio_weight = 1000 }, "io.weight=10000");
	char *weights[] = { (char *)"/dev/null:1000", (char *)"/no/such/device:100", NULL };
	check_files((struct plan_limits){ .weights = { weights, 2 } }, "io.weight=1:3 10000");
}

static void check_toml(const char *text, const char *want)
{
	struct plan_limits l = { 0 };
	struct vl_err err = { 0 };

	int r = cmd_limits_from_toml(text, strlen(text), "limits.toml", &l, &err);
	if (want) {
		if (r)
			printf("# %s: %s\n", text, err.text);
		CHECK(r == 0);
		check_files(l, want);
	} else {
		CHECK(r < 0);
		CHECK(strstr(err.text, "limits.toml"));
	}
	free_limits(&l);
}

TEST(a_file_as_others_write_it)
{
	check_toml("", "");
	check_toml("[memory]\nlimit = 536870912\nreservation = 268435456\nswap = -1\n",
		   "memory.max=536870912|memory.low=268435456|memory.swap.max=max");
	check_toml("[cpu]\nquota = 20000\nperiod = 50000\nshares = 2\ncpus = \"0-1\"\nmems = \"0\"\n",
		   "cpu.max=20000 50000|cpu.weight=1|cpuset.cpus=0-1|cpuset.mems=0");
	check_toml("[cpu]\nquota = 20000\n", "cpu.max=20000 100000");
	check_toml("[cpu]\nquota = -1\n", "");
	check_toml("[pids]\nlimit = -1\n", "");
	check_toml("[pids]\nlimit = 1024\n", "pids.max=1024");
	check_toml("[blockIO]\nweight = 1000\n[[blockIO.weightDevice]]\nmajor = 8\nminor = 0\nweight = 10\n"
		   "[[blockIO.throttleReadBpsDevice]]\nmajor = 8\nminor = 16\nrate = 1000\n",
		   "io.weight=8:0 1|io.max=8:16 rbps=1000|io.weight=10000");
	check_toml("[unified]\n\"memory.high\" = \"1000\"\n\"hugetlb.2MB.max\" = \"0\"\n",
		   "memory.high=1000|hugetlb.2MB.max=0");
	check_toml("[[hugepageLimits]]\npageSize = \"2MB\"\nlimit = 9\n", "hugetlb.2MB.max=9");
}

TEST(what_cannot_be_kept_is_refused)
{
	static const char *const bad[] = {
		"[memory]\nlimit = \"1g\"\n",
		"[memory]\nlimit = -2\n",
		"[memory]\nswappiness = 10\n",
		"[memory]\nkernel = 10\n",
		"[cpu]\nrealtimeRuntime = 10\n",
		"[cpu]\ncpus = 3\n",
		"[cpu]\ncpus = \"a\"\n",
		"[pids]\nlimits = 3\n",
		"[devices]\nallow = true\n",
		"memory = 3\n",
		"[unified]\n\"../memory.max\" = \"1\"\n",
		"[unified]\n\"/etc/x.y\" = \"1\"\n",
		"[unified]\n\"cgroup.procs\" = \"0\"\n",
		"[unified]\n\"memory\" = \"0\"\n",
		"[unified]\n\"memory.max\" = 3\n",
		"[blockIO]\nweight = 5000\n",
		"[blockIO]\nthrottleReadBpsDevice = 3\n",
		"[[blockIO.throttleReadBpsDevice]]\nmajor = 8\n",
		"[[hugepageLimits]]\npageSize = \"../x\"\nlimit = 9\n",
		"[",
	};

	for (size_t i = 0; i < VL_COUNT(bad); i++)
		check_toml(bad[i], NULL);
}
