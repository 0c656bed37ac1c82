#include "rootless.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/capability.h>

#define MAP_MAX 65536 /* 340 lines at most (kernel: UID_GID_MAP_MAX_EXTENTS), 33 bytes each */

/* ---- why not -------------------------------------------------------------------------------- */

static long read_number(const char *path)
{
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char b[32] = "";

	return fd >= 0 && read(fd, b, sizeof b - 1) > 0 ? strtol(b, NULL, 10) : -1;
}

static bool has_seccomp_filter(void)
{
	char line[256];
	bool yes = false;
	FILE *f = fopen("/proc/self/status", "re");

	while (f && fgets(line, sizeof line, f))
		yes |= vl_prefix(line, "Seccomp:\t2") != NULL;
	if (f)
		fclose(f);
	return yes;
}

#define WHAT "cannot start a container: user namespaces are forbidden here: "

/* One line: the gate that is shut and the command that opens it. */
static int explain(int code, const char *call, struct vl_err *err)
{
	static const struct {
		const char *file, *name;
		long shut;
		const char *mend;
	} gates[] = {
		{ "/proc/sys/user/max_user_namespaces", "user.max_user_namespaces", 0,
		  "sysctl -w user.max_user_namespaces=65536" },
		{ "/proc/sys/user/max_mnt_namespaces", "user.max_mnt_namespaces", 0,
		  "sysctl -w user.max_mnt_namespaces=65536" },
		{ "/proc/sys/kernel/unprivileged_userns_clone", "kernel.unprivileged_userns_clone", 0,
		  "sysctl -w kernel.unprivileged_userns_clone=1" },
		{ "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
		  "kernel.apparmor_restrict_unprivileged_userns", 1,
		  "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or install an AppArmor profile for vial "
		  "with \"userns,\"" },
	};

	for (size_t i = 0; i < VL_COUNT(gates); i++)
		if (read_number(gates[i].file) == gates[i].shut)
			return vl_fail(err, code, WHAT "%s is %ld; as root: %s", gates[i].name, gates[i].shut,
				       gates[i].mend);
	if (code == ENOSPC || code == EUSERS)
		return vl_fail(err, code,
			       WHAT "the limit user.max_user_namespaces (%ld) or the nesting depth of 32 is reached",
			       read_number("/proc/sys/user/max_user_namespaces"));
	if ((code == EINVAL || code == ENOSYS) && access("/proc/self/ns/user", F_OK) < 0)
		return vl_fail(err, code, WHAT "the kernel was built without CONFIG_USER_NS");
	if (has_seccomp_filter())
		return vl_fail(err, code, WHAT "a seccomp filter of the surrounding container or service refuses %s",
			       call);
	if (code == EPERM)
		return vl_fail(err, code,
			       WHAT "%s is refused; a chroot around this process or a security module does that", call);
	return vl_fail_sys(err, code, WHAT "%s", call);
}

/* ---- maps ----------------------------------------------------------------------------------- */

static int write_file(const char *path, const char *text)
{
	VL_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0) /* maps must come in one write */
		return -errno;
	return 0;
}

/* Each range of ids that exists for us, under its own numbers. Returns new or NULL. */
static char *identity_map(const char *path)
{
	VL_BUF struct vl_buf b = { 0 };
	char line[128];
	unsigned long in, out, n;
	FILE *f = fopen(path, "re");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "%lu %lu %lu", &in, &out, &n) == 3 && b.len < MAP_MAX)
			vl_buf_addf(&b, "%lu %lu %lu\n", in, in, n);
	if (f)
		fclose(f);
	return vl_steal(&b.data);
}

/* What the process that stays outside writes: made before it is forked, for it touches less memory then. */
struct maps {
	char *uids, *gids, *uid_path, *gid_path;
};

static void free_maps(struct maps *m)
{
	free(m->uids);
	free(m->gids);
	free(m->uid_path);
	free(m->gid_path);
}

static int map_from_outside(const struct maps *m)
{
	int r = m->uids && m->gids ? write_file(m->gid_path, m->gids) : -EINVAL;

	return r < 0 ? r : write_file(m->uid_path, m->uids);
}

/* A map of more than oneself is written by a process that stayed outside, with CAP_SETUID there:
 * the kernel looks at the writer's capabilities in the parent namespace. Returns the helper. */
static pid_t start_mapper(int *ret_sock, struct vl_err *err)
{
	pid_t me = getpid();
	VL_CLEANUP(free_maps)
	struct maps maps = {
		.uids = identity_map("/proc/self/uid_map"),
		.gids = identity_map("/proc/self/gid_map"),
		.uid_path = vl_asprintf("/proc/%d/uid_map", me),
		.gid_path = vl_asprintf("/proc/%d/gid_map", me),
	};
	int pair[2];

	if (vl_msg_pair(pair, err) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		enum vl_msg_type type;
		char none = 0;
		close(pair[0]);
		if (vl_msg_recv(pair[1], &type, &none, 1, NULL) == 0 && type == VL_MSG_OK)
			vl_msg_send(pair[1], map_from_outside(&maps) == 0 ? VL_MSG_OK : VL_MSG_WARN, NULL, 0);
		_exit(0);
	}
	close(pair[1]);
	*ret_sock = pair[0];
	return pid;
}

static bool mapped_all(int sock)
{
	enum vl_msg_type type = VL_MSG_ERR;
	char none = 0;

	bool ok = vl_msg_send(sock, VL_MSG_OK, NULL, 0) == 0 && vl_msg_recv(sock, &type, &none, 1, NULL) == 0 &&
		  type == VL_MSG_OK;
	close(sock);
	return ok;
}

/* Without privilege: exactly oneself, written by oneself, and setgroups given up before gid_map
 * (else a group that denies access could be dropped). Supplementary groups stay in force. */
int ctr_map_one(uid_t inside_uid, uid_t uid, gid_t inside_gid, gid_t gid, unsigned done, struct vl_err *err)
{
	char uids[64], gids[64];
	int r = done & CTR_GIDS ? 0 : write_file("/proc/self/setgroups", "deny");

	snprintf(uids, sizeof uids, "%u %u 1\n", inside_uid, uid);
	snprintf(gids, sizeof gids, "%u %u 1\n", inside_gid, gid);
	if (r == -ENOENT)
		r = 0;
	if (r == 0 && !(done & CTR_UIDS))
		r = write_file("/proc/self/uid_map", uids);
	if (r == 0 && !(done & CTR_GIDS))
		r = write_file("/proc/self/gid_map", gids);
	return r < 0 ? explain(-r, "the map of ids", err) : 0;
}

bool ctr_may_map_all(void)
{
	cap_flag_value_t uid = CAP_CLEAR, gid = CAP_CLEAR;
	cap_t c;

	if (geteuid() != 0 || !(c = cap_get_proc()))
		return false;
	cap_get_flag(c, CAP_SETUID, CAP_EFFECTIVE, &uid);
	cap_get_flag(c, CAP_SETGID, CAP_EFFECTIVE, &gid);
	cap_free(c);
	return uid == CAP_SET && gid == CAP_SET;
}

int ctr_unshare_user(struct vl_err *err)
{
	return unshare(CLONE_NEWUSER) < 0 ? explain(errno, "unshare(CLONE_NEWUSER)", err) : 0;
}

int ctr_become_root(struct vl_err *err)
{
	uid_t uid = geteuid();
	gid_t gid = getegid(); /* both nobody's once there */
	int r = ctr_unshare_user(err);

	return r < 0 ? r : ctr_map_one(0, uid, 0, gid, 0, err);
}

int ctr_enter_userns(const struct plan *p, bool *ret_all, pid_t *ret_wait, struct vl_err *err)
{
	int sock = -1;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	pid_t mapper = ctr_may_map_all() ? start_mapper(&sock, err) : -1;

	int r = ctr_unshare_user(err);
	if (r < 0) {
		if (mapper > 0) {
			close(sock);
			vl_wait(mapper);
		}
		return r;
	}
	*ret_all = mapper > 0 && mapped_all(sock);
	*ret_wait = VL_MAX(mapper, 0);
	return *ret_all ? 0 : ctr_map_one(p->user.uid, uid, p->user.gid, gid, 0, err);
}

int ctr_enter_mountns(struct vl_err *err)
{
	int r = unshare(CLONE_NEWNS) < 0 ? errno : 0;

	/* the limit that was hit is an outer one: inside, the sysctl shows that of this namespace */
	if (r == ENOSPC)
		return vl_fail(err, r,
			       "cannot start a container: mount namespaces are used up or forbidden here: "
			       "user.max_mnt_namespaces; "
			       "as root: sysctl -w user.max_mnt_namespaces=65536");
	/* EPERM right after a successful unshare(CLONE_NEWUSER): a security module let the namespace
	 * come to be and takes away what it is good for (AppArmor since 2023) */
	return r ? explain(r, "unshare(CLONE_NEWNS)", err) : vmnt_make_slave(err);
}
