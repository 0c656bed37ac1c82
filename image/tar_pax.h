/* PAX records and sparse maps of the tar reader. */
#ifndef IMAGE_TAR_PAX_H
#define IMAGE_TAR_PAX_H

#include "tar.h"

#define TAR_MAX_SEGMENTS (1u << 20)

struct tar_seg {
	uint64_t off, len;
};
struct tar_map {
	struct tar_seg *segs;
	size_t n, cap;
};
int img_map_add(struct tar_map *m, uint64_t off, uint64_t len, struct vl_err *err);
void img_map_move(struct tar_map *to, struct tar_map *from);
/* Parts in order, inside the file, and together exactly the stored bytes. */
int img_map_check(const struct tar_map *m, uint64_t size, uint64_t stored, struct vl_err *err);

struct tar_pax {
	char *path, *link, *sparse_name;
	bool has_size, has_uid, has_gid, has_mtime, sparse, half; /* half: an offset waits for its length */
	uint64_t size, uid, gid, sparse_size, half_off;
	uint64_t sparse_major;
	int64_t mtime;
	struct tar_map map;
	struct img_tar_xattr *xattrs;
	size_t n_xattrs;
};
/* Adds the records of one header: later ones win. */
int img_pax_parse(struct tar_pax *x, const char *text, size_t len, struct vl_err *err);
void img_pax_free(struct tar_pax *x);

#endif
