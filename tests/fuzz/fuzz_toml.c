/* Any bytes as TOML: what is read is a tree that JSON can hold. */
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_JSON vl_json *j = NULL, *again = NULL;
	struct vl_err err = { 0 };

	if (vl_toml_parse((const char *)data, size, "input", &j, &err) < 0) {
		if (!strstr(err.text, "input: "))
			abort();
		return 0;
	}
	VL_FREE char *text = vl_json_text(j, false);
	/* a header may lead 64 levels down and the values below it as far again; such text is no JSON of ours */
	if (vl_json_parse(text, strlen(text), "output", &again, &err) < 0 && !strstr(err.text, "nested deeper"))
		abort();
	return 0;
}
