/* The public keys that verifying may use: those that were named, else those of the keyrings. */
#include "commands.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vial/sif.h>

#define MAX_KEY_FILE (16u << 20) /* a PGP keyring may be large */

void cmd_known_free(struct cmd_known *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
	free(k->v);
	if (k->pgp)
		sif_pgp_keys_free(k->pgp);
	free(k->pgp);
	vl_strv_free(&k->foreign);
	if (k->ring)
		sif_keyring_free(k->ring);
	free(k->ring);
	vl_strv_free(&k->named);
	vl_strv_free(&k->texts);
	free(k->certificate);
	free(k->intermediates);
	free(k->roots);
	*k = (struct cmd_known){ 0 };
}

static void add_key(struct cmd_known *k, struct sif_key *key)
{
	k->v = vl_realloc(k->v, k->n + 1, sizeof(void *));
	k->v[k->n++] = key;
}

/* Takes text. what: borrowed */
static void add_pgp(struct cmd_known *k, char *text, size_t len, const char *what, bool foreign)
{
	k->pgp->v = vl_realloc(k->pgp->v, k->pgp->n + 1, sizeof *k->pgp->v);
	k->pgp->v[k->pgp->n++] = (struct sif_pgp_file){ .text = text, .len = len, .what = what, .foreign = foreign };
}

/* ---- files that were named ---- */

static int read_named(const char *path, struct cmd_known *k, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	size_t n;
	int r = vl_read_file(AT_FDCWD, path, MAX_KEY_FILE, &text, &n, err);

	if (r < 0)
		return r;
	if (strstr(text, "-----BEGIN PGP PRIVATE KEY"))
		return vl_fail(err, EINVAL, "%s holds a private OpenPGP key; verifying takes the public one", path);
	if (strstr(text, "-----BEGIN PGP PUBLIC KEY")) {
		add_pgp(k, vl_steal(&text), n, path, false);
		return 0;
	}
	if (n > SIF_MAX_PEM)
		return vl_fail(err, EFBIG, "%s: no PEM key is as large as this", path);
	vl_strv_add(&k->named, path);
	vl_strv_take(&k->texts, vl_steal(&text));
	return 0;
}

static int read_certificates(const char *path, char **ret, struct vl_err *err)
{
	return path ? vl_read_file(AT_FDCWD, path, SIF_MAX_BUNDLE, ret, NULL, err) : 0;
}

static int parse_pem(const char *text, const char *path, const char *name, struct cmd_known *k, struct vl_err *err)
{
	struct sif_key *key;
	int r = sif_key_parse(text, strlen(text), path, SIF_KEY_PUBLIC, &key, err);

	if (r < 0)
		return r;
	if (name)
		sif_key_set_signer(key, SIF_SIGNER_KEY, name);
	add_key(k, key);
	return 0;
}

static int parse_certificate(const struct sif_cert_opts *co, struct cmd_known *k, struct vl_err *err)
{
	struct sif_key *key;
	int r = sif_key_from_certificate(co, &key, err);

	if (r == 0)
		add_key(k, key);
	return r;
}

/* ---- keyrings ---- */

/* A key ring of Apptainer or SingularityCE, where there is one: who changes tools keeps the keys. Only read. */
static void add_foreign(struct cmd_ctx *c, struct cmd_known *k, char *path)
{
	VL_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	VL_FREE char *text = NULL;
	struct vl_err err = { 0 };
	struct stat st;
	size_t n;

	vl_strv_take(&k->foreign, path);
	if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
		vl_logf(&c->log, VL_VERBOSE, "cannot read %s", path);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
		return;
	if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & (S_IWGRP | S_IWOTH))
		vl_logf(&c->log, VL_WARNING, "the OpenPGP keys in %s are not used: others may write it", path);
	else if (vl_read_fd(fd, path, MAX_KEY_FILE, &text, &n, &err) < 0)
		vl_logf(&c->log, VL_WARNING, "%s", err.text);
	else
		add_pgp(k, vl_steal(&text), n, path, true);
}

static void add_foreign_all(struct cmd_ctx *c, struct cmd_known *k)
{
	static const char *const own[] = { ".apptainer/keys", ".singularity/keys", ".singularity/sypgp" };
	const char *dir = getenv("APPTAINER_KEYSDIR"), *home = getenv("HOME");

	if (dir && *dir)
		add_foreign(c, k, vl_asprintf("%s/pgp-public", dir));
	for (size_t i = 0; home && *home == '/' && i < VL_COUNT(own); i++)
		add_foreign(c, k, vl_asprintf("%s/%s/pgp-public", home, own[i]));
	add_foreign(c, k, vl_strdup("/etc/apptainer/global-pgp-public"));
	add_foreign(c, k, vl_strdup("/etc/singularity/global-pgp-public"));
}

static int read_keyrings(struct cmd_ctx *c, struct cmd_known *k, struct vl_err *err)
{
	k->ring = vl_alloc(sizeof *k->ring);
	int r = cmd_keyring_open(k->ring, err);

	if (r == 0)
		add_foreign_all(c, k);
	return r;
}

/* A certificate of the keyring was put there to be trusted as it is. */
static int add_entry(const struct sif_keyring_entry *e, bool ocsp, struct cmd_known *k, struct vl_err *err)
{
	struct sif_cert_opts co = {
		.cert = e->path, .roots = e->path, .cert_text = e->text, .roots_text = e->text, .ocsp = ocsp
	};

	if (e->kind == SIF_KEYRING_CERTIFICATE)
		return parse_certificate(&co, k, err);
	if (e->kind == SIF_KEYRING_PUBLIC)
		return parse_pem(e->text, e->path, e->name, k, err);
	add_pgp(k, vl_strdup(e->text), strlen(e->text), e->path, false);
	return 0;
}

static void parse_keyrings(struct cmd_ctx *c, bool ocsp, struct cmd_known *k)
{
	for (size_t i = 0; i < k->ring->n; i++) {
		const struct sif_keyring_entry *e = &k->ring->v[i];
		struct vl_err one;
		if (!(e->kind & SIF_KEYRING_SIGNERS))
			continue;
		if (e->why)
			vl_logf(&c->log, VL_WARNING, "%s", e->why);
		else if (add_entry(e, ocsp, k, &one) < 0) /* the others may do; what it signed stays unknown */
			vl_logf(&c->log, VL_WARNING, "%s", one.text);
	}
}

/* ---- all of it ---- */

int cmd_known_read(struct cmd_ctx *c, const struct cmd_verify_opts *o, struct cmd_known *ret, struct vl_err *err)
{
	int r = 0;

	ret->pgp = vl_alloc(sizeof *ret->pgp);
	for (size_t i = 0; i < o->keys.n && r == 0; i++)
		r = read_named(o->keys.v[i], ret, err);
	if (r == 0 && o->certificate && (r = read_certificates(o->certificate, &ret->certificate, err)) == 0 &&
	    (r = read_certificates(o->intermediates, &ret->intermediates, err)) == 0)
		r = read_certificates(o->roots, &ret->roots, err);
	return r < 0 || o->keys.n || o->certificate ? r : read_keyrings(c, ret, err);
}

int cmd_known_parse(struct cmd_ctx *c, const struct cmd_verify_opts *o, struct cmd_known *k, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < k->named.n && r == 0; i++)
		r = parse_pem(k->texts.v[i], k->named.v[i], NULL, k, err);
	if (r == 0 && o->certificate) {
		const struct sif_cert_opts co = { .cert = o->certificate,
						  .intermediates = o->intermediates,
						  .roots = o->roots,
						  .cert_text = k->certificate,
						  .intermediates_text = k->intermediates,
						  .roots_text = k->roots,
						  .ocsp = o->ocsp };
		r = parse_certificate(&co, k, err);
	}
	if (r == 0 && k->ring)
		parse_keyrings(c, o->ocsp, k);
	return r;
}
