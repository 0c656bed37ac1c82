#include <vial/base.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *vl_base64(const void *p, size_t n, bool padded)
{
	const uint8_t *b = p;
	char *s = vl_alloc((n + 2) / 3 * 4 + 1), *out = s;

	for (size_t i = 0; i < n; i += 3) {
		size_t left = VL_MIN(n - i, (size_t)3);
		uint32_t v =
			(uint32_t)b[i] << 16 | (left > 1 ? (uint32_t)b[i + 1] << 8 : 0) | (left > 2 ? b[i + 2] : 0u);
		for (size_t k = 0; k < 4; k++)
			if (k <= left)
				*out++ = digits[v >> (18 - 6 * k) & 63];
			else if (padded)
				*out++ = '=';
	}
	*out = 0;
	return s;
}

static int value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-') /* '-' and '_' are the URL alphabet's, which DSSE allows too */
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

int vl_unbase64(const char *s, size_t n, uint8_t **ret, size_t *ret_len)
{
	size_t pad = n && s[n - 1] == '=' ? n > 1 && s[n - 2] == '=' ? 2 : 1 : 0, at = 0;

	if (n % 4)
		return -EINVAL;
	VL_FREE uint8_t *out = vl_alloc(n / 4 * 3 + 1);
	for (size_t i = 0; i < n; i += 4) {
		size_t chars = i + 4 == n ? 4 - pad : 4;
		uint32_t v = 0;
		for (size_t k = 0; k < 4; k++) {
			int d = k < chars ? value(s[i + k]) : 0;
			if (d < 0)
				return -EINVAL;
			v = v << 6 | (uint32_t)d;
		}
		/* bits that no byte takes must be zero: one value, one spelling */
		if (v & (chars == 2 ? 0xffffu : chars == 3 ? 0xffu : 0))
			return -EINVAL;
		for (size_t k = 0; k < chars - 1; k++)
			out[at++] = (uint8_t)(v >> (16 - 8 * k));
	}
	*ret = vl_steal(&out);
	*ret_len = at;
	return 0;
}
