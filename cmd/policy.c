/* The policy at a start: facts of the open file, the decision, and what of it is said. Every start opens its images
 * through here, so there is one place to ask and nothing to forget. */
#include "policy.h"

#include "run.h"

#include <stdio.h>
#include <sys/stat.h>

int cmd_policy_load(struct pol *ret, struct vl_err *err)
{
	VL_FREE char *site = cmd_site_dir("policy.d"), *user = cmd_user_dir("policy.d");
	POL struct pol p = { 0 };
	int r = pol_read_dir(site, POL_SITE, &p.site, err);

	if (r == 0 && user)
		r = pol_read_dir(user, POL_USER, &p.user, err);
	if (r == 0)
		*ret = vl_move(&p);
	return r;
}

/* The name under which the kernel knows the open file; what the user typed may lead elsewhere by now. New, or NULL when
 * it has none any more. */
static char *path_of(int fd)
{
	VL_FREE char *path = vl_fd_path(fd);
	struct stat a, b;

	if (!path || *path != '/' || fstat(fd, &a) < 0 || stat(path, &b) < 0 || a.st_dev != b.st_dev ||
	    a.st_ino != b.st_ino)
		return NULL;
	return vl_steal(&path);
}

void cmd_policy_facts(const struct policy_image *i, struct pol_facts *ret)
{
	*ret = (struct pol_facts){ .kind = i->kind, .use = i->use, .path = path_of(i->origin ? i->origin : i->fd) };
	ret->looked = i->kind != POL_SIF; /* nothing else has room for a signature, or for words about itself */
	if (ret->looked)
		ret->why = vl_strdup("only a SIF can be signed");
}

int cmd_policy_look(const struct pol *p, const struct policy_image *i, struct pol_facts *f, struct cmd_verified *ret,
		    struct vl_err *err)
{
	VL_STRV struct vl_strv roots = { 0 };

	pol_roots(p, &roots);
	return cmd_policy_look_by_child(i, &roots, f, ret, err);
}

/* "FILE:LINE", and what the site wants to say. */
static char *reason(const struct pol_decision *d)
{
	const char *say = d->rule->message ? d->rule->message : d->rule->name;

	return vl_asprintf("%s:%u%s%s", d->rule->file, d->rule->line, say ? ": " : "", say ? say : "");
}

/* checked: the mount will be, by the image's hash tree */
static int carry_out(struct cmd_ctx *c, const struct pol_decision *d, const char *name, bool checked,
		     struct vl_err *err)
{
	if (!d->rule)
		return 0;
	VL_FREE char *why = reason(d), *shown = vl_printable(name, strlen(name));
	if (d->tree && d->action != POL_DENY && !checked)
		return vl_fail(
			err, ENOTSUP,
			"%s: policy (%s) asks for a mount that is checked by the image's hash tree, which there is "
			"none of here",
			shown, why);
	if (d->action == POL_ALLOW)
		return 0;
	if (d->action == POL_DENY)
		return vl_fail(err, EACCES, "%s is denied by policy (%s); to see why: %s policy check %s", shown, why,
			       c->self, shown);
	vl_logf(&c->log, VL_WARNING, "%s: policy: %s", shown, why);
	return 0;
}

int cmd_policy_ask(struct cmd_ctx *c, const struct policy_image *i, struct cmd_verified *ret, struct vl_err *err)
{
	VL_CLEANUP(cmd_verified_free) struct cmd_verified v = { 0 };
	POL struct pol p = { 0 };
	POL_FACTS struct pol_facts f = { 0 };
	int r = cmd_policy_load(&p, err);

	if (r < 0 || !(p.site.files.n || p.user.files.n))
		return r;
	cmd_policy_facts(i, &f);
	struct pol_decision d = pol_decide(&p, &f);
	if (d.look) {
		if ((r = cmd_policy_look(&p, i, &f, ret ? &v : NULL, err)) < 0)
			return r;
		d = pol_decide(&p, &f);
	}
	r = carry_out(c, &d, i->name, v.tree.block != 0, err);
	if (r == 0 && d.tree && ret)
		*ret = vl_move(&v);
	return r;
}
