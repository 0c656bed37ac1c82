/* On-disk layout of SIF version 01, private to this folder. Field tables: docs/sif.md.
 * Structures on disk are packed and may sit at any offset, so fields are read and written
 * one by one; no struct is ever laid over a buffer. */
#ifndef SIF_FORMAT_H
#define SIF_FORMAT_H

#include <vial/sif.h>

#define SIF_HEADER_SIZE 128u
#define SIF_DESCR_SIZE 585u
#define SIF_TABLE_OFF 4096u /* where we put the table; readers must not rely on it */

/* Offsets that edits write alone: one byte decides whether a slot exists. */
#define SIF_DESCR_USED 4u
#define SIF_DESCR_MODIFIED 49u
#define SIF_DESCR_EXTRA 201u
#define SIF_PART_TYPE 4u /* inside extra */
#define SIF_PART_ARCH 8u
#define SIF_HEADER_ARCH 45u

extern const uint8_t sif_magic[10], sif_version[3];

void sif_header_decode(const uint8_t b[SIF_HEADER_SIZE], struct sif_header *ret);
void sif_header_encode(const struct sif_header *h, uint8_t ret[SIF_HEADER_SIZE]);
void sif_descr_decode(const uint8_t b[SIF_DESCR_SIZE], uint32_t slot, struct sif_descr *ret);
void sif_descr_encode(const struct sif_descr *d, uint8_t ret[SIF_DESCR_SIZE]);

/* A new object's descriptor without place and size: checks type, name and partition fields. */
int sif_object_descr(const struct sif_object *o, uint32_t slot, int64_t time, struct sif_descr *ret,
		     struct vl_err *err);
/* First offset >= from where the object may begin; -EFBIG when that passes what int64 holds. */
int sif_object_place(const struct sif_object *o, uint64_t from, uint64_t *ret, struct vl_err *err);
/* Offset behind the furthest used object, at least the end of the table. */
uint64_t sif_data_end(const struct sif_image *img);

#endif
