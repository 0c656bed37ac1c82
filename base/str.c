#include <vial/base.h>

#include <ctype.h>
#include <stdio.h>

void vl_buf_free(struct vl_buf *b)
{
	free(b->data);
	*b = (struct vl_buf){ 0 };
}

void vl_buf_add(struct vl_buf *b, const void *p, size_t n)
{
	if (b->len + n + 1 > b->cap) {
		size_t cap = VL_MAX(b->cap * 2, b->len + n + 1);
		b->data = vl_realloc(b->data, cap, 1);
		b->cap = cap;
	}
	if (n)
		memcpy(b->data + b->len, p, n);
	b->len += n;
	b->data[b->len] = 0;
}

void vl_buf_adds(struct vl_buf *b, const char *s)
{
	vl_buf_add(b, s, strlen(s));
}

void vl_buf_addf(struct vl_buf *b, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	VL_FREE char *s = vl_vasprintf(fmt, ap);
	va_end(ap);
	vl_buf_adds(b, s);
}

void vl_buf_shell_word(struct vl_buf *b, const char *s)
{
	vl_buf_adds(b, "'");
	for (; *s; s++)
		if (*s == '\'')
			vl_buf_adds(b, "'\\''");
		else
			vl_buf_add(b, s, 1);
	vl_buf_adds(b, "'");
}

bool vl_is_identifier(const char *s, size_t n)
{
	if (!n || isdigit((unsigned char)*s))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '_')
			return false;
	return true;
}

void vl_strv_take(struct vl_strv *l, char *s)
{
	l->v = vl_realloc(l->v, l->n + 2, sizeof *l->v);
	l->v[l->n++] = s;
	l->v[l->n] = NULL;
}

void vl_strv_add(struct vl_strv *l, const char *s)
{
	vl_strv_take(l, vl_strdup(s));
}

bool vl_strv_has(const struct vl_strv *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (vl_streq(l->v[i], s))
			return true;
	return false;
}

void vl_strv_free(struct vl_strv *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct vl_strv){ 0 };
}

const char *vl_prefix(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);
	return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}

const char *vl_env_value(char *const *env, const char *name)
{
	for (; *env; env++) {
		const char *rest = vl_prefix(*env, name);
		if (rest && *rest == '=')
			return rest + 1;
	}
	return NULL;
}

static int digits(const char *s, size_t n, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (n == 0)
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		uint64_t d = (uint64_t)(s[i] - '0');
		if (v > (UINT64_MAX - d) / 10)
			return -ERANGE;
		v = v * 10 + d;
	}
	if (v > max)
		return -ERANGE;
	*ret = v;
	return 0;
}

int vl_parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v;
	int r = digits(s, strlen(s), max, &v);
	if (r < 0)
		return r;
	if (v < min)
		return -ERANGE;
	*ret = v;
	return 0;
}

int vl_parse_size(const char *s, uint64_t max, uint64_t *ret)
{
	static const char units[] = "KMGT";
	size_t n = strlen(s);
	unsigned shift = 0;
	uint64_t v;

	if (n > 1 && toupper((unsigned char)s[n - 1]) == 'B' && !isdigit((unsigned char)s[n - 2]))
		n--;
	if (n > 1) {
		const char *u = strchr(units, toupper((unsigned char)s[n - 1]));
		if (u && *u) {
			shift = 10u * (unsigned)(u - units + 1);
			n--;
		}
	}
	int r = digits(s, n, max >> shift, &v);
	if (r < 0)
		return r;
	*ret = v << shift;
	return 0;
}

void vl_hex(const void *p, size_t n, char *ret_hex)
{
	static const char d[] = "0123456789abcdef";
	const uint8_t *b = p;

	for (size_t i = 0; i < n; i++) {
		ret_hex[2 * i] = d[b[i] >> 4];
		ret_hex[2 * i + 1] = d[b[i] & 15];
	}
	ret_hex[2 * n] = 0;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1; /* upper case is refused: digests have one spelling */
}

int vl_unhex(const char *hex, size_t n, uint8_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		int h = nibble(hex[2 * i]);
		int l = h < 0 ? -1 : nibble(hex[2 * i + 1]);
		if (l < 0)
			return -EINVAL;
		ret[i] = (uint8_t)(h << 4 | l);
	}
	return hex[2 * n] ? -EINVAL : 0;
}

/* Overlong forms, surrogates and what lies beyond Unicode are no characters: some terminals obey what they stand for. */
static size_t utf8_bytes(const unsigned char *s, size_t len)
{
	size_t n = *s < 0x80                 ? 1
		   : *s >= 0xc2 && *s < 0xe0 ? 2
		   : *s >= 0xe0 && *s < 0xf0 ? 3
		   : *s >= 0xf0 && *s < 0xf5 ? 4
					     : 0;

	if (n > len)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] >= 0xa0) || (*s == 0xf0 && s[1] < 0x90) ||
	    (*s == 0xf4 && s[1] >= 0x90))
		return 0;
	return n;
}

size_t vl_shown_bytes(const char *text, size_t len)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t n = len ? utf8_bytes(s, len) : 0;

	if (n == 1)
		return *s >= 32 && *s != 127;
	if (n == 2 && *s == 0xc2 && s[1] < 0xa0) /* control characters beyond ASCII */
		return 0;
	/* marks that turn the direction of the text: U+061C, 200E, 200F, 202A to 202E, 2066 to 2069; line ends: 2028, 2029 */
	if ((n == 2 && *s == 0xd8 && s[1] == 0x9c) ||
	    (n == 3 && *s == 0xe2 && s[1] == 0x80 &&
	     (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xa8 && s[2] <= 0xae))) ||
	    (n == 3 && *s == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9))
		return 0;
	return n;
}

char *vl_printable(const char *s, size_t n)
{
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < n;) {
		size_t shown = vl_shown_bytes(s + i, n - i);
		if (shown)
			vl_buf_add(&b, s + i, shown);
		else
			vl_buf_addf(&b, "\\x%02x", (unsigned char)s[i]);
		i += shown ? shown : 1;
	}
	vl_buf_add(&b, "", 0);
	return vl_steal(&b.data);
}

void vl_human_size(uint64_t bytes, char ret[16])
{
	static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	size_t u = 0;

	while (v >= 1024 && u + 1 < VL_COUNT(unit)) {
		v /= 1024;
		u++;
	}
	snprintf(ret, 16, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
}
