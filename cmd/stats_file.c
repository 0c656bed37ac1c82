/* The file of --stats. */
#include "commands.h"

#include <fcntl.h>

/* Whoever writes the line can write and nothing else, and waits for nobody: so it gets an open file of its own also of
 * standard error. A socket has no second one. */
static int open_it(const char *word)
{
	bool err = vl_streq(word, "-");
	int flags = O_WRONLY | O_APPEND | O_NOCTTY | O_NONBLOCK | (err ? 0 : O_CREAT);
	int fd = open(err ? "/proc/self/fd/2" : word, flags | O_CLOEXEC, 0666);

	return fd < 0 && err ? fcntl(2, F_DUPFD_CLOEXEC, 3) : fd;
}

int cmd_stats_open(const char *word, int *ret, struct vl_err *err)
{
	if (!word || !*word)
		return 0;
	int fd = open_it(word);
	if (fd < 0 && errno == ENXIO)
		return vl_fail(err, ENXIO, "--stats %s: nobody reads from this pipe", word);
	if (fd < 0)
		return vl_fail_sys(err, errno, "--stats: cannot open %s", word);
	fd = vl_move_fd_above_stdio(fd);
	if (fd < 0)
		return vl_fail_sys(err, -fd, "--stats: cannot open %s", word);
	*ret = fd;
	return 0;
}
