/* From a source to an image file, or to an open image: what build, pull, fetch and exec of a URI do. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

/* On the file system that is written to, which the error is to name. */
static bool no_room(int r)
{
	return r == -ENOSPC || r == -EDQUOT;
}

int cmd_fetch_image(struct cmd_ctx *c, const struct cmd_making *m, struct img_fetched *ret, struct vl_err *err)
{
	struct cmd_net *net = NULL;
	struct img_store *store = NULL;
	struct vl_progress progress;
	struct cmd_progress bar;
	int r = cmd_net_new(c, m->net, &net, err);

	if (r == 0 && (m->net->disable_cache || (r = cmd_store_open(c, &store, err)) == 0)) {
		m->opts->net = cmd_net_get(net);
		cmd_progress_start(&bar, c, &progress);
		r = img_fetch(m->opts, store, &progress, ret, err);
		cmd_progress_end(&bar);
		m->opts->net = NULL;
		if (store && no_room(r))
			vl_wrap(err, "the cache in %s", img_store_dir(store));
	}
	img_store_free(store);
	cmd_net_free(net);
	return r;
}

/* Straight into the file. */
static int build(struct cmd_ctx *c, const struct cmd_making *m, struct vl_newfile *file, struct img_fetched *ret,
		 struct vl_err *err)
{
	struct cmd_net *net = NULL;
	struct vl_progress progress;
	struct cmd_progress bar;
	int r = cmd_net_new(c, m->net, &net, err);

	if (r < 0)
		return r;
	m->opts->net = cmd_net_get(net);
	cmd_progress_start(&bar, c, &progress);
	r = img_build(m->opts, file->fd, &progress, &ret->stats, err);
	cmd_progress_end(&bar);
	cmd_net_free(net);
	if (no_room(r))
		vl_wrap(err, "%s", m->out);
	if (r < 0)
		return r;
	ret->fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
	memcpy(ret->digest, ret->stats.digest, sizeof ret->digest);
	return 0;
}

/* A first word before the network may keep us waiting. */
static bool announce(struct cmd_ctx *c, const char *source)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	struct vl_err ignored;

	if (oci_ref_parse(source, &ref, &ignored) < 0 || !oci_ref_is_remote(&ref))
		return false;
	VL_FREE char *name = oci_ref_name(&ref);
	vl_logf(&c->log, VL_INFO, "Fetching %s", name);
	return true;
}

static void report_json(const char *out, uint64_t size, const struct img_fetched *f)
{
	VL_JSON vl_json *j = vl_json_new_obj();

	vl_json_set(j, "image", vl_json_new_str(out));
	vl_json_set(j, "size", vl_json_new_int((int64_t)size));
	if (*f->digest)
		vl_json_set(j, "sourceDigest", vl_json_new_str(f->digest));
	if (!f->found) { /* an image that was there already has nothing to tell about its making */
		vl_json_set(j, "layers", vl_json_new_int((int64_t)f->stats.layers));
		vl_json_set(j, "entries", vl_json_new_int((int64_t)f->stats.entries));
		vl_json_set(j, "contentBytes", vl_json_new_int((int64_t)f->stats.bytes_in));
		vl_json_set(j, "storedBytes", vl_json_new_int((int64_t)f->stats.bytes_out));
		vl_json_set(j, "downloadedBytes", vl_json_new_int((int64_t)f->stats.downloaded));
	}
	vl_json_set(j, "cached", vl_json_new_bool(f->found));
	VL_FREE char *text = vl_json_text(j, false);
	puts(text);
}

static void report(struct cmd_ctx *c, const char *out, const struct img_fetched *f, bool json)
{
	const struct img_build_stats *s = &f->stats;
	struct stat st = { 0 };
	char made[16], in[16], net[16], memory[16], disk[16];

	if (fstat(f->fd, &st) < 0)
		st.st_size = 0;
	if (json) {
		report_json(out, (uint64_t)st.st_size, f);
		return;
	}
	vl_human_size((uint64_t)st.st_size, made);
	vl_human_size(s->bytes_in, in);
	vl_human_size(s->downloaded, net);
	vl_human_size(s->peak_memory, memory);
	vl_human_size(s->downloaded + (uint64_t)st.st_size, disk); /* layers wait on disk until they are converted */
	if (f->found)
		vl_logf(&c->log, VL_INFO, "%s: %s, from the cache", out, made);
	else if (s->entries)
		vl_logf(&c->log, VL_INFO, "%s: %s from %s in %llu files and folders", out, made, in,
			(unsigned long long)s->entries);
	else
		vl_logf(&c->log, VL_INFO, "%s: %s", out, made);
	vl_logf(&c->log, VL_VERBOSE, "source %s", *f->digest ? f->digest : "without a digest");
	if (!f->found)
		vl_logf(&c->log, VL_VERBOSE,
			"layers: %llu, files stored once for others: %llu, downloaded: %s; at most %s of memory and %s "
			"of "
			"disk",
			(unsigned long long)s->layers, (unsigned long long)s->dup_files, net, memory, disk);
}

int cmd_make_failed(struct cmd_ctx *c, int r, const struct img_fetched *f, const struct vl_err *err)
{
	if (r != -EINTR)
		return cmd_fail(c, err);
	vl_logf(&c->log, VL_ERROR, "%s", err->text);
	return 128 + f->stats.signal;
}

/* Before the image is fetched, which costs more. */
static int ask_source(struct cmd_ctx *c, const struct cmd_making *m, struct img_cosign *ret, int *ret_signal,
		      struct vl_err *err)
{
	struct cmd_net *net = NULL;
	int r;

	if (!m->cosign || (!m->cosign->keys.n && !m->cosign->copy))
		return 0;
	if ((r = cmd_net_new(c, m->net, &net, err)) == 0)
		r = cmd_cosign_fetch(c, m->cosign, cmd_net_get(net), m->opts, ret, ret_signal, err);
	cmd_net_free(net);
	return r;
}

static int make(struct cmd_ctx *c, const struct cmd_making *m, struct img_fetched *ret, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile file = VL_NEWFILE_INIT;
	VL_CLEANUP(img_cosign_free) struct img_cosign cosign = { 0 };
	int r = vl_newfile_open(&file, m->out, 0755, m->force,
				err); /* what is wrong with OUT is said before the work */

	if (r < 0)
		return r;
	bool remote = announce(c, m->opts->source);
	if ((r = ask_source(c, m, &cosign, &ret->stats.signal, err)) < 0)
		return r;
	/* the store would keep what is to be encrypted */
	if (m->opts->secret || m->net->disable_cache || (m->remote_only && !remote))
		r = build(c, m, &file, ret, err);
	else if ((r = cmd_fetch_image(c, m, ret, err)) == 0)
		/* a copy, since whoever has the file may sign or change it */
		r = vl_copy_file(ret->fd, file.fd, m->out, err);
	if (r == 0)
		r = img_cosign_add(&cosign, file.fd, cmd_now(), err);
	return r < 0 ? r : vl_newfile_commit(&file, m->force, err);
}

int cmd_make_image(struct cmd_ctx *c, const struct cmd_making *m, bool json)
{
	VL_CLEANUP(img_fetched_free) struct img_fetched f = { .fd = -1 };
	struct vl_err err = { 0 };
	int r = make(c, m, &f, &err);

	if (r < 0)
		return cmd_make_failed(c, r, &f, &err);
	report(c, m->out, &f, json);
	return 0;
}
