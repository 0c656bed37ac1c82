/* Facts and their text. The text comes from a process that has read the image, which may be made to break it: what does
 * not fit is refused, and it can say no more than what was asked. */
#include <vial/policy.h>

static const char *const by_words[] = {
	[POL_BY_KEY] = "key", [POL_BY_CERTIFICATE] = "certificate", [POL_BY_PGP] = "pgp"
};

static void free_look(struct pol_facts *f)
{
	for (size_t i = 0; i < f->n_sigs; i++) {
		free(f->sigs[i].id);
		free(f->sigs[i].name);
		free(f->sigs[i].roots);
	}
	vl_freep(&f->sigs);
	f->n_sigs = 0;
	vl_freep(&f->source);
	vl_freep(&f->why);
}

void pol_facts_free(struct pol_facts *f)
{
	free_look(f);
	vl_freep(&f->path);
}

struct pol_signature *pol_facts_add(struct pol_facts *f, enum pol_by by, const char *id, const char *name)
{
	if (f->n_sigs == POL_SIGNATURES_MAX)
		return NULL;
	f->sigs = vl_realloc(f->sigs, f->n_sigs + 1, sizeof *f->sigs);
	struct pol_signature *s = &f->sigs[f->n_sigs++];
	*s = (struct pol_signature){ .by = by, .id = vl_strdup(id), .name = name ? vl_strdup(name) : NULL };
	return s;
}

/* ---- to text ---- */

static void put_str(vl_json *j, const char *key, const char *value)
{
	if (value)
		vl_json_set(j, key, vl_json_new_str(value));
}

static vl_json *objects_json(unsigned objects)
{
	vl_json *a = vl_json_new_arr();

	for (unsigned bit = 1; bit <= POL_TREE; bit <<= 1)
		if (objects & bit)
			vl_json_add(a, vl_json_new_str(pol_object_word(bit)));
	return a;
}

static void put_look(vl_json *j, const struct pol_facts *f)
{
	vl_json *list = vl_json_new_arr();

	put_str(j, "source", f->source);
	put_str(j, "why", f->why);
	vl_json_set(j, "objects", objects_json(f->objects));
	vl_json_set(j, "byTree", vl_json_new_bool(f->by_tree));
	for (size_t i = 0; i < f->n_sigs; i++) {
		const struct pol_signature *s = &f->sigs[i];
		vl_json *o = vl_json_new_obj();
		put_str(o, "by", by_words[s->by]);
		put_str(o, "id", s->id);
		put_str(o, "name", s->name);
		put_str(o, "roots", s->roots);
		vl_json_set(o, "image", vl_json_new_bool(s->image));
		vl_json_set(o, "source", vl_json_new_bool(s->source));
		vl_json_set(o, "objects", objects_json(s->objects));
		vl_json_add(list, o);
	}
	vl_json_set(j, "signatures", list);
}

char *pol_facts_text(const struct pol_facts *f)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	put_look(j, f);
	return vl_json_text(j, false);
}

vl_json *pol_facts_json(const struct pol_facts *f)
{
	vl_json *j = vl_json_new_obj();

	put_str(j, "path", f->path);
	put_str(j, "kind", pol_kind_word(f->kind));
	put_str(j, "use", pol_use_word(f->use));
	if (f->looked)
		put_look(j, f);
	return j;
}

/* ---- and back ---- */

static unsigned read_objects(const vl_json *a)
{
	unsigned objects = 0;

	for (size_t i = 0; a && i < vl_json_len(a); i++) {
		const char *w = vl_json_string(vl_json_at(a, i));
		for (unsigned bit = 1; w && bit <= POL_TREE; bit <<= 1)
			if (vl_streq(w, pol_object_word(bit)))
				objects |= bit;
	}
	return objects;
}

static int read_signature(const vl_json *o, struct pol_facts *f, struct vl_err *err)
{
	const char *word = vl_json_str(o, "by"), *id = vl_json_str(o, "id"), *roots = vl_json_str(o, "roots");
	unsigned by = POL_BY_KEY;

	while (word && by <= POL_BY_PGP && !vl_streq(word, by_words[by]))
		by++;
	if (!word || !id || by > POL_BY_PGP)
		return vl_fail(err, EPROTO, "facts of an image: a signature without a signer");
	struct pol_signature *s = pol_facts_add(f, (enum pol_by)by, id, vl_json_str(o, "name"));
	if (!s)
		return vl_fail(err, EPROTO, "facts of an image: more than %d signatures", POL_SIGNATURES_MAX);
	s->roots = roots ? vl_strdup(roots) : NULL;
	s->image = vl_json_is_true(vl_json_get(o, "image"));
	s->source = vl_json_is_true(vl_json_get(o, "source"));
	s->objects = read_objects(vl_json_arr(o, "objects"));
	return 0;
}

static char *copy(const char *s)
{
	return s ? vl_strdup(s) : NULL;
}

int pol_facts_parse(const char *text, size_t len, struct pol_facts *f, struct vl_err *err)
{
	VL_JSON vl_json *j = NULL;
	POL_FACTS struct pol_facts got = { 0 };

	if (len > POL_FACTS_MAX)
		return vl_fail(err, EFBIG, "facts of an image: %zu bytes are over the limit of %u", len, POL_FACTS_MAX);
	int r = vl_json_parse(text, len, "facts of an image", &j, err);
	if (r < 0)
		return r;
	const vl_json *list = vl_json_arr(j, "signatures");
	if (!list)
		return vl_fail(err, EPROTO, "facts of an image: there is no list of signatures");
	for (size_t i = 0; i < vl_json_len(list) && r == 0; i++)
		r = read_signature(vl_json_at(list, i), &got, err);
	if (r < 0)
		return r;
	free_look(f);
	f->sigs = vl_steal(&got.sigs);
	f->n_sigs = got.n_sigs;
	got.n_sigs = 0;
	f->source = copy(vl_json_str(j, "source"));
	f->why = copy(vl_json_str(j, "why"));
	f->objects = read_objects(vl_json_arr(j, "objects"));
	f->by_tree = vl_json_is_true(vl_json_get(j, "byTree"));
	f->looked = true;
	return 0;
}
