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

/* What the words of a --bind or --mount say of one mount. */
struct wish {
	char *type, *src, *dst;
	char *image_src;
	unsigned flags;
	uint32_t object;
	bool image; /* src is an image file */
	uint64_t size;
};

static void free_wish(struct wish *w)
{
	free(w->type);
	free(w->src);
	free(w->dst);
	free(w->image_src);
}

static bool is_option(const char *w)
{
	return vl_streq(w, "ro") || vl_streq(w, "rw") || vl_streq(w, "noexec") || vl_prefix(w, "image-src=") ||
	       vl_prefix(w, "id=");
}

static int read_object(const char *v, uint32_t *ret)
{
	uint64_t n;
	int r = vl_parse_u64(v, 1, UINT32_MAX, &n);

	if (r == 0)
		*ret = (uint32_t)n;
	return r;
}

/* image-src=PATH and id=N mean the same in both spellings. 1: it was one of them. */
static int take_image_option(struct wish *w, const char *o, const char *spec, struct vl_err *err)
{
	const char *v;

	if ((v = vl_prefix(o, "image-src="))) {
		if (*v != '/')
			return vl_fail(err, EINVAL, "bind %s: image-src=PATH is an absolute path in the image", spec);
		free(w->image_src);
		w->image_src = vl_path_clean(v);
	} else if ((v = vl_prefix(o, "id="))) {
		if (read_object(v, &w->object) < 0)
			return vl_fail(err, EINVAL, "bind %s: id=N is the number of an object of the image", spec);
	} else {
		return 0;
	}
	w->image = true;
	return 1;
}

static int take_option(struct wish *w, const char *o, const char *spec, struct vl_err *err)
{
	if (vl_streq(o, "ro"))
		w->flags |= PLAN_RO;
	if (vl_streq(o, "noexec"))
		w->flags |= PLAN_NOEXEC;
	if (!*o || vl_streq(o, "ro") || vl_streq(o, "noexec") ||
	    vl_streq(o, "rw")) /* rw is the default; it does not undo a "ro" beside it */
		return 0;
	int r = take_image_option(w, o, spec, err);
	return r ? VL_MIN(r, 0)
		 : vl_fail(err, EINVAL,
			   "bind %s: unknown option '%s'; known are ro, rw, noexec, image-src=PATH and id=N", spec, o);
}

/* An absolute place that is not the root itself. Returns new or NULL. */
static char *place_of(const char *dst, const char *spec, struct vl_err *err)
{
	if (*dst != '/') {
		vl_fail(err, EINVAL, "bind %s: the destination '%s' must be an absolute path", spec, dst);
		return NULL;
	}
	VL_FREE char *clean = vl_path_clean(dst);
	if (!vl_streq(clean, "/"))
		return vl_steal(&clean);
	vl_fail(err, EINVAL, "bind %s: nothing can be mounted on the root of the container", spec);
	return NULL;
}

static int add_bind(struct plan *p, const struct wish *w, const char *spec, struct vl_err *err)
{
	if (!w->src || !*w->src)
		return vl_fail(err, EINVAL, "bind '%s' names no source", spec);
	VL_FREE char *from = vl_path_absolute(w->src);
	/* the words as given, not the cleaned ones: "link/.." is for the kernel to resolve */
	VL_FREE char *real = realpath(w->src, NULL);
	if (!real)
		return vl_fail_sys(err, errno, "bind source %s", from);
	VL_FREE char *dst = place_of(w->dst && *w->dst ? w->dst : from, spec, err);
	if (!dst)
		return -err->code;
	if (!w->image) {
		ctr_plan_add(p, PLAN_BIND, real, dst, w->flags | (vl_prefix(real, "/dev/") ? PLAN_DEVICES : 0u));
		return 0;
	}
	ctr_plan_add(p, PLAN_IMAGE, w->image_src ? w->image_src : "/", dst, w->flags | PLAN_RO);
	p->mounts[p->n_mounts - 1].image_path = vl_steal(&real);
	p->mounts[p->n_mounts - 1].image_object = w->object;
	return 0;
}

/* SRC[:DST[:OPTIONS]]. *ret_options: there is a second colon, so that options may follow. */
static int read_bind(struct wish *w, const char *spec, bool *ret_options, struct vl_err *err)
{
	const char *rest = spec;
	int r = 0;

	w->src = cut_field(&rest, ':');
	w->dst = cut_field(&rest, ':');
	*ret_options = rest != NULL;
	while (rest && r == 0) {
		VL_FREE char *o = cut_field(&rest, ',');
		r = take_option(w, o, spec, err);
	}
	return r;
}

int ctr_plan_parse_binds(struct plan *p, const struct vl_strv *words, struct vl_err *err)
{
	for (size_t i = 0; i < words->n;) {
		VL_CLEANUP(free_wish) struct wish w = { 0 };
		const char *spec = words->v[i++];
		bool options;
		int r = read_bind(&w, spec, &options, err);
		while (r == 0 && options && i < words->n && is_option(words->v[i])) {
			const char *word = words->v[i++];
			while (word && r == 0) { /* the escapes are still in it */
				VL_FREE char *o = cut_field(&word, ',');
				r = take_option(&w, o, spec, err);
			}
		}
		if (r < 0 || (r = add_bind(p, &w, spec, err)) < 0)
			return r;
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

/* "ro", "readonly=true": a word that is true by itself. 1: it was this one. */
static int take_flag(const char *field, const char *word, bool *ret)
{
	const char *v = vl_prefix(field, word);

	if (!v || (*v && *v != '='))
		return 0;
	if (!*v || vl_streq(v, "=true") || vl_streq(v, "=1"))
		*ret = true;
	else if (vl_streq(v, "=false") || vl_streq(v, "=0"))
		*ret = false;
	else
		return 0;
	return 1;
}

/* 1: the field is one that has a text. */
static int take_text(struct wish *w, const char *field)
{
	static const struct {
		const char *key;
		size_t off;
	} keys[] = {
		{ "type=", offsetof(struct wish, type) },       { "src=", offsetof(struct wish, src) },
		{ "source=", offsetof(struct wish, src) },      { "dst=", offsetof(struct wish, dst) },
		{ "destination=", offsetof(struct wish, dst) }, { "target=", offsetof(struct wish, dst) },
	};

	for (size_t i = 0; i < VL_COUNT(keys); i++) {
		const char *v = vl_prefix(field, keys[i].key);
		if (!v)
			continue;
		char **at = (char **)((char *)w + keys[i].off);
		free(*at);
		*at = vl_strdup(v);
		return 1;
	}
	return 0;
}

static int take_field(struct wish *w, const char *field, const char *spec, struct vl_err *err)
{
	bool ro = w->flags & PLAN_RO, nonested = w->flags & PLAN_NONESTED, rw = false;
	const char *v;
	int r;

	if (!*field || take_text(w, field))
		return 0;
	if (take_flag(field, "ro", &ro) || take_flag(field, "readonly", &ro) || take_flag(field, "rw", &rw) ||
	    take_flag(field, "nonested", &nonested)) {
		w->flags = (ro ? PLAN_RO : 0u) | (nonested ? PLAN_NONESTED : 0u);
		return 0;
	}
	if ((v = vl_prefix(field, "size=")) || (v = vl_prefix(field, "tmpfs-size=")))
		return vl_parse_size(v, INT64_MAX, &w->size) == 0 && w->size
			       ? 0
			       : vl_fail(err, EINVAL, "mount %s: '%s' is not a size; write 64M or 1G", spec, v);
	if (vl_prefix(field, "bind-propagation="))
		return vl_fail(err, EINVAL, "mount %s: bind-propagation cannot be chosen; mounts of the host come in",
			       spec);
	if ((r = take_image_option(w, field, spec, err)))
		return VL_MIN(r, 0);
	return vl_fail(err, EINVAL, "mount %s: unknown field '%s'", spec, field);
}

static int add_tmpfs(struct plan *p, const struct wish *w, const char *spec, struct vl_err *err)
{
	if (w->src || w->image)
		return vl_fail(err, EINVAL, "mount %s: a tmpfs has no source", spec);
	VL_FREE char *dst = place_of(w->dst, spec, err);
	if (!dst)
		return -err->code;
	ctr_plan_add(p, PLAN_TMPFS, NULL, dst, w->flags);
	p->mounts[p->n_mounts - 1].size = w->size;
	return 0;
}

int ctr_plan_parse_mount(struct plan *p, const char *spec, struct vl_err *err)
{
	VL_CLEANUP(free_wish) struct wish w = { 0 };
	const char *rest = spec;
	int r;

	while (rest) {
		VL_FREE char *field = cut_csv(&rest);
		if ((r = take_field(&w, field, spec, err)) < 0)
			return r;
	}
	if (!w.type)
		w.type = vl_strdup("bind");
	if (!vl_streq(w.type, "bind") && !vl_streq(w.type, "tmpfs"))
		return vl_fail(err, EINVAL, "mount %s: type is '%s'; known are type=bind and type=tmpfs", spec, w.type);
	if (!w.dst || *w.dst != '/')
		return vl_fail(err, EINVAL, "mount %s: dst=PATH with an absolute path is missing", spec);
	if (vl_streq(w.type, "tmpfs"))
		return add_tmpfs(p, &w, spec, err);
	if (w.size)
		return vl_fail(err, EINVAL, "mount %s: only a tmpfs has a size", spec);
	return w.src ? add_bind(p, &w, spec, err) : vl_fail(err, EINVAL, "mount %s: src=PATH is missing", spec);
}
