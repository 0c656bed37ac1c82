/* What an image says it was made of: read back, and not believed when it is no such statement. */
#include "sif_check.h"

static int image_with(const char *text)
{
	struct sif_new how = { .time = 5 };
	struct sif_object o = { .type = SIF_JSON, .group = 3, .name = SIF_PROVENANCE_NAME };
	struct sif_writer *w;
	struct vl_err err = { 0 };
	int fd = memfd_create("sif", MFD_CLOEXEC);

	CHECK_OK(sif_writer_new(fd, &how, &w, &err), err);
	if (text)
		CHECK_OK(sif_writer_add(w, &o, text, strlen(text), &err), err);
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);
	return fd;
}

static int read_of(const char *text, struct sif_provenance *ret)
{
	SIF_IMAGE struct sif_image img = { 0 };
	struct vl_err err = { 0 };
	VL_CLOSE int fd = image_with(text);

	CHECK_OK(sif_load(fd, &img, &err), err);
	return sif_provenance_read(&img, ret, &err);
}

#define TOP(build)                                                                                                     \
	"{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":\"https://slsa.dev/provenance/v1\","         \
	"\"predicate\":{\"buildDefinition\":" build ",\"runDetails\":{\"builder\":{\"version\":{\"vial\":\"9\"}}}}}"
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

TEST(source_and_digests)
{
	SIF_PROVENANCE struct sif_provenance p = { 0 };

	CHECK_EQ(read_of(TOP("{\"externalParameters\":{\"source\":\"docker://x\"},\"resolvedDependencies\":["
			     "{\"name\":\"manifest\",\"digest\":{\"sha256\":\"" HEX "\"}},"
			     "{\"name\":\"config\",\"digest\":{\"sha512\":\"" HEX HEX "\"}},"
			     "{\"name\":\"manifest\",\"digest\":{\"sha256\":\"bad\"}},"
			     "{\"name\":\"layer 1\"},{\"name\":\"layer 2\"},{},7]}"),
			 &p),
		 0);
	CHECK_STR(p.source, "docker://x");
	CHECK_STR(p.digest, "sha256:" HEX);
	CHECK_STR(p.config, "sha512:" HEX HEX);
	CHECK_STR(p.builder, "vial 9");
	CHECK_EQ(p.layers, 2);
	CHECK_EQ(p.id, 1);
	CHECK_EQ(p.group, 3);
}

TEST(what_is_missing_or_wrong_is_null)
{
	static const char *const digests[] = {
		"1",
		"\"x\"",
		"{}",
		"{\"sha256\":1}",
		"{\"sha256\":\"" HEX "0\"}",
		"{\"sha256\":\"0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef\"}",
		"{\"md5\":\"" HEX "\"}"
	};

	for (size_t i = 0; i < VL_COUNT(digests); i++) {
		SIF_PROVENANCE struct sif_provenance p = { 0 };
		VL_FREE char *text = vl_asprintf(
			TOP("{\"resolvedDependencies\":[{\"name\":\"manifest\",\"digest\":%s}]}"), digests[i]);
		CHECK_EQ(read_of(text, &p), 0);
		CHECK(!p.digest && !p.source);
	}
}

TEST(no_statement)
{
	static const char *const texts[] = {
		"",
		"x",
		"[]",
		"{}",
		"{\"_type\":\"https://in-toto.io/Statement/v1\"}",
		"{\"_type\":\"https://in-toto.io/Statement/v1\",\"predicateType\":\"other\","
		"\"predicate\":{\"buildDefinition\":{}}}"
	};
	struct sif_provenance p;

	CHECK_EQ(read_of(NULL, &p), -ENOENT);
	for (size_t i = 0; i < VL_COUNT(texts); i++)
		CHECK(read_of(texts[i], &p) < 0);
	VL_FREE char *large = vl_alloc(SIF_PROVENANCE_MAX + 2);
	memset(large, ' ', SIF_PROVENANCE_MAX + 1);
	CHECK(read_of(large, &p) < 0);
}
