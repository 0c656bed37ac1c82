#include "table.h"

#include <sys/random.h>

uint64_t img_hash_bytes(const void *p, size_t n, uint64_t seed)
{
	const uint8_t *b = p;
	uint64_t h = seed ^ n * 0x9e3779b97f4a7c15u, w;

	for (; n >= 8; n -= 8, b += 8) {
		memcpy(&w, b, 8);
		h = (h ^ w) * 0xff51afd7ed558ccdu;
		h ^= h >> 29;
	}
	for (; n; n--)
		h = (h ^ *b++) * 0x100000001b3u;
	return img_mix(h);
}

static inline void sip_round(uint64_t v[4])
{
#define ROTL(x, b) ((x) << (b) | (x) >> (64 - (b)))
	v[0] += v[1], v[1] = ROTL(v[1], 13) ^ v[0], v[0] = ROTL(v[0], 32);
	v[2] += v[3], v[3] = ROTL(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = ROTL(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = ROTL(v[1], 17) ^ v[2], v[2] = ROTL(v[2], 32);
#undef ROTL
}

static void sip_word(uint64_t v[4], uint64_t w)
{
	v[3] ^= w;
	sip_round(v);
	sip_round(v);
	v[0] ^= w;
}

uint64_t img_table_name(struct img_table *t, const void *p, size_t n, uint64_t where)
{
	while (!t->key[0] && !t->key[1])
		if (getrandom(t->key, sizeof t->key, 0) < 0 && errno != EINTR)
			t->key[0] = 1; /* no kernel of ours is without it; a weak key is still correct */

	/* SipHash-2-4 (Aumasson, Bernstein 2012) over `where` and the bytes */
	uint64_t v[4] = { t->key[0] ^ 0x736f6d6570736575u, t->key[1] ^ 0x646f72616e646f6du,
			  t->key[0] ^ 0x6c7967656e657261u, t->key[1] ^ 0x7465646279746573u };
	const uint8_t *b = p;
	uint64_t last = (uint64_t)n << 56;

	sip_word(v, where);
	for (uint64_t w; n >= sizeof w; n -= sizeof w, b += sizeof w) {
		memcpy(&w, b, sizeof w); /* in this process only: the byte order does not matter */
		sip_word(v, w);
	}
	for (size_t i = 0; i < n; i++)
		last |= (uint64_t)b[i] << 8 * i;
	sip_word(v, last);
	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static void grow(struct img_table *t)
{
	struct img_table bigger = { .cap = t->cap ? t->cap * 2 : 1024, .key = { t->key[0], t->key[1] } };

	bigger.slots = vl_alloc(bigger.cap * sizeof *bigger.slots);
	for (size_t i = 0; i < t->cap; i++)
		if (t->slots[i].p)
			img_table_add(&bigger, t->slots[i].hash, t->slots[i].p);
	free(t->slots);
	*t = bigger;
}

void img_table_add(struct img_table *t, uint64_t hash, void *p)
{
	if (t->n * 3 >= t->cap * 2)
		grow(t);
	size_t i = hash & (t->cap - 1);
	while (t->slots[i].p)
		i = (i + 1) & (t->cap - 1);
	t->slots[i] = (struct img_slot){ hash, p };
	t->n++;
}

void *img_table_next(const struct img_table *t, uint64_t hash, size_t *pos)
{
	if (!t->cap)
		return NULL;
	size_t i = *pos == SIZE_MAX ? hash & (t->cap - 1) : (*pos + 1) & (t->cap - 1);
	for (; t->slots[i].p; i = (i + 1) & (t->cap - 1))
		if (t->slots[i].hash == hash) {
			*pos = i;
			return t->slots[i].p;
		}
	return NULL;
}

void img_table_remove(struct img_table *t, uint64_t hash, const void *p)
{
	size_t mask = t->cap - 1, i = hash & mask;

	while (t->slots[i].p && t->slots[i].p != p)
		i = (i + 1) & mask;
	if (!t->slots[i].p)
		return;
	t->n--;
	/* close the gap, so that a search never stops early at it */
	for (size_t j = i;;) {
		t->slots[i].p = NULL;
		do {
			j = (j + 1) & mask;
			if (!t->slots[j].p)
				return;
		} while (((j - (t->slots[j].hash & mask)) & mask) < ((j - i) & mask));
		t->slots[i] = t->slots[j];
		i = j;
	}
}

void img_table_free(struct img_table *t)
{
	free(t->slots);
	*t = (struct img_table){ 0 };
}
