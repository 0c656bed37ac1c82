/* Lines of mountinfo. */
#include "fuzz.h"

#include "cmd/mounts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_FREE char *line = vl_strndup((const char *)data, size);
	struct cmd_mounted m;

	if (!cmd_mounted_parse(line, &m))
		return 0;
	if (m.ours && vl_streq(m.dir, "/"))
		abort();
	struct cmd_mounted_list l = { vl_memdup(&m, sizeof m), 1 };
	cmd_mounted_free(&l);
	return 0;
}
