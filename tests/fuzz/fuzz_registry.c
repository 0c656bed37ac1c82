/* Any bytes as what a registry answers: a manifest, of an image and of an artifact, and a Content-Range. */
#include "fuzz.h"

#include "oci/download.h"

#include <sys/stat.h>

static void write_file(const char *path, const void *p, size_t n)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0 || vl_write_full(fd, p, n) < 0)
		abort();
}

/* A manifest passes its digest check first, so it comes with the right one. */
static void as_manifest(const uint8_t *data, size_t size)
{
	VL_FREE char *dir = vl_strdup(FUZZ_DIR);
	char hex[65];
	uint8_t sha[32];
	struct vl_err err = { 0 };
	struct oci_source *s;
	struct oci_image img;
	struct oci_artifact a;

	if (!mkdtemp(dir))
		abort();
	vl_sha256(data, size, sha);
	vl_hex(sha, 32, hex);
	VL_FREE char *blobs = vl_asprintf("%s/blobs", dir), *sub = vl_asprintf("%s/sha256", blobs),
		     *version = vl_asprintf("%s/oci-layout", dir), *index = vl_asprintf("%s/index.json", dir),
		     *blob = vl_asprintf("%s/%s", sub, hex),
		     *text = vl_asprintf("{\"manifests\":[{\"digest\":\"sha256:%s\",\"size\":%zu}]}", hex, size);
	if (mkdir(blobs, 0700) < 0 || mkdir(sub, 0700) < 0)
		abort();
	write_file(version, "{\"imageLayoutVersion\":\"1.0.0\"}", 30);
	write_file(index, text, strlen(text));
	write_file(blob, data, size);
	struct oci_ref ref = { .kind = OCI_LAYOUT, .path = dir };
	if (oci_source_open(&ref, NULL, NULL, &s, &err) < 0)
		abort();
	if (oci_image_find(s, &ref, "amd64", &img, &err) == 0) {
		/* its config can only be the manifest itself, which then names other layers than it should */
		oci_image_load(s, &ref, "amd64", &img, &err);
		oci_image_free(&img);
	} else if (!*err.text) {
		abort();
	}
	if (oci_artifact_resolve(s, &ref, "amd64", &a, &err) == 0) {
		if (a.title && (strchr(a.title, '/') || *a.title == '.'))
			abort();
		oci_artifact_free(&a);
	}
	oci_source_free(s);
	unlink(blob);
	unlink(version);
	unlink(index);
	rmdir(sub);
	rmdir(blobs);
	rmdir(dir);
}

static void as_range(const uint8_t *data, size_t size)
{
	VL_FREE char *text = vl_strndup((const char *)data, size);
	uint64_t first, last, total;

	if (oci_content_range(text, &first, &last, &total) == 0 && (last < first || total <= last))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_range(data, size);
	if (size < 64 << 10)
		as_manifest(data, size);
	return 0;
}
