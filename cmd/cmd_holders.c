/* vial holders: which images are mounted, for whom. */
#include "commands.h"

#include <vial/rootless.h>

#include <stdio.h>
#include <time.h>

#define PIDS_SHOWN 8 /* of a job's hundreds, the first few tell whose they are; --json has all */

const struct opt cmd_holders_opts[] = {
	{ 0, "json", OPT_FLAG, offsetof(struct cmd_holders_opts, json), NULL, "print everything as JSON", NULL, 0 },
	{ 0, "stats", OPT_FLAG, offsetof(struct cmd_holders_opts, stats), NULL,
	  "also what each image's server was asked and how it went", NULL, 0 },
	OPT_END,
};

static vl_json *to_json(const struct ctr_holder *h)
{
	vl_json *j = vl_json_new_obj(), *users = vl_json_new_arr(), *stats = NULL;
	struct vl_err none;

	for (size_t i = 0; i < h->n_users; i++)
		vl_json_add(users, vl_json_new_int(h->users[i]));
	vl_json_set(j, "image", vl_json_new_str(h->image));
	vl_json_set(j, "pid", vl_json_new_int(h->pid));
	vl_json_set(j, "since", vl_json_new_int(h->since));
	vl_json_set(j, "memory", vl_json_new_int((int64_t)h->memory));
	vl_json_set(j, "users", users);
	if (h->stats && vl_json_parse(h->stats, strlen(h->stats), "statistics", &stats, &none) == 0)
		vl_json_set(j, "stats", stats);
	return j;
}

static void print_json(const struct ctr_holder *l, size_t n)
{
	VL_JSON vl_json *all = vl_json_new_arr();

	for (size_t i = 0; i < n; i++)
		vl_json_add(all, to_json(&l[i]));
	VL_FREE char *text = vl_json_text(all, true);
	puts(text);
}

/* ---- statistics for people ------------------------------------------------------------------ */

static int64_t number(const vl_json *j, const char *key)
{
	int64_t n = 0;

	vl_json_int(j, key, &n);
	return n;
}

static void print_count(void *arg, const char *key, const vl_json *value)
{
	const char **between = arg;
	int64_t n = 0;

	vl_json_integer(value, &n);
	printf("%s%s %lld", *between, key, (long long)n);
	*between = ", ";
}

static void print_cache(const char *what, const vl_json *j)
{
	int64_t hits = number(j, "hits"), all = hits + number(j, "misses");

	printf("%s %lld of %lld (%lld%%)", what, (long long)hits, (long long)all,
	       (long long)(all ? hits * 100 / all : 0));
}

static void print_files(const vl_json *files)
{
	for (size_t i = 0; i < vl_json_len(files); i++) {
		const vl_json *f = vl_json_at(files, i);
		const char *path = vl_json_str(f, "path");
		char size[16];
		vl_human_size((uint64_t)number(f, "bytes"), size);
		printf("    %-10s %10s in %lld reads  %s\n", i ? "" : "files", size, (long long)number(f, "reads"),
		       path ? path : "?"); /* the server has made it printable */
	}
}

static void print_stats(const char *text)
{
	VL_JSON vl_json *j = NULL;
	const char *between = "    requests   ";
	struct vl_err none;
	char bytes[16], memory[16], most[16];

	if (vl_json_parse(text, strlen(text), "statistics", &j, &none) < 0)
		return;
	const vl_json *unpacked = vl_json_obj(j, "unpacked");
	vl_human_size((uint64_t)number(j, "bytes"), bytes);
	vl_human_size((uint64_t)number(j, "resident"), memory);
	vl_human_size((uint64_t)number(j, "memory"), most);
	vl_json_each(vl_json_obj(j, "requests"), print_count, &between);
	printf("\n    data       %s read; %lld blocks unpacked in %.3f s, %lld of them ahead\n    cache hits ", bytes,
	       (long long)number(unpacked, "blocks"), (double)number(unpacked, "nanoseconds") / 1e9,
	       (long long)number(unpacked, "ahead"));
	print_cache("metadata", vl_json_obj(j, "metadata"));
	print_cache(", data", vl_json_obj(j, "data"));
	printf("\n    server     %lld threads at most, %s of memory; its caches and buffers take %s at most\n",
	       (long long)number(j, "threads"), memory, most);
	print_files(vl_json_arr(j, "files"));
}

static void print_line(const struct ctr_holder *h)
{
	VL_BUF struct vl_buf pids = { 0 };
	VL_FREE char *image = vl_printable(h->image, strlen(h->image));
	time_t when = (time_t)h->since;
	char since[32] = "?", memory[16];
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(since, sizeof since, "%Y-%m-%d %H:%M:%S", &tm);
	vl_human_size(h->memory, memory);
	vl_buf_adds(&pids, "");
	for (size_t i = 0; i < VL_MIN(h->n_users, (size_t)PIDS_SHOWN); i++)
		vl_buf_addf(&pids, "%s%d", i ? "," : "", h->users[i]);
	if (h->n_users > PIDS_SHOWN)
		vl_buf_adds(&pids, ",...");
	printf("%-8d %-20s %-10s %5zu  %s  %s\n", h->pid, since, memory, h->n_users, image, pids.data);
	if (h->stats)
		print_stats(h->stats);
}

int cmd_holders_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_holders_opts *o = opts;
	struct ctr_holder *l = NULL;
	size_t n = 0;

	(void)c, (void)self, (void)argc, (void)argv;
	ctr_holders(o->stats, &l, &n);
	if (o->json) {
		print_json(l, n);
	} else if (n) {
		printf("%-8s %-20s %-10s %5s  %s\n", "PID", "SINCE", "MEMORY", "USERS", "IMAGE");
		for (size_t i = 0; i < n; i++)
			print_line(&l[i]);
	}
	ctr_holders_free(l, n);
	return 0;
}
