/* Reading a squashfs 4.0 image that may lie about everything.
 *
 * Format: Documentation/filesystems/squashfs.rst of the kernel. libsquashfuse supplies the
 * decompressors; its own readers trust sizes and offsets of the image (an offset past the end of
 * a metadata block or of a fragment is used as it comes), so the walk over the structures is done
 * here, with each number checked against what was really read. Anything wrong is -EIO.
 */
#ifndef MOUNT_SQUASH_H
#define MOUNT_SQUASH_H

#include <vial/mount.h>

#define SQ_META_SIZE 8192u
#define SQ_NAME_MAX 255u
#define SQ_LINK_MAX 4095u /* the kernel hands out one page */
#define SQ_NONE32 0xffffffffu
#define SQ_NONE64 0xffffffffffffffffull

enum sq_type {
	SQ_DIR = 1,
	SQ_REG,
	SQ_LINK,
	SQ_BLK,
	SQ_CHR,
	SQ_FIFO,
	SQ_SOCK,
	SQ_LDIR,
	SQ_LREG,
	SQ_LLINK,
	SQ_LBLK,
	SQ_LCHR,
	SQ_LFIFO,
	SQ_LSOCK
};

/* ---- squash_cache.c: decompressed blocks, least recently used goes first ---- */

struct sq_block {
	uint64_t pos;  /* in the image; 0 = empty slot (the superblock is there) */
	uint32_t disk; /* bytes on disk, header included */
	uint32_t size; /* bytes of data */
	uint8_t *data;
	uint64_t used;
};
struct sq_cache {
	struct sq_block *slot;
	size_t n, cap; /* slots; bytes of data in each */
	uint64_t clock;
};
void vmnt_cache_init(struct sq_cache *c, size_t slots, size_t cap);
void vmnt_cache_free(struct sq_cache *c);
struct sq_block *vmnt_cache_find(struct sq_cache *c, uint64_t pos);
/* The slot to fill for pos; it is empty until the caller sets its pos. */
struct sq_block *vmnt_cache_victim(struct sq_cache *c);

/* ---- squash_srv_unpack.c: the only user of squashfuse ---- */

/* Bytes written to out, or -EIO. */
int vmnt_unpack(unsigned compression, void *in, size_t n, void *out, size_t cap);
const char *vmnt_unpack_name(unsigned compression); /* NULL: not supported here */

/* ---- squash_read.c ---- */

struct sq_super {
	uint32_t inodes, block_size, fragments;
	uint16_t compression, ids;
	uint64_t root, used; /* inode reference; bytes of the whole file system */
	uint64_t id_table, xattr_table, inode_table, dir_table, frag_table;
};

struct sq_cursor {      /* a place in a chain of metadata blocks */
	uint64_t block; /* position in the image */
	uint64_t end;   /* where the table ends */
	uint32_t off;   /* in the decompressed block */
};

struct sq_walk {       /* how far the block list of one file has been walked */
	uint64_t ref;  /* inode; SQ_NONE64 = free */
	uint64_t next; /* number of the block that cur and data stand at */
	struct sq_cursor cur;
	uint64_t data; /* position of that block's data */
	struct sq_mark {
		struct sq_cursor cur;
		uint64_t data;
	} * mark;       /* every `every` blocks */
	uint64_t every; /* doubles when SQ_MARKS are reached */
	size_t n_marks;
	uint64_t used;
};
#define SQ_WALKS 16
#define SQ_MARK_EVERY 512
#define SQ_MARKS 8192 /* 256 KiB; at 128 KiB a block, 512 GiB before places get rarer */

struct sq_dir { /* a directory listing being read */
	uint64_t ref;
	struct sq_cursor cur;
	uint32_t pos, total;   /* bytes of the listing */
	uint32_t count, start; /* entries left of the current header; its inode block */
	uint32_t number;
};
#define SQ_DIR_HINTS 8

struct squash {
	int fd;
	uint64_t off;
	struct sq_super super;
	uint32_t *ids;
	uint64_t *frag_blocks;
	uint8_t *packed; /* scratch for one compressed block */
	struct sq_cache meta, data;
	struct sq_walk walk[SQ_WALKS];
	struct sq_dir hint[SQ_DIR_HINTS]; /* where the last listings were interrupted */
	unsigned next_hint;
	uint64_t clock;
	uint64_t work; /* done for the question at hand; whoever asks sets it to 0 */
};
/* A few hundred kilobytes of an image can unpack to lists of gigabytes, and who follows one answers
 * nobody else meanwhile: past this, in about nanoseconds, a question is answered with -EIO. It is
 * enough to find the end of a file of 4 TiB, or a name among 3 million without an index. */
#define SQ_WORK_MAX (1ull << 28)

struct sq_inode {
	uint64_t ref;
	uint16_t type, mode; /* mode with the file type */
	uint32_t uid, gid, mtime, number, nlink, rdev, xattr;
	uint64_t size;
	struct sq_cursor rest; /* what follows the fixed part: block list, index or link target */
	/* regular files */
	uint64_t start;
	uint32_t frag, frag_off;
	/* directories */
	uint32_t dir_block, parent;
	uint16_t dir_off, index;
};

struct sq_entry {
	char name[SQ_NAME_MAX + 1];
	uint64_t ref;
	uint32_t number;
	uint16_t type; /* basic type */
	uint32_t end;  /* place in the listing after this entry */
};

int vmnt_sq_super(const struct vmnt_image *image, struct sq_super *ret, struct vl_err *err);
int vmnt_sq_open(struct squash *s, const struct vmnt_image *image, struct vl_err *err);
void vmnt_sq_close(struct squash *s);
int vmnt_sq_meta(struct squash *s, struct sq_cursor *c, void *buf, size_t n);
int vmnt_sq_inode(struct squash *s, uint64_t ref, struct sq_inode *ret);
int vmnt_sq_link(struct squash *s, const struct sq_inode *i, char ret[SQ_LINK_MAX + 1]);
/* Bytes read, 0 at the end, -EIO. */
ssize_t vmnt_sq_read(struct squash *s, const struct sq_inode *i, uint64_t off, void *buf, size_t n);

/* ---- squash_dir.c ---- */

/* Stands before the entry whose predecessor ended at `pos` (0 = first). */
int vmnt_sq_dir(struct squash *s, const struct sq_inode *i, uint32_t pos, struct sq_dir *ret);
/* 1 and an entry, 0 at the end, -EIO. */
int vmnt_sq_next(struct squash *s, struct sq_dir *d, struct sq_entry *ret);
void vmnt_sq_dir_hint(struct squash *s, const struct sq_dir *d);
int vmnt_sq_lookup(struct squash *s, const struct sq_inode *i, const char *name, struct sq_entry *ret); /* -ENOENT */

/* ---- virtual.c: places that the image lacks ---- */

struct sq_virtual {
	uint64_t parent; /* node id */
	char *name;
	bool dir;
};
#define SQ_VIRTUALS_MAX 4096 /* a start has some ten; each costs a look when a name is not there */
struct sq_virtuals {
	struct sq_virtual *v; /* SQ_VIRTUALS_MAX of them from the first plan on */
	_Atomic size_t n;
};
#define SQ_VIRTUAL (1ull << 62) /* node id = SQ_VIRTUAL | index */
/* Node ids are stateless: root is 1 (a FUSE rule), others their inode reference + 2. */
uint64_t vmnt_node_of(const struct squash *s, uint64_t ref);
uint64_t vmnt_ref_of(const struct squash *s, uint64_t node);
/* Adds what is missing to l (zeros at first). -ENOSPC: SQ_VIRTUALS_MAX are there. */
int vmnt_virtual_plan(struct squash *s, const struct vmnt_place *places, size_t n, struct sq_virtuals *l);
/* Index of the first one at or after `from` below that parent (and with that name, unless NULL), or -1. */
ssize_t vmnt_virtual_find(const struct sq_virtuals *l, size_t from, uint64_t parent, const char *name);
void vmnt_virtual_free(struct sq_virtuals *l);

/* ---- squash_srv_session.c: the FUSE session ---- */

struct vmnt_session;
int vmnt_session_new(const struct vmnt_image *image, int fusefd, struct vmnt_session **ret, struct vl_err *err);
/* Returns when the mount is gone. control: a socket to be served meanwhile, taken; -1: none. */
void vmnt_session_loop(struct vmnt_session *s, int control);
void vmnt_session_free(struct vmnt_session *s);
/* For the control thread: no request may be in its hands, or it would wait for itself. */
int vmnt_session_add_places(struct vmnt_session *s, const struct vmnt_place *places, size_t n, struct vl_err *err);
char *vmnt_session_stats(struct vmnt_session *s); /* returns new */

/* ---- jail.c ---- */

/* From here on this process may only use what it has open, and memory. Needs no_new_privs. */
int vmnt_jail(struct vl_err *err);
bool vmnt_jail_works(void); /* false: no filter for this architecture, kernel or (sanitizer) build */

/* ---- control.c ---- */

#define VMNT_GO_CONTROL 'c'                                /* in the message that starts the server: keep the socket */
void vmnt_control_serve(int sock, struct vmnt_session *s); /* returns when nobody holds the other end */

#endif
