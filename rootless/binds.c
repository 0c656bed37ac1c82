#include "rootless.h"

#include <sys/stat.h>

/* Cuts the next field off *s at an unescaped `sep`; "\:" and "\," stand for themselves. NULL at
 * the end. Returns new. */
static char *cut_field(const char **s, char sep)
{
	VL_BUF struct vl_buf b = { 0 };

	if (!*s)
		return NULL;
	vl_buf_adds(&b, "");
	for (;; (*s)++) {
		if (**s == '\\' && ((*s)[1] == ':' || (*s)[1] == ',')) {
			(*s)++;
		} else if (!**s || **s == sep) {
			*s = **s ? *s + 1 : NULL;
			return vl_steal(&b.data);
		}
		vl_buf_add(&b, *s, 1);
	}
}

static bool is_option(const char *w)
{
	return vl_streq(w, "ro") || vl_streq(w, "rw") || vl_prefix(w, "image-src=") || vl_prefix(w, "id=");
}

static int apply_option(const char *w, const char *spec, unsigned *flags, struct vl_err *err)
{
	if (vl_streq(w, "ro"))
		*flags |= PLAN_RO;
	else if (vl_streq(w, "rw")) /* the default; it does not undo a "ro" beside it */
		return 0;
	else if (is_option(w))
		return vl_fail(err, ENOTSUP, "bind %s: binding out of an image file (%s) is not supported yet", spec,
			       w);
	else
		return vl_fail(err, EINVAL, "bind %s: unknown option '%s'; known are ro and rw", spec, w);
	return 0;
}

static int add_bind(struct plan *p, const char *src, const char *dst, unsigned flags, const char *spec,
		    struct vl_err *err)
{
	if (!*src)
		return vl_fail(err, EINVAL, "bind '%s' names no source", spec);
	VL_FREE char *from = vl_path_absolute(src);
	/* the words as given, not the cleaned ones: "link/.." is for the kernel to resolve */
	VL_FREE char *real = realpath(src, NULL);
	if (!real)
		return vl_fail_sys(err, errno, "bind source %s", from);
	if (!dst || !*dst)
		dst = from;
	if (*dst != '/')
		return vl_fail(err, EINVAL, "bind %s: the destination '%s' must be an absolute path", spec, dst);
	VL_FREE char *clean = vl_path_clean(dst);
	if (vl_streq(clean, "/"))
		return vl_fail(err, EINVAL, "bind %s: nothing can be mounted on the root of the container", spec);
	ctr_plan_add(p, PLAN_BIND, real, clean, flags | (vl_prefix(real, "/dev/") ? PLAN_DEVICES : 0u));
	return 0;
}

int ctr_plan_parse_binds(struct plan *p, const struct vl_strv *words, struct vl_err *err)
{
	size_t last = SIZE_MAX; /* the bind whose options may go on in the next word */

	for (size_t i = 0; i < words->n; i++) {
		const char *spec = words->v[i], *rest = spec;
		unsigned flags = 0;
		int r;
		if (last != SIZE_MAX && is_option(spec)) {
			if ((r = apply_option(spec, p->mounts[last].dst, &p->mounts[last].flags, err)) < 0)
				return r;
			continue;
		}
		VL_FREE char *src = cut_field(&rest, ':');
		VL_FREE char *dst = cut_field(&rest, ':');
		bool options = rest != NULL;
		while (rest) {
			VL_FREE char *o = cut_field(&rest, ',');
			if (*o && (r = apply_option(o, spec, &flags, err)) < 0)
				return r;
		}
		if ((r = add_bind(p, src, dst, flags, spec, err)) < 0)
			return r;
		last = options ? p->n_mounts - 1 : SIZE_MAX;
	}
	return 0;
}

/* One field of a CSV line: "..." quotes, "" is a quote inside. NULL at the end. Returns new. */
static char *cut_csv(const char **s)
{
	VL_BUF struct vl_buf b = { 0 };
	bool quoted = false;

	if (!*s)
		return NULL;
	vl_buf_adds(&b, "");
	for (;; (*s)++) {
		if (**s == '"' && quoted && (*s)[1] == '"') {
			vl_buf_add(&b, (*s)++, 1);
		} else if (**s == '"') {
			quoted = !quoted;
		} else if (!**s || (**s == ',' && !quoted)) {
			*s = **s ? *s + 1 : NULL;
			return vl_steal(&b.data);
		} else {
			vl_buf_add(&b, *s, 1);
		}
	}
}

struct fields {
	char *type, *src, *dst;
	unsigned flags;
};

static void free_fields(struct fields *f)
{
	free(f->type);
	free(f->src);
	free(f->dst);
}

static int take_field(struct fields *f, const char *w, const char *spec, struct vl_err *err)
{
	static const struct {
		const char *key;
		size_t off;
	} keys[] = {
		{ "type=", offsetof(struct fields, type) },       { "src=", offsetof(struct fields, src) },
		{ "source=", offsetof(struct fields, src) },      { "dst=", offsetof(struct fields, dst) },
		{ "destination=", offsetof(struct fields, dst) }, { "target=", offsetof(struct fields, dst) },
	};

	for (size_t i = 0; i < VL_COUNT(keys); i++) {
		const char *v = vl_prefix(w, keys[i].key);
		if (!v)
			continue;
		char **at = (char **)((char *)f + keys[i].off);
		free(*at);
		*at = vl_strdup(v);
		return 0;
	}
	if (vl_streq(w, "ro") || vl_streq(w, "readonly") || vl_streq(w, "readonly=true"))
		f->flags |= PLAN_RO;
	else if (vl_prefix(w, "image-src=") || vl_prefix(w, "id="))
		return vl_fail(err, ENOTSUP, "mount %s: binding out of an image file (%s) is not supported yet", spec,
			       w);
	else if (*w && !vl_streq(w, "rw") && !vl_streq(w, "readonly=false") && !vl_streq(w, "nonested"))
		return vl_fail(err, EINVAL, "mount %s: unknown field '%s'", spec, w);
	return 0;
}

int ctr_plan_parse_mount(struct plan *p, const char *spec, struct vl_err *err)
{
	VL_CLEANUP(free_fields) struct fields f = { 0 };
	const char *rest = spec;
	int r;

	while (rest) {
		VL_FREE char *w = cut_csv(&rest);
		if ((r = take_field(&f, w, spec, err)) < 0)
			return r;
	}
	if (!f.type)
		f.type = vl_strdup("bind");
	if (!vl_streq(f.type, "bind") && !vl_streq(f.type, "tmpfs"))
		return vl_fail(err, EINVAL, "mount %s: type is '%s'; known are type=bind and type=tmpfs", spec, f.type);
	if (!f.dst || *f.dst != '/')
		return vl_fail(err, EINVAL, "mount %s: dst=PATH with an absolute path is missing", spec);
	if (vl_streq(f.type, "bind"))
		return f.src ? add_bind(p, f.src, f.dst, f.flags, spec, err)
			     : vl_fail(err, EINVAL, "mount %s: src=PATH is missing", spec);
	VL_FREE char *clean = vl_path_clean(f.dst);
	if (vl_streq(clean, "/"))
		return vl_fail(err, EINVAL, "mount %s: nothing can be mounted on the root of the container", spec);
	ctr_plan_add(p, PLAN_TMPFS, NULL, clean, f.flags);
	return 0;
}
