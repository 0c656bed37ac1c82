#include <vial/oci.h>

#include <stdio.h>

static const struct {
	const char *scheme;
	enum oci_kind kind;
} kinds[] = {
	{ "oci:", OCI_LAYOUT },
	{ "oci-archive:", OCI_ARCHIVE },
	{ "docker-archive:", OCI_DOCKER_ARCHIVE },
};

/* A path may hold colons and a tag may too: the shortest prefix that exists is the path. */
static size_t path_length(const char *s)
{
	VL_FREE char *copy = vl_strdup(s);

	if (access(s, F_OK) == 0)
		return strlen(s);
	for (size_t i = strcspn(s, ":"); s[i]; i += 1 + strcspn(s + i + 1, ":")) {
		copy[i] = 0;
		if (i && access(copy, F_OK) == 0)
			return i;
		copy[i] = ':';
	}
	return strcspn(s, ":");
}

int oci_ref_parse(const char *uri, struct oci_ref *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	VL_FREE char *rest = NULL;
	size_t i = 0;

	while (i < VL_COUNT(kinds) && !vl_prefix(uri, kinds[i].scheme))
		i++;
	if (i == VL_COUNT(kinds))
		return vl_fail(err, ENOTSUP, "%s names no kind of image source that is known here", uri);
	ref.kind = kinds[i].kind;
	rest = vl_strdup(vl_prefix(uri, kinds[i].scheme));
	char *at = strrchr(rest, '@');
	if (at && (vl_prefix(at, "@sha256:") || vl_prefix(at, "@sha512:")) && access(rest, F_OK) != 0) {
		int r = oci_digest_parse(at + 1, &ref.digest, err);
		if (r < 0)
			return vl_wrap(err, "%s", uri);
		*at = 0;
	}
	size_t n = path_length(rest);
	ref.path = vl_strndup(rest, n);
	if (rest[n] == ':' && rest[n + 1])
		ref.tag = vl_strdup(rest + n + 1);
	if (!*ref.path)
		return vl_fail(err, EINVAL, "%s names no file", uri);
	*ret = vl_move(&ref);
	return 0;
}

void oci_ref_free(struct oci_ref *r)
{
	vl_freep(&r->path);
	vl_freep(&r->tag);
}
