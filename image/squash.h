/* Inode, directory and lookup tables of a squashfs over a merged tree, through libsquashfs. */
#ifndef IMAGE_SQUASH_H
#define IMAGE_SQUASH_H

#include "tree.h"
#include "unsquash.h"

/* The squashfs as libsquashfs sees it. */
struct img_squash;
/* Writes super block place and compressor options; *ret_first: where data may begin. */
int img_squash_begin(const struct img_place *place, const struct img_codec *codec, uint32_t block_size, uint32_t mtime,
		     struct img_squash **ret, uint64_t *ret_first, struct vl_err *err);
/* The same for a squashfs that is written anew: block size, codec and its options as h has them. raw: the codec
 * "none", for tables that are stored as they are. */
int img_squash_again(const struct img_place *place, const struct img_codec *raw, const struct img_unsquash_head *h,
		     struct img_squash **ret, uint64_t *ret_first, struct vl_err *err);
/* These inodes stand first in their table, in this order; folders among them do not, since they follow what is in
 * them. Borrowed until img_squash_end. */
void img_squash_first(struct img_squash *s, struct img_inode *const *list, size_t n);
/* Tables behind the data that ends at `data_end`, super block last, padded to 4096. */
int img_squash_end(struct img_squash *s, struct img_tree *t, uint64_t data_end, const struct img_fragment *frags,
		   uint32_t n_frags, uint64_t *ret_size, struct vl_err *err);
/* Everything belongs to these ids in place of its own. Before img_squash_end. */
void img_squash_owner(struct img_squash *s, uint32_t uid, uint32_t gid);
void img_squash_free(struct img_squash *s);

#endif
