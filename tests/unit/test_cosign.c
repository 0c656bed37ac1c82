/* What cosign signed: what counts, and all that does not. */
#include "http_server.h"
#include "sif_check.h"

#include <image/cosign.h>
#include <oci/client.h>
#include <sif/crypto.h>

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define PAYLOAD(type, digest)                                                                                          \
	"{\"critical\":{\"identity\":{\"docker-reference\":\"\"},\"image\":{\"docker-manifest-digest\":\"" digest      \
	"\"},\"type\":\"" type "\"},\"optional\":{}}"
#define SIMPLE "cosign container image signature"
#define STATEMENT(type, predicate, hex)                                                                                \
	"{\"_type\":\"" type "\",\"predicateType\":\"" predicate                                                       \
	"\",\"subject\":[{\"name\":\"x\",\"digest\":{\"sha1\":1}},"                                                    \
	"{\"digest\":{\"sha256\":\"" hex "\"}}],\"predicate\":{}}"
#define V1 "https://in-toto.io/Statement/v1"
#define SIGN "https://sigstore.dev/cosign/sign/v1"

static const struct oci_digest digests[] = { { "sha512", "ab" }, { "sha256", HEX } };
static struct sif_key *ours, *theirs;
static struct img_cosign_check check = { &ours, 1, digests, 2 };

static void make_keys(const char *type)
{
	struct vl_err err = { 0 };

	CHECK_OK(sif_key_new(type, 0, &ours, &err), err);
	CHECK_OK(sif_key_new("ed25519", 0, &theirs, &err), err);
}

static void free_keys(void)
{
	sif_key_freep(&ours);
	sif_key_freep(&theirs);
}

static char *sign(const struct sif_key *k, const void *p, size_t n)
{
	VL_FREE uint8_t *sig = NULL;
	struct vl_err err = { 0 };
	size_t len;

	CHECK_OK(sif_key_sign(k, p, n, &sig, &len, &err), err);
	return vl_base64(sig, len, true);
}

static int payload(const struct sif_key *k, const char *text)
{
	VL_FREE char *sig = sign(k, text, strlen(text));
	const struct sif_key *who = NULL;
	struct vl_err err = { 0 };
	int r = img_cosign_payload(&check, text, strlen(text), sig, &who, &err);

	CHECK_EQ(r == 0, who == ours);
	return r;
}

static char *seal(const struct sif_key *k, const char *type, const char *text)
{
	VL_FREE char *pae = vl_asprintf("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(text), text);
	VL_FREE char *sig = sign(k, pae, strlen(pae)), *body = vl_base64(text, strlen(text), true);

	return vl_asprintf(
		"{\"payloadType\":\"%s\",\"payload\":\"%s\",\"signatures\":[{},{\"keyid\":\"x\",\"sig\":\"%s\"}]}",
		type, body, sig);
}

static int envelope(const struct sif_key *k, const char *type, const char *text, enum img_cosign_kind *ret)
{
	VL_FREE char *e = seal(k, type, text), *bundle = vl_asprintf("{\"dsseEnvelope\":%s}", e);
	const struct sif_key *who = NULL;
	struct vl_err err = { 0 };
	int r = img_cosign_envelope(&check, e, strlen(e), ret, &who, &err);

	CHECK_EQ(img_cosign_bundle(&check, bundle, strlen(bundle), ret, &who, &err), r);
	return r;
}

TEST(every_kind_of_key)
{
	static const char *const types[] = { "ed25519", "ecdsa", "rsa" };

	for (size_t i = 0; i < VL_COUNT(types); i++) {
		make_keys(types[i]);
		CHECK_EQ(payload(ours, PAYLOAD(SIMPLE, "sha256:" HEX)), 0);
		CHECK_EQ(payload(theirs, PAYLOAD(SIMPLE, "sha256:" HEX)), -EKEYREJECTED);
		free_keys();
	}
}

TEST(payloads_about_something_else)
{
	make_keys("ed25519");
	CHECK_EQ(payload(ours, PAYLOAD(SIMPLE, "sha256:" OTHER)), -EKEYREJECTED);
	CHECK_EQ(payload(ours, PAYLOAD(SIMPLE, "sha512:" HEX)), -EKEYREJECTED);
	CHECK_EQ(payload(ours, PAYLOAD(SIMPLE, HEX)), -EKEYREJECTED);
	CHECK_EQ(payload(ours, PAYLOAD(SIMPLE, "")), -EKEYREJECTED);
	CHECK_EQ(payload(ours, PAYLOAD("atomic container signature", "sha256:" HEX)), -EKEYREJECTED);
	CHECK_EQ(payload(ours, "{\"critical\":{\"type\":\"" SIMPLE "\"}}"), -EKEYREJECTED);
	CHECK_EQ(payload(ours, "{}"), -EKEYREJECTED);
	CHECK_EQ(payload(ours, "[]"), -EKEYREJECTED);
	CHECK(payload(ours, "x") < 0);
	CHECK(payload(ours, "") < 0);
	free_keys();
}

TEST(any_changed_byte_of_a_payload_or_signature_is_refused)
{
	static const char text[] = PAYLOAD(SIMPLE, "sha256:" HEX);
	const struct sif_key *who;
	struct vl_err err = { 0 };

	make_keys("ecdsa");
	VL_FREE char *sig = sign(ours, text, strlen(text));
	for (size_t i = 0; i < sizeof text - 1; i++) {
		char bad[sizeof text];
		memcpy(bad, text, sizeof bad);
		bad[i] ^= 1;
		CHECK_EQ(img_cosign_payload(&check, bad, sizeof bad - 1, sig, &who, &err), -EKEYREJECTED);
	}
	for (size_t i = 0; sig[i]; i++) {
		VL_FREE char *bad = vl_strdup(sig);
		bad[i] = bad[i] == 'A' ? 'B' : 'A';
		CHECK(img_cosign_payload(&check, text, strlen(text), bad, &who, &err) < 0);
	}
	CHECK_EQ(img_cosign_payload(&check, text, strlen(text), "", &who, &err), -EKEYREJECTED);
	free_keys();
}

TEST(statements)
{
	static const char type[] = "application/vnd.in-toto+json";
	enum img_cosign_kind kind = 0;

	make_keys("ecdsa");
	CHECK_EQ(envelope(ours, type, STATEMENT(V1, "https://spdx.dev/Document", HEX), &kind), 0);
	CHECK_EQ(kind, IMG_COSIGN_ATTESTATION);
	CHECK_EQ(envelope(ours, type, STATEMENT(V1, SIGN, HEX), &kind), 0);
	CHECK_EQ(kind, IMG_COSIGN_SIGNATURE);
	CHECK_EQ(envelope(theirs, type, STATEMENT(V1, SIGN, HEX), &kind), -EKEYREJECTED);
	CHECK_EQ(envelope(ours, type, STATEMENT(V1, SIGN, OTHER), &kind), -EKEYREJECTED);
	CHECK_EQ(envelope(ours, type, STATEMENT("https://example.org", SIGN, HEX), &kind), -EKEYREJECTED);
	CHECK_EQ(envelope(ours, "application/json", STATEMENT(V1, SIGN, HEX), &kind), -EINVAL);
	CHECK(envelope(ours, type, "x", &kind) < 0);
	free_keys();
}

/* A signature of the payload alone, or of another type, is none of the envelope. */
TEST(an_envelope_signs_its_type_too)
{
	static const char text[] = STATEMENT(V1, SIGN, HEX);
	const struct sif_key *who;
	enum img_cosign_kind kind;
	struct vl_err err = { 0 };

	make_keys("ed25519");
	VL_FREE char *sig = sign(ours, text, strlen(text)), *body = vl_base64(text, strlen(text), true);
	VL_FREE char *e = vl_asprintf("{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"%s\","
				      "\"signatures\":[{\"sig\":\"%s\"}]}",
				      body, sig);
	CHECK_EQ(img_cosign_envelope(&check, e, strlen(e), &kind, &who, &err), -EKEYREJECTED);
	CHECK_EQ(img_cosign_bundle(&check, "{\"messageSignature\":{}}", 23, &kind, &who, &err), -ENOTSUP);
	free_keys();
}

/* ---- the list of a registry ---- */

#define LIST "{\"schemaVersion\":2,\"manifests\":[{\"digest\":\"sha256:" HEX "\"}]}"

/* arg: what /referrers/ answers: "list", "html" or nothing */
static void answer(struct srv *s, int fd, const char *request, unsigned n)
{
	(void)n;
	if (strstr(request, "/referrers/sha256:" HEX) && s->arg && !strcmp(s->arg, "list"))
		srv_reply(fd, "200 OK", "", LIST, strlen(LIST));
	else if (strstr(request, "/referrers/") && s->arg && !strcmp(s->arg, "html"))
		srv_reply(fd, "200 OK", "Content-Type: text/html\r\n", "<p>", 3);
	else if (strstr(request, "/manifests/sha256-" HEX " ") && s->arg)
		srv_reply(fd, "200 OK", "", LIST, strlen(LIST));
	else
		srv_reply(fd, "404 Not Found", "", "{}", 2);
}

static size_t list_of(const char *how, unsigned *ret_requests)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	VL_JSON vl_json *list = NULL;
	struct oci_net net = { .config_dir = "/nonexistent", .no_https = true };
	struct oci_client *c;
	struct vl_err err = { 0 };
	struct srv s;

	srv_start(&s, answer, (void *)how);
	VL_FREE char *uri = vl_asprintf("docker://127.0.0.1:%d/team/app:v1", s.port);
	CHECK_OK(oci_ref_parse(uri, &ref, &err), err);
	CHECK_OK(oci_client_new(&net, NULL, &c, &err), err);
	CHECK_OK(oci_referrers(c, &ref, &digests[1], &list, &err), err);
	oci_client_free(c);
	srv_stop(&s);
	*ret_requests = s.n;
	return vl_json_len(list);
}

TEST(referrers_by_the_list_and_by_the_tag)
{
	unsigned requests;

	CHECK_EQ(list_of("list", &requests), 1);
	CHECK_EQ(requests, 1);
	CHECK_EQ(list_of("no list", &requests), 1);
	CHECK_EQ(list_of("html", &requests), 1);
	CHECK_EQ(list_of(NULL, &requests), 0);
	CHECK_EQ(requests, 2);
}
