/* One gzip member out of chunks that are deflated on their own and end at a byte: any reader takes it, while every
 * chunk can have a thread. */
#include "gzip_out.h"

#include <pthread.h>
#include <zlib.h>

#define CHUNK (1u << 20) /* half a percent larger than in one piece */
#define LEVEL 6
#define MAX_THREADS 64

struct chunk {
	uint8_t *in, *out;
	size_t in_len, out_len, out_cap;
	bool last, failed, running, full;
	pthread_t thread;
};

struct img_gzip {
	int fd;
	struct chunk *chunks; /* a ring; `at` is being filled, the one behind it is the oldest */
	unsigned n, at;
	struct vl_hash *plain, *packed;
	uint64_t plain_size, packed_size;
	uLong crc;
};

static void *deflate_chunk(void *arg)
{
	struct chunk *c = arg;
	z_stream z = {
		.next_in = c->in, .avail_in = (uInt)c->in_len, .next_out = c->out, .avail_out = (uInt)c->out_cap
	};

	c->failed = deflateInit2(&z, LEVEL, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK;
	if (c->failed)
		return NULL;
	int r = deflate(&z, c->last ? Z_FINISH : Z_SYNC_FLUSH);
	c->failed = r != (c->last ? Z_STREAM_END : Z_OK) || z.avail_in || !z.avail_out;
	c->out_len = c->out_cap - z.avail_out;
	deflateEnd(&z);
	return NULL;
}

static int put(struct img_gzip *g, const void *p, size_t n, struct vl_err *err)
{
	int r = vl_pwrite_full(g->fd, p, n, g->packed_size, "the compressed layer", err);

	if (r < 0)
		return r;
	vl_hash_update(g->packed, p, n);
	g->packed_size += n;
	return 0;
}

/* Waits for a chunk and writes it; it is empty then. */
static int collect(struct img_gzip *g, struct chunk *c, struct vl_err *err)
{
	if (!c->full)
		return 0;
	if (c->running)
		pthread_join(c->thread, NULL);
	c->running = c->full = false;
	c->in_len = 0;
	if (c->failed)
		return vl_fail(err, ENOMEM, "cannot compress the layer: out of memory");
	return put(g, c->out, c->out_len, err);
}

static void start(struct img_gzip *g, struct chunk *c)
{
	c->full = true;
	if (g->n > 1 && !c->last)
		c->running = pthread_create(&c->thread, NULL, deflate_chunk, c) == 0;
	if (!c->running)
		deflate_chunk(c);
}

int img_gzip_new(int fd, unsigned threads, struct img_gzip **ret, struct vl_err *err)
{
	/* deflate, no name, no time, Unix */
	static const uint8_t head[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3 };
	struct img_gzip *g = vl_alloc(sizeof *g);
	int r;

	g->fd = fd;
	g->n = threads > 1 ? VL_MIN(threads, (unsigned)MAX_THREADS) + 1 : 1;
	g->chunks = vl_alloc(g->n * sizeof *g->chunks);
	g->crc = crc32(0, NULL, 0);
	for (unsigned i = 0; i < g->n; i++) {
		struct chunk *c = &g->chunks[i];
		c->out_cap = compressBound(CHUNK) + 64; /* and the mark at its end */
		c->in = vl_alloc(CHUNK);
		c->out = vl_alloc(c->out_cap);
	}
	if ((r = vl_hash_new("sha256", &g->plain, err)) < 0 || (r = vl_hash_new("sha256", &g->packed, err)) < 0 ||
	    (r = put(g, head, sizeof head, err)) < 0) {
		img_gzip_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

int img_gzip_write(struct img_gzip *g, const void *p, size_t n, struct vl_err *err)
{
	const uint8_t *b = p;

	vl_hash_update(g->plain, b, n);
	g->crc = crc32_z(g->crc, b, n);
	g->plain_size += n;
	while (n) {
		struct chunk *c = &g->chunks[g->at];
		int r = c->full ? collect(g, c, err) : 0;
		if (r < 0)
			return r;
		size_t take = VL_MIN(n, CHUNK - c->in_len);
		memcpy(c->in + c->in_len, b, take);
		c->in_len += take;
		b += take;
		n -= take;
		if (c->in_len == CHUNK) {
			start(g, c);
			g->at = (g->at + 1) % g->n;
		}
	}
	return 0;
}

int img_gzip_end(struct img_gzip *g, struct img_gzip_sums *ret, struct vl_err *err)
{
	struct img_gzip_sums s = { .plain_size = g->plain_size };
	struct chunk *c = &g->chunks[g->at];
	uint8_t tail[8], raw[VL_HASH_MAX];
	int r;

	for (unsigned i = 0; i < g->n; i++) /* oldest first; the one being filled is not full unless it is the oldest */
		if ((r = collect(g, &g->chunks[(g->at + i) % g->n], err)) < 0)
			return r;
	c->last = true;
	start(g, c);
	vl_put_le32(tail, (uint32_t)g->crc);
	vl_put_le32(tail + 4, (uint32_t)g->plain_size);
	if ((r = collect(g, c, err)) < 0 || (r = put(g, tail, sizeof tail, err)) < 0)
		return r;
	vl_hash_final(g->plain, raw);
	memcpy(s.plain, raw, sizeof s.plain);
	vl_hash_final(g->packed, raw);
	memcpy(s.packed, raw, sizeof s.packed);
	s.packed_size = g->packed_size;
	*ret = s;
	return 0;
}

void img_gzip_free(struct img_gzip *g)
{
	if (!g)
		return;
	for (unsigned i = 0; i < g->n; i++) {
		if (g->chunks[i].running)
			pthread_join(g->chunks[i].thread, NULL);
		free(g->chunks[i].in);
		free(g->chunks[i].out);
	}
	if (g->plain)
		vl_hash_free(g->plain);
	if (g->packed)
		vl_hash_free(g->packed);
	free(g->chunks);
	free(g);
}
