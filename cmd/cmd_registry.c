/* registry login, logout and list: who the user is at registries. */
#include "commands.h"

#include <stdio.h>
#include <vial/oci.h>

#define MAX_PASSWORD (32u << 10) /* tokens of clouds have some KiB */

#define O(f) offsetof(struct cmd_registry_opts, f)
#define AUTHFILE                                                                                                       \
	{                                                                                                              \
		0, "authfile", OPT_STR, O(authfile), "FILE", "keep credentials in this file", "AUTH_FILE", 0           \
	}
const struct opt cmd_login_opts[] = {
	{ 'u', "username", OPT_STR, O(username), "USER", "asked for when missing", "LOGIN_USERNAME", 0 },
	{ 'p', "password", OPT_STR, O(password), "TEXT",
	  "asked for when missing; others can see it in the process list", "LOGIN_PASSWORD", OPT_SECRET },
	{ 0, "password-stdin", OPT_FLAG, O(password_stdin), NULL, "read the password from standard input", NULL, 0 },
	AUTHFILE,
	{ 0, "no-https", OPT_FLAG, O(no_https), NULL, "use plain HTTP", "NO_HTTPS NOHTTPS", 0 },
	OPT_END,
};
const struct opt cmd_logout_opts[] = { AUTHFILE, OPT_END };
const struct opt cmd_registry_list_opts[] = {
	AUTHFILE,
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print JSON", NULL, 0 },
	OPT_END,
};
#undef AUTHFILE
#undef O

/* ---- questions ----------------------------------------------------------------------------------- */

/* One line of fd without its end. Interrupted: -EINTR. A byte at a time: what follows is not ours. */
static int read_line(int fd, char *buf, size_t size)
{
	size_t n = 0;
	char c = 0;
	ssize_t r;

	while ((r = read(fd, &c, 1)) == 1 && c != '\n') {
		if (n + 1 >= size)
			return -E2BIG;
		buf[n++] = c;
	}
	if (r < 0)
		return -errno;
	while (n && buf[n - 1] == '\r')
		n--;
	buf[n] = 0;
	return 0;
}

static int ask(const char *question, bool secret, char *buf, size_t size, struct vl_err *err)
{
	VL_FREE char *answer = NULL;
	int r = cmd_ask(question, secret, &answer, err);

	if (r == -ENOTTY)
		return vl_fail(err, ENOTTY,
			       "there is no terminal to ask for the %s: give --username, and the password with "
			       "--password-stdin",
			       secret ? "password" : "user name");
	if (r == 0 && (!*answer || strlen(answer) >= size))
		r = vl_fail(err, EINVAL, "no %s was given", secret ? "password" : "user name");
	if (r == 0)
		memcpy(buf, answer, strlen(answer) + 1);
	if (answer)
		explicit_bzero(answer, strlen(answer));
	return r;
}

/* ---- login -------------------------------------------------------------------------------------- */

/* HOST, docker://HOST, oras://HOST -> host[:port] as the files have it. */
static int parse_host(const char *text, char **ret, struct vl_err *err)
{
	static const char *const schemes[] = { "docker://", "oras://", "https://" };
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	const char *host = text;
	struct vl_err why = { 0 };

	for (size_t i = 0; i < VL_COUNT(schemes) && host == text; i++)
		if (vl_prefix(text, schemes[i]))
			host = vl_prefix(text, schemes[i]);
	size_t n = strlen(host);
	while (n && host[n - 1] == '/')
		n--;
	VL_FREE char *shown = vl_printable(text, strnlen(text, 200)), *uri = vl_asprintf("oras://%.*s/x", (int)n, host);
	if (strchr(host, '@'))
		return vl_fail(err, EINVAL, "a user name is given with --username, not before an '@'");
	if (!n || memchr(host, '/', n) || oci_ref_parse(uri, &ref, &why) < 0)
		return vl_fail(err, EINVAL, "'%s' is no registry: HOST[:PORT], as docker.io or ghcr.io", shown);
	*ret = vl_steal(&ref.host);
	return 0;
}

static int find_password(struct cmd_ctx *c, struct cmd_registry_opts *o, const char *user, char *buf, size_t size,
			 struct vl_err *err)
{
	const char *twin = opt_getenv("LOGIN_PASSWORD");
	int r;

	if (o->password_stdin) {
		if ((r = read_line(STDIN_FILENO, buf, size)) < 0)
			return vl_fail_sys(err, -r, "cannot read the password from standard input");
		return *buf ? 0 : vl_fail(err, EINVAL, "standard input holds no password");
	}
	if (!o->password) {
		VL_FREE char *shown = vl_printable(user, strlen(user)), *q = vl_asprintf("Password of %s: ", shown);
		return ask(q, true, buf, size, err);
	}
	if (strlen(o->password) >= size)
		return vl_fail(err, E2BIG, "the password is over %zu bytes long", size);
	memcpy(buf, o->password, strlen(o->password) + 1);
	if (o->password != twin) {
		vl_logf(&c->log, VL_WARNING,
			"a password on the command line can be seen by others: use --password-stdin");
		/* not from here on, at least */
		explicit_bzero((char *)o->password, strlen(o->password));
	}
	return 0;
}

struct first {
	const char *host, *file;
	char *found;
};

static void first_entry(void *arg, const char *file, const char *host, const char *user)
{
	struct first *f = arg;

	(void)user;
	if (!f->found && vl_streq(host, f->host))
		f->found = vl_strdup(file);
}

/* Another program's file may be searched before ours, and would be believed. */
static void warn_of_others(struct cmd_ctx *c, const char *authfile, const char *host, const char *file, bool login)
{
	struct first f = { .host = host };
	struct vl_err ignored = { 0 };

	(void)oci_login_list(authfile, first_entry, &f, &ignored);
	VL_FREE char *real = f.found ? realpath(f.found, NULL) : NULL;
	if (f.found && !(real && file && vl_streq(real, file)) && !(file && vl_streq(f.found, file)))
		vl_logf(&c->log, VL_WARNING,
			login ? "%s has credentials for %s too, and is looked at first"
			      : "%s still has credentials for %s",
			f.found, host);
	vl_freep(&f.found);
}

static int check_login(struct cmd_ctx *c, const struct cmd_registry_opts *o, const char *host, const char *user,
		       const char *password, struct vl_err *err)
{
	VL_FREE char *agent = vl_asprintf("vial/%s", cmd_version());
	struct oci_net net = { .username = user, .password = password, .agent = agent, .no_https = o->no_https };
	struct oci_client *client = NULL;
	struct cmd_progress progress;
	struct vl_progress say;

	cmd_progress_start(&progress, c, &say);
	int r = oci_client_new(&net, &say, &client, err);
	if (r == 0)
		r = oci_login_check(client, host, err);
	oci_client_free(client);
	cmd_progress_end(&progress);
	return r;
}

static int login(struct cmd_ctx *c, struct cmd_registry_opts *o, const char *host, char *password, struct vl_err *err)
{
	VL_FREE char *file = NULL;
	char user[256];
	int r;

	if (o->username && strlen(o->username) >= sizeof user)
		return vl_fail(err, E2BIG, "the user name is over %zu bytes long", sizeof user);
	if (o->username)
		memcpy(user, o->username, strlen(o->username) + 1);
	else if ((r = ask("User name: ", false, user, sizeof user, err)) < 0)
		return r;
	if ((r = find_password(c, o, user, password, MAX_PASSWORD, err)) < 0)
		return r;
	if ((r = check_login(c, o, host, user, password, err)) < 0)
		return r;
	if ((r = oci_login_save(o->authfile, host, user, password, &file, err)) < 0)
		return r;
	vl_logf(&c->log, VL_INFO, "logged in to %s as %s; kept in %s", host, user, file);
	warn_of_others(c, o->authfile, host, file, true);
	return 0;
}

int cmd_login_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_registry_opts *o = opts;
	VL_FREE char *host = NULL;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (o->password_stdin && o->password && o->password != opt_getenv("LOGIN_PASSWORD"))
		return cmd_usage(c, "--password and --password-stdin exclude each other");
	if (o->password_stdin && !o->username)
		return cmd_usage(c, "--password-stdin needs --username");
	if (parse_host(argv[0], &host, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	VL_FREE char *password = vl_alloc(MAX_PASSWORD);
	int r = login(c, o, host, password, &err);
	explicit_bzero(password, MAX_PASSWORD);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

int cmd_logout_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_registry_opts *o = opts;
	VL_FREE char *host = NULL, *file = NULL;
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	if (parse_host(argv[0], &host, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	int r = oci_login_save(o->authfile, host, NULL, NULL, &file, &err);
	if (r == 0)
		vl_logf(&c->log, VL_INFO, "removed the credentials for %s from %s", host, file);
	warn_of_others(c, o->authfile, host, NULL, false);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- list ------------------------------------------------------------------------------------------ */

static void print_entry(void *arg, const char *file, const char *host, const char *user)
{
	VL_FREE char *h = vl_printable(host, strlen(host)), *u = vl_printable(user, strlen(user));

	(void)arg;
	printf("%-40s %-24s %s\n", h, *u ? u : "-", file);
}

static void json_entry(void *arg, const char *file, const char *host, const char *user)
{
	vl_json *e = vl_json_new_obj();

	vl_json_set(e, "registry", vl_json_new_str(host));
	vl_json_set(e, "username", *user ? vl_json_new_str(user) : NULL);
	vl_json_set(e, "file", vl_json_new_str(file));
	vl_json_add(arg, e);
}

int cmd_registry_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_registry_opts *o = opts;
	VL_JSON vl_json *list = vl_json_new_arr();
	struct vl_err err = { 0 };

	(void)self, (void)argc, (void)argv;
	if (!o->json)
		printf("%-40s %-24s %s\n", "REGISTRY", "USER", "FILE");
	if (oci_login_list(o->authfile, o->json ? json_entry : print_entry, list, &err) < 0)
		return cmd_fail(c, &err);
	if (o->json) {
		VL_FREE char *text = vl_json_text(list, true);
		puts(text);
	}
	return 0;
}
