/* Package databases: the first byte says which. What comes out are whole strings, within the limits. */
#include "fuzz.h"

#include <image/packages.h>

static void check(const struct img_packages *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (!l->v[i].name || !*l->v[i].name || !l->v[i].version || strlen(l->v[i].name) > IMG_MAX_PACKAGE_FIELD)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_CLEANUP(img_packages_free) struct img_packages l = { 0 };
	struct vl_err err = { 0 };
	VL_FREE char *why = NULL;

	if (!size)
		return 0;
	const char *text = (const char *)data + 1;
	VL_FREE uint8_t *copy = vl_memdup(data + 1, size - 1);
	switch (data[0]) {
	case 'd':
		img_packages_dpkg(text, size - 1, &l, &err);
		break;
	case 'a':
		img_packages_apk(text, size - 1, &l, &err);
		break;
	case 'p':
		img_packages_python(text, size - 1, "path", &l, &err);
		break;
	case 'o':
		img_packages_os_release(text, size - 1, &l);
		break;
	case 'h':
		(void)!img_packages_rpm_header(copy, size - 1, &l, &err);
		break;
	case 'n':
		img_packages_rpm_ndb(copy, size - 1, &l, &why, &err);
		break;
	case 'b':
		img_packages_rpm_bdb(copy, size - 1, &l, &why, &err);
		break;
	default:
		img_packages_rpm_sqlite(copy, size - 1, &l, &why, &err);
	}
	check(&l);
	return 0;
}
