#include "commands.h"

#include <fcntl.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_sign_opts, f)
const struct opt cmd_sign_opts[] = {
	{ 0, "key", OPT_STR, O(key), "KEY", "the private key: a PEM file, a name of the keyring, or a pkcs11: URI",
	  "SIGN_KEY", 0 },
	{ 'k', "keyidx", OPT_STR, O(keyidx), "N", "the private key number N of `key list --secret`", NULL, 0 },
	{ 0, "passphrase-file", OPT_STR, O(passphrase_file), "FILE",
	  "its first line is the key's passphrase or the token's PIN; -: standard input", "KEY_PASSPHRASE_FILE", 0 },
	{ 'g', "group-id", OPT_U64, O(group), "N", "sign this group only", NULL, 0 },
	{ 0, "groupid", OPT_U64, O(group), "N", "", NULL, OPT_HIDDEN },
	{ 'i', "sif-id", OPT_U64, O(object), "ID", "sign this object only", NULL, 0 },
	{ 0, "id", OPT_U64, O(object), "ID", "", NULL, OPT_HIDDEN },
	{ 'a', "all", OPT_FLAG, O(all), NULL, "sign every group (the default)", NULL, 0 },
	{ 0, "no-tree", OPT_FLAG, O(no_tree), NULL, "add no hash tree, which `exec --verify` needs", "NO_TREE", 0 },
	{ 0, "tree-block", OPT_STR, O(tree_block), "SIZE", "bytes under one hash of the tree, 4K to 128K (default 16K)",
	  "TREE_BLOCK", 0 },
	OPT_END,
};
#undef O

static int sign_image(struct cmd_ctx *c, const struct cmd_sign_opts *o, const char *path, const struct sif_key *k,
		      const struct sif_sign_opts *so, size_t *ret_n, struct vl_err *err)
{
	VL_CLOSE int fd = vl_open(path, O_RDWR | O_NONBLOCK, 0, err);

	if (fd < 0)
		return fd;
	int r = cmd_sign_tree(c, o, fd, path, so->progress, err);
	if (r == 0)
		r = sif_sign(fd, k, so, ret_n, err);
	return r < 0 ? vl_wrap(err, "cannot sign %s", path) : 0;
}

/* ---- which key ---- */

/* The n-th private key, or with n < 0 the only one. */
static int private_key(const struct cmd_ctx *c, const struct sif_keyring *ring, int64_t n,
		       const struct sif_keyring_entry **ret, struct vl_err *err)
{
	VL_BUF struct vl_buf names = { 0 };
	int64_t seen = 0;

	for (size_t i = 0; i < ring->n; i++) {
		const struct sif_keyring_entry *e = &ring->v[i];
		if (e->kind != SIF_KEYRING_PRIVATE || e->why)
			continue;
		if (n < 0 || n == seen)
			*ret = e;
		seen++;
		vl_buf_addf(&names, "%s%s", names.len ? ", " : "", e->name);
	}
	if (seen == 0)
		return vl_fail(err, ENOKEY,
			       "there is no private key to sign with: give one with --key KEY.pem, or make one with: "
			       "%s key newpair",
			       c->self);
	if (n >= seen)
		return vl_fail(err, ENOKEY,
			       "the keyring has no private key number %lld; %s key list --secret shows them",
			       (long long)n, c->self);
	if (n < 0 && seen > 1)
		return vl_fail(err, ENOTUNIQ, "the keyring has several private keys: choose one with --key: %s",
			       names.data);
	return 0;
}

/* A file that is there, or a URI, is no word for the keyring. */
static bool is_place(const char *word)
{
	return strchr(word, '/') || access(word, F_OK) == 0 || sif_key_is_uri(word);
}

static int from_keyring(const struct cmd_ctx *c, const struct cmd_sign_opts *o, const struct sif_ask *ask,
			struct sif_key **ret, struct vl_err *err)
{
	SIF_KEYRING struct sif_keyring ring = { 0 };
	const struct sif_keyring_entry *e = NULL;
	uint64_t n = 0;
	int r;

	if (o->keyidx && vl_parse_u64(o->keyidx, 0, SIF_KEYRING_MAX, &n) < 0)
		return vl_fail(err, EINVAL, "--keyidx takes a number, not '%s'", o->keyidx);
	r = cmd_keyring_open(&ring, err);
	if (r < 0)
		return r;
	r = o->key ? sif_keyring_find(&ring, SIF_KEYRING_PRIVATE, o->key, &e, err)
		   : private_key(c, &ring, o->keyidx ? (int64_t)n : -1, &e, err);
	if (r == -ENOENT)
		return vl_fail(err, ENOENT, "--key %s: neither a file nor a private key of the keyring", o->key);
	if (r == 0)
		r = sif_key_open(e->path, ask, ret, err);
	if (r == 0 && !vl_streq(sif_key_id(*ret), e->id)) /* halves of two keys under one name */
		r = vl_fail(err, EKEYREJECTED, "%s is the key %s, but the public half beside it is %s; import it again",
			    e->path, sif_key_id(*ret), e->id);
	return r;
}

static int find_key(const struct cmd_ctx *c, const struct cmd_sign_opts *o, struct sif_key **ret, struct vl_err *err)
{
	struct sif_ask ask = { cmd_passphrase, (void *)o->passphrase_file };

	if (o->key && is_place(o->key))
		return sif_key_open(o->key, &ask, ret, err);
	return from_keyring(c, o, &ask, ret, err);
}

int cmd_sign_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	struct cmd_sign_opts *o = opts;
	SIF_KEY struct sif_key *k = NULL;
	struct cmd_progress bar;
	struct vl_progress progress;
	struct vl_err err = { 0 };
	size_t n = 0;

	(void)self, (void)argc;
	if (o->group > ~SIF_GROUP_MASK || o->object > UINT32_MAX)
		return cmd_usage(c, "no group or object has such a large number");
	if (o->keyidx)
		o->key = NULL; /* which may be the environment's */
	struct sif_sign_opts so = { (uint32_t)o->group, (uint32_t)o->object, cmd_now(), &progress };
	if (find_key(c, o, &k, &err) < 0)
		return cmd_fail(c, &err);
	cmd_progress_start(&bar, c, &progress);
	int r = sign_image(c, o, argv[0], k, &so, &n, &err);
	cmd_progress_end(&bar);
	if (r < 0)
		return cmd_fail(c, &err);
	vl_logf(&c->log, VL_INFO, "%s: %zu signature%s added, key %s (%s)", argv[0], n, n == 1 ? "" : "s",
		sif_key_id(k), sif_key_type(k));
	return 0;
}
