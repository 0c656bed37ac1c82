/* An object oci-config.json proves nothing: builders of definition files store that of their base image too, beside a
 * runscript and an environment of their own, which an export must not lose. */
#include "export_meta.h"

#include "meta.h"
#include "unsquash.h"

#include <strings.h>

#define D ".singularity.d"
#define MAX_SCRIPT (1u << 20) /* generated ones are a few KiB; a larger one is nobody's conversion */
#define MAX_DEFFILE (1u << 20)

enum { RUN, ENV_CONFIG, ENV_BUILD, N_TEXTS };
static const char *const texts[N_TEXTS] = { D "/runscript", D "/env/10-docker2singularity.sh",
					    D "/env/90-environment.sh" };
/* What conversions put into env/; another file there sets something that no config knows. */
static const char *const envs[] = { "01-base.sh",        "10-docker2singularity.sh",
				    "90-environment.sh", "94-appsbase.sh",
				    "95-apps.sh",        "99-base.sh",
				    "99-runtimevars.sh" };

struct scan {
	struct vl_buf text[N_TEXTS]; /* data NULL: not there, or too large */
	struct vl_buf *now;          /* whose content comes */
	bool folder, more_env, run_action, runscript;
};

static void scan_free(struct scan *s)
{
	for (size_t i = 0; i < N_TEXTS; i++)
		vl_buf_free(&s->text[i]);
}

static bool is_known_env(const char *name)
{
	for (size_t i = 0; i < VL_COUNT(envs); i++)
		if (vl_streq(name, envs[i]))
			return true;
	return false;
}

static int scan_entry(void *arg, const struct img_unsquash_entry *e, struct vl_err *err)
{
	struct scan *s = arg;
	const char *env = vl_prefix(e->path, D "/env/");

	(void)err;
	if (e->type == IMG_DIR && vl_streq(e->path, D))
		s->folder = true;
	if (e->type == IMG_DIR)
		return !*e->path || vl_streq(e->path, D) || vl_streq(e->path, D "/env") ||
				       vl_streq(e->path, D "/actions")
			       ? 0
			       : IMG_UNSQUASH_SKIP;
	s->more_env |= env && !is_known_env(env);
	s->run_action |= vl_streq(e->path, D "/actions/run");
	s->runscript |= vl_streq(e->path, texts[RUN]);
	for (size_t i = 0; i < N_TEXTS; i++)
		if (e->type == IMG_FILE && e->size <= MAX_SCRIPT && vl_streq(e->path, texts[i])) {
			s->now = &s->text[i];
			vl_buf_adds(s->now, "");
			return 0;
		}
	return IMG_UNSQUASH_SKIP;
}

static int scan_data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct scan *s = arg;

	(void)err;
	vl_buf_add(s->now, p, n);
	return 0;
}

static bool text_is(const struct vl_buf *b, const char *want)
{
	return b->data && b->len == strlen(want) && memcmp(b->data, want, b->len) == 0;
}

static bool is_vials(const struct scan *s, const vl_json *config)
{
	VL_FREE char *run = img_meta_runscript(config), *env = img_meta_environment(config);

	return text_is(&s->text[RUN], run) && text_is(&s->text[ENV_CONFIG], env) &&
	       text_is(&s->text[ENV_BUILD], IMG_META_NO_ENVIRONMENT);
}

/* ---- conversions by other builders: told by the definition, since their scripts change with every release ---- */

static bool only_comments(const struct vl_buf *b)
{
	const char *s = b->data;

	if (!s || strlen(s) != b->len)
		return false;
	for (; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		const char *first = s + strspn(s, " \t\r");
		if (*first && *first != '\n' && *first != '#')
			return false;
	}
	return true;
}

/* "bootstrap: docker": the line's value is one of the sources that are converted. */
static bool is_oci_bootstrap(const char *line, size_t n)
{
	static const char *const agents[] = { "docker", "docker-archive", "docker-daemon", "oci", "oci-archive" };
	VL_FREE char *s = vl_strndup(line, n);
	char *value = strchr(s, ':');

	if (!value || strncasecmp(s, "bootstrap", (size_t)(value - s)) || value - s != 9)
		return false;
	value += 1 + strspn(value + 1, " \t");
	value[strcspn(value, " \t\r")] = 0;
	for (size_t i = 0; i < VL_COUNT(agents); i++)
		if (strcasecmp(value, agents[i]) == 0)
			return true;
	return false;
}

/* A header and no sections: nothing was added to what was converted. */
static bool is_plain_definition(const char *text)
{
	bool oci = false;

	for (const char *s = text; *s; s += strcspn(s, "\n"), s += *s == '\n') {
		s += strspn(s, " \t");
		if (*s == '%')
			return false;
		oci |= is_oci_bootstrap(s, strcspn(s, "\n"));
	}
	return oci;
}

static int is_converted_by_others(const struct sif_image *sif, const struct scan *s, bool *ret, struct vl_err *err)
{
	const struct sif_descr *d = sif_by_name(sif, SIF_DEFFILE, "");
	VL_FREE char *text = NULL;
	size_t len;

	if (!d || d->size > MAX_DEFFILE || !s->text[RUN].data || !only_comments(&s->text[ENV_BUILD]))
		return 0;
	int r = sif_read_object(sif, d, MAX_DEFFILE, &text, &len, err);
	if (r == 0)
		*ret = strlen(text) == len && is_plain_definition(text);
	return r;
}

/* The folder was kept by an earlier export: the config only leads to it. */
static bool leads_to_folder(const vl_json *config)
{
	const char *program = vl_json_string(vl_json_at(vl_json_arr(config, "Entrypoint"), 0));
	return program && vl_prefix(program, "/" D "/");
}

int img_export_meta_read(const struct sif_image *sif, const struct sif_descr *root, const vl_json *config,
			 uint64_t max_size, struct img_export_meta *ret, struct vl_err *err)
{
	VL_CLEANUP(scan_free) struct scan s = { 0 };
	struct img_unsquash_visitor v = { .entry = scan_entry, .data = scan_data, .arg = &s };
	struct img_export_meta m = { 0 };
	int r = img_unsquash(sif->fd, root->off, root->size, max_size, &v, err);

	if (r < 0)
		return r;
	m.entrypoint = s.run_action ? "/" D "/actions/run" : s.runscript ? "/" D "/runscript" : NULL;
	if (s.folder && !s.more_env && !leads_to_folder(config)) {
		m.converted = is_vials(&s, config);
		if (!m.converted && config && (r = is_converted_by_others(sif, &s, &m.converted, err)) < 0)
			return r;
	}
	*ret = m;
	return 0;
}
