#include "check.h"

#include "rootless/rootless.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static void put(const char *path, const char *text)
{
	VL_FREE char *dir = vl_strdup(path);

	for (char *p = dir; (p = strchr(p, '/')); *p++ = '/') {
		*p = 0;
		mkdir(dir, 0755);
	}
	FILE *f = fopen(path, "we");
	CHECK(f != NULL);
	fputs(text, f);
	fclose(f);
}

TEST(the_least_limit_of_a_group_and_those_above_it_counts)
{
	put("m/memory.max", "max\n");
	put("m/a/memory.max", "1000\n");
	put("m/a/b/memory.max", "2000\n");
	put("m/a/c/memory.max", "max\n");
	put("m/a/d/memory.max", "10\n");
	CHECK_EQ(ctr_cgroup_memory("0::/a/b\n", "m"), 1000);
	CHECK_EQ(ctr_cgroup_memory("0::/a/c\n", "m"), 1000);
	CHECK_EQ(ctr_cgroup_memory("0::/a/d\n", "m"), 10);
	CHECK_EQ(ctr_cgroup_memory("0::/\n", "m"), 0);
	CHECK_EQ(ctr_cgroup_memory("0::/a/not/there", "m"), 1000);
}

TEST(version_1_has_a_hierarchy_of_its_own)
{
	put("m/memory/job/memory.limit_in_bytes", "4096\n");
	put("m/memory/memory.limit_in_bytes", "9223372036854771712\n"); /* none */
	put("m/memoryx/job/memory.limit_in_bytes", "1\n");
	CHECK_EQ(ctr_cgroup_memory("12:cpu,cpuacct:/job\n5:memory:/job\n", "m"), 4096);
	CHECK_EQ(ctr_cgroup_memory("5:hugetlb,memory:/job\n", "m"), 4096);
	CHECK_EQ(ctr_cgroup_memory("5:memoryx:/job\n", "m"), 0);
	CHECK_EQ(ctr_cgroup_memory("5:memory:/\n", "m"), 0);
}

TEST(lines_that_are_none_are_passed_over)
{
	put("m/memory.max", "77\n");
	CHECK_EQ(ctr_cgroup_memory("", "m"), 0);
	CHECK_EQ(ctr_cgroup_memory("\n\n:\nnonsense\n5:cpu:/x", "m"), 0);
	CHECK_EQ(ctr_cgroup_memory("nonsense\n0::/x\n", "m"), 77);
}

TEST(free_memory_is_what_the_kernel_can_make_free_and_swap)
{
	CHECK_EQ(ctr_meminfo_free("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:   10 kB\nSwapFree: 2 kB\n"),
		 12 << 10);
	CHECK_EQ(ctr_meminfo_free("xMemAvailable: 5 kB\nMemAvailableX: 6 kB\nMemAvailable: 7 kB"), 7 << 10);
	CHECK_EQ(ctr_meminfo_free(""), 0);
	CHECK_EQ(ctr_meminfo_free("MemAvailable"), 0);
}

TEST(what_no_machine_has_does_not_fit)
{
	struct vl_err err;

	CHECK(ctr_memory_fits(1, &err));
	CHECK(!ctr_memory_fits(1ull << 60, &err));
	CHECK_EQ(err.code, ENOMEM);
	CHECK(strstr(err.text, "memory") != NULL);
}
