/* Decompressed blocks, shared by all threads. A block is filled by one of them while the others wait for it;
 * what nobody holds is kept until its memory is wanted, the least recently used first. All memory is taken at
 * the begin and touched when it is used, so a cache never grows past its size. */
#include "squash.h"

#include <sys/mman.h>

#define BIG_PAGE (2ul << 20) /* bytes, of the usual architectures; elsewhere the advice is for nothing */

/* Memory in pages of 2 MiB where the kernel has some: at a cold start a third of the time that unpacking took went into
 * faults, one for each 4 KiB. Slots are used in order, so little more is taken than with small ones. */
static uint8_t *big_pages(size_t size)
{
	uint8_t *memory = aligned_alloc(BIG_PAGE, (size + BIG_PAGE - 1) & ~(BIG_PAGE - 1));

	if (!memory)
		abort(); /* as vl_alloc does */
	madvise(memory, size, MADV_HUGEPAGE);
	return memory;
}

void vmnt_cache_init(struct sq_cache *c, size_t slots, size_t cap)
{
	*c = (struct sq_cache){ .slot = vl_alloc(slots * sizeof *c->slot), .n = slots };
	for (c->heads = 64; c->heads < slots * 2;)
		c->heads *= 2;
	c->head = vl_alloc(c->heads * sizeof(struct sq_block *));
	c->memory = big_pages(slots * cap);
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->changed, NULL);
	for (size_t i = 0; i < slots; i++) {
		struct sq_block *b = &c->slot[i];
		b->data = c->memory + i * cap;
		b->older = i ? b - 1 : NULL;
		b->newer = i + 1 < slots ? b + 1 : NULL;
	}
	c->oldest = c->slot;
	c->newest = c->slot + slots - 1;
}

void vmnt_cache_free(struct sq_cache *c)
{
	if (!c->slot)
		return;
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->changed);
	free(c->memory);
	free(c->head);
	free(c->slot);
	*c = (struct sq_cache){ 0 };
}

/* ---- under the lock ------------------------------------------------------------------------- */

static struct sq_block **head_of(const struct sq_cache *c, uint64_t pos)
{
	return &c->head[(pos * 0x9e3779b97f4a7c15ull >> 32) & (c->heads - 1)];
}

static struct sq_block *find(const struct sq_cache *c, uint64_t pos)
{
	struct sq_block *b = *head_of(c, pos);

	while (b && b->pos != pos)
		b = b->next;
	return b;
}

static void leave_hash(struct sq_cache *c, struct sq_block *b)
{
	struct sq_block **p = head_of(c, b->pos);

	while (*p != b)
		p = &(*p)->next;
	*p = b->next;
	b->pos = 0;
}

static void leave_list(struct sq_cache *c, struct sq_block *b)
{
	*(b->older ? &b->older->newer : &c->oldest) = b->newer;
	*(b->newer ? &b->newer->older : &c->newest) = b->older;
}

static void drop(struct sq_cache *c, struct sq_block *b)
{
	if (--b->refs)
		return;
	bool first = b->state != SQ_READY || b->spent;
	b->older = first ? NULL : c->newest;
	b->newer = first ? c->oldest : NULL;
	*(b->older ? &b->older->newer : &c->oldest) = b;
	*(b->newer ? &b->newer->older : &c->newest) = b;
	if (c->waiting)
		pthread_cond_broadcast(&c->changed);
}

static void wait_for_change(struct sq_cache *c)
{
	c->waiting++;
	pthread_cond_wait(&c->changed, &c->lock);
	c->waiting--;
}

static struct sq_block *join(struct sq_cache *c, struct sq_block *b)
{
	if (!b->refs++)
		leave_list(c, b);
	b->spent = false;
	c->hits++;
	while (b->state == SQ_FILLING)
		wait_for_change(c);
	if (b->state == SQ_READY)
		return b;
	drop(c, b);
	return NULL;
}

/* ---- for all -------------------------------------------------------------------------------- */

struct sq_block *vmnt_cache_get(struct sq_cache *c, uint64_t pos, bool *ret_fill)
{
	struct sq_block *b;

	*ret_fill = false;
	pthread_mutex_lock(&c->lock);
	/* every thread holds a few blocks and there are more: somebody will let go of one */
	while (!(b = find(c, pos)) && !c->oldest)
		wait_for_change(c);
	if (b) {
		b = join(c, b);
	} else {
		b = c->oldest;
		leave_list(c, b);
		if (b->pos)
			leave_hash(c, b);
		b->pos = pos;
		b->refs = 1;
		b->state = SQ_FILLING;
		b->spent = false;
		b->next = *head_of(c, pos);
		*head_of(c, pos) = b;
		c->misses++;
		*ret_fill = true;
	}
	pthread_mutex_unlock(&c->lock);
	return b;
}

struct sq_block *vmnt_cache_filled(struct sq_cache *c, struct sq_block *b, bool good)
{
	pthread_mutex_lock(&c->lock);
	b->state = good ? SQ_READY : SQ_FAILED;
	if (c->waiting)
		pthread_cond_broadcast(&c->changed);
	if (!good) {
		leave_hash(c, b);
		drop(c, b);
	}
	pthread_mutex_unlock(&c->lock);
	return good ? b : NULL;
}

void vmnt_cache_put(struct sq_cache *c, struct sq_block *b)
{
	pthread_mutex_lock(&c->lock);
	drop(c, b);
	pthread_mutex_unlock(&c->lock);
}

void vmnt_cache_put_spent(struct sq_cache *c, struct sq_block *b)
{
	pthread_mutex_lock(&c->lock);
	b->spent = true;
	drop(c, b);
	pthread_mutex_unlock(&c->lock);
}

bool vmnt_cache_has(struct sq_cache *c, uint64_t pos)
{
	pthread_mutex_lock(&c->lock);
	bool yes = find(c, pos) != NULL;
	pthread_mutex_unlock(&c->lock);
	return yes;
}

void vmnt_cache_count(struct sq_cache *c, uint64_t *ret_hits, uint64_t *ret_misses)
{
	pthread_mutex_lock(&c->lock);
	*ret_hits = c->hits;
	*ret_misses = c->misses;
	pthread_mutex_unlock(&c->lock);
}
