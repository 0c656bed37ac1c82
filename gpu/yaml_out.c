/* A tree as YAML, with every text in quotes: no reader can take one for a number or a truth value. */
#include "cdi.h"

#include <yaml.h>

struct writer {
	yaml_emitter_t emitter;
	struct vl_buf out;
};

static int take(void *arg, unsigned char *data, size_t n)
{
	vl_buf_add(arg, data, n);
	return 1;
}

/* Into memory, and of trees that JSON can hold: what fails is memory. */
static void emit(struct writer *w, yaml_event_t *e, int made)
{
	if (!made || !yaml_emitter_emit(&w->emitter, e))
		abort();
}

static void emit_scalar(struct writer *w, const char *s, bool quoted)
{
	yaml_event_t e;

	emit(w, &e,
	     yaml_scalar_event_initialize(&e, NULL, NULL, (const yaml_char_t *)s, (int)strlen(s), !quoted, quoted,
					  quoted ? YAML_DOUBLE_QUOTED_SCALAR_STYLE : YAML_PLAIN_SCALAR_STYLE));
}

static void emit_node(struct writer *w, const vl_json *j);

static void emit_member(void *arg, const char *key, const vl_json *value)
{
	emit_scalar(arg, key, !vl_is_identifier(key, strlen(key)));
	emit_node(arg, value);
}

static void emit_node(struct writer *w, const vl_json *j)
{
	yaml_event_t e;

	if (vl_json_is_object(j)) {
		emit(w, &e, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
		vl_json_each(j, emit_member, w);
		emit(w, &e, yaml_mapping_end_event_initialize(&e));
	} else if (vl_json_string(j)) {
		emit_scalar(w, vl_json_string(j), true);
	} else if (vl_json_is_array(j)) {
		emit(w, &e, yaml_sequence_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
		for (size_t i = 0; i < vl_json_len(j); i++)
			emit_node(w, vl_json_at(j, i));
		emit(w, &e, yaml_sequence_end_event_initialize(&e));
	} else {
		VL_FREE char *text = vl_json_text(j, false);
		emit_scalar(w, text, false);
	}
}

char *gpu_yaml_text(const vl_json *j)
{
	struct writer w = { 0 };
	yaml_event_t e;

	if (!yaml_emitter_initialize(&w.emitter))
		abort();
	yaml_emitter_set_output(&w.emitter, take, &w.out);
	yaml_emitter_set_width(&w.emitter, -1);
	yaml_emitter_set_unicode(&w.emitter, 1);
	emit(&w, &e, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING));
	emit(&w, &e, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1));
	emit_node(&w, j);
	emit(&w, &e, yaml_document_end_event_initialize(&e, 1));
	emit(&w, &e, yaml_stream_end_event_initialize(&e));
	yaml_emitter_delete(&w.emitter);
	return vl_steal(&w.out.data);
}
