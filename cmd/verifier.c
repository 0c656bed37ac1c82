/* vial-verify: is the root of this image's hash tree signed, and by whom? A program of its own, since a start waits for
 * it: it loads no library, and parses what comes from outside without privileges. */
#include "commands.h"
#include "verify.h"

#include <signal.h>

/* ---- keys: what --verify asks -------------------------------------------------------------------- */

/* Those whose signatures count: of named keys all, of a keyring's those that it trusts. */
static void take_signers(const struct sif_report *rep, const struct cmd_known *known, struct verify_answer *ret)
{
	for (size_t i = 0; i < rep->n_sig; i++) {
		const struct sif_signature *s = &rep->sig[i];
		for (size_t k = 0; k < s->n_signers && ret->n_signers < VERIFY_SIGNERS; k++)
			if (s->verdict == SIF_VALID && strlen(s->signers[k].id) < VERIFY_SIGNER_MAX &&
			    cmd_known_trust(known, &s->signers[k]))
				memccpy(ret->signer[ret->n_signers++], s->signers[k].id, 0, VERIFY_SIGNER_MAX);
	}
}

static int fail_untrusted(const struct sif_report *rep, struct vl_err *err)
{
	for (size_t i = 0; i < rep->n_sig; i++) {
		const struct sif_signer *who = rep->sig[i].signers;
		if (rep->sig[i].verdict == SIF_VALID)
			return vl_fail(err, EKEYREJECTED,
				       "signature %u is valid, but its signer is not trusted: %s%s%s%s; compare this "
				       "with its owner's, then: vial key trust %s",
				       rep->sig[i].id, who->id, who->name ? " (" : "", who->name ? who->name : "",
				       who->name ? ")" : "", who->id);
	}
	return vl_fail(err, EKEYREJECTED, "it is not signed by a trusted signer");
}

static int check_signature(const struct sif_image *snap, uint32_t group, const struct cmd_known *known,
			   struct verify_answer *ret, struct vl_err *err)
{
	SIF_REPORT struct sif_report rep = { 0 };
	const struct sif_verify_opts o = {
		.keys = known->v, .n_keys = known->n, .pgp = known->pgp, .group = group, .need = SIF_NEED_ONE
	};
	int r = cmd_snapshot_check(snap, &o, false, &rep, err);

	if (r == -EKEYREJECTED && known->ring)
		return vl_wrap(err, "the signer is unknown (name the public key with --verify-key, or keep it with "
				    "`vial key import`)");
	if (r < 0)
		return r;
	take_signers(&rep, known, ret);
	return ret->n_signers ? 0 : fail_untrusted(&rep, err);
}

static int verify(int snapshot, const struct cmd_known *known, struct verify_answer *ret, struct vl_err *err)
{
	SIF_IMAGE struct sif_image snap = { .fd = -1 };
	const struct sif_descr *partition;
	int r = sif_load(snapshot, &snap, err);

	if (r < 0 || (r = cmd_snapshot_tree(&snap, ret, err)) < 0 || (r = sif_primary(&snap, &partition, err)) < 0)
		return r;
	return check_signature(&snap, partition->group, known, ret, err);
}

static int answer_keys(int sock, int fd, char **keys, struct vl_err *err)
{
	VL_CLEANUP(cmd_known_free) struct cmd_known known = { 0 };
	struct cmd_verify_opts o = { 0 };
	struct cmd_ctx c = { .log = { .fd = 2, .level = VL_ERROR }, .self = "vial" };
	struct verify_answer answer = { 0 };

	for (; *keys; keys++)
		vl_strv_add(&o.keys, *keys);
	int r = cmd_known_read(&c, &o, &known, err);
	if (r == 0 && (r = vl_drop_privileges(err)) == 0)
		r = cmd_known_parse(&c, &o, &known, err);
	VL_CLOSE int snap = r < 0 ? -1 : cmd_snapshot(fd, false, err);
	vl_strv_free(&o.keys);
	return snap < 0 || verify(snap, &known, &answer, err) < 0 ? -1
								  : vl_msg_send_fd(sock, snap, &answer, sizeof answer);
}

/* ---- facts: what a policy asks ------------------------------------------------------------------- */

static int read_question(char **words, struct policy_question *ret)
{
	uint64_t v[4];

	for (size_t i = 0; i < VL_COUNT(v); i++)
		if (!words[i] || vl_parse_u64(words[i], 0, UINT64_MAX, &v[i]) < 0)
			return -EINVAL;
	*ret = (struct policy_question){ (enum pol_use)v[0], v[1], v[2], v[3] != 0 };
	return 0;
}

static int answer_facts(int sock, int fd, char **words, struct vl_err *err)
{
	POL_FACTS struct pol_facts f = { .kind = POL_SIF };
	VL_STRV struct vl_strv roots = { 0 };
	struct verify_answer answer = { 0 };
	struct policy_question q;
	VL_CLOSE int snap = -1;

	if (read_question(words, &q) < 0)
		return vl_fail(err, EINVAL, "vial-verify is not for people: vial verify, vial policy facts");
	for (words += 4; *words; words++)
		vl_strv_add(&roots, *words);
	int r = cmd_look(fd, &q, &roots, &f, &answer, &snap, err);
	if (r < 0)
		return r;
	VL_FREE char *text = pol_facts_text(&f);
	if (strlen(text) > POL_FACTS_MAX)
		return vl_fail(err, EFBIG, "its signatures have names of more than %u bytes", POL_FACTS_MAX);
	r = vl_msg_send(sock, VL_MSG_OK, text, strlen(text));
	return r == 0 && f.by_tree ? vl_msg_send_fd(sock, snap, &answer, sizeof answer) : r;
}

int main(int argc, char **argv)
{
	struct vl_err err = { 0 };
	uint64_t sock, fd;

	if (argc < 4 || vl_parse_u64(argv[1], 3, INT32_MAX, &sock) < 0 || vl_parse_u64(argv[2], 3, INT32_MAX, &fd) < 0)
		return 1;
	sif_crypto_alone();
	signal(SIGXFSZ, SIG_IGN); /* a limit on files is an error like others */
	int r = vl_streq(argv[3], "facts") ? answer_facts((int)sock, (int)fd, argv + 4, &err)
					   : answer_keys((int)sock, (int)fd, argv + 4, &err);
	if (r == 0)
		return 0;
	vl_msg_send_err((int)sock, &err);
	return 1;
}
