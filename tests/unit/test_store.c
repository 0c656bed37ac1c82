#include "store_maker.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <vial/sif.h>

/* ---- opening ---- */

TEST(open_makes_everything_private)
{
	struct img_store *s = open_store();
	struct stat st;
	static const char *const dirs[] = {
		"a", "a/store", "a/store/images", "a/store/blobs", "a/store/names", "a/store/locks"
	};

	for (size_t i = 0; i < VL_COUNT(dirs); i++) {
		CHECK_EQ(stat(dirs[i], &st), 0);
		CHECK_EQ(st.st_mode & 07777, 0700);
	}
	char tag[44] = "";
	int fd = open("a/store/CACHEDIR.TAG", O_RDONLY | O_CLOEXEC);
	CHECK_EQ(read(fd, tag, 43), 43);
	CHECK_STR(tag, "Signature: 8a477f597d28d172789f06886806bc55");
	close(fd);
	CHECK_EQ(*img_store_dir(s), '/');
	img_store_free(s);
	s = open_store();
	img_store_free(s);
	img_store_free(NULL);
}

/* ---- making ---- */

TEST(find_after_commit)
{
	struct img_store *s = open_store();

	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "image a");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(find(s, KEY_B), -ENOENT);
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(twenty_processes_make_it_once)
{
	enum { N = 20 };
	int start[2], report[2];
	pid_t pid[N];

	img_store_free(open_store());
	CHECK(pipe2(start, O_CLOEXEC) == 0 && pipe2(report, O_CLOEXEC) == 0);
	for (int i = 0; i < N; i++) {
		pid[i] = fork();
		if (pid[i] == 0) {
			struct img_store *s = open_store();
			struct img_making m = IMG_MAKING_INIT;
			char text[64] = "", c;
			close(start[1]);
			CHECK_EQ(read(start[0], &c, 1), 0); /* end of file: all at once */
			int r = take(s, KEY_A, NULL, &m, text);
			if (r == 1) {
				snprintf(text, sizeof text, "made by %d", (int)getpid());
				commit(&m, text);
			}
			snprintf(text + strlen(text), 8, " %d\n", r);
			CHECK_EQ(write(report[1], text, 64), 64);
			img_store_free(s);
			exit(0);
		}
	}
	close(start[1]);
	close(report[1]);
	int makers = 0, maker = 0, by[N];
	char text[64];
	for (int i = 0; i < N; i++) {
		int made;
		CHECK_EQ(read(report[0], text, 64), 64);
		CHECK_EQ(sscanf(text, "made by %d %d", &by[i], &made), 2);
		makers += made;
		if (made)
			maker = by[i];
	}
	CHECK_EQ(makers, 1);
	for (int i = 0; i < N; i++) {
		CHECK_EQ(by[i], maker);
		CHECK_EQ(vl_wait(pid[i]), 0);
	}
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
}

struct seen {
	char what[200];
	uint64_t done, total;
	pid_t kill;
	int go;
};

/* The news arrive only while we wait: the moment to end the maker. */
static void step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	snprintf(s->what, sizeof s->what, "%s", what);
	s->done = done;
	s->total = total;
	if (s->kill)
		kill(s->kill, SIGKILL);
	vl_closep(&s->go);
}

TEST(killed_maker_is_followed)
{
	struct img_store *s = open_store();
	struct seen seen = { .go = -1 };
	struct vl_progress p = { .step = step, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	char text[64], want[100];
	int go;
	pid_t pid = start_maker(KEY_A, "Converting", &go);

	seen.kill = pid;
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	snprintf(want, sizeof want, "Waiting for %d on ", (int)pid);
	CHECK_HAS(seen.what, want);
	CHECK_HAS(seen.what, ": Converting");
	CHECK_EQ(seen.done, 30);
	CHECK_EQ(seen.total, 100);
	commit(&m, "whole");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(count_names("a/store/locks"), 0);
	img_store_free(s);
}

TEST(give_up_wakes_the_next)
{
	struct img_store *s = open_store();
	struct seen seen = { 0 };
	struct vl_progress p = { .step = step, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	char text[64];
	pid_t pid = start_maker(KEY_A, "Converting", &seen.go);

	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_HAS(seen.what, "Converting");
	CHECK_EQ(vl_wait(pid), 0);
	commit(&m, "whole");
	CHECK_EQ(find(s, KEY_A), 0);
	img_store_free(s);
}

static void replace_lock(void *arg, const char *what, uint64_t done, uint64_t total)
{
	if (access("a/store/locks/" KEY_A, F_OK) == 0 && !*((struct seen *)arg)->what) {
		CHECK_EQ(unlink("a/store/locks/" KEY_A), 0);
		put("a/store/locks/" KEY_A, "");
	}
	step(arg, what, done, total);
}

TEST(lock_replaced_under_a_waiter)
{
	struct img_store *s = open_store();
	struct seen seen = { 0 };
	struct vl_progress p = { .step = replace_lock, .arg = &seen };
	struct img_making m = IMG_MAKING_INIT;
	struct stat mine, there;
	char text[64];
	pid_t pid = start_maker(KEY_A, "Converting", &seen.go);

	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(vl_wait(pid), 0);
	/* the lock we hold is the one the next will look at */
	CHECK_EQ(fstat(m.lock, &mine), 0);
	CHECK_EQ(stat("a/store/locks/" KEY_A, &there), 0);
	CHECK_EQ(mine.st_ino, there.st_ino);
	commit(&m, "whole");
	img_store_free(s);
}

TEST(clean_leaves_images_in_the_making)
{
	struct img_store *s = open_store();
	struct img_making m = IMG_MAKING_INIT;
	char text[64];

	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
	/* as on a file system without O_TMPFILE */
	put("a/store/images/." KEY_A ".sif.vial-1", "half");
	put("a/store/images/." KEY_B ".sif.vial-1", "left over");
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(access("a/store/images/." KEY_A ".sif.vial-1", F_OK), 0);
	CHECK_EQ(count_names("a/store/locks"), 1);
	commit(&m, "whole");
	CHECK_EQ(find(s, KEY_A), 0);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(access("a/store/images/" KEY_A ".sif", F_OK), 0);
	img_store_free(s);
}

/* ---- the limit ---- */

TEST(limit_removes_what_was_unused_longest)
{
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "a/store", .keep_layers = true });
	struct vl_err err = { 0 };

	make_image(s, KEY_A, "a"); /* 4 KiB each, on every file system of blocks */
	make_image(s, KEY_B, "b");
	struct stat st;
	CHECK_EQ(stat("a/store/images/" KEY_A ".sif", &st), 0);
	uint64_t each = (uint64_t)st.st_blocks * 512;
	CHECK(each > 0);
	img_store_free(s);
	s = open_with(&(struct img_store_opts){ .dir = "a/store", .limit = 2 * each, .keep_layers = true });
	CHECK_EQ(img_store_name_set(s, "docker.io/library/b:1", "amd64", DIGEST, KEY_B, &err), 0);
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	CHECK_EQ(find(s, KEY_A), 0); /* used now */
	make_image(s, KEY_C, "c");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(find(s, KEY_B), -ENOENT);
	CHECK_EQ(find(s, KEY_C), 0);
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
	/* what was just made stays, whatever the limit is */
	s = open_with(&(struct img_store_opts){ .dir = "a/store", .limit = 1, .keep_layers = true });
	make_image(s, KEY_B, "b");
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(clean_by_kind_age_and_limit)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };
	struct stat st;

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = b->create(b->arg, &err);
	CHECK_EQ(vl_write_full(fd, "layer", 5), 0);
	b->keep(b->arg, &d, fd);
	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/blobs/sha256/" KEY_C, 2000);
	CHECK_EQ(stat("a/store/images/" KEY_A ".sif", &st), 0);
	uint64_t each = (uint64_t)st.st_blocks * 512;

	/* a dry run tells and does nothing */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7, .dry = true }), 3 * each);
	CHECK_EQ(count_names("a/store/images"), 2);
	/* the layer is old enough too, but no layers were asked for */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = IMG_STORE_IMAGE, .unused_seconds = 86400 }), each);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(access("a/store/blobs/sha256/" KEY_C, F_OK), 0);
	/* two are below the limit; one is, when the oldest went */
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 2 * each }), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 2 * each - 1 }), each);
	CHECK(access("a/store/blobs/sha256/" KEY_C, F_OK) < 0);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7 }), each);
	CHECK_EQ(count_names("a/store/images"), 0);
	img_store_free(s);
}

/* By a clock that was wrong: new, but not for ever. */
TEST(what_was_used_in_the_future_can_go)
{
	struct img_store *s = open_store();

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	set_used("a/store/images/" KEY_A ".sif", time(NULL) + 400 * 86400);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7, .unused_seconds = 1000 }), 0);
	CHECK_EQ(count_names("a/store/images"), 2);
	clean(s, &(struct img_store_clean){ .kinds = 3, .limit = 1 });
	CHECK_EQ(count_names("a/store/images"), 0);
	make_image(s, KEY_A, "a");
	set_used("a/store/images/" KEY_A ".sif", time(NULL) + 400 * 86400);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 0);
	img_store_free(s);
}

/* ---- layers ---- */

TEST(layers_are_kept_once)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	const char *path = "a/store/blobs/sha256/" KEY_C;
	struct oci_digest d, evil = { .algo = "sha256", .hex = "../../names/x" };
	struct vl_err err = { 0 };
	struct stat first, second;

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int fd = new_layer(b, "layer");
	CHECK(!has_layer(b, &d, 5, "")); /* not before it is whole */
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK(!has_layer(b, &d, 6, ""));
	CHECK_EQ(stat(path, &first), 0);

	VL_CLOSE int again = new_layer(b, "layer");
	b->keep(b->arg, &d, again);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK_EQ(stat(path, &second), 0);
	CHECK_EQ(first.st_ino, second.st_ino);
	CHECK_EQ(count_names("a/store/blobs"), 1);
	CHECK_EQ(count_names("a/store/blobs/sha256"), 1);

	/* a crash cut it short: the next one takes its place */
	CHECK_EQ(truncate(path, 2), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int third = new_layer(b, "layer");
	b->keep(b->arg, &d, third);
	CHECK(has_layer(b, &d, 5, "layer"));

	/* damaged: as large as before, so only dropping it lets a good one in */
	b->drop(b->arg, &d);
	CHECK(!has_layer(b, &d, 5, ""));
	VL_CLOSE int fourth = new_layer(b, "layer");
	b->keep(b->arg, &d, fourth);
	CHECK(has_layer(b, &d, 5, "layer"));

	b->keep(b->arg, &evil, third);
	b->drop(b->arg, &evil);
	CHECK_EQ(count_names("a/store/names"), 0);
	CHECK(!has_layer(b, &evil, 5, ""));
	img_store_free(s);
}

TEST(planted_layers_are_not_there)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	const char *path = "a/store/blobs/sha256/" KEY_C;
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	CHECK_EQ(mkdir("a/store/blobs/sha256", 0700), 0);
	put("target", "layer");
	CHECK_EQ(symlink("../../../../target", path), 0);
	CHECK(!has_layer(b, &d, 5, ""));
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK(!has_layer(b, &d, 0, ""));
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	img_store_free(s);
}

/* As create() leaves it where O_TMPFILE is missing: the file has a hidden name, and its writer's lock. */
TEST(layers_with_a_hidden_name)
{
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	put("a/store/blobs/.layer.vial-0123456789abcdef", "layer");
	put("a/store/blobs/.layer.vial-0123456789abcdee", "of the dead");
	VL_CLOSE int fd = open("a/store/blobs/.layer.vial-0123456789abcdef", O_RDWR | O_CLOEXEC);
	CHECK_EQ(flock(fd, LOCK_EX | LOCK_NB), 0);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/blobs"), 1);
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	CHECK_EQ(count_names("a/store/blobs"), 1); /* sha256 */
	img_store_free(s);
}

TEST(layers_are_not_kept_when_told)
{
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "a/store" });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	CHECK(!has_layer(b, &d, 5, ""));
	CHECK_EQ(count_names("a/store/blobs"), 0);
	img_store_free(s);
}

/* ---- listing ---- */

static bool write_item(void *arg, const struct img_store_item *i)
{
	struct vl_buf *b = arg;

	CHECK(access(i->path, R_OK) == 0);
	CHECK(i->size > 0 && i->made <= i->used);
	vl_buf_addf(b, "%s %.10s [%s] %.10s%s\n", i->kind == IMG_STORE_IMAGE ? "image" : "layer", i->id, i->name,
		    i->digest, i->site ? " site" : "");
	return true;
}

static bool stop_at_once(void *arg, const struct img_store_item *i)
{
	(void)i;
	return ++*(int *)arg < 1;
}

TEST(list_has_images_first_and_their_names)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site" });
	struct vl_err err = { 0 };
	make_image(site, KEY_C, "c");
	CHECK_EQ(img_store_name_set(site, "site/c", "amd64", DIGEST, KEY_C, &err), 0);
	img_store_free(site);
	set_used("site/images/" KEY_C ".sif", 3000);

	static const char *const sites[] = { "site", NULL };
	struct img_store *s =
		open_with(&(struct img_store_opts){ .dir = "a/store", .site_dirs = sites, .keep_layers = true });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct oci_digest d;
	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	VL_CLOSE int fd = new_layer(b, "layer");
	b->keep(b->arg, &d, fd);
	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	CHECK_EQ(img_store_name_set(s, "b:2", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_set(s, "b:1", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_set(s, "b:1", "arm64", DIGEST, KEY_B, &err), 0);
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	put("a/store/images/README", "not ours");
	put("a/store/blobs/sha256/README", "not ours");

	VL_BUF struct vl_buf text = { 0 };
	CHECK_EQ(img_store_list(s, write_item, &text, &err), 0);
	CHECK_STR(text.data, "image cccccccccc [site/c] sha256:ccc site\n"
			     "image bbbbbbbbbb [b:1,b:2] sha256:ccc\n"
			     "image aaaaaaaaaa [] \n"
			     "layer sha256:ccc [] \n");
	int calls = 0;
	CHECK_EQ(img_store_list(s, stop_at_once, &calls, &err), 0);
	CHECK_EQ(calls, 1);
	/* what is not ours stays, whatever is cleaned */
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(access("a/store/images/README", F_OK), 0);
	CHECK_EQ(count_names("a/store/names"), 0);
	CHECK_EQ(count_names("site/images"), 1);
	img_store_free(s);
}
