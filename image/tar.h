/* A strict reader of layer tars: ustar, PAX, GNU long names, all four sparse formats.
 *
 * Why not libarchive here: it turns PAX names into NFC (two files of a layer become one), cuts
 * names at a NUL and passes over records that are longer than their header (docs/architecture.md
 * has the experiment). An image must mean the same here as to the tools that made it, so names
 * are bytes and what is malformed is refused.
 */
#ifndef IMAGE_TAR_H
#define IMAGE_TAR_H

#include <vial/base.h>

#define IMG_TAR_MAX_META (1u << 20) /* PAX header or long name; Docker's limit as well */

struct img_tar_xattr {
	char *key;
	void *value;
	size_t len;
};
struct img_tar_entry {
	char type; /* '0' file, '1' hard link, '2' symbolic link, '3' char, '4' block, '5' folder, '6' FIFO */
	char *path, *link;
	uint32_t mode; /* as stored */
	uint64_t uid, gid, size, major, minor;
	int64_t mtime; /* seconds, rounded down */
	struct img_tar_xattr *xattrs;
	size_t n_xattrs;
};

/* Where the bytes come from: the next piece, valid until the next call; *ret_len 0 = the end. */
typedef int img_tar_source(void *arg, const void **ret, size_t *ret_len, struct vl_err *err);

struct img_tar;
struct img_tar *img_tar_new(img_tar_source *source, void *arg);
void img_tar_free(struct img_tar *t);
/* 1 and the next entry, borrowed until the next call; 0 at the end of the archive. Content that
 * was not asked for is passed over. */
int img_tar_next(struct img_tar *t, const struct img_tar_entry **ret, struct vl_err *err);
/* 1 and a piece of the entry's content that belongs at *ret_off; 0 when there is no more. What no
 * piece covers, up to the entry's size, is a hole. */
int img_tar_data(struct img_tar *t, const void **ret, size_t *ret_len, uint64_t *ret_off, struct vl_err *err);

#endif
