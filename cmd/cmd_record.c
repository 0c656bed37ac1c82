/* vial record show: what the Slurm plugin has noted of steps. */
#include "commands.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define LINE_MAX (8u << 20) /* of which a record fills an eighth at most */

const struct opt cmd_record_opts[] = {
	{ 0, "dir", OPT_STR, offsetof(struct cmd_record_opts, dir), "DIR", "where the site's records are", "RECORDS",
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

static void print_record(const vl_json *j)
{
	time_t t = (time_t)number(j, "start");
	char when[32] = "?";
	struct tm tm;

	if (localtime_r(&t, &tm))
		strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
	printf("%lld", (long long)number(j, "job"));
	print_text(j, "step", ".");
	print_text(j, "node", "  ");
	printf("  %s  %llds  ", when, (long long)(number(j, "end") - number(j, "start")));
	if (number(j, "signal"))
		printf("signal %lld\n", (long long)number(j, "signal"));
	else
		printf("exit %lld\n", (long long)number(j, "exit"));
	print_text(j, "image", "  image    ");
	printf("\n");
	if (vl_json_str(j, "digest")) {
		print_text(j, "digest", "  digest   ");
		printf("\n");
	}
	print_words(j, "claimed_signers", "  signers  ");
	print_words(j, "command", "  command  ");
	print_words(j, "mounts", "  mounts   ");
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

/* Line by line: a site keeps them for years. */
static int show_file(struct showing *s, const char *path, struct vl_err *err)
{
	int fd = vl_open(path, O_RDONLY | O_NONBLOCK, 0, err);
	VL_FREE char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	FILE *f = fdopen(fd, "r");
	if (!f) {
		close(fd);
		return vl_fail(err, ENOMEM, "cannot read %s", path);
	}
	while ((n = getline(&line, &cap, f)) >= 0 && n < (ssize_t)LINE_MAX)
		show_line(s, line, (size_t)(n && line[n - 1] == '\n' ? n - 1 : n), path);
	bool bad = ferror(f);
	fclose(f);
	return bad ? vl_fail(err, EIO, "cannot read %s", path) : 0;
}

static int is_record(const struct dirent *e)
{
	size_t n = strlen(e->d_name);

	return n > 6 && vl_streq(e->d_name + n - 6, ".jsonl");
}

static int show_dir(struct showing *s, const char *path, struct vl_err *err)
{
	struct dirent **l;
	int n = scandir(path, &l, is_record, alphasort),
	    r = n < 0 ? vl_fail_sys(err, errno, "cannot read %s", path) : 0;

	for (int i = 0; i < n; i++) {
		VL_FREE char *file = vl_asprintf("%s/%s", path, l[i]->d_name);
		if (r == 0)
			r = show_file(s, file, err);
		free(l[i]);
	}
	if (n >= 0)
		free(l);
	return r;
}

int cmd_record_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_record_opts *o = opts;
	struct showing s = { .c = c, .json = o->json };
	const char *where = o->dir;
	struct vl_err err = { 0 };
	struct stat st;

	(void)self;
	if (argc && vl_parse_u64(argv[0], 1, UINT32_MAX, &s.job) < 0)
		where = argv[0];
	if (!where)
		return cmd_usage(c, "which records? name a FILE, or with --dir DIR the site's");
	int r = stat(where, &st) < 0 ? vl_fail_sys(&err, errno, "%s", where) : 0;
	if (r == 0)
		r = S_ISDIR(st.st_mode) ? show_dir(&s, where, &err) : show_file(&s, where, &err);
	if (r == 0 && s.job && !s.shown)
		vl_fail(&err, ENOENT, "%s has no record of job %llu", where, (unsigned long long)s.job);
	return err.code ? cmd_fail(c, &err) : 0;
}
