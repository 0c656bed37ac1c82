#include "sif_check.h"

#include <sys/mman.h>

/* Made by gocryptfs' rules with another implementation: scrypt of 1024, 8, 1; the file holds "text" 1500 times. */
#include "encrypted_vector.h"

static int start(const char *conf, const char *secret, struct sif_decrypt **ret, struct vl_err *err)
{
	return sif_decrypt_new(conf, strlen(conf), secret, strlen(secret), ret, err);
}

TEST(vector_in_pieces_of_any_size)
{
	static const size_t steps[] = { 1, 17, 18, 19, 4128, sizeof vector_file };
	for (size_t s = 0; s < VL_COUNT(steps); s++) {
		SIF_DECRYPT struct sif_decrypt *d = NULL;
		VL_CLOSE int fd = memfd_create("out", MFD_CLOEXEC);
		char got[7000];
		struct vl_err err;
		CHECK_OK(start(vector_conf, vector_secret, &d, &err), err);
		for (size_t at = 0; at < sizeof vector_file; at += steps[s])
			CHECK_OK(sif_decrypt_data(d, vector_file + at, VL_MIN(steps[s], sizeof vector_file - at), fd,
						  &err),
				 err);
		CHECK_OK(sif_decrypt_end(d, fd, &err), err);
		CHECK_EQ(pread(fd, got, sizeof got, 0), 6000);
		for (size_t i = 0; i < 6000; i++)
			CHECK(got[i] == "text"[i % 4]);
	}
}

static int whole(const uint8_t *file, size_t n, uint64_t *ret_out)
{
	SIF_DECRYPT struct sif_decrypt *d = NULL;
	VL_CLOSE int fd = memfd_create("out", MFD_CLOEXEC);
	struct vl_err err;
	int r;

	CHECK_OK(start(vector_conf, vector_secret, &d, &err), err);
	r = sif_decrypt_data(d, file, n, fd, &err);
	if (r == 0)
		r = sif_decrypt_end(d, fd, &err);
	*ret_out = (uint64_t)lseek(fd, 0, SEEK_END);
	return r;
}

/* What was not authenticated is never handed on; only a cut between two blocks goes unseen here. */
TEST(every_byte_counts)
{
	uint8_t file[sizeof vector_file];
	uint64_t out;

	for (size_t at = 0; at < sizeof file; at += at < 40 ? 1 : 97) {
		memcpy(file, vector_file, sizeof file);
		file[at] ^= 1;
		CHECK(whole(file, sizeof file, &out) < 0);
		CHECK(out == 0);
	}
	for (size_t n = 0; n < sizeof file; n += n < 60 ? 1 : 101)
		if (n != 18 + 4128)
			CHECK(whole(vector_file, n, &out) < 0);
	/* blocks exchanged */
	memcpy(file, vector_file, sizeof file);
	memcpy(file + 18, vector_file + 18 + 4128, 100);
	CHECK_EQ(whole(file, sizeof file, &out), -EBADMSG);
}

TEST(secrets_and_configurations)
{
	static const struct {
		const char *from, *to;
		int want;
	} edits[] = {
		{ "\"N\": 1024", "\"N\": 1023", -EINVAL },
		{ "\"N\": 1024", "\"N\": 512", -EINVAL },
		{ "\"N\": 1024", "\"N\": -1024", -EINVAL },
		{ "\"N\": 1024", "\"N\": 4194304", -EINVAL }, /* 4 GiB */
		{ "\"N\": 1024", "\"N\": \"1024\"", -EINVAL },
		{ "\"R\": 8", "\"R\": 0", -EINVAL },
		{ "\"P\": 1", "\"P\": 1000000", -EINVAL },
		{ "\"Version\": 2", "\"Version\": 3", -ENOTSUP },
		{ "\"HKDF\"", "\"AESSIV\"", -ENOTSUP },
		{ "\"EncryptedKey\": \"", "\"EncryptedKey\": \"AAAA", -EINVAL },
		{ "\"Salt\": \"", "\"Salt\": \"!", -EINVAL },
		{ "\"Salt\": \"", "\"Salt\": \"AAAA", -EACCES },
		{ "{", "[", -EINVAL },
	};
	struct sif_decrypt *d = NULL;
	struct vl_err err;

	CHECK_EQ(start(vector_conf, "open", &d, &err), -EACCES);
	CHECK_EQ(start(vector_conf, "", &d, &err), -EACCES);
	CHECK_EQ(start("", vector_secret, &d, &err), -EINVAL);
	CHECK_EQ(start("{}", vector_secret, &d, &err), -ENOTSUP);
	for (size_t i = 0; i < VL_COUNT(edits); i++) {
		const char *at = strstr(vector_conf, edits[i].from);
		CHECK(at != NULL);
		VL_FREE char *conf = vl_asprintf("%.*s%s%s", (int)(at - vector_conf), vector_conf, edits[i].to,
						 at + strlen(edits[i].from));
		int r = start(conf, vector_secret, &d, &err);
		if (r != edits[i].want)
			CHECK_FAIL("%s -> %s: %d (%s)", edits[i].from, edits[i].to, r, r < 0 ? err.text : "");
	}
}
