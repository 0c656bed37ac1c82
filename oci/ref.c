#include <vial/oci.h>

#include <stdio.h>

#define MAX_URI 8192   /* what web servers take */
#define MAX_NAME 255u  /* host and repository together, distribution-spec */
#define MAX_TAG 128u   /* distribution-spec */
#define MAX_SHOWN 300u /* of a wrong name, in a message */

static const struct {
	const char *scheme;
	enum oci_kind kind;
} kinds[] = {
	{ "oci:", OCI_LAYOUT },      { "oci-archive:", OCI_ARCHIVE }, { "docker-archive:", OCI_DOCKER_ARCHIVE },
	{ "docker:", OCI_REGISTRY }, { "oras:", OCI_ORAS },           { "http://", OCI_HTTP },
	{ "https://", OCI_HTTP },
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

static int parse_local(const char *uri, const char *name, struct oci_ref *ref, struct vl_err *err)
{
	VL_FREE char *rest = vl_strdup(name), *shown = vl_printable(uri, strnlen(uri, MAX_SHOWN));

	char *at = strrchr(rest, '@');
	if (at && (vl_prefix(at, "@sha256:") || vl_prefix(at, "@sha512:")) && access(rest, F_OK) != 0) {
		int r = oci_digest_parse(at + 1, &ref->digest, err);
		if (r < 0)
			return vl_wrap(err, "%s", shown);
		*at = 0;
	}
	size_t n = path_length(rest);
	ref->path = vl_strndup(rest, n);
	if (rest[n] == ':' && rest[n + 1])
		ref->tag = vl_strdup(rest + n + 1);
	if (!*ref->path)
		return vl_fail(err, EINVAL, "%s names no file", shown);
	return 0;
}

/* ---- names of registries: the grammar of distribution-spec 1.1, the defaults of Docker ---- */

static bool is_lower(char c)
{
	return c >= 'a' && c <= 'z';
}

static bool is_upper(char c)
{
	return c >= 'A' && c <= 'Z';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int bad_character(const char *what, char c, const char *allowed, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(&c, 1);

	return vl_fail(err, EINVAL, "a %s cannot hold '%s': %s", what, shown, allowed);
}

/* Bytes of a separator at s: '.', '_', '__' or dashes; 0 = none. */
static size_t separator(const char *s)
{
	if (*s == '.')
		return 1;
	if (*s == '_')
		return s[1] == '_' ? 2 : 1;
	return strspn(s, "-");
}

/* One part between slashes: [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static int check_part(const char *part, struct vl_err *err)
{
	VL_FREE char *shown = vl_printable(part, strnlen(part, MAX_NAME));

	if (!*part)
		return vl_fail(err, EINVAL, "the repository name has an empty part");
	for (const char *s = part; *s;) {
		if (is_upper(*s))
			return vl_fail(err, EINVAL, "repository names are lower case: '%c' in '%s'", *s, shown);
		if (is_lower(*s) || is_digit(*s)) {
			s++;
			continue;
		}
		size_t n = separator(s);
		if (!n)
			return bad_character("repository name", *s, "it has a-z, 0-9, '.', '_', '-' and '/'", err);
		if (s == part || !(is_lower(s[n]) || is_digit(s[n]) || is_upper(s[n])))
			return vl_fail(err, EINVAL, "in a repository name '%c' stands between letters or digits: '%s'",
				       *s, shown);
		s += n;
	}
	return 0;
}

static int check_repo(const char *repo, struct vl_err *err)
{
	for (const char *s = repo;; s++) {
		size_t n = strcspn(s, "/");
		VL_FREE char *part = vl_strndup(s, n);
		int r = check_part(part, err);
		if (r < 0)
			return r;
		s += n;
		if (!*s)
			return 0;
	}
}

static int check_tag(const char *tag, struct vl_err *err)
{
	if (!*tag)
		return vl_fail(err, EINVAL, "there is no tag after the ':'");
	if (strlen(tag) > MAX_TAG)
		return vl_fail(err, EINVAL, "the tag has %zu characters, over the limit of %u", strlen(tag), MAX_TAG);
	if (*tag == '.' || *tag == '-')
		return vl_fail(err, EINVAL, "a tag does not begin with '%c'", *tag);
	for (const char *s = tag; *s; s++)
		if (!is_lower(*s) && !is_upper(*s) && !is_digit(*s) && !strchr("._-", *s))
			return bad_character("tag", *s, "it has letters, digits, '.', '_' and '-'", err);
	return 0;
}

static int check_port(const char *port, struct vl_err *err)
{
	uint64_t n;

	if (!is_digit(*port) || vl_parse_u64(port, 1, UINT16_MAX, &n) < 0)
		return vl_fail(err, EINVAL, "what follows the ':' of the host is no port number");
	return 0;
}

/* [::1] and the like; which address it is, the resolver will say. */
static int check_ipv6(const char *host, struct vl_err *err)
{
	size_t n = strspn(host + 1, "0123456789abcdefABCDEF:.");

	if (host[1 + n] != ']' || n < 2 || n > 45) {
		VL_FREE char *shown = vl_printable(host, strnlen(host, MAX_NAME));
		return vl_fail(err, EINVAL, "'%s' is no IPv6 address in brackets", shown);
	}
	if (!host[n + 2])
		return 0;
	if (host[n + 2] != ':')
		return vl_fail(err, EINVAL, "only a ':' and a port may follow the ']' of a host");
	return check_port(host + n + 3, err);
}

static int check_host(const char *host, struct vl_err *err)
{
	if (*host == '[')
		return check_ipv6(host, err);
	size_t n = strcspn(host, ":");
	if (!n)
		return vl_fail(err, EINVAL, "there is no host name before the ':'");
	for (size_t i = 0; i < n; i++) {
		bool edge = i == 0 || i + 1 == n || host[i - 1] == '.' || host[i + 1] == '.';
		if (!is_lower(host[i]) && !is_upper(host[i]) && !is_digit(host[i]) && !strchr(".-", host[i]))
			return bad_character("host name", host[i], "it has letters, digits, '.' and '-'", err);
		if (edge && !is_lower(host[i]) && !is_upper(host[i]) && !is_digit(host[i]) &&
		    !(host[i] == '.' && i && host[i - 1] != '.' && i + 1 < n))
			return vl_fail(err, EINVAL, "in a host name '%c' stands between letters or digits", host[i]);
	}
	return host[n] ? check_port(host + n + 1, err) : 0;
}

/* Docker's rule: "a.b/c" has a host, "a/b" is of Docker Hub. ORAS always has one. */
static bool is_host(const char *first, size_t n, enum oci_kind kind)
{
	return kind == OCI_ORAS || memchr(first, '.', n) || memchr(first, ':', n) || *first == '[' ||
	       (n == strlen("localhost") && strncmp(first, "localhost", n) == 0);
}

static void docker_names(struct oci_ref *ref)
{
	static const char *const hub[] = { "docker.io", "index.docker.io", "registry-1.docker.io" };

	for (size_t i = 0; i < VL_COUNT(hub); i++) {
		if (!vl_streq(ref->host, hub[i]))
			continue;
		char *repo = strchr(ref->repo, '/') ? NULL : vl_asprintf("library/%s", ref->repo);
		vl_freep(&ref->host);
		ref->host = vl_strdup(hub[0]);
		if (repo) {
			vl_freep(&ref->repo);
			ref->repo = repo;
		}
		return;
	}
}

static int split_host(const char *name, struct oci_ref *ref, struct vl_err *err)
{
	size_t first = strcspn(name, "/");
	bool has = name[first] && first && is_host(name, first, ref->kind);

	if (!*name)
		return vl_fail(err, EINVAL, "there is no name");
	if (!first)
		return vl_fail(err, EINVAL, "there is no name before the '/'");
	if (ref->kind == OCI_ORAS && !has)
		return vl_fail(err, EINVAL, "oras:// needs a host: oras://HOST/REPOSITORY[:TAG]");
	ref->host = has ? vl_strndup(name, first) : vl_strdup("docker.io");
	ref->repo = vl_strdup(has ? name + first + 1 : name);
	int r = check_host(ref->host, err);
	if (r < 0)
		return r;
	for (char *s = ref->host; *s; s++) /* hosts have no case; credential files and mirrors are looked up by it */
		if (is_upper(*s))
			*s = (char)(*s - 'A' + 'a');
	return 0;
}

static int parse_name(char *name, struct oci_ref *ref, struct vl_err *err)
{
	char *at = strchr(name, '@');
	int r;

	if (at) {
		/* what is left of the '@' may be a password: it is not shown */
		if (!vl_prefix(at, "@sha256:") && !vl_prefix(at, "@sha512:"))
			return vl_fail(err, EINVAL,
				       "only a sha256 or sha512 digest may follow an '@'; user names and passwords "
				       "are given to 'registry login'");
		if ((r = oci_digest_parse(at + 1, &ref->digest, err)) < 0)
			return r;
		*at = 0;
	}
	char *slash = strrchr(name, '/'), *colon = strrchr(name, ':');
	if (colon && (!slash || colon > slash)) {
		*colon = 0;
		if ((r = check_tag(colon + 1, err)) < 0)
			return r;
		ref->tag = vl_strdup(colon + 1);
	}
	if ((r = split_host(name, ref, err)) < 0 || (r = check_repo(ref->repo, err)) < 0)
		return r;
	docker_names(ref);
	size_t n = strlen(ref->host) + 1 + strlen(ref->repo);
	if (n > MAX_NAME)
		return vl_fail(err, EINVAL, "host and repository have %zu characters, over the limit of %u", n,
			       MAX_NAME);
	if (!ref->tag && !*ref->digest.algo)
		ref->tag = vl_strdup("latest");
	return 0;
}

static int parse_registry(const char *uri, const char *rest, struct oci_ref *ref, struct vl_err *err)
{
	const char *name = vl_prefix(rest, "//");
	VL_FREE char *copy = vl_strdup(name ? name : rest); /* docker:alpine: Apptainer takes that too */
	int r = parse_name(copy, ref, err);

	if (r == 0)
		return 0;
	const char *at = strchr(uri, '@');
	size_t shown = at && !vl_prefix(at, "@sha") ? strcspn(uri, ":") + 1 : strnlen(uri, MAX_SHOWN);
	VL_FREE char *text = vl_printable(uri, shown);
	return vl_wrap(err, "%s", text);
}

static int parse_url(const char *uri, const char *rest, struct oci_ref *ref, struct vl_err *err)
{
	size_t n = strcspn(rest, "/?#");

	if (memchr(rest, '@', n))
		return vl_fail(err, EINVAL, "a URL must not hold a user name or password: others can see it");
	for (const char *s = uri; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f)
			return bad_character("URL", *s, "write it as %XX", err);
	if (!n || rest[0] == ':')
		return vl_fail(err, EINVAL, "%.*s: there is no host in the URL", (int)MAX_SHOWN,
			       uri); /* checked above */
	ref->path = vl_strdup(uri);
	return 0;
}

int oci_ref_parse(const char *uri, struct oci_ref *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	const char *rest = NULL;
	size_t i = 0;
	int r;

	while (i < VL_COUNT(kinds) && !(rest = vl_prefix(uri, kinds[i].scheme)))
		i++;
	if (i == VL_COUNT(kinds)) {
		VL_FREE char *shown = vl_printable(uri, strnlen(uri, MAX_SHOWN));
		return vl_fail(
			err, ENOTSUP,
			"%s names no kind of image source that is known here; docker://, oras://, http(s)://, oci:, "
			"oci-archive: and docker-archive: are",
			shown);
	}
	ref.kind = kinds[i].kind;
	if (oci_ref_is_remote(&ref) && strnlen(uri, MAX_URI + 1) > MAX_URI)
		return vl_fail(err, EINVAL, "the name of the image has over %d characters", MAX_URI);
	if (ref.kind == OCI_HTTP)
		r = parse_url(uri, rest, &ref, err);
	else if (oci_ref_is_remote(&ref))
		r = parse_registry(uri, rest, &ref, err);
	else
		r = parse_local(uri, rest, &ref, err);
	if (r < 0)
		return r;
	*ret = vl_move(&ref);
	return 0;
}

bool oci_ref_is_remote(const struct oci_ref *r)
{
	return r->kind == OCI_REGISTRY || r->kind == OCI_ORAS || r->kind == OCI_HTTP;
}

static char *name_from(const struct oci_ref *r, const char *host, const char *repo)
{
	bool tag = r->tag, digest = *r->digest.algo;

	return vl_asprintf("%s%s%s%s%s%s%s%s%s", host, *host ? "/" : "", repo, tag ? ":" : "", tag ? r->tag : "",
			   digest ? "@" : "", r->digest.algo, digest ? ":" : "", r->digest.hex);
}

char *oci_ref_name(const struct oci_ref *r)
{
	if (r->kind == OCI_HTTP) /* a query may be a signature that lets others in */
		return vl_strndup(r->path, strcspn(r->path, "?#"));
	if (!oci_ref_is_remote(r))
		return vl_strdup(r->path);
	return name_from(r, r->host, r->repo);
}

char *oci_ref_short(const struct oci_ref *r)
{
	if (r->kind != OCI_REGISTRY || !vl_streq(r->host, "docker.io"))
		return oci_ref_name(r);
	const char *repo = vl_prefix(r->repo, "library/");
	if (!repo || strchr(repo, '/'))
		repo = r->repo;
	/* docker.io/a.b/c: without its host the first part would be taken for one */
	size_t first = strcspn(repo, "/");
	return name_from(r, repo[first] && is_host(repo, first, r->kind) ? r->host : "", repo);
}

void oci_ref_free(struct oci_ref *r)
{
	vl_freep(&r->path);
	vl_freep(&r->host);
	vl_freep(&r->repo);
	vl_freep(&r->tag);
}
