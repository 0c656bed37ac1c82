/* Reads the statement that a conversion leaves in an image. On the path of a start that has a policy: no libcrypto. */
#include <vial/sif.h>

static char *copy(const char *s)
{
	return s ? vl_strdup(s) : NULL;
}

/* "sha256:..." of a digest set; NULL: it has none that is ours. Returns new. */
static char *digest_of(const vl_json *resource)
{
	static const struct {
		const char *name;
		size_t digits;
	} algos[] = { { "sha256", 64 }, { "sha512", 128 } };
	const vl_json *set = vl_json_obj(resource, "digest");

	for (size_t i = 0; i < VL_COUNT(algos); i++) {
		const char *hex = vl_json_str(set, algos[i].name);
		if (hex && strlen(hex) == algos[i].digits && strspn(hex, "0123456789abcdef") == algos[i].digits)
			return vl_asprintf("%s:%s", algos[i].name, hex);
	}
	return NULL;
}

static void read_dependencies(const vl_json *list, struct sif_provenance *p)
{
	for (size_t i = 0; i < vl_json_len(list); i++) {
		const vl_json *d = vl_json_at(list, i);
		const char *name = vl_json_str(d, "name");
		if (!name)
			continue;
		if (vl_streq(name, "manifest") && !p->digest)
			p->digest = digest_of(d);
		else if (vl_streq(name, "config") && !p->config)
			p->config = digest_of(d);
		else if (vl_prefix(name, "layer "))
			p->layers++;
	}
}

static bool is_statement(const vl_json *j)
{
	const char *type = vl_json_str(j, "_type"), *predicate = vl_json_str(j, "predicateType");

	return type && vl_streq(type, "https://in-toto.io/Statement/v1") && predicate &&
	       vl_streq(predicate, "https://slsa.dev/provenance/v1");
}

int sif_provenance_read(const struct sif_image *img, struct sif_provenance *ret, struct vl_err *err)
{
	const struct sif_descr *d = sif_by_name(img, SIF_JSON, SIF_PROVENANCE_NAME);
	VL_FREE char *text = NULL;
	VL_JSON vl_json *j = NULL;
	size_t n;
	int r;

	if (!d)
		return vl_fail(err, ENOENT, "the image has no provenance");
	if ((r = sif_read_object(img, d, SIF_PROVENANCE_MAX, &text, &n, err)) < 0 ||
	    (r = vl_json_parse(text, n, "the provenance", &j, err)) < 0)
		return r;
	const vl_json *predicate = vl_json_obj(j, "predicate"), *build = vl_json_obj(predicate, "buildDefinition");
	if (!is_statement(j) || !build)
		return vl_fail(err, EINVAL, "the provenance is no SLSA statement");
	const char *version = vl_json_str(
		vl_json_obj(vl_json_obj(vl_json_obj(predicate, "runDetails"), "builder"), "version"), "vial");
	struct sif_provenance p = { .id = d->id, .group = d->group };
	p.source = copy(vl_json_str(vl_json_obj(build, "externalParameters"), "source"));
	p.builder = version ? vl_asprintf("vial %s", version) : NULL;
	read_dependencies(vl_json_arr(build, "resolvedDependencies"), &p);
	*ret = p;
	return 0;
}

void sif_provenance_free(struct sif_provenance *p)
{
	vl_freep(&p->source);
	vl_freep(&p->digest);
	vl_freep(&p->config);
	vl_freep(&p->builder);
}
