#include "policy.h"
#include "run.h"

#include <vial/sif.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

static bool is_uri(const char *word)
{
	static const char *const schemes[] = { "docker:",        "oci:",  "oci-archive:", "docker-archive:",
					       "docker-daemon:", "oras:", "library:",     "shub:",
					       "http:",          "https:" };
	for (size_t i = 0; i < VL_COUNT(schemes); i++)
		if (vl_prefix(word, schemes[i]))
			return true;
	size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-");
	return n && vl_prefix(word + n, "://"); /* a kind that nobody knows, which is said then */
}

static void take_profile(const struct sif_image *sif, const struct sif_descr *d, struct action_image *i)
{
	struct sif_profile p;

	_Static_assert(SIF_PROFILE_EXTENTS <= VL_COUNT(i->front), "all of them");
	if (!sif_profile_read(sif, d, &p))
		return;
	for (i->n_front = 0; i->n_front < p.n; i->n_front++)
		i->front[i->n_front] = (struct vmnt_extent){ p.extent[i->n_front].off, p.extent[i->n_front].len };
}

static int check_fs(const struct sif_descr *d, const char *path, struct vl_err *err)
{
	uint32_t fs = sif_part_fs(d);

	if (fs == SIF_FS_LUKS_SQUASHFS)
		return vl_fail(err, ENOTSUP,
			       "%s: the image is encrypted (LUKS), which only root can open, with the kernel's help; "
			       "encrypted again without root, it can be read",
			       path);
	if (fs == SIF_FS_GOCRYPTFS)
		return vl_fail(
			err, ENOKEY,
			"%s: the image is encrypted; give its key with --pem-path KEY.pem or --passphrase (or in "
			"VIAL_ENCRYPTION_PEM_PATH or VIAL_ENCRYPTION_PASSPHRASE)",
			path);
	if (fs != SIF_FS_SQUASHFS)
		return vl_fail(err, ENOTSUP, "%s: its file system is %s; only squashfs can be mounted", path,
			       sif_fs_name(fs));
	if (!d->size) /* 0 would mean "to the end of the file" to who mounts it, which no signature covers */
		return vl_fail(err, EINVAL, "%s: the %s partition is empty", path,
			       sif_part_type(d) == SIF_PART_DATA ? "data" : "system");
	return 0;
}

/* The overlay partitions of the image's own group are part of it, for other runtimes too. */
static int use_overlays(const struct sif_image *sif, uint32_t group, struct action_image *i, struct vl_err *err)
{
	for (size_t n = 0; n < sif->n; n++) {
		const struct sif_descr *d = &sif->d[n];
		if (d->type != SIF_PARTITION || sif_part_type(d) != SIF_PART_OVERLAY || d->group != group)
			continue;
		uint32_t fs = sif_part_fs(d);
		if (fs != SIF_FS_SQUASHFS && fs != SIF_FS_EXT3)
			return vl_fail(err, ENOTSUP,
				       "%s: object %u is an overlay of the kind %s; only squashfs and ext3 work",
				       i->path, d->id, sif_fs_name(fs));
		if (!d->size)
			return vl_fail(err, EINVAL, "%s: object %u, an overlay partition, is empty", i->path, d->id);
		i->overlays = vl_realloc(i->overlays, i->n_overlays + 1, sizeof *i->overlays);
		i->overlays[i->n_overlays++] = (struct image_overlay){ fs == SIF_FS_EXT3, d->off, d->size };
	}
	return 0;
}

/* The image's file gives way to memory that holds what was in the partition. */
static int use_decrypted(struct cmd_ctx *c, struct action_image *i, struct vl_err *err)
{
	uint64_t size;
	int fd = -1;

	if (i->n_overlays)
		return vl_fail(err, ENOTSUP, "%s: overlays in an encrypted image are not supported", i->path);
	int r = cmd_decrypt_by_child(c, i->fd, i->path, &fd, &size, err);
	if (r < 0)
		return r;
	vl_closep(&i->fd);
	i->fd = vl_move_fd_above_stdio(fd);
	i->decrypted = true;
	i->off = 0;
	i->size = size;
	i->n_front = 0;
	i->encrypted = false;
	return i->fd < 0 ? vl_fail_sys(err, -i->fd, "cannot use the decrypted image") : 0;
}

/* For the record of a step: the digest of the manifest that it was made of, and the ids of its signers, with commas between
 * them. Nothing of it is proved. */
static void note_claims(const struct sif_image *sif, struct action_image *i)
{
	SIF_PROVENANCE struct sif_provenance p = { 0 };
	VL_STRV struct vl_strv signers = { 0 };
	VL_BUF struct vl_buf b = { 0 };
	struct vl_err ignored;

	for (size_t n = 0; n < sif->n; n++)
		if (sif->d[n].type == SIF_SIGNATURE)
			sif_signature_claims(sif, &sif->d[n], &signers);
	bool made = sif_provenance_read(sif, &p, &ignored) == 0 && p.digest;
	if (!made && !signers.n)
		return;
	vl_buf_adds(&b, made ? p.digest : "");
	for (size_t n = 0; n < signers.n; n++)
		vl_buf_addf(&b, ",%s", signers.v[n]);
	i->claims = vl_strdup(b.data);
}

static int use_sif(struct cmd_ctx *c, const struct sif_image *sif, bool with_config, struct action_image *i,
		   struct vl_err *err)
{
	const struct sif_descr *d;
	char arch[4];

	int r = sif_primary(sif, &d, err);
	if (r < 0)
		return vl_wrap(err, "%s", i->path);
	bool encrypted = sif_part_fs(d) == SIF_FS_GOCRYPTFS && (i->any_key || cmd_can_decrypt(c));
	if (!encrypted && (r = check_fs(d, i->path, err)) < 0)
		return r;
	sif_part_arch(d, arch);
	const char *name = sif_arch_name(arch), *host = sif_host_arch();
	if (!i->any_arch && !vl_streq(name, host) && !vl_streq(arch, "00")) /* 00: the builder did not say */
		return vl_fail(err, ENOEXEC, "%s: the image is for %s and this machine is %s", i->path, name, host);
	if ((r = use_overlays(sif, d->group, i, err)) < 0)
		return r;
	i->off = d->off;
	i->size = d->size;
	if (c->image_claims)
		note_claims(sif, i);
	take_profile(sif, d, i);
	d = with_config ? sif_by_name(sif, SIF_JSON, "oci-config.json") : NULL;
	if (d && sif_read_object(sif, d, VL_JSON_MAX, &i->config, NULL, err) < 0)
		return vl_wrap(err, "%s", i->path);
	i->encrypted = encrypted;
	return 0;
}

static int use_file(struct cmd_ctx *c, bool with_config, struct action_image *i, struct vl_err *err)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	uint8_t magic[4] = { 0 };

	ssize_t n = pread(i->fd, magic, sizeof magic, 0);
	if (n < 0)
		return vl_fail_sys(err, errno, "cannot read %s", i->path);
	i->kind = PLAN_SQUASHFS;
	if (n == sizeof magic && !memcmp(magic, "hsqs", 4))
		return 0;
	int r = sif_load(i->fd, &sif, err);
	if (r == -ENOEXEC)
		return vl_fail(err, ENOEXEC, "%s: neither a SIF nor a squashfs image", i->path);
	return r < 0 ? vl_wrap(err, "%s", i->path) : use_sif(c, &sif, with_config, i, err);
}

/* A file of that name beats the URI: people do have folders named oci: */
static int open_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *i,
		      struct vl_err *err)
{
	i->fd = open(word, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (i->fd < 0 && errno == ENOENT && is_uri(word)) {
		int r = cmd_fetch_by_child(c, word, net, &i->fd, &i->path, err);
		if (r < 0)
			return r;
	}
	if (i->fd < 0)
		return vl_fail_sys(err, errno, "cannot open image %s", word);
	i->fd = vl_move_fd_above_stdio(i->fd);
	if (!i->path)
		i->path = vl_path_absolute(word);
	return i->fd < 0 ? vl_fail_sys(err, errno, "cannot open image %s", word) : 0;
}

/* From here on the copy is the image: it is what is parsed, checked and mounted. Without it the step goes on all the same. */
static void use_copy(struct cmd_ctx *c, struct action_image *i)
{
	int copy = fcntl(i->fd, F_DUPFD_CLOEXEC, 3);
	struct vl_err err = { 0 };

	if (copy < 0)
		return;
	int r = cmd_stage_image(c, i->path, &copy, &err);
	if (r < 0)
		vl_logf(&c->log, VL_WARNING, "%s is used where it is and not staged: %s", i->path, err.text);
	if (r > 0) {
		i->origin = i->fd;
		i->fd = copy;
	} else {
		close(copy);
	}
}

/* *ret: as ACTION_IMAGE_INIT, and what may be */
static int take_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, bool with_config,
		      struct action_image *ret, struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = *ret;
	struct stat st;

	int r = open_image(c, word, net, &i, err);

	if (r < 0)
		return r;
	if (c->stage)
		use_copy(c, &i);
	if (fstat(i.fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat image %s", word);
	if (S_ISDIR(st.st_mode))
		i.kind = PLAN_DIRECTORY;
	else if (S_ISREG(st.st_mode))
		r = use_file(c, with_config, &i, err);
	else
		r = vl_fail(err, EINVAL, "%s: neither a file nor a directory", i.path);
	if (r < 0)
		return r;
	*ret = i;
	i = (struct action_image)ACTION_IMAGE_INIT;
	return 0;
}

/* About the file itself: what was decrypted has no name and no signature. */
static int ask_policy(struct cmd_ctx *c, struct action_image *i, struct vl_err *err)
{
	VL_CLEANUP(cmd_verified_free) struct cmd_verified v = { 0 };
	const struct policy_image q = { .fd = i->fd,
					.origin = i->origin,
					.kind = i->kind == PLAN_DIRECTORY ? POL_DIRECTORY
						: i->off                  ? POL_SIF
									  : POL_SQUASHFS,
					.use = POL_IMAGE,
					.off = i->off,
					.size = i->size,
					.name = i->path,
					.tree = i->off && !i->encrypted };
	int r = cmd_policy_ask(c, &q, &v, err);

	return r == 0 && v.tree.block ? cmd_action_use_verified(i, &v, err) : r;
}

int cmd_action_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, bool with_config,
		     struct action_image *ret, struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = ACTION_IMAGE_INIT;
	int r = take_image(c, word, net, with_config, &i, err);

	if (r < 0 || (r = ask_policy(c, &i, err)) < 0)
		return r;
	if (i.encrypted && (r = use_decrypted(c, &i, err)) < 0)
		return r;
	*ret = i;
	i = (struct action_image)ACTION_IMAGE_INIT;
	return 0;
}

/* what: as ACTION_IMAGE_INIT, and what may be */
static int read_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, bool with_config,
		      const struct action_image *what, struct action_image *ret, struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = *what;
	int r = take_image(c, word, net, with_config, &i, err);

	if (r < 0 || (i.encrypted && (r = use_decrypted(c, &i, err)) < 0))
		return r;
	*ret = i;
	i = (struct action_image)ACTION_IMAGE_INIT;
	return 0;
}

int cmd_read_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		   struct vl_err *err)
{
	return read_image(c, word, net, false, &(struct action_image){ .fd = -1, .any_arch = true }, ret, err);
}

int cmd_judge_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		    struct vl_err *err)
{
	return read_image(c, word, net, true, &(struct action_image)ACTION_IMAGE_INIT, ret, err);
}

int cmd_look_at_image(struct cmd_ctx *c, const char *word, const struct net_opts *net, struct action_image *ret,
		      struct vl_err *err)
{
	*ret = (struct action_image){ .fd = -1, .any_arch = true, .any_key = true };
	return take_image(c, word, net, false, ret, err);
}

bool cmd_image_is_uri(const char *word)
{
	return is_uri(word);
}

/* ---- a bind out of an image file ---- */

static int choose_part(const struct sif_image *sif, uint32_t id, const struct sif_descr **ret, struct vl_err *err)
{
	*ret = NULL;
	if (id) {
		*ret = sif_by_id(sif, id);
		if (!*ret)
			return vl_fail(err, ENOENT, "it has no object %u", id);
		return (*ret)->type == SIF_PARTITION ? 0 : vl_fail(err, EINVAL, "object %u is not a partition", id);
	}
	for (size_t i = 0; i < sif->n; i++) {
		if (sif->d[i].type != SIF_PARTITION || sif_part_type(&sif->d[i]) != SIF_PART_DATA)
			continue;
		if (*ret)
			return vl_fail(err, EINVAL, "it has several data partitions; choose one with id=N");
		*ret = &sif->d[i];
	}
	return *ret ? 0 : sif_primary(sif, ret, err);
}

static int use_part(uint32_t id, struct action_image *i, struct vl_err *err)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	const struct sif_descr *d;
	uint8_t magic[4] = { 0 };
	uint8_t ext[2] = { 0 };

	if (pread(i->fd, magic, sizeof magic, 0) == sizeof magic && !memcmp(magic, "hsqs", 4))
		return id ? vl_fail(err, EINVAL, "%s is a squashfs and has no objects; leave out id=%u", i->path, id)
			  : 0;
	if (pread(i->fd, ext, sizeof ext, 1080) == sizeof ext && ext[0] == 0x53 && ext[1] == 0xef)
		return vl_fail(err, ENOTSUP, "%s: binding out of an ext3 image is not supported yet", i->path);
	int r = sif_load(i->fd, &sif, err);
	if (r == -ENOEXEC)
		return vl_fail(err, ENOEXEC, "%s: neither a SIF nor a squashfs image", i->path);
	if (r < 0 || choose_part(&sif, id, &d, err) < 0)
		return vl_wrap(err, "%s", i->path);
	i->off = d->off;
	i->size = d->size;
	return check_fs(d, i->path, err);
}

int cmd_image_part(const char *path, uint32_t id, struct action_image *ret, struct vl_err *err)
{
	ACTION_IMAGE struct action_image i = ACTION_IMAGE_INIT;
	struct stat st;

	i.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (i.fd < 0 || (i.fd = vl_move_fd_above_stdio(i.fd)) < 0 || fstat(i.fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot open image %s", path);
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "%s is not an image file", path);
	i.path = vl_strdup(path);
	int r = use_part(id, &i, err);
	if (r < 0)
		return r;
	*ret = i;
	i = (struct action_image)ACTION_IMAGE_INIT;
	return 0;
}

int cmd_image_kind(int fd, const char *path, enum pol_kind *ret, struct vl_err *err)
{
	uint8_t magic[4] = { 0 }, ext[2] = { 0 };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat %s", path);
	if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "%s: neither a file nor a directory", path);
	if (S_ISREG(st.st_mode) && (pread(fd, magic, sizeof magic, 0) < 0 || pread(fd, ext, sizeof ext, 1080) < 0))
		return vl_fail_sys(err, errno, "cannot read %s", path);
	*ret = S_ISDIR(st.st_mode)         ? POL_DIRECTORY
	       : !memcmp(magic, "hsqs", 4) ? POL_SQUASHFS
	       : vl_le16(ext) == 0xef53    ? POL_EXT3
					   : POL_SIF;
	return 0;
}

void cmd_action_image_free(struct action_image *i)
{
	vl_closep(&i->fd);
	if (i->origin)
		vl_closep(&i->origin);
	if (i->log)
		vl_closep(&i->log);
	if (i->verifier)
		vl_closep(&i->verifier);
	vl_freep(&i->path);
	vl_freep(&i->config);
	vl_freep(&i->claims);
	vl_freep(&i->overlays);
}
