/* Directories named after registries: certs.d/HOST with certificates, as Docker and Podman have them, and
 * certs.d/HOST/hosts.toml with mirrors, as containerd has it. */
#include "hosts.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n > m && vl_streq(s + n - m, end);
}

/* One file of a kind, at most: *ret stays NULL when there is none. */
static int take_file(const char *dir, const char *name, const char *kind, char **ret, struct vl_err *err)
{
	if (!ends_with(name, kind))
		return 0;
	if (*ret)
		return vl_fail(err, EINVAL, "%s holds several *%s files; only one is read: join them into one", dir,
			       kind);
	*ret = vl_asprintf("%s/%s", dir, name);
	return 0;
}

static int read_certs(const char *path, DIR *d, struct oci_endpoint *e, struct vl_err *err)
{
	for (const struct dirent *ent; (ent = readdir(d));) {
		if (ends_with(ent->d_name, ".crt"))
			vl_strv_take(&e->ca_files, vl_asprintf("%s/%s", path, ent->d_name));
		int r = take_file(path, ent->d_name, ".cert", &e->cert, err);
		if (r == 0)
			r = take_file(path, ent->d_name, ".key", &e->key, err);
		if (r < 0)
			return r;
	}
	if (!e->cert != !e->key)
		return vl_fail(err, EINVAL, "%s has a client certificate (*.cert) or its key (*.key), but not both",
			       path);
	return e->ca_files.n || e->cert;
}

int oci_hosts_certs(const struct vl_strv *dirs, const char *host, struct oci_endpoint *e, struct vl_err *err)
{
	for (size_t i = 0; i < dirs->n; i++) {
		VL_FREE char *path = vl_asprintf("%s/%s", dirs->v[i], host);
		DIR *d = opendir(path);
		if (!d && (errno == ENOENT || errno == ENOTDIR))
			continue;
		/* others' directories are not always ours to read: Docker's is root's on some machines */
		if (!d && errno == EACCES)
			continue;
		if (!d)
			return vl_fail_sys(err, errno, "cannot open %s", path);
		int r = read_certs(path, d, e, err);
		closedir(d);
		return r;
	}
	return 0;
}

/* ---- hosts.toml ------------------------------------------------------------------------------ */

struct toml_file {
	const char *path; /* of the file */
	const char *host, *repo;
	bool push;
	struct oci_endpoints *list;
	struct vl_err *err;
	int r;
};

static char *beside(const struct toml_file *f, const char *name)
{
	if (*name == '/')
		return vl_strdup(name);
	return vl_asprintf("%.*s%s", (int)(vl_basename(f->path) - f->path), f->path, name);
}

static int set_ca(const struct toml_file *f, const vl_json *table, struct oci_endpoint *e, struct vl_err *err)
{
	const vl_json *ca = vl_json_get(table, "ca");

	if (!ca)
		return 0;
	for (size_t i = 0; i < vl_json_len(ca); i++) {
		const char *name = vl_json_string(vl_json_at(ca, i));
		if (!name)
			return vl_fail(err, EINVAL, "%s: 'ca' is a file or a list of files", f->path);
		vl_strv_take(&e->ca_files, beside(f, name));
	}
	if (vl_json_string(ca))
		vl_strv_take(&e->ca_files, beside(f, vl_json_string(ca)));
	if (!e->ca_files.n)
		return vl_fail(err, EINVAL, "%s: 'ca' is a file or a list of files", f->path);
	return 0;
}

/* "both.pem", ["cert.pem", "key.pem"] or [["cert.pem", "key.pem"]] */
static int set_client(const struct toml_file *f, const vl_json *table, struct oci_endpoint *e, struct vl_err *err)
{
	const vl_json *client = vl_json_get(table, "client"), *pair = client;

	if (!client)
		return 0;
	if (vl_json_len(client) == 1 && vl_json_len(vl_json_at(client, 0)))
		pair = vl_json_at(client, 0);
	const char *cert = vl_json_string(pair), *key = cert;
	if (!cert && vl_json_len(pair) == 2) {
		cert = vl_json_string(vl_json_at(pair, 0));
		key = vl_json_string(vl_json_at(pair, 1));
	}
	if (!cert || !key)
		return vl_fail(err, EINVAL, "%s: 'client' is one file, or one pair of certificate and key", f->path);
	e->cert = beside(f, cert);
	e->key = beside(f, key);
	return 0;
}

/* Absent means everything. */
static bool can(const vl_json *table, const char *what)
{
	const vl_json *list = vl_json_get(table, "capabilities");

	for (size_t i = 0; i < vl_json_len(list); i++) {
		const char *s = vl_json_string(vl_json_at(list, i));
		if (s && vl_streq(s, what))
			return true;
	}
	return !list;
}

/* "https://host:port/path" -> host and the base of our requests; the scheme may be missing. */
static int set_url(const struct toml_file *f, const char *url, bool as_given, struct oci_endpoint *e,
		   struct vl_err *err)
{
	const char *rest = strstr(url, "://");

	if (rest && !vl_prefix(url, "https://") && !vl_prefix(url, "http://"))
		return vl_fail(err, EINVAL, "%s: a server is an http or https URL", f->path);
	e->plain_http = vl_prefix(url, "http://");
	rest = rest ? rest + 3 : url;
	size_t n = strcspn(rest, "/"), end = strlen(rest);
	e->host = vl_strndup(rest, n);
	if (!oci_place_is_good(rest))
		return vl_fail(err, EINVAL, "%s: a server has the form https://HOST[:PORT][/PATH]", f->path);
	while (end > n && rest[end - 1] == '/')
		end--;
	bool has_v2 = end - n >= 3 && strncmp(rest + end - 3, "/v2", 3) == 0;
	e->url = vl_asprintf("%s://%.*s%s", e->plain_http ? "http" : "https", (int)end, rest,
			     as_given || has_v2 ? "" : "/v2");
	return 0;
}

static int add_server(const struct toml_file *f, const char *url, const vl_json *table, bool mirror, struct vl_err *err)
{
	struct oci_endpoint *e = oci_endpoints_add(f->list);
	int r = set_url(f, url, vl_json_is_true(vl_json_get(table, "override_path")), e, err);

	if (r == 0)
		r = set_ca(f, table, e, err);
	if (r == 0)
		r = set_client(f, table, e, err);
	if (r < 0)
		return r;
	e->skip_verify = vl_json_is_true(vl_json_get(table, "skip_verify"));
	e->repo = vl_strdup(f->repo);
	e->mirror = mirror;
	e->digest_only = mirror && !can(table, "resolve"); /* it does not know which digest a tag has now */
	e->ns = mirror ? vl_strdup(f->host) : NULL;
	if (!mirror && vl_streq(f->host, "docker.io")) { /* the name that credential files have */
		vl_freep(&e->host);
		e->host = vl_strdup(f->host);
	}
	return 0;
}

static void add_host(void *arg, const char *url, const vl_json *table)
{
	struct toml_file *f = arg;

	if (f->r < 0 || f->push || !can(table, "pull"))
		return;
	if (!vl_json_is_object(table))
		f->r = vl_fail(f->err, EINVAL, "%s: [host.\"URL\"] is a table", f->path);
	else
		f->r = add_server(f, url, table, true, f->err);
}

static int read_hosts(struct toml_file *f, struct vl_err *err)
{
	VL_JSON vl_json *root = NULL;
	int r = oci_hosts_read(f->path, &root, err);

	if (r < 0)
		return r;
	const vl_json *server = vl_json_get(root, "server"), *hosts = vl_json_get(root, "host");
	if ((server && !vl_json_string(server)) || (hosts && !vl_json_is_object(hosts)))
		return vl_fail(err, EINVAL, "%s: 'server' is a text, 'host' a table", f->path);
	if (hosts)
		vl_json_each(hosts, add_host, f);
	if (f->r < 0)
		return f->r;
	const char *own = vl_streq(f->host, "docker.io") ? "registry-1.docker.io" : f->host;
	return add_server(f, server ? vl_json_string(server) : own, root, false, err);
}

int oci_hosts_toml(const struct vl_strv *dirs, const char *host, const char *repo, bool push, struct oci_endpoints *l,
		   struct vl_err *err)
{
	const char *const names[] = { host, "_default" };

	for (size_t i = 0; i < dirs->n; i++)
		for (size_t k = 0; k < VL_COUNT(names); k++) {
			VL_FREE char *path = vl_asprintf("%s/%s/hosts.toml", dirs->v[i], names[k]);
			struct toml_file f = { path, host, repo, push, l, err, 0 };
			int r = read_hosts(&f, err);
			if (r != -ENOENT && r != -ENOTDIR)
				return r < 0 ? r : 1;
		}
	return 0;
}
