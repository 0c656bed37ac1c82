/* Images mounted among the files of this mount namespace, as the kernel lists them. */
#ifndef CMD_MOUNTS_H
#define CMD_MOUNTS_H

#include "cmd.h"

struct cmd_mounted {
	char *dir, *type, *source, *options, *super; /* options: of the mount, super: of the file system */
	unsigned major, minor;
	uid_t uid; /* whose it is, when `ours` */
	bool ours; /* made by vial, and not a container's root directory */
};
struct cmd_mounted_list {
	struct cmd_mounted *v;
	size_t n;
};
/* All mounts in the order of /proc/self/mountinfo: of two on one directory the later one is seen. */
int cmd_mounted_read(struct cmd_mounted_list *ret, struct vl_err *err);
void cmd_mounted_free(struct cmd_mounted_list *l);
/* What is seen on dir, or NULL when that is no mount point. */
const struct cmd_mounted *cmd_mounted_on(const struct cmd_mounted_list *l, const char *dir);
/* Absolute and without links, also where the last part is a mount that does not answer. Returns new or NULL, errno. */
char *cmd_mount_point(const char *word);
/* One line of mountinfo, which is changed. */
bool cmd_mounted_parse(char *line, struct cmd_mounted *ret);

/* -EBUSY with up to three users of it in err. */
int cmd_unmount(const struct cmd_mounted *m, bool lazy, struct vl_err *err);

#endif
