/* Subordinate ids: the ranges that the system gives a user, and the maps that its own programs newuidmap and
 * newgidmap make of them. Nothing of vial is setuid. */
#include "rootless.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/wait.h>

#define SUBID_MAX (16u << 20) /* bytes of a file: a line for each of 500000 users */
#define MAX_LINE 128          /* a name has at most 32 bytes (shadow), two numbers 10 each */

/* The field up to ':' as a number; NULL when it is none. */
static const char *number(const char *s, uint32_t *ret)
{
	VL_FREE char *digits = vl_strndup(s, strcspn(s, ":\n"));
	uint64_t v;

	if (vl_parse_u64(digits, 0, UINT32_MAX, &v) < 0)
		return NULL;
	*ret = (uint32_t)v;
	return s + strlen(digits);
}

static bool is_owner(const char *line, const char *name, uid_t uid)
{
	size_t n = strcspn(line, ":\n");
	uint32_t v;

	if (name && strlen(name) == n && strncmp(line, name, n) == 0)
		return true;
	return n > 0 && number(line, &v) && v == uid;
}

void ctr_subid_ranges(const char *text, const char *name, uid_t uid, struct ctr_ranges *ret)
{
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		struct ctr_range r;
		const char *p = line + strcspn(line, ":\n");
		if (!is_owner(line, name, uid) || *p != ':' || !(p = number(p + 1, &r.first)) || *p != ':' ||
		    !(p = number(p + 1, &r.count)) || *p == ':')
			continue;
		/* -1 is no id */
		if (r.count && r.first <= UINT32_MAX - r.count && ret->n < VL_COUNT(ret->v))
			ret->v[ret->n++] = r;
	}
}

/* getsubids says "N: NAME START COUNT". */
static char *as_file(const char *text)
{
	VL_BUF struct vl_buf b = { 0 };
	char name[MAX_LINE];
	unsigned first, count;

	vl_buf_adds(&b, "");
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (sscanf(line, "%*u: %127s %u %u", name, &first, &count) == 3)
			vl_buf_addf(&b, "%s:%u:%u\n", name, first, count);
	return vl_steal(&b.data);
}

static void become(const char *const *argv, int out, int err)
{
	VL_CLOSE int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	dup2(null, 0);                  /* not close-on-exec: the program's own three */
	dup2(out >= 0 ? out : null, 1); /* not close-on-exec: the same */
	dup2(err >= 0 ? err : null, 2); /* not close-on-exec: the same */
	execvp(argv[0], (char *const *)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* What the program says, on stdout or stderr, cut to the buffer. Its exit status: 127 when there is none. */
static int ask(const char *const *argv, bool errors, struct vl_buf *ret)
{
	int pipes[2];

	vl_buf_adds(ret, "");
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return 126;
	pid_t pid = fork();
	if (pid == 0)
		become(argv, errors ? -1 : pipes[1], errors ? pipes[1] : -1);
	close(pipes[1]);
	vl_read_pipe(pipes[0], SUBID_MAX, ret);
	close(pipes[0]);
	return pid < 0 ? 126 : vl_wait(pid);
}

/* Do others than the files know? Then libsubid's own program is asked. */
static bool has_plugin(void)
{
	struct vl_err none;
	VL_FREE char *text = NULL;
	size_t len;

	if (vl_read_file(AT_FDCWD, "/etc/nsswitch.conf", 1u << 20, &text, &len, &none) < 0)
		return false;
	for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *rest = vl_prefix(line + strspn(line, " \t"), "subid:");
		if (rest && !vl_prefix(rest + strspn(rest, " \t"), "files"))
			return true;
	}
	return false;
}

static void find(const char *file, const char *option, const struct plan_user *u, uid_t uid, struct ctr_ranges *ret)
{
	struct vl_err none;
	VL_BUF struct vl_buf said = { 0 };
	VL_FREE char *text = NULL, *number_text = vl_asprintf("%u", uid);
	const char *argv[] = { "getsubids",
			       option    ? option
			       : u->name ? u->name
					 : number_text,
			       option ? (u->name ? u->name : number_text) : NULL, NULL };
	size_t len;

	if (has_plugin() && ask(argv, false, &said) == 0)
		text = as_file(said.data);
	else if (vl_read_file(AT_FDCWD, file, SUBID_MAX, &text, &len, &none) < 0)
		return;
	ctr_subid_ranges(text, u->name, uid, ret);
}

bool ctr_find_subids(const struct plan_user *u, uid_t uid, struct ctr_subids *ret)
{
	find("/etc/subuid", NULL, u, uid, &ret->uids);
	find("/etc/subgid", "-g", u, uid, &ret->gids);
	return ret->uids.n && ret->gids.n;
}

/* PROGRAM PID 0 OWN 1 1 FIRST COUNT ... */
static int map(const char *program, pid_t pid, uint32_t own, const struct ctr_ranges *r, struct vl_buf *said)
{
	VL_STRV struct vl_strv argv = { 0 };
	uint32_t inside = 1;

	vl_strv_add(&argv, program);
	vl_strv_take(&argv, vl_asprintf("%d", pid));
	vl_strv_add(&argv, "0");
	vl_strv_take(&argv, vl_asprintf("%u", own));
	vl_strv_add(&argv, "1");
	for (size_t i = 0; i < r->n; i++) {
		if (r->v[i].count > UINT32_MAX - inside)
			break;
		vl_strv_take(&argv, vl_asprintf("%u", inside));
		vl_strv_take(&argv, vl_asprintf("%u", r->v[i].first));
		vl_strv_take(&argv, vl_asprintf("%u", r->v[i].count));
		inside += r->v[i].count;
	}
	return ask((const char *const *)argv.v, true, said);
}

unsigned ctr_map_subids(pid_t pid, uid_t uid, gid_t gid, const struct ctr_subids *ids, char **ret_why)
{
	VL_BUF struct vl_buf said = { 0 };
	const char *program = "newgidmap"; /* first: alone it does no harm, a uid map cannot be taken back */
	unsigned done = 0;

	int status = map(program, pid, gid, &ids->gids, &said);
	if (status == 0) {
		done = CTR_GIDS;
		program = "newuidmap";
		said.len = 0;
		vl_buf_adds(&said, "");
		status = map(program, pid, uid, &ids->uids, &said);
	}
	if (status == 0)
		return CTR_GIDS | CTR_UIDS;
	said.data[strcspn(said.data, "\n")] = 0;
	VL_FREE char *text = vl_printable(said.data, strlen(said.data));
	*ret_why = status == 127 && !*text ? vl_asprintf("%s is not there (package uidmap)", program)
		   : *text                 ? vl_asprintf("%s", text)
					   : vl_asprintf("%s ended with status %d", program, status);
	return done;
}
