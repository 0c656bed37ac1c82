/* Any text as a WWW-Authenticate value: what is taken can be sent and printed. */
#include "fuzz.h"

#include "oci/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_CLEANUP(oci_challenge_free) struct oci_challenge c = { 0 };
	VL_FREE char *text = vl_strndup((const char *)data, size);
	struct vl_err err = { 0 };

	if (oci_challenge_parse(text, &c, &err) < 0)
		return 0;
	const char *const parts[] = { c.realm, c.service, c.scope };
	for (size_t i = 0; i < VL_COUNT(parts); i++)
		for (const char *s = parts[i]; s && *s; s++)
			if ((unsigned char)*s < ' ' || *s == 0x7f)
				abort();
	if (c.scheme == OCI_AUTH_NONE || (c.scheme == OCI_AUTH_BEARER && !c.realm))
		abort();
	return 0;
}
