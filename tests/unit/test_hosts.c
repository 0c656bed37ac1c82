/* Which servers stand for a registry: registries.conf, certs.d, hosts.toml. */
#include "check.h"

#include "oci/client.h"

#include <sys/stat.h>

static void put(const char *path, const char *text)
{
	VL_FREE char *dirs = vl_asprintf("mkdir -p \"$(dirname '%s')\"", path);
	CHECK_EQ(system(dirs), 0);
	FILE *f = fopen(path, "we");
	CHECK(f);
	fputs(text, f);
	fclose(f);
}

static char warned[4096];

static void warn(void *arg, const char *text)
{
	(void)arg;
	strncat(warned, text, sizeof warned - strlen(warned) - 1);
}
static const struct vl_progress say = { .warn = warn };

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *joined(const struct vl_strv *l)
{
	struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	if (l->n)
		qsort(l->v, l->n, sizeof *l->v, by_text); /* a directory has no order */
	for (size_t i = 0; i < l->n; i++)
		vl_buf_addf(&b, "%s%s", i ? "," : "", l->v[i]);
	return b.data;
}

/* "URL repo [flags]" of every endpoint, one a line. */
static char *found(const struct oci_net *net, const char *uri, bool push)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	struct oci_hosts *h = NULL;
	struct oci_endpoint *e = NULL;
	struct vl_err err = { 0 };
	struct vl_buf b = { 0 };
	size_t n = 0;

	CHECK_EQ(oci_ref_parse(uri, &ref, &err), 0);
	vl_buf_adds(&b, "");
	if (oci_hosts_load(net, &say, &h, &err) < 0 || oci_hosts_find(h, &ref, push, &e, &n, &err) < 0)
		vl_buf_addf(&b, "%d %s", err.code, err.text);
	for (size_t i = 0; i < n; i++) {
		VL_FREE char *cas = joined(&e[i].ca_files);
		CHECK_EQ(e[i].plain_http, vl_prefix(e[i].url, "http://") != NULL);
		vl_buf_addf(&b, "%s %s %s%s%s%s%s%s%s%s%s%s\n", e[i].url, e[i].host, e[i].repo,
			    e[i].mirror ? " mirror" : "", e[i].digest_only ? " digest" : "",
			    e[i].skip_verify ? " skip" : "", e[i].ns ? " ns=" : "", e[i].ns ? e[i].ns : "",
			    e[i].ca_files.n ? " ca=" : "", cas, e[i].cert ? " cert=" : "", e[i].cert ? e[i].cert : "");
	}
	oci_endpoints_free(e, n);
	oci_hosts_free(h);
	return b.data;
}

#define FOUND(uri, want)                                                                                               \
	do {                                                                                                           \
		VL_FREE char *_s = found(&net, uri, false);                                                            \
		CHECK_STR(_s, want);                                                                                   \
	} while (0)
#define REFUSED(uri, part)                                                                                             \
	do {                                                                                                           \
		VL_FREE char *_s = found(&net, uri, false);                                                            \
		CHECK_HAS(_s, part);                                                                                   \
	} while (0)

static const struct oci_net net = { .config_dir = "etc" };

TEST(without_configuration)
{
	FOUND("docker://alpine", "https://registry-1.docker.io/v2 docker.io library/alpine\n");
	FOUND("docker://quay.io/a/b", "https://quay.io/v2 quay.io a/b\n");
	FOUND("docker://localhost:5000/a", "https://localhost:5000/v2 localhost:5000 a\n"
					   "http://localhost:5000/v2 localhost:5000 a\n");
	FOUND("docker://127.1.2.3/a", "https://127.1.2.3/v2 127.1.2.3 a\nhttp://127.1.2.3/v2 127.1.2.3 a\n");
	FOUND("docker://[::1]:80/a", "https://[::1]:80/v2 [::1]:80 a\nhttp://[::1]:80/v2 [::1]:80 a\n");
	FOUND("docker://127.0.0.1.example.com/a", "https://127.0.0.1.example.com/v2 127.0.0.1.example.com a\n");
	FOUND("docker://localhost.example.com/a", "https://localhost.example.com/v2 localhost.example.com a\n");
}

TEST(no_https_is_for_all)
{
	const struct oci_net plain = { .config_dir = "etc", .no_https = true };
	VL_FREE char *s = found(&plain, "docker://localhost/a", false), *t = found(&plain, "docker://q.io/a", true);

	CHECK_STR(s, "http://localhost/v2 localhost a\n");
	CHECK_STR(t, "http://q.io/v2 q.io a\n");
}

#define CONF                                                                                                           \
	"unqualified-search-registries = ['x']\n"                                                                      \
	"[[registry]]\nprefix = 'docker.io'\n[[registry.mirror]]\nlocation = 'mirror.local:5000/hub'\n"                \
	"insecure = true\n[[registry.mirror]]\nlocation = 'tags.local'\npull-from-mirror = 'tag-only'\n"               \
	"[[registry]]\nprefix = 'docker.io/library'\nlocation = 'quay.io/official'\n"                                  \
	"[[registry]]\nlocation = 'plain.local:80'\ninsecure = true\n"                                                 \
	"[[registry]]\nprefix = 'digests.io'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.io'\n"  \
	"[[registry]]\nprefix = '*.corp.io'\nlocation = 'gate.io/corp'\n"                                              \
	"[[registry]]\nprefix = 'a.corp.io/free'\n"                                                                    \
	"[[registry]]\nprefix = 'evil.io'\nblocked = true\n"                                                           \
	"[[registry]]\nprefix = 'evil.io/good'\n"

TEST(registries_conf)
{
	put("etc/registries.conf", CONF);
	FOUND("docker://user/x", "https://mirror.local:5000/v2 mirror.local:5000 hub/user/x mirror skip\n"
				 "http://mirror.local:5000/v2 mirror.local:5000 hub/user/x mirror\n"
				 "https://tags.local/v2 tags.local user/x mirror\n"
				 "https://registry-1.docker.io/v2 docker.io user/x\n");
	FOUND("docker://user/x@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	      "https://mirror.local:5000/v2 mirror.local:5000 hub/user/x mirror skip\n"
	      "http://mirror.local:5000/v2 mirror.local:5000 hub/user/x mirror\n"
	      "https://registry-1.docker.io/v2 docker.io user/x\n");
	FOUND("docker://alpine", "https://quay.io/v2 quay.io official/alpine\n");
	FOUND("docker://plain.local:80/x", "https://plain.local:80/v2 plain.local:80 x skip\n"
					   "http://plain.local:80/v2 plain.local:80 x\n");
	FOUND("docker://plain.local/x", "https://plain.local/v2 plain.local x\n");
	FOUND("docker://digests.io/x", "https://m.io/v2 m.io x mirror digest\nhttps://digests.io/v2 digests.io x\n");
	FOUND("docker://digests.io.org/x", "https://digests.io.org/v2 digests.io.org x\n");
	FOUND("docker://a.b.corp.io/x", "https://gate.io/v2 gate.io corp/x\n");
	FOUND("docker://corp.io/x", "https://corp.io/v2 corp.io x\n");
	FOUND("docker://a.corp.io/free/x", "https://a.corp.io/v2 a.corp.io free/x\n");
	FOUND("docker://a.corp.io/freedom", "https://gate.io/v2 gate.io corp/freedom\n");
	FOUND("docker://evil.io/good/x", "https://evil.io/v2 evil.io good/x\n");
	REFUSED("docker://evil.io/bad", "13 evil.io/bad is blocked by etc/registries.conf");
	VL_FREE char *push = found(&net, "docker://user/x", true);
	CHECK_STR(push, "https://registry-1.docker.io/v2 docker.io user/x\n");
}

/* A port is no way around a rule for the host. */
TEST(rules_and_ports)
{
	put("etc/registries.conf", "[[registry]]\nprefix = 'evil.io'\nblocked = true\n"
				   "[[registry]]\nprefix = '*.wild.io'\nblocked = true\n"
				   "[[registry]]\nprefix = '*.ports.io:5000'\nblocked = true\n"
				   "[[registry]]\nprefix = 'BIG.io'\nblocked = true\n"
				   "[[registry]]\nprefix = '[::2]'\nblocked = true\n"
				   "[[registry]]\nprefix = 'repo.io/a'\nblocked = true\n"
				   "[[registry]]\nprefix = 'one.io:5000'\nlocation = 'five.io'\n"
				   "[[registry]]\nprefix = 'any.io'\nlocation = 'gate.io/any'\n[[registry.mirror]]\n"
				   "location = 'm.io:80'\n");
	REFUSED("docker://evil.io:443/x", "13 evil.io:443/x is blocked");
	REFUSED("docker://a.wild.io:443/x", "13 a.wild.io:443/x is blocked");
	REFUSED("docker://a.wild.io/x", "13 a.wild.io/x is blocked");
	REFUSED("docker://a.ports.io:5000/x", "13 a.ports.io:5000/x is blocked");
	REFUSED("docker://big.io/x", "13 big.io/x is blocked");
	REFUSED("docker://[::2]:5000/x", "13 [::2]:5000/x is blocked");
	FOUND("docker://a.ports.io:5001/x", "https://a.ports.io:5001/v2 a.ports.io:5001 x\n");
	FOUND("docker://evil.io.example.com/x", "https://evil.io.example.com/v2 evil.io.example.com x\n");
	FOUND("docker://wild.io:443/x", "https://wild.io:443/v2 wild.io:443 x\n");
	FOUND("docker://repo.io:5000/a", "https://repo.io:5000/v2 repo.io:5000 a\n");
	FOUND("docker://one.io:5000/x", "https://five.io/v2 five.io x\n");
	FOUND("docker://one.io:50001/x", "https://one.io:50001/v2 one.io:50001 x\n");
	FOUND("docker://any.io:5000/x", "https://m.io:80/v2 m.io:80 x mirror\n"
					"https://gate.io:5000/v2 gate.io:5000 any/x\n");
	FOUND("docker://any.io/x", "https://m.io:80/v2 m.io:80 x mirror\nhttps://gate.io/v2 gate.io any/x\n");
}

TEST(rules_for_tags_are_left_out)
{
	static const char *const places[] = { "prefix = 'x.io/a:v1'", "location = 'x.io/a:v1'",
					      "prefix = 'x.io/a@sha256:0'\nlocation = 'x.io:5000/b'",
					      "prefix = 'x.io'\n[[registry.mirror]]\nlocation = 'm.io/a:v1'" };

	for (size_t i = 0; i < VL_COUNT(places); i++) {
		VL_FREE char *conf =
			vl_asprintf("[[registry]]\n%s\n[[registry]]\nprefix = 'evil.io'\nblocked = true\n", places[i]);
		put("etc/registries.conf", conf);
		*warned = 0;
		FOUND("docker://x.io/a:v1", "https://x.io/v2 x.io a\n");
		CHECK_HAS(warned, "etc/registries.conf: the [[registry]] with '");
		REFUSED("docker://evil.io/x", "blocked");
	}
}

TEST(later_files_win)
{
	put("etc/registries.conf", "[[registry]]\nprefix='x.io'\nlocation='main.io'\n");
	put("etc/registries.conf.d/20.conf", "[[registry]]\nprefix='x.io'\nlocation='twenty.io'\n");
	put("etc/registries.conf.d/10.conf", "[[registry]]\nprefix='x.io'\nlocation='ten.io'\n");
	put("etc/registries.conf.d/30.conf.bak", "nonsense");
	put("etc/registries.conf.d/.40.conf", "nonsense");
	FOUND("docker://x.io/a", "https://twenty.io/v2 twenty.io a\n");
}

TEST(wrong_registries_conf)
{
	static const struct {
		const char *conf, *why;
	} cases[] = {
		{ "[[registry]\n", "etc/registries.conf: line 1" },
		{ "[registry]\n", "list of tables" },
		{ "registry = 1\n", "list of tables" },
		{ "[[registry]]\n", "neither prefix nor location" },
		{ "[[registry]]\nlocation='https://x.io'\n", "without a scheme" },
		{ "[[registry]]\nlocation='x.io/'\n", "without a scheme" },
		{ "[[registry]]\nlocation='../../etc'\n", "without a scheme" },
		{ "[[registry]]\nlocation=1\n", "without a scheme" },
		{ "[[registry]]\nlocation=\"x.io/\\u001b[31m\"\n", "without a scheme" },
		{ "[[registry]]\nprefix='x.io'\nblocked='true'\n", "'blocked' is true or false" },
		{ "[[registry]]\nprefix='x.io'\n[[registry.mirror]]\n", "a mirror has no location" },
		{ "[[registry]]\nprefix='x.io'\n[[registry.mirror]]\nlocation='a'\npull-from-mirror='never'\n",
		  "pull-from-mirror is" },
	};
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		put("etc/registries.conf", cases[i].conf);
		REFUSED("docker://x.io/a", cases[i].why);
	}
}

TEST(version_1_is_told)
{
	put("etc/registries.conf",
	    "[registries.search]\nregistries = ['docker.io']\n[registries.block]\nregistries=[]");
	FOUND("docker://x.io/a", "https://x.io/v2 x.io a\n");
	CHECK_HAS(warned, "[registries.search] is of version 1");
	CHECK_HAS(warned, "[registries.block] is of version 1");
}

TEST(usual_places)
{
	const struct oci_net usual = { 0 };

	put("home/.config/containers/registries.conf", "[[registry]]\nprefix='u.example'\nlocation='user.example'\n");
	put("home/.config/containers/registries.conf.d/a.conf",
	    "[[registry]]\nprefix='d.example'\nlocation='dir.example'\n");
	put("env.conf", "[[registry]]\nprefix='u.example'\nlocation='env.example'\n");
	setenv("HOME", "home", 1);
	unsetenv("CONTAINERS_REGISTRIES_CONF");
	VL_FREE char *user = found(&usual, "docker://u.example/a", false);
	VL_FREE char *dir = found(&usual, "docker://d.example/a", false);
	CHECK_STR(user, "https://user.example/v2 user.example a\n");
	CHECK_STR(dir, "https://dir.example/v2 dir.example a\n");
	setenv("CONTAINERS_REGISTRIES_CONF", "env.conf", 1);
	VL_FREE char *env = found(&usual, "docker://u.example/a", false);
	CHECK_STR(env, "https://env.example/v2 env.example a\n");
	setenv("CONTAINERS_REGISTRIES_CONF", "absent.conf", 1);
	VL_FREE char *absent = found(&usual, "docker://u.example/a", false);
	CHECK_HAS(absent, "absent.conf");
}

TEST(certificates)
{
	put("etc/certs.d/c.io:5000/any.crt", "");
	put("etc/certs.d/c.io:5000/me.cert", "");
	put("etc/certs.d/c.io:5000/me.key", "");
	put("etc/certs.d/localhost/ca.crt", "");
	put("etc/certs.d/two.io/a.crt", "");
	put("etc/certs.d/two.io/b.crt", "");
	put("etc/certs.d/half.io/me.cert", "");
	FOUND("docker://c.io:5000/x", "https://c.io:5000/v2 c.io:5000 x ca=etc/certs.d/c.io:5000/any.crt "
				      "cert=etc/certs.d/c.io:5000/me.cert\n");
	FOUND("docker://c.io/x", "https://c.io/v2 c.io x\n");
	/* someone took care of this one: no way around TLS */
	FOUND("docker://localhost/x", "https://localhost/v2 localhost x ca=etc/certs.d/localhost/ca.crt\n");
	FOUND("docker://two.io/x", "https://two.io/v2 two.io x ca=etc/certs.d/two.io/a.crt,etc/certs.d/two.io/b.crt\n");
	REFUSED("docker://half.io/x", "but not both");
}

TEST(hosts_toml)
{
	put("etc/certs.d/docker.io/hosts.toml",
	    "server = 'https://registry-1.docker.io'\n"
	    "[host.'https://z-mirror:5000']\ncapabilities = ['pull', 'resolve']\nca = 'ca.pem'\n"
	    "[host.'http://a-mirror/hub/']\ncapabilities = ['pull']\n"
	    "[host.'https://push.only']\ncapabilities = ['push']\n"
	    "[host.'https://odd/api/x']\noverride_path = true\nskip_verify = true\nclient = [['c.pem', '/k.pem']]\n"
	    "[host.'https://has/v2']\n");
	put("etc/registries.conf", "[[registry]]\nprefix='docker.io'\n[[registry.mirror]]\nlocation='not.asked'\n");
	FOUND("docker://alpine",
	      "https://z-mirror:5000/v2 z-mirror:5000 library/alpine mirror ns=docker.io "
	      "ca=etc/certs.d/docker.io/ca.pem\n"
	      "http://a-mirror/hub/v2 a-mirror library/alpine mirror digest ns=docker.io\n"
	      "https://odd/api/x odd library/alpine mirror skip ns=docker.io cert=etc/certs.d/docker.io/c.pem\n"
	      "https://has/v2 has library/alpine mirror ns=docker.io\n"
	      "https://registry-1.docker.io/v2 docker.io library/alpine\n");
	CHECK_HAS(warned, "of 'docker.io' do not count, because there is a hosts.toml for docker.io");
	VL_FREE char *push = found(&net, "docker://user/x", true);
	CHECK_STR(push, "https://registry-1.docker.io/v2 docker.io user/x\n");
	put("etc/certs.d/_default/hosts.toml", "[host.'https://all']\n");
	FOUND("docker://q.io/a", "https://all/v2 all a mirror ns=q.io\nhttps://q.io/v2 q.io a\n");
}

TEST(wrong_hosts_toml)
{
	static const struct {
		const char *toml, *why;
	} cases[] = {
		{ "server = 1", "'server' is a text" },
		{ "host = 1", "'host' a table" },
		{ "[host]\n'https://x' = 1", "is a table" },
		{ "server = 'ftp://x'", "http or https" },
		{ "server = 'https://'", "has the form" },
		{ "server = 'https://u:p@x'", "has the form" },
		{ "server = 'https://x/?a'", "has the form" },
		{ "server = \"https://x/\\r\\n\"", "has the form" },
		{ "ca = []", "a list of files" },
		{ "ca = ['a', 1]", "a list of files" },
		{ "client = ['a', 'b', 'c']", "one pair" },
		{ "client = 1", "one pair" },
		{ "server = ", "line 1" },
	};
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		put("etc/certs.d/x.io/hosts.toml", cases[i].toml);
		REFUSED("docker://x.io/a", cases[i].why);
	}
}
