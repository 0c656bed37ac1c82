/* Changing an image in place so that a crash never leaves a broken one. A slot counts only when
 * its "used" byte is set, and a byte is written whole or not at all: new data and its descriptor
 * go to disk with that byte 0, then the byte and the header follow. Deleting clears it first. */
#include "format.h"

#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#define COPY_CHUNK (1u << 20)

struct sif_edit {
	int fd; /* borrowed */
	struct sif_image img;
	bool *taken; /* per slot; NULL until the image is loaded */
	int64_t now;
	uint64_t old_size;
	struct sif_descr *added; /* data is in the file, the slot not yet */
	size_t n_added;
	uint64_t end; /* behind the last object, added ones too */
};

/* Deterministic images keep their mark: a real time would make two equal builds differ. */
static bool is_deterministic(const struct sif_header *h)
{
	static const uint8_t nil[16];
	return !memcmp(h->uuid, nil, 16) && h->created == SIF_YEAR_ONE && h->modified == SIF_YEAR_ONE;
}

int sif_edit_begin(int fd, int64_t now, struct sif_edit **ret, struct vl_err *err)
{
	SIF_EDIT struct sif_edit *e = vl_alloc(sizeof *e);

	e->fd = -1;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK
			       ? vl_fail(err, EBUSY, "another process is changing the image; try again when it is done")
			       : vl_fail_sys(err, errno, "cannot lock the image");
	e->fd = fd;
	int r = sif_load(fd, &e->img, err);
	if (r < 0)
		return r;
	e->taken = vl_alloc((size_t)e->img.h.total + 1);
	for (size_t i = 0; i < e->img.n; i++)
		e->taken[e->img.d[i].slot] = true;
	e->old_size = e->img.file_size;
	e->end = sif_data_end(&e->img);
	e->now = is_deterministic(&e->img.h) ? SIF_YEAR_ONE : now;
	*ret = vl_steal(&e);
	return 0;
}

const struct sif_image *sif_edit_image(const struct sif_edit *e)
{
	return &e->img;
}

uint32_t sif_edit_slots(const struct sif_edit *e)
{
	return (uint32_t)e->img.h.total - (uint32_t)e->img.n - (uint32_t)e->n_added;
}

static uint64_t slot_offset(const struct sif_edit *e, uint32_t slot)
{
	return (uint64_t)e->img.h.table_off + (uint64_t)slot * SIF_DESCR_SIZE;
}

static int put(const struct sif_edit *e, const void *p, size_t n, uint64_t off, struct vl_err *err)
{
	return vl_pwrite_full(e->fd, p, n, off, "the image", err);
}

static int to_disk(const struct sif_edit *e, struct vl_err *err)
{
	return fsync(e->fd) < 0 ? vl_fail_sys(err, errno, "cannot write the image to disk") : 0;
}

/* ---- adding ---- */

static bool id_taken(const struct sif_edit *e, uint32_t id)
{
	for (size_t i = 0; i < e->n_added; i++)
		if (e->added[i].id == id)
			return true;
	return sif_by_id(&e->img, id) != NULL;
}

/* Ids follow slots, unless another tool broke that: then the number behind the largest. */
static int free_id(const struct sif_edit *e, uint32_t slot, uint32_t *ret, struct vl_err *err)
{
	uint32_t max = slot;

	if (id_taken(e, slot + 1)) {
		for (size_t i = 0; i < e->img.n; i++)
			max = VL_MAX(max, e->img.d[i].id);
		for (size_t i = 0; i < e->n_added; i++)
			max = VL_MAX(max, e->added[i].id);
	}
	if (max == UINT32_MAX)
		return vl_fail(err, ENOSPC, "the image has no free object id");
	*ret = max + 1;
	return 0;
}

static int find_slot(const struct sif_edit *e, uint32_t *ret, struct vl_err *err)
{
	uint32_t total = (uint32_t)e->img.h.total;

	for (uint32_t slot = 0; slot < total; slot++)
		if (!e->taken[slot]) {
			*ret = slot;
			return 0;
		}
	return vl_fail(err, ENOSPC,
		       "the image has no free descriptor, all %u are used; delete an object, or build the image again "
		       "with more",
		       total);
}

static bool is_primary(const struct sif_descr *d)
{
	return d->type == SIF_PARTITION && sif_part_type(d) == SIF_PART_PRIMARY;
}

static const struct sif_descr *find_primary(const struct sif_edit *e)
{
	for (size_t i = 0; i < e->img.n; i++)
		if (is_primary(&e->img.d[i]))
			return &e->img.d[i];
	for (size_t i = 0; i < e->n_added; i++)
		if (is_primary(&e->added[i]))
			return &e->added[i];
	return NULL;
}

static int prepare(struct sif_edit *e, const struct sif_object *o, uint64_t size, struct sif_descr *ret,
		   struct vl_err *err)
{
	uint32_t slot = 0;
	int r = find_slot(e, &slot, err);

	if (r == 0)
		r = sif_object_descr(o, slot, e->now, ret, err);
	if (r == 0)
		r = free_id(e, slot, &ret->id, err);
	if (r == 0)
		r = sif_object_place(o, e->end, &ret->off, err);
	if (r < 0)
		return r;
	if (is_primary(ret) && find_primary(e))
		return vl_fail(err, EEXIST, "the image already has a primary system partition, object %u",
			       find_primary(e)->id);
	if (size > (uint64_t)INT64_MAX - ret->off)
		return vl_fail(err, EFBIG, "an object of %llu bytes does not fit into the image",
			       (unsigned long long)size);
	ret->size = size;
	ret->size_padded = (int64_t)(ret->off - e->end + size);
	return 0;
}

static int copy_data(const struct sif_edit *e, int src, const struct sif_descr *d, struct vl_err *err)
{
	VL_FREE char *buf = vl_alloc(COPY_CHUNK);

	for (uint64_t at = 0; at < d->size;) {
		size_t n = (size_t)VL_MIN(d->size - at, (uint64_t)COPY_CHUNK);
		int r = vl_pread_full(src, buf, n, at, "the file to add", err);
		if (r == 0)
			r = put(e, buf, n, d->off + at, err);
		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

/* Fills a gap with zeros: what a deleted object left there is nobody's padding. */
static int zero_gap(const struct sif_edit *e, uint64_t from, uint64_t to, struct vl_err *err)
{
	static const char zero[SIF_DATA_ALIGN];
	int r = 0;

	to = VL_MIN(to, e->old_size); /* behind the end of the file the kernel gives zeros */
	for (; from < to && r == 0; from += sizeof zero)
		r = put(e, zero, (size_t)VL_MIN(to - from, (uint64_t)sizeof zero), from, err);
	return r;
}

static int add(struct sif_edit *e, const struct sif_object *o, const void *data, int src, uint64_t size,
	       uint32_t *ret_id, struct vl_err *err)
{
	struct sif_descr d = { 0 };
	int r = prepare(e, o, size, &d, err);

	if (r == 0)
		r = zero_gap(e, e->end, d.off, err);
	if (r == 0)
		r = data ? put(e, data, (size_t)size, d.off, err) : copy_data(e, src, &d, err);
	if (r < 0)
		return r;
	e->added = vl_realloc(e->added, e->n_added + 1, sizeof *e->added);
	e->added[e->n_added++] = d;
	e->taken[d.slot] = true;
	e->end = d.off + size;
	if (ret_id)
		*ret_id = d.id;
	return 0;
}

int sif_edit_add(struct sif_edit *e, const struct sif_object *o, const void *data, size_t len, uint32_t *ret_id,
		 struct vl_err *err)
{
	return add(e, o, data, -1, len, ret_id, err);
}

int sif_edit_add_fd(struct sif_edit *e, const struct sif_object *o, int src, uint32_t *ret_id, struct vl_err *err)
{
	struct stat st, own;

	if (fstat(src, &st) < 0 || fstat(e->fd, &own) < 0)
		return vl_fail_sys(err, errno, "cannot stat the file to add");
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "the file to add is not a regular file");
	if (st.st_dev == own.st_dev && st.st_ino == own.st_ino)
		return vl_fail(err, EINVAL, "an image cannot be added to itself");
	return add(e, o, NULL, src, (uint64_t)st.st_size, ret_id, err);
}

/* ---- making it part of the image ---- */

/* Counts are made anew: those in the file need not be right. */
static int put_header(struct sif_edit *e, struct vl_err *err)
{
	struct sif_header *h = &e->img.h;
	int64_t table_end = h->table_off + h->total * (int64_t)SIF_DESCR_SIZE;
	const struct sif_descr *primary = find_primary(e);
	uint8_t b[SIF_HEADER_SIZE];

	memcpy(h->arch, primary ? (const char *)primary->extra + SIF_PART_ARCH : "00", sizeof h->arch);
	h->free = sif_edit_slots(e);
	if (h->data_off < table_end || (uint64_t)h->data_off > e->end)
		h->data_off = table_end;
	h->data_size = (int64_t)e->end - h->data_off;
	h->modified = e->now;
	sif_header_encode(h, b);
	return put(e, b, sizeof b, 0, err);
}

static int put_slots(struct sif_edit *e, struct vl_err *err)
{
	uint8_t b[SIF_DESCR_SIZE];
	int r = 0;

	for (size_t i = 0; i < e->n_added && r == 0; i++) {
		sif_descr_encode(&e->added[i], b);
		b[SIF_DESCR_USED] = 0;
		r = put(e, b, sizeof b, slot_offset(e, e->added[i].slot), err);
	}
	return r;
}

static int set_used(struct sif_edit *e, uint8_t used, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < e->n_added && r == 0; i++)
		r = put(e, &used, 1, slot_offset(e, e->added[i].slot) + SIF_DESCR_USED, err);
	return r;
}

int sif_edit_commit(struct sif_edit *e, struct vl_err *err)
{
	struct vl_err ignored;
	int r = put_slots(e, err);

	if (r == 0)
		r = to_disk(e, err);
	if (r < 0)
		return r;
	r = set_used(e, 1, err);
	if (r == 0)
		r = put_header(e, err);
	if (r == 0)
		r = to_disk(e, err);
	if (r < 0) {
		set_used(e, 0, &ignored);
		return r;
	}
	e->img.d = vl_realloc(e->img.d, e->img.n + e->n_added + 1, sizeof *e->img.d);
	if (e->n_added)
		memcpy(e->img.d + e->img.n, e->added, e->n_added * sizeof *e->added);
	e->img.n += e->n_added;
	e->n_added = 0;
	e->old_size = e->img.file_size = VL_MAX(e->old_size, e->end);
	return 0;
}

/* An error before commit: slots and data that nobody refers to go away again. */
static void forget(struct sif_edit *e)
{
	static const uint8_t zero[SIF_DESCR_SIZE];
	struct vl_err ignored;
	struct stat st;

	for (size_t i = 0; i < e->n_added; i++)
		put(e, zero, sizeof zero, slot_offset(e, e->added[i].slot), &ignored);
	if (fstat(e->fd, &st) == 0 && (uint64_t)st.st_size > e->old_size && ftruncate(e->fd, (off_t)e->old_size) < 0)
		return; /* trailing bytes are harmless */
}

void sif_edit_end(struct sif_edit *e)
{
	if (!e)
		return;
	int keep = errno;
	if (e->fd >= 0) {
		if (e->taken)
			forget(e);
		flock(e->fd, LOCK_UN);
	}
	sif_free(&e->img);
	free(e->added);
	free(e->taken);
	free(e);
	errno = keep;
}

void sif_edit_endp(struct sif_edit **e)
{
	sif_edit_end(*e);
	*e = NULL;
}

/* ---- deleting, choosing the primary ---- */

static struct sif_descr *find(struct sif_edit *e, uint32_t id)
{
	for (size_t i = 0; i < e->img.n; i++)
		if (e->img.d[i].id == id)
			return &e->img.d[i];
	return NULL;
}

int sif_edit_del(struct sif_edit *e, uint32_t id, struct vl_err *err)
{
	static const uint8_t zero[SIF_DESCR_SIZE];
	struct sif_descr *d = find(e, id);

	if (!d)
		return vl_fail(err, ENOENT, "the image has no object %u", id);
	uint64_t at = slot_offset(e, d->slot);
	int r = put(e, zero, 1, at + SIF_DESCR_USED, err);
	if (r == 0)
		r = to_disk(e, err);
	if (r == 0)
		r = put(e, zero, sizeof zero, at, err);
	if (r < 0)
		return r;
	e->taken[d->slot] = false;
	size_t i = (size_t)(d - e->img.d);
	memmove(d, d + 1, (e->img.n - i - 1) * sizeof *d);
	e->img.n--;
	r = put_header(e, err);
	return r == 0 ? to_disk(e, err) : r;
}

static int set_part_type(struct sif_edit *e, struct sif_descr *d, uint32_t type, struct vl_err *err)
{
	uint64_t at = slot_offset(e, d->slot);
	uint8_t b[8];

	vl_put_le32(d->extra + SIF_PART_TYPE, type);
	d->modified = e->now;
	vl_put_le64(b, (uint64_t)d->modified);
	int r = put(e, b, sizeof b, at + SIF_DESCR_MODIFIED, err);
	return r == 0 ? put(e, d->extra + SIF_PART_TYPE, 4, at + SIF_DESCR_EXTRA + SIF_PART_TYPE, err) : r;
}

int sif_edit_setprim(struct sif_edit *e, uint32_t id, struct vl_err *err)
{
	struct sif_descr *d = find(e, id);
	int r = 0;

	if (!d)
		return vl_fail(err, ENOENT, "the image has no object %u", id);
	if (is_primary(d))
		return 0;
	if (d->type != SIF_PARTITION || sif_part_type(d) != SIF_PART_SYSTEM)
		return vl_fail(err, EINVAL, "object %u is not a system partition and cannot be the primary one", id);
	/* the old one first: stopped between the two, the image has no primary, never two */
	for (size_t i = 0; i < e->img.n && r == 0; i++)
		if (is_primary(&e->img.d[i]))
			r = set_part_type(e, &e->img.d[i], SIF_PART_SYSTEM, err);
	if (r == 0)
		r = to_disk(e, err);
	if (r == 0)
		r = set_part_type(e, d, SIF_PART_PRIMARY, err);
	if (r == 0)
		r = put_header(e, err);
	return r == 0 ? to_disk(e, err) : r;
}
