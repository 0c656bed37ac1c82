/* Where the keys are, and where a passphrase comes from. */
#include "commands.h"
#include "policy.h"

#include <fcntl.h>
#include <vial/sif.h>

#define PASSPHRASE_MAX 1024 /* bytes; what libcrypto takes for a PEM key */

char *cmd_keyring_dir(void)
{
	const char *own = getenv("VIAL_KEYSDIR");

	return own && *own ? vl_strdup(own) : cmd_user_dir("keys");
}

/* The site's directory is not for the environment to choose. */
int cmd_keyring_open(struct sif_keyring *ret, struct vl_err *err)
{
	VL_FREE char *user = cmd_keyring_dir(), *site = cmd_site_dir("keys");

	return sif_keyring_open(user, site, ret, err);
}

/* ---- passphrases ---- */

/* The first line, without its end. Pipes are fine: a password manager writes into one. */
static int from_file(const char *file, char **ret, struct vl_err *err)
{
	VL_CLOSE int opened = vl_streq(file, "-") ? -1 : vl_open(file, O_RDONLY, 0, err);
	int fd = opened, r = 0;
	char line[PASSPHRASE_MAX + 2] = { 0 };
	size_t n = 0;

	if (vl_streq(file, "-"))
		fd = 0;
	else if (fd < 0)
		return vl_wrap(err, "passphrase");
	while (n < sizeof line - 1 && !memchr(line, '\n', n)) {
		ssize_t got = read(fd, line + n, sizeof line - 1 - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			r = vl_fail_sys(err, errno, "cannot read the passphrase from %s", file);
		if (got <= 0)
			break;
		n += (size_t)got;
	}
	line[n] = 0;
	line[strcspn(line, "\r\n")] = 0;
	if (r == 0 && strlen(line) > PASSPHRASE_MAX)
		r = vl_fail(err, E2BIG, "%s: a passphrase has %d bytes at most", file, PASSPHRASE_MAX);
	if (r == 0 && !*line)
		r = vl_fail(err, EINVAL, "%s: its first line, which is the passphrase, is empty", file);
	if (r == 0)
		*ret = vl_strdup(line);
	explicit_bzero(line, sizeof line);
	return r;
}

int cmd_passphrase_given(const char *file, char **ret, struct vl_err *err)
{
	const char *words = getenv("VIAL_KEY_PASSPHRASE");

	*ret = NULL;
	if (file)
		return from_file(file, ret, err);
	if (words && *words)
		*ret = vl_strdup(words);
	return 0;
}

int cmd_passphrase(void *file, const char *what, char **ret, struct vl_err *err)
{
	VL_FREE char *question = vl_asprintf("Passphrase for %s: ", what);
	char *given = NULL;
	int r = cmd_passphrase_given(file, &given, err);

	if (r == 0 && !given && (r = cmd_ask(question, true, &given, err)) == -ENOTTY)
		return vl_fail(
			err, ENOTTY,
			"%s: the key is encrypted and there is no terminal to ask for its passphrase or PIN; give it "
			"with --passphrase-file FILE or in VIAL_KEY_PASSPHRASE",
			what);
	if (r == 0)
		*ret = given;
	return r;
}
