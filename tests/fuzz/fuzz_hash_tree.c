/* Any bytes as an image whose objects claim to be a hash tree: what is accepted has a shape that fits, and who signs it
 * can make it right. */
#include "fuzz.h"

#include <sys/mman.h>
#include <vial/sif.h>

static void parse(const uint8_t *data, size_t n)
{
	uint8_t again[SIF_TREE_DESCRIPTOR];
	struct sif_tree_shape s;
	struct sif_tree t;
	struct vl_err err;

	if (sif_tree_parse(data, n, &t, &err) < 0)
		return;
	sif_tree_encode(&t, again);
	sif_tree_shape(t.block, t.size, &s);
	if (memcmp(again, data, n) != 0 || s.n > SIF_TREE_LEVELS || s.size % t.block || (s.n && s.size > t.size))
		abort();
}

static void find_and_mend(const uint8_t *data, size_t n)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	struct sif_tree_objects o = { 0 };
	struct sif_tree_opts opts = { .time = 1 };
	enum sif_tree_result r;
	struct vl_err err;
	VL_CLOSE int fd = memfd_create("fuzz", MFD_CLOEXEC);

	if (fd < 0 || vl_write_full(fd, data, n) < 0 || sif_load(fd, &img, &err) < 0)
		return;
	if (sif_tree_find(&img, &o, &err) == 0 && (!o.partition || !o.tree || o.tree->size != SIF_TREE_DESCRIPTOR))
		abort();
	if (sif_tree_add(fd, &opts, &r, &err) < 0 || r != SIF_TREE_ADDED)
		return;
	if (sif_tree_add(fd, &opts, &r, &err) < 0 || r != SIF_TREE_KEPT)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	parse(data, n);
	find_and_mend(data, n);
	return 0;
}
