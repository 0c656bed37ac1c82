/* Who the user is inside: entries in the container's passwd and group files. */
#include "rootless.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>

#define MAX_GROUPS 65536 /* kernel: NGROUPS_MAX */
#define NSSWITCH_MAX (64u << 10)

/* ---- asking the host -------------------------------------------------------------------------- */

/* The host's files, where they are asked before anything else: what they say is then the answer, and the C library's
 * way to it (a daemon's socket, its configuration, modules) is most of a millisecond's tenth. NULL where they are not. */
struct local {
	FILE *passwd, *group;
};

static void close_local(struct local *l)
{
	if (l->passwd)
		fclose(l->passwd);
	if (l->group)
		fclose(l->group);
}

/* A list of services, "files" the first of them? A rule behind it may say to go on though the file knows the answer. */
static bool begins_with_files(const char *list)
{
	const char *s = vl_prefix(list + strspn(list, " \t"), "files");

	if (!s || !*s || !strchr(" \t\n", *s))
		return s && !*s;
	s += strspn(s, " \t");
	return *s != '[' || vl_prefix(s, "[SUCCESS=merge]"); /* merged are the members, which nobody asks for here */
}

bool ctr_files_first(const char *nsswitch, const char *database)
{
	bool first = false;

	for (const char *line = nsswitch; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *s = vl_prefix(line + strspn(line, " \t"), database);
		if (s && s[strspn(s, " \t")] == ':')
			first = begins_with_files(s + strspn(s, " \t") + 1); /* the last line of it counts */
	}
	return first;
}

static struct local open_local(void)
{
	VL_FREE char *text = NULL;
	size_t len;
	struct vl_err none;
	struct local l = { 0 };

	/* a library that is loaded first may answer in the C library's stead */
	if (getenv("LD_PRELOAD") || vl_read_file(AT_FDCWD, "/etc/nsswitch.conf", NSSWITCH_MAX, &text, &len, &none) < 0)
		return l;
	if (ctr_files_first(text, "passwd"))
		l.passwd = fopen("/etc/passwd", "re");
	if (ctr_files_first(text, "group"))
		l.group = fopen("/etc/group", "re");
	return l;
}

/* Lines that begin so are for another service, "compat". */
static bool is_name(const char *s)
{
	return *s && *s != '+' && *s != '-';
}

static struct passwd *find_user(const struct local *l, uid_t uid)
{
	struct passwd *pw;

	while (l->passwd && (pw = fgetpwent(l->passwd)))
		if (pw->pw_uid == uid && is_name(pw->pw_name))
			return pw;
	return getpwuid(uid);
}

static struct group *find_group(const struct local *l, gid_t gid)
{
	struct group *g;

	if (l->group)
		rewind(l->group);
	while (l->group && (g = fgetgrent(l->group)))
		if (g->gr_gid == gid && is_name(g->gr_name))
			return g;
	return getgrgid(gid);
}

void ctr_plan_ask_user(struct plan *p)
{
	VL_CLEANUP(close_local) struct local local = open_local();
	struct plan_user *u = &p->user;
	struct passwd *pw = find_user(&local, getuid());

	u->uid = geteuid();
	u->gid = getegid();
	if (pw) {
		u->name = vl_strdup(pw->pw_name);
		u->gecos = vl_strdup(pw->pw_gecos ? pw->pw_gecos : "");
		u->shell = vl_strdup(pw->pw_shell && *pw->pw_shell ? pw->pw_shell : "/bin/sh");
		if (!u->home)
			u->home = vl_strdup(pw->pw_dir && *pw->pw_dir ? pw->pw_dir : "/");
	}
	int n = getgroups(0, NULL);
	if (n < 0 || n > MAX_GROUPS)
		n = 0;
	gid_t *gids = vl_alloc((size_t)(n + 1) * sizeof *gids);
	n = n ? getgroups(n, gids) : 0;
	gids[VL_MAX(n, 0)] = u->gid;
	u->groups = vl_alloc((size_t)(VL_MAX(n, 0) + 1) * sizeof *u->groups);
	for (int i = VL_MAX(n, 0); i >= 0; i--) { /* the primary one first */
		bool known = false;
		for (size_t k = 0; k < u->n_groups; k++)
			known |= u->groups[k].gid == gids[i];
		struct group *g = known ? NULL : find_group(&local, gids[i]);
		if (g)
			u->groups[u->n_groups++] = (struct plan_group){ gids[i], vl_strdup(g->gr_name) };
	}
	free(gids);
}

void ctr_plan_fakeroot(struct plan *p)
{
	struct plan_user *u = &p->user;

	p->fakeroot = true;
	u->uid = u->gid = 0;
	for (size_t i = 0; i < u->n_groups; i++) /* they have no number inside */
		free(u->groups[i].name);
	u->n_groups = 0;
}

/* ---- entries in the container's files ---------------------------------------------------------- */

/* Field n (from 0) of a line of ':' fields; *ret_len bytes. */
static const char *field(const char *line, size_t n, size_t *ret_len)
{
	for (; n; n--) {
		line += strcspn(line, ":\n");
		if (*line == ':')
			line++;
	}
	*ret_len = strcspn(line, ":\n");
	return line;
}

static bool is_number(const char *s, size_t n, unsigned long value)
{
	VL_FREE char *text = vl_strndup(s, n);
	uint64_t v;
	return vl_parse_u64(text, 0, UINT32_MAX, &v) == 0 && v == value;
}

/* Names from outside must not break the file's own form. */
static const char *tame(char *s)
{
	for (char *p = s; *p; p++)
		if (*p == ':' || *p == '\n')
			*p = ' ';
	return s;
}

char *ctr_passwd_text(const char *text, const struct plan_user *u)
{
	VL_BUF struct vl_buf b = { 0 };
	VL_FREE char *gecos = vl_strdup(u->gecos), *home = vl_strdup(u->home);
	bool found = false;

	vl_buf_adds(&b, "");
	tame(gecos), tame(home);
	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n"), len;
		const char *id = field(line, 2, &len);
		if (!found && is_number(id, len, u->uid)) {
			const char *gid = field(line, 3, &len);
			size_t shell_len;
			const char *shell = field(line, 6, &shell_len);
			vl_buf_addf(&b, "%s:x:%u:%.*s:%s:%s:%.*s\n", u->name, u->uid, (int)len, gid, gecos, home,
				    (int)shell_len, shell);
			found = true;
		} else {
			vl_buf_add(&b, line, n);
			vl_buf_adds(&b, "\n");
		}
		line += n + (line[n] == '\n');
	}
	if (!found)
		vl_buf_addf(&b, "%s:x:%u:%u:%s:%s:%s\n", u->name, u->uid, u->gid, gecos, home, u->shell);
	return vl_steal(&b.data);
}

static bool has_id(const char *text, uint32_t wanted)
{
	for (const char *line = text; *line;) {
		size_t len;
		const char *id = field(line, 2, &len);
		if (is_number(id, len, wanted))
			return true;
		line += strcspn(line, "\n");
		line += *line == '\n';
	}
	return false;
}

char *ctr_group_text(const char *text, const struct plan_user *u)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, text);
	if (b.len && b.data[b.len - 1] != '\n')
		vl_buf_adds(&b, "\n");
	for (size_t i = 0; i < u->n_groups; i++)
		if (!has_id(text, u->groups[i].gid))
			vl_buf_addf(&b, "%s:x:%u:%s\n", u->groups[i].name, u->groups[i].gid, u->name ? u->name : "");
	return vl_steal(&b.data);
}

static int rewrite(struct ctr_root *r, const char *path, char *(*make)(const char *, const struct plan_user *),
		   const struct plan_user *u, struct vl_err *err)
{
	struct stat st;
	VL_CLOSE int fd = vl_open_in_root(r->fd, path, O_PATH | O_NOFOLLOW, 0, err);

	/* through a link of the image, a file of the user's could be copied into one that all may read */
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	VL_FREE char *old = ctr_read_text(&(struct ctr_tree){ .fd = r->fd }, path);
	if (!old) /* no such file in the image: nothing to add to */
		return 0;
	VL_FREE char *text = make(old, u);
	return vl_streq(text, old) ? 0 : ctr_cover_file(r, path, text, err);
}

/* Root is who the image says; and a file that is covered could not be changed by useradd. */
static char *passwd_with_root(const char *text, const struct plan_user *u)
{
	static const struct plan_user root = { .name = (char *)"root",
					       .gecos = (char *)"root",
					       .shell = (char *)"/bin/sh" };
	struct plan_user user = root;

	user.home = u->home;
	return has_id(text, 0) ? vl_strdup(text) : ctr_passwd_text(text, &user);
}

int ctr_write_ids(struct ctr_root *r, const struct plan *p, struct vl_err *err)
{
	if (p->fakeroot)
		return ctr_plan_mount_over(p, "/etc/passwd")
			       ? 0
			       : rewrite(r, "/etc/passwd", passwd_with_root, &p->user, err);
	if (!p->user.name) /* no entry of the host's: only the groups can be named */
		return ctr_plan_mount_over(p, "/etc/group") ? 0
							    : rewrite(r, "/etc/group", ctr_group_text, &p->user, err);
	int e = ctr_plan_mount_over(p, "/etc/passwd") ? 0 : rewrite(r, "/etc/passwd", ctr_passwd_text, &p->user, err);
	return e < 0 || ctr_plan_mount_over(p, "/etc/group") ? e
							     : rewrite(r, "/etc/group", ctr_group_text, &p->user, err);
}
