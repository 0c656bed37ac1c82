/* What root can do to ids, where only one id exists: answered "done" instead of refused. */
#ifndef ROOTLESS_EMULATE_H
#define ROOTLESS_EMULATE_H

#include <vial/base.h>

/* The ids that a process of the container believes to have: real, effective, saved. */
struct emu_ids {
	uint32_t uid[3], gid[3];
	bool keeps_caps; /* giving up uid 0 leaves it the right to change ids: PR_SET_KEEPCAPS */
};
enum emu_call {
	EMU_SETID,    /* setuid: one argument */
	EMU_SETREID,  /* real, effective */
	EMU_SETRESID, /* real, effective, saved */
};
/* One of those calls as the kernel would decide it, on `which`, the uid or gid part of ids. 0 or -EPERM, and then
 * nothing has changed. */
int ctr_emulate_set(struct emu_ids *ids, bool gid, enum emu_call call, const uint32_t arg[3]);

/* The process that remembers these ids, in a new process beside the container's. It lives as long as a process
 * that has the filter. */
struct ctr_emulation {
	int sock;
};
#define CTR_EMULATION_INIT                                                                                             \
	{                                                                                                              \
		.sock = -1                                                                                             \
	}
void ctr_emulation_free(struct ctr_emulation *e);
/* While there are capabilities: the process keeps the one to write into the memory of others. */
int ctr_emulation_start(struct ctr_emulation *e, struct vl_err *err);
/* At the very end: puts the filter on the caller and its descendants. */
int ctr_emulation_enter(struct ctr_emulation *e, struct vl_err *err);

#endif
