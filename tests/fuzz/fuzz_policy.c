/* Any bytes as the facts of an image, which a process that read it hands over; or as a policy. Whatever they are: a policy
 * that denies goes on denying, and what is read has a text that reads the same. */
#include "fuzz.h"

#include <vial/policy.h>

static void decide(struct pol *p, struct pol_facts *f)
{
	struct pol_decision d = pol_decide(p, f);
	VL_JSON vl_json *j = pol_explain(p, f);
	VL_FREE char *text = vl_json_text(j, false);

	if (!vl_streq(vl_json_str(j, "decision"), pol_action_word(d.action)))
		abort();
}

static void as_facts(const char *text, size_t n)
{
	static const char rules[] = "default = 'deny'\n[[rule]]\naction = 'allow'\nsigner = "
				    "'SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'\nsource = 'docker://**/x'\n"
				    "objects = 'sbom'\ntree = true\n";
	POL_FACTS struct pol_facts f = { .kind = POL_SIF, .use = POL_IMAGE }, again = { 0 };
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	if (pol_facts_parse(text, n, &f, &err) < 0)
		return;
	VL_FREE char *out = pol_facts_text(&f);
	if (strlen(out) <= POL_FACTS_MAX && pol_facts_parse(out, strlen(out), &again, &err) < 0)
		abort();
	if (pol_read_text(rules, strlen(rules), "rules", &p.site, &err) < 0)
		abort();
	decide(&p, &f);
	if (!f.n_sigs && pol_decide(&p, &f).action != POL_DENY)
		abort();
}

static void as_policy(const char *text, size_t n)
{
	static const char deny[] = "default = 'deny'\n";
	POL_FACTS struct pol_facts f = {
		.kind = POL_SIF, .use = POL_IMAGE, .path = vl_strdup("/apps/images/a.sif"), .looked = true
	};
	POL struct pol p = { 0 };
	struct vl_err err = { 0 };

	if (pol_read_text(deny, strlen(deny), "deny", &p.site, &err) < 0)
		abort();
	if (pol_read_text(text, n, "input", &p.user, &err) < 0) {
		if (!strstr(err.text, "input"))
			abort();
		return;
	}
	pol_facts_add(&f, POL_BY_CERTIFICATE, "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "CN=a")->image =
		true;
	f.source = vl_strdup("docker://docker.io/library/debian@sha256:0000");
	decide(&p, &f);
	if (pol_decide(&p, &f).action != POL_DENY) /* nothing that a user writes */
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && *data == '{')
		as_facts((const char *)data, size);
	else
		as_policy((const char *)data, size);
	return 0;
}
