/* Containers with a name: what instance.c and instance_keep.c share. */
#ifndef ROOTLESS_INSTANCE_H
#define ROOTLESS_INSTANCE_H

#include "emulate.h"
#include "hold.h"

/* ---- instance.c ---- */

#define CTR_INSTANCE_FILE (CTR_INSTANCE_NAME_MAX + 8)
/* Names of an instance's socket and record in the directory of instances. */
void ctr_instance_socket(const char *name, char ret[CTR_INSTANCE_FILE]);
void ctr_instance_record(const char *name, char ret[CTR_INSTANCE_FILE]);
/* That directory, in a runtime directory of the caller's. Descriptor above 2, or -errno. */
int ctr_instance_dir(unsigned which, bool make, struct vl_err *err);
/* The first that can be used, made if it is not there. */
int ctr_instance_dir_first(struct vl_err *err);
/* Under the lock of dir: removes what is there of an instance. */
void ctr_instance_remove(int dir, const char *name);

/* What is said on an instance's socket: nothing, for the way in, or this and a number, for its end. */
#define CTR_INSTANCE_STOP "stop "
#define CTR_INSTANCE_WORD 32

/* Clock ticks since boot when the process began, 0 when there is none: a pid with another one is another process. */
uint64_t ctr_pid_start(pid_t pid);
/* Bytes of a record: command line, environment, paths. */
#define CTR_INSTANCE_RECORD_MAX (1u << 20)
/* Kills the processes in n mount namespaces and the caller's children, until there are none. */
void ctr_kill_all(const uint64_t *mnt, size_t n);

/* ---- instance_keep.c ---- */

/* In the container, once it is complete: starts its program and stays, until told to stop. Never returns but for an
 * error. */
int ctr_instance_keep(const struct plan *p, struct ctr_start *s, struct vl_err *err);

#endif
