/* Tars in memory, good and bad, for the tests of what reads them. */
#ifndef TAR_MAKER_H
#define TAR_MAKER_H

#include <vial/base.h>

#include <stdio.h>

struct maker {
	struct vl_buf b;
	struct maker_header {                            /* of the next entry, reset after it */
		const char *size, *mode, *mtime, *magic; /* texts that replace the right ones */
		bool bad_sum;
	} next;
};

static void mk_field(char *h, size_t off, size_t width, unsigned long long v)
{
	snprintf(h + off, width, "%0*llo", (int)width - 1, v);
}

static void mk_header(struct maker *m, const char *name, char type, size_t size, const char *link)
{
	char h[512] = { 0 };
	unsigned sum = 0;

	memcpy(h, name, VL_MIN(strlen(name), (size_t)100));
	mk_field(h, 100, 8, 0644);
	mk_field(h, 108, 8, 7);
	mk_field(h, 116, 8, 9);
	mk_field(h, 124, 12, size);
	mk_field(h, 136, 12, 1700000000);
	h[156] = type;
	if (link)
		memcpy(h + 157, link, VL_MIN(strlen(link), (size_t)100));
	memcpy(h + 257,
	       m->next.magic ? m->next.magic
			     : "ustar\0"
			       "00",
	       8);
	if (m->next.size)
		memcpy(h + 124, m->next.size, 12);
	if (m->next.mode)
		memcpy(h + 100, m->next.mode, 8);
	if (m->next.mtime)
		memcpy(h + 136, m->next.mtime, 12);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof h; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum + m->next.bad_sum);
	vl_buf_add(&m->b, h, sizeof h);
	m->next = (struct maker_header){ 0 };
}

static void mk_data(struct maker *m, const void *p, size_t n)
{
	static const char zeros[512];
	vl_buf_add(&m->b, p, n);
	vl_buf_add(&m->b, zeros, -n % 512);
}

static VL_UNUSED void mk_file(struct maker *m, const char *name, const char *text)
{
	mk_header(m, name, '0', strlen(text), NULL);
	mk_data(m, text, strlen(text));
}

/* a PAX header with these raw bytes */
static VL_UNUSED void mk_pax(struct maker *m, const void *p, size_t n)
{
	mk_header(m, "PaxHeaders/x", 'x', n, NULL);
	mk_data(m, p, n);
}

static VL_UNUSED void mk_record(struct vl_buf *b, const char *key, const void *value, size_t n)
{
	size_t len = strlen(key) + n + 3, digits = 1;
	for (;;) {
		char text[24];
		size_t need = (size_t)snprintf(text, sizeof text, "%zu", len + digits);
		if (need == digits) {
			vl_buf_addf(b, "%zu %s=", len + digits, key);
			vl_buf_add(b, value, n);
			vl_buf_adds(b, "\n");
			return;
		}
		digits = need;
	}
}

static void mk_end(struct maker *m)
{
	static const char zeros[1024];
	vl_buf_add(&m->b, zeros, sizeof zeros);
}

#endif
