/* How registries are reached: options, settings and the environment become a struct oci_net. */
#include "commands.h"

#include <vial/oci.h>

struct cmd_net {
	struct oci_net net;
	char *agent, *username, *password;
};

/* The plain names are those of Docker's own tools and of many scripts. */
static char *first_of(const char *option, const char *plain)
{
	const char *v = option ? option : getenv(plain);
	return v && *v ? vl_strdup(v) : NULL;
}

/* A name without its password, or the other way round, would be no credentials at all: told or asked for, where an
 * option of ours said it. (DOCKER_USERNAME alone may stand in an environment for other programs.) */
static int complete(const struct net_opts *o, struct cmd_net *n, struct vl_err *err)
{
	bool name = o->username && *o->username, word = o->password && *o->password;

	if (word && !n->username)
		return vl_fail(err, EINVAL, "--docker-password needs --docker-username NAME with it");
	if (!name || n->password)
		return 0;
	int r = cmd_ask("Password: ", true, &n->password, err);
	return r == -ENOTTY ? vl_fail(err, EINVAL,
				      "--docker-username needs a password, and there is no terminal to ask for it: set "
				      "DOCKER_PASSWORD, or use `vial registry login`")
			    : r;
}

int cmd_net_new(struct cmd_ctx *c, const struct net_opts *o, struct cmd_net **ret, struct vl_err *err)
{
	struct store_settings s;
	int r = cmd_store_settings_get(c, &s, err);

	if (o->tmpdir && *o->tmpdir)
		setenv("TMPDIR", o->tmpdir, 1); /* where all of this process look */

	if (r < 0)
		return r;
	struct cmd_net *n = vl_alloc(sizeof *n);
	n->username = first_of(o->username, "DOCKER_USERNAME");
	n->password = first_of(o->password, "DOCKER_PASSWORD");
	n->agent = vl_asprintf("vial/%s", cmd_version());
	if (!o->docker_login)
		r = complete(o, n, err);
	else if ((r = cmd_ask("User name: ", false, &n->username, err)) == 0)
		r = cmd_ask("Password: ", true, &n->password, err);
	n->net = (struct oci_net){ .authfile = o->authfile && *o->authfile ? o->authfile : NULL,
				   .username = n->password ? n->username : NULL,
				   .password = n->username ? n->password : NULL,
				   .agent = n->agent,
				   .no_https = o->no_https,
				   .downloads = (unsigned)VL_MIN(VL_MAX(s.downloads, 1u), 64u),
				   .retries = s.retries ? (unsigned)VL_MIN(s.retries, 100u) : OCI_NO_RETRIES };
	cmd_store_settings_free(&s);
	if (r < 0) {
		cmd_net_free(n);
		return r;
	}
	*ret = n;
	return 0;
}

const struct oci_net *cmd_net_get(const struct cmd_net *n)
{
	return &n->net;
}

void cmd_net_free(struct cmd_net *n)
{
	if (!n)
		return;
	if (n->password)
		explicit_bzero(n->password, strlen(n->password));
	free(n->password);
	free(n->username);
	free(n->agent);
	free(n);
}
