/* The parts of the FUSE session, for mount/squash_srv*.c only. */
#ifndef MOUNT_SQUASH_SRV_H
#define MOUNT_SQUASH_SRV_H

#define FUSE_USE_VERSION 312
#include "squash.h"

#include <fuse_lowlevel.h>
#include <time.h>

enum srv_count {
	SRV_LOOKUP,
	SRV_GETATTR,
	SRV_READLINK,
	SRV_READ,
	SRV_READDIR,
	SRV_STATFS,
	SRV_XATTR,
	SRV_LSEEK,
	SRV_BYTES,
	SRV_COUNTS
};

/* Files read of late, in small sets: within one, the least read makes place. */
struct srv_file {
	uint64_t ref, next; /* inode; where its last read ended */
	uint64_t reads, bytes;
};
#define SRV_WARM 128 /* questions before threads are started: a short program ends sooner without */
#define SRV_SETS 64
#define SRV_SET 4
#define SRV_EXPECTED 16 /* readers that each go through files in the order of the image */

struct srv_worker { /* a thread that answers */
	struct vmnt_session *s;
	struct squash sq;
	bool listening;
	char *buf; /* one reply */
	size_t buf_size;
};

struct vmnt_session {
	struct squash sq; /* the first reader; nobody reads with it once threads run */
	struct sq_virtuals virt;
	struct fuse_session *fuse;
	struct vmnt_image image;   /* without its places */
	struct srv_record *record; /* NULL: nothing is recorded */
	int statm;                 /* /proc/self/statm, or -1 */
	int cpu;                   /* where questions are answered at first, or -1 */
	time_t started;
	pthread_key_t key; /* each thread's srv_worker */
	pthread_mutex_t lock;
	struct srv_file file[SRV_SETS][SRV_SET]; /* under the lock, as what follows */
	uint64_t expected[SRV_EXPECTED];         /* inodes of the files after those read last; 0: none */
	unsigned next_expected;
	_Atomic uint64_t count[SRV_COUNTS];
	_Atomic unsigned max_threads;
	_Atomic unsigned asked; /* by the kernel; stops at SRV_WARM */

	pthread_mutex_t turn; /* for what follows */
	pthread_cond_t next;
	bool listening, ended;  /* a thread waits for questions; the mount is gone */
	unsigned idle, threads; /* wait for their turn; there are */
};

extern const struct fuse_lowlevel_ops vmnt_srv_ops;

static inline void vmnt_srv_count(struct vmnt_session *s, enum srv_count what, uint64_t n)
{
	atomic_fetch_add_explicit(&s->count[what], n, memory_order_relaxed);
}
/* squash_srv_record.c. Remembers what of the file is asked for; n 0: the inode alone. */
struct srv_record *vmnt_record_new(void);
void vmnt_record_free(struct srv_record *r); /* NULL is fine */
void vmnt_srv_record(struct vmnt_session *s, const struct sq_inode *i, uint64_t off, uint64_t n);
/* Remembers a read. True: the file is being read in order. */
bool vmnt_srv_note_read(struct vmnt_session *s, uint64_t ref, uint64_t off, uint64_t n);
/* Remembers that a file was read to its end, and which one comes next. True: so it came itself. */
bool vmnt_srv_note_end(struct vmnt_session *s, uint64_t ref, uint64_t next);

#endif
