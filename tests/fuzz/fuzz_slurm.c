/* What users write after --container-mounts, --container-unshare and --container-image, in three lines. */
#include "fuzz.h"

#include "../../slurm-plugin/options.c"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum vsp_word words[] = { VSP_MOUNTS, VSP_UNSHARE, VSP_IMAGE };
	VL_FREE char *text = vl_strndup((const char *)data, size);
	VL_STRV struct vl_strv out = { 0 };
	struct vsp_options o = { 0 };
	struct vsp_site site = { .prefix = "container" };
	struct vl_err err = { 0 };

	char *rest = text;
	for (size_t i = 0; i < VL_COUNT(words) && rest; i++) {
		char *line = strsep(&rest, "\n");
		vsp_options_set(&o, words[i], line);
	}
	if (vsp_options_words(&site, &o, &out, &err) < 0 && !err.code)
		abort();
	for (size_t i = 0; i < out.n; i++) /* no word of the user's becomes an option of ours */
		if (i && (vl_streq(out.v[i - 1], "--bind") || vl_streq(out.v[i - 1], "--mount"))
			    ? !*out.v[i]
			    : strncmp(out.v[i], "--", 2) != 0)
			abort();
	VL_FREE char *image = vsp_image_name(o.value[VSP_IMAGE] ? o.value[VSP_IMAGE] : "");
	if (!image)
		abort();
	vsp_options_free(&o);
	return 0;
}
