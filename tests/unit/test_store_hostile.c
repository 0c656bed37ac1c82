/* Stores that somebody else has written to, and file systems that cannot do all. */
#include "store_maker.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <vial/sif.h>

/* ---- site tiers ---- */

TEST(site_tier_is_searched_and_never_changed)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "of the site");
	img_store_free(site);
	set_used("site/images/" KEY_A ".sif", 1000);

	static const char *const sites[] = { "nowhere", "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	struct img_making m = IMG_MAKING_INIT;
	char text[64];
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "of the site");
	CHECK_EQ(count_names("own/images"), 0);
	CHECK_EQ(clean(s, &(struct img_store_clean){ .kinds = 7 }), 0);
	struct stat st;
	CHECK_EQ(stat("site/images/" KEY_A ".sif", &st), 0);
	CHECK_EQ(st.st_mtim.tv_sec, 1000);
	/* the own one comes first */
	put("own/images/" KEY_A ".sif", "own");
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "own");
	img_store_free(s);
}

TEST(site_tier_without_an_own_store)
{
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "of the site");
	img_store_free(site);
	put("file", "");

	static const char *const sites[] = { "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "file/store", .site_dirs = sites });
	const struct oci_blob_store *b = img_store_blobs(s);
	struct img_making m = IMG_MAKING_INIT;
	struct vl_err err = { 0 };
	char text[64], *path = NULL;
	uint64_t bytes;
	int fd = -1, listed = 0;
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 0);
	CHECK_STR(text, "of the site");
	CHECK_EQ(img_store_take(s, KEY_B, NULL, &m, &fd, &path, &err), -ENOTDIR);
	CHECK_HAS(err.text, "file/store");
	CHECK_HAS(err.text, "--disable-cache");
	CHECK_EQ(img_store_name_set(s, "x", "amd64", DIGEST, KEY_A, &err), -ENOTDIR);
	CHECK_EQ(img_store_clean(s, &(struct img_store_clean){ .kinds = 7 }, NULL, NULL, &bytes, &err), -ENOTDIR);
	CHECK_EQ(img_store_list(s, count_item, &listed, &err), 0);
	CHECK_EQ(listed, 1);
	VL_CLOSE int blob = new_blob(b);
	CHECK(blob >= 0);
	img_store_free(s);
}

/* What a crash or a full disk may leave is made again. */
TEST(broken_images_are_not_there)
{
	struct img_store *s = open_store();
	const char *path = "a/store/images/" KEY_A ".sif";
	struct sif_new how = { 0 };
	struct sif_object o = { .type = SIF_DEFFILE, .group = SIF_DEFAULT_GROUP, .name = "" };
	struct sif_writer *w = NULL;
	struct vl_err err = { 0 };
	struct stat st;

	VL_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	CHECK_EQ(sif_writer_new(fd, &how, &w, &err), 0);
	CHECK_EQ(sif_writer_add(w, &o, "some text", 9, &err), 0);
	CHECK_EQ(sif_writer_end(w, &err), 0);
	sif_writer_free(w);
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(fstat(fd, &st), 0);
	CHECK_EQ(ftruncate(fd, st.st_size - 1), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(ftruncate(fd, 0), 0);
	CHECK_EQ(ftruncate(fd, st.st_size), 0); /* zeros */
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "made again");
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(site_files_of_somebody_else_are_refused)
{
	if (geteuid() != 0)
		return; /* only root can give files away */
	struct img_store *site = open_with(&(struct img_store_opts){ .dir = "site", .keep_layers = true });
	make_image(site, KEY_A, "planted");
	struct vl_err err = { 0 };
	char digest[160], path[256], hex[65];
	uint8_t raw[32];
	CHECK_EQ(img_store_name_set(site, "x", "amd64", DIGEST, KEY_A, &err), 0);
	img_store_free(site);
	vl_sha256("x\namd64\n", 8, raw);
	vl_hex(raw, 32, hex);
	snprintf(path, sizeof path, "site/names/%s.json", hex);
	CHECK_EQ(chown(path, 12345, 12345), 0);
	CHECK_EQ(chown("site/images/" KEY_A ".sif", 12345, 12345), 0);

	static const char *const sites[] = { "site", NULL };
	struct img_store *s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(chown("site", 12345, 12345), 0); /* now the one who made it owns the site's store */
	img_store_free(s);
	s = open_with(&(struct img_store_opts){ .dir = "own", .site_dirs = sites });
	CHECK_EQ(find(s, KEY_A), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), 0);
	img_store_free(s);
}

/* ---- stores that are not ours alone ---- */

static int open_fails(const char *dir, struct vl_err *err)
{
	struct img_store *s = NULL;

	return img_store_open(&(struct img_store_opts){ .dir = dir }, &s, err);
}

TEST(stores_that_others_can_write_are_refused)
{
	struct vl_err err = { 0 };

	umask(0);
	CHECK_EQ(mkdir("shared", 0777), 0);
	CHECK_EQ(open_fails("shared", &err), -EPERM);
	CHECK_HAS(err.text, "chmod go-w");
	CHECK_EQ(chmod("shared", 0755), 0);
	CHECK_EQ(mkdir("shared/images", 0770), 0);
	CHECK_EQ(open_fails("shared", &err), -EPERM);
	CHECK_EQ(rmdir("shared/images"), 0);
	CHECK_EQ(mkdir("elsewhere", 0700), 0);
	CHECK_EQ(symlink("../elsewhere", "shared/images"), 0);
	CHECK(open_fails("shared", &err) < 0);
	CHECK_EQ(count_names("elsewhere"), 0);
	put("file", "x");
	CHECK(open_fails("file/store", &err) < 0);
	CHECK_HAS(err.text, "VIAL_CACHEDIR");
	CHECK_HAS(err.text, "--disable-cache");
	CHECK_HAS(err.text, "file/store");
	if (geteuid() == 0) {
		CHECK_EQ(mkdir("theirs", 0755), 0);
		CHECK_EQ(chown("theirs", 12345, 12345), 0);
		CHECK_EQ(open_fails("theirs", &err), -EPERM);
		CHECK_HAS(err.text, "12345");
	}
}

/* ---- names ---- */

TEST(names_round_trip)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	char digest[160] = "untouched";

	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), -ENOENT);
	CHECK_STR(digest, "untouched");
	CHECK_EQ(img_store_name_set(s, "docker.io/library/a:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), 0);
	CHECK_STR(digest, DIGEST);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "arm64", digest), -ENOENT);
	CHECK_EQ(img_store_name_set(s, "docker.io/library/a:1", "amd64", "sha256:" KEY_B, KEY_B, &err), 0);
	CHECK_EQ(img_store_name_find(s, "docker.io/library/a:1", "amd64", digest), 0);
	CHECK_STR(digest, "sha256:" KEY_B);
	CHECK_EQ(count_names("a/store/names"), 1);
	CHECK_EQ(img_store_name_set(s, "x", "amd64", "sha256:short", KEY_B, &err), -EINVAL);
	CHECK_EQ(img_store_name_set(s, "x", "amd64", DIGEST, "../../x", &err), -EINVAL);
	/* a name whose image is not there yet stays; one that is asked to go goes */
	clean(s, &(struct img_store_clean){ .kinds = 3 });
	CHECK_EQ(count_names("a/store/names"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
}

/* The same source with other options: one name, and it stays as long as one of its images. */
TEST(a_name_has_all_images_of_its_digest)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	char digest[160];

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_A));
	CHECK(!img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_B));
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_B, &err), 0);
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_A));
	CHECK(img_store_name_has(s, "x:1", "amd64", DIGEST, KEY_B));
	set_used("a/store/images/" KEY_A ".sif", 1000);
	set_used("a/store/images/" KEY_B ".sif", 2000);
	uint64_t each = clean(s, &(struct img_store_clean){ .kinds = 1, .dry = true }) / 2;
	clean(s, &(struct img_store_clean){ .kinds = 3, .limit = each });
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, KEY_B), 0);
	CHECK_EQ(img_store_name_find(s, "x:1", "amd64", digest), 0);
	clean(s, &(struct img_store_clean){ .kinds = 1 });
	CHECK_EQ(img_store_name_find(s, "x:1", "amd64", digest), -ENOENT);
	CHECK_EQ(count_names("a/store/names"), 0);
	/* another digest: the images of the first are not its own */
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", DIGEST, KEY_A, &err), 0);
	CHECK_EQ(img_store_name_set(s, "x:1", "amd64", "sha256:" KEY_B, KEY_B, &err), 0);
	CHECK(!img_store_name_has(s, "x:1", "amd64", "sha256:" KEY_B, KEY_A));
	img_store_free(s);
}

/* names/HASH.json of x, amd64 */
static void name_path(char *ret, size_t n)
{
	uint8_t raw[32];
	char hex[65];

	vl_sha256("x\namd64\n", 8, raw);
	vl_hex(raw, 32, hex);
	snprintf(ret, n, "a/store/names/%s.json", hex);
}

TEST(hostile_names_are_ignored_and_removed)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"null",
		"{\"name\":\"x\",\"arch\":\"amd64\"}",
		"{\"name\":\"y\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"../etc\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"../x\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":\"1\"}",
		"{\"name\":[],\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}",
		"{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}x",
	};
	struct img_store *s = open_store();
	char path[128], digest[160];

	name_path(path, sizeof path);
	for (size_t i = 0; i < VL_COUNT(texts); i++) {
		put(path, texts[i]);
		CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
		clean(s, &(struct img_store_clean){ .kinds = 0 });
		CHECK_EQ(count_names("a/store/names"), 0);
	}
	put(path, "");
	CHECK_EQ(truncate(path, 1 << 20), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	put("good", "{\"name\":\"x\",\"arch\":\"amd64\",\"digest\":\"" DIGEST "\",\"key\":\"" KEY_A "\",\"time\":1}");
	CHECK_EQ(symlink("../../../good", path), 0);
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), -ENOENT);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(rename("good", path), 0); /* the same bytes, as a file */
	CHECK_EQ(img_store_name_find(s, "x", "amd64", digest), 0);
	/* long unused, and there is no such image */
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/names"), 0);
	img_store_free(s);
}

/* ---- planted files ---- */

TEST(planted_images_are_not_there)
{
	struct img_store *s = open_store();
	const char *path = "a/store/images/" KEY_A ".sif";

	put("target", "secret");
	CHECK_EQ(symlink("../../../target", path), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	make_image(s, KEY_A, "a"); /* takes the link's place */
	CHECK_EQ(find(s, KEY_A), 0);
	struct stat st;
	CHECK_EQ(stat("target", &st), 0);
	CHECK_EQ(st.st_size, 6);
	CHECK_EQ(unlink(path), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	CHECK_EQ(find(s, KEY_A), -ENOENT); /* and does not hang */
	CHECK_EQ(unlink(path), 0);
	put(path, "");
	CHECK_EQ(find(s, KEY_A), -ENOENT);
	CHECK_EQ(find(s, "../../../target"), -EINVAL);
	CHECK_EQ(find(s, ""), -EINVAL);
	img_store_free(s);
}

TEST(planted_locks)
{
	struct img_store *s = open_store();
	const char *path = "a/store/locks/" KEY_A;
	struct img_making m = IMG_MAKING_INIT;
	struct vl_err err = { 0 };
	VL_FREE char *where = NULL;
	int fd = -1;

	put("target", "secret");
	CHECK_EQ(symlink("../../../target", path), 0);
	make_image(s, KEY_A, "a");
	struct stat st;
	CHECK_EQ(stat("target", &st), 0);
	CHECK_EQ(st.st_size, 6);
	CHECK_EQ(unlink("a/store/images/" KEY_A ".sif"), 0);
	CHECK_EQ(mkfifo(path, 0600), 0);
	make_image(s, KEY_A, "a");
	CHECK_EQ(unlink("a/store/images/" KEY_A ".sif"), 0);
	CHECK_EQ(mkdir(path, 0700), 0);
	CHECK(img_store_take(s, KEY_A, NULL, &m, &fd, &where, &err) < 0);
	CHECK_HAS(err.text, KEY_A);
	CHECK_EQ(rmdir(path), 0);
	/* what a killed process left is no hindrance, and goes */
	put(path, "left over");
	put("a/store/locks/" KEY_B, "left over");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/locks"), 0);
	img_store_free(s);
}

static const char *const lock_texts[] = {
	"",
	"\n",
	"1",
	"1 2 3",
	"x y z host what\n",
	"-1 2 3 host what",
	"99999999999999999999999 2 3 host what",
	"1 2 0 host what",
	"1 2 99999999999 host what",
	"1 2 3 ho\033[2Jst Con\033[31mverting\n",
};

struct hostile {
	size_t next;
	unsigned shown;
};

static void no_escapes(void *arg, const char *what, uint64_t done, uint64_t total)
{
	(void)done, (void)total;
	struct hostile *h = arg;

	h->shown++;
	CHECK(!strchr(what, '\033'));
	CHECK(!strchr(what, '\n'));
}

/* Somebody is blocked on the file's lock: a line "1: -> OFDLCK ... MAJOR:MINOR:INODE ..." */
static bool is_waited_for(const char *path)
{
	char line[256], inode[32];
	struct stat st;
	bool found = false;
	FILE *f = fopen("/proc/locks", "re");

	CHECK(f && stat(path, &st) == 0);
	snprintf(inode, sizeof inode, ":%llu ", (unsigned long long)st.st_ino);
	while (!found && fgets(line, sizeof line, f))
		found = strstr(line, "->") && strstr(line, inode);
	fclose(f);
	return found;
}

TEST(hostile_lock_texts)
{
	struct img_store *s = open_store();

	for (size_t i = 0; i <= VL_COUNT(lock_texts); i++) {
		struct hostile h = { 0 };
		struct vl_progress p = { .step = no_escapes, .arg = &h };
		struct img_making m = IMG_MAKING_INIT;
		char text[64], long_text[5000], c;
		int ready[2];

		CHECK_EQ(pipe2(ready, O_CLOEXEC), 0);
		pid_t pid = fork();
		if (pid == 0) { /* holds the lock with that text until the other one waits for it */
			CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
			memset(long_text, '7', sizeof long_text - 1);
			long_text[sizeof long_text - 1] = 0;
			put("a/store/locks/" KEY_A, i < VL_COUNT(lock_texts) ? lock_texts[i] : long_text);
			CHECK_EQ(write(ready[1], "x", 1), 1);
			while (!is_waited_for("a/store/locks/" KEY_A))
				sched_yield();
			_exit(0); /* the lock goes with us; its file stays */
		}
		CHECK_EQ(read(ready[0], &c, 1), 1);
		CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
		CHECK_EQ(h.shown > 0, i + 1 == VL_COUNT(lock_texts)); /* the last of them is well-formed */
		img_store_give_up(&m);
		CHECK_EQ(vl_wait(pid), 0);
		close(ready[0]);
		close(ready[1]);
	}
	img_store_free(s);
}

/* ---- poorer file systems ---- */

/* From now on a system call whose argument has all of these bits fails. */
static void refuse(unsigned nr, unsigned arg, unsigned mask, int code)
{
	const struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args) + 8 * arg),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, mask),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, mask, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog prog = { .len = VL_COUNT(filter), .filter = (struct sock_filter *)filter };

	CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void count_warning(void *arg, const char *text)
{
	CHECK_HAS(text, "no file locks");
	++*(int *)arg;
}

TEST(without_locks_everybody_makes_his_own)
{
	struct img_store *s = open_store();
	struct img_making m = IMG_MAKING_INIT, other = IMG_MAKING_INIT;
	int warnings = 0;
	struct vl_progress p = { .warn = count_warning, .arg = &warnings };
	char text[64];

	refuse(SYS_fcntl, 1, F_OFD_SETLK, ENOLCK);
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 1);
	CHECK_EQ(take(s, KEY_A, &p, &other, text), 1);
	CHECK_EQ(warnings, 2);
	img_store_tell(&m, "Converting", 1, 2);
	commit(&m, "first");
	commit(&other, "second");
	CHECK_EQ(take(s, KEY_A, &p, &m, text), 0);
	CHECK_STR(text, "second");
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/locks"), 0);
	CHECK_EQ(count_names("a/store/images"), 1);
	img_store_free(s);
}

TEST(what_cannot_be_removed_is_an_error)
{
	struct img_store *s = open_store();
	struct vl_err err = { 0 };
	uint64_t bytes = 7;
	int told = 0;

	make_image(s, KEY_A, "a");
	make_image(s, KEY_B, "b");
	refuse(SYS_unlinkat, 0, 0, EROFS);
	CHECK_EQ(img_store_clean(s, &(struct img_store_clean){ .kinds = 7 }, count_item, &told, &bytes, &err), -EROFS);
	CHECK_HAS(err.text, "a/store/images/");
	CHECK_HAS(err.text, "Read-only file system");
	CHECK_EQ(told, 0);
	CHECK_EQ(bytes, 7);
	CHECK_EQ(count_names("a/store/images"), 2);
	img_store_free(s);
}

TEST(without_nameless_files)
{
	refuse(SYS_openat, 2, O_TMPFILE & ~O_DIRECTORY, EOPNOTSUPP);
	struct img_store *s = open_store();
	const struct oci_blob_store *b = img_store_blobs(s);
	struct img_making m = IMG_MAKING_INIT;
	struct oci_digest d;
	struct vl_err err = { 0 };
	char text[64];
	int go;
	pid_t pid = start_maker(KEY_A, "Converting", &go);

	/* a file at work stays, that of a killed one goes */
	CHECK_EQ(count_names("a/store/images"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 7 });
	CHECK_EQ(count_names("a/store/images"), 1);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	CHECK_EQ(count_names("a/store/images"), 1);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/images"), 0);
	CHECK_EQ(count_names("a/store/locks"), 0);
	close(go);
	CHECK_EQ(take(s, KEY_A, NULL, &m, text), 1);
	commit(&m, "whole");
	CHECK_EQ(count_names("a/store/images"), 1);

	CHECK_EQ(oci_digest_parse(DIGEST, &d, &err), 0);
	int fd = new_layer(b, "layer"), dropped = new_layer(b, "not to be kept");
	CHECK_EQ(count_names("a/store/blobs"), 2);
	b->keep(b->arg, &d, fd);
	CHECK(has_layer(b, &d, 5, "layer"));
	close(fd);
	close(dropped);
	close(new_layer(b, "next")); /* removes the dropped one */
	CHECK_EQ(count_names("a/store/blobs"), 2);
	clean(s, &(struct img_store_clean){ .kinds = 0 });
	CHECK_EQ(count_names("a/store/blobs"), 1);
	img_store_free(s);

	s = open_with(&(struct img_store_opts){ .dir = "a/store" });
	b = img_store_blobs(s);
	fd = new_layer(b, "layer"); /* not to be kept: without a name at once */
	CHECK_EQ(count_names("a/store/blobs"), 1);
	close(fd);
	img_store_free(s);
}
