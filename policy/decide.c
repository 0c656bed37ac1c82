/* Facts and rules to a decision. A rule that allows counts only what a signature of its own signers covers, all of it one
 * signature; a rule that denies takes an image by its word. So whoever makes an image can argue it into trouble, never
 * out of it. */
#include <vial/policy.h>

#define NEEDS_LOOK (1u << POL_ON_SIGNER | 1u << POL_ON_SOURCE | 1u << POL_ON_OBJECTS | 1u << POL_ON_TREE)

/* What one rule has to go by. */
struct view {
	const struct pol_rule *r;
	const struct pol_facts *f;
	const struct pol_signature *sig; /* that speaks for the image; NULL = none does */
};

static bool any_matches(const struct vl_strv *patterns, const char *text)
{
	for (size_t i = 0; text && i < patterns->n; i++)
		if (pol_matches(patterns->v[i], text))
			return true;
	return false;
}

static bool is_signer(const struct pol_rule *r, const struct pol_signature *s)
{
	for (size_t i = 0; i < r->signer.n; i++)
		if (vl_streq(r->signer.v[i], s->id))
			return true;
	for (size_t i = 0; i < r->n_certs; i++)
		if (s->by == POL_BY_CERTIFICATE && s->name && s->roots && vl_streq(r->certs[i].roots, s->roots) &&
		    pol_matches(r->certs[i].subject, s->name))
			return true;
	return false;
}

static bool has_signers(const struct pol_rule *r)
{
	return r->signer.n || r->n_certs;
}

/* ---- conditions ---- */

/* With the digest it was fetched by, or without. */
static bool is_source(const struct pol_rule *r, const char *source)
{
	const char *at = source ? strrchr(source, '@') : NULL;
	VL_FREE char *name = at ? vl_strndup(source, (size_t)(at - source)) : NULL;

	return any_matches(&r->source, source) || any_matches(&r->source, name);
}

static bool source_holds(const struct view *v)
{
	if (!is_source(v->r, v->f->source))
		return false;
	return v->r->action == POL_DENY || (v->sig && v->sig->source);
}

static unsigned objects_there(const struct view *v)
{
	return v->r->action == POL_DENY ? v->f->objects : v->sig ? v->sig->objects : 0;
}

static bool holds(const struct view *v, enum pol_condition c)
{
	const struct pol_rule *r = v->r;
	const struct pol_facts *f = v->f;

	switch (c) {
	case POL_ON_PATH:
		return !r->path.n || any_matches(&r->path, f->path);
	case POL_ON_KIND:
		return !r->kinds || r->kinds & f->kind;
	case POL_ON_USE:
		return !r->uses || r->uses & f->use;
	case POL_ON_SIGNER:
		return !has_signers(r) || v->sig;
	case POL_ON_SOURCE:
		return !r->source.n || source_holds(v);
	case POL_ON_OBJECTS:
		return !(r->objects & ~objects_there(v));
	case POL_ON_TREE:
		return !r->tree || objects_there(v) & POL_TREE;
	}
	return false;
}

/* Of the signatures by the rule's signers the one with which most holds, for a rule that denies any. */
static const struct pol_signature *choose(const struct pol_rule *r, const struct pol_facts *f)
{
	const struct pol_signature *best = NULL;
	unsigned most = 0;

	for (size_t i = 0; i < f->n_sigs && has_signers(r); i++) {
		struct view v = { r, f, &f->sigs[i] };
		unsigned n = 1;
		if (!is_signer(r, v.sig) || (r->action != POL_DENY && !v.sig->image))
			continue;
		for (unsigned c = POL_ON_SOURCE; c < POL_CONDITIONS; c++)
			n += holds(&v, (enum pol_condition)c);
		if (n > most) {
			most = n;
			best = v.sig;
		}
	}
	return best;
}

enum answer { NO, YES, LOOK };

static enum answer ask(const struct pol_rule *r, const struct pol_facts *f)
{
	struct view v = { r, f, choose(r, f) };
	bool look = false;

	for (unsigned c = 0; c < POL_CONDITIONS; c++) {
		if (r->lines[c] && NEEDS_LOOK & 1u << c && !f->looked)
			look = true;
		else if (!holds(&v, (enum pol_condition)c))
			return NO;
	}
	return look ? LOOK : YES;
}

/* ---- lists ---- */

static struct pol_decision decide_list(const struct pol_list *l, const struct pol_facts *f)
{
	struct pol_decision d = { .action = POL_ALLOW };

	for (size_t i = 0; i < l->n; i++) {
		enum answer a = ask(&l->v[i], f);
		if (a == NO)
			continue;
		d.look = a == LOOK;
		d.rule = &l->v[i];
		d.action = d.rule->action;
		d.tree = d.rule->tree || (f->by_tree && has_signers(d.rule));
		return d;
	}
	if (l->fallback) {
		d.rule = l->fallback;
		d.action = d.rule->action;
	}
	return d;
}

struct pol_decision pol_decide(const struct pol *p, const struct pol_facts *f)
{
	struct pol_decision site = decide_list(&p->site, f), user = decide_list(&p->user, f);

	/* what is denied without a look is denied with one */
	if (!site.look && site.action == POL_DENY)
		return site;
	if (!user.look && user.action == POL_DENY)
		return user;
	struct pol_decision d = user.action > site.action || !site.rule ? user : site;
	d.look = site.look || user.look;
	d.tree = site.tree || user.tree;
	return d;
}

/* ---- how it came about ---- */

static void add_list(struct vl_buf *b, const struct vl_strv *l)
{
	for (size_t i = 0; i < l->n; i++) {
		VL_FREE char *shown = vl_printable(l->v[i], strlen(l->v[i]));
		vl_buf_addf(b, "%s%s", b->len ? " or " : "", shown);
	}
}

static void add_words(struct vl_buf *b, unsigned bits, const char *(*word)(unsigned), const char *between)
{
	for (unsigned bit = 1; bit && bit <= bits; bit <<= 1)
		if (bits & bit)
			vl_buf_addf(b, "%s%s", b->len ? between : "", word(bit));
}

static char *condition_text(const struct pol_rule *r, enum pol_condition c)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	if (c == POL_ON_PATH)
		add_list(&b, &r->path);
	else if (c == POL_ON_KIND)
		add_words(&b, r->kinds, pol_kind_word, " or ");
	else if (c == POL_ON_USE)
		add_words(&b, r->uses, pol_use_word, " or ");
	else if (c == POL_ON_SOURCE)
		add_list(&b, &r->source);
	else if (c == POL_ON_OBJECTS)
		add_words(&b, r->objects, pol_object_word, " and ");
	else if (c == POL_ON_TREE)
		vl_buf_adds(&b, "true");
	else
		add_list(&b, &r->signer);
	for (size_t i = 0; c == POL_ON_SIGNER && i < r->n_certs; i++) {
		VL_FREE char *subject = vl_printable(r->certs[i].subject, strlen(r->certs[i].subject));
		VL_FREE char *roots = vl_printable(r->certs[i].roots, strlen(r->certs[i].roots));
		vl_buf_addf(&b, "%scertificate %s under %s", b.len ? " or " : "", subject, roots);
	}
	return vl_steal(&b.data);
}

/* What one signature lacks, or who signed instead. New, or NULL. */
static char *signer_why(const struct view *v)
{
	const struct pol_facts *f = v->f;
	VL_BUF struct vl_buf b = { 0 };

	if (!f->looked)
		return vl_strdup("not asked: an earlier rule decides");
	for (size_t i = 0; i < f->n_sigs; i++) {
		const struct pol_signature *s = &f->sigs[i];
		if (is_signer(v->r, s))
			return vl_asprintf("the signature by %s does not cover all that a start uses", s->id);
		vl_buf_addf(&b, "%s%s", b.len ? ", " : "valid signatures are by ", s->id);
	}
	if (b.len)
		return vl_steal(&b.data);
	return vl_asprintf("no valid signature by a key that is known here%s%s", f->why ? ": " : "",
			   f->why ? f->why : "");
}

static char *claim_why(const struct view *v, enum pol_condition c)
{
	const struct pol_facts *f = v->f;
	bool there = c == POL_ON_SOURCE    ? is_source(v->r, f->source)
		     : c == POL_ON_OBJECTS ? !(v->r->objects & ~f->objects)
					   : (f->objects & POL_TREE) != 0;

	if (!f->looked)
		return vl_strdup("not asked: an earlier rule decides");
	if (there)
		return vl_strdup("the image says so, and no signature by a signer of this rule covers it");
	if (c != POL_ON_SOURCE)
		return vl_strdup("the image lacks it");
	VL_FREE char *shown = f->source ? vl_printable(f->source, strlen(f->source)) : NULL;
	return shown ? vl_asprintf("it is from %s", shown) : vl_strdup("the image says of none");
}

static char *why_not(const struct view *v, enum pol_condition c)
{
	VL_FREE char *path = v->f->path ? vl_printable(v->f->path, strlen(v->f->path)) : NULL;

	switch (c) {
	case POL_ON_PATH:
		return path ? vl_asprintf("it is %s", path) : vl_strdup("the file has no name");
	case POL_ON_KIND:
		return vl_asprintf("it is %s", pol_kind_word(v->f->kind));
	case POL_ON_USE:
		return vl_asprintf("it is used as %s", pol_use_word(v->f->use));
	case POL_ON_SIGNER:
		return signer_why(v);
	default:
		return claim_why(v, c);
	}
}

static vl_json *explain_condition(const struct view *v, enum pol_condition c)
{
	VL_FREE char *text = condition_text(v->r, c);
	bool good = v->f && holds(v, c);
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "line", vl_json_new_int(v->r->lines[c]));
	vl_json_set(j, "condition", vl_json_new_str(pol_condition_word(c)));
	vl_json_set(j, "text", vl_json_new_str(text));
	if (!v->f)
		return j;
	vl_json_set(j, "holds", vl_json_new_bool(good));
	if (!good) {
		VL_FREE char *why = why_not(v, c);
		vl_json_set(j, "why", vl_json_new_str(why));
	}
	return j;
}

static vl_json *explain_rule(const struct pol_rule *r, const struct pol_facts *f, bool fallback, bool decides)
{
	struct view v = { r, f, f ? choose(r, f) : NULL };
	vl_json *j = vl_json_new_obj(), *list = vl_json_new_arr();

	vl_json_set(j, "file", vl_json_new_str(r->file));
	vl_json_set(j, "line", vl_json_new_int(r->line));
	vl_json_set(j, "action", vl_json_new_str(pol_action_word(r->action)));
	if (r->name)
		vl_json_set(j, "name", vl_json_new_str(r->name));
	if (r->message)
		vl_json_set(j, "message", vl_json_new_str(r->message));
	vl_json_set(j, "default", vl_json_new_bool(fallback));
	if (f)
		vl_json_set(j, "decides", vl_json_new_bool(decides));
	for (unsigned c = 0; c < POL_CONDITIONS; c++)
		if (r->lines[c])
			vl_json_add(list, explain_condition(&v, (enum pol_condition)c));
	vl_json_set(j, "conditions", list);
	return j;
}

static vl_json *explain_list(const struct pol_list *l, const struct pol_facts *f)
{
	struct pol_decision d = { 0 };
	vl_json *j = vl_json_new_obj(), *rules = vl_json_new_arr(), *files = vl_json_new_arr();

	if (f)
		d = decide_list(l, f);
	for (size_t i = 0; l->v && i < l->n; i++)
		vl_json_add(rules, explain_rule(&l->v[i], f, false, d.rule == &l->v[i]));
	if (l->fallback)
		vl_json_add(rules, explain_rule(l->fallback, f, true, d.rule == l->fallback));
	for (size_t i = 0; i < l->files.n; i++)
		vl_json_add(files, vl_json_new_str(l->files.v[i]));
	if (f)
		vl_json_set(j, "decision", vl_json_new_str(pol_action_word(d.action)));
	vl_json_set(j, "files", files);
	vl_json_set(j, "rules", rules);
	return j;
}

vl_json *pol_explain(const struct pol *p, const struct pol_facts *f)
{
	vl_json *j = vl_json_new_obj();

	if (f) {
		struct pol_decision d = pol_decide(p, f);
		vl_json_set(j, "decision", vl_json_new_str(pol_action_word(d.action)));
		vl_json_set(j, "verified", vl_json_new_bool(d.tree));
		vl_json_set(j, "facts", pol_facts_json(f));
	}
	vl_json_set(j, "site", explain_list(&p->site, f));
	vl_json_set(j, "user", explain_list(&p->user, f));
	return j;
}

static void add_roots(const struct pol_list *l, struct vl_strv *ret)
{
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < l->v[i].n_certs; k++) {
			const char *file = l->v[i].certs[k].roots;
			size_t n = 0;
			while (n < ret->n && !vl_streq(ret->v[n], file))
				n++;
			if (n == ret->n)
				vl_strv_add(ret, file);
		}
}

void pol_roots(const struct pol *p, struct vl_strv *ret)
{
	add_roots(&p->site, ret);
	add_roots(&p->user, ret);
}
