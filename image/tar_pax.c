#include "tar_pax.h"

#define MAX_XATTRS 1000 /* per file; real ones have a few */

int img_map_add(struct tar_map *m, uint64_t off, uint64_t len, struct vl_err *err)
{
	if (m->n == TAR_MAX_SEGMENTS)
		return vl_fail(err, E2BIG, "a sparse file of more than %u parts", TAR_MAX_SEGMENTS);
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 8;
		m->segs = vl_realloc(m->segs, m->cap, sizeof *m->segs);
	}
	m->segs[m->n++] = (struct tar_seg){ off, len };
	return 0;
}

void img_map_move(struct tar_map *to, struct tar_map *from)
{
	free(to->segs);
	*to = *from;
	*from = (struct tar_map){ 0 };
}

int img_map_check(const struct tar_map *m, uint64_t size, uint64_t stored, struct vl_err *err)
{
	uint64_t pos = 0, sum = 0;

	for (size_t i = 0; i < m->n; i++) {
		const struct tar_seg *s = &m->segs[i];
		if (s->off < pos || s->off > size || s->len > size - s->off)
			return vl_fail(err, EBADMSG, "a sparse file whose parts overlap or leave it");
		pos = s->off + s->len;
		sum += s->len; /* below size each time, in order: cannot overflow */
	}
	if (sum != stored)
		return vl_fail(err, EBADMSG, "a sparse file whose parts are not the bytes that are stored");
	return 0;
}

static int bad(const char *key, struct vl_err *err)
{
	return vl_fail(err, EBADMSG, "a PAX record '%s' with an unusable value", key);
}

static int set_number(const char *key, const char *v, uint64_t *ret, struct vl_err *err)
{
	return vl_parse_u64(v, 0, INT64_MAX, ret) < 0 ? bad(key, err) : 0;
}

static void set_text(char **to, const char *v)
{
	free(*to);
	*to = *v ? vl_strdup(v) : NULL; /* an empty value takes the record back */
}

/* "-12.5": seconds rounded down. */
static int set_time(struct tar_pax *x, const char *v, struct vl_err *err)
{
	bool neg = *v == '-';
	VL_FREE char *whole = vl_strndup(v + neg, strcspn(v + neg, "."));
	const char *frac = strchr(v, '.');
	uint64_t s;

	if (frac && strspn(frac + 1, "0123456789") != strlen(frac + 1))
		return bad("mtime", err);
	if (vl_parse_u64(*whole ? whole : "0", 0, INT64_MAX, &s) < 0)
		return bad("mtime", err);
	bool partly = frac && strspn(frac + 1, "0") != strlen(frac + 1);
	x->mtime = neg ? -(int64_t)s - partly : (int64_t)s;
	x->has_mtime = true;
	return 0;
}

static int add_xattr(struct tar_pax *x, const char *key, const char *value, size_t len, struct vl_err *err)
{
	for (size_t i = 0; i < x->n_xattrs; i++)
		if (vl_streq(x->xattrs[i].key, key)) { /* later wins */
			free(x->xattrs[i].value);
			x->xattrs[i].value = vl_memdup(value, len);
			x->xattrs[i].len = len;
			return 0;
		}
	if (x->n_xattrs == MAX_XATTRS)
		return vl_fail(err, E2BIG, "more than %d extended attributes on one file", MAX_XATTRS);
	x->xattrs = vl_realloc(x->xattrs, x->n_xattrs + 1, sizeof *x->xattrs);
	x->xattrs[x->n_xattrs++] = (struct img_tar_xattr){ vl_strdup(key), vl_memdup(value, len), len };
	return 0;
}

static int parse_map_text(struct tar_pax *x, const char *v, struct vl_err *err)
{
	VL_FREE char *copy = vl_strdup(v);
	char *save = NULL;
	uint64_t off, len;

	x->map.n = 0;
	for (char *a = strtok_r(copy, ",", &save); a; a = strtok_r(NULL, ",", &save)) {
		char *b = strtok_r(NULL, ",", &save);
		if (!b || vl_parse_u64(a, 0, INT64_MAX, &off) < 0 || vl_parse_u64(b, 0, INT64_MAX, &len) < 0)
			return bad("GNU.sparse.map", err);
		int r = img_map_add(&x->map, off, len, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* GNU.sparse.*: 0.0 has a record per number, 0.1 one list, 1.0 keeps the list in the content. */
static int sparse_record(struct tar_pax *x, const char *key, const char *v, struct vl_err *err)
{
	uint64_t n;
	int r;

	x->sparse = true;
	if (vl_streq(key, "name")) {
		set_text(&x->sparse_name, v);
		return 0;
	}
	if (vl_streq(key, "map"))
		return parse_map_text(x, v, err);
	if ((r = set_number(key, v, &n, err)) < 0)
		return r;
	if (vl_streq(key, "major")) {
		x->sparse_major = n;
		return n > 1 ? bad(key, err) : 0;
	}
	if (vl_streq(key, "size") || vl_streq(key, "realsize")) {
		x->sparse_size = n;
	} else if (vl_streq(key, "offset")) {
		x->half = true;
		x->half_off = n;
	} else if (vl_streq(key, "numbytes")) {
		if (!x->half)
			return bad(key, err);
		x->half = false;
		return img_map_add(&x->map, x->half_off, n, err);
	}
	return 0;
}

static int record(struct tar_pax *x, const char *key, const char *v, size_t len, struct vl_err *err)
{
	const char *rest = vl_prefix(key, "SCHILY.xattr.");
	int r = 0;

	if (rest)
		return *rest ? add_xattr(x, rest, v, len, err) : bad(key, err);
	if (strlen(v) != len)
		/* the rest are names and numbers: a NUL would mean another name to other tools */
		return vl_fail(err, EBADMSG, "a PAX record '%s' with a NUL inside", key);
	if ((rest = vl_prefix(key, "GNU.sparse.")))
		return sparse_record(x, rest, v, err);
	if (vl_streq(key, "path"))
		set_text(&x->path, v);
	else if (vl_streq(key, "linkpath"))
		set_text(&x->link, v);
	else if (vl_streq(key, "size"))
		x->has_size = *v && (r = set_number(key, v, &x->size, err)) == 0;
	else if (vl_streq(key, "uid"))
		x->has_uid = *v && (r = set_number(key, v, &x->uid, err)) == 0;
	else if (vl_streq(key, "gid"))
		x->has_gid = *v && (r = set_number(key, v, &x->gid, err)) == 0;
	else if (vl_streq(key, "mtime") && *v)
		r = set_time(x, v, err);
	return r;
}

int img_pax_parse(struct tar_pax *x, const char *text, size_t len, struct vl_err *err)
{
	const char *p = text, *end = text + len;

	while (p < end) {
		const char *space = memchr(p, ' ', (size_t)VL_MIN(end - p, 20));
		VL_FREE char *digits = space ? vl_strndup(p, (size_t)(space - p)) : NULL;
		uint64_t n;
		if (!space || vl_parse_u64(digits, 1, (uint64_t)(end - p), &n) < 0 || (size_t)(space - p) + 2 > n ||
		    p[n - 1] != '\n')
			return vl_fail(err, EBADMSG, "a PAX record whose length is wrong");
		const char *key = space + 1, *eq = memchr(key, '=', (size_t)(p + n - 1 - key));
		if (!eq || eq == key || memchr(key, 0, (size_t)(eq - key)))
			return vl_fail(err, EBADMSG, "a PAX record without a key");
		VL_FREE char *k = vl_strndup(key, (size_t)(eq - key));
		size_t vlen = (size_t)(p + n - 1 - (eq + 1));
		VL_FREE char *v = vl_alloc(vlen + 1);
		memcpy(v, eq + 1, vlen);
		int r = record(x, k, v, vlen, err);
		if (r < 0)
			return r;
		p += n;
	}
	return 0;
}

void img_pax_free(struct tar_pax *x)
{
	free(x->path);
	free(x->link);
	free(x->sparse_name);
	free(x->map.segs);
	for (size_t i = 0; i < x->n_xattrs; i++) {
		free(x->xattrs[i].key);
		free(x->xattrs[i].value);
	}
	free(x->xattrs);
	*x = (struct tar_pax){ 0 };
}
