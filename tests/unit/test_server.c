/* The server as it runs: a process of its own behind a mount, in namespaces of the test. */
#include "check.h"
#include "squash_maker.h"

#include "mount/squash.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static const uint8_t text[] = "in the image\n";

static void write_text(const char *path, const char *what)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	CHECK(fd >= 0 && write(fd, what, strlen(what)) == (ssize_t)strlen(what));
}

static int image_fd(const struct maker *m)
{
	VL_BUF struct vl_buf b = { 0 };
	int fd = memfd_create("image", MFD_CLOEXEC);

	maker_make(m, &b);
	CHECK(fd >= 0 && vl_write_full(fd, b.data, b.len) == 0);
	return fd;
}

/* A mount of the image, in namespaces of our own; *control as vmnt_server_mount has it. */
static int mount_image(const struct maker *m, int *control)
{
	VMNT_SERVER struct vmnt_server s = VMNT_SERVER_INIT;
	struct vl_err err = { 0 };
	VL_CLOSE int fd = image_fd(m);
	char map[64];
	uid_t uid = getuid();
	gid_t gid = getgid();

	CHECK(unshare(CLONE_NEWUSER) == 0);
	write_text("/proc/self/setgroups", "deny");
	snprintf(map, sizeof map, "0 %u 1", uid);
	write_text("/proc/self/uid_map", map);
	snprintf(map, sizeof map, "0 %u 1", gid);
	write_text("/proc/self/gid_map", map);
	struct vmnt_image image = { .fd = fd, .name = "image" };
	CHECK_EQ(vmnt_server_start(&image, &s, &err), 0);
	CHECK(unshare(CLONE_NEWNS) == 0);
	int mnt = vmnt_server_mount(&s, &image, control, &err);
	if (mnt < 0)
		CHECK_FAIL("no mount: %s", err.text);
	return mnt;
}

static const struct maker simple = { .file = { { .name = "file", .data = text, .size = sizeof text, .xattr = -1u } },
				     .n = 1 };

static bool listed(int at, const char *dir, const char *name)
{
	DIR *d = fdopendir(openat(at, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	bool yes = false;

	CHECK(d);
	for (struct dirent *e; (e = readdir(d));)
		yes |= vl_streq(e->d_name, name);
	closedir(d);
	return yes;
}

TEST(places_appear_in_a_running_mount)
{
	struct vl_err err = { 0 };
	int control = -1, mnt = mount_image(&simple, &control);
	struct stat st;
	const struct vmnt_place places[] = {
		{ .path = "/new", .dir = true },
		{ .path = "/dir/a/b", .dir = false },
		{ .path = "/file", .dir = true },
		{ .path = "/dir/../new/deep" },
	};

	/* remembered by the kernel: a name that is not there, and a listing without it */
	CHECK(fstatat(mnt, "new", &st, 0) < 0 && errno == ENOENT);
	CHECK(fstatat(mnt, "dir/a", &st, 0) < 0 && errno == ENOENT);
	CHECK(!listed(mnt, ".", "new") && !listed(mnt, "dir", "a"));
	CHECK(!listed(mnt, ".", "new") && listed(mnt, ".", "file"));
	CHECK_EQ(vmnt_server_add_places(control, places, VL_COUNT(places), &err), 0);
	CHECK(fstatat(mnt, "new", &st, 0) == 0 && S_ISDIR(st.st_mode));
	CHECK(fstatat(mnt, "dir/a/b", &st, 0) == 0 && S_ISREG(st.st_mode));
	CHECK(fstatat(mnt, "new/deep", &st, 0) == 0 && S_ISREG(st.st_mode));
	CHECK(fstatat(mnt, "file", &st, 0) == 0 && S_ISREG(st.st_mode) && st.st_size == sizeof text);
	CHECK(listed(mnt, ".", "new") && listed(mnt, "dir", "a") && listed(mnt, "new", "deep"));
	VL_CLOSE int file = openat(mnt, "file", O_RDONLY | O_CLOEXEC);
	char b[64];
	CHECK_EQ(read(file, b, sizeof b), (ssize_t)sizeof text);
	CHECK_MEM(b, text, sizeof text);
	/* again: nothing doubles */
	VL_FREE char *before = NULL, *after = NULL;
	CHECK_EQ(vmnt_server_stats(control, &before, &err), 0);
	CHECK_HAS(before, "\"places\":4");
	CHECK_EQ(vmnt_server_add_places(control, places, VL_COUNT(places), &err), 0);
	CHECK_EQ(vmnt_server_stats(control, &after, &err), 0);
	CHECK_HAS(after, "\"places\":4");
	CHECK_HAS(after, "\"path\":\"/file\"");
	CHECK_HAS(after, "\"bytes\":14");
	vl_json *j = NULL;
	CHECK_EQ(vl_json_parse(after, strlen(after), "statistics", &j, &err), 0);
	int64_t resident = 0;
	CHECK(vl_json_int(j, "resident", &resident) && resident > 100000 && resident < 64 << 20);
	vl_json_free(j);
	close(control); /* the mount stays */
	CHECK(fstatat(mnt, "dir/none", &st, 0) < 0 && errno == ENOENT);
	close(mnt);
}

/* Others look, list and read meanwhile: nobody waits for ever, and everybody sees the place afterwards. */
TEST(places_are_added_under_load)
{
	int control = -1, mnt = mount_image(&simple, &control);
	struct stat st;
	pid_t pid[4];
	int go[2];

	CHECK(pipe(go) == 0);
	for (int i = 0; i < 4; i++) {
		pid[i] = fork();
		if (pid[i])
			continue;
		close(go[1]);
		fcntl(go[0], F_SETFL, O_NONBLOCK);
		char name[64], c;
		for (unsigned k = 0; read(go[0], &c, 1) < 0; k++) {
			snprintf(name, sizeof name, "dir/%d-%u", i, k);
			fstatat(mnt, name, &st, 0);
			listed(mnt, "dir", name);
		}
		_exit(fstatat(mnt, "dir/last/1", &st, 0) != 0);
	}
	for (int i = 0; i < 200; i++) {
		struct vl_err err = { 0 };
		char path[64];
		snprintf(path, sizeof path, "/dir/new%d/1", i);
		struct vmnt_place place = { .path = i == 199 ? "/dir/last/1" : path };
		fstatat(mnt, path + 1, &st, 0);
		CHECK_EQ(vmnt_server_add_places(control, &place, 1, &err), 0);
		CHECK(fstatat(mnt, place.path + 1, &st, 0) == 0);
	}
	close(go[1]);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(vl_wait(pid[i]), 0);
	close(mnt);
}

TEST(places_are_bounded_and_checked)
{
	struct vl_err err = { 0 };
	int control = -1, mnt = mount_image(&simple, &control);
	VL_FREE struct vmnt_place *l = vl_alloc(5000 * sizeof *l);
	VL_STRV struct vl_strv names = { 0 };
	struct stat st;

	for (size_t i = 0; i < 5000; i++) {
		char name[32];
		snprintf(name, sizeof name, "/many/%zu", i);
		vl_strv_add(&names, name);
		l[i].path = names.v[i];
	}
	CHECK(vmnt_server_add_places(control, l, 5000, &err) < 0);
	CHECK_HAS(err.text, "4096 places that");
	CHECK(fstatat(mnt, "many/4000", &st, 0) == 0); /* what fitted is there, and all goes on */
	err = (struct vl_err){ 0 };
	CHECK(vmnt_server_add_places(control, &(struct vmnt_place){ .path = "many/1" }, 1, &err) < 0);
	CHECK_HAS(err.text, "absolute");
	CHECK(vl_msg_send(control, VL_MSG_OK, "nonsense", 8) == 0); /* no socket for an answer: dropped */
	VL_FREE char *stats = NULL;
	CHECK_EQ(vmnt_server_stats(control, &stats, &err), 0);
	CHECK_HAS(stats, "\"lookup\":");
	close(mnt);
}

TEST(a_dead_server_is_an_error)
{
	struct vl_err err = { 0 };
	int control = -1, mnt = mount_image(&simple, &control);
	VL_FREE char *stats = NULL;

	close(mnt); /* the only use of the mount: the server ends */
	while (vmnt_server_stats(control, &stats, &err) == 0)
		vl_freep(&stats);
	CHECK_HAS(err.text, "image server");
}

TEST(attributes_of_files)
{
	/* user.name = "value", security.capability = cap_net_raw+p */
	static const uint8_t pairs[] = { 0,   0,   4,   0,  'n', 'a', 'm', 'e', 5,   0,   0,   0,   'v',  'a',
					 'l', 'u', 'e', 2,  0,   10,  0,   'c', 'a', 'p', 'a', 'b', 'i',  'l',
					 'i', 't', 'y', 20, 0,   0,   0,   0,   0,   0,   2,   0,   0x20, 0,
					 0,   0,   0,   0,  0,   0,   0,   0,   0,   0,   0,   0,   0 };
	static const struct maker with = {
		.file = { { .name = "file", .data = text, .size = sizeof text },
			  { .name = "other", .data = text, .size = sizeof text, .xattr = -1u } },
		.n = 2,
		.xattrs = pairs,
		.xattrs_len = sizeof pairs,
		.set = { { 0, 2, sizeof pairs } },
		.n_sets = 1,
	};
	int mnt = mount_image(&with, NULL);
	VL_CLOSE int file = openat(mnt, "file", O_RDONLY | O_CLOEXEC);
	VL_CLOSE int other = openat(mnt, "other", O_RDONLY | O_CLOEXEC);
	char b[64];

	CHECK(file >= 0 && other >= 0);
	CHECK_EQ(flistxattr(file, NULL, 0), 30);
	CHECK_EQ(flistxattr(file, b, sizeof b), 30);
	CHECK_MEM(b, "user.name\0security.capability", 30);
	CHECK_EQ(fgetxattr(file, "security.capability", b, sizeof b), 20);
	CHECK_MEM(b, pairs + sizeof pairs - 20, 20);
	CHECK_EQ(flistxattr(file, b, sizeof b), 30);
	CHECK_STR(b, "user.name");
	CHECK_EQ(fgetxattr(file, "user.name", NULL, 0), 5);
	CHECK_EQ(fgetxattr(file, "user.name", b, sizeof b), 5);
	CHECK_MEM(b, "value", 5);
	CHECK(fgetxattr(file, "user.name", b, 4) < 0 && errno == ERANGE);
	CHECK(fgetxattr(file, "user.none", b, 4) < 0 && errno == ENODATA);
	CHECK_EQ(flistxattr(other, b, sizeof b), 0);
	CHECK(fgetxattr(other, "user.name", b, sizeof b) < 0 && errno == ENODATA);
	close(mnt);
}

TEST(attributes_of_an_image_that_has_none)
{
	int mnt = mount_image(&simple, NULL);
	VL_CLOSE int file = openat(mnt, "file", O_RDONLY | O_CLOEXEC);
	char b[64];

	CHECK(fgetxattr(file, "user.name", b, sizeof b) < 0 && errno == ENOTSUP);
	CHECK(flistxattr(file, b, sizeof b) <= 0);
	close(mnt);
}

/* ---- the session alone, the kernel's part played here: also where no mount can be had -------------- */

#define BIG (50 * MAKER_BLOCK + 1000)
#define ASKED 8 /* at a time; a socket holds 10 messages, and who asks must never wait for room */
#define QUESTIONS 800
#define LONGEST 40000u

struct kernel {
	int fd;
	uint64_t node[MAKER_FILES];
	const struct maker *m;
	struct question {
		unsigned op, file;
		uint64_t off;
		uint32_t size;
	} asked[ASKED];
	char reply[65536];
};

static void ask(const struct kernel *k, unsigned op, uint64_t unique, uint64_t node, const void *body, size_t n)
{
	struct fuse_in_header h = { .len = (uint32_t)(sizeof h + n), .opcode = op, .unique = unique, .nodeid = node };
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_add(&b, &h, sizeof h);
	vl_buf_add(&b, body, n);
	CHECK_EQ(send(k->fd, b.data, b.len, MSG_NOSIGNAL), (ssize_t)b.len);
}

/* What comes next, but for what the server says unasked. Returns its unique number. */
static uint64_t answer(struct kernel *k, size_t *ret_n)
{
	const struct fuse_out_header *h = (const void *)k->reply;

	do {
		ssize_t n = recv(k->fd, k->reply, sizeof k->reply, 0);
		CHECK(n >= (ssize_t)sizeof *h && h->len == n);
		*ret_n = (size_t)n - sizeof *h;
	} while (!h->unique);
	return h->unique;
}

static void begin(struct kernel *k)
{
	const struct fuse_init_in in = { .major = 7, .minor = 38, .max_readahead = 1 << 17, .flags = ~FUSE_INIT_EXT };
	size_t n;

	ask(k, FUSE_INIT, 1, 0, &in, sizeof in);
	CHECK(answer(k, &n) == 1 && n >= sizeof(struct fuse_init_out));
	for (size_t i = 0; i < k->m->n; i++) {
		ask(k, FUSE_LOOKUP, 1, 1, k->m->file[i].name, strlen(k->m->file[i].name) + 1);
		CHECK(answer(k, &n) == 1 && n == sizeof(struct fuse_entry_out));
		k->node[i] = ((const struct fuse_entry_out *)(k->reply + sizeof(struct fuse_out_header)))->nodeid;
	}
}

/* The i-th question, in place p: files in order, files at random, lookups and listings. */
static void ask_some(struct kernel *k, unsigned p, unsigned i)
{
	static const unsigned op[] = { FUSE_READ, FUSE_READ, FUSE_READ, FUSE_READ, FUSE_LOOKUP, FUSE_READDIRPLUS };
	struct question *q = &k->asked[p];

	*q = (struct question){ op[i % VL_COUNT(op)], i / 16 % (unsigned)k->m->n, i % 16 * 16384ull, 16384 };
	if (i % 3 == 0)
		q->off = (uint64_t)rand() % BIG, q->size = (uint32_t)rand() % LONGEST + 1;
	const struct fuse_read_in in = { .offset = q->op == FUSE_READ ? q->off : 0, .size = q->size };
	if (q->op == FUSE_LOOKUP)
		ask(k, q->op, p + 1, 1, i % 4 ? "dir" : "none", 5 - (i % 4 > 0));
	else
		ask(k, q->op, p + 1, q->op == FUSE_READ ? k->node[q->file] : 1, &in, sizeof in);
}

static void check_answer(const struct kernel *k, const struct question *q, size_t n)
{
	const struct fuse_out_header *h = (const void *)k->reply;

	CHECK_EQ(h->error, 0);
	if (q->op == FUSE_READ) {
		CHECK_EQ(n, q->off < BIG ? VL_MIN((uint64_t)q->size, BIG - q->off) : 0);
		CHECK_MEM(h + 1, k->m->file[q->file].data + VL_MIN(q->off, (uint64_t)BIG), n);
	} else {
		CHECK(n >= sizeof(struct fuse_entry_out));
	}
}

/* Places and statistics meanwhile, by another process. */
static void control_it(int control)
{
	for (unsigned i = 0; i < 20; i++) {
		struct vl_err err = { 0 };
		VL_FREE char *stats = NULL, *path = vl_asprintf("/dir/%u/new", i);
		if (vmnt_server_add_places(control, &(struct vmnt_place){ .path = path }, 1, &err) < 0 ||
		    vmnt_server_stats(control, &stats, &err) < 0 || !strstr(stats, "\"read\":"))
			_exit(1);
	}
	_exit(0);
}

static pid_t serve_image(const struct maker *m, const int fuse[2], const int control[2])
{
	const pid_t pid = fork();

	if (pid)
		return pid;
	close(fuse[1]);
	close(control[1]);
	struct vl_err err = { 0 };
	/* so little memory that blocks are pushed out all the time */
	struct vmnt_image image = { .fd = image_fd(m), .name = "image", .threads = 4, .memory = 1 };
	struct vmnt_session *s;
	struct stat st;
	CHECK_EQ(fstat(image.fd, &st), 0);
	image.size = (uint64_t)st.st_size; /* it may not ask itself */
	if (vmnt_session_new(&image, fuse[0], -1, &s, &err) < 0)
		CHECK_FAIL("no session: %s", err.text);
	vmnt_session_loop(s, control[0]);
	_exit(0); /* a thread may still be at it: as the server itself */
}

TEST(threads_answer_rightly)
{
	static uint8_t data[MAKER_FILES][BIG];
	static struct maker m = { .n = MAKER_FILES };
	static const char *const name[] = { "file1", "file2", "file3", "file4" };
	struct kernel *k = vl_alloc(sizeof *k);
	struct vl_err err = { 0 };
	int fuse[2], control[2], done[2];
	size_t n;

	for (size_t i = 0; i < MAKER_FILES; i++) {
		for (size_t at = 0; at < BIG; at++)
			data[i][at] = (uint8_t)(at / 100 + i + at % 7 * (at / 3000));
		m.file[i] = (struct maker_file){
			.name = name[i], .data = data[i], .size = BIG, .packed = true, .xattr = -1u
		};
	}
	CHECK_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fuse), 0);
	CHECK_EQ(vl_msg_pair(control, &err), 0);
	fflush(stdout);
	pid_t server = serve_image(&m, fuse, control);
	close(fuse[0]);
	close(control[0]);
	CHECK_EQ(pipe(done), 0);
	pid_t other = fork();
	if (other == 0)
		control_it(control[1]);
	close(done[1]);
	*k = (struct kernel){ .fd = fuse[1], .m = &m };
	begin(k);
	for (unsigned i = 0; i < ASKED; i++)
		ask_some(k, i, i);
	for (unsigned i = ASKED; i < QUESTIONS; i++) {
		unsigned p = (unsigned)answer(k, &n) - 1;
		CHECK(p < ASKED);
		check_answer(k, &k->asked[p], n);
		ask_some(k, p, i);
	}
	for (unsigned i = 0; i < ASKED; i++) {
		unsigned p = (unsigned)answer(k, &n) - 1;
		check_answer(k, &k->asked[p], n);
	}
	/* the other may wait for what nobody takes: the kernel would have */
	struct pollfd fd[] = { { .fd = done[0] }, { .fd = k->fd, .events = POLLIN } };
	while (poll(fd, 2, -1) > 0 && !fd[0].revents)
		CHECK(recv(k->fd, k->reply, sizeof k->reply, 0) > 0);
	CHECK_EQ(vl_wait(other), 0);
	close(k->fd); /* as an unmount */
	CHECK_EQ(vl_wait(server), 0);
	free(k);
}
