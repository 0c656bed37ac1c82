/* A directory of the host as the one layer of an image. */
#ifndef IMAGE_DIR_H
#define IMAGE_DIR_H

#include "blocks.h"
#include "tree.h"

/* Reads everything below rootfd (borrowed) without following links; names in sorted order, so
 * that the same tree gives the same image. Hard links are found by device and inode. without_places: it is a container's, and
 * what is there only to be mounted on (VL_PLACE_NSEC) is left out. */
int img_dir_read(int rootfd, const char *path, struct img_blocks *b, const struct vl_progress *progress,
		 bool without_places, struct img_log *log, struct vl_err *err);
/* The names in a directory, in the order of their bytes. -errno. */
int img_dir_names(int dirfd, struct vl_strv *ret);
/* Of any file, also one opened with O_PATH; without those of the host's own. *ret is new, and set on failure too;
 * NULL = none. 0 or -errno. */
int img_dir_xattrs(int fd, struct img_xattrs **ret);
uint8_t img_dir_type(mode_t m); /* enum img_type */

#endif
