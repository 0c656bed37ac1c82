/* Credential files of all shapes, and helpers. */
#include "check.h"

#include "oci/client.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#define B64_ME "bWU6cGFzczp3b3Jk" /* me:pass:word */
#define B64_YOU "eW91Ong="        /* you:x */

static void put(const char *path, mode_t mode, const char *text)
{
	VL_FREE char *dirs = vl_asprintf("mkdir -p \"$(dirname '%s')\"", path);
	CHECK_EQ(system(dirs), 0);
	FILE *f = fopen(path, "we");
	CHECK(f);
	fputs(text, f);
	fclose(f);
	CHECK_EQ(chmod(path, mode), 0);
}

static char warned[4096];

static void warn(void *arg, const char *text)
{
	(void)arg;
	strncat(warned, text, sizeof warned - strlen(warned) - 1);
}
static const struct vl_progress say = { .warn = warn };

/* "user|password|identity|registry", or the error. */
static char *look(const struct oci_net *net, const char *host, const char *repo)
{
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	struct oci_credentials *c = NULL;
	struct vl_err err = { 0 };
	int r = oci_credentials_load(net, &say, &c, &err);

	if (r == 0)
		r = oci_credentials_find(c, host, repo, &cred, &err);
	oci_credentials_free(c);
	if (r < 0)
		return vl_asprintf("%d %s", -r, err.text);
	CHECK(cred.from);
#define S(s) (cred.s ? cred.s : "-")
	return vl_asprintf("%s|%s|%s|%s", S(username), S(password), S(identity_token), S(registry_token));
}

static void finds(const char *file, const char *host, const char *repo, const char *want)
{
	const struct oci_net net = { .authfile = "auth.json" };

	if (file)
		put("auth.json", 0600, file);
	VL_FREE char *s = look(&net, host, repo);
	if (strncmp(s, want, strlen(want)) != 0)
		CHECK_FAIL("%s for %s/%s in %s, not %s", s, host, repo, file ? file : "the same", want);
}

TEST(shapes_of_entries)
{
	finds("{\"auths\":{\"q.io\":{\"auth\":\"" B64_ME "\"}}}", "q.io", "a", "me|pass:word|-|-");
	finds(NULL, "q.io:443", "a", "2 ");
	finds(NULL, "q.i", "a", "2 ");
	finds("{\"auths\":{\"q.io\":{\"username\":\"u\",\"password\":\"p\"}}}", "q.io", "a", "u|p|-|-");
	finds("{\"auths\":{\"q.io\":{\"auth\":\"" B64_YOU "\",\"identitytoken\":\"id\"}}}", "q.io", "a", "you|x|id|-");
	finds("{\"auths\":{\"q.io\":{\"identitytoken\":\"id\"}}}", "q.io", "a", "-|-|id|-");
	finds("{\"auths\":{\"q.io\":{\"registrytoken\":\"r\"}}}", "q.io", "a", "-|-|-|r");
	finds("{\"auths\":{\"q.io\":{\"auth\":\"eW91OngAAA==\"}}}", "q.io", "a", "you|x|-|-"); /* NULs at its end */
	finds("{\"auths\":{\"q.io\":{\"auth\":\"eW91Og==\"}}}", "q.io", "a", "you||-|-");
}

TEST(nothing_there)
{
	static const char *const files[] = {
		"",
		"{}",
		"{\"auths\":{}}",
		"{\"auths\":[]}",
		"{\"auths\":null}",
		"{\"auths\":{\"q.io\":{}}}",
		"{\"auths\":{\"q.io\":1}}",
		"{\"auths\":{\"q.io\":{\"auth\":\"\"}}}",
		"{\"auths\":{\"q.io\":{\"auth\":1}}}",
		"{\"credHelpers\":{\"q.io\":1}}",
		"{\"credsStore\":\"\"}",
	};

	for (size_t i = 0; i < VL_COUNT(files); i++)
		finds(files[i], "q.io", "a", "2 no credentials for q.io are known: 'registry login q.io'");
}

TEST(wrong_entries)
{
	static const char *const wrong[] = { "????",     "bWU",        "bWU=",         "OnBhc3M=",
					     "bWU6AHg=", "bWU6cGFzcw", "bWU6 cGFzcw==" };

	for (size_t i = 0; i < VL_COUNT(wrong); i++) {
		VL_FREE char *file = vl_asprintf("{\"auths\":{\"q.io\":{\"auth\":\"%s\"}}}", wrong[i]);
		finds(file, "q.io", "a", "22 auth.json: the 'auth' of q.io is not base64 of USER:PASSWORD");
	}
}

TEST(spellings_of_keys)
{
	static const struct {
		const char *key, *host, *repo;
		bool same;
	} cases[] = {
		{ "https://q.io", "q.io", "a", true },
		{ "https://q.io/v1/", "q.io", "a", true },
		{ "http://q.io:5000/v2/", "q.io:5000", "a", true },
		{ "q.io/v2/", "q.io", "a", true },
		{ "q.io/", "q.io", "a", true },
		{ "https://index.docker.io/v1/", "docker.io", "library/a", true },
		{ "index.docker.io", "docker.io", "library/a", true },
		{ "registry-1.docker.io", "docker.io", "library/a", true },
		{ "docker.io", "docker.io", "library/a", true },
		{ "docker.io/me", "docker.io", "me/a", true },
		{ "index.docker.io/me", "docker.io", "me/a", true },
		{ "docker.io/me", "docker.io", "meow/a", false },
		{ "q.io/a/b", "q.io", "a/b", true },
		{ "q.io/a/b", "q.io", "a/b/c", true },
		{ "q.io/a/b", "q.io", "a/bc", false },
		{ "q.io/a/b", "q.io", "a", false },
		{ "[::1]:5000", "[::1]:5000", "a", true },
		{ "", "q.io", "a", false },
		{ "/", "q.io", "a", false },
		{ "https://", "q.io", "a", false },
	};

	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		VL_FREE char *file = vl_asprintf("{\"auths\":{\"%s\":{\"auth\":\"" B64_YOU "\"}}}", cases[i].key);
		finds(file, cases[i].host, cases[i].repo, cases[i].same ? "you|x|" : "2 ");
	}
}

TEST(longest_match)
{
	finds("{\"auths\":{\"q.io\":{\"auth\":\"" B64_ME "\"},\"q.io/a\":{\"registrytoken\":\"a\"},"
	      "\"q.io/a/b\":{\"registrytoken\":\"ab\"},\"https://q.io/v1/\":{\"auth\":\"" B64_YOU "\"}}}",
	      "q.io", "a/b/c", "-|-|-|ab");
	finds(NULL, "q.io", "a/x", "-|-|-|a");
	finds(NULL, "q.io", "x", "me|pass:word|");
	finds(NULL, "q.io", "", "me|pass:word|");
}

TEST(given_ones_win)
{
	const struct oci_net net = { .username = "given", .password = "p" };
	VL_FREE char *s = look(&net, "q.io", "a");

	CHECK_STR(s, "given|p|-|-");
}

TEST(a_named_file_must_be_there)
{
	const struct oci_net net = { .authfile = "absent.json" };
	VL_FREE char *s = look(&net, "q.io", "a");

	CHECK_HAS(s, "absent.json");
	put("auth.json", 0600, "{");
	finds(NULL, "q.io", "a", "22 auth.json: bad JSON");
}

TEST(search_order)
{
	static const char *const files[] = { "env.json", "run/containers/auth.json",
					     "home/.config/containers/auth.json", "docker/config.json",
					     "home/.apptainer/docker-config.json" };
	const struct oci_net net = { 0 };

	setenv("REGISTRY_AUTH_FILE", "env.json", 1);
	setenv("XDG_RUNTIME_DIR", "run", 1);
	setenv("HOME", "home", 1);
	setenv("DOCKER_CONFIG", "docker", 1);
	for (size_t i = VL_COUNT(files); i-- > 0;) {
		VL_FREE char *text = vl_asprintf("{\"auths\":{\"q.io\":{\"registrytoken\":\"t%zu\"}}}", i);
		VL_FREE char *want = vl_asprintf("-|-|-|t%zu", i);
		put(files[i], 0600, text);
		VL_FREE char *s = look(&net, "q.io", "a");
		CHECK_STR(s, want);
	}
	CHECK_STR(warned, "");
	put("env.json", 0600, "{ nonsense");
	VL_FREE char *s = look(&net, "q.io", "a");
	CHECK_STR(s, "-|-|-|t1");
	CHECK_HAS(warned, "env.json: bad JSON");
	unsetenv("DOCKER_CONFIG");
	put("home/.docker/config.json", 0600, "{\"auths\":{\"d.io\":{\"registrytoken\":\"d\"}}}");
	VL_FREE char *d = look(&net, "d.io", "a");
	CHECK_STR(d, "-|-|-|d");
}

TEST(open_files_are_told)
{
	const struct oci_net net = { .authfile = "auth.json" };

	put("auth.json", 0644, "{\"auths\":{\"q.io\":{}}}");
	VL_FREE char *s = look(&net, "q.io", "a");
	CHECK_STR(warned, "");
	put("auth.json", 0644, "{\"auths\":{\"q.io\":{\"auth\":\"" B64_ME "\"}}}");
	VL_FREE char *t = look(&net, "q.io", "a");
	CHECK_HAS(warned, "everyone can read the passwords in auth.json");
}

TEST(large_files)
{
	const struct oci_net net = { .authfile = "auth.json" };

	put("auth.json", 0600, "");
	CHECK_EQ(truncate("auth.json", 2 << 20), 0);
	VL_FREE char *s = look(&net, "q.io", "a");
	CHECK_HAS(s, "larger than the limit");
}

/* ---- helpers ---------------------------------------------------------------------------------- */

/* A program docker-credential-test that does what the text says. */
static void helper(const char *script)
{
	VL_FREE char *cwd = get_current_dir_name();
	VL_FREE char *path = vl_asprintf("%s/bin:/usr/bin:/bin", cwd);
	VL_FREE char *text = vl_asprintf("#!/bin/sh\n%s\n", script);

	put("bin/docker-credential-test", 0755, text);
	setenv("PATH", path, 1);
}

#define STORE "{\"credsStore\":\"test\"}"
#define SAY "echo '{\"ServerURL\":\"x\",\"Username\":\"u\",\"Secret\":\"s\"}'"

TEST(helpers)
{
	helper("read host; echo \"$1 $host\" >>asked; " SAY);
	finds(STORE, "q.io", "a", "u|s|-|-");
	finds("{\"credHelpers\":{\"q.io\":\"test\"}}", "q.io", "a", "u|s|-|-");
	finds(NULL, "r.io", "a", "2 ");
	finds("{\"auths\":{\"q.io\":{}},\"credsStore\":\"test\"}", "q.io", "a", "u|s|-|-");
	/* what the file says itself comes before the store, but a helper for the host before that */
	finds("{\"auths\":{\"q.io\":{\"registrytoken\":\"r\"}},\"credsStore\":\"test\"}", "q.io", "a", "-|-|-|r");
	finds("{\"auths\":{\"q.io\":{\"registrytoken\":\"r\"}},\"credHelpers\":{\"q.io\":\"test\"}}", "q.io", "a",
	      "u|s|");
	finds(STORE, "docker.io", "library/a", "u|s|-|-");
	CHECK_EQ(system("printf '%s\n' 'get q.io' 'get q.io' 'get q.io' 'get q.io' 'get https://index.docker.io/v1/' | "
			"cmp - asked"),
		 0);
}

TEST(helper_tokens)
{
	helper("echo '{\"Username\":\"<token>\",\"Secret\":\"id\"}'");
	finds(STORE, "q.io", "a", "-|-|id|-");
}

TEST(helper_without_credentials)
{
	helper("echo 'credentials not found in native keychain'; exit 1");
	finds(STORE, "q.io", "a", "2 no credentials");
	finds("{\"auths\":{\"q.io\":{\"registrytoken\":\"r\"}},\"credHelpers\":{\"q.io\":\"test\"}}", "q.io", "a",
	      "-|-|-|r");
	/* Docker Hub has two names */
	helper("read host; [ \"$host\" = docker.io ] && " SAY " && exit; echo 'credentials not found'; exit 1");
	finds(STORE, "docker.io", "library/a", "u|s|-|-");
}

TEST(helpers_that_fail)
{
	static const struct {
		const char *script, *why;
	} cases[] = {
		{ "echo hunter2; exit 1", "docker-credential-test get failed with status 1" },
		{ "echo hunter2; kill -9 $$", "failed with status 137" },
		{ "echo hunter2", "does not answer with JSON" },
		{ "echo '[\"hunter2\"]'", "without Username and Secret" },
		{ "echo '{\"Username\":\"u\"}'", "without Username and Secret" },
		{ "echo '{\"Username\":\"u\",\"Secret\":\"hunter2\\u0000x\"}'", "without Username and Secret" },
		{ "exec 0<&-; yes hunter2", "prints over 65536 bytes" },
		{ "exit 0", "does not answer with JSON" },
	};
	const struct oci_net net = { .authfile = "auth.json" };

	put("auth.json", 0600, STORE);
	for (size_t i = 0; i < VL_COUNT(cases); i++) {
		helper(cases[i].script);
		VL_FREE char *s = look(&net, "q.io", "a");
		CHECK_HAS(s, cases[i].why);
		CHECK_HAS(s, "auth.json");
		CHECK(!strstr(s, "hunter2"));
		CHECK(!strstr(warned, "hunter2"));
	}
}

TEST(helper_names)
{
	static const char *const names[] = { "../bin/test", "a/b", ".", "-x", "a b", "te\\u001bst", "a;b" };
	const struct oci_net net = { .authfile = "auth.json" };

	helper(SAY);
	for (size_t i = 0; i < VL_COUNT(names); i++) {
		VL_FREE char *file = vl_asprintf("{\"credsStore\":\"%s\"}", names[i]);
		put("auth.json", 0600, file);
		VL_FREE char *s = look(&net, "q.io", "a");
		CHECK_HAS(s, "is no name of a credential helper");
		CHECK(!strchr(s, '\x1b'));
	}
	finds("{\"credHelpers\":{\"q.io\":\"absent\"}}", "q.io", "a",
	      "49 auth.json: the credential helper docker-credential-absent");
	setenv("PATH", "/usr/bin:bin::./bin:/bin", 1); /* relative: not looked at */
	finds("{\"credHelpers\":{\"q.io\":\"test\"}}", "q.io", "a", "49 ");
}

/* A home directory is on many machines, the store for all hosts on one of them: public images are for all. */
TEST(a_store_that_is_not_here_is_told_once)
{
	VL_CLEANUP(oci_cred_free) struct oci_cred cred = { 0 };
	const struct oci_net net = { 0 };
	struct oci_credentials *c;
	struct vl_err err = { 0 };

	put("a/.config/containers/auth.json", 0600, "{\"credsStore\":\"absent\"}");
	put("a/.docker/config.json", 0600, "{\"auths\":{\"q.io\":{\"auth\":\"" B64_YOU "\"}}}");
	setenv("HOME", "a", 1);
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("DOCKER_CONFIG");
	*warned = 0;
	CHECK_EQ(oci_credentials_load(&net, &say, &c, &err), 0);
	CHECK(!oci_credentials_trouble(c));
	CHECK_EQ(oci_credentials_find(c, "public.io", "a", &cred, &err), -ENOENT);
	CHECK_EQ(oci_credentials_find(c, "q.io", "a", &cred, &err), 0);
	CHECK_STR(cred.username, "you");
	const char *first = strstr(warned, "docker-credential-absent is not in $PATH");
	CHECK(first && !strstr(first + 1, "docker-credential-absent is"));
	VL_FREE char *trouble = oci_credentials_trouble(c);
	CHECK_HAS(trouble, "a/.config/containers/auth.json: the credential helper docker-credential-absent");
	oci_credentials_free(c);
}

/* It holds passwords: when the one that asked is killed, it goes too. */
TEST(helpers_die_with_us)
{
	const struct oci_net net = { .authfile = "auth.json" };
	struct vl_err err = { 0 };
	char text[8] = "";

	put("auth.json", 0600, STORE);
	helper("exec 3>alive; echo a >&3; sleep 5 3>&-; echo late >&3");
	CHECK_EQ(mkfifo("alive", 0600), 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		free(look(&net, "q.io", "a"));
		_exit(1);
	}
	VL_CLOSE int fd = vl_open("alive", O_RDONLY, 0, &err);
	CHECK_EQ(read(fd, text, sizeof text), 2);
	CHECK_EQ(kill(pid, SIGKILL), 0);
	CHECK_EQ(vl_wait(pid), 128 + SIGKILL);
	/* the end of the file: whoever had it open is no more */
	CHECK_EQ(read(fd, text, sizeof text), 0);
}

TEST(what_a_helper_started_dies_with_it)
{
	const struct oci_net net = { .authfile = "auth.json" };

	put("auth.json", 0600, STORE);
	helper("sleep 1000 & echo $! >grandchild; exec 0<&-; exec yes");
	VL_FREE char *s = look(&net, "q.io", "a");
	CHECK_HAS(s, "prints over 65536 bytes");
	/* killed, it may still be somebody's to wait for: what counts is that nothing of it runs */
	CHECK_EQ(system("for i in $(seq 1000); do s=$(ps -o stat= -p $(cat grandchild)) || exit 0; "
			"case $s in Z*) exit 0;; esac; done; exit 1"),
		 0);
}

TEST(helpers_get_three_descriptors)
{
	helper("ls /proc/self/fd | wc -l >count; readlink /proc/self/fd/2 >err; " SAY);
	int extra = dup(1); /* without close-on-exec, on purpose */
	finds(STORE, "q.io", "a", "u|s|-|-");
	close(extra);
	/* ls itself opens the directory */
	CHECK_EQ(system("[ $(cat count) -le 4 ] && grep -qx /dev/null err"), 0);
}
