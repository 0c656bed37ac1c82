/* Shared objects, as small as they can be: a header, two program headers, the dynamic section, versions, symbols. */
#ifndef ELF_MAKER_H
#define ELF_MAKER_H

#include <vial/base.h>

#include <elf.h>

struct elf_wish {
	unsigned class, machine;
	const char *soname;
	const char *const *needs, *const *defines; /* end with NULL, or NULL */
	const char *const *exports, *const *wants, *const *libs;
	const char *search; /* DT_RUNPATH */
	bool gnu; /* the symbols have GNU's hash table, which the count of them is told by; else the old one */
};

struct elf_maker {
	struct vl_buf b;
	struct vl_buf strings;
};

static inline uint32_t elf_string(struct elf_maker *m, const char *s)
{
	uint32_t at = (uint32_t)m->strings.len;

	vl_buf_add(&m->strings, s, strlen(s) + 1);
	return at;
}

/* v in n bytes, however many. */
static inline void elf_put(struct vl_buf *b, uint64_t v, size_t n)
{
	for (size_t i = 0; i < n; i++, v >>= 8) {
		uint8_t byte = (uint8_t)v;
		vl_buf_add(b, &byte, 1);
	}
}

/* Both kinds of version tables: one entry for each name. */
static inline void elf_versions(struct elf_maker *m, const char *const *names, bool needs, struct vl_buf *out)
{
	for (size_t i = 0; names && names[i]; i++) {
		uint32_t more = names[i + 1] ? (needs ? 32u : 28u) : 0;
		elf_put(out, 1, 2);
		elf_put(out, needs ? 1 : 0, 2);
		if (needs) {
			elf_put(out, elf_string(m, "libc.so.6"), 4);
			elf_put(out, 16, 4);
			elf_put(out, more, 4);
			elf_put(out, 0, 8);
			elf_put(out, elf_string(m, names[i]), 4);
			elf_put(out, 0, 4);
		} else {
			elf_put(out, i + 1, 2);
			elf_put(out, 1, 2);
			elf_put(out, 0, 4);
			elf_put(out, 20, 4);
			elf_put(out, more, 4);
			elf_put(out, elf_string(m, names[i]), 4);
			elf_put(out, 0, 4);
		}
	}
}

static inline uint32_t elf_symbols(struct elf_maker *m, const char *const *names, bool there, bool wide,
				   struct vl_buf *out)
{
	uint32_t n = 0;

	for (; names && names[n]; n++) {
		elf_put(out, elf_string(m, names[n]), 4);
		if (!wide)
			elf_put(out, 0, 8);
		elf_put(out, STB_GLOBAL << 4, 1);
		elf_put(out, 0, 1);
		elf_put(out, there ? 1 : 0, 2);
		if (wide)
			elf_put(out, 0, 16);
	}
	return n;
}

/* One bucket: the chain of all that are there ends with an odd hash. The loader would find nothing by it. */
static inline void elf_hash(bool gnu, bool wide, uint32_t first, uint32_t n, struct vl_buf *out)
{
	elf_put(out, 1, 4);
	elf_put(out, gnu ? first : first + n, 4);
	if (!gnu)
		return;
	elf_put(out, 1, 4);
	elf_put(out, 0, wide ? 12 : 8);
	elf_put(out, n ? first : 0, 4);
	for (uint32_t i = 0; i < n; i++)
		elf_put(out, i + 1 == n, 4);
}

static inline void elf_segment(struct vl_buf *b, bool wide, uint32_t type, uint64_t off, uint64_t size)
{
	size_t word = wide ? 8 : 4;

	elf_put(b, type, 4);
	if (wide)
		elf_put(b, 4, 4);
	elf_put(b, off, word);
	elf_put(b, off, word);
	elf_put(b, off, word);
	elf_put(b, size, word);
	elf_put(b, size, word);
	if (!wide)
		elf_put(b, 4, 4);
	elf_put(b, 1, word);
}

/* The file's bytes; m.b is the caller's to free. */
static inline struct vl_buf elf_make(const struct elf_wish *w)
{
	struct elf_maker m = { 0 };
	struct vl_buf need = { 0 }, define = { 0 }, dynamic = { 0 }, symbols = { 0 }, hash = { 0 };
	bool wide = w->class == ELFCLASS64;
	size_t word = wide ? 8 : 4, head = wide ? 64 : 52, ph = wide ? 56 : 32, n_libs = 0;

	elf_string(&m, "");
	uint32_t soname = w->soname ? elf_string(&m, w->soname) : 0, search = w->search ? elf_string(&m, w->search) : 0;
	elf_versions(&m, w->needs, true, &need);
	elf_versions(&m, w->defines, false, &define);
	if (w->exports || w->wants) {
		elf_put(&symbols, 0, wide ? 24 : 16);
		uint32_t first = 1 + elf_symbols(&m, w->wants, false, wide, &symbols);
		elf_hash(w->gnu, wide, first, elf_symbols(&m, w->exports, true, wide, &symbols), &hash);
	}
	uint64_t tags[32][2] = { { 0 } };
	size_t n = 10;
	for (; w->libs && w->libs[n_libs] && n < 30; n_libs++)
		tags[n][0] = DT_NEEDED, tags[n++][1] = elf_string(&m, w->libs[n_libs]);
	size_t n_tags = n + 1, at_dynamic = head + 2 * ph, at_need = at_dynamic + n_tags * 2 * word,
	       at_define = at_need + need.len, at_symbols = at_define + define.len, at_hash = at_symbols + symbols.len,
	       at_strings = at_hash + hash.len, end = at_strings + m.strings.len;
	const struct {
		uint64_t tag, value;
		bool there;
	} known[] = { { DT_STRTAB, at_strings, true },        { DT_STRSZ, m.strings.len, true },
		      { DT_SONAME, soname, w->soname },       { DT_RUNPATH, search, w->search },
		      { DT_VERNEED, at_need, need.len },      { DT_VERDEF, at_define, define.len },
		      { DT_SYMTAB, at_symbols, symbols.len }, { w->gnu ? DT_GNU_HASH : DT_HASH, at_hash, hash.len } };
	for (size_t i = 0; i < 10; i++) {
		bool there = i < VL_COUNT(known) && known[i].there;
		tags[i][0] = there ? known[i].tag : DT_DEBUG; /* which says nothing */
		tags[i][1] = there ? known[i].value : 0;
	}
	for (size_t i = 0; i < n_tags; i++) {
		elf_put(&dynamic, tags[i][0], word);
		elf_put(&dynamic, tags[i][1], word);
	}
	vl_buf_add(&m.b, ELFMAG, SELFMAG);
	elf_put(&m.b, w->class, 1);
	elf_put(&m.b, ELFDATA2LSB, 1);
	elf_put(&m.b, 1, 1);
	elf_put(&m.b, 0, 8);
	elf_put(&m.b, 0, 1);
	elf_put(&m.b, ET_DYN, 2);
	elf_put(&m.b, w->machine, 2);
	elf_put(&m.b, 1, 4);
	elf_put(&m.b, 0, word);
	elf_put(&m.b, head, word);
	elf_put(&m.b, 0, word);
	elf_put(&m.b, 0, 4);
	elf_put(&m.b, head, 2);
	elf_put(&m.b, ph, 2);
	elf_put(&m.b, 2, 2);
	elf_put(&m.b, 0, 6);
	elf_segment(&m.b, wide, PT_LOAD, 0, end);
	elf_segment(&m.b, wide, PT_DYNAMIC, at_dynamic, dynamic.len);
	vl_buf_add(&m.b, dynamic.data, dynamic.len);
	if (need.len)
		vl_buf_add(&m.b, need.data, need.len);
	if (define.len)
		vl_buf_add(&m.b, define.data, define.len);
	if (symbols.len)
		vl_buf_add(&m.b, symbols.data, symbols.len);
	if (hash.len)
		vl_buf_add(&m.b, hash.data, hash.len);
	vl_buf_add(&m.b, m.strings.data, m.strings.len);
	vl_buf_free(&symbols);
	vl_buf_free(&hash);
	vl_buf_free(&need);
	vl_buf_free(&define);
	vl_buf_free(&dynamic);
	vl_buf_free(&m.strings);
	return m.b;
}

/* How a library that was made is read. */
static inline ssize_t read_buf(void *arg, void *p, size_t n, uint64_t off)
{
	const struct vl_buf *b = arg;

	if (off >= b->len)
		return 0;
	n = VL_MIN(n, b->len - (size_t)off);
	memcpy(p, b->data + off, n);
	return (ssize_t)n;
}

#endif
