/* TOML 1.0 into the tree that JSON is read into. Debian has no maintained C library for it, and
 * registries.conf and hosts.toml are the only files of ours that are written so: a small strict reader is
 * less to trust than a copied one. Floats, dates and times stay the text they are, as strings. */
#include <vial/base.h>

struct toml {
	const char *s, *end;
	const char *what;
	unsigned line;
	vl_json *root;
	vl_json *marks; /* address of a table or array -> how it came to be */
	vl_json *lines; /* address of a table, or that and a key -> the line; NULL = nobody asks */
};

/* TOML lets a table be written once only: what may still be added depends on how it was made. */
enum mark {
	MARK_PATH = 1,    /* a part of [a.b.c] on the way: may get its own [a.b] later */
	MARK_HEADER = 2,  /* [a] */
	MARK_DOTTED = 3,  /* a.b = 1 */
	MARK_TABLES = 4,  /* [[a]] */
	MARK_LITERAL = 5, /* {} or []: closed */
};

static void mark(struct toml *t, const vl_json *node, enum mark m)
{
	VL_FREE char *key = vl_asprintf("%p", (const void *)node);

	vl_json_set(t->marks, key, vl_json_new_int(m));
}

static enum mark marked(const struct toml *t, const vl_json *node)
{
	VL_FREE char *key = vl_asprintf("%p", (const void *)node);
	int64_t m = 0;

	(void)vl_json_int(t->marks, key, &m);
	return (enum mark)m;
}

/* key NULL: where the table itself begins */
static void note_line(struct toml *t, const vl_json *table, const char *key)
{
	VL_FREE char *name = vl_asprintf("%p %s", (const void *)table, key ? key : "");

	if (t->lines)
		vl_json_set(t->lines, name, vl_json_new_int(t->line));
}

unsigned vl_toml_line(const vl_json *lines, const vl_json *table, const char *key)
{
	VL_FREE char *name = vl_asprintf("%p %s", (const void *)table, key ? key : "");
	int64_t n = 0;

	(void)vl_json_int(lines, name, &n);
	return (unsigned)n;
}

static int bad(const struct toml *t, struct vl_err *err, const char *why)
{
	return vl_fail(err, EINVAL, "%s: line %u: %s", t->what, t->line, why);
}

static int bad_key(const struct toml *t, struct vl_err *err, const char *key, const char *why)
{
	VL_FREE char *shown = vl_printable(key, strnlen(key, 100));

	return vl_fail(err, EINVAL, "%s: line %u: '%s' %s", t->what, t->line, shown, why);
}

/* ---- characters: the whole text is looked at once, so that the reader below meets only good ones ---- */

/* Bytes of the UTF-8 sequence at s; 0 = not one. */
static size_t utf8(const unsigned char *s, size_t left)
{
	size_t n = *s < 0x80                  ? 1
		   : *s >= 0xc2 && *s <= 0xdf ? 2
		   : (*s & 0xf0) == 0xe0      ? 3
		   : *s >= 0xf0 && *s <= 0xf4 ? 4
					      : 0;

	if (!n || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* spelled too long, surrogates, above U+10FFFF */
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f) || (*s == 0xf0 && s[1] < 0x90) ||
	    (*s == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

static int check_text(struct toml *t, struct vl_err *err)
{
	size_t n;

	for (const char *s = t->s; s < t->end; s += n) {
		unsigned char c = (unsigned char)*s;
		if (!(n = utf8((const unsigned char *)s, (size_t)(t->end - s))))
			return bad(t, err, "this is not UTF-8");
		if (c == '\r' && (s + 1 == t->end || s[1] != '\n'))
			return bad(t, err, "a carriage return without its line feed");
		if ((c < ' ' && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
			return bad(t, err, "a control character");
		t->line += c == '\n';
	}
	t->line = 1;
	return 0;
}

static char peek(const struct toml *t)
{
	return t->s < t->end ? *t->s : 0;
}

static bool starts(const struct toml *t, const char *text)
{
	return (size_t)(t->end - t->s) >= strlen(text) && strncmp(t->s, text, strlen(text)) == 0;
}

static bool take(struct toml *t, const char *text)
{
	if (!starts(t, text))
		return false;
	t->s += strlen(text);
	return true;
}

static void skip_blanks(struct toml *t)
{
	while (peek(t) == ' ' || peek(t) == '\t')
		t->s++;
}

static bool take_newline(struct toml *t)
{
	if (!take(t, "\n") && !take(t, "\r\n"))
		return false;
	t->line++;
	return true;
}

/* Blanks, and a comment up to its line's end. */
static void skip_comment(struct toml *t)
{
	skip_blanks(t);
	if (peek(t) == '#')
		while (t->s < t->end && *t->s != '\n' && *t->s != '\r')
			t->s++;
}

static void skip_lines(struct toml *t)
{
	do
		skip_comment(t);
	while (take_newline(t));
}

/* ---- strings ------------------------------------------------------------------------------ */

static int add_codepoint(struct toml *t, unsigned digits, struct vl_buf *b, struct vl_err *err)
{
	uint32_t c = 0;
	char out[4];

	for (unsigned i = 0; i < digits; i++, t->s++) {
		char d = peek(t);
		if (d >= '0' && d <= '9')
			c = c << 4 | (uint32_t)(d - '0');
		else if ((d | 0x20) >= 'a' && (d | 0x20) <= 'f')
			c = c << 4 | (uint32_t)((d | 0x20) - 'a' + 10);
		else
			return bad(t, err, "\\u takes 4 and \\U 8 hex digits");
	}
	if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return bad(t, err, "an escape that is no character");
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (size_t i = n; i-- > 1; c >>= 6)
		out[i] = (char)(0x80 | (c & 0x3f));
	out[0] = (char)(n == 1 ? c : (0xf0u << (4 - n) & 0xf0u) | c);
	vl_buf_add(b, out, n);
	return 0;
}

static int add_escape(struct toml *t, bool lines, struct vl_buf *b, struct vl_err *err)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	char c = peek(t);
	const char *at = c ? strchr(from, c) : NULL;

	if (at) {
		t->s++;
		vl_buf_add(b, &to[at - from], 1);
		return 0;
	}
	if (take(t, "u"))
		return add_codepoint(t, 4, b, err);
	if (take(t, "U"))
		return add_codepoint(t, 8, b, err);
	/* at a line's end: the white space up to the next text is not there */
	skip_blanks(t);
	if (!lines || !take_newline(t))
		return bad(t, err, "an escape that TOML does not know");
	do
		skip_blanks(t);
	while (take_newline(t));
	return 0;
}

/* After the opening quotes. Up to two quotes may stand right before the closing three. */
static int read_lines(struct toml *t, char quote, struct vl_buf *b, struct vl_err *err)
{
	const char three[] = { quote, quote, quote, 0 };

	take_newline(t);
	while (t->s < t->end) {
		if (take(t, three)) {
			for (int i = 0; i < 2 && peek(t) == quote; i++, t->s++)
				vl_buf_add(b, &quote, 1);
			return 0;
		}
		if (quote == '"' && take(t, "\\")) {
			int r = add_escape(t, true, b, err);
			if (r < 0)
				return r;
		} else if (take_newline(t)) {
			vl_buf_add(b, "\n", 1);
		} else {
			vl_buf_add(b, t->s++, 1);
		}
	}
	return bad(t, err, "a string of several lines has no end");
}

static int read_string(struct toml *t, bool lines_allowed, struct vl_buf *b, struct vl_err *err)
{
	char quote = *t->s;
	const char three[] = { quote, quote, quote, 0 };

	vl_buf_add(b, "", 0);
	if (lines_allowed && take(t, three))
		return read_lines(t, quote, b, err);
	for (t->s++; t->s < t->end && *t->s != quote;) {
		if (*t->s == '\n' || *t->s == '\r')
			break;
		if (quote == '"' && take(t, "\\")) {
			int r = add_escape(t, false, b, err);
			if (r < 0)
				return r;
		} else {
			vl_buf_add(b, t->s++, 1);
		}
	}
	if (peek(t) != quote)
		return bad(t, err, "a string has no end on its line");
	t->s++;
	return 0;
}

/* ---- keys --------------------------------------------------------------------------------- */

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static int read_part(struct toml *t, struct vl_strv *key, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };

	if (peek(t) == '"' || peek(t) == '\'') {
		int r = read_string(t, false, &b, err);
		if (r < 0)
			return r;
		if (memchr(b.data, 0, b.len)) /* C users of the tree would see another key */
			return bad(t, err, "a key holds a NUL character");
	} else {
		while (is_bare(peek(t)))
			vl_buf_add(&b, t->s++, 1);
		if (!b.len)
			return bad(t, err, "a key is missing");
	}
	vl_strv_take(key, vl_steal(&b.data));
	return 0;
}

/* a.b."c d" */
static int read_key(struct toml *t, struct vl_strv *key, struct vl_err *err)
{
	do {
		skip_blanks(t);
		int r = read_part(t, key, err);
		if (r < 0)
			return r;
		if (key->n > VL_JSON_DEPTH)
			return bad(t, err, "a key has too many parts");
		skip_blanks(t);
	} while (take(t, "."));
	return 0;
}

/* ---- numbers, dates ------------------------------------------------------------------------- */

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : 99;
}

/* Digits of `base` at s, '_' between two of them: their bytes, *ret_value if it fits. */
static size_t digits(const char *s, unsigned base, uint64_t *ret_value, bool *ret_fits)
{
	size_t i = 0;

	*ret_value = 0;
	*ret_fits = true;
	while (s[i]) {
		if (s[i] == '_' && i && s[i - 1] != '_' && digit_value(s[i + 1]) < (int)base)
			i++;
		int d = digit_value(s[i]);
		if (d >= (int)base)
			break;
		if (__builtin_mul_overflow(*ret_value, (uint64_t)base, ret_value) ||
		    __builtin_add_overflow(*ret_value, (uint64_t)d, ret_value))
			*ret_fits = false;
		i++;
	}
	return i;
}

/* 1: an integer; 0: something else; below 0: too large. */
static int as_integer(const char *s, int64_t *ret)
{
	bool minus = *s == '-', sign = minus || *s == '+', fits;
	uint64_t v;
	unsigned base = 10;

	s += sign;
	if (!sign && *s == '0' && s[1] && strchr("xob", s[1])) {
		base = s[1] == 'x' ? 16 : s[1] == 'o' ? 8 : 2;
		s += 2;
	}
	size_t n = digits(s, base, &v, &fits);
	if (!n || s[n] || (base == 10 && *s == '0' && n > 1))
		return 0;
	if (!fits || v > (uint64_t)INT64_MAX + minus)
		return -ERANGE;
	*ret = minus ? (int64_t)(0 - v) : (int64_t)v;
	return 1;
}

static bool is_float(const char *s)
{
	uint64_t v;
	bool fits;

	s += *s == '-' || *s == '+';
	if (vl_streq(s, "inf") || vl_streq(s, "nan"))
		return true;
	size_t n = digits(s, 10, &v, &fits);
	if (!n || (*s == '0' && n > 1))
		return false;
	s += n;
	if (*s == '.') {
		if (!(n = digits(s + 1, 10, &v, &fits)))
			return false;
		s += 1 + n;
	}
	if (*s == 'e' || *s == 'E') {
		s += 1 + (s[1] == '-' || s[1] == '+');
		if (!(n = digits(s, 10, &v, &fits)))
			return false;
		s += n;
	}
	return !*s;
}

/* s begins like the pattern, in which 0 is any digit; the bytes, or 0. */
static size_t like(const char *s, const char *pattern)
{
	size_t i = 0;

	for (; pattern[i]; i++)
		if (pattern[i] == '0' ? s[i] < '0' || s[i] > '9' : s[i] != pattern[i])
			return 0;
	return i;
}

/* By shape only: nobody here counts with it. */
static bool is_date(const char *s)
{
	size_t date = like(s, "0000-00-00");

	s += date;
	if (date && !*s)
		return true;
	if (date && !strchr("Tt ", *s++))
		return false;
	size_t n = like(s, "00:00:00");
	if (!n)
		return false;
	s += n;
	if (*s == '.') {
		n = strspn(s + 1, "0123456789");
		if (!n)
			return false;
		s += 1 + n;
	}
	if (!*s)
		return true;
	return date &&
	       (vl_streq(s, "Z") || vl_streq(s, "z") || ((like(s, "+00:00") || like(s, "-00:00")) && strlen(s) == 6));
}

static int read_word(struct toml *t, vl_json **ret, struct vl_err *err)
{
	const char *from = t->s;
	int64_t n;

	while (is_bare(peek(t)) || peek(t) == '+' || peek(t) == '.' || peek(t) == ':' ||
	       (peek(t) == ' ' && t->s - from == 10 && from[4] == '-' && t->end - t->s > 3 && t->s[3] == ':'))
		t->s++;
	VL_FREE char *word = vl_strndup(from, (size_t)(t->s - from));
	if (vl_streq(word, "true") || vl_streq(word, "false")) {
		*ret = vl_json_new_bool(*word == 't');
		return 0;
	}
	int r = as_integer(word, &n);
	if (r < 0)
		return bad_key(t, err, word, "is too large a number");
	if (r == 0 && !is_float(word) && !is_date(word))
		return *word ? bad_key(t, err, word, "is no value; text stands in quotes")
			     : bad(t, err, "a value is missing");
	*ret = r ? vl_json_new_int(n) : vl_json_new_str(word);
	return 0;
}

/* ---- values and tables ------------------------------------------------------------------------ */

static int read_pair(struct toml *t, vl_json *table, unsigned depth, struct vl_err *err);
static int read_value(struct toml *t, unsigned depth, vl_json **ret, struct vl_err *err);

static int read_array(struct toml *t, unsigned depth, vl_json **ret, struct vl_err *err)
{
	VL_JSON vl_json *a = vl_json_new_arr();

	for (t->s++;;) {
		vl_json *v;
		skip_lines(t);
		if (take(t, "]"))
			break;
		int r = read_value(t, depth + 1, &v, err);
		if (r < 0)
			return r;
		vl_json_add(a, v);
		skip_lines(t);
		if (take(t, ","))
			continue;
		if (!take(t, "]"))
			return bad(t, err, "an array goes on with ',' or ends with ']'");
		break;
	}
	mark(t, a, MARK_LITERAL);
	*ret = vl_steal(&a);
	return 0;
}

static int read_inline(struct toml *t, unsigned depth, vl_json **ret, struct vl_err *err)
{
	VL_JSON vl_json *o = vl_json_new_obj();

	t->s++;
	skip_blanks(t);
	if (!take(t, "}"))
		do {
			int r = read_pair(t, o, depth, err);
			if (r < 0)
				return r;
			skip_blanks(t);
			if (take(t, "}"))
				break;
			if (!take(t, ","))
				return bad(t, err, "an inline table goes on with ',' or ends with '}' on its line");
		} while (true);
	mark(t, o, MARK_LITERAL);
	*ret = vl_steal(&o);
	return 0;
}

static int read_value(struct toml *t, unsigned depth, vl_json **ret, struct vl_err *err)
{
	VL_BUF struct vl_buf b = { 0 };

	if (depth > VL_JSON_DEPTH)
		return bad(t, err, "tables and arrays are nested too deep");
	switch (peek(t)) {
	case '[':
		return read_array(t, depth, ret, err);
	case '{':
		return read_inline(t, depth, ret, err);
	case '"':
	case '\'':
		break;
	default:
		return read_word(t, ret, err);
	}
	int r = read_string(t, true, &b, err);
	if (r == 0)
		*ret = vl_json_new_strn(b.data, b.len);
	return r;
}

/* The member `key` of a table, made with mark m when it is missing. Borrowed. */
static vl_json *child(struct toml *t, vl_json *table, const char *key, enum mark m)
{
	vl_json *v = vl_json_get(table, key);

	if (v)
		return v;
	v = m == MARK_TABLES ? vl_json_new_arr() : vl_json_new_obj();
	mark(t, v, m);
	vl_json_set(table, key, v);
	return v;
}

/* key = value */
static int read_pair(struct toml *t, vl_json *table, unsigned depth, struct vl_err *err)
{
	VL_STRV struct vl_strv key = { 0 };
	vl_json *v = NULL;
	int r = read_key(t, &key, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i + 1 < key.n; i++) {
		table = child(t, table, key.v[i], MARK_DOTTED);
		if (!vl_json_is_object(table) || marked(t, table) != MARK_DOTTED)
			return bad_key(t, err, key.v[i], "is something else already");
	}
	const char *last = key.v[key.n - 1];
	if (vl_json_get(table, last))
		return bad_key(t, err, last, "is there twice");
	if (!take(t, "="))
		return bad_key(t, err, last, "is followed by no '='");
	skip_blanks(t);
	note_line(t, table, last);
	if ((r = read_value(t, depth + (unsigned)key.n, &v, err)) < 0)
		return r;
	vl_json_set(table, last, v);
	return 0;
}

/* One step of a header's path: into a table, or the last one of an array of tables. */
static vl_json *enter(const struct toml *t, vl_json *node)
{
	enum mark m = marked(t, node);

	if (m == MARK_TABLES)
		return vl_json_at(node, vl_json_len(node) - 1);
	return vl_json_is_object(node) && m != MARK_LITERAL ? node : NULL;
}

static int open_table(struct toml *t, vl_json *parent, const char *key, vl_json **ret, struct vl_err *err)
{
	vl_json *v = vl_json_get(parent, key);

	if (v && marked(t, v) != MARK_PATH)
		return bad_key(t, err, key, "is there twice");
	v = child(t, parent, key, MARK_HEADER);
	mark(t, v, MARK_HEADER);
	*ret = v;
	return 0;
}

static int add_table(struct toml *t, vl_json *parent, const char *key, vl_json **ret, struct vl_err *err)
{
	vl_json *a = child(t, parent, key, MARK_TABLES);

	if (marked(t, a) != MARK_TABLES)
		return bad_key(t, err, key, "is no array of tables");
	*ret = vl_json_new_obj();
	mark(t, *ret, MARK_HEADER);
	note_line(t, *ret, NULL);
	vl_json_add(a, *ret);
	return 0;
}

/* [a.b] or [[a.b]]; every part may be an array of tables, two levels of the tree. */
static int read_header(struct toml *t, vl_json **ret_table, unsigned *ret_depth, struct vl_err *err)
{
	VL_STRV struct vl_strv key = { 0 };
	bool array = take(t, "[[");
	vl_json *table = t->root;

	if (!array)
		t->s++;
	int r = read_key(t, &key, err);
	if (r < 0)
		return r;
	if (!take(t, array ? "]]" : "]"))
		return bad(t, err, "the name of a table has no closing bracket");
	if (2 * key.n > VL_JSON_DEPTH)
		return bad(t, err, "tables are nested too deep");
	for (size_t i = 0; i + 1 < key.n; i++) {
		table = enter(t, child(t, table, key.v[i], MARK_PATH));
		if (!table)
			return bad_key(t, err, key.v[i], "is no table that can be added to");
	}
	*ret_depth = 2 * (unsigned)key.n;
	const char *last = key.v[key.n - 1];
	return array ? add_table(t, table, last, ret_table, err) : open_table(t, table, last, ret_table, err);
}

static int read_all(struct toml *t, struct vl_err *err)
{
	vl_json *table = t->root;
	unsigned depth = 0;
	int r = check_text(t, err);

	if (r < 0)
		return r;
	take(t, "\xef\xbb\xbf"); /* byte order mark of some editors */
	for (skip_lines(t); t->s < t->end; skip_lines(t)) {
		r = peek(t) == '[' ? read_header(t, &table, &depth, err) : read_pair(t, table, depth, err);
		if (r < 0)
			return r;
		skip_comment(t);
		if (t->s < t->end && peek(t) != '\n' && peek(t) != '\r')
			return bad(t, err, "there is more on the line than belongs there");
	}
	return 0;
}

int vl_toml_parse_lines(const char *text, size_t len, const char *what, vl_json **ret, vl_json **ret_lines,
			struct vl_err *err)
{
	VL_JSON vl_json *root = vl_json_new_obj(), *marks = vl_json_new_obj();
	VL_JSON vl_json *lines = ret_lines ? vl_json_new_obj() : NULL;
	struct toml t = { text, text + len, what, 1, root, marks, lines };

	if (len > VL_JSON_MAX)
		return vl_fail(err, EFBIG, "%s: TOML of %zu bytes is over the limit of %u", what, len, VL_JSON_MAX);
	int r = read_all(&t, err);
	if (r < 0)
		return r;
	*ret = vl_steal(&root);
	if (ret_lines)
		*ret_lines = vl_steal(&lines);
	return 0;
}

int vl_toml_parse(const char *text, size_t len, const char *what, vl_json **ret, struct vl_err *err)
{
	return vl_toml_parse_lines(text, len, what, ret, NULL, err);
}
