#include "sif_check.h"

#include "sif/crypto.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void put_file(const char *path, const char *text, mode_t mode)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0 && vl_write_full(fd, text, strlen(text)) == 0 && fchmod(fd, mode) == 0);
}

static struct sif_key *new_key(void)
{
	struct sif_key *k;
	struct vl_err err;

	CHECK_OK(sif_key_new("ed25519", 0, &k, &err), err);
	return k;
}

static void open_ring(struct sif_keyring *r)
{
	struct vl_err err;

	CHECK_OK(sif_keyring_open("keys", NULL, r, &err), err);
}

struct asked {
	const char *answer;
	unsigned times;
};

static int answer(void *arg, const char *what, char **ret, struct vl_err *err)
{
	struct asked *a = arg;

	(void)what, (void)err;
	a->times++;
	*ret = vl_strdup(a->answer);
	return 0;
}

TEST(a_missing_directory_is_an_empty_keyring)
{
	SIF_KEYRING struct sif_keyring r = { 0 };
	struct vl_err err;

	CHECK_OK(sif_keyring_open("nowhere", "/nowhere/else", &r, &err), err);
	CHECK_EQ(r.n, 0);
	CHECK_OK(sif_keyring_open(NULL, NULL, &r, &err), err);
}

TEST(add_find_trust_remove)
{
	SIF_KEY struct sif_key *k = new_key(), *other = new_key();
	SIF_KEYRING struct sif_keyring r = { 0 }, after = { 0 };
	const struct sif_keyring_entry *e;
	const char *id = sif_key_id(k);
	struct vl_err err;
	struct stat st;
	bool changed;

	CHECK_OK(sif_keyring_add("a/b/keys", "deep", k, NULL, false, &err), err);
	CHECK(stat("a/b/keys", &st) == 0 && (st.st_mode & 0777) == 0700);
	CHECK_OK(sif_keyring_add("keys", "me", k, NULL, false, &err), err);
	CHECK_OK(sif_keyring_add("keys", "you", other, NULL, false, &err), err);
	CHECK(stat("keys/me.key", &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK_EQ(sif_keyring_add("keys", "me", other, NULL, false, &err), -EEXIST);
	CHECK_OK(sif_keyring_trust("keys", id, true, &changed, &err), err);
	CHECK(changed);
	CHECK_OK(sif_keyring_trust("keys", id, true, &changed, &err), err);
	CHECK(!changed);
	open_ring(&r);
	CHECK_EQ(r.n, 4);
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_SIGNERS, "me", &e, &err), err);
	CHECK_STR(e->id, id);
	CHECK(e->trusted && e->kind == SIF_KEYRING_PUBLIC && !e->site && !e->encrypted);
	VL_FREE char *begin = vl_strndup(id, 20);
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_PRIVATE, begin, &e, &err), err);
	CHECK_STR(e->name, "me");
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_SIGNERS, begin + 7, &e, &err), err);
	CHECK_STR(e->name, "me");
	CHECK_EQ(sif_keyring_find(&r, SIF_KEYRING_ANY, "SHA256", &e, &err), -ENOTUNIQ);
	CHECK_EQ(sif_keyring_find(&r, SIF_KEYRING_ANY, "SHA25", &e, &err), -ENOENT);
	CHECK_EQ(sif_keyring_find(&r, SIF_KEYRING_PGP, "me", &e, &err), -ENOENT);
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_SIGNERS, "you", &e, &err), err);
	CHECK(!e->trusted);
	/* the private half still has the id: trust stays until that is gone too */
	CHECK_OK(sif_keyring_remove("keys", "me", SIF_KEYRING_SIGNERS, &err), err);
	open_ring(&after);
	CHECK(sif_keyring_trusts(&after, id));
	CHECK_EQ(sif_keyring_remove("keys", "me", SIF_KEYRING_SIGNERS, &err), -ENOENT);
	CHECK_OK(sif_keyring_remove("keys", "me", SIF_KEYRING_ANY, &err), err);
	sif_keyring_free(&after);
	open_ring(&after);
	CHECK(!sif_keyring_trusts(&after, id));
	CHECK_EQ(after.n, 2);
}

TEST(a_file_that_others_may_change_counts_for_nothing)
{
	SIF_KEY struct sif_key *k = new_key();
	SIF_KEYRING struct sif_keyring r = { 0 };
	const struct sif_keyring_entry *e;
	struct vl_err err;
	bool changed;

	CHECK_OK(sif_keyring_add("keys", "me", k, NULL, false, &err), err);
	CHECK_OK(sif_keyring_trust("keys", sif_key_id(k), true, &changed, &err), err);
	CHECK(chmod("keys/me.pub", 0666) == 0 && chmod("keys/me.key", 0640) == 0);
	open_ring(&r);
	for (size_t i = 0; i < r.n; i++) {
		CHECK(!r.v[i].trusted && r.v[i].why && !r.v[i].id);
		CHECK_HAS(r.v[i].why, "chmod");
	}
	CHECK_EQ(sif_keyring_find(&r, SIF_KEYRING_ANY, "me", &e, &err), -EINVAL);
	CHECK(!sif_keyring_by_id(&r, SIF_KEYRING_ANY, sif_key_id(k)));
	/* the list of the trusted and the directory decide for all: they are errors */
	CHECK(chmod("keys/trusted", 0664) == 0);
	CHECK_EQ(sif_keyring_open("keys", NULL, &r, &err), -EPERM);
	CHECK_HAS(err.text, "keys/trusted");
	CHECK(chmod("keys/trusted", 0644) == 0 && chmod("keys", 0770) == 0);
	CHECK_EQ(sif_keyring_open("keys", NULL, &r, &err), -EPERM);
	CHECK_EQ(sif_keyring_trust("keys", "x", true, &changed, &err), -EPERM);
	if (geteuid() == 0) { /* another user's directory */
		CHECK(chmod("keys", 0700) == 0 && chown("keys", 12345, 12345) == 0);
		CHECK_EQ(sif_keyring_open("keys", NULL, &r, &err), -EPERM);
		CHECK_HAS(err.text, "12345");
	}
}

TEST(one_bad_file_does_not_hide_the_others)
{
	SIF_KEY struct sif_key *k = new_key();
	SIF_KEYRING struct sif_keyring r = { 0 };
	size_t bad = 0;
	struct vl_err err;

	CHECK_OK(sif_keyring_add("keys", "me", k, NULL, false, &err), err);
	put_file("keys/broken.pub", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0644);
	put_file("keys/empty.crt", "", 0644);
	put_file("keys/noise.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n!!\n-----END PGP PUBLIC KEY BLOCK-----\n",
		 0644);
	put_file("keys/.hidden.pub", "x", 0644);
	put_file("keys/other", "x", 0644);
	CHECK(symlink("nowhere", "keys/link.pub") == 0 && mkdir("keys/dir.pub", 0700) == 0);
	open_ring(&r);
	for (size_t i = 0; i < r.n; i++)
		bad += r.v[i].why != NULL;
	CHECK_EQ(r.n, 7);
	CHECK_EQ(bad, 5);
	CHECK(sif_keyring_by_id(&r, SIF_KEYRING_PUBLIC, sif_key_id(k)));
}

TEST(names)
{
	static const char *const good[] = { "a", "me.2", "me@host", "A-b_c+d" };
	static const char *const bad[] = { "", ".a", "..", "-a", "a/b", "a b", "\xc3\xa4", "a\n" };
	SIF_KEY struct sif_key *k = new_key();
	struct vl_err err;
	char longest[66];

	for (size_t i = 0; i < VL_COUNT(good); i++)
		CHECK(sif_keyring_name_ok(good[i]));
	for (size_t i = 0; i < VL_COUNT(bad); i++) {
		CHECK(!sif_keyring_name_ok(bad[i]));
		CHECK_EQ(sif_keyring_add("keys", bad[i], k, NULL, false, &err), -EINVAL);
	}
	memset(longest, 'a', sizeof longest);
	longest[65] = 0;
	CHECK(!sif_keyring_name_ok(longest));
	longest[64] = 0;
	CHECK(sif_keyring_name_ok(longest));
}

/* ---- encrypted keys ---- */

TEST(encrypted_keys)
{
	static const struct {
		const char *type;
		unsigned bits;
	} kinds[] = { { "ed25519", 0 }, { "ecdsa", 384 }, { "rsa", 2048 } };
	for (size_t i = 0; i < VL_COUNT(kinds); i++) {
		SIF_KEY struct sif_key *k = NULL, *again = NULL;
		VL_BUF struct vl_buf pem = { 0 };
		VL_FREE char *passphrase = NULL;
		struct asked right = { "open sesame", 0 }, wrong = { "open", 0 };
		struct sif_ask ask = { answer, &right }, bad = { answer, &wrong };
		struct sif_key *no = NULL;
		struct vl_err err;
		CHECK_OK(sif_key_new(kinds[i].type, kinds[i].bits, &k, &err), err);
		CHECK_OK(sif_key_pem_encrypted(k, "open sesame", &pem, &err), err);
		CHECK_HAS(pem.data, "BEGIN ENCRYPTED PRIVATE KEY");
		CHECK(sif_key_pem_is_encrypted(pem.data, pem.len));
		CHECK_OK(sif_key_unlock(pem.data, pem.len, "x", &ask, &again, &passphrase, &err), err);
		CHECK_STR(sif_key_id(again), sif_key_id(k));
		CHECK_STR(passphrase, "open sesame");
		CHECK_EQ(right.times, 1);
		CHECK_EQ(sif_key_unlock(pem.data, pem.len, "x", &bad, &no, NULL, &err), -EACCES);
		CHECK_EQ(sif_key_unlock(pem.data, pem.len, "x", NULL, &no, NULL, &err), -EACCES);
		CHECK_EQ(sif_key_parse(pem.data, pem.len, "x", SIF_KEY_PRIVATE, &no, &err), -EACCES);
		CHECK_HAS(err.text, "encrypted");
		CHECK_EQ(sif_key_parse(pem.data, pem.len, "x", SIF_KEY_PUBLIC, &no, &err), -EINVAL);
	}
}

TEST(a_key_that_is_not_encrypted_asks_nothing)
{
	SIF_KEY struct sif_key *k = new_key(), *again = NULL;
	VL_BUF struct vl_buf pem = { 0 };
	struct asked a = { "x", 0 };
	struct sif_ask ask = { answer, &a };
	char *passphrase = (char *)1;
	struct vl_err err;

	CHECK_OK(sif_key_pem(k, SIF_KEY_PRIVATE, &pem, &err), err);
	CHECK_OK(sif_key_unlock(pem.data, pem.len, "x", &ask, &again, &passphrase, &err), err);
	CHECK(!passphrase && a.times == 0);
}

TEST(import_keeps_a_passphrase_and_both_halves)
{
	SIF_KEY struct sif_key *k = new_key();
	VL_BUF struct vl_buf pem = { 0 };
	struct asked a = { "open sesame", 0 };
	struct sif_ask ask = { answer, &a };
	SIF_KEYRING struct sif_keyring r = { 0 };
	const struct sif_keyring_entry *e;
	enum sif_keyring_kind kind;
	VL_FREE char *id = NULL;
	struct vl_err err;

	CHECK_OK(sif_key_pem_encrypted(k, "open sesame", &pem, &err), err);
	CHECK_OK(sif_keyring_import("keys", "me", pem.data, pem.len, "x", &ask, false, &kind, &id, &err), err);
	CHECK_EQ(kind, SIF_KEYRING_PRIVATE);
	CHECK_STR(id, sif_key_id(k));
	open_ring(&r);
	CHECK_EQ(r.n, 2);
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_PRIVATE, "me", &e, &err), err);
	CHECK(e->encrypted);
	CHECK_STR(e->id, sif_key_id(k));
	/* without its public half nobody knows which key it is */
	CHECK(unlink("keys/me.pub") == 0);
	sif_keyring_free(&r);
	open_ring(&r);
	CHECK_EQ(r.n, 1);
	CHECK_HAS(r.v[0].why, "public half");
}

/* The neighbour of an encrypted key says which one it is: it must not be replaced by somebody else's. */
TEST(a_public_key_beside_a_private_one)
{
	for (int encrypted = 0; encrypted < 2; encrypted++) {
		SIF_KEY struct sif_key *k = new_key(), *other = new_key();
		VL_BUF struct vl_buf own = { 0 }, pem = { 0 };
		SIF_KEYRING struct sif_keyring r = { 0 };
		const struct sif_keyring_entry *e;
		const char *dir = encrypted ? "encrypted" : "plain";
		enum sif_keyring_kind kind;
		struct vl_err err;
		char *id;
		CHECK_OK(sif_keyring_add(dir, "work", k, encrypted ? "open sesame" : NULL, false, &err), err);
		CHECK_OK(sif_key_pem(other, SIF_KEY_PUBLIC, &pem, &err), err);
		CHECK_OK(sif_key_pem(k, SIF_KEY_PUBLIC, &own, &err), err);
		CHECK_EQ(sif_keyring_import(dir, "work", pem.data, pem.len, "mal", NULL, true, &kind, &id, &err),
			 -EEXIST);
		CHECK_HAS(err.text, "work.key");
		CHECK_OK(sif_keyring_open(dir, NULL, &r, &err), err);
		CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_PRIVATE, "work", &e, &err), err);
		CHECK_STR(e->id, sif_key_id(k));
		CHECK_OK(sif_keyring_import(dir, "work", own.data, own.len, "own", NULL, true, &kind, &id, &err), err);
		free(id);
		/* with the public half gone an encrypted key cannot be compared */
		VL_FREE char *pub = vl_asprintf("%s/work.pub", dir);
		CHECK_EQ(unlink(pub), 0);
		CHECK_EQ(sif_keyring_import(dir, "work", pem.data, pem.len, "mal", NULL, false, &kind, &id, &err),
			 -EEXIST);
		CHECK_OK(sif_keyring_import(dir, "mal", pem.data, pem.len, "mal", NULL, false, &kind, &id, &err), err);
		free(id);
	}
}

/* What was checked is what is used, whatever happens to the file. */
TEST(a_file_is_read_once)
{
	SIF_KEY struct sif_key *k = new_key(), *other = new_key(), *got = NULL;
	SIF_KEYRING struct sif_keyring r = { 0 };
	const struct sif_keyring_entry *e;
	VL_FREE char *text = NULL;
	struct vl_err err;
	size_t n;

	CHECK_OK(sif_keyring_add("keys", "me", k, NULL, false, &err), err);
	open_ring(&r);
	CHECK_OK(sif_keyring_add("keys", "me", other, NULL, true, &err), err);
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_PUBLIC, "me", &e, &err), err);
	CHECK_OK(sif_keyring_read(e, &text, &n, &err), err);
	CHECK_OK(sif_key_parse(text, n, "x", SIF_KEY_PUBLIC, &got, &err), err);
	CHECK_STR(sif_key_id(got), e->id);
	/* a private key is not kept in memory; its file is looked at again */
	CHECK_OK(sif_keyring_find(&r, SIF_KEYRING_PRIVATE, "me", &e, &err), err);
	CHECK(!e->text);
	CHECK_EQ(chmod("keys/me.key", 0640), 0);
	char *secret;
	CHECK_EQ(sif_keyring_read(e, &secret, &n, &err), -EPERM);
}

/* ---- OpenPGP keys ---- */

#define PGP_BEGIN "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
#define PGP_END "-----END PGP PUBLIC KEY BLOCK-----\n"
static const char anna[] = "mDMEawKtphYJKwYBBAHaRw8BAQdASkRVVoo7hdFFWb1w7R+SYl7pazIhgCrmZfmE"
			   "95NN5Ri0H0FubmEgRXhhbXBsZSA8YW5uYUBleGFtcGxlLm9yZz6IlgQTFggAPhYh"
			   "BF1SHfXtXUO38b4uUDIlwtkeZclkBQJrAq2mAhsDBQkF2dOaBQsJCAcCBhUKCQgL"
			   "AgQWAgMBAh4BAheAAAoJEDIlwtkeZclkD/sBAMLB2B5UOaTYxspTl21t/ysfxnmT"
			   "QZo0mdba7nz+wExWAPsGRUAq2sXO6k+lu3gvRrzSrGf9v708lgOqxsZeBBQVDw==";

/* Whoever reads the whole file must find the one key that was seen here. */
TEST(pgp_nothing_beside_the_key)
{
	static const struct {
		const char *before, *first, *last, *after;
		bool good;
	} cases[] = {
		{ "", "\n", "=Hccg\n", "", true },
		{ "\n \n", "Comment: x\n\n", "", "\n\t\n", true },
		{ "", "\n", "=Hccg\n", PGP_BEGIN "\nAAAA\n" PGP_END, false },
		{ PGP_BEGIN "\nAAAA\n" PGP_END, "\n", "=Hccg\n", "", false },
		{ "words\n", "\n", "=Hccg\n", "", false },
		{ "", "\n", "=Hccg\n", "words\n", false },
		{ "", "\n", "=Hccg\nAAAA\n", "", false },
		{ "", "\n", "=Hccg\n" PGP_BEGIN "\nAAAA\n", "", false },
	};
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *text = vl_asprintf("%s" PGP_BEGIN "%s%s\n%s" PGP_END "%s", cases[i].before,
						 cases[i].first, anna, cases[i].last, cases[i].after);
		VL_FREE char *id = NULL, *owner = NULL;
		struct vl_err err;
		int r = sif_keyfile_pgp(text, strlen(text), "x", &id, &owner, &err);
		if ((r == 0) != cases[i].good)
			CHECK_FAIL("case %zu gives %d", i, r);
	}
}

/* The same of the packets: another key, a secret one, a length in parts or of no end, half a packet, marks. */
TEST(pgp_no_packets_beside_the_key)
{
	static const char *const more[] = { "\xc6\x01\x04", "\xc5\x01\x04", "\xc6\xe0\x04", "\x9b\x04",
					    "\xc2",         "\xc2\x05\x01", "\xca\x03PGP",  "\xcb\x01x" };
	VL_FREE uint8_t *raw = NULL;
	size_t n;

	CHECK_EQ(vl_unbase64(anna, strlen(anna), &raw, &n), 0);
	for (size_t i = 0; i < VL_COUNT(more); i++) {
		VL_BUF struct vl_buf b = { 0 };
		vl_buf_add(&b, raw, n);
		vl_buf_adds(&b, more[i]);
		VL_FREE char *b64 = vl_base64(b.data, b.len, true);
		VL_FREE char *text = vl_asprintf(PGP_BEGIN "\n%s\n" PGP_END, b64);
		char *id, *owner;
		struct vl_err err;
		if (sif_keyfile_pgp(text, strlen(text), "x", &id, &owner, &err) != -EINVAL)
			CHECK_FAIL("case %zu", i);
	}
}

TEST(pgp_garbage)
{
	static const char begin[] = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n",
			  end[] = "\n-----END PGP PUBLIC KEY BLOCK-----\n";
	static const char *const bodies[] = {
		"", "====", "mQ==", "mf//", "xv8=", "xv//////", "mQADBAAA", "xgYDAAAAAAA=", "xAYEAAAAAAE=", "mQEN",
	};
	for (size_t i = 0; i < VL_COUNT(bodies); i++) {
		VL_FREE char *text = vl_asprintf("%s%s%s", begin, bodies[i], end);
		char *id, *owner;
		struct vl_err err;
		CHECK_EQ(sif_keyfile_pgp(text, strlen(text), "x", &id, &owner, &err), -EINVAL);
	}
}

/* Changes by several processes come one after the other, none is lost. */
TEST(changes_at_once)
{
	SIF_KEYRING struct sif_keyring r = { 0 };
	enum { PROCESSES = 8, IDS = 20 };

	for (int p = 0; p < PROCESSES; p++)
		if (fork() == 0) {
			for (int i = 0; i < IDS; i++) {
				VL_FREE char *id = vl_asprintf("SHA256:%d-%d", p, i);
				struct vl_err err;
				bool changed;
				if (sif_keyring_trust("keys", id, true, &changed, &err) < 0 || !changed)
					_exit(1);
			}
			_exit(0);
		}
	for (int p = 0; p < PROCESSES; p++) {
		int status;
		CHECK(wait(&status) > 0 && status == 0);
	}
	open_ring(&r);
	CHECK_EQ(r.trusted.n, PROCESSES * IDS);
}
