/* One signature object per group: measure, seal, add. Slots are counted before anything is hashed,
 * nothing is written before every envelope is made, and all become part of the image together. */
#include "crypto.h"

static int measure_group(const struct sif_image *img, uint32_t group, uint32_t only, struct sif_work *w,
			 struct sif_payload *p, struct vl_err *err)
{
	size_t n;
	VL_FREE const struct sif_descr **objects = sif_group_objects(img, group, &n);

	int r = sif_measure_header(img, "sha256", &p->header, err);
	p->v = vl_alloc((n + 1) * sizeof *p->v);
	for (size_t i = 0; i < n && r == 0; i++) {
		const struct sif_descr *d = objects[i];
		if (only && d->id != only)
			continue;
		/* relative to the group's first object even when that one is not signed */
		struct sif_entry *e = &p->v[p->n++];
		e->relative_id = d->id - objects[0]->id;
		r = sif_measure_descr(d, (uint32_t)e->relative_id, "sha256", &e->descr, err);
		if (r == 0)
			r = sif_measure_object(img, d, "sha256", w, &e->object, err);
	}
	return r;
}

static int seal_group(const struct sif_image *img, const struct sif_key *k, uint32_t group, uint32_t only,
		      struct sif_work *w, struct vl_strv *envelopes, struct vl_err *err)
{
	struct sif_payload p = { 0 };
	VL_FREE char *text = NULL, *envelope = NULL;
	size_t len = 0;

	int r = measure_group(img, group, only, w, &p, err);
	if (r == 0) {
		text = sif_payload_text(&p);
		r = sif_dsse_seal(k, text, strlen(text), &envelope, &len, err);
	}
	sif_payload_free(&p);
	if (r < 0)
		return r;
	if (len > SIF_MAX_SIGNATURE)
		return vl_fail(err, EFBIG, "group %u has too many objects for one signature", group);
	vl_strv_take(envelopes, vl_steal(&envelope));
	return 0;
}

static int add_envelope(struct sif_edit *e, uint32_t group, const char *envelope, struct vl_err *err)
{
	struct sif_object o = { .type = SIF_SIGNATURE, .group = SIF_NO_GROUP, .link = SIF_GROUP_MASK | group };

	vl_put_le32(o.extra, SIF_HASH_SHA256);
	return sif_edit_add(e, &o, envelope, strlen(envelope), NULL, err);
}

static int choose_groups(const struct sif_image *img, const struct sif_sign_opts *o, uint32_t **ret, size_t *ret_n,
			 struct vl_err *err)
{
	const struct sif_descr *one = o->object ? sif_by_id(img, o->object) : NULL;
	size_t n = 0;
	VL_FREE uint32_t *all = sif_groups(img, &n);
	uint32_t group = one ? one->group : o->group;

	if (o->object && !one)
		return vl_fail(err, ENOENT, "the image has no object %u", o->object);
	if (one && (one->group == SIF_NO_GROUP || (o->group && o->group != one->group)))
		return vl_fail(err, EINVAL,
			       one->group ? "object %u is in another group, %u" : "object %u is in no group", one->id,
			       one->group);
	if (n == 0)
		return vl_fail(err, EINVAL, "no object of the image is in a group; only groups are signed");
	for (size_t i = 0; group && i < n; i++)
		if (all[i] == group) {
			all[0] = group;
			*ret = vl_steal(&all);
			*ret_n = 1;
			return 0;
		}
	if (group)
		return vl_fail(err, ENOENT, "the image has no object in group %u", group);
	*ret = vl_steal(&all);
	*ret_n = n;
	return 0;
}

static uint64_t bytes_to_hash(const struct sif_image *img, const uint32_t *groups, size_t n, uint32_t only)
{
	uint64_t total = 0;

	for (size_t i = 0; i < img->n; i++)
		for (size_t k = 0; k < n; k++)
			if (img->d[i].group == groups[k] && (!only || img->d[i].id == only))
				total += img->d[i].size;
	return total;
}

int sif_sign(int fd, const struct sif_key *k, const struct sif_sign_opts *o, size_t *ret_n, struct vl_err *err)
{
	SIF_EDIT struct sif_edit *e = NULL;
	VL_FREE uint32_t *groups = NULL;
	size_t n = 0;

	int r = sif_edit_begin(fd, o->time, &e, err);
	if (r < 0)
		return r;
	const struct sif_image *img = sif_edit_image(e);
	r = choose_groups(img, o, &groups, &n, err);
	if (r < 0)
		return r;
	if (sif_edit_slots(e) < n)
		return vl_fail(
			err, ENOSPC,
			"the image has %u free descriptors, %zu are needed for the signatures; delete an object, or "
			"build the image again with more",
			sif_edit_slots(e), n);
	struct sif_work w = { .progress = o->progress, .total = bytes_to_hash(img, groups, n, o->object) };
	VL_STRV struct vl_strv envelopes = { 0 };
	for (size_t i = 0; i < n && r == 0; i++)
		r = seal_group(img, k, groups[i], o->object, &w, &envelopes, err);
	for (size_t i = 0; i < n && r == 0; i++)
		r = add_envelope(e, groups[i], envelopes.v[i], err);
	if (r == 0)
		r = sif_edit_commit(e, err);
	if (r < 0)
		return r;
	*ret_n = n;
	return 0;
}
