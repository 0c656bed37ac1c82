/* Where a squashfs is written: a part of a file, or of one that is encrypted on its way there. */
#ifndef IMAGE_PLACE_H
#define IMAGE_PLACE_H

#include <vial/sif.h>

struct img_place {
	int fd;
	uint64_t base;             /* where it begins in fd */
	struct sif_encrypt *crypt; /* NULL, or all goes through it, and fd and base are its own */
};

static inline int img_place_read(const struct img_place *p, void *ret, size_t n, uint64_t at, struct vl_err *err)
{
	return p->crypt ? sif_encrypt_read(p->crypt, ret, n, at, err)
			: vl_pread_full(p->fd, ret, n, p->base + at, "the image", err);
}

static inline int img_place_write(const struct img_place *p, const void *data, size_t n, uint64_t at,
				  struct vl_err *err)
{
	return p->crypt ? sif_encrypt_write(p->crypt, data, n, at, err)
			: vl_pwrite_full(p->fd, data, n, p->base + at, "the image", err);
}

/* Starts the disk early: the fsync at the end then finds little to do. A hint only. */
void img_place_flush(const struct img_place *p, uint64_t from, uint64_t to);

/* ---- vault.c: the partition of an encrypted image, around its squashfs ---- */

struct img_vault;
/* *ret_place: where to write the squashfs, borrowed. */
int img_vault_begin(int fd, uint64_t base, const char *secret, size_t n, uint32_t mtime, struct img_vault **ret,
		    struct img_place *ret_place, struct vl_err *err);
/* size: of that squashfs. *ret_size: of the partition. */
int img_vault_end(struct img_vault *v, uint64_t size, uint64_t *ret_size, struct vl_err *err);
void img_vault_free(struct img_vault *v);

#endif
