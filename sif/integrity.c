/* What a signature says about an image: digests of the header, of each descriptor and of each
 * object's data. docs/sif-signing.md lists which bytes count and in what order. */
#include "crypto.h"

#include <fcntl.h>

#define CHUNK (1u << 20) /* large enough for full read speed, small enough to stay near the CPU */

static const char *const algos[] = { "sha256", "sha512", "sha384", "sha224", "sha512_224", "sha512_256" };

bool sif_digest_same(const struct sif_digest *a, const struct sif_digest *b)
{
	return vl_streq(a->algo, b->algo) && !memcmp(a->bytes, b->bytes, vl_hash_size(a->algo));
}

/* "alg:hex", one spelling only. Weak and unknown algorithms are refused by being absent here. */
static int parse_digest(const vl_json *obj, const char *member, struct sif_digest *ret, struct vl_err *err)
{
	const char *s = vl_json_str(obj, member);

	if (!s)
		return vl_fail(err, EINVAL, "the signed list has no '%s'", member);
	for (size_t i = 0; i < VL_COUNT(algos); i++) {
		const char *hex = vl_prefix(s, algos[i]);
		size_t n = vl_hash_size(algos[i]);
		if (!hex || *hex++ != ':')
			continue;
		if (strlen(hex) != 2 * n || vl_unhex(hex, n, ret->bytes) < 0)
			return vl_fail(err, EINVAL, "the signed list has a malformed %s digest in '%s'", algos[i],
				       member);
		ret->algo = algos[i];
		return 0;
	}
	VL_FREE char *shown = vl_printable(s, VL_MIN(strlen(s), (size_t)20));
	return vl_fail(err, ENOTSUP, "the signed list uses a digest that is not accepted: %s...", shown);
}

static int by_relative_id(const void *a, const void *b)
{
	uint64_t x = ((const struct sif_entry *)a)->relative_id, y = ((const struct sif_entry *)b)->relative_id;
	return x < y ? -1 : x > y;
}

static int parse_entry(const vl_json *o, struct sif_entry *ret, struct vl_err *err)
{
	int64_t id;

	if (!vl_json_int(o, "relativeId", &id) || id < 0 || id > UINT32_MAX)
		return vl_fail(err, EINVAL, "the signed list has an object without a proper relativeId");
	ret->relative_id = (uint64_t)id;
	int r = parse_digest(o, "descriptorDigest", &ret->descr, err);
	return r < 0 ? r : parse_digest(o, "objectDigest", &ret->object, err);
}

static int parse_objects(const vl_json *list, struct sif_payload *p, struct vl_err *err)
{
	size_t n = vl_json_len(list);

	if (n == 0)
		return vl_fail(err, EINVAL, "the signed list names no object");
	p->v = vl_alloc(n * sizeof *p->v);
	p->n = n;
	for (size_t i = 0; i < n; i++) {
		int r = parse_entry(vl_json_at(list, i), &p->v[i], err);
		if (r < 0)
			return r;
	}
	qsort(p->v, n, sizeof *p->v, by_relative_id);
	for (size_t i = 1; i < n; i++)
		if (p->v[i].relative_id == p->v[i - 1].relative_id)
			return vl_fail(err, EINVAL, "the signed list names relativeId %llu twice",
				       (unsigned long long)p->v[i].relative_id);
	return 0;
}

int sif_payload_parse(const char *text, size_t len, struct sif_payload *ret, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	struct sif_payload p = { 0 };
	int64_t version;

	int r = vl_json_parse(text, len, "the signed list", &j, err);
	if (r < 0)
		return r;
	if (!vl_json_int(j, "version", &version) || version != 1)
		return vl_fail(err, ENOTSUP, "the signed list is not of version 1, which is all this program knows");
	r = parse_digest(vl_json_obj(j, "header"), "digest", &p.header, err);
	if (r == 0)
		r = parse_objects(vl_json_arr(j, "objects"), &p, err);
	if (r < 0) {
		sif_payload_free(&p);
		return r;
	}
	*ret = p;
	return 0;
}

void sif_payload_free(struct sif_payload *p)
{
	free(p->v);
	*p = (struct sif_payload){ 0 };
}

static void add_digest(struct vl_buf *b, const char *member, const struct sif_digest *d)
{
	char hex[2 * VL_HASH_MAX + 1];

	vl_hex(d->bytes, vl_hash_size(d->algo), hex);
	vl_buf_addf(b, "\"%s\":\"%s:%s\"", member, d->algo, hex);
}

/* Written by hand: the order of members is part of what others rebuild byte for byte. */
char *sif_payload_text(const struct sif_payload *p)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "{\"version\":1,\"header\":{");
	add_digest(&b, "digest", &p->header);
	vl_buf_adds(&b, "},\"objects\":[");
	for (size_t i = 0; i < p->n; i++) {
		vl_buf_addf(&b, "%s{\"relativeId\":%llu,", i ? "," : "", (unsigned long long)p->v[i].relative_id);
		add_digest(&b, "descriptorDigest", &p->v[i].descr);
		vl_buf_adds(&b, ",");
		add_digest(&b, "objectDigest", &p->v[i].object);
		vl_buf_adds(&b, "}");
	}
	vl_buf_adds(&b, "]}");
	return vl_steal(&b.data);
}

static int measure_bytes(const void *p, size_t n, const char *algo, struct sif_digest *ret, struct vl_err *err)
{
	struct vl_hash *h;
	int r = vl_hash_new(algo, &h, err);

	if (r < 0)
		return r;
	vl_hash_update(h, p, n);
	ret->algo = algo;
	vl_hash_final(h, ret->bytes);
	vl_hash_free(h);
	return 0;
}

int sif_measure_header(const struct sif_image *img, const char *algo, struct sif_digest *ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_add(&b, img->h.launch, sizeof img->h.launch);
	vl_buf_add(&b, img->h.magic, sizeof img->h.magic);
	vl_buf_add(&b, img->h.version, sizeof img->h.version);
	vl_buf_add(&b, img->h.uuid, sizeof img->h.uuid);
	return measure_bytes(b.data, b.len, algo, ret, err);
}

int sif_measure_descr(const struct sif_descr *d, uint32_t relative_id, const char *algo, struct sif_digest *ret,
		      struct vl_err *err)
{
	uint8_t b[557];

	vl_put_le32(b, d->type);
	b[4] = d->used != 0;
	vl_put_le32(b + 5, relative_id);
	vl_put_le32(b + 9, d->link);
	vl_put_le64(b + 13, d->size);
	vl_put_le64(b + 21, (uint64_t)d->created);
	vl_put_le64(b + 29, (uint64_t)d->uid);
	vl_put_le64(b + 37, (uint64_t)d->gid);
	memcpy(b + 45, d->name, sizeof d->name);
	memcpy(b + 173, d->extra, sizeof d->extra);
	return measure_bytes(b, sizeof b, algo, ret, err);
}

static int feed_object(const struct sif_image *img, const struct sif_descr *d, struct vl_hash *h, struct sif_work *w,
		       struct vl_err *err)
{
	VL_FREE char *what = vl_asprintf("object %u", d->id);
	size_t chunk = (size_t)VL_MIN(d->size, (uint64_t)CHUNK);
	VL_FREE uint8_t *buf = vl_alloc(chunk + 1);
	int r = 0;

	posix_fadvise(img->fd, (off_t)d->off, (off_t)d->size, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = 0; at < d->size && r == 0;) {
		size_t n = (size_t)VL_MIN(d->size - at, (uint64_t)chunk);
		r = vl_pread_full(img->fd, buf, n, d->off + at, what, err);
		if (r == 0)
			vl_hash_update(h, buf, n);
		at += n;
		w->done += n;
		if (w->progress)
			vl_progress_step(w->progress, "hashing", w->done, w->total);
	}
	return r;
}

int sif_measure_objects(const struct sif_image *img, const struct sif_descr *const *v, size_t n, const char *algo,
			struct sif_work *w, struct sif_digest *ret, struct vl_err *err)
{
	struct vl_hash *h;
	int r = vl_hash_new(algo, &h, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++)
		r = feed_object(img, v[i], h, w, err);
	if (r == 0) {
		ret->algo = algo;
		vl_hash_final(h, ret->bytes);
	}
	vl_hash_free(h);
	return r;
}

int sif_measure_object(const struct sif_image *img, const struct sif_descr *d, const char *algo, struct sif_work *w,
		       struct sif_digest *ret, struct vl_err *err)
{
	return sif_measure_objects(img, &d, 1, algo, w, ret, err);
}

int sif_object_digest(const struct sif_image *img, const struct sif_descr *d, char **ret, struct vl_err *err)
{
	struct sif_work w = { 0 };
	struct sif_digest digest;
	char hex[65];
	int r = sif_measure_object(img, d, "sha256", &w, &digest, err);

	if (r < 0)
		return r;
	vl_hex(digest.bytes, 32, hex);
	*ret = vl_asprintf("sha256:%s", hex);
	return 0;
}
