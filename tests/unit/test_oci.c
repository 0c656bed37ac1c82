#include "check.h"

#include <oci/source.h>

#include <sys/stat.h>

TEST(digests)
{
	static const char *const bad[] = {
		"",
		"sha256:",
		"sha256:abc",
		"md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
		"sha256:../../../../../../../../../../../../../../../../../../../../../../../x",
		"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8551",
		"sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"SHA256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	};
	struct oci_digest d;
	struct vl_err err = { 0 };

	for (size_t i = 0; i < VL_COUNT(bad); i++)
		CHECK(oci_digest_parse(bad[i], &d, &err) < 0);
	CHECK_EQ(oci_digest_parse("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", &d, &err),
		 0);
	CHECK_EQ(oci_digest_check(&d, "", 0, "nothing", &err), 0);
	CHECK_EQ(oci_digest_check(&d, "x", 1, "something", &err), -EBADMSG);
	CHECK_HAS(err.text, "something");
}

TEST(references)
{
	struct oci_ref r;
	struct vl_err err = { 0 };

	CHECK_EQ(mkdir("dir", 0755), 0);
	CHECK_EQ(mkdir("with:colon", 0755), 0);
	CHECK_EQ(oci_ref_parse("oci:dir", &r, &err), 0);
	CHECK_STR(r.path, "dir");
	CHECK_STR(r.tag, NULL);
	oci_ref_free(&r);
	CHECK_EQ(oci_ref_parse("oci:dir:v1:with/odd", &r, &err), 0);
	CHECK_STR(r.path, "dir");
	CHECK_STR(r.tag, "v1:with/odd");
	oci_ref_free(&r);
	CHECK_EQ(oci_ref_parse("oci:with:colon:v1", &r, &err), 0);
	CHECK_STR(r.path, "with:colon");
	CHECK_STR(r.tag, "v1");
	oci_ref_free(&r);
	CHECK_EQ(oci_ref_parse("docker-archive:absent.tar:name:tag", &r, &err), 0);
	CHECK_STR(r.path, "absent.tar");
	CHECK_STR(r.tag, "name:tag");
	oci_ref_free(&r);
	CHECK_EQ(oci_ref_parse("oci-archive:a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
			       &r, &err),
		 0);
	CHECK_STR(r.path, "a");
	CHECK_STR(r.digest.algo, "sha256");
	oci_ref_free(&r);
	CHECK_EQ(oci_ref_parse("library://x", &r, &err), -ENOTSUP);
	CHECK(oci_ref_parse("oci:", &r, &err) < 0);
	CHECK(oci_ref_parse("oci:dir@sha256:short", &r, &err) < 0);
}

static int load(const char *text, size_t layers, struct vl_err *err)
{
	struct oci_image img = { .config_text = vl_strdup(text), .config_len = strlen(text), .n_layers = layers };
	img.layers = vl_alloc((layers + 1) * sizeof *img.layers);
	int r = oci_config_load(&img, err);
	oci_image_free(&img);
	return r;
}

TEST(configs)
{
	struct vl_err err = { 0 };

	CHECK_EQ(load("{}", 0, &err), 0);
	CHECK(load("{}", 1, &err) < 0);
	CHECK(load("[]", 0, &err) < 0);
	CHECK(load("{\"os\":\"windows\"}", 0, &err) < 0);
	CHECK(load("{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}", 1, &err) < 0);
	CHECK(load("{\"rootfs\":{\"diff_ids\":[7]}}", 1, &err) < 0);
	CHECK(load("{\"rootfs\":{\"diff_ids\":\"none\"}}", 1, &err) < 0);
}
