/* Which servers stand for a registry: containers-registries.conf(5) version 2, certificates, and containerd's
 * hosts.toml. Read at oci_hosts_load; the directories of a host when it is asked for. */
#include "hosts.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

#define MAX_FILES 1000 /* of registries.conf.d; real ones hold a handful */

enum pull_from { PULL_ALL, PULL_DIGEST, PULL_TAG };

struct place { /* "host[:port][/path]" and how it is reached */
	char *location;
	bool insecure;
	enum pull_from from;
};

struct rule { /* one [[registry]] */
	char *prefix, *file;
	struct place own; /* location NULL = not rewritten */
	bool blocked;
	bool told; /* that a hosts.toml takes its place */
	struct place *mirrors;
	size_t n_mirrors;
};

struct oci_hosts {
	struct rule *rules;
	size_t n;
	struct vl_strv certs, toml; /* directories */
	bool no_https;
	struct vl_progress say;
	pthread_mutex_t lock; /* of `told` */
};

bool oci_host_is_good(const char *host)
{
	size_t n = strlen(host);

	return n && n <= 255 && *host != '.' && *host != ':' && *host != '-' &&
	       n == strspn(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_:[]");
}

bool oci_place_is_good(const char *place)
{
	size_t n = strcspn(place, "/");
	VL_FREE char *host = vl_strndup(place, n);

	return oci_host_is_good(host) && !strstr(place + n, "//") &&
	       !place[n + strspn(place + n, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_~%/")];
}

struct oci_endpoint *oci_endpoints_add(struct oci_endpoints *l)
{
	l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
	memset(&l->v[l->n], 0, sizeof *l->v);
	return &l->v[l->n++];
}

void oci_endpoints_free(struct oci_endpoint *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char **strings[] = { &e[i].url, &e[i].host, &e[i].repo, &e[i].ns, &e[i].cert, &e[i].key };
		for (size_t k = 0; k < VL_COUNT(strings); k++)
			vl_freep(strings[k]);
		vl_strv_free(&e[i].ca_files);
	}
	free(e);
}

struct oci_tls oci_endpoint_tls(const struct oci_endpoint *e)
{
	return (struct oci_tls){ &e->ca_files, e->cert, e->key, e->skip_verify, false };
}

void oci_endpoints_clear(struct oci_endpoints *l)
{
	oci_endpoints_free(vl_steal(&l->v), l->n);
	l->n = 0;
}

static void rule_free(struct rule *r)
{
	vl_freep(&r->prefix);
	vl_freep(&r->file);
	vl_freep(&r->own.location);
	for (size_t i = 0; i < r->n_mirrors; i++)
		vl_freep(&r->mirrors[i].location);
	vl_freep(&r->mirrors);
	r->n_mirrors = 0;
}

void oci_hosts_free(struct oci_hosts *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++)
		rule_free(&h->rules[i]);
	free(h->rules);
	vl_strv_free(&h->certs);
	vl_strv_free(&h->toml);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* ---- registries.conf --------------------------------------------------------------------------- */

int oci_hosts_read(const char *path, vl_json **ret, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t n;
	int r = vl_read_file(AT_FDCWD, path, OCI_CONF_MAX, &text, &n, err);

	return r < 0 ? r : vl_toml_parse(text, n, path, ret, err);
}

static int read_bool(const vl_json *table, const char *key, const char *file, bool *ret, struct vl_err *err)
{
	const vl_json *v = vl_json_get(table, key);
	int64_t n;

	*ret = vl_json_is_true(v);
	/* a misspelt 'blocked' or 'insecure' must not go by in silence */
	if (v && !*ret && (vl_json_string(v) || vl_json_integer(v, &n) || vl_json_is_object(v) || vl_json_len(v)))
		return vl_fail(err, EINVAL, "%s: '%s' is true or false", file, key);
	return 0;
}

static int read_location(const vl_json *table, const char *file, char **ret, struct vl_err *err)
{
	const vl_json *v = vl_json_get(table, "location");
	const char *s = vl_json_string(v);

	if (!v || (s && !*s))
		return 0;
	if (!s || !oci_place_is_good(s) || s[strlen(s) - 1] == '/') {
		VL_FREE char *shown = vl_printable(s ? s : "", s ? strnlen(s, 100) : 0);
		return vl_fail(err, EINVAL, "%s: location '%s' is not HOST[:PORT][/PATH] without a scheme", file,
			       shown);
	}
	*ret = vl_strdup(s);
	return 0;
}

/* Rules are for repositories. One for a single tag or digest could only be taken for more, or for less. */
static bool has_tag(const char *place)
{
	const char *slash = place ? strchr(place, '/') : NULL;

	return slash && slash[strcspn(slash, ":@")];
}

/* One rule that is not understood does not take the others along. */
static bool is_for_a_tag(const vl_json *table, const char *file, const struct vl_progress *say)
{
	const char *places[] = { vl_json_str(table, "prefix"), vl_json_str(table, "location") };
	const vl_json *mirrors = vl_json_get(table, "mirror");
	const char *found = NULL;

	for (size_t i = 0; i < VL_COUNT(places); i++)
		if (has_tag(places[i]) && !strstr(places[i], "://"))
			found = places[i];
	for (size_t i = 0; i < vl_json_len(mirrors); i++) {
		const char *s = vl_json_str(vl_json_at(mirrors, i), "location");
		if (has_tag(s) && !strstr(s, "://"))
			found = s;
	}
	if (!found)
		return false;
	VL_FREE char *shown = vl_printable(found, strnlen(found, 100));
	vl_progress_warn(say,
			 "%s: the [[registry]] with '%s' is left out: a prefix or location names a repository, without "
			 "tag or digest",
			 file, shown);
	return true;
}

static int read_mirror(const vl_json *table, const char *file, bool by_digest, struct place *ret, struct vl_err *err)
{
	static const char *const words[] = { "all", "digest-only", "tag-only" };
	const char *from = vl_json_str(table, "pull-from-mirror");
	size_t k = by_digest ? PULL_DIGEST : PULL_ALL;
	int r = read_location(table, file, &ret->location, err);

	if (r == 0)
		r = read_bool(table, "insecure", file, &ret->insecure, err);
	if (r < 0)
		return r;
	if (!ret->location)
		return vl_fail(err, EINVAL, "%s: a mirror has no location", file);
	for (k = from ? 0 : k; from && k < VL_COUNT(words) && !vl_streq(from, words[k]);)
		k++;
	if (k == VL_COUNT(words))
		return vl_fail(err, EINVAL, "%s: pull-from-mirror is all, digest-only or tag-only", file);
	ret->from = (enum pull_from)k;
	return 0;
}

static int read_mirrors(const vl_json *table, struct rule *rule, struct vl_err *err)
{
	const vl_json *mirrors = vl_json_get(table, "mirror");
	bool by_digest;
	int r = read_bool(table, "mirror-by-digest-only", rule->file, &by_digest, err);

	for (size_t i = 0; r == 0 && i < vl_json_len(mirrors); i++) {
		rule->mirrors = vl_realloc(rule->mirrors, rule->n_mirrors + 1, sizeof *rule->mirrors);
		rule->mirrors[rule->n_mirrors] = (struct place){ 0 };
		r = read_mirror(vl_json_at(mirrors, i), rule->file, by_digest, &rule->mirrors[rule->n_mirrors++], err);
	}
	return r;
}

/* A later file's rule takes the place of an earlier one with the same prefix. */
static void keep_rule(struct oci_hosts *h, struct rule *rule)
{
	for (size_t i = 0; i < h->n; i++)
		if (vl_streq(h->rules[i].prefix, rule->prefix)) {
			rule_free(&h->rules[i]);
			h->rules[i] = vl_move(rule);
			return;
		}
	h->rules = vl_realloc(h->rules, h->n + 1, sizeof *h->rules);
	h->rules[h->n++] = vl_move(rule);
}

static int read_rule(struct oci_hosts *h, const vl_json *table, const char *file, struct vl_err *err)
{
	VL_CLEANUP(rule_free) struct rule rule = { .file = vl_strdup(file) };
	const char *prefix = vl_json_str(table, "prefix");
	int r = read_location(table, file, &rule.own.location, err);

	if (r == 0)
		r = read_bool(table, "insecure", file, &rule.own.insecure, err);
	if (r == 0)
		r = read_bool(table, "blocked", file, &rule.blocked, err);
	if (r == 0)
		r = read_mirrors(table, &rule, err);
	if (r < 0)
		return r;
	if (!prefix || !*prefix)
		prefix = rule.own.location;
	if (!prefix)
		return vl_fail(err, EINVAL, "%s: a [[registry]] has neither prefix nor location", file);
	size_t n = strlen(prefix);
	while (n > 1 && prefix[n - 1] == '/')
		n--;
	rule.prefix = vl_strndup(prefix, n);
	for (char *c = rule.prefix; *c && *c != '/'; c++) /* references have their hosts so */
		*c = *c >= 'A' && *c <= 'Z' ? (char)(*c - 'A' + 'a') : *c;
	keep_rule(h, &rule);
	return 0;
}

static int read_conf(struct oci_hosts *h, const char *file, const struct vl_progress *say, struct vl_err *err)
{
	static const char *const v1[] = { "search", "insecure", "block" };
	VL_JSON vl_json *root = NULL;
	int r = oci_hosts_read(file, &root, err);

	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? 0 : r;
	const vl_json *old = vl_json_obj(root, "registries"), *list = vl_json_get(root, "registry");
	for (size_t i = 0; i < VL_COUNT(v1); i++)
		if (old && vl_json_get(old, v1[i]))
			vl_progress_warn(say,
					 "%s: [registries.%s] is of version 1 of the format and is not read: use "
					 "[[registry]]",
					 file, v1[i]);
	if (list && !vl_json_len(list))
		return vl_fail(err, EINVAL, "%s: 'registry' is a list of tables, [[registry]]", file);
	for (size_t i = 0; r == 0 && i < vl_json_len(list); i++)
		if (!is_for_a_tag(vl_json_at(list, i), file, say))
			r = read_rule(h, vl_json_at(list, i), file, err);
	return r;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int is_conf(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return n > 5 && *d->d_name != '.' && vl_streq(d->d_name + n - 5, ".conf");
}

static int read_conf_dir(struct oci_hosts *h, const char *dir, const struct vl_progress *say, struct vl_err *err)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, is_conf, by_name), r = 0;

	if (n < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : vl_fail_sys(err, errno, "cannot read %s", dir);
	if (n > MAX_FILES)
		r = vl_fail(err, EFBIG, "%s holds %d files, over the limit of %d", dir, n, MAX_FILES);
	for (int i = 0; i < n; i++) {
		VL_FREE char *file = vl_asprintf("%s/%s", dir, list[i]->d_name);
		if (r == 0)
			r = read_conf(h, file, say, err);
		free(list[i]);
	}
	free(list);
	return r;
}

/* The user's file replaces the system's; the directories add to either. A file of the environment is alone. */
static int read_usual(struct oci_hosts *h, const char *home, const struct vl_progress *say, struct vl_err *err)
{
	const char *env = getenv("CONTAINERS_REGISTRIES_CONF");
	VL_FREE char *user = vl_asprintf("%s/.config/containers/registries.conf", home);
	VL_FREE char *user_dir = vl_asprintf("%s.d", user);
	bool own = *home && access(user, F_OK) == 0;

	if (env && *env) {
		if (access(env, F_OK) < 0)
			return vl_fail_sys(err, errno, "cannot read $CONTAINERS_REGISTRIES_CONF, %s", env);
		return read_conf(h, env, say, err);
	}
	int r = read_conf(h, own ? user : "/etc/containers/registries.conf", say, err);
	if (r == 0)
		r = read_conf_dir(h, "/etc/containers/registries.conf.d", say, err);
	return r == 0 && *home ? read_conf_dir(h, user_dir, say, err) : r;
}

static int read_given(struct oci_hosts *h, const char *dir, const struct vl_progress *say, struct vl_err *err)
{
	VL_FREE char *file = vl_asprintf("%s/registries.conf", dir), *files = vl_asprintf("%s.d", file);
	int r = read_conf(h, file, say, err);

	return r == 0 ? read_conf_dir(h, files, say, err) : r;
}

int oci_hosts_load(const struct oci_net *net, const struct vl_progress *say, struct oci_hosts **ret, struct vl_err *err)
{
	struct oci_hosts *h = vl_alloc(sizeof *h);
	const char *home = getenv("HOME");
	int r;

	h->no_https = net->no_https;
	h->say = say ? *say : (struct vl_progress){ 0 };
	pthread_mutex_init(&h->lock, NULL);
	if (net->config_dir) {
		vl_strv_take(&h->certs, vl_asprintf("%s/certs.d", net->config_dir));
		vl_strv_take(&h->toml, vl_asprintf("%s/certs.d", net->config_dir));
		r = read_given(h, net->config_dir, say, err);
	} else {
		if (home && *home)
			vl_strv_take(&h->certs, vl_asprintf("%s/.config/containers/certs.d", home));
		vl_strv_add(&h->certs, "/etc/containers/certs.d");
		vl_strv_add(&h->certs, "/etc/docker/certs.d");
		vl_strv_add(&h->toml, "/etc/containerd/certs.d");
		vl_strv_add(&h->toml, "/etc/containers/certs.d");
		r = read_usual(h, home ? home : "", say, err);
	}
	if (r < 0) {
		oci_hosts_free(h);
		return r;
	}
	*ret = h;
	return 0;
}

/* ---- lookup --------------------------------------------------------------------------------------- */

/* Bytes of `name` ("host[:port]/repo") that the prefix stands for; 0 = it does not match. A prefix without a port is
 * for all ports of its host, as containers-registries.conf(5) has it: `blocked` is not got around by a number. */
static size_t match(const char *prefix, const char *name)
{
	size_t n = strlen(prefix), host = strcspn(name, "/"), bare;

	bare = *name == '[' ? strcspn(name, "]/") + 1 : strcspn(name, ":/");
	bare = VL_MIN(bare, host);
	if (prefix[0] == '*' && prefix[1] == '.') /* "*.example.com": the whole host, and its port when that is given */
		for (size_t end = bare;; end = host) {
			if (end >= n && strncmp(name + end - (n - 1), prefix + 1, n - 1) == 0)
				return end;
			if (end == host)
				return 0;
		}
	if (strncmp(name, prefix, n) != 0)
		return 0;
	return !name[n] || name[n] == '/' || (name[n] == ':' && n == bare) ? n : 0;
}

static struct rule *find_rule(const struct oci_hosts *h, const char *name, size_t *ret_matched)
{
	struct rule *best = NULL;

	for (size_t i = 0; i < h->n; i++)
		if (match(h->rules[i].prefix, name) && (!best || strlen(h->rules[i].prefix) > strlen(best->prefix)))
			best = &h->rules[i];
	*ret_matched = best ? match(best->prefix, name) : 0;
	return best;
}

static bool is_loopback(const char *host)
{
	size_t n = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	VL_FREE char *name = vl_strndup(host, n);

	return vl_streq(name, "localhost") || vl_streq(name, "[::1]") ||
	       (vl_prefix(name, "127.") && name[strspn(name, "0123456789.")] == 0);
}

static void set_url(struct oci_endpoint *e, bool plain)
{
	vl_freep(&e->url);
	e->plain_http = plain;
	e->url = vl_asprintf("%s://%s/v2", plain ? "http" : "https",
			     vl_streq(e->host, "docker.io") ? "registry-1.docker.io" : e->host);
}

static void add_plain_twin(struct oci_endpoints *l)
{
	struct oci_endpoint *twin = oci_endpoints_add(l), *of = &l->v[l->n - 2];

	twin->host = vl_strdup(of->host);
	twin->repo = vl_strdup(of->repo);
	twin->mirror = of->mirror;
	twin->digest_only = of->digest_only;
	set_url(twin, true);
}

/* `name` is "host/repo" as it is called there. */
static int add_place(const struct oci_hosts *h, const char *name, const struct place *p, bool known, bool mirror,
		     struct oci_endpoints *l, struct vl_err *err)
{
	struct oci_endpoint *e = oci_endpoints_add(l);
	size_t n = strcspn(name, "/");

	e->host = vl_strndup(name, n);
	e->repo = vl_strdup(name[n] ? name + n + 1 : "");
	e->mirror = mirror;
	e->digest_only = mirror && p->from == PULL_DIGEST;
	set_url(e, h->no_https);
	int certs = oci_hosts_certs(&h->certs, e->host, e, err);
	if (certs < 0)
		return certs;
	if (h->no_https)
		return 0;
	/* Insecure hosts, and those of this machine that no file speaks of, may go without TLS, as Docker has it.
	 * Where there is TLS, only the word of a file lets a wrong certificate pass. */
	e->skip_verify = p->insecure;
	if (p->insecure || (!known && !certs && is_loopback(e->host)))
		add_plain_twin(l);
	return 0;
}

/* What takes the place of the matched bytes. A port goes along where the location names none. */
static char *moved(const char *location, const char *rest)
{
	const char *slash = location + strcspn(location, "/");
	size_t port = *rest == ':' ? strcspn(rest, "/") : 0;
	const char *start = *location == '[' ? location + strcspn(location, "]") : location;
	bool has_port = memchr(start, ':', VL_MAX(slash, start) - start) != NULL;

	return vl_asprintf("%.*s%.*s%s%s", (int)(slash - location), location, has_port ? 0 : (int)port, rest, slash,
			   rest + port);
}

static int add_rule(const struct oci_hosts *h, const struct rule *rule, const struct oci_ref *ref, const char *name,
		    size_t matched, bool push, struct oci_endpoints *l, struct vl_err *err)
{
	for (size_t i = 0; i < rule->n_mirrors && !push; i++) {
		const struct place *m = &rule->mirrors[i];
		if (m->from == PULL_TAG && *ref->digest.algo)
			continue;
		VL_FREE char *there = moved(m->location, name + matched);
		int r = add_place(h, there, m, true, true, l, err);
		if (r < 0)
			return r;
	}
	VL_FREE char *there = rule->own.location ? moved(rule->own.location, name + matched) : vl_strdup(name);
	return add_place(h, there, &rule->own, true, false, l, err);
}

static void all_plain(struct oci_endpoints *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const char *rest = vl_prefix(l->v[i].url, "https://");
		if (rest) {
			char *url = vl_asprintf("http://%s", rest);
			vl_freep(&l->v[i].url);
			l->v[i].url = url;
		}
		l->v[i].plain_http = true;
	}
}

/* Two files speak of one host: what the second says is not done, and not passed over in silence. */
static void tell_of_toml(const struct oci_hosts *h, struct rule *rule, const char *host)
{
	if (!rule->own.location && !rule->own.insecure && !rule->n_mirrors)
		return;
	pthread_mutex_t *lock = (pthread_mutex_t *)&h->lock;
	pthread_mutex_lock(lock);
	if (!rule->told)
		vl_progress_warn(
			&h->say,
			"%s: mirrors, location and insecure of '%s' do not count, because there is a hosts.toml "
			"for %s",
			rule->file, rule->prefix, host);
	rule->told = true;
	pthread_mutex_unlock(lock);
}

int oci_hosts_find(const struct oci_hosts *h, const struct oci_ref *ref, bool push, struct oci_endpoint **ret,
		   size_t *ret_n, struct vl_err *err)
{
	static const struct place plain_place = { 0 };
	OCI_ENDPOINTS struct oci_endpoints l = { 0 };
	VL_FREE char *name = vl_asprintf("%s/%s", ref->host, ref->repo);
	size_t matched;
	struct rule *rule = find_rule(h, name, &matched);

	if (rule && rule->blocked)
		return vl_fail(err, EACCES, "%s is blocked by %s", name, rule->file);
	int r = oci_hosts_toml(&h->toml, ref->host, ref->repo, push, &l, err);
	if (r > 0 && rule)
		tell_of_toml(h, rule, ref->host);
	if (r == 0)
		r = rule ? add_rule(h, rule, ref, name, matched, push, &l, err)
			 : add_place(h, name, &plain_place, false, false, &l, err);
	if (r < 0)
		return r;
	if (h->no_https)
		all_plain(&l);
	*ret_n = l.n;
	*ret = vl_steal(&l.v);
	l.n = 0;
	return 0;
}
