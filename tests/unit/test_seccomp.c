/* Seccomp profiles: what becomes of them is tried on the kernel. */
#include "check.h"

#include "rootless/rootless.h"

#include <fcntl.h>
#include <sys/capability.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static char error[4096];

/* What `try` returns under the profile, or 128 + the signal that ended it; -errno when the profile is refused. */
static int under(const char *profile, uint64_t caps, int (*try)(void))
{
	PLAN struct plan p = PLAN_INIT;
	struct vl_err err = { 0 };

	int r = ctr_seccomp_compile(profile, strlen(profile), "test", caps, false, &p.filter, &p.filter_len, &err);
	if (r < 0) {
		snprintf(error, sizeof error, "%s", err.text);
		return r;
	}
	p.seccomp = vl_strdup("test");
	pid_t pid = fork();
	if (pid == 0) {
		if (ctr_enter_seccomp(&p, &err) < 0)
			_exit(255);
		syscall(SYS_exit_group,
			try()); /* ahead of _exit() a sanitizer asks the kernel for the stacks, which the filter may refuse */
	}
	return vl_wait(pid);
}

static int make_directory(void)
{
	return syscall(SYS_mkdirat, AT_FDCWD, ".", 0755) < 0 ? errno : 0;
}

/* EEXIST (17) when nothing is forbidden */
#define RULE(rest) "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"]" rest "}]}"

TEST(a_call_is_refused_with_the_error_of_the_profile)
{
	CHECK_EQ(under(RULE(",\"action\":\"SCMP_ACT_ERRNO\""), 0, make_directory), EPERM);
	CHECK_EQ(under(RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":28"), 0, make_directory), ENOSPC);
	CHECK_EQ(under(RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"errno\":\"ENOSYS\""), 0, make_directory), ENOSYS);
	CHECK_EQ(under(RULE(",\"action\":\"SCMP_ACT_KILL_PROCESS\""), 0, make_directory), 128 + 31);
	CHECK_EQ(under(RULE(",\"action\":\"SCMP_ACT_ALLOW\""), 0, make_directory), EEXIST);
}

TEST(the_old_form_with_one_name)
{
	CHECK_EQ(under("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"name\":\"mkdirat\",\"action\":\"SCMP_"
		       "ACT_ERRNO\","
		       "\"args\":[]}]}",
		       0, make_directory),
		 EPERM);
}

TEST(calls_that_this_kernel_has_not_are_passed_over)
{
	CHECK_EQ(under("{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"no_such_call\",\"mkdirat\"],"
		       "\"action\":\"SCMP_ACT_ERRNO\"}]}",
		       0, make_directory),
		 EPERM);
}

TEST(conditions_on_capabilities)
{
#define CAPS(word) RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"" word "\":{\"caps\":[\"CAP_SYS_ADMIN\"]}")
	uint64_t admin = UINT64_C(1) << CAP_SYS_ADMIN;

	CHECK_EQ(under(CAPS("includes"), 0, make_directory), EEXIST);
	CHECK_EQ(under(CAPS("includes"), admin, make_directory), EPERM);
	CHECK_EQ(under(CAPS("excludes"), 0, make_directory), EPERM);
	CHECK_EQ(under(CAPS("excludes"), admin, make_directory), EEXIST);
}

TEST(conditions_on_the_machine)
{
#define WHEN(text) RULE(",\"action\":\"SCMP_ACT_ERRNO\"," text)
	CHECK_EQ(under(WHEN("\"includes\":{\"minKernel\":\"3.0\"}"), 0, make_directory), EPERM);
	CHECK_EQ(under(WHEN("\"includes\":{\"minKernel\":\"99.0\"}"), 0, make_directory), EEXIST);
	CHECK_EQ(under(WHEN("\"excludes\":{\"minKernel\":\"3.0\"}"), 0, make_directory), EEXIST);
	CHECK_EQ(under(WHEN("\"includes\":{\"arches\":[\"pdp11\"]}"), 0, make_directory), EEXIST);
	CHECK_EQ(under(WHEN("\"excludes\":{\"arches\":[\"pdp11\"]}"), 0, make_directory), EPERM);
	CHECK_EQ(under(WHEN("\"includes\":{\"arches\":[\"amd64\",\"arm64\",\"ppc64le\",\"s390x\",\"riscv64\"]}"), 0,
		       make_directory),
		 EPERM);
}

TEST(conditions_on_arguments)
{
#define ARG(text) RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"args\":[" text "]")
	/* argument 2 of mkdirat is 0755, 493 */
	CHECK_EQ(under(ARG("{\"index\":2,\"value\":493,\"op\":\"SCMP_CMP_EQ\"}"), 0, make_directory), EPERM);
	CHECK_EQ(under(ARG("{\"index\":2,\"value\":493,\"op\":\"SCMP_CMP_NE\"}"), 0, make_directory), EEXIST);
	CHECK_EQ(under(ARG("{\"index\":2,\"value\":493,\"op\":\"SCMP_CMP_GT\"}"), 0, make_directory), EEXIST);
	CHECK_EQ(under(ARG("{\"index\":2,\"value\":493,\"op\":\"SCMP_CMP_GE\"}"), 0, make_directory), EPERM);
	CHECK_EQ(
		under(ARG("{\"index\":2,\"value\":7,\"valueTwo\":5,\"op\":\"SCMP_CMP_MASKED_EQ\"}"), 0, make_directory),
		EPERM);
	/* two on one argument: either is enough */
	CHECK_EQ(under(ARG("{\"index\":2,\"value\":1,\"op\":\"SCMP_CMP_EQ\"},{\"index\":2,\"value\":493,\"op\":\"SCMP_"
			   "CMP_EQ\"}"),
		       0, make_directory),
		 EPERM);
}

TEST(a_list_of_what_is_allowed)
{
	CHECK_EQ(under("{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":38,\"archMap\":[{\"architecture\":"
		       "\"SCMP_ARCH_X86_64\",\"subArchitectures\":[\"SCMP_ARCH_X86\",\"SCMP_ARCH_X32\"]}],\"syscalls\":"
		       "[{\"names\":[\"exit_group\",\"exit\"],\"action\":\"SCMP_ACT_ALLOW\"}]}",
		       0, make_directory),
		 ENOSYS);
}

TEST(what_is_not_understood_is_refused)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"defaultAction\":\"SCMP_ACT_MAYBE\"}",
		"{\"defaultAction\":1}",
		"{\"defaultAction\":\"SCMP_ACT_NOTIFY\"}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":{}}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[1]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\"]}]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"action\":\"SCMP_ACT_ERRNO\"}]}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"flags\":[\"SECCOMP_FILTER_FLAG_LOG\"]}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrnoRet\":5000}",
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"defaultErrno\":\"EWHATEVER\"}",
		"{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[7],\"action\":\"SCMP_ACT_ERRNO\"}]}",
		RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":-1"),
		RULE(",\"action\":\"SCMP_ACT_ERRNO\",\"args\":{\"index\":0}"),
		ARG("1"),
		ARG("{\"index\":6,\"value\":0,\"op\":\"SCMP_CMP_EQ\"}"),
		ARG("{\"index\":-1,\"value\":0,\"op\":\"SCMP_CMP_EQ\"}"),
		ARG("{\"index\":0,\"op\":\"SCMP_CMP_EQ\"}"),
		ARG("{\"index\":0,\"value\":0}"),
		ARG("{\"index\":0,\"value\":0,\"op\":\"SCMP_CMP_SAME\"}"),
		ARG("{\"index\":0,\"value\":\"0\",\"op\":\"SCMP_CMP_EQ\"}"),
	};

	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		*error = 0;
		int r = under(bad[i], 0, make_directory);
		if (r >= 0)
			fprintf(stderr, "# taken: %s\n", bad[i]);
		CHECK(r < 0);
		CHECK(strncmp(error, "test", 4) == 0);
	}
}

TEST(words_from_the_file_do_not_reach_the_terminal_as_they_are)
{
	CHECK(under("{\"defaultAction\":\"\\u001b[2J\"}", 0, make_directory) < 0);
	CHECK(!strchr(error, 27));
}
