/* The start-up profile of an image. It only makes starts faster: whatever is wrong with it, the image runs without. */
#include <vial/sif.h>

static bool take_extent(const vl_json *pair, uint64_t size, struct sif_extent *ret)
{
	int64_t off, len;

	if (vl_json_len(pair) != 2 || !vl_json_integer(vl_json_at(pair, 0), &off) ||
	    !vl_json_integer(vl_json_at(pair, 1), &len) || off < 0 || len <= 0 || (uint64_t)off >= size)
		return false;
	*ret = (struct sif_extent){ (uint64_t)off, VL_MIN((uint64_t)len, size - (uint64_t)off) };
	return true;
}

bool sif_profile_parse(const char *text, size_t len, uint64_t partition_size, struct sif_profile *ret)
{
	VL_JSON vl_json *j = NULL;
	struct sif_profile p = { 0 };
	struct vl_err ignored;
	int64_t version;

	if (len > SIF_PROFILE_MAX || vl_json_parse(text, len, SIF_PROFILE_NAME, &j, &ignored) < 0 ||
	    !vl_json_int(j, "version", &version) || version != 1)
		return false;
	const vl_json *list = vl_json_arr(j, "extents");
	size_t n = list ? vl_json_len(list) : 0;
	if (!n || n > SIF_PROFILE_EXTENTS)
		return false;
	for (; p.n < n; p.n++)
		if (!take_extent(vl_json_at(list, p.n), partition_size, &p.extent[p.n]))
			return false;
	*ret = p;
	return true;
}

bool sif_profile_read(const struct sif_image *img, const struct sif_descr *partition, struct sif_profile *ret)
{
	const struct sif_descr *d = sif_by_name(img, SIF_JSON, SIF_PROFILE_NAME);
	VL_FREE char *text = NULL;
	struct vl_err ignored;
	size_t len;

	return d && sif_read_object(img, d, SIF_PROFILE_MAX, &text, &len, &ignored) == 0 &&
	       sif_profile_parse(text, len, partition->size, ret);
}
