#include "squash.h"

/* Linear search: some hundred positions in one or two pages of memory are compared faster than
 * one block of 8 KiB is copied out of them. */

void vmnt_cache_init(struct sq_cache *c, size_t slots, size_t cap)
{
	*c = (struct sq_cache){ .slot = vl_alloc(slots * sizeof *c->slot), .n = slots, .cap = cap };
}

void vmnt_cache_free(struct sq_cache *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->slot[i].data);
	free(c->slot);
	*c = (struct sq_cache){ 0 };
}

struct sq_block *vmnt_cache_find(struct sq_cache *c, uint64_t pos)
{
	for (size_t i = 0; i < c->n; i++)
		if (c->slot[i].pos == pos) {
			c->slot[i].used = ++c->clock;
			return &c->slot[i];
		}
	return NULL;
}

struct sq_block *vmnt_cache_victim(struct sq_cache *c)
{
	struct sq_block *b = c->slot;

	for (size_t i = 1; i < c->n; i++)
		if (c->slot[i].used < b->used)
			b = &c->slot[i];
	b->pos = 0;
	b->used = ++c->clock;
	if (!b->data)
		b->data = vl_alloc(c->cap);
	return b;
}
