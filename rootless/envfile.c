/* A file of variables that is more than assignments: the host's shell reads it, and may start nothing. What such a
 * file is taken for is a list of values; that another tool's copy of it could run programs would be a surprise. */
#include "rootless.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define SHELL "/bin/sh"
#define TEXT_FD 3             /* what the shell reads */
#define RESULT_FD 4           /* where it writes what it knows */
#define RESULT_MAX (4u << 20) /* an environment is smaller */

/* The shell's own names; a value for some of them ends it. */
static bool is_shells_own(const char *name)
{
	static const char *const names[] = { "UID",      "EUID",   "PPID",    "SHELLOPTS", "BASHOPTS",
					     "IFS",      "ENV",    "OPTIND",  "LINENO",    "PWD",
					     "OLDPWD",   "SHLVL",  "PS4",     "_",         "GROUPS",
					     "DIRSTACK", "RANDOM", "SECONDS", "FUNCNAME",  "BASH_VERSINFO" };

	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (vl_streq(name, names[i]))
			return true;
	return false;
}

/* The host's variables are known but not exported: exported in the end is what the text has assigned. */
static void write_program(struct vl_buf *b, const char *text, char *const *environment)
{
	for (; *environment; environment++) {
		size_t n = strcspn(*environment, "=");
		VL_FREE char *name = vl_strndup(*environment, n);
		if (!(*environment)[n] || !vl_is_identifier(name, n) || is_shells_own(name))
			continue;
		vl_buf_addf(b, "%s=", name);
		vl_buf_shell_word(b, *environment + n + 1);
		vl_buf_adds(b, "; "); /* all on one line: the shell's messages count those of the text */
	}
	vl_buf_adds(b, "unset OLDPWD; set -a; ");
	vl_buf_adds(b, text);
	vl_buf_addf(b, "\nexport -p >&%d\n", RESULT_FD);
}

/* execve is refused from here on; the shell itself is started by its brother, execveat. */
static int forbid_programs(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execve, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = VL_COUNT(f), .filter = f };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0 ? -1
														   : 0;
}

static void become_shell(int text, int result)
{
	char *const argv[] = { (char *)"sh", (char *)"/dev/fd/3", NULL };
	char *const none[] = { NULL };
	int shell = open(SHELL, O_PATH | O_CLOEXEC), null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* above the two places first: one may be the other's */
	text = fcntl(text, F_DUPFD_CLOEXEC, 10);
	result = fcntl(result, F_DUPFD_CLOEXEC, 10);
	shell = fcntl(shell, F_DUPFD_CLOEXEC, 10);
	if (dup2(null, 0) < 0 ||           /* not close-on-exec: the shell's input */
	    dup2(2, 1) < 0 ||              /* not close-on-exec: what it prints is no output of ours */
	    dup2(text, TEXT_FD) < 0 ||     /* not close-on-exec: the shell reads it */
	    dup2(result, RESULT_FD) < 0 || /* not close-on-exec: the shell writes it */
	    forbid_programs() < 0)
		_exit(126);
	syscall(SYS_execveat, shell, "", argv, none, AT_EMPTY_PATH);
	_exit(127);
}

static int read_result(int fd, struct vl_buf *out)
{
	char b[4096];
	ssize_t n;

	vl_buf_adds(out, "");
	while ((n = read(fd, b, sizeof b)) != 0) {
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			vl_buf_add(out, b, (size_t)n);
		if (out->len > RESULT_MAX)
			return -EFBIG;
	}
	return 0;
}

/* Names that every shell exports by itself are no one's wish. */
static char *without_own(const char *text)
{
	CTR_SCOPE struct ctr_scope scope = { .ansi_c = true };
	VL_BUF struct vl_buf b = { 0 };

	(void)ctr_eval_text(text, &scope); /* arrays, which are no variables of an environment, are passed over */
	vl_buf_adds(&b, "");
	for (size_t i = 0; i < scope.env.n; i++) {
		const char *kv = scope.env.v[i];
		VL_FREE char *name = vl_strndup(kv, strcspn(kv, "="));
		if (is_shells_own(name))
			continue;
		vl_buf_addf(&b, "export %s=", name);
		vl_buf_shell_word(&b, kv + strlen(name) + 1);
		vl_buf_adds(&b, "\n");
	}
	return vl_steal(&b.data);
}

int ctr_eval_by_shell(const char *text, const char *name, char *const *environment, char **ret, struct vl_err *err)
{
	VL_BUF struct vl_buf program = { 0 }, result = { 0 };
	int pipes[2] = { -1, -1 };

	write_program(&program, text, environment);
	VL_CLOSE int file = memfd_create("vial-env", MFD_CLOEXEC);
	int r = file < 0 ? -errno : vl_write_full(file, program.data, program.len);
	if (r == 0 && (lseek(file, 0, SEEK_SET) < 0 || pipe2(pipes, O_CLOEXEC) < 0))
		r = -errno;
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot have %s read", name);
	VL_CLOSE int in = pipes[0];
	VL_CLOSE int out = pipes[1];
	pid_t pid = fork();
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start " SHELL " for %s", name);
	if (pid == 0)
		become_shell(file, out);
	vl_closep(&out);
	r = read_result(in, &result);
	vl_closep(&in); /* a shell that still writes gets its signal */
	int status = vl_wait(pid);
	if (r < 0)
		return vl_fail_sys(err, -r, "%s: cannot read what " SHELL " made of it", name);
	if (status)
		return vl_fail(err, EINVAL,
			       "%s: " SHELL " ended with status %d; it sets variables and can start no program", name,
			       status);
	*ret = without_own(result.data);
	return 0;
}
