#include "sif_check.h"

static const uint8_t uuid[16] = { 1, 2, 3, 4, 5, 6, 0x47, 8, 0x89, 10, 11, 12, 13, 14, 15, 16 };

static int new_image(struct sif_writer **w, uint32_t slots)
{
	int fd = memfd_with(NULL, 0);
	struct vl_err err;
	struct sif_new how = { .time = 1700000000, .slots = slots };

	memcpy(how.uuid, uuid, 16);
	CHECK_OK(sif_writer_new(fd, &how, w, &err), err);
	return fd;
}

static const struct sif_object text = { .type = SIF_DEFFILE, .group = 1, .name = "def" };
static const struct sif_object root = {
	.type = SIF_PARTITION,
	.group = 1,
	.fs = SIF_FS_SQUASHFS,
	.part = SIF_PART_PRIMARY,
	.arch = "arm64",
};

TEST(round_trip)
{
	struct sif_writer *w;
	struct vl_err err;
	uint64_t off;
	VL_CLOSE int fd = new_image(&w, 0);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	const struct sif_descr *d;
	VL_FREE char *data = NULL;
	size_t n;
	char arch[4];

	CHECK_OK(sif_writer_add(w, &text, "hello", 5, &err), err);
	CHECK_OK(sif_writer_stream(w, &root, &off, &err), err);
	CHECK_EQ(off % 4096, 0);
	CHECK_EQ(pwrite(fd, "hsqs-and-more", 13, (off_t)off), 13);
	CHECK_OK(sif_writer_stream_end(w, 4, &err), err);
	CHECK_EQ(sif_load(fd, &img, &err), -ENOEXEC); /* not an image before the end */
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);

	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(img.n, 2);
	CHECK_EQ(img.h.total, 48);
	CHECK_EQ(img.h.free, 46);
	CHECK_EQ(img.h.table_off, 4096);
	CHECK_EQ(img.h.data_off, 32176);
	CHECK_EQ(img.file_size, off + 4);
	CHECK_EQ(img.h.data_size, off + 4 - 32176);
	CHECK_STR(sif_arch_name((const char *)img.h.arch), "arm64");
	CHECK(!memcmp(img.h.uuid, uuid, 16));
	CHECK_OK(sif_primary(&img, &d, &err), err);
	CHECK_EQ(d->id, 2);
	CHECK_EQ(d->group, 1);
	CHECK_EQ(d->size_padded, (int64_t)(off + 4 - 32176 - 5));
	sif_part_arch(d, arch);
	CHECK_STR(arch, "04");
	d = sif_by_name(&img, SIF_DEFFILE, "def");
	CHECK(d && d->created == 1700000000);
	CHECK_OK(sif_read_object(&img, d, 5, &data, &n, &err), err);
	CHECK_STR(data, "hello");
	CHECK_EQ(sif_read_object(&img, d, 4, &data, &n, &err), -EFBIG);
}

TEST(refusals)
{
	struct sif_writer *w;
	struct vl_err err;
	uint64_t off;
	VL_CLOSE int fd = new_image(&w, 2);
	struct sif_object bad = root;
	char name[200];

	CHECK_OK(sif_writer_stream(w, &root, &off, &err), err);
	CHECK_EQ(sif_writer_add(w, &text, "x", 1, &err), -EBUSY);
	CHECK_EQ(sif_writer_end(w, &err), -EBUSY);
	CHECK_OK(sif_writer_stream_end(w, 4096, &err), err);
	CHECK_EQ(sif_writer_add(w, &root, "x", 1, &err), -EEXIST); /* a second primary */
	bad.part = SIF_PART_DATA;
	bad.arch = "vax";
	CHECK_EQ(sif_writer_add(w, &bad, "x", 1, &err), -EINVAL);
	memset(name, 'n', sizeof name);
	name[128] = 0;
	bad.arch = "amd64";
	bad.name = name;
	CHECK_EQ(sif_writer_add(w, &bad, "x", 1, &err), -ENAMETOOLONG);
	CHECK_EQ(sif_writer_end(w, &err), -EIO); /* 4096 bytes were promised and not written */
	CHECK_OK(sif_writer_add(w, &text, "x", 1, &err), err);
	CHECK_EQ(sif_writer_add(w, &text, "x", 1, &err), -ENOSPC);
	sif_writer_free(w);
	struct sif_new how = { .time = 0 };
	CHECK_EQ(sif_writer_new(fd, &how, &w, &err), -EEXIST);
}

TEST(uuids_and_names)
{
	uint8_t u[16];
	char t[37];

	sif_uuid_text(uuid, t);
	CHECK_STR(t, "01020304-0506-4708-890a-0b0c0d0e0f10");
	sif_uuid_random(u);
	CHECK_EQ(u[6] >> 4, 4);
	CHECK_EQ(u[8] >> 6, 2);
	CHECK_STR(sif_arch_name("99"), "unknown");
	CHECK_STR(sif_arch_code("loong64"), "13");
	CHECK(!sif_arch_code("unknown"));
	CHECK_STR(sif_type_name(77), "Unknown");
	CHECK(sif_arch_code(sif_host_arch()) != NULL);
}
