/* A source to an open image: found in the store, or made by one process for all who ask. */
#include "convert.h"
#include "store.h"

#include <fcntl.h>
#include <stdio.h>
#include <vial/sif.h>

struct fetch {
	const struct img_build_opts *o;
	struct img_store *store; /* NULL: a nameless file */
	const struct vl_progress *progress;
	struct img_fetched ret;
	struct img_found found;
	char key[IMG_KEY_SIZE];
	struct img_making making;
	bool ours;    /* making is open */
	int nameless; /* -1, or the file that is written instead */
};

/* What the image is made of and how: equal keys mean equal bytes. The version stands for the converter. */
static void make_key(const struct img_build_opts *o, const char *id, bool as_it_is, char ret[IMG_KEY_SIZE])
{
	VL_BUF struct vl_buf b = { 0 };
	uint8_t sha[32];

	vl_buf_addf(&b, "%s\n", id);
	if (!as_it_is)
		vl_buf_addf(&b, "%s\n%s\n%s\n%u\n%d\n%lld\n", o->builder ? o->builder : "",
			    o->arch ? o->arch : sif_host_arch(), o->compress ? o->compress : "", o->block_size,
			    o->owner, (long long)o->time);
	vl_sha256(b.data, b.len, sha);
	vl_hex(sha, sizeof sha, ret);
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
	make_key(f->o, f->found.id, found->as_it_is, f->key);
	int r = img_store_take(f->store, f->key, f->progress, &f->making, &f->ret.fd, &f->ret.path, err);
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

/* What the names led to, for the next time and for `cache list`. Not knowing it only costs a question. */
static void remember(struct fetch *f, const struct oci_ref *ref)
{
	struct vl_err ignored;
	const char *arch = f->o->arch ? f->o->arch : sif_host_arch();
	VL_FREE char *name = ref->tag || !*ref->digest.algo ? oci_ref_name(ref) : NULL;
	const char *id = ref->kind == OCI_REGISTRY || ref->kind == OCI_ORAS ? f->found.id : f->found.digest;

	if (!f->store || !*f->key)
		return;
	const char *const names[] = { name, f->found.named, f->found.digest };
	for (size_t i = 0; i < VL_COUNT(names); i++) {
		char known[IMG_DIGEST_SIZE];
		if (!names[i] || !*names[i])
			continue;
		/* a start from the cache writes nothing */
		if (f->ret.found && img_store_name_find(f->store, names[i], arch, known) == 0 && vl_streq(known, id))
			continue;
		img_store_name_set(f->store, names[i], arch, id, f->key, &ignored);
	}
}

/* A digest says all: when the store has the image, nobody needs to be asked. */
static bool known_digest(struct fetch *f, const struct oci_ref *ref)
{
	const char *arch = f->o->arch ? f->o->arch : sif_host_arch();
	struct vl_err ignored;
	char id[IMG_DIGEST_SIZE];

	if (!f->store || !*ref->digest.algo || (ref->kind != OCI_REGISTRY && ref->kind != OCI_ORAS))
		return false;
	VL_FREE char *digest = vl_asprintf("%s:%s", ref->digest.algo, ref->digest.hex);
	if (img_store_name_find(f->store, digest, arch, id) < 0)
		return false;
	make_key(f->o, id, ref->kind == OCI_ORAS, f->key);
	if (img_store_find(f->store, f->key, &f->ret.fd, &f->ret.path, &ignored) < 0)
		return false;
	f->ret.found = true;
	snprintf(f->ret.digest, sizeof f->ret.digest, "%s", digest);
	return true;
}

/* Readers get a descriptor that cannot write. */
static int reopen(struct fetch *f, struct vl_err *err)
{
	VL_FREE char *proc = vl_asprintf("/proc/self/fd/%d", f->nameless);

	f->ret.fd = vl_open(proc, O_RDONLY, 0, err);
	return f->ret.fd < 0 ? f->ret.fd : 0;
}

static int fetch(struct fetch *f, const struct oci_ref *ref, struct vl_err *err)
{
	struct vl_progress p = { f->progress && f->progress->step ? step : NULL, pass_warning, f };
	struct img_job job = {
		.o = f->o, .blobs = f->store ? img_store_blobs(f->store) : NULL, .found = found, .arg = f
	};
	int r;

	if (known_digest(f, ref))
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
		remember(f, ref);
	return r;
}

int img_fetch(const struct img_build_opts *o, struct img_store *store, const struct vl_progress *progress,
	      struct img_fetched *ret, struct vl_err *err)
{
	VL_CLEANUP(oci_ref_free) struct oci_ref ref = { 0 };
	struct fetch f = {
		.o = o, .store = store, .progress = progress, .ret.fd = -1, .making = IMG_MAKING_INIT, .nameless = -1
	};
	int r = oci_ref_parse(o->source, &ref, err);

	if (r < 0)
		return r;
	r = fetch(&f, &ref, err);
	img_store_give_up(&f.making);
	vl_closep(&f.nameless);
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
