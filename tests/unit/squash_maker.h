/* A small squashfs made by hand: a root directory with a directory "dir" and files of stored or packed
 * blocks, for tests that must know each byte of the image. */
#ifndef SQUASH_MAKER_H
#define SQUASH_MAKER_H

#include <vial/base.h>

#include <zstd.h>

#define MAKER_BLOCK 4096u
#define MAKER_FILES 4

struct maker_file {
	const char *name; /* in rising order, all after "dir" */
	const uint8_t *data;
	size_t size;
	bool packed;       /* zstd, else stored */
	uint32_t xattr;    /* index; 0xffffffff: none */
	uint32_t bad_word; /* not 0: the size word of the last block */
};

struct maker {
	struct maker_file file[MAKER_FILES];
	size_t n;
	const uint8_t *xattrs; /* the key-value table, then count, bytes and offset of each set */
	size_t xattrs_len;
	struct {
		uint32_t offset, count, size;
	} set[4];
	size_t n_sets;
};

static void maker_put(struct vl_buf *b, uint64_t v, size_t bytes)
{
	uint8_t le[8];

	vl_put_le64(le, v);
	vl_buf_add(b, le, bytes);
}

static void maker_meta(struct vl_buf *out, const struct vl_buf *table)
{
	maker_put(out, 0x8000 | table->len, 2);
	vl_buf_add(out, table->data, table->len);
}

/* Blocks of one file; its inode follows in `inodes`. Returns where that inode begins. */
static size_t maker_inode(struct vl_buf *out, struct vl_buf *inodes, const struct maker_file *f, uint32_t number)
{
	size_t at = inodes->len, start = out->len, blocks = (f->size + MAKER_BLOCK - 1) / MAKER_BLOCK;
	VL_BUF struct vl_buf words = { 0 };

	for (size_t i = 0; i < blocks; i++) {
		uint8_t packed[2 * MAKER_BLOCK];
		const uint8_t *p = f->data + i * MAKER_BLOCK;
		size_t n = VL_MIN(f->size - i * MAKER_BLOCK, (size_t)MAKER_BLOCK);
		size_t z = f->packed ? ZSTD_compress(packed, sizeof packed, p, n, 1) : n;
		vl_buf_add(out, f->packed ? packed : p, z);
		bool last = i + 1 == blocks;
		maker_put(&words, last && f->bad_word ? f->bad_word : f->packed ? z : z | 1u << 24, 4);
	}
	maker_put(inodes, 9, 2); /* extended file */
	maker_put(inodes, 0644, 2);
	maker_put(inodes, 0, 4); /* ids */
	maker_put(inodes, 0, 4); /* time */
	maker_put(inodes, number, 4);
	maker_put(inodes, start, 8);
	maker_put(inodes, f->size, 8);
	maker_put(inodes, 0, 8); /* sparse */
	maker_put(inodes, 1, 4); /* links */
	maker_put(inodes, 0xffffffff, 4);
	maker_put(inodes, 0, 4);
	maker_put(inodes, f->xattr, 4);
	vl_buf_add(inodes, words.data ? words.data : "", words.len);
	return at;
}

static void maker_dir(struct vl_buf *inodes, uint32_t number, uint32_t links, size_t listing)
{
	maker_put(inodes, 1, 2);
	maker_put(inodes, 0755, 2);
	maker_put(inodes, 0, 4);
	maker_put(inodes, 0, 4);
	maker_put(inodes, number, 4);
	maker_put(inodes, 0, 4); /* listing: first block */
	maker_put(inodes, links, 4);
	maker_put(inodes, listing + 3, 2);
	maker_put(inodes, 0, 2);
	maker_put(inodes, number, 4);
}

static void maker_entry(struct vl_buf *list, size_t inode, uint32_t number, unsigned type, const char *name)
{
	maker_put(list, inode, 2);
	maker_put(list, number - 1, 2);
	maker_put(list, type, 2);
	maker_put(list, strlen(name) - 1, 2);
	vl_buf_adds(list, name);
}

static uint64_t maker_xattrs(struct vl_buf *out, const struct maker *m)
{
	struct vl_buf pairs = { .data = (char *)m->xattrs, .len = m->xattrs_len };
	uint64_t kv = out->len, ids;
	VL_BUF struct vl_buf sets = { 0 };

	maker_meta(out, &pairs);
	ids = out->len;
	for (size_t i = 0; i < m->n_sets; i++) {
		maker_put(&sets, m->set[i].offset, 8);
		maker_put(&sets, m->set[i].count, 4);
		maker_put(&sets, m->set[i].size, 4);
	}
	maker_meta(out, &sets);
	uint64_t table = out->len;
	maker_put(out, kv, 8);
	maker_put(out, m->n_sets, 4);
	maker_put(out, 0, 4);
	maker_put(out, ids, 8);
	return table;
}

/* The image, whole, in out. */
static void maker_make(const struct maker *m, struct vl_buf *out)
{
	VL_BUF struct vl_buf inodes = { 0 };
	VL_BUF struct vl_buf list = { 0 };
	VL_BUF struct vl_buf ids = { 0 };
	size_t at;

	while (out->len < 96)
		maker_put(out, 0, 1);
	maker_put(&list, m->n, 4); /* entries - 1 */
	maker_put(&list, 0, 4);
	maker_put(&list, 1, 4);
	maker_dir(&inodes, 1, 2, 0);
	maker_entry(&list, 0, 1, 1, "dir");
	for (size_t i = 0; i < m->n; i++) {
		at = maker_inode(out, &inodes, &m->file[i], (uint32_t)i + 2);
		maker_entry(&list, at, (uint32_t)i + 2, 2, m->file[i].name);
	}
	size_t root = inodes.len;
	maker_dir(&inodes, (uint32_t)m->n + 2, 3, list.len);
	uint64_t inode_table = out->len;
	maker_meta(out, &inodes);
	uint64_t dir_table = out->len;
	maker_meta(out, &list);
	uint64_t id_block = out->len;
	maker_put(&ids, 0, 4);
	maker_meta(out, &ids);
	uint64_t id_table = out->len;
	maker_put(out, id_block, 8);
	uint64_t xattr_table = m->xattrs_len ? maker_xattrs(out, m) : ~0ull;

	VL_BUF struct vl_buf super = { 0 };
	maker_put(&super, 0x73717368, 4);
	maker_put(&super, m->n + 2, 4);
	maker_put(&super, 0, 4);
	maker_put(&super, MAKER_BLOCK, 4);
	maker_put(&super, 0, 4);
	maker_put(&super, 6, 2); /* zstd */
	maker_put(&super, 12, 2);
	maker_put(&super, 0, 2);
	maker_put(&super, 1, 2);
	maker_put(&super, 4, 4); /* version 4.0 */
	maker_put(&super, root, 8);
	maker_put(&super, out->len, 8);
	maker_put(&super, id_table, 8);
	maker_put(&super, xattr_table, 8);
	maker_put(&super, inode_table, 8);
	maker_put(&super, dir_table, 8);
	maker_put(&super, ~0ull, 8);
	maker_put(&super, ~0ull, 8);
	memcpy(out->data, super.data, 96);
}

#endif
