#include "commands.h"

#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

#define O(f) offsetof(struct build_opts, f)
const struct opt cmd_build_options[] = {
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace OUT when it exists", "FORCE", 0 },
	{ 0, "arch", OPT_STR, O(arch), "ARCH", "take the image for this architecture (amd64, arm64, ...)", "ARCH", 0 },
	{ 0, "compress", OPT_STR, O(compress), "CODEC[:LEVEL]", "zstd (default, level 3), gzip, xz, lz4, lzo or none",
	  "COMPRESS", 0 },
	{ 0, "block-size", OPT_STR, O(block_size), "SIZE", "squashfs block, 4K to 1M (default 128K)", "BLOCK_SIZE", 0 },
	{ 0, "threads", OPT_U64, O(threads), "N", "compressing threads (default: the CPUs this process may use)", NULL,
	  0 },
	{ 0, "max-size", OPT_STR, O(max_size), "SIZE", "what one layer may unpack to (default 256G)", "MAX_SIZE", 0 },
	{ 0, "owner", OPT_STR, O(owner), "keep|root",
	  "owners as in the source, or all root (default: keep; root for a directory read without privileges)", "OWNER",
	  0 },
	{ 0, "mksquashfs-args", OPT_LINES, O(mksquashfs), "ARGS",
	  "words of mksquashfs: -comp, -Xcompression-level, -b, -processors, -all-root", "MKSQUASHFS_ARGS", 0 },
	{ 0, "reproducible", OPT_FLAG, O(reproducible), NULL, "accepted: the same source always gives the same bytes",
	  "REPRODUCIBLE", 0 },
	{ 0, "json", OPT_FLAG, O(json), NULL, "print the result as JSON", NULL, 0 },
	{ 0, "disable-cache", OPT_FLAG, O(ignored), NULL, "", "DISABLE_CACHE", OPT_HIDDEN },
	{ 0, "no-cleanup", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	{ 0, "fix-perms", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	{ 'T', "notest", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

/* mksquashfs words that mean something here; the rest is named, not silently dropped. */
static int translate(struct build_opts *o, struct img_build_opts *b, struct vl_buf *codec, struct vl_err *err)
{
	const char *level = NULL;
	uint64_t n;

	for (size_t i = 0; i < o->mksquashfs.n; i++) {
		char *save = NULL, *text = o->mksquashfs.v[i];
		for (char *w = strtok_r(text, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
			bool known = vl_streq(w, "-comp") || vl_streq(w, "-Xcompression-level") || vl_streq(w, "-b") ||
				     vl_streq(w, "-processors") || vl_streq(w, "-mem");
			char *v = known ? strtok_r(NULL, " \t", &save) : NULL;
			if (known && !v)
				return vl_fail(err, EINVAL, "--mksquashfs-args: %s needs a value", w);
			if (vl_streq(w, "-comp"))
				vl_buf_adds(codec, v);
			else if (vl_streq(w, "-Xcompression-level"))
				level = v;
			else if (vl_streq(w, "-b") && vl_parse_size(v, 1 << 20, &n) == 0)
				b->block_size = (uint32_t)n;
			else if (vl_streq(w, "-processors") && vl_parse_u64(v, 1, 4096, &n) == 0)
				b->threads = (unsigned)n;
			else if (vl_streq(w, "-all-root") || vl_streq(w, "-root-owned"))
				b->owner = IMG_OWNER_ROOT;
			else if (!vl_streq(w, "-mem") && !vl_streq(w, "-noappend") && !vl_streq(w, "-no-progress") &&
				 !vl_streq(w, "-quiet"))
				return vl_fail(err, EINVAL, "--mksquashfs-args: '%s%s%s' means nothing here", w,
					       v ? " " : "", v ? v : "");
		}
	}
	if (level)
		vl_buf_addf(codec, "%s:%s", codec->len ? "" : "gzip", level);
	return 0;
}

static int read_options(struct build_opts *o, const char *source, struct img_build_opts *b, struct vl_buf *codec,
			struct vl_err *err)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	struct stat st;
	uint64_t n;
	int r;

	*b = (struct img_build_opts){ .source = source,
				      .builder = cmd_version(),
				      .arch = o->arch,
				      .threads = (unsigned)VL_MIN(o->threads, 4096u),
				      .time = -1 };
	if (stat(source, &st) == 0 && S_ISDIR(st.st_mode) && geteuid() != 0)
		b->owner = IMG_OWNER_ROOT;
	if ((r = translate(o, b, codec, err)) < 0)
		return r;
	b->compress = o->compress ? o->compress : codec->len ? codec->data : NULL;
	if (o->block_size) {
		if (vl_parse_size(o->block_size, 1 << 20, &n) < 0)
			return vl_fail(err, EINVAL, "--block-size takes 4K to 1M, not '%s'", o->block_size);
		b->block_size = (uint32_t)n;
	}
	if (o->max_size && vl_parse_size(o->max_size, UINT64_MAX, &b->max_size) < 0)
		return vl_fail(err, EINVAL, "--max-size takes a size such as 64G, not '%s'", o->max_size);
	if (o->owner && !vl_streq(o->owner, "keep") && !vl_streq(o->owner, "root"))
		return vl_fail(err, EINVAL, "--owner is keep or root, not '%s'", o->owner);
	if (o->owner)
		b->owner = vl_streq(o->owner, "root") ? IMG_OWNER_ROOT : IMG_OWNER_KEEP;
	if (epoch && *epoch) {
		if (vl_parse_u64(epoch, 0, UINT32_MAX, &n) < 0)
			return vl_fail(err, EINVAL, "SOURCE_DATE_EPOCH is seconds since 1970, not '%s'", epoch);
		b->time = (int64_t)n;
	}
	return 0;
}

static void report(struct cmd_ctx *c, const char *out, uint64_t size, const struct img_build_stats *s, bool json)
{
	char in[16], made[16];

	if (json) {
		VL_JSON vl_json *j = vl_json_new_obj();
		vl_json_set(j, "image", vl_json_new_str(out));
		vl_json_set(j, "size", vl_json_new_int((int64_t)size));
		if (*s->digest)
			vl_json_set(j, "sourceDigest", vl_json_new_str(s->digest));
		vl_json_set(j, "layers", vl_json_new_int((int64_t)s->layers));
		vl_json_set(j, "entries", vl_json_new_int((int64_t)s->entries));
		vl_json_set(j, "contentBytes", vl_json_new_int((int64_t)s->bytes_in));
		vl_json_set(j, "storedBytes", vl_json_new_int((int64_t)s->bytes_out));
		VL_FREE char *text = vl_json_text(j, false);
		puts(text);
		return;
	}
	vl_human_size(s->bytes_in, in);
	vl_human_size(size, made);
	vl_logf(&c->log, VL_INFO, "%s: %s from %s in %llu files and folders", out, made, in,
		(unsigned long long)s->entries);
	vl_logf(&c->log, VL_VERBOSE, "%llu layers, %llu files stored once for others, source %s",
		(unsigned long long)s->layers, (unsigned long long)s->dup_files,
		*s->digest ? s->digest : "without a digest");
}

int cmd_build_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct build_opts *o = opts;
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_BUF struct vl_buf codec = { 0 };
	struct img_build_opts b;
	struct img_build_stats stats = { 0 };
	struct vl_progress progress;
	struct cmd_progress bar;
	struct vl_err err = { 0 };
	struct stat st = { 0 };

	(void)self, (void)argc;
	if (read_options(o, argv[1], &b, &codec, &err) < 0)
		return cmd_usage(c, "%s", err.text);
	if (vl_newfile_open(&f, argv[0], 0755, o->force, &err) < 0)
		return cmd_fail(c, &err);
	cmd_progress_start(&bar, c, &progress);
	int r = img_build(&b, f.fd, &progress, &stats, &err);
	cmd_progress_end(&bar);
	if (r == 0)
		r = fstat(f.fd, &st) < 0 ? vl_fail_sys(&err, errno, "cannot stat %s", argv[0])
					 : vl_newfile_commit(&f, o->force, &err);
	if (r == -EINTR) {
		vl_newfile_abort(&f);
		vl_logf(&c->log, VL_ERROR, "%s", err.text);
		return 128 + stats.signal;
	}
	if (r < 0)
		return cmd_fail(c, &err);
	report(c, argv[0], (uint64_t)st.st_size, &stats, o->json);
	return 0;
}
