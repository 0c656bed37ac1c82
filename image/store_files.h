/* The image store from inside: its open directories, and what its files share. */
#ifndef IMAGE_STORE_FILES_H
#define IMAGE_STORE_FILES_H

#include "store.h"

#include <sys/stat.h>

struct img_store_site {
	char *path;
	int fd;    /* O_PATH */
	uid_t uid; /* who owns it may put files there, as root may */
};

struct img_store {
	char *dir;
	int dirfd, images, blobs, names, locks; /* all -1: only the sites' can be used */
	struct vl_err why;                      /* then: why not */
	struct img_store_site *sites;
	size_t n_sites;
	uint64_t limit;
	bool keep_layers;
	struct oci_blob_store blob_store;
};

#define IMG_STORE_HINT "set VIAL_CACHEDIR to a directory that can be written, or use --disable-cache"

/* 0, or why there is no own store. */
int img_store_need_own(struct img_store *s, struct vl_err *err);
bool img_store_is_key(const char *s, size_t n);
/* A regular file below dirfd, never through a link, never blocking on a FIFO. fd or -errno. */
int img_store_open_file(int dirfd, const char *name, int flags, struct stat *ret_st);
/* The same in a site's tier, where its owner is looked at too. */
int img_store_open_site(const struct img_store_site *site, const char *name, struct stat *ret_st);
void img_store_touch(int fd, const struct stat *st);

/* The lock file of key, locked. fd; -EAGAIN: somebody has it; -ENOLCK: no locks here; others with err filled. */
int img_store_lock_try(struct img_store *s, const char *key, struct vl_err *err);
/* Unlinks and releases; -1 is fine. */
void img_store_unlock(struct img_store *s, const char *key, int *fd);

/* Passes on what a lock's holder says; text is changed. */
void img_store_show_text(char *text, const struct vl_progress *progress);

/* One names/HASH.json. Bounded and strict: -EBADMSG when it is not one of ours, by its text or, unless that is NULL,
 * its file name. */
struct img_store_name {
	char *name, *arch, *digest, *key;
	struct vl_strv others; /* keys of the same digest with other options */
	int64_t time;
};
int img_store_name_parse(const char *text, size_t n, const char *file, struct img_store_name *ret);
/* owner NULL: anybody's. */
int img_store_name_read(int dirfd, const char *file, const uid_t *owner, struct img_store_name *ret);
void img_store_name_free(struct img_store_name *n);

/* ---- store_list.c: a store as it is now ---- */

struct img_store_entry {
	enum img_store_kind kind;
	char *id, *path, *file; /* file: below the directory's descriptor */
	char *names, *digest;
	uint64_t size;
	int64_t made, used;
	bool site;
};
struct img_store_record {
	struct img_store_name n;
	char *file;
	bool gone; /* its image is being removed */
};
struct img_store_scan {
	struct img_store_entry *items;
	size_t n_items, cap_items;
	struct img_store_record *records; /* ordered by key */
	size_t n_records, cap_records;
	struct vl_strv broken; /* files of names/ that are none of ours */
};
/* Images and layers in no order, records by key. c is all zeros before. */
int img_store_scan_own(struct img_store *s, struct img_store_scan *c, struct vl_err *err);
void img_store_scan_free(struct img_store_scan *c);
#define IMG_STORE_SCAN VL_CLEANUP(img_store_scan_free)
/* Index of the first record of a key, or of the next one after it. */
size_t img_store_first_record(const struct img_store_scan *c, const char *key);
void img_store_join_names(struct img_store_scan *c, struct img_store_entry *it);
bool img_store_tell_of(const struct img_store_entry *it, img_store_item_fn *f, void *arg);
/* f: 0 to go on. A directory that is not there has nothing. */
int img_store_each_file(int dirfd, const char *name, const char *path, int (*f)(void *arg, const char *file), void *arg,
			struct vl_err *err);

/* img_store_clean, sparing the image of this path. */
int img_store_clean_but(struct img_store *s, const struct img_store_clean *how, const char *spare, img_store_item_fn *f,
			void *arg, uint64_t *ret_bytes, struct vl_err *err);

#endif
