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

#include <pthread.h>
#include <stdatomic.h>

#define SQ_SUPER_SIZE 96
#define SQ_META_SIZE 8192u
#define SQ_NAME_MAX 255u
#define SQ_NAME_ASKED 256u /* the kernel's reader: what statfs tells, and longer names cannot be asked for */
#define SQ_LINK_MAX 4095u  /* the kernel hands out one page */
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

/* ---- squash_cache.c: decompressed blocks, shared by all threads ---- */

enum sq_state { SQ_EMPTY, SQ_FILLING, SQ_READY, SQ_FAILED };
struct sq_block {      /* who holds it may read all but the links */
	uint64_t pos;  /* in the image; 0 = none (the superblock is there) */
	uint32_t disk; /* bytes on disk, header included (metadata) */
	uint32_t size; /* bytes of data */
	uint8_t *data;
	unsigned refs;
	enum sq_state state;
	bool spent;                     /* the first to be taken again */
	struct sq_block *next;          /* with the same hash */
	struct sq_block *older, *newer; /* of those that nobody holds */
};
struct sq_cache {
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a block is ready, or free */
	unsigned waiting;
	struct sq_block *slot, **head, *oldest, *newest;
	size_t n, heads;
	uint8_t *memory;
	uint64_t hits, misses;
};
void vmnt_cache_init(struct sq_cache *c, size_t slots, size_t cap);
void vmnt_cache_free(struct sq_cache *c);
/* The block at pos (not 0), held; NULL: who was filling it failed. *ret_fill: it is the caller's to fill, and
 * vmnt_cache_filled must follow. */
struct sq_block *vmnt_cache_get(struct sq_cache *c, uint64_t pos, bool *ret_fill);
/* For all to see; not good: it is let go of, and NULL returned. */
struct sq_block *vmnt_cache_filled(struct sq_cache *c, struct sq_block *b, bool good);
void vmnt_cache_put(struct sq_cache *c, struct sq_block *b);
/* The same of one that has served: its memory, which the CPU has near, is taken for the next block. */
void vmnt_cache_put_spent(struct sq_cache *c, struct sq_block *b);
bool vmnt_cache_has(struct sq_cache *c, uint64_t pos); /* or somebody is at it */
void vmnt_cache_count(struct sq_cache *c, uint64_t *ret_hits, uint64_t *ret_misses);

/* ---- squash_srv_unpack.c: the decompressors ---- */

/* Bytes written to out, or -EIO. state: of one thread, NULL at first, for vmnt_unpack_free in the end. */
int vmnt_unpack(unsigned compression, void **state, void *in, size_t n, void *out, size_t cap);
void vmnt_unpack_free(void *state);
const char *vmnt_unpack_name(unsigned compression); /* NULL: not supported here */

/* ---- squash_ahead.c: a thread that unpacks what will be asked for ---- */

struct sq_place { /* a block of data */
	uint64_t pos;
	uint32_t word, skip; /* its size as the image has it; where the file begins in it */
	bool tail;           /* a fragment: ends of many files */
};
#define SQ_AHEAD_MAX 4
struct sq_ahead {
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct sq_place queue[SQ_AHEAD_MAX];
	size_t n;
	_Atomic size_t max; /* 0: there is no such thread */
	_Atomic size_t room;
	uint64_t done;
};
struct squash;
void vmnt_ahead_init(struct sq_ahead *a);
void vmnt_ahead_free(struct sq_ahead *a);
void vmnt_ahead_start(struct sq_ahead *a); /* there is a thread */
bool vmnt_ahead_idle(struct sq_ahead *a);
bool vmnt_ahead_push(struct sq_ahead *a, const struct sq_place *at); /* false: too much waits already */
void vmnt_ahead_cancel(struct sq_ahead *a, uint64_t pos);
void vmnt_ahead_loop(struct squash *s) __attribute__((noreturn));

/* ---- squash_open.c ---- */

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
#define SQ_MARKS 2048 /* 64 KiB; at 128 KiB a block, 128 GiB before places get rarer */

struct sq_dir { /* a directory listing being read */
	uint64_t ref;
	struct sq_cursor cur;
	uint32_t pos, total;   /* bytes of the listing */
	uint32_t count, start; /* entries left of the current header; its inode block */
	uint32_t number;
};
#define SQ_DIR_HINTS 32

/* ---- squash_front.c: places where much is read at a time ---- */

#define SQ_FRONTS 8
#define SQ_FRONT_CHUNK (1u << 20)
#define SQ_FRONT_SLOTS 16
#define SQ_FRONT_SHARE 4 /* of the memory: by default all slots */
struct sq_front {
	pthread_mutex_t lock; /* for the slots */
	pthread_cond_t changed;
	struct vmnt_extent extent[SQ_FRONTS];
	size_t n, slots;
	struct sq_front_slot {
		uint64_t pos, used, given; /* bytes that were asked for */
		size_t len;                /* 0: nothing */
		bool filling;
		uint8_t *data;
	} slot[SQ_FRONT_SLOTS];
	uint64_t clock;
};
void vmnt_front_init(struct sq_front *f, const struct vmnt_image *image, uint64_t used);
void vmnt_front_free(struct sq_front *f);
/* n bytes at pos. False: they are not in such a place, or cannot be had that way. */
bool vmnt_front_read(const struct squash *s, void *p, size_t n, uint64_t pos);

/* ---- squash_tree.c: nothing is used that the hash tree does not vouch for ---- */

struct sq_tree;
/* For as many threads as will read at a time. */
struct sq_tree *vmnt_tree_new(const struct vmnt_image *image, unsigned threads);
void vmnt_tree_free(struct sq_tree *t); /* NULL is fine */
/* n bytes at pos, which lie in the tree's data. They are the very bytes that were hashed. */
int vmnt_tree_read(struct squash *s, void *p, size_t n, uint64_t pos);
/* Blocks hashed, and those that were not right. */
void vmnt_tree_count(const struct sq_tree *t, uint64_t *ret_hashed, uint64_t *ret_bad);
uint64_t vmnt_tree_memory(const struct sq_tree *t); /* bytes that its cache may fill */

struct sq_shared { /* by all readers of an image */
	struct sq_front front;
	struct sq_cache meta, data;
	uint32_t *ids;
	uint64_t *frag_blocks;
	struct sq_ahead ahead;
	pthread_mutex_t lock;             /* for what follows up to the empty line */
	struct sq_dir hint[SQ_DIR_HINTS]; /* where the last listings were interrupted */
	unsigned next_hint;

	_Atomic uint64_t unpacked, unpack_ns;
};

#define SQ_HELD 4
struct squash { /* one reader: of one thread */
	int fd;
	uint64_t off;
	struct sq_super super;
	uint64_t xattr_first; /* where names and values begin */
	uint32_t xattr_sets;
	struct sq_shared *sh;
	struct sq_tree *tree; /* shared; NULL: nothing is checked */
	uint8_t *span;        /* scratch for the blocks that a read lies in; NULL at first */
	bool owner;           /* of what is shared */
	uint8_t *packed;      /* scratch for one compressed block */
	void *unpacker;
	struct sq_block *held[SQ_HELD]; /* metadata used last */
	unsigned next_held;
	struct sq_walk walk[SQ_WALKS];
	uint64_t clock;
	uint64_t work;           /* done for the question at hand; whoever asks sets it to 0 */
	void (*slow)(void *arg); /* NULL, or called before a block of data is unpacked */
	void *slow_arg;
};
/* A few hundred kilobytes of an image can unpack to lists of gigabytes, and who follows one answers
 * nobody else meanwhile: past this, in about nanoseconds, a question is answered with -EIO. It is
 * enough to find the end of a file of 4 TiB, or a name among 3 million without an index. */
#define SQ_WORK_MAX (1ull << 28)

struct sq_inode {
	uint64_t ref;
	uint16_t type, mode; /* mode with the file type */
	uint32_t uid, gid, mtime, number, nlink, rdev, xattr;
	uint64_t size, sparse; /* bytes; of which no block is stored, at most all */
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

/* The first reader, owner of what all share: closed last. */
int vmnt_sq_open(struct squash *s, const struct vmnt_image *image, struct vl_err *err);
/* Another one, for another thread. */
void vmnt_sq_reader(const struct squash *s, struct squash *ret);
void vmnt_sq_close(struct squash *s);

/* ---- squash_block.c ---- */

int vmnt_sq_pread(struct squash *s, void *p, size_t n, uint64_t pos);     /* within the image, or -EIO */
int vmnt_sq_pread_raw(struct squash *s, void *p, size_t n, uint64_t pos); /* unchecked: for squash_tree.c */
int vmnt_sq_meta(struct squash *s, struct sq_cursor *c, void *buf, size_t n);
void vmnt_sq_let_go(struct squash *s); /* of metadata it holds */
/* A block of data or fragments, held: vmnt_cache_put. NULL when it cannot be had. */
struct sq_block *vmnt_sq_data(struct squash *s, const struct sq_place *at);
/* The same, of exactly n bytes, past the cache. */
int vmnt_sq_data_to(struct squash *s, const struct sq_place *at, void *out, size_t n);

/* ---- squash_inode.c ---- */

int vmnt_sq_inode(struct squash *s, uint64_t ref, struct sq_inode *ret);
int vmnt_sq_link(struct squash *s, const struct sq_inode *i, char ret[SQ_LINK_MAX + 1]);

/* ---- squash_path.c ---- */

/* Links lead to places of the image, as in a container of it. -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG, -EIO. */
int vmnt_sq_find(struct squash *s, const char *path, struct sq_inode *ret);

/* ---- squash_file.c ---- */

/* Bytes read, 0 at the end, -EIO. */
ssize_t vmnt_sq_read(struct squash *s, const struct sq_inode *i, uint64_t off, void *buf, size_t n);
/* Unpacks the first blocks of a file into the cache. */
void vmnt_sq_warm(struct squash *s, const struct sq_inode *i, uint64_t blocks);
/* Where the next hole begins, or else the next data, at or after off; the end of the file is a hole. -ENXIO, -EIO. */
int vmnt_sq_seek(struct squash *s, const struct sq_inode *i, uint64_t off, bool hole, uint64_t *ret);
/* The file is read in order and up to off: the next block, if a thread has nothing else to do. */
void vmnt_sq_read_ahead(struct squash *s, const struct sq_inode *i, uint64_t off);
/* The regular file whose inode comes next in the table, or -ENOENT. Writers of images go from directory to directory,
 * and so do most who read them whole. */
int vmnt_sq_next_file(struct squash *s, const struct sq_inode *i, struct sq_inode *ret);
/* Files are read in that order and i was to its end: its begin, and the fragment after that of i. */
void vmnt_sq_next_ahead(struct squash *s, const struct sq_inode *i, const struct sq_inode *next);

/* ---- squash_xattr.c ---- */

#define SQ_XATTR_MAX 65536 /* the kernel's limit for a value and for a list of names */
int vmnt_sq_xattr_open(struct squash *s);
/* Both fill up to SQ_XATTR_MAX bytes and return how many; -ENODATA, -EIO. */
ssize_t vmnt_sq_xattr_get(struct squash *s, const struct sq_inode *i, const char *name, void *buf);
ssize_t vmnt_sq_xattr_list(struct squash *s, const struct sq_inode *i, char *buf);

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
int vmnt_virtual_plan(struct squash *s, const struct vmnt_place *places, size_t n, struct sq_virtuals *l,
		      struct vl_err *err);
/* Index of the first one at or after `from` below that parent (and with that name, unless NULL), or -1. */
ssize_t vmnt_virtual_find(const struct sq_virtuals *l, size_t from, uint64_t parent, const char *name);
void vmnt_virtual_free(struct sq_virtuals *l);

/* ---- squash_srv_session.c: the FUSE session ---- */

struct vmnt_session;
/* statm: /proc/self/statm, for statistics; -1: none. */
int vmnt_session_new(const struct vmnt_image *image, int fusefd, int statm, struct vmnt_session **ret,
		     struct vl_err *err);
/* Returns when the mount is gone. control: a socket to be served meanwhile, taken; -1: none. */
void vmnt_session_loop(struct vmnt_session *s, int control);
void vmnt_session_free(struct vmnt_session *s);
/* For the control thread: no request may be in its hands, or it would wait for itself. */
int vmnt_session_add_places(struct vmnt_session *s, const struct vmnt_place *places, size_t n, struct vl_err *err);
/* What was recorded, from number `from` on, `max` at most. */
size_t vmnt_session_record(struct vmnt_session *s, size_t from, struct vmnt_read *ret, size_t max);
char *vmnt_session_stats(struct vmnt_session *s); /* returns new */
/* After the loop: the line for the image's `report`. user: whose mount it was. */
void vmnt_session_report(struct vmnt_session *s, pid_t user);

/* ---- report.c ---- */

/* A string of JSON. A name may be any bytes, JSON takes UTF-8 only: all but plain letters are spelled out as
 * vl_printable does. */
void vmnt_json_text(struct vl_buf *b, const char *s);

/* ---- jail.c ---- */

/* From here on this process may only use what it has open, and memory. Needs no_new_privs. */
int vmnt_jail(struct vl_err *err);
bool vmnt_jail_works(void); /* false: no filter for this architecture, kernel or (sanitizer) build */

/* ---- control.c ---- */

#define VMNT_GO_CONTROL 'c'                                /* in the message that starts the server: keep the socket */
void vmnt_control_serve(int sock, struct vmnt_session *s); /* returns when nobody holds the other end */

#endif
