#include <vial/base.h>

#include <jansson.h>

/* jansson recurses: a document of open brackets must not eat the stack. Its own limit is
 * 2048 levels; ours is lower, checked by a scan that knows strings and escapes. */
static bool too_deep(const char *s, size_t n)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < n; i++) {
		if (in_string) {
			if (s[i] == '\\')
				i++;
			else if (s[i] == '"')
				in_string = false;
		} else if (s[i] == '"') {
			in_string = true;
		} else if (s[i] == '[' || s[i] == '{') {
			if (++depth > VL_JSON_DEPTH)
				return true;
		} else if ((s[i] == ']' || s[i] == '}') && depth) {
			depth--;
		}
	}
	return false;
}

static int parse(const char *text, size_t len, size_t flags, const char *what, vl_json **ret, struct vl_err *err)
{
	json_error_t e;

	if (len > VL_JSON_MAX)
		return vl_fail(err, EFBIG, "%s: JSON of %zu bytes is over the limit of %u", what, len, VL_JSON_MAX);
	if (too_deep(text, len))
		return vl_fail(err, EINVAL, "%s: JSON is nested deeper than %d levels", what, VL_JSON_DEPTH);
	json_t *j = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL | flags, &e);
	if (!j) {
		VL_FREE char *why = vl_printable(e.text, strlen(e.text));
		return vl_fail(err, EINVAL, "%s: bad JSON at byte %d: %s", what, e.position, why);
	}
	*ret = j;
	return 0;
}

int vl_json_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err)
{
	return parse(text, len, 0, what, ret, err);
}

int vl_json_parse_unique(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err)
{
	return parse(text, len, JSON_REJECT_DUPLICATES, what, ret, err);
}

void vl_json_free(vl_json *j)
{
	json_decref(j);
}

void vl_json_freep(vl_json **j)
{
	int keep = errno;
	json_decref(*j);
	*j = NULL;
	errno = keep;
}

vl_json *vl_json_get(const vl_json *obj, const char *key)
{
	return json_object_get(obj, key);
}

vl_json *vl_json_obj(const vl_json *obj, const char *key)
{
	json_t *j = json_object_get(obj, key);
	return json_is_object(j) ? j : NULL;
}

vl_json *vl_json_arr(const vl_json *obj, const char *key)
{
	json_t *j = json_object_get(obj, key);
	return json_is_array(j) ? j : NULL;
}

/* A string with a NUL inside would be cut silently by every C user of it: treated as absent. */
const char *vl_json_string(const vl_json *j)
{
	const char *s = json_string_value(j);
	return s && strlen(s) == json_string_length(j) ? s : NULL;
}

const char *vl_json_str(const vl_json *obj, const char *key)
{
	return vl_json_string(json_object_get(obj, key));
}

bool vl_json_integer(const vl_json *j, int64_t *ret)
{
	if (!json_is_integer(j))
		return false;
	*ret = json_integer_value(j);
	return true;
}

bool vl_json_int(const vl_json *obj, const char *key, int64_t *ret)
{
	return vl_json_integer(json_object_get(obj, key), ret);
}

bool vl_json_is_null_or_absent(const vl_json *obj, const char *key)
{
	const json_t *j = json_object_get(obj, key);
	return !j || json_is_null(j);
}

size_t vl_json_len(const vl_json *arr)
{
	return json_is_array(arr) ? json_array_size(arr) : 0;
}

vl_json *vl_json_at(const vl_json *arr, size_t i)
{
	return json_array_get(arr, i);
}

bool vl_json_is_object(const vl_json *j)
{
	return json_is_object(j);
}

bool vl_json_is_array(const vl_json *j)
{
	return json_is_array(j);
}

bool vl_json_is_true(const vl_json *j)
{
	return json_is_true(j);
}

void vl_json_each(const vl_json *obj, vl_json_member *f, void *arg)
{
	for (void *it = json_object_iter((json_t *)obj); it; it = json_object_iter_next((json_t *)obj, it))
		f(arg, json_object_iter_key(it), json_object_iter_value(it));
}

static json_t *must(json_t *j)
{
	if (!j)
		abort();
	return j;
}

vl_json *vl_json_new_obj(void)
{
	return must(json_object());
}

vl_json *vl_json_new_arr(void)
{
	return must(json_array());
}

vl_json *vl_json_new_strn(const char *s, size_t n)
{
	json_t *j = json_stringn(s, n);
	if (j)
		return j;
	VL_BUF struct vl_buf b = { 0 };
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)s[i] < 0x80)
			vl_buf_add(&b, s + i, 1);
		else
			vl_buf_addf(&b, "\\x%02x", (unsigned char)s[i]);
	return must(json_stringn(b.data, b.len));
}

vl_json *vl_json_new_str(const char *s)
{
	return vl_json_new_strn(s, strlen(s));
}

vl_json *vl_json_new_int(int64_t v)
{
	return must(json_integer(v));
}

vl_json *vl_json_new_null(void)
{
	return must(json_null());
}

bool vl_json_is_bool(const vl_json *j)
{
	return json_is_boolean(j);
}

vl_json *vl_json_new_bool(bool v)
{
	return json_boolean(v);
}

vl_json *vl_json_ref(const vl_json *j)
{
	return json_incref((json_t *)j);
}

void vl_json_set(vl_json *obj, const char *key, vl_json *value)
{
	if (value && json_object_set_new(obj, key, value) < 0)
		abort();
}

void vl_json_remove(vl_json *obj, const char *key)
{
	json_object_del(obj, key);
}

void vl_json_add(vl_json *arr, vl_json *value)
{
	if (json_array_append_new(arr, value) < 0)
		abort();
}

char *vl_json_text(const vl_json *j, bool pretty)
{
	char *s = json_dumps(j, (pretty ? JSON_INDENT(2) : JSON_COMPACT) | JSON_ENCODE_ANY);
	if (!s)
		abort();
	return s;
}
