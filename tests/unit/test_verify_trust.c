/* Who is trusted, and for what: cmd/verify_trust.c, with reports as sif_verify gives them. */
#include "check.h"

#include <vial/sif.h>

#include "cmd/commands.h"

static struct sif_keyring_entry entries[] = {
	{ .name = (char *)"own", .kind = SIF_KEYRING_PRIVATE, .id = (char *)"SHA256:own" },
	{ .name = (char *)"work", .kind = SIF_KEYRING_PRIVATE, .id = (char *)"SHA256:work", .encrypted = true },
	{ .name = (char *)"bob", .kind = SIF_KEYRING_PGP, .id = (char *)"B0B" },
};
static char *listed[] = { (char *)"SHA256:listed", NULL };
static struct sif_keyring ring = { .v = entries, .n = VL_COUNT(entries), .trusted = { .v = listed, .n = 1 } };
static const struct cmd_known known = { .ring = &ring };

static bool trusts(enum sif_signer_kind kind, const char *id, bool foreign)
{
	return cmd_known_trust(&known, &(struct sif_signer){ .kind = kind, .id = (char *)id, .foreign = foreign }) !=
	       NULL;
}

TEST(signers)
{
	CHECK(trusts(SIF_SIGNER_KEY, "SHA256:listed", false));
	CHECK(trusts(SIF_SIGNER_KEY, "SHA256:own", false));
	CHECK(!trusts(SIF_SIGNER_KEY, "SHA256:other", false));
	/* the id of an encrypted key is only its neighbour's word */
	CHECK(!trusts(SIF_SIGNER_KEY, "SHA256:work", false));
	/* a key of another tool's keyring; one that came from nowhere; one of our keyring, which nobody trusted */
	CHECK(trusts(SIF_SIGNER_PGP, "A11CE", true));
	CHECK(!trusts(SIF_SIGNER_PGP, "A11CE", false));
	CHECK(!trusts(SIF_SIGNER_PGP, "B0B", false));
	CHECK(!trusts(SIF_SIGNER_PGP, "B0B", true));
}

/* An old-style signature is over one object, and says nothing of others. */
TEST(a_trusted_signature_vouches_for_what_it_is_over)
{
	struct sif_signer good = { .kind = SIF_SIGNER_KEY, .id = (char *)"SHA256:listed" },
			  bad = { .kind = SIF_SIGNER_KEY, .id = (char *)"SHA256:other" };
	struct sif_signature v[] = {
		{ .id = 4, .object = 1, .verdict = SIF_VALID, .signers = &good, .n_signers = 1 },
		{ .id = 5, .object = 2, .verdict = SIF_VALID, .signers = &bad, .n_signers = 1 },
		{ .id = 6, .object = 2, .verdict = SIF_UNKNOWN },
	};
	struct sif_report rep = { .sig = v, .n_sig = VL_COUNT(v) };

	CHECK_EQ(cmd_known_untrusted(&known, &rep)->id, 5);
	v[2] = (struct sif_signature){ .id = 6, .object = 2, .verdict = SIF_VALID, .signers = &good, .n_signers = 1 };
	CHECK(!cmd_known_untrusted(&known, &rep));
	v[2].verdict = SIF_IGNORED;
	CHECK_EQ(cmd_known_untrusted(&known, &rep)->id, 5);
	/* of one group */
	for (size_t i = 0; i < VL_COUNT(v); i++) {
		v[i].group = 1;
		v[i].object = 0;
	}
	CHECK(!cmd_known_untrusted(&known, &rep));
	v[1].group = 2;
	CHECK_EQ(cmd_known_untrusted(&known, &rep)->id, 5);
}
