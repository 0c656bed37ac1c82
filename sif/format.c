/* Bytes to fields and back; nothing here judges what it reads. */
#include "format.h"

const uint8_t sif_magic[10] = "SIF_MAGIC"; /* the NUL belongs to it */
const uint8_t sif_version[3] = "01";

void sif_header_decode(const uint8_t b[SIF_HEADER_SIZE], struct sif_header *ret)
{
	memcpy(ret->launch, b, sizeof ret->launch);
	memcpy(ret->magic, b + 32, sizeof ret->magic);
	memcpy(ret->version, b + 42, sizeof ret->version);
	memcpy(ret->arch, b + SIF_HEADER_ARCH, sizeof ret->arch);
	memcpy(ret->uuid, b + 48, sizeof ret->uuid);
	ret->created = (int64_t)vl_le64(b + 64);
	ret->modified = (int64_t)vl_le64(b + 72);
	ret->free = (int64_t)vl_le64(b + 80);
	ret->total = (int64_t)vl_le64(b + 88);
	ret->table_off = (int64_t)vl_le64(b + 96);
	ret->table_size = (int64_t)vl_le64(b + 104);
	ret->data_off = (int64_t)vl_le64(b + 112);
	ret->data_size = (int64_t)vl_le64(b + 120);
}

void sif_header_encode(const struct sif_header *h, uint8_t ret[SIF_HEADER_SIZE])
{
	memcpy(ret, h->launch, sizeof h->launch);
	memcpy(ret + 32, h->magic, sizeof h->magic);
	memcpy(ret + 42, h->version, sizeof h->version);
	memcpy(ret + SIF_HEADER_ARCH, h->arch, sizeof h->arch);
	memcpy(ret + 48, h->uuid, sizeof h->uuid);
	vl_put_le64(ret + 64, (uint64_t)h->created);
	vl_put_le64(ret + 72, (uint64_t)h->modified);
	vl_put_le64(ret + 80, (uint64_t)h->free);
	vl_put_le64(ret + 88, (uint64_t)h->total);
	vl_put_le64(ret + 96, (uint64_t)h->table_off);
	vl_put_le64(ret + 104, (uint64_t)h->table_size);
	vl_put_le64(ret + 112, (uint64_t)h->data_off);
	vl_put_le64(ret + 120, (uint64_t)h->data_size);
}

void sif_descr_decode(const uint8_t b[SIF_DESCR_SIZE], uint32_t slot, struct sif_descr *ret)
{
	ret->slot = slot;
	ret->type = vl_le32(b);
	ret->used = b[SIF_DESCR_USED];
	ret->id = vl_le32(b + 5);
	ret->group = vl_le32(b + 9) & ~SIF_GROUP_MASK;
	ret->link = vl_le32(b + 13);
	ret->off = vl_le64(b + 17);
	ret->size = vl_le64(b + 25);
	ret->size_padded = (int64_t)vl_le64(b + 33);
	ret->created = (int64_t)vl_le64(b + 41);
	ret->modified = (int64_t)vl_le64(b + SIF_DESCR_MODIFIED);
	ret->uid = (int64_t)vl_le64(b + 57);
	ret->gid = (int64_t)vl_le64(b + 65);
	memcpy(ret->name, b + 73, sizeof ret->name);
	memcpy(ret->extra, b + SIF_DESCR_EXTRA, sizeof ret->extra);
}

void sif_descr_encode(const struct sif_descr *d, uint8_t ret[SIF_DESCR_SIZE])
{
	vl_put_le32(ret, d->type);
	ret[SIF_DESCR_USED] = d->used;
	vl_put_le32(ret + 5, d->id);
	vl_put_le32(ret + 9, d->group | SIF_GROUP_MASK);
	vl_put_le32(ret + 13, d->link);
	vl_put_le64(ret + 17, d->off);
	vl_put_le64(ret + 25, d->size);
	vl_put_le64(ret + 33, (uint64_t)d->size_padded);
	vl_put_le64(ret + 41, (uint64_t)d->created);
	vl_put_le64(ret + SIF_DESCR_MODIFIED, (uint64_t)d->modified);
	vl_put_le64(ret + 57, (uint64_t)d->uid);
	vl_put_le64(ret + 65, (uint64_t)d->gid);
	memcpy(ret + 73, d->name, sizeof d->name);
	memcpy(ret + SIF_DESCR_EXTRA, d->extra, sizeof d->extra);
}
