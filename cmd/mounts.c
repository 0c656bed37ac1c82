/* /proc/self/mountinfo: see proc_pid_mountinfo(5). */
#include "mounts.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define TYPE "fuse.vial"

/* Blanks, newlines and backslashes are written in octal. In place. */
static char *plain(char *s)
{
	char *to = s;

	for (const char *p = s; *p;) {
		if (*p == '\\' && strspn(p + 1, "01234567") >= 3) {
			*to++ = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to++ = *p++;
		}
	}
	*to = 0;
	return s;
}

static bool owner(const char *super, uid_t *ret)
{
	const char *p = vl_prefix(super, "user_id=") ? super : strstr(super, ",user_id=");
	unsigned uid;

	if (!p || sscanf(p + strcspn(p, "=") + 1, "%u", &uid) != 1)
		return false;
	*ret = uid;
	return true;
}

bool cmd_mounted_parse(char *line, struct cmd_mounted *ret)
{
	struct cmd_mounted m = { 0 };
	char *save, *word = strtok_r(line, " \n", &save), *f[6] = { 0 }, *rest[3] = { 0 };
	size_t i;

	for (i = 0; word && i < VL_COUNT(f); i++, word = strtok_r(NULL, " \n", &save))
		f[i] = word;
	while (word && !vl_streq(word, "-")) /* tags of propagation */
		word = strtok_r(NULL, " \n", &save);
	for (i = 0; word && i < VL_COUNT(rest); i++)
		rest[i] = strtok_r(NULL, " \n", &save);
	if (!f[5] || !rest[2] || sscanf(f[2], "%u:%u", &m.major, &m.minor) != 2)
		return false;
	m.dir = vl_strdup(plain(f[4]));
	m.options = vl_strdup(f[5]);
	m.type = vl_strdup(plain(rest[0]));
	m.source = vl_strdup(plain(rest[1]));
	m.super = vl_strdup(rest[2]);
	/* a bind of a part of an image is not the mount; "/" is the container that looks */
	m.ours = vl_streq(m.type, TYPE) && vl_streq(f[3], "/") && !vl_streq(m.dir, "/") && owner(m.super, &m.uid);
	*ret = m;
	return true;
}

static void free_one(struct cmd_mounted *m)
{
	char **all[] = { &m->dir, &m->type, &m->source, &m->options, &m->super };

	for (size_t i = 0; i < VL_COUNT(all); i++)
		vl_freep(all[i]);
}

void cmd_mounted_free(struct cmd_mounted_list *l)
{
	for (size_t i = 0; i < l->n; i++)
		free_one(&l->v[i]);
	vl_freep(&l->v);
	l->n = 0;
}

int cmd_mounted_read(struct cmd_mounted_list *ret, struct vl_err *err)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	VL_FREE char *line = NULL;
	size_t size = 0;
	struct cmd_mounted m;

	if (!f)
		return vl_fail_sys(err, errno, "cannot read /proc/self/mountinfo");
	while (getline(&line, &size, f) > 0)
		if (cmd_mounted_parse(line, &m)) {
			ret->v = vl_realloc(ret->v, ret->n + 1, sizeof *ret->v);
			ret->v[ret->n++] = m;
		}
	fclose(f);
	return 0;
}

const struct cmd_mounted *cmd_mounted_on(const struct cmd_mounted_list *l, const char *dir)
{
	for (size_t i = l->n; i-- > 0;)
		if (vl_streq(l->v[i].dir, dir))
			return &l->v[i];
	return NULL;
}

char *cmd_mount_point(const char *word)
{
	struct stat st;
	char *real = realpath(word, NULL);

	if (real || errno == ENOENT)
		return real;
	/* the server is gone: what is above the mount can be told, unless word is a link to it */
	VL_FREE char *path = vl_path_absolute(word);
	char *slash = strrchr(path, '/');
	VL_FREE char *above = vl_strndup(path, VL_MAX((size_t)(slash - path), 1u)), *dir = realpath(above, NULL);
	VL_FREE char *at = dir ? vl_asprintf("%s/%s", vl_streq(dir, "/") ? "" : dir, slash + 1) : NULL;
	char link[PATH_MAX];
	ssize_t n = at && lstat(at, &st) == 0 && S_ISLNK(st.st_mode) ? readlink(at, link, sizeof link - 1) : -1;
	if (n < 0)
		return at ? vl_steal(&at) : NULL;
	link[n] = 0;
	return *link == '/' ? vl_path_clean(link) : vl_asprintf("%s/%s", vl_streq(dir, "/") ? "" : dir, link);
}
