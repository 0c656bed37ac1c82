/* WWW-Authenticate, RFC 9110 section 11: several challenges in one value, parted by the same commas that part
 * their parameters. */
#include "client.h"

#include <strings.h>

#define MAX_VALUE 16384 /* real ones are below 500 bytes */

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static size_t token(const char *s)
{
	size_t n = 0;

	while (is_token(s[n]))
		n++;
	return n;
}

static const char *skip(const char *s, const char *set)
{
	return s + strspn(s, set);
}

/* A quoted string or a token at s. Returns what follows, NULL when there is none. */
static const char *take_value(const char *s, struct vl_buf *b)
{
	vl_buf_adds(b, "");
	if (*s != '"') {
		size_t n = token(s);
		vl_buf_add(b, s, n);
		return n ? s + n : NULL;
	}
	for (s++; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
		vl_buf_add(b, s, 1);
	}
	return *s ? s + 1 : NULL;
}

static void set_param(struct oci_challenge *c, const char *name, size_t n, const char *value)
{
	static const char *const names[] = { "realm", "service", "scope" };
	char **const fields[] = { &c->realm, &c->service, &c->scope };

	for (const char *s = value; *s; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f) /* nothing of it may get into a header or a message */
			return;
	for (size_t i = 0; i < VL_COUNT(names); i++)
		if (n == strlen(names[i]) && strncasecmp(name, names[i], n) == 0 && !*fields[i])
			*fields[i] = vl_strdup(value);
}

/* Parameters of one challenge, up to the next one. A token that no '=' follows begins that. */
static const char *take_params(const char *s, struct oci_challenge *c)
{
	while (true) {
		VL_BUF struct vl_buf value = { 0 };
		const char *name = skip(s, " \t,");
		size_t n = token(name);
		const char *p = skip(name + n, " \t");
		if (!n || *p != '=')
			return name;
		p = take_value(skip(p + 1, " \t"), &value);
		if (!p)
			return "";
		set_param(c, name, n, value.data);
		s = skip(p, " \t");
		if (*s && *s != ',')
			return "";
	}
}

/* The credentials-like form, as of Negotiate: one word, '=' only at its end. */
static size_t token68(const char *s)
{
	size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/");
	const char *end = skip(s + n, "=");
	const char *after = skip(end, " \t");

	return n && (!*after || *after == ',') ? (size_t)(after - s) : 0;
}

static const char *take_challenge(const char *s, struct oci_challenge *c)
{
	size_t n = token(s);

	if (!n)
		return "";
	if (n == 6 && strncasecmp(s, "Bearer", n) == 0)
		c->scheme = OCI_AUTH_BEARER;
	else if (n == 5 && strncasecmp(s, "Basic", n) == 0)
		c->scheme = OCI_AUTH_BASIC;
	s += n;
	const char *rest = skip(s, " \t");
	if (rest == s && *s && *s != ',')
		return "";
	if (*rest == ',' || !*rest)
		return skip(rest, " \t,");
	size_t word = token68(rest);
	return word ? skip(rest + word, " \t,") : take_params(rest, c);
}

int oci_challenge_parse(const char *value, struct oci_challenge *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_challenge_free) struct oci_challenge best = { 0 };
	const char *s = skip(value, " \t,");

	if (strnlen(value, MAX_VALUE + 1) > MAX_VALUE)
		return vl_fail(err, ENOTSUP, "the registry's question for a login is over %d bytes long", MAX_VALUE);
	while (*s) {
		VL_CLEANUP(oci_challenge_free) struct oci_challenge c = { 0 };
		s = take_challenge(s, &c);
		if (c.scheme == OCI_AUTH_BEARER && !(c.realm && *c.realm)) /* nobody to ask */
			c.scheme = OCI_AUTH_NONE;
		if (c.scheme > best.scheme) {
			oci_challenge_free(&best);
			best = vl_move(&c);
		}
	}
	if (best.scheme == OCI_AUTH_NONE) {
		VL_FREE char *shown = vl_printable(value, strnlen(value, 200));
		return vl_fail(err, ENOTSUP, "the registry wants a way of login that is not known here: %s", shown);
	}
	*ret = vl_move(&best);
	return 0;
}

int oci_challenge_best(const struct oci_http_resp *resp, struct oci_challenge *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_challenge_free) struct oci_challenge best = { 0 };
	struct vl_err why = { 0 };
	const char *value;

	vl_fail(&why, EACCES, "the registry asks for a login (401), but does not say how");
	for (unsigned i = 0; (value = oci_http_head(resp, "WWW-Authenticate", i)); i++) {
		VL_CLEANUP(oci_challenge_free) struct oci_challenge c = { 0 };
		if (oci_challenge_parse(value, &c, &why) < 0 || c.scheme <= best.scheme)
			continue;
		oci_challenge_free(&best);
		best = vl_move(&c);
	}
	if (best.scheme == OCI_AUTH_NONE) {
		*err = why;
		return -why.code;
	}
	*ret = vl_move(&best);
	return 0;
}

void oci_challenge_free(struct oci_challenge *c)
{
	vl_freep(&c->realm);
	vl_freep(&c->service);
	vl_freep(&c->scope);
}
