/* The containers that starts have made and others may enter: at most one of a kind, there as long as anybody is in one of
 * that kind by way of the holder. */
#include "hold.h"

#include <poll.h>

static void forget(struct ctr_alike *a)
{
	for (size_t i = 0; i < CTR_OFFER_FDS; i++)
		vl_closep(&a->fd[i]);
}

/* Has the host's table of mounts changed since the container was made? Then the next would have other mounts below its
 * binds. */
static bool is_stale(const struct ctr_alike *a)
{
	struct pollfd p = { .fd = a->fd[CTR_OFFER_TABLE] };

	return poll(&p, 1, 0) != 0;
}

static struct ctr_alike *find(const struct ctr_alikes *l, const char *key)
{
	for (size_t i = 0; i < l->n; i++)
		if (vl_streq(l->v[i]->key, key))
			return l->v[i];
	return NULL;
}

struct ctr_alike *ctr_alike_enter(const struct ctr_alikes *l, const char *key)
{
	struct ctr_alike *a = find(l, key);

	if (!a || a->fd[CTR_OFFER_MNT] < 0)
		return NULL;
	if (is_stale(a)) {
		forget(a);
		return NULL;
	}
	a->users++;
	return a;
}

struct ctr_alike *ctr_alike_offer(struct ctr_alikes *l, const char *key, int fds[CTR_OFFER_FDS])
{
	struct ctr_alike *a = find(l, key);

	if (!a) {
		a = vl_alloc(sizeof *a);
		*a = (struct ctr_alike){ .key = vl_strdup(key), .fd = { -1, -1, -1 } };
		l->v = vl_realloc(l->v, l->n + 1, sizeof *l->v);
		l->v[l->n++] = a;
	}
	for (size_t i = 0; i < CTR_OFFER_FDS && a->fd[i] < 0; i++)
		a->fd[i] = vl_steal_fd(&fds[i]);
	a->users++;
	return a;
}

void ctr_alike_leave(struct ctr_alikes *l, struct ctr_alike *a)
{
	if (!a || --a->users)
		return;
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i] == a)
			l->v[i] = l->v[--l->n];
	forget(a);
	free(a->key);
	free(a);
}
