/* An encrypted partition's two files, and the message with its secret. The first byte chooses which; nothing that was not encrypted by the key may come
 * out. */
#include "fuzz.h"

#include <vial/sif.h>

#include "../unit/encrypted_vector.h"

#include <sys/mman.h>

static void conf(const char *text, size_t n)
{
	SIF_DECRYPT struct sif_decrypt *d = NULL;
	struct vl_err err;

	if (strstr(text, "0000")) /* much work for a passphrase is legal, and slow */
		return;
	sif_decrypt_new(text, n, vector_secret, sizeof vector_secret - 1, &d, &err);
}

static void file(const uint8_t *p, size_t n)
{
	SIF_DECRYPT struct sif_decrypt *d = NULL;
	VL_CLOSE int fd = memfd_create("out", MFD_CLOEXEC);
	struct vl_err err;
	char out[sizeof vector_file];

	if (sif_decrypt_new(vector_conf, sizeof vector_conf - 1, vector_secret, sizeof vector_secret - 1, &d, &err) < 0)
		abort();
	size_t half = n / 3;
	int r = sif_decrypt_data(d, p, half, fd, &err);
	if (r == 0)
		r = sif_decrypt_data(d, p + half, n - half, fd, &err);
	if (r == 0)
		sif_decrypt_end(d, fd, &err);
	ssize_t got = pread(fd, out, sizeof out, 0);
	for (ssize_t i = 0; i < got; i++)
		if (out[i] != "text"[i % 4] && out[i] != 0) /* a hole reads as zeros */
			abort();
}

/* Whatever it says, only a text that was wrapped for the key may come out: none of these was. */
static void message(const uint8_t *p, size_t n)
{
	static struct sif_key *key;
	VL_CLOSE int fd = memfd_create("message", MFD_CLOEXEC);
	VL_BUF struct vl_buf secret = { 0 };
	struct sif_descr partition = { .type = SIF_PARTITION, .id = 1 };
	struct sif_descr d = { .type = SIF_CRYPTO_MESSAGE, .id = 2, .link = 1, .size = n };
	struct sif_image img = { .fd = fd, .file_size = n, .d = &d, .n = 1 };
	struct vl_err err;

	if ((!key && sif_key_new("rsa", 2048, &key, &err) < 0) || vl_write_full(fd, p, n) < 0)
		abort();
	if (sif_unwrap_secret(&img, &partition, key, &secret, &err) == 0)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	if (data[0] == 'm') {
		message(data + 1, n - 1);
		return 0;
	}
	if (data[0] % 2) {
		file(data + 1, n - 1);
		return 0;
	}
	VL_FREE char *text = vl_strndup((const char *)data + 1, n - 1);
	conf(text, strlen(text));
	return 0;
}
