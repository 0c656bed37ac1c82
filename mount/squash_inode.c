#include "squash.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

static const struct {
	uint8_t size; /* of the fixed part, common 16 bytes included */
	mode_t fmt;
} shapes[] = {
	[SQ_DIR] = { 32, S_IFDIR },   [SQ_REG] = { 32, S_IFREG },    [SQ_LINK] = { 24, S_IFLNK },
	[SQ_BLK] = { 24, S_IFBLK },   [SQ_CHR] = { 24, S_IFCHR },    [SQ_FIFO] = { 20, S_IFIFO },
	[SQ_SOCK] = { 20, S_IFSOCK }, [SQ_LDIR] = { 40, S_IFDIR },   [SQ_LREG] = { 56, S_IFREG },
	[SQ_LLINK] = { 24, S_IFLNK }, [SQ_LBLK] = { 28, S_IFBLK },   [SQ_LCHR] = { 28, S_IFCHR },
	[SQ_LFIFO] = { 24, S_IFIFO }, [SQ_LSOCK] = { 24, S_IFSOCK },
};

static void parse_inode(struct sq_inode *i, const uint8_t *b)
{
	uint32_t dev;

	i->xattr = SQ_NONE32;
	i->nlink = vl_le32(b + 16);
	switch (i->type) {
	case SQ_DIR:
		i->dir_block = vl_le32(b + 16), i->nlink = vl_le32(b + 20);
		i->size = vl_le16(b + 24), i->dir_off = vl_le16(b + 26), i->parent = vl_le32(b + 28);
		break;
	case SQ_LDIR:
		i->size = vl_le32(b + 20), i->dir_block = vl_le32(b + 24), i->parent = vl_le32(b + 28);
		i->index = vl_le16(b + 32), i->dir_off = vl_le16(b + 34), i->xattr = vl_le32(b + 36);
		break;
	case SQ_REG:
		i->nlink = 1, i->start = vl_le32(b + 16), i->frag = vl_le32(b + 20);
		i->frag_off = vl_le32(b + 24), i->size = vl_le32(b + 28);
		break;
	case SQ_LREG:
		i->start = vl_le64(b + 16), i->size = vl_le64(b + 24), i->nlink = vl_le32(b + 40);
		i->sparse = VL_MIN(vl_le64(b + 32), i->size);
		i->frag = vl_le32(b + 44), i->frag_off = vl_le32(b + 48), i->xattr = vl_le32(b + 52);
		break;
	case SQ_LINK:
	case SQ_LLINK:
		i->size = vl_le32(b + 20);
		break;
	case SQ_BLK:
	case SQ_CHR:
	case SQ_LBLK:
	case SQ_LCHR:
		dev = vl_le32(b + 20);
		i->rdev = (uint32_t)makedev(dev >> 8 & 0xfff, (dev & 0xff) | (dev >> 12 & 0xfff00));
		i->xattr = i->type > SQ_SOCK ? vl_le32(b + 24) : SQ_NONE32;
		break;
	default: /* FIFO and socket */
		i->xattr = i->type > SQ_SOCK ? vl_le32(b + 20) : SQ_NONE32;
	}
}

int vmnt_sq_inode(struct squash *s, uint64_t ref, struct sq_inode *ret)
{
	struct sq_cursor c = { .block = s->super.inode_table + (ref >> 16),
			       .end = s->super.dir_table,
			       .off = ref & 0xffff };
	uint8_t b[56];
	struct sq_inode i = { .ref = ref };

	if (ref >> 48 || vmnt_sq_meta(s, &c, b, 16) < 0)
		return -EIO;
	i.type = vl_le16(b);
	if (i.type < SQ_DIR || i.type > SQ_LSOCK || vmnt_sq_meta(s, &c, b + 16, shapes[i.type].size - 16u) < 0)
		return -EIO;
	uint16_t uid = vl_le16(b + 4), gid = vl_le16(b + 6);
	if (uid >= s->super.ids || gid >= s->super.ids)
		return -EIO;
	i.mode = (uint16_t)((vl_le16(b + 2) & 07777) | shapes[i.type].fmt);
	i.uid = s->sh->ids[uid];
	i.gid = s->sh->ids[gid];
	i.mtime = vl_le32(b + 8);
	i.number = vl_le32(b + 12);
	i.rest = c;
	parse_inode(&i, b);
	if (i.size > INT64_MAX || (S_ISLNK(i.mode) && (i.size > SQ_LINK_MAX || !i.size)))
		return -EIO;
	if (i.type == SQ_LLINK) { /* its attribute number comes after the target */
		uint8_t target[SQ_LINK_MAX + 4];
		if (vmnt_sq_meta(s, &c, target, i.size + 4) < 0)
			return -EIO;
		i.xattr = vl_le32(target + i.size);
	}
	*ret = i;
	return 0;
}

int vmnt_sq_link(struct squash *s, const struct sq_inode *i, char ret[SQ_LINK_MAX + 1])
{
	struct sq_cursor c = i->rest;

	if (!S_ISLNK(i->mode))
		return -EINVAL;
	if (vmnt_sq_meta(s, &c, ret, i->size) < 0 || memchr(ret, 0, i->size))
		return -EIO;
	ret[i->size] = 0;
	return 0;
}
