#include "sif_check.h"

#define SECRET "open sesame"
#define BASE 96 /* where a squashfs has its first data */
#define PAGE (128u << 10)
#define MARK "this is plain text"

static int start(int fd, struct sif_encrypt **ret, struct vl_err *err)
{
	return sif_encrypt_new(SECRET, strlen(SECRET), fd, BASE, ret, err);
}

/* What the reader makes of what was written. */
static void decrypt(int fd, const char *conf, uint64_t stored, int out)
{
	SIF_DECRYPT struct sif_decrypt *d = NULL;
	VL_FREE uint8_t *file = vl_alloc(stored);
	struct vl_err err;

	CHECK_EQ(pread(fd, file, stored, BASE), (ssize_t)stored);
	CHECK_OK(sif_decrypt_new(conf, strlen(conf), SECRET, strlen(SECRET), &d, &err), err);
	CHECK_OK(sif_decrypt_data(d, file, stored, out, &err), err);
	CHECK_OK(sif_decrypt_end(d, out, &err), err);
}

static uint8_t *mapped(int fd, size_t *ret_n)
{
	*ret_n = (size_t)lseek(fd, 0, SEEK_END);
	uint8_t *p = mmap(NULL, *ret_n, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	return p;
}

/* As a squashfs is written: onwards, back to compare, back to write over, and the head at last. The file is larger than
 * all pages together. */
TEST(what_is_written_anywhere_is_what_the_reader_gets)
{
	enum { SIZE = 12 * PAGE + 4096 };
	SIF_ENCRYPT struct sif_encrypt *e = NULL;
	VL_FREE uint8_t *model = vl_alloc(SIZE), *got = vl_alloc(SIZE);
	VL_CLOSE int fd = memfd_create("file", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
	uint64_t size = 0, stored, seed = 1;
	struct vl_err err;
	size_t n;

	CHECK_OK(start(fd, &e, &err), err);
	while (size < SIZE) {
		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		uint64_t at = seed >> 60 < 12 ? size : (seed >> 20) % (size + 1);
		n = (size_t)VL_MIN((seed >> 33) % 70000 + 1, SIZE - at);
		for (size_t i = 0; i < n; i++)
			model[at + i] = (uint8_t)MARK[(i + seed) % (sizeof MARK - 1)];
		CHECK_OK(sif_encrypt_write(e, model + at, n, at, &err), err);
		size = VL_MAX(size, at + n);
		at = (seed >> 10) % size;
		n = (size_t)VL_MIN(40000, size - at);
		CHECK_OK(sif_encrypt_read(e, got, n, at, &err), err);
		CHECK(memcmp(got, model + at, n) == 0);
	}
	CHECK_EQ(sif_encrypt_end(e, SIZE - 1, &stored, &err), -EINVAL);
	CHECK_OK(sif_encrypt_end(e, SIZE, &stored, &err), err);
	CHECK_EQ(stored, 18 + SIZE / 4096 * 4128);
	decrypt(fd, sif_encrypt_conf(e), stored, out);
	CHECK_EQ(pread(out, got, SIZE, 0), SIZE);
	CHECK(memcmp(got, model, SIZE) == 0);
	uint8_t *file = mapped(fd, &n);
	CHECK(memmem(file, n, "plain", 5) == NULL);
	munmap(file, n);
}

/* A squashfs whose last blocks turned out to be there already is shorter than what was written. */
TEST(what_lies_behind_the_end_does_not_count)
{
	SIF_ENCRYPT struct sif_encrypt *e = NULL;
	VL_CLOSE int fd = memfd_create("file", MFD_CLOEXEC), out = memfd_create("out", MFD_CLOEXEC);
	VL_FREE uint8_t *data = vl_alloc(10 * PAGE);
	uint64_t stored;
	struct vl_err err;
	char c;

	CHECK_OK(start(fd, &e, &err), err);
	CHECK_OK(sif_encrypt_write(e, data, 10 * PAGE, 0, &err), err);
	CHECK_EQ(sif_encrypt_write(e, data, 1, 10 * PAGE + 1, &err), -EINVAL); /* a hole */
	CHECK_EQ(sif_encrypt_read(e, &c, 1, 10 * PAGE, &err), -EINVAL);
	CHECK_EQ(sif_encrypt_read(e, &c, SIZE_MAX, 1, &err), -EINVAL);
	CHECK_OK(sif_encrypt_end(e, PAGE + 4096, &stored, &err), err);
	CHECK_EQ(stored, 18 + 33 * 4128);
	decrypt(fd, sif_encrypt_conf(e), stored, out);
	CHECK_EQ(lseek(out, 0, SEEK_END), PAGE + 4096);
}

/* One nonce for two texts would give both away. */
TEST(a_block_that_is_written_again_has_another_nonce)
{
	SIF_ENCRYPT struct sif_encrypt *e = NULL;
	VL_CLOSE int fd = memfd_create("file", MFD_CLOEXEC);
	uint8_t block[4096] = { 0 }, first[16], second[16];
	uint64_t stored;
	struct vl_err err;

	CHECK_OK(start(fd, &e, &err), err);
	for (int i = 0; i < 2; i++) {
		CHECK_OK(sif_encrypt_write(e, block, sizeof block, 0, &err), err);
		CHECK_OK(sif_encrypt_end(e, sizeof block, &stored, &err), err);
		CHECK_EQ(pread(fd, i ? second : first, 16, BASE + 18), 16);
	}
	CHECK(memcmp(first, second, 16) != 0);
}

TEST(a_place_that_cannot_be_written_is_an_error)
{
	SIF_ENCRYPT struct sif_encrypt *e = NULL;
	VL_CLOSE int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	uint8_t block[4096] = { 0 };
	uint64_t stored;
	struct vl_err err;

	CHECK_OK(start(fd, &e, &err), err);
	CHECK_OK(sif_encrypt_write(e, block, sizeof block, 0, &err), err);
	CHECK_EQ(sif_encrypt_end(e, sizeof block, &stored, &err), -EBADF);
}

/* The message as an image has it. */
static int unwrap(const struct sif_key *k, const struct vl_buf *text, struct vl_buf *ret, struct vl_err *err)
{
	VL_CLOSE int fd = memfd_with(text->data, text->len);
	struct sif_descr partition = { .type = SIF_PARTITION, .id = 3 };
	struct sif_descr message = { .type = SIF_CRYPTO_MESSAGE, .id = 4, .link = 3, .size = text->len };
	struct sif_image img = { .fd = fd, .file_size = text->len, .d = &message, .n = 1 };

	return sif_unwrap_secret(&img, &partition, k, ret, err);
}

TEST(a_secret_is_wrapped_for_one_key)
{
	SIF_KEY struct sif_key *k = NULL, *other = NULL, *ed = NULL;
	VL_BUF struct vl_buf text = { 0 }, got = { 0 };
	char secret[SIF_SECRET_SIZE + 1], second[SIF_SECRET_SIZE + 1];
	struct vl_err err;

	CHECK_OK(sif_key_new("rsa", 2048, &k, &err), err);
	CHECK_OK(sif_key_new("rsa", 2048, &other, &err), err);
	CHECK_OK(sif_key_new("ed25519", 0, &ed, &err), err);
	CHECK_OK(sif_secret_random(secret, &err), err);
	CHECK_OK(sif_secret_random(second, &err), err);
	CHECK_EQ(strlen(secret), SIF_SECRET_SIZE);
	CHECK(strcmp(secret, second) != 0);
	CHECK_EQ(sif_wrap_secret(ed, secret, SIF_SECRET_SIZE, &text, &err), -EKEYREJECTED);
	CHECK_OK(sif_wrap_secret(k, secret, SIF_SECRET_SIZE, &text, &err), err);
	CHECK(strstr(text.data, secret) == NULL);
	CHECK_OK(unwrap(k, &text, &got, &err), err);
	CHECK(got.len == SIF_SECRET_SIZE && !memcmp(got.data, secret, SIF_SECRET_SIZE));
	got.len = 0;
	CHECK_EQ(unwrap(other, &text, &got, &err), -EKEYREJECTED);
	text.data[text.len / 2] ^= 1;
	CHECK(unwrap(k, &text, &got, &err) < 0);
	CHECK_EQ(got.len, 0);
}
