/* Mounting where the kernel lets only root: by the distribution's fusermount3, which is setuid, checks that the place is
 * the caller's, mounts, and sends the device over a socket. That goes to our server, which serves from then on. */
#include <vial/mount.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define HELPER "fusermount3"
#define FSNAME_MAX 1024u /* the kernel takes a page of options; of a long path, its end says most */
#define WORDS_MAX 1000u  /* of the helper: one line */

/* Its options are separated by commas; a backslash takes a meaning away. */
static void add_escaped(struct vl_buf *b, const char *s)
{
	for (; *s; s++) {
		if (*s == ',' || *s == '\\')
			vl_buf_adds(b, "\\");
		vl_buf_add(b, s, 1);
	}
}

static void options(struct vl_buf *b, const struct vmnt_image *image)
{
	size_t len = strlen(image->name);

	vl_buf_adds(b, "ro,nosuid,nodev,default_permissions,subtype=vial");
	if (image->noexec)
		vl_buf_adds(b, ",noexec");
	if (!image->own)
		vl_buf_adds(b, ",allow_other");
	vl_buf_adds(b, ",fsname=");
	add_escaped(b, image->name + (len > FSNAME_MAX ? len - FSNAME_MAX : 0));
}

static void become_helper(char *const *argv, int words, int comm)
{
	char number[16];

	vl_reset_signals();
	if (comm >= 0) {
		int fd = fcntl(comm, F_DUPFD, 3); /* not close-on-exec: the helper's own */
		snprintf(number, sizeof number, "%d", fd);
		setenv("_FUSE_COMMFD", number, 1);
	}
	setenv("LC_ALL", "C", 1);
	dup2(words, 2); /* not close-on-exec: its standard error */
	execvp(argv[0], argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* All it says, to its end; what does not fit is read and left out. */
static void listen_to(int fd, char words[WORDS_MAX])
{
	char b[256];
	size_t len = 0;
	ssize_t n;

	while ((n = read(fd, b, sizeof b)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		size_t take = n > 0 ? VL_MIN((size_t)n, WORDS_MAX - 1 - len) : 0;
		memcpy(words + len, b, take);
		len += take;
	}
	words[len] = 0;
	words[strcspn(words, "\n")] = 0;
}

/* The reason stands at the end of its words; before it there are paths. */
static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && vl_streq(s + n - m, end);
}

/* Runs it; comm, if >= 0, is its end of the socket. 0, -ENOENT, -EBUSY, or -EPERM with its words in err. */
static int run(char *const *argv, int comm, struct vl_err *err)
{
	char words[WORDS_MAX];
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return vl_fail_sys(err, errno, "cannot start " HELPER);
	VL_CLOSE int from = p[0];
	VL_CLOSE int to = vl_move_fd_above_stdio(p[1]);
	pid_t pid = fork();
	if (pid == 0)
		become_helper(argv, to, comm);
	vl_closep(&to);
	if (pid < 0)
		return vl_fail_sys(err, errno, "cannot start " HELPER);
	listen_to(from, words);
	int status = vl_wait(pid);
	if (status == 0)
		return 0;
	if (status == 127)
		return vl_fail(err, ENOENT, HELPER " is not installed (package fuse3)");
	const char *own = vl_prefix(words, HELPER ": ");
	VL_FREE char *said = vl_printable(own ? own : words, strlen(own ? own : words));
	return vl_fail(err, ends_with(said, "Device or resource busy") ? EBUSY : EPERM, HELPER " refuses: %s",
		       *said ? said : "no reason given");
}

static int served(const char *dir, struct vl_err *err)
{
	struct stat st;

	/* only its owner may look in, and then the question goes to the server */
	if (stat(dir, &st) < 0)
		return vl_fail_sys(err, errno, "the image server does not answer on %s", dir);
	return 0;
}

int vmnt_fusermount(const struct vmnt_image *image, const char *dir, int *ret_control, struct vl_err *err)
{
	VMNT_SERVER struct vmnt_server server = VMNT_SERVER_INIT;
	VL_BUF struct vl_buf opts = { 0 };
	VL_CLOSE int giver = -1, control = -1;
	struct vl_err none;

	options(&opts, image);
	char *const mount[] = { (char *)HELPER, (char *)"-o", opts.data, (char *)"--", (char *)dir, NULL };
	int r = vmnt_server_start_given(image, ret_control != NULL, &giver, &server, err);
	if (r < 0)
		return r;
	r = run(mount, giver, err);
	vl_closep(&giver); /* with the helper's end gone too, the server does not wait any longer */
	if (r < 0)
		return r;
	if ((r = vmnt_server_wait(&server, ret_control ? &control : NULL, err)) < 0 || (r = served(dir, err)) < 0) {
		vmnt_fusermount_end(dir, true, &none);
		return r;
	}
	if (ret_control)
		*ret_control = vl_steal_fd(&control);
	return 0;
}

int vmnt_fusermount_end(const char *dir, bool lazy, struct vl_err *err)
{
	char *const now[] = { (char *)HELPER, (char *)"-u", (char *)"--", (char *)dir, NULL };
	char *const later[] = { (char *)HELPER, (char *)"-u", (char *)"-z", (char *)"--", (char *)dir, NULL };

	return run(lazy ? later : now, -1, err);
}
