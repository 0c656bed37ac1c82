/* YAML into the tree that JSON is read into. libyaml splits the text; what a scalar means, and how much an alias may
 * repeat, is decided here. Readers of YAML disagree about that, so where a text says one thing to YAML 1.1 and another
 * to 1.2, the user of the tree is told (a truth value where text is wanted) and nothing is guessed. */
#include "cdi.h"

#include <yaml.h>

#define NODES_MAX 100000u /* with aliases written out; a specification of 16 GPUs with all their files has 5,000 */
#define ANCHORS_MAX 256u  /* generators write none, people a few */

struct anchor {
	char *name;
	vl_json *node;
	size_t size;     /* nodes, aliases written out */
	unsigned height; /* levels below it */
};

struct reader {
	yaml_parser_t parser;
	const char *what;
	struct anchor *anchors;
	size_t n_anchors;
	size_t nodes; /* so far */
	size_t line;  /* of the last event, from 1 */
};

static int bad(const struct reader *y, struct vl_err *err, const char *why)
{
	return vl_fail(err, EINVAL, "%s: line %zu: %s", y->what, y->line, why);
}

static int bad_word(const struct reader *y, struct vl_err *err, const char *word, size_t n, const char *why)
{
	VL_FREE char *shown = vl_printable(word, VL_MIN(n, 100u));

	return vl_fail(err, EINVAL, "%s: line %zu: '%s' %s", y->what, y->line, shown, why);
}

/* ---- events -------------------------------------------------------------------------------- */

static int next(struct reader *y, yaml_event_t *ret, struct vl_err *err)
{
	if (yaml_parser_parse(&y->parser, ret)) {
		y->line = ret->start_mark.line + 1;
		return 0;
	}
	if (y->parser.error == YAML_MEMORY_ERROR)
		abort();
	const char *why = y->parser.problem ? y->parser.problem : "this cannot be read";
	if (y->parser.error == YAML_READER_ERROR) /* it has no line: what is read ahead was not looked at yet */
		return vl_fail(err, EINVAL, "%s: byte %zu: bad YAML: %s", y->what, y->parser.problem_offset, why);
	return vl_fail(err, EINVAL, "%s: line %zu: bad YAML: %s", y->what, y->parser.problem_mark.line + 1, why);
}

static int expect(struct reader *y, yaml_event_type_t type, const char *why, struct vl_err *err)
{
	yaml_event_t e;
	int r = next(y, &e, err);

	if (r < 0)
		return r;
	if (e.type != type)
		r = bad(y, err, why);
	yaml_event_delete(&e);
	return r;
}

/* ---- scalars ------------------------------------------------------------------------------- */

static bool is_one_of(const char *s, const char *const *words, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (vl_streq(s, words[i]))
			return true;
	return false;
}

/* YAML 1.1 has all of these, 1.2 the first. */
static bool is_bool(const char *s, bool *ret)
{
	static const char *const yes[] = { "true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON", "y", "Y" };
	static const char *const no[] = { "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF", "n", "N" };

	*ret = is_one_of(s, yes, VL_COUNT(yes));
	return *ret || is_one_of(s, no, VL_COUNT(no));
}

static bool is_null(const char *s)
{
	static const char *const words[] = { "", "~", "null", "Null", "NULL" };

	return is_one_of(s, words, VL_COUNT(words));
}

/* Digits of the base, to the end. */
static bool digits(const char *s, unsigned base, uint64_t *ret)
{
	*ret = 0;
	for (const char *p = s; *p; p++) {
		unsigned d = *p >= '0' && *p <= '9'                 ? (unsigned)(*p - '0')
			     : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (unsigned)((*p | 32) - 'a' + 10)
								    : 99;
		if (d >= base || __builtin_mul_overflow(*ret, (uint64_t)base, ret) ||
		    __builtin_add_overflow(*ret, (uint64_t)d, ret))
			return false;
	}
	return *s;
}

/* 1: an integer. 0666 is octal, as in YAML 1.1 and in every reader of these specifications; -EINVAL: 0888, which to one
 * is a number and to another text. */
static int as_integer(const char *s, int64_t *ret)
{
	bool minus = *s == '-';
	unsigned base = 10;
	uint64_t v;

	s += minus || *s == '+';
	if (*s == '0' && s[1]) {
		base = s[1] == 'x' ? 16 : s[1] == 'b' ? 2 : 8;
		if (base == 8 && s[1] != 'o' && !s[strspn(s, "0123456789")] && s[strspn(s, "01234567")])
			return -EINVAL;
		s += base != 8 || s[1] == 'o' ? 2 : 1;
	}
	if (!digits(s, base, &v) || v > INT64_MAX)
		return 0;
	*ret = minus ? -(int64_t)v : (int64_t)v;
	return 1;
}

static int plain_scalar(const struct reader *y, const char *s, size_t n, vl_json **ret, struct vl_err *err)
{
	int64_t number;
	bool truth;

	if (is_null(s)) {
		*ret = vl_json_new_null();
		return 0;
	}
	if (is_bool(s, &truth)) {
		*ret = vl_json_new_bool(truth);
		return 0;
	}
	int r = as_integer(s, &number);
	if (r < 0)
		return bad_word(y, err, s, n, "is a number to some readers and text to others; put it in quotes");
	*ret = r ? vl_json_new_int(number) : vl_json_new_strn(s, n);
	return 0;
}

static bool is_tag(const yaml_char_t *tag, const char *kind)
{
	const char *rest = tag ? vl_prefix((const char *)tag, "tag:yaml.org,2002:") : NULL;

	return rest && vl_streq(rest, kind);
}

static int read_scalar(const struct reader *y, const yaml_event_t *e, vl_json **ret, struct vl_err *err)
{
	const char *s = (const char *)e->data.scalar.value;
	const yaml_char_t *tag = e->data.scalar.tag;
	size_t n = e->data.scalar.length;

	if (tag && !is_tag(tag, "str") && !vl_streq((const char *)tag, "!"))
		return bad_word(y, err, (const char *)tag, strlen((const char *)tag),
				"is a tag that is not known here; only !!str is");
	if (!tag && e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		return plain_scalar(y, s, n, ret, err);
	*ret = vl_json_new_strn(s, n);
	return 0;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static int count(struct reader *y, size_t n, struct vl_err *err)
{
	y->nodes += n;
	return y->nodes > NODES_MAX ? vl_fail(err, E2BIG, "%s: line %zu: more than %u values, aliases written out",
					      y->what, y->line, NODES_MAX)
				    : 0;
}

static int keep_anchor(struct reader *y, const yaml_char_t *name, const vl_json *node, size_t size, unsigned height,
		       struct vl_err *err)
{
	if (!name)
		return 0;
	if (y->n_anchors == ANCHORS_MAX)
		return vl_fail(err, E2BIG, "%s: line %zu: more than %u anchors", y->what, y->line, ANCHORS_MAX);
	y->anchors = vl_realloc(y->anchors, y->n_anchors + 1, sizeof *y->anchors);
	y->anchors[y->n_anchors++] = (struct anchor){ vl_strdup((const char *)name), vl_json_ref(node), size, height };
	return 0;
}

/* The value that a name stood for last. One that is not complete yet has no name: nothing holds itself. */
static int read_alias(struct reader *y, const yaml_event_t *e, unsigned depth, vl_json **ret, unsigned *ret_height,
		      struct vl_err *err)
{
	const char *name = (const char *)e->data.alias.anchor;

	for (size_t i = y->n_anchors; i-- > 0;) {
		const struct anchor *a = &y->anchors[i];
		if (!vl_streq(a->name, name))
			continue;
		if (depth + a->height > VL_JSON_DEPTH)
			return bad(y, err, "nested too deep");
		int r = count(y, a->size, err);
		if (r < 0)
			return r;
		*ret = vl_json_ref(a->node);
		*ret_height = a->height;
		return 0;
	}
	return bad_word(y, err, name, strlen(name), "is an alias of nothing that stands before it");
}

static int read_node(struct reader *y, const yaml_event_t *e, unsigned depth, vl_json **ret, unsigned *ret_height,
		     struct vl_err *err);

static int read_sequence(struct reader *y, unsigned depth, vl_json **ret, unsigned *ret_height, struct vl_err *err)
{
	VL_JSON vl_json *list = vl_json_new_arr();
	yaml_event_t e;

	*ret_height = 0;
	for (;;) {
		vl_json *item = NULL;
		unsigned height = 0;
		int r = next(y, &e, err);
		if (r < 0)
			return r;
		bool end = e.type == YAML_SEQUENCE_END_EVENT;
		if (!end)
			r = read_node(y, &e, depth + 1, &item, &height, err);
		yaml_event_delete(&e);
		if (r < 0)
			return r;
		if (end)
			break;
		vl_json_add(list, item);
		*ret_height = VL_MAX(*ret_height, height + 1);
	}
	*ret = vl_steal(&list);
	return 0;
}

/* *ret: new, NULL at the end of the mapping. */
static int read_key(struct reader *y, const vl_json *map, char **ret, struct vl_err *err)
{
	yaml_event_t e;
	int r = next(y, &e, err);

	if (r < 0)
		return r;
	const char *s = (const char *)e.data.scalar.value;
	if (e.type == YAML_MAPPING_END_EVENT)
		*ret = NULL;
	else if (e.type != YAML_SCALAR_EVENT)
		r = bad(y, err, "a key is no text");
	else if (strlen(s) != e.data.scalar.length)
		r = bad(y, err, "a key holds a NUL character");
	else if (vl_streq(s, "<<") && e.data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		r = bad(y, err, "merge keys (<<) are not in YAML 1.2; write the members out");
	else if (vl_json_get(map, s))
		r = bad_word(y, err, s, strlen(s), "is there twice");
	else
		*ret = vl_strdup(s);
	yaml_event_delete(&e);
	return r < 0 ? r : count(y, 1, err);
}

static int read_mapping(struct reader *y, unsigned depth, vl_json **ret, unsigned *ret_height, struct vl_err *err)
{
	VL_JSON vl_json *map = vl_json_new_obj();
	yaml_event_t e;
	int r;

	*ret_height = 0;
	for (;;) {
		VL_FREE char *key = NULL;
		vl_json *value = NULL;
		unsigned height = 0;
		if ((r = read_key(y, map, &key, err)) < 0)
			return r;
		if (!key)
			break;
		if ((r = next(y, &e, err)) < 0)
			return r;
		r = read_node(y, &e, depth + 1, &value, &height, err);
		yaml_event_delete(&e);
		if (r < 0)
			return r;
		vl_json_set(map, key, value);
		*ret_height = VL_MAX(*ret_height, height + 1);
	}
	*ret = vl_steal(&map);
	return 0;
}

/* One value, whose first event is there already. */
static int read_node(struct reader *y, const yaml_event_t *e, unsigned depth, vl_json **ret, unsigned *ret_height,
		     struct vl_err *err)
{
	const yaml_char_t *anchor = NULL, *tag = NULL;
	size_t before = y->nodes;
	VL_JSON vl_json *node = NULL;

	if (depth > VL_JSON_DEPTH)
		return bad(y, err, "nested too deep");
	*ret_height = 0;
	if (e->type == YAML_ALIAS_EVENT)
		return read_alias(y, e, depth, ret, ret_height, err);
	int r = count(y, 1, err);
	if (r < 0)
		return r;
	if (e->type == YAML_SCALAR_EVENT) {
		anchor = e->data.scalar.anchor;
		r = read_scalar(y, e, &node, err);
	} else if (e->type == YAML_SEQUENCE_START_EVENT) {
		anchor = e->data.sequence_start.anchor;
		tag = e->data.sequence_start.tag;
		r = read_sequence(y, depth, &node, ret_height, err);
	} else if (e->type == YAML_MAPPING_START_EVENT) {
		anchor = e->data.mapping_start.anchor;
		tag = e->data.mapping_start.tag;
		r = read_mapping(y, depth, &node, ret_height, err);
	} else {
		return bad(y, err, "a value is missing");
	}
	if (r == 0 && tag && !is_tag(tag, "map") && !is_tag(tag, "seq"))
		r = bad_word(y, err, (const char *)tag, strlen((const char *)tag), "is a tag that is not known here");
	if (r == 0)
		r = keep_anchor(y, anchor, node, y->nodes - before, *ret_height, err);
	if (r == 0)
		*ret = vl_steal(&node);
	return r;
}

static int read_document(struct reader *y, vl_json **ret, struct vl_err *err)
{
	VL_JSON vl_json *root = NULL;
	unsigned height;
	yaml_event_t e;
	int r;

	if ((r = expect(y, YAML_STREAM_START_EVENT, "this is no YAML", err)) < 0 ||
	    (r = expect(y, YAML_DOCUMENT_START_EVENT, "the file is empty", err)) < 0 || (r = next(y, &e, err)) < 0)
		return r;
	r = read_node(y, &e, 1, &root, &height, err);
	yaml_event_delete(&e);
	if (r < 0 || (r = expect(y, YAML_DOCUMENT_END_EVENT, "more than one value", err)) < 0 ||
	    (r = expect(y, YAML_STREAM_END_EVENT, "more than one document (---)", err)) < 0)
		return r;
	*ret = vl_steal(&root);
	return 0;
}

static void free_anchors(struct reader *y)
{
	for (size_t i = 0; i < y->n_anchors; i++) {
		free(y->anchors[i].name);
		vl_json_free(y->anchors[i].node);
	}
	free(y->anchors);
}

int gpu_yaml_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err)
{
	struct reader y = { .what = what, .line = 1 };

	if (len > GPU_CDI_FILE_MAX)
		return vl_fail(err, EFBIG, "%s: %zu bytes are over the limit of %u", what, len, GPU_CDI_FILE_MAX);
	if (!yaml_parser_initialize(&y.parser))
		abort();
	yaml_parser_set_encoding(&y.parser, YAML_UTF8_ENCODING);
	size_t mark = len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3) ? 3 : 0; /* of some editors */
	yaml_parser_set_input_string(&y.parser, (const unsigned char *)text + mark, len - mark);
	int r = read_document(&y, ret, err);
	free_anchors(&y);
	yaml_parser_delete(&y.parser);
	return r;
}
