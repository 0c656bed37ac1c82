/* Registries as sources: manifests, retries, logins, mirrors, against servers that misbehave. */
#include "registry_maker.h"

/* ---- manifests ---- */

TEST(image_by_tag_digest_and_platform)
{
	struct reg g;
	struct vl_err err = { 0 };

	reg_start(&g, "");
	VL_FREE char *by_digest = vl_asprintf("@%s", g.manifest_digest);
	VL_FREE char *both = vl_asprintf(":absent@%s", g.manifest_digest);
	VL_FREE char *wrong = vl_asprintf("@%s", g.config_digest);
	CHECK_EQ(resolve(&g, ":v1", "amd64", &err), 0);
	CHECK_EQ(resolve(&g, by_digest, "amd64", &err), 0);
	CHECK_EQ(resolve(&g, both, "amd64", &err), 0); /* the digest decides */
	CHECK_EQ(resolve(&g, ":multi", "amd64", &err), 0);
	CHECK_EQ(resolve(&g, ":multi", "s390x", &err), -ENOENT);
	CHECK_HAS(err.text, "s390x");
	CHECK_EQ(resolve(&g, ":v1", "arm64", &err), -ENOENT);
	CHECK_HAS(err.text, "--arch amd64");
	CHECK_EQ(resolve(&g, ":absent", "amd64", &err), -ENOENT);
	CHECK_HAS(err.text, "grp/app:absent");
	CHECK(resolve(&g, wrong, "amd64", &err) < 0);
	reg_free(&g);
}

TEST(manifests_that_lie)
{
	static const struct {
		const char *mode;
		int want;
	} cases[] = { { "json", -EINVAL },     { "html", -EPROTO },           { "type", -EBADMSG },
		      { "schema1", -ENOTSUP }, { "schema1-plain", -ENOTSUP }, { "tag-digest", -EBADMSG } };
	unsigned requests;

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct vl_err err = { 0 };
		int r = resolve_mode(cases[i].mode, &err, &requests);
		if (cases[i].want == -EINVAL ? r >= 0 : r != cases[i].want)
			CHECK_FAIL("%s: %d (%s)", cases[i].mode, r, err.text);
		CHECK_EQ(requests, 1);
	}
}

TEST(manifest_of_another_digest)
{
	struct reg g;
	struct vl_err err = { 0 };

	reg_start(&g, "forged");
	VL_FREE char *name = vl_asprintf("@%s", g.index_digest);
	CHECK_EQ(resolve(&g, name, "amd64", &err), -EBADMSG);
	reg_free(&g);
}

TEST(retries)
{
	static const struct {
		const char *mode;
		int want;
		unsigned requests; /* 2 are a manifest and a config */
		const char *says;
	} cases[] = {
		{ "500", 0, 5, "" },
		{ "429", 0, 4, "" },
		{ "reset", 0, 4, "" },
		{ "429-long", -EBUSY, 1, "3600" },
		{ "429-always", -EBUSY, 6, "429" },
		{ "503-always", -EIO, 6, "503" },
		{ "404", -ENOENT, 1, "X: a\\x1b[31mb" },
		{ "403", -EACCES, 1, "no permission" },
		{ "400", -EPROTO, 1, "400" },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct vl_err err = { 0 };
		unsigned requests;
		int r = resolve_mode(cases[i].mode, &err, &requests);
		if (r != cases[i].want || requests != cases[i].requests)
			CHECK_FAIL("%s: %d, %u requests (%s)", cases[i].mode, r, requests, err.text);
		if (r < 0)
			CHECK_HAS(err.text, cases[i].says);
	}
}

TEST(logins)
{
	struct reg g;
	struct use u;
	struct oci_image img;
	struct vl_err err = { 0 };

	reg_start(&g, "login");
	CHECK_EQ(resolve(&g, ":v1", "amd64", &err), -EACCES);
	CHECK_HAS(err.text, "vial registry login 127.0.0.1");
	CHECK_EQ(srv_count(&g.s), 1);
	use_start(&u, &g, ":v1", "u", NULL);
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), 0);
	/* 401, manifest, config: once accepted, it goes along from the start */
	CHECK_EQ(srv_count(&g.s), 4);
	oci_image_free(&img);
	use_end(&u);
	use_start(&u, &g, ":v1", "wrong", NULL);
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), -EACCES);
	CHECK_HAS(err.text, "credentials");
	CHECK(!strstr(err.text, "d3Jvbmc6cA"));
	CHECK_EQ(srv_count(&g.s), 6);
	use_end(&u);
	reg_free(&g);
}

/* Without the store, only what is refused is refused; and then it is said. */
TEST(store_of_credentials_that_is_not_here)
{
	static const char file[] = "{\"credsStore\":\"no-such-store\"}";
	struct reg g;
	struct vl_err err = { 0 };

	reg_start(&g, "");
	CHECK_EQ(mkdir("home", 0700), 0);
	CHECK_EQ(mkdir("home/.docker", 0700), 0);
	VL_CLOSE int fd = vl_open("home/.docker/config.json", O_WRONLY | O_CREAT, 0600, &err);
	CHECK_EQ(vl_write_full(fd, file, strlen(file)), 0);
	home = "home";
	CHECK_EQ(resolve(&g, ":v1", "amd64", &err), 0);
	g.mode = "login-bearer";
	CHECK_EQ(resolve(&g, ":v1", "amd64", &err), 0);
	g.mode = "login";
	CHECK_EQ(resolve(&g, ":v1", "amd64", &err), -EACCES);
	CHECK_HAS(err.text, "docker-credential-no-such-store is not in $PATH");
	home = ".";
	reg_free(&g);
}

/* ---- artifacts ---- */

static char artifact[2048];

static void serve_artifact(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)s, (void)request, (void)n;
	send_doc(fd, MT_MANIFEST, artifact, "");
}

static int artifact_of(const char *config, const char *layer, const char *title, const char *scheme,
		       struct oci_artifact *ret, struct vl_err *err)
{
	struct srv s;
	struct use u;
	struct oci_image img;

	snprintf(artifact, sizeof artifact,
		 "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"%s\",\"size\":2,\"digest\":\"sha256:"
		 "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\"},\"layers\":[{\"mediaType\":"
		 "\"%s\",\"size\":5,\"digest\":\"sha256:"
		 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"annotations\":{"
		 "\"org.opencontainers.image.title\":\"%s\"}}]}",
		 config, layer, title);
	srv_start(&s, serve_artifact, NULL);
	VL_FREE char *uri = vl_asprintf("%s://127.0.0.1:%d/grp/sif:v1", scheme, s.port);
	CHECK_EQ(oci_ref_parse(uri, &u.ref, err), 0);
	u.c = client(NULL);
	CHECK_EQ(oci_source_open(&u.ref, u.c, NULL, &u.src, err), 0);
	int r = ret ? oci_artifact_resolve(u.src, &u.ref, "amd64", ret, err)
		    : oci_image_resolve(u.src, &u.ref, "amd64", &img, err);
	use_end(&u);
	srv_stop(&s);
	return r;
}

TEST(artifacts)
{
	static const char config[] = "application/vnd.sylabs.sif.config.v1+json",
			  layer[] = "application/vnd.sylabs.sif.layer.v1.sif";
	struct oci_artifact a;
	struct vl_err err = { 0 };

	CHECK_EQ(artifact_of(config, layer, "x.sif", "oras", &a, &err), 0);
	CHECK_STR(a.title, "x.sif");
	CHECK_EQ(a.layer.size, 5);
	CHECK_HAS(a.layer.name, "blobs/sha256/e3b0");
	oci_artifact_free(&a);
	CHECK_EQ(artifact_of(config, "appliciation/vnd.sylabs.sif.layer.tar", "../x", "oras", &a, &err), 0);
	CHECK_STR(a.title, NULL);
	oci_artifact_free(&a);
	CHECK_EQ(artifact_of("application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip",
			     "", "oras", &a, &err),
		 -ENOTSUP);
	CHECK_HAS(err.text, "docker://");
	CHECK_EQ(artifact_of(config, layer, "x.sif", "docker", NULL, &err), -ENOTSUP);
	CHECK_HAS(err.text, "oras://");
}

/* ---- what is parsed by hand ---- */

TEST(content_ranges)
{
	static const char *const bad[] = { "",
					   "bytes",
					   "bytes 1-2",
					   "bytes 2-1/9",
					   "bytes 0-9/9",
					   "bytes -1-2/9",
					   "bytes */9",
					   "octets 0-1/9",
					   "bytes 0-1/",
					   "bytes 0-99999999999999999999/*" };
	uint64_t first, last, total;

	CHECK_EQ(oci_content_range("bytes 1-8/9", &first, &last, &total), 0);
	CHECK(first == 1 && last == 8 && total == 9);
	CHECK_EQ(oci_content_range("bytes 0-0/*", &first, &last, &total), 0);
	CHECK(total == UINT64_MAX);
	for (size_t i = 0; i < VL_COUNT(bad); i++)
		if (oci_content_range(bad[i], &first, &last, &total) == 0)
			CHECK_FAIL("'%s' was taken", bad[i]);
}

/* ---- mirrors ---- */

TEST(mirrors)
{
	struct reg good, bad, origin;
	struct use u;
	struct oci_image img;
	struct vl_err err = { 0 };
	VL_BUF struct vl_buf conf = { 0 };

	reg_start(&good, "");
	reg_start(&bad, "503-always");
	reg_start(&origin, "404");
	vl_buf_addf(&conf, "[[registry]]\nlocation = \"127.0.0.1:%d\"\ninsecure = true\n", origin.s.port);
	struct reg *const m[] = { &bad, &origin, &good };
	for (int i = 0; i < 3; i++)
		vl_buf_addf(&conf, "[[registry.mirror]]\nlocation = \"127.0.0.1:%d\"\ninsecure = true\n", m[i]->s.port);
	VL_CLOSE int fd = vl_open("registries.conf", O_WRONLY | O_CREAT, 0600, &err);
	CHECK_EQ(vl_write_full(fd, conf.data, conf.len), 0);
	use_start(&u, &origin, ":v1", NULL, NULL);
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), 0);
	oci_image_free(&img);
	CHECK(srv_count(&bad.s) > 0 && srv_count(&origin.s) > 0 && srv_count(&good.s) == 2);
	/* when none has it, the registry's own answer is told, and who was asked before */
	good.mode = "404";
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), -ENOENT);
	CHECK_HAS(err.text, "503");
	CHECK_HAS(err.text, "mirror");
	use_end(&u);
	reg_free(&good);
	reg_free(&bad);
	reg_free(&origin);
}

static void mirror_conf(const struct reg *origin, const struct reg *mirror)
{
	VL_BUF struct vl_buf conf = { 0 };
	struct vl_err err = { 0 };

	vl_buf_addf(&conf, "[[registry]]\nlocation = \"127.0.0.1:%d\"\ninsecure = true\n", origin->s.port);
	vl_buf_addf(&conf, "[[registry.mirror]]\nlocation = \"127.0.0.1:%d\"\ninsecure = true\n", mirror->s.port);
	VL_CLOSE int fd = vl_open("registries.conf", O_WRONLY | O_CREAT | O_TRUNC, 0600, &err);
	CHECK_EQ(vl_write_full(fd, conf.data, conf.len), 0);
}

/* A mirror with a blob of the right length and the wrong bytes, whole or broken on the way, is no more than a mirror
 * that has none. */
TEST(mirror_with_wrong_documents)
{
	struct reg mirror, origin;
	struct use u;
	struct oci_image img;
	struct vl_err err = { 0 };

	reg_start(&mirror, "bad-config");
	reg_start(&origin, "");
	mirror_conf(&origin, &mirror);
	use_start(&u, &origin, ":v1", NULL, NULL);
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), 0);
	CHECK_EQ(srv_count(&origin.s), 1); /* the config */
	oci_image_free(&img);
	mirror.mode = "json";
	CHECK_EQ(oci_image_resolve(u.src, &u.ref, "amd64", &img, &err), 0);
	oci_image_free(&img);
	use_end(&u);
	reg_free(&mirror);
	reg_free(&origin);
	CHECK_EQ(unlink("registries.conf"), 0);
}

TEST(mirror_with_wrong_bytes)
{
	static const struct {
		const char *mirror, *origin;
		int want;
	} cases[] = { { "bad", "", 0 },         { "cut-bad", "", 0 },    { "bad-cut", "", 0 },
		      { "cut-always", "", 0 },  { "bad", "cut-bad", 0 }, { "bad", "bad", -EBADMSG },
		      { "bad", "404", -ENOENT } };

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct reg mirror, origin;
		struct use u;
		struct oci_blob *b;
		struct vl_err err = { 0 };

		reg_start(&mirror, cases[i].mirror);
		reg_start(&origin, cases[i].origin);
		mirror_conf(&origin, &mirror);
		use_start(&u, &origin, ":v1", NULL, NULL);
		struct oci_layer l = layer_of(&origin);
		const struct oci_layer *list[] = { &l };
		oci_source_will_read(u.src, list, 1);
		int r = oci_source_file(u.src, l.name, &b, &err);
		if (r == 0) {
			r = read_all(&origin, b, &err);
			oci_blob_close(b);
		}
		if (r != cases[i].want)
			CHECK_FAIL("%s, %s: %d %s", cases[i].mirror, cases[i].origin, r, err.text);
		if (r < 0) {
			VL_FREE char *who = vl_asprintf("127.0.0.1:%d/grp/app:v1", origin.s.port);
			CHECK_HAS(err.text, who);
			CHECK_HAS(err.text, "cannot get blob sha256:");
			CHECK_HAS(err.text, "mirror http://127.0.0.1");
			/* its name once */
			CHECK(!strstr(strstr(err.text, "blob sha256:") + 1, "blob sha256:"));
		}
		use_end(&u);
		free(l.name);
		reg_free(&mirror);
		reg_free(&origin);
	}
	CHECK_EQ(unlink("registries.conf"), 0);
}
