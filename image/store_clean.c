/* What may go from the store. */
#include "store_files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <time.h>

#define NO_LOCKS_SECONDS (7 * 86400) /* where a left-over cannot be told from a file at work: nothing takes a week */
#define ORPHAN_SECONDS 86400         /* a name is recorded before its image is there; a day is enough to make it */

struct cleaning {
	struct img_store *store;
	const struct img_store_clean *how;
	img_store_item_fn *f;
	void *arg;
	struct img_store_scan *scan;
	const char *sub; /* of see_left_over */
	int64_t now;
	uint64_t freed;
	bool stop; /* f wants no more */
	int failed;
	struct vl_err *err; /* of the first that could not be removed */
};

/* Seconds since then. A clock may have been wrong, here or on a file server: what was used in the future is new, and
 * not out of reach. */
static int64_t age_of(const struct cleaning *k, int64_t then)
{
	return VL_MAX(k->now - then, (int64_t)0);
}

/* True: it is not there any more (or would not be). One that stays is no reason to keep the others. */
static bool remove_item(struct cleaning *k, const struct img_store_entry *it)
{
	if (!k->how->dry && unlinkat(k->store->dirfd, it->file, 0) < 0) {
		if (errno == ENOENT)
			return true; /* somebody was faster */
		if (!k->failed)
			k->failed = vl_fail_sys(k->err, errno, "cannot remove %s from the image store", it->path);
		return false;
	}
	k->freed += it->size;
	if (!img_store_tell_of(it, k->f, k->arg))
		k->stop = true;
	return true;
}

/* A name record, a left-over, a lock: by its file name. */
static void remove_other(struct cleaning *k, const char *sub, const char *file)
{
	VL_FREE char *name = vl_asprintf("%s/%s", sub, file), *path = vl_asprintf("%s/%s", k->store->dir, name);
	struct stat st;

	if (fstatat(k->store->dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	struct img_store_entry it = { .kind = IMG_STORE_OTHER,
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
	const struct img_store_entry *x = a, *y = b;

	if (x->used != y->used)
		return x->used < y->used ? -1 : 1;
	return strcmp(x->path, y->path);
}

static void remove_unused(struct cleaning *k, const char *spare)
{
	struct img_store_scan *c = k->scan;
	uint64_t total = 0;

	for (size_t i = 0; i < c->n_items; i++)
		total += c->items[i].size;
	if (c->n_items)
		qsort(c->items, c->n_items, sizeof *c->items, oldest_first);
	for (size_t i = 0; i < c->n_items && !k->stop; i++) {
		struct img_store_entry *it = &c->items[i];
		if (k->how->limit && total <= k->how->limit)
			break;
		if (!(k->how->kinds & it->kind) || age_of(k, it->used) < k->how->unused_seconds ||
		    (spare && vl_streq(it->path, spare)))
			continue;
		if (it->kind == IMG_STORE_IMAGE)
			img_store_join_names(c, it);
		if (!remove_item(k, it))
			continue;
		total -= it->size;
		if (it->kind != IMG_STORE_IMAGE)
			continue;
		for (size_t n = img_store_first_record(c, it->id);
		     n < c->n_records && vl_streq(c->records[n].n.key, it->id); n++)
			c->records[n].gone = true;
	}
}

static int by_file(const void *a, const void *b)
{
	const struct img_store_record *x = a, *y = b;

	return strcmp(x->file, y->file);
}

static bool has_image(const struct cleaning *k, const struct img_store_record *n)
{
	VL_FREE char *image = vl_asprintf("%s.sif", n->n.key);

	return !n->gone && !(faccessat(k->store->images, image, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT);
}

/* A name is one file, whatever the number of its images: it stays as long as one of them. */
static void remove_names(struct cleaning *k)
{
	struct img_store_scan *c = k->scan;
	int64_t age = k->how->kinds & IMG_STORE_OTHER ? k->how->unused_seconds : ORPHAN_SECONDS;

	for (size_t i = 0; i < c->broken.n && !k->stop; i++)
		remove_other(k, "names", c->broken.v[i]);
	if (c->n_records)
		qsort(c->records, c->n_records, sizeof *c->records, by_file);
	for (size_t i = 0, end; i < c->n_records && !k->stop; i = end) {
		const struct img_store_record *first = &c->records[i];
		bool used = false, gone = false;
		for (end = i; end < c->n_records && vl_streq(c->records[end].file, first->file); end++) {
			used |= has_image(k, &c->records[end]);
			gone |= c->records[end].gone;
		}
		VL_FREE char *name = vl_asprintf("names/%s", first->file);
		if (used)
			continue;
		if (gone && !k->how->dry)
			unlinkat(k->store->dirfd, name, 0);
		else if (!gone && age_of(k, first->n.time) >= age)
			remove_other(k, "names", first->file);
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
		int r = img_store_each_file(k->store->dirfd, subs[i], path, i == 3 ? see_lock : see_left_over, k, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int img_store_clean_but(struct img_store *s, const struct img_store_clean *how, const char *spare, img_store_item_fn *f,
			void *arg, uint64_t *ret_bytes, struct vl_err *err)
{
	IMG_STORE_SCAN struct img_store_scan c = { 0 };
	struct cleaning k = { .store = s, .how = how, .f = f, .arg = arg, .scan = &c, .now = time(NULL), .err = err };
	int r = img_store_need_own(s, err);

	if (r < 0 || (r = img_store_scan_own(s, &c, err)) < 0)
		return r;
	remove_unused(&k, spare);
	remove_names(&k);
	if ((r = remove_left_overs(&k, err)) < 0)
		return r;
	if (k.failed)
		return k.failed;
	*ret_bytes = k.freed;
	return 0;
}

int img_store_clean(struct img_store *s, const struct img_store_clean *how, img_store_item_fn *f, void *arg,
		    uint64_t *ret_bytes, struct vl_err *err)
{
	return img_store_clean_but(s, how, NULL, f, arg, ret_bytes, err);
}
