/* Members of an image archive. One pass lists them with their places; a member is then read from its
 * header on. A compressed archive cannot be entered in the middle, so it is inflated once into a file
 * without a name, which is gone with this process however it ends. */
#include "source.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>

#define MAX_MEMBERS 100000      /* an archive has a handful of members per layer */
#define MAX_SPOOL (256ll << 30) /* inflated; layers are mostly compressed themselves */
#define MAX_MEMBER_LINKS 8      /* docker save links equal layers once */

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

static int new_reader(struct oci_source *s, int64_t pos, bool filters, struct archive **ret, int *ret_fd,
		      struct vl_err *err)
{
	/* a description of its own, since libarchive moves the offset; same inode, whatever the path says now */
	VL_FREE char *again = vl_asprintf("/proc/self/fd/%d", s->fd);
	VL_CLOSE int fd = open(again, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || lseek(fd, pos, SEEK_SET) < 0)
		return vl_fail_sys(err, errno, "cannot open %s again", s->path);
	struct archive *a = archive_read_new();
	if (!a)
		abort();
	if (filters) {
		archive_read_support_format_raw(a);
		archive_read_support_filter_gzip(a); /* docker save | gzip */
		archive_read_support_filter_zstd(a);
	} else {
		archive_read_support_format_tar(a);
	}
	if (archive_read_open_fd(a, fd, 1 << 18) != ARCHIVE_OK) {
		int r = vl_fail(err, EINVAL, "%s is not an image archive: %s", s->path, archive_error_string(a));
		archive_read_free(a);
		return r;
	}
	*ret = a;
	*ret_fd = vl_steal_fd(&fd);
	return 0;
}

static int inflate_into(struct archive *a, int out, struct oci_source *s, struct vl_err *err)
{
	const void *p;
	size_t n;
	la_int64_t off;
	int st, r;

	while ((st = archive_read_data_block(a, &p, &n, &off)) == ARCHIVE_OK) {
		if (off > MAX_SPOOL)
			return vl_fail(err, EFBIG, "%s inflates to more than %lld bytes", s->path, MAX_SPOOL);
		if ((r = vl_pwrite_full(out, p, n, (uint64_t)off, "the inflated archive", err)) < 0)
			return r;
	}
	return st == ARCHIVE_EOF ? 0 : vl_fail(err, EINVAL, "%s is damaged: %s", s->path, archive_error_string(a));
}

/* Leaves a plain tar in s->fd. */
static int make_plain(struct oci_source *s, struct vl_err *err)
{
	struct archive *a;
	struct archive_entry *e;
	VL_CLOSE int fd = -1, out = -1;
	int r = new_reader(s, 0, true, &a, &fd, err);

	if (r < 0)
		return r;
	int st = archive_read_next_header(a, &e);
	if (st != ARCHIVE_OK && st != ARCHIVE_EOF)
		r = vl_fail(err, EINVAL, "%s is not an image archive: %s", s->path, archive_error_string(a));
	else if (st == ARCHIVE_OK && archive_filter_code(a, 0) != ARCHIVE_FILTER_NONE &&
		 (r = out = vl_tmpfile("the inflated archive", err)) >= 0 && (r = inflate_into(a, out, s, err)) == 0) {
		close(s->fd);
		s->fd = vl_steal_fd(&out);
	}
	archive_read_free(a);
	return r < 0 ? r : 0;
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
	const char *hard = archive_entry_hardlink(e);
	const char *soft = archive_entry_filetype(e) == AE_IFLNK ? archive_entry_symlink(e) : NULL;
	const char *slash = strrchr(name, '/');

	if (hard)
		return clean_name(hard);
	if (!soft || *soft == '/')
		return NULL;
	VL_FREE char *joined = vl_asprintf("%.*s/%s", slash ? (int)(slash - name) : 0, name, soft);
	return clean_name(joined);
}

static void add_member(struct oci_source *s, struct archive *a, struct archive_entry *e, size_t *cap)
{
	const char *path = archive_entry_pathname(e);
	char *name = path ? clean_name(path) : NULL;

	if (!name)
		return; /* it leads out of the archive: nobody can mean it */
	if (!s->members || s->n_members == *cap) {
		*cap = *cap ? *cap * 2 : 64;
		s->members = vl_realloc(s->members, *cap, sizeof *s->members);
	}
	bool link = archive_entry_hardlink(e) || archive_entry_filetype(e) == AE_IFLNK;
	s->members[s->n_members++] = (struct oci_member){
		.name = name,
		.link = link ? link_target(e, name) : NULL,
		.pos = archive_read_header_position(a),
		.file = !link && archive_entry_filetype(e) == AE_IFREG,
	};
}

static int list_members(struct oci_source *s, struct vl_err *err)
{
	struct archive *a;
	struct archive_entry *e;
	VL_CLOSE int fd = -1;
	size_t cap = 0;
	int st, r = make_plain(s, err);

	if (r < 0 || (r = new_reader(s, 0, false, &a, &fd, err)) < 0)
		return r;
	while ((st = archive_read_next_header(a, &e)) == ARCHIVE_OK || st == ARCHIVE_WARN) {
		if (s->n_members == MAX_MEMBERS)
			break;
		add_member(s, a, e, &cap);
	}
	if (st == ARCHIVE_OK || st == ARCHIVE_WARN)
		r = vl_fail(err, E2BIG, "%s has more than %d members", s->path, MAX_MEMBERS);
	else if (st != ARCHIVE_EOF)
		r = vl_fail(err, EINVAL, "%s is damaged: %s", s->path, archive_error_string(a));
	archive_read_free(a);
	return r;
}

static int open_member(struct oci_source *s, const struct oci_member *member, struct oci_blob **ret, struct vl_err *err)
{
	struct archive *a;
	struct archive_entry *e;
	VL_CLOSE int fd = -1;
	int r = new_reader(s, member->pos, false, &a, &fd, err);

	if (r < 0)
		return r;
	int st = archive_read_next_header(a, &e);
	if (st != ARCHIVE_OK && st != ARCHIVE_WARN) {
		r = vl_fail(err, EINVAL, "%s is damaged: %s", s->path, archive_error_string(a));
		archive_read_free(a);
		return r;
	}
	struct member_blob *m = vl_alloc(sizeof *m);
	uint64_t size = (uint64_t)VL_MAX(archive_entry_size(e), 0);
	m->base = (struct oci_blob){ member_read, member_close, size, vl_asprintf("%s:%s", s->path, member->name),
				     false };
	m->a = a;
	m->fd = vl_steal_fd(&fd);
	m->left = size;
	*ret = &m->base;
	return 0;
}

/* The last member of that name: an archive that was appended to means the newer one. */
static const struct oci_member *find(const struct oci_source *s, const char *name)
{
	for (size_t i = s->n_members; i-- > 0;)
		if (vl_streq(s->members[i].name, name))
			return &s->members[i];
	return NULL;
}

int oci_archive_file(struct oci_source *s, const char *name, struct oci_blob **ret, struct vl_err *err)
{
	VL_FREE char *want = clean_name(name);
	int r = s->members ? 0 : list_members(s, err);

	if (r < 0)
		return r;
	for (int i = 0; want && i < MAX_MEMBER_LINKS; i++) {
		const struct oci_member *m = find(s, want);
		if (!m)
			return vl_fail(err, ENOENT, "%s has no member %s", s->path, want);
		if (m->file)
			return open_member(s, m, ret, err);
		if (!m->link)
			return vl_fail(err, EINVAL, "%s: the member %s is neither a file nor a link inside the archive",
				       s->path, want);
		free(want);
		want = vl_strdup(m->link);
	}
	return vl_fail(err, EINVAL, "%s: %s does not lead to a member of the archive", s->path, name);
}

void oci_archive_forget(struct oci_source *s)
{
	for (size_t i = 0; i < s->n_members; i++) {
		free(s->members[i].name);
		free(s->members[i].link);
	}
	free(s->members);
}
