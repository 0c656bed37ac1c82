/* `build --encrypt`: where the secret of a new image comes from. */
#include "commands.h"

#include <stdio.h>
#include <sys/prctl.h>
#include <vial/image.h>
#include <vial/sif.h>

void cmd_guard_secrets(void)
{
	prctl(PR_SET_DUMPABLE, 0);
}

bool cmd_build_encrypts(const struct build_opts *o)
{
	return o->encrypt || o->pem || o->passphrase; /* a variable alone does not: it may be meant for running */
}

/* Twice, since what was mistyped cannot be opened again. */
static int ask_passphrase(struct vl_buf *ret, struct vl_err *err)
{
	char *first = NULL, *second = NULL;
	int r = cmd_ask("Passphrase for the image: ", true, &first, err);

	if (r == 0)
		r = cmd_ask("Once more: ", true, &second, err);
	if (r == 0 && !vl_streq(first, second))
		r = vl_fail(err, EINVAL, "the two passphrases differ");
	if (r == 0)
		vl_buf_adds(ret, first);
	char *answers[] = { first, second };
	for (size_t i = 0; i < VL_COUNT(answers); i++) {
		if (answers[i])
			explicit_bzero(answers[i], strlen(answers[i]));
		free(answers[i]);
	}
	return r;
}

static int take_passphrase(const char *given, bool ask, struct vl_buf *ret, struct vl_err *err)
{
	int r = ask ? ask_passphrase(ret, err) : 0;

	if (r == 0 && !ask)
		vl_buf_adds(ret, given);
	if (r == 0 && !ret->len)
		return vl_fail(err, EINVAL, "the passphrase is empty");
	/* gocryptfs, which other runtimes start, reads it as one line */
	if (r == 0 && strpbrk(ret->data, "\r\n"))
		return vl_fail(err, EINVAL, "the passphrase has more than one line");
	return r;
}

static int take_key(const char *path, struct cmd_secret *ret, struct vl_err *err)
{
	SIF_KEY struct sif_key *k = NULL;
	char secret[SIF_SECRET_SIZE + 1];
	int r = sif_key_load(path, SIF_KEY_PUBLIC, &k, err);

	if (r < 0 || (r = sif_secret_random(secret, err)) < 0)
		return r;
	r = sif_wrap_secret(k, secret, SIF_SECRET_SIZE, &ret->message, err);
	if (r == 0)
		vl_buf_add(&ret->secret, secret, SIF_SECRET_SIZE);
	explicit_bzero(secret, sizeof secret);
	return r < 0 ? vl_wrap(err, "%s", path) : 0;
}

int cmd_build_secret(const struct build_opts *o, struct cmd_secret *ret, struct vl_err *err)
{
	const char *pem = opt_getenv("ENCRYPTION_PEM_PATH"), *passphrase = opt_getenv("ENCRYPTION_PASSPHRASE");

	cmd_guard_secrets();
	if (o->pem || (!o->passphrase && pem && *pem))
		return take_key(o->pem ? o->pem : pem, ret, err);
	if (o->passphrase || (passphrase && *passphrase))
		return take_passphrase(passphrase, o->passphrase, &ret->secret, err);
	return vl_fail(err, ENOKEY,
		       "--encrypt needs a public RSA key, --pem-path KEY.pub.pem, or --passphrase (or "
		       "VIAL_ENCRYPTION_PEM_PATH or VIAL_ENCRYPTION_PASSPHRASE)");
}

void cmd_secret_free(struct cmd_secret *s)
{
	if (s->secret.data)
		explicit_bzero(s->secret.data, s->secret.len);
	vl_buf_free(&s->secret);
	vl_buf_free(&s->message);
}
