/* What a policy may ask about an image, found by a process that has nothing but the open file, the keyrings and no
 * privileges. */
#include "commands.h"
#include "verify.h"

#include <fcntl.h>

/* ---- keys of the user and of the site --------------------------------------------------------- */

/* A certificate, and the file where its chain ends. One key may have several of both, and each subject is worth what its
 * own roots are. */
struct root_of {
	char *id, *subject;
	const char *roots;
};
struct keys {
	struct sif_key **v;
	size_t n;
	struct sif_pgp_keys pgp; /* texts of the ring */
	struct root_of *root;
	size_t n_root;
};

static void keys_free(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		sif_key_free(k->v[i]);
	free(k->v);
	for (size_t i = 0; i < k->n_root; i++) {
		free(k->root[i].id);
		free(k->root[i].subject);
	}
	free(k->root);
	free(k->pgp.v);
}

static void add_key(struct keys *k, struct sif_key *key)
{
	k->v = vl_realloc(k->v, k->n + 1, sizeof(void *));
	k->v[k->n++] = key;
}

/* What the files of roots hold. One that cannot be read is the end of no chain. */
static void read_roots(const struct vl_strv *roots, struct vl_strv *ret)
{
	struct vl_err ignored = { 0 };

	for (size_t i = 0; i < roots->n; i++) {
		char *text = NULL;
		int r = vl_read_file(AT_FDCWD, roots->v[i], SIF_MAX_BUNDLE, &text, NULL, &ignored);
		vl_strv_take(ret, r < 0 ? vl_strdup("") : text);
	}
}

static void add_certificate(struct keys *k, const struct sif_keyring_entry *e, const struct vl_strv *roots,
			    const struct vl_strv *texts)
{
	struct vl_err ignored = { 0 };

	for (size_t i = 0; i < roots->n; i++) {
		const struct sif_cert_opts o = {
			.cert = e->path, .cert_text = e->text, .roots = roots->v[i], .roots_text = texts->v[i]
		};
		struct sif_key *key;
		if (sif_key_from_certificate(&o, &key, &ignored) < 0)
			continue;
		const char *subject = sif_key_signer(key)->name;
		k->root = vl_realloc(k->root, k->n_root + 1, sizeof *k->root);
		k->root[k->n_root++] = (struct root_of){ vl_strdup(sif_key_id(key)),
							 subject ? vl_strdup(subject) : NULL, roots->v[i] };
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
static void parse_keys(const struct sif_keyring *ring, const struct vl_strv *roots, const struct vl_strv *texts,
		       struct keys *k)
{
	struct vl_err ignored = { 0 };

	k->pgp.v = vl_alloc((ring->n + 1) * sizeof *k->pgp.v);
	for (size_t i = 0; i < ring->n; i++) {
		const struct sif_keyring_entry *e = &ring->v[i];
		struct sif_key *key;
		if (e->why || is_the_sites(ring, e))
			continue;
		size_t len = e->text ? strlen(e->text) : 0;
		if (e->kind == SIF_KEYRING_PUBLIC &&
		    sif_key_parse(e->text, len, e->path, SIF_KEY_PUBLIC, &key, &ignored) == 0)
			add_key(k, key);
		else if (e->kind == SIF_KEYRING_CERTIFICATE)
			add_certificate(k, e, roots, texts);
		else if (e->kind == SIF_KEYRING_PGP)
			k->pgp.v[k->pgp.n++] = (struct sif_pgp_file){ .text = e->text, .len = len, .what = e->path };
	}
}

/* ---- the image ------------------------------------------------------------------------------- */

struct looking {
	const struct sif_image *sif; /* the image, or of one with a hash tree the snapshot */
	const struct policy_question *q;
	const struct sif_descr *partition;
	uint32_t source; /* id of the object that says it; 0 = none does */
	const struct keys *keys;
	struct sif_report report;
	struct pol_facts *f;
};

static int find_partition(struct looking *l, struct vl_err *err)
{
	if (l->q->use == POL_IMAGE) {
		int r = sif_primary(l->sif, &l->partition, err);
		if (r == 0 && l->q->size && (l->partition->off != l->q->off || l->partition->size != l->q->size))
			r = vl_fail(err, EBADMSG, "it was changed while it was looked at");
		return r;
	}
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
	return d->type == SIF_GENERIC && !strncmp((const char *)d->name, SIF_TREE_NAME, sizeof d->name);
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

/* hashed: its data too, and not only where it is and how long */
static bool covers(const struct looking *l, uint32_t signature, uint32_t id, bool hashed)
{
	for (size_t i = 0; i < l->report.n; i++)
		if (l->report.v[i].signature == signature && l->report.v[i].id == id)
			return l->report.v[i].ok && (l->report.v[i].hashed || !hashed);
	return false;
}

/* All that a start takes from the file: see image_arg.c. The profile is left out, which is a hint. With the hash tree the
 * server reads nothing of the partition that is not under the tree's root. */
static bool covers_image(const struct looking *l, uint32_t signature)
{
	const struct sif_descr *config = sif_by_name(l->sif, SIF_JSON, "oci-config.json");

	if (!covers(l, signature, l->partition->id, !l->f->by_tree))
		return false;
	if (l->q->use != POL_IMAGE)
		return true;
	for (size_t i = 0; i < l->sif->n; i++) {
		const struct sif_descr *d = &l->sif->d[i];
		bool overlay = d->type == SIF_PARTITION && sif_part_type(d) == SIF_PART_OVERLAY &&
			       d->group == l->partition->group;
		bool tree = l->f->by_tree && is_tree(d);
		if ((overlay || tree || d == config) && !covers(l, signature, d->id, true))
			return false;
	}
	return true;
}

static void fill_in(const struct looking *l, uint32_t signature, struct pol_signature *s)
{
	s->image = covers_image(l, signature);
	s->source = l->source && covers(l, signature, l->source, true);
	for (size_t i = 0; i < l->sif->n; i++)
		if (object_bit(l, &l->sif->d[i]) && covers(l, signature, l->sif->d[i].id, true))
			s->objects |= object_bit(l, &l->sif->d[i]);
}

static void add_certified(const struct looking *l, uint32_t signature, const struct sif_signer *who)
{
	for (size_t i = 0; i < l->keys->n_root; i++) {
		const struct root_of *c = &l->keys->root[i];
		struct pol_signature *s;
		if (!vl_streq(c->id, who->id) || !(s = pol_facts_add(l->f, POL_BY_CERTIFICATE, c->id, c->subject)))
			continue;
		s->roots = vl_strdup(c->roots);
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

static void verify(struct looking *l)
{
	const struct sif_verify_opts o = { .keys = l->keys->v,
					   .n_keys = l->keys->n,
					   .pgp = &l->keys->pgp,
					   .group = l->partition->group,
					   .need = SIF_NEED_ONE };
	struct vl_err err = { 0 };

	if (l->partition->group == SIF_NO_GROUP) {
		l->f->why = vl_strdup("it is in no group of objects, so nothing can sign it");
		return;
	}
	int r = l->f->by_tree ? cmd_snapshot_check(l->sif, &o, true, &l->report, &err)
			      : sif_verify(l->sif, &o, &l->report, &err);
	if (r < 0) {
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

/* A file that is hashed here and mounted later may be changed in between by who may write to it: the hash tree, checked
 * by the server as it reads, is the way out of that and of the time it takes. Returns whether there is a tree to go by. */
static bool take_snapshot(int fd, const struct policy_question *q, struct verify_answer *ret, int *ret_snapshot)
{
	SIF_IMAGE struct sif_image img = { .fd = -1 }, snap = { .fd = -1 };
	struct verify_answer a = { 0 };
	struct vl_err ignored = { 0 };

	/* first by the file itself: without a tree there is nothing to copy */
	if (q->use != POL_IMAGE || !q->tree || sif_load(fd, &img, &ignored) < 0 ||
	    cmd_snapshot_tree(&img, &a, &ignored) < 0)
		return false;
	VL_CLOSE int copy = cmd_snapshot(fd, true, &ignored);
	a = (struct verify_answer){ 0 };
	if (copy < 0 || sif_load(copy, &snap, &ignored) < 0 || cmd_snapshot_tree(&snap, &a, &ignored) < 0)
		return false;
	*ret = a;
	*ret_snapshot = vl_steal_fd(&copy);
	return true;
}

int cmd_look(int fd, const struct policy_question *q, const struct vl_strv *roots, struct pol_facts *f,
	     struct verify_answer *ret, int *ret_snapshot, struct vl_err *err)
{
	VL_CLEANUP(keys_free) struct keys keys = { 0 };
	SIF_KEYRING struct sif_keyring ring = { 0 };
	VL_STRV struct vl_strv texts = { 0 };
	int r = cmd_keyring_open(&ring, err);

	if (r < 0)
		return r;
	read_roots(roots, &texts);
	if ((r = vl_drop_privileges(err)) < 0)
		return r;
	parse_keys(&ring, roots, &texts, &keys);
	f->use = q->use;
	f->by_tree = take_snapshot(fd, q, ret, ret_snapshot);
	return look(f->by_tree ? *ret_snapshot : fd, q, &keys, f, err);
}
