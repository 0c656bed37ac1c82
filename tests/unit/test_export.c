#include "sif_check.h"

#include <image/export.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* ---- an image with a bit of everything, made by our own builder ---- */

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void make_tree(void)
{
	CHECK(mkdir("tree", 0755) == 0 && mkdir("tree/sub", 0755) == 0 && mkdir("tree/sub/empty", 0700) == 0);
	put("tree/hello", "hello\n");
	put("tree/none", "");
	put("tree/odd \xff\n\xc3\xa4=", "odd");
	CHECK(link("tree/hello", "tree/sub/again") == 0 && symlink("../hello", "tree/sub/link") == 0);
	CHECK(mkfifo("tree/pipe", 0600) == 0);
	int fd = open("tree/holes", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	CHECK(fd >= 0 && pwrite(fd, "end", 3, 140000) == 3);
	close(fd);
}

/* compress: of the squashfs */
static int make_sif(const char *compress, struct sif_image *sif)
{
	struct img_build_opts o = { .source = "tree", .builder = "1", .compress = compress, .threads = 1, .time = 5 };
	struct img_build_stats stats;
	struct vl_err err = { 0 };
	int fd = memfd_create("sif", MFD_CLOEXEC);

	CHECK_OK(img_build(&o, fd, NULL, &stats, &err), err);
	CHECK_OK(sif_load(fd, sif, &err), err);
	return fd;
}

static int export(const struct sif_image *sif, unsigned threads, struct img_exported *ret, struct vl_err *err)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	int r = img_export(sif, threads, 1 << 24, fd, NULL, ret, err);

	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static void check_sha256(int fd, const struct oci_digest *want, uint64_t size)
{
	struct stat st;
	struct vl_err err = { 0 };
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, size);
	VL_FREE char *all = vl_alloc(size);
	CHECK_OK(vl_pread_full(fd, all, size, 0, "layer", &err), err);
	CHECK_OK(oci_digest_check(want, all, size, "layer", &err), err);
}

/* What a shell says about the layer in fd. */
static char *ask(int fd, const char *command)
{
	VL_FREE char *line = vl_asprintf("exec 9<&- 8</proc/%d/fd/%d; %s", (int)getpid(), fd, command);
	FILE *f = popen(line, "re");
	VL_BUF struct vl_buf out = { 0 };
	char piece[4096];
	size_t n;

	CHECK(f != NULL);
	while ((n = fread(piece, 1, sizeof piece, f)) > 0)
		vl_buf_add(&out, piece, n);
	vl_buf_adds(&out, "");
	CHECK_EQ(pclose(f), 0);
	return vl_steal(&out.data);
}

TEST(digests_are_those_of_the_bytes)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	VL_JSON vl_json *config = NULL;
	struct vl_err err = { 0 };

	make_tree();
	VL_CLOSE int image = make_sif("zstd", &sif);
	VL_CLOSE int fd = export(&sif, 1, &e, &err);
	CHECK_OK(fd, err);
	check_sha256(fd, &e.layer, e.size);
	VL_FREE char *diff = ask(fd, "gzip -dc <&8 | sha256sum | cut -c 1-64 | tr -d '\\n'");
	CHECK_STR(diff, e.diff_id.hex);
	CHECK_OK(vl_json_parse(e.config, strlen(e.config), "config", &config, &err), err);
	const vl_json *ids = vl_json_arr(vl_json_obj(config, "rootfs"), "diff_ids");
	CHECK_EQ(vl_json_len(ids), 1);
	VL_FREE char *want = vl_asprintf("sha256:%s", diff);
	CHECK_STR(vl_json_string(vl_json_at(ids, 0)), want);
	CHECK_STR(vl_json_str(config, "os"), "linux");
	CHECK_STR(vl_json_str(config, "architecture"), sif_host_arch());
	CHECK_STR(vl_json_str(config, "created"), "1970-01-01T00:00:05Z");
	CHECK_EQ(vl_json_len(vl_json_arr(config, "history")), 1);
}

TEST(the_tree_comes_back)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	struct vl_err err = { 0 };

	make_tree();
	VL_CLOSE int image = make_sif("gzip", &sif);
	VL_CLOSE int fd = export(&sif, 2, &e, &err);
	CHECK_OK(fd, err);
	VL_FREE char *same = ask(fd, "mkdir out && tar xzf - -C out --no-same-owner --warning=no-unknown-keyword <&8 &&"
				     "for i in hello none holes sub/again; do cmp out/$i tree/$i; done;"
				     "cd out && stat -c '%F %h' hello pipe sub/again && readlink sub/link && ls sub");
	CHECK_STR(same, "regular file 2\nfifo 1\nregular file 2\n../hello\nagain\nempty\nlink\n");
	struct stat st;
	CHECK(stat("out/odd \xff\n\xc3\xa4=", &st) == 0 && st.st_size == 3);
	/* what the builder added says nothing of its own */
	CHECK(lstat("out/.singularity.d", &st) < 0 && lstat("out/singularity", &st) < 0);
}

TEST(the_number_of_threads_changes_no_byte)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported a = { 0 }, b = { 0 };
	struct vl_err err = { 0 };

	make_tree();
	CHECK(system("head -c 5000000 /dev/urandom >tree/noise") == 0);
	VL_CLOSE int image = make_sif("none", &sif);
	VL_CLOSE int one = export(&sif, 1, &a, &err), four = export(&sif, 4, &b, &err);
	CHECK_OK(one, err);
	CHECK_OK(four, err);
	CHECK_STR(a.layer.hex, b.layer.hex);
	CHECK(a.size > 5000000);
	check_sha256(four, &b.layer, b.size);
	free(ask(four, "gzip -t <&8"));
}

/* ---- hostile images ---- */

static struct vl_err last;

/* Exports a copy of the image with one change. An error or a layer, nothing else. */
static int export_changed(const char *image, size_t size, size_t at, uint8_t mask, size_t cut)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	VL_CLOSE int fd = memfd_with(image, size);
	uint8_t byte = (uint8_t)(image[at] ^ mask);

	last = (struct vl_err){ 0 };
	CHECK(pwrite(fd, &byte, 1, (off_t)at) == 1);
	CHECK_OK(sif_load(fd, &sif, &last), last);
	if (cut)
		CHECK(ftruncate(fd, (off_t)cut) == 0);
	VL_CLOSE int out = export(&sif, 1, &e, &last);
	if (out < 0)
		CHECK(*last.text && last.code == -out);
	return out < 0 ? out : 0;
}

static void change_everywhere(const char *compress)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	const struct sif_descr *root;
	struct vl_err err = { 0 };
	struct stat st;
	unsigned refused = 0, tried = 0;

	make_tree();
	VL_CLOSE int fd = make_sif(compress, &sif);
	CHECK_OK(sif_primary(&sif, &root, &err), err);
	CHECK(fstat(fd, &st) == 0);
	size_t size = (size_t)st.st_size;
	VL_FREE char *image = vl_alloc(size);
	CHECK_OK(vl_pread_full(fd, image, size, 0, "image", &err), err);
	CHECK_EQ(export_changed(image, size, root->off, 0, 0), 0);
	uint64_t used = vl_le64(image + root->off + 40), tables = vl_le64(image + root->off + 64);
	for (uint64_t i = 0; i < used; i++) {
		static const uint8_t masks[] = { 0x01, 0xc0 };
		if (i >= 96 && i < tables) /* file content: only compression can notice */
			continue;
		for (size_t k = 0; k < VL_COUNT(masks); k++, tried++)
			refused += export_changed(image, size, root->off + i, masks[k], 0) < 0;
	}
	CHECK(tried > 200 && refused > tried / 4);
	for (uint64_t i = 0; i < used; i += used / 100 + 1)
		CHECK(export_changed(image, size, root->off, 0, root->off + i) < 0);
}

TEST(changed_tables_are_refused_or_read)
{
	change_everywhere("none"); /* every bit of the tables means something */
}

TEST(changed_compressed_tables_are_refused_or_read)
{
	change_everywhere("zstd");
}

TEST(a_folder_in_itself_is_refused)
{
	/* the folder entry of sub/empty leads back to sub: the same inode again */
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	const struct sif_descr *root;
	struct vl_err err = { 0 };

	CHECK(mkdir("tree", 0755) == 0 && mkdir("tree/qqqa", 0755) == 0 && mkdir("tree/qqqa/qqqb", 0755) == 0);
	VL_CLOSE int fd = make_sif("none", &sif);
	CHECK_OK(sif_primary(&sif, &root, &err), err);
	VL_FREE char *image = vl_alloc(root->size);
	CHECK_OK(vl_pread_full(fd, image, root->size, root->off, "image", &err), err);
	/* an entry is: offset of the inode (2), number (2), type (2), length (2), name */
	char *a = memmem(image, root->size, "qqqa", 4), *b = memmem(image, root->size, "qqqb", 4);
	CHECK(a && b);
	CHECK(pwrite(fd, a - 8, 2, (off_t)(root->off + (uint64_t)(b - 8 - image))) == 2);
	CHECK_EQ(export(&sif, 1, &e, &err), -EINVAL);
	CHECK_HAS(err.text, "two places");
}

TEST(more_than_the_limit_is_refused)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	struct vl_err err = { 0 };
	VL_CLOSE int out = memfd_create("layer", MFD_CLOEXEC);

	make_tree();
	VL_CLOSE int fd = make_sif("zstd", &sif);
	CHECK_EQ(img_export(&sif, 1, 1000, out, NULL, &e, &err), -EFBIG);
}

TEST(more_attributes_than_a_file_may_have_are_named)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	const struct sif_descr *root;
	struct vl_err err = { 0 };
	uint8_t b[8];

	make_tree();
	CHECK(setxattr("tree/hello", "user.name", "value", 5, 0) == 0);
	VL_CLOSE int fd = make_sif("none", &sif);
	CHECK_OK(sif_primary(&sif, &root, &err), err);
	/* the super block names the table, that the block of the lists, and a list has its number at byte 8 */
	CHECK_OK(vl_pread_full(fd, b, 8, root->off + 56, "super block", &err), err);
	uint64_t table = root->off + vl_le64(b);
	CHECK_OK(vl_pread_full(fd, b, 8, table + 16, "table", &err), err);
	uint64_t list = root->off + vl_le64(b) + 2;
	CHECK_OK(vl_pread_full(fd, b, 4, list + 8, "list", &err), err);
	CHECK_EQ(vl_le32(b), 1);
	vl_put_le32(b, 1001);
	CHECK(pwrite(fd, b, 4, (off_t)(list + 8)) == 4);
	CHECK_EQ(export(&sif, 1, &e, &err), -EFBIG);
	CHECK_HAS(err.text, "1001");
	CHECK_HAS(err.text, "1000");
	CHECK_HAS(err.text, "/hello");
}

TEST(a_codec_that_is_missing_is_named)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_CLEANUP(img_exported_free) struct img_exported e = { 0 };
	const struct sif_descr *root;
	struct vl_err err = { 0 };

	make_tree();
	VL_CLOSE int fd = make_sif("none", &sif);
	CHECK_OK(sif_primary(&sif, &root, &err), err);
	/* LZO, which libsquashfs leaves out for its license */
	CHECK(pwrite(fd, "\x03", 1, (off_t)(root->off + 20)) == 1);
	CHECK_EQ(export(&sif, 1, &e, &err), -ENOTSUP);
	CHECK_HAS(err.text, "lzo");
	CHECK_HAS(err.text, "oras://");
}
