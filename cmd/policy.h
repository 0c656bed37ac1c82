/* The policy, for commands: what is asked of which file. */
#ifndef CMD_POLICY_H
#define CMD_POLICY_H

#include "cmd.h"

#include <vial/policy.h>

/* $XDG_CONFIG_HOME/vial/SUB or ~/.config/vial/SUB, NULL without either; and the site's. Return new. */
char *cmd_user_dir(const char *sub);
char *cmd_site_dir(const char *sub) VL_NEW;

struct policy_image {
	int fd; /* borrowed: the one that will be mounted */
	enum pol_kind kind;
	enum pol_use use;
	uint64_t off, size; /* of a SIF, the partition in use */
	const char *name;   /* for messages */
};

/* ---- policy.c ---- */

int cmd_policy_load(struct pol *ret, struct vl_err *err);
/* What is known without a look into the file. */
void cmd_policy_facts(const struct policy_image *i, struct pol_facts *ret);
/* The rest, by a process without privileges. */
int cmd_policy_look(struct cmd_ctx *c, const struct pol *p, const struct policy_image *i, struct pol_facts *f,
		    struct vl_err *err);
/* May it be used? -EACCES: no, and err says by which rule. A warning is printed. *ret_tree: what is mounted must be checked
 * by its hash tree; NULL: the caller cannot, so this is refused. Without policy files: two directories that are not
 * there. */
int cmd_policy_ask(struct cmd_ctx *c, const struct policy_image *i, bool *ret_tree, struct vl_err *err);

/* ---- policy_child.c ---- */

struct policy_question { /* goes along with the descriptor */
	uint32_t use;
	uint64_t off, size;
};
int cmd_policy_look_by_child(struct cmd_ctx *c, const struct policy_image *i, const struct vl_strv *roots,
			     struct pol_facts *f, struct vl_err *err);

#endif
