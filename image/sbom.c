/* A list of packages as a bill of materials: CycloneDX 1.5 or SPDX 2.3, both in JSON. */
#include <vial/image.h>

#include <stdio.h>
#include <time.h>

static void set_str(vl_json *j, const char *key, const char *s)
{
	if (s)
		vl_json_set(j, key, vl_json_new_str(s));
}

static void add_str(vl_json *arr, const char *s)
{
	vl_json_add(arr, vl_json_new_str(s));
}

static char *date_of(int64_t time)
{
	char date[32] = "1970-01-01T00:00:00Z";
	struct tm tm;
	time_t t = (time_t)time;

	if (gmtime_r(&t, &tm))
		strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return vl_strdup(date);
}

/* An id of a document: the same for the same content. Returns new. */
static char *urn_of(const vl_json *j)
{
	VL_FREE char *text = vl_json_text(j, false);
	uint8_t sha[32];
	char id[37];

	vl_sha256(text, strlen(text), sha);
	sha[6] = (uint8_t)(0x80 | (sha[6] & 0x0f)); /* RFC 9562 version 8 */
	sha[8] = (uint8_t)(0x80 | (sha[8] & 0x3f));
	sif_uuid_text(sha, id);
	return vl_asprintf("urn:uuid:%s", id);
}

/* ---- package URLs ---- */

static void add_encoded(struct vl_buf *b, const char *s)
{
	for (; *s; s++) {
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
			     strchr(".-_~:", *s);
		if (plain)
			vl_buf_add(b, s, 1);
		else
			vl_buf_addf(b, "%%%02X", (unsigned char)*s);
	}
}

static void add_part(struct vl_buf *b, const char *before, const char *s)
{
	if (!s || !*s)
		return;
	vl_buf_adds(b, before);
	add_encoded(b, s);
}

static void add_qualifier(struct vl_buf *b, bool *any, const char *key, const char *value)
{
	if (!value || !*value)
		return;
	vl_buf_addf(b, "%c%s=", *any ? '&' : '?', key);
	add_encoded(b, value);
	*any = true;
}

static void lower(char *s)
{
	for (; *s; s++)
		if (*s >= 'A' && *s <= 'Z')
			*s = (char)(*s - 'A' + 'a');
}

static void add_distribution(struct vl_buf *b, const struct img_packages *l, const struct img_package *p)
{
	VL_FREE char *distro = l->os_id && l->os_version ? vl_asprintf("%s-%s", l->os_id, l->os_version) : NULL;
	bool any = false;

	add_qualifier(b, &any, "arch", p->arch);
	add_qualifier(b, &any, "distro", distro);
	add_qualifier(b, &any, "epoch", p->epoch);
	if (p->source && !vl_streq(p->source, p->name)) /* what advisories of distributions go by */
		add_qualifier(b, &any, "upstream", p->source);
}

/* Returns new. */
static char *purl_of(const struct img_packages *l, const struct img_package *p)
{
	static const struct {
		const char *type, *vendor; /* when the image does not say whose it is */
	} kinds[] = {
		[IMG_PACKAGE_DPKG] = { "deb", "debian" },
		[IMG_PACKAGE_RPM] = { "rpm", NULL },
		[IMG_PACKAGE_APK] = { "apk", "alpine" },
		[IMG_PACKAGE_PYTHON] = { "pypi", NULL },
	};
	bool python = p->kind == IMG_PACKAGE_PYTHON;
	VL_FREE char *name = vl_strdup(p->name);
	VL_FREE char *vendor = vl_strdup(l->os_id ? l->os_id : kinds[p->kind].vendor ? kinds[p->kind].vendor : "");
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_addf(&b, "pkg:%s", kinds[p->kind].type);
	if (p->kind != IMG_PACKAGE_RPM)
		lower(name);
	for (char *s = name; python && *s; s++)
		*s = *s == '_' ? '-' : *s;
	lower(vendor);
	if (!python)
		add_part(&b, "/", vendor);
	add_part(&b, "/", name);
	add_part(&b, "@", p->version);
	if (!python)
		add_distribution(&b, l, p);
	return vl_steal(&b.data);
}

/* ---- CycloneDX ---- */

static void set_property(vl_json *j, const char *name, const char *value)
{
	vl_json *list = vl_json_arr(j, "properties");
	vl_json *one = vl_json_new_obj();

	if (!list)
		vl_json_set(j, "properties", list = vl_json_new_arr());
	set_str(one, "name", name);
	set_str(one, "value", value);
	vl_json_add(list, one);
}

static vl_json *cyclonedx_component(const struct img_packages *l, size_t i)
{
	const struct img_package *p = &l->v[i];
	VL_FREE char *ref = vl_asprintf("package-%zu", i + 1), *purl = purl_of(l, p);
	vl_json *j = vl_json_new_obj();

	set_str(j, "type", "library");
	set_str(j, "bom-ref", ref);
	set_str(j, "name", p->name);
	set_str(j, "version", p->version);
	set_str(j, "purl", purl);
	if (p->license && *p->license) {
		vl_json *licenses = vl_json_new_arr(), *one = vl_json_new_obj(), *license = vl_json_new_obj();
		set_str(license, "name", p->license);
		vl_json_set(one, "license", license);
		vl_json_add(licenses, one);
		vl_json_set(j, "licenses", licenses);
	}
	if (p->path)
		set_property(j, "vial:path", p->path);
	return j;
}

static vl_json *cyclonedx_system(const struct img_packages *l)
{
	vl_json *j = vl_json_new_obj();

	set_str(j, "type", "operating-system");
	set_str(j, "bom-ref", "operating-system");
	set_str(j, "name", l->os_id ? l->os_id : l->os_name);
	set_str(j, "version", l->os_version);
	set_str(j, "description", l->os_name);
	return j;
}

static vl_json *cyclonedx_metadata(const struct img_sbom *s)
{
	VL_FREE char *date = date_of(s->time);
	vl_json *j = vl_json_new_obj(), *tools = vl_json_new_obj(), *list = vl_json_new_arr(),
		*tool = vl_json_new_obj(), *image = vl_json_new_obj();

	set_str(tool, "type", "application");
	set_str(tool, "name", "vial");
	set_str(tool, "version", s->builder);
	vl_json_add(list, tool);
	vl_json_set(tools, "components", list);
	set_str(image, "type", "container");
	set_str(image, "bom-ref", "image");
	set_str(image, "name", s->name);
	set_str(image, "version", s->digest);
	set_str(j, "timestamp", date);
	vl_json_set(j, "tools", tools);
	vl_json_set(j, "component", image);
	for (size_t i = 0; i < s->packages->unread.n; i++)
		set_property(j, "vial:unread", s->packages->unread.v[i]);
	return j;
}

/* Whether all that is in the image is listed. */
static vl_json *cyclonedx_compositions(const struct img_packages *l)
{
	vl_json *list = vl_json_new_arr(), *one = vl_json_new_obj(), *refs = vl_json_new_arr();

	set_str(one, "aggregate", l->unread.n ? "incomplete" : "unknown"); /* files of no package are not looked at */
	add_str(refs, "image");
	vl_json_set(one, "assemblies", refs);
	vl_json_add(list, one);
	return list;
}

static char *cyclonedx(const struct img_sbom *s)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *components = vl_json_new_arr();

	set_str(j, "bomFormat", "CycloneDX");
	set_str(j, "specVersion", "1.5");
	vl_json_set(j, "version", vl_json_new_int(1));
	vl_json_set(j, "metadata", cyclonedx_metadata(s));
	if (s->packages->os_id || s->packages->os_name)
		vl_json_add(components, cyclonedx_system(s->packages));
	for (size_t i = 0; i < s->packages->n; i++)
		vl_json_add(components, cyclonedx_component(s->packages, i));
	vl_json_set(j, "components", components);
	vl_json_set(j, "compositions", cyclonedx_compositions(s->packages));
	VL_FREE char *urn = urn_of(j);
	set_str(j, "serialNumber", urn);
	return vl_json_text(j, true);
}

/* ---- SPDX ---- */

#define SPDX_NOTHING "NOASSERTION"

static vl_json *spdx_package(const char *id, const char *name, const char *version)
{
	vl_json *j = vl_json_new_obj();

	set_str(j, "SPDXID", id);
	set_str(j, "name", name);
	set_str(j, "versionInfo", version);
	set_str(j, "downloadLocation", SPDX_NOTHING);
	vl_json_set(j, "filesAnalyzed", vl_json_new_bool(false));
	set_str(j, "licenseConcluded", SPDX_NOTHING);
	set_str(j, "licenseDeclared", SPDX_NOTHING); /* the packager's words are no expression of SPDX */
	set_str(j, "copyrightText", SPDX_NOTHING);
	return j;
}

static vl_json *spdx_of(const struct img_packages *l, const struct img_package *p, const char *id)
{
	VL_FREE char *purl = purl_of(l, p);
	vl_json *j = spdx_package(id, p->name, p->version), *refs = vl_json_new_arr(), *ref = vl_json_new_obj();

	set_str(ref, "referenceCategory", "PACKAGE-MANAGER");
	set_str(ref, "referenceType", "purl");
	set_str(ref, "referenceLocator", purl);
	vl_json_add(refs, ref);
	vl_json_set(j, "externalRefs", refs);
	if (p->license && *p->license) {
		VL_FREE char *words = vl_asprintf("declared as: %s", p->license);
		set_str(j, "licenseComments", words);
	}
	if (p->path) {
		VL_FREE char *where = vl_asprintf("found at /%s", p->path);
		set_str(j, "sourceInfo", where);
	}
	return j;
}

static void relate(vl_json *list, const char *from, const char *how, const char *to)
{
	vl_json *j = vl_json_new_obj();

	set_str(j, "spdxElementId", from);
	set_str(j, "relationshipType", how);
	set_str(j, "relatedSpdxElement", to);
	vl_json_add(list, j);
}

static vl_json *spdx_creation(const struct img_sbom *s)
{
	VL_FREE char *date = date_of(s->time), *tool = vl_asprintf("Tool: vial-%s", s->builder);
	vl_json *j = vl_json_new_obj(), *creators = vl_json_new_arr();

	add_str(creators, tool);
	set_str(j, "created", date);
	vl_json_set(j, "creators", creators);
	return j;
}

/* What the reader of the list must know about it; NULL = nothing. Returns new. */
static char *spdx_comment(const struct img_packages *l)
{
	VL_BUF struct vl_buf b = { 0 };

	for (size_t i = 0; i < l->unread.n; i++)
		vl_buf_addf(&b, "%s%s", i ? "; " : "Not read in full: ", l->unread.v[i]);
	return vl_steal(&b.data);
}

static void spdx_packages(const struct img_sbom *s, vl_json *packages, vl_json *relations)
{
	vl_json *image = spdx_package("SPDXRef-image", s->name, s->digest);

	set_str(image, "primaryPackagePurpose", "CONTAINER");
	vl_json_add(packages, image);
	relate(relations, "SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-image");
	if (s->packages->os_id || s->packages->os_name) {
		const struct img_packages *l = s->packages;
		vl_json *os = spdx_package("SPDXRef-operating-system", l->os_id ? l->os_id : l->os_name, l->os_version);
		set_str(os, "primaryPackagePurpose", "OPERATING-SYSTEM");
		set_str(os, "summary", l->os_name);
		vl_json_add(packages, os);
		relate(relations, "SPDXRef-image", "CONTAINS", "SPDXRef-operating-system");
	}
	for (size_t i = 0; i < s->packages->n; i++) {
		VL_FREE char *id = vl_asprintf("SPDXRef-package-%zu", i + 1);
		vl_json_add(packages, spdx_of(s->packages, &s->packages->v[i], id));
		relate(relations, "SPDXRef-image", "CONTAINS", id);
	}
}

static char *spdx(const struct img_sbom *s)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	vl_json *packages = vl_json_new_arr(), *relations = vl_json_new_arr();
	VL_FREE char *comment = spdx_comment(s->packages);

	set_str(j, "spdxVersion", "SPDX-2.3");
	set_str(j, "dataLicense", "CC0-1.0");
	set_str(j, "SPDXID", "SPDXRef-DOCUMENT");
	set_str(j, "name", s->name);
	vl_json_set(j, "creationInfo", spdx_creation(s));
	set_str(j, "comment", comment);
	spdx_packages(s, packages, relations);
	vl_json_set(j, "packages", packages);
	vl_json_set(j, "relationships", relations);
	VL_FREE char *urn = urn_of(j);
	set_str(j, "documentNamespace", urn);
	return vl_json_text(j, true);
}

char *img_sbom_text(const struct img_sbom *s, enum img_sbom_format format)
{
	return format == IMG_SBOM_SPDX_JSON ? spdx(s) : cyclonedx(s);
}
