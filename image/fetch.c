/* A source to an open image: found in the store, or made by one process for all who ask. */
#include "codec.h"
#include "convert.h"
#include "store.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

struct fetch {
	const struct img_build_opts *o;
	const struct oci_ref *ref;
	struct img_store *store; /* NULL: a nameless file */
	const struct vl_progress *progress;
	struct img_fetched ret;
	struct img_found found;
	char key[IMG_KEY_SIZE];
	struct img_making making;
	bool ours;    /* making is open */
	int nameless; /* -1, or the file that is written instead */
};

/* What the image is made of and how: equal keys mean equal bytes. The words of the source are in the image, and the
 * version stands for the converter. id: a digest for registries. */
static int make_key(struct fetch *f, const char *id, bool as_it_is, struct vl_err *err)
{
	const struct img_build_opts *o = f->o;
	VL_FREE char *from = NULL, *compress = img_codec_words(o->compress);
	VL_BUF struct vl_buf b = { 0 };
	struct oci_digest d;
	uint8_t sha[32];
	int r;

	vl_buf_addf(&b, "%s\n", id);
	if (!as_it_is) {
		bool remote = f->ref->kind == OCI_REGISTRY;
		if (remote && (r = oci_digest_parse(id, &d, err)) < 0)
			return r;
		const char *bootstrap = img_source_words(o->source, f->ref, remote ? &d : NULL, &from);
		vl_buf_addf(&b, "%s %zu %s\n", bootstrap, strlen(from), from);
		vl_buf_addf(&b, "%s\n%s\n%s\n%u\n%d\n%lld\n", o->builder ? o->builder : "",
			    o->arch ? o->arch : sif_host_arch(), compress,
			    o->block_size ? o->block_size : IMG_DEFAULT_BLOCK_SIZE, o->owner, (long long)o->time);
	}
	vl_sha256(b.data, b.len, sha);
	vl_hex(sha, sizeof sha, f->key);
	return 0;
}

static int open_nameless(struct fetch *f, int *ret_fd, struct vl_err *err)
{
	int fd = vl_tmpfile("the image", err);

	if (fd < 0)
		return fd;
	f->nameless = fd;
	*ret_fd = fd;
	return 0;
}

static int found(void *arg, const struct img_found *found, int *ret_fd, struct vl_err *err)
{
	struct fetch *f = arg;

	f->found = *found;
	if (!f->store || !*found->id)
		return open_nameless(f, ret_fd, err);
	int r = make_key(f, f->found.id, found->as_it_is, err);
	if (r < 0)
		return r;
	r = img_store_take(f->store, f->key, f->progress, &f->making, &f->ret.fd, &f->ret.path, err);
	if (r < 0)
		return r;
	if (r == 0) {
		f->ret.found = true;
		return 1;
	}
	f->ours = true;
	*ret_fd = f->making.file.fd;
	return 0;
}

/* Progress for us, and for those who wait for us. */
static void step(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct fetch *f = arg;

	if (f->ours)
		img_store_tell(&f->making, what, done, total);
	vl_progress_step(f->progress, what, done, total);
}

static void pass_warning(void *arg, const char *text)
{
	struct fetch *f = arg;
	vl_progress_warn(f->progress, "%s", text);
}

/* "docker.io/library/python@sha256:...": what a digest leads to is a matter of its repository, whose name is in the
 * image. NULL: none. Returns new. */
static char *digest_name(const struct oci_ref *ref, const char *digest)
{
	struct oci_ref r = *ref;
	struct vl_err ignored;

	r.tag = NULL;
	if (!oci_ref_is_remote(ref) || !*digest || oci_digest_parse(digest, &r.digest, &ignored) < 0)
		return NULL;
	return oci_ref_name(&r);
}

static void remember_name(struct fetch *f, const char *name, const char *id)
{
	const char *arch = f->o->arch ? f->o->arch : sif_host_arch();
	struct vl_err ignored;

	/* a start from the cache writes nothing */
	if (name && !(f->ret.found && img_store_name_has(f->store, name, arch, id, f->key)))
		img_store_name_set(f->store, name, arch, id, f->key, &ignored);
}

/* What the names led to, for the next time and for `cache list`. Not knowing it only costs a question. */
static void remember(struct fetch *f)
{
	const struct oci_ref *ref = f->ref;
	const char *id = ref->kind == OCI_REGISTRY || ref->kind == OCI_ORAS ? f->found.id : f->found.digest;

	if (!f->store || !*f->key)
		return;
	VL_FREE char *name = oci_ref_name(ref);
	VL_FREE char *named = digest_name(ref, f->found.named), *manifest = digest_name(ref, f->found.digest);
	remember_name(f, name, id);
	if (named && !vl_streq(named, name))
		remember_name(f, named, id);
	if (manifest && !vl_streq(manifest, name) && !(named && vl_streq(manifest, named)))
		remember_name(f, manifest, id);
}

#define BUILD_MAX (4u << 20) /* of vial-build.json: it has some hundred bytes a layer */

/* What the image itself says that it was made of. */
static bool made_of(int fd, const char *digest)
{
	SIF_IMAGE struct sif_image sif = { 0 };
	VL_JSON vl_json *j = NULL;
	VL_FREE char *text = NULL;
	struct vl_err ignored;
	size_t n;

	if (sif_load(fd, &sif, &ignored) < 0)
		return false;
	const struct sif_descr *d = sif_by_name(&sif, SIF_JSON, "vial-build.json");
	if (!d || sif_read_object(&sif, d, BUILD_MAX, &text, &n, &ignored) < 0 ||
	    vl_json_parse(text, n, "vial-build.json", &j, &ignored) < 0)
		return false;
	const char *made = vl_json_str(vl_json_obj(j, "source"), "manifestDigest");
	return made && vl_streq(made, digest);
}

/* A digest says all: when the store has the image, nobody needs to be asked. */
static bool known_digest(struct fetch *f)
{
	const struct oci_ref *ref = f->ref;
	const char *arch = f->o->arch ? f->o->arch : sif_host_arch();
	struct vl_err ignored;
	char id[IMG_DIGEST_SIZE];

	if (!f->store || !*ref->digest.algo || (ref->kind != OCI_REGISTRY && ref->kind != OCI_ORAS))
		return false;
	VL_FREE char *digest = vl_asprintf("%s:%s", ref->digest.algo, ref->digest.hex),
		     *name = digest_name(ref, digest);
	bool image = ref->kind == OCI_REGISTRY;
	if (img_store_name_find(f->store, name, arch, id) < 0 || make_key(f, id, !image, &ignored) < 0 ||
	    img_store_find(f->store, f->key, &f->ret.fd, &f->ret.path, &ignored) < 0)
		return false;
	/* a record leads from an index to one of its manifests, and what is found is that one */
	if (image && !vl_streq(id, digest) && !made_of(f->ret.fd, id)) {
		img_fetched_free(&f->ret);
		return false;
	}
	f->ret.found = true;
	snprintf(f->ret.digest, sizeof f->ret.digest, "%s", image ? id : digest);
	return true;
}

/* Readers get a descriptor that cannot write. */
static int reopen(struct fetch *f, struct vl_err *err)
{
	VL_FREE char *proc = vl_asprintf("/proc/self/fd/%d", f->nameless);

	f->ret.fd = vl_open(proc, O_RDONLY, 0, err);
	return f->ret.fd < 0 ? f->ret.fd : 0;
}

static int fetch(struct fetch *f, struct vl_err *err)
{
	bool steps = f->store || (f->progress && f->progress->step); /* who waits for us may want to see them */
	struct vl_progress p = { .step = steps ? step : NULL, .warn = pass_warning, .arg = f };
	struct img_job job = {
		.o = f->o, .blobs = f->store ? img_store_blobs(f->store) : NULL, .found = found, .arg = f
	};
	int r;

	if (known_digest(f))
		return 0;
	if ((r = img_job_run(&job, &p, &f->ret.stats, err)) < 0)
		return r;
	snprintf(f->ret.digest, sizeof f->ret.digest, "%s", f->found.digest);
	if (f->ours)
		r = img_store_commit(&f->making, &f->ret.fd, &f->ret.path, err);
	else if (f->nameless >= 0)
		r = reopen(f, err);
	else
		r = 0; /* found: open already */
	if (r == 0)
		remember(f);
	return r;
}

int img_fetch(const struct img_build_opts *o, struct img_store *store, const struct vl_progress *progress,
	      struct img_fetched *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	struct fetch f = { .o = o,
			   .ref = &ref,
			   .store = store,
			   .progress = progress,
			   .ret.fd = -1,
			   .making = IMG_MAKING_INIT,
			   .nameless = -1 };
	int r = oci_ref_parse(o->source, &ref, err);

	if (r < 0)
		return r;
	r = fetch(&f, err);
	img_store_give_up(&f.making);
	vl_closep(&f.nameless);
	if (r == -ENOSPC && store) {
		VL_FREE char *what = vl_strdup(err->text);
		vl_fail(err, ENOSPC, "%s; the image store %s may be full: `vial cache clean` makes room", what,
			img_store_dir(store));
	}
	if (r < 0) {
		ret->stats.signal = f.ret.stats.signal; /* the one output of a failure: who ended it */
		img_fetched_free(&f.ret);
		return r;
	}
	*ret = f.ret;
	return 0;
}

void img_fetched_free(struct img_fetched *f)
{
	vl_closep(&f->fd);
	vl_freep(&f->path);
}
