/* squashfs -> tar -> gzip in one pass. */
#include "export.h"

#include "export_meta.h"
#include "gzip_out.h"
#include "tar.h"
#include "tarball.h"
#include "unsquash.h"

#define META_DIR ".singularity.d"
#define LINK_COST 64 /* bytes beside the name, for each file of several names */
/* Bytes of all files when nobody sets a limit: what could be built can be pushed, and whoever built it had the limit
 * they chose. The space of $TMPDIR, where the layer is made, ends it long before. */
#define NO_LIMIT (16ull << 40)
/* What the attributes of one file may take in its pax header, which readers of layers (this one too) refuse above
 * IMG_TAR_MAX_META: two names and a few numbers are there besides. */
#define MAX_ATTRIBUTES (IMG_TAR_MAX_META - 16384)
#define ATTRIBUTE_COST 32 /* "1234567 SCHILY.xattr." "=" "\n", and some */

struct link {
	uint64_t ref;
	char path[];
};

struct export
{
	const struct vl_progress *progress;
	struct img_gzip *gzip;
	struct img_tarball *tar;
	struct img_table links; /* of struct link: files of several names, by inode */
	struct img_budget budget;
	bool strip; /* leave out what conversion added */
	uint64_t entries, bytes;
	unsigned sockets, whiteouts, attributes, large; /* left out: said once each */
};

static void export_free(struct export *x)
{
	img_tarball_free(x->tar);
	img_gzip_free(x->gzip);
	for (size_t i = 0; i < x->links.cap; i++)
		free(x->links.slots[i].p);
	img_table_free(&x->links);
}

/* ---- what goes into the layer ---- */

static bool is_added(const struct img_unsquash_entry *e)
{
	static const char *const links[] = { ".exec", ".run", ".shell", ".test", "environment", "singularity" };

	if (vl_streq(e->path, META_DIR))
		return true;
	for (size_t i = 0; e->type == IMG_SYMLINK && i < VL_COUNT(links); i++)
		if (vl_streq(e->path, links[i]))
			return vl_prefix(e->target + (*e->target == '/'), META_DIR "/");
	return false;
}

/* In a layer such a name deletes another one, so a file cannot have it. */
static bool is_whiteout(const char *path)
{
	const char *slash = strrchr(path, '/');
	return vl_prefix(slash ? slash + 1 : path, ".wh.");
}

/* Layers of overlayfs are marked by the first two. In a pax header '=' ends a key, libarchive writes other bytes than
 * these as %XX, which nobody reads back, and an empty value takes the attribute away. */
static bool attribute_fits(const struct img_xattr *a)
{
	for (const char *s = a->key; *s; s++)
		if (*s < 33 || *s > 126 || *s == '=' || *s == '%')
			return false;
	return a->len && !vl_prefix(a->key, "trusted.overlay.") && !vl_prefix(a->key, "user.overlay.");
}

static void filter_attributes(struct export *x, struct img_unsquash_entry *e, struct img_xattrs **ret)
{
	size_t n = e->xattrs ? e->xattrs->n : 0, room = MAX_ATTRIBUTES, odd = 0;
	struct img_xattrs *kept = *ret = vl_alloc(sizeof *kept + n * sizeof *kept->a);

	for (size_t i = 0; i < n; i++) {
		const struct img_xattr *a = &e->xattrs->a[i];
		size_t cost = strlen(a->key) + a->len + ATTRIBUTE_COST;
		if (!attribute_fits(a)) {
			odd++;
		} else if (cost <= room) {
			kept->a[kept->n++] = *a; /* borrowed */
			room -= cost;
		}
	}
	if (odd && !x->attributes++)
		vl_progress_warn(x->progress, "extended attributes that a layer cannot hold are left out");
	if (kept->n + odd < n && !x->large++) {
		VL_FREE char *path = vl_printable(e->path, strlen(e->path));
		vl_progress_warn(x->progress,
				 "/%s has more extended attributes than a layer can hold: some are left out", path);
	}
	e->xattrs = kept;
}

static const struct link *find_link(const struct export *x, uint64_t ref)
{
	size_t pos = SIZE_MAX;

	for (const struct link *l; (l = img_table_next(&x->links, img_mix(ref + 1), &pos));)
		if (l->ref == ref)
			return l;
	return NULL;
}

static int remember(struct export *x, const struct img_unsquash_entry *e, struct vl_err *err)
{
	size_t n = strlen(e->path) + 1;
	int r = img_spend(&x->budget.meta_bytes, n + LINK_COST, "names of linked files", err);

	if (r < 0)
		return r;
	struct link *l = vl_alloc(sizeof *l + n);
	l->ref = e->ref;
	memcpy(l->path, e->path, n);
	img_table_add(&x->links, img_mix(e->ref + 1), l);
	return 0;
}

/* Says so, the first time or, of devices, each time as building does. */
static bool is_left_out(struct export *x, const struct img_unsquash_entry *e)
{
	if (x->strip && is_added(e))
		return true;
	if (e->type == IMG_SOCKET) {
		if (!x->sockets++)
			vl_progress_warn(x->progress, "sockets are left out: a layer holds none");
		return true;
	}
	if (is_whiteout(e->path)) {
		if (!x->whiteouts++)
			vl_progress_warn(
				x->progress,
				"files whose names begin with .wh. are left out: in a layer they delete others");
		return true;
	}
	if (e->type == IMG_CHAR_DEV && !e->attr.major && !e->attr.minor) {
		VL_FREE char *path = vl_printable(e->path, strlen(e->path));
		vl_progress_warn(x->progress, "left out the device 0:0 at %s", path);
		return true;
	}
	return false;
}

static int take_entry(void *arg, const struct img_unsquash_entry *in, struct vl_err *err)
{
	struct export *x = arg;
	struct img_unsquash_entry e = *in;
	VL_FREE struct img_xattrs *kept = NULL;
	const struct link *first = NULL;
	int r;

	if (is_left_out(x, &e))
		return IMG_UNSQUASH_SKIP;
	if (e.type != IMG_DIR && e.nlink > 1) {
		first = find_link(x, e.ref);
		if (!first && (r = remember(x, &e, err)) < 0)
			return r;
	}
	x->entries++;
	filter_attributes(x, &e, &kept);
	r = img_tarball_add(x->tar, &e, first ? first->path : NULL, err);
	return r < 0 ? r : first ? IMG_UNSQUASH_SKIP : 0;
}

static int take_data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct export *x = arg;
	x->bytes += n;
	vl_progress_step(x->progress, "Exporting", x->bytes, 0);
	return img_tarball_data(x->tar, p, n, err);
}

static int to_gzip(void *arg, const void *p, size_t n, struct vl_err *err)
{
	return img_gzip_write(arg, p, n, err);
}

/* ---- the whole ---- */

static int read_stored(const struct sif_image *sif, vl_json **ret, struct vl_err *err)
{
	const struct sif_descr *d = sif_by_name(sif, SIF_JSON, "oci-config.json");
	VL_FREE char *text = NULL;
	size_t len;

	if (!d)
		return 0;
	int r = sif_read_object(sif, d, VL_JSON_MAX, &text, &len, err);
	if (r < 0)
		return r;
	if ((r = vl_json_parse(text, len, "oci-config.json of the image", ret, err)) < 0)
		return r;
	return vl_json_is_object(*ret) ? 0 : vl_fail(err, EINVAL, "oci-config.json of the image is no JSON object");
}

static int find_root(const struct sif_image *sif, const struct sif_descr **ret, struct vl_err *err)
{
	int r = sif_primary(sif, ret, err);

	if (r < 0)
		return r;
	uint32_t fs = sif_part_fs(*ret);
	if (fs == SIF_FS_LUKS_SQUASHFS || fs == SIF_FS_GOCRYPTFS)
		return vl_fail(err, ENOTSUP,
			       "the image is encrypted (%s), so no OCI image can be made of it; push it to oras://",
			       sif_fs_name(fs));
	if (fs != SIF_FS_SQUASHFS)
		return vl_fail(err, ENOTSUP, "its file system is %s; an OCI image can be made of squashfs only",
			       sif_fs_name(fs));
	for (size_t i = 0; i < sif->n; i++)
		if (sif->d[i].type == SIF_PARTITION && sif_part_type(&sif->d[i]) == SIF_PART_OVERLAY)
			return vl_fail(
				err, ENOTSUP,
				"object %u is an overlay, which would be lost in an OCI image; push it to oras://",
				sif->d[i].id);
	return 0;
}

static int write_layer(struct export *x, const struct sif_image *sif, const struct sif_descr *root, uint64_t max_size,
		       struct img_gzip_sums *ret, struct vl_err *err)
{
	struct img_unsquash_visitor v = { .entry = take_entry, .data = take_data, .arg = x };
	int r;

	if ((r = img_tarball_new(to_gzip, x->gzip, &x->tar, err)) < 0 ||
	    (r = img_unsquash(sif->fd, root->off, root->size, max_size, &v, err)) < 0 ||
	    (r = img_tarball_end(x->tar, err)) < 0)
		return r;
	return img_gzip_end(x->gzip, ret, err);
}

int img_export(const struct sif_image *sif, unsigned threads, uint64_t max_size, int fd,
	       const struct vl_progress *progress, struct img_exported *ret, struct vl_err *err)
{
	VL_CLEANUP(export_free) struct export x = { .progress = progress };
	VL_JSON vl_json *stored = NULL;
	const struct sif_descr *root;
	struct img_export_meta meta;
	struct img_gzip_sums sums;
	struct img_exported e = { .diff_id.algo = "sha256", .layer.algo = "sha256" };
	int r;

	if (!max_size)
		max_size = NO_LIMIT;
	x.budget = img_budget_new(max_size);
	if ((r = find_root(sif, &root, err)) < 0 || (r = read_stored(sif, &stored, err)) < 0)
		return r;
	if ((r = img_export_meta_read(sif, root, img_export_config_of(stored), max_size, &meta, err)) < 0)
		return r;
	x.strip = meta.converted;
	if (x.strip)
		meta.entrypoint = NULL;
	else if (meta.entrypoint)
		vl_progress_warn(progress,
				 "the image has scripts of its own in /.singularity.d: it is kept, and %s is what the "
				 "OCI image starts",
				 meta.entrypoint);
	if ((r = img_gzip_new(fd, threads, &x.gzip, err)) < 0 ||
	    (r = write_layer(&x, sif, root, max_size, &sums, err)) < 0)
		return r;
	vl_hex(sums.plain, sizeof sums.plain, e.diff_id.hex);
	vl_hex(sums.packed, sizeof sums.packed, e.layer.hex);
	e.size = sums.packed_size;
	e.entries = x.entries;
	e.bytes = x.bytes;
	e.config = img_export_config(sif, stored, meta.entrypoint, &e.diff_id);
	*ret = e;
	return 0;
}

void img_exported_free(struct img_exported *e)
{
	vl_freep(&e->config);
}
