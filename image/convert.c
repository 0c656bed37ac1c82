/* The pipeline: layers newest first -> blocks on all cores; then the tree; then the tables. */
#include "convert.h"

#include "dir.h"
#include "layer.h"
#include "meta.h"
#include "provenance.h"
#include "squash.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <vial/sif.h>

struct work {
	const struct img_build_opts *o;
	struct img_source *src;
	const struct vl_progress *progress;
	struct oci_image image; /* a copy: the source owns it; empty for a directory */
	struct img_codec codec;
	uint32_t block_size;
	int64_t time;
	struct img_meta meta;
	struct sif_writer *sif;
	struct img_vault *vault; /* NULL = the image is not encrypted */
	struct img_squash *squash;
	struct img_blocks *blocks;
	struct img_log *logs; /* one a layer, lowest first; then vial's own */
	size_t n_logs;
	struct img_tree *tree;
	struct img_budget budget;
};

static void work_free(struct work *w)
{
	img_tree_free(w->tree);
	img_blocks_free(w->blocks);
	img_squash_free(w->squash);
	img_vault_free(w->vault);
	sif_writer_free(w->sif);
	for (size_t i = 0; i < w->n_logs; i++)
		img_log_free(&w->logs[i]);
	free(w->logs);
	img_meta_free(&w->meta);
	img_codec_free(&w->codec);
}

/* "2024-05-01T12:00:00.123Z" of an image config, as seconds; -1 when it is not that. */
static int64_t parse_created(const char *s)
{
	struct tm tm = { 0 };
	const char *rest = s ? strptime(s, "%Y-%m-%dT%H:%M:%S", &tm) : NULL;
	long long t = rest ? (long long)timegm(&tm) : -1;
	int h, m;
	char sign;

	if (rest && *rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (rest && sscanf(rest, "%c%2d:%2d", &sign, &h, &m) == 3 && (sign == '+' || sign == '-'))
		t -= (sign == '+' ? 1 : -1) * (h * 3600 + m * 60);
	return t < 0 ? -1 : t;
}

static int64_t source_time(const struct work *w)
{
	struct stat st;
	int64_t t;

	if (w->o->time >= 0)
		return w->o->time;
	if (!w->src->oci)
		return fstat(w->src->dirfd, &st) == 0 && st.st_mtime > 0 ? st.st_mtime : 0;
	t = parse_created(vl_json_str(w->image.config, "created"));
	return t < 0 ? 0 : t;
}

/* An id that says "same source, same options": RFC 9562 version 8 over their digests. */
static void make_uuid(const struct work *w, uint8_t ret[16])
{
	VL_BUF struct vl_buf b = { 0 };
	VL_FREE char *compress = img_codec_words(w->o->compress);
	uint8_t sha[32];

	vl_buf_addf(&b, "vial %s %s %s %s %u %d %s\n", w->o->builder, w->src->bootstrap, w->src->from, compress,
		    w->block_size, w->o->owner, w->o->arch);
	vl_buf_addf(&b, "%s %s\n", w->image.manifest.hex, w->image.config_text ? w->image.config_text : "");
	for (size_t i = 0; i < w->image.n_layers; i++)
		vl_buf_addf(&b, "%s\n", w->image.layers[i].diff_id.hex);
	vl_buf_addf(&b, "%lld\n", (long long)w->time);
	vl_sha256(b.data, b.len, sha);
	memcpy(ret, sha, 16);
	ret[6] = (uint8_t)(0x80 | (ret[6] & 0x0f));
	ret[8] = (uint8_t)(0x80 | (ret[8] & 0x3f));
}

static int add_object(struct work *w, uint32_t type, const char *name, const char *text, struct vl_err *err)
{
	struct sif_object o = { .type = type, .group = SIF_DEFAULT_GROUP, .name = name };
	return text ? sif_writer_add(w->sif, &o, text, strlen(text), err) : 0;
}

/* Header, the small objects, and the place where the squashfs begins. */
static int begin_sif(struct work *w, int fd, uint64_t *ret_base, struct vl_err *err)
{
	struct img_source_info info = { w->src->bootstrap, w->src->from,  w->src->oci ? &w->image : NULL,
					w->o->arch,        w->o->builder, w->time };
	struct sif_new how = { .time = w->time };
	struct sif_object part = { .type = SIF_PARTITION,
				   .group = SIF_DEFAULT_GROUP,
				   .fs = w->o->secret ? SIF_FS_GOCRYPTFS : SIF_FS_SQUASHFS,
				   .part = SIF_PART_PRIMARY,
				   .arch = w->o->arch };
	int r;

	make_uuid(w, how.uuid);
	img_meta_make(&info, &w->meta);
	VL_FREE char *provenance = img_provenance(w->o, w->src, how.uuid, w->time);
	if ((r = sif_writer_new(fd, &how, &w->sif, err)) < 0 ||
	    (r = add_object(w, SIF_DEFFILE, "", w->meta.deffile, err)) < 0 ||
	    (r = add_object(w, SIF_JSON, "inspect-metadata.json", w->meta.inspect, err)) < 0 ||
	    (r = add_object(w, SIF_JSON, "oci-config.json", w->meta.oci_config, err)) < 0 ||
	    (r = add_object(w, SIF_JSON, "vial-build.json", w->meta.build, err)) < 0 ||
	    (r = add_object(w, SIF_JSON, SIF_PROVENANCE_NAME, provenance, err)) < 0)
		return r;
	return sif_writer_stream(w->sif, &part, ret_base, err);
}

static int open_layer(struct work *w, size_t i, struct img_stream **ret, struct vl_err *err)
{
	const struct oci_layer *l = &w->image.layers[i];
	struct oci_blob *blob;
	int r = oci_source_file(w->src->oci, l->name, &blob, err);

	if (r < 0)
		return r;
	return img_stream_open(blob, l, w->o->max_size, ret, err);
}

static int read_layer(struct work *w, size_t i, struct img_shadow *newer, uint64_t done, uint64_t total, bool again,
		      struct vl_err *err)
{
	struct img_layer_reader in = { .newer = newer,
				       .blocks = w->blocks,
				       .budget = &w->budget,
				       .progress = w->progress,
				       .done_before = done,
				       .total = total };
	int r = open_layer(w, i, &in.stream, err);

	if (r == 0) {
		r = again ? img_layer_refill(&in, &w->logs[i], err) : img_layer_read(&in, &w->logs[i], err);
		img_stream_close(in.stream);
	}
	return r < 0 ? vl_wrap(err, "layer %zu of %zu", i + 1, w->image.n_layers) : 0;
}

/* Newest first, so that nothing is compressed that a newer layer hides. */
static int read_layers(struct work *w, struct vl_err *err)
{
	struct img_shadow newer = { 0 };
	uint64_t total = 0, done = 0;
	int r = 0;

	img_source_will_read(w->src);
	for (size_t i = 0; i < w->image.n_layers; i++)
		total += w->image.layers[i].size == UINT64_MAX ? 0 : w->image.layers[i].size;
	for (size_t i = w->image.n_layers; r == 0 && i-- > 0;) {
		r = read_layer(w, i, &newer, done, total, false, err);
		if (r == 0 && i)
			img_shadow_add_log(&newer, &w->logs[i]);
		done += w->image.layers[i].size == UINT64_MAX ? 0 : w->image.layers[i].size;
	}
	img_shadow_free(&newer);
	return r;
}

/* Files that were skipped because their name is hidden, and that another name still needs. */
static bool mark_needed(struct work *w)
{
	bool any = false;

	for (size_t i = 0; i < w->tree->names.cap; i++) {
		const struct img_node *n = w->tree->names.slots[i].p;
		if (n && n->inode->type == IMG_FILE && !n->inode->e->file->stored)
			any = n->inode->e->file->needed = true;
	}
	return any;
}

static int refill_layers(struct work *w, struct vl_err *err)
{
	for (size_t i = w->image.n_layers; i-- > 0;) {
		bool any = false;
		for (size_t j = 0; j < w->logs[i].n && !any; j++)
			any = w->logs[i].e[j].file && w->logs[i].e[j].file->needed;
		int r = any ? read_layer(w, i, NULL, 0, 0, true, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

static int merge(struct work *w, struct vl_err *err)
{
	size_t n = w->n_logs - 1;

	w->tree = img_tree_new(&w->budget);
	for (size_t i = 0; i < n; i++) {
		int r = img_tree_apply(w->tree, &w->logs[i], err);
		if (r < 0)
			return n > 1 ? vl_wrap(err, "layer %zu of %zu", i + 1, n) : r;
	}
	if (mark_needed(w)) {
		int r = refill_layers(w, err);
		if (r < 0)
			return r;
	}
	bool keep = !w->src->oci || img_meta_is_own(vl_json_obj(w->image.config, "config"), w->tree);
	return img_meta_apply(&w->meta, keep, w->time, w->tree, w->blocks, &w->logs[n], err);
}

static int finish(struct work *w, uint64_t *ret_size, struct vl_err *err)
{
	const struct img_fragment *frags;
	uint64_t end;
	uint32_t n;
	int r = img_blocks_finish(w->blocks, &end, &frags, &n, err);

	if (r < 0)
		return r;
	if (w->o->owner == IMG_OWNER_ROOT)
		img_squash_owner(w->squash, 0, 0);
	r = img_squash_end(w->squash, w->tree, end, frags, n, ret_size, err);
	return r == 0 && w->vault ? img_vault_end(w->vault, *ret_size, ret_size, err) : r;
}

/* The secret, wrapped for the key that opens the partition written last. */
static int add_message(struct work *w, struct vl_err *err)
{
	struct sif_object o;

	if (!w->o->message)
		return 0;
	sif_message_object(sif_writer_id(w->sif), &o);
	return sif_writer_add(w->sif, &o, w->o->message, strlen(w->o->message), err);
}

static int prepare(struct work *w, int fd, struct vl_err *err)
{
	struct img_place place = { .fd = fd };
	uint64_t first;
	int r;

	w->image = w->src->image;
	w->time = source_time(w);
	w->n_logs = (w->src->oci ? w->image.n_layers : 1) + 1;
	w->logs = vl_alloc(w->n_logs * sizeof *w->logs);
	if ((r = img_codec_new(w->o->compress, w->block_size, &w->codec, err)) < 0 ||
	    (r = begin_sif(w, fd, &place.base, err)) < 0)
		return r;
	uint32_t mtime = (uint32_t)VL_MIN(w->time, (int64_t)UINT32_MAX);
	if (w->o->secret && (r = img_vault_begin(fd, place.base, w->o->secret, strlen(w->o->secret), mtime, &w->vault,
						 &place, err)) < 0)
		return r;
	if ((r = img_squash_begin(&place, &w->codec, w->block_size, mtime, &w->squash, &first, err)) < 0)
		return r;
	return img_blocks_new(&place, first, &w->codec, w->block_size, w->o->threads, &w->blocks, err);
}

int img_convert(const struct img_build_opts *o, struct img_source *src, int fd, const struct vl_progress *progress,
		struct img_build_stats *ret, struct vl_err *err)
{
	VL_CLEANUP(work_free)
	struct work w = { .o = o,
			  .src = src,
			  .progress = progress,
			  .block_size = o->block_size,
			  .budget = img_budget_new(o->max_size) };
	uint64_t size;
	int r;

	if ((src->oci && (r = oci_image_load(src->oci, &src->ref, o->arch, &src->image, err)) < 0) ||
	    (r = prepare(&w, fd, err)) < 0)
		return r;
	if (src->oci)
		r = read_layers(&w, err);
	else
		r = img_dir_read(src->dirfd, src->from, w.blocks, progress, o->made_of != NULL, &w.logs[0], err);
	if (r < 0 || (r = merge(&w, err)) < 0 || (r = finish(&w, &size, err)) < 0 ||
	    (r = sif_writer_stream_end(w.sif, size, err)) < 0 || (r = add_message(&w, err)) < 0 ||
	    (r = sif_writer_end(w.sif, err)) < 0)
		return r;
	const struct img_blocks_stats *s = img_blocks_stats(w.blocks);
	*ret = (struct img_build_stats){ .bytes_in = s->in,
					 .bytes_out = s->out,
					 .entries = w.tree->n_nodes,
					 .layers = w.image.n_layers,
					 .dup_files = s->dup_tails + s->dup_runs };
	return 0;
}
