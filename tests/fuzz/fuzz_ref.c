/* Any text as the name of an image: what is taken has a name that is read back as the same. */
#include "fuzz.h"

#include <vial/oci.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref r = { 0 }, again = { 0 };
	VL_FREE char *text = vl_strndup((const char *)data, size);
	struct vl_err err = { 0 };

	if (oci_ref_parse(text, &r, &err) < 0) {
		for (const char *s = err.text; *s; s++)
			if ((unsigned char)*s < ' ') /* a message goes to a terminal */
				abort();
		return 0;
	}
	VL_FREE char *name = oci_ref_name(&r), *shown = oci_ref_short(&r);
	if (r.kind != OCI_REGISTRY && r.kind != OCI_ORAS)
		return 0;
	if (strlen(r.host) + strlen(r.repo) > 255 || strstr(r.repo, "..") || (!r.tag && !*r.digest.algo))
		abort();
	VL_FREE char *uri = vl_asprintf("%s%s", r.kind == OCI_ORAS ? "oras://" : "docker://", name);
	if (oci_ref_parse(uri, &again, &err) < 0)
		abort();
	VL_FREE char *name2 = oci_ref_name(&again);
	if (!vl_streq(name, name2))
		abort();
	if (r.kind == OCI_ORAS)
		return 0;
	VL_CLEANUP(oci_ref_free) struct oci_ref third = { 0 };
	VL_FREE char *uri3 = vl_asprintf("docker://%s", shown);
	if (oci_ref_parse(uri3, &third, &err) < 0)
		abort();
	VL_FREE char *name3 = oci_ref_name(&third);
	if (!vl_streq(name, name3)) /* the short name means the same image */
		abort();
	return 0;
}
