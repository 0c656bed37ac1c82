#include "squash.h"

#include <sys/stat.h>

/* A listing is a row of headers, each followed by up to 256 entries whose inodes share a block.
 * Its stated size counts 3 bytes for "." and ".." that are not stored. */
#define NOT_STORED 3

static int start_of(const struct squash *s, const struct sq_inode *i, struct sq_dir *ret)
{
	if (!S_ISDIR(i->mode))
		return -ENOTDIR;
	*ret = (struct sq_dir){
		.ref = i->ref,
		.cur = { .block = s->super.dir_table + i->dir_block, .end = s->super.used, .off = i->dir_off },
		.total = i->size > NOT_STORED ? (uint32_t)i->size - NOT_STORED : 0,
	};
	return 0;
}

static int take(struct squash *s, struct sq_dir *d, void *buf, uint32_t n)
{
	if (n > d->total - d->pos)
		return -EIO;
	d->pos += n;
	return vmnt_sq_meta(s, &d->cur, buf, n);
}

static bool name_is_sane(const char *name, size_t n)
{
	return !memchr(name, 0, n) && !memchr(name, '/', n) && !vl_streq(name, ".") && !vl_streq(name, "..");
}

int vmnt_sq_next(struct squash *s, struct sq_dir *d, struct sq_entry *ret)
{
	uint8_t b[12];

	if (!d->count) {
		if (d->pos == d->total)
			return 0;
		if (take(s, d, b, 12) < 0 || vl_le32(b) >= 256)
			return -EIO;
		d->count = vl_le32(b) + 1;
		d->start = vl_le32(b + 4);
		d->number = vl_le32(b + 8);
	}
	if (take(s, d, b, 8) < 0)
		return -EIO;
	uint32_t n = vl_le16(b + 6) + 1u;
	if (n > SQ_NAME_MAX || take(s, d, ret->name, n) < 0)
		return -EIO;
	ret->name[n] = 0;
	if (!name_is_sane(ret->name, n))
		return -EIO;
	d->count--;
	ret->ref = (uint64_t)d->start << 16 | vl_le16(b);
	ret->number = d->number + (uint32_t)(int16_t)vl_le16(b + 2);
	ret->type = vl_le16(b + 4);
	ret->end = d->pos;
	return 1;
}

/* The next part of a listing may be another thread's to answer: places are remembered for all. */
static bool find_hint(struct sq_shared *sh, uint64_t ref, uint32_t pos, struct sq_dir *ret)
{
	bool found = false;

	pthread_mutex_lock(&sh->lock);
	for (size_t k = 0; !found && k < SQ_DIR_HINTS; k++)
		if (sh->hint[k].ref == ref && sh->hint[k].pos == pos) {
			*ret = sh->hint[k];
			found = true;
		}
	pthread_mutex_unlock(&sh->lock);
	return found;
}

int vmnt_sq_dir(struct squash *s, const struct sq_inode *i, uint32_t pos, struct sq_dir *ret)
{
	struct sq_entry e;

	if (pos && find_hint(s->sh, i->ref, pos, ret))
		return 0;
	int r = start_of(s, i, ret);
	while (r >= 0 && ret->pos < pos) { /* the hint was pushed out: from the start */
		r = vmnt_sq_next(s, ret, &e);
		if (r == 0)
			return -EINVAL;
	}
	return r < 0 ? r : ret->pos == pos ? 0 : -EINVAL;
}

void vmnt_sq_dir_hint(struct squash *s, const struct sq_dir *d)
{
	pthread_mutex_lock(&s->sh->lock);
	s->sh->hint[s->sh->next_hint++ % SQ_DIR_HINTS] = *d;
	pthread_mutex_unlock(&s->sh->lock);
}

/* Long directories carry an index: name and place of the first entry of each metadata block. */
static int use_index(struct squash *s, const struct sq_inode *i, const char *name, struct sq_dir *d)
{
	struct sq_cursor c = i->rest;
	uint32_t place = 0, block = 0;

	for (unsigned k = 0; k < i->index; k++) {
		uint8_t b[12];
		char first[SQ_NAME_MAX + 1];
		if (vmnt_sq_meta(s, &c, b, 12) < 0)
			return -EIO;
		uint64_t n = vl_le32(b + 8) + 1ull;
		if (n > SQ_NAME_MAX || vmnt_sq_meta(s, &c, first, (size_t)n) < 0)
			return -EIO;
		first[n] = 0;
		if (strcmp(first, name) > 0)
			break;
		place = vl_le32(b);
		block = vl_le32(b + 4);
	}
	if (!place)
		return 0;
	if (place > d->total)
		return -EIO;
	d->pos = place;
	d->cur.block = s->super.dir_table + block;
	d->cur.off = (i->dir_off + place) % SQ_META_SIZE;
	return 0;
}

int vmnt_sq_lookup(struct squash *s, const struct sq_inode *i, const char *name, struct sq_entry *ret)
{
	struct sq_dir d;
	int r = start_of(s, i, &d);

	if (r < 0 || (r = use_index(s, i, name, &d)) < 0)
		return r;
	while ((r = vmnt_sq_next(s, &d, ret)) > 0) {
		if (vl_streq(ret->name, name))
			return 0;
		if ((unsigned char)ret->name[0] > (unsigned char)name[0]) /* sorted */
			return -ENOENT;
	}
	return r < 0 ? r : -ENOENT;
}
