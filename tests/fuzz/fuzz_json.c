/* Any bytes as JSON: parse, walk, print and parse again. */
#include "fuzz.h"

static void walk(const vl_json *j);

static void member(void *arg, const char *key, const vl_json *value)
{
	(void)arg, (void)key;
	walk(value);
}

static void walk(const vl_json *j)
{
	int64_t n;

	(void)vl_json_string(j);
	(void)vl_json_integer(j, &n);
	for (size_t i = 0; i < vl_json_len(j); i++)
		walk(vl_json_at(j, i));
	if (vl_json_is_object(j))
		vl_json_each(j, member, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	VL_JSON vl_json *j = NULL, *again = NULL;
	struct vl_err err = { 0 };

	if (vl_json_parse((const char *)data, size, "input", &j, &err) < 0)
		return 0;
	walk(j);
	VL_FREE char *text = vl_json_text(j, false);
	if (vl_json_parse(text, strlen(text), "output", &again, &err) < 0)
		abort(); /* what we write we must read */
	return 0;
}
