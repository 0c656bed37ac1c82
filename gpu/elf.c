/* Of a shared object: its SONAME, the symbol versions that it needs and those that it has. All of it is somebody else's, of
 * the image even a stranger's: every number is checked against the file and against a limit. */
#include "host.h"

#define PHDRS_MAX 128     /* real files have about ten */
#define DYNAMIC_MAX 1024  /* entries; real files have thirty */
#define VERSIONS_MAX 2048 /* glibc itself has some fifty */
#define NAME_LEN 256
#define WINDOW 4096

#if defined(__x86_64__)
const unsigned gpu_native_machine = EM_X86_64;
#elif defined(__aarch64__)
const unsigned gpu_native_machine = EM_AARCH64;
#elif defined(__powerpc64__)
const unsigned gpu_native_machine = EM_PPC64;
#elif defined(__riscv)
const unsigned gpu_native_machine = EM_RISCV;
#else
const unsigned gpu_native_machine = EM_NONE;
#endif
const unsigned gpu_native_class = sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32;

struct segment {
	uint64_t off, addr, size;
};
struct file {
	gpu_read *read;
	void *arg;
	bool wide; /* 64 bits */
	struct segment seg[PHDRS_MAX];
	size_t n_seg;
	uint64_t at; /* of the window */
	size_t have;
	uint8_t window[WINDOW];
};

void gpu_elf_free(struct gpu_elf *e)
{
	vl_freep(&e->soname);
	vl_strv_free(&e->needs);
	vl_strv_free(&e->defines);
}

/* n bytes at off, NULL: the file is shorter. Good until the next call. */
static const uint8_t *get(struct file *f, uint64_t off, size_t n)
{
	if (off > INT64_MAX - WINDOW || n > WINDOW / 2)
		return NULL;
	if (off < f->at || off + n > f->at + f->have) {
		f->at = off & ~(uint64_t)(WINDOW / 2 - 1);
		f->have = 0;
		while (f->have < WINDOW) {
			ssize_t r = f->read(f->arg, f->window + f->have, WINDOW - f->have, f->at + f->have);
			if (r <= 0)
				break;
			f->have += (size_t)r;
		}
	}
	return off >= f->at && off + n <= f->at + f->have ? f->window + (off - f->at) : NULL;
}

/* Where in the file is what the loader has at that address? */
static bool find_address(const struct file *f, uint64_t addr, uint64_t *ret)
{
	for (size_t i = 0; i < f->n_seg; i++)
		if (addr >= f->seg[i].addr && addr - f->seg[i].addr < f->seg[i].size) {
			*ret = f->seg[i].off + (addr - f->seg[i].addr);
			return true;
		}
	return false;
}

/* A name of the string table; returns new or NULL. */
static char *get_string(struct file *f, uint64_t table, uint64_t size, uint64_t at)
{
	uint64_t off;

	if (at >= size || table > UINT64_MAX - at || !find_address(f, table + at, &off))
		return NULL;
	for (size_t n = 0; n < NAME_LEN; n++) {
		const uint8_t *c = get(f, off + n, 1);
		if (!c || (*c && (*c < 0x20 || *c > 0x7e)))
			return NULL;
		if (*c)
			continue;
		char *s = vl_alloc(n + 1);
		for (size_t i = 0; i < n; i++)
			s[i] = (c = get(f, off + i, 1)) ? (char)*c : 0;
		return s;
	}
	return NULL;
}

static bool read_header(struct file *f, struct gpu_elf *e, uint64_t *ret_phoff, size_t *ret_size, size_t *ret_n)
{
	const uint8_t *h = get(f, 0, 52);

	if (!h || memcmp(h, ELFMAG, SELFMAG) || h[EI_DATA] != ELFDATA2LSB ||
	    (h[EI_CLASS] != ELFCLASS64 && h[EI_CLASS] != ELFCLASS32))
		return false;
	e->class = h[EI_CLASS];
	e->machine = vl_le16(h + 18);
	f->wide = e->class == ELFCLASS64;
	if (!(h = get(f, 0, f->wide ? 64 : 52)))
		return false;
	*ret_phoff = f->wide ? vl_le64(h + 32) : vl_le32(h + 28);
	*ret_size = vl_le16(h + (f->wide ? 54 : 42));
	*ret_n = vl_le16(h + (f->wide ? 56 : 44));
	return *ret_size == (f->wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) && *ret_n <= PHDRS_MAX &&
	       *ret_phoff < INT64_MAX / 2;
}

static bool read_segments(struct file *f, struct gpu_elf *e, struct segment *ret_dynamic)
{
	uint64_t phoff;
	size_t size, n;
	bool dynamic = false;

	if (!read_header(f, e, &phoff, &size, &n))
		return false;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *p = get(f, phoff + i * size, size);
		if (!p)
			return false;
		struct segment s = f->wide ? (struct segment){ vl_le64(p + 8), vl_le64(p + 16), vl_le64(p + 32) }
					   : (struct segment){ vl_le32(p + 4), vl_le32(p + 8), vl_le32(p + 16) };
		if (s.off > INT64_MAX / 2)
			return false;
		if (vl_le32(p) == PT_LOAD)
			f->seg[f->n_seg++] = s;
		if (vl_le32(p) == PT_DYNAMIC) {
			*ret_dynamic = s;
			dynamic = true;
		}
	}
	return dynamic;
}

struct dynamic {
	uint64_t strings, strings_size, soname, need, define;
	bool has_soname;
};

static void take_tag(struct dynamic *d, uint64_t tag, uint64_t value)
{
	if (tag == DT_STRTAB)
		d->strings = value;
	else if (tag == DT_STRSZ)
		d->strings_size = value;
	else if (tag == DT_VERNEED)
		d->need = value;
	else if (tag == DT_VERDEF)
		d->define = value;
	else if (tag == DT_SONAME) {
		d->soname = value;
		d->has_soname = true;
	}
}

static bool read_dynamic(struct file *f, const struct segment *at, struct dynamic *ret)
{
	size_t size = f->wide ? 16 : 8;
	uint64_t n = VL_MIN(at->size / size, (uint64_t)DYNAMIC_MAX);

	for (uint64_t i = 0; i < n; i++) {
		const uint8_t *p = get(f, at->off + i * size, size);
		if (!p)
			return false;
		uint64_t tag = f->wide ? vl_le64(p) : vl_le32(p);
		if (tag == DT_NULL)
			break;
		take_tag(ret, tag, f->wide ? vl_le64(p + 8) : vl_le32(p + 4));
	}
	return true;
}

/* Both tables are lists of lists with the same offsets in either class. Of definitions the first name counts, the others are
 * what it inherits from. */
static bool read_versions(struct file *f, const struct dynamic *d, bool needs, struct vl_strv *ret)
{
	uint64_t addr = needs ? d->need : d->define, off;
	unsigned steps = 0;

	while (addr) {
		if (!find_address(f, addr, &off))
			return false;
		const uint8_t *p = get(f, off, needs ? 16 : 20);
		if (!p)
			return false;
		uint64_t aux = addr + vl_le32(p + (needs ? 8 : 12)), next = vl_le32(p + (needs ? 12 : 16));
		for (unsigned n = needs ? vl_le16(p + 2) : 1; n; n--) {
			const uint8_t *a = find_address(f, aux, &off) ? get(f, off, needs ? 16 : 8) : NULL;
			if (!a || ++steps > VERSIONS_MAX)
				return false;
			uint64_t more = vl_le32(a + (needs ? 12 : 4));
			char *name = get_string(f, d->strings, d->strings_size, vl_le32(a + (needs ? 8 : 0)));
			if (!name)
				return false;
			vl_strv_take(ret, name);
			if (!more)
				break;
			aux += more;
		}
		if (!next || ++steps > VERSIONS_MAX)
			return !next;
		addr += next;
	}
	return true;
}

int gpu_elf_load(gpu_read *read, void *arg, struct gpu_elf *ret)
{
	VL_FREE struct file *f = vl_alloc(sizeof *f);
	GPU_ELF struct gpu_elf e = { 0 };
	struct segment at = { 0 };
	struct dynamic d = { 0 };

	f->read = read;
	f->arg = arg;
	if (!read_segments(f, &e, &at) || !read_dynamic(f, &at, &d) || !read_versions(f, &d, true, &e.needs) ||
	    !read_versions(f, &d, false, &e.defines))
		return -ENOEXEC;
	if (d.has_soname && !(e.soname = get_string(f, d.strings, d.strings_size, d.soname)))
		return -ENOEXEC;
	*ret = vl_move(&e);
	return 0;
}
