/* A question on the terminal, whatever stdin is. */
#include "cmd.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>

#define ANSWER_MAX 4096

/* One line. Signals that end programs are waited for too: the terminal must get its echo back first. */
static int read_answer(int tty, int sigfd, char *ret, size_t cap, struct vl_err *err)
{
	struct pollfd fds[] = { { tty, POLLIN, 0 }, { sigfd, POLLIN, 0 } };
	size_t n = 0;

	for (;;) {
		char c;
		if (poll(fds, VL_COUNT(fds), -1) < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot wait for an answer");
		if (fds[1].revents) /* stays pending: delivered as soon as it is unblocked */
			return vl_fail(err, EINTR, "interrupted");
		if (!fds[0].revents)
			continue;
		ssize_t r = read(tty, &c, 1);
		if (r <= 0)
			return vl_fail(err, EIO, "the terminal gave no answer");
		if (c == '\n' || c == '\r')
			break;
		if (n + 1 >= cap)
			return vl_fail(err, E2BIG, "the answer is too long");
		ret[n++] = c;
	}
	ret[n] = 0;
	return 0;
}

int cmd_ask(const char *question, bool secret, char **ret, struct vl_err *err)
{
	VL_CLOSE int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
	struct termios before, quiet;
	sigset_t ends, mask;
	char answer[ANSWER_MAX];

	if (tty < 0 || tcgetattr(tty, &before) < 0)
		return vl_fail(err, ENOTTY, "there is no terminal to ask '%.*s' on", (int)strcspn(question, ":"),
			       question);
	sigemptyset(&ends);
	sigaddset(&ends, SIGINT);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGHUP);
	sigaddset(&ends, SIGQUIT);
	sigaddset(&ends, SIGTSTP); /* a stopped program would leave the terminal without echo */
	pthread_sigmask(SIG_BLOCK, &ends, &mask);
	VL_CLOSE int sigfd = signalfd(-1, &ends, SFD_CLOEXEC);
	quiet = before;
	if (secret)
		quiet.c_lflag &= ~(tcflag_t)ECHO;
	tcsetattr(tty, TCSAFLUSH, &quiet);
	int r = vl_write_full(tty, question, strlen(question));
	r = r < 0 ? vl_fail_sys(err, -r, "cannot ask") : read_answer(tty, sigfd, answer, sizeof answer, err);
	tcsetattr(tty, TCSAFLUSH, &before);
	if (secret)
		vl_write_full(tty, "\n", 1);
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (r == 0) {
		vl_freep(ret);
		*ret = vl_strdup(answer);
	}
	explicit_bzero(answer, sizeof answer);
	return r;
}
