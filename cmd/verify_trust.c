/* A valid signature says who; whether that is somebody to rely on is asked here. */
#include "commands.h"

#include <vial/sif.h>

/* Of an encrypted key only the file beside it says which one it is. */
static bool is_own(const struct sif_keyring *ring, const char *id)
{
	for (size_t i = 0; i < ring->n; i++) {
		const struct sif_keyring_entry *e = &ring->v[i];
		if (e->kind == SIF_KEYRING_PRIVATE && !e->why && !e->encrypted && e->id && vl_streq(e->id, id))
			return true;
	}
	return false;
}

/* Own keys need no list. Who imported a key into another tool's keyring has trusted it by that: these tools know no
 * second step. In ours there is one, also for such a key. */
const char *cmd_known_trust(const struct cmd_known *k, const struct sif_signer *who)
{
	if (!k->ring)
		return "which was named";
	if (sif_keyring_trusts(k->ring, who->id))
		return "which is trusted";
	if (is_own(k->ring, who->id))
		return "which is your own";
	if (who->foreign && !sif_keyring_by_id(k->ring, SIF_KEYRING_PGP, who->id))
		return "which is in the keyring of Apptainer or SingularityCE";
	return NULL;
}

static bool is_trusted(const struct cmd_known *k, const struct sif_signature *s)
{
	for (size_t i = 0; i < s->n_signers; i++)
		if (cmd_known_trust(k, &s->signers[i]))
			return true;
	return false;
}

/* Two signatures are over the same things if their groups are the same; old-style ones also if their objects are. */
const struct sif_signature *cmd_known_untrusted(const struct cmd_known *k, const struct sif_report *rep)
{
	for (size_t i = 0; i < rep->n_sig; i++) {
		const struct sif_signature *s = &rep->sig[i];
		bool trusted = s->verdict != SIF_VALID;
		for (size_t j = 0; j < rep->n_sig && !trusted; j++)
			trusted = rep->sig[j].group == s->group && rep->sig[j].object == s->object &&
				  rep->sig[j].verdict == SIF_VALID && is_trusted(k, &rep->sig[j]);
		if (!trusted)
			return s;
	}
	return NULL;
}
