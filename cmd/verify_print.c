/* What `verify` says about signatures, to people and to programs. */
#include "commands.h"

#include <stdio.h>
#include <vial/sif.h>

static const char *const forms[] = { "unknown", "dsse", "pgp", "legacy" };
static const char *const verdicts[] = { "unchecked", "valid", "unknown signer", "invalid", "ignored" };
static const char *const kinds[] = { "", "key", "certificate", "pgp" };

/* ---- for people ---- */

/* Of a key that is known: "ECDSA P-256" */
static const char *key_type(const char *id, const struct cmd_known *known)
{
	for (size_t i = 0; i < known->n; i++)
		if (vl_streq(sif_key_id(known->v[i]), id))
			return sif_key_type(known->v[i]);
	return "";
}

static void print_signer(const struct sif_signer *who, const struct cmd_known *known)
{
	if (who->kind == SIF_SIGNER_PGP)
		printf("OpenPGP key %s (%s)", who->id, who->name ? who->name : "no user id");
	else if (who->kind == SIF_SIGNER_CERTIFICATE)
		printf("certificate %s, key %s (%s)", who->name ? who->name : "without a subject", who->id,
		       key_type(who->id, known));
	else
		printf("key %s (%s)", who->id, key_type(who->id, known));
	const char *trust = cmd_known_trust(known, who);
	printf(", %s\n", trust ? trust : "which is not trusted");
}

static void print_signature(const struct sif_signature *s, const struct cmd_known *known)
{
	if (s->verdict != SIF_VALID) {
		printf("Signature %u does not count: %s\n", s->id, s->why ? s->why : "it was not looked at");
		return;
	}
	for (size_t i = 0; i < s->n_signers; i++) {
		printf("Signature %u is valid%s, by ", s->id,
		       s->form == SIF_FORM_LEGACY ? " (old-style: it covers data alone, neither header nor "
						    "descriptors)"
						  : "");
		print_signer(&s->signers[i], known);
	}
}

static void print_objects(const struct sif_image *img, const struct sif_report *rep, uint32_t signature)
{
	printf("Objects verified:\n%-4s|%-8s|%-8s|%s\n", "ID", "GROUP", "LINK", "TYPE");
	puts("------------------------------------------------");
	for (size_t i = 0; i < rep->n; i++) {
		const struct sif_descr *d = sif_by_id(img, rep->v[i].id);
		VL_FREE char *words = sif_descr_words(d);
		if (rep->v[i].signature != signature)
			continue;
		printf("%-4u|", d->id);
		cmd_print_group(d->group);
		putchar('|');
		cmd_print_link(d->link);
		printf("|%s\n", words);
	}
}

void cmd_verify_print(const struct sif_image *img, const struct sif_report *rep, const struct cmd_known *known)
{
	for (size_t i = 0; i < rep->n_sig; i++) {
		print_signature(&rep->sig[i], known);
		if (rep->sig[i].verdict == SIF_VALID)
			print_objects(img, rep, rep->sig[i].id);
	}
}

/* ---- for programs ---- */

static void print_string(const char *s)
{
	VL_JSON vl_json *j = vl_json_new_str(s);
	VL_FREE char *text = vl_json_text(j, false);

	/* as the encoder of the other tools: safe inside HTML */
	for (const char *p = text; *p; p++)
		if (strchr("<>&", *p))
			printf("\\u%04x", (unsigned)*p);
		else
			putchar(*p);
}

static void print_member(const char *name, const char *value, bool last)
{
	printf("        \"%s\": %s%s\n", name, value, last ? "" : ",");
}

/* A key file is nobody to the other tools: only PGP keys have names there. */
static void print_covered(const struct sif_image *img, const struct sif_report *rep, const struct sif_covered *v)
{
	const struct sif_signature *s = sif_report_find(rep, v->signature);
	const struct sif_signer *who = s && s->n_signers && s->signers[0].kind == SIF_SIGNER_PGP ? s->signers : NULL;
	VL_FREE char *id = vl_strdup(who ? who->id : "");

	for (char *c = id; *c; c++)
		if (*c >= 'A' && *c <= 'F')
			*c = (char)(*c - 'A' + 'a');
	printf("    {\n      \"Signer\": {\n        \"Partition\": ");
	print_string(sif_type_name(sif_by_id(img, v->id)->type));
	printf(",\n        \"Name\": ");
	print_string(who && who->name ? who->name : "unknown");
	printf(",\n        \"Fingerprint\": ");
	print_string(id);
	puts(",");
	print_member("KeyLocal", who ? "true" : "false", false);
	print_member("KeyCheck", who ? "true" : "false", false);
	print_member("DataCheck", v->ok ? "true" : "false", true);
	printf("      }\n    }");
}

void cmd_verify_print_json(const struct sif_image *img, const struct sif_report *rep)
{
	size_t n = 0;

	for (size_t i = 0; i < rep->n_sig; i++)
		n += rep->sig[i].verdict != SIF_IGNORED;
	printf("{\n  \"Signatures\": %zu,\n  \"SignerKeys\": %s", n, rep->n ? "[\n" : "null");
	for (size_t i = 0; i < rep->n; i++) {
		print_covered(img, rep, &rep->v[i]);
		puts(i + 1 < rep->n ? "," : "");
	}
	puts(rep->n ? "  ]\n}" : "\n}");
}

static vl_json *text_or_nothing(const char *s)
{
	return s ? vl_json_new_str(s) : NULL;
}

static vl_json *signers_of(const struct sif_signature *s, const struct cmd_known *known)
{
	vl_json *list = vl_json_new_arr();

	for (size_t i = 0; i < s->n_signers; i++) {
		const struct sif_signer *who = &s->signers[i];
		vl_json *o = vl_json_new_obj();
		vl_json_set(o, "kind", vl_json_new_str(kinds[who->kind]));
		vl_json_set(o, "id", vl_json_new_str(who->id));
		vl_json_set(o, "name", text_or_nothing(who->name));
		vl_json_set(o, "trusted", vl_json_new_bool(cmd_known_trust(known, who) != NULL));
		vl_json_add(list, o);
	}
	return list;
}

static vl_json *objects_of(const struct sif_report *rep, uint32_t signature)
{
	vl_json *list = vl_json_new_arr();

	for (size_t i = 0; i < rep->n; i++)
		if (rep->v[i].signature == signature && rep->v[i].ok)
			vl_json_add(list, vl_json_new_int(rep->v[i].id));
	return list;
}

void cmd_verify_describe(const struct sif_signature *s, const struct cmd_known *known, vl_json *to)
{
	vl_json_set(to, "verdict", vl_json_new_str(verdicts[s->verdict]));
	vl_json_set(to, "why", text_or_nothing(s->why));
	vl_json_set(to, "signers", signers_of(s, known));
}

void cmd_verify_print_report(const struct sif_report *rep, const struct cmd_known *known, const struct vl_err *err)
{
	VL_JSON vl_json *top = vl_json_new_obj();
	vl_json *list = vl_json_new_arr();

	vl_json_set(top, "verified", vl_json_new_bool(!err));
	vl_json_set(top, "error", text_or_nothing(err ? err->text : NULL));
	for (size_t i = 0; i < rep->n_sig; i++) {
		const struct sif_signature *s = &rep->sig[i];
		vl_json *o = vl_json_new_obj();
		vl_json_set(o, "signature", vl_json_new_int(s->id));
		vl_json_set(o, "group", vl_json_new_int(s->group));
		vl_json_set(o, "form", vl_json_new_str(forms[s->form]));
		vl_json_set(o, "claims", text_or_nothing(s->claims));
		cmd_verify_describe(s, known, o);
		vl_json_set(o, "objects", objects_of(rep, s->id));
		vl_json_add(list, o);
	}
	vl_json_set(top, "signatures", list);
	VL_FREE char *text = vl_json_text(top, true);
	puts(text);
}
