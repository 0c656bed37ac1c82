#include "layer.h"

#include "tar.h"

#define WH ".wh."
#define WH_META ".wh..wh."
#define WH_OPAQUE ".wh..wh..opq"
#define MAX_XATTR_SIZE 65536 /* Linux XATTR_SIZE_MAX */

struct walk {
	const struct img_layer_reader *in;
	struct img_tar *tar;
	uint32_t seq; /* of the current entry, from 1 */
};

/* ---- one entry ---- */

/* Attributes that overlayfs would obey, and namespaces that squashfs cannot hold, stay out. */
static bool keep_xattr(const char *key)
{
	if (vl_prefix(key, "trusted.overlay.") || vl_prefix(key, "user.overlay."))
		return false;
	const char *name = strchr(key, '.');
	bool known = vl_prefix(key, "user.") || vl_prefix(key, "trusted.") || vl_prefix(key, "security.");
	return known && name[1];
}

static int read_xattrs(const struct img_tar_entry *e, struct img_entry *out, struct vl_err *err)
{
	if (!e->n_xattrs)
		return 0;
	out->xattrs = vl_alloc(sizeof *out->xattrs + e->n_xattrs * sizeof out->xattrs->a[0]);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct img_tar_xattr *x = &e->xattrs[i];
		if (!keep_xattr(x->key))
			continue;
		if (x->len > MAX_XATTR_SIZE || strlen(x->key) > IMG_MAX_NAME)
			return vl_fail(err, E2BIG, "an extended attribute is larger than Linux allows");
		out->xattrs->a[out->xattrs->n++] =
			(struct img_xattr){ vl_strdup(x->key), vl_memdup(x->value, x->len), x->len };
	}
	return 0;
}

static int read_attr(const struct img_tar_entry *e, struct img_attr *ret, struct vl_err *err)
{
	if (e->uid > UINT32_MAX - 1u || e->gid > UINT32_MAX - 1u)
		return vl_fail(err, ERANGE, "the owner %llu:%llu is not a user and group id",
			       (unsigned long long)e->uid, (unsigned long long)e->gid);
	if (e->major > 0xfff || e->minor > 0xfffff) /* the format has 12 and 20 bits, as Linux */
		return vl_fail(err, ERANGE, "the device number %llu:%llu is too large", (unsigned long long)e->major,
			       (unsigned long long)e->minor);
	*ret = (struct img_attr){
		.mode = (uint16_t)e->mode,
		.uid = (uint32_t)e->uid,
		.gid = (uint32_t)e->gid,
		.mtime = e->mtime < 0            ? 0
			 : e->mtime > UINT32_MAX ? UINT32_MAX
						 : (uint32_t)e->mtime,
		.major = (uint32_t)e->major,
		.minor = (uint32_t)e->minor,
	};
	return 0;
}

static bool has_meta_component(const char *path)
{
	for (const char *p = path; p; p = strchr(p, '/')) {
		p += *p == '/';
		if (vl_prefix(p, WH_META))
			return true;
	}
	return false;
}

/* ".wh." names: what they mean, and the path they speak of in place of their own. */
static int read_whiteout(struct img_entry *out, bool *ret_drop, struct vl_err *err)
{
	char *base = (char *)vl_basename(out->path);

	if (vl_streq(base, WH_OPAQUE)) {
		out->type = IMG_OPAQUE;
		base[base > out->path ? -1 : 0] = 0;
	} else if (has_meta_component(out->path)) {
		*ret_drop = true; /* left over by aufs: markers, never files */
	} else if (vl_prefix(base, WH)) {
		const char *name = base + strlen(WH);
		if (!*name || vl_streq(name, ".") || vl_streq(name, ".."))
			return vl_fail(err, EINVAL, "a whiteout that names nothing");
		out->type = IMG_WHITEOUT;
		memmove(base, name, strlen(name) + 1);
	}
	return 0;
}

static int read_target(const struct img_tar_entry *e, struct img_entry *out, struct vl_err *err)
{
	if (out->type == IMG_HARDLINK)
		return img_path_normal(e->link, &out->target, err);
	if (!*e->link || strlen(e->link) > IMG_MAX_PATH)
		return vl_fail(err, EINVAL, "a symbolic link without a usable target");
	out->target = vl_strdup(e->link);
	return 0;
}

static int read_entry(struct walk *w, const struct img_tar_entry *e, struct img_entry *out, bool *ret_drop,
		      struct vl_err *err)
{
	static const uint8_t types[] = { IMG_FILE,      IMG_HARDLINK, IMG_SYMLINK, IMG_CHAR_DEV,
					 IMG_BLOCK_DEV, IMG_DIR,      IMG_FIFO };
	int r = img_path_normal(e->path, &out->path, err);

	if (r < 0)
		return r;
	out->type = types[e->type - '0'];
	out->seq = w->seq;
	if ((r = read_whiteout(out, ret_drop, err)) < 0 || *ret_drop || out->type >= IMG_WHITEOUT)
		return r;
	if ((r = read_attr(e, &out->attr, err)) < 0 || (r = read_xattrs(e, out, err)) < 0)
		return r;
	if (out->type == IMG_HARDLINK || out->type == IMG_SYMLINK)
		return read_target(e, out, err);
	if (out->type == IMG_FILE)
		out->file = vl_alloc(sizeof *out->file);
	if (out->type == IMG_CHAR_DEV && !out->attr.major && !out->attr.minor) {
		/* overlayfs would take it for a whiteout as soon as it is mounted as a lower layer */
		vl_progress_warn(w->in->progress, "left out the device 0:0 at %s", out->path);
		*ret_drop = true;
	}
	return 0;
}

/* ---- content ---- */

static int store_content(struct walk *w, const struct img_tar_entry *e, struct img_file *f, struct vl_err *err)
{
	struct img_blocks *b = w->in->blocks;
	uint64_t pos = 0, off;
	const void *p;
	size_t n;
	int r;

	/* the stream bounds what is stored, but a hole costs nothing there */
	if (img_spend(&w->in->budget->file_bytes, e->size, "bytes in its files", err) < 0)
		return vl_wrap(err, "--max-size raises the limit");
	img_blocks_begin(b, f);
	while ((r = img_tar_data(w->tar, &p, &n, &off, err)) > 0) {
		if ((r = img_blocks_zeros(b, off - pos, err)) < 0 || (r = img_blocks_write(b, p, n, err)) < 0)
			return r;
		pos = off + n;
	}
	if (r == 0)
		r = img_blocks_zeros(b, e->size - pos, err);
	return r < 0 ? r : img_blocks_end(b, err);
}

/* ---- the walk ---- */

static int next_piece(void *arg, const void **ret, size_t *ret_len, struct vl_err *err)
{
	return img_stream_next(arg, ret, ret_len, err);
}

typedef int visit_fn(struct walk *w, const struct img_tar_entry *e, void *arg, struct vl_err *err);

static int visit_all(struct walk *w, visit_fn *visit, void *arg, struct vl_err *err)
{
	const struct img_layer_reader *in = w->in;
	const struct img_tar_entry *e;
	int r;

	while ((r = img_tar_next(w->tar, &e, err)) > 0) {
		w->seq++;
		vl_progress_step(in->progress, "Converting", in->done_before + img_stream_consumed(in->stream),
				 in->total);
		r = visit(w, e, arg, err);
		if (r < 0) {
			VL_FREE char *shown = vl_printable(e->path, strnlen(e->path, 200));
			return vl_wrap(err, "entry %u (%s)", w->seq, shown);
		}
	}
	return r;
}

static int walk(const struct img_layer_reader *in, visit_fn *visit, void *arg, struct vl_err *err)
{
	struct walk w = { .in = in, .tar = img_tar_new(next_piece, in->stream) };
	struct vl_err deeper;
	int r = visit_all(&w, visit, arg, err);

	img_tar_free(w.tar);
	/* Bytes behind the end count for the digests. And a blob that is not what its digest says
	 * is the better reason for a tar that makes no sense. */
	if (r == 0)
		r = img_stream_drain(in->stream, err);
	else if (r == -EBADMSG && img_stream_drain(in->stream, &deeper) == -EBADMSG)
		*err = deeper;
	return r;
}

static int spend_entry(struct img_budget *b, const struct img_entry *e, struct vl_err *err)
{
	uint64_t bytes = strlen(e->path) + (e->target ? strlen(e->target) : 0);
	int r = img_spend(&b->entries, 1, "files and folders", err);

	for (size_t i = 0; e->xattrs && i < e->xattrs->n; i++)
		bytes += strlen(e->xattrs->a[i].key) + e->xattrs->a[i].len;
	return r < 0 ? r : img_spend(&b->meta_bytes, bytes, "bytes of names and attributes", err);
}

static int visit_new(struct walk *w, const struct img_tar_entry *e, void *arg, struct vl_err *err)
{
	struct img_log *log = arg;
	struct img_entry *out = img_log_add(log);
	bool drop = false;
	int r = read_entry(w, e, out, &drop, err);

	if (r < 0 || (r = spend_entry(w->in->budget, out, err)) < 0)
		return r;
	if (drop) {
		img_log_drop_last(log);
		return 0;
	}
	if (!out->file || (w->in->newer && img_shadow_hides(w->in->newer, out->path)))
		return 0;
	return store_content(w, e, out->file, err);
}

int img_layer_read(const struct img_layer_reader *in, struct img_log *log, struct vl_err *err)
{
	return walk(in, visit_new, log, err);
}

struct refill {
	const struct img_log *log;
	size_t at;
};

static int visit_again(struct walk *w, const struct img_tar_entry *e, void *arg, struct vl_err *err)
{
	struct refill *f = arg;

	while (f->at < f->log->n && f->log->e[f->at].seq < w->seq)
		f->at++;
	if (f->at == f->log->n || f->log->e[f->at].seq != w->seq)
		return 0;
	struct img_file *file = f->log->e[f->at].file;
	return file && file->needed ? store_content(w, e, file, err) : 0;
}

int img_layer_refill(const struct img_layer_reader *in, const struct img_log *log, struct vl_err *err)
{
	struct refill f = { log, 0 };
	return walk(in, visit_again, &f, err);
}
