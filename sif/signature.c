/* What a signature object is, who made it, and what it lists. */
#include "crypto.h"

void sif_signature_add_signer(struct sif_signature *s, const struct sif_signer *who)
{
	for (size_t i = 0; i < s->n_signers; i++)
		if (s->signers[i].kind == who->kind && vl_streq(s->signers[i].id, who->id))
			return;
	s->signers = vl_realloc(s->signers, s->n_signers + 1, sizeof *s->signers);
	s->signers[s->n_signers++] = (struct sif_signer){ .kind = who->kind,
							  .id = vl_strdup(who->id),
							  .name = who->name ? vl_strdup(who->name) : NULL,
							  .foreign = who->foreign };
}

void sif_signature_fail(struct sif_signature *s, enum sif_verdict verdict, const struct vl_err *err)
{
	free(s->why);
	s->verdict = verdict;
	s->why = vl_strdup(err->text);
}

void sif_signature_free(struct sif_signature *s)
{
	for (size_t i = 0; i < s->n_signers; i++) {
		free(s->signers[i].id);
		free(s->signers[i].name);
	}
	free(s->signers);
	free(s->why);
	free(s->claims);
	*s = (struct sif_signature){ 0 };
}

static bool is_clear_signed(const char *text)
{
	return vl_prefix(text, "-----BEGIN PGP SIGNED MESSAGE-----") != NULL;
}

/* The signatures of old Singularity cover neither header nor descriptors: as good as none. */
static bool is_legacy(const char *text)
{
	const char *body = is_clear_signed(text) ? strstr(text, "\n\n") : NULL;

	if (!body && is_clear_signed(text))
		body = strstr(text, "\n\r\n");
	if (!body)
		return false;
	body += strspn(body, "\r\n");
	return vl_prefix(body, "SIFHASH:") != NULL;
}

static enum sif_form form_of(const char *text)
{
	if (is_legacy(text))
		return SIF_FORM_LEGACY;
	if (is_clear_signed(text))
		return SIF_FORM_PGP;
	return text[strspn(text, " \t\r\n")] == '{' ? SIF_FORM_DSSE : SIF_FORM_NONE;
}

static int open_clear_signed(const struct sif_descr *d, const char *text, size_t len, struct sif_known *known,
			     struct sif_signature *s, char **ret, size_t *ret_len, struct vl_err *err)
{
	const struct sif_verify_opts *o = known->o;
	const uint8_t *entity = d->extra + 4;
	char named[41];

	if (!o->pgp || !o->pgp->n) {
		sif_pgp_fingerprint(entity, named);
		s->claims = vl_strdup(named);
		s->verdict = SIF_UNKNOWN;
		return vl_fail(err, EKEYREJECTED, "it is by the OpenPGP (PGP) key %s, and no OpenPGP key is known here",
			       named);
	}
	return sif_pgp_verify(o->pgp, text, len, entity, &known->pgp_run, s, ret, ret_len, err);
}

static int open_text(const struct sif_descr *d, const char *text, size_t len, struct sif_known *known,
		     struct sif_signature *s, struct sif_payload *ret, struct vl_err *err)
{
	VL_FREE char *payload = NULL;
	uint32_t hash = vl_le32(d->extra);
	size_t n;

	if (hash < SIF_HASH_SHA256 || hash > SIF_HASH_BLAKE2B)
		return vl_fail(err, EINVAL, "its descriptor names an unknown hash, %u", hash);
	int r = s->form == SIF_FORM_PGP ? open_clear_signed(d, text, len, known, s, &payload, &n, err)
					: sif_dsse_open(text, len, known, s, &payload, &n, err);
	return r < 0 ? r : sif_payload_parse(payload, n, ret, err);
}

/* Reads the object; what is not of the wanted kind is ignored, for the reason given. */
static int read_text(const struct sif_image *img, const struct sif_descr *d, bool legacy, struct sif_signature *s,
		     char **ret, size_t *ret_len, struct vl_err *err)
{
	int r = sif_read_object(img, d, SIF_MAX_SIGNATURE, ret, ret_len, err);

	if (r < 0)
		return r;
	s->form = form_of(*ret);
	if ((s->form == SIF_FORM_LEGACY) == legacy)
		return 0;
	vl_fail(err, ENODATA,
		legacy ? "it is not of the kind from before Singularity 3.6"
		       : "it is of the kind from before Singularity 3.6, which protects too little");
	sif_signature_fail(s, SIF_IGNORED, err);
	return 0;
}

static int not_good(struct sif_signature *s, int r, const struct vl_err *err)
{
	sif_signature_fail(s, s->verdict == SIF_UNKNOWN ? SIF_UNKNOWN : SIF_INVALID, err);
	return r;
}

int sif_signature_open(const struct sif_image *img, const struct sif_descr *d, struct sif_known *known,
		       struct sif_signature *s, struct sif_payload *ret, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;
	int r = read_text(img, d, false, s, &text, &len, err);

	if (r == 0 && s->verdict != SIF_IGNORED)
		r = open_text(d, text, len, known, s, ret, err);
	return r < 0 ? not_good(s, r, err) : 0;
}

int sif_signature_open_legacy(const struct sif_image *img, const struct sif_descr *d, struct sif_known *known,
			      struct sif_signature *s, char **ret, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t len;
	int r = read_text(img, d, true, s, &text, &len, err);

	if (r == 0 && s->verdict != SIF_IGNORED)
		r = open_clear_signed(d, text, len, known, s, ret, &len, err);
	return r < 0 ? not_good(s, r, err) : 0;
}
