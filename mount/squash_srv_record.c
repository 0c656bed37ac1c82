/* What a program reads at its start: each inode and each block once, in the order of the first question for it. The
 * kernel asks for a little more than the program does, and will the next time. */
#include "squash_srv.h"

#define RECORD_MAX 65536u /* 1 MiB; starts that import a thousand files read some ten thousand blocks */
#define SLOTS (4 * RECORD_MAX)

struct srv_record {
	pthread_mutex_t lock;
	size_t n;
	struct vmnt_read read[RECORD_MAX];
	uint32_t slot[SLOTS]; /* hash table: place in `read` + 1, 0 = free */
};

struct srv_record *vmnt_record_new(void)
{
	struct srv_record *r = vl_alloc(sizeof *r);

	pthread_mutex_init(&r->lock, NULL);
	return r;
}

void vmnt_record_free(struct srv_record *r)
{
	if (r)
		pthread_mutex_destroy(&r->lock);
	free(r);
}

static void add(struct srv_record *r, uint64_t ref, uint32_t block)
{
	size_t at = (ref * 0x9e3779b97f4a7c15ull + block * 0xd6e8feb86659fd93ull) >> 40 & (SLOTS - 1);

	for (; r->slot[at]; at = (at + 1) & (SLOTS - 1)) {
		const struct vmnt_read *old = &r->read[r->slot[at] - 1];
		if (old->inode == ref && old->block == block)
			return;
	}
	if (r->n == RECORD_MAX)
		return;
	r->read[r->n++] = (struct vmnt_read){ .inode = ref, .block = block };
	r->slot[at] = (uint32_t)r->n;
}

void vmnt_srv_record(struct vmnt_session *s, const struct sq_inode *i, uint64_t off, uint64_t n)
{
	uint32_t size = s->sq.super.block_size;

	if (!s->record)
		return;
	pthread_mutex_lock(&s->record->lock);
	add(s->record, i->ref, VMNT_READ_INODE);
	for (uint64_t b = off / size; n && b <= (off + n - 1) / size && b < VMNT_READ_INODE; b++)
		add(s->record, i->ref, (uint32_t)b);
	pthread_mutex_unlock(&s->record->lock);
}

size_t vmnt_session_record(struct vmnt_session *s, size_t from, struct vmnt_read *ret, size_t max)
{
	size_t n = 0;

	if (!s->record)
		return 0;
	pthread_mutex_lock(&s->record->lock);
	if (from < s->record->n) {
		n = VL_MIN(s->record->n - from, max);
		memcpy(ret, s->record->read + from, n * sizeof *ret);
	}
	pthread_mutex_unlock(&s->record->lock);
	return n;
}
