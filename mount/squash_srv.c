/* The FUSE side of the server: questions of the kernel answered out of the image.
 *
 * The image never changes, so every answer may be kept for ever, a node id is the inode's place
 * in the image, and there is nothing to open, close or forget: after the first look a file costs
 * the kernel no message but its reads. */
#include "squash_srv.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define FOREVER 1e9 /* seconds */
#define OVERFLOW_ID 65534
#define VIRTUAL_OFF (1ll << 62) /* listing offsets: below come ".", ".." and the image's entries */
#define FIRST_ENTRY 2
#define MAX_BACKGROUND 64 /* what the kernel reads ahead and nobody waits for yet; its default is 12 */

/* Where every answer begins. */
static struct srv_worker *worker(fuse_req_t req, enum srv_count what)
{
	struct vmnt_session *s = fuse_req_userdata(req);
	struct srv_worker *w = pthread_getspecific(s->key);

	vmnt_srv_count(s, what, 1);
	w->sq.work = 0;
	return w;
}

/* ---- attributes ----------------------------------------------------------------------------- */

/* In units of 512 bytes, as the kernel's reader counts: bytes of files that are not holes, packed or not. */
static blkcnt_t blocks_of(const struct sq_inode *i)
{
	return S_ISREG(i->mode) ? (blkcnt_t)((i->size - i->sparse + 511) / 512) : 0;
}

static void attr_of_inode(const struct vmnt_session *s, const struct sq_inode *i, struct stat *st)
{
	*st = (struct stat){
		.st_ino = i->number,
		.st_mode = i->mode,
		.st_nlink = i->nlink,
		/* an id the namespace cannot name would deny the owner his own files */
		.st_uid = !s->image.all_ids     ? s->image.uid
			  : i->uid == SQ_NONE32 ? OVERFLOW_ID
						: i->uid,
		.st_gid = !s->image.all_ids     ? s->image.gid
			  : i->gid == SQ_NONE32 ? OVERFLOW_ID
						: i->gid,
		.st_rdev = i->rdev,
		.st_size = (off_t)i->size,
		.st_blksize = s->sq.super.block_size,
		.st_blocks = blocks_of(i),
		.st_mtim.tv_sec = i->mtime,
		.st_atim.tv_sec = i->mtime,
		.st_ctim.tv_sec = i->mtime,
	};
}

static void attr_of_virtual(const struct vmnt_session *s, uint64_t node, struct stat *st)
{
	size_t i = node & ~SQ_VIRTUAL;

	*st = (struct stat){
		.st_ino = (ino_t)s->sq.super.inodes + 1 + i,
		.st_mode = s->virt.v[i].dir ? S_IFDIR | 0755 : S_IFREG | 0644,
		.st_nlink = s->virt.v[i].dir ? 2 : 1,
		.st_uid = s->image.uid,
		.st_gid = s->image.gid,
		.st_blksize = 4096,
		.st_mtim = { s->started, VL_PLACE_NSEC },
		.st_atim.tv_sec = s->started,
		.st_ctim.tv_sec = s->started,
	};
}

/* Attributes of any node; *ret_inode is filled for nodes of the image. */
static int stat_node(struct srv_worker *w, uint64_t node, struct stat *st, struct sq_inode *ret_inode)
{
	if (node & SQ_VIRTUAL) {
		if ((node & ~SQ_VIRTUAL) >= w->s->virt.n)
			return -ESTALE;
		attr_of_virtual(w->s, node, st);
		return 0;
	}
	int r = vmnt_sq_inode(&w->sq, vmnt_ref_of(&w->sq, node), ret_inode);
	if (r == 0)
		attr_of_inode(w->s, ret_inode, st), vmnt_srv_record(w->s, ret_inode, 0, 0);
	return r;
}

static int entry_of(struct srv_worker *w, uint64_t node, struct fuse_entry_param *e)
{
	struct sq_inode i;

	*e = (struct fuse_entry_param){ .ino = node, .attr_timeout = FOREVER, .entry_timeout = FOREVER };
	return stat_node(w, node, &e->attr, &i);
}

/* ---- operations ----------------------------------------------------------------------------- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	unsigned wanted = FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT |
			  FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ASYNC_READ | FUSE_CAP_READDIRPLUS;
	(void)userdata;
	/* _AUTO would ask for attributes only now and then; here they cost nothing to send */
	conn->want &=
		~(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
	conn->want |= wanted & conn->capable;
	conn->max_readahead = 1u << 20;
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	conn->time_gran = 1000000000; /* seconds: all that the format has */
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct srv_worker *w = worker(req, SRV_LOOKUP);
	struct fuse_entry_param e;
	struct sq_inode dir;
	struct sq_entry found;
	struct stat st;
	uint64_t node = 0;

	if (strlen(name) > SQ_NAME_ASKED) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	int r = stat_node(w, parent, &st, &dir);
	if (r == 0 && !(parent & SQ_VIRTUAL)) {
		r = vmnt_sq_lookup(&w->sq, &dir, name, &found);
		if (r == 0)
			node = vmnt_node_of(&w->sq, found.ref);
	}
	ssize_t v = r == 0 && node ? -1 : vmnt_virtual_find(&w->s->virt, 0, parent, name);
	if (v >= 0)
		node = SQ_VIRTUAL | (uint64_t)v, r = 0;
	if (r == 0 && node)
		r = entry_of(w, node, &e);
	else if (r == 0 || r == -ENOENT) /* node 0: "not there", and the kernel may remember that */
		e = (struct fuse_entry_param){ .entry_timeout = FOREVER }, r = 0;
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct sq_inode i;
	struct stat st;

	(void)fi;
	int r = stat_node(worker(req, SRV_GETATTR), node, &st, &i);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, FOREVER);
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct srv_worker *w = worker(req, SRV_READLINK);
	char target[SQ_LINK_MAX + 1];
	struct sq_inode i;
	struct stat st;

	int r = stat_node(w, node, &st, &i);
	if (r == 0)
		r = node & SQ_VIRTUAL ? -EINVAL : vmnt_sq_link(&w->sq, &i, target);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_readlink(req, target);
}

/* "no such call": from now on the kernel opens and closes without asking, and keeps its cache. */
static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node, (void)fi;
	fuse_reply_err(req, ENOSYS);
}

static bool want_reply(struct srv_worker *w, size_t size)
{
	if (size > w->buf_size) {
		if (size > 8u << 20) /* max_pages of the kernel is 256, 1 MiB */
			return false;
		w->buf = vl_realloc(w->buf, size, 1);
		w->buf_size = size;
	}
	return true;
}

/* The answer is on its way: time for what the next one needs. */
static void after_read(struct srv_worker *w, const struct sq_inode *i, uint64_t off, uint64_t n)
{
	struct sq_inode next;

	vmnt_srv_count(w->s, SRV_BYTES, n);
	if (vmnt_srv_note_read(w->s, i->ref, off, n))
		vmnt_sq_read_ahead(&w->sq, i, off + n);
	if (off + n == i->size && vmnt_ahead_idle(&w->sq.sh->ahead) && vmnt_sq_next_file(&w->sq, i, &next) == 0 &&
	    vmnt_srv_note_end(w->s, i->ref, next.ref))
		vmnt_sq_next_ahead(&w->sq, i, &next);
}

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct srv_worker *w = worker(req, SRV_READ);
	struct sq_inode i;
	struct stat st;

	(void)fi;
	int r = want_reply(w, size) ? stat_node(w, node, &st, &i) : -EINVAL;
	ssize_t n = r < 0 || node & SQ_VIRTUAL ? r : vmnt_sq_read(&w->sq, &i, (uint64_t)off, w->buf, size);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		fuse_reply_buf(req, w->buf, (size_t)n);
	if (n > 0)
		vmnt_srv_record(w->s, &i, (uint64_t)off, (uint64_t)n), after_read(w, &i, (uint64_t)off, (uint64_t)n);
}

/* SEEK_DATA and SEEK_HOLE; for the others the kernel needs nobody. */
static void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence, struct fuse_file_info *fi)
{
	struct srv_worker *w = worker(req, SRV_LSEEK);
	struct sq_inode i;
	struct stat st;
	uint64_t at = 0;

	(void)fi;
	int r = off < 0 ? -ENXIO : whence != SEEK_DATA && whence != SEEK_HOLE ? -EINVAL : stat_node(w, node, &st, &i);
	if (r == 0)
		r = node & SQ_VIRTUAL ? -ENXIO : vmnt_sq_seek(&w->sq, &i, (uint64_t)off, whence == SEEK_HOLE, &at);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_lseek(req, (off_t)at);
}

struct listing {
	fuse_req_t req;
	struct srv_worker *w;
	size_t size, used;
	bool plus;
};

/* False when the reply is full. */
static bool put(struct listing *l, const char *name, uint64_t node, mode_t type, uint64_t number, off_t next)
{
	char *p = l->w->buf + l->used;
	size_t room = l->size - l->used, n;

	if (l->plus) {
		struct fuse_entry_param e = { .attr = { .st_ino = number, .st_mode = type } };
		bool dots = vl_streq(name, ".") || vl_streq(name, "..");
		/* an inode that cannot be read is listed by name; a look at it gives the error */
		if (!dots && entry_of(l->w, node, &e) < 0)
			e = (struct fuse_entry_param){ .attr = { .st_ino = number, .st_mode = type } };
		n = fuse_add_direntry_plus(l->req, p, room, name, &e, next);
	} else {
		struct stat st = { .st_ino = number, .st_mode = type };
		n = fuse_add_direntry(l->req, p, room, name, &st, next);
	}
	if (n > room)
		return false;
	l->used += n;
	return true;
}

static mode_t mode_of_type(unsigned basic)
{
	static const mode_t fmt[] = { 0, S_IFDIR, S_IFREG, S_IFLNK, S_IFBLK, S_IFCHR, S_IFIFO, S_IFSOCK };
	return basic < VL_COUNT(fmt) ? fmt[basic] : 0;
}

/* The image's own entries from `off` on. 1: all given, 0: reply full, -EIO. */
static int list_image(struct listing *l, uint64_t node, const struct sq_inode *i, off_t off)
{
	struct squash *sq = &l->w->sq;
	struct sq_entry e;
	struct sq_dir d, before;

	if (node & SQ_VIRTUAL)
		return 1;
	int r = vmnt_sq_dir(sq, i, (uint32_t)(off - FIRST_ENTRY), &d);
	while (r >= 0) {
		before = d;
		r = vmnt_sq_next(sq, &d, &e);
		if (r == 0)
			return 1;
		if (r > 0 && !put(l, e.name, vmnt_node_of(sq, e.ref), mode_of_type(e.type), e.number,
				  FIRST_ENTRY + (off_t)e.end)) {
			vmnt_sq_dir_hint(sq, &before);
			return 0;
		}
	}
	return l->used ? 0 : r; /* what was good is shown; the error comes with the next call */
}

static void list_virtual(struct listing *l, uint64_t node, off_t off)
{
	ssize_t v = off < VIRTUAL_OFF ? 0 : off - VIRTUAL_OFF;

	while ((v = vmnt_virtual_find(&l->w->s->virt, (size_t)v, node, NULL)) >= 0) {
		const struct sq_virtual *e = &l->w->s->virt.v[v];
		if (!put(l, e->name, SQ_VIRTUAL | (uint64_t)v, e->dir ? S_IFDIR : S_IFREG,
			 l->w->sq.super.inodes + 1ull + (uint64_t)v, VIRTUAL_OFF + v + 1))
			return;
		v++;
	}
}

static void list(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, bool plus)
{
	struct srv_worker *w = worker(req, SRV_READDIR);
	struct listing l = { req, w, size, 0, plus };
	struct sq_inode i;
	struct stat st;

	int r = want_reply(w, size) ? stat_node(w, node, &st, &i) : -EINVAL;
	if (r == 0 && !S_ISDIR(st.st_mode))
		r = -ENOTDIR;
	if (r == 0 && off < 1)
		off = put(&l, ".", node, S_IFDIR, st.st_ino, 1) ? 1 : off;
	if (r == 0 && off == 1)
		off = put(&l, "..", node, S_IFDIR, node & SQ_VIRTUAL ? st.st_ino : i.parent, FIRST_ENTRY) ? FIRST_ENTRY
													  : off;
	if (r == 0 && off >= FIRST_ENTRY) {
		r = off < VIRTUAL_OFF ? list_image(&l, node, &i, off) : 1;
		if (r == 1)
			list_virtual(&l, node, off);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_buf(req, w->buf, l.used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, node, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list(req, node, size, off, true);
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	const struct sq_super *sb = &worker(req, SRV_STATFS)->sq.super;
	struct statvfs v = {
		.f_bsize = sb->block_size,
		.f_frsize = sb->block_size,
		.f_files = sb->inodes,
		.f_namemax = SQ_NAME_ASKED,
		.f_blocks = (sb->used + sb->block_size - 1) / sb->block_size,
	};
	(void)node;
	fuse_reply_statfs(req, &v);
}

static void reply_xattr(fuse_req_t req, struct srv_worker *w, ssize_t n, size_t size)
{
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else if (!size) /* how long is it? */
		fuse_reply_xattr(req, (size_t)n);
	else if ((size_t)n > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, w->buf, (size_t)n);
}

/* 1: an inode of the image, 0: one that has none, -errno; ENOSYS where the image has none at all: the kernel
 * stops asking. */
static int xattrs_of(struct srv_worker *w, uint64_t node, struct sq_inode *ret)
{
	struct stat st;

	if (!w->sq.xattr_sets)
		return -ENOSYS;
	if (!want_reply(w, SQ_XATTR_MAX))
		return -ENOMEM;
	int r = stat_node(w, node, &st, ret);
	return r < 0 ? r : !(node & SQ_VIRTUAL) && ret->xattr != SQ_NONE32;
}

static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct srv_worker *w = worker(req, SRV_XATTR);
	struct sq_inode i;
	int r = xattrs_of(w, node, &i);

	reply_xattr(req, w, r < 0 ? r : r ? vmnt_sq_xattr_get(&w->sq, &i, name, w->buf) : -ENODATA, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct srv_worker *w = worker(req, SRV_XATTR);
	struct sq_inode i;
	int r = xattrs_of(w, node, &i);

	reply_xattr(req, w, r > 0 ? vmnt_sq_xattr_list(&w->sq, &i, w->buf) : r, size);
}

/* access, flush and the like are absent: libfuse answers ENOSYS for them and the kernel stops asking. */
const struct fuse_lowlevel_ops vmnt_srv_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.opendir = op_open,
	.read = op_read,
	.lseek = op_lseek,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
};
