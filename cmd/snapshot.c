/* The small parts of an image that a start goes by: copied, checked, and then used as they were checked. */
#include "verify.h"

#include <sys/mman.h>

#define SMALL (32ull << 20)    /* of all objects that are copied: configuration, signatures, what policies ask about */
#define MAX_SBOM (16ull << 20) /* of one: a larger one proves nothing */
#define CONFIG "oci-config.json"

static bool has_name(const struct sif_descr *d, uint32_t type, const char *name)
{
	return d->type == type && !strncmp((const char *)d->name, name, sizeof d->name);
}

static bool is_fact(const struct sif_descr *d)
{
	return (has_name(d, SIF_JSON, SIF_PROVENANCE_NAME) && d->size <= SIF_PROVENANCE_MAX) ||
	       (d->type == SIF_SBOM && d->size <= MAX_SBOM);
}

bool cmd_snapshot_has(const struct sif_descr *d, bool facts)
{
	return has_name(d, SIF_GENERIC, SIF_TREE_NAME) || has_name(d, SIF_JSON, CONFIG) || (facts && is_fact(d));
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

int cmd_snapshot(int fd, bool facts, struct vl_err *err)
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
		if (cmd_snapshot_has(&img.d[i], facts) || img.d[i].type == SIF_SIGNATURE)
			r = copy(fd, to, img.d[i].off, img.d[i].size, &budget, err);
	return r < 0 ? r : vl_steal_fd(&to);
}

int cmd_snapshot_check(const struct sif_image *snap, const struct sif_verify_opts *keys, bool facts,
		       struct sif_report *rep, struct vl_err *err)
{
	VL_FREE uint32_t *unhashed = vl_alloc((snap->n + 1) * sizeof *unhashed);
	struct sif_verify_opts o = *keys;

	for (size_t i = 0; i < snap->n; i++)
		if (!cmd_snapshot_has(&snap->d[i], facts))
			unhashed[o.n_unhashed++] = snap->d[i].id;
	o.unhashed = unhashed;
	return sif_verify(snap, &o, rep, err);
}

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

	if (!o->partition)
		return vl_fail(err, EINVAL, "the hash tree is of no partition");
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

int cmd_snapshot_tree(const struct sif_image *snap, struct verify_answer *ret, struct vl_err *err)
{
	struct sif_tree_objects o = { 0 };
	int r = sif_tree_find(snap, &o, err);

	if (o.partition && check_kind(snap, o.partition, err) < 0)
		return -err->code;
	if (r == -ENOENT)
		return vl_fail(err, ENODATA,
			       "it has no hash tree, which `vial sign` adds; `vial verify` reads all of it");
	if (r < 0 || (r = read_tree(snap, &o, ret, err)) < 0)
		return r;
	/* as a start chooses it: the first of that name. One that no signature of this group covers is not used. */
	for (size_t i = 0; i < snap->n; i++)
		if (snap->d[i].group == o.partition->group && has_name(&snap->d[i], SIF_JSON, CONFIG)) {
			ret->config_off = snap->d[i].off;
			ret->config_size = snap->d[i].size;
			break;
		}
	return 0;
}
