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
	int dirfd, images, blobs, names, locks;
	struct img_store_site *sites;
	size_t n_sites;
	uint64_t limit;
	bool keep_layers;
	struct oci_blob_store blob_store;
};

#define IMG_STORE_HINT "set VIAL_CACHEDIR to a directory that can be written, or use --disable-cache"

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

/* One names/HASH.json. Bounded and strict: -EBADMSG when it is not one of ours. */
struct img_store_name {
	char *name, *arch, *digest, *key;
	int64_t time;
};
int img_store_name_read(int dirfd, const char *file, struct img_store_name *ret);
void img_store_name_free(struct img_store_name *n);

/* img_store_clean, sparing one image. */
int img_store_clean_but(struct img_store *s, const struct img_store_clean *how, const char *spare, img_store_item_fn *f,
			void *arg, uint64_t *ret_bytes, struct vl_err *err);

#endif
