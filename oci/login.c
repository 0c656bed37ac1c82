/* `registry login`: asks the registry whether credentials are right, and keeps them in a file that Podman, Docker
 * and Apptainer read too. What else such a file holds stays as it is. */
#include "auth.h"

#include <fcntl.h>
#include <sys/stat.h>

/* ---- asking the registry ------------------------------------------------------------------------ */

static int get_base(struct oci_client *c, const struct oci_endpoint *e, const char *authorization,
		    struct oci_http_resp *ret, struct vl_err *err)
{
	const struct oci_tls tls = oci_endpoint_tls(e);
	VL_FREE char *url = vl_asprintf("%s/", e->url);
	struct oci_http_req q = {
		.method = "GET",
		.url = url,
		.authorization = authorization,
		.tls = &tls,
		.plain_http = e->plain_http,
		.max_seconds = OCI_HTTP_DOCUMENT_SECONDS,
		.body_fd = -1,
	};

	return oci_http_do(c->http, &q, ret, err);
}

static int answer(struct oci_client *c, const struct oci_endpoint *e, const struct oci_http_resp *first,
		  struct oci_http_resp *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_challenge_free) struct oci_challenge ch = { 0 };
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	const struct oci_tls tls = oci_endpoint_tls(e);
	struct oci_token_ask ask = {
		.ch = &ch, .registry = e->url, .tls = &tls, .plain_ok = e->plain_http, .fresh = true
	};
	OCI_SECRET char *authorization = NULL;
	int r = oci_challenge_best(first, &ch, err);

	if (r == 0)
		r = oci_credentials_find(c->credentials, e->host, "", &cred, err);
	if (r == 0)
		r = oci_tokens_get(c->tokens, c->http, &ask, &cred, &authorization, err);
	return r < 0 ? r : get_base(c, e, authorization, ret, err);
}

static int check_endpoint(struct oci_client *c, const struct oci_endpoint *e, struct vl_err *err)
{
	OCI_RESP struct oci_http_resp first = { 0 }, second = { 0 };
	int r = get_base(c, e, NULL, &first, err), status = first.status;

	if (r == 0 && status == 401) {
		r = answer(c, e, &first, &second, err);
		status = second.status;
	}
	if (r < 0)
		return r;
	if (status == 401 || status == 403)
		return vl_fail(err, EACCES, "it does not take this user name and password (%d)", status);
	if (status != 200)
		return vl_fail(err, EPROTO, "it answers %s/ with HTTP status %d: is it a registry?", e->url, status);
	return 0;
}

int oci_login_check(struct oci_client *c, const char *host, struct vl_err *err)
{
	const struct oci_ref ref = { .kind = OCI_REGISTRY, .host = (char *)host, .repo = (char *)"" };
	struct oci_endpoint *e = NULL;
	size_t n = 0;
	int r = oci_hosts_find(c->hosts, &ref, true, &e, &n, err);

	if (r == 0 && !c->http)
		r = oci_http_new(c->net.agent, &c->http, err);
	for (size_t i = 0; r == 0 && i < n; i++) {
		r = check_endpoint(c, &e[i], err);
		if (i + 1 < n && (r == -EKEYREJECTED || r == -EPROTO || r == -ECONNREFUSED))
			r = 0; /* the plain twin of the same host is next */
		else
			break;
	}
	oci_endpoints_free(e, n);
	return r < 0 ? vl_wrap(err, "cannot log in to %s", host) : 0;
}

/* ---- the file -------------------------------------------------------------------------------------- */

static int default_file(const char *authfile, char **ret, struct vl_err *err)
{
	const char *env = getenv("REGISTRY_AUTH_FILE"), *docker = getenv("DOCKER_CONFIG"), *home = getenv("HOME");

	if (authfile)
		*ret = vl_strdup(authfile);
	else if (env && *env)
		*ret = vl_strdup(env);
	else if (docker && *docker)
		*ret = vl_asprintf("%s/config.json", docker);
	else if (home && *home)
		*ret = vl_asprintf("%s/.config/containers/auth.json", home);
	else
		return vl_fail(err, EINVAL, "$HOME is not set: name a file with --authfile");
	/* a link, as to a directory of dotfiles, stays one */
	char *real = realpath(*ret, NULL);
	if (real) {
		vl_freep(ret);
		*ret = real;
	}
	return 0;
}

static int make_dirs(const char *file, struct vl_err *err)
{
	VL_FREE char *path = vl_strdup(file);

	for (char *s = strchr(path + 1, '/'); s; s = strchr(s + 1, '/')) {
		*s = 0;
		if (mkdir(path, 0700) < 0 && errno != EEXIST && access(path, F_OK) < 0)
			return vl_fail_sys(err, errno, "cannot make the directory %s", path);
		*s = '/';
	}
	return 0;
}

/* Between reading and renaming nobody else of ours writes. A file of its own: the other one is replaced. */
static int lock_beside(const char *file, int *ret_fd, struct vl_err *err)
{
	VL_FREE char *path = vl_asprintf("%s.lock", file);
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	VL_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);

	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot write %s", path);
	while (fcntl(fd, F_OFD_SETLKW, &whole) < 0)
		if (errno != EINTR) /* a file system without locks: the rename alone keeps the file whole */
			break;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

struct keys {
	const char *host;
	struct vl_strv same;
};

static void collect(void *arg, const char *key, const vl_json *value)
{
	struct keys *k = arg;
	VL_FREE char *spelt = oci_auth_key(key);

	(void)value;
	if (vl_streq(spelt, k->host))
		vl_strv_add(&k->same, key);
}

/* All spellings of the host go. True when there was one. */
static bool remove_entry(vl_json *members, const char *host)
{
	struct keys k = { .host = host };

	if (members)
		vl_json_each(members, collect, &k);
	for (size_t i = 0; i < k.same.n; i++)
		vl_json_remove(members, k.same.v[i]);
	bool any = k.same.n > 0;
	vl_strv_free(&k.same);
	return any;
}

/* Docker and Apptainer look for Docker Hub under its old URL, Podman under its name. */
static const char *key_for(const char *file, const char *host)
{
	const char *name = vl_basename(file);

	return vl_streq(name, "config.json") || vl_streq(name, "docker-config.json") ? oci_helper_server(host) : host;
}

struct lookup {
	const char *host, *found;
};

static void member_for(void *arg, const char *key, const vl_json *value)
{
	struct lookup *l = arg;
	VL_FREE char *spelt = oci_auth_key(key);

	if (vl_streq(spelt, l->host) && vl_json_string(value))
		l->found = vl_json_string(value);
}

/* The helper that the file names for the host, or for all; NULL = none. */
static const char *helper_of(const vl_json *root, const char *host)
{
	struct lookup l = { host, vl_json_str(root, "credsStore") };

	if (vl_json_obj(root, "credHelpers"))
		vl_json_each(vl_json_obj(root, "credHelpers"), member_for, &l);
	return l.found && *l.found ? l.found : NULL;
}

static int store(const char *helper, const char *host, const char *user, const char *password, struct vl_err *err)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	OCI_SECRET char *text = NULL, *out = NULL;

	vl_json_set(j, "ServerURL", vl_json_new_str(oci_helper_server(host)));
	vl_json_set(j, "Username", vl_json_new_str(user));
	vl_json_set(j, "Secret", vl_json_new_str(password));
	text = vl_json_text(j, false);
	return oci_helper_run(helper, "store", text, &out, err);
}

static int add_entry(vl_json *root, vl_json *auths, const char *file, const char *host, const char *user,
		     const char *password, struct vl_err *err)
{
	const char *helper = helper_of(root, host);
	VL_JSON vl_json *entry = vl_json_new_obj();

	if (helper) {
		int r = store(helper, host, user, password, err);
		if (r < 0)
			return r;
	} else {
		OCI_SECRET char *both = vl_asprintf("%s:%s", user, password);
		OCI_SECRET char *text = vl_base64(both, strlen(both), true);
		vl_json_set(entry, "auth", vl_json_new_str(text));
	}
	remove_entry(auths, host);
	vl_json_set(auths, key_for(file, host), vl_steal(&entry)); /* {}: ask the helper */
	return 0;
}

static int drop_entry(vl_json *root, vl_json *auths, const char *file, const char *host, struct vl_err *err)
{
	const char *helper = helper_of(root, host);
	OCI_SECRET char *out = NULL;
	bool erased = false;

	if (helper) {
		int r = oci_helper_run(helper, "erase", oci_helper_server(host), &out, err);
		if (r < 0 && r != -ENOENT)
			return r;
		erased = r == 0;
	}
	if (!remove_entry(auths, host) && !erased)
		return vl_fail(err, ENOENT, "%s has no credentials for %s", file, host);
	return 0;
}

static int write_file(const char *file, const vl_json *root, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	OCI_SECRET char *text = vl_json_text(root, true);
	int r = vl_newfile_open(&f, file, 0600, true, err);

	if (r < 0)
		return r;
	if ((r = vl_write_full(f.fd, text, strlen(text))) < 0 || (r = vl_write_full(f.fd, "\n", 1)) < 0)
		return vl_fail_sys(err, -r, "cannot write %s", file);
	return vl_newfile_commit(&f, true, err);
}

static int check_words(const char *host, const char *user, const char *password, struct vl_err *err)
{
	for (const char *s = host; *s; s++)
		if ((unsigned char)*s <= ' ' || *s == 0x7f || *s == '"' || *s == '\\')
			return vl_fail(err, EINVAL, "the host name holds a character that no host name has");
	if (!*host)
		return vl_fail(err, EINVAL, "the host name is empty");
	if (!user)
		return 0;
	if (!*user || strchr(user, ':'))
		return vl_fail(err, EINVAL, "a user name is not empty and holds no ':'");
	if (!password || !*password)
		return vl_fail(err, EINVAL, "the password is empty");
	/* the file is JSON: it holds text only */
	VL_JSON vl_json *u = vl_json_new_str(user), *p = vl_json_new_str(password);
	if (!vl_streq(vl_json_string(u), user) || !vl_streq(vl_json_string(p), password))
		return vl_fail(err, EINVAL, "user name and password are not UTF-8");
	return 0;
}

static int change(const char *file, const char *host, const char *user, const char *password, struct vl_err *err)
{
	VL_JSON vl_json *root = NULL;
	int r = oci_auth_read(file, &root, err);

	if (r == -ENOENT) {
		root = vl_json_new_obj();
		r = 0;
	}
	if (r < 0) /* what cannot be read is not overwritten */
		return r;
	vl_json *auths = vl_json_obj(root, "auths");
	if (!auths && !vl_json_is_null_or_absent(root, "auths"))
		return vl_fail(err, EINVAL, "%s: 'auths' is no object", file);
	if (!auths) {
		auths = vl_json_new_obj();
		vl_json_set(root, "auths", auths);
	}
	r = user ? add_entry(root, auths, file, host, user, password, err) : drop_entry(root, auths, file, host, err);
	return r < 0 ? r : write_file(file, root, err);
}

int oci_login_save(const char *authfile, const char *host, const char *user, const char *password, char **ret_file,
		   struct vl_err *err)
{
	VL_FREE char *file = NULL;
	VL_CLOSE int lock = -1;
	VL_FREE char *key = oci_auth_key(host);
	int r = check_words(host, user, password, err);

	if (r < 0)
		return r;
	if ((r = default_file(authfile, &file, err)) < 0)
		return r;
	if (!user && access(file, F_OK) < 0)
		return vl_fail(err, ENOENT, "there are no credentials for %s: %s does not exist", host, file);
	if ((r = make_dirs(file, err)) < 0 || (r = lock_beside(file, &lock, err)) < 0)
		return r;
	if ((r = change(file, key, user, password, err)) < 0)
		return r;
	*ret_file = vl_steal(&file);
	return 0;
}

/* ---- the list --------------------------------------------------------------------------------------- */

struct list {
	const char *file;
	oci_login_entry *f;
	void *arg;
	const vl_json *auths;
};

static void list_entry(void *arg, const char *key, const vl_json *entry)
{
	const struct list *l = arg;
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	VL_FREE char *host = oci_auth_key(key);
	struct vl_err ignored = { 0 };

	if (oci_auth_entry(entry, l->file, host, &cred, &ignored) < 0)
		return;
	l->f(l->arg, l->file, host, cred.username ? cred.username : "");
}

static void list_helper(void *arg, const char *key, const vl_json *value)
{
	const struct list *l = arg;
	VL_FREE char *host = oci_auth_key(key);
	struct keys k = { .host = host };

	(void)value;
	if (l->auths)
		vl_json_each(l->auths, collect, &k);
	if (!k.same.n) /* else it was told of before */
		l->f(l->arg, l->file, host, "");
	vl_strv_free(&k.same);
}

int oci_login_list(const char *authfile, oci_login_entry *f, void *arg, struct vl_err *err)
{
	VL_STRV struct vl_strv files = { 0 };

	oci_auth_files(authfile, &files);
	for (size_t i = 0; i < files.n; i++) {
		VL_JSON vl_json *root = NULL;
		int r = oci_auth_read(files.v[i], &root, err);
		if (r == -ENOENT || r == -ENOTDIR || (r == -EACCES && !authfile))
			continue;
		if (r < 0)
			return r;
		struct list l = { files.v[i], f, arg, vl_json_obj(root, "auths") };
		const vl_json *helpers = vl_json_obj(root, "credHelpers");
		if (l.auths)
			vl_json_each(l.auths, list_entry, &l);
		if (helpers)
			vl_json_each(helpers, list_helper, &l);
	}
	return 0;
}
