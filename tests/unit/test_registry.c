/* Registries as sources: manifests, blobs, retries, logins, against servers that misbehave. */
#include "http_server.h"

#include "oci/client.h"
#include "oci/download.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>

#define MT_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MT_INDEX "application/vnd.oci.image.index.v1+json"
#define BLOB_SIZE 3000000u

/* ---- a registry with one blob of every kind that the tests need ---- */

struct reg {
	struct srv s;
	char *manifest, *index, *config;
	char manifest_digest[80], index_digest[80], config_digest[80], blob_digest[80];
	uint8_t *blob;
	const char *mode;
	atomic_uint blobs, now, most; /* blob requests; at a time */
	pthread_mutex_t gate;         /* held by a test that keeps blobs back */
};

static void digest_text(const void *p, size_t n, char ret[80])
{
	uint8_t raw[32];

	vl_sha256(p, n, raw);
	strcpy(ret, "sha256:");
	vl_hex(raw, 32, ret + 7);
}

static bool is(const struct reg *g, const char *mode)
{
	return vl_streq(g->mode, mode);
}

static void send_doc(int fd, const char *type, const char *text, const char *more)
{
	VL_FREE char *heads = vl_asprintf("Content-Type: %s\r\n%s", type, more);
	srv_reply(fd, "200 OK", heads, text, strlen(text));
}

static void send_part(struct reg *g, int fd, uint64_t first, uint64_t told, uint64_t total)
{
	srv_say(fd,
		"HTTP/1.1 206 Partial\r\nContent-Range: bytes %llu-%llu/%llu\r\nContent-Length: %llu\r\n"
		"Connection: close\r\n\r\n",
		(unsigned long long)told, (unsigned long long)total - 1, (unsigned long long)total,
		(unsigned long long)(BLOB_SIZE - first));
	srv_write(fd, g->blob + first, BLOB_SIZE - first);
}

static void send_cut(struct reg *g, int fd, uint64_t n)
{
	srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", BLOB_SIZE);
	srv_write(fd, g->blob, n);
}

static void send_blob(struct reg *g, int fd, const char *request)
{
	unsigned n = g->blobs++;
	const char *range = strstr(request, "Range: bytes=");
	uint64_t first = range ? strtoull(range + 13, NULL, 10) : 0;
	VL_FREE uint8_t *bad = vl_memdup(g->blob, BLOB_SIZE);

	bad[BLOB_SIZE - 1] ^= 1;
	if (is(g, "cut") || is(g, "cut-200") || is(g, "cut-range") || is(g, "cut-total") || is(g, "cut-416") ||
	    is(g, "cut-bad"))
		if (n == 0)
			return send_cut(g, fd, 1000000);
	if (is(g, "cut"))
		return n < 3 ? send_cut(g, fd, 0) : send_part(g, fd, first, first, BLOB_SIZE);
	if (is(g, "cut-range"))
		return send_part(g, fd, first, first + 1, BLOB_SIZE);
	if (is(g, "cut-total"))
		return send_part(g, fd, first, first, BLOB_SIZE + 1);
	if (is(g, "cut-416"))
		return srv_reply(fd, "416 No", "", "", 0);
	if (is(g, "cut-bad") && n == 1) {
		srv_say(fd,
			"HTTP/1.1 206 P\r\nContent-Range: bytes %llu-%u/%u\r\nContent-Length: %llu\r\n"
			"Connection: close\r\n\r\n",
			(unsigned long long)first, BLOB_SIZE - 1, BLOB_SIZE, (unsigned long long)(BLOB_SIZE - first));
		return srv_write(fd, bad + first, BLOB_SIZE - first);
	}
	if (is(g, "cut-always")) /* no ranges here: what comes again is thrown away again */
		return send_cut(g, fd, 2000000);
	if (is(g, "bad-cut")) {
		bad[0] ^= 1;
		srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", BLOB_SIZE);
		return srv_write(fd, bad, 2000000);
	}
	if (is(g, "bad"))
		return srv_reply(fd, "200 OK", "", bad, BLOB_SIZE);
	if (is(g, "long")) {
		srv_say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
		srv_write(fd, g->blob, BLOB_SIZE);
		return srv_write(fd, "x", 1);
	}
	if (is(g, "short"))
		return srv_reply(fd, "200 OK", "", g->blob, BLOB_SIZE - 1);
	if (is(g, "short-silent")) { /* no length, and the end looks like one */
		srv_say(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
		return srv_write(fd, g->blob, 1000);
	}
	if (is(g, "206"))
		return send_part(g, fd, 0, 0, BLOB_SIZE);
	if (is(g, "stuck")) {
		send_cut(g, fd, 1000);
		pthread_mutex_lock(&g->gate);
		pthread_mutex_unlock(&g->gate);
		return;
	}
	srv_reply(fd, "200 OK", "", g->blob, BLOB_SIZE);
}

static bool flaky(struct reg *g, int fd, unsigned n)
{
	if (is(g, "500") && n < 3)
		return srv_reply(fd, "500 No", "", "", 0), true;
	if (is(g, "429") && n < 2)
		return srv_reply(fd, "429 Slow", "Retry-After: 0\r\n", "", 0), true;
	if (is(g, "429-long"))
		return srv_reply(fd, "429 Slow", "Retry-After: 3600\r\n", "", 0), true;
	if (is(g, "429-always"))
		return srv_reply(fd, "429 Slow", "", "", 0), true;
	if (is(g, "503-always"))
		return srv_reply(fd, "503 No", "", "", 0), true;
	if (is(g, "reset") && n < 2)
		return true;
	if (is(g, "404"))
		return srv_reply(fd, "404 No", "", "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[31mb\"}]}",
				 sizeof "{\"errors\":[{\"code\":\"X\",\"message\":\"a\\u001b[31mb\"}]}" - 1),
		       true;
	if (is(g, "403"))
		return srv_reply(fd, "403 No", "", "{\"errors\":7}", 12), true;
	if (is(g, "400"))
		return srv_reply(fd, "400 No", "", "[", 1), true;
	return false;
}

static void serve(struct srv *s, int fd, const char *request, unsigned n)
{
	struct reg *g = (struct reg *)s;

	if (flaky(g, fd, n))
		return;
	if (strstr(request, "GET /token"))
		return srv_reply(fd, "200 OK", "", "{\"token\":\"t\"}", 13);
	if (is(g, "login-bearer") && !strstr(request, "Authorization: Bearer t\r\n")) {
		VL_FREE char *ask =
			vl_asprintf("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\"\r\n", s->port);
		return srv_reply(fd, "401 Who", ask, "", 0);
	}
	if (is(g, "login") && !strstr(request, "Authorization: Basic dTpw\r\n"))
		return srv_reply(fd, "401 Who", "WWW-Authenticate: Basic realm=\"x\"\r\n", "", 0);
	if (strstr(request, g->blob_digest))
		return send_blob(g, fd, request);
	if (strstr(request, g->config_digest) && is(g, "bad-config"))
		return srv_reply(fd, "200 OK", "", "{}", 2);
	if (strstr(request, g->config_digest))
		return srv_reply(fd, "200 OK", "", g->config, strlen(g->config));
	if (is(g, "json"))
		return send_doc(fd, MT_MANIFEST, "{\"schemaVersion\":2,", "");
	if (is(g, "html"))
		return send_doc(fd, "text/html", "<html>", "");
	if (is(g, "type"))
		return send_doc(fd, MT_INDEX, g->manifest, "");
	if (is(g, "schema1"))
		return send_doc(fd, "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}", "");
	if (is(g, "schema1-plain"))
		return send_doc(fd, "application/json", "{\"schemaVersion\":1,\"fsLayers\":[]}", "");
	if (is(g, "tag-digest"))
		return send_doc(fd, MT_MANIFEST, g->manifest,
				"Docker-Content-Digest: "
				"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\r\n");
	if (is(g, "forged"))
		return send_doc(fd, MT_MANIFEST, g->manifest, "");
	if (strstr(request, g->index_digest) || strstr(request, "/manifests/multi "))
		return send_doc(fd, MT_INDEX, g->index, "");
	if (strstr(request, g->manifest_digest) || strstr(request, "/manifests/v1 "))
		return send_doc(fd, MT_MANIFEST, g->manifest, "");
	srv_reply(fd, "404 Not Found", "", "", 0);
}

static void reg_start(struct reg *g, const char *mode)
{
	memset(g, 0, sizeof *g);
	g->mode = mode;
	g->blob = vl_alloc(BLOB_SIZE);
	for (size_t i = 0; i < BLOB_SIZE; i++)
		g->blob[i] = (uint8_t)(i * 7 + i / 251);
	digest_text(g->blob, BLOB_SIZE, g->blob_digest);
	g->config = vl_asprintf("{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"diff_ids\":[\"%s\"]}}",
				g->blob_digest);
	digest_text(g->config, strlen(g->config), g->config_digest);
	g->manifest = vl_asprintf("{\"schemaVersion\":2,\"mediaType\":\"" MT_MANIFEST "\",\"config\":{\"mediaType\":"
				  "\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
				  "\"layers\":[{\"digest\":\"%s\",\"size\":%u}]}",
				  g->config_digest, strlen(g->config), g->blob_digest, BLOB_SIZE);
	digest_text(g->manifest, strlen(g->manifest), g->manifest_digest);
	g->index = vl_asprintf("{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:%064d\",\"size\":3,"
			       "\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}},{\"digest\":\"%s\","
			       "\"size\":%zu,\"platform\":{\"os\":\"linux\",\"architecture\":\"amd64\"}}]}",
			       0, g->manifest_digest, strlen(g->manifest));
	digest_text(g->index, strlen(g->index), g->index_digest);
	srv_start(&g->s, serve, NULL);
	/* srv_start begins with zeros of its own part only */
	pthread_mutex_init(&g->gate, NULL);
}

static void reg_free(struct reg *g)
{
	srv_stop(&g->s);
	free(g->manifest);
	free(g->index);
	free(g->config);
	free(g->blob);
}

/* ---- what uses it ---- */

struct use {
	struct oci_client *c;
	struct oci_source *src;
	struct oci_ref ref;
};

static const char *home = ".";

static struct oci_client *client(const char *user)
{
	struct oci_net net = { .config_dir = ".", .username = user, .password = user ? "p" : NULL };
	struct oci_client *c;
	struct vl_err err = { 0 };

	setenv("HOME", home, 1);
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("DOCKER_CONFIG");
	unsetenv("XDG_RUNTIME_DIR");
	CHECK_EQ(oci_client_new(&net, NULL, &c, &err), 0);
	c->first_wait_ms = 0;
	return c;
}

static void use_start(struct use *u, struct reg *g, const char *name, const char *user,
		      const struct oci_blob_store *store)
{
	struct vl_err err = { 0 };
	VL_FREE char *uri = vl_asprintf("docker://127.0.0.1:%d/grp/app%s", g->s.port, name);

	CHECK_EQ(oci_ref_parse(uri, &u->ref, &err), 0);
	u->c = client(user);
	CHECK_EQ(oci_source_open(&u->ref, u->c, store, &u->src, &err), 0);
}

static void use_end(struct use *u)
{
	oci_source_free(u->src);
	oci_client_free(u->c);
	oci_ref_free(&u->ref);
}

static int resolve(struct reg *g, const char *name, const char *arch, struct vl_err *err)
{
	struct use u;
	struct oci_image img;

	use_start(&u, g, name, NULL, NULL);
	int r = oci_image_resolve(u.src, &u.ref, arch, &img, err);
	if (r == 0) {
		CHECK_STR(img.manifest.hex, g->manifest_digest + 7);
		CHECK_STR(img.named.hex, strstr(name, "multi") ? g->index_digest + 7 : g->manifest_digest + 7);
		CHECK_EQ(img.n_layers, 1);
		oci_image_free(&img);
	}
	use_end(&u);
	return r;
}

static int resolve_mode(const char *mode, struct vl_err *err, unsigned *ret_requests)
{
	struct reg g;

	reg_start(&g, mode);
	int r = resolve(&g, ":v1", "amd64", err);
	*ret_requests = srv_count(&g.s);
	reg_free(&g);
	return r;
}

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

/* ---- blobs ---- */

static int read_all(struct reg *g, struct oci_blob *b, struct vl_err *err)
{
	VL_FREE uint8_t *buf = vl_alloc(BLOB_SIZE + 1);
	size_t n = 0;
	ssize_t r;

	CHECK_EQ(b->size, BLOB_SIZE);
	while ((r = b->read(b, buf + n, VL_MIN(BLOB_SIZE + 1 - n, (size_t)100000), err)) > 0)
		n += (size_t)r;
	if (r == 0) {
		CHECK_EQ(n, BLOB_SIZE);
		CHECK_MEM(buf, g->blob, n);
	}
	return (int)r;
}

static struct oci_layer layer_of(const struct reg *g)
{
	struct oci_layer l = { .size = BLOB_SIZE };
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(g->blob_digest, &l.digest, &err), 0);
	l.name = vl_asprintf("blobs/sha256/%s", l.digest.hex);
	return l;
}

static int blob_mode(const char *mode, unsigned *ret_requests, struct vl_err *err)
{
	struct reg g;
	struct use u;
	struct oci_blob *b;

	reg_start(&g, mode);
	use_start(&u, &g, ":v1", NULL, NULL);
	struct oci_layer l = layer_of(&g);
	const struct oci_layer *list[] = { &l, &l };
	oci_source_will_read(u.src, list, 2);
	int r = 0;
	for (int i = 0; i < 2 && r == 0; i++) { /* the same twice is one download */
		r = oci_source_file(u.src, l.name, &b, err);
		if (r == 0) {
			CHECK(b->checked);
			r = read_all(&g, b, err);
			oci_blob_close(b);
		}
	}
	*ret_requests = g.blobs;
	use_end(&u);
	free(l.name);
	reg_free(&g);
	return r;
}

TEST(blobs)
{
	static const struct {
		const char *mode;
		int want;
		unsigned requests;
	} cases[] = {
		{ "", 0, 1 },
		{ "cut", 0, 4 },     /* a range after breaks */
		{ "cut-200", 0, 2 }, /* the whole again instead of the range */
		{ "cut-bad", 0, 3 }, /* parts that do not fit: once more, whole */
		{ "cut-range", -EBADMSG, 2 },
		{ "cut-total", -EBADMSG, 2 },
		{ "cut-416", -EBADMSG, 2 },
		{ "cut-always", -ECONNRESET, 6 }, /* the first one brought something, five more did not */
		{ "bad", -EBADMSG, 1 },
		{ "long", -EBADMSG, 1 },
		{ "short", -EBADMSG, 1 },
		{ "206", -EBADMSG, 1 },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct vl_err err = { 0 };
		unsigned requests;
		int r = blob_mode(cases[i].mode, &requests, &err);
		if (r != cases[i].want || requests != cases[i].requests)
			CHECK_FAIL("%s: %d, %u requests (%s)", cases[i].mode, r, requests, err.text);
	}
}

TEST(blob_that_ends_early_in_silence)
{
	struct vl_err err = { 0 };
	unsigned requests;

	CHECK_EQ(blob_mode("short-silent", &requests, &err), -EBADMSG);
	CHECK(requests > 1 && requests < 10);
}

TEST(blob_of_unknown_size_is_a_document)
{
	struct reg g;
	struct use u;
	struct vl_err err = { 0 };
	char *text;
	size_t len;

	reg_start(&g, "");
	use_start(&u, &g, ":v1", NULL, NULL);
	VL_FREE char *name = vl_asprintf("blobs/sha256/%s", g.config_digest + 7);
	CHECK_EQ(oci_source_document(u.src, name, &text, &len, &err), 0);
	CHECK_STR(text, g.config);
	CHECK_EQ(len, strlen(g.config));
	free(text);
	CHECK(oci_source_document(u.src, "blobs/sha256/../../x", &text, &len, &err) < 0);
	CHECK(oci_source_document(u.src, "index.json", &text, &len, &err) < 0);
	use_end(&u);
	reg_free(&g);
}

/* No thread can be made: whoever reads fetches. */
TEST(blobs_without_threads)
{
	struct reg g;
	struct use u;
	struct oci_blob *b;
	struct vl_err err = { 0 };

	reg_start(&g, "");
	use_start(&u, &g, ":v1", NULL, NULL);
	oci_source_free(u.src);
	u.c->net.downloads = 0;
	CHECK_EQ(oci_source_open(&u.ref, u.c, NULL, &u.src, &err), 0);
	struct oci_layer l = layer_of(&g);
	const struct oci_layer *list[] = { &l };
	oci_source_will_read(u.src, list, 1);
	CHECK_EQ(oci_source_file(u.src, l.name, &b, &err), 0);
	CHECK_EQ(read_all(&g, b, &err), 0);
	oci_blob_close(b);
	g.mode = "404";
	CHECK_EQ(oci_source_file(u.src, l.name, &b, &err), -ENOENT);
	use_end(&u);
	free(l.name);
	reg_free(&g);
}

TEST(cancel_in_the_middle)
{
	struct reg g;
	struct use u;
	struct oci_blob *b;
	struct vl_err err = { 0 };
	char buf[2000];

	reg_start(&g, "stuck");
	pthread_mutex_lock(&g.gate);
	use_start(&u, &g, ":v1", NULL, NULL);
	struct oci_layer l = layer_of(&g);
	const struct oci_layer *list[] = { &l };
	oci_source_will_read(u.src, list, 1);
	CHECK_EQ(oci_source_file(u.src, l.name, &b, &err), 0);
	/* the first bytes are there before the last ones */
	CHECK(b->read(b, buf, sizeof buf, &err) > 0);
	CHECK_MEM(buf, g.blob, 100);
	oci_blob_close(b);
	use_end(&u); /* comes back although the server says nothing more */
	pthread_mutex_unlock(&g.gate);
	free(l.name);
	reg_free(&g);
}

/* ---- the store of blobs ---- */

struct kept {
	int fd;
	atomic_uint lookups, creates, keeps, drops;
};

static int store_lookup(void *arg, const struct oci_digest *d, uint64_t size)
{
	struct kept *k = arg;
	(void)d;
	k->lookups++;
	CHECK_EQ(size, BLOB_SIZE);
	return k->keeps ? dup(k->fd) : -1;
}

static int store_create(void *arg, struct vl_err *err)
{
	struct kept *k = arg;
	k->creates++;
	return vl_tmpfile("a blob", err);
}

static void store_keep(void *arg, const struct oci_digest *d, int fd)
{
	struct kept *k = arg;
	(void)d;
	k->fd = dup(fd);
	k->keeps++;
}

static void store_drop(void *arg, const struct oci_digest *d)
{
	struct kept *k = arg;
	(void)d;
	k->drops++;
}

TEST(kept_blobs)
{
	struct reg g;
	struct kept k = { .fd = -1 };
	struct oci_blob_store store = { store_lookup, store_create, store_keep, store_drop, &k };
	struct vl_err err = { 0 };

	reg_start(&g, "");
	struct oci_layer l = layer_of(&g);
	const struct oci_layer *list[] = { &l };
	for (int i = 0; i < 3; i++) {
		struct use u;
		struct oci_blob *b;
		if (i == 2) { /* damaged on the disk */
			uint8_t byte;
			CHECK_EQ(pread(k.fd, &byte, 1, BLOB_SIZE / 2), 1);
			byte ^= 1;
			CHECK_EQ(pwrite(k.fd, &byte, 1, BLOB_SIZE / 2), 1);
		}
		use_start(&u, &g, ":v1", NULL, &store);
		oci_source_will_read(u.src, list, 1);
		CHECK_EQ(oci_source_file(u.src, l.name, &b, &err), 0);
		CHECK(b->checked);
		CHECK_EQ(read_all(&g, b, &err), 0);
		oci_blob_close(b);
		use_end(&u);
		CHECK_EQ(k.creates, i == 2 ? 2 : 1);
		CHECK_EQ(k.keeps, i == 2 ? 2 : 1);
		CHECK_EQ(g.blobs, i == 2 ? 2 : 1);
		CHECK_EQ(k.drops, i == 2 ? 2 : 0); /* what the next tier has is looked at too */
	}
	close(k.fd);
	free(l.name);
	reg_free(&g);
}

/* ---- many at a time ---- */

#define MANY 12
static pthread_mutex_t many_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t many_cond = PTHREAD_COND_INITIALIZER;
static unsigned many_now, many_most;

/* Answers only when four ask at a time: fewer would hang, more are counted. */
static void serve_many(struct srv *s, int fd, const char *request, unsigned n)
{
	const char *hex = strstr(request, "sha256:");
	char body[2] = "a";

	(void)s, (void)n;
	pthread_mutex_lock(&many_lock);
	many_now++;
	many_most = VL_MAX(many_most, many_now);
	pthread_cond_broadcast(&many_cond);
	while (many_most < 4)
		pthread_cond_wait(&many_cond, &many_lock);
	pthread_mutex_unlock(&many_lock);
	CHECK(hex);
	for (char c = 'a'; c < 'a' + MANY; c++) {
		char d[80];
		digest_text(&c, 1, d);
		if (strncmp(hex, d, 71) == 0)
			body[0] = c;
	}
	pthread_mutex_lock(&many_lock);
	many_now--;
	pthread_mutex_unlock(&many_lock);
	srv_reply(fd, "200 OK", "", body, 1);
}

TEST(four_at_a_time)
{
	struct srv s;
	struct use u;
	struct vl_err err = { 0 };
	struct oci_layer l[MANY] = { 0 };
	const struct oci_layer *list[MANY];

	srv_start(&s, serve_many, NULL);
	VL_FREE char *uri = vl_asprintf("docker://127.0.0.1:%d/grp/app", s.port);
	CHECK_EQ(oci_ref_parse(uri, &u.ref, &err), 0);
	u.c = client(NULL);
	CHECK_EQ(oci_source_open(&u.ref, u.c, NULL, &u.src, &err), 0);
	for (int i = 0; i < MANY; i++) {
		char c = (char)('a' + i), d[80];
		digest_text(&c, 1, d);
		CHECK_EQ(oci_digest_parse(d, &l[i].digest, &err), 0);
		l[i].name = vl_asprintf("blobs/sha256/%s", l[i].digest.hex);
		l[i].size = 1;
		list[i] = &l[i];
	}
	oci_source_will_read(u.src, list, MANY);
	for (int i = MANY - 1; i >= 0; i--) {
		struct oci_blob *b;
		char c[2] = "";
		CHECK_EQ(oci_source_file(u.src, l[i].name, &b, &err), 0);
		CHECK_EQ(b->read(b, c, 2, &err), 1);
		CHECK_EQ(c[0], 'a' + i);
		CHECK_EQ(b->read(b, c, 2, &err), 0);
		oci_blob_close(b);
		free(l[i].name);
	}
	CHECK_EQ(many_most, 4);
	CHECK_EQ(oci_source_downloaded(u.src), MANY);
	use_end(&u);
	srv_stop(&s);
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
