/* Names of CDI: VENDOR/CLASS=DEVICE, and the keys of annotations. */
#include "cdi.h"

#define CLASS_MAX 63u      /* as a label of DNS */
#define ANNOTATION_MAX 63u /* behind the prefix, as Kubernetes has it */

static bool is_letter(char c)
{
	return (c | 32) >= 'a' && (c | 32) <= 'z';
}

static bool is_alnum(char c)
{
	return is_letter(c) || (c >= '0' && c <= '9');
}

/* Begins and ends with a letter or digit; `more` may stand between. */
static bool is_name(const char *s, size_t n, size_t max, const char *more)
{
	if (!n || n > max || !is_alnum(s[0]) || !is_alnum(s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!is_alnum(s[i]) && !strchr(more, s[i]))
			return false;
	return true;
}

bool gpu_cdi_is_vendor(const char *s)
{
	return is_letter(*s) && is_name(s, strlen(s), GPU_CDI_NAME_MAX, "-_.");
}

bool gpu_cdi_is_class(const char *s)
{
	return is_letter(*s) && is_name(s, strlen(s), CLASS_MAX, "-_.");
}

bool gpu_cdi_is_device(const char *s)
{
	return is_name(s, strlen(s), GPU_CDI_NAME_MAX, "-_.:");
}

bool gpu_cdi_is_kind(const char *s)
{
	const char *slash = strchr(s, '/');
	VL_FREE char *vendor = slash ? vl_strndup(s, (size_t)(slash - s)) : NULL;

	return vendor && gpu_cdi_is_vendor(vendor) && gpu_cdi_is_class(slash + 1);
}

bool gpu_cdi_is_annotation(const char *key)
{
	const char *slash = strchr(key, '/'), *name = slash ? slash + 1 : key;

	return (!slash || is_name(key, (size_t)(slash - key), GPU_CDI_NAME_MAX, "-.")) &&
	       is_name(name, strlen(name), ANNOTATION_MAX, "-_.");
}

int gpu_cdi_split(const char *word, char **ret_kind, char **ret_name, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(word, strnlen(word, 2 * GPU_CDI_NAME_MAX));
	const char *eq = strchr(word, '=');

	if (*word == '/')
		return vl_fail(
			err, EINVAL,
			"%s is a path and not the name of a CDI device, VENDOR/CLASS=NAME; to show a device node, "
			"--bind %s",
			shown, shown);
	if (!eq)
		return vl_fail(err, EINVAL, "%s is not the name of a CDI device, which is VENDOR/CLASS=NAME", shown);
	VL_FREE char *kind = vl_strndup(word, (size_t)(eq - word));
	if (!gpu_cdi_is_kind(kind))
		return vl_fail(err, EINVAL,
			       "%s: what stands before '=' is VENDOR/CLASS, such as vendor.com/gpu: letters, digits, "
			       "'-', '_' and '.', beginning with a letter",
			       shown);
	if (!gpu_cdi_is_device(eq + 1))
		return vl_fail(err, EINVAL,
			       "%s: the name of a device has letters, digits, '-', '_', '.' and ':', and begins and "
			       "ends with a letter or digit",
			       shown);
	*ret_kind = vl_steal(&kind);
	*ret_name = vl_strdup(eq + 1);
	return 0;
}
