/* Who we are at a registry: the credential files of Docker, Podman and Apptainer, and helpers they name. */
#include "auth.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

struct auth_file {
	char *path;
	vl_json *root;
};

/* But for the trouble not changed after the load: threads may look things up at the same time. */
struct oci_credentials {
	struct auth_file *files;
	size_t n;
	char *username, *password; /* of the command line or environment: beat the files */
	struct vl_progress say;
	pthread_mutex_t lock;
	char *trouble; /* a store that cannot be asked; under the lock */
};

void oci_secret_freep(char **s)
{
	if (*s)
		explicit_bzero(*s, strlen(*s));
	vl_freep(s);
}

void oci_cred_free(struct oci_cred *c)
{
	vl_freep(&c->username);
	oci_secret_freep(&c->password);
	oci_secret_freep(&c->identity_token);
	oci_secret_freep(&c->registry_token);
	vl_freep(&c->from);
}

void oci_credentials_free(struct oci_credentials *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->n; i++) {
		free(c->files[i].path);
		vl_json_free(c->files[i].root);
	}
	free(c->files);
	free(c->username);
	oci_secret_freep(&c->password);
	free(c->trouble);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* ---- the files ---------------------------------------------------------------------------- */

static void add_path(struct vl_strv *l, const char *dir, const char *below)
{
	if (dir && *dir)
		vl_strv_take(l, vl_asprintf("%s%s", dir, below));
}

void oci_auth_files(const char *authfile, struct vl_strv *ret)
{
	const char *home = getenv("HOME"), *docker = getenv("DOCKER_CONFIG");

	if (authfile) {
		vl_strv_add(ret, authfile);
		return;
	}
	add_path(ret, getenv("REGISTRY_AUTH_FILE"), "");
	add_path(ret, getenv("XDG_RUNTIME_DIR"), "/containers/auth.json");
	add_path(ret, home, "/.config/containers/auth.json");
	if (docker && *docker)
		add_path(ret, docker, "/config.json");
	else
		add_path(ret, home, "/.docker/config.json");
	add_path(ret, home, "/.apptainer/docker-config.json");
}

int oci_auth_read(const char *path, vl_json **ret, struct vl_err *err)
{
	OCI_SECRET char *text = NULL;
	VL_JSON vl_json *root = NULL;
	size_t n;
	int r = vl_read_file(AT_FDCWD, path, OCI_AUTH_MAX, &text, &n, err);

	if (r == 0)
		r = vl_json_parse(n ? text : "{}", n ? n : 2, path, &root, err);
	if (r < 0)
		return r;
	if (!vl_json_is_object(root))
		return vl_fail(err, EINVAL, "%s is no credential file: it holds no JSON object", path);
	*ret = vl_steal(&root);
	return 0;
}

static void has_secret(void *arg, const char *key, const vl_json *entry)
{
	(void)key;
	if (vl_json_str(entry, "auth") || vl_json_str(entry, "identitytoken") || vl_json_str(entry, "registrytoken") ||
	    vl_json_str(entry, "password"))
		*(bool *)arg = true;
}

static void warn_if_open(const char *path, const vl_json *root, const struct vl_progress *say)
{
	const vl_json *auths = vl_json_obj(root, "auths");
	bool secrets = false;
	struct stat st;

	if (auths)
		vl_json_each(auths, has_secret, &secrets);
	if (secrets && stat(path, &st) == 0 && st.st_mode & S_IROTH)
		vl_progress_warn(say, "everyone can read the passwords in %s: chmod 600 it", path);
}

int oci_credentials_load(const struct oci_net *net, const struct vl_progress *say, struct oci_credentials **ret,
			 struct vl_err *err)
{
	VL_STRV struct vl_strv paths = { 0 };
	struct oci_credentials *c = vl_alloc(sizeof *c);

	c->say = say ? *say : (struct vl_progress){ 0 };
	pthread_mutex_init(&c->lock, NULL);
	if (net->username) {
		c->username = vl_strdup(net->username);
		c->password = vl_strdup(net->password ? net->password : "");
	}
	oci_auth_files(net->authfile, &paths);
	for (size_t i = 0; i < paths.n; i++) {
		vl_json *root;
		int r = oci_auth_read(paths.v[i], &root, err);
		if (r < 0 && net->authfile) { /* the user asked for this one */
			oci_credentials_free(c);
			return r;
		}
		if (r < 0 && r != -ENOENT && r != -ENOTDIR && r != -EACCES)
			vl_progress_warn(say, "a credential file is left out: %s", err->text);
		if (r < 0)
			continue;
		warn_if_open(paths.v[i], root, say);
		c->files = vl_realloc(c->files, c->n + 1, sizeof *c->files);
		c->files[c->n++] = (struct auth_file){ vl_strdup(paths.v[i]), root };
	}
	*err = (struct vl_err){ 0 };
	*ret = c;
	return 0;
}

/* ---- entries -------------------------------------------------------------------------------- */

char *oci_auth_key(const char *key)
{
	static const char *const hub[] = { "index.docker.io", "registry-1.docker.io" };
	const char *rest = vl_prefix(key, "https://");
	size_t n;

	if (!rest)
		rest = vl_prefix(key, "http://");
	n = rest ? strcspn(rest, "/") : strlen(key); /* old keys are URLs, of which the host counts */
	rest = rest ? rest : key;
	while (n && rest[n - 1] == '/')
		n--;
	if (n > 3 && (strncmp(rest + n - 3, "/v1", 3) == 0 || strncmp(rest + n - 3, "/v2", 3) == 0) &&
	    memchr(rest, '/', n) == rest + n - 3)
		n -= 3;
	for (size_t i = 0; i < VL_COUNT(hub); i++) {
		size_t h = strlen(hub[i]);
		if (n >= h && strncmp(rest, hub[i], h) == 0 && (n == h || rest[h] == '/'))
			return vl_asprintf("docker.io%.*s", (int)(n - h), rest + h);
	}
	return vl_strndup(rest, n);
}

static int split_auth(const char *auth, const char *file, const char *host, struct oci_cred *ret, struct vl_err *err)
{
	OCI_SECRET char *text = NULL;
	size_t n;
	int r = vl_unbase64(auth, strlen(auth), (uint8_t **)&text, &n);

	while (r == 0 && n && !text[n - 1]) /* some writers of these files pad with NUL */
		n--;
	char *colon = r == 0 ? memchr(text, ':', n) : NULL;
	if (!colon || memchr(text, 0, n) || colon == text)
		return vl_fail(err, EINVAL,
			       "%s: the 'auth' of %s is not base64 of USER:PASSWORD: log in again with "
			       "'registry login'",
			       file, host);
	text[n] = 0;
	ret->username = vl_strndup(text, (size_t)(colon - text));
	ret->password = vl_strdup(colon + 1);
	return 0;
}

static char *copy_if(const vl_json *entry, const char *key)
{
	const char *s = vl_json_str(entry, key);

	return s && *s ? vl_strdup(s) : NULL;
}

int oci_auth_entry(const vl_json *entry, const char *file, const char *host, struct oci_cred *ret, struct vl_err *err)
{
	const char *auth = vl_json_str(entry, "auth");

	if (auth && *auth) {
		int r = split_auth(auth, file, host, ret, err);
		if (r < 0)
			return r;
	} else if (vl_json_str(entry, "username") && vl_json_str(entry, "password")) {
		ret->username = vl_strdup(vl_json_str(entry, "username"));
		ret->password = vl_strdup(vl_json_str(entry, "password"));
	}
	ret->identity_token = copy_if(entry, "identitytoken");
	ret->registry_token = copy_if(entry, "registrytoken");
	return 0;
}

static bool is_empty(const struct oci_cred *c)
{
	return !c->username && !c->identity_token && !c->registry_token;
}

/* ---- lookup ----------------------------------------------------------------------------------- */

struct lookup {
	const char *wanted;
	const vl_json *found;
};

static void compare(void *arg, const char *key, const vl_json *value)
{
	struct lookup *l = arg;
	VL_FREE char *spelt = oci_auth_key(key);

	/* the plain spelling wins over an old one of the same host */
	if (vl_streq(spelt, l->wanted) && (!l->found || vl_streq(key, l->wanted)))
		l->found = value;
}

/* The member for host/a/b, else host/a, else host. */
static const vl_json *longest(const vl_json *members, const char *host, const char *repo)
{
	VL_FREE char *name = repo && *repo ? vl_asprintf("%s/%s", host, repo) : vl_strdup(host);

	while (members) {
		struct lookup l = { name, NULL };
		vl_json_each(members, compare, &l);
		char *slash = strrchr(name, '/');
		if (l.found || !slash)
			return l.found;
		*slash = 0;
	}
	return NULL;
}

static int ask(const char *helper, const char *server, struct oci_cred *ret, struct vl_err *err)
{
	OCI_SECRET char *text = NULL;
	VL_JSON vl_json *j = NULL;
	int r = oci_helper_run(helper, "get", server, &text, err);

	if (r < 0)
		return r;
	VL_FREE char *program = vl_asprintf("docker-credential-%s", helper);
	struct vl_err secret = { 0 }; /* its text may hold what was printed */
	if (vl_json_parse(text, strlen(text), program, &j, &secret) < 0)
		return vl_fail(err, EBADMSG, "%s does not answer with JSON", program);
	const char *user = vl_json_str(j, "Username"), *password = vl_json_str(j, "Secret");
	if (!user || !password)
		return vl_fail(err, EBADMSG, "%s answers without Username and Secret", program);
	if (!*user && !*password)
		return vl_fail(err, ENOENT, "%s has no credentials for %s", program, server);
	if (vl_streq(user, "<token>")) {
		ret->identity_token = vl_strdup(password);
	} else {
		ret->username = vl_strdup(user);
		ret->password = vl_strdup(password);
	}
	ret->from = vl_steal(&program);
	return 0;
}

static int ask_helper(const char *helper, const char *host, struct oci_cred *ret, struct vl_err *err)
{
	int r = ask(helper, oci_helper_server(host), ret, err);

	/* Docker and Podman call Docker Hub by different names */
	return r == -ENOENT && !vl_streq(oci_helper_server(host), host) ? ask(helper, host, ret, err) : r;
}

/* A store for all hosts that this machine does not have (the file came from another one, as home directories do) does not
 * bar what needs no credentials. One that is named for the host does. */
static int ask_store(struct oci_credentials *c, const struct auth_file *f, const char *store, const char *host,
		     struct oci_cred *ret, struct vl_err *err)
{
	int r = ask_helper(store, host, ret, err);

	if (r != -EUNATCH)
		return r;
	pthread_mutex_lock(&c->lock);
	if (!c->trouble) {
		c->trouble = vl_asprintf("%s: %s", f->path, err->text);
		vl_progress_warn(&c->say, "%s; going on without", c->trouble);
	}
	pthread_mutex_unlock(&c->lock);
	return -ENOENT;
}

char *oci_credentials_trouble(struct oci_credentials *c)
{
	pthread_mutex_lock(&c->lock);
	char *s = c->trouble ? vl_strdup(c->trouble) : NULL;
	pthread_mutex_unlock(&c->lock);
	return s;
}

static int find_in_file(struct oci_credentials *c, const struct auth_file *f, const char *host, const char *repo,
			struct oci_cred *ret, struct vl_err *err)
{
	const char *helper = vl_json_string(longest(vl_json_obj(f->root, "credHelpers"), host, repo));
	const char *store = vl_json_str(f->root, "credsStore");
	int r;

	if (helper && *helper && (r = ask_helper(helper, host, ret, err)) != -ENOENT)
		return r < 0 ? vl_wrap(err, "%s", f->path) : 0;
	const vl_json *entry = longest(vl_json_obj(f->root, "auths"), host, repo);
	if (entry) {
		if ((r = oci_auth_entry(entry, f->path, host, ret, err)) < 0)
			return r;
		if (!is_empty(ret)) {
			ret->from = vl_strdup(f->path);
			return 0;
		}
	}
	if (store && *store && (r = ask_store(c, f, store, host, ret, err)) != -ENOENT)
		return r < 0 ? vl_wrap(err, "%s", f->path) : 0;
	return vl_fail(err, ENOENT, "%s has nothing for %s", f->path, host);
}

int oci_credentials_find(struct oci_credentials *c, const char *host, const char *repo, struct oci_cred *ret,
			 struct vl_err *err)
{
	VL_CLEANUP(oci_cred_free) struct oci_cred found = { 0 };
	int r = -ENOENT;

	if (c->username) {
		*ret = (struct oci_cred){ .username = vl_strdup(c->username),
					  .password = vl_strdup(c->password),
					  .from = vl_strdup("the given user name and password") };
		return 0;
	}
	for (size_t i = 0; i < c->n && r == -ENOENT; i++) {
		oci_cred_free(&found);
		r = find_in_file(c, &c->files[i], host, repo, &found, err);
	}
	if (r == -ENOENT)
		return vl_fail(err, ENOENT, "no credentials for %s are known: 'registry login %s' keeps some", host,
			       host);
	if (r < 0)
		return r;
	*ret = vl_move(&found);
	return 0;
}
