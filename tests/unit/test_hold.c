#include "check.h"

#include "../../rootless/hold.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int unpack(const char *text, size_t len, size_t *ret_n)
{
	struct ctr_join j;
	struct vmnt_place *l;

	int r = ctr_unpack_join(text, len, &j, &l);
	if (r == 0) {
		*ret_n = j.n_places;
		free(l);
	}
	return r;
}

TEST(a_request_survives_the_way)
{
	static const struct vmnt_place places[] = { { "/a", true, false }, { "/b/c d", false, true }, { "/", 0, 0 } };
	VL_BUF struct vl_buf b = { 0 };
	VL_FREE struct vmnt_place *l = NULL;
	struct ctr_join j;

	CHECK(ctr_pack_join(&(struct ctr_join){ "the\nkey", "and the\nother", places, VL_COUNT(places) }, &b));
	CHECK(b.data[0] == CTR_JOIN);
	CHECK(ctr_unpack_join(b.data + 1, b.len - 1, &j, &l) == 0);
	CHECK_STR(j.key, "the\nkey");
	CHECK_STR(j.alike, "and the\nother");
	CHECK(j.n_places == 3 && j.places == l);
	for (size_t i = 0; i < j.n_places; i++) {
		CHECK_STR(l[i].path, places[i].path);
		CHECK(l[i].dir == places[i].dir && l[i].nofollow == places[i].nofollow);
	}
}

TEST(a_request_has_its_limit)
{
	struct vmnt_place places[64];
	VL_BUF struct vl_buf b = { 0 };
	char path[2001];

	memset(path, '/', 2000);
	path[2000] = 0;
	for (size_t i = 0; i < VL_COUNT(places); i++)
		places[i] = (struct vmnt_place){ .path = path };
	CHECK(!ctr_pack_join(&(struct ctr_join){ "key", "", places, VL_COUNT(places) }, &b));
}

TEST(what_is_not_a_request_is_refused)
{
	size_t n;

	CHECK(unpack("", 0, &n) == -EINVAL);
	CHECK(unpack("key", 3, &n) == -EINVAL); /* not ended */
	CHECK(unpack("key", 4, &n) == -EINVAL); /* half of it */
	CHECK(unpack("key\0", 5, &n) == 0 && n == 0);
	CHECK(unpack("key\0"
		     "alike",
		     10, &n) == 0 &&
	      n == 0);
	CHECK(unpack("key\0\0"
		     "0",
		     7, &n) == -EINVAL); /* no path */
	CHECK(unpack("key\0\0"
		     "0/x",
		     8, &n) == -EINVAL); /* cut */
	CHECK(unpack("key\0\0"
		     "4/x",
		     9, &n) == -EINVAL); /* unknown flag */
	CHECK(unpack("key\0\0"
		     "0x",
		     8, &n) == -EINVAL); /* relative */
	CHECK(unpack("key\0\0\0", 6, &n) == -EINVAL);
	CHECK(unpack("key\0\0"
		     "0/x",
		     9, &n) == 0 &&
	      n == 1);
}

/* ---- containers that others may enter -------------------------------------------------------- */

static void fill_offer(int fds[CTR_OFFER_FDS], int *ret_table)
{
	int pair[2];

	CHECK(pipe2(pair, O_CLOEXEC) == 0);
	*ret_table = pair[1]; /* when it is closed, the other end has an event, as a table that changed */
	fds[CTR_OFFER_MNT] = open("/", O_PATH | O_CLOEXEC);
	fds[CTR_OFFER_ROOT] = open("/", O_PATH | O_CLOEXEC);
	fds[CTR_OFFER_TABLE] = pair[0];
}

TEST(a_container_is_there_for_those_who_want_the_same)
{
	struct ctr_alikes l = { 0 };
	int fds[CTR_OFFER_FDS], table;

	fill_offer(fds, &table);
	struct ctr_alike *maker = ctr_alike_offer(&l, "key", fds);
	CHECK(maker && fds[CTR_OFFER_MNT] == -1 && fds[CTR_OFFER_TABLE] == -1);
	CHECK(!ctr_alike_enter(&l, "other"));
	CHECK(ctr_alike_enter(&l, "key") == maker);
	ctr_alike_leave(&l, maker);
	CHECK(ctr_alike_enter(&l, "key") == maker); /* the maker has gone, another one is in it */
	ctr_alike_leave(&l, maker);
	ctr_alike_leave(&l, maker);
	CHECK(l.n == 0 && !ctr_alike_enter(&l, "key"));
	close(table);
	free(l.v);
}

TEST(who_comes_after_a_change_of_mounts_makes_another)
{
	struct ctr_alikes l = { 0 };
	int fds[CTR_OFFER_FDS], table, other;

	fill_offer(fds, &table);
	struct ctr_alike *a = ctr_alike_offer(&l, "key", fds);
	close(table);
	CHECK(!ctr_alike_enter(&l, "key"));
	fill_offer(fds, &other);
	CHECK(ctr_alike_offer(&l, "key", fds) == a && a->users == 2); /* in the place of the old one */
	CHECK(ctr_alike_enter(&l, "key") == a);
	fill_offer(fds, &table);
	CHECK(ctr_alike_offer(&l, "key", fds) == a && fds[CTR_OFFER_MNT] >= 0); /* one is enough */
	for (size_t i = 0; i < CTR_OFFER_FDS; i++)
		close(fds[i]);
	for (size_t n = a->users; n; n--)
		ctr_alike_leave(&l, a);
	CHECK(l.n == 0);
	close(table);
	close(other);
	free(l.v);
}

static int open_dir(const char *path)
{
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void count(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
}

TEST(stale_sockets_are_swept_and_live_ones_stay)
{
	static const char stale[] = "00000000deadbeef", live[] = "00000000cafecafe";
	VL_CLOSE int dir = open_dir(".");
	VL_CLOSE int listener = ctr_hold_listen(dir, live);
	unsigned n = 0;

	CHECK(listener >= 0);
	int fd = ctr_hold_listen(dir, stale);
	CHECK(fd >= 0);
	close(fd);
	CHECK(mkdir("0123456789abcdef", 0700) == 0);
	CHECK(ctr_hold_dial(dir, stale) == -ECONNREFUSED);
	ctr_hold_sweep(dir, "");
	CHECK(ctr_hold_dial(dir, stale) == -ENOENT);
	VL_CLOSE int sock = ctr_hold_dial(dir, live);
	CHECK(sock >= 0);
	ctr_hold_each(dir, count, &n);
	CHECK(n == 1);
	CHECK(access("0123456789abcdef", F_OK) == 0);
}

TEST(a_listener_takes_the_place_of_a_dead_one)
{
	VL_CLOSE int dir = open_dir(".");
	int fd = ctr_hold_listen(dir, "0123456789abcdef");

	CHECK(fd >= 0);
	close(fd);
	fd = ctr_hold_listen(dir, "0123456789abcdef");
	CHECK(fd >= 0);
	VL_CLOSE int sock = ctr_hold_dial(dir, "0123456789abcdef");
	CHECK(sock >= 0);
	close(fd);
}

TEST(the_peer_is_followed)
{
	int pair[2];
	pid_t pid = 0;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
	int fd = ctr_peer_pidfd(pair[0], &pid);
	CHECK(fd >= 0 && pid == getpid());
	close(fd);
}

/* ---- the runtime directory ---- */

static int open_at(const char *xdg)
{
	struct vl_err err;

	setenv("XDG_RUNTIME_DIR", xdg, 1);
	int fd = ctr_rundir_open(0, true, &err);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

TEST(a_runtime_directory_is_the_users_alone)
{
	VL_FREE char *cwd = getcwd(NULL, 0);
	VL_FREE char *ok = vl_asprintf("%s/ok", cwd), *wide = vl_asprintf("%s/wide", cwd);
	struct stat st;

	umask(0777); /* made with the mode that is meant, whatever the umask */
	CHECK(mkdir("ok", 0) == 0 && chmod("ok", 0700) == 0);
	CHECK(open_at(ok) == 0);
	CHECK(stat("ok/vial", &st) == 0 && (st.st_mode & 07777) == 0700);
	CHECK(open_at(ok) == 0);
	CHECK(chmod("ok/vial", 0701) == 0);
	CHECK(open_at(ok) == -EPERM);
	CHECK(chmod("ok/vial", 0720) == 0);
	CHECK(open_at(ok) == -EPERM);
	CHECK(rmdir("ok/vial") == 0 && symlink(".", "ok/vial") == 0);
	CHECK(open_at(ok) == -ENOTDIR || open_at(ok) == -ELOOP);
	CHECK(mkdir("wide", 0) == 0 && chmod("wide", 0777) == 0);
	CHECK(open_at(wide) == -EPERM);
	CHECK(open_at("relative") == -ENOENT);
	CHECK(open_at("/no/such") == -ENOENT);
	if (geteuid() == 0) {
		CHECK(chmod("wide", 0700) == 0 && chown("wide", 12345, 12345) == 0);
		CHECK(open_at(wide) == -EPERM);
	}
}

/* ---- the key ---- */

TEST(the_key_follows_the_image_and_the_user)
{
	PLAN struct plan p = PLAN_INIT;

	p.image_fd = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(p.image_fd >= 0);
	VL_FREE char *a = ctr_hold_key(&p), *b = ctr_hold_key(&p);
	CHECK(a && b);
	CHECK_STR(a, b);
	p.image_off = 4096;
	VL_FREE char *c = ctr_hold_key(&p);
	CHECK(!vl_streq(a, c));
	p.image_off = 0;
	p.user.gid = 7;
	VL_FREE char *d = ctr_hold_key(&p);
	CHECK(!vl_streq(a, d));
	p.user.gid = 0;
	p.server_memory = 128 << 20;
	VL_FREE char *f = ctr_hold_key(&p);
	CHECK(!vl_streq(a, f));
	p.server_threads = 2;
	VL_FREE char *g = ctr_hold_key(&p);
	CHECK(!vl_streq(a, g) && !vl_streq(f, g));
	p.server_memory = p.server_threads = 0;
	CHECK(write(p.image_fd, "x", 1) == 1);
	VL_FREE char *e = ctr_hold_key(&p);
	CHECK(!vl_streq(a, e));
	close(p.image_fd);
	p.image_fd = -1;
}

TEST(a_cgroup_counts_up_to_what_a_scheduler_kills)
{
	static const char *const cases[][2] = {
		{ "0::/system.slice/slurmstepd.scope/job_17/step_0/user/task_3",
		  "0::/system.slice/slurmstepd.scope/job_17/step_0" },
		{ "4:memory:/slurm/uid_1000/job_17/step_batch/task_0", "4:memory:/slurm/uid_1000/job_17/step_batch" },
		{ "0::/slurm/job_17/elsewhere", "0::/slurm/job_17" },
		{ "0::/user.slice/user-1000.slice/session-3.scope", "0::/user.slice/user-1000.slice/session-3.scope" },
		{ "0::/", "0::/" },
		{ "0::/my_job_17/x", "0::/my_job_17/x" },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *got = vl_strndup(cases[i][0], ctr_cgroup_unit(cases[i][0], strlen(cases[i][0])));
		CHECK_STR(got, cases[i][1]);
	}
}
