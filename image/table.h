/* A growing hash table from 64-bit hashes to pointers; the caller compares the candidates. */
#ifndef IMAGE_TABLE_H
#define IMAGE_TABLE_H

#include <vial/base.h>

struct img_table {
	struct img_slot {
		uint64_t hash;
		void *p; /* NULL = free */
	} * slots;
	size_t n, cap;   /* cap is a power of two */
	uint64_t key[2]; /* of img_table_name; drawn at first use */
};

/* SipHash of a name under the table's own random key: names come from outside, and with a hash that
 * can be foreseen a layer could make every one of them fall on the same place. */
uint64_t img_table_name(struct img_table *t, const void *p, size_t n, uint64_t where);

static inline uint64_t img_mix(uint64_t h)
{
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93u;
	return h ^ h >> 32;
}

void img_table_add(struct img_table *t, uint64_t hash, void *p);
/* Candidates one after another: start with *pos = SIZE_MAX; NULL = no more. */
void *img_table_next(const struct img_table *t, uint64_t hash, size_t *pos);
void img_table_remove(struct img_table *t, uint64_t hash, const void *p);
void img_table_free(struct img_table *t);
/* Fast, and foreseeable: for content that is compared afterwards. */
uint64_t img_hash_bytes(const void *p, size_t n, uint64_t seed);

#endif
