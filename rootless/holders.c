/* What runs: the holders of the caller, asked one by one. */
#include "hold.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#define ANSWER_MAX (256u << 10) /* statistics are the longer answer: a hundred kilobytes at most */

struct asking {
	bool stats;
	int dir;
	struct ctr_holder *v;
	size_t n;
};

void ctr_holders_free(struct ctr_holder *l, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(l[i].image);
		free(l[i].users);
		free(l[i].stats);
	}
	free(l);
}

/* One question, on a connection of its own; the answer is new, or NULL. */
static char *ask_for(int dir, const char *name, char what)
{
	VL_CLOSE int sock = ctr_hold_dial(dir, name);
	VL_FREE char *text = vl_alloc(ANSWER_MAX + 1); /* ends in a zero */
	enum vl_msg_type type;

	if (sock < 0 || vl_msg_send(sock, VL_MSG_OK, &what, 1) < 0 ||
	    vl_msg_recv(sock, &type, text, ANSWER_MAX, NULL) < 0 || type != VL_MSG_OK)
		return NULL;
	return vl_steal(&text);
}

/* Resident bytes of one process, 0 when it cannot be told. */
static uint64_t resident(pid_t pid)
{
	VL_FREE char *path = vl_asprintf("/proc/%d/statm", pid);
	unsigned long long size, pages = 0;
	FILE *f = fopen(path, "re");

	if (f && fscanf(f, "%llu %llu", &size, &pages) != 2)
		pages = 0;
	if (f)
		fclose(f);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The holder and its children, of which the image's server is the one. */
static uint64_t memory_of(pid_t pid)
{
	VL_FREE char *path = vl_asprintf("/proc/%d/task/%d/children", pid, pid);
	FILE *f = fopen(path, "re");
	uint64_t bytes = resident(pid);
	int child;

	while (f && fscanf(f, "%d", &child) == 1)
		bytes += resident(child);
	if (f)
		fclose(f);
	return bytes;
}

static bool parse(const char *text, struct ctr_holder *h)
{
	int pid;
	long long since;
	const char *rest;

	for (const char *p = text; *p; p += strcspn(p, "\n") + 1) {
		if (sscanf(p, "holder %d", &pid) == 1)
			h->pid = pid;
		else if (sscanf(p, "since %lld", &since) == 1)
			h->since = since;
		else if (sscanf(p, "user %d", &pid) == 1) {
			h->users = vl_realloc(h->users, h->n_users + 1, sizeof *h->users);
			h->users[h->n_users++] = pid;
		} else if ((rest = vl_prefix(p, "image "))) {
			h->image = vl_strndup(rest, strlen(rest) - 1);
			return h->pid > 0;
		}
		if (!strchr(p, '\n'))
			break;
	}
	return false;
}

static void ask_one(void *arg, const char *name)
{
	struct asking *a = arg;
	struct ctr_holder h = { 0 };
	VL_FREE char *text = ask_for(a->dir, name, CTR_TELL);

	if (!text || !parse(text, &h)) { /* gone by now, or somebody else's file */
		free(h.image);
		free(h.users);
		return;
	}
	h.memory = memory_of(h.pid);
	h.stats = a->stats ? ask_for(a->dir, name, CTR_STATS) : NULL;
	a->v = vl_realloc(a->v, a->n + 1, sizeof *a->v);
	a->v[a->n++] = h;
}

static int by_age(const void *a, const void *b)
{
	const struct ctr_holder *x = a, *y = b;

	return x->since != y->since ? (x->since > y->since) - (x->since < y->since)
				    : (x->pid > y->pid) - (x->pid < y->pid);
}

void ctr_holders(bool stats, struct ctr_holder **ret, size_t *ret_n)
{
	struct asking a = { .stats = stats };
	struct vl_err none;
	struct stat last = { 0 };

	for (unsigned i = 0; i < CTR_RUNDIRS; i++) {
		VL_CLOSE int dir = ctr_rundir_open(i, false, &none);
		struct stat st;
		if (dir < 0 || fstat(dir, &st) < 0 || (st.st_ino == last.st_ino && st.st_dev == last.st_dev))
			continue; /* most often XDG_RUNTIME_DIR is /run/user/UID */
		a.dir = dir;
		ctr_hold_each(dir, ask_one, &a);
		last = st;
	}
	if (a.n)
		qsort(a.v, a.n, sizeof *a.v, by_age);
	*ret = a.v;
	*ret_n = a.n;
}
