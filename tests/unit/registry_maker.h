/* Registries that misbehave, and a client of theirs, for tests. */
#ifndef REGISTRY_MAKER_H
#define REGISTRY_MAKER_H

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

static inline void digest_text(const void *p, size_t n, char ret[80])
{
	uint8_t raw[32];

	vl_sha256(p, n, raw);
	strcpy(ret, "sha256:");
	vl_hex(raw, 32, ret + 7);
}

static inline bool is(const struct reg *g, const char *mode)
{
	return vl_streq(g->mode, mode);
}

static inline void send_doc(int fd, const char *type, const char *text, const char *more)
{
	VL_FREE char *heads = vl_asprintf("Content-Type: %s\r\n%s", type, more);
	srv_reply(fd, "200 OK", heads, text, strlen(text));
}

static inline void send_part(struct reg *g, int fd, uint64_t first, uint64_t told, uint64_t total)
{
	srv_say(fd,
		"HTTP/1.1 206 Partial\r\nContent-Range: bytes %llu-%llu/%llu\r\nContent-Length: %llu\r\n"
		"Connection: close\r\n\r\n",
		(unsigned long long)told, (unsigned long long)total - 1, (unsigned long long)total,
		(unsigned long long)(BLOB_SIZE - first));
	srv_write(fd, g->blob + first, BLOB_SIZE - first);
}

static inline void send_cut(struct reg *g, int fd, uint64_t n)
{
	srv_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\n\r\n", BLOB_SIZE);
	srv_write(fd, g->blob, n);
}

static inline void send_blob(struct reg *g, int fd, const char *request)
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

static inline bool flaky(struct reg *g, int fd, unsigned n)
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

static inline void serve(struct srv *s, int fd, const char *request, unsigned n)
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

static inline void reg_start(struct reg *g, const char *mode)
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

static inline void reg_free(struct reg *g)
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

static inline struct oci_client *client(const char *user)
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

static inline void use_start(struct use *u, struct reg *g, const char *name, const char *user,
			     const struct oci_blob_store *store)
{
	struct vl_err err = { 0 };
	VL_FREE char *uri = vl_asprintf("docker://127.0.0.1:%d/grp/app%s", g->s.port, name);

	CHECK_EQ(oci_ref_parse(uri, &u->ref, &err), 0);
	u->c = client(user);
	CHECK_EQ(oci_source_open(&u->ref, u->c, store, &u->src, &err), 0);
}

static inline void use_end(struct use *u)
{
	oci_source_free(u->src);
	oci_client_free(u->c);
	oci_ref_free(&u->ref);
}

static inline int resolve(struct reg *g, const char *name, const char *arch, struct vl_err *err)
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

static inline int resolve_mode(const char *mode, struct vl_err *err, unsigned *ret_requests)
{
	struct reg g;

	reg_start(&g, mode);
	int r = resolve(&g, ":v1", "amd64", err);
	*ret_requests = srv_count(&g.s);
	reg_free(&g);
	return r;
}

/* ---- blobs ---- */

static inline int read_all(struct reg *g, struct oci_blob *b, struct vl_err *err)
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

static inline struct oci_layer layer_of(const struct reg *g)
{
	struct oci_layer l = { .size = BLOB_SIZE };
	struct vl_err err = { 0 };

	CHECK_EQ(oci_digest_parse(g->blob_digest, &l.digest, &err), 0);
	l.name = vl_asprintf("blobs/sha256/%s", l.digest.hex);
	return l;
}

static inline int blob_mode(const char *mode, unsigned *ret_requests, struct vl_err *err)
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

#endif
