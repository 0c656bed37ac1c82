/* The question "is this image what the holder of that key signed?". Two passes: first every
 * signature that counts is opened with the keys, which costs little and refuses most bad images;
 * then data is hashed, each object once. docs/sif-signing.md, "Verifying". */
#include "crypto.h"

struct opened { /* one signature object that a key has proved */
	const struct sif_descr *d;
	size_t entry; /* in the report */
	struct sif_payload payload;
};

struct measured { /* newest digest of an object; signatures of a group nearly always share the algorithm */
	struct sif_digest digest;
};

struct group {
	uint32_t number;
	const struct sif_descr **objects;
	size_t n_objects;
	struct measured *measured; /* one per object */
	struct opened *sigs;
	size_t n_sigs;
};

struct job {
	const struct sif_image *img;
	const struct sif_verify_opts *o;
	struct sif_known known;
	struct sif_report *report;
	struct sif_work work;
	struct group *groups;
	size_t n_groups;
};

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

static int by_id(const void *a, const void *b)
{
	const struct sif_descr *x = *(const struct sif_descr *const *)a, *y = *(const struct sif_descr *const *)b;
	return x->id < y->id ? -1 : x->id > y->id;
}

const struct sif_descr **sif_group_objects(const struct sif_image *img, uint32_t group, size_t *ret_n)
{
	const struct sif_descr **v = vl_alloc((img->n + 1) * sizeof(void *));
	size_t n = 0;

	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].group == group)
			v[n++] = &img->d[i];
	qsort(v, n, sizeof(void *), by_id);
	*ret_n = n;
	return v;
}

uint32_t *sif_groups(const struct sif_image *img, size_t *ret_n)
{
	uint32_t *v = vl_alloc((img->n + 1) * sizeof *v);
	size_t n = 0, unique = 0;

	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].group != SIF_NO_GROUP)
			v[n++] = img->d[i].group;
	qsort(v, n, sizeof *v, by_number);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || v[i] != v[i - 1])
			v[unique++] = v[i];
	*ret_n = unique;
	return v;
}

/* ---- first pass: signatures ---- */

static int open_signature(struct job *j, struct group *g, const struct sif_descr *d, struct vl_err *err)
{
	struct sif_report *rep = j->report;
	struct sif_payload payload = { 0 };

	if (rep->n_sig == SIF_MAX_SIGNATURES)
		return vl_fail(err, E2BIG, "the image has more signatures than are looked at, %d", SIF_MAX_SIGNATURES);
	rep->sig = vl_realloc(rep->sig, rep->n_sig + 1, sizeof *rep->sig);
	struct sif_signature *s = &rep->sig[rep->n_sig++];
	*s = (struct sif_signature){ .id = d->id, .group = g->number };
	int r = sif_signature_open(j->img, d, &j->known, s, &payload, err);
	if (r < 0 && s->verdict == SIF_UNKNOWN && j->o->need == SIF_NEED_ONE)
		return 0;
	if (r < 0)
		return vl_wrap(err, "signature %u of group %u is not good", d->id, g->number);
	if (s->verdict == SIF_IGNORED)
		return 0;
	g->sigs = vl_realloc(g->sigs, g->n_sigs + 1, sizeof *g->sigs);
	g->sigs[g->n_sigs++] = (struct opened){ d, rep->n_sig - 1, payload };
	return 0;
}

/* Why a group has no signature that counts: the words of the last one that might have. */
static int fail_group(const struct job *j, const struct group *g, struct vl_err *err)
{
	const struct sif_signature *unknown = NULL, *ignored = NULL;

	for (size_t i = 0; i < j->report->n_sig; i++) {
		const struct sif_signature *s = &j->report->sig[i];
		if (s->group == g->number && s->verdict == SIF_UNKNOWN)
			unknown = s;
		if (s->group == g->number && s->verdict == SIF_IGNORED)
			ignored = s;
	}
	if (unknown)
		return vl_fail(err, EKEYREJECTED, "no signature of group %u is by a known key; signature %u: %s",
			       g->number, unknown->id, unknown->why);
	return vl_fail(err, ENODATA, "group %u is not signed%s", g->number,
		       ignored ? "; its old-style signature (from before Singularity 3.6) protects too little and does "
				 "not count"
			       : "");
}

/* All signatures are looked at, also behind a bad one, for the report; the first reason is the error. */
static int open_group(struct job *j, struct group *g, struct vl_err *err)
{
	int result = 0;

	for (size_t i = 0; i < j->img->n; i++) {
		const struct sif_descr *d = &j->img->d[i];
		struct vl_err one;
		if (d->type != SIF_SIGNATURE || d->link != (SIF_GROUP_MASK | g->number))
			continue;
		int r = open_signature(j, g, d, &one);
		if (r < 0 && result == 0) {
			*err = one;
			result = r;
		}
		if (r == -E2BIG)
			break;
	}
	if (result == 0 && g->n_sigs == 0)
		return fail_group(j, g, err);
	return result;
}

/* ---- second pass: what was signed against what is there ---- */

static bool is_hashed(const struct sif_verify_opts *o, const struct sif_descr *d)
{
	for (size_t i = 0; i < o->n_unhashed; i++)
		if (o->unhashed[i] == d->id)
			return false;
	return true;
}

static void report(struct job *j, const struct sif_descr *d, const struct opened *s, bool ok)
{
	struct sif_report *rep = j->report;

	if ((rep->n & (rep->n + 1)) == 0) /* full at 0, 1, 3, 7, ... */
		rep->v = vl_realloc(rep->v, 2 * rep->n + 1, sizeof *rep->v);
	rep->v[rep->n++] = (struct sif_covered){ d->id, s->d->id, ok, is_hashed(j->o, d) };
}

static int compare_object(struct job *j, struct group *g, size_t i, const struct sif_entry *e, struct vl_err *err)
{
	const struct sif_descr *d = g->objects[i];
	struct sif_digest *seen = &g->measured[i].digest, now;
	int r = sif_measure_descr(d, d->id - g->objects[0]->id, e->descr.algo, &now, err);

	if (r < 0)
		return r;
	if (!sif_digest_same(&now, &e->descr))
		return vl_fail(err, EBADMSG, "its descriptor was changed after signing");
	if (!is_hashed(j->o, d))
		return 0;
	if (!seen->algo || !vl_streq(seen->algo, e->object.algo)) {
		r = sif_measure_object(j->img, d, e->object.algo, &j->work, seen, err);
		if (r < 0)
			return r;
	}
	if (!sif_digest_same(seen, &e->object))
		return vl_fail(err, EBADMSG, "its data was changed after signing");
	return 0;
}

static int check_object(struct job *j, struct group *g, const struct opened *s, size_t i, const struct sif_entry *e,
			struct vl_err *err)
{
	const struct sif_descr *d = g->objects[i];
	int r = e ? compare_object(j, g, i, e, err)
		  : vl_fail(err, EBADMSG, "it is in group %u, but not among what was signed", g->number);

	report(j, d, s, r == 0);
	return r < 0 ? vl_wrap(err, "object %u (%s) fails signature %u", d->id, sif_type_name(d->type), s->d->id) : 0;
}

static const struct sif_entry *find_entry(const struct sif_payload *p, uint32_t relative_id)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->v[i].relative_id == relative_id)
			return &p->v[i];
	return NULL;
}

/* Both lists ascend. Whatever is only in one of them was added or removed after signing. */
static int check_all(struct job *j, struct group *g, const struct opened *s, struct vl_err *err)
{
	const struct sif_payload *p = &s->payload;
	uint32_t first = g->objects[0]->id;
	size_t k = 0;

	for (size_t i = 0; i < g->n_objects || k < p->n;) {
		uint64_t here = i < g->n_objects ? g->objects[i]->id - first : UINT64_MAX;
		if (k < p->n && p->v[k].relative_id < here)
			return vl_fail(err, EBADMSG, "object %llu, which signature %u lists for group %u, is missing",
				       (unsigned long long)(first + p->v[k].relative_id), s->d->id, g->number);
		const struct sif_entry *e = k < p->n && p->v[k].relative_id == here ? &p->v[k++] : NULL;
		int r = check_object(j, g, s, i++, e, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare(struct job *j, struct group *g, const struct opened *s, struct vl_err *err)
{
	struct sif_digest now;
	int r = sif_measure_header(j->img, s->payload.header.algo, &now, err);

	if (r < 0)
		return r;
	if (!sif_digest_same(&now, &s->payload.header))
		return vl_fail(err, EBADMSG,
			       "the image's header (launch line or image id) is not the one that signature %u covers",
			       s->d->id);
	if (!j->o->object)
		return check_all(j, g, s, err);
	for (size_t i = 0; i < g->n_objects; i++)
		if (g->objects[i]->id == j->o->object)
			return check_object(j, g, s, i, find_entry(&s->payload, j->o->object - g->objects[0]->id), err);
	return vl_fail(err, ENOENT, "there is no object %u", j->o->object);
}

static int check_signature(struct job *j, struct group *g, const struct opened *s, struct vl_err *err)
{
	struct sif_signature *entry = &j->report->sig[s->entry];
	int r = compare(j, g, s, err);

	if (r < 0)
		sif_signature_fail(entry, SIF_INVALID, err);
	else
		entry->verdict = SIF_VALID;
	return r;
}

/* ---- which groups ---- */

static int choose_groups(struct job *j, uint32_t **ret, size_t *ret_n, struct vl_err *err)
{
	const struct sif_verify_opts *o = j->o;
	const struct sif_descr *one = o->object ? sif_by_id(j->img, o->object) : NULL;
	uint32_t group = one ? one->group : o->group;

	if (o->object && !one)
		return vl_fail(err, ENOENT, "the image has no object %u", o->object);
	if (one && one->group == SIF_NO_GROUP)
		return vl_fail(err, EINVAL, "object %u (%s) is in no group, so no signature can cover it", one->id,
			       sif_type_name(one->type));
	if (one && o->group && o->group != one->group)
		return vl_fail(err, EINVAL, "object %u is in group %u, not in group %u", one->id, one->group, o->group);
	if (group) {
		*ret = vl_memdup(&group, sizeof group);
		*ret_n = 1;
		return 0;
	}
	for (size_t i = 0; i < j->img->n; i++) {
		const struct sif_descr *d = &j->img->d[i];
		if (d->group == SIF_NO_GROUP && d->type != SIF_SIGNATURE)
			return vl_fail(err, EBADMSG, "object %u (%s) is in no group, so no signature covers it", d->id,
				       sif_type_name(d->type));
	}
	*ret = sif_groups(j->img, ret_n);
	return 0;
}

static int gather(struct job *j, struct vl_err *err)
{
	VL_FREE uint32_t *numbers = NULL;
	size_t n = 0;
	int r = choose_groups(j, &numbers, &n, err);

	if (r < 0)
		return r;
	if (n == 0)
		return vl_fail(err, ENODATA, "the image has no object in a group: nothing in it is signed");
	j->groups = vl_alloc(n * sizeof *j->groups);
	for (size_t i = 0; i < n; i++) {
		struct group *g = &j->groups[j->n_groups++];
		g->number = numbers[i];
		g->objects = sif_group_objects(j->img, g->number, &g->n_objects);
		if (g->n_objects == 0)
			return vl_fail(err, ENOENT, "the image has no object in group %u", g->number);
		g->measured = vl_alloc(g->n_objects * sizeof *g->measured);
		r = open_group(j, g, err);
		if (r < 0)
			return r;
		for (size_t k = 0; k < g->n_objects; k++)
			if ((!j->o->object || g->objects[k]->id == j->o->object) && is_hashed(j->o, g->objects[k]))
				j->work.total += g->objects[k]->size;
	}
	return 0;
}

static void drop(struct job *j)
{
	for (size_t i = 0; i < j->n_groups; i++) {
		struct group *g = &j->groups[i];
		for (size_t k = 0; k < g->n_sigs; k++)
			sif_payload_free(&g->sigs[k].payload);
		free(g->sigs);
		free(g->measured);
		free(g->objects);
	}
	free(j->groups);
}

int sif_verify(const struct sif_image *img, const struct sif_verify_opts *o, struct sif_report *ret, struct vl_err *err)
{
	struct job j = { .img = img, .o = o, .known.o = o, .report = ret, .work.progress = o->progress };
	int r;

	*ret = (struct sif_report){ 0 };
	if (o->legacy)
		return sif_legacy_verify(img, o, ret, err);
	r = gather(&j, err);
	for (size_t i = 0; i < j.n_groups && r == 0; i++)
		for (size_t k = 0; k < j.groups[i].n_sigs && r == 0; k++)
			r = check_signature(&j, &j.groups[i], &j.groups[i].sigs[k], err);
	ret->skipped = vl_steal(&j.known.pgp_run.skipped);
	drop(&j);
	return r;
}

const struct sif_signature *sif_report_find(const struct sif_report *r, uint32_t id)
{
	for (size_t i = 0; i < r->n_sig; i++)
		if (r->sig[i].id == id)
			return &r->sig[i];
	return NULL;
}

void sif_report_free(struct sif_report *r)
{
	for (size_t i = 0; i < r->n_sig; i++)
		sif_signature_free(&r->sig[i]);
	free(r->sig);
	free(r->v);
	free(r->skipped);
	*r = (struct sif_report){ 0 };
}
