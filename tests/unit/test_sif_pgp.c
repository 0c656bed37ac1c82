/* OpenPGP signatures, made here with librnp and checked through sif/pgp.c. */
#include "sif_check.h"

#include <rnp/rnp.h>
#include <sys/stat.h>

#include "sif/crypto.h"

struct maker {
	rnp_ffi_t ffi;
	rnp_key_handle_t key;
	uint8_t fingerprint[20];
	char id[41];
};

static const struct kind {
	const char *alg, *curve;
	uint32_t bits;
} kinds[] = { { "EDDSA", NULL, 0 }, { "RSA", NULL, 2048 }, { "ECDSA", "NIST P-256", 0 } };

#define RNP(call)                                                                                                      \
	do {                                                                                                           \
		rnp_result_t _r = (call);                                                                              \
		if (_r)                                                                                                \
			CHECK_FAIL("%s: %s", #call, rnp_result_to_string(_r));                                         \
	} while (0)

/* time 0: now. lifetime in seconds, 0: without end */
static void make_key(struct maker *m, const struct kind *k, uint64_t time, uint32_t lifetime)
{
	rnp_op_generate_t op;
	char *s;

	RNP(rnp_ffi_create(&m->ffi, "GPG", "GPG"));
	if (time)
		RNP(rnp_set_timestamp(m->ffi, time));
	RNP(rnp_op_generate_create(&op, m->ffi, k->alg));
	if (k->bits)
		RNP(rnp_op_generate_set_bits(op, k->bits));
	if (k->curve)
		RNP(rnp_op_generate_set_curve(op, k->curve));
	RNP(rnp_op_generate_set_userid(op, "Maker <maker@example.invalid>"));
	RNP(rnp_op_generate_add_usage(op, "sign"));
	if (lifetime)
		RNP(rnp_op_generate_set_expiration(op, lifetime));
	RNP(rnp_op_generate_execute(op));
	RNP(rnp_op_generate_get_key(op, &m->key));
	RNP(rnp_op_generate_destroy(op));
	RNP(rnp_key_get_fprint(m->key, &s));
	CHECK_EQ(strlen(s), 40);
	memcpy(m->id, s, 41);
	for (int i = 0; i < 20; i++)
		CHECK_EQ(sscanf(s + 2 * i, "%2hhx", &m->fingerprint[i]), 1);
	rnp_buffer_destroy(s);
}

static void drop_key(struct maker *m)
{
	rnp_key_handle_destroy(m->key);
	rnp_ffi_destroy(m->ffi);
}

static void write_public(const struct maker *m, const char *path)
{
	rnp_output_t out;

	RNP(rnp_output_to_path(&out, path));
	RNP(rnp_key_export(m->key, out, RNP_KEY_EXPORT_ARMORED | RNP_KEY_EXPORT_PUBLIC));
	rnp_output_destroy(out);
}

static char *clear_sign(const struct maker *m, const char *text, const char *hash, size_t *ret_len)
{
	rnp_op_sign_t op;
	rnp_input_t in;
	rnp_output_t out;
	uint8_t *p;

	RNP(rnp_input_from_memory(&in, (const uint8_t *)text, strlen(text), false));
	RNP(rnp_output_to_memory(&out, 0));
	RNP(rnp_op_sign_cleartext_create(&op, m->ffi, in, out));
	RNP(rnp_op_sign_set_hash(op, hash));
	RNP(rnp_op_sign_add_signature(op, m->key, NULL));
	RNP(rnp_op_sign_execute(op));
	RNP(rnp_output_memory_get_buf(out, &p, ret_len, false));
	char *s = vl_strndup((char *)p, *ret_len);
	rnp_op_sign_destroy(op);
	rnp_output_destroy(out);
	rnp_input_destroy(in);
	return s;
}

static struct sif_pgp_keys load_two(const char *one, const char *other)
{
	const char *const files[] = { one, other };
	struct sif_pgp_keys k = { .v = vl_alloc(2 * sizeof *k.v) };
	struct vl_err err;

	for (size_t i = 0; i < 2 && files[i]; i++) {
		CHECK_OK(vl_read_file(AT_FDCWD, files[i], 1u << 20, &k.v[i].text, &k.v[i].len, &err), err);
		k.v[i].what = files[i];
		k.n++;
	}
	return k;
}

static struct sif_pgp_keys load(const char *path)
{
	return load_two(path, NULL);
}

/* In this process, for the many cases. The library talks. */
static struct sif_pgp *open_keys(const char *path)
{
	struct sif_pgp_keys k = load(path);
	struct sif_pgp *p;
	struct vl_err err;

	CHECK(freopen("/dev/null", "we", stderr));
	CHECK_OK(sif_pgp_new(&k, &p, &err), err);
	sif_pgp_keys_free(&k);
	return p;
}

/* keys: in a child, as verifying does it; NULL: by p, in this process */
static int check_by(const struct sif_pgp_keys *keys, const struct sif_pgp *p, const char *text, size_t len,
		    const struct maker *m, enum sif_verdict *verdict, struct vl_err *err)
{
	struct sif_signature s = { 0 };
	VL_FREE char *payload = NULL;
	size_t n;
	struct sif_pgp_run run = { 0 };
	int r = keys ? sif_pgp_verify(keys, text, len, m->fingerprint, &run, &s, &payload, &n, err)
		     : sif_pgp_check(p, text, len, m->fingerprint, &s, &payload, &n, err);

	if (r == 0) {
		CHECK_EQ(s.n_signers, 1);
		CHECK_EQ(s.signers[0].kind, SIF_SIGNER_PGP);
		CHECK_STR(s.signers[0].id, m->id);
		CHECK_STR(s.signers[0].name, "Maker <maker@example.invalid>");
		CHECK_MEM(payload, "{\"a\": 1}", 8);
	} else {
		CHECK_EQ(s.n_signers, 0);
	}
	*verdict = s.verdict;
	CHECK(!run.skipped);
	sif_signature_free(&s);
	return r;
}

static int check(const struct sif_pgp *p, const char *text, size_t len, const struct maker *m,
		 enum sif_verdict *verdict, struct vl_err *err)
{
	return check_by(NULL, p, text, len, m, verdict, err);
}

TEST(good_and_garbage_of_every_kind)
{
	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		struct maker m;
		enum sif_verdict v;
		struct vl_err err;
		size_t n;
		make_key(&m, &kinds[i], 0, 0);
		write_public(&m, "key.asc");
		SIF_PGP struct sif_pgp *p = open_keys("key.asc");
		VL_FREE char *text = clear_sign(&m, "{\"a\": 1}", "SHA256", &n);
		CHECK_OK(check(p, text, n, &m, &v, &err), err);
		/* cut anywhere; the last byte is a newline, and the checksum of the armor may be missing */
		size_t end = (size_t)(strstr(text, "\n-----END") - text);
		for (size_t len = 0; len < end; len += 7) {
			VL_FREE char *cut = vl_strndup(text, len);
			CHECK(check(p, cut, len, &m, &v, &err) < 0);
		}
		/* the text, each byte; the packet, where some bits do not count, and then the text is the same */
		size_t from = (size_t)(strstr(text, "{") - text),
		       packet = (size_t)(strstr(text, "PGP SIGNATURE") - text) + 18;
		size_t noticed = 0, tried = 0;
		for (size_t at = from; at < end; at++) {
			char was = text[at];
			if (at == from + 8)
				at = packet;
			if (strchr("\n\r= ", text[at]))
				continue;
			was = text[at];
			text[at] = was == 'B' ? 'C' : 'B';
			int r = check(p, text, n, &m, &v, &err);
			text[at] = was;
			CHECK(r < 0 || at >= packet);
			noticed += r < 0;
			tried++;
		}
		CHECK(noticed > tried / 2);
		VL_FREE char *more = vl_asprintf("%s\nmore\n", text), *twice = vl_asprintf("%s%s", text, text);
		CHECK_EQ(check(p, more, strlen(more), &m, &v, &err), -EINVAL);
		CHECK_EQ(check(p, twice, strlen(twice), &m, &v, &err), -EINVAL);
		VL_FREE char *huge = vl_alloc(SIF_MAX_SIGNATURE);
		memset(huge, 'A', SIF_MAX_SIGNATURE - 1);
		memcpy(huge, text, end);
		CHECK(check(p, huge, strlen(huge), &m, &v, &err) < 0);
		drop_key(&m);
	}
}

TEST(hashes)
{
	static const struct {
		const char *name;
		bool good;
	} hashes[] = {
		{ "SHA224", true }, { "SHA384", true }, { "SHA512", true }, { "SHA1", false }, { "RIPEMD160", false }
	};
	struct maker m;

	make_key(&m, &kinds[1], 0, 0);
	write_public(&m, "key.asc");
	SIF_PGP struct sif_pgp *p = open_keys("key.asc");
	for (size_t i = 0; i < VL_COUNT(hashes); i++) {
		enum sif_verdict v;
		struct vl_err err;
		size_t n;
		VL_FREE char *text = clear_sign(&m, "{\"a\": 1}", hashes[i].name, &n);
		int r = check(p, text, n, &m, &v, &err);
		if ((r == 0) != hashes[i].good)
			CHECK_FAIL("%s gives %d", hashes[i].name, r);
		if (r < 0)
			CHECK_HAS(err.text, hashes[i].name);
	}
	drop_key(&m);
}

/* The library keeps a descriptor once it was used, and the child under test closes all: so another process makes the
 * key in "key.asc" and the text that it signed. */
static char *made_elsewhere(struct maker *m, size_t *ret_len)
{
	struct vl_err err;
	char *text, *id;
	size_t n;
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		make_key(m, &kinds[2], 0, 0);
		write_public(m, "key.asc");
		text = clear_sign(m, "{\"a\": 1}", "SHA256", &n);
		FILE *f = fopen("text.asc", "we"), *g = fopen("id", "we");
		CHECK(f && g && fwrite(text, 1, n, f) == n && fwrite(m, 1, sizeof *m, g) == sizeof *m);
		CHECK(fclose(f) == 0 && fclose(g) == 0);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK_OK(vl_read_file(AT_FDCWD, "text.asc", 1 << 20, &text, ret_len, &err), err);
	CHECK_OK(vl_read_file(AT_FDCWD, "id", sizeof *m, &id, &n, &err), err);
	memcpy(m, id, sizeof *m);
	free(id);
	return text;
}

/* What verifying does: in a child that says nothing and leaves nothing. */
TEST(in_a_child)
{
	struct maker m;
	enum sif_verdict v;
	struct vl_err err;
	struct stat st;
	size_t n;

	VL_FREE char *text = made_elsewhere(&m, &n);
	struct sif_pgp_keys keys = load("key.asc"), none = { 0 };
	CHECK(freopen("said", "we", stderr));
	CHECK_OK(check_by(&keys, NULL, text, n, &m, &v, &err), err);
	CHECK_EQ(check_by(&none, NULL, text, n, &m, &v, &err), -EKEYREJECTED);
	CHECK_EQ(v, SIF_UNKNOWN);
	text[strstr(text, "{") - text] = '[';
	CHECK_EQ(check_by(&keys, NULL, text, n, &m, &v, &err), -EKEYREJECTED);
	CHECK_EQ(v, SIF_UNCHECKED);
	CHECK_HAS(err.text, "did not make it");
	keys.v[0].len /= 3;
	CHECK_EQ(check_by(&keys, NULL, text, n, &m, &v, &err), -EINVAL);
	CHECK_HAS(err.text, "key.asc");
	sif_pgp_keys_free(&keys);
	CHECK(stat("said", &st) == 0 && st.st_size == 0);
	CHECK_EQ(waitpid(-1, NULL, WNOHANG), -1);
}

/* In a child: a file that the library does not take, beside one that it does; and whose file the key is in. */
TEST(files_that_are_left_out_and_foreign_ones)
{
	struct maker m;
	struct sif_pgp_run run = { 0 };
	struct vl_err err;
	size_t n;
	VL_FREE char *text = made_elsewhere(&m, &n);
	struct sif_pgp_keys one = load("key.asc");
	char none[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n";
	struct sif_pgp_file files[] = { { none, strlen(none), "none.asc", false }, one.v[0] };
	struct sif_pgp_keys two = { files, 2 };

	for (int foreign = 0; foreign < 4; foreign++) {
		struct sif_signature s = { 0 };
		VL_FREE char *payload = NULL;
		size_t len;
		files[0].foreign = foreign & 1;
		files[1].foreign = foreign & 2;
		CHECK_OK(sif_pgp_verify(&two, text, n, m.fingerprint, &run, &s, &payload, &len, &err), err);
		CHECK_EQ(s.n_signers, 1);
		CHECK_EQ(s.signers[0].foreign, files[1].foreign);
		CHECK_HAS(run.skipped, "none.asc");
		sif_signature_free(&s);
	}
	CHECK(run.cpu > 0);
	/* all texts of an image together have so much time */
	struct sif_signature s = { 0 };
	char *payload = NULL;
	run.cpu = SIF_PGP_CPU;
	CHECK_EQ(sif_pgp_verify(&two, text, n, m.fingerprint, &run, &s, &payload, &n, &err), -E2BIG);
	CHECK_EQ(s.verdict, SIF_UNCHECKED);
	sif_signature_free(&s);
	free(run.skipped);
	sif_pgp_keys_free(&one);
}

TEST(other_keys)
{
	struct maker m, other;
	enum sif_verdict v;
	struct vl_err err;
	size_t n;

	make_key(&m, &kinds[0], 0, 0);
	make_key(&other, &kinds[0], 0, 0);
	write_public(&other, "other.asc");
	VL_FREE char *text = clear_sign(&m, "{\"a\": 1}", "SHA256", &n);
	SIF_PGP struct sif_pgp *p = open_keys("other.asc"), *both = NULL;
	CHECK_EQ(check(p, text, n, &m, &v, &err), -EKEYREJECTED);
	CHECK_EQ(v, SIF_UNKNOWN);
	CHECK_HAS(err.text, m.id);
	write_public(&m, "key.asc");
	struct sif_pgp_keys two = load_two("other.asc", "key.asc");
	CHECK_OK(sif_pgp_new(&two, &both, &err), err);
	sif_pgp_keys_free(&two);
	CHECK_OK(check(both, text, n, &m, &v, &err), err);
	/* the descriptor says it is somebody else's */
	CHECK_EQ(check(both, text, n, &other, &v, &err), -EBADMSG);
	CHECK_HAS(err.text, other.id);
	drop_key(&m);
	drop_key(&other);
}

TEST(keys_that_may_not_be_used)
{
	struct maker old, gone;
	enum sif_verdict v;
	struct vl_err err;
	size_t n, n2;

	make_key(&old, &kinds[0], 1577836800, 365 * 86400);
	write_public(&old, "old.asc");
	VL_FREE char *a = clear_sign(&old, "{\"a\": 1}", "SHA256", &n);
	SIF_PGP struct sif_pgp *p = open_keys("old.asc"), *q = NULL;
	CHECK_EQ(check(p, a, n, &old, &v, &err), -EKEYREJECTED);
	CHECK_HAS(err.text, "expired");
	CHECK_HAS(err.text, old.id);
	CHECK_EQ(v, SIF_UNKNOWN);

	make_key(&gone, &kinds[0], 0, 0);
	VL_FREE char *b = clear_sign(&gone, "{\"a\": 1}", "SHA256", &n2);
	RNP(rnp_key_revoke(gone.key, 0, "SHA256", "retired", "gone"));
	write_public(&gone, "gone.asc");
	q = open_keys("gone.asc");
	CHECK_EQ(check(q, b, n2, &gone, &v, &err), -EKEYREJECTED);
	CHECK_HAS(err.text, "revoked");
	CHECK_EQ(v, SIF_UNKNOWN);
	drop_key(&old);
	drop_key(&gone);
}
