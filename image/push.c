/* The push, in a child process (child.h): it parses an image and what a registry answers, so it holds no
 * capabilities and can gain none. */
#include "child.h"
#include "push.h"

#include <fcntl.h>

static int work(void *arg, int sock, const struct vl_progress *p, void *result, struct vl_err *err)
{
	int r = vl_drop_privileges(err);

	(void)sock;
	return r < 0 ? r : img_push_send(arg, p, result, err);
}

/* ---- what is pushed, and where to ---- */

static void job_free(struct img_push_job *j)
{
	sif_free(&j->sif);
	oci_source_free(j->source);
	oci_client_free(j->from_client);
	oci_client_free(j->client);
	oci_ref_free(&j->from);
	oci_ref_free(&j->target);
	vl_closep(&j->fd);
}

static int read_target(struct img_push_job *j, struct vl_err *err)
{
	const char *t = j->o->target;

	if (!vl_prefix(t, "docker://") && !vl_prefix(t, "oras://"))
		return vl_fail(err, ENOTSUP,
			       "%s: an image can be pushed to docker://HOST/REPO:TAG or oras://HOST/REPO:TAG", t);
	int r = oci_ref_parse(t, &j->target, err);
	if (r < 0)
		return r;
	if (*j->target.digest.algo)
		return vl_fail(err, EINVAL,
			       "%s: the digest of a push is that of the image; name a tag instead, or nothing", t);
	return 0;
}

static int open_source(struct img_push_job *j, const struct vl_progress *progress, struct vl_err *err)
{
	const char *image = j->o->image;
	int r;

	if (j->target.kind == OCI_ORAS)
		return vl_fail(err, ENOTSUP, "%s is no SIF, and only a SIF can be pushed to oras://; build one first",
			       image);
	if (j->from.kind == OCI_DOCKER_ARCHIVE)
		return vl_fail(err, ENOTSUP,
			       "%s: a docker-archive has no manifest that could be pushed; build a SIF of it, or "
			       "`skopeo copy` it to an oci-archive first",
			       image);
	if (j->from.kind != OCI_LAYOUT && j->from.kind != OCI_ARCHIVE && j->from.kind != OCI_REGISTRY)
		return vl_fail(err, ENOTSUP,
			       "%s: what can be pushed is a SIF file, oci:DIR:TAG, oci-archive:FILE or docker://NAME",
			       image);
	if (j->from.kind == OCI_REGISTRY && (r = oci_client_new(j->o->net, progress, &j->from_client, err)) < 0)
		return r;
	return oci_source_open(&j->from, j->from_client, NULL, &j->source, err);
}

static int open_image(struct img_push_job *j, const struct vl_progress *progress, struct vl_err *err)
{
	const char *image = j->o->image;
	int r = oci_ref_parse(image, &j->from, err);

	if (r == 0)
		return open_source(j, progress, err);
	if (r != -ENOTSUP)
		return r;
	if ((j->fd = vl_open(image, O_RDONLY | O_NONBLOCK, 0, err)) < 0)
		return j->fd;
	r = sif_load(j->fd, &j->sif, err);
	if (r == -ENOEXEC)
		return vl_fail(err, ENOEXEC, "%s is no SIF image; `vial build` makes one of other images", image);
	if (r < 0)
		return vl_wrap(err, "%s", image);
	j->title = vl_basename(image);
	return 0;
}

int img_push(const struct img_push_opts *o, const struct vl_progress *progress, struct img_push_stats *ret,
	     struct vl_err *err)
{
	static const struct oci_net defaults = { 0 };
	VL_CLEANUP(job_free) struct img_push_job j = { .fd = -1, .o = o };
	struct img_push_opts mine = *o;
	int r;

	if (!mine.threads)
		mine.threads = vl_cpu_count();
	if (!mine.net)
		mine.net = &defaults;
	j.o = &mine;
	if ((r = read_target(&j, err)) < 0 || (r = open_image(&j, progress, err)) < 0 ||
	    (r = oci_client_new(mine.net, progress, &j.client, err)) < 0)
		return r;
	struct img_push_stats stats = { 0 };
	struct img_child child = { .name = "pushing",
				   .interrupted = "the registry has the image whole or not at all",
				   .work = work,
				   .arg = &j,
				   .result_size = sizeof stats };
	r = img_child_run(&child, progress, &stats, &stats.signal, err);
	*ret = stats;
	return r;
}
