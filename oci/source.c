/* A layout directory, an archive file or a registry behind one interface: files by name. */
#include "source.h"

#include <fcntl.h>
#include <sys/stat.h>

struct file_blob {
	struct oci_blob base;
	int fd;
	uint64_t left;
};

void oci_blob_close(struct oci_blob *b)
{
	if (b)
		b->close(b);
}

static ssize_t file_read(struct oci_blob *b, void *p, size_t n, struct vl_err *err)
{
	struct file_blob *f = (struct file_blob *)b;
	ssize_t r;

	/* never past the size that was announced: a file growing under us is cut, and its digest fails */
	n = VL_MIN(n, f->left);
	do
		r = n ? read(f->fd, p, n) : 0;
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return vl_fail_sys(err, errno, "cannot read %s", b->what);
	if (r == 0 && f->left)
		return vl_fail(err, EIO, "%s ends early: %llu bytes are missing", b->what, (unsigned long long)f->left);
	f->left -= (uint64_t)r;
	return r;
}

static void file_close(struct oci_blob *b)
{
	struct file_blob *f = (struct file_blob *)b;
	vl_closep(&f->fd);
	free(b->what);
	free(f);
}

/* O_NOFOLLOW: a blob is a file, not a way out of the layout. O_NONBLOCK: a FIFO must not hang. */
static int layout_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err)
{
	VL_CLOSE int fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	VL_FREE char *what = vl_asprintf("%s/%s", s->path, name);
	struct stat st;

	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open %s", what);
	if (fstat(fd, &st) < 0)
		return vl_fail_sys(err, errno, "cannot stat %s", what);
	if (!S_ISREG(st.st_mode))
		return vl_fail(err, EINVAL, "%s is not a regular file", what);
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	struct file_blob *f = vl_alloc(sizeof *f);
	f->base = (struct oci_blob){ file_read, file_close, (uint64_t)st.st_size, vl_steal(&what), false };
	f->fd = vl_steal_fd(&fd);
	f->left = f->base.size;
	*ret = &f->base;
	return 0;
}

static int open_registry(const struct oci_ref *ref, struct oci_client *client, const struct oci_blob_store *blobs,
			 struct oci_source **ret, struct vl_err *err)
{
	struct oci_registry *registry;
	int r = oci_registry_new(ref, client, blobs, &registry, err);

	if (r < 0)
		return r;
	struct oci_source *s = vl_alloc(sizeof *s);
	s->kind = ref->kind;
	s->fd = -1;
	s->path = oci_ref_name(ref);
	s->registry = registry;
	*ret = s;
	return 0;
}

int oci_source_open(const struct oci_ref *ref, struct oci_client *client, const struct oci_blob_store *blobs,
		    struct oci_source **ret, struct vl_err *err)
{
	if (ref->kind == OCI_REGISTRY || ref->kind == OCI_ORAS)
		return open_registry(ref, client, blobs, ret, err);
	if (ref->kind == OCI_HTTP)
		return vl_fail(err, EINVAL, "a URL names one file, not an image store");
	bool dir = ref->kind == OCI_LAYOUT;
	VL_CLOSE int fd = vl_open(ref->path, O_RDONLY | O_NONBLOCK | (dir ? O_DIRECTORY : 0), 0, err);
	struct stat st;

	if (fd < 0)
		return fd;
	if (!dir && (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)))
		return vl_fail(err, EINVAL, "%s is not a regular file", ref->path);
	struct oci_source *s = vl_alloc(sizeof *s);
	s->kind = ref->kind;
	s->fd = vl_steal_fd(&fd);
	s->path = vl_strdup(ref->path);
	*ret = s;
	return 0;
}

void oci_source_free(struct oci_source *s)
{
	if (!s)
		return;
	oci_registry_free(s->registry);
	oci_archive_forget(s);
	vl_closep(&s->fd);
	free(s->path);
	free(s);
}

int oci_source_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err)
{
	if (s->registry)
		return oci_registry_file(s->registry, name, ret, err);
	return s->kind == OCI_LAYOUT ? layout_file(s, name, ret, err) : oci_archive_file(s, name, ret, err);
}

void oci_source_will_read(struct oci_source *s, const struct oci_layer *const *layers, size_t n)
{
	if (s->registry)
		oci_registry_will_read(s->registry, layers, n);
}

uint64_t oci_source_downloaded(const struct oci_source *s)
{
	return s->registry ? oci_registry_downloaded(s->registry) : 0;
}

int oci_source_document(struct oci_source *s, const char *name, char **ret, size_t *ret_len, struct vl_err *err)
{
	struct oci_blob *b;
	size_t len = 0;
	int r = oci_source_file(s, name, &b, err);

	if (r < 0)
		return r;
	if (b->size > VL_JSON_MAX) {
		r = vl_fail(err, EFBIG, "%s has %llu bytes; the limit for a document is %u", b->what,
			    (unsigned long long)b->size, VL_JSON_MAX);
		oci_blob_close(b);
		return r;
	}
	VL_FREE char *text = vl_alloc(b->size + 1);
	while (len < b->size) {
		ssize_t n = b->read(b, text + len, b->size - len, err);
		if (n <= 0) {
			r = n < 0 ? (int)n : vl_fail(err, EIO, "%s ends early", b->what);
			break;
		}
		len += (size_t)n;
	}
	oci_blob_close(b);
	if (r < 0)
		return r;
	*ret = vl_steal(&text);
	*ret_len = len;
	return 0;
}
