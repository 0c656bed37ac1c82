/* A SIF with its squashfs in another order. A child without privileges reads the one and writes the other
 * (child.h), as for a conversion: an image comes from outside. */
#include "optimize.h"

#include "child.h"

#define COPY_CHUNK (1u << 20)

struct job {
	const struct img_optimize_opts *o;
	int fd;
};

/* ---- the squashfs ---- */

static void hot_inodes(struct optimizing *w, struct img_tree *t, struct img_inode **ret)
{
	for (size_t i = 0; i < w->n_first; i++)
		ret[i] = img_tree_find(t, w->log.e[w->first[i]].path)->inode;
}

static void count_files(struct optimizing *w)
{
	for (size_t i = 0; i < w->n_first; i++)
		w->stats.files += w->log.e[w->first[i]].file != NULL;
}

static void tree_freep(struct img_tree **t)
{
	if (*t)
		img_tree_free(*t);
}

static void squash_freep(struct img_squash **s)
{
	img_squash_free(*s);
}

/* Tables are not packed: at a start they are read in small pieces, and each would have to be unpacked. */
static int write_squash(struct optimizing *w, uint64_t *ret_first, uint64_t *ret_size, struct vl_err *err)
{
	VL_CLEANUP(img_codec_free) struct img_codec raw = { 0 };
	VL_CLEANUP(squash_freep) struct img_squash *s = NULL;
	VL_CLEANUP(tree_freep) struct img_tree *t = NULL;
	VL_FREE struct img_inode **first = NULL;
	const struct img_place place = { .fd = w->out, .base = w->out_base };
	int r;

	if ((r = img_codec_new("none", w->h->block_size, &raw, err)) < 0 ||
	    (r = img_squash_again(&place, &raw, w->h, &s, ret_first, err)) < 0 ||
	    (r = img_optimize_data(w, *ret_first, err)) < 0)
		return r;
	t = img_tree_new(&w->budget);
	if ((r = img_tree_apply(t, &w->log, err)) < 0)
		return r;
	first = vl_alloc((w->n_first + 1) * sizeof(struct img_inode *));
	hot_inodes(w, t, first);
	img_squash_first(s, first, w->n_first);
	return img_squash_end(s, t, w->end, w->frags, w->n_frags, ret_size, err);
}

/* ---- the SIF ---- */

static bool is_left_out(const struct sif_descr *d)
{
	VL_FREE char *name = sif_name(d);

	/* a hash tree is of the old squashfs; signing again makes one of the new */
	return d->type == SIF_SIGNATURE || (d->type == SIF_JSON && vl_streq(name, SIF_PROFILE_NAME)) ||
	       (d->type == SIF_GENERIC && (vl_streq(name, SIF_TREE_NAME) || vl_streq(name, SIF_TREE_BLOCKS_NAME)));
}

/* Ids follow slots, so that what is left out changes those behind it. */
static uint32_t new_link(const struct sif_image *sif, uint32_t link)
{
	uint32_t id = 0;

	if (!link || link & SIF_GROUP_MASK)
		return link;
	for (size_t i = 0; i < sif->n; i++) {
		id += !is_left_out(&sif->d[i]);
		if (sif->d[i].id == link)
			return is_left_out(&sif->d[i]) ? 0 : id;
	}
	return 0;
}

static int copy_object(struct optimizing *w, const struct sif_descr *d, uint64_t to, struct vl_err *err)
{
	VL_FREE char *buf = vl_alloc(COPY_CHUNK);

	for (uint64_t at = 0; at < d->size;) {
		size_t n = (size_t)VL_MIN(d->size - at, (uint64_t)COPY_CHUNK);
		int r = vl_pread_full(w->in, buf, n, d->off + at, "the image", err);
		if (r < 0 || (r = vl_pwrite_full(w->out, buf, n, to + at, "the new image", err)) < 0)
			return r;
		at += n;
	}
	return 0;
}

struct place { /* of the squashfs in the new image: what the profile says */
	uint64_t first, size;
};

static int write_object(struct optimizing *w, struct sif_writer *sif, const struct sif_descr *d, struct place *ret,
			struct vl_err *err)
{
	VL_FREE char *name = vl_strndup((const char *)d->name, sizeof d->name - 1);
	char arch[4];
	struct sif_object o = {
		.type = d->type, .group = d->group, .link = new_link(w->o->sif, d->link), .name = name
	};
	uint64_t off, size = d->size;

	if (d->type == SIF_PARTITION) {
		sif_part_arch(d, arch);
		o.fs = sif_part_fs(d);
		o.part = sif_part_type(d);
		o.arch = sif_arch_name(arch);
	} else {
		memcpy(o.extra, d->extra, sizeof o.extra);
	}
	int r = sif_writer_stream(sif, &o, &off, err);
	if (r < 0)
		return r;
	if (d == w->o->partition) {
		w->out_base = off;
		if ((r = write_squash(w, &ret->first, &size, err)) == 0)
			ret->size = size;
	} else {
		r = copy_object(w, d, off, err);
	}
	return r < 0 ? r : sif_writer_stream_end(sif, size, err);
}

static void add_extent(vl_json *list, uint64_t off, uint64_t len)
{
	vl_json *pair = vl_json_new_arr();

	vl_json_add(pair, vl_json_new_int((int64_t)off));
	vl_json_add(pair, vl_json_new_int((int64_t)len));
	vl_json_add(list, pair);
}

static int add_profile(const struct optimizing *w, struct sif_writer *sif, const struct place *at, struct vl_err *err)
{
	VL_JSON vl_json *j = vl_json_new_obj();
	struct sif_object o = { .type = SIF_JSON, .group = w->o->partition->group, .name = SIF_PROFILE_NAME };
	vl_json *command = vl_json_new_arr(), *extents = vl_json_new_arr();

	for (char *const *a = w->o->command; *a; a++)
		vl_json_add(command, vl_json_new_str(*a));
	if (w->stats.region)
		add_extent(extents, at->first, w->stats.region);
	add_extent(extents, w->end, at->size - w->end); /* the tables */
	vl_json_set(j, "version", vl_json_new_int(1));
	vl_json_set(j, "command", command);
	vl_json_set(j, "files", vl_json_new_int((int64_t)w->stats.files));
	vl_json_set(j, "blocks", vl_json_new_int((int64_t)w->stats.blocks));
	vl_json_set(j, "bytes", vl_json_new_int((int64_t)w->stats.bytes));
	vl_json_set(j, "extents", extents);
	VL_FREE char *text = vl_json_text(j, false);
	if (strlen(text) > SIF_PROFILE_MAX) /* a long command: it is there for people only */
		return vl_fail(err, E2BIG, "the command is too long to be kept with the profile");
	return sif_writer_add(sif, &o, text, strlen(text), err);
}

static void writer_freep(struct sif_writer **s)
{
	sif_writer_free(*s);
}

static int write_sif(struct optimizing *w, struct vl_err *err)
{
	VL_CLEANUP(writer_freep) struct sif_writer *sif = NULL;
	const struct sif_image *old = w->o->sif;
	struct sif_new how = { .time = old->h.created };
	struct place at = { 0 };
	char launch[sizeof old->h.launch] = "";
	uint32_t kept = 0;
	int r;

	memcpy(launch, old->h.launch, sizeof launch - 1);
	memcpy(how.uuid, old->h.uuid, sizeof how.uuid);
	how.launch = launch;
	for (size_t i = 0; i < old->n; i++) {
		kept += !is_left_out(&old->d[i]);
		w->stats.signatures += old->d[i].type == SIF_SIGNATURE;
	}
	how.slots = (uint32_t)VL_MAX(VL_MIN(old->h.total, (int64_t)SIF_MAX_DESCRIPTORS), (int64_t)kept + 1);
	if ((r = sif_writer_new(w->out, &how, &sif, err)) < 0)
		return r;
	for (size_t i = 0; i < old->n; i++)
		if (!is_left_out(&old->d[i]) && (r = write_object(w, sif, &old->d[i], &at, err)) < 0)
			return r;
	if ((r = add_profile(w, sif, &at, err)) < 0)
		return r;
	return sif_writer_end(sif, err);
}

/* ---- the child ---- */

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	const struct job *j = arg;
	VL_CLEANUP(img_optimize_free)
	struct optimizing w = {
		.o = j->o, .progress = p, .in = j->o->sif->fd, .in_base = j->o->partition->off, .out = j->fd
	};
	int r;

	(void)sock;
	if ((r = vl_drop_privileges(err)) < 0 || (r = img_optimize_read(&w, err)) < 0 ||
	    (r = img_optimize_choose(&w, err)) < 0)
		return r;
	count_files(&w);
	if ((r = write_sif(&w, err)) < 0)
		return r;
	memcpy(result, &w.stats, sizeof w.stats);
	return 0;
}

int img_optimize(const struct img_optimize_opts *opts, int fd, const struct vl_progress *progress,
		 struct img_optimize_stats *ret, struct vl_err *err)
{
	struct img_optimize_opts o = *opts;
	struct job j = { &o, fd };
	struct img_optimize_stats stats = { 0 };
	struct img_child child = { .name = "optimizing",
				   .interrupted = "nothing was written",
				   .work = work,
				   .arg = &j,
				   .result_size = sizeof stats };

	if (!o.limit)
		o.limit = IMG_DEFAULT_HOT;
	int r = img_child_run(&child, progress, &stats, &stats.signal, err);
	*ret = stats;
	return r;
}
