/* Processes that outlive their starter and have nothing of it. */
#include <vial/base.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Would an orphan of ours come back to us, and so to the program? */
static bool adopts_orphans(void)
{
	int reaper = 0;

	return getpid() == 1 || (prctl(PR_GET_CHILD_SUBREAPER, &reaper) == 0 && reaper);
}

/* A child that sends no SIGCHLD is out of sight for wait(), which would else never come to an end
 * in a program that waits for all its children. Not for orphans: adoption makes them ordinary. */
static pid_t start_hidden(void (*run)(void *), void *arg)
{
	pid_t pid = (pid_t)syscall(SYS_clone, 0, 0, 0, 0, 0); /* fork() with no signal at the end */

	if (pid == 0) {
		setsid();
		run(arg);
		_exit(0);
	}
	return pid < 0 ? -1 : 0;
}

/* Forked twice, so that the program finds no child that it never started. */
static pid_t start_orphan(void (*run)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid(); /* away from the terminal: its Ctrl-C is for the program */
		pid = fork();
		if (pid == 0)
			run(arg);
		_exit(pid < 0);
	}
	return pid;
}

int vl_start_apart(void (*run)(void *arg), void *arg, pid_t *ret_wait)
{
	pid_t pid = adopts_orphans() ? start_hidden(run, arg) : start_orphan(run, arg);

	if (pid < 0)
		return -errno;
	*ret_wait = pid;
	return 0;
}

/* ---- a program ---------------------------------------------------------------------------------- */

#define STACK_SIZE (256L << 10)

struct program {
	void (*run)(void *arg);
	void *arg;
	char *stack; /* room for two */
	int error;   /* errno, of starting it */
};

/* The caller stops until the new process is another program, or ended: it has the memory meanwhile, but for its stack. */
static pid_t borrow_memory(int (*run)(void *), const struct program *p, char *stack)
{
	return clone(run, stack + STACK_SIZE, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)p);
}

static int become_program(void *arg)
{
	const struct program *p = arg;

	p->run(p->arg);
	return 0;
}

static int start_orphan_program(void *arg)
{
	struct program *p = arg;

	setsid();
	if (borrow_memory(become_program, p, p->stack + STACK_SIZE) < 0)
		p->error = errno;
	return 0;
}

int vl_exec_apart(void (*run)(void *arg), void *arg)
{
	struct program p = { .run = run, .arg = arg };

	p.stack = mmap(NULL, 2 * STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (p.stack == MAP_FAILED)
		return -errno;
	pid_t pid = borrow_memory(start_orphan_program, &p, p.stack);
	if (pid < 0)
		p.error = errno;
	else
		vl_wait(pid);
	munmap(p.stack, 2 * STACK_SIZE);
	return -p.error;
}

/* ---- what they keep ----------------------------------------------------------------------------- */

static void close_range_of(unsigned from, unsigned to)
{
	if (from > to || syscall(SYS_close_range, from, to, 0) == 0)
		return;
	long max = sysconf(_SC_OPEN_MAX); /* before Linux 5.9 */
	for (unsigned fd = from; fd <= to && (long)fd < max; fd++)
		close((int)fd);
}

void vl_close_from(int fd)
{
	close_range_of((unsigned)fd, ~0u);
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

int vl_open_null(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : open("/", O_PATH | O_CLOEXEC);
}

void vl_close_all_but(const int *keep, size_t n)
{
	VL_FREE int *sorted = vl_memdup(keep, n * sizeof *keep);
	int null = vl_open_null();
	unsigned from = 3;

	qsort(sorted, n, sizeof *sorted, by_number);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup3(null, fd, O_CLOEXEC); /* it never execs */
	for (size_t i = 0; i < n; i++)
		if (sorted[i] >= (int)from) {
			close_range_of(from, (unsigned)sorted[i] - 1);
			from = (unsigned)sorted[i] + 1;
		}
	close_range_of(from, ~0u);
}

void vl_reset_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}
