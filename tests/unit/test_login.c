/* What `registry login` asks and writes. The registry is the function oci_http_do below. */
#include "check.h"

#include "oci/client.h"

#include <fcntl.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- a registry that wants Basic me:pw ---------------------------------------------------- */

static struct {
	unsigned asked;
	const char *challenge; /* NULL = open to all */
	int status;            /* of the right password */
	int https_fails;
} server = { .status = 200 };

struct oci_http;
static char no_http[1];

int oci_http_new(const char *agent, struct oci_http **ret, struct vl_err *err)
{
	(void)agent, (void)err;
	*ret = (struct oci_http *)no_http;
	return 0;
}

int oci_http_do(struct oci_http *h, const struct oci_http_req *q, struct oci_http_resp *ret, struct vl_err *err)
{
	CHECK(h == (struct oci_http *)no_http);
	server.asked++;
	if (server.https_fails && vl_prefix(q->url, "https://"))
		return vl_fail(err, server.https_fails, "no TLS here");
	if (strstr(q->url, "/token")) {
		ret->status = q->authorization && vl_streq(q->authorization, "Basic bWU6cHc=") ? 200 : 401;
		vl_buf_adds(&ret->body, "{\"token\":\"t\"}");
		return 0;
	}
	CHECK_HAS(q->url, "/v2/");
	bool right = q->authorization &&
		     (vl_streq(q->authorization, "Basic bWU6cHc=") || vl_streq(q->authorization, "Bearer t"));
	ret->status = right || !server.challenge ? server.status : 401;
	if (server.challenge) {
		vl_strv_add(&ret->heads, "Content-Type: text/plain");
		vl_strv_take(&ret->heads, vl_asprintf("Www-Authenticate: %s", server.challenge));
	}
	return 0;
}

const char *oci_http_head(const struct oci_http_resp *r, const char *name, unsigned n)
{
	for (size_t i = 0; i < r->heads.n; i++)
		if (strncasecmp(r->heads.v[i], name, strlen(name)) == 0 && n-- == 0)
			return r->heads.v[i] + strlen(name) + 2;
	return NULL;
}

bool oci_http_same_origin(const char *a, const char *b)
{
	(void)a, (void)b;
	return true;
}

bool oci_http_same_host(const char *a, const char *b)
{
	(void)a, (void)b;
	return true;
}

void oci_http_resp_free(struct oci_http_resp *r)
{
	vl_buf_free(&r->body);
	vl_strv_free(&r->heads);
}

static int check(const char *host, const char *user, const char *password, struct vl_err *err)
{
	struct oci_client c = { .net = { .username = user, .password = password, .config_dir = "etc" } };

	*err = (struct vl_err){ 0 };
	c.tokens = oci_tokens_new();
	CHECK_EQ(oci_hosts_load(&c.net, &c.say, &c.hosts, err), 0);
	CHECK_EQ(oci_credentials_load(&c.net, &c.say, &c.credentials, err), 0);
	int r = oci_login_check(&c, host, err);
	oci_tokens_free(c.tokens);
	oci_hosts_free(c.hosts);
	oci_credentials_free(c.credentials);
	return r;
}

TEST(check_of_passwords)
{
	static const char *const challenges[] = { "Basic realm=\"x\"", "Bearer realm=\"https://auth.io/token\"" };
	struct vl_err err;

	for (size_t i = 0; i < VL_COUNT(challenges); i++) {
		server.challenge = challenges[i];
		CHECK_EQ(check("q.io", "me", "pw", &err), 0);
		CHECK_EQ(check("q.io", "me", "hunter2", &err), -EACCES);
		CHECK_HAS(err.text, "cannot log in to q.io");
		CHECK_HAS(err.text, "does not take");
		CHECK(!strstr(err.text, "hunter2"));
	}
	server.challenge = "Negotiate";
	CHECK_EQ(check("q.io", "me", "pw", &err), -ENOTSUP);
	server.challenge = NULL;
	CHECK_EQ(check("q.io", "me", "pw", &err), 0);
	server.status = 404;
	CHECK_EQ(check("q.io", "me", "pw", &err), -EPROTO);
	CHECK_HAS(err.text, "404: is it a registry?");
}

TEST(check_goes_on_to_plain_http_here_only)
{
	struct vl_err err;

	server.challenge = "Basic";
	server.https_fails = EPROTO;
	CHECK_EQ(check("localhost:5000", "me", "pw", &err), 0);
	CHECK_EQ(server.asked, 3);
	CHECK_EQ(check("q.io", "me", "pw", &err), -EPROTO);
	CHECK_EQ(server.asked, 4);
	/* a wrong password is no reason to try it elsewhere */
	server.https_fails = 0;
	server.asked = 0;
	CHECK_EQ(check("localhost:5000", "me", "x", &err), -EACCES);
	CHECK_EQ(server.asked, 2);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	CHECK(f);
	fputs(text, f);
	fclose(f);
}

static int save(const char *file, const char *host, const char *user, const char *password, struct vl_err *err)
{
	VL_FREE char *where = NULL;
	*err = (struct vl_err){ 0 };
	return oci_login_save(file, host, user, password, &where, err);
}

static void holds(const char *file, const char *json)
{
	VL_FREE char *text = NULL;
	VL_JSON vl_json *got = NULL;
	struct vl_err err = { 0 };
	size_t n;

	CHECK_EQ(vl_read_file(AT_FDCWD, file, 1 << 20, &text, &n, &err), 0);
	CHECK_EQ(vl_json_parse(text, n, file, &got, &err), 0);
	VL_FREE char *compact = vl_json_text(got, false);
	CHECK_STR(compact, json);
}

TEST(save_and_remove)
{
	struct vl_err err;
	struct stat st;

	umask(0);
	CHECK_EQ(save("a/b/auth.json", "q.io", "me", "pw", &err), 0);
	holds("a/b/auth.json", "{\"auths\":{\"q.io\":{\"auth\":\"bWU6cHc=\"}}}");
	CHECK(stat("a/b/auth.json", &st) == 0 && (st.st_mode & 07777) == 0600);
	CHECK(stat("a/b", &st) == 0 && (st.st_mode & 07777) == 0700);
	CHECK_EQ(save("a/b/auth.json", "docker.io", "you", "x", &err), 0);
	CHECK_EQ(save("a/b/auth.json", "q.io", "me", "other", &err), 0);
	holds("a/b/auth.json",
	      "{\"auths\":{\"docker.io\":{\"auth\":\"eW91Ong=\"},\"q.io\":{\"auth\":\"bWU6b3RoZXI=\"}}}");
	CHECK_EQ(save("a/b/auth.json", "q.io", NULL, NULL, &err), 0);
	CHECK_EQ(save("a/b/auth.json", "q.io", NULL, NULL, &err), -ENOENT);
	CHECK_HAS(err.text, "a/b/auth.json has no credentials for q.io");
	holds("a/b/auth.json", "{\"auths\":{\"docker.io\":{\"auth\":\"eW91Ong=\"}}}");
	CHECK_EQ(save("absent/auth.json", "q.io", NULL, NULL, &err), -ENOENT);
	CHECK(access("absent", F_OK) < 0);
}

TEST(the_rest_stays)
{
	struct vl_err err;

	put("config.json", "{\"HttpHeaders\":{\"X\":[1,2.5,null]},\"auths\":{\"index.docker.io\":{\"auth\":\"x\"},"
			   "\"r.io\":{\"auth\":\"y\",\"email\":\"z\"},\"docker.io\":{}},\"more\":true}");
	CHECK_EQ(chmod("config.json", 0644), 0);
	CHECK_EQ(save("config.json", "docker.io", "me", "pw", &err), 0);
	holds("config.json",
	      "{\"HttpHeaders\":{\"X\":[1,2.5,null]},\"auths\":{\"r.io\":{\"auth\":\"y\",\"email\":\"z\"},"
	      "\"https://index.docker.io/v1/\":{\"auth\":\"bWU6cHc=\"}},\"more\":true}");
	struct stat st;
	CHECK(stat("config.json", &st) == 0 && (st.st_mode & 07777) == 0600);
}

TEST(links_stay)
{
	struct vl_err err;
	struct stat st;

	CHECK_EQ(mkdir("dotfiles", 0700), 0);
	put("dotfiles/real.json", "{}");
	CHECK_EQ(symlink("dotfiles/real.json", "auth.json"), 0);
	CHECK_EQ(save("auth.json", "q.io", "me", "pw", &err), 0);
	CHECK(lstat("auth.json", &st) == 0 && S_ISLNK(st.st_mode));
	holds("dotfiles/real.json", "{\"auths\":{\"q.io\":{\"auth\":\"bWU6cHc=\"}}}");
}

TEST(wrong_files_are_not_overwritten)
{
	static const char *const wrong[] = { "{", "[]", "{\"auths\":1}", "{\"auths\":[]}" };
	struct vl_err err;

	for (size_t i = 0; i < VL_COUNT(wrong); i++) {
		VL_FREE char *text = NULL;
		put("auth.json", wrong[i]);
		CHECK_EQ(save("auth.json", "q.io", "me", "pw", &err), -EINVAL);
		CHECK_EQ(vl_read_file(AT_FDCWD, "auth.json", 100, &text, NULL, &err), 0);
		CHECK_STR(text, wrong[i]);
	}
}

TEST(wrong_words)
{
	struct vl_err err;

	CHECK_EQ(save("auth.json", "q.io", "m:e", "pw", &err), -EINVAL);
	CHECK_EQ(save("auth.json", "q.io", "", "pw", &err), -EINVAL);
	CHECK_EQ(save("auth.json", "q.io", "me", "", &err), -EINVAL);
	CHECK_EQ(save("auth.json", "q.io", "me", NULL, &err), -EINVAL);
	CHECK_EQ(save("auth.json", "", "me", "pw", &err), -EINVAL);
	CHECK_EQ(save("auth.json", "q\x1b", "me", "pw", &err), -EINVAL);
	CHECK_EQ(save("auth.json", "q.io", "me", "p\xff", &err), -EINVAL);
	CHECK(access("auth.json", F_OK) < 0);
}

TEST(many_writers)
{
	struct vl_err err;
	int status;

	for (int i = 0; i < 20; i++) {
		VL_FREE char *host = vl_asprintf("h%d.io", i);
		fflush(stdout);
		if (fork() == 0)
			_exit(save("auth.json", host, "me", "pw", &err) != 0);
	}
	for (int i = 0; i < 20; i++)
		CHECK(wait(&status) > 0 && status == 0);
	VL_FREE char *text = NULL;
	CHECK_EQ(vl_read_file(AT_FDCWD, "auth.json", 1 << 20, &text, NULL, &err), 0);
	for (int i = 0; i < 20; i++) {
		VL_FREE char *host = vl_asprintf("\"h%d.io\"", i);
		CHECK_HAS(text, host);
	}
}

TEST(default_files)
{
	VL_FREE char *where = NULL, *where2 = NULL, *where3 = NULL, *cwd = get_current_dir_name();
	struct vl_err err = { 0 };

	setenv("HOME", cwd, 1);
	setenv("XDG_RUNTIME_DIR", cwd, 1);
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("DOCKER_CONFIG");
	CHECK_EQ(oci_login_save(NULL, "q.io", "me", "pw", &where, &err), 0);
	CHECK_HAS(where, "/.config/containers/auth.json");
	setenv("DOCKER_CONFIG", "docker", 1);
	CHECK_EQ(oci_login_save(NULL, "q.io", "me", "pw", &where2, &err), 0);
	CHECK_HAS(where2, "docker/config.json");
	setenv("REGISTRY_AUTH_FILE", "env.json", 1);
	CHECK_EQ(oci_login_save(NULL, "q.io", "me", "pw", &where3, &err), 0);
	CHECK_HAS(where3, "env.json");
}

/* ---- helpers ------------------------------------------------------------------------------------ */

TEST(stores)
{
	VL_FREE char *cwd = get_current_dir_name(), *path = vl_asprintf("%s:/usr/bin:/bin", cwd);
	struct vl_err err;

	setenv("PATH", path, 1);
	put("docker-credential-test", "#!/bin/sh\n(echo \"$1\"; cat; echo) >>log\n[ ! -e broken ]\n");
	CHECK_EQ(chmod("docker-credential-test", 0755), 0);
	put("auth.json", "{\"credsStore\":\"test\",\"auths\":{\"q.io\":{\"auth\":\"bWU6b2xk\"}}}");
	CHECK_EQ(save("auth.json", "q.io", "me", "pw", &err), 0);
	holds("auth.json", "{\"credsStore\":\"test\",\"auths\":{\"q.io\":{}}}");
	CHECK_EQ(save("auth.json", "docker.io", NULL, NULL, &err), 0);
	CHECK_EQ(save("auth.json", "q.io", NULL, NULL, &err), 0);
	holds("auth.json", "{\"credsStore\":\"test\",\"auths\":{}}");
	put("want", "store\n{\"ServerURL\":\"q.io\",\"Username\":\"me\",\"Secret\":\"pw\"}\n"
		    "erase\nhttps://index.docker.io/v1/\nerase\nq.io\n");
	CHECK_EQ(system("cmp want log"), 0);
	put("broken", "");
	CHECK_EQ(save("auth.json", "q.io", "me", "hunter2", &err), -EIO);
	CHECK(!strstr(err.text, "hunter2"));
	holds("auth.json", "{\"credsStore\":\"test\",\"auths\":{}}");
}

static char listed[4096];

static void entry(void *arg, const char *file, const char *host, const char *user)
{
	(void)arg;
	snprintf(listed + strlen(listed), sizeof listed - strlen(listed), "%s %s %s\n", file, host, user);
}

TEST(list)
{
	struct vl_err err = { 0 };

	put("auth.json", "{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"bWU6cHc=\"},\"q.io\":{},\"bad.io\":"
			 "{\"auth\":\"?\"}},\"credHelpers\":{\"q.io\":\"a\",\"h.io\":\"b\"}}");
	CHECK_EQ(oci_login_list("auth.json", entry, NULL, &err), 0);
	CHECK_STR(listed, "auth.json docker.io me\nauth.json q.io \nauth.json h.io \n");
	CHECK_EQ(oci_login_list("absent.json", entry, NULL, &err), 0);
	put("auth.json", "{");
	CHECK_EQ(oci_login_list("auth.json", entry, NULL, &err), -EINVAL);
}
