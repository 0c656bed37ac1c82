/* Ids that are only believed in follow the kernel's rules: as root it is asked itself. */
#include "check.h"

#include "rootless/emulate.h"

#include <sys/syscall.h>

static uint32_t seed = 1;

static uint32_t random_below(uint32_t n)
{
	seed = seed * 1103515245 + 12345;
	return seed >> 16 & 0x7fff % n;
}

static uint32_t random_id(void)
{
	uint32_t r = random_below(8) % 5;
	return r == 4 ? UINT32_MAX : r;
}

static long kernel_set(bool gid, enum emu_call call, const uint32_t a[3])
{
	static const long numbers[2][3] = { { SYS_setuid, SYS_setreuid, SYS_setresuid },
					    { SYS_setgid, SYS_setregid, SYS_setresgid } };
	return syscall(numbers[gid][call], a[0], a[1], a[2]) < 0 ? -errno : 0;
}

static void one_process(void)
{
	struct emu_ids ids = { .uid = { 0 } };
	uid_t u[3];
	gid_t g[3];

	if (syscall(SYS_setresgid, 0, 0, 0) < 0)
		_exit(1);
	for (int i = 0; i < 12; i++) {
		const uint32_t a[3] = { random_id(), random_id(), random_id() };
		enum emu_call call = (enum emu_call)(random_below(4) % 3);
		bool gid = random_below(2);
		long want = kernel_set(gid, call, a);
		if (ctr_emulate_set(&ids, gid, call, a) != want)
			_exit(2);
		if (getresuid(&u[0], &u[1], &u[2]) < 0 || getresgid(&g[0], &g[1], &g[2]) < 0)
			_exit(3);
		if (memcmp(u, ids.uid, sizeof u) != 0 || memcmp(g, ids.gid, sizeof g) != 0)
			_exit(4);
	}
	_exit(0);
}

TEST(ids_change_as_the_kernel_changes_them)
{
	if (geteuid() != 0)
		return;
	for (seed = 1; seed < 400; seed++) {
		uint32_t first = seed;
		pid_t pid = fork();
		if (pid == 0)
			one_process();
		CHECK_EQ(vl_wait(pid), 0);
		seed = first;
	}
}

TEST(who_keeps_capabilities_may_change_ids_without_being_root)
{
	struct emu_ids ids = { .uid = { 5, 5, 5 } };
	const uint32_t a[3] = { 7, 7, 7 };

	CHECK_EQ(ctr_emulate_set(&ids, true, EMU_SETRESID, a), -EPERM);
	ids.keeps_caps = true;
	CHECK_EQ(ctr_emulate_set(&ids, true, EMU_SETRESID, a), 0);
	CHECK_EQ(ids.gid[1], 7);
}
