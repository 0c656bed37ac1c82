/* The loader. No length or offset of the file is believed before it was compared with the
 * file's real size, and every comparison subtracts from a known-good number instead of adding
 * to a bad one. What passes here is safe to seek to and to map. */
#include "format.h"

#include <sys/stat.h>

#define CHUNK_SLOTS 448u /* 256 KB of table at a time: memory follows used slots, not the count */

static int check_header(const struct sif_header *h, uint64_t file_size, struct vl_err *err)
{
	if (memcmp(h->magic, sif_magic, sizeof sif_magic))
		return vl_fail(err, ENOEXEC, "not a SIF image: no SIF magic at byte 32");
	if (memcmp(h->version, sif_version, sizeof sif_version)) {
		VL_FREE char *v =
			vl_printable((const char *)h->version, strnlen((const char *)h->version, sizeof h->version));
		return vl_fail(err, EINVAL, "SIF format version '%s' is not known; this program reads version 01", v);
	}
	if (h->total < 0 || h->total > SIF_MAX_DESCRIPTORS)
		return vl_fail(err, EINVAL, "broken SIF image: %lld descriptors in the header, 0 to %u are possible",
			       (long long)h->total, SIF_MAX_DESCRIPTORS);
	uint64_t need = (uint64_t)h->total * SIF_DESCR_SIZE;
	if (h->table_off < (int64_t)SIF_HEADER_SIZE || (uint64_t)h->table_off > file_size)
		return vl_fail(err, EINVAL, "broken SIF image: descriptor table at offset %lld, outside the file",
			       (long long)h->table_off);
	if (need > file_size - (uint64_t)h->table_off)
		return vl_fail(err, EINVAL,
			       "broken or truncated SIF image: the table of %lld descriptors passes the file's end",
			       (long long)h->total);
	if (h->table_size < 0 || (uint64_t)h->table_size < need)
		return vl_fail(err, EINVAL, "broken SIF image: table size %lld is too small for %lld descriptors",
			       (long long)h->table_size, (long long)h->total);
	return 0;
}

static int check_descr(const struct sif_image *img, const struct sif_descr *d, struct vl_err *err)
{
	uint64_t table = (uint64_t)img->h.table_off;
	uint64_t table_end = table + (uint64_t)img->h.total * SIF_DESCR_SIZE;

	if (d->id == 0)
		return vl_fail(err, EINVAL, "broken SIF image: the object in slot %u has id 0", d->slot);
	if (d->off > img->file_size || d->size > img->file_size - d->off)
		return vl_fail(
			err, EINVAL,
			"broken or truncated SIF image: object %u (offset %lld, size %lld) passes the end of the "
			"file at %llu",
			d->id, (long long)d->off, (long long)d->size, (unsigned long long)img->file_size);
	if (d->off < SIF_HEADER_SIZE)
		return vl_fail(err, EINVAL, "broken SIF image: object %u lies over the header", d->id);
	if (d->off < table_end && d->off + d->size > table)
		return vl_fail(err, EINVAL, "broken SIF image: object %u lies over the descriptor table", d->id);
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

/* Two descriptors with one id: which of them a link or a signature means would be a guess. */
static int check_ids(const struct sif_image *img, struct vl_err *err)
{
	VL_FREE uint32_t *ids = vl_alloc((img->n + 1) * sizeof *ids);

	for (size_t i = 0; i < img->n; i++)
		ids[i] = img->d[i].id;
	qsort(ids, img->n, sizeof *ids, by_number);
	for (size_t i = 1; i < img->n; i++)
		if (ids[i] == ids[i - 1])
			return vl_fail(err, EINVAL, "broken SIF image: two objects have the id %u", ids[i]);
	return 0;
}

static int load_table(struct sif_image *img, struct vl_err *err)
{
	uint32_t total = (uint32_t)img->h.total, chunk = VL_MIN(total, CHUNK_SLOTS);
	VL_FREE uint8_t *buf = vl_alloc((size_t)chunk * SIF_DESCR_SIZE + 1);
	size_t cap = 0;
	int r;

	for (uint32_t slot = 0; slot < total; slot++) {
		uint32_t in_chunk = slot % CHUNK_SLOTS;
		uint8_t *b = buf + (size_t)in_chunk * SIF_DESCR_SIZE;
		if (in_chunk == 0) {
			uint32_t n = VL_MIN(total - slot, chunk);
			r = vl_pread_full(img->fd, buf, (size_t)n * SIF_DESCR_SIZE,
					  (uint64_t)img->h.table_off + (uint64_t)slot * SIF_DESCR_SIZE,
					  "the descriptor table", err);
			if (r < 0)
				return r;
		}
		if (!b[SIF_DESCR_USED])
			continue;
		if (img->n == cap) {
			cap = cap ? cap * 2 : 8;
			img->d = vl_realloc(img->d, cap, sizeof *img->d);
		}
		sif_descr_decode(b, slot, &img->d[img->n]);
		r = check_descr(img, &img->d[img->n], err);
		if (r < 0)
			return r;
		img->n++;
	}
	return check_ids(img, err);
}

int sif_load(int fd, struct sif_image *ret, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = fd };
	uint8_t b[SIF_HEADER_SIZE];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat the image");
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, ENOEXEC, "not a SIF image: not a regular file");
	img.file_size = (uint64_t)st.st_size;
	if (img.file_size < SIF_HEADER_SIZE)
		return vl_fail(err, ENOEXEC, "not a SIF image: %llu bytes cannot hold a SIF header",
			       (unsigned long long)img.file_size);
	int r = vl_pread_full(fd, b, sizeof b, 0, "the SIF header", err);
	if (r < 0)
		return r;
	sif_header_decode(b, &img.h);
	r = check_header(&img.h, img.file_size, err);
	if (r < 0)
		return r;
	r = load_table(&img, err);
	if (r < 0)
		return r;
	*ret = img;
	img.d = NULL;
	return 0;
}

void sif_free(struct sif_image *img)
{
	int keep = errno;
	free(img->d);
	*img = (struct sif_image){ .fd = -1 };
	errno = keep;
}

const struct sif_descr *sif_by_id(const struct sif_image *img, uint32_t id)
{
	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].id == id)
			return &img->d[i];
	return NULL;
}

const struct sif_descr *sif_by_name(const struct sif_image *img, uint32_t type, const char *name)
{
	for (size_t i = 0; i < img->n; i++) {
		const struct sif_descr *d = &img->d[i];
		if (d->type == type && (!*name || !strncmp((const char *)d->name, name, sizeof d->name)))
			return d;
	}
	return NULL;
}

uint32_t sif_part_fs(const struct sif_descr *d)
{
	return vl_le32(d->extra);
}

uint32_t sif_part_type(const struct sif_descr *d)
{
	return vl_le32(d->extra + SIF_PART_TYPE);
}

void sif_part_arch(const struct sif_descr *d, char ret[4])
{
	memcpy(ret, d->extra + SIF_PART_ARCH, 3);
	ret[3] = 0;
}

int sif_primary(const struct sif_image *img, const struct sif_descr **ret, struct vl_err *err)
{
	const struct sif_descr *found = NULL;

	for (size_t i = 0; i < img->n; i++) {
		const struct sif_descr *d = &img->d[i];
		if (d->type != SIF_PARTITION || sif_part_type(d) != SIF_PART_PRIMARY)
			continue;
		if (found)
			return vl_fail(err, EINVAL, "the image has two primary system partitions, objects %u and %u",
				       found->id, d->id);
		found = d;
	}
	if (!found)
		return vl_fail(err, EINVAL, "the image has no primary system partition");
	*ret = found;
	return 0;
}

int sif_read_object(const struct sif_image *img, const struct sif_descr *d, size_t limit, char **ret, size_t *ret_len,
		    struct vl_err *err)
{
	if (d->size > limit)
		return vl_fail(err, EFBIG, "object %u has %llu bytes, over the limit of %zu for a %s object", d->id,
			       (unsigned long long)d->size, limit, sif_type_name(d->type));
	VL_FREE char *data = vl_alloc((size_t)d->size + 1);
	VL_FREE char *what = vl_asprintf("object %u", d->id);
	int r = vl_pread_full(img->fd, data, (size_t)d->size, d->off, what, err);
	if (r < 0)
		return r;
	*ret = vl_steal(&data);
	if (ret_len)
		*ret_len = (size_t)d->size;
	return 0;
}

uint64_t sif_data_end(const struct sif_image *img)
{
	uint64_t end = (uint64_t)img->h.table_off + (uint64_t)img->h.total * SIF_DESCR_SIZE;

	for (size_t i = 0; i < img->n; i++)
		end = VL_MAX(end, img->d[i].off + img->d[i].size);
	return end;
}
