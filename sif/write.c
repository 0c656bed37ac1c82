/* A new image in one pass. The table and the header are written last, so that a file whose
 * making was interrupted is not an image. */
#include "format.h"

#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>

struct sif_writer {
	int fd; /* borrowed */
	struct sif_header h;
	int64_t time;
	uint32_t used;  /* slots */
	uint64_t end;   /* behind the last object */
	uint8_t *table; /* encoded slots */
	bool streaming;
	struct sif_descr current; /* of the open stream */
};

void sif_uuid_random(uint8_t ret[16])
{
	while (getrandom(ret, 16, 0) != 16)
		;
	ret[6] = (uint8_t)((ret[6] & 0x0f) | 0x40); /* version 4 */
	ret[8] = (uint8_t)((ret[8] & 0x3f) | 0x80); /* RFC 4122 variant */
}

int sif_writer_new(int fd, const struct sif_new *how, struct sif_writer **ret, struct vl_err *err)
{
	const char *launch = how->launch ? how->launch : SIF_LAUNCH;
	uint32_t slots = how->slots ? how->slots : SIF_DEFAULT_SLOTS;
	struct stat st;

	if (strlen(launch) > sizeof((struct sif_header *)0)->launch - 1)
		return vl_fail(err, EINVAL, "the launch line has %zu bytes, the header holds 31", strlen(launch));
	if (slots > SIF_MAX_DESCRIPTORS)
		return vl_fail(err, EINVAL, "%u descriptors are over the limit of %u", slots, SIF_MAX_DESCRIPTORS);
	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat the new image");
	if (st.st_size != 0)
		return vl_fail(err, EEXIST, "the new image is not empty");

	struct sif_writer *w = vl_alloc(sizeof *w);
	w->fd = fd;
	w->time = how->time;
	w->table = vl_alloc((size_t)slots * SIF_DESCR_SIZE);
	memcpy(w->h.launch, launch, strlen(launch));
	memcpy(w->h.magic, sif_magic, sizeof w->h.magic);
	memcpy(w->h.version, sif_version, sizeof w->h.version);
	memcpy(w->h.arch, "00", sizeof w->h.arch);
	memcpy(w->h.uuid, how->uuid, sizeof w->h.uuid);
	w->h.created = w->h.modified = how->time;
	w->h.total = slots;
	w->h.table_off = SIF_TABLE_OFF;
	w->h.table_size = (int64_t)slots * SIF_DESCR_SIZE;
	w->h.data_off = w->h.table_off + w->h.table_size;
	w->end = (uint64_t)w->h.data_off;
	*ret = w;
	return 0;
}

int sif_object_descr(const struct sif_object *o, uint32_t slot, int64_t time, struct sif_descr *ret, struct vl_err *err)
{
	struct sif_descr d = {
		.slot = slot, .type = o->type, .used = 1, .id = slot + 1, .group = o->group, .link = o->link
	};
	const char *name = o->name ? o->name : "", *code;

	if (strlen(name) > sizeof d.name - 1)
		return vl_fail(err, ENAMETOOLONG, "the object name '%.40s...' has %zu bytes, 127 are possible", name,
			       strlen(name));
	if (o->group & SIF_GROUP_MASK)
		return vl_fail(err, EINVAL, "group %u is over the limit of %u", o->group, ~SIF_GROUP_MASK);
	memcpy(d.name, name, strlen(name));
	d.created = d.modified = time;
	if (o->type == SIF_PARTITION) {
		code = o->arch ? sif_arch_code(o->arch) : NULL;
		if (!code)
			return vl_fail(err, EINVAL, "a partition needs a known architecture, not '%s'",
				       o->arch ? o->arch : "");
		vl_put_le32(d.extra, o->fs);
		vl_put_le32(d.extra + SIF_PART_TYPE, o->part);
		memcpy(d.extra + SIF_PART_ARCH, code, 3);
	} else {
		memcpy(d.extra, o->extra, sizeof d.extra);
	}
	*ret = d;
	return 0;
}

int sif_object_place(const struct sif_object *o, uint64_t from, uint64_t *ret, struct vl_err *err)
{
	uint64_t align = o->align ? o->align : o->type == SIF_PARTITION ? SIF_DATA_ALIGN : 1;
	uint64_t gap = from % align ? align - from % align : 0;

	if (from > INT64_MAX || gap > (uint64_t)INT64_MAX - from)
		return vl_fail(err, EFBIG, "an object aligned to %llu bytes does not fit into the image",
			       (unsigned long long)align);
	*ret = from + gap;
	return 0;
}

static bool is_primary(const struct sif_object *o)
{
	return o->type == SIF_PARTITION && o->part == SIF_PART_PRIMARY;
}

int sif_writer_stream(struct sif_writer *w, const struct sif_object *o, uint64_t *ret_off, struct vl_err *err)
{
	struct sif_descr d;

	if (w->streaming)
		return vl_fail(err, EBUSY, "an object of the new image is still being written");
	if (w->used == w->h.total)
		return vl_fail(err, ENOSPC, "the new image has no descriptor left; all %u are used", w->used);
	if (is_primary(o) && memcmp(w->h.arch, "00", 3))
		return vl_fail(err, EEXIST, "the new image already has a primary system partition");
	int r = sif_object_descr(o, w->used, w->time, &d, err);
	if (r < 0)
		return r;
	r = sif_object_place(o, w->end, &d.off, err);
	if (r < 0)
		return r;
	w->current = d;
	w->streaming = true;
	*ret_off = d.off;
	return 0;
}

uint32_t sif_writer_id(const struct sif_writer *w)
{
	return w->streaming ? w->current.id : w->used;
}

int sif_writer_stream_end(struct sif_writer *w, uint64_t size, struct vl_err *err)
{
	struct sif_descr *d = &w->current;

	if (!w->streaming)
		return vl_fail(err, EINVAL, "no object of the new image is being written");
	if (size > (uint64_t)INT64_MAX - d->off)
		return vl_fail(err, EFBIG, "an object of %llu bytes does not fit into the image",
			       (unsigned long long)size);
	d->size = size;
	d->size_padded = (int64_t)(d->off - w->end + size);
	sif_descr_encode(d, w->table + (size_t)d->slot * SIF_DESCR_SIZE);
	if (d->type == SIF_PARTITION && sif_part_type(d) == SIF_PART_PRIMARY)
		memcpy(w->h.arch, d->extra + SIF_PART_ARCH, 3);
	w->end = d->off + size;
	w->used++;
	w->streaming = false;
	return 0;
}

int sif_writer_add(struct sif_writer *w, const struct sif_object *o, const void *data, size_t len, struct vl_err *err)
{
	uint64_t off;
	int r = sif_writer_stream(w, o, &off, err);

	if (r < 0)
		return r;
	r = vl_pwrite_full(w->fd, data, len, off, "the new image", err);
	if (r < 0) {
		w->streaming = false;
		return r;
	}
	return sif_writer_stream_end(w, len, err);
}

int sif_writer_end(struct sif_writer *w, struct vl_err *err)
{
	uint8_t b[SIF_HEADER_SIZE];
	struct stat st;

	if (w->streaming)
		return vl_fail(err, EBUSY, "an object of the new image is still being written");
	int r = vl_pwrite_full(w->fd, w->table, (size_t)w->h.table_size, (uint64_t)w->h.table_off, "the new image",
			       err);
	if (r < 0)
		return r;
	if (fstat(w->fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat the new image");
	if ((uint64_t)st.st_size < w->end)
		return vl_fail(err, EIO, "the new image has %lld bytes, its objects say %llu", (long long)st.st_size,
			       (unsigned long long)w->end);
	/* a streamed object may have been written further than it counts */
	if ((uint64_t)st.st_size > w->end && ftruncate(w->fd, (off_t)w->end) < 0)
		return vl_fail_sys(err, errno, "cannot cut the new image to its size");
	w->h.free = w->h.total - w->used;
	w->h.data_size = (int64_t)w->end - w->h.data_off;
	sif_header_encode(&w->h, b);
	return vl_pwrite_full(w->fd, b, sizeof b, 0, "the new image", err);
}

void sif_writer_free(struct sif_writer *w)
{
	if (w)
		free(w->table);
	free(w);
}
