/* Any bytes as the documents of an image: index.json of a layout, the image config, a reference. */
#include "fuzz.h"

#include <oci/source.h>

#include <sys/stat.h>

static void as_config(const uint8_t *data, size_t size)
{
	struct vl_err err = { 0 };
	for (size_t layers = 0; layers < 2; layers++) {
		struct oci_image img = { .config_text = vl_memdup(data, size), .config_len = size, .n_layers = layers };
		img.layers = vl_alloc(2 * sizeof *img.layers);
		oci_config_load(&img, &err);
		oci_image_free(&img);
	}
}

static void write_file(const char *path, const void *p, size_t n)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || vl_write_full(fd, p, n) < 0)
		abort();
}

static void as_index(const uint8_t *data, size_t size)
{
	VL_FREE char *dir = vl_strdup(FUZZ_DIR);
	struct oci_ref ref = { .kind = OCI_LAYOUT };
	struct oci_source *s;
	struct oci_image img;
	struct vl_err err = { 0 };

	if (!mkdtemp(dir))
		abort();
	VL_FREE char *version = vl_asprintf("%s/oci-layout", dir), *index = vl_asprintf("%s/index.json", dir);
	write_file(version, "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
	write_file(index, data, size);
	ref.path = dir;
	if (oci_source_open(&ref, NULL, NULL, &s, &err) < 0)
		abort();
	if (oci_image_resolve(s, &ref, "amd64", &img, &err) == 0)
		abort(); /* there are no blobs: nothing can be found */
	if (!*err.text)
		abort();
	oci_source_free(s);
	unlink(version);
	unlink(index);
	rmdir(dir);
}

static void as_reference(const uint8_t *data, size_t size)
{
	VL_FREE char *text = vl_strndup((const char *)data, size);
	struct oci_ref ref;
	struct oci_digest d;
	struct vl_err err = { 0 };

	if (oci_ref_parse(text, &ref, &err) == 0)
		oci_ref_free(&ref);
	oci_digest_parse(text, &d, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	switch (data[0] % 3) {
	case 0:
		as_config(data + 1, size - 1);
		break;
	case 1:
		as_index(data + 1, size - 1);
		break;
	default:
		as_reference(data + 1, size - 1);
	}
	return 0;
}
