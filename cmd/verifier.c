/* vial-verify: is the root of this image's hash tree signed by one of these keys? A program of its own, since a start
 * waits for it: it loads no library, and parses what comes from outside without privileges. */
#include "verify.h"

#include <signal.h>
#include <sys/mman.h>
#include <vial/sif.h>

#define SMALL (16ull << 20) /* of all objects that are read: configuration, signatures */
#define CONFIG "oci-config.json"

struct keys {
	struct sif_key **v;
	size_t n;
};

static int load_keys(char **paths, int n, struct keys *ret, struct vl_err *err)
{
	int r = 0;

	ret->v = vl_alloc(((size_t)n + 1) * sizeof(void *));
	for (int i = 0; i < n && r == 0; i++) {
		r = sif_key_load(paths[i], SIF_KEY_PUBLIC, &ret->v[ret->n], err);
		ret->n += r == 0;
	}
	return r;
}

static void keys_free(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
	free(k->v);
}

/* ---- the parts of the image that a start goes by ------------------------------------------------ */

static bool has_name(const struct sif_descr *d, uint32_t type, const char *name)
{
	return d->type == type && !strncmp((const char *)d->name, name, sizeof d->name);
}

/* What is read before the image's server reads: the root of the tree, the configuration. */
static bool is_used(const struct sif_descr *d)
{
	return has_name(d, SIF_GENERIC, SIF_TREE_NAME) || has_name(d, SIF_JSON, CONFIG);
}

static int copy(int from, int to, uint64_t off, uint64_t size, uint64_t *budget, struct vl_err *err)
{
	if (size > *budget)
		return vl_fail(err, EFBIG, "what a start reads of the image is larger than %llu MiB", SMALL >> 20);
	*budget -= size;
	VL_FREE char *b = vl_alloc((size_t)size + 1);
	int r = vl_pread_full(from, b, (size_t)size, off, "the image", err);
	return r < 0 ? r : vl_pwrite_full(to, b, (size_t)size, off, "a copy in memory", err);
}

/* Whoever may write to the file could change it between the check and the use of what was checked. So all that is used
 * is copied first, each byte to its place in a file in memory that is empty otherwise. */
static int snapshot(int fd, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	uint64_t budget = SMALL;
	int r = sif_load(fd, &img, err);

	if (r < 0)
		return r;
	VL_CLOSE int to = memfd_create("vial-verify", MFD_CLOEXEC);
	if (to < 0 || ftruncate(to, (off_t)img.file_size) < 0)
		return vl_fail_sys(err, errno, "cannot copy a part of the image to memory");
	r = copy(fd, to, 0, 128, &budget, err);
	if (r == 0)
		r = copy(fd, to, (uint64_t)img.h.table_off, (uint64_t)img.h.total * 585, &budget, err);
	for (size_t i = 0; i < img.n && r == 0; i++)
		if (is_used(&img.d[i]) || img.d[i].type == SIF_SIGNATURE)
			r = copy(fd, to, img.d[i].off, img.d[i].size, &budget, err);
	return r < 0 ? r : vl_steal_fd(&to);
}

/* ---- the answer ------------------------------------------------------------------------------------ */

static int check_kind(const struct sif_image *img, const struct sif_descr *partition, struct vl_err *err)
{
	if (sif_part_fs(partition) != SIF_FS_SQUASHFS)
		return vl_fail(err, ENOTSUP, "its file system is %s; only squashfs has a hash tree",
			       sif_fs_name(sif_part_fs(partition)));
	for (size_t i = 0; i < img->n; i++)
		if (img->d[i].type == SIF_PARTITION && sif_part_type(&img->d[i]) == SIF_PART_OVERLAY)
			return vl_fail(err, ENOTSUP, "object %u is an overlay, which no hash tree covers",
				       img->d[i].id);
	return 0;
}

static int read_tree(const struct sif_image *img, const struct sif_tree_objects *o, struct verify_answer *ret,
		     struct vl_err *err)
{
	uint8_t b[SIF_TREE_DESCRIPTOR];
	struct sif_tree t;
	int r = vl_pread_full(img->fd, b, sizeof b, o->tree->off, "the hash tree", err);

	if (r < 0 || (r = sif_tree_parse(b, sizeof b, &t, err)) < 0 ||
	    (r = sif_tree_levels(o, &t, &ret->tree_off, err)) < 0)
		return r;
	ret->off = o->partition->off;
	ret->size = o->partition->size;
	ret->tree_block = t.block;
	memcpy(ret->root, t.root, sizeof ret->root);
	return 0;
}

/* Everything of the group is compared by descriptor, and of data what is used. The rest is not read: the partition is the
 * tree's affair, the tree's levels are the root's, and of other objects a start knows nothing. */
static int check_signature(const struct sif_image *img, uint32_t group, const struct keys *keys,
			   struct verify_answer *ret, struct vl_err *err)
{
	SIF_REPORT struct sif_report rep = { 0 };
	VL_FREE uint32_t *unhashed = vl_alloc((img->n + 1) * sizeof *unhashed);
	struct sif_verify_opts o = {
		.keys = keys->v, .n_keys = keys->n, .group = group, .need = SIF_NEED_ONE, .unhashed = unhashed
	};

	for (size_t i = 0; i < img->n; i++)
		if (!is_used(&img->d[i]))
			unhashed[o.n_unhashed++] = img->d[i].id;
	int r = sif_verify(img, &o, &rep, err);
	for (size_t i = 0; i < rep.n_sig && r == 0; i++)
		for (size_t k = 0; k < rep.sig[i].n_signers && ret->n_signers < VERIFY_SIGNERS; k++)
			if (rep.sig[i].verdict == SIF_VALID && strlen(rep.sig[i].signers[k].id) < VERIFY_SIGNER_MAX)
				memccpy(ret->signer[ret->n_signers++], rep.sig[i].signers[k].id, 0, VERIFY_SIGNER_MAX);
	return r;
}

static int verify(int snap, const struct keys *keys, struct verify_answer *ret, struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o = { 0 };
	int r = sif_load(snap, &img, err);

	if (r < 0)
		return r;
	r = sif_tree_find(&img, &o, err);
	if (o.partition && check_kind(&img, o.partition, err) < 0)
		return -err->code;
	if (r == -ENOENT)
		return vl_fail(err, ENODATA,
			       "it has no hash tree, which `vial sign` adds; `vial verify` reads all of it");
	if (r < 0 || !o.partition || (r = check_signature(&img, o.partition->group, keys, ret, err)) < 0 ||
	    (r = read_tree(&img, &o, ret, err)) < 0)
		return r;
	for (size_t i = 0; i < img.n; i++)
		if (img.d[i].group == o.partition->group && has_name(&img.d[i], SIF_JSON, CONFIG)) {
			ret->config_off = img.d[i].off;
			ret->config_size = img.d[i].size;
			break;
		}
	return 0;
}

int main(int argc, char **argv)
{
	VL_CLEANUP(keys_free) struct keys keys = { 0 };
	struct verify_answer answer = { 0 };
	struct vl_err err = { 0 };
	uint64_t sock, fd;

	if (argc < 4 || vl_parse_u64(argv[1], 3, INT32_MAX, &sock) < 0 || vl_parse_u64(argv[2], 3, INT32_MAX, &fd) < 0)
		return 1;
	sif_crypto_alone();
	signal(SIGXFSZ, SIG_IGN); /* a limit on files is an error like others */
	int r = load_keys(argv + 3, argc - 3, &keys, &err);
	VL_CLOSE int snap = r < 0 || vl_drop_privileges(&err) < 0 ? -1 : snapshot((int)fd, &err);
	if (snap >= 0 && verify(snap, &keys, &answer, &err) == 0 &&
	    vl_msg_send_fd((int)sock, snap, &answer, sizeof answer) == 0)
		return 0;
	vl_msg_send_err((int)sock, &err);
	return 1;
}
