/* `decrypt`: what an encrypted image holds, as a plain squashfs: in a file, or for exec in memory that no file system
 * sees. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <vial/image.h>
#include <vial/rootless.h>
#include <vial/sif.h>

#define CONF_MAX (64u << 10) /* gocryptfs.conf has 400 bytes */

#define O(f) offsetof(struct cmd_decrypt_opts, f)
const struct opt cmd_decrypt_options[] = {
	{ 0, "pem-path", OPT_STR, O(pem), "KEY.pem", "the private RSA key that the image is encrypted for",
	  "ENCRYPTION_PEM_PATH", 0 },
	{ 0, "passphrase", OPT_FLAG, O(passphrase), NULL,
	  "ask for the image's passphrase [ENCRYPTION_PASSPHRASE has it]", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace an existing file", NULL, 0 },
	{ 0, "fd", OPT_U64, O(fd), "N", "", NULL, OPT_HIDDEN },
	{ 0, "image-fd", OPT_U64, O(image_fd), "N", "", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O

struct decrypting {
	const struct vl_buf *secret;
	struct vl_buf conf;
	struct sif_decrypt *d;
	bool in_conf;
	int out;
};

/* ---- the two files of the partition, as they come ---- */

static int take_item(void *arg, const struct img_item *i, struct vl_err *err)
{
	struct decrypting *w = arg;

	w->in_conf = vl_streq(i->path, "gocryptfs.conf") && S_ISREG(i->mode);
	if (!*i->path || w->in_conf) /* the root; names ascend, and the other one's is squashfs-NUMBER */
		return 0;
	if (!S_ISREG(i->mode) || w->d)
		return vl_fail(err, EINVAL, "the encrypted partition holds more than one file beside gocryptfs.conf");
	if (!w->conf.len)
		return vl_fail(err, EINVAL, "the encrypted partition has no gocryptfs.conf");
	return sif_decrypt_new(w->conf.data, w->conf.len, w->secret->data, w->secret->len, &w->d, err);
}

static int take_data(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct decrypting *w = arg;

	if (!w->in_conf)
		return sif_decrypt_data(w->d, p, n, w->out, err);
	if (n > CONF_MAX - w->conf.len)
		return vl_fail(err, EFBIG, "its gocryptfs.conf is too large");
	vl_buf_add(&w->conf, p, n);
	return 0;
}

static int take_hole(void *arg, uint64_t n, struct vl_err *err)
{
	static const char zeros[65536];
	int r = 0;

	for (; r == 0 && n; n -= VL_MIN(n, (uint64_t)sizeof zeros))
		r = take_data(arg, zeros, (size_t)VL_MIN(n, (uint64_t)sizeof zeros), err);
	return r;
}

static int decrypt(const struct sif_image *img, const struct sif_descr *d, const char *name,
		   const struct vl_buf *secret, int out, int *ret_signal, struct vl_err *err)
{
	struct decrypting w = { .secret = secret, .out = out };
	struct img_view_opts o = { .root = { .name = name, .fd = img->fd, .off = d->off, .size = d->size, .path = "" },
				   .depth = 1 };
	const struct img_viewer v = { take_item, take_data, take_hole, &w };
	int r = img_view(&o, &v, ret_signal, err);

	if (r == 0)
		r = w.d ? sif_decrypt_end(w.d, out, err)
			: vl_fail(err, EINVAL, "the encrypted partition has no content");
	sif_decrypt_free(w.d);
	vl_buf_free(&w.conf);
	return r;
}

/* ---- the secret ---- */

static int get_secret(const struct cmd_decrypt_opts *o, const struct sif_image *img, const struct sif_descr *d,
		      struct vl_buf *ret, struct vl_err *err)
{
	struct sif_ask ask = { cmd_passphrase, NULL };
	const char *given = opt_getenv("ENCRYPTION_PASSPHRASE");
	SIF_KEY struct sif_key *k = NULL;
	char *answer = NULL;
	int r;

	if (o->pem && !o->passphrase) {
		r = sif_key_open(o->pem, &ask, &k, err);
		return r < 0 ? r : sif_unwrap_secret(img, d, k, ret, err);
	}
	if (given && *given) {
		vl_buf_adds(ret, given);
		return 0;
	}
	if (!o->passphrase)
		return vl_fail(err, ENOKEY,
			       "it is encrypted; its key is given with --pem-path KEY.pem or --passphrase");
	r = cmd_ask("Passphrase of the image: ", true, &answer, err);
	if (r < 0)
		return r;
	vl_buf_adds(ret, answer);
	explicit_bzero(answer, strlen(answer));
	free(answer);
	return 0;
}

static int find_partition(const struct sif_image *img, const struct sif_descr **ret, struct vl_err *err)
{
	int r = sif_primary(img, ret, err);

	if (r < 0)
		return r;
	uint32_t fs = sif_part_fs(*ret);
	if (fs == SIF_FS_LUKS_SQUASHFS)
		return vl_fail(err, ENOTSUP,
			       "it is encrypted as a LUKS container, which only root can open, with the kernel's help; "
			       "build it again without root, which makes an image that can be read");
	return fs == SIF_FS_GOCRYPTFS ? 0 : vl_fail(err, EINVAL, "it is not encrypted");
}

/* Before the work, and before the kernel ends the job for it. The plain image is not even a hundredth smaller. */
static int check_memory(const struct sif_descr *d, struct vl_err *err)
{
	struct vl_err why;

	if (ctr_memory_fits(d->size, &why))
		return 0;
	return vl_fail(err, ENOMEM,
		       "a start decrypts it into memory: %s; decrypt it once instead, "
		       "with `vial decrypt`, into a directory that only you can read",
		       why.text);
}

/* The whole of it into out. */
static int decrypt_image(const struct cmd_decrypt_opts *o, const char *name, int fd, int out, int *ret_signal,
			 struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	const struct sif_descr *d;
	VL_BUF struct vl_buf secret = { 0 };
	int r = sif_load(fd, &img, err);

	if (r == 0)
		r = find_partition(&img, &d, err);
	if (r == 0 && o->fd)
		r = check_memory(d, err);
	if (r == 0)
		r = get_secret(o, &img, d, &secret, err);
	if (r == 0 && o->fd) /* a new file may need them at its end */
		r = vl_drop_privileges(err);
	if (r == 0)
		r = decrypt(&img, d, name, &secret, out, ret_signal, err);
	if (secret.data)
		explicit_bzero(secret.data, secret.len);
	return r < 0 ? vl_wrap(err, "%s", name) : 0;
}

/* ---- where to ---- */

static int to_memory(const struct cmd_decrypt_opts *o, const char *name, int *ret_signal, struct vl_err *err)
{
	VL_CLOSE int out = memfd_create("vial-decrypted", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (out < 0)
		return vl_fail_sys(err, errno, "cannot get memory for the decrypted image");
	int r = decrypt_image(o, name, (int)o->image_fd, out, ret_signal, err);
	if (r < 0)
		return r;
	if (fcntl(out, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
		return vl_fail_sys(err, errno, "cannot seal the decrypted image");
	r = vl_msg_send_fd((int)o->fd, out, "", 0);
	return r < 0 ? vl_fail_sys(err, -r, "cannot hand over the decrypted image") : 0;
}

static int to_file(const struct cmd_decrypt_opts *o, const char *name, const char *dest, int *ret_signal,
		   struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_CLOSE int fd = vl_open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
	int r = fd < 0 ? fd : vl_newfile_open(&f, dest, 0600, o->force, err);

	if (r == 0)
		r = decrypt_image(o, name, fd, f.fd, ret_signal, err);
	return r < 0 ? r : vl_newfile_commit(&f, o->force, err);
}

int cmd_decrypt_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_decrypt_opts *o = opts;
	struct vl_err err = { 0 };
	int signal = 0, r;

	(void)self;
	cmd_guard_secrets();
	if (argc != (o->fd ? 1 : 2))
		return cmd_usage(c, "decrypt needs IMAGE and OUT");
	r = o->fd ? to_memory(o, argv[0], &signal, &err) : to_file(o, argv[0], argv[1], &signal, &err);
	if (r == -EINTR && signal)
		return 128 + signal;
	return r < 0 ? cmd_fail(c, &err) : 0;
}
