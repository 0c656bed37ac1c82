#include "stream.h"

#include "inflate.h"

#include <pthread.h>
#include <stdatomic.h>

#define READ_SIZE (512u << 10)
#define CHUNK_SIZE (1u << 20)
#define N_CHUNKS 8 /* 8 MiB between the threads: enough to never wait for each other, and a bound */

struct chunk {
	uint8_t *data;
	size_t len;
};

struct img_stream {
	struct oci_blob *blob;
	struct oci_layer layer; /* borrowed members */
	uint64_t max_bytes;
	struct img_inflate *z;
	struct vl_hash *blob_hash, *tar_hash; /* blob_hash NULL when no digest is known */
	uint64_t produced;
	_Atomic uint64_t consumed;

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct chunk ring[N_CHUNKS];
	unsigned head, tail; /* producer fills head, consumer holds tail */
	bool holding;        /* the consumer still looks at ring[tail] */
	bool ended, cancelled;
	int result;
	struct vl_err err; /* of the producer */
};

/* ---- producer ---- */

static struct chunk *wait_free(struct img_stream *s)
{
	pthread_mutex_lock(&s->lock);
	while (s->head - s->tail == N_CHUNKS && !s->cancelled)
		pthread_cond_wait(&s->changed, &s->lock);
	bool go = !s->cancelled;
	pthread_mutex_unlock(&s->lock);
	return go ? &s->ring[s->head % N_CHUNKS] : NULL;
}

static void hand_over(struct img_stream *s)
{
	pthread_mutex_lock(&s->lock);
	s->head++;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static int take_output(void *arg, const void *p, size_t n, struct vl_err *err)
{
	struct img_stream *s = arg;
	const uint8_t *b = p;

	s->produced += n;
	if (s->produced > s->max_bytes)
		return vl_fail(err, EFBIG,
			       "the layer unpacks to more than the limit of %llu bytes; --max-size raises it",
			       (unsigned long long)s->max_bytes);
	vl_hash_update(s->tar_hash, p, n);
	while (n) {
		struct chunk *c = wait_free(s);
		if (!c)
			return vl_fail(err, ECANCELED, "stopped");
		size_t k = VL_MIN(n, CHUNK_SIZE - c->len);
		memcpy(c->data + c->len, b, k);
		c->len += k;
		b += k;
		n -= k;
		if (c->len == CHUNK_SIZE)
			hand_over(s);
	}
	return 0;
}

static int compare(struct vl_hash *h, const struct oci_digest *want, const char *what, struct vl_err *err)
{
	uint8_t raw[VL_HASH_MAX];
	char hex[VL_HASH_MAX * 2 + 1];

	vl_hex(raw, vl_hash_final(h, raw), hex);
	if (!vl_streq(hex, want->hex))
		return vl_fail(err, EBADMSG, "%s: it should be %s:%s, but is %s:%s", what, want->algo, want->hex,
			       want->algo, hex);
	return 0;
}

static int pump(struct img_stream *s, uint8_t *buf, struct vl_err *err)
{
	for (;;) {
		ssize_t n = s->blob->read(s->blob, buf, READ_SIZE, err);
		if (n < 0)
			return (int)n;
		if (n == 0)
			break;
		s->consumed += (uint64_t)n;
		if (s->blob_hash)
			vl_hash_update(s->blob_hash, buf, (size_t)n);
		int r = img_inflate_push(s->z, buf, (size_t)n, take_output, s, err);
		if (r < 0) {
			/* a blob that is not what was asked for explains itself better by its digest */
			struct vl_err inner = *err;
			while (r != -ECANCELED && r != -EFBIG && s->blob_hash &&
			       (n = s->blob->read(s->blob, buf, READ_SIZE, err)) > 0)
				vl_hash_update(s->blob_hash, buf, (size_t)n);
			if (n == 0 && s->blob_hash &&
			    compare(s->blob_hash, &s->layer.digest, "the layer is not what its digest says", err) < 0)
				return -err->code;
			*err = inner;
			return r;
		}
	}
	if (s->blob_hash) {
		int r = compare(s->blob_hash, &s->layer.digest, "the layer is not what its digest says", err);
		if (r < 0)
			return r;
	}
	int r = img_inflate_end(s->z, take_output, s, err);
	if (r < 0)
		return r;
	return compare(s->tar_hash, &s->layer.diff_id, "the unpacked layer is not what the image config says (diff id)",
		       err);
}

static void *produce(void *arg)
{
	struct img_stream *s = arg;
	VL_FREE uint8_t *buf = vl_alloc(READ_SIZE);
	struct vl_err err = { 0 };
	int r = pump(s, buf, &err);

	if (r < 0)
		vl_wrap(&err, "%s", s->blob->what);
	pthread_mutex_lock(&s->lock);
	if (r == 0 && !s->cancelled && s->head - s->tail < N_CHUNKS && s->ring[s->head % N_CHUNKS].len)
		s->head++; /* the last, partly filled one */
	s->ended = true;
	s->result = r;
	s->err = err;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- consumer ---- */

int img_stream_open(struct oci_blob *blob, const struct oci_layer *layer, uint64_t max_bytes, struct img_stream **ret,
		    struct vl_err *err)
{
	struct img_stream *s = vl_alloc(sizeof *s);
	int r;

	s->blob = blob;
	s->layer = *layer;
	s->max_bytes = max_bytes;
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	for (unsigned i = 0; i < N_CHUNKS; i++)
		s->ring[i].data = vl_alloc(CHUNK_SIZE);
	s->ended = true; /* until the thread runs */
	s->result = -ECANCELED;
	if (layer->size != UINT64_MAX && blob->size != layer->size)
		r = vl_fail(err, EBADMSG, "%s has %llu bytes, the manifest says %llu", blob->what,
			    (unsigned long long)blob->size, (unsigned long long)layer->size);
	else if ((r = img_inflate_new(layer->media_type, &s->z, err)) == 0 &&
		 (r = vl_hash_new(layer->diff_id.algo, &s->tar_hash, err)) == 0 && *layer->digest.algo)
		r = vl_hash_new(layer->digest.algo, &s->blob_hash, err);
	if (r == 0) {
		s->ended = false;
		r = pthread_create(&s->thread, NULL, produce, s);
		if (r) {
			s->ended = true;
			r = vl_fail_sys(err, r, "cannot start a thread");
		}
	}
	if (r < 0) {
		s->cancelled = true;
		s->thread = 0;
		img_stream_close(s);
		return r;
	}
	*ret = s;
	return 0;
}

int img_stream_next(struct img_stream *s, const void **ret, size_t *ret_len, struct vl_err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->holding) {
		s->ring[s->tail % N_CHUNKS].len = 0;
		s->tail++;
		s->holding = false;
		pthread_cond_broadcast(&s->changed);
	}
	while (s->head == s->tail && !s->ended)
		pthread_cond_wait(&s->changed, &s->lock);
	if (s->head != s->tail) {
		s->holding = true;
		*ret = s->ring[s->tail % N_CHUNKS].data;
		*ret_len = s->ring[s->tail % N_CHUNKS].len;
	} else if (s->result < 0) {
		*err = s->err;
		r = s->result;
	} else {
		*ret_len = 0;
	}
	pthread_mutex_unlock(&s->lock);
	return r;
}

int img_stream_drain(struct img_stream *s, struct vl_err *err)
{
	const void *p;
	size_t n;
	int r;

	do
		r = img_stream_next(s, &p, &n, err);
	while (r == 0 && n);
	return r;
}

uint64_t img_stream_consumed(const struct img_stream *s)
{
	return s->consumed;
}

void img_stream_close(struct img_stream *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	s->cancelled = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	if (s->thread)
		pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->lock);
	pthread_cond_destroy(&s->changed);
	for (unsigned i = 0; i < N_CHUNKS; i++)
		free(s->ring[i].data);
	img_inflate_free(s->z);
	vl_hash_free(s->blob_hash);
	vl_hash_free(s->tar_hash);
	oci_blob_close(s->blob);
	free(s);
}
