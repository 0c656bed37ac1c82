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
	vl_strv_free(&k->pgp);
	if (k->ring)
		sif_keyring_free(k->ring);
	free(k->ring);
	*k = (struct cmd_known){ 0 };
}

static void add_key(struct cmd_known *k, struct sif_key *key)
{
	k->v = vl_realloc(k->v, k->n + 1, sizeof(void *));
	k->v[k->n++] = key;
}

static int load_file(const char *path, struct cmd_known *k, struct vl_err *err)
{
	VL_FREE char *text = NULL;
	struct sif_key *key;
	size_t n;
	int r = vl_read_file(AT_FDCWD, path, MAX_KEY_FILE, &text, &n, err);

	if (r < 0)
		return r;
	if (strstr(text, "-----BEGIN PGP PRIVATE KEY"))
		return vl_fail(err, EINVAL, "%s holds a private OpenPGP key; verifying takes the public one", path);
	if (strstr(text, "-----BEGIN PGP PUBLIC KEY")) {
		vl_strv_add(&k->pgp, path);
		return 0;
	}
	if (n > SIF_MAX_PEM)
		return vl_fail(err, EFBIG, "%s: no PEM key is as large as this", path);
	r = sif_key_parse(text, n, path, SIF_KEY_PUBLIC, &key, err);
	if (r == 0)
		add_key(k, key);
	return r;
}

static int load_certificate(const struct sif_cert_opts *co, struct cmd_known *k, struct vl_err *err)
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
	struct stat st;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & (S_IWGRP | S_IWOTH))
			vl_logf(&c->log, VL_WARNING, "the OpenPGP keys in %s are not used: others may write it", path);
		else if (access(path, R_OK) < 0)
			vl_logf(&c->log, VL_VERBOSE, "cannot read %s", path);
		else
			vl_strv_add(&k->pgp, path);
	}
	free(path);
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

/* A certificate of the keyring was put there to be trusted as it is. */
static int add_entry(const struct sif_keyring_entry *e, bool ocsp, struct cmd_known *k, struct vl_err *err)
{
	struct sif_cert_opts co = { .cert = e->path, .roots = e->path, .ocsp = ocsp };
	int r = 0;

	if (e->kind == SIF_KEYRING_PGP)
		vl_strv_add(&k->pgp, e->path);
	else if (e->kind == SIF_KEYRING_CERTIFICATE)
		r = load_certificate(&co, k, err);
	else if (e->kind == SIF_KEYRING_PUBLIC && (r = load_file(e->path, k, err)) == 0)
		sif_key_set_signer(k->v[k->n - 1], SIF_SIGNER_KEY, e->name);
	return r;
}

static int load_keyrings(struct cmd_ctx *c, bool ocsp, struct cmd_known *k, struct vl_err *err)
{
	k->ring = vl_alloc(sizeof *k->ring);
	int r = cmd_keyring_open(k->ring, err);

	for (size_t i = 0; i < k->ring->n && r == 0; i++) {
		const struct sif_keyring_entry *e = &k->ring->v[i];
		struct vl_err one;
		if (!(e->kind & SIF_KEYRING_SIGNERS))
			continue;
		if (e->why)
			vl_logf(&c->log, VL_WARNING, "%s", e->why);
		else if (add_entry(e, ocsp, k, &one) < 0) /* the others may do; what it signed stays unknown */
			vl_logf(&c->log, VL_WARNING, "%s", one.text);
	}
	if (r == 0)
		add_foreign_all(c, k);
	return r;
}

int cmd_known_load(struct cmd_ctx *c, const struct cmd_verify_opts *o, struct cmd_known *ret, struct vl_err *err)
{
	int r = 0;

	for (size_t i = 0; i < o->keys.n && r == 0; i++)
		r = load_file(o->keys.v[i], ret, err);
	if (r == 0 && o->certificate) {
		struct sif_cert_opts co = {
			.cert = o->certificate, .intermediates = o->intermediates, .roots = o->roots, .ocsp = o->ocsp
		};
		r = load_certificate(&co, ret, err);
	}
	return r < 0 || o->keys.n || o->certificate ? r : load_keyrings(c, o->ocsp, ret, err);
}

/* Own keys need no list. Who imported a key into another tool's keyring has trusted it by that: these tools know no
 * second step. */
const char *cmd_known_trust(const struct cmd_known *k, const struct sif_signer *who)
{
	if (!k->ring)
		return "which was named";
	if (sif_keyring_trusts(k->ring, who->id))
		return "which is trusted";
	if (sif_keyring_by_id(k->ring, SIF_KEYRING_PRIVATE, who->id))
		return "which is your own";
	if (who->kind == SIF_SIGNER_PGP && !sif_keyring_by_id(k->ring, SIF_KEYRING_PGP, who->id))
		return "which is in the keyring of Apptainer or SingularityCE";
	return NULL;
}
