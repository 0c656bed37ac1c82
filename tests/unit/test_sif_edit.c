#include "sif_check.h"

#include <sys/resource.h>
#include <signal.h>

static const struct sif_object note = { .type = SIF_GENERIC, .group = 1, .name = "note" };
static const struct sif_object part = {
	.type = SIF_PARTITION,
	.group = 1,
	.fs = SIF_FS_SQUASHFS,
	.part = SIF_PART_SYSTEM,
	.arch = "amd64",
};

/* An image with `slots` slots and one object, "hello". */
static int image(uint32_t slots, int64_t time)
{
	int fd = open("image", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct sif_new how = { .time = time, .slots = slots };
	struct sif_writer *w;
	struct vl_err err;

	CHECK(fd >= 0);
	if (time != SIF_YEAR_ONE)
		sif_uuid_random(how.uuid);
	CHECK_OK(sif_writer_new(fd, &how, &w, &err), err);
	CHECK_OK(sif_writer_add(w, &note, "hello", 5, &err), err);
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);
	return fd;
}

static char *content(int fd, size_t *n)
{
	char *p;
	struct vl_err err;

	(void)fd;
	CHECK_OK(vl_read_file(AT_FDCWD, "image", 1 << 20, &p, n, &err), err);
	return p;
}

TEST(add_and_delete)
{
	VL_CLOSE int fd = image(3, 1000);
	SIF_EDIT struct sif_edit *e = NULL;
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct vl_err err;
	uint32_t id;
	VL_FREE char *data = NULL;

	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_OK(sif_edit_add(e, &part, "hsqs", 4, &id, &err), err);
	CHECK_EQ(id, 2);
	CHECK_OK(sif_edit_add(e, &note, "abc", 3, &id, &err), err);
	CHECK_EQ(id, 3);
	CHECK_EQ(sif_edit_add(e, &note, "abc", 3, &id, &err), -ENOSPC);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 1); /* nothing before commit */
	CHECK_OK(sif_edit_commit(e, &err), err);
	sif_free(&img);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 3);
	CHECK_EQ(img.h.free, 0);
	CHECK_EQ(img.h.modified, 2000);
	CHECK_EQ(img.d[1].off % 4096, 0);
	CHECK_EQ(img.d[2].off, img.d[1].off + 4);
	CHECK_OK(sif_read_object(&img, &img.d[2], 10, &data, NULL, &err), err);
	CHECK_STR(data, "abc");
	CHECK_EQ(sif_edit_setprim(e, 3, &err), -EINVAL);
	CHECK_OK(sif_edit_setprim(e, 2, &err), err);
	CHECK_OK(sif_edit_del(e, 1, &err), err);
	CHECK_EQ(sif_edit_del(e, 1, &err), -ENOENT);
	CHECK_OK(sif_edit_add(e, &note, "again", 5, &id, &err), err);
	CHECK_EQ(id, 1); /* the first free slot's number */
	CHECK_OK(sif_edit_commit(e, &err), err);
	sif_free(&img);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 3);
	CHECK_STR(sif_arch_name((const char *)img.h.arch), "amd64");
	CHECK_EQ(sif_part_type(&img.d[1]), SIF_PART_PRIMARY);
}

TEST(forgotten_additions_leave_the_file_as_it_was)
{
	VL_CLOSE int fd = image(3, 1000);
	size_t n, m;
	VL_FREE char *before = content(fd, &n);
	struct sif_edit *e;
	struct vl_err err;

	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_OK(sif_edit_add(e, &note, "abc", 3, NULL, &err), err);
	sif_edit_end(e);
	VL_FREE char *after = content(fd, &m);
	CHECK_EQ(n, m);
	CHECK_MEM(before, after, n);
}

/* A full disk stands in as a limit on the file's size. */
TEST(failed_write_leaves_the_file_as_it_was)
{
	VL_CLOSE int fd = image(3, 1000);
	size_t n, m;
	VL_FREE char *before = content(fd, &n), *big = vl_alloc(100000);
	struct rlimit limit = { n + 5000, n + 5000 };
	struct sif_edit *e;
	struct vl_err err;

	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &limit);
	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_EQ(sif_edit_add(e, &note, big, 100000, NULL, &err), -EFBIG);
	sif_edit_end(e);
	VL_FREE char *after = content(fd, &m);
	CHECK_EQ(n, m);
	CHECK_MEM(before, after, n);
}

TEST(second_editor_is_refused)
{
	VL_CLOSE int fd = image(3, 1000);
	VL_CLOSE int other = open("image", O_RDWR | O_CLOEXEC);
	SIF_EDIT struct sif_edit *e = NULL, *f = NULL;
	struct vl_err err;

	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_EQ(sif_edit_begin(other, 2000, &f, &err), -EBUSY);
	sif_edit_end(vl_steal(&e));
	CHECK_OK(sif_edit_begin(other, 2000, &f, &err), err);
}

TEST(deterministic_images_stay_so)
{
	VL_CLOSE int fd = image(3, SIF_YEAR_ONE);
	SIF_EDIT struct sif_edit *e = NULL;
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct vl_err err;

	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_OK(sif_edit_add(e, &note, "abc", 3, NULL, &err), err);
	CHECK_OK(sif_edit_commit(e, &err), err);
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.h.modified, SIF_YEAR_ONE);
	CHECK_EQ(img.d[1].created, SIF_YEAR_ONE);
}

TEST(an_image_is_not_added_to_itself)
{
	VL_CLOSE int fd = image(3, 1000);
	SIF_EDIT struct sif_edit *e = NULL;
	struct vl_err err;

	CHECK_OK(sif_edit_begin(fd, 2000, &e, &err), err);
	CHECK_EQ(sif_edit_add_fd(e, &note, fd, NULL, &err), -EINVAL);
}
