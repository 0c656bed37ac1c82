/* vial record show: what the Slurm plugin has noted of steps. */
#include "commands.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX_LEN (8u << 20) /* of which a record fills an eighth at most */

const struct opt cmd_record_opts[] = {
	{ 0, "dir", OPT_STR, offsetof(struct cmd_record_opts, dir), "DIR",
	  "where the site's records are (default: $VIAL_RECORDS)", NULL, 0 },
	/* apart, so that what holds in general is no contradiction to a FILE */
	{ 0, "records", OPT_STR, offsetof(struct cmd_record_opts, site_dir), "DIR", "the default of --dir", "RECORDS",
	  0 },
	{ 0, "json", OPT_FLAG, offsetof(struct cmd_record_opts, json), NULL, "print the records as they are", NULL, 0 },
	OPT_END,
};

struct showing {
	struct cmd_ctx *c;
	bool json;
	uint64_t job; /* 0 = all */
	size_t shown;
};

static int64_t number(const vl_json *j, const char *key)
{
	int64_t n = 0;

	vl_json_int(j, key, &n);
	return n;
}

static void print_text(const vl_json *j, const char *key, const char *before)
{
	const char *s = vl_json_str(j, key);

	if (!s)
		return;
	VL_FREE char *shown = vl_printable(s, strlen(s));
	printf("%s%s", before, shown);
}

static void print_words(const vl_json *j, const char *key, const char *before)
{
	const vl_json *l = vl_json_arr(j, key);
	VL_BUF struct vl_buf b = { 0 };

	if (!l)
		return;
	vl_buf_adds(&b, "");
	for (size_t i = 0; i < vl_json_len(l); i++) {
		const char *s = vl_json_string(vl_json_at(l, i));
		VL_FREE char *shown = vl_printable(s ? s : "", s ? strlen(s) : 0);
		vl_buf_adds(&b, i ? " " : "");
		vl_buf_shell_word(&b, shown);
	}
	printf("%s%s\n", before, b.data);
}

static void print_number(const vl_json *j, const char *key, const char *before)
{
	int64_t n;

	if (vl_json_int(j, key, &n))
		printf("%s%lld", before, (long long)n);
	else
		printf("%s?", before);
}

static void print_time(const vl_json *j)
{
	char when[32] = "?";
	int64_t start = 0, end = 0;
	bool begun = vl_json_int(j, "start", &start), ended = vl_json_int(j, "end", &end);
	time_t t = (time_t)start;
	struct tm tm;

	if (begun && localtime_r(&t, &tm))
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	printf("  %s  ", when);
	if (begun && ended && start >= 0 && end >= start)
		printf("%llds", (long long)(end - start));
	else
		printf("?s");
}

static void print_line(const vl_json *j, const char *key, const char *before)
{
	print_text(j, key, before);
	if (vl_json_str(j, key))
		printf("\n");
}

static void print_record(const vl_json *j)
{
	print_number(j, "job", "");
	print_text(j, "step", ".");
	print_text(j, "node", "  ");
	print_time(j);
	if (number(j, "signal"))
		print_number(j, "signal", "  signal ");
	else
		print_number(j, "exit", "  exit ");
	printf("\n");
	print_line(j, "image", "  image    ");
	print_line(j, "digest", "  digest   ");
	print_words(j, "claimed_signers", "  signers  ");
	print_words(j, "command", "  command  ");
	print_words(j, "mounts", "  mounts   ");
	if (vl_json_is_true(vl_json_get(j, "truncated")))
		printf("  (the record was too long: the last words are not in it)\n");
}

static void show_line(struct showing *s, const char *line, size_t len, const char *path)
{
	VL_JSON vl_json *j = NULL;
	struct vl_err err = { 0 };

	if (!len)
		return;
	if (vl_json_parse(line, len, path, &j, &err) < 0) {
		vl_logf(&s->c->log, VL_WARNING, "%s; the line is passed over", err.text);
		return;
	}
	if (!vl_json_is_object(j)) {
		vl_logf(&s->c->log, VL_WARNING, "%s: a line is no record, and passed over", path);
		return;
	}
	if (s->job && (uint64_t)number(j, "job") != s->job)
		return;
	s->shown++;
	if (!s->json) {
		print_record(j);
		return;
	}
	VL_FREE char *text = vl_json_text(j, false);
	puts(text);
}

/* One of them is too long: no record has such. */
static void add_piece(struct showing *s, struct vl_buf *line, bool *too_long, const char *p, size_t n, const char *path)
{
	if (*too_long)
		return;
	if (line->len + n <= LINE_MAX_LEN) {
		vl_buf_add(line, p, n);
		return;
	}
	*too_long = true;
	vl_logf(&s->c->log, VL_WARNING, "%s: a line is longer than a record can be, and passed over", path);
}

/* Line by line: a site keeps them for years. */
static int show_file(struct showing *s, const char *path, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDONLY | O_NONBLOCK, 0, err);
	VL_BUF struct vl_buf line = { 0 };
	char piece[65536], *end;
	bool too_long = false;
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	while ((n = read(fd, piece, sizeof piece)) > 0) {
		char *at = piece, *stop = piece + n;
		while ((end = memchr(at, '\n', (size_t)(stop - at)))) {
			add_piece(s, &line, &too_long, at, (size_t)(end - at), path);
			if (!too_long)
				show_line(s, line.data, line.len, path);
			line.len = 0;
			too_long = false;
			at = end + 1;
		}
		add_piece(s, &line, &too_long, at, (size_t)(stop - at), path);
	}
	if (!too_long)
		show_line(s, line.data, line.len, path);
	return n < 0 ? vl_fail_sys(err, errno, "cannot read %s", path) : 0;
}

static int is_record(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 6 && vl_streq(e->d_name + n - 6, ".jsonl");
}

static int show_dir(struct showing *s, const char *path, struct vl_err *err)
{
	struct dirent **l;
	size_t unread = 0;
	int n = scandir(path, &l, is_record, alphasort),
	    r = n < 0 ? vl_fail_sys(err, errno, "cannot read %s", path) : 0;

	for (int i = 0; i < n; i++) {
		VL_FREE char *file = vl_asprintf("%s/%s", path, l[i]->d_name);
		struct vl_err one = { 0 };
		if (show_file(s, file, &one) < 0) { /* the others are shown nevertheless */
			vl_logf(&s->c->log, VL_WARNING, "%s", one.text);
			r = -one.code;
			unread++;
		}
		free(l[i]);
	}
	if (unread)
		vl_fail(err, -r, "%zu of the files in %s could not be read", unread, path);
	if (n >= 0)
		free(l);
	return r;
}

int cmd_record_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_record_opts *o = opts;
	struct showing s = { .c = c, .json = o->json };
	const char *where = o->dir ? o->dir : o->site_dir;
	struct vl_err err = { 0 };
	struct stat st;

	(void)self;
	if (argc && vl_parse_u64(argv[0], 1, UINT32_MAX, &s.job) < 0) {
		if (o->dir)
			return cmd_usage(c, "%s is no job: take either --dir, with a JOB, or a FILE", argv[0]);
		where = argv[0];
	}
	if (!where)
		return cmd_usage(c, "which records? name a FILE, or with --dir DIR the site's");
	int r = stat(where, &st) < 0 ? vl_fail_sys(&err, errno, "%s", where) : 0;
	if (r == 0)
		r = S_ISDIR(st.st_mode) ? show_dir(&s, where, &err) : show_file(&s, where, &err);
	if (r == 0 && s.job && !s.shown)
		vl_fail(&err, ENOENT, "%s has no record of job %llu", where, (unsigned long long)s.job);
	return err.code ? cmd_fail(c, &err) : 0;
}
