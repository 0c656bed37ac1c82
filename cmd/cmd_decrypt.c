/* `decrypt`: what an encrypted image holds, as a plain squashfs: in a file, or for exec in memory that no file system
 * sees. */
#include "commands.h"

#include <fcntl.h>
#include <signal.h>
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

/* *ret NULL: it is a passphrase. */
static int open_key(const struct cmd_decrypt_opts *o, struct sif_key **ret, struct vl_err *err)
{
	struct sif_ask ask = { cmd_passphrase, NULL };

	*ret = NULL;
	return o->pem && !o->passphrase ? sif_key_open(o->pem, &ask, ret, err) : 0;
}

static int get_secret(const struct cmd_decrypt_opts *o, const struct sif_image *img, const struct sif_descr *d,
		      const struct sif_key *k, struct vl_buf *ret, struct vl_err *err)
{
	const char *given = opt_getenv("ENCRYPTION_PASSPHRASE");
	char *answer = NULL;
	int r;

	if (k)
		return sif_unwrap_secret(img, d, k, ret, err);
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

/* The whole of it into out. All files are open but the key's; nothing of the image is looked at before privileges are
 * gone, which is for good. */
static int decrypt_image(const struct cmd_decrypt_opts *o, const char *name, int fd, int out, int *ret_signal,
			 struct vl_err *err)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 };
	const struct sif_descr *d;
	SIF_KEY struct sif_key *k = NULL;
	VL_BUF struct vl_buf secret = { 0 };
	int r = open_key(o, &k, err);

	if (r == 0)
		r = vl_drop_privileges(err);
	if (r == 0)
		r = sif_load(fd, &img, err);
	if (r == 0)
		r = find_partition(&img, &d, err);
	if (r == 0 && o->fd)
		r = check_memory(d, err);
	if (r == 0)
		r = get_secret(o, &img, d, k, &secret, err);
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

/* Giving the new file its name may take privileges, which this process has no more by then: another one keeps them,
 * reads nothing of the image, and waits for the word. Without it, as when we die, the file goes. */
static void finish_file(struct vl_newfile *f, bool force, int sock)
{
	enum vl_msg_type type = VL_MSG_ERR;
	struct vl_err err = { 0 };
	sigset_t all;
	char none[1];
	size_t n;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL); /* the other one hears them */
	if (vl_msg_recv(sock, &type, none, sizeof none, &n) < 0 || type != VL_MSG_OK)
		vl_newfile_abort(f);
	else if (vl_newfile_commit(f, force, &err) < 0)
		vl_msg_send_err(sock, &err);
	else
		vl_msg_send(sock, VL_MSG_OK, "", 0);
	_exit(0);
}

static int start_finisher(struct vl_newfile *f, bool force, pid_t *ret_pid, struct vl_err *err)
{
	int pair[2], r = vl_msg_pair(pair, err);

	if (r < 0)
		return r;
	fflush(NULL); /* or what waits there is written twice */
	*ret_pid = fork();
	if (*ret_pid == 0) {
		close(pair[0]);
		finish_file(f, force, pair[1]);
	}
	close(pair[1]);
	if (*ret_pid > 0)
		return pair[0];
	close(pair[0]);
	return vl_fail_sys(err, errno, "cannot start the process that names the new file");
}

static int to_file(const struct cmd_decrypt_opts *o, const char *name, const char *dest, int *ret_signal,
		   struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	VL_CLOSE int fd = vl_open(name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, err);
	int r = fd < 0 ? fd : vl_newfile_open(&f, dest, 0600, o->force, err);
	pid_t pid;

	if (r < 0)
		return r;
	int sock = start_finisher(&f, o->force, &pid, err);
	if (sock < 0)
		return sock;
	r = decrypt_image(o, name, fd, f.fd, ret_signal, err);
	if (r == 0)
		r = vl_msg_send(sock, VL_MSG_OK, "", 0) < 0
			    ? vl_fail(err, EPIPE, "the process that names the new file died")
			    : vl_msg_wait_ok(sock, "the process that names the new file", err);
	close(sock);
	vl_wait(pid);
	return r;
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
