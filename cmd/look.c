/* vial policy facts: what a policy may ask about an image, found by a process that has nothing but the open file. For
 * the start of a container, which hears it over a socket; and for people. */
#include "policy.h"

#include "commands.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

#define O(f) offsetof(struct cmd_policy_facts_opts, f)
const struct opt cmd_policy_facts_opts[] = {
	{ 0, "fd", OPT_STR, O(fd), "N", "a socket: take the open file there, and answer there", NULL, 0 },
	{ 0, "roots", OPT_LINES, O(roots), "FILE", "certificates under one of these count as signers; may be repeated",
	  NULL, 0 },
	OPT_END,
};
#undef O

/* ---- keys of the user and of the site --------------------------------------------------------- */

struct root_of { /* the certificate with that key ends at that file */
	char *id;
	const char *roots;
};
struct keys {
	struct sif_key **v;
	size_t n;
	struct vl_strv pgp;
	struct root_of *root;
	size_t n_root;
};

static void keys_free(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
	free(k->v);
	for (size_t i = 0; i < k->n_root; i++)
		free(k->root[i].id);
	free(k->root);
	vl_strv_free(&k->pgp);
}

static void add_key(struct keys *k, struct sif_key *key)
{
	k->v = vl_realloc(k->v, k->n + 1, sizeof(void *));
	k->v[k->n++] = key;
}

static void add_certificate(struct keys *k, const char *path, const struct vl_strv *roots)
{
	struct vl_err ignored = { 0 };

	for (size_t i = 0; i < roots->n; i++) {
		const struct sif_cert_opts o = { .cert = path, .roots = roots->v[i] };
		struct sif_key *key;
		if (sif_key_from_certificate(&o, &key, &ignored) < 0)
			continue;
		k->root = vl_realloc(k->root, k->n_root + 1, sizeof *k->root);
		k->root[k->n_root++] = (struct root_of){ vl_strdup(sif_key_id(key)), roots->v[i] };
		add_key(k, key);
	}
}

/* Of a key that the site has too, the site's file counts: it knows of revocations. */
static bool is_the_sites(const struct sif_keyring *ring, const struct sif_keyring_entry *e)
{
	for (size_t i = 0; !e->site && e->id && i < ring->n; i++)
		if (ring->v[i].site && ring->v[i].kind == e->kind && ring->v[i].id && vl_streq(ring->v[i].id, e->id))
			return true;
	return false;
}

/* A key that cannot be used proves nothing, and is in the way of nothing. */
static void load_keys(const struct sif_keyring *ring, const struct vl_strv *roots, struct keys *k)
{
	struct vl_err ignored = { 0 };

	for (size_t i = 0; i < ring->n; i++) {
		const struct sif_keyring_entry *e = &ring->v[i];
		struct sif_key *key;
		if (e->why || is_the_sites(ring, e))
			continue;
		if (e->kind == SIF_KEYRING_PUBLIC && sif_key_load(e->path, SIF_KEY_PUBLIC, &key, &ignored) == 0)
			add_key(k, key);
		else if (e->kind == SIF_KEYRING_CERTIFICATE)
			add_certificate(k, e->path, roots);
		else if (e->kind == SIF_KEYRING_PGP)
			vl_strv_add(&k->pgp, e->path);
	}
}

/* ---- the image ------------------------------------------------------------------------------- */

struct looking {
	const struct sif_image *sif;
	const struct policy_question *q;
	const struct sif_descr *partition;
	uint32_t source; /* id of the object that says it; 0 = none does */
	const struct keys *keys;
	struct sif_report report;
	struct pol_facts *f;
};

static int find_partition(struct looking *l, struct vl_err *err)
{
	if (l->q->use == POL_IMAGE)
		return sif_primary(l->sif, &l->partition, err);
	for (size_t i = 0; i < l->sif->n; i++) {
		const struct sif_descr *d = &l->sif->d[i];
		if (d->type == SIF_PARTITION && d->off == l->q->off && d->size == l->q->size) {
			l->partition = d;
			return 0;
		}
	}
	return vl_fail(err, EINVAL, "the partition is not in the image");
}

static bool is_tree(const struct sif_descr *d)
{
	return d->type == SIF_GENERIC && !strncmp((const char *)d->name, "vial-tree", sizeof d->name);
}

/* The object as a bit of enum pol_object, or 0. */
static unsigned object_bit(const struct looking *l, const struct sif_descr *d)
{
	return d->type == SIF_SBOM ? POL_SBOM : d->id == l->source ? POL_PROVENANCE : is_tree(d) ? POL_TREE : 0;
}

static void read_claims(struct looking *l)
{
	SIF_PROVENANCE struct sif_provenance p = { 0 };
	struct vl_err ignored = { 0 };

	if (sif_provenance_read(l->sif, &p, &ignored) == 0) {
		l->source = p.id;
		l->f->source = vl_steal(&p.source);
	}
	for (size_t i = 0; i < l->sif->n; i++)
		l->f->objects |= object_bit(l, &l->sif->d[i]);
}

static bool covers(const struct looking *l, uint32_t signature, uint32_t id)
{
	for (size_t i = 0; i < l->report.n; i++)
		if (l->report.v[i].signature == signature && l->report.v[i].id == id)
			return l->report.v[i].ok;
	return false;
}

/* All that a start takes from the file: see image_arg.c. The profile is left out, which is a hint. */
static bool covers_image(const struct looking *l, uint32_t signature)
{
	const struct sif_descr *config = sif_by_name(l->sif, SIF_JSON, "oci-config.json");

	if (!covers(l, signature, l->partition->id))
		return false;
	if (l->q->use != POL_IMAGE)
		return true;
	for (size_t i = 0; i < l->sif->n; i++) {
		const struct sif_descr *d = &l->sif->d[i];
		bool overlay = d->type == SIF_PARTITION && sif_part_type(d) == SIF_PART_OVERLAY &&
			       d->group == l->partition->group;
		if ((overlay || d == config) && !covers(l, signature, d->id))
			return false;
	}
	return true;
}

static void fill_in(const struct looking *l, uint32_t signature, struct pol_signature *s)
{
	s->image = covers_image(l, signature);
	s->source = l->source && covers(l, signature, l->source);
	for (size_t i = 0; i < l->sif->n; i++)
		if (object_bit(l, &l->sif->d[i]) && covers(l, signature, l->sif->d[i].id))
			s->objects |= object_bit(l, &l->sif->d[i]);
}

static void add_certified(const struct looking *l, uint32_t signature, const struct sif_signer *who)
{
	for (size_t i = 0; i < l->keys->n_root; i++) {
		struct pol_signature *s;
		if (!vl_streq(l->keys->root[i].id, who->id) ||
		    !(s = pol_facts_add(l->f, POL_BY_CERTIFICATE, who->id, who->name)))
			continue;
		s->roots = vl_strdup(l->keys->root[i].roots);
		fill_in(l, signature, s);
	}
}

static void add_signature(const struct looking *l, const struct sif_signature *sig)
{
	for (size_t i = 0; i < sig->n_signers && sig->verdict == SIF_VALID; i++) {
		const struct sif_signer *who = &sig->signers[i];
		struct pol_signature *s;
		if (who->kind == SIF_SIGNER_CERTIFICATE) {
			add_certified(l, sig->id, who);
			continue;
		}
		s = pol_facts_add(l->f, who->kind == SIF_SIGNER_PGP ? POL_BY_PGP : POL_BY_KEY, who->id, who->name);
		if (s)
			fill_in(l, sig->id, s);
	}
}

/* A file that is hashed here and mounted later may be changed in between by who may write to it: the hash tree, checked
 * by the server as it reads, is the way out of that and of the time it takes. */
static void verify(struct looking *l)
{
	struct sif_verify_opts o = { .keys = l->keys->v,
				     .n_keys = l->keys->n,
				     .pgp = (const char *const *)l->keys->pgp.v,
				     .n_pgp = l->keys->pgp.n,
				     .group = l->partition->group,
				     .need = SIF_NEED_ONE };
	struct vl_err err = { 0 };

	if (l->partition->group == SIF_NO_GROUP) {
		l->f->why = vl_strdup("it is in no group of objects, so nothing can sign it");
		return;
	}
	if (sif_verify(l->sif, &o, &l->report, &err) < 0) {
		l->f->why = vl_strdup(err.text);
		return;
	}
	for (size_t i = 0; i < l->report.n_sig; i++)
		add_signature(l, &l->report.sig[i]);
}

static int look(int fd, const struct policy_question *q, const struct keys *keys, struct pol_facts *f,
		struct vl_err *err)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	struct looking l = { .sif = &sif, .q = q, .keys = keys, .f = f };
	int r = sif_load(fd, &sif, err);

	if (r < 0 || (r = find_partition(&l, err)) < 0)
		return r;
	read_claims(&l);
	verify(&l);
	sif_report_free(&l.report);
	f->looked = true;
	return 0;
}

/* ---- the command ------------------------------------------------------------------------------ */

/* The site's directory is not for the environment to choose. */
static int open_ring(struct sif_keyring *ret, struct vl_err *err)
{
	VL_FREE char *user = cmd_keyring_dir(), *site = cmd_site_dir("keys");

	return sif_keyring_open(user, site, ret, err);
}

/* fd: where the image is, or -1 and it comes over the socket. */
static int find_facts(int sock, int fd, const struct vl_strv *roots, struct pol_facts *f, struct vl_err *err)
{
	VL_CLEANUP(keys_free) struct keys keys = { 0 };
	SIF_KEYRING struct sif_keyring ring = { 0 };
	VL_CLOSE int got = -1;
	struct policy_question q = { .use = POL_IMAGE };
	enum vl_msg_type type;
	size_t n = sizeof q;

	int r = sock < 0 ? 0 : vl_msg_recv_fd(sock, &type, &got, &q, sizeof q, &n);
	if (r < 0 || n != sizeof q || (sock >= 0 && got < 0))
		return vl_fail(err, EPROTO, "nobody asks on this descriptor");
	if ((r = open_ring(&ring, err)) < 0)
		return r;
	load_keys(&ring, roots, &keys);
	if ((r = vl_drop_privileges(err)) < 0)
		return r;
	return look(sock < 0 ? fd : got, &q, &keys, f, err);
}

static int answer(int sock, const struct vl_strv *roots)
{
	POL_FACTS struct pol_facts f = { .kind = POL_SIF, .use = POL_IMAGE };
	struct vl_err err = { 0 };

	if (find_facts(sock, -1, roots, &f, &err) < 0)
		return vl_msg_send_err(sock, &err) < 0 ? EXIT_OWN : 0;
	VL_FREE char *text = pol_facts_text(&f);
	if (strlen(text) <= POL_FACTS_MAX)
		return vl_msg_send(sock, VL_MSG_OK, text, strlen(text)) < 0 ? EXIT_OWN : 0;
	vl_fail(&err, EFBIG, "its signatures have names of more than %u bytes", POL_FACTS_MAX);
	return vl_msg_send_err(sock, &err) < 0 ? EXIT_OWN : 0;
}

static int print_facts(struct cmd_ctx *c, const char *word, const struct vl_strv *roots)
{
	POL_FACTS struct pol_facts f = { .kind = POL_SIF, .use = POL_IMAGE };
	struct vl_err err = { 0 };
	VL_CLOSE int fd = vl_open(word, O_RDONLY | O_NOCTTY | O_NONBLOCK, 0, &err);

	if (fd < 0)
		return cmd_fail(c, &err);
	f.path = vl_path_absolute(word);
	if (find_facts(-1, fd, roots, &f, &err) < 0) {
		vl_wrap(&err, "%s", word);
		return cmd_fail(c, &err);
	}
	VL_JSON vl_json *j = pol_facts_json(&f);
	VL_FREE char *text = vl_json_text(j, true);
	puts(text);
	return 0;
}

int cmd_policy_facts_run(struct cmd_ctx *c, const struct cmd *self, void *opts, int argc, char **argv)
{
	const struct cmd_policy_facts_opts *o = opts;
	uint64_t sock = 0;

	(void)self, (void)argc;
	if (o->fd && vl_parse_u64(o->fd, 3, 1 << 20, &sock) < 0)
		return cmd_usage(c, "--fd takes the number of a descriptor, not '%s'", o->fd);
	return o->fd ? answer((int)sock, &o->roots) : print_facts(c, argv[0], &o->roots);
}
