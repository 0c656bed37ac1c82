/* What a running server tells of itself. JSON by hand: a library for it wants random bytes from a file first, and
 * there are no files here. */
#include "squash_srv.h"

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define HOT 10
#define MAX_DEPTH 64

typedef unsigned long long ull;

/* ---- the files that were read most ------------------------------------------------------------- */

struct hot {
	struct srv_file file[HOT]; /* most bytes first */
	char *name[HOT];
	size_t n, found;
};

static void offer(struct hot *h, const struct srv_file *f)
{
	size_t i = h->n;

	if (!f->reads)
		return;
	if (h->n < HOT)
		h->n++;
	else if (h->file[--i].bytes >= f->bytes)
		return;
	for (; i && h->file[i - 1].bytes < f->bytes; i--)
		h->file[i] = h->file[i - 1];
	h->file[i] = *f;
}

/* Names are not kept while files are read: the image is searched when somebody asks, as long as one question
 * may take. */
static void name_them(struct squash *s, uint64_t ref, char *path, size_t len, unsigned depth, struct hot *h)
{
	struct sq_inode i;
	struct sq_entry e;
	struct sq_dir d;

	if (depth > MAX_DEPTH || vmnt_sq_inode(s, ref, &i) < 0 || vmnt_sq_dir(s, &i, 0, &d) < 0)
		return;
	while (h->found < h->n && vmnt_sq_next(s, &d, &e) > 0) {
		size_t n = strlen(e.name);
		if (len + n + 2 > PATH_MAX)
			continue;
		path[len] = '/';
		memcpy(path + len + 1, e.name, n + 1);
		if (e.type == SQ_DIR)
			name_them(s, e.ref, path, len + 1 + n, depth + 1, h);
		for (size_t k = 0; e.type == SQ_REG && k < h->n; k++)
			if (h->file[k].ref == e.ref && !h->name[k]) { /* of hard links the first */
				h->name[k] = vl_strdup(path);
				h->found++;
			}
	}
}

static void add_hot(struct vl_buf *b, struct vmnt_session *s)
{
	struct squash *sq = vl_alloc(sizeof *sq);
	struct hot h = { 0 };
	char path[PATH_MAX];

	pthread_mutex_lock(&s->lock);
	for (size_t i = 0; i < SRV_SETS * SRV_SET; i++)
		offer(&h, &s->file[i / SRV_SET][i % SRV_SET]);
	pthread_mutex_unlock(&s->lock);
	vmnt_sq_reader(&s->sq, sq);
	name_them(sq, sq->super.root, path, 0, 0, &h);
	vmnt_sq_close(sq);
	free(sq);
	vl_buf_adds(b, ",\"files\":[");
	for (size_t i = 0; i < h.n; i++) {
		vl_buf_addf(b, "%s{\"reads\":%llu,\"bytes\":%llu", i ? "," : "", (ull)h.file[i].reads,
			    (ull)h.file[i].bytes);
		if (h.name[i]) {
			vl_buf_adds(b, ",\"path\":");
			vmnt_json_text(b, h.name[i]);
		}
		vl_buf_adds(b, "}");
		free(h.name[i]);
	}
	vl_buf_adds(b, "]");
}

/* ---- numbers -------------------------------------------------------------------------------- */

static void add_counts(struct vl_buf *b, struct vmnt_session *s)
{
	static const char *const name[] = { "lookup",  "getattr", "readlink", "read",
					    "readdir", "statfs",  "xattr",    "lseek" };

	vl_buf_adds(b, "\"requests\":{");
	for (size_t i = 0; i < VL_COUNT(name); i++)
		vl_buf_addf(b, "%s\"%s\":%llu", i ? "," : "", name[i], (ull)s->count[i]);
	vl_buf_addf(b, "},\"bytes\":%llu,\"places\":%zu", (ull)s->count[SRV_BYTES], (size_t)s->virt.n);
}

static void add_cache(struct vl_buf *b, const char *name, struct sq_cache *c)
{
	uint64_t hits, misses;

	vmnt_cache_count(c, &hits, &misses);
	vl_buf_addf(b, ",\"%s\":{\"hits\":%llu,\"misses\":%llu}", name, (ull)hits, (ull)misses);
}

static uint64_t resident(int statm)
{
	char b[128] = "";
	ull all, pages;

	if (statm < 0 || pread(statm, b, sizeof b - 1, 0) <= 0 || sscanf(b, "%llu %llu", &all, &pages) != 2)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

char *vmnt_session_stats(struct vmnt_session *s)
{
	struct sq_shared *sh = s->sq.sh;
	struct vl_buf b = { 0 };

	vl_buf_adds(&b, "{");
	add_counts(&b, s);
	add_cache(&b, "metadata", &sh->meta);
	add_cache(&b, "data", &sh->data);
	pthread_mutex_lock(&sh->ahead.lock);
	uint64_t ahead = sh->ahead.done;
	pthread_mutex_unlock(&sh->ahead.lock);
	vl_buf_addf(&b, ",\"unpacked\":{\"blocks\":%llu,\"nanoseconds\":%llu,\"ahead\":%llu}", (ull)sh->unpacked,
		    (ull)sh->unpack_ns, (ull)ahead);
	if (s->sq.tree) {
		uint64_t hashed, bad;
		vmnt_tree_count(s->sq.tree, &hashed, &bad);
		vl_buf_addf(&b, ",\"tree\":{\"hashed\":%llu,\"bad\":%llu}", (ull)hashed, (ull)bad);
	}
	vl_buf_addf(&b, ",\"threads\":%u,\"memory\":%llu,\"resident\":%llu", s->max_threads,
		    (ull)(s->image.memory ? s->image.memory : VMNT_MEMORY), (ull)resident(s->statm));
	add_hot(&b, s);
	vl_buf_adds(&b, "}");
	return b.data;
}

void vmnt_session_report(struct vmnt_session *s, pid_t user)
{
	VL_FREE char *text = vmnt_session_stats(s);
	const struct vmnt_report r = { .image = s->image.name, .pid = user, .since = s->started, .until = time(NULL) };

	vmnt_report_write(s->image.report, &r, text);
}
