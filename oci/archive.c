/* Members of an image archive. The tar is scanned anew for each member that is wanted: libarchive
 * seeks over data, an archive has few members, and nothing needs to be kept or spooled. */
#include "source.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

#define MAX_MEMBERS 100000 /* an archive has a handful of members per layer */
#define MAX_MEMBER_LINKS 8 /* docker save links equal layers once */

struct member_blob {
	struct oci_blob base;
	struct archive *a;
	int fd;
	uint64_t left;
};

static ssize_t member_read(struct oci_blob *b, void *p, size_t n, struct vl_err *err)
{
	struct member_blob *m = (struct member_blob *)b;
	la_ssize_t r = archive_read_data(m->a, p, VL_MIN(n, m->left));

	if (r < 0)
		return vl_fail(err, EIO, "cannot read %s: %s", b->what, archive_error_string(m->a));
	if (r == 0 && m->left)
		return vl_fail(err, EIO, "%s ends early", b->what);
	m->left -= (uint64_t)r;
	return r;
}

static void member_close(struct oci_blob *b)
{
	struct member_blob *m = (struct member_blob *)b;
	archive_read_free(m->a);
	vl_closep(&m->fd);
	free(b->what);
	free(m);
}

static int open_tar(struct oci_source *s, struct archive **ret, int *ret_fd, struct vl_err *err)
{
	/* a description of its own, since libarchive moves the offset; same inode, whatever the path says now */
	VL_FREE char *again = vl_asprintf("/proc/self/fd/%d", s->fd);
	VL_CLOSE int fd = open(again, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return vl_fail_sys(err, errno, "cannot open %s again", s->path);
	struct archive *a = archive_read_new();
	if (!a)
		abort();
	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a); /* docker save | gzip */
	archive_read_support_filter_zstd(a);
	if (archive_read_open_fd(a, fd, 1 << 18) != ARCHIVE_OK) {
		int r = vl_fail(err, EINVAL, "%s is not an image archive: %s", s->path, archive_error_string(a));
		archive_read_free(a);
		return r;
	}
	*ret = a;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

/* The name inside the tar without "./" and doubled slashes; NULL when it would leave the tar. */
static char *clean_name(const char *name)
{
	VL_BUF struct vl_buf b = { 0 };

	vl_buf_adds(&b, "");
	for (;;) {
		name += strspn(name, "/");
		size_t n = strcspn(name, "/");
		if (!n)
			return vl_steal(&b.data);
		if (n == 2 && !strncmp(name, "..", 2)) {
			if (!b.len)
				return NULL;
			char *slash = strrchr(b.data, '/');
			b.len = slash ? (size_t)(slash - b.data) : 0;
			b.data[b.len] = 0;
		} else if (!(n == 1 && *name == '.')) {
			if (b.len)
				vl_buf_adds(&b, "/");
			vl_buf_add(&b, name, n);
		}
		name += n;
	}
}

/* Where a link member leads inside the tar: hard links from its top, symbolic ones from the
 * member's folder. NULL: out of it. */
static char *link_target(struct archive_entry *e, const char *name)
{
	const char *hard = archive_entry_hardlink(e), *soft = archive_entry_symlink(e);
	const char *slash = strrchr(name, '/');

	if (hard)
		return clean_name(hard);
	if (!soft || *soft == '/')
		return NULL;
	VL_FREE char *joined = vl_asprintf("%.*s/%s", slash ? (int)(slash - name) : 0, name, soft);
	return clean_name(joined);
}

/* What the wanted member is: 0 and a blob, 1 and a link's target, or an error. */
static int take(struct oci_source *s, struct archive *a, int *fd, struct archive_entry *e, const char *name,
		struct oci_blob **ret, char **ret_link, struct vl_err *err)
{
	if (archive_entry_hardlink(e) || archive_entry_filetype(e) == AE_IFLNK) {
		*ret_link = link_target(e, name);
		return *ret_link
			       ? 1
			       : vl_fail(err, EINVAL, "%s: the member %s is a link out of the archive", s->path, name);
	}
	if (archive_entry_filetype(e) != AE_IFREG)
		return vl_fail(err, EINVAL, "%s: the member %s is not a regular file", s->path, name);
	struct member_blob *m = vl_alloc(sizeof *m);
	uint64_t size = (uint64_t)VL_MAX(archive_entry_size(e), 0);
	m->base = (struct oci_blob){ member_read, member_close, size, vl_asprintf("%s:%s", s->path, name) };
	m->a = a;
	m->fd = vl_steal_fd(fd);
	m->left = size;
	*ret = &m->base;
	return 0;
}

static int find(struct oci_source *s, const char *name, struct oci_blob **ret, char **ret_link, struct vl_err *err)
{
	struct archive *a = NULL;
	struct archive_entry *e;
	VL_CLOSE int fd = -1;
	unsigned n = 0;
	int st, r = open_tar(s, &a, &fd, err);

	if (r < 0)
		return r;
	while ((st = archive_read_next_header(a, &e)) == ARCHIVE_OK || st == ARCHIVE_WARN) {
		const char *path = archive_entry_pathname(e);
		VL_FREE char *have = path ? clean_name(path) : NULL;
		if (++n > MAX_MEMBERS)
			break;
		if (!have || !vl_streq(have, name))
			continue;
		r = take(s, a, &fd, e, name, ret, ret_link, err);
		if (r != 0)
			archive_read_free(a);
		return r;
	}
	if (n > MAX_MEMBERS)
		r = vl_fail(err, E2BIG, "%s has more than %d members", s->path, MAX_MEMBERS);
	else if (st == ARCHIVE_EOF)
		r = vl_fail(err, ENOENT, "%s has no member %s", s->path, name);
	else
		r = vl_fail(err, EINVAL, "%s is damaged: %s", s->path, archive_error_string(a));
	archive_read_free(a);
	return r;
}

int oci_archive_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err)
{
	VL_FREE char *want = clean_name(name);

	for (int i = 0; want && i < MAX_MEMBER_LINKS; i++) {
		VL_FREE char *link = NULL;
		int r = find(s, want, ret, &link, err);
		if (r <= 0)
			return r;
		free(want);
		want = vl_steal(&link);
	}
	return vl_fail(err, EINVAL, "%s: %s does not lead to a member of the archive", s->path, name);
}
