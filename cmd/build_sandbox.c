/* `build --sandbox`: an image as a directory. It is made beside its place under a hidden name, and appears whole. */
#include "run.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <vial/image.h>

struct sandbox {
	struct cmd_ctx *c;
	const struct build_opts *o;
	struct action_image image;
	struct img_fetched fetched;
	int signal;
};

static void sandbox_free(struct sandbox *s)
{
	cmd_action_image_free(&s->image);
	img_fetched_free(&s->fetched);
}

/* From a registry or a layout: what exec of it would use. */
static int fetch(struct sandbox *s, const char *source, struct vl_err *err)
{
	struct convert_opts convert = s->o->convert;
	VL_BUF struct vl_buf codec = { 0 };
	struct img_build_opts b;
	const struct cmd_making m = { .opts = &b, .net = &s->o->net };
	int r;

	if ((r = cmd_convert_opts_read(&convert, source, &b, &codec, err)) < 0 ||
	    (r = cmd_fetch_image(s->c, &m, &s->fetched, err)) < 0)
		return r;
	VL_FREE char *path = vl_asprintf("/proc/self/fd/%d", s->fetched.fd);
	return cmd_read_image(s->c, path, &s->o->net, &s->image, err);
}

/* The finished directory takes its place; an old one goes when that is done. */
static int put_in_place(const char *made, const char *out, bool force, struct vl_err *err)
{
	if (renameat2(AT_FDCWD, made, AT_FDCWD, out, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EINVAL && access(out, F_OK) < 0 && rename(made, out) == 0) /* file systems without that flag */
		return 0;
	if (errno != EEXIST || !force)
		return vl_fail_sys(err, errno, "cannot put %s in place", out);
	VL_FREE char *old = vl_asprintf("%s.old", made);
	if (rename(out, old) < 0 || rename(made, out) < 0)
		return vl_fail_sys(err, errno, "cannot replace %s", out);
	vl_remove_tree(AT_FDCWD, old);
	return 0;
}

static int unpack(struct sandbox *s, const char *out, struct vl_err *err)
{
	const char *name = vl_basename(out);
	VL_FREE char *tmp = vl_asprintf("%.*s.%.200s.vial-XXXXXX", (int)(name - out), out, name);
	struct img_extract_opts x = { .dest = tmp, .preserve = true, .recursive = true, .own_folders = true };
	struct vl_progress progress;
	struct cmd_progress bar;

	x.view.root = (struct img_root){ .name = s->image.path,
					 .fd = s->image.fd,
					 .dir = s->image.kind == PLAN_DIRECTORY,
					 .off = s->image.off,
					 .size = s->image.size,
					 .path = "" };
	if (!mkdtemp(tmp) || rmdir(tmp) < 0) /* the name is what is wanted: the root gets the image's attributes */
		return vl_fail_sys(err, errno, "cannot make a directory for %s", out);
	cmd_progress_start(&bar, s->c, &progress);
	int r = img_extract(&x, &progress, &s->signal, err);
	cmd_progress_end(&bar);
	if (r == 0)
		r = put_in_place(tmp, out, s->o->force, err);
	if (r < 0)
		vl_remove_tree(AT_FDCWD, tmp);
	return r;
}

static int build(struct sandbox *s, const char *out, const char *source, struct vl_err *err)
{
	struct stat st;
	int r;

	if (lstat(out, &st) == 0 && !S_ISDIR(st.st_mode))
		return vl_fail(err, ENOTDIR, "%s exists already and is no directory", out);
	if (lstat(out, &st) == 0 && !s->o->force)
		return vl_fail(err, EEXIST, "%s exists already; use --force to replace it", out);
	r = access(source, F_OK) == 0 ? cmd_read_image(s->c, source, &s->o->net, &s->image, err)
				      : fetch(s, source, err);
	return r < 0 ? r : unpack(s, out, err);
}

/* An option that says how an image is made, where none is; NULL. The environment is meant for other builds too. */
static const char *unused_option(const struct convert_opts *o)
{
	const struct {
		const char *name, *keys[3];
		bool set;
	} all[] = {
		{ o->arch && strchr(o->arch, '/') ? "platform" : "arch", { "ARCH", "PULL_ARCH", "PLATFORM" }, o->arch },
		{ "compress", { "COMPRESS" }, o->compress },
		{ "block-size", { "BLOCK_SIZE" }, o->block_size },
		{ "threads", { "THREADS" }, o->threads },
		{ "max-size", { "MAX_SIZE" }, o->max_size },
		{ "owner", { "OWNER" }, o->owner },
		{ "mksquashfs-args", { "MKSQUASHFS_ARGS" }, o->mksquashfs.n },
	};

	for (size_t i = 0; i < VL_COUNT(all); i++) {
		bool twin = false;
		for (size_t k = 0; k < VL_COUNT(all[i].keys) && all[i].keys[k]; k++)
			twin |= opt_getenv(all[i].keys[k]) != NULL;
		if (all[i].set && !twin)
			return all[i].name;
	}
	return NULL;
}

int cmd_build_sandbox(struct cmd_ctx *c, const struct build_opts *o, const char *out, const char *source)
{
	VL_CLEANUP(sandbox_free)
	struct sandbox s = { .c = c, .o = o, .image = ACTION_IMAGE_INIT, .fetched = { .fd = -1 } };
	VL_FREE char *dest = vl_strdup(out);
	struct vl_err err = { 0 };
	size_t n = strlen(dest);

	while (n > 1 && dest[n - 1] == '/')
		dest[--n] = 0;
	if (o->profile)
		return cmd_usage(c, "--profile lays out an image file; leave it or --sandbox out");
	const char *unused = access(source, F_OK) == 0 ? unused_option(&o->convert) : NULL;
	if (unused)
		return cmd_usage(c, "--%s has no effect on %s, which is copied as it is; leave it out", unused, source);
	int r = build(&s, dest, source, &err);
	if (r < 0)
		return cmd_view_failed(c, r, s.signal ? s.signal : s.fetched.stats.signal, &err);
	vl_logf(&c->log, VL_INFO, "%s: a directory, for exec --writable and as the source of build", dest);
	return 0;
}
