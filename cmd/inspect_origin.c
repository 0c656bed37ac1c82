/* Who signed an image, what it was made of, and when, as the image itself says; and which of its signatures a key of the
 * keyring proves. File systems are not read for that: who wants all of it has `vial verify`. */
#include "commands.h"

#include <stdio.h>
#include <time.h>
#include <vial/sif.h>

static void set_str(vl_json *j, const char *key, const char *s)
{
	if (s)
		vl_json_set(j, key, vl_json_new_str(s));
}

/* 0 and the mark of a deterministic image are no time. */
static void set_time(vl_json *j, const char *key, int64_t time)
{
	char date[40];
	struct tm tm;
	time_t t = (time_t)time;

	if (time > 0 && gmtime_r(&t, &tm) && strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm))
		set_str(j, key, date);
}

/* ---- signatures ---- */

/* A group's signatures, with keys of the keyring; what is large is compared by its descriptor alone. */
static void check_group(const struct sif_image *img, uint32_t group, const struct cmd_known *known,
			struct sif_report *rep)
{
	VL_FREE uint32_t *unhashed = vl_alloc((img->n + 1) * sizeof *unhashed);
	struct sif_verify_opts o = { .keys = known->v,
				     .n_keys = known->n,
				     .pgp = known->pgp,
				     .group = group,
				     .need = SIF_NEED_ONE,
				     .unhashed = unhashed };
	struct vl_err told_by_report;

	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].type == SIF_PARTITION || img->d[i].size > SIF_MAX_METADATA)
			unhashed[o.n_unhashed++] = img->d[i].id;
	(void)sif_verify(img, &o, rep, &told_by_report);
}

static void check_signature(const struct sif_image *img, const struct sif_descr *d, const struct cmd_known *known,
			    vl_json *to)
{
	SIF_REPORT struct sif_report rep = { 0 };

	if ((d->link & SIF_GROUP_MASK) != SIF_GROUP_MASK)
		return;
	check_group(img, d->link & ~SIF_GROUP_MASK, known, &rep);
	const struct sif_signature *s = sif_report_find(&rep, d->id);
	if (s)
		cmd_verify_describe(s, known, to);
}

static vl_json *signature(const struct sif_image *img, const struct sif_descr *d, const struct cmd_known *known)
{
	vl_json *j = vl_json_new_obj(), *keys = vl_json_new_arr();
	VL_STRV struct vl_strv claims = { 0 };
	const char *form = sif_signature_claims(img, d, &claims);

	for (size_t i = 0; i < claims.n; i++)
		vl_json_add(keys, vl_json_new_str(claims.v[i]));
	vl_json_set(j, "object", vl_json_new_int(d->id));
	if ((d->link & SIF_GROUP_MASK) == SIF_GROUP_MASK)
		vl_json_set(j, "group", vl_json_new_int(d->link & ~SIF_GROUP_MASK));
	set_str(j, "form", form);
	vl_json_set(j, "claims", keys);
	check_signature(img, d, known, j);
	set_time(j, "time", d->created);
	return j;
}

/* ---- other objects ---- */

static vl_json *sbom(const struct sif_descr *d)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "object", vl_json_new_int(d->id));
	set_str(j, "format", sif_sbom_name(vl_le32(d->extra)));
	return j;
}

static void add_source(const struct sif_image *img, vl_json *j)
{
	SIF_PROVENANCE struct sif_provenance p = { 0 };
	struct vl_err ignored;

	if (sif_provenance_read(img, &p, &ignored) < 0)
		return;
	set_str(j, "source", p.source);
	set_str(j, "sourceDigest", p.digest);
	set_str(j, "sourceConfig", p.config);
	vl_json_set(j, "sourceLayers", vl_json_new_int((int64_t)p.layers));
	set_str(j, "builder", p.builder);
	vl_json_set(j, "provenance", vl_json_new_int(p.id));
}

/* Keys that cannot be used prove nothing, and who inspects has not asked for them. */
static void load_keys(const struct cmd_ctx *c, struct cmd_known *ret)
{
	struct cmd_ctx quiet = { .log = { .fd = c->log.fd, .level = VL_ERROR }, .self = c->self };
	const struct cmd_verify_opts none = { 0 };
	struct vl_err err = { 0 };

	if (cmd_known_read(&quiet, &none, ret, &err) < 0 || cmd_known_parse(&quiet, &none, ret, &err) < 0)
		vl_logf(&c->log, VL_WARNING, "signatures are not checked: %s", err.text);
}

vl_json *cmd_inspect_origin(struct cmd_ctx *c, const struct sif_image *img)
{
	VL_CLEANUP(cmd_known_free) struct cmd_known known = { 0 };
	vl_json *j = vl_json_new_obj(), *signatures = vl_json_new_arr(), *sboms = vl_json_new_arr(),
		*cosign = vl_json_new_arr();

	if (sif_by_name(img, SIF_SIGNATURE, ""))
		load_keys(c, &known);
	add_source(img, j);
	set_time(j, "created", img->h.created);
	for (size_t i = 0; i < img->n; i++) {
		const struct sif_descr *d = &img->d[i];
		if (d->type == SIF_SIGNATURE)
			vl_json_add(signatures, signature(img, d, &known));
		else if (d->type == SIF_SBOM)
			vl_json_add(sboms, sbom(d));
		else if (d->type == SIF_JSON && vl_prefix((const char *)d->name, "cosign:"))
			vl_json_add(cosign, vl_json_new_int(d->id));
	}
	vl_json_set(j, "signatures", signatures);
	vl_json_set(j, "sboms", sboms);
	vl_json_set(j, "cosign", cosign);
	return j;
}

/* ---- for people ---- */

static void print_str(const vl_json *j, const char *label, const char *key)
{
	const char *s = vl_json_str(j, key);
	VL_FREE char *shown = s ? vl_printable(s, strlen(s)) : NULL;

	if (shown)
		printf("%s: %s\n", label, shown);
}

static void print_number(const vl_json *j, const char *fmt, const char *key)
{
	int64_t n;

	if (vl_json_int(j, key, &n))
		printf(fmt, (long long)n);
}

static void print_verdict(const vl_json *s)
{
	const char *verdict = vl_json_str(s, "verdict"), *why = vl_json_str(s, "why");
	const vl_json *who = vl_json_at(vl_json_arr(s, "signers"), 0);

	if (verdict && who && vl_streq(verdict, "valid")) {
		const char *name = vl_json_str(who, "name");
		VL_FREE char *shown = name ? vl_printable(name, strlen(name)) : NULL;
		printf(" (valid%s%s, its signer is%s trusted; file systems were not read)\n", shown ? ", by " : "",
		       shown ? shown : "", vl_json_is_true(vl_json_get(who, "trusted")) ? "" : " not");
		return;
	}
	VL_FREE char *shown = why ? vl_printable(why, strlen(why)) : NULL;
	printf(" (not verified%s%s)\n", shown ? ": " : "", shown ? shown : "");
}

static void print_signature(const vl_json *s)
{
	const vl_json *claims = vl_json_arr(s, "claims");
	const char *time = vl_json_str(s, "time");

	printf("signature: %s", vl_json_str(s, "form"));
	print_number(s, ", object %lld", "object");
	print_number(s, " of group %lld", "group");
	for (size_t i = 0; i < vl_json_len(claims); i++) {
		const char *id = vl_json_string(vl_json_at(claims, i));
		VL_FREE char *shown = vl_printable(id ? id : "", id ? strnlen(id, 100) : 0);
		printf(", key %s", shown);
	}
	printf("%s%s", time ? ", " : "", time ? time : "");
	print_verdict(s);
}

void cmd_inspect_print_origin(const vl_json *j)
{
	const vl_json *list = vl_json_arr(j, "signatures");

	print_str(j, "source", "source");
	print_str(j, "source digest", "sourceDigest");
	print_str(j, "builder", "builder");
	print_str(j, "created", "created");
	for (size_t i = 0; i < vl_json_len(list); i++)
		print_signature(vl_json_at(list, i));
	list = vl_json_arr(j, "sboms");
	for (size_t i = 0; i < vl_json_len(list); i++) {
		printf("sbom: %s", vl_json_str(vl_json_at(list, i), "format"));
		print_number(vl_json_at(list, i), ", object %lld\n", "object");
	}
	list = vl_json_arr(j, "cosign");
	if (vl_json_len(list))
		printf("cosign: %zu signed documents of the source\n", vl_json_len(list));
}
