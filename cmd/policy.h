/* The policy, for commands: what is asked of which file. */
#ifndef CMD_POLICY_H
#define CMD_POLICY_H

#include "cmd.h"

#include <vial/policy.h>

struct cmd_verified; /* run.h */
struct policy_image {
	int fd;     /* borrowed: the one that will be mounted */
	int origin; /* borrowed: the one whose path counts, when fd is a copy of it; else 0 */
	enum pol_kind kind;
	enum pol_use use;
	uint64_t off, size; /* of a SIF, the partition in use */
	const char *name;   /* for messages */
	bool tree;          /* the mount can be checked by the image's hash tree */
};

/* ---- policy.c ---- */

int cmd_policy_load(struct pol *ret, struct vl_err *err);
/* What is known without a look into the file. */
void cmd_policy_facts(const struct policy_image *i, struct pol_facts *ret);
/* The rest, by a process without privileges, vial-verify. ret: NULL, or what the mount must be checked against when the
 * signatures were checked by way of the hash tree (f->by_tree); otherwise it stays as it is. */
int cmd_policy_look(const struct pol *p, const struct policy_image *i, struct pol_facts *f, struct cmd_verified *ret,
		    struct vl_err *err);
/* May it be used? -EACCES: no, and err says by which rule. A warning is printed. ret: filled in when what is mounted must
 * be checked by its hash tree; NULL: the caller cannot, so this is refused. Without policy files: two directories that
 * are not there. */
int cmd_policy_ask(struct cmd_ctx *c, const struct policy_image *i, struct cmd_verified *ret, struct vl_err *err);

/* ---- policy_child.c ---- */

int cmd_policy_look_by_child(const struct policy_image *i, const struct vl_strv *roots, struct pol_facts *f,
			     struct cmd_verified *ret, struct vl_err *err);

#endif
