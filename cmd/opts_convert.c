/* How an image is made: options that build, pull and fetch share. */
#include "commands.h"

#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

/* OS/ARCH[/VARIANT]: the best variant is chosen anyway. */
static int read_platform(struct convert_opts *o, struct vl_err *err)
{
	const char *arch = vl_prefix(o->arch, "linux/");

	if (!arch || !*arch || *arch == '/')
		return vl_fail(err, EINVAL, "--platform is linux/ARCH, for example linux/arm64, not '%s'", o->arch);
	snprintf(o->of_platform, sizeof o->of_platform, "%.*s", (int)strcspn(arch, "/"), arch);
	o->arch = o->of_platform;
	return 0;
}

/* mksquashfs words that mean something here; the rest is named, not silently dropped. */
static int translate(struct convert_opts *o, struct img_build_opts *b, struct vl_buf *codec, struct vl_err *err)
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
			if (vl_streq(w, "-comp")) {
				codec->len = 0; /* the last one counts */
				vl_buf_adds(codec, v);
				level = NULL;
			} else if (vl_streq(w, "-Xcompression-level"))
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

int cmd_convert_opts_read(struct convert_opts *o, const char *source, struct img_build_opts *b, struct vl_buf *codec,
			  struct vl_err *err)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	struct stat st;
	uint64_t n;
	int r;

	if (o->arch && strchr(o->arch, '/') && (r = read_platform(o, err)) < 0)
		return r;
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
