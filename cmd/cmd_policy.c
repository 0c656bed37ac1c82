/* vial policy: the rules, and how they come out for an image. */
#include "policy.h"
#include "run.h"

#include <fcntl.h>
#include <stdio.h>

#define O(f) offsetof(struct cmd_policy_opts, f)
const struct opt cmd_policy_check_opts[] = {
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print facts, rules and decision as JSON", NULL, 0 },
	{ 0, "use", OPT_STR, O(use), "USE", "as what it would be mounted: image (default), bind or overlay", NULL, 0 },
	CMD_NET_OPTS(struct cmd_policy_opts, net),
	OPT_END,
};
const struct opt cmd_policy_facts_opts[] = {
	{ 0, "roots", OPT_LINES, offsetof(struct cmd_policy_facts_opts, roots), "FILE",
	  "certificates under one of these count as signers; may be repeated", NULL, 0 },
	OPT_END,
};
const struct opt cmd_policy_show_opts[] = {
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print the rules as JSON", NULL, 0 },
	OPT_END,
};
#undef O

/* ---- the explanation ------------------------------------------------------------------------- */

static void say_strings(const vl_json *a, const char *none)
{
	size_t n = a ? vl_json_len(a) : 0;

	for (size_t i = 0; i < n; i++)
		printf("%s%s", i ? ", " : "", vl_json_string(vl_json_at(a, i)));
	puts(n ? "" : none);
}

static void say_shown(const char *label, const char *text)
{
	VL_FREE char *shown = vl_printable(text, strlen(text));

	printf("%s%s", label, shown);
}

static void say_signature(const vl_json *s)
{
	const char *name = vl_json_str(s, "name"), *roots = vl_json_str(s, "roots");

	printf("signed   by %s ", vl_json_str(s, "by"));
	say_shown("", vl_json_str(s, "id"));
	if (name)
		say_shown(", ", name);
	if (roots)
		say_shown(", under ", roots);
	printf("\n         covers %s%s",
	       vl_json_is_true(vl_json_get(s, "image")) ? "the image" : "not all of the image",
	       vl_json_is_true(vl_json_get(s, "source")) ? ", the source" : "");
	const vl_json *objects = vl_json_arr(s, "objects");
	for (size_t i = 0; i < vl_json_len(objects); i++)
		printf(", %s", vl_json_string(vl_json_at(objects, i)));
	puts("");
}

static void say_facts(const vl_json *f)
{
	const char *path = vl_json_str(f, "path"), *source = vl_json_str(f, "source"), *why = vl_json_str(f, "why");
	const vl_json *list = vl_json_arr(f, "signatures");

	say_shown("path     ", path ? path : "the file has no name");
	printf("\nkind     %s, used as %s\n", vl_json_str(f, "kind"), vl_json_str(f, "use"));
	say_shown("source   ", source ? source : "not said");
	printf("\nobjects  ");
	say_strings(vl_json_arr(f, "objects"), "none");
	for (size_t i = 0; i < vl_json_len(list); i++)
		say_signature(vl_json_at(list, i));
	if (!vl_json_len(list))
		say_shown("signed   by nobody known: ", why ? why : "there is no valid signature");
	if (!vl_json_len(list))
		puts("");
}

static void say_condition(const vl_json *c)
{
	const char *why = vl_json_str(c, "why");
	int64_t line = 0;

	(void)vl_json_int(c, "line", &line);
	printf("    %-3s  line %lld: %s %s", vl_json_is_true(vl_json_get(c, "holds")) ? "yes" : "no", (long long)line,
	       vl_json_str(c, "condition"), vl_json_str(c, "text"));
	if (why)
		say_shown(": ", why);
	puts("");
}

/* answers: with what is so of an image */
static void say_rule(const vl_json *r, bool answers)
{
	const char *name = vl_json_str(r, "name"), *message = vl_json_str(r, "message");
	const vl_json *list = vl_json_arr(r, "conditions");
	int64_t line = 0;

	(void)vl_json_int(r, "line", &line);
	say_shown("  ", vl_json_str(r, "file"));
	printf(":%lld: %s%s", (long long)line, vl_json_is_true(vl_json_get(r, "default")) ? "default " : "",
	       vl_json_str(r, "action"));
	if (name)
		printf(", %s", name);
	printf("%s\n", answers && vl_json_is_true(vl_json_get(r, "decides")) ? "   <-- decides" : "");
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *c = vl_json_at(list, i);
		if (answers)
			say_condition(c);
		else
			printf("    %s %s\n", vl_json_str(c, "condition"), vl_json_str(c, "text"));
	}
	if (message)
		printf("    says: %s\n", message);
}

static void say_list(const vl_json *l, const char *whose, bool answers)
{
	const vl_json *rules = vl_json_arr(l, "rules");

	if (!vl_json_len(vl_json_arr(l, "files"))) {
		printf("%s: no policy\n", whose);
		return;
	}
	if (answers)
		printf("%s: %s; the first rule whose conditions all hold decides\n", whose, vl_json_str(l, "decision"));
	else
		printf("%s\n", whose);
	for (size_t i = 0; i < vl_json_len(rules); i++)
		say_rule(vl_json_at(rules, i), answers);
	if (!vl_json_len(rules) || !vl_json_is_true(vl_json_get(vl_json_at(rules, vl_json_len(rules) - 1), "default")))
		puts("  otherwise: allow");
}

static void print_json(const vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, true);

	puts(text);
}

static void explain(const vl_json *j, const char *word)
{
	const char *decision = vl_json_str(j, "decision");

	say_shown("", word);
	printf(": %s\n", vl_streq(decision, "allow")  ? "allowed"
			 : vl_streq(decision, "warn") ? "allowed, with a warning"
						      : "denied");
	if (vl_json_is_true(vl_json_get(j, "verified")))
		puts("mounted  only while every block is checked by the hash tree");
	say_facts(vl_json_obj(j, "facts"));
	say_list(vl_json_obj(j, "site"), "site", true);
	say_list(vl_json_obj(j, "user"), "user", true);
}

/* ---- check ------------------------------------------------------------------------------------ */

static int open_part(const char *word, struct action_image *i, struct policy_image *q, struct vl_err *err)
{
	int r = cmd_image_part(word, 0, i, err);

	q->kind = i->off ? POL_SIF : POL_SQUASHFS;
	return r;
}

static int open_layer(const char *word, struct action_image *i, struct policy_image *q, struct vl_err *err)
{
	i->fd = vl_open(word, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, err);
	int r = i->fd < 0 ? i->fd : cmd_image_kind(i->fd, word, &q->kind, err);

	if (r == 0 && q->kind == POL_SIF)
		return vl_fail(err, EINVAL, "the overlay %s is neither a directory nor a squashfs or ext3 image", word);
	return r;
}

static int open_whole(struct cmd_ctx *c, const struct cmd_policy_opts *o, const char *word, struct action_image *i,
		      struct policy_image *q, struct vl_err *err)
{
	int r = cmd_look_at_image(c, word, &o->net, i, err);

	q->kind = i->kind == PLAN_DIRECTORY ? POL_DIRECTORY : i->off ? POL_SIF : POL_SQUASHFS;
	return r;
}

/* All of what a start would ask for, so that a look is taken also where an earlier rule decides: this is for people. */
static int check(struct cmd_ctx *c, const struct cmd_policy_opts *o, const char *word, enum pol_use use,
		 bool *ret_denied, struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = ACTION_IMAGE_INIT;
	POL_FACTS struct pol_facts f = { 0 };
	POL struct pol p = { 0 };
	struct policy_image q = { .use = use, .name = word, .tree = use == POL_IMAGE };
	int r = use == POL_BIND      ? open_part(word, &i, &q, err)
		: use == POL_OVERLAY ? open_layer(word, &i, &q, err)
				     : open_whole(c, o, word, &i, &q, err);

	if (r < 0 || (r = cmd_policy_load(&p, err)) < 0)
		return r;
	q.fd = i.fd;
	q.off = i.off;
	q.size = i.size;
	cmd_policy_facts(&q, &f);
	if (q.kind == POL_SIF && (r = cmd_policy_look(&p, &q, &f, NULL, err)) < 0)
		return r;
	*ret_denied = pol_decide(&p, &f).action == POL_DENY;
	VL_JSON vl_json *j = pol_explain(&p, &f);
	if (o->json)
		print_json(j);
	else
		explain(j, word);
	return 0;
}

int cmd_policy_check_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_policy_opts *o = opts;
	enum pol_use use = POL_IMAGE;
	struct vl_err err = { 0 };
	bool denied = false;

	(void)self, (void)argc;
	while (o->use && !vl_streq(o->use, pol_use_word(use))) {
		if (use == POL_OVERLAY)
			return cmd_usage(c, "--use is image, bind or overlay, not '%s'", o->use);
		use <<= 1;
	}
	int r = check(c, o, argv[0], use, &denied, &err);
	if (r < 0 && r != -ECHILD)
		cmd_fail(c, &err);
	return r < 0 ? c->cmd->usage_status : denied;
}

/* ---- show ------------------------------------------------------------------------------------- */

int cmd_policy_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_policy_opts *o = opts;
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	(void)self, (void)argc, (void)argv;
	if (cmd_policy_load(&p, &err) < 0)
		return cmd_fail(c, &err);
	VL_JSON vl_json *j = pol_explain(&p, NULL);
	if (o->json) {
		print_json(j);
		return 0;
	}
	say_list(vl_json_obj(j, "site"), "site", false);
	say_list(vl_json_obj(j, "user"), "user", false);
	return 0;
}

/* ---- facts ------------------------------------------------------------------------------------ */

int cmd_policy_facts_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_policy_facts_opts *o = opts;
	POL_FACTS struct pol_facts f = { 0 };
	struct vl_err err = { 0 };
	VL_CLOSE int fd = vl_open(argv[0], O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, &err);
	struct policy_image q = { .fd = fd, .kind = POL_SIF, .use = POL_IMAGE, .name = argv[0], .tree = true };

	(void)self, (void)argc;
	if (fd < 0)
		return cmd_fail(c, &err);
	cmd_policy_facts(&q, &f);
	if (cmd_policy_look_by_child(&q, &o->roots, &f, NULL, &err) < 0) {
		vl_wrap(&err, "%s", argv[0]);
		return cmd_fail(c, &err);
	}
	vl_strv_free(&o->roots);
	VL_JSON vl_json *j = pol_facts_json(&f);
	print_json(j);
	return 0;
}
