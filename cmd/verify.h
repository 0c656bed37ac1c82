/* What `vial` and `vial-verify` say to each other, and what vial-verify does. */
#ifndef CMD_VERIFY_H
#define CMD_VERIFY_H

#include <vial/policy.h>
#include <vial/sif.h>

/* vial-verify SOCKET IMAGE keys [KEY...]: two descriptors, and files of public keys; none: the trusted ones of the keyrings.
 * It answers with VL_MSG_ERR, or with VL_MSG_FD: a struct verify_answer, and a file in memory that has the configuration in
 * it.
 *
 * vial-verify SOCKET IMAGE facts USE OFF SIZE TREE [ROOTS...]: what a policy may ask. USE: enum pol_use; OFF and SIZE: of the
 * partition in use, of others than POL_IMAGE; TREE: 1 = the mount can be checked by the hash tree. It answers with
 * VL_MSG_ERR, or with VL_MSG_OK and the facts as text; then, if these say by_tree, VL_MSG_FD as above. */
#define VERIFY_SIGNER_MAX 96 /* of an id: "SHA256:" and 43 letters, or a fingerprint */
#define VERIFY_SIGNERS 16
struct verify_answer {
	uint64_t off, size;               /* the partition's place */
	uint64_t config_off, config_size; /* of oci-config.json in the file; size 0 = there is none */
	uint64_t tree_off;                /* of the levels */
	uint32_t tree_block;
	uint8_t root[32];
	uint32_t n_signers;
	char signer[VERIFY_SIGNERS][VERIFY_SIGNER_MAX];
};

/* ---- snapshot.c: what a start goes by without the image's server ---- */

/* Whoever may write to the file could change it between the check and the use of what was checked. So all that is used
 * is copied first, each byte to its place in a file in memory that is empty otherwise. facts: what a policy asks about
 * besides. Returns the file. */
int cmd_snapshot(int fd, bool facts, struct vl_err *err);
/* Is this object's data in it? */
bool cmd_snapshot_has(const struct sif_descr *d, bool facts);
/* Checks what of the snapshot's signatures is there, with keys: its objects that are in it by their data, others by their
 * descriptors. The rest is not read: the partition is the tree's affair, the tree's levels are the root's. */
int cmd_snapshot_check(const struct sif_image *snap, const struct sif_verify_opts *keys, bool facts,
		       struct sif_report *rep, struct vl_err *err);
/* Places and root, as the snapshot says them. -ENODATA: there is no hash tree; -ENOTSUP: it is of no use. */
int cmd_snapshot_tree(const struct sif_image *snap, struct verify_answer *ret, struct vl_err *err);

/* ---- look.c: the facts ---- */

struct policy_question {
	enum pol_use use;
	uint64_t off, size;
	bool tree;
};
/* f->by_tree: *ret is filled in, and *ret_snapshot the caller's. Drops the privileges of this process. */
int cmd_look(int fd, const struct policy_question *q, const struct vl_strv *roots, struct pol_facts *f,
	     struct verify_answer *ret, int *ret_snapshot, struct vl_err *err);

#endif
