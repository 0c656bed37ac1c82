/* key import, export, remove, trust and untrust; and the words for key servers, which there are none of. */
#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_key_opts, f)
#define PASSPHRASE_FILE                                                                                                \
	{                                                                                                              \
		0, "passphrase-file", OPT_STR, O(passphrase_file), "FILE",                                             \
			"its first line is the passphrase of an encrypted key; -: standard input",                     \
			"KEY_PASSPHRASE_FILE", 0                                                                       \
	}
const struct opt cmd_key_import_opts[] = {
	{ 'N', "name", OPT_STR, O(name), "NAME", "its name in the keyring (default: the file's, without its ending)",
	  NULL, 0 },
	{ 0, "trust", OPT_FLAG, O(trust), NULL, "trust what this key signs", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace a key of that name", NULL, 0 },
	PASSPHRASE_FILE,
	OPT_END,
};
const struct opt cmd_key_export_opts[] = {
	{ 's', "secret", OPT_FLAG, O(secret), NULL, "the private key, encrypted or not as it is stored", NULL, 0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace an existing file", NULL, 0 },
	{ 'a', "armor", OPT_FLAG, O(ignored), NULL, "", NULL, OPT_HIDDEN },
	OPT_END,
};
const struct opt cmd_key_remove_opts[] = {
	{ 'p', "public", OPT_FLAG, O(public), NULL, "the public key or certificate (the default)", NULL, 0 },
	{ 's', "secret", OPT_FLAG, O(secret), NULL, "the private key", NULL, 0 },
	{ 'b', "both", OPT_FLAG, O(both), NULL, "both", NULL, 0 },
	OPT_END,
};
#undef O

int cmd_keyring_writable(char **ret, struct vl_err *err)
{
	*ret = cmd_keyring_dir();
	return *ret ? 0 : vl_fail(err, ENOENT, "there is no place for keys: set HOME, XDG_CONFIG_HOME or VIAL_KEYSDIR");
}

/* ---- import ---- */

/* "me" of "/a/me.pub.pem" */
static char *name_of(const char *path)
{
	static const char *const ends[] = { ".pem", ".pub", ".key", ".crt", ".cer", ".asc" };
	char *name = vl_strdup(vl_basename(path));

	for (size_t i = 0; i < VL_COUNT(ends);) {
		size_t n = strlen(name);
		bool cut = n > 4 && vl_streq(name + n - 4, ends[i]);
		if (cut)
			name[n - 4] = 0;
		i = cut ? 0 : i + 1;
	}
	return name;
}

static int import(struct cmd_ctx *c, const struct cmd_key_opts *o, const char *path, struct vl_err *err)
{
	struct sif_ask ask = { cmd_passphrase, (void *)o->passphrase_file };
	VL_FREE char *dir = NULL, *name = o->name ? vl_strdup(o->name) : name_of(path), *text = NULL, *id = NULL;
	enum sif_keyring_kind kind = SIF_KEYRING_PUBLIC;
	bool changed = false;
	size_t len = 0;
	int r = cmd_keyring_writable(&dir, err);

	if (r == 0)
		r = vl_read_file(AT_FDCWD, path, SIF_MAX_PEM, &text, &len, err);
	if (r == 0)
		r = sif_keyring_import(dir, name, text, len, path, &ask, o->force, &kind, &id, err);
	if (text)
		explicit_bzero(text, len);
	/* own keys are trusted, and of an encrypted one the id is certain only now */
	if (r == 0 && (o->trust || kind == SIF_KEYRING_PRIVATE))
		r = sif_keyring_trust(dir, id, true, &changed, err);
	if (r < 0)
		return r;
	printf("%s %s\n", name, id);
	if (kind != SIF_KEYRING_PRIVATE && !o->trust)
		vl_logf(&c->log, VL_INFO, "not trusted yet; compare the id with its owner's, then: %s key trust %s",
			c->self, name);
	return 0;
}

int cmd_key_import_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_key_opts *o = opts;
	struct vl_err err = { 0 };

	(void)self;
	if (argc > 1 && o->name)
		return cmd_usage(c, "key import: --name is for one file");
	for (int i = 0; i < argc; i++)
		if (import(c, o, argv[i], &err) < 0)
			return cmd_fail(c, &err);
	return 0;
}

/* ---- export ---- */

static int write_new(const char *path, mode_t mode, bool force, const char *text, size_t len, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile f = VL_NEWFILE_INIT;
	int r = vl_newfile_open(&f, path, mode, force, err);

	if (r < 0)
		return r;
	r = vl_write_full(f.fd, text, len);
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", path) : vl_newfile_commit(&f, force, err);
}

int cmd_key_export_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_key_opts *o = opts;
	SIF_KEYRING struct sif_keyring ring = { 0 };
	const struct sif_keyring_entry *e = NULL;
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	size_t len = 0;
	int r = cmd_keyring_open(&ring, &err);

	(void)self;
	if (r == 0)
		r = sif_keyring_find(&ring, o->secret ? SIF_KEYRING_PRIVATE : SIF_KEYRING_SIGNERS, argv[0], &e, &err);
	if (r == 0)
		r = sif_keyring_read(e, &text, &len, &err);
	if (r == 0 && (argc < 2 || vl_streq(argv[1], "-"))) {
		fflush(stdout);
		int w = vl_write_full(1, text, len);
		r = w < 0 ? vl_fail_sys(&err, -w, "cannot write to standard output") : 0;
	} else if (r == 0) {
		r = write_new(argv[1], o->secret ? 0600 : 0644, o->force, text, len, &err);
	}
	if (text)
		explicit_bzero(text, len);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- remove, trust, untrust ---- */

static int remove_key(struct cmd_ctx *c, const struct cmd_key_opts *o, const char *word, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring ring = { 0 };
	const struct sif_keyring_entry *e = NULL;
	unsigned kinds = o->both ? SIF_KEYRING_ANY : o->secret ? SIF_KEYRING_PRIVATE : SIF_KEYRING_SIGNERS;
	VL_FREE char *dir = NULL;
	int r = cmd_keyring_writable(&dir, err);

	if (o->secret && o->public)
		kinds = SIF_KEYRING_ANY;
	if (sif_keyring_name_ok(word)) { /* a file that cannot be used goes by its name */
		struct vl_err none = { 0 };
		if (r == 0 && sif_keyring_remove(dir, word, kinds, &none) == 0)
			return 0;
		if (r == 0 && none.code != ENOENT) {
			*err = none;
			return -none.code;
		}
	}
	if (r == 0)
		r = cmd_keyring_open(&ring, err);
	if (r == 0)
		r = sif_keyring_find(&ring, kinds, word, &e, err);
	if (r == 0 && e->site)
		return vl_fail(err, EPERM, "the key '%s' is the site's, %s; remove it there", e->name, e->path);
	if (r == 0)
		r = sif_keyring_remove(dir, e->name, kinds, err);
	if (r == -ENOENT && !(kinds & SIF_KEYRING_PRIVATE))
		return vl_wrap(err, "%s key remove (--secret is for private keys)", c->self);
	return r;
}

int cmd_key_remove_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct vl_err err = { 0 };

	(void)self, (void)argc;
	return remove_key(c, opts, argv[0], &err) < 0 ? cmd_fail(c, &err) : 0;
}

static int set_trust(struct cmd_ctx *c, const char *word, bool trust, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring ring = { 0 }, now = { 0 };
	const struct sif_keyring_entry *e = NULL;
	VL_FREE char *dir = NULL;
	const char *id = word;
	bool changed = false;
	int r = cmd_keyring_writable(&dir, err);

	if (r == 0)
		r = cmd_keyring_open(&ring, err);
	if (r == 0 && (trust || !sif_keyring_trusts(&ring, word))) { /* trust in a key that is gone has only an id */
		r = sif_keyring_find(&ring, SIF_KEYRING_SIGNERS, word, &e, err);
		id = r == 0 ? e->id : word;
	}
	if (r == 0)
		r = sif_keyring_trust(dir, id, trust, &changed, err);
	if (r == 0 && !trust)
		r = cmd_keyring_open(&now, err);
	if (r < 0)
		return r;
	printf("%s\n", id);
	if (!trust && sif_keyring_trusts(&now, id))
		vl_logf(&c->log, VL_WARNING, "the site trusts it still");
	else if (!changed)
		vl_logf(&c->log, VL_INFO, trust ? "it was trusted already" : "it was not trusted before");
	return 0;
}

int cmd_key_trust_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct vl_err err = { 0 };

	(void)opts, (void)argc;
	return set_trust(c, argv[0], !strstr(self->name, "untrust"), &err) < 0 ? cmd_fail(c, &err) : 0;
}

/* search, pull, push */
int cmd_key_server_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	(void)opts, (void)argc, (void)argv;
	return cmd_usage(c,
			 "%s: there are no key servers here: what one sends proves nothing. Get the signer's public "
			 "key from the "
			 "signer, then: %s key import FILE; to give yours away: %s key export NAME FILE",
			 self->name, c->self, c->self);
}
