/* The profile object of an image, and reads of places where much is read at a time. */
#include "sif_check.h"

#include <mount/squash.h>

static bool parse(const char *text, struct sif_profile *p)
{
	return sif_profile_parse(text, strlen(text), 1000, p);
}

TEST(extents_are_cut_to_the_partition)
{
	struct sif_profile p;

	CHECK(parse("{\"version\":1,\"extents\":[[10,20],[900,5000]]}", &p));
	CHECK_EQ(p.n, 2);
	CHECK_EQ(p.extent[0].off, 10);
	CHECK_EQ(p.extent[0].len, 20);
	CHECK_EQ(p.extent[1].off, 900);
	CHECK_EQ(p.extent[1].len, 100);
}

TEST(what_makes_no_sense_is_no_profile)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"{\"version\":2,\"extents\":[[1,2]]}",
		"{\"version\":1,\"extents\":[]}",
		"{\"version\":1,\"extents\":[[1000,1]]}",
		"{\"version\":1,\"extents\":[[-1,1]]}",
		"{\"version\":1,\"extents\":[[1,0]]}",
		"{\"version\":1,\"extents\":[[1]]}",
		"{\"version\":1,\"extents\":[[\"1\",2]]}",
		"{\"version\":1,\"extents\":[[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1],[0,1]]}",
	};
	struct sif_profile p;

	for (size_t i = 0; i < VL_COUNT(bad); i++)
		if (parse(bad[i], &p))
			CHECK_FAIL("taken: %s", bad[i]);
}

/* A file of numbers, with two fronts that overlap and reach past its end. */
TEST(a_front_gives_what_the_file_has)
{
	enum { SIZE = 3 * SQ_FRONT_CHUNK + 5000 };
	VL_FREE uint8_t *data = vl_alloc(SIZE), *got = vl_alloc(SIZE);
	const struct vmnt_extent front[] = { { 100, SQ_FRONT_CHUNK + 7 }, { SQ_FRONT_CHUNK - 50, 1u << 30 } };

	for (uint32_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 20);
	VL_CLOSE int fd = memfd_with(data, SIZE);
	struct vmnt_image image = { .fd = fd, .front = front, .n_front = VL_COUNT(front) };
	struct sq_shared shared = { 0 };
	struct squash s = { .fd = fd, .off = 1000, .sh = &shared };
	vmnt_front_init(&shared.front, &image, SIZE - 1000);
	CHECK_EQ(shared.front.n, 2);
	CHECK(!vmnt_front_read(&s, got, 10, 95)); /* begins before the first */
	for (uint64_t pos = 100, n = 1; pos + n <= SIZE - 1000; pos += n / 2 + 1, n = n * 3 % 200000 + 1) {
		memset(got, 0, n);
		if (vmnt_front_read(&s, got, n, pos) && memcmp(got, data + 1000 + pos, n))
			CHECK_FAIL("wrong bytes at %llu", (unsigned long long)pos);
	}
	CHECK(vmnt_front_read(&s, got, SQ_FRONT_CHUNK * 2, SQ_FRONT_CHUNK));
	CHECK(!memcmp(got, data + 1000 + SQ_FRONT_CHUNK, SQ_FRONT_CHUNK * 2));
	vmnt_front_free(&shared.front);
}
