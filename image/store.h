/* The image store: finished images and downloaded layers, by what they are made of.
 *
 *   STORE/CACHEDIR.TAG            backup programs leave the directory out
 *   STORE/images/KEY.sif          KEY: SHA-256 over manifest digest, source and conversion options
 *   STORE/blobs/sha256/HEX        layers as the registry had them
 *   STORE/names/HASH.json         what a name meant when it was asked for: {name, arch, digest, key, others, time}
 *   STORE/locks/KEY               held by the one who makes KEY; its text is how far that is
 *
 * Made for any number of processes on any number of nodes: a file appears by rename or link, whole; nobody
 * changes one that is there; who needs a missing image takes its lock (OFD locks: they die with their process,
 * and with their node's lease) and others wait for it. On a file system without locks everybody converts for
 * himself, and the last rename wins: slower, never wrong.
 * A file's modification time is when it was last used; it was made when the file system says (or, where it does not,
 * when it was last used).
 * A store that cannot be written (the site's) is searched after the user's own. */
#ifndef IMAGE_STORE_H
#define IMAGE_STORE_H

#include <vial/image.h>
#include <vial/oci.h>

#define IMG_KEY_SIZE 65

/* KEY.sif in the own store, then in the read-only tiers. *ret_fd: read-only, the caller's; *ret_path returns new.
 * A hit is marked as used now, for the LRU. -ENOENT: not there. */
int img_store_find(struct img_store *s, const char *key, int *ret_fd, char **ret_path, struct vl_err *err);

/* Waits until the image is there or is ours to make. 0: found (as img_store_find). 1: ours: *ret_new is open, and the
 * lock is held until img_store_commit or img_store_give_up. While another process makes it, its progress is
 * passed on. INT, TERM and HUP end the waiting as they would end any program. */
struct img_making {
	struct img_store *store;
	struct vl_newfile file; /* .fd is what to write the image into */
	int lock;               /* -1: the file system has none */
	char key[IMG_KEY_SIZE];
	int64_t told_ms;
};
#define IMG_MAKING_INIT                                                                                                \
	{                                                                                                              \
		.file = VL_NEWFILE_INIT, .lock = -1                                                                    \
	}
int img_store_take(struct img_store *s, const char *key, const struct vl_progress *progress, struct img_making *ret_new,
		   int *ret_fd, char **ret_path, struct vl_err *err);
/* For those who wait: how far we are. Cheap; writes about once a second. */
void img_store_tell(struct img_making *m, const char *what, uint64_t done, uint64_t total);
/* The image appears; *ret_fd is open for reading it. Then the limit is kept by removing what was unused longest. */
int img_store_commit(struct img_making *m, int *ret_fd, char **ret_path, struct vl_err *err);
void img_store_give_up(struct img_making *m); /* idempotent; fine with IMG_MAKING_INIT and after a commit */

/* What a name led to for an architecture: text of the manifest digest. "REPOSITORY@DIGEST" for a digest that people name
 * (of an index, say). */
int img_store_name_find(struct img_store *s, const char *name, const char *arch, char ret_digest[IMG_DIGEST_SIZE]);
bool img_store_name_has(struct img_store *s, const char *name, const char *arch, const char *digest, const char *key);
/* A record of the same digest keeps the keys it had: one for each set of options. */
int img_store_name_set(struct img_store *s, const char *name, const char *arch, const char *digest, const char *key,
		       struct vl_err *err);

/* Layers, as oci wants them. keep_layers false: nameless files only. Valid as long as the store. */
const struct oci_blob_store *img_store_blobs(struct img_store *s);

#endif
