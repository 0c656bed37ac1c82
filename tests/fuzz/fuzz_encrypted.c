/* An encrypted partition's two files. The first byte chooses which; nothing that was not encrypted by the key may come
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n == 0)
		return 0;
	if (data[0] % 2) {
		file(data + 1, n - 1);
		return 0;
	}
	VL_FREE char *text = vl_strndup((const char *)data + 1, n - 1);
	conf(text, strlen(text));
	return 0;
}
