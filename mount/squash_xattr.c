/* Extended attributes: a table of sets, each a row of names and values in a chain of metadata. A value that
 * many have stands once, and the others point to it. */
#include "squash.h"

#include <linux/limits.h>

#define OUT_OF_LINE 0x100
#define TABLE_HEAD 16 /* before the pointers to the sets */
#define SET_SIZE 16u

int vmnt_sq_xattr_open(struct squash *s)
{
	uint8_t h[TABLE_HEAD];
	struct sq_super *sb = &s->super;

	if (sb->xattr_table == SQ_NONE64)
		return 0;
	if (vmnt_sq_pread(s, h, sizeof h, sb->xattr_table) < 0)
		return -EIO;
	s->xattr_first = vl_le64(h);
	s->xattr_sets = vl_le32(h + 8);
	uint64_t blocks = ((uint64_t)s->xattr_sets * SET_SIZE + SQ_META_SIZE - 1) / SQ_META_SIZE;
	return s->xattr_first > sb->used || blocks * 8 > sb->used - sb->xattr_table - TABLE_HEAD ? -EIO : 0;
}

static struct sq_cursor pair_at(const struct squash *s, uint64_t ref)
{
	return (struct sq_cursor){ .block = s->xattr_first + (ref >> 16), .end = s->super.used, .off = ref & 0xffff };
}

static int set_of(struct squash *s, const struct sq_inode *i, struct sq_cursor *ret, uint32_t *ret_count)
{
	const uint32_t in_block = SQ_META_SIZE / SET_SIZE;
	uint8_t p[8], e[SET_SIZE];

	*ret_count = 0;
	if (i->xattr == SQ_NONE32)
		return 0;
	if (i->xattr >= s->xattr_sets ||
	    vmnt_sq_pread(s, p, sizeof p, s->super.xattr_table + TABLE_HEAD + i->xattr / in_block * 8) < 0)
		return -EIO;
	struct sq_cursor c = { .block = vl_le64(p), .end = s->super.used, .off = i->xattr % in_block * SET_SIZE };
	if (vmnt_sq_meta(s, &c, e, sizeof e) < 0)
		return -EIO;
	*ret = pair_at(s, vl_le64(e));
	*ret_count = vl_le32(e + 8);
	return 0;
}

struct pair {
	char name[16 + XATTR_NAME_MAX + 1];
	bool shown, elsewhere;
	uint32_t size; /* of the value, where the cursor is then */
};

static int next(struct squash *s, struct sq_cursor *c, struct pair *ret)
{
	/* "trusted." is for the machine's administrator, whom no answer of ours can tell from the user */
	static const char *const prefix[] = { "user.", NULL, "security." };
	uint8_t h[4], v[4];

	if (vmnt_sq_meta(s, c, h, sizeof h) < 0)
		return -EIO;
	unsigned type = vl_le16(h), n = vl_le16(h + 2), kind = type & 0xff;
	const char *p = kind < VL_COUNT(prefix) ? prefix[kind] : NULL;
	size_t at = p ? strlen(p) : 0;
	if (n > XATTR_NAME_MAX)
		return -EIO;
	memcpy(ret->name, p ? p : "", at);
	if (vmnt_sq_meta(s, c, ret->name + at, n) < 0 || memchr(ret->name, 0, at + n) ||
	    vmnt_sq_meta(s, c, v, sizeof v) < 0)
		return -EIO;
	ret->name[at + n] = 0;
	ret->shown = p != NULL;
	ret->elsewhere = type & OUT_OF_LINE;
	ret->size = vl_le32(v);
	return 0;
}

static int skip(struct squash *s, struct sq_cursor *c, uint32_t n)
{
	uint8_t b[1024];

	for (uint32_t some; n; n -= some) {
		some = VL_MIN(n, (uint32_t)sizeof b);
		if (vmnt_sq_meta(s, c, b, some) < 0)
			return -EIO;
	}
	return 0;
}

static ssize_t value(struct squash *s, struct sq_cursor c, const struct pair *p, uint8_t *buf)
{
	uint8_t ref[8];
	uint32_t size = p->size;

	if (p->elsewhere) {
		if (size != sizeof ref || vmnt_sq_meta(s, &c, ref, sizeof ref) < 0)
			return -EIO;
		c = pair_at(s, vl_le64(ref));
		if (vmnt_sq_meta(s, &c, ref, 4) < 0)
			return -EIO;
		size = vl_le32(ref);
	}
	return size > XATTR_SIZE_MAX || vmnt_sq_meta(s, &c, buf, size) < 0 ? -EIO : (ssize_t)size;
}

ssize_t vmnt_sq_xattr_get(struct squash *s, const struct sq_inode *i, const char *name, void *buf)
{
	struct sq_cursor c;
	struct pair p;
	uint32_t n;

	if (set_of(s, i, &c, &n) < 0)
		return -EIO;
	for (; n; n--) {
		if (next(s, &c, &p) < 0)
			return -EIO;
		if (p.shown && vl_streq(p.name, name))
			return value(s, c, &p, buf);
		if (skip(s, &c, p.size) < 0)
			return -EIO;
	}
	return -ENODATA;
}

ssize_t vmnt_sq_xattr_list(struct squash *s, const struct sq_inode *i, char *buf)
{
	struct sq_cursor c;
	struct pair p;
	size_t used = 0;
	uint32_t n;

	if (set_of(s, i, &c, &n) < 0)
		return -EIO;
	for (; n; n--) {
		if (next(s, &c, &p) < 0 || skip(s, &c, p.size) < 0)
			return -EIO;
		size_t len = strlen(p.name) + 1;
		if (!p.shown)
			continue;
		if (len > SQ_XATTR_MAX - used)
			return -EIO;
		memcpy(buf + used, p.name, len);
		used += len;
	}
	return (ssize_t)used;
}
