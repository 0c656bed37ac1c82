/* rpm's database before rpm 4.16: a Berkeley DB file of the hash kind. Only its values are wanted, so neither hash nor
 * keys are looked at: every hash page is read, and a value that lies on pages of its own is put together. */
#include "packages.h"

#define MAGIC 0x00061561u
#define PAGE_HEAD 26u /* of every page; the first has more */
#define MIN_PAGE 512u
#define MAX_PAGE 65536u
enum { PAGE_HASH_UNSORTED = 2, PAGE_OVERFLOW = 7, PAGE_HASH = 13 };
enum { ITEM_INLINE = 1, ITEM_OFF_PAGE = 3 };

struct bdb {
	const uint8_t *p;
	uint32_t page, n;   /* bytes of a page; pages */
	uint64_t left;      /* bytes that values may still have: each byte of the file belongs to one */
	struct vl_buf blob; /* of a value on pages of its own */
	size_t bad;
	struct img_packages *l;
};

static const uint8_t *page_at(const struct bdb *b, uint32_t i)
{
	return b->p + (size_t)i * b->page;
}

/* Into b->blob. False: the chain is broken. */
static bool collect(struct bdb *b, uint32_t i, uint32_t size)
{
	b->blob.len = 0;
	while (b->blob.len < size) {
		const uint8_t *page = i && i < b->n ? page_at(b, i) : NULL;
		uint32_t n = page ? vl_le16(page + 22) : 0;
		if (!n || page[25] != PAGE_OVERFLOW || n > b->page - PAGE_HEAD || n > b->left)
			return false;
		vl_buf_add(&b->blob, page + PAGE_HEAD, n);
		b->left -= n;
		i = vl_le32(page + 16);
	}
	return b->blob.len == size;
}

static int take(struct bdb *b, const void *p, size_t n, struct vl_err *err)
{
	int r = img_packages_rpm_header(p, n, b->l, err);

	if (r != -EINVAL)
		return r;
	b->bad++;
	return 0;
}

/* The item at `off` of a page, which ends before `end`. */
static int take_item(struct bdb *b, const uint8_t *page, uint32_t off, uint32_t end, struct vl_err *err)
{
	const uint8_t *item = page + off;

	if (end - off > 8 && item[0] == ITEM_INLINE) { /* 4 bytes are the number that the next package gets */
		if (end - off > b->left) {
			b->bad++;
			return 0;
		}
		b->left -= end - off;
		return take(b, item + 1, end - off - 1, err);
	}
	if (item[0] != ITEM_OFF_PAGE)
		return 0;
	if (end - off < 12 || !collect(b, vl_le32(item + 4), vl_le32(item + 8))) {
		b->bad++;
		return 0;
	}
	return take(b, b->blob.data, b->blob.len, err);
}

/* Items grow from the page's end downwards, key and value in turn. */
static int take_page(struct bdb *b, const uint8_t *page, struct vl_err *err)
{
	uint32_t n = vl_le16(page + 20);
	int r = 0;

	if ((page[25] != PAGE_HASH && page[25] != PAGE_HASH_UNSORTED) || n > (b->page - PAGE_HEAD) / 2)
		return 0;
	for (uint32_t i = 1; r == 0 && i < n; i += 2) {
		uint32_t off = vl_le16(page + PAGE_HEAD + 2 * i), end = vl_le16(page + PAGE_HEAD + 2 * (i - 1));
		if (off < PAGE_HEAD + 2 * n || off >= end || end > b->page)
			b->bad++;
		else
			r = take_item(b, page, off, end, err);
	}
	return r;
}

int img_packages_rpm_bdb(const uint8_t *db, size_t n, struct img_packages *l, char **ret_why, struct vl_err *err)
{
	struct bdb b = { .p = db, .left = n, .l = l };
	int r = 0;

	if (n < MIN_PAGE || vl_le32(db + 12) != MAGIC) {
		*ret_why = vl_strdup("it is no Berkeley DB of the hash kind and of this byte order");
		return 0;
	}
	b.page = vl_le32(db + 20);
	if (b.page < MIN_PAGE || b.page > MAX_PAGE || b.page & (b.page - 1) || db[24]) {
		*ret_why = vl_strdup(db[24] ? "it is encrypted" : "its pages have no size that can be");
		return 0;
	}
	b.n = (uint32_t)(n / b.page);
	for (uint32_t i = 1; r == 0 && i < b.n; i++)
		r = take_page(&b, page_at(&b, i), err);
	vl_buf_free(&b.blob);
	if (b.bad)
		*ret_why = vl_asprintf("%zu of its packages are damaged", b.bad);
	return r;
}
