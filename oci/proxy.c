/* Which proxy libcurl takes from the environment: only to say so when it fails. */
#include "client.h"

#include <strings.h>

/* What stands between the scheme, a user and password, and a path. */
static const char *host_of(const char *proxy, size_t *ret_len)
{
	const char *s = strstr(proxy, "://");

	s = s ? s + 3 : proxy;
	size_t n = strcspn(s, "/");
	for (const char *at; (at = memchr(s, '@', n));) { /* a password may hold one */
		n -= (size_t)(at + 1 - s);
		s = at + 1;
	}
	*ret_len = n;
	return s;
}

char *oci_proxy_of(const char *url, const char *curl_text)
{
	bool tls = strncasecmp(url, "https:", 6) == 0;
	/* HTTP_PROXY is not read: in a CGI program it is a header of the request */
	const char *const names[] = { tls ? "https_proxy" : "http_proxy", tls ? "HTTPS_PROXY" : "all_proxy",
				      "all_proxy", "ALL_PROXY" };

	for (size_t i = 0; i < VL_COUNT(names); i++) {
		const char *value = getenv(names[i]);
		size_t n;
		if (!value || !*value)
			continue;
		const char *host = host_of(value, &n);
		const char *name = *host == '[' ? host + 1 : host;
		size_t len = *host == '[' ? strcspn(name, "]") : strcspn(name, ":/");
		len = VL_MIN(len, n);
		const char *colon = memchr(name + len, ':', VL_MAX(host + n, name + len) - (name + len));
		/* "Failed to connect to HOST port N": N is libcurl's choice when none is given */
		VL_FREE char *at = vl_asprintf("to %.*s port %.*s", (int)len, name,
					       colon ? (int)(host + n - (colon + 1)) : 0, colon ? colon + 1 : "");
		if (curl_text && !strstr(curl_text, at))
			return NULL;
		VL_FREE char *shown = vl_printable(host, VL_MIN(n, (size_t)200));
		return vl_asprintf("%s (of $%s)", shown, names[i]);
	}
	return NULL;
}
