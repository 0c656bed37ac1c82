/* One line of JSON for each step and node that had a container. The Slurm plugin hands over what is to be noted, as words
 * KEY=VALUE that end in NUL; slurmstepd itself makes no JSON. Nothing that a user wrote is opened or interpreted here. */
#include "run.h"

#include <fcntl.h>
#include <sys/stat.h>

#define FACTS_MAX (1u << 20) /* a command line of Linux is longer; who has such finds it cut */

static bool is_in(const char *key, size_t n, const char *const *list)
{
	for (; *list; list++)
		if (strlen(*list) == n && !strncmp(*list, key, n))
			return true;
	return false;
}

static void add_fact(vl_json *j, const char *kv)
{
	static const char *const numbers[] = { "job",        "uid",         "gid",   "tasks", "exit", "signal",
					       "image_size", "image_mtime", "start", "end",   NULL };
	static const char *const lists[] = { "command", "mounts", "claimed_signers", NULL };
	size_t n = strcspn(kv, "=");
	VL_FREE char *key = vl_strndup(kv, n);
	const char *value = kv[n] ? kv + n + 1 : "";
	vl_json *list = vl_json_arr(j, key);
	uint64_t number;

	if (is_in(kv, n, numbers) && vl_parse_u64(value, 0, INT64_MAX, &number) == 0) {
		vl_json_set(j, key, vl_json_new_int((int64_t)number));
	} else if (is_in(kv, n, lists)) {
		if (!list)
			vl_json_set(j, key, list = vl_json_new_arr());
		vl_json_add(list, vl_json_new_str(value));
	} else {
		vl_json_set(j, key, vl_json_new_str(value));
	}
}

static int read_facts(vl_json *j, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };
	char piece[4096];
	ssize_t n;

	vl_buf_adds(&b, "");
	while (b.len < FACTS_MAX && (n = read(STDIN_FILENO, piece, sizeof piece)) != 0) {
		if (n < 0 && errno != EINTR)
			return vl_fail_sys(err, errno, "cannot read what is to be recorded");
		if (n > 0)
			vl_buf_add(&b, piece, (size_t)n);
	}
	if (b.len >= FACTS_MAX && read(STDIN_FILENO, piece, 1) > 0) /* what is long comes last, see the plugin */
		vl_json_set(j, "truncated", vl_json_new_bool(true));
	for (size_t at = 0; at < b.len; at += strlen(b.data + at) + 1)
		add_fact(j, b.data + at);
	return 0;
}

/* One write at the file's end: the kernel lets the lines of several writers not mix. No lock: everybody who may read the file
 * could have it for ever. What did not fit is taken back, unless somebody has added a line behind it. */
static int append(int fd, const char *line, const char *path, struct vl_err *err)
{
	size_t len = strlen(line);
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot write the record %s", path);
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "the record %s is not a file", path);
	ssize_t n = write(fd, line, len);
	if (n == (ssize_t)len)
		return 0;
	int why = n < 0 ? errno : ENOSPC;
	off_t end = lseek(fd, 0, SEEK_CUR);
	if (n > 0 && fstat(fd, &st) == 0 && st.st_size == end)
		(void)!ftruncate(fd, end - n);
	return vl_fail_sys(err, why, "cannot write the record %s", path);
}

int cmd_hold_record(struct cmd_ctx *c, const struct action_opts *o)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	struct vl_err err = { 0 };
	/* a file that is there keeps its owner and mode, as the site wants them */
	VL_CLOSE int fd = vl_open(o->record, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600, &err);

	vl_json_set(j, "version", vl_json_new_int(1));
	int r = fd < 0 ? fd : read_facts(j, &err);
	VL_FREE char *text = vl_json_text(j, false);
	VL_FREE char *line = vl_asprintf("%s\n", text);
	if (r == 0)
		r = append(fd, line, o->record, &err);
	return r < 0 ? cmd_fail(c, &err) : 0;
}
