/* One broken number at a time, at the borders: what the loader must refuse and what it must take. */
#include "sif_check.h"

#include "sif/format.h"

/* Two slots at 128; object 1 of 16 bytes behind the table. */
enum { TABLE = 128, DATA = TABLE + 2 * 585, SIZE = DATA + 16 };

static void base(uint8_t b[SIZE])
{
	struct sif_header h = { .launch = "x",
				.magic = "SIF_MAGIC",
				.version = "01",
				.arch = "00",
				.free = 1,
				.total = 2,
				.table_off = TABLE,
				.table_size = 2 * 585,
				.data_off = DATA,
				.data_size = 16 };
	struct sif_descr d = { .type = SIF_GENERIC, .used = 1, .id = 1, .group = 1, .off = DATA, .size = 16 };

	memset(b, 0, SIZE);
	sif_header_encode(&h, b);
	sif_descr_encode(&d, b + TABLE);
}

static int load(const uint8_t *b, size_t n)
{
	VL_CLOSE int fd = memfd_with(b, n);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct vl_err err = { 0 };
	int r = sif_load(fd, &img, &err);

	CHECK((r < 0) == (*err.text != 0));
	return r;
}

static int load_with(size_t off, uint64_t value)
{
	uint8_t b[SIZE];

	base(b);
	vl_put_le64(b + off, value);
	return load(b, SIZE);
}

TEST(good)
{
	uint8_t b[SIZE];

	base(b);
	CHECK_EQ(load(b, SIZE), 0);
	memset(b, 0xff, 32); /* 32 bytes of launch line, no NUL */
	CHECK_EQ(load(b, SIZE), 0);
	memset(b + TABLE + 585, 0xff, 585); /* a free slot may hold anything */
	b[TABLE + 585 + 4] = 0;
	CHECK_EQ(load(b, SIZE), 0);
}

TEST(not_sif)
{
	uint8_t b[SIZE];

	base(b);
	CHECK_EQ(load(b, 0), -ENOEXEC);
	CHECK_EQ(load(b, 127), -ENOEXEC);
	b[41] = '0'; /* the magic's NUL */
	CHECK_EQ(load(b, SIZE), -ENOEXEC);
	base(b);
	b[44] = '0'; /* the version's NUL */
	CHECK_EQ(load(b, SIZE), -EINVAL);
}

TEST(header_numbers)
{
	CHECK_EQ(load_with(80, UINT64_MAX), 0); /* free, data offset, data size: shown, not used */
	CHECK_EQ(load_with(112, UINT64_MAX), 0);
	CHECK_EQ(load_with(120, INT64_MAX), 0);
	CHECK_EQ(load_with(88, UINT64_MAX), -EINVAL); /* total */
	CHECK_EQ(load_with(88, SIF_MAX_DESCRIPTORS), -EINVAL);
	CHECK_EQ(load_with(88, SIF_MAX_DESCRIPTORS + 1), -EINVAL);
	CHECK_EQ(load_with(88, UINT64_C(1) << 60), -EINVAL);
	CHECK_EQ(load_with(88, 3), -EINVAL); /* table size says 2 */
	CHECK_EQ(load_with(88, 1), 0);
	CHECK_EQ(load_with(96, 0), -EINVAL); /* table offset */
	CHECK_EQ(load_with(96, 127), -EINVAL);
	CHECK_EQ(load_with(96, UINT64_MAX - 127), -EINVAL);
	CHECK_EQ(load_with(96, INT64_MAX), -EINVAL);
	CHECK_EQ(load_with(96, SIZE - 2 * 585 + 1), -EINVAL);
	CHECK_EQ(load_with(104, 2 * 585 - 1), -EINVAL); /* table size */
	CHECK_EQ(load_with(104, INT64_MAX), 0);
	CHECK_EQ(load_with(104, UINT64_MAX), -EINVAL);
}

TEST(object_numbers)
{
	const size_t off = TABLE + 17, size = TABLE + 25;

	CHECK_EQ(load_with(off, DATA + 1), -EINVAL);
	CHECK_EQ(load_with(off, UINT64_MAX), -EINVAL);
	CHECK_EQ(load_with(off, INT64_MAX), -EINVAL);
	CHECK_EQ(load_with(off, DATA - 1), -EINVAL); /* over the table */
	CHECK_EQ(load_with(off, 127), -EINVAL);      /* over the header */
	CHECK_EQ(load_with(size, 15), 0);
	CHECK_EQ(load_with(size, 0), 0);
	CHECK_EQ(load_with(size, 17), -EINVAL);
	CHECK_EQ(load_with(size, UINT64_MAX), -EINVAL);
	CHECK_EQ(load_with(size, UINT64_MAX - DATA + 1), -EINVAL); /* offset + size is 0 */
}

TEST(ids)
{
	uint8_t b[SIZE];

	base(b);
	vl_put_le32(b + TABLE + 5, 0);
	CHECK_EQ(load(b, SIZE), -EINVAL);
	vl_put_le32(b + TABLE + 5, UINT32_MAX);
	CHECK_EQ(load(b, SIZE), 0);
	memcpy(b + TABLE + 585, b + TABLE, 585);
	CHECK_EQ(load(b, SIZE), -EINVAL); /* twice the same id */
}

TEST(primary_is_one)
{
	uint8_t b[SIZE];
	struct sif_descr d = { .type = SIF_PARTITION, .used = 1, .id = 2, .off = DATA, .size = 1 };
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	const struct sif_descr *root = NULL;
	struct vl_err err;

	base(b);
	vl_put_le32(d.extra + SIF_PART_TYPE, SIF_PART_PRIMARY);
	sif_descr_encode(&d, b + TABLE + 585);
	VL_CLOSE int one = memfd_with(b, SIZE);
	CHECK_OK(sif_load(one, &img, &err), err);
	CHECK_OK(sif_primary(&img, &root, &err), err);
	CHECK_EQ(root->id, 2);
	sif_free(&img);
	root = NULL;
	d.id = 1;
	sif_descr_encode(&d, b + TABLE);
	VL_CLOSE int two = memfd_with(b, SIZE);
	CHECK_OK(sif_load(two, &img, &err), err);
	CHECK_EQ(sif_primary(&img, &root, &err), -EINVAL);
	CHECK_HAS(err.text, "two primary");
	CHECK(!root); /* untouched */
}
