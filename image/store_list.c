/* What is in the store, and what may go. */
#include "store_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/sysmacros.h>
#include <time.h>

#define FILES_MAX 1000000            /* of one directory: 200 MB of memory, and far above what a store of images has */
#define NO_LOCKS_SECONDS (7 * 86400) /* where a left-over cannot be told from a file at work: nothing takes a week */
#define ORPHAN_SECONDS 86400         /* a name is recorded before its image is there; a day is enough to make it */

struct item {
	enum img_store_kind kind;
	char *id, *path, *file; /* file: below the directory's descriptor */
	char *names, *digest;
	uint64_t size;
	int64_t made, used;
	bool site;
};
struct record {
	struct img_store_name n;
	char *file;
	bool gone; /* its image is being removed */
};
struct scan {
	struct item *items;
	size_t n_items, cap_items;
	struct record *records; /* ordered by key */
	size_t n_records, cap_records;
	struct vl_strv broken; /* files of names/ that are none of ours */
};

static void scan_free(struct scan *c)
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
#define SCAN VL_CLEANUP(scan_free)

/* ---- directories ---- */

/* f: 0 to go on. A directory that is not there has nothing. */
static int each_file(int dirfd, const char *name, const char *path, int (*f)(void *arg, const char *file), void *arg,
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

/* When it was made: by the file system where it tells, else at least not after its last use. */
static int64_t birth(int dirfd, const char *file, const struct stat *st)
{
	struct statx x;

	if (statx(dirfd, file, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &x) == 0 && x.stx_mask & STATX_BTIME)
		return VL_MIN((int64_t)x.stx_btime.tv_sec, (int64_t)st->st_mtim.tv_sec);
	return st->st_mtim.tv_sec;
}

struct place {
	struct scan *scan;
	int dirfd;        /* of the tier */
	const char *path; /* of the tier */
	const char *sub;  /* "images", "blobs/sha256", ... */
	bool site;
	uid_t uid;
};

static void add_item(struct place *p, enum img_store_kind kind, char *id, const char *file)
{
	struct scan *c = p->scan;
	VL_FREE char *name = vl_asprintf("%s/%s", p->sub, file), *own_id = id;
	struct stat st;

	if (fstatat(p->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return;
	if (p->site && st.st_uid != 0 && st.st_uid != p->uid)
		return;
	if (c->n_items == c->cap_items) {
		c->cap_items = c->cap_items ? c->cap_items * 2 : 64;
		c->items = vl_realloc(c->items, c->cap_items, sizeof *c->items);
	}
	struct item *it = &c->items[c->n_items++];
	*it = (struct item){ .kind = kind, .used = st.st_mtim.tv_sec, .size = (uint64_t)st.st_blocks * 512 };
	it->site = p->site;
	it->made = birth(p->dirfd, name, &st);
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
		int r = each_file(p->dirfd, subs[i], path, i == 0 ? see_image : see_layer, p, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- names ---- */

static int see_name(void *arg, const char *file)
{
	struct place *p = arg;
	struct scan *c = p->scan;
	VL_FREE char *path = vl_asprintf("names/%s", file);
	struct img_store_name n = { 0 };

	if (*file == '.')
		return 0;
	int r = img_store_name_read(p->dirfd, path, &n);
	if (r == -EBADMSG)
		vl_strv_add(&c->broken, file);
	if (r < 0)
		return 0;
	if (c->n_records == c->cap_records) {
		c->cap_records = c->cap_records ? c->cap_records * 2 : 64;
		c->records = vl_realloc(c->records, c->cap_records, sizeof *c->records);
	}
	c->records[c->n_records++] = (struct record){ .n = n, .file = vl_strdup(file) };
	return 0;
}

static int by_key(const void *a, const void *b)
{
	const struct record *x = a, *y = b;
	int r = strcmp(x->n.key, y->n.key);
	return r ? r : strcmp(x->n.name, y->n.name);
}

static int scan_names(struct place *p, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s/names", p->path);
	int r = each_file(p->dirfd, "names", path, see_name, p, err);

	if (p->scan->n_records)
		qsort(p->scan->records, p->scan->n_records, sizeof *p->scan->records, by_key);
	return r;
}

/* The first record of a key. */
static size_t first_record(const struct scan *c, const char *key)
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

static void join_names(struct scan *c, struct item *it)
{
	VL_BUF struct vl_buf names = { 0 };

	for (size_t i = first_record(c, it->id); i < c->n_records && vl_streq(c->records[i].n.key, it->id); i++) {
		const struct img_store_name *n = &c->records[i].n;
		if (!it->digest && *n->digest)
			it->digest = vl_strdup(n->digest);
		if (i && vl_streq(c->records[i - 1].n.key, it->id) && vl_streq(c->records[i - 1].n.name, n->name))
			continue; /* the same name for another architecture */
		vl_buf_addf(&names, "%s%s", names.len ? "," : "", n->name);
	}
	it->names = vl_steal(&names.data);
}

static int by_use(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	if (x->used != y->used)
		return x->used > y->used ? -1 : 1;
	return strcmp(x->path, y->path);
}

static bool tell(const struct item *it, img_store_item_fn *f, void *arg)
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

int img_store_list(struct img_store *s, img_store_item_fn *f, void *arg, struct vl_err *err)
{
	SCAN struct scan c = { 0 };
	struct place p = { .scan = &c, .dirfd = s->dirfd, .path = s->dir };
	int r;

	if ((r = scan_tier(&p, err)) < 0 || (r = scan_names(&p, err)) < 0)
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
			join_names(&c, &c.items[i]);
		if (!tell(&c.items[i], f, arg))
			break;
	}
	return 0;
}

/* ---- clean-up ---- */

struct cleaning {
	struct img_store *store;
	const struct img_store_clean *how;
	img_store_item_fn *f;
	void *arg;
	struct scan *scan;
	const char *sub; /* of see_left_over */
	int64_t now;
	uint64_t freed;
	bool stop; /* f wants no more */
};

static void remove_item(struct cleaning *k, const struct item *it)
{
	if (!k->how->dry && unlinkat(k->store->dirfd, it->file, 0) < 0)
		return; /* somebody was faster */
	k->freed += it->size;
	if (!tell(it, k->f, k->arg))
		k->stop = true;
}

/* A name record, a left-over, a lock: by its file name. */
static void remove_other(struct cleaning *k, const char *sub, const char *file)
{
	VL_FREE char *name = vl_asprintf("%s/%s", sub, file), *path = vl_asprintf("%s/%s", k->store->dir, name);
	struct stat st;

	if (fstatat(k->store->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct item it = { .kind = IMG_STORE_OTHER,
			   .id = vl_strdup(file),
			   .path = path,
			   .file = name,
			   .size = (uint64_t)st.st_blocks * 512,
			   .made = st.st_mtim.tv_sec,
			   .used = st.st_mtim.tv_sec };
	remove_item(k, &it);
	free(it.id);
}

static int oldest_first(const void *a, const void *b)
{
	const struct item *x = a, *y = b;

	if (x->used != y->used)
		return x->used < y->used ? -1 : 1;
	return strcmp(x->path, y->path);
}

static void remove_unused(struct cleaning *k, const char *spare)
{
	struct scan *c = k->scan;
	uint64_t total = 0;

	for (size_t i = 0; i < c->n_items; i++)
		total += c->items[i].size;
	if (c->n_items)
		qsort(c->items, c->n_items, sizeof *c->items, oldest_first);
	for (size_t i = 0; i < c->n_items && !k->stop; i++) {
		struct item *it = &c->items[i];
		if (k->how->limit && total <= k->how->limit)
			break;
		if (!(k->how->kinds & it->kind) || k->now - it->used < k->how->unused_seconds ||
		    (spare && vl_streq(it->path, spare)))
			continue;
		if (it->kind == IMG_STORE_IMAGE) {
			join_names(c, it);
			for (size_t n = first_record(c, it->id);
			     n < c->n_records && vl_streq(c->records[n].n.key, it->id); n++)
				c->records[n].gone = true;
		}
		total -= it->size;
		remove_item(k, it);
	}
}

static void remove_names(struct cleaning *k)
{
	struct scan *c = k->scan;
	int64_t age = k->how->kinds & IMG_STORE_OTHER ? k->how->unused_seconds : ORPHAN_SECONDS;

	for (size_t i = 0; i < c->broken.n && !k->stop; i++)
		remove_other(k, "names", c->broken.v[i]);
	for (size_t i = 0; i < c->n_records && !k->stop; i++) {
		struct record *n = &c->records[i];
		VL_FREE char *image = vl_asprintf("%s.sif", n->n.key), *name = vl_asprintf("names/%s", n->file);
		if (n->gone && !k->how->dry)
			unlinkat(k->store->dirfd, name, 0);
		else if (!n->gone && k->now - n->n.time >= age &&
			 faccessat(k->store->images, image, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
			remove_other(k, "names", n->file);
	}
}

/* A hidden file whose writer holds no lock on it any more. */
static bool is_dead(struct cleaning *k, int dirfd, const char *file)
{
	struct stat st;
	VL_CLOSE int fd = img_store_open_file(dirfd, file, O_RDWR, &st);

	if (fd < 0)
		return fd == -EINVAL || fd == -ELOOP || fd == -ENXIO; /* not a file at all */
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return true;
	return errno != EWOULDBLOCK && k->now - VL_MAX(st.st_mtim.tv_sec, st.st_ctim.tv_sec) > NO_LOCKS_SECONDS;
}

static int see_left_over(void *arg, const char *file)
{
	struct cleaning *k = arg;
	struct img_store *s = k->store;
	int dirfd = vl_streq(k->sub, "images") ? s->images : vl_streq(k->sub, "blobs") ? s->blobs : s->names;
	char key[IMG_KEY_SIZE] = "";
	struct vl_err ignored;
	int lock = -1;

	if (*file != '.' || !strstr(file, ".vial-") || k->stop)
		return 0;
	/* an image's writer also holds the lock of its key, from before the file is there */
	if (dirfd == s->images && img_store_is_key(file + 1, strcspn(file + 1, "."))) {
		memcpy(key, file + 1, sizeof key - 1);
		lock = img_store_lock_try(s, key, &ignored);
		if (lock < 0 && lock != -ENOLCK)
			return 0;
	}
	if (is_dead(k, dirfd, file))
		remove_other(k, k->sub, file);
	img_store_unlock(s, key, &lock);
	return 0;
}

static int see_lock(void *arg, const char *file)
{
	struct cleaning *k = arg;
	struct vl_err ignored;

	if (!img_store_is_key(file, strlen(file)) || k->how->dry)
		return 0;
	int lock = img_store_lock_try(k->store, file, &ignored);
	img_store_unlock(k->store, file, &lock);
	return 0;
}

static int remove_left_overs(struct cleaning *k, struct vl_err *err)
{
	static const char *const subs[] = { "images", "blobs", "names", "locks" };

	for (size_t i = 0; i < VL_COUNT(subs); i++) {
		VL_FREE char *path = vl_asprintf("%s/%s", k->store->dir, subs[i]);
		k->sub = subs[i];
		int r = each_file(k->store->dirfd, subs[i], path, i == 3 ? see_lock : see_left_over, k, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int img_store_clean_but(struct img_store *s, const struct img_store_clean *how, const char *spare, img_store_item_fn *f,
			void *arg, uint64_t *ret_bytes, struct vl_err *err)
{
	SCAN struct scan c = { 0 };
	struct place p = { .scan = &c, .dirfd = s->dirfd, .path = s->dir };
	struct cleaning k = { .store = s, .how = how, .f = f, .arg = arg, .scan = &c, .now = time(NULL) };
	int r;

	if ((r = scan_tier(&p, err)) < 0 || (r = scan_names(&p, err)) < 0)
		return r;
	remove_unused(&k, spare);
	remove_names(&k);
	if ((r = remove_left_overs(&k, err)) < 0)
		return r;
	*ret_bytes = k.freed;
	return 0;
}

int img_store_clean(struct img_store *s, const struct img_store_clean *how, img_store_item_fn *f, void *arg,
		    uint64_t *ret_bytes, struct vl_err *err)
{
	return img_store_clean_but(s, how, NULL, f, arg, ret_bytes, err);
}
