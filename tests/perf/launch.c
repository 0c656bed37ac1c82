/* Starts a program and prints how long it took to end, in nanoseconds: `launch PROGRAM ARG...`
 *
 * A process this small starts another in next to no time, whatever the size of the bench that asks. Its own
 * start is not counted. The program's output goes nowhere. */
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv)
{
	posix_spawn_file_actions_t quiet;
	pid_t pid;
	int status = 0;

	if (argc < 2 || posix_spawn_file_actions_init(&quiet) != 0 ||
	    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0) != 0)
		return 2;
	long long start = now();
	if (posix_spawnp(&pid, argv[1], &quiet, NULL, argv + 1, environ) != 0 || waitpid(pid, &status, 0) != pid)
		return 127;
	long long end = now();
	posix_spawn_file_actions_destroy(&quiet);
	printf("%lld\n", end - start);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
