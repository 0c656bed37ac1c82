/* A small harness: a test is TEST(name) { ... }, a file of them is a program.
 *
 * Each test runs in a child of its own, so a crash or a hang is one failed test and nothing
 * it leaves behind (cwd, descriptors, environment) reaches the next. Output is TAP. There is
 * no list to keep: TEST enters itself. `PROGRAM name` runs that test alone, without a child,
 * which is what a debugger wants.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Far above what any test takes; a sanitizer on a loaded machine is slow. */
#define CHECK_SECONDS 300

static struct {
	const char *name;
	void (*run)(void);
} check_tests[256];
static size_t check_n;

#define TEST(t)                                                                                                        \
	static void test_##t(void);                                                                                    \
	__attribute__((constructor)) static void check_enter_##t(void)                                                 \
	{                                                                                                              \
		if (check_n == sizeof check_tests / sizeof *check_tests)                                               \
			abort();                                                                                       \
		check_tests[check_n].name = #t;                                                                        \
		check_tests[check_n++].run = test_##t;                                                                 \
	}                                                                                                              \
	static void test_##t(void)

/* Ends the test: what follows would only repeat the failure. _exit, so that no leak report of
 * the unfinished work buries the message. */
#define CHECK_FAIL(...)                                                                                                \
	do {                                                                                                           \
		fprintf(stdout, "# %s:%d: ", __FILE__, __LINE__);                                                      \
		fprintf(stdout, __VA_ARGS__);                                                                          \
		fputc('\n', stdout);                                                                                   \
		fflush(stdout);                                                                                        \
		_exit(1);                                                                                              \
	} while (0)

#define CHECK(cond)                                                                                                    \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			CHECK_FAIL("not true: %s", #cond);                                                             \
	} while (0)

#define CHECK_EQ(got, want)                                                                                            \
	do {                                                                                                           \
		long long _g = (long long)(got), _w = (long long)(want);                                               \
		if (_g != _w)                                                                                          \
			CHECK_FAIL("%s is %lld, not %lld (%s)", #got, _g, _w, #want);                                  \
	} while (0)

#define CHECK_STR(got, want)                                                                                           \
	do {                                                                                                           \
		const char *_g = (got), *_w = (want);                                                                  \
		if (!_g || !_w ? _g != _w : strcmp(_g, _w) != 0)                                                       \
			CHECK_FAIL("%s is '%s', not '%s'", #got, _g ? _g : "(null)", _w ? _w : "(null)");              \
	} while (0)

/* `part` occurs in `got`: for messages, where the words around it may change. */
#define CHECK_HAS(got, part)                                                                                           \
	do {                                                                                                           \
		const char *_g = (got), *_p = (part);                                                                  \
		if (!strstr(_g, _p))                                                                                   \
			CHECK_FAIL("%s is '%s', without '%s'", #got, _g, _p);                                          \
	} while (0)

#define CHECK_MEM(got, want, n)                                                                                        \
	do {                                                                                                           \
		if (memcmp(got, want, n) != 0)                                                                         \
			CHECK_FAIL("%s differs from %s within %zu bytes", #got, #want, (size_t)(n));                   \
	} while (0)

/* The test's own empty directory, made the cwd; removed by the parent. */
static char check_dir[64];

static void check_remove_dir(void)
{
	char cmd[96];

	snprintf(cmd, sizeof cmd, "rm -rf '%s'", check_dir);
	if (*check_dir && system(cmd) != 0)
		printf("# cannot remove %s\n", check_dir);
}

static int check_one(size_t i)
{
	int status;

	strcpy(check_dir, "/tmp/vial-unit-XXXXXX");
	if (!mkdtemp(check_dir))
		*check_dir = 0;
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(CHECK_SECONDS);
		if (!*check_dir || chdir(check_dir) < 0)
			CHECK_FAIL("no directory to work in: %s", strerror(errno));
		check_tests[i].run();
		exit(0); /* exit handlers run: a leak check of a sanitizer is one of them */
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	check_remove_dir();
	if (WIFSIGNALED(status))
		printf("# killed by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
	return status;
}

int main(int argc, char **argv)
{
	int failed = 0;

	for (size_t i = 0; argc > 1 && i < check_n; i++)
		if (!strcmp(argv[1], check_tests[i].name))
			return check_tests[i].run(), 0;
	if (argc > 1) {
		fprintf(stderr, "%s: no test named %s\n", argv[0], argv[1]);
		return 2;
	}
	for (size_t i = 0; i < check_n; i++) {
		int status = check_one(i);
		failed += status != 0;
		printf("%s %zu - %s\n", status ? "not ok" : "ok", i + 1, check_tests[i].name);
	}
	printf("1..%zu\n", check_n);
	return failed != 0;
}

#endif
