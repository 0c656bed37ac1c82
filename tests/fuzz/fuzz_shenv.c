/* Any text as an environment file of an image. */
#include "fuzz.h"

#include "rootless/rootless.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CTR_SCOPE struct ctr_scope scope = { .export_all = size % 2 };
	const struct vl_strv *env = &scope.env;
	VL_FREE char *text = vl_strndup((const char *)data, size);

	vl_strv_add(&scope.env, "A=host");
	ctr_eval_text(text, &scope);
	for (size_t i = 0; i < env->n; i++) {
		const char *eq = strchr(env->v[i], '=');
		if (!eq || !vl_is_identifier(env->v[i], (size_t)(eq - env->v[i])))
			abort();
	}
	return 0;
}
