/* key newpair, show and list. What changes the keyring otherwise is in cmd_key_edit.c. */
#include "commands.h"

#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_newpair_opts, f)
const struct opt cmd_newpair_opts[] = {
	{ 'N', "name", OPT_STR, O(name), "NAME", "its name in the keyring (default: your user name)", NULL, 0 },
	{ 't', "type", OPT_STR, O(type), "TYPE", "ed25519 (default), ecdsa or rsa", NULL, 0 },
	{ 'b', "bits", OPT_U64, O(bits), "N", "ecdsa: 256, 384, 521; rsa: 2048 to 16384", NULL, 0 },
	{ 0, "bit-length", OPT_U64, O(bits), "N", "", NULL, OPT_HIDDEN },
	{ 0, "passphrase-file", OPT_STR, O(passphrase_file), "FILE",
	  "encrypt the private key; the passphrase is the file's first line, -: standard input", "KEY_PASSPHRASE_FILE",
	  0 },
	{ 0, "no-passphrase", OPT_FLAG, O(no_passphrase), NULL, "leave the private key unencrypted, ask nothing", NULL,
	  0 },
	{ 'F', "force", OPT_FLAG, O(force), NULL, "replace existing files", NULL, 0 },
	{ 'P', "password", OPT_REFUSED, 0, NULL,
	  "everybody on this host sees the command line; use --passphrase-file or VIAL_KEY_PASSPHRASE", NULL,
	  OPT_HIDDEN },
	{ 'U', "push", OPT_REFUSED, 0, NULL, "there are no key servers here; send the public key with `key export`",
	  NULL, OPT_HIDDEN },
	{ 'E', "email", OPT_STR, O(ignored), "WORD", "", NULL, OPT_HIDDEN },
	{ 'C', "comment", OPT_STR, O(ignored), "WORD", "", NULL, OPT_HIDDEN },
	OPT_END,
};
#undef O
#define O(f) offsetof(struct cmd_key_opts, f)
const struct opt cmd_key_list_opts[] = {
	{ 's', "secret", OPT_FLAG, O(secret), NULL, "private keys only, with the numbers that sign --keyidx takes",
	  NULL, 0 },
	{ 'j', "json", OPT_FLAG, O(json), NULL, "print JSON", NULL, 0 },
	OPT_END,
};
const struct opt cmd_key_show_opts[] = {
	{ 0, "passphrase-file", OPT_STR, O(passphrase_file), "FILE",
	  "its first line is the passphrase; -: standard input", "KEY_PASSPHRASE_FILE", 0 },
	OPT_END,
};
#undef O

/* ---- newpair ---- */

static int ask_twice(char **ret, struct vl_err *err)
{
	char *first = NULL, *second = NULL;
	int r = cmd_ask("Passphrase for the new key (empty: none): ", true, &first, err);

	if (r == 0 && *first)
		r = cmd_ask("Once more: ", true, &second, err);
	if (r == 0 && *first && !vl_streq(first, second))
		r = vl_fail(err, EINVAL, "the two passphrases differ");
	if (second)
		explicit_bzero(second, strlen(second));
	free(second);
	if (r == 0 && *first) {
		*ret = first;
		return 0;
	}
	if (first)
		explicit_bzero(first, strlen(first));
	free(first);
	return r;
}

/* *ret NULL: none. Scripts have no terminal to be asked on. */
static int new_passphrase(const struct cmd_newpair_opts *o, char **ret, struct vl_err *err)
{
	if (o->no_passphrase)
		return 0;
	int r = cmd_passphrase_given(o->passphrase_file, ret, err);
	return r == 0 && !*ret && isatty(0) && isatty(2) ? ask_twice(ret, err) : r;
}

static int write_half(const struct sif_key *k, enum sif_key_use use, const char *passphrase, struct vl_newfile *f,
		      struct vl_err *err)
{
	VL_BUF struct vl_buf pem = { 0 };
	int r = passphrase ? sif_key_pem_encrypted(k, passphrase, &pem, err) : sif_key_pem(k, use, &pem, err);

	if (r < 0)
		return r;
	r = vl_write_full(f->fd, pem.data, pem.len);
	explicit_bzero(pem.data, pem.len);
	return r < 0 ? vl_fail_sys(err, -r, "cannot write %s", f->name) : 0;
}

/* Both files are written before either appears, so that a half pair is never seen. */
static int write_pair(const struct sif_key *k, const char *passphrase, const char *private, const char *public,
		      bool force, struct vl_err *err)
{
	VL_NEWFILE struct vl_newfile priv = VL_NEWFILE_INIT, pub = VL_NEWFILE_INIT;
	int r = vl_newfile_open(&priv, private, 0600, force, err);

	if (r == 0)
		r = vl_newfile_open(&pub, public, 0644, force, err);
	if (r == 0)
		r = write_half(k, SIF_KEY_PRIVATE, passphrase, &priv, err);
	if (r == 0)
		r = write_half(k, SIF_KEY_PUBLIC, NULL, &pub, err);
	if (r == 0)
		r = vl_newfile_commit(&priv, force, err);
	return r == 0 ? vl_newfile_commit(&pub, force, err) : r;
}

static int to_files(struct cmd_ctx *c, const struct sif_key *k, const char *passphrase, const char *prefix, bool force,
		    struct vl_err *err)
{
	VL_FREE char *private = vl_asprintf("%s.pem", prefix), *public = vl_asprintf("%s.pub.pem", prefix);
	int r = write_pair(k, passphrase, private, public, force, err);

	if (r < 0)
		return r;
	printf("%s %s\n", sif_key_id(k), sif_key_type(k));
	vl_logf(&c->log, VL_INFO, "private key: %s  (keep it to yourself)", private);
	vl_logf(&c->log, VL_INFO, "public key:  %s  (give it to who verifies)", public);
	return 0;
}

/* One's own key is trusted: who has it can sign whatever he likes to run. */
static int to_keyring(struct cmd_ctx *c, const struct sif_key *k, const char *passphrase, const char *name, bool force,
		      struct vl_err *err)
{
	VL_FREE char *dir = NULL;
	struct passwd *user = name ? NULL : getpwuid(geteuid());
	bool changed;
	int r = cmd_keyring_writable(&dir, err);

	if (!name)
		name = user && sif_keyring_name_ok(user->pw_name) ? user->pw_name : "default";
	if (r == 0)
		r = sif_keyring_add(dir, name, k, passphrase, force, err);
	if (r == 0)
		r = sif_keyring_trust(dir, sif_key_id(k), true, &changed, err);
	if (r < 0)
		return r;
	printf("%s %s %s\n", name, sif_key_id(k), sif_key_type(k));
	vl_logf(&c->log, VL_INFO, "the key '%s' is in %s, and trusted; who verifies needs: %s key export %s", name, dir,
		c->self, name);
	return 0;
}

int cmd_key_newpair_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_newpair_opts *o = opts;
	SIF_KEY struct sif_key *k = NULL;
	struct vl_err err = { 0 };
	char *passphrase = NULL;

	(void)self;
	if (argc && o->name)
		return cmd_usage(c, "key newpair: PREFIX makes two files, --name a key of the keyring; not both");
	int r = new_passphrase(o, &passphrase, &err);
	if (r == 0)
		r = sif_key_new(o->type ? o->type : "ed25519", (unsigned)VL_MIN(o->bits, (uint64_t)UINT32_MAX), &k,
				&err);
	if (r == 0)
		r = argc ? to_files(c, k, passphrase, argv[0], o->force, &err)
			 : to_keyring(c, k, passphrase, o->name, o->force, &err);
	if (r == 0 && !passphrase)
		vl_logf(&c->log, VL_INFO, "the private key is not encrypted");
	if (passphrase)
		explicit_bzero(passphrase, strlen(passphrase));
	free(passphrase);
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- show ---- */

static int show_file(const struct cmd_key_opts *o, const char *path, struct vl_err *err)
{
	struct sif_ask ask = { cmd_passphrase, (void *)o->passphrase_file };
	SIF_KEY struct sif_key *k = NULL;
	int r = sif_key_load(path, SIF_KEY_PUBLIC, &k, err);

	/* either half will do; the second message is the better one unless the first said that it is a private key */
	if (r < 0 && strstr(err->text, "private key"))
		r = sif_key_open(path, &ask, &k, err);
	if (r == 0)
		printf("%s %s\n", sif_key_id(k), sif_key_type(k));
	return r;
}

int cmd_key_show_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	SIF_KEYRING struct sif_keyring ring = { 0 };
	const struct sif_keyring_entry *e = NULL;
	struct vl_err err = { 0 };
	int r;

	(void)self, (void)argc;
	if (strchr(argv[0], '/') || access(argv[0], F_OK) == 0) {
		r = show_file(opts, argv[0], &err);
	} else if ((r = cmd_keyring_open(&ring, &err)) == 0) {
		r = sif_keyring_find(&ring, SIF_KEYRING_ANY, argv[0], &e, &err);
		if (r == -ENOENT)
			vl_fail(&err, ENOENT, "%s is neither a file nor a key of the keyring", argv[0]);
		if (r == 0)
			printf("%s %s%s%s\n", e->id, e->type, e->owner ? " " : "", e->owner ? e->owner : "");
	}
	return r < 0 ? cmd_fail(c, &err) : 0;
}

/* ---- list ---- */

static const char *kind_word(enum sif_keyring_kind kind)
{
	switch (kind) {
	case SIF_KEYRING_PRIVATE:
		return "private";
	case SIF_KEYRING_CERTIFICATE:
		return "certificate";
	case SIF_KEYRING_PGP:
		return "pgp";
	default:
		return "public";
	}
}

static vl_json *entry_json(const struct sif_keyring_entry *e)
{
	vl_json *j = vl_json_new_obj();

	vl_json_set(j, "name", vl_json_new_str(e->name));
	vl_json_set(j, "kind", vl_json_new_str(kind_word(e->kind)));
	if (e->type)
		vl_json_set(j, "type", vl_json_new_str(e->type));
	if (e->id)
		vl_json_set(j, "id", vl_json_new_str(e->id));
	if (e->owner)
		vl_json_set(j, "owner", vl_json_new_str(e->owner));
	vl_json_set(j, "trusted", vl_json_new_bool(e->trusted));
	vl_json_set(j, "site", vl_json_new_bool(e->site));
	if (e->kind == SIF_KEYRING_PRIVATE)
		vl_json_set(j, "encrypted", vl_json_new_bool(e->encrypted));
	vl_json_set(j, "path", vl_json_new_str(e->path));
	if (e->why)
		vl_json_set(j, "problem", vl_json_new_str(e->why));
	return j;
}

static void print_entry(const struct sif_keyring_entry *e, int64_t number)
{
	VL_FREE char *kind = vl_asprintf("%s%s", kind_word(e->kind), e->encrypted ? "*" : "");

	if (number >= 0)
		printf("%-3lld ", (long long)number);
	printf("%-16s %-12s %-12s %-8s %s%s%s%s\n", e->name, kind, e->type ? e->type : "-",
	       e->kind == SIF_KEYRING_PRIVATE ? "-"
	       : e->trusted                   ? "trusted"
					      : "no",
	       e->id ? e->id : "-", e->owner ? "  " : "", e->owner ? e->owner : "", e->site ? "  (site)" : "");
}

int cmd_key_list_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_key_opts *o = opts;
	SIF_KEYRING struct sif_keyring ring = { 0 };
	VL_JSON vl_json *list = vl_json_new_arr();
	struct vl_err err = { 0 };
	int64_t number = 0;

	(void)self, (void)argc, (void)argv;
	if (cmd_keyring_open(&ring, &err) < 0)
		return cmd_fail(c, &err);
	if (!o->json && ring.n)
		printf("%s%-16s %-12s %-12s %-8s %s\n", o->secret ? "N   " : "", "NAME", "KIND", "TYPE", "TRUST", "ID");
	for (size_t i = 0; i < ring.n; i++) {
		const struct sif_keyring_entry *e = &ring.v[i];
		if (o->secret && e->kind != SIF_KEYRING_PRIVATE)
			continue;
		if (o->json)
			vl_json_add(list, entry_json(e));
		else if (e->why)
			vl_logf(&c->log, VL_WARNING, "not used: %s", e->why);
		else
			print_entry(e, o->secret ? number++ : -1);
	}
	if (o->json) {
		VL_FREE char *text = vl_json_text(list, true);
		puts(text);
	}
	return 0;
}
