/* Between the files of `doctor`: each looks at one subject and says a line for each thing it looked at. */
#ifndef CMD_DOCTOR_H
#define CMD_DOCTOR_H

#include "run.h"

enum doctor_state { DOCTOR_OK, DOCTOR_NOTE, DOCTOR_PROBLEM }; /* a problem: containers cannot run */

struct doctor {
	struct cmd_ctx *c;
	const struct cmd_doctor_opts *o;
	struct action_image image; /* kind counts only when there is one: image.path */
	bool namespaces;           /* what follows may be tried */
	bool problem;
	vl_json *lines; /* of --json, else NULL */
};

/* why: NULL = nothing to add. mend: a command, or NULL. */
void cmd_doctor_say(struct doctor *d, enum doctor_state state, const char *what, const char *why, const char *mend);
/* What a step of a start came to: r as it was returned. A command that mends it is part of the text: "...; as root: .." */
void cmd_doctor_step(struct doctor *d, enum doctor_state bad, const char *what, int r, const struct vl_err *err,
		     const char *good);
char *cmd_doctor_program(const char *name); /* in PATH or the system's directories; new, or NULL */

void cmd_doctor_kernel(struct doctor *d); /* doctor_kernel.c: namespaces, mounts, the image server */
void cmd_doctor_files(struct doctor *d);  /* doctor_files.c: image, cache, runtime directory, TMPDIR */
void cmd_doctor_host(struct doctor *d);   /* doctor_host.c: cgroups, ids, helpers, devices, Slurm, network */

#endif
