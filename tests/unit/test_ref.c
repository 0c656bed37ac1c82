/* Names of images in registries. */
#include "check.h"

#include <vial/oci.h>

#define HEX64 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define A64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const struct {
	const char *uri, *name, *shrt;
} good[] = {
	{ "docker://python", "docker.io/library/python:latest", "python:latest" },
	{ "docker://python:3.12", "docker.io/library/python:3.12", "python:3.12" },
	{ "docker:alpine", "docker.io/library/alpine:latest", "alpine:latest" },
	{ "docker://user/x:1", "docker.io/user/x:1", "user/x:1" },
	{ "docker://library/x/y", "docker.io/library/x/y:latest", "library/x/y:latest" },
	{ "docker://index.docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest" },
	{ "docker://registry-1.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest" },
	{ "docker://docker.io/user/app", "docker.io/user/app:latest", "user/app:latest" },
	{ "docker://docker.io/a.b/c", "docker.io/a.b/c:latest", "docker.io/a.b/c:latest" },
	{ "docker://docker.io/localhost/c", "docker.io/localhost/c:latest", "docker.io/localhost/c:latest" },
	{ "docker://docker.io/a.b", "docker.io/library/a.b:latest", "a.b:latest" },
	{ "docker://localhost/x", "localhost/x:latest", "localhost/x:latest" },
	{ "docker://localhost:5000", "docker.io/library/localhost:5000", "localhost:5000" },
	{ "docker://localhost:5000/x:v", "localhost:5000/x:v", "localhost:5000/x:v" },
	{ "docker://Quay.IO/a/b/c", "quay.io/a/b/c:latest", "quay.io/a/b/c:latest" },
	{ "docker://[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest" },
	{ "docker://[2001:db8::7]/x:1", "[2001:db8::7]/x:1", "[2001:db8::7]/x:1" },
	{ "docker://10.0.0.1:5000/a.b_c__d---e/f", "10.0.0.1:5000/a.b_c__d---e/f:latest", NULL },
	{ "docker://x@sha256:" HEX64, "docker.io/library/x@sha256:" HEX64, "x@sha256:" HEX64 },
	{ "docker://x:1@sha256:" HEX64, "docker.io/library/x:1@sha256:" HEX64, "x:1@sha256:" HEX64 },
	{ "docker://x:" A64 A64, "docker.io/library/x:" A64 A64, "x:" A64 A64 },
	{ "oras://hpc/tools/gcc:13", "hpc/tools/gcc:13", "hpc/tools/gcc:13" },
	{ "oras://ghcr.io/a/b", "ghcr.io/a/b:latest", "ghcr.io/a/b:latest" },
	{ "oras:ghcr.io/a/b", "ghcr.io/a/b:latest", "ghcr.io/a/b:latest" },
	{ "http://h/x.sif", "http://h/x.sif", "http://h/x.sif" },
	{ "https://h:8443/x.sif?signature=secret", "https://h:8443/x.sif", "https://h:8443/x.sif" },
};

TEST(good_names)
{
	for (size_t i = 0; i < VL_COUNT(good); i++) {
		VL_CLEANUP(oci_ref_free) struct oci_ref r = { 0 };
		struct vl_err err = { 0 };
		if (oci_ref_parse(good[i].uri, &r, &err) < 0)
			CHECK_FAIL("%s: %s", good[i].uri, err.text);
		VL_FREE char *name = oci_ref_name(&r), *shrt = oci_ref_short(&r);
		CHECK_STR(name, good[i].name);
		CHECK_STR(shrt, good[i].shrt ? good[i].shrt : good[i].name);
		CHECK(oci_ref_is_remote(&r));
	}
}

/* What a name says about itself is read back as the same name. */
TEST(names_are_read_back)
{
	for (size_t i = 0; i < VL_COUNT(good); i++) {
		VL_CLEANUP(oci_ref_free) struct oci_ref r = { 0 }, again = { 0 };
		struct vl_err err = { 0 };
		CHECK_EQ(oci_ref_parse(good[i].uri, &r, &err), 0);
		if (r.kind == OCI_HTTP)
			continue;
		VL_FREE char *name = oci_ref_name(&r), *uri = vl_asprintf("docker://%s", name);
		if (r.kind == OCI_ORAS)
			memcpy(uri, "oras://", 7), memmove(uri + 7, uri + 9, strlen(uri + 9) + 1);
		CHECK_EQ(oci_ref_parse(uri, &again, &err), 0);
		VL_FREE char *name2 = oci_ref_name(&again);
		CHECK_STR(name2, name);
	}
}

static const struct {
	const char *uri, *why;
} bad[] = {
	{ "docker://", "there is no name" },
	{ "docker:", "there is no name" },
	{ "docker:///x", "there is no name before the '/'" },
	{ "docker://Python", "repository names are lower case: 'P' in 'Python'" },
	{ "docker://quay.io/a/Bc", "repository names are lower case: 'B'" },
	{ "docker://quay.io/", "empty part" },
	{ "docker://quay.io/a//b", "empty part" },
	{ "docker://a/", "empty part" },
	{ "docker://a_", "between letters or digits" },
	{ "docker://-a", "between letters or digits" },
	{ "docker://a..b", "between letters or digits" },
	{ "docker://a___b", "between letters or digits" },
	{ "docker://a/../b", "between letters or digits" },
	{ "docker://quay.io/../b", "between letters or digits" },
	{ "docker://a..\x1b", "between letters or digits: 'a..\\x1b'" },
	{ "docker://A\x1b", "lower case: 'A' in 'A\\x1b'" },
	{ "docker://[\x1b/x", "no IPv6 address" },
	{ "docker://a b", "cannot hold ' '" },
	{ "docker://a\x1b[31m", "cannot hold '\\" },
	{ "docker://a%2fb", "cannot hold '%'" },
	{ "docker://a?x=1", "cannot hold '?'" },
	{ "docker://a:", "there is no tag" },
	{ "docker://a:.x", "does not begin with '.'" },
	{ "docker://a:-x", "does not begin with '-'" },
	{ "docker://a:x+y", "a tag cannot hold '+'" },
	{ "docker://a:\r\nX-Evil: 1", "a tag cannot hold" },
	{ "docker://a:" A64 A64 "a", "129 characters, over the limit of 128" },
	{ "docker://a@sha256:1234", "is not a digest" },
	{ "docker://a@sha256:" HEX64 "@sha256:" HEX64, "is not a digest" },
	{ "docker://a@md5:1234", "only a sha256 or sha512 digest" },
	{ "docker://host:0/x", "no port number" },
	{ "docker://host:65536/x", "no port number" },
	{ "docker://host:+80/x", "no port number" },
	{ "docker://host:/x", "no port number" },
	{ "docker://:5000/x", "no host name before the ':'" },
	{ "docker://a..b/x", "between letters or digits" },
	{ "docker://.b/x", "between letters or digits" },
	{ "docker://a.b-/x", "between letters or digits" },
	{ "docker://a.b!/x", "a host name cannot hold '!'" },
	{ "docker://[::1/x", "no IPv6 address" },
	{ "docker://[]/x", "no IPv6 address" },
	{ "docker://[::1]x/x", "may follow the ']'" },
	{ "docker://[::1]:x/x", "no port number" },
	{ "docker://" A64 "/" A64 "/" A64 "/" A64, "over the limit of 255" },
	{ "oras://gcc", "oras:// needs a host" },
	{ "oras://gcc:13", "oras:// needs a host" },
	{ "http://", "no host" },
	{ "https:///x", "no host" },
	{ "https://:80/x", "no host" },
	{ "https://h/a b", "a URL cannot hold ' '" },
	{ "https://u:p@h/x", "must not hold a user name" },
};

TEST(bad_names)
{
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		struct oci_ref r = { .path = (char *)"untouched" };
		struct vl_err err = { 0 };
		if (oci_ref_parse(bad[i].uri, &r, &err) != -EINVAL)
			CHECK_FAIL("%s was taken", bad[i].uri);
		CHECK_HAS(err.text, bad[i].why);
		CHECK_STR(r.path, "untouched");
		for (const char *s = err.text; *s; s++)
			CHECK((unsigned char)*s >= ' ');
	}
}

TEST(passwords_are_not_shown)
{
	struct oci_ref r;
	struct vl_err err = { 0 };

	CHECK_EQ(oci_ref_parse("docker://me:hunter2@quay.io/x", &r, &err), -EINVAL);
	CHECK_HAS(err.text, "registry login");
	CHECK(!strstr(err.text, "hunter2"));
	CHECK_EQ(oci_ref_parse("https://me:hunter2@quay.io/x", &r, &err), -EINVAL);
	CHECK(!strstr(err.text, "hunter2"));
}

TEST(long_names)
{
	size_t n = 1 << 20;
	char *s = malloc(n + 1);
	struct oci_ref r;
	struct vl_err err = { 0 };

	memset(s, 'a', n);
	s[n] = 0;
	memcpy(s, "docker://", 9);
	CHECK_EQ(oci_ref_parse(s, &r, &err), -EINVAL);
	memcpy(s, "https://a", 9);
	CHECK_EQ(oci_ref_parse(s, &r, &err), -EINVAL);
	free(s);
}
