/* Who remembers which ids the processes of the container believe to have. */
#include "emulate.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/capability.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define MAX_KNOWN 4096 /* processes; beyond, those that are no more are forgotten first */
#define MAX_DEPTH 64   /* generations that are looked at for inherited ids */

/* ---- what the calls do ----------------------------------------------------------------------- */

static bool is_one_of(uint32_t id, const uint32_t *l, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (id == l[i])
			return true;
	return id == UINT32_MAX; /* -1: as it is */
}

int ctr_emulate_set(struct emu_ids *ids, bool gid, enum emu_call call, const uint32_t arg[3])
{
	uint32_t *now = gid ? ids->gid : ids->uid, new[3] = { now[0], now[1], now[2] };
	bool root = ids->uid[1] == 0 || ids->keeps_caps;

	if (call == EMU_SETID) {
		const uint32_t allowed[] = { now[0], now[2] };
		if (arg[0] == UINT32_MAX)
			return -EINVAL;
		if (!root && !is_one_of(arg[0], allowed, 2))
			return -EPERM;
		new[1] = arg[0];
		if (root)
			new[0] = new[2] = arg[0];
	} else {
		size_t n = call == EMU_SETREID ? 2 : 3;
		for (size_t i = 0; i < n; i++) {
			/* the saved id may not become the real one by setreuid */
			size_t allowed = call == EMU_SETREID && i == 0 ? 2 : 3;
			if (!root && !is_one_of(arg[i], now, allowed))
				return -EPERM;
			if (arg[i] != UINT32_MAX)
				new[i] = arg[i];
		}
		if (call == EMU_SETREID && (arg[0] != UINT32_MAX || (arg[1] != UINT32_MAX && arg[1] != now[0])))
			new[2] = new[1];
	}
	memcpy(now, new, sizeof new);
	return 0;
}

/* ---- who has which --------------------------------------------------------------------------- */

struct known {
	pid_t pid;
	uint64_t born; /* tells a process from an earlier one of the same pid */
	ino_t program; /* that asked to keep capabilities: the next one has them no more */
	struct emu_ids ids;
};
struct memory { /* empty while everybody is root still */
	struct known *v;
	size_t n, cap;
};

struct relation {
	pid_t parent;
	uint64_t born; /* clock ticks since boot */
};

static bool read_proc(pid_t pid, const char *name, char *ret, size_t size)
{
	VL_FREE char *path = vl_asprintf("/proc/%d/%s", pid, name);
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);

	ret[VL_MAX(n, 0)] = 0;
	return n > 0;
}

static pid_t process_of(pid_t thread)
{
	char text[1024];
	const char *line = read_proc(thread, "status", text, sizeof text) ? strstr(text, "\nTgid:") : NULL;

	return line ? (pid_t)strtol(line + 6, NULL, 10) : thread;
}

static struct relation relation_of(pid_t pid)
{
	char text[1024];
	struct relation r = { 0 };
	/* the name, in brackets, may contain anything */
	const char *p = read_proc(pid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL;

	for (int field = 2; p && field < 22; field++) {
		p = strchr(p + 1, ' ');
		if (p && field == 3)
			r.parent = (pid_t)strtol(p, NULL, 10);
		if (p && field == 21)
			r.born = strtoull(p, NULL, 10);
	}
	return r;
}

static ino_t program_of(pid_t pid)
{
	VL_FREE char *path = vl_asprintf("/proc/%d/exe", pid);
	struct stat st;

	return stat(path, &st) == 0 ? st.st_ino : 0;
}

static struct known *find(const struct memory *m, pid_t pid, uint64_t born)
{
	for (size_t i = 0; i < m->n; i++)
		if (m->v[i].pid == pid && m->v[i].born == born)
			return &m->v[i];
	return NULL;
}

static void forget_the_dead(struct memory *m)
{
	size_t kept = 0;

	for (size_t i = 0; i < m->n; i++)
		if (relation_of(m->v[i].pid).born == m->v[i].born)
			m->v[kept++] = m->v[i];
	/* all of them alive: the oldest is taken for root again */
	if (kept == m->n)
		memmove(m->v, m->v + 1, --kept * sizeof *m->v);
	m->n = kept;
}

/* The ids of a process seen for the first time are those of its parent. */
static struct known *remember(struct memory *m, pid_t thread)
{
	pid_t pid = process_of(thread);
	struct relation self = relation_of(pid), r = self;
	struct known *k = find(m, pid, self.born);
	struct emu_ids ids = { 0 };

	if (k)
		return k;
	for (int i = 0; i < MAX_DEPTH && r.parent > 0 && !k; i++) {
		pid_t parent = r.parent;
		r = relation_of(parent);
		k = find(m, parent, r.born);
	}
	if (k)
		ids = k->ids;
	ids.keeps_caps = false; /* most often it is another program soon */
	if (m->n == MAX_KNOWN)
		forget_the_dead(m);
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 64;
		m->v = vl_realloc(m->v, m->cap, sizeof *m->v);
	}
	m->v[m->n] = (struct known){ .pid = pid, .born = self.born, .ids = ids };
	return &m->v[m->n++];
}

/* ---- answering ------------------------------------------------------------------------------- */

static struct emu_ids *ids_to_change(struct memory *m, const struct seccomp_notif *q)
{
	struct known *k = remember(m, (pid_t)q->pid);

	if (k->ids.keeps_caps && program_of(k->pid) != k->program)
		k->ids.keeps_caps = false;
	return &k->ids;
}

static int set_ids(struct memory *m, const struct seccomp_notif *q, bool gid, enum emu_call call)
{
	uint32_t arg[3] = { (uint32_t)q->data.args[0], (uint32_t)q->data.args[1], (uint32_t)q->data.args[2] };

	return ctr_emulate_set(ids_to_change(m, q), gid, call, arg);
}

static int set_groups(struct memory *m, const struct seccomp_notif *q)
{
	const struct emu_ids *ids = m->n ? ids_to_change(m, q) : NULL;

	return ids && ids->uid[1] && !ids->keeps_caps ? -EPERM : 0;
}

static int get_three(const uint32_t *ids, const struct seccomp_notif *q)
{
	for (int i = 0; i < 3; i++) {
		struct iovec from = { (void *)&ids[i], sizeof ids[i] };
		struct iovec to = { (void *)(uintptr_t)q->data.args[i], sizeof ids[i] };
		if (process_vm_writev((pid_t)q->pid, &from, 1, &to, 1, 0) != sizeof ids[i])
			return -errno;
	}
	return 0;
}

static int64_t keep_caps(struct memory *m, const struct seccomp_notif *q)
{
	if (q->data.args[1] > 1)
		return -EINVAL;
	struct known *k = remember(m, (pid_t)q->pid);
	/* who is not root any more has none to keep */
	k->ids.keeps_caps = q->data.args[1] && k->ids.uid[1] == 0;
	k->program = program_of(k->pid);
	return 0;
}

/* The value of the system call, or -errno. */
static int64_t decide(struct memory *m, const struct seccomp_notif *q)
{
	static const struct emu_ids everybody = { .uid = { 0 } };
	const struct emu_ids *ids = m->n ? &remember(m, (pid_t)q->pid)->ids : &everybody;

	switch (q->data.nr) {
	case SYS_getuid:
		return ids->uid[0];
	case SYS_geteuid:
	case SYS_setfsuid: /* returns the id so far, whatever happens */
		return ids->uid[1];
	case SYS_getgid:
		return ids->gid[0];
	case SYS_getegid:
	case SYS_setfsgid:
		return ids->gid[1];
	case SYS_getresuid:
		return get_three(ids->uid, q);
	case SYS_getresgid:
		return get_three(ids->gid, q);
	case SYS_prctl:
		return keep_caps(m, q);
	case SYS_setgroups:
		return set_groups(m, q);
	case SYS_setuid:
		return set_ids(m, q, false, EMU_SETID);
	case SYS_setgid:
		return set_ids(m, q, true, EMU_SETID);
	case SYS_setreuid:
		return set_ids(m, q, false, EMU_SETREID);
	case SYS_setregid:
		return set_ids(m, q, true, EMU_SETREID);
	case SYS_setresuid:
		return set_ids(m, q, false, EMU_SETRESID);
	case SYS_setresgid:
		return set_ids(m, q, true, EMU_SETRESID);
	}
	return -ENOSYS;
}

struct exchange { /* as large as this kernel's structures are */
	struct seccomp_notif *q;
	struct seccomp_notif_resp *a;
	size_t q_size, a_size;
};

static void answer_one(struct memory *m, int listener, const struct exchange *x)
{
	memset(x->q, 0, x->q_size);
	memset(x->a, 0, x->a_size);
	if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, x->q) < 0)
		return; /* who asked was killed meanwhile, or a signal came */
	int64_t r = decide(m, x->q);
	x->a->id = x->q->id;
	x->a->val = r < 0 ? 0 : r;
	x->a->error = r < 0 ? (int)r : 0;
	ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, x->a);
}

static void answer_all(int listener)
{
	struct memory m = { 0 };
	struct seccomp_notif_sizes sizes;
	struct pollfd p = { .fd = listener, .events = POLLIN };

	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
		return;
	struct exchange x = { .q_size = VL_MAX(sizes.seccomp_notif, sizeof *x.q),
			      .a_size = VL_MAX(sizes.seccomp_notif_resp, sizeof *x.a) };
	x.q = vl_alloc(x.q_size);
	x.a = vl_alloc(x.a_size);
	for (;;) {
		int n = poll(&p, 1, -1);
		if (n < 0 && errno != EINTR)
			break;
		if (n > 0 && p.revents & POLLIN)
			answer_one(&m, listener, &x);
		else if (n > 0) /* hung up: the last process with the filter is gone */
			break;
	}
	free(m.v);
	free(x.q);
	free(x.a);
}

/* ---- the process ----------------------------------------------------------------------------- */

/* Of all capabilities it needs the one to write into another's memory. */
static int keep_one_capability(void)
{
	static const cap_value_t one[] = { CAP_SYS_PTRACE };
	cap_t c = cap_init();
	int r = c && cap_set_flag(c, CAP_PERMITTED, 1, one, CAP_SET) == 0 &&
				cap_set_flag(c, CAP_EFFECTIVE, 1, one, CAP_SET) == 0 && cap_set_proc(c) == 0 &&
				prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
			? 0
			: -1;

	cap_free(c);
	return r;
}

static void remember_ids(void *arg)
{
	int sock = *(int *)arg, listener = -1;
	enum vl_msg_type type = VL_MSG_ERR;
	sigset_t all;
	size_t n;

	prctl(PR_SET_NAME, "vial-ids");
	sigfillset(&all); /* who signals all programs means not this one: it ends after the last of them */
	sigprocmask(SIG_SETMASK, &all, NULL);
	vl_close_all_but(&sock, 1);
	if (chdir("/") < 0 || keep_one_capability() < 0)
		_exit(1);
	if (vl_msg_recv_fd(sock, &type, &listener, NULL, 0, &n) == 0 && listener >= 0) {
		close(sock);
		answer_all(listener);
	}
	_exit(0);
}

int ctr_emulation_start(struct ctr_emulation *e, struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);
	pid_t wait = 0;

	if (r < 0)
		return r;
	VL_CLOSE int mine = vl_move_fd_above_stdio(pair[0]);
	VL_CLOSE int theirs = vl_move_fd_above_stdio(pair[1]);
	if (mine < 0 || theirs < 0)
		return vl_fail_sys(err, EMFILE, "cannot start the process that remembers ids");
	r = vl_start_apart(remember_ids, &theirs, &wait);
	if (r < 0)
		return vl_fail_sys(err, -r, "cannot start the process that remembers ids");
	if (wait)
		vl_wait(wait);
	e->sock = vl_steal_fd(&mine);
	return 0;
}

void ctr_emulation_free(struct ctr_emulation *e)
{
	vl_closep(&e->sock);
}
