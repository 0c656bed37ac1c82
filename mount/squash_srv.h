/* The parts of the FUSE session, for mount/squash_srv*.c only. */
#ifndef MOUNT_SQUASH_SRV_H
#define MOUNT_SQUASH_SRV_H

#define FUSE_USE_VERSION 312
#include "squash.h"

#include <fuse_lowlevel.h>
#include <time.h>

enum srv_count { SRV_LOOKUP, SRV_GETATTR, SRV_READLINK, SRV_READ, SRV_READDIR, SRV_STATFS, SRV_BYTES, SRV_COUNTS };

struct vmnt_session {
	struct squash sq;
	struct sq_virtuals virt;
	struct fuse_session *fuse;
	struct vmnt_image image; /* without its places */
	uid_t uid;
	gid_t gid;
	bool all_ids;
	time_t started;
	char *buf; /* one reply */
	size_t buf_size;
	struct squash control; /* the control thread's own reader, opened when it is needed */
	bool control_open;
	_Atomic uint64_t count[SRV_COUNTS];
};

extern const struct fuse_lowlevel_ops vmnt_srv_ops;

#endif
