/* Any text as the words of --bind and as --mount: what is accepted is absolute, clean, and never the root. */
#include "fuzz.h"

#include <vial/rootless.h>

static void check(const struct plan *p)
{
	for (size_t i = 0; i < p->n_mounts; i++) {
		const struct plan_mount *m = &p->mounts[i];
		VL_FREE char *dst = vl_path_clean(m->dst);
		bool needs_source = m->kind == PLAN_BIND || m->kind == PLAN_IMAGE;
		if (*m->dst != '/' || !m->dst[1] || !vl_streq(dst, m->dst) || needs_source != (m->src != NULL) ||
		    (m->src && *m->src != '/') || (m->kind == PLAN_IMAGE) != (m->image_path != NULL) ||
		    (m->kind == PLAN_IMAGE && !(m->flags & PLAN_RO)) || (m->size && m->kind != PLAN_TMPFS))
			abort();
	}
}

/* As the option parser splits: a comma that is not escaped. */
static void split(const char *text, struct vl_strv *ret)
{
	VL_BUF struct vl_buf b = { 0 };

	for (; *text; text++) {
		if (*text == '\\' && text[1]) {
			vl_buf_add(&b, text++, 1);
			vl_buf_add(&b, text, 1);
		} else if (*text == ',' && b.len) {
			vl_strv_add(ret, b.data);
			b.len = 0;
		} else {
			vl_buf_add(&b, text, 1);
		}
	}
	if (b.len)
		vl_strv_add(ret, b.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	PLAN struct plan binds = PLAN_INIT;
	PLAN struct plan mounts = PLAN_INIT;
	VL_STRV struct vl_strv words = { 0 };
	VL_FREE char *text = vl_strndup((const char *)data, size);
	struct vl_err err = { 0 };

	split(text, &words);
	ctr_plan_parse_binds(&binds, &words, &err);
	check(&binds);
	if (ctr_plan_parse_mount(&mounts, text, &err) < 0 && !*err.text)
		abort();
	check(&mounts);
	return 0;
}
