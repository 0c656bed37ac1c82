#include "sif_check.h"

#include "sif/crypto.h"

static const struct {
	const char *type;
	unsigned bits;
	const char *word;
} kinds[] = {
	{ "ed25519", 0, "Ed25519" },     { "ecdsa", 0, "ECDSA P-256" }, { "ecdsa", 384, "ECDSA P-384" },
	{ "ecdsa", 521, "ECDSA P-521" }, { "rsa", 2048, "RSA 2048" },
};

static struct sif_key *new_key(size_t kind)
{
	struct sif_key *k;
	struct vl_err err;

	CHECK_OK(sif_key_new(kinds[kind].type, kinds[kind].bits, &k, &err), err);
	return k;
}

static int new_image(void)
{
	static const struct sif_object a = { .type = SIF_DEFFILE, .group = 1 },
				       b = { .type = SIF_GENERIC, .group = 1, .name = "b" },
				       c = { .type = SIF_GENERIC, .group = 7, .name = "c", .link = 2 };
	int fd = memfd_with(NULL, 0);
	struct sif_new how = { .time = 1000, .slots = 6 };
	struct sif_writer *w;
	struct vl_err err;

	sif_uuid_random(how.uuid);
	CHECK_OK(sif_writer_new(fd, &how, &w, &err), err);
	CHECK_OK(sif_writer_add(w, &a, "one", 3, &err), err);
	CHECK_OK(sif_writer_add(w, &b, "two", 3, &err), err);
	CHECK_OK(sif_writer_add(w, &c, "three", 5, &err), err);
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);
	return fd;
}

static int verify(int fd, struct sif_key *k, uint32_t group, uint32_t object, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	SIF_REPORT struct sif_report rep = { 0 };
	struct sif_verify_opts o = { .keys = &k, .n_keys = 1, .group = group, .object = object };

	CHECK_OK(sif_load(fd, &img, err), *err);
	return sif_verify(&img, &o, &rep, err);
}

/* A malformed signature gives some libcrypto calls -1, a wrong one 0: neither is "good". */
TEST(garbage_signatures)
{
	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		SIF_KEY struct sif_key *k = new_key(i);
		VL_FREE uint8_t *sig = NULL;
		struct vl_err err;
		uint8_t junk[600];
		size_t n;
		CHECK_STR(sif_key_type(k), kinds[i].word);
		CHECK_OK(sif_key_sign(k, "text", 4, &sig, &n, &err), err);
		CHECK(sif_key_check(k, "text", 4, sig, n));
		CHECK(!sif_key_check(k, "tex", 3, sig, n));
		CHECK(!sif_key_check(k, "text", 4, sig, n - 1));
		CHECK(!sif_key_check(k, "text", 4, sig, 0));
		for (int fill = 0; fill < 256; fill += 51)
			for (size_t len = 0; len <= sizeof junk; len += 25) {
				memset(junk, fill, sizeof junk);
				CHECK(!sif_key_check(k, "text", 4, junk, len));
			}
		for (size_t at = 0; at < n; at++) {
			sig[at] ^= 1;
			CHECK(!sif_key_check(k, "text", 4, sig, n));
			sig[at] ^= 1;
		}
	}
}

TEST(keys_survive_pem)
{
	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		SIF_KEY struct sif_key *k = new_key(i), *pub = NULL, *priv = NULL;
		VL_BUF struct vl_buf a = { 0 }, b = { 0 };
		struct sif_key *no = NULL;
		struct vl_err err;
		CHECK_OK(sif_key_pem(k, SIF_KEY_PUBLIC, &a, &err), err);
		CHECK_OK(sif_key_pem(k, SIF_KEY_PRIVATE, &b, &err), err);
		CHECK_OK(sif_key_parse(a.data, a.len, "pub", SIF_KEY_PUBLIC, &pub, &err), err);
		CHECK_OK(sif_key_parse(b.data, b.len, "priv", SIF_KEY_PRIVATE, &priv, &err), err);
		CHECK_STR(sif_key_id(pub), sif_key_id(k));
		CHECK_STR(sif_key_id(priv), sif_key_id(k));
		CHECK_EQ(sif_key_parse(a.data, a.len, "pub", SIF_KEY_PRIVATE, &no, &err), -EINVAL);
		CHECK_HAS(err.text, "public key");
		CHECK_EQ(sif_key_parse(b.data, b.len, "priv", SIF_KEY_PUBLIC, &no, &err), -EINVAL);
		CHECK_HAS(err.text, "private key");
	}
}

TEST(key_refusals)
{
	struct sif_key *k = NULL;
	struct vl_err err;

	CHECK_EQ(sif_key_new("rsa", 1024, &k, &err), -EINVAL);
	CHECK_EQ(sif_key_new("dsa", 0, &k, &err), -EINVAL);
	CHECK_EQ(sif_key_parse("no key", 6, "x", SIF_KEY_PUBLIC, &k, &err), -EINVAL);
	static const char rsa1024[] =
		"-----BEGIN PUBLIC KEY-----\n"
		"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCqGKukO1De7zhZj6+H0qtjTkVxwTCpvKe4eCZ0FPqri0cb2JZfXJ/DgYSF6vUp\n"
		"wmJG8wVQZKjeGcjDOL5UlsuusFncCzWBQ7RKNUSesmQRMSGkVb1/3j+skZ6UtW+5u09lHNsj6tQ51s1SPrCBkedbNf0Tp0GbMJDy\n"
		"R4e9T04ZZwIDAQAB\n-----END PUBLIC KEY-----\n";
	CHECK_EQ(sif_key_parse(rsa1024, sizeof rsa1024 - 1, "x", SIF_KEY_PUBLIC, &k, &err), -ENOTSUP);
	CHECK_HAS(err.text, "1024 bits");
}

TEST(sign_and_verify)
{
	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		SIF_KEY struct sif_key *k = new_key(i), *other = new_key(0);
		struct sif_sign_opts o = { .time = 2000 };
		VL_CLOSE int fd = new_image();
		struct vl_err err;
		size_t n;
		CHECK_EQ(verify(fd, k, 0, 0, &err), -ENODATA);
		CHECK_OK(sif_sign(fd, k, &o, &n, &err), err);
		CHECK_EQ(n, 2);
		CHECK_OK(verify(fd, k, 0, 0, &err), err);
		CHECK_EQ(verify(fd, other, 0, 0, &err), -EKEYREJECTED);
		CHECK_EQ(sif_sign(fd, k, &o, &n, &err), -ENOSPC); /* 1 slot left, 2 needed */
	}
}

TEST(one_group_or_object)
{
	SIF_KEY struct sif_key *k = new_key(0);
	struct sif_sign_opts o = { .group = 7, .time = 2000 };
	VL_CLOSE int fd = new_image();
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, k, &o, &n, &err), err);
	CHECK_EQ(verify(fd, k, 0, 0, &err), -ENODATA);
	CHECK_OK(verify(fd, k, 7, 0, &err), err);
	CHECK_OK(verify(fd, k, 0, 3, &err), err);
	CHECK_EQ(verify(fd, k, 1, 3, &err), -EINVAL);
	CHECK_EQ(verify(fd, k, 9, 0, &err), -ENOENT);
	CHECK_EQ(verify(fd, k, 0, 4, &err), -EINVAL); /* the signature itself */
	o = (struct sif_sign_opts){ .object = 2, .time = 2000 };
	CHECK_OK(sif_sign(fd, k, &o, &n, &err), err);
	CHECK_OK(verify(fd, k, 0, 2, &err), err);
	CHECK_EQ(verify(fd, k, 0, 1, &err), -EBADMSG);
	CHECK_EQ(verify(fd, k, 1, 0, &err), -EBADMSG);
	o.object = 4;
	CHECK_EQ(sif_sign(fd, k, &o, &n, &err), -EINVAL);
	o = (struct sif_sign_opts){ .group = 3 };
	CHECK_EQ(sif_sign(fd, k, &o, &n, &err), -ENOENT);
}

/* Every byte that a signature covers, changed one by one. */
TEST(every_covered_byte_counts)
{
	SIF_KEY struct sif_key *k = new_key(0);
	struct sif_sign_opts o = { .time = 2000 };
	VL_CLOSE int fd = new_image();
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, k, &o, &n, &err), err);
	static const struct {
		unsigned from, to;
	} covered[] = {
		{ 0, 32 },
		{ 48, 64 }, /* launch line, id */
		{ 4096 + 585, 4096 + 585 + 4 },
		{ 4096 + 585 + 13, 4096 + 585 + 17 }, /* type, link */
		{ 4096 + 585 + 41, 4096 + 585 + 49 },
		{ 4096 + 585 + 57, 4096 + 585 + 585 },
	};
	for (size_t i = 0; i < VL_COUNT(covered); i++)
		for (unsigned at = covered[i].from; at < covered[i].to; at++) {
			uint8_t b;
			CHECK_EQ(pread(fd, &b, 1, at), 1);
			b ^= 0x40;
			CHECK_EQ(pwrite(fd, &b, 1, at), 1);
			CHECK(verify(fd, k, 0, 0, &err) < 0);
			b ^= 0x40;
			CHECK_EQ(pwrite(fd, &b, 1, at), 1);
		}
	CHECK_OK(verify(fd, k, 0, 0, &err), err);
}

TEST(base64)
{
	static const struct {
		const char *text, *raw; /* raw NULL: refused */
	} cases[] = {
		{ "", "" },        { "Zg==", "f" },      { "Zm8=", "fo" }, { "Zm9v", "foo" },
		{ "Pz8_", "???" }, { "Pz8/", "???" },    { "Zg", NULL },   { "Zg=", NULL },
		{ "Zh==", NULL },  { "Zm9=", NULL },     { "Zm 9", NULL }, { "====", NULL },
		{ "Z===", NULL },  { "Zg==Zg==", NULL }, { "=m9v", NULL }, { "Zm9v\n", NULL },
	};
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE uint8_t *raw = NULL;
		size_t n = 0;
		int r = vl_unbase64(cases[i].text, strlen(cases[i].text), &raw, &n);
		CHECK_EQ(r, cases[i].raw ? 0 : -EINVAL);
		if (r == 0)
			CHECK(n == strlen(cases[i].raw) && !memcmp(raw, cases[i].raw, n));
	}
	VL_FREE char *s = vl_base64("fo", 2, false);
	CHECK_STR(s, "Zm8");
}

/* Digests of a published image's header and of its second descriptor, from the format paper. */
TEST(test_vectors)
{
	struct sif_image img = {
		.h = { .launch = "#!/usr/bin/env run-singularity\n", .magic = "SIF_MAGIC", .version = "01" }
	};
	struct sif_descr d = { .type = SIF_JSON,
			       .used = 1,
			       .id = 2,
			       .group = 1,
			       .size = 137,
			       .created = 1700000000,
			       .name = "inspect-metadata.json" };
	struct sif_digest got;
	struct vl_err err;
	uint8_t want[32];

	CHECK_EQ(vl_unhex("0d5f0c4e5f374b199a3e0c8a2f6f1b01", 16, img.h.uuid), 0);
	CHECK_OK(sif_measure_header(&img, "sha256", &got, &err), err);
	vl_unhex("a6c82102f53323b5e24788782724f4d8338fe969a9f5965260ea75ae96b0186b", 32, want);
	CHECK_MEM(got.bytes, want, 32);
	CHECK_OK(sif_measure_descr(&d, 1, "sha256", &got, &err), err);
	vl_unhex("a60e7e445dec03b69e8e0c9a2395dc25019bcb4174b26613bafbc4261445c3ea", 32, want);
	CHECK_MEM(got.bytes, want, 32);
}

TEST(lists)
{
#define H "sha256:00000000000000000000000000000000000000000000000000000000000000aa"
#define E(id) "{\"relativeId\":" id ",\"descriptorDigest\":\"" H "\",\"objectDigest\":\"" H "\"}"
#define L(v, e) "{\"version\":" v ",\"header\":{\"digest\":\"" H "\"},\"objects\":[" e "]}"
	static const struct {
		const char *text;
		int r;
	} cases[] = {
		{ L("1", E("0")), 0 },
		{ L("1", E("1") "," E("0")) "\n", 0 },
		{ L("2", E("0")), -ENOTSUP },
		{ L("\"1\"", E("0")), -ENOTSUP },
		{ L("1", E("0") "," E("0")), -EINVAL },
		{ L("1", E("-1")), -EINVAL },
		{ L("1", E("4294967296")), -EINVAL },
		{ L("1", E("4294967295")), 0 },
		{ L("1", E("0.5")), -EINVAL },
		{ L("1", ""), -EINVAL },
		{ L("1", "null"), -EINVAL },
		{ L("1", E("0")) "x", -EINVAL },
		{ "[]", -ENOTSUP },
	};
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		struct sif_payload p = { 0 };
		struct vl_err err = { 0 };
		int r = sif_payload_parse(cases[i].text, strlen(cases[i].text), &p, &err);
		if (r != cases[i].r)
			CHECK_FAIL("%s gives %d, not %d (%s)", cases[i].text, r, cases[i].r, err.text);
		if (i == 0) {
			VL_FREE char *again = sif_payload_text(&p);
			CHECK_STR(again, cases[0].text);
		}
		sif_payload_free(&p);
	}
}

static int report_of(int fd, const struct sif_verify_opts *o, struct sif_report *rep, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };

	CHECK_OK(sif_load(fd, &img, err), *err);
	return sif_verify(&img, o, rep, err);
}

/* Valid and by whom: three people sign; who is known decides what is needed, never what is valid. */
TEST(several_signers)
{
	SIF_KEY struct sif_key *a = new_key(0), *b = new_key(1), *c = new_key(0);
	struct sif_sign_opts so = { .group = 1, .time = 2000 };
	VL_CLOSE int fd = new_image();
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, a, &so, &n, &err), err);
	CHECK_OK(sif_sign(fd, b, &so, &n, &err), err);
	sif_key_set_signer(b, SIF_SIGNER_CERTIFICATE, "CN=\x1b[31mb");
	struct sif_key *all[] = { a, b }, *second[] = { c, b };
	for (int need = SIF_NEED_ALL; need <= SIF_NEED_ONE; need++) {
		SIF_REPORT struct sif_report both = { 0 }, one = { 0 }, none = { 0 };
		struct sif_verify_opts o = { .keys = all, .n_keys = 2, .group = 1, .need = (enum sif_need)need };
		CHECK_OK(report_of(fd, &o, &both, &err), err);
		CHECK_EQ(both.n_sig, 2);
		CHECK_EQ(both.n, 4);
		CHECK_STR(both.sig[0].signers[0].id, sif_key_id(a));
		CHECK_EQ(both.sig[1].signers[0].kind, SIF_SIGNER_CERTIFICATE);
		CHECK(!strchr(both.sig[1].signers[0].name, 0x1b));
		o.keys = second;
		CHECK_EQ(report_of(fd, &o, &one, &err), need == SIF_NEED_ONE ? 0 : -EKEYREJECTED);
		CHECK_EQ(one.sig[0].verdict, SIF_UNKNOWN);
		CHECK_EQ(one.sig[0].n_signers, 0);
		CHECK_STR(one.sig[0].claims, sif_key_id(a));
		CHECK_EQ(one.sig[1].verdict, need == SIF_NEED_ONE ? SIF_VALID : SIF_UNCHECKED);
		CHECK_EQ(one.sig[1].n_signers, 1);
		o.n_keys = 1;
		CHECK_EQ(report_of(fd, &o, &none, &err), -EKEYREJECTED);
		CHECK(!sif_report_find(&none, 99) && sif_report_find(&none, 5)->verdict == SIF_UNKNOWN);
	}
}

/* An unknown signer spoils nothing; a known key under a changed signature does. */
TEST(one_signer_is_enough_unless_something_is_bad)
{
	SIF_KEY struct sif_key *a = new_key(0), *b = new_key(0);
	struct sif_sign_opts so = { .group = 1, .time = 2000 };
	VL_CLOSE int fd = new_image();
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, a, &so, &n, &err), err);
	CHECK_OK(sif_sign(fd, b, &so, &n, &err), err);
	CHECK_OK(sif_load(fd, &img, &err), err);
	const struct sif_descr *second = sif_by_id(&img, 5);
	struct sif_key *both[] = { a, b };
	for (uint64_t at = second->off; at < second->off + second->size; at++) {
		SIF_REPORT struct sif_report rep = { 0 };
		struct sif_verify_opts o = { .keys = both, .n_keys = 2, .group = 1, .need = SIF_NEED_ONE };
		uint8_t was, changed;
		CHECK_EQ(pread(fd, &was, 1, (off_t)at), 1);
		changed = was == '0' ? '1' : '0';
		CHECK_EQ(pwrite(fd, &changed, 1, (off_t)at), 1);
		int r = report_of(fd, &o, &rep, &err);
		CHECK_EQ(pwrite(fd, &was, 1, (off_t)at), 1);
		/* it is refused, or nobody that we know: a key id may be changed into somebody's */
		CHECK(r < 0 || rep.sig[1].verdict == SIF_UNKNOWN || rep.sig[1].verdict == SIF_VALID);
		CHECK(r < 0 || rep.sig[0].verdict == SIF_VALID);
		if (r == 0 && rep.sig[1].verdict == SIF_VALID)
			CHECK_STR(rep.sig[1].signers[0].id, sif_key_id(b));
	}
}

/* What another check answers for is not read, and the report says so. */
TEST(unhashed_object)
{
	SIF_KEY struct sif_key *k = new_key(0);
	struct sif_sign_opts so = { .time = 2000 };
	VL_CLOSE int fd = new_image();
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_sign(fd, k, &so, &n, &err), err);
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	CHECK_OK(sif_load(fd, &img, &err), err);
	CHECK_EQ(pwrite(fd, "TWO", 3, (off_t)sif_by_id(&img, 2)->off), 3);
	SIF_REPORT struct sif_report all = { 0 }, but_two = { 0 };
	struct sif_verify_opts o = { .keys = &k, .n_keys = 1 };
	CHECK_EQ(report_of(fd, &o, &all, &err), -EBADMSG);
	CHECK_EQ(all.sig[0].verdict, SIF_INVALID);
	CHECK_HAS(all.sig[0].why, "object 2");
	o.unhashed = &(uint32_t){ 2 };
	o.n_unhashed = 1;
	CHECK_OK(report_of(fd, &o, &but_two, &err), err);
	CHECK_EQ(but_two.n, 3);
	for (size_t i = 0; i < but_two.n; i++)
		CHECK_EQ(but_two.v[i].hashed, but_two.v[i].id != 2);
}

/* Everything is bounded: a table full of signatures, an envelope full of entries. */
TEST(limits_of_signatures)
{
	static const struct sif_object object = { .type = SIF_GENERIC, .group = 1 };
	struct sif_object sig = { .type = SIF_SIGNATURE, .link = SIF_GROUP_MASK | 1 };
	struct sif_new how = { .time = 1000, .slots = SIF_MAX_SIGNATURES + 2 };
	SIF_KEY struct sif_key *k = new_key(0);
	SIF_REPORT struct sif_report rep = { 0 };
	VL_CLOSE int fd = memfd_with(NULL, 0);
	VL_BUF struct vl_buf b = { 0 };
	struct sif_writer *w;
	struct vl_err err;

	vl_put_le32(sig.extra, SIF_HASH_SHA256);
	CHECK_OK(sif_writer_new(fd, &how, &w, &err), err);
	CHECK_OK(sif_writer_add(w, &object, "one", 3, &err), err);
	for (int i = 0; i <= SIF_MAX_SIGNATURES; i++)
		CHECK_OK(sif_writer_add(w, &sig, "{}", 2, &err), err);
	CHECK_OK(sif_writer_end(w, &err), err);
	sif_writer_free(w);
	struct sif_verify_opts o = { .keys = &k, .n_keys = 1 };
	CHECK_EQ(report_of(fd, &o, &rep, &err), -EINVAL);
	CHECK_EQ(rep.n_sig, SIF_MAX_SIGNATURES);

	vl_buf_adds(
		&b,
		"{\"payloadType\":\"application/vnd.sylabs.sif-metadata+json\",\"payload\":\"e30=\",\"signatures\":[");
	for (int i = 0; i < 65; i++)
		vl_buf_addf(&b, "%s{\"sig\":\"AAAA\"}", i ? "," : "");
	vl_buf_adds(&b, "]}");
	struct sif_known known = { .o = &o };
	struct sif_signature s = { 0 };
	char *payload;
	size_t n;
	CHECK_EQ(sif_dsse_open(b.data, b.len, &known, &s, &payload, &n, &err), -E2BIG);
	sif_signature_free(&s);
}

/* Entries that name no key, each tried with every key: there is an end to it, and that is a refusal. */
TEST(tries_of_keys_have_a_bound)
{
	enum { KEYS = 200, ENTRIES = 50, OBJECTS = SIF_MAX_TRIES / (KEYS * ENTRIES) + 1 };
	SIF_KEY struct sif_key *k = NULL;
	struct sif_key *keys[KEYS];
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err err;

	CHECK_OK(sif_key_new("ed25519", 0, &k, &err), err);
	for (int i = 0; i < KEYS; i++)
		keys[i] = k;
	struct sif_verify_opts o = { .keys = keys, .n_keys = KEYS, .need = SIF_NEED_ONE };
	struct sif_known known = { .o = &o };
	vl_buf_adds(
		&b,
		"{\"payloadType\":\"application/vnd.sylabs.sif-metadata+json\",\"payload\":\"e30=\",\"signatures\":[");
	for (int i = 0; i < ENTRIES; i++)
		vl_buf_addf(&b, "%s{\"sig\":\"AAAA\"}", i ? "," : "");
	vl_buf_adds(&b, "]}");
	for (int i = 0; i < OBJECTS; i++) {
		struct sif_signature s = { 0 };
		char *payload;
		size_t n;
		bool last = i + 1 == OBJECTS;
		CHECK_EQ(sif_dsse_open(b.data, b.len, &known, &s, &payload, &n, &err), last ? -E2BIG : -EKEYREJECTED);
		CHECK_EQ(s.verdict == SIF_UNKNOWN, !last);
		sif_signature_free(&s);
	}
	CHECK_HAS(err.text, "--key");
}

TEST(old_style_texts)
{
	static const char hex64[] = "0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef";
	VL_FREE char *good = vl_asprintf("SIFHASH:\n%s\n", hex64), *windows = vl_asprintf("SIFHASH:\r\n%s\r\n", hex64),
		     *more = vl_asprintf("SIFHASH:\n%s\nmore", hex64), *longer = vl_asprintf("SIFHASH:\n%s0\n", hex64),
		     *other = vl_asprintf("SIFHASH\n%s\n", hex64);
	struct sif_digest d;
	struct vl_err err;

	CHECK_OK(sif_legacy_parse(good, SIF_HASH_SHA256, &d, &err), err);
	CHECK_EQ(d.bytes[0], 0x01);
	CHECK_EQ(d.bytes[15], 0xef);
	CHECK_OK(sif_legacy_parse(windows, SIF_HASH_SHA256, &d, &err), err);
	CHECK_EQ(sif_legacy_parse(good, SIF_HASH_SHA384, &d, &err), -EINVAL);
	CHECK_EQ(sif_legacy_parse(good, SIF_HASH_BLAKE2S, &d, &err), -ENOTSUP);
	CHECK_EQ(sif_legacy_parse(more, SIF_HASH_SHA256, &d, &err), -EINVAL);
	CHECK_EQ(sif_legacy_parse(longer, SIF_HASH_SHA256, &d, &err), -EINVAL);
	CHECK_EQ(sif_legacy_parse(other, SIF_HASH_SHA256, &d, &err), -EINVAL);
	CHECK_EQ(sif_legacy_parse("", SIF_HASH_SHA256, &d, &err), -EINVAL);
}
