/* The conversion, around which a child process stands (child.h): it parses outside data, so it holds no
 * capabilities and can gain none. */
#include "child.h"
#include "convert.h"

#include <vial/sif.h>

#include <sys/resource.h>

struct building {
	const struct img_job *job;
	struct img_source *src;
};

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	struct building *w = arg;
	struct img_source *src = w->src;
	struct img_build_stats *stats = result;
	struct img_found found;
	struct rusage used;
	VL_CLOSE int fd = -1;
	int r;

	vl_raise_file_limit();
	if (src->client)
		oci_client_say(src->client, p);
	/* A directory is the host's own files, read with the rights of the caller. */
	if ((src->kind != IMG_SOURCE_DIR && (r = vl_drop_privileges(err)) < 0) ||
	    (r = img_source_resolve(src, w->job->o->arch, &found, err)) < 0 ||
	    (r = img_child_ask(sock, &found, sizeof found, &fd, err)) < 0)
		return r;
	if (found.as_it_is && w->job->o->secret)
		r = vl_fail(err, ENOTSUP,
			    "the source is a SIF already: unpack it with build --sandbox, and encrypt that directory");
	else if (found.as_it_is)
		r = img_source_copy(src, fd, p, err);
	else
		r = img_convert(w->job->o, src, fd, p, stats, err);
	if (r < 0)
		return r;
	if (getrusage(RUSAGE_SELF, &used) == 0)
		stats->peak_memory = (uint64_t)used.ru_maxrss << 10;
	stats->downloaded = src->oci ? oci_source_downloaded(src->oci) : 0;
	memcpy(stats->digest, found.digest, sizeof stats->digest);
	return 0;
}

static int asked(void *arg, const void *question, int *ret_fd, struct vl_err *err)
{
	const struct building *w = arg;
	struct img_found f;

	memcpy(&f, question, sizeof f);
	f.id[sizeof f.id - 1] = f.digest[sizeof f.digest - 1] = f.named[sizeof f.named - 1] = 0;
	return w->job->found(w->job->arg, &f, ret_fd, err);
}

static int check(struct img_build_opts *o, struct vl_err *err)
{
	if (!o->arch)
		o->arch = sif_host_arch();
	if (!sif_arch_code(o->arch))
		return vl_fail(err, EINVAL,
			       "the architecture '%s' is not known; SIF has amd64, arm64, ppc64le, riscv64 and others",
			       o->arch);
	if (!o->block_size)
		o->block_size = IMG_DEFAULT_BLOCK_SIZE;
	if (o->block_size < 4096 || o->block_size > 1 << 20 || o->block_size & (o->block_size - 1))
		return vl_fail(err, EINVAL, "the block size must be a power of two from 4096 to 1048576, not %u",
			       o->block_size);
	if (!o->threads)
		o->threads = vl_cpu_count();
	if (!o->max_size)
		o->max_size = IMG_DEFAULT_MAX_SIZE;
	return 0;
}

int img_job_run(const struct img_job *job, const struct vl_progress *progress, struct img_build_stats *ret,
		struct vl_err *err)
{
	VL_CLEANUP(img_source_free) struct img_source src = { .dirfd = -1 };
	struct img_build_opts o = *job->o;
	struct img_job j = *job;
	int r;

	j.o = &o;
	if ((r = check(&o, err)) < 0 || (r = img_source_open(&o, job->blobs, progress, &src, err)) < 0)
		return r;
	struct building w = { &j, &src };
	struct img_build_stats stats = { 0 };
	struct img_child child = { .name = "converting",
				   .interrupted = "nothing was written",
				   .work = work,
				   .asked = asked,
				   .arg = &w,
				   .result_size = sizeof stats,
				   .question_size = sizeof(struct img_found) };
	_Static_assert(sizeof stats <= IMG_RESULT_MAX && sizeof(struct img_found) <= IMG_RESULT_MAX, "one message");
	r = img_child_run(&child, progress, &stats, &stats.signal, err);
	*ret = stats;
	return r;
}

/* Whatever it is, it goes into the caller's file. */
static int take_any(void *arg, const struct img_found *f, int *ret_fd, struct vl_err *err)
{
	(void)f, (void)err;
	*ret_fd = *(int *)arg;
	return 0;
}

int img_build(const struct img_build_opts *opts, int fd, const struct vl_progress *progress,
	      struct img_build_stats *ret, struct vl_err *err)
{
	struct img_job job = { .o = opts, .found = take_any, .arg = &fd };

	return img_job_run(&job, progress, ret, err);
}
