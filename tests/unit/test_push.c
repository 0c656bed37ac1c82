#include "sif_check.h"

#include <arpa/inet.h>
#include <oci/client.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define MIB (1ull << 20)
#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* ---- a registry that does what a test says: one request a connection ---- */

struct request {
	char method[8], target[600];
	char heads[8000];
	char body[20000]; /* its beginning */
	uint64_t body_len;
	unsigned nth; /* how many of that method came before */
};
/* Text of the whole answer, lines ended by \n; new. "" closes the connection. */
typedef char *answer_fn(const struct request *q);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vl_buf seen; /* "METHOD target\n" of every request */
static answer_fn *answer;
static int listener = -1;
static unsigned port;

static const char *head_of(const struct request *q, const char *name)
{
	static _Thread_local char value[300];
	const char *at = strcasestr(q->heads, name);

	if (!at)
		return "";
	at += strlen(name) + 2;
	snprintf(value, sizeof value, "%.*s", (int)strcspn(at, "\r\n"), at);
	return value;
}

static bool read_request(int fd, struct request *q)
{
	size_t len = 0, used;
	ssize_t n;
	char *end = NULL;
	static char drain[1 << 16];

	memset(q, 0, sizeof *q);
	while (!end && len < sizeof q->heads - 1 && (n = read(fd, q->heads + len, 1)) > 0) {
		len += (size_t)n;
		end = strstr(q->heads, "\r\n\r\n");
	}
	if (!end || sscanf(q->heads, "%7s %599s", q->method, q->target) != 2)
		return false;
	uint64_t left = strtoull(head_of(q, "Content-Length"), NULL, 10);
	for (; left; left -= (uint64_t)n, q->body_len += (uint64_t)n) {
		if ((n = read(fd, drain, VL_MIN(left, sizeof drain))) <= 0)
			return false;
		used = VL_MIN((size_t)n, sizeof q->body - 1 - VL_MIN(q->body_len, sizeof q->body - 1));
		memcpy(q->body + VL_MIN(q->body_len, sizeof q->body - 1), drain, used);
	}
	return true;
}

static unsigned count_seen(const char *part)
{
	unsigned n = 0;
	for (const char *s = seen.data; s && (s = strstr(s, part)); s++)
		n++;
	return n;
}

static void *serve(void *arg)
{
	static struct request q;
	int fd;

	(void)arg;
	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		if (read_request(fd, &q)) {
			char line[20];
			snprintf(line, sizeof line, "%s ", q.method);
			pthread_mutex_lock(&lock);
			q.nth = count_seen(line);
			vl_buf_addf(&seen, "%s %s\n", q.method, q.target);
			VL_FREE char *text = answer(&q);
			pthread_mutex_unlock(&lock);
			VL_BUF struct vl_buf wire = { 0 };
			bool head = true;
			for (const char *s = text; *s; s++) {
				if (head && *s == '\n')
					vl_buf_adds(&wire, "\r");
				if (s[0] == '\n' && s[1] == '\n')
					head = false, s++, vl_buf_adds(&wire, "\nConnection: close\r\n\r");
				vl_buf_add(&wire, s, 1);
			}
			if (wire.len)
				CHECK(vl_write_full(fd, wire.data, wire.len) == 0);
		}
		shutdown(fd, SHUT_WR);
		close(fd);
	}
	return NULL;
}

struct registry {
	struct oci_client *c;
	struct oci_ref ref;
	pthread_t thread;
};

static void start_as(struct registry *g, answer_fn *f, const char *user)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	struct oci_net net = {
		.no_https = true, .config_dir = "none", .username = user, .password = user, .retries = 1
	};
	struct vl_err err = { 0 };

	setenv("HOME", "/nonexistent", 1); /* no credential files of whoever runs this */
	setenv("REGISTRY_AUTH_FILE", "/nonexistent/auth.json", 1);
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("http_proxy");
	CHECK(mkdir("none", 0755) == 0);
	answer = f;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(listener, (struct sockaddr *)&a, n) == 0 && listen(listener, 8) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&a, &n) == 0);
	port = ntohs(a.sin_port);
	VL_FREE char *uri = vl_asprintf("docker://127.0.0.1:%u/team/app:v1", port);
	CHECK_OK(oci_ref_parse(uri, &g->ref, &err), err);
	CHECK_OK(oci_client_new(&net, NULL, &g->c, &err), err);
	g->c->first_wait_ms = 0;
	CHECK(pthread_create(&g->thread, NULL, serve, NULL) == 0);
}

static void start(struct registry *g, answer_fn *f)
{
	start_as(g, f, NULL);
}

static void stop(struct registry *g)
{
	shutdown(listener, SHUT_RDWR);
	pthread_join(g->thread, NULL);
	close(listener);
	oci_client_free(g->c);
	oci_ref_free(&g->ref);
	vl_buf_free(&seen);
}

/* ---- blobs ---- */

static int push(struct registry *g, uint64_t size, const char *mount_from, struct vl_err *err)
{
	VL_CLOSE int fd = memfd_create("blob", MFD_CLOEXEC);
	struct oci_upload u = { .fd = fd, .size = size, .digest = { "sha256", HEX } };
	int r = mount_from ? oci_push_find(g->c, &g->ref, &u.digest, size, mount_from, err) : 0;

	if (r != 0)
		return r < 0 ? r : 0;

	CHECK(ftruncate(fd, (off_t)size) == 0);
	return oci_push_blob(g->c, &g->ref, &u, NULL, err);
}

#define OK_MOUNTED "HTTP/1.1 201 Created\nLocation: /v2/team/app/blobs/sha256:" HEX "\nContent-Length: 0\n\n"
#define NOT_FOUND "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n"
#define CREATED "HTTP/1.1 201 Created\nContent-Length: 0\n\n"

static char *there(const struct request *q)
{
	return vl_asprintf("HTTP/1.1 200 OK\nContent-Length: %s\n\n", vl_streq(q->method, "HEAD") ? "5" : "0");
}

TEST(a_blob_that_is_there_is_not_sent)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, there);
	CHECK_OK(push(&g, 5, NULL, &err), err);
	CHECK_STR(seen.data, "HEAD /v2/team/app/blobs/sha256:" HEX "\n");
	stop(&g);
}

static char *session(const struct request *q, const char *location)
{
	if (vl_streq(q->method, "HEAD"))
		return vl_strdup(NOT_FOUND);
	if (vl_streq(q->method, "POST"))
		return vl_asprintf("HTTP/1.1 202 Accepted\nLocation: %s\nContent-Length: 0\n\n", location);
	CHECK_STR(q->method, "PUT");
	CHECK_EQ(q->body_len, 5);
	CHECK_STR(head_of(q, "Content-Type"), "application/octet-stream");
	return vl_strdup(CREATED);
}

static char *relative(const struct request *q)
{
	return session(q, "/up/1");
}

TEST(a_relative_place_gets_a_query)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, relative);
	CHECK_OK(push(&g, 5, NULL, &err), err);
	CHECK_HAS(seen.data, "POST /v2/team/app/blobs/uploads/\nPUT /up/1?digest=sha256:" HEX "\n");
	stop(&g);
}

static char *with_fragment(const struct request *q)
{
	return session(q, "/up/3?_state=b#here");
}

TEST(a_fragment_of_the_place_is_not_sent)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, with_fragment);
	CHECK_OK(push(&g, 5, NULL, &err), err);
	CHECK_HAS(seen.data, "PUT /up/3?_state=b&digest=sha256:" HEX "\n");
	stop(&g);
}

static char *loses_all(const struct request *q)
{
	return vl_streq(q->method, "POST") ? relative(q) : vl_strdup(NOT_FOUND);
}

TEST(lost_sessions_count_as_retries)
{
	for (unsigned retries = 1; retries <= 4; retries += 3) {
		struct registry g;
		struct vl_err err = { 0 };
		start(&g, loses_all);
		g.c->net.retries = retries;
		CHECK_EQ(push(&g, 5, NULL, &err), -EIO);
		CHECK_EQ(count_seen("POST "), retries + 1);
		CHECK_EQ(count_seen("PUT "), retries + 1);
		stop(&g);
		CHECK(rmdir("none") == 0);
	}
}

static char *with_query(const struct request *q)
{
	VL_FREE char *url = vl_asprintf("http://127.0.0.1:%u/up/2?_state=a%%3D", port);
	return session(q, url);
}

TEST(a_query_of_the_place_is_kept)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, with_query);
	CHECK_OK(push(&g, 5, NULL, &err), err);
	CHECK_HAS(seen.data, "PUT /up/2?_state=a%3D&digest=sha256:" HEX "\n");
	stop(&g);
}

static char *elsewhere(const struct request *q)
{
	return session(q, "ftp://127.0.0.1/up");
}

TEST(a_place_that_is_not_http_is_refused)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, elsewhere);
	CHECK(push(&g, 5, NULL, &err) < 0);
	CHECK_HAS(err.text, "not HTTP");
	CHECK_EQ(count_seen("PUT "), 0);
	stop(&g);
}

static char *nowhere(const struct request *q)
{
	if (vl_streq(q->method, "POST"))
		return vl_strdup("HTTP/1.1 202 Accepted\nContent-Length: 0\n\n");
	return session(q, "");
}

TEST(no_place_is_an_error)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, nowhere);
	CHECK_EQ(push(&g, 5, NULL, &err), -EPROTO);
	CHECK_HAS(err.text, "where to upload");
	stop(&g);
}

static char *basic(const struct request *q)
{
	if (!*head_of(q, "Authorization") && !strstr(q->target, "/other"))
		return vl_strdup(
			"HTTP/1.1 401 Unauthorized\nWWW-Authenticate: Basic realm=\"r\"\nContent-Length: 0\n\n");
	VL_FREE char *url = vl_asprintf("http://localhost:%u/other", port);
	if (strstr(q->target, "/other"))
		CHECK_STR(head_of(q, "Authorization"), "");
	return session(q, url);
}

TEST(another_host_is_not_told_who_we_are)
{
	struct registry g;
	struct vl_err err = { 0 };

	start_as(&g, basic, "me");
	CHECK_OK(push(&g, 5, NULL, &err), err);
	CHECK_HAS(seen.data, "PUT /other?digest=");
	stop(&g);
}

static char *mounts(const struct request *q)
{
	return vl_strdup(vl_streq(q->method, "POST") ? OK_MOUNTED : NOT_FOUND);
}

TEST(a_mounted_blob_is_not_sent)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, mounts);
	CHECK_OK(push(&g, 5, "team/base", &err), err);
	CHECK_HAS(seen.data, "POST /v2/team/app/blobs/uploads/?mount=sha256:" HEX "&from=team/base\n");
	CHECK_EQ(count_seen("\n"), 2);
	stop(&g);
}

static char *offers_a_session(const struct request *q)
{
	if (vl_streq(q->method, "DELETE"))
		return vl_strdup("HTTP/1.1 204 No Content\n\n");
	return relative(q);
}

TEST(a_mount_may_become_an_upload)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, offers_a_session);
	CHECK_OK(push(&g, 5, "team/base", &err), err);
	CHECK_EQ(count_seen("POST "), 2);
	CHECK_EQ(count_seen("DELETE /up/1"), 1); /* nobody wanted it then */
	CHECK_EQ(count_seen("PUT "), 1);
	stop(&g);
}

static char *no_mounts(const struct request *q)
{
	if (strstr(q->target, "mount="))
		return vl_strdup("HTTP/1.1 405 Method Not Allowed\nContent-Length: 0\n\n");
	return relative(q);
}

TEST(a_refused_mount_is_an_upload)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, no_mounts);
	CHECK_OK(push(&g, 5, "team/base", &err), err);
	CHECK_EQ(count_seen("POST "), 2);
	CHECK_EQ(count_seen("PUT "), 1);
	stop(&g);
}

static char *refuses(const struct request *q)
{
	if (vl_streq(q->method, "DELETE"))
		return vl_strdup("HTTP/1.1 204 No Content\n\n");
	if (vl_streq(q->method, "PUT"))
		return vl_strdup("HTTP/1.1 400 Bad Request\nContent-Length: 59\n\n"
				 "{\"errors\":[{\"code\":\"DIGEST_INVALID\",\"message\":\"no \033[31m\"}]}");
	return relative(q);
}

TEST(a_failed_upload_is_cancelled)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, refuses);
	CHECK(push(&g, 5, NULL, &err) < 0);
	CHECK(!strchr(err.text, '\033'));
	CHECK_HAS(seen.data, "DELETE /up/1\n");
	stop(&g);
}

static char *lies(const struct request *q)
{
	if (vl_streq(q->method, "PUT"))
		return vl_strdup("HTTP/1.1 201 Created\nDocker-Content-Digest: sha256:00" HEX
				 "\nContent-Length: 0\n\n");
	return relative(q);
}

TEST(another_digest_in_the_answer_is_an_error)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, lies);
	CHECK_EQ(push(&g, 5, NULL, &err), -EBADMSG);
	CHECK_EQ(oci_push_manifest(g.c, &g.ref, "application/x", "{}", 2, &d, &err), -EBADMSG);
	stop(&g);
}

/* ---- chunks ---- */

static char *chunk_answer(unsigned place, unsigned long long last)
{
	return vl_asprintf("HTTP/1.1 202 Accepted\nLocation: /up/%u\nRange: 0-%llu\nContent-Length: 0\n\n", place,
			   last);
}

static char *chunks(const struct request *q)
{
	static const char *const ranges[] = { "0-33554431", "33554432-67108863", "67108864-73400319" };

	if (vl_streq(q->method, "PATCH")) {
		VL_FREE char *want = vl_asprintf("/up/%u", q->nth + 1);
		CHECK_STR(q->target, want);
		CHECK_STR(head_of(q, "Content-Range"), ranges[q->nth]);
		return chunk_answer(q->nth + 2, (unsigned long long)VL_MIN((q->nth + 1) * 32 * MIB, 70 * MIB) - 1);
	}
	if (vl_streq(q->method, "PUT")) {
		CHECK_EQ(q->body_len, 0);
		return vl_strdup(CREATED);
	}
	return relative(q);
}

TEST(a_large_blob_goes_in_chunks)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, chunks);
	CHECK_OK(push(&g, 70 * MIB, NULL, &err), err);
	CHECK_EQ(count_seen("PATCH "), 3);
	CHECK_HAS(seen.data, "PUT /up/4?digest=");
	stop(&g);
}

static char *wants_larger(const struct request *q)
{
	if (vl_streq(q->method, "POST"))
		return vl_strdup("HTTP/1.1 202 Accepted\nLocation: /up/1\nOCI-Chunk-Min-Length: "
				 "52428800\nContent-Length: 0\n\n");
	if (vl_streq(q->method, "PATCH")) {
		CHECK_STR(head_of(q, "Content-Range"), q->nth ? "52428800-73400319" : "0-52428799");
		return vl_strdup("HTTP/1.1 202 Accepted\nContent-Length: 0\n\n"); /* same place, no Range */
	}
	return vl_strdup(vl_streq(q->method, "PUT") ? CREATED : NOT_FOUND);
}

TEST(the_registry_may_want_larger_chunks)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, wants_larger);
	CHECK_OK(push(&g, 70 * MIB, NULL, &err), err);
	CHECK_EQ(count_seen("PATCH /up/1\n"), 2);
	CHECK_HAS(seen.data, "PUT /up/1?digest=");
	stop(&g);
}

/* The second chunk is refused: half of it had come through. */
static char *lost_half(const struct request *q)
{
	if (vl_streq(q->method, "PATCH") && q->nth == 1)
		return vl_strdup("HTTP/1.1 416 Range Not Satisfiable\nContent-Length: 0\n\n");
	if (vl_streq(q->method, "PATCH") && q->nth == 2) {
		CHECK_STR(q->target, "/up/9");
		CHECK_STR(head_of(q, "Content-Range"), "50331648-73400319");
		return chunk_answer(10, 70 * MIB - 1);
	}
	if (vl_streq(q->method, "GET"))
		return vl_strdup("HTTP/1.1 204 No Content\nLocation: /up/9\nRange: 0-50331647\n\n");
	return chunks(q);
}

TEST(after_416_it_goes_on_where_the_registry_is)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, lost_half);
	CHECK_OK(push(&g, 70 * MIB, NULL, &err), err);
	CHECK_HAS(seen.data, "GET /up/2\nPATCH /up/9\nPUT /up/10?digest=");
	stop(&g);
}

static char *forgets(const struct request *q)
{
	if (vl_streq(q->method, "PATCH") && q->nth == 1)
		return vl_strdup(NOT_FOUND);
	if (vl_streq(q->method, "PATCH"))
		return vl_strdup("HTTP/1.1 202 Accepted\nContent-Length: 0\n\n");
	if (vl_streq(q->method, "PUT"))
		return vl_strdup(CREATED);
	return vl_streq(q->method, "GET") ? vl_strdup(NOT_FOUND) : relative(q);
}

TEST(a_lost_session_begins_again)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, forgets);
	CHECK_OK(push(&g, 70 * MIB, NULL, &err), err);
	CHECK_EQ(count_seen("POST "), 2);
	CHECK_EQ(count_seen("PATCH "), 5);
	stop(&g);
}

static char *stands_still(const struct request *q)
{
	if (vl_streq(q->method, "PATCH"))
		return vl_strdup("HTTP/1.1 416 Range Not Satisfiable\nContent-Length: 0\n\n");
	if (vl_streq(q->method, "GET"))
		return vl_strdup("HTTP/1.1 204 No Content\nRange: 0-0\n\n");
	return vl_streq(q->method, "DELETE") ? vl_strdup(CREATED) : relative(q);
}

TEST(a_registry_that_takes_nothing_is_given_up)
{
	struct registry g;
	struct vl_err err = { 0 };

	start(&g, stands_still);
	CHECK_EQ(push(&g, 70 * MIB, NULL, &err), -EIO);
	CHECK_HAS(err.text, "does not take byte 0");
	CHECK_EQ(count_seen("DELETE "), 1);
	stop(&g);
}

/* ---- manifests and referrers ---- */

#define SUBJECT "{\"mediaType\":\"m\",\"digest\":\"sha256:" HEX "\",\"size\":7}"
static const char referrer[] = "{\"schemaVersion\":2,\"artifactType\":\"a/t\",\"config\":{\"mediaType\":\"c/t\"},"
			       "\"annotations\":{\"k\":\"v\"},\"subject\":" SUBJECT "}";
static char put_index[20000];

static char *knows_referrers(const struct request *q)
{
	CHECK_STR(q->method, "PUT");
	CHECK_STR(head_of(q, "Content-Type"), "m/t");
	return vl_strdup("HTTP/1.1 201 Created\nOCI-Subject: sha256:" HEX "\nContent-Length: 0\n\n");
}

TEST(a_registry_that_keeps_referrers_needs_no_tag)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, knows_referrers);
	CHECK_OK(oci_push_manifest(g.c, &g.ref, "m/t", referrer, strlen(referrer), &d, &err), err);
	CHECK_OK(oci_digest_check(&d, referrer, strlen(referrer), "manifest", &err), err);
	CHECK_STR(seen.data, "PUT /v2/team/app/manifests/v1\n");
	stop(&g);
}

static char *tags_only(const struct request *q, const char *index, unsigned refuse)
{
	if (vl_streq(q->method, "GET"))
		return index ? vl_asprintf("HTTP/1.1 200 OK\nETag: \"e%u\"\nContent-Length: %zu\n\n%s", q->nth,
					   strlen(index), index)
			     : vl_strdup(NOT_FOUND);
	CHECK_STR(q->method, "PUT");
	if (q->nth == 0)
		return vl_strdup(CREATED);
	CHECK_STR(head_of(q, "Content-Type"), "application/vnd.oci.image.index.v1+json");
	if (index) {
		VL_FREE char *match = vl_asprintf("\"e%u\"", q->nth - 1);
		CHECK_STR(head_of(q, "If-Match"), match);
	}
	if (q->nth <= refuse)
		return vl_strdup("HTTP/1.1 412 Precondition Failed\nContent-Length: 0\n\n");
	snprintf(put_index, sizeof put_index, "%s", q->body);
	return vl_strdup(CREATED);
}

static char *no_index(const struct request *q)
{
	return tags_only(q, NULL, 0);
}

static char *some_index(const struct request *q)
{
	return tags_only(
		q,
		"{\"schemaVersion\":2,\"extra\":1,\"manifests\":[{\"digest\":\"sha256:old\",\"size\":1,\"x\":\"y\"}]}",
		1);
}

static char *busy_index(const struct request *q)
{
	return tags_only(q, "{\"schemaVersion\":2,\"manifests\":[]}", 100);
}

static char *wrong_index(const struct request *q)
{
	return tags_only(q, "{\"schemaVersion\":2,\"layers\":[]}", 0);
}

static int push_referrer(struct registry *g, struct oci_digest *d, struct vl_err *err)
{
	g->ref.tag = NULL;
	return oci_push_manifest(g->c, &g->ref, "m/t", referrer, strlen(referrer), d, err);
}

TEST(a_first_referrer_makes_the_tag)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, no_index);
	vl_freep(&g.ref.tag);
	CHECK_OK(push_referrer(&g, &d, &err), err);
	VL_FREE char *want = vl_asprintf(
		"{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":["
		"{\"mediaType\":\"m/t\",\"digest\":\"sha256:%s\",\"size\":%zu,\"artifactType\":\"a/t\","
		"\"annotations\":{\"k\":\"v\"}}]}",
		d.hex, strlen(referrer));
	CHECK_STR(put_index, want);
	VL_FREE char *path = vl_asprintf("PUT /v2/team/app/manifests/sha256:%s\n"
					 "GET /v2/team/app/manifests/sha256-" HEX "\n"
					 "PUT /v2/team/app/manifests/sha256-" HEX "\n",
					 d.hex);
	CHECK_STR(seen.data, path);
	stop(&g);
}

TEST(other_referrers_stay_and_a_lost_race_is_run_again)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, some_index);
	vl_freep(&g.ref.tag);
	CHECK_OK(push_referrer(&g, &d, &err), err);
	CHECK_HAS(put_index, "{\"digest\":\"sha256:old\",\"size\":1,\"x\":\"y\"},{\"mediaType\":\"m/t\"");
	CHECK_HAS(put_index, "\"extra\":1");
	CHECK_EQ(count_seen("GET "), 2);
	stop(&g);
}

TEST(a_race_that_is_always_lost_ends)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, busy_index);
	vl_freep(&g.ref.tag);
	CHECK_EQ(push_referrer(&g, &d, &err), -EBUSY);
	CHECK_EQ(count_seen("GET "), 4);
	stop(&g);
}

TEST(a_tag_that_is_something_else_is_left_alone)
{
	struct registry g;
	struct vl_err err = { 0 };
	struct oci_digest d;

	start(&g, wrong_index);
	vl_freep(&g.ref.tag);
	CHECK_EQ(push_referrer(&g, &d, &err), -EINVAL);
	CHECK_EQ(count_seen("PUT "), 1);
	stop(&g);
}
