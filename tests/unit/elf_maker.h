/* Shared objects, as small as they can be: a header, two program headers, the dynamic section, versions. */
#ifndef ELF_MAKER_H
#define ELF_MAKER_H

#include <vial/base.h>

#include <elf.h>

struct elf_wish {
	unsigned class, machine;
	const char *soname;
	const char *const *needs, *const *defines; /* end with NULL, or NULL */
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
	struct vl_buf need = { 0 }, define = { 0 }, dynamic = { 0 };
	bool wide = w->class == ELFCLASS64;
	size_t word = wide ? 8 : 4, head = wide ? 64 : 52, ph = wide ? 56 : 32;

	elf_string(&m, "");
	uint32_t soname = w->soname ? elf_string(&m, w->soname) : 0;
	elf_versions(&m, w->needs, true, &need);
	elf_versions(&m, w->defines, false, &define);
	size_t at_dynamic = head + 2 * ph, at_need = at_dynamic + 6 * 2 * word, at_define = at_need + need.len,
	       at_strings = at_define + define.len, end = at_strings + m.strings.len;
	uint64_t tags[6][2] = { { DT_STRTAB, at_strings }, { DT_STRSZ, m.strings.len } };
	size_t n = 2;
	if (w->soname)
		tags[n][0] = DT_SONAME, tags[n++][1] = soname;
	if (need.len)
		tags[n][0] = DT_VERNEED, tags[n++][1] = at_need;
	if (define.len)
		tags[n][0] = DT_VERDEF, tags[n++][1] = at_define;
	for (size_t i = 0; i < 6; i++) {
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
	vl_buf_add(&m.b, m.strings.data, m.strings.len);
	vl_buf_free(&need);
	vl_buf_free(&define);
	vl_buf_free(&dynamic);
	vl_buf_free(&m.strings);
	return m.b;
}

#endif
