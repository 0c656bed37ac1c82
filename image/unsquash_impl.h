/* Between the files that read a squashfs: unsquash_open.c (the file, its tables), unsquash_inode.c (inodes and their
 * attributes), unsquash_content.c (what is in files), unsquash.c (the walk). Of all functions here: 0, or one of libsquashfs's
 * errors, which img_unsq_damaged() makes ours; or ours, where they take an err. */
#ifndef IMAGE_UNSQUASH_IMPL_H
#define IMAGE_UNSQUASH_IMPL_H

#include "unsquash.h"

#include "codec.h"

#include <sqfs/block.h>
#include <sqfs/error.h>
#include <sqfs/frag_table.h>
#include <sqfs/id_table.h>
#include <sqfs/io.h>
#include <sqfs/meta_reader.h>
#include <sqfs/super.h>

/* Words of block lists in all, when they are asked for: 8 TiB in blocks of 128 KiB, 256 MiB of memory. */
#define IMG_UNSQ_MAX_WORDS (64u << 20)
#define META_START sizeof(sqfs_super_t)
#define NO_INDEX 0xFFFFFFFFu
#define DAMAGED SQFS_ERROR_CORRUPTED

enum { DIR_TYPE = 1, FILE_TYPE, SLINK_TYPE, BDEV_TYPE, CDEV_TYPE, FIFO_TYPE, SOCKET_TYPE, N_TYPES = SOCKET_TYPE };

struct window { /* the partition as the only file that libsquashfs sees */
	sqfs_file_t base;
	int fd;
	uint64_t off, size;
	uint64_t loads;    /* left */
	struct vl_err err; /* what really went wrong, for the message */
};

struct inode {
	uint16_t type; /* basic one */
	struct img_attr attr;
	uint32_t nlink, xattr;
	uint64_t start, size; /* file: data and bytes; folder: listing, relative to its table, and bytes */
	uint64_t sparse;      /* file: bytes in holes */
	uint32_t offset;      /* folder: in the first block of the listing */
	uint32_t frag, frag_off;
	uint64_t ref;
	char target[IMG_MAX_PATH + 1];
};

struct frame {          /* a folder that is being walked */
	uint64_t block; /* where its listing goes on */
	size_t offset;
	uint64_t left;    /* bytes of the listing */
	uint32_t entries; /* left under the current header */
	uint32_t inode_block;
	size_t path_len;
	char last[IMG_MAX_NAME + 1]; /* name before: the order is checked */
};

struct img_unsquash {
	const struct img_unsquash_visitor *v;
	struct window *file;
	sqfs_super_t super;
	sqfs_compressor_t *c;
	sqfs_id_table_t *ids;
	sqfs_frag_table_t *frags;
	sqfs_meta_reader_t *inodes, *dirs, *xattrs;
	uint64_t xattr_table; /* of keys and values; 0 = none */
	uint32_t n_xattrs;
	struct img_budget budget;
	uint64_t max_size;
	uint64_t work;  /* bytes that may still be decompressed: blocks can be shared */
	uint64_t words; /* of block lists that may still be read, for who asks where files lie */
	struct img_unsquash_head head;
	uint32_t *list; /* of the file at hand */
	size_t list_cap;
	uint8_t *packed, *block, *frag;
	uint64_t frag_at; /* which fragment block is in frag; UINT64_MAX = none */
	uint32_t frag_len;
	struct img_table seen; /* folders, by ref */
	struct vl_buf path;
	struct frame *frames;
	size_t depth, cap;
};

/* ---- unsquash_open.c ---- */

int img_unsq_read(struct img_unsquash *u, uint64_t at, void *p, size_t n);
/* code: one of libsquashfs's; what: the part that is wrong, of the path at hand. Returns a negative errno. */
int img_unsq_damaged(struct img_unsquash *u, int code, const char *what, struct vl_err *err);

/* ---- unsquash_inode.c ---- */

int img_unsq_inode(struct img_unsquash *u, uint64_t ref, struct inode *ret);
/* *ret is new, also on failure, or NULL: none. */
int img_unsq_xattrs(struct img_unsquash *u, uint32_t index, struct img_xattrs **ret);
void img_unsq_xattrs_free(struct img_xattrs **x);

/* ---- unsquash_content.c ---- */

/* size_word: as in the inode or fragment table. *ret_n bytes of out. */
int img_unsq_unpack(struct img_unsquash *u, uint64_t at, uint32_t size_word, uint8_t *out, uint32_t *ret_n);
/* To the visitor. The inode reader stands at the file's block list. */
int img_unsq_send_content(struct img_unsquash *u, const struct inode *i, struct vl_err *err);
/* The same, but where the content lies. */
int img_unsq_send_layout(struct img_unsquash *u, const struct inode *i, struct vl_err *err);

#endif
