/* Signatures from before Singularity 3.6: a clear-signed digest of the data of one object or of a group, and of nothing
 * else. Header, descriptors and every other object may have been changed, so they are looked at only on demand, and
 * then with the rules of the tool that made them. docs/sif-signing.md, "Old-style signatures". */
#include "crypto.h"

#define PREFIX "SIFHASH:"

struct target {                 /* what one kind of signature is about */
	uint32_t object, group; /* one of them is 0 */
	const struct sif_descr **v;
	size_t n;
};

struct job {
	const struct sif_image *img;
	const struct sif_verify_opts *o;
	struct sif_known known;
	struct sif_report *report;
	struct sif_work work;
};

static void report(struct job *j, const struct target *t, uint32_t signature, bool ok)
{
	struct sif_report *rep = j->report;

	rep->v = vl_realloc(rep->v, rep->n + t->n, sizeof *rep->v);
	for (size_t i = 0; i < t->n; i++)
		rep->v[rep->n++] = (struct sif_covered){ t->v[i]->id, signature, ok, true };
}

static const char *algo_of(uint32_t hash)
{
	return hash == SIF_HASH_SHA256   ? "sha256"
	       : hash == SIF_HASH_SHA384 ? "sha384"
	       : hash == SIF_HASH_SHA512 ? "sha512"
					 : NULL;
}

int sif_legacy_parse(const char *text, uint32_t hash, struct sif_digest *ret, struct vl_err *err)
{
	const char *p = vl_prefix(text, PREFIX);
	char hex[2 * VL_HASH_MAX + 1];
	size_t n, digits;

	ret->algo = algo_of(hash);
	if (!ret->algo)
		return vl_fail(err, ENOTSUP, "its descriptor names the hash %s, which is not accepted",
			       sif_hash_name(hash));
	n = vl_hash_size(ret->algo);
	if (!p)
		return vl_fail(err, EINVAL, "its text does not begin with " PREFIX);
	p += strspn(p, "\r\n");
	digits = strspn(p, "0123456789abcdefABCDEF");
	if (digits != 2 * n || p[digits + strspn(p + digits, "\r\n")])
		return vl_fail(err, EINVAL, "its text holds no %s digest", ret->algo);
	for (size_t i = 0; i < digits; i++)
		hex[i] = p[i] >= 'A' && p[i] <= 'F' ? (char)(p[i] - 'A' + 'a') : p[i];
	hex[digits] = 0;
	return vl_unhex(hex, n, ret->bytes) == 0 ? 0 : vl_fail(err, EINVAL, "its text holds no digest");
}

static int compare(struct job *j, const struct target *t, const struct sif_descr *d, const char *text,
		   struct vl_err *err)
{
	struct sif_digest said, seen;
	int r = sif_legacy_parse(text, vl_le32(d->extra), &said, err);

	if (r == 0)
		r = sif_measure_objects(j->img, t->v, t->n, said.algo, &j->work, &seen, err);
	if (r < 0 || sif_digest_same(&said, &seen))
		return r;
	return t->object ? vl_fail(err, EBADMSG, "the data of object %u was changed after signing", t->object)
			 : vl_fail(err, EBADMSG, "the data of group %u was changed after signing", t->group);
}

/* 1: it counts and is good */
static int check_signature(struct job *j, const struct target *t, const struct sif_descr *d, struct vl_err *err)
{
	struct sif_report *rep = j->report;
	VL_FREE char *text = NULL;

	if (rep->n_sig == SIF_MAX_SIGNATURES)
		return vl_fail(err, E2BIG, "the image has more signatures than are looked at, %d", SIF_MAX_SIGNATURES);
	rep->sig = vl_realloc(rep->sig, rep->n_sig + 1, sizeof *rep->sig);
	struct sif_signature *s = &rep->sig[rep->n_sig++];
	*s = (struct sif_signature){ .id = d->id, .group = t->group, .object = t->object };
	int r = sif_signature_open_legacy(j->img, d, &j->known, s, &text, err);
	if (r < 0 || s->verdict == SIF_IGNORED)
		return r < 0 ? vl_wrap(err, "old-style signature %u is not good", d->id) : 0;
	r = compare(j, t, d, text, err);
	if (r < 0 && r != -EBADMSG)
		vl_wrap(err, "old-style signature %u is not good", d->id);
	report(j, t, d->id, r == 0);
	if (r < 0)
		sif_signature_fail(s, SIF_INVALID, err);
	else
		s->verdict = SIF_VALID;
	return r < 0 ? r : 1;
}

static int check_target(struct job *j, const struct target *t, struct vl_err *err)
{
	uint32_t link = t->object ? t->object : SIF_GROUP_MASK | t->group;
	size_t good = 0;

	for (size_t i = 0; i < j->img->n; i++) {
		if (j->img->d[i].type != SIF_SIGNATURE || j->img->d[i].link != link)
			continue;
		int r = check_signature(j, t, &j->img->d[i], err);
		if (r < 0)
			return r;
		good += (size_t)r;
	}
	if (good)
		return 0;
	return t->object ? vl_fail(err, ENODATA, "object %u has no old-style signature", t->object)
			 : vl_fail(err, ENODATA, "group %u has no old-style signature", t->group);
}

static int check_object(struct job *j, const struct sif_descr *d, struct vl_err *err)
{
	struct target t = { .object = d->id, .v = &d, .n = 1 };

	return check_target(j, &t, err);
}

/* In the table's order, as the digest was made; signatures in the group are not part of it. */
static int check_group(struct job *j, struct vl_err *err)
{
	struct target t = { .group = j->o->group, .v = vl_alloc((j->img->n + 1) * sizeof(void *)) };
	int r;

	for (size_t i = 0; i < j->img->n; i++)
		if (j->img->d[i].group == t.group && j->img->d[i].type != SIF_SIGNATURE)
			t.v[t.n++] = &j->img->d[i];
	r = t.n ? check_target(j, &t, err) : vl_fail(err, ENOENT, "the image has no object in group %u", t.group);
	free(t.v);
	return r;
}

static int check_every_object(struct job *j, struct vl_err *err)
{
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; i < j->img->n && r == 0; i++)
		if (j->img->d[i].group != SIF_NO_GROUP && j->img->d[i].type != SIF_SIGNATURE) {
			r = check_object(j, &j->img->d[i], err);
			n++;
		}
	return r < 0 || n ? r : vl_fail(err, ENODATA, "the image has no object in a group: nothing in it is signed");
}

int sif_legacy_verify(const struct sif_image *img, const struct sif_verify_opts *o, struct sif_report *ret,
		      struct vl_err *err)
{
	struct job j = { .img = img, .o = o, .known.o = o, .report = ret, .work.progress = o->progress };
	const struct sif_descr *one = o->object ? sif_by_id(img, o->object) : NULL;
	int r = 0;

	for (size_t i = 0; i < img->n; i++)
		j.work.total += img->d[i].group != SIF_NO_GROUP ? img->d[i].size : 0;
	if (o->object && !one)
		return vl_fail(err, ENOENT, "the image has no object %u", o->object);
	if (o->group)
		r = check_group(&j, err);
	else if (!one && o->legacy == SIF_LEGACY_ALL)
		r = check_every_object(&j, err);
	else if (!one)
		r = sif_primary(img, &one, err);
	if (r == 0 && one)
		r = check_object(&j, one, err);
	ret->skipped = vl_steal(&j.known.pgp_run.skipped);
	return r;
}
