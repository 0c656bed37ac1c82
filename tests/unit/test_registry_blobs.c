/* Blobs of registries: retries, kept ones, many at a time, against servers that misbehave. */
#include "registry_maker.h"

/* ---- blobs ---- */

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
