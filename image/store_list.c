/* What is in the store. */
#include "store_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

#define FILES_MAX 1000000 /* of one directory: 200 MB of memory, and far above what a store of images has */

void img_store_scan_free(struct img_store_scan *c)
{
	for (size_t i = 0; i < c->n_items; i++) {
		free(c->items[i].id);
		free(c->items[i].path);
		free(c->items[i].file);
		free(c->items[i].names);
		free(c->items[i].digest);
	}
	for (size_t i = 0; i < c->n_records; i++) {
		img_store_name_free(&c->records[i].n);
		free(c->records[i].file);
	}
	free(c->items);
	free(c->records);
	vl_strv_free(&c->broken);
}

/* ---- directories ---- */

int img_store_each_file(int dirfd, const char *name, const char *path, int (*f)(void *arg, const char *file), void *arg,
			struct vl_err *err)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	size_t n = 0;
	int r = 0;

	if (!d) {
		r = errno == ENOENT ? 0 : vl_fail_sys(err, errno, "cannot read the directory %s", path);
		vl_closep(&fd);
		return r;
	}
	errno = 0;
	for (struct dirent *e; r == 0 && (e = readdir(d)); errno = 0) {
		if (vl_streq(e->d_name, ".") || vl_streq(e->d_name, ".."))
			continue;
		r = ++n > FILES_MAX ? vl_fail(err, EFBIG, "%s has more than %d files", path, FILES_MAX)
				    : f(arg, e->d_name);
	}
	if (r == 0 && errno)
		r = vl_fail_sys(err, errno, "cannot read the directory %s", path);
	closedir(d);
	return r;
}

struct place {
	struct img_store_scan *scan;
	int dirfd;        /* of the tier */
	const char *path; /* of the tier */
	const char *sub;  /* "images", "blobs/sha256", ... */
	bool site;
	uid_t uid;
};

static void add_item(struct place *p, enum img_store_kind kind, char *id, const char *file)
{
	struct img_store_scan *c = p->scan;
	VL_FREE char *name = vl_asprintf("%s/%s", p->sub, file), *own_id = id;
	struct statx st;

	if (statx(p->dirfd, name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &st) < 0 ||
	    !S_ISREG(st.stx_mode))
		return;
	if (p->site && st.stx_uid != 0 && st.stx_uid != p->uid)
		return;
	if (c->n_items == c->cap_items) {
		c->cap_items = c->cap_items ? c->cap_items * 2 : 64;
		c->items = vl_realloc(c->items, c->cap_items, sizeof *c->items);
	}
	struct img_store_entry *it = &c->items[c->n_items++];
	*it = (struct img_store_entry){ .kind = kind, .used = st.stx_mtime.tv_sec, .size = st.stx_blocks * 512 };
	it->site = p->site;
	it->made = st.stx_mask & STATX_BTIME ? VL_MIN(st.stx_btime.tv_sec, it->used) : it->used;
	it->path = vl_asprintf("%s/%s", p->path, name);
	it->id = vl_steal(&own_id);
	it->file = vl_steal(&name);
}

static int see_image(void *arg, const char *file)
{
	size_t n = strlen(file);

	if (n > 4 && vl_streq(file + n - 4, ".sif") && img_store_is_key(file, n - 4))
		add_item(arg, IMG_STORE_IMAGE, vl_strndup(file, n - 4), file);
	return 0;
}

static int see_layer(void *arg, const char *file)
{
	struct place *p = arg;
	VL_FREE char *id = vl_asprintf("%s:%s", vl_basename(p->sub), file);
	struct oci_digest d;
	struct vl_err err;

	if (oci_digest_parse(id, &d, &err) == 0)
		add_item(p, IMG_STORE_LAYER, vl_steal(&id), file);
	return 0;
}

static int scan_tier(struct place *p, struct vl_err *err)
{
	static const char *const subs[] = { "images", "blobs/sha256", "blobs/sha512" };

	for (size_t i = 0; i < VL_COUNT(subs); i++) {
		VL_FREE char *path = vl_asprintf("%s/%s", p->path, subs[i]);
		p->sub = subs[i];
		int r = img_store_each_file(p->dirfd, subs[i], path, i == 0 ? see_image : see_layer, p, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- names ---- */

static void add_record(struct img_store_scan *c, const struct img_store_name *n, const char *key, const char *file)
{
	if (c->n_records == c->cap_records) {
		c->cap_records = c->cap_records ? c->cap_records * 2 : 64;
		c->records = vl_realloc(c->records, c->cap_records, sizeof *c->records);
	}
	c->records[c->n_records++] = (struct img_store_record){
		.n = { .name = vl_strdup(n->name),
		       .arch = vl_strdup(n->arch),
		       .digest = vl_strdup(n->digest),
		       .key = vl_strdup(key),
		       .time = n->time },
		.file = vl_strdup(file),
	};
}

static int see_name(void *arg, const char *file)
{
	struct place *p = arg;
	struct img_store_scan *c = p->scan;
	VL_FREE char *path = vl_asprintf("names/%s", file);
	struct img_store_name n = { 0 };

	if (*file == '.')
		return 0;
	int r = img_store_name_read(p->dirfd, path, p->site ? &p->uid : NULL, &n);
	if (r == -EBADMSG)
		vl_strv_add(&c->broken, file);
	if (r < 0)
		return 0;
	add_record(c, &n, n.key, file);
	for (size_t i = 0; i < n.others.n; i++)
		add_record(c, &n, n.others.v[i], file);
	img_store_name_free(&n);
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct img_store_record *x = a, *y = b;
	int r = strcmp(x->n.key, y->n.key);
	return r ? r : strcmp(x->n.name, y->n.name);
}

static int scan_names(struct place *p, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/names", p->path);
	int r = img_store_each_file(p->dirfd, "names", path, see_name, p, err);

	if (p->scan->n_records)
		qsort(p->scan->records, p->scan->n_records, sizeof *p->scan->records, by_key);
	return r;
}

/* The first record of a key. */
size_t img_store_first_record(const struct img_store_scan *c, const char *key)
{
	size_t low = 0, high = c->n_records;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(c->records[mid].n.key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* "REPOSITORY@DIGEST", without a tag. */
static bool is_digest_name(const char *name)
{
	const char *at = strrchr(name, '@'), *slash = at ? memrchr(name, '/', (size_t)(at - name)) : NULL;
	struct oci_digest d;
	struct vl_err ignored;

	if (!at || oci_digest_parse(at + 1, &d, &ignored) < 0)
		return false;
	return !memchr(slash ? slash : name, ':', (size_t)(at - (slash ? slash : name)));
}

void img_store_join_names(struct img_store_scan *c, struct img_store_entry *it)
{
	VL_BUF struct vl_buf names = { 0 };

	for (size_t i = img_store_first_record(c, it->id); i < c->n_records && vl_streq(c->records[i].n.key, it->id);
	     i++) {
		const struct img_store_name *n = &c->records[i].n;
		if (!it->digest && *n->digest)
			it->digest = vl_strdup(n->digest);
		if (i && vl_streq(c->records[i - 1].n.key, it->id) && vl_streq(c->records[i - 1].n.name, n->name))
			continue; /* the same name for another architecture */
		if (is_digest_name(n->name))
			continue; /* what was asked for by digest: it is shown as such */
		vl_buf_addf(&names, "%s%s", names.len ? "," : "", n->name);
	}
	it->names = vl_steal(&names.data);
}

static int by_use(const void *a, const void *b)
{
	const struct img_store_entry *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->used != y->used)
		return x->used > y->used ? -1 : 1;
	return strcmp(x->path, y->path);
}

bool img_store_tell_of(const struct img_store_entry *it, img_store_item_fn *f, void *arg)
{
	struct img_store_item i = { .kind = it->kind,
				    .id = it->id,
				    .name = it->names ? it->names : "",
				    .digest = it->digest ? it->digest : "",
				    .path = it->path,
				    .size = it->size,
				    .made = it->made,
				    .used = it->used,
				    .site = it->site };
	return !f || f(arg, &i);
}

int img_store_scan_own(struct img_store *s, struct img_store_scan *c, struct vl_err *err)
{
	struct place p = { .scan = c, .dirfd = s->dirfd, .path = s->dir };
	int r = scan_tier(&p, err);

	return r < 0 ? r : scan_names(&p, err);
}

int img_store_list(struct img_store *s, img_store_item_fn *f, void *arg, struct vl_err *err)
{
	IMG_STORE_SCAN struct img_store_scan c = { 0 };
	int r = s->dirfd < 0 ? 0 : img_store_scan_own(s, &c, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < s->n_sites; i++) {
		struct place site = { .scan = &c,
				      .dirfd = s->sites[i].fd,
				      .path = s->sites[i].path,
				      .site = true,
				      .uid = s->sites[i].uid };
		struct vl_err ignored; /* a tier that cannot be read is no reason not to show the others */
		if (scan_tier(&site, &ignored) == 0)
			scan_names(&site, &ignored);
	}
	if (c.n_records)
		qsort(c.records, c.n_records, sizeof *c.records, by_key);
	if (c.n_items)
		qsort(c.items, c.n_items, sizeof *c.items, by_use);
	for (size_t i = 0; i < c.n_items; i++) {
		if (c.items[i].kind == IMG_STORE_IMAGE)
			img_store_join_names(&c, &c.items[i]);
		if (!img_store_tell_of(&c.items[i], f, arg))
			break;
	}
	return 0;
}
