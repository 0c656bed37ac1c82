#include <vial/policy.h>

/* Two places to go back to: behind the last `*`, as long as no slash is in the way, and behind the last `**`. Earlier
 * ones need no second look: what they could take, the later one can. So the work is bounded by the product of the
 * lengths, once for each `**` position. */
bool pol_matches(const char *p, const char *s)
{
	const char *star = NULL, *star_s = NULL, *deep = NULL, *deep_s = NULL;

	for (;;) {
		if (p[0] == '*' && p[1] == '*') {
			deep = p += 2;
			deep_s = s;
			star = NULL;
		} else if (*p == '*') {
			star = ++p;
			star_s = s;
		} else if (*s && (*p == *s || (*p == '?' && *s != '/'))) {
			p++;
			s++;
		} else if (!*p && !*s) {
			return true;
		} else if (star && *star_s && *star_s != '/') {
			p = star;
			s = ++star_s;
		} else if (deep && *deep_s) {
			p = deep;
			s = ++deep_s;
			star = NULL;
		} else {
			return false;
		}
	}
}
