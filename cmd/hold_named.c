/* Containers with a name, for the steps of one job on one node. What stays between the steps is a directory, and no
 * process: what the container was made of, and what was changed in it. A step that finds the container in use goes into
 * it, through the door of whoever has it. The end of the job removes the directory.
 *
 * BASE/vial-UID/slurm-JOB/NAME: image, identity (of it), changes (an overlay), lock, door.PID of each keeper. */
#include "run.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#define NAME_MAX_LEN 64
#define IMAGE_MAX 65536 /* a path or a URI */
#define BACKLOG 128
#define PATIENCE_MS 30000 /* a container that ends writes its changes to the disk, and then lets go of them */

bool cmd_named_is_word(const char *word)
{
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

	return n && n <= NAME_MAX_LEN && !word[n] && *word != '.';
}

int cmd_own_folder(int parent, const char *name, const char *where, struct vl_err *err)
{
	struct stat st;

	if (mkdirat(parent, name, 0700) < 0 && errno != EEXIST)
		return vl_fail_sys(err, errno, "cannot make %s in %s", name, where);
	VL_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "%s in %s", name, where);
	if (st.st_uid != geteuid())
		return vl_fail(err, EPERM, "%s in %s belongs to another user", name, where);
	if (st.st_mode & 077)
		return vl_fail(err, EPERM,
			       "%s in %s is open to others, who may have changed what is in it; look there, then chmod "
			       "700 it",
			       name, where);
	return vl_steal_fd(&fd);
}

static char *job_path(const struct action_opts *o)
{
	return vl_asprintf("%s/vial-%u/slurm-%s", o->job_dir, geteuid(), o->job);
}

static int open_container(const struct action_opts *o, const char *name, struct vl_err *err)
{
	char mine[32];
	VL_FREE char *job = vl_asprintf("slurm-%s", o->job);
	VL_CLOSE int base = vl_open(o->job_dir, O_PATH | O_DIRECTORY, 0, err);

	snprintf(mine, sizeof mine, "vial-%u", geteuid());
	VL_CLOSE int of_user = base < 0 ? base : cmd_own_folder(base, mine, o->job_dir, err);
	VL_CLOSE int of_job = of_user < 0 ? of_user : cmd_own_folder(of_user, job, mine, err);
	return of_job < 0 ? of_job : cmd_own_folder(of_job, name, job, err);
}

/* ---- doors ---------------------------------------------------------------------------------------- */

/* Through the directory's descriptor: the whole path may be longer than an address can be. */
static struct sockaddr_un address(int dir, const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/%.64s", dir, name);
	return a;
}

static int listen_at(int dir, struct vl_err *err)
{
	VL_CLOSE int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char name[32];

	snprintf(name, sizeof name, "door.%d", getpid());
	struct sockaddr_un a = address(dir, name);
	unlinkat(dir, name, 0); /* of an earlier process of that number */
	if (sock < 0 || bind(sock, (struct sockaddr *)&a, sizeof a) < 0 || listen(sock, BACKLOG) < 0)
		return vl_fail_sys(err, errno, "cannot make the container's socket");
	return vl_move_fd_above_stdio(vl_steal_fd(&sock));
}

/* -1: nobody is there. Who is gone leaves a socket that refuses. */
static int try_door(int dir, const char *name)
{
	VL_CLOSE int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct sockaddr_un a = address(dir, name);

	if (sock >= 0 && connect(sock, (struct sockaddr *)&a, sizeof a) == 0)
		return vl_move_fd_above_stdio(vl_steal_fd(&sock));
	if (sock >= 0 && errno == ECONNREFUSED)
		unlinkat(dir, name, 0);
	return -1;
}

static int find_door(int dir)
{
	DIR *d = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	int sock = -1;

	for (struct dirent *e; d && sock < 0 && (e = readdir(d));)
		if (vl_prefix(e->d_name, "door."))
			sock = try_door(dir, e->d_name);
	if (d)
		closedir(d);
	return sock;
}

/* ---- what it was made of ----------------------------------------------------------------------- */

int cmd_named_note(int dir, const char *name, const char *text, struct vl_err *err)
{
	unlinkat(dir, "new", 0); /* of one that was killed, or whatever it is */
	VL_CLOSE int fd = openat(dir, "new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 || vl_write_full(fd, text, strlen(text)) < 0 || renameat(dir, "new", dir, name) < 0)
		return vl_fail_sys(err, errno, "cannot note the container's %s", name);
	return 0;
}

/* A later step need not name it again; *ret is new. */
static int agree_on_image(struct named *n, const char *word, const char *mode, struct vl_err *err)
{
	bool given = !vl_streq(word, "-");
	bool uri = cmd_image_is_uri(word) && access(word, F_OK) < 0;
	VL_FREE char *absolute = uri ? vl_strdup(word) : vl_path_absolute(word);
	VL_FREE char *was = NULL;
	size_t len;
	struct vl_err none;

	if (vl_read_file(n->dir, "image", IMAGE_MAX, &was, &len, &none) < 0) {
		if (!given)
			return vl_fail(err, ENOENT,
				       "there is no container %s of this job on this node yet; name an "
				       "image to make it of",
				       n->name);
		n->made = true;
		n->image = vl_strdup(absolute);
		return cmd_named_note(n->dir, "image", absolute, err);
	}
	if (vl_streq(mode, "create"))
		return vl_fail(err, EEXIST, "the container %s of this job exists already", n->name);
	if (given && !vl_streq(absolute, was))
		return vl_fail(err, EEXIST,
			       "the container %s of this job is made of %s and not of %s; take another "
			       "name",
			       n->name, was, absolute);
	n->image = vl_strdup(was);
	return given && n->other >= 0 ? cmd_named_same_file(n, err) : 0;
}

/* Changes stay with the name; who only reads sees them too. */
static int add_changes(struct action_opts *o, const struct named *n, struct vl_err *err)
{
	VL_FREE char *job = job_path(o);
	struct stat st;
	bool there = fstatat(n->dir, "changes/upper", &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (!o->writable_tmpfs && !there)
		return 0;
	if (mkdirat(n->dir, "changes", 0700) < 0 && errno != EEXIST)
		return vl_fail_sys(err, errno, "cannot make a place for changes in %s", job);
	vl_strv_take(&o->overlay, vl_asprintf("%s/%s/changes%s", job, n->name, o->writable_tmpfs ? "" : ":ro"));
	o->writable_tmpfs = false;
	o->ignore_subuid = true; /* root, too, leaves only files that the user can remove */
	return 0;
}

/* ---- in and out ---------------------------------------------------------------------------------- */

/* Under the lock: is it in use? Else it is ours to make. */
static int choose(struct action_opts *o, struct named *n, const char *word, const char *mode, struct vl_err *err)
{
	VL_CLOSE int lock = openat(n->dir, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (lock < 0 || flock(lock, LOCK_EX) < 0)
		return vl_fail_sys(err, errno, "cannot lock the container %s", n->name);
	n->other = find_door(n->dir);
	/* who has the changes without a door to ask at is on his way out: he hangs up first */
	o->overlay_patience = n->other < 0 ? PATIENCE_MS : 0;
	if (vl_streq(mode, "no_exec"))
		vl_closep(&n->other);
	if (n->other < 0 && vl_streq(mode, "exec"))
		return vl_fail(err, ENOENT, "no step of this job on this node runs in the container %s", n->name);
	vl_freep(&n->image);
	int r = agree_on_image(n, word, mode, err);
	if (r < 0)
		return r;
	n->door = listen_at(n->dir, err);
	if (n->door < 0)
		return n->door;
	return n->other < 0 ? add_changes(o, n, err) : 0;
}

/* 1: it was entered, and is over. 0: it was gone. */
static int enter_other(const struct action_opts *o, struct named *n, struct vl_err *err)
{
	CTR_DOOR struct ctr_door way = CTR_DOOR_INIT;
	VL_STRV struct vl_strv changes = { 0 };
	int r = ctr_door_ask(n->other, -1, &way, &changes, err);

	if (r == -EPIPE || r == -ECONNRESET)
		return 0;
	if (r == 0)
		r = cmd_named_same_options(n, o, &changes, err);
	if (r == 0)
		r = ctr_relay(&way, &changes, (int)o->fd, n->door, err);
	return r < 0 ? r : 1;
}

int cmd_named_enter(struct action_opts *o, const char *image, struct named *n, struct vl_err *err)
{
	const struct timespec moment = { .tv_nsec = 10000000 };
	const char *colon = strchr(o->named, ':'), *mode = colon ? colon + 1 : "auto";

	*n = (struct named){ .dir = -1, .door = -1, .other = -1 };
	n->name = vl_strndup(o->named, colon ? (size_t)(colon - o->named) : strlen(o->named));
	if (!cmd_named_is_word(n->name) || !o->job_dir || !o->job || !cmd_named_is_word(o->job))
		return vl_fail(err, EINVAL,
			       "--named takes a name of letters, digits, '.', '_' and '-', and wants "
			       "--job-dir and --job");
	n->dir = open_container(o, n->name, err);
	int r = n->dir < 0 ? n->dir : choose(o, n, image, mode, err);
	while (r == 0 && n->other >= 0) {
		r = enter_other(o, n, err);
		if (r != 0)
			return r;
		vl_closep(&n->other);
		vl_closep(&n->door);
		nanosleep(&moment, NULL);           /* who keeps it may be about to go */
		r = choose(o, n, image, mode, err); /* it was gone while it was made: then this one makes it */
	}
	return r;
}

void cmd_named_leave(struct named *n, bool failed)
{
	if (failed && n->made && n->dir >= 0 && faccessat(n->dir, "changes/upper", F_OK, 0) < 0) {
		unlinkat(n->dir, "identity", 0);
		unlinkat(n->dir, "image", 0);
	}
	vl_closep(&n->door);
	vl_closep(&n->other);
	vl_closep(&n->dir);
	vl_freep(&n->name);
	vl_freep(&n->image);
}

/* ---- the end of the job -------------------------------------------------------------------------- */

/* What its owner has closed to himself, or opened to others, goes all the same. */
static void give_rights(int base, const char *name)
{
	VL_CLOSE int fd = openat(base, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd >= 0)
		vl_chmod_fd(fd, 0700);
}

/* As the user, by whose name and no other's the way goes: what others put there is not followed. */
int cmd_named_forget(const struct action_opts *o, struct vl_err *err)
{
	char mine[32];

	if (!o->job_dir || !o->job || !cmd_named_is_word(o->job))
		return vl_fail(err, EINVAL, "--forget wants --job-dir and --job");
	snprintf(mine, sizeof mine, "vial-%u", geteuid());
	VL_FREE char *job = vl_asprintf("slurm-%s", o->job), *path = job_path(o);
	VL_CLOSE int base = vl_open(o->job_dir, O_PATH | O_DIRECTORY, 0, err);
	if (base >= 0)
		give_rights(base, mine);
	VL_CLOSE int of_user = base < 0 ? base : cmd_own_folder(base, mine, o->job_dir, err);
	if (of_user < 0)
		return of_user;
	int r = vl_remove_tree(of_user, job);
	unlinkat(base, mine, AT_REMOVEDIR); /* if it was the last */
	return r < 0 ? vl_fail_sys(err, -r, "cannot remove all of %s", path) : 0;
}
