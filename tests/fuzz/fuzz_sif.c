/* The loader and all that reads a loaded image, up to a whole verification. */
#include "fuzz.h"

#include <sys/mman.h>
#include <vial/sif.h>

static const char key_pem[] = "-----BEGIN PUBLIC KEY-----\n"
			      "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
			      "-----END PUBLIC KEY-----\n";

static void walk(const struct sif_image *img)
{
	struct vl_err err;
	char arch[4];

	for (size_t i = 0; i < img->n; i++) {
		const struct sif_descr *d = &img->d[i];
		VL_FREE char *words = sif_descr_words(d), *name = sif_name(d), *data = NULL;

		(void)words, (void)name;
		if (d->off > img->file_size || d->size > img->file_size - d->off)
			abort();
		if (sif_by_id(img, d->id) != d)
			abort(); /* ids are unique after loading */
		if (sif_read_object(img, d, 1u << 16, &data, NULL, &err) == 0 && data[d->size])
			abort();
		sif_part_arch(d, arch);
		sif_arch_name(arch);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct sif_key *key;
	VL_CLOSE int fd = memfd_create("fuzz", MFD_CLOEXEC);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	SIF_REPORT struct sif_report rep = { 0 };
	const struct sif_descr *root;
	struct vl_err err;

	if (!key && sif_key_parse(key_pem, sizeof key_pem - 1, "key", SIF_KEY_PUBLIC, &key, &err) < 0)
		abort();
	if (fd < 0 || vl_write_full(fd, data, n) < 0)
		abort();
	if (sif_load(fd, &img, &err) < 0)
		return 0;
	VL_FREE char *launch = sif_launch(&img.h);
	(void)launch;
	walk(&img);
	if (sif_primary(&img, &root, &err) == 0 && sif_part_type(root) != SIF_PART_PRIMARY)
		abort();
	struct sif_verify_opts o = { .keys = &key, .n_keys = 1 };
	if (sif_verify(&img, &o, &rep, &err) == 0)
		abort(); /* no input holds a signature by it */
	return 0;
}
