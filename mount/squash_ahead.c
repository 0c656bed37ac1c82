/* One thread that unpacks blocks which will be asked for next, while the one that answers does another. What
 * waits is taken back by whoever needs it first; when there is much to do nothing is left for later. */
#include "squash.h"

void vmnt_ahead_init(struct sq_ahead *a)
{
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->more, NULL);
}

void vmnt_ahead_free(struct sq_ahead *a)
{
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->more);
}

bool vmnt_ahead_idle(struct sq_ahead *a)
{
	return atomic_load_explicit(&a->room, memory_order_relaxed) > 0;
}

bool vmnt_ahead_push(struct sq_ahead *a, const struct sq_place *at)
{
	pthread_mutex_lock(&a->lock);
	bool room = a->n < a->max;
	if (room) {
		a->queue[a->n++] = *at;
		pthread_cond_signal(&a->more);
	}
	a->room = a->max - a->n;
	pthread_mutex_unlock(&a->lock);
	return room;
}

static void take_out(struct sq_ahead *a, size_t i)
{
	memmove(a->queue + i, a->queue + i + 1, (--a->n - i) * sizeof *a->queue);
	a->room = a->max - a->n;
}

void vmnt_ahead_cancel(struct sq_ahead *a, uint64_t pos)
{
	if (!a->max)
		return;
	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < a->n; i++)
		if (a->queue[i].pos == pos) {
			take_out(a, i);
			break;
		}
	pthread_mutex_unlock(&a->lock);
}

void vmnt_ahead_start(struct sq_ahead *a)
{
	a->max = SQ_AHEAD_MAX;
	a->room = SQ_AHEAD_MAX;
}

void vmnt_ahead_loop(struct squash *s)
{
	struct sq_ahead *a = &s->sh->ahead;

	for (;;) {
		pthread_mutex_lock(&a->lock);
		while (!a->n)
			pthread_cond_wait(&a->more, &a->lock);
		struct sq_place at = a->queue[0];
		take_out(a, 0);
		a->done++;
		pthread_mutex_unlock(&a->lock);
		struct sq_block *b = vmnt_cache_has(&s->sh->data, at.pos) ? NULL : vmnt_sq_data(s, &at);
		if (b)
			vmnt_cache_put(&s->sh->data, b);
	}
}
